//! `telemetryx-agent remote …` and `check --merged`: what was pushed, and what comes of it and the host's file.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use seglog::Disk;

use super::cache::{Cache, Found, Kept, Phase, Pushed};
use super::load::{HostFile, Merged};
use super::{Takes, merge};
use crate::ask::{self, AskError};
use crate::config::ConfigError;
use crate::human::{moment, printable};
use crate::{At, data_dir, lock, owner};

pub const EXAMPLES: &str = "\
Examples:
  telemetryx-agent remote show
  telemetryx-agent remote show --text > pushed.toml
  telemetryx-agent remote forget

A collector that still wants its configuration here sends it again: take it back there, or set [remote] config = \"off\" first.";

/// `remote`
#[derive(clap::Subcommand)]
pub enum RemoteCommand {
    /// Show the configuration that the collector pushed, and what came of it. No agent has to be running.
    #[command(after_help = EXAMPLES)]
    Show {
        #[command(flatten)]
        at: At,
        /// Answer in JSON.
        #[arg(long, conflicts_with = "text")]
        json: bool,
        /// Print its text alone.
        #[arg(long)]
        text: bool,
    },
    /// Go back to the host's own file: what was pushed is forgotten.
    #[command(after_help = EXAMPLES)]
    Forget {
        #[command(flatten)]
        at: At,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
}

impl RemoteCommand {
    /// Whether answers, errors too, are for a program.
    pub fn json(&self) -> bool {
        matches!(self, Self::Show { json: true, .. } | Self::Forget { json: true, .. })
    }
}

/// What is on the disk of a host.
pub struct OnDisk {
    /// The host's file.
    pub file: HostFile,
    /// What is kept; `None`: it is damaged.
    pub kept: Option<Kept>,
    /// What is in force by it, and the pushed part of that.
    pub merged: Merged,
    /// That part.
    pub pushed: Option<Pushed>,
    /// Why what was pushed can't be used; "" where it can.
    pub trouble: String,
}

/// Reads both; what was pushed and can't be used is left aside, as the agent does at its start.
///
/// # Errors
/// [`ConfigError`] when the file alone can't be used.
pub fn on_disk(path: &Path) -> Result<OnDisk, ConfigError> {
    let file = HostFile::read(path)?;
    let alone = file.alone()?;
    let (kept, mut trouble) = match Cache::of(Arc::new(Disk), &alone.config.agent.data_dir).read() {
        Found::Kept(kept) => (Some(*kept), String::new()),
        Found::Damaged(why) => (None, why),
    };
    let wanted =
        kept.as_ref().and_then(Kept::in_force).filter(|_| file.remote().config != Takes::Off).cloned();
    let (merged, pushed) = match wanted.map(|pushed| (file.with(&pushed), pushed)) {
        Some((Ok(merged), pushed)) => (merged, Some(pushed)),
        Some((Err(error), _)) => {
            trouble = error.to_string();
            (alone, None)
        }
        None => (alone, None),
    };
    Ok(OnDisk { file, kept, merged, pushed, trouble })
}

/// Runs one.
///
/// # Errors
/// What `main` prints.
pub fn run(command: RemoteCommand) -> anyhow::Result<ExitCode> {
    match command {
        RemoteCommand::Show { at, json, text } => show(&at.config, json, text),
        RemoteCommand::Forget { at, json } => forget(&at.config, json),
    }
}

fn show(path: &Path, json: bool, text: bool) -> anyhow::Result<ExitCode> {
    let OnDisk { file, kept, pushed, trouble, .. } = on_disk(path)?;
    let takes = file.remote();
    let kept = kept.unwrap_or_default();
    let newest = kept.newest.clone().unwrap_or_default();
    let mut out = std::io::stdout().lock();
    if text {
        out.write_all(newest.toml.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    if json {
        let said = serde_json::json!({
            "takes": takes.config, "requests": takes.requests, "version": newest.version, "phase": kept.phase,
            "reason": kept.reason, "at_ns": kept.at_ns, "in_force": pushed.map_or(0, |pushed| pushed.version),
            "toml": newest.toml, "trouble": (!trouble.is_empty()).then_some(trouble),
        });
        writeln!(out, "{said}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let takes = match takes.config {
        Takes::Over => "pushed keys replace the file's",
        Takes::Under => "the file's keys win",
        Takes::Off => "nothing is taken",
    };
    writeln!(out, "file      {}: {takes}", file.path.display())?;
    match (kept.newest.is_some(), kept.phase) {
        (false, _) => writeln!(out, "pushed    nothing")?,
        (true, phase) => {
            writeln!(out, "pushed    configuration {}: {}", newest.version, word(phase, kept.at_ns))?
        }
    }
    if !kept.reason.is_empty() {
        writeln!(out, "          {}", printable(&kept.reason))?;
    }
    if !trouble.is_empty() {
        writeln!(out, "          not used: {}", printable(&trouble))?;
    }
    match pushed {
        Some(pushed) => writeln!(out, "in force  configuration {} with the file", pushed.version)?,
        None => writeln!(out, "in force  the file alone")?,
    }
    if !newest.toml.is_empty() {
        writeln!(out)?;
        for line in newest.toml.lines() {
            writeln!(out, "{}", printable(line))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A phase as people say it.
fn word(phase: Phase, at_ns: i64) -> String {
    let word = match phase {
        Phase::None => "taken back",
        Phase::Trial => "on trial",
        Phase::Applied => "applied",
        Phase::Failed => "FAILED",
        Phase::Declined => "declined",
    };
    format!("{word} at {}", moment(Some(at_ns)))
}

fn forget(path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let data = data_dir::of(path)?;
    let said = |running: bool, sentence: String| match json {
        true => writeln!(
            std::io::stdout(),
            "{}",
            serde_json::json!({"forgotten": true, "running": running, "file": path})
        ),
        false => writeln!(std::io::stdout(), "{sentence}"),
    };
    match ask::ask_once(&data, "remote forget") {
        Ok(_) => said(true, format!("the running agent goes back to {}: see `status`", path.display()))?,
        Err(AskError::NotRunning { .. }) => {
            if let Some(done) = owner::instead(&data)? {
                return Ok(done);
            }
            let _lock = lock::take(&data)?;
            Cache::of(Arc::new(Disk), &data).write(&Kept::default())?;
            said(false, format!("forgotten: the next start goes by {} alone", path.display()))?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

/// `check --merged`: every key that is set, as TOML, and by whom.
///
/// # Errors
/// What `main` prints.
pub fn check_merged(path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let OnDisk { file, pushed, trouble, .. } = on_disk(path)?;
    let by = |from| match (from, &pushed) {
        (merge::From::Pushed, Some(pushed)) => format!("configuration {}", pushed.version),
        _ => file.path.display().to_string(),
    };
    let keys = file.keys(pushed.as_ref());
    let mut out = std::io::stdout().lock();
    if json {
        let keys: Vec<_> = keys
            .iter()
            .map(|key| serde_json::json!({"key": key.path.join("."), "value": key.value, "from": by(key.from)}))
            .collect();
        let said = serde_json::json!({
            "file": path, "ok": true, "in_force": pushed.as_ref().map_or(0, |pushed| pushed.version),
            "trouble": (!trouble.is_empty()).then_some(trouble), "keys": keys,
        });
        writeln!(out, "{said}")?;
        return Ok(ExitCode::SUCCESS);
    }
    if !trouble.is_empty() {
        writeln!(out, "# what was pushed is not used: {}", printable(&trouble))?;
    }
    let lines: Vec<String> = keys.iter().map(|key| printable(&key.to_string())).collect();
    let wide = lines.iter().map(|line| line.chars().count()).filter(|wide| *wide <= 60).max().unwrap_or(0);
    for (line, key) in lines.iter().zip(&keys) {
        writeln!(out, "{line:<wide$}  # {}", by(key.from))?;
    }
    writeln!(out, "# what stands here has its value from there; every other key has its default")?;
    Ok(ExitCode::SUCCESS)
}
