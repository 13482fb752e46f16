//! Files that are files: what stands in a file's place may be anything, and opening a pipe waits for whoever is at its other
//! end, for ever. So nothing in a data folder is opened but with `O_NONBLOCK`, and what was opened is judged by itself
//! (fstat), not by its name.
//!
//! What is no file is refused with [`NotRegular`], at once; [`is_unreadable`](crate::is_unreadable) counts it among what the
//! disk doesn't give. A pipe that somebody hands over on purpose, as a shell's `<(…)`, is read by [`given`] and [`read_within`],
//! which have an end in time and in size.

use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::disk::Disk;
use crate::storage::{Mode, Storage};

/// How long is waited for whoever writes into a pipe that a person names.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// No file that a person writes or names is longer: configurations, certificates, keys.
pub const LONGEST: u64 = 4 << 20;

/// Something else stands where a file is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is {0}, and not a file")]
pub struct NotRegular(&'static str);

impl NotRegular {
    const LINK: Self = Self("a link that leads nowhere");

    fn of(kind: FileType) -> Self {
        Self(match kind {
            kind if kind.is_dir() => "a folder",
            kind if kind.is_fifo() => "a pipe",
            kind if kind.is_socket() => "a socket",
            _ => "a device",
        })
    }
}

impl From<NotRegular> for io::Error {
    fn from(error: NotRegular) -> Self {
        Self::other(error)
    }
}

/// True where something else stands in a file's place: [`NotRegular`].
pub fn is_not_regular(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<NotRegular>())
}

/// True where a link stands in a file's place that leads nowhere, mostly to a disk that isn't mounted: [`NotRegular`] too.
pub fn is_dead_link(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<NotRegular>());
    inner.is_some_and(|inner| *inner == NotRegular::LINK)
}

/// Opens a file for reading.
///
/// # Errors
/// [`NotRegular`] in an [`io::Error`] for what is no file; else what the system says.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(path, OpenOptions::new().read(true), OFlags::empty())
}

/// The whole content of a file of at most `most` bytes.
///
/// # Errors
/// As [`open`], and `FileTooLarge` for a longer one.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    bounded(read_within(&open(path)?, most, Duration::ZERO)?, most)
}

/// The same as text.
///
/// # Errors
/// As [`read`], and `InvalidData` for what isn't UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    text(read(path, most)?)
}

/// The content of a file that a person names, at most `most` bytes; of a pipe what somebody writes into it within
/// [`PATIENCE`].
///
/// # Errors
/// As [`given`] and [`read_within`], and `FileTooLarge` for a longer one.
pub fn read_given(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    bounded(read_within(&given(path)?, most, PATIENCE)?, most)
}

/// The same as text.
///
/// # Errors
/// As [`read_given`], and `InvalidData` for what isn't UTF-8.
pub fn read_given_text(path: &Path, most: u64) -> io::Result<String> {
    text(read_given(path, most)?)
}

/// Opens what a person names to be read once: a file, or a pipe or terminal that somebody writes into. It never waits;
/// [`read_within`] does.
///
/// # Errors
/// [`NotRegular`] in an [`io::Error`] for a socket or a link that leads nowhere; else what the system says.
pub fn given(path: &Path) -> io::Result<File> {
    open_any(path, OpenOptions::new().read(true), OFlags::empty())
}

/// What is in a file that [`given`] or [`open`] opened: all of it, or `most` bytes and one of it where there is more.
///
/// # Errors
/// [`NotRegular`] for a folder, `TimedOut` where whoever writes it hasn't come to an end after `patience`; else what the
/// system says.
pub fn read_within(mut file: &File, most: u64, patience: Duration) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(NotRegular::of(kind).into());
    }
    if kind.is_file() {
        file.take(most + 1).read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    let until = Instant::now() + patience;
    let mut part = [0; 4096];
    while bytes.len() as u64 <= most {
        let left = until.saturating_duration_since(Instant::now());
        // A pipe that nobody has opened to write has no end yet, and one that everybody has closed has.
        match poll(&mut [PollFd::new(file, PollFlags::IN)], Timespec::try_from(left).ok().as_ref()) {
            Ok(0) => {
                let said = format!("nobody has written it to its end within {} s", patience.as_secs());
                return Err(io::Error::new(ErrorKind::TimedOut, said));
            }
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match file.read(&mut part) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&part[..n]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(usize::try_from(most + 1).unwrap_or(usize::MAX));
    Ok(bytes)
}

fn bounded(bytes: Vec<u8>, most: u64) -> io::Result<Vec<u8>> {
    if bytes.len() as u64 > most {
        let said = format!("it has more than {most} bytes, which no such file has");
        return Err(io::Error::new(ErrorKind::FileTooLarge, said));
    }
    Ok(bytes)
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it isn't UTF-8 text"))
}

/// Opens a file that is written under a lock, or makes it; what stands there and is no file gets another name. For lock files:
/// their content is nothing.
///
/// # Errors
/// What the system says.
pub fn lock_file(path: &Path) -> io::Result<File> {
    let open = || {
        let mut options = OpenOptions::new();
        open_with(path, options.create(true).truncate(false).write(true), OFlags::empty())
    };
    instead(path, open)
}

/// Opens a file that is empty then, whether or not it was there before, with this mode where it was not. What stands there and
/// is no file, a link too, gets another name.
///
/// # Errors
/// What the system says.
pub fn create(path: &Path, mode: u32) -> io::Result<File> {
    let open = || {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(mode);
        // What a link names isn't ours to empty.
        open_with(path, &mut options, OFlags::NOFOLLOW)
    };
    let file = instead(path, open)?;
    file.set_len(0)?;
    Ok(file)
}

/// Opens, and once more after giving another name to what stands there.
fn instead(path: &Path, open: impl Fn() -> io::Result<File>) -> io::Result<File> {
    match open() {
        Err(error) if is_not_regular(&error) => {
            set_aside(&Disk, path)?;
            open()
        }
        opened => opened,
    }
}

/// Opens only what is a file.
pub(crate) fn open_with(path: &Path, options: &mut OpenOptions, flags: OFlags) -> io::Result<File> {
    let file = open_any(path, options, flags)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() { Ok(file) } else { Err(NotRegular::of(kind).into()) }
}

fn open_any(path: &Path, options: &mut OpenOptions, flags: OFlags) -> io::Result<File> {
    let all = (OFlags::NONBLOCK | flags).bits().cast_signed();
    options.custom_flags(all).open(path).map_err(|error| stands_there(path, flags, error))
}

/// Why a file can't be opened, where that is what stands in its place.
fn stands_there(path: &Path, flags: OFlags, error: io::Error) -> io::Error {
    let Ok(there) = fs::symlink_metadata(path) else { return error };
    let kind = there.file_type();
    if kind.is_file() {
        return error;
    }
    if !kind.is_symlink() || flags.contains(OFlags::NOFOLLOW) {
        return if kind.is_symlink() { NotRegular("a link") } else { NotRegular::of(kind) }.into();
    }
    match fs::metadata(path) {
        Ok(target) if target.is_file() => error,
        Ok(target) => NotRegular::of(target.file_type()).into(),
        Err(missing) if is_loop(&missing) || missing.kind() == ErrorKind::NotFound => NotRegular::LINK.into(),
        Err(_) => error,
    }
}

fn is_loop(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

/// What stands on the way to a folder and is none, and can't become one by mounting a disk.
pub(crate) fn obstacle(dir: &Path) -> Option<&Path> {
    let mut way: Vec<&Path> = dir.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
    way.reverse();
    way.into_iter().find(|path| match fs::metadata(path) {
        Ok(there) => !there.is_dir(),
        Err(error) => is_loop(&error),
    })
}

/// That a folder, or one above it, is a link to where nothing is: mostly a disk that isn't mounted.
pub(crate) fn unmounted(dir: &Path) -> Option<io::Error> {
    let link = dir.ancestors().find(|path| fs::symlink_metadata(path).is_ok())?;
    let to = fs::read_link(link).ok()?;
    let said = format!("it is a link to {}, which isn't there", to.display());
    Some(io::Error::new(ErrorKind::NotFound, said))
}

/// Gives another name in the same folder to what stands in the place of something of ours.
///
/// # Errors
/// What the disk says; it is where it was then.
pub fn set_aside(storage: &dyn Storage, path: &Path) -> io::Result<PathBuf> {
    let aside = unused(storage, &longer(path, ".unreadable"));
    storage.rename(path, &aside)?;
    Ok(aside)
}

/// This name, or it with a number behind: nothing that was set aside before is replaced.
pub(crate) fn unused(storage: &dyn Storage, wanted: &Path) -> PathBuf {
    const MOST: u32 = 1_000;
    let names = std::iter::once(wanted.to_owned()).chain((2..MOST).map(|n| longer(wanted, &format!(".{n}"))));
    let is_free = |name: &PathBuf| {
        storage.open(name, Mode::Read).is_err_and(|error| error.kind() == ErrorKind::NotFound)
    };
    names.into_iter().find(is_free).unwrap_or_else(|| wanted.to_owned())
}

/// Another name in the same folder.
pub(crate) fn longer(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
