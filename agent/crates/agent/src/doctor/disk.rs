//! The data folder and the disk under it: may the agent write there, is there room, how long does an fsync take.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::StatVfsMountFlags;

use super::{Finding, ok, problem, warning};
use crate::config::Config;
use crate::human::size;

const FSYNCS: usize = 20;
/// Fewer inodes than the agent uses up in a long outage.
const FEW_INODES: u64 = 1_000;
/// What one write of the test is: about a small group commit.
const BYTES: usize = 4096;
/// Acknowledgements wait for an fsync: beyond these a sender notices.
const SLOW: Duration = Duration::from_millis(50);
const VERY_SLOW: Duration = Duration::from_millis(500);

/// All checks of the disk.
pub fn examine(config: &Config, running: bool) -> Vec<Finding> {
    let data = &config.agent.data_dir;
    let metadata = match fs::metadata(data) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            let found = format!("{} is no folder", data.display());
            return vec![problem("data_dir", found, "set agent.data_dir to a folder")];
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return vec![missing(data)],
        Err(error) => {
            let found = format!("{} can't be looked at: {error}", data.display());
            return vec![problem("data_dir", found, "set agent.data_dir to a folder that this user may use")];
        }
    };
    let mut findings = vec![owner(data, &metadata)];
    if read_only(data) {
        findings.push(problem(
            "disk",
            format!("the file system of {} is read-only", data.display()),
            "look into the kernel's log for disk errors (dmesg), check the disk, and mount it writable again",
        ));
        return findings;
    }
    findings.push(room(config));
    findings.extend(rustix::fs::statvfs(data).ok().and_then(|stat| inodes(stat.f_files, stat.f_favail)));
    findings.extend(reserve(config, running));
    findings.push(match time_fsyncs(data) {
        Ok((median, longest)) => judge_fsync(median, longest),
        Err(error) => unwritable(data, &error),
    });
    findings
}

fn missing(data: &Path) -> Finding {
    let above = data.ancestors().skip(1).find(|above| above.is_dir()).unwrap_or(Path::new("/"));
    // Root may write anywhere, and a container may have made it read-only all the same: the try decides.
    match tempfile_in(above) {
        Ok(()) => ok("data_dir", format!("{} isn't there yet: the agent makes it", data.display())),
        Err(error) => problem(
            "data_dir",
            format!("{} isn't there, and {} can't be written: {error}", data.display(), above.display()),
            format!("make it, and give it to the agent's user: install -d -m 700 -o USER {}", data.display()),
        ),
    }
}

fn owner(data: &Path, metadata: &fs::Metadata) -> Finding {
    let (mode, uid) = (metadata.permissions().mode() & 0o777, metadata.uid());
    let us = rustix::process::geteuid().as_raw();
    let found = format!("{} belongs to user {uid}, mode {mode:o}", data.display());
    if uid != us && us != 0 {
        let remedy = format!(
            "run this command, and the agent, as user {uid}, or give the folder to user {us}: chown -R {us} {}",
            data.display()
        );
        return warning("data_dir", found, remedy);
    }
    if us == 0 && uid != 0 {
        return warning(
            "data_dir",
            format!("{found}; this command runs as root, which may do what the agent may not"),
            format!(
                "run it as the agent's user: setpriv --reuid {uid} --clear-groups telemetryx-agent doctor"
            ),
        );
    }
    if mode & 0o077 != 0 {
        return warning(
            "data_dir",
            format!("{found}: others on this host may read the readings"),
            format!("chmod 700 {}", data.display()),
        );
    }
    ok("data_dir", found)
}

fn read_only(data: &Path) -> bool {
    rustix::fs::statvfs(data).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// What is free, against what the caps still allow to be taken.
fn room(config: &Config) -> Finding {
    let data = &config.agent.data_dir;
    let stat = match rustix::fs::statvfs(data) {
        Ok(stat) => stat,
        Err(error) => {
            return warning(
                "disk",
                format!("how much is free can't be told: {error}"),
                "check the file system",
            );
        }
    };
    let free = stat.f_bavail * stat.f_frsize;
    let used = |name: &str| folder_bytes(&data.join(name));
    let wanted = |cap: u64, used: u64| cap.saturating_sub(used);
    let wants =
        wanted(config.journal.max_bytes.0, used("journal")) + wanted(config.spool.max_bytes.0, used("spool"));
    judge_room(free, wants, config.spool.min_free.0, stat.f_blocks * stat.f_frsize)
}

fn judge_room(free: u64, wants: u64, min_free: u64, whole: u64) -> Finding {
    let remedy = "free some space, or lower spool.max_bytes and journal.max_bytes";
    if free < min_free {
        let found = format!(
            "{} free, below spool.min_free {}: while the link is up what is taken goes to the collector in small steps; beyond that, and without a link, inputs push back",
            size(free),
            size(min_free)
        );
        let remedy = match min_free < whole {
            true => "free some space, or lower spool.min_free".to_owned(),
            false => format!("lower spool.min_free: the disk has {} in all", size(whole)),
        };
        return problem("disk", found, remedy);
    }
    if free - min_free < wants {
        let found = format!(
            "{} free; the caps of journal and spool allow {} more: in a long outage the disk is full before the caps are reached",
            size(free),
            size(wants)
        );
        return warning("disk", found, remedy);
    }
    ok("disk", format!("{} free, enough for the caps of journal and spool", size(free)))
}

/// Whether files can be made: a disk with much room may have no inode left. Some file systems have no such limit, and say 0 of 0.
fn inodes(all: u64, left: u64) -> Option<Finding> {
    let remedy = "remove files: many small ones take all inodes (df -i shows where)";
    match left {
        _ if all == 0 => None,
        0 => Some(problem(
            "inodes",
            "none is left: the agent can make no file, whatever room there is",
            remedy,
        )),
        left if left < FEW_INODES => {
            let found = format!("{left} are left: the agent needs one for each segment of journal and spool");
            Some(warning("inodes", found, remedy))
        }
        _ => None,
    }
}

/// What is kept for a full disk, where it isn't whole.
fn reserve(config: &Config, running: bool) -> Option<Finding> {
    let dir = config.agent.data_dir.join("spool/reserve");
    let entries = fs::read_dir(&dir).ok()?;
    // What `stat` counts in, whatever the file system's blocks are.
    let held =
        entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|part| part.blocks() * 512).sum();
    let parts = spool::Parts::beside(config.spool.max_bytes.0);
    let whole = u64::from(parts.count) * parts.bytes;
    let free = rustix::fs::statvfs(&dir).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    judge_reserve(held, whole, free.saturating_sub(config.spool.min_free.0), running)
}

/// `spare` is what the disk has beyond what others are to have.
fn judge_reserve(held: u64, whole: u64, spare: u64, running: bool) -> Option<Finding> {
    let missing = whole.checked_sub(held).filter(|missing| *missing > 0)?;
    let found = format!("{} of the {} that are kept for a full disk are there", size(held), size(whole));
    Some(match (missing <= spare, running) {
        (true, false) => {
            ok("reserve", format!("{found}; there is room for the rest: the agent takes it when it starts"))
        }
        (true, true) => warning(
            "reserve",
            found,
            "wait: there is room for the rest, and the agent takes it within seconds; if it doesn't, look into its log",
        ),
        (false, _) => warning(
            "reserve",
            found,
            "free some space, or lower spool.min_free: the agent takes the rest by itself, once others have that much",
        ),
    })
}

/// Bytes of the files in a folder and those below it, without the reserve, which counts for no cap.
fn folder_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(_) if entry.file_name() == "reserve" => 0,
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}

/// Median and longest of a few fsyncs, each of one small write.
fn time_fsyncs(dir: &Path) -> std::io::Result<(Duration, Duration)> {
    let path = dir.join(format!(".doctor-{}", std::process::id()));
    let measured = File::create_new(&path).and_then(|file| {
        let mut times = Vec::with_capacity(FSYNCS);
        for at in 0..FSYNCS {
            file.write_all_at(&[0x5a; BYTES], (at * BYTES) as u64)?;
            let begun = Instant::now();
            file.sync_data()?;
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        Ok((times[FSYNCS / 2], times[FSYNCS - 1]))
    });
    let removed = fs::remove_file(&path);
    let measured = measured?;
    removed.map(|()| measured)
}

fn tempfile_in(dir: &Path) -> std::io::Result<()> {
    let path = dir.join(format!(".doctor-{}", std::process::id()));
    File::create_new(&path)?.write_all(b"x")?;
    fs::remove_file(&path)
}

fn judge_fsync(median: Duration, longest: Duration) -> Finding {
    let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    let found = format!("{FSYNCS} fsyncs took {} at the median, {} at most", ms(median), ms(longest));
    if median >= VERY_SLOW || median >= SLOW {
        return warning(
            "fsync",
            format!("{found}: every acknowledgement waits for one"),
            "set journal.linger to 20ms or more, so that each fsync serves many; check the disk (smartctl) and what else writes to it",
        );
    }
    if longest >= VERY_SLOW {
        return warning(
            "fsync",
            found,
            "something else on this disk holds it up now and then: see iotop, or check it (smartctl)",
        );
    }
    ok("fsync", found)
}

fn unwritable(data: &Path, error: &std::io::Error) -> Finding {
    let found = format!("{} can't be written: {error}", data.display());
    if seglog::is_full(error) {
        return problem(
            "fsync",
            found,
            "free some space: the agent goes on, but takes nothing until there is room",
        );
    }
    problem(
        "fsync",
        found,
        "give the folder to the agent's user, and check that its disk is sound and mounted writable",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn room_is_judged_by_the_floor_and_by_the_caps() {
        let judged = |free, wants, min_free| judge_room(free, wants, min_free, 20 << 30);
        assert_eq!(judged(10 << 30, 5 << 30, 64 << 20).level, Level::Ok);
        assert_eq!(judged(3 << 30, 5 << 30, 64 << 20).level, Level::Warning);
        let low = judged(10 << 20, 0, 64 << 20);
        assert_eq!(
            (low.level, low.remedy.as_str()),
            (Level::Problem, "free some space, or lower spool.min_free")
        );
        assert_eq!(judged(1 << 30, 0, 20 << 30).remedy, "lower spool.min_free: the disk has 20.0 GiB in all");
    }

    #[test]
    fn a_reserve_that_is_not_whole_is_no_fault_where_a_stopped_agent_will_take_the_rest() {
        let level = |held, spare, running| {
            judge_reserve(held, 8 << 20, spare, running)
                .map(|finding| (finding.level, finding.remedy.is_empty()))
        };
        assert_eq!(level(8 << 20, 0, false), None);
        assert_eq!(level(0, 1 << 30, false), Some((Level::Ok, true)));
        assert_eq!(level(0, 1 << 30, true), Some((Level::Warning, false)));
        assert_eq!(level(7 << 20, 0, false), Some((Level::Warning, false)));
    }

    #[test]
    fn a_disk_is_slow_by_its_median_or_by_its_worst() {
        let ms = Duration::from_millis;
        assert_eq!(judge_fsync(ms(2), ms(40)).level, Level::Ok);
        assert_eq!(judge_fsync(ms(60), ms(70)).level, Level::Warning);
        assert_eq!(judge_fsync(ms(2), ms(900)).level, Level::Warning);
    }

    #[test]
    fn timing_leaves_nothing_behind_and_sees_what_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let (median, longest) = time_fsyncs(folder.path()).unwrap();
        assert!(median <= longest);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(time_fsyncs(&folder.path().join("missing")).is_err());
    }

    #[test]
    fn a_disk_without_inodes_is_a_problem_whatever_room_it_has_and_one_that_counts_none_is_fine() {
        let level = |all, left| inodes(all, left).map(|finding| finding.level);
        assert_eq!(level(65_536, 0), Some(Level::Problem));
        assert_eq!(level(65_536, 12), Some(Level::Warning));
        assert_eq!((level(65_536, 60_000), level(0, 0)), (None, None));
    }

    #[test]
    fn a_folder_that_others_may_read_is_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let at = |mode| {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            owner(folder.path(), &fs::metadata(folder.path()).unwrap()).level
        };
        assert_eq!((at(0o755), at(0o700)), (Level::Warning, Level::Ok));
    }
}
