//! A pulse: how others see that a worker's loop still turns.
//!
//! The worker beats each time it passes its loop, and a healthy one passes at least every [`BEAT`] also when there is
//! nothing to do, when the disk is full or when there is no network: to wait is to pass, to be stuck isn't. Whoever watches
//! compares two counts; there is no clock in here, and no limit.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The longest that a healthy worker waits without a beat, but for what it has to do.
pub const BEAT: Duration = Duration::from_secs(5);

/// Counts the passes of one worker.
#[derive(Debug, Default)]
pub struct Pulse(AtomicU64);

impl Pulse {
    /// The loop was passed.
    pub fn beat(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// How often so far.
    pub fn beats(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
