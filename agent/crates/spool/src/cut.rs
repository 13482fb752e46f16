//! Rows to batches: what is collected until a cut, and how a cut that is too large is divided.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use telemetry::trace::Span;
use telemetry::{Cause, Counts, Position, Rows, SeriesTable};
use wire::payload::{Encoded, Encoder};

use crate::class::Classes;
use crate::group::{self, Group};
use crate::numbering::Numbering;
use crate::record::Head;
use crate::state::State;
use crate::traced::Sampled;

/// Definitions of one batch's series, before compression: below what fits beside it however badly they compress.
const MAX_DEFINITIONS: usize = 1_000_000;

/// Rows that are in no batch yet.
#[derive(Default)]
pub(crate) struct Pending {
    pub(crate) rows: Rows,
    /// Of the first record with rows in here.
    pub(crate) first: Position,
    /// Of the last record taken, with or without rows.
    pub(crate) last: Position,
    /// Payload bytes they will about make.
    pub(crate) weight: usize,
    /// When the first was seen by whoever looks at the clock.
    pub(crate) since: Option<Duration>,
    /// Some of them are not from a replay.
    pub(crate) fresh: bool,
    /// Sampled records among those with rows in here.
    pub(crate) sampled: Sampled,
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Only counts, which nobody waits for.
    pub(crate) fn without_rows(&self) -> bool {
        !self.rows.has_readings()
    }

    pub(crate) fn add(&mut self, position: Position, rows: &Rows, recovering: bool) {
        self.last = position;
        if rows.is_empty() {
            return;
        }
        if self.is_empty() {
            self.first = position;
            self.fresh = false;
        }
        self.fresh |= !recovering;
        self.weight += weight(rows);
        self.rows.append(rows);
    }

    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.sampled.clear();
        self.weight = 0;
        self.since = None;
    }
}

/// Payload bytes that rows will about make. Depends on the rows alone: two clones of one disk must
/// cut alike. What real data takes (2 bytes a sample, a sketch bin 1.5) is near enough.
fn weight(rows: &Rows) -> usize {
    let bins = |row: &telemetry::WindowRow| row.bins.positive.len() + row.bins.negative.len();
    let windows: usize = rows.windows.iter().map(|row| 40 + bins(row) * 3 / 2).sum();
    let events: usize = rows
        .events
        .iter()
        .map(|event| 8 + (event.source.len() + event.body.len() + 16 * event.attributes.len()) / 4)
        .sum();
    let unset: usize = rows.unset.iter().map(|(_, rows)| weight(rows)).sum();
    2 * rows.series.len() + windows + events + unset
}

/// An encoded batch that isn't in the log yet.
pub(crate) struct Cut {
    pub(crate) head: Arc<Head>,
    pub(crate) payload: Bytes,
    pub(crate) cut_at: Option<Duration>,
    /// Over once it is durable.
    pub(crate) spans: Vec<Span>,
}

/// Rows of one group as they go into one batch, which lacks its name yet.
pub(crate) struct Piece {
    pub(crate) group: Group,
    pub(crate) encoded: Encoded,
    pub(crate) counts: Counts,
    pub(crate) rows: u64,
    /// Raw samples among them.
    pub(crate) samples: u64,
    /// Readings in its windows, where thinning made them.
    pub(crate) thinned: u64,
}

/// What encoding needs.
pub(crate) struct Cutter<'a> {
    pub(crate) classes: &'a mut Classes,
    pub(crate) encoder: &'a mut Encoder,
    pub(crate) numbering: &'a mut Numbering,
    pub(crate) table: &'a SeriesTable,
    pub(crate) state: &'a parking_lot::Mutex<State>,
}

impl Cutter<'_> {
    /// Encodes rows: each group of them into as few batches as it fits in.
    pub(crate) fn cut(&mut self, pending: &Pending) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (group, rows) in group::divide(pending.rows.clone(), self.classes, self.table) {
            self.group(group, rows, &mut pieces);
        }
        pieces
    }

    /// Encodes rows of one group; they are counted as shipped.
    pub(crate) fn group(&mut self, group: Group, rows: Rows, pieces: &mut Vec<Piece>) {
        self.shipped(group, rows, false, pieces);
    }

    /// The same of windows that thinning made, and nothing else.
    pub(crate) fn thinned(&mut self, group: Group, rows: Rows, pieces: &mut Vec<Piece>) {
        self.shipped(group, rows, true, pieces);
    }

    fn shipped(&mut self, group: Group, mut rows: Rows, thinned: bool, pieces: &mut Vec<Piece>) {
        rows.counts.add(Cause::Shipped, rows.len() as u64);
        self.divide(group, rows, thinned, pieces);
    }

    fn divide(&mut self, group: Group, rows: Rows, thinned: bool, pieces: &mut Vec<Piece>) {
        let reason = match self.encode(&rows) {
            Ok(encoded) => {
                let (len, samples) = (rows.len() as u64, rows.series.len() as u64);
                let of = |windows: &[telemetry::WindowRow]| windows.iter().map(|row| row.count).sum();
                let thinned = if thinned { of(&rows.windows) } else { 0 };
                pieces.push(Piece { group, encoded, counts: rows.counts, rows: len, samples, thinned });
                return;
            }
            Err(reason) => reason,
        };
        if rows.len() < 2 {
            // One row that no batch can hold: inputs don't take such a thing. It is counted, not kept.
            tracing::error!(%reason, "a single row doesn't fit into a batch and is counted as damaged");
            let mut counts = rows.counts;
            counts.add(
                Cause::Damaged,
                rows.series.len() as u64 + rows.windows.len() as u64 + rows.events.len() as u64,
            );
            let counts = Rows { counts, ..Rows::default() };
            if let Ok(encoded) = self.encode(&counts) {
                pieces.push(Piece { group, encoded, counts: counts.counts, rows: 0, samples: 0, thinned: 0 });
            }
            return;
        }
        let (first, second) = halves(rows);
        self.divide(group, first, thinned, pieces);
        self.divide(group, second, thinned, pieces);
    }

    fn encode(&mut self, rows: &Rows) -> Result<Encoded, wire::TooLarge> {
        let (numbering, table, state) = (&mut *self.numbering, self.table, self.state);
        let mut encoded = self.encoder.encode(rows, |series| {
            let (number, new) = numbering.of(series);
            if new && let Some(def) = table.get(series) {
                state.lock().names.insert(number, def);
            }
            number
        })?;
        let state = state.lock();
        let names =
            || encoded.series.iter().filter_map(|number| Some((*number, &**state.names.get(number)?)));
        let size: usize = names().map(|(_, def)| wire::definitions::size(def)).sum();
        if size > MAX_DEFINITIONS && encoded.series.len() > 1 {
            return Err(wire::TooLarge { what: "definitions in bytes", size, max: MAX_DEFINITIONS });
        }
        encoded.checksum = wire::checksum(&encoded.bytes, wire::definitions::digest(names()));
        Ok(encoded)
    }
}

/// The first half of each kind of row, and the second; `Shipped` goes where the rows go.
fn halves(rows: Rows) -> (Rows, Rows) {
    let mut first = rows;
    let mut second = Rows::default();
    // With one row of each kind the second half still gets something: the last kind that has one.
    let samples = first.series.len() / 2;
    let events = first.events.len() / 2;
    let windows = first.windows.len() / 2;
    if samples + events + windows > 0 {
        second.series = first.series.split_off(first.series.len() - samples);
        second.times = first.times.split_off(first.times.len() - samples);
        second.values = first.values.split_off(first.values.len() - samples);
        second.flags = first.flags.split_off(first.flags.len().saturating_sub(samples));
        second.events = first.events.split_off(first.events.len() - events);
        second.windows = first.windows.split_off(first.windows.len() - windows);
    } else if first.events.is_empty() {
        second.windows = std::mem::take(&mut first.windows);
    } else {
        second.events = std::mem::take(&mut first.events);
    }
    let moved = second.len() as u64;
    let mut counts = Counts::new();
    for (cause, n) in first.counts.iter() {
        counts.add(cause, if cause == Cause::Shipped { n - moved } else { n });
    }
    first.counts = counts;
    second.counts.add(Cause::Shipped, moved);
    (first, second)
}

#[cfg(test)]
mod tests {
    use telemetry::{Event, SeriesDef, SeriesKey, SeriesRef, Severity};

    use super::*;

    fn cut(rows: Rows, table: &SeriesTable) -> Vec<Piece> {
        let (mut encoder, mut numbering) = (Encoder::new(1), Numbering::new(1));
        let mut classes = Classes::new(&[]);
        let state = parking_lot::Mutex::new(State::new());
        let mut pending = Pending::default();
        pending.add(1, &rows, false);
        let (encoder, numbering, classes) = (&mut encoder, &mut numbering, &mut classes);
        Cutter { classes, encoder, numbering, table, state: &state }.cut(&pending)
    }

    #[test]
    fn rows_that_no_batch_can_hold_together_are_divided_and_counted_once() {
        let mut rows = Rows::default();
        let mut random = 1u64;
        let mut text = || -> String {
            (0..600_000)
                .map(|_| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    char::from(33 + (random >> 58) as u8)
                })
                .collect()
        };
        for time in 0..12 {
            let event = Event {
                source: "s".into(),
                time,
                severity: Severity::Info,
                body: text(),
                attributes: vec![],
            };
            rows.events.push(event);
        }
        rows.count(Cause::Received, 12);
        let cuts = cut(rows, &SeriesTable::new(10));
        assert!(cuts.len() > 1);
        let mut counts = Counts::new();
        cuts.iter().for_each(|cut| counts.merge(&cut.counts));
        assert_eq!((counts.get(Cause::Received), counts.get(Cause::Shipped)), (12, 12));
        let times: Vec<i64> = cuts
            .iter()
            .flat_map(|cut| wire::payload::decode(&cut.encoded.bytes).unwrap().events)
            .map(|event| event.time)
            .collect();
        assert_eq!(times, (0..12).collect::<Vec<_>>());
    }

    #[test]
    fn a_batch_has_no_more_series_than_its_definitions_fit_beside_it() {
        let table = SeriesTable::new(10_000);
        let mut rows = Rows::default();
        for at in 0..5000 {
            let key = SeriesKey::new("metric", [("id", format!("{at}-{}", "x".repeat(400)))]).unwrap();
            let series = table.intern(SeriesDef::bare(key)).unwrap();
            rows.push_sample(series, 1, 1.0, 0);
        }
        let cuts = cut(rows, &table);
        assert!(cuts.len() > 1 && cuts.iter().all(|cut| cut.encoded.series.len() < 2500));
        assert_eq!(cuts.iter().map(|cut| cut.rows).sum::<u64>(), 5000);
    }

    #[test]
    fn halves_make_progress_down_to_one_row_of_a_kind() {
        let mut rows = Rows::default();
        rows.push_sample(SeriesRef(0), 1, 1.0, 0);
        let event = Event {
            source: "s".into(),
            time: 0,
            severity: Severity::Info,
            body: "b".into(),
            attributes: vec![],
        };
        rows.events.push(event);
        rows.count(Cause::Shipped, 2);
        let (first, second) = halves(rows);
        assert_eq!((first.len(), second.len()), (1, 1));
        assert_eq!((first.counts.get(Cause::Shipped), second.counts.get(Cause::Shipped)), (1, 1));
    }
}
