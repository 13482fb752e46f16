//! Readers beside a writer that appends, begins segments and releases them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end so")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use seglog::{Disk, Log, Options};
use support::payload;

#[test]
fn readers_beside_the_writer_see_each_record_once_and_never_half_of_one() {
    const RECORDS: u64 = 30_000;
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 32 << 10, max_record: 1 << 20 };
    let (mut log, _) = Log::open(Arc::new(Disk), dir.path(), options).unwrap();
    let progress: [AtomicU64; 3] = Default::default();
    std::thread::scope(|scope| {
        for (at, mark) in progress.iter().enumerate() {
            let mut reader = log.readers().reader(1);
            scope.spawn(move || {
                let mut expected = 1;
                while expected <= RECORDS {
                    let Some(entry) = reader.next().unwrap() else {
                        std::thread::yield_now();
                        continue;
                    };
                    assert_eq!(entry.number, expected, "reader {at}");
                    assert_eq!(entry.payload, payload(expected, (expected % 400) as usize));
                    mark.store(expected, Ordering::Release);
                    expected += 1;
                }
                assert_eq!(reader.take_gaps(), []);
            });
        }
        for number in 1..=RECORDS {
            log.append(&payload(number, (number % 400) as usize)).unwrap();
            if number % 50 == 0 || number == RECORDS {
                log.sync().unwrap();
            }
            if number % 1000 == 0 {
                let passed = progress.iter().map(|mark| mark.load(Ordering::Acquire)).min().unwrap_or(0);
                log.release(passed).unwrap();
            }
        }
    });
}

#[test]
fn a_reader_whose_segment_was_released_goes_on_with_what_is_left() {
    let sim = seglog::sim::SimDisk::new(1);
    let (mut log, _) = support::open(sim.storage());
    for number in 1..=60 {
        log.append(&payload(number, 200)).unwrap();
    }
    log.sync().unwrap();
    let mut reader = log.reader(1);
    assert_eq!(reader.next().unwrap().unwrap().number, 1);
    log.release(45).unwrap();
    let mut numbers = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        numbers.push(entry.number);
    }
    assert_eq!(*numbers.last().unwrap(), 60);
    assert!(numbers.contains(&log.first()));
    assert_eq!(reader.take_gaps(), [], "released is not damaged");
}
