//! What the agent itself says was lost: each loss once, whenever the power goes or the process is killed.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::{Collector, any, class, config, key, open, rows};
use seglog::sim::SimDisk;
use spool::{Damage, Overflow, Part, Priority, Readings, Spool, SpoolConfig};
use telemetry::{Cause, SeriesTable};

/// Readings that the list of the last losses has.
fn noted(spool: &Spool, cause: Cause) -> u64 {
    spool.usage().lost.iter().filter(|lost| lost.cause == cause).map(|lost| lost.count).sum()
}

/// Readings of damaged batches, by the last losses and by the notes of damage, which say the same.
fn damaged_readings(spool: &Spool) -> u64 {
    let readings = |damage: &Damage| match (damage.part, damage.readings) {
        (Part::Spool, Readings::Exactly(readings)) => readings,
        other => panic!("{other:?}"),
    };
    let damage = spool.usage().damage;
    let lost = noted(spool, Cause::Damaged);
    assert_eq!(damage.iter().map(readings).sum::<u64>(), lost, "{damage:?}");
    assert!(damage.len() == 1 && damage[0].first == 1 && damage[0].last > 1, "one run: {damage:?}");
    lost
}

/// A spool of 4500 readings whose first segment is gone.
fn damaged() -> SimDisk {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    for position in 1..=90 {
        spool.append(position, &rows(&table, position, 50), false).unwrap();
    }
    spool.cut().unwrap();
    spool.settled_position().unwrap();
    drop(spool);
    let segment = |path: &PathBuf| path.starts_with("/spool/log") && !path.ends_with("lock");
    let first = disk.paths().into_iter().filter(segment).min().unwrap();
    disk.storage().remove(&first).unwrap();
    disk.storage().sync_dir(first.parent().unwrap()).unwrap();
    disk.kill();
    disk
}

/// What a start does, in either order: the checkpoint, which writes the cursor, and the upkeep, which writes the losses.
fn work(spool: &Spool, table: &SeriesTable, checkpoint_first: bool) -> Result<(), spool::SpoolError> {
    if checkpoint_first {
        spool.settled_position()?;
    }
    spool.cut_if_due(Duration::from_secs(1))?;
    spool.append(91, &rows(table, 91, 50), false)?;
    spool.cut()?;
    spool.settled_position()?;
    spool.cut_if_due(Duration::from_secs(10)).map(drop)
}

#[test]
fn damage_is_noted_once_whenever_the_start_that_found_it_ends() {
    let before = damaged();
    let (spool, recovery, _) = open(&before.image(1), config());
    let lost = damaged_readings(&spool);
    assert!(recovery.damaged > 0 && lost > 0 && lost < 4500, "{recovery:?} {lost}");
    drop(spool);
    for (checkpoint_first, power) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut calls = 0;
        loop {
            let at = format!("after {calls} calls, checkpoint first: {checkpoint_first}, power: {power}");
            let disk = before.image(1);
            disk.crash_after(calls);
            let table = SeriesTable::new(1000);
            let opened = Spool::open(config(), disk.storage(), std::sync::Arc::clone(&table), "test");
            if let Ok((spool, _)) = opened {
                // Without power nothing could be read.
                assert!(disk.is_off() || damaged_readings(&spool) == lost, "at once, {at}");
                _ = work(&spool, &table, checkpoint_first);
            }
            let ended = !disk.is_off();
            if power {
                disk.crash()
            } else {
                disk.kill()
            }
            let (spool, _, table) = open(&disk, config());
            assert_eq!(damaged_readings(&spool), lost, "at the next start, {at}");
            work(&spool, &table, checkpoint_first).unwrap();
            assert_eq!(damaged_readings(&spool), lost, "at work, {at}");
            drop(spool);
            disk.kill();
            let (spool, _, _) = open(&disk, config());
            let mut collector = Collector::default();
            collector.drain(&spool);
            spool.settled_position().unwrap();
            assert_eq!(collector.counts.get(Cause::Damaged), lost, "the collector's word, {at}");
            drop(spool);
            disk.kill();
            let (spool, _, _) = open(&disk, config());
            assert_eq!(damaged_readings(&spool), lost, "when all is done, {at}");
            if ended {
                break;
            }
            calls += 1;
        }
        assert!(calls > 10, "{calls}");
    }
}

#[test]
fn damage_that_the_collector_confirms_before_it_has_a_record_stays_noted() {
    let disk = damaged();
    let (spool, _, _) = open(&disk, config());
    let lost = damaged_readings(&spool);
    let mut collector = Collector::default();
    collector.drain(&spool);
    assert_eq!(damaged_readings(&spool), lost);
    spool.settled_position().unwrap();
    drop(spool);
    disk.kill();
    let (spool, _, _) = open(&disk, config());
    assert_eq!((damaged_readings(&spool), collector.counts.get(Cause::Damaged)), (lost, lost));
}

#[test]
fn what_was_lost_before_a_batch_was_cut_is_noted_with_it_and_not_again_with_its_loss() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    let mut collector = Collector::default();
    collector.drain(&spool);
    spool.greet(&[], &[]).unwrap();
    let mut some = rows(&table, 1, 3);
    some.count(Cause::Damaged, 5);
    spool.append(1, &some, false).unwrap();
    spool.cut_if_due(Duration::from_secs(1)).unwrap();
    let batch = any(&spool).unwrap();
    let said = |spool: &Spool| (noted(spool, Cause::Damaged), noted(spool, Cause::Refused));
    assert_eq!(said(&spool), (5, 0));

    // The cursor is older than the batch.
    let (again, _, _) = open(&disk.image(1), config());
    assert_eq!(said(&again), (5, 0));

    spool.refused(key(&batch), "content", "no").unwrap();
    assert_eq!(said(&spool), (5, 3));
    drop(spool);
    disk.kill();
    let (spool, _, _) = open(&disk, config());
    assert_eq!(said(&spool), (5, 3));
}

#[test]
fn what_was_turned_away_is_noted_once_though_its_loss_gets_a_record_of_its_own() {
    for calls in 0.. {
        let disk = SimDisk::new(1);
        let keeps = class("*", Priority::Normal, Overflow::DropNewest);
        let capped = SpoolConfig { max_bytes: 8192, classes: vec![keeps], ..config() };
        let (spool, _, table) = open(&disk, capped);
        for position in 1..=120 {
            spool.append(position, &rows(&table, position, 50), false).unwrap();
        }
        spool.cut().unwrap();
        assert!(noted(&spool, Cause::Overflowed) > 0);
        disk.crash_after(calls);
        _ = spool.cut_if_due(Duration::from_secs(1));
        let ended = !disk.is_off();
        drop(spool);
        disk.kill();
        let (spool, _, _) = open(&disk, config());
        let mut collector = Collector::default();
        collector.drain(&spool);
        let theirs = collector.counts.get(Cause::Overflowed);
        assert_eq!(noted(&spool, Cause::Overflowed), theirs, "killed after {calls} calls");
        if ended {
            assert!(calls > 3, "{calls}");
            break;
        }
    }
}
