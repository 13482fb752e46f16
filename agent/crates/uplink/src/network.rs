//! Notices that the host's network came back, so that a long pause is cut short.

use std::time::Duration;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Returns when a route or an interface's carrier appears that wasn't there a moment before. Never returns where the kernel
/// shows neither (then the pause simply runs out).
pub(crate) async fn interface_came_up() {
    came_up(links, async || tokio::time::sleep(EVERY).await).await;
}

async fn came_up(look: impl AsyncFn() -> Vec<String>, pause: impl AsyncFn()) {
    let mut before = look().await;
    loop {
        pause().await;
        let now = look().await;
        if now.iter().any(|link| !before.contains(link)) {
            return;
        }
        // What goes meanwhile is news when it comes again.
        before = now;
    }
}

/// Destination and interface of every IPv4 and IPv6 route, and every interface that has a carrier: where addresses are fixed,
/// routes stay when the cable is pulled.
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
    let Ok(mut interfaces) = tokio::fs::read_dir("/sys/class/net").await else { return links };
    while let Ok(Some(interface)) = interfaces.next_entry().await {
        let carrier = tokio::fs::read_to_string(interface.path().join("carrier")).await;
        if carrier.is_ok_and(|carrier| carrier.trim() == "1") {
            links.push(interface.path().display().to_string());
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// At which look it is noticed; `None` when it never is.
    async fn noticed(looks: &[&[&str]]) -> Option<usize> {
        let at = Cell::new(0);
        let look = async || {
            let links = looks[at.get().min(looks.len() - 1)];
            at.set(at.get() + 1);
            links.iter().map(ToString::to_string).collect()
        };
        tokio::select! {
            biased;
            () = came_up(look, async || tokio::task::yield_now().await) => Some(at.get()),
            () = async { while at.get() < looks.len() + 2 { tokio::task::yield_now().await } } => None,
        }
    }

    #[tokio::test]
    async fn what_appears_is_noticed_also_when_it_was_there_at_first_and_went() {
        assert_eq!(noticed(&[&["lo"], &["lo"], &["lo", "eth0"]]).await, Some(3));
        assert_eq!(noticed(&[&["lo", "eth0"], &["lo"], &["lo"], &["lo", "eth0"]]).await, Some(4));
        assert_eq!(noticed(&[&["lo", "eth0"], &["lo"]]).await, None, "to go is no reason");
    }
}
