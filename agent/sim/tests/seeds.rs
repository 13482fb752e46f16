//! The part of the simulation that runs with all other tests.

use sim::outage::Outage;
use sim::plan::{Aim, Plan};
use sim::run::{run, run_all, run_plan};

#[test]
fn two_hundred_seeds_keep_every_promise() {
    let mut failed = Vec::new();
    let seeds: Vec<u64> = (1..=200).collect();
    let run = |seed| run(seed, false, None);
    run_all(&seeds, 2, run, |verdict| {
        if !verdict.failures.is_empty() {
            failed.push((verdict.seed, verdict.failures));
        }
    });
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

#[test]
fn a_batch_that_rots_once_more_after_it_was_cut_again_under_a_name_that_the_collector_has_counts_as_gone_with_rot()
 {
    let verdict = run(70_145, false, None);
    assert!(verdict.failures.is_empty(), "{:?}", verdict.failures);
    assert!(verdict.sums.silent > 0);
}

#[test]
fn after_an_outage_fresh_readings_arrive_within_a_second_while_the_backlog_takes_its_share() {
    let drain = sim::outage::run(Outage { seconds: 60, rate: 1_000, room: 2.0, seed: 1 });
    assert!(drain.failures.is_empty(), "{:?}", drain.failures);
    assert_eq!((drain.sums.lost, drain.sums.twice, drain.sums.unexplained), (0, 0, 0));
    assert!(drain.backlog > 50_000 && drain.fresh > 20_000, "{drain:?}");
    assert!(drain.fresh_max < 1.0, "{drain:?}");
    assert!((0.3..0.7).contains(&drain.share), "{drain:?}");
}

/// The first of some seeds with short steps that fails when the disk says of a file too early that it is durable.
fn found(lie: &'static str) -> Option<usize> {
    let steps = (1..).map(Plan::draw).filter(|plan| plan.aim == Aim::Steps).take(60);
    let mut lying = steps.map(|plan| run_plan(Plan { lie: Some(lie), ..plan }, false, None));
    lying.position(|verdict| !verdict.failures.is_empty())
}

#[test]
fn an_acknowledgement_before_the_journal_is_durable_is_found() {
    assert!(found("/data/journal").is_some());
}

#[test]
fn a_checkpoint_before_the_spool_is_durable_is_found() {
    assert!(found("/data/spool/log").is_some());
}

#[test]
fn letting_go_of_the_journal_before_the_checkpoint_is_durable_is_found() {
    assert!(found("/data/fold.checkpoint").is_some());
}

#[test]
fn an_unlink_before_the_spools_cursor_is_durable_is_found() {
    assert!(found("/data/spool/cursor").is_some());
}

/// The first seeds with an aim.
fn seeds(aim: Aim, count: usize) -> Vec<u64> {
    (1..).filter(|seed| Plan::draw(*seed).aim == aim).take(count).collect()
}

#[test]
fn what_a_spool_that_is_too_small_thins_is_stored_once_and_the_rest_is_counted() {
    let mut thinned = 0;
    for seed in seeds(Aim::Thin, 12) {
        let verdict = run(seed, false, None);
        assert!(verdict.failures.is_empty(), "again: just sim --seed {seed} --trace {:?}", verdict.failures);
        thinned += verdict.sums.thinned;
    }
    assert!(thinned > 1000, "{thinned}: too little is thinned to show anything");
}

#[test]
fn what_a_disk_does_not_give_or_take_for_a_while_is_stored_once_or_counted() {
    for seed in seeds(Aim::Eio, 20) {
        let verdict = run(seed, false, None);
        assert!(verdict.failures.is_empty(), "again: just sim --seed {seed} --trace {:?}", verdict.failures);
    }
}

/// Once found with windows that held 680 of 679 and 151 of 133 readings.
#[test]
fn windows_that_a_rotten_record_had_closed_are_not_stored_again() {
    for seed in [81, 389, 2214, 2489, 2733, 3102, 3297, 5640, 5685, 6165] {
        let verdict = run(seed, false, None);
        assert!(verdict.failures.is_empty(), "again: just sim --seed {seed} --trace {:?}", verdict.failures);
    }
}
