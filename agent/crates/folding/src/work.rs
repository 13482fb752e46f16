//! What a driver works on: the journal before the fold, the spool behind it, and where the fold's state is kept.

use std::sync::Arc;

use fold::{Fold, Scorer};
use journal::Journal;
use spool::{Spool, Unacked};
use telemetry::{DeviceClock, Position, Record, SeriesTable, Stamp};

use crate::checkpoint::{Checkpoint, Restored};

/// What the driver works on.
pub struct Folding {
    /// Records come from here.
    pub journal: Journal,
    /// The pure step.
    pub fold: Fold,
    /// Position of the last record the fold has seen.
    pub applied: Position,
    /// Readings that the spool counted as received up to there, where that is known.
    pub received: Option<u64>,
    /// The same by the journal's own count.
    pub tallied: Option<u64>,
    /// What the spool had when the checkpoint was written, and wasn't acknowledged.
    pub unacked: Option<Unacked>,
    /// Rows go there.
    pub spool: Spool,
    /// The fold's state is kept here.
    pub checkpoint: Checkpoint,
    /// Whoever watches is shown each record.
    pub shown: Box<dyn Fn(&Record) + Send>,
    /// What a tick says of the clock at a moment.
    pub clock: Box<dyn Fn(Stamp) -> DeviceClock + Send>,
}

impl Folding {
    /// What a start goes on with: the fold as its checkpoint has it, between a journal and a spool. `clock` is what a tick says at
    /// a moment.
    pub fn restore(
        journal: Journal,
        spool: Spool,
        checkpoint: Checkpoint,
        table: &Arc<SeriesTable>,
        scorer: impl Fn() -> Box<dyn Scorer>,
        clock: impl Fn(Stamp) -> DeviceClock + Send + 'static,
    ) -> Self {
        let Restored { fold, applied, received, tallied, unacked } = checkpoint.restore(table, scorer);
        let (shown, clock) = (Box::new(|_: &Record| {}), Box::new(clock));
        Self { journal, fold, applied, received, tallied, unacked, spool, checkpoint, shown, clock }
    }
}
