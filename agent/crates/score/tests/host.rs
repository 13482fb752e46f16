//! The shipped host model through the fold: calm stays below 1, a fault rises above it within half a
//! minute, the first minutes are silent, and a restart in between changes nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;

use fold::{Fold, SCORE};
use score::OnnxScorer;
use telemetry::{DeviceClock, Intake, Record, Rows, SeriesDef, SeriesKey, SeriesRef, SeriesTable, Stamp};

const MODEL: &[u8] = include_bytes!("../../../../models/default/host.onnx");
const MANIFEST: &[u8] = include_bytes!("../../../../models/default/host.json");
const SECOND: i64 = 1_000_000_000;
const T0: i64 = 1_767_225_600 * SECOND;
const SERIES: [(&str, &[(&str, &str)]); 8] = [
    ("system.cpu.utilization", &[("mode", "idle")]),
    ("system.cpu.utilization", &[("mode", "iowait")]),
    ("system.cpu.load_average.1m", &[]),
    ("system.memory.utilization", &[("state", "used")]),
    ("system.disk.io", &[("disk", "sda"), ("direction", "read")]),
    ("system.disk.io", &[("disk", "sda"), ("direction", "write")]),
    ("system.network.io", &[("interface", "eth0"), ("direction", "receive")]),
    ("system.network.io", &[("interface", "eth0"), ("direction", "transmit")]),
];

/// A small gateway, read every `step` seconds as the host input does; `burst` says from when to when a job
/// takes the processor and writes.
struct Host {
    totals: [f64; 4],
    load: f64,
    random: u64,
}

impl Host {
    fn noise(&mut self) -> f64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let uniform = |bits: u64| (bits >> 11) as f64 / (1_u64 << 53) as f64;
        // The sum of some uniform numbers is near enough to a normal one.
        let next = self.random;
        (0..4).map(|at| uniform(next.rotate_left(at * 16))).sum::<f64>() - 2.0
    }

    fn sample(&mut self, step: f64, burst: bool) -> [f64; 8] {
        let busy = if burst { 0.96 } else { 0.12 * (1.0 + 0.3 * self.noise()) };
        let wait = if burst { 0.03 } else { 0.004 * (1.0 + 0.5 * self.noise()) };
        let running = if burst { 9.0 } else { 0.5 * (1.0 + 0.3 * self.noise()) };
        self.load += (running - self.load) * (step / 60.0).min(1.0);
        let memory = 0.35 + 0.003 * self.noise() + if burst { 0.05 } else { 0.0 };
        let factor = if burst { 300.0 } else { 1.0 };
        let rates = [2_000.0 * factor, 90_000.0 * factor, 45_000.0, 30_000.0];
        for (total, rate) in self
            .totals
            .clone()
            .iter()
            .zip(rates)
            .zip(0..)
            .map(|((t, r), at)| (at, t + (r * step * (1.0 + 0.3 * self.noise())).round()))
            .collect::<Vec<_>>()
        {
            self.totals[total] = rate;
        }
        let [a, b, c, d] = self.totals;
        [1.0 - busy - wait, wait, self.load, memory, a, b, c, d]
    }
}

fn table(order: impl Iterator<Item = usize>) -> (Arc<SeriesTable>, Vec<SeriesRef>) {
    let table = SeriesTable::new(1_000);
    let key = |at: usize| {
        let (name, labels) = SERIES[at];
        SeriesKey::new(name, labels.iter().copied().chain([("device", "gw-1")])).unwrap()
    };
    for at in order {
        table.intern(SeriesDef::bare(key(at))).unwrap();
    }
    let refs = (0..SERIES.len()).map(|at| table.find(&key(at)).unwrap()).collect();
    (table, refs)
}

/// Model, then readings every `step` seconds and ticks every second.
fn records(refs: &[SeriesRef], step: i64, seconds: i64, burst: std::ops::Range<i64>) -> Vec<Record> {
    let stamp = |second: i64| Stamp { wall: T0 + second * SECOND, mono: ((100 + second) * SECOND) as u64 };
    let mut host = Host { totals: [1e9; 4], load: 0.5, random: 7 };
    let mut out = vec![Record::Model {
        stamp: stamp(0),
        slot: "host".to_owned(),
        model: Some((MANIFEST.to_vec(), MODEL.to_vec())),
    }];
    for second in 0..seconds {
        if second % step == 0 {
            let values = host.sample(step as f64, burst.contains(&second));
            let mut intake = Intake::new(0, stamp(second));
            intake.series = refs.to_vec();
            for (at, value) in values.into_iter().enumerate() {
                intake.push(at as u32, T0 + second * SECOND, value, 0);
            }
            out.push(Record::Intake(intake));
        }
        let (at, boot) = (stamp(second), [1; 16]);
        out.push(Record::Tick(DeviceClock { at, boot, synced: true }));
    }
    out
}

/// (second of the score, score) in the order in which they were shipped.
fn scores(fold: &mut Fold, table: &SeriesTable, records: &[Record], from: u64) -> Vec<(i64, f64)> {
    let mut out = Vec::new();
    let mut rows = Rows::default();
    for (record, position) in records.iter().zip(from..) {
        fold.apply(position, record, &mut rows);
        for at in 0..rows.series.len() {
            if table.get(rows.series[at]).unwrap().key.name() == SCORE {
                out.push(((rows.times[at] - T0) / SECOND, rows.values[at]));
            }
        }
        rows.clear();
    }
    out
}

fn fold(table: &Arc<SeriesTable>) -> Fold {
    Fold::new(Arc::clone(table), Box::new(OnnxScorer::new()))
}

#[test]
fn a_fault_raises_the_score_above_one_within_three_cells_and_calm_stays_below() {
    for step in [1, 10] {
        let (table, refs) = table(0..SERIES.len());
        let all = records(&refs, step, 1_500, 1_200..1_500);
        let mut fold = fold(&table);
        let scores = scores(&mut fold, &table, &all, 1);
        assert_eq!(fold.status().models[0].error, None);
        let calm: Vec<_> = scores.iter().filter(|(second, _)| *second <= 1_200).collect();
        assert!(calm.len() > 90 && calm.iter().all(|(_, score)| *score < 1.0), "{calm:?}");
        let burst: Vec<_> = scores.iter().filter(|(second, _)| *second > 1_200).collect();
        assert!(burst.iter().take(3).any(|(_, score)| *score > 1.0), "{burst:?}");
        assert!(burst[3..].iter().all(|(_, score)| *score > 1.0), "{burst:?}");
        assert!(burst.len() >= 29);
    }
}

#[test]
fn the_first_minutes_give_no_score_even_in_a_burst() {
    let (table, refs) = table(0..SERIES.len());
    let all = records(&refs, 10, 170, 60..170);
    let mut fold = fold(&table);
    assert_eq!(scores(&mut fold, &table, &all, 1), []);
}

#[test]
fn a_score_names_device_model_and_version() {
    let (table, refs) = table(0..SERIES.len());
    scores(&mut fold(&table), &table, &records(&refs, 10, 300, 0..0), 1);
    let labels = [("device", "gw-1"), ("model", "host"), ("model_version", "1")];
    assert!(table.find(&SeriesKey::new(SCORE, labels).unwrap()).is_some());
}

#[test]
fn a_restart_from_a_checkpoint_gives_the_same_scores_to_the_bit() {
    let (table, refs) = table(0..SERIES.len());
    let all = records(&refs, 10, 600, 400..600);
    let mut whole = fold(&table);
    let expected = scores(&mut whole, &table, &all, 1);
    for cut in [0, 1, 17, 300, 401, all.len()] {
        let mut before = fold(&table);
        let mut got = scores(&mut before, &table, &all[..cut], 1);
        let (other, other_refs) = self::table((0..SERIES.len()).rev());
        let checkpoint = before.checkpoint();
        let mut after = Fold::restore(Arc::clone(&other), Box::new(OnnxScorer::new()), &checkpoint).unwrap();
        let rest = records(&other_refs, 10, 600, 400..600);
        got.extend(scores(&mut after, &other, &rest[cut..], cut as u64 + 1));
        let bits = |list: &[(i64, f64)]| list.iter().map(|(t, v)| (*t, v.to_bits())).collect::<Vec<_>>();
        assert_eq!(bits(&got), bits(&expected), "cut at {cut}");
        assert_eq!(after.checkpoint(), whole.checkpoint(), "cut at {cut}");
    }
}

#[test]
fn a_switched_off_model_gives_no_scores_and_features_go_on() {
    let (table, refs) = table(0..SERIES.len());
    let mut all = records(&refs, 10, 600, 0..0);
    let off = Record::Model { stamp: Stamp::default(), slot: "host".to_owned(), model: None };
    all.insert(300, off);
    let on = all[0].clone();
    all.insert(500, on);
    let scores = scores(&mut fold(&table), &table, &all, 1);
    let gap = scores.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap();
    assert!(gap > 100, "{scores:?}");
    assert!(scores.last().unwrap().0 > 550, "on again at once, without a warm-up");
}

#[test]
fn a_damaged_model_or_manifest_is_refused_with_the_reason() {
    let (table, _) = table(0..SERIES.len());
    let mut fold = fold(&table);
    let mut give = |manifest: &[u8], onnx: &[u8], position| {
        let model = Some((manifest.to_vec(), onnx.to_vec()));
        let record = Record::Model { stamp: Stamp::default(), slot: "host".to_owned(), model };
        fold.apply(position, &record, &mut Rows::default());
        fold.status().models[0].error.clone().unwrap_or_default()
    };
    let mut flipped = MODEL.to_vec();
    flipped[700] ^= 1;
    assert!(give(MANIFEST, &flipped, 1).contains("SHA-256"));
    assert!(give(b"{}", MODEL, 2).contains("manifest can't be read"));
    let text = String::from_utf8(MANIFEST.to_vec()).unwrap();
    assert!(give(text.replace("host/1", "host/9").as_bytes(), MODEL, 3).contains("features"));
    assert!(give(text.replace("cpu_wait", "cpu_wander").as_bytes(), MODEL, 4).contains("inputs"));
    assert!(give(text.replace("360", "361").as_bytes(), MODEL, 5).contains("scaling"));
    assert_eq!(give(MANIFEST, MODEL, 6), "");
}
