//! The kernel's text files, as far as they are read. Pure functions: what isn't there or can't be
//! read is left out, never guessed.

/// Ticks a second of the times in /proc/stat: 100 on every Linux (USER_HZ is part of its ABI).
const TICKS: f64 = 100.0;
/// Bytes of a sector in /proc/diskstats, whatever the disk's own are.
const SECTOR: u64 = 512;

/// The modes of a CPU, in the order of /proc/stat.
pub(super) const MODES: [&str; 8] =
    ["user", "nice", "system", "idle", "iowait", "interrupt", "softirq", "steal"];

/// /proc/stat.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stat {
    /// Ticks of all CPUs together, by mode.
    pub(super) ticks: Option<[u64; 8]>,
    pub(super) cpus: u64,
    pub(super) context_switches: Option<u64>,
    pub(super) interrupts: Option<u64>,
    pub(super) forks: Option<u64>,
    pub(super) running: Option<u64>,
    pub(super) blocked: Option<u64>,
}

pub(super) fn seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS
}

pub(super) fn stat(text: &str) -> Stat {
    let mut stat = Stat::default();
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(' ') else { continue };
        let first = || rest.split_ascii_whitespace().next()?.parse().ok();
        match name {
            "cpu" => {
                let mut ticks = [0; 8];
                let mut fields = rest.split_ascii_whitespace();
                // Kernels before 2.6.11 have fewer modes: those are 0.
                let read = ticks.iter_mut().try_fold(0, |n, slot| match fields.next() {
                    None => Some(n),
                    Some(field) => {
                        *slot = field.parse().ok()?;
                        Some(n + 1)
                    }
                });
                stat.ticks = read.is_some_and(|n| n >= 4).then_some(ticks);
            }
            "ctxt" => stat.context_switches = first(),
            "intr" => stat.interrupts = first(),
            "processes" => stat.forks = first(),
            "procs_running" => stat.running = first(),
            "procs_blocked" => stat.blocked = first(),
            name if name.starts_with("cpu") => stat.cpus += 1,
            _ => {}
        }
    }
    stat
}

/// /proc/loadavg: the three averages, and how many threads there are.
pub(super) fn loadavg(text: &str) -> Option<([f64; 3], u64)> {
    let mut fields = text.split_ascii_whitespace();
    let mut average = || fields.next()?.parse::<f64>().ok().filter(|load| load.is_finite());
    let averages = [average()?, average()?, average()?];
    let (_, threads) = fields.next()?.split_once('/')?;
    Some((averages, threads.parse().ok()?))
}

/// /proc/uptime in seconds.
pub(super) fn uptime(text: &str) -> Option<f64> {
    text.split_ascii_whitespace().next()?.parse().ok().filter(|seconds: &f64| seconds.is_finite())
}

/// /proc/meminfo in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) total: u64,
    pub(super) free: u64,
    pub(super) available: Option<u64>,
    pub(super) buffers: u64,
    pub(super) cached: u64,
    pub(super) slab_reclaimable: u64,
    pub(super) slab_unreclaimable: u64,
    pub(super) shared: u64,
    pub(super) swap_total: u64,
    pub(super) swap_free: u64,
}

pub(super) fn meminfo(text: &str) -> Option<Memory> {
    let mut memory = Memory::default();
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let Some(value) = rest.split_ascii_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()) else {
            continue;
        };
        let bytes = value.saturating_mul(1024);
        match name {
            "MemTotal" => memory.total = bytes,
            "MemFree" => memory.free = bytes,
            "MemAvailable" => memory.available = Some(bytes),
            "Buffers" => memory.buffers = bytes,
            "Cached" => memory.cached = bytes,
            "SReclaimable" => memory.slab_reclaimable = bytes,
            "SUnreclaim" => memory.slab_unreclaimable = bytes,
            "Shmem" => memory.shared = bytes,
            "SwapTotal" => memory.swap_total = bytes,
            "SwapFree" => memory.swap_free = bytes,
            _ => {}
        }
    }
    (memory.total > 0).then_some(memory)
}

/// What of /proc/vmstat is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Paging {
    pub(super) swapped_in: Option<u64>,
    pub(super) swapped_out: Option<u64>,
    pub(super) faults: Option<u64>,
    pub(super) major_faults: Option<u64>,
}

pub(super) fn vmstat(text: &str) -> Paging {
    let mut paging = Paging::default();
    for line in text.lines() {
        let Some((name, value)) = line.split_once(' ') else { continue };
        let slot = match name {
            "pswpin" => &mut paging.swapped_in,
            "pswpout" => &mut paging.swapped_out,
            "pgfault" => &mut paging.faults,
            "pgmajfault" => &mut paging.major_faults,
            _ => continue,
        };
        *slot = value.trim().parse().ok();
    }
    paging
}

/// One line of /proc/diskstats.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Disk {
    pub(super) name: String,
    pub(super) reads: u64,
    pub(super) reads_merged: u64,
    pub(super) read_bytes: u64,
    pub(super) read_seconds: f64,
    pub(super) writes: u64,
    pub(super) writes_merged: u64,
    pub(super) written_bytes: u64,
    pub(super) write_seconds: f64,
    pub(super) in_flight: u64,
    pub(super) busy_seconds: f64,
}

pub(super) fn diskstats(text: &str) -> impl Iterator<Item = Disk> + '_ {
    text.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(2);
        let name = fields.next()?.to_owned();
        let mut next = || fields.next()?.parse::<u64>().ok();
        let ms = |ms: u64| ms as f64 / 1000.0;
        Some(Disk {
            name,
            reads: next()?,
            reads_merged: next()?,
            read_bytes: next()?.saturating_mul(SECTOR),
            read_seconds: ms(next()?),
            writes: next()?,
            writes_merged: next()?,
            written_bytes: next()?.saturating_mul(SECTOR),
            write_seconds: ms(next()?),
            in_flight: next()?,
            busy_seconds: ms(next()?),
        })
    })
}

/// One line of /proc/net/dev: (bytes, packets, errors, dropped), received then sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) received: [u64; 4],
    pub(super) sent: [u64; 4],
}

pub(super) fn netdev(text: &str) -> impl Iterator<Item = Interface> + '_ {
    text.lines().filter_map(|line| {
        // The last colon: an alias such as eth0:1 has one in its name.
        let (name, rest) = line.rsplit_once(':')?;
        let fields: Vec<u64> = rest.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
        let four = |from: usize| fields.get(from..from + 4)?.try_into().ok();
        Some(Interface { name: name.trim().to_owned(), received: four(0)?, sent: four(8)? })
    })
}

/// /proc/pressure/*: (some or full, share of the last 10 s from 0 to 1, total in seconds).
pub(super) fn pressure(text: &str) -> impl Iterator<Item = (&str, f64, f64)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let kind = fields.next().filter(|kind| matches!(*kind, "some" | "full"))?;
        let (mut share, mut total) = (None, None);
        for field in fields {
            match field.split_once('=') {
                Some(("avg10", value)) => share = value.parse::<f64>().ok().filter(|value| value.is_finite()),
                Some(("total", value)) => total = value.parse::<u64>().ok(),
                _ => {}
            }
        }
        Some((kind, share? / 100.0, total? as f64 / 1e6))
    })
}

/// One line of /proc/self/mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) source: String,
    pub(super) point: String,
    pub(super) kind: String,
    pub(super) read_only: bool,
}

pub(super) fn mounts(text: &str) -> impl Iterator<Item = Mount> + '_ {
    text.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (source, point, kind, options) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        Some(Mount {
            source: unescape(source),
            point: unescape(point),
            kind: kind.to_owned(),
            read_only: options.split(',').any(|option| option == "ro"),
        })
    })
}

/// Spaces and the like are octal there: `\040`.
fn unescape(text: &str) -> String {
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let octal = bytes
            .get(at + 1..at + 4)
            .filter(|digits| *byte == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit)))
            .map(|digits| digits.iter().fold(0_u32, |sum, digit| sum * 8 + u32::from(digit - b'0')));
        match octal.and_then(|code| u8::try_from(code).ok()) {
            Some(code) => {
                out.push(code);
                at += 4;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Any text as each of the files: what is read are numbers that can be measured with.
#[cfg(feature = "fuzz")]
pub(crate) fn fuzz(text: &str) {
    let stat = stat(text);
    assert!(stat.ticks.is_none_or(|ticks| ticks.iter().all(|ticks| seconds(*ticks).is_finite())));
    assert!(loadavg(text).is_none_or(|(loads, _)| loads.iter().all(|load| load.is_finite())));
    assert!(uptime(text).is_none_or(f64::is_finite));
    assert!(meminfo(text).is_none_or(|memory| memory.total > 0));
    let _ = vmstat(text);
    for disk in diskstats(text) {
        assert!(!disk.name.is_empty());
        assert!(
            [disk.read_seconds, disk.write_seconds, disk.busy_seconds].iter().all(|time| time.is_finite())
        );
    }
    assert!(netdev(text).count() <= text.lines().count());
    assert!(pressure(text).all(|(_, share, total)| share.is_finite() && total.is_finite()));
    for mount in mounts(text) {
        assert!(mount.point.len() <= 3 * text.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stat_is_read_and_older_kernels_have_fewer_modes() {
        let stat = stat(
            "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu1 0 0 0 0\nintr 99 1 2\nctxt 7\nbtime 1\nprocesses 12\nprocs_running 3\nprocs_blocked 1\n",
        );
        assert_eq!(stat.ticks, Some([1, 2, 3, 4, 5, 6, 7, 8]));
        assert_eq!((stat.cpus, stat.interrupts, stat.context_switches), (2, Some(99), Some(7)));
        assert_eq!((stat.forks, stat.running, stat.blocked), (Some(12), Some(3), Some(1)));
        assert_eq!(super::stat("cpu 1 2 3 4\n").ticks, Some([1, 2, 3, 4, 0, 0, 0, 0]));
        assert_eq!(super::stat("cpu 1 x\n").ticks, None);
    }

    #[test]
    fn the_other_files_are_read() {
        assert_eq!(loadavg("0.53 2.20 2.58 1/105 18553\n"), Some(([0.53, 2.20, 2.58], 105)));
        assert_eq!(uptime("5518.57 6487.77\n"), Some(5518.57));
        let memory = meminfo(
            "MemTotal:  100 kB\nMemFree: 40 kB\nMemAvailable: 60 kB\nBuffers: 5 kB\nHugePages_Total: 0\n",
        )
        .unwrap();
        assert_eq!(
            (memory.total, memory.free, memory.available, memory.buffers),
            (102_400, 40_960, Some(61_440), 5_120)
        );
        assert_eq!(
            vmstat("pgfault 5\npgmajfault 1\nx y\n"),
            Paging { faults: Some(5), major_faults: Some(1), ..Paging::default() }
        );
        let disk = diskstats(" 254 0 vda 10 1 20 3000 4 5 60 7000 2 8000 576522 0 0\n 7 0 loop0\n")
            .collect::<Vec<_>>();
        assert_eq!(disk.len(), 1);
        assert_eq!((disk[0].read_bytes, disk[0].written_bytes, disk[0].busy_seconds), (10_240, 30_720, 8.0));
        let net: Vec<Interface> = netdev("Inter-| Receive\n face |bytes packets\n  lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\neth0:1:17 2 3 4 5 6 7 8 9 10 11 12 0 0 0 0\n").collect();
        assert_eq!(net[0], Interface { name: "lo".into(), received: [1, 2, 3, 4], sent: [9, 10, 11, 12] });
        assert_eq!((net[1].name.as_str(), net[1].received[0]), ("eth0:1", 17));
        let pressure: Vec<_> =
            pressure("some avg10=1.50 avg60=1.80 avg300=27.59 total=2500000\nfull avg10=x total=1\n")
                .collect();
        assert_eq!(pressure, [("some", 0.015, 2.5)]);
        let mounts: Vec<Mount> =
            mounts("/dev/vda / ext4 ro,relatime 0 0\nx /mnt/a\\040b\\134 tmpfs rw 0 0\n").collect();
        assert!(mounts[0].read_only && !mounts[1].read_only);
        assert_eq!(mounts[1].point, "/mnt/a b\\");
    }

    proptest! {
        #[test]
        fn no_text_makes_any_of_them_panic(text in "([a-z:/ =.0-9\\\\-]{0,40}\n){0,8}") {
            let _ = (stat(&text), loadavg(&text), uptime(&text), meminfo(&text), vmstat(&text));
            let _ = (diskstats(&text).count(), netdev(&text).count(), pressure(&text).count(), mounts(&text).count());
        }
    }
}
