//! Damage that takes the definition of a series' number: the batches that use it are lost, and never given to another series.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::path::Path;
use std::sync::Arc;

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

#[test]
fn a_number_whose_definition_was_damaged_is_never_given_to_another_series() {
    let disk = SimDisk::new(1);
    let whole = || spool::SpoolConfig { segment_bytes: 1 << 20, ..config() };
    let (spool, _, table) = open(&disk, whole());
    // The second batch defines a series that the third uses again.
    for (position, rows) in [(1, rows(&table, 1, 1)), (2, other(&table, 2)), (9, other(&table, 9))] {
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
    let second = find_second(&content);
    assert!(disk.rot(&path, second, 1));
    disk.crash();

    let (spool, recovery, table) = open(&disk, whole());
    assert!(recovery.damaged > 0);
    // New series after the restart must not take the lost number.
    for position in 10..15 {
        spool.append(position, &rows(&table, position, 3), false).unwrap();
        spool.cut().unwrap();
    }
    // It fails where a value goes to another series, and never ends where a definition is asked for that nobody has.
    let mut collector = Collector::default();
    collector.drain(&spool);
    collector.drain(&spool);
    assert_eq!(collector.values.len(), 1 + 5 * 3);
    assert_eq!(collector.counts.get(Cause::Received), 3 + 5 * 3, "what was lost is counted");
    assert_eq!(collector.counts.get(Cause::Damaged), 2);
    drop(Arc::clone(&table));
}

/// A byte of the second record's payload: records are length, checksum, number and payload behind 64 bytes of header.
fn find_second(content: &[u8]) -> usize {
    let len = u32::from_le_bytes(content[64..68].try_into().unwrap()) as usize;
    let second = 64 + 16 + len;
    let len = u32::from_le_bytes(content[second..second + 4].try_into().unwrap()) as usize;
    second + 16 + len - 1
}
