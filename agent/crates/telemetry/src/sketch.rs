//! Quantile sketches: the DDSketch of a window, as counts by logarithmic bucket ([`Bins`]).
//!
//! Any quantile of the values is given to within 1 %. Sketches of parts add up to the sketch of the
//! whole, exactly, in any order: that is what makes late partials and fleet-wide quantiles right.
//! The logarithm is `libm`'s, not the platform's, so that a replay on another machine or build puts a
//! value on a bucket's edge into the same bucket.

use std::sync::LazyLock;

use crate::Bins;

/// Ratio of a bucket's upper to its lower bound.
pub const GAMMA: f64 = 1.01 / 0.99;
/// ln([`GAMMA`]), written out so that no platform computes it another way.
const LN_GAMMA: f64 = 0.020_000_666_706_669_435;
/// Absolute values below this count as zero.
pub const SMALLEST: f64 = 1e-12;
/// Most buckets of one sign. Beyond it the lowest run into one (the order of arrival doesn't matter).
/// Values of one window span 18 decades before that happens.
pub const MAX_BINS: usize = 2_048;

/// Logarithms to begin with: for each of 128 stretches of a mantissa the inverse of its middle, and that one's logarithm.
static MIDDLES: LazyLock<[(f64, f64); 128]> = LazyLock::new(|| {
    std::array::from_fn(|at| {
        let middle = 1.0 + (at as f64 + 0.5) / 128.0;
        (1.0 / middle, libm::log(middle))
    })
});
/// So far from a bucket's edge the quick logarithm is as good as the exact one: it is off by 1e-8 of a bucket at most.
const SURE: f64 = 1e-6;

/// The bucket of a positive value that is normal and finite: that of the exact logarithm, mostly without computing it.
pub fn key(magnitude: f64) -> i32 {
    let near = quick(magnitude);
    let above = near.ceil();
    if above - near > SURE && above - near < 1.0 - SURE { above as i32 } else { exact(magnitude) }
}

fn exact(magnitude: f64) -> i32 {
    // The cast can't overflow: |ln| of a finite value >= 1e-12 is below 710.
    libm::ceil(libm::log(magnitude) / LN_GAMMA) as i32
}

/// The logarithm to the base [`GAMMA`], nearly: a middle's, and three terms of the series from there, which is within 2^-8.
#[inline]
fn quick(magnitude: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    let bits = magnitude.to_bits();
    let exponent = ((bits >> 52) as i64 - 1023) as f64;
    let (inverse, middle) = MIDDLES[(bits >> 45 & 127) as usize];
    let rest = f64::from_bits(bits & MANTISSA | 1023 << 52) * inverse - 1.0;
    let series = rest * (1.0 + rest * (-0.5 + rest * (1.0 / 3.0)));
    (exponent * std::f64::consts::LN_2 + (middle + series)) * (1.0 / LN_GAMMA)
}

/// The value that stands for a bucket: at most 1 % from any value in it.
pub fn value(key: i32) -> f64 {
    // The highest bucket's own bound is beyond what 64 bits hold.
    (libm::exp(f64::from(key) * LN_GAMMA) * (2.0 / (GAMMA + 1.0))).min(f64::MAX)
}

/// Counts one finite value. `hint` is where the last one went; neighbours in time are often near.
pub fn add(bins: &mut Bins, value: f64, hint: &mut u32) {
    let magnitude = value.abs();
    if magnitude < SMALLEST {
        bins.zero += 1;
        return;
    }
    let side = if value > 0.0 { &mut bins.positive } else { &mut bins.negative };
    let key = key(magnitude);
    if let Some(bin) = side.get_mut(*hint as usize)
        && bin.0 == key
    {
        bin.1 += 1;
        return;
    }
    *hint = add_to(side, key, 1) as u32;
}

fn add_to(side: &mut Vec<(i32, u64)>, key: i32, n: u64) -> usize {
    match side.binary_search_by_key(&key, |bin| bin.0) {
        Ok(at) => {
            side[at].1 += n;
            at
        }
        Err(at) => {
            side.insert(at, (key, n));
            if side.len() <= MAX_BINS {
                return at;
            }
            // Over the cap: the lowest runs into the one above it.
            let (_, lowest) = side.remove(0);
            side[0].1 += lowest;
            at.saturating_sub(1)
        }
    }
}

/// Adds all of another's counts.
pub fn merge(into: &mut Bins, other: &Bins) {
    into.zero += other.zero;
    for (key, n) in &other.positive {
        add_to(&mut into.positive, *key, *n);
    }
    for (key, n) in &other.negative {
        add_to(&mut into.negative, *key, *n);
    }
}

/// How many values were counted.
pub fn count(bins: &Bins) -> u64 {
    let side = |bins: &[(i32, u64)]| bins.iter().map(|bin| bin.1).sum::<u64>();
    side(&bins.positive) + side(&bins.negative) + bins.zero
}

/// The value at quantile `q` (0 to 1), or `None` of an empty sketch.
pub fn quantile(bins: &Bins, q: f64) -> Option<f64> {
    let total = count(bins);
    if total == 0 || !(0.0..=1.0).contains(&q) {
        return None;
    }
    // The rank of the value looked for, from 0.
    let mut rank = libm::floor(q * (total - 1) as f64) as u64;
    for (key, n) in bins.negative.iter().rev() {
        if rank < *n {
            return Some(-value(*key));
        }
        rank -= n;
    }
    if rank < bins.zero {
        return Some(0.0);
    }
    rank -= bins.zero;
    for (key, n) in &bins.positive {
        if rank < *n {
            return Some(value(*key));
        }
        rank -= n;
    }
    bins.positive.last().map(|(key, _)| value(*key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sketch(values: &[f64]) -> Bins {
        let (mut bins, mut hint) = (Bins::default(), 0);
        values.iter().for_each(|value| add(&mut bins, *value, &mut hint));
        bins
    }

    fn finite() -> impl Strategy<Value = f64> {
        prop_oneof![
            -1e3..1e3,
            Just(0.0),
            Just(-0.0),
            Just(f64::MAX),
            Just(f64::MIN_POSITIVE),
            1e-13..1e13,
            any::<f64>().prop_filter("finite", |v| v.is_finite()),
        ]
    }

    proptest! {
        #[test]
        fn the_quick_logarithm_gives_the_bucket_of_the_exact_one(
            any_value in 1e-12f64..f64::MAX, small in 1e-12f64..1e6, key_ in -1381i32..35_000, off in -40i64..40,
        ) {
            // What lies on an edge between two buckets, and beside it; whole numbers and powers of two among the others.
            let edge = libm::exp(f64::from(key_) * LN_GAMMA).clamp(SMALLEST, f64::MAX);
            let beside = f64::from_bits((edge.to_bits() as i64 + off) as u64).clamp(SMALLEST, f64::MAX);
            for value in [any_value, small, small.ceil(), edge, beside, any_value.log2().exp2().min(f64::MAX)] {
                prop_assert_eq!(key(value), exact(value), "{}", value);
            }
        }

        #[test]
        fn a_quantile_is_within_one_percent(values in prop::collection::vec(finite(), 1..200), q in 0.0f64..=1.0) {
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let exact = sorted[libm::floor(q * (sorted.len() - 1) as f64) as usize];
            let estimate = quantile(&sketch(&values), q).unwrap();
            prop_assert!((estimate - exact).abs() <= 0.0100001 * exact.abs() + SMALLEST, "{estimate} for {exact}");
        }

        #[test]
        fn parts_add_up_to_the_whole_in_any_order(values in prop::collection::vec(finite(), 0..200), cut in 0usize..200) {
            let (head, tail) = values.split_at(cut.min(values.len()));
            let mut merged = sketch(tail);
            merge(&mut merged, &sketch(head));
            prop_assert_eq!(merged, sketch(&values));
        }

        #[test]
        fn the_cap_keeps_every_count_and_does_not_depend_on_order(seed in prop::collection::vec(any::<u16>(), 3000..4000)) {
            let build = |keys: &mut dyn Iterator<Item = u16>| {
                let mut side = Vec::new();
                keys.for_each(|key| { add_to(&mut side, i32::from(key), 1); });
                side
            };
            let forward = build(&mut seed.iter().copied());
            let backward = build(&mut seed.iter().rev().copied());
            prop_assert!(forward.len() <= MAX_BINS);
            prop_assert_eq!(forward.iter().map(|bin| bin.1).sum::<u64>(), seed.len() as u64);
            prop_assert_eq!(forward, backward);
        }
    }

    #[test]
    fn an_empty_sketch_has_no_quantile() {
        assert_eq!(quantile(&Bins::default(), 0.5), None);
        assert_eq!(quantile(&sketch(&[1.0]), 1.5), None);
    }
}
