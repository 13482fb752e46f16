//! The HTTP input over real sockets: an answer means durable, and what every kind of request gets.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

mod http_support;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use http_support::{Client, NOW, PATIENCE, Server};
use inputs::clock::ManualClock;
use inputs::http::HttpConfig;
use seglog::sim::SimDisk;
use serde_json::json;
use telemetry::Cause;

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_204_comes_only_after_the_fsync() {
    let server = Server::start().await;
    assert_eq!(server.get("/ping").await.status, 204);
    server.disk.hold_syncs();
    let mut client = server.connect().await;
    client.send("POST", "/write", &[], b"m,site=a v=1").await;
    assert!(server.disk.wait_for_held_sync(PATIENCE), "the journal must fsync");
    assert!(client.is_silent().await, "no answer before the fsync ended");
    assert!(server.intakes().is_empty());
    server.disk.release_syncs();
    assert_eq!(client.answer().await.status, 204);
    assert_eq!(server.samples(), [r#"m.v{site="a"} = 1 @now"#]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_fsync_is_never_answered_with_204() {
    let server = Server::start().await;
    // The first one opens the segment, which can be tried again elsewhere; readings can't.
    assert_eq!(server.post("/write", &[], b"m v=0").await.status, 204);
    server.disk.hold_syncs();
    let mut client = server.connect().await;
    client.send("POST", "/write", &[], b"m v=1").await;
    assert!(server.disk.wait_for_held_sync(PATIENCE));
    server.disk.fail_sync_after(0);
    server.disk.release_syncs();
    let answer = client.answer().await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("10"));
    assert_eq!(server.post("/write", &[], b"m v=2").await.status, 503);
    let health = server.get("/health").await;
    assert_eq!((health.status, &health.json()["status"]), (503, &json!("fail")));
}

#[tokio::test]
async fn what_was_answered_with_204_is_there_after_a_power_cut() {
    let mut disk = SimDisk::new(3);
    let mut expected = Vec::new();
    for round in 0..5 {
        let server = Server::with(disk, HttpConfig::default(), |_| {}).await;
        for n in 0..10 {
            let line = format!("m,round={round} n={n} {n}");
            assert_eq!(server.post("/write", &[], line.as_bytes()).await.status, 204);
            expected.push(format!(r#"m.n{{round="{round}"}} = {n} @{n}"#));
        }
        assert_eq!(server.samples(), expected);
        disk = server.crash().await;
    }
}

#[tokio::test]
async fn influx_clients_of_both_versions_are_understood() {
    let server = Server::start().await;
    assert_eq!(server.post("/write?db=x&precision=s", &[], b"m value=1 1709287200").await.status, 204);
    assert_eq!(
        server
            .post("/api/v2/write?org=o&bucket=b&precision=ms", &[], b"m value=2 1709287200000")
            .await
            .status,
        204
    );
    assert_eq!(server.samples(), ["m = 1 @1709287200000000000", "m = 2 @1709287200000000000"]);
    let ping = server.get("/ping").await;
    assert_eq!(ping.status, 204);
    assert!(ping.header("x-influxdb-version").is_some());
    assert_eq!(server.get("/health").await.json()["status"], "pass");
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let created = server.post("/query", &form, b"q=CREATE+DATABASE+%22telegraf%22").await;
    assert_eq!((created.status, created.json()), (200, json!({ "results": [{ "statement_id": 0 }] })));
    let shown = server.get("/query?q=SHOW%20DATABASES").await;
    assert_eq!(shown.json()["results"][0]["series"][0]["values"], json!([["telemetryx"]]));
    assert_eq!(server.get("/query?q=SELECT+1").await.status, 400);
    assert_eq!(server.post("/write?precision=weeks", &[], b"m v=1").await.status, 400);
}

#[tokio::test]
async fn the_good_lines_of_a_partly_bad_body_are_kept_and_the_bad_ones_named() {
    let server = Server::start().await;
    let body = b"m v=1 1\nm v= 2\nm v=3 3";
    let answer = server.post("/write", &[], body).await;
    assert_eq!(answer.status, 400);
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("partial write: ") && error.ends_with("dropped=1"), "{error}");
    assert!(error.contains("unable to parse 'm v= 2': missing field value (line 2)"), "{error}");
    assert!(answer.header("x-influxdb-error").unwrap().starts_with("partial write"));
    let answer = server.post("/api/v2/write", &[], b"m v=").await;
    let answer_json = answer.json();
    assert_eq!((answer.status, &answer_json["code"]), (400, &json!("invalid")));
    assert!(answer_json["message"].as_str().unwrap().starts_with("unable to parse"));
    assert_eq!(server.samples(), ["m.v = 1 @1", "m.v = 3 @3"]);
    let counts = server.counts();
    assert_eq!((counts.get(Cause::Received), counts.get(Cause::RejectedSyntax)), (4, 2));
    assert_eq!(server.door.rejects.list()[0].excerpt, "m v= 2");
}

#[tokio::test]
async fn compressed_bodies_are_read_and_bombs_and_other_encodings_refused() {
    let config = HttpConfig { max_body: 64 << 10, max_decoded: 256 << 10, ..HttpConfig::default() };
    let server = Server::with(SimDisk::new(1), config, |_| {}).await;
    let lines = "m v=1 1\n".repeat(100);
    assert_eq!(
        server.post("/write", &[("Content-Encoding", "gzip")], &gzip(lines.as_bytes())).await.status,
        204
    );
    let packed = zstd::encode_all(lines.as_bytes(), 3).unwrap();
    assert_eq!(server.post("/write", &[("Content-Encoding", "zstd")], &packed).await.status, 204);
    assert_eq!(server.samples().len(), 200);
    let bomb = vec![b'\n'; 8 << 20];
    assert_eq!(server.post("/write", &[("Content-Encoding", "gzip")], &gzip(&bomb)).await.status, 413);
    let packed = zstd::encode_all(&bomb[..], 3).unwrap();
    assert_eq!(server.post("/write", &[("Content-Encoding", "zstd")], &packed).await.status, 413);
    assert_eq!(server.post("/write", &[("Content-Encoding", "br")], b"x").await.status, 415);
    assert_eq!(server.post("/write", &[("Content-Encoding", "gzip, gzip")], b"x").await.status, 415);
    assert_eq!(server.post("/write", &[("Content-Encoding", "gzip")], b"not gzip").await.status, 400);
    let large = server.post("/write", &[], &vec![b'x'; 65 << 10]).await;
    assert_eq!(large.status, 413);
    assert!(large.body.contains("spool export --to URL"), "{}", large.body);
    assert_eq!(server.count(Cause::RejectedLimit).await, 3);
    assert_eq!(server.post("/write", &[], b"m v=1").await.status, 204);
}

#[tokio::test]
async fn a_chunked_body_over_the_limit_is_cut_off_and_a_fitting_one_taken() {
    let config = HttpConfig { max_body: 4096, ..HttpConfig::default() };
    let server = Server::with(SimDisk::new(1), config, |_| {}).await;
    let head = b"POST /write HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = server.connect().await;
    client.raw(head).await;
    client.raw(b"4\r\nm v=\r\n4\r\n1 1\n\r\n0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 204);
    let mut client = server.connect().await;
    client.raw(head).await;
    client.raw(format!("2000\r\n{}\r\n", "x".repeat(0x2000)).as_bytes()).await;
    assert_eq!(client.answer().await.status, 413);
}

#[tokio::test]
async fn with_a_token_file_each_way_to_show_a_token_works_and_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    std::fs::write(&file, "secret-token\nbob:his-password\n").unwrap();
    let config = HttpConfig { token_file: Some(file), ..HttpConfig::default() };
    let server = Server::with(SimDisk::new(1), config, |_| {}).await;
    let basic = |pair: &str| {
        use base64::Engine;
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    };
    let write = async |path: &str, header: Option<&str>| {
        let headers: Vec<(&str, &str)> = header.into_iter().map(|value| ("Authorization", value)).collect();
        server.post(path, &headers, b"m v=1").await
    };
    for good in [
        "Token secret-token",
        "Bearer secret-token",
        "Token bob:his-password",
        &basic("x:secret-token"),
        &basic("bob:his-password"),
    ] {
        assert_eq!(write("/write", Some(good)).await.status, 204, "{good}");
    }
    assert_eq!(write("/write?u=bob&p=his-password", None).await.status, 204);
    for bad in ["Token other-token", "Token", "Digest x", &basic("bob:wrong-word"), &basic("secret-token:")] {
        assert_eq!(write("/write", Some(bad)).await.status, 401, "{bad}");
    }
    let none = write("/api/v2/write", None).await;
    assert_eq!((none.status, none.json()["code"].as_str()), (401, Some("unauthorized")));
    assert!(none.header("www-authenticate").is_some());
    assert_eq!(server.get("/ping").await.status, 204, "liveness needs no token");
    assert_eq!(server.count(Cause::RejectedForbidden).await, 6);
    assert_eq!(server.samples().len(), 6);
}

#[tokio::test]
async fn a_resend_with_the_same_idempotency_key_is_stored_once_even_after_a_crash() {
    let server = Server::start().await;
    let key = [("Idempotency-Key", "batch-1")];
    assert_eq!(server.post("/write", &key, b"m v=1 1\nm v=2 2").await.status, 204);
    let again = server.post("/write", &key, b"m v=1 1\nm v=2 2").await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (204, Some("true")));
    assert_eq!(server.samples().len(), 2);
    assert_eq!(server.count(Cause::Deduplicated).await, 2);
    let disk = server.crash().await;
    let server = Server::with(disk, HttpConfig::default(), |_| {}).await;
    assert_eq!(
        server.post("/write", &key, b"m v=1 1\nm v=2 2").await.header("idempotency-replayed"),
        Some("true")
    );
    assert_eq!(server.post("/write", &[("Idempotency-Key", "batch-2")], b"m v=3 3").await.status, 204);
    assert_eq!(server.samples().len(), 3);
    assert_eq!(server.post("/write", &[("Idempotency-Key", &"x".repeat(256))], b"m v=1").await.status, 400);
}

#[tokio::test]
async fn a_refused_request_leaves_its_idempotency_key_to_a_corrected_one_and_a_partly_refused_one_is_told_again()
 {
    let server = Server::start().await;
    let key = [("Idempotency-Key", "k")];
    assert_eq!(server.post("/write", &key, b"m").await.status, 400);
    let corrected = server.post("/write", &key, b"m v=1 1").await;
    assert_eq!((corrected.status, corrected.header("idempotency-replayed")), (204, None));
    assert_eq!(server.samples().len(), 1);
    let partly = [("Idempotency-Key", "partly")];
    for _ in 0..2 {
        let answer = server.post("/write", &partly, b"m v=2 2\nm").await;
        assert_eq!(answer.status, 400);
        assert!(answer.body.contains("partial write"), "{:?}", answer.body);
    }
    assert_eq!(server.samples().len(), 2, "the good part is stored once");
}

#[tokio::test]
async fn an_idempotency_key_outlives_the_journals_record() {
    let server = Server::start().await;
    let key = [("Idempotency-Key", "k")];
    assert_eq!(server.post("/write", &key, b"m v=1 1").await.status, 204);
    let disk = server.stop().await;
    // As if the journal had let go of everything.
    let fresh = SimDisk::new(9);
    for path in disk.paths().iter().filter(|path| path.starts_with("/keys")) {
        fresh.put(path, &disk.read(path).unwrap());
    }
    let server = Server::with(fresh, HttpConfig::default(), |_| {}).await;
    assert_eq!(server.post("/write", &key, b"m v=1 1").await.header("idempotency-replayed"), Some("true"));
    assert!(server.samples().is_empty());
}

fn day(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 3600)
}

async fn replayed(server: &Server, key: &str) -> bool {
    let answer = server.post("/write", &[("Idempotency-Key", key)], b"m v=1 1").await;
    assert_eq!(answer.status, 204, "{answer:?}");
    answer.header("idempotency-replayed").is_some()
}

#[tokio::test]
async fn setting_the_clock_forgets_no_idempotency_key_and_keeps_none_for_ever() {
    let clock = Arc::new(ManualClock::at(60_000_000_000));
    let server = Server::at(SimDisk::new(1), [1; 16], &clock).await;
    assert!(!replayed(&server, "unset").await);
    clock.set(NOW);
    assert!(replayed(&server, "unset").await, "the clock was set from 1970");
    assert!(!replayed(&server, "ahead").await);
    clock.set(NOW - 1_000_000_000_000_000_000);
    assert!(replayed(&server, "ahead").await, "and back by decades");
    clock.advance(day(1));
    assert!(!replayed(&server, "ahead").await, "a day later it is forgotten");
    assert!(!replayed(&server, "unset").await);
}

#[tokio::test]
async fn idempotency_keys_of_an_unset_clock_survive_a_restart_and_a_reboot() {
    let clock = Arc::new(ManualClock::at(60_000_000_000));
    let server = Server::at(SimDisk::new(1), [1; 16], &clock).await;
    assert!(!replayed(&server, "k").await);
    clock.set(NOW);
    let server = Server::at(server.crash().await, [1; 16], &clock).await;
    assert!(replayed(&server, "k").await, "a restart in the same boot, the clock set meanwhile");
    let clock = Arc::new(ManualClock::at(NOW + 3_600_000_000_000));
    let server = Server::at(server.crash().await, [2; 16], &clock).await;
    assert!(replayed(&server, "k").await, "another boot");
    clock.advance(day(1));
    assert!(!replayed(&server, "k").await, "a day later it is forgotten");
}

#[tokio::test]
async fn idempotency_keys_go_by_the_wall_clock_over_a_time_without_power() {
    let clock = Arc::new(ManualClock::at(NOW));
    let server = Server::at(SimDisk::new(1), [1; 16], &clock).await;
    assert!(!replayed(&server, "k").await);
    clock.advance(day(1) / 2);
    let later = Arc::new(ManualClock::at(NOW + day(1).as_nanos() as i64 - 1));
    let server = Server::at(server.crash().await, [2; 16], &later).await;
    assert!(replayed(&server, "k").await);
    let later = Arc::new(ManualClock::at(NOW + day(2).as_nanos() as i64));
    let server = Server::at(server.crash().await, [3; 16], &later).await;
    assert!(!replayed(&server, "k").await, "the time without power counts");
}

#[tokio::test]
async fn a_full_journal_pushes_back_with_503_and_a_time() {
    let server = Server::with(SimDisk::new(1), HttpConfig::default(), |journal| {
        journal.max_bytes = 64 << 10;
        journal.segment_bytes = 16 << 10;
    })
    .await;
    let body = "m v=1 1\n".repeat(500);
    let mut last = server.post("/write", &[], body.as_bytes()).await;
    for _ in 0..20 {
        if last.status != 204 {
            break;
        }
        last = server.post("/write", &[], body.as_bytes()).await;
    }
    assert_eq!(last.status, 503, "{last:?}");
    assert_eq!(last.header("retry-after"), Some("1"));
    assert!(last.json()["error"].as_str().unwrap().contains("journal.max_bytes is reached"));
    assert!(server.door.stats.snapshot(server.door.now()).pushed_back >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_called_so_and_does_not_keep_senders_waiting() {
    let server = Server::start().await;
    assert_eq!(server.post("/write", &[], b"m v=1").await.status, 204);
    let disk = server.disk.clone();
    disk.set_capacity(Some(disk.used()));
    // The first finds it out and waits for space, but not for long; the others are turned away.
    for _ in 0..2 {
        let answer = server.post("/write", &[], b"m v=2").await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
        let message = answer.json()["error"].to_string();
        assert!(message.contains("no space is left on"), "{message}");
    }
    disk.set_capacity(None);
    while server.post("/write", &[], b"m v=3").await.status != 204 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn events_come_as_an_object_an_array_or_lines() {
    let server = Server::start().await;
    let event =
        r#"{"time":"2024-03-01T10:00:00Z","level":"error","logger":"app","message":"boom","user":{"id":5}}"#;
    for (body, content_type) in [
        (event.to_owned(), "application/json"),
        (format!("[{event},\n{event}]"), "application/json"),
        (format!("{event}\n\n{event}\r\n"), "application/x-ndjson"),
        (format!("{event}\n{event}"), "text/plain"),
    ] {
        let answer = server.post("/v1/events", &[("Content-Type", content_type)], body.as_bytes()).await;
        assert_eq!(answer.status, 204, "{body}: {}", answer.body);
    }
    let events: Vec<_> = server.intakes().into_iter().flat_map(|intake| intake.events).collect();
    assert_eq!(events.len(), 7);
    assert!(
        events
            .iter()
            .all(|event| event.source == "app" && event.body == "boom" && event.attributes.len() == 1)
    );
    assert_eq!(server.post("/v1/events?source=cron", &[], br#"{"msg":"x"}"#).await.status, 204);
    let last = server.intakes().pop().unwrap().events.remove(0);
    assert_eq!((last.source.as_str(), last.time), ("cron", NOW));
}

#[tokio::test]
async fn the_good_events_of_a_partly_bad_body_are_kept() {
    let server = Server::start().await;
    for body in [
        "{\"msg\":\"a\"}\n{\"msg\":\n{\"msg\":\"b\",\"level\":9}\n5",
        r#"[{"msg":"a"},{"msg":{}},{"msg":"b"},5]"#,
    ] {
        let answer = server.post("/v1/events", &[], body.as_bytes()).await;
        let json = answer.json();
        assert_eq!((answer.status, &json["accepted"]), (400, &json!(2)), "{json}");
        assert_eq!(json["rejected"][0]["number"], 2);
        assert_eq!(json["rejected"][1]["cause"], "rejected_type");
        assert_eq!(json["error"]["code"], "invalid");
    }
    assert_eq!(server.intakes().iter().map(|intake| intake.events.len()).sum::<usize>(), 4);
}

#[tokio::test]
async fn samples_come_as_json_with_labels_and_units() {
    let server = Server::start().await;
    let body = r#"[{"metric":"t","value":21.5,"time":1709287200,"device":"p7","site":"s","unit":"Cel"},
                   {"name":"up","value":true,"labels":{"a":"b"}},
                   {"metric":"t","value":"x"},{"metric":"t"},{"value":1},{"metric":"t","value":1,"colour":"red"}]"#;
    let answer = server.post("/v1/samples", &[], body.as_bytes()).await;
    let json = answer.json();
    assert_eq!(
        (answer.status, &json["accepted"], json["rejected"].as_array().unwrap().len()),
        (400, &json!(2), 4)
    );
    assert_eq!(
        server.samples(),
        [r#"t{device="p7",site="s"} = 21.5 @1709287200000000000"#, r#"up{a="b"} = 1 @now"#]
    );
    let intake = server.intakes().remove(0);
    assert_eq!(&*server.table.get(intake.series[0]).unwrap().unit, "Cel");
}

#[tokio::test]
async fn hostile_json_gets_a_clear_refusal() {
    let server = Server::start().await;
    let deep = "[".repeat(100_000);
    let deep_object = r#"{"a":"#.repeat(1000);
    for (body, status, cause) in [
        (&b"{\"msg\":\"\xff\"}"[..], 400, Cause::RejectedEncoding),
        (b"{\"msg\":\"cut", 400, Cause::RejectedSyntax),
        (b"[{\"msg\":\"a\"},{\"msg\":", 400, Cause::RejectedSyntax),
        (b"{\"msg\":\"a\",\"n\":NaN}", 400, Cause::RejectedSyntax),
        (b"", 400, Cause::RejectedSyntax),
        (deep.as_bytes(), 413, Cause::RejectedLimit),
        (deep_object.as_bytes(), 413, Cause::RejectedLimit),
    ] {
        let before = server.count(cause).await;
        let answer = server.post("/v1/events", &[], body).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(!answer.json()["error"]["message"].as_str().unwrap().is_empty());
        assert_eq!(server.count(cause).await, before + 1);
    }
    assert_eq!(
        server.post("/v1/events", &[("Content-Type", "application/x-protobuf")], b"x").await.status,
        415
    );
    assert!(server.intakes().iter().all(|intake| intake.events.is_empty()));
    assert_eq!(server.post("/v1/events", &[], b"{\"msg\":\"fine\"}").await.status, 204);
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_say_what_is() {
    let server = Server::start().await;
    let missing = server.get("/nothing").await;
    assert_eq!(missing.status, 404);
    assert!(missing.json()["error"]["hint"].as_str().unwrap().contains("/write"));
    assert_eq!(server.get("/write").await.status, 405);
    assert_eq!(server.get("/v1/events").await.status, 405);
}

#[tokio::test]
async fn one_connection_serves_many_requests_also_pipelined() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for n in 0..50 {
        client.send("POST", "/write", &[], format!("m v={n} {n}").as_bytes()).await;
        assert_eq!(client.answer().await.status, 204);
    }
    for n in 50..100 {
        client.send("POST", "/write", &[], format!("m v={n} {n}").as_bytes()).await;
    }
    for _ in 50..100 {
        assert_eq!(client.answer().await.status, 204);
    }
    assert_eq!(server.samples().len(), 100);
}

#[tokio::test]
async fn a_slow_head_a_slow_body_and_a_silent_connection_are_let_go_and_others_go_on() {
    let second = "1s";
    let config: HttpConfig = serde_json::from_value(
        json!({ "header_timeout": second, "body_timeout": second, "idle_timeout": second }),
    )
    .unwrap();
    let server = Server::with(SimDisk::new(1), config, |_| {}).await;
    let mut silent = server.connect().await;
    let mut slow_head = server.connect().await;
    slow_head.raw(b"POST /write HTTP/1.1\r\nHo").await;
    let mut slow_body = server.connect().await;
    slow_body.raw(b"POST /write HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nm v").await;
    let mut idle = server.connect().await;
    idle.send("POST", "/write", &[], b"m v=1 1").await;
    assert_eq!(idle.answer().await.status, 204);
    assert_eq!(slow_body.answer().await.status, 408);
    assert!(silent.try_answer().await.is_none());
    assert!(slow_head.try_answer().await.is_none());
    assert!(idle.try_answer().await.is_none());
    assert_eq!(server.post("/write", &[], b"m v=2 2").await.status, 204);
}

#[tokio::test]
async fn connections_beyond_the_cap_are_told_to_come_back() {
    let config = HttpConfig { max_connections: 2, ..HttpConfig::default() };
    let server = Server::with(SimDisk::new(1), config, |_| {}).await;
    let mut kept: Vec<Client> = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        client.send("GET", "/ping", &[], b"").await;
        assert_eq!(client.answer().await.status, 204);
        kept.push(client);
    }
    let answer = server.connect().await.answer().await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    drop(kept);
    // A slot is free again once the server has seen the end.
    let mut tries = 0;
    while server.get("/ping").await.status != 204 {
        tries += 1;
        assert!(tries < 1000, "the slots must come back");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn bytes_that_are_no_http_are_answered_counted_and_hurt_nobody() {
    let server = Server::start().await;
    let head = "POST /write HTTP/1.1\r\nHost: t\r\n";
    let huge = "x".repeat(600 << 10);
    let many: String = (0..100).map(|n| format!("X-{n}: 1\r\n")).collect();
    let cases: [(&str, Vec<u8>, u16, Cause, &str); 12] = [
        ("version", b"GET / HTTP/9.9\r\n\r\n".into(), 400, Cause::RejectedSyntax, "GET"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00".into(), 400, Cause::RejectedSyntax, "\\u{16}\\u{3}"),
        ("no path", b"GET\r\n\r\n".into(), 400, Cause::RejectedSyntax, "GET"),
        ("lines", b"m,site=a v=1\n".into(), 400, Cause::RejectedSyntax, "m,site=a"),
        ("token", b"AUTH secret-token\n".into(), 400, Cause::RejectedSyntax, "AUTH"),
        ("length", format!("{head}Content-Length: -5\r\n\r\n").into(), 400, Cause::RejectedSyntax, ""),
        (
            "lengths",
            format!("{head}Content-Length: 5\r\nContent-Length: 6\r\n\r\nm v=1").into(),
            400,
            Cause::RejectedSyntax,
            "",
        ),
        (
            "chunk size",
            format!("{head}Transfer-Encoding: chunked\r\n\r\nZZ\r\n{huge}").into(),
            400,
            Cause::RejectedSyntax,
            "",
        ),
        (
            "chunk end",
            format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nm v=1\r\n0\r\n\r\n").into(),
            400,
            Cause::RejectedSyntax,
            "",
        ),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 400, Cause::RejectedSyntax, "PRI"),
        ("long header", format!("{head}X: {huge}\r\n\r\n").into(), 431, Cause::RejectedLimit, "POST"),
        ("headers", format!("{head}{many}\r\n").into(), 431, Cause::RejectedLimit, "POST"),
    ];
    for (name, bytes, status, cause, shown) in cases {
        let (known, counted) = (server.door.rejects.list().len(), server.count(cause).await);
        let mut client = server.connect().await;
        client.raw(&bytes).await;
        let answer = client.try_answer().await.unwrap_or_else(|| panic!("no answer to {name}"));
        assert_eq!(answer.status, status, "{name}");
        // The end comes after the count.
        assert!(client.try_answer().await.is_none(), "{name}: the connection is over");
        assert_eq!(server.count(cause).await, counted + 1, "{name}");
        let rejects = server.door.rejects.list();
        assert_eq!(rejects.len(), known + 1, "{name}");
        let reject = &rejects[known];
        assert_eq!(reject.cause, cause.name(), "{name}");
        assert!(
            reject.excerpt.starts_with(shown) && !reject.excerpt.contains("secret"),
            "{name}: {reject:?}"
        );
        assert!(!reject.reason.contains("secret"), "{name}: {reject:?}");
    }
    assert_eq!(server.count(Cause::Received).await, server.door.rejects.list().len() as u64);
    // A client that goes away in the middle of its body is forgotten.
    let mut gone = server.connect().await;
    gone.raw(b"POST /write HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\nm v=1").await;
    drop(gone);
    assert_eq!(server.post("/write", &[], b"m v=1 1").await.status, 204);
    assert_eq!(server.samples().len(), 1);
}

#[tokio::test]
async fn an_end_of_the_agent_lets_a_request_in_progress_finish() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.raw(b"POST /write HTTP/1.1\r\nHost: t\r\nContent-Length: 7\r\n\r\nm v").await;
    server.get("/ping").await;
    let table = server.table.clone();
    let stopping = tokio::spawn(server.stop());
    client.raw(b"=1 1").await;
    assert_eq!(client.answer().await.status, 204);
    assert!(client.try_answer().await.is_none());
    stopping.await.unwrap();
    assert_eq!(table.len(), 1);
}
