//! Reading the kernel's small text files: bounded, and absent ones are simply absent.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use super::HostConfig;

/// No file of the kernel that we read is longer.
const MAX_FILE: u64 = 1 << 20;

/// Where the kernel's trees are.
#[derive(Clone, Debug)]
pub(super) struct Roots {
    proc: PathBuf,
    sys: PathBuf,
}

impl Roots {
    pub(super) fn new(config: &HostConfig) -> Self {
        Self { proc: config.procfs_root.clone(), sys: config.sysfs_root.clone() }
    }

    /// Fails where there is no /proc.
    pub(super) fn check(&self) -> std::io::Result<()> {
        File::open(self.proc.join("stat")).map(drop)
    }

    /// A file under /proc.
    pub(super) fn proc(&self, path: &str) -> Option<String> {
        read(&self.proc.join(path))
    }

    /// A file under /sys, trimmed.
    pub(super) fn sys(&self, path: &str) -> Option<String> {
        read(&self.sys.join(path)).map(|text| text.trim().to_owned())
    }

    /// Names in a folder under /sys, sorted.
    pub(super) fn sys_dir(&self, path: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.sys.join(path)) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.take(1_000).filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// True when this is the running kernel's tree, not a recording.
    pub(super) fn is_live(&self) -> bool {
        self.proc.as_os_str() == "/proc"
    }
}

fn read(path: &std::path::Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// This host's name.
pub(super) fn hostname(roots: &Roots) -> String {
    let name = roots.proc("sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

/// The numbers of a line, from a field on.
pub(super) fn numbers(fields: &str) -> Vec<u64> {
    fields.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect()
}
