//! How long a spool takes to open with a backlog behind it, and what it costs in memory.
//!
//! `cargo run --release -p spool --example backlog -- DIR [MEGABYTES]`; DIR is filled once and reused.

#![allow(clippy::print_stdout, reason = "a program that prints what it measured")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seglog::{Disk, Storage};
use spool::{Spool, SpoolConfig};
use telemetry::{Lane, Rows, SeriesDef, SeriesKey, SeriesTable};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("usage: backlog DIR [MEGABYTES]")?);
    let megabytes: u64 = arguments.next().map_or(Ok(1024), |text| text.parse())?;
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let config = SpoolConfig { max_bytes: u64::MAX, ..SpoolConfig::new(dir) };
    let open = || {
        let table = SeriesTable::new(100_000);
        let start = Instant::now();
        let opened = Spool::open(config.clone(), Arc::clone(&storage), Arc::clone(&table), "bench");
        opened.map(|(spool, recovery)| (spool, recovery, table, start.elapsed()))
    };
    let (spool, recovery, table, took) = open()?;
    println!("opened {} batches in {took:?}", recovery.batches);
    let mut random = 1u64;
    let start = Instant::now();
    let (mut samples, mut position) = (0u64, spool.position());
    while spool.usage().bytes < megabytes << 20 {
        let mut rows = Rows::default();
        for at in 0..10_000u32 {
            let key = SeriesKey::new("temperature", [("device", format!("d{}", at % 200))])?;
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let value = 20.0 + (random >> 40) as f64 / 1e6;
            rows.push_sample(
                table.intern(SeriesDef::bare(key))?,
                (position * 50 + u64::from(at) / 200) as i64,
                value,
                0,
            );
        }
        position += 1;
        spool.append(position, &rows, false)?;
        spool.cut_if_due(start.elapsed())?;
        samples += 10_000;
    }
    if samples > 0 {
        let seconds = start.elapsed().as_secs_f64();
        println!("{:.1} M samples/s cut and fsynced, {} MB", samples as f64 / seconds / 1e6, megabytes);
    }
    spool.cut()?;
    drop(spool);
    let (spool, recovery, _, took) = open()?;
    println!("opened {} batches, {} rows in {took:?}", recovery.batches, recovery.rows);
    let start = Instant::now();
    let (mut sent, mut bytes) = (0u64, 0);
    while let Some(batch) = spool.next(Lane::Backlog, i64::MAX / 2)? {
        bytes += batch.payload.len();
        sent += 1;
        let range = wire::v1::Range { first: batch.seq, last: batch.seq };
        spool.acked(&[wire::v1::Holdings { epoch: batch.epoch, upto: 0, ranges: vec![range] }])?;
        if sent % 1000 == 0 {
            spool.cut_if_due(Duration::from_secs(sent))?;
        }
        if start.elapsed() > Duration::from_secs(3) {
            break;
        }
    }
    println!("read back {sent} batches, {:.0} MB/s", bytes as f64 / start.elapsed().as_secs_f64() / 1e6);
    let status = std::fs::read_to_string("/proc/self/status")?;
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default());
    Ok(())
}
