//! One change of what the front must remember, as an entry of the session store's log.
//!
//! ```text
//! entry := kind u8, body        text, blob: u32 length + bytes; n*: u32 count; little-endian
//!  1 begin      a snapshot starts: forget everything read so far once its end is there
//!  2 end        … and this is its end
//!  3 session    client text, user text, expiry u32, since u64, away i64, next u64
//!  4 ended      client text
//!  5 subscribed client text, filter text, qos u8, flags u8, id u32
//!  6 gone       client text, filter text
//!  7 retained   message
//!  8 unretained topic text
//!  9 queued     message, n*(client text, number u64, qos u8, retain u8, n*id u32)
//! 10 received   client text, number u64          PUBREC came: PUBREL goes next
//! 11 done       client text, number u64          acknowledged, or dropped
//! 12 released   client text, packet id u16, position u64    the client's PUBREL came
//! 13 marks      client text, n*(packet id u16, position u64, content u128), n*(packet id u16, content u128)
//! 14 position   u64                              marks hold everything of the journal up to here
//! message := topic text, payload blob, qos u8, flags u8 (1 retain, 2 properties), expires i64 (0 none),
//!            publisher text, [format u8 (255 none), type text, response text, correlation blob, n*(text, text)]
//! ```

use std::sync::Arc;

use bytes::Bytes;
use telemetry::Position;

use super::bytes::{BadEntry, Fields, put};
use crate::mqtt::message::{Message, Properties};
use crate::mqtt::router::Options;

/// Highest number of a delivery that is read back.
const MAX_NUMBER: u64 = 1 << 62;

/// One recipient of a queued message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Whose session.
    pub client: Arc<str>,
    /// The delivery's number there.
    pub number: u64,
    /// Delivered at.
    pub qos: u8,
    /// With the retain flag.
    pub retain: bool,
    /// Subscription identifiers.
    pub ids: Vec<u32>,
}

/// A publish that was received and not yet released (QoS 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreleased {
    /// Its id.
    pub pkid: u16,
    /// Where it stands in the journal.
    pub position: Position,
    /// XXH3-128 of topic and payload.
    pub content: u128,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A snapshot starts.
    Begin,
    /// It is complete.
    End,
    /// A session exists from now on, or its terms changed; its content stays.
    Session {
        /// Whose.
        client: Arc<str>,
        /// The user it belongs to, "" for none.
        user: String,
        /// Seconds it outlives its connection.
        expiry: u32,
        /// Journal marks up to here are not of this session.
        since: Position,
        /// When its client left (timeline, ns); 0 while it is connected.
        away: i64,
        /// The next delivery's number.
        next: u64,
    },
    /// A session is no more.
    Ended {
        /// Whose.
        client: Arc<str>,
    },
    /// A subscription.
    Subscribed {
        /// Whose.
        client: Arc<str>,
        /// As sent.
        filter: String,
        /// How.
        options: Options,
    },
    /// A subscription ended.
    Unsubscribed {
        /// Whose.
        client: Arc<str>,
        /// As sent.
        filter: String,
    },
    /// A topic's retained message.
    Retained(Arc<Message>),
    /// A topic has none any more.
    Unretained {
        /// Which.
        topic: String,
    },
    /// A message for sessions.
    Queued {
        /// What.
        message: Arc<Message>,
        /// For whom.
        to: Vec<Recipient>,
    },
    /// A QoS 2 delivery reached its client.
    Received {
        /// Whose.
        client: Arc<str>,
        /// Which.
        number: u64,
    },
    /// A delivery is over.
    Done {
        /// Whose.
        client: Arc<str>,
        /// Which.
        number: u64,
    },
    /// A QoS 2 publish was released by its client.
    Released {
        /// Whose.
        client: Arc<str>,
        /// Its id.
        pkid: u16,
        /// Where it stood in the journal.
        position: Position,
    },
    /// What a session remembers of received publishes, replacing what was there.
    Marks {
        /// Whose.
        client: Arc<str>,
        /// Not yet released QoS 2.
        unreleased: Vec<Unreleased>,
        /// Last QoS 1 publishes: id and content, oldest first.
        recent: Vec<(u16, u128)>,
    },
    /// All marks up to this position of the journal are in here.
    Position(Position),
}

impl Entry {
    /// Appends the bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Begin => out.push(1),
            Self::End => out.push(2),
            Self::Session { client, user, expiry, since, away, next } => {
                head(out, 3, client);
                put(out, user.as_bytes());
                out.extend_from_slice(&expiry.to_le_bytes());
                out.extend_from_slice(&since.to_le_bytes());
                out.extend_from_slice(&away.to_le_bytes());
                out.extend_from_slice(&next.to_le_bytes());
            }
            Self::Ended { client } => head(out, 4, client),
            Self::Subscribed { client, filter, options } => {
                head(out, 5, client);
                put(out, filter.as_bytes());
                let flags = u8::from(options.no_local) | u8::from(options.retain_as_published) << 1;
                out.extend_from_slice(&[options.qos, flags]);
                out.extend_from_slice(&options.id.to_le_bytes());
            }
            Self::Unsubscribed { client, filter } => {
                head(out, 6, client);
                put(out, filter.as_bytes());
            }
            Self::Retained(message) => {
                out.push(7);
                put_message(out, message);
            }
            Self::Unretained { topic } => head(out, 8, topic),
            Self::Queued { message, to } => {
                out.push(9);
                put_message(out, message);
                out.extend_from_slice(&(to.len() as u32).to_le_bytes());
                for Recipient { client, number, qos, retain, ids } in to {
                    put(out, client.as_bytes());
                    out.extend_from_slice(&number.to_le_bytes());
                    out.extend_from_slice(&[*qos, u8::from(*retain)]);
                    out.extend_from_slice(&(ids.len() as u32).to_le_bytes());
                    ids.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
                }
            }
            Self::Received { client, number } | Self::Done { client, number } => {
                head(out, if matches!(self, Self::Received { .. }) { 10 } else { 11 }, client);
                out.extend_from_slice(&number.to_le_bytes());
            }
            Self::Released { client, pkid, position } => {
                head(out, 12, client);
                out.extend_from_slice(&pkid.to_le_bytes());
                out.extend_from_slice(&position.to_le_bytes());
            }
            Self::Marks { client, unreleased, recent } => {
                head(out, 13, client);
                out.extend_from_slice(&(unreleased.len() as u32).to_le_bytes());
                for mark in unreleased {
                    out.extend_from_slice(&mark.pkid.to_le_bytes());
                    out.extend_from_slice(&mark.position.to_le_bytes());
                    out.extend_from_slice(&mark.content.to_le_bytes());
                }
                out.extend_from_slice(&(recent.len() as u32).to_le_bytes());
                for (pkid, content) in recent {
                    out.extend_from_slice(&pkid.to_le_bytes());
                    out.extend_from_slice(&content.to_le_bytes());
                }
            }
            Self::Position(position) => {
                out.push(14);
                out.extend_from_slice(&position.to_le_bytes());
            }
        }
    }

    /// Reads an entry back.
    ///
    /// # Errors
    /// [`BadEntry`] for anything that [`Entry::encode`] doesn't write.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadEntry> {
        let mut f = Fields(bytes);
        let kind = f.u8()?;
        let entry = match kind {
            1 => Self::Begin,
            2 => Self::End,
            3 => Self::Session {
                client: f.text()?.into(),
                user: f.text()?.to_owned(),
                expiry: f.u32()?,
                since: f.u64()?,
                away: f.i64()?,
                next: number(&mut f)?,
            },
            4 => Self::Ended { client: f.text()?.into() },
            5 => {
                let (client, filter) = (f.text()?.into(), f.text()?.to_owned());
                let (qos, flags, id) = (qos(&mut f)?, f.u8()?, f.u32()?);
                if flags > 3 {
                    return Err(BadEntry);
                }
                let options =
                    Options { qos, no_local: flags & 1 != 0, retain_as_published: flags & 2 != 0, id };
                Self::Subscribed { client, filter, options }
            }
            6 => Self::Unsubscribed { client: f.text()?.into(), filter: f.text()?.to_owned() },
            7 => Self::Retained(message(&mut f)?),
            8 => Self::Unretained { topic: f.text()?.to_owned() },
            9 => {
                let message = message(&mut f)?;
                let to = (0..f.count(18)?).map(|_| recipient(&mut f)).collect::<Result<_, _>>()?;
                Self::Queued { message, to }
            }
            10 => Self::Received { client: f.text()?.into(), number: number(&mut f)? },
            11 => Self::Done { client: f.text()?.into(), number: number(&mut f)? },
            12 => Self::Released { client: f.text()?.into(), pkid: f.u16()?, position: f.u64()? },
            13 => {
                let client = f.text()?.into();
                let unreleased = (0..f.count(26)?)
                    .map(|_| Ok(Unreleased { pkid: f.u16()?, position: f.u64()?, content: f.u128()? }))
                    .collect::<Result<_, BadEntry>>()?;
                let recent =
                    (0..f.count(18)?).map(|_| Ok((f.u16()?, f.u128()?))).collect::<Result<_, BadEntry>>()?;
                Self::Marks { client, unreleased, recent }
            }
            14 => Self::Position(f.u64()?),
            _ => return Err(BadEntry),
        };
        if f.0.is_empty() { Ok(entry) } else { Err(BadEntry) }
    }
}

fn head(out: &mut Vec<u8>, kind: u8, client: &str) {
    out.push(kind);
    put(out, client.as_bytes());
}

fn qos(f: &mut Fields<'_>) -> Result<u8, BadEntry> {
    f.u8().and_then(|qos| if qos <= 2 { Ok(qos) } else { Err(BadEntry) })
}

fn flag(f: &mut Fields<'_>) -> Result<bool, BadEntry> {
    f.u8().and_then(|flag| if flag <= 1 { Ok(flag == 1) } else { Err(BadEntry) })
}

/// A delivery's number. Counted up from 1 none gets this far: it can be added to.
fn number(f: &mut Fields<'_>) -> Result<u64, BadEntry> {
    f.u64().and_then(|number| if number <= MAX_NUMBER { Ok(number) } else { Err(BadEntry) })
}

fn recipient(f: &mut Fields<'_>) -> Result<Recipient, BadEntry> {
    let (client, number, qos, retain) = (f.text()?.into(), number(f)?, qos(f)?, flag(f)?);
    let ids = (0..f.count(4)?).map(|_| f.u32()).collect::<Result<_, _>>()?;
    Ok(Recipient { client, number, qos, retain, ids })
}

/// What is there; what isn't there must be empty.
fn present<T: AsRef<[u8]> + ?Sized>(there: bool, value: &T) -> Result<Option<&T>, BadEntry> {
    match (there, value.as_ref().is_empty()) {
        (true, _) => Ok(Some(value)),
        (false, true) => Ok(None),
        (false, false) => Err(BadEntry),
    }
}

fn put_message(out: &mut Vec<u8>, message: &Message) {
    put(out, message.topic.as_bytes());
    put(out, &message.payload);
    let flags = u8::from(message.retain) | u8::from(message.properties.is_some()) << 1;
    out.extend_from_slice(&[message.qos, flags]);
    out.extend_from_slice(&message.expires.unwrap_or(0).to_le_bytes());
    put(out, message.publisher.as_bytes());
    if let Some(p) = &message.properties {
        out.push(p.payload_format.unwrap_or(255));
        let flags = u8::from(p.content_type.is_some())
            | u8::from(p.response_topic.is_some()) << 1
            | u8::from(p.correlation_data.is_some()) << 2;
        out.push(flags);
        put(out, p.content_type.as_deref().unwrap_or_default().as_bytes());
        put(out, p.response_topic.as_deref().unwrap_or_default().as_bytes());
        put(out, p.correlation_data.as_deref().unwrap_or_default());
        out.extend_from_slice(&(p.user.len() as u32).to_le_bytes());
        for (name, value) in &p.user {
            put(out, name.as_bytes());
            put(out, value.as_bytes());
        }
    }
}

fn message(f: &mut Fields<'_>) -> Result<Arc<Message>, BadEntry> {
    let topic = f.text()?.into();
    let payload = Bytes::copy_from_slice(f.bytes()?);
    let (qos, flags) = (qos(f)?, f.u8()?);
    if flags > 3 {
        return Err(BadEntry);
    }
    let expires = Some(f.i64()?).filter(|at| *at != 0);
    let publisher = f.text()?.into();
    let properties = match flags & 2 {
        0 => None,
        _ => {
            let payload_format = Some(f.u8()?).filter(|format| *format != 255);
            let there = f.u8()?;
            if there > 7 {
                return Err(BadEntry);
            }
            let content_type = present(there & 1 != 0, f.text()?)?.map(str::to_owned);
            let response_topic = present(there & 2 != 0, f.text()?)?.map(str::to_owned);
            let correlation_data = present(there & 4 != 0, f.bytes()?)?.map(Bytes::copy_from_slice);
            let user = (0..f.count(8)?)
                .map(|_| Ok((f.text()?.to_owned(), f.text()?.to_owned())))
                .collect::<Result<_, BadEntry>>()?;
            Some(Box::new(Properties {
                payload_format,
                content_type,
                response_topic,
                correlation_data,
                user,
            }))
        }
    };
    Ok(Arc::new(Message { topic, payload, qos, retain: flags & 1 != 0, expires, properties, publisher }))
}
