//! Block devices, from /proc/diskstats. Counters grow; readers take rates.

use super::procfs::{Roots, numbers};
use super::{HostConfig, Sink};

/// The kernel counts in these, whatever the device's own sectors are.
const SECTOR: f64 = 512.0;

pub(super) fn sample(roots: &Roots, config: &HostConfig, sink: &mut Sink<'_, '_>) {
    if !config.wants("disk") {
        return;
    }
    let mut shown = 0;
    let Some(text) = roots.proc("diskstats") else { return };
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some(disk) = fields.nth(2) else { continue };
        let ignored = config.ignore_disks.iter().any(|prefix| disk.starts_with(prefix.as_str()));
        if ignored || !is_whole(disk) || shown >= config.max_instances {
            continue;
        }
        let rest: Vec<&str> = fields.collect();
        let count = numbers(&rest.join(" "));
        // reads, merged, sectors, ms, writes, merged, sectors, ms, in progress, ms busy, …
        let [reads, _, read_sectors, read_ms, writes, _, write_sectors, write_ms, _, busy_ms, ..] = count[..]
        else {
            continue;
        };
        if reads == 0 && writes == 0 {
            continue;
        }
        shown += 1;
        for (direction, operations, sectors, ms) in
            [("read", reads, read_sectors, read_ms), ("write", writes, write_sectors, write_ms)]
        {
            let labels = [("disk", disk), ("direction", direction)];
            sink.put("system.disk.io", &labels, "By", sectors as f64 * SECTOR);
            sink.put("system.disk.operations", &labels, "{operation}", operations as f64);
            sink.put("system.disk.operation_time", &labels, "s", ms as f64 / 1e3);
        }
        sink.put("system.disk.io_time", &[("disk", disk)], "s", busy_ms as f64 / 1e3);
    }
}

/// A whole device: its partitions would count the same bytes again.
fn is_whole(name: &str) -> bool {
    if name.starts_with("nvme") || name.starts_with("mmcblk") {
        return !name.contains('p');
    }
    let ends_in_digit = name.ends_with(|c: char| c.is_ascii_digit());
    !(["sd", "hd", "vd", "xvd"].iter().any(|prefix| name.starts_with(prefix)) && ends_in_digit)
}

#[cfg(test)]
mod tests {
    use super::is_whole;

    #[test]
    fn partitions_are_left_out() {
        for whole in ["sda", "vda", "nvme0n1", "mmcblk0", "dm-0", "md127"] {
            assert!(is_whole(whole), "{whole}");
        }
        for part in ["sda1", "vda2", "nvme0n1p3", "mmcblk0p1"] {
            assert!(!is_whole(part), "{part}");
        }
    }
}
