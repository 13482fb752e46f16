//! Bytes that change on a disk, and what that may cost without anybody's knowing.
//!
//! Damage with an intact record behind it is found and counted. In the last record of a log it looks like a
//! write that a power cut tore, and so do the records before it when they rot as well: of the journal's, acknowledged
//! readings are gone; of the spool's, rows that the collector may have are cut again, and where the cursor rotted too
//! nobody knows any more that they were there (docs/reliability.md). So what lay in rotten records of a newest segment is
//! remembered here, as long as no intact one is behind them: it is all that the checks let pass.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seglog::Storage;
use seglog::sim::SimDisk;
use telemetry::record::Numbering;
use telemetry::{Cause, Record, SeriesDef, SeriesRef};

use crate::host::Host;
use crate::readings::Readings;
use crate::rng::Rng;
use crate::world::World;

const JOURNAL: &str = "/data/journal";
const SPOOL: &str = "/data/spool";
/// Of a segment's header, and of a record's.
const HEADER: usize = 64;
const FRAME: usize = 16;
/// What the journal says before a record.
const TALLY: usize = 17;

/// A record that rotted.
pub struct Hit {
    path: PathBuf,
    number: u64,
    content: Content,
}

enum Content {
    /// Readings, in the journal.
    Readings(Vec<u64>),
    /// A batch, in the spool.
    Batch { samples: Vec<u64>, windows: Vec<(u32, u64, f64)>, received: u64 },
}

impl World {
    /// One bit of one file.
    pub(crate) fn rot(&mut self, host: usize) {
        let disk = &self.hosts[host].disk;
        let spared = |path: &Path| self.plan.spares_spool() && path.starts_with(SPOOL);
        let paths = disk.paths().into_iter().filter(|path| !path.ends_with("lock") && !spared(path));
        let paths: Vec<_> = paths.collect();
        if paths.is_empty() {
            return;
        }
        let mut rng = Rng::new(self.rng.next(), 0);
        let path = paths[rng.range(0, paths.len() as u64 - 1) as usize].clone();
        let size = disk.read(&path).map_or(0, |content| content.len());
        if size > 0 {
            let offset = rng.range(0, size as u64 - 1) as usize;
            self.change(host, &path, offset, 1 << rng.range(0, 7));
        }
    }

    /// The same in the last record of journal or spool.
    pub(crate) fn rot_last(&mut self, host: usize) {
        let mut rng = Rng::new(self.rng.next(), 0);
        let journal = rng.chance(1, 3) || self.plan.spares_spool();
        let dir = if journal { JOURNAL.to_owned() } else { format!("{SPOOL}/log") };
        let disk = &self.hosts[host].disk;
        let Some(path) = newest(disk, Path::new(&dir)) else { return };
        let content = disk.read(&path).unwrap_or_default();
        if let Some(start) = records(&path, &content).last().map(|(_, start)| *start) {
            let offset = rng.range(start as u64, content.len() as u64 - 1) as usize;
            self.change(host, &path, offset, 1 << rng.range(0, 7));
        }
    }

    fn change(&mut self, host: usize, path: &Path, offset: usize, mask: u8) {
        let this = &mut self.hosts[host];
        // Asked each time, since a record that rots may have a number's only definition.
        this.series.extend(devices(&this.disk));
        let hit = Hit::of(&this.disk, path, offset, &this.series);
        if let Some(Hit { content: Content::Batch { samples, windows, received }, .. }) = &hit {
            this.lose(*received, &mut self.readings);
            // Rows that were cut again, and whose batch rots again: if the collector has the first batch by this name,
            // it isn't told what came with the second, nor that any of it is lost.
            if self.readings.may_come_again(samples, windows) {
                self.readings.received_gone += received;
                samples.iter().for_each(|value| self.readings.all[*value as usize].silent = true);
            }
        }
        this.hits.extend(hit);
        if this.disk.rot(path, offset, mask) {
            self.spoilt(host, path);
        }
        let this = &self.hosts[host];
        let used = this.disk.used();
        self.note("rot", [offset as u64, used, 0]);
        if self.trace.told() {
            self.trace.say(&format!("{}", path.display()));
        }
    }
}

impl World {
    /// One file can't be opened. If the newest of a log isn't given when the log is opened, nobody knows what it held
    /// (docs/reliability.md): so it is given again before a start, and it isn't chosen where a log may be opened anew.
    /// Of the spool it isn't at all, since what comes to it later is lost with it, and counted by nobody here.
    pub(crate) fn refuse(&mut self, host: usize) {
        let disk = self.hosts[host].disk.clone();
        let spared = |path: &Path| self.plan.spares_spool() && path.starts_with(SPOOL);
        let mut paths = disk.paths();
        let newest = newest_of_all(&disk);
        let spools = newest_of_spool(&disk);
        let barred = |path: &PathBuf| {
            if self.plan.reopens() { newest.contains(path) } else { spools.as_ref() == Some(path) }
        };
        paths.retain(|path| !path.ends_with("lock") && !spared(path) && !barred(path));
        if paths.is_empty() {
            return;
        }
        let mut rng = Rng::new(self.rng.next(), 0);
        let path = rng.one(&paths.iter().collect::<Vec<_>>());
        let content = disk.read(path).unwrap_or_default();
        if path.starts_with(SPOOL) && path.extension().is_some_and(|extension| extension == "seg") {
            // All of its batches are one run, should they be given up.
            let series = devices(&disk).into_iter().collect();
            for (number, _) in records(path, &content) {
                let found = batch(disk.image(1).storage(), number, &series);
                if let Some(Content::Batch { received, .. }) = found {
                    self.hosts[host].lose(received, &mut self.readings);
                }
            }
        }
        disk.fail_opens(path);
        self.hosts[host].newest_refused |= newest.contains(path);
        self.spoilt(host, path);
        if self.trace.told() {
            self.trace.say(&format!("{}", path.display()));
        }
    }

    /// One file can't be opened for want of file handles: what the logs have and what the spool's cursor says must not be missed for
    /// that, whichever it is.
    pub(crate) fn withhold(&mut self, host: usize) {
        let disk = &self.hosts[host].disk;
        let is =
            |path: &PathBuf| path.extension().is_some_and(|is| is == "seg") || path.ends_with("spool/cursor");
        let mut paths = disk.paths();
        paths.retain(|path| is(path) && (path.starts_with(JOURNAL) || path.starts_with(SPOOL)));
        // The newest are the ones that a start reads: as often as all others together.
        let mut rng = Rng::new(self.rng.next(), 0);
        let newest = newest_of_all(disk);
        let among = if rng.chance(1, 2) && !newest.is_empty() { &newest } else { &paths };
        if among.is_empty() {
            return;
        }
        let path = rng.one(&among.iter().collect::<Vec<_>>());
        disk.withhold(path);
        if self.trace.told() {
            self.trace.say(&format!("{}", path.display()));
        }
    }

    /// A file isn't what it was.
    fn spoilt(&mut self, host: usize, path: &Path) {
        self.rotten = true;
        self.spool_rotten |= path.starts_with(SPOOL);
        self.lost_state |= path.starts_with("/data/fold.checkpoint") || path.starts_with(JOURNAL);
        self.hosts[host].cursor_rotten |= path.ends_with("spool/cursor");
    }
}

impl Host {
    /// One more batch of the spool can't be read. What several held is told with the last of them, where the collector may
    /// have the first.
    fn lose(&mut self, received: u64, readings: &mut Readings) {
        self.rotten_batches.push(received);
        match self.rotten_batches[..] {
            [] | [_] => {}
            [first, second] => readings.received_again += first + second,
            _ => readings.received_again += received,
        }
    }

    /// Before a start: which of the rotten records have no intact one behind them. True when windows may be gone with
    /// them.
    pub(crate) fn fall_silent(&mut self, readings: &mut Readings) -> bool {
        let hits = std::mem::take(&mut self.hits);
        let rotten =
            |path: &Path, number: u64| hits.iter().any(|hit| hit.path == path && hit.number == number);
        let mut windows_gone = false;
        for tail in &hits {
            let behind = segments(&self.disk, tail.path.parent().unwrap_or(Path::new("/")))
                .into_iter()
                .filter(|path| *path >= tail.path);
            let intact = |path: PathBuf| {
                let content = self.disk.read(&path).unwrap_or_default();
                let records = records(&path, &content);
                records.iter().any(|(number, _)| *number > tail.number && !rotten(&path, *number))
            };
            if behind.into_iter().any(intact) {
                continue;
            }
            match &tail.content {
                Content::Readings(values) => {
                    // One that had rotted before may say anything.
                    let all = values.iter().filter_map(|value| usize::try_from(*value).ok());
                    for value in all {
                        if let Some(reading) = readings.all.get_mut(value) {
                            reading.silent = true;
                        }
                    }
                }
                Content::Batch { samples, windows, received } => {
                    for value in samples {
                        let reading = &mut readings.all[*value as usize];
                        (reading.again, reading.silent) = (true, reading.silent || self.cursor_rotten);
                    }
                    for (device, count, sum) in windows {
                        let again = readings.again.entry(*device).or_default();
                        (again.0, again.1) = (again.0 + count, again.1 + sum);
                    }
                    readings.received_again += received;
                    if self.cursor_rotten {
                        readings.received_gone += received.saturating_sub(samples.len() as u64);
                        windows_gone |= !windows.is_empty();
                    }
                }
            }
        }
        windows_gone
    }
}

impl Hit {
    /// What lies in the record of a log that has this byte.
    fn of(disk: &SimDisk, path: &Path, offset: usize, series: &HashMap<u32, u32>) -> Option<Self> {
        let dir = path.parent()?;
        let log = dir == Path::new(JOURNAL) || dir == Path::new(SPOOL).join("log");
        if !log || path.extension().is_none_or(|extension| extension != "seg") {
            return None;
        }
        let file = disk.read(path)?;
        let (number, start) = records(path, &file).into_iter().rfind(|(_, start)| *start <= offset)?;
        // Behind the last record may be bytes of one that a power cut tore.
        let end = frame(&file, start).map(|(_, end)| end).filter(|end| offset < *end)?;
        let content = if dir.starts_with(JOURNAL) {
            readings(&file[start + FRAME..end])?
        } else {
            // A copy is looked at: looking must not move the disk's chance.
            batch(disk.image(1).storage(), number, series)?
        };
        Some(Self { path: path.to_owned(), number, content })
    }
}

/// The readings of a record of the journal, also of one whose definitions are gone.
fn readings(entry: &[u8]) -> Option<Content> {
    struct Any;
    impl Numbering for Any {
        fn define(&mut self, _number: u32, _def: SeriesDef) {}

        fn resolve(&self, _number: u32) -> Option<SeriesRef> {
            Some(SeriesRef(0))
        }
    }
    let record = Record::decode(entry.get(TALLY..)?, &mut Any).ok()?;
    Some(Content::Readings(match record {
        Record::Intake(intake) => intake.values.iter().map(|value| *value as u64).collect(),
        _ => Vec::new(),
    }))
}

/// Which device each series number of the spool belongs to.
fn devices(disk: &SimDisk) -> Vec<(u32, u32)> {
    let inspection = spool::inspect::Inspection::open(disk.image(1).storage(), Path::new(SPOOL));
    let Ok(summary) = inspection.and_then(|inspection| inspection.summary()) else { return Vec::new() };
    let device = |def: &telemetry::SeriesDef| def.key.label("device")?.strip_prefix('d')?.parse().ok();
    summary.series.iter().filter_map(|(number, def)| Some((*number, device(def)?))).collect()
}

/// What is in a batch of the spool, by the number of its record.
fn batch(storage: Arc<dyn Storage>, number: u64, series: &HashMap<u32, u32>) -> Option<Content> {
    let mut content = None;
    let inspection = spool::inspect::Inspection::open(storage, Path::new(SPOOL)).ok()?;
    let walked = inspection.walk(&mut |found| {
        if let spool::inspect::Found::Batch(batch) = found
            && batch.record == number
        {
            let Ok(payload) = wire::payload::decode(batch.payload) else { return ControlFlow::Continue(()) };
            let samples = payload.samples().map(|(_, _, value, _)| value as u64).collect();
            let windows = payload.windows.iter();
            let windows =
                windows.filter_map(|row| Some((*series.get(&row.id)?, row.count, row.sum))).collect();
            let received = batch.counts.get(Cause::Received);
            content = Some(Content::Batch { samples, windows, received });
        }
        ControlFlow::Continue(())
    });
    walked.ok().and(content)
}

/// The segments of a log, the one that is written last at the end.
fn segments(disk: &SimDisk, dir: &Path) -> Vec<PathBuf> {
    let segment =
        |path: &PathBuf| path.parent() == Some(dir) && path.extension().is_some_and(|is| is == "seg");
    disk.paths().into_iter().filter(segment).collect()
}

/// Of journal and spool the segments at the end: a newest one may be empty yet.
fn newest_of_all(disk: &SimDisk) -> Vec<PathBuf> {
    let newest = |dir: &Path| segments(disk, dir).into_iter().rev().take(2);
    newest(Path::new(JOURNAL)).chain(newest(&Path::new(SPOOL).join("log"))).collect()
}

/// Of the spool, the last that holds something or will.
fn newest_of_spool(disk: &SimDisk) -> Option<PathBuf> {
    newest(disk, &Path::new(SPOOL).join("log"))
}

fn newest(disk: &SimDisk, dir: &Path) -> Option<PathBuf> {
    segments(disk, dir).pop()
}

/// Numbers of a segment's records, and where they begin. The first one's number is the segment's name. Behind one whose
/// length or number rotted it goes on with the next that fits.
fn records(path: &Path, content: &[u8]) -> Vec<(u64, usize)> {
    let mut found: Vec<(u64, usize)> = Vec::new();
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split_once('-'));
    let Some(first) = name.and_then(|(first, _)| first.parse::<u64>().ok()) else { return found };
    let is = |at: usize, number: u64| frame(content, at).is_some_and(|(found, _)| found == number);
    // Where a record ends, if what is behind it bears that out.
    let end_of = |at: usize, number: u64| {
        let (found, end) = frame(content, at)?;
        let skips =
            || frame(content, end).is_some_and(|(_, end)| end == content.len() || is(end, number + 2));
        (end == content.len() || is(end, number + 1) || found == number && skips()).then_some(end)
    };
    let (mut number, mut at) = (first, HEADER);
    while at < content.len() {
        if let Some(end) = end_of(at, number) {
            found.push((number, at));
            (number, at) = (number + 1, end);
            continue;
        }
        let behind = (at + 1..content.len()).find_map(|at| {
            let next = frame(content, at)?.0;
            ((number + 1..number + 256).contains(&next) && end_of(at, next).is_some()).then_some((next, at))
        });
        // Behind the last one may be bytes of one that a power cut tore.
        if behind.is_some() || is(at, number) {
            found.push((number, at));
        }
        let Some(next) = behind else { break };
        (number, at) = next;
    }
    found
}

/// Number and end of the record that would begin here.
fn frame(content: &[u8], at: usize) -> Option<(u64, usize)> {
    let bytes = content.get(at..at + FRAME)?;
    let len = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
    let number = u64::from_le_bytes([
        bytes[8], bytes[9], bytes[10], bytes[11], bytes[12], bytes[13], bytes[14], bytes[15],
    ]);
    let end = at + FRAME + len;
    (end <= content.len()).then_some((number, end))
}

#[cfg(test)]
mod tests {
    use seglog::{Log, Options};

    use super::*;

    #[test]
    fn records_are_found_behind_one_whose_number_or_length_rotted() {
        let disk = SimDisk::new(1);
        let dir = Path::new(SPOOL);
        let options = Options { segment_bytes: 1 << 20, max_record: 1 << 20 };
        let (mut log, _) = Log::open(disk.storage(), dir, options).unwrap();
        for payload in [&b"first"[..], b"second", b"third", b"fourth"] {
            log.append(payload).unwrap();
        }
        log.sync().unwrap();
        let path = newest(&disk, dir).unwrap();
        let content = disk.read(&path).unwrap();
        let whole = records(&path, &content);
        assert_eq!(whole.len(), 4);
        for (at, (_, start)) in whole.iter().enumerate() {
            for offset in (*start..start + 4).chain(start + 8..start + FRAME) {
                let mut rotten = content.clone();
                rotten[offset] ^= 1 << (offset % 8);
                let found = records(&path, &rotten);
                let others = whole.iter().enumerate().filter(|(other, _)| *other != at);
                for (_, record) in others.filter(|(other, _)| at < 3 || *other < 3) {
                    assert!(found.contains(record), "byte {offset}: {record:?} of {found:?}");
                }
            }
        }
    }
}
