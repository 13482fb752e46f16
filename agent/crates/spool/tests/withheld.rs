//! A start on which the disk doesn't give the cursor or a segment, for want of rights or of file handles: it is there, and that it
//! can't be read says nothing of what is done, and nothing of damage.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use common::{Collector, config, open, rows};
use seglog::sim::SimDisk;
use seglog::{File, Guard, Mode, Storage};
use spool::{Recovery, Spool, SpoolConfig, SpoolError};
use telemetry::{Cause, Lane, SeriesTable};

/// A disk that refuses to open a file while it is told to.
struct Refusing {
    under: Arc<dyn Storage>,
    file: PathBuf,
    kind: io::ErrorKind,
    asked: Arc<Asked>,
}

struct Asked {
    refuses: AtomicBool,
    refused: AtomicU32,
}

impl Storage for Refusing {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.under.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.under.list(dir)
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn File>> {
        if self.asked.refuses.load(Ordering::Relaxed) && path == self.file {
            self.asked.refused.fetch_add(1, Ordering::Relaxed);
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

fn reopened(
    disk: &SimDisk,
    file: &Path,
    kind: io::ErrorKind,
) -> (Spool, Recovery, Arc<SeriesTable>, Arc<Asked>) {
    let asked = Arc::new(Asked { refuses: AtomicBool::new(true), refused: AtomicU32::new(0) });
    let storage = Refusing { under: disk.storage(), file: file.into(), kind, asked: Arc::clone(&asked) };
    let table = SeriesTable::new(1000);
    let (spool, recovery) = Spool::open(config(), Arc::new(storage), Arc::clone(&table), "test").unwrap();
    (spool, recovery, table, asked)
}

fn cursor() -> &'static Path {
    Path::new("/spool/cursor")
}

/// Longer than any pause between two openings.
const LATER: Duration = Duration::from_secs(31);

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

        let (spool, _, table, asked) = reopened(&disk, cursor(), kind);
        assert_eq!(spool.next(Lane::Backlog, 0).unwrap(), None, "nobody knows what is done");
        assert_eq!(spool.durable_position(), 0, "the journal keeps what is in it");
        assert!(spool.append(10, &rows(&table, 10, 5), false).is_err());
        assert!(spool.cut_if_due(Duration::ZERO).is_err());
        assert!(spool.settled_position().is_err());
        let trouble = spool.usage().trouble.unwrap();
        assert!(trouble.contains("/spool/cursor"), "{trouble}");

        asked.refuses.store(false, Ordering::Relaxed);
        spool.time(LATER);
        spool.append(10, &rows(&table, 10, 5), false).unwrap();
        assert_eq!((spool.usage().batches, spool.usage().epoch), (1, epoch));
        assert_eq!(spool.counted(), counted);
        spool.cut().unwrap();
        collector.drain(&spool);
        assert_eq!((collector.values.len(), collector.stored.len(), collector.lost.len()), (50, 10, 0));
        assert!(collector.values.values().all(|times| *times == 1));
        assert_eq!(spool.counted().get(Cause::Received), 50);
        assert_eq!((spool.usage().trouble, spool.usage().withheld), (None, None));
    }
}

/// A disk with batches of 450 readings in several segments that wait, and those segments, oldest first.
fn waiting() -> (SimDisk, Vec<PathBuf>) {
    let disk = SimDisk::new(3);
    let (spool, _, table) = open(&disk, config());
    for position in 1..=90 {
        spool.append(position, &rows(&table, position, 50), false).unwrap();
    }
    spool.cut().unwrap();
    drop(spool);
    let mut segments = disk.paths();
    segments.retain(|path| path.starts_with("/spool/log") && path.extension().is_some_and(|is| is == "seg"));
    assert!(segments.len() > 2);
    (disk, segments)
}

#[test]
fn a_segment_that_is_not_given_is_neither_damaged_nor_lost_and_is_sent_once_it_is() {
    for newest in [true, false] {
        let (disk, segments) = waiting();
        let file = if newest { &segments[segments.len() - 1] } else { &segments[1] };
        let (spool, recovery, table, asked) = reopened(&disk, file, io::ErrorKind::PermissionDenied);
        assert_eq!(recovery.damaged, 0);
        assert!(recovery.withheld.is_some_and(|why| why.contains(file.to_str().unwrap())));
        let usage = spool.usage();
        assert_eq!((usage.losses, usage.lost.len(), usage.damage.len()), (0, 0, 0));
        let withheld = usage.withheld.unwrap();
        assert!(withheld.why.contains(file.to_str().unwrap()), "{withheld:?}");
        assert!(matches!(spool.append(91, &rows(&table, 91, 50), false), Err(SpoolError::Withheld(_))));
        assert_eq!(spool.next(Lane::Backlog, 0).unwrap(), None);
        assert_eq!(spool.next_loss(), None);

        asked.refuses.store(false, Ordering::Relaxed);
        spool.time(LATER);
        spool.append(91, &rows(&table, 91, 50), false).unwrap();
        spool.cut().unwrap();
        assert_eq!((spool.usage().trouble, spool.usage().withheld), (None, None));
        let mut collector = Collector::default();
        collector.drain(&spool);
        assert_eq!((collector.values.len(), collector.lost.len()), (91 * 50, 0));
        assert!(collector.values.values().all(|times| *times == 1));
    }
}

#[test]
fn what_is_not_given_is_tried_again_with_pauses_that_grow() {
    let (disk, segments) = waiting();
    for file in [cursor(), &segments[1], &segments[segments.len() - 1]] {
        let (spool, _, _, asked) = reopened(&disk, file, io::ErrorKind::PermissionDenied);
        let quarters = |seconds: u64| (0..seconds * 4).map(|quarter| Duration::from_millis(250 * quarter));
        let opened = asked.refused.load(Ordering::Relaxed);
        let tries = |spool: &Spool| spool.usage().withheld.unwrap().tries;
        for now in quarters(62) {
            assert!(spool.cut_if_due(now).is_err());
        }
        assert_eq!(tries(&spool), 7, "at 0, 1, 3, 7, 15, 31, 61 seconds");
        for now in quarters(331) {
            assert!(spool.cut_if_due(now).is_err());
            let again_in = spool.usage().withheld.unwrap().again_in;
            assert!(now < Duration::from_secs(62) || again_in <= Duration::from_secs(30), "{again_in:?}");
        }
        assert_eq!(tries(&spool), 15, "every half a minute from then on");
        let each = (asked.refused.load(Ordering::Relaxed) - opened) / 15;
        assert!(each <= 4, "looked at {each} times with each opening");
    }
}

#[test]
fn a_cursor_that_was_never_written_is_none_on_a_disk_that_takes_none() {
    let disk = SimDisk::new(2);
    let (spool, _, table, _) = reopened(&disk, cursor(), io::ErrorKind::NotFound);
    spool.append(1, &rows(&table, 1, 5), false).unwrap();
    assert!(spool.usage().trouble.is_none());
}
