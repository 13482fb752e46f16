//! The journal's promises under power cuts: what was confirmed is there with its series, nothing
//! comes twice, no position is given twice.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end so")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use journal::{Holder, WaitError};
use proptest::prelude::*;
use seglog::sim::SimDisk;
use support::{Said, open, said};
use telemetry::Position;

const BRIEF: Duration = Duration::from_millis(20);

#[derive(Clone, Debug)]
enum Op {
    Append(Vec<u32>),
    Wait,
    Release(u64),
    CrashAfter(u64),
    FailSyncAfter(u64),
    Crash,
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => prop::collection::vec(0u32..20, 1..8).prop_map(Op::Append),
        4 => Just(Op::Wait),
        1 => (0u64..=4).prop_map(Op::Release),
        1 => (0u64..10).prop_map(Op::CrashAfter),
        1 => (0u64..4).prop_map(Op::FailSyncAfter),
        1 => Just(Op::Crash),
        1 => Just(Op::Restart),
    ]
}

fn run(seed: u64, ops: Vec<Op>) {
    let sim = SimDisk::new(seed);
    let mut appended: BTreeMap<Position, Said> = BTreeMap::new();
    let mut promised: Position = 0;
    let mut released: Position = 0;
    let mut id = 0;
    let mut bench = open(&sim);
    for op in ops.into_iter().chain([Op::Crash]) {
        let current = &bench;
        let mut reopen = false;
        match op {
            Op::Append(series) => {
                id += 1;
                let record = current.intake(id, &series);
                match current.journal.append(&record) {
                    Ok(position) => {
                        assert!(position > promised, "position {position} is given twice");
                        appended.insert(position, said(&record, &current.table));
                    }
                    Err(_) => reopen = true,
                }
            }
            // Without power nothing is settled: a segment that can't be created is tried again.
            Op::Wait => loop {
                match current.journal.wait_blocking(current.journal.last(), BRIEF) {
                    Ok(()) => promised = promised.max(current.journal.last()),
                    Err(WaitError::Timeout { .. }) if !sim.is_off() => continue,
                    Err(_) => reopen = true,
                }
                break;
            },
            Op::Release(part) => {
                released = released.max(promised * part / 4);
                current.journal.release(Holder::Fold, released);
                current.journal.release(Holder::Sessions, Position::MAX);
            }
            Op::CrashAfter(n) => sim.crash_after(n),
            Op::FailSyncAfter(n) => sim.fail_sync_after(n),
            Op::Crash => {
                sim.crash_after(0);
                reopen = true;
            }
            Op::Restart => reopen = true,
        }
        if !reopen {
            continue;
        }
        promised = promised.max(*current.journal.durable().borrow());
        current.journal.close();
        drop(bench);
        sim.crash();
        let fresh = open(&sim);
        let (records, gaps) = fresh.read(0);
        assert!(records.is_sorted_by(|a, b| a.0 < b.0));
        for (position, found) in &records {
            assert_eq!(Some(found), appended.get(position), "record {position}");
        }
        let there: BTreeMap<_, _> = records.into_iter().collect();
        for (position, _) in appended.range(released + 1..promised + 1) {
            assert!(there.contains_key(position), "promised record {position} is gone, {gaps:?}");
        }
        assert!(fresh.journal.last() >= promised);
        promised = promised.max(there.last_key_value().map_or(0, |(position, _)| *position));
        appended = there;
        bench = fresh;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(200),
    ) })]

    #[test]
    fn what_was_confirmed_survives_any_crash(seed: u64, ops in prop::collection::vec(op(), 1..60)) {
        run(seed, ops);
    }
}
