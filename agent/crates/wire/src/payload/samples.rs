//! Raw samples from the order of arrival into that of the wire: by series number, then time.

use telemetry::{Rows, SeriesRef};

/// Which samples of a batch are of which series, and which series share a timeline. Reused between batches.
#[derive(Default)]
pub(super) struct Grouping {
    /// For each series of the table 1 + its index in `found`; 0 = not in this batch.
    slots: Vec<u32>,
    found: Vec<Found>,
    /// Series numbers, ascending.
    pub(super) ids: Vec<u32>,
    pub(super) lengths: Vec<u32>,
    pub(super) lines: Vec<u32>,
    pub(super) times: Vec<i64>,
    pub(super) values: Vec<f64>,
    pub(super) flags: Vec<u8>,
    /// The distinct timelines, as ranges of `times`.
    pub(super) timelines: Vec<std::ops::Range<usize>>,
    order: Vec<u32>,
    by_hash: std::collections::HashMap<u64, Vec<u32>, ahash::RandomState>,
    hasher: Option<ahash::RandomState>,
}

struct Found {
    series: SeriesRef,
    number: u32,
    count: u32,
    /// Where its next sample goes.
    at: usize,
}

impl Grouping {
    /// Sorts the samples of `rows` in here. `number` is asked once for each series, in order of first use.
    pub(super) fn group(&mut self, rows: &Rows, mut number: impl FnMut(SeriesRef) -> u32) {
        self.found.clear();
        for series in &rows.series {
            let at = series.index();
            if at >= self.slots.len() {
                self.slots.resize(at + 1, 0);
            }
            if self.slots[at] == 0 {
                self.found.push(Found { series: *series, number: number(*series), count: 0, at: 0 });
                self.slots[at] = self.found.len() as u32;
            }
            self.found[self.slots[at] as usize - 1].count += 1;
        }
        self.found.sort_unstable_by_key(|found| found.number);
        let mut at = 0;
        for (index, found) in self.found.iter_mut().enumerate() {
            self.slots[found.series.index()] = index as u32 + 1;
            found.at = at;
            at += found.count as usize;
        }
        self.scatter(rows);
        self.ids.clear();
        self.ids.extend(self.found.iter().map(|found| found.number));
        self.lengths.clear();
        self.lengths.extend(self.found.iter().map(|found| found.count));
        for found in &self.found {
            self.slots[found.series.index()] = 0;
        }
        self.order();
        self.share_timelines();
    }

    /// Each sample to its series, in the order of arrival within one.
    fn scatter(&mut self, rows: &Rows) {
        let n = rows.series.len();
        self.times.resize(n, 0);
        self.values.resize(n, 0.0);
        self.flags.resize(rows.flags.len(), 0);
        for (at, series) in rows.series.iter().enumerate() {
            let found = &mut self.found[self.slots[series.index()] as usize - 1];
            self.times[found.at] = rows.times[at];
            self.values[found.at] = rows.values[at];
            if !rows.flags.is_empty() {
                self.flags[found.at] = rows.flags[at];
            }
            found.at += 1;
        }
    }

    /// Sorts by time the series that aren't yet; equal times keep the order of arrival.
    fn order(&mut self) {
        let mut start = 0;
        for length in &self.lengths {
            let range = start..start + *length as usize;
            start = range.end;
            if self.times[range.clone()].is_sorted() {
                continue;
            }
            self.order.clear();
            self.order.extend(0..*length);
            let times = &self.times[range.clone()];
            self.order.sort_by_key(|at| times[*at as usize]);
            let picked = |at: &u32| range.start + *at as usize;
            let times: Vec<i64> = self.order.iter().map(|at| self.times[picked(at)]).collect();
            let values: Vec<f64> = self.order.iter().map(|at| self.values[picked(at)]).collect();
            self.times[range.clone()].copy_from_slice(&times);
            self.values[range.clone()].copy_from_slice(&values);
            if !self.flags.is_empty() {
                let flags: Vec<u8> = self.order.iter().map(|at| self.flags[picked(at)]).collect();
                self.flags[range].copy_from_slice(&flags);
            }
        }
    }

    /// Sensors of one device are read together: a timeline that an earlier series has is named, not repeated.
    fn share_timelines(&mut self) {
        self.lines.clear();
        self.timelines.clear();
        self.by_hash.clear();
        let hasher = self.hasher.get_or_insert_with(ahash::RandomState::new);
        let mut start = 0;
        for length in &self.lengths {
            let range = start..start + *length as usize;
            start = range.end;
            let line = &self.times[range.clone()];
            // The order of timelines is that of first use: the hash decides nothing that is written.
            let same = self.by_hash.entry(hasher.hash_one(line)).or_default();
            let known = same.iter().find(|at| self.times[self.timelines[**at as usize].clone()] == *line);
            let at = match known {
                Some(at) => *at,
                None => {
                    let at = self.timelines.len() as u32;
                    same.push(at);
                    self.timelines.push(range);
                    at
                }
            };
            self.lines.push(at);
        }
    }
}
