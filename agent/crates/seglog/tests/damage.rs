//! Promise P5 for one log: any damage costs the records it hits, and is reported to the number.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end so")]

mod support;

use std::path::PathBuf;

use seglog::sim::SimDisk;
use seglog::{Gap, Log, Options};
use support::{SMALL, dir, first_of, open, payload, read_all, segment};

const RECORDS: u64 = 25;

/// A log of several segments, as file contents.
fn files() -> Vec<(PathBuf, Vec<u8>)> {
    let sim = SimDisk::new(1);
    let (mut log, _) = open(sim.storage());
    for number in 1..=RECORDS {
        log.append(&payload(number, (number * 37 % 190) as usize)).unwrap();
    }
    log.sync().unwrap();
    let segments = sim.paths().into_iter().filter(|path| path.extension().is_some_and(|e| e == "seg"));
    segments.map(|path| (path.clone(), sim.read(&path).unwrap())).collect()
}

fn disk(files: &[(PathBuf, Vec<u8>)]) -> SimDisk {
    let sim = SimDisk::new(1);
    for (path, content) in files {
        sim.put(path, content);
    }
    sim
}

/// Opens, reads, checks that what is there is right, and returns the missing numbers.
fn missing(log: &Log, gaps: &mut Vec<Gap>) -> Vec<u64> {
    let (records, found) = read_all(log);
    gaps.extend(found);
    assert!(records.is_sorted_by(|a, b| a.0 < b.0));
    for (number, bytes) in &records {
        assert_eq!(*bytes, payload(*number, (number * 37 % 190) as usize), "record {number}");
    }
    (1..=RECORDS).filter(|number| !records.iter().any(|(there, _)| there == number)).collect()
}

#[test]
fn each_flipped_byte_costs_at_most_its_record_and_is_reported() {
    let files = files();
    assert!(files.len() >= 3);
    let last_file = files.len() - 1;
    for (file, (path, content)) in files.iter().enumerate() {
        for at in 0..content.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut damaged = files.clone();
                damaged[file].1[at] ^= mask;
                let sim = disk(&damaged);
                let (mut log, recovery) = open(sim.storage());
                let mut gaps = Vec::new();
                let missing = missing(&log, &mut gaps);
                let what = format!("byte {at} of {} ^ {mask:#x}: {gaps:?} {recovery:?}", path.display());
                assert!(missing.len() <= 1, "{missing:?} are missing: {what}");
                match missing.first() {
                    Some(&RECORDS) => {
                        assert!(recovery.torn_bytes > 0 && gaps.is_empty(), "{what}");
                        assert!(!recovery.quarantined.is_empty(), "{what}");
                    }
                    Some(number) => {
                        let records: Vec<_> = gaps.iter().filter(|gap| gap.records() > 0).collect();
                        assert_eq!(records.len(), 1, "{what}");
                        assert_eq!((records[0].first, records[0].last), (*number, *number), "{what}");
                        assert!(records[0].bytes >= 16, "{what}");
                    }
                    None => assert!(gaps.iter().all(|gap| gap.records() == 0), "{what}"),
                }
                assert!(log.next() > RECORDS, "{what}");
                let number = log.append(b"goes on").unwrap();
                log.sync().unwrap();
                // The last record, if it was torn, is not taken for damage afterwards.
                let (records, again) = read_all(&log);
                assert_eq!(records.last().unwrap(), &(number, b"goes on".to_vec()), "{what}");
                assert_eq!(again, gaps, "{what}");
                if file < last_file && !missing.is_empty() {
                    log.release(number).unwrap();
                    let copies =
                        sim.paths().iter().filter(|p| p.starts_with(dir().join("quarantine"))).count();
                    assert_eq!(copies, 1, "damage is copied before its segment goes: {what}");
                }
            }
        }
    }
}

#[test]
fn each_truncation_of_the_newest_segment_keeps_what_is_before_it() {
    let files = files();
    let (path, content) = files.last().unwrap();
    let first = first_of(path);
    for len in 0..content.len() {
        let mut cut = files.clone();
        cut.last_mut().unwrap().1.truncate(len);
        let sim = disk(&cut);
        let (mut log, recovery) = open(sim.storage());
        let mut gaps = Vec::new();
        let missing = missing(&log, &mut gaps);
        assert!(missing.iter().all(|number| *number >= first), "{len}: {missing:?}");
        assert!(missing.windows(2).all(|pair| pair[1] == pair[0] + 1), "{len}: {missing:?}");
        assert_eq!(missing.last().copied().unwrap_or(RECORDS), RECORDS);
        assert_eq!((gaps.len(), recovery.damaged.len()), (0, 0), "{len}: a torn tail is no damage");
        let number = log.append(b"goes on").unwrap();
        log.sync().unwrap();
        drop(log);
        sim.crash();
        let (log, recovery) = open(sim.storage());
        assert_eq!(recovery.damaged, []);
        let (records, gaps) = read_all(&log);
        assert_eq!(records.last().unwrap(), &(number, b"goes on".to_vec()), "{len}");
        assert_eq!(gaps, [], "{len}: an old torn tail is no damage either");
    }
}

#[test]
fn each_truncation_of_an_older_segment_is_a_gap_with_exact_numbers() {
    let files = files();
    let next = first_of(&files[1].0);
    for len in 0..files[0].1.len() {
        let mut cut = files.clone();
        cut[0].1.truncate(len);
        let (log, _) = open(disk(&cut).storage());
        let mut gaps = Vec::new();
        let missing = missing(&log, &mut gaps);
        let gap = gaps.iter().find(|gap| gap.records() > 0).unwrap();
        assert_eq!(missing, (gap.first..=gap.last).collect::<Vec<_>>(), "{len}");
        assert_eq!(gap.last, next - 1);
    }
}

#[test]
fn a_missing_segment_is_a_gap_with_exact_numbers() {
    for gone in 0..files().len() - 1 {
        let mut files = files();
        let (path, _) = files.remove(gone);
        let first = first_of(&path);
        let (log, _) = open(disk(&files).storage());
        let mut gaps = Vec::new();
        let missing = missing(&log, &mut gaps);
        assert_eq!(missing[0], first);
        if gone == 0 {
            assert_eq!(gaps, [], "what lies before the first segment was released");
        } else {
            assert_eq!(gaps, [Gap { first, last: *missing.last().unwrap(), bytes: 0 }]);
        }
    }
}

#[test]
fn garbage_instead_of_segments_never_prevents_opening_or_appending() {
    for content in [vec![], vec![0; 5000], vec![0xff; 5000], payload(3, 5000), b"TXSEG\0\0\x02".to_vec()] {
        let sim = SimDisk::new(1);
        sim.put(&segment(1), &content);
        sim.put(&segment(9), &content);
        sim.put(&dir().join("notes.txt"), b"not ours");
        let (mut log, _) = open(sim.storage());
        assert!(log.next() >= 9);
        let number = log.append(b"a").unwrap();
        log.sync().unwrap();
        drop(log);
        let (log, _) = open(sim.storage());
        assert_eq!(read_all(&log).0, [(number, b"a".to_vec())]);
        assert_eq!(sim.read(&dir().join("notes.txt")).unwrap(), b"not ours");
    }
}

#[test]
fn the_last_record_is_kept_in_quarantine_when_its_bytes_rot() {
    let sim = SimDisk::new(1);
    let (mut log, _) = open(sim.storage());
    log.append(b"first").unwrap();
    log.append(b"precious").unwrap();
    log.sync().unwrap();
    drop(log);
    let path = sim.paths().remove(0);
    let mut content = sim.read(&path).unwrap();
    let at = content.len() - 1;
    content[at] ^= 1;
    sim.put(&path, &content);
    let (_, recovery) = Log::open(sim.storage(), &dir(), SMALL).unwrap();
    assert_eq!(recovery.torn_bytes, 16 + 8);
    let copy = sim.read(&recovery.quarantined[0]).unwrap();
    assert_eq!(copy, content[at + 1 - 24..]);
}

#[test]
fn a_sector_that_cannot_be_read_costs_the_page_around_it() {
    let options = Options { segment_bytes: 32 << 10, max_record: 4096 };
    let sim = SimDisk::new(1);
    let (mut log, _) = Log::open(sim.storage(), &dir(), options).unwrap();
    for number in 1..=400 {
        log.append(&payload(number, 200)).unwrap();
    }
    log.sync().unwrap();
    drop(log);
    let paths: Vec<_> = sim.paths().into_iter().filter(|path| path.extension().is_some()).collect();
    sim.fail_reads(&paths[0], 10_000);
    sim.fail_reads(paths.last().unwrap(), 5_000);
    let (mut log, recovery) = Log::open(sim.storage(), &dir(), options).unwrap();
    assert_eq!((recovery.unverified.clone(), recovery.damaged.len()), (None, 1));
    let (records, gaps) = read_all(&log);
    assert_eq!(gaps.len(), 2);
    assert_eq!(gaps[1], recovery.damaged[0]);
    let lost: u64 = gaps.iter().map(Gap::records).sum();
    assert!((2 * 19..=2 * 21).contains(&lost), "{gaps:?}");
    assert_eq!(records.len() as u64 + lost, 400);
    let number = log.append(b"goes on").unwrap();
    log.sync().unwrap();
    assert_eq!((number, read_all(&log).0.last().unwrap().0), (401, 401));
}
