//! Bandwidths and pauses as people write them: `64KiB/s`, `1MB/s`, `5m`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use telemetry::units::{self, Unreadable};

/// Bytes per second; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate(pub u64);

impl Rate {
    fn parse(text: &str) -> Result<Self, Unreadable> {
        let size = text.strip_suffix("/s").unwrap_or(text).trim_end();
        units::parse_bytes(size).map(Self)
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match units::show(self.0, &units::BYTES) {
            Some(text) => write!(f, "{text}/s"),
            None => f.write_str("0"),
        }
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        const FORM: &str =
            "a bandwidth is written \"64KiB/s\", \"1MB/s\" or as a number of bytes per second; 0 is no limit";
        match Written::deserialize(deserializer).map_err(|_| D::Error::custom(FORM))? {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => Self::parse(&text).map_err(|error| D::Error::custom(error.said(FORM))),
        }
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bandwidth".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-9]+ ?(TiB|GiB|MiB|KiB|TB|GB|MB|KB|B)?(/s)?$",
            "description": "Bytes per second: 64KiB/s, 1MB/s, or a number; 0 is no limit."
        })
    }
}

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause(pub Duration);

impl Pause {
    fn parse(text: &str) -> Result<Self, Unreadable> {
        units::parse(text, &units::TIMES).map(|ms| Self(Duration::from_millis(ms)))
    }
}

impl std::fmt::Display for Pause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        f.write_str(&units::show(ms, &units::TIMES).unwrap_or_else(|| "0s".into()))
    }
}

impl Serialize for Pause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pause {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const FORM: &str = "a duration is written \"500ms\", \"10s\", \"5m\", \"24h\" or \"7d\"";
        let text = String::deserialize(deserializer).map_err(|_| D::Error::custom(FORM))?;
        Self::parse(&text).map_err(|error| D::Error::custom(error.said(FORM)))
    }
}

impl JsonSchema for Pause {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Pause".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-9]+ ?(ms|s|m|h|d)$",
            "description": "A duration: 500ms, 10s, 5m, 24h."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidths_are_read_as_people_write_them_and_shown_the_same_way() {
        for text in ["64KiB/s", "4MiB/s", "1MB/s", "7B/s"] {
            assert_eq!(Rate::parse(text).map(|rate| rate.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(Rate::parse("64 KiB"), Ok(Rate(64 << 10)));
        assert_eq!(Rate::parse("2048"), Ok(Rate(2048)));
        assert_eq!(Rate::parse("0"), Ok(Rate(0)));
        for bad in ["", "/s", "fast", "-1KiB/s", "1.5MB/s", "64KiB/min"] {
            assert_eq!(Rate::parse(bad), Err(Unreadable::Form), "{bad}");
        }
        assert_eq!(Rate::parse("99999999999GiB/s"), Err(Unreadable::TooLarge));
    }

    #[test]
    fn pauses_are_read_as_people_write_them_and_shown_the_same_way() {
        for text in ["500ms", "10s", "5m", "23h"] {
            assert_eq!(Pause::parse(text).map(|pause| pause.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(Pause::parse("5"), Err(Unreadable::Form));
        assert_eq!(Pause::parse("9999999999999999d"), Err(Unreadable::TooLarge));
    }
}
