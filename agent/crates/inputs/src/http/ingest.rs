//! A request's body as intakes: line protocol, JSON events, JSON samples.

use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode};
use jiff::tz::TimeZone;
use telemetry::{Cause, Intake, Stamp, Traced};

use super::answer::Failure;
use super::parameters::Parameters;
use super::samples;
use crate::door::Door;
use crate::events;
use crate::intake::{IntakeBuilder, Rejection, SeriesCache};
use crate::json::{self, Json};
use crate::lineproto::{self, Parsed, Progress};
use crate::times::Precision;

/// Most readings of one request: it is taken as a whole or not at all, so it must fit the journal's queue.
pub(super) const MAX_READINGS: usize = 500_000;
/// Readings of one journal record.
const PER_RECORD: usize = 100_000;
/// Most bytes of event text in one journal record.
const RECORD_BYTES: usize = 4 << 20;
/// Refused readings that are reported one by one.
const REPORTED: usize = 10;

/// What a body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Lines,
    Events,
    Samples,
}

/// How a request wants its body read.
#[derive(Clone, Debug)]
pub(super) struct Options {
    kind: Kind,
    precision: Precision,
    /// For events that name no source.
    source: String,
    /// One JSON value a line, by the content type's word.
    ndjson: bool,
}

impl Options {
    pub(super) fn new<B>(kind: Kind, parameters: &Parameters, request: &Request<B>) -> Result<Self, Failure> {
        let precision = parameters.get("precision").unwrap_or_default();
        let Some(precision) = Precision::from_parameter(precision) else {
            return Err(Failure::invalid(format!(
                "invalid precision {precision:?} (use n, u, ms, s, m or h; ns, us, ms or s)"
            )));
        };
        let content_type =
            request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let media = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        let ndjson =
            matches!(media.as_str(), "application/x-ndjson" | "application/ndjson" | "application/jsonl");
        if kind != Kind::Lines {
            // curl's default for --data is let through: people try things with it.
            let readable = ndjson
                || matches!(
                    media.as_str(),
                    "" | "application/json"
                        | "text/plain"
                        | "application/x-www-form-urlencoded"
                        | "application/octet-stream"
                )
                || media.ends_with("+json");
            if !readable {
                return Err(Failure::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "unsupported_media_type",
                    format!("Content-Type {media:?} is not read here"),
                    "send application/json or application/x-ndjson",
                ));
            }
        }
        let source = parameters.get("source").filter(|source| !source.is_empty()).unwrap_or("http");
        Ok(Self { kind, precision, source: source.to_owned(), ndjson })
    }
}

/// A body that was read.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) intakes: Vec<Intake>,
    taken: u64,
    refused: u64,
    /// (line or element from 1, cause, reason): the first few.
    errors: Vec<(usize, Cause, String)>,
}

impl Taken {
    /// Readings in it, good ones only.
    pub(super) fn readings(&self) -> u64 {
        self.intakes.iter().map(|intake| intake.len() as u64).sum()
    }

    /// The last intake; there is one afterwards.
    pub(super) fn last(&mut self, door: &Door) -> &mut Intake {
        if self.intakes.is_empty() {
            self.intakes.push(Intake::new(door.input, door.now()));
        }
        let last = self.intakes.len() - 1;
        &mut self.intakes[last]
    }

    /// The sender's trace goes on with the last of it that holds readings.
    pub(super) fn trace(&mut self, traced: Option<Traced>) {
        if let Some(last) = self.intakes.iter_mut().rfind(|intake| intake.has_readings()) {
            last.trace = traced;
        }
    }

    /// Whether all of it was refused.
    pub(super) fn is_refused(&self) -> bool {
        self.taken == 0 && self.refused > 0
    }

    /// What the sender is told when something was refused. The good part is kept all the same.
    pub(super) fn failure(&self, options: &Options) -> Option<Failure> {
        if self.refused == 0 {
            return None;
        }
        let several = |text: &(usize, Cause, String)| format!("{} (line {})", text.2, text.0);
        let shown: Vec<String> = self.errors.iter().map(several).collect();
        let mut message = shown.join("; ");
        if self.refused as usize > self.errors.len() {
            message.push_str(&format!("; and {} more", self.refused as usize - self.errors.len()));
        }
        if self.taken > 0 {
            message = format!("partial write: {message} dropped={}", self.refused);
        }
        let mut failure = Failure::invalid(message);
        if options.kind != Kind::Lines {
            let list = self.errors.iter().map(
                |(at, cause, reason)| serde_json::json!({ "number": at, "cause": cause.name(), "reason": reason }),
            );
            failure.partial = Some(Box::new((self.taken, list.collect())));
        }
        Some(failure)
    }

    fn refuse(&mut self, number: usize, rejection: &Rejection) {
        self.refused += 1;
        if self.errors.len() < REPORTED {
            self.errors.push((number, rejection.cause, rejection.reason.clone()));
        }
    }
}

/// Reads a body.
///
/// # Errors
/// [`Failure`] when nothing of it is taken: it isn't JSON at all, or holds too many readings.
pub(super) fn read(
    body: &[u8],
    options: &Options,
    door: &Door,
    cache: &mut SeriesCache,
    zone: &TimeZone,
) -> Result<Taken, Failure> {
    let at = door.now();
    match options.kind {
        Kind::Lines => lines(body, options, door, cache, at),
        Kind::Events | Kind::Samples => values(body, options, door, cache, at, zone),
    }
}

fn too_many(door: &Door) -> Failure {
    let failure = Failure::too_large(format!("over {MAX_READINGS} readings in one request"));
    door.reject(Cause::RejectedLimit, &failure.message, b"");
    failure
}

fn lines(
    body: &[u8],
    options: &Options,
    door: &Door,
    cache: &mut SeriesCache,
    at: Stamp,
) -> Result<Taken, Failure> {
    let settings = lineproto::Options { precision: options.precision, ..lineproto::Options::default() };
    let mut taken = Taken::default();
    let mut parsed = Parsed::default();
    let mut progress = Progress::default();
    let mut readings = 0;
    loop {
        let mut out = IntakeBuilder::new(door, cache, at);
        out.reserve(((body.len() - progress.offset) / 48).clamp(8, PER_RECORD));
        let more = lineproto::parse_part(body, &mut progress, PER_RECORD, &settings, &mut out, &mut parsed);
        readings += out.len();
        if readings > MAX_READINGS {
            return Err(too_many(door));
        }
        taken.intakes.push(out.finish());
        if !more {
            break;
        }
    }
    taken.taken = parsed.taken;
    taken.refused = parsed.refused;
    taken.errors = parsed
        .errors
        .into_iter()
        .take(REPORTED)
        .map(|error| (error.line, error.cause, error.reason))
        .collect();
    Ok(taken)
}

/// One JSON value, an array of them, or one a line.
fn values(
    body: &[u8],
    options: &Options,
    door: &Door,
    cache: &mut SeriesCache,
    at: Stamp,
    zone: &TimeZone,
) -> Result<Taken, Failure> {
    let mut taken = Taken::default();
    let trimmed = body.trim_ascii();
    if trimmed.is_empty() {
        return Err(whole(door, &Rejection::new(Cause::RejectedSyntax, "the body is empty"), body));
    }
    let mut filler =
        Filler { options, door, cache, at, zone, taken: &mut taken, pending: None, bytes: 0, readings: 0 };
    if trimmed[0] == b'[' && !options.ndjson {
        // Not UTF-8 or not JSON: nothing is taken, for what came before may be half of something.
        let result =
            json::each_element(trimmed, events::BOUNDS, |index, value| filler.value(index + 1, &value, b""));
        filler.close();
        if let Err(rejection) = result {
            return Err(whole(door, &rejection, body));
        }
    } else {
        let single = if options.ndjson { None } else { Some(json::parse(trimmed, events::BOUNDS)) };
        match single {
            Some(Ok(value)) => filler.value(1, &value, trimmed),
            // Several lines: each is judged by itself.
            single if memchr::memchr(b'\n', trimmed).is_some() || single.is_none() => {
                for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
                    let line = line.trim_ascii();
                    if line.is_empty() {
                        continue;
                    }
                    match json::parse(line, events::BOUNDS) {
                        Ok(value) => filler.value(index + 1, &value, line),
                        Err(rejection) => filler.refuse(index + 1, &rejection, line),
                    }
                }
            }
            Some(Err(rejection)) => return Err(whole(door, &rejection, body)),
            None => {}
        }
        filler.close();
    }
    if filler.readings > MAX_READINGS {
        return Err(too_many(door));
    }
    Ok(taken)
}

/// Refuses a body as a whole.
fn whole(door: &Door, rejection: &Rejection, body: &[u8]) -> Failure {
    door.reject(rejection.cause, &rejection.reason, body);
    let failure = Failure::invalid(rejection.reason.clone());
    match rejection.cause {
        Cause::RejectedLimit => {
            Failure { status: StatusCode::PAYLOAD_TOO_LARGE, code: "too_large", ..failure }
        }
        _ => failure,
    }
}

/// Fills intakes with values as they come, a new one whenever the last is large enough.
struct Filler<'f> {
    options: &'f Options,
    door: &'f Door,
    cache: &'f mut SeriesCache,
    at: Stamp,
    zone: &'f TimeZone,
    taken: &'f mut Taken,
    pending: Option<Vec<Pending>>,
    bytes: usize,
    readings: usize,
}

/// A value on its way into an intake.
enum Pending {
    Event(telemetry::Event, usize),
    Sample(samples::Sample, usize),
    Refused(Rejection, Vec<u8>),
}

impl Filler<'_> {
    fn value(&mut self, number: usize, json: &Json<'_>, text: &[u8]) {
        if self.readings > MAX_READINGS {
            return;
        }
        let read = match self.options.kind {
            Kind::Samples => samples::read(json, self.zone).map(|sample| Pending::Sample(sample, number)),
            _ => events::read(json, &self.options.source, self.at.wall, self.zone)
                .map(|event| Pending::Event(event, number)),
        };
        match read {
            Ok(pending) => self.push(pending),
            Err(rejection) => self.refuse(number, &rejection, text),
        }
    }

    fn refuse(&mut self, number: usize, rejection: &Rejection, text: &[u8]) {
        self.taken.refuse(number, rejection);
        let text = text[..text.len().min(crate::rejects::MAX_EXCERPT)].to_vec();
        self.push(Pending::Refused(rejection.clone(), text));
    }

    fn push(&mut self, pending: Pending) {
        self.bytes += match &pending {
            Pending::Event(event, _) => {
                64 + event.source.len() + event.body.len() + event.attributes.len() * 48
            }
            Pending::Sample(..) => 24,
            Pending::Refused(..) => 0,
        };
        self.readings += 1;
        let list = self.pending.get_or_insert_default();
        list.push(pending);
        if list.len() >= PER_RECORD || self.bytes >= RECORD_BYTES {
            self.close();
        }
    }

    /// Makes an intake of what is pending.
    fn close(&mut self) {
        self.bytes = 0;
        let Some(list) = self.pending.take() else { return };
        let mut out = IntakeBuilder::new(self.door, self.cache, self.at);
        for pending in list {
            let (result, number) = match pending {
                Pending::Event(event, number) => (out.event(event), number),
                Pending::Sample(sample, number) => (sample.put(&mut out), number),
                Pending::Refused(rejection, text) => {
                    out.rejected(rejection.cause, &rejection.reason, &text);
                    continue;
                }
            };
            match result {
                Ok(()) => self.taken.taken += 1,
                Err(rejection) => {
                    out.rejected(rejection.cause, &rejection.reason, b"");
                    self.taken.refuse(number, &rejection);
                }
            }
        }
        self.taken.intakes.push(out.finish());
    }
}
