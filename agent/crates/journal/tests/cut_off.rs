//! What was confirmed and is gone from the journal's end, or with all of it: the mark tells it from a torn tail.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end so")]

mod support;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use journal::JournalGap;
use journal::inspect::{Found, Inspection};
use seglog::sim::SimDisk;
use support::{Bench, config, open};

const DIR: &str = "/data/journal";

/// The segments' files, oldest first.
fn segments(sim: &SimDisk) -> Vec<PathBuf> {
    let mut paths = sim.paths();
    paths.retain(|path| path.starts_with(DIR) && path.extension().is_some_and(|ending| ending == "seg"));
    paths.sort();
    paths
}

/// Twelve records of two readings each in several segments, all confirmed, and killed.
fn killed() -> (SimDisk, Vec<PathBuf>) {
    let sim = SimDisk::new(3);
    let bench = open(&sim);
    (1..=6).for_each(|id| _ = bench.durable(id, &[1, 2]));
    drop(bench);
    let bench = open(&sim);
    (7..=12).for_each(|id| _ = bench.durable(id, &[1, 2]));
    sim.kill();
    drop(bench);
    let files = segments(&sim);
    (sim, files)
}

fn looked_at(sim: &SimDisk) -> Vec<JournalGap> {
    let inspection = Inspection::open(sim.storage(), Path::new(DIR)).unwrap();
    let mut gaps = Vec::new();
    inspection
        .walk(&mut |found| {
            if let Found::Gap(gap, _) = found {
                gaps.push(gap);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    gaps
}

/// Gaps from behind `after` on, once there is a new record.
fn gaps_of(bench: &Bench, after: u64) -> Vec<JournalGap> {
    bench.durable(99, &[1]);
    bench.read(after).1
}

#[test]
fn an_emptied_newest_segment_is_a_gap_with_what_was_received_in_it() {
    let (sim, files) = killed();
    sim.put(files.last().unwrap(), b"");
    let expected = JournalGap { first: 7, last: 12, bytes: 0, readings: Some(12) };
    assert_eq!(looked_at(&sim), [expected], "who only looks is told");
    let bench = open(&sim);
    assert_eq!(bench.recovery.cut_off.map(|mark| mark.number), Some(12));
    assert_eq!(gaps_of(&bench, 0), [expected]);
    assert_eq!(gaps_of(&bench, 5), [expected], "also behind a checkpoint");
    drop(bench);
    assert_eq!(open(&sim).recovery.cut_off, None, "told once");
    assert_eq!(looked_at(&sim), [expected], "the gap stays one");
}

#[test]
fn a_newest_segment_cut_anywhere_loses_its_records_to_the_number() {
    let (sim, files) = killed();
    let whole = sim.read(files.last().unwrap()).unwrap();
    let mut kept = BTreeSet::new();
    for len in 0..whole.len() {
        let sim = sim.image(len as u64);
        sim.put(files.last().unwrap(), &whole[..len]);
        let bench = open(&sim);
        let gaps = gaps_of(&bench, 0);
        let records = bench.read(0).0.len() as u64 - 1;
        let [gap] = gaps[..] else { panic!("cut at {len}: {gaps:?}") };
        assert_eq!((gap.first, gap.last), (records + 1, 12), "cut at {len}");
        assert_eq!(gap.readings, Some(2 * (12 - records)), "cut at {len}");
        kept.insert(records);
    }
    assert!(kept.into_iter().eq(6..12));
}

#[test]
fn what_was_written_and_never_confirmed_is_a_torn_tail_and_no_gap() {
    let (sim, files) = killed();
    let mut torn = sim.read(files.last().unwrap()).unwrap();
    torn.extend_from_slice(&[7; 90]);
    sim.put(files.last().unwrap(), &torn);
    assert_eq!(looked_at(&sim), []);
    let bench = open(&sim);
    assert_eq!((bench.recovery.torn_bytes, bench.recovery.cut_off), (90, None));
    assert_eq!(gaps_of(&bench, 0), []);
}

#[test]
fn without_any_segment_what_is_behind_the_checkpoint_is_a_gap() {
    let (sim, files) = killed();
    files.iter().for_each(|path| sim.storage().remove(path).unwrap());
    let whole = JournalGap { first: 1, last: 12, bytes: 0, readings: Some(24) };
    assert_eq!(looked_at(&sim), [JournalGap { readings: None, ..whole }]);
    let bench = open(&sim);
    assert_eq!(bench.journal.last(), 12, "no number is given twice");
    let gap = |first| JournalGap { first, last: 12, bytes: 0, readings: None };
    assert_eq!(gaps_of(&bench, 5), [gap(6)]);
    assert_eq!(gaps_of(&bench, 0), [whole], "nothing was let go of before the first checkpoint");
    assert_eq!(gaps_of(&bench, 12), []);
}

#[test]
fn oldest_segments_that_are_gone_are_a_gap_behind_the_checkpoint_and_none_before_it() {
    let (sim, files) = killed();
    sim.storage().remove(&files[0]).unwrap();
    let bench = open(&sim);
    let first = bench.journal.first();
    assert!(first > 1);
    bench.durable(99, &[1]);
    assert_eq!(bench.read(first - 1).1, []);
    let gaps = bench.read(1).1;
    assert_eq!(gaps.iter().map(|gap| (gap.first, gap.last)).collect::<Vec<_>>(), [(2, first - 1)]);
}

#[test]
fn a_mark_that_is_gone_or_rotten_or_cannot_be_written_costs_nothing_else() {
    let (sim, files) = killed();
    let mark = PathBuf::from(DIR).join("mark");
    assert!(sim.read(&mark).is_some());
    sim.rot(&mark, 9, 1);
    sim.put(files.last().unwrap(), b"");
    let bench = open(&sim);
    assert_eq!(bench.recovery.cut_off, None);
    sim.fail_writes("mark");
    bench.durable(50, &[1]);
    assert_eq!(config().dir, Path::new(DIR));
}

/// Changes a byte of each of these records, which are in the newest segment.
fn rot(sim: &SimDisk, path: &Path, numbers: std::ops::RangeInclusive<u64>) {
    let content = sim.read(path).unwrap();
    let mut at = 64;
    while at + 16 <= content.len() {
        let word = |at: usize| content[at..at + 4].try_into().map(u32::from_le_bytes).unwrap();
        let (len, number) = (word(at) as usize, u64::from(word(at + 8)));
        if numbers.contains(&number) {
            sim.rot(path, at + 16 + len - 1, 1);
        }
        at += 16 + len;
    }
}

#[test]
fn of_a_gap_that_begins_before_the_checkpoint_what_is_behind_it_counts() {
    for (rotten, last) in [(8..=12, 12), (8..=10, 10), (9..=11, 11), (8..=9, 9)] {
        for known in [true, false] {
            let (sim, files) = killed();
            rot(&sim, files.last().unwrap(), rotten.clone());
            let bench = open(&sim);
            if known {
                bench.journal.folded(9, 18);
            }
            let gaps = gaps_of(&bench, 9);
            let readings = known.then_some(2 * (last - 9));
            let told: Vec<_> = gaps.iter().map(|gap| (gap.first, gap.last, gap.readings)).collect();
            let expected = if last > 9 { vec![(10, last, readings)] } else { Vec::new() };
            assert_eq!(told, expected, "{rotten:?}, known {known}");
        }
    }
}

#[test]
fn a_mark_of_another_log_says_nothing() {
    let (sim, _) = killed();
    let mark = PathBuf::from(DIR).join("mark");
    let other = SimDisk::new(4);
    let bench = open(&other);
    bench.durable(1, &[1]);
    other.kill();
    drop(bench);
    other.put(&mark, &sim.read(&mark).unwrap());
    assert_eq!(looked_at(&other), []);
    let bench = open(&other);
    assert_eq!((bench.recovery.cut_off, bench.journal.last()), (None, 1));
    assert_eq!(gaps_of(&bench, 0), []);
}
