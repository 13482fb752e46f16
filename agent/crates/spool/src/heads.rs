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
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seglog::{Mode, Storage};

use crate::record::{Cursor, put_number};

const VERSION: u8 = 1;
/// Smaller segments are as quickly read themselves; so are those under half of what a segment may be.
const WORTH: u64 = 64 << 10;
/// So many segments' heads are read at once, by so many threads.
const AHEAD: usize = 256;
const READERS: usize = 3;
/// No segment's heads are larger; a file that is was not written here.
const MAX: u64 = 64 << 20;

/// One record without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeadRecord {
    pub(crate) number: u64,
    pub(crate) payload: u64,
    pub(crate) bytes: Vec<u8>,
}

/// The heads of a segment as they were read: the file's bytes, and where in them each record stands.
pub(crate) struct Kept {
    bytes: Vec<u8>,
    records: Vec<(u64, u64, Range<u32>)>,
}

impl Kept {
    /// Number, payload bytes and the bytes before the payload of each record, in order.
    pub(crate) fn records(&self) -> impl Iterator<Item = (u64, u64, &[u8])> {
        let all = self.records.iter();
        all.map(|(number, payload, at)| (*number, *payload, &self.bytes[at.start as usize..at.end as usize]))
    }
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

    /// The heads of each segment in turn, `None` where there are none that belong to it. On a real disk threads read
    /// ahead of who takes them: a cold disk answers several at once, and checking keeps the other cores busy.
    pub(crate) fn read_all(
        &mut self,
        segments: &[(PathBuf, u64, u64)],
        mut take: impl FnMut(&mut Self, usize, Option<Kept>),
    ) {
        let (storage, dir) = (Arc::clone(&self.storage), self.dir.clone());
        let look = |segment: &(PathBuf, u64, u64)| look(&*storage, &dir, segment);
        let mut took = |heads: &mut Self, at: usize, kept: Option<Kept>| {
            if let Some(path) = heads.path(&segments[at].0).filter(|_| kept.is_some()) {
                heads.files.insert(segments[at].1, path);
            }
            take(heads, at, kept);
        };
        if !storage.concurrent() || segments.len() <= AHEAD {
            segments.iter().enumerate().for_each(|(at, segment)| took(self, at, look(segment)));
            return;
        }
        std::thread::scope(|scope| {
            let begin = |group: usize| {
                let group = segments.chunks(AHEAD).nth(group).unwrap_or_default();
                let part = |part: usize| {
                    move || group.iter().skip(part).step_by(READERS).map(look).collect::<Vec<_>>()
                };
                let spawn = |n| std::thread::Builder::new().name("heads".into()).spawn_scoped(scope, part(n));
                (0..READERS).map(spawn).collect::<Vec<_>>()
            };
            let groups = segments.len().div_ceil(AHEAD);
            let mut coming = begin(0);
            for group in 0..groups {
                let reading = std::mem::replace(&mut coming, begin(group + 1));
                // A thread that can't be had leaves its part to be read here.
                let mut parts: Vec<_> =
                    reading.into_iter().map(|thread| thread.ok()?.join().ok().map(Vec::into_iter)).collect();
                let first = group * AHEAD;
                for at in first..segments.len().min(first + AHEAD) {
                    let kept = match &mut parts[(at - first) % READERS] {
                        Some(part) => part.next().flatten(),
                        None => look(&segments[at]),
                    };
                    took(self, at, kept);
                }
            }
        });
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

    /// Removes what belongs to no segment any more, once `take` has seen it.
    pub(crate) fn clean(&self, take: impl FnMut(Kept)) {
        let known = self.files.values().filter_map(|path| path.file_name()).collect();
        for name in strays(&*self.storage, &self.dir, &known, take) {
            drop(self.storage.remove(&self.dir.join(name)));
        }
    }
}

/// Heads of segments that are cut off or gone: gives their names, and to `take` what can be read. They prove nothing, and
/// still tell of which times the batches were that are missing now.
pub(crate) fn strays(
    storage: &dyn Storage,
    dir: &Path,
    known: &HashSet<&OsStr>,
    mut take: impl FnMut(Kept),
) -> Vec<String> {
    let mut names = storage.list(dir).unwrap_or_default();
    names.retain(|name| !known.contains(OsStr::new(name)));
    for name in &names {
        let Some(bytes) = read(storage, &dir.join(name)) else { continue };
        if let Some(kept) = size_in(&bytes).and_then(|size| decode(bytes, size)) {
            take(kept);
        }
    }
    names
}

/// The heads of a segment, from the folder that they are kept in, if they are there and belong to it.
pub(crate) fn look(storage: &dyn Storage, dir: &Path, segment: &(PathBuf, u64, u64)) -> Option<Kept> {
    decode(read(storage, &dir.join(segment.0.file_name()?))?, segment.2)
}

fn read(storage: &dyn Storage, path: &Path) -> Option<Vec<u8>> {
    let file = storage.open(path, Mode::Read).ok()?;
    let size = file.size().ok().filter(|size| *size <= MAX)?;
    let mut bytes = vec![0; size as usize];
    let n = file.read_at(&mut bytes, 0).ok()?;
    bytes.truncate(n);
    Some(bytes)
}

/// The size that the segment had.
fn size_in(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(17..25)?.try_into().ok()?))
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

fn decode(bytes: Vec<u8>, segment: u64) -> Option<Kept> {
    let (checksum, rest) = bytes.split_at_checked(16)?;
    if wire::half_sha256(rest) != checksum {
        return None;
    }
    let mut cursor = Cursor(rest);
    if cursor.array().ok()? != [VERSION] || u64::from_le_bytes(cursor.array().ok()?) != segment {
        return None;
    }
    let n = cursor.count(3).ok()?;
    let mut records = Vec::with_capacity(n);
    for _ in 0..n {
        let (number, payload) = (cursor.number().ok()?, cursor.number().ok()?);
        let len = cursor.count(1).ok()?;
        // No file is larger than 64 MiB.
        let start = (bytes.len() - cursor.0.len()) as u32;
        cursor.take(len).ok()?;
        records.push((number, payload, start..start + len as u32));
    }
    Some(Kept { bytes, records })
}

/// Any bytes behind a checksum that fits.
#[cfg(feature = "fuzz")]
pub(crate) fn decode_any(bytes: &[u8]) {
    let sealed = [&wire::half_sha256(bytes)[..], bytes].concat();
    drop(decode(sealed, 1));
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
            let owned = |(number, payload, bytes): (u64, u64, &[u8])| HeadRecord { number, payload, bytes: bytes.to_vec() };
            let kept = decode(bytes.clone(), size).unwrap();
            prop_assert_eq!(kept.records().map(owned).collect::<Vec<_>>(), records);
            prop_assert!(decode(bytes.clone(), size ^ 1).is_none());
            prop_assert!(decode(bytes[..at.index(bytes.len())].to_vec(), size).is_none());
            let at = at.index(bytes.len());
            bytes[at] ^= 1;
            prop_assert!(decode(bytes, size).is_none());
        }
    }
}
