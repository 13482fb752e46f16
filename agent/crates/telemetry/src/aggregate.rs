//! What samples of one series add up to: the one definition of a window's content, for the fold that makes
//! windows of what comes in and for the spool that thins what it can't keep.

use crate::{Bins, SeriesRef, WindowRow, sketch};

/// An aggregate that still takes samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// How many samples.
    pub count: u64,
    /// Their sum, in the order in which they were added.
    pub sum: f64,
    /// Smallest; infinite before the first.
    pub min: f64,
    /// Largest; infinite before the first.
    pub max: f64,
    /// Time and value of the earliest.
    pub first: (i64, f64),
    /// Time and value of the latest.
    pub last: (i64, f64),
    /// Quantile sketch.
    pub bins: Bins,
    /// Where the sketch counted last. It steers a search and never changes a result.
    pub hint: u32,
}

impl Default for Aggregate {
    fn default() -> Self {
        Self {
            count: 0,
            sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            first: (i64::MAX, 0.0),
            last: (i64::MIN, 0.0),
            bins: Bins::default(),
            hint: 0,
        }
    }
}

impl Aggregate {
    /// Takes a finite value. Of equal times the earlier arrival is first and the later one last.
    #[inline]
    pub fn add(&mut self, time: i64, value: f64) {
        if self.count == 0 {
            (self.first, self.last) = ((time, value), (time, value));
        } else if time < self.first.0 {
            self.first = (time, value);
        } else if time >= self.last.0 {
            self.last = (time, value);
        }
        self.count += 1;
        self.sum += value;
        // Not f64::min: of 0.0 and -0.0 it may give either one.
        if value < self.min {
            self.min = value;
        }
        if value > self.max {
            self.max = value;
        }
        sketch::add(&mut self.bins, value, &mut self.hint);
    }

    /// As the row of a window.
    pub fn into_row(self, series: SeriesRef, start: i64, length: i64) -> WindowRow {
        WindowRow {
            series,
            start,
            length,
            count: self.count,
            sum: self.sum,
            min: self.min,
            max: self.max,
            first: self.first,
            last: self.last,
            bins: self.bins,
        }
    }
}

/// The bounds of the window of this length that a time lies in. Windows begin at whole multiples of
/// their length since the epoch; at the ends of what 64 bits hold they are cut short.
#[inline]
pub fn window_bounds(time: i64, length: i64) -> (i64, i64) {
    let start = time.saturating_sub(time.rem_euclid(length));
    (start, start.saturating_add(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_time_lies_in_its_window(time in any::<i64>(), length in 1_000_000i64..100_000_000_000_000) {
            let (start, end) = window_bounds(time, length);
            prop_assert!(start <= time && (time < end || end == i64::MAX));
            prop_assert!(start == i64::MIN || start % length == 0);
        }
    }
}
