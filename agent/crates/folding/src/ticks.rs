//! When a tick is due. The fold sees no clock: that time has passed it learns from records, and each
//! costs a sync of the disk.

use std::time::Duration;

use telemetry::Stamp;

/// Not more often than this, however much waits for one.
const NOT_BEFORE: Duration = Duration::from_secs(1);
/// With nothing that waits for time to pass one in so long is enough.
const AT_LATEST: Duration = Duration::from_secs(10);

pub(crate) struct Ticks {
    /// When the last was appended, by the monotonic clock.
    last: u64,
    /// When the fold waits for one, by the monotonic clock, as of the last look.
    due: Option<u64>,
    clock_was_set: bool,
}

impl Ticks {
    pub(crate) fn new(now: Stamp) -> Self {
        Self { last: now.mono, due: None, clock_was_set: false }
    }

    /// How long until then; zero when it is now. `set` says whether the clock can be trusted.
    pub(crate) fn patience(&self, now: Stamp, set: bool) -> Duration {
        if set != self.clock_was_set {
            return Duration::ZERO;
        }
        let since = Duration::from_nanos(now.mono.saturating_sub(self.last));
        let due = self.due.map_or(AT_LATEST, |due| Duration::from_nanos(due.saturating_sub(now.mono)));
        due.max(NOT_BEFORE.saturating_sub(since)).min(AT_LATEST.saturating_sub(since))
    }

    pub(crate) fn appended(&mut self, now: Stamp, set: bool) {
        // Looked up anew once the fold has seen this one.
        *self = Self { last: now.mono, due: None, clock_was_set: set };
    }

    pub(crate) fn wanted(&mut self, due: Option<u64>) {
        self.due = due;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64) -> Stamp {
        Stamp { wall: 1_800_000_000_000_000_000, mono: seconds * SECOND }
    }

    #[test]
    fn a_tick_comes_when_the_fold_waits_for_one_and_else_every_ten_seconds() {
        let mut ticks = Ticks::new(at(50));
        assert_eq!(ticks.patience(at(50), true), Duration::ZERO, "the clock was set: the fold must know");
        ticks.appended(at(50), true);
        let seconds = |ticks: &Ticks, now| ticks.patience(at(now), true).as_secs();
        assert_eq!(seconds(&ticks, 50), 10);
        ticks.wanted(Some(53 * SECOND));
        assert_eq!(seconds(&ticks, 50), 3);
        ticks.wanted(Some(0));
        assert_eq!(seconds(&ticks, 50), 1, "not more often than once a second");
        assert_eq!(seconds(&ticks, 52), 0);
        ticks.wanted(None);
        assert_eq!(seconds(&ticks, 52), 8);
        assert_eq!(ticks.patience(at(52), false), Duration::ZERO, "the clock was lost");
    }
}
