//! One outage at full length: a steady load, a link that is down for an hour, and then has room for so many
//! times the live load. What the seeds do in a minute each, once at the size that a site has.

use telemetry::Lane;

use crate::check::{Sums, check};
use crate::clock::{MS, SECOND, Time};
use crate::plan::{Aim, Device, Fault, Plan};
use crate::readings::Told;
use crate::world::World;

const DEVICES: u64 = 50;
/// Mean pause between two sendings of a device.
const PAUSE: Time = 200 * MS;
/// The link is up for so long before, and the load goes on for so long after the expected end of the drain.
const STEADY: Time = 20 * SECOND;
/// A link that nothing waits for, to see what the load takes.
const WIDE: u64 = 100_000_000;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// How long the link is down, seconds.
    pub seconds: u64,
    /// Readings a second.
    pub rate: u64,
    /// The link's room afterwards, in live loads; more than 1.
    pub room: f64,
    /// Everything is decided by it.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    /// Bytes a second that the live load takes on the wire.
    pub live: u64,
    /// Virtual seconds of the whole run.
    pub seconds: f64,
    pub sums: Sums,
    /// Why it failed.
    pub failures: Vec<String>,
    /// Acknowledged before the session's return and stored after it.
    pub backlog: u64,
    /// Acknowledged while that drained.
    pub fresh: u64,
    /// From the session's return until the last reading of the backlog was stored, seconds.
    pub drain: f64,
    /// From a fresh reading's acknowledgement until it was stored, while the backlog drained, seconds.
    pub fresh_median: f64,
    pub fresh_p99: f64,
    pub fresh_max: f64,
    /// Of the bytes that went up while it drained, those of the backlog.
    pub share: f64,
}

/// Runs it.
pub fn run(outage: Outage) -> Drain {
    let live = live_load(outage);
    let down = outage.seconds * SECOND;
    let after = (down as f64 / (outage.room - 1.0).max(0.01)) as Time;
    let until = STEADY + down + after + after / 4 + STEADY;
    let rate = (live as f64 * outage.room) as u64;
    let mut world = World::new(plan(outage, until, rate, vec![(STEADY, Fault::Down(down))]), false, None);
    world.run();
    let (sums, mut failures) = check(&world);
    if let Some(stuck) = &world.stuck {
        failures.insert(0, format!("it did not drain: {stuck}"));
    }
    let mut drain = Drain { live, seconds: seconds(world.agenda.now()), sums, failures, ..Drain::default() };
    drain.judge(&world);
    drain
}

impl Drain {
    /// Looks up when the readings of before and after the return were stored.
    fn judge(&mut self, world: &World) {
        let Some(returned) = world.returned else { return };
        let stored = || {
            world.readings.all.iter().filter_map(|reading| match (reading.told, reading.stored) {
                (Told::Acked(acked), Some(stored)) if stored >= returned => Some((acked, stored)),
                _ => None,
            })
        };
        let backlog = || stored().filter(|(acked, _)| *acked < returned);
        self.backlog = backlog().count() as u64;
        let end = backlog().map(|(_, stored)| stored).max().unwrap_or(returned);
        self.drain = seconds(end - returned);
        let mut ages: Vec<Time> = stored()
            .filter(|(acked, stored)| *acked >= returned && *stored <= end)
            .map(|(acked, stored)| stored - acked)
            .collect();
        ages.sort_unstable();
        self.fresh = ages.len() as u64;
        let at = |share: f64| ages.get((ages.len() as f64 * share) as usize).copied().unwrap_or_default();
        (self.fresh_median, self.fresh_p99) = (seconds(at(0.5)), seconds(at(0.99)));
        self.fresh_max = seconds(ages.last().copied().unwrap_or_default());
        let sent =
            |lane: Lane| world.carried.range(returned..=end).map(|(_, by)| by[lane as usize]).sum::<u64>();
        let (old, new) = (sent(Lane::Backlog), sent(Lane::Live));
        self.share = old as f64 / ((old + new) as f64).max(1.0);
    }
}

/// What the load takes on the wire when nothing is in its way, bytes a second.
fn live_load(outage: Outage) -> u64 {
    let mut world = World::new(plan(outage, STEADY, WIDE, Vec::new()), false, None);
    world.run();
    let bytes: u64 = world.carried.values().flatten().sum();
    bytes * SECOND / STEADY
}

fn plan(outage: Outage, until: Time, rate: u64, faults: Vec<(Time, Fault)>) -> Plan {
    // Between 1 and this many each time, all equally often.
    let most = (2 * outage.rate * PAUSE / SECOND / DEVICES).saturating_sub(1).max(1);
    let device = Device { pause: PAUSE, readings: most, series: 2, windowed: false, late: 0 };
    Plan {
        seed: outage.seed,
        aim: Aim::Outage,
        until,
        devices: vec![device; DEVICES as usize],
        configs: vec!["{}"],
        // As shipped, but for the spool's cap, which an hour must fit under.
        journal: (4 << 20, 1 << 30),
        spool: (4 << 20, 64 << 30, 128 << 10),
        disk: MS,
        net: (20 * MS, 5 * MS, rate),
        collector: (1 << 20, 64, 5 * MS),
        faults,
        lie: None,
        thin: None,
    }
}

fn seconds(time: Time) -> f64 {
    time as f64 / SECOND as f64
}
