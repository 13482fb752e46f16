//! A start on which the disk doesn't give the cursor, for want of rights or of file handles: it is there, and that it can't be read
//! says nothing of what is done.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Collector, config, open, rows};
use seglog::sim::SimDisk;
use seglog::{File, Guard, Mode, Storage};
use spool::{Spool, SpoolConfig};
use telemetry::{Cause, Lane, SeriesTable};

/// A disk that refuses to open the cursor while it is told to.
struct Refusing {
    under: Arc<dyn Storage>,
    kind: io::ErrorKind,
    refuses: Arc<AtomicBool>,
}

impl Storage for Refusing {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.under.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.under.list(dir)
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn File>> {
        if self.refuses.load(Ordering::Relaxed) && path.ends_with("cursor") {
            return Err(self.kind.into());
        }
        self.under.open(path, mode)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.under.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.under.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.under.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Guard>>> {
        self.under.lock(path)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.under.free_bytes(dir)
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.under.random(bytes)
    }
}

fn reopened(disk: &SimDisk, kind: io::ErrorKind) -> (Spool, Arc<SeriesTable>, Arc<AtomicBool>) {
    let refuses = Arc::new(AtomicBool::new(true));
    let storage = Refusing { under: disk.storage(), kind, refuses: Arc::clone(&refuses) };
    let table = SeriesTable::new(1000);
    let (spool, _) = Spool::open(config(), Arc::new(storage), Arc::clone(&table), "test").unwrap();
    (spool, table, refuses)
}

#[test]
fn what_was_acknowledged_is_neither_offered_nor_counted_again_and_it_goes_on_once_the_cursor_is_given() {
    for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::Other] {
        let disk = SimDisk::new(1);
        let (spool, _, table) = open(&disk, SpoolConfig { segment_bytes: 100_000, ..config() });
        let mut collector = Collector::default();
        for position in 1..=8 {
            spool.append(position, &rows(&table, position, 5), false).unwrap();
            spool.cut().unwrap();
        }
        collector.drain(&spool);
        spool.append(9, &rows(&table, 9, 5), false).unwrap();
        spool.cut().unwrap();
        let (counted, epoch) = (spool.counted(), spool.usage().epoch);
        assert_eq!(spool.usage().batches, 1);
        drop(spool);
        disk.kill();

        let (spool, table, refuses) = reopened(&disk, kind);
        assert_eq!(spool.next(Lane::Backlog, 0).unwrap(), None, "nobody knows what is done");
        assert_eq!(spool.durable_position(), 0, "the journal keeps what is in it");
        assert!(spool.append(10, &rows(&table, 10, 5), false).is_err());
        assert!(spool.cut_if_due(Duration::ZERO).is_err());
        assert!(spool.settled_position().is_err());
        let trouble = spool.usage().trouble.unwrap();
        assert!(trouble.contains("/spool/cursor"), "{trouble}");

        refuses.store(false, Ordering::Relaxed);
        spool.append(10, &rows(&table, 10, 5), false).unwrap();
        assert_eq!((spool.usage().batches, spool.usage().epoch), (1, epoch));
        assert_eq!(spool.counted(), counted);
        spool.cut().unwrap();
        collector.drain(&spool);
        assert_eq!((collector.values.len(), collector.stored.len(), collector.lost.len()), (50, 10, 0));
        assert!(collector.values.values().all(|times| *times == 1));
        assert_eq!(spool.counted().get(Cause::Received), 50);
        assert_eq!(spool.usage().trouble, None);
    }
}

#[test]
fn a_cursor_that_was_never_written_is_none_on_a_disk_that_takes_none() {
    let disk = SimDisk::new(2);
    let (spool, table, _) = reopened(&disk, io::ErrorKind::NotFound);
    spool.append(1, &rows(&table, 1, 5), false).unwrap();
    assert!(spool.usage().trouble.is_none());
}
