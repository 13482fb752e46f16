//! Many segments on a real disk: opened by their heads, which threads read ahead.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::fs;
use std::sync::Arc;

use common::{Collector, rows};
use seglog::Disk;
use spool::{Spool, SpoolConfig};
use telemetry::SeriesTable;

const SEGMENTS: usize = 300;

#[test]
fn hundreds_of_segments_give_their_batches_in_order_whatever_became_of_some_heads() {
    let dir = tempfile::tempdir().unwrap();
    let config = SpoolConfig {
        segment_bytes: 600,
        batch_bytes: 200,
        min_free_bytes: 0,
        ..SpoolConfig::new(dir.path().join("spool"))
    };
    let open = || {
        let table = SeriesTable::new(1000);
        let opened = Spool::open(config.clone(), Arc::new(Disk), Arc::clone(&table), "test");
        let (spool, recovery) = opened.unwrap();
        (spool, recovery, table)
    };
    let files = |folder: &str| {
        let found = fs::read_dir(config.dir.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let mut found: Vec<_> = found.filter(|path| path.extension().is_some()).collect();
        found.sort();
        found
    };
    let (spool, _, table) = open();
    let mut position = 0;
    while files("log").len() <= SEGMENTS {
        position += 1;
        spool.append(position, &rows(&table, position, 5), false).unwrap();
        spool.cut().unwrap();
    }
    let batches = spool.usage().batches;
    drop((spool, table));

    let heads = files("heads");
    assert!(heads.len() >= SEGMENTS - 1, "{}", heads.len());
    fs::remove_file(&heads[3]).unwrap();
    fs::write(&heads[280], b"no heads").unwrap();
    fs::write(config.dir.join("heads/of-nothing.seg"), b"").unwrap();
    let (spool, recovery, _table) = open();
    assert_eq!((recovery.batches, recovery.damaged, spool.usage().batches), (batches, 0, batches));
    assert!(heads.iter().all(|path| path.exists()), "those that were missing are kept again");
    assert_eq!(files("heads").iter().filter(|path| path.ends_with("of-nothing.seg")).count(), 0);
    let named = spool.hello().unacked;
    assert!(named.is_sorted_by_key(|held| held.seq));
    let mut collector = Collector::default();
    collector.drain(&spool);
    assert_eq!(collector.values.len() as u64, 5 * position);
    assert!(collector.values.values().all(|times| *times == 1));
}
