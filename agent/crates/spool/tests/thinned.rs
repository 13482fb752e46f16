//! Readings that thinning made windows of, and whose windows were lost after all: they are counted as what they were.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use common::{Collector, SECOND, any as offered, class, config, open};
use proptest::prelude::*;
use seglog::sim::SimDisk;
use spool::inspect::{Found, Inspection};
use spool::{Overflow, Priority, Spool, SpoolConfig};
use telemetry::{Cause, Rows, SeriesDef, SeriesKey, SeriesTable};

/// Readings of a record.
const N: u64 = 60;

/// Readings in an order that no encoding makes much smaller.
fn rows(table: &SeriesTable, position: u64) -> Rows {
    let mut rows = Rows::default();
    for at in 0..N {
        let at = (at * 337 + position * position * 91) % 1000;
        let device = (position + at) % 7;
        let key = SeriesKey::new("m", [("device", format!("d{device}"))]).unwrap();
        let series = table.intern(SeriesDef::bare(key)).unwrap();
        rows.push_sample(series, position as i64 * SECOND, (position * 1000 + at) as f64, 0);
    }
    rows.count(Cause::Received, N);
    rows
}

fn thinning(max_bytes: u64, window: i64) -> SpoolConfig {
    SpoolConfig {
        max_bytes,
        batch_bytes: 2000,
        classes: vec![class("*", Priority::Low, Overflow::Thin(window * SECOND))],
        ..config()
    }
}

/// Folds records on from what the spool has up to a position.
fn fill(spool: &Spool, table: &SeriesTable, until: u64) {
    for position in spool.position() + 1..=until {
        spool.append(position, &rows(table, position), false).unwrap();
        spool.cut_if_due(Duration::from_millis(position)).unwrap();
    }
    spool.cut().unwrap();
    spool.cut_if_due(Duration::from_secs(60)).unwrap();
}

/// Both sums of what the collector was told, for so many readings that were received.
fn balances(collector: &Collector, received: u64) {
    let count = |cause| collector.counts.get(cause);
    let stored = collector.values.len() as u64 + collector.windows;
    let lost = count(Cause::Overflowed) + count(Cause::Damaged);
    assert_eq!(count(Cause::Received), received);
    assert_eq!(received + count(Cause::Derived), count(Cause::ReducedWindow) + count(Cause::Shipped));
    assert_eq!(count(Cause::Shipped), stored + lost, "{:?}", collector.counts);
    assert!(collector.values.values().all(|times| *times == 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn each_reading_is_stored_or_in_a_stored_window_or_lost_and_counted(
        seed in any::<u64>(), cap in 10_000u64..60_000, window in 2i64..120,
        stops in proptest::collection::vec((1u64..700, any::<bool>(), any::<bool>()), 1..6),
    ) {
        let disk = SimDisk::new(seed);
        let (mut spool, _, mut table) = open(&disk, thinning(cap, window));
        let mut collector = Collector::default();
        let mut last = 0;
        for (more, killed, sends) in stops {
            last += more;
            fill(&spool, &table, last);
            if sends {
                // Some of what is there is offered, and one batch stored without an answer.
                let (holdings, conflicts) = collector.greeting(&spool.hello());
                spool.greet(&holdings, &conflicts).unwrap();
                if let Some(batch) = offered(&spool) {
                    collector.take(&batch);
                }
                spool.session_lost();
            }
            let counted = spool.counted();
            drop(spool);
            if killed {
                disk.kill();
            }
            let found;
            (spool, found, table) = open(&disk, thinning(cap, window));
            prop_assert_eq!(found.damaged, 0);
            prop_assert_eq!(spool.counted(), counted);
        }
        collector.drain(&spool);
        let received = last * N;
        balances(&collector, received);
        let kept = collector.values.len() as u64 + collector.windowed;
        prop_assert_eq!(kept + collector.counts.get(Cause::Overflowed), received);
    }

    #[test]
    fn damage_behind_lost_windows_takes_no_more_and_no_less_than_was_there(
        seed in any::<u64>(), cap in 20_000u64..60_000, window in 2i64..60,
    ) {
        let disk = SimDisk::new(seed);
        let (spool, _, table) = open(&disk, thinning(cap, window));
        fill(&spool, &table, 1500);
        drop(spool);
        // Readings that came last, and were not thinned.
        let (spool, _, table) = open(&disk, thinning(u64::MAX, window));
        fill(&spool, &table, 1800);
        drop(spool);
        let log = disk.paths().into_iter().filter(|path| path.starts_with("/spool/log"));
        let segments: Vec<_> = log.filter(|path| path.extension().is_some_and(|is| is == "seg")).collect();
        disk.storage().remove(&segments[segments.len() - 2]).unwrap();
        let (spool, found, _) = open(&disk, thinning(u64::MAX, window));
        prop_assert!(found.damaged > 0);
        let mut collector = Collector::default();
        collector.drain(&spool);
        balances(&collector, 1800 * N);
        let kept = collector.values.len() as u64 + collector.windowed;
        let lost = collector.counts.get(Cause::Overflowed) + collector.counts.get(Cause::Damaged);
        prop_assert_eq!(kept + lost, 1800 * N);
    }
}

/// The same as [`fill`] on a disk that may lose its power.
fn try_fill(spool: &Spool, table: &SeriesTable, until: u64) -> Result<(), spool::SpoolError> {
    for position in spool.position() + 1..=until {
        spool.append(position, &rows(table, position), false)?;
        spool.cut_if_due(Duration::from_millis(position))?;
        if position % 10 == 0 {
            spool.cut()?;
        }
    }
    spool.cut()?;
    spool.cut_if_due(Duration::from_secs(60)).map(drop)
}

/// The files and places of the last byte of each record of windows in the log.
fn records_of_windows(disk: &SimDisk) -> Vec<(std::path::PathBuf, usize)> {
    let mut numbers = Vec::new();
    let inspection = Inspection::open(disk.image(1).storage(), Path::new("/spool")).unwrap();
    let walked = inspection.walk(&mut |found| {
        if let Found::Batch(batch) = found
            && wire::payload::decode(batch.payload).is_ok_and(|payload| !payload.windows.is_empty())
        {
            numbers.push(batch.record);
        }
        ControlFlow::Continue(())
    });
    walked.unwrap();
    let mut places = Vec::new();
    let all = disk.paths().into_iter().filter(|path| path.starts_with("/spool/log"));
    for path in all.filter(|path| path.extension().is_some_and(|is| is == "seg")) {
        let content = disk.read(&path).unwrap();
        let mut at = 64;
        while at + 16 <= content.len() {
            let word = |at: usize| content[at..at + 4].try_into().map(u32::from_le_bytes).unwrap();
            let (len, number) = (word(at) as usize, u64::from(word(at + 8)));
            at += 16 + len;
            if numbers.contains(&number) {
                places.push((path.clone(), at - 1));
            }
        }
    }
    places
}

#[test]
fn windows_that_are_damaged_beside_the_batches_they_were_made_of_count_those_once() {
    const CAP: u64 = 30_000;
    // Up to the record with which the first batches are thinned.
    let disk = SimDisk::new(3);
    let (spool, _, table) = open(&disk, thinning(CAP, 60));
    let mut at = 0;
    while spool.counted().get(Cause::ReducedWindow) == 0 {
        at += 10;
        fill(&spool, &table, at);
    }
    let base = SimDisk::new(3);
    let (spool, _, table) = open(&base, thinning(CAP, 60));
    (10..at).step_by(10).for_each(|upto| fill(&spool, &table, upto));
    drop(spool);
    // Behind a start, in a segment of its own, they are thinned a little later.
    let at = at + 40;
    let (mut tried, mut back, mut gone) = (0, 0, 0);
    for calls in 0.. {
        let disk = base.image(1);
        let (spool, _, table) = open(&disk, thinning(CAP, 60));
        disk.crash_after(calls);
        _ = try_fill(&spool, &table, at);
        let ended = !disk.is_off();
        drop(spool);
        disk.crash();
        for (path, offset) in records_of_windows(&disk) {
            for again in [false, true] {
                let disk = disk.image(1);
                assert!(disk.rot(&path, offset, 1));
                let (mut spool, found, mut table) = open(&disk, thinning(u64::MAX, 60));
                if again {
                    // A start that got as far as the loss, or as a batch, and one that did nothing.
                    for stop in [0, 2, 5] {
                        disk.crash_after(stop);
                        _ = try_fill(&spool, &table, at + 1);
                        drop(spool);
                        disk.crash();
                        (spool, _, table) = open(&disk, thinning(u64::MAX, 60));
                    }
                }
                fill(&spool, &table, at + 2);
                let mut collector = Collector::default();
                collector.drain(&spool);
                balances(&collector, (at + 2) * N);
                let kept = collector.values.len() as u64 + collector.windowed;
                let lost = collector.counts.get(Cause::Damaged) + collector.counts.get(Cause::Overflowed);
                assert_eq!(kept + lost, (at + 2) * N, "after {calls} calls, {found:?}");
                tried += 1;
                back += u64::from(found.damaged > 0 && lost == 0);
                gone += u64::from(lost > 0);
            }
        }
        if ended {
            break;
        }
    }
    assert!(back > 0 && gone > 0, "of {tried} all came back in {back}, and none in {gone}");
}
