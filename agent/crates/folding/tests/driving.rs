//! The driver step by step, on a simulated disk and under a clock that the test moves.
#![allow(clippy::unwrap_used, reason = "a test may end so")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fold::NoScorer;
use folding::{Checkpoint, Driver, Folding, Step};
use journal::{AppendError, Fullness, Holder, Journal, JournalConfig};
use seglog::sim::SimDisk;
use spool::{Spool, SpoolConfig};
use telemetry::trace::Context;
use telemetry::{
    Cause, DeviceClock, Intake, Lane, Position, Record, SeriesDef, SeriesKey, SeriesTable, Stamp, Traced,
    Tracer,
};

use support::rot_record;

const SECOND: u64 = 1_000_000_000;
const CHECKPOINT: &str = "/data/fold.checkpoint";

struct Bench {
    disk: SimDisk,
    table: Arc<SeriesTable>,
    journal: Journal,
    spool: Spool,
    driver: Driver,
    now: Stamp,
}

fn open() -> Bench {
    open_on(SimDisk::new(1), Stamp { wall: 1_800_000_000_000_000_000, mono: 10 * SECOND })
}

/// What starts on a disk, with what is there.
fn open_on(disk: SimDisk, now: Stamp) -> Bench {
    open_with(disk, now, SpoolConfig { min_free_bytes: 0, ..SpoolConfig::new("/data/spool") })
}

fn open_with(disk: SimDisk, now: Stamp, spool: SpoolConfig) -> Bench {
    let table = SeriesTable::new(100);
    let min_free_bytes = spool.min_free_bytes;
    let (spool, _) = Spool::open(spool, disk.storage(), Arc::clone(&table), "edge").unwrap();
    let config = JournalConfig {
        max_bytes: 1 << 20,
        segment_bytes: 4096,
        min_free_bytes,
        ..JournalConfig::new("/data/journal")
    };
    let (journal, _) = Journal::open_stepped(config, disk.storage(), Arc::clone(&table)).unwrap();
    journal.release(Holder::Sessions, Position::MAX);
    let checkpoint = Checkpoint::open(disk.storage(), Path::new(CHECKPOINT)).unwrap();
    let clock = |at| DeviceClock { at, boot: [1; 16], synced: true };
    let work =
        Folding::restore(journal.clone(), spool.clone(), checkpoint, &table, || Box::new(NoScorer), clock);
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

/// Twenty readings a second.
fn run(bench: &mut Bench, seconds: i64) {
    for id in 0..20 * seconds {
        bench.durable(id);
        bench.pass(Duration::from_millis(50));
        bench.settle();
        bench.journal.step();
    }
}

#[test]
fn when_the_last_checkpoint_rots_the_one_before_serves_and_no_open_window_misses_a_reading() {
    // Both copies in the checkpoint's file, of which one is the last: the file begins with 256 KiB of room for each.
    let ends: Vec<_> = [None, Some(64), Some(266_240 + 64)]
        .into_iter()
        .map(|rotten| {
            let mut bench = open();
            let window = br#"{"routes":[{"match":"*","to":"window","window":"10m"}]}"#;
            let stamp = bench.now;
            let config = Record::Config { stamp, generation: 1, config: window.to_vec() };
            bench.journal.append(&config).unwrap();
            run(&mut bench, 45);
            let released = bench.journal.usage();
            assert!(released.records < 900, "the journal let go of records: {released:?}");
            bench.disk.kill();
            if let Some(offset) = rotten {
                assert!(bench.disk.rot(Path::new(CHECKPOINT), offset, 0x40));
            }
            let Bench { disk, now, .. } = bench;
            let mut bench = open_on(disk.clone(), now);
            run(&mut bench, 25);
            bench.journal.close();
            assert_eq!(bench.settle(), Step::Ended);
            drop(bench);
            Checkpoint::open(disk.storage(), Path::new(CHECKPOINT)).unwrap().get().unwrap()
        })
        .collect();
    assert_eq!(ends[0], ends[1], "the open window holds the same");
    assert_eq!(ends[0], ends[2], "whichever it was");
}

/// What a start says to be gone after a minute's work, when these files went.
fn missing(files: &[&str], seconds: i64) -> Option<String> {
    let mut bench = open();
    run(&mut bench, seconds);
    bench.disk.kill();
    let storage = bench.disk.storage();
    for path in bench.disk.paths() {
        if files.iter().any(|file| path.starts_with(file)) {
            storage.remove(&path).unwrap();
        }
    }
    let mut bench = open_on(bench.disk.clone(), bench.now);
    bench.driver.step(bench.now);
    bench.driver.watch().progress(0).missing
}

#[test]
fn a_start_after_quiet_time_misses_nothing() {
    for killed in [true, false] {
        let mut bench = open();
        let window = br#"{"routes":[{"match":"*","to":"window","window":"10m"}]}"#;
        run(&mut bench, 15);
        let config = Record::Config { stamp: bench.now, generation: 1, config: window.to_vec() };
        bench.journal.append(&config).unwrap();
        // From here on no record gives a row: readings of an open window, then ticks.
        run(&mut bench, 15);
        for _ in 0..600 {
            bench.pass(Duration::from_millis(50));
            bench.settle();
            bench.journal.step();
        }
        if killed {
            bench.disk.kill();
        } else {
            bench.journal.close();
            assert_eq!(bench.settle(), Step::Ended);
        }
        let checkpoint =
            Checkpoint::open(bench.disk.storage(), Path::new(CHECKPOINT)).unwrap().get().unwrap();
        let (disk, now) = (bench.disk.clone(), bench.now);
        drop(bench);
        let mut bench = open_on(disk, now);
        assert!(bench.spool.position() < checkpoint.position, "the last records gave no rows");
        bench.driver.step(now);
        assert_eq!(bench.driver.watch().progress(0).missing, None);
    }
}

#[test]
fn a_start_says_what_is_gone_that_nobody_can_count() {
    assert_eq!(missing(&[], 45), None);
    assert!(missing(&[CHECKPOINT], 45).unwrap().contains("checkpoint is gone"));
    assert!(missing(&["/data/spool"], 45).unwrap().contains("the spool is gone"));
    // Before the first checkpoint the journal has everything still.
    assert_eq!(missing(&[CHECKPOINT], 3), None);
    assert_eq!(missing(&["/data/spool"], 3), None);
}

#[test]
fn of_damage_across_the_end_of_what_is_stored_only_the_rest_is_counted_as_lost() {
    for before in [0, 20] {
        let mut bench = open();
        bench.settle();
        // With a checkpoint, and without.
        run(&mut bench, before);
        for id in 1000..1003 {
            bench.durable(id);
            bench.settle();
            bench.spool.cut().unwrap();
        }
        let stored = bench.spool.position();
        let taken = bench.spool.counted().get(Cause::Received);
        for id in 1003..1006 {
            bench.durable(id);
        }
        bench.disk.kill();
        rot_record(&bench.disk, stored);
        rot_record(&bench.disk, stored + 1);
        let mut bench = open_on(bench.disk.clone(), bench.now);
        bench.journal.close();
        assert_eq!(bench.settle(), Step::Ended);
        let counts = bench.spool.usage().counts;
        assert_eq!(counts.get(Cause::Received), taken + 3);
        assert_eq!(counts.get(Cause::Damaged), 1, "the other one is stored");
    }
}

#[test]
fn a_full_journal_has_room_again_at_once_when_nothing_blocks() {
    let mut bench = open();
    bench.settle();
    // 1 MiB: a quarter is a segment at most, here 4 KiB.
    let mut id = 0;
    loop {
        match bench.journal.append(&bench.reading(id)) {
            Ok(_) => id += 1,
            Err(AppendError::Full { what: Fullness::Cap, .. }) => break,
            Err(error) => panic!("{error}"),
        }
        if id % 100 == 0 {
            bench.journal.step();
        }
    }
    bench.journal.step();
    let mut waited = Duration::ZERO;
    loop {
        let Step::Idle(pause) = bench.settle() else { panic!("nothing is wrong") };
        // What was released is unlinked by the committing thread.
        bench.journal.step();
        if bench.journal.append(&bench.reading(id)).is_ok() {
            return;
        }
        bench.pass(pause);
        waited += pause;
        assert!(waited < Duration::from_secs(2), "{:?}", bench.journal.usage());
    }
}

/// Takes and acknowledges all that is there to send; how many readings.
fn take(spool: &Spool) -> u64 {
    let mut taken = 0;
    for lane in [Lane::Live, Lane::Backlog] {
        while let Some(batch) = spool.next(lane, 0).unwrap() {
            taken += wire::payload::decode(&batch.payload).unwrap().samples().count() as u64;
            let range = wire::v1::Range { first: batch.seq, last: batch.seq };
            let held = wire::v1::Holdings { epoch: batch.epoch, upto: 0, ranges: vec![range] };
            spool.acked(&[held]).unwrap();
        }
    }
    taken
}

#[test]
fn a_journal_that_holds_the_disk_below_the_floor_is_drained_by_a_collector_that_is_there() {
    const READINGS: u64 = 5000;
    const DISK: u64 = 4_000_000;
    const MIN_FREE: u64 = 600_000;
    let disk = SimDisk::new(1);
    let spool = SpoolConfig { min_free_bytes: MIN_FREE, batch_bytes: 400, ..SpoolConfig::new("/data/spool") };
    let mut bench = open_with(disk.clone(), open().now, spool);
    for id in 0..READINGS as i64 {
        bench.durable(id);
    }
    let held = bench.journal.usage().bytes;
    assert!(held > 300_000, "{held}");
    // Others take more than what was left to them.
    disk.set_capacity(Some(DISK));
    disk.put(Path::new("/others"), &vec![0; (DISK - disk.used() - MIN_FREE / 2) as usize]);
    bench.settle();
    assert!(matches!(bench.settle(), Step::Blocked(_)), "nobody is connected");
    bench.spool.hello();
    bench.spool.greet(&[], &[]).unwrap();
    let (mut taken, mut waited) = (0, 0);
    while taken < READINGS || bench.journal.usage().bytes > 20_000 {
        bench.settle();
        taken += take(&bench.spool);
        bench.journal.step();
        bench.pass(Duration::from_millis(250));
        assert!(DISK - disk.used() > MIN_FREE / 4, "the reserve is what it takes at most");
        waited += 1;
        assert!(waited < 1000, "{:?} {:?}", bench.journal.usage(), bench.spool.usage());
    }
    assert_eq!(taken, READINGS);
    assert!(disk.used() + MIN_FREE <= DISK, "what it held is free again");
}

/// The `receive` spans that ended, by trace.
fn received(tracer: &Tracer) -> Vec<u8> {
    let spans = tracer.take(99).into_iter().filter(|span| span.name == "receive");
    spans.map(|span| span.context.trace[0]).collect()
}

#[test]
fn a_sampled_record_ends_its_receive_span_when_it_is_read_and_again_only_where_no_batch_has_it() {
    let sampled = |bench: &Bench, number: u8| {
        let Record::Intake(mut intake) = bench.reading(1) else { unreachable!() };
        let context = Context { trace: [number; 16], span: [number; 8] };
        intake.trace = Some(Traced { context, parent: [9; 8] });
        bench.journal.append(&Record::Intake(intake)).unwrap();
        bench.journal.step();
    };
    let traced = |bench: &Bench| {
        let tracer = Arc::new(Tracer::new(0.0, 1, || i64::MAX));
        bench.spool.trace_with(Arc::clone(&tracer));
        tracer
    };
    let mut bench = open();
    let tracer = traced(&bench);
    sampled(&bench, 1);
    bench.settle();
    bench.durable(2);
    // The first is under way: this one waits for its ack.
    sampled(&bench, 3);
    bench.settle();
    assert_eq!((received(&tracer), bench.spool.usage().batches), (vec![1, 3], 1));

    bench.disk.crash();
    let mut bench = open_on(bench.disk, bench.now);
    let tracer = traced(&bench);
    bench.settle();
    assert_eq!(received(&tracer), [3]);
    let batches: Vec<String> = {
        bench.spool.greet(&[], &[]).unwrap();
        std::iter::from_fn(|| bench.spool.next(Lane::Backlog, 0).unwrap()).map(|batch| batch.trace).collect()
    };
    let of = |number: &str| format!("00-{}-", number.repeat(16));
    assert_eq!(batches.len(), 2);
    assert!(batches[0].starts_with(&of("01")) && batches[1].starts_with(&of("03")), "{batches:?}");
}
