//! The driver step by step, on a simulated disk and under a clock that the test moves.
#![allow(clippy::unwrap_used, reason = "a test may end so")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fold::{Fold, NoScorer};
use folding::{Checkpoint, Driver, Folding, Step};
use journal::{Holder, Journal, JournalConfig};
use seglog::sim::SimDisk;
use spool::{Spool, SpoolConfig};
use telemetry::{Cause, DeviceClock, Intake, Position, Record, SeriesDef, SeriesKey, SeriesTable, Stamp};

const SECOND: u64 = 1_000_000_000;

struct Bench {
    disk: SimDisk,
    table: Arc<SeriesTable>,
    journal: Journal,
    spool: Spool,
    driver: Driver,
    now: Stamp,
}

fn open() -> Bench {
    let disk = SimDisk::new(1);
    let table = SeriesTable::new(100);
    let spool = SpoolConfig { min_free_bytes: 0, ..SpoolConfig::new("/data/spool") };
    let (spool, _) = Spool::open(spool, disk.storage(), Arc::clone(&table), "edge").unwrap();
    let config =
        JournalConfig { max_bytes: 1 << 20, segment_bytes: 4096, ..JournalConfig::new("/data/journal") };
    let (journal, _) = Journal::open_stepped(config, disk.storage(), Arc::clone(&table)).unwrap();
    journal.release(Holder::Sessions, Position::MAX);
    let now = Stamp { wall: 1_800_000_000_000_000_000, mono: 10 * SECOND };
    let work = Folding {
        journal: journal.clone(),
        fold: Fold::new(Arc::clone(&table), Box::new(NoScorer)),
        applied: 0,
        spool: spool.clone(),
        checkpoint: Checkpoint::open(disk.storage(), Path::new("/data/fold.checkpoint")).unwrap(),
        shown: Box::new(|_| {}),
        clock: Box::new(|at| DeviceClock { at, boot: [1; 16], synced: true }),
    };
    Bench { disk, table, journal, spool, driver: Driver::new(work, now), now }
}

impl Bench {
    fn reading(&self, id: i64) -> Record {
        let key = SeriesKey::new("level", [("device", "tank")]).unwrap();
        let mut intake = Intake::new(0, self.now);
        intake.series.push(self.table.intern(SeriesDef::bare(key)).unwrap());
        intake.push(0, self.now.wall, id as f64, 0);
        intake.counts.add(Cause::Received, 1);
        Record::Intake(intake)
    }

    fn durable(&self, id: i64) {
        self.journal.append(&self.reading(id)).unwrap();
        self.journal.step();
    }

    fn pass(&mut self, time: Duration) {
        self.now.wall += time.as_nanos() as i64;
        self.now.mono += time.as_nanos() as u64;
    }

    /// Steps until it wants to wait; gives for how long.
    fn settle(&mut self) -> Step {
        loop {
            match self.driver.step(self.now) {
                Step::Progress => {}
                step => return step,
            }
        }
    }

    fn shipped(&self) -> u64 {
        self.spool.usage().counts.get(Cause::Shipped)
    }
}

#[test]
fn it_waits_no_longer_than_until_a_batch_is_to_be_cut() {
    let mut bench = open();
    bench.settle();
    bench.durable(1);
    // Nobody waits for an ack: the first batch is cut at once.
    bench.settle();
    assert_eq!(bench.shipped(), 1);
    bench.durable(2);
    let Step::Idle(pause) = bench.settle() else { panic!("nothing is wrong") };
    assert_eq!(bench.shipped(), 1);
    for _ in 0..100 {
        bench.pass(pause);
        if bench.shipped() == 2 {
            return;
        }
        bench.settle();
    }
    panic!("it was never cut");
}

#[test]
fn what_a_failing_disk_does_not_take_is_tried_again_and_goes_in_once() {
    let mut bench = open();
    bench.settle();
    for id in 1..=3 {
        bench.durable(id);
    }
    bench.disk.set_capacity(Some(bench.disk.used()));
    assert!(matches!(bench.settle(), Step::Blocked(_)));
    assert_eq!(bench.shipped(), 0);
    let watch = bench.driver.watch();
    assert!(watch.progress(bench.journal.last()).blocked.is_some());
    bench.disk.set_capacity(None);
    for _ in 0..100 {
        bench.pass(Duration::from_secs(1));
        bench.settle();
    }
    assert_eq!(bench.shipped(), 3);
    assert_eq!(watch.progress(bench.journal.last()).blocked, None);
}

#[test]
fn a_journal_whose_fsync_failed_is_opened_anew_and_takes_readings_again() {
    let mut bench = open();
    bench.settle();
    bench.durable(1);
    bench.settle();
    bench.disk.fail_sync_after(0);
    bench.durable(2);
    assert!(bench.journal.append(&bench.reading(3)).is_err(), "it is poisoned");
    for _ in 0..10 {
        bench.pass(Duration::from_secs(1));
        bench.settle();
    }
    bench.durable(4);
    for _ in 0..20 {
        bench.pass(Duration::from_secs(1));
        bench.journal.step();
        bench.settle();
    }
    let shipped = bench.shipped();
    assert!((2..=3).contains(&shipped), "the second may have reached the disk: {shipped}");
    assert_eq!(bench.journal.usage().poisoned, None);
}

#[test]
fn it_ends_when_the_journal_was_closed_and_all_is_in_the_spool() {
    let mut bench = open();
    bench.settle();
    bench.durable(1);
    bench.journal.append(&bench.reading(2)).unwrap();
    bench.journal.close();
    assert_eq!(bench.settle(), Step::Ended);
    assert_eq!(bench.shipped(), 2);
    assert_eq!(bench.spool.position(), bench.journal.last());
}
