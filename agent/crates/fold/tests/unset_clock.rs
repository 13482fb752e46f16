//! Readings that came before the host's clock was set: folded by time since boot, and told apart by boot.

mod common;

use common::{ARRIVAL, CONFIGS, SECOND, SERIES, Step, SumScorer, T0, records, run, table};
use fold::{Fold, NoScorer};
use telemetry::{Attribute, Cause, Record, Rows, SampleFlags};

fn fold(steps: &[Step]) -> (Vec<Record>, Vec<Rows>, Fold) {
    let (table, refs) = table(&(0..SERIES).collect::<Vec<_>>());
    let records = records(steps, &refs);
    let mut fold = Fold::new(table, Box::<SumScorer>::default());
    let rows = run(&mut fold, &records, 1);
    (records, rows, fold)
}

fn arrivals(series: usize, values: &[f64]) -> Step {
    Step::Intake(0, values.iter().map(|value| (series, ARRIVAL, *value, 0)).collect(), 0, 0)
}

fn mono(record: &Record) -> i64 {
    match record {
        Record::Intake(intake) => intake.stamp.mono as i64,
        Record::Tick(clock) => clock.at.mono as i64,
        _ => panic!("it has no stamp"),
    }
}

#[test]
fn what_has_no_time_of_its_own_is_timed_since_boot_and_marked_until_the_clock_is_set() {
    let own = Step::Intake(0, vec![(0, T0 + 5 * SECOND, 2.0, 0), (0, ARRIVAL, 3.0, 0)], 2, 0);
    let steps = [Step::Clock(false), own, Step::Clock(true), arrivals(0, &[4.0])];
    let (records, rows, _) = fold(&steps);
    assert_eq!((&rows[1].times, &rows[1].values), (&vec![T0 + 5 * SECOND], &vec![2.0]), "its own time stays");
    assert!(rows[1].flags.is_empty());
    let (boot, unset) = &rows[1].unset[0];
    assert_eq!(*boot, [1; 16]);
    assert_eq!((&unset.times, &unset.values), (&vec![mono(&records[1])], &vec![3.0]));
    assert_eq!(unset.flags, [SampleFlags::CLOCK_UNCERTAIN]);
    assert_eq!((unset.events.len(), unset.events[0].time), (1, mono(&records[1])));
    assert_eq!(rows[1].events.len(), 1, "the event with a time of its own");
    assert_eq!(rows[1].counts.get(Cause::Received), 4);
    assert!(rows[3].unset.is_empty() && rows[3].flags.is_empty());
    assert_eq!(rows[3].values, [4.0]);
}

#[test]
fn windows_by_time_since_boot_leave_with_their_boot_when_the_clock_is_set() {
    let config = Step::Config(CONFIGS[0].into());
    let steps =
        [config, Step::Clock(false), arrivals(2, &[1.0, 2.0]), Step::Clock(true), arrivals(2, &[8.0])];
    let (records, rows, fold) = fold(&steps);
    let (boot, unset) = &rows[3].unset[0];
    assert_eq!((*boot, unset.windows.len(), rows[3].windows.len()), ([1; 16], 1, 0));
    let window = &unset.windows[0];
    assert_eq!((window.sum, window.count, window.first.0), (3.0, 2, mono(&records[2])));
    assert_eq!(window.start, mono(&records[2]) / (10 * SECOND) * (10 * SECOND));
    assert_eq!(fold.status().open_windows, 1, "the one of the reading after");
    assert_eq!(fold.status().late_samples, 0, "no reading is late by another clock");
}

#[test]
fn rows_that_wait_for_the_cut_are_not_read_again() {
    let (table, refs) = table(&(0..SERIES).collect::<Vec<_>>());
    let first = [Step::Config(CONFIGS[0].into()), Step::Clock(false), arrivals(2, &[1.0]), Step::Clock(true)];
    let records = records(&[first.as_slice(), &[arrivals(2, &[2.0])]].concat(), &refs);
    let (mut fold, mut rows) = (Fold::new(table, Box::new(NoScorer)), Rows::default());
    for (position, record) in (1..).zip(&records[..4]) {
        fold.apply(position, record, &mut rows);
    }
    let window = &mut rows.unset[0].1.windows[0];
    let end = window.start + window.length;
    assert_eq!(fold.open().unwrap().left, end, "it is noted as it leaves");
    // If it were read once more with this record, that would show in what the fold says.
    window.length += SECOND;
    fold.apply(5, &records[4], &mut rows);
    assert_eq!(fold.open().unwrap().left, end, "what a record costs doesn't grow with what waits");
}

#[test]
fn two_boots_without_a_clock_share_no_window_and_no_watermark() {
    let config = Step::Config(CONFIGS[0].into());
    let first = [config, Step::Clock(false), Step::Tick(200, false), arrivals(2, &[1.0])];
    let second = [Step::Tick(0, true), arrivals(2, &[2.0]), Step::Tick(14, false)];
    let (_, rows, fold) = fold(&[first.as_slice(), &second].concat());
    let of = |at: usize| (rows[at].unset[0].0[0], rows[at].unset[0].1.windows[0].sum);
    assert_eq!(of(4), (1, 1.0), "the first boot's leave with the boot");
    assert_eq!(of(6), (2, 2.0), "the second's close by its own time");
    assert_eq!(fold.status().late_samples, 0);
}

#[test]
fn scores_of_such_readings_are_of_their_boot() {
    let steps = [Step::Model(true), Step::Clock(false), arrivals(0, &[3.0, 4.0])];
    let (_, rows, _) = fold(&steps);
    let (_, unset) = &rows[2].unset[0];
    assert_eq!(unset.values, [3.0, 4.0, 7.0]);
    assert_eq!(unset.flags, [SampleFlags::CLOCK_UNCERTAIN; 3]);
    assert_eq!(rows[2].counts.get(Cause::Derived), 1);
}

#[test]
fn a_clock_that_is_set_while_running_is_told_as_an_event_and_one_that_drifts_is_not() {
    let steps = [
        Step::Tick(1, false),
        Step::Tick(9, false),
        Step::Clock(false),
        Step::Tick(0, true),
        Step::Clock(true),
    ];
    let (_, rows, fold) = fold(&steps);
    let events = |at: usize| {
        rows[at].events.len() + rows[at].unset.iter().map(|(_, rows)| rows.events.len()).sum::<usize>()
    };
    assert_eq!((0..5).map(events).collect::<Vec<_>>(), [0, 0, 1, 0, 1], "a reboot is no step");
    let event = &rows[4].events[0];
    assert_eq!((event.source.as_str(), event.time / SECOND), ("telemetryx-agent", T0 / SECOND + 10));
    assert!(matches!(event.attributes[0].1, Attribute::Int(by) if by > T0 - 60 * SECOND));
    assert_eq!(rows[4].counts.get(Cause::Derived), 1);
    let status = fold.status();
    assert_eq!((status.clock_steps, status.clock_step.map(|step| step.at_ns)), (2, Some(event.time)));
}

#[test]
fn a_checkpoint_of_version_1_goes_on() {
    let bytes = include_bytes!("version-1.checkpoint");
    assert_eq!(bytes[0], 1);
    let table = telemetry::SeriesTable::new(100);
    let before = Fold::restore(table.clone(), Box::new(NoScorer), bytes).unwrap();
    let again = Fold::restore(table, Box::new(NoScorer), &before.checkpoint()).unwrap();
    assert!(before.status().open_windows > 0);
    assert_eq!(again.status(), before.status());
}
