//! Local pub/sub at the MQTT port: sessions, retained values, wills, shared subscriptions, rights.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod mqtt_support;

use std::sync::Arc;
use std::time::Duration;

use inputs::clock::ManualClock;
use inputs::mqtt::MqttConfig;
use mqtt_support::*;
use seglog::sim::SimDisk;

async fn front(seed: u64) -> (SimDisk, Front) {
    let disk = SimDisk::new(seed);
    let front = Front::start(&disk, MqttConfig::default()).await;
    (disk, front)
}

/// A v5 PUBLISH at QoS 1 whose message expires after so many seconds.
async fn say_for(client: &mut Client, seconds: u32, topic: &str, pkid: u16, retain: bool) {
    let mut body = text(topic);
    body.extend_from_slice(&pkid.to_be_bytes());
    body.extend_from_slice(&[5, 2]);
    body.extend_from_slice(&seconds.to_be_bytes());
    body.push(b'1');
    client.send(&packet(0x32 | u8::from(retain), &body)).await;
    client.until_ack(pkid).await;
}

/// Waits until what a client sent is in the receiver's queue: the kernel may bring one connection's bytes before another's that
/// were sent first. By the bytes that are not acknowledged yet (tx_queue in /proc/net/tcp).
fn arrived(client: &Client) {
    let std::net::SocketAddr::V4(address) = client.stream.local_addr().unwrap() else { panic!("IPv6") };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port());
    let until = std::time::Instant::now() + WAIT;
    loop {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row.get(1) == Some(&local.as_str())).unwrap();
        if row[4].starts_with("00000000:") {
            return;
        }
        assert!(std::time::Instant::now() < until, "{row:?}");
        std::thread::yield_now();
    }
}

#[test]
fn a_publish_that_comes_right_after_anothers_subscribe_reaches_it() {
    // One worker, which is held until both packets have come: it finds them in one turn, in this order.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let (_disk, front) = front(30).await;
        let mut reached = 0;
        for round in 0..10_u16 {
            let topic = format!("race/{round}");
            let mut publisher = front.connect(&format!("p{round}")).await;
            let mut subscriber = front.connect(&format!("s{round}")).await;
            assert!(publisher.try_ping().await && subscriber.try_ping().await);
            let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
            let (holds, holding) = tokio::sync::oneshot::channel();
            let worker = tokio::spawn(async move {
                holds.send(()).unwrap();
                held.recv_timeout(WAIT).unwrap();
            });
            within(holding).await.unwrap();
            let filter = [&[0, 7][..], &text(&topic), &[1]].concat();
            subscriber.send(&packet(0x82, &filter)).await;
            arrived(&subscriber);
            publisher.publish(&topic, "1", 1, 9).await;
            arrived(&publisher);
            release.send(()).unwrap();
            within(worker).await.unwrap();
            assert_eq!(subscriber.next().await.0 >> 4, 9, "SUBACK");
            publisher.until_ack(9).await;
            // What was routed by now comes before the answer to the second ping.
            for _ in 0..2 {
                subscriber.send(&packet(0xc0, &[])).await;
                loop {
                    match subscriber.next().await {
                        Packet(0xd0, _) => break,
                        came => assert_eq!(came.publish().0, topic),
                    }
                    reached += 1;
                }
            }
        }
        // The reactor and the kernel promise no order either: one in a hundred passes all the same, and all of them without the
        // step back.
        assert!(reached >= 6, "{reached} of 10");
        front.stop().await;
    });
}

/// Seconds left of a v5 PUBLISH at QoS 1 that has no other property.
fn seconds_left(packet: &Packet) -> u32 {
    let at = 2 + usize::from(u16::from_be_bytes([packet.1[0], packet.1[1]])) + 2;
    assert_eq!(packet.1[at..at + 2], [5, 2], "{packet:?}");
    u32::from_be_bytes(packet.1[at + 2..at + 6].try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_the_clock_ends_no_session_and_no_message_and_keeps_none_for_ever() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let disk = SimDisk::new(1);
    // A board without a battery that starts at the date of its image.
    let clock = Arc::new(ManualClock::at(1_709_294_400_000_000_000));
    let front = Front::at(&disk, &clock).await;
    let (mut away, _) = Client::open(front.address, &Connect::v5("away").expiry(7 * 24 * 3600).keep()).await;
    assert_eq!(away.subscribe("t/#", 1).await, 1);
    away.disconnect().await;
    let (mut publisher, _) = Client::open(front.address, &Connect::v5("p")).await;
    say_for(&mut publisher, 2 * 24 * 3600, "t/kept", 1, false).await;
    say_for(&mut publisher, 2 * 24 * 3600, "last/value", 2, true).await;
    clock.set(1_795_694_400_000_000_000);
    clock.advance(DAY);
    // What is over ends at the next start, at the latest.
    front.crash(&disk).await;
    let front = Front::at(&disk, &clock).await;
    let present = Connect::v5("away").expiry(7 * 24 * 3600).keep();
    let (mut away, was_there) = Client::open(front.address, &present).await;
    assert!(was_there, "a session of a week, a day later");
    assert_eq!(seconds_left(&away.next().await), 24 * 3600);
    let (mut reader, _) = Client::open(front.address, &Connect::v5("r")).await;
    reader.subscribe("last/#", 1).await;
    assert_eq!(seconds_left(&reader.next().await), 24 * 3600);
    // Set back by decades, they end in time all the same.
    clock.set(1_000_000_000_000_000_000);
    clock.advance(DAY);
    let (mut reader, _) = Client::open(front.address, &Connect::v5("r2")).await;
    reader.subscribe("last/#", 1).await;
    reader.nothing().await;
    front.stop().await;
}

async fn keep(front: &Front, id: &str) -> (Client, bool) {
    Client::open(front.address, &Connect::new(id).keep()).await
}

/// Publishes at QoS 1 and waits for the ack.
async fn say(client: &mut Client, topic: &str, payload: &str, pkid: u16, retain: bool) {
    client.publish_with(topic, payload, 2 | u8::from(retain), pkid).await;
    assert_eq!(client.next().await, ack(PUBACK, pkid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persistent_session_gets_what_came_while_it_was_away_in_order_across_a_power_cut() {
    let (disk, front) = front(1).await;
    let (mut away, present) = keep(&front, "away").await;
    assert!(!present);
    assert_eq!(away.subscribe("t/#", 2).await, 2);
    away.disconnect().await;
    let mut publisher = front.connect("p").await;
    for at in 1..=20 {
        say(&mut publisher, "t/x/y", &at.to_string(), at, false).await;
    }
    publisher.publish("t/x/y", "qos 0 is not kept", 0, 0).await;
    publisher.nothing().await;
    front.crash(&disk).await;

    let front = Front::start(&disk, MqttConfig::default()).await;
    let (mut away, present) = keep(&front, "away").await;
    assert!(present);
    let mut ids = Vec::new();
    for at in 1..=20 {
        let packet = away.next().await;
        let (topic, payload, qos, pkid) = packet.publish();
        assert_eq!((topic.as_str(), payload, qos, packet.is_dup()), ("t/x/y", at.to_string(), 1, false));
        ids.push(pkid);
    }
    away.nothing().await;
    // Acknowledged in any order; only the two that were not come again, marked, under their ids.
    for pkid in ids[2..].iter().rev() {
        away.ack(PUBACK, *pkid).await;
    }
    away.nothing().await;
    let (mut away, _) = keep(&front, "away").await;
    for pkid in &ids[..2] {
        let packet = away.next().await;
        assert!(packet.is_dup());
        assert_eq!(packet.publish().3, *pkid);
        away.ack(PUBACK, *pkid).await;
    }
    away.nothing().await;
    front.stop().await;
    let front = Front::start(&disk, MqttConfig::default()).await;
    let (mut away, _) = keep(&front, "away").await;
    away.nothing().await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_qos_2_delivery_reaches_its_subscriber_once_across_a_power_cut() {
    let (disk, front) = front(2).await;
    let (mut subscriber, _) = keep(&front, "s").await;
    subscriber.subscribe("t", 2).await;
    let mut publisher = front.connect("p").await;
    for pkid in [1, 2] {
        publisher.publish("t", &pkid.to_string(), 2, pkid).await;
        assert_eq!(publisher.next().await, ack(PUBREC, pkid));
        publisher.ack(PUBREL, pkid).await;
        assert_eq!(publisher.next().await, ack(PUBCOMP, pkid));
    }
    let first = subscriber.next().await.publish();
    let second = subscriber.next().await.publish();
    assert_eq!((first.2, second.2), (2, 2));
    // The first is received: from here on only its PUBREL may come.
    subscriber.ack(PUBREC, first.3).await;
    assert_eq!(subscriber.next().await, ack(PUBREL, first.3));
    front.crash(&disk).await;
    let front = Front::start(&disk, MqttConfig::default()).await;
    let (mut subscriber, _) = keep(&front, "s").await;
    assert_eq!(subscriber.next().await, ack(PUBREL, first.3));
    let again = subscriber.next().await;
    assert!(again.is_dup());
    assert_eq!(again.publish(), second);
    subscriber.ack(PUBCOMP, first.3).await;
    subscriber.ack(PUBREC, second.3).await;
    assert_eq!(subscriber.next().await, ack(PUBREL, second.3));
    subscriber.ack(PUBCOMP, second.3).await;
    subscriber.nothing().await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_values_are_the_last_ones_and_survive_a_power_cut() {
    let (disk, front) = front(3).await;
    let mut client = front.connect("p").await;
    say(&mut client, "r/a", "1", 1, true).await;
    say(&mut client, "r/a", "2", 2, true).await;
    say(&mut client, "r/b", "3", 3, true).await;
    say(&mut client, "r/b", "", 4, true).await;
    say(&mut client, "r/c", "not retained", 5, false).await;
    front.crash(&disk).await;
    let front = Front::start(&disk, MqttConfig::default()).await;
    let mut client = front.connect("s").await;
    client.send(&packet(0x82, &[&[0, 1][..], &text("r/#"), &[0]].concat())).await;
    let mut packets = [client.next().await, client.next().await];
    packets.sort_by_key(|packet| packet.0);
    assert!(packets[0].is_retained());
    assert_eq!(packets[0].publish().1, "2");
    assert_eq!(packets[1], Packet(0x90, vec![0, 1, 0]));
    client.nothing().await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_is_published_and_journalled_only_when_the_client_did_not_say_goodbye() {
    let (_disk, front) = front(4).await;
    let mut watcher = front.connect("w").await;
    watcher.subscribe("will/#", 1).await;
    let with_will = |id: &str| Connect::new(id).will(&format!("will/dev/{id}"), "0", 1, true);
    let (polite, _) = Client::open(front.address, &with_will("polite")).await;
    polite.disconnect().await;
    let (rude, _) = Client::open(front.address, &with_will("rude")).await;
    drop(rude);
    let packet = watcher.next().await;
    assert_eq!(packet.publish().0, "will/dev/rude");
    assert_eq!(front.values(), [0.0]);
    let mut late = front.connect("late").await;
    late.send(&mqtt_support::packet(0x82, &[&[0, 1][..], &text("will/#"), &[0]].concat())).await;
    let came = [late.next().await, late.next().await];
    assert!(came.iter().any(|packet| packet.is_retained()), "{came:?}");
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_will_waits_and_is_taken_away_by_a_client_that_comes_back() {
    let (_disk, front) = front(5).await;
    let mut watcher = front.connect("w").await;
    watcher.subscribe("will/#", 0).await;
    let mut connect = Connect::v5("d").expiry(100).keep().will("will/a/b", "1", 0, false);
    connect.will_properties = vec![24, 0, 0, 0, 1];
    let (first, _) = Client::open(front.address, &connect).await;
    drop(first);
    let (second, present) = Client::open(front.address, &connect).await;
    assert!(present);
    watcher.nothing_for(Duration::from_millis(2_500)).await;
    drop(second);
    assert_eq!(watcher.next().await.publish().0, "will/a/b");
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_connection_takes_the_session_over_and_the_first_is_told() {
    let (_disk, front) = front(6).await;
    let (mut first, _) = Client::open(front.address, &Connect::v5("same").expiry(100).keep()).await;
    first.subscribe("t", 1).await;
    let (mut second, present) = Client::open(front.address, &Connect::v5("same").expiry(100).keep()).await;
    assert!(present);
    // 0x8e: session taken over.
    assert_eq!(first.until_closed().await, [Packet(0xe0, vec![0x8e, 0])]);
    let mut publisher = front.connect("p").await;
    say(&mut publisher, "t", "1", 1, false).await;
    assert_eq!(second.next().await.publish_of(true).1, "1");
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_take_overs_at_once_leave_one_connection_and_no_session_behind() {
    let (_disk, front) = front(7).await;
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let address = front.address;
            tokio::spawn(async move { Client::try_v4(address, "same").await })
        })
        .collect();
    let mut clients = Vec::new();
    for task in tasks {
        // One that is taken over before its CONNACK is just closed.
        clients.extend(within(task).await.unwrap());
    }
    let mut alive = 0;
    for client in &mut clients {
        // A connection that was taken over is closed; the one that has the session answers.
        if client.try_ping().await {
            alive += 1;
        }
    }
    assert_eq!(alive, 1);
    drop(clients);
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_group_gets_each_message_once_and_keeps_it_for_an_absent_member() {
    let (_disk, front) = front(8).await;
    let (mut a, _) = keep(&front, "a").await;
    let (mut b, _) = keep(&front, "b").await;
    for client in [&mut a, &mut b] {
        assert_eq!(client.subscribe("$share/g/t/#", 1).await, 1);
    }
    let mut publisher = front.connect("p").await;
    for pkid in 1..=10 {
        say(&mut publisher, "t/x", &pkid.to_string(), pkid, false).await;
    }
    let mut seen = Vec::new();
    for client in [&mut a, &mut b] {
        for _ in 0..5 {
            let (_, payload, _, pkid) = client.next().await.publish();
            client.ack(PUBACK, pkid).await;
            seen.push(payload.parse::<u16>().unwrap());
        }
        client.nothing().await;
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=10).collect::<Vec<_>>());
    b.disconnect().await;
    say(&mut publisher, "t/x", "11", 11, false).await;
    assert_eq!(a.next().await.publish().1, "11");
    a.disconnect().await;
    say(&mut publisher, "t/x", "12", 12, false).await;
    let mut got = Vec::new();
    for id in ["a", "b"] {
        let (mut client, _) = keep(&front, id).await;
        let fresh = client.all().await.into_iter().filter(|packet| !packet.is_dup());
        got.extend(fresh.map(|packet| packet.publish().1));
    }
    assert_eq!(got, ["12"]);
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_start_forgets_everything_of_the_session_before() {
    let (disk, front) = front(9).await;
    let (mut client, _) = keep(&front, "c").await;
    client.subscribe("t", 1).await;
    client.disconnect().await;
    front.connect("c").await.disconnect().await;
    front.stop().await;
    let front = Front::start(&disk, MqttConfig::default()).await;
    let (mut client, present) = keep(&front, "c").await;
    assert!(!present);
    let mut publisher = front.connect("p").await;
    say(&mut publisher, "t", "1", 1, false).await;
    client.nothing().await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_hold_for_wildcards_shares_retained_values_and_wills() {
    let disk = SimDisk::new(10);
    let users = vec![
        user("admin", "a", &["#"], &["#"]),
        user("ada", "b", &["plant/%u/#", "cmd/%c"], &["plant/%u/#"]),
    ];
    let front = Front::start(&disk, MqttConfig { users, ..MqttConfig::default() }).await;
    let (mut admin, _) = Client::open(front.address, &Connect::new("admin").login("admin", "a")).await;
    for (pkid, topic) in [(1, "plant/ada/r"), (2, "plant/bob/r")] {
        say(&mut admin, topic, "retained", pkid, true).await;
    }
    let ada = |id: &str| Connect::new(id).login("ada", "b");
    let (mut client, _) = Client::open(front.address, &ada("c1")).await;
    // Wide filters are granted and give what may be read: one retained value, not two.
    let filters = ["#", "+/+/r", "$share/g/#"];
    for filter in filters {
        let body = [&[0, 1][..], &text(filter), &[1]].concat();
        client.send(&packet(0x82, &body)).await;
    }
    let came = client.all().await;
    assert_eq!(came.iter().filter(|packet| packet.0 == 0x90 && packet.1[2] == 1).count(), 3);
    let topics: Vec<_> =
        came.iter().filter(|packet| packet.0 >> 4 == 3).map(|packet| packet.publish().0).collect();
    assert_eq!(topics, ["plant/ada/r", "plant/ada/r"]);
    for filter in ["plant/bob/#", "cmd/c2", "$SYS/#"] {
        assert_eq!(client.subscribe(filter, 1).await, 0x80, "{filter}");
    }
    say(&mut admin, "plant/bob/x", "1", 3, false).await;
    say(&mut admin, "plant/ada/x", "2", 4, false).await;
    assert_eq!(client.next().await.publish().0, "plant/ada/x");
    // What she may not write is acknowledged to a 3.1.1 client (it has no other word) and goes nowhere.
    let before = front.values().len();
    client.publish("plant/bob/x", "9", 1, 9).await;
    let _ = client.until_ack(9).await;
    assert_eq!(front.values().len(), before);
    // A v5 client is told: 0x87.
    let connect = Connect { v5: true, ..ada("c5") };
    let (mut five, _) = Client::open(front.address, &connect).await;
    five.publish("plant/bob/x", "9", 1, 9).await;
    assert_eq!(five.next().await, Packet(0x40, vec![0, 9, 0x87]));
    // Nor by way of a will.
    assert_eq!(front.refusal(&ada("evil").will("plant/bob/x", "9", 0, true)).await, 5);
    let (mut hash, _) = Client::open(front.address, &ada("#")).await;
    assert_eq!(hash.subscribe("cmd/#", 0).await, 0x80, "a client id of # is no wildcard");
    assert!(front.door.rejects.list().iter().any(|reject| reject.cause == "rejected_forbidden"));
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_the_right_password_nor_into_another_users_session() {
    let disk = SimDisk::new(11);
    let users = vec![user("a", "secret", &["#"], &["#"]), user("b", "other", &["#"], &["#"])];
    let front = Front::start(&disk, MqttConfig { users, ..MqttConfig::default() }).await;
    let refused = [
        (Connect::new("c"), 5),
        (Connect::new("c").login("a", "wrong"), 4),
        (Connect::new("c").login("nobody", "secret"), 4),
    ];
    for (connect, code) in refused {
        let mut client = front.raw().await;
        client.send(&connect.bytes()).await;
        assert_eq!(client.until_closed().await, [Packet(0x20, vec![0, code])]);
    }
    let (mut mine, _) = Client::open(front.address, &Connect::new("c").keep().login("a", "secret")).await;
    let mut thief = front.raw().await;
    thief.send(&Connect::new("c").keep().login("b", "other").bytes()).await;
    assert_eq!(thief.until_closed().await, [Packet(0x20, vec![0, 5])]);
    mine.nothing().await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_v5_session_gets_reasons_ids_aliases_expiry_and_properties() {
    let (_disk, front) = front(12).await;
    let mut raw = front.raw().await;
    raw.v5 = true;
    raw.send(&Connect::v5("").bytes()).await;
    let connack = raw.next().await;
    assert_eq!(connack.1[..2], [0, 0]);
    assert!(String::from_utf8_lossy(&connack.1).contains("auto-"), "an id was assigned: {connack:?}");
    // Unknown packet id at PUBREL: 0x92; unknown filter at UNSUBSCRIBE: 0x11.
    raw.ack(PUBREL, 7).await;
    assert_eq!(raw.next().await, Packet(0x70, vec![0, 7, 0x92]));
    raw.send(&packet(0xa2, &[&[0, 8, 0][..], &text("never")].concat())).await;
    assert_eq!(raw.next().await, Packet(0xb0, vec![0, 8, 0, 0x11]));
    // A subscription with an identifier.
    raw.send(&packet(0x82, &[&[0, 9, 2, 11, 5][..], &text("t/#"), &[1]].concat())).await;
    assert_eq!(raw.next().await.0, 0x90);
    // A publish through an alias, with a user property and an expiry.
    let properties = [&[35, 0, 3, 2, 0, 0, 0, 60, 38][..], &text("k"), &text("v")].concat();
    let body = [&text("t/a")[..], &[0, 1, properties.len() as u8], &properties, b"1"].concat();
    raw.send(&packet(0x32, &body)).await;
    let properties = [35, 0, 3];
    let body = [&text("")[..], &[0, 2, 3], &properties, b"2"].concat();
    raw.send(&packet(0x32, &body)).await;
    let mut publishes = Vec::new();
    let mut acks = 0;
    while publishes.len() < 2 || acks < 2 {
        let packet = raw.next().await;
        match packet.0 >> 4 {
            3 => publishes.push(packet),
            4 => acks += 1,
            _ => panic!("{packet:?}"),
        }
    }
    assert_eq!(publishes[1].publish_of(true).0, "t/a");
    let first = &publishes[0].1;
    assert!(first.windows(6).any(|w| w == [38, 0, 1, b'k', 0, 1]), "the user property came along: {first:?}");
    assert!(first.windows(2).any(|w| w == [11, 5]), "the subscription identifier: {first:?}");
    assert!(first.windows(4).any(|w| w[0] == 2 && w[1..] == [0, 0, 0]), "the expiry: {first:?}");
    // The same message to a 3.1.1 subscriber: no properties.
    let mut old = front.connect("old").await;
    old.subscribe("t/#", 0).await;
    let body = [&text("t/a")[..], &[0, 3, 7, 38], &text("k"), &text("v"), b"3"].concat();
    raw.send(&packet(0x32, &body)).await;
    assert_eq!(old.next().await, Packet(0x30, [&text("t/a")[..], b"3"].concat()));
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receive_maximum_and_maximum_packet_size_of_a_client_are_respected() {
    let (_disk, front) = front(13).await;
    let mut connect = Connect::v5("s");
    connect.properties = vec![33, 0, 2, 39, 0, 0, 0, 40];
    let (mut subscriber, _) = Client::open(front.address, &connect).await;
    subscriber.subscribe("t", 1).await;
    let mut publisher = front.connect("p").await;
    say(&mut publisher, "t", &"x".repeat(100), 1, false).await;
    for pkid in 2..=5 {
        say(&mut publisher, "t", &pkid.to_string(), pkid, false).await;
    }
    let first = subscriber.next().await.publish_of(true);
    let second = subscriber.next().await.publish_of(true);
    assert_eq!((first.1.as_str(), second.1.as_str()), ("2", "3"), "the large one was left out");
    subscriber.nothing().await;
    subscriber.ack(PUBACK, second.3).await;
    assert_eq!(subscriber.next().await.publish_of(true).1, "4");
    subscriber.nothing().await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_on_clients_and_filters_are_said_and_hurt_only_who_exceeds_them() {
    let disk = SimDisk::new(14);
    let config = MqttConfig { max_clients: 2, max_filters_per_client: 1, ..MqttConfig::default() };
    let front = Front::start(&disk, config).await;
    let mut a = front.connect("a").await;
    let _b = front.connect("b").await;
    let mut c = front.raw().await;
    c.send(&Connect::new("c").bytes()).await;
    assert_eq!(c.until_closed().await, [Packet(0x20, vec![0, 3])]);
    assert_eq!(a.subscribe("x", 0).await, 0);
    assert_eq!(a.subscribe("y", 0).await, 0x80);
    assert_eq!(a.subscribe("x", 1).await, 1, "the same filter again is not one more");
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keep_alive_ends_a_silent_client_and_zero_never_does() {
    let (_disk, front) = front(15).await;
    let (mut silent, _) =
        Client::open(front.address, &Connect { keep_alive: 1, v5: true, ..Connect::new("a") }).await;
    let mut patient = front.connect("b").await;
    // 0x8d: keep-alive timeout.
    assert_eq!(silent.until_closed().await, [Packet(0xe0, vec![0x8d, 0])]);
    patient.nothing().await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_v5_client_is_told_the_longest_keep_alive_and_held_to_it() {
    let disk = SimDisk::new(18);
    let config = MqttConfig { max_keep_alive_secs: 1, ..MqttConfig::default() };
    let front = Front::start(&disk, config).await;
    let server_keep_alive = [0x13, 0, 1];
    for asked in [0, 60] {
        let connect = Connect { keep_alive: asked, v5: true, ..Connect::new("a") };
        let mut silent = front.raw().await;
        silent.v5 = true;
        silent.send(&connect.bytes()).await;
        let connack = silent.next().await;
        assert!(connack.1.windows(3).any(|bytes| bytes == server_keep_alive), "{asked}: {connack:?}");
        assert_eq!(silent.until_closed().await, [Packet(0xe0, vec![0x8d, 0])], "{asked}");
    }
    // Whoever keeps to less is told nothing, and 3.1.1 has no word for it.
    let mut raw = front.raw().await;
    raw.send(&Connect { keep_alive: 1, v5: true, ..Connect::new("b") }.bytes()).await;
    let connack = raw.next().await;
    assert_eq!(connack.1[..2], [0, 0]);
    assert!(!connack.1.windows(3).any(|bytes| bytes == server_keep_alive), "{connack:?}");
    let (mut old, _) = Client::open(front.address, &Connect { keep_alive: 60, ..Connect::new("c") }).await;
    old.nothing().await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_at_its_limit_drops_the_oldest_and_counts_it() {
    let disk = SimDisk::new(16);
    let front = Front::start(&disk, MqttConfig { max_queued_messages: 3, ..MqttConfig::default() }).await;
    let (mut away, _) = keep(&front, "away").await;
    away.subscribe("t", 1).await;
    away.disconnect().await;
    let mut publisher = front.connect("p").await;
    for pkid in 1..=5 {
        say(&mut publisher, "t", &pkid.to_string(), pkid, false).await;
    }
    front.crash(&disk).await;
    let front = Front::start(&disk, MqttConfig { max_queued_messages: 3, ..MqttConfig::default() }).await;
    let (mut away, _) = keep(&front, "away").await;
    for expected in ["3", "4", "5"] {
        assert_eq!(away.next().await.publish().1, expected);
    }
    away.nothing().await;
    front.stop().await;
}
