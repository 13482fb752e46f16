//! A sampled record's trace goes with its readings, and with nothing else.

#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use std::sync::Arc;

use common::{CONFIGS, SECOND, Step, T0, records, run, table};
use fold::{Fold, NoScorer, RestoreError};
use proptest::prelude::*;
use telemetry::trace::Context;
use telemetry::{Record, Rows, SeriesRef, SeriesTable, Traced};

fn traced(number: u8) -> Traced {
    Traced { context: Context { trace: [number; 16], span: [number; 8] }, parent: [7; 8] }
}

/// Marks the record at `at`.
fn sampled(records: &mut [Record], at: usize, number: u8) {
    let Record::Intake(intake) = &mut records[at] else { panic!("{at} is no intake") };
    intake.trace = Some(traced(number));
}

fn world() -> (Arc<SeriesTable>, Vec<SeriesRef>) {
    table(&[0, 1, 2, 3, 4, 5, 6, 7])
}

fn fold(table: &Arc<SeriesTable>) -> Fold {
    Fold::new(Arc::clone(table), Box::new(NoScorer))
}

fn reading(series: usize, second: i64) -> Step {
    Step::Intake(0, vec![(series, T0 + second * SECOND, 1.0, 0)], 0, 0)
}

fn of(rows: &[Rows]) -> Vec<Vec<u8>> {
    rows.iter().map(|rows| rows.traces.iter().map(|traced| traced.context.trace[0]).collect()).collect()
}

const RAW: usize = 0;
const WINDOW: usize = 2;
const OTHER_WINDOW: usize = 3;
const DROP: usize = 6;

#[test]
fn raw_readings_and_events_take_their_records_trace_and_dropped_ones_have_none_to_take() {
    let (table, refs) = world();
    let steps = [
        Step::Config(CONFIGS[0].into()),
        reading(RAW, 0),
        Step::Intake(0, vec![], 1, 0),
        reading(DROP, 0),
        // Refused before the fold: counts alone.
        Step::Intake(0, vec![], 0, 3),
        reading(RAW, 1),
    ];
    let mut records = records(&steps, &refs);
    for at in 1..5 {
        sampled(&mut records, at, at as u8);
    }
    let rows = run(&mut fold(&table), &records, 1);
    assert_eq!(of(&rows), [vec![], vec![1], vec![2], vec![], vec![], vec![]]);
    assert_eq!(rows[1].traces, [traced(1)]);
}

#[test]
fn a_reading_in_a_window_takes_its_trace_along_when_the_window_leaves() {
    let (table, refs) = world();
    let steps = [
        Step::Config(CONFIGS[0].into()),
        reading(WINDOW, 0),
        reading(WINDOW, 1),
        reading(WINDOW, 2),
        reading(OTHER_WINDOW, 3),
        reading(RAW, 4),
        // Another device's window is passed by its own readings alone.
        reading(WINDOW, 40),
        reading(OTHER_WINDOW, 41),
    ];
    let mut records = records(&steps, &refs);
    sampled(&mut records, 1, 1);
    sampled(&mut records, 2, 2);
    sampled(&mut records, 4, 4);
    let rows = run(&mut fold(&table), &records, 1);
    // Of two sampled records in one window the last counts.
    assert_eq!(of(&rows), [vec![], vec![], vec![], vec![], vec![], vec![], vec![2], vec![4]]);
}

#[test]
fn a_checkpoint_keeps_the_traces_of_open_windows_and_is_as_before_without_any() {
    let (table, refs) = world();
    let steps = [Step::Config(CONFIGS[0].into()), reading(WINDOW, 0), reading(WINDOW, 40)];
    let mut records = records(&steps, &refs);
    let mut before = fold(&table);
    run(&mut before, &records[..2], 1);
    assert_eq!(before.checkpoint()[0], 2);

    sampled(&mut records, 1, 1);
    let mut before = fold(&table);
    run(&mut before, &records[..2], 1);
    let checkpoint = before.checkpoint();
    assert_eq!(checkpoint[0], 3);
    let mut after = Fold::restore(Arc::clone(&table), Box::new(NoScorer), &checkpoint).unwrap();
    assert_eq!(after.checkpoint(), checkpoint);
    assert_eq!(of(&run(&mut after, &records[2..], 3)), [vec![1]]);
    let newer = [&[4], &checkpoint[1..]].concat();
    let refused = Fold::restore(table, Box::new(NoScorer), &newer).err();
    assert_eq!(refused, Some(RestoreError::Version(4, 3)));
}

proptest! {
    #[test]
    fn traces_change_no_row_and_are_the_same_after_any_restart(
        steps in common::steps(), which in prop::collection::vec(any::<bool>(), 64), cut: prop::sample::Index,
    ) {
        let (table, refs) = world();
        let plain = records(&steps, &refs);
        let mut marked = plain.clone();
        for (at, record) in marked.iter_mut().enumerate() {
            if let Record::Intake(intake) = record {
                intake.trace = which[at % which.len()].then(|| traced(at as u8));
            }
        }
        let whole = run(&mut fold(&table), &marked, 1);
        let mut bare = whole.clone();
        bare.iter_mut().for_each(|rows| rows.traces.clear());
        prop_assert_eq!(common::named(&run(&mut fold(&table), &plain, 1), &table), common::named(&bare, &table));

        let cut = cut.index(marked.len());
        let mut first = fold(&table);
        let mut again = run(&mut first, &marked[..cut], 1);
        let mut second = Fold::restore(Arc::clone(&table), Box::new(NoScorer), &first.checkpoint()).unwrap();
        again.extend(run(&mut second, &marked[cut..], cut as u64 + 1));
        prop_assert_eq!(of(&again), of(&whole));
    }
}
