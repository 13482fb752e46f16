//! Which amounts a config file may set: for each key that takes a number, a size or a length of time, the least and the most.
//!
//! What lies outside would make the agent useless (a batch of a byte, a spool that no disk holds) or end it later (a length of time
//! that no clock counts). The types take more than that, so that each refusal names the key, the range and what to do; where a section
//! has a check of its own for what belongs together, it is in its crate.

use telemetry::units::{self, Unreadable};
use toml::de::DeValue;

use crate::leaves::{self, Leaf};

/// How an amount is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A whole number.
    Count,
    /// Bytes, as `64KiB` or a number.
    Bytes,
    /// Bytes a second, as `64KiB/s` or a number.
    Rate,
    /// A length of time, as `10s`; bounds are milliseconds.
    Time,
}

/// A key, and what it takes.
struct Range {
    section: &'static str,
    key: &'static str,
    kind: Kind,
    /// Whether 0 is taken too, where it lies below the least: it means none, or for ever.
    zero: bool,
    least: u64,
    most: u64,
}

use Kind::{Bytes, Count, Rate, Time};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
/// No file system of today is larger.
const ANY_DISK: u64 = 1024 * TIB;
/// The largest packet that MQTT can say.
const MQTT_PACKET: u64 = 268_435_455;
const MILLION: u64 = 1_000_000;

const fn of(section: &'static str, key: &'static str, kind: Kind, least: u64, most: u64) -> Range {
    Range { section, key, kind, zero: false, least, most }
}

const fn or_zero(section: &'static str, key: &'static str, kind: Kind, least: u64, most: u64) -> Range {
    Range { section, key, kind, zero: true, least, most }
}

const RANGES: &[Range] = &[
    of("agent", "max_series", Count, 1, 10 * MILLION),
    of("journal", "max_bytes", Bytes, 512 * KIB, ANY_DISK),
    of("journal", "segment_bytes", Bytes, 256 * KIB, GIB),
    of("journal", "linger", Time, 0, MINUTE),
    of("fold", "lateness", Time, 0, 7 * DAY),
    of("fold", "future_limit", Time, SECOND, 365 * DAY),
    of("fold.route", "window", Time, 1, DAY),
    of("spool", "max_bytes", Bytes, 512 * KIB, ANY_DISK),
    of("spool", "segment_bytes", Bytes, 256 * KIB, GIB),
    // The wire takes 4 MiB of a compressed batch (proto/README.md), and the last record of one adds to what it is cut at.
    of("spool", "batch_bytes", Bytes, KIB, 2 * MIB),
    of("spool", "linger", Time, 0, HOUR),
    or_zero("spool", "max_age", Time, SECOND, 36_500 * DAY),
    of("spool", "min_free", Bytes, 0, ANY_DISK),
    of("spool.class", "thin_to", Time, SECOND, DAY),
    of("remote", "gate", Time, 10 * SECOND, HOUR),
    of("tracing", "timeout", Time, 100, HOUR),
    of("uplink", "connect_timeout", Count, 1, 3_600),
    of("uplink", "max_backoff", Count, 1, 86_400),
    of("uplink", "fallback_return", Time, SECOND, 365 * DAY),
    of("uplink.lanes", "live_share", Count, 1, 99),
    of("uplink.lanes", "backlog_share", Count, 1, 99),
    // Below that even an empty session doesn't get through.
    or_zero("uplink.lanes", "limit", Rate, 64, TIB),
    or_zero("uplink.lanes", "live_limit", Rate, 64, TIB),
    or_zero("uplink.lanes", "backlog_limit", Rate, 64, TIB),
    of("input.host", "interval", Time, 100, DAY),
    of("input.host", "max_instances", Count, 1, 100_000),
    of("input.http", "max_body", Count, KIB, GIB),
    of("input.http", "max_decoded", Count, KIB, 4 * GIB),
    of("input.http", "max_buffered", Count, KIB, TIB),
    of("input.http", "max_connections", Count, 1, MILLION),
    of("input.http", "header_timeout", Time, SECOND, DAY),
    of("input.http", "body_timeout", Time, SECOND, DAY),
    of("input.http", "idle_timeout", Time, SECOND, DAY),
    of("input.http", "max_idempotency_keys", Count, 1, 100 * MILLION),
    of("input.tcp", "max_line", Count, 256, 8 * MIB),
    of("input.tcp", "max_connections", Count, 1, MILLION),
    or_zero("input.tcp", "idle_timeout", Time, SECOND, 365 * DAY),
    of("input.mqtt", "max_clients", Count, 1, MILLION),
    of("input.mqtt", "max_unauthenticated", Count, 1, MILLION),
    of("input.mqtt", "max_packet_bytes", Count, 128, MQTT_PACKET),
    of("input.mqtt", "max_inflight", Count, 1, 16_384),
    of("input.mqtt", "max_queued_messages", Count, 1, 60_000),
    of("input.mqtt", "max_queued_bytes", Count, KIB, TIB),
    of("input.mqtt", "max_memory_bytes", Count, 64 * KIB, TIB),
    of("input.mqtt", "max_filters", Count, 1, 100 * MILLION),
    of("input.mqtt", "max_filters_per_client", Count, 1, MILLION),
    of("input.mqtt", "max_retained", Count, 0, 100 * MILLION),
    of("input.mqtt", "max_sessions", Count, 0, MILLION),
    of("input.mqtt", "max_session_expiry_secs", Count, 0, 4_294_967_295),
    of("input.mqtt", "max_keep_alive_secs", Count, 0, 65_535),
    of("input.mqtt", "connect_timeout_secs", Count, 1, 600),
    of("input.mqtt.mapping", "max_depth", Count, 1, 100),
    of("input.mqtt.mapping", "max_payload", Count, 1, MQTT_PACKET),
    of("input.mqtt.mapping", "max_readings", Count, 1, MILLION),
    of("input.mqtt_client", "qos", Count, 0, 2),
    of("input.mqtt_client", "keep_alive_secs", Count, 5, 65_535),
    of("input.mqtt_client", "max_packet_bytes", Count, 128, MQTT_PACKET),
    of("input.mqtt_client", "silent_after_secs", Count, 0, 31_536_000),
    of("input.mqtt_client.mapping", "max_depth", Count, 1, 100),
    of("input.mqtt_client.mapping", "max_payload", Count, 1, MQTT_PACKET),
    of("input.mqtt_client.mapping", "max_readings", Count, 1, MILLION),
];

/// Amounts out of their range: the section, and a sentence.
pub fn problems(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    leaves::each(text, &mut |leaf| {
        if let Some(range) = range(leaf)
            && let Some(said) = range.problem(leaf)
        {
            found.push((leaf.section.clone(), said));
        }
    });
    found
}

/// What the key takes whose value stands at a byte: `give 1 to 99`.
pub fn taken_at(text: &str, at: usize) -> Option<String> {
    let mut found = None;
    leaves::each(text, &mut |leaf| {
        if leaf.span.contains(&at) {
            found = range(leaf).map(Range::taken);
        }
    });
    found
}

/// How the amount of a key is written whose value stands at a byte: `a length of time as "7d"`.
pub fn written_at(text: &str, at: usize) -> Option<&'static str> {
    let mut found = None;
    leaves::each(text, &mut |leaf| {
        if leaf.span.contains(&at) {
            found = range(leaf).map(|range| match range.kind {
                Count => "a whole number",
                Bytes => "a size as \"64KiB\"",
                Rate => "a rate as \"64KiB/s\"",
                Time => "a length of time as \"7d\"",
            });
        }
    });
    found
}

/// What a key takes, for the reference: `1 to 99`.
pub fn taken(section: &str, key: &str) -> Option<String> {
    let range = RANGES.iter().find(|range| range.section == section && range.key == key)?;
    Some(range.between())
}

fn range(leaf: &Leaf<'_>) -> Option<&'static Range> {
    RANGES.iter().find(|range| range.section == leaf.kind && range.key == leaf.key)
}

impl Range {
    fn problem(&self, leaf: &Leaf<'_>) -> Option<String> {
        let (amount, shown) = match leaf.value {
            DeValue::Integer(written) => {
                let shown = written.as_str();
                // More digits than that have no other fault than being too many.
                let amount = i128::from_str_radix(shown, written.radix()).unwrap_or(i128::MAX);
                if amount < 0 {
                    return self.refused(leaf, shown);
                }
                (u64::try_from(amount).unwrap_or(u64::MAX), shown.to_owned())
            }
            DeValue::String(text) => match self.read(text)? {
                Ok(amount) => (amount, format!("{text:?}")),
                Err(()) => (u64::MAX, format!("{text:?}")),
            },
            _ => return None,
        };
        let fits = (self.least..=self.most).contains(&amount) || (self.zero && amount == 0);
        if fits { None } else { self.refused(leaf, &shown) }
    }

    fn refused(&self, leaf: &Leaf<'_>, shown: &str) -> Option<String> {
        Some(format!("{} = {shown} is out of range: {}", leaf.name(), self.taken()))
    }

    /// The amount of a text, too large a one as an error; `None` where it has another form, which its type tells.
    fn read(&self, text: &str) -> Option<Result<u64, ()>> {
        let read = match self.kind {
            Count => return None,
            Bytes => units::parse_bytes(text),
            Rate => units::parse_bytes(text.strip_suffix("/s").unwrap_or(text).trim_end()),
            Time => units::parse(text, &units::TIMES),
        };
        match read {
            Ok(amount) => Some(Ok(amount)),
            Err(Unreadable::TooLarge) => Some(Err(())),
            Err(Unreadable::Form) => None,
        }
    }

    fn taken(&self) -> String {
        format!("give {}", self.between())
    }

    fn between(&self) -> String {
        let zero = match (self.zero, self.kind) {
            (true, Time) => " or 0s",
            (true, _) => " or 0",
            (false, _) => "",
        };
        format!("{} to {}{zero}", self.shown(self.least), self.shown(self.most))
    }

    fn shown(&self, amount: u64) -> String {
        let in_units =
            |units: &[units::Unit], none: &str| units::show(amount, units).unwrap_or_else(|| none.into());
        match self.kind {
            Count => amount.to_string(),
            Bytes => in_units(&units::BYTES, "0B"),
            Rate => format!("{}/s", in_units(&units::BYTES, "0B")),
            Time => in_units(&units::TIMES, "0ms"),
        }
    }
}

/// Hands over each key of the schema that holds a value: its section, its name, and its own schema. For tests that none is forgotten.
#[cfg(test)]
pub fn walk(
    root: &serde_json::Value,
    schema: &serde_json::Value,
    path: &str,
    seen: &mut dyn FnMut(&str, &str, &serde_json::Value),
) {
    use crate::reference::resolve;
    for (key, value) in schema["properties"].as_object().into_iter().flatten() {
        let target = resolve(root, value);
        let target = target.get("items").map_or(target.clone(), |items| resolve(root, items));
        if target["properties"].is_object() {
            let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            walk(root, &target, &inner, seen);
        } else {
            seen(path, key, &target);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    /// A file that sets one key, with what its section needs besides.
    fn file(range: &Range, value: &str) -> String {
        let (header, more) = match range.section {
            "fold.route" => ("[[fold.route]]", "to = \"window\"\n"),
            "spool.class" => ("[[spool.class]]", "overflow = \"thin\"\n"),
            "input.mqtt_client" => ("[[input.mqtt_client]]", ""),
            "input.mqtt_client.mapping" => ("[[input.mqtt_client]]\n[input.mqtt_client.mapping]", ""),
            // Those that belong together.
            "input.http" if range.key == "max_body" => ("[input.http]", "max_buffered = 1_000_000_000_000\n"),
            "input.http" if range.key == "max_decoded" => {
                ("[input.http]", "max_buffered = 1_000_000_000_000\n")
            }
            "input.http" if range.key == "max_buffered" => {
                ("[input.http]", "max_body = 1024\nmax_decoded = 1024\n")
            }
            "journal" | "spool" if range.key == "max_bytes" => ("", "segment_bytes = \"256KiB\"\n"),
            "journal" | "spool" if range.key == "segment_bytes" => ("", "max_bytes = \"8GiB\"\n"),
            _ => ("", ""),
        };
        let own = format!("[{}]", range.section);
        let header = if header.is_empty() { &own } else { header };
        format!("{header}\n{more}{} = {value}\n", range.key)
    }

    fn refusal(range: &Range, value: &str) -> Option<String> {
        Config::parse(&file(range, value), Path::new("agent.toml")).err().map(|error| error.to_string())
    }

    fn written(range: &Range, amount: u64) -> String {
        if range.kind == Count { amount.to_string() } else { format!("{:?}", range.shown(amount)) }
    }

    #[test]
    fn each_amount_is_taken_at_both_ends_of_its_range_and_refused_beyond_with_the_key_and_the_range() {
        for range in RANGES {
            let name = format!("{}.{}", range.section, range.key);
            // Together with the fixed head of each buffer the least is too little there.
            let least = if range.key == "max_buffered" { 1 << 20 } else { range.least };
            for amount in [least, range.most] {
                assert_eq!(refusal(range, &written(range, amount)), None, "{name} = {amount}");
            }
            let mut beyond = vec!["-1".to_owned(), u64::MAX.to_string(), "999999999999999999999999".into()];
            if range.least > 0 && !range.zero {
                beyond.push(written(range, range.least - 1));
            }
            if range.zero {
                assert_eq!(refusal(range, &written(range, 0)), None, "{name} = 0");
                beyond.push(written(range, 1));
            }
            beyond.push(written(range, range.most + 1));
            match range.kind {
                Count => {}
                Bytes => beyond.push("\"16777215TiB\"".into()),
                Rate => beyond.push("\"99999999999999TiB/s\"".into()),
                Time => beyond.push("\"9999999999999999d\"".into()),
            }
            for value in beyond {
                let said = refusal(range, &value).unwrap_or_default();
                let key = format!("{} = {value} is out of range: {}", range.key, range.taken());
                assert!(said.starts_with("agent.toml:") && said.contains(&key), "{name} = {value}: {said}");
                assert_eq!(said.lines().count(), 1, "{said}");
            }
        }
    }

    #[test]
    fn a_value_of_another_type_is_told_the_key_and_the_range() {
        for (text, said) in [
            (
                "[agent]\nmax_series = \"many\"\n",
                "agent.toml:2:14: agent.max_series: invalid type: string \"many\", expected a whole number: give 1 to 10000000",
            ),
            (
                "[input.mqtt]\nmax_inflight = 1.5\n",
                "agent.toml:2:16: input.mqtt.max_inflight: invalid type: floating point `1.5`, expected a whole number: give 1 to 16384",
            ),
            (
                "[spool]\nmax_bytes = \"much\"\n",
                "agent.toml:2:13: spool.max_bytes: a size is written \"64KiB\", \"4MiB\", \"10GiB\", \"1TiB\" or as a number of bytes: give 512KiB to 1024TiB",
            ),
        ] {
            let error = Config::parse(text, Path::new("agent.toml")).err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), Some(said));
        }
    }

    #[test]
    fn every_number_size_and_length_of_time_of_the_reference_has_its_range() {
        let schema: serde_json::Value = serde_json::from_str(&crate::reference::schema()).unwrap_or_default();
        let mut lacking = Vec::new();
        walk(&schema, &schema, "", &mut |section, key, target| {
            let types = target["type"].to_string();
            let amount = target["pattern"].as_str().is_some_and(|pattern| pattern.starts_with("^[0-9]+"));
            let amount = amount || types.contains("integer") || types.contains("number");
            if amount && !RANGES.iter().any(|range| (range.section, range.key) == (section, key)) {
                lacking.push(format!("{section}.{key}"));
            }
        });
        // A share, whose check is its own.
        assert_eq!(lacking, ["tracing.sample"]);
    }
}
