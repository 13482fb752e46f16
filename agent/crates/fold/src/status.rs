//! What the fold says of itself: for `telemetryx-agent status` and the console.

use serde::Serialize;
use telemetry::Position;

/// A snapshot of the fold. Totals count from the journal's beginning: they survive a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FoldStatus {
    /// The last record applied.
    pub position: Position,
    /// Generation of the configuration in effect; 0 is the built-in default.
    pub generation: u64,
    /// Config records that could not be used; the configuration before them stayed.
    pub configs_refused: u64,
    /// Why the newest of those was refused; empty again after a good one.
    pub config_error: Option<String>,
    /// Devices seen, per input.
    pub devices: usize,
    /// Series seen, per input.
    pub series: usize,
    /// Windows that are open now.
    pub open_windows: usize,
    /// Samples that came after their window had closed, and so made a further partial of it.
    pub late_samples: u64,
    /// Readings refused because their time is too far ahead.
    pub rejected_time: u64,
    /// Scores given.
    pub scores: u64,
    /// How often the host's clock was seen to be set, by more than five seconds against the monotonic one.
    pub clock_steps: u64,
    /// The newest of those; `None` before the first.
    pub clock_step: Option<ClockStep>,
    /// The slots of models, in the order in which they were first filled.
    pub models: Vec<ModelStatus>,
}

/// The host's clock was set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClockStep {
    /// To what, nanoseconds since the epoch.
    pub at_ns: i64,
    /// By how much.
    pub by_ns: i64,
}

/// One slot of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ModelStatus {
    /// The slot's name.
    pub slot: String,
    /// Id and version of the model in effect; `None` when the slot is off.
    pub model: Option<(String, String)>,
    /// Why the newest model offered was refused.
    pub error: Option<String>,
}
