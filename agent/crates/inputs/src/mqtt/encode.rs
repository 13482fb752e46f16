//! Packets to bytes: what the front sends.
//!
//! PUBLISH and the acks are written here (the hot path, and rumqttd keeps a publish's fields to
//! itself); CONNACK, SUBACK and UNSUBACK go through rumqttd's codecs, which panic on a v5
//! reason given to their v4 writer: so every reason is translated first.

use bytes::{BufMut, BytesMut};
use rumqttd::protocol::{
    ConnAck, ConnAckProperties, ConnectReturnCode, DisconnectReasonCode, Packet, Protocol, SubAck,
    SubscribeReasonCode, UnsubAck, UnsubAckReason, v4::V4, v5::V5,
};

use super::codec::Version;
use super::message::Properties;
use super::outbox::Delivery;

/// PUBACK's first byte.
pub const PUBACK: u8 = 0x40;
/// PUBREC's.
pub const PUBREC: u8 = 0x50;
/// PUBREL's.
pub const PUBREL: u8 = 0x62;
/// PUBCOMP's.
pub const PUBCOMP: u8 = 0x70;

/// An ack. The reason (0: success) is written to v5 clients only.
pub fn ack(out: &mut BytesMut, version: Version, kind: u8, pkid: u16, reason: u8) {
    if version == Version::V5 && reason != 0 {
        out.extend_from_slice(&[kind, 3]);
        out.put_u16(pkid);
        out.put_u8(reason);
    } else {
        out.extend_from_slice(&[kind, 2]);
        out.put_u16(pkid);
    }
}

/// PINGRESP.
pub fn pong(out: &mut BytesMut) {
    out.extend_from_slice(&[0xd0, 0]);
}

fn varint_len(value: usize) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

fn put_varint(out: &mut BytesMut, mut value: usize) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        out.put_u8(if value > 0 { byte | 0x80 } else { byte });
        if value == 0 {
            return;
        }
    }
}

fn put_text(out: &mut BytesMut, text: &[u8]) {
    // Everything here came over the wire behind a u16 length.
    out.put_u16(text.len() as u16);
    out.extend_from_slice(text);
}

fn properties_len(properties: Option<&Properties>, expiry: Option<u32>, ids: &[u32]) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, |text| 3 + text.len());
    let mut len = expiry.map_or(0, |_| 5) + ids.iter().map(|id| 1 + varint_len(*id as usize)).sum::<usize>();
    if let Some(p) = properties {
        len += p.payload_format.map_or(0, |_| 2)
            + text(&p.content_type)
            + text(&p.response_topic)
            + p.correlation_data.as_ref().map_or(0, |data| 3 + data.len())
            + p.user.iter().map(|(name, value)| 5 + name.len() + value.len()).sum::<usize>();
    }
    len
}

fn put_properties(out: &mut BytesMut, properties: Option<&Properties>, expiry: Option<u32>, ids: &[u32]) {
    if let Some(p) = properties {
        if let Some(format) = p.payload_format {
            out.extend_from_slice(&[1, format]);
        }
        for (id, text) in [(3, &p.content_type), (8, &p.response_topic)] {
            if let Some(text) = text {
                out.put_u8(id);
                put_text(out, text.as_bytes());
            }
        }
        if let Some(data) = &p.correlation_data {
            out.put_u8(9);
            put_text(out, data);
        }
        for (name, value) in &p.user {
            out.put_u8(38);
            put_text(out, name.as_bytes());
            put_text(out, value.as_bytes());
        }
    }
    if let Some(seconds) = expiry {
        out.put_u8(2);
        out.put_u32(seconds);
    }
    for id in ids {
        out.put_u8(11);
        put_varint(out, *id as usize);
    }
}

/// A PUBLISH to a subscriber; a v3 one gets no properties. False, and nothing written, when it is
/// larger than the client takes.
pub fn publish(out: &mut BytesMut, version: Version, delivery: &Delivery, now: i64, max: usize) -> bool {
    let message = &delivery.message;
    let (mut properties, mut expiry, mut ids) = (None, None, &[][..]);
    let mut len = 2 + message.topic.len() + message.payload.len() + if delivery.qos > 0 { 2 } else { 0 };
    let mut block = 0;
    if version == Version::V5 {
        (properties, expiry, ids) = (message.properties.as_deref(), message.seconds_left(now), &delivery.ids);
        block = properties_len(properties, expiry, ids);
        len += varint_len(block) + block;
    }
    if 1 + varint_len(len) + len > max || len > 268_435_455 {
        return false;
    }
    let dup = delivery.dup && delivery.qos > 0;
    out.reserve(5 + len);
    out.put_u8(0x30 | u8::from(dup) << 3 | delivery.qos << 1 | u8::from(delivery.retain));
    put_varint(out, len);
    put_text(out, message.topic.as_bytes());
    if delivery.qos > 0 {
        out.put_u16(delivery.pkid());
    }
    if version == Version::V5 {
        put_varint(out, block);
        put_properties(out, properties, expiry, ids);
    }
    out.extend_from_slice(&message.payload);
    true
}

fn write(out: &mut BytesMut, version: Version, packet: Packet) {
    let written = match version {
        Version::V4 => V4.write(packet, out),
        Version::V5 => V5.write(packet, out),
    };
    // Our own packets are small and well-formed; a codec that says otherwise is worth knowing of.
    if let Err(error) = written {
        tracing::error!(%error, "a packet could not be encoded");
    }
}

/// CONNACK.
pub fn connack(
    out: &mut BytesMut,
    version: Version,
    present: bool,
    code: ConnectReturnCode,
    properties: ConnAckProperties,
) {
    let code = match version {
        Version::V5 => match code {
            ConnectReturnCode::RefusedProtocolVersion => ConnectReturnCode::UnsupportedProtocolVersion,
            ConnectReturnCode::ServiceUnavailable => ConnectReturnCode::ServerUnavailable,
            code => code,
        },
        Version::V4 => match code {
            ConnectReturnCode::Success
            | ConnectReturnCode::RefusedProtocolVersion
            | ConnectReturnCode::ClientIdentifierNotValid
            | ConnectReturnCode::BadUserNamePassword
            | ConnectReturnCode::NotAuthorized => code,
            _ => ConnectReturnCode::ServiceUnavailable,
        },
    };
    write(out, version, Packet::ConnAck(ConnAck { session_present: present, code }, Some(properties)));
}

/// SUBACK. v3 knows one failure code.
pub fn suback(out: &mut BytesMut, version: Version, pkid: u16, codes: Vec<SubscribeReasonCode>) {
    let return_codes = codes
        .into_iter()
        .map(|code| match (version, code) {
            (_, SubscribeReasonCode::Success(_)) | (Version::V5, _) => code,
            (Version::V4, _) => SubscribeReasonCode::Failure,
        })
        .collect();
    write(out, version, Packet::SubAck(SubAck { pkid, return_codes }, None));
}

/// UNSUBACK.
pub fn unsuback(out: &mut BytesMut, version: Version, pkid: u16, reasons: Vec<UnsubAckReason>) {
    match version {
        // In 3.1.1 it is a bare id.
        Version::V4 => {
            out.extend_from_slice(&[0xb0, 2]);
            out.put_u16(pkid);
        }
        Version::V5 => write(out, version, Packet::UnsubAck(UnsubAck { pkid, reasons }, None)),
    }
}

/// DISCONNECT, which only v5 lets a server send. By hand: rumqttd's writer leaves out the reason
/// where no properties follow it.
pub fn disconnect(out: &mut BytesMut, version: Version, reason: DisconnectReasonCode) {
    if version == Version::V5 {
        out.extend_from_slice(&[0xe0, 2, reason_code(reason), 0]);
    }
}

/// The codes that the front sends.
fn reason_code(reason: DisconnectReasonCode) -> u8 {
    match reason {
        DisconnectReasonCode::NormalDisconnection => 0,
        DisconnectReasonCode::MalformedPacket => 0x81,
        DisconnectReasonCode::ProtocolError => 0x82,
        DisconnectReasonCode::NotAuthorized => 0x87,
        DisconnectReasonCode::ServerBusy => 0x89,
        DisconnectReasonCode::ServerShuttingDown => 0x8b,
        DisconnectReasonCode::KeepAliveTimeout => 0x8d,
        DisconnectReasonCode::SessionTakenOver => 0x8e,
        DisconnectReasonCode::TopicFilterInvalid => 0x8f,
        DisconnectReasonCode::TopicNameInvalid => 0x90,
        DisconnectReasonCode::ReceiveMaximumExceeded => 0x93,
        DisconnectReasonCode::TopicAliasInvalid => 0x94,
        DisconnectReasonCode::PacketTooLarge => 0x95,
        DisconnectReasonCode::QuotaExceeded => 0x97,
        _ => 0x80,
    }
}
