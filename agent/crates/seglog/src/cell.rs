//! A small durable value.
use std::path::Path;
use std::sync::Arc;

use crate::error::{CellError, OpenError};
use crate::storage::Storage;

/// A small durable value (cursor, checkpoint) in a preallocated reserve.
pub struct Cell {
    _private: (),
}

impl Cell {
    /// Opens or creates, with room for values of up to `max` bytes.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open(_storage: Arc<dyn Storage>, _path: &Path, _max: usize) -> Result<Self, OpenError> {
        unimplemented!()
    }
    /// The value; `None` before the first.
    pub fn get(&self) -> Option<Vec<u8>> {
        unimplemented!()
    }
    /// Replaces the value; durable on return.
    ///
    /// # Errors
    /// [`CellError`]; the old value stays then.
    pub fn set(&mut self, _value: &[u8]) -> Result<(), CellError> {
        unimplemented!()
    }
    /// True when the file held something that is no value: it was lost to damage.
    pub fn damaged(&self) -> bool {
        unimplemented!()
    }
}
