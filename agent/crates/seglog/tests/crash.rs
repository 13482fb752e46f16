//! Promise of the log: whatever was synced is there after any crash, in order; nothing that was
//! never appended is; no number is used twice.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end so")]

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use seglog::sim::SimDisk;
use seglog::{Log, Recovery};
use support::{open, payload, read_all};

#[derive(Clone, Debug)]
enum Op {
    Append(usize),
    Sync,
    Roll,
    /// Release this part (of 16) of what is there.
    Release(u64),
    SkipBy(u64),
    /// The power goes this many writing calls later.
    CrashAfter(u64),
    CrashNow,
    FailSyncAfter(u64),
    FailWriteAfter(u64),
    /// The process ends and starts again; the machine goes on.
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0usize..1500).prop_map(Op::Append),
        6 => Just(Op::Sync),
        1 => Just(Op::Roll),
        2 => (0u64..=16).prop_map(Op::Release),
        1 => (0u64..50).prop_map(Op::SkipBy),
        1 => (0u64..8).prop_map(Op::CrashAfter),
        1 => Just(Op::CrashNow),
        1 => (0u64..4).prop_map(Op::FailSyncAfter),
        1 => (0u64..4).prop_map(Op::FailWriteAfter),
        1 => Just(Op::Restart),
    ]
}

/// What must be true, kept beside the log.
#[derive(Default)]
struct Model {
    /// The last payload that got each number.
    appended: BTreeMap<u64, Vec<u8>>,
    /// Numbers reported durable, or seen by a reader after a recovery: promised for good.
    promised: BTreeMap<u64, ()>,
    released: u64,
    made: u64,
}

impl Model {
    fn promise_upto(&mut self, durable: u64) {
        self.promised.extend(self.appended.range(..=durable).map(|(number, _)| (*number, ())));
    }

    fn check(&mut self, log: &Log, recovery: &Recovery) {
        let (records, gaps) = read_all(log);
        assert!(records.is_sorted_by_key(|(number, _)| *number), "order is kept");
        let there: BTreeMap<u64, Vec<u8>> = records.iter().cloned().collect();
        assert_eq!(there.len(), records.len(), "nothing comes twice");
        for (number, bytes) in &there {
            assert_eq!(Some(bytes), self.appended.get(number), "record {number} is what was appended");
        }
        for number in self.promised.keys().filter(|number| **number > self.released) {
            assert!(there.contains_key(number), "promised record {number} is gone");
        }
        if let Some((last, ())) = self.promised.last_key_value() {
            assert!(log.next() > *last, "number {last} would be used twice");
        }
        assert!(there.last_key_value().is_none_or(|(last, _)| log.next() > *last));
        for gap in gaps.iter().chain(&recovery.damaged).filter(|gap| gap.records() > 0) {
            let within =
                self.promised.range(gap.first..=gap.last).any(|(number, ())| *number > self.released);
            assert!(!within, "{gap:?} holds a promised record");
        }
        // What recovery showed may be relied on from now on.
        self.promised.extend(there.keys().map(|number| (*number, ())));
        // A number that is neither there nor promised may be given again.
        self.appended.retain(|number, _| there.contains_key(number));
    }
}

fn run(seed: u64, ops: Vec<Op>) {
    let sim = SimDisk::new(seed);
    let mut model = Model::default();
    let mut log = Some(open(sim.storage()).0);
    let reopen = |model: &mut Model, log: &mut Option<Log>| {
        *log = None;
        // An armed fault may hit the recovery itself: then the power goes there, once.
        let (fresh, recovery) = match Log::open(sim.storage(), &support::dir(), support::SMALL) {
            Ok((fresh, recovery)) if recovery.unverified.is_none() && !sim.is_off() => (fresh, recovery),
            other => {
                drop(other);
                sim.crash();
                open(sim.storage())
            }
        };
        assert_eq!(recovery.unverified, None);
        model.check(&fresh, &recovery);
        *log = Some(fresh);
    };
    for op in ops {
        let current = log.as_mut().expect("always reopened");
        let failed = match op {
            Op::Append(len) => {
                model.made += 1;
                let bytes = payload(model.made, len);
                match current.append(&bytes) {
                    Ok(number) => {
                        assert!(!model.promised.contains_key(&number), "number {number} is used twice");
                        model.appended.insert(number, bytes);
                        // A new segment makes the one before it durable.
                        model.promise_upto(current.durable());
                        false
                    }
                    Err(_) => true,
                }
            }
            Op::Sync => match current.sync() {
                Ok(durable) => {
                    model.promise_upto(durable);
                    false
                }
                Err(_) => true,
            },
            Op::Roll => current.roll().is_err(),
            Op::Release(part) => {
                // As every owner does: only what is durable.
                let upto =
                    current.first() + (current.durable() + 1).saturating_sub(current.first()) * part / 16;
                let upto = upto.saturating_sub(1).max(model.released);
                model.released = upto;
                current.release(upto).is_err()
            }
            Op::SkipBy(n) => current.skip_to(current.next() + n).is_err(),
            Op::CrashAfter(n) => {
                sim.crash_after(n);
                false
            }
            Op::FailSyncAfter(n) => {
                sim.fail_sync_after(n);
                false
            }
            Op::FailWriteAfter(n) => {
                sim.fail_write_after(n);
                false
            }
            Op::CrashNow => {
                log = None;
                sim.crash();
                true
            }
            Op::Restart => true,
        };
        if failed {
            reopen(&mut model, &mut log);
        }
    }
    log = None;
    drop(log);
    sim.crash();
    let (log, recovery) = open(sim.storage());
    model.check(&log, &recovery);
}

/// Number 1 was used twice when a crash followed a release that had unlinked the only segment whose
/// name was durable. Cure: `Log::release` first makes the newest segment's name durable.
#[test]
fn a_segment_stays_until_the_name_of_the_next_is_durable() {
    for seed in 0..200 {
        run(seed, vec![Op::CrashAfter(5), Op::Append(0), Op::Append(929), Op::Release(16)]);
    }
}

/// A record was shown by one recovery and lost by the next: its checksum's salt was taken from a
/// header that only the cache still had after a failed fsync. Cure: the salt is in the file's name.
#[test]
fn what_one_recovery_shows_the_next_shows_too() {
    for seed in 0..200 {
        let failed =
            vec![Op::Append(432), Op::FailSyncAfter(0), Op::Append(71), Op::Append(410), Op::Append(0)];
        run(seed, failed);
    }
}

fn config() -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => ProptestConfig { cases: 1000, ..config },
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_was_synced_survives_any_crash_and_nothing_is_invented(
        seed: u64,
        ops in prop::collection::vec(op(), 1..120),
    ) {
        run(seed, ops);
    }
}
