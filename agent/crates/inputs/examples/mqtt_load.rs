//! How many QoS 1 publishes a second a broker acknowledges: any broker, on any port.
//!
//! ```sh
//! cargo run --release -p inputs --example mqtt_load -- --port 1883 --connections 50 --seconds 10
//! cargo run --release -p inputs --example mqtt_load -- --serve /tmp/front   # our front alone, for comparison
//! cargo run --release -p inputs --example mqtt_load -- --sink               # what answers at once and keeps nothing
//! ```
//! Each connection keeps `--inflight` publishes unacknowledged. Delays are from send to PUBACK. The
//! last line is JSON: `{"acked":…,"per_second":…,"p50_ms":…,"p99_ms":…}`.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

mod sink;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone)]
struct Load {
    host: String,
    port: u16,
    connections: usize,
    inflight: usize,
    seconds: u64,
    bytes: usize,
    v5: bool,
    subscriber: bool,
    serve: Option<String>,
    /// Serve, but answer everything at once and keep nothing: what is measured then is this program.
    sink: bool,
}

fn arguments() -> Result<Load, Failure> {
    let mut load = Load {
        host: "127.0.0.1".into(),
        port: 1883,
        connections: 50,
        inflight: 20,
        seconds: 5,
        bytes: 100,
        v5: false,
        subscriber: false,
        serve: None,
        sink: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{name} needs a value"));
        match name.as_str() {
            "--host" => load.host = value()?,
            "--port" => load.port = value()?.parse()?,
            "--connections" => load.connections = value()?.parse()?,
            "--inflight" => load.inflight = value()?.parse()?,
            "--seconds" => load.seconds = value()?.parse()?,
            "--bytes" => load.bytes = value()?.parse()?,
            "--serve" => load.serve = Some(value()?),
            "--sink" => load.sink = true,
            "--v5" => load.v5 = true,
            "--subscriber" => load.subscriber = true,
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    Ok(load)
}

fn text(text: &str) -> Vec<u8> {
    let mut out = (text.len() as u16).to_be_bytes().to_vec();
    out.extend_from_slice(text.as_bytes());
    out
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut n = body.len();
    loop {
        let byte = (n & 0x7f) as u8;
        n >>= 7;
        out.push(if n > 0 { byte | 0x80 } else { byte });
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

async fn connect(load: &Load, id: &str) -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect((load.host.as_str(), load.port)).await?;
    stream.set_nodelay(true)?;
    let mut body = text("MQTT");
    body.extend_from_slice(&[if load.v5 { 5 } else { 4 }, 2, 0, 0]);
    if load.v5 {
        body.push(0);
    }
    body.extend_from_slice(&text(id));
    stream.write_all(&packet(0x10, &body)).await?;
    let mut head = [0; 2];
    stream.read_exact(&mut head).await?;
    let mut body = vec![0; head[1].into()];
    stream.read_exact(&mut body).await?;
    if head[0] != 0x20 || body.get(1) != Some(&0) {
        return Err(format!("CONNECT was refused: {head:?} {body:?}").into());
    }
    Ok(stream)
}

/// Publishes until the time is up; the delays of what was acknowledged, in microseconds.
async fn publisher(load: Load, number: usize, end: Instant) -> Result<Vec<u32>, Failure> {
    let mut stream = connect(&load, &format!("load-{number}")).await?;
    let topic = text(&format!("plant1/pump{number}/temperature"));
    // A number, padded to the size asked for: what a sensor sends.
    let value = format!("{:<width$}", 21.5 + number as f64, width = load.bytes);
    let mut sent: VecDeque<Instant> = VecDeque::new();
    let mut delays = Vec::new();
    let (mut next, mut input, mut have) = (1u16, vec![0u8; 64 << 10], 0usize);
    let mut out = Vec::new();
    loop {
        let now = Instant::now();
        if now >= end && sent.is_empty() {
            return Ok(delays);
        }
        out.clear();
        while now < end && sent.len() < load.inflight {
            let mut body = topic.clone();
            body.extend_from_slice(&next.to_be_bytes());
            if load.v5 {
                body.push(0);
            }
            body.extend_from_slice(value.as_bytes());
            out.extend_from_slice(&packet(0x32, &body));
            next = if next == u16::MAX { 1 } else { next + 1 };
            sent.push_back(now);
        }
        if !out.is_empty() {
            stream.write_all(&out).await?;
        }
        let n = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut input[have..])).await??;
        if n == 0 {
            return Err("the broker closed a connection".into());
        }
        have += n;
        let (mut at, now) = (0, Instant::now());
        while have - at >= 2 && have - at >= 2 + usize::from(input[at + 1]) {
            if input[at] == 0x40
                && let Some(since) = sent.pop_front()
            {
                delays.push(u32::try_from((now - since).as_micros()).unwrap_or(u32::MAX));
            }
            at += 2 + usize::from(input[at + 1]);
        }
        input.copy_within(at..have, 0);
        have -= at;
    }
}

/// Subscribes to everything and counts the bytes that come.
async fn subscriber(load: Load, bytes: Arc<AtomicU64>) -> Result<(), Failure> {
    let mut stream = connect(&load, "load-subscriber").await?;
    let properties: &[u8] = if load.v5 { &[0] } else { &[] };
    stream.write_all(&packet(0x82, &[&[0, 1][..], properties, &text("plant1/#"), &[0]].concat())).await?;
    let mut input = vec![0; 256 << 10];
    loop {
        match stream.read(&mut input).await? {
            0 => return Ok(()),
            n => bytes.fetch_add(n as u64, Relaxed),
        };
    }
}

/// Our front alone, with a journal that is released as it grows.
async fn serve(load: &Load, dir: &str) -> Result<(), Failure> {
    use inputs::{Door, Rejects, SystemClock, mqtt};
    let table = telemetry::SeriesTable::new(100_000);
    let dir = Path::new(dir);
    let config = journal::JournalConfig::new(dir.join("journal"));
    let (journal, _) = journal::Journal::open(config, Arc::new(seglog::Disk), Arc::clone(&table))?;
    let door = Door::new(0, "mqtt", journal.clone(), table, Arc::new(Rejects::new()), Arc::new(SystemClock));
    let release = tokio::spawn(async move {
        let mut durable = journal.durable();
        while durable.changed().await.is_ok() {
            let position = *durable.borrow_and_update();
            journal.release(journal::Holder::Fold, position);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let listen = format!("{}:{}", load.host, load.port).parse()?;
    let config = mqtt::MqttConfig { listen: Some(listen), ..mqtt::MqttConfig::default() };
    let stop = tokio_util::sync::CancellationToken::new();
    let stopper = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopper.cancel();
        }
    });
    eprintln!("MQTT on {listen}");
    let storage = Arc::new(seglog::Disk);
    mqtt::run(mqtt::LiveConfig::new(config), door, &dir.join("sessions"), storage, stop).await?;
    release.abort();
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let load = arguments()?;
    if load.sink {
        return Ok(sink::run(load.port, sink::mqtt).await?);
    }
    if let Some(dir) = &load.serve {
        return serve(&load, dir).await;
    }
    let delivered = Arc::new(AtomicU64::new(0));
    if load.subscriber {
        tokio::spawn(subscriber(load.clone(), Arc::clone(&delivered)));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let begin = Instant::now();
    let end = begin + Duration::from_secs(load.seconds);
    let tasks: Vec<_> =
        (0..load.connections).map(|number| tokio::spawn(publisher(load.clone(), number, end))).collect();
    let mut delays = Vec::new();
    for task in tasks {
        delays.extend(task.await??);
    }
    let seconds = begin.elapsed().as_secs_f64();
    delays.sort_unstable();
    let percentile = |part: f64| {
        let at = ((delays.len() as f64 * part) as usize).min(delays.len().saturating_sub(1));
        f64::from(delays.get(at).copied().unwrap_or(0)) / 1_000.0
    };
    let per_second = delays.len() as f64 / seconds;
    println!("{} publishes acknowledged in {seconds:.2} s: {per_second:.0} a second", delays.len());
    if load.subscriber {
        println!("{} MB delivered to the subscriber", delivered.load(Relaxed) >> 20);
    }
    println!(
        "{{\"acked\":{},\"per_second\":{per_second:.0},\"p50_ms\":{:.3},\"p99_ms\":{:.3}}}",
        delays.len(),
        percentile(0.5),
        percentile(0.99)
    );
    Ok(())
}
