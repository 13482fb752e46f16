//! What the log needs of a disk, as a trait: the real one is [`crate::Disk`], the faulty one of the
//! tests is `crate::sim::SimDisk` (feature `sim`).
//!
//! Everything that may fail in the field goes through here, so that a test can make it fail.

use std::io;
use std::path::Path;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// An existing file, for reading only.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A file that is empty afterwards, whether or not it was there before.
    Create,
}

/// A file system, as far as the log uses it. Calls block.
pub trait Storage: Send + Sync + 'static {
    /// Creates a directory and those above it; fine when it is there already. What stands in the place of one and is none
    /// gets another name.
    ///
    /// # Errors
    /// What the disk says.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Names of the files in a directory, in no order.
    ///
    /// # Errors
    /// What the disk says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Opens a file, and never waits for it: what stands in its place and is no file is not opened, or gets another name
    /// where a new one is created.
    ///
    /// # Errors
    /// What the disk says; [`NotRegular`](crate::NotRegular) for what is no file; `NotFound` where [`Mode::Read`] or [`Mode::Write`] finds none.
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn File>>;

    /// Gives a file another name, replacing what had it.
    ///
    /// # Errors
    /// What the disk says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Unlinks a file.
    ///
    /// # Errors
    /// What the disk says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes creations, renames and unlinks in a directory durable.
    ///
    /// # Errors
    /// What the disk says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the lock file at `path` for as long as the guard lives; `None` when another has it. What stands there and is no
    /// file gets another name.
    ///
    /// # Errors
    /// What the disk says.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Guard>>>;

    /// Bytes that an ordinary process may still write on the disk that holds `dir`.
    ///
    /// # Errors
    /// What the disk says.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// Whether several threads may read at once without changing what happens: a simulated disk draws its faults in
    /// the order of the calls.
    fn concurrent(&self) -> bool {
        false
    }

    /// Fills `bytes` with randomness that nobody can foresee: salts and epochs are drawn here. A simulated
    /// disk draws from its seed, so that a run can be repeated.
    ///
    /// # Errors
    /// When the system has none.
    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        getrandom::fill(bytes).map_err(|error| io::Error::other(error.to_string()))
    }
}

/// A lock that is held while this lives.
pub trait Guard: Send + Sync {}

/// One open file. Positioned reads and writes only, so that it can be shared.
pub trait File: Send + Sync {
    /// Reads up to `buf.len()` bytes; fewer only at the end of the file.
    ///
    /// # Errors
    /// What the disk says.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes`. After an error any part of it may have been written.
    ///
    /// # Errors
    /// What the disk says; `StorageFull` or `QuotaExceeded` where there is no space.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes what was written durable (fdatasync: data, and length where it grew).
    ///
    /// # Errors
    /// What the disk says. Then nothing is known of what was written since the last success, and
    /// a second call that succeeds proves nothing.
    fn sync(&self) -> io::Result<()>;

    /// Takes room on the disk for so many bytes from the beginning of the file on, which nobody else can have then. What is in
    /// the file stays as it is; its length, too, where the disk has a call for that. Where it has none, noise is written behind
    /// what is there: zeros may be compressed to nothing.
    ///
    /// # Errors
    /// What the disk says; `StorageFull` or `QuotaExceeded` where there is no space.
    fn take_room(&self, bytes: u64) -> io::Result<()> {
        write_room(self, bytes)
    }

    /// Bytes that it takes on the disk: more than its length where room was taken, fewer where it has holes.
    ///
    /// # Errors
    /// What the disk says.
    fn taken(&self) -> io::Result<u64> {
        self.size()
    }

    /// Length in bytes.
    ///
    /// # Errors
    /// What the disk says.
    fn size(&self) -> io::Result<u64>;

    /// Drops what the operating system remembers of this file's content, so that the next read
    /// shows what is on the disk. What is not yet written stays. Best effort.
    fn forget_cache(&self);
}

/// Takes room by writing.
pub(crate) fn write_room(file: &(impl File + ?Sized), bytes: u64) -> io::Result<()> {
    let mut noise = Noise(bytes | 1);
    let mut at = file.size()?;
    while at < bytes {
        let page = noise.page();
        let part = &page[..page.len().min((bytes - at) as usize)];
        file.write_at(part, at)?;
        at += part.len() as u64;
    }
    Ok(())
}

/// xorshift64: no disk finds anything to compress in it.
struct Noise(u64);

impl Noise {
    fn page(&mut self) -> [u8; 4096] {
        let mut page = [0; 4096];
        for word in page.as_chunks_mut::<8>().0 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            *word = self.0.to_le_bytes();
        }
        page
    }
}

/// True for the errors by which a disk says that it doesn't give a file: as it is, or as the file system understands it, or
/// because what stands there is none. They are about that file, and another try is of no use.
pub fn is_unreadable(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let known = [Errno::IO, Errno::UCLEAN, Errno::BADMSG, Errno::NODATA];
    let said = |code| known.iter().any(|errno| errno.raw_os_error() == code);
    crate::regular::is_not_regular(error) || error.raw_os_error().is_some_and(said)
}

/// True for the errors that mean "no space": they pass when space is freed.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
