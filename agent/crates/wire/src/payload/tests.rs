//! Whole payloads, forwards and backwards.

use proptest::prelude::*;
use telemetry::{Attribute, Bins, Cause, Event, Rows, SeriesRef, Severity, WindowRow};

use super::*;
use crate::compression::Packer;

/// Numbers ascend against the table's order: the wire sorts by number.
fn number(series: SeriesRef) -> u32 {
    1000 - series.0
}

fn attribute() -> impl Strategy<Value = Attribute> {
    prop_oneof![
        any::<bool>().prop_map(Attribute::Bool),
        any::<i64>().prop_map(Attribute::Int),
        any::<f64>().prop_map(Attribute::Float),
        "\\PC{0,40}".prop_map(Attribute::Text),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let attributes = proptest::collection::btree_map("\\PC{1,10}", attribute(), 0..5);
    ("\\PC{0,20}", any::<i64>(), 1u8..25, "\\PC{0,300}", attributes).prop_map(
        |(source, time, severity, body, attributes)| Event {
            source,
            time,
            severity: Severity::from_number(severity).unwrap(),
            body,
            attributes: attributes.into_iter().collect(),
        },
    )
}

fn window() -> impl Strategy<Value = WindowRow> {
    let bins = || proptest::collection::btree_map(any::<i32>(), 1u64.., 0..5);
    let times = (any::<i64>(), 1i64.., any::<i64>(), any::<i64>());
    let values = (any::<f64>(), any::<f64>(), -1000i32..1000, any::<f64>(), any::<f64>());
    (0u32..9, times, 1u64.., values, (bins(), bins(), any::<u64>())).prop_map(
        |(series, (start, length, ft, lt), count, (sum, min, max, fv, lv), (positive, negative, zero))| {
            WindowRow {
                series: SeriesRef(series),
                start,
                length,
                count,
                sum,
                min,
                max: f64::from(max) / 10.0,
                first: (ft, fv),
                last: (lt, lv),
                bins: Bins {
                    positive: positive.into_iter().collect(),
                    negative: negative.into_iter().collect(),
                    zero,
                },
            }
        },
    )
}

fn rows() -> impl Strategy<Value = Rows> {
    let value = prop_oneof![
        (-5000i32..5000).prop_map(|value| f64::from(value) / 10.0),
        any::<u64>().prop_map(f64::from_bits)
    ];
    let time = prop_oneof![(0i64..20).prop_map(|at| at * 1_000_000_000), any::<i64>()];
    let samples = proptest::collection::vec(
        (0u32..9, time, value, prop_oneof![9 => Just(0u8), 1 => any::<u8>()]),
        0..200,
    );
    let counts = proptest::collection::btree_map(0..Cause::ALL.len(), 1..i64::MAX as u64, 0..5);
    let windows = proptest::collection::vec(window(), 0..8);
    (samples, windows, proptest::collection::vec(event(), 0..5), counts).prop_map(
        |(samples, windows, events, counts)| {
            let mut rows = Rows { windows, events, ..Rows::default() };
            for (series, time, value, flags) in samples {
                rows.push_sample(SeriesRef(series), time, value, flags);
            }
            for (cause, count) in counts {
                rows.count(Cause::ALL[cause], count);
            }
            rows
        },
    )
}

type Sample = (u32, i64, u64, u8);

/// Samples as the wire orders them.
fn ordered(rows: &Rows) -> Vec<Sample> {
    let flags = |at: usize| rows.flags.get(at).copied().unwrap_or(0);
    let sample = |at: usize| (number(rows.series[at]), rows.times[at], rows.values[at].to_bits(), flags(at));
    let mut samples: Vec<Sample> = (0..rows.series.len()).map(sample).collect();
    samples.sort_by_key(|sample| (sample.0, sample.1));
    samples
}

fn window_bits(window: &Window) -> (u32, [i64; 4], u64, [u64; 5], Bins) {
    (
        window.id,
        [window.start, window.length, window.first.0, window.last.0],
        window.count,
        [window.sum, window.min, window.max, window.first.1, window.last.1].map(f64::to_bits),
        window.bins.clone(),
    )
}

fn as_window(row: &WindowRow) -> Window {
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

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same_rows_bit_for_bit(rows in rows()) {
        let encoded = encode(&rows, number).unwrap();
        let back = decode(&encoded.bytes).unwrap();
        prop_assert_eq!(&back.counts, &rows.counts);
        let samples: Vec<Sample> = back.samples().map(|(id, time, value, flags)| (id, time, value.to_bits(), flags)).collect();
        prop_assert_eq!(samples, ordered(&rows));
        let mut windows: Vec<Window> = rows.windows.iter().map(as_window).collect();
        windows.sort_by_key(|window| (window.id, window.start));
        prop_assert_eq!(
            back.windows.iter().map(window_bits).collect::<Vec<_>>(),
            windows.iter().map(window_bits).collect::<Vec<_>>()
        );
        prop_assert_eq!(format!("{:?}", back.events), format!("{:?}", rows.events));
        prop_assert_eq!(encoded.samples, rows.series.len());
        prop_assert_eq!((encoded.t0, encoded.t1), rows.time_range().unwrap_or_default());
        prop_assert_eq!((encoded.t0, encoded.t1), back.time_range());
        let mut series: Vec<u32> = back.samples.ids.iter().copied().chain(back.windows.iter().map(|w| w.id)).collect();
        series.sort_unstable();
        series.dedup();
        prop_assert_eq!(encoded.series, series);
        prop_assert_eq!(encoded.checksum, crate::checksum(&encoded.bytes, [0; 4]));
    }

    #[test]
    fn the_same_rows_give_the_same_bytes_from_a_used_encoder(first in rows(), second in rows()) {
        let mut used = Encoder::new(3);
        used.encode(&first, number).unwrap();
        prop_assert_eq!(used.encode(&second, number), encode(&second, number));
    }

    #[test]
    fn no_change_of_a_payload_makes_the_decoder_panic(rows in rows(), at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>()) {
        let payload = encode(&rows, number).unwrap().bytes;
        let mut raw = zstd::bulk::decompress(&payload, 1 << 26).unwrap();
        drop(decode(&Packer::new(1).pack(&raw[..cut.index(raw.len())])));
        let at = at.index(raw.len());
        raw[at] ^= 1 << bit;
        drop(decode(&Packer::new(1).pack(&raw)));
        let mut payload = payload;
        let at = at % payload.len();
        payload[at] ^= 1 << bit;
        drop(decode(&payload));
    }
}

#[test]
fn sensors_that_are_read_together_share_a_timeline() {
    let mut rows = Rows::default();
    for second in 0..10 {
        for series in 0..8 {
            rows.push_sample(SeriesRef(series), second * 1_000_000_000, f64::from(series), 0);
        }
        rows.push_sample(SeriesRef(8), second * 1_000_000_000 + 1, 0.0, 0);
    }
    assert_eq!(decode(&encode(&rows, number).unwrap().bytes).unwrap().timelines.len(), 2);
}

#[test]
fn of_attributes_with_one_name_the_last_is_kept_and_too_many_are_left_out() {
    let mut event =
        Event { source: "s".into(), time: 0, severity: Severity::Info, body: "b".into(), attributes: vec![] };
    event.attributes = (0..1500).map(|at| (format!("a{at}"), Attribute::Int(at))).collect();
    event.attributes.push(("a0".into(), Attribute::Bool(true)));
    let rows = Rows { events: vec![event], ..Rows::default() };
    let back = decode(&encode(&rows, number).unwrap().bytes).unwrap();
    assert_eq!(back.events[0].attributes.len(), 1024);
    assert_eq!(back.events[0].attributes[0], ("a0".into(), Attribute::Bool(true)));
}

#[test]
fn too_many_samples_are_refused_by_the_writer_with_the_limit() {
    let n = 4_000_001;
    let rows =
        Rows { series: vec![SeriesRef(0); n], times: vec![0; n], values: vec![0.0; n], ..Rows::default() };
    assert_eq!(encode(&rows, number), Err(TooLarge { what: "samples", size: n, max: n - 1 }));
}
