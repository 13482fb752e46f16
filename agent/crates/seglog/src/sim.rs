//! A disk in memory that fails as disks do.
use std::io;
use std::path::Path;

use crate::storage::{File, Guard, Mode, Storage};

/// A simulated disk; clones share it.
#[derive(Clone)]
pub struct SimDisk {
    _private: (),
}

impl SimDisk {
    /// A disk without files; `seed` decides what a crash keeps.
    pub fn new(_seed: u64) -> Self {
        unimplemented!()
    }
    /// Power is cut: of what was not synced, any part is lost. Then it is on again, without faults.
    pub fn crash(&self) {
        unimplemented!()
    }
    /// Power is cut at the n-th writing call from now (0: the next); each call fails until [`SimDisk::crash`].
    pub fn crash_after(&self, _calls: u64) {
        unimplemented!()
    }
    /// The n-th fsync from now (0: the next) fails, once, and loses what it should have written.
    pub fn fail_sync_after(&self, _calls: u64) {
        unimplemented!()
    }
    /// The n-th write from now (0: the next) fails with EIO, once.
    pub fn fail_write_after(&self, _calls: u64) {
        unimplemented!()
    }
    /// How many bytes fit on the disk; `None`: no limit.
    pub fn set_capacity(&self, _bytes: Option<u64>) {
        unimplemented!()
    }
    /// From now on every fsync waits until [`SimDisk::release_syncs`].
    pub fn hold_syncs(&self) {
        unimplemented!()
    }
    /// Lets held fsyncs go on.
    pub fn release_syncs(&self) {
        unimplemented!()
    }
    /// Waits until an fsync is held; false after `timeout`.
    pub fn wait_for_held_sync(&self, _timeout: std::time::Duration) -> bool {
        unimplemented!()
    }
    /// The content of a file, as a reader sees it.
    pub fn read(&self, _path: &Path) -> Option<Vec<u8>> {
        unimplemented!()
    }
    /// Puts a file there, durable at once.
    pub fn put(&self, _path: &Path, _content: &[u8]) {
        unimplemented!()
    }
    /// Fsyncs of files and directories so far.
    pub fn syncs(&self) -> u64 {
        unimplemented!()
    }
}

#[allow(unused_variables)]
impl Storage for SimDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        unimplemented!()
    }
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn File>> {
        unimplemented!()
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Guard>>> {
        unimplemented!()
    }
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        unimplemented!()
    }
}
