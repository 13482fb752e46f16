//! Payloads that every reader must take.

use telemetry::{Attribute, Bins, Cause, Event, Rows, SampleFlags, SeriesRef, Severity, WindowRow};
use wire::payload::Window;

use crate::Error;
use crate::byhand::{Document, Value, column, f64s, i64s, planes, raw, samples, u32s};
use crate::expect::{Series, Vector};

const T: i64 = 1_700_000_000_000_000_000;
const SECOND: i64 = 1_000_000_000;

pub fn vectors() -> Result<Vec<Vector>, Error> {
    let mut all = vec![
        encoded("empty", "Nothing at all: no samples, no windows, no events, no counts.", Rows::default())?,
        one_sample()?,
        shared_timeline()?,
        order_of_arrival()?,
        special_values()?,
        ends_of_time()?,
        large_values()?,
        decimals_by_series()?,
        flags()?,
        counts()?,
        windows()?,
        partial_windows()?,
        events()?,
        everything()?,
        long()?,
    ];
    all.extend(times_by_hand()?);
    all.extend(values_by_hand()?);
    all.extend(columns_of_other_types()?);
    Ok(all)
}

/// The series of some rows, as the wire orders them. Numbers are 100 - the row's reference.
fn expected(rows: &Rows) -> Vec<Series> {
    let mut order: Vec<usize> = (0..rows.series.len()).collect();
    order.sort_by_key(|at| (number(rows.series[*at]), rows.times[*at]));
    let mut list: Vec<Series> = Vec::new();
    for at in order {
        let id = number(rows.series[at]);
        if list.last().is_none_or(|last| last.id != id) {
            list.push(Series { id, ..Series::default() });
        }
        if let Some(series) = list.last_mut() {
            series.times.push(rows.times[at]);
            series.values.push(rows.values[at]);
            if rows.flags.iter().any(|flags| *flags != 0) {
                series.flags.push(rows.flags[at]);
            }
        }
    }
    list
}

fn number(series: SeriesRef) -> u32 {
    100 - series.0
}

fn encoded(name: &'static str, about: &'static str, rows: Rows) -> Result<Vector, Error> {
    let payload = wire::payload::encode(&rows, number)?.bytes;
    let mut windows: Vec<Window> = rows.windows.iter().map(window).collect();
    windows.sort_by_key(|window| (window.id, window.start));
    Ok(Vector {
        name,
        about,
        payload,
        counts: rows.counts.iter().map(|(cause, count)| (cause as u8, count)).collect(),
        series: expected(&rows),
        windows,
        events: rows.events,
    })
}

fn window(row: &WindowRow) -> Window {
    Window {
        id: number(row.series),
        start: row.start,
        length: row.length,
        count: row.count,
        sum: row.sum,
        min: row.min,
        max: row.max,
        first: row.first,
        last: row.last,
        bins: row.bins.clone(),
    }
}

fn one_sample() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    rows.push_sample(SeriesRef(0), T, 21.5, 0);
    rows.count(Cause::Received, 1);
    rows.count(Cause::Shipped, 1);
    encoded("one-sample", "One sample of one series.", rows)
}

fn shared_timeline() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    for at in 0..12i64 {
        for series in 0..8u32 {
            rows.push_sample(SeriesRef(series), T + at * SECOND, f64::from(series) + at as f64 / 100.0, 0);
        }
        rows.push_sample(SeriesRef(8), T + at * SECOND + 7, 0.5, 0);
    }
    encoded("shared-timeline", "Eight series read together share one timeline; a ninth has its own.", rows)
}

fn order_of_arrival() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    for (time, value) in [(5, 1.0), (3, 2.0), (5, 3.0), (4, 4.0), (5, 5.0), (3, 6.0)] {
        rows.push_sample(SeriesRef(2), T + time, value, 0);
    }
    rows.push_sample(SeriesRef(50), T, 9.0, 0);
    encoded("order", "Late samples are sorted by time; of equal times the order of arrival stays.", rows)
}

fn special_values() -> Result<Vector, Error> {
    let bits = [
        0x7ff8_0000_0000_0000, // NaN
        0xfff8_0000_0000_0001, // NaN with a sign and a payload
        0x7ff0_0000_0000_0001, // a signalling NaN
        0x7fff_ffff_ffff_ffff,
        0x7ff0_0000_0000_0000, // infinity
        0xfff0_0000_0000_0000,
        0x8000_0000_0000_0000, // -0.0
        0x0000_0000_0000_0000,
        0x0000_0000_0000_0001, // the smallest subnormal
        0x800f_ffff_ffff_ffff, // the largest, negative
        0x0010_0000_0000_0000, // the smallest normal
        0x7fef_ffff_ffff_ffff, // the largest
        0x3fb9_9999_9999_999a, // 0.1
        0x3fd3_3333_3333_3334, // 0.1 + 0.2
    ];
    let mut rows = Rows::default();
    for (at, bits) in bits.into_iter().enumerate() {
        rows.push_sample(SeriesRef(0), T + at as i64, f64::from_bits(bits), 0);
        rows.push_sample(SeriesRef(1), T + at as i64, f64::from_bits(0x8000_0000_0000_0000), 0);
        rows.push_sample(SeriesRef(2), T + at as i64, f64::from_bits(0x7ff8_dead_beef_0001), 0);
    }
    encoded("special-values", "NaN with payloads, infinities, -0.0, subnormals: every bit comes back.", rows)
}

fn ends_of_time() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    for time in [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX] {
        rows.push_sample(SeriesRef(0), time, time as f64, 0);
    }
    rows.push_sample(SeriesRef(1), i64::MAX, 1.0, 0);
    rows.push_sample(SeriesRef(1), i64::MIN, 2.0, 0);
    rows.push_sample(SeriesRef(1), 0, 3.0, 0);
    encoded("ends-of-time", "Times at both ends of i64: differences wrap at 64 bits.", rows)
}

fn large_values() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    let exact = (1u64 << 53) as f64;
    let values = [
        exact,
        -exact,
        exact - 1.0,
        1.0 - exact,
        (1u64 << 51) as f64,
        1e15 + 0.5,
        123_456_789.123_456_79,
        -1e-9,
        1e300,
    ];
    for (at, value) in values.into_iter().enumerate() {
        rows.push_sample(SeriesRef(0), T + at as i64, value, 0);
        rows.push_sample(SeriesRef(1), T + at as i64, (at as f64 - 4.0) * 1e14, 0);
        rows.push_sample(SeriesRef(2), T + at as i64, f64::from(at as u32) * 1e-9, 0);
    }
    encoded("large-values", "Values around 2^53 and the ends of what decimals hold.", rows)
}

fn decimals_by_series() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    for at in 0..40i64 {
        let noise = (at * 7919) % 13;
        let values = [
            20.5 + at as f64 / 10.0,                // one decimal, rising
            (101_325 + noise) as f64 / 100.0,       // noise around a level
            noise as f64 / 1e7,                     // seven decimals
            1.0 / (1.0 + at as f64),                // no decimal form
            -273.15,                                // constant
            (at * at) as f64 * 1e9,                 // large steps
            if at == 20 { f64::NAN } else { 0.25 }, // one value that is none
        ];
        for (series, value) in values.into_iter().enumerate() {
            rows.push_sample(SeriesRef(series as u32), T + at * SECOND, value, 0);
        }
    }
    encoded("decimals-by-series", "Each series has decimals of its own (encoding 8).", rows)
}

fn flags() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    for at in 0..20i64 {
        let flags = match at {
            3 => SampleFlags::ARRIVAL_TIME,
            4 => SampleFlags::RETAINED | SampleFlags::CLOCK_UNCERTAIN,
            19 => 0xff,
            _ => 0,
        };
        rows.push_sample(SeriesRef(at as u32 % 2), T + at, 1.0, flags);
    }
    encoded("flags", "Some samples carry marks, unknown ones too.", rows)
}

fn counts() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    for (at, cause) in Cause::ALL.iter().enumerate() {
        rows.count(*cause, [1, 0xff, 0x1_0000, i64::MAX as u64][at % 4]);
    }
    encoded("counts", "Every cause, and nothing else.", rows)
}

fn row(series: u32, start: i64, bins: Bins) -> WindowRow {
    WindowRow {
        series: SeriesRef(series),
        start,
        length: 10 * SECOND,
        count: 10,
        sum: 215.5,
        min: 21.0,
        max: 22.25,
        first: (start + 1, 21.0),
        last: (start + 9 * SECOND, 0.1 + 0.2),
        bins,
    }
}

fn windows() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    for series in 0..3 {
        for at in 0..4i64 {
            let bins = Bins {
                positive: (150..150 + at as i32).map(|key| (key, 3)).collect(),
                negative: if series == 1 {
                    vec![(i32::MIN, 1), (-7, u64::MAX), (i32::MAX, 2)]
                } else {
                    vec![]
                },
                zero: at as u64,
            };
            rows.windows.push(row(series, T + at * 10 * SECOND, bins));
        }
    }
    rows.count(Cause::ReducedWindow, 120);
    encoded("windows", "Windows of three series with sketches: positive, negative and zero bins.", rows)
}

fn partial_windows() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    rows.windows.push(row(0, T, Bins { zero: 1, ..Bins::default() }));
    rows.windows.push(WindowRow {
        count: 1,
        sum: f64::NAN,
        ..row(0, T, Bins { zero: 2, ..Bins::default() })
    });
    rows.windows.push(WindowRow {
        length: i64::MAX,
        count: u64::MAX,
        min: f64::NEG_INFINITY,
        max: f64::INFINITY,
        first: (i64::MIN, -0.0),
        last: (i64::MAX, f64::MAX),
        ..row(7, i64::MIN, Bins::default())
    });
    encoded(
        "partial-windows",
        "Two rows of one window in the order they came, and one with everything at its end.",
        rows,
    )
}

fn events() -> Result<Vector, Error> {
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

fn everything() -> Result<Vector, Error> {
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

fn long() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    for at in 0..1000i64 {
        rows.push_sample(SeriesRef(0), T + at * SECOND + (at % 3), 20.0 + ((at * at) % 101) as f64 / 10.0, 0);
        rows.push_sample(SeriesRef(1), T + at * SECOND, (at as f64 / 50.0).sin(), 0);
    }
    encoded(
        "long",
        "Two series of a thousand samples: jitter in one timeline, no decimals in one column.",
        rows,
    )
}

/// One series whose columns were written by hand.
fn byhand(
    name: &'static str,
    about: &'static str,
    times: Value,
    values: Value,
    t: Vec<i64>,
    v: Vec<f64>,
) -> Result<Vector, Error> {
    let payload = Document::series(t.len() as u32, times, values).pack()?;
    let series = vec![Series { id: 1, times: t, values: v, flags: vec![] }];
    Ok(Vector { name, about, payload, series, ..Vector::default() })
}

fn times_by_hand() -> Result<Vec<Vector>, Error> {
    let of = |n: usize| f64s(&vec![1.5; n]);
    let ones = |n: usize| vec![1.5; n];
    let wide = 0x0102_0304_0506_0708i64;
    let far: Vec<u8> = [wide, 2].iter().flat_map(|step| step.to_le_bytes()).collect();
    Ok(vec![
        byhand("t-raw", "Times: encoding 0.", i64s(&[5, 6, 9]), of(3), vec![5, 6, 9], ones(3))?,
        byhand(
            "t-raw-planes",
            "Times: encoding 16.",
            column(16, 2, &[], planes(8, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16])),
            of(2),
            vec![0x0807_0605_0403_0201, 0x100f_0e0d_0c0b_0a09],
            ones(2),
        )?,
        byhand(
            "t-constant",
            "Times: encoding 1.",
            column(1, 4, &[], 9i64.to_le_bytes()),
            of(4),
            vec![9; 4],
            ones(4),
        )?,
        byhand(
            "t-delta",
            "Times: encoding 2, width 1, and wrapping.",
            column(2, 4, &[1, i128::from(i64::MAX)], [0, 0, 0]),
            of(4),
            vec![i64::MAX; 4],
            ones(4),
        )?,
        byhand(
            "t-delta-8",
            "Times: encoding 2, width 8.",
            column(2, 3, &[8, 10], far),
            of(3),
            vec![10, 10 + wide, 12 + wide],
            ones(3),
        )?,
        byhand(
            "t-delta-planes",
            "Times: encoding 18, width 2.",
            column(18, 4, &[2, -3], planes(2, &[1, 0, 2, 1, 0, 0])),
            of(4),
            vec![-3, -2, 256, 256],
            ones(4),
        )?,
        byhand(
            "t-delta-zigzag",
            "Times: encoding 34, width 1.",
            column(34, 4, &[1, 7], [2, 4, 0]),
            of(4),
            vec![7, 8, 10, 10],
            ones(4),
        )?,
        byhand(
            "t-delta-zigzag-planes",
            "Times: encoding 50, width 4.",
            column(50, 3, &[4, 0], planes(4, &[2, 0, 0, 0, 0, 0, 1, 0])),
            of(3),
            vec![0, 1, 32_769],
            ones(3),
        )?,
        byhand(
            "t-dod",
            "Times: encoding 3, width 1.",
            column(3, 5, &[1, 100, 10], [0, 1, 0xff]),
            of(5),
            vec![100, 110, 120, 131, 141],
            ones(5),
        )?,
        byhand(
            "t-dod-two",
            "Times: encoding 3 with two items has no data.",
            column(3, 2, &[1, i128::from(i64::MIN), -1], []),
            of(2),
            vec![i64::MIN, i64::MAX],
            ones(2),
        )?,
        byhand(
            "t-dod-zigzag-planes",
            "Times: encoding 51, width 2.",
            column(51, 5, &[2, 0, 1000], planes(2, &[0, 1, 1, 0, 0, 0])),
            of(5),
            vec![0, 1000, 2128, 3255, 4382],
            ones(5),
        )?,
        byhand(
            "t-run-length",
            "Times: encoding 5.",
            column(
                5,
                5,
                &[2],
                [
                    3u32.to_le_bytes().to_vec(),
                    2u32.to_le_bytes().to_vec(),
                    4i64.to_le_bytes().to_vec(),
                    8i64.to_le_bytes().to_vec(),
                ]
                .concat(),
            ),
            of(5),
            vec![4, 4, 4, 8, 8],
            ones(5),
        )?,
    ])
}

fn values_by_hand() -> Result<Vec<Vector>, Error> {
    let t = |n: usize| -> Vec<i64> { (0..n as i64).collect() };
    let segments = |scales: &[u8], lengths: &[u32], bases: &[i64], steps: Value, rest: Value, n: i128| {
        Value::Array(vec![
            Value::Int(8),
            Value::Int(n),
            u32s(lengths),
            column(0, scales.len() as i128, &[], scales),
            i64s(bases),
            steps,
            rest,
        ])
    };
    let narrow = |items: &[u8]| column(6, items.len() as i128, &[1], items);
    let nan = f64::from_bits(0x7ff8_0000_0000_0001);
    Ok(vec![
        byhand(
            "v-constant",
            "Values: encoding 1, a NaN with a payload.",
            i64s(&t(3)),
            column(1, 3, &[], nan.to_le_bytes()),
            t(3),
            vec![nan; 3],
        )?,
        byhand(
            "v-raw-planes",
            "Values: encoding 16.",
            i64s(&t(2)),
            column(16, 2, &[], planes(8, &[1.5f64.to_le_bytes(), (-0.0f64).to_le_bytes()].concat())),
            t(2),
            vec![1.5, -0.0],
        )?,
        byhand(
            "v-decimal",
            "Values: encoding 4, one decimal.",
            i64s(&t(4)),
            column(4, 4, &[1, 1, 205], [1, 0xfe, 0]),
            t(4),
            vec![20.5, 20.6, 20.4, 20.4],
        )?,
        byhand(
            "v-decimal-planes",
            "Values: encoding 20, nine decimals, width 4.",
            i64s(&t(3)),
            column(20, 3, &[9, 4, -1], planes(4, &[[2, 0, 0, 0], [0, 0, 0, 0x80]].concat())),
            t(3),
            vec![-1e-9, 1e-9, -2.147_483_647],
        )?,
        byhand(
            "v-decimal-zigzag",
            "Values: encoding 36, whole numbers, width 2.",
            i64s(&t(3)),
            column(36, 3, &[0, 2, 0], [1, 0, 0xff, 0xff]),
            t(3),
            vec![0.0, -1.0, -32_769.0],
        )?,
        byhand(
            "v-decimal-edge",
            "Values: encoding 4 at the last whole number below 2^53.",
            i64s(&t(2)),
            column(4, 2, &[0, 1, (1 << 53) - 2], [1]),
            t(2),
            vec![9_007_199_254_740_990.0, 9_007_199_254_740_991.0],
        )?,
        byhand(
            "v-run-length",
            "Values: encoding 5.",
            i64s(&t(4)),
            column(
                5,
                4,
                &[2],
                [
                    1u32.to_le_bytes().to_vec(),
                    3u32.to_le_bytes().to_vec(),
                    1.25f64.to_le_bytes().to_vec(),
                    (-0.0f64).to_le_bytes().to_vec(),
                ]
                .concat(),
            ),
            t(4),
            vec![1.25, -0.0, -0.0, -0.0],
        )?,
        byhand(
            "v-segments",
            "Values: encoding 8 with segments of each kind, cut elsewhere than at series.",
            i64s(&t(9)),
            segments(
                &[1, 255, 34, 0],
                &[3, 2, 3, 1],
                &[205, 1000, -5],
                narrow(&[2, 3, 0, 1, 4]),
                f64s(&[nan, f64::INFINITY]),
                9,
            ),
            t(9),
            vec![20.5, 20.6, 20.4, nan, f64::INFINITY, 10.0, 9.99, 10.02, -5.0],
        )?,
        byhand(
            "v-segments-inner",
            "Values: encoding 8 whose parts are constant, delta and decimal columns themselves.",
            i64s(&t(6)),
            Value::Array(vec![
                Value::Int(8),
                Value::Int(6),
                column(1, 3, &[], 2u32.to_le_bytes()),
                column(
                    5,
                    3,
                    &[2],
                    [2u32.to_le_bytes().to_vec(), 1u32.to_le_bytes().to_vec(), vec![2, 255]].concat(),
                ),
                column(34, 2, &[1, -100], [3]),
                column(1, 2, &[], 2u64.to_le_bytes()),
                column(4, 2, &[1, 1, 1], [1]),
            ]),
            t(6),
            vec![-1.0, -0.99, -1.02, -1.01, 0.1, 0.2],
        )?,
    ])
}

/// u32, i32, u64 and u8 columns in forms of their own.
fn columns_of_other_types() -> Result<Vec<Vector>, Error> {
    let series = |id: u32, times: &[i64], value: f64| Series {
        id,
        times: times.to_vec(),
        values: vec![value; times.len()],
        flags: vec![],
    };
    let two = |ids: Value, lines: Value, lengths: Value, flags: Value| Document {
        timelines: Value::Array(vec![i64s(&[5]), i64s(&[6])]),
        samples: samples(ids, lines, lengths, column(1, 2, &[], 2.5f64.to_le_bytes()), flags),
        ..Document::empty()
    };
    let list = |first: u32, second: u32| vec![series(first, &[6], 2.5), series(second, &[5], 2.5)];
    let narrow = two(
        column(22, 2, &[2], planes(2, &[1, 0, 0, 2])),
        column(6, 2, &[1], [1, 0]),
        column(1, 2, &[], 1u32.to_le_bytes()),
        Value::Nil,
    );
    let delta = two(
        column(2, 2, &[4, 7], (-8i32 + 1_000_000).to_le_bytes()),
        raw(&[1u32.to_le_bytes(), 0u32.to_le_bytes()]),
        column(5, 2, &[1], [2u32.to_le_bytes(), 1u32.to_le_bytes()].concat()),
        column(5, 2, &[2], [&1u32.to_le_bytes()[..], &1u32.to_le_bytes()[..], &[4, 0]].concat()),
    );
    let mut flagged = list(7, 999_999);
    flagged[0].flags = vec![4];
    flagged[1].flags = vec![0];
    Ok(vec![
        Vector {
            name: "u32-narrow",
            about: "Series numbers: encoding 22, width 2; timelines: encoding 6, width 1.",
            payload: narrow.pack()?,
            series: list(1, 512),
            ..Vector::default()
        },
        Vector {
            name: "u32-delta",
            about: "Series numbers: encoding 2, width 4; counts and flags: encoding 5.",
            payload: delta.pack()?,
            series: flagged,
            ..Vector::default()
        },
    ])
}
