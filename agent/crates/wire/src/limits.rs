//! What a reader takes at most. Checked before anything is allocated.

/// A compressed payload.
pub const MAX_PAYLOAD: usize = 4 << 20;
/// The same, decompressed.
pub const MAX_PAYLOAD_RAW: usize = 64 << 20;
/// Samples of one batch.
pub const MAX_SAMPLES: usize = 4_000_000;
/// Windows of one batch, events of one batch, and bins of all its sketches.
pub const MAX_ROWS: usize = 4_000_000;
/// Attributes of one event.
pub const MAX_ATTRIBUTES: usize = 1024;
/// Compressed definitions.
pub const MAX_DEFINITIONS: usize = 1 << 20;
/// The same, decompressed.
pub const MAX_DEFINITIONS_RAW: usize = 16 << 20;
