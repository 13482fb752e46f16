//! What must outlive the segments: kept in a cell, and durable before a segment is unlinked.
//!
//! The log says what it holds; this says what it no longer does. `done` names the seqs that need no
//! further care (acknowledged, or renamed): whatever else of an epoch isn't in the log was damaged.
//!
//! ```text
//! cursor := version u8 (1), position v, next series number v, next record v, before counts,
//!           epochs n v * (id 16 bytes, next seq v, last record v, done n v * (first v, last v as the distance))
//! ```
//! The last epoch is the one that batches are cut in.

use telemetry::{Counts, Epoch, Position};
use wire::RangeSet;

use crate::record::{BadRecord, Cursor as Bytes, put_counts, put_number};

const VERSION: u8 = 1;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cursor {
    /// Of the last row that is in a batch.
    pub(crate) position: Position,
    pub(crate) next_number: u32,
    pub(crate) next_record: u64,
    /// Counts of all batches ever cut.
    pub(crate) before: Counts,
    pub(crate) epochs: Vec<EpochCursor>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EpochCursor {
    pub(crate) id: Epoch,
    pub(crate) next_seq: u64,
    /// The last record that names it.
    pub(crate) last_record: u64,
    pub(crate) done: RangeSet,
}

impl Cursor {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_number(&mut out, self.position);
        put_number(&mut out, u64::from(self.next_number));
        put_number(&mut out, self.next_record);
        put_counts(&mut out, &self.before);
        put_number(&mut out, self.epochs.len() as u64);
        for epoch in &self.epochs {
            out.extend_from_slice(&epoch.id.0);
            put_number(&mut out, epoch.next_seq);
            put_number(&mut out, epoch.last_record);
            put_number(&mut out, epoch.done.iter().len() as u64);
            for (first, last) in epoch.done.iter() {
                put_number(&mut out, first);
                put_number(&mut out, last - first);
            }
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadRecord> {
        let mut bytes = Bytes(bytes);
        if bytes.array()? != [VERSION] {
            return Err(BadRecord::Unknown("version"));
        }
        let mut cursor = Self {
            position: bytes.number()?,
            next_number: u32::try_from(bytes.number()?).map_err(|_| BadRecord::Unknown("series number"))?,
            next_record: bytes.number()?,
            before: bytes.counts()?,
            epochs: Vec::new(),
        };
        for _ in 0..bytes.count(19)? {
            let mut epoch = EpochCursor {
                id: Epoch(bytes.array()?),
                next_seq: bytes.number()?,
                last_record: bytes.number()?,
                done: RangeSet::new(),
            };
            for _ in 0..bytes.count(2)? {
                let first = bytes.number()?;
                epoch.done.insert_range(first, first.saturating_add(bytes.number()?));
            }
            cursor.epochs.push(epoch);
        }
        Ok(cursor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use telemetry::Cause;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_comes_back_as_it_was(
            numbers in any::<[u64; 3]>(), next_number in any::<u32>(), count in any::<u64>(),
            epochs in proptest::collection::vec((any::<[u8; 16]>(), any::<u64>(), proptest::collection::vec((any::<u32>(), any::<u16>()), 0..5)), 0..4)
        ) {
            let mut before = Counts::new();
            before.add(Cause::Received, count);
            let epochs = epochs.into_iter().map(|(id, next_seq, ranges)| {
                let mut done = RangeSet::new();
                done.extend(ranges.into_iter().map(|(first, n)| (u64::from(first), u64::from(first) + u64::from(n))));
                EpochCursor { id: Epoch(id), next_seq, last_record: numbers[2], done }
            }).collect();
            let cursor = Cursor { position: numbers[0], next_number, next_record: numbers[1], before, epochs };
            prop_assert_eq!(Cursor::decode(&cursor.encode()).unwrap(), cursor);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(Cursor::decode(&bytes));
            drop(Cursor::decode(&[&[VERSION], &bytes[..]].concat()));
        }
    }
}
