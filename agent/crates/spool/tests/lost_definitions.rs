//! Damage that takes the definitions of a series' number: the batches that use it are lost, and never given to another
//! series. Each is there twice, so that takes two.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::path::Path;

use common::{Collector, config, open, rows};
use seglog::sim::SimDisk;
use telemetry::{Cause, Rows, SeriesDef, SeriesKey, SeriesTable};

/// One sample of a series that no other record has.
fn other(table: &SeriesTable, position: u64) -> Rows {
    let mut rows = rows(table, position, 0);
    let key = SeriesKey::new("n", [("device", format!("d{}", position % 7))]).unwrap();
    let series = table.intern(SeriesDef::bare(key)).unwrap();
    rows.push_sample(series, position as i64 * common::SECOND, (position * 1000) as f64, 0);
    rows.count(Cause::Received, 1);
    rows
}

/// Three batches with a series of their own behind one without, all in one segment; of these some rot. Gives what the
/// collector has, and a new start in which new series come.
fn rotten(damaged: &[usize]) -> Collector {
    let disk = SimDisk::new(1);
    let whole = || spool::SpoolConfig { segment_bytes: 1 << 20, ..config() };
    let (spool, _, table) = open(&disk, whole());
    let others = [2, 9, 16].map(|position| (position, other(&table, position)));
    for (position, rows) in [(1, rows(&table, 1, 1))].into_iter().chain(others) {
        spool.append(position, &rows, false).unwrap();
        spool.cut().unwrap();
    }
    drop(spool);
    let path = disk
        .paths()
        .into_iter()
        .find(|path| path.starts_with(Path::new("/spool/log")) && path.extension().is_some())
        .unwrap();
    let content = disk.read(&path).unwrap();
    for record in damaged {
        assert!(disk.rot(&path, last_byte(&content, *record), 1));
    }
    disk.crash();

    let (spool, recovery, table) = open(&disk, whole());
    assert!(recovery.damaged > 0);
    // New series after the restart must not take a lost number.
    for position in 20..25 {
        spool.append(position, &rows(&table, position, 3), false).unwrap();
        spool.cut().unwrap();
    }
    // It fails where a value goes to another series, and never ends where a definition is asked for that nobody has.
    let mut collector = Collector::default();
    collector.drain(&spool);
    collector.drain(&spool);
    collector
}

#[test]
fn a_damaged_batch_takes_no_other_with_it() {
    let collector = rotten(&[1]);
    assert_eq!(collector.values.len(), 3 + 5 * 3);
    assert_eq!(collector.counts.get(Cause::Received), 4 + 5 * 3, "what was lost is counted");
    assert_eq!(collector.counts.get(Cause::Damaged), 1);
}

#[test]
fn a_number_whose_definitions_were_damaged_is_never_given_to_another_series() {
    let collector = rotten(&[1, 2]);
    assert_eq!(collector.values.len(), 1 + 5 * 3);
    assert_eq!(collector.counts.get(Cause::Received), 4 + 5 * 3, "what was lost is counted");
    assert_eq!(collector.counts.get(Cause::Damaged), 3);
}

/// The last byte of the record at this place: records are length, checksum, number and payload behind 64 bytes of header.
fn last_byte(content: &[u8], record: usize) -> usize {
    let end = |at: usize| at + 16 + u32::from_le_bytes(content[at..at + 4].try_into().unwrap()) as usize;
    (0..=record).fold(64, |at, _| end(at)) - 1
}
