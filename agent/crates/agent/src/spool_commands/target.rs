//! Where an export goes: standard output, a file, numbered files, or the door of another program.
//!
//! Readings come record by record, and no record is cut in two: a text may hold line breaks. A file gets its name once it is
//! whole and on disk; until then it stands beside as `.NAME.part`, and it is gone when the export fails or is told to end
//! (parts.rs). Two exports at once never have the same: whoever writes it holds its lock.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::parts::{self, Parts};
use super::post::Post;
use crate::human::{size, things};

const BUFFER: usize = 256 << 10;
/// Digits of a piece's number: so many that `*` lists them in order.
const DIGITS: usize = 6;
/// Pieces that can be numbered so.
const MOST: usize = 999_999;
/// Names beside a file that are tried: what stands at the others can't be written.
const NAMES: usize = 100;

/// What takes the records.
pub enum Target {
    /// Another program reads it, or a person.
    Stdout(BufWriter<io::Stdout>),
    /// A file that is whole or isn't there.
    File(Whole),
    /// Files of a size, numbered.
    Pieces(Pieces),
    /// Bodies of a size, to a URL.
    Post(Box<Post>),
}

impl Target {
    /// Standard output.
    pub fn stdout() -> Self {
        Self::Stdout(BufWriter::with_capacity(BUFFER, io::stdout()))
    }

    /// Takes one record, its line's end included.
    ///
    /// # Errors
    /// When it can't be written; the file is named.
    pub fn record(&mut self, record: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Stdout(out) => Ok(out.write_all(record)?),
            Self::File(file) => file.write(record),
            Self::Pieces(pieces) => pieces.record(record),
            Self::Post(post) => post.record(record),
        }
    }

    /// All records came: what is to be said of where they are, and whether some were refused there.
    ///
    /// # Errors
    /// When the last of it can't be written.
    pub fn finish(self) -> anyhow::Result<(Option<String>, u64)> {
        match self {
            Self::Stdout(mut out) => out.flush().map(|()| (None, 0)).map_err(Into::into),
            Self::File(file) => file.finish().map(|()| (None, 0)),
            Self::Pieces(pieces) => pieces.finish().map(|said| (Some(said), 0)),
            Self::Post(post) => post.finish(),
        }
    }
}

/// A name, and the file beside it that will have it.
struct Name {
    path: PathBuf,
    /// Where the content is until then; `None` where what stands there is no file (a pipe, a device) and is written straight.
    part: Option<PathBuf>,
    /// Holds the lock of `part`.
    _lock: Option<File>,
}

impl Name {
    fn give(&mut self, parts: &mut Parts) -> anyhow::Result<()> {
        let Some(part) = &self.part else { return Ok(()) };
        fs::rename(part, &self.path).map_err(|error| unwritable(&self.path, error))?;
        parts.remove(part);
        self.part = None;
        Ok(())
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            let mut parts = parts::all();
            // What isn't whole is no export.
            let _ = fs::remove_file(part);
            parts.remove(part);
        }
    }
}

/// A file that gets its name at the end.
pub struct Whole {
    name: Name,
    out: BufWriter<File>,
    written: u64,
}

impl Whole {
    /// Begins it; one that is there stays until the end.
    ///
    /// # Errors
    /// When it is there and `force` isn't given, or can't be made.
    pub fn create(path: &Path, force: bool) -> anyhow::Result<Self> {
        // What a link names is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let there = fs::metadata(&path).ok();
        anyhow::ensure!(
            force || !there.as_ref().is_some_and(fs::Metadata::is_file),
            "{} is there already: give another name, or --force to write over it",
            path.display()
        );
        let bad = |error| unwritable(&path, error);
        if there.as_ref().is_some_and(|there| !there.is_file()) {
            let file = open_straight(&path).map_err(bad)?;
            let out = BufWriter::with_capacity(BUFFER, file);
            return Ok(Self { name: Name { path, part: None, _lock: None }, out, written: 0 });
        }
        let (part, file) = claim(&path)?;
        let name = |lock| Name { path: path.clone(), part: Some(part), _lock: lock };
        let name = name(Some(file.try_clone().map_err(bad)?));
        if let Some(there) = &there {
            file.set_permissions(there.permissions()).map_err(bad)?;
        }
        Ok(Self { name, out: BufWriter::with_capacity(BUFFER, file), written: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|error| unwritable(&self.name.path, error))
    }

    /// DURABILITY: the content is on disk before the name is given.
    fn close(mut self) -> anyhow::Result<Name> {
        let done = self.out.flush().and_then(|()| match &self.name.part {
            Some(_) => self.out.get_ref().sync_all(),
            None => Ok(()),
        });
        done.map_err(|error| unwritable(&self.name.path, error))?;
        Ok(self.name)
    }

    fn finish(self) -> anyhow::Result<()> {
        let mut name = self.close()?;
        name.give(&mut parts::all())?;
        sync_folder(&name.path)
    }
}

/// Files of a size: `readings.000001.lp`, `readings.000002.lp`, …
pub struct Pieces {
    path: PathBuf,
    limit: u64,
    /// Beside the name that they have in common, which none of them bears: nothing is written there.
    _claim: Name,
    /// Written, but not named yet: they appear together.
    done: Vec<Name>,
    bytes: u64,
    open: Option<Whole>,
    /// Those of an export before, which may have been longer.
    before: Vec<PathBuf>,
}

impl Pieces {
    /// Begins them; none is over `limit` bytes, unless one record is.
    ///
    /// # Errors
    /// When some are there and `force` isn't given.
    pub fn create(path: &Path, limit: u64, force: bool) -> anyhow::Result<Self> {
        let before = numbered(path).map_err(|error| unwritable(path, error))?;
        if let (false, Some(first)) = (force, before.first()) {
            anyhow::bail!(
                "{} is there already: give another name, or --force to write over all of them",
                first.display()
            );
        }
        let (part, lock) = claim(path)?;
        let claim = Name { path: path.to_owned(), part: Some(part), _lock: Some(lock) };
        Ok(Self {
            path: path.to_owned(),
            limit,
            _claim: claim,
            done: Vec::new(),
            bytes: 0,
            open: None,
            before,
        })
    }

    fn record(&mut self, record: &[u8]) -> anyhow::Result<()> {
        if self.open.as_ref().is_some_and(|file| file.written + record.len() as u64 > self.limit) {
            self.close()?;
        }
        let file = match &mut self.open {
            Some(file) => file,
            None if self.done.len() == MOST => {
                anyhow::bail!("it takes more than {MOST} files: give --split a larger size")
            }
            None => self.open.insert(Whole::create(&piece(&self.path, self.done.len() + 1), true)?),
        };
        file.write(record)
    }

    fn close(&mut self) -> anyhow::Result<()> {
        let Some(file) = self.open.take() else { return Ok(()) };
        self.bytes += file.written;
        let mut name = file.close()?;
        // Those of one export are many, and what is claimed is claimed for all of them.
        name._lock = None;
        self.done.push(name);
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<String> {
        self.close()?;
        for path in &self.before {
            fs::remove_file(path).map_err(|error| unwritable(path, error))?;
        }
        let (Some(first), Some(last)) = (self.done.first(), self.done.last()) else {
            return Ok("nothing to write: no file was made".into());
        };
        let said = format!(
            "{} in {}: {} to {}",
            size(self.bytes),
            things(self.done.len() as u64, "file"),
            first.path.display(),
            last.path.display()
        );
        let named = {
            let mut parts = parts::all();
            self.done.iter_mut().try_for_each(|name| name.give(&mut parts))
        };
        named?;
        sync_folder(&self.path)?;
        Ok(said)
    }
}

/// The name of a piece: the number stands before the ending.
fn piece(path: &Path, number: usize) -> PathBuf {
    let number = format!("{number:0DIGITS$}");
    let ending = path.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}.{number}{ending}"))
}

/// The pieces of that name that are there, in order.
fn numbered(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder(path))? {
        let name = entry?.path();
        let number = name
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.split('.').rev().find(|part| part.len() == DIGITS))
            .and_then(|digits| digits.parse().ok());
        if number.is_some_and(|number| piece(path, number).file_name() == name.file_name()) {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Names that a file may have until it is whole: the first is the usual one.
fn beside(path: &Path) -> io::Result<impl Iterator<Item = PathBuf>> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
    let (path, name) = (path.to_owned(), name.to_string_lossy().into_owned());
    let numbers = std::iter::once(String::new()).chain((2..=NAMES).map(|number| format!(".{number}")));
    Ok(numbers.map(move |number| path.with_file_name(format!(".{name}{number}.part"))))
}

/// The file beside this one that will have its name, empty and locked by us.
fn claim(path: &Path) -> anyhow::Result<(PathBuf, File)> {
    let bad = |error| unwritable(path, error);
    let mut refused = None;
    for part in beside(path).map_err(bad)? {
        let mut parts = parts::all();
        match claim_as(&part).map_err(bad)? {
            Claim::Ours(file) => {
                parts.insert(part.clone());
                return Ok((part, file));
            }
            Claim::Busy => anyhow::bail!(
                "{} is being written by another export: wait until it is done, or give another name",
                path.display()
            ),
            // What somebody else left there, or a folder, keeps nobody from the name beside.
            Claim::Taken(error) => _ = refused.get_or_insert(error),
        }
    }
    Err(bad(refused.unwrap_or_else(|| io::ErrorKind::AlreadyExists.into())))
}

/// Whose a name beside a file is.
enum Claim {
    Ours(File),
    /// Another export writes it.
    Busy,
    /// Something stands there that can't be written.
    Taken(io::Error),
}

fn claim_as(part: &Path) -> io::Result<Claim> {
    loop {
        // In a folder that others write in too, a link may have been put there, or a pipe, which would be waited for.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let mut options = File::options();
        options.write(true).create(true).truncate(false).custom_flags(flags.bits().cast_signed());
        let file = match options.open(part) {
            Ok(file) if file.metadata()?.is_file() => file,
            Ok(_) => return Ok(Claim::Taken(io::ErrorKind::AlreadyExists.into())),
            Err(error) if fs::symlink_metadata(part).is_ok() => return Ok(Claim::Taken(error)),
            Err(error) => return Err(error),
        };
        if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
            return Ok(Claim::Busy);
        }
        // Another one may have ended in between, and have given it its name.
        let (ours, there) = (file.metadata()?, fs::symlink_metadata(part).ok());
        if there.is_some_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            // What a killed export left.
            file.set_len(0)?;
            return Ok(Claim::Ours(file));
        }
    }
}

/// What is no file is written as it is: a device, or a pipe that somebody reads. A pipe without a reader isn't waited for.
fn open_straight(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(path)?;
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags - rustix::fs::OFlags::NONBLOCK)?;
    Ok(file)
}

fn sync_folder(path: &Path) -> anyhow::Result<()> {
    // Some file systems of other makers can't sync a folder: the files themselves are on disk.
    let _ = File::open(folder(path)).and_then(|folder| folder.sync_all());
    Ok(())
}

fn is_device(path: &Path) -> bool {
    fs::metadata(path)
        .is_ok_and(|there| there.file_type().is_char_device() || there.file_type().is_block_device())
}

/// What went wrong, with the file and what to do.
fn unwritable(path: &Path, error: io::Error) -> anyhow::Error {
    let made_nowhere = || path.file_name().is_some() && folder(path).is_dir();
    let unread = error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error());
    let remedy = match error.kind() {
        _ if unread && fs::metadata(path).is_ok_and(|there| there.file_type().is_fifo()) => {
            // What the system says of it, "no such device or address", would only confuse.
            return anyhow::anyhow!(
                "{} can't be written: nobody reads from this pipe: start its reader first, or name a file",
                path.display()
            );
        }
        io::ErrorKind::StorageFull if is_device(path) => "it is a device that takes nothing: name a file",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "what was written of it is removed; free some space there, name a file on another disk, or write less with --since, --until or --match"
        }
        io::ErrorKind::NotFound if made_nowhere() => "no file can be made there: name one elsewhere",
        io::ErrorKind::NotFound => "is there such a folder?",
        io::ErrorKind::InvalidFilename => "give a shorter name",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "name a file that this user may write"
        }
        io::ErrorKind::IsADirectory => "name a file in it",
        _ => "name a file elsewhere",
    };
    let said = format!("{} can't be written: {error}: {remedy}", path.display());
    anyhow::Error::new(error).context(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_gets_its_name_when_it_is_whole_and_an_export_that_fails_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.lp");
        fs::write(&path, "before").unwrap();
        assert!(Whole::create(&path, false).is_err());
        let mut target = Target::File(Whole::create(&path, true).unwrap());
        target.record(b"half").unwrap();
        drop(target);
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        assert_eq!(names(folder.path()), ["out.lp"]);
        let mut target = Target::File(Whole::create(&path, true).unwrap());
        target.record(b"whole\n").unwrap();
        target.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\n");
        assert_eq!(names(folder.path()), ["out.lp"]);
    }

    #[test]
    fn of_two_exports_at_once_into_one_file_the_second_is_refused_and_what_a_killed_one_left_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.lp");
        fs::write(folder.path().join(".out.lp.part"), "of a killed one, longer than what comes").unwrap();
        let mut first = Target::File(Whole::create(&path, false).unwrap());
        let pieces = |path: &Path| Pieces::create(path, 10, true).map(|_| ());
        for second in [Whole::create(&path, true).map(|_| ()), pieces(&path)] {
            let said = second.unwrap_err().to_string();
            assert!(said.contains("another export"), "{said}");
        }
        first.record(b"whole\n").unwrap();
        first.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\n");
        assert_eq!(names(folder.path()), ["out.lp"]);
        let first = Pieces::create(&path, 10, true).unwrap();
        assert!(pieces(&path).is_err());
        drop(first);
        pieces(&path).unwrap();
        assert_eq!(names(folder.path()), ["out.lp"]);
    }

    /// Once a pipe was waited for, and what a killed export of another user left refused the name for good.
    #[test]
    fn what_stands_at_the_name_beside_and_is_not_ours_keeps_nobody_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let beside = folder.path().join(".out.lp.part");
        let pipe = |path: &Path| {
            let mode = rustix::fs::Mode::RUSR;
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        };
        let kinds: [&dyn Fn(&Path); 3] = [&pipe, &|path| fs::create_dir(path).unwrap(), &|path| {
            std::os::unix::fs::symlink(path, path).unwrap()
        }];
        for put in kinds {
            put(&beside);
            let path = folder.path().join("out.lp");
            let (done, over) = std::sync::mpsc::sync_channel(1);
            std::thread::spawn(move || {
                let mut target = Target::File(Whole::create(&path, true).unwrap());
                let second = Whole::create(&path, true).map(|_| ()).unwrap_err().to_string();
                target.record(b"whole\n").unwrap();
                target.finish().unwrap();
                done.send((second, fs::read_to_string(&path).unwrap())).unwrap();
            });
            let (second, written) = over.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
            assert!(second.contains("another export"), "{second}");
            assert_eq!(written, "whole\n");
            assert_eq!(names(folder.path()), [".out.lp.part", "out.lp"], "and it is left as it is");
            fs::remove_dir(&beside).or_else(|_| fs::remove_file(&beside)).unwrap();
        }
    }

    #[test]
    fn pieces_hold_whole_records_in_order_and_take_the_place_of_a_longer_export() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.v1.lp");
        let export = |records: &[&str], force| -> anyhow::Result<()> {
            let mut target = Target::Pieces(Pieces::create(&path, 10, force)?);
            for record in records {
                target.record(record.as_bytes())?;
            }
            target.finish().map(|_| ())
        };
        export(&["1234\n", "a\nb\n", "c\n", "longer than a piece\n", "d\n"], false).unwrap();
        let written: Vec<_> = names(folder.path())
            .iter()
            .map(|name| fs::read_to_string(folder.path().join(name)).unwrap())
            .collect();
        assert_eq!(written, ["1234\na\nb\n", "c\n", "longer than a piece\n", "d\n"]);
        assert_eq!(names(folder.path())[0], "out.v1.000001.lp");
        assert!(export(&["e\n"], false).unwrap_err().to_string().contains("--force"));
        export(&["e\n"], true).unwrap();
        assert_eq!(names(folder.path()), ["out.v1.000001.lp"]);
    }

    #[test]
    fn pieces_of_an_export_that_fails_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut target = Target::Pieces(Pieces::create(&folder.path().join("out"), 4, false).unwrap());
        for _ in 0..3 {
            target.record(b"123\n").unwrap();
        }
        assert_eq!(names(folder.path()).len(), 4, "three, and what says that they are being written");
        drop(target);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let said = Whole::create(&path, true).map(drop).unwrap_err().to_string();
        assert!(said.contains("nobody reads from this pipe"), "{said}");
        let reader = {
            let path = path.clone();
            std::thread::spawn(move || fs::read_to_string(path).unwrap())
        };
        let mut target = loop {
            match Whole::create(&path, false) {
                Ok(whole) => break Target::File(whole),
                Err(_) => std::thread::yield_now(),
            }
        };
        target.record(&vec![b'x'; 300_000]).unwrap();
        target.finish().unwrap();
        assert_eq!(reader.join().unwrap().len(), 300_000);
    }

    #[test]
    fn what_is_no_file_is_written_straight() {
        let mut target = Target::File(Whole::create(Path::new("/dev/null"), false).unwrap());
        target.record(b"x\n").unwrap();
        target.finish().unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn what_cannot_be_written_is_told_with_the_file_and_the_remedy_that_fits() {
        let mut target = Target::File(Whole::create(Path::new("/dev/full"), false).unwrap());
        target.record(b"x\n").unwrap();
        let said = target.finish().unwrap_err().to_string();
        assert!(said.starts_with("/dev/full can't be written: ") && said.ends_with("name a file"), "{said}");
        let folder = tempfile::tempdir().unwrap();
        let full = unwritable(&folder.path().join("out"), io::ErrorKind::StorageFull.into()).to_string();
        assert!(full.contains("free some space") && full.contains("--since"), "{full}");
        // The second is too long only with what stands beside it.
        let long = |length: usize| folder.path().join("x".repeat(length));
        for (path, remedy) in [
            (long(300), "give a shorter name"),
            (long(252), "give a shorter name"),
            ("/proc/x".into(), "no file can be made there"),
            (folder.path().join("no/out"), "is there such a folder?"),
        ] {
            for made in [Whole::create(&path, false).map(drop), Pieces::create(&path, 9, false).map(drop)] {
                let said = made.unwrap_err().to_string();
                assert!(said.ends_with(remedy) || said.contains(remedy), "{said}");
            }
        }
        assert_eq!(names(folder.path()), Vec::<String>::new());
    }
}
