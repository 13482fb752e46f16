//! The mapping section of an input's configuration. The doc comments are the config reference.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How topics and payloads become readings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MappingConfig {
    /// Rules, tried in order before the built-in ones. The first whose topic pattern fits is used.
    #[serde(rename = "rule")]
    pub rules: Vec<RuleConfig>,
    /// Use the built-in rules (Zigbee2MQTT, Tasmota, Shelly, ESPHome, Victron, ChirpStack, The Things
    /// Network, Homie, and `site/device/metric`) for topics that none of `rules` fits.
    pub default_rules: bool,
    /// Time zone of times that are written without an offset, as an IANA name such as
    /// `Europe/Berlin`. Empty: this host's own.
    pub time_zone: String,
    /// Largest payload in bytes.
    pub max_payload: usize,
    /// Most readings of one payload.
    pub max_readings: usize,
    /// Deepest nesting of a JSON payload.
    pub max_depth: usize,
}

impl Default for MappingConfig {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            default_rules: true,
            time_zone: String::new(),
            max_payload: 1 << 20,
            max_readings: 10_000,
            max_depth: 32,
        }
    }
}

/// What a payload is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PayloadKind {
    /// Looked at: a number, JSON, line protocol, a word for a state, other text.
    #[default]
    Auto,
    /// One number, or a word for a state (`ON`, `off`, `true`, `open`, ...).
    Number,
    /// JSON, flattened by path.
    Json,
    /// InfluxDB line protocol; the topic's site and device are added as labels where the lines have none.
    LineProtocol,
    /// Text: one event.
    Text,
    /// Known, and not a reading (commands, configuration): counted as `reduced_drop`.
    Ignore,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuleConfig {
    /// Topic pattern. A level is a literal, `+` (any level), `{name}` (any level, captured) or, as the
    /// last one, `#` (any rest) or `{name...}` (one or more levels, captured and joined with dots).
    pub topic: String,
    /// What the payload is.
    pub payload: PayloadKind,
    /// Name of the metric, with captures: `{metric}`. Empty: the capture `metric`, or the path within the payload.
    pub name: String,
    /// Site, with captures. Empty: the capture `site`.
    pub site: String,
    /// Device, with captures. Empty: the capture `device`.
    pub device: String,
    /// Further labels, with captures. Captures other than site, device and metric become labels by themselves.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Unit of the values in UCUM notation, such as `Cel`.
    pub unit: String,
    /// Path of the part of a JSON payload that holds the readings, such as `uplink_message.decoded_payload`. Empty: all of it.
    pub root: String,
    /// Path of the time within the whole JSON payload. Empty: a field called `time`, `timestamp` or `ts` of each object.
    pub time: String,
    /// Path of a text within the whole JSON payload that names the device.
    pub device_field: String,
}

/// Why a mapping can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mapping: {what}")]
pub struct MappingError {
    /// What is wrong and what to change.
    pub what: String,
}
