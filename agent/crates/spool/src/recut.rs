//! A torn tail that may have been a batch: where that was cut, it is cut again.
//!
//! A write that a power cut tore and a synced record whose bytes rotted look the same: no intact record stands
//! behind either. Its rows are still in the journal (what the journal lets go of is named by the cursor before),
//! and P1 demands that they are cut again. If the collector has the batch already, that makes no second copy as
//! long as the new batch is the old one, byte for byte: of the same rows, in the same name. All that may differ
//! is where the cut was, for that depends on load and acks; and where it was stands in the head, a small part of a
//! record and so mostly intact. Nothing proves that it is: so it is believed only as far as a wrong one does no
//! harm, as a place to cut at. If it isn't, or the head is gone, the rows are stored again.

use std::path::PathBuf;

use seglog::{Mode, Storage};
use telemetry::Position;

use crate::record::{Head, Record};
use crate::writer::FRAME;

/// A head is before this; one with more series stays unread.
const MOST: u64 = 1 << 20;

/// The positions that a cut ended at, if what was torn was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recut {
    last: Position,
}

impl Recut {
    /// What the torn bytes of a segment say. `position` is what batches have.
    pub(crate) fn read(storage: &dyn Storage, torn: &(PathBuf, u64), position: Position) -> Option<Self> {
        let (path, offset) = torn;
        let file = storage.open(path, Mode::Read).ok()?;
        let at = offset + FRAME as u64;
        let mut bytes = vec![0; file.size().ok()?.checked_sub(at)?.min(MOST) as usize];
        let n = file.read_at(&mut bytes, at).ok()?;
        match Record::decode(&bytes[..n]) {
            Ok(Record::Batch { head: Head { first_position, last_position: last, .. }, .. })
                if position < first_position && first_position <= last =>
            {
                tracing::info!(last, "what was torn at the spool's end is cut where it was");
                Some(Self { last })
            }
            _ => None,
        }
    }

    /// True when a record belongs into that cut.
    pub(crate) fn holds(self, position: Position) -> bool {
        position <= self.last
    }
}
