//! Promise P5 in the journal: damage costs what it hits, nothing else, and that is counted.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end so")]

mod support;

use std::path::PathBuf;

use std::time::Duration;

use journal::{Holder, JournalGap};
use seglog::sim::SimDisk;
use support::{Bench, Said, open, open_stepped};

const RECORDS: u64 = 40;

/// A journal of some segments: each record has two samples.
fn files() -> (Vec<(PathBuf, Vec<u8>)>, Vec<Said>) {
    let sim = SimDisk::new(1);
    let bench = open(&sim);
    for id in 1..=RECORDS {
        bench.append(id as i64, &[id as u32 % 3, 3]);
    }
    bench.journal.close();
    let said = bench.read(0).0.into_iter().map(|(_, said)| said).collect();
    let files = sim.paths().into_iter().filter(|path| path.extension().is_some());
    (files.map(|path| (path.clone(), sim.read(&path).unwrap())).collect(), said)
}

fn open_files(files: &[(PathBuf, Vec<u8>)]) -> Bench {
    let sim = SimDisk::new(1);
    for (path, content) in files {
        sim.put(path, content);
    }
    open(&sim)
}

#[test]
fn each_flipped_byte_leaves_every_other_record_or_counts_it() {
    let (files, said) = files();
    assert!(files.len() >= 3);
    let mut undecodable = 0;
    for (file, (_, content)) in files.iter().enumerate() {
        for at in 0..content.len() {
            let mut damaged = files.clone();
            damaged[file].1[at] ^= 0xff;
            let bench = open_files(&damaged);
            let (records, gaps) = bench.read(0);
            for (position, found) in &records {
                assert_eq!(*found, said[*position as usize - 1], "record {position}, byte {at} of {file}");
            }
            assert!(records.is_sorted_by_key(|(position, _)| *position));
            let mut missing: Vec<u64> =
                (1..=RECORDS).filter(|n| !records.iter().any(|(position, _)| position == n)).collect();
            if file == files.len() - 1 && missing.last() == Some(&RECORDS) && bench.recovery.torn_bytes > 0 {
                missing.pop();
            }
            assert!(missing.len() <= 1, "byte {at} of {file} took {missing:?}");
            let reported: Vec<u64> = gaps.iter().flat_map(|gap| gap.first..=gap.last).collect();
            assert_eq!(reported, missing, "byte {at} of {file}");
            for gap in &gaps {
                // At the very end nothing behind tells.
                let known = gap.last < RECORDS;
                let expected = known.then_some(2 * (gap.last + 1 - gap.first));
                assert_eq!(gap.readings, expected, "byte {at} of {file}: {gap:?}");
            }
            undecodable += gaps.iter().filter(|gap| gap.bytes > 0).count();
        }
    }
    assert!(undecodable > 0, "some definitions were hit");
}

#[test]
fn a_reader_that_starts_behind_damage_reports_only_what_is_behind_its_start() {
    let (mut files, _) = files();
    // The first two records of the first segment: both define series 3 and one more.
    let len = u32::from_le_bytes(files[0].1[64..68].try_into().unwrap()) as usize;
    for record in [64, 64 + 16 + len] {
        files[0].1[record + 16 + 4] ^= 1;
    }
    let bench = open_files(&files);
    let (records, gaps) = bench.read(2);
    assert!(gaps.iter().all(|gap| gap.first > 2), "{gaps:?}");
    assert_eq!(gaps[0], JournalGap { first: 3, last: 3, bytes: gaps[0].bytes, readings: Some(2) });
    let after = gaps.last().unwrap().last;
    assert_eq!(records.first().unwrap().0, after + 1, "the next segment reads alone");
}

#[test]
fn a_missing_segment_is_reported_and_the_next_one_reads_alone() {
    let (mut files, said) = files();
    files.remove(1);
    let bench = open_files(&files);
    let (records, gaps) = bench.read(0);
    assert_eq!(gaps.len(), 1);
    assert_eq!(records.len() as u64 + gaps[0].last - gaps[0].first + 1, RECORDS);
    assert_eq!(gaps[0].readings, Some(2 * (gaps[0].last + 1 - gaps[0].first)));
    assert!(records.iter().all(|(position, found)| *found == said[*position as usize - 1]));
}

#[test]
fn what_a_damaged_end_held_is_not_guessed_and_counting_goes_on_behind_it() {
    let (mut files, _) = files();
    let end = files.last_mut().unwrap();
    let at = end.1.len() - 4;
    end.1[at] ^= 1;
    let bench = open_files(&files);
    for id in 1..=3 {
        bench.append(id, &[1, 2]);
    }
    bench.journal.close();
    let (records, gaps) = bench.read(0);
    assert!(gaps.iter().all(|gap| gap.readings.is_none()), "{gaps:?}");
    assert_eq!(records.len() as u64, RECORDS - 1 + 3);
}

/// Changes a byte of what was written last.
fn rot_the_last_record(sim: &SimDisk) {
    let path = sim.paths().into_iter().rfind(|path| path.extension().is_some()).unwrap();
    let size = sim.read(&path).unwrap().len();
    assert!(sim.rot(&path, size - 4, 1));
}

#[test]
fn the_newest_record_that_rots_before_it_is_read_is_counted_at_once() {
    let sim = SimDisk::new(1);
    let bench = open_stepped(&sim);
    bench.append(1, &[1, 2]);
    bench.journal.step();
    let mut reader = bench.journal.reader(0);
    assert_eq!(reader.try_next().unwrap().unwrap().0, 1);
    bench.append(2, &[1, 2, 3]);
    bench.journal.step();
    rot_the_last_record(&sim);
    assert_eq!(reader.try_next().unwrap(), None);
    let gaps = reader.take_gaps();
    assert_eq!((gaps.len(), gaps[0].first, gaps[0].last, gaps[0].readings), (1, 2, 2, Some(3)));
    assert_eq!(reader.position(), 2);
    bench.append(3, &[1]);
    bench.journal.step();
    assert_eq!(reader.try_next().unwrap().unwrap().0, 3);
    assert_eq!(reader.take_gaps(), []);
}

#[test]
fn damage_at_the_mark_is_counted_by_the_record_that_is_on_its_way() {
    let sim = SimDisk::new(1);
    let bench = open_stepped(&sim);
    bench.append(1, &[1, 2]);
    bench.journal.step();
    let mut reader = bench.journal.reader(0);
    assert_eq!(reader.try_next().unwrap().unwrap().0, 1);
    bench.append(2, &[1, 2, 3]);
    bench.journal.step();
    rot_the_last_record(&sim);
    bench.append(3, &[1]);
    assert_eq!(reader.try_next().unwrap(), None);
    assert_eq!((reader.take_gaps(), reader.position()), (vec![], 1), "nobody can tell yet");
    bench.journal.release(Holder::Fold, reader.position());
    bench.journal.step();
    assert_eq!(reader.next(Duration::ZERO).unwrap().unwrap().0, 3);
    let gaps = reader.take_gaps();
    assert_eq!((gaps.len(), gaps[0].first, gaps[0].last, gaps[0].readings), (1, 2, 2, Some(3)));
}
