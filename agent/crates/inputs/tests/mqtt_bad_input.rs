//! P8 at the MQTT port: whatever bytes come, nothing panics, nobody else notices, and it is counted.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod mqtt_support;

use std::time::Duration;

use inputs::Reject;
use inputs::mqtt::MqttConfig;
use mqtt_support::*;
use seglog::sim::SimDisk;
use telemetry::Cause;
use tokio::io::AsyncWriteExt;

/// A front, and a client that must not notice anything.
async fn scene(seed: u64, config: MqttConfig) -> (Front, Client) {
    let front = Front::start(&SimDisk::new(seed), config).await;
    let witness = front.connect("witness").await;
    (front, witness)
}

async fn unharmed(front: &Front, witness: &mut Client) {
    witness.publish("a/b/c", "1", 1, 1).await;
    assert_eq!(witness.next().await, ack(PUBACK, 1));
    assert!(panics().is_empty(), "{:?}", panics());
    drop(front.connect("another").await);
}

/// Panics of any thread since the first call.
fn panics() -> Vec<String> {
    use std::sync::{Mutex, Once};
    static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            if place.contains("/src/") {
                SEEN.lock().unwrap().push(place);
            }
            before(info);
        }));
    });
    SEEN.lock().unwrap().clone()
}

/// Well-formed packets of every type a client or a server sends.
fn samples(v5: bool) -> Vec<Vec<u8>> {
    let none: &[u8] = if v5 { &[0] } else { &[] };
    let mut connect = if v5 { Connect::v5("x").expiry(5) } else { Connect::new("x") }
        .will("w/x", "bye", 1, true)
        .login("u", "p");
    if v5 {
        connect.will_properties = [&[24, 0, 0, 0, 1, 38][..], &text("k"), &text("v")].concat();
    }
    let properties =
        [&[1, 1, 2, 0, 0, 0, 9, 35, 0, 1, 38][..], &text("k"), &text("v"), &[8], &text("r")].concat();
    let mut list = vec![
        connect.bytes(),
        packet(0x20, &[0, 0]),
        publish(v5, "a/b", "1", 0, 0),
        publish(v5, "a/b", "1", 2, 1),
        publish(v5, "a/b", "1", 4 | 8, 2),
        packet(0x40, &[0, 1]),
        packet(0x50, &[0, 1]),
        packet(0x62, &[0, 1]),
        packet(0x70, &[0, 1]),
        packet(0x82, &[&[0, 1][..], none, &text("a/#"), &[1], &text("$share/g/b"), &[2]].concat()),
        packet(0x90, &[0, 1, 0]),
        packet(0xa2, &[&[0, 1][..], none, &text("a/#"), &text("b")].concat()),
        packet(0xb0, &[0, 1]),
        packet(0xc0, &[]),
        packet(0xd0, &[]),
        packet(0xe0, &[]),
        packet(0xf0, &[0x18, 0]),
        packet(0x00, &[1, 2, 3]),
    ];
    if v5 {
        list.push(packet(
            0x32,
            &[&text("a/b")[..], &[0, 1, properties.len() as u8], &properties, b"1"].concat(),
        ));
        list.push(packet(0x40, &[&[0, 1, 0x10, 4, 31][..], &text("r")[..3]].concat()));
        list.push(packet(0xe0, &[4, 5, 17, 0, 0, 0, 0]));
        list.push(packet(0x82, &[&[0, 1, 2, 11, 5][..], &text("a"), &[0x2d]].concat()));
    }
    list
}

#[tokio::test(flavor = "multi_thread")]
async fn every_packet_first_whole_or_cut_at_every_byte_hurts_nobody() {
    panics();
    let (front, mut witness) = scene(1, MqttConfig::default()).await;
    for sample in samples(false).into_iter().chain(samples(true)) {
        for cut in 1..=sample.len() {
            let mut client = front.raw().await;
            client.stream.write_all(&sample[..cut]).await.unwrap();
            client.stream.shutdown().await.unwrap();
            client.until_closed().await;
        }
    }
    unharmed(&front, &mut witness).await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_packet_after_connect_with_any_one_byte_changed_hurts_nobody() {
    panics();
    let (front, mut witness) = scene(2, MqttConfig::default()).await;
    for v5 in [false, true] {
        let hello = if v5 { Connect::v5("x") } else { Connect::new("x") };
        for sample in samples(v5) {
            let mut clients = Vec::new();
            for at in 0..sample.len() {
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut bytes = hello.bytes();
                    let start = bytes.len();
                    bytes.extend_from_slice(&sample);
                    bytes[start + at] = value;
                    let mut client = front.raw().await;
                    client.stream.write_all(&bytes).await.unwrap();
                    client.stream.shutdown().await.unwrap();
                    clients.push(client);
                    if clients.len() == 50 {
                        for mut client in clients.drain(..) {
                            client.until_closed().await;
                        }
                    }
                }
            }
            for mut client in clients {
                client.until_closed().await;
            }
        }
    }
    unharmed(&front, &mut witness).await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths_that_lie_are_refused_before_their_body_and_without_memory_for_it() {
    panics();
    let (front, mut witness) = scene(3, MqttConfig::default()).await;
    // 268,435,455 bytes announced; five bytes of length; a QoS 0 publish over the limit.
    let lies: [&[u8]; 3] =
        [&[0x10, 0xff, 0xff, 0xff, 0x7f], &[0x10, 0x80, 0x80, 0x80, 0x80, 1], &[0x10, 0xff, 0xff, 0x7f]];
    for lie in lies {
        let mut client = front.raw().await;
        client.send(lie).await;
        assert!(client.until_closed().await.is_empty());
    }
    let (mut client, _) = Client::open(front.address, &Connect::v5("big")).await;
    client.send(&[0x30, 0xff, 0xff, 0x7f]).await;
    // 0x95: packet too large.
    assert_eq!(client.until_closed().await, [Packet(0xe0, vec![0x95, 0])]);
    unharmed(&front, &mut witness).await;
    assert!(front.door.rejects.list().len() >= 3, "refusals are kept for the operator");
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_topics_and_filters_are_refused_with_their_reason() {
    panics();
    let (front, mut witness) = scene(4, MqttConfig::default()).await;
    let deep = "a/".repeat(10_000);
    let long = "x".repeat(65_535);
    // Topic, v5 reason.
    let names = [("", 0x82), ("a/+", 0x90), ("#", 0x90), ("a\0b", 0x81), (deep.as_str(), 0x90)];
    for (name, reason) in names {
        let (mut client, _) = Client::open(front.address, &Connect::v5("bad")).await;
        client.publish(name, "1", 1, 1).await;
        assert_eq!(client.until_closed().await, [Packet(0xe0, vec![reason, 0])], "{:?}", name.get(..8));
    }
    let (mut client, _) = Client::open(front.address, &Connect::v5("utf")).await;
    client.send(&packet(0x32, &[0, 2, 0xff, 0xfe, 0, 1, 0, b'1'])).await;
    assert_eq!(client.until_closed().await, [Packet(0xe0, vec![0x81, 0])]);
    // What killed rumqttd's router, and a name at the wire's limit, are just topics.
    let (mut client, _) = Client::open(front.address, &Connect::v5("good")).await;
    for (pkid, name) in [(1, "é/1"), (2, "/"), (3, long.as_str())] {
        client.publish(name, "1", 1, pkid).await;
        assert_eq!(client.next().await, ack(PUBACK, pkid));
    }
    // 0x8f: topic filter invalid; the connection goes on.
    for filter in ["a#", "#/a", "", "$share/g", "$share//a", &deep] {
        assert_eq!(client.subscribe(filter, 0).await, 0x8f, "{:?}", filter.get(..8));
    }
    client.nothing().await;
    unharmed(&front, &mut witness).await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_given_twice_unknown_or_by_the_thousand_hurt_nobody() {
    panics();
    let (front, mut witness) = scene(5, MqttConfig::default()).await;
    // Message expiry twice; an unknown property; a subscription identifier in a publish; an alias never set, and 0.
    let bad: [(&[u8], u8); 5] = [
        (&[2, 0, 0, 0, 1, 2, 0, 0, 0, 1], 0x82),
        (&[99, 1], 0x81),
        (&[11, 1], 0x82),
        (&[35, 0, 0], 0x94),
        (&[35, 0xff, 0xff], 0x94),
    ];
    for (properties, reason) in bad {
        let (mut client, _) = Client::open(front.address, &Connect::v5("p")).await;
        let body = [&text("t")[..], &[0, 1, properties.len() as u8], properties, b"1"].concat();
        client.send(&packet(0x32, &body)).await;
        assert_eq!(client.until_closed().await, [Packet(0xe0, vec![reason, 0])], "{properties:?}");
    }
    // 20,000 user properties in 200 KiB: legal, and answered promptly.
    let (mut client, _) = Client::open(front.address, &Connect::v5("many")).await;
    let pairs: Vec<u8> = (0..20_000).flat_map(|_| [&[38][..], &text("k"), &text("v")].concat()).collect();
    let mut body = [&text("t")[..], &[0, 1]].concat();
    let mut n = pairs.len();
    while n > 0 {
        let byte = (n & 0x7f) as u8;
        n >>= 7;
        body.push(if n > 0 { byte | 0x80 } else { byte });
    }
    body.extend_from_slice(&pairs);
    client.send(&packet(0x32, &body)).await;
    assert_eq!(client.next().await, ack(PUBACK, 1));
    // A will whose delay outlives its session, a hundred times.
    let mut connect = Connect::v5("will").will("w/a/b", "1", 0, false);
    connect.will_properties = vec![24, 0xff, 0xff, 0xff, 0xff];
    for _ in 0..100 {
        drop(Client::open(front.address, &connect).await);
    }
    unharmed(&front, &mut witness).await;
    front.stop().await;
}

/// The last refusal, after `n` of that cause.
fn refused(front: &Front, cause: Cause, n: u64) -> Reject {
    // The client may see the end of its connection before it is counted.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while front.door.stats.count(cause) < n && std::time::Instant::now() < end {
        std::thread::yield_now();
    }
    front.door.flush().unwrap();
    assert_eq!(front.door.stats.count(cause), n);
    let last = front.door.rejects.list().pop().unwrap();
    assert_eq!(last.cause, cause.name());
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn violations_before_and_after_connect_are_counted_by_cause_and_kept_with_their_reason() {
    panics();
    let (front, mut witness) = scene(10, MqttConfig::default()).await;
    // A length of five bytes; a PUBLISH; 256 MiB; not MQTT.
    let first: [(&[u8], Cause, u64, &str); 4] = [
        (&[0x10, 0xff, 0xff, 0xff, 0xff, 1], Cause::RejectedSyntax, 1, "more than four bytes"),
        (&[0x30, 5, 0, 1, b't', b'2', b'1'], Cause::RejectedSyntax, 2, "type 3, not CONNECT"),
        (&[0x10, 0xff, 0xff, 0xff, 0x7f], Cause::RejectedLimit, 1, "max_packet_bytes"),
        (b"GET / HTTP/1.1\r\n\r\n", Cause::RejectedSyntax, 3, "not CONNECT"),
    ];
    for (bytes, cause, n, why) in first {
        let mut client = front.raw().await;
        client.send(bytes).await;
        assert!(client.until_closed().await.is_empty());
        let last = refused(&front, cause, n);
        assert!(last.reason.starts_with("127.0.0.1:") && last.reason.contains(why), "{last:?}");
    }
    // What comes complete before it is still taken; the excerpt begins with what is wrong.
    let text = b"\x36\x07\x00\x01t\x00\x0121";
    let later: [(&[u8], Cause, u64, &str); 5] = [
        (text, Cause::RejectedSyntax, 4, "QoS 3"),
        (&[0x30, 6, 0, 2, 0xff, 0xfe, b'2', b'1'], Cause::RejectedEncoding, 1, "UTF-8"),
        (b"\x30\x06\x00\x03a/+9", Cause::RejectedSyntax, 5, "topic \"a/+\""),
        (&[0x30, 0xff, 0xff, 0xff, 0x7f], Cause::RejectedLimit, 2, "max_packet_bytes"),
        (&[0x40, 2, 0, 0], Cause::RejectedSyntax, 6, "packet id 0"),
    ];
    for (bytes, cause, n, why) in later {
        let mut client = front.connect("bad").await;
        client.send(&[&publish(false, "a/b/c", "1", 2, 1)[..], bytes].concat()).await;
        client.until_closed().await;
        let last = refused(&front, cause, n);
        assert!(last.reason.starts_with("client \"bad\": ") && last.reason.contains(why), "{last:?}");
        assert!(last.excerpt.starts_with(&inputs::rejects::excerpt(&bytes[..1])), "{last:?}");
    }
    // Their connections ended before the disk had them.
    front.door.durable(front.door.journal.last()).await.unwrap();
    assert_eq!(front.values().len(), later.len());
    unharmed(&front, &mut witness).await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_to_a_topic_of_the_server_is_refused_and_counted() {
    let (front, mut witness) = scene(13, MqttConfig::default()).await;
    let mut subscriber = front.connect("subscriber").await;
    subscriber.subscribe("$share/g/#", 1).await;
    let (mut five, _) = Client::open(front.address, &Connect::v5("five")).await;
    let mut three = front.connect("three").await;
    let topics = ["$share/g/t", "$share", "$SYS/broker/uptime", "$other/x"];
    for (at, topic) in topics.into_iter().enumerate() {
        // 0x87: not authorized. 3.1.1 has no word for it.
        five.publish(topic, "1", 1, 9).await;
        assert_eq!(five.next().await, Packet(0x40, vec![0, 9, 0x87]), "{topic}");
        three.publish(topic, "1", 2, 9).await;
        assert_eq!(three.next().await, ack(PUBREC, 9));
        three.ack(PUBREL, 9).await;
        assert_eq!(three.next().await, ack(PUBCOMP, 9));
        let last = refused(&front, Cause::RejectedForbidden, 2 * at as u64 + 2);
        assert!(last.reason.contains(&format!("may not publish to {topic:?}")), "{last:?}");
    }
    // Nor by way of a will or as a retained value.
    for topic in topics {
        assert_eq!(front.refusal(&Connect::new("will").will(topic, "1", 0, true)).await, 5);
        five.publish_with(topic, "1", 1, 0).await;
    }
    five.nothing().await;
    assert_eq!(five.subscribe("$other/#", 0).await, 0);
    five.nothing().await;
    front.door.durable(front.door.journal.last()).await.unwrap();
    assert!(front.values().is_empty());
    subscriber.nothing().await;
    unharmed(&front, &mut witness).await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_or_falls_silent_is_no_violation() {
    let (front, mut witness) = scene(11, MqttConfig::default()).await;
    let mut silent = Connect::new("silent");
    silent.keep_alive = 1;
    let (mut silent, _) = Client::open(front.address, &silent).await;
    drop(front.connect("gone").await);
    silent.until_closed().await;
    unharmed(&front, &mut witness).await;
    assert_eq!(front.door.rejects.list(), []);
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connect_is_counted_and_its_password_is_not_kept() {
    let users = vec![user("a", "b", &[], &[])];
    let front = Front::start(&SimDisk::new(12), MqttConfig { users, ..MqttConfig::default() }).await;
    let mut client = front.raw().await;
    client.send(&Connect::new("x").login("a", "hunter2").bytes()).await;
    client.until_closed().await;
    let last = refused(&front, Cause::RejectedForbidden, 1);
    assert!(last.reason.contains("client \"x\" was refused"), "{last:?}");
    // The same with an unknown level: it is the packet that is refused, and shown in part.
    let mut client = front.raw().await;
    let mut bytes = Connect::new("").login("a", "hunter2").bytes();
    bytes[8] = 3;
    client.send(&bytes).await;
    client.until_closed().await;
    let last = refused(&front, Cause::RejectedSyntax, 1);
    assert!(last.excerpt.contains("MQTT") && !last.excerpt.contains("hunter"), "{last:?}");
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_and_slow_connections_are_bounded_and_their_places_come_back() {
    panics();
    let config = MqttConfig { max_unauthenticated: 20, connect_timeout_secs: 1, ..MqttConfig::default() };
    let (front, mut witness) = scene(6, config).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(front.raw().await);
    }
    // One byte at a time, never done: the deadline is for the whole CONNECT.
    let mut slow = silent.pop().unwrap();
    let bytes = Connect::new("slow").bytes();
    let feed = tokio::spawn(async move {
        for byte in &bytes[..bytes.len() - 1] {
            if slow.stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        slow.until_closed().await
    });
    for client in &mut silent {
        assert!(client.until_closed().await.is_empty());
    }
    assert!(within(feed).await.unwrap().is_empty());
    unharmed(&front, &mut witness).await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publishes_at_qos_2_that_are_never_released_end_their_client_only() {
    panics();
    let (front, mut witness) = scene(7, MqttConfig { max_inflight: 10, ..MqttConfig::default() }).await;
    let (mut client, _) = Client::open(front.address, &Connect::v5("hoarder")).await;
    for pkid in 1..=11 {
        client.publish("a/b/c", "1", 2, pkid).await;
    }
    let came = client.until_closed().await;
    // 0x93: receive maximum exceeded.
    assert_eq!(came.last(), Some(&Packet(0xe0, vec![0x93, 0])));
    unharmed(&front, &mut witness).await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_version_3_that_never_release_end_where_they_would_fill_the_memory() {
    panics();
    let config = MqttConfig { max_inflight: 10, max_memory_bytes: 100 * 256, ..MqttConfig::default() };
    let (front, mut witness) = scene(7, config).await;
    let (mut client, _) = Client::open(front.address, &Connect::new("hoarder")).await;
    for pkid in 1..=100 {
        client.publish("a/b/c", "1", 2, pkid).await;
        assert_eq!(client.next().await, ack(PUBREC, pkid));
    }
    client.publish("a/b/c", "1", 2, 101).await;
    client.until_closed().await;
    assert!(refused(&front, Cause::RejectedLimit, 1).reason.contains("max_memory_bytes"));
    unharmed(&front, &mut witness).await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_takes_nothing_costs_bounded_memory_and_holds_nobody_up() {
    panics();
    let config = MqttConfig { max_queued_bytes: 1 << 20, ..MqttConfig::default() };
    let (front, mut witness) = scene(8, config).await;
    let mut deaf = front.connect("deaf").await;
    deaf.subscribe("flood/#", 0).await;
    let payload = "x".repeat(10_000);
    for pkid in 1..=2_000u16 {
        witness.publish("flood/a/b", &payload, 1, pkid).await;
        assert_eq!(witness.next().await, ack(PUBACK, pkid));
    }
    unharmed(&front, &mut witness).await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_rejected_connects_leave_no_descriptor_behind() {
    panics();
    let users = vec![user("a", "b", &[], &[])];
    let front = Front::start(&SimDisk::new(9), MqttConfig { users, ..MqttConfig::default() }).await;
    let open = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let before = open();
    for _ in 0..1_000 {
        let mut client = front.raw().await;
        client.send(&Connect::new("x").bytes()).await;
        assert_eq!(client.until_closed().await.len(), 1);
    }
    let deadline = tokio::time::Instant::now() + WAIT;
    // Other tests of this process open sockets too: it need not be exact.
    while open() > before + 200 {
        assert!(tokio::time::Instant::now() < deadline, "{} descriptors, {before} before", open());
        tokio::task::yield_now().await;
    }
    front.stop().await;
}
