//! The promises, asked at the end of a run: DESIGN P1 to P4.

use std::collections::BTreeMap;

use telemetry::{Cause, Counts};

use crate::clock::{SECOND, Time};
use crate::ledger::{sum_is_wrong, twice_in_windows};
use crate::plan::Aim;
use crate::readings::{Reading, Readings, Told};
use crate::world::World;

/// Fresh readings may take this long after the session's return.
const FRESH: Time = SECOND;
/// Why rows that were shipped are not stored, but for those that the collector refused: of these the simulation
/// knows each reading.
const GONE: [Cause; 3] = [Cause::Expired, Cause::Overflowed, Cause::Damaged];

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    /// Readings acknowledged to their senders.
    pub acked: u64,
    /// Readings stored, as samples or in windows.
    pub stored: u64,
    /// Of them in windows that thinning made: no other device's are there.
    pub thinned: u64,
    /// Acknowledged, neither stored nor accounted for.
    pub lost: u64,
    /// Stored more than once.
    pub twice: u64,
    /// What the loss ledger says too much or too little.
    pub unexplained: u64,
    /// Fresh readings that came later than they may.
    pub late: u64,
    /// Stored again after the spool's last record, which they were in, rotted (docs/reliability.md).
    pub again: u64,
    /// Acknowledged, and gone with the journal's last record, which rotted.
    pub silent: u64,
}

/// Asks everything. Each failure is a sentence.
pub fn check(world: &World) -> (Sums, Vec<String>) {
    let mut failures = Vec::new();
    let mut sums = Sums::default();
    let readings = &world.readings;
    let counts = &world.collector.counts;
    stored_once(readings, &mut sums, &mut failures);
    sums.stored += readings.windows.values().map(|row| row.0).sum::<u64>();
    let raw = |device: u32| !world.devices[device as usize].0.windowed;
    sums.thinned = readings.windows.iter().filter(|(device, _)| raw(**device)).map(|(_, row)| row.0).sum();
    let (twice, told) = twice_in_windows(readings);
    sums.twice += twice;
    failures.extend(told);
    nothing_lost(world, &mut sums, &mut failures);

    // P3: the sums.
    let gone: u64 = GONE.iter().map(|cause| counts.get(*cause)).sum::<u64>() + counts.get(Cause::Refused);
    let (left, right) = flow(counts);
    let kept = world.collector.rows + gone;
    let mut wrong = left.abs_diff(right) + counts.get(Cause::Shipped).abs_diff(kept);
    let (low, high) = received(readings);
    let received = counts.get(Cause::Received);
    if received < low || received > high {
        wrong += 1;
    }
    if wrong > 0 {
        sums.unexplained = wrong;
        failures.push(format!(
            "P3: received + derived {left}, rejected + deduplicated + reduced + shipped {right}; shipped {}, stored {} + gone {gone}; \
             received {received} of {low} to {high}, rejected {}",
            counts.get(Cause::Shipped),
            world.collector.rows,
            counts.get(Cause::RejectedTime),
        ));
    }
    if matches!(world.plan.aim, Aim::Rot | Aim::Eio)
        && loses_readings(world)
        && let Some(wrong) = sum_is_wrong(world)
    {
        sums.unexplained += 1;
        failures.push(wrong);
    }
    holes(world, &mut failures);
    let damaged: u64 = world.hosts.iter().map(|host| host.damaged).sum();
    if damaged > 0 && !world.rotten {
        failures.push(format!("P5: {damaged} batches are said to be damaged where nothing was"));
    }
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
        if reading.times > 1 && reading.again {
            sums.again += 1;
        } else if reading.times > 1 {
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

/// P1: what was acknowledged is stored, as a sample or in a window, or its loss is counted.
///
/// Where a device's readings are never in windows each lost row is one of them, so there this is exact to the
/// reading: none may be missing beyond what the ledger counts. A row of a window stands for as many readings as it had, and
/// nobody knows those any more once it is lost: so a device with windows is let off in runs that lost rows for good
/// (to a full spool or to damage). Nowhere else: where no batch was lost, what rot of checkpoint and journal took from open
/// windows is known as a number, and all devices together are short of no more than that.
fn nothing_lost(world: &World, sums: &mut Sums, failures: &mut Vec<String>) {
    let readings = &world.readings;
    let windowed = |device: u32| world.plan.thin.is_some() || world.devices[device as usize].0.windowed;
    let rows: u64 = GONE.iter().map(|cause| world.collector.counts.get(*cause)).sum();
    let loses = [Aim::Rot, Aim::Eio, Aim::Overflow, Aim::Thin].contains(&world.plan.aim);
    let may = if loses { rows } else { 0 };
    let missing = readings.all.iter().filter(|reading| {
        matches!(reading.told, Told::Acked(_)) && reading.times == 0 && !reading.ahead && !reading.refused
    });
    let (silent, missing) = missing.partition::<Vec<&Reading>, _>(|reading| reading.silent);
    sums.silent = silent.iter().filter(|reading| !windowed(reading.device)).count() as u64;
    let raw = missing.iter().filter(|reading| !windowed(reading.device)).count() as u64;
    sums.lost = raw.saturating_sub(may);
    let relaxed = may > 0 || world.lost_state;
    if !relaxed {
        let held = held(readings);
        sums.lost += (missing.len() as u64 - raw).saturating_sub(held);
    } else if loses_readings(world) {
        let held = held(readings);
        sums.lost = (missing.len() as u64).saturating_sub(held + may);
    }
    if sums.lost > 0 {
        failures
            .push(format!("P1: {} acknowledged readings are neither stored nor accounted for", sums.lost));
    }
    for device in (0..world.devices.len() as u32).filter(|device| windowed(*device)) {
        windows_hold_their_readings(readings, device, relaxed, failures);
    }
}

/// Whether each lost row is counted as the readings that it was made of: only rows of windows that were lost with their batch
/// aren't.
fn loses_readings(world: &World) -> bool {
    world.plan.loses_readings() || matches!(world.plan.aim, Aim::Rot | Aim::Eio) && !world.spool_rotten
}

/// Readings in windows that are stored, or were refused.
fn held(readings: &Readings) -> u64 {
    readings.windows.values().chain(readings.refused.values()).map(|row| row.0).sum()
}

/// Of a device: windows hold the readings that are no samples, each once. Their values are added up, so
/// one that is there twice in place of another shows.
fn windows_hold_their_readings(readings: &Readings, device: u32, relaxed: bool, failures: &mut Vec<String>) {
    let of = |windows: &BTreeMap<u32, (u64, f64)>| windows.get(&device).copied().unwrap_or_default();
    let (count, sum) = of(&readings.windows);
    // Of a batch that was refused nobody knows whether it had been stored before: it may fill a hole.
    let (refused, again) = (of(&readings.refused), of(&readings.again));
    let (mut low, mut high) = ((0, 0.0), again);
    for (value, reading) in readings.all.iter().enumerate() {
        if reading.device != device || reading.times > 0 || reading.ahead {
            continue;
        }
        if reading.told != Told::Refused {
            high = (high.0 + 1, high.1 + value as f64);
        }
        if matches!(reading.told, Told::Acked(_)) && !relaxed && !reading.silent && !reading.refused {
            low = (low.0 + 1, low.1 + value as f64);
        }
    }
    if count + refused.0 < low.0 || count > high.0 || sum + refused.1 < low.1 || sum > high.1 {
        failures.push(format!(
            "P1/P2: the windows of device {device} hold {count} readings that add up to {sum}, refused ones {refused:?}; \
             it sent {low:?} to {high:?} that are no samples"
        ));
    }
}

/// Both sides of the ledger's first equation.
fn flow(counts: &Counts) -> (u64, u64) {
    let sum = |codes: std::ops::RangeInclusive<u8>| -> u64 {
        counts.iter().filter(|(cause, _)| codes.contains(&(*cause as u8))).map(|(_, n)| n).sum()
    };
    (sum(1..=1) + sum(80..=80), sum(2..=2) + sum(16..=63))
}

/// How many readings the agent took, at least and at most. Those of the journal's rotten last record it may not
/// have, those of the spool's it may count again.
fn received(readings: &Readings) -> (u64, u64) {
    let acked = readings.all.iter().filter(|reading| matches!(reading.told, Told::Acked(_)));
    let (silent, acked) = acked.partition::<Vec<&Reading>, _>(|reading| reading.silent);
    let unknown = readings.all.iter().filter(|reading| reading.told == Told::Unknown).count();
    let (low, high) = (acked.len() as u64, (acked.len() + silent.len() + unknown) as u64);
    (low.saturating_sub(readings.received_gone), high + readings.received_again)
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
