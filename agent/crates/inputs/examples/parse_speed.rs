//! How fast line protocol and MQTT payloads are read into intakes, without sockets or disk, and
//! what a tick of host metrics costs.
//!
//! `cargo run --release -p inputs --example parse_speed` prints events a second of one thread and of two.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a program that prints")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inputs::host::{HostConfig, Sampler};
use inputs::lineproto::{self, Options};
use inputs::{Door, IntakeBuilder, Mapper, MappingConfig, Rejects, SeriesCache, SystemClock};
use journal::{Journal, JournalConfig};
use telemetry::SeriesTable;

const RUN: Duration = Duration::from_secs(2);

/// 1,000 lines of 95 series at increasing times, as a gateway sends them.
fn body() -> Vec<u8> {
    let mut out = String::new();
    for n in 0..1000_u64 {
        let (series, time) = (n % 95, 1_709_287_200_000_000_000 + n / 95 * 1_000_000_000);
        out.push_str(&format!(
            "machine,site=plant1,device=pump{} temperature={}.{:02} {time}\n",
            series,
            20 + n % 7,
            n % 100
        ));
    }
    out.into_bytes()
}

fn wide() -> Vec<u8> {
    let mut out = String::new();
    for n in 0..100_u64 {
        out.push_str(&format!("cpu,cpu=cpu{},host=edge-7", n % 8));
        for (at, field) in
            ["user", "system", "idle", "iowait", "irq", "softirq", "steal", "nice", "guest", "guest_nice"]
                .iter()
                .enumerate()
        {
            out.push_str(&format!(
                "{}usage_{field}={}.{:06}",
                if at == 0 { " " } else { "," },
                n % 90,
                n * 7919
            ));
        }
        out.push_str(&format!(" {}\n", 1_709_287_200_000_000_000 + n));
    }
    out.into_bytes()
}

fn measure(name: &str, door: &Door, threads: usize, work: impl Fn(&mut IntakeBuilder<'_>) + Sync) {
    let begun = Instant::now();
    let total: usize = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut cache = SeriesCache::new();
                    let mut total = 0;
                    while begun.elapsed() < RUN {
                        for _ in 0..20 {
                            let mut out = IntakeBuilder::new(door, &mut cache, door.now());
                            out.reserve(1000);
                            work(&mut out);
                            total += out.finish().len();
                        }
                    }
                    total
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let rate = total as f64 / begun.elapsed().as_secs_f64();
    println!("{name:<44} {threads} thread(s) {:>7.2} M events/s", rate / 1e6);
}

/// The cost of one tick of host metrics, and what that is of a core at an interval of 10 s.
fn host(door: &Door) {
    let mut sampler = Sampler::new(HostConfig::default());
    let mut cache = SeriesCache::new();
    let (mut samples, begun, ticks) = (0, Instant::now(), 500);
    for _ in 0..ticks {
        let at = door.now();
        let mut out = IntakeBuilder::new(door, &mut cache, at);
        sampler.sample(at.wall, &mut out);
        samples = out.finish().len();
    }
    let tick = begun.elapsed() / ticks;
    println!(
        "host metrics: {samples} samples in {tick:?} a tick: {:.4} % of a core at 10 s",
        tick.as_secs_f64() * 10.0
    );
}

fn main() {
    let dir = std::env::temp_dir().join(format!("telemetryx-parse-{}", std::process::id()));
    let table = SeriesTable::new(100_000);
    let config = JournalConfig::new(PathBuf::from(&dir));
    let (journal, _) = Journal::open(config, Arc::new(seglog::Disk), Arc::clone(&table)).unwrap();
    let door = Door::new(0, "bench", journal, table, Arc::new(Rejects::new()), Arc::new(SystemClock));
    let mapper = Mapper::new(&MappingConfig::default()).unwrap();
    let (lines, wide) = (body(), wide());
    let topics: Vec<String> = (0..95).map(|n| format!("plant1/pump{n}/temperature")).collect();
    for threads in [1, 2] {
        measure("line protocol, 1 field a line", &door, threads, |out| {
            lineproto::parse(&lines, &Options::default(), out);
        });
        measure("line protocol, 10 fields a line", &door, threads, |out| {
            lineproto::parse(&wide, &Options::default(), out);
        });
        measure("MQTT, a bare number", &door, threads, |out| {
            let at = out.at();
            for n in 0..950 {
                mapper.map(&topics[n % 95], b"21.53", false, at, out);
            }
        });
        measure("MQTT, JSON with 4 numbers", &door, threads, |out| {
            let at = out.at();
            for n in 0..200 {
                let payload =
                    br#"{"voltage":236.95,"power":12.5,"current":0.05,"linkquality":115,"unit":"x"}"#;
                mapper.map(&topics[n % 95], payload, false, at, out);
            }
        });
    }
    host(&door);
    door.journal.close();
    let _ = std::fs::remove_dir_all(&dir);
}
