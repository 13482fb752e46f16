//! How much of the backlog may be under way: as much as keeps the link busy and no more.
//!
//! On a slow link everything that was sent and not yet delivered stands before a fresh reading, in the
//! kernel's and the modem's buffers where nobody can overtake. So the backlog goes by the delay of its acks,
//! as LEDBAT does (RFC 6817): while a batch takes hardly longer than the fastest one did, more is sent at
//! once; when it takes a [`TARGET`] longer, it stood in a queue of our own making, and less is. From time to
//! time the queue is let run dry, so that the fastest delay is known anew (as BBR does).
//!
//! One batch is always under way, and on a slow link that alone is a queue: while fresh batches stand in it, the next one
//! of the backlog waits until they are through.

use std::time::Duration;

/// The delay beyond the fastest that the backlog may cause.
const TARGET: Duration = Duration::from_millis(250);
/// The fastest delay is measured anew this often.
const MEASURE: Duration = Duration::from_secs(30);
/// A fresh batch that is under way for so much longer than the fastest was stands in a queue.
const QUEUED: Duration = Duration::from_millis(150);
/// For no longer than this the backlog waits until it is through: what is slow may be the collector, or the way is another one now.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Nothing is known of the link yet. It doubles with each ack, and a slow link must not begin with a long queue.
const FIRST: u64 = 8 << 10;
const LEAST: u64 = 4 << 10;
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
    /// What was sent before this time says nothing of the window as it is now.
    since: Duration,
    fresh: Fastest,
    /// The last batch of the backlog: how large, and when it left.
    batch: u64,
    left: Duration,
}

/// The fastest ack of the live lane, in this half minute and the one before.
#[derive(Debug, Default)]
struct Fastest {
    now: Option<Duration>,
    before: Option<Duration>,
    until: Duration,
}

impl Fastest {
    fn heard(&mut self, delay: Duration, now: Duration) {
        if now >= self.until {
            self.before = self.now.take();
            self.until = now + MEASURE;
        }
        self.now = Some(self.now.map_or(delay, |fastest| fastest.min(delay)));
    }

    fn get(&self) -> Option<Duration> {
        [self.now, self.before].into_iter().flatten().min()
    }
}

/// What is under way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UnderWay {
    /// Bytes of the backlog.
    pub(crate) backlog: u64,
    /// Bytes of fresh batches.
    pub(crate) live: u64,
    /// When the oldest fresh batch left, if there is one.
    pub(crate) live_since: Option<Duration>,
}

impl Pace {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            window: FIRST,
            base: None,
            measure_at: now + MEASURE,
            measuring: false,
            found: false,
            since: now,
            fresh: Fastest::default(),
            batch: 0,
            left: now,
        }
    }

    /// May more of the backlog leave, with that under way? One batch may unless fresh ones stand in a queue, and so may what the
    /// backlog's `share` of the whole allows: a link that live batches fill is theirs to share, not to yield.
    pub(crate) fn allows(&self, way: UnderWay, share: f64, now: Duration) -> bool {
        let shared = way.live as f64 * share;
        if self.queued(way, now) {
            // How large the next one is nobody knows before the first has left.
            return self.batch > 0 && ((way.backlog + self.batch) as f64) < shared;
        }
        way.backlog == 0
            || (!self.measuring && (way.backlog + self.batch <= self.window || (way.backlog as f64) < shared))
    }

    /// When to ask again though nothing came: what it waits for may never be acknowledged.
    pub(crate) fn ask_again(&self, now: Duration) -> Duration {
        (self.left + PATIENCE).max(now + QUEUED)
    }

    fn queued(&self, way: UnderWay, now: Duration) -> bool {
        // Until the first fresh one is through nothing is known of the link.
        let allowed = self.fresh.get().map_or(Duration::ZERO, |fastest| fastest + QUEUED);
        way.live_since.is_some_and(|since| now.saturating_sub(since) > allowed) && now < self.left + PATIENCE
    }

    /// A batch of the backlog leaves.
    pub(crate) fn sent(&mut self, bytes: u64, now: Duration) {
        (self.batch, self.left) = (bytes, now);
    }

    /// A fresh batch was acknowledged.
    pub(crate) fn live_acked(&mut self, sent: Duration, now: Duration) {
        self.fresh.heard(now.saturating_sub(sent), now);
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
            let way = |backlog| UnderWay { backlog, ..UnderWay::default() };
            while pace.allows(way(backlog), 0.0, now) {
                pace.sent(batch, now);
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
    fn one_batch_may_always_leave_and_a_share_beside_live_ones() {
        let mut pace = Pace::new(Duration::ZERO);
        for second in 1..40 {
            let now = Duration::from_secs(second);
            pace.acked(1 << 20, 1 << 20, now - Duration::from_millis(if second == 1 { 1 } else { 900 }), now);
        }
        let now = Duration::from_secs(40);
        let way = |backlog, live| UnderWay { backlog, live, live_since: None };
        assert!(pace.allows(way(0, 0), 0.4, now));
        let small = Pace { window: LEAST, measuring: false, ..pace };
        assert!(!small.allows(way(100_000, 0), 0.4, now));
        assert!(small.allows(way(100_000, 1_000_000), 0.4, now));
    }

    #[test]
    fn the_backlog_waits_while_fresh_batches_stand_in_a_queue_but_not_for_ever() {
        let ms = Duration::from_millis;
        let mut pace = Pace::new(Duration::ZERO);
        let first = UnderWay { backlog: 0, live: 2_000, live_since: Some(ms(0)) };
        assert!(!pace.allows(first, 0.4, ms(1)), "nothing is known of the link");
        pace.live_acked(ms(100), ms(140));
        pace.sent(20_000, ms(1_000));
        let queue = |live| UnderWay { backlog: 0, live, live_since: Some(ms(1_000)) };
        assert!(pace.allows(queue(2_000), 0.4, ms(1_180)));
        assert!(!pace.allows(queue(2_000), 0.4, ms(1_200)));
        assert!(pace.allows(queue(60_000), 0.4, ms(1_200)), "a link that is full of fresh ones is shared");
        assert!(pace.allows(queue(2_000), 0.4, ms(2_501)));
        assert_eq!(pace.ask_again(ms(1_200)), ms(2_500));
    }
}
