//! Batches of a boot whose clock was not set: held until it is known when that was, corrected in the frame, never lost.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use common::{SECOND, any, config, open};
use seglog::sim::SimDisk;
use spool::inspect::{Fate, Found, Inspection};
use spool::{Spool, SpoolConfig};
use telemetry::{Boot, Cause, Rows, SeriesDef, SeriesKey, SeriesTable, Stamp, clock};
use wire::v1;

const T0: i64 = clock::SET_AFTER + 1_000_000 * SECOND;
const ONE: Boot = [1; 16];
const TWO: Boot = [2; 16];

fn stamp(wall: i64, mono: i64) -> Stamp {
    Stamp { wall: wall * SECOND, mono: (mono * SECOND) as u64 }
}

/// One reading, so many seconds after a boot, and one with a time of its own.
fn rows(table: &SeriesTable, boot: Boot, second: i64) -> Rows {
    let series = table.intern(SeriesDef::bare(SeriesKey::new("m", [("device", "d")]).unwrap())).unwrap();
    let mut rows = Rows::default();
    rows.since(boot).push_sample(series, second * SECOND, second as f64, 4);
    rows.count(Cause::Received, 1);
    rows
}

fn append(spool: &Spool, table: &SeriesTable, position: u64, boot: Boot, second: i64) {
    spool.append(position, &rows(table, boot, second), false).unwrap();
    spool.cut().unwrap();
    spool.cut_if_due(Duration::from_secs(position)).unwrap();
}

/// The next batch's earliest real time, in seconds after T0, and whether that is a guess.
fn next(spool: &Spool) -> Option<(i64, bool)> {
    let batch: v1::Batch = any(spool)?;
    let payload = wire::payload::decode(&batch.payload).unwrap();
    let first = payload.samples().next().unwrap().1;
    Some(((first + batch.clock_offset_ns - T0) / SECOND, batch.clock_uncertain))
}

/// Of each batch that isn't acknowledged: its fate, its first time in seconds after T0, and whether it may have been sent.
fn looked_at(disk: &SimDisk) -> Vec<(Fate, Option<i64>, bool)> {
    let inspection = Inspection::open(disk.storage(), Path::new("/spool")).unwrap();
    let summary = inspection.summary().unwrap();
    let mut batches = Vec::new();
    let mut note = |found: Found<'_>| {
        if let Found::Batch(batch) = found {
            let from = summary.times(&batch).map(|times| (times.0 - T0) / SECOND);
            batches.push((summary.fate(&batch), from, summary.offered(&batch)));
        }
        ControlFlow::Continue(())
    };
    inspection.list(&mut note).unwrap();
    batches
}

#[test]
fn who_looks_at_a_spool_sees_what_is_held_and_the_times_once_they_are_known() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    spool.clock(ONE, stamp(30, 10));
    append(&spool, &table, 1, ONE, 10);
    spool.cut_if_due(Duration::from_secs(60)).unwrap();
    assert_eq!(looked_at(&disk), [(Fate::Held, None, false)]);

    spool.clock(ONE, Stamp { wall: T0 + 500 * SECOND, mono: 40 * SECOND as u64 });
    spool.cut_if_due(Duration::from_secs(120)).unwrap();
    assert_eq!(looked_at(&disk), [(Fate::Waiting, Some(470), false)]);
    assert!(any(&spool).is_some());
    assert_eq!(looked_at(&disk), [(Fate::Waiting, Some(470), true)]);
}

#[test]
fn a_batch_waits_until_the_clock_is_set_and_others_go_on() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    spool.clock(ONE, stamp(30, 10));
    append(&spool, &table, 1, ONE, 10);
    let real = common::rows(&table, 2, 1);
    spool.append(2, &real, false).unwrap();
    spool.cut().unwrap();
    let held = spool.usage().clock_held;
    assert_eq!((held.batches, held.boots, held.bytes > 0), (1, 1, true));
    assert_eq!(any(&spool).map(|batch| (batch.seq, batch.clock_offset_ns)), Some((2, 0)));
    assert_eq!(any(&spool), None, "nobody knows when the first was");

    spool.clock(ONE, Stamp { wall: T0 + 500 * SECOND, mono: 40 * SECOND as u64 });
    assert_eq!(spool.usage().clock_held.batches, 0);
    assert_eq!(next(&spool), Some((470, false)));
}

#[test]
fn the_collectors_greeting_tells_the_time_where_the_host_does_not() {
    let disk = SimDisk::new(2);
    let (spool, _, table) = open(&disk, config());
    spool.clock(ONE, stamp(30, 10));
    append(&spool, &table, 1, ONE, 10);
    spool.told_time(ONE, stamp(40, 20), T0, Duration::from_secs(4));
    append(&spool, &table, 2, ONE, 21);
    assert_eq!(next(&spool), Some((-8, false)), "half the round trip is on top");
    assert_eq!(next(&spool), Some((3, false)), "and what comes later doesn't wait");
}

#[test]
fn what_is_known_of_a_boot_outlives_it_and_a_boot_that_ended_unset_is_placed_before_the_next() {
    let disk = SimDisk::new(3);
    let (spool, _, table) = open(&disk, config());
    spool.clock(ONE, stamp(30, 10));
    append(&spool, &table, 1, ONE, 100);
    spool.clock(ONE, Stamp { wall: T0, mono: 200 * SECOND as u64 });
    spool.cut_if_due(Duration::from_secs(9)).unwrap();
    drop(spool);

    let (spool, _, table) = open(&disk, config());
    spool.clock(TWO, stamp(30, 10));
    append(&spool, &table, 2, TWO, 10);
    append(&spool, &table, 3, TWO, 50);
    drop(spool);

    let (spool, recovery, _) = open(&disk, config());
    assert_eq!(recovery.batches, 3);
    spool.clock([3; 16], stamp(5, 1));
    assert_eq!(next(&spool), Some((-100, false)), "it was known when the first boot was");
    assert_eq!(next(&spool), None);
    spool.clock([3; 16], Stamp { wall: T0 + 1_000 * SECOND, mono: 20 * SECOND as u64 });
    assert_eq!(next(&spool), Some((940, true)), "it ended at 980, when the third boot began");
    assert_eq!(next(&spool), Some((980, true)));
}

#[test]
fn what_is_held_counts_for_the_cap_and_its_loss_has_no_time_that_is_wrong() {
    let disk = SimDisk::new(4);
    let (spool, _, table) = open(&disk, SpoolConfig { max_bytes: 16 << 10, ..config() });
    spool.clock(ONE, stamp(30, 10));
    for position in 1..300 {
        append(&spool, &table, position, ONE, position as i64);
    }
    assert!(spool.usage().losses > 0);
    let loss = spool.next_loss().unwrap();
    assert_eq!((loss.t0_ns, loss.t1_ns), (0, 0));
    let count =
        |cause: Cause| loss.counts.iter().find(|count| count.cause == cause as u32).map(|count| count.count);
    assert_eq!((count(Cause::Received), count(Cause::Overflowed)), (Some(1), Some(1)));
    spool.clock(ONE, Stamp { wall: T0, mono: 400 * SECOND as u64 });
    // Fresh ones travel before what was there when the clock was set.
    let mut sent = BTreeSet::new();
    while let Some((second, _)) = next(&spool) {
        assert!(sent.insert(second), "{second} came twice");
    }
    let newest = -101;
    assert_eq!(sent.last(), Some(&newest));
    assert!(
        sent.iter().copied().eq(newest + 1 - sent.len() as i64..=newest),
        "the newest are there: {sent:?}"
    );
}

#[test]
fn what_waits_for_a_clock_does_not_expire() {
    let disk = SimDisk::new(5);
    let (spool, _, table) = open(&disk, SpoolConfig { max_age: Some(Duration::from_secs(60)), ..config() });
    common::witness(&spool);
    spool.clock(ONE, stamp(30, 10));
    append(&spool, &table, 1, ONE, 10);
    spool.append(2, &common::rows(&table, (T0 / SECOND) as u64, 1), false).unwrap();
    spool.cut().unwrap();
    spool.cut_if_due(Duration::from_secs(3)).unwrap();
    assert_eq!((spool.usage().losses, spool.usage().clock_held.batches), (0, 1));
}
