//! `telemetryx-agent doctor`: everything that can keep an agent from working, looked at once, each with what to do.
//!
//! It changes nothing that lasts: it writes and removes one small file in the data folder to time the disk, and says a hello
//! to the collector that leaves no trace there. A check that can't be made is a warning, never a reason to stop.

mod clock;
mod disk;
mod host;
mod identity;
mod inputs;
mod link;
mod pushed;
mod stores;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use crate::config::ConfigError;
use crate::human::printable;
use crate::remote::command::OnDisk;
use crate::{ask, client, data_dir, remote};

pub const EXAMPLES: &str = "\
Examples:
  telemetryx-agent doctor
  telemetryx-agent doctor --json | jq '.findings[] | select(.level != \"ok\")'

Run it as the agent's user, so that it may and may not do the same: sudo -u telemetryx-agent telemetryx-agent doctor
Exit codes: 0 no problem (warnings are none), 1 at least one problem, 2 wrong usage.";

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing to do.
    Ok,
    /// It works, and may not for long, or not as well as it could.
    Warning,
    /// Something doesn't work.
    Problem,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do; empty when nothing is to be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

/// All is well.
pub fn ok(check: &'static str, found: impl Into<String>) -> Finding {
    Finding { check, level: Level::Ok, found: found.into(), remedy: String::new() }
}

/// It works, but.
pub fn warning(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { check, level: Level::Warning, found: found.into(), remedy: remedy.into() }
}

/// It doesn't work.
pub fn problem(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { check, level: Level::Problem, found: found.into(), remedy: remedy.into() }
}

/// Runs all checks.
///
/// # Errors
/// When standard output can't be written.
pub fn run(path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let findings = findings(path)?;
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    let mut out = std::io::stdout().lock();
    if json {
        let report = serde_json::json!({"ok": worst != Level::Problem, "file": path, "findings": findings});
        writeln!(out, "{report}")?;
    } else {
        show(&mut out, &findings)?;
    }
    Ok(if worst == Level::Problem { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What all checks find.
///
/// # Errors
/// When the system gives no runtime to try the link with.
pub fn findings(path: &Path) -> anyhow::Result<Vec<Finding>> {
    let error = match remote::command::on_disk(path) {
        Ok(found) => return examine(&found, path),
        Err(error) => error,
    };
    let mut findings = unusable(&error);
    if !matches!(error, ConfigError::Read { .. })
        && let Ok(text) = crate::config::text(path)
    {
        let data = data_dir::alone(&text);
        findings.push(host::running(&data, &ask::ask_once(&data, "status")));
    }
    Ok(findings)
}

/// One finding for each thing that is wrong in the file: without it little else can be looked at.
fn unusable(error: &ConfigError) -> Vec<Finding> {
    let remedy = "mend the file; `telemetryx-agent config --reference` lists every key";
    match error {
        ConfigError::Values(all) => all.iter().map(|one| problem("config", one, remedy)).collect(),
        other => vec![problem("config", other.to_string(), remedy)],
    }
}

fn examine(found: &OnDisk, path: &Path) -> anyhow::Result<Vec<Finding>> {
    let config = &found.merged.config;
    let data = &config.agent.data_dir;
    let mut findings =
        vec![ok("config", format!("{} is fine (agent {})", path.display(), config.agent.name))];
    let input = |section: &str| section.starts_with("input.");
    let warned = config.warnings().into_iter().filter(|(section, _)| !input(section));
    let remedy = "see what the sentence says; `telemetryx-agent check` names the line";
    findings.extend(warned.map(|(_, found)| warning("config", found, remedy)));
    let asked = ask::ask_once(data, "status");
    findings.push(host::running(data, &asked));
    let status = asked.ok();
    findings.extend(pushed::examine(found, status.as_ref()));
    findings.extend(disk::examine(config, status.is_some()));
    let hidden = identity::hidden(config);
    let probe = hidden.is_none().then(|| link::probe(config)).transpose()?;
    findings.extend(clock::examine(probe.as_ref().and_then(link::Probe::skew)));
    let console = probe.as_ref().and_then(link::Probe::console);
    findings.extend(identity::examine(config, status.as_ref(), console, clock::now()));
    findings.extend(hidden.map(|remedy| warning("link", "can't be tried without the enrolment", remedy)));
    findings.extend(probe.iter().flat_map(|probe| link::judge(probe, clock::now())));
    findings.extend(status.as_ref().and_then(client::broker_limit).map(|limit| link::messages(&limit)));
    findings.extend(inputs::examine(config, status.as_ref(), clock::now()));
    let pid = status.as_ref().and_then(|status| status["pid"].as_u64());
    findings.push(host::limits(config, pid));
    findings.push(stores::model(config));
    findings.extend(stores::examine(data));
    Ok(findings)
}

fn show(out: &mut impl Write, findings: &[Finding]) -> std::io::Result<()> {
    let wide = findings.iter().map(|finding| finding.check.len()).fold(12, usize::max);
    for finding in findings {
        let mark = match finding.level {
            Level::Ok => "ok      ",
            Level::Warning => "warning ",
            Level::Problem => "PROBLEM ",
        };
        writeln!(out, "{mark} {:<wide$} {}", finding.check, printable(&finding.found))?;
        if !finding.remedy.is_empty() {
            writeln!(out, "         {:<wide$} → {}", "", printable(&finding.remedy))?;
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count() as u64;
    let (warnings, problems) = (count(Level::Warning), count(Level::Problem));
    writeln!(
        out,
        "\n{}, {}",
        crate::human::things(problems, "problem"),
        crate::human::things(warnings, "warning")
    )
}
