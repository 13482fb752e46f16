//! Words and numbers in payloads.

/// A number as people write it: decimal, no thousands separators, no comma. `NaN` and infinities
/// are numbers too (and refused later, by that name).
pub(super) fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    match text.as_bytes().first()? {
        b'0'..=b'9' | b'+' | b'-' | b'.' => fast_float2::parse(text).ok(),
        b'n' | b'N' | b'i' | b'I' if text.len() <= 8 => match text.to_ascii_lowercase().as_str() {
            "nan" => Some(f64::NAN),
            "inf" | "infinity" => Some(f64::INFINITY),
            _ => None,
        },
        _ => None,
    }
}

/// The words that stand for 1 and 0.
pub(super) fn state(text: &str) -> Option<f64> {
    let text = text.trim();
    if text.len() > 6 {
        return None;
    }
    Some(match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "open" => 1.0,
        "off" | "false" | "closed" => 0.0,
        _ => return None,
    })
}

/// True for a key that holds the time of its object.
pub(super) fn is_time_key(key: &str) -> bool {
    key.len() <= 10
        && matches!(
            key.to_ascii_lowercase().as_str(),
            "time" | "timestamp" | "ts" | "@timestamp" | "datetime" | "date_time" | "last_seen"
        )
}

/// True for a key that holds the one value of its object.
pub(super) fn is_value_key(key: &str) -> bool {
    matches!(key, "value" | "v" | "val" | "Value")
}

/// True for a key whose text is an event by itself, even beside numbers.
pub(super) fn is_event_key(key: &str) -> bool {
    matches!(key, "action" | "event" | "message" | "msg" | "error" | "alarm" | "fault" | "warning")
}

/// True for a topic's last level that names the kind of message and not what it measures.
pub(super) fn is_envelope(level: &str) -> bool {
    let level = level.to_ascii_lowercase();
    matches!(
        level.as_str(),
        "telemetry"
            | "data"
            | "state"
            | "status"
            | "sensor"
            | "sensors"
            | "values"
            | "json"
            | "up"
            | "attributes"
            | "measurement"
            | "measurements"
            | "reading"
            | "readings"
            | "result"
            | "metrics"
            | "info1"
            | "info2"
            | "info3"
    ) || level.strip_prefix("status").is_some_and(|rest| rest.parse::<u8>().is_ok())
}
