//! Prints what the log itself costs: bytes a second written (without and with fsync) and read.
//!
//! `cargo run --release -p seglog --example seglog_rate -- [DIR] [RECORD_BYTES]`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool, not part of the agent")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use seglog::{Disk, Log, Options};

const TOTAL: usize = 1 << 30;

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().unwrap_or_else(|| "/dev/shm/seglog_rate".into()));
    let record: usize = args.next().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    _ = std::fs::remove_dir_all(&dir);
    let payload: Vec<u8> = (0..record).map(|at| (at * 31) as u8).collect();
    let (mut log, _) = Log::open(Arc::new(Disk), &dir, Options::default()).unwrap();
    let rate = |started: Instant| TOTAL as f64 / started.elapsed().as_secs_f64() / 1e9;
    let started = Instant::now();
    let mut number = 0;
    for _ in 0..TOTAL / record {
        number = log.append(&payload).unwrap();
    }
    log.sync().unwrap();
    println!("append {record} B records, fsync a segment: {:.2} GB/s", rate(started));
    let started = Instant::now();
    let mut reader = log.reader(1);
    let mut bytes = 0;
    while let Some(entry) = reader.next().unwrap() {
        bytes += entry.payload.len();
    }
    println!("read and check: {:.2} GB/s ({bytes} B)", rate(started));
    log.release(number).unwrap();
    drop(log);
    let started = Instant::now();
    Log::open(Arc::new(Disk), &dir, Options::default()).unwrap();
    println!("open: {:.1?}", started.elapsed());
    _ = std::fs::remove_dir_all(&dir);
}
