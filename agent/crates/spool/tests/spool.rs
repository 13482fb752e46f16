//! What a spool does, one behaviour a test, on a disk that can fail.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::{Answer, Collector, SECOND, any, config, key, open, rows, witness};
use seglog::sim::SimDisk;
use spool::{SpoolConfig, SpoolError};
use telemetry::{Cause, Lane, Rows};
use wire::v1;

const MS: fn(u64) -> Duration = Duration::from_millis;

#[test]
fn the_first_batch_is_cut_at_once_and_the_next_when_it_was_acked_or_lingered() {
    let disk = SimDisk::new(1);
    let (spool, recovery, table) = open(&disk, config());
    assert!(recovery.new_epoch);
    spool.greet(&[], &[]).unwrap();
    assert_eq!(spool.due(MS(0)), None);
    spool.append(1, &rows(&table, 1, 3), false).unwrap();
    assert_eq!(spool.due(MS(0)), Some(MS(0)));
    let first = spool.cut_if_due(MS(0)).unwrap().unwrap();
    assert_eq!((first.seq, spool.position(), spool.durable_position()), (1, 1, 1));

    spool.append(2, &rows(&table, 2, 3), false).unwrap();
    assert_eq!(spool.cut_if_due(MS(1)).unwrap(), None, "the first one is under way");
    assert_eq!(spool.durable_position(), 1);
    assert_eq!(spool.due(MS(1)), Some(MS(50)));
    let batch = any(&spool).unwrap();
    assert_eq!(key(&batch), first);
    spool.acked(&[v1::Holdings { epoch: batch.epoch.clone(), upto: 1, ranges: vec![] }]).unwrap();
    assert_eq!(spool.cut_if_due(MS(2)).unwrap().unwrap().seq, 2);

    spool.append(3, &rows(&table, 3, 3), false).unwrap();
    assert_eq!(spool.cut_if_due(MS(3)).unwrap(), None);
    assert_eq!(spool.cut_if_due(MS(52)).unwrap(), None);
    assert_eq!(spool.cut_if_due(MS(53)).unwrap().unwrap().seq, 3, "lingered");
    spool.session_lost();
    spool.append(4, &rows(&table, 4, 3), false).unwrap();
    assert_eq!(spool.cut_if_due(MS(100)).unwrap(), None);
    assert_eq!(spool.cut_if_due(MS(1000)).unwrap(), None, "offline there is no hurry");
    assert_eq!(spool.cut_if_due(MS(5100)).unwrap().unwrap().seq, 4);
}

#[test]
fn whoever_cuts_is_woken_by_the_ack_that_rows_wait_for_and_by_no_other() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    let woken = Arc::new(AtomicU32::new(0));
    let times = Arc::clone(&woken);
    spool.when_due(move || _ = times.fetch_add(1, Ordering::Relaxed));
    spool.greet(&[], &[]).unwrap();
    let ack = |upto: u64| {
        let epoch = spool.hello().epoch.0.to_vec();
        spool.acked(&[v1::Holdings { epoch, upto, ranges: vec![] }]).unwrap();
        woken.load(Ordering::Relaxed)
    };
    spool.append(1, &rows(&table, 1, 3), false).unwrap();
    spool.cut_if_due(MS(0)).unwrap().unwrap();
    any(&spool).unwrap();
    assert_eq!(ack(1), 0, "no rows wait");

    spool.append(2, &rows(&table, 2, 3), false).unwrap();
    spool.cut_if_due(MS(1)).unwrap().unwrap();
    any(&spool).unwrap();
    spool.append(3, &rows(&table, 3, 3), false).unwrap();
    assert_eq!(spool.cut_if_due(MS(2)).unwrap(), None);
    assert_eq!(ack(1), 0, "an old ack says nothing new");
    assert_eq!(ack(2), 1);
    assert_eq!(spool.due(MS(2)), Some(MS(0)));
}

#[test]
fn a_batch_is_cut_at_its_size_and_rows_that_a_batch_has_are_passed_over() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    for position in 1..=10 {
        spool.append(position, &rows(&table, position, 50), false).unwrap();
        spool.append(position, &rows(&table, position, 50), false).unwrap();
    }
    spool.cut().unwrap();
    assert_eq!(spool.usage().batches, 3);
    let mut collector = Collector::default();
    collector.drain(&spool);
    assert!(collector.values.values().all(|n| *n == 1));
    assert_eq!(collector.values.len(), 500);
    assert_eq!((collector.counts.get(Cause::Shipped), collector.counts.get(Cause::Received)), (500, 500));
    assert_eq!(spool.usage().batches, 0);
}

#[test]
fn what_was_only_counted_waits_a_second_or_for_the_next_rows() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    spool.greet(&[], &[]).unwrap();
    let mut counted = Rows::default();
    counted.count(Cause::Received, 5);
    spool.append(1, &counted, false).unwrap();
    assert_eq!(spool.cut_if_due(MS(0)).unwrap(), None, "nobody waits for a count");
    assert_eq!(spool.due(MS(10)), Some(MS(990)));
    assert_eq!(spool.cut_if_due(MS(999)).unwrap(), None);
    assert_eq!(spool.cut_if_due(MS(1000)).unwrap().unwrap().seq, 1);
    let mut collector = Collector::default();
    collector.drain(&spool);

    spool.append(2, &counted, false).unwrap();
    assert_eq!(spool.cut_if_due(MS(1001)).unwrap(), None);
    spool.append(3, &rows(&table, 3, 1), false).unwrap();
    assert_eq!(
        spool.cut_if_due(MS(1002)).unwrap().unwrap().seq,
        2,
        "rows go at once and take the count along"
    );
    collector.drain(&spool);
    assert_eq!(collector.counts.get(Cause::Received), 11);
}

#[test]
fn the_uplink_is_woken_for_a_batch_and_not_for_a_row() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    spool.greet(&[], &[]).unwrap();
    let woken = |act: &dyn Fn()| {
        let mut changed = std::pin::pin!(spool.changed().notified());
        changed.as_mut().enable();
        act();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::future::Future::poll(changed, &mut context).is_ready()
    };
    assert!(!woken(&|| spool.append(1, &rows(&table, 1, 3), false).unwrap()));
    assert_eq!(spool.usage().pending_rows, 3);
    assert!(woken(&|| assert!(spool.cut_if_due(MS(0)).unwrap().is_some())));
    assert_eq!(spool.usage().pending_rows, 0);
    assert!(!woken(&|| assert!(spool.cut_if_due(MS(1)).unwrap().is_none())));
    // A batch that is full is cut while rows are taken.
    assert!(woken(&|| spool.append(2, &rows(&table, 2, 300), false).unwrap()));
}

#[test]
fn records_without_rows_move_the_durable_position() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    spool.append(7, &Rows::default(), false).unwrap();
    assert_eq!(spool.durable_position(), 7);
    spool.append(8, &rows(&table, 8, 1), false).unwrap();
    spool.append(9, &Rows::default(), false).unwrap();
    assert_eq!(spool.durable_position(), 7);
    spool.cut().unwrap();
    assert_eq!((spool.durable_position(), spool.position()), (9, 9));
}

#[test]
fn a_log_that_fails_again_and_again_is_opened_anew_with_pauses_that_grow() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    spool.append(1, &rows(&table, 1, 3), false).unwrap();
    disk.fail_sync_after(0);
    assert!(matches!(spool.cut(), Err(SpoolError::Broken(_))));
    // At once, then after 1 s, 2 s, 4 s …: between them the disk isn't asked.
    let mut at = 0;
    for pause in [0, 1, 2, 4, 8, 16, 30, 30] {
        if pause > 0 {
            spool.time(Duration::from_millis(1_000 * (at + pause) - 1));
            let calls = disk.calls();
            for _ in 0..3 {
                assert!(matches!(spool.cut(), Err(SpoolError::Broken(_))), "{pause}");
            }
            assert_eq!(disk.calls(), calls, "{pause}");
        }
        at += pause;
        spool.time(Duration::from_secs(at));
        let calls = disk.calls();
        disk.fail_sync_after(0);
        assert!(matches!(spool.cut(), Err(SpoolError::Broken(_))), "{pause}");
        assert!(disk.calls() > calls, "{pause}");
    }
    assert!(spool.usage().trouble.is_some());
    at += 30;
    spool.time(Duration::from_secs(at));
    spool.cut().unwrap();
    assert_eq!(spool.usage().trouble, None);
    // The next trouble begins from the beginning: it is tried at once.
    spool.append(2, &rows(&table, 2, 3), false).unwrap();
    disk.fail_sync_after(0);
    assert!(matches!(spool.cut(), Err(SpoolError::Broken(_))));
    spool.cut().unwrap();
    assert_eq!(spool.durable_position(), 2);
}

#[test]
fn nothing_is_offered_before_its_fsync_and_a_failed_one_gives_the_same_batch_again() {
    let disk = SimDisk::new(3);
    let (spool, _, table) = open(&disk, config());
    spool.append(1, &rows(&table, 1, 3), false).unwrap();
    disk.fail_sync_after(0);
    assert!(matches!(spool.cut(), Err(SpoolError::Broken(_))));
    assert!(any(&spool).is_none());
    assert_eq!((spool.position(), spool.durable_position()), (0, 0));
    assert!(spool.usage().trouble.is_some());
    // The log is reopened and the batch written again.
    spool.append(2, &rows(&table, 2, 3), false).unwrap();
    assert_eq!(spool.durable_position(), 1);
    assert_eq!(spool.usage().trouble, None);
    assert_eq!(any(&spool).unwrap().seq, 1);
    disk.crash();
    drop(spool);
    let (spool, recovery, _) = open(&disk, config());
    assert_eq!((recovery.batches, recovery.damaged, spool.position()), (1, 0, 1));
}

#[test]
fn a_full_disk_loses_nothing_and_acks_free_it() {
    let disk = SimDisk::new(5);
    let (spool, _, table) = open(&disk, config());
    let mut collector = Collector::default();
    let used =
        |disk: &SimDisk| disk.paths().iter().map(|path| disk.read(path).unwrap().len() as u64).sum::<u64>();
    for position in 1..=100 {
        spool.append(position, &rows(&table, position, 50), false).unwrap();
    }
    disk.set_capacity(Some(used(&disk) + 1000));
    let mut position = 101;
    let full = loop {
        match spool.append(position, &rows(&table, position, 50), false) {
            Ok(()) => position += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, SpoolError::Full), "{full}");
    assert!(matches!(spool.append(position, &rows(&table, position, 50), false), Err(SpoolError::Full)));
    collector.drain(&spool);
    for position in position..=150 {
        spool.append(position, &rows(&table, position, 50), false).unwrap();
        spool.cut_if_due(MS(position)).unwrap();
        collector.drain(&spool);
    }
    spool.cut().unwrap();
    collector.drain(&spool);
    assert_eq!(collector.values.len(), 150 * 50);
    assert!(collector.values.values().all(|n| *n == 1));
}

#[test]
fn acked_segments_are_unlinked_and_numbers_and_positions_survive_an_emptied_spool() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    let mut collector = Collector::default();
    for position in 1..=200 {
        spool.append(position, &rows(&table, position, 50), false).unwrap();
        spool.cut_if_due(MS(position)).unwrap();
    }
    spool.cut().unwrap();
    let full = spool.usage().disk_bytes;
    collector.drain(&spool);
    spool.cut_if_due(MS(300)).unwrap();
    let usage = spool.usage();
    assert!(usage.disk_bytes < full / 4, "{} of {full}", usage.disk_bytes);
    let (epoch, next) = (usage.epoch, usage.next_seq);
    drop(spool);
    let (spool, recovery, table) = open(&disk, config());
    assert!(!recovery.new_epoch);
    assert_eq!((recovery.batches, spool.position()), (0, 200));
    assert_eq!((spool.usage().epoch, spool.usage().next_seq), (epoch, next));
    spool.append(201, &rows(&table, 201, 5), false).unwrap();
    spool.cut().unwrap();
    collector.drain(&spool);
    assert_eq!(collector.values.len(), 200 * 50 + 5);
}

#[test]
fn definitions_travel_until_a_batch_that_carried_them_is_acked() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    let send = |position| {
        spool.append(position, &rows(&table, position, 7), false).unwrap();
        spool.cut().unwrap();
        any(&spool).unwrap()
    };
    let first = send(1);
    let second = send(2);
    assert_eq!(wire::definitions::decode(&first.definitions).unwrap().len(), 7);
    assert_eq!(wire::definitions::decode(&second.definitions).unwrap().len(), 7);
    spool.acked(&[v1::Holdings { epoch: first.epoch.clone(), upto: 1, ranges: vec![] }]).unwrap();
    assert!(send(3).definitions.is_empty());
    // A collector that forgot asks; the batch comes again with what it asked for.
    let numbers: Vec<u32> =
        wire::definitions::decode(&first.definitions).unwrap().iter().map(|def| def.0).collect();
    spool.need_definitions(telemetry::BatchKey { seq: 3, ..key(&first) }, &numbers[..2]);
    let again = any(&spool).unwrap();
    assert_eq!((again.seq, wire::definitions::decode(&again.definitions).unwrap().len()), (3, 2));
}

#[test]
fn what_is_fresh_goes_live_before_a_backlog_and_the_backlog_goes_oldest_first() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    for position in 1..=3 {
        spool.append(position, &rows(&table, position, 3), false).unwrap();
        spool.cut().unwrap();
    }
    spool.cut_if_due(MS(60_000)).unwrap();
    spool.append(4, &rows(&table, 4, 3), false).unwrap();
    spool.cut().unwrap();
    let wall = 1_000_000 * SECOND;
    assert_eq!(spool.next(Lane::Live, wall).unwrap().unwrap().seq, 4);
    assert_eq!(spool.next(Lane::Live, wall).unwrap(), None);
    for seq in 1..=3 {
        assert_eq!(spool.next(Lane::Backlog, wall).unwrap().unwrap().seq, seq);
    }
    assert_eq!(spool.next(Lane::Backlog, wall).unwrap(), None);
    assert_eq!(spool.usage().in_flight, 4);
    spool.session_lost();
    assert_eq!(spool.usage().in_flight, 0);
    // By its readings' own time too.
    assert_eq!(spool.next(Lane::Live, 4 * SECOND).unwrap().unwrap().seq, 1);
}

#[test]
fn a_restart_offers_the_same_bytes_under_the_same_names() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    for position in 1..=40 {
        spool.append(position, &rows(&table, position, 50), false).unwrap();
    }
    spool.cut().unwrap();
    let before: Vec<v1::Batch> = std::iter::from_fn(|| any(&spool)).collect();
    drop(spool);
    let (spool, recovery, _) = open(&disk, config());
    assert_eq!((recovery.batches as usize, recovery.rows), (before.len(), 2000));
    let after: Vec<v1::Batch> = std::iter::from_fn(|| any(&spool)).collect();
    let names = |list: &[v1::Batch]| -> Vec<_> {
        list.iter()
            .map(|b| (b.epoch.clone(), b.seq, b.checksum.clone(), b.payload.clone(), b.first_position))
            .collect()
    };
    assert_eq!(names(&before), names(&after));
    assert_eq!(spool.hello().unacked.len(), before.len());
}

#[test]
fn a_refused_batch_goes_to_quarantine_and_a_loss_fills_its_seq() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    spool.append(1, &rows(&table, 1, 4), false).unwrap();
    spool.cut().unwrap();
    let batch = any(&spool).unwrap();
    spool.refused(key(&batch), "malformed", "it is odd").unwrap();
    assert!(any(&spool).is_none());
    let loss = spool.next_loss().unwrap();
    assert_eq!((loss.seq, loss.epoch.clone()), (1, batch.epoch.clone()));
    let count = |cause: Cause| loss.counts.iter().find(|c| c.cause == cause as u32).map_or(0, |c| c.count);
    assert_eq!((count(Cause::Received), count(Cause::Shipped), count(Cause::Refused)), (4, 4, 4));
    assert!(disk.paths().iter().any(|path| path.starts_with("/spool/quarantine")));
    assert_eq!((spool.usage().batches, spool.usage().losses, spool.usage().quarantined), (0, 1, 1));
    // It survives a restart, and ends with its ack.
    drop(spool);
    let (spool, _, _) = open(&disk, config());
    let again = spool.next_loss().unwrap();
    assert_eq!(again, loss);
    assert_eq!(spool.acked(&[v1::Holdings { epoch: loss.epoch, upto: 1, ranges: vec![] }]).unwrap(), 1);
    assert_eq!(spool.usage().losses, 0);
}

#[test]
fn over_its_cap_the_spool_drops_the_oldest_and_says_exactly_what() {
    let disk = SimDisk::new(1);
    let cap = 40_000;
    let (spool, _, table) = open(&disk, SpoolConfig { max_bytes: cap, ..config() });
    let mut total = 0;
    for position in 1..=600 {
        spool.append(position, &rows(&table, position, 50), false).unwrap();
        spool.cut_if_due(MS(position)).unwrap();
        total += 50;
        assert!(spool.usage().disk_bytes < cap + 8192, "{}", spool.usage().disk_bytes);
    }
    spool.cut().unwrap();
    assert!(spool.usage().losses > 0);
    let mut collector = Collector::default();
    collector.drain(&spool);
    let counts = &collector.counts;
    let stored = collector.values.len() as u64;
    assert_eq!(counts.get(Cause::Received), total);
    assert_eq!(counts.get(Cause::Shipped), stored + counts.get(Cause::Overflowed));
    assert!(counts.get(Cause::Overflowed) > 0 && stored > 1000);
    assert!(collector.values.contains_key(&600_000), "the newest are kept");
    let epoch = spool.usage().epoch.unwrap();
    assert_eq!(collector.held(&epoch.0).upto() + 1, spool.usage().next_seq, "no hole is left");
}

#[test]
fn what_is_older_than_the_age_cap_expires() {
    let disk = SimDisk::new(1);
    let max_age = Some(Duration::from_secs(100));
    let (spool, _, table) = open(&disk, SpoolConfig { max_age, ..config() });
    witness(&spool);
    for position in [1, 2, 3, 150, 151] {
        spool.append(position, &rows(&table, position, 2), false).unwrap();
        spool.cut().unwrap();
    }
    spool.cut_if_due(MS(1)).unwrap();
    assert_eq!((spool.usage().batches, spool.usage().losses), (2, 3));
    let mut collector = Collector::default();
    collector.drain(&spool);
    assert_eq!(collector.counts.get(Cause::Expired), 6);
}

/// A spool with 120 records, of which a stretch of the second segment is damaged while it was closed.
fn damaged(disk: &SimDisk, heads: bool) -> (spool::Spool, spool::Recovery, u64) {
    let (spool, _, table) = open(disk, config());
    for position in 1..=120 {
        spool.append(position, &rows(&table, position, 50), false).unwrap();
    }
    spool.cut().unwrap();
    let (batches, segments) = (spool.usage().batches, log_files(disk));
    drop(spool);
    let mut content = disk.read(&segments[1]).unwrap();
    for byte in &mut content[1500..1700] {
        *byte ^= 0x5a;
    }
    disk.put(&segments[1], &content);
    for path in disk.paths() {
        if path.starts_with("/spool/heads") && !heads {
            disk.put(&path, b"not heads");
        }
    }
    let (spool, recovery, _) = open(disk, config());
    (spool, recovery, batches)
}

fn assert_all_is_accounted_for(collector: &Collector, spool: &spool::Spool, batches: u64) {
    assert_eq!(collector.counts.get(Cause::Received), 6000);
    assert_eq!(collector.counts.get(Cause::Shipped), 6000);
    assert_eq!(collector.values.len() as u64 + collector.counts.get(Cause::Damaged), 6000);
    assert!(collector.counts.get(Cause::Damaged) > 0);
    assert_eq!(collector.held(&spool.usage().epoch.unwrap().0).upto(), batches);
}

#[test]
fn damage_found_at_opening_is_a_loss_with_the_exact_counts_and_its_neighbours_are_kept() {
    let disk = SimDisk::new(1);
    let (spool, recovery, batches) = damaged(&disk, false);
    assert!(recovery.damaged > 0 && recovery.batches + recovery.damaged == batches, "{recovery:?}");
    let mut collector = Collector::default();
    collector.drain(&spool);
    assert_all_is_accounted_for(&collector, &spool, batches);
}

#[test]
fn damage_found_at_sending_is_a_loss_with_the_exact_counts_too() {
    let disk = SimDisk::new(1);
    let (spool, recovery, batches) = damaged(&disk, true);
    assert_eq!((recovery.damaged, recovery.batches), (0, batches), "opened by the heads alone");
    let mut collector = Collector::default();
    collector.drain(&spool);
    assert_all_is_accounted_for(&collector, &spool, batches);
}

fn log_files(disk: &SimDisk) -> Vec<std::path::PathBuf> {
    let mut paths = disk.paths();
    paths.retain(|path| {
        path.starts_with("/spool/log")
            && path.components().count() == 4
            && disk.read(path).unwrap().len() > 3000
    });
    paths.sort();
    paths
}

#[test]
fn a_lost_ack_is_made_good_by_the_greeting() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    let mut collector = Collector::default();
    for position in 1..=3 {
        spool.append(position, &rows(&table, position, 3), false).unwrap();
        spool.cut().unwrap();
    }
    for _ in 0..2 {
        assert_eq!(collector.take(&any(&spool).unwrap()), Answer::Stored);
    }
    spool.session_lost();
    let (holdings, conflicts) = collector.greeting(&spool.hello());
    let greeted = spool.greet(&holdings, &conflicts).unwrap();
    assert_eq!((greeted.confirmed, greeted.relabelled, greeted.new_epoch), (2, 0, None));
    assert_eq!(any(&spool).unwrap().seq, 3);
}
