//! One cell of the grid while it takes samples: whole-number sums, which don't depend on order.

use fold::RestoreError;
use fold::bytes::Reader;

use super::{COUNT, GRID};

/// A gauge is summed in this part of one, exactly.
const PARTS: f64 = 1_073_741_824.0;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sum {
    /// Of a gauge its values in [`PARTS`], of a counter its increase.
    total: i64,
    /// Of a gauge the samples, of a counter the nanoseconds of all its series.
    weight: i64,
    /// Of a counter: how many series; of a gauge 0.
    series: u32,
}

/// Ten seconds of one device.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    /// Its number since the epoch.
    pub index: i64,
    sums: [Sum; COUNT],
}

impl Cell {
    /// What [`Cell::encode`] writes.
    pub(super) const BYTES: usize = 8 + COUNT * 20;

    pub(super) fn new(index: i64) -> Self {
        Self { index, sums: Default::default() }
    }

    /// One past its last nanosecond.
    pub(super) fn end(&self) -> i64 {
        self.index.saturating_add(1).saturating_mul(GRID)
    }

    pub(super) fn gauge(&mut self, feature: usize, value: f64) {
        let sum = &mut self.sums[feature];
        // `as` saturates.
        sum.total = sum.total.saturating_add((value * PARTS) as i64);
        sum.weight = sum.weight.saturating_add(1);
    }

    /// `first`: of its series in this cell.
    pub(super) fn counter(&mut self, feature: usize, increase: f64, nanos: i64, first: bool) {
        let sum = &mut self.sums[feature];
        sum.total = sum.total.saturating_add(increase as i64);
        sum.weight = sum.weight.saturating_add(nanos);
        sum.series = sum.series.saturating_add(u32::from(first));
    }

    /// Mean of a gauge, or the rate per second of all series of a counter; `None` without a sample.
    pub(super) fn value(&self, feature: usize) -> Option<f64> {
        let sum = self.sums[feature];
        match (sum.weight, sum.series) {
            (0, _) => None,
            (samples, 0) => Some(sum.total as f64 / PARTS / samples as f64),
            (nanos, series) => Some(sum.total as f64 * 1e9 * f64::from(series) / nanos as f64),
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.index.to_le_bytes());
        for sum in &self.sums {
            out.extend_from_slice(&sum.total.to_le_bytes());
            out.extend_from_slice(&sum.weight.to_le_bytes());
            out.extend_from_slice(&sum.series.to_le_bytes());
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, RestoreError> {
        let mut cell = Self::new(reader.i64()?);
        for sum in &mut cell.sums {
            *sum = Sum { total: reader.i64()?, weight: reader.i64()?, series: reader.u32()? };
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
            cell.counter(4, 1_000.0, 5_000_000_000, cell.sums[4].series < 1);
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
