//! A segment that the system doesn't open for a while, for want of file handles.

use std::path::Path;

use seglog::sim::SimDisk;
use seglog::{Log, Options};

const DIR: &str = "/log";

/// Once lost: its size was not known when the log was opened, and then it counted as empty for as long as the log was open.
#[test]
fn what_was_not_given_when_the_log_was_opened_is_read_once_it_is() {
    let options = Options { segment_bytes: 200, max_record: 100 };
    for withheld in 0..4 {
        let disk = SimDisk::new(1);
        let (mut log, _) = Log::open(disk.storage(), Path::new(DIR), options).unwrap();
        for number in 1..=12_u8 {
            log.append(&[number; 30]).unwrap();
        }
        log.sync().unwrap();
        drop(log);
        let segments: Vec<_> =
            disk.paths().into_iter().filter(|path| path.extension().is_some_and(|is| is == "seg")).collect();
        assert!(segments.len() > 4);
        disk.withhold(&segments[withheld]);
        let (log, recovery) = Log::open(disk.storage(), Path::new(DIR), options).unwrap();
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
