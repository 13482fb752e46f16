//! A publish with a `traceparent` among its user properties goes on with its sender's trace.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod mqtt_support;

use std::sync::Arc;

use mqtt_support::*;
use seglog::sim::SimDisk;
use telemetry::trace::Context;
use telemetry::{Record, Tracer};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A publish of QoS 1 with these user properties.
fn published(pkid: u16, user: &[(&str, &str)]) -> Vec<u8> {
    let properties: Vec<u8> =
        user.iter().flat_map(|(name, value)| [vec![38], text(name), text(value)].concat()).collect();
    let mut body = text("plant/pump/level");
    body.extend_from_slice(&pkid.to_be_bytes());
    // Below 128: one byte says the length.
    body.push(u8::try_from(properties.len()).unwrap());
    body.extend_from_slice(&properties);
    body.extend_from_slice(b"21.5");
    packet(0x32, &body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publishers_sampled_trace_goes_on_and_a_bad_one_hurts_nothing() {
    let front = Front::traced(&SimDisk::new(1), Arc::new(Tracer::new(0.0, 1, || 1))).await;
    let (mut client, _) = Client::open(front.address, &Connect::v5("c")).await;
    let shown: [&[(&str, &str)]; 4] = [
        &[("unit", "Cel"), ("traceparent", PARENT)],
        &[("traceparent", "00-nonsense")],
        &[("traceparent", "")],
        &[],
    ];
    for (pkid, user) in (1..).zip(shown) {
        client.send(&published(pkid, user)).await;
        // One after the other: what comes together is one record.
        client.until_ack(pkid).await;
    }
    let traces: Vec<_> = front
        .records()
        .into_iter()
        .filter_map(|record| match record {
            Record::Intake(intake) if intake.has_readings() => Some(intake.trace),
            _ => None,
        })
        .collect();
    let (parent, traced) = (Context::parse(PARENT.as_bytes()).unwrap(), traces[0].unwrap());
    assert_eq!((traced.context.trace, traced.parent), (parent.trace, parent.span));
    assert_eq!(traces[1..], [None; 3]);
    front.stop().await;
}
