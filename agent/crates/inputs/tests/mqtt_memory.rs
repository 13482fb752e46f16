//! Crafted CONNECTs by the thousand: what they took, memory and descriptors, comes back. Alone in its file, and so in
//! its process: both are the whole process's.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod mqtt_support;

use std::path::Path;
use std::sync::Arc;

use inputs::mqtt::MqttConfig;
use mqtt_support::*;

/// Of each kind in a round.
const EACH: usize = 50;
/// More than the allocator and the journal's index of 2,000 wills move by themselves, less than 250 bytes kept of each
/// connection.
const SLACK: u64 = 1 << 20;

/// What is sent, and whether it is let in.
fn crafted(at: usize) -> Vec<(Vec<u8>, bool)> {
    let u32 = |property: u8, value: u32| [&[property][..], &value.to_be_bytes()].concat();
    let user = |n: usize| [&[38][..], &text("name"), &text("value")].concat().repeat(n);
    let id = format!("id{at}");
    let plain = |properties: Vec<u8>| Connect { properties, ..Connect::v5(&id) };
    let will = |topic: &str, properties: Vec<u8>| Connect {
        will_properties: properties,
        ..Connect::v5(&id).will(topic, "1", 1, true)
    };
    let lasting = |connect: Connect| Connect { clean: at.is_multiple_of(2), ..connect.expiry(u32::MAX) };
    let good = [
        plain(user(8)),
        plain([u32(17, 0), vec![33, 0xff, 0xff], u32(39, u32::MAX), vec![34, 0xff, 0xff]].concat()),
        plain([vec![33, 0, 1], u32(39, 30)].concat()),
        Connect::v5("").will("will/a/b", "1", 2, true),
        lasting(plain(vec![])),
        // Waits for ever, is due at once, and would be said for the shortest and the longest time.
        lasting(will("will/a/b", u32(24, u32::MAX))),
        will("will/a/b", [u32(24, 0), u32(2, 0)].concat()),
        will("will/a/b", [u32(24, u32::MAX), u32(2, u32::MAX), user(5)].concat()),
    ];
    let bad = [
        // Twice what may be there once; none that is; what belongs to other packets; a zero that is none.
        plain([u32(17, 1), u32(17, 1)].concat()),
        plain([vec![33, 0, 1], vec![33, 0, 1]].concat()),
        plain(vec![99, 1, 2]),
        plain(u32(24, 5)),
        plain(vec![33, 0, 0]),
        plain(u32(39, 0)),
        plain([&[22][..], &text("data without a method")].concat()),
        plain([&[21][..], &text("SCRAM")].concat()),
        will("will/a/b", [u32(24, 1), u32(24, 1)].concat()),
        will("will/+/b", vec![]),
        will("$SYS/will", u32(24, 0)),
        will("will/a/b", user(7)[..71].to_vec()),
    ];
    let mut all: Vec<_> = good.iter().map(|connect| (connect.bytes(), true)).collect();
    all.extend(bad.iter().map(|connect| (connect.bytes(), false)));
    // A property length beyond the packet.
    let mut bytes = plain(vec![0; 5]).bytes();
    bytes[12] = 0x7f;
    all.push((bytes, false));
    all
}

async fn round(front: &Front) {
    for at in 0..EACH {
        for (n, (bytes, good)) in crafted(at).into_iter().enumerate() {
            let mut client = front.raw().await;
            client.send(&bytes).await;
            if good {
                let answer = client.next().await;
                assert!(answer.0 == 0x20 && answer.1[1] == 0, "{n}: {answer:?}");
            } else {
                let answer = client.until_closed().await;
                assert!(
                    answer.iter().all(|packet| packet.0 == 0x20 && packet.1[1] >= 0x80),
                    "{n}: {answer:?}"
                );
            }
        }
    }
    let deadline = tokio::time::Instant::now() + WAIT;
    while front.door.stats.snapshot(front.door.now()).connections > 0 {
        assert!(tokio::time::Instant::now() < deadline, "connections are left");
        tokio::task::yield_now().await;
    }
}

/// Bytes that are in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_crafted_connects_leave_no_memory_and_no_descriptor_behind() {
    let dir = tempfile::tempdir().unwrap();
    let front = Front::on(Arc::new(seglog::Disk), Path::new(dir.path()), MqttConfig::default()).await;
    for _ in 0..2 {
        round(&front).await;
    }
    let (memory, open) = (resident(), descriptors());
    for _ in 0..4 {
        round(&front).await;
    }
    let grown = resident().saturating_sub(memory);
    assert!(grown < SLACK, "{grown} bytes more after {} connections", 4 * EACH * crafted(0).len());
    let deadline = tokio::time::Instant::now() + WAIT;
    while descriptors() > open {
        assert!(tokio::time::Instant::now() < deadline, "{} descriptors, {open} before", descriptors());
        tokio::task::yield_now().await;
    }
    front.stop().await;
}
