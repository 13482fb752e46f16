//! The agent's one TOML file: every section, its defaults, and an error that names line and remedy.
//!
//! The doc comments of these types are the config reference (`telemetryx-agent config --reference`).

use std::path::{Path, PathBuf};

use fold::{FoldConfig, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uplink::enrolment::Folder;

use crate::classes::{ClassConfig, FreeFloor};
use crate::told::{self, said};
use crate::units::ByteSize;
use crate::{data_dir, logging, paths, place, ranges, texts};

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
    /// What the collector may do to this agent.
    pub remote: crate::remote::RemoteConfig,
    /// Where readings come from. A section that is missing is an input that is off.
    pub input: InputsConfig,
    /// Anomaly models.
    pub model: ModelsConfig,
    /// Traces of this agent's own work on sampled readings (docs/how-to/tracing.md).
    pub tracing: crate::traces::TracingConfig,
}

/// `[agent]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AgentConfig {
    /// What this agent is called at the collector. Empty: what the variable TELEMETRYX_AGENT_NAME holds (in a container, which has a name of its own), else the host's name.
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
            data_dir: data_dir::USUAL.into(),
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
    /// How long a group may wait for company before it is synced, at most 1m; 0ms syncs as fast as the disk can.
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
    /// Most bytes of its segments. For moments one more may be there, while older ones make room; the cursor and the
    /// segments' heads take up to 1 MiB beside them, and what is kept for a full disk a sixteenth of this (1 to 8 MiB). Beyond it batches give way and are counted as `overflowed`: the lowest priority first
    /// (`[[spool.class]]`), and of it what was never offered to the collector before what was.
    pub max_bytes: ByteSize,
    /// Size of one file.
    pub segment_bytes: ByteSize,
    /// A batch is cut at about this size, readings counted as sensors' usually compress: two bytes each. Of readings that hardly
    /// do (noise with all its digits) it is up to five times as large. 1KiB to 2MiB.
    pub batch_bytes: ByteSize,
    /// A batch is cut at the latest after this time, at most 1h; after 5s while no collector is connected.
    pub linger: Span,
    /// Batches older than this are dropped and counted as expired; 0ms keeps them for ever.
    pub max_age: Span,
    /// What the agent leaves free on the file system for others: the journal pushes back before there is less, whatever its
    /// own cap. Once others have taken it, journal and spool hold at most 2 MiB and 1 MiB (each at most a quarter of this)
    /// of what comes in, so that it still gets through to a collector that is there. 0B leaves nothing.
    pub min_free: ByteSize,
    /// What happens at `min_free`: `wait` lets batches wait in the journal, and inputs push back when there is no room for
    /// more; `drop` lets batches give way first, as at `max_bytes`.
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
    /// Files that it names and that can't be used now. The agent starts all the same, since they may come.
    #[error("{}\nthe agent starts without and tries again: nothing is lost meanwhile, and nothing gets through there", .0.join("\n"))]
    Files(Vec<String>),
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
        let text = text(path)?;
        Self::parse(&text, path)
    }

    /// As [`Config::load`], from text; `path` is only for messages.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        Self::parse_shown(text, (text, path))
    }

    /// Only keys and types: what a text has, without what a whole configuration must have. `path` is only for messages.
    ///
    /// # Errors
    /// [`ConfigError::Parse`]; [`ConfigError::Values`] where more than one thing is wrong, ranges and texts among it.
    pub fn typed(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| told::all(error, text, path))
    }

    /// As [`Config::parse`], of a text that was made from others: values that can't work are looked for in the one that is
    /// `shown`, under its name.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse_shown(text: &str, (shown, name): (&str, &Path)) -> Result<Self, ConfigError> {
        let mut config = Self::typed(text, name)?;
        config.agent.data_dir = data_dir::in_use(config.agent.data_dir, Path::new(data_dir::BEFORE));
        let mut problems = ranges::problems(text);
        problems.extend(texts::problems(text));
        let place = |(section, message): &(String, String)| place::locate(shown, section, message);
        let told: Vec<_> = problems.iter().filter_map(place).collect();
        let sections: Vec<_> = problems.iter().map(|(section, _)| section.clone()).collect();
        problems.extend(config.enrolled(text));
        config.take_name(&std::env::var("TELEMETRYX_AGENT_NAME").unwrap_or_default());
        // What is said of a value once isn't said again by the section's own check; that of an input says one thing, which may
        // follow from it.
        let follows = |section: &str| {
            let within = |it: &String| it == section || it.starts_with(&format!("{section}."));
            section.starts_with("input.") && sections.iter().any(within)
        };
        let new = |problem: &(String, String)| {
            !follows(&problem.0) && !place(problem).is_some_and(|at| told.contains(&at))
        };
        problems.extend(config.problems().into_iter().filter(new));
        // What a key's own check says of its length says more.
        let told: Vec<_> = problems.iter().filter_map(place).collect();
        let untold = |problem: &(String, String)| !place(problem).is_some_and(|at| told.contains(&at));
        problems.extend(texts::too_long(text).into_iter().filter(untold));
        if problems.is_empty() {
            return Ok(config);
        }
        problems.sort_by_key(place);
        Err(ConfigError::Values(said(problems, shown, name)))
    }

    /// The configuration of a host that is about to be enrolled, and the name that the file gives it, if it does. Of the file
    /// only `[agent]` has to be right: an uplink to another machine needs what the enrolment brings. A host without a file has
    /// the defaults.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn before_enrolment(path: &Path) -> Result<(Self, Option<String>), ConfigError> {
        let text = match text(path) {
            Err(ConfigError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                String::new()
            }
            read => read?,
        };
        let mut config = Self::typed(&text, path)?;
        let said = Some(config.agent.name.clone()).filter(|name| !name.is_empty());
        config.agent.data_dir = data_dir::in_use(config.agent.data_dir, Path::new(data_dir::BEFORE));
        config.take_name(&std::env::var("TELEMETRYX_AGENT_NAME").unwrap_or_default());
        if let Some(problem) = data_dir::problem(&config.agent.data_dir) {
            return Err(ConfigError::Values(crate::told::said(vec![("agent".into(), problem)], &text, path)));
        }
        Ok((config, said))
    }

    /// Takes over what an enrolment brought: the agent's name, and the collector's address where the file names none.
    fn enrolled(&mut self, text: &str) -> Vec<(String, String)> {
        let kept = match Folder::of(&self.agent.data_dir).load() {
            Ok(kept) => crate::enrol::named(kept, &self.agent.name),
            // No reason not to start: readings are taken and kept, and the link waits until it is mended.
            Err(error) => {
                self.uplink.broken = Some(error.into());
                return Vec::new();
            }
        };
        match kept {
            Ok(Some(enrolled)) => {
                self.agent.name.clone_from(&enrolled.joined.agent);
                let named = text
                    .parse::<toml::Table>()
                    .is_ok_and(|table| table.get("uplink").and_then(|uplink| uplink.get("url")).is_some());
                if !named {
                    self.uplink.url.clone_from(&enrolled.joined.gateway);
                }
                self.uplink.enrolled = Some(enrolled);
                Vec::new()
            }
            Ok(None) => Vec::new(),
            Err(message) => vec![("agent".to_owned(), message)],
        }
    }

    /// Fills in what the file leaves to the host: a container's own name says nothing, so it is told the host's.
    fn take_name(&mut self, told: &str) {
        if self.agent.name.is_empty() {
            self.agent.name = if told.is_empty() { crate::identity::hostname() } else { told.to_owned() };
        }
        if let Some(host) = self.input.host.as_mut().filter(|host| host.device.is_empty()) {
            told.clone_into(&mut host.device);
        }
    }

    /// As [`Config::load`], and the files that it names must be usable too: tokens, certificates, passwords, a model.
    ///
    /// # Errors
    /// [`ConfigError`]; [`ConfigError::Files`] is none that keeps the agent from starting.
    pub fn load_with_files(path: &Path) -> Result<Self, ConfigError> {
        let text = text(path)?;
        let config = Self::parse(&text, path)?;
        let found = config.unusable_files();
        if found.is_empty() { Ok(config) } else { Err(ConfigError::Files(said(found, &text, path))) }
    }

    /// The files that it names and that can't be used now: the section, and a sentence.
    pub fn unusable_files(&self) -> Vec<(String, String)> {
        let mut found: Vec<_> = uplink::unusable_files(&self.uplink)
            .into_iter()
            .map(|error| ("uplink".to_owned(), error.to_string()))
            .collect();
        found.extend(crate::inputs_table::unusable_files(&self.input));
        if let Err(error) = crate::models::host_files(&self.model) {
            found.push(("model".into(), format!("{error:#}")));
        }
        found.extend(self.tracing.unusable_file().map(|error| ("tracing".into(), error)));
        found
    }

    /// What can't work: the section it is in, and a sentence.
    fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut say = |section: &str, message: String| found.push((section.to_owned(), message));
        let name = &self.agent.name;
        if name.len() > 128
            || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        {
            say(
                "agent",
                format!("agent.name {name:?} may hold letters, digits and - _ . only, at most 128 of them"),
            );
        }
        if let Some(problem) = data_dir::problem(&self.agent.data_dir) {
            say("agent", problem);
        }
        if let Err(error) = logging::filter(&self.agent.log) {
            say("agent", format!("agent.log = {error}"));
        }
        // Segments out of their range are told as such.
        let sizes = ByteSize::kib(256)..=ByteSize::gib(1);
        for (key, segment, max) in [
            ("journal", self.journal.segment_bytes, self.journal.max_bytes),
            ("spool", self.spool.segment_bytes, self.spool.max_bytes),
        ] {
            if sizes.contains(&segment) && max.0 < 2 * segment.0 {
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
        for error in self.uplink.problems() {
            let section = if error.is_of_lanes() { "uplink.lanes" } else { "uplink" };
            say(section, error.to_string());
        }
        if let Some(problem) = self.remote.problem() {
            found.push(("remote".into(), problem));
        }
        found.extend(self.tracing.problems().into_iter().map(|problem| ("tracing".into(), problem)));
        found.extend(paths::problems(self));
        found.extend(crate::classes::problems(&self.spool.class));
        found.extend(crate::inputs_table::problems(&self.input));
        found.extend(crate::inputs_table::clashes(&self.input));
        found
    }
}

impl Config {
    /// What it allows and few want: the section it is in, and a sentence with the remedy.
    pub fn warnings(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let lanes = &self.uplink.lanes;
        let (live, backlog) = (u32::from(lanes.live_share), u32::from(lanes.backlog_share));
        if live + backlog != 100 {
            let share = |part: u32| (100 * part + (live + backlog) / 2) / (live + backlog).max(1);
            found.push((
                "uplink.lanes".to_owned(),
                format!(
                    "uplink.lanes: live_share = {live} and backlog_share = {backlog} add up to {}: they count as parts of that, {} % and {} %; let them add up to 100",
                    live + backlog,
                    share(live),
                    share(backlog)
                ),
            ));
        }
        found.extend(lanes.warnings().map(|said| ("uplink.lanes".to_owned(), said)));
        found.extend(crate::paths::floor_above_the_disk(self).map(|said| ("spool".to_owned(), said)));
        let ahead = self.fold.future_limit;
        if ahead > Span::from_secs(86_400) {
            found.push((
                "fold".to_owned(),
                format!(
                    "fold.future_limit = {ahead}: a collector refuses batches that are more than a day ahead of its clock: give its [ingest] future_limit as much, or take 1d"
                ),
            ));
        }
        for (at, route) in self.fold.route.iter().enumerate() {
            if route.to == fold::To::Window && route.window < Span::from_secs(1) {
                found.push((
                    format!("fold.route.{}", at + 1),
                    format!(
                        "fold.route {}: a window of {} is shipped for nearly each reading, and is larger than one: take 1s or more, or to = \"raw\"",
                        at + 1,
                        route.window
                    ),
                ));
            }
        }
        found.extend(crate::classes::warnings(&self.spool.class));
        found.extend(crate::exposed::warnings(self));
        found.extend(data_dir::warning(&self.agent.data_dir).map(|said| ("agent".to_owned(), said)));
        found.extend(paths::warnings(self));
        found.extend(self.uplink.warnings().into_iter().map(|said| ("uplink".to_owned(), said)));
        found.extend(crate::inputs_table::warnings(&self.input));
        // What a running agent's status says has no place before it, and repeats values too.
        found.into_iter().map(|(section, said)| (section, crate::told::shown(&said))).collect()
    }

    /// The same, each with its place in the file before it, and a word between.
    pub fn warnings_in(&self, path: &Path, word: &str) -> Vec<String> {
        // Without the text, which was there a moment ago, the places are missing.
        let text = text(path).unwrap_or_default();
        let worded =
            self.warnings().into_iter().map(|(section, warning)| (section, format!("{word}{warning}")));
        said(worded.collect(), &text, path)
    }
}

/// The text of a config file; also of a pipe, as of a shell, whose end comes within a few seconds.
///
/// # Errors
/// [`ConfigError::Read`].
pub fn text(path: &Path) -> Result<String, ConfigError> {
    seglog::regular::read_given_text(path, seglog::regular::LONGEST)
        .map_err(|source| ConfigError::Read { path: path.into(), source })
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
