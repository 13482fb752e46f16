//! A spool that has less than the checkpoint says was in it: an older copy was put in its place, or its newest part is gone.
//! What it lacks is noted, once, and what comes then arrives.
#![allow(clippy::unwrap_used, reason = "a test may end so")]

mod support;

use std::path::PathBuf;

use seglog::sim::SimDisk;
use spool::{Damage, Part, Readings};
use support::{Bench, START, balances, remove, segments, start};
use telemetry::Cause;

const EARLIER: u64 = 200;
const LATER: u64 = 300;
const UNREAD: u64 = 5;
const FRESH: u64 = 15;

type Files = Vec<(PathBuf, Vec<u8>)>;

fn files(disk: &SimDisk, dir: &str) -> Files {
    let paths = disk.paths().into_iter().filter(|path| path.starts_with(dir));
    paths
        .filter(|path| !path.ends_with("lock"))
        .map(|path| (path.clone(), disk.read(&path).unwrap()))
        .collect()
}

/// All of what the first start took is in a copy of the spool; a checkpoint holds that and what the second took; the
/// last few are in the journal alone.
fn worked() -> (Bench, Files) {
    let mut bench = start(SimDisk::new(1), START);
    for _ in 0..EARLIER {
        bench.take(&["level"]);
    }
    bench.pass(11_000);
    let mut bench = bench.killed();
    let copy = files(&bench.disk, "/data/spool");
    for _ in 0..LATER {
        bench.take(&["level"]);
    }
    bench.pass(11_000);
    bench.pass(300);
    for _ in 0..UNREAD {
        let intake = bench.intake(&["level"]);
        bench.journal.append(&intake).unwrap();
    }
    bench.journal.step();
    bench.disk.kill();
    (bench, copy)
}

/// Starts twice on what is there, with new readings each time; gives what is noted, and the samples that leave.
fn goes_on(bench: Bench) -> (Vec<Damage>, u64, Vec<String>, u64) {
    let mut bench = bench.killed();
    let mut noted = Vec::new();
    for round in 0..3 {
        for _ in 0..FRESH {
            bench.take(&["level"]);
        }
        bench.pass(2000);
        bench.spool.cut().unwrap();
        balances(&bench.counts());
        if round == 0 {
            noted = bench.damage();
        }
        assert_eq!(bench.damage(), noted, "once");
        bench = if round == 1 { bench.restarted() } else { bench.killed() };
    }
    assert_eq!(bench.driver.watch().progress(0).missing, None, "it is told at the start that found it");
    let lost = bench.spool.usage().lost;
    let damaged = lost.iter().filter(|lost| lost.cause == Cause::Damaged).map(|lost| lost.count).sum();
    let (samples, _, events) = bench.leave();
    balances(&bench.counts());
    (noted, samples, events, damaged)
}

fn is_noted(bench: Bench) {
    let mut bench = bench.killed();
    let position = bench.spool.position();
    bench.driver.step(bench.now);
    let missing = bench.driver.watch().progress(0).missing.unwrap();
    assert!(missing.contains("ends before"), "{missing}");
    assert!(position > 0);
    let seq = bench.spool.usage().next_seq;
    let (noted, samples, events, damaged) = goes_on(bench);
    let [damage] = noted[..] else { panic!("{noted:?}") };
    assert_eq!((damage.part, damage.first, damage.readings), (Part::Spool, seq, Readings::AtMost(LATER)));
    assert!(damage.last > damage.first);
    assert_eq!((samples, damaged), (EARLIER + UNREAD + 3 * FRESH, 0));
    assert_eq!(events, [damage.sentence()]);
}

#[test]
fn an_older_copy_of_the_spool_is_noted_with_what_the_checkpoint_knows() {
    let (bench, copy) = worked();
    remove(&bench.disk, "/data/spool");
    copy.iter().for_each(|(path, content)| bench.disk.put(path, content));
    is_noted(bench);
}

#[test]
fn so_is_one_whose_newest_segment_is_gone_with_the_cursor() {
    for heads in [true, false] {
        let (bench, _) = worked();
        let newest = segments(&bench.disk, "/data/spool/log").pop().unwrap();
        bench.disk.storage().remove(&newest).unwrap();
        remove(&bench.disk, "/data/spool/cursor");
        if !heads {
            remove(&bench.disk, "/data/spool/heads");
        }
        is_noted(bench);
    }
}

#[test]
fn with_the_cursor_what_was_in_its_newest_segment_is_counted() {
    let (bench, _) = worked();
    let newest = segments(&bench.disk, "/data/spool/log").pop().unwrap();
    bench.disk.storage().remove(&newest).unwrap();
    let (noted, samples, events, damaged) = goes_on(bench);
    let [damage] = noted[..] else { panic!("{noted:?}") };
    assert_eq!((damage.part, damage.readings), (Part::Spool, Readings::Exactly(LATER)));
    assert_eq!((samples, damaged), (EARLIER + UNREAD + 3 * FRESH, LATER));
    assert_eq!(events, Vec::<String>::new());
}

#[test]
fn a_spool_that_is_newer_than_the_checkpoint_lacks_nothing() {
    let (mut bench, _) = worked();
    let old = bench.disk.read(std::path::Path::new(support::CHECKPOINT)).unwrap();
    bench = bench.killed();
    for _ in 0..FRESH {
        bench.take(&["level"]);
    }
    bench.spool.cut().unwrap();
    bench.disk.put(std::path::Path::new(support::CHECKPOINT), &old);
    let mut bench = bench.killed();
    bench.pass(300);
    assert_eq!((bench.damage(), bench.driver.watch().progress(0).missing), (Vec::new(), None));
}
