//! What a recorded kernel gives: names, labels, units and values that others rely on.

use std::fs;
use std::path::Path;

use super::*;
use crate::testing::Bench;

fn record(root: &Path, stat: &str) {
    fs::create_dir_all(root.join("net")).unwrap();
    fs::create_dir_all(root.join("pressure")).unwrap();
    fs::create_dir_all(root.join("sys/kernel")).unwrap();
    fs::write(root.join("sys/kernel/hostname"), "gateway-3\n").unwrap();
    fs::write(root.join("stat"), stat).unwrap();
    fs::write(root.join("loadavg"), "0.50 0.25 0.10 1/123 4567\n").unwrap();
    fs::write(root.join("uptime"), "3600.5 7000.1\n").unwrap();
    fs::write(
        root.join("meminfo"),
        "MemTotal: 1000 kB\nMemFree: 400 kB\nBuffers: 100 kB\nCached: 200 kB\nSReclaimable: 50 kB\n",
    )
    .unwrap();
    fs::write(
        root.join("diskstats"),
        "   8  0 sda 10 0 20 30 40 0 50 60 0 70 90\n   8  1 sda1 10 0 20 30 40 0 50 60 0 70 90\n",
    )
    .unwrap();
    fs::write(
        root.join("net/dev"),
        "Inter-|\n face |bytes\n  eth0: 1000 10 0 0 0 0 0 0 2000 20 1 2 0 0 0 0\n",
    )
    .unwrap();
    fs::write(
        root.join("pressure/io"),
        "some avg10=12.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
    )
    .unwrap();
}

fn rounds(root: &Path) -> Rounds {
    let config = HostConfig { procfs_root: root.into(), sysfs_root: root.into(), ..HostConfig::default() };
    Rounds::new(config).unwrap()
}

fn round(bench: &Bench, rounds: &mut Rounds) -> Vec<String> {
    bench.samples(&rounds.read(&bench.door))
}

#[test]
fn a_recorded_kernel_gives_opentelemetry_names_units_and_shares() {
    let folder = tempfile::tempdir().unwrap();
    record(
        folder.path(),
        "cpu  100 0 50 800 50 0 0 0\ncpu0 100 0 50 800 50 0 0 0\ncpu1 0 0 0 0 0 0 0 0\nctxt 77\n",
    );
    let mut rounds = rounds(folder.path());
    record(
        folder.path(),
        "cpu  160 0 70 900 70 0 0 0\ncpu0 160 0 70 900 70 0 0 0\ncpu1 0 0 0 0 0 0 0 0\nctxt 88\n",
    );
    let samples = round(&Bench::new(), &mut rounds);
    for expected in [
        r#"system.cpu.utilization{device="gateway-3",mode="user"} = 0.3 1 @now"#,
        r#"system.cpu.utilization{device="gateway-3",mode="idle"} = 0.5 1 @now"#,
        r#"system.cpu.logical.count{device="gateway-3"} = 2 {cpu} @now"#,
        r#"system.cpu.context_switches{device="gateway-3"} = 88 {switch} @now"#,
        r#"system.cpu.load_average.1m{device="gateway-3"} = 0.5 {thread} @now"#,
        r#"system.memory.usage{device="gateway-3",state="used"} = 256000 By @now"#,
        r#"system.memory.utilization{device="gateway-3",state="used"} = 0.25 1 @now"#,
        r#"system.disk.io{device="gateway-3",direction="write",disk="sda"} = 25600 By @now"#,
        r#"system.network.io{device="gateway-3",direction="transmit",interface="eth0"} = 2000 By @now"#,
        r#"system.network.dropped{device="gateway-3",direction="transmit",interface="eth0"} = 2 {packet} @now"#,
        r#"system.linux.pressure{device="gateway-3",resource="io",scope="some"} = 0.125 1 @now"#,
        r#"system.uptime{device="gateway-3"} = 3600.5 s @now"#,
    ] {
        assert!(samples.iter().any(|sample| sample == expected), "{expected} is not in {samples:#?}");
    }
    assert!(
        !samples.iter().any(|sample| sample.contains("sda1")),
        "a partition counts its disk's bytes again"
    );
}

#[test]
fn a_counter_that_went_back_makes_no_negative_share() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), "cpu  100 0 50 800 900 0 0 0\n");
    let mut rounds = rounds(folder.path());
    record(folder.path(), "cpu  200 0 50 800 10 0 0 0\n");
    let samples = round(&Bench::new(), &mut rounds);
    assert!(samples.iter().any(|sample| sample.contains(r#"mode="iowait"} = 0 1"#)), "{samples:#?}");
}

#[test]
fn what_this_kernel_does_not_offer_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("stat"), "cpu  1 1 1 1\n").unwrap();
    let samples = round(&Bench::new(), &mut rounds(folder.path()));
    assert!(samples.iter().all(|sample| sample.starts_with("system.cpu.")), "{samples:#?}");
}

#[test]
fn temperatures_are_read_in_degrees_celsius() {
    let folder = tempfile::tempdir().unwrap();
    let chip = folder.path().join("class/hwmon/hwmon0");
    fs::create_dir_all(&chip).unwrap();
    fs::write(folder.path().join("stat"), "cpu  1 1 1 1\n").unwrap();
    fs::write(chip.join("name"), "coretemp\n").unwrap();
    fs::write(chip.join("temp1_input"), "48500\n").unwrap();
    fs::write(chip.join("temp1_label"), "Package id 0\n").unwrap();
    let samples = round(&Bench::new(), &mut rounds(folder.path()));
    assert!(
        samples.iter().any(|sample| sample.contains(r#"sensor="coretemp/Package id 0"} = 48.5 Cel"#)),
        "{samples:#?}"
    );
}

#[test]
fn rounds_begin_at_whole_multiples_of_the_interval() {
    assert_eq!(until_next(23_000_000_000, Duration::from_secs(10)), Duration::from_secs(7));
    assert_eq!(until_next(20_000_000_000, Duration::from_secs(10)), Duration::from_secs(10));
    assert!(HostConfig { interval: crate::span::Span::secs(0), ..HostConfig::default() }.check().is_err());
}

#[test]
fn groups_and_ignored_names_leave_out_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), "cpu  1 1 1 1\nprocesses 5\n");
    let config = HostConfig {
        procfs_root: folder.path().into(),
        sysfs_root: folder.path().into(),
        site: "plant1".into(),
        groups: vec!["network".into(), "disk".into()],
        ignore_disks: vec!["sd".into()],
        ..HostConfig::default()
    };
    let samples = round(&Bench::new(), &mut Rounds::new(config).unwrap());
    assert!(
        samples.iter().all(|sample| sample.contains("system.network.") || sample.contains("system.uptime")),
        "{samples:#?}"
    );
    assert!(samples.iter().all(|sample| sample.contains(r#"site="plant1""#)), "{samples:#?}");
}

#[test]
fn a_place_without_a_kernel_is_refused_with_the_key() {
    let config = HostConfig { procfs_root: "/nowhere".into(), ..HostConfig::default() };
    assert!(Rounds::new(config).err().unwrap().to_string().contains("procfs_root"));
}
