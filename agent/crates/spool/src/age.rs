//! By which clock what waits is too old.
//!
//! What expires is lost, so no clock decides that by itself: one that is a year ahead for a minute would take all that waits.
//! Age is by event time (`room.rs`) at a moment that three agree on: the newest reading, the host's clock, and one of these, the best that is there:
//!
//! - **A witness**: a time service that keeps this host's clock, as the kernel says ([`Spool::witness`]), and the collector, by its
//!   greetings. What either said goes on by the time since boot; where both spoke, the earlier counts.
//! - **The clock itself, as it was**: the least that it said since the start, also going on by the time since boot. So a step
//!   ahead makes nothing older. At the start it counts if it is at most a day later than when the spool was in use last, as its batches
//!   tell; one that is later may be right or wrong, and waits for a witness.
//!
//! What would expire by the host's clock alone is kept, and [`Spool::age_kept`] says how much that is.

use telemetry::{Stamp, clock};

use crate::Spool;
use crate::state::State;

/// At a start this much later than before is no surprise.
const UNSURPRISING: i64 = 86_400_000_000_000;

/// What is known of the time, each but `mono` as what to add to the time since this boot.
#[derive(Debug, Default)]
pub(crate) struct AgeClock {
    /// Nanoseconds since this boot, when it was looked at last.
    mono: i64,
    /// When the spool was in use last; found out once.
    used: Option<Option<i64>>,
    own: Option<i64>,
    kernel: Option<i64>,
    collector: Option<i64>,
    /// Batches that are too old by the host's clock alone.
    kept: u64,
}

impl AgeClock {
    /// The host's clocks.
    fn look(&mut self, at: Stamp, used: impl FnOnce() -> Option<i64>) {
        self.pass(at);
        if !at.is_set() {
            return;
        }
        let used = *self.used.get_or_insert_with(used);
        let offset = at.wall.saturating_sub(since_boot(at));
        let unsurprising = used.is_none_or(|used| at.wall.saturating_sub(used) <= UNSURPRISING);
        self.own = match self.own {
            Some(own) => Some(own.min(offset)),
            None => unsurprising.then_some(offset),
        };
    }

    fn pass(&mut self, at: Stamp) {
        self.mono = self.mono.max(since_boot(at));
    }

    /// What time it is at least; `None` where nobody can be believed.
    fn now(&self) -> Option<i64> {
        let witness = [self.kernel, self.collector].into_iter().flatten().min();
        witness.or(self.own).map(|offset| offset.saturating_add(self.mono))
    }
}

fn since_boot(at: Stamp) -> i64 {
    i64::try_from(at.mono).unwrap_or(i64::MAX)
}

impl State {
    /// The host's clocks, for ages.
    pub(crate) fn age_look(&mut self, at: Stamp) {
        let mut age = std::mem::take(&mut self.clocks.age);
        age.look(at, || self.used());
        self.clocks.age = age;
    }

    /// The collector's clock, for ages.
    pub(crate) fn age_told(&mut self, at: Stamp, collector: i64) {
        let age = &mut self.clocks.age;
        age.pass(at);
        if collector >= clock::SET_AFTER {
            age.collector = Some(collector.saturating_sub(since_boot(at)));
        }
    }

    /// When the spool was in use last: batch after batch, but for what is ahead of those before it by more than that explains.
    fn used(&self) -> Option<i64> {
        let batches = self.entries().filter(|(_, entry)| !entry.loss);
        let times = batches.filter_map(|(_, entry)| self.times(entry)).map(|times| times.1);
        times.reduce(
            |used, newest| {
                if newest.saturating_sub(used) <= UNSURPRISING { used.max(newest) } else { used }
            },
        )
    }

    /// What is older than this, by its newest reading, has expired. What lies ahead of the clock (a sensor's error, or one of this
    /// clock that was put right) makes nothing older than it is, and waiting for a clock doesn't either.
    pub(crate) fn expired_before(&self, max_age: i64) -> (Option<i64>, i64) {
        let newest = self.clocks.wall.map_or(self.newest_t1, |wall| wall.min(self.newest_t1));
        let sure = self.clocks.age.now().map(|now| now.min(newest).saturating_sub(max_age));
        (sure, newest.saturating_sub(max_age))
    }

    /// So many batches are too old by the host's clock alone.
    pub(crate) fn age_keeps(&mut self, batches: u64) {
        if batches > 0 && self.clocks.age.kept == 0 {
            tracing::warn!(
                batches,
                "batches are older than spool.max_age by this host's clock, which may be wrong: they are kept until a time service or the collector confirms it"
            );
        }
        self.clocks.age.kept = batches;
    }
}

impl Spool {
    /// A time service keeps this host's clock, which says this now.
    pub fn witness(&self, at: Stamp) {
        let age = &mut self.0.state.lock().clocks.age;
        age.pass(at);
        if at.is_set() {
            age.kernel = Some(at.wall.saturating_sub(since_boot(at)));
        }
    }

    /// Batches that are older than the age cap by this host's clock alone, and are kept until somebody confirms it.
    pub fn age_kept(&self) -> u64 {
        self.0.state.lock().clocks.age.kept
    }
}
