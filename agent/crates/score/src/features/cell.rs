//! One cell of the grid while it takes samples: whole-number sums, which don't depend on order.

use fold::RestoreError;
use fold::bytes::Reader;

use super::{COUNT, GRID};

/// A gauge is summed in this part of one, exactly.
const PARTS: f64 = 1_073_741_824.0;

/// A counter's time is summed in these many nanoseconds: 32 bits then hold five days of it.
const TIME_UNIT: i64 = 100_000;

/// Ten seconds of one device. In columns, for want of padding: cells are the bulk of a device's state.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    /// Its number since the epoch.
    pub index: i64,
    /// Of a gauge its values in [`PARTS`], of a counter its increase.
    totals: [i64; COUNT],
    /// Of a gauge the samples, of a counter the time of all its series in [`TIME_UNIT`].
    weights: [u32; COUNT],
    /// Of a counter how many series were summed; of a gauge 0.
    series: [u16; COUNT],
}

impl Cell {
    /// What [`Cell::encode`] writes.
    pub(super) const BYTES: usize = 8 + COUNT * 14;

    pub(super) fn new(index: i64) -> Self {
        Self { index, totals: [0; COUNT], weights: [0; COUNT], series: [0; COUNT] }
    }

    /// One past its last nanosecond.
    pub(super) fn end(&self) -> i64 {
        self.index.saturating_add(1).saturating_mul(GRID)
    }

    pub(super) fn gauge(&mut self, feature: usize, value: f64) {
        // `as` saturates.
        self.totals[feature] = self.totals[feature].saturating_add((value * PARTS) as i64);
        self.weights[feature] = self.weights[feature].saturating_add(1);
    }

    /// `first`: of its series in this cell.
    pub(super) fn counter(&mut self, feature: usize, increase: f64, nanos: i64, first: bool) {
        let time = u32::try_from(nanos / TIME_UNIT).unwrap_or(u32::MAX).max(1);
        self.totals[feature] = self.totals[feature].saturating_add(increase as i64);
        self.weights[feature] = self.weights[feature].saturating_add(time);
        self.series[feature] = self.series[feature].saturating_add(u16::from(first));
    }

    /// Mean of a gauge, or the rate per second of all series of a counter; `None` without a sample.
    pub(super) fn value(&self, feature: usize) -> Option<f64> {
        let total = self.totals[feature] as f64;
        match (self.weights[feature], self.series[feature]) {
            (0, _) => None,
            (samples, 0) => Some(total / PARTS / f64::from(samples)),
            (time, series) => {
                let seconds = f64::from(time) * (TIME_UNIT as f64 / 1e9);
                Some(total * f64::from(series) / seconds)
            }
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.index.to_le_bytes());
        for feature in 0..COUNT {
            out.extend_from_slice(&self.totals[feature].to_le_bytes());
            out.extend_from_slice(&self.weights[feature].to_le_bytes());
            out.extend_from_slice(&self.series[feature].to_le_bytes());
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, RestoreError> {
        let mut cell = Self::new(reader.i64()?);
        for feature in 0..COUNT {
            cell.totals[feature] = reader.i64()?;
            cell.weights[feature] = reader.u32()?;
            cell.series[feature] = reader.u16()?;
        }
        Ok(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_its_mean_and_a_counter_the_rate_of_its_series_together() {
        let mut cell = Cell::new(0);
        [0.25, 0.5].iter().for_each(|value| cell.gauge(0, *value));
        assert_eq!(cell.value(0), Some(0.375));
        // Two disks of 1,000 B in 5 s twice each, that is 200 B/s each.
        for _ in 0..2 {
            cell.counter(4, 1_000.0, 5_000_000_000, cell.series[4] < 1);
        }
        cell.counter(4, 1_000.0, 5_000_000_000, true);
        cell.counter(4, 1_000.0, 5_000_000_000, false);
        assert_eq!(cell.value(4), Some(400.0));
        assert_eq!(cell.value(1), None);
    }

    #[test]
    fn a_cell_survives_its_own_bytes() {
        let mut cell = Cell::new(-7);
        cell.gauge(0, 0.1);
        cell.counter(5, 7.0, 9, true);
        let mut bytes = Vec::new();
        cell.encode(&mut bytes);
        assert_eq!(bytes.len(), Cell::BYTES);
        assert_eq!(Cell::decode(&mut Reader::new(&bytes)).unwrap(), cell);
    }
}
