//! CPU time and utilization over all processors, from /proc/stat.

use super::procfs::{Roots, numbers};
use super::{HostConfig, Sink};

/// Columns of a `cpu` line, as `cpu.mode` of OpenTelemetry's semantic conventions names them.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "interrupt", "softirq", "steal"];
/// USER_HZ: 100 on every architecture that Linux reports to programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Utilization is a difference: the counters of the round before.
#[derive(Debug, Default)]
pub(super) struct Rates {
    last: Vec<u64>,
}

impl Rates {
    /// Reads the counters without giving samples.
    pub(super) fn prime(&mut self, roots: &Roots) {
        self.last = roots.proc("stat").and_then(|text| total(&text)).unwrap_or_default();
    }

    pub(super) fn sample(&mut self, roots: &Roots, config: &HostConfig, sink: &mut Sink<'_, '_>) {
        let Some(text) = roots.proc("stat") else { return };
        if !config.wants("cpu") {
            self.last.clear();
        } else if let Some(now) = total(&text) {
            for (mode, ticks) in MODES.iter().zip(&now) {
                sink.put("system.cpu.time", &[("mode", mode)], "s", *ticks as f64 / TICKS_PER_SECOND);
            }
            // A counter that went back (iowait may, a container that moved) makes no negative share.
            let passed: Vec<u64> =
                now.iter().zip(&self.last).map(|(now, last)| now.saturating_sub(*last)).collect();
            let sum: u64 = passed.iter().sum();
            if sum > 0 {
                for (mode, ticks) in MODES.iter().zip(&passed) {
                    sink.put("system.cpu.utilization", &[("mode", mode)], "1", *ticks as f64 / sum as f64);
                }
            }
            self.last = now;
        }
        if config.wants("cpu") {
            let processors =
                text.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
            sink.put("system.cpu.logical.count", &[], "{cpu}", processors as f64);
        }
        for line in text.lines() {
            let (group, name, unit) = match line.split_ascii_whitespace().next() {
                Some("ctxt") => ("cpu", "system.cpu.context_switches", "{switch}"),
                Some("intr") => ("cpu", "system.cpu.interrupts", "{interrupt}"),
                Some("processes") => ("processes", "system.processes.created", "{process}"),
                Some("procs_running") => ("processes", "system.processes.running", "{process}"),
                Some("procs_blocked") => ("processes", "system.processes.blocked", "{process}"),
                _ => continue,
            };
            if config.wants(group)
                && let Some(value) =
                    line.split_ascii_whitespace().nth(1).and_then(|field| field.parse::<f64>().ok())
            {
                sink.put(name, &[], unit, value);
            }
        }
    }
}

/// The `cpu` line: all processors together.
fn total(text: &str) -> Option<Vec<u64>> {
    let fields = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let mut counters = numbers(fields);
    counters.truncate(MODES.len());
    (counters.len() >= 4).then_some(counters)
}
