//! How fast the fold is on one core: samples per second into windows, raw, and dropped; and what a record costs while
//! more and more rows wait for the cut.
//!
//! `cargo run --release -p fold --example fold_rate`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it measures and prints")]

use std::time::Instant;

use fold::{Fold, NoScorer};
use telemetry::{DeviceClock, Intake, Record, Rows, SeriesDef, SeriesKey, SeriesTable, Stamp};

const SECOND: i64 = 1_000_000_000;
const T0: i64 = 1_767_225_600 * SECOND;

fn main() {
    for (label, devices, per_device, batch) in [
        ("100 devices x 10 series, 1,000 a record", 100, 10, 1_000),
        ("1,000 x 10, 10 a record", 1_000, 10, 10),
        ("10,000 x 1, 10 a record", 10_000, 1, 10),
    ] {
        for to in ["window", "raw", "drop"] {
            let rate = measure(to, devices, per_device, batch);
            println!("fold {to:>6}, {label}: {:.1} M samples/s", rate / 1e6);
        }
    }
    for (label, wall) in [("set", T0), ("not set", 0)] {
        let took: Vec<_> = waiting(wall).iter().map(|us| format!("{us:.2}")).collect();
        println!("a record of 10 samples, no cut, clock {label}: {} us each in thousands", took.join(" "));
    }
}

/// Each record lets ten windows go, and nobody takes them: microseconds a record, by the thousand.
fn waiting(wall: i64) -> Vec<f64> {
    let table = SeriesTable::new(1_000);
    let key = |at| SeriesKey::new(format!("m{at}"), [("device", "d")]).unwrap();
    let refs: Vec<_> = (0..10).map(|at| table.intern(SeriesDef::bare(key(at))).unwrap()).collect();
    let config = br#"{"route":[{"match":"m*","to":"window","window":"1s"}],"lateness":"0s"}"#.to_vec();
    let config = Record::Config { stamp: Stamp::default(), generation: 1, config };
    let (mut fold, mut rows) = (Fold::new(table, Box::new(NoScorer)), Rows::default());
    fold.apply(1, &config, &mut rows);
    let record = |at: i64| {
        let stamp = Stamp { wall: wall + at * SECOND, mono: (at * SECOND) as u64 };
        let mut intake = Intake::new(0, stamp);
        intake.series.clone_from(&refs);
        (0..10).for_each(|series| intake.push(series, stamp.wall, 1.0, 0));
        Record::Intake(intake)
    };
    (0..8)
        .map(|thousand| {
            let records: Vec<_> = (0..1_000).map(|at| record(1 + thousand * 1_000 + at)).collect();
            let began = Instant::now();
            for record in &records {
                fold.apply(fold.position() + 1, record, &mut rows);
            }
            began.elapsed().as_secs_f64() * 1e6 / records.len() as f64
        })
        .collect()
}

/// Sensors that wander around a level, each at 10 Hz, in the order in which a gateway would send.
fn measure(to: &str, devices: usize, per_device: usize, batch: usize) -> f64 {
    let table = SeriesTable::new(1_000_000);
    let refs: Vec<_> = (0..devices * per_device)
        .map(|at| {
            let device = format!("d{}", at / per_device);
            let key = SeriesKey::new(format!("m{}", at % per_device), [("device", device)]).unwrap();
            table.intern(SeriesDef::bare(key)).unwrap()
        })
        .collect();
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / 1e6
    };
    let mut records = Vec::new();
    let total = 4_000_000;
    let mut sent = 0;
    while sent < total {
        let round = sent / refs.len();
        let wall = T0 + round as i64 * SECOND / 10;
        let mut intake = Intake::new(0, Stamp { wall, mono: (wall - T0) as u64 });
        for at in 0..batch {
            let series = (sent + at) % refs.len();
            intake.series.push(refs[series]);
            intake.push(at as u32, wall, 20.0 + noise(), 0);
        }
        sent += batch;
        records.push(Record::Intake(intake));
        if sent % (refs.len() * 10) < batch {
            let at = Stamp { wall, mono: (wall - T0) as u64 };
            records.push(Record::Tick(DeviceClock { at, ..DeviceClock::default() }));
        }
    }
    let config = format!(r#"{{"route":[{{"match":"m*","to":"{to}"}}]}}"#).into_bytes();
    let config = Record::Config { stamp: Stamp::default(), generation: 1, config };
    let mut fold = Fold::new(table, Box::new(NoScorer));
    let mut rows = Rows::default();
    fold.apply(1, &config, &mut rows);
    let began = Instant::now();
    let mut shipped = 0;
    for (position, record) in (2..).zip(&records) {
        fold.apply(position, record, &mut rows);
        shipped += rows.len();
        rows.clear();
    }
    let took = began.elapsed().as_secs_f64();
    assert!(shipped > 0 || to == "drop");
    total as f64 / took
}
