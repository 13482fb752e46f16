//! What tests of what is gone share: journal, fold and spool on a simulated disk, killed and started again.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test may end so")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fold::NoScorer;
use folding::{Checkpoint, Driver, Folding, Step};
use journal::{Holder, Journal, JournalConfig};
use seglog::sim::SimDisk;
use spool::{Damage, Spool, SpoolConfig};
use telemetry::{
    Cause, Counts, DeviceClock, Intake, Lane, Position, Record, SeriesDef, SeriesKey, SeriesTable, Stamp,
};
use wire::payload::Payload;

pub const SECOND: u64 = 1_000_000_000;
pub const START: Stamp = Stamp { wall: 1_800_000_000_000_000_000, mono: 10 * SECOND };
pub const CHECKPOINT: &str = "/data/fold.checkpoint";
pub const WINDOW: &[u8] = br#"{"route":[{"match":"flow","to":"window","window":"10m"}]}"#;
pub const SHORT: &[u8] = br#"{"route":[{"match":"flow","to":"window","window":"10s"}],"lateness":"0s"}"#;

pub struct Bench {
    pub disk: SimDisk,
    pub table: Arc<SeriesTable>,
    pub journal: Journal,
    pub spool: Spool,
    pub driver: Driver,
    pub now: Stamp,
    pub config: &'static [u8],
    pub min_free: u64,
}

pub fn start(disk: SimDisk, now: Stamp) -> Bench {
    start_with(disk, now, WINDOW)
}

pub fn start_with(disk: SimDisk, now: Stamp, config_json: &'static [u8]) -> Bench {
    start_above(disk, now, config_json, 0)
}

/// As a start of the agent opens them; `min_free` is what the journal leaves to others on the disk.
pub fn start_above(disk: SimDisk, now: Stamp, config_json: &'static [u8], min_free: u64) -> Bench {
    let table = SeriesTable::new(100);
    let config = SpoolConfig { min_free_bytes: 0, batch_bytes: 200, ..SpoolConfig::new("/data/spool") };
    let (spool, _) = Spool::open(config, disk.storage(), Arc::clone(&table), "edge").unwrap();
    let config = JournalConfig {
        max_bytes: 1 << 20,
        segment_bytes: 4096,
        min_free_bytes: min_free,
        ..JournalConfig::new("/data/journal")
    };
    let (journal, _) = Journal::open_stepped(config, disk.storage(), Arc::clone(&table)).unwrap();
    folding::number_on(&journal, &spool, Path::new(CHECKPOINT));
    journal.release(Holder::Sessions, Position::MAX);
    let checkpoint = Checkpoint::open(disk.storage(), Path::new(CHECKPOINT)).unwrap();
    let begun = [
        Record::Tick(DeviceClock { at: now, boot: [1; 16], synced: true }),
        Record::Config { stamp: now, generation: 1, config: config_json.to_vec() },
    ];
    // The agent goes on without where the journal has no room.
    _ = journal.append_all(&begun);
    journal.step();
    let clock = |at| DeviceClock { at, boot: [1; 16], synced: true };
    let work =
        Folding::restore(journal.clone(), spool.clone(), checkpoint, &table, || Box::new(NoScorer), clock);
    Bench { disk, table, journal, spool, driver: Driver::new(work, now), now, config: config_json, min_free }
}

impl Bench {
    /// A record with one reading of each name.
    pub fn intake(&self, names: &[&str]) -> Record {
        let mut intake = Intake::new(0, self.now);
        for name in names {
            let key = SeriesKey::new(*name, [("device", "tank")]).unwrap();
            let series = self.table.intern(SeriesDef::bare(key)).unwrap();
            let at = intake.series.iter().position(|known| *known == series).unwrap_or_else(|| {
                intake.series.push(series);
                intake.series.len() - 1
            });
            intake.push(at as u32, self.now.wall, 1.0, 0);
        }
        intake.counts.add(Cause::Received, names.len() as u64);
        Record::Intake(intake)
    }

    /// Takes one reading of each name, durable and folded, and lets a moment pass. The position of their record.
    pub fn take(&mut self, names: &[&str]) -> Position {
        let intake = self.intake(names);
        let position = self.journal.append(&intake).unwrap();
        self.pass(50);
        position
    }

    pub fn pass(&mut self, ms: u64) {
        self.now.wall += ms as i64 * 1_000_000;
        self.now.mono += ms * 1_000_000;
        for _ in 0..3 {
            self.journal.step();
            while self.driver.step(self.now) == Step::Progress {}
        }
    }

    /// The process is killed, and another one starts on what is there.
    pub fn killed(self) -> Bench {
        self.disk.kill();
        start_above(self.disk.clone(), self.now, self.config, self.min_free)
    }

    /// It ends in order, and another one starts.
    pub fn restarted(mut self) -> Bench {
        self.journal.close();
        for _ in 0..1000 {
            self.now.mono += Duration::from_secs(1).as_nanos() as u64;
            if self.driver.step(self.now) == Step::Ended {
                let (disk, now, config, min_free) = (self.disk.clone(), self.now, self.config, self.min_free);
                drop(self);
                return start_above(disk, now, config, min_free);
            }
        }
        panic!("it never ends");
    }

    pub fn damage(&self) -> Vec<Damage> {
        self.spool.usage().damage
    }

    pub fn counts(&self) -> Counts {
        self.spool.counted()
    }

    /// All leaves, as a day goes by: what each batch holds.
    pub fn payloads(&mut self) -> Vec<Payload> {
        for _ in 0..30 {
            self.pass(60_000);
        }
        self.spool.cut().unwrap();
        self.spool.hello();
        self.spool.greet(&[], &[]).unwrap();
        let mut payloads = Vec::new();
        for lane in [Lane::Live, Lane::Backlog] {
            while let Some(batch) = self.spool.next(lane, 0).unwrap() {
                payloads.push(wire::payload::decode(&batch.payload).unwrap());
            }
        }
        payloads
    }

    /// Of all that leaves: rows that are samples, readings in windows, and the bodies of events.
    pub fn leave(&mut self) -> (u64, u64, Vec<String>) {
        let (mut samples, mut windowed, mut events) = (0, 0, Vec::new());
        for payload in self.payloads() {
            samples += payload.samples().count() as u64;
            windowed += payload.windows.iter().map(|row| row.count).sum::<u64>();
            events.extend(payload.events.into_iter().map(|event| event.body));
        }
        (samples, windowed, events)
    }
}

/// The ledger's first equation.
pub fn balances(counts: &Counts) {
    let count = |cause| counts.get(cause);
    let right = count(Cause::ReducedWindow) + count(Cause::Shipped);
    assert_eq!(count(Cause::Received) + count(Cause::Derived), right, "{counts:?}");
}

/// Changes a byte of the journal's record with this number.
pub fn rot_record(disk: &SimDisk, number: Position) {
    for path in segments(disk, "/data/journal") {
        let content = disk.read(&path).unwrap();
        let mut at = 64;
        while at + 16 <= content.len() {
            let word = |at: usize| content[at..at + 4].try_into().map(u32::from_le_bytes).unwrap();
            let (len, found) = (word(at) as usize, u64::from(word(at + 8)));
            if found == number {
                assert!(disk.rot(&path, at + 16 + len - 1, 1));
                return;
            }
            at += 16 + len;
        }
    }
    panic!("the journal has no record {number}");
}

pub fn segments(disk: &SimDisk, dir: &str) -> Vec<PathBuf> {
    let all = disk.paths().into_iter().filter(|path| path.starts_with(dir));
    all.filter(|path| path.extension().is_some_and(|is| is == "seg")).collect()
}

pub fn remove(disk: &SimDisk, part: &str) {
    let storage = disk.storage();
    disk.paths().iter().filter(|path| path.starts_with(part)).for_each(|path| storage.remove(path).unwrap());
}
