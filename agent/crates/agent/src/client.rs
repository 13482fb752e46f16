//! What the running agent says of itself, shown to a person.

use std::io::{BufRead, Write};
use std::path::Path;

use serde_json::Value;

use crate::ask::{AskError, ask, ask_once};

/// A collector that acknowledges nothing for so long is named: a slow link and a busy store take some seconds.
pub const SUSPICIOUS_S: u64 = 15;

/// `status`: prints what the agent says of itself, and returns it.
///
/// # Errors
/// [`AskError`].
pub fn status(data_dir: &Path, json: bool, rejects: bool) -> Result<Value, AskError> {
    let mut status = ask_once(data_dir, "status")?;
    let refused = if rejects { ask_once(data_dir, "rejects")? } else { Value::Array(Vec::new()) };
    let mut out = std::io::stdout().lock();
    if json {
        if rejects {
            status["rejects"] = refused;
        }
        writeln!(out, "{status}")?;
        return Ok(status);
    }
    show(&mut out, &status)?;
    for reject in refused.as_array().into_iter().flatten() {
        writeln!(
            out,
            "refused  {} {}: {} ({})",
            text(&reject["input"]),
            text(&reject["cause"]),
            text(&reject["reason"]),
            text(&reject["excerpt"])
        )?;
    }
    Ok(status)
}

fn show(out: &mut impl Write, status: &Value) -> std::io::Result<()> {
    let link = &status["link"];
    let connection = match (link["connected"].as_bool(), text(&link["last_error"]).as_str()) {
        (Some(true), _) => {
            let way = if link["fallback"] == Value::Bool(true) { "the fallback " } else { "" };
            let (over, url) = (text(&link["transport"]), text(&link["url"]));
            format!("connected over {over} to {way}{url}, collector {}", text(&link["collector"]))
        }
        (_, "") => "connecting".to_owned(),
        (_, error) => format!("not connected: {error}"),
    };
    writeln!(
        out,
        "agent    {} {}, up {}, {} series",
        text(&status["agent"]),
        text(&status["version"]),
        span(status["uptime_s"].as_u64().unwrap_or(0)),
        status["series"]
    )?;
    if let Some(why) = status["config"]["refused"]["why"].as_str() {
        let at = crate::human::moment(status["config"]["refused"]["at_ns"].as_i64());
        writeln!(
            out,
            "config   NOT TAKEN at {at}, the one before stays in force: {}",
            text(&Value::from(why))
        )?;
    }
    show_remote(out, status)?;
    for trouble in status["config"]["trouble"].as_array().into_iter().flatten() {
        writeln!(out, "config   {}", text(trouble))?;
    }
    for warning in status["config"]["warnings"].as_array().into_iter().flatten() {
        writeln!(out, "config   WARNING: {}", text(warning))?;
    }
    let untold = text(&status["tracing"]["trouble"]);
    if !untold.is_empty() {
        writeln!(out, "tracing  spans don't arrive: {untold}")?;
    }
    writeln!(out, "link     {connection}")?;
    if let Some(limit) = broker_limit(status) {
        writeln!(out, "         {}: {}", limit.found(), limit.remedy())?;
    }
    show_lanes(out, link, status["now_ns"].as_i64())?;
    for input in status["inputs"].as_array().into_iter().flatten() {
        let problem =
            input["error"].as_str().map(|error| format!("  NOT RUNNING: {error}")).unwrap_or_default();
        let causes: Vec<String> = input["causes"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|pair| format!(", {} {}", text(&pair[0]), pair[1]))
            .collect();
        writeln!(
            out,
            "input    {}: {} received, {:.1}/s{}{problem}",
            text(&input["name"]),
            input["received"],
            input["rate"].as_f64().unwrap_or(0.0),
            causes.concat()
        )?;
    }
    if let Some(why) = status["refusing"]["why"].as_str() {
        writeln!(out, "REFUSED  readings are refused: {}", text(&Value::from(why)))?;
        writeln!(out, "         {}", text(&status["refusing"]["remedy"]))?;
    }
    let (journal, spool, fold) = (&status["journal"], &status["spool"], &status["fold"]);
    writeln!(
        out,
        "journal  {} of {}, {} records behind",
        size(&journal["bytes"]),
        size(&journal["max_bytes"]),
        fold["behind"]
    )?;
    writeln!(
        out,
        "spool    {} in {}, {} in flight{}",
        size(&spool["bytes"]),
        crate::human::things(spool["batches"].as_u64().unwrap_or(0), "batch"),
        spool["in_flight"],
        match spool["pending_rows"].as_u64().unwrap_or(0) {
            0 => String::new(),
            rows => format!(", {} in no batch yet", crate::human::things(rows, "row")),
        }
    )?;
    let withheld = &spool["withheld"];
    if let (Some(why), Some(tries)) = (withheld["why"].as_str(), withheld["tries"].as_u64()) {
        let tries = crate::human::things(tries, "try");
        let why = text(&Value::from(why));
        writeln!(
            out,
            "         WITHHELD: {why}; tried again in {} s ({tries} so far)",
            withheld["again_in_s"]
        )?;
    } else if let Some(trouble) =
        spool["trouble"].as_str().filter(|trouble| fold["blocked"].as_str() != Some(trouble))
    {
        writeln!(out, "         {}", text(&Value::from(trouble)))?;
    }
    if let Some(floor) = spool["floor"].as_str().filter(|_| spool["trouble"].is_null()) {
        writeln!(out, "         {}", text(&Value::from(floor)))?;
    }
    let reserve = &spool["reserve"];
    if let (Some(left), Some(whole)) = (reserve["left"].as_u64(), reserve["whole"].as_u64())
        && left < whole
    {
        writeln!(
            out,
            "         {} of the {} that are kept for a full disk are there",
            crate::human::size(left),
            crate::human::size(whole)
        )?;
    }
    for lost in spool["lost"].as_array().into_iter().flatten() {
        writeln!(
            out,
            "lost     {} {}, {} {} {} {}",
            crate::human::things(lost["readings"].as_u64().unwrap_or(0), "reading"),
            text(&lost["cause"]),
            // Of what is damaged often nobody knows more than what stands beside it.
            if lost["cause"] == "damaged" { "between" } else { "of" },
            day_time(lost["from_ns"].as_i64().unwrap_or(0)),
            if lost["cause"] == "damaged" { "and" } else { "to" },
            day_time(lost["to_ns"].as_i64().unwrap_or(0))
        )?;
    }
    for damage in spool["damage"].as_array().into_iter().flatten() {
        let at = |key: &str| damage[key].as_i64().map_or("-".to_owned(), day_time);
        writeln!(out, "damage   {}; between {} and {}", text(&damage["text"]), at("from_ns"), at("to_ns"))?;
    }
    if let Some(lost) = spool["cursor_lost"].as_str() {
        writeln!(out, "missing  {}", text(&Value::from(lost)))?;
    }
    if let Some(missing) = fold["missing"].as_str() {
        writeln!(out, "missing  {}", text(&Value::from(missing)))?;
    }
    if let Some(reason) = fold["blocked"].as_str().filter(|_| spool["withheld"].is_null()) {
        writeln!(out, "         rows can't be spooled: {reason}")?;
    }
    if let Some(reason) = fold["checkpoint"].as_str() {
        writeln!(out, "         the journal doesn't come free: {}", text(&Value::from(reason)))?;
    }
    if status["clock_set"] == Value::Bool(false) {
        writeln!(out, "clock    not set: this host believes it is before 2024")?;
    }
    let held = &spool["clock_held"];
    if held["batches"].as_u64().is_some_and(|batches| batches > 0) {
        writeln!(
            out,
            "         {} ({}) of {} wait until it is known when that was: NTP or the collector tells",
            crate::human::things(held["batches"].as_u64().unwrap_or(0), "batch"),
            size(&held["bytes"]),
            crate::human::things(held["boots"].as_u64().unwrap_or(0), "boot")
        )?;
    }
    if let Some(kept) = spool["age_kept"].as_u64().filter(|kept| *kept > 0) {
        writeln!(
            out,
            "         {} older than spool.max_age by this host's clock alone: kept until a time service or the collector confirms it",
            crate::human::things(kept, "batch")
        )?;
    }
    if let Some(by) = fold["fold"]["clock_step"]["by_ns"].as_f64() {
        let at = clock_time(fold["fold"]["clock_step"]["at_ns"].as_i64().unwrap_or(0));
        writeln!(out, "         last set at {at}, by {:+.3} s", by / 1e9)?;
    }
    Ok(())
}

/// What the collector pushed, and whether it asked for another log level.
fn show_remote(out: &mut impl Write, status: &Value) -> std::io::Result<()> {
    let (remote, log) = (&status["remote"], &status["log"]);
    let at = || crate::human::moment(remote["at_ns"].as_i64());
    let version = &remote["version"];
    match remote["phase"].as_str() {
        Some("trial") => writeln!(out, "pushed   configuration {version} on trial since {}", at())?,
        Some("applied") => writeln!(out, "pushed   configuration {version} in force, applied at {}", at())?,
        Some("failed") => {
            let force = match remote["in_force"].as_u64() {
                Some(0) | None => "the host's file alone".to_owned(),
                Some(force) => format!("configuration {force}"),
            };
            writeln!(
                out,
                "pushed   configuration {version} FAILED at {}, in force is {force}: {}",
                at(),
                text(&remote["reason"])
            )?;
        }
        Some("declined") if version != &Value::from(0) => {
            writeln!(out, "pushed   configuration {version} declined: {}", text(&remote["reason"]))?;
        }
        _ => {}
    }
    if remote["trouble"].is_string() {
        writeln!(out, "pushed   {}", text(&remote["trouble"]))?;
    }
    if let Some(until) = log["until_ns"].as_i64() {
        let until = crate::human::moment(Some(until));
        writeln!(out, "log      {} until {until}, as the collector asked", text(&log["filter"]))?;
    }
    Ok(())
}

/// How large a message may be on the site's broker, where a running agent has found that out.
pub fn broker_limit(status: &Value) -> Option<uplink::BrokerLimit> {
    serde_json::from_value(status["link"]["broker_limit"].clone()).ok()
}

/// Until when the backlog waits for its hours, where it does.
pub fn waits_until(link: &Value) -> Option<String> {
    link["backlog"]["waits_until_ns"].as_i64()?;
    link["lanes"]["backlog_hours"].as_str().map(|hours| crate::human::opening(&text(&hours.into())))
}

/// When nothing waits any more, as far as anybody knows; `None` where what is under way is fresh.
pub fn forecast(link: &Value) -> Option<String> {
    let seconds = link["backlog"]["caught_up_s"].as_f64();
    let end = seconds.map(|seconds| format!("caught up in {}", span(seconds.ceil() as u64)));
    match (waits_until(link), end) {
        (Some(until), Some(end)) => Some(format!("backlog waits until {until}, {end}")),
        (Some(until), None) => Some(format!("backlog waits until {until}")),
        (None, Some(end)) => Some(end),
        (None, None) if link["lanes"]["backlog_open"] == Value::Bool(false) => None,
        (None, None) => Some("not getting less".to_owned()),
    }
}

/// That the collector asked to wait, until a time that is still to come; `None` where it didn't, or that is past.
pub fn asked_to_wait(link: &Value, now_ns: Option<i64>) -> Option<String> {
    let told = &link["slow_down"];
    let until = told["until_ns"].as_i64().filter(|until| now_ns.is_some_and(|now| *until > now))?;
    let until = crate::human::moment(Some(until));
    Some(format!("the collector asks to wait until {until}: {}", text(&told["reason"])))
}

/// That the collector acknowledges nothing, and what comes of it; `None` while it does.
pub fn unanswered(link: &Value) -> Option<String> {
    let since = link["unanswered_s"].as_u64().unwrap_or(0);
    let stalls = link["stalls"].as_u64().unwrap_or(0);
    let limit = uplink::ACK_TIMEOUT.as_secs();
    let now = format!("NOTHING IS ACKNOWLEDGED for {since} s: at {limit} s the session begins anew");
    match (since >= SUSPICIOUS_S, stalls) {
        (false, 0) => None,
        (true, 0) => Some(now),
        (true, _) => Some(format!("{now}, as {} before", crate::human::things(stalls, "session"))),
        (false, _) => {
            let sessions = crate::human::things(stalls, "session");
            Some(format!("NOTHING WAS ACKNOWLEDGED in the last {sessions}, of {limit} s or more"))
        }
    }
}

/// What waits for the collector, and what holds it back.
fn show_lanes(out: &mut impl Write, link: &Value, now_ns: Option<i64>) -> std::io::Result<()> {
    let (backlog, lanes) = (&link["backlog"], &link["lanes"]);
    if backlog["batches"].as_u64().unwrap_or(0) > 0 {
        let end = forecast(link).map_or_else(String::new, |end| format!(", {end}"));
        writeln!(
            out,
            "backlog  {} in {}, oldest from {}; {}/s acknowledged{end}",
            size(&backlog["bytes"]),
            crate::human::things(backlog["batches"].as_u64().unwrap_or(0), "batch"),
            crate::human::moment(backlog["oldest_ns"].as_i64()),
            size(&backlog["drain_rate"]),
        )?;
    }
    if let Some(told) = unanswered(link) {
        writeln!(out, "         {told}")?;
    }
    let limit = |key: &str| {
        lanes[key].as_u64().filter(|limit| *limit > 0).map(|_| format!("{}/s", size(&lanes[key])))
    };
    let mut parts = vec![format!("live {} : backlog {}", lanes["live_share"], lanes["backlog_share"])];
    parts.extend(limit("limit").map(|limit| format!("at most {limit}")));
    parts.extend(limit("live_limit").map(|limit| format!("live at most {limit}")));
    parts.extend(limit("backlog_limit").map(|limit| format!("backlog at most {limit}")));
    if let Some(hours) = lanes["backlog_hours"].as_str() {
        let open = if lanes["backlog_open"] == Value::Bool(false) { "closed" } else { "open" };
        parts.push(format!("backlog from {hours}, {open} now"));
    }
    if parts.len() > 1 {
        writeln!(out, "lanes    {}", parts.join(", "))?;
    }
    if let Some(waits) = asked_to_wait(link, now_ns) {
        writeln!(out, "         {waits}")?;
    } else if let Some(reason) = link["slow_down"]["reason"].as_str() {
        let at = crate::human::moment(link["slow_down"]["at_ns"].as_i64());
        writeln!(out, "         the collector last asked to wait at {at}: {}", text(&Value::from(reason)))?;
    }
    Ok(())
}

/// `tap`
///
/// # Errors
/// [`AskError`].
pub fn tap(data_dir: &Path, json: bool, count: Option<u64>) -> Result<(), AskError> {
    let answer = ask(data_dir, "tap", None)?;
    let mut out = std::io::stdout().lock();
    let mut seen = 0;
    for line in answer.lines() {
        let line = line?;
        let reading: Value = serde_json::from_str(&line)?;
        if json {
            writeln!(out, "{line}")?;
        } else {
            let time = clock_time(reading["time_ns"].as_i64().unwrap_or(0));
            match reading["kind"].as_str() {
                Some("sample") => {
                    writeln!(
                        out,
                        "{time} {:<8} {} {}",
                        text(&reading["input"]),
                        text(&reading["series"]),
                        reading["value"]
                    )?;
                }
                Some("event") => writeln!(
                    out,
                    "{time} {:<8} [{}] {}: {}",
                    text(&reading["input"]),
                    text(&reading["severity"]),
                    text(&reading["source"]),
                    text(&reading["body"])
                )?,
                _ => writeln!(out, "… {} readings passed unseen", reading["count"])?,
            }
        }
        out.flush()?;
        if reading["kind"] != "missed" {
            seen += 1;
        }
        if count.is_some_and(|count| seen >= count) {
            break;
        }
    }
    Ok(())
}

/// A JSON string without what could steer a terminal.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => crate::human::printable(text),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn size(value: &Value) -> String {
    let mut bytes = value.as_f64().unwrap_or(0.0);
    for unit in ["B", "KiB", "MiB"] {
        if bytes < 1024.0 {
            return format!("{bytes:.0} {unit}");
        }
        bytes /= 1024.0;
    }
    format!("{bytes:.1} GiB")
}

/// A span in its two largest units.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Time of day, UTC, of nanoseconds since the epoch.
/// A date and a time to the second, UTC; `-` where it isn't known.
fn day_time(ns: i64) -> String {
    if ns == 0 {
        return "-".into();
    }
    // From days since 1970 to a date: Howard Hinnant, "chrono-compatible low-level date algorithms".
    let days = ns.div_euclid(86_400_000_000_000) + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let rest = day - (365 * year + year / 4 - year / 100);
    let month = (5 * rest + 2) / 153;
    let (month, day) = (if month < 10 { month + 3 } else { month - 9 }, rest - (153 * month + 2) / 5 + 1);
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {}", &clock_time(ns)[..8])
}

fn clock_time(ns: i64) -> String {
    let ms = ns.div_euclid(1_000_000).rem_euclid(86_400_000);
    format!("{:02}:{:02}:{:02}.{:03}Z", ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sensor_sends_cannot_steer_the_terminal() {
        assert_eq!(text(&Value::String("a\u{1b}[31mb".into())), "a\u{fffd}[31mb");
    }

    #[test]
    fn times_and_sizes_read_as_people_say_them() {
        assert_eq!(clock_time(1_700_000_000_123_000_000), "22:13:20.123Z");
        assert_eq!(day_time(1_700_000_000_123_000_000), "2023-11-14 22:13:20");
        assert_eq!(day_time(951_782_400_000_000_000), "2000-02-29 00:00:00");
        assert_eq!((day_time(0), day_time(-1)), ("-".into(), "1969-12-31 23:59:59".into()));
        assert_eq!(size(&serde_json::json!(5 << 20)), "5 MiB");
        assert_eq!(span(3_700), "1 h 1 min");
    }

    #[test]
    fn a_backlog_that_waits_for_its_hours_says_until_when_and_promises_nothing_that_nobody_knows() {
        let mut link = serde_json::json!({
            "backlog": {"caught_up_s": null, "waits_until_ns": 1_800_050_400_000_000_000_i64},
            "lanes": {"backlog_hours": "22:00-06:00 UTC", "backlog_open": false},
        });
        assert_eq!(forecast(&link).as_deref(), Some("backlog waits until 22:00 UTC"));
        link["backlog"]["caught_up_s"] = 50_700.0.into();
        assert_eq!(
            forecast(&link).as_deref(),
            Some("backlog waits until 22:00 UTC, caught up in 14 h 5 min")
        );
        link["backlog"] = serde_json::json!({"caught_up_s": null, "waits_until_ns": null});
        assert_eq!(forecast(&link), None, "what is under way is fresh");
        link["lanes"]["backlog_open"] = true.into();
        assert_eq!(forecast(&link).as_deref(), Some("not getting less"));
    }

    #[test]
    fn a_collector_that_acknowledges_nothing_is_named_with_what_comes_of_it() {
        let said = |since: u64, stalls: u64| {
            unanswered(&serde_json::json!({"unanswered_s": since, "stalls": stalls}))
        };
        assert_eq!(said(SUSPICIOUS_S - 1, 0), None);
        assert_eq!(
            said(20, 0).as_deref(),
            Some("NOTHING IS ACKNOWLEDGED for 20 s: at 60 s the session begins anew")
        );
        assert_eq!(
            said(20, 2).as_deref(),
            Some("NOTHING IS ACKNOWLEDGED for 20 s: at 60 s the session begins anew, as 2 sessions before")
        );
        assert_eq!(
            said(0, 1).as_deref(),
            Some("NOTHING WAS ACKNOWLEDGED in the last 1 session, of 60 s or more")
        );
    }

    #[test]
    fn a_collector_that_asks_to_wait_is_told_with_the_time_until_it_is_past() {
        let link = serde_json::json!({"slow_down": {"at_ns": 0, "until_ns": 60_000_000_000i64, "reason": "busy\u{1b}[2J"}});
        let told = asked_to_wait(&link, Some(59_000_000_000)).unwrap();
        assert!(
            told.starts_with("the collector asks to wait until 1970-01-01T00:01:00.000Z: busy"),
            "{told}"
        );
        assert!(!told.contains('\u{1b}'), "{told}");
        for (link, now) in [(&link, Some(60_000_000_000)), (&link, None), (&Value::Null, Some(0))] {
            assert_eq!(asked_to_wait(link, now), None);
        }
    }

    #[test]
    fn what_holds_the_backlog_back_is_shown() {
        let link = serde_json::json!({
            "backlog": {"bytes": 5 << 20, "batches": 40, "oldest_ns": 0, "drain_rate": 65536.0, "caught_up_s": 80.0,
                "waits_until_ns": null},
            "lanes": {"live_share": 70, "backlog_share": 30, "limit": 131_072, "live_limit": 0, "backlog_limit": 0,
                "backlog_hours": "22:00-06:00", "backlog_open": true},
            "slow_down": null,
        });
        let mut out = Vec::new();
        show_lanes(&mut out, &link, None).unwrap();
        let lines = [
            "backlog  5 MiB in 40 batches, oldest from 1970-01-01T00:00:00.000Z; 64 KiB/s acknowledged, caught up in 1 min",
            "lanes    live 70 : backlog 30, at most 128 KiB/s, backlog from 22:00-06:00, open now\n",
        ];
        assert_eq!(String::from_utf8(out).unwrap(), lines.join("\n"));
    }
}
