//! Notices that the host's network came back, so that a long pause is cut short.

use std::time::Duration;

/// Returns when a route or an address appears that wasn't there at the call. Never returns where the
/// kernel shows neither (then the pause simply runs out).
pub(crate) async fn interface_came_up() {
    let before = links().await;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = links().await;
        if now.iter().any(|link| !before.contains(link)) {
            return;
        }
    }
}

/// Destination and interface of every IPv4 and IPv6 route.
async fn links() -> Vec<String> {
    let mut links = Vec::new();
    for path in ["/proc/net/route", "/proc/net/ipv6_route"] {
        let text = tokio::fs::read_to_string(path).await.unwrap_or_default();
        links.extend(text.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            // The counters in between change by themselves; first field and interface don't.
            Some(format!(
                "{path} {} {}",
                fields.first()?,
                if path.ends_with("v6_route") { fields.last()? } else { fields.get(1)? }
            ))
        }));
    }
    links
}
