//! Keeping the caps: who gives way when there isn't room for all, and how the room comes free.
//!
//! The log frees whole segments, and batches of all classes lie in one. So making room has two steps.
//! *Give way*: batches are chosen and replaced by losses (or, thinned, by windows), the lowest priority
//! first, in each by its class's policy, and of each those that were never offered before those that were.
//! *Clean*: of the segments that are complete the one with the most dead bytes is emptied, what is live in
//! it being written again at the end of the log, and unlinked. With one class all of a segment gives way
//! and nothing is copied; with several, what is copied is what was kept.
//!
//! DURABILITY: a copy is synced, and the cursor written, before the segment that held it goes.

use std::sync::Arc;
use std::time::Duration;

use telemetry::Cause;

use crate::SpoolError;
use crate::class::{Overflow, Priority};
use crate::entry::Entry;
use crate::group::Group;
use crate::record::Loss;
use crate::state::{Order, State};
use crate::writer::{Act, Writer, unwritten};

/// Of a segment, which no record needs.
const HEADER: u64 = 64;
/// Payload bytes that are thinned at once, and batches.
const THIN_BYTES: u64 = 4 << 20;
const THIN_BATCHES: usize = 256;
/// How often is looked for what is too old: a long backlog is a hundred thousand batches.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// A segment and what of it is needed.
struct Segment {
    first: u64,
    bytes: u64,
    live: u64,
    /// The newest: it is being written and stays.
    open: bool,
}

/// Who gives way.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// These are dropped.
    Drop(Vec<Order>),
    /// These become windows of so many nanoseconds.
    Thin(i64, Vec<Order>),
    /// Whoever is left may not be dropped.
    Blocked,
    /// Nobody is left but in the newest segment.
    Nobody,
}

impl Writer {
    /// Drops what is too old, and makes room while the log is over its cap.
    pub(crate) fn keep_caps(&mut self) -> Result<(), SpoolError> {
        self.expire()?;
        if self.excess() == 0 {
            self.state.lock().blocked = false;
            return Ok(());
        }
        let mut rounds = 2 + 2 * self.log.as_ref().map_or(0, |log| log.readers().segments().len());
        let mut dropped = 0;
        let mut blocked = false;
        while rounds > 0 {
            rounds -= 1;
            let excess = self.excess();
            if excess == 0 {
                break;
            }
            if self.release_done() {
                continue;
            }
            let dead: u64 = self.segments().iter().filter(|one| !one.open).map(Segment::dead).sum();
            let wanted = excess.max(self.config.segment_bytes);
            blocked = false;
            let way = if dead < wanted { self.way(wanted - dead) } else { Way::Nobody };
            let gave = matches!(way, Way::Drop(_) | Way::Thin(..));
            match way {
                Way::Drop(orders) => dropped += self.give_way(orders)?,
                Way::Thin(window, orders) => self.thin(window, &orders)?,
                Way::Blocked => blocked = true,
                Way::Nobody => {}
            }
            self.save_losses()?;
            if !self.clean()? && !gave {
                break;
            }
        }
        self.state.lock().blocked = blocked;
        if dropped > 0 {
            tracing::warn!(
                batches = dropped,
                "the spool is over a cap: batches were dropped, those of the lowest priority first, and are reported as lost"
            );
        }
        Ok(())
    }

    /// Bytes over the cap, or short of the free space that others need where readings are to give way to them.
    fn excess(&self) -> u64 {
        let Some(log) = &self.log else { return 0 };
        let over = log.bytes().saturating_sub(self.config.max_bytes);
        if !self.config.drop_at_floor {
            return over;
        }
        let free = self.storage.free_bytes(&self.config.dir).unwrap_or(u64::MAX);
        let short = self.config.min_free_bytes.saturating_sub(free);
        // The reserve is not dropped: others would get little by it, and nothing would get through any more.
        over.max(short.min(log.bytes().saturating_sub(self.reserve())))
    }

    fn segments(&self) -> Vec<Segment> {
        let Some(log) = &self.log else { return Vec::new() };
        let mut segments: Vec<Segment> = log
            .readers()
            .segments()
            .into_iter()
            .map(|(_, first, bytes)| Segment { first, bytes, live: 0, open: false })
            .collect();
        if let Some(newest) = segments.last_mut() {
            newest.open = true;
        }
        for (_, entry) in self.state.lock().entries() {
            let at = segments.partition_point(|segment| segment.first <= entry.record);
            if let Some(segment) = at.checked_sub(1).and_then(|at| segments.get_mut(at)) {
                segment.live += u64::from(entry.size);
            }
        }
        segments
    }

    /// Puts losses in the place of batches.
    fn give_way(&mut self, orders: Vec<Order>) -> Result<u64, SpoolError> {
        let open = self.segments().last().map_or(0, |segment| segment.first);
        let inside = {
            let state = self.state.lock();
            orders.iter().any(|order| state.entry(*order).is_some_and(|entry| entry.record >= open))
        };
        if inside && let Some(log) = &mut self.log {
            // What gives way in the newest segment comes free only when that is no longer the newest.
            log.roll().map_err(unwritten)?;
        }
        self.drop_entries(orders, Cause::Overflowed)
    }

    /// Empties the complete segment with the most dead bytes. False when none has any.
    fn clean(&mut self) -> Result<bool, SpoolError> {
        let segments = self.segments();
        let oldest = segments.first().map_or(0, |segment| segment.first);
        let free = |one: &&Segment| {
            // A cut's first part counts only with the last: they go together, oldest first.
            let whole = one.first == oldest || !self.continued.contains(&one.first);
            !one.open && one.dead() > HEADER && whole
        };
        let worst = segments.iter().filter(free).max_by_key(|one| one.dead());
        let Some(first) = worst.map(|segment| segment.first) else { return Ok(false) };
        let until = segments.iter().map(|one| one.first).find(|other| *other > first).unwrap_or(u64::MAX);
        let inside: Vec<(Order, Entry)> = {
            let state = self.state.lock();
            let inside = state.entries().filter(|(_, entry)| (first..until).contains(&entry.record));
            inside.map(|(order, entry)| (order, entry.clone())).collect()
        };
        let mut acts = Vec::new();
        for (order, entry) in inside {
            let Some(key) = self.state.lock().key_of(order) else { continue };
            let (t0, t1) = (entry.t0, entry.t1);
            let loss = |counts| Act::Lose { order, loss: Loss { key, t0, t1, counts } };
            acts.push(if entry.loss {
                loss(entry.counts.counts())
            } else if let Some((head, payload)) = self.read(&entry)? {
                let mut head = (*head).clone();
                head.key = key;
                head.offered = entry.marked || entry.offered;
                head.replaces = Vec::new();
                Act::Move { order, head: Box::new(head), payload }
            } else {
                tracing::error!(seq = key.seq, epoch = %key.epoch, "a batch in the spool is damaged and is reported as lost");
                loss(entry.lost(Cause::Damaged))
            });
        }
        if !acts.is_empty() {
            self.commit(acts)?;
        }
        self.release_segment(first)
    }

    /// What expires: its newest reading is older than the age cap.
    fn expire(&mut self) -> Result<(), SpoolError> {
        let Some(max_age) = self.config.max_age else { return Ok(()) };
        let old: Vec<Order> = {
            let mut state = self.state.lock();
            let now = state.now;
            if self.expired_at.is_some_and(|at| now.saturating_sub(at) < EXPIRE_EVERY) {
                return Ok(());
            }
            self.expired_at = Some(now);
            let max_age = i64::try_from(max_age.as_nanos()).unwrap_or(i64::MAX);
            let (sure, limit) = state.expired_before(max_age);
            let batches = state.entries().filter(|(_, entry)| !entry.loss);
            let timed = batches.filter_map(|(order, entry)| Some((order, state.times(entry)?.1)));
            // All are looked at: what came late lies behind younger ones.
            let old = timed.filter(|(_, newest)| *newest < limit);
            let (old, kept): (Vec<_>, Vec<_>) =
                old.partition(|(_, newest)| sure.is_some_and(|sure| *newest < sure));
            state.age_keeps(kept.len() as u64);
            old.into_iter().map(|(order, _)| order).collect()
        };
        let dropped = self.drop_entries(old, Cause::Expired)?;
        if dropped > 0 {
            tracing::warn!(
                batches = dropped,
                "batches in the spool are too old: they were dropped and are reported as lost"
            );
        }
        Ok(())
    }

    /// Puts losses in the place of batches; losses among them are written again, further on in the log.
    fn drop_entries(&mut self, orders: Vec<Order>, cause: Cause) -> Result<u64, SpoolError> {
        let (mut acts, mut batches) = (Vec::new(), 0);
        {
            let state = self.state.lock();
            for order in orders {
                let (Some(entry), Some(key)) = (state.entry(order), state.key_of(order)) else { continue };
                let counts = if entry.loss {
                    entry.counts.counts()
                } else {
                    batches += 1;
                    entry.lost(cause)
                };
                acts.push(Act::Lose { order, loss: Loss { key, t0: entry.t0, t1: entry.t1, counts } });
            }
        }
        if !acts.is_empty() {
            self.commit(acts)?;
        }
        Ok(batches)
    }

    /// True when a new batch of a class that keeps its oldest has no room, and nothing of a lower priority is there to give way.
    pub(crate) fn turns_away(&self, priority: Priority, overflow: Overflow, bytes: usize) -> bool {
        let bytes_after = self.log.as_ref().map_or(0, seglog::Log::bytes) + bytes as u64;
        overflow == Overflow::DropNewest
            && bytes_after > self.config.max_bytes
            && self.state.lock().shares[..priority as usize].iter().all(|share| share.batches == 0)
    }

    fn way(&self, wanted: u64) -> Way {
        let open = self.segments().last().map_or(0, |segment| segment.first);
        way(&self.state.lock(), wanted, open)
    }
}

impl Segment {
    fn dead(&self) -> u64 {
        self.bytes.saturating_sub(self.live)
    }
}

/// Who gives way so that about so many bytes come free. In the segment that begins with `open` nothing does
/// but what keeps its oldest: it is being written, and the newest readings are there.
fn way(state: &State, wanted: u64, open: u64) -> Way {
    for priority in [Priority::Low, Priority::Normal, Priority::High] {
        let of = || {
            state.entries().filter(move |(_, entry)| !entry.loss && entry.group.class.priority == priority)
        };
        let mut chosen = Vec::new();
        let mut bytes = 0;
        // Groups of which nothing is left to be thinned.
        let mut thin: Vec<Arc<Group>> = Vec::new();
        for (policy, offered) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut orders: Vec<(Order, &Entry)> = of()
                .filter(|(_, entry)| entry.offered == offered)
                .filter(|(_, entry)| match entry.group.class.overflow {
                    Overflow::DropNewest => policy,
                    Overflow::DropOldest | Overflow::Thin(_) => !policy && entry.record < open,
                    Overflow::Block => false,
                })
                .collect();
            if policy {
                orders.reverse();
            }
            for (order, entry) in orders {
                if bytes >= wanted {
                    break;
                }
                if let Overflow::Thin(window) = entry.group.class.overflow
                    && !thin.contains(&entry.group)
                {
                    // Windows are dropped when nothing of their class is left to be thinned.
                    let orders = thinned(state, entry);
                    if !orders.is_empty() && !chosen.is_empty() {
                        // What is older goes first; then there may be room.
                        return Way::Drop(chosen);
                    }
                    if !orders.is_empty() {
                        return Way::Thin(window, orders);
                    }
                    thin.push(Arc::clone(&entry.group));
                }
                bytes += u64::from(entry.size);
                chosen.push(order);
            }
        }
        if !chosen.is_empty() {
            return Way::Drop(chosen);
        }
        if of().any(|(_, entry)| entry.group.class.overflow == Overflow::Block) {
            // Nothing that is worth more goes for its sake.
            return Way::Blocked;
        }
    }
    Way::Nobody
}

/// True where a batch may be thinned: it has raw samples with true times, and was never offered.
fn thins(entry: &Entry) -> bool {
    matches!(entry.group.class.overflow, Overflow::Thin(_))
        && entry.samples > 0
        && !entry.offered
        && !entry.marked
        && entry.group.clock.is_none()
}

/// The oldest batches that may be thinned together, of one's class: as many as is done at once, and one at least.
fn thinned(state: &State, like: &Entry) -> Vec<Order> {
    let mut bytes = 0;
    let alike = state.entries().filter(|(_, entry)| !entry.loss && entry.group == like.group && thins(entry));
    let within = alike.take_while(|(_, entry)| {
        let first = bytes == 0;
        bytes += u64::from(entry.bytes);
        first || bytes <= THIN_BYTES
    });
    within.take(THIN_BATCHES).map(|(order, _)| order).collect()
}
