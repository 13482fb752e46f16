//! Events, counts, and everything in one batch.

use telemetry::{Attribute, Bins, Cause, Event, Rows, SeriesRef, Severity};

use super::windows::row;
use super::{SECOND, T, encoded};
use crate::Error;
use crate::expect::Vector;

pub fn counts() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    for (at, cause) in Cause::ALL.iter().enumerate() {
        rows.count(*cause, [1, 0xff, 0x1_0000, i64::MAX as u64][at % 4]);
    }
    encoded("counts", "Every cause, and nothing else.", rows)
}

pub fn events() -> Result<Vector, Error> {
    let event = |time, severity, body: &str, attributes: Vec<(&str, Attribute)>| Event {
        source: "plant1/app \u{1f680}".into(),
        time,
        severity,
        body: body.into(),
        attributes: attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    };
    let all = vec![
        ("bool", Attribute::Bool(true)),
        ("no", Attribute::Bool(false)),
        ("int", Attribute::Int(-1)),
        ("least", Attribute::Int(i64::MIN)),
        ("most", Attribute::Int(i64::MAX)),
        ("float", Attribute::Float(0.1)),
        ("nan", Attribute::Float(f64::from_bits(0x7ff8_0000_0000_0007))),
        ("whole float", Attribute::Float(2.0)),
        ("text", Attribute::Text("Größe: 5 µm, 温度".into())),
        ("", Attribute::Text(String::new())),
        ("clé", Attribute::Text("\u{0}\u{1}\n\"\\".into())),
    ];
    let rows = Rows {
        events: vec![
            event(T, Severity::Info, "Ventil 3 geöffnet", all),
            event(T, Severity::Fatal, "", vec![]),
            event(i64::MIN, Severity::Trace, "a\tb\nc", vec![]),
            event(
                T - 1,
                Severity::Warn,
                &"x".repeat(70_000),
                vec![("site", Attribute::Text("plant1".into()))],
            ),
        ],
        ..Rows::default()
    };
    encoded(
        "events",
        "Events with every type of attribute, text outside ASCII, and a long body. Order of arrival.",
        rows,
    )
}

pub fn everything() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    for at in 0..30i64 {
        rows.push_sample(
            SeriesRef(at as u32 % 3),
            T + at * SECOND,
            21.5 + (at % 5) as f64 / 10.0,
            u8::from(at == 7),
        );
    }
    rows.windows.push(row(4, T, Bins { positive: vec![(154, 10)], ..Bins::default() }));
    rows.events.push(Event {
        source: "app".into(),
        time: T,
        severity: Severity::Error,
        body: "stopped".into(),
        attributes: vec![("code".into(), Attribute::Int(3))],
    });
    rows.count(Cause::Received, 41);
    rows.count(Cause::ReducedWindow, 10);
    rows.count(Cause::Shipped, 32);
    rows.count(Cause::Derived, 1);
    encoded("everything", "Samples, windows, events and counts in one batch.", rows)
}
