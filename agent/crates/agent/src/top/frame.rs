//! One frame: two looks at the agent into lines of text. Pure, so that tests can read it.

use std::time::Instant;

use serde_json::Value;

use crate::client::{asked_to_wait, forecast, span, text, unanswered, waits_until};
use crate::human::{count, size};

/// Refused readings that are shown.
const REJECTS: usize = 5;
const BAR: usize = 24;

/// The agent at one moment.
pub struct Seen {
    /// When.
    pub at: Instant,
    /// `status`
    pub status: Value,
    /// `rejects`
    pub rejects: Value,
}

/// What changed since an earlier look.
struct Since<'a> {
    now: &'a Value,
    before: Option<&'a Value>,
    seconds: f64,
}

impl Since<'_> {
    /// How fast a counter grew, a second; `None` without an earlier look, and when the agent was restarted meanwhile.
    fn rate(&self, path: &str) -> Option<f64> {
        let (now, before) = (self.now.pointer(path)?.as_f64()?, self.before?.pointer(path)?.as_f64()?);
        (self.seconds > 0.0 && now >= before).then(|| (now - before) / self.seconds)
    }
}

/// The lines, none wider than `width`.
pub fn render(now: &Seen, before: Option<&Seen>, width: usize) -> Vec<String> {
    let status = &now.status;
    let since = Since {
        now: status,
        before: before.map(|before| &before.status),
        seconds: before.map_or(0.0, |before| now.at.duration_since(before.at).as_secs_f64()),
    };
    let mut lines = vec![head(status), link(status)];
    if let Some(backlog) = backlog(status, &since) {
        lines.push(backlog);
    }
    if waits_until(&status["link"]).is_some() {
        lines.extend(forecast(&status["link"]).map(|waits| format!("      {waits}")));
    }
    lines.extend(
        asked_to_wait(&status["link"], status["now_ns"].as_i64()).map(|waits| format!("      {waits}")),
    );
    lines.push(String::new());
    lines.push(store("journal", status, "/journal/bytes", "/journal/max_bytes", &journal(status, &since)));
    lines.push(store("spool", status, "/spool/disk_bytes", "/spool/max_bytes", &spool(status, &since)));
    lines.extend(trouble(status));
    lines.push(String::new());
    lines.push(format!(
        "{:<16} {:>12} {:>14} {:>6} {:>10} {:>10}  {}",
        "INPUT", "readings/s", "received", "conns", "refused", "last", "state"
    ));
    let inputs = status["inputs"].as_array().map_or(&[][..], Vec::as_slice);
    lines.extend(inputs.iter().map(|input| row(input, status)));
    lines.push(String::new());
    lines.push(fold(status));
    let rejects = now.rejects.as_array().map_or(&[][..], Vec::as_slice);
    if !rejects.is_empty() {
        lines.push(String::new());
        lines.push("LAST REFUSED".into());
        lines.extend(rejects.iter().rev().take(REJECTS).map(|reject| {
            format!(
                "{:<16} {:<22} {}",
                text(&reject["input"]),
                text(&reject["cause"]),
                text(&reject["reason"])
            )
        }));
    }
    lines.iter().map(|line| fit(line, width)).collect()
}

/// Cut to a width, in characters.
pub fn fit(line: &str, width: usize) -> String {
    let line = line.trim_end();
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let mut cut: String = line.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

fn head(status: &Value) -> String {
    format!(
        "agent {} {}   up {}   {}   {} series{}",
        text(&status["agent"]),
        text(&status["version"]),
        span(whole(status, "/uptime_s")),
        crate::human::moment(status["now_ns"].as_i64()),
        count(whole(status, "/series")),
        if status["clock_set"] == Value::Bool(false) { "   CLOCK NOT SET" } else { "" }
    )
}

fn link(status: &Value) -> String {
    let link = &status["link"];
    let since = |word: &str| match (link["since_ns"].as_i64(), status["now_ns"].as_i64()) {
        (Some(since), Some(now)) if since > 0 => {
            format!("{word} for {}", span(now.saturating_sub(since).max(0).unsigned_abs() / 1_000_000_000))
        }
        _ => word.to_owned(),
    };
    let skew = link["skew_ms"].as_f64().map_or(String::new(), |ms| format!("   clock {ms:+.0} ms"));
    match (link["connected"].as_bool(), text(&link["last_error"])) {
        (Some(true), _) => format!("link  {}   collector {}{skew}", since("up"), text(&link["collector"])),
        (_, error) if error.is_empty() => "link  connecting".into(),
        (_, error) => format!("link  {}: {error}", since("DOWN")),
    }
}

/// What waits for the collector, and when that will be over.
fn backlog(status: &Value, since: &Since<'_>) -> Option<String> {
    let sent = since.rate("/link/sent_bytes");
    let sent = sent.map_or_else(|| "-".into(), |rate| format!("{}/s", size(rate as u64)));
    let waiting = whole(status, "/spool/batches");
    if waiting == 0 {
        return Some(format!("      nothing waits   sent {sent}"));
    }
    let oldest = match (status.pointer("/spool/oldest_ns").and_then(Value::as_i64), status["now_ns"].as_i64())
    {
        (Some(oldest), Some(now)) => {
            format!("   oldest {}", span(now.saturating_sub(oldest).max(0).unsigned_abs() / 1_000_000_000))
        }
        _ => String::new(),
    };
    let link = &status["link"];
    let closed = link["lanes"]["backlog_open"] == Value::Bool(false);
    let known = link["backlog"]["caught_up_s"].is_number() || closed;
    let caught_up = match drained(since).filter(|_| !known) {
        Some(seconds) => Some(format!("caught up in {}", span(seconds.ceil() as u64))),
        // In a line of its own it isn't cut at the terminal's width.
        None => forecast(link).filter(|_| !closed),
    };
    let caught_up = caught_up.map_or_else(String::new, |end| format!("   {end}"));
    let batches = crate::human::things(waiting, "batch");
    let wait = if waiting == 1 { "waits" } else { "wait" };
    Some(format!(
        "      {batches} {wait}, {}{oldest}   sent {sent}{caught_up}",
        size(whole(status, "/spool/bytes"))
    ))
}

/// By what shrank since the last look; `None` when nothing did.
fn drained(since: &Since<'_>) -> Option<f64> {
    let path = "/spool/bytes";
    let (now, before) = (since.now.pointer(path)?.as_f64()?, since.before?.pointer(path)?.as_f64()?);
    (since.seconds > 0.0 && before > now).then(|| now / ((before - now) / since.seconds))
}

fn store(name: &str, status: &Value, bytes: &str, max: &str, rest: &str) -> String {
    let (bytes, max) = (whole(status, bytes), whole(status, max));
    let share = if max == 0 { 0.0 } else { (bytes as f64 / max as f64).min(1.0) };
    let filled = (share * BAR as f64).round() as usize;
    format!(
        "{name:<8} [{}{}] {:>3.0} %  {} of {}   {rest}",
        "#".repeat(filled),
        ".".repeat(BAR - filled),
        share * 100.0,
        size(bytes),
        size(max)
    )
}

fn journal(status: &Value, since: &Since<'_>) -> String {
    let rate = |path| since.rate(path).map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"));
    format!(
        "{} behind, {} records/s, {} syncs/s{}",
        count(whole(status, "/fold/behind")),
        rate("/journal/appended"),
        rate("/journal/syncs"),
        match whole(status, "/journal/pushed_back") {
            0 => String::new(),
            n => format!(", pushed back {} times", count(n)),
        }
    )
}

fn spool(status: &Value, since: &Since<'_>) -> String {
    let acked = since.rate("/spool/acked").map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
    let losses = match whole(status, "/spool/losses") {
        0 => String::new(),
        n => format!(", {}", crate::human::things(n, "loss")),
    };
    format!(
        "{} in flight, {acked} acked/s{losses}, {} rows pending",
        count(whole(status, "/spool/in_flight")),
        count(whole(status, "/spool/pending_rows"))
    )
}

fn trouble(status: &Value) -> Vec<String> {
    let told = |path: &str, what: &str| {
        status
            .pointer(path)
            .and_then(Value::as_str)
            .map(|why| format!("TROUBLE  {what}: {}", text(&why.into())))
    };
    let mut lines: Vec<String> = [
        told("/journal/poisoned", "the journal acknowledges nothing"),
        told("/fold/blocked", "rows can't be spooled"),
        told("/fold/missing", "found at the start"),
        told("/spool/withheld/why", "the spool waits for a file of it")
            .or_else(|| told("/spool/trouble", "the spool can't write")),
        told("/spool/floor", "little space"),
        told("/fold/fold/config_error", "the new configuration was refused"),
    ]
    .into_iter()
    .flatten()
    .collect();
    lines.extend(unanswered(&status["link"]).map(|told| format!("TROUBLE  {told}")));
    if let Some(why) = status.pointer("/refusing/why").and_then(Value::as_str) {
        let remedy = text(&status["refusing"]["remedy"]);
        lines.insert(0, format!("REFUSED  readings are refused: {}; {remedy}", text(&why.into())));
    }
    lines
}

fn row(input: &Value, status: &Value) -> String {
    let causes = input["causes"].as_array().map_or(&[][..], Vec::as_slice);
    let refused: u64 = causes
        .iter()
        .filter(|pair| pair[0].as_str().is_some_and(|cause| cause.starts_with("rejected")))
        .filter_map(|pair| pair[1].as_u64())
        .sum();
    let last = match (input["last_ns"].as_i64(), status["now_ns"].as_i64()) {
        (Some(last), Some(now)) => span(now.saturating_sub(last).max(0).unsigned_abs() / 1_000_000_000),
        _ => "never".into(),
    };
    let state = input["error"]
        .as_str()
        .map_or_else(|| "ok".to_owned(), |error| format!("NOT RUNNING: {}", text(&error.into())));
    format!(
        "{:<16} {:>12} {:>14} {:>6} {:>10} {:>10}  {state}",
        text(&input["name"]),
        format!("{:.1}", input["rate"].as_f64().unwrap_or(0.0)),
        count(whole(input, "/received")),
        input["connections"].as_i64().unwrap_or(0),
        count(refused),
        last
    )
}

fn fold(status: &Value) -> String {
    let fold = &status["fold"]["fold"];
    let models = fold["models"].as_array().map_or(&[][..], Vec::as_slice).iter().map(|slot| {
        match slot["error"].as_str() {
            Some(error) => format!("   model {} REFUSED: {}", text(&slot["slot"]), text(&error.into())),
            None => format!(
                "   model {} {} {}",
                text(&slot["slot"]),
                text(&slot["model"][0]),
                text(&slot["model"][1])
            ),
        }
    });
    format!(
        "fold  {} devices, {} open windows, {} late, {} scores{}",
        count(whole(fold, "/devices")),
        count(whole(fold, "/open_windows")),
        count(whole(fold, "/late_samples")),
        count(whole(fold, "/scores")),
        models.collect::<String>()
    )
}

fn whole(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn status(sent: u64, bytes: u64) -> Value {
        json!({
            "agent": "edge", "version": "1", "now_ns": 1_800_000_000_000_000_000i64, "uptime_s": 90, "clock_set": true, "series": 1234,
            "inputs": [{"name": "mqtt", "received": 5_000_000, "rate": 12.34, "connections": 3, "last_ns": 1_799_999_999_000_000_000i64,
                        "causes": [["rejected_syntax", 7], ["deduplicated", 9]], "error": null}],
            "journal": {"bytes": 256, "max_bytes": 1024, "appended": sent, "syncs": 0, "pushed_back": 0, "disk_full": false, "poisoned": null},
            "fold": {"behind": 4, "blocked": null, "fold": {"devices": 2, "open_windows": 0, "late_samples": 0, "scores": 0, "models": []}},
            "spool": {"bytes": bytes, "disk_bytes": bytes, "max_bytes": 10_000, "batches": 3, "losses": 0, "in_flight": 1, "acked": 0,
                      "oldest_ns": 1_799_996_400_000_000_000i64, "pending_rows": 0, "trouble": null},
            "link": {"connected": true, "since_ns": 1_799_999_940_000_000_000i64, "collector": "2", "last_error": "", "sent_bytes": sent},
        })
    }

    fn seen(at: Instant, status: Value) -> Seen {
        Seen {
            at,
            status,
            rejects: json!([{"input": "mqtt", "cause": "rejected_syntax", "reason": "no\u{1b}[2Jumber"}]),
        }
    }

    fn frame(width: usize) -> String {
        let now = Instant::now();
        let (before, after) =
            (seen(now, status(1_000, 8_000)), seen(now + Duration::from_secs(2), status(5_096, 6_000)));
        render(&after, Some(&before), width).join("\n")
    }

    #[test]
    fn a_frame_tells_rates_fill_backlog_and_refusals() {
        let shown = frame(200);
        for part in [
            "agent edge 1   up 1 min",
            "1,234 series",
            "link  up for 1 min   collector 2",
            "3 batches wait, 5.9 KiB   oldest 1 h 0 min   sent 2.0 KiB/s   caught up in 6 s",
            "journal  [######..................]  25 %  256 B of 1.0 KiB   4 behind, 2048 records/s",
            "5,000,000      3          7        1 s  ok",
            "LAST REFUSED",
        ] {
            assert!(shown.contains(part), "{part:?} in\n{shown}");
        }
        assert!(!shown.contains('\u{1b}'), "what a sensor sends doesn't steer the terminal");
    }

    #[test]
    fn one_batch_waits_and_the_collectors_wish_stands_below_it() {
        let mut one = status(1_000, 8_000);
        one["spool"]["batches"] = 1.into();
        let until = one["now_ns"].as_i64().unwrap() + 5_000_000_000;
        one["link"]["slow_down"] = json!({"at_ns": 1, "until_ns": until, "reason": "the disk is full"});
        let shown = render(&seen(Instant::now(), one), None, 200).join("\n");
        assert!(shown.contains("1 batch waits, "), "{shown}");
        assert!(shown.contains("      the collector asks to wait until "), "{shown}");
        assert!(shown.contains(": the disk is full"), "{shown}");
    }

    #[test]
    fn a_line_is_never_wider_than_the_terminal() {
        for width in [1, 20, 79] {
            assert!(frame(width).lines().all(|line| line.chars().count() <= width));
        }
    }

    #[test]
    fn a_first_look_and_a_restarted_agent_have_no_rates() {
        let now = Instant::now();
        let first = render(&seen(now, status(1_000, 8_000)), None, 200).join("\n");
        assert!(first.contains("sent -") && first.contains("not getting less"), "{first}");
        let restarted = render(
            &seen(now + Duration::from_secs(1), status(5, 9_000)),
            Some(&seen(now, status(1_000, 8_000))),
            200,
        );
        assert!(restarted.join("\n").contains("sent -"));
    }

    #[test]
    fn while_its_hours_are_closed_the_backlog_waits_whatever_left_meanwhile() {
        let now = Instant::now();
        let closed = |bytes: u64| {
            let mut closed = status(1_000, bytes);
            closed["link"]["lanes"] = json!({"backlog_hours": "22:00-06:00", "backlog_open": false});
            closed["link"]["backlog"] =
                json!({"caught_up_s": null, "waits_until_ns": 1_800_050_400_000_000_000i64});
            closed
        };
        let before = seen(now, closed(8_000));
        let shown = render(&seen(now + Duration::from_secs(2), closed(6_000)), Some(&before), 200).join("\n");
        assert!(shown.contains("backlog waits until 22:00"), "{shown}");
        assert!(!shown.contains("caught up in"), "{shown}");
    }

    #[test]
    fn trouble_is_told_in_a_line_of_its_own() {
        let mut broken = status(1, 1);
        broken["spool"]["trouble"] = "no space".into();
        broken["refusing"] = json!({"cause": "disk", "why": "its disk is full", "remedy": "free some"});
        broken["link"] = json!({"connected": false, "since_ns": 0, "last_error": "refused"});
        let shown = render(&seen(Instant::now(), broken), None, 200).join("\n");
        assert!(
            shown.contains("TROUBLE  the spool can't write: no space") && shown.contains("disk is full"),
            "{shown}"
        );
        assert!(shown.contains("link  DOWN: refused"), "{shown}");
    }
}
