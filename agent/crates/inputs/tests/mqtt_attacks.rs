//! What somebody with a user of their own, or none, tries to get at: what they got, and that it was counted.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod mqtt_support;

use std::sync::LazyLock;

use inputs::mqtt::{MqttConfig, UserConfig};
use mqtt_support::*;
use seglog::sim::SimDisk;

const NOT_AUTHORIZED: u8 = 0x87;

/// `admin` may all, `ada` and `eve` their own.
fn users() -> Vec<UserConfig> {
    // Once: another hash is another password.
    static USERS: LazyLock<Vec<UserConfig>> = LazyLock::new(|| {
        let own: (&[&str], &[&str]) = (&["plant/%u/#", "d/%c/#"], &["plant/%u/#", "d/%c/#"]);
        vec![
            user("admin", "a", &["#", "$SYS/#"], &["#"]),
            user("ada", "b", own.0, own.1),
            user("eve", "c", own.0, own.1),
        ]
    });
    USERS.clone()
}

async fn front(seed: u64) -> Front {
    Front::start(&SimDisk::new(seed), MqttConfig { users: users(), ..MqttConfig::default() }).await
}

fn ada(id: &str) -> Connect {
    Connect::new(id).login("ada", "b")
}

fn eve(id: &str) -> Connect {
    Connect::new(id).login("eve", "c")
}

async fn open(front: &Front, connect: &Connect) -> Client {
    Client::open(front.address, connect).await.0
}

async fn admin(front: &Front) -> Client {
    open(front, &Connect::new("admin").login("admin", "a")).await
}

async fn say(client: &mut Client, topic: &str, retain: bool) {
    client.publish_with(topic, topic, 2 | u8::from(retain), 7).await;
    assert_eq!(client.next().await, ack(PUBACK, 7));
}

fn topics(packets: &[Packet], v5: bool) -> Vec<String> {
    let publishes = packets.iter().filter(|packet| packet.0 >> 4 == 3);
    let mut topics: Vec<_> = publishes.map(|packet| packet.publish_of(v5).0).collect();
    topics.sort();
    topics
}

async fn reload(front: &Front, users: Vec<UserConfig>) {
    front.reload(|config| config.users = users).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_everything_gets_what_it_may_read_however_it_asks() {
    let front = front(1).await;
    let mut admin = admin(&front).await;
    for topic in ["secret/r", "plant/ada/r", "plant/eve/r", "d/other/r"] {
        say(&mut admin, topic, true).await;
    }
    let mut refused = 0;
    for (filters, retained) in [
        (&["#"][..], &["plant/eve/r"][..]),
        (&["+/+/+"], &["plant/eve/r"]),
        (&["+/#"], &["plant/eve/r"]),
        (&["plant/+/+"], &["plant/eve/r"]),
        (&["$share/g/#"], &[]),
        (&["$share/g/+/+/+"], &[]),
    ] {
        let mut thief = open(&front, &eve("thief")).await;
        for filter in filters {
            thief.send(&packet(0x82, &[&[0, 1][..], &text(filter), &[1]].concat())).await;
        }
        let mut came = thief.all().await;
        let granted = came.iter().find(|packet| packet.0 == 0x90).unwrap();
        assert_eq!(granted.1[2], 1, "{filters:?}: a wide filter is granted");
        assert_eq!(topics(&came, false), retained, "{filters:?}: retained");
        for topic in ["secret/x", "plant/ada/t", "plant/eve/t", "d/other/t", "plant"] {
            say(&mut admin, topic, false).await;
        }
        came = thief.all().await;
        assert_eq!(topics(&came, false), ["plant/eve/t"], "{filters:?}: live");
    }
    // What can meet nothing that it may read is refused, and counted.
    let mut thief = open(&front, &eve("thief")).await;
    for filter in [
        "secret/#",
        "secret/r",
        "plant/ada/#",
        "$SYS/#",
        "$share/g/secret/#",
        "$share/g/$SYS/#",
        "$SYS/+/uptime",
    ] {
        assert_eq!(thief.subscribe(filter, 1).await, 0x80, "{filter}");
        refused += 1;
    }
    let reasons = front.forbidden(refused).await;
    assert!(reasons[0].contains("may not subscribe to \"secret/#\""), "{reasons:?}");
    thief.nothing().await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_written_reaches_nobody_sets_and_clears_no_retained_value_and_is_counted() {
    let front = front(2).await;
    let mut admin = admin(&front).await;
    say(&mut admin, "secret/r", true).await;
    let before = front.values().len();
    admin.subscribe("#", 1).await;
    assert_eq!(admin.next().await.publish().0, "secret/r");
    admin.ack(PUBACK, 1).await;
    let mut thief = open(&front, &Connect { v5: true, ..eve("thief") }).await;
    let evil =
        ["secret/x", "plant/ada/t", "d/other/t", "$SYS/broker/uptime", "$share/g/secret/x", "plant/eve"];
    let mut n = 0;
    for topic in &evil[..5] {
        for flags in [2, 3] {
            n += 1;
            thief.publish_with(topic, "1", flags, n).await;
            let answer = thief.next().await;
            assert_eq!((answer.0, answer.1[2]), (0x40, NOT_AUTHORIZED), "{topic}");
        }
    }
    // Clears a retained value, if it may.
    thief.publish_with("secret/r", "", 3, 100).await;
    assert_eq!(thief.next().await.1[2], NOT_AUTHORIZED);
    let reasons = front.forbidden(u64::from(n) + 1).await;
    assert!(reasons.iter().all(|reason| reason.contains("may not publish to")), "{reasons:?}");
    assert!(admin.all().await.is_empty(), "nobody hears of it");
    assert_eq!(front.values().len(), before, "none is a reading");
    // Its own is taken.
    thief.publish_with(evil[5], "1", 2, 101).await;
    assert_eq!(thief.next().await, Packet(0x40, vec![0, 101]));
    assert_eq!(admin.next().await.publish().0, "plant/eve");
    assert_eq!(admin.subscribe("secret/r", 0).await, 0);
    assert_eq!(topics(&admin.all().await, false), ["secret/r"], "the retained value stands");
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_that_may_not_be_written_is_refused_with_its_connect_and_counted() {
    let front = front(3).await;
    let mut admin = admin(&front).await;
    admin.subscribe("#", 1).await;
    for (at, topic) in ["secret/x", "plant/ada/t", "$SYS/broker/uptime", "d/other/x"].iter().enumerate() {
        assert_eq!(front.refusal(&eve("thief").will(topic, "1", 1, true)).await, 5, "{topic}");
        let v5 = Connect { v5: true, ..eve("thief").will(topic, "1", 1, true) };
        assert_eq!(front.refusal(&v5).await, NOT_AUTHORIZED, "{topic}");
        let reasons = front.forbidden(2 * (at as u64 + 1)).await;
        assert!(reasons.last().unwrap().contains("its will"), "{reasons:?}");
    }
    drop(open(&front, &eve("thief").will("plant/eve/last", "1", 1, false)).await);
    assert_eq!(admin.next().await.publish().0, "plant/eve/last");
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_is_not_published_when_the_right_to_it_was_taken_away_before() {
    let front = front(4).await;
    let mut admin = admin(&front).await;
    admin.subscribe("#", 1).await;
    let live = open(&front, &eve("live").will("plant/eve/live", "1", 1, true)).await;
    // Its will waits for an hour, or for the end of the session; the right goes meanwhile.
    let mut delayed =
        Connect { v5: true, ..eve("delayed") }.expiry(2).will("plant/eve/delayed", "1", 1, true);
    delayed.will_properties = [&[24][..], &3_600u32.to_be_bytes()].concat();
    drop(open(&front, &delayed).await);
    let mut less = users();
    less[2].write.clear();
    reload(&front, less).await;
    drop(live);
    let reasons = front.forbidden(2).await;
    assert!(reasons.iter().all(|reason| reason.contains("may not publish its will")), "{reasons:?}");
    admin.nothing().await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_of_another_user_is_not_to_be_had_by_its_client_id() {
    let front = front(5).await;
    let mut victim = open(&front, &ada("pump").keep()).await;
    victim.subscribe("plant/ada/#", 1).await;
    let takeovers = [eve("pump").keep(), eve("pump"), Connect { v5: true, ..eve("pump") }];
    for connect in &takeovers {
        front.refusal(connect).await;
    }
    assert!(victim.try_ping().await, "it was not even disturbed");
    drop(victim);
    let mut admin = admin(&front).await;
    say(&mut admin, "plant/ada/waits", false).await;
    for connect in &takeovers {
        front.refusal(connect).await;
    }
    let reasons = front.forbidden(6).await;
    assert!(reasons.iter().all(|reason| reason.contains("another user's")), "{reasons:?}");
    let (mut victim, present) = Client::open(front.address, &ada("pump").keep()).await;
    assert!(present);
    assert_eq!(victim.next().await.publish().0, "plant/ada/waits");
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_first_what_client_ids_keep_for_another_user() {
    let mut kept = users();
    kept[1].client_ids = vec!["pump".into(), "%u-*".into()];
    let front =
        Front::start(&SimDisk::new(7), MqttConfig { users: kept.clone(), ..MqttConfig::default() }).await;
    for id in ["pump", "ada-1"] {
        for connect in [eve(id).keep(), Connect { v5: true, ..eve(id) }] {
            let code = front.refusal(&connect).await;
            assert_eq!(code, if connect.v5 { 0x85 } else { 2 });
        }
    }
    // Nor does she get others; one that the server makes up is nobody's.
    front.refusal(&ada("valve")).await;
    open(&front, &Connect { v5: true, ..ada("") }).await.disconnect().await;
    let reasons = front.forbidden(5).await;
    assert_eq!(reasons.iter().filter(|reason| reason.contains("another user's")).count(), 4, "{reasons:?}");
    assert_eq!(reasons.iter().filter(|reason| reason.contains("none of the client_ids")).count(), 1);
    for connect in [ada("pump"), ada("ada-1"), eve("valve")] {
        open(&front, &connect).await.disconnect().await;
    }
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_took_a_client_id_first_loses_it_when_the_configuration_gives_it_to_another() {
    let disk = SimDisk::new(8);
    let before = Front::start(&disk, MqttConfig { users: users(), ..MqttConfig::default() }).await;
    // Away, and connected, at a reload; and over a restart.
    for id in ["away", "restart"] {
        open(&before, &eve(id).keep()).await.disconnect().await;
    }
    let mut thief = open(&before, &eve("here").keep()).await;
    before.refusal(&ada("here").keep()).await;
    let mut kept = users();
    kept[1].client_ids = vec!["away".into(), "here".into()];
    reload(&before, kept.clone()).await;
    thief.until_closed().await;
    for id in ["away", "here"] {
        let (_, present) = Client::open(before.address, &ada(id).keep()).await;
        assert!(!present, "{id}");
    }
    before.stop().await;

    kept[1].client_ids.push("restart".into());
    let after = Front::start(&disk, MqttConfig { users: kept, ..MqttConfig::default() }).await;
    for (id, was_there) in [("restart", false), ("away", true)] {
        let (_, present) = Client::open(after.address, &ada(id).keep()).await;
        assert_eq!(present, was_there, "{id}");
    }
    after.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_ids_that_are_wildcards_or_topics_of_the_server_open_nothing() {
    let front = front(6).await;
    let mut admin = admin(&front).await;
    for topic in ["d/other/r", "d/x/y/r"] {
        say(&mut admin, topic, true).await;
    }
    let mut counted = 0;
    for id in ["#", "+", "other/#", "+/+", "x/y", "$SYS", "%u", "%c"] {
        let mut thief = open(&front, &eve(id)).await;
        thief.send(&packet(0x82, &[&[0, 1][..], &text("#"), &[1]].concat())).await;
        assert!(topics(&thief.all().await, false).is_empty(), "{id}");
        assert_eq!(thief.subscribe("$SYS/#", 0).await, 0x80, "{id}");
        thief.publish("d/other/t", "1", 1, 9).await;
        assert_eq!(thief.next().await, ack(PUBACK, 9));
        counted += 2;
    }
    front.forbidden(counted).await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn user_names_that_are_empty_oversized_or_wildcards_are_refused_and_counted() {
    let front = front(7).await;
    let huge = "x".repeat(65_535);
    let names = ["", "#", "+", "ada/#", "a*", "*", "ada\u{1}", "ADA", "ada ", &huge];
    for (at, name) in names.iter().enumerate() {
        assert_eq!(
            front.refusal(&Connect::new("c").login(name, "b")).await,
            4,
            "{}",
            &name[..name.len().min(9)]
        );
        // A name without a password, and none at all.
        front.refusal(&Connect::new("c").login(name, "")).await;
        let reasons = front.forbidden(2 * (at as u64 + 1)).await;
        assert!(reasons.iter().all(|reason| reason.len() < 512), "an oversized name is not kept");
    }
    assert_eq!(front.refusal(&Connect::new("c")).await, 5);
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_passwords_is_slowed_and_sent_away_and_a_known_client_from_there_comes_in() {
    let front = front(8).await;
    open(&front, &ada("pump")).await.disconnect().await;
    let guess = Connect::new("thief").login("ada", "guess");
    for _ in 0..6 {
        assert_eq!(front.refusal(&guess).await, 4);
    }
    let guesses: Vec<_> = (0..20)
        .map(|_| {
            let (address, guess) = (front.address, guess.clone());
            tokio::spawn(async move { refusal(address, &guess).await })
        })
        .collect();
    // Now there is a line; it doesn't stop who needs no check.
    open(&front, &ada("pump")).await.disconnect().await;
    let mut answers = Vec::new();
    for guess in guesses {
        answers.push(guess.await.unwrap());
    }
    let away = answers.iter().filter(|answer| **answer == 3).count();
    assert!(away >= 8, "most were sent away without a check: {answers:?}");
    assert!(answers.iter().all(|answer| matches!(answer, 3 | 4)), "{answers:?}");
    let reasons = front.forbidden(26).await;
    assert!(reasons.iter().any(|reason| reason.contains("too many wrong passwords from its address")));
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_takes_a_user_out_cuts_its_connections_and_what_waited_is_nobodys() {
    let front = front(9).await;
    let mut admin = admin(&front).await;
    let mut live = open(&front, &Connect { v5: true, ..eve("live") }.expiry(600)).await;
    live.subscribe("plant/eve/#", 1).await;
    let mut away = open(&front, &eve("away").keep()).await;
    away.subscribe("plant/eve/#", 1).await;
    away.disconnect().await;
    let mut other = open(&front, &ada("other")).await;
    say(&mut admin, "plant/eve/waits", false).await;
    assert_eq!(live.next().await.publish_of(true).0, "plant/eve/waits");

    reload(&front, users()[..2].to_vec()).await;
    let came = live.until_closed().await;
    assert_eq!(came, [Packet(0xe0, vec![NOT_AUTHORIZED, 0])], "it is told why");
    assert!(other.try_ping().await, "others are not disturbed");
    assert!(front.forbidden(1).await[0].contains("its user was taken out"));
    say(&mut admin, "plant/eve/meanwhile", false).await;
    assert_eq!(front.refusal(&eve("away").keep()).await, 4);

    // Back again, nothing of before is there, nor of meanwhile.
    reload(&front, users()).await;
    let (mut back, present) = Client::open(front.address, &eve("away").keep()).await;
    assert!(!present);
    back.nothing().await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_narrows_rights_holds_for_open_connections_and_for_what_waits() {
    let front = front(10).await;
    let mut admin = admin(&front).await;
    let mut live = open(&front, &eve("live")).await;
    live.subscribe("plant/eve/#", 0).await;
    let mut away = open(&front, &eve("away").keep()).await;
    away.subscribe("plant/eve/#", 1).await;
    away.disconnect().await;
    for topic in ["plant/eve/secret/1", "plant/eve/open/1"] {
        say(&mut admin, topic, false).await;
    }
    assert_eq!(topics(&live.all().await, false), ["plant/eve/open/1", "plant/eve/secret/1"]);
    let mut less = users();
    less[2].read = vec!["plant/eve/open/#".into()];
    less[2].write.clear();
    reload(&front, less).await;
    for topic in ["plant/eve/secret/2", "plant/eve/open/2"] {
        say(&mut admin, topic, false).await;
    }
    assert_eq!(topics(&live.all().await, false), ["plant/eve/open/2"]);
    assert_eq!(live.subscribe("plant/eve/secret/#", 0).await, 0x80);
    live.publish("plant/eve/mine", "1", 1, 3).await;
    assert_eq!(live.next().await, ack(PUBACK, 3));
    let reasons = front.forbidden(2).await;
    assert!(reasons[1].contains("may not publish"), "{reasons:?}");
    // Wider again: what was taken away doesn't come back.
    reload(&front, users()).await;
    let mut away = open(&front, &eve("away").keep()).await;
    assert_eq!(topics(&away.all().await, false), ["plant/eve/open/1", "plant/eve/open/2"]);
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_password_or_a_revocation_cuts_who_came_in_before() {
    let front = front(11).await;
    let mut live = open(&front, &eve("live")).await;
    let mut other = open(&front, &ada("other")).await;
    let mut changed = users();
    changed[2].password_hash = inputs::mqtt::hash_password("new").unwrap();
    reload(&front, changed.clone()).await;
    assert!(live.until_closed().await.is_empty());
    assert_eq!(front.refusal(&eve("live")).await, 4);
    open(&front, &Connect::new("live").login("eve", "new")).await;
    front.reload(|config| config.revoked = vec!["ad*".into()]).await;
    assert!(other.until_closed().await.is_empty());
    assert_eq!(front.refusal(&ada("other")).await, 5);
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_may_not_be_read_take_no_place_in_a_queue() {
    let config = MqttConfig { users: users(), max_queued_messages: 2, ..MqttConfig::default() };
    let front = Front::start(&SimDisk::new(12), config).await;
    let mut away = open(&front, &eve("away").keep()).await;
    away.subscribe("#", 1).await;
    away.disconnect().await;
    let mut admin = admin(&front).await;
    say(&mut admin, "plant/eve/kept", false).await;
    for _ in 0..5 {
        say(&mut admin, "secret/x", false).await;
    }
    let mut back = open(&front, &eve("away").keep()).await;
    assert_eq!(topics(&back.all().await, false), ["plant/eve/kept"]);
    front.stop().await;
}
