//! The reader.
use crate::error::ReadError;
use crate::log::Gap;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its number.
    pub number: u64,
    /// Number of its segment's first record: changes when a new segment begins.
    pub segment_first: u64,
    /// Its bytes.
    pub payload: &'a [u8],
}

/// Makes readers; cheap to clone, independent of the writer.
#[derive(Clone)]
pub struct Readers {
    _private: (),
}

impl Readers {
    /// A reader whose first entry is the first with this number or a higher one.
    pub fn reader(&self, _from: u64) -> Reader {
        unimplemented!()
    }
    /// Number of the first record of the segment that holds, or would hold, `number`.
    pub fn segment_first(&self, _number: u64) -> u64 {
        unimplemented!()
    }
    /// Oldest number still there.
    pub fn first(&self) -> u64 {
        unimplemented!()
    }
    /// One more than the newest number that was written.
    pub fn next(&self) -> u64 {
        unimplemented!()
    }
}

/// Reads records in order, up to what was written. Never writes.
pub struct Reader {
    _private: (),
}

impl Reader {
    /// The next record, or `None` when there is none yet.
    ///
    /// # Errors
    /// [`ReadError`]
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, ReadError> {
        unimplemented!()
    }
    /// Damage passed since the last call.
    pub fn take_gaps(&mut self) -> Vec<Gap> {
        unimplemented!()
    }
}
