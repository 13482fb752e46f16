//! The payload inside a `Batch` frame, codec 1 (proto/README.md draws it): three tables of columns —
//! samples, windows, events — and the counts by cause, as one zstd frame of msgpack.
//!
//! The same rows with the same numbers give the same bytes: two disks that were cloned cut equal
//! batches, and the collector recognises them by their checksum.

mod decode;
mod encode;
mod samples;
mod windows;

use telemetry::{Bins, Counts, Event, Rows, SeriesRef};

pub use crate::error::{DecodeError, TooLarge};
pub use decode::decode;
pub use encode::Encoder;

use crate::Checksum;

/// The codec number of a `Batch` frame.
pub const CODEC: u32 = 1;
/// The `"v"` of a payload.
pub(crate) const VERSION: u64 = 1;

/// An encoded batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The payload.
    pub bytes: Vec<u8>,
    /// Its checksum, without what it says of the series: whoever knows them adds it.
    pub checksum: Checksum,
    /// The series numbers in it, ascending, each once.
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
    /// Counts by cause since the batch before.
    pub counts: Counts,
    /// Each distinct timeline once.
    pub timelines: Vec<Vec<i64>>,
    /// Raw samples, one entry a series.
    pub samples: Samples,
    /// Windows, ascending by (id, start).
    pub windows: Vec<Window>,
    /// Events, in the order in which they came.
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
    /// All values, series by series, each series by time.
    pub values: Vec<f64>,
    /// All flags likewise; empty when none has any.
    pub flags: Vec<u8>,
}

/// One window: a [`telemetry::WindowRow`] whose series is a number of the epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Series number.
    pub id: u32,
    /// Start, nanoseconds since the epoch.
    pub start: i64,
    /// Length in nanoseconds.
    pub length: i64,
    /// How many samples; never 0.
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

impl Payload {
    /// Every raw sample as (series number, time, value, flags), by series, then time.
    pub fn samples(&self) -> impl Iterator<Item = (u32, i64, f64, u8)> + '_ {
        let series = self.samples.ids.iter().zip(&self.samples.timelines);
        let times = series.flat_map(|(id, line)| {
            self.timelines.get(*line as usize).into_iter().flatten().map(move |time| (*id, *time))
        });
        times.zip(&self.samples.values).enumerate().map(|(at, ((id, time), value))| {
            (id, time, *value, self.samples.flags.get(at).copied().unwrap_or(0))
        })
    }

    /// Earliest and latest event time inside; (0, 0) when there is none.
    pub fn time_range(&self) -> (i64, i64) {
        let samples = self.timelines.iter().flatten().map(|time| (*time, *time));
        let windows = self.windows.iter().map(|row| (row.start, row.start.saturating_add(row.length)));
        let events = self.events.iter().map(|event| (event.time, event.time));
        let all = samples.chain(windows).chain(events);
        all.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or_default()
    }
}

/// Encodes rows at zstd level 3. An [`Encoder`] that is kept is faster.
///
/// # Errors
/// [`TooLarge`] when a limit of the format is exceeded.
pub fn encode(rows: &Rows, number: impl FnMut(SeriesRef) -> u32) -> Result<Encoded, TooLarge> {
    Encoder::new(3).encode(rows, number)
}

#[cfg(test)]
mod tests;
