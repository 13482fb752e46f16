//! Traces of a cut: which sampled records its rows are of, what its batches' trace is, and the spans `fold` and `spool`.
//!
//! A batch takes the trace of the last sampled record of its cut; where a cut makes several batches, each does. The other
//! records' traces end in it: their `fold` span links to the batch. Names are made of the batch's, so that what is cut again after a
//! crash, or by a clone of the disk, has the same.

use telemetry::trace::{Context, MOST, Span};
use telemetry::{BatchKey, Traced, Tracer};

use crate::record::Head;

/// Sampled records of which rows are pending, and when each was taken; the last one last.
#[derive(Default)]
pub(crate) struct Sampled(Vec<(Traced, i64)>);

impl Sampled {
    /// These were taken now.
    pub(crate) fn add(&mut self, traces: &[Traced], now: i64) {
        for traced in traces {
            self.0.retain(|(known, _)| known != traced);
            if self.0.len() >= MOST {
                self.0.remove(0);
            }
            self.0.push((*traced, now));
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The `fold` span that the batches of a cut belong to, the first of which has this name.
    pub(crate) fn fold(&self, first: BatchKey) -> Option<Context> {
        self.0.last().map(|(traced, _)| fold_of(*traced, first))
    }

    /// The spans of a batch that was cut at `now` within a `fold` span; with its first part those of all records.
    pub(crate) fn spans(&self, head: &Head, fold: Context, bytes: usize, now: i64) -> Vec<Span> {
        let mut spans = Vec::new();
        if head.part == 1 {
            spans.extend(self.0.iter().map(|(traced, taken)| {
                let context = fold_of(*traced, head.key);
                let mut span = Span::within(traced.context, context, "fold", *taken);
                span.end = now.max(*taken);
                span.links.extend(head.trace.filter(|_| context != fold));
                span
            }));
        }
        spans.extend(head.trace.map(|context| {
            Span::within(fold, context, "spool", now)
                .text("telemetryx.epoch", head.key.epoch.to_string())
                .number("telemetryx.batch.seq", head.key.seq)
                .number("telemetryx.batch.bytes", bytes as u64)
                .number("telemetryx.batch.rows", head.rows)
        }));
        spans
    }
}

/// The `spool` span of a batch.
pub(crate) fn of_batch(fold: Context, key: BatchKey) -> Context {
    fold.child(key.seq)
}

fn fold_of(traced: Traced, first: BatchKey) -> Context {
    let mut epoch = [0; 8];
    epoch.copy_from_slice(&first.epoch.0[..8]);
    traced.context.child(u64::from_le_bytes(epoch) ^ first.seq)
}

/// These are over: the batch is durable.
pub(crate) fn durable(tracer: Option<&Tracer>, spans: Vec<Span>) {
    if let Some(tracer) = tracer {
        spans.into_iter().for_each(|span| tracer.end(span));
    }
}
