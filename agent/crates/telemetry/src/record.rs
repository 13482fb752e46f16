//! The journal's records: what an input received, ticks, and every change of configuration.
//!
//! The fold reads these and nothing else, so whatever may change its result is a record.
//!
//! Bytes (little-endian; `n*` is a u32 count, `text` and `blob` are u32 length + bytes):
//! ```text
//! record  := kind u8, version u8 (1; an intake with a trace 2), body
//! intake  := input u16, stamp, defs n*(number u32, def), series n*(number u32),
//!            samples n, index n×u32, times n×i64, values n×f64, marked u8 (0|1), flags n×u8 if marked,
//!            events n*event, counts n*(cause u8, count u64), origin, [trace, in version 2]
//! tick    := stamp, boot 16 bytes, synced u8 (0|1)
//! config  := stamp, generation u64, blob (JSON, as the fold defines it)
//! model   := stamp, slot text, present u8, [manifest blob (JSON), onnx blob]
//! stamp   := wall i64 ns, mono u64 ns
//! def     := name text, unit text, labels n*(text, text)
//! event   := source text, time i64, severity u8, body text, attributes n*(text, attribute)
//! origin  := 0 | 1 mqtt: client text, n*(packet id u16, qos u8, content u128) | 2 http: key u128
//! trace   := trace 16 bytes, span 8 bytes, the sender's span 8 bytes (zeros: none)
//! ```
//! A series number means something within one journal segment only: the journal writes the
//! definition into the first two records of each segment that use it, so a segment reads alone, also without one of them.

use crate::cursor::{Cursor, put_bytes, put_column};
use crate::trace::{Context, Traced};
use crate::{Attribute, Cause, Counts, Event, SeriesDef, SeriesKey, SeriesRef, Severity};

/// The version of an intake with a trace: all others are written as before, and an agent that doesn't know of traces reads them.
const TRACED: u8 = 2;

/// A record's consecutive number in the journal. Never used twice; 0 is before the first.
pub type Position = u64;

/// When something reached us, on both of this host's clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Nanoseconds since the epoch, UTC, as this host's clock says.
    pub wall: i64,
    /// Nanoseconds since this boot.
    pub mono: u64,
}

/// What the agent knows of its clock, as a tick carries it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceClock {
    /// Both clocks at the tick.
    pub at: Stamp,
    /// The kernel's boot id.
    pub boot: crate::Boot,
    /// True once the clock is set.
    pub synced: bool,
}

/// Where an intake came from, as far as a resend of it can be recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Publishes of one MQTT client with QoS 1 or 2.
    Mqtt {
        /// The client id.
        client: String,
        /// One mark a publish.
        publishes: Vec<PublishMark>,
    },
    /// An HTTP request with an `Idempotency-Key`.
    Http {
        /// XXH3-128 of the sender's name and the key.
        key: u128,
    },
}

/// What tells a publish from its resend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishMark {
    /// The packet id.
    pub packet_id: u16,
    /// 1 or 2.
    pub qos: u8,
    /// XXH3-128 of topic and payload.
    pub content: u128,
}

/// What an input received and wants durable together. Columns of equal length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Intake {
    /// Which input: an index into the configured inputs.
    pub input: u16,
    /// When it arrived.
    pub stamp: Stamp,
    /// The distinct series of this intake, in order of first use.
    pub series: Vec<SeriesRef>,
    /// For each sample an index into `series`.
    pub index: Vec<u32>,
    /// For each sample its time, nanoseconds since the epoch.
    pub times: Vec<i64>,
    /// For each sample its value.
    pub values: Vec<f64>,
    /// For each sample its marks ([`crate::SampleFlags`]), or empty.
    pub flags: Vec<u8>,
    /// Events.
    pub events: Vec<Event>,
    /// Received, rejected and deduplicated readings. `Received` counts the good ones too.
    pub counts: Counts,
    /// What a resend can be recognised by.
    pub origin: Option<Origin>,
    /// The trace that it is sampled in, which nearly none is.
    pub trace: Option<Traced>,
}

impl Intake {
    /// An empty intake of an input.
    pub fn new(input: u16, stamp: Stamp) -> Self {
        Self { input, stamp, ..Self::default() }
    }

    /// Adds a sample of `series[index]`.
    pub fn push(&mut self, index: u32, time: i64, value: f64, flags: u8) {
        if flags != 0 && self.flags.is_empty() {
            self.flags.resize(self.index.len(), 0);
        }
        if flags != 0 || !self.flags.is_empty() {
            self.flags.push(flags);
        }
        self.index.push(index);
        self.times.push(time);
        self.values.push(value);
    }

    /// Readings in here.
    pub fn len(&self) -> usize {
        self.index.len() + self.events.len()
    }

    /// True when there is a reading, and not counts alone.
    pub fn has_readings(&self) -> bool {
        !(self.index.is_empty() && self.events.is_empty())
    }

    /// True when neither a reading nor a count is in here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.counts.is_empty()
    }
}

/// One record of the journal.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// What an input received.
    Intake(Intake),
    /// Time passed.
    Tick(DeviceClock),
    /// The fold's configuration changed.
    Config {
        /// When.
        stamp: Stamp,
        /// Counts up with each change.
        generation: u64,
        /// JSON, as the fold defines it.
        config: Vec<u8>,
    },
    /// A model was put into a slot, or taken out.
    Model {
        /// When.
        stamp: Stamp,
        /// The slot's name: what the score series is called after.
        slot: String,
        /// Manifest (JSON) and ONNX file; `None` switches the slot off.
        model: Option<(Vec<u8>, Vec<u8>)>,
    },
}

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end early, or claim more than is there.
    #[error("the record ends early")]
    Truncated,
    /// Bytes are left over.
    #[error("{0} bytes are left over behind the record")]
    Trailing(usize),
    /// A kind, version or tag this build doesn't know.
    #[error("unknown {what} {number}")]
    Unknown {
        /// Which field.
        what: &'static str,
        /// Its value.
        number: u8,
    },
    /// Text that isn't UTF-8.
    #[error("text that is not UTF-8")]
    NotText,
    /// A definition that [`SeriesKey::new`] refuses.
    #[error("a series definition is invalid: {0}")]
    Series(#[from] crate::InvalidSeries),
    /// A number without a definition, or an index out of range.
    #[error("series number {0} has no definition here")]
    Undefined(u32),
}

/// Finds and learns series numbers while a segment is read from its start.
pub trait Numbering {
    /// Learns what a number means from here on.
    fn define(&mut self, number: u32, def: SeriesDef);
    /// The series behind a number.
    fn resolve(&self, number: u32) -> Option<SeriesRef>;
}

impl Record {
    /// The series whose definitions a reader needs.
    pub fn series(&self) -> &[SeriesRef] {
        match self {
            Self::Intake(intake) => &intake.series,
            _ => &[],
        }
    }

    /// Appends the record's bytes. `defs` are those of [`Record::series`] that the segment lacks.
    pub fn encode(&self, out: &mut Vec<u8>, defs: &[(SeriesRef, std::sync::Arc<SeriesDef>)]) {
        match self {
            Self::Intake(intake) => {
                out.extend_from_slice(&[1, if intake.trace.is_some() { TRACED } else { 1 }]);
                encode_intake(intake, out, defs);
            }
            Self::Tick(clock) => {
                out.extend_from_slice(&[2, 1]);
                put_stamp(out, clock.at);
                out.extend_from_slice(&clock.boot);
                out.push(u8::from(clock.synced));
            }
            Self::Config { stamp, generation, config } => {
                out.extend_from_slice(&[3, 1]);
                put_stamp(out, *stamp);
                out.extend_from_slice(&generation.to_le_bytes());
                put_bytes(out, config);
            }
            Self::Model { stamp, slot, model } => {
                out.extend_from_slice(&[4, 1]);
                put_stamp(out, *stamp);
                put_bytes(out, slot.as_bytes());
                out.push(u8::from(model.is_some()));
                if let Some((manifest, onnx)) = model {
                    put_bytes(out, manifest);
                    put_bytes(out, onnx);
                }
            }
        }
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`Record::encode`] doesn't write. Never allocates more
    /// than a small multiple of the bytes given.
    pub fn decode(bytes: &[u8], numbering: &mut impl Numbering) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        let kind = cursor.u8()?;
        let version = cursor.u8()?;
        if version != 1 && (kind, version) != (1, TRACED) {
            return Err(DecodeError::Unknown { what: "record version", number: version });
        }
        let record = match kind {
            1 => {
                let mut intake = decode_intake(&mut cursor, numbering)?;
                if version == TRACED {
                    intake.trace = Some(trace(&mut cursor)?);
                }
                Self::Intake(intake)
            }
            2 => Self::Tick(DeviceClock {
                at: stamp(&mut cursor)?,
                boot: cursor.bytes16()?,
                synced: flag(&mut cursor)?,
            }),
            3 => Self::Config {
                stamp: stamp(&mut cursor)?,
                generation: cursor.u64()?,
                config: cursor.bytes()?.to_vec(),
            },
            4 => Self::Model {
                stamp: stamp(&mut cursor)?,
                slot: cursor.text()?.to_owned(),
                model: match flag(&mut cursor)? {
                    true => Some((cursor.bytes()?.to_vec(), cursor.bytes()?.to_vec())),
                    false => None,
                },
            },
            number => return Err(DecodeError::Unknown { what: "record kind", number }),
        };
        cursor.end()?;
        Ok(record)
    }
}

fn put_stamp(out: &mut Vec<u8>, stamp: Stamp) {
    out.extend_from_slice(&stamp.wall.to_le_bytes());
    out.extend_from_slice(&stamp.mono.to_le_bytes());
}

fn stamp(cursor: &mut Cursor<'_>) -> Result<Stamp, DecodeError> {
    Ok(Stamp { wall: cursor.i64()?, mono: cursor.u64()? })
}

fn trace(cursor: &mut Cursor<'_>) -> Result<Traced, DecodeError> {
    let context = Context { trace: cursor.bytes16()?, span: cursor.bytes8()? };
    Ok(Traced { context, parent: cursor.bytes8()? })
}

fn flag(cursor: &mut Cursor<'_>) -> Result<bool, DecodeError> {
    match cursor.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        number => Err(DecodeError::Unknown { what: "flag", number }),
    }
}

/// Appends a series definition's bytes; shared by every file that must be readable alone.
pub fn encode_def(out: &mut Vec<u8>, def: &SeriesDef) {
    put_bytes(out, def.key.name().as_bytes());
    put_bytes(out, def.unit.as_bytes());
    out.extend_from_slice(&(def.key.labels().len() as u32).to_le_bytes());
    for (label, value) in def.key.labels() {
        put_bytes(out, label.as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

fn decode_def(cursor: &mut Cursor<'_>) -> Result<SeriesDef, DecodeError> {
    let name = cursor.text()?;
    let unit = cursor.text()?;
    let labels = (0..cursor.count(8)?)
        .map(|_| Ok((cursor.text()?, cursor.text()?)))
        .collect::<Result<Vec<_>, DecodeError>>()?;
    Ok(SeriesDef { key: SeriesKey::new(name, labels)?, unit: unit.into() })
}

fn encode_intake(intake: &Intake, out: &mut Vec<u8>, defs: &[(SeriesRef, std::sync::Arc<SeriesDef>)]) {
    let n = intake.index.len();
    debug_assert!(intake.times.len() == n && intake.values.len() == n);
    debug_assert!(intake.flags.is_empty() || intake.flags.len() == n);
    out.extend_from_slice(&intake.input.to_le_bytes());
    put_stamp(out, intake.stamp);
    out.extend_from_slice(&(defs.len() as u32).to_le_bytes());
    for (series, def) in defs {
        out.extend_from_slice(&series.0.to_le_bytes());
        encode_def(out, def);
    }
    out.extend_from_slice(&(intake.series.len() as u32).to_le_bytes());
    put_column(out, &intake.series, |series| series.0.to_le_bytes());
    out.extend_from_slice(&(n as u32).to_le_bytes());
    put_column(out, &intake.index, u32::to_le_bytes);
    put_column(out, &intake.times, i64::to_le_bytes);
    put_column(out, &intake.values, f64::to_le_bytes);
    out.push(u8::from(!intake.flags.is_empty()));
    out.extend_from_slice(&intake.flags);
    out.extend_from_slice(&(intake.events.len() as u32).to_le_bytes());
    for event in &intake.events {
        encode_event(out, event);
    }
    encode_counts(out, &intake.counts);
    match &intake.origin {
        None => out.push(0),
        Some(Origin::Mqtt { client, publishes }) => {
            out.push(1);
            put_bytes(out, client.as_bytes());
            out.extend_from_slice(&(publishes.len() as u32).to_le_bytes());
            for mark in publishes {
                out.extend_from_slice(&mark.packet_id.to_le_bytes());
                out.push(mark.qos);
                out.extend_from_slice(&mark.content.to_le_bytes());
            }
        }
        Some(Origin::Http { key }) => {
            out.push(2);
            out.extend_from_slice(&key.to_le_bytes());
        }
    }
    if let Some(Traced { context, parent }) = &intake.trace {
        out.extend_from_slice(&context.trace);
        out.extend_from_slice(&context.span);
        out.extend_from_slice(parent);
    }
}

fn encode_counts(out: &mut Vec<u8>, counts: &Counts) {
    out.extend_from_slice(&(counts.iter().count() as u32).to_le_bytes());
    for (cause, n) in counts.iter() {
        out.push(cause as u8);
        out.extend_from_slice(&n.to_le_bytes());
    }
}

fn encode_event(out: &mut Vec<u8>, event: &Event) {
    put_bytes(out, event.source.as_bytes());
    out.extend_from_slice(&event.time.to_le_bytes());
    out.push(event.severity as u8);
    put_bytes(out, event.body.as_bytes());
    out.extend_from_slice(&(event.attributes.len() as u32).to_le_bytes());
    for (name, value) in &event.attributes {
        put_bytes(out, name.as_bytes());
        match value {
            Attribute::Bool(value) => out.extend_from_slice(&[1, u8::from(*value)]),
            Attribute::Int(value) => {
                out.push(2);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Attribute::Float(value) => {
                out.push(3);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Attribute::Text(value) => {
                out.push(4);
                put_bytes(out, value.as_bytes());
            }
        }
    }
}

fn decode_event(cursor: &mut Cursor<'_>) -> Result<Event, DecodeError> {
    let source = cursor.text()?.to_owned();
    let time = cursor.i64()?;
    let severity = cursor.u8()?;
    let severity =
        Severity::from_number(severity).ok_or(DecodeError::Unknown { what: "severity", number: severity })?;
    let body = cursor.text()?.to_owned();
    let attributes = (0..cursor.count(6)?)
        .map(|_| {
            let name = cursor.text()?.to_owned();
            let value = match cursor.u8()? {
                1 => Attribute::Bool(flag(cursor)?),
                2 => Attribute::Int(cursor.i64()?),
                3 => Attribute::Float(cursor.f64()?),
                4 => Attribute::Text(cursor.text()?.to_owned()),
                number => return Err(DecodeError::Unknown { what: "attribute type", number }),
            };
            Ok((name, value))
        })
        .collect::<Result<_, _>>()?;
    Ok(Event { source, time, severity, body, attributes })
}

fn decode_intake(cursor: &mut Cursor<'_>, numbering: &mut impl Numbering) -> Result<Intake, DecodeError> {
    let mut intake = Intake::new(cursor.u16()?, stamp(cursor)?);
    for _ in 0..cursor.count(16)? {
        let number = cursor.u32()?;
        numbering.define(number, decode_def(cursor)?);
    }
    let series = cursor.count(4)?;
    intake.series = cursor
        .column(series, u32::from_le_bytes)?
        .into_iter()
        .map(|number| numbering.resolve(number).ok_or(DecodeError::Undefined(number)))
        .collect::<Result<_, _>>()?;
    let n = cursor.count(20)?;
    intake.index = cursor.column(n, u32::from_le_bytes)?;
    if let Some(index) = intake.index.iter().find(|index| **index as usize >= series) {
        return Err(DecodeError::Undefined(*index));
    }
    intake.times = cursor.column(n, i64::from_le_bytes)?;
    intake.values = cursor.column(n, f64::from_le_bytes)?;
    if flag(cursor)? {
        intake.flags = cursor.take(n)?.to_vec();
    }
    let events = cursor.count(21)?;
    intake.events = (0..events).map(|_| decode_event(cursor)).collect::<Result<_, _>>()?;
    for _ in 0..cursor.count(9)? {
        let code = cursor.u8()?;
        let cause = Cause::from_code(code).ok_or(DecodeError::Unknown { what: "cause", number: code })?;
        intake.counts.add(cause, cursor.u64()?);
    }
    intake.origin = match cursor.u8()? {
        0 => None,
        1 => {
            let client = cursor.text()?.to_owned();
            let publishes = (0..cursor.count(19)?)
                .map(|_| {
                    Ok(PublishMark { packet_id: cursor.u16()?, qos: cursor.u8()?, content: cursor.u128()? })
                })
                .collect::<Result<_, DecodeError>>()?;
            Some(Origin::Mqtt { client, publishes })
        }
        2 => Some(Origin::Http { key: cursor.u128()? }),
        number => return Err(DecodeError::Unknown { what: "origin", number }),
    };
    Ok(intake)
}
