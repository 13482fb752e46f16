//! Load, uptime, processes, file handles and pressure: the one-line files of /proc.

use super::procfs::Roots;
use super::{HostConfig, Sink};

pub(super) fn sample(roots: &Roots, config: &HostConfig, sink: &mut Sink<'_, '_>) {
    if config.wants("load") {
        load(roots, sink);
    }
    if let Some(uptime) = roots.proc("uptime").and_then(|text| first(&text)) {
        sink.put("system.uptime", &[], "s", uptime);
    }
    if config.wants("processes")
        && let Some(open) = roots.proc("sys/fs/file-nr").and_then(|text| first(&text))
    {
        sink.put("system.filehandles.open", &[], "{handle}", open);
    }
    if !config.wants("pressure") {
        return;
    }
    for resource in ["cpu", "memory", "io"] {
        if let Some(text) = roots.proc(&format!("pressure/{resource}")) {
            pressure(&text, resource, sink);
        }
    }
}

fn first(text: &str) -> Option<f64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

fn load(roots: &Roots, sink: &mut Sink<'_, '_>) {
    let Some(text) = roots.proc("loadavg") else { return };
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let names = ["system.cpu.load_average.1m", "system.cpu.load_average.5m", "system.cpu.load_average.15m"];
    for (name, field) in names.iter().zip(&fields) {
        if let Ok(value) = field.parse() {
            sink.put(name, &[], "{thread}", value);
        }
    }
    if let Some(threads) =
        fields.get(3).and_then(|field| field.split_once('/')).and_then(|(_, all)| all.parse().ok())
    {
        sink.put("system.threads.count", &[], "{thread}", threads);
    }
}

/// Pressure stall information: the share of time in which some, or all, tasks waited (0 to 1, over 10 s).
fn pressure(text: &str, resource: &str, sink: &mut Sink<'_, '_>) {
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some(scope @ ("some" | "full")) = fields.next() else { continue };
        let average =
            fields.find_map(|field| field.strip_prefix("avg10=")).and_then(|value| value.parse::<f64>().ok());
        if let Some(percent) = average {
            sink.put(
                "system.linux.pressure",
                &[("resource", resource), ("scope", scope)],
                "1",
                percent / 100.0,
            );
        }
    }
}
