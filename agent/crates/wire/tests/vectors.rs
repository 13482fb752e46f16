//! `proto/vectors/`: what every reader must find in a payload, and what it must refuse. The collector's
//! Python reads the same files with code of its own.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails where it is surprised")]

#[path = "../examples/vectors/bad.rs"]
mod bad;
#[path = "../examples/vectors/byhand.rs"]
mod byhand;
#[path = "../examples/vectors/expect.rs"]
mod expect;
#[path = "../examples/vectors/frames.rs"]
mod frames;
#[path = "../examples/vectors/good.rs"]
mod good;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prost::Message;
use serde_json::{Value, json};
use telemetry::Attribute;
use wire::payload::{Payload, decode};

type Error = Box<dyn std::error::Error>;

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../proto/vectors")
}

/// Each vector's stem, payload and expectation.
fn vectors(bad: bool) -> Vec<(String, Vec<u8>, Value)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir()).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.extension().is_some_and(|extension| extension == "batch") && stem.starts_with("bad-") == bad {
            let expected = std::fs::read_to_string(path.with_extension("json")).unwrap();
            all.push((stem, std::fs::read(&path).unwrap(), serde_json::from_str(&expected).unwrap()));
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn hex(value: f64) -> String {
    format!("{:016x}", value.to_bits())
}

fn attribute(value: &Attribute) -> Value {
    match value {
        Attribute::Bool(value) => json!({ "bool": value }),
        Attribute::Int(value) => json!({ "int": value.to_string() }),
        Attribute::Float(value) => json!({ "float": hex(*value) }),
        Attribute::Text(value) => json!({ "text": value }),
    }
}

/// Times, values and flags of one series, as text.
type Columns = (Vec<String>, Vec<String>, Vec<u8>);

/// A decoded payload as the expectations say it.
fn said(payload: &Payload) -> Value {
    let mut series: BTreeMap<u32, Columns> = BTreeMap::new();
    for (id, time, value, flags) in payload.samples() {
        let entry = series.entry(id).or_default();
        entry.0.push(time.to_string());
        entry.1.push(hex(value));
        if !payload.samples.flags.is_empty() {
            entry.2.push(flags);
        }
    }
    let bins =
        |side: &[(i32, u64)]| side.iter().map(|bin| json!([bin.0, bin.1.to_string()])).collect::<Vec<_>>();
    let windows = payload.windows.iter().map(|row| {
        json!({
            "id": row.id, "t0": row.start.to_string(), "len": row.length.to_string(), "n": row.count.to_string(),
            "sum": hex(row.sum), "min": hex(row.min), "max": hex(row.max),
            "ft": row.first.0.to_string(), "fv": hex(row.first.1), "lt": row.last.0.to_string(), "lv": hex(row.last.1),
            "positive": bins(&row.bins.positive), "negative": bins(&row.bins.negative), "zero": row.bins.zero.to_string(),
        })
    });
    let events = payload.events.iter().map(|event| {
        let attributes: serde_json::Map<String, Value> =
            event.attributes.iter().map(|(name, value)| (name.clone(), attribute(value))).collect();
        json!({
            "source": event.source, "time": event.time.to_string(), "severity": event.severity as u8,
            "body": event.body, "attributes": attributes,
        })
    });
    let counts: serde_json::Map<String, Value> =
        payload.counts.iter().map(|(cause, n)| ((cause as u8).to_string(), json!(n.to_string()))).collect();
    json!({
        "counts": counts,
        "series": series.into_iter().map(|(id, (times, values, flags))| json!({
            "id": id, "times": times, "values": values, "flags": flags,
        })).collect::<Vec<_>>(),
        "windows": windows.collect::<Vec<_>>(),
        "events": events.collect::<Vec<_>>(),
    })
}

#[test]
fn every_good_vector_decodes_to_the_values_beside_it() {
    let all = vectors(false);
    assert!(all.len() >= 38);
    for (stem, payload, expected) in all {
        let decoded = decode(&payload).unwrap_or_else(|error| panic!("{stem}: {error}"));
        let said = said(&decoded);
        for part in ["counts", "series", "windows", "events"] {
            assert_eq!(said[part], expected[part], "{stem}: {part}");
        }
        let checksum =
            wire::half_sha256(&payload).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        assert_eq!(json!(checksum), expected["checksum"], "{stem}");
    }
}

#[test]
fn every_bad_vector_is_refused_for_its_reason() {
    let all = vectors(true);
    assert!(all.len() >= 49);
    for (stem, payload, expected) in all {
        let error = decode(&payload).expect_err(&stem);
        assert_eq!(json!(error.cause()), expected["refusal"], "{stem}: {error}");
    }
}

#[test]
fn every_frame_says_what_is_to_be_added_to_its_times_and_whether_that_is_a_guess() -> Result<(), Error> {
    let text = std::fs::read_to_string(dir().join("frames.json"))?;
    let expected: Value = serde_json::from_str(&text)?;
    let all = expected["frames"].as_array().unwrap();
    assert!(all.len() >= 6);
    for one in all {
        let hex = one["frame"].as_str().unwrap();
        let bytes: Result<Vec<u8>, _> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16)).collect();
        let batch = wire::v1::Batch::decode(&bytes?[..])?;
        assert_eq!(json!(batch.seq.to_string()), one["seq"]);
        assert_eq!(json!(batch.clock_offset_ns.to_string()), one["clock_offset_ns"], "{}", one["name"]);
        assert_eq!(json!(batch.clock_uncertain), one["clock_uncertain"], "{}", one["name"]);
        assert_eq!(json!(batch.trace), one["trace"], "{}", one["name"]);
        let checksum: wire::Checksum = batch.checksum[..].try_into()?;
        assert!(wire::fits(&checksum, &batch.payload));
        // As the collector does it: the offset is added, and what is certain now loses its mark.
        let certain = batch.clock_offset_ns != 0 && !batch.clock_uncertain;
        let cleared = if certain { telemetry::SampleFlags::CLOCK_UNCERTAIN } else { 0 };
        let payload = decode(&batch.payload)?;
        let samples = payload.samples();
        let (times, flags): (Vec<String>, Vec<u8>) = samples
            .map(|(_, time, _, flags)| ((time + batch.clock_offset_ns).to_string(), flags & !cleared))
            .unzip();
        assert_eq!(
            (json!(times), json!(flags)),
            (one["times"].clone(), one["flags"].clone()),
            "{}",
            one["name"]
        );
    }
    assert_eq!(frames::json(&frames::frames()?), text, "proto/vectors is stale: run `just vectors`");
    Ok(())
}

#[test]
fn the_vectors_are_what_the_generator_writes() -> Result<(), Error> {
    let stale = "proto/vectors is stale: run `just vectors`";
    let good = good::vectors()?;
    let bad = bad::vectors()?;
    assert_eq!((good.len(), bad.len()), (vectors(false).len(), vectors(true).len()), "{stale}");
    for (vector, (stem, payload, _)) in good.iter().zip(vectors(false)) {
        assert!(stem.ends_with(vector.name) && vector.payload == payload, "{stem}: {stale}");
        let expected = std::fs::read_to_string(dir().join(format!("{stem}.json")))?;
        assert_eq!(expect::json(vector), expected, "{stem}: {stale}");
    }
    for (vector, (stem, payload, expected)) in bad.iter().zip(vectors(true)) {
        assert!(stem.ends_with(vector.name) && vector.payload == payload, "{stem}: {stale}");
        assert_eq!(
            (json!(vector.about), json!(vector.refusal)),
            (expected["about"].clone(), expected["refusal"].clone())
        );
    }
    Ok(())
}
