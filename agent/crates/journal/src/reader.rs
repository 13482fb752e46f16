//! The reader below the durable mark.
use std::time::Duration;

use telemetry::{Position, Record};

use crate::error::ReadError;

/// Records that are lost to damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalGap {
    /// The first.
    pub first: Position,
    /// The last.
    pub last: Position,
    /// Damaged bytes.
    pub bytes: u64,
    /// Readings in them, where that is known: `Cause::Damaged`.
    pub readings: Option<u64>,
}

/// Reads records in order, never above the durable mark. For one thread; blocking.
pub struct JournalReader {
    _private: (),
}

#[allow(unused_variables)]
impl JournalReader {
    /// The next record, or `None` when none became durable within `timeout`.
    ///
    /// # Errors
    /// [`ReadError`]
    pub fn next(&mut self, timeout: Duration) -> Result<Option<(Position, Record)>, ReadError> {
        unimplemented!()
    }
    /// Damage passed since the last call.
    pub fn take_gaps(&mut self) -> Vec<JournalGap> {
        unimplemented!()
    }
}
