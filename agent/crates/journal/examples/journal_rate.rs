//! Prints how many samples a second the journal makes durable: connections that each append an
//! intake of 1,000 samples and wait for its fsync before the next, as the HTTP input does.
//!
//! `cargo run --release -p journal --example journal_rate -- [DIR] [CONNECTIONS] [SECONDS]`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool, not part of the agent")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use journal::{Holder, Journal, JournalConfig};
use seglog::Disk;
use telemetry::{Cause, Intake, Position, Record, SeriesDef, SeriesKey, SeriesTable, Stamp};

const SAMPLES: usize = 1000;
const SERIES: usize = 100;

fn intake(table: &SeriesTable, connection: usize) -> Intake {
    let mut intake = Intake::new(0, Stamp::default());
    for n in 0..SERIES {
        let device = format!("pump-{connection}-{n}");
        let key = SeriesKey::new("temperature", [("device", device.as_str())]).unwrap();
        intake.series.push(table.intern(SeriesDef::bare(key)).unwrap());
    }
    for at in 0..SAMPLES {
        intake.push((at % SERIES) as u32, at as i64 * 1_000_000_000, at as f64 / 10.0, 0);
    }
    intake.counts.add(Cause::Received, SAMPLES as u64);
    intake
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat.split(' ').skip(13).take(2).filter_map(|field| field.parse().ok()).collect();
    fields.iter().sum::<f64>() / 100.0
}

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = args.next().unwrap_or_else(|| "/var/tmp/journal_rate".into());
    let connections: usize = args.next().and_then(|n| n.parse().ok()).unwrap_or(8);
    let seconds: u64 = args.next().and_then(|n| n.parse().ok()).unwrap_or(5);
    _ = std::fs::remove_dir_all(&dir);
    let table = SeriesTable::new(1_000_000);
    let (journal, _) = Journal::open(JournalConfig::new(&dir), Arc::new(Disk), Arc::clone(&table)).unwrap();
    journal.release(Holder::Sessions, Position::MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let appended = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let cpu = cpu_seconds();
    let tasks: Vec<_> = (0..connections)
        .map(|connection| {
            let (journal, stop, appended) = (journal.clone(), Arc::clone(&stop), Arc::clone(&appended));
            let record = Record::Intake(intake(&table, connection));
            runtime.spawn(async move {
                let mut waits = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let at = Instant::now();
                    let position = match journal.append(&record) {
                        Ok(position) => position,
                        Err(journal::AppendError::Full { retry_after, .. }) => {
                            tokio::time::sleep(retry_after.min(Duration::from_millis(5))).await;
                            continue;
                        }
                        Err(error) => panic!("{error}"),
                    };
                    journal.wait(position).await.unwrap();
                    waits.push(at.elapsed());
                    appended.fetch_add(SAMPLES as u64, Ordering::Relaxed);
                }
                waits
            })
        })
        .collect();
    // The fold's part: read everything, let go of it.
    let mut reader = journal.reader(0);
    let mut read = 0;
    let mut released = Instant::now();
    while started.elapsed() < Duration::from_secs(seconds) {
        if let Some((_, Record::Intake(intake))) = reader.next(Duration::from_millis(20)).unwrap() {
            read += intake.len();
        }
        if released.elapsed() > Duration::from_millis(500) {
            released = Instant::now();
            journal.release(Holder::Fold, reader.position());
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut waits: Vec<Duration> =
        tasks.into_iter().flat_map(|task| runtime.block_on(task).unwrap()).collect();
    waits.sort_unstable();
    let elapsed = started.elapsed().as_secs_f64();
    let samples = appended.load(Ordering::Relaxed) as f64;
    let usage = journal.usage();
    println!(
        "{connections} connections: {:.2} M samples/s durable, p50 {:.2?}, p99 {:.2?}; {:.2} M/s read back; {:.3} CPU-s per million; {} commits, {:.1} records each",
        samples / elapsed / 1e6,
        waits[waits.len() / 2],
        waits[waits.len() * 99 / 100],
        read as f64 / elapsed / 1e6,
        (cpu_seconds() - cpu) / (samples / 1e6),
        usage.syncs,
        usage.appended as f64 / usage.syncs as f64,
    );
    journal.close();
    _ = std::fs::remove_dir_all(&dir);
}
