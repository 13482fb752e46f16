//! What can go wrong, one type an operation.

use std::time::Duration;

use telemetry::Position;

/// Why a journal could not be opened. Damaged content is never the reason.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log under it.
    #[error("the journal can't be opened: {0}")]
    Log(#[from] seglog::OpenError),
    /// The committing thread.
    #[error("the journal's thread can't be started: {0}; is the process limit reached?")]
    Thread(std::io::Error),
    /// [`crate::Journal::reopen`] of one that works, or that was closed.
    #[error("the journal {0}: only a poisoned one is reopened")]
    NotPoisoned(&'static str),
}

/// Why records were not taken. None of them is in the journal then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// At the byte cap, out of disk, or the disk is behind: push back.
    #[error("the journal is full ({what}): try again in {} ms", retry_after.as_millis())]
    Full {
        /// What is full.
        what: Fullness,
        /// When to try again.
        retry_after: Duration,
    },
    /// One record is larger than a record may be.
    #[error("a record of {len} bytes is over the limit of {max}: split it")]
    TooLarge {
        /// Its length.
        len: u64,
        /// The limit.
        max: u64,
    },
    /// A record speaks of a series that isn't in the table.
    #[error("series number {0} is not in this process's table")]
    UnknownSeries(u32),
    /// A write or fsync failed: nothing is acknowledged until the journal is reopened.
    #[error("the journal takes nothing until it is reopened: {0}")]
    Poisoned(String),
    /// It was closed.
    #[error("the journal is closed")]
    Closed,
}

/// What is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fullness {
    /// The byte cap (`journal.max_bytes`).
    Cap,
    /// The disk has less free than others are to have (`spool.min_free`).
    Floor,
    /// The disk has no space.
    Disk,
    /// More is waiting for the disk than is kept in memory.
    Behind,
}

impl std::fmt::Display for Fullness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cap => "journal.max_bytes is reached",
            Self::Floor => "its disk has less free than spool.min_free leaves to others",
            Self::Disk => "no space is left on its disk",
            Self::Behind => "its disk is behind",
        })
    }
}

/// The position is not durable and won't become so: don't acknowledge it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal did not make it durable: {0}")]
pub struct Poisoned(pub String);

/// Why a blocking wait ended without the position being durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// It won't become so.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// It may still become so.
    #[error("position {position} was not durable after {} ms", waited.as_millis())]
    Timeout {
        /// Which.
        position: Position,
        /// How long was waited.
        waited: Duration,
    },
}

/// Why a reader can't go on: the segment can't be opened. May pass: it stays where it is.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ReadError(#[from] pub(crate) seglog::ReadError);

impl ReadError {
    /// True when the disk doesn't give the segment: see [`crate::JournalReader::pass_over`].
    pub fn is_unreadable(&self) -> bool {
        self.0.is_unreadable()
    }
}
