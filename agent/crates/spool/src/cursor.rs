//! What must outlive the segments: kept in a cell, and durable before a segment is unlinked.
//!
//! The log says what it holds; this says what it no longer does. `done` names the seqs that need no
//! further care (acknowledged, or renamed): whatever else of an epoch isn't in the log was damaged.
//!
//! ```text
//! cursor := version u8 (2), position v, next series number v, next record v, before counts, settled counts,
//!           losses n v * (cause u8, from i64, to i64, count v),
//!           epochs n v * (id 16 bytes, next seq v, last record v, offered v, done n v * (first v, last v as the distance)),
//!           open v, damage n v * (part u8, first v, last v, from i64, to i64, readings: kind u8 and number v, again v), [left],
//!           [waiting: from i64, to i64]
//! ```
//! Version 1, which is still read, had neither `settled` nor losses nor `offered`. What stands behind the epochs isn't in what
//! older versions wrote, and they pass over it; `open` and `left` are as in a head (`record.rs`). `waiting` are the earliest and the
//! latest time of the batches that aren't done: where nothing is left to tell of which times they were, it was between these.
//!
//! `before` is what all batches ever cut held, `settled` what those held that are done: with what the log
//! has, the difference is what is gone, also when no segment is left. Seqs up to `offered` may have been sent.
//! The last epoch is the one that batches are cut in.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use seglog::{Cell, Mode, Storage, is_unreadable};
use telemetry::{Counts, Epoch, OpenWindows, Position};
use wire::RangeSet;

use crate::damage::Damages;
use crate::losses::Losses;
use crate::record::{BadRecord, Cursor as Bytes, put_counts, put_left, put_number, put_open};
use crate::writer::CURSOR_BYTES;

const VERSION: u8 = 2;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cursor {
    /// Of the last row that is in a batch.
    pub(crate) position: Position,
    pub(crate) next_number: u32,
    pub(crate) next_record: u64,
    /// Counts of all batches ever cut.
    pub(crate) before: Counts,
    /// Counts of those that are done, but for what was lost; `None` when version 1 wrote it.
    pub(crate) settled: Option<Counts>,
    pub(crate) losses: Losses,
    pub(crate) epochs: Vec<EpochCursor>,
    /// Of windows that were open at `position`.
    pub(crate) open: Option<OpenWindows>,
    pub(crate) damage: Damages,
    /// Earliest and latest time of the batches that aren't done, of those whose times are known.
    pub(crate) waiting: Option<(i64, i64)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EpochCursor {
    pub(crate) id: Epoch,
    pub(crate) next_seq: u64,
    /// The last record that names it.
    pub(crate) last_record: u64,
    /// Seqs up to here may have been sent.
    pub(crate) offered: u64,
    pub(crate) done: RangeSet,
}

/// What the disk gave of it.
#[derive(Default)]
pub(crate) struct Found {
    /// `None` where it can't be written now; the next write tries again.
    pub(crate) cell: Option<Cell>,
    /// `None` before the first was written, or when it was lost.
    pub(crate) cursor: Option<Cursor>,
    /// It was lost to damage, or isn't there: a sentence's end.
    pub(crate) lost: Option<String>,
    /// It is there, and nobody knows what it says: that is not the same as if there were none, for then what is done would wait
    /// again, and be counted again.
    pub(crate) unknown: Option<String>,
}

/// Opens it, or makes it.
pub(crate) fn open(storage: &Arc<dyn Storage>, path: &Path) -> Found {
    let (cell, bytes, lost) = match Cell::open(Arc::clone(storage), path, CURSOR_BYTES) {
        Ok(cell) => {
            let (bytes, lost) = (cell.get(), cell.damaged());
            (Some(cell), bytes, lost)
        }
        Err(error) => {
            tracing::warn!(%error, "the spool's cursor can't be opened");
            match Cell::peek(&**storage, path) {
                // As where a full disk has no room for a larger one.
                Ok((bytes, lost)) => (None, bytes, lost),
                // Or for the first.
                Err(none) if none.kind() == ErrorKind::NotFound => (None, None, false),
                Err(_) => return Found { unknown: Some(withheld_for(&error)), ..Found::default() },
            }
        }
    };
    let aside = cell.as_ref().and_then(Cell::aside);
    let mut lost = lost.then(|| match aside {
        Some(aside) => format!("could not be read, and was moved to {}", aside.display()),
        None => "was damaged".to_owned(),
    });
    let cursor = bytes.and_then(|bytes| match Cursor::decode(&bytes) {
        Ok(cursor) => Some(cursor),
        Err(error) => {
            lost = Some(format!("could not be understood ({error})"));
            None
        }
    });
    Found { cell, cursor, lost, unknown: None }
}

/// Why the disk doesn't give it, though it may be there; `None` where opening it anew is worth a try.
pub(crate) fn withheld(storage: &dyn Storage, path: &Path) -> Option<String> {
    let error = storage.open(path, Mode::Read).err()?;
    (error.kind() != ErrorKind::NotFound && !is_unreadable(&error))
        .then(|| withheld_for(&format_args!("{} can't be opened: {error}", path.display())))
}

fn withheld_for(error: &dyn std::fmt::Display) -> String {
    format!(
        "what is done is in the spool's cursor, which can't be read ({error}): give it to the agent's user"
    )
}

impl Cursor {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_number(&mut out, self.position);
        put_number(&mut out, u64::from(self.next_number));
        put_number(&mut out, self.next_record);
        put_counts(&mut out, &self.before);
        put_counts(&mut out, self.settled.as_ref().unwrap_or(&Counts::new()));
        self.losses.encode(&mut out);
        put_number(&mut out, self.epochs.len() as u64);
        for epoch in &self.epochs {
            out.extend_from_slice(&epoch.id.0);
            put_number(&mut out, epoch.next_seq);
            put_number(&mut out, epoch.last_record);
            put_number(&mut out, epoch.offered);
            put_number(&mut out, epoch.done.iter().len() as u64);
            for (first, last) in epoch.done.iter() {
                put_number(&mut out, first);
                put_number(&mut out, last - first);
            }
        }
        put_open(&mut out, self.open);
        self.damage.encode(&mut out);
        put_left(&mut out, self.open);
        for time in self.waiting.iter().flat_map(|(from, to)| [from, to]) {
            out.extend_from_slice(&time.to_le_bytes());
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadRecord> {
        let mut bytes = Bytes(bytes);
        let [version] = bytes.array()?;
        if !(1..=VERSION).contains(&version) {
            return Err(BadRecord::Unknown("version"));
        }
        let mut cursor = Self {
            position: bytes.number()?,
            next_number: u32::try_from(bytes.number()?).map_err(|_| BadRecord::Unknown("series number"))?,
            next_record: bytes.number()?,
            before: bytes.counts()?,
            settled: if version > 1 { Some(bytes.counts()?) } else { None },
            losses: if version > 1 { Losses::decode(&mut bytes)? } else { Losses::default() },
            epochs: Vec::new(),
            open: None,
            damage: Damages::default(),
            waiting: None,
        };
        for _ in 0..bytes.count(19)? {
            let mut epoch = EpochCursor {
                id: Epoch(bytes.array()?),
                next_seq: bytes.number()?,
                last_record: bytes.number()?,
                // Version 1 didn't say: all may have been sent.
                offered: if version > 1 { bytes.number()? } else { u64::MAX },
                done: RangeSet::new(),
            };
            for _ in 0..bytes.count(2)? {
                let first = bytes.number()?;
                epoch.done.insert_range(first, first.saturating_add(bytes.number()?));
            }
            cursor.epochs.push(epoch);
        }
        cursor.open = bytes.open()?;
        cursor.damage = Damages::decode(&mut bytes)?;
        bytes.left(&mut cursor.open)?;
        if !bytes.0.is_empty() {
            cursor.waiting = Some((i64::from_le_bytes(bytes.array()?), i64::from_le_bytes(bytes.array()?)));
        }
        Ok(cursor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use telemetry::Cause;

    use super::*;
    use crate::damage::{Damage, Part, Readings};

    proptest! {
        #[test]
        fn a_cursor_comes_back_as_it_was(
            numbers in any::<[u64; 3]>(), next_number in any::<u32>(), count in any::<u64>(),
            epochs in proptest::collection::vec((any::<[u8; 16]>(), any::<u64>(), proptest::collection::vec((any::<u32>(), any::<u16>()), 0..5)), 0..4)
        ) {
            let mut before = Counts::new();
            before.add(Cause::Received, count);
            before.add(Cause::Overflowed, count / 3);
            let epochs = epochs.into_iter().map(|(id, next_seq, ranges)| {
                let mut done = RangeSet::new();
                done.extend(ranges.into_iter().map(|(first, n)| (u64::from(first), u64::from(first) + u64::from(n))));
                EpochCursor { id: Epoch(id), next_seq, last_record: numbers[2], offered: numbers[0], done }
            }).collect();
            let mut settled = Counts::new();
            settled.add(Cause::Shipped, count / 2);
            let mut losses = Losses::default();
            losses.note(&before, 1, 2);
            let mut damage = Damages::default();
            let part = Part::Journal;
            damage.note(Damage { part, first: 1, last: numbers[0], from_ns: None, to_ns: Some(7), readings: Readings::AtMost(count), again: 3 });
            let cursor = Cursor {
                position: numbers[0], next_number, next_record: numbers[1], before, settled: Some(settled), losses, epochs,
                open: numbers[2].checked_sub(numbers[1]).map(|routes| OpenWindows { routes, left: 7, ..OpenWindows::of(count / 2) }),
                damage,
                waiting: (count % 2 == 1).then_some((-3, next_number.into())),
            };
            prop_assert_eq!(Cursor::decode(&cursor.encode()).unwrap(), cursor);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(Cursor::decode(&bytes));
            drop(Cursor::decode(&[&[VERSION], &bytes[..]].concat()));
            drop(Cursor::decode(&[&[1], &bytes[..]].concat()));
        }
    }

    /// As the first released version wrote it.
    #[test]
    fn a_cursor_of_version_1_is_read() {
        let mut bytes = vec![1, 9, 3, 12, 1, 1, 50, 1];
        bytes.extend_from_slice(&[5; 16]);
        bytes.extend_from_slice(&[8, 11, 1, 1, 3]);
        let cursor = Cursor::decode(&bytes).unwrap();
        assert_eq!((cursor.position, cursor.next_number, cursor.next_record), (9, 3, 12));
        assert_eq!((cursor.before.get(Cause::Received), cursor.settled), (50, None));
        let epoch = &cursor.epochs[0];
        assert_eq!((epoch.next_seq, epoch.offered, epoch.done.upto()), (8, u64::MAX, 4));
    }
}
