//! One tick: every group of metrics into an intake.
//!
//! Totals since boot are sent as the kernel has them (OpenTelemetry's cumulative sums); only
//! `system.cpu.utilization` is a difference, of two ticks, so the first tick has none.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use telemetry::series::{DEVICE, SITE};

use super::config::HostConfig;
use super::parse::{self, MODES};
use super::sensors::{self, Sensor};
use crate::intake::IntakeBuilder;

/// After so many ticks it is looked again which sensors there are.
const LOOK_FOR_SENSORS: u64 = 30;
/// Most bytes of one kernel file.
const MAX_FILE: u64 = 4 << 20;

/// Reads the kernel's files; keeps what it needs from tick to tick.
pub struct Sampler {
    config: HostConfig,
    device: String,
    ticks: Option<[u64; 8]>,
    sensors: Vec<Sensor>,
    looked: u64,
    text: String,
}

/// One tick's way out.
struct Out<'o, 'a> {
    builder: &'o mut IntakeBuilder<'a>,
    device: &'o str,
    site: &'o str,
    time: i64,
    failed: Option<String>,
}

impl Out<'_, '_> {
    fn put(&mut self, name: &str, labels: &[(&str, &str)], unit: &str, value: f64) {
        let mut all = [("", ""); 6];
        all[0] = (DEVICE, self.device);
        all[1] = (SITE, self.site);
        let count = 2 + labels.len().min(4);
        all[2..count].copy_from_slice(&labels[..count - 2]);
        if let Err(rejection) = self.builder.sample(name, &all[..count], unit, Some(self.time), value, 0) {
            self.builder.rejected(rejection.cause, &rejection.reason, name.as_bytes());
            self.failed = Some(rejection.reason);
        }
    }

    fn total(&mut self, name: &str, labels: &[(&str, &str)], unit: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.put(name, labels, unit, value as f64);
        }
    }
}

type Group = fn(&mut Sampler, &mut Out<'_, '_>);

/// Every group but the CPU's, which is read with the processes' part of the same file.
const GROUPS: [(&str, Group); 9] = [
    ("load", Sampler::load),
    ("memory", Sampler::memory),
    ("paging", Sampler::paging),
    ("disk", Sampler::disks),
    ("filesystem", Sampler::filesystems),
    ("network", Sampler::network),
    ("processes", Sampler::processes),
    ("temperature", Sampler::temperatures),
    ("pressure", Sampler::pressure),
];

impl Sampler {
    /// A sampler for the host (or the recorded tree) of a configuration.
    pub fn new(config: HostConfig) -> Self {
        let mut sampler = Self {
            device: String::new(),
            config,
            ticks: None,
            sensors: Vec::new(),
            looked: 0,
            text: String::new(),
        };
        sampler.device = match sampler.config.device.as_str() {
            "" => sampler.host_name(),
            name => name.to_owned(),
        };
        sampler
    }

    /// The recorded tree has its own name; a container's /proc has the container's.
    fn host_name(&mut self) -> String {
        match self.proc("sys/kernel/hostname").map(str::trim) {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        }
    }

    /// The name in the label `device`.
    pub fn device(&self) -> &str {
        &self.device
    }

    fn proc(&mut self, file: &str) -> Option<&str> {
        read(&self.config.procfs_root.join(file), &mut self.text)
    }

    /// Adds everything that can be read now, as of `time`. Gives the reason when a series was refused.
    pub fn sample(&mut self, time: i64, builder: &mut IntakeBuilder<'_>) -> Option<String> {
        let (device, site) = (self.device.clone(), self.config.site.clone());
        let mut out = Out { builder, device: &device, site: &site, time, failed: None };
        let config = self.config.clone();
        self.cpu(&mut out, config.wants("cpu"), config.wants("processes"));
        for (name, group) in GROUPS {
            if config.wants(name) {
                group(self, &mut out);
            }
        }
        out.failed
    }

    fn cpu(&mut self, out: &mut Out<'_, '_>, cpu: bool, processes: bool) {
        let Some(stat) = self.proc("stat").map(parse::stat) else { return };
        if cpu {
            if let Some(now) = stat.ticks {
                if let Some(before) = self.ticks {
                    // A mode that runs backwards (iowait may) counts as still.
                    let spent: [u64; 8] = std::array::from_fn(|mode| now[mode].saturating_sub(before[mode]));
                    let all: u64 = spent.iter().sum();
                    if all > 0 {
                        for (mode, ticks) in MODES.iter().zip(spent) {
                            let share = ticks as f64 / all as f64;
                            out.put("system.cpu.utilization", &[("mode", mode)], "1", share);
                        }
                    }
                }
                for (mode, ticks) in MODES.iter().zip(now) {
                    out.put("system.cpu.time", &[("mode", mode)], "s", parse::seconds(ticks));
                }
                self.ticks = Some(now);
            }
            if stat.cpus > 0 {
                out.put("system.cpu.logical.count", &[], "{cpu}", stat.cpus as f64);
            }
            out.total("system.cpu.context_switches", &[], "{switch}", stat.context_switches);
            out.total("system.cpu.interrupts", &[], "{interrupt}", stat.interrupts);
        }
        if processes {
            out.total("system.processes.created", &[], "{process}", stat.forks);
            out.total("system.processes.count", &[("status", "running")], "{process}", stat.running);
            out.total("system.processes.count", &[("status", "blocked")], "{process}", stat.blocked);
        }
    }

    fn load(&mut self, out: &mut Out<'_, '_>) {
        if let Some((averages, threads)) = self.proc("loadavg").and_then(parse::loadavg) {
            for (name, value) in ["1m", "5m", "15m"].iter().zip(averages) {
                out.put(&format!("system.cpu.load_average.{name}"), &[], "{thread}", value);
            }
            out.put("system.threads.count", &[], "{thread}", threads as f64);
        }
        if let Some(seconds) = self.proc("uptime").and_then(parse::uptime) {
            out.put("system.uptime", &[], "s", seconds);
        }
    }

    fn memory(&mut self, out: &mut Out<'_, '_>) {
        let Some(memory) = self.proc("meminfo").and_then(parse::meminfo) else { return };
        let cache = memory.buffers + memory.cached + memory.slab_reclaimable;
        let used = memory.total.saturating_sub(memory.free).saturating_sub(cache);
        for (state, bytes) in [
            ("used", used),
            ("free", memory.free),
            ("buffers", memory.buffers),
            ("cached", memory.cached),
            ("slab_reclaimable", memory.slab_reclaimable),
            ("slab_unreclaimable", memory.slab_unreclaimable),
            ("shared", memory.shared),
        ] {
            out.put("system.memory.usage", &[("state", state)], "By", bytes as f64);
            out.put(
                "system.memory.utilization",
                &[("state", state)],
                "1",
                bytes as f64 / memory.total as f64,
            );
        }
        out.put("system.memory.limit", &[], "By", memory.total as f64);
        out.total("system.linux.memory.available", &[], "By", memory.available);
        if memory.swap_total > 0 && self.config.wants("paging") {
            let used = memory.swap_total.saturating_sub(memory.swap_free);
            for (state, bytes) in [("used", used), ("free", memory.swap_free)] {
                out.put("system.paging.usage", &[("state", state)], "By", bytes as f64);
                let share = bytes as f64 / memory.swap_total as f64;
                out.put("system.paging.utilization", &[("state", state)], "1", share);
            }
        }
    }

    fn paging(&mut self, out: &mut Out<'_, '_>) {
        let Some(paging) = self.proc("vmstat").map(parse::vmstat) else { return };
        let minor = paging.faults.zip(paging.major_faults).map(|(all, major)| all.saturating_sub(major));
        out.total("system.paging.faults", &[("type", "major")], "{fault}", paging.major_faults);
        out.total("system.paging.faults", &[("type", "minor")], "{fault}", minor);
        out.total("system.paging.operations", &[("direction", "in")], "{operation}", paging.swapped_in);
        out.total("system.paging.operations", &[("direction", "out")], "{operation}", paging.swapped_out);
    }

    fn disks(&mut self, out: &mut Out<'_, '_>) {
        let Some(disks) = self.proc("diskstats").map(|text| parse::diskstats(text).collect::<Vec<_>>())
        else {
            return;
        };
        let blocks = self.config.sysfs_root.join("block");
        let known = blocks.is_dir();
        let mut left = self.config.max_instances;
        for disk in disks {
            let ignored =
                self.config.ignore_disks.iter().any(|prefix| disk.name.starts_with(prefix.as_str()));
            // Partitions are parts of a disk that is counted already. In /sys a slash is an exclamation mark.
            let partition = known && !blocks.join(disk.name.replace('/', "!")).exists();
            if ignored || partition || left == 0 {
                continue;
            }
            left -= 1;
            let name = disk.name.as_str();
            for (direction, bytes, operations, merged, seconds) in [
                ("read", disk.read_bytes, disk.reads, disk.reads_merged, disk.read_seconds),
                ("write", disk.written_bytes, disk.writes, disk.writes_merged, disk.write_seconds),
            ] {
                let labels = [("disk", name), ("direction", direction)];
                out.put("system.disk.io", &labels, "By", bytes as f64);
                out.put("system.disk.operations", &labels, "{operation}", operations as f64);
                out.put("system.disk.merged", &labels, "{operation}", merged as f64);
                out.put("system.disk.operation_time", &labels, "s", seconds);
            }
            out.put("system.disk.io_time", &[("disk", name)], "s", disk.busy_seconds);
            out.put(
                "system.disk.pending_operations",
                &[("disk", name)],
                "{operation}",
                disk.in_flight as f64,
            );
        }
    }

    fn filesystems(&mut self, out: &mut Out<'_, '_>) {
        // A recorded /proc names mounts of another host: they can't be asked how full they are.
        if self.config.procfs_root != Path::new("/proc") && self.config.root == Path::new("/") {
            return;
        }
        let Some(mounts) = self
            .proc("1/mounts")
            .map(|text| parse::mounts(text).collect::<Vec<_>>())
            .filter(|m| !m.is_empty())
            .or_else(|| self.proc("self/mounts").map(|text| parse::mounts(text).collect::<Vec<_>>()))
        else {
            return;
        };
        let mut seen: Vec<&str> = Vec::new();
        for mount in &mounts {
            let ignored = self.config.ignore_filesystems.contains(&mount.kind);
            if ignored || seen.contains(&mount.source.as_str()) || seen.len() >= self.config.max_instances {
                continue;
            }
            let path = join(&self.config.root, &mount.point);
            let Ok(space) = rustix::fs::statvfs(&path) else { continue };
            if space.f_blocks == 0 {
                continue;
            }
            seen.push(&mount.source);
            let labels = |state| {
                [
                    ("mountpoint", mount.point.as_str()),
                    ("filesystem", mount.source.as_str()),
                    ("type", mount.kind.as_str()),
                    ("state", state),
                ]
            };
            let block = space.f_frsize;
            let bytes = |blocks: u64| blocks.saturating_mul(block) as f64;
            let used = space.f_blocks.saturating_sub(space.f_bfree);
            out.put("system.filesystem.usage", &labels("used"), "By", bytes(used));
            out.put("system.filesystem.usage", &labels("free"), "By", bytes(space.f_bavail));
            let reserved = space.f_bfree.saturating_sub(space.f_bavail);
            out.put("system.filesystem.usage", &labels("reserved"), "By", bytes(reserved));
            // As df shows it: of what an ordinary process could use.
            let usable = used + space.f_bavail;
            if usable > 0 {
                out.put("system.filesystem.utilization", &labels("used"), "1", used as f64 / usable as f64);
            }
            if space.f_files > 0 {
                let files = space.f_files.saturating_sub(space.f_ffree);
                out.put("system.filesystem.inodes.usage", &labels("used"), "{inode}", files as f64);
                let share = files as f64 / space.f_files as f64;
                out.put("system.filesystem.inodes.utilization", &labels("used"), "1", share);
            }
        }
    }

    /// In a host's /proc that is mounted in a container, `net` leads to the container's own interfaces: the host's are those of
    /// its first process. A recording has none.
    fn interfaces(&mut self) -> Option<Vec<parse::Interface>> {
        let mounted = self.config.procfs_root != Path::new("/proc");
        let files: &[&str] = if mounted { &["1/net/dev", "net/dev"] } else { &["net/dev"] };
        files.iter().find_map(|file| self.proc(file).map(|text| parse::netdev(text).collect()))
    }

    fn network(&mut self, out: &mut Out<'_, '_>) {
        let Some(interfaces) = self.interfaces() else { return };
        let mut left = self.config.max_instances;
        for interface in interfaces {
            let name = interface.name.as_str();
            if left == 0
                || self.config.ignore_interfaces.iter().any(|prefix| name.starts_with(prefix.as_str()))
            {
                continue;
            }
            left -= 1;
            for (direction, [bytes, packets, errors, dropped]) in
                [("receive", interface.received), ("transmit", interface.sent)]
            {
                let labels = [("interface", name), ("direction", direction)];
                out.put("system.network.io", &labels, "By", bytes as f64);
                out.put("system.network.packets", &labels, "{packet}", packets as f64);
                out.put("system.network.errors", &labels, "{error}", errors as f64);
                out.put("system.network.dropped", &labels, "{packet}", dropped as f64);
            }
        }
    }

    fn processes(&mut self, out: &mut Out<'_, '_>) {
        let Ok(entries) = std::fs::read_dir(&self.config.procfs_root) else { return };
        let number = |name: &std::ffi::OsStr| name.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit);
        let count = entries.flatten().filter(|entry| number(&entry.file_name())).count();
        if count > 0 {
            out.put("system.processes.count", &[], "{process}", count as f64);
        }
    }

    fn temperatures(&mut self, out: &mut Out<'_, '_>) {
        if self.looked.is_multiple_of(LOOK_FOR_SENSORS) {
            self.sensors = sensors::find(&self.config.sysfs_root, self.config.max_instances);
        }
        self.looked += 1;
        for sensor in &self.sensors {
            if let Some(value) = sensor.read() {
                out.put("hw.temperature", &[("sensor", &sensor.name)], "Cel", value);
            }
        }
    }

    fn pressure(&mut self, out: &mut Out<'_, '_>) {
        for resource in ["cpu", "io", "memory"] {
            let Some(text) = self.proc(&format!("pressure/{resource}")) else { continue };
            for (kind, share, total) in parse::pressure(text) {
                let labels = [("resource", resource), ("kind", kind)];
                out.put("system.linux.pressure.stalled", &labels, "1", share);
                out.put("system.linux.pressure.stalled_time", &labels, "s", total);
            }
        }
    }
}

fn join(root: &Path, mount: &str) -> PathBuf {
    root.join(mount.trim_start_matches('/'))
}

/// Reads a kernel file into `text`. Bytes that aren't UTF-8 make the file unreadable, not the agent.
fn read<'t>(path: &Path, text: &'t mut String) -> Option<&'t str> {
    text.clear();
    File::open(path).ok()?.take(MAX_FILE).read_to_string(text).ok()?;
    Some(text)
}
