//! Bytes to packets: framing and decoding of what a client sends.
//!
//! PUBLISH and the four acks are read here in place (they are the hot path, and nothing is copied);
//! CONNECT ([`super::connect`]), SUBSCRIBE, UNSUBSCRIBE, DISCONNECT and publish properties go through rumqttd's codecs,
//! behind checks of what those take for granted: a known packet type (theirs panics on some), the
//! reserved flag bits, a complete frame, packet ids other than 0, text without NUL, no property
//! given twice. Nothing is allocated on the word of a length field.

use bytes::BytesMut;
use rumqttd::protocol::{self, DisconnectReasonCode, Packet, Protocol, RetainForwardRule, v4::V4, v5::V5};
use telemetry::Cause;

use super::message::Properties;
use super::topic;

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1 (level 4).
    V4,
    /// 5.
    V5,
}

/// Why a connection is closed: told to a v5 client as a reason code, counted by `cause` where its
/// bytes were to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Violation {
    /// The v5 reason.
    pub reason: DisconnectReasonCode,
    /// What it is counted as; `None` where nothing that was sent is wrong.
    pub cause: Option<Cause>,
    /// What happened, for the log and the reject list.
    pub text: String,
}

impl Violation {
    /// With a reason, which says what it is counted as, and a text.
    pub fn new(reason: DisconnectReasonCode, text: impl Into<String>) -> Self {
        let cause = match reason {
            DisconnectReasonCode::MalformedPacket
            | DisconnectReasonCode::ProtocolError
            | DisconnectReasonCode::TopicNameInvalid
            | DisconnectReasonCode::TopicAliasInvalid => Some(Cause::RejectedSyntax),
            DisconnectReasonCode::PacketTooLarge | DisconnectReasonCode::ReceiveMaximumExceeded => {
                Some(Cause::RejectedLimit)
            }
            // Silence, slowness, and what is the agent's own trouble.
            _ => None,
        };
        Self { reason, cause, text: text.into() }
    }

    /// Bytes that are not MQTT.
    pub fn malformed(text: impl Into<String>) -> Self {
        Self::new(DisconnectReasonCode::MalformedPacket, text)
    }

    /// MQTT that isn't allowed here.
    pub fn protocol(text: impl Into<String>) -> Self {
        Self::new(DisconnectReasonCode::ProtocolError, text)
    }
}

impl From<protocol::Error> for Violation {
    fn from(error: protocol::Error) -> Self {
        Self::malformed(error.to_string())
    }
}

/// One complete packet at the front of a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The first byte: type and flags.
    pub header: u8,
    /// What follows the length.
    pub body: &'a [u8],
    /// The whole packet.
    pub whole: &'a [u8],
}

/// Finds the packet at the front of `buffer`; `None` when more bytes are needed.
///
/// # Errors
/// A length over `max` or of more than four bytes, known before the body has come.
pub fn frame(buffer: &[u8], max: usize) -> Result<Option<Frame<'_>>, Violation> {
    let Some((&header, rest)) = buffer.split_first() else { return Ok(None) };
    let mut length = 0usize;
    for (at, byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let start = at + 2;
            if start + length > max {
                return Err(Violation::new(
                    DisconnectReasonCode::PacketTooLarge,
                    format!(
                        "a packet of {} bytes; at most {max} are taken (max_packet_bytes)",
                        start + length
                    ),
                ));
            }
            let Some(whole) = buffer.get(..start + length) else { return Ok(None) };
            return Ok(Some(Frame { header, body: &whole[start..], whole }));
        }
    }
    if rest.len() >= 4 {
        return Err(Violation::malformed("a remaining length of more than four bytes"));
    }
    Ok(None)
}

/// A PUBLISH as it lies in the read buffer.
#[derive(Debug)]
pub struct Publish<'a> {
    /// A resend.
    pub dup: bool,
    /// 0 to 2.
    pub qos: u8,
    /// Keep as the topic's last value.
    pub retain: bool,
    /// Empty only with a topic alias.
    pub topic: &'a str,
    /// 0 with QoS 0.
    pub pkid: u16,
    /// The payload.
    pub payload: &'a [u8],
    /// v5: the alias that stands for, or is set to, the topic.
    pub alias: Option<u16>,
    /// v5: seconds until nobody wants it any more.
    pub expiry: Option<u32>,
    /// v5: what travels on to subscribers.
    pub properties: Option<Box<Properties>>,
}

/// One requested subscription.
#[derive(Clone, Debug)]
pub struct Request {
    /// As sent, `$share/…` included. Not yet checked.
    pub filter: String,
    /// Highest wanted.
    pub qos: u8,
    /// v5: not what this client itself publishes.
    pub no_local: bool,
    /// v5: keep the publisher's retain flag.
    pub retain_as_published: bool,
    /// v5: 0 send retained values, 1 only when the subscription is new, 2 never.
    pub retain_handling: u8,
}

/// What a client may send after CONNECT.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// PUBLISH.
    Publish(Publish<'a>),
    /// PUBACK. `failed`: the client refused the message.
    PubAck {
        /// Packet id.
        pkid: u16,
    },
    /// PUBREC.
    PubRec {
        /// Packet id.
        pkid: u16,
        /// A reason of 0x80 and above: the client won't take it.
        failed: bool,
    },
    /// PUBREL.
    PubRel {
        /// Packet id.
        pkid: u16,
    },
    /// PUBCOMP.
    PubComp {
        /// Packet id.
        pkid: u16,
    },
    /// SUBSCRIBE.
    Subscribe {
        /// Packet id.
        pkid: u16,
        /// v5 subscription identifier.
        id: Option<u32>,
        /// At least one.
        requests: Vec<Request>,
    },
    /// UNSUBSCRIBE.
    Unsubscribe {
        /// Packet id.
        pkid: u16,
        /// At least one.
        filters: Vec<String>,
    },
    /// PINGREQ.
    PingReq,
    /// DISCONNECT.
    Disconnect {
        /// The client wants its will published all the same.
        with_will: bool,
        /// v5: a changed session expiry.
        expiry: Option<u32>,
    },
}

pub(super) fn text(bytes: &[u8]) -> Result<&str, Violation> {
    let text = std::str::from_utf8(bytes).map_err(|_| Violation {
        cause: Some(Cause::RejectedEncoding),
        ..Violation::malformed("text that is not UTF-8")
    })?;
    if text.contains('\0') { Err(Violation::malformed("text that holds a NUL character")) } else { Ok(text) }
}

fn take_u16(rest: &mut &[u8]) -> Result<u16, Violation> {
    let (head, tail) =
        rest.split_at_checked(2).ok_or_else(|| Violation::malformed("the packet ends early"))?;
    *rest = tail;
    Ok(u16::from_be_bytes([head[0], head[1]]))
}

pub(super) fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Violation> {
    let n = usize::from(take_u16(rest)?);
    let (head, tail) =
        rest.split_at_checked(n).ok_or_else(|| Violation::malformed("the packet ends early"))?;
    *rest = tail;
    Ok(head)
}

fn take_pkid(rest: &mut &[u8]) -> Result<u16, Violation> {
    match take_u16(rest)? {
        0 => Err(Violation::protocol("packet id 0")),
        pkid => Ok(pkid),
    }
}

/// A variable byte integer.
fn take_varint(rest: &mut &[u8]) -> Result<u32, Violation> {
    let mut value = 0;
    for at in 0..4 {
        let (&byte, tail) =
            rest.split_first().ok_or_else(|| Violation::malformed("the packet ends early"))?;
        *rest = tail;
        value |= u32::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Violation::malformed("a variable byte integer of more than four bytes"))
}

/// Takes a property block and checks that each id but the user property stands there once, which
/// rumqttd's codec doesn't. `repeatable` may repeat too.
pub(super) fn check_properties<'a>(rest: &mut &'a [u8], repeatable: u8) -> Result<&'a [u8], Violation> {
    let n = take_varint(rest)? as usize;
    let (block, tail) =
        rest.split_at_checked(n).ok_or_else(|| Violation::malformed("the properties end early"))?;
    *rest = tail;
    let mut seen = [false; 256];
    let mut left = block;
    while let Some((&id, tail)) = left.split_first() {
        left = tail;
        if id != 38 && id != repeatable && std::mem::replace(&mut seen[usize::from(id)], true) {
            return Err(Violation::protocol(format!("property {id} is given twice")));
        }
        let size = match id {
            1 | 23 | 25 | 36 | 37 | 40 | 41 | 42 => 1,
            19 | 33 | 34 | 35 => 2,
            2 | 17 | 24 | 39 => 4,
            3 | 8 | 18 | 21 | 26 | 28 | 31 => {
                text(take_bytes(&mut left)?)?;
                0
            }
            9 | 22 => {
                take_bytes(&mut left)?;
                0
            }
            38 => {
                text(take_bytes(&mut left)?)?;
                text(take_bytes(&mut left)?)?;
                0
            }
            11 => {
                take_varint(&mut left)?;
                0
            }
            other => return Err(Violation::malformed(format!("unknown property {other}"))),
        };
        left = left.get(size..).ok_or_else(|| Violation::malformed("the properties end early"))?;
    }
    Ok(block)
}

/// Lets rumqttd's codec read one whole packet.
pub(super) fn read(version: Version, whole: &[u8]) -> Result<Packet, Violation> {
    let mut bytes = BytesMut::from(whole);
    let packet = match version {
        Version::V4 => V4.read_mut(&mut bytes, whole.len()),
        Version::V5 => V5.read_mut(&mut bytes, whole.len()),
    }?;
    Ok(packet)
}

/// Decodes a packet that comes after CONNECT.
///
/// # Errors
/// [`Violation`]: the connection must be closed with it.
pub fn decode(version: Version, frame: Frame<'_>) -> Result<Incoming<'_>, Violation> {
    let kind = frame.header >> 4;
    let flags = frame.header & 0x0f;
    let wanted = match kind {
        3 => return Ok(Incoming::Publish(decode_publish(version, frame)?)),
        6 | 8 | 10 => 2,
        4 | 5 | 7 | 12 | 14 => 0,
        1 => return Err(Violation::protocol("a second CONNECT")),
        15 if version == Version::V5 => {
            return Err(Violation::protocol("AUTH without an authentication method in CONNECT"));
        }
        2 | 9 | 11 | 13 => {
            return Err(Violation::protocol(format!("packet type {kind} is the server's to send")));
        }
        _ => return Err(Violation::malformed(format!("packet type {kind}"))),
    };
    if flags != wanted {
        return Err(Violation::malformed(format!("flags {flags:#x} on packet type {kind}")));
    }
    let mut body = frame.body;
    match kind {
        4..=7 => {
            let pkid = take_pkid(&mut body)?;
            let reason = match (version, body.split_first()) {
                (_, None) => 0,
                (Version::V4, Some(_)) => {
                    return Err(Violation::malformed("an ack longer than its packet id"));
                }
                (Version::V5, Some((&reason, mut rest))) => {
                    if !rest.is_empty() {
                        check_properties(&mut rest, 38)?;
                    }
                    reason
                }
            };
            Ok(match kind {
                4 => Incoming::PubAck { pkid },
                5 => Incoming::PubRec { pkid, failed: reason >= 0x80 },
                6 => Incoming::PubRel { pkid },
                _ => Incoming::PubComp { pkid },
            })
        }
        8 | 10 => {
            take_pkid(&mut body)?;
            if version == Version::V5 {
                check_properties(&mut body, 38)?;
            }
            if body.is_empty() {
                return Err(Violation::protocol("no topic filter"));
            }
            if kind == 8 {
                decode_subscribe(version, frame.whole)
            } else {
                decode_unsubscribe(version, frame.whole)
            }
        }
        12 if body.is_empty() => Ok(Incoming::PingReq),
        14 => decode_disconnect(version, frame),
        _ => Err(Violation::malformed(format!("a body on packet type {kind}"))),
    }
}

fn decode_publish(version: Version, frame: Frame<'_>) -> Result<Publish<'_>, Violation> {
    let flags = frame.header & 0x0f;
    let (dup, qos, retain) = (flags & 8 != 0, (flags >> 1) & 3, flags & 1 != 0);
    if qos == 3 {
        return Err(Violation::malformed("QoS 3"));
    }
    if dup && qos == 0 {
        return Err(Violation::malformed("DUP on a QoS 0 publish"));
    }
    let mut rest = frame.body;
    let topic = text(take_bytes(&mut rest)?)?;
    let pkid = if qos > 0 { take_pkid(&mut rest)? } else { 0 };
    let mut publish =
        Publish { dup, qos, retain, topic, pkid, payload: rest, alias: None, expiry: None, properties: None };
    if version == Version::V5 {
        let block = check_properties(&mut rest, 38)?;
        publish.payload = rest;
        if !block.is_empty() {
            // Only the property block, behind an empty QoS 0 head: the payload isn't copied.
            let Packet::Publish(_, Some(read)) = read(version, &publish_head(block))? else {
                return Err(Violation::malformed("publish properties"));
            };
            if !read.subscription_identifiers.is_empty() {
                return Err(Violation::protocol("a subscription identifier in a client's publish"));
            }
            publish.alias = read.topic_alias;
            publish.expiry = read.message_expiry_interval;
            let properties = Properties {
                payload_format: read.payload_format_indicator,
                content_type: read.content_type,
                response_topic: read.response_topic,
                correlation_data: read.correlation_data,
                user: read.user_properties,
            };
            publish.properties = (!properties.is_empty()).then(|| Box::new(properties));
        }
    }
    if topic.is_empty() && publish.alias.is_none() {
        return Err(Violation::protocol("an empty topic"));
    }
    if !topic.is_empty() {
        topic::check_name(topic).map_err(|why| {
            Violation::new(
                DisconnectReasonCode::TopicNameInvalid,
                format!("topic {:?}: {why}", shorten(topic)),
            )
        })?;
    }
    Ok(publish)
}

fn publish_head(block: &[u8]) -> Vec<u8> {
    let mut inner = vec![0, 1, b't'];
    put_varint(&mut inner, block.len());
    inner.extend_from_slice(block);
    let mut head = vec![0x30];
    put_varint(&mut head, inner.len());
    head.extend_from_slice(&inner);
    head
}

/// Appends a variable byte integer below 268,435,456.
pub fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        out.push(if value > 0 { byte | 0x80 } else { byte });
        if value == 0 {
            return;
        }
    }
}

fn decode_subscribe(version: Version, whole: &[u8]) -> Result<Incoming<'static>, Violation> {
    let Packet::Subscribe(subscribe, properties) = read(version, whole)? else {
        return Err(Violation::malformed("SUBSCRIBE"));
    };
    let id = properties.and_then(|p| p.id);
    if id == Some(0) {
        return Err(Violation::protocol("subscription identifier 0"));
    }
    let requests = subscribe
        .filters
        .into_iter()
        .map(|filter| Request {
            filter: filter.path,
            qos: filter.qos as u8,
            no_local: filter.nolocal,
            retain_as_published: filter.preserve_retain,
            retain_handling: match filter.retain_forward_rule {
                RetainForwardRule::OnEverySubscribe => 0,
                RetainForwardRule::OnNewSubscribe => 1,
                RetainForwardRule::Never => 2,
            },
        })
        .collect();
    // A variable byte integer has 28 bits.
    Ok(Incoming::Subscribe { pkid: subscribe.pkid, id: id.map(|id| id as u32), requests })
}

fn decode_unsubscribe(version: Version, whole: &[u8]) -> Result<Incoming<'static>, Violation> {
    let Packet::Unsubscribe(unsubscribe, _) = read(version, whole)? else {
        return Err(Violation::malformed("UNSUBSCRIBE"));
    };
    Ok(Incoming::Unsubscribe { pkid: unsubscribe.pkid, filters: unsubscribe.filters })
}

fn decode_disconnect(version: Version, frame: Frame<'_>) -> Result<Incoming<'static>, Violation> {
    match (version, frame.body) {
        (_, []) => Ok(Incoming::Disconnect { with_will: false, expiry: None }),
        (Version::V4, _) => Err(Violation::malformed("a body on DISCONNECT")),
        // rumqttd's codec wants a property length behind the reason; it may be left out.
        (Version::V5, [reason]) => Ok(Incoming::Disconnect { with_will: *reason != 0, expiry: None }),
        (Version::V5, [_, rest @ ..]) => {
            let mut rest = rest;
            check_properties(&mut rest, 38)?;
            let Packet::Disconnect(disconnect, properties) = read(version, frame.whole)? else {
                return Err(Violation::malformed("DISCONNECT"));
            };
            // Any code but "normal" leaves the will in force.
            let with_will = disconnect.reason_code != DisconnectReasonCode::NormalDisconnection;
            let expiry = properties.and_then(|p| p.session_expiry_interval);
            Ok(Incoming::Disconnect { with_will, expiry })
        }
    }
}

/// A topic or id cut short for a message.
pub fn shorten(text: &str) -> &str {
    match text.char_indices().nth(64) {
        Some((at, _)) => &text[..at],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::mqtt::connect;
    use crate::mqtt::encode;
    use crate::mqtt::message::Message;
    use crate::mqtt::outbox::Delivery;

    const MAX: usize = 4_096;

    /// What a connection does with bytes, without the connection.
    fn read_all(bytes: &[u8]) {
        let mut at = 0;
        while let Ok(Some(frame)) = frame(&bytes[at..], MAX) {
            assert!(frame.whole.len() <= MAX);
            for version in [Version::V4, Version::V5] {
                let _ = decode(version, frame);
                let _ = connect::decode_connect(version, frame);
            }
            let _ = connect::level(frame);
            at += frame.whole.len();
        }
    }

    #[test]
    fn a_packet_of_another_type_in_the_place_of_connect_is_refused() {
        // A CONNACK that is laid out like a CONNECT, at which rumqttd's codec panics.
        read_all(b"!\x10\x00\x04M\x7f\x00\x00\x00\x00\x00\x00\x00\x00\x03b\x03by\x82");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_codec_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            read_all(&bytes);
        }

        #[test]
        fn no_body_of_any_type_makes_the_codec_panic(first: u8, body in prop::collection::vec(prop_oneof![0u8..48, any::<u8>()], 0..127)) {
            let mut bytes = vec![first, body.len() as u8];
            bytes.extend_from_slice(&body);
            read_all(&bytes);
        }

        #[test]
        fn a_publish_is_read_as_it_was_written(
            topic in "[a-zé/]{1,20}", payload in prop::collection::vec(any::<u8>(), 0..300), qos in 0u8..3, retain: bool, dup: bool,
            number in 1u64..200_000, v5: bool, content_type in prop::option::of("[a-z]{0,5}"),
            user in prop::collection::vec(("[a-z]{0,3}", "[a-z]{0,3}"), 0..3),
        ) {
            prop_assume!(topic::check_name(&topic).is_ok());
            let version = if v5 { Version::V5 } else { Version::V4 };
            let properties = Properties { content_type, user, ..Properties::default() };
            let properties = (!properties.is_empty()).then(|| Box::new(properties));
            let message = Message {
                topic: topic.as_str().into(), payload: Bytes::from(payload.clone()), qos, retain,
                expires: None, properties: properties.clone(), publisher: "p".into(),
            };
            let delivery = Delivery { message: Arc::new(message), qos, retain, ids: vec![], gate: 0, number, dup };
            let mut out = BytesMut::new();
            prop_assert!(encode::publish(&mut out, version, &delivery, 0, usize::MAX));
            let whole = frame(&out, usize::MAX).unwrap().unwrap();
            prop_assert_eq!(whole.whole.len(), out.len());
            prop_assert!(frame(&out[..out.len() - 1], usize::MAX).unwrap().is_none());
            let Incoming::Publish(read) = decode(version, whole).unwrap() else { panic!("no publish") };
            prop_assert_eq!((read.topic, read.payload, read.qos, read.retain), (topic.as_str(), &payload[..], qos, retain));
            prop_assert_eq!(read.dup, dup && qos > 0);
            prop_assert_eq!(read.pkid, if qos > 0 { delivery.pkid() } else { 0 });
            prop_assert_eq!(read.properties, if v5 { properties } else { None });
        }
    }
}
