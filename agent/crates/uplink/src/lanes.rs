//! Which lane sends next: each its share of the bandwidth, within the limits and the hours.
//!
//! While both lanes have something, bytes are shared by start-time fair queueing (Goyal, Vin, Cheng 1996): every
//! lane has a clock of its own that a batch moves on by its bytes over the lane's share, and the lane whose clock
//! is behind goes next. A lane that had nothing begins at the clock of who sends now, so nobody saves up a claim,
//! and whoever is alone takes it all. On a tie the live lane goes: a fresh batch is next whenever the live lane
//! is within its share.
//!
//! Limits are token buckets, one in total and one a lane. The backlog waits for a total bucket that holds
//! something; the live lane may, within its share, go into its debt, so that a fresh reading doesn't wait for
//! what an old batch overdrew.

use std::time::Duration;

use spool::Waiting;
use telemetry::Lane;

use crate::bucket::Bucket;
use crate::config::{ConfigError, LanesConfig};
use crate::hours::Hours;

/// Shares, limits and hours, from session to session.
#[derive(Debug)]
pub struct Lanes {
    live: Queue,
    backlog: Queue,
    /// The clock of who sent last.
    clock: f64,
    total: Bucket,
    largest: u64,
    hours: Option<Hours>,
}

#[derive(Debug)]
struct Queue {
    share: f64,
    clock: f64,
    active: bool,
    bucket: Bucket,
}

impl Queue {
    fn new(share: u8, limit: u64) -> Self {
        Self { share: f64::from(share), clock: 0.0, active: false, bucket: Bucket::new(limit) }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Send of this lane.
    Send(Lane),
    /// Nothing now; a limit allows something at this time.
    At(Duration),
    /// Nothing until something changes.
    Nothing,
}

impl Lanes {
    /// As configured.
    ///
    /// # Errors
    /// [`ConfigError`] when `backlog_hours` is no span of the day.
    pub fn new(config: &LanesConfig) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            live: Queue::new(config.live_share, config.live_limit.0),
            backlog: Queue::new(config.backlog_share, config.backlog_limit.0),
            clock: 0.0,
            total: Bucket::new(config.limit.0),
            largest: 0,
            hours: config.hours()?,
        })
    }

    /// Whether the backlog may travel at this hour.
    pub(crate) fn open_hours(&self, wall_ns: i64) -> bool {
        self.hours.as_ref().is_none_or(|hours| hours.open(wall_ns))
    }

    /// The backlog's part of what is under way, as a multiple of the live lane's.
    pub(crate) fn backlog_per_live(&self) -> f64 {
        self.backlog.share / self.live.share
    }

    /// Who goes next, of the lanes that wait and that nothing else holds back.
    pub(crate) fn choose(&mut self, now: Duration, waiting: Waiting) -> Choice {
        let mut wake: Option<Duration> = None;
        let clock = self.clock;
        for (queue, waits) in [(&mut self.live, waiting.live), (&mut self.backlog, waiting.backlog)] {
            let open = match queue.bucket.open(now, 0.0) {
                Ok(()) => true,
                Err(at) if waits => {
                    wake = Some(wake.map_or(at, |wake| wake.min(at)));
                    false
                }
                Err(_) => false,
            };
            let active = waits && open;
            if active && !queue.active {
                queue.clock = queue.clock.max(clock);
            }
            queue.active = active;
        }
        let lane = match (self.live.active, self.backlog.active) {
            (false, false) => return wake.map_or(Choice::Nothing, Choice::At),
            (true, false) => Lane::Live,
            (false, true) => Lane::Backlog,
            (true, true) if self.live.clock <= self.backlog.clock => Lane::Live,
            (true, true) => Lane::Backlog,
        };
        let debt = match lane {
            Lane::Live => self.total.burst().max(self.largest as f64),
            Lane::Backlog => 0.0,
        };
        match self.total.open(now, debt) {
            Ok(()) => Choice::Send(lane),
            Err(at) => Choice::At(wake.map_or(at, |wake| wake.min(at))),
        }
    }

    /// A batch of a lane left.
    pub(crate) fn sent(&mut self, lane: Lane, bytes: u64, now: Duration) {
        let queue = match lane {
            Lane::Live => &mut self.live,
            Lane::Backlog => &mut self.backlog,
        };
        self.clock = queue.clock;
        queue.clock += bytes as f64 / queue.share;
        queue.bucket.spend(now, bytes);
        self.largest = self.largest.max(bytes);
        self.total.spend(now, bytes);
    }

    /// Something left that belongs to no lane: it counts in the total and waits for nothing.
    pub(crate) fn aside(&mut self, bytes: u64, now: Duration) {
        self.total.spend(now, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Rate;

    const BOTH: Waiting = Waiting { live: true, backlog: true, young: false };

    fn lanes(config: LanesConfig) -> Lanes {
        Lanes::new(&config).unwrap()
    }

    /// Sends for some seconds, and gives the bytes of either lane.
    fn drive(
        lanes: &mut Lanes,
        seconds: u64,
        sizes: (u64, u64),
        waiting: impl Fn(Duration) -> Waiting,
    ) -> (u64, u64) {
        let (mut now, mut live, mut backlog, mut sent) = (Duration::ZERO, 0, 0, 0);
        while now < Duration::from_secs(seconds) && sent < 100_000 {
            match lanes.choose(now, waiting(now)) {
                Choice::Send(Lane::Live) => {
                    lanes.sent(Lane::Live, sizes.0, now);
                    live += sizes.0;
                }
                Choice::Send(Lane::Backlog) => {
                    lanes.sent(Lane::Backlog, sizes.1, now);
                    backlog += sizes.1;
                }
                Choice::At(at) => {
                    assert!(at > now, "a wake that is not in the future would spin");
                    now = at;
                }
                Choice::Nothing => now += Duration::from_millis(10),
            }
            sent += 1;
        }
        (live, backlog)
    }

    #[test]
    fn lanes_that_both_have_something_divide_the_limit_by_their_shares() {
        for sizes in [(1000, 1000), (500, 20_000), (20_000, 500)] {
            let mut lanes = lanes(LanesConfig { limit: Rate(50_000), ..LanesConfig::default() });
            let (live, backlog) = drive(&mut lanes, 300, sizes, |_| BOTH);
            let share = live as f64 / (live + backlog) as f64;
            assert!((0.66..0.74).contains(&share), "{share} with {sizes:?}");
            let rate = (live + backlog) as f64 / 300.0;
            assert!((47_000.0..51_000.0).contains(&rate), "{rate}");
        }
    }

    #[test]
    fn without_a_limit_the_order_keeps_the_shares() {
        let mut lanes = lanes(LanesConfig { live_share: 50, backlog_share: 50, ..LanesConfig::default() });
        let (live, backlog) = drive(&mut lanes, 1, (100, 300), |_| BOTH);
        let share = live as f64 / (live + backlog) as f64;
        assert!((0.49..0.51).contains(&share), "{share}");
    }

    #[test]
    fn a_lane_that_is_alone_takes_it_all() {
        let mut lanes = lanes(LanesConfig { limit: Rate(10_000), ..LanesConfig::default() });
        let alone = Waiting { live: false, backlog: true, young: false };
        let (_, backlog) = drive(&mut lanes, 100, (1000, 1000), |_| alone);
        assert!(backlog > 990_000, "{backlog}");
    }

    #[test]
    fn a_fresh_batch_goes_next_however_long_the_backlog_had_the_link_for_itself() {
        let mut lanes = lanes(LanesConfig { limit: Rate(10_000), ..LanesConfig::default() });
        let mut now = Duration::ZERO;
        // The last old batch overdrew the limit by more than a second.
        for _ in 0..50 {
            match lanes.choose(now, Waiting { live: false, backlog: true, young: false }) {
                Choice::Send(lane) => lanes.sent(lane, 15_000, now),
                Choice::At(at) => now = at,
                Choice::Nothing => panic!("there is a backlog"),
            }
        }
        lanes.sent(Lane::Backlog, 5_000, now);
        assert_eq!(lanes.choose(now, BOTH), Choice::Send(Lane::Live));
    }

    #[test]
    fn a_lane_that_had_nothing_saved_up_no_claim() {
        let mut lanes = lanes(LanesConfig::default());
        for _ in 0..1000 {
            lanes.sent(Lane::Live, 1000, Duration::ZERO);
            assert_eq!(
                lanes.choose(Duration::ZERO, Waiting { live: true, backlog: false, young: false }),
                Choice::Send(Lane::Live)
            );
        }
        let mut backlog = 0;
        for _ in 0..100 {
            match lanes.choose(Duration::ZERO, BOTH) {
                Choice::Send(lane) => {
                    backlog += u64::from(lane == Lane::Backlog);
                    lanes.sent(lane, 1000, Duration::ZERO);
                }
                other => panic!("{other:?}"),
            }
        }
        assert!((28..=32).contains(&backlog), "{backlog}");
    }

    #[test]
    fn each_lane_keeps_its_own_limit() {
        let mut lanes = lanes(LanesConfig {
            live_limit: Rate(2_000),
            backlog_limit: Rate(1_000),
            ..LanesConfig::default()
        });
        let (live, backlog) = drive(&mut lanes, 100, (500, 500), |_| BOTH);
        assert!((200_000..=203_000).contains(&live), "{live}");
        assert!((100_000..=102_000).contains(&backlog), "{backlog}");
    }

    #[test]
    fn the_total_holds_whoever_sends() {
        let mut lanes = lanes(LanesConfig { limit: Rate(10_000), ..LanesConfig::default() });
        // Fresh batches come and go, so that the live lane is always within its share.
        let (live, backlog) = drive(&mut lanes, 200, (3_000, 9_000), |now| Waiting {
            young: false,
            live: now.as_millis() % 1000 < 300,
            backlog: true,
        });
        assert!(live + backlog <= 10_000 * 201 + 9_000 + 10_000, "{live} {backlog}");
        assert!(live > 0 && backlog > 0);
    }
}
