//! An HTTP input on a real socket over a journal on a simulated disk, and a client that shows raw answers.

#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "shared by tests, each uses a part"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use inputs::clock::ManualClock;
use inputs::http::{self, HttpConfig};
use inputs::{Clock, Door, Rejects, Timeline};
use journal::{Journal, JournalConfig};
use seglog::sim::SimDisk;
use telemetry::{Boot, Cause, Counts, Intake, Record, SeriesTable, Tracer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// 2024-03-01T12:00:00Z.
pub const NOW: i64 = 1_709_294_400_000_000_000;
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Server {
    pub address: SocketAddr,
    pub disk: SimDisk,
    pub door: Door,
    pub table: Arc<SeriesTable>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub async fn start() -> Self {
        Self::with(SimDisk::new(7), HttpConfig::default(), |_| {}).await
    }

    pub async fn with(disk: SimDisk, config: HttpConfig, journal: impl FnOnce(&mut JournalConfig)) -> Self {
        Self::on(disk, config, journal, [1; 16], Arc::new(ManualClock::at(NOW))).await
    }

    /// In a boot, by a clock that the test moves.
    pub async fn at(disk: SimDisk, boot: Boot, clock: &Arc<ManualClock>) -> Self {
        Self::on(disk, HttpConfig::default(), |_| {}, boot, Arc::clone(clock)).await
    }

    /// With traces.
    pub async fn traced(tracer: Arc<Tracer>) -> Self {
        let clock = Arc::new(ManualClock::at(NOW));
        Self::build(SimDisk::new(7), HttpConfig::default(), |_| {}, [1; 16], clock, Some(tracer)).await
    }

    async fn on(
        disk: SimDisk,
        config: HttpConfig,
        journal: impl FnOnce(&mut JournalConfig),
        boot: Boot,
        clock: Arc<ManualClock>,
    ) -> Self {
        Self::build(disk, config, journal, boot, clock, None).await
    }

    async fn build(
        disk: SimDisk,
        config: HttpConfig,
        journal: impl FnOnce(&mut JournalConfig),
        boot: Boot,
        clock: Arc<ManualClock>,
        tracer: Option<Arc<Tracer>>,
    ) -> Self {
        let table = SeriesTable::new(10_000);
        let mut settings = JournalConfig::new(Path::new("/journal"));
        journal(&mut settings);
        let (journal, _) = Journal::open(settings, Arc::new(disk.clone()), Arc::clone(&table)).unwrap();
        let (storage, now) = (Arc::new(disk.clone()), clock.now());
        let timeline = Arc::new(Timeline::open(storage, Path::new("/timeline"), boot, now).unwrap());
        let door = Door::new(2, "http", journal, Arc::clone(&table), Arc::new(Rejects::new()), clock)
            .with_timeline(timeline)
            .with_tracer(tracer)
            .with_state(Arc::new(disk.clone()), "/keys".into());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let task = {
            let (door, stop) = (door.clone(), stop.clone());
            tokio::spawn(async move { http::run_on(listener, config, door, stop).await.unwrap() })
        };
        Self { address, disk, door, table, stop, task }
    }

    /// Ends the input and the journal, as a clean stop does.
    pub async fn stop(self) -> SimDisk {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
        self.door.journal.close();
        self.disk
    }

    /// Dies: what isn't durable is lost.
    pub async fn crash(self) -> SimDisk {
        self.task.abort();
        let _ = self.task.await;
        self.disk.crash();
        self.door.journal.close();
        self.disk
    }

    pub async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap() }
    }

    /// One request on a connection of its own.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut client = self.connect().await;
        client.send("POST", path, headers, body).await;
        client.answer().await
    }

    pub async fn get(&self, path: &str) -> Answer {
        let mut client = self.connect().await;
        client.send("GET", path, &[], b"").await;
        client.answer().await
    }

    /// All intakes that are durable.
    pub fn intakes(&self) -> Vec<Intake> {
        let mut reader = self.door.journal.reader(0);
        let mut intakes = Vec::new();
        while let Some((_, record)) = reader.next(Duration::ZERO).unwrap() {
            if let Record::Intake(intake) = record {
                intakes.push(intake);
            }
        }
        intakes
    }

    /// All durable samples as `name{labels} = value @time`.
    pub fn samples(&self) -> Vec<String> {
        let mut out = Vec::new();
        for intake in self.intakes() {
            for at in 0..intake.index.len() {
                let def = self.table.get(intake.series[intake.index[at] as usize]).unwrap();
                let time =
                    if intake.times[at] == NOW { "now".to_owned() } else { intake.times[at].to_string() };
                out.push(format!("{} = {} @{time}", def.key, intake.values[at]));
            }
        }
        out
    }

    /// All durable counts together.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        for intake in self.intakes() {
            counts.merge(&intake.counts);
        }
        counts
    }

    /// Writes counts that wait, then gives one.
    pub async fn count(&self, cause: Cause) -> u64 {
        self.door.flush().unwrap();
        self.door.durable(self.door.journal.last()).await.unwrap();
        self.counts().get(cause)
    }
}

pub struct Client {
    pub stream: TcpStream,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (known, value) = line.split_once(": ")?;
            known.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Client {
    pub async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut request = format!("{head}\r\n").into_bytes();
        request.extend_from_slice(body);
        self.raw(&request).await;
    }

    /// Writes bytes; a peer that closed meanwhile is no error.
    pub async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// The next answer, or `None` when the connection was closed.
    pub async fn try_answer(&mut self) -> Option<Answer> {
        tokio::time::timeout(PATIENCE, async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match self.stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return None,
                }
            }
            let head = String::from_utf8(head).unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            let mut answer = Answer { status, head, body: String::new() };
            let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await.ok()?;
            answer.body = String::from_utf8(body).unwrap();
            Some(answer)
        })
        .await
        .expect("an answer or an end in time")
    }

    pub async fn answer(&mut self) -> Answer {
        self.try_answer().await.expect("an answer")
    }

    /// True when nothing comes for a while.
    pub async fn is_silent(&mut self) -> bool {
        let mut byte = [0];
        tokio::time::timeout(Duration::from_millis(150), self.stream.peek(&mut byte)).await.is_err()
    }
}
