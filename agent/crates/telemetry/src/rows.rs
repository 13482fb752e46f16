//! Rows: what the fold makes of a record and the spool cuts into batches.

use crate::trace::{self, Traced};
use crate::{Boot, Cause, Counts, Event, SeriesRef};

/// Marks of one sample. 0 for an ordinary one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleFlags;

impl SampleFlags {
    /// The sender gave no time: the time is that of arrival.
    pub const ARRIVAL_TIME: u8 = 1;
    /// A retained value whose payload differs from the last one seen on that topic.
    pub const RETAINED: u8 = 2;
    /// The clock that gave the time was not known to be right: the device's own, or the host's before it was set. The
    /// collector takes the mark away when it corrects the time by an offset that is certain.
    pub const CLOCK_UNCERTAIN: u8 = 4;
}

/// Counts of values by logarithmic bucket: the data of a DDSketch (Masson, Rim, Lee: VLDB 2019)
/// with relative accuracy 0.01: key = ceil(ln(v) / ln(gamma)), gamma = 1.01 / 0.99.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bins {
    /// (key, count) of positive values, ascending by key.
    pub positive: Vec<(i32, u64)>,
    /// (key of the absolute value, count) of negative values, ascending by key.
    pub negative: Vec<(i32, u64)>,
    /// Count of zeros (and of absolute values below 1e-12).
    pub zero: u64,
}

/// One window's aggregate. A late reading gives a further row of the same window: readers merge.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowRow {
    /// Of which series.
    pub series: SeriesRef,
    /// Start of the window, nanoseconds since the epoch.
    pub start: i64,
    /// Length in nanoseconds.
    pub length: i64,
    /// How many samples; never 0.
    pub count: u64,
    /// Their sum, added in journal order.
    pub sum: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Value of the earliest sample, and its time.
    pub first: (i64, f64),
    /// Value of the latest sample, and its time.
    pub last: (i64, f64),
    /// Quantile sketch.
    pub bins: Bins,
}

/// What one or more records were turned into. Columns of equal length for raw samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// Series of each raw sample.
    pub series: Vec<SeriesRef>,
    /// Time of each raw sample, nanoseconds since the epoch.
    pub times: Vec<i64>,
    /// Value of each raw sample.
    pub values: Vec<f64>,
    /// Marks of each raw sample; empty when none has any.
    pub flags: Vec<u8>,
    /// Closed or partial windows.
    pub windows: Vec<WindowRow>,
    /// Events.
    pub events: Vec<Event>,
    /// What was counted on the way. `Shipped` is here of what was lost before it came to a batch; of the rows that are
    /// in here the spool adds it.
    pub counts: Counts,
    /// Rows whose times are nanoseconds since a boot whose clock was not set, by boot. They hold neither counts nor such
    /// rows in turn.
    pub unset: Vec<(Boot, Rows)>,
    /// Of windows that were open after the last record; `None` where nothing is reduced to windows. No row: it tells,
    /// after a restart, whether what is folded again is what was folded before.
    pub open: Option<OpenWindows>,
    /// Sampled records of which readings are in here, the last one last. No rows either.
    pub traces: Vec<Traced>,
}

/// What batches say of the windows that are open behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenWindows {
    /// Readings in them.
    pub readings: u64,
    /// A fingerprint of the routes that were in force: other routes, other windows.
    pub routes: u64,
    /// The latest end of a window that has left; `i64::MAX` where that isn't known.
    pub left: i64,
}

impl OpenWindows {
    /// As batches of older versions say it.
    pub fn of(readings: u64) -> Self {
        Self { readings, routes: 0, left: i64::MAX }
    }

    /// The latest end of a window that has left, where it is known.
    pub fn left_by(&self) -> Option<i64> {
        (self.left < i64::MAX).then_some(self.left)
    }
}

impl Rows {
    /// Adds one raw sample.
    pub fn push_sample(&mut self, series: SeriesRef, time: i64, value: f64, flags: u8) {
        if flags != 0 && self.flags.is_empty() {
            self.flags.resize(self.series.len(), 0);
        }
        if !self.flags.is_empty() || flags != 0 {
            self.flags.push(flags);
        }
        self.series.push(series);
        self.times.push(time);
        self.values.push(value);
    }

    /// Readings in here: samples, windows and events.
    pub fn len(&self) -> usize {
        let unset: usize = self.unset.iter().map(|(_, rows)| rows.len()).sum();
        self.series.len() + self.windows.len() + self.events.len() + unset
    }

    /// The rows whose times are nanoseconds since a boot.
    pub fn since(&mut self, boot: Boot) -> &mut Rows {
        let at = self.unset.iter().position(|(known, _)| *known == boot).unwrap_or_else(|| {
            self.unset.push((boot, Rows::default()));
            self.unset.len() - 1
        });
        &mut self.unset[at].1
    }

    /// True when there is a reading, and not counts alone.
    pub fn has_readings(&self) -> bool {
        let own = !(self.series.is_empty() && self.windows.is_empty() && self.events.is_empty());
        own || self.unset.iter().any(|(_, rows)| rows.has_readings())
    }

    /// True when there is neither a reading nor a count.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.counts.is_empty()
    }

    /// Takes out everything and keeps the allocations.
    pub fn clear(&mut self) {
        self.series.clear();
        self.times.clear();
        self.values.clear();
        self.flags.clear();
        self.windows.clear();
        self.events.clear();
        self.counts = Counts::new();
        self.unset.clear();
        self.open = None;
        self.traces.clear();
    }

    /// Appends another's rows behind ours.
    pub fn append(&mut self, other: &Rows) {
        if !(self.flags.is_empty() && other.flags.is_empty()) {
            self.flags.resize(self.series.len(), 0);
            self.flags.extend_from_slice(&other.flags);
            self.flags.resize(self.series.len() + other.series.len(), 0);
        }
        self.series.extend_from_slice(&other.series);
        self.times.extend_from_slice(&other.times);
        self.values.extend_from_slice(&other.values);
        self.windows.extend_from_slice(&other.windows);
        self.events.extend_from_slice(&other.events);
        self.counts.merge(&other.counts);
        self.open = other.open;
        other.traces.iter().for_each(|traced| trace::note(&mut self.traces, *traced));
        for (boot, rows) in &other.unset {
            self.since(*boot).append(rows);
        }
    }

    /// Earliest and latest event time in here, of the rows of set clocks.
    pub fn time_range(&self) -> Option<(i64, i64)> {
        let samples = self.times.iter().map(|t| (*t, *t));
        let windows = self.windows.iter().map(|w| (w.start, w.start.saturating_add(w.length)));
        let events = self.events.iter().map(|e| (e.time, e.time));
        samples.chain(windows).chain(events).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Counts this many readings of a cause.
    pub fn count(&mut self, cause: Cause, n: u64) {
        self.counts.add(cause, n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of so many samples, each with these marks; `None` for samples without any.
    fn marked(samples: usize, flags: Option<u8>) -> Rows {
        let mut rows = Rows::default();
        for _ in 0..samples {
            rows.push_sample(SeriesRef(0), 1, 1.0, flags.unwrap_or(0));
        }
        rows
    }

    #[test]
    fn appending_keeps_every_mark_also_behind_nothing() {
        for (before, flags) in [(0, None), (2, None), (2, Some(1))] {
            for (added, more) in [(1, Some(4)), (1, None)] {
                let mut rows = marked(before, flags);
                rows.append(&marked(added, more));
                let expected = [vec![flags.unwrap_or(0); before], vec![more.unwrap_or(0); added]].concat();
                let all = if rows.flags.is_empty() { vec![0; rows.series.len()] } else { rows.flags };
                assert_eq!(all, expected);
            }
        }
    }
}
