//! A small durable value, such as a cursor or a checkpoint, in space that was taken beforehand.
//!
//! Two slots; a new value goes into the one that doesn't hold the current value, so that a crash
//! at any point leaves one of the two. The file is written full of zeros when it is created, so
//! that on a full disk a cursor can still move, and space be freed.
//!
//! ```text
//! file := slot, slot          each of half the file's size, a multiple of 4096
//! slot := magic 8 ("TXCELL" 0 1), sequence u64, len u32, crc u32, value    (little-endian)
//! crc  := CRC32C of sequence, len and value
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{CellError, OpenError};
use crate::recover::read_damaged;
use crate::regular::{longer, set_aside};
use crate::storage::{File, Mode, Storage, is_unreadable};

const MAGIC: [u8; 8] = *b"TXCELL\0\x01";
const HEAD: usize = 24;
const PAGE: usize = 4096;

/// A small durable value in a reserve of its own.
pub struct Cell {
    path: PathBuf,
    file: Box<dyn File>,
    /// Bytes of a slot.
    slot: usize,
    sequence: u64,
    value: Option<Vec<u8>>,
    damaged: bool,
    aside: Option<PathBuf>,
    poison: Option<String>,
}

impl Cell {
    /// Opens a cell, or creates it, with room for values of up to `max` bytes. The directory must
    /// be there. A file made for a smaller `max` is replaced by a larger one with the same value; one that the disk doesn't
    /// give gets another name, and is damaged.
    ///
    /// # Errors
    /// [`OpenError::Io`]; never for damage, see [`Cell::damaged`].
    pub fn open(storage: Arc<dyn Storage>, path: &Path, max: usize) -> Result<Self, OpenError> {
        let slot = (HEAD + max).next_multiple_of(PAGE);
        let failed = |doing| move |source| OpenError::Io { doing, path: path.to_owned(), source };
        let opened = storage.open(path, Mode::Write).and_then(|file| Ok((file.size()?, file)));
        let (size, file) = match opened {
            Ok((size, file)) => (size as usize, file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Self::create(&*storage, path, slot, None, false).map_err(failed("created"));
            }
            // What the disk doesn't give is damage too: it is kept beside, for someone who can repair it.
            Err(error) if is_unreadable(&error) => {
                let aside = Some(set_aside(&*storage, path).map_err(failed("set aside"))?);
                let made = Self::create(&*storage, path, slot, None, true).map_err(failed("created"))?;
                return Ok(Self { aside, ..made });
            }
            Err(error) => return Err(failed("opened")(error)),
        };
        // DURABILITY: as in the log's recovery, what a failed fsync left in the cache proves nothing.
        let synced = file.sync();
        file.forget_cache();
        let mut content = vec![0; size];
        read_damaged(&*file, &mut content, 0);
        let newest = newest(&content, slot);
        let damaged = newest.is_none() && lost(&content);
        let (sequence, value) =
            newest.map_or((0, None), |(sequence, value)| (sequence, Some(value.to_vec())));
        if size < 2 * slot {
            return Self::create(&*storage, path, slot, value, damaged).map_err(failed("enlarged"));
        }
        let poison = synced.err().map(|error| error.to_string());
        Ok(Self {
            path: path.to_owned(),
            file,
            slot: size / 2,
            sequence,
            value,
            damaged,
            aside: None,
            poison,
        })
    }

    /// Writes a new file beside the old one, whole, before it takes the name.
    fn create(
        storage: &dyn Storage,
        path: &Path,
        slot: usize,
        value: Option<Vec<u8>>,
        damaged: bool,
    ) -> std::io::Result<Self> {
        let fresh = longer(path, ".new");
        let created = Self::create_as(storage, &fresh, path, slot, value, damaged);
        if created.is_err() {
            // Half a file holds room on a disk that has none, which others need.
            let _ = storage.remove(&fresh);
        }
        created
    }

    fn create_as(
        storage: &dyn Storage,
        fresh: &Path,
        path: &Path,
        slot: usize,
        value: Option<Vec<u8>>,
        damaged: bool,
    ) -> std::io::Result<Self> {
        let file = storage.open(fresh, Mode::Create)?;
        let zeros = [0; 16 * PAGE];
        let mut at = 0;
        while at < 2 * slot {
            let n = zeros.len().min(2 * slot - at);
            file.write_at(&zeros[..n], at as u64)?;
            at += n;
        }
        let mut sequence = 0;
        if let Some(value) = &value {
            sequence = 1;
            file.write_at(&encode(sequence, value), slot as u64)?;
        }
        // DURABILITY: content, then the name, then the name made to stay.
        file.sync()?;
        storage.rename(fresh, path)?;
        if let Some(dir) = path.parent() {
            storage.sync_dir(dir)?;
        }
        Ok(Self { path: path.to_owned(), file, slot, sequence, value, damaged, aside: None, poison: None })
    }

    /// What a cell's file holds, without opening it: nothing is written, locked or repaired. For commands that look
    /// at a cell, even one in use. The value is `None` before the first was set, or when it was lost to damage, which
    /// the second part tells.
    ///
    /// # Errors
    /// What the disk says; `NotFound` where there is no file.
    pub fn peek(storage: &dyn Storage, path: &Path) -> std::io::Result<(Option<Vec<u8>>, bool)> {
        let file = storage.open(path, Mode::Read)?;
        let mut content = vec![0; file.size()? as usize];
        read_damaged(&*file, &mut content, 0);
        let value = newest(&content, content.len() / 2).map(|(_, value)| value.to_vec());
        let damaged = value.is_none() && lost(&content);
        Ok((value, damaged))
    }

    /// The longest value that it takes.
    pub fn max(&self) -> usize {
        self.slot - HEAD
    }

    /// The value; `None` before the first was set, or when it was lost to damage.
    pub fn get(&self) -> Option<Vec<u8>> {
        self.value.clone()
    }

    /// Replaces the value; durable on return.
    ///
    /// # Errors
    /// [`CellError`]; [`Cell::get`] goes on giving the old value. After a failed write or fsync
    /// either of the two may be found when the cell is opened anew.
    pub fn set(&mut self, value: &[u8]) -> Result<(), CellError> {
        if let Some(reason) = &self.poison {
            return Err(CellError::Poisoned { path: self.path.clone(), reason: reason.clone() });
        }
        let max = self.slot - HEAD;
        if value.len() > max {
            return Err(CellError::TooLarge { len: value.len(), max, path: self.path.clone() });
        }
        let sequence = self.sequence + 1;
        // Even ones in the first slot, odd ones in the second: never over the current value.
        let at = (sequence % 2) * self.slot as u64;
        let written = self.file.write_at(&encode(sequence, value), at).and_then(|()| self.file.sync());
        if let Err(error) = written {
            let reason = error.to_string();
            self.poison = Some(reason.clone());
            return Err(CellError::Poisoned { path: self.path.clone(), reason });
        }
        self.sequence = sequence;
        self.value = Some(value.to_vec());
        Ok(())
    }

    /// Where the file was moved to that the disk didn't give, or what stood in its place.
    pub fn aside(&self) -> Option<&Path> {
        self.aside.as_deref()
    }

    /// True when the file was no longer as it was made, and held no value: it was lost to damage.
    pub fn damaged(&self) -> bool {
        self.damaged
    }
}

/// Whether a file without a value had one: it is made whole, of zeros, before it takes its name.
fn lost(content: &[u8]) -> bool {
    content.len() < 2 * PAGE || content.iter().any(|byte| *byte != 0)
}

/// The value with the highest sequence. The third place is where the second slot is when the file was cut short.
fn newest(content: &[u8], slot: usize) -> Option<(u64, &[u8])> {
    let places = [0, content.len() / 2, slot].into_iter();
    places.filter_map(|at| decode(content.get(at..)?)).max_by_key(|(sequence, _)| *sequence)
}

fn checksum(sequence: u64, value: &[u8]) -> u32 {
    let head =
        crc32c::crc32c_append(crc32c::crc32c(&sequence.to_le_bytes()), &(value.len() as u32).to_le_bytes());
    crc32c::crc32c_append(head, value)
}

fn encode(sequence: u64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + value.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    out.extend_from_slice(&checksum(sequence, value).to_le_bytes());
    out.extend_from_slice(value);
    out
}

fn decode(slot: &[u8]) -> Option<(u64, &[u8])> {
    let rest = slot.strip_prefix(&MAGIC)?;
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let sequence = u64::from_le_bytes(*sequence);
    let value = rest.get(..u32::from_le_bytes(*len) as usize)?;
    (checksum(sequence, value).to_le_bytes() == *crc).then_some((sequence, value))
}
