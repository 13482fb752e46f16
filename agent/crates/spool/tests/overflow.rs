//! What goes first when there isn't room for all: by priority, then by each class's policy, and always with
//! exact counts.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::{Collector, SECOND, any, class, config, key, open, witness};
use seglog::sim::SimDisk;
use spool::{ClassRule, Overflow, Priority, Spool, SpoolConfig, SpoolError};
use telemetry::{Cause, Rows, SeriesDef, SeriesKey, SeriesTable, Stamp};
use wire::v1;

const CAP: u64 = 80_000;
/// Readings of a record, as many of each device.
const N: u64 = 196;

/// As the shared rows, in an order that no encoding makes much smaller.
fn rows(table: &SeriesTable, position: u64, n: u64) -> Rows {
    let series: Vec<_> = (0..7)
        .map(|device| {
            let key = SeriesKey::new("m", [("device", format!("d{device}"))]).unwrap();
            table.intern(SeriesDef::bare(key)).unwrap()
        })
        .collect();
    let mut rows = Rows::default();
    for at in 0..n {
        let at = (at * 337 + position * position * 91) % 1000;
        let device = ((position + at) % 7) as usize;
        rows.push_sample(series[device], position as i64 * SECOND, (position * 1000 + at) as f64, 0);
    }
    rows.count(Cause::Received, n);
    rows
}

fn capped(classes: Vec<ClassRule>) -> SpoolConfig {
    SpoolConfig { max_bytes: CAP, batch_bytes: 2000, classes, ..config() }
}

/// Folds records at positions of the range.
fn fill(spool: &Spool, table: &SeriesTable, positions: std::ops::RangeInclusive<u64>) -> u64 {
    let mut folded = 0;
    for position in positions {
        spool.append(position, &rows(table, position, N), false).unwrap();
        spool.cut_if_due(Duration::from_millis(position)).unwrap();
        folded += N;
    }
    spool.cut().unwrap();
    spool.cut_if_due(Duration::from_secs(60)).unwrap();
    folded
}

/// How many readings of a device the records up to a position hold.
fn of_device(device: u64, records: u64) -> u64 {
    let of = |position: u64, at: u64| (position + (at * 337 + position * position * 91) % 1000) % 7;
    (1..=records).map(|position| (0..N).filter(|at| of(position, *at) == device).count() as u64).sum()
}

/// Stored values of each device, and the books in balance.
fn drained(spool: &Spool, total: u64) -> (BTreeMap<u64, Vec<u64>>, Collector) {
    let mut collector = Collector::default();
    collector.drain(spool);
    let count = |cause| collector.counts.get(cause);
    assert_eq!(count(Cause::Received), total);
    assert_eq!(total + count(Cause::Derived), count(Cause::ReducedWindow) + count(Cause::Shipped));
    let stored = collector.values.len() as u64 + collector.windows;
    assert_eq!(count(Cause::Shipped), stored + count(Cause::Overflowed));
    assert!(collector.values.values().all(|n| *n == 1));
    let epoch = spool.usage().epoch.unwrap();
    assert_eq!(collector.held(&epoch.0).upto() + 1, spool.usage().next_seq, "no hole is left");
    let mut by_device: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for value in collector.values.keys() {
        by_device.entry((value / 1000 + value % 1000) % 7).or_default().push(*value);
    }
    (by_device, collector)
}

#[test]
fn the_low_goes_before_the_normal_and_the_high_is_kept() {
    let disk = SimDisk::new(1);
    let classes = vec![
        class("d0", Priority::High, Overflow::DropOldest),
        class("d1", Priority::Low, Overflow::DropOldest),
    ];
    let (spool, _, table) = open(&disk, capped(classes));
    let total = fill(&spool, &table, 1..=600);
    assert!(spool.usage().disk_bytes <= CAP + 8192, "{}", spool.usage().disk_bytes);
    assert!(spool.usage().lost.iter().all(|lost| lost.cause == Cause::Overflowed && lost.count > 0));
    let (by_device, collector) = drained(&spool, total);
    assert_eq!(by_device[&0].len() as u64, of_device(0, 600), "all that is high is there");
    let low = by_device.get(&1).map_or(0, Vec::len);
    assert!(low * 20 < by_device[&2].len(), "of the low only what came last is there: {low}");
    assert!(
        (by_device[&2].len() as u64) < of_device(2, 600) && by_device[&2].last() > Some(&599_000),
        "of the normal the newest are there"
    );
    assert!(collector.counts.get(Cause::Overflowed) > 0);
}

#[test]
fn with_only_the_high_left_its_oldest_go() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, capped(vec![class("*", Priority::High, Overflow::DropOldest)]));
    let total = fill(&spool, &table, 1..=900);
    let (by_device, _) = drained(&spool, total);
    let values: Vec<u64> = by_device.into_values().flatten().collect();
    let ends = (values.iter().min().unwrap() / 1000, values.iter().max().unwrap() / 1000);
    assert!(ends.0 > 100 && ends.1 == 900, "{ends:?}");
}

#[test]
fn drop_newest_keeps_how_it_began() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, capped(vec![class("*", Priority::Normal, Overflow::DropNewest)]));
    let total = fill(&spool, &table, 1..=900);
    assert!(spool.usage().disk_bytes <= CAP + 8192, "{}", spool.usage().disk_bytes);
    let (by_device, _) = drained(&spool, total);
    let values: Vec<u64> = by_device.into_values().flatten().collect();
    let of = |first: u64, last: u64| {
        values.iter().filter(|value| (first * 1000..(last + 1) * 1000).contains(*value)).count() as u64
    };
    assert_eq!(of(1, 100), 100 * N);
    assert!(of(601, 900) < 30 * N, "{}", of(601, 900));
}

#[test]
fn below_the_free_space_of_others_the_spool_waits_and_says_how_much_there_is() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, SpoolConfig { min_free_bytes: 60_000, ..config() });
    disk.set_capacity(Some(disk.used() + 100_000));
    let mut position = 0;
    let refused = loop {
        position += 1;
        assert!(position < 5000);
        spool.append(position, &rows(&table, position, N), false).unwrap();
        if let Err(error) = spool.cut_if_due(Duration::from_secs(100 * position)) {
            break error;
        }
    };
    let SpoolError::Floor { free, min_free: 60_000 } = refused else { panic!("{refused}") };
    assert!((40_000..60_000).contains(&free), "{free}: what it wrote last is less than 20,000 bytes");
    let trouble = spool.usage().trouble.unwrap();
    assert!(
        trouble.contains(&format!("{} free", telemetry::units::about(free)))
            && trouble.contains("spool.min_free"),
        "{trouble}"
    );
    assert_eq!(spool.usage().losses, 0, "nothing is dropped for it");
    let mut collector = Collector::default();
    collector.drain(&spool);
    spool.cut().unwrap();
    collector.drain(&spool);
    assert_eq!(collector.values.len() as u64, position * N);
    assert_eq!(spool.usage().trouble, None);
}

#[test]
fn what_blocks_is_not_dropped_and_is_taken_when_there_is_room() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, capped(vec![class("d0", Priority::Low, Overflow::Block)]));
    let mut position = 0;
    let refused = loop {
        position += 1;
        if let Err(error) = spool.append(position, &rows(&table, position, N), false) {
            break error;
        }
        spool.cut_if_due(Duration::from_millis(position)).unwrap();
        assert!(position < 5000);
    };
    assert!(matches!(refused, SpoolError::Blocked), "{refused}");
    assert!(spool.usage().trouble.unwrap().contains("at its cap"));
    assert!(spool.append(position, &rows(&table, position, N), false).is_err(), "and again");
    assert_eq!(spool.usage().losses, 0, "what is worth more doesn't go for its sake");
    let mut collector = Collector::default();
    collector.drain(&spool);
    spool.append(position, &rows(&table, position, N), false).unwrap();
    spool.cut().unwrap();
    collector.drain(&spool);
    assert_eq!(collector.values.len() as u64, position * N);
    assert_eq!(spool.usage().trouble, None);
}

#[test]
fn rows_of_other_classes_are_taken_while_one_blocks() {
    let disk = SimDisk::new(1);
    let classes = vec![class("d0", Priority::High, Overflow::Block)];
    let (spool, _, table) = open(&disk, capped(classes));
    // Only one device: all of it blocks.
    let of = |position: u64| common::rows(&table, position * 7, 1);
    let mut position = 0;
    let many = |position: u64| {
        let mut all = Rows::default();
        (0..40).for_each(|at| all.append(&of(position * 40 + at)));
        all
    };
    while spool.append(position + 1, &many(position + 1), false).is_ok() {
        position += 1;
        spool.cut().unwrap();
        spool.cut_if_due(Duration::from_millis(position)).unwrap();
        assert!(position < 5000);
    }
    let other = common::rows(&table, (position + 1) * 7 + 1, 1);
    spool.append(position + 1, &other, false).unwrap();
}

#[test]
fn thin_makes_windows_of_what_was_never_offered_before_anything_is_dropped() {
    let disk = SimDisk::new(1);
    let classes = vec![class("*", Priority::Low, Overflow::Thin(60 * SECOND))];
    let (spool, _, table) = open(&disk, capped(classes));
    let total = fill(&spool, &table, 1..=900);
    let (by_device, collector) = drained(&spool, total);
    let values: u64 = by_device.values().flatten().count() as u64;
    assert_eq!(collector.counts.get(Cause::Overflowed), 0, "thinning was enough");
    assert_eq!(collector.counts.get(Cause::Derived), collector.windows);
    assert_eq!(
        (values + collector.windowed, collector.counts.get(Cause::ReducedWindow)),
        (total, collector.windowed)
    );
    let sum: u64 = (1..=900)
        .map(|position| {
            (0..N).map(|at| position * 1000 + (at * 337 + position * position * 91) % 1000).sum::<u64>()
        })
        .sum();
    let kept: u64 = by_device.values().flatten().sum();
    assert_eq!(kept as f64 + collector.window_sum, sum as f64, "the sums are the same");
}

#[test]
fn what_was_offered_is_never_thinned_also_after_a_restart() {
    let disk = SimDisk::new(1);
    let classes = vec![class("*", Priority::Low, Overflow::Thin(60 * SECOND))];
    let (spool, _, table) = open(&disk, capped(classes.clone()));
    for position in 1..=20 {
        spool.append(position, &rows(&table, position, N), false).unwrap();
    }
    spool.cut().unwrap();
    let mut collector = Collector::default();
    let (holdings, conflicts) = collector.greeting(&spool.hello());
    spool.greet(&holdings, &conflicts).unwrap();
    // The collector stores it, and its answer is lost with the agent.
    let first = any(&spool).unwrap();
    collector.take(&first);
    drop(spool);
    let (spool, _, table) = open(&disk, capped(classes));
    let mut total = 20 * N;
    for position in 21..=900 {
        spool.append(position, &rows(&table, position, N), false).unwrap();
        spool.cut_if_due(Duration::from_millis(position)).unwrap();
        total += N;
    }
    spool.cut().unwrap();
    collector.drain(&spool);
    let count = |cause| collector.counts.get(cause);
    assert!(count(Cause::ReducedWindow) > 0);
    assert_eq!(collector.values.len() as u64 + collector.windowed, total, "none is stored twice");
    assert_eq!(count(Cause::Received), total);
}

#[test]
fn what_was_never_offered_goes_before_what_was() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, capped(vec![]));
    for position in 1..=20 {
        spool.append(position, &rows(&table, position, N), false).unwrap();
    }
    spool.cut().unwrap();
    let (holdings, conflicts) = Collector::default().greeting(&spool.hello());
    spool.greet(&holdings, &conflicts).unwrap();
    let first = any(&spool).unwrap();
    spool.session_lost();
    let total = 20 * N + fill(&spool, &table, 21..=900);
    assert!(spool.usage().losses > 0);
    let (by_device, _) = drained(&spool, total);
    let values: Vec<u64> = by_device.into_values().flatten().collect();
    let sent = wire::payload::decode(&first.payload).unwrap();
    assert!(sent.samples().all(|(_, _, value, _)| values.contains(&(value as u64))));
}

#[test]
fn what_was_kept_is_there_after_a_restart_and_under_the_same_names() {
    let disk = SimDisk::new(1);
    let classes = vec![class("d0", Priority::High, Overflow::DropOldest)];
    let (spool, _, table) = open(&disk, capped(classes.clone()));
    let total = fill(&spool, &table, 1..=600);
    let (held, losses, lost) = (spool.hello(), spool.loss_frames(), spool.usage().lost);
    drop(spool);
    let (spool, recovery, _) = open(&disk, capped(classes));
    assert_eq!(recovery.damaged, 0, "{recovery:?}");
    assert_eq!((spool.hello(), spool.loss_frames(), spool.usage().lost), (held, losses, lost));
    let (by_device, _) = drained(&spool, total);
    assert_eq!(by_device[&0].len() as u64, of_device(0, 600));
}

/// Before, the loss frames of a spool without segments carried no counts.
#[test]
fn a_spool_whose_segments_are_gone_says_exactly_what_it_held() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    let mut collector = Collector::default();
    for position in 1..=30 {
        spool.append(position, &rows(&table, position, N), false).unwrap();
    }
    spool.cut().unwrap();
    let (holdings, conflicts) = collector.greeting(&spool.hello());
    spool.greet(&holdings, &conflicts).unwrap();
    for _ in 0..2 {
        let batch = any(&spool).unwrap();
        collector.take(&batch);
        let range = v1::Range { first: key(&batch).seq, last: key(&batch).seq };
        spool.acked(&[v1::Holdings { epoch: batch.epoch, upto: 0, ranges: vec![range] }]).unwrap();
    }
    spool.cut().unwrap();
    let stored = collector.values.len() as u64;
    drop(spool);
    for path in disk.paths() {
        if path.starts_with("/spool/log") || path.starts_with("/spool/heads") {
            disk.storage().remove(&path).unwrap();
        }
    }
    let (spool, recovery, _) = open(&disk, config());
    assert!(recovery.damaged > 0);
    assert_eq!(spool.usage().lost.iter().map(|lost| lost.count).sum::<u64>(), 30 * N - stored);
    collector.drain(&spool);
    let count = |cause| collector.counts.get(cause);
    assert_eq!((count(Cause::Received), count(Cause::Shipped)), (30 * N, 30 * N));
    assert_eq!(count(Cause::Damaged), 30 * N - stored);
}

/// A disk on which thirty records are a batch each, of 21 to 50 readings.
fn a_batch_of_each_record() -> SimDisk {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    for position in 1..=30 {
        spool.append(position, &rows(&table, position, 20 + position), false).unwrap();
        spool.cut().unwrap();
    }
    spool.cut_if_due(Duration::from_secs(60)).unwrap();
    drop(spool);
    disk
}

/// Before, what three batches in a row had held stood with the last of them.
#[test]
fn each_batch_of_a_segment_that_is_gone_says_what_it_held_and_when() {
    let disk = a_batch_of_each_record();
    let log = |path: &std::path::PathBuf| {
        path.starts_with("/spool/log") && path.extension().is_some_and(|kind| kind == "seg")
    };
    let segments: Vec<_> = disk.paths().into_iter().filter(log).collect();
    assert!(segments.len() > 2, "{segments:?}");
    disk.storage().remove(&segments[1]).unwrap();
    let (spool, recovery, _) = open(&disk, config());
    assert!(recovery.damaged > 1, "{recovery:?}");
    let losses = spool.loss_frames();
    assert_eq!(losses.len() as u64, recovery.damaged);
    let mut collector = Collector::default();
    collector.drain(&spool);
    assert_eq!(collector.counts.get(Cause::Received), (21..=50).sum::<u64>());
    for loss in losses {
        // One batch of each record.
        let counts: std::collections::HashMap<_, _> =
            loss.counts.iter().map(|count| (count.cause, count.count)).collect();
        let n = 20 + loss.seq;
        assert_eq!(counts.get(&(Cause::Received as u32)), Some(&n), "{loss:?}");
        assert_eq!(counts.get(&(Cause::Damaged as u32)), Some(&n), "{loss:?}");
        let at = loss.seq as i64 * SECOND;
        assert_eq!((loss.t0_ns, loss.t1_ns), (at, at));
    }
}

/// Before, times that nobody knows counted as 1970, and so did those of the batches beside that are known.
#[test]
fn of_a_log_that_is_gone_the_times_are_those_that_heads_still_tell() {
    let disk = a_batch_of_each_record();
    for path in disk.paths().into_iter().filter(|path| path.starts_with("/spool/log")) {
        disk.storage().remove(&path).unwrap();
    }
    let (spool, recovery, _) = open(&disk, config());
    assert!(recovery.damaged > 1, "{recovery:?}");
    assert!(spool.loss_frames().iter().all(|loss| loss.t0_ns >= SECOND && loss.t0_ns <= loss.t1_ns));
}

/// Found end to end: windows were older than raw batches and dropped before those were thinned.
#[test]
fn windows_are_not_dropped_while_raw_batches_can_be_thinned() {
    let disk = SimDisk::new(1);
    let config = SpoolConfig {
        max_bytes: 64_000,
        segment_bytes: 16_000,
        batch_bytes: 8_000,
        classes: vec![class("*", Priority::Low, Overflow::Thin(60 * SECOND))],
        ..config()
    };
    let (spool, _, table) = open(&disk, config);
    let key = SeriesKey::new("m", [("device", "d")]).unwrap();
    let series = table.intern(SeriesDef::bare(key)).unwrap();
    let mut random = 1u64;
    for position in 1..=100 {
        let mut rows = Rows::default();
        for at in 0..500 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let value = random as f64 / 1e9;
            rows.push_sample(series, (position * 500 + at) * SECOND / 1000, value, 0);
        }
        rows.count(Cause::Received, 500);
        spool.append(position as u64, &rows, false).unwrap();
        spool.cut_if_due(Duration::from_millis(position as u64)).unwrap();
        assert_eq!(spool.usage().lost, [], "at {position}: {:?}", spool.usage());
    }
    assert!(spool.usage().losses > 0, "some were thinned");
}

/// Folds records one after the other, each into a batch of its own, with readings of these times in seconds.
fn aged(disk: &SimDisk, max_age: u64, times: &[u64]) -> Spool {
    let aged = SpoolConfig { max_age: Some(Duration::from_secs(max_age)), ..config() };
    let (spool, _, table) = open(disk, aged);
    witness(&spool);
    let begin = spool.position();
    for (position, time) in (begin + 1..).zip(times) {
        spool.append(position, &rows(&table, *time, N), false).unwrap();
        spool.cut().unwrap();
    }
    spool.cut_if_due(Duration::from_secs(1000 * begin + 1000)).unwrap();
    spool
}

/// The times that arrive, and the count of readings that had expired.
fn arrive(spool: &Spool) -> (BTreeSet<u64>, u64) {
    let mut collector = Collector::default();
    collector.drain(spool);
    let count = |cause| collector.counts.get(cause);
    assert_eq!(count(Cause::Shipped), collector.values.len() as u64 + count(Cause::Expired));
    assert_eq!(count(Cause::Received), count(Cause::Shipped));
    (collector.values.keys().map(|value| value / 1000).collect(), count(Cause::Expired))
}

#[test]
fn batches_older_than_the_age_cap_expire_and_are_counted_with_their_times() {
    let spool = aged(&SimDisk::new(1), 100, &[10, 20, 300, 399, 400]);
    let lost = spool.usage().lost;
    let [expired] = &lost[..] else { panic!("{lost:?}") };
    assert_eq!((expired.cause, expired.count), (Cause::Expired, 2 * N));
    assert_eq!((expired.from_ns, expired.to_ns), (10 * SECOND, 20 * SECOND));
    assert_eq!(arrive(&spool), (BTreeSet::from([300, 399, 400]), 2 * N), "300 is just as old as may be");
}

#[test]
fn what_came_late_expires_also_behind_younger_batches() {
    let spool = aged(&SimDisk::new(1), 100, &[500, 10, 499, 20, 450]);
    assert_eq!(arrive(&spool), (BTreeSet::from([450, 499, 500]), 2 * N));
}

#[test]
fn nothing_expires_by_waiting_since_a_clock_may_be_wrong() {
    let spool = aged(&SimDisk::new(1), 100, &[10, 20, 30]);
    spool.cut_if_due(Duration::from_secs(1_000_000)).unwrap();
    assert_eq!(arrive(&spool), (BTreeSet::from([10, 20, 30]), 0));
}

#[test]
fn what_lies_ahead_of_the_clock_makes_nothing_expire() {
    let disk = SimDisk::new(1);
    let aged = SpoolConfig { max_age: Some(Duration::from_secs(100)), ..config() };
    let (spool, _, table) = open(&disk, aged);
    let now = 1_790_000_000;
    let look = |spool: &Spool, wall: u64| {
        spool.clock([1; 16], Stamp { wall: wall as i64 * SECOND, mono: 5 * SECOND as u64 });
    };
    // A clock that is a day ahead, until it is put right.
    look(&spool, now + 86_400);
    for (position, time) in (1..).zip([now + 86_400, now - 200, now - 90, now]) {
        spool.append(position, &common::rows(&table, time, N), false).unwrap();
        spool.cut().unwrap();
    }
    look(&spool, now);
    spool.cut_if_due(Duration::from_secs(1000)).unwrap();
    assert_eq!(arrive(&spool), (BTreeSet::from([now - 90, now, now + 86_400]), N));
}

#[test]
fn what_expired_stays_so_over_a_restart_and_what_was_kept_expires_when_its_time_comes() {
    let disk = SimDisk::new(1);
    drop(aged(&disk, 100, &[10, 350, 400]));
    disk.kill();
    let spool = aged(&disk, 100, &[460]);
    assert_eq!(arrive(&spool), (BTreeSet::from([400, 460]), 2 * N));
}
