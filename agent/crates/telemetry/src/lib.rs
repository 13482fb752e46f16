//! The words of the agent: sample, event, series, record, row, batch key, cause.
//!
//! Floor 0. Every other crate imports this one and this one imports none of them: it holds what
//! the parts say to each other, never what they do. No I/O, no async, no clock, no randomness.
//!
//! The flow it names: an input fills an [`Intake`], the journal makes it durable as a [`Record`],
//! the fold turns records into [`Rows`], the spool cuts rows into batches named by a [`BatchKey`].

mod aggregate;
pub mod batch;
pub mod cause;
pub mod clock;
mod cursor;
pub mod der;
pub mod event;
pub mod glob;
pub mod packed;
mod pulse;
pub mod record;
pub mod rows;
pub mod series;
pub mod sketch;
pub mod trace;
pub mod units;

pub use aggregate::{Aggregate, window_bounds};
pub use batch::{BatchKey, Epoch, Lane};
pub use cause::{Cause, Counts};
pub use clock::Boot;
pub use event::{Attribute, Event, Severity};
pub use pulse::{BEAT, Pulse};
pub use record::{DecodeError, DeviceClock, Intake, Origin, Position, PublishMark, Record, Stamp};
pub use rows::{Bins, OpenWindows, Rows, SampleFlags, WindowRow};
pub use series::{InvalidSeries, SeriesDef, SeriesKey, SeriesLimit, SeriesRef, SeriesTable};
pub use trace::{Traced, Tracer};
