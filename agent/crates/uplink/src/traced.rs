//! The `send` spans of one session: of each batch that belongs to a trace, from its leaving to the collector's answer.
//!
//! The frame names the `send` span, so that what the collector does belongs to it. A batch that is sent again has another one,
//! beside it in the trace.

use std::collections::BTreeMap;

use telemetry::trace::{Context, Kind, Span};
use telemetry::{Lane, Tracer};
use wire::v1;

type Key = ([u8; 16], u64);

/// Those that go on.
#[derive(Default)]
pub(crate) struct Sending(BTreeMap<Key, Span>);

impl Sending {
    /// A batch leaves. Without a tracer its trace is handed on as it is.
    pub(crate) fn begin(&mut self, tracer: Option<&Tracer>, batch: &mut v1::Batch, lane: Lane) {
        let Some((tracer, parent)) = tracer.zip(Context::parse(batch.trace.as_bytes())) else { return };
        let Ok(epoch) = <[u8; 16]>::try_from(batch.epoch.as_slice()) else { return };
        let mut span = tracer
            .span(parent, "send")
            .text("telemetryx.epoch", telemetry::Epoch(epoch).to_string())
            .number("telemetryx.batch.seq", batch.seq)
            .number("telemetryx.batch.bytes", batch.payload.len() as u64)
            .text("telemetryx.lane", if lane == Lane::Live { "live" } else { "backlog" });
        span.kind = Kind::Producer;
        batch.trace = span.context.to_string();
        self.0.insert((epoch, batch.seq), span);
    }

    /// The collector holds these.
    pub(crate) fn acked(&mut self, tracer: Option<&Tracer>, holdings: &[v1::Holdings]) {
        if self.0.is_empty() {
            return;
        }
        for held in holdings {
            let holds = |seq: u64| {
                seq <= held.upto || held.ranges.iter().any(|range| (range.first..=range.last).contains(&seq))
            };
            self.end(tracer, |(epoch, seq)| held.epoch == epoch && holds(*seq), None);
        }
    }

    /// It is answered otherwise.
    pub(crate) fn answered(&mut self, tracer: Option<&Tracer>, epoch: &[u8], seq: u64, with: &str) {
        self.end(tracer, |key| key.1 == seq && key.0 == epoch, Some(with));
    }

    /// None of them is answered any more.
    pub(crate) fn given_up(&mut self, tracer: Option<&Tracer>, why: &str) {
        self.end(tracer, |_| true, Some(why));
    }

    fn end(&mut self, tracer: Option<&Tracer>, which: impl Fn(&Key) -> bool, failed: Option<&str>) {
        for (_, mut span) in self.0.extract_if(.., |key, _| which(key)) {
            span.failed = failed.map(str::to_owned);
            if let Some(tracer) = tracer {
                tracer.end(span);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(seq: u64, trace: &str) -> v1::Batch {
        v1::Batch { epoch: vec![7; 16], seq, trace: trace.to_owned(), ..v1::Batch::default() }
    }

    #[test]
    fn each_batch_of_a_trace_names_its_own_span_which_ends_with_its_answer() {
        let (tracer, mut sending) = (Tracer::new(1.0, 3, || 9), Sending::default());
        let parent = tracer.begin().unwrap().context;
        let mut names = Vec::new();
        for seq in 1..=4 {
            let mut one = batch(seq, &parent.to_string());
            sending.begin(Some(&tracer), &mut one, Lane::Live);
            names.push(Context::parse(one.trace.as_bytes()).unwrap());
        }
        assert!(names.iter().all(|name| name.trace == parent.trace && name.span != parent.span));
        let range = v1::Range { first: 3, last: 3 };
        sending.acked(Some(&tracer), &[v1::Holdings { epoch: vec![8; 16], upto: 9, ranges: vec![] }]);
        sending.acked(Some(&tracer), &[v1::Holdings { epoch: vec![7; 16], upto: 1, ranges: vec![range] }]);
        sending.answered(Some(&tracer), &[7; 16], 4, "refused");
        sending.given_up(Some(&tracer), "the session ended");
        let ended = tracer.take(9);
        let said: Vec<_> = ended.iter().map(|span| (span.context, span.failed.as_deref())).collect();
        assert_eq!(
            said,
            [
                (names[0], None),
                (names[2], None),
                (names[3], Some("refused")),
                (names[1], Some("the session ended"))
            ]
        );
        assert!(ended.iter().all(|span| span.parent == parent.span && span.name == "send"));
    }

    #[test]
    fn a_batch_without_a_trace_or_a_tracer_is_sent_as_it_is() {
        let (tracer, mut sending) = (Tracer::new(1.0, 3, || 9), Sending::default());
        let parent = tracer.begin().unwrap().context.to_string();
        for (tracer, trace) in [(Some(&tracer), ""), (None, parent.as_str())] {
            let mut one = batch(1, trace);
            sending.begin(tracer, &mut one, Lane::Backlog);
            assert_eq!(one.trace, trace);
        }
        sending.given_up(Some(&tracer), "");
        assert_eq!(tracer.counted().waiting, 0);
    }
}
