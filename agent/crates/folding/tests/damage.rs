//! What damage takes of readings that were in open windows, in records that no batch has, or in a spool that is gone: it is
//! counted where anybody knows how much it was, and noted for good in any case.
#![allow(clippy::unwrap_used, reason = "a test may end so")]

mod support;

use std::path::{Path, PathBuf};

use folding::Step;
use seglog::sim::SimDisk;
use spool::{Part, Readings};
use support::{
    Bench, CHECKPOINT, SECOND, SHORT, START, balances, remove, rot_record, segments, start, start_with,
};
use telemetry::{Cause, Intake, Position, Record, SeriesDef, SeriesKey};

#[test]
fn readings_of_open_windows_whose_record_rots_once_it_is_folded_are_counted_and_stay_noted() {
    let mut bench = start(SimDisk::new(1), START);
    bench.take(&["flow"; 3]);
    let rotten = bench.take(&["flow", "flow", "level"]);
    bench.take(&["flow"]);
    bench.pass(6000);
    assert!(bench.spool.position() > rotten, "batches have it, and count it as reduced");
    rot_record(&bench.disk, rotten);
    let mut bench = bench.killed();
    bench.pass(2000);
    let [damage] = bench.damage()[..] else { panic!("{:?}", bench.damage()) };
    assert_eq!((damage.part, damage.first, damage.last), (Part::Windows, rotten, rotten));
    assert_eq!((damage.readings, damage.again), (Readings::Exactly(2), 0));
    let (from, to) = (damage.from_ns.unwrap(), damage.to_ns.unwrap());
    assert!((START.wall..START.wall + SECOND as i64).contains(&from) && from < to && to <= bench.now.wall);
    balances(&bench.counts());
    assert_eq!(bench.counts().get(Cause::Damaged), 2);
    let lost = bench.spool.usage().lost;
    assert_eq!((lost.len(), lost[0].cause, lost[0].count), (1, Cause::Damaged, 2));
    for killed in [false, true, false] {
        bench = if killed { bench.killed() } else { bench.restarted() };
        bench.pass(2000);
        assert_eq!(bench.damage(), [damage]);
        assert_eq!(bench.counts().get(Cause::Damaged), 2, "once");
    }
    let (samples, windowed, events) = bench.leave();
    assert_eq!((samples, windowed), (1, 4), "the rest is there");
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].contains("2 readings are lost"), "{events:?}");
    balances(&bench.counts());
}

/// The window of the first readings has left, in a batch, because of one record, which is given; it is the journal's last, or not.
fn closed_by_one_record(last: bool) -> (Bench, Position) {
    let mut bench = start_with(SimDisk::new(1), START, SHORT);
    bench.take(&["flow"; 3]);
    bench.now.wall += 10 * SECOND as i64;
    bench.now.mono += SECOND / 2;
    let closing = bench.take(&["flow"]);
    if !last {
        let off = Record::Model { stamp: bench.now, slot: "none".into(), model: None };
        bench.journal.append(&off).unwrap();
        bench.journal.step();
    }
    bench.spool.cut().unwrap();
    assert!(bench.spool.position() >= closing);
    assert_eq!(bench.spool.spooled().unwrap().open.unwrap().readings, 1);
    (bench, closing)
}

fn is_not_stored_again(last: bool) {
    let (bench, closing) = closed_by_one_record(last);
    rot_record(&bench.disk, closing);
    let mut bench = bench.killed();
    // A late one of that window, which is given up at the next start with what it took, if no checkpoint came before.
    bench.now.wall -= 10 * SECOND as i64;
    bench.take(&["flow"]);
    bench.now.wall += 10 * SECOND as i64;
    bench.spool.cut().unwrap();
    let [damage] = bench.damage()[..] else { panic!("{:?}", bench.damage()) };
    assert_eq!((damage.part, damage.last), (Part::Windows, closing));
    assert_eq!((damage.readings, damage.again), (Readings::Exactly(1), 0), "the rotten one");
    let mut bench = bench.killed();
    bench.pass(2000);
    let lost = bench.counts().get(Cause::Damaged);
    let (_, windowed, _) = bench.leave();
    assert_eq!(windowed + lost, 5, "each is stored once or counted");
    assert!(lost <= 2, "{lost}");
    balances(&bench.counts());
}

#[test]
fn a_window_that_a_rotten_record_had_closed_is_not_stored_again() {
    is_not_stored_again(false);
}

#[test]
fn nor_where_the_rotten_record_was_the_journals_last() {
    is_not_stored_again(true);
}

#[test]
fn after_a_window_was_given_up_a_checkpoint_without_it_comes_at_once() {
    let (bench, closing) = closed_by_one_record(false);
    rot_record(&bench.disk, closing);
    let mut bench = bench.killed();
    bench.pass(600);
    bench.pass(600);
    let mut bench = bench.killed();
    bench.now.wall -= 10 * SECOND as i64;
    bench.take(&["flow"]);
    bench.now.wall += 10 * SECOND as i64;
    bench.spool.cut().unwrap();
    let mut bench = bench.killed();
    bench.pass(2000);
    assert_eq!(bench.counts().get(Cause::Damaged), 1, "the rotten one alone");
    let (_, windowed, _) = bench.leave();
    assert_eq!(windowed, 4);
}

#[test]
fn a_record_that_was_gone_when_its_turn_came_first_costs_open_windows_nothing() {
    let mut bench = start_with(SimDisk::new(1), START, SHORT);
    bench.take(&["flow"; 3]);
    // Durable, and not folded.
    let mut intake = Intake::new(0, bench.now);
    intake.counts.add(Cause::Received, 5);
    let rotten = bench.journal.append(&Record::Intake(intake.clone())).unwrap();
    bench.journal.append(&Record::Intake(intake)).unwrap();
    bench.journal.step();
    rot_record(&bench.disk, rotten);
    let mut bench = bench.killed();
    bench.pass(100);
    // A window that has left since then, and one of the same time that is open.
    bench.now.wall += 10 * SECOND as i64;
    bench.take(&["flow"]);
    bench.now.wall -= 10 * SECOND as i64;
    bench.take(&["flow"]);
    bench.now.wall += 10 * SECOND as i64;
    bench.spool.cut().unwrap();
    let mut bench = bench.killed();
    bench.pass(100);
    assert_eq!(bench.damage().len(), 1, "{:?}", bench.damage());
    assert_eq!(bench.counts().get(Cause::Damaged), 5);
    let (_, windowed, _) = bench.leave();
    assert_eq!(windowed, 5);
}

#[test]
fn readings_of_a_record_that_no_batch_has_are_counted_and_stay_noted() {
    let mut bench = start(SimDisk::new(1), START);
    bench.take(&["flow"]);
    bench.pass(2000);
    // Durable, and not folded.
    let mut intake = Intake::new(0, bench.now);
    intake.counts.add(Cause::Received, 5);
    let rotten = bench.journal.append(&Record::Intake(intake.clone())).unwrap();
    bench.journal.append(&Record::Intake(intake)).unwrap();
    bench.journal.step();
    rot_record(&bench.disk, rotten);
    let mut bench = bench.killed();
    for killed in [false, true, false] {
        bench.pass(2000);
        let [damage] = bench.damage()[..] else { panic!("{:?}", bench.damage()) };
        assert_eq!((damage.part, damage.first, damage.last), (Part::Journal, rotten, rotten));
        assert_eq!(damage.readings, Readings::Exactly(5));
        assert_eq!(bench.counts().get(Cause::Damaged), 5);
        bench = if killed { bench.killed() } else { bench.restarted() };
    }
    let (_, windowed, events) = bench.leave();
    assert_eq!((windowed, events.len()), (1, 1), "{events:?}");
}

/// Three records are folded; two more, with five readings, are durable, and the process is killed before they are read.
fn killed_with_unread_records() -> Bench {
    let mut bench = start(SimDisk::new(1), START);
    bench.take(&["level"; 3]);
    bench.pass(11_000);
    // What comes now is in a segment of its own.
    let mut bench = bench.killed();
    bench.take(&["level"]);
    bench.pass(11_000);
    for names in [&["level"; 3][..], &["level"; 2]] {
        let intake = bench.intake(names);
        bench.journal.append(&intake).unwrap();
    }
    bench.journal.step();
    bench
}

#[test]
fn an_emptied_newest_segment_costs_what_was_received_in_it_and_no_batch_has() {
    let bench = killed_with_unread_records();
    let (position, last) = (bench.spool.position(), bench.journal.last());
    bench.disk.put(segments(&bench.disk, "/data/journal").last().unwrap(), b"");
    let mut bench = bench.killed();
    bench.pass(2000);
    let [damage] = bench.damage()[..] else { panic!("{:?}", bench.damage()) };
    assert_eq!((damage.part, damage.first, damage.last), (Part::Journal, position + 1, last));
    assert_eq!(damage.readings, Readings::Exactly(5));
    balances(&bench.counts());
    assert_eq!(bench.counts().get(Cause::Damaged), 5);
    let mut bench = bench.killed();
    bench.pass(2000);
    assert_eq!((bench.damage().len(), bench.counts().get(Cause::Damaged)), (1, 5), "once");
}

#[test]
fn a_journal_without_segments_is_noted_up_to_the_last_record_that_was_confirmed() {
    let bench = killed_with_unread_records();
    let (position, last) = (bench.spool.position(), bench.journal.last());
    segments(&bench.disk, "/data/journal").iter().for_each(|path| bench.disk.storage().remove(path).unwrap());
    let mut bench = bench.killed();
    bench.pass(2000);
    let [damage] = bench.damage()[..] else { panic!("{:?}", bench.damage()) };
    assert_eq!((damage.part, damage.first, damage.last), (Part::Journal, position + 1, last));
    assert_eq!(damage.readings, Readings::Exactly(5), "the mark and the checkpoint know");
    balances(&bench.counts());
}

#[test]
fn a_journal_without_segments_that_batches_have_all_of_is_noted_as_no_loss() {
    let mut bench = start(SimDisk::new(1), START);
    bench.take(&["level"; 3]);
    let mut bench = bench.restarted();
    // Killed before this start writes a checkpoint of its own.
    bench.take(&["level"]);
    bench.pass(6000);
    segments(&bench.disk, "/data/journal").iter().for_each(|path| bench.disk.storage().remove(path).unwrap());
    let mut bench = bench.killed();
    bench.pass(2000);
    assert!(
        bench.damage().iter().all(|damage| damage.readings == Readings::Exactly(0)),
        "{:?}",
        bench.damage()
    );
    assert_eq!(bench.counts().get(Cause::Damaged), 0);
    let (samples, _, events) = bench.leave();
    assert_eq!((samples, events), (4, Vec::new()));
}

#[test]
fn damage_whose_readings_nobody_knows_is_noted_as_such_and_told_to_the_collector() {
    let mut bench = start(SimDisk::new(1), START);
    for _ in 0..200 {
        bench.take(&["level"]);
    }
    // A start whose first segment holds what isn't folded: nobody knows what was in it.
    let bench = bench.killed();
    let newest = segments(&bench.disk, "/data/journal").pop().unwrap();
    let mut intake = Intake::new(0, bench.now);
    intake.counts.add(Cause::Received, 5);
    bench.journal.append(&Record::Intake(intake)).unwrap();
    bench.journal.step();
    bench.disk.fail_opens(&newest);
    // As of a version that left no mark.
    remove(&bench.disk, "/data/journal/mark");
    let mut bench = bench.killed();
    bench.pass(2000);
    let unknown = |bench: &Bench| bench.damage().iter().any(|known| known.readings == Readings::Unknown);
    assert!(unknown(&bench), "{:?}", bench.damage());
    let mut bench = bench.restarted();
    assert!(unknown(&bench));
    let (.., events) = bench.leave();
    assert!(events.iter().any(|body| body.contains("an unknown number of readings")), "{events:?}");
}

#[test]
fn what_open_windows_held_is_counted_when_the_checkpoint_is_gone() {
    let mut bench = start(SimDisk::new(1), START);
    for _ in 0..900 {
        bench.take(&["flow"]);
    }
    bench.pass(2000);
    assert!(bench.journal.first() > 1, "the journal let go of what the window holds");
    remove(&bench.disk, CHECKPOINT);
    let mut bench = bench.killed();
    bench.pass(2000);
    let lost = bench.counts().get(Cause::Damaged);
    assert!(lost > 0, "the fold begins anew");
    let mut bench = bench.restarted();
    let [damage] = bench.damage()[..] else { panic!("{:?}", bench.damage()) };
    assert_eq!((damage.part, damage.readings), (Part::Windows, Readings::Exactly(lost)));
    let (_, windowed, _) = bench.leave();
    assert_eq!(windowed + lost, 900);
    balances(&bench.counts());
}

#[test]
fn a_spool_that_is_gone_leaves_a_note_of_what_was_not_acknowledged() {
    let mut bench = start(SimDisk::new(1), START);
    for _ in 0..900 {
        bench.take(&["level"]);
    }
    bench.pass(20_000);
    let usage = bench.spool.usage();
    assert!(usage.batches > 3);
    remove(&bench.disk, "/data/spool");
    let mut bench = bench.killed();
    bench.pass(2000);
    let [damage] = bench.damage()[..] else { panic!("{:?}", bench.damage()) };
    assert_eq!((damage.part, damage.first), (Part::Spool, 1));
    assert!(damage.last + 3 > usage.batches, "{damage:?}");
    let Readings::AtMost(lost) = damage.readings else { panic!("{damage:?}") };
    assert!((800..=900).contains(&lost), "{lost}");
    assert_eq!(damage.from_ns, Some(START.wall));
    let mut bench = bench.restarted();
    assert_eq!(bench.damage(), [damage]);
    let (.., events) = bench.leave();
    assert_eq!(events, [damage.sentence()]);
}

#[test]
fn a_segment_that_the_disk_stops_giving_is_passed_over_after_a_while_with_its_readings_counted() {
    let mut bench = start(SimDisk::new(1), START);
    bench.pass(1000);
    // More than one segment that isn't folded yet.
    let mut intake = Intake::new(0, bench.now);
    let key = SeriesKey::new("level", [("device", "tank")]).unwrap();
    intake.series.push(bench.table.intern(SeriesDef::bare(key)).unwrap());
    intake.push(0, bench.now.wall, 1.0, 0);
    intake.counts.add(Cause::Received, 1);
    for _ in 0..200 {
        bench.journal.append(&Record::Intake(intake.clone())).unwrap();
        bench.journal.step();
    }
    let all = segments(&bench.disk, "/data/journal");
    assert!(all.len() > 4);
    let first =
        |path: &PathBuf| -> u64 { path.file_name().unwrap().to_str().unwrap()[..20].parse().unwrap() };
    let (from, to) = (first(&all[2]), first(&all[3]));
    bench.disk.fail_opens(&all[2]);
    bench.pass(3000);
    let blocked = bench.driver.watch().progress(bench.journal.last()).blocked;
    assert!(blocked.unwrap().contains("can't be read"), "the disk may give it yet");
    assert_eq!(bench.counts().get(Cause::Damaged), 0);
    for _ in 0..10 {
        bench.pass(1000);
    }
    assert_eq!(bench.driver.watch().progress(bench.journal.last()).blocked, None);
    let [damage] = bench.damage()[..] else { panic!("{:?}", bench.damage()) };
    assert_eq!((damage.part, damage.first, damage.last), (Part::Journal, from, to - 1));
    assert_eq!(damage.readings, Readings::Exactly(to - from));
    assert_eq!(bench.counts().get(Cause::Damaged), to - from);
    assert_eq!(bench.counts().get(Cause::Received), 200, "all others are there");
    balances(&bench.counts());
    // When its turn comes to be unlinked it is kept.
    for _ in 0..40 {
        bench.pass(1000);
    }
    let kept = Path::new("/data/journal/quarantine").join(all[2].file_name().unwrap());
    let paths = bench.disk.paths();
    assert!(paths.contains(&kept) && !paths.contains(&all[2]), "{paths:?}");
}

#[test]
fn a_disk_that_takes_nothing_either_is_waited_for() {
    let mut bench = start(SimDisk::new(1), START);
    bench.pass(1000);
    for _ in 0..200 {
        let mut intake = Intake::new(0, bench.now);
        intake.counts.add(Cause::Received, 1);
        bench.journal.append(&Record::Intake(intake)).unwrap();
        bench.journal.step();
    }
    let all = segments(&bench.disk, "/data/journal");
    all.iter().for_each(|path| bench.disk.fail_opens(path));
    bench.disk.set_capacity(Some(0));
    for _ in 0..30 {
        bench.now.mono += SECOND;
        while bench.driver.step(bench.now) == Step::Progress {}
    }
    assert_eq!(bench.damage(), []);
    bench.disk.give_again();
    bench.disk.set_capacity(None);
    for _ in 0..30 {
        bench.pass(1000);
    }
    assert_eq!(bench.damage(), []);
    assert_eq!(bench.counts().get(Cause::Received), 200);
}
