//! What stands before the payloads of a segment, beside it in one small file, so that opening needn't
//! read a backlog of many gigabytes.
//!
//! A copy, never the truth: it belongs to one segment by the segment's file name (which no other log's
//! segment has) and size, and is checked by its own checksum. Where it is missing or doesn't fit, the
//! segment itself is read. It is written when the segment is complete and not synced. Damage inside a
//! segment that was opened by its heads shows when a batch is sent.
//!
//! ```text
//! heads/<name of the segment> := checksum 16 bytes (SHA-256, first half, of the rest), version u8 (1),
//!                                size of the segment u64, n v * (record v, payload bytes v, n v bytes of record)
//! ```

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seglog::{Mode, Storage};

use crate::record::{Cursor, put_number};

const VERSION: u8 = 1;
/// Smaller segments are as quickly read themselves; so are those under half of what a segment may be.
const WORTH: u64 = 64 << 10;
/// No segment's heads are larger; a file that is was not written here.
const MAX: u64 = 64 << 20;

/// One record without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeadRecord {
    pub(crate) number: u64,
    pub(crate) payload: u64,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Heads {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    worth: u64,
    /// First number of each segment that has a file, and the file.
    files: BTreeMap<u64, PathBuf>,
    /// Those of the segment that is being written.
    current: Vec<HeadRecord>,
}

impl Heads {
    pub(crate) fn new(storage: Arc<dyn Storage>, dir: PathBuf, segment_bytes: u64) -> Self {
        // Without the folder nothing can be written, and everything works without.
        if let Err(error) = storage.create_dir_all(&dir) {
            tracing::debug!(%error, "no folder for heads");
        }
        Self {
            storage,
            dir,
            worth: WORTH.min(segment_bytes / 2),
            files: BTreeMap::new(),
            current: Vec::new(),
        }
    }

    fn path(&self, segment: &Path) -> Option<PathBuf> {
        Some(self.dir.join(segment.file_name()?))
    }

    /// The heads of a segment, if they are there and belong to it.
    pub(crate) fn read(&mut self, segment: &(PathBuf, u64, u64)) -> Option<Vec<HeadRecord>> {
        let path = self.path(&segment.0)?;
        let file = self.storage.open(&path, Mode::Read).ok()?;
        self.files.insert(segment.1, path);
        content(&*file, segment.2)
    }

    /// Keeps the heads of a complete segment.
    pub(crate) fn write(&mut self, segment: &(PathBuf, u64, u64), records: &[HeadRecord]) {
        let Some(path) = self.path(&segment.0).filter(|_| segment.2 >= self.worth && !records.is_empty())
        else {
            return;
        };
        let bytes = encode(segment.2, records);
        let written = self.storage.open(&path, Mode::Create).and_then(|file| file.write_at(&bytes, 0));
        if let Err(error) = written {
            tracing::debug!(%error, "heads of a segment aren't kept");
        }
        self.files.insert(segment.1, path);
    }

    /// A record was appended to the segment that is being written.
    pub(crate) fn push(&mut self, number: u64, record: &[u8], payload: usize) {
        let bytes = record[..record.len() - payload].to_vec();
        self.current.push(HeadRecord { number, payload: payload as u64, bytes });
    }

    /// A new segment is about to begin: gives the records of the one before.
    pub(crate) fn close(&mut self) -> Vec<HeadRecord> {
        std::mem::take(&mut self.current)
    }

    /// Segments whose first number is lower are gone.
    pub(crate) fn release(&mut self, first: u64) {
        let kept = self.files.split_off(&first);
        for path in std::mem::replace(&mut self.files, kept).into_values() {
            if let Err(error) = self.storage.remove(&path) {
                tracing::debug!(%error, "heads of a removed segment stay");
            }
        }
    }

    /// The segment that begins with this number is gone.
    pub(crate) fn remove(&mut self, first: u64) {
        if let Some(path) = self.files.remove(&first)
            && let Err(error) = self.storage.remove(&path)
        {
            tracing::debug!(%error, "heads of a removed segment stay");
        }
    }

    /// Removes what belongs to no segment any more.
    pub(crate) fn clean(&self) {
        let Ok(names) = self.storage.list(&self.dir) else { return };
        let known: HashSet<&OsStr> = self.files.values().filter_map(|path| path.file_name()).collect();
        for name in names.iter().filter(|name| !known.contains(OsStr::new(name))) {
            drop(self.storage.remove(&self.dir.join(name)));
        }
    }
}

/// The heads of a segment that is only looked at, from the folder that they are kept in.
pub(crate) fn look(
    storage: &dyn Storage,
    dir: &Path,
    segment: &(PathBuf, u64, u64),
) -> Option<Vec<HeadRecord>> {
    let file = storage.open(&dir.join(segment.0.file_name()?), Mode::Read).ok()?;
    content(&*file, segment.2)
}

fn content(file: &dyn seglog::File, segment: u64) -> Option<Vec<HeadRecord>> {
    let size = file.size().ok().filter(|size| *size <= MAX)?;
    let mut bytes = vec![0; size as usize];
    let n = file.read_at(&mut bytes, 0).ok()?;
    decode(&bytes[..n], segment)
}

fn encode(segment: u64, records: &[HeadRecord]) -> Vec<u8> {
    let mut out = vec![0; 16];
    out.push(VERSION);
    out.extend_from_slice(&segment.to_le_bytes());
    put_number(&mut out, records.len() as u64);
    for record in records {
        put_number(&mut out, record.number);
        put_number(&mut out, record.payload);
        put_number(&mut out, record.bytes.len() as u64);
        out.extend_from_slice(&record.bytes);
    }
    let checksum = wire::half_sha256(&out[16..]);
    out[..16].copy_from_slice(&checksum);
    out
}

fn decode(bytes: &[u8], segment: u64) -> Option<Vec<HeadRecord>> {
    let (checksum, rest) = bytes.split_at_checked(16)?;
    if wire::half_sha256(rest) != checksum {
        return None;
    }
    let mut cursor = Cursor(rest);
    if cursor.array().ok()? != [VERSION] || u64::from_le_bytes(cursor.array().ok()?) != segment {
        return None;
    }
    let n = cursor.count(3).ok()?;
    let record = |_| {
        let (number, payload) = (cursor.number().ok()?, cursor.number().ok()?);
        let len = cursor.count(1).ok()?;
        Some(HeadRecord { number, payload, bytes: cursor.take(len).ok()?.to_vec() })
    };
    (0..n).map(record).collect()
}

/// Any bytes behind a checksum that fits.
#[cfg(feature = "fuzz")]
pub(crate) fn decode_any(bytes: &[u8]) {
    let sealed = [&wire::half_sha256(bytes)[..], bytes].concat();
    drop(decode(&sealed, 1));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn heads_come_back_for_their_segment_and_for_no_other(
            records in proptest::collection::vec((any::<u64>(), any::<u64>(), proptest::collection::vec(any::<u8>(), 0..30)), 0..9),
            size in any::<u64>(), at in any::<prop::sample::Index>(),
        ) {
            let records: Vec<HeadRecord> =
                records.into_iter().map(|(number, payload, bytes)| HeadRecord { number, payload, bytes }).collect();
            let mut bytes = encode(size, &records);
            prop_assert_eq!(decode(&bytes, size), Some(records));
            prop_assert_eq!(decode(&bytes, size ^ 1), None);
            prop_assert_eq!(decode(&bytes[..at.index(bytes.len())], size), None);
            let at = at.index(bytes.len());
            bytes[at] ^= 1;
            prop_assert_eq!(decode(&bytes, size), None);
        }
    }
}
