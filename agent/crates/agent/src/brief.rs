//! The agent in one line, for `systemctl status`: what is wrong first, then how much flows, whereto, what waits, what was lost.

use crate::client::SUSPICIOUS_S;
use crate::human;
use crate::remote::Phase;
use crate::status::Status;

/// The line.
pub fn line(status: &Status) -> String {
    let mut parts = troubles(status);
    let rate: f64 = status.inputs.iter().map(|input| input.stats.rate).sum();
    parts.push(if rate > 0.0 && rate < 10.0 {
        format!("{rate:.1} readings/s")
    } else {
        format!("{rate:.0} readings/s")
    });
    let host = host(&status.link.over.url);
    parts.push(match (status.link.connected, status.link.last_error.as_str()) {
        (true, _) if status.link.over.fallback => format!("live to {host} (the fallback)"),
        (true, _) => format!("live to {host}"),
        (false, "") => format!("connecting to {host}"),
        (false, why) => format!("no link to {host} ({})", shortened(why, 100)),
    });
    let hours = status.link.lanes.backlog_hours.as_deref();
    let until = status.link.backlog.waits_until_ns.and(hours).map(human::opening);
    let until = until.map_or_else(String::new, |until| format!(" waits until {until}"));
    parts.push(format!("backlog {}{until}", human::size(status.spool.bytes)));
    let lost: u64 = status.spool.lost.iter().map(|lost| lost.readings).sum();
    parts.push(match status.spool.lost.last() {
        Some(last) => format!("{} lost ({})", human::things(lost, "reading"), last.cause),
        None => "nothing lost".into(),
    });
    parts.join(", ")
}

fn troubles(status: &Status) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(refused) = &status.config.refused {
        found.push(format!(
            "CONFIG NOT TAKEN, the one before stays in force: {}",
            shortened(&refused.why, 160)
        ));
    }
    match status.remote.phase {
        Phase::Failed => found.push(format!(
            "PUSHED CONFIG {} FAILED: {}",
            status.remote.version,
            shortened(&status.remote.reason, 160)
        )),
        Phase::Trial => found.push(format!("pushed config {} on trial", status.remote.version)),
        Phase::None | Phase::Applied | Phase::Declined => {}
    }
    if let Some(why) = &status.journal.poisoned {
        found.push(format!("NOTHING IS ACKNOWLEDGED: {}", shortened(why, 100)));
    } else if let Some(refusing) = &status.refusing {
        found.push(format!("READINGS ARE REFUSED: {}", shortened(&refusing.why, 160)));
    }
    if let Some(why) = &status.fold.blocked {
        found.push(format!("rows wait: {}", shortened(why, 100)));
    }
    for input in &status.inputs {
        if let Some(why) = &input.stats.error {
            found.push(format!("input {} is not running: {}", input.name, shortened(why, 100)));
        }
    }
    if status.link.stalls > 0 || status.link.unanswered_s >= SUSPICIOUS_S {
        let stalls = human::things(status.link.stalls, "session");
        let since = status.link.unanswered_s;
        found.push(format!("THE COLLECTOR ACKNOWLEDGES NOTHING: for {since} s, and in {stalls} before"));
    }
    if !status.clock_set {
        found.push("clock not set".into());
    }
    found
}

/// Of an address the host, without scheme, user, port and path.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['/', '?']).next().unwrap_or(rest);
    let rest = rest.rsplit('@').next().unwrap_or(rest);
    match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((six, _)) => six,
        None => rest.rsplit_once(':').map_or(rest, |(host, _)| host),
    }
}

fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_address_the_host_is_shown() {
        assert_eq!(host("https://collector.example:8421"), "collector.example");
        assert_eq!(host("mqtts://agent@broker.plant1/telemetryx"), "broker.plant1");
        assert_eq!(host("http://[fd00::1]:8421"), "fd00::1");
        assert_eq!(host(""), "");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        assert_eq!(shortened("ééé", 2), "éé…");
        assert_eq!(shortened("éé", 2), "éé");
    }
}
