//! How many lines of line protocol a second a server acknowledges, over HTTP or over TCP in ACK mode.
//!
//! ```sh
//! cargo run --release -p inputs --example line_load -- --port 8186 --connections 8 --lines 1000 --seconds 10
//! cargo run --release -p inputs --example line_load -- --port 8187 --tcp
//! cargo run --release -p inputs --example line_load -- --port 8186 --rate 10000 --lines 100   # paced
//! cargo run --release -p inputs --example line_load -- --serve /tmp/front --port 8186         # our inputs alone
//! cargo run --release -p inputs --example line_load -- --sink --port 8186                     # what answers at once
//! ```
//! A request (over TCP: a group) is `--lines` lines over `--series` series with the time of sending, and
//! each connection waits for its answer before it sends the next (over TCP: has at most `--inflight` groups
//! unanswered). Delays are from send to answer. 503 is
//! counted as `pushed_back` and sent again after 20 ms. The last line is JSON:
//! `{"acked":…,"per_second":…,"p50_ms":…,"p99_ms":…,"pushed_back":…,"cpu_s":…}`, `cpu_s` being this program's own.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it measures and prints")]

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

mod sink;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Digits of a time in nanoseconds until the year 2286.
const DIGITS: usize = 19;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Clone)]
struct Load {
    port: u16,
    connections: usize,
    lines: usize,
    series: usize,
    seconds: u64,
    /// Lines a second over all connections; 0 is as fast as they are acknowledged.
    rate: u64,
    tcp: bool,
    /// Groups of one TCP connection that may wait for their acknowledgement.
    inflight: usize,
    /// Lines are the host metrics that the default model scores, eight series a device.
    scored: bool,
    /// How many times faster than the wall clock the lines' times run; they reach now at the end.
    speed: u32,
    serve: Option<String>,
    /// Serve, but answer everything at once and keep nothing: what is measured then is this program.
    sink: bool,
}

fn arguments() -> Result<Load, Failure> {
    let mut load = Load {
        port: 8186,
        connections: 8,
        lines: 1_000,
        series: 100,
        seconds: 5,
        rate: 0,
        tcp: false,
        inflight: 1,
        scored: false,
        speed: 1,
        serve: None,
        sink: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{name} needs a value"));
        match name.as_str() {
            "--port" => load.port = value()?.parse()?,
            "--connections" => load.connections = value()?.parse()?,
            "--lines" => load.lines = value()?.parse()?,
            "--series" => load.series = value()?.parse()?,
            "--seconds" => load.seconds = value()?.parse()?,
            "--rate" => load.rate = value()?.parse()?,
            "--inflight" => load.inflight = value()?.parse()?,
            "--speed" => load.speed = value()?.parse()?,
            "--scored" => load.scored = true,
            "--tcp" => load.tcp = true,
            "--serve" => load.serve = Some(value()?),
            "--sink" => load.sink = true,
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    if load.inflight == 0 || load.lines == 0 || load.series == 0 || load.connections == 0 {
        return Err("--lines, --series, --connections and --inflight must be at least 1".into());
    }
    Ok(load)
}

/// What the default model looks at, as measurement and tag.
const SCORED: [(&str, &str); 8] = [
    ("system.cpu.utilization", "mode=idle"),
    ("system.cpu.utilization", "mode=iowait"),
    ("system.cpu.load_average.1m", "kind=load"),
    ("system.memory.utilization", "state=used"),
    ("system.disk.io", "direction=read"),
    ("system.disk.io", "direction=write"),
    ("system.network.io", "direction=receive"),
    ("system.network.io", "direction=transmit"),
];

/// Lines with a gap for the time in each, so that a request costs little more than a copy.
struct Body {
    bytes: Vec<u8>,
    times: Vec<usize>,
    lines: usize,
    noise: u64,
}

impl Body {
    fn new(load: &Load, connection: usize) -> Self {
        let (mut text, mut times) = (String::new(), Vec::new());
        let mut state = connection as u64 + 1;
        for line in 0..load.lines {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let value = 20.0 + (state >> 48) as f64 / 10_000.0;
            let series = line % load.series;
            let _ = if load.scored {
                let ((name, tag), device) = (SCORED[series % SCORED.len()], series / SCORED.len());
                write!(text, "{name},device=h{connection}x{device},{tag} value={value:.3} ")
            } else {
                write!(text, "bench,site=plant1,device=pump{connection},sensor=s{series} value={value:.3} ")
            };
            times.push(text.len());
            text.push_str(&"0".repeat(DIGITS));
            text.push('\n');
        }
        let head = if load.tcp {
            String::new()
        } else {
            format!("POST /write HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n\r\n", text.len())
        };
        for at in &mut times {
            *at += head.len();
        }
        Self {
            bytes: [head, text].concat().into_bytes(),
            times,
            lines: load.lines,
            noise: connection as u64 + 1,
        }
    }

    /// Writes the time of `ago` before now and other decimals into every line; lines of one series stay a nanosecond apart.
    ///
    /// Values that repeat from request to request would compress to next to nothing and flatter what comes behind.
    fn stamp(&mut self, series: usize, ago: Duration) {
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() - ago.as_nanos();
        for (line, at) in self.times.iter().enumerate() {
            self.noise =
                self.noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // A space stands before the time, the three decimals before that.
            let decimals = self.noise >> 40;
            for (place, by) in [(4, 100), (3, 10), (2, 1)] {
                self.bytes[at - place] = b'0' + (decimals / by % 10) as u8;
            }
            let mut rest = now + (line / series) as u128;
            for digit in (0..DIGITS).rev() {
                self.bytes[at + digit] = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
    }
}

/// What one connection found.
#[derive(Default)]
struct Found {
    lines: usize,
    pushed_back: usize,
    micros: Vec<u32>,
}

impl Found {
    /// Counts the groups that are durable up to this line.
    fn settle(&mut self, waiting: &mut VecDeque<(usize, Instant)>, durable: usize) {
        self.lines = durable;
        while let Some(&(upto, since)) = waiting.front()
            && upto <= durable
        {
            self.micros.push(micros(since));
            waiting.pop_front();
        }
    }
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

/// Bytes that came and are not yet understood.
struct Answers {
    bytes: Vec<u8>,
}

impl Answers {
    async fn more(&mut self, stream: &mut TcpStream) -> Result<(), Failure> {
        let read = tokio::time::timeout(ANSWER_TIMEOUT, stream.read_buf(&mut self.bytes));
        if read.await.map_err(|_| "no answer within 30 s")?? == 0 {
            return Err("the server closed a connection".into());
        }
        Ok(())
    }

    /// The status of the next HTTP answer; its body is read and dropped.
    async fn status(&mut self, stream: &mut TcpStream) -> Result<u16, Failure> {
        loop {
            if let Some(end) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.bytes[..end]).to_ascii_lowercase();
                let status = head.get(9..12).unwrap_or_default().parse()?;
                let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length:"));
                let all = end + 4 + length.map_or(Ok(0), |text| text.trim().parse::<usize>())?;
                while self.bytes.len() < all {
                    self.more(stream).await?;
                }
                if !matches!(status, 204 | 503) {
                    return Err(String::from_utf8_lossy(&self.bytes[..all]).into());
                }
                self.bytes.drain(..all);
                return Ok(status);
            }
            self.more(stream).await?;
        }
    }

    /// Reads the next `OK <lines durable since the connection began>`.
    async fn durable(&mut self, stream: &mut TcpStream) -> Result<usize, Failure> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
                self.bytes.drain(..=end);
                return Ok(line.strip_prefix("OK ").ok_or(line.clone())?.trim().parse()?);
            }
            self.more(stream).await?;
        }
    }
}

async fn sender(load: Load, number: usize, end: Instant) -> Result<Found, Failure> {
    let mut stream = TcpStream::connect(("127.0.0.1", load.port)).await?;
    stream.set_nodelay(true)?;
    let (mut body, mut found) = (Body::new(&load, number), Found::default());
    let mut answers = Answers { bytes: Vec::with_capacity(4096) };
    if load.tcp {
        stream.write_all(b"ACK\n").await?;
    }
    let mut pace = (load.rate > 0).then(|| {
        let every = Duration::from_secs_f64((load.lines * load.connections) as f64 / load.rate as f64);
        // Connections take turns, so that requests are spread over the interval.
        tokio::time::interval_at(
            tokio::time::Instant::now() + every.mul_f64(number as f64 / load.connections as f64),
            every,
        )
    });
    let (mut sent, mut waiting) = (0, VecDeque::new());
    while Instant::now() < end {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let left = end.saturating_duration_since(Instant::now());
        body.stamp(load.series, left * load.speed.saturating_sub(1));
        let since = Instant::now();
        stream.write_all(&body.bytes).await?;
        if load.tcp {
            sent += body.lines;
            waiting.push_back((sent, since));
            while waiting.len() >= load.inflight {
                let durable = answers.durable(&mut stream).await?;
                found.settle(&mut waiting, durable);
            }
        } else if answers.status(&mut stream).await? == 503 {
            found.pushed_back += 1;
            tokio::time::sleep(PAUSE).await;
        } else {
            found.lines += body.lines;
            found.micros.push(micros(since));
        }
    }
    while !waiting.is_empty() {
        let durable = answers.durable(&mut stream).await?;
        found.settle(&mut waiting, durable);
    }
    Ok(found)
}

/// The HTTP input on `--port` and the TCP input on the one above, with a journal that is released as it grows.
async fn serve(load: &Load, dir: &str) -> Result<(), Failure> {
    use inputs::{Door, Rejects, SystemClock, http, tcp};
    let table = telemetry::SeriesTable::new(100_000);
    let config = journal::JournalConfig::new(Path::new(dir).join("journal"));
    let (journal, _) = journal::Journal::open(config, Arc::new(seglog::Disk), Arc::clone(&table))?;
    let door = |input: u16, name: &str| {
        let rejects = Arc::new(Rejects::new());
        Door::new(input, name, journal.clone(), Arc::clone(&table), rejects, Arc::new(SystemClock))
    };
    let stop = tokio_util::sync::CancellationToken::new();
    let stopper = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopper.cancel();
        }
    });
    journal.release(journal::Holder::Sessions, telemetry::Position::MAX);
    let releasing = journal.clone();
    let release = tokio::spawn(async move {
        let mut durable = releasing.durable();
        while durable.changed().await.is_ok() {
            let position = *durable.borrow_and_update();
            releasing.release(journal::Holder::Fold, position);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let listener = TcpListener::bind(("127.0.0.1", load.port)).await?;
    let listen = (std::net::Ipv4Addr::LOCALHOST, load.port + 1).into();
    let tcp_config = tcp::TcpConfig { listen, ..tcp::TcpConfig::default() };
    eprintln!("HTTP on port {}, TCP on port {}", load.port, load.port + 1);
    let tcp = tokio::spawn(tcp::run(tcp_config, door(1, "tcp"), stop.clone()));
    http::run_on(listener, http::HttpConfig::default(), door(0, "http"), stop).await?;
    tcp.await??;
    release.abort();
    Ok(())
}

/// Seconds of CPU that this program used.
fn own_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = fields.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum();
    ticks / 100.0
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let load = arguments()?;
    if load.sink {
        return Ok(sink::run(load.port, sink::http).await?);
    }
    if let Some(dir) = &load.serve {
        return serve(&load, dir).await;
    }
    let begin = Instant::now();
    let end = begin + Duration::from_secs(load.seconds);
    let tasks: Vec<_> =
        (0..load.connections).map(|number| tokio::spawn(sender(load.clone(), number, end))).collect();
    let mut all = Found::default();
    for task in tasks {
        let found = task.await??;
        all.lines += found.lines;
        all.pushed_back += found.pushed_back;
        all.micros.extend(found.micros);
    }
    let seconds = begin.elapsed().as_secs_f64();
    all.micros.sort_unstable();
    let percentile = |part: f64| {
        let at = ((all.micros.len() as f64 * part) as usize).min(all.micros.len().saturating_sub(1));
        f64::from(all.micros.get(at).copied().unwrap_or(0)) / 1_000.0
    };
    println!("{} lines acknowledged in {seconds:.2} s", all.lines);
    println!(
        r#"{{"acked":{},"per_second":{:.0},"p50_ms":{:.3},"p99_ms":{:.3},"pushed_back":{},"cpu_s":{:.2}}}"#,
        all.lines,
        all.lines as f64 / seconds,
        percentile(0.5),
        percentile(0.99),
        all.pushed_back,
        own_cpu()
    );
    Ok(())
}
