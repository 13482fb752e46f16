//! Files that the disk doesn't give at all, EIO from the first call on: they are moved aside and are a gap, and what is
//! beside them is kept.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end so")]

mod support;

use std::path::Path;

use seglog::sim::SimDisk;
use seglog::{Cell, Gap, Log, OpenError};
use support::{SMALL, dir, open, payload, read_all};

const RECORDS: u64 = 60;

/// A log of several segments, and their paths.
fn filled(sim: &SimDisk) -> Vec<std::path::PathBuf> {
    let (mut log, _) = open(sim.storage());
    for number in 1..=RECORDS {
        log.append(&payload(number, 100)).unwrap();
        log.sync().unwrap();
    }
    drop(log);
    sim.paths().into_iter().filter(|path| path.extension().is_some_and(|is| is == "seg")).collect()
}

#[test]
fn each_segment_that_cannot_be_opened_is_set_aside_and_its_neighbours_are_kept() {
    let count = filled(&SimDisk::new(1)).len();
    assert!(count > 4);
    for at in 0..count {
        let sim = SimDisk::new(1);
        let segments = filled(&sim);
        let first = support::first_of(&segments[at]);
        let end = segments.get(at + 1).map_or(RECORDS + 1, |next| support::first_of(next));
        sim.fail_opens(&segments[at]);
        let (mut log, recovery) = open(sim.storage());
        assert_eq!(recovery.unverified, None);
        let [moved] = &recovery.set_aside[..] else { panic!("{recovery:?}") };
        assert!(moved.starts_with(dir().join("quarantine")) && sim.paths().contains(moved));
        assert!(!sim.paths().contains(&segments[at]));
        let next = log.append(b"goes on").unwrap();
        log.sync().unwrap();
        assert!(next > RECORDS, "no number is given twice");
        let (records, gaps) = read_all(&log);
        let kept: Vec<u64> = records.iter().map(|(number, _)| *number).collect();
        let expected: Vec<u64> = (1..first).chain(end..=RECORDS).chain([next]).collect();
        assert_eq!(kept, expected);
        assert!(records[..records.len() - 1].iter().all(|(number, bytes)| *bytes == payload(*number, 100)));
        match at {
            // Before the first there is nothing that could tell.
            0 => assert_eq!(gaps, []),
            // How many were in the newest nobody knows: one at least.
            _ if at == count - 1 => assert_eq!(gaps, [Gap { first, last: first, bytes: 0 }]),
            _ => assert_eq!(gaps, [Gap { first, last: end - 1, bytes: 0 }]),
        }
        drop(log);
        // The next start finds nothing new.
        let (log, recovery) = open(sim.storage());
        assert_eq!((recovery.set_aside.len(), read_all(&log).0), (0, records));
    }
}

#[test]
fn a_log_of_one_segment_that_cannot_be_opened_begins_anew_behind_it() {
    let sim = SimDisk::new(2);
    let (mut log, _) = open(sim.storage());
    log.append(b"a").unwrap();
    log.append(b"b").unwrap();
    log.sync().unwrap();
    drop(log);
    let segments = sim.paths().into_iter().filter(|path| path.extension().is_some_and(|is| is == "seg"));
    segments.for_each(|path| sim.fail_opens(&path));
    let (mut log, recovery) = open(sim.storage());
    assert_eq!((recovery.set_aside.len(), recovery.unverified), (1, None));
    assert!(log.append(b"c").unwrap() > 2);
    log.sync().unwrap();
    assert_eq!(read_all(&log).0.len(), 1);
}

#[test]
fn a_cell_that_cannot_be_opened_is_damaged_and_takes_values_again() {
    let sim = SimDisk::new(3);
    sim.storage().create_dir_all(Path::new("/data")).unwrap();
    let path = Path::new("/data/cursor");
    let open = || Cell::open(sim.storage(), path, 100);
    open().unwrap().set(b"before").unwrap();
    sim.fail_opens(path);
    let mut cell = open().unwrap();
    assert!(cell.damaged() && cell.get().is_none());
    cell.set(b"after").unwrap();
    let cell = open().unwrap();
    assert_eq!((cell.get().unwrap(), cell.damaged()), (b"after".to_vec(), false));
    assert!(sim.paths().contains(&Path::new("/data/cursor.unreadable").to_owned()));
}

#[test]
fn a_folder_that_cannot_be_listed_is_an_error_that_says_what_to_do() {
    let sim = SimDisk::new(4);
    filled(&sim);
    sim.fail_lists(&dir());
    let Err(error @ OpenError::Io { .. }) = Log::open(sim.storage(), &dir(), SMALL) else {
        panic!("nothing is there");
    };
    let said = error.to_string();
    for part in ["/data/log can't be listed", "its disk fails", "dmesg", "agent.data_dir", "stays as it is"] {
        assert!(said.contains(part), "{part} in {said}");
    }
}
