//! The writer.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{AppendError, OpenError, ReleaseError, SyncError};
use crate::reader::{Reader, Readers};
use crate::storage::Storage;

/// Sizes of a log.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A record that would make a segment larger begins a new one.
    pub segment_bytes: u64,
    /// Largest payload.
    pub max_record: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 4 << 20, max_record: 16 << 20 }
    }
}

/// A range of records that were there once and can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Number of the first.
    pub first: u64,
    /// Number of the last; `first - 1` when only bytes that belong to no record are damaged.
    pub last: u64,
    /// Bytes that couldn't be read as records; 0 where they are missing altogether.
    pub bytes: u64,
}

impl Gap {
    /// How many records.
    pub fn records(&self) -> u64 {
        (self.last + 1).saturating_sub(self.first)
    }
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Records that are there, as far as is known without reading all segments.
    pub records: u64,
    /// Bytes at the end that were being written when the writer died; never acknowledged.
    pub torn_bytes: u64,
    /// Damage in the newest segment; a reader reports that of older ones when it comes by.
    pub damaged: Vec<Gap>,
    /// Copies of what was damaged or torn.
    pub quarantined: Vec<PathBuf>,
    /// Why what was read could not be proven durable; the log is poisoned then.
    pub unverified: Option<String>,
}

/// The single writer of a log. Calls block.
pub struct Log {
    _private: (),
}

impl Log {
    /// Opens or creates.
    ///
    /// # Errors
    /// [`OpenError`]; never for damage.
    pub fn open(_storage: Arc<dyn Storage>, _dir: &Path, _options: Options) -> Result<(Self, Recovery), OpenError> {
        unimplemented!()
    }
    /// Number the next record will get.
    pub fn next(&self) -> u64 {
        unimplemented!()
    }
    /// Oldest number still there.
    pub fn first(&self) -> u64 {
        unimplemented!()
    }
    /// Would a record of this size begin a new segment?
    pub fn starts_segment(&self, _len: usize) -> bool {
        unimplemented!()
    }
    /// Adds a record.
    ///
    /// # Errors
    /// [`AppendError`]
    pub fn append(&mut self, _payload: &[u8]) -> Result<u64, AppendError> {
        unimplemented!()
    }
    /// Makes all durable; the last durable number.
    ///
    /// # Errors
    /// [`SyncError`]
    pub fn sync(&mut self) -> Result<u64, SyncError> {
        unimplemented!()
    }
    /// The last number known to be durable.
    pub fn durable(&self) -> u64 {
        unimplemented!()
    }
    /// The next record begins a new segment.
    ///
    /// # Errors
    /// [`AppendError`]
    pub fn roll(&mut self) -> Result<(), AppendError> {
        unimplemented!()
    }
    /// The next record gets at least this number.
    ///
    /// # Errors
    /// [`AppendError`]
    pub fn skip_to(&mut self, _number: u64) -> Result<(), AppendError> {
        unimplemented!()
    }
    /// Unlinks segments whose records are all at or below.
    ///
    /// # Errors
    /// [`ReleaseError`]
    pub fn release(&mut self, _upto: u64) -> Result<u64, ReleaseError> {
        unimplemented!()
    }
    /// Bytes on disk and in the buffer.
    pub fn bytes(&self) -> u64 {
        unimplemented!()
    }
    /// Why it takes nothing, if so.
    pub fn poisoned(&self) -> Option<&str> {
        unimplemented!()
    }
    /// A reader that begins at a number.
    pub fn reader(&self, from: u64) -> Reader {
        self.readers().reader(from)
    }
    /// A handle that makes readers, for other threads.
    pub fn readers(&self) -> Readers {
        unimplemented!()
    }
}

/// Readers of a log without a writer: nothing is written, locked or repaired.
///
/// # Errors
/// [`OpenError`]
pub fn inspect(_storage: Arc<dyn Storage>, _dir: &Path, _options: Options) -> Result<Readers, OpenError> {
    unimplemented!()
}
