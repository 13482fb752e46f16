//! MQTT over TLS, with other people's TLS: openssl makes the certificates, mosquitto's programs are the
//! other side. Skipped, with a line saying so, where they aren't installed.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod mqtt_support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use inputs::mqtt::MqttConfig;
use inputs::mqtt_client::MqttClientConfig;
use mqtt_support::authority::{Authority, HERE};
use mqtt_support::programs::{Broker, Input, mosquitto_pub, there};
use mqtt_support::*;
use seglog::sim::SimDisk;
use telemetry::Cause;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

fn ready() -> bool {
    ["openssl", "mosquitto", "mosquitto_pub"].into_iter().all(there)
}

/// A front with both ports, and the TLS port's address.
async fn front(authority: &Authority, seed: u64, config: MqttConfig) -> (Front, SocketAddr) {
    authority.sign("server", HERE);
    let secure = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = secure.local_addr().unwrap();
    let config = MqttConfig {
        cert_file: Some(authority.file("server.pem")),
        key_file: Some(authority.file("server.key")),
        ..config
    };
    let disk = Arc::new(SimDisk::new(seed));
    (Front::on_both(disk, Path::new("/data"), config, Some(secure)).await, address)
}

async fn refused(front: &Front, n: u64) {
    within(async {
        while front.door.stats.count(Cause::RejectedSyntax) < n {
            front.door.flush().unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquittos_programs_publish_and_subscribe_over_tls() {
    if !ready() {
        return;
    }
    let authority = Authority::new();
    let (front, secure) = front(&authority, 1, MqttConfig::default()).await;
    let (port, ca) = (secure.port(), authority.shown("ca.pem"));
    for version in ["mqttv311", "mqttv5"] {
        for tls in ["tlsv1.2", "tlsv1.3"] {
            let mut sub = Command::new("stdbuf")
                .args(["-oL", "mosquitto_sub", "-h", "localhost", "-p", &port.to_string()])
                .args(["--cafile", &ca, "--tls-version", tls, "-V", version])
                .args(["-q", "1", "-t", "plant1/#", "-C", "1", "-v", "-d"])
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(sub.stdout.take().unwrap()).lines();
            while let Some(line) = within(lines.next_line()).await.unwrap() {
                if line.contains("Subscribed") {
                    break;
                }
            }
            let arguments = ["--cafile", &ca, "--tls-version", tls, "-V", version, "-q", "2"];
            let message = ["-t", "plant1/pump7/temperature", "-m", "21.5"];
            let done = mosquitto_pub(port, &[&arguments[..], &message[..]].concat()).await;
            assert!(done.status.success(), "{version} {tls}: {done:?}");
            let mut got = false;
            while let Some(line) = within(lines.next_line()).await.unwrap() {
                got |= line == "plant1/pump7/temperature 21.5";
            }
            assert!(got, "{version} {tls}");
        }
    }
    assert_eq!(front.values(), [21.5; 4]);
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_that_takes_many_tls_records_is_one_reading_and_answered_once() {
    if !ready() {
        return;
    }
    let authority = Authority::new();
    let (front, secure) = front(&authority, 2, MqttConfig::default()).await;
    let file = authority.file("payload");
    std::fs::write(&file, format!("{{\"pad\":\"{}\",\"v\":7}}", "x".repeat(200_000))).unwrap();
    let (ca, file) = (authority.shown("ca.pem"), file.display().to_string());
    let arguments = ["--cafile", &ca, "-q", "1", "-t", "plant1/pump7", "-f", &file];
    let done = mosquitto_pub(secure.port(), &arguments).await;
    assert!(done.status.success(), "{done:?}");
    assert_eq!(front.values(), [7.0]);
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_distrusts_the_certificate_or_speaks_no_tls_is_counted_and_hurts_nobody() {
    if !ready() {
        return;
    }
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (front, secure) = front(&authority, 3, MqttConfig::default()).await;
    let arguments = ["--cafile", &stranger.shown("ca.pem"), "-q", "1", "-t", "a/b/c", "-m", "1"];
    assert!(!mosquitto_pub(secure.port(), &arguments).await.status.success());
    refused(&front, 1).await;
    // MQTT in the clear on the TLS port, and TLS on the clear one.
    assert!(!mosquitto_pub(secure.port(), &["-t", "a/b/c", "-m", "2"]).await.status.success());
    refused(&front, 2).await;
    let ca = authority.shown("ca.pem");
    let arguments = ["--cafile", &ca, "-t", "a/b/c", "-m", "3"];
    assert!(!mosquitto_pub(front.address.port(), &arguments).await.status.success());
    refused(&front, 3).await;
    let reasons: Vec<_> = front.door.rejects.list().into_iter().map(|reject| reject.reason).collect();
    assert!(reasons[..2].iter().all(|reason| reason.contains("the TLS handshake failed")), "{reasons:?}");
    assert!(reasons[2].contains("not CONNECT"), "{reasons:?}");
    let arguments = ["--cafile", &ca, "-q", "1", "-t", "a/b/c", "-m", "4"];
    assert!(mosquitto_pub(secure.port(), &arguments).await.status.success());
    assert_eq!(front.values(), [4.0]);
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_in_progress_does_not_hold_up_the_agents_end() {
    if !ready() {
        return;
    }
    let authority = Authority::new();
    let config = MqttConfig { connect_timeout_secs: 600, ..MqttConfig::default() };
    let (front, address) = front(&authority, 4, config).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    // The beginning of a ClientHello: the server waits for the rest of it.
    silent.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
    // Whoever comes after is served, so the silent one has been accepted.
    let arguments = ["--cafile", &authority.shown("ca.pem"), "-q", "1", "-t", "a/b/c", "-m", "1"];
    assert!(mosquitto_pub(address.port(), &arguments).await.status.success());
    front.stop().await;
}

/// A broker with TLS, what it demands of clients, and its port.
async fn broker(authority: &Authority, further: &str) -> Broker {
    authority.sign("server", HERE);
    Broker::listening(&format!(
        "cafile {}\ncertfile {}\nkeyfile {}\n{further}",
        authority.shown("ca.pem"),
        authority.shown("server.pem"),
        authority.shown("server.key"),
    ))
    .await
}

async fn publish_until_received(broker: &Broker, further: &[&str], input: &Input) {
    let message = ["-q", "1", "-t", "site/pump/t", "-m", "21.5"];
    within(async {
        while input.door.stats.count(Cause::Received) == 0 {
            let done = mosquitto_pub(broker.port, &[further, &message[..]].concat()).await;
            assert!(done.status.success(), "{done:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_input_takes_from_a_broker_over_tls_by_name_and_by_either_kind_of_address() {
    if !ready() {
        return;
    }
    let authority = Authority::new();
    let broker = broker(&authority, "").await;
    for (seed, host) in ["localhost", "127.0.0.1", "[::1]"].into_iter().enumerate() {
        let config = MqttClientConfig {
            url: format!("mqtts://{host}:{}", broker.port),
            ca_file: Some(authority.file("ca.pem")),
            ..MqttClientConfig::default()
        };
        let input = Input::with(&SimDisk::new(seed as u64), config);
        publish_until_received(&broker, &["--cafile", &authority.shown("ca.pem")], &input).await;
        within(async {
            while !input.values().contains(&21.5) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        input.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_input_shows_its_certificate_to_a_broker_that_demands_one() {
    if !ready() {
        return;
    }
    let authority = Authority::new();
    authority.sign("agent", "DNS:agent");
    let broker = broker(&authority, "require_certificate true").await;
    let config = MqttClientConfig {
        url: format!("mqtts://localhost:{}", broker.port),
        ca_file: Some(authority.file("ca.pem")),
        cert_file: Some(authority.file("agent.pem")),
        key_file: Some(authority.file("agent.key")),
        ..MqttClientConfig::default()
    };
    let input = Input::with(&SimDisk::new(5), config);
    let (ca, cert, key) =
        (authority.shown("ca.pem"), authority.shown("agent.pem"), authority.shown("agent.key"));
    publish_until_received(&broker, &["--cafile", &ca, "--cert", &cert, "--key", &key], &input).await;
    input.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_input_says_nothing_to_a_broker_whose_certificate_it_cannot_trust() {
    if !ready() {
        return;
    }
    let (ours, stranger) = (Authority::new(), Authority::new());
    stranger.sign("server", HERE);
    ours.sign("other", "DNS:other.example");
    // Signed by somebody else; signed by ours, but for another name.
    for (seed, authority, name) in [(6, &stranger, "server"), (7, &ours, "other")] {
        let (cert, key) = (authority.file(&format!("{name}.pem")), authority.file(&format!("{name}.key")));
        let acceptor = inputs::mqtt::tls::acceptor(&cert, &key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = MqttClientConfig {
            url: format!("mqtts://localhost:{}", listener.local_addr().unwrap().port()),
            ca_file: Some(ours.file("ca.pem")),
            username: "agent".into(),
            ..MqttClientConfig::default()
        };
        let input = Input::with(&SimDisk::new(seed), config);
        // It says why it goes, and comes again.
        for _ in 0..2 {
            let (stream, _) = within(listener.accept()).await.unwrap();
            let error = within(acceptor.accept(stream).into_fallible()).await.err().unwrap().0.to_string();
            assert!(error.contains("alert"), "{name}: {error}");
        }
        input.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_without_its_certificate_is_told_while_the_other_one_is_open() {
    let secure = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = MqttConfig {
        cert_file: Some("/nowhere/cert.pem".into()),
        key_file: Some("/nowhere/key.pem".into()),
        ..MqttConfig::default()
    };
    let front = Front::on_both(Arc::new(SimDisk::new(9)), Path::new("/data"), config, Some(secure)).await;
    within(async {
        while !front.door.stats.tried() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // Both were tried: what one came to isn't what the other did.
    let error = front.door.stats.snapshot(front.door.now()).error.unwrap();
    assert!(error.contains("/nowhere/cert.pem"), "{error}");
    assert!(TcpStream::connect(front.address).await.is_ok());
    front.stop().await;
}
