//! Looking at a journal without opening it: nothing is locked, written or repaired. What was there when it was listed is
//! seen; what the agent frees meanwhile is passed over.

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seglog::{Damage, Gap, Met, Readers, Storage, Unreadable};
use telemetry::{Position, Record, SeriesTable};

use crate::error::{OpenError, ReadError};
use crate::reader::{Decoded, JournalGap, Numbers};
use crate::tally::{Confirmed, Tally};

/// What is met on the way through the journal.
#[derive(Debug)]
pub enum Found<'a> {
    /// A segment begins: its file, and its bytes.
    Segment(&'a Path, u64),
    /// A record.
    Record(Position, Box<Record>),
    /// Damage, or a record that can't be understood (then its own position, and nothing is damaged on the disk); and how many
    /// readings the journal had counted up to its end, where that is known.
    Gap(JournalGap, Option<u64>),
}

/// A journal that is looked at.
pub struct Inspection {
    readers: Readers,
}

impl Inspection {
    /// Lists what is in a journal's folder.
    ///
    /// # Errors
    /// [`OpenError`] when it can't be listed.
    pub fn open(storage: Arc<dyn Storage>, dir: &Path) -> Result<Self, OpenError> {
        Ok(Self { readers: seglog::inspect(storage, dir)? })
    }

    /// Segments, and their bytes.
    pub fn size(&self) -> (usize, u64) {
        self.readers.size()
    }

    /// The damaged places that [`Inspection::walk`] has met.
    pub fn damage(&self) -> Vec<Damage> {
        self.readers.damage()
    }

    /// The segments that the disk doesn't give, or in whose place something else stands. Opening the journal moves them to
    /// quarantine.
    pub fn unreadable(&self) -> &[Unreadable] {
        self.readers.unreadable()
    }

    /// The oldest record that is there, or was in the oldest segment; one more than the last where there is none.
    pub fn first(&self) -> Position {
        self.readers.first()
    }

    /// The last record; 0 where there never was one, `None` where that can't be read.
    pub fn last(&self) -> Option<Position> {
        self.readers.last()
    }

    /// Records at the end that were confirmed and are gone, in whole segments or in part. Opening the journal counts what was
    /// received in them.
    pub fn cut_off(&self) -> Option<Gap> {
        self.readers.cut_off().map(|(gap, _)| gap)
    }

    /// Bytes behind the last record of a segment that isn't the last, of those that [`Inspection::walk`] has read: no record is
    /// missing there.
    pub fn tails(&self) -> Vec<Damage> {
        self.readers.tails()
    }

    /// Copies a damaged place to quarantine; `None` where a copy is there already, or can't be made.
    pub fn quarantine(&self, damage: &Damage) -> Option<PathBuf> {
        self.readers.quarantine(damage)
    }

    /// Whether [`Inspection::quarantine`] would make a copy now: false once it has.
    pub fn is_to_be_copied(&self, damage: &Damage) -> bool {
        self.readers.is_to_be_copied(damage)
    }

    /// Every record and all damage. Returns the bytes at the end that are no record: being written, or the last of a
    /// writer that died.
    ///
    /// # Errors
    /// [`ReadError`] when a segment can't be opened.
    pub fn walk(&self, visit: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>) -> Result<u64, ReadError> {
        let mut numbers = Numbers { table: SeriesTable::new(usize::MAX), segment: 0, known: HashMap::new() };
        // Readings received up to the last record: what damage took is the difference to the next one.
        let mut received = None;
        let ended = Cell::new(false);
        let mut visit = |found: Found<'_>| {
            let flow = visit(found);
            ended.set(flow.is_break());
            flow
        };
        let torn = self.readers.walk(&mut |met| {
            let (gaps, entry) = match met {
                Met::Segment(path, bytes) => return visit(Found::Segment(path, bytes)),
                Met::Record { gaps, entry } => (gaps, entry),
            };
            let decoded = entry
                .map(|entry| Decoded::of(entry.number, entry.segment_first, entry.payload, &mut numbers));
            let tally = decoded.as_ref().and_then(|decoded| decoded.tally);
            let before = tally.filter(|tally| tally.sure).map(|tally| tally.before);
            for gap in gaps {
                let readings = match gap.records() {
                    // Bytes that belong to no record.
                    0 => Some(0),
                    _ => {
                        let then = std::mem::replace(&mut received, before);
                        before.zip(then).and_then(|(now, then): (u64, u64)| now.checked_sub(then))
                    }
                };
                // A segment that the agent has freed meanwhile is gone, not damaged.
                let freed = self.readers.freed(gap.first);
                let gap = JournalGap { first: gap.first, last: gap.last, bytes: gap.bytes, readings };
                if !freed {
                    visit(Found::Gap(gap, before))?;
                }
            }
            let Some(Decoded { position, bytes, record, .. }) = decoded else {
                return ControlFlow::Continue(());
            };
            received = tally.map(Tally::after);
            visit(match record {
                Ok(record) => Found::Record(position, Box::new(record)),
                Err(_) => {
                    let readings = tally.map(|tally| tally.readings);
                    Found::Gap(JournalGap { first: position, last: position, bytes, readings }, received)
                }
            })
        })?;
        let Some((Gap { first, last, bytes }, mark)) = self.readers.cut_off().filter(|_| !ended.get()) else {
            return Ok(torn);
        };
        let upto = Confirmed::of(mark).received;
        let readings = received.and_then(|received| upto.checked_sub(received));
        _ = visit(Found::Gap(JournalGap { first, last, bytes, readings }, Some(upto)));
        Ok(0)
    }
}
