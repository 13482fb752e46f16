//! Copies of what is damaged, kept for a person to look at: `quarantine/` beside the segments.
//!
//! Best effort and bounded: a copy that can't be made stops nothing, since the damage is counted
//! anyway. Copies are named after segment and offset, so that the same damage is copied once.

use std::path::{Path, PathBuf};

use crate::index::Place;
use crate::recover::read_damaged;
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

    /// Copies a place of a segment; the copy's path, or `None` where there is none or one already.
    pub(crate) fn copy(&mut self, storage: &dyn Storage, segment: &Path, place: Place) -> Option<PathBuf> {
        let target = self.dir.join(format!("{:020}-{:010}.bin", place.segment, place.offset));
        storage.create_dir_all(&self.dir).ok()?;
        let mut used = 0;
        for name in storage.list(&self.dir).ok()? {
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
        if content.iter().all(|byte| *byte == 0) {
            return None;
        }
        let file = storage.open(&target, Mode::Create).ok()?;
        let written = file.write_at(&content, 0).and_then(|()| file.sync());
        if written.and_then(|()| storage.sync_dir(&self.dir)).is_err() {
            // Half a copy helps nobody and takes space.
            _ = storage.remove(&target);
            return None;
        }
        Some(target)
    }
}
