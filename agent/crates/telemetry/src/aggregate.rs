//! What samples of one series add up to: the one definition of a window's content, for the fold that makes
//! windows of what comes in and for the spool that thins what it can't keep.

use crate::{Bins, SeriesRef, WindowRow, sketch};

/// A window's row that still takes samples. Whose it is and where it begins are said at its end; before the first
/// sample its extremes are infinite.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    row: WindowRow,
    /// Where the sketch counted last. It steers a search and never changes a result.
    hint: u32,
}

impl Default for Aggregate {
    fn default() -> Self {
        Self::of(WindowRow {
            series: SeriesRef(0),
            start: 0,
            length: 0,
            count: 0,
            sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            first: (i64::MAX, 0.0),
            last: (i64::MIN, 0.0),
            bins: Bins::default(),
        })
    }
}

impl Aggregate {
    /// Goes on with a row that was written down.
    pub fn of(row: WindowRow) -> Self {
        Self { row, hint: 0 }
    }

    /// What it adds up to so far.
    pub fn row(&self) -> &WindowRow {
        &self.row
    }

    /// Takes a finite value. Of equal times the earlier arrival is first and the later one last.
    #[inline]
    pub fn add(&mut self, time: i64, value: f64) {
        let Self { row, hint } = self;
        if row.count == 0 {
            (row.first, row.last) = ((time, value), (time, value));
        } else if time < row.first.0 {
            row.first = (time, value);
        } else if time >= row.last.0 {
            row.last = (time, value);
        }
        row.count += 1;
        row.sum += value;
        // Not f64::min: of 0.0 and -0.0 it may give either one.
        if value < row.min {
            row.min = value;
        }
        if value > row.max {
            row.max = value;
        }
        sketch::add(&mut row.bins, value, hint);
    }

    /// As the row of a window.
    pub fn into_row(self, series: SeriesRef, start: i64, length: i64) -> WindowRow {
        WindowRow { series, start, length, ..self.row }
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
