//! A segment that the system doesn't open for a while, for want of file handles.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

use std::path::{Path, PathBuf};

use seglog::sim::SimDisk;
use seglog::{Log, Options};

const DIR: &str = "/log";
const OPTIONS: Options = Options { segment_bytes: 200, max_record: 100 };

/// A log of twelve records in segments of a few, and those.
fn twelve() -> (SimDisk, Vec<PathBuf>) {
    let disk = SimDisk::new(1);
    let (mut log, _) = Log::open(disk.storage(), Path::new(DIR), OPTIONS).unwrap();
    for number in 1..=12_u8 {
        log.append(&[number; 30]).unwrap();
    }
    log.sync().unwrap();
    let mut segments = disk.paths();
    segments.retain(|path| path.extension().is_some_and(|is| is == "seg"));
    assert!(segments.len() > 4);
    (disk, segments)
}

/// Once lost: its size was not known when the log was opened, and then it counted as empty for as long as the log was open.
#[test]
fn what_was_not_given_when_the_log_was_opened_is_read_once_it_is() {
    for withheld in 0..4 {
        let (disk, segments) = twelve();
        disk.withhold(&segments[withheld]);
        let (log, recovery) = Log::open(disk.storage(), Path::new(DIR), OPTIONS).unwrap();
        assert!(recovery.damaged.is_empty() && recovery.set_aside.is_empty(), "{recovery:?}");
        let mut reader = log.readers().reader(1);
        let mut read = Vec::new();
        let error = loop {
            match reader.next() {
                Ok(Some(entry)) => read.push(entry.payload[0]),
                Ok(None) => panic!("passed over"),
                Err(error) => break error,
            }
        };
        assert!(!error.is_unreadable());
        disk.give_again();
        while let Some(entry) = reader.next().unwrap() {
            read.push(entry.payload[0]);
        }
        assert_eq!(read, (1..=12).collect::<Vec<u8>>());
        assert!(reader.take_gaps().is_empty());
    }
}

/// Once the newest passed for an empty one: verify called the log sound, and an export left it out.
#[test]
fn who_only_looks_is_told_which_segment_is_not_given_and_takes_none_for_empty() {
    let (disk, segments) = twelve();
    let look = || seglog::inspect(disk.storage(), Path::new(DIR));
    for segment in &segments {
        disk.withhold(segment);
        let said = look().err().unwrap().to_string();
        assert!(said.contains(segment.to_str().unwrap()) && said.contains("can't be read"), "{said}");
        disk.give_again();
        let mut reader = look().unwrap().reader(1);
        let mut read = 0;
        while reader.next().unwrap().is_some() {
            read += 1;
        }
        assert_eq!(read, 12);
        // What the disk itself doesn't give is damage, and keeps nobody from the rest.
        disk.fail_opens(segment);
        assert!(look().is_ok());
        disk.give_again();
    }
}
