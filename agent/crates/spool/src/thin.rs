//! Thinning: raw batches that nobody was offered become one batch of windows, which takes less room.
//!
//! The new batch's record carries the losses that fill the old ones' seqs (`replaces`), so that both are in
//! the log or neither is; an echo behind it says the same once more, should it be damaged later (`recover.rs`). A loss counts the batch's samples as reduced to windows; the windows are counted as
//! derived and shipped where they travel. Windows and events that were in the old batches move as they are, in a batch of
//! their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use telemetry::{Aggregate, Cause, Counts, Rows, SampleFlags, SeriesRef, WindowRow};

use crate::SpoolError;
use crate::cut::{Cut, Cutter};
use crate::entry::Entry;
use crate::record::{Echo, Loss};
use crate::state::Order;
use crate::traced::Sampled;
use crate::writer::{Act, Writer};

/// Not worth it unless what comes out takes less than this share, in percent.
const WORTH: usize = 75;

impl Writer {
    /// Thins batches, all of one group. Those for which it isn't worth it, or that can't be read, are
    /// marked, so that they are dropped when it is their turn.
    pub(crate) fn thin(&mut self, window: i64, orders: &[Order]) -> Result<(), SpoolError> {
        let mut rows = Rows::default();
        let mut open: BTreeMap<(u32, i64), Aggregate> = BTreeMap::new();
        let mut losses = Vec::new();
        let mut group = None;
        let mut unreadable = Vec::new();
        let (mut first, mut last, mut before_bytes) = (u64::MAX, 0, 0);
        for order in orders {
            let found = {
                let state = self.state.lock();
                state.entry(*order).cloned().zip(state.key_of(*order))
            };
            let Some((entry, key)) = found else { continue };
            let payload = self.read(&entry)?.and_then(|(head, payload)| {
                let decoded = wire::payload::decode(&payload).ok()?;
                Some((head, decoded, payload.len()))
            });
            let known = payload.and_then(|(head, payload, bytes)| {
                Some((self.references(&head.series)?, head, payload, bytes))
            });
            let Some((refs, head, payload, bytes)) = known else {
                unreadable.push(*order);
                continue;
            };
            for (number, time, value, flags) in payload.samples() {
                let Some(series) = refs.get(&number) else { continue };
                let uncertain = flags & SampleFlags::CLOCK_UNCERTAIN != 0;
                if !value.is_finite() || uncertain {
                    // A window has no place for them: they stay as they are.
                    rows.push_sample(*series, time, value, flags);
                    continue;
                }
                let (start, _) = telemetry::window_bounds(time, window);
                open.entry((series.0, start)).or_default().add(time, value);
            }
            for row in payload.windows {
                let Some(series) = refs.get(&row.id) else { continue };
                rows.windows.push(window_row(row, *series));
            }
            rows.events.extend(payload.events);
            losses.push((Loss { key, t0: entry.t0, t1: entry.t1, counts: Counts::new() }, entry));
            group.get_or_insert(head.group);
            first = first.min(head.first_position);
            last = last.max(head.last_position);
            before_bytes += bytes;
        }
        self.not_worth(&unreadable);
        let (kept, raw) =
            (rows.series.len() as u64, open.values().map(|aggregate| aggregate.row().count).sum::<u64>());
        let mut fresh = Rows::default();
        fresh.count(Cause::Derived, open.len() as u64);
        fresh.windows.extend(open.into_iter().map(|((series, start), aggregate)| {
            let (start, end) = telemetry::window_bounds(start, window);
            aggregate.into_row(SeriesRef(series), start, end.wrapping_sub(start))
        }));
        let Some(group) = group.filter(|_| raw > 0) else {
            self.not_worth(orders);
            return Ok(());
        };
        let mut pieces = Vec::new();
        let mut cutter = Cutter {
            classes: &mut self.classes,
            encoder: &mut self.encoder,
            numbering: &mut self.numbering,
            table: &self.table,
            state: &self.state,
        };
        if rows.has_readings() {
            cutter.group(group, rows, &mut pieces);
        }
        // Apart from what moved as it was: a batch of theirs that is lost is as many readings as they were made of.
        cutter.thinned(group, fresh, &mut pieces);
        let after_bytes: usize = pieces.iter().map(|piece| piece.encoded.bytes.len()).sum();
        if after_bytes * 100 > before_bytes * WORTH {
            self.not_worth(orders);
            return Ok(());
        }
        let losses = settle(losses, kept);
        let mut acts = self.named(pieces, (first, last, None), None, &losses, &Sampled::default())?;
        // All or none: the last part carries the losses.
        let replaces: Vec<Loss> = losses.into_iter().map(|(loss, _)| loss).collect();
        let mut counts = Counts::new();
        let cuts = acts.iter().filter_map(|act| match act {
            Act::Cut(cut) => Some(&cut.head),
            _ => None,
        });
        cuts.for_each(|head| counts.merge(&head.counts));
        if let Some(Act::Cut(Cut { head, .. })) = acts.last_mut() {
            let head = Arc::make_mut(head);
            let mut after = head.before.clone();
            after.merge(&head.counts);
            head.replaces.clone_from(&replaces);
            let echo = Echo { key: head.key, thinned: raw, counts, after, replaces };
            acts.push(Act::Echo(echo));
        }
        self.commit(acts)
    }

    /// The series behind numbers; `None` when one isn't known.
    fn references(&self, numbers: &[u32]) -> Option<BTreeMap<u32, SeriesRef>> {
        let state = self.state.lock();
        let of = |number: &u32| Some((*number, self.table.find(&state.names.get(number)?.key)?));
        numbers.iter().map(of).collect()
    }

    /// They are dropped when it is their turn.
    fn not_worth(&mut self, orders: &[Order]) {
        let mut state = self.state.lock();
        for order in orders {
            if let Some(entry) = state.entry_mut(*order) {
                entry.samples = 0;
            }
        }
    }
}

/// What each batch's loss counts: its own counts, its samples being reduced to windows instead of shipped. All
/// rows but those samples were moved and are counted as shipped where they are now; so are `kept` samples,
/// which are taken from the first batches that have as many.
fn settle(losses: Vec<(Loss, Entry)>, mut kept: u64) -> Vec<(Loss, Entry)> {
    let one = |(mut loss, entry): (Loss, Entry)| {
        let stays = kept.min(entry.samples.into());
        kept -= stays;
        for (cause, n) in entry.counts.counts().iter() {
            let moved = if cause == Cause::Shipped { u64::from(entry.rows) } else { 0 };
            loss.counts.add(cause, n.saturating_sub(moved));
        }
        loss.counts.add(Cause::ReducedWindow, u64::from(entry.samples) - stays);
        (loss, entry)
    };
    losses.into_iter().map(one).collect()
}

fn window_row(row: wire::payload::Window, series: SeriesRef) -> WindowRow {
    let wire::payload::Window { start, length, count, sum, min, max, first, last, bins, .. } = row;
    WindowRow { series, start, length, count, sum, min, max, first, last, bins }
}
