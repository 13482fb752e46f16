//! A start on a disk that can't be synced: what is found may be gone after the next power cut.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::time::Duration;

use common::{Collector, config, open, rows};
use seglog::sim::SimDisk;
use telemetry::Lane;

#[test]
fn nothing_that_was_found_is_sent_or_built_on_until_it_could_be_synced() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    spool.append(1, &rows(&table, 1, 3), false).unwrap();
    spool.cut().unwrap();
    drop(spool);

    disk.fail_sync_after(0);
    let (spool, _, table) = open(&disk, config());
    let mut collector = Collector::default();
    assert_eq!(spool.usage().batches, 1, "it is seen");
    assert_eq!(spool.next(Lane::Backlog, 0).unwrap(), None);
    assert_eq!(spool.durable_position(), 0, "the journal keeps what is in it");
    disk.fail_sync_after(0);
    assert!(spool.append(2, &rows(&table, 2, 3), false).is_err());
    disk.fail_sync_after(0);
    assert!(spool.cut_if_due(Duration::from_secs(31)).is_err());
    assert!(spool.usage().trouble.is_some_and(|trouble| trouble.contains("fsync")));
    disk.fail_sync_after(0);
    spool.time(Duration::from_secs(62));
    let (holdings, conflicts) = collector.greeting(&spool.hello());
    assert!(spool.greet(&holdings, &conflicts).is_err());

    // The disk works again.
    spool.time(Duration::from_secs(93));
    spool.append(2, &rows(&table, 2, 3), false).unwrap();
    spool.cut().unwrap();
    assert_eq!(spool.durable_position(), 2);
    collector.drain(&spool);
    assert_eq!((collector.values.len(), spool.usage().batches), (6, 0));
    assert_eq!(spool.usage().trouble, None);
}
