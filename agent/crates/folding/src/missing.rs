//! What a start finds gone that was there at the last checkpoint: a checkpoint, or a spool.

use std::path::Path;

use journal::Journal;
use spool::{Damage, Part, Readings, Spool, Unacked};
use telemetry::{Cause, Position};

use crate::checkpoint::Checkpoint;
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
    let what = match (spool_is_gone(work), ends_early(work)) {
        (true, _) => "the spool is gone",
        (_, true) => {
            "the spool ends before what the last checkpoint says: its newest part is gone, or it is an older copy"
        }
        _ => return None,
    };
    Some(match (lost_spool(work), work.unacked) {
        (Some(Damage { first, last, readings: Readings::AtMost(rows), .. }), _) => format!(
            "{what}: its batches {first} to {last} with at most {rows} readings, which were not acknowledged, \
             are lost, and not counted"
        ),
        (_, Some(_)) => format!("{what}: no batch that was not acknowledged held a reading"),
        (_, None) => format!("{what}: as of the last checkpoint all that was in it was acknowledged"),
    })
}

/// What was in a spool that is gone, or in the part of it that is. The collector may have some of it, whose acknowledgement
/// came after the checkpoint: so it is told, and not counted.
pub(crate) fn lost_spool(work: &Folding) -> Option<Damage> {
    let Unacked { mut first, last, mut rows, from_ns, to_ns, cut } = work.unacked?;
    if !spool_is_gone(work) {
        if !ends_early(work) {
            return None;
        }
        let usage = work.spool.usage();
        let counted = |cause| usage.counts.get(cause);
        if let Some((epoch, shipped)) = cut {
            // What it still has isn't lost. Thinning since then may have made few rows of many readings, which aren't either.
            let received = work.received.unwrap_or(0).saturating_sub(counted(Cause::Received));
            rows = rows.min(received.max(shipped.saturating_sub(counted(Cause::Shipped))));
            if usage.epoch == Some(epoch) {
                first = first.max(usage.next_seq).min(last);
            }
        }
    }
    let readings = Readings::AtMost(rows);
    (rows > 0).then_some(Damage { part: Part::Spool, first, last, from_ns, to_ns, readings, again: 0 })
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
    tracing::error!(
        first_missing = last + 1,
        "the journal, or its newest part, is gone: readings in it that were in no batch yet are lost, and nobody knows how many"
    );
    spool.note_damage(Damage {
        part: Part::Journal,
        first: last + 1,
        last: known,
        from_ns: None,
        to_ns: None,
        readings: Readings::Unknown,
        again: 0,
    });
    journal.skip_to(known);
    if let Some(tallied) = tallied.filter(|_| applied > last) {
        journal.count_on(tallied);
    }
}

pub(crate) fn spool_is_gone(work: &Folding) -> bool {
    // Batches carry what was received: so many counted means that there was one, whose position a spool keeps even when
    // it is empty. That the last records gave no rows, as ticks and readings of open windows do, says nothing.
    let spooled = work.received.is_some_and(|received| received > 0);
    spooled && work.spool.position() == 0
}

/// Whether the spool has less than it had at the checkpoint, which is written only once what it speaks of is durable in
/// batches and named by the cursor. Its position alone says nothing: behind it there may have been ticks.
pub(crate) fn ends_early(work: &Folding) -> bool {
    let counted = work.spool.counted().get(Cause::Received);
    let position = work.spool.position();
    position > 0 && position < work.applied && work.received.is_some_and(|received| counted < received)
}
