//! `tap`: a live view of what is folded, for whoever is connected to the control socket. Nobody
//! connected costs one atomic load a record; a slow viewer misses lines and is told how many.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use serde::Serialize;
use telemetry::{Record, SeriesTable};
use tokio::sync::broadcast;

/// Lines that may wait for a slow viewer.
const QUEUE: usize = 1_024;

/// One reading as a viewer sees it.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line {
    /// A sample.
    Sample {
        /// The input's name.
        input: String,
        /// Nanoseconds since the epoch.
        time_ns: i64,
        /// `name{label="value"}`.
        series: String,
        /// The value.
        value: f64,
    },
    /// An event.
    Event {
        /// The input's name.
        input: String,
        /// Nanoseconds since the epoch.
        time_ns: i64,
        /// What it came from.
        source: String,
        /// How bad it is.
        severity: telemetry::Severity,
        /// The text.
        body: String,
    },
}

/// All viewers.
pub struct Taps {
    table: std::sync::Arc<SeriesTable>,
    inputs: RwLock<Vec<String>>,
    viewers: AtomicUsize,
    lines: broadcast::Sender<Line>,
}

/// One viewer; leaves when dropped.
pub struct Viewer {
    taps: std::sync::Arc<Taps>,
    lines: broadcast::Receiver<Line>,
}

impl Taps {
    /// For these series; input names follow.
    pub fn new(table: std::sync::Arc<SeriesTable>) -> Self {
        Self {
            table,
            inputs: RwLock::default(),
            viewers: AtomicUsize::new(0),
            lines: broadcast::channel(QUEUE).0,
        }
    }

    /// The inputs' names, by number.
    pub fn name_inputs(&self, names: Vec<String>) {
        *self.inputs.write() = names;
    }

    /// Shows a record to the viewers.
    pub fn offer(&self, record: &Record) {
        if self.viewers.load(Ordering::Relaxed) == 0 {
            return;
        }
        let Record::Intake(intake) = record else { return };
        let input = self.inputs.read().get(usize::from(intake.input)).cloned().unwrap_or_default();
        // More than the queue holds would only push out what came just before.
        for at in 0..intake.index.len().min(QUEUE) {
            let def = intake.series.get(intake.index[at] as usize).and_then(|series| self.table.get(*series));
            let series = def.map(|def| def.key.to_string()).unwrap_or_default();
            let line = Line::Sample {
                input: input.clone(),
                time_ns: intake.times[at],
                series,
                value: intake.values[at],
            };
            // An error means that the last viewer has just left.
            let _ = self.lines.send(line);
        }
        for event in intake.events.iter().take(QUEUE) {
            let _ = self.lines.send(Line::Event {
                input: input.clone(),
                time_ns: event.time,
                source: event.source.clone(),
                severity: event.severity,
                body: event.body.clone(),
            });
        }
    }

    /// A new viewer.
    pub fn watch(self: &std::sync::Arc<Self>) -> Viewer {
        self.viewers.fetch_add(1, Ordering::Relaxed);
        Viewer { taps: std::sync::Arc::clone(self), lines: self.lines.subscribe() }
    }
}

impl Viewer {
    /// The next line, or how many were missed; `None` when the agent ends.
    pub async fn next(&mut self) -> Option<Result<Line, u64>> {
        match self.lines.recv().await {
            Ok(line) => Some(Ok(line)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.taps.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}
