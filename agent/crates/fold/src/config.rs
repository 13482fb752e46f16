//! What the fold does with which series: routes, window lengths, lateness, future limit.
//!
//! Written in the agent's TOML under `[fold]`, and carried as JSON in a config record, so that the
//! same words apply when the record is replayed.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use telemetry::units::{self, Unit, Unreadable};
use telemetry::{SeriesKey, glob};

/// Units of a length of time, in nanoseconds.
const LENGTHS: [Unit; 5] = [
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];
const SECOND: i64 = 1_000_000_000;

/// Most routes of a configuration.
pub const MAX_ROUTES: usize = 1_000;

/// How readings are reduced before they are shipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FoldConfig {
    /// Routes, tried in order; the first that fits a series decides. What none fits is kept raw.
    #[serde(alias = "routes")]
    pub route: Vec<Route>,
    /// How long after its end a window stays open for readings that come out of order.
    pub lateness: Span,
    /// A reading further ahead of this host's clock than this is refused (`rejected_time`). More than a day counts for the
    /// inputs from the next start on.
    pub future_limit: Span,
}

/// One route: which series it takes, and what becomes of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Metric name as a glob (`*` any text, `?` any character), e.g. `vibration.*`.
    #[serde(rename = "match", default = "any")]
    pub name: String,
    /// Labels that must fit too, each value a glob, e.g. `{ device = "pump-*" }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What becomes of them.
    pub to: To,
    /// Length of the window where `to = "window"`; windows begin at whole multiples of it.
    #[serde(default = "ten_seconds")]
    pub window: Span,
}

/// What becomes of the samples of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum To {
    /// Every sample is shipped.
    Raw,
    /// One aggregate a window is shipped: count, sum, min, max, first, last, quantile sketch.
    Window,
    /// Nothing is shipped; the samples are counted as `reduced_drop`.
    Drop,
}

/// A length of time, written `250ms`, `10s`, `5m`, `1h` or `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(i64);

/// Why a configuration was refused. Written for whoever wrote the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON of this shape.
    #[error("the fold's configuration can't be read: {0}")]
    Syntax(String),
    /// A window length out of range.
    #[error("fold.route {index} ({name:?}): a window of {window} can't be used; take 1ms to 1d")]
    Window {
        /// Which route, from 1.
        index: usize,
        /// Its pattern.
        name: String,
        /// The length given.
        window: Span,
    },
    /// Too many routes.
    #[error("{0} routes; at most {MAX_ROUTES} are taken")]
    TooManyRoutes(usize),
}

fn any() -> String {
    "*".to_owned()
}

fn ten_seconds() -> Span {
    Span(10 * SECOND)
}

impl Default for FoldConfig {
    fn default() -> Self {
        Self { route: Vec::new(), lateness: Span(2 * SECOND), future_limit: Span(600 * SECOND) }
    }
}

impl FoldConfig {
    /// From the JSON of a config record.
    ///
    /// # Errors
    /// [`ConfigError`], with a text for whoever wrote the configuration.
    pub fn from_json(json: &[u8]) -> Result<Self, ConfigError> {
        let config: Self =
            serde_json::from_slice(json).map_err(|error| ConfigError::Syntax(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// As the JSON of a config record.
    pub fn to_json(&self) -> Vec<u8> {
        // Only maps with keys that aren't text and failing writers make this fail; neither occurs.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Checks what the types can't.
    ///
    /// # Errors
    /// [`ConfigError`] naming the route.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.route.len() > MAX_ROUTES {
            return Err(ConfigError::TooManyRoutes(self.route.len()));
        }
        for (at, route) in self.route.iter().enumerate() {
            if !(SECOND / 1_000..=86_400 * SECOND).contains(&route.window.0) {
                return Err(ConfigError::Window {
                    index: at + 1,
                    name: route.name.clone(),
                    window: route.window,
                });
            }
        }
        Ok(())
    }

    /// What becomes of a series: by its first fitting route.
    pub fn decide(&self, key: &SeriesKey) -> (To, Span) {
        self.route
            .iter()
            .find(|route| route.fits(key))
            .map_or((To::Raw, ten_seconds()), |route| (route.to, route.window))
    }

    /// Whether anything is reduced to windows.
    pub(crate) fn has_windows(&self) -> bool {
        self.route.iter().any(|route| route.to == To::Window)
    }

    /// Tells configurations apart (FNV-1a, 64 bits), also over restarts.
    pub(crate) fn fingerprint(&self) -> u64 {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        self.to_json().iter().fold(0xcbf2_9ce4_8422_2325, step)
    }

    /// The longest window in use, and at least ten seconds.
    pub(crate) fn longest_window(&self) -> i64 {
        let windows = self.route.iter().filter(|route| route.to == To::Window);
        windows.map(|route| route.window.0).max().unwrap_or(0).max(10 * SECOND)
    }
}

impl Route {
    /// True when this route takes the series.
    pub fn fits(&self, key: &SeriesKey) -> bool {
        glob::matches(&self.name, key.name())
            && self.labels.iter().all(|(label, value)| glob::matches(value, key.label(label).unwrap_or("")))
    }
}

impl Span {
    /// From nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From seconds.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(SECOND))
    }

    /// In nanoseconds.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// From text such as `10s`.
    ///
    /// # Errors
    /// A sentence that says how it must look.
    pub fn parse(text: &str) -> Result<Self, String> {
        let said = |error: Unreadable| {
            let shown = error.said("write 250ms, 10s, 5m, 1h or 7d");
            format!("{text:?} is no length of time that can be used: {shown}")
        };
        let nanos = units::parse(text, &LENGTHS).map_err(said)?;
        i64::try_from(nanos).map(Self).map_err(|_| said(Unreadable::TooLarge))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, nanos) in
            [("d", 86_400 * SECOND), ("h", 3_600 * SECOND), ("m", 60 * SECOND), ("s", SECOND)]
        {
            if self.0 != 0 && self.0 % nanos == 0 {
                return write!(f, "{}{unit}", self.0 / nanos);
            }
        }
        write!(f, "{}ms", self.0 / (SECOND / 1_000))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-9]+(ms|s|m|h|d)$",
            "description": "A length of time: 250ms, 10s, 5m, 1h or 7d."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, labels: &[(&str, &str)]) -> SeriesKey {
        SeriesKey::new(name, labels.iter().copied()).unwrap()
    }

    #[test]
    fn the_first_fitting_route_decides_and_what_none_fits_is_kept_raw() {
        let json = br#"{"route": [
            {"match": "debug.*", "to": "drop"},
            {"match": "vibration.*", "labels": {"device": "pump-*"}, "to": "window", "window": "1s"},
            {"match": "vibration.*", "to": "window"}]}"#;
        let config = FoldConfig::from_json(json).unwrap();
        assert_eq!(config.decide(&key("debug.x", &[])).0, To::Drop);
        assert_eq!(
            config.decide(&key("vibration.x", &[("device", "pump-7")])),
            (To::Window, Span::from_secs(1))
        );
        assert_eq!(
            config.decide(&key("vibration.x", &[("device", "fan-1")])),
            (To::Window, Span::from_secs(10))
        );
        assert_eq!(config.decide(&key("temperature", &[])).0, To::Raw);
    }

    #[test]
    fn a_config_survives_its_own_json() {
        let json = br#"{"routes": [{"match": "a", "to": "raw"}], "lateness": "250ms"}"#;
        let config = FoldConfig::from_json(json).unwrap();
        assert_eq!(FoldConfig::from_json(&config.to_json()).unwrap(), config);
        assert_eq!(config.lateness.to_string(), "250ms");
    }

    #[test]
    fn a_wrong_length_of_time_says_how_to_write_it() {
        let error = FoldConfig::from_json(br#"{"lateness": "ten seconds"}"#).unwrap_err().to_string();
        assert!(error.contains("write 250ms, 10s"), "{error}");
        let error = FoldConfig::from_json(br#"{"route": [{"match": "a", "to": "window", "window": "0s"}]}"#);
        assert!(error.unwrap_err().to_string().contains("fold.route 1"));
        for large in ["99999999999999d", "100000000000000000000s", "293y0d"] {
            let error = Span::parse(large).unwrap_err();
            assert_eq!(error.contains("give a smaller one"), !large.contains('y'), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_and_not_ignored() {
        assert!(FoldConfig::from_json(br#"{"latenes": "1s"}"#).is_err());
    }
}
