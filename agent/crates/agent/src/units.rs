//! Sizes as people write them: `64KiB`, `10GiB`, `1MB`, or plain bytes.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use telemetry::units;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// That many KiB.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }
    /// That many MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
    /// That many GiB.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    fn parse(text: &str) -> Option<Self> {
        units::parse_bytes(text).map(Self)
    }
}

impl std::fmt::Display for ByteSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&units::show(self.0, &units::BYTES).unwrap_or_else(|| "0B".into()))
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        let refused = || {
            serde::de::Error::custom(
                "a size is written \"64KiB\", \"4MiB\", \"10GiB\" or as a number of bytes",
            )
        };
        match Written::deserialize(deserializer).map_err(|_| refused())? {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => Self::parse(&text).ok_or_else(refused),
        }
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-9]+ ?(GiB|MiB|KiB|GB|MB|KB|B)?$",
            "description": "A size: 64KiB, 4MiB, 10GiB, or a number of bytes."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them_and_shown_the_same_way() {
        for text in ["64KiB", "4MiB", "10GiB", "1MB", "7B"] {
            assert_eq!(ByteSize::parse(text).map(|size| size.to_string()).as_deref(), Some(text));
        }
        assert_eq!(ByteSize::parse("2048"), Some(ByteSize::kib(2)));
        assert_eq!(ByteSize::parse("much"), None);
        assert_eq!(ByteSize::parse("99999999999GiB"), None);
    }
}
