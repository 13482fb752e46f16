//! What a reader gets: every record, in order, with its series, from any position on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end so")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use seglog::sim::SimDisk;
use support::{LONG, config, open, said};
use telemetry::{DeviceClock, Record, SeriesDef, SeriesRef, Stamp};

#[test]
fn a_reader_may_start_anywhere_and_knows_the_series() {
    let sim = SimDisk::new(1);
    let bench = open(&sim);
    let mut written = Vec::new();
    for id in 1..=100 {
        let record = bench.intake(id, &[id as u32 % 7, 10 + id as u32 % 3]);
        let position = bench.journal.append(&record).unwrap();
        written.push((position, said(&record, &bench.table)));
    }
    bench.journal.close();
    drop(bench);
    // Another process: its numbers are others.
    let bench = open(&sim);
    bench.series(999);
    assert_eq!(bench.recovery.torn_bytes, 0);
    for after in 0..=100 {
        let (records, gaps) = bench.read(after as u64);
        assert_eq!(records, written[after..]);
        assert_eq!(gaps, []);
    }
}

#[test]
fn every_kind_of_record_comes_back() {
    let sim = SimDisk::new(1);
    let bench = open(&sim);
    let stamp = Stamp { wall: 5, mono: 6 };
    let records = [
        Record::Tick(DeviceClock { at: stamp, boot: [7; 16], synced: true }),
        Record::Config { stamp, generation: 3, config: b"{}".to_vec() },
        Record::Model { stamp, slot: "pump".into(), model: Some((b"{}".to_vec(), vec![1; 9000])) },
        bench.intake(1, &[1, 2]),
        Record::Model { stamp, slot: "pump".into(), model: None },
    ];
    assert_eq!(bench.journal.append_all(&records).unwrap(), 5);
    let mut reader = bench.journal.reader(0);
    for (at, record) in records.iter().enumerate() {
        assert_eq!(reader.next(LONG).unwrap().unwrap(), (at as u64 + 1, record.clone()));
    }
    assert_eq!(reader.next(Duration::ZERO).unwrap(), None);
}

struct Definitions(Vec<u32>);

impl telemetry::record::Numbering for Definitions {
    fn define(&mut self, number: u32, _def: SeriesDef) {
        self.0.push(number);
    }
    fn resolve(&self, number: u32) -> Option<SeriesRef> {
        Some(SeriesRef(number))
    }
}

#[test]
fn a_segments_first_two_records_of_a_series_define_it_and_no_other_does() {
    let sim = SimDisk::new(1);
    let bench = open(&sim);
    for id in 1..=200 {
        bench.append(id, &[id as u32 % 5]);
    }
    bench.journal.close();
    let readers = seglog::inspect(sim.storage(), &config().dir).unwrap();
    let mut reader = readers.reader(0);
    let mut segment = 0;
    let mut segments = 0;
    let mut definitions = Definitions(Vec::new());
    let mut uses = BTreeMap::new();
    while let Some(entry) = reader.next().unwrap() {
        if entry.segment_first != segment {
            segment = entry.segment_first;
            segments += 1;
            definitions.0.clear();
            uses.clear();
        }
        // Behind the tally.
        let record = &entry.payload[17..];
        let Record::Intake(intake) = Record::decode(record, &mut definitions).unwrap() else { panic!() };
        let series = intake.series[0].0;
        let uses: &mut usize = uses.entry(series).or_default();
        *uses += 1;
        let times = definitions.0.iter().filter(|number| **number == series).count();
        assert_eq!(times, (*uses).min(2), "use {uses} of series {series}");
    }
    assert!(segments > 5);
    let sizes = readers.segments().into_iter().map(|(_, _, bytes)| bytes);
    assert!(sizes.max().unwrap() <= config().segment_bytes, "segments keep to their size");
}

#[test]
fn a_reader_waits_for_the_mark_and_is_woken_by_it() {
    let sim = SimDisk::new(1);
    let bench = open(&sim);
    let mut reader = bench.journal.reader(0);
    assert_eq!(reader.next(Duration::ZERO).unwrap(), None);
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || reader.next(LONG).unwrap().unwrap().0);
        bench.append(1, &[1]);
        assert_eq!(reading.join().unwrap(), 1);
    });
}

#[test]
fn a_nudge_ends_one_wait_now_or_the_next_one_and_hides_no_record() {
    let sim = SimDisk::new(1);
    let bench = open(&sim);
    let mut reader = bench.journal.reader(0);
    assert_eq!(reader.try_next().unwrap(), None);
    let far = Instant::now() + LONG;
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| reader.wait(far));
        bench.journal.nudge();
        assert!(!waiting.join().unwrap(), "nothing became durable");
    });
    bench.journal.nudge();
    assert!(!reader.wait(far), "a nudge that comes before the wait isn't lost");
    assert!(Instant::now() < far, "neither took until the end");
    bench.append(1, &[1]);
    bench.journal.nudge();
    assert_eq!(reader.next(LONG).unwrap().unwrap().0, 1);
}

#[test]
fn appenders_and_readers_at_once_lose_and_invent_nothing() {
    const EACH: i64 = 500;
    let sim = SimDisk::new(1);
    let bench = open(&sim);
    let positions = std::thread::scope(|scope| {
        let bench = &bench;
        let mut reader = bench.journal.reader(0);
        let reading = scope.spawn(move || {
            let mut seen = Vec::new();
            while seen.len() < 4 * EACH as usize {
                let (position, record) = reader.next(LONG).unwrap().unwrap();
                seen.push((position, said(&record, &bench.table)));
            }
            seen
        });
        let appending: Vec<_> = (0..4)
            .map(|thread: i64| {
                scope.spawn(move || {
                    for n in 0..EACH {
                        let position = bench.append(thread * EACH + n, &[n as u32 % 50]);
                        if n % 16 == 0 {
                            bench.journal.wait_blocking(position, LONG).unwrap();
                        }
                    }
                })
            })
            .collect();
        appending.into_iter().for_each(|thread| thread.join().unwrap());
        reading.join().unwrap()
    });
    assert!(positions.iter().enumerate().all(|(at, (position, _))| *position == at as u64 + 1));
    let mut ids: Vec<i64> = positions.iter().map(|(_, (id, _))| *id).collect();
    for thread in 0..4 {
        let of_thread = ids.iter().filter(|id| **id / EACH == thread);
        assert!(of_thread.is_sorted(), "each appender's order is kept");
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..4 * EACH).collect::<Vec<_>>());
}
