//! The fold: journal records in, rows out, and nothing else read or touched.
//!
//! It stands between the journal and the spool. Readings, ticks, changes of configuration and of
//! models all reach it as records, so that replaying a stretch of the journal from a checkpoint
//! gives the same rows in the same order, to the bit. There is no clock, no randomness, no hash
//! order and no I/O in here, and no result depends on the numbers that a process gave its series.
//!
//! ```text
//! Intake ─▶ future limit ─▶ route ─┬─ raw ────▶ samples ─┐
//!                                  ├─ window ─▶ windows ─┼─▶ Rows (+ counts of every cause)
//!                                  └─ drop               │
//!              every sample ─▶ Scorer ──────▶ scores ────┘
//! Tick   ─▶ watermarks of devices that fell silent; the host's clock was set, or set anew (`clock.rs`)
//! Config ─▶ open windows leave as partials, the new routes apply from the next record on
//! Model  ─▶ Scorer
//! ```

pub mod bytes;
mod checkpoint;
mod clock;
pub mod config;
mod device;
mod fold;
mod intake;
mod open;
pub mod scorer;
mod series;
pub mod status;
mod window;

pub use checkpoint::RestoreError;
pub use config::{ConfigError, FoldConfig, Route, Span, To};
pub use fold::{Fold, SCORE};
pub use scorer::{NoScorer, Score, Scorer, ScorerError};
pub use status::{ClockStep, FoldStatus, ModelStatus};
pub use telemetry::sketch;
