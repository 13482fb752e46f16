//! Copies of what is damaged, kept for a person to look at: `quarantine/` beside the segments.
//!
//! Best effort and bounded: a copy that can't be made stops nothing, since the damage is counted
//! anyway. Copies are named after segment and offset, so that the same damage is copied once.

use std::io;
use std::path::{Path, PathBuf};

use crate::index::Place;
use crate::recover::read_damaged;
use crate::regular::unused;
use crate::storage::{Mode, Storage};

/// What all copies of one log may take together.
const MAX_BYTES: u64 = 64 << 20;

pub(crate) struct Quarantine {
    dir: PathBuf,
}

impl Quarantine {
    pub(crate) fn new(log: &Path) -> Self {
        Self { dir: log.join("quarantine") }
    }

    /// Moves a segment here that the disk doesn't give: it may give it once it is repaired, or to someone who knows how.
    ///
    /// # Errors
    /// What the disk says; the segment is where it was.
    pub(crate) fn take(&self, storage: &dyn Storage, segment: &Path) -> io::Result<PathBuf> {
        storage.create_dir_all(&self.dir)?;
        let target = unused(storage, &self.dir.join(segment.file_name().unwrap_or_default()));
        storage.rename(segment, &target)?;
        storage.sync_dir(&self.dir)?;
        if let Some(log) = self.dir.parent() {
            storage.sync_dir(log)?;
        }
        Ok(target)
    }

    /// Copies a place of a segment; the copy's path, or `None` where there is none or one already.
    pub(crate) fn copy(&mut self, storage: &dyn Storage, segment: &Path, place: Place) -> Option<PathBuf> {
        let (target, content) = self.wanted(storage, segment, place)?;
        storage.create_dir_all(&self.dir).ok()?;
        let file = storage.open(&target, Mode::Create).ok()?;
        let written = file.write_at(&content, 0).and_then(|()| file.sync());
        if written.and_then(|()| storage.sync_dir(&self.dir)).is_err() {
            // Half a copy helps nobody and takes space.
            _ = storage.remove(&target);
            return None;
        }
        Some(target)
    }

    /// Where a copy would go and what would be in it; `None` where there is one, nothing to keep, or no room.
    pub(crate) fn wanted(
        &self,
        storage: &dyn Storage,
        segment: &Path,
        place: Place,
    ) -> Option<(PathBuf, Vec<u8>)> {
        let target = self.dir.join(format!("{:020}-{:010}.bin", place.segment, place.offset));
        let mut used = 0;
        // Where it can't be listed there is none yet, or the copy will say why not.
        for name in storage.list(&self.dir).unwrap_or_default() {
            let path = self.dir.join(name);
            if path == target {
                return None;
            }
            used += storage.open(&path, Mode::Read).and_then(|file| file.size()).unwrap_or(0);
        }
        if used + place.bytes > MAX_BYTES {
            return None;
        }
        let mut content = vec![0; place.bytes as usize];
        read_damaged(&*storage.open(segment, Mode::Read).ok()?, &mut content, place.offset);
        content.iter().any(|byte| *byte != 0).then_some((target, content))
    }
}
