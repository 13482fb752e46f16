//! What the journal does at its bounds: it pushes back, holds what it promised, and goes on after.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end so")]

mod support;

use std::time::Duration;

use journal::{AppendError, Fullness, Holder, JournalConfig};
use seglog::sim::SimDisk;
use support::{LONG, config, open, open_with};
use telemetry::Position;

#[test]
fn at_the_cap_appends_are_pushed_back_until_every_holder_has_let_go() {
    let sim = SimDisk::new(1);
    let cap = 16 * 1024;
    let bench = open_with(&sim, JournalConfig { max_bytes: cap, ..config() });
    let mut last = 0;
    let refused = loop {
        match bench.journal.append(&bench.intake(1, &[1, 2, 3])) {
            Ok(position) => last = position,
            Err(error) => break error,
        }
        assert!(bench.journal.usage().bytes <= cap);
    };
    assert!(matches!(refused, AppendError::Full { what: Fullness::Cap, .. }), "{refused}");
    assert_eq!(bench.journal.last(), last, "a refused record takes no position");
    bench.journal.wait_blocking(last, LONG).unwrap();
    bench.journal.release(Holder::Fold, last);
    assert!(bench.journal.append(&bench.intake(1, &[1])).is_err(), "the sessions still hold it");
    bench.journal.release(Holder::Sessions, Position::MAX);
    // The unlink is the committing thread's work: closing waits for it.
    while bench.journal.append(&bench.intake(1, &[1])).is_err() {
        std::thread::yield_now();
    }
    assert!(bench.journal.first() > 1);
    assert!(bench.journal.usage().pushed_back > 0);
    bench.journal.close();
    assert_eq!(bench.read(last).0.len(), 1);
}

#[test]
fn nothing_is_released_that_a_holder_needs_or_that_is_not_durable() {
    let sim = SimDisk::new(1);
    let bench = open(&sim);
    for id in 1..=100 {
        bench.append(id, &[1]);
    }
    bench.journal.release(Holder::Sessions, Position::MAX);
    bench.journal.release(Holder::Fold, 30);
    bench.journal.release(Holder::Fold, 10);
    bench.journal.close();
    assert!(bench.journal.first() <= 31);
    assert!(bench.journal.first() > 1);
    assert_eq!(bench.read(30).0.len(), 70);
    drop(bench);
    assert_eq!(open(&sim).read(30).0.len(), 70);
}

#[test]
fn a_full_disk_stalls_and_a_release_frees_it_without_loss() {
    let sim = SimDisk::new(1);
    sim.set_capacity(Some(12 * 1024));
    let bench = open(&sim);
    let mut confirmed = 0;
    let mut waiting = 0;
    for id in 1.. {
        match bench.journal.append(&bench.intake(id, &[1, 2])) {
            Ok(position) => waiting = position,
            Err(AppendError::Full { what: Fullness::Disk, .. }) => break,
            Err(other) => panic!("{other}"),
        }
        // Full is known once the committing thread has tried.
        match bench
            .journal
            .wait_blocking(waiting, Duration::from_millis(if confirmed == 0 { 30_000 } else { 50 }))
        {
            Ok(()) => confirmed = waiting,
            Err(_) => assert!(bench.journal.usage().disk_full || bench.journal.trouble().is_none()),
        }
    }
    assert!(bench.journal.trouble().unwrap().contains("no space"));
    assert!(waiting > confirmed);
    bench.journal.release(Holder::Sessions, Position::MAX);
    bench.journal.release(Holder::Fold, confirmed);
    bench.journal.wait_blocking(waiting, LONG).unwrap();
    assert!(!bench.journal.usage().disk_full);
    bench.durable(1000, &[1]);
    let (records, gaps) = bench.read(confirmed);
    assert_eq!(gaps, []);
    assert_eq!(records.last().unwrap().1.0, 1000);
    assert_eq!(records.len() as u64, bench.journal.last() - confirmed);
}

#[test]
fn a_record_that_can_never_fit_is_refused_for_good() {
    let sim = SimDisk::new(1);
    let bench = open_with(&sim, JournalConfig { max_bytes: 8192, ..config() });
    let series: Vec<u32> = (0..500).collect();
    assert!(matches!(bench.journal.append(&bench.intake(1, &series)), Err(AppendError::TooLarge { .. })));
    bench.durable(2, &[1]);
}

#[test]
fn several_records_are_taken_all_or_none() {
    let sim = SimDisk::new(1);
    let bench = open_with(&sim, JournalConfig { max_bytes: 8192, ..config() });
    let records: Vec<_> = (0..20).map(|id| bench.intake(id, &[1, 2, 3])).collect();
    assert_eq!(bench.journal.append_all(&records).unwrap(), 20);
    assert_eq!(bench.journal.append_all(&[]).unwrap(), 20);
    assert!(bench.journal.append_all(&records).is_err());
    let series = telemetry::SeriesRef(4711);
    let mut unknown = telemetry::Intake::new(1, telemetry::Stamp::default());
    unknown.series.push(series);
    let mixed = [bench.intake(1, &[1]), telemetry::Record::Intake(unknown)];
    assert_eq!(bench.journal.append_all(&mixed), Err(AppendError::UnknownSeries(4711)));
    bench.journal.close();
    assert_eq!(bench.read(0).0.len(), 20);
}

#[test]
fn positions_go_on_above_what_the_spool_knows_when_the_files_were_lost() {
    let sim = SimDisk::new(1);
    let bench = open(&sim);
    bench.journal.skip_to(1000);
    assert_eq!(bench.journal.last(), 1000);
    assert_eq!(bench.durable(1, &[1]), 1001);
    bench.journal.skip_to(5);
    assert_eq!(bench.durable(2, &[1]), 1002);
    bench.journal.skip_to(2000);
    assert_eq!(bench.durable(3, &[1]), 2001);
    let (records, gaps) = bench.read(1000);
    assert_eq!(records.iter().map(|(position, _)| *position).collect::<Vec<_>>(), [1001, 1002, 2001]);
    assert_eq!(gaps, []);
}
