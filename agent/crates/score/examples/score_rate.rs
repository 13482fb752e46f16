//! What scoring costs: time a sample through features and model, time a row in the model, bytes a series.
//!
//! `cargo run --release -p score --example score_rate`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it measures and prints")]

use std::hint::black_box;
use std::time::Instant;

use fold::Scorer as _;
use score::{Model, OnnxScorer, Workspace};
use telemetry::{SeriesDef, SeriesKey};

const MODEL: &[u8] = include_bytes!("../../../../models/default/host.onnx");
const MANIFEST: &[u8] = include_bytes!("../../../../models/default/host.json");
const FOREST: &[u8] = include_bytes!("../tests/models/forest.onnx");
const NETWORK: &[u8] = include_bytes!("../tests/models/autoencoder.onnx");
const SECOND: i64 = 1_000_000_000;

fn main() {
    model("host (PCA)", MODEL);
    model("autoencoder 6-4-2-4-6", NETWORK);
    model("forest of 20 trees", FOREST);
    scorer();
}

fn model(name: &str, onnx: &[u8]) {
    let model = Model::load(onnx).unwrap();
    let mut workspace = Workspace::default();
    for rows in [1, 256] {
        let values: Vec<f32> = (0..rows * model.inputs()).map(|at| (at % 11) as f32 / 3.0 - 1.5).collect();
        let mut out = Vec::new();
        let rounds = 400_000 / rows;
        let began = Instant::now();
        for _ in 0..rounds {
            out.clear();
            model.evaluate(black_box(&values), &mut out, &mut workspace).unwrap();
        }
        let micros = began.elapsed().as_secs_f64() * 1e6 / (rounds * rows) as f64;
        println!(
            "evaluate {name}, {rows} a batch: {micros:.3} us a row, {} bytes of weights",
            model.weight_bytes()
        );
    }
}

fn scorer() {
    let kinds: [(&str, &[(&str, &str)]); 8] = [
        ("system.cpu.utilization", &[("mode", "idle")]),
        ("system.cpu.utilization", &[("mode", "iowait")]),
        ("system.cpu.load_average.1m", &[]),
        ("system.memory.utilization", &[("state", "used")]),
        ("system.disk.io", &[("direction", "read")]),
        ("system.disk.io", &[("direction", "write")]),
        ("system.network.io", &[("direction", "receive")]),
        ("system.network.io", &[("direction", "transmit")]),
    ];
    let devices = 1_250_u32;
    let mut scorer = OnnxScorer::new();
    scorer.set_model("host", Some((MANIFEST, MODEL))).unwrap();
    for device in 0..devices {
        for (at, (name, labels)) in kinds.iter().enumerate() {
            let device_label = format!("h{device}");
            let labels = labels.iter().copied().chain([("device", device_label.as_str())]);
            let key = SeriesKey::new(*name, labels).unwrap();
            assert!(scorer.admit(device * 8 + at as u32, device, &SeriesDef::bare(key)));
        }
    }
    // One sample a series and cell is the dearest case: no cell serves two samples.
    for every in [10_i64, 1] {
        let (mut samples, mut scores) = (0_u64, Vec::new());
        let began = Instant::now();
        let first = if every == 10 { 0 } else { 100_000 };
        for second in (first..first + 600).step_by(every as usize) {
            for series in 0..devices * 8 {
                let value = f64::from(series % 7) / 10.0 + (second * 1_000) as f64;
                scorer.observe(series, second * SECOND, value);
                samples += 1;
            }
            for device in 0..devices {
                scorer.advance(device, (second - 2) * SECOND, &mut scores);
            }
        }
        let micros = began.elapsed().as_secs_f64() * 1e6 / samples as f64;
        let (bytes, series) = (scorer.features().bytes(), scorer.features().series());
        println!(
            "score {series} series every {every} s: {micros:.3} us a sample, {} scores, {} bytes a series",
            scores.len(),
            bytes / series
        );
    }
}
