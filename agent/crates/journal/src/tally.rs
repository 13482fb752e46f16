//! How many readings were received: said before each record, so that what damage took is known from its
//! neighbours.
//!
//! ```text
//! entry of the log := tally, record          a record alone where a version before this one wrote it
//! tally            := mark u8 (0xc1; 0xc0 = how many came right before isn't known), before u64, readings u64
//! ```
//! `before` counts the readings of all records before this one, `readings` those of this one: every reading that
//! reached an input, refused ones too. A record begins with its kind, which is below the marks. The log's mark says how many
//! there were up to the last record that was confirmed, and up to the fold's checkpoint: should both be cut off with all between.

use seglog::{Log, Mark};
use telemetry::{Cause, Position, Record};

/// Bytes of a tally.
pub(crate) const SIZE: usize = 17;
const SURE: u8 = 0xc1;
const UNSURE: u8 = 0xc0;
/// The last tally is in one of the newest segments; the newest of all may be empty.
const LOOK_BACK: usize = 3;

/// What is said before a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    /// False when damage or another version lies right before it.
    pub(crate) sure: bool,
    pub(crate) before: u64,
    pub(crate) readings: u64,
}

impl Tally {
    pub(crate) fn put(self, out: &mut Vec<u8>) {
        out.push(if self.sure { SURE } else { UNSURE });
        out.extend_from_slice(&self.before.to_le_bytes());
        out.extend_from_slice(&self.readings.to_le_bytes());
    }

    /// The tally of an entry, and the record behind it.
    pub(crate) fn split(entry: &[u8]) -> (Option<Self>, &[u8]) {
        let Some((&[mark, rest @ ..], record)) = entry.split_first_chunk::<SIZE>() else {
            return (None, entry);
        };
        if mark != SURE && mark != UNSURE {
            return (None, entry);
        }
        let (mut before, mut readings) = ([0; 8], [0; 8]);
        before.copy_from_slice(&rest[..8]);
        readings.copy_from_slice(&rest[8..]);
        let (before, readings) = (u64::from_le_bytes(before), u64::from_le_bytes(readings));
        (Some(Self { sure: mark == SURE, before, readings }), record)
    }

    /// Readings up to and with this record.
    pub(crate) fn after(self) -> u64 {
        self.before.saturating_add(self.readings)
    }
}

/// Readings that a record says were received.
pub(crate) fn readings(record: &Record) -> u64 {
    match record {
        Record::Intake(intake) => intake.counts.get(Cause::Received).max(intake.len() as u64),
        _ => 0,
    }
}

/// What the journal notes in the log's mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Confirmed {
    /// Readings up to the last record that was confirmed.
    pub(crate) received: u64,
    /// The fold's last checkpoint, and readings up to there; 0 before the first.
    pub(crate) folded: (Position, u64),
}

impl Confirmed {
    pub(crate) fn of(mark: Mark) -> Self {
        let [received, position, before] = mark.note;
        Self { received, folded: (position, before) }
    }

    pub(crate) fn note(self) -> [u64; 3] {
        [self.received, self.folded.0, self.folded.1]
    }
}

/// The count goes on where the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counter {
    sure: bool,
    received: u64,
}

impl Counter {
    /// Looks up how far a log had counted.
    pub(crate) fn at_end(log: &Log, cut_off: Option<Mark>) -> Self {
        let readers = log.readers();
        let segments = readers.segments();
        let mut last = None;
        for segment in segments.iter().rev().take(LOOK_BACK) {
            let mut reader = readers.reader(segment.1);
            // What can't be read now isn't known: the next record says so.
            while let Ok(Some(entry)) = reader.next() {
                if let (Some(tally), _) = Tally::split(entry.payload) {
                    last = Some((entry.number, tally.after()));
                }
            }
            if last.is_some() {
                break;
            }
        }
        // The end is cut off: as many had come when its last record was confirmed.
        if let Some(mark) = cut_off {
            return Self { sure: true, received: Confirmed::of(mark).received };
        }
        match last {
            Some((number, received)) => Self { sure: number + 1 == log.next(), received },
            None => Self { sure: log.next() == 1, received: 0 },
        }
    }

    /// Readings up to the end; `None` where that isn't known.
    pub(crate) fn received(&self) -> Option<u64> {
        self.sure.then_some(self.received)
    }

    /// Goes on behind what is known from elsewhere.
    pub(crate) fn go_on(&mut self, received: u64) {
        *self = Self { sure: true, received: received.max(self.received) };
    }

    /// The count as the next record says it, whether or not something right before it isn't known.
    pub(crate) fn count(&self) -> u64 {
        self.received
    }

    /// The tally of the next record.
    pub(crate) fn next(&mut self, record: &Record) -> Tally {
        let tally = Tally { sure: self.sure, before: self.received, readings: readings(record) };
        (self.sure, self.received) = (true, tally.after());
        tally
    }
}

#[cfg(test)]
mod tests {
    use telemetry::{DeviceClock, Intake, Stamp};

    use super::*;

    #[test]
    fn a_tally_comes_back_and_a_record_of_before_has_none() {
        for sure in [true, false] {
            let tally = Tally { sure, before: 5, readings: u64::MAX };
            let mut bytes = Vec::new();
            tally.put(&mut bytes);
            assert_eq!(bytes.len(), SIZE);
            bytes.extend_from_slice(&[1, 1, 7]);
            assert_eq!(Tally::split(&bytes), (Some(tally), &[1, 1, 7][..]));
        }
        let mut record = Vec::new();
        Record::Tick(DeviceClock::default()).encode(&mut record, &[]);
        assert_eq!(Tally::split(&record), (None, &record[..]));
        assert_eq!(Tally::split(&[SURE, 1]), (None, &[SURE, 1][..]));
    }

    #[test]
    fn refused_readings_are_counted_too() {
        let mut intake = Intake::new(1, Stamp::default());
        intake.counts.add(Cause::Received, 3);
        assert_eq!(readings(&Record::Intake(intake)), 3);
        assert_eq!(readings(&Record::Tick(DeviceClock::default())), 0);
    }
}
