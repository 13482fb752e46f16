//! Opening: which segments are there, where the newest really ends, and what is damaged in it.
//!
//! Only the newest segment is read: those before it were durable before it was created, and a
//! reader checks every byte of them when it comes by. So opening costs the same with 10 GB behind.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::OpenError;
use crate::format::{FRAME, Frame, HEADER, Header, find_intact};
use crate::index::{self, Place, Segment};
use crate::mark::Mark;
use crate::quarantine::Quarantine;
use crate::storage::{File, Guard, Mode, Storage, is_unreadable};

/// More records than any segment has.
const UNKNOWN: u64 = 1 << 32;

/// A range of records that were there once and can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Number of the first.
    pub first: u64,
    /// Number of the last; `first - 1` when only bytes that belong to no record are damaged.
    pub last: u64,
    /// Bytes that could not be read as records; 0 where they are missing altogether.
    pub bytes: u64,
}

impl Gap {
    /// How many records.
    pub fn records(&self) -> u64 {
        (self.last + 1).saturating_sub(self.first)
    }
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Records that are there, as far as is known without reading all segments.
    pub records: u64,
    /// Bytes at the end that are no record and have none behind them: being written when the
    /// writer died, so never acknowledged.
    pub torn_bytes: u64,
    /// The segment they are in, and where in it they would begin as a record.
    pub torn_at: Option<(PathBuf, u64)>,
    /// Damage in the newest segment; a reader reports that of older ones when it comes by.
    pub damaged: Vec<Gap>,
    /// What the mark says was durable, where the log ends before it: the last of `damaged` says which records are gone.
    pub cut_off: Option<Mark>,
    /// The mark, where the log's owner keeps one.
    pub mark: Option<Mark>,
    /// The newest segment: what is damaged or torn is in it, or was behind it.
    pub newest: Option<PathBuf>,
    /// Copies that were made of what is damaged or torn.
    pub quarantined: Vec<PathBuf>,
    /// Segments that the disk doesn't give, where they were moved to.
    pub set_aside: Vec<PathBuf>,
    /// Why it could not be proven that what was read is durable; the log is poisoned then.
    pub unverified: Option<String>,
    /// Why the newest segment, which is there, isn't given just now (rights, file handles): what it holds is neither lost nor
    /// known. Then the log is poisoned too.
    pub withheld: Option<String>,
}

pub(crate) struct Found {
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) next: u64,
    pub(crate) follows: u64,
    /// The last record that is proven to be on the disk.
    pub(crate) durable: u64,
    pub(crate) salt: u32,
    pub(crate) recovery: Recovery,
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> OpenError + 'a {
    move |source| OpenError::Io { doing, path: path.to_owned(), source }
}

/// Makes the directory and takes its lock.
pub(crate) fn lock(storage: &dyn Storage, dir: &Path) -> Result<Box<dyn Guard>, OpenError> {
    storage.create_dir_all(dir).map_err(failed("created", dir))?;
    let path = dir.join("lock");
    storage.lock(&path).map_err(failed("locked", &path))?.ok_or_else(|| OpenError::Locked(dir.to_owned()))
}

/// The segments in a directory, in order, with their sizes.
pub(crate) fn list(storage: &dyn Storage, dir: &Path) -> Result<Vec<Segment>, OpenError> {
    let names = storage.list(dir).map_err(failed("listed", dir))?;
    let mut found: Vec<(u64, u32)> = names.iter().filter_map(|name| index::parse(name)).collect();
    found.sort_unstable();
    // Of one number there is one, unless someone put another there.
    found.dedup_by_key(|(first, _)| *first);
    let size =
        |first, salt| storage.open(&index::path(dir, first, salt), Mode::Read).and_then(|file| file.size());
    // One that can't be opened stays in the list: its reader will say why.
    let segment = |(first, salt)| Segment { first, salt, end: size(first, salt).unwrap_or(0) };
    Ok(found.into_iter().map(segment).collect())
}

/// Moves what the disk doesn't give to quarantine: then it is a gap like any other, and its neighbours are kept. Where it was
/// the newest of all, nobody knows which numbers were used: an empty segment with a number beyond them takes its place.
fn set_aside(storage: &dyn Storage, dir: &Path, segments: &mut Vec<Segment>, recovery: &mut Recovery) {
    let newest = segments.last().copied();
    let mut beyond = None;
    segments.retain(|segment| {
        let path = index::path(dir, segment.first, segment.salt);
        let looked = || storage.open(&path, Mode::Read).and_then(|file| file.size());
        if segment.end > 0 || !looked().is_err_and(|error| is_unreadable(&error)) {
            return true;
        }
        let is_newest = newest.is_some_and(|newest| newest.first == segment.first);
        if is_newest {
            match begin_beyond(storage, dir, *segment) {
                Ok(begun) => beyond = Some(begun),
                // As where it can't be moved: it stays, and who needs it is told why it can't be had.
                Err(_) => return true,
            }
        }
        // Where it can't be moved it stays in the list: whoever needs it is told why it can't be had.
        let Ok(moved) = Quarantine::new(dir).take(storage, &path) else { return true };
        recovery.set_aside.push(moved);
        if is_newest {
            recovery.damaged.push(Gap { first: segment.first, last: segment.first, bytes: 0 });
        }
        false
    });
    segments.extend(beyond);
}

/// A segment without records whose name is beyond all numbers that another one may have used.
///
/// DURABILITY: it is there to stay before that one goes, for the newest name is what remembers the numbers.
fn begin_beyond(storage: &dyn Storage, dir: &Path, lost: Segment) -> io::Result<Segment> {
    // At least its first record was there.
    let header = Header { first: lost.first + UNKNOWN, follows: lost.first + 1 };
    let file = storage.open(&index::path(dir, header.first, lost.salt), Mode::Create)?;
    file.write_at(&header.encode(), 0)?;
    file.sync()?;
    storage.sync_dir(dir)?;
    Ok(Segment { first: header.first, salt: lost.salt, end: HEADER as u64 })
}

impl Found {
    /// Counts as damage what was confirmed and isn't there.
    fn up_to(mut self, mark: Option<Mark>) -> Self {
        self.recovery.mark = mark;
        // What can't be read now is not gone.
        let Some(mark) =
            mark.filter(|mark| mark.number >= self.follows && self.recovery.unverified.is_none())
        else {
            return self;
        };
        let bytes = std::mem::take(&mut self.recovery.torn_bytes);
        self.recovery.damaged.push(Gap { first: self.follows, last: mark.number, bytes });
        self.recovery.cut_off = Some(mark);
        (self.follows, self.durable) = (mark.number + 1, mark.number);
        self.next = self.next.max(self.follows);
        self
    }
}

pub(crate) fn recover(storage: &dyn Storage, dir: &Path) -> Result<Found, OpenError> {
    let mark = Mark::read(storage, dir);
    let mut segments = list(storage, dir)?;
    let mark = mark.filter(|mark| mark.is_of(&segments));
    let mut recovery = Recovery::default();
    set_aside(storage, dir, &mut segments, &mut recovery);
    // DURABILITY: the names that were listed must stay.
    if let Err(error) = storage.sync_dir(dir) {
        recovery.unverified = Some(format!("fsync of {} failed: {error}", dir.display()));
    }
    let Some(last) = segments.last_mut() else {
        // Where the system has no randomness the salt is 0: the checksums work the same.
        let mut salt = [0; 4];
        let fresh = storage.random(&mut salt).map_or(0, |()| u32::from_le_bytes(salt));
        // The log that was there goes on.
        let salt = mark.map_or(fresh, |mark| mark.salt);
        let segments = VecDeque::new();
        return Ok(Found { segments, next: 1, follows: 1, durable: 0, salt, recovery }.up_to(mark));
    };
    let Segment { first, salt, .. } = *last;
    let path = index::path(dir, first, salt);
    let content = match verified(storage, &path) {
        Ok((content, sync)) => {
            if let Err(error) = sync {
                recovery.unverified.get_or_insert(format!("fsync of segment {first} failed: {error}"));
            }
            content
        }
        Err(error) => {
            let why = format!("segment {} can't be read: {error}", path.display());
            recovery.unverified.get_or_insert(why.clone());
            recovery.withheld = Some(why);
            Vec::new()
        }
    };
    let header = Header::decode(&content);
    let scan = scan(&content, salt, first);
    last.end = scan.end;
    let follows = follows_of(storage, dir, &segments, &content, &scan);
    let mut places = scan.places;
    if scan.torn > 0 {
        places.push(Place { segment: first, offset: scan.end, bytes: scan.torn });
    }
    let mut quarantine = Quarantine::new(dir);
    for place in places {
        recovery.quarantined.extend(quarantine.copy(storage, &path, place));
    }
    recovery.newest = Some(path.clone());
    recovery.torn_bytes = scan.torn;
    recovery.torn_at = (scan.torn > 0).then(|| (path.clone(), scan.end.max(HEADER as u64)));
    recovery.damaged.extend(scan.gaps);
    let damaged: u64 = recovery.damaged.iter().map(Gap::records).sum();
    recovery.records = follows.saturating_sub(segments[0].first).saturating_sub(damaged);
    // What is torn may have been a record whose bytes rotted, and then its number was used.
    let next =
        scan.next + scan.torn.saturating_sub(if scan.end == 0 { HEADER as u64 } else { 0 }) / FRAME as u64;
    // The segments before were durable before this one was created.
    let before = header.map_or(first, |header| header.follows.min(first));
    let durable = if recovery.unverified.is_some() { before - 1 } else { follows - 1 };
    Ok(Found { segments: segments.into(), next, follows, durable, salt, recovery }.up_to(mark))
}

/// Where a log that is merely looked at ends: one more than its last record, and the bytes behind that.
pub(crate) fn end(storage: &dyn Storage, dir: &Path, segments: &[Segment]) -> Option<(u64, u64)> {
    let Some(last) = segments.last() else { return Some((1, 0)) };
    let file = storage.open(&index::path(dir, last.first, last.salt), Mode::Read).ok()?;
    let mut content = vec![0; file.size().ok()? as usize];
    read_damaged(&*file, &mut content, 0);
    let scan = scan(&content, last.salt, last.first);
    Some((follows_of(storage, dir, segments, &content, &scan), scan.torn))
}

/// One more than the last record, by the newest segment's content.
fn follows_of(storage: &dyn Storage, dir: &Path, segments: &[Segment], content: &[u8], scan: &Scan) -> u64 {
    let first = segments.last().map_or(1, |last| last.first);
    match Header::decode(content) {
        _ if scan.next > first => scan.next,
        Some(header) => header.follows.min(first),
        None => end_before(storage, dir, segments),
    }
}

/// The newest segment was being created when the power went: where the one before it ends.
fn end_before(storage: &dyn Storage, dir: &Path, segments: &[Segment]) -> u64 {
    let [.., before, last] = segments else { return segments.last().map_or(1, |last| last.first) };
    let path = index::path(dir, before.first, before.salt);
    let Ok(file) = storage.open(&path, Mode::Read) else { return last.first };
    let mut content = vec![0; before.end as usize];
    read_damaged(&*file, &mut content, 0);
    let header = Header::decode(&content);
    let scan = scan(&content, before.salt, before.first);
    match header {
        Some(header) if scan.next == before.first => header.follows.min(before.first),
        _ => scan.next.min(last.first),
    }
}

/// Reads a file as the disk has it, not as the cache remembers it.
///
/// DURABILITY: after a failed fsync the cache goes on showing what never reached the disk, also to
/// the next process. So first write what can be written, then drop the cache, then read: what is
/// intact then can be relied on.
fn verified(storage: &dyn Storage, path: &Path) -> io::Result<(Vec<u8>, io::Result<()>)> {
    let file = storage.open(path, Mode::Read)?;
    let sync = file.sync();
    file.forget_cache();
    let mut content = vec![0; file.size()? as usize];
    read_damaged(&*file, &mut content, 0);
    Ok((content, sync))
}

/// Fills a buffer from a file. What can't be read, or is beyond its end, reads as zeros: those are
/// no record, so they become a gap like any other damage.
pub(crate) fn read_damaged(file: &dyn File, buf: &mut [u8], offset: u64) {
    const PAGE: usize = 4096;
    match file.read_at(buf, offset) {
        Ok(n) => buf[n..].fill(0),
        Err(_) if buf.len() > PAGE => {
            for (at, page) in buf.chunks_mut(PAGE).enumerate() {
                read_damaged(file, page, offset + (at * PAGE) as u64);
            }
        }
        Err(_) => buf.fill(0),
    }
}

struct Scan {
    /// One more than the last intact record.
    next: u64,
    /// Where that one ends.
    end: u64,
    torn: u64,
    gaps: Vec<Gap>,
    places: Vec<Place>,
}

/// Walks the newest segment. A bad record with an intact one behind it is damage, one without is
/// the torn tail.
fn scan(content: &[u8], salt: u32, first: u64) -> Scan {
    let mut scan = Scan { next: first, end: 0, torn: 0, gaps: Vec::new(), places: Vec::new() };
    let mut at = HEADER.min(content.len());
    if Header::decode(content).is_some() {
        scan.end = at as u64;
    }
    while at < content.len() {
        let rest = &content[at..];
        let intact = Frame::decode(rest).filter(|frame| {
            frame.number == scan.next
                && rest.get(FRAME..frame.size()).is_some_and(|payload| frame.fits(salt, payload))
        });
        if let Some(frame) = intact {
            at += frame.size();
            scan.next += 1;
            scan.end = at as u64;
            continue;
        }
        let Some((skip, number)) = find_intact(rest, salt, scan.next..u64::MAX) else { break };
        scan.gaps.push(Gap { first: scan.next, last: number - 1, bytes: skip as u64 });
        scan.places.push(Place { segment: first, offset: at as u64, bytes: skip as u64 });
        scan.next = number;
        at += skip;
    }
    scan.torn = content.len() as u64 - scan.end;
    scan
}
