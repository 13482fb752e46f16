//! Publishes of one socket read on their way in: rights, duplicates, mapping, one intake.
//!
//! A batch is built from bytes that stay in the read buffer until the journal has taken it; when
//! the journal pushes back nothing has happened, and the same bytes are read again later.

use std::time::Duration;

use bytes::BytesMut;
use rumqttd::protocol::DisconnectReasonCode;
use telemetry::{Cause, Origin, Position, PublishMark};
use xxhash_rust::xxh3::Xxh3;

use super::broker::{Broker, Outgoing};
use super::codec::{Publish, Version, Violation, shorten};
use super::connection::Connection;
use super::encode;
use super::message::Message;
use super::store::Ticket;
use crate::door::Refused;
use crate::intake::IntakeBuilder;

/// v5 reason "not authorized".
const NOT_AUTHORIZED: u8 = 0x87;
/// v5 reason "quota exceeded".
const QUOTA_EXCEEDED: u8 = 0x97;

/// What became of a batch.
pub enum Outcome {
    /// Taken.
    Taken(Taken),
    /// Nothing happened: read the same bytes again after this time.
    Busy(Duration),
    /// Nothing happened: too much for one record. Try one publish at a time.
    TooLarge,
}

/// What a batch that was taken leaves to do.
#[derive(Default)]
pub struct Taken {
    /// Acks, to be written when both marks have passed.
    pub acks: BytesMut,
    /// Publishes among them.
    pub count: usize,
    /// The journal's.
    pub position: Position,
    /// The session store's.
    pub ticket: Ticket,
}

#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    Take,
    Duplicate,
    Forbidden,
}

/// XXH3-128 of topic and payload; the topic's end is marked by a byte that is in no topic.
fn content(topic: &str, payload: &[u8]) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(topic.as_bytes());
    hash.update(&[0]);
    hash.update(payload);
    hash.digest128()
}

/// Takes in a batch.
///
/// # Errors
/// The connection must be closed: the journal is broken.
pub fn take(connection: &mut Connection, publishes: &mut [Publish<'_>]) -> Result<Outcome, Violation> {
    let Connection { broker, held, version, cache, .. } = connection;
    let (broker, session, version) = (&**broker, &held.session, *version);
    let rights = held.rights.current(session);
    let at = broker.door.now();
    let steady = broker.door.timeline.at(at);
    let mut builder = IntakeBuilder::new(&broker.door, cache, at);
    let mut marks: Vec<PublishMark> = Vec::new();
    let mut verdicts = Vec::with_capacity(publishes.len());
    // Of a session that ends with its connection no resend can be told, so nothing is marked.
    let durable = session.state().durable;
    let mut traced = None;
    for publish in publishes.iter() {
        let marked = publish.qos > 0 && (durable || publish.qos == 2);
        let mark = marked.then(|| PublishMark {
            packet_id: publish.pkid,
            qos: publish.qos,
            content: content(publish.topic, publish.payload),
        });
        let verdict = if mark.is_some_and(|mark| is_duplicate(session, &marks, publish.dup, mark)) {
            builder.deduplicated(Cause::Deduplicated, 1);
            Verdict::Duplicate
        } else if !rights.may_write(publish.topic) {
            let reason = format!(
                "client {:?} may not publish to {:?}",
                shorten(&session.client),
                shorten(publish.topic)
            );
            builder.rejected(Cause::RejectedForbidden, &reason, publish.payload);
            Verdict::Forbidden
        } else {
            if !broker.is_excluded(publish.topic) {
                broker.mapper.map(publish.topic, publish.payload, false, at, &mut builder);
            }
            if broker.door.tracer.is_some() {
                traced = broker.door.continued(traceparent(publish)).or(traced);
            }
            marks.extend(mark);
            Verdict::Take
        };
        verdicts.push(verdict);
    }
    let mut intake = builder.finish();
    intake.trace = traced.filter(|_| intake.has_readings());
    if durable && !marks.is_empty() {
        intake.origin = Some(Origin::Mqtt { client: session.client.to_string(), publishes: marks.clone() });
    }
    let position = {
        let _marking = broker.marking.read();
        let position = match broker.door.submit(intake) {
            Ok(position) => position,
            Err(Refused::Busy { retry_after, .. }) => return Ok(Outcome::Busy(retry_after)),
            Err(Refused::TooLarge) if publishes.len() > 1 => return Ok(Outcome::TooLarge),
            Err(Refused::TooLarge) => return Ok(Outcome::Taken(refuse_large(broker, version, publishes))),
            Err(error) => return Err(Violation::new(DisconnectReasonCode::ServerBusy, error.to_string())),
        };
        remember(session, &marks, position);
        position
    };
    let mut taken = Taken { position, count: publishes.len(), ..Taken::default() };
    for (publish, verdict) in publishes.iter_mut().zip(verdicts) {
        // v3 has no way to say no: an ack, and the reject list tells the operator.
        let reason = if verdict == Verdict::Forbidden { NOT_AUTHORIZED } else { 0 };
        ack(&mut taken.acks, version, publish, reason);
        if verdict == Verdict::Take {
            let out = Outgoing {
                topic: publish.topic,
                payload: publish.payload,
                qos: publish.qos,
                retain: publish.retain,
                expires: publish.expiry.map(|seconds| Message::expiry(steady, seconds)),
                properties: publish.properties.take(),
                publisher: &session.client,
            };
            taken.ticket = taken.ticket.max(broker.publish(out, position));
        }
    }
    Ok(Outcome::Taken(taken))
}

fn ack(out: &mut BytesMut, version: Version, publish: &Publish<'_>, reason: u8) {
    match publish.qos {
        0 => {}
        1 => encode::ack(out, version, encode::PUBACK, publish.pkid, reason),
        _ => encode::ack(out, version, encode::PUBREC, publish.pkid, reason),
    }
}

/// The user property of that name; of several none counts.
fn traceparent<'p>(publish: &'p Publish<'_>) -> Option<&'p [u8]> {
    let mut shown = publish.properties.as_ref()?.user.iter().filter(|(name, _)| name == "traceparent");
    let (_, first) = shown.next()?;
    shown.next().is_none().then_some(first.as_bytes())
}

fn is_duplicate(
    session: &super::session::Session,
    batch: &[PublishMark],
    dup: bool,
    mark: PublishMark,
) -> bool {
    if mark.qos == 2 {
        return batch.iter().any(|other| other.qos == 2 && other.packet_id == mark.packet_id)
            || session.state().inbound.unreleased.contains_key(&mark.packet_id);
    }
    dup && session.state().inbound.is_resend(mark.packet_id, mark.content)
}

fn remember(session: &super::session::Session, marks: &[PublishMark], position: Position) {
    if marks.is_empty() {
        return;
    }
    let mut state = session.state();
    for mark in marks {
        if mark.qos == 2 {
            state.inbound.unreleased.insert(mark.packet_id, (position, mark.content));
            state.inbound.dirty = true;
        } else {
            state.inbound.remember(mark.packet_id, position, mark.content);
        }
    }
}

/// One publish that alone is more than a journal record holds: sent again it would be so again.
fn refuse_large(broker: &Broker, version: Version, publishes: &[Publish<'_>]) -> Taken {
    let mut taken = Taken { count: publishes.len(), ..Taken::default() };
    for publish in publishes {
        let reason = "it holds more readings than one journal record";
        broker.door.reject(Cause::RejectedLimit, reason, publish.payload);
        ack(&mut taken.acks, version, publish, QUOTA_EXCEEDED);
    }
    taken
}
