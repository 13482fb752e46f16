//! What an intact log does: numbers, order, segments, release.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end so")]

mod support;

use seglog::sim::SimDisk;
use seglog::{AppendError, Disk, Log, OpenError, Options};
use support::{SMALL, dir, open, payload, read_all, read_from};

#[test]
fn records_come_back_in_order_with_consecutive_numbers_from_one() {
    let sim = SimDisk::new(1);
    let (mut log, recovery) = open(sim.storage());
    assert_eq!((log.first(), log.next(), recovery.records), (1, 1, 0));
    for number in 1..=100 {
        assert_eq!(log.append(&payload(number, number as usize * 7 % 300)).unwrap(), number);
    }
    assert_eq!(log.sync().unwrap(), 100);
    let (records, gaps) = read_all(&log);
    assert!(gaps.is_empty());
    assert_eq!(records.len(), 100);
    for (at, (number, bytes)) in records.iter().enumerate() {
        assert_eq!((*number, bytes.len()), (at as u64 + 1, *number as usize * 7 % 300));
        assert_eq!(*bytes, payload(*number, bytes.len()));
    }
    assert_eq!(read_from(&log, 42).0, records[41..]);
    assert_eq!(read_from(&log, 101).0, []);
}

#[test]
fn a_reader_waits_at_the_end_and_goes_on_when_more_is_written() {
    let sim = SimDisk::new(1);
    let (mut log, _) = open(sim.storage());
    let mut reader = log.reader(1);
    for number in 1..=50 {
        assert_eq!(reader.next().unwrap(), None);
        log.append(&payload(number, 100)).unwrap();
        assert_eq!(reader.next().unwrap(), None, "what is only in memory is not shown");
        log.sync().unwrap();
        assert_eq!(reader.next().unwrap().unwrap().number, number);
    }
    assert_eq!(reader.take_gaps(), []);
}

#[test]
fn a_segment_begins_where_starts_segment_says_so() {
    let sim = SimDisk::new(1);
    let (mut log, _) = open(sim.storage());
    let mut begun = Vec::new();
    for number in 1..=40 {
        if log.starts_segment(200) {
            begun.push(number);
        }
        log.append(&payload(number, 200)).unwrap();
    }
    log.sync().unwrap();
    let mut reader = log.reader(1);
    let mut seen = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        if entry.number == entry.segment_first {
            seen.push(entry.number);
        }
    }
    assert_eq!(seen, begun);
    assert!(begun.len() > 5);
    assert_eq!(log.readers().segment_first(begun[2] + 1), begun[2]);
}

#[test]
fn numbers_go_on_when_everything_was_released_and_the_log_is_opened_anew() {
    let sim = SimDisk::new(1);
    for round in 0..5 {
        let (mut log, _) = open(sim.storage());
        assert_eq!(log.next(), round * 10 + 1);
        for _ in 0..10 {
            log.append(&payload(1, 300)).unwrap();
        }
        log.sync().unwrap();
        log.roll().unwrap();
        log.release(u64::MAX).unwrap();
        assert!(log.bytes() <= 1024, "only the newest segment stays");
    }
}

#[test]
fn release_frees_whole_segments_that_are_passed_and_nothing_else() {
    let sim = SimDisk::new(1);
    let (mut log, _) = open(sim.storage());
    for number in 1..=40 {
        log.append(&payload(number, 200)).unwrap();
    }
    log.sync().unwrap();
    let before = log.bytes();
    let freed = log.release(9).unwrap();
    assert_eq!(log.bytes(), before - freed);
    assert!(log.first() <= 10 && log.first() > 5, "{}", log.first());
    assert_eq!(read_all(&log).0.first().unwrap().0, log.first());
    let left = 41 - log.first() as usize;
    drop(log);
    sim.crash();
    assert_eq!(read_all(&open(sim.storage()).0).0.len(), left);
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_own_and_one_over_the_limit_is_refused() {
    let sim = SimDisk::new(1);
    let (mut log, _) = open(sim.storage());
    log.append(&payload(1, 10)).unwrap();
    log.append(&payload(2, 4096)).unwrap();
    log.append(&payload(3, 10)).unwrap();
    let refused = log.append(&payload(4, 4097));
    assert!(matches!(refused, Err(AppendError::TooLarge { len: 4097, max: 4096 })));
    log.sync().unwrap();
    let (records, gaps) = read_all(&log);
    assert_eq!(
        records.iter().map(|(number, bytes)| (*number, bytes.len())).collect::<Vec<_>>(),
        [(1, 10), (2, 4096), (3, 10)]
    );
    assert_eq!(gaps, []);
}

#[test]
fn skipped_numbers_are_no_damage() {
    let sim = SimDisk::new(1);
    let (mut log, _) = open(sim.storage());
    log.append(b"a").unwrap();
    log.skip_to(1000).unwrap();
    log.skip_to(7).unwrap();
    assert_eq!(log.append(b"b").unwrap(), 1000);
    log.sync().unwrap();
    drop(log);
    let (mut log, recovery) = open(sim.storage());
    assert_eq!((log.next(), recovery.damaged), (1001, vec![]));
    log.skip_to(2000).unwrap();
    assert_eq!(log.append(b"c").unwrap(), 2000);
    log.sync().unwrap();
    let (records, gaps) = read_all(&log);
    assert_eq!(records, [(1, b"a".to_vec()), (1000, b"b".to_vec()), (2000, b"c".to_vec())]);
    assert_eq!(gaps, []);
}

#[test]
fn one_log_has_one_writer() {
    let dir = tempfile::tempdir().unwrap();
    let storage = std::sync::Arc::new(Disk);
    let (log, _) = Log::open(storage.clone(), dir.path(), SMALL).unwrap();
    assert!(matches!(Log::open(storage.clone(), dir.path(), SMALL), Err(OpenError::Locked(_))));
    drop(log);
    Log::open(storage, dir.path(), SMALL).unwrap();
}

#[test]
fn a_log_in_use_can_be_looked_at() {
    let sim = SimDisk::new(1);
    let (mut log, _) = open(sim.storage());
    for number in 1..=20 {
        log.append(&payload(number, 200)).unwrap();
    }
    log.sync().unwrap();
    let readers = seglog::inspect(sim.storage(), &dir()).unwrap();
    let mut reader = readers.reader(0);
    let mut n = 0;
    while let Some(entry) = reader.next().unwrap() {
        n += 1;
        assert_eq!(entry.payload, payload(n, 200));
    }
    assert_eq!((n, reader.take_gaps()), (20, vec![]));
    assert_eq!(readers.segments().iter().map(|(_, _, bytes)| bytes).sum::<u64>(), log.bytes());
}

#[test]
fn the_real_disk_keeps_what_was_synced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/log");
    let storage = std::sync::Arc::new(Disk);
    let options = Options { segment_bytes: 1 << 16, max_record: 1 << 20 };
    let (mut log, _) = Log::open(storage.clone(), &path, options).unwrap();
    for number in 1..=2000 {
        log.append(&payload(number, (number % 500) as usize)).unwrap();
    }
    assert_eq!(log.sync().unwrap(), 2000);
    log.release(700).unwrap();
    drop(log);
    let (log, recovery) = Log::open(storage, &path, options).unwrap();
    assert_eq!((log.next(), recovery.torn_bytes, recovery.damaged.len()), (2001, 0, 0));
    let (records, gaps) = read_all(&log);
    assert_eq!(gaps, []);
    assert_eq!(records.last().unwrap().0, 2000);
    assert!(records.iter().all(|(number, bytes)| *bytes == payload(*number, (number % 500) as usize)));
}
