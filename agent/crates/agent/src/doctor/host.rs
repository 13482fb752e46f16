//! What the host gives: is an agent running, and may it open as many files as it is told to serve connections.

use std::path::Path;

use serde_json::Value;

use super::{Finding, ok, problem, warning};
use crate::ask::AskError;
use crate::client::span;
use crate::config::Config;

/// Files beside connections: logs, sockets, the runtime's own.
const OTHERS: u64 = 128;

/// Whether an agent runs on this data folder.
pub fn running(data: &Path, asked: &Result<Value, AskError>) -> Finding {
    const CHECK: &str = "agent";
    if let Err(AskError::NotAllowed { path }) = asked {
        return warning(
            CHECK,
            format!("this user may not ask it: {path} can't be opened"),
            "run this command as the agent's user (sudo -u telemetryx-agent telemetryx-agent doctor) or as root, or much can't be looked at",
        );
    }
    if let Ok(status) = asked {
        let version = status["version"].as_str().unwrap_or("?");
        let up = span(status["uptime_s"].as_u64().unwrap_or(0));
        if version != env!("CARGO_PKG_VERSION") {
            let found = format!(
                "version {version} is running, up {up}; this command is {}",
                env!("CARGO_PKG_VERSION")
            );
            return warning(CHECK, found, "restart the agent to run the version that is installed");
        }
        if let Some(why) = status["config"]["refused"]["why"].as_str() {
            let found =
                format!("running, up {up}, on a configuration of before: the last SIGHUP was refused: {why}");
            return problem(
                CHECK,
                found,
                "mend the file and send SIGHUP again (systemctl reload telemetryx-agent)",
            );
        }
        if let Some(missing) = status["fold"]["missing"].as_str() {
            return warning(
                CHECK,
                format!("running, up {up}; its start found that {missing}"),
                "look for who removes or damages files in its data_dir; a restart ends this warning",
            );
        }
        return ok(CHECK, format!("running, version {version}, up {up}"));
    }
    if held(data) {
        return problem(
            CHECK,
            format!("one holds {} and doesn't answer", data.display()),
            "look at its log (journalctl -u telemetryx-agent); run this command as the agent's user or root",
        );
    }
    warning(
        CHECK,
        format!("none is running on {}", data.display()),
        "start it: systemctl start telemetryx-agent",
    )
}

/// Whether somebody has the data folder's lock. Looks, and makes nothing.
fn held(data: &Path) -> bool {
    let Ok(file) = seglog::regular::open(&data.join("lock")) else { return false };
    matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}

/// Whether as many files may be open as the config lets connections come. `pid` is the running agent's.
pub fn limits(config: &Config, pid: Option<u64>) -> Finding {
    let input = &config.input;
    let wanted = OTHERS
        + input.mqtt.as_ref().map_or(0, |mqtt| (mqtt.max_clients + mqtt.max_unauthenticated) as u64)
        + input.http.as_ref().map_or(0, |http| http.max_connections as u64)
        + input.tcp.as_ref().map_or(0, |tcp| tcp.max_connections as u64);
    let whose = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let limits = std::fs::read_to_string(format!("/proc/{whose}/limits")).unwrap_or_default();
    judge_limit(wanted, open_files(&limits), pid.is_some())
}

/// The soft limit in `/proc/<pid>/limits`; `None` where it isn't told, the largest number for `unlimited`.
fn open_files(limits: &str) -> Option<u64> {
    let rest = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match rest.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn judge_limit(wanted: u64, limit: Option<u64>, of_agent: bool) -> Finding {
    const CHECK: &str = "open files";
    let whose = if of_agent { "the running agent" } else { "a program started here" };
    match limit {
        None => ok(CHECK, "how many may be open isn't told"),
        Some(limit) if limit < wanted => warning(
            CHECK,
            format!("{whose} may open {limit}; all connections that the config allows need {wanted}"),
            format!(
                "set LimitNOFILE={} in the unit (systemctl edit telemetryx-agent)",
                wanted.next_power_of_two()
            ),
        ),
        Some(_) => ok(CHECK, format!("{whose} may open enough for {wanted}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \nMax cpu time              unlimited            unlimited            seconds   \nMax open files            1024                 524288               files     \n";

    #[test]
    fn the_limit_on_open_files_is_read_and_judged_by_the_connections_allowed() {
        assert_eq!(open_files(LIMITS), Some(1024));
        assert_eq!(open_files(&LIMITS.replace("1024  ", "unlimited")), Some(u64::MAX));
        assert_eq!(open_files(""), None);
        assert_eq!(judge_limit(2_000, Some(1024), true).level, Level::Warning);
        assert_eq!(judge_limit(900, Some(1024), true).level, Level::Ok);
    }

    #[test]
    fn a_folder_is_held_only_while_somebody_has_its_lock() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!held(folder.path()));
        assert!(!folder.path().join("lock").exists(), "looking makes nothing");
        let lock = crate::lock::take(folder.path()).unwrap();
        assert!(held(folder.path()));
        drop(lock);
        assert!(!held(folder.path()));
    }
}
