//! Rights that changed over a restart: what waits from before is judged by the new ones.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod mqtt_support;

use inputs::mqtt::MqttConfig;
use mqtt_support::*;
use seglog::sim::SimDisk;

/// `admin` may all, `ada` what is listed; without a list she is gone.
async fn front(disk: &SimDisk, ada: Option<(&[&str], &[&str])>) -> Front {
    let mut users = vec![user("admin", "a", &["#"], &["#"])];
    users.extend(ada.map(|(read, write)| user("ada", "b", read, write)));
    Front::start(disk, MqttConfig { users, ..MqttConfig::default() }).await
}

fn ada(id: &str) -> Connect {
    Connect::new(id).keep().login("ada", "b")
}

async fn admin(front: &Front, id: &str) -> Client {
    Client::open(front.address, &Connect::new(id).keep().login("admin", "a")).await.0
}

/// Publishes and waits for the ack.
async fn say(client: &mut Client, topic: &str, qos: u8, retain: bool) {
    client.publish_with(topic, topic, qos << 1 | u8::from(retain), 7).await;
    assert_eq!(client.next().await, ack(if qos == 1 { PUBACK } else { PUBREC }, 7));
    if qos == 2 {
        client.ack(PUBREL, 7).await;
        assert_eq!(client.next().await, ack(PUBCOMP, 7));
    }
}

/// Topics of the publishes among packets, sorted.
fn topics(packets: &[Packet]) -> Vec<String> {
    let mut topics: Vec<_> =
        packets.iter().filter(|packet| packet.0 >> 4 == 3).map(|packet| packet.publish().0).collect();
    topics.sort();
    topics
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_with_narrower_rights_only_what_they_allow_is_delivered_and_the_rest_forgotten() {
    let disk = SimDisk::new(1);
    let before = front(&disk, Some((&["open/#", "secret/#"], &["status/#"]))).await;
    let (mut reader, _) = Client::open(before.address, &ada("reader")).await;
    for filter in ["open/#", "secret/#"] {
        assert_eq!(reader.subscribe(filter, 2).await, 2);
    }
    let mut writer = admin(&before, "writer").await;
    // Sent and not acknowledged, then what waits; and retained values.
    say(&mut writer, "secret/sent", 1, false).await;
    assert_eq!(reader.next().await.publish().0, "secret/sent");
    drop(reader);
    for (topic, qos) in [("secret/1", 1), ("open/1", 1), ("secret/2", 2), ("open/2", 2)] {
        say(&mut writer, topic, qos, false).await;
    }
    for topic in ["secret/r", "open/r"] {
        say(&mut writer, topic, 1, true).await;
    }
    before.stop().await;

    let after = front(&disk, Some((&["open/#"], &[]))).await;
    let (mut reader, present) = Client::open(after.address, &ada("reader")).await;
    assert!(present);
    let came = reader.all().await;
    assert_eq!(topics(&came), ["open/1", "open/2", "open/r"]);
    for packet in came {
        let (_, _, qos, pkid) = packet.publish();
        reader.ack(if qos == 1 { PUBACK } else { PUBREC }, pkid).await;
        if qos == 2 {
            assert_eq!(reader.next().await, ack(PUBREL, pkid));
            reader.ack(PUBCOMP, pkid).await;
        }
    }
    // The old subscription gives nothing new, nor do retained values a wide one.
    let mut writer = admin(&after, "writer").await;
    say(&mut writer, "secret/3", 1, false).await;
    reader.nothing().await;
    reader.send(&packet(0x82, &[&[0, 1][..], &text("#"), &[0]].concat())).await;
    let mut came = vec![reader.next().await];
    while came.iter().all(|packet| packet.0 != 0x90) {
        came.push(reader.next().await);
    }
    came.extend(reader.all().await);
    assert_eq!(topics(&came), ["open/r"]);
    assert_eq!(reader.subscribe("secret/#", 1).await, 0x80);
    reader.disconnect().await;
    after.stop().await;
    // What was not delivered isn't kept for wider rights to come.
    let again = front(&disk, Some((&["open/#", "secret/#"], &[]))).await;
    let (mut reader, _) = Client::open(again.address, &ada("reader")).await;
    reader.nothing().await;
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_a_will_is_refused_by_the_new_rights_of_who_leaves_it_and_of_who_gets_it() {
    let disk = SimDisk::new(2);
    let dying = ada("dying").will("status/dying", "0", 1, true);
    let all: (&[&str], &[&str]) = (&["status/#"], &["status/#"]);
    let before = front(&disk, Some(all)).await;
    let (mut reader, _) = Client::open(before.address, &ada("reader")).await;
    reader.subscribe("status/#", 1).await;
    reader.disconnect().await;
    let mut watcher = admin(&before, "watcher").await;
    watcher.subscribe("status/#", 1).await;
    drop(Client::open(before.address, &dying).await);
    let packet = watcher.next().await;
    assert_eq!(packet.publish().0, "status/dying");
    watcher.ack(PUBACK, packet.publish().3).await;
    watcher.disconnect().await;
    before.stop().await;

    let after = front(&disk, Some((&[], &[]))).await;
    let values = after.values();
    let (mut reader, present) = Client::open(after.address, &ada("reader")).await;
    assert!(present);
    reader.nothing().await;
    let mut watcher = admin(&after, "watcher").await;
    watcher.nothing().await;
    assert_eq!(after.refusal(&dying).await, 5);
    watcher.nothing().await;
    after.door.durable(after.door.journal.last()).await.unwrap();
    assert_eq!(after.values(), values);
    let reject = after.door.rejects.list().remove(0);
    assert!(reject.cause == "rejected_forbidden" && reject.reason.contains("its will"), "{reject:?}");
    after.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_may_not_read_a_message_takes_no_turn_in_its_share_group() {
    let disk = SimDisk::new(3);
    let before = front(&disk, Some((&["t/#"], &[]))).await;
    let (mut less, _) = Client::open(before.address, &ada("less")).await;
    assert_eq!(less.subscribe("$share/g/t/#", 1).await, 1);
    let mut all = admin(&before, "all").await;
    assert_eq!(all.subscribe("$share/g/t/#", 1).await, 1);
    before.stop().await;
    // Away, connected with less rights than the group's filter, and of a user who is gone.
    for rights in [Some((&["t/open/#"][..], &[][..])), None] {
        let after = front(&disk, rights).await;
        let mut all = admin(&after, "all").await;
        let mut writer = admin(&after, "writer").await;
        for connected in [false, true] {
            let mut less = match (connected, rights) {
                (true, Some(_)) => Some(Client::open(after.address, &ada("less")).await.0),
                _ => None,
            };
            for _ in 0..6 {
                say(&mut writer, "t/secret", 1, false).await;
            }
            let came = all.all().await;
            assert_eq!(topics(&came), ["t/secret"; 6], "connected: {connected}, {rights:?}");
            for packet in came {
                all.ack(PUBACK, packet.publish().3).await;
            }
            all.nothing().await;
            if let Some(less) = &mut less {
                less.nothing().await;
                for _ in 0..6 {
                    say(&mut writer, "t/open/1", 1, false).await;
                }
                assert_eq!(topics(&less.all().await), ["t/open/1"; 3]);
                let came = all.all().await;
                assert_eq!(topics(&came), ["t/open/1"; 3]);
                for packet in came {
                    all.ack(PUBACK, packet.publish().3).await;
                }
                all.nothing().await;
            }
        }
        after.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_user_who_is_gone_is_nobody_elses_and_the_client_id_is_free() {
    let disk = SimDisk::new(4);
    let before = front(&disk, Some((&["t/#"], &["t/#"]))).await;
    let (mut client, _) = Client::open(before.address, &ada("c")).await;
    client.subscribe("t/#", 1).await;
    client.disconnect().await;
    let mut writer = admin(&before, "writer").await;
    say(&mut writer, "t/waits", 1, false).await;
    before.stop().await;
    let after = front(&disk, None).await;
    for connect in [ada("c"), Connect::new("c").keep()] {
        after.refusal(&connect).await;
    }
    let (mut other, present) =
        Client::open(after.address, &Connect::new("c").keep().login("admin", "a")).await;
    assert!(!present);
    other.nothing().await;
    other.disconnect().await;
    after.stop().await;
    // Nor does it wait for a user of that name to come.
    let again = front(&disk, Some((&["t/#"], &["t/#"]))).await;
    assert_eq!(again.refusal(&ada("c")).await, 5, "the id is admin's now");
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_name_may_do_what_its_lists_say() {
    let disk = SimDisk::new(6);
    let config = MqttConfig {
        anonymous_write: vec!["plant/#".into(), "own/%c/#".into()],
        anonymous_read: vec!["plant/#".into()],
        ..MqttConfig::default()
    };
    let front = Front::start(&disk, config).await;
    let mut client = front.connect("a").await;
    assert_eq!(client.subscribe("secret/x", 1).await, 0x80);
    assert_eq!(client.subscribe("#", 1).await, 1);
    for (pkid, topic) in [(1, "secret/x"), (2, "own/a/x"), (3, "own/b/x"), (4, "plant/x")] {
        client.publish(topic, "1", 1, pkid).await;
    }
    // Three acks and one delivery: what may not be written goes nowhere, what may not be read comes to nobody.
    let mut came = client.until_ack(4).await;
    came.extend(client.all().await);
    assert_eq!(topics(&came), ["plant/x"]);
    assert_eq!(front.values().len(), 2, "own/a/x and plant/x were taken in");
    front.stop().await;
}
