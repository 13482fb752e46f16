//! Causes: why a reading is not (yet) a stored one, and how many there were of each.
//!
//! The loss ledger's equation: received + derived = rejected + deduplicated + reduced + shipped;
//! shipped = stored + expired + overflowed + damaged + refused + in flight. Counts travel in the batches,
//! so they are stored exactly once like the readings they speak of.

macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// One term of the loss ledger. The code is on disk and on the wire and never changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Cause { $($(#[$doc])* $name = $code,)* }

        impl Cause {
            /// Every cause, in code order.
            pub const ALL: &'static [Cause] = &[$(Cause::$name),*];

            /// From the code on disk or on the wire.
            pub fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            /// The name in metrics, the API and the console.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

causes! {
    /// A reading (sample or event) that reached an input, good or bad.
    Received = 1, "received";
    /// Rows put into a batch: raw samples, windows, events.
    Shipped = 2, "shipped";
    /// Didn't parse as what it should be.
    RejectedSyntax = 16, "rejected_syntax";
    /// Not UTF-8 where text is needed.
    RejectedEncoding = 17, "rejected_encoding";
    /// A value of the wrong type.
    RejectedType = 18, "rejected_type";
    /// NaN or infinite where that isn't allowed.
    RejectedNotFinite = 19, "rejected_not_finite";
    /// A time too far ahead, or outside what 64-bit nanoseconds hold.
    RejectedTime = 20, "rejected_time";
    /// A body, line, name, nesting or count over its limit.
    RejectedLimit = 21, "rejected_limit";
    /// A new series beyond the series limit.
    RejectedSeriesLimit = 22, "rejected_series_limit";
    /// Not permitted to this sender.
    RejectedForbidden = 23, "rejected_forbidden";
    /// No mapping says what this is.
    RejectedUnmapped = 24, "rejected_unmapped";
    /// A resend that the sender marked and that equals what was already taken.
    Deduplicated = 32, "deduplicated";
    /// A retained value delivered again, equal to the last seen.
    DeduplicatedRetained = 33, "deduplicated_retained";
    /// Folded into a window (the window itself is shipped).
    ReducedWindow = 48, "reduced_window";
    /// Inside the deadband.
    ReducedDeadband = 49, "reduced_deadband";
    /// Over the rate limit.
    ReducedRate = 50, "reduced_rate";
    /// The route says drop.
    ReducedDrop = 51, "reduced_drop";
    /// Older than the spool's age cap.
    Expired = 64, "expired";
    /// Over the spool's byte cap.
    Overflowed = 65, "overflowed";
    /// In a damaged part of journal or spool.
    Damaged = 66, "damaged";
    /// In a batch that the collector refused for good; a copy is in the agent's quarantine.
    Refused = 67, "refused";
    /// Made by the agent itself (scores, window rows): enters `shipped` without having been received.
    Derived = 80, "derived";
}

impl Cause {
    /// True for what says that a shipped row won't be stored.
    pub fn is_lost(self) -> bool {
        matches!(self, Self::Expired | Self::Overflowed | Self::Damaged | Self::Refused)
    }
}

/// How many readings there were of each cause: a few, in the order of their codes. Small, since one is
/// kept for every batch that waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(Vec<(Cause, u64)>);

impl Counts {
    /// No counts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `n` to a cause; 0 leaves no trace. Stays at the largest number: counts are read from
    /// files too, where damage or an enemy may have put anything.
    pub fn add(&mut self, cause: Cause, n: u64) {
        if n > 0 {
            match self.0.binary_search_by_key(&cause, |entry| entry.0) {
                Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(n),
                Err(at) => self.0.insert(at, (cause, n)),
            }
        }
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: &Counts) {
        for (cause, n) in other.iter() {
            self.add(cause, n);
        }
    }

    /// The count of one cause.
    pub fn get(&self, cause: Cause) -> u64 {
        self.0.binary_search_by_key(&cause, |entry| entry.0).map_or(0, |at| self.0[at].1)
    }

    /// Causes with a count, in code order.
    pub fn iter(&self) -> impl Iterator<Item = (Cause, u64)> + '_ {
        self.0.iter().copied()
    }

    /// True when nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes everything out and leaves nothing.
    pub fn take(&mut self) -> Counts {
        std::mem::take(self)
    }
}
