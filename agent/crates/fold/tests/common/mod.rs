//! Streams of records for the fold's tests, and a scorer simple enough to be checked by eye.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "only tests use it; clippy sees a plain module")]

use std::collections::BTreeMap;
use std::sync::Arc;

use fold::{Fold, RestoreError, Score, Scorer, ScorerError};
use proptest::prelude::*;
use telemetry::{
    Cause, DeviceClock, Event, Intake, Record, Rows, SeriesDef, SeriesKey, SeriesRef, SeriesTable, Severity,
    Stamp,
};

pub const SECOND: i64 = 1_000_000_000;
/// 2026-01-01, a multiple of every window length used here.
pub const T0: i64 = 1_767_225_600 * SECOND;
/// Series in the tests: even ones on pump-1, odd ones on pump-2; the name decides the route.
pub const SERIES: usize = 8;

pub fn key(number: usize) -> SeriesKey {
    let name = ["raw.a", "window.a", "window.b", "drop.a"][number / 2];
    SeriesKey::new(name, [("device", format!("pump-{}", number % 2 + 1))]).unwrap()
}

/// A table whose numbers are dealt in the given order, so that ids differ between runs.
pub fn table(order: &[usize]) -> (Arc<SeriesTable>, Vec<SeriesRef>) {
    let table = SeriesTable::new(10_000);
    for number in order {
        table.intern(SeriesDef::bare(key(*number))).unwrap();
    }
    let refs = (0..SERIES).map(|number| table.find(&key(number)).unwrap()).collect();
    (table, refs)
}

/// In place of a sample's time: it has none of its own, and gets that of arrival.
pub const ARRIVAL: i64 = i64::MIN + 1;

/// One step of a stream, in numbers that don't depend on a table.
#[derive(Clone, Debug)]
pub enum Step {
    /// (input, samples of (series, time, value, flags), events, rejected before the fold)
    Intake(u16, Vec<(usize, i64, f64, u8)>, u8, u64),
    /// Seconds that pass before it, and a reboot.
    Tick(u8, bool),
    Config(Vec<u8>),
    Model(bool),
    /// The clock is set, or is lost and counts from 1970.
    Clock(bool),
}

pub const CONFIGS: [&str; 4] = [
    r#"{"route":[{"match":"window.*","to":"window","window":"10s"},{"match":"drop.*","to":"drop"}]}"#,
    r#"{"route":[{"match":"window.a","to":"window","window":"5s"},{"match":"raw.*","to":"window"}],"lateness":"0s"}"#,
    r#"{"route":[]}"#,
    r#"{"route":[{"match":"window.*","to":"nowhere"}]}"#,
];

/// Builds the records. Wall and monotonic clock go on by 100 ms a record, and with ticks. A change of the clock is a tick.
pub fn records(steps: &[Step], refs: &[SeriesRef]) -> Vec<Record> {
    let (mut wall, mut mono, mut boot, mut generation) = (T0, 10 * SECOND as u64, [1; 16], 0);
    let (mut right, mut set) = (T0, true);
    steps
        .iter()
        .map(|step| {
            right += SECOND / 10;
            mono += SECOND as u64 / 10;
            if let Step::Tick(seconds, reboot) = step {
                right += i64::from(*seconds) * SECOND;
                mono += u64::from(*seconds) * SECOND as u64;
                if *reboot {
                    boot[0] += 1;
                    mono = SECOND as u64;
                }
            }
            if let Step::Clock(now) = step {
                set = *now;
            }
            // The unset clock began at 1970 with the boot, and some seconds later.
            wall = if set { right } else { mono as i64 + 7 * SECOND };
            match step {
                Step::Intake(input, samples, events, rejected) => {
                    let mut intake = Intake::new(*input, Stamp { wall, mono });
                    for (series, time, value, flags) in samples {
                        let at = refs[*series];
                        let index =
                            intake.series.iter().position(|known| *known == at).unwrap_or_else(|| {
                                intake.series.push(at);
                                intake.series.len() - 1
                            });
                        let time = if *time == ARRIVAL { wall } else { *time };
                        intake.push(index as u32, time, *value, *flags);
                    }
                    for number in 0..*events {
                        intake.events.push(event(if number == 0 { wall } else { T0 + i64::from(number) }));
                    }
                    let good = samples.len() as u64 + u64::from(*events);
                    intake.counts.add(Cause::Received, good + rejected);
                    intake.counts.add(Cause::RejectedSyntax, *rejected);
                    Record::Intake(intake)
                }
                Step::Tick(..) | Step::Clock(_) => {
                    Record::Tick(DeviceClock { at: Stamp { wall, mono }, boot, synced: set })
                }
                Step::Config(config) => {
                    generation += 1;
                    Record::Config { stamp: Stamp { wall, mono }, generation, config: config.clone() }
                }
                Step::Model(on) => Record::Model {
                    stamp: Stamp { wall, mono },
                    slot: "sum".to_owned(),
                    model: on.then(|| (b"{}".to_vec(), b"1".to_vec())),
                },
            }
        })
        .collect()
}

pub fn event(time: i64) -> Event {
    Event {
        source: "app".to_owned(),
        time,
        severity: Severity::Info,
        body: "said".to_owned(),
        attributes: Vec::new(),
    }
}

/// Any stream: times in and out of order, ahead, in the deep past, values that are no numbers.
pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let time = prop_oneof![
        20 => (0i64..120 * 10).prop_map(|tenths| T0 + tenths * SECOND / 10),
        1 => Just(T0 + 86_400 * SECOND),
        1 => Just(i64::MIN),
        1 => Just(i64::MAX),
        1 => Just(0i64),
        10 => Just(ARRIVAL),
    ];
    let value = prop_oneof![
        20 => (-1000i32..1000).prop_map(f64::from),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(-0.0),
        1 => Just(1e300),
    ];
    let flags = prop_oneof![5 => Just(0u8), 1 => 0u8..8];
    let sample = (0..SERIES, time, value, flags);
    let step = prop_oneof![
        12 => (0u16..2, prop::collection::vec(sample, 0..12), 0u8..3, 0u64..3)
            .prop_map(|(input, samples, events, rejected)| Step::Intake(input, samples, events, rejected)),
        5 => (0u8..15, prop::bool::weighted(0.1)).prop_map(|(seconds, reboot)| Step::Tick(seconds, reboot)),
        1 => (0..CONFIGS.len()).prop_map(|at| Step::Config(CONFIGS[at].into())),
        1 => any::<bool>().prop_map(Step::Model),
        1 => any::<bool>().prop_map(Step::Clock),
    ];
    prop::collection::vec(step, 1..60).prop_map(|mut steps| {
        steps.insert(0, Step::Config(CONFIGS[0].into()));
        steps
    })
}

/// Applies records one by one; the rows of each.
pub fn run(fold: &mut Fold, records: &[Record], from: u64) -> Vec<Rows> {
    records
        .iter()
        .zip(from..)
        .map(|(record, position)| {
            let mut rows = Rows::default();
            fold.apply(position, record, &mut rows);
            rows
        })
        .collect()
}

/// Rows as text with names in the place of numbers, values as bits.
pub fn named(rows: &[Rows], table: &SeriesTable) -> String {
    use std::fmt::Write as _;
    let name = |at: SeriesRef| table.get(at).unwrap().key.to_string();
    let mut out = String::new();
    for rows in rows {
        for (boot, rows) in &rows.unset {
            writeln!(out, "since boot {}: {}", boot[0], named(std::slice::from_ref(rows), table)).unwrap();
        }
        for at in 0..rows.series.len() {
            let flags = rows.flags.get(at).copied().unwrap_or(0);
            let bits = rows.values[at].to_bits();
            writeln!(out, "{} {} {bits:x} {flags}", name(rows.series[at]), rows.times[at]).unwrap();
        }
        for window in &rows.windows {
            let bits: Vec<u64> = [window.sum, window.min, window.max, window.first.1, window.last.1]
                .iter()
                .map(|value| value.to_bits())
                .collect();
            let (first, last, bins) = (window.first.0, window.last.0, &window.bins);
            let (start, length, count) = (window.start, window.length, window.count);
            writeln!(
                out,
                "{} {start}+{length} {count} {bits:x?} {first} {last} {bins:?}",
                name(window.series)
            )
            .unwrap();
        }
        writeln!(out, "{} events, {:?}", rows.events.len(), rows.counts).unwrap();
    }
    out
}

/// Scores each device with the sum of what it sent since the last score: shows every call's effect.
#[derive(Default)]
pub struct SumScorer {
    on: bool,
    device_of: BTreeMap<u32, u32>,
    sums: BTreeMap<u32, (f64, i64)>,
}

impl Scorer for SumScorer {
    fn set_model(
        &mut self,
        slot: &str,
        model: Option<(&[u8], &[u8])>,
    ) -> Result<Option<(String, String)>, ScorerError> {
        self.on = match model {
            Some((_, b"1")) => true,
            Some(_) => return Err(ScorerError { slot: slot.to_owned(), reason: "not 1".to_owned() }),
            None => false,
        };
        Ok(self.on.then(|| (slot.to_owned(), "1".to_owned())))
    }

    fn admit(&mut self, series: u32, device: u32, def: &SeriesDef) -> bool {
        self.device_of.insert(series, device);
        def.key.name() != "drop.a"
    }

    fn observe(&mut self, series: u32, time: i64, value: f64) {
        let sum = self.sums.entry(self.device_of[&series]).or_default();
        *sum = (sum.0 + value, time);
    }

    fn advance(&mut self, device: u32, watermark: i64, out: &mut Vec<Score>) {
        if let Some((value, _)) = self.sums.remove(&device)
            && self.on
        {
            let (model, version) = ("sum".into(), "1".into());
            out.push(Score { device, time: watermark, value, model, version });
        }
    }

    fn checkpoint(&self, out: &mut Vec<u8>) {
        for (device, (sum, time)) in &self.sums {
            out.extend_from_slice(&device.to_le_bytes());
            out.extend_from_slice(&sum.to_le_bytes());
            out.extend_from_slice(&time.to_le_bytes());
        }
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        for item in state.chunks(20) {
            let (device, rest) = item.split_first_chunk().ok_or(RestoreError::Damaged("short"))?;
            let (sum, rest) = rest.split_first_chunk().ok_or(RestoreError::Damaged("short"))?;
            let (time, _) = rest.split_first_chunk().ok_or(RestoreError::Damaged("short"))?;
            let state = (f64::from_le_bytes(*sum), i64::from_le_bytes(*time));
            self.sums.insert(u32::from_le_bytes(*device), state);
        }
        Ok(())
    }
}
