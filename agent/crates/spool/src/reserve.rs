//! Room on the disk that is taken beforehand, so that a full one can still be freed.
//!
//! What frees a disk needs room itself: the batches that records of the journal become, losses and renames, what else must
//! be written down before a segment may go. So there is a folder of files without content, whose blocks are taken. On a disk
//! without space a new file is made of one of them: nobody else gets the blocks in between. Where a file that is there already
//! has no room to grow, some are given up, and what was refused is tried again at once. What is unlinked later goes back into
//! the reserve first, so that it goes round; beyond that it is taken again once others have what they are to have.
//!
//! ```text
//! reserve/00 …       each of no length, and some hundred KiB of blocks
//! ```
//!
//! It is a [`Storage`] over another one: who writes through it has the reserve. Copies that only save or help somebody
//! (`heads/`, `quarantine/`) don't.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use seglog::{File, Guard, Mode, Storage, is_full};

/// Folders of copies, for which it isn't there.
const COPIES: [&str; 2] = ["heads", "quarantine"];
/// With less free than so many parts the disk counts as full.
const NEARLY: u64 = 2;

/// How large a reserve is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Files that it is kept in, at most 64.
    pub count: u32,
    /// Bytes of each: what a new file can grow to.
    pub bytes: u64,
}

impl Parts {
    /// What suits a spool of this cap: a sixteenth of it, 1 MiB at least and 8 MiB at most. A part holds a batch of the usual
    /// size with its definitions, and is as large whatever the cap: another one makes no part useless that was taken.
    pub fn beside(max_bytes: u64) -> Self {
        let bytes = 256 << 10;
        let count = (max_bytes / 16 / bytes).clamp(4, 32);
        Self { count: count as u32, bytes }
    }
}

/// A disk with a reserve; clones share it.
#[derive(Clone)]
pub struct Reserve {
    inner: Arc<Inner>,
    /// So many parts are left to others who write through it.
    keeps: u32,
}

struct Inner {
    under: Arc<dyn Storage>,
    dir: PathBuf,
    parts: Parts,
    /// So much is left to others before more is taken.
    min_free: u64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// Which parts are there, as bits.
    there: u64,
    /// The disk refused something though it says that it has room, as where a quota is used up.
    refused: bool,
    /// Bytes that were unlinked and not yet taken into it again.
    freed: u64,
}

impl Reserve {
    /// Takes it, in files in `dir`, as far as the disk has room beyond `min_free`. What is there of before is kept. It never
    /// fails: without room, or without a folder, there is less of it.
    pub fn open(under: Arc<dyn Storage>, dir: &Path, parts: Parts, min_free: u64) -> Self {
        let dir = dir.to_owned();
        let parts = Parts { count: parts.count.min(64), ..parts };
        let inner = Inner { under, dir, parts, min_free, held: Mutex::default() };
        inner.find();
        inner.refill();
        Self { inner: Arc::new(inner), keeps: 0 }
    }

    /// The disk with it, for whoever must be able to write.
    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.clone())
    }

    /// The same for others than batches: half of it stays for what settles those.
    pub fn sparing(&self) -> Arc<dyn Storage> {
        Arc::new(Self { keeps: self.inner.parts.count / 2, ..self.clone() })
    }

    /// Takes again what is missing, as far as others have what they are to have. Returns at once when nothing is missing.
    pub fn refill(&self) {
        self.inner.refill();
    }

    /// Bytes that it holds now.
    pub fn left(&self) -> u64 {
        u64::from(self.inner.held.lock().there.count_ones()) * self.inner.parts.bytes
    }

    /// Bytes that it should hold.
    pub fn whole(&self) -> u64 {
        u64::from(self.inner.parts.count) * self.inner.parts.bytes
    }

    /// True while writing needs it.
    pub fn is_needed(&self) -> bool {
        self.inner.is_nearly_full() || self.inner.held.lock().refused
    }

    /// Bytes that it gives to those.
    pub fn spare(&self) -> u64 {
        self.left().saturating_sub(self.whole() / 2)
    }
}

impl Inner {
    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:02x}"))
    }

    fn is_nearly_full(&self) -> bool {
        // Of a disk that can't say how much is free a refusal tells.
        let free = self.under.free_bytes(self.dir.parent().unwrap_or(&self.dir));
        free.is_ok_and(|free| free < NEARLY * self.parts.bytes)
    }

    fn missing(&self, held: &Held) -> Option<u32> {
        Some(held.there.trailing_ones()).filter(|number| *number < self.parts.count)
    }

    /// Counts what is there. What a copy of a data folder has is holes: they are filled, or don't count. What has content is
    /// another name of a file that was made of a part when the power went.
    fn find(&self) {
        let names = self.under.list(&self.dir).unwrap_or_default();
        let mut held = self.held.lock();
        for name in names {
            let path = self.dir.join(&name);
            let number = u32::from_str_radix(&name, 16).ok().filter(|number| self.path(*number) == path);
            // What somebody else put there stays.
            let Some(number) = number else { continue };
            // There were more under another configuration.
            let counts = number < self.parts.count;
            match if counts { self.fill(&path, Mode::Write) } else { Err(io::ErrorKind::Other.into()) } {
                Ok(()) => held.there |= 1 << number,
                Err(_) => drop(self.under.remove(&path)),
            }
        }
    }

    /// Makes a part, or sees that it is one.
    fn fill(&self, path: &Path, mode: Mode) -> io::Result<()> {
        let file = self.under.open(path, mode)?;
        file.take_room(self.parts.bytes)?;
        match file.size()? {
            // Written, where the disk has no other way.
            size if size == 0 || size == self.parts.bytes => Ok(()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn refill(&self) {
        let mut held = self.held.lock();
        if self.missing(&held).is_none() {
            return;
        }
        if let Err(error) = self.under.create_dir_all(&self.dir) {
            tracing::debug!(%error, "no folder for the reserve");
            return;
        }
        while let Some(number) = self.missing(&held) {
            let free = self.under.free_bytes(&self.dir).unwrap_or(0);
            // Others have their share, and it isn't taken and given in turns.
            let wanted = self.min_free.saturating_add((NEARLY + 1) * self.parts.bytes);
            if free < wanted || !self.take(number, &mut held) {
                return;
            }
        }
    }

    fn take(&self, number: u32, held: &mut Held) -> bool {
        let path = self.path(number);
        if let Err(error) = self.fill(&path, Mode::Create) {
            tracing::debug!(%error, "the reserve can't be taken yet");
            drop(self.under.remove(&path));
            return false;
        }
        held.there |= 1 << number;
        held.refused = false;
        if self.missing(held).is_none() {
            tracing::info!(dir = %self.dir.display(), "the reserve for a full disk is whole");
            held.freed = 0;
        }
        true
    }

    /// On a disk that is nearly full a file of this name is made of a part.
    fn made_of_part(&self, path: &Path, keeps: u32) -> Option<Box<dyn File>> {
        if is_copy(path) || !self.is_nearly_full() {
            return None;
        }
        let mut held = self.held.lock();
        let number = (held.there.count_ones() > keeps).then(|| held.there.trailing_zeros())?;
        let part = self.path(number);
        let file = self.under.open(&part, Mode::Write).ok()?;
        // One that had to be written is given up when it is needed.
        if file.size().ok()? > 0 {
            return None;
        }
        self.under.rename(&part, path).ok()?;
        held.there &= !(1 << number);
        tracing::debug!(path = %path.display(), left = held.there.count_ones(), "the disk is full: a file is made of the reserve");
        Some(file)
    }

    /// Gives up as much of it as a write of so many bytes may need. False when nothing was left.
    fn give(&self, bytes: u64, keeps: u32) -> bool {
        let refused = !self.is_nearly_full();
        let mut held = self.held.lock();
        held.refused |= refused;
        let mut given = 0;
        while given < bytes.max(1) && held.there.count_ones() > keeps {
            let number = held.there.trailing_zeros();
            held.there &= !(1 << number);
            match self.under.remove(&self.path(number)) {
                Ok(()) => given += self.parts.bytes,
                Err(error) => tracing::warn!(%error, "a part of the reserve can't be given up"),
            }
        }
        if given == 0 {
            return false;
        }
        tracing::debug!(
            given,
            left = held.there.count_ones(),
            "the disk is full: some of the reserve is given up"
        );
        // DURABILITY: file systems with a journal give blocks of a removed file only once that is committed.
        if let Err(error) = self.under.sync_dir(&self.dir) {
            tracing::debug!(%error, "what was given up may be free only later");
        }
        true
    }

    /// Does something, and again with what the reserve gives while the disk says that it has no space.
    fn with_room<T>(
        &self,
        path: &Path,
        bytes: u64,
        keeps: u32,
        act: impl Fn() -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match act() {
                Err(error) if is_full(&error) && !is_copy(path) && self.give(bytes, keeps) => {}
                done => return done,
            }
        }
    }

    /// Something was unlinked: what is missing of the reserve has the room first.
    fn freed(&self, bytes: u64) {
        let mut held = self.held.lock();
        held.freed += bytes;
        while held.freed >= self.parts.bytes
            && let Some(number) = self.missing(&held)
        {
            if !self.take(number, &mut held) {
                return;
            }
            held.freed = held.freed.saturating_sub(self.parts.bytes);
        }
    }

    /// How much comes free with a file, where that counts.
    fn taken_if_missing(&self, path: &Path) -> u64 {
        if self.missing(&self.held.lock()).is_none() {
            return 0;
        }
        self.under.open(path, Mode::Read).and_then(|file| file.taken()).unwrap_or(0)
    }
}

fn is_copy(path: &Path) -> bool {
    path.iter().any(|part| COPIES.iter().any(|copies| part == *copies))
}

impl Storage for Reserve {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.with_room(dir, 1, self.keeps, || self.inner.under.create_dir_all(dir))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.under.list(dir)
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn File>> {
        if mode == Mode::Read {
            return self.inner.under.open(path, mode);
        }
        let part = if mode == Mode::Create { self.inner.made_of_part(path, self.keeps) } else { None };
        let file = match part {
            Some(file) => file,
            None => self.inner.with_room(path, 1, self.keeps, || self.inner.under.open(path, mode))?,
        };
        Ok(Box::new(Backed { file, path: path.to_owned(), reserve: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let replaced = self.inner.taken_if_missing(to);
        self.inner.with_room(to, 1, self.keeps, || self.inner.under.rename(from, to))?;
        self.inner.freed(replaced);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.inner.taken_if_missing(path);
        self.inner.under.remove(path)?;
        self.inner.freed(removed);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.under.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Guard>>> {
        self.inner.with_room(path, 1, self.keeps, || self.inner.under.lock(path))
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.inner.under.free_bytes(dir)
    }

    fn concurrent(&self) -> bool {
        self.inner.under.concurrent()
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.under.random(bytes)
    }
}

/// A file that is written with the reserve behind it.
struct Backed {
    file: Box<dyn File>,
    path: PathBuf,
    reserve: Reserve,
}

impl File for Backed {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let Reserve { inner, keeps } = &self.reserve;
        inner.with_room(&self.path, bytes.len() as u64, *keeps, || self.file.write_at(bytes, offset))
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn take_room(&self, bytes: u64) -> io::Result<()> {
        self.file.take_room(bytes)
    }

    fn taken(&self) -> io::Result<u64> {
        self.file.taken()
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn forget_cache(&self) {
        self.file.forget_cache();
    }
}
