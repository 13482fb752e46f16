//! Whole lines out of a stream of bytes, within a limit, and what they say.

use jiff::tz::TimeZone;
use telemetry::{Cause, Intake};

use super::config::Format;
use super::connection::Terms;
use crate::door::Door;
use crate::events;
use crate::intake::{IntakeBuilder, Rejection, SeriesCache};
use crate::json;
use crate::lineproto::{self, Parsed, Progress};

/// What was received and not yet read. A line over the limit is dropped as it comes.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Inside a line that is too long: everything up to its end is passed over.
    skipping: bool,
}

impl Buffer {
    /// Where new bytes go.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The first line without its end, if one is whole.
    pub(super) fn first_line(&self) -> Option<&[u8]> {
        let end = memchr::memchr(b'\n', &self.bytes)?;
        Some(self.bytes[..end].trim_ascii_end())
    }

    /// Drops the first line.
    pub(super) fn drop_line(&mut self) {
        let end = memchr::memchr(b'\n', &self.bytes).map_or(self.bytes.len(), |end| end + 1);
        self.bytes.drain(..end);
    }

    /// Takes out all whole lines, or at the end of the stream everything.
    pub(super) fn whole(&mut self, ended: bool) -> Vec<u8> {
        if self.skipping {
            match memchr::memchr(b'\n', &self.bytes) {
                Some(end) => {
                    self.bytes.drain(..=end);
                    self.skipping = false;
                }
                None => {
                    self.bytes.clear();
                    return Vec::new();
                }
            }
        }
        let end = match memchr::memrchr(b'\n', &self.bytes) {
            _ if ended => self.bytes.len(),
            Some(last) => last + 1,
            None => return Vec::new(),
        };
        let rest = self.bytes.split_off(end);
        std::mem::replace(&mut self.bytes, rest)
    }

    /// Begins to pass over the line that is being received when it is longer than `max`: true once a line.
    pub(super) fn overlong(&mut self, max: usize) -> bool {
        let over = !self.skipping && self.bytes.len() > max;
        if over {
            self.bytes.clear();
            self.skipping = true;
        }
        over
    }
}

/// What became of a block of lines.
pub(super) struct Block {
    pub(super) intake: Intake,
    /// Lines in it, refused and empty ones too.
    pub(super) lines: u64,
    /// (line from 0, reason) of refused ones.
    pub(super) errors: Vec<(u64, String)>,
}

/// Reads a block of whole lines.
pub(super) fn read(
    block: &[u8],
    format: Format,
    terms: &Terms,
    door: &Door,
    cache: &mut SeriesCache,
) -> Block {
    let mut out = IntakeBuilder::new(door, cache, door.now());
    let mut errors = Vec::new();
    let lines = match format {
        Format::Ndjson => {
            let mut count = 0;
            for line in block.split_inclusive(|byte| *byte == b'\n') {
                let line = line.trim_ascii();
                if let Err(rejection) = event(line, &terms.zone, &mut out) {
                    out.rejected(rejection.cause, &rejection.reason, line);
                    errors.push((count, rejection.reason));
                }
                count += 1;
            }
            count
        }
        Format::Auto | Format::LineProtocol => {
            let options = lineproto::Options { precision: terms.precision, ..lineproto::Options::default() };
            let mut parsed = Parsed::default();
            let mut progress = Progress::default();
            out.reserve(block.len() / 48);
            lineproto::parse_part(block, &mut progress, usize::MAX, &options, &mut out, &mut parsed);
            let listed = parsed.errors.len() as u64;
            errors.extend(parsed.errors.into_iter().map(|error| (error.line as u64 - 1, error.reason)));
            let lines = memchr::memchr_iter(b'\n', block).count() as u64 + u64::from(!block.ends_with(b"\n"));
            if parsed.refused > listed {
                errors
                    .push((lines - 1, format!("and {} more lines before this one", parsed.refused - listed)));
            }
            lines
        }
    };
    Block { intake: out.finish(), lines, errors }
}

fn event(line: &[u8], zone: &TimeZone, out: &mut IntakeBuilder<'_>) -> Result<(), Rejection> {
    if line.is_empty() {
        return Ok(());
    }
    let json = json::parse(line, events::BOUNDS)?;
    out.event(events::read(&json, "tcp", out.at().wall, zone)?)
}

/// The refusal of a line that is too long.
pub(super) fn too_long(max: usize) -> Rejection {
    Rejection::new(Cause::RejectedLimit, format!("the line is over {max} bytes (input.tcp.max_line)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_the_bytes_come() {
        let mut buffer = Buffer::default();
        let mut seen = Vec::new();
        for byte in b"one\ntwo\r\nthree" {
            buffer.room().push(*byte);
            seen.extend(buffer.whole(false));
        }
        assert_eq!(seen, b"one\ntwo\r\n");
        assert_eq!(buffer.whole(true), b"three");
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_the_next_one_read() {
        let mut buffer = Buffer::default();
        buffer.room().extend_from_slice(&[b'x'; 20]);
        assert!(buffer.overlong(10));
        buffer.room().extend_from_slice(b"xxxxxxxxxxxxxxx");
        assert_eq!(buffer.whole(false), b"");
        assert!(!buffer.overlong(10));
        buffer.room().extend_from_slice(b"xx\nnext\n");
        assert_eq!(buffer.whole(false), b"next\n");
    }
}
