//! A payload to columns, within the limits of the format.

use telemetry::{Cause, Counts, Event, Severity};

use super::windows::{self, once};
use super::{Payload, Samples, VERSION};
use crate::column;
use crate::compression::unpack;
use crate::error::DecodeError;
use crate::limits::{MAX_ATTRIBUTES, MAX_PAYLOAD, MAX_PAYLOAD_RAW, MAX_ROWS, MAX_SAMPLES};
use crate::msgpack::Reader;

/// Reads a payload.
///
/// # Errors
/// [`DecodeError`] for anything an encoder doesn't write. Tables and columns may come in any order
/// behind the version, each once; an unknown one is refused, since passing it over would lose readings.
pub fn decode(bytes: &[u8]) -> Result<Payload, DecodeError> {
    const TABLE: &str = "the payload";
    let raw = unpack(bytes, "the payload in bytes", MAX_PAYLOAD, MAX_PAYLOAD_RAW)?;
    let mut reader = Reader::new(&raw);
    let entries = reader.map()?;
    if entries == 0 || reader.text()? != "v" {
        return Err(DecodeError::Inconsistent("the payload doesn't begin with its version"));
    }
    let version = reader.integer()?;
    if version != i128::from(VERSION) {
        return Err(DecodeError::Unknown { what: "payload version", number: version });
    }
    let (mut counted, mut timelines, mut samples, mut windows, mut events) = (None, None, None, None, None);
    for _ in 1..entries {
        match reader.text()? {
            "c" => once(TABLE, &mut counted, counts(&mut reader)?),
            "t" => once(TABLE, &mut timelines, lines(&mut reader)?),
            "s" => once(TABLE, &mut samples, sampled(&mut reader)?),
            "w" if reader.nil() => once(TABLE, &mut windows, Vec::new()),
            "w" => once(TABLE, &mut windows, windows::decode(&mut reader)?),
            "e" if reader.nil() => once(TABLE, &mut events, Vec::new()),
            "e" => once(TABLE, &mut events, happened(&mut reader)?),
            other => Err(DecodeError::UnknownKey { table: TABLE, key: other.to_owned() }),
        }?;
    }
    reader.end()?;
    let (Some(counts), Some(timelines), Some(samples)) = (counted, timelines, samples) else {
        return Err(DecodeError::Incomplete { table: TABLE });
    };
    let (Some(windows), Some(events)) = (windows, events) else {
        return Err(DecodeError::Incomplete { table: TABLE });
    };
    check(&samples, &timelines)?;
    Ok(Payload { counts, timelines, samples, windows, events })
}

fn counts(reader: &mut Reader<'_>) -> Result<Counts, DecodeError> {
    let mut counts = Counts::new();
    for _ in 0..reader.map()? {
        let code = reader.integer()?;
        let cause = u8::try_from(code).ok().and_then(Cause::from_code);
        let cause = cause.ok_or(DecodeError::Unknown { what: "cause", number: code })?;
        let count = reader.number("a count", i64::MAX as u64)?;
        if counts.get(cause) != 0 {
            return Err(DecodeError::Inconsistent("a cause is counted twice"));
        }
        counts.add(cause, count);
    }
    Ok(counts)
}

fn lines(reader: &mut Reader<'_>) -> Result<Vec<Vec<i64>>, DecodeError> {
    let mut left = MAX_SAMPLES;
    let mut lines = Vec::new();
    for _ in 0..reader.array()? {
        let line: Vec<i64> = column::decode(reader, left)?;
        left -= line.len();
        lines.push(line);
    }
    Ok(lines)
}

fn sampled(reader: &mut Reader<'_>) -> Result<Samples, DecodeError> {
    const TABLE: &str = "the samples";
    let (mut ids, mut lines, mut lengths, mut values, mut flags) = (None, None, None, None, None);
    for _ in 0..reader.map()? {
        match reader.text()? {
            "id" => once(TABLE, &mut ids, column::decode(reader, MAX_SAMPLES)?),
            "tl" => once(TABLE, &mut lines, column::decode(reader, MAX_SAMPLES)?),
            "n" => once(TABLE, &mut lengths, column::decode(reader, MAX_SAMPLES)?),
            "v" => once(TABLE, &mut values, column::decode_floats(reader, MAX_SAMPLES)?),
            "f" if reader.nil() => once(TABLE, &mut flags, None),
            "f" => once(TABLE, &mut flags, Some(column::decode(reader, MAX_SAMPLES)?)),
            other => Err(DecodeError::UnknownKey { table: TABLE, key: other.to_owned() }),
        }?;
    }
    let (Some(ids), Some(timelines), Some(lengths)) = (ids, lines, lengths) else {
        return Err(DecodeError::Incomplete { table: TABLE });
    };
    let (Some(values), Some(flags)) = (values, flags) else {
        return Err(DecodeError::Incomplete { table: TABLE });
    };
    if flags.as_ref().is_some_and(|flags: &Vec<u8>| flags.len() != values.len()) {
        return Err(DecodeError::Inconsistent("flags and values differ in number"));
    }
    Ok(Samples { ids, timelines, lengths, values, flags: flags.unwrap_or_default() })
}

fn check(samples: &Samples, timelines: &[Vec<i64>]) -> Result<(), DecodeError> {
    let series = samples.ids.len();
    if samples.timelines.len() != series || samples.lengths.len() != series {
        return Err(DecodeError::Inconsistent("the samples' columns id, tl and n differ in length"));
    }
    if !samples.ids.is_sorted_by(|a, b| a < b) {
        return Err(DecodeError::Inconsistent("the samples' series numbers don't ascend"));
    }
    let total: u64 = samples.lengths.iter().map(|length| u64::from(*length)).sum();
    if total != samples.values.len() as u64 || samples.lengths.contains(&0) {
        return Err(DecodeError::Inconsistent("the series' counts don't add up to the values"));
    }
    for (line, length) in samples.timelines.iter().zip(&samples.lengths) {
        if timelines.get(*line as usize).is_none_or(|line| line.len() != *length as usize) {
            return Err(DecodeError::Inconsistent(
                "a series names a timeline that isn't there or has another length",
            ));
        }
    }
    if !timelines.iter().all(|line| line.is_sorted()) {
        return Err(DecodeError::Inconsistent("a timeline isn't in the order of time"));
    }
    Ok(())
}

fn happened(reader: &mut Reader<'_>) -> Result<Vec<Event>, DecodeError> {
    const TABLE: &str = "the events";
    let (mut sources, mut times, mut severities, mut bodies, mut attributes) = (None, None, None, None, None);
    for _ in 0..reader.map()? {
        match reader.text()? {
            "src" => once(TABLE, &mut sources, texts(reader)?),
            "t" => once(TABLE, &mut times, column::decode::<i64>(reader, MAX_ROWS)?),
            "sev" => once(TABLE, &mut severities, column::decode::<u8>(reader, MAX_ROWS)?),
            "body" => once(TABLE, &mut bodies, texts(reader)?),
            "attr" => once(TABLE, &mut attributes, maps(reader)?),
            other => Err(DecodeError::UnknownKey { table: TABLE, key: other.to_owned() }),
        }?;
    }
    let (Some(sources), Some(times), Some(severities)) = (sources, times, severities) else {
        return Err(DecodeError::Incomplete { table: TABLE });
    };
    let (Some(bodies), Some(attributes)) = (bodies, attributes) else {
        return Err(DecodeError::Incomplete { table: TABLE });
    };
    let n = sources.len();
    if times.len() != n || severities.len() != n || bodies.len() != n || attributes.len() != n {
        return Err(DecodeError::Inconsistent("the events' columns differ in length"));
    }
    let rows = sources.into_iter().zip(times).zip(severities).zip(bodies.into_iter().zip(attributes));
    rows.map(|(((source, time), severity), (body, attributes))| {
        let severity = Severity::from_number(severity)
            .ok_or(DecodeError::Unknown { what: "severity", number: i128::from(severity) })?;
        Ok(Event { source, time, severity, body, attributes })
    })
    .collect()
}

fn texts(reader: &mut Reader<'_>) -> Result<Vec<String>, DecodeError> {
    // Each takes a byte at least, so this is bounded by what came.
    (0..reader.array()?).map(|_| reader.text().map(str::to_owned)).collect()
}

type Attributes = Vec<(String, telemetry::Attribute)>;

fn maps(reader: &mut Reader<'_>) -> Result<Vec<Attributes>, DecodeError> {
    (0..reader.array()?)
        .map(|_| {
            let entries = reader.map()?;
            if entries > MAX_ATTRIBUTES {
                let (size, max) = (entries as u64, MAX_ATTRIBUTES as u64);
                return Err(DecodeError::TooLarge { what: "an event's attributes", size, max });
            }
            (0..entries).map(|_| Ok((reader.text()?.to_owned(), reader.attribute()?))).collect()
        })
        .collect()
}
