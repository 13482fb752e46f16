//! Network interfaces, from /proc/net/dev. Counters grow; readers take rates.

use super::procfs::{Roots, numbers};
use super::{HostConfig, Sink};

pub(super) fn sample(roots: &Roots, config: &HostConfig, sink: &mut Sink<'_, '_>) {
    if !config.wants("network") {
        return;
    }
    let mut shown = 0;
    let Some(text) = roots.proc("net/dev") else { return };
    for line in text.lines() {
        let Some((interface, rest)) = line.split_once(':') else { continue };
        let count = numbers(rest);
        // received: bytes packets errs drop fifo frame compressed multicast; sent: the first four again.
        let [
            in_bytes,
            in_packets,
            in_errors,
            in_dropped,
            _,
            _,
            _,
            _,
            out_bytes,
            out_packets,
            out_errors,
            out_dropped,
            ..,
        ] = count[..]
        else {
            continue;
        };
        let interface = interface.trim();
        let ignored = config.ignore_interfaces.iter().any(|prefix| interface.starts_with(prefix.as_str()));
        if ignored || (in_packets == 0 && out_packets == 0) || shown >= config.max_instances {
            continue;
        }
        shown += 1;
        for (direction, bytes, packets, errors, dropped) in [
            ("receive", in_bytes, in_packets, in_errors, in_dropped),
            ("transmit", out_bytes, out_packets, out_errors, out_dropped),
        ] {
            let labels = [("interface", interface), ("direction", direction)];
            sink.put("system.network.io", &labels, "By", bytes as f64);
            sink.put("system.network.packets", &labels, "{packet}", packets as f64);
            sink.put("system.network.errors", &labels, "{error}", errors as f64);
            sink.put("system.network.dropped", &labels, "{packet}", dropped as f64);
        }
    }
    connections(roots, sink);
}

/// Open TCP sockets, from the summary that costs no walk over them.
fn connections(roots: &Roots, sink: &mut Sink<'_, '_>) {
    let Some(text) = roots.proc("net/sockstat") else { return };
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("TCP: ") else { continue };
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        for pair in fields.chunks_exact(2) {
            let state = match pair[0] {
                "inuse" => "in_use",
                "tw" => "time_wait",
                "orphan" => "orphan",
                _ => continue,
            };
            if let Ok(count) = pair[1].parse() {
                sink.put(
                    "system.network.connections",
                    &[("transport", "tcp"), ("state", state)],
                    "{connection}",
                    count,
                );
            }
        }
    }
}
