//! A cell holds its old or its new value after any crash, also on a full disk.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end so")]

mod support;

use std::path::Path;

use proptest::prelude::*;
use seglog::sim::SimDisk;
use seglog::{Cell, CellError};
use support::payload;

fn path() -> &'static Path {
    Path::new("/data/cursor")
}

#[test]
fn a_value_is_there_after_a_crash_and_larger_reserves_keep_it() {
    let sim = SimDisk::new(1);
    let mut cell = Cell::open(sim.storage(), path(), 100).unwrap();
    assert_eq!((cell.get(), cell.damaged()), (None, false));
    for n in 0..5 {
        cell.set(&payload(n, 100)).unwrap();
        sim.crash();
        cell = Cell::open(sim.storage(), path(), 100).unwrap();
        assert_eq!(cell.get(), Some(payload(n, 100)));
    }
    let mut cell = Cell::open(sim.storage(), path(), 100_000).unwrap();
    assert_eq!(cell.get(), Some(payload(4, 100)));
    cell.set(&payload(9, 100_000)).unwrap();
    assert!(matches!(cell.set(&payload(9, 200_000)), Err(CellError::TooLarge { .. })));
    sim.crash();
    let cell = Cell::open(sim.storage(), path(), 10).unwrap();
    assert_eq!(cell.get(), Some(payload(9, 100_000)), "a smaller wish does not shrink the reserve");
}

#[test]
fn a_value_can_be_set_on_a_full_disk() {
    let sim = SimDisk::new(1);
    let mut cell = Cell::open(sim.storage(), path(), 5000).unwrap();
    sim.set_capacity(Some(0));
    for n in 0..4 {
        cell.set(&payload(n, 5000)).unwrap();
    }
    assert_eq!(cell.get(), Some(payload(3, 5000)));
}

#[test]
fn a_failed_fsync_poisons_until_it_is_opened_anew() {
    let sim = SimDisk::new(1);
    let mut cell = Cell::open(sim.storage(), path(), 50).unwrap();
    cell.set(b"old").unwrap();
    sim.fail_sync_after(0);
    assert!(matches!(cell.set(b"new"), Err(CellError::Poisoned { .. })));
    assert!(matches!(cell.set(b"newer"), Err(CellError::Poisoned { .. })));
    assert_eq!(cell.get().as_deref(), Some(b"old".as_slice()));
    let cell = Cell::open(sim.storage(), path(), 50).unwrap();
    let shown = cell.get().unwrap();
    assert!(shown == b"old" || shown == b"new");
    sim.crash();
    assert_eq!(Cell::open(sim.storage(), path(), 50).unwrap().get().unwrap(), shown);
}

#[test]
fn each_flipped_byte_leaves_the_value_or_the_one_before_it() {
    let sim = SimDisk::new(1);
    let mut cell = Cell::open(sim.storage(), path(), 50).unwrap();
    cell.set(b"before").unwrap();
    cell.set(b"value").unwrap();
    let content = sim.read(path()).unwrap();
    for at in 0..content.len() {
        let mut damaged = content.clone();
        damaged[at] ^= 0x10;
        sim.put(path(), &damaged);
        let value = Cell::open(sim.storage(), path(), 50).unwrap().get();
        assert!(matches!(value.as_deref(), Some(b"before" | b"value")), "byte {at}: {value:?}");
    }
    for len in 0..content.len() {
        sim.put(path(), &content[..len]);
        let mut cell = Cell::open(sim.storage(), path(), 50).unwrap();
        cell.set(b"next").unwrap();
        assert_eq!(Cell::open(sim.storage(), path(), 50).unwrap().get().as_deref(), Some(b"next".as_slice()));
    }
    // It is made whole before it takes its name: one that is empty or cut short was more once.
    for content in [&[7; 8192][..], &[], &[0; 4096]] {
        sim.put(path(), content);
        let peeked = Cell::peek(&*sim.storage(), path()).unwrap();
        assert_eq!(peeked, (None, true), "{} bytes", content.len());
        let cell = Cell::open(sim.storage(), path(), 50).unwrap();
        assert_eq!((cell.get(), cell.damaged()), (None, true), "{} bytes", content.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_crash_at_any_call_leaves_the_last_value_set_or_the_one_being_set(
        seed: u64,
        at in 0u64..40,
        lens in prop::collection::vec(0usize..6000, 1..12),
    ) {
        let sim = SimDisk::new(seed);
        sim.crash_after(at);
        let mut set = None;
        let mut trying = None;
        if let Ok(mut cell) = Cell::open(sim.storage(), path(), 6000) {
            for (n, len) in lens.into_iter().enumerate() {
                trying = Some(payload(n as u64, len));
                if cell.set(trying.as_deref().unwrap()).is_err() {
                    break;
                }
                set = trying.take();
            }
        }
        sim.crash();
        let found = Cell::open(sim.storage(), path(), 6000).unwrap().get();
        prop_assert!(found == set || (trying.is_some() && found == trying));
    }
}
