//! A checkpoint that the agent's user may not open, as after somebody ran the agent as root: that is no reason not to start.
#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use folding::Checkpoint;
use seglog::{Disk, File, Guard, Mode, Storage};

/// The disk, but for the rights to one file until it is renamed.
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
        self.0.store(true, Ordering::Relaxed);
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

#[test]
fn it_is_kept_beside_and_the_journal_is_folded_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fold.checkpoint");
    Checkpoint::open(Arc::new(Disk), &path).unwrap().set(7, Some(7), None, b"state").unwrap();
    let before = std::fs::read(&path).unwrap();
    let mut checkpoint = Checkpoint::open(Arc::new(Denied::default()), &path).unwrap();
    assert_eq!(checkpoint.get(), None);
    assert_eq!(std::fs::read(folder.path().join("fold.checkpoint.unreadable")).unwrap(), before);
    checkpoint.set(8, Some(8), None, b"other").unwrap();
    assert_eq!(Checkpoint::open(Arc::new(Disk), &path).unwrap().get().unwrap().position, 8);
}
