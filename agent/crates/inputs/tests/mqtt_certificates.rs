//! Clients that show certificates: who they are by them, who is refused, and what a revocation or a renewal changes while
//! the port is open. openssl makes the certificates. Skipped, with a line saying so, where it isn't installed.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod mqtt_support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use inputs::mqtt::config::{CertificateName, ClientCert};
use inputs::mqtt::{MqttConfig, UserConfig};
use mqtt_support::authority::{Authority, HERE};
use mqtt_support::programs::there;
use mqtt_support::*;
use seglog::sim::SimDisk;
use tokio::net::TcpListener;

/// A front whose TLS port takes this authority's certificates.
struct Secure {
    front: Front,
    authority: Arc<Authority>,
    tls: SocketAddr,
}

/// Sensors by certificate, one of them with a password too, and people by password.
fn users() -> Vec<UserConfig> {
    let own: (&[&str], &[&str]) = (&["cmd/%u/#"], &["plant/%u/#"]);
    vec![
        UserConfig { certificate: true, ..user("sensor-both", "b", own.0, own.1) },
        bearer("sensor-*", own.0, own.1),
        user("ada", "a", &["#"], &["#"]),
    ]
}

impl Secure {
    async fn start(seed: u64, change: impl FnOnce(&mut MqttConfig, &Authority)) -> Self {
        let authority = Arc::new(Authority::new());
        authority.sign("server", HERE);
        let secure = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tls = secure.local_addr().unwrap();
        let mut config = MqttConfig {
            tls_listen: Some(tls),
            cert_file: Some(authority.file("server.pem")),
            key_file: Some(authority.file("server.key")),
            client_ca_file: Some(authority.file("ca.pem")),
            users: users(),
            ..MqttConfig::default()
        };
        change(&mut config, &authority);
        let disk = Arc::new(SimDisk::new(seed));
        let front = Front::on_both(disk, Path::new("/data"), config, Some(secure)).await;
        Self { front, authority, tls }
    }

    /// Where a client speaks with the certificate of that name; it is made if need be.
    async fn port(&self, name: &str) -> SocketAddr {
        if !self.authority.file(&format!("{name}.pem")).exists() {
            self.authority.sign(name, &format!("DNS:{name}"));
        }
        self.authority.before(self.tls, Some(name)).await
    }

    /// TLS takes the certificate, MQTT refuses whose it is.
    async fn refused(&self, name: &str, connect: &Connect) -> u8 {
        refusal(self.port(name).await, connect).await
    }

    /// TLS already refuses.
    async fn shut_out(&self, port: SocketAddr) {
        let mut client =
            Client { stream: within(tokio::net::TcpStream::connect(port)).await.unwrap(), v5: false };
        client.send(&Connect::new("c").bytes()).await;
        assert!(client.until_closed().await.is_empty());
    }
}

async fn say(client: &mut Client, topic: &str) {
    client.publish(topic, "1", 1, 7).await;
    assert_eq!(client.next().await, ack(PUBACK, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_the_user_that_its_certificate_names_and_one_entry_is_for_many() {
    if !there("openssl") {
        return;
    }
    let secure = Secure::start(1, |_, _| {}).await;
    let front = &secure.front;
    for (n, name) in ["sensor-7", "sensor-8"].into_iter().enumerate() {
        let (mut client, _) = Client::open(secure.port(name).await, &Connect::new(name)).await;
        say(&mut client, &format!("plant/{name}/t")).await;
        // The other's.
        say(&mut client, if n == 0 { "plant/sensor-8/t" } else { "plant/sensor-7/t" }).await;
        assert_eq!(client.subscribe("cmd/#", 1).await, 1);
        assert_eq!(client.subscribe("plant/#", 1).await, 0x80);
        // It may say who it is, but not be another.
        let port = secure.port(name).await;
        Client::open(port, &Connect::new("x").login(name, "")).await;
        assert_eq!(refusal(port, &Connect::new("x").login("sensor-9", "")).await, 5);
    }
    assert_eq!(front.values().len(), 2);
    assert_eq!(front.forbidden(6).await.len(), 6);
    secure.front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_certificate_a_strangers_and_one_of_nobody_get_nothing_and_are_counted() {
    if !there("openssl") {
        return;
    }
    let secure = Secure::start(2, |_, _| {}).await;
    let front = &secure.front;
    secure.shut_out(secure.authority.before(secure.tls, None).await).await;
    assert!(front.forbidden(1).await[0].contains("no certificate"), "{:?}", front.door.rejects.list());
    // A stranger's authority, of the same name: it trusts our server, and shows its own.
    let stranger = Authority::new();
    stranger.sign("sensor-7", "DNS:sensor-7");
    for file in ["sensor-7.pem", "sensor-7.key"] {
        std::fs::copy(stranger.file(file), secure.authority.file(file)).unwrap();
    }
    secure.shut_out(secure.port("sensor-7").await).await;
    let reasons = front.forbidden(2).await;
    assert!(reasons[1].contains("invalid peer certificate"), "{reasons:?}");
    // Ours, of nobody; of one who has a password only; of one who must give it too.
    assert_eq!(secure.refused("pump", &Connect::new("c")).await, 5);
    assert_eq!(secure.refused("ada", &Connect::new("c")).await, 5);
    assert_eq!(secure.refused("sensor-both", &Connect::new("c")).await, 5);
    let reasons = front.forbidden(5).await;
    assert!(reasons[2].contains("\"pump\", who is no user"), "{reasons:?}");
    assert!(reasons[3].contains("by password only"), "{reasons:?}");
    assert!(reasons[4].contains("must give the password too"), "{reasons:?}");
    secure.front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_both_needs_both_and_a_password_from_a_trusted_host_is_a_password() {
    if !there("openssl") {
        return;
    }
    let secure = Secure::start(3, |_, _| {}).await;
    let both = Connect::new("c").login("sensor-both", "b");
    Client::open(secure.port("sensor-both").await, &both).await;
    assert_eq!(secure.refused("sensor-7", &both).await, 5, "another's certificate");
    assert_eq!(refusal(secure.front.address, &both).await, 5, "no certificate");
    assert_eq!(secure.refused("sensor-both", &Connect::new("c").login("sensor-both", "x")).await, 4);
    Client::open(secure.port("sensor-7").await, &Connect::new("p").login("ada", "a")).await;
    secure.front.forbidden(3).await;
    secure.front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_in_certificates_that_are_wildcards_or_more_than_one_are_no_user() {
    if !there("openssl") {
        return;
    }
    let secure =
        Secure::start(4, |config, _| config.users = vec![bearer("sensor-*", &["%u/#"], &["%u/#"])]).await;
    let evil =
        ["/CN=sensor-#", "/CN=sensor-\\+", "/CN=sensor-a\\/b", "/CN=sensor-1/CN=sensor-2", "/O=sensor-1"];
    for (n, subject) in evil.into_iter().enumerate() {
        let name = format!("evil{n}");
        secure.authority.sign_as(&name, subject, "DNS:sensor-1");
        assert_eq!(secure.refused(&name, &Connect::new("c")).await, 5, "{subject}");
    }
    let reasons = secure.front.forbidden(5).await;
    assert!(reasons[..3].iter().all(|reason| reason.contains("who is no user")), "{reasons:?}");
    assert!(
        reasons[3].contains("more than one common name") && reasons[4].contains("no common name"),
        "{reasons:?}"
    );
    secure.front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dns_name_is_the_user_where_that_is_asked_for_and_a_password_will_do_where_that_is_allowed() {
    if !there("openssl") {
        return;
    }
    let secure = Secure::start(5, |config, _| {
        config.certificate_name = CertificateName::San;
        config.client_cert = ClientCert::Optional;
    })
    .await;
    secure.authority.sign_as("one", "/CN=nobody", "DNS:sensor-7,IP:10.0.0.1");
    let (mut client, _) = Client::open(secure.port("one").await, &Connect::new("c")).await;
    say(&mut client, "plant/sensor-7/t").await;
    secure.authority.sign_as("two", "/CN=sensor-7", "DNS:sensor-7,DNS:sensor-8");
    assert_eq!(secure.refused("two", &Connect::new("c")).await, 5);
    let bare = secure.authority.before(secure.tls, None).await;
    Client::open(bare, &Connect::new("p").login("ada", "a")).await;
    assert_eq!(refusal(bare, &Connect::new("q")).await, 5);
    assert!(secure.front.forbidden(2).await[0].contains("more than one DNS name"));
    assert_eq!(secure.front.values(), [1.0]);
    secure.front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_on_the_list_is_cut_and_refused_once_the_file_has_it_and_others_stay() {
    if !there("openssl") {
        return;
    }
    let secure = Secure::start(6, |config, authority| {
        authority.revoke(&[]);
        config.crl_file = Some(authority.file("crl.pem"));
    })
    .await;
    let (bad, good) = (secure.port("sensor-bad").await, secure.port("sensor-good").await);
    let (mut bad_client, _) = Client::open(bad, &Connect::v5("bad")).await;
    let (mut good_client, _) = Client::open(good, &Connect::new("good")).await;
    secure.authority.revoke(&["sensor-bad"]);
    assert_eq!(bad_client.until_closed().await, [Packet(0xe0, vec![0x87, 0])]);
    secure.shut_out(bad).await;
    let reasons = secure.front.forbidden(2).await;
    assert!(reasons[0].contains("its certificate is trusted no more"), "{reasons:?}");
    assert!(reasons[1].contains("Revoked"), "{reasons:?}");
    assert!(good_client.try_ping().await);
    Client::open(good, &Connect::new("good")).await;
    secure.front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_server_certificate_is_shown_without_a_restart_and_a_broken_file_changes_nothing() {
    if !there("openssl") {
        return;
    }
    let secure = Secure::start(7, |_, _| {}).await;
    secure.authority.sign("sensor-7", "DNS:sensor-7");
    let shown = async || {
        let stream = secure.authority.shake(secure.tls, Some("sensor-7")).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let first = shown().await;
    std::fs::write(secure.authority.file("server.pem"), "no certificate").unwrap();
    let stats = &secure.front.door.stats;
    let error = || stats.snapshot(secure.front.door.now()).error;
    within(async {
        while error().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(error().unwrap().contains("cert_file"), "{:?}", error());
    assert_eq!(shown().await, first, "the one of before stays in force");
    secure.authority.sign("server", HERE);
    within(async {
        while shown().await == first {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    within(async {
        while error().is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    secure.front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_revoked_is_cut_at_reload_and_what_waits_for_it_is_not_delivered() {
    if !there("openssl") {
        return;
    }
    let secure = Secure::start(8, |_, _| {}).await;
    let front = &secure.front;
    let (port, other) = (secure.port("sensor-7").await, secure.port("sensor-8").await);
    let (mut away, _) = Client::open(port, &Connect::new("away").keep()).await;
    away.subscribe("cmd/sensor-7/#", 1).await;
    away.disconnect().await;
    let (mut live, _) = Client::open(port, &Connect::new("live")).await;
    let (mut neighbour, _) = Client::open(other, &Connect::new("neighbour")).await;
    let (mut ada, _) = Client::open(front.address, &Connect::new("ada").login("ada", "a")).await;
    say(&mut ada, "cmd/sensor-7/waits").await;
    front.reload(|config| config.revoked = vec!["sensor-7".into()]).await;
    assert!(live.until_closed().await.is_empty());
    assert_eq!(refusal(port, &Connect::new("away").keep()).await, 5);
    assert!(front.forbidden(2).await[1].contains("who is revoked"));
    assert!(neighbour.try_ping().await);
    front.reload(|config| config.revoked.clear()).await;
    let (mut away, present) = Client::open(port, &Connect::new("away").keep()).await;
    assert!(!present);
    away.nothing().await;
    secure.front.stop().await;
}
