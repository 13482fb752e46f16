//! A set of sequence numbers kept as ranges: what is acknowledged, what the collector holds.

use crate::v1;

/// A set of numbers as ascending, disjoint, non-adjacent ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    ranges: Vec<(u64, u64)>,
}

impl RangeSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything from 1 to `upto`, and these ranges. Ranges that end before they begin are ignored.
    pub fn from_holdings(holdings: &v1::Holdings) -> Self {
        let mut set = Self::new();
        if holdings.upto > 0 {
            set.insert_range(1, holdings.upto);
        }
        for range in &holdings.ranges {
            set.insert_range(range.first, range.last);
        }
        set
    }

    /// As a frame says it.
    pub fn to_holdings(&self, epoch: &[u8; 16]) -> v1::Holdings {
        let upto = self.upto();
        let ranges = self.ranges.iter().filter(|(first, _)| *first > 1 || upto == 0);
        v1::Holdings {
            epoch: epoch.to_vec(),
            upto,
            ranges: ranges.map(|&(first, last)| v1::Range { first, last }).collect(),
        }
    }

    /// Adds one number. True when it is new.
    pub fn insert(&mut self, number: u64) -> bool {
        if self.contains(number) {
            return false;
        }
        self.insert_range(number, number);
        true
    }

    /// Adds `first..=last`; nothing when `last < first`.
    pub fn insert_range(&mut self, first: u64, last: u64) {
        if last < first {
            return;
        }
        // All ranges that overlap or touch first..=last become one with it.
        let from = self.ranges.partition_point(|range| range.1 < first.saturating_sub(1));
        let to = self.ranges.partition_point(|range| range.0 <= last.saturating_add(1));
        let merged = self.ranges[from..to]
            .iter()
            .fold((first, last), |all, range| (all.0.min(range.0), all.1.max(range.1)));
        self.ranges.splice(from..to, [merged]);
    }

    /// Takes one number out.
    pub fn remove(&mut self, number: u64) {
        let at = self.ranges.partition_point(|range| range.1 < number);
        let Some(&(first, last)) = self.ranges.get(at).filter(|range| range.0 <= number) else { return };
        let below = (first < number).then(|| (first, number - 1));
        let above = (number < last).then(|| (number + 1, last));
        self.ranges.splice(at..=at, below.into_iter().chain(above));
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: &RangeSet) {
        for &(first, last) in &other.ranges {
            self.insert_range(first, last);
        }
    }

    /// Is it in there?
    pub fn contains(&self, number: u64) -> bool {
        let at = self.ranges.partition_point(|range| range.1 < number);
        self.ranges.get(at).is_some_and(|range| range.0 <= number)
    }

    /// The largest number up to which all are in there, counted from 1; 0 when 1 is missing.
    pub fn upto(&self) -> u64 {
        match self.ranges.first() {
            Some(&(first, last)) if first <= 1 => last,
            _ => 0,
        }
    }

    /// The largest number in there.
    pub fn max(&self) -> Option<u64> {
        self.ranges.last().map(|range| range.1)
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().copied()
    }

    /// How many numbers are in there.
    pub fn len(&self) -> u64 {
        self.ranges.iter().fold(0u64, |sum, range| sum.saturating_add((range.1 - range.0).saturating_add(1)))
    }

    /// True when nothing is in there.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl Extend<(u64, u64)> for RangeSet {
    fn extend<T: IntoIterator<Item = (u64, u64)>>(&mut self, ranges: T) {
        for (first, last) in ranges {
            self.insert_range(first, last);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_range_set_holds_what_a_set_of_numbers_holds(
            ranges in proptest::collection::vec((0u64..60, 0u64..8, proptest::option::of(0u64..60)), 0..40)
        ) {
            let mut set = RangeSet::new();
            let mut model = BTreeSet::new();
            for (first, n, out) in ranges {
                set.insert_range(first, first + n);
                model.extend(first..=first + n);
                if let Some(out) = out {
                    set.remove(out);
                    model.remove(&out);
                }
            }
            for number in 0..70 {
                prop_assert_eq!(set.contains(number), model.contains(&number));
            }
            prop_assert_eq!(set.len(), model.len() as u64);
            let upto = (1..).take_while(|number| model.contains(number)).last().unwrap_or(0);
            prop_assert_eq!(set.upto(), upto);
            let ranges: Vec<_> = set.iter().collect();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "not merged: {:?}", ranges);
        }

        #[test]
        fn holdings_say_the_same_set(ranges in proptest::collection::vec((1u64..60, 0u64..8), 0..40)) {
            let mut set = RangeSet::new();
            set.extend(ranges.into_iter().map(|(first, n)| (first, first + n)));
            prop_assert_eq!(RangeSet::from_holdings(&set.to_holdings(&[7; 16])), set);
        }
    }

    #[test]
    fn the_ends_of_u64_are_numbers_like_others() {
        let mut set = RangeSet::new();
        set.insert_range(u64::MAX, u64::MAX);
        set.insert_range(0, 0);
        set.insert_range(5, 4);
        assert!(set.contains(u64::MAX) && set.contains(0) && !set.contains(5));
        set.insert_range(1, u64::MAX - 1);
        assert_eq!(set.iter().collect::<Vec<_>>(), [(0, u64::MAX)]);
    }
}
