//! The TCP input over real sockets: `OK` means durable, and bad lines hurt nobody.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use inputs::clock::ManualClock;
use inputs::tcp::{self, TcpConfig};
use inputs::{Door, Rejects};
use journal::{Journal, JournalConfig};
use seglog::sim::SimDisk;
use telemetry::{Cause, Intake, Record, SeriesTable};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    address: std::net::SocketAddr,
    disk: SimDisk,
    door: Door,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        Self::with(TcpConfig::default(), 256 << 20).await
    }

    async fn with(config: TcpConfig, max_bytes: u64) -> Self {
        let disk = SimDisk::new(5);
        let table = SeriesTable::new(1000);
        let settings =
            JournalConfig { max_bytes, segment_bytes: max_bytes / 8, ..JournalConfig::new(Path::new("/j")) };
        let (journal, _) = Journal::open(settings, Arc::new(disk.clone()), Arc::clone(&table)).unwrap();
        let clock = Arc::new(ManualClock::at(1_709_294_400_000_000_000));
        let door = Door::new(4, "tcp", journal, table, Arc::new(Rejects::new()), clock);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let task = {
            let (door, stop) = (door.clone(), stop.clone());
            tokio::spawn(async move { tcp::run_on(listener, config, door, stop).await.unwrap() })
        };
        Self { address, disk, door, stop, task }
    }

    async fn connect(&self) -> BufReader<TcpStream> {
        BufReader::new(TcpStream::connect(self.address).await.unwrap())
    }

    fn intakes(&self) -> Vec<Intake> {
        let mut reader = self.door.journal.reader(0);
        let mut intakes = Vec::new();
        while let Some((_, record)) = reader.next(Duration::ZERO).unwrap() {
            if let Record::Intake(intake) = record {
                intakes.push(intake);
            }
        }
        intakes
    }

    fn samples(&self) -> usize {
        self.intakes().iter().map(|intake| intake.index.len()).sum()
    }
}

async fn send(client: &mut BufReader<TcpStream>, text: &[u8]) {
    let _ = client.get_mut().write_all(text).await;
}

async fn line(client: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    let read = tokio::time::timeout(PATIENCE, client.read_line(&mut line)).await.expect("a line in time");
    (read.unwrap_or(0) > 0).then(|| line.trim_end().to_owned())
}

/// Reads until everything up to line `n` is settled; gives the errors on the way.
async fn until_ok(client: &mut BufReader<TcpStream>, n: u64) -> Vec<String> {
    let mut errors = Vec::new();
    loop {
        let answer = line(client).await.expect("an answer");
        match answer.strip_prefix("OK ").map(|count| count.parse::<u64>().unwrap()) {
            Some(count) if count >= n => return errors,
            Some(_) => {}
            None => errors.push(answer),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ok_comes_only_after_the_fsync() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    send(&mut client, b"ACK\nm v=0 1\n").await;
    until_ok(&mut client, 1).await;
    server.disk.hold_syncs();
    send(&mut client, b"m v=1 1\nm v=2 2\n").await;
    assert!(server.disk.wait_for_held_sync(PATIENCE));
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(150), client.get_mut().peek(&mut byte)).await;
    assert!(early.is_err(), "nothing before the fsync");
    server.disk.release_syncs();
    assert!(until_ok(&mut client, 3).await.is_empty());
    assert_eq!(server.samples(), 3);
}

#[tokio::test]
async fn a_refused_line_is_named_and_the_others_are_taken() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    send(&mut client, b"ACK\r\nm v=1 1\nm v=\n# comment\nm v=3 3\n\nbad\n").await;
    let errors = until_ok(&mut client, 6).await;
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].starts_with("ERR 2 unable to parse 'm v='"), "{errors:?}");
    assert!(errors[1].starts_with("ERR 6 "), "{errors:?}");
    assert_eq!(server.samples(), 2);
}

#[tokio::test]
async fn json_events_are_told_by_their_first_byte() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    send(&mut client, b"ACK\n{\"msg\":\"one\"}\n\n{\"msg\":\n{\"msg\":\"two\",\"level\":\"warn\"}\n").await;
    let errors = until_ok(&mut client, 4).await;
    assert!(errors.len() == 1 && errors[0].starts_with("ERR 3 not JSON"), "{errors:?}");
    let events: Vec<_> = server.intakes().into_iter().flat_map(|intake| intake.events).collect();
    assert_eq!(events.iter().map(|event| event.body.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    assert!(events.iter().all(|event| event.source == "tcp"));
}

#[tokio::test]
async fn without_ack_nothing_is_said_and_the_last_line_needs_no_end() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    send(&mut client, b"m v=1 1\nbad\nm v=2 2").await;
    client.get_mut().shutdown().await.unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    assert_eq!(server.samples(), 2);
}

#[tokio::test]
async fn bytes_that_come_one_by_one_make_the_same_lines() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for byte in b"ACK\nm v=1 1\nm v=2 2\n" {
        send(&mut client, &[*byte]).await;
        client.get_mut().flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(until_ok(&mut client, 2).await.is_empty());
    assert_eq!(server.samples(), 2);
}

#[tokio::test]
async fn a_line_over_the_limit_is_refused_and_the_connection_goes_on() {
    let server = Server::with(TcpConfig { max_line: 1000, ..TcpConfig::default() }, 256 << 20).await;
    let mut client = server.connect().await;
    send(&mut client, b"ACK\n").await;
    send(&mut client, &vec![b'x'; 100 << 10]).await;
    send(&mut client, b"\nm v=1 1\n").await;
    let errors = until_ok(&mut client, 2).await;
    assert!(errors.len() == 1 && errors[0].starts_with("ERR 1 the line is over 1000 bytes"), "{errors:?}");
    assert_eq!(server.samples(), 1);
    server.door.flush().unwrap();
    server.door.durable(server.door.journal.last()).await.unwrap();
    let refused: u64 = server.intakes().iter().map(|intake| intake.counts.get(Cause::RejectedLimit)).sum();
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn with_a_token_file_only_those_with_a_token_come_in() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    std::fs::write(&file, "secret-token\n").unwrap();
    let server = Server::with(TcpConfig { token_file: Some(file), ..TcpConfig::default() }, 256 << 20).await;
    let mut good = server.connect().await;
    send(&mut good, b"AUTH secret-token\nACK\nm v=1 1\n").await;
    assert!(until_ok(&mut good, 1).await.is_empty());
    for bad in [&b"m v=1 1\n"[..], b"AUTH wrong-token\nm v=1\n", b"ACK\nm v=1\n", b"{\"msg\":\"x\"}\n"] {
        let mut client = server.connect().await;
        send(&mut client, bad).await;
        assert!(line(&mut client).await.unwrap().starts_with("ERR 0 the first line must be AUTH"), "{bad:?}");
        assert_eq!(line(&mut client).await, None);
    }
    assert_eq!(server.samples(), 1);
}

#[tokio::test]
async fn a_full_journal_makes_the_sender_wait_and_nothing_is_lost() {
    let server = Server::with(TcpConfig::default(), 256 << 10).await;
    let mut client = server.connect().await;
    send(&mut client, b"ACK\n").await;
    let (read, mut write) = client.into_inner().into_split();
    let lines = 20_000_u64;
    let sending = tokio::spawn(async move {
        for n in 0..lines {
            write.write_all(format!("m v={n} {n}\n").as_bytes()).await.unwrap();
        }
        write
    });
    let release = {
        let door = server.door.clone();
        tokio::spawn(async move {
            let mut durable = door.journal.durable();
            door.journal.release(journal::Holder::Sessions, telemetry::Position::MAX);
            while durable.changed().await.is_ok() {
                let mark = *durable.borrow();
                door.journal.release(journal::Holder::Fold, mark);
            }
        })
    };
    let mut answers = BufReader::new(read);
    let mut settled = 0;
    while settled < lines {
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, answers.read_line(&mut answer)).await.unwrap().unwrap();
        settled = answer.trim().strip_prefix("OK ").unwrap_or_else(|| panic!("{answer}")).parse().unwrap();
    }
    assert_eq!(server.door.stats.snapshot(server.door.now()).received, lines);
    release.abort();
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn a_failed_fsync_ends_the_connection_without_ok() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    send(&mut client, b"ACK\nm v=0 1\n").await;
    until_ok(&mut client, 1).await;
    server.disk.fail_sync_after(0);
    send(&mut client, b"m v=1 1\n").await;
    let answer = line(&mut client).await.unwrap();
    assert!(answer.starts_with("ERR 2 the agent's journal does not accept data"), "{answer}");
    assert_eq!(line(&mut client).await, None);
}

#[tokio::test]
async fn connections_beyond_the_cap_and_silent_ones_are_closed() {
    let config: TcpConfig =
        serde_json::from_value(serde_json::json!({ "max_connections": 1, "idle_timeout": "300ms" })).unwrap();
    let server = Server::with(config, 256 << 20).await;
    let mut first = server.connect().await;
    send(&mut first, b"ACK\nm v=1 1\n").await;
    until_ok(&mut first, 1).await;
    let mut second = server.connect().await;
    assert!(line(&mut second).await.unwrap().starts_with("ERR 0 too many connections"));
    assert!(line(&mut first).await.unwrap().contains("nothing came"));
    assert_eq!(line(&mut first).await, None);
}

#[tokio::test]
async fn an_end_of_the_agent_settles_what_came() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    send(&mut client, b"ACK\nm v=1 1\n").await;
    until_ok(&mut client, 1).await;
    server.stop.cancel();
    tokio::time::timeout(PATIENCE, server.task).await.unwrap().unwrap();
    assert_eq!(line(&mut client).await, None);
}
