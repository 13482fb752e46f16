//! Durations in the configuration, as people write them: `500ms`, `10s`, `5m`, `24h`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use telemetry::units::{self, Unit, Unreadable};

/// A duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// In nanoseconds.
const UNITS: [Unit; 5] = [
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

impl Span {
    /// That many seconds.
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    fn parse(text: &str) -> Result<Self, Unreadable> {
        units::parse(text, &UNITS).map(|ns| Self(Duration::from_nanos(ns)))
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ns = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        match UNITS.iter().rev().find(|(_, unit)| ns != 0 && ns.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", ns / unit),
            None => f.write_str("0s"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const FORM: &str = "a duration is written \"500ms\", \"10s\", \"5m\", \"24h\" or \"7d\"";
        let text = String::deserialize(deserializer).map_err(|_| D::Error::custom(FORM))?;
        Self::parse(&text).map_err(|error| D::Error::custom(error.said(FORM)))
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-9]+ ?(ms|s|m|h|d)$",
            "description": "A duration: 500ms, 10s, 5m, 24h, 7d."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them_and_shown_the_same_way() {
        for text in ["500ms", "10s", "5m", "23h", "7d"] {
            assert_eq!(Span::parse(text).map(|span| span.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(Span::parse("60s"), Ok(Span::secs(60)));
        for bad in ["", "s", "10", "-1s", "1.5s", "10 parsecs"] {
            assert_eq!(Span::parse(bad), Err(Unreadable::Form), "{bad}");
        }
        assert_eq!(Span::parse("99999999999999999999d"), Err(Unreadable::TooLarge));
    }
}
