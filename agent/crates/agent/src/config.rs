//! The agent's one TOML file: every section, its defaults, and an error that names line and remedy.
//!
//! The doc comments of these types are the config reference (`telemetryx-agent config --reference`).

use std::path::{Path, PathBuf};

use fold::{FoldConfig, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::classes::{ClassConfig, FreeFloor};
use crate::place;
use crate::units::ByteSize;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The agent itself.
    pub agent: AgentConfig,
    /// The durable log of what came in.
    pub journal: JournalConfig,
    /// What is done with which series before it is shipped.
    pub fold: FoldConfig,
    /// The durable queue of batches that the collector has not acknowledged yet.
    pub spool: SpoolConfig,
    /// The way to the collector.
    pub uplink: uplink::UplinkConfig,
    /// Where readings come from. A section that is missing is an input that is off.
    pub input: InputsConfig,
    /// Anomaly models.
    pub model: ModelsConfig,
}

/// `[agent]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AgentConfig {
    /// What this agent is called at the collector. Empty: the host's name.
    pub name: String,
    /// Where journal, spool, sessions and quarantine live. Only this agent may write there.
    pub data_dir: PathBuf,
    /// Most series this agent takes; readings of further ones are refused and counted.
    pub max_series: usize,
    /// Log level: error, warn, info, debug or trace; per module as in `info,inputs=debug`.
    pub log: String,
    /// True: log lines are JSON.
    pub log_json: bool,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            data_dir: "/var/lib/telemetryx-agent".into(),
            max_series: 100_000,
            log: "info".into(),
            log_json: false,
        }
    }
}

/// `[journal]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JournalConfig {
    /// Most bytes on disk; at it, inputs push back (MQTT stops reading, HTTP answers 503).
    pub max_bytes: ByteSize,
    /// Size of one file; smaller ones suit small flash.
    pub segment_bytes: ByteSize,
    /// How long a group may wait for company before it is synced; 0ms syncs as fast as the disk can.
    pub linger: Span,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self { max_bytes: ByteSize::gib(1), segment_bytes: ByteSize::mib(4), linger: Span::from_nanos(0) }
    }
}

/// `[spool]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// Most bytes on disk. Beyond it batches give way and are counted as `overflowed`: the lowest priority first
    /// (`[[spool.class]]`), and of it what was never offered to the collector before what was.
    pub max_bytes: ByteSize,
    /// Size of one file.
    pub segment_bytes: ByteSize,
    /// A batch is cut at about this size, uncompressed columns counted as they will be sent.
    pub batch_bytes: ByteSize,
    /// A batch is cut at the latest after this time.
    pub linger: Span,
    /// Batches older than this are dropped and counted as expired; 0ms keeps them for ever.
    pub max_age: Span,
    /// Stop writing when the file system has less free than this.
    pub min_free: ByteSize,
    /// What happens at `min_free`: `wait` lets batches wait in the journal, and inputs push back when that is full;
    /// `drop` lets batches give way first, as at `max_bytes`.
    pub free_floor: FreeFloor,
    /// Which readings are worth more than others.
    pub class: Vec<ClassConfig>,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            max_bytes: ByteSize::gib(10),
            segment_bytes: ByteSize::mib(4),
            batch_bytes: ByteSize::kib(128),
            linger: Span::from_nanos(50_000_000),
            max_age: Span::from_nanos(0),
            min_free: ByteSize::mib(64),
            free_floor: FreeFloor::Wait,
            class: Vec::new(),
        }
    }
}

/// `[input]`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InputsConfig {
    /// The MQTT port of this agent: sensors publish to it.
    pub mqtt: Option<inputs::mqtt::MqttConfig>,
    /// Brokers that are already there: this agent subscribes to them.
    pub mqtt_client: Vec<inputs::mqtt_client::MqttClientConfig>,
    /// Line protocol and JSON events over HTTP.
    pub http: Option<inputs::http::HttpConfig>,
    /// Line protocol and JSON events over plain TCP.
    pub tcp: Option<inputs::tcp::TcpConfig>,
    /// This host's own metrics.
    pub host: Option<inputs::host::HostConfig>,
}

/// `[model]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelsConfig {
    /// Score this host's metrics with the model that comes with the agent.
    pub host: bool,
    /// Another model for the slot `host`: a folder with model.onnx and manifest.json.
    pub host_dir: Option<PathBuf>,
}

impl Default for ModelsConfig {
    fn default() -> Self {
        Self { host: true, host_dir: None }
    }
}

/// Why a config file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It can't be read.
    #[error("the config file {} can't be read: {source}; give another with --config", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It isn't TOML, has an unknown key or a wrong type.
    #[error("{}:{line}:{column}: {message}{}", path.display(), hint(hint_text))]
    Parse {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong.
        message: String,
        /// What to do, or "".
        hint_text: String,
    },
    /// Values that can't work: all of them, each with place, key, value and remedy.
    #[error("{}", .0.join("\n"))]
    Values(Vec<String>),
}

fn hint(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("\n  {text}") }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`], naming the place and the remedy.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Self::parse(&text, path)
    }

    /// As [`Config::load`], from text; `path` is only for messages.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text).map_err(|error| located(&error, text, path))?;
        if config.agent.name.is_empty() {
            config.agent.name = crate::identity::hostname();
        }
        let problems = config.problems();
        if problems.is_empty() {
            return Ok(config);
        }
        let said = problems.into_iter().map(|(section, message)| {
            let place = place::locate(text, &section, &message)
                .map_or_else(String::new, |(line, column)| format!("{line}:{column}:"));
            format!("{}:{place} {message}", path.display())
        });
        Err(ConfigError::Values(said.collect()))
    }

    /// What can't work: the section it is in, and a sentence.
    fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut say = |section: &str, message: String| found.push((section.to_owned(), message));
        let name = &self.agent.name;
        if name.len() > 128
            || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        {
            say("agent", format!("agent.name {name:?} may hold letters, digits and - _ . only, at most 128"));
        }
        if self.agent.max_series == 0 {
            say("agent", "agent.max_series must be at least 1".into());
        }
        let smallest = ByteSize::kib(256);
        for (key, segment, max) in [
            ("journal", self.journal.segment_bytes, self.journal.max_bytes),
            ("spool", self.spool.segment_bytes, self.spool.max_bytes),
        ] {
            if segment < smallest {
                say(key, format!("{key}.segment_bytes {segment} is below the smallest, {smallest}"));
            }
            if max.0 < 2 * segment.0 {
                say(key, format!("{key}.max_bytes {max} must hold two segments of {segment} at least"));
            }
        }
        if let Err(error) = self.fold.check() {
            let section = match &error {
                fold::ConfigError::Window { index, .. } => format!("fold.route.{index}"),
                _ => "fold".into(),
            };
            say(&section, error.to_string());
        }
        if let Err(error) = self.uplink.check() {
            say("uplink", error.to_string());
        }
        found.extend(crate::classes::problems(&self.spool.class));
        found.extend(crate::inputs_table::problems(&self.input));
        found
    }
}

/// Turns a TOML error into a place and a remedy.
fn located(error: &toml::de::Error, text: &str, path: &Path) -> ConfigError {
    let (line, column) = place::of(text, error.span().map_or(0, |span| span.start));
    let message = error.message().to_owned();
    let hint_text = nearest(&message).map(|name| format!("did you mean `{name}`?")).unwrap_or_default();
    ConfigError::Parse { path: path.into(), line, column, message, hint_text }
}

/// From serde's "unknown field `lisen`, expected one of `listen`, `users`" the nearest expected name.
fn nearest(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field `")?;
    let (given, rest) = rest.split_once('`')?;
    let expected = rest.split('`').skip(1).step_by(2);
    expected
        .map(|name| (distance(given, name), name))
        .min()
        .filter(|(d, _)| *d <= 3)
        .map(|(_, name)| name.to_owned())
}

/// Edit distance (Levenshtein 1966).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let cost = (diagonal + usize::from(from != *to)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Config::parse(text, Path::new("agent.toml")).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_is_a_valid_one() {
        let config = Config::parse("", Path::new("agent.toml")).unwrap();
        assert!(!config.agent.name.is_empty());
        assert!(config.input.mqtt.is_none());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
        let text = error("[agent]\nname = \"a\"\ndata_dri = \"/tmp\"\n");
        assert!(text.starts_with("agent.toml:3:1: unknown field `data_dri`"), "{text}");
        assert!(text.ends_with("did you mean `data_dir`?"), "{text}");
    }

    #[test]
    fn a_wrong_type_is_named_with_its_line() {
        assert!(error("[agent]\nmax_series = \"many\"\n").starts_with("agent.toml:2:14: "));
    }

    #[test]
    fn values_that_cannot_work_are_refused_with_the_key() {
        assert!(error("[agent]\nname = \"a b\"\n").contains("agent.name"));
        assert!(error("[journal]\nsegment_bytes = \"4KiB\"\n").contains("journal.segment_bytes"));
        assert!(error("[uplink]\nurl = \"http://192.168.0.9:8421\"\n").contains("https://"));
    }

    #[test]
    fn all_that_cannot_work_is_told_at_once_each_with_its_line() {
        let text = "[agent]\nname = \"a b\"\n[input.mqtt]\nmax_inflight = 0\n[[input.mqtt_client]]\nurl = \"mqtt://b\"\ntopics = [\"a\"]\nqos = 9\n[[fold.route]]\nmatch = \"*\"\nto = \"window\"\nwindow = \"0s\"\n";
        let said = error(text);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 4, "{said}");
        assert!(lines[0].starts_with("agent.toml:2:1: agent.name"), "{said}");
        assert!(lines[1].starts_with("agent.toml:12:1: fold.route 1"), "{said}");
        assert!(lines[2].starts_with("agent.toml:4:1: input.mqtt: max_inflight = 0"), "{said}");
        assert!(lines[3].starts_with("agent.toml:8:1: input.mqtt_client.1: qos = 9"), "{said}");
    }

    #[test]
    fn every_example_in_the_commented_file_can_be_uncommented() {
        let example = crate::reference::EXAMPLE;
        Config::parse(example, Path::new("agent.toml")).unwrap();
        // Prose begins with a capital or an article; an example begins with a key or a bracket.
        let is_example = |line: &str| {
            let Some(rest) = line.strip_prefix("# ") else { return false };
            let key = rest
                .split_once('=')
                .is_some_and(|(key, _)| key.trim().chars().all(|c| c.is_ascii_lowercase() || c == '_'));
            key || rest.starts_with('[')
        };
        let uncommented: String = example
            .lines()
            .map(|line| if is_example(line) { &line[2..] } else { line })
            .map(|line| format!("{line}\n"))
            .collect();
        assert!(
            uncommented.lines().count() > 40 && example.lines().filter(|line| is_example(line)).count() > 10
        );
        let hash =
            "$pbkdf2-sha256$i=100000$MdE2YvJV09NQ8BM8d0oFqA$E9G2wxznweS++ctES4ANM1LpAzTrqXGBEd3/aNbKkEM";
        Config::parse(&uncommented.replace('…', hash), Path::new("agent.toml")).unwrap();
    }
}
