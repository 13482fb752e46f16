//! What the tests of the log share: a small log, its records, and reading all of it back.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end so")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use seglog::{Gap, Log, Options, Recovery, Storage};

pub const SMALL: Options = Options { segment_bytes: 1024, max_record: 4096 };

pub fn dir() -> PathBuf {
    PathBuf::from("/data/log")
}

/// A payload that tells which record it is of.
pub fn payload(number: u64, len: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

pub fn open(storage: Arc<dyn Storage>) -> (Log, Recovery) {
    Log::open(storage, &dir(), SMALL).expect("damage never prevents opening")
}

pub type Records = Vec<(u64, Vec<u8>)>;

pub fn read_from(log: &Log, from: u64) -> (Records, Vec<Gap>) {
    let mut reader = log.reader(from);
    let mut records = Vec::new();
    while let Some(entry) = reader.next().expect("readable") {
        records.push((entry.number, entry.payload.to_vec()));
    }
    (records, reader.take_gaps())
}

pub fn read_all(log: &Log) -> (Records, Vec<Gap>) {
    read_from(log, 0)
}

/// Where a segment that begins with a number would be in a log with salt 7.
pub fn segment(first: u64) -> PathBuf {
    Path::new(&dir()).join(format!("{first:020}-00000007.seg"))
}

/// The number in a segment's name.
pub fn first_of(path: &Path) -> u64 {
    path.file_stem().unwrap().to_str().unwrap()[..20].parse().unwrap()
}
