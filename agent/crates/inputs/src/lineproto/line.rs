//! One line: key, fields, time.

use telemetry::{Attribute, Cause, Event, Severity};

use super::dictionary::Dictionary;
use super::text::{closing_quote, unescape, unquote, until};
use super::{MAX_FIELDS, MAX_LINE, Options};
use crate::intake::{IntakeBuilder, Rejection};

/// A line that was taken.
pub(super) struct Line {
    /// Where the next one begins.
    pub(super) end: usize,
    /// Line breaks inside quoted strings.
    pub(super) inner_newlines: usize,
}

/// Where a line went wrong, and why.
type Wrong = (usize, Rejection);

const UNQUOTED: &str = "invalid field value: text must be in double quotes";

#[cold]
fn syntax(at: usize, reason: &str) -> Wrong {
    (at, Rejection::new(Cause::RejectedSyntax, reason))
}

/// Reads the line that begins at `start`. All of it is taken, or nothing.
#[inline]
pub(super) fn read(
    body: &[u8],
    start: usize,
    options: &Options<'_>,
    dictionary: &mut Dictionary,
    out: &mut IntakeBuilder<'_>,
) -> Result<Line, Wrong> {
    let (entry, mut at) = dictionary.find(body, start)?;
    let mut inner_newlines = 0;
    let mut fields = 0;
    let mut expected = 0;
    dictionary.values.clear();
    dictionary.texts.clear();
    at = spaces(body, at);
    loop {
        let (field, name_end) = dictionary.field(entry, expected, body, at)?;
        at = name_end + 1;
        let mut number = None;
        match body.get(at) {
            Some(b'0'..=b'9' | b'-' | b'+' | b'.') => {
                let (value, end) = read_number(body, at)?;
                (number, at) = (Some(value), end);
            }
            Some(b'"') => {
                let close = closing_quote(body, at + 1).ok_or_else(|| syntax(start, "unbalanced quotes"))?;
                let raw = &body[at + 1..close];
                inner_newlines += memchr::memchr_iter(b'\n', raw).count();
                let text = unquote(raw).map_err(|rejection| (close, rejection))?.into_owned();
                let name = unescape(&dictionary.entry(entry).fields[field].raw);
                let name = name.map_err(|rejection| (close, rejection))?.into_owned();
                dictionary.texts.push((name, text));
                at = close + 1;
            }
            Some(b't' | b'T' | b'f' | b'F') => {
                let (value, end) = read_boolean(body, at)?;
                (number, at) = (Some(value), end);
            }
            None | Some(b',' | b' ' | b'\n' | b'\r') => {
                return Err(syntax(at.min(body.len()), "missing field value"));
            }
            // Floating point's own words are numbers to their sender, and refused as such below.
            Some(b'n' | b'N' | b'i' | b'I') => {
                let (value, end) = read_number(body, at).map_err(|_| syntax(at, UNQUOTED))?;
                (number, at) = (Some(value), end);
            }
            Some(_) => return Err(syntax(at, UNQUOTED)),
        }
        fields += 1;
        let more = body.get(at) == Some(&b',');
        if let Some(value) = number {
            let alone = fields == 1 && !more;
            let slot = dictionary.slot(entry, field, alone, out).map_err(|rejection| (at, rejection))?;
            if !value.is_finite() {
                return Err((at, Rejection::new(Cause::RejectedNotFinite, "the number is not finite")));
            }
            dictionary.values.push((slot, value));
        }
        if !more {
            break;
        }
        if fields >= MAX_FIELDS || at - start > MAX_LINE {
            return Err((
                at,
                Rejection::new(
                    Cause::RejectedLimit,
                    format!("over {MAX_FIELDS} fields or {MAX_LINE} bytes in one line"),
                ),
            ));
        }
        expected = field + 1;
        at += 1;
    }
    let (time, end) = read_end(body, at, options.precision.nanoseconds())?;
    commit(time, entry, options, dictionary, out).map_err(|rejection| (at, rejection))?;
    Ok(Line { end, inner_newlines })
}

/// True for `key field=value[,...] [time]`, judged by the first field.
pub(super) fn plausible(line: &[u8]) -> bool {
    let key = until(line, 0, [b' ', b' ']);
    if key == 0 || key == line.len() {
        return false;
    }
    let name = spaces(line, key);
    let equals = until(line, name, [b'=', b' ']);
    if equals == name || line.get(equals) != Some(&b'=') {
        return false;
    }
    let at = equals + 1;
    let value = match line.get(at) {
        Some(b'"') => closing_quote(line, at + 1).map(|close| close + 1),
        Some(b't' | b'T' | b'f' | b'F') => read_boolean(line, at).ok().map(|(_, end)| end),
        Some(_) => read_number(line, at).ok().map(|(_, end)| end),
        None => None,
    };
    value.is_some_and(|end| line.get(end) == Some(&b',') || read_end(line, end, 1).is_ok())
}

#[inline]
fn commit(
    time: Option<i64>,
    entry: u32,
    options: &Options<'_>,
    dictionary: &Dictionary,
    out: &mut IntakeBuilder<'_>,
) -> Result<(), Rejection> {
    // The first push or event decides for all: they share the time, and the values are finite.
    for (slot, value) in &dictionary.values {
        out.push(*slot, time, *value, options.flags)?;
    }
    for (field, text) in &dictionary.texts {
        let entry = dictionary.entry(entry);
        // A tag says how bad it is, as Telegraf's syslog input and our own export write it; a word that is none stays a tag.
        let says = |label: &str, value: &str| {
            matches!(label, "severity" | "level").then(|| Severity::from_word(value)).flatten()
        };
        let severity = entry.labels.iter().find_map(|(label, value)| Some((label, says(label, value)?)));
        let mut attributes = vec![("field".to_owned(), Attribute::Text(field.clone()))];
        let tags = entry.labels.iter().filter(|(label, _)| severity.is_none_or(|(said, _)| said != label));
        attributes.extend(tags.map(|(label, value)| (label.to_string(), Attribute::Text(value.to_string()))));
        out.event(Event {
            source: entry.measurement.to_string(),
            time: time.unwrap_or(out.at().wall),
            severity: severity.map_or(Severity::Info, |(_, severity)| severity),
            body: text.clone(),
            attributes,
        })?;
    }
    Ok(())
}

#[inline]
fn spaces(body: &[u8], mut at: usize) -> usize {
    while body.get(at) == Some(&b' ') {
        at += 1;
    }
    at
}

#[inline]
fn read_number(body: &[u8], at: usize) -> Result<(f64, usize), Wrong> {
    let (value, length) =
        fast_float2::parse_partial::<f64, _>(&body[at..]).map_err(|_| syntax(at, "invalid number"))?;
    let end = at + length;
    match body.get(end) {
        None | Some(b',' | b' ' | b'\n' | b'\r') => Ok((value, end)),
        Some(suffix @ (b'i' | b'u')) => whole(&body[at..end], *suffix, at).map(|value| (value, end + 1)),
        Some(_) => Err(syntax(at, "invalid number")),
    }
}

/// A number with `i` or `u` behind it: digits only, within 64 bits.
fn whole(raw: &[u8], suffix: u8, at: usize) -> Result<f64, Wrong> {
    let text = std::str::from_utf8(raw).map_err(|_| syntax(at, "invalid number"))?;
    let out_of_range = || {
        let reason = format!("unable to parse integer {text}: not a whole number of 64 bits");
        (at, Rejection::new(Cause::RejectedType, reason))
    };
    match suffix {
        b'u' => text.parse::<u64>().map(|value| value as f64).map_err(|_| out_of_range()),
        _ => text.parse::<i64>().map(|value| value as f64).map_err(|_| out_of_range()),
    }
}

fn read_boolean(body: &[u8], at: usize) -> Result<(f64, usize), Wrong> {
    let end = at + body[at..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    match &body[at..end] {
        b"t" | b"T" | b"true" | b"True" | b"TRUE" => Ok((1.0, end)),
        b"f" | b"F" | b"false" | b"False" | b"FALSE" => Ok((0.0, end)),
        _ => Err(syntax(at, "invalid boolean")),
    }
}

/// The time, if there is one, and the start of the next line.
#[inline]
fn read_end(body: &[u8], at: usize, unit: i64) -> Result<(Option<i64>, usize), Wrong> {
    let from = spaces(body, at);
    let negative = body.get(from) == Some(&b'-');
    let digits = from + usize::from(negative);
    let mut end = digits;
    let mut number = 0_i64;
    let mut fits = true;
    while let Some(digit @ b'0'..=b'9') = body.get(end) {
        let digit = i64::from(digit - b'0');
        // 18 digits always fit.
        if end - digits < 18 {
            number = number * 10 + digit;
        } else {
            match number.checked_mul(10).and_then(|number| number.checked_add(digit)) {
                Some(sum) => number = sum,
                None => fits = false,
            }
        }
        end += 1;
    }
    let stamped = end > digits;
    if (stamped || negative) && from == at {
        return Err(syntax(at, "invalid field format"));
    }
    let after = spaces(body, end);
    let next = match (body.get(after), body.get(after + 1)) {
        (None, _) => after,
        (Some(b'\n'), _) => after + 1,
        (Some(b'\r'), Some(b'\n')) => after + 2,
        (Some(b'\r'), None) => after + 1,
        _ if from == at => return Err(syntax(at, "invalid field format")),
        _ => return Err(syntax(at, "bad timestamp")),
    };
    if !stamped {
        return if negative { Err(syntax(at, "bad timestamp")) } else { Ok((None, next)) };
    }
    let time = if fits { (if negative { -number } else { number }).checked_mul(unit) } else { None };
    match time {
        Some(time) => Ok((Some(time), next)),
        None => Err((at, Rejection::new(Cause::RejectedTime, "time outside range"))),
    }
}
