//! Events as applications write them: a JSON object with a time, a severity, a source and a text.
//!
//! ```json
//! {"time": "2024-03-01T10:00:00Z", "level": "warn", "logger": "billing", "message": "slow", "order": {"id": 7}}
//! ```
//! What is none of these is an attribute, named by its path: `order.id`. Shared by the HTTP and TCP inputs.

use std::borrow::Cow;

use jiff::tz::TimeZone;
use telemetry::{Attribute, Cause, Event, Severity};

use crate::intake::Rejection;
use crate::json::{Bounds, Json};
use crate::times::{self, Time};

/// What one event may ask for.
pub const BOUNDS: Bounds = Bounds { depth: 16, nodes: 2048 };

const TIME: [&str; 4] = ["time", "timestamp", "ts", "@timestamp"];
const SEVERITY: [&str; 4] = ["severity", "level", "severity_text", "severity_number"];
const SOURCE: [&str; 5] = ["source", "logger", "service", "service.name", "app"];
const BODY: [&str; 3] = ["body", "message", "msg"];

fn wrong(key: &str, expected: &str) -> Rejection {
    Rejection::new(Cause::RejectedType, format!("{key:?} must be {expected}"))
}

/// Reads one event. `source` is used where it names none, `arrival` where it has no time.
///
/// # Errors
/// [`Rejection`]: no object, a field of the wrong type, a time that can't be read, or nothing in it.
pub fn read(json: &Json<'_>, source: &str, arrival: i64, zone: &TimeZone) -> Result<Event, Rejection> {
    let Json::Object(fields) = json else {
        return Err(Rejection::new(Cause::RejectedType, "an event must be a JSON object"));
    };
    let mut event = Event {
        source: source.to_owned(),
        time: arrival,
        severity: Severity::Info,
        body: String::new(),
        attributes: Vec::new(),
    };
    // The first of each group that is there counts; the others stay attributes.
    let first = |keys: &[&'static str]| {
        keys.iter().find_map(|key| match json.get(key) {
            None | Some(Json::Null) => None,
            Some(value) => Some((*key, value)),
        })
    };
    let (time, severity, named, body) = (first(&TIME), severity(fields), first(&SOURCE), first(&BODY));
    if let Some((key, value)) = time {
        event.time = read_time(key, value, zone)?.unwrap_or(arrival);
    }
    if let Some((_, read)) = &severity {
        event.severity = read.clone()?;
    }
    if let Some((key, value)) = named {
        event.source = value.text().ok_or_else(|| wrong(key, "text"))?.to_owned();
    }
    if let Some((key, value)) = body {
        event.body = match value {
            Json::Text(text) => text.to_string(),
            Json::Bool(value) => value.to_string(),
            Json::Int(value) => value.to_string(),
            Json::Float(value) => value.to_string(),
            _ => return Err(wrong(key, "text")),
        };
    }
    let severity = severity.map(|(key, _)| key);
    let [time, named, body] = [time, named, body].map(|found| found.map(|(key, _)| key));
    let used = [time, severity, named, body];
    for (key, value) in fields {
        if used.contains(&Some(key.as_ref())) {
            continue;
        }
        let path = if key == "attributes" && matches!(value, Json::Object(_)) { "" } else { key.as_ref() };
        flatten(path, value, &mut event.attributes);
    }
    if event.body.is_empty() && event.attributes.is_empty() {
        return Err(Rejection::new(
            Cause::RejectedSyntax,
            "an event needs a body (\"body\", \"message\" or \"msg\") or at least one further field",
        ));
    }
    Ok(event)
}

/// A time, or `None` where the sender's clock was never set.
pub(crate) fn read_time(key: &str, value: &Json<'_>, zone: &TimeZone) -> Result<Option<i64>, Rejection> {
    let time = match value {
        Json::Int(number) => times::from_int(*number),
        Json::Float(number) => times::from_float(*number),
        Json::Text(text) => times::from_text(text, zone),
        _ => return Err(wrong(key, "a time: epoch s, ms, us or ns, or RFC 3339")),
    };
    match time {
        Ok(Time::At(time)) => Ok(Some(time)),
        Ok(Time::ClockNotSet) => Ok(None),
        Err(error) => Err(Rejection::new(Cause::RejectedTime, format!("{key:?}: {error}"))),
    }
}

/// What an object's fields say of how bad it is, and which of them says it; `None` where none does.
pub(crate) fn severity(
    fields: &[(Cow<'_, str>, Json<'_>)],
) -> Option<(&'static str, Result<Severity, Rejection>)> {
    SEVERITY.iter().find_map(|key| match fields.iter().rev().find(|(name, _)| name == key)? {
        (_, Json::Null) => None,
        (_, value) => Some((*key, read_severity(key, value))),
    })
}

fn read_severity(key: &str, value: &Json<'_>) -> Result<Severity, Rejection> {
    let expected = "a word such as info, warn or error, or OpenTelemetry's number from 1 to 24";
    match value {
        Json::Text(word) => {
            let number = word.trim().parse::<u8>().ok().and_then(Severity::from_number);
            Severity::from_word(word.trim()).or(number).ok_or_else(|| wrong(key, expected))
        }
        Json::Int(number) => match number {
            // What bunyan and pino write; below 25 the number is OpenTelemetry's.
            30 => Some(Severity::Info),
            40 => Some(Severity::Warn),
            50 => Some(Severity::Error),
            60 => Some(Severity::Fatal),
            other => u8::try_from(*other).ok().and_then(Severity::from_number),
        }
        .ok_or_else(|| wrong(key, expected)),
        _ => Err(wrong(key, expected)),
    }
}

fn flatten(path: &str, value: &Json<'_>, out: &mut Vec<(String, Attribute)>) {
    let join = |part: &str| {
        if path.is_empty() {
            Cow::Owned(part.to_owned())
        } else {
            Cow::<str>::Owned(format!("{path}.{part}"))
        }
    };
    let attribute = match value {
        Json::Null => return,
        Json::Bool(value) => Attribute::Bool(*value),
        Json::Int(value) => Attribute::Int(*value),
        Json::Float(value) => Attribute::Float(*value),
        Json::Text(text) => Attribute::Text(text.to_string()),
        Json::List(items) => {
            for (at, item) in items.iter().enumerate() {
                flatten(&join(&at.to_string()), item, out);
            }
            return;
        }
        Json::Object(fields) => {
            for (key, value) in fields {
                flatten(&join(key), value, out);
            }
            return;
        }
    };
    out.push((path.to_owned(), attribute));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;
    use proptest::prelude::*;

    fn event(text: &str) -> Result<Event, Rejection> {
        read(&json::parse(text.as_bytes(), BOUNDS)?, "http", 7, &TimeZone::UTC)
    }

    #[test]
    fn the_names_that_loggers_use_are_all_understood() {
        for text in [
            r#"{"time":"2024-03-01T10:00:00Z","severity":"WARNING","source":"billing","body":"slow","order":{"id":7,"tags":["a"]}}"#,
            r#"{"@timestamp":1709287200000,"level":13,"logger":"billing","message":"slow","order":{"id":7,"tags":["a"]}}"#,
            r#"{"ts":"1709287200","level":40,"service":"billing","msg":"slow","attributes":{"order":{"id":7,"tags":["a"]}}}"#,
        ] {
            let event = event(text).unwrap();
            assert_eq!((event.time, event.severity), (1_709_287_200_000_000_000, Severity::Warn), "{text}");
            assert_eq!((event.source.as_str(), event.body.as_str()), ("billing", "slow"));
            assert_eq!(
                event.attributes,
                [
                    ("order.id".into(), Attribute::Int(7)),
                    ("order.tags.0".into(), Attribute::Text("a".into()))
                ]
            );
        }
    }

    #[test]
    fn what_is_not_said_is_filled_in() {
        let event = event(r#"{"message":5}"#).unwrap();
        assert_eq!(
            (event.time, event.severity, event.source.as_str(), event.body.as_str()),
            (7, Severity::Info, "http", "5")
        );
    }

    #[test]
    fn a_second_name_for_the_same_thing_stays_an_attribute() {
        let event = event(r#"{"message":"a","msg":"b","level":null,"x":null}"#).unwrap();
        assert_eq!(event.attributes, [("msg".into(), Attribute::Text("b".into()))]);
    }

    #[test]
    fn wrong_types_are_refused_by_the_fields_name() {
        for (text, cause, why) in [
            ("5", Cause::RejectedType, "JSON object"),
            (r#"{"message":{"a":1}}"#, Cause::RejectedType, "message"),
            (r#"{"message":"x","source":5}"#, Cause::RejectedType, "source"),
            (r#"{"message":"x","level":"loud"}"#, Cause::RejectedType, "level"),
            (r#"{"message":"x","level":[]}"#, Cause::RejectedType, "level"),
            (r#"{"message":"x","time":"noon"}"#, Cause::RejectedTime, "noon"),
            (r#"{"message":"x","time":{}}"#, Cause::RejectedType, "time"),
            ("{}", Cause::RejectedSyntax, "needs a body"),
            (r#"{"level":"info"}"#, Cause::RejectedSyntax, "needs a body"),
        ] {
            let rejection = event(text).unwrap_err();
            assert_eq!(rejection.cause, cause, "{text}");
            assert!(rejection.reason.contains(why), "{text}: {rejection}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(json) = json::parse(&bytes, BOUNDS) {
                let _ = read(&json, "s", 0, &TimeZone::UTC);
            }
        }
    }
}
