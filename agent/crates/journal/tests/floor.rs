//! What the journal leaves to others on its disk: it pushes back before the floor is broken, and below the floor it takes so
//! much that what is on its way to a collector finds a place.
#![allow(clippy::unwrap_used, reason = "a test may end so")]

mod support;

use std::path::Path;

use journal::{AppendError, Fullness, Holder, JournalConfig};
use seglog::sim::SimDisk;
use support::{Bench, config, open_stepped_with};
use telemetry::Position;

const DISK: u64 = 200_000;
const MIN_FREE: u64 = 120_000;
const RESERVE: u64 = 16_384;

/// A journal that may be larger than its disk, of which others are to have a part.
fn open(sim: &SimDisk) -> Bench {
    sim.set_capacity(Some(DISK));
    let floor = JournalConfig { min_free_bytes: MIN_FREE, floor_reserve_bytes: RESERVE, ..config() };
    let bench = open_stepped_with(sim, floor);
    bench.journal.release(Holder::Sessions, Position::MAX);
    bench
}

/// Appends small records, each committed by itself, until one is refused.
fn fill(bench: &Bench) -> Fullness {
    for id in 1..100_000 {
        match bench.journal.append(&bench.intake(id, &[1, 2, 3])) {
            Ok(_) => drop(bench.journal.step()),
            Err(AppendError::Full { what, .. }) => return what,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("nothing refused it: {:?}", bench.journal.usage());
}

/// Lets go of all that is durable, as the fold does once it is in batches.
fn let_go(bench: &Bench) {
    bench.journal.release(Holder::Fold, bench.journal.last());
    bench.journal.step();
}

#[test]
fn inputs_are_pushed_back_before_others_have_less_than_they_are_to_have() {
    let sim = SimDisk::new(1);
    let bench = open(&sim);
    assert_eq!(fill(&bench), Fullness::Floor);
    let left = DISK - sim.used();
    assert!((MIN_FREE..MIN_FREE + 1000).contains(&left), "{left}");
    let usage = bench.journal.usage();
    assert_eq!((usage.refusing, usage.free_bytes), (Some(Fullness::Floor), Some(left)));
    assert!(usage.limit_bytes < usage.max_bytes);
    let_go(&bench);
    assert_eq!(bench.journal.usage().refusing, None, "what was let go makes room");
    bench.journal.append(&bench.intake(1, &[1, 2, 3])).unwrap();
}

#[test]
fn below_the_floor_so_much_is_taken_as_the_reserve_holds_and_more_once_that_was_let_go() {
    let sim = SimDisk::new(1);
    let bench = open(&sim);
    // More than half of what it may hold, then others take the disk.
    for id in 1..=400 {
        bench.journal.append(&bench.intake(id, &[1, 2, 3])).unwrap();
        bench.journal.step();
    }
    let held = bench.journal.usage().bytes;
    assert!(held > 2 * RESERVE, "{held}");
    sim.put(Path::new("/others"), &vec![0; (DISK - sim.used() - MIN_FREE + 75_000) as usize]);
    // The first finds no less than before; its commit looks at the disk.
    _ = bench.journal.append(&bench.intake(1, &[1]));
    bench.journal.step();
    let refused = bench.journal.append(&bench.intake(1, &[1]));
    assert!(matches!(refused, Err(AppendError::Full { what: Fullness::Floor, .. })), "{refused:?}");
    for _ in 0..20 {
        let_go(&bench);
        let before = bench.journal.last();
        assert_eq!(fill(&bench), Fullness::Floor);
        assert!(bench.journal.last() > before + 10, "it goes on");
        // One segment of before may still be there beside the reserve.
        let held = bench.journal.usage().bytes;
        assert!(held <= RESERVE + RESERVE / 4 + 1000, "{held}");
    }
}

#[test]
fn a_record_larger_than_the_reserve_gets_through_by_itself_if_the_disk_can_hold_it() {
    let sim = SimDisk::new(1);
    let bench = open(&sim);
    sim.put(Path::new("/others"), &vec![0; (DISK - MIN_FREE + 10_000) as usize]);
    let large: Vec<u32> = (0..350).collect();
    bench.journal.append(&bench.intake(1, &[1])).unwrap();
    bench.journal.step();
    bench.journal.append(&bench.intake(1, &large)).unwrap();
    bench.journal.step();
    assert!(bench.journal.usage().bytes > RESERVE);
    let refused = bench.journal.append(&bench.intake(2, &large));
    assert!(matches!(refused, Err(AppendError::Full { what: Fullness::Floor, .. })), "{refused:?}");
    assert_eq!(bench.journal.usage().refusing, Some(Fullness::Floor));
    let_go(&bench);
    bench.journal.append(&bench.intake(3, &large)).unwrap();
    bench.journal.step();
    // What is left for others is not taken for it.
    sim.put(Path::new("/more"), &vec![0; 60_000]);
    let_go(&bench);
    assert!(bench.journal.append(&bench.intake(4, &large)).is_err());
    let small = bench.journal.append(&bench.intake(4, &[1]));
    assert!(small.is_ok(), "{small:?} {:?}", bench.journal.usage());
}

#[test]
fn what_would_be_refused_is_told_before_anyone_tries_and_no_longer_than_it_lasts() {
    let sim = SimDisk::new(1);
    let cap = 16 * 1024;
    let bench = open_stepped_with(&sim, JournalConfig { max_bytes: cap, ..config() });
    assert_eq!(bench.journal.usage().refusing, None);
    let large: Vec<u32> = (0..200).collect();
    assert!(bench.journal.append(&bench.intake(1, &large)).is_ok());
    bench.journal.step();
    while bench.journal.usage().bytes + 500 < cap {
        bench.journal.append(&bench.intake(1, &[1])).unwrap();
        bench.journal.step();
    }
    assert_eq!(bench.journal.usage().refusing, None, "one small record has room");
    assert!(bench.journal.append(&bench.intake(1, &large)).is_err());
    assert_eq!(bench.journal.usage().refusing, Some(Fullness::Cap), "one like the refused has none");
    while bench.journal.append(&bench.intake(1, &[1])).is_ok() {
        bench.journal.step();
    }
    // A start finds it as full.
    drop(bench);
    let bench = open_stepped_with(&sim, JournalConfig { max_bytes: cap, ..config() });
    assert_eq!(bench.journal.usage().refusing, Some(Fullness::Cap));
    bench.journal.release(Holder::Sessions, Position::MAX);
    bench.journal.release(Holder::Fold, bench.journal.last());
    bench.journal.step();
    let small = bench.journal.usage();
    assert_eq!(small.refusing, None, "{small:?}");
}
