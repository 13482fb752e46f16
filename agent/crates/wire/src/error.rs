//! Why bytes are not what they should be.

/// Why bytes are not a payload or not definitions. Nothing of them is used then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More than a limit allows; found before anything was allocated for it.
    #[error("{what} is {size}; at most {max} is taken")]
    TooLarge {
        /// What.
        what: &'static str,
        /// What it claims.
        size: u64,
        /// The limit.
        max: u64,
    },
    /// The compressed frame is not one zstd frame with its content size and without a dictionary.
    #[error("not one zstd frame that states its size: {0}")]
    Frame(&'static str),
    /// The bytes end early, or claim more than is there.
    #[error("the bytes end early, or claim more than came")]
    Truncated,
    /// Bytes are left over.
    #[error("{0} bytes are left over")]
    Trailing(usize),
    /// Something else stands where `expected` should.
    #[error("expected {expected}, found msgpack type {found:#04x}")]
    Type {
        /// What should stand there.
        expected: &'static str,
        /// The type byte that does.
        found: u8,
    },
    /// A version or encoding this build doesn't know. Never guessed.
    #[error("unknown {what} {number}")]
    Unknown {
        /// Of what.
        what: &'static str,
        /// Its number.
        number: i128,
    },
    /// A table or column this build doesn't know. Never passed over: its readings would be lost.
    #[error("unknown entry {key:?} in {table}")]
    UnknownKey {
        /// Where.
        table: &'static str,
        /// Its name.
        key: String,
    },
    /// A table or column is missing or given twice.
    #[error("{table} lacks an entry, or has one twice")]
    Incomplete {
        /// Where.
        table: &'static str,
    },
    /// Counts, lengths or an order that contradict each other.
    #[error("{0}")]
    Inconsistent(&'static str),
    /// Text that isn't UTF-8.
    #[error("text that is not UTF-8")]
    NotText,
    /// A definition with an invalid name or label.
    #[error("a series definition is invalid: {0}")]
    Series(#[from] telemetry::InvalidSeries),
}

impl DecodeError {
    /// The word that metrics and refusals say, the same in every reader (proto/vectors).
    pub fn cause(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::Unknown { what: "payload version" | "column encoding", .. } | Self::UnknownKey { .. } => {
                "unknown_version"
            }
            _ => "malformed",
        }
    }
}

/// Why rows don't fit into one batch: the spool splits them then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rows don't fit into one batch: {what} {size} is over {max}")]
pub struct TooLarge {
    /// Which limit.
    pub what: &'static str,
    /// What it came to.
    pub size: usize,
    /// The limit.
    pub max: usize,
}
