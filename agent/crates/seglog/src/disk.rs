//! The real disk.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::OFlags;

use crate::regular;
use crate::storage::{File, Guard, Mode, Storage, write_room};

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

struct DiskFile(fs::File);

/// Dropping it closes the file, which ends the lock.
struct Held {
    _file: fs::File,
}

impl Guard for Held {}

fn make_dirs(dir: &Path) -> io::Result<()> {
    // DURABILITY: each new directory's entry lives in the one above it.
    let mut missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    missing.retain(|dir| !dir.as_os_str().is_empty());
    fs::create_dir_all(dir)?;
    for made in missing {
        let above = made.parent().filter(|above| !above.as_os_str().is_empty());
        fs::File::open(above.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

impl Storage for Disk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let made = make_dirs(dir);
        match regular::obstacle(dir).filter(|_| made.is_err()) {
            None => made.map_err(|error| regular::unmounted(dir).unwrap_or(error)),
            Some(stands) => {
                regular::set_aside(self, stands)?;
                make_dirs(dir)
            }
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that isn't UTF-8 isn't ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn File>> {
        let mut options = fs::OpenOptions::new();
        let file = match mode {
            Mode::Read => regular::open(path)?,
            Mode::Write => regular::open_with(path, options.read(true).write(true), OFlags::empty())?,
            Mode::Create => regular::create(path, 0o666)?,
        };
        Ok(Box::new(DiskFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Guard>>> {
        let file = regular::lock_file(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(Held { _file: file }))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn concurrent(&self) -> bool {
        true
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(dir)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

impl File for DiskFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        read_whole(buf, offset, |buf, offset| self.0.read_at(buf, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn take_room(&self, bytes: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        match fallocate(self.0.as_fd(), FallocateFlags::KEEP_SIZE, 0, bytes) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => write_room(self, bytes),
            taken => Ok(taken?),
        }
    }

    fn taken(&self) -> io::Result<u64> {
        // What `stat` counts in, whatever the file system's blocks are.
        Ok(self.0.metadata()?.blocks() * 512)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn forget_cache(&self) {
        // Advice only: where it is refused, recovery trusts the cache as everyone else does.
        _ = rustix::fs::fadvise(self.0.as_fd(), 0, None, rustix::fs::Advice::DontNeed);
    }
}

/// The system may give fewer bytes than were asked for, and be interrupted: only none at all is the end of the file.
fn read_whole(
    mut buf: &mut [u8],
    mut offset: u64,
    read: impl Fn(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut total = 0;
    while !buf.is_empty() {
        match read(buf, offset) {
            Ok(0) => break,
            Ok(n) => {
                total += n;
                offset += n as u64;
                buf = &mut buf[n..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn short_and_interrupted_reads_give_all_there_is_and_an_error_is_no_end() {
        let content: Vec<u8> = (0..=255).collect();
        let calls = Cell::new(0_usize);
        let shortly = |buf: &mut [u8], offset: u64| {
            calls.set(calls.get() + 1);
            if calls.get().is_multiple_of(3) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let rest = &content[(offset as usize).min(content.len())..];
            let n = rest.len().min(buf.len()).min(calls.get() % 5 + 1);
            buf[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        };
        for (from, len) in [(0, 256), (0, 300), (7, 100), (250, 100), (256, 10), (400, 10)] {
            let mut buf = vec![0; len];
            let n = read_whole(&mut buf, from as u64, shortly).unwrap();
            let from = from.min(content.len());
            let whole = &content[from..(from + len).min(content.len())];
            assert_eq!((n, &buf[..n]), (whole.len(), whole));
        }
        let fails = |buf: &mut [u8], offset: u64| match offset {
            0 => Ok(buf.len() / 2),
            _ => Err(io::Error::from(rustix::io::Errno::IO)),
        };
        assert!(read_whole(&mut [0; 8], 0, fails).is_err());
    }
}
