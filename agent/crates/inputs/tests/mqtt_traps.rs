//! What MQTT servers are known to get wrong, as a client sees it: one test each (docs/reference/mqtt.md has the list).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod mqtt_support;

use std::collections::BTreeSet;

use inputs::mqtt::MqttConfig;
use mqtt_support::*;
use seglog::sim::SimDisk;

async fn front(seed: u64) -> (SimDisk, Front) {
    let disk = SimDisk::new(seed);
    let front = Front::start(&disk, MqttConfig::default()).await;
    (disk, front)
}

/// Publishes at QoS 1 and waits for the ack.
async fn say(client: &mut Client, topic: &str, payload: &str, pkid: u16, retain: bool) {
    client.publish_with(topic, payload, 2 | u8::from(retain), pkid).await;
    assert_eq!(client.next().await, ack(PUBACK, pkid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_begins_beyond_ascii_is_one_like_any_other() {
    let (_disk, front) = front(1).await;
    let mut subscriber = front.connect("s").await;
    for filter in ["é/1", "日本/#", "😀/+"] {
        assert_eq!(subscriber.subscribe(filter, 1).await, 1, "{filter}");
    }
    let mut publisher = front.connect("p").await;
    for (pkid, topic) in [(1, "é/1"), (2, "日本/東京/温度"), (3, "😀/x")] {
        say(&mut publisher, topic, "1", pkid, false).await;
        assert_eq!(subscriber.next().await.publish().0, topic);
    }
    assert_eq!(front.values().len(), 3);
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_v5_client_says_reaches_a_subscriber_of_version_3() {
    let (_disk, front) = front(2).await;
    let mut old = front.connect("old").await;
    assert_eq!(old.subscribe("t", 1).await, 1);
    let (mut new, _) = Client::open(front.address, &Connect { v5: true, ..Connect::new("new") }).await;
    // Payload format, expiry, response topic, correlation data, a user property.
    let properties = [
        &[1, 1, 2, 0, 0, 0, 60, 8][..],
        &text("answer/here"),
        &[9],
        &text("334"),
        &[38],
        &text("k"),
        &text("v"),
    ]
    .concat();
    let body = [&text("t")[..], &[0, 1, properties.len() as u8], &properties, b"21.5"].concat();
    new.send(&packet(0x32, &body)).await;
    let (topic, payload, qos, _) = old.next().await.publish();
    assert_eq!((topic.as_str(), payload.as_str(), qos), ("t", "21.5", 1));
    old.nothing().await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn share_groups_of_one_name_with_other_filters_are_two() {
    let (_disk, front) = front(3).await;
    let (mut a, mut b) = (front.connect("a").await, front.connect("b").await);
    assert_eq!(a.subscribe("$share/g/x/#", 0).await, 0);
    assert_eq!(b.subscribe("$share/g/y/#", 0).await, 0);
    let mut publisher = front.connect("p").await;
    for (pkid, topic) in [(1, "x/1"), (2, "y/1"), (3, "x/2"), (4, "y/2")] {
        say(&mut publisher, topic, "1", pkid, false).await;
    }
    let topics = |came: Vec<Packet>| came.iter().map(|packet| packet.publish().0).collect::<Vec<_>>();
    assert_eq!(topics(a.all().await), ["x/1", "x/2"]);
    assert_eq!(topics(b.all().await), ["y/1", "y/2"]);
    // Whoever leaves the group gets nothing more.
    a.send(&packet(0xa2, &[&[0, 9][..], &text("$share/g/x/#")].concat())).await;
    assert_eq!(a.next().await, ack(0xb0, 9));
    say(&mut publisher, "x/3", "1", 5, false).await;
    a.nothing().await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_values_beyond_the_window_all_come() {
    let disk = SimDisk::new(4);
    let front = Front::start(&disk, MqttConfig { max_inflight: 10, ..MqttConfig::default() }).await;
    let mut publisher = front.connect("p").await;
    let topics: BTreeSet<String> = (0..350).map(|at| format!("r/{at}")).collect();
    for (pkid, topic) in (1..).zip(&topics) {
        say(&mut publisher, topic, "1", pkid, true).await;
    }
    let mut subscriber = front.connect("s").await;
    subscriber.send(&packet(0x82, &[&[0, 1][..], &text("r/#"), &[1]].concat())).await;
    let mut came = BTreeSet::new();
    while came.len() < topics.len() {
        let packet = subscriber.next().await;
        if packet.0 >> 4 == 3 {
            let (topic, _, _, pkid) = packet.publish();
            assert!(came.insert(topic), "one came twice");
            subscriber.ack(PUBACK, pkid).await;
        }
    }
    assert_eq!(came, topics);
    subscriber.nothing().await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_publish_that_is_not_retained_clears_nothing() {
    let (_disk, front) = front(5).await;
    let mut publisher = front.connect("p").await;
    say(&mut publisher, "r/t", "21.5", 1, true).await;
    say(&mut publisher, "r/t", "", 2, false).await;
    let mut subscriber = front.connect("s").await;
    subscriber.send(&packet(0x82, &[&[0, 1][..], &text("r/t"), &[0]].concat())).await;
    let came = subscriber.all().await;
    assert_eq!(came.iter().filter(|packet| packet.0 >> 4 == 3).count(), 1, "{came:?}");
    // The retained one does.
    say(&mut publisher, "r/t", "", 3, true).await;
    let mut later = front.connect("l").await;
    later.send(&packet(0x82, &[&[0, 1][..], &text("r/t"), &[0]].concat())).await;
    assert!(later.all().await.iter().all(|packet| packet.0 >> 4 != 3));
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_ids_may_hold_any_character() {
    let (disk, front) = front(6).await;
    let ids = ["a/b", "+", "#", "$SYS", "a b", "é", "../x", "%c"];
    for id in ids {
        let (mut client, present) = Client::open(front.address, &Connect::new(id).keep()).await;
        assert!(!present, "{id}");
        assert_eq!(client.subscribe("t", 1).await, 1, "{id}");
        client.disconnect().await;
    }
    let mut publisher = front.connect("p").await;
    say(&mut publisher, "t", "1", 1, false).await;
    front.crash(&disk).await;
    let front = Front::start(&disk, MqttConfig::default()).await;
    for id in ids {
        let (mut client, present) = Client::open(front.address, &Connect::new(id).keep()).await;
        assert!(present, "{id}");
        assert_eq!(client.next().await.publish().0, "t", "{id}");
    }
    front.stop().await;
}
