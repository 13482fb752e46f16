//! One batch, or the loss that stands for it, as long as it isn't done.

use std::sync::Arc;
use std::time::Duration;

use telemetry::{Cause, Counts};
use wire::Checksum;

use crate::group::Group;
use crate::record::{Head, Loss};
use crate::tally::Tally;

/// A batch, or the loss that stands for one. Some 10 GB of backlog are 160,000 of them, and all are in memory: what
/// many share is shared, and the rest is packed.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The log's number of the record that holds it; 0 for a loss that isn't in the log yet.
    pub(crate) record: u64,
    /// Of the payload.
    pub(crate) bytes: u32,
    /// Of its record in the log, as it takes room there.
    pub(crate) size: u32,
    pub(crate) rows: u32,
    pub(crate) t0: i64,
    pub(crate) t1: i64,
    pub(crate) checksum: Checksum,
    /// What it is worth, and by which clock its times are.
    pub(crate) group: Arc<Group>,
    /// Raw samples among its rows.
    pub(crate) samples: u32,
    /// Readings that thinning made its windows of.
    pub(crate) thinned: u32,
    /// When it was cut, if that was in this process and of fresh records.
    pub(crate) cut_at: Option<Duration>,
    /// The collector may have it: it was sent, or may have been before the start, and no greeting denied it since.
    pub(crate) offered: bool,
    /// The log or the cursor says that it may have been sent: it needs no mark before it is.
    pub(crate) marked: bool,
    /// What was counted in it; in a loss, with what became of its rows.
    pub(crate) counts: Tally,
    /// A loss frame is sent in place of a batch.
    pub(crate) loss: bool,
}

impl Entry {
    pub(crate) fn of_batch(
        record: u64,
        head: &Head,
        bytes: usize,
        size: usize,
        cut_at: Option<Duration>,
        offered: bool,
    ) -> Self {
        Self {
            record,
            bytes: bytes as u32,
            size: size as u32,
            rows: fewer(head.rows),
            t0: head.t0,
            t1: head.t1,
            checksum: head.checksum,
            group: Arc::new(head.group),
            samples: fewer(head.samples),
            thinned: fewer(head.thinned),
            cut_at,
            offered,
            marked: offered || head.offered,
            counts: Tally::from(&head.counts),
            loss: false,
        }
    }

    /// The loss that stands for a batch, or for nothing that is known.
    pub(crate) fn of_loss(record: u64, size: usize, loss: &Loss, batch: Option<&Self>) -> Self {
        Self {
            record,
            bytes: 0,
            size: size as u32,
            rows: 0,
            t0: loss.t0,
            t1: loss.t1,
            checksum: batch.map_or([0; 16], |batch| batch.checksum),
            // A loss says real times, or 0.
            group: Arc::new(Group { clock: None, ..batch.map(|batch| *batch.group).unwrap_or_default() }),
            samples: 0,
            thinned: 0,
            cut_at: None,
            offered: true,
            marked: true,
            counts: Tally::from(&loss.counts),
            loss: true,
        }
    }

    /// Earliest and latest time; none where they are counted from a boot, or nothing in it has one.
    pub(crate) fn real_times(&self) -> Option<(i64, i64)> {
        let has = self.group.clock.is_none() && (self.rows > 0 || self.loss) && (self.t0, self.t1) != (0, 0);
        has.then_some((self.t0, self.t1))
    }

    /// What a loss frame says that takes its place.
    pub(crate) fn lost(&self, cause: Cause) -> Counts {
        lost(self.counts.counts(), self.rows.into(), self.thinned.into(), cause)
    }

    /// What a loss in its place loses that wasn't lost when it was cut: what was is noted since then.
    pub(crate) fn newly_lost(&self, loss: &Counts) -> Counts {
        let (mut newly, counts) = (Counts::new(), self.counts.counts());
        for (cause, n) in loss.iter().filter(|(cause, _)| cause.is_lost()) {
            newly.add(cause, n.saturating_sub(counts.get(cause)));
        }
        newly
    }

    /// What a loss in its place counts as derived and shipped beyond what it does: see [`lost`]. The sum of all batches
    /// grows by it.
    pub(crate) fn unthinned(&self, loss: &Counts) -> Counts {
        let mut more = Counts::new();
        if self.thinned > 0 && !self.loss {
            let counts = self.counts.counts();
            for cause in [Cause::Derived, Cause::Shipped] {
                more.add(cause, loss.get(cause).saturating_sub(counts.get(cause)));
            }
        }
        more
    }
}

/// Counts but for what was lost: of these the sum of all batches stays the same, whatever became of each.
pub(crate) fn kept(counts: &Counts) -> Counts {
    let mut kept = Counts::new();
    counts.iter().filter(|(cause, _)| !cause.is_lost()).for_each(|(cause, n)| kept.add(cause, n));
    kept
}

fn fewer(n: u64) -> u32 {
    // A batch is cut at some hundred thousand rows at most.
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// What a dropped batch's loss frame says: the batch's own counts, and what became of its rows. Windows of thinning stand
/// for the readings that they were made of: so many are lost. Both sums hold, since as many count as derived and shipped.
pub(crate) fn lost(mut counts: Counts, rows: u64, thinned: u64, cause: Cause) -> Counts {
    let more = thinned.saturating_sub(rows);
    counts.add(Cause::Derived, more);
    counts.add(Cause::Shipped, more);
    counts.add(cause, rows + more);
    counts
}
