//! Fills a spool with batches that can't be compressed, as fast as encoder and disk allow: for `just fault recovery`.
//!
//! `cargo run --workspace --example fill -- SPOOL_FOLDER GIB`; the last line is JSON: `batches`, `rows`, `bytes` of the log, `seconds`.
//! The batches are real ones, cut by the spool itself; only the fsync of each is left out, which would take most of the time.

#![allow(clippy::print_stdout, reason = "a program that prints what it did")]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use seglog::{Disk, File, Guard, Mode, Storage};
use spool::{Spool, SpoolConfig};
use telemetry::{Cause, Rows, SeriesDef, SeriesKey, SeriesRef, SeriesTable};

/// 2026-06-01.
const BEGIN: i64 = 1_780_272_000_000_000_000;
const STEP: i64 = 1_000_000;
/// So many random doubles make a batch of about 64 KiB.
const SAMPLES: usize = 9_000;
const DEVICES: usize = 50;

/// A disk that is in no hurry.
struct Unsynced(Disk);

struct UnsyncedFile(Box<dyn File>);

impl Storage for Unsynced {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir_all(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn File>> {
        Ok(Box::new(UnsyncedFile(self.0.open(path, mode)?)))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }
    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Guard>>> {
        self.0.lock(path)
    }
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.0.free_bytes(dir)
    }
}

impl File for UnsyncedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
    fn forget_cache(&self) {
        self.0.forget_cache();
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: fill SPOOL_FOLDER GIB";
    let dir = PathBuf::from(arguments.next().ok_or(usage)?);
    let gib: f64 = arguments.next().ok_or(usage)?.parse()?;
    let wanted = (gib * f64::from(1 << 30)) as u64;
    let table = SeriesTable::new(1_000);
    let config = SpoolConfig { max_bytes: u64::MAX, batch_bytes: SAMPLES, level: 1, ..SpoolConfig::new(dir) };
    let (spool, _) = Spool::open(config, Arc::new(Unsynced(Disk)), Arc::clone(&table), "fill")?;
    let series: Vec<SeriesRef> = (0..DEVICES)
        .map(|device| {
            let key = SeriesKey::new("filled", [("device", format!("d{device}"))])?;
            Ok(table.intern(SeriesDef::bare(key))?)
        })
        .collect::<Result<_, Box<dyn std::error::Error>>>()?;
    let (begin, mut random, mut position, mut rows_in_all) = (Instant::now(), 1u64, spool.position(), 0u64);
    while spool.usage().disk_bytes < wanted {
        let mut rows = Rows::default();
        for at in 0..SAMPLES {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Between 1 and 2, all of the mantissa by chance.
            let value = f64::from_bits(0x3ff0_0000_0000_0000 | random >> 12);
            let time = BEGIN + (rows_in_all as i64 + at as i64) / DEVICES as i64 * STEP;
            rows.push_sample(series[at % DEVICES], time, value, 0);
        }
        rows.count(Cause::Received, SAMPLES as u64);
        position += 1;
        rows_in_all += SAMPLES as u64;
        spool.append(position, &rows, false)?;
        spool.cut_if_due(begin.elapsed())?;
    }
    spool.cut()?;
    let usage = spool.usage();
    println!(
        "{{\"batches\": {}, \"rows\": {rows_in_all}, \"bytes\": {}, \"seconds\": {:.1}}}",
        usage.batches,
        usage.disk_bytes,
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}
