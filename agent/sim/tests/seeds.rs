//! The part of the simulation that runs with all other tests.
#![allow(clippy::unwrap_used, reason = "a test may end so")]

use std::sync::Mutex;

use sim::run::{run, run_all};

#[test]
fn two_hundred_seeds_keep_every_promise() {
    let failed = Mutex::new(Vec::new());
    let done = |verdict: sim::run::Verdict| {
        if !verdict.failures.is_empty() {
            failed.lock().unwrap().push((verdict.seed, verdict.failures));
        }
    };
    run_all(1..201, 2, |_| None, done);
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "again: just sim --seed N --trace {failed:?}");
}

#[test]
fn a_seed_that_is_run_again_does_the_same_in_the_same_order() {
    for seed in 300..320 {
        let (first, second) = (run(seed, false, None), run(seed, false, None));
        assert_eq!(first.hash, second.hash, "seed {seed}");
    }
    assert_ne!(run(300, false, None).hash, run(301, false, None).hash);
}
