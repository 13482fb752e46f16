//! The reader: records in order, from any number on, past damage, up to what was written.
//!
//! It never writes. It shares only the [`Index`] with the writer: while the log grows it sees the
//! new end there, and when a segment was released under it, it goes on with the next.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::ReadError;
use crate::format::{FRAME, Frame, HEADER, Header, find_intact};
use crate::index::{self, Index, Place, View};
use crate::mark::Mark;
use crate::quarantine::Quarantine;
use crate::recover::{self, Gap, read_damaged};
use crate::storage::{File, Mode, Storage, is_unreadable};

/// Read at once, where a record isn't larger.
const CHUNK: usize = 256 << 10;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its number.
    pub number: u64,
    /// The number that its segment begins with: another one means another segment.
    pub segment_first: u64,
    /// Its bytes.
    pub payload: &'a [u8],
}

/// A damaged place: bytes of a segment that are no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment's file.
    pub file: PathBuf,
    /// The number that the segment begins with.
    pub first: u64,
    /// Where the place begins in the file.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

/// A segment that the disk doesn't give, or in whose place something else stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its file.
    pub file: PathBuf,
    /// The number that it begins with.
    pub first: u64,
    /// What the disk says, or what stands there.
    pub why: String,
}

/// Makes readers of one log; cheap to clone, independent of the writer.
#[derive(Clone)]
pub struct Readers {
    storage: Arc<dyn Storage>,
    dir: Arc<Path>,
    index: Arc<Index>,
    unreadable: Arc<[Unreadable]>,
    /// As it was before the log was listed by [`crate::inspect`].
    mark: Option<Mark>,
}

impl Readers {
    pub(crate) fn new(storage: Arc<dyn Storage>, dir: &Path, index: Arc<Index>) -> Self {
        Self { storage, dir: dir.into(), index, unreadable: Arc::default(), mark: None }
    }

    /// The same for who only looks: nobody waits for these segments, and readers go on behind them.
    pub(crate) fn without(self, unreadable: Vec<Unreadable>, mark: Option<Mark>) -> Self {
        unreadable.iter().for_each(|segment| self.pass_over(segment.first));
        Self { unreadable: unreadable.into(), mark, ..self }
    }

    /// The segments that could not be read when a log was listed by [`crate::inspect`]: what was in them is missing to readers.
    /// Opening the log moves them to quarantine.
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// The last record of a log that is looked at; 0 where there never was one, `None` where the newest segment can't be read.
    pub fn last(&self) -> Option<u64> {
        let (follows, _) = recover::end(&*self.storage, &self.dir, &self.index.segments())?;
        Some(follows - 1)
    }

    /// Records at the end of a log that is looked at which were confirmed, by the mark beside it, and are gone.
    pub fn cut_off(&self) -> Option<(Gap, Mark)> {
        let mark = self.mark?;
        let (first, bytes) = recover::end(&*self.storage, &self.dir, &self.index.segments())?;
        (mark.number >= first).then_some((Gap { first, last: mark.number, bytes }, mark))
    }

    /// The damaged places that readers of this handle have met so far, in order.
    pub fn damage(&self) -> Vec<Damage> {
        self.files(self.index.damage())
    }

    /// Bytes that readers of this handle have met behind the last record of a segment that isn't the last, while no record is
    /// missing: torn off by a crash before they were confirmed, or put there by somebody else.
    pub fn tails(&self) -> Vec<Damage> {
        self.files(self.index.tails())
    }

    fn files(&self, places: Vec<Place>) -> Vec<Damage> {
        places
            .into_iter()
            .filter_map(|place| {
                let salt = self.index.view(place.segment)?.salt;
                let file = index::path(&self.dir, place.segment, salt);
                Some(Damage { file, first: place.segment, offset: place.offset, bytes: place.bytes })
            })
            .collect()
    }

    /// True when the segment that held a number was unlinked since it was listed: whoever looks at a log in use takes
    /// that for no damage.
    pub fn freed(&self, number: u64) -> bool {
        let Some(first) = self.index.containing(number) else { return false };
        let Some(view) = self.index.view(first) else { return true };
        let opened = self.storage.open(&index::path(&self.dir, first, view.salt), Mode::Read);
        opened.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Copies a damaged place to `quarantine/` beside the segments, as opening and releasing do. The copy's path;
    /// `None` where there is one already, nothing but zeros, or no room.
    pub fn quarantine(&self, damage: &Damage) -> Option<PathBuf> {
        let place = Place { segment: damage.first, offset: damage.offset, bytes: damage.bytes };
        Quarantine::new(&self.dir).copy(&*self.storage, &damage.file, place)
    }

    /// Whether [`Readers::quarantine`] would make a copy now: false once it has.
    pub fn is_to_be_copied(&self, damage: &Damage) -> bool {
        let place = Place { segment: damage.first, offset: damage.offset, bytes: damage.bytes };
        Quarantine::new(&self.dir).wanted(&*self.storage, &damage.file, place).is_some()
    }

    /// The same as [`Reader::pass_over`] for whoever has no reader at hand.
    pub fn pass_over(&self, segment: u64) {
        self.index.pass_over(segment);
    }

    /// A reader whose first entry is the first with this number or a higher one.
    pub fn reader(&self, from: u64) -> Reader {
        Reader {
            log: self.clone(),
            from,
            expected: from,
            open: None,
            gaps: Vec::new(),
            torn: 0,
            behind: false,
        }
    }

    /// The same for whoever had all records before `from`, and released none from it on: where the log begins later, what is
    /// missing is a gap.
    pub fn reader_behind(&self, from: u64) -> Reader {
        Reader { behind: true, ..self.reader(from) }
    }

    /// The number that the segment which holds `number` begins with: where to read from to see all
    /// of it. For a number that isn't there any more, that of the oldest segment.
    pub fn segment_first(&self, number: u64) -> u64 {
        self.index.containing(number).unwrap_or(number)
    }

    /// Oldest number still there; equal to [`Readers::next`] when there is none.
    pub fn first(&self) -> u64 {
        self.index.first().unwrap_or_else(|| self.next())
    }

    /// One more than the last record that was written.
    pub fn next(&self) -> u64 {
        self.index.tail()
    }

    /// Segments, and their bytes.
    pub fn size(&self) -> (usize, u64) {
        let segments = self.index.segments();
        (segments.len(), segments.iter().map(|segment| segment.end).sum())
    }

    /// Path, first number and bytes of each segment, oldest first.
    pub fn segments(&self) -> Vec<(PathBuf, u64, u64)> {
        let segments = self.index.segments();
        segments.into_iter().map(|s| (index::path(&self.dir, s.first, s.salt), s.first, s.end)).collect()
    }
}

struct Open {
    first: u64,
    /// `None` for a segment whose file is missing.
    file: Option<Box<dyn File>>,
    /// What was read: `buf[at..filled]` is still to be parsed, `base` is the offset of `buf[0]`.
    buf: Vec<u8>,
    filled: usize,
    at: usize,
    base: u64,
    /// As of the last look at the index.
    view: View,
    /// Where bytes begin that are no record and have none behind them.
    bad_from: Option<u64>,
}

enum Step {
    Record { number: u64, start: usize, len: usize },
    Again,
    Nothing,
}

/// Reads records in order, up to what was written. Never writes.
pub struct Reader {
    log: Readers,
    from: u64,
    /// The number that the next record should have.
    expected: u64,
    open: Option<Open>,
    gaps: Vec<Gap>,
    torn: u64,
    /// All from `from` on is to be there.
    behind: bool,
}

impl Reader {
    /// The next record, or `None` when no more is written yet: call it again later.
    ///
    /// # Errors
    /// [`ReadError`] when a segment can't be opened. The reader stays where it is, so that the
    /// call can be repeated. Damage is no error: see [`Reader::take_gaps`].
    #[allow(clippy::should_implement_trait, reason = "it lends, which an Iterator can't")]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, ReadError> {
        let found = self.seek()?;
        Ok(self.entry(found))
    }

    /// The same with what [`Reader::take_gaps`] would say before it.
    pub(crate) fn next_with_gaps(&mut self) -> Result<(Vec<Gap>, Option<Entry<'_>>), ReadError> {
        let found = self.seek()?;
        Ok((self.take_gaps(), self.entry(found)))
    }

    /// Number, and place in the buffer, of the next record.
    fn seek(&mut self) -> Result<Option<(u64, Range<usize>)>, ReadError> {
        loop {
            match self.step()? {
                Step::Record { number, start, len } if number >= self.from => {
                    return Ok(Some((number, start..start + len)));
                }
                Step::Record { .. } | Step::Again => {}
                Step::Nothing => return Ok(None),
            }
        }
    }

    fn entry(&self, found: Option<(u64, Range<usize>)>) -> Option<Entry<'_>> {
        let ((number, at), open) = found.zip(self.open.as_ref())?;
        Some(Entry { number, segment_first: open.first, payload: &open.buf[at] })
    }

    /// The damage that was passed since the last call, from the reader's first number on.
    pub fn take_gaps(&mut self) -> Vec<Gap> {
        std::mem::take(&mut self.gaps)
    }

    /// After a [`ReadError`] that doesn't pass: the segment counts as damaged, for this reader and all others of the log,
    /// and they go on with the next one. Its file is kept in quarantine when its turn comes to be unlinked.
    pub fn pass_over(&mut self, error: &ReadError) {
        self.log.pass_over(error.segment);
    }

    /// Bytes at the very end that were no record, nor had one behind them, when the reader came there: being written
    /// by a living writer, or a dead one's last.
    pub fn torn_bytes(&self) -> u64 {
        self.torn
    }

    fn step(&mut self) -> Result<Step, ReadError> {
        let Some(open) = &mut self.open else {
            let Some(first) = self.log.index.containing(self.from) else { return Ok(Step::Nothing) };
            return self.enter(first, false);
        };
        if open.offset() < open.view.end {
            return Ok(self.parse());
        }
        match self.log.index.view(open.first) {
            // Released: nobody needs the rest of it.
            None => match self.log.index.following(open.first) {
                Some(first) => self.enter(first, false),
                None => Ok(Step::Nothing),
            },
            Some(view) if view.end > open.view.end => {
                open.view = view;
                Ok(Step::Again)
            }
            Some(View { following: Some(first), .. }) => self.enter(first, true),
            Some(View { following: None, .. }) => Ok(Step::Nothing),
        }
    }

    /// Goes to the beginning of a segment; `whole` says that the one before it was read to its end,
    /// so that what is missing between them is missing.
    fn enter(&mut self, first: u64, whole: bool) -> Result<Step, ReadError> {
        let Some(mut view) = self.log.index.view(first) else { return Ok(Step::Again) };
        // Created, but nothing is written yet.
        if view.end == 0 && view.following.is_none() {
            return Ok(Step::Nothing);
        }
        let path = index::path(&self.log.dir, first, view.salt);
        let file = match self.log.storage.open(&path, Mode::Read) {
            Ok(file) => Some(file),
            Err(error) if is_unreadable(&error) && self.log.index.is_passed_over(first) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.log.index.view(first).is_none() {
                    return Ok(Step::Again);
                }
                None
            }
            Err(source) => return Err(ReadError { path, segment: first, source }),
        };
        // When the log was opened the system may not have given it, and not even said how large it is.
        if view.end == 0
            && let Some(file) = &file
        {
            view.end = file.size().map_err(|source| ReadError { path, segment: first, source })?;
            self.log.index.learn(first, view.end);
        }
        let mut head = [0; HEADER];
        if let Some(file) = &file {
            read_damaged(&**file, &mut head, 0);
        }
        let header = Header::decode(&head);
        if whole {
            let follows = header.map_or(first, |header| header.follows.min(first));
            let open = self.open.as_ref();
            let bad = open.and_then(|open| Some((open.first, open.bad_from?, open.view.end)));
            let bytes = bad.map_or(0, |(_, from, end)| end.saturating_sub(from));
            if self.expected < follows {
                self.gap(follows - 1, bytes);
                if let Some((segment, offset, _)) = bad {
                    self.log.index.note_damage(Place { segment, offset, bytes });
                }
            } else if let Some((segment, offset, _)) = bad {
                self.log.index.note_tail(Place { segment, offset, bytes });
            }
        }
        if std::mem::take(&mut self.behind) {
            let follows = header.map_or(first, |header| header.follows.min(first));
            if self.expected < follows {
                self.gap(follows - 1, 0);
            }
        }
        self.expected = first;
        if header.is_none() && file.is_some() && view.end > 0 {
            let bytes = view.end.min(HEADER as u64);
            self.gap(first - 1, bytes);
            self.log.index.note_damage(Place { segment: first, offset: 0, bytes });
        }
        let base = view.end.min(HEADER as u64);
        let buf = self.open.take().map(|open| open.buf).unwrap_or_default();
        self.open = Some(Open { first, file, buf, filled: 0, at: 0, base, view, bad_from: None });
        Ok(Step::Again)
    }

    /// Reports that everything from the expected number to `last` is gone.
    fn gap(&mut self, last: u64, bytes: u64) {
        let first = self.expected.max(self.from);
        if last >= self.from && last + 1 >= first {
            self.gaps.push(Gap { first, last, bytes });
        }
        self.expected = self.expected.max(last + 1);
    }

    /// The record at the current place, which lies before the end.
    fn parse(&mut self) -> Step {
        let expected = self.expected;
        let Some(open) = &mut self.open else { return Step::Nothing };
        let highest = open.view.following.unwrap_or(u64::MAX);
        open.fill(FRAME);
        let frame = Frame::decode(open.rest()).filter(|frame| {
            (expected..highest).contains(&frame.number)
                && frame.size() as u64 <= open.view.end - open.offset()
        });
        if let Some(frame) = frame {
            open.fill(frame.size());
            let rest = open.rest();
            if rest.get(FRAME..frame.size()).is_some_and(|payload| frame.fits(open.view.salt, payload)) {
                let start = open.at + FRAME;
                open.at += frame.size();
                if frame.number > expected {
                    self.gap(frame.number - 1, 0);
                }
                self.expected = frame.number + 1;
                return Step::Record { number: frame.number, start, len: frame.len as usize };
            }
        }
        self.pass_damage(highest)
    }

    /// From a bad record to the next intact one, or to the end of the segment.
    fn pass_damage(&mut self, highest: u64) -> Step {
        let expected = self.expected;
        let Some(open) = &mut self.open else { return Step::Nothing };
        let offset = open.offset();
        let left = (open.view.end - offset) as usize;
        open.fill(left);
        if let Some((skip, number)) = find_intact(open.rest(), open.view.salt, expected..highest) {
            open.at += skip;
            let place = Place { segment: open.first, offset, bytes: skip as u64 };
            self.log.index.note_damage(place);
            self.gap(number - 1, skip as u64);
            return Step::Again;
        }
        open.at = open.filled;
        if open.view.following.is_some() {
            // The next segment's header says whether records are missing, or the tail was torn.
            open.bad_from = Some(offset);
        } else if open.view.tail > expected {
            let place = Place { segment: open.first, offset, bytes: left as u64 };
            let last = open.view.tail - 1;
            self.log.index.note_damage(place);
            self.gap(last, left as u64);
        } else {
            self.torn = left as u64;
        }
        Step::Again
    }
}

impl Open {
    fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    fn rest(&self) -> &[u8] {
        &self.buf[self.at..self.filled]
    }

    /// Makes `n` bytes available at the current place, or as many as there are before the end.
    fn fill(&mut self, n: usize) {
        if self.filled - self.at >= n {
            return;
        }
        self.buf.copy_within(self.at..self.filled, 0);
        self.filled -= self.at;
        self.base += self.at as u64;
        self.at = 0;
        let there = self.view.end - self.base;
        let want = there.min(n.max(CHUNK) as u64) as usize;
        if self.buf.len() < want {
            self.buf.resize(want, 0);
        } else if self.buf.len() > 16 * CHUNK && want <= CHUNK {
            self.buf.truncate(want.max(self.filled));
            self.buf.shrink_to_fit();
        }
        if want > self.filled {
            let target = &mut self.buf[self.filled..want];
            match &self.file {
                Some(file) => read_damaged(&**file, target, self.base + self.filled as u64),
                None => target.fill(0),
            }
            self.filled = want;
        }
    }
}
