//! What the journal's tests share: a journal on a simulated disk, records, and reading them back.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end so")]

use std::sync::Arc;
use std::time::Duration;

use journal::{Journal, JournalConfig, JournalGap, Recovery};
use seglog::sim::SimDisk;
use telemetry::{Cause, Intake, Position, Record, SeriesDef, SeriesKey, SeriesRef, SeriesTable, Stamp};

/// Long enough for a busy machine; only a failing test waits that long.
pub const LONG: Duration = Duration::from_secs(30);

pub fn config() -> JournalConfig {
    JournalConfig { max_bytes: 1 << 20, segment_bytes: 2048, ..JournalConfig::new("/data/journal") }
}

/// A journal with a table of its own, as a process has one.
pub struct Bench {
    pub journal: Journal,
    pub table: Arc<SeriesTable>,
    pub recovery: Recovery,
}

pub fn open_with(sim: &SimDisk, config: JournalConfig) -> Bench {
    let table = SeriesTable::new(10_000);
    let (journal, recovery) = Journal::open(config, sim.storage(), Arc::clone(&table)).unwrap();
    Bench { journal, table, recovery }
}

pub fn open(sim: &SimDisk) -> Bench {
    open_with(sim, config())
}

/// One whose commits the test makes.
pub fn open_stepped(sim: &SimDisk) -> Bench {
    open_stepped_with(sim, config())
}

pub fn open_stepped_with(sim: &SimDisk, config: JournalConfig) -> Bench {
    let table = SeriesTable::new(10_000);
    let (journal, recovery) = Journal::open_stepped(config, sim.storage(), Arc::clone(&table)).unwrap();
    Bench { journal, table, recovery }
}

/// What a record says, without numbers that mean something in one process only.
pub type Said = (i64, Vec<(String, i64, f64)>);

pub fn said(record: &Record, table: &SeriesTable) -> Said {
    let Record::Intake(intake) = record else { return (-1, Vec::new()) };
    let samples = (0..intake.index.len()).map(|at| {
        let def = table.get(intake.series[intake.index[at] as usize]).unwrap();
        (def.key.to_string(), intake.times[at], intake.values[at])
    });
    (intake.stamp.wall, samples.collect())
}

impl Bench {
    pub fn series(&self, n: u32) -> SeriesRef {
        let key = SeriesKey::new("temperature", [("device", format!("pump-{n}"))]).unwrap();
        self.table.intern(SeriesDef::bare(key)).unwrap()
    }

    /// An intake that tells which it is, with one sample of each series.
    pub fn intake(&self, id: i64, series: &[u32]) -> Record {
        let mut intake = Intake::new(1, Stamp { wall: id, mono: 0 });
        for (at, n) in series.iter().enumerate() {
            intake.series.push(self.series(*n));
            intake.push(at as u32, id * 1000 + at as i64, f64::from(*n) + 0.5, 0);
        }
        intake.counts.add(Cause::Received, series.len() as u64);
        Record::Intake(intake)
    }

    pub fn append(&self, id: i64, series: &[u32]) -> Position {
        self.journal.append(&self.intake(id, series)).unwrap()
    }

    /// Appends and waits.
    pub fn durable(&self, id: i64, series: &[u32]) -> Position {
        let position = self.append(id, series);
        self.journal.wait_blocking(position, LONG).unwrap();
        position
    }

    /// Everything durable behind `after`.
    pub fn read(&self, after: Position) -> (Vec<(Position, Said)>, Vec<JournalGap>) {
        let mut reader = self.journal.reader(after);
        let mut records = Vec::new();
        while let Some((position, record)) = reader.next(Duration::ZERO).unwrap() {
            records.push((position, said(&record, &self.table)));
        }
        (records, reader.take_gaps())
    }
}
