//! P1 and P2 at the MQTT port: an ack means durable, and what is resent is stored once.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod mqtt_support;

use mqtt_support::*;
use seglog::sim::SimDisk;
use std::time::Duration;

use inputs::mqtt::MqttConfig;
use telemetry::Cause;

const DUP: u8 = 8;

async fn durable(v5: bool, front: &Front, id: &str) -> (Client, bool) {
    let connect = if v5 { Connect::v5(id).expiry(1_000) } else { Connect::new(id) };
    Client::open(front.address, &connect.keep()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn puback_and_pubrec_wait_for_the_journals_fsync() {
    let disk = SimDisk::new(1);
    let front = Front::start(&disk, MqttConfig::default()).await;
    for (qos, ack) in [(1, PUBACK), (2, PUBREC)] {
        let mut client = front.connect("c").await;
        disk.hold_syncs();
        client.publish("plant1/pump7/temperature", "21.5", qos, 9).await;
        let held = disk.clone();
        assert!(
            tokio::task::spawn_blocking(move || held.wait_for_held_sync(WAIT)).await.unwrap(),
            "nothing was synced"
        );
        // The fsync hangs; a ping is answered, so the connection lives, but no ack has come.
        client.nothing().await;
        disk.release_syncs();
        assert_eq!(client.next().await, mqtt_support::ack(ack, 9));
    }
    assert_eq!(front.values(), [21.5, 21.5]);
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_fsync_nothing_is_acknowledged() {
    let disk = SimDisk::new(2);
    let front = Front::start(&disk, MqttConfig::default()).await;
    let mut client = front.connect("first").await;
    client.publish("a/b/c", "1", 1, 1).await;
    assert_eq!(client.next().await, ack(PUBACK, 1));
    disk.fail_sync_after(0);
    // Once the journal says it is broken, connections are closed; until then there is silence.
    for pkid in 2..20 {
        let mut client = match Client::try_v4(front.address, "c").await {
            Some(client) => client,
            None => break,
        };
        client.publish("a/b/c", "2", 1, pkid).await;
        let answer = tokio::time::timeout(Duration::from_millis(50), client.try_next()).await;
        assert!(!matches!(answer, Ok(Some(_))), "acknowledged: {answer:?}");
    }
    assert!(front.door.journal.usage().poisoned.is_some());
    front.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_power_cut() {
    let disk = SimDisk::new(3);
    let front = Front::start(&disk, MqttConfig::default()).await;
    let mut client = front.connect("c").await;
    for value in 0..50u16 {
        client.publish("a/b/c", &value.to_string(), 1, value + 1).await;
    }
    for value in 0..50u16 {
        assert_eq!(client.next().await, ack(PUBACK, value + 1));
    }
    front.crash(&disk).await;
    let front = Front::start(&disk, MqttConfig::default()).await;
    assert_eq!(front.values(), (0..50).map(f64::from).collect::<Vec<_>>());
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_qos_2_publish_is_stored_once_however_often_it_comes_before_its_release() {
    for v5 in [false, true] {
        let disk = SimDisk::new(4);
        let front = Front::start(&disk, MqttConfig::default()).await;
        let (mut client, _) = durable(v5, &front, "c").await;
        for dup in [0, DUP, DUP] {
            client.publish_with("a/b/c", "7", 4 | dup, 5).await;
            assert_eq!(client.next().await, ack(PUBREC, 5));
        }
        // A new connection of the same session still knows it.
        let (mut client, present) = durable(v5, &front, "c").await;
        assert!(present);
        client.publish_with("a/b/c", "7", 4 | DUP, 5).await;
        assert_eq!(client.next().await, ack(PUBREC, 5));
        client.ack(PUBREL, 5).await;
        assert_eq!(client.next().await, ack(PUBCOMP, 5));
        // Released, the id means another message, be it equal in every byte.
        client.publish("a/b/c", "7", 2, 5).await;
        assert_eq!(client.next().await, ack(PUBREC, 5));
        assert_eq!(front.values(), [7.0, 7.0]);
        assert_eq!(front.door.stats.count(Cause::Deduplicated), 3);
        front.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn qos_2_is_exactly_once_across_a_power_cut() {
    let disk = SimDisk::new(5);
    let front = Front::start(&disk, MqttConfig::default()).await;
    let (mut client, _) = durable(false, &front, "c").await;
    // 1: released. 2: received, not released.
    for pkid in [1, 2] {
        client.publish("a/b/c", &pkid.to_string(), 2, pkid).await;
        assert_eq!(client.next().await, ack(PUBREC, pkid));
    }
    client.ack(PUBREL, 1).await;
    assert_eq!(client.next().await, ack(PUBCOMP, 1));
    front.crash(&disk).await;

    let front = Front::start(&disk, MqttConfig::default()).await;
    let (mut client, present) = durable(false, &front, "c").await;
    assert!(present);
    client.publish_with("a/b/c", "2", 4 | DUP, 2).await;
    assert_eq!(client.next().await, ack(PUBREC, 2));
    // The same bytes under the released id, resent because the first sending was lost: a new one.
    client.publish_with("a/b/c", "1", 4 | DUP, 1).await;
    assert_eq!(client.next().await, ack(PUBREC, 1));
    assert_eq!(front.values(), [1.0, 2.0, 1.0]);
    front.stop().await;

    // And once more, after an orderly stop: the marks are in the store now.
    let front = Front::start(&disk, MqttConfig::default()).await;
    let (mut client, _) = durable(false, &front, "c").await;
    for pkid in [1, 2] {
        client.publish_with("a/b/c", &pkid.to_string(), 4 | DUP, pkid).await;
        assert_eq!(client.next().await, ack(PUBREC, pkid));
    }
    assert_eq!(front.door.stats.count(Cause::Deduplicated), 2);
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_outage_left_with_a_client_of_version_3_is_taken_however_much_it_is() {
    const MANY: u16 = 3_000;
    let disk = SimDisk::new(12);
    let front = Front::start(&disk, MqttConfig::default()).await;
    let (mut client, _) = durable(false, &front, "c").await;
    for pkid in 1..=MANY {
        client.publish("a/b/c", &pkid.to_string(), 2, pkid).await;
        assert_eq!(client.next().await, ack(PUBREC, pkid));
    }
    front.crash(&disk).await;

    let front = Front::start(&disk, MqttConfig::default()).await;
    let (mut client, _) = durable(false, &front, "c").await;
    for pkid in 1..=MANY {
        client.publish_with("a/b/c", &pkid.to_string(), 4 | DUP, pkid).await;
        assert_eq!(client.next().await, ack(PUBREC, pkid));
    }
    for pkid in 1..=MANY {
        client.ack(PUBREL, pkid).await;
        assert_eq!(client.next().await, ack(PUBCOMP, pkid));
    }
    assert_eq!(front.values(), (1..=MANY).map(f64::from).collect::<Vec<_>>());
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_qos_1_resend_is_stored_once_only_with_dup_and_equal_id_topic_and_payload() {
    let disk = SimDisk::new(6);
    let front = Front::start(&disk, MqttConfig::default()).await;
    let (mut client, _) = durable(false, &front, "c").await;
    client.publish("a/b/c", "1", 1, 1).await;
    assert_eq!(client.next().await, ack(PUBACK, 1));
    front.crash(&disk).await;
    let front = Front::start(&disk, MqttConfig::default()).await;
    let (mut client, _) = durable(false, &front, "c").await;
    let sent = [
        ("a/b/c", "1", DUP, 1u16),
        ("a/b/c", "1", 0, 1),
        ("a/b/c", "2", DUP, 1),
        ("a/b/d", "2", DUP, 1),
        ("a/b/d", "2", DUP, 2),
    ];
    for (topic, payload, dup, pkid) in sent {
        client.publish_with(topic, payload, 2 | dup, pkid).await;
        assert_eq!(client.next().await, ack(PUBACK, pkid));
    }
    assert_eq!(front.values(), [1.0, 1.0, 2.0, 2.0, 2.0], "only the first is a resend");
    // A session that ended can't know.
    let mut client = front.connect("c").await;
    client.publish_with("a/b/d", "2", 2 | DUP, 2).await;
    client.next().await;
    assert_eq!(front.values().len(), 6);
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publishes_of_one_read_are_one_record_and_acknowledged_in_order() {
    let disk = SimDisk::new(7);
    let front = Front::start(&disk, MqttConfig::default()).await;
    let mut client = front.connect("c").await;
    // A tick's worth of silence, so that the read buffer has grown to its size.
    let bytes: Vec<u8> = (1..=100).flat_map(|pkid| publish(false, "a/b/c", "1", 2, pkid)).collect();
    client.send(&bytes).await;
    for pkid in 1..=100 {
        assert_eq!(client.next().await, ack(PUBACK, pkid));
    }
    assert_eq!(front.values().len(), 100);
    assert!(front.records().len() < 30, "{} records", front.records().len());
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_excluded_topic_serves_subscribers_and_is_no_reading() {
    let disk = SimDisk::new(8);
    let config = MqttConfig { exclude: vec!["local/#".into()], ..MqttConfig::default() };
    let front = Front::start(&disk, config).await;
    let mut subscriber = front.connect("s").await;
    assert_eq!(subscriber.subscribe("#", 1).await, 1);
    let mut client = front.connect("c").await;
    client.publish("local/b/c", "1", 1, 1).await;
    assert_eq!(client.next().await, ack(PUBACK, 1));
    assert_eq!(subscriber.next().await.publish().0, "local/b/c");
    assert!(front.values().is_empty());
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_holds_its_publishers_and_nobody_loses_anything() {
    let disk = SimDisk::new(9);
    let front = Front::start(&disk, MqttConfig::default()).await;
    let mut client = front.connect("c").await;
    client.publish("a/b/c", "1", 1, 1).await;
    client.next().await;
    disk.set_capacity(Some(1));
    client.publish("a/b/c", "2", 1, 2).await;
    client.nothing_for(Duration::from_millis(300)).await;
    disk.set_capacity(None);
    assert_eq!(client.next().await, ack(PUBACK, 2));
    assert_eq!(front.values(), [1.0, 2.0]);
    front.stop().await;
}
