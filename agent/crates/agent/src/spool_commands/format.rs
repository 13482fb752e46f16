//! How exported readings are written: NDJSON, which holds everything, or InfluxDB line protocol, which other programs take.
//!
//! ```text
//! {"kind":"sample","time_ns":…,"name":"…","labels":{…},"unit":"…","value":…,"flags":0}
//! {"kind":"window","start_ns":…,"length_ns":…,"name":…,"labels":…,"unit":…,"count":…,"sum":…,"min":…,"max":…,
//!  "first":{"time_ns":…,"value":…},"last":{…},"bins":{"positive":[[key,count]…],"negative":[…],"zero":0}}
//! {"kind":"event","time_ns":…,"source":"…","severity":"info","body":"…","attributes":{…}}
//! ```
//! Times of a boot whose clock was not set, as long as nobody knows when it was, are null, and counted from that boot beside:
//! ```text
//! {"kind":"sample","time_ns":null,"boot":"…","since_boot_ns":…,…}     also `start_ns` of windows
//! ```
//! Line protocol has no way to say that.
//!
//! Numbers are the shortest that read back as the same float64. JSON has no infinity and no NaN: they are the texts
//! `"Infinity"`, `"-Infinity"` and `"NaN"`.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::{Map, Value, json};
use telemetry::{Attribute, Event, SeriesDef};
use wire::payload::Window;

/// How readings are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A JSON object a line: everything that is known.
    Ndjson,
    /// InfluxDB line protocol, as the agent's own inputs and other programs take it.
    Line,
}

/// A series as it stands in each of its lines.
pub struct Prefix(String);

/// What a batch's times count from.
#[derive(Clone, Copy, Debug)]
pub enum Since<'a> {
    /// The epoch, once so much is added.
    Epoch(i64),
    /// A boot of which nobody knows when it was.
    Boot(&'a str),
}

impl Since<'_> {
    /// Nanoseconds since the epoch, where they are known.
    pub fn time(self, time: i64) -> Option<i64> {
        match self {
            Self::Epoch(offset) => Some(time.saturating_add(offset)),
            Self::Boot(_) => None,
        }
    }

    /// A time as keys of an object.
    fn keys(self, name: &str, time: i64) -> String {
        match self {
            Self::Epoch(offset) => format!("\"{name}\":{}", time.saturating_add(offset)),
            Self::Boot(boot) => format!("\"{name}\":null,\"boot\":\"{boot}\",\"since_boot_ns\":{time}"),
        }
    }
}

impl Format {
    /// What all samples of a series have in common.
    pub fn prefix(self, def: &SeriesDef) -> Prefix {
        let mut out = String::new();
        match self {
            Self::Ndjson => {
                let labels: Map<String, Value> =
                    def.key.labels().map(|(label, value)| (label.to_owned(), value.into())).collect();
                out = format!(
                    "\"name\":{},\"labels\":{},\"unit\":{}",
                    json!(def.key.name()),
                    Value::from(labels),
                    json!(&*def.unit)
                );
            }
            Self::Line => {
                escape(&mut out, def.key.name(), &[',', ' ']);
                for (label, value) in def.key.labels() {
                    tag(&mut out, label, value);
                }
            }
        }
        Prefix(out)
    }

    /// One sample; false when the format has no way to say it.
    pub fn sample(
        self,
        out: &mut impl Write,
        series: &Prefix,
        (since, time): (Since<'_>, i64),
        value: f64,
        flags: u8,
    ) -> io::Result<bool> {
        match (self, since.time(time)) {
            (Self::Ndjson, _) => {
                write!(out, "{{\"kind\":\"sample\",{},{},\"value\":", since.keys("time_ns", time), series.0)?;
                number(out, value)?;
                writeln!(out, ",\"flags\":{flags}}}")?;
            }
            (Self::Line, Some(time)) if value.is_finite() => {
                write!(out, "{} value=", series.0)?;
                number(out, value)?;
                writeln!(out, " {time}")?;
            }
            (Self::Line, _) => return Ok(false),
        }
        Ok(true)
    }

    /// One window; false when the format has no way to say it.
    pub fn window(
        self,
        out: &mut impl Write,
        series: &Prefix,
        since: Since<'_>,
        window: &Window,
    ) -> io::Result<bool> {
        let Window { start, length, count, sum, min, max, first, last, bins, .. } = window;
        let numbers = [("sum", *sum), ("min", *min), ("max", *max), ("first", first.1), ("last", last.1)];
        match (self, since.time(*start)) {
            (Self::Ndjson, _) => {
                write!(
                    out,
                    "{{\"kind\":\"window\",{},\"length_ns\":{length},{},\"count\":{count}",
                    since.keys("start_ns", *start),
                    series.0
                )?;
                for (name, value) in &numbers[..3] {
                    write!(out, ",\"{name}\":")?;
                    number(out, *value)?;
                }
                for (name, (time, value)) in [("first", first), ("last", last)] {
                    write!(out, ",\"{name}\":{{{},\"value\":", since.keys("time_ns", *time))?;
                    number(out, *value)?;
                    write!(out, "}}")?;
                }
                let bins = json!({"positive": bins.positive, "negative": bins.negative, "zero": bins.zero});
                writeln!(out, ",\"bins\":{bins}}}")?;
            }
            (Self::Line, Some(start)) if numbers.iter().all(|(_, value)| value.is_finite()) => {
                write!(out, "{} count={count}i,length_ns={length}i", series.0)?;
                for (name, value) in numbers {
                    write!(out, ",{name}=")?;
                    number(out, value)?;
                }
                writeln!(out, " {start}")?;
            }
            (Self::Line, _) => return Ok(false),
        }
        Ok(true)
    }

    /// One event; false when the format has no way to say it.
    pub fn event(self, out: &mut impl Write, since: Since<'_>, event: &Event) -> io::Result<bool> {
        match (self, since.time(event.time)) {
            (Self::Ndjson, time) => {
                let attributes: Map<String, Value> =
                    event.attributes.iter().map(|(name, value)| (name.clone(), attribute(value))).collect();
                let mut line = json!({
                    "kind": "event", "time_ns": time, "source": event.source, "severity": event.severity,
                    "body": event.body, "attributes": attributes,
                });
                if let Since::Boot(boot) = since {
                    (line["boot"], line["since_boot_ns"]) = (boot.into(), event.time.into());
                }
                writeln!(out, "{line}")?;
            }
            (Self::Line, Some(time)) => {
                let mut line = String::new();
                escape(&mut line, &event.source, &[',', ' ']);
                let severity = json!(event.severity);
                tag(&mut line, "severity", severity.as_str().unwrap_or("info"));
                // What came as line protocol bears the name of its field as an attribute: it goes back there.
                let named = event.attributes.iter().find_map(|(name, value)| match value {
                    Attribute::Text(field) if name == "field" && !field.is_empty() => Some(field.as_str()),
                    _ => None,
                });
                let tags = event.attributes.iter().filter(|(name, _)| named.is_none() || name != "field");
                for (name, value) in tags {
                    let text = match attribute(value) {
                        Value::String(text) => text,
                        other => other.to_string(),
                    };
                    tag(&mut line, name, &text);
                }
                let body = event.body.replace('\\', "\\\\").replace('"', "\\\"");
                line.push(' ');
                escape(&mut line, named.unwrap_or("body"), &[',', '=', ' ']);
                writeln!(out, "{line}=\"{body}\" {time}")?;
            }
            (Self::Line, None) => return Ok(false),
        }
        Ok(true)
    }
}

fn attribute(value: &Attribute) -> Value {
    match value {
        Attribute::Float(value) if !value.is_finite() => text(*value).into(),
        other => json!(other),
    }
}

fn text(value: f64) -> &'static str {
    match value {
        _ if value.is_nan() => "NaN",
        _ if value > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

fn number(out: &mut impl Write, value: f64) -> io::Result<()> {
    if value.is_finite() {
        serde_json::to_writer(out, &value).map_err(io::Error::from)
    } else {
        write!(out, "\"{}\"", text(value))
    }
}

fn tag(out: &mut String, name: &str, value: &str) {
    // Line protocol has neither empty tags nor line breaks in them.
    if value.is_empty() {
        return;
    }
    out.push(',');
    escape(out, name, &[',', '=', ' ']);
    out.push('=');
    escape(out, value, &[',', '=', ' ']);
}

fn escape(out: &mut String, text: &str, special: &[char]) {
    for c in text.chars() {
        match c {
            '\n' | '\r' => out.push_str("\\ "),
            c if special.contains(&c) => {
                // Writing to a String can't fail.
                let _ = write!(out, "\\{c}");
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use telemetry::{Bins, SeriesKey, Severity};

    use super::*;

    fn def() -> SeriesDef {
        SeriesDef {
            key: SeriesKey::new("room, temp", [("device", "p=7"), ("q", "a \"b\"")]).unwrap(),
            unit: "Cel".into(),
        }
    }

    fn sample(format: Format, value: f64) -> (bool, String) {
        let mut out = Vec::new();
        let said = format.sample(&mut out, &format.prefix(&def()), (Since::Epoch(2), 3), value, 1).unwrap();
        (said, String::from_utf8(out).unwrap())
    }

    #[test]
    fn every_float_comes_back_from_ndjson_to_the_bit() {
        for value in [0.1 + 0.2, -0.0, 5e-324, f64::MAX, 1e300, 123_456_789.123_456_79, 1.0] {
            let line: Value = serde_json::from_str(&sample(Format::Ndjson, value).1).unwrap();
            assert_eq!(line["value"].as_f64().unwrap().to_bits(), value.to_bits(), "{value:?}");
            assert_eq!(line["labels"]["q"], "a \"b\"");
            assert_eq!(
                (&line["time_ns"], &line["flags"], &line["unit"]),
                (&5.into(), &1.into(), &"Cel".into())
            );
        }
        for (value, said) in
            [(f64::NAN, "NaN"), (f64::INFINITY, "Infinity"), (f64::NEG_INFINITY, "-Infinity")]
        {
            let line: Value = serde_json::from_str(&sample(Format::Ndjson, value).1).unwrap();
            assert_eq!(line["value"], said);
        }
    }

    #[test]
    fn line_protocol_escapes_what_would_end_a_name_and_leaves_out_what_it_cannot_say() {
        let (said, line) = sample(Format::Line, 1.5);
        assert!(said);
        assert_eq!(line, "room\\,\\ temp,device=p\\=7,q=a\\ \"b\" value=1.5 5\n");
        assert_eq!(sample(Format::Line, f64::NAN), (false, String::new()));
    }

    #[test]
    fn windows_and_events_keep_all_their_fields() {
        let window = Window {
            id: 1,
            start: 10,
            length: 20,
            count: 2,
            sum: 3.0,
            min: 1.0,
            max: 2.0,
            first: (11, 1.0),
            last: (12, 2.0),
            bins: Bins { positive: vec![(1, 2)], negative: Vec::new(), zero: 0 },
        };
        let mut out = Vec::new();
        Format::Ndjson.window(&mut out, &Format::Ndjson.prefix(&def()), Since::Epoch(0), &window).unwrap();
        let line: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            (&line["count"], &line["last"]["time_ns"], &line["bins"]["positive"][0][1]),
            (&2.into(), &12.into(), &2.into())
        );
        let event = Event {
            source: "app".into(),
            time: 7,
            severity: Severity::Warn,
            body: "say \"hi\"\nthere".into(),
            attributes: vec![("n".into(), Attribute::Int(3)), ("user".into(), Attribute::Text("a b".into()))],
        };
        out.clear();
        Format::Ndjson.event(&mut out, Since::Epoch(0), &event).unwrap();
        let line: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&line["severity"], &line["attributes"]["n"]), (&"warn".into(), &3.into()));
        out.clear();
        Format::Line.event(&mut out, Since::Epoch(0), &event).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "app,severity=warn,n=3,user=a\\ b body=\"say \\\"hi\\\"\nthere\" 7\n"
        );
        // As it came, where it came as line protocol.
        let mut back = Vec::new();
        let named = Event {
            attributes: vec![("field".into(), Attribute::Text("msg".into()))],
            body: "x".into(),
            ..event
        };
        Format::Line.event(&mut back, Since::Epoch(0), &named).unwrap();
        assert_eq!(String::from_utf8(back).unwrap(), "app,severity=warn msg=\"x\" 7\n");
    }

    #[test]
    fn a_time_that_nobody_knows_is_null_and_counted_from_its_boot_and_line_protocol_cannot_say_it() {
        let (since, mut out) = (Since::Boot("b1"), Vec::new());
        assert!(Format::Ndjson.sample(&mut out, &Format::Ndjson.prefix(&def()), (since, 5), 1.5, 4).unwrap());
        let line: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            (&line["time_ns"], &line["boot"], &line["since_boot_ns"]),
            (&Value::Null, &"b1".into(), &5.into())
        );
        out.clear();
        assert!(!Format::Line.sample(&mut out, &Format::Line.prefix(&def()), (since, 5), 1.5, 4).unwrap());
        let event = Event {
            source: "a".into(),
            time: 7,
            severity: Severity::Warn,
            body: "b".into(),
            attributes: vec![],
        };
        assert!(!Format::Line.event(&mut out, since, &event).unwrap());
        assert!(out.is_empty());
        assert!(Format::Ndjson.event(&mut out, since, &event).unwrap());
        let line: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&line["time_ns"], &line["since_boot_ns"]), (&Value::Null, &7.into()));
    }
}
