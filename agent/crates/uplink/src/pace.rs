//! How much of the backlog may be under way: as much as keeps the link busy and no more.
//!
//! On a slow link everything that was sent and not yet delivered stands before a fresh reading, in the
//! kernel's and the modem's buffers where nobody can overtake. So the backlog goes by the delay of its acks,
//! as LEDBAT does (RFC 6817): while a batch takes hardly longer than the fastest one did, more is sent at
//! once; when it takes a [`TARGET`] longer, it stood in a queue of our own making, and less is. From time to
//! time the queue is let run dry, so that the fastest delay is known anew (as BBR does).

use std::time::Duration;

/// The delay beyond the fastest that the backlog may cause.
const TARGET: Duration = Duration::from_millis(150);
/// The fastest delay is measured anew this often.
const MEASURE: Duration = Duration::from_secs(30);
/// With hardly any backlog under way the delay is this much beyond the fastest, for so long: live batches fill the link by
/// themselves.
const FILLED: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));
/// Nothing is known of the link yet. It doubles with each ack, and a slow link must not begin with a long queue.
const FIRST: u64 = 4 << 10;
const LEAST: u64 = 2 << 10;
/// Doubling ends at this part of the target: what is on its way then doubles the queue once more before it is seen
/// (as HyStart ends slow start).
const DOUBLING: f64 = 0.25;
const MOST: u64 = 1 << 30;

/// The window of one session's backlog.
#[derive(Debug)]
pub(crate) struct Pace {
    window: u64,
    /// The fastest ack, and when it is to be measured again.
    base: Option<Duration>,
    measure_at: Duration,
    measuring: bool,
    /// The window was too large once.
    found: bool,
    /// Since when live batches alone seem to fill the link, and whether that is sure.
    filled_since: Option<Duration>,
    filled: bool,
    /// What was sent before this time says nothing of the window as it is now.
    since: Duration,
}

impl Pace {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            window: FIRST,
            base: None,
            measure_at: now + MEASURE,
            measuring: false,
            found: false,
            filled_since: None,
            filled: false,
            since: now,
        }
    }

    /// A batch that is larger goes in parts of at most so many bytes: two keep the link busy, and a fresh batch waits for one.
    pub(crate) fn part(&self) -> u64 {
        self.window / 2
    }

    /// May more of the backlog leave, with that much of it under way? One batch always may, and so may what the
    /// backlog's `share` of the whole allows: a link that live batches fill is theirs to share, not to yield.
    pub(crate) fn allows(&self, backlog: u64, live: u64, share: f64) -> bool {
        let shared = self.filled && (backlog as f64) < live as f64 * share;
        backlog == 0 || (!self.measuring && (backlog < self.window || shared))
    }

    /// A batch of the backlog was acknowledged; `beside` bytes of it were under way when it was sent, at `sent`.
    pub(crate) fn acked(&mut self, bytes: u64, beside: u64, sent: Duration, now: Duration) {
        let delay = now.saturating_sub(sent);
        if self.measuring {
            // The first one that was sent into an empty queue.
            if sent >= self.since {
                self.base = Some(delay);
                self.measuring = false;
                self.measure_at = now + MEASURE;
                self.since = now;
                // A whole window that leaves at once would be the queue that is to be avoided.
                self.window = (self.window / 2).max(LEAST);
            }
            return;
        }
        if now >= self.measure_at {
            (self.measuring, self.since) = (true, now);
            return;
        }
        let base = self.base.map_or(delay, |base| base.min(delay));
        self.base = Some(base);
        self.filled_since =
            (self.window == LEAST && delay > base + FILLED.0).then(|| self.filled_since.unwrap_or(now));
        self.filled = self.filled_since.is_some_and(|since| now >= since + FILLED.1);
        if delay < base + TARGET {
            // Only a window that was used is known to be too small.
            if beside * 2 >= self.window {
                // Doubles in the time of an ack until a queue shows; from then on carefully, the nearer the slower.
                let near = delay.saturating_sub(base).as_secs_f64() / TARGET.as_secs_f64();
                self.found |= near > DOUBLING;
                let part = if self.found { (1.0 - near) / 8.0 } else { 1.0 };
                self.window = (self.window + (bytes as f64 * part) as u64).min(MOST);
            }
        } else if sent >= self.since {
            self.window = (self.window.min(beside) / 4 * 3).max(LEAST);
            (self.found, self.since) = (true, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A link of so many bytes a second and a delay, fed with batches for as long as the pace allows.
    /// Returns the most that stood in its queue in the last half, in seconds, and what it carried a second.
    fn drive(rate: f64, delay: f64, batch: u64, seconds: u64) -> (f64, f64) {
        let (mut now, mut free_at) = (Duration::ZERO, Duration::ZERO);
        let end = Duration::from_secs(seconds);
        let mut pace = Pace::new(now);
        let mut flying: VecDeque<(Duration, Duration, u64)> = VecDeque::new();
        let (mut backlog, mut worst, mut carried) = (0, 0.0_f64, 0);
        while now < end {
            while pace.allows(backlog, 0, 0.0) {
                backlog += batch;
                free_at = free_at.max(now) + Duration::from_secs_f64(batch as f64 / rate);
                flying.push_back((free_at + Duration::from_secs_f64(delay), now, backlog));
                if now * 2 > end {
                    worst = worst.max((free_at.saturating_sub(now)).as_secs_f64());
                }
            }
            let Some((arrives, sent, beside)) = flying.pop_front() else { break };
            now = arrives;
            backlog -= batch;
            carried += batch;
            pace.acked(batch, beside, sent, now);
        }
        (worst, carried as f64 / now.as_secs_f64())
    }

    #[test]
    fn a_slow_link_is_kept_busy_without_a_long_queue() {
        let (queue, carried) = drive(64_000.0, 0.05, 8_000, 600);
        assert!(queue < 0.8, "{queue}");
        assert!(carried > 0.85 * 64_000.0, "{carried}");
    }

    #[test]
    fn a_long_way_is_no_queue() {
        let (queue, carried) = drive(1_000_000.0, 0.6, 100_000, 600);
        assert!(queue < 0.8, "{queue}");
        assert!(carried > 0.85 * 1_000_000.0, "{carried}");
    }

    #[test]
    fn a_fast_link_is_filled() {
        let (_, carried) = drive(200e6, 0.005, 128_000, 20);
        assert!(carried > 0.85 * 200e6, "{carried}");
    }

    #[test]
    fn one_batch_may_always_leave_and_a_share_beside_live_ones_that_fill_the_link() {
        let mut pace = Pace::new(Duration::ZERO);
        // The first ack was quick, and each since took three seconds though next to nothing of the backlog is under way.
        for second in 1..30 {
            let now = Duration::from_secs(second);
            let delay = Duration::from_millis(if second == 1 { 1 } else { 3_000 });
            pace.acked(1 << 10, 1 << 10, now.saturating_sub(delay), now);
        }
        let pace = Pace { measuring: false, ..pace };
        assert!(pace.allows(0, 0, 0.4));
        assert!(!pace.allows(100_000, 0, 0.4));
        assert!(pace.allows(100_000, 1_000_000, 0.4));
    }

    #[test]
    fn live_batches_that_stand_behind_the_backlog_are_no_reason_for_more_of_it() {
        let mut pace = Pace::new(Duration::ZERO);
        for second in 1..9 {
            let now = Duration::from_secs(second);
            pace.acked(1 << 10, 1 << 10, now.saturating_sub(Duration::from_millis(900)), now);
        }
        assert!(!pace.allows(100_000, 1_000_000, 0.4));
    }
}
