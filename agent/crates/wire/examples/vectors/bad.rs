//! Payloads that every reader must refuse, each for one reason.

use crate::Error;
use crate::byhand::{Document, Value, column, empty, f64s, i64s, map, pack, samples, u32s};

/// A payload and the word for its refusal: malformed, too_large or unknown_version.
pub struct Bad {
    pub name: &'static str,
    pub about: &'static str,
    pub payload: Vec<u8>,
    pub refusal: &'static str,
}

pub fn vectors() -> Result<Vec<Bad>, Error> {
    let mut all = frames()?;
    all.extend(documents()?);
    all.extend(columns()?);
    all.extend(tables()?);
    Ok(all)
}

fn bad(name: &'static str, about: &'static str, refusal: &'static str, payload: Vec<u8>) -> Bad {
    Bad { name, about, payload, refusal }
}

fn one() -> Document {
    Document::series(1, i64s(&[5]), f64s(&[2.5]))
}

fn frames() -> Result<Vec<Bad>, Error> {
    let good = one().pack()?;
    let mut context = zstd::bulk::Compressor::new(3)?;
    context.include_contentsize(false)?;
    let mut flipped = good.clone();
    let last = flipped.len() - 1;
    flipped.truncate(last);
    Ok(vec![
        bad("no-bytes", "Nothing.", "malformed", vec![]),
        bad("truncated", "A zstd frame without its last byte.", "malformed", flipped),
        bad("not-zstd", "msgpack without zstd around it.", "malformed", one().value().bytes()),
        bad(
            "two-frames",
            "Two frames behind each other.",
            "malformed",
            [good.clone(), good.clone()].concat(),
        ),
        bad("trailing", "A byte behind the frame.", "malformed", [good.clone(), vec![0]].concat()),
        bad(
            "unsized",
            "A frame that doesn't state its content size.",
            "malformed",
            context.compress(&one().value().bytes())?,
        ),
        bad("bomb", "65 MiB of zeros in a few kilobytes.", "too_large", pack(&vec![0; 65 << 20])?),
        bad(
            "skippable",
            "A skippable frame.",
            "malformed",
            vec![0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4],
        ),
    ])
}

fn documents() -> Result<Vec<Bad>, Error> {
    let raw = one().value().bytes();
    let deep = [vec![0x91; 10_000], vec![0xc0]].concat();
    let with = |entries: Vec<(Value, Value)>| pack(&Value::Map(entries).bytes());
    let Value::Map(entries) = one().value() else { return Err("a document is a map".into()) };
    let mut twice = entries.clone();
    twice.push(entries[1].clone());
    let mut unknown = entries.clone();
    unknown.push((Value::Text("z"), Value::Nil));
    let mut no_version = entries.clone();
    no_version.remove(0);
    let deep_event = map([
        ("src", Value::Array(vec![Value::Text("s")])),
        ("t", i64s(&[1])),
        ("sev", column(0, 1, &[], [9])),
        ("body", Value::Array(vec![Value::Text("b")])),
        ("attr", Value::Array(vec![Value::Map(vec![(Value::Text("a"), Value::Raw(deep.clone()))])])),
    ]);
    Ok(vec![
        bad("cut-document", "msgpack that ends in the middle.", "malformed", pack(&raw[..raw.len() - 3])?),
        bad(
            "more-document",
            "A byte behind the msgpack.",
            "malformed",
            pack(&[raw.clone(), vec![0xc0]].concat())?,
        ),
        bad("array", "An array where the map should be.", "malformed", pack(&Value::Array(vec![]).bytes())?),
        bad("depth", "Ten thousand arrays in each other.", "malformed", pack(&deep)?),
        bad(
            "deep-attribute",
            "An attribute of ten thousand arrays.",
            "malformed",
            Document { events: deep_event, ..one() }.pack()?,
        ),
        bad("no-version", "No version.", "malformed", with(no_version)?),
        bad(
            "version-2",
            "A version of the future.",
            "unknown_version",
            Document { version: Value::Int(2), ..one() }.pack()?,
        ),
        bad(
            "unknown-table",
            "A table of the future: passing it over would lose readings.",
            "unknown_version",
            with(unknown)?,
        ),
        bad("table-twice", "A table given twice.", "malformed", with(twice)?),
        bad(
            "huge-array",
            "An array head that claims four billion items.",
            "malformed",
            pack(
                &[&[0x86, 0xa1, b'v', 1, 0xa1, b'c', 0x80, 0xa1, b't', 0xdd, 0xff, 0xff, 0xff, 0xff][..]]
                    .concat(),
            )?,
        ),
        bad(
            "huge-map",
            "A map head that claims four billion entries.",
            "malformed",
            pack(&[0xdf, 0xff, 0xff, 0xff, 0xff])?,
        ),
        bad("not-text", "A key that isn't UTF-8.", "malformed", pack(&[0x81, 0xa1, 0xff, 0x01])?),
        bad(
            "count-twice",
            "A cause counted twice.",
            "malformed",
            Document {
                counts: Value::Map(vec![(Value::Int(1), Value::Int(1)), (Value::Int(1), Value::Int(2))]),
                ..one()
            }
            .pack()?,
        ),
    ])
}

fn columns() -> Result<Vec<Bad>, Error> {
    let times = |column: Value, n: u32| Document::series(n, column, f64s(&vec![1.0; n as usize])).pack();
    let values =
        |column: Value, n: i64| Document::series(n as u32, i64s(&(0..n).collect::<Vec<_>>()), column).pack();
    let segments = |scales: &[u8], lengths: &[u32], steps: &[u8], n: i128| {
        Value::Array(vec![
            Value::Int(8),
            Value::Int(n),
            u32s(lengths),
            column(0, scales.len() as i128, &[], scales),
            i64s(&vec![1; scales.len()]),
            if steps.is_empty() { empty() } else { column(6, steps.len() as i128, &[1], steps) },
            empty(),
        ])
    };
    let nested = Value::Array(vec![
        Value::Int(8),
        Value::Int(1),
        u32s(&[1]),
        column(0, 1, &[], [255]),
        empty(),
        empty(),
        segments(&[0], &[1], &[], 1),
    ]);
    Ok(vec![
        bad("encoding-9", "An unknown encoding.", "unknown_version", times(column(9, 1, &[], [0; 8]), 1)?),
        bad("encoding-7", "The reserved encoding.", "unknown_version", times(column(7, 1, &[], [0; 8]), 1)?),
        bad("encoding-64", "A mark of the future.", "unknown_version", times(column(64, 1, &[], [0; 8]), 1)?),
        bad(
            "planes-of-runs",
            "Byte planes of a run length.",
            "unknown_version",
            times(column(21, 1, &[1], [0; 12]), 1)?,
        ),
        bad(
            "zigzag-of-raw",
            "Zigzag without differences.",
            "unknown_version",
            times(column(32, 1, &[], [0; 8]), 1)?,
        ),
        bad("count-lies", "More items than bytes.", "malformed", times(column(0, 2, &[], [0; 8]), 2)?),
        bad(
            "count-too-large",
            "A constant of five million items.",
            "too_large",
            times(column(1, 5_000_000, &[], [0; 8]), 1)?,
        ),
        bad("width-3", "Items of three bytes.", "malformed", times(column(2, 2, &[3, 0], [0; 3]), 2)?),
        bad(
            "missing-parameter",
            "A delta without its first item.",
            "malformed",
            times(column(2, 2, &[1], [0]), 2)?,
        ),
        bad(
            "runs-lie",
            "Runs that don't add up.",
            "malformed",
            times(column(5, 5, &[1], [[4u8, 0, 0, 0].to_vec(), vec![0; 8]].concat()), 5)?,
        ),
        bad("scale-10", "Ten decimals.", "malformed", values(column(4, 2, &[10, 1, 0], [0]), 2)?),
        bad(
            "decimal-too-large",
            "A decimal at 2^53.",
            "malformed",
            values(column(4, 2, &[0, 1, (1 << 53) - 1], [1]), 2)?,
        ),
        bad(
            "decimal-of-times",
            "Decimals in a column of whole numbers.",
            "malformed",
            times(column(4, 2, &[0, 1, 0], [1]), 2)?,
        ),
        bad(
            "segments-lie",
            "Segments that don't add up.",
            "malformed",
            values(segments(&[0], &[2], &[2], 3), 3)?,
        ),
        bad(
            "segment-empty",
            "A segment without items.",
            "malformed",
            values(segments(&[0, 0], &[0, 2], &[2], 2), 2)?,
        ),
        bad(
            "segment-scale",
            "A scale that is none.",
            "malformed",
            values(segments(&[77], &[2], &[2], 2), 2)?,
        ),
        bad(
            "segment-steps",
            "More steps than the segments have.",
            "malformed",
            values(segments(&[0], &[2], &[2, 2], 2), 2)?,
        ),
        bad("segments-nested", "Segments in segments.", "malformed", values(nested, 1)?),
    ])
}

fn tables() -> Result<Vec<Bad>, Error> {
    let two = |ids: &[u32], lines: &[u32], lengths: &[u32], n: usize| Document {
        timelines: Value::Array(vec![i64s(&[5])]),
        samples: samples(u32s(ids), u32s(lines), u32s(lengths), f64s(&vec![1.0; n]), Value::Nil),
        ..Document::empty()
    };
    let lacking = Document {
        samples: map([("id", empty()), ("tl", empty()), ("n", empty()), ("f", Value::Nil)]),
        ..Document::empty()
    };
    let window = |n: u64, length: i64| Document {
        windows: map([
            ("id", u32s(&[1])),
            ("t0", i64s(&[0])),
            ("len", i64s(&[length])),
            ("n", column(0, 1, &[], n.to_le_bytes())),
            ("sum", f64s(&[1.0])),
            ("min", f64s(&[1.0])),
            ("max", f64s(&[1.0])),
            ("ft", i64s(&[0])),
            ("fv", f64s(&[1.0])),
            ("lt", i64s(&[0])),
            ("lv", f64s(&[1.0])),
            (
                "k",
                map([
                    ("n", u32s(&[0, 0])),
                    ("key", empty()),
                    ("cnt", empty()),
                    ("zero", column(0, 1, &[], [0; 8])),
                ]),
            ),
        ]),
        ..Document::empty()
    };
    let flags = Document {
        timelines: Value::Array(vec![i64s(&[5])]),
        samples: samples(u32s(&[1]), u32s(&[0]), u32s(&[1]), f64s(&[1.0]), column(0, 2, &[], [0, 0])),
        ..Document::empty()
    };
    Ok(vec![
        bad("column-missing", "Samples without values.", "malformed", lacking.pack()?),
        bad(
            "ids-descend",
            "Series numbers out of order.",
            "malformed",
            two(&[2, 1], &[0, 0], &[1, 1], 2).pack()?,
        ),
        bad("id-twice", "A series number twice.", "malformed", two(&[1, 1], &[0, 0], &[1, 1], 2).pack()?),
        bad("no-timeline", "A timeline that isn't there.", "malformed", two(&[1], &[1], &[1], 1).pack()?),
        bad(
            "timeline-length",
            "A timeline of another length.",
            "malformed",
            two(&[1], &[0], &[2], 2).pack()?,
        ),
        bad(
            "values-short",
            "Fewer values than the series have.",
            "malformed",
            two(&[1, 2], &[0, 0], &[1, 1], 1).pack()?,
        ),
        bad("flags-long", "More flags than values.", "malformed", flags.pack()?),
        bad(
            "times-descend",
            "A series that goes back in time.",
            "malformed",
            Document::series(2, i64s(&[6, 5]), f64s(&[1.0, 2.0])).pack()?,
        ),
        bad("window-empty", "A window of no samples.", "malformed", window(0, 1).pack()?),
        bad("window-length", "A window without length.", "malformed", window(1, 0).pack()?),
    ])
}
