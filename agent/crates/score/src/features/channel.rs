//! Which series feeds which feature, and how its values count.

use telemetry::SeriesKey;

/// How the samples of a series count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// As they are; the mean of a cell.
    Gauge,
    /// 1 minus what they are.
    Complement,
    /// A running total: its rate per second.
    Counter,
}

/// Where a series goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Channel {
    pub feature: u8,
    pub kind: Kind,
}

/// Bytes per second from which a rate counts as traffic and not as background.
const DISK_UNIT: f64 = 100_000.0;
const NETWORK_UNIT: f64 = 20_000.0;

/// The channel of a host metric, by its name and labels; `None` of any other series.
pub(super) fn recognise(key: &SeriesKey) -> Option<Channel> {
    let either = |names: [&str; 2]| names.iter().find_map(|name| key.label(name)).unwrap_or("");
    let (feature, kind) = match key.name() {
        "system.cpu.utilization" => match either(["mode", "state"]) {
            "idle" => (0, Kind::Complement),
            "iowait" | "wait" => (1, Kind::Gauge),
            _ => return None,
        },
        "system.cpu.load_average.1m" => (2, Kind::Gauge),
        "system.memory.utilization" if either(["state", "mode"]) == "used" => (3, Kind::Gauge),
        "system.disk.io" if real_disk(either(["disk", "system.device"])) => match either(["direction", "op"])
        {
            "read" => (4, Kind::Counter),
            "write" => (5, Kind::Counter),
            _ => return None,
        },
        "system.network.io" if either(["interface", "network.interface.name"]) != "lo" => {
            match either(["direction", "network.io.direction"]) {
                "receive" => (6, Kind::Counter),
                "transmit" => (7, Kind::Counter),
                _ => return None,
            }
        }
        _ => return None,
    };
    Some(Channel { feature, kind })
}

fn real_disk(name: &str) -> bool {
    !["loop", "ram", "zram"].iter().any(|unreal| name.starts_with(unreal))
}

/// Brings a feature onto a scale on which a change means about the same at any level.
pub(super) fn transform(feature: usize, value: f64) -> f64 {
    let positive = value.max(0.0);
    match feature {
        0 | 1 | 3 => value.clamp(0.0, 1.0),
        2 => libm::log1p(positive),
        4 | 5 => libm::log1p(positive / DISK_UNIT),
        _ => libm::log1p(positive / NETWORK_UNIT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, labels: &[(&str, &str)]) -> Option<u8> {
        recognise(&SeriesKey::new(name, labels.iter().copied()).unwrap()).map(|channel| channel.feature)
    }

    #[test]
    fn host_metrics_feed_features_and_nothing_else_does() {
        assert_eq!(of("system.cpu.utilization", &[("device", "h"), ("mode", "idle")]), Some(0));
        assert_eq!(of("system.cpu.utilization", &[("mode", "iowait")]), Some(1));
        assert_eq!(of("system.cpu.utilization", &[("mode", "user")]), None);
        assert_eq!(of("system.cpu.load_average.1m", &[]), Some(2));
        assert_eq!(of("system.memory.utilization", &[("state", "used")]), Some(3));
        assert_eq!(of("system.memory.utilization", &[("state", "cached")]), None);
        assert_eq!(of("system.disk.io", &[("disk", "sda"), ("direction", "write")]), Some(5));
        assert_eq!(of("system.disk.io", &[("disk", "loop3"), ("direction", "write")]), None);
        assert_eq!(of("system.network.io", &[("interface", "eth0"), ("direction", "receive")]), Some(6));
        assert_eq!(of("system.network.io", &[("interface", "lo"), ("direction", "receive")]), None);
        assert_eq!(of("temperature", &[("device", "pump-7")]), None);
    }
}
