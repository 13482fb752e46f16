use std::path::Path;

use super::*;
use crate::span::Span;
use crate::testing::{Bench, NOW};

fn put(root: &Path, file: &str, content: &str) {
    let path = root.join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn recorded(root: &Path) -> HostConfig {
    put(root, "proc/sys/kernel/hostname", "edge-1\n");
    put(
        root,
        "proc/stat",
        "cpu 100 0 100 800 0 0 0 0 0 0\ncpu0 1 1 1 1\ncpu1 1 1 1 1\nctxt 5\nprocesses 9\nprocs_running 2\n",
    );
    put(root, "proc/loadavg", "0.50 1.00 1.50 2/100 7\n");
    put(root, "proc/uptime", "12.5 20.0\n");
    put(
        root,
        "proc/meminfo",
        "MemTotal: 1000 kB\nMemFree: 500 kB\nMemAvailable: 700 kB\nBuffers: 50 kB\nCached: 150 kB\nSwapTotal: 100 kB\nSwapFree: 75 kB\n",
    );
    put(
        root,
        "proc/diskstats",
        "8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n8 1 sda1 1 2 3 4 5 6 7 8 9 10 11\n7 0 loop0 1 2 3 4 5 6 7 8 9 10 11\n",
    );
    put(
        root,
        "proc/net/dev",
        "  lo: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\nveth1: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n",
    );
    put(root, "proc/pressure/io", "some avg10=5.00 avg60=0 avg300=0 total=3000000\n");
    put(root, "proc/1/comm", "init\n");
    std::fs::create_dir_all(root.join("sys/block/sda")).unwrap();
    put(root, "sys/class/thermal/thermal_zone0/type", "cpu\n");
    put(root, "sys/class/thermal/thermal_zone0/temp", "42000\n");
    HostConfig {
        procfs_root: root.join("proc"),
        sysfs_root: root.join("sys"),
        site: "lab".into(),
        ..HostConfig::default()
    }
}

#[test]
fn a_recorded_host_gives_its_metrics_under_their_conventional_names() {
    let dir = tempfile::tempdir().unwrap();
    let mut sampler = Sampler::new(recorded(dir.path()));
    assert_eq!(sampler.device(), "edge-1");
    let mut bench = Bench::new();
    bench.fill(|out| sampler.sample(NOW, out));
    put(dir.path(), "proc/stat", "cpu 150 0 100 850 0 0 0 0 0 0\ncpu0 1 1 1 1\ncpu1 1 1 1 1\n");
    let (intake, trouble) = bench.fill(|out| sampler.sample(NOW + 1, out));
    assert_eq!(trouble, None);
    let samples = bench.samples(&intake);
    for expected in [
        r#"system.cpu.utilization{device="edge-1",mode="user",site="lab"} = 0.5 1"#,
        r#"system.cpu.utilization{device="edge-1",mode="idle",site="lab"} = 0.5 1"#,
        r#"system.cpu.time{device="edge-1",mode="user",site="lab"} = 1.5 s"#,
        r#"system.cpu.logical.count{device="edge-1",site="lab"} = 2 {cpu}"#,
        r#"system.cpu.load_average.5m{device="edge-1",site="lab"} = 1 {thread}"#,
        r#"system.memory.utilization{device="edge-1",site="lab",state="used"} = 0.3 1"#,
        r#"system.memory.usage{device="edge-1",site="lab",state="cached"} = 153600 By"#,
        r#"system.paging.utilization{device="edge-1",site="lab",state="used"} = 0.25 1"#,
        r#"system.disk.io{device="edge-1",direction="write",disk="sda",site="lab"} = 3584 By"#,
        r#"system.disk.io_time{device="edge-1",disk="sda",site="lab"} = 0.01 s"#,
        r#"system.network.errors{device="edge-1",direction="transmit",interface="lo",site="lab"} = 7 {error}"#,
        r#"system.processes.count{device="edge-1",site="lab"} = 1 {process}"#,
        r#"system.uptime{device="edge-1",site="lab"} = 12.5 s"#,
        r#"hw.temperature{device="edge-1",sensor="thermal_zone0/cpu",site="lab"} = 42 Cel"#,
        r#"system.linux.pressure.stalled{device="edge-1",kind="some",resource="io",site="lab"} = 0.05 1"#,
    ] {
        let stamped = format!("{expected} @{}", NOW + 1);
        assert!(samples.contains(&stamped), "{expected} in {samples:#?}");
    }
    for absent in ["sda1", "loop0", "veth1", "filesystem"] {
        assert!(!samples.iter().any(|sample| sample.contains(absent)), "{absent}");
    }
}

#[test]
fn a_hosts_proc_that_is_mounted_in_a_container_gives_the_hosts_interfaces() {
    let dir = tempfile::tempdir().unwrap();
    let config = HostConfig { groups: vec!["network".into()], ..recorded(dir.path()) };
    put(dir.path(), "proc/1/net/dev", "eth0: 9 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n");
    let mut bench = Bench::new();
    let (intake, _) = bench.fill(|out| Sampler::new(config).sample(NOW, out));
    let samples = bench.samples(&intake);
    assert_eq!(samples.len(), 8, "{samples:#?}");
    assert!(samples.iter().all(|sample| sample.contains(r#"interface="eth0""#)), "{samples:#?}");
}

#[test]
fn only_the_wanted_groups_are_read_and_instances_are_capped() {
    let dir = tempfile::tempdir().unwrap();
    let config = HostConfig { groups: vec!["network".into()], ..recorded(dir.path()) };
    let interfaces: String = (0..500).map(|n| format!("eth{n}: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n")).collect();
    put(dir.path(), "proc/net/dev", &interfaces);
    let mut bench = Bench::new();
    let (intake, _) = bench.fill(|out| Sampler::new(config).sample(NOW, out));
    assert_eq!(intake.len(), 64 * 8);
}

#[test]
fn files_that_are_missing_or_nonsense_leave_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let config = recorded(dir.path());
    for file in ["stat", "meminfo", "diskstats", "net/dev"] {
        std::fs::write(dir.path().join("proc").join(file), b"\xff\xfe nonsense 1 2\n").unwrap();
    }
    std::fs::remove_file(dir.path().join("proc/uptime")).unwrap();
    let mut bench = Bench::new();
    let (intake, _) = bench.fill(|out| Sampler::new(config).sample(NOW, out));
    let samples = bench.samples(&intake);
    assert!(samples.iter().any(|sample| sample.starts_with("system.cpu.load_average.1m")));
    assert!(!samples.iter().any(|sample| sample.starts_with("system.uptime")));
}

#[test]
fn this_host_gives_at_least_sixty_samples_a_tick() {
    let mut bench = Bench::new();
    let mut sampler = Sampler::new(HostConfig::default());
    bench.fill(|out| sampler.sample(NOW, out));
    let (intake, trouble) = bench.fill(|out| sampler.sample(NOW, out));
    // Before some time has passed there is no utilization: 8 fewer at most.
    assert!(intake.len() >= 60, "{}: {:#?}", intake.len(), bench.samples(&intake));
    assert_eq!(trouble, None);
}

#[test]
fn every_metric_is_on_the_how_to_page() {
    let page = include_str!("../../../../../docs/how-to/host-metrics.md");
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new();
    for config in [recorded(dir.path()), HostConfig::default()] {
        let mut sampler = Sampler::new(config);
        bench.fill(|out| sampler.sample(NOW, out));
        let (intake, _) = bench.fill(|out| sampler.sample(NOW, out));
        for series in intake.series {
            let name = bench.table.get(series).unwrap().key.name().to_owned();
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
    }
}

#[tokio::test]
async fn ticks_fall_on_multiples_of_the_interval_and_reach_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let config = HostConfig { interval: Span(Duration::from_millis(100)), ..recorded(dir.path()) };
    let mut bench = Bench::new();
    bench.door.clock = std::sync::Arc::new(crate::SystemClock);
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(config, bench.door.clone(), stop.clone()));
    let mut durable = bench.door.journal.durable();
    tokio::time::timeout(Duration::from_secs(20), durable.wait_for(|mark| *mark >= 3))
        .await
        .unwrap()
        .unwrap();
    stop.cancel();
    running.await.unwrap().unwrap();
    let mut reader = bench.door.journal.reader(0);
    let mut times = Vec::new();
    while let Some((_, record)) = reader.next(Duration::ZERO).unwrap() {
        let telemetry::Record::Intake(intake) = record else { continue };
        times.push(intake.times[0]);
        assert!(intake.times.iter().all(|time| *time == intake.times[0] && time % 100_000_000 == 0));
    }
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
}

#[tokio::test]
async fn a_wrong_setting_is_named() {
    let bench = Bench::new();
    let refuse = async |config: HostConfig| {
        run(config, bench.door.clone(), CancellationToken::new()).await.unwrap_err().to_string()
    };
    let groups = HostConfig { groups: vec!["gpu".into()], ..HostConfig::default() };
    assert!(refuse(groups).await.contains("groups is \"gpu\""));
    let interval = HostConfig { interval: Span(Duration::from_millis(5)), ..HostConfig::default() };
    assert!(refuse(interval).await.contains("interval is 5ms"));
    let nowhere = HostConfig { procfs_root: "/nowhere".into(), ..HostConfig::default() };
    assert!(refuse(nowhere).await.contains("/nowhere"));
}
