//! The log: to standard error as the configuration says, at another level for a while when somebody asks, and its last lines
//! in memory for a diagnostics bundle.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::AgentConfig;

/// Bytes of lines that are kept; the oldest go first.
const KEPT: usize = 512 << 10;
/// Of one line no more is kept.
const LONGEST_LINE: usize = 4 << 10;
/// The longest time for another level.
const LONGEST: Duration = Duration::from_secs(86_400);
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

type Format = Box<dyn Layer<Filtered> + Send + Sync>;
type Filtered = tracing_subscriber::layer::Layered<reload::Layer<Targets, Registry>, Registry>;

/// What is logged, as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LevelStatus {
    /// The filter in force.
    pub filter: String,
    /// Until when, nanoseconds since the epoch, where it is another than the configuration's; `None`: it is that.
    pub until_ns: Option<i64>,
}

/// Why another level can't be set.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LevelError {
    /// No filter.
    #[error(
        "{0:?} is no log level: take error, warn, info, debug or trace, or per module as in `info,inputs=debug`"
    )]
    Filter(String),
    /// Too short or too long.
    #[error("{0} s is no time for it: take 1 s to 86400 s")]
    Time(u64),
}

/// The log.
pub struct Logging {
    filter: Handle<Targets, Registry>,
    format: Handle<Format, Filtered>,
    lines: Arc<Ring>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// What the configuration says; the variable TELEMETRYX_LOG goes before it.
    own: String,
    json: bool,
    /// Another one, until then.
    asked: Option<(String, Instant, i64)>,
}

impl Logging {
    /// Begins to log.
    pub fn begin(config: &AgentConfig) -> Arc<Self> {
        let own = own(config);
        let lines = Arc::new(Ring::default());
        let (filter, filter_handle) = reload::Layer::new(parse(&own));
        let (format, format_handle) = reload::Layer::new(format(config.log_json, &lines));
        let logging = Self {
            filter: filter_handle,
            format: format_handle,
            lines,
            state: Mutex::new(State { own, json: config.log_json, asked: None }),
            changed: Notify::new(),
        };
        tracing_subscriber::registry().with(filter).with(format).init();
        Arc::new(logging)
    }

    /// Goes by another configuration from now on.
    pub fn configure(&self, config: &AgentConfig) {
        let own = own(config);
        let mut state = self.state.lock();
        if state.json != config.log_json {
            state.json = config.log_json;
            // Fails only when the subscriber is gone, and with it the process.
            _ = self.format.reload(format(config.log_json, &self.lines));
        }
        if state.own != own {
            state.own.clone_from(&own);
            if state.asked.is_none() {
                _ = self.filter.reload(parse(&own));
            }
        }
    }

    /// Another level for a while; an empty one takes back what was asked before.
    ///
    /// # Errors
    /// [`LevelError`].
    pub fn ask(&self, filter: &str, seconds: u64, now: i64) -> Result<(), LevelError> {
        if filter.is_empty() {
            self.back();
            return Ok(());
        }
        let parsed = self::filter(filter)?;
        let time = Duration::from_secs(seconds);
        if time.is_zero() || time > LONGEST {
            return Err(LevelError::Time(seconds));
        }
        let until = now.saturating_add(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX));
        self.state.lock().asked = Some((filter.to_owned(), Instant::now() + time, until));
        _ = self.filter.reload(parsed);
        self.changed.notify_one();
        tracing::info!(filter, seconds, "the log level was changed for a while, as the collector asked");
        Ok(())
    }

    /// Ends what was asked for when its time is up, again and again.
    pub async fn keep(&self) {
        loop {
            let until = self.state.lock().asked.as_ref().map(|(_, until, _)| *until);
            let over = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => self.back(),
                () = self.changed.notified() => {}
            }
        }
    }

    fn back(&self) {
        let mut state = self.state.lock();
        if state.asked.take().is_some() {
            _ = self.filter.reload(parse(&state.own));
            drop(state);
            tracing::info!("the log level is the configuration's again");
        }
    }

    /// What is logged now.
    pub fn status(&self) -> LevelStatus {
        let state = self.state.lock();
        match &state.asked {
            Some((filter, _, until)) => LevelStatus { filter: filter.clone(), until_ns: Some(*until) },
            None => LevelStatus { filter: state.own.clone(), until_ns: None },
        }
    }

    /// The last lines, oldest first.
    pub fn lines(&self) -> String {
        self.lines.text()
    }
}

/// Reads a filter: levels, and levels of modules.
///
/// # Errors
/// [`LevelError::Filter`].
pub fn filter(text: &str) -> Result<Targets, LevelError> {
    // A word that is no level would be taken for a module, and all else be silent.
    let good = text.split(',').all(|part| match part.trim().rsplit_once('=') {
        Some((_, level)) => LEVELS.contains(&level),
        None => LEVELS.contains(&part.trim()),
    });
    text.parse().ok().filter(|_| good).ok_or_else(|| LevelError::Filter(text.into()))
}

fn own(config: &AgentConfig) -> String {
    std::env::var("TELEMETRYX_LOG")
        .ok()
        .filter(|text| filter(text).is_ok())
        .unwrap_or_else(|| config.log.clone())
}

// NOTE: not `EnvFilter`, which brings a regular expressions' compiler for fields of spans: half a megabyte for nothing that is used.
fn parse(filter: &str) -> Targets {
    filter.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO))
}

fn format(json: bool, lines: &Arc<Ring>) -> Format {
    let writer = Tee(Arc::clone(lines));
    match json {
        true => tracing_subscriber::fmt::layer().json().with_writer(writer).boxed(),
        false => {
            tracing_subscriber::fmt::layer().with_ansi(io::stderr().is_terminal()).with_writer(writer).boxed()
        }
    }
}

/// The last lines.
#[derive(Default)]
struct Ring(Mutex<(VecDeque<String>, usize)>);

impl Ring {
    fn push(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST_LINE)]);
        let line = plain(text.trim_end());
        let (lines, size) = &mut *self.0.lock();
        *size += line.len();
        lines.push_back(line);
        while *size > KEPT {
            let Some(oldest) = lines.pop_front() else { break };
            *size -= oldest.len();
        }
    }

    fn text(&self) -> String {
        let (lines, size) = &*self.0.lock();
        let mut text = String::with_capacity(size + lines.len());
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// Without the colours of a terminal.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        rest = rest.strip_prefix('m').unwrap_or(rest);
    }
    plain + rest
}

/// Standard error, and the ring.
struct Tee(Arc<Ring>);

/// One line on its way to both.
struct Line(Arc<Ring>);

impl<'a> MakeWriter<'a> for Tee {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Arc::clone(&self.0))
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The formatter writes a line at once.
        self.0.push(bytes);
        io::stderr().write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without a subscriber: reloading fails, and the state is what counts.
    fn logging() -> Logging {
        let lines = Arc::new(Ring::default());
        Logging {
            filter: reload::Layer::new(parse("info")).1,
            format: reload::Layer::new(format(false, &lines)).1,
            lines,
            state: Mutex::new(State { own: "info".into(), json: false, asked: None }),
            changed: Notify::new(),
        }
    }

    #[tokio::test]
    async fn another_level_lasts_for_its_time_and_then_the_configurations_own_is_back() {
        let logging = logging();
        logging.ask("debug", 3600, 1_000).unwrap();
        let status = logging.status();
        assert_eq!((status.filter.as_str(), status.until_ns), ("debug", Some(3_600_000_001_000)));
        logging.ask("trace", 1, 0).unwrap();
        let back = async {
            while logging.status().until_ns.is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = logging.keep() => {}
            back = tokio::time::timeout(Duration::from_secs(60), back) => back.unwrap(),
        }
        assert_eq!(logging.status(), LevelStatus { filter: "info".into(), until_ns: None });
        logging.ask("trace", 60, 0).unwrap();
        logging.ask("", 0, 0).unwrap();
        assert_eq!(logging.status().filter, "info");
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_before_it_silences_everything() {
        let logging = logging();
        for bad in ["debgu", "info,debgu", "inputs=loud", "=", "info,,"] {
            assert_eq!(logging.ask(bad, 60, 0), Err(LevelError::Filter(bad.into())), "{bad}");
        }
        assert_eq!(logging.ask("info", 0, 0), Err(LevelError::Time(0)));
        assert_eq!(logging.ask("info", 86_401, 0), Err(LevelError::Time(86_401)));
        assert!(logging.ask("info,inputs=debug", 86_400, 0).is_ok());
    }

    #[test]
    fn the_last_lines_are_kept_without_colours_and_have_an_end() {
        let ring = Ring::default();
        ring.push("\u{1b}[2m2026\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m hello\n".as_bytes());
        assert_eq!(ring.text(), "2026  INFO hello\n");
        for number in 0..1000 {
            ring.push(format!("{number} {}\n", "x".repeat(8 << 10)).as_bytes());
        }
        let text = ring.text();
        assert!(text.len() <= KEPT + 1000 && !text.contains("hello"), "{}", text.len());
        assert!(text.lines().last().unwrap().starts_with("999 "));
    }
}
