//! The promises, asked at the end of a run: DESIGN P1 to P4.

use telemetry::{Cause, Counts};

use crate::clock::{SECOND, Time};
use crate::plan::Aim;
use crate::readings::{Readings, Told};
use crate::world::World;

/// Fresh readings may take this long after the session's return.
const FRESH: Time = SECOND;

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    /// Readings acknowledged to their senders.
    pub acked: u64,
    /// Readings stored, as samples or in windows.
    pub stored: u64,
    /// Acknowledged, neither stored nor accounted for.
    pub lost: u64,
    /// Stored more than once.
    pub twice: u64,
    /// What the loss ledger says too much or too little.
    pub unexplained: u64,
    /// Fresh readings that came later than they may.
    pub late: u64,
}

/// Asks everything. Each failure is a sentence.
pub fn check(world: &World) -> (Sums, Vec<String>) {
    let mut failures = Vec::new();
    let mut sums = Sums::default();
    let readings = &world.readings;
    let counts = &world.collector.counts;
    let gone = [Cause::Expired, Cause::Overflowed, Cause::Damaged, Cause::Refused];
    let gone: u64 = gone.iter().map(|cause| counts.get(*cause)).sum();
    let rejected = counts.get(Cause::RejectedTime);
    let exact = matches!(world.plan.aim, Aim::Faults | Aim::Clones | Aim::Outage);

    stored_once(readings, &mut sums, &mut failures);
    let windowed: u64 = readings.windows.values().map(|row| row.0).sum();
    sums.stored += windowed;

    // P1: what was acknowledged is stored, or it is known what became of it.
    let missing = missing(world, windowed);
    let refused = readings.all.iter().filter(|reading| reading.refused && reading.times == 0).count() as u64;
    let may = match world.plan.aim {
        // Rows are counted there, and a row of a window stands for many readings.
        _ if world.collector.refused_rows > refused => u64::MAX,
        Aim::Rot | Aim::Overflow if gone > 0 || world.rotten => u64::MAX,
        _ => refused,
    };
    if missing > may {
        sums.lost = missing - may;
        failures
            .push(format!("P1: {} acknowledged readings are neither stored nor accounted for", sums.lost));
    }
    windows_hold_their_readings(readings, world.collector.refused_rows > 0 || !exact, &mut failures);

    // P3: the sums.
    let (left, right) = flow(counts);
    let kept = world.collector.rows + gone;
    let mut wrong = left.abs_diff(right) + counts.get(Cause::Shipped).abs_diff(kept);
    let (low, high) = received(readings);
    let received = counts.get(Cause::Received);
    if received < low || received > high {
        wrong += 1;
    }
    if wrong > 0 && world.plan.aim != Aim::Rot {
        sums.unexplained = wrong;
        failures.push(format!(
            "P3: received + derived {left}, rejected + deduplicated + reduced + shipped {right}; shipped {}, stored {} + gone {gone}; \
             received {received} of {low} to {high}, rejected {rejected}",
            counts.get(Cause::Shipped),
            world.collector.rows,
        ));
    }
    holes(world, &mut failures);
    if world.plan.aim == Aim::Outage {
        fresh_first(world, &mut sums, &mut failures);
    }
    (sums, failures)
}

/// P2, and that nothing is stored which was refused.
fn stored_once(readings: &Readings, sums: &mut Sums, failures: &mut Vec<String>) {
    for (value, reading) in readings.all.iter().enumerate() {
        sums.acked += u64::from(matches!(reading.told, Told::Acked(_)));
        sums.stored += u64::from(reading.times > 0);
        if reading.times > 1 {
            sums.twice += 1;
            if sums.twice == 1 {
                failures.push(format!("P2: reading {value} was stored {} times: {reading:?}", reading.times));
            }
        }
        if reading.told == Told::Refused && reading.times > 0 {
            failures.push(format!("reading {value} was refused to its sender and stored"));
        }
    }
}

/// Acknowledged readings that are in no sample, less those that windows hold, and those ahead of the clock.
fn missing(world: &World, windowed: u64) -> u64 {
    let open = world.readings.all.iter().enumerate().filter(|(_, reading)| {
        matches!(reading.told, Told::Acked(_)) && reading.times == 0 && !reading.ahead
    });
    (open.count() as u64).saturating_sub(windowed)
}

/// Of each device: windows hold the readings that are no samples, each once. Their values are added up, so
/// one that is there twice in place of another shows.
fn windows_hold_their_readings(readings: &Readings, relaxed: bool, failures: &mut Vec<String>) {
    let devices = readings.all.iter().map(|reading| reading.device).max().unwrap_or(0);
    for device in 0..=devices {
        let (count, sum) = readings.windows.get(&device).copied().unwrap_or_default();
        let (mut low, mut high) = ((0, 0.0), (0, 0.0));
        for (value, reading) in readings.all.iter().enumerate() {
            if reading.device != device || reading.times > 0 || reading.ahead {
                continue;
            }
            if reading.told != Told::Refused {
                high = (high.0 + 1, high.1 + value as f64);
            }
            if matches!(reading.told, Told::Acked(_)) && !relaxed {
                low = (low.0 + 1, low.1 + value as f64);
            }
        }
        if count < low.0 || count > high.0 || sum < low.1 || sum > high.1 {
            failures.push(format!(
                "P1/P2: the windows of device {device} hold {count} readings that add up to {sum}; it sent {low:?} to {high:?} that are no samples"
            ));
        }
    }
}

/// Both sides of the ledger's first equation.
fn flow(counts: &Counts) -> (u64, u64) {
    let sum = |codes: std::ops::RangeInclusive<u8>| -> u64 {
        counts.iter().filter(|(cause, _)| codes.contains(&(*cause as u8))).map(|(_, n)| n).sum()
    };
    (sum(1..=1) + sum(80..=80), sum(2..=2) + sum(16..=63))
}

/// How many readings the agent took, at least and at most.
fn received(readings: &Readings) -> (u64, u64) {
    let acked = readings.all.iter().filter(|reading| matches!(reading.told, Told::Acked(_)));
    let unknown = readings.all.iter().filter(|reading| reading.told == Told::Unknown);
    let acked = acked.count() as u64;
    (acked, acked + unknown.count() as u64)
}

/// Seqs of an epoch have no gaps.
fn holes(world: &World, failures: &mut Vec<String>) {
    for (epoch, upto, newest) in world.collector.numberings() {
        if upto != newest {
            failures.push(format!("epoch {:02x?}: held up to {upto}, and seqs up to {newest}", &epoch[..4]));
        }
    }
}

/// P4: while the backlog drains, fresh readings arrive within a second of the session's return.
fn fresh_first(world: &World, sums: &mut Sums, failures: &mut Vec<String>) {
    let Some(returned) = world.returned else { return };
    let mut worst = 0;
    for reading in &world.readings.all {
        if let (Told::Acked(acked), Some(stored)) = (reading.told, reading.stored)
            && acked >= returned
            && !reading.ahead
            && stored - acked > FRESH
        {
            sums.late += 1;
            worst = worst.max(stored - acked);
        }
    }
    if sums.late > 0 {
        failures.push(format!(
            "P4: {} fresh readings took up to {:.1} s, though the session was back",
            sums.late,
            worst as f64 / SECOND as f64
        ));
    }
}
