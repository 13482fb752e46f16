//! The writer: buffers records, writes them, makes them durable, begins and unlinks segments.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{AppendError, OpenError, ReleaseError, SyncError};
use crate::format::{FRAME, HEADER, Header, put_record};
use crate::index::{self, Index};
use crate::mark::{Mark, Marker};
use crate::quarantine::Quarantine;
use crate::reader::{Reader, Readers, Unreadable};
use crate::recover::{self, Recovery};
use crate::storage::{File, Guard, Mode, Storage, is_full, is_unreadable};

/// Records in memory beyond this are written, though not synced, before another is taken.
const WRITE_AT: usize = 1 << 20;
/// A buffer that one large record made larger than this is given back.
const KEEP_BUFFER: usize = 4 << 20;

/// Sizes of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A record that would make a segment larger than this begins a new one. A segment is what is
    /// freed at once, and what is read again to find a place in it.
    pub segment_bytes: u64,
    /// Largest payload that is taken.
    pub max_record: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 4 << 20, max_record: 16 << 20 }
    }
}

/// The segment that is being written.
struct Active {
    file: Box<dyn File>,
    /// Bytes of it that were written; the buffer goes behind them.
    written: u64,
    /// Records in it, buffered ones too.
    records: u64,
    /// True when everything written is durable.
    synced: bool,
    /// True when its directory entry is durable.
    linked: bool,
}

/// The single writer of a log. Calls block.
pub struct Log {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    options: Options,
    index: Arc<Index>,
    quarantine: Quarantine,
    active: Option<Active>,
    buf: Vec<u8>,
    next: u64,
    /// One more than the last record: lower than `next` after numbers were skipped.
    follows: u64,
    durable: u64,
    marker: Marker,
    poison: Option<String>,
    _lock: Box<dyn Guard>,
}

impl Log {
    /// Opens a log, or creates it where there is none. Damage is copied to `quarantine/` in its
    /// directory, reported and passed over. Nothing is written to segments that are there; the next
    /// record begins a new one.
    ///
    /// # Errors
    /// [`OpenError`] when the directory can't be made, listed or locked; never for damage. When
    /// what is there can't be proven durable, the log opens poisoned and
    /// [`Recovery::unverified`] says why: it can be read, but takes nothing.
    pub fn open(
        storage: Arc<dyn Storage>,
        dir: &Path,
        options: Options,
    ) -> Result<(Self, Recovery), OpenError> {
        let lock = recover::lock(&*storage, dir)?;
        let found = recover::recover(&*storage, dir)?;
        let log = Self {
            index: Arc::new(Index::new(found.salt, found.segments, found.follows)),
            quarantine: Quarantine::new(dir),
            storage,
            dir: dir.to_owned(),
            options,
            active: None,
            buf: Vec::new(),
            next: found.next,
            follows: found.follows,
            durable: found.durable,
            marker: Marker::new(dir),
            poison: found.recovery.unverified.clone(),
            _lock: lock,
        };
        Ok((log, found.recovery))
    }

    /// Number the next record will get. From 1, consecutive, but for numbers that a torn tail may
    /// have used and those passed over by [`Log::skip_to`]; never given twice.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Oldest number still there; equal to [`Log::next`] when there is none.
    pub fn first(&self) -> u64 {
        self.index.first().unwrap_or(self.next).min(self.next)
    }

    /// The last number known to be durable; 0 before the first.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Would a record of this size begin a new segment?
    pub fn starts_segment(&self, len: usize) -> bool {
        self.active.as_ref().is_none_or(|active| {
            let used = active.written + self.buf.len() as u64;
            active.records > 0 && used + (FRAME + len) as u64 > self.options.segment_bytes
        })
    }

    /// Takes a record and returns its number. It is in memory then; [`Log::sync`] makes it durable.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was taken then, and [`AppendError::Full`] and
    /// [`AppendError::Io`] may pass.
    pub fn append(&mut self, payload: &[u8]) -> Result<u64, AppendError> {
        self.alive().map_err(AppendError::Poisoned)?;
        if payload.len() > self.options.max_record as usize {
            return Err(AppendError::TooLarge { len: payload.len(), max: self.options.max_record });
        }
        if self.starts_segment(payload.len()) {
            self.roll()?;
            self.begin()?;
        } else if self.buf.len() >= WRITE_AT {
            self.write_out()?;
        }
        let number = self.next;
        put_record(&mut self.buf, self.index.salt, number, payload);
        if let Some(active) = &mut self.active {
            active.records += 1;
            active.synced = false;
        }
        self.next += 1;
        self.follows = self.next;
        Ok(number)
    }

    /// Makes everything taken so far durable and returns the last durable number.
    ///
    /// # Errors
    /// [`SyncError::Full`]: what isn't written stays in memory, and after space was freed this can
    /// be called again. [`SyncError::Poisoned`]: nothing more is ever durable in this log.
    pub fn sync(&mut self) -> Result<u64, SyncError> {
        self.alive().map_err(SyncError::Poisoned)?;
        self.write_out()?;
        let dir = &self.dir;
        let Some(active) = &mut self.active else { return Ok(self.durable) };
        if active.records == 0 || (active.synced && active.linked) {
            return Ok(self.durable);
        }
        // DURABILITY: the data before the name, and both before the mark. A name without its data
        // is an empty segment, which recovery knows; data without a name would be lost.
        let result = active.file.sync().and_then(|()| {
            active.synced = true;
            if !active.linked {
                self.storage.sync_dir(dir)?;
                active.linked = true;
            }
            Ok(())
        });
        match result {
            Ok(()) => {
                self.durable = self.follows - 1;
                Ok(self.durable)
            }
            Err(error) => Err(SyncError::Poisoned(
                self.poison(format!("fsync in {} failed: {error}", self.dir.display())),
            )),
        }
    }

    /// Leaves beside the log how far it is durable, with what its owner has to say of that: should its end be cut off, the next
    /// opening knows ([`Recovery::cut_off`]). One small write, and no fsync.
    pub fn confirm(&mut self, note: [u64; 3]) {
        if self.poison.is_none() {
            self.marker.set(&*self.storage, Mark { number: self.durable, note, salt: self.index.salt });
        }
    }

    /// Makes the current segment durable and lets the next record begin a new one.
    ///
    /// # Errors
    /// As [`Log::sync`].
    pub fn roll(&mut self) -> Result<(), AppendError> {
        if self.active.as_ref().is_some_and(|active| active.records > 0) {
            // DURABILITY: a segment is durable before the next one exists, so that only the newest
            // can be torn.
            self.sync()?;
            self.active = None;
        }
        Ok(())
    }

    /// Makes the next record's number at least `number`; for owners who know from elsewhere that
    /// lower ones were used, though the log's files are gone. What is skipped is no damage.
    ///
    /// # Errors
    /// As [`Log::sync`].
    pub fn skip_to(&mut self, number: u64) -> Result<(), AppendError> {
        if number <= self.next {
            return Ok(());
        }
        self.alive().map_err(AppendError::Poisoned)?;
        self.roll()?;
        // A segment that was begun but got no record has another number in its name.
        self.active = None;
        self.buf.clear();
        self.next = number;
        Ok(())
    }

    /// Unlinks the segments whose records are all at or below `upto`, oldest first, and returns
    /// the bytes freed. The newest segment stays: its name remembers the numbers. The caller has
    /// made durable whatever says that these records aren't needed any more.
    ///
    /// # Errors
    /// [`ReleaseError`]; may pass. Segments that could not be unlinked are still there.
    pub fn release(&mut self, upto: u64) -> Result<u64, ReleaseError> {
        self.link()?;
        let mut freed = 0;
        let mut result = Ok(());
        while let Some(segment) = self.index.take_released(upto) {
            match self.unlink(segment) {
                Ok(bytes) => freed += bytes,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        if freed > 0 {
            self.sync_names()?;
        }
        result.map(|()| freed)
    }

    /// Unlinks one segment, wherever it lies, and returns the bytes freed: for owners who keep what is
    /// needed of it further on in the log. To a reader its records are missing. 0 for the newest segment,
    /// which stays, and for a number that no segment begins with.
    ///
    /// # Errors
    /// [`ReleaseError`]; may pass. The segment is still there.
    pub fn release_segment(&mut self, first: u64) -> Result<u64, ReleaseError> {
        self.link()?;
        let Some(segment) = self.index.take_segment(first) else { return Ok(0) };
        let freed = self.unlink(segment)?;
        self.sync_names()?;
        Ok(freed)
    }

    /// Unlinks a segment that was taken from the index; puts it back when that fails.
    fn unlink(&mut self, segment: index::Segment) -> Result<u64, ReleaseError> {
        let path = index::path(&self.dir, segment.first, segment.salt);
        for place in self.index.take_damage(segment.first) {
            self.quarantine.copy(&*self.storage, &path, place);
        }
        // What the disk didn't give it may give once it is repaired, or to someone who knows how.
        if self.index.is_passed_over(segment.first) && self.quarantine.take(&*self.storage, &path).is_ok() {
            return Ok(segment.end);
        }
        match self.storage.remove(&path) {
            Ok(()) => Ok(segment.end),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(source) => {
                self.index.put_back(segment);
                Err(ReleaseError { path, source })
            }
        }
    }

    /// DURABILITY: not needed for correctness, a segment that comes back is released again; but space
    /// counts as free only when it stays free.
    fn sync_names(&self) -> Result<(), ReleaseError> {
        self.storage.sync_dir(&self.dir).map_err(|source| ReleaseError { path: self.dir.clone(), source })
    }

    /// Bytes in all segments and in memory.
    pub fn bytes(&self) -> u64 {
        self.index.bytes() + self.buf.len() as u64
    }

    /// Why it takes nothing any more.
    pub fn poisoned(&self) -> Option<&str> {
        self.poison.as_deref()
    }

    /// A reader whose first entry is the first with this number or a higher one.
    pub fn reader(&self, from: u64) -> Reader {
        self.readers().reader(from)
    }

    /// A handle that makes readers on other threads.
    pub fn readers(&self) -> Readers {
        Readers::new(Arc::clone(&self.storage), &self.dir, Arc::clone(&self.index))
    }

    /// DURABILITY: the newest segment's name must be there to stay before an older one goes: it is
    /// what remembers the numbers. Else a crash could leave no segment at all, and number 1 again.
    fn link(&mut self) -> Result<(), ReleaseError> {
        let Some(active) = self.active.as_mut().filter(|active| !active.linked) else { return Ok(()) };
        let result = match &self.poison {
            Some(reason) => Err(std::io::Error::other(reason.clone())),
            None => self.storage.sync_dir(&self.dir),
        };
        active.linked = result.is_ok();
        result.map_err(|source| {
            self.poison(format!("fsync of {} failed: {source}", self.dir.display()));
            ReleaseError { path: self.dir.clone(), source }
        })
    }

    fn alive(&self) -> Result<(), String> {
        self.poison.clone().map_or(Ok(()), Err)
    }

    fn poison(&mut self, reason: String) -> String {
        self.poison.get_or_insert(reason).clone()
    }

    /// Creates the file of the next segment. Its header goes out with its first records.
    fn begin(&mut self) -> Result<(), AppendError> {
        if self.active.is_some() {
            return Ok(());
        }
        let path = index::path(&self.dir, self.next, self.index.salt);
        // NOTE: a file of this name holds no record, else its number had been used: recovery counted
        // each that may be in there.
        let file = self.storage.open(&path, Mode::Create).map_err(|source| {
            if is_full(&source) {
                AppendError::Full(self.dir.clone())
            } else {
                AppendError::Io { path, source }
            }
        })?;
        self.index.begin(self.next);
        let header = Header { first: self.next, follows: self.follows };
        self.buf.clear();
        self.buf.extend_from_slice(&header.encode());
        self.active = Some(Active { file, written: 0, records: 0, synced: false, linked: false });
        Ok(())
    }

    /// Writes the buffer behind what was written. After "no space" the same bytes are written to
    /// the same place again, so a part that went through does no harm.
    fn write_out(&mut self) -> Result<(), SyncError> {
        let Some(active) = &mut self.active else { return Ok(()) };
        if self.buf.is_empty() || active.records == 0 {
            return Ok(());
        }
        match active.file.write_at(&self.buf, active.written) {
            Ok(()) => {
                active.written += self.buf.len() as u64;
                self.index.grow(active.written, self.follows);
                self.buf.clear();
                if self.buf.capacity() > KEEP_BUFFER {
                    self.buf = Vec::new();
                }
                Ok(())
            }
            Err(error) if is_full(&error) => Err(SyncError::Full(self.dir.clone())),
            Err(error) => Err(SyncError::Poisoned(
                self.poison(format!("writing in {} failed: {error}", self.dir.display())),
            )),
        }
    }
}

impl From<SyncError> for AppendError {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::Full(dir) => Self::Full(dir),
            SyncError::Poisoned(reason) => Self::Poisoned(reason),
        }
    }
}

/// Readers of a log without becoming its writer: nothing is written, locked or repaired. For
/// commands that look at a log, even one in use; they see what was there when it was opened. What the disk doesn't give
/// keeps nobody from the rest: see [`Readers::unreadable`].
///
/// # Errors
/// [`OpenError`] when the directory can't be listed, or the system doesn't open a segment for want of rights or file handles:
/// such a one would pass for an empty one.
pub fn inspect(storage: Arc<dyn Storage>, dir: &Path) -> Result<Readers, OpenError> {
    // Before the list: a writer may go on meanwhile.
    let mark = Mark::read(&*storage, dir);
    let found = recover::list(&*storage, dir)?;
    let mark = mark.filter(|mark| mark.is_of(&found));
    let mut unreadable = Vec::new();
    for segment in found.iter().filter(|segment| segment.end == 0) {
        let path = index::path(dir, segment.first, segment.salt);
        match storage.open(&path, Mode::Read).and_then(|file| file.size()) {
            Err(source) if is_unreadable(&source) => {
                unreadable.push(Unreadable { file: path, first: segment.first, why: source.to_string() });
            }
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(OpenError::Io { doing: "read", path, source });
            }
            // Freed meanwhile, or empty.
            _ => {}
        }
    }
    Ok(Readers::new(storage, dir, Arc::new(Index::new(0, found.into(), 0))).without(unreadable, mark))
}

// Segments begin with a header, so a limit below it would begin one for each record: harmless.
const _: () = assert!(HEADER < WRITE_AT);
