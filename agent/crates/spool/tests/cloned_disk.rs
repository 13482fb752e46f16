//! Two that cut under one epoch: clones of a disk, a disk that was restored, and a collector that speaks of the other's batches.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use common::{Collector, SECOND, any, config, key, open, rows};
use seglog::sim::SimDisk;
use telemetry::{Cause, Rows, SeriesDef, SeriesKey};
use wire::v1;

/// A disk image: every file as it is.
fn copy(disk: &SimDisk) -> SimDisk {
    let clone = SimDisk::new(99);
    for path in disk.paths() {
        clone.put(&path, &disk.read(&path).unwrap());
    }
    clone
}

#[test]
fn a_cloned_disk_neither_loses_nor_doubles_a_reading_of_either() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    let mut collector = Collector::default();
    for position in 1..=20 {
        spool.append(position, &rows(&table, position, 20), false).unwrap();
    }
    drop(spool);
    // Both replay the same journal from here, then go their own ways.
    let image = copy(&disk);
    let start = |disk: &SimDisk, own: u64| {
        let (spool, _, table) = open(disk, config());
        for position in spool.position() + 1..=40 {
            spool.append(position, &rows(&table, position, 20), true).unwrap();
        }
        spool.cut().unwrap();
        for position in 41..=60 {
            // Values of their own: the positions are the same.
            let mut rows = rows(&table, position, 20);
            let moved = rows.values.iter().map(|value| value + own as f64 * 7_000_000.0).collect();
            rows.values = moved;
            rows.times = vec![rows.values[0] as i64 / 1000 * SECOND; 20];
            spool.append(position, &rows, false).unwrap();
        }
        spool.cut().unwrap();
        spool
    };
    let (a, b) = (start(&disk, 1), start(&image, 2));
    assert_eq!(a.usage().epoch, b.usage().epoch, "they don't know of each other");
    for _ in 0..3 {
        collector.drain(&a);
        collector.drain(&b);
    }
    assert_ne!(a.usage().epoch, b.usage().epoch);
    assert_eq!((a.usage().batches, b.usage().batches), (0, 0));
    assert!(collector.values.values().all(|n| *n == 1), "stored twice");
    assert_eq!(collector.values.len(), 40 * 20 + 2 * 20 * 20);
}

/// Seed 22407 of the simulation: a clone connected while it still cut what it shares with the other one. The
/// collector had more of the epoch than it did, so it began a new one, and the rest was stored under both names.
#[test]
fn a_clone_that_connects_before_it_has_cut_what_it_shares_keeps_its_epoch_until_it_has() {
    let disk = SimDisk::new(1);
    drop(open(&disk, config()));
    let image = copy(&disk);
    let mut collector = Collector::default();
    let (a, _, table) = open(&disk, config());
    for position in 1..=40 {
        a.append(position, &rows(&table, position, 20), true).unwrap();
    }
    a.cut().unwrap();
    a.append(41, &rows(&table, 41, 20), false).unwrap();
    a.cut().unwrap();
    collector.drain(&a);
    let (b, _, table) = open(&image, config());
    b.replaying();
    for position in 1..=40 {
        b.append(position, &rows(&table, position, 20), true).unwrap();
        if position == 20 {
            collector.drain(&b);
        }
    }
    b.cut().unwrap();
    assert_eq!(a.usage().epoch, b.usage().epoch);
    b.replayed().unwrap();
    assert_ne!(a.usage().epoch, b.usage().epoch, "what comes now the other one may have named");
    b.append(42, &rows(&table, 42, 20), false).unwrap();
    b.cut().unwrap();
    collector.drain(&b);
    assert!(collector.values.values().all(|n| *n == 1), "stored twice");
    assert_eq!(collector.values.len(), 42 * 20);
}

#[test]
fn clones_that_give_one_number_to_two_series_lose_nothing_though_their_bytes_are_equal() {
    let one = SimDisk::new(1);
    let (spool, _, table) = open(&one, config());
    let mut collector = Collector::default();
    spool.append(1, &rows(&table, 1, 7), false).unwrap();
    spool.cut().unwrap();
    collector.drain(&spool);
    drop(spool);
    let two = copy(&one);
    let equal = |disk: &SimDisk, device: &str| {
        let (spool, _, table) = open(disk, config());
        let key = SeriesKey::new("own", [("device", device)]).unwrap();
        let series = table.intern(SeriesDef::bare(key)).unwrap();
        let mut rows = Rows::default();
        // As `Collector` counts values: 9000 is index 0 of record 9, on device d2.
        rows.push_sample(series, 9 * SECOND, 9000.0, 0);
        rows.count(Cause::Received, 1);
        spool.append(9, &rows, false).unwrap();
        spool.cut().unwrap();
        spool
    };
    let (first, second) = (equal(&one, "d2"), equal(&two, "d2-of-another"));
    // Both say that they may still have what was acknowledged just before they were copied.
    let own = |spool: &spool::Spool| spool.hello().unacked.pop().unwrap();
    let (a, b) = (own(&first), own(&second));
    assert_eq!((&a.epoch, a.seq), (&b.epoch, b.seq), "both have cut the same name");
    assert_ne!(a.checksum, b.checksum);
    let last = |spool: &spool::Spool| std::iter::from_fn(|| any(spool)).last().unwrap().payload;
    assert_eq!(last(&first), last(&second), "and the same bytes");
}

#[test]
fn a_restored_disk_begins_a_new_epoch_when_the_collector_knows_more_than_it() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    let mut collector = Collector::default();
    spool.append(1, &rows(&table, 1, 3), false).unwrap();
    spool.cut().unwrap();
    let image = copy(&disk);
    for position in 2..=5 {
        spool.append(position, &rows(&table, position, 3), false).unwrap();
        spool.cut().unwrap();
    }
    collector.drain(&spool);
    let (restored, _, table) = open(&image, config());
    // Its first batch is known and done; what it cuts next must not be taken for what the other cut.
    let (holdings, conflicts) = collector.greeting(&restored.hello());
    let greeted = restored.greet(&holdings, &conflicts).unwrap();
    assert_eq!((greeted.confirmed, greeted.relabelled), (1, 0));
    assert!(greeted.new_epoch.is_some());
    restored.append(100, &rows(&table, 100, 3), false).unwrap();
    restored.cut().unwrap();
    collector.drain(&restored);
    assert_eq!(collector.values.len(), 18);
    // The new epoch outlives a restart.
    let epoch = restored.usage().epoch;
    drop(restored);
    assert_eq!(open(&image, config()).0.usage().epoch, epoch);
}

#[test]
fn a_conflict_renames_the_batch_alone_and_later_ones_join_it_in_the_new_epoch() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    for position in 1..=4 {
        spool.append(position, &rows(&table, position, 3), false).unwrap();
        spool.cut().unwrap();
    }
    let (first, second) = (any(&spool).unwrap(), any(&spool).unwrap());
    spool.conflict(key(&first), &[7; 16]).unwrap();
    spool.acked(&[v1::Holdings { epoch: second.epoch.clone(), upto: 2, ranges: vec![] }]).unwrap();
    let (third, fourth, renamed) = (any(&spool).unwrap(), any(&spool).unwrap(), any(&spool).unwrap());
    assert_eq!((third.seq, fourth.seq, &third.epoch, &fourth.epoch), (3, 4, &first.epoch, &first.epoch));
    assert_ne!(renamed.epoch, first.epoch);
    assert_eq!((renamed.seq, &renamed.payload), (1, &first.payload), "the payload is unchanged");
    assert!(!renamed.definitions.is_empty(), "the new epoch has no definitions yet");
    assert!(any(&spool).is_none());
    // A second conflict needs no third epoch.
    spool.conflict(key(&third), &[7; 16]).unwrap();
    let again = any(&spool).unwrap();
    assert_eq!((again.seq, &again.epoch, &again.payload), (2, &renamed.epoch, &third.payload));
    spool.append(5, &rows(&table, 5, 3), false).unwrap();
    let cut = spool.cut().unwrap().unwrap();
    assert_eq!((cut.epoch.0.to_vec(), cut.seq), (renamed.epoch, 3));
    let before = spool.hello();
    drop(spool);
    assert_eq!(open(&disk, config()).0.hello(), before, "names survive a restart");
}

/// The collector speaks of what it holds while the agent goes on cutting: a clone's batch was taken for the one that was cut
/// between the hello and the greeting, under the same name, and its readings were let go.
#[test]
fn a_batch_cut_between_hello_and_greeting_is_not_what_the_collector_speaks_of() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    spool.append(1, &rows(&table, 1, 7), false).unwrap();
    spool.cut().unwrap();
    let hello = spool.hello();
    assert_eq!(hello.next_seq, 2);
    spool.append(2, &rows(&table, 2, 7), false).unwrap();
    spool.cut().unwrap();
    // A clone has the first batch in common, and cut a second one of its own.
    let epoch = hello.epoch.0.to_vec();
    let greeted =
        spool.greet(&[v1::Holdings { epoch: epoch.clone(), upto: 2, ranges: Vec::new() }], &[]).unwrap();
    assert_eq!((greeted.confirmed, greeted.relabelled), (1, 1));
    assert!(greeted.new_epoch.is_some());
    let left: Vec<_> = std::iter::from_fn(|| any(&spool)).collect();
    assert_eq!(left.len(), 1, "what was cut meanwhile is still to be sent");
    assert_ne!(left[0].epoch, epoch);
}

/// The hello came while the start still replayed the journal, the greeting after something new was cut: the collector speaks
/// of a clone's batch under its name (simulation, seed 112945: 54 acknowledged readings were let go).
#[test]
fn a_batch_cut_between_replay_and_greeting_is_not_what_the_collector_speaks_of() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    spool.replaying();
    let hello = spool.hello();
    spool.append(1, &rows(&table, 1, 7), true).unwrap();
    spool.cut().unwrap();
    spool.replayed().unwrap();
    spool.append(2, &rows(&table, 2, 7), false).unwrap();
    spool.cut().unwrap();
    let epoch = hello.epoch.0.to_vec();
    let holdings = v1::Holdings { epoch: epoch.clone(), upto: 9, ranges: Vec::new() };
    let greeted = spool.greet(std::slice::from_ref(&holdings), &[]).unwrap();
    assert_eq!((greeted.confirmed, greeted.relabelled), (0, 1));
    let sent: Vec<_> = std::iter::from_fn(|| any(&spool)).collect();
    assert_eq!(sent.iter().filter(|batch| batch.epoch == epoch).count(), 1, "the shared one keeps its name");
    spool.acked(&[holdings]).unwrap();
    assert_eq!(spool.usage().batches, 1, "the new one isn't what is acknowledged");
}

/// What gathered while the link was down is cut once the collector has spoken, so that it isn't taken for another's either.
#[test]
fn what_gathered_before_a_greeting_is_cut_after_it() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    let hello = spool.hello();
    spool.append(1, &rows(&table, 1, 7), false).unwrap();
    let epoch = hello.epoch.0.to_vec();
    let greeted =
        spool.greet(&[v1::Holdings { epoch: epoch.clone(), upto: 1, ranges: Vec::new() }], &[]).unwrap();
    assert!(greeted.new_epoch.is_some());
    let left: Vec<_> = std::iter::from_fn(|| any(&spool)).collect();
    assert_eq!(left.len(), 1);
    assert_ne!(left[0].epoch, epoch);
}
