//! The reader below the durable mark: bytes back into records, with the series they speak of.
//!
//! A record names its series by numbers that are defined once a segment. So a reader that starts
//! anywhere first reads the segment from its beginning, to learn them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seglog::{Gap, Reader};
use telemetry::record::Numbering;
use telemetry::{DecodeError, Position, Record, SeriesDef, SeriesRef, SeriesTable};

use crate::error::ReadError;
use crate::state::Shared;
use crate::tally::Tally;

/// Records that are lost to damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalGap {
    /// The first.
    pub first: Position,
    /// The last; `first - 1` when only bytes that belong to no record are damaged.
    pub last: Position,
    /// Damaged bytes, or those of a record that can't be understood without what was damaged.
    pub bytes: u64,
    /// Readings that were received in them, refused ones too: to be counted as `Cause::Damaged`. `None` where
    /// nothing intact before or behind tells.
    pub readings: Option<u64>,
}

/// The numbers of one segment.
pub(crate) struct Numbers {
    pub(crate) table: Arc<SeriesTable>,
    pub(crate) segment: u64,
    pub(crate) known: HashMap<u32, SeriesRef>,
}

impl Numbering for Numbers {
    fn define(&mut self, number: u32, def: SeriesDef) {
        let series = self.table.restore(def);
        self.known.insert(number, series);
    }

    fn resolve(&self, number: u32) -> Option<SeriesRef> {
        self.known.get(&number).copied()
    }
}

/// Reads records in order, never above the durable mark. For one thread; it blocks.
pub struct JournalReader {
    shared: Arc<Shared>,
    reader: Reader,
    /// Which opening of the log the reader belongs to.
    opened: u64,
    /// As last looked up.
    mark: Position,
    /// Everything up to here was returned or reported.
    passed: Position,
    /// A record that was read before it was durable.
    early: Option<(Position, u64, Vec<u8>)>,
    numbers: Numbers,
    /// Readings received up to the last record that was read.
    received: Option<u64>,
    /// Where it began to return records, and readings up to there: records before are read too, for their definitions, and
    /// damage may begin among them.
    start: (Position, Option<u64>),
    /// The same up to where it began, once that was met.
    begun: Option<u64>,
    gaps: Vec<JournalGap>,
    /// Damage with no record behind it yet: reported once what was received in it is known.
    held: Vec<Gap>,
}

impl JournalReader {
    pub(crate) fn new(shared: Arc<Shared>, after: Position) -> Self {
        let table = Arc::clone(&shared.table);
        let state = shared.state.lock();
        // Who has a checkpoint has let go of nothing behind it. Without one only a journal that lost all it had is known to.
        let reader = match after > 0 || state.bare {
            true => state.readers.reader_behind(state.readers.segment_first(after.max(1)).min(after + 1)),
            false => state.readers.reader(state.readers.segment_first(1)),
        };
        let (opened, mark) = (state.opened, state.mark);
        // Nothing came before the first record there ever was.
        let received = match state.folded {
            (position, received) if position == after && after > 0 => Some(received),
            _ => (after == 0 && state.is_whole()).then_some(0),
        };
        drop(state);
        Self {
            shared,
            reader,
            opened,
            mark,
            passed: after,
            early: None,
            numbers: Numbers { table, segment: 0, known: HashMap::new() },
            received,
            start: (after, received),
            begun: None,
            gaps: Vec::new(),
            held: Vec::new(),
        }
    }

    /// The next record, or `None` when none became durable within `timeout`, and at once when none
    /// ever will because the journal was closed. Call [`JournalReader::take_gaps`] after each call:
    /// damage before a record is reported with it.
    ///
    /// # Errors
    /// [`ReadError`] may pass, and the reader stays where it is.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<(Position, Record)>, ReadError> {
        let until = Instant::now() + timeout;
        loop {
            if let Some(found) = self.try_next()? {
                return Ok(Some(found));
            }
            if !self.wait(until) && (Instant::now() >= until || self.shared.state.lock().ended()) {
                return Ok(None);
            }
        }
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// As [`JournalReader::next`].
    pub fn try_next(&mut self) -> Result<Option<(Position, Record)>, ReadError> {
        loop {
            if self.passed < self.mark
                && let Some(found) = self.read()?
            {
                return Ok(Some(found));
            }
            if !self.look() {
                return Ok(None);
            }
        }
    }

    /// Waits until something is durable that wasn't when last looked; false when the time is over, nothing more
    /// ever will be, or [`Journal::nudge`](crate::Journal::nudge) was called.
    pub fn wait(&self, until: Instant) -> bool {
        let mut state = self.shared.state.lock();
        loop {
            if state.mark > self.mark || state.opened != self.opened {
                return true;
            }
            if std::mem::take(&mut state.nudged) {
                return false;
            }
            if state.ended() || self.shared.marked.wait_until(&mut state, until).timed_out() {
                return state.mark > self.mark;
            }
        }
    }

    /// After an error that doesn't pass: the segment that the disk doesn't give is a gap like any other from here on. Its file is
    /// kept in quarantine.
    pub fn pass_over(&mut self, error: &ReadError) {
        self.reader.pass_over(&error.0);
        // Should it be the one that is being written: what comes is to be in another.
        self.shared.state.lock().plan.begin();
    }

    /// The damage that was passed since the last call.
    pub fn take_gaps(&mut self) -> Vec<JournalGap> {
        std::mem::take(&mut self.gaps)
    }

    /// The first position of the segment that the last returned record lies in: it changes at each
    /// opening of the journal, which always begins a segment. 0 before the first record.
    pub fn segment(&self) -> Position {
        self.numbers.segment
    }

    /// Readings that were received up to [`JournalReader::position`]; `None` where that isn't known.
    pub fn received(&self) -> Option<u64> {
        self.received
    }

    /// Readings that were received up to the position that it began behind, once: when the record there was met.
    pub fn take_begun(&mut self) -> Option<u64> {
        self.begun.take()
    }

    /// Everything up to here was returned, or reported as a gap.
    pub fn position(&self) -> Position {
        self.passed
    }

    /// Looks the mark up; true when it moved beyond what was passed.
    fn look(&mut self) -> bool {
        let state = self.shared.state.lock();
        if state.opened != self.opened {
            self.opened = state.opened;
            self.reader = state.readers.reader(state.readers.segment_first(self.passed.saturating_add(1)));
            self.numbers.segment = 0;
            self.early = None;
            self.start = (self.passed, self.received);
            // Met again by the new reader, which begins behind what was passed.
            self.held.clear();
        }
        let moved = state.mark > self.mark;
        self.mark = state.mark;
        moved && self.passed < self.mark
    }

    /// Reads on; `None` at the mark, or where what is left up to it is damaged.
    fn read(&mut self) -> Result<Option<(Position, Record)>, ReadError> {
        loop {
            let decoded = if let Some((position, segment, payload)) = self.early.take() {
                if position > self.mark {
                    self.early = Some((position, segment, payload));
                    return Ok(None);
                }
                Decoded::of(position, segment, &payload, &mut self.numbers)
            } else {
                let entry = self.reader.next()?;
                // What came before an intact record, damaged or not.
                let before = entry.and_then(|entry| Tally::split(entry.payload).0).filter(|tally| tally.sure);
                let decoded = match entry {
                    Some(entry) if entry.number > self.mark => {
                        self.early = Some((entry.number, entry.segment_first, entry.payload.to_vec()));
                        None
                    }
                    Some(entry) => {
                        Some(Decoded::of(entry.number, entry.segment_first, entry.payload, &mut self.numbers))
                    }
                    None => None,
                };
                let behind = decoded.is_some() || self.early.is_some();
                self.held.append(&mut self.reader.take_gaps());
                if !self.held.is_empty() && !self.report(behind.then_some(before)) {
                    return Ok(None);
                }
                match decoded {
                    Some(decoded) => decoded,
                    None => return Ok(None),
                }
            };
            self.received = decoded.tally.map(Tally::after);
            // Before the start: read for its definitions only.
            if decoded.position <= self.passed {
                if let Some(received) = self.received.filter(|_| decoded.position == self.passed) {
                    self.begun = Some(received);
                    self.start = (self.passed, Some(received));
                }
                continue;
            }
            match decoded.record {
                Ok(record) => {
                    self.passed = decoded.position;
                    return Ok(Some((decoded.position, record)));
                }
                Err(_) => {
                    let (first, last) = (decoded.position, decoded.position);
                    let readings = decoded.tally.map(|tally| tally.readings);
                    self.gap(JournalGap { first, last, bytes: decoded.bytes, readings });
                }
            }
        }
    }

    /// Reports the damage that is held: the tally behind it says what was received in it. Where no record is behind it
    /// the journal's own count does, if nothing is on its way; else a record will come, and false is returned.
    fn report(&mut self, behind: Option<Option<Tally>>) -> bool {
        let Some(last) = self.held.last().map(|gap| gap.last) else { return true };
        let upto = match behind {
            Some(tally) => tally.map(|tally| tally.before),
            None => match self.shared.state.lock().received_up_to(last) {
                Some(received) => received,
                None => return false,
            },
        };
        for gap in std::mem::take(&mut self.held) {
            // Bytes that belong to no record held no reading: those are of the gap beside.
            if gap.records() == 0 {
                continue;
            }
            // Of no record behind the start: what was received up to there is known otherwise, or not at all.
            if gap.last <= self.passed {
                self.received = None;
                continue;
            }
            let readings =
                upto.zip(self.before(&gap)).and_then(|(upto, received)| upto.checked_sub(received));
            self.gap(JournalGap { first: gap.first, last: gap.last, bytes: gap.bytes, readings });
            self.received = upto;
        }
        true
    }

    /// Readings received up to where a gap begins, or up to the start, where it begins before that.
    fn before(&self, gap: &Gap) -> Option<u64> {
        let at_start = self.start.0 == self.passed;
        match self.start.1.filter(|_| at_start) {
            // Never less than what was read of before it.
            Some(received) => (self.received.unwrap_or(0) <= received).then_some(received),
            None if gap.first > self.passed => self.received,
            None => None,
        }
    }

    fn gap(&mut self, gap: JournalGap) {
        let first = gap.first.max(self.passed + 1);
        if gap.last >= first {
            self.gaps.push(JournalGap { first, ..gap });
            self.passed = gap.last;
        }
    }
}

/// A record, if it can be understood, and what is said before it.
pub(crate) struct Decoded {
    pub(crate) position: Position,
    pub(crate) bytes: u64,
    pub(crate) tally: Option<Tally>,
    pub(crate) record: Result<Record, DecodeError>,
}

impl Decoded {
    pub(crate) fn of(position: Position, segment: u64, entry: &[u8], numbers: &mut Numbers) -> Self {
        if numbers.segment != segment {
            numbers.segment = segment;
            numbers.known.clear();
        }
        let (tally, record) = Tally::split(entry);
        Self { position, bytes: entry.len() as u64, tally, record: Record::decode(record, numbers) }
    }
}
