//! What others may see of the folding: for `status`, never for decisions.

use std::sync::atomic::{AtomicU64, Ordering};

use fold::FoldStatus;
use parking_lot::Mutex;
use telemetry::{Position, Pulse};

/// Shared between the driver, which writes it, and whoever shows it.
pub struct Watch {
    pub(crate) applied: AtomicU64,
    pub(crate) progress: Mutex<Progress>,
    pub(crate) pulse: Pulse,
}

/// What the driver says of itself.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Progress {
    /// The fold's own words.
    pub fold: FoldStatus,
    /// Records between the fold and the journal's end.
    pub behind: u64,
    /// True until the records of before the start are folded.
    pub recovering: bool,
    /// Why rows can't be spooled now; `None` when they can.
    pub blocked: Option<String>,
    /// Why the fold's checkpoint can't be written now; `None` when it can. The journal keeps its records meanwhile.
    pub checkpoint: Option<String>,
    /// Records that can't be read: damage, counted.
    pub damaged_records: u64,
    /// What the start found to be gone that nobody can count; `None` when nothing was.
    pub missing: Option<String>,
}

impl Watch {
    pub(crate) fn new(applied: Position) -> Self {
        let progress = Progress { recovering: true, ..Progress::default() };
        Self { applied: AtomicU64::new(applied), progress: Mutex::new(progress), pulse: Pulse::default() }
    }

    /// How often the thread has passed its loop; see [`Pulse`].
    pub fn beats(&self) -> u64 {
        self.pulse.beats()
    }

    /// What the driver says of itself, with the journal's newest position at hand.
    pub fn progress(&self, last: Position) -> Progress {
        // Read before `last` grows further, so that it is never more than there is.
        let behind = last.saturating_sub(self.applied.load(Ordering::Acquire));
        Progress { behind, ..self.progress.lock().clone() }
    }
}
