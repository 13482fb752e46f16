//! What is normal for one feature of one device: a mean and a spread that adapt slowly.
//!
//! Both are exponential averages over about an hour. A value far out moves them by no more than a few
//! spreads, so that an anomaly doesn't teach itself; one that stays becomes normal after some half an hour.

use fold::RestoreError;
use fold::bytes::Reader;

use super::Scaling;

/// Mean absolute deviation to standard deviation, of a normal distribution.
const TO_SIGMA: f64 = 1.253_314_137_315_500_3;
/// Cells before a value far out is held back: until then nothing says what is far.
const TRUSTING: u32 = 12;
/// A gap of more cells counts as this many, and makes the cells before it forgotten in the mean of three.
const LONG_GAP: i64 = 30;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Normal {
    mean: f64,
    /// Mean absolute deviation.
    spread: f64,
    /// Deviations of the two cells before.
    before: [f32; 2],
}

impl Normal {
    /// The mean of the last three deviations with this cell's value, and learns from it. `cells` counts
    /// those that the feature was present in; it is kept outside for want of padding.
    pub(super) fn deviation(&mut self, feature: usize, value: Option<f64>, gap: i64, cells: &mut u32) -> f32 {
        let now = value.map_or(0.0, |value| self.learn(feature, value, gap, cells)) as f32;
        if gap > LONG_GAP {
            self.before = [0.0; 2];
        }
        let [first, second] = self.before;
        self.before = [second, now];
        (first + second + now) / 3.0
    }

    fn learn(&mut self, feature: usize, value: f64, gap: i64, cells: &mut u32) -> f64 {
        let scaling = &Scaling::HOST;
        if *cells == 0 {
            (self.mean, *cells) = (value, 1);
            return 0.0;
        }
        let seen = f64::from(*cells);
        let settled = (self.spread * TO_SIGMA).max(scaling.floors[feature]);
        let sigma = settled * (1.0 + f64::from(scaling.settle_cells) / seen);
        let off = value - self.mean;
        let share = (gap.clamp(1, LONG_GAP) as f64 / f64::from(scaling.memory_cells)).max(1.0 / (seen + 1.0));
        let (step, width) = if *cells < TRUSTING {
            (off, off.abs())
        } else {
            (off.clamp(-3.0 * sigma, 3.0 * sigma), off.abs().min(4.0 * sigma))
        };
        self.mean += share * step;
        self.spread += share * (width - self.spread);
        *cells = cells.saturating_add(1);
        (off / sigma).clamp(-scaling.clip, scaling.clip)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.mean.to_le_bytes());
        out.extend_from_slice(&self.spread.to_le_bytes());
        self.before.iter().for_each(|value| out.extend_from_slice(&value.to_bits().to_le_bytes()));
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, RestoreError> {
        Ok(Self {
            mean: reader.f64()?,
            spread: reader.f64()?,
            before: [f32::from_bits(reader.u32()?), f32::from_bits(reader.u32()?)],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spike_is_damped_and_half_a_minute_is_not() {
        let (mut normal, mut cells) = (Normal::default(), 0);
        (0..200).for_each(|at| {
            normal.deviation(0, Some(0.1 + 0.01 * f64::from(at % 3)), 1, &mut cells);
        });
        let rise: Vec<f32> = (0..3).map(|_| normal.deviation(0, Some(0.95), 1, &mut cells)).collect();
        assert!(rise[0] > 3.0 && rise[0] < 3.5, "{rise:?}");
        assert!(rise[2] > 9.0, "{rise:?}");
    }

    #[test]
    fn what_stays_becomes_normal_within_the_hour() {
        let (mut normal, mut cells) = (Normal::default(), 0);
        (0..360).for_each(|_| {
            normal.deviation(0, Some(0.1), 1, &mut cells);
        });
        let mut last = 0.0;
        (0..360).for_each(|_| last = normal.deviation(0, Some(0.6), 1, &mut cells));
        assert!(last < 2.0, "{last}");
    }

    #[test]
    fn a_device_of_which_nothing_is_known_deviates_from_nothing() {
        assert_eq!(Normal::default().deviation(3, Some(0.9), 1, &mut 0), 0.0);
        assert_eq!(Normal::default().deviation(3, None, 1, &mut 0), 0.0);
    }
}
