//! Bytes that change on a disk, and what that may cost without anybody's knowing.
//!
//! Damage with an intact record behind it is found and counted. In the last record of a log it looks like a
//! write that a power cut tore, and so do the records before it when they rot as well: of the journal's, acknowledged
//! readings are gone; of the spool's, rows that the collector may have are cut again, and where the cursor rotted too
//! nobody knows any more that they were there (docs/reliability.md). So what lay in rotten records of a newest segment is
//! remembered here, as long as no intact one is behind them: it is all that the checks let pass.

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

/// A record of a log's newest segment, which rotted.
pub struct Tail {
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
        let paths: Vec<_> = disk.paths().into_iter().filter(|path| !path.ends_with("lock")).collect();
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
        let dir = if rng.chance(1, 3) { JOURNAL.to_owned() } else { format!("{SPOOL}/log") };
        let disk = &self.hosts[host].disk;
        let Some(path) = newest(disk, Path::new(&dir)) else { return };
        let content = disk.read(&path).unwrap_or_default();
        if let Some(start) = records(&content).last().map(|(_, start)| *start) {
            let offset = rng.range(start as u64, content.len() as u64 - 1) as usize;
            self.change(host, &path, offset, 1 << rng.range(0, 7));
        }
    }

    fn change(&mut self, host: usize, path: &Path, offset: usize, mask: u8) {
        let this = &mut self.hosts[host];
        this.tails.extend(Tail::of(&this.disk, path, offset));
        if this.disk.rot(path, offset, mask) {
            self.rotten = true;
            self.lost_state |= path.starts_with("/data/fold.checkpoint") || path.starts_with(JOURNAL);
            this.cursor_rotten |= path.ends_with("spool/cursor");
        }
        let used = this.disk.used();
        self.note("rot", [offset as u64, used, 0]);
        if self.trace.told() {
            self.trace.say(&format!("{}", path.display()));
        }
    }
}

impl Host {
    /// Before a start: which of the rotten records have no intact one behind them. True when windows may be gone with
    /// them.
    pub(crate) fn fall_silent(&mut self, readings: &mut Readings) -> bool {
        let tails = std::mem::take(&mut self.tails);
        let rotten =
            |path: &Path, number: u64| tails.iter().any(|tail| tail.path == path && tail.number == number);
        let mut windows_gone = false;
        for tail in &tails {
            let dir = tail.path.parent().unwrap_or(Path::new("/"));
            let Some(file) = newest(&self.disk, dir).filter(|newest| *newest == tail.path) else { continue };
            let content = self.disk.read(&file).unwrap_or_default();
            if records(&content).iter().any(|(number, _)| *number > tail.number && !rotten(&file, *number)) {
                continue;
            }
            match &tail.content {
                Content::Readings(values) => {
                    values.iter().for_each(|value| readings.all[*value as usize].silent = true);
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

impl Tail {
    /// What lies in the record of a log's newest segment that has this byte.
    fn of(disk: &SimDisk, path: &Path, offset: usize) -> Option<Self> {
        let dir = path.parent()?;
        if newest(disk, dir).is_none_or(|newest| newest != path) {
            return None;
        }
        let file = disk.read(path)?;
        let (number, start) = records(&file).into_iter().rfind(|(_, start)| *start <= offset)?;
        // Behind the last record may be bytes of one that a power cut tore.
        let end = frame(&file, start).map(|(_, end)| end).filter(|end| offset < *end)?;
        let content = if dir.starts_with(JOURNAL) {
            readings(&file[start + FRAME..end])?
        } else {
            // A copy is looked at: looking must not move the disk's chance.
            batch(disk.image(1).storage(), number)?
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

/// What is in a batch of the spool, by the number of its record.
fn batch(storage: Arc<dyn Storage>, number: u64) -> Option<Content> {
    let mut content = None;
    let inspection = spool::inspect::Inspection::open(storage, Path::new(SPOOL)).ok()?;
    let summary = inspection.summary().ok()?;
    let walked = inspection.walk(&mut |found| {
        if let spool::inspect::Found::Batch(batch) = found
            && batch.record == number
        {
            let Ok(payload) = wire::payload::decode(batch.payload) else { return ControlFlow::Continue(()) };
            let device = |number: &u32| {
                summary.series.get(number)?.key.label("device")?.strip_prefix('d')?.parse::<u32>().ok()
            };
            let samples = payload.samples().map(|(_, _, value, _)| value as u64).collect();
            let windows = payload.windows.iter();
            let windows = windows.filter_map(|row| Some((device(&row.id)?, row.count, row.sum))).collect();
            let received = batch.counts.get(Cause::Received);
            content = Some(Content::Batch { samples, windows, received });
        }
        ControlFlow::Continue(())
    });
    walked.ok().and(content)
}

/// The segment that is written last.
fn newest(disk: &SimDisk, dir: &Path) -> Option<PathBuf> {
    let segment =
        |path: &PathBuf| path.parent() == Some(dir) && path.extension().is_some_and(|is| is == "seg");
    disk.paths().into_iter().rfind(segment)
}

/// Numbers of a segment's records, and where they begin. Behind one whose length or number rotted it goes on with the
/// next that another one follows, or the end.
fn records(content: &[u8]) -> Vec<(u64, usize)> {
    let mut found: Vec<(u64, usize)> = Vec::new();
    let mut at = HEADER;
    while at < content.len() {
        let expected = found.last().map(|(number, _)| number + 1);
        let here = frame(content, at).filter(|(number, _)| expected.is_none_or(|is| is == *number));
        let next = here.or_else(|| {
            at = (at + 1..content.len()).find(|at| {
                frame(content, *at).is_some_and(|(number, end)| {
                    let numbers = expected.unwrap_or(1)..expected.map_or(u64::MAX, |is| is + 256);
                    let follows = frame(content, end).is_some_and(|(next, _)| next == number + 1);
                    numbers.contains(&number) && (end == content.len() || follows)
                })
            })?;
            frame(content, at)
        });
        let Some((number, end)) = next else { break };
        found.push((number, at));
        at = end;
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
