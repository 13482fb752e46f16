//! A disk on which others are to have more than is free: the spool goes on in small steps where it can, and never takes more
//! than its reserve.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Collector, config, open, rows};
use seglog::sim::SimDisk;
use spool::{Spool, SpoolConfig, SpoolError};
use telemetry::{Cause, SeriesTable};

const DISK: u64 = 2_000_000;
const MIN_FREE: u64 = 1_200_000;
const RESERVE: u64 = 20_000;
/// What the log may take beyond its reserve: one cut, and a segment that is not complete.
const SLACK: u64 = 10_000;
const N: u64 = 40;

fn floor() -> SpoolConfig {
    SpoolConfig {
        segment_bytes: 100_000,
        batch_bytes: 2000,
        min_free_bytes: MIN_FREE,
        floor_reserve_bytes: RESERVE,
        ..config()
    }
}

/// Others take the disk down to less than they are to have.
fn taken(disk: &SimDisk) {
    disk.set_capacity(Some(DISK));
    disk.put(Path::new("/others"), &vec![0; (DISK - disk.used() - MIN_FREE / 2) as usize]);
}

/// Folds records on from a position until the spool refuses; the next position to fold.
fn fill(spool: &Spool, table: &SeriesTable, from: u64) -> u64 {
    for position in from..from + 100_000 {
        let took = spool.append(position, &rows(table, position, N), false);
        if took.and_then(|()| spool.cut_if_due(Duration::from_secs(100 * position))).is_err() {
            return position;
        }
    }
    panic!("nothing refused it: {:?}", spool.usage());
}

/// One whole session as far as what is there goes, without its end.
fn connect(spool: &Spool, collector: &Collector) {
    let (holdings, conflicts) = collector.greeting(&spool.hello());
    spool.greet(&holdings, &conflicts).unwrap();
}

#[test]
fn while_a_collector_takes_them_batches_go_on_in_small_steps_below_the_floor() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, floor());
    taken(&disk);
    let mut next = fill(&spool, &table, 1);
    assert!(spool.usage().trouble.unwrap().contains("spool.min_free"), "nobody is connected");
    let mut collector = Collector::default();
    for _ in 0..50 {
        // Ends with the session: a position whose rows were refused is folded again.
        collector.drain(&spool);
        connect(&spool, &collector);
        let before = next;
        next = fill(&spool, &table, next);
        assert!(next > before + 3, "it goes on: {:?}", spool.usage());
        assert!(spool.usage().floor.unwrap().contains("spool.min_free"));
        assert!(spool.usage().disk_bytes <= RESERVE + SLACK, "{}", spool.usage().disk_bytes);
    }
    disk.set_capacity(None);
    spool.append(next, &rows(&table, next, N), false).unwrap();
    spool.cut().unwrap();
    assert_eq!((spool.usage().floor, spool.usage().trouble), (None, None));
    collector.drain(&spool);
    assert_eq!(collector.values.len() as u64, next * N);
    assert!(collector.values.values().all(|times| *times == 1));
}

#[test]
fn sessions_that_end_without_an_ack_and_restarts_take_no_more_than_the_reserve() {
    let disk = SimDisk::new(2);
    let (mut spool, _, mut table) = open(&disk, floor());
    taken(&disk);
    let collector = Collector::default();
    let mut next = 1;
    for round in 0..60 {
        connect(&spool, &collector);
        next = fill(&spool, &table, next);
        spool.session_lost();
        if round % 3 == 2 {
            next = spool.position() + 1;
            drop(spool);
            disk.kill();
            (spool, _, table) = open(&disk, floor());
        }
        let log = disk.paths().into_iter().filter(|path| path.starts_with("/spool/log"));
        let bytes: usize = log.filter_map(|path| disk.read(&path)).map(|content| content.len()).sum();
        assert!((bytes as u64) <= RESERVE + SLACK, "round {round}: {bytes}");
    }
}

#[test]
fn a_backlog_that_holds_the_disk_makes_room_for_fresh_batches_with_its_acks() {
    let disk = SimDisk::new(3);
    let (spool, _, table) = open(&disk, floor());
    // 1.5 MB less than the disk: the backlog is what goes below the floor.
    disk.set_capacity(Some(DISK));
    let next = fill(&spool, &table, 1);
    let backlog = spool.usage().disk_bytes;
    assert!(backlog > 20 * RESERVE, "{backlog}");
    let mut collector = Collector::default();
    connect(&spool, &collector);
    let later = fill(&spool, &table, next);
    assert!(later > next + 3, "fresh ones have the reserve at once");
    assert!(spool.usage().disk_bytes <= backlog + RESERVE + SLACK);
    collector.drain(&spool);
    spool.append(later, &rows(&table, later, N), false).unwrap();
    spool.cut().unwrap();
    collector.drain(&spool);
    assert_eq!(collector.values.len() as u64, later * N);
}

#[test]
fn where_batches_give_way_at_the_floor_the_newest_find_room_and_the_others_are_counted() {
    let disk = SimDisk::new(4);
    let (spool, _, table) = open(&disk, SpoolConfig { drop_at_floor: true, ..floor() });
    disk.set_capacity(Some(DISK));
    let mut position = 0;
    let mut fold = |records: u64| {
        for _ in 0..records {
            position += 1;
            spool.append(position, &rows(&table, position, N), false).unwrap();
            spool.cut_if_due(Duration::from_millis(position)).unwrap();
        }
        spool.cut().unwrap();
        position
    };
    // A backlog that is in one large segment when others take the disk, as nobody is connected.
    fold(2000);
    assert_eq!(spool.usage().losses, 0);
    assert!(spool.usage().disk_bytes > 2 * RESERVE, "{}", spool.usage().disk_bytes);
    taken(&disk);
    let last = fold(2000);
    assert!(spool.usage().disk_bytes <= 2 * RESERVE + SLACK, "{}", spool.usage().disk_bytes);
    let mut collector = Collector::default();
    collector.drain(&spool);
    let (received, dropped) =
        (collector.counts.get(Cause::Received), collector.counts.get(Cause::Overflowed));
    assert_eq!(received, last * N);
    assert_eq!(dropped + collector.values.len() as u64, received, "{dropped} were dropped");
    assert!(collector.values.keys().max().unwrap() / 1000 == last, "the newest are there");
    assert!(dropped > 0);
}

#[test]
fn the_floor_takes_nothing_of_what_is_within_the_reserve() {
    let disk = SimDisk::new(5);
    let (spool, _, table) = open(&disk, SpoolConfig { drop_at_floor: true, ..floor() });
    taken(&disk);
    for position in 1..=20 {
        spool.append(position, &rows(&table, position, N), false).unwrap();
        spool.cut_if_due(Duration::from_secs(100 * position)).unwrap();
    }
    assert!(spool.usage().disk_bytes < RESERVE);
    assert_eq!(spool.usage().losses, 0, "others would gain next to nothing");
}

#[test]
fn a_refusal_below_the_floor_names_both_figures() {
    let disk = SimDisk::new(6);
    let (spool, _, table) = open(&disk, floor());
    taken(&disk);
    fill(&spool, &table, 1);
    let refused = spool.cut().unwrap_err();
    assert!(matches!(refused, SpoolError::Floor { min_free: MIN_FREE, .. }), "{refused}");
}
