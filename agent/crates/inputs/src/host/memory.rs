//! Memory and swap, from /proc/meminfo and /proc/vmstat.

use std::collections::HashMap;

use super::procfs::Roots;
use super::{HostConfig, Sink};

pub(super) fn sample(roots: &Roots, config: &HostConfig, sink: &mut Sink<'_, '_>) {
    if config.wants("memory") {
        memory(roots, sink);
    }
    if config.wants("paging") {
        paging(roots, sink);
    }
}

fn memory(roots: &Roots, sink: &mut Sink<'_, '_>) {
    let Some(text) = roots.proc("meminfo") else { return };
    let table = table(&text);
    let bytes = |name: &str| table.get(name).copied();
    let Some(total) = bytes("MemTotal").filter(|total| *total > 0.0) else { return };
    let free = bytes("MemFree").unwrap_or(0.0);
    let buffers = bytes("Buffers").unwrap_or(0.0);
    let cached = bytes("Cached").unwrap_or(0.0) + bytes("SReclaimable").unwrap_or(0.0);
    let used = (total - free - buffers - cached).max(0.0);
    for (state, value) in [("used", used), ("free", free), ("buffers", buffers), ("cached", cached)] {
        sink.put("system.memory.usage", &[("state", state)], "By", value);
        sink.put("system.memory.utilization", &[("state", state)], "1", value / total);
    }
    sink.put("system.memory.limit", &[], "By", total);
    if let Some(available) = bytes("MemAvailable") {
        sink.put("system.linux.memory.available", &[], "By", available);
    }
    if let Some(dirty) = bytes("Dirty") {
        sink.put("system.linux.memory.dirty", &[], "By", dirty);
    }
}

/// /proc/meminfo as name and bytes.
fn table(text: &str) -> HashMap<&str, f64> {
    text.lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(':')?;
            let kib: f64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
            Some((name, kib * 1024.0))
        })
        .collect()
}

fn paging(roots: &Roots, sink: &mut Sink<'_, '_>) {
    let text = roots.proc("meminfo").unwrap_or_default();
    let table = table(&text);
    let bytes = |name: &str| table.get(name).copied();
    if let Some(swap) = bytes("SwapTotal").filter(|swap| *swap > 0.0) {
        let free = bytes("SwapFree").unwrap_or(0.0);
        for (state, value) in [("used", swap - free), ("free", free)] {
            sink.put("system.paging.usage", &[("state", state)], "By", value);
            sink.put("system.paging.utilization", &[("state", state)], "1", value / swap);
        }
    }
    let Some(text) = roots.proc("vmstat") else { return };
    for line in text.lines() {
        let Some((name, value)) = line.split_once(' ') else { continue };
        let Ok(value) = value.parse::<f64>() else { continue };
        match name {
            "pgmajfault" => sink.put("system.paging.faults", &[("type", "major")], "{fault}", value),
            "pgfault" => sink.put("system.paging.faults", &[("type", "all")], "{fault}", value),
            "pswpin" => sink.put("system.paging.operations", &[("direction", "in")], "{operation}", value),
            "pswpout" => sink.put("system.paging.operations", &[("direction", "out")], "{operation}", value),
            _ => {}
        }
    }
}
