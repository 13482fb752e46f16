//! What records other than readings do: configurations, models, clocks.

mod common;

use std::sync::Arc;

use common::{CONFIGS, SECOND, SERIES, Step, SumScorer, T0, event, key, records, run, table};
use fold::{Fold, NoScorer, SCORE};
use proptest::prelude::*;
use telemetry::{Cause, DeviceClock, Intake, Record, Rows, SeriesRef, Stamp};

fn order() -> Vec<usize> {
    (0..SERIES).collect()
}

#[test]
fn a_config_change_closes_windows_as_partials_and_the_same_again_does_not() {
    let (table, refs) = table(&order());
    let sample = |value| Step::Intake(0, vec![(2, T0 + SECOND, value, 0)], 0, 0);
    let steps = [
        Step::Config(CONFIGS[0].into()),
        sample(1.0),
        Step::Config(CONFIGS[0].into()),
        sample(2.0),
        Step::Config(CONFIGS[1].into()),
        sample(4.0),
        Step::Config(CONFIGS[2].into()),
    ];
    let mut fold = Fold::new(table, Box::new(NoScorer));
    let rows = run(&mut fold, &records(&steps, &refs), 1);
    assert!(rows[2].windows.is_empty());
    assert_eq!((rows[4].windows[0].sum, rows[4].windows[0].length), (3.0, 10 * SECOND));
    assert_eq!((rows[6].windows[0].sum, rows[6].windows[0].length), (4.0, 5 * SECOND));
    assert_eq!(fold.status().generation, 4);
}

#[test]
fn a_config_that_cannot_be_read_keeps_the_one_before_and_is_reported() {
    let (table, refs) = table(&order());
    let sample = Step::Intake(0, vec![(6, T0, 1.0, 0)], 0, 0);
    let steps = [
        Step::Config(CONFIGS[0].into()),
        Step::Config(CONFIGS[3].into()),
        Step::Config(vec![0xff, 0xfe]),
        sample,
    ];
    let mut fold = Fold::new(table, Box::new(NoScorer));
    let rows = run(&mut fold, &records(&steps, &refs), 1);
    assert_eq!(rows[3].counts.get(Cause::ReducedDrop), 1, "the first configuration still drops it");
    let status = fold.status();
    assert_eq!((status.generation, status.configs_refused), (1, 2));
    assert!(status.config_error.is_some_and(|error| error.contains("can't be read")));
}

#[test]
fn a_time_too_far_ahead_is_refused_and_the_neighbours_are_kept() {
    let (table, refs) = table(&order());
    let samples = vec![(0, T0, 1.0, 0), (0, T0 + 3_600 * SECOND, 2.0, 0), (0, T0 + 60 * SECOND, 3.0, 0)];
    let mut all = records(&[Step::Intake(0, samples, 1, 0)], &refs);
    if let Record::Intake(intake) = &mut all[0] {
        intake.events.push(event(i64::MAX));
    }
    let mut fold = Fold::new(table, Box::new(NoScorer));
    let rows = run(&mut fold, &all, 1);
    assert_eq!(rows[0].values, [1.0, 3.0]);
    assert_eq!(rows[0].events.len(), 1);
    assert_eq!(rows[0].counts.get(Cause::RejectedTime), 2);
}

#[test]
fn a_host_whose_clock_was_never_set_refuses_nothing_for_being_ahead() {
    let (table, refs) = table(&order());
    let mut intake = Intake::new(0, Stamp { wall: 5 * SECOND, mono: 5 });
    intake.series.push(refs[0]);
    intake.push(0, T0, 1.0, 0);
    let mut fold = Fold::new(table, Box::new(NoScorer));
    let mut rows = Rows::default();
    fold.apply(1, &Record::Intake(intake), &mut rows);
    assert_eq!(rows.values, [1.0]);
}

#[test]
fn scores_ship_as_a_series_of_the_device_with_model_and_version() {
    let (table, refs) = table(&order());
    let steps = [Step::Model(true), Step::Intake(0, vec![(0, T0, 3.0, 0), (0, T0, 4.0, 0)], 0, 0)];
    let mut fold = Fold::new(table.clone(), Box::<SumScorer>::default());
    let rows = run(&mut fold, &records(&steps, &refs), 1);
    let at = *rows[1].series.last().unwrap();
    let expected = format!("{SCORE}{{device=\"pump-1\",model=\"sum\",model_version=\"1\"}}");
    assert_eq!(table.get(at).unwrap().key.to_string(), expected);
    assert_eq!(rows[1].values, [3.0, 4.0, 7.0]);
    assert_eq!(rows[1].counts.get(Cause::Derived), 1);
    assert_eq!(fold.status().scores, 1);
}

#[test]
fn a_model_that_is_refused_is_reported_and_the_slot_keeps_what_it_had() {
    let (table, _) = table(&order());
    let model = |bytes: &[u8]| Record::Model {
        stamp: Stamp::default(),
        slot: "sum".to_owned(),
        model: Some((b"{}".to_vec(), bytes.to_vec())),
    };
    let mut fold = Fold::new(table, Box::<SumScorer>::default());
    run(&mut fold, &[model(b"1"), model(b"2")], 1);
    let status = &fold.status().models[0];
    assert_eq!(status.model, Some(("sum".to_owned(), "1".to_owned())));
    assert!(status.error.as_deref().is_some_and(|error| error.contains("not 1")));
}

#[test]
fn a_record_seen_before_changes_nothing() {
    let (table, refs) = table(&order());
    let all = records(&[Step::Intake(0, vec![(0, T0, 1.0, 0)], 0, 0)], &refs);
    let mut fold = Fold::new(table, Box::new(NoScorer));
    run(&mut fold, &all, 5);
    assert!(run(&mut fold, &all, 5)[0].is_empty());
    assert!(run(&mut fold, &all, 4)[0].is_empty());
    assert_eq!(fold.position(), 5);
}

#[test]
fn a_series_number_of_no_definition_is_counted_as_damage() {
    let (table, refs) = table(&order());
    // At a set clock and at an unset one, where the readings are gone through twice.
    for wall in [T0, SECOND] {
        let mut intake = Intake::new(0, Stamp { wall, mono: 1 });
        intake.series.extend([SeriesRef(999), refs[0]]);
        for index in [0, 7, 1] {
            intake.push(index, wall, 1.0, 0);
        }
        intake.push(1, T0 + 365 * 24 * 3600 * SECOND, 1.0, 0);
        intake.counts.add(Cause::Received, intake.len() as u64 + 1);
        intake.counts.add(Cause::RejectedType, 1);
        let mut rows = Rows::default();
        Fold::new(Arc::clone(&table), Box::new(NoScorer)).apply(1, &Record::Intake(intake), &mut rows);
        let count = |cause| rows.counts.get(cause);
        assert_eq!(count(Cause::Damaged), 2);
        // The ledger's two equations; the spool counts as shipped what is in the rows.
        let shipped = count(Cause::Shipped) + rows.len() as u64;
        let rejected = count(Cause::RejectedType) + count(Cause::RejectedTime);
        assert_eq!(count(Cause::Received), rejected + shipped);
        assert_eq!(shipped, rows.len() as u64 + count(Cause::Damaged));
    }
}

#[test]
fn one_series_through_two_inputs_has_two_watermarks() {
    let (table, refs) = table(&order());
    let at = |input, seconds: i64| Step::Intake(input, vec![(2, T0 + seconds * SECOND, 1.0, 0)], 0, 0);
    let steps = [Step::Config(CONFIGS[0].into()), at(0, 1), at(1, 30), at(0, 2)];
    let mut fold = Fold::new(table, Box::new(NoScorer));
    let rows = run(&mut fold, &records(&steps, &refs), 1);
    assert!(rows.iter().all(|rows| rows.windows.is_empty()));
    assert_eq!(fold.status().late_samples, 0);
    assert_eq!((fold.status().devices, fold.status().series), (2, 2));
    assert_eq!(key(2).device(), "pump-1");
}

#[test]
fn a_tick_alone_makes_no_row() {
    let (table, _) = table(&order());
    let mut rows = Rows::default();
    Fold::new(table, Box::new(NoScorer)).apply(1, &Record::Tick(DeviceClock::default()), &mut rows);
    assert!(rows.is_empty());
}

proptest! {
    /// Who sends ticks only when they are due lets nothing wait longer, and spares the disk the others.
    #[test]
    fn a_tick_that_is_not_due_changes_no_row(
        samples in prop::collection::vec((0usize..SERIES, 0i64..400, 1i32..100, 0u8..30), 1..40),
        config in 0usize..3,
    ) {
        let (table, refs) = table(&order());
        let mut fold = Fold::new(table, Box::new(NoScorer));
        let mut steps = vec![Step::Config(CONFIGS[config].into())];
        for (series, tenths, value, pause) in samples {
            steps.push(Step::Intake(0, vec![(series, T0 + tenths * SECOND / 10, f64::from(value), 0)], 0, 0));
            steps.extend((0..pause).map(|_| Step::Tick(1, false)));
        }
        for (at, record) in records(&steps, &refs).iter().enumerate() {
            let due = fold.tick_due();
            let mut rows = Rows::default();
            fold.apply(at as u64 + 1, record, &mut rows);
            if let Record::Tick(clock) = record {
                let is_due = due.is_some_and(|due| due <= clock.at.mono);
                prop_assert!(is_due || rows.is_empty(), "a tick before {due:?} gave {rows:?}");
                prop_assert!(!(is_due && rows.is_empty()), "a tick was due at {due:?} and gave nothing");
            }
        }
    }
}
