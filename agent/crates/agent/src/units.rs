//! Sizes as people write them: `64KiB`, `10GiB`, `1MB`, or plain bytes.

use schemars::JsonSchema;
use serde::de::Error;
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
        const FORM: &str =
            "a size is written \"64KiB\", \"4MiB\", \"10GiB\", \"1TiB\" or as a number of bytes";
        match Written::deserialize(deserializer).map_err(|_| D::Error::custom(FORM))? {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => {
                units::parse_bytes(&text).map(Self).map_err(|error| D::Error::custom(error.said(FORM)))
            }
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
            "pattern": "^[0-9]+ ?(TiB|GiB|MiB|KiB|TB|GB|MB|KB|B)?$",
            "description": "A size: 64KiB, 4MiB, 10GiB, 1TiB, or a number of bytes."
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]
mod tests {
    use super::*;

    fn read(written: &str) -> Result<ByteSize, String> {
        #[derive(Deserialize)]
        struct File {
            size: ByteSize,
        }
        toml::from_str::<File>(&format!("size = {written}"))
            .map(|file| file.size)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn sizes_are_read_as_people_write_them_and_shown_the_same_way() {
        for text in ["64KiB", "4MiB", "10GiB", "1TiB", "1MB", "7B"] {
            assert_eq!(read(&format!("{text:?}")).unwrap().to_string(), text);
        }
        assert_eq!(read("2048"), Ok(ByteSize::kib(2)));
        assert!(read("\"much\"").unwrap_err().contains("is written \"64KiB\""));
        let large = read("\"99999999999GiB\"").unwrap_err();
        assert!(large.contains("more than can be counted: give a smaller one"), "{large}");
    }
}
