//! A journal that takes nothing, for want of room, and whose end is damaged: no record comes behind the damage, and what was lost in it
//! is counted all the same, once.
#![allow(clippy::unwrap_used, reason = "a test may end so")]

mod support;

use std::path::Path;

use journal::{AppendError, Fullness};
use seglog::sim::SimDisk;
use spool::{Part, Readings};
use support::{START, WINDOW, balances, rot_record, segments, start_above};
use telemetry::{Cause, Position};

const DISK: u64 = 2_000_000;
const MIN_FREE: u64 = 400_000;
const RECORDS: u64 = 200;

/// Others take the disk below the floor, the agent is killed, and the journal's end is damaged.
fn damaged_below_the_floor(name: &str, damage: impl Fn(&SimDisk, Position)) {
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(DISK));
    let mut bench = start_above(disk, START, WINDOW, MIN_FREE);
    let mut last = 0;
    for _ in 0..RECORDS {
        last = bench.journal.append(&bench.intake(&[name; 50])).unwrap();
        bench.journal.step();
        bench.now.wall += 1_000_000;
        bench.now.mono += 1_000_000;
    }
    let held = bench.journal.usage().bytes;
    assert!(held > MIN_FREE / 4 + 10_000, "more than what it may hold below the floor: {held}");
    let others = DISK - bench.disk.used() - MIN_FREE + 50_000;
    bench.disk.put(Path::new("/others"), &vec![0; others as usize]);
    damage(&bench.disk, last);
    let mut bench = bench.killed();
    let refused = bench.journal.append(&bench.intake(&[name]));
    assert!(matches!(refused, Err(AppendError::Full { what: Fullness::Floor, .. })), "{refused:?}");
    // A checkpoint is written, and the next start begins behind it.
    for _ in 0..3 {
        bench.pass(1000);
    }
    let mut bench = bench.killed();
    bench.pass(1000);
    bench.journal.append(&bench.intake(&[name])).unwrap();
    bench.pass(1000);
    let [noted] = bench.damage()[..] else { panic!("{:?}", bench.damage()) };
    let Readings::Exactly(lost) = noted.readings else { panic!("{noted:?}") };
    assert_eq!((noted.part, noted.last), (Part::Journal, last));
    assert!(lost >= 50);
    for _ in 0..3 {
        bench.pass(1000);
        bench.spool.cut().unwrap();
        balances(&bench.counts());
        assert_eq!(bench.counts().get(Cause::Damaged), lost, "once");
        assert_eq!(bench.damage(), [noted]);
        bench = bench.killed();
    }
    let (samples, windowed, events) = bench.leave();
    assert_eq!(samples + windowed + lost, 50 * RECORDS + 1, "each arrives or is counted");
    assert_eq!(events.len(), 1, "{events:?}");
}

#[test]
fn a_rotten_last_record_of_a_journal_that_takes_nothing_is_counted_once_it_takes_something() {
    damaged_below_the_floor("level", rot_record);
}

#[test]
fn so_it_is_where_readings_are_in_windows() {
    damaged_below_the_floor("flow", rot_record);
}

#[test]
fn so_is_a_newest_segment_that_was_emptied() {
    damaged_below_the_floor("level", |disk, _| {
        let newest = segments(disk, "/data/journal").into_iter().max().unwrap();
        disk.put(&newest, b"");
    });
}
