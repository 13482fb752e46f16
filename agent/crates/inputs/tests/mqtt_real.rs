//! Other people's programs: mosquitto_pub and mosquitto_sub against our port, and our client input
//! against mosquitto. Skipped, with a line saying so, where mosquitto isn't installed.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod mqtt_support;

use std::process::Stdio;
use std::time::Duration;

use inputs::mqtt::MqttConfig;
use mqtt_support::programs::{Broker, Input, mosquitto_pub, there};
use mqtt_support::*;
use seglog::sim::SimDisk;
use telemetry::Cause;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_pub_and_sub_work_in_both_versions_and_all_qualities() {
    if !there("mosquitto_pub") {
        return;
    }
    let front = Front::start(&SimDisk::new(1), MqttConfig::default()).await;
    let port = front.address.port();
    for version in ["mqttv311", "mqttv5"] {
        for qos in ["0", "1", "2"] {
            // Into a pipe it would keep its "Subscribed" to itself.
            let sub = Command::new("stdbuf")
                .args([
                    "-oL",
                    "mosquitto_sub",
                    "-h",
                    "127.0.0.1",
                    "-p",
                    &port.to_string(),
                    "-V",
                    version,
                    "-q",
                    qos,
                    "-t",
                    "plant1/#",
                    "-C",
                    "2",
                    "-v",
                    "-d",
                ])
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn();
            let mut sub = sub.unwrap();
            let mut lines = BufReader::new(sub.stdout.take().unwrap()).lines();
            while let Some(line) = within(lines.next_line()).await.unwrap() {
                if line.contains("Subscribed") {
                    break;
                }
            }
            let arguments = ["-V", version, "-q", qos, "-t", "plant1/pump7/temperature", "-m", "21.5"];
            for _ in 0..2 {
                let done = mosquitto_pub(port, &arguments).await;
                assert!(done.status.success(), "{done:?}");
            }
            let mut got = 0;
            while let Some(line) = within(lines.next_line()).await.unwrap() {
                got += usize::from(line == "plant1/pump7/temperature 21.5");
            }
            assert_eq!(got, 2, "{version} QoS {qos}");
        }
    }
    // QoS 0 is journalled too, without an ack to wait for; the subscribers got it after.
    assert_eq!(front.values(), [21.5; 12]);
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_input_loses_nothing_and_stores_nothing_twice_over_restarts_of_either_side() {
    if !there("mosquitto") {
        return;
    }
    let mut broker = Broker::start().await;
    let disk = SimDisk::new(2);
    let input = Input::start(&disk, broker.port);
    // A subscription is there once a first message has come through.
    within(async {
        while input.door.stats.count(Cause::Received) == 0 {
            mosquitto_pub(broker.port, &["-q", "1", "-t", "site/pump/t", "-m", "0"]).await;
        }
    })
    .await;
    let zeros = input.door.stats.count(Cause::Received);
    for value in 1..=3 {
        mosquitto_pub(broker.port, &["-q", "1", "-t", "site/pump/t", "-m", &value.to_string()]).await;
    }
    input.received(zeros + 3).await;
    broker.restart().await;
    mosquitto_pub(broker.port, &["-q", "1", "-t", "site/pump/t", "-m", "4"]).await;
    input.received(zeros + 4).await;
    input.stop().await;
    // While the agent is away the broker keeps its session.
    mosquitto_pub(broker.port, &["-q", "1", "-t", "site/pump/t", "-m", "5"]).await;
    let input = Input::start(&disk, broker.port);
    input.received(1).await;
    let values: Vec<f64> = input.values().into_iter().filter(|value| *value > 0.0).collect();
    assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0]);
    input.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_input_acknowledges_to_the_broker_only_after_the_fsync() {
    if !there("mosquitto") {
        return;
    }
    let broker = Broker::start().await;
    let disk = SimDisk::new(3);
    let input = Input::start(&disk, broker.port);
    within(async {
        while input.door.stats.count(Cause::Received) == 0 {
            mosquitto_pub(broker.port, &["-q", "1", "-t", "site/pump/t", "-m", "1"]).await;
        }
    })
    .await;
    let before = input.door.stats.count(Cause::Received);
    disk.hold_syncs();
    mosquitto_pub(broker.port, &["-q", "1", "-t", "site/pump/t", "-m", "2"]).await;
    input.received(before + 1).await;
    // The power goes before the fsync: the broker still has it, because it was not acknowledged.
    disk.crash_after(0);
    disk.release_syncs();
    input.stop.cancel();
    let _ = within(input.task).await.unwrap();
    let journal = input.door.journal.clone();
    tokio::task::spawn_blocking(move || journal.close()).await.unwrap();
    disk.crash();
    let input = Input::start(&disk, broker.port);
    input.received(1).await;
    within(async {
        while !input.values().contains(&2.0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(input.values().iter().filter(|value| **value == 2.0).count(), 1);
    input.stop().await;
}
