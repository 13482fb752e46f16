//! Space on local file systems, from /proc/self/mounts and statvfs.

use super::procfs::Roots;
use super::{HostConfig, Sink};

/// Asking a dead server would block for minutes: network file systems are never asked.
const REMOTE: [&str; 7] = ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph"];

pub(super) fn sample(roots: &Roots, config: &HostConfig, sink: &mut Sink<'_, '_>) {
    // A recording has no disks behind it.
    if !roots.is_live() || !config.wants("filesystem") {
        return;
    }
    let Some(text) = roots.proc("self/mounts") else { return };
    let mut seen: Vec<&str> = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [source, mountpoint, kind, ..] = fields[..] else { continue };
        // A device that is mounted at several places is one file system.
        let ignored =
            REMOTE.contains(&kind) || config.ignore_filesystems.iter().any(|ignored| ignored == kind);
        if ignored || seen.contains(&source) || seen.len() >= config.max_instances {
            continue;
        }
        seen.push(source);
        let place = unescape(mountpoint);
        let Ok(space) = rustix::fs::statvfs(place.as_str()) else { continue };
        let block = space.f_frsize as f64;
        let total = space.f_blocks as f64 * block;
        if total <= 0.0 {
            continue;
        }
        let free = space.f_bavail as f64 * block;
        let reserved = (space.f_bfree as f64 - space.f_bavail as f64).max(0.0) * block;
        let used = total - space.f_bfree as f64 * block;
        for (state, bytes) in [("used", used), ("free", free), ("reserved", reserved)] {
            let labels = [("mountpoint", place.as_str()), ("type", kind), ("state", state)];
            sink.put("system.filesystem.usage", &labels, "By", bytes);
            sink.put("system.filesystem.utilization", &labels, "1", bytes / total);
        }
    }
}

/// The kernel writes blanks in a path as `\040`.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}
