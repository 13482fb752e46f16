//! What a log does when the disk says no: poison, never guess; a full disk passes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end so")]

mod support;

use seglog::sim::SimDisk;
use seglog::{AppendError, Log, SyncError};
use support::{dir, open, payload, read_all};

#[test]
fn a_failed_fsync_poisons_and_nothing_unsynced_is_ever_reported_durable() {
    for fails_at in 0..3 {
        let sim = SimDisk::new(7 + fails_at);
        let (mut log, _) = open(sim.storage());
        log.append(b"a").unwrap();
        assert_eq!(log.sync().unwrap(), 1);
        sim.fail_sync_after(fails_at);
        let mut durable = 1;
        let reason = loop {
            log.append(&payload(durable, 400)).unwrap();
            match log.sync() {
                Ok(number) => durable = number,
                Err(SyncError::Poisoned(reason)) => break reason,
                Err(other) => panic!("{other}"),
            }
        };
        assert!(reason.contains("fsync in /data/log failed"), "{reason}");
        assert!(matches!(log.append(b"b"), Err(AppendError::Poisoned(_))));
        assert!(matches!(log.roll(), Err(AppendError::Poisoned(_))));
        assert!(matches!(log.sync(), Err(SyncError::Poisoned(_))), "a second fsync proves nothing");
        assert_eq!(log.durable(), durable);
        assert_eq!(log.poisoned(), Some(&*reason));
        drop(log);
        // Opened anew, in the same boot: what the cache shows but the disk doesn't have is gone.
        let (log, recovery) = open(sim.storage());
        assert_eq!(recovery.unverified, None);
        let shown = read_all(&log).0;
        assert!(shown.len() as u64 >= durable);
        drop(log);
        sim.crash();
        assert_eq!(read_all(&open(sim.storage()).0).0, shown, "what recovery showed was on the disk");
    }
}

#[test]
fn a_failed_fsync_while_opening_opens_a_poisoned_log_that_can_be_read() {
    for fails_at in 0..2 {
        let sim = SimDisk::new(3);
        let (mut log, _) = open(sim.storage());
        log.append(b"a").unwrap();
        log.sync().unwrap();
        drop(log);
        sim.fail_sync_after(fails_at);
        let (mut log, recovery) = open(sim.storage());
        assert!(recovery.unverified.is_some());
        assert!(matches!(log.append(b"b"), Err(AppendError::Poisoned(_))));
        assert_eq!(read_all(&log).0.len(), 1);
        drop(log);
        let (mut log, recovery) = open(sim.storage());
        assert_eq!(recovery.unverified, None);
        assert_eq!(log.append(b"b").unwrap(), 2);
    }
}

#[test]
fn a_failed_write_poisons() {
    let sim = SimDisk::new(1);
    let (mut log, _) = open(sim.storage());
    log.append(b"a").unwrap();
    sim.fail_write_after(0);
    assert!(matches!(log.sync(), Err(SyncError::Poisoned(_))));
    assert!(matches!(log.append(b"b"), Err(AppendError::Poisoned(_))));
}

#[test]
fn a_full_disk_passes_when_released_segments_free_it() {
    let sim = SimDisk::new(1);
    sim.set_capacity(Some(8 * 1024));
    let (mut log, _) = open(sim.storage());
    let mut appended = Vec::new();
    let mut durable = 0;
    for number in 1..=1000 {
        match log.append(&payload(number, 100)) {
            Ok(n) => appended.push(n),
            Err(AppendError::Full(at)) => {
                assert_eq!(at, dir());
                break;
            }
            Err(other) => panic!("{other}"),
        }
        match log.sync() {
            Ok(n) => durable = n,
            Err(SyncError::Full(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert!(appended.len() < 1000 && durable > 40);
    assert!(matches!(log.sync(), Err(SyncError::Full(_))));
    assert_eq!(log.poisoned(), None);
    log.release(durable / 2).unwrap();
    assert_eq!(log.sync().unwrap(), *appended.last().unwrap(), "what waited in memory is not lost");
    let number = log.append(b"after").unwrap();
    assert_eq!(log.sync().unwrap(), number);
    drop(log);
    sim.crash();
    let (records, gaps) = read_all(&open(sim.storage()).0);
    assert_eq!(gaps, []);
    assert_eq!(records.last().unwrap().1, b"after");
    assert!(records.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1));
}

#[test]
fn recovery_works_on_a_full_disk() {
    let sim = SimDisk::new(1);
    let (mut log, _) = open(sim.storage());
    for number in 1..=30 {
        log.append(&payload(number, 100)).unwrap();
    }
    log.sync().unwrap();
    drop(log);
    sim.set_capacity(Some(0));
    let (mut log, _) = Log::open(sim.storage(), &dir(), support::SMALL).unwrap();
    assert_eq!(read_all(&log).0.len(), 30);
    log.append(b"x").unwrap();
    assert!(matches!(log.sync(), Err(SyncError::Full(_))));
    log.release(30).unwrap();
    sim.set_capacity(Some(4096));
    assert_eq!(log.sync().unwrap(), 31);
}
