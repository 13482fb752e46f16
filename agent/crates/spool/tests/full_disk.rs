//! A disk that is full for a while: what waited for room is counted once it is there.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Collector, SECOND, any, config, open, rows};
use seglog::sim::SimDisk;
use spool::{Spool, SpoolConfig, SpoolError};
use telemetry::{Cause, Lane, SeriesTable};
use wire::v1;

#[test]
fn a_batch_that_waited_for_room_beside_a_cursor_is_in_the_count_of_the_next_start() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    spool.append(1, &rows(&table, 1, 3), false).unwrap();
    spool.cut().unwrap();
    spool.append(2, &rows(&table, 2, 9), false).unwrap();
    disk.set_capacity(Some(disk.used()));
    assert!(matches!(spool.cut(), Err(SpoolError::Full)));
    // Nobody was connected when it was cut: before it is sent the cursor says so.
    assert_eq!(any(&spool).unwrap().seq, 1);
    disk.set_capacity(None);
    spool.append(3, &rows(&table, 3, 1), false).unwrap();
    let counted = spool.counted();
    assert_eq!(counted.get(Cause::Received), 12);
    disk.kill();
    drop(spool);
    let (spool, _, _) = open(&disk, config());
    assert_eq!(spool.counted(), counted);
}

#[test]
fn the_batch_that_was_read_last_keeps_no_room_of_a_disk_from_which_its_segment_is_gone() {
    let disk = SimDisk::new(1);
    let settings = || SpoolConfig { segment_bytes: 100_000, ..config() };
    let segments = || {
        let paths = disk.paths();
        paths.iter().filter(|path| path.parent() == Some(Path::new("/spool/log"))).count()
    };
    let mut position = 0;
    let mut cut = |spool: &Spool, table: &SeriesTable| {
        position += 1;
        spool.append(position, &rows(table, position, 20), false).unwrap();
        spool.cut().unwrap();
        position as i64 * SECOND
    };
    let (spool, _, table) = open(&disk, settings());
    while spool.usage().disk_bytes < 95_000 {
        cut(&spool, &table);
    }
    // After a start nothing of it is in memory.
    drop(spool);
    disk.kill();
    let (spool, _, table) = open(&disk, settings());
    // What is fresh goes first and reaches into the second segment; the last that is read lies in the first.
    let (holdings, conflicts) = Collector::default().greeting(&spool.hello());
    spool.greet(&holdings, &conflicts).unwrap();
    let mut now = cut(&spool, &table);
    while segments() < 2 {
        now = cut(&spool, &table);
    }
    let epoch = spool.hello().epoch.0.to_vec();
    let mut ranges = Vec::new();
    for lane in [Lane::Live, Lane::Backlog] {
        let before = ranges.len();
        while let Some(batch) = spool.next(lane, now).unwrap() {
            ranges.push(v1::Range { first: batch.seq, last: batch.seq });
        }
        assert!(ranges.len() > before, "{lane:?} has some");
    }
    spool.acked(&[v1::Holdings { epoch, upto: 0, ranges }]).unwrap();
    spool.cut_if_due(Duration::from_secs(100)).unwrap();
    assert_eq!((spool.usage().batches, segments()), (0, 1));
    let named: u64 = disk.paths().iter().map(|path| disk.read(path).unwrap().len() as u64).sum();
    assert_eq!(disk.used(), named, "nothing is open that has no name any more");
}
