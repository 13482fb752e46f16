//! How much of a damaged part of the journal is lost: what batches have of it isn't, and a gap may begin within that and end behind it.

use journal::JournalGap;
use spool::Extent;
use telemetry::{Cause, Position};

use super::verify::Range;

/// Up to which record of the journal batches have all, and how many readings had come up to there by the journal's own count.
pub struct Batched {
    position: Position,
    received: u64,
}

impl Batched {
    /// By the fold's checkpoint, which knows both counts, and by how far the spool has come since.
    pub fn of(saved: &folding::Saved, extent: &Extent) -> Option<Self> {
        let since = extent.counts.get(Cause::Received).checked_sub(saved.received?)?;
        let received = saved.tallied?.checked_add(since)?;
        Some(Self { position: extent.position.max(saved.position), received })
    }
}

/// A damaged part of the journal; `upto` is how many readings had come up to its end.
pub fn range(gap: JournalGap, upto: Option<u64>, batched: Option<&Batched>) -> Range {
    let JournalGap { first, last, bytes, readings } = gap;
    // Of one that ends before that, batches may have all, or the agent may have counted it when it came there.
    let spanned = batched.filter(|batched| (first..last).contains(&batched.position));
    let lost = spanned.zip(upto).map(|(batched, upto)| upto.saturating_sub(batched.received));
    let lost = lost.map(|lost| readings.map_or(lost, |readings| lost.min(readings)));
    Range { first, last, bytes, readings, lost }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_gap_that_begins_in_what_batches_have_is_lost_what_came_behind_that() {
        let mut extent = Extent { position: 20, ..Extent::default() };
        extent.counts.add(Cause::Received, 70);
        let saved = folding::Saved {
            position: 10,
            received: Some(50),
            tallied: Some(1050),
            unacked: None,
            fold: Vec::new(),
        };
        let batched = Batched::of(&saved, &extent).unwrap();
        let gap = |first, last| JournalGap { first, last, bytes: 0, readings: Some(30) };
        let lost = |first, last, upto| range(gap(first, last), upto, Some(&batched)).lost;
        assert_eq!(lost(15, 25, Some(1078)), Some(8));
        assert_eq!(lost(15, 25, Some(1200)), Some(30), "never more than it held");
        assert_eq!(lost(15, 25, None), None);
        assert_eq!(lost(15, 20, Some(1070)), None, "batches may have all");
        assert_eq!(lost(21, 25, Some(1100)), None, "none of it is in a batch");
        assert!(Batched::of(&folding::Saved { tallied: None, ..saved }, &extent).is_none());
    }
}
