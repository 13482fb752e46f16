//! A start on a disk that doesn't give one file of the data folder: whichever it is, journal, spool and fold go on, and the
//! books balance.
#![allow(clippy::unwrap_used, reason = "a test may end so")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fold::NoScorer;
use folding::{Checkpoint, Driver, Folding, Step};
use journal::{Holder, Journal, JournalConfig};
use seglog::sim::SimDisk;
use spool::{Spool, SpoolConfig};
use telemetry::{
    Cause, Counts, DeviceClock, Intake, Lane, Position, Record, SeriesDef, SeriesKey, SeriesTable, Stamp,
};

const SECOND: u64 = 1_000_000_000;
const BEFORE: u64 = 400;
const AFTER: u64 = 30;

struct Bench {
    table: Arc<SeriesTable>,
    journal: Journal,
    spool: Spool,
    driver: Driver,
    now: Stamp,
}

/// As a start of the agent opens them.
fn start(disk: &SimDisk, now: Stamp) -> Bench {
    let table = SeriesTable::new(100);
    let spool = SpoolConfig {
        min_free_bytes: 0,
        segment_bytes: 4096,
        batch_bytes: 100,
        ..SpoolConfig::new("/data/spool")
    };
    let (spool, _) = Spool::open(spool, disk.storage(), Arc::clone(&table), "edge").unwrap();
    let config =
        JournalConfig { max_bytes: 1 << 20, segment_bytes: 4096, ..JournalConfig::new("/data/journal") };
    let (journal, _) = Journal::open_stepped(config, disk.storage(), Arc::clone(&table)).unwrap();
    journal.skip_to(spool.position());
    journal.release(Holder::Sessions, Position::MAX);
    let checkpoint = Checkpoint::open(disk.storage(), Path::new("/data/fold.checkpoint")).unwrap();
    let clock = |at| DeviceClock { at, boot: [1; 16], synced: true };
    let work =
        Folding::restore(journal.clone(), spool.clone(), checkpoint, &table, || Box::new(NoScorer), clock);
    Bench { table, journal, spool, driver: Driver::new(work, now), now }
}

impl Bench {
    /// Takes readings, of which each becomes durable, and folds them.
    fn run(&mut self, ids: std::ops::Range<u64>) {
        for id in ids {
            let key = SeriesKey::new("level", [("device", format!("tank-{}", id % 5))]).unwrap();
            let mut intake = Intake::new(0, self.now);
            intake.series.push(self.table.intern(SeriesDef::bare(key)).unwrap());
            intake.push(0, self.now.wall, id as f64, 0);
            intake.counts.add(Cause::Received, 1);
            self.journal.append(&Record::Intake(intake)).unwrap();
            self.journal.step();
            self.now.wall += 50_000_000;
            self.now.mono += 50_000_000;
            while self.driver.step(self.now) == Step::Progress {}
            self.journal.step();
        }
    }

    /// Closes it in order, and gives each value that is sent, how often, and the counts.
    fn end(mut self) -> (BTreeMap<u64, u64>, Counts) {
        self.journal.close();
        for _ in 0..1000 {
            self.now.mono += Duration::from_secs(1).as_nanos() as u64;
            if self.driver.step(self.now) == Step::Ended {
                break;
            }
        }
        self.spool.hello();
        self.spool.greet(&[], &[]).unwrap();
        let (mut values, mut counts) = (BTreeMap::<u64, u64>::new(), Counts::new());
        for lane in [Lane::Live, Lane::Backlog] {
            while let Some(batch) = self.spool.next(lane, 0).unwrap() {
                let payload = wire::payload::decode(&batch.payload).unwrap();
                payload.samples().for_each(|(_, _, value, _)| *values.entry(value as u64).or_default() += 1);
                counts.merge(&payload.counts);
            }
        }
        for loss in self.spool.loss_frames() {
            for count in loss.counts {
                counts.add(Cause::from_code(count.cause as u8).unwrap(), count.count);
            }
        }
        (values, counts)
    }
}

/// A disk with an agent's work on it, of which the last part is not in batches, as after a kill.
fn worked() -> (SimDisk, Stamp) {
    let disk = SimDisk::new(1);
    let mut bench = start(&disk, Stamp { wall: 1_800_000_000_000_000_000, mono: 10 * SECOND });
    bench.run(0..BEFORE);
    let now = bench.now;
    disk.kill();
    (disk, now)
}

fn files(disk: &SimDisk) -> Vec<PathBuf> {
    disk.paths().into_iter().filter(|path| path.file_name().is_some_and(|name| name != "lock")).collect()
}

/// Starts with one file spoilt, goes on, and looks at the books.
fn survives(disk: &SimDisk, now: Stamp, file: &Path) {
    let mut bench = start(disk, now);
    bench.run(BEFORE..BEFORE + AFTER);
    let (values, counts) = bench.end();
    let said = format!("{}: {counts:?}", file.display());
    assert!(values.values().all(|times| *times == 1), "{said}");
    for id in BEFORE..BEFORE + AFTER {
        assert!(values.contains_key(&id), "{id} is missing; {said}");
    }
    let stored = values.len() as u64;
    // Events that tell of it are all that the agent makes here.
    let told = counts.get(Cause::Derived);
    assert_eq!(counts.get(Cause::Shipped), stored + told + counts.get(Cause::Damaged), "{said}");
    let received = counts.get(Cause::Received);
    assert_eq!(received + told, counts.get(Cause::Shipped), "{said}");
    if !file.starts_with("/data/journal") {
        // What isn't in the journal any more is named, to the last reading.
        assert_eq!(received, BEFORE + AFTER, "{said}");
    }
    if !file.to_string_lossy().contains(".seg") || file.starts_with("/data/spool/heads") {
        assert_eq!(stored, BEFORE + AFTER, "nothing but a segment holds readings; {said}");
    }
}

#[test]
fn each_file_that_cannot_be_opened_is_set_aside_and_the_start_goes_on() {
    let (disk, _) = worked();
    let all = files(&disk);
    for part in ["journal/", "spool/log/", "spool/cursor", "fold.checkpoint"] {
        assert!(all.iter().any(|path| path.to_string_lossy().contains(part)), "{part} in {all:?}");
    }
    for file in all {
        let (disk, now) = worked();
        disk.fail_opens(&file);
        survives(&disk, now, &file);
    }
}

#[test]
fn each_file_of_which_nothing_can_be_read_is_damaged_and_the_start_goes_on() {
    for file in files(&worked().0) {
        let (disk, now) = worked();
        for offset in (0..disk.read(&file).unwrap().len()).step_by(512) {
            disk.fail_reads(&file, offset);
        }
        survives(&disk, now, &file);
    }
}
