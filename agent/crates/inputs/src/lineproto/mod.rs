//! InfluxDB line protocol, as Telegraf and the InfluxDB clients write it.
//!
//! ```text
//! measurement,tag=value,tag=value field=1.5,count=3i,up=true,note="text" 1709287200000000000
//! ```
//! Numbers and booleans become samples named `measurement.field`, or `measurement` where `value`
//! is the line's only field; tags become labels, and the tag `host` also names the device where
//! there is no tag `device`. A text field becomes an event: source is the measurement, body the
//! text, attributes are the field's name and the tags. docs/how-to/line-protocol.md says it for users.
//!
//! Fast path: a sender repeats the same keys in the same order, so the key and the field that are
//! expected next are compared before anything is scanned ([`dictionary`]); a known line then costs
//! two comparisons, a number and a time.

mod dictionary;
mod line;
mod text;

use telemetry::Cause;

use crate::intake::{IntakeBuilder, Rejection};
use crate::times::Precision;

pub use dictionary::Dictionary;

/// Most refused lines that are reported one by one; all are counted.
pub const MAX_ERRORS: usize = 100;
/// Longest line that is taken.
pub const MAX_LINE: usize = 1 << 20;
/// Most fields of one line.
pub const MAX_FIELDS: usize = 1024;

/// How a body is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// The unit of timestamps.
    pub precision: Precision,
    /// Labels for lines that don't have them as tags.
    pub labels: &'a [(&'a str, &'a str)],
    /// Marks for the samples ([`telemetry::SampleFlags`]).
    pub flags: u8,
}

/// One refused line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError {
    /// Its number in the body, from 1.
    pub line: usize,
    /// What it is counted as.
    pub cause: Cause,
    /// Why, in InfluxDB's words where it has some: `unable to parse 'm v=': missing field value`.
    pub reason: String,
}

/// What became of a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Lines with data that were taken.
    pub taken: u64,
    /// Lines that were refused.
    pub refused: u64,
    /// The first [`MAX_ERRORS`] of them.
    pub errors: Vec<LineError>,
}

/// How far into a body a parse has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The byte at which the next line begins.
    pub offset: usize,
    /// How many lines were passed.
    pub line: usize,
}

/// Parses a body into an intake. A refused line is counted there, reported here, and touches no other line.
pub fn parse(body: &[u8], options: &Options<'_>, out: &mut IntakeBuilder<'_>) -> Parsed {
    let mut parsed = Parsed::default();
    parse_part(body, &mut Progress::default(), usize::MAX, options, out, &mut parsed);
    parsed
}

/// Parses from where the last part ended until `out` holds at least `readings`, or to the end:
/// true when something is left. Large bodies become several intakes so.
pub fn parse_part(
    body: &[u8],
    progress: &mut Progress,
    readings: usize,
    options: &Options<'_>,
    out: &mut IntakeBuilder<'_>,
    parsed: &mut Parsed,
) -> bool {
    let mut dictionary = out.take_dictionary();
    dictionary.context(options.labels);
    let (mut at, mut number) = (progress.offset, progress.line);
    while at < body.len() && out.len() < readings {
        number += 1;
        let start = at + body[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r')).count();
        match body.get(start) {
            None => {
                at = start;
                break;
            }
            Some(b'\n') => {
                at = start + 1;
                continue;
            }
            Some(b'#') => {
                at = next_line(body, start);
                continue;
            }
            Some(_) => {}
        }
        match line::read(body, start, options, &mut dictionary, out) {
            Ok(line) => {
                parsed.taken += 1;
                number += line.inner_newlines;
                at = line.end;
            }
            Err((offset, rejection)) => {
                at = next_line(body, offset);
                refuse(parsed, number, &body[start..at], rejection, out);
            }
        }
    }
    out.put_dictionary(dictionary);
    *progress = Progress { offset: at, line: number };
    at < body.len()
}

#[cold]
fn refuse(
    parsed: &mut Parsed,
    number: usize,
    line: &[u8],
    rejection: Rejection,
    out: &mut IntakeBuilder<'_>,
) {
    let line = line.trim_ascii_end();
    parsed.refused += 1;
    out.rejected(rejection.cause, &rejection.reason, line);
    if parsed.errors.len() < MAX_ERRORS {
        let reason = format!("unable to parse '{}': {}", crate::rejects::excerpt(line), rejection.reason);
        parsed.errors.push(LineError { line: number, cause: rejection.cause, reason });
    }
}

/// True when the text's first line has the form of line protocol; used where that isn't declared.
/// Ordinary text with an equals sign in it is not taken for it.
pub fn plausible(body: &[u8]) -> bool {
    let line = &body[..memchr::memchr(b'\n', body).unwrap_or(body.len())];
    line::plausible(line.trim_ascii())
}

fn next_line(body: &[u8], from: usize) -> usize {
    memchr::memchr(b'\n', &body[from..]).map_or(body.len(), |found| from + found + 1)
}

#[cfg(test)]
mod tests;
