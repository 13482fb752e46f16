//! Bytes a sample and samples a second, on the public data sets that the project measures with.
//!
//! `cargo run --release -p wire --example measure -- DIR [--json FILE]`, DIR holding `skab/` and `nab/`.

#![allow(clippy::print_stdout, reason = "a program that prints a table")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use telemetry::{Rows, SeriesDef, SeriesKey, SeriesRef};
use wire::payload::{Encoder, decode};

type Error = Box<dyn std::error::Error>;

/// Columns of one file.
struct Table {
    names: Vec<String>,
    columns: Vec<Vec<f64>>,
}

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("usage: measure DIR [--json FILE]")?);
    let json = arguments.nth(1);
    let mut skab = Vec::new();
    for folder in ["anomaly-free", "other", "valve2"] {
        for file in files(&dir.join("skab").join(folder))? {
            skab.push(read(&file, ';', 8)?);
        }
    }
    let mut nab = Vec::new();
    for file in files(&dir.join("nab/realKnownCause"))? {
        nab.push(read(&file, ',', 1)?);
    }
    let mut results = Vec::new();
    println!(
        "{:<28}{:>9}{:>9}{:>12}{:>12}{:>12}",
        "", "payload", "+frame", "+definitions", "encode M/s", "decode M/s"
    );
    for size in [40, 160, 1_000, 10_000] {
        let batches: Vec<_> = skab.iter().flat_map(|table| cut(std::slice::from_ref(table), size)).collect();
        results.push(measure(&format!("SKAB 8 series, {size}"), &batches, &skab[..1]));
    }
    let all: Vec<Table> = skab.into_iter().chain(nab).collect();
    for size in [1_000, 10_000] {
        results.push(measure(&format!("SKAB+NAB 95 series, {size}"), &cut(&all, size), &all));
    }
    let nab = &all[all.len() - 7..];
    results.push(measure("NAB 7 series, 1000", &cut(nab, 1_000), nab));
    if let Some(path) = json {
        std::fs::write(path, format!("[{}]\n", results.join(",\n ")))?;
    }
    Ok(())
}

/// Batches of `size` samples of all the tables' series, one reading a second.
fn cut(tables: &[Table], size: usize) -> Vec<Rows> {
    let series: Vec<&Vec<f64>> = tables.iter().flat_map(|table| &table.columns).collect();
    let each = (size / series.len()).max(1);
    let longest = series.iter().map(|values| values.len()).min().unwrap_or(0);
    (0..longest / each)
        .map(|batch| {
            let mut rows = Rows::default();
            for at in batch * each..(batch + 1) * each {
                for (number, values) in series.iter().enumerate() {
                    let time = 1_700_000_000_000_000_000 + at as i64 * 1_000_000_000;
                    rows.push_sample(SeriesRef(number as u32), time, values[at], 0);
                }
            }
            rows
        })
        .collect()
}

fn measure(name: &str, batches: &[Rows], tables: &[Table]) -> String {
    let mut encoder = Encoder::new(3);
    let samples: usize = batches.iter().map(|rows| rows.series.len()).sum();
    let mut payloads = Vec::new();
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        payloads =
            batches.iter().filter_map(|rows| encoder.encode(rows, |series| series.0 + 1).ok()).collect();
        best = best.min(start.elapsed());
    }
    let mut read = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        let total: usize =
            payloads.iter().filter_map(|p| decode(&p.bytes).ok()).map(|p| p.samples.values.len()).sum();
        assert_eq!(total, samples);
        read = read.min(start.elapsed());
    }
    let bytes: usize = payloads.iter().map(|encoded| encoded.bytes.len()).sum();
    // epoch, checksum, seq, times, positions and their tags in a frame
    let framed = bytes + 96 * payloads.len();
    let defined = framed + definitions(tables);
    let per = |bytes: usize| bytes as f64 / samples as f64;
    let rate = |time: Duration| samples as f64 / time.as_secs_f64() / 1e6;
    println!(
        "{name:<28}{:>9.3}{:>9.3}{:>12.3}{:>12.1}{:>12.1}",
        per(bytes),
        per(framed),
        per(defined),
        rate(best),
        rate(read)
    );
    format!(
        r#"{{"bench":"wire","name":"{name}: payload","value":{:.3},"unit":"B/sample"}},{{"bench":"wire","name":"{name}: encode","value":{:.2},"unit":"M samples/s"}},{{"bench":"wire","name":"{name}: decode","value":{:.2},"unit":"M samples/s"}}"#,
        per(bytes),
        rate(best),
        rate(read)
    )
}

/// Bytes of the definitions, which travel until the first ack: once in a session.
fn definitions(tables: &[Table]) -> usize {
    let names = tables.iter().flat_map(|table| &table.names);
    let defs: Vec<_> = names
        .enumerate()
        .filter_map(|(number, name)| {
            let labels = [("site", "plant1"), ("device", "rig")];
            let key = SeriesKey::new(name.as_str(), labels).ok()?;
            Some((number as u32 + 1, Arc::new(SeriesDef::bare(key))))
        })
        .collect();
    wire::definitions::encode(&defs).map(|bytes| bytes.len()).unwrap_or(0)
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))? {
        files.push(entry?.path());
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "csv"));
    files.sort();
    Ok(files)
}

/// The `columns` columns behind the first, which is the time.
fn read(path: &Path, separator: char, columns: usize) -> Result<Table, Error> {
    let text = std::fs::read_to_string(path)?;
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let file = path.file_stem().unwrap_or_default().to_string_lossy();
    let names = head.split(separator).skip(1).take(columns).map(|name| format!("{file}.{name}")).collect();
    let mut table = Table { names, columns: vec![Vec::new(); columns] };
    for line in lines {
        for (column, cell) in table.columns.iter_mut().zip(line.split(separator).skip(1)) {
            column.push(cell.parse()?);
        }
    }
    Ok(table)
}
