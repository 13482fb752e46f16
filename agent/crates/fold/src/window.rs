//! One open window of one series: what its samples have added up to so far.

use telemetry::{Bins, SeriesRef, WindowRow};

use crate::bytes::Reader;
use crate::{RestoreError, sketch};

/// An aggregate that still takes samples.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OpenWindow {
    pub start: i64,
    /// One past its last nanosecond; saturated at the end of time.
    pub end: i64,
    /// Opened when the watermark had already passed its end: it leaves with the next tick.
    pub late: bool,
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    first: (i64, f64),
    last: (i64, f64),
    bins: Bins,
    /// Where the sketch counted last. It steers a search and never changes a result.
    hint: u32,
}

impl OpenWindow {
    pub(crate) fn new(start: i64, end: i64, late: bool) -> Self {
        Self {
            start,
            end,
            late,
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

    /// Takes a finite value. Of equal times the earlier arrival is first and the later one last.
    #[inline]
    pub(crate) fn add(&mut self, time: i64, value: f64) {
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

    pub(crate) fn into_row(self, series: SeriesRef) -> WindowRow {
        WindowRow {
            series,
            start: self.start,
            length: self.end.wrapping_sub(self.start),
            count: self.count,
            sum: self.sum,
            min: self.min,
            max: self.max,
            first: self.first,
            last: self.last,
            bins: self.bins,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.start.to_le_bytes());
        out.extend_from_slice(&self.end.to_le_bytes());
        out.push(u8::from(self.late));
        out.extend_from_slice(&self.count.to_le_bytes());
        for value in [self.sum, self.min, self.max] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        for (time, value) in [self.first, self.last] {
            out.extend_from_slice(&time.to_le_bytes());
            out.extend_from_slice(&value.to_le_bytes());
        }
        for side in [&self.bins.positive, &self.bins.negative] {
            out.extend_from_slice(&(side.len() as u32).to_le_bytes());
            for (key, n) in side {
                out.extend_from_slice(&key.to_le_bytes());
                out.extend_from_slice(&n.to_le_bytes());
            }
        }
        out.extend_from_slice(&self.bins.zero.to_le_bytes());
    }

    /// The fewest bytes that [`OpenWindow::encode`] writes.
    pub(crate) const MIN_BYTES: usize = 97;

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, RestoreError> {
        let side = |reader: &mut Reader<'_>| {
            (0..reader.count(12)?).map(|_| Ok((reader.i32()?, reader.u64()?))).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            start: reader.i64()?,
            end: reader.i64()?,
            late: reader.flag()?,
            count: reader.u64()?,
            sum: reader.f64()?,
            min: reader.f64()?,
            max: reader.f64()?,
            first: (reader.i64()?, reader.f64()?),
            last: (reader.i64()?, reader.f64()?),
            bins: Bins { positive: side(reader)?, negative: side(reader)?, zero: reader.u64()? },
            hint: 0,
        })
    }
}

/// The bounds of the window of this length that a time lies in. Windows begin at whole multiples of
/// their length since the epoch; at the ends of what 64 bits hold they are cut short.
#[inline]
pub(crate) fn bounds(time: i64, length: i64) -> (i64, i64) {
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
            let (start, end) = bounds(time, length);
            prop_assert!(start <= time && (time < end || end == i64::MAX));
            prop_assert!(start == i64::MIN || start % length == 0);
        }
    }

    #[test]
    fn an_open_window_survives_its_own_bytes() {
        let mut window = OpenWindow::new(0, 10, true);
        [(3, 1.5), (1, -2.0), (9, 0.0)].iter().for_each(|(time, value)| window.add(*time, *value));
        let mut bytes = Vec::new();
        window.encode(&mut bytes);
        let back = OpenWindow::decode(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(OpenWindow { hint: 0, ..window }, back);
        let mut empty = Vec::new();
        OpenWindow::new(0, 1, false).encode(&mut empty);
        assert_eq!(empty.len(), OpenWindow::MIN_BYTES);
    }
}
