//! CONNECT: the first packet, with the terms of the session and the will.

use bytes::Bytes;
use rumqttd::protocol::{DisconnectReasonCode, Packet};

use super::codec::{Frame, Version, Violation, check_properties, read, shorten, take_bytes, text};
use super::message::Properties;
use super::topic;

/// A will, as CONNECT carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Checked topic name.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// 0 to 2.
    pub qos: u8,
    /// Keep it.
    pub retain: bool,
    /// Seconds between the connection's end and the will.
    pub delay: u32,
    /// Seconds of life once published.
    pub expiry: Option<u32>,
    /// v5 properties.
    pub properties: Option<Box<Properties>>,
}

/// A CONNECT.
#[derive(Clone, Debug)]
pub struct Connect {
    /// Protocol.
    pub version: Version,
    /// May be empty.
    pub client: String,
    /// Clean session (3.1.1), clean start (5).
    pub clean: bool,
    /// Seconds; 0 is off.
    pub keep_alive: u16,
    /// v5: seconds the session outlives the connection; `None` when not given.
    pub expiry: Option<u32>,
    /// v5: most QoS 1 and 2 messages we may have in flight.
    pub receive_maximum: u16,
    /// v5: the largest packet the client takes.
    pub max_packet: Option<u32>,
    /// v5: an extended authentication method, which we don't speak.
    pub auth_method: Option<String>,
    /// The will.
    pub will: Option<Will>,
    /// Name and password.
    pub login: Option<(String, String)>,
}

/// The protocol level in a CONNECT, before anything else of it is read.
///
/// # Errors
/// The first packet isn't a CONNECT of MQTT.
pub fn level(frame: Frame<'_>) -> Result<u8, Violation> {
    if frame.header != 0x10 {
        return Err(Violation::protocol(format!(
            "the first packet is of type {}, not CONNECT",
            frame.header >> 4
        )));
    }
    let mut rest = frame.body;
    match take_bytes(&mut rest)? {
        b"MQTT" | b"MQIsdp" => {}
        _ => return Err(Violation::protocol("the protocol's name is not MQTT")),
    }
    rest.first().copied().ok_or_else(|| Violation::malformed("the packet ends early"))
}

/// Decodes a CONNECT of a level that [`level`] found to be this version's.
///
/// # Errors
/// [`Violation`].
pub fn decode_connect(version: Version, frame: Frame<'_>) -> Result<Connect, Violation> {
    // rumqttd's codec panics on some packets of other types; what is read in place here is a CONNECT's.
    let spoken = match version {
        Version::V4 => 4,
        Version::V5 => 5,
    };
    if level(frame)? != spoken {
        return Err(Violation::protocol(format!("a CONNECT of another level than {spoken}")));
    }
    let flags = *frame.body.get(7).ok_or_else(|| Violation::malformed("the packet ends early"))?;
    if flags & 1 != 0 {
        return Err(Violation::malformed("the reserved flag of CONNECT is set"));
    }
    if version == Version::V4 && flags & 0xc0 == 0x40 {
        return Err(Violation::malformed("a password without a user name"));
    }
    let has_will = flags & 4 != 0;
    let mut rest = frame.body.get(10..).unwrap_or_default();
    if version == Version::V5 {
        check_properties(&mut rest, 38)?;
    }
    text(take_bytes(&mut rest)?)?;
    if version == Version::V5 && has_will {
        check_properties(&mut rest, 38)?;
    }
    let fields = [has_will, has_will, flags & 0x80 != 0, flags & 0x40 != 0];
    for _ in fields.iter().filter(|there| **there) {
        take_bytes(&mut rest)?;
    }
    if !rest.is_empty() {
        return Err(Violation::malformed("bytes are left over behind CONNECT"));
    }
    let Packet::Connect(connect, properties, will, will_properties, login) = read(version, frame.whole)?
    else {
        return Err(Violation::malformed("CONNECT"));
    };
    let will = will.map(|will| -> Result<Will, Violation> {
        let topic = text(&will.topic)?.to_owned();
        topic::check_name(&topic).map_err(|why| {
            Violation::new(
                DisconnectReasonCode::TopicNameInvalid,
                format!("the will's topic {:?}: {why}", shorten(&topic)),
            )
        })?;
        let p = will_properties;
        let delay = p.as_ref().and_then(|p| p.delay_interval).unwrap_or(0);
        let expiry = p.as_ref().and_then(|p| p.message_expiry_interval);
        let properties = p.map(|p| Properties {
            payload_format: p.payload_format_indicator,
            content_type: p.content_type,
            response_topic: p.response_topic,
            correlation_data: p.correlation_data.map(|data| Bytes::copy_from_slice(&data)),
            user: p.user_properties,
        });
        Ok(Will {
            topic,
            payload: Bytes::copy_from_slice(&will.message),
            qos: will.qos as u8,
            retain: will.retain,
            delay,
            expiry,
            properties: properties.filter(|p| !p.is_empty()).map(Box::new),
        })
    });
    let properties = properties.as_ref();
    let receive_maximum = properties.and_then(|p| p.receive_maximum);
    let max_packet = properties.and_then(|p| p.max_packet_size);
    if receive_maximum == Some(0) || max_packet == Some(0) {
        return Err(Violation::protocol("a receive maximum or maximum packet size of 0"));
    }
    if properties.is_some_and(|p| p.authentication_data.is_some() && p.authentication_method.is_none()) {
        return Err(Violation::protocol("authentication data without a method"));
    }
    Ok(Connect {
        version,
        client: connect.client_id,
        clean: connect.clean_session,
        keep_alive: connect.keep_alive,
        expiry: properties.and_then(|p| p.session_expiry_interval),
        receive_maximum: receive_maximum.unwrap_or(u16::MAX),
        max_packet,
        auth_method: properties.and_then(|p| p.authentication_method.clone()),
        will: will.transpose()?,
        login: login.map(|login| (login.username, login.password)),
    })
}
