//! `[input.host]`. The doc comments are the config reference.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use telemetry::SeriesKey;

use crate::span::Span;

/// This host's own metrics, from the kernel, named as OpenTelemetry's `system.*` conventions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HostConfig {
    /// How often, from "100ms". Readings fall on multiples of it.
    pub interval: Span,
    /// Name of this device in the label `device`. Empty: what the variable TELEMETRYX_AGENT_NAME holds, else the host's name.
    pub device: String,
    /// Site, for the label `site`. Empty: none.
    pub site: String,
    /// Where /proc is mounted; a copy of one is read as well.
    pub procfs_root: PathBuf,
    /// Where /sys is mounted; a copy of one is read as well.
    pub sysfs_root: PathBuf,
    /// Where the host's own root directory is mounted, to see how full its file systems are.
    pub root: PathBuf,
    /// Groups that are read: cpu, load, memory, paging, disk, filesystem, network, processes, temperature, pressure. Empty: all.
    pub groups: Vec<String>,
    /// Block devices that are left out, by the beginning of their names.
    pub ignore_disks: Vec<String>,
    /// Network interfaces that are left out, by the beginning of their names.
    pub ignore_interfaces: Vec<String>,
    /// File system types that are left out: those without a disk, and those of other hosts, which may
    /// block the one who asks when the other host is away.
    pub ignore_filesystems: Vec<String>,
    /// Most series of one kind (disks, interfaces, mounts, sensors): a host with thousands of containers
    /// doesn't fill the series table.
    pub max_instances: usize,
}

impl Default for HostConfig {
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            interval: Span::secs(10),
            device: String::new(),
            site: String::new(),
            procfs_root: "/proc".into(),
            sysfs_root: "/sys".into(),
            root: "/".into(),
            groups: Vec::new(),
            ignore_disks: list(&["loop", "ram", "zram", "fd", "sr"]),
            ignore_interfaces: list(&["veth", "br-", "docker", "virbr", "cali", "flannel", "cni"]),
            ignore_filesystems: list(&[
                "9p",
                "autofs",
                "binfmt_misc",
                "bpf",
                "cgroup",
                "ceph",
                "cgroup2",
                "cifs",
                "configfs",
                "debugfs",
                "devpts",
                "devtmpfs",
                "efivarfs",
                "fuse.lxcfs",
                "fuse.sshfs",
                "fusectl",
                "hugetlbfs",
                "mqueue",
                "nfs",
                "nfs4",
                "nsfs",
                "overlay",
                "proc",
                "pstore",
                "ramfs",
                "rpc_pipefs",
                "securityfs",
                "smb3",
                "squashfs",
                "sysfs",
                "tmpfs",
                "tracefs",
            ]),
            max_instances: 64,
        }
    }
}

/// The groups of metrics.
pub(crate) const GROUPS: [&str; 10] = [
    "cpu",
    "load",
    "memory",
    "paging",
    "disk",
    "filesystem",
    "network",
    "processes",
    "temperature",
    "pressure",
];

/// Why the host input can't run.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A value that can't work.
    #[error("{key} is {value}: {remedy}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it is set to.
        value: String,
        /// What to do.
        remedy: String,
    },
    /// Nothing to read there.
    #[error("procfs_root = {path:?} holds no stat file ({error}): set it to where /proc is mounted")]
    NoProc {
        /// Where.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The reading task died.
    #[error("reading /proc failed: {0}")]
    Task(String),
}

impl HostConfig {
    /// Checks what types can't say.
    ///
    /// # Errors
    /// [`HostError`], naming the key and the remedy.
    pub fn check(&self) -> Result<(), HostError> {
        if !(Duration::from_millis(100)..=Duration::from_secs(86_400)).contains(&self.interval.0) {
            let remedy = "give \"100ms\" to \"1d\"".to_owned();
            return Err(HostError::Value { key: "interval", value: self.interval.to_string(), remedy });
        }
        if let Some(unknown) = self.groups.iter().find(|group| !GROUPS.contains(&group.as_str())) {
            let remedy = format!("there are {}", GROUPS.join(", "));
            return Err(HostError::Value { key: "groups", value: format!("{unknown:?}"), remedy });
        }
        for (key, label) in [("device", &self.device), ("site", &self.site)] {
            // Every reading would be refused for it.
            if let Err(why) = SeriesKey::new("system", [(key, label.as_str())]) {
                let (value, remedy) = (format!("{label:?}"), format!("{why}: give a shorter one"));
                return Err(HostError::Value { key, value, remedy });
            }
        }
        Ok(())
    }

    /// Looks whether the kernel's first file is there, as each start does.
    ///
    /// # Errors
    /// [`HostError::NoProc`].
    pub fn files(&self) -> Result<(), HostError> {
        std::fs::metadata(self.procfs_root.join("stat"))
            .map(drop)
            .map_err(|error| HostError::NoProc { path: self.procfs_root.clone(), error })
    }

    /// Folders without which some metrics are missing, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let roots = [
            ("sysfs_root", &self.sysfs_root, "disks and temperatures"),
            ("root", &self.root, "how full file systems are"),
        ];
        let missing = roots.into_iter().filter(|(_, path, _)| !path.is_dir());
        let said = missing.map(|(key, path, what)| {
            format!("{key} = {path:?} is no folder here: {what} won't be read; name where it is mounted, or leave the key out")
        });
        said.collect()
    }

    pub(crate) fn wants(&self, group: &str) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|wanted| wanted == group)
    }
}
