//! What a start finds gone that was there at the last checkpoint: a checkpoint, or a spool.

use std::fmt;
use std::path::Path;

use journal::Journal;
use spool::{Damage, Extent, Part, Readings, Spool, Unacked};
use telemetry::{Cause, Position};

use crate::checkpoint::{Checkpoint, Saved};
use crate::work::Folding;

/// What was there when this was last running and isn't now, whoever took it. What journal and spool know of themselves is
/// counted as damage; but nobody else knows what was in the fold's windows,
/// or that there was a spool.
pub(crate) fn missing(work: &Folding) -> Option<String> {
    let first = work.journal.first();
    if work.applied == 0 && first > 1 && !work.journal.is_whole() {
        return Some(format!(
            "the fold's checkpoint is gone or damaged: what open windows held of the journal's records before {first} is \
             lost, and counted as far as the spool knows how many they held"
        ));
    }
    Lacking::of(&Told::by(work), &work.spool.extent()).map(|lacking| lacking.to_string())
}

/// What was in a spool that is gone, or in the part of it that is. The collector may have some of it, whose acknowledgement
/// came after the checkpoint: so it is told, and not counted.
pub(crate) fn lost_spool(work: &Folding) -> Option<Damage> {
    Lacking::of(&Told::by(work), &work.spool.extent())?.lost
}

/// What the last checkpoint says of the spool beside it.
struct Told {
    applied: Position,
    received: Option<u64>,
    unacked: Option<Unacked>,
}

impl Told {
    fn by(work: &Folding) -> Self {
        Self { applied: work.applied, received: work.received, unacked: work.unacked }
    }

    fn spool_is_gone(&self, extent: &Extent) -> bool {
        // Batches carry what was received: so many counted means that there was one, whose position a spool keeps even when
        // it is empty. That the last records gave no rows, as ticks and readings of open windows do, says nothing.
        let spooled = self.received.is_some_and(|received| received > 0);
        spooled && extent.position == 0
    }

    fn ends_early(&self, extent: &Extent) -> bool {
        let counted = extent.counts.get(Cause::Received);
        let behind = extent.position > 0 && extent.position < self.applied;
        behind && self.received.is_some_and(|received| counted < received)
    }
}

/// What a spool lacks of what the last checkpoint says was in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// All of it, not only its newest part.
    all: bool,
    /// What is lost with it, unless that was acknowledged since.
    pub lost: Option<Damage>,
    /// Batches waited in it.
    waited: bool,
}

impl Lacking {
    /// Of a spool that isn't opened yet.
    pub fn seen(saved: &Saved, extent: &Extent) -> Option<Self> {
        let Saved { position: applied, received, unacked, .. } = *saved;
        Self::of(&Told { applied, received, unacked }, extent)
    }

    fn of(told: &Told, extent: &Extent) -> Option<Self> {
        let all = told.spool_is_gone(extent);
        if !all && !told.ends_early(extent) {
            return None;
        }
        let lost = told.unacked.and_then(|unacked| {
            let Unacked { mut first, last, mut rows, from_ns, to_ns, cut } = unacked;
            if let Some((epoch, shipped)) = cut.filter(|_| !all) {
                // What it still has isn't lost. Thinning since then may have made few rows of many readings, which aren't either.
                let counted = |cause| extent.counts.get(cause);
                let received = told.received.unwrap_or(0).saturating_sub(counted(Cause::Received));
                rows = rows.min(received.max(shipped.saturating_sub(counted(Cause::Shipped))));
                if extent.epoch == Some(epoch) {
                    first = first.max(extent.next_seq).min(last);
                }
            }
            let readings = Readings::AtMost(rows);
            (rows > 0).then_some(Damage {
                part: Part::Spool,
                first,
                last,
                from_ns,
                to_ns,
                readings,
                again: 0,
            })
        });
        Some(Self { all, lost, waited: told.unacked.is_some() })
    }
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.all {
            true => "the spool is gone",
            false => {
                "the spool ends before what the last checkpoint says: its newest part is gone, or it is an older copy"
            }
        })?;
        match (self.lost, self.waited) {
            (Some(Damage { first, last, readings: Readings::AtMost(rows), .. }), _) => write!(
                f,
                ": its batches {first} to {last} with at most {rows} readings, which were not acknowledged, \
                 are lost, and not counted"
            ),
            (_, true) => f.write_str(": no batch that was not acknowledged held a reading"),
            (_, false) => f.write_str(": as of the last checkpoint all that was in it was acknowledged"),
        }
    }
}

/// Numbers that no journal has used, where nobody can say which were.
const BEYOND: Position = 1 << 32;

/// Lets the journal's numbers go on behind what spool and checkpoint have of it; `checkpoint` is the fold's file. One that ends
/// before was taken away by somebody, or its newest part: what came after those records and was in no batch yet is gone with it,
/// and is noted, for nobody knows how much. Call it before anything is appended.
pub fn number_on(journal: &Journal, spool: &Spool, checkpoint: &Path) {
    let (last, spooled) = (journal.last(), spool.position());
    let saved = match Checkpoint::peek(&*spool.storage(), checkpoint) {
        Ok(saved) => saved,
        // It is waited for, and nobody else knows of the numbers before.
        Err(_) if last == 0 && spooled == 0 => return journal.skip_to(BEYOND),
        Err(_) => None,
    };
    let (applied, tallied) = saved.map_or((0, None), |saved| (saved.position, saved.tallied));
    let known = spooled.max(applied);
    if known <= last {
        return;
    }
    let (first, part, readings) = (last + 1, Part::Journal, Readings::Unknown);
    let damage = Damage { part, first, last: known, from_ns: None, to_ns: None, readings, again: 0 };
    if spool.note_damage(damage) {
        tracing::error!("{}", damage.sentence());
    }
    journal.skip_to(known);
    if let Some(tallied) = tallied.filter(|_| applied > last) {
        journal.count_on(tallied);
    }
}

pub(crate) fn spool_is_gone(work: &Folding) -> bool {
    Told::by(work).spool_is_gone(&work.spool.extent())
}

/// Whether the spool has less than it had at the checkpoint, which is written only once what it speaks of is durable in
/// batches and named by the cursor. Its position alone says nothing: behind it there may have been ticks.
pub(crate) fn ends_early(work: &Folding) -> bool {
    Told::by(work).ends_early(&work.spool.extent())
}
