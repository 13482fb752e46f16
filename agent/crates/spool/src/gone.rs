//! What batches held that are gone: what heads still tell of each, and what the batches around them tell of all.

use telemetry::Counts;

use crate::entry::kept;
use crate::tally::Tally;

/// What a batch's head says, of a segment that is gone.
pub(crate) struct Remembered {
    /// Earliest and latest time; none where they are no real times, or there is no row.
    pub(crate) times: Option<(i64, i64)>,
    counts: Tally,
}

impl Remembered {
    pub(crate) fn new(times: Option<(i64, i64)>, counts: &Counts) -> Self {
        Self { times, counts: Tally::from(counts) }
    }
}

/// The counts of each of these batches, where they add up to what all of them held: heads are a copy, and never overrule that.
pub(crate) fn share(heads: &[&Remembered], counts: &Counts) -> Option<Vec<Counts>> {
    let sum = |each: &[Counts]| {
        let mut sum = Counts::new();
        each.iter().for_each(|counts| sum.merge(counts));
        sum
    };
    let each: Vec<_> = heads.iter().map(|head| head.counts.counts()).collect();
    if sum(&each) == *counts {
        return Some(each);
    }
    // Of what was lost before they were cut the ledger may have heard already.
    let each: Vec<_> = each.iter().map(kept).collect();
    (sum(&each) == *counts).then_some(each)
}

/// Of each cause what both have.
pub(crate) fn least(one: &Counts, other: &Counts) -> Counts {
    let mut counts = Counts::new();
    for (cause, n) in one.iter() {
        counts.add(cause, n.min(other.get(cause)));
    }
    counts
}

/// What `later` has more than `earlier`.
pub(crate) fn difference(later: &Counts, earlier: &Counts) -> Counts {
    let mut counts = Counts::new();
    for (cause, n) in later.iter() {
        counts.add(cause, n.saturating_sub(earlier.get(cause)));
    }
    counts
}
