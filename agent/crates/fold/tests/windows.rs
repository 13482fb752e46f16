//! Windows hold what a plain calculation over their samples gives, whenever the samples came.

#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions; every window has a sample")]

mod common;

use std::collections::BTreeMap;

use common::{CONFIGS, SECOND, SERIES, Step, T0, records, run, table};
use fold::{Fold, NoScorer, sketch};
use proptest::prelude::*;
use telemetry::{Bins, SeriesRef, WindowRow};

type Merged = BTreeMap<(SeriesRef, i64), WindowRow>;

/// Partials of one window are merged as a reader does it: in the order in which they come.
fn merge(rows: impl IntoIterator<Item = WindowRow>) -> Merged {
    let mut merged = Merged::new();
    for row in rows {
        let Some(known) = merged.get_mut(&(row.series, row.start)) else {
            merged.insert((row.series, row.start), row);
            continue;
        };
        known.count += row.count;
        known.sum += row.sum;
        known.min = known.min.min(row.min);
        known.max = known.max.max(row.max);
        if row.first.0 < known.first.0 {
            known.first = row.first;
        }
        if row.last.0 >= known.last.0 {
            known.last = row.last;
        }
        sketch::merge(&mut known.bins, &row.bins);
    }
    merged
}

/// What a reader of the definition would calculate, window by window.
fn naive(samples: &[(usize, i64, f64, u8)], refs: &[SeriesRef], length: i64) -> Merged {
    let mut windows: BTreeMap<(SeriesRef, i64), Vec<(i64, f64)>> = BTreeMap::new();
    for (series, time, value, _) in samples {
        let start = time.div_euclid(length) * length;
        windows.entry((refs[*series], start)).or_default().push((*time, *value));
    }
    let row = |((series, start), samples): ((SeriesRef, i64), Vec<(i64, f64)>)| {
        let (mut bins, mut hint) = (Bins::default(), 0);
        samples.iter().for_each(|sample| sketch::add(&mut bins, sample.1, &mut hint));
        let row = WindowRow {
            series,
            start,
            length,
            count: samples.len() as u64,
            sum: samples.iter().map(|sample| sample.1).sum(),
            min: samples.iter().map(|sample| sample.1).reduce(f64::min).unwrap(),
            max: samples.iter().map(|sample| sample.1).reduce(f64::max).unwrap(),
            first: *samples.iter().min_by_key(|sample| sample.0).unwrap(),
            last: *samples.iter().max_by_key(|sample| sample.0).unwrap(),
            bins,
        };
        ((series, start), row)
    };
    windows.into_iter().map(row).collect()
}

/// Samples of the windowed series (2 to 5), whole values so that sums are exact in any order.
fn samples() -> impl Strategy<Value = Vec<(usize, i64, f64, u8)>> {
    let sample = (2usize..6, 0i64..600, 1i32..1000)
        .prop_map(|(series, tenths, value)| (series, T0 + tenths * SECOND / 10, f64::from(value), 0));
    prop::collection::vec(sample, 1..200)
}

fn fold_all(intakes: Vec<Vec<(usize, i64, f64, u8)>>, tick_between: bool) -> (Merged, Vec<WindowRow>) {
    let (table, refs) = table(&(0..SERIES).collect::<Vec<_>>());
    let mut steps = vec![Step::Config(CONFIGS[0].into())];
    for samples in intakes {
        steps.push(Step::Intake(0, samples, 0, 0));
        if tick_between {
            steps.push(Step::Tick(1, false));
        }
    }
    // Ticks without end close what a silent device leaves open.
    steps.extend([Step::Tick(200, false), Step::Tick(1, false)]);
    let mut fold = Fold::new(table, Box::new(NoScorer));
    let rows = run(&mut fold, &records(&steps, &refs), 1);
    assert_eq!(fold.status().open_windows, 0);
    let windows: Vec<WindowRow> = rows.into_iter().flat_map(|rows| rows.windows).collect();
    (merge(windows.clone()), windows)
}

proptest! {
    #[test]
    fn aggregates_equal_a_plain_calculation(samples in samples()) {
        let (_, refs) = table(&(0..SERIES).collect::<Vec<_>>());
        let (merged, rows) = fold_all(vec![samples.clone()], false);
        prop_assert_eq!(rows.len(), merged.len(), "one intake gives one row a window");
        prop_assert_eq!(merged, naive(&samples, &refs, 10 * SECOND));
    }

    #[test]
    fn late_partials_merged_equal_what_on_time_samples_give(samples in samples(), parts in 1usize..20, ticks in any::<bool>()) {
        let (_, refs) = table(&(0..SERIES).collect::<Vec<_>>());
        let intakes: Vec<_> = samples.chunks(samples.len().div_ceil(parts)).map(<[_]>::to_vec).collect();
        let (merged, rows) = fold_all(intakes, ticks);
        prop_assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), samples.len() as u64);
        prop_assert_eq!(merged, naive(&samples, &refs, 10 * SECOND));
    }
}

#[test]
fn a_window_leaves_when_the_device_has_moved_past_its_end_and_lateness() {
    let (table, refs) = table(&(0..SERIES).collect::<Vec<_>>());
    let at = |seconds: i64, value: f64| Step::Intake(0, vec![(2, T0 + seconds * SECOND, value, 0)], 0, 0);
    let steps = [Step::Config(CONFIGS[0].into()), at(1, 5.0), at(11, 6.0), at(12, 7.0), at(9, 8.0)];
    let mut fold = Fold::new(table, Box::new(NoScorer));
    let rows = run(&mut fold, &records(&steps, &refs), 1);
    let closed: Vec<usize> = rows.iter().map(|rows| rows.windows.len()).collect();
    // 12 s is 10 s + 2 s of lateness; what comes for the first window after that is late and waits for a tick.
    assert_eq!(closed, [0, 0, 0, 1, 0]);
    assert_eq!(fold.status().late_samples, 1);
}

#[test]
fn one_device_in_silence_does_not_hold_back_another() {
    let (table, refs) = table(&(0..SERIES).collect::<Vec<_>>());
    let steps = [
        Step::Config(CONFIGS[0].into()),
        Step::Intake(0, vec![(2, T0 + SECOND, 1.0, 0), (3, T0 + SECOND, 1.0, 0)], 0, 0),
        Step::Intake(0, vec![(3, T0 + 15 * SECOND, 1.0, 0)], 0, 0),
        Step::Tick(12, false),
    ];
    let mut fold = Fold::new(table, Box::new(NoScorer));
    let rows = run(&mut fold, &records(&steps, &refs), 1);
    assert_eq!(rows[2].windows.len(), 1, "pump-2 went on");
    assert_eq!(rows[2].windows[0].series, refs[3]);
    assert_eq!(rows[3].windows.len(), 2, "the tick let both go: pump-1's first and pump-2's second");
}

#[test]
fn a_value_that_is_no_number_is_shipped_by_itself_and_spoils_no_window() {
    let (table, refs) = table(&(0..SERIES).collect::<Vec<_>>());
    let samples = vec![(2, T0, 1.0, 0), (2, T0 + 1, f64::NAN, 0), (2, T0 + 2, 3.0, 0)];
    let steps = [Step::Config(CONFIGS[0].into()), Step::Intake(0, samples, 0, 0), Step::Tick(20, false)];
    let mut fold = Fold::new(table, Box::new(NoScorer));
    let rows = run(&mut fold, &records(&steps, &refs), 1);
    assert!(rows[1].values.len() == 1 && rows[1].values[0].is_nan());
    assert_eq!((rows[2].windows[0].count, rows[2].windows[0].sum), (2, 4.0));
}

#[test]
fn times_in_wild_disorder_leave_as_partials_and_hold_bounded_state() {
    let (table, refs) = table(&(0..SERIES).collect::<Vec<_>>());
    let samples = (0..1_000).rev().map(|window| (2, T0 - window * 10 * SECOND, 1.0, 0)).collect();
    let steps = [Step::Config(CONFIGS[0].into()), Step::Intake(0, samples, 0, 0), Step::Tick(20, false)];
    let mut fold = Fold::new(table, Box::new(NoScorer));
    let rows = run(&mut fold, &records(&steps, &refs), 1);
    assert_eq!(rows.iter().map(|rows| rows.windows.len()).sum::<usize>(), 1_000);
    assert_eq!(rows[1].counts.get(telemetry::Cause::Derived), rows[1].windows.len() as u64);
}
