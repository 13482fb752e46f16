//! The watchdog: the service manager is told that the agent is alive as long as its pipeline really turns.
//!
//! Three workers carry every reading: the journal's committing thread, the fold's thread, the uplink's task. Each has a
//! [`telemetry::Pulse`] that it beats whenever it passes its loop, at least every [`telemetry::BEAT`] (5 s) also when it is idle,
//! when the disk is full or the collector away. The rule here is one sentence: **the manager is told once all of them have passed
//! since it was told last.** So this has no limit of its own. The limit is `WatchdogSec` alone, and what stands still for that
//! long, whoever it is, is ended by systemd and started anew: an fsync that never returns, a lock that is never given back, an
//! endless loop, a runtime whose threads are all blocked (then this isn't run at all).
//!
//! What is said before the end: who stands still, in the log and in the status, from half of that time on.

use std::time::{Duration, Instant};

/// One worker.
struct Worker {
    name: &'static str,
    beats: Box<dyn Fn() -> u64 + Send>,
    seen: u64,
    /// When it was last seen to have passed.
    at: Instant,
    /// It has passed since the manager was told last.
    passed: bool,
    told: bool,
}

/// Watches workers.
pub struct Watchdog(Vec<Worker>);

impl Watchdog {
    /// Watches nobody yet.
    pub fn new() -> Self {
        Self(Vec::new())
    }

    /// Watches a worker by the count of its beats, from now on.
    #[must_use]
    pub fn on(mut self, name: &'static str, now: Instant, beats: impl Fn() -> u64 + Send + 'static) -> Self {
        self.0.push(Worker {
            name,
            seen: beats(),
            beats: Box::new(beats),
            at: now,
            passed: false,
            told: false,
        });
        self
    }

    /// Looks at all. True when each has passed since this was last true: then the manager is to be told.
    pub fn look(&mut self, now: Instant) -> bool {
        for worker in &mut self.0 {
            let beats = (worker.beats)();
            if beats != worker.seen {
                (worker.seen, worker.at, worker.passed) = (beats, now, true);
                if std::mem::take(&mut worker.told) {
                    tracing::info!(worker = worker.name, "goes on");
                }
            }
        }
        let all = self.0.iter().all(|worker| worker.passed);
        if all {
            self.0.iter_mut().for_each(|worker| worker.passed = false);
        }
        all
    }

    /// Who stands still for this long or longer, in words; logged once each time.
    pub fn stuck(&mut self, now: Instant, limit: Duration) -> Option<String> {
        let mut words = Vec::new();
        for worker in &mut self.0 {
            let still = now.saturating_duration_since(worker.at);
            if still < limit {
                continue;
            }
            words.push(format!("the {} stands still for {} s", worker.name, still.as_secs()));
            if !std::mem::replace(&mut worker.told, true) {
                tracing::error!(
                    worker = worker.name,
                    still_s = still.as_secs(),
                    "stands still: the service manager is not told that the agent is alive, and will restart it"
                );
            }
        }
        (!words.is_empty()).then(|| words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use telemetry::Pulse;

    use super::*;

    fn bench() -> (Arc<Pulse>, Arc<Pulse>, Watchdog, Instant) {
        let (fold, uplink, now) = (Arc::new(Pulse::default()), Arc::new(Pulse::default()), Instant::now());
        let (one, two) = (Arc::clone(&fold), Arc::clone(&uplink));
        let dog = Watchdog::new().on("fold", now, move || one.beats()).on("uplink", now, move || two.beats());
        (fold, uplink, dog, now)
    }

    #[test]
    fn the_manager_is_told_when_all_have_passed_since_it_was_told_last() {
        let (fold, uplink, mut dog, now) = bench();
        assert!(!dog.look(now), "nobody has passed yet");
        fold.beat();
        assert!(!dog.look(now), "only one has");
        uplink.beat();
        assert!(dog.look(now), "one earlier, one now");
        assert!(!dog.look(now), "both have to pass again");
        fold.beat();
        uplink.beat();
        assert!(dog.look(now));
    }

    #[test]
    fn one_that_stands_still_stops_the_feeding_however_fast_the_other_turns_and_is_named() {
        let (fold, uplink, mut dog, now) = bench();
        let limit = Duration::from_secs(60);
        fold.beat();
        uplink.beat();
        assert!(dog.look(now));
        for second in 1..=120 {
            uplink.beat();
            let now = now + Duration::from_secs(second);
            assert!(!dog.look(now), "the fold stands still");
            let said = dog.stuck(now, limit);
            assert_eq!(said.is_some(), second >= 60);
            assert!(said.is_none_or(|said| said == format!("the fold stands still for {second} s")));
        }
        fold.beat();
        let now = now + Duration::from_secs(121);
        assert!(dog.look(now), "it goes on");
        assert_eq!(dog.stuck(now, limit), None);
    }
}
