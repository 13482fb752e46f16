//! A write with a `traceparent` goes on with its sender's trace; of the others a share begins one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

mod http_support;

use std::sync::Arc;

use http_support::{NOW, Server};
use telemetry::Tracer;
use telemetry::trace::Context;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn a_senders_sampled_trace_goes_on_and_a_bad_one_hurts_nothing() {
    let parent = Context::parse(PARENT.as_bytes()).unwrap();
    let unsampled = PARENT.replace("-01", "-00");
    let server = Server::traced(Arc::new(Tracer::new(0.0, 1, || NOW))).await;
    let shown: [&[(&str, &str)]; 6] = [
        &[("traceparent", PARENT)],
        &[("traceparent", &unsampled)],
        &[("traceparent", "00-nonsense")],
        &[("traceparent", "")],
        &[("traceparent", PARENT), ("traceparent", PARENT)],
        &[],
    ];
    for headers in shown {
        assert_eq!(server.post("/write", headers, b"m v=1").await.status, 204);
    }
    let traces: Vec<_> = server.intakes().into_iter().map(|intake| intake.trace).collect();
    let traced = traces[0].unwrap();
    assert_eq!((traced.context.trace, traced.parent), (parent.trace, parent.span));
    assert_ne!(traced.context.span, parent.span);
    assert_eq!(traces[1..], [None; 5]);
}

#[tokio::test]
async fn nothing_is_traced_unless_it_is_asked_for_and_then_a_share_of_what_holds_readings() {
    let off = Server::start().await;
    assert_eq!(off.post("/write", &[("traceparent", PARENT)], b"m v=1").await.status, 204);
    assert_eq!(off.intakes()[0].trace, None);

    let all = Server::traced(Arc::new(Tracer::new(1.0, 1, || NOW))).await;
    assert_eq!(all.post("/write", &[], b"m v=1").await.status, 204);
    assert_eq!(all.post("/v1/events", &[], br#"{"body":"it broke"}"#).await.status, 204);
    // Refused as a whole: no reading, no trace.
    assert_eq!(all.post("/write", &[], b"m v=NaN").await.status, 400);
    let traces: Vec<_> = all.intakes().into_iter().map(|intake| (intake.len(), intake.trace)).collect();
    assert!(traces.iter().all(|(readings, trace)| (*readings > 0) == trace.is_some()), "{traces:?}");
    assert_eq!((traces.len(), traces[0].1.unwrap().parent), (3, [0; 8]));
    assert_ne!(traces[0].1.unwrap().context.trace, traces[1].1.unwrap().context.trace);
}
