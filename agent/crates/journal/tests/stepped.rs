//! A journal without a thread: nothing becomes durable but by a step.
#![allow(clippy::unwrap_used, reason = "a test may end so")]

mod support;

use journal::{Holder, Step};
use seglog::sim::SimDisk;
use support::open_stepped;
use telemetry::Position;

#[test]
fn one_step_commits_all_that_is_queued_and_nothing_is_durable_before() {
    let sim = SimDisk::new(1);
    let bench = open_stepped(&sim);
    bench.append(1, &[1]);
    let last = bench.append(2, &[1]);
    assert_eq!(bench.journal.settled(last), None);
    assert_eq!(bench.read(0).0.len(), 0);
    assert_eq!(bench.journal.step(), Step::Progress);
    assert_eq!(bench.journal.settled(last), Some(Ok(())));
    assert_eq!((bench.read(0).0.len(), bench.journal.usage().syncs), (2, 1));
    assert_eq!(bench.journal.step(), Step::Idle);
}

#[test]
fn a_full_disk_stalls_steps_until_there_is_room() {
    let sim = SimDisk::new(1);
    let bench = open_stepped(&sim);
    let first = bench.append(1, &[1]);
    assert_eq!(bench.journal.step(), Step::Progress);
    sim.set_capacity(Some(sim.used()));
    let second = bench.append(2, &[1]);
    assert_eq!(bench.journal.step(), Step::Stalled);
    assert_eq!(bench.journal.settled(second), None);
    bench.journal.release(Holder::Sessions, Position::MAX);
    bench.journal.release(Holder::Fold, first);
    assert_eq!(bench.journal.step(), Step::Stalled, "the only segment is never released");
    sim.set_capacity(None);
    assert_eq!(bench.journal.step(), Step::Progress);
    assert_eq!(bench.journal.settled(second), Some(Ok(())));
}

#[test]
fn after_a_failed_fsync_steps_have_ended_until_it_is_reopened() {
    let sim = SimDisk::new(1);
    let bench = open_stepped(&sim);
    bench.append(1, &[1]);
    assert_eq!(bench.journal.step(), Step::Progress);
    let lost = bench.append(2, &[1]);
    sim.fail_sync_after(0);
    assert_eq!(bench.journal.step(), Step::Ended);
    assert!(bench.journal.settled(lost).unwrap().is_err());
    assert_eq!(bench.journal.step(), Step::Ended);
    bench.journal.reopen().unwrap();
    let next = bench.append(3, &[1]);
    assert_eq!(bench.journal.step(), Step::Progress);
    assert_eq!(bench.journal.settled(next), Some(Ok(())));
}

#[test]
fn closing_commits_what_is_queued() {
    let sim = SimDisk::new(1);
    let bench = open_stepped(&sim);
    let last = bench.append(1, &[1]);
    bench.journal.close();
    assert_eq!(bench.journal.settled(last), Some(Ok(())));
    assert_eq!(bench.journal.step(), Step::Ended);
}
