//! A checkpoint that the agent's user may not open, as after somebody ran the agent as root: that is no damage, and no reason not
//! to start. What comes waits in the journal until it is given.
#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fold::NoScorer;
use folding::{Checkpoint, Folding, start};
use journal::{Journal, JournalConfig};
use seglog::{Disk, File, Guard, Mode, OpenError, Storage};
use spool::{Spool, SpoolConfig};
use telemetry::{DeviceClock, Record, SeriesTable, Stamp};

/// The disk, but for the rights to one file until they are given.
#[derive(Default)]
struct Denied(AtomicBool);

impl Storage for Denied {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        Disk.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Disk.list(dir)
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn File>> {
        let denied = path.ends_with("fold.checkpoint") && !self.0.load(Ordering::Relaxed);
        if denied { Err(io::ErrorKind::PermissionDenied.into()) } else { Disk.open(path, mode) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Guard>>> {
        Disk.lock(path)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        Disk.free_bytes(dir)
    }
}

fn work(
    data: &Path,
    storage: Arc<dyn Storage>,
) -> (Journal, Spool, impl FnMut() -> Result<Folding, OpenError> + use<>) {
    let table = SeriesTable::new(10);
    let config = SpoolConfig { min_free_bytes: 0, ..SpoolConfig::new(data.join("spool")) };
    let (spool, _) = Spool::open(config, Arc::new(Disk), Arc::clone(&table), "edge").unwrap();
    let config = JournalConfig { min_free_bytes: 0, ..JournalConfig::new(data.join("journal")) };
    let (journal, _) = Journal::open(config, Arc::new(Disk), Arc::clone(&table)).unwrap();
    let path = data.join("fold.checkpoint");
    let (ours, its) = (journal.clone(), spool.clone());
    let restore = move || {
        let checkpoint = Checkpoint::open(Arc::clone(&storage), &path)?;
        let clock = |at| DeviceClock { at, boot: [1; 16], synced: true };
        Ok(Folding::restore(ours.clone(), its.clone(), checkpoint, &table, || Box::new(NoScorer), clock))
    };
    (journal, spool, restore)
}

/// Looks until it is so; fails after a minute.
fn until(is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "it never came");
        std::thread::yield_now();
    }
}

fn tick(journal: &Journal) {
    let at = Stamp { wall: 1_800_000_000_000_000_000, mono: 1 };
    let position = journal.append(&Record::Tick(DeviceClock { at, boot: [1; 16], synced: true })).unwrap();
    journal.wait_blocking(position, Duration::from_secs(60)).unwrap();
}

/// An agent that takes in a tick and ends.
fn ticked(data: &Path, storage: Arc<dyn Storage>) {
    let (journal, spool, restore) = work(data, storage);
    let running = start(&journal, &spool, restore, Stamp::default).unwrap();
    tick(&journal);
    journal.close();
    running.finish();
}

#[test]
fn it_is_waited_for_with_all_that_comes_kept_and_goes_on_where_it_stood() {
    let folder = tempfile::tempdir().unwrap();
    ticked(folder.path(), Arc::new(Disk));
    let path = folder.path().join("fold.checkpoint");
    let before = std::fs::read(&path).unwrap();

    let denied = Arc::new(Denied::default());
    let (journal, spool, restore) = work(folder.path(), Arc::clone(&denied) as Arc<dyn Storage>);
    let running = start(&journal, &spool, restore, Stamp::default).unwrap();
    let watch = running.watch();
    let blocked = || watch.progress(journal.last()).blocked;
    assert!(blocked().unwrap().contains("fold.checkpoint"), "{:?}", blocked());
    tick(&journal);
    let beats = watch.beats();
    until(|| watch.beats() > beats);
    assert_eq!(std::fs::read(&path).unwrap(), before, "it is as it was");
    assert!(!folder.path().join("fold.checkpoint.unreadable").exists());

    denied.0.store(true, Ordering::Relaxed);
    until(|| blocked().is_none() && watch.progress(journal.last()).behind == 0);
    assert_eq!(watch.progress(journal.last()).missing, None);
    journal.close();
    running.finish();
}

#[test]
fn one_that_is_never_given_keeps_nobody_from_ending() {
    let folder = tempfile::tempdir().unwrap();
    ticked(folder.path(), Arc::new(Denied::default()));
    let (journal, _spool, _restore) = work(folder.path(), Arc::new(Disk));
    assert_eq!((journal.first(), journal.last()), (1, 1), "the journal keeps what came");
}

#[test]
fn a_link_that_leads_nowhere_is_waited_for_too() {
    let folder = tempfile::tempdir().unwrap();
    let (path, kept) = (folder.path().join("fold.checkpoint"), folder.path().join("kept"));
    ticked(folder.path(), Arc::new(Disk));
    std::fs::rename(&path, &kept).unwrap();
    std::os::unix::fs::symlink(folder.path().join("disk/fold.checkpoint"), &path).unwrap();
    assert!(Checkpoint::peek(&Disk, &path).is_err(), "nobody knows its position");

    let (journal, spool, restore) = work(folder.path(), Arc::new(Disk));
    let running = start(&journal, &spool, restore, Stamp::default).unwrap();
    let watch = running.watch();
    let blocked = || watch.progress(journal.last()).blocked;
    let why = blocked().unwrap();
    assert!(why.contains("a link that leads nowhere") && why.contains("mount that disk"), "{why}");
    assert!(!why.contains("move away"), "{why}");
    tick(&journal);
    // The disk is mounted.
    std::fs::create_dir(folder.path().join("disk")).unwrap();
    std::fs::rename(&kept, folder.path().join("disk/fold.checkpoint")).unwrap();
    until(|| blocked().is_none() && watch.progress(journal.last()).behind == 0);
    assert!(path.is_symlink(), "nothing was set aside");
    journal.close();
    running.finish();
}
