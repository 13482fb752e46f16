//! What the simulated disk keeps: the content of files, in the cache and on the disk, and the changes of names
//! that no fsync of their directory has made to stay.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::SECTOR;

#[derive(Default)]
pub(super) struct Inode {
    pub(super) durable: Vec<u8>,
    pub(super) cache: Vec<u8>,
    /// Sectors that the next fsync writes.
    pub(super) dirty: BTreeSet<usize>,
}

pub(super) enum Change {
    Set(PathBuf, u64),
    Unset(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl Change {
    pub(super) fn dir(&self) -> Option<&Path> {
        match self {
            Self::Set(path, _) | Self::Unset(path) | Self::Rename(path, _) => path.parent(),
        }
    }

    pub(super) fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Set(path, inode) => _ = names.insert(path.clone(), *inode),
            Self::Unset(path) => _ = names.remove(path),
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }
}

impl Inode {
    fn sector(content: &[u8], sector: usize) -> &[u8] {
        let start = (sector * SECTOR).min(content.len());
        &content[start..(start + SECTOR).min(content.len())]
    }

    /// Writes one sector of the cache to the disk.
    pub(super) fn flush(&mut self, sector: usize) {
        let from = Self::sector(&self.cache, sector).to_vec();
        let start = sector * SECTOR;
        if self.durable.len() < start + from.len() {
            self.durable.resize(start + from.len(), 0);
        }
        self.durable[start..start + from.len()].copy_from_slice(&from);
    }

    /// Writes all of it.
    pub(super) fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.flush(sector);
        }
        self.durable.resize(self.cache.len(), 0);
    }

    /// Makes the cache show the disk, but for sectors still to be written.
    pub(super) fn forget(&mut self) {
        for sector in 0..self.cache.len().div_ceil(SECTOR) {
            if !self.dirty.contains(&sector) {
                let start = sector * SECTOR;
                let end = (start + SECTOR).min(self.cache.len());
                let mut content = Self::sector(&self.durable, sector).to_vec();
                content.resize(end - start, 0);
                self.cache[start..end].copy_from_slice(&content[..end - start]);
            }
        }
    }
}
