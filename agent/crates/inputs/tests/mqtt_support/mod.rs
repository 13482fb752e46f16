//! What the MQTT tests share: a front on a simulated or real disk, and a client that speaks raw bytes.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

pub mod authority;
pub mod programs;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use inputs::clock::ManualClock;
use inputs::mqtt::{LiveConfig, MqttConfig, MqttError, UserConfig};
use inputs::{Clock, Door, Rejects, SystemClock, Timeline};
use journal::{Journal, JournalConfig};
use seglog::Storage;
use seglog::sim::SimDisk;
use telemetry::{Cause, Record, SeriesTable, Tracer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const WAIT: Duration = Duration::from_secs(20);

/// A running front with a journal of its own.
pub struct Front {
    pub address: SocketAddr,
    pub door: Door,
    pub stop: CancellationToken,
    /// What stands for the config file, read again when another is sent.
    pub live: LiveConfig,
    task: JoinHandle<Result<(), MqttError>>,
}

impl Front {
    pub async fn start(disk: &SimDisk, config: MqttConfig) -> Self {
        Self::on(Arc::new(disk.clone()), Path::new("/data"), config).await
    }

    pub async fn on(storage: Arc<dyn Storage>, dir: &Path, config: MqttConfig) -> Self {
        Self::on_both(storage, dir, config, None).await
    }

    /// With a port for TLS too.
    pub async fn on_both(
        storage: Arc<dyn Storage>,
        dir: &Path,
        config: MqttConfig,
        secure: Option<TcpListener>,
    ) -> Self {
        Self::by(storage, dir, config, secure, Arc::new(SystemClock), None).await
    }

    /// By a clock that the test moves, always in one boot.
    pub async fn at(disk: &SimDisk, clock: &Arc<ManualClock>) -> Self {
        let (storage, clock) = (Arc::new(disk.clone()), Arc::clone(clock));
        Self::by(storage, Path::new("/data"), MqttConfig::default(), None, clock, None).await
    }

    /// With traces.
    pub async fn traced(disk: &SimDisk, tracer: Arc<Tracer>) -> Self {
        let (storage, config) = (Arc::new(disk.clone()), MqttConfig::default());
        Self::by(storage, Path::new("/data"), config, None, Arc::new(SystemClock), Some(tracer)).await
    }

    async fn by(
        storage: Arc<dyn Storage>,
        dir: &Path,
        config: MqttConfig,
        secure: Option<TcpListener>,
        clock: Arc<dyn Clock>,
        tracer: Option<Arc<Tracer>>,
    ) -> Self {
        let table = SeriesTable::new(10_000);
        let journal = JournalConfig::new(dir.join("journal"));
        let (journal, _) = Journal::open(journal, Arc::clone(&storage), Arc::clone(&table)).unwrap();
        let door = Door::new(1, "mqtt", journal, table, Arc::new(Rejects::new()), Arc::clone(&clock));
        let timeline = dir.join("timeline");
        let timeline = Timeline::open(Arc::clone(&storage), &timeline, [1; 16], clock.now()).unwrap();
        let door = door.with_timeline(Arc::new(timeline)).with_tracer(tracer);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let (door2, stop2, dir) = (door.clone(), stop.clone(), dir.join("sessions"));
        let live = LiveConfig::new(config);
        let given = live.clone();
        let task = tokio::spawn(async move {
            inputs::mqtt::serve(given, door2, &dir, storage, Some(listener), secure, stop2).await
        });
        Self { address, door, stop, live, task }
    }

    /// Ends it in order.
    pub async fn stop(self) {
        self.stop.cancel();
        within(self.task).await.unwrap().unwrap();
        self.door.journal.close();
    }

    /// The power goes: what is not on the disk is lost.
    pub async fn crash(self, disk: &SimDisk) {
        // From here on every call to the disk fails, so stopping in order writes nothing more.
        disk.crash_after(0);
        self.stop.cancel();
        within(self.task).await.unwrap().unwrap();
        let journal = self.door.journal.clone();
        tokio::task::spawn_blocking(move || journal.close()).await.unwrap();
        disk.crash();
    }

    pub async fn connect(&self, id: &str) -> Client {
        Client::v4(self.address, id, true).await
    }

    pub async fn raw(&self) -> Client {
        Client { stream: within(TcpStream::connect(self.address)).await.unwrap(), v5: false }
    }

    /// Reads the configuration again, after this change to it.
    pub async fn reload(&self, change: impl FnOnce(&mut MqttConfig)) {
        let mut config = self.live.config();
        change(&mut config);
        self.live.set(config);
        within(self.live.in_force()).await;
    }

    /// Waits until so many were counted as forbidden; the reasons of those that are kept.
    pub async fn forbidden(&self, n: u64) -> Vec<String> {
        within(async {
            while self.door.stats.count(Cause::RejectedForbidden) < n {
                self.door.flush().unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert_eq!(self.door.stats.count(Cause::RejectedForbidden), n, "{:?}", self.door.rejects.list());
        let kept = self.door.rejects.list().into_iter().filter(|reject| reject.cause == "rejected_forbidden");
        kept.map(|reject| reject.reason).collect()
    }

    /// What CONNACK answers a client that is refused, which then hears nothing more.
    pub async fn refusal(&self, connect: &Connect) -> u8 {
        refusal(self.address, connect).await
    }

    /// Values of all samples in the journal, in order.
    pub fn values(&self) -> Vec<f64> {
        let mut values = Vec::new();
        for record in self.records() {
            if let Record::Intake(intake) = record {
                values.extend(intake.values);
            }
        }
        values
    }

    pub fn records(&self) -> Vec<Record> {
        let last = *self.door.journal.durable().borrow();
        let mut reader = self.door.journal.reader(0);
        let mut records = Vec::new();
        let mut at = 0;
        while at < last {
            let Some((position, record)) = reader.next(Duration::from_secs(5)).unwrap() else { break };
            at = position;
            records.push(record);
        }
        records
    }
}

pub async fn within<F: std::future::IntoFuture>(future: F) -> F::Output {
    tokio::time::timeout(WAIT, future).await.expect("it took too long")
}

/// As [`Front::refusal`], at another address.
pub async fn refusal(address: SocketAddr, connect: &Connect) -> u8 {
    let mut client = Client { stream: within(TcpStream::connect(address)).await.unwrap(), v5: connect.v5 };
    client.send(&connect.bytes()).await;
    let came = client.until_closed().await;
    let [Packet(0x20, answer)] = &came[..] else { panic!("not refused: {came:?}") };
    assert_ne!(answer[1], 0, "let in");
    answer[1]
}

pub fn user(name: &str, password: &str, read: &[&str], write: &[&str]) -> UserConfig {
    UserConfig {
        name: name.into(),
        password_hash: inputs::mqtt::hash_password(password).unwrap(),
        read: read.iter().map(|text| (*text).to_owned()).collect(),
        write: write.iter().map(|text| (*text).to_owned()).collect(),
        ..UserConfig::default()
    }
}

/// The same, by a certificate of that name.
pub fn bearer(name: &str, read: &[&str], write: &[&str]) -> UserConfig {
    UserConfig { password_hash: String::new(), certificate: true, ..user(name, "-", read, write) }
}

/// One packet: first byte and body.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Packet(pub u8, pub Vec<u8>);

impl Packet {
    /// Topic, payload, QoS, packet id of a v3 PUBLISH.
    pub fn publish(&self) -> (String, String, u8, u16) {
        self.publish_of(false)
    }

    pub fn publish_of(&self, v5: bool) -> (String, String, u8, u16) {
        assert_eq!(self.0 >> 4, 3, "not a PUBLISH: {self:?}");
        let n = usize::from(u16::from_be_bytes([self.1[0], self.1[1]]));
        let topic = String::from_utf8(self.1[2..2 + n].to_vec()).unwrap();
        let (qos, mut at, mut pkid) = ((self.0 >> 1) & 3, 2 + n, 0);
        if qos > 0 {
            pkid = u16::from_be_bytes([self.1[at], self.1[at + 1]]);
            at += 2;
        }
        if v5 {
            at += 1 + usize::from(self.1[at]);
        }
        (topic, String::from_utf8_lossy(&self.1[at..]).into_owned(), qos, pkid)
    }

    pub fn is_dup(&self) -> bool {
        self.0 & 8 != 0
    }

    pub fn is_retained(&self) -> bool {
        self.0 & 1 != 0
    }
}

pub fn text(text: &str) -> Vec<u8> {
    let mut out = (text.len() as u16).to_be_bytes().to_vec();
    out.extend_from_slice(text.as_bytes());
    out
}

pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
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

/// Terms of a CONNECT.
#[derive(Clone, Debug)]
pub struct Connect {
    pub id: String,
    pub v5: bool,
    pub clean: bool,
    pub keep_alive: u16,
    pub login: Option<(String, String)>,
    /// Topic, payload, QoS, retain.
    pub will: Option<(String, String, u8, bool)>,
    pub properties: Vec<u8>,
    pub will_properties: Vec<u8>,
}

impl Connect {
    pub fn new(id: &str) -> Self {
        Self {
            id: id.into(),
            v5: false,
            clean: true,
            keep_alive: 0,
            login: None,
            will: None,
            properties: vec![],
            will_properties: vec![],
        }
    }

    pub fn v5(id: &str) -> Self {
        Self { v5: true, ..Self::new(id) }
    }

    pub fn keep(self) -> Self {
        Self { clean: false, ..self }
    }

    pub fn expiry(mut self, seconds: u32) -> Self {
        self.properties.push(17);
        self.properties.extend_from_slice(&seconds.to_be_bytes());
        self
    }

    pub fn login(self, name: &str, password: &str) -> Self {
        Self { login: Some((name.into(), password.into())), ..self }
    }

    pub fn will(self, topic: &str, payload: &str, qos: u8, retain: bool) -> Self {
        Self { will: Some((topic.into(), payload.into(), qos, retain)), ..self }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut body = text("MQTT");
        let mut flags = u8::from(self.clean) << 1;
        if let Some((_, _, qos, retain)) = &self.will {
            flags |= 4 | qos << 3 | u8::from(*retain) << 5;
        }
        if self.login.is_some() {
            flags |= 0xc0;
        }
        body.extend_from_slice(&[if self.v5 { 5 } else { 4 }, flags]);
        body.extend_from_slice(&self.keep_alive.to_be_bytes());
        if self.v5 {
            body.push(self.properties.len() as u8);
            body.extend_from_slice(&self.properties);
        }
        body.extend_from_slice(&text(&self.id));
        if let Some((topic, payload, ..)) = &self.will {
            if self.v5 {
                body.push(self.will_properties.len() as u8);
                body.extend_from_slice(&self.will_properties);
            }
            body.extend_from_slice(&text(topic));
            body.extend_from_slice(&text(payload));
        }
        if let Some((name, password)) = &self.login {
            body.extend_from_slice(&text(name));
            body.extend_from_slice(&text(password));
        }
        packet(0x10, &body)
    }
}

/// A client that says what it is told to.
pub struct Client {
    pub stream: TcpStream,
    pub v5: bool,
}

impl Client {
    pub async fn v4(address: SocketAddr, id: &str, clean: bool) -> Self {
        let (client, _) = Self::open(address, &Connect { clean, ..Connect::new(id) }).await;
        client
    }

    /// Connects with a clean session, if it is let in.
    pub async fn try_v4(address: SocketAddr, id: &str) -> Option<Self> {
        let mut client = Self { stream: within(TcpStream::connect(address)).await.ok()?, v5: false };
        client.stream.write_all(&Connect::new(id).bytes()).await.ok()?;
        (within(client.try_next()).await? == Packet(0x20, vec![0, 0])).then_some(client)
    }

    /// Connects; says whether the session was there.
    pub async fn open(address: SocketAddr, connect: &Connect) -> (Self, bool) {
        let mut client = Self { stream: within(TcpStream::connect(address)).await.unwrap(), v5: connect.v5 };
        client.send(&connect.bytes()).await;
        let ack = client.next().await;
        assert_eq!(ack.0, 0x20, "{ack:?}");
        assert_eq!(ack.1[1], 0, "refused: {ack:?}");
        (client, ack.1[0] == 1)
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        within(self.stream.write_all(bytes)).await.unwrap();
    }

    pub async fn try_next(&mut self) -> Option<Packet> {
        let mut first = [0; 1];
        self.stream.read_exact(&mut first).await.ok()?;
        let (mut n, mut shift) = (0usize, 0);
        loop {
            let mut byte = [0; 1];
            self.stream.read_exact(&mut byte).await.ok()?;
            n |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; n];
        self.stream.read_exact(&mut body).await.ok()?;
        Some(Packet(first[0], body))
    }

    pub async fn next(&mut self) -> Packet {
        within(self.try_next()).await.expect("the connection was closed")
    }

    /// Nothing has come, nor comes for what was sent so far.
    pub async fn nothing(&mut self) {
        let came = self.all().await;
        assert!(came.is_empty(), "something came: {came:?}");
    }

    /// What has come, and what comes for what was sent so far. An answer to a ping may overtake
    /// what waits for the disk or in the queue, so it takes two.
    pub async fn all(&mut self) -> Vec<Packet> {
        let mut came = Vec::new();
        for _ in 0..2 {
            self.send(&[0xc0, 0]).await;
            loop {
                match self.next().await {
                    Packet(0xd0, _) => break,
                    packet => came.push(packet),
                }
            }
        }
        came
    }

    /// What comes until the server closes.
    pub async fn until_closed(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        while let Some(packet) = within(self.try_next()).await {
            packets.push(packet);
        }
        packets
    }

    pub async fn publish(&mut self, topic: &str, payload: &str, qos: u8, pkid: u16) {
        self.publish_with(topic, payload, qos << 1, pkid).await;
    }

    pub async fn publish_with(&mut self, topic: &str, payload: &str, flags: u8, pkid: u16) {
        let bytes = publish(self.v5, topic, payload, flags, pkid);
        self.send(&bytes).await;
    }

    pub async fn subscribe(&mut self, filter: &str, qos: u8) -> u8 {
        let mut body = vec![0, 77];
        if self.v5 {
            body.push(0);
        }
        body.extend_from_slice(&text(filter));
        body.push(qos);
        self.send(&packet(0x82, &body)).await;
        let ack = self.next().await;
        assert_eq!(ack.0, 0x90, "{ack:?}");
        *ack.1.last().unwrap()
    }

    pub async fn ack(&mut self, first: u8, pkid: u16) {
        self.send(&packet(first, &pkid.to_be_bytes())).await;
    }

    pub async fn disconnect(mut self) {
        self.send(&[0xe0, 0]).await;
        self.until_closed().await;
    }
}

pub fn publish(v5: bool, topic: &str, payload: &str, flags: u8, pkid: u16) -> Vec<u8> {
    let mut body = text(topic);
    if (flags >> 1) & 3 > 0 {
        body.extend_from_slice(&pkid.to_be_bytes());
    }
    if v5 {
        body.push(0);
    }
    body.extend_from_slice(payload.as_bytes());
    packet(0x30 | flags, &body)
}

pub const PUBACK: u8 = 0x40;
pub const PUBREC: u8 = 0x50;
pub const PUBREL: u8 = 0x62;
pub const PUBCOMP: u8 = 0x70;

pub fn ack(first: u8, pkid: u16) -> Packet {
    Packet(first & 0xf0 | if first == PUBREL { 2 } else { 0 }, pkid.to_be_bytes().to_vec())
}

impl Client {
    /// Nothing comes for this long. For a connection that isn't read from: a ping gets no answer.
    pub async fn nothing_for(&mut self, time: Duration) {
        let came = tokio::time::timeout(time, self.try_next()).await;
        assert!(came.is_err(), "something came: {came:?}");
    }
}

impl Client {
    /// True when a ping is answered before the connection ends.
    pub async fn try_ping(&mut self) -> bool {
        if self.stream.write_all(&[0xc0, 0]).await.is_err() {
            return false;
        }
        within(self.try_next()).await == Some(Packet(0xd0, vec![]))
    }

    /// Reads until the PUBACK of a packet id; what came before it.
    pub async fn until_ack(&mut self, pkid: u16) -> Vec<Packet> {
        let mut before = Vec::new();
        loop {
            let packet = self.next().await;
            if packet == ack(PUBACK, pkid) {
                return before;
            }
            before.push(packet);
        }
    }
}
