//! Promise P5 at the size of a real segment: 64 KiB, each byte of it changed, and its end at each byte. The tests in
//! `damage.rs` look closer, at logs of some KiB.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may end so, and says what it tried"
)]

mod support;

use std::path::PathBuf;

use seglog::sim::SimDisk;
use seglog::{Log, Options};
use support::{dir, payload, read_all};

const SEGMENT: usize = 64 << 10;
const OPTIONS: Options = Options { segment_bytes: SEGMENT as u64, max_record: 8192 };
/// Bytes of a record's payload: so that few records are read so many times.
const LEN: usize = 4000;

/// A full segment, and the next one, which holds one record more.
struct Whole {
    content: Vec<u8>,
    files: Vec<(PathBuf, Vec<u8>)>,
    records: u64,
}

fn whole() -> Whole {
    let sim = SimDisk::new(1);
    let (mut log, _) = Log::open(sim.storage(), &dir(), OPTIONS).unwrap();
    let mut number = 0;
    let segments = |sim: &SimDisk| {
        let mut all = sim.paths();
        all.retain(|path| path.extension().is_some_and(|ending| ending == "seg"));
        all.sort();
        all
    };
    while segments(&sim).len() < 2 {
        number += 1;
        log.append(&payload(number, LEN)).unwrap();
    }
    log.sync().unwrap();
    drop(log);
    let files: Vec<_> =
        segments(&sim).into_iter().map(|path| (path.clone(), sim.read(&path).unwrap())).collect();
    let content = files[0].1.clone();
    assert!(content.len() > SEGMENT - LEN - 100, "it is full: {}", content.len());
    Whole { content, files, records: number }
}

/// The numbers that are gone, all others being as they were, and those that the gaps name.
fn gone(whole: &Whole, content: &[u8]) -> (Vec<u64>, Vec<u64>) {
    let sim = SimDisk::new(1);
    whole.files.iter().for_each(|(path, content)| sim.put(path, content));
    sim.put(&whole.files[0].0, content);
    let (log, _) = Log::open(sim.storage(), &dir(), OPTIONS).expect("damage never prevents opening");
    let (records, gaps) = read_all(&log);
    for (number, bytes) in &records {
        assert!(*bytes == payload(*number, LEN), "record {number} is not as it was");
    }
    let missing = (1..=whole.records).filter(|number| !records.iter().any(|(there, _)| there == number));
    let named = gaps.iter().flat_map(|gap| gap.first..=gap.last);
    (missing.collect(), named.collect())
}

/// Each position, shared out to as many threads as there are processors.
fn each(tried: &str, check: impl Fn(&Whole, usize) + Sync) {
    let Whole { content, records, .. } = whole();
    println!("{} {tried} a segment of {records} records with the next one's first", content.len());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let check = &check;
            scope.spawn(move || {
                let whole = whole();
                (thread..whole.content.len()).step_by(threads).for_each(|at| check(&whole, at));
            });
        }
    });
}

#[test]
fn each_flipped_byte_of_a_64_kib_segment_costs_one_record_at_most_and_the_gap_names_it() {
    each("bytes flipped, one at a time, in", |whole, at| {
        let mut flipped = whole.content.clone();
        flipped[at] ^= 1;
        let (missing, named) = gone(whole, &flipped);
        assert!(missing.len() <= 1, "byte {at}: {missing:?}");
        assert_eq!(missing, named, "byte {at}");
    });
}

#[test]
fn a_64_kib_segment_that_ends_at_any_byte_keeps_what_is_before_and_behind_it_and_the_gap_is_exact() {
    each("ends, one at each byte, of", |whole, at| {
        let (missing, named) = gone(whole, &whole.content[..at]);
        assert!(missing.last().is_none_or(|last| *last == whole.records - 1), "cut at {at}: {missing:?}");
        assert!(missing.windows(2).all(|pair| pair[1] == pair[0] + 1), "cut at {at}: {missing:?}");
        assert_eq!(missing, named, "cut at {at}");
    });
}
