//! Journal, its mark, the spool, its cursor and the fold's checkpoint each know a position. Whichever of them is taken away, no
//! number is given twice, and what comes then arrives.
#![allow(clippy::unwrap_used, reason = "a test may end so")]

mod support;

use std::path::{Path, PathBuf};

use folding::Checkpoint;
use seglog::sim::SimDisk;
use spool::{Part, Readings};
use support::{Bench, CHECKPOINT, START, balances, remove, segments, start};
use telemetry::Cause;

/// What may be taken away, each without the others.
const PARTS: [&str; 5] = ["journal", "mark", "spool", "cursor", "checkpoint"];

fn take_away(disk: &SimDisk, part: &str) {
    let paths = match part {
        "journal" => segments(disk, "/data/journal"),
        "spool" => segments(disk, "/data/spool"),
        "mark" => return remove(disk, "/data/journal/mark"),
        "cursor" => return remove(disk, "/data/spool/cursor"),
        _ => return remove(disk, CHECKPOINT),
    };
    paths.iter().for_each(|path| disk.storage().remove(path).unwrap());
}

/// After so many milliseconds' work; then the process was killed with five readings that nobody has folded.
fn worked(ms: u64) -> Bench {
    let mut bench = start(SimDisk::new(1), START);
    for _ in 0..30 {
        bench.take(&["level", "flow"]);
    }
    bench.pass(ms);
    let mut bench = bench.killed();
    bench.take(&["level"]);
    bench.pass(ms);
    let intake = bench.intake(&["level"; 5]);
    bench.journal.append(&intake).unwrap();
    bench.journal.step();
    bench
}

#[test]
fn whichever_of_them_are_taken_away_what_comes_then_arrives() {
    for ms in [300, 2000, 11_000] {
        for subset in 0..1 << PARTS.len() {
            let gone: Vec<_> =
                (0..PARTS.len()).filter(|at| subset & (1 << at) != 0).map(|at| PARTS[at]).collect();
            let mut bench = worked(ms);
            bench.now.wall += 1_000_000_000;
            let since = bench.now.wall;
            gone.iter().for_each(|part| take_away(&bench.disk, part));
            bench.disk.kill();
            let before = bench.disk.clone();
            let known = Checkpoint::peek(&*before.storage(), Path::new(CHECKPOINT)).unwrap();
            let mut bench = bench.killed();
            // Twice: what the first start makes of it the second goes on with.
            for _ in 0..2 {
                for _ in 0..15 {
                    bench.take(&["level"]);
                }
                bench.pass(2000);
                bench.spool.cut().unwrap();
                balances(&bench.counts());
                assert!(bench.counts().get(Cause::Received) >= 15, "without {gone:?} after {ms} ms");
                bench = bench.killed();
            }
            if let Some(saved) = known.filter(|saved| saved.position > 0) {
                assert!(bench.journal.last() > saved.position, "without {gone:?} after {ms} ms");
            }
            let samples: Vec<_> = bench
                .payloads()
                .iter()
                .flat_map(|payload| payload.samples().map(|(_, time, ..)| time).collect::<Vec<_>>())
                .collect();
            let fresh = samples.iter().filter(|time| **time >= since).count();
            assert_eq!(fresh, 30, "without {gone:?} after {ms} ms: {:?}", bench.damage());
            balances(&bench.counts());
        }
    }
}

#[test]
fn a_journal_that_is_gone_with_the_spool_is_noted_behind_the_checkpoint() {
    let bench = worked(11_000);
    let saved = Checkpoint::peek(&*bench.disk.storage(), Path::new(CHECKPOINT)).unwrap().unwrap();
    remove(&bench.disk, "/data/journal");
    remove(&bench.disk, "/data/spool");
    let mut bench = bench.killed();
    assert!(bench.journal.first() > saved.position, "no number is given twice");
    bench.pass(2000);
    let noted = bench.damage();
    let journal = noted.iter().find(|damage| damage.part == Part::Journal).unwrap();
    assert_eq!((journal.first, journal.last, journal.readings), (1, saved.position, Readings::Unknown));
    assert!(noted.iter().any(|damage| damage.part == Part::Spool), "{noted:?}");
}

/// Twenty readings are folded, and the checkpoint is behind them; seven and two more are durable in the same segment and not
/// folded.
fn folded_within_a_segment() -> (Bench, PathBuf) {
    let mut bench = start(SimDisk::new(1), START);
    for _ in 0..20 {
        bench.take(&["level"]);
    }
    bench.pass(11_000);
    for names in [&["level"; 7][..], &["level"; 2]] {
        let intake = bench.intake(names);
        bench.journal.append(&intake).unwrap();
    }
    bench.journal.step();
    let files = segments(&bench.disk, "/data/journal");
    let [file] = &files[..] else { panic!("{files:?}") };
    let saved = Checkpoint::peek(&*bench.disk.storage(), Path::new(CHECKPOINT)).unwrap().unwrap();
    assert!(saved.position > 20 && bench.spool.position() <= saved.position);
    let file = file.clone();
    (bench, file)
}

fn loses(bench: Bench, readings: u64) {
    let mut bench = bench.killed();
    for _ in 0..2 {
        bench.pass(2000);
        bench.spool.cut().unwrap();
        let damage = bench.damage();
        let journal: Vec<_> = damage.iter().filter(|damage| damage.part == Part::Journal).collect();
        assert!(
            matches!(journal[..], [damage] if damage.readings == Readings::Exactly(readings)),
            "{damage:?}"
        );
        assert_eq!(bench.counts().get(Cause::Damaged), readings);
        balances(&bench.counts());
        bench = bench.killed();
    }
    let (samples, _, _) = bench.leave();
    assert_eq!(samples + readings, 29, "each arrives or is counted");
}

#[test]
fn a_segment_cut_off_before_the_checkpoint_loses_what_is_behind_that() {
    let (bench, file) = folded_within_a_segment();
    let content = bench.disk.read(&file).unwrap();
    bench.disk.put(&file, &content[..400]);
    loses(bench, 9);
}

#[test]
fn a_hole_around_the_checkpoint_loses_what_is_behind_that_also_without_a_mark() {
    let (bench, file) = folded_within_a_segment();
    let mut content = bench.disk.read(&file).unwrap();
    let mut last = 64;
    loop {
        let len = content[last..last + 4].try_into().map(u32::from_le_bytes).unwrap() as usize;
        if last + 16 + len == content.len() {
            break;
        }
        last += 16 + len;
    }
    content[400..last].fill(0);
    bench.disk.put(&file, &content);
    remove(&bench.disk, "/data/journal/mark");
    loses(bench, 7);
}

#[test]
fn without_segments_before_the_first_checkpoint_the_mark_counts_what_no_batch_has() {
    let mut bench = start(SimDisk::new(1), START);
    bench.take(&["level"]);
    bench.pass(6000);
    bench.spool.cut().unwrap();
    let folded = bench.spool.position();
    let intake = bench.intake(&["level"; 7]);
    let last = bench.journal.append(&intake).unwrap();
    bench.journal.step();
    take_away(&bench.disk, "journal");
    let mut bench = bench.killed();
    bench.pass(2000);
    bench.spool.cut().unwrap();
    let [damage] = bench.damage()[..] else { panic!("{:?}", bench.damage()) };
    assert_eq!((damage.part, damage.first, damage.last), (Part::Journal, folded + 1, last));
    assert_eq!(damage.readings, Readings::Exactly(7));
    assert_eq!(bench.counts().get(Cause::Damaged), 7);
    balances(&bench.counts());
    assert_eq!(bench.driver.watch().progress(0).missing, None, "nothing was folded that isn't known");
}
