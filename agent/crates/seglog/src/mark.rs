//! How far a log was confirmed, kept in a small file beside its segments: by it a start knows a torn tail, which nobody was
//! told of, from records that were durable and are gone.
//!
//! ```text
//! mark := magic 8 ("TXMARK" 0 2), number u64, note 3 * u64, salt u32, crc u32    (little-endian, 48 bytes)
//! crc  := CRC32C of number, note and salt
//! ```
//! The salt is that of the log's segments: beside others it is another log's, and says nothing.
//!
//! It is written behind each fsync and never synced itself, which would cost as much as the fsync it speaks of. So it may lag
//! behind after a power cut, by what the system had not written yet; it never runs ahead. What can't be written or read of it
//! is no trouble: then less is known.

use std::path::{Path, PathBuf};

use crate::index::Segment;
use crate::storage::{File, Mode, Storage};

const NAME: &str = "mark";
const MAGIC: [u8; 8] = *b"TXMARK\0\x02";
const SIZE: usize = 48;
/// Where the checksum stands.
const CRC: usize = SIZE - 4;
/// Where the salt does.
const SALT: usize = CRC - 4;

/// What was confirmed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The last number that was durable.
    pub number: u64,
    /// What the log's owner says of it.
    pub note: [u64; 3],
    /// Which log it is of.
    pub(crate) salt: u32,
}

impl Mark {
    fn encode(self) -> [u8; SIZE] {
        let mut out = [0; SIZE];
        out[..8].copy_from_slice(&MAGIC);
        for (at, number) in std::iter::once(self.number).chain(self.note).enumerate() {
            out[8 + 8 * at..][..8].copy_from_slice(&number.to_le_bytes());
        }
        out[SALT..CRC].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32c::crc32c(&out[8..CRC]);
        out[CRC..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let body = bytes.get(..CRC)?.strip_prefix(&MAGIC)?;
        let crc = bytes.get(CRC..)?.first_chunk()?;
        let (numbers, salt) = body.as_chunks();
        let salt = u32::from_le_bytes(salt.try_into().ok()?);
        let [number, note @ ..] = <[[u8; 8]; 4]>::try_from(numbers).ok()?.map(u64::from_le_bytes);
        // Numbers stay below what a segment's name may have.
        let fits = crc32c::crc32c(body).to_le_bytes() == *crc && number < 1 << 62;
        fits.then_some(Self { number, note, salt })
    }

    /// What stands beside a log, if anything does that can be read. See [`Mark::is_of`].
    pub(crate) fn read(storage: &dyn Storage, dir: &Path) -> Option<Self> {
        let file = storage.open(&dir.join(NAME), Mode::Read).ok()?;
        let mut bytes = [0; SIZE];
        let n = file.read_at(&mut bytes, 0).ok()?;
        Self::decode(&bytes[..n])
    }

    /// Whether it is of the log with these segments; without any it is of the one that was there.
    pub(crate) fn is_of(&self, segments: &[Segment]) -> bool {
        segments.last().is_none_or(|newest| newest.salt == self.salt)
    }
}

/// Writes it.
pub(crate) struct Marker {
    path: PathBuf,
    file: Option<Box<dyn File>>,
}

impl Marker {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { path: dir.join(NAME), file: None }
    }

    /// Replaces it. What fails is tried again with the next.
    pub(crate) fn set(&mut self, storage: &dyn Storage, mark: Mark) {
        let opened = match self.file.take() {
            Some(file) => Ok(file),
            // What can't be written there, or is no file, gives way.
            None => storage.open(&self.path, Mode::Write).or_else(|_| storage.open(&self.path, Mode::Create)),
        };
        self.file = opened.and_then(|file| file.write_at(&mark.encode(), 0).map(|()| file)).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_and_none_of_other_bytes() {
        let mark = Mark { number: 7, note: [u64::MAX, 1, 2], salt: 9 };
        let bytes = mark.encode();
        assert_eq!(Mark::decode(&bytes), Some(mark));
        for at in 0..SIZE {
            let mut rotten = bytes;
            rotten[at] ^= 4;
            assert_eq!(Mark::decode(&rotten), None, "byte {at}");
            assert_eq!(Mark::decode(&bytes[..at]), None);
        }
        assert_eq!(Mark::decode(&[0; SIZE]), None);
        assert_eq!(Mark::decode(&Mark { number: 1 << 62, note: [0; 3], salt: 0 }.encode()), None);
    }
}
