//! Promise P1 in the journal: confirmed means that the fsync has returned.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end so")]

mod support;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use journal::{AppendError, Journal, JournalConfig, OpenError, WaitError};
use seglog::sim::SimDisk;
use support::{Bench, LONG, open, open_with};

/// Looks at a future once.
fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

#[test]
fn an_append_is_not_durable_until_the_fsync_has_returned() {
    let sim = SimDisk::new(1);
    let bench = open(&sim);
    // The first record also makes the new segment's name durable: two fsyncs.
    bench.durable(1, &[1]);
    sim.hold_syncs();
    let position = bench.append(2, &[1]);
    assert!(sim.wait_for_held_sync(LONG), "the fsync is running");
    let mark = bench.journal.durable();
    assert_eq!(*mark.borrow(), position - 1);
    let mut wait = pin!(bench.journal.wait(position));
    assert!(poll(wait.as_mut()).is_pending());
    let waited = bench.journal.wait_blocking(position, Duration::ZERO);
    assert_eq!(waited, Err(WaitError::Timeout { position, waited: Duration::ZERO }));
    assert_eq!(bench.read(0).0.len(), 1, "the fold does not see it either");
    sim.release_syncs();
    block_on(wait).unwrap();
    assert_eq!(*mark.borrow(), position);
    sim.crash();
    assert_eq!(open(&sim).read(0).0.len(), 2);
}

#[test]
fn what_is_queued_during_an_fsync_is_made_durable_by_the_next_one_together() {
    let sim = SimDisk::new(1);
    let bench = open(&sim);
    bench.durable(1, &[1]);
    sim.hold_syncs();
    bench.append(2, &[1]);
    assert!(sim.wait_for_held_sync(LONG));
    let last = (3..=12).fold(0, |_, id| bench.append(id, &[1]));
    let before = bench.journal.usage().syncs;
    sim.release_syncs();
    bench.journal.wait_blocking(last, LONG).unwrap();
    assert_eq!(bench.journal.usage().syncs, before + 2);
    assert_eq!(bench.journal.usage().appended, 12);
}

#[test]
fn closing_commits_what_is_queued_and_refuses_what_comes_later() {
    let sim = SimDisk::new(1);
    let bench = open(&sim);
    let last = (1..=20).fold(0, |_, id| bench.append(id, &[id as u32]));
    bench.journal.close();
    bench.journal.wait_blocking(last, Duration::ZERO).unwrap();
    assert_eq!(bench.journal.append(&bench.intake(21, &[1])), Err(AppendError::Closed));
    assert!(block_on(bench.journal.wait(last + 1)).is_err());
    assert_eq!(bench.read(0).0.len(), 20);
    assert!(matches!(bench.journal.reopen(), Err(OpenError::NotPoisoned(_))));
    drop(bench);
    assert_eq!(open(&sim).read(0).0.len(), 20);
}

/// Appends until the armed fault strikes; what was confirmed before, and what was not.
fn until_it_fails(bench: &Bench) -> (u64, u64) {
    let mut confirmed = 0;
    loop {
        let position = match bench.journal.append(&bench.intake(1, &[1, 2, 3])) {
            Ok(position) => position,
            Err(AppendError::Poisoned(_)) => return (confirmed, confirmed),
            Err(other) => panic!("{other}"),
        };
        match bench.journal.wait_blocking(position, LONG) {
            Ok(()) => confirmed = position,
            Err(WaitError::Poisoned(_)) => return (confirmed, position),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn after_a_failed_fsync_nothing_is_confirmed_that_was_not_before() {
    for fault in 0..12 {
        let sim = SimDisk::new(fault);
        let bench = open(&sim);
        bench.durable(0, &[1]);
        let mut mark = bench.journal.durable();
        if fault % 3 == 2 {
            // Every other write is of the mark, which may fail.
            sim.fail_write_after(2 * (fault / 3))
        } else {
            sim.fail_sync_after(fault / 3)
        }
        let (confirmed, lost) = until_it_fails(&bench);
        assert!(lost > confirmed);
        assert!(bench.journal.usage().poisoned.unwrap().contains("failed"));
        assert!(matches!(bench.journal.append(&bench.intake(9, &[1])), Err(AppendError::Poisoned(_))));
        assert!(block_on(mark.wait_for(|mark| *mark >= lost)).is_err(), "the channel is closed");
        assert!(block_on(bench.journal.wait(lost)).is_err());
        block_on(bench.journal.wait(confirmed.max(1))).unwrap();

        let recovery = bench.journal.reopen().unwrap();
        assert_eq!(recovery.unverified, None);
        let shown = bench.read(0).0;
        assert!(shown.len() as u64 >= confirmed);
        let kept = shown.last().unwrap().0;
        for position in confirmed.max(1)..=lost {
            let waited = bench.journal.wait_blocking(position, Duration::ZERO);
            assert_eq!(waited.is_ok(), position <= kept, "{position} of {confirmed}, {kept}, {lost}");
        }
        let next = bench.durable(77, &[1]);
        assert!(next > lost, "position {next} was given before");
        assert!(block_on(bench.journal.wait(lost)).is_err() || kept == lost);
        assert_eq!(*mark.borrow(), confirmed.max(1), "an old watch never passes what was lost");
        assert_eq!(bench.read(0).0.last().unwrap().0, next);
        drop(bench);
        sim.crash();
        let records = open(&sim).read(0).0;
        assert_eq!(records[..shown.len()], shown);
        assert_eq!(records.last().unwrap().1.0, 77);
    }
}

#[test]
fn a_reader_goes_on_over_a_reopening() {
    let sim = SimDisk::new(5);
    let bench = open(&sim);
    let mut reader = bench.journal.reader(0);
    bench.durable(1, &[1]);
    assert_eq!(reader.next(LONG).unwrap().unwrap().0, 1);
    sim.fail_sync_after(0);
    let lost = bench.append(2, &[1]);
    assert!(bench.journal.wait_blocking(lost, LONG).is_err());
    bench.journal.reopen().unwrap();
    let next = bench.durable(3, &[1, 2]);
    let mut seen = Vec::new();
    while let Some((position, _)) = reader.next(Duration::ZERO).unwrap() {
        seen.push(position);
    }
    assert_eq!(*seen.last().unwrap(), next);
    assert_eq!(reader.position(), next);
}

#[test]
fn a_journal_that_cannot_be_verified_opens_poisoned_and_can_be_reopened() {
    let sim = SimDisk::new(1);
    open(&sim).durable(1, &[1]);
    sim.fail_sync_after(0);
    let bench = open(&sim);
    assert!(bench.recovery.unverified.is_some());
    assert!(matches!(bench.journal.append(&bench.intake(2, &[1])), Err(AppendError::Poisoned(_))));
    assert_eq!(bench.journal.reopen().unwrap().unverified, None);
    bench.durable(2, &[1]);
    assert_eq!(bench.read(0).0.len(), 2);
}

#[test]
fn a_lingering_commit_still_comes() {
    let sim = SimDisk::new(1);
    let linger = Duration::from_millis(5);
    let bench = open_with(&sim, JournalConfig { linger, ..support::config() });
    bench.durable(1, &[1]);
    bench.append(2, &[1]);
    bench.journal.close();
    assert_eq!(bench.read(0).0.len(), 2);
}

#[test]
fn the_last_handle_that_is_dropped_closes_the_journal() {
    let sim = SimDisk::new(1);
    let bench = open(&sim);
    let other: Journal = bench.journal.clone();
    bench.append(1, &[1]);
    drop(bench);
    drop(other);
    // Else the log would still be locked.
    assert_eq!(open(&sim).read(0).0.len(), 1);
}

/// Waiting for the newest position never ended after a crash had left a torn tail: its numbers are
/// skipped, and no record had the newest. Cure: the mark covers skipped numbers.
#[test]
fn waiting_for_the_newest_position_ends_though_numbers_were_skipped() {
    let sim = SimDisk::new(1);
    let bench = open(&sim);
    bench.durable(1, &[1]);
    bench.journal.close();
    drop(bench);
    let path = sim.paths().remove(0);
    let mut content = sim.read(&path).unwrap();
    content.extend_from_slice(&[7; 500]);
    sim.put(&path, &content);
    let bench = open(&sim);
    assert!(bench.recovery.torn_bytes == 500 && bench.journal.last() > 1);
    block_on(bench.journal.wait(bench.journal.last())).unwrap();
    assert_eq!(*bench.journal.durable().borrow(), bench.journal.last());
    bench.journal.skip_to(5000);
    bench.journal.wait_blocking(5000, Duration::ZERO).unwrap();
    let position = bench.durable(2, &[1]);
    assert_eq!(position, 5001);
    assert_eq!(bench.read(1).0.len(), 1);
}
