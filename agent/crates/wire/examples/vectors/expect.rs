//! What a reader must find, as JSON that loses nothing: f64 as 16 hex digits of its bits, 64-bit whole
//! numbers as text.

use std::fmt::Write;

use telemetry::{Attribute, Event};
use wire::payload::Window;

/// A payload with what is in it.
#[derive(Default)]
pub struct Vector {
    pub name: &'static str,
    pub about: &'static str,
    pub payload: Vec<u8>,
    /// (cause code, count).
    pub counts: Vec<(u8, u64)>,
    pub series: Vec<Series>,
    pub windows: Vec<Window>,
    pub events: Vec<Event>,
}

/// One series' samples.
#[derive(Clone, Default)]
pub struct Series {
    pub id: u32,
    pub times: Vec<i64>,
    pub values: Vec<f64>,
    /// Empty where all are 0.
    pub flags: Vec<u8>,
}

pub fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if (control as u32) < 0x20 => _ = write!(out, "\\u{:04x}", control as u32),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

pub fn whole(number: impl std::fmt::Display) -> String {
    format!("\"{number}\"")
}

fn float(value: f64) -> String {
    format!("\"{:016x}\"", value.to_bits())
}

pub fn list<T>(items: &[T], each: impl Fn(&T) -> String) -> String {
    format!("[{}]", items.iter().map(each).collect::<Vec<_>>().join(", "))
}

/// One entry a line.
fn lines(items: &[String]) -> String {
    if items.is_empty() { "[]".into() } else { format!("[\n  {}\n ]", items.join(",\n  ")) }
}

fn window(row: &Window) -> String {
    let bins = |side: &[(i32, u64)]| list(side, |bin| format!("[{}, {}]", bin.0, whole(bin.1)));
    format!(
        r#"{{"id": {}, "t0": {}, "len": {}, "n": {}, "sum": {}, "min": {}, "max": {}, "ft": {}, "fv": {}, "lt": {}, "lv": {}, "positive": {}, "negative": {}, "zero": {}}}"#,
        row.id,
        whole(row.start),
        whole(row.length),
        whole(row.count),
        float(row.sum),
        float(row.min),
        float(row.max),
        whole(row.first.0),
        float(row.first.1),
        whole(row.last.0),
        float(row.last.1),
        bins(&row.bins.positive),
        bins(&row.bins.negative),
        whole(row.bins.zero)
    )
}

fn event(event: &Event) -> String {
    let attribute = |(name, value): &(String, Attribute)| {
        let value = match value {
            Attribute::Bool(value) => format!(r#"{{"bool": {value}}}"#),
            Attribute::Int(value) => format!(r#"{{"int": {}}}"#, whole(value)),
            Attribute::Float(value) => format!(r#"{{"float": {}}}"#, float(*value)),
            Attribute::Text(value) => format!(r#"{{"text": {}}}"#, quoted(value)),
        };
        format!("{}: {value}", quoted(name))
    };
    let attributes = event.attributes.iter().map(attribute).collect::<Vec<_>>().join(", ");
    format!(
        r#"{{"source": {}, "time": {}, "severity": {}, "body": {}, "attributes": {{{attributes}}}}}"#,
        quoted(&event.source),
        whole(event.time),
        event.severity as u8,
        quoted(&event.body)
    )
}

pub fn json(vector: &Vector) -> String {
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let counts: Vec<String> =
        vector.counts.iter().map(|(code, count)| format!("\"{code}\": {}", whole(count))).collect();
    let series: Vec<String> = vector
        .series
        .iter()
        .map(|series| {
            format!(
                r#"{{"id": {}, "times": {}, "values": {}, "flags": {}}}"#,
                series.id,
                list(&series.times, |time| whole(time)),
                list(&series.values, |value| float(*value)),
                list(&series.flags, |flags| flags.to_string())
            )
        })
        .collect();
    format!(
        "{{\n \"about\": {},\n \"checksum\": \"{}\",\n \"counts\": {{{}}},\n \"series\": {},\n \"windows\": {},\n \"events\": {}\n}}\n",
        quoted(vector.about),
        hex(&wire::half_sha256(&vector.payload)),
        counts.join(", "),
        lines(&series),
        lines(&vector.windows.iter().map(window).collect::<Vec<_>>()),
        lines(&vector.events.iter().map(event).collect::<Vec<_>>()),
    )
}
