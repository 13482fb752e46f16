//! The fold's checkpoint on disk: a cell that grows with the state, and is opened anew after a failed write.
//!
//! The journal comes free as far as this is written. So that it can be on a full disk too, the file is made larger before that
//! is needed: as long as the disk has room it holds a state of twice the size. Beyond that there is the reserve.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fold::{Fold, Scorer};
use seglog::{Cell, CellError, Mode, OpenError, Storage};
use spool::{Reserve, Unacked};
use telemetry::units::about;
use telemetry::{Epoch, Position, SeriesTable};

/// Room at first: enough for some thousand series, and little on small flash. The file takes twice as much.
const FIRST: usize = 256 << 10;
/// The largest: about 200,000 open windows.
const LARGEST: usize = 64 << 20;
/// What a value's frame may take.
const PAGE: u64 = 4096;

/// Says that the count of what was received comes before the fold's bytes, which begin with their version.
const COUNTED: u8 = 0xc1;
/// The same, and behind it what the spool had that wasn't acknowledged.
const WITH_UNACKED: u8 = 0xc2;
/// The same, and then which epoch that was of, and how many rows were in batches.
const WITH_CUT: u8 = 0xc4;
/// Says that the journal's own count comes first, before all of these.
const TALLIED: u8 = 0xc3;
/// Stands for a number that nobody knows, and a time.
const UNKNOWN: (u64, i64) = (u64::MAX, i64::MIN);

/// Where the fold stood, and what it held there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Of the last record that it had seen.
    pub position: Position,
    /// Readings that the spool counted as received up to there. `None` where that wasn't known, and from versions that
    /// didn't say.
    pub received: Option<u64>,
    /// The same by the journal's own count. `None` as above.
    pub tallied: Option<u64>,
    /// What the spool had then that wasn't acknowledged: should somebody take it away, nobody else knows.
    pub unacked: Option<Unacked>,
    /// The fold's bytes.
    pub fold: Vec<u8>,
}

impl Saved {
    /// Bytes (little-endian):
    /// `position u64, [0xc3, tallied u64], [0xc1, received u64 | 0xc2 or 0xc4, received u64, first u64, last u64, rows u64, from i64, to i64]`,
    /// behind 0xc4 `epoch 16 bytes, shipped u64`, then `fold`.
    fn encode(
        position: Position,
        received: Option<u64>,
        tallied: Option<u64>,
        unacked: Option<Unacked>,
        fold: &[u8],
    ) -> Vec<u8> {
        let mut bytes = position.to_le_bytes().to_vec();
        if let Some(tallied) = tallied {
            bytes.push(TALLIED);
            bytes.extend_from_slice(&tallied.to_le_bytes());
        }
        if let Some(Unacked { first, last, rows, from_ns, to_ns, cut }) = unacked {
            bytes.push(if cut.is_some() { WITH_CUT } else { WITH_UNACKED });
            for number in [received.unwrap_or(UNKNOWN.0), first, last, rows] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            for time in [from_ns, to_ns] {
                bytes.extend_from_slice(&time.unwrap_or(UNKNOWN.1).to_le_bytes());
            }
            if let Some((epoch, shipped)) = cut {
                bytes.extend_from_slice(&epoch.0);
                bytes.extend_from_slice(&shipped.to_le_bytes());
            }
        } else if let Some(received) = received {
            bytes.push(COUNTED);
            bytes.extend_from_slice(&received.to_le_bytes());
        }
        bytes.extend_from_slice(fold);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (position, rest) = bytes.split_first_chunk()?;
        let position = Position::from_le_bytes(*position);
        let (tallied, rest) = match rest.split_first() {
            Some((&TALLIED, rest)) => {
                let (tallied, rest) = rest.split_first_chunk()?;
                (Some(u64::from_le_bytes(*tallied)), rest)
            }
            _ => (None, rest),
        };
        let (received, unacked, fold) = match rest.split_first() {
            Some((&COUNTED, rest)) => {
                let (received, fold) = rest.split_first_chunk()?;
                (Some(u64::from_le_bytes(*received)), None, fold)
            }
            Some((&tag @ (WITH_UNACKED | WITH_CUT), mut rest)) => {
                let mut next = || {
                    let (number, behind) = rest.split_first_chunk()?;
                    rest = behind;
                    Some(*number)
                };
                let received = Some(u64::from_le_bytes(next()?)).filter(|received| *received != UNKNOWN.0);
                let [first, last, rows] = [next()?, next()?, next()?].map(u64::from_le_bytes);
                let [from_ns, to_ns] = [next()?, next()?].map(|time| {
                    let time = i64::from_le_bytes(time);
                    (time != UNKNOWN.1).then_some(time)
                });
                let mut cut = None;
                if tag == WITH_CUT {
                    let (epoch, behind) = rest.split_first_chunk()?;
                    let (shipped, behind) = behind.split_first_chunk()?;
                    cut = Some((Epoch(*epoch), u64::from_le_bytes(*shipped)));
                    rest = behind;
                }
                (received, Some(Unacked { first, last, rows, from_ns, to_ns, cut }), rest)
            }
            _ => (None, None, rest),
        };
        Some(Self { position, received, tallied, unacked, fold: fold.to_vec() })
    }
}

/// A fold to go on with.
pub struct Restored {
    /// The fold.
    pub fold: Fold,
    /// As in [`Saved`]; 0 where the journal is folded from its beginning.
    pub applied: Position,
    /// As in [`Saved`].
    pub received: Option<u64>,
    /// As in [`Saved`].
    pub tallied: Option<u64>,
    /// As in [`Saved`].
    pub unacked: Option<Unacked>,
}

/// Why a checkpoint isn't on disk. The one before it is, and the journal keeps what came since.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// More than any file of ours holds.
    #[error("the fold's state is {}, at most {} are kept: lower agent.max_series", about(*.0 as u64), about(LARGEST as u64))]
    TooLarge(usize),
    /// It has to grow, and neither disk nor reserve have room for that.
    #[error(
        "the fold's state has grown, and the disk has no {} for a larger checkpoint: free some space; until then the journal keeps its records",
        about(*.0)
    )]
    NoRoom(u64),
    /// The file.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The file.
    #[error(transparent)]
    Write(#[from] CellError),
}

/// Position and the fold's bytes, durable.
pub struct Checkpoint {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    reserve: Option<Reserve>,
    /// `None` after a failure, until it is opened anew.
    cell: Option<Cell>,
}

impl Checkpoint {
    /// Opens the file, or creates it.
    ///
    /// # Errors
    /// [`OpenError`]; never for damage, and not for a full disk: the journal keeps its records until there is room. A file that
    /// is there and isn't given, for want of rights or file handles, is no damage: [`start`](crate::start) waits for it.
    pub fn open(storage: Arc<dyn Storage>, path: &Path) -> Result<Self, OpenError> {
        // Neither is a link to where nothing is: what it leads to comes with its disk.
        if let Err(source) = storage.open(path, Mode::Read)
            && seglog::regular::is_dead_link(&source)
        {
            return Err(OpenError::Io { doing: "opened", path: path.to_owned(), source });
        }
        let cell = match Cell::open(Arc::clone(&storage), path, FIRST) {
            Ok(cell) => Some(cell),
            Err(OpenError::Io { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull => {
                tracing::warn!(path = %path.display(), "the disk is full: the fold's checkpoint waits for room");
                None
            }
            Err(error) => return Err(error),
        };
        if cell.as_ref().is_some_and(Cell::damaged) {
            tracing::error!(path = %path.display(), "the fold's checkpoint is damaged: what the journal still has is folded anew");
        }
        Ok(Self { storage, path: path.to_owned(), reserve: None, cell })
    }

    /// The room behind its disk for when that has none.
    #[must_use]
    pub fn with_reserve(self, reserve: Option<Reserve>) -> Self {
        Self { reserve, ..self }
    }

    /// What the file holds, without opening it; `None` where there is none, or none that can be used.
    ///
    /// # Errors
    /// What the system says where the file is there and isn't given.
    pub fn peek(storage: &dyn Storage, path: &Path) -> std::io::Result<Option<Saved>> {
        match Cell::peek(storage, path) {
            Ok((value, _)) => Ok(value.and_then(|value| Saved::decode(&value))),
            Err(error) if seglog::regular::is_dead_link(&error) => Err(error),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound || seglog::is_unreadable(&error) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What it holds.
    pub fn get(&self) -> Option<Saved> {
        Saved::decode(&self.cell.as_ref()?.get()?)
    }

    /// The fold as it stood there, and the position from which on the journal is to be folded. Without a
    /// checkpoint that can be used that is the journal's beginning.
    pub fn restore(&self, table: &Arc<SeriesTable>, scorer: impl Fn() -> Box<dyn Scorer>) -> Restored {
        if let Some(Saved { position, received, tallied, unacked, fold }) = self.get() {
            match Fold::restore(Arc::clone(table), scorer(), &fold) {
                Ok(fold) => return Restored { fold, applied: position, received, tallied, unacked },
                Err(error) => {
                    tracing::error!(%error, "the fold's checkpoint can't be used: the journal is folded from its beginning")
                }
            }
        }
        let fold = Fold::new(Arc::clone(table), scorer());
        Restored { fold, applied: 0, received: None, tallied: None, unacked: None }
    }

    /// Replaces it; durable on return.
    ///
    /// # Errors
    /// [`CheckpointError`]; call again with the next one.
    pub fn set(
        &mut self,
        position: Position,
        received: Option<u64>,
        tallied: Option<u64>,
        unacked: Option<Unacked>,
        fold: &[u8],
    ) -> Result<(), CheckpointError> {
        let bytes = Saved::encode(position, received, tallied, unacked, fold);
        if bytes.len() > LARGEST {
            return Err(CheckpointError::TooLarge(bytes.len()));
        }
        let mut cell = match self.cell.take() {
            Some(cell) if !self.grows(bytes.len(), cell.max()) => cell,
            // What is there is verified and kept; a full disk refuses, and is tried again.
            before => {
                let keeps = before.is_some_and(|cell| bytes.len() <= cell.max());
                match self.open_for(bytes.len()) {
                    Err(error) if keeps => {
                        tracing::debug!(%error, "the fold's checkpoint stays as large as it is");
                        self.opened(bytes.len())?
                    }
                    opened => opened?,
                }
            }
        };
        cell.set(&bytes)?;
        self.cell = Some(cell);
        Ok(())
    }

    /// Whether a file for values of up to `max` bytes is to be a larger one.
    fn grows(&self, needed: usize, max: usize) -> bool {
        // Ahead of need only while it takes no more than half of what is free.
        needed > max || (roomy(needed) > max && 2 * needed > max && self.free() / 2 >= file(roomy(needed)))
    }

    /// Opens the file, with room for a value of so many bytes, and more where the disk has it.
    fn open_for(&self, needed: usize) -> Result<Cell, CheckpointError> {
        let (free, spare) = (self.free(), self.reserve.as_ref().map_or(0, Reserve::spare));
        if free / 2 >= file(roomy(needed)) {
            return self.opened(roomy(needed));
        }
        let little = (needed + needed / 8).min(LARGEST);
        let there = self.storage.open(&self.path, Mode::Read).and_then(|file| file.size()).unwrap_or(0);
        // Not begun in vain: what the reserve gives for half a file may be somebody else's then.
        if there < file(needed) && free.saturating_add(spare) < file(little) {
            return Err(CheckpointError::NoRoom(file(little)));
        }
        self.opened(if there < file(needed) { little } else { needed })
    }

    fn opened(&self, max: usize) -> Result<Cell, CheckpointError> {
        Ok(Cell::open(Arc::clone(&self.storage), &self.path, max)?)
    }

    /// What the disk has; all where it can't say: then a write tells.
    fn free(&self) -> u64 {
        self.storage.free_bytes(self.path.parent().unwrap_or(&self.path)).unwrap_or(u64::MAX)
    }
}

/// Room for a state that grows to twice the size.
fn roomy(needed: usize) -> usize {
    (2 * needed).next_power_of_two().clamp(FIRST, LARGEST)
}

/// About what a file for values of up to `max` bytes takes.
fn file(max: usize) -> u64 {
    2 * (max as u64 + PAGE)
}

#[cfg(test)]
mod tests {
    use seglog::sim::SimDisk;

    use super::*;

    fn open(disk: &SimDisk) -> Checkpoint {
        disk.storage().create_dir_all(Path::new("/data")).unwrap();
        Checkpoint::open(disk.storage(), Path::new("/data/fold.checkpoint")).unwrap()
    }

    #[test]
    fn it_begins_small_and_grows_with_the_state() {
        let disk = SimDisk::new(1);
        let mut checkpoint = open(&disk);
        assert_eq!(checkpoint.get(), None);
        let size = || {
            disk.storage()
                .open(Path::new("/data/fold.checkpoint"), seglog::Mode::Read)
                .unwrap()
                .size()
                .unwrap()
        };
        assert!(size() < 1 << 20);
        for (position, bytes) in [(1, 10), (2, 1 << 20), (3, 10), (4, 5 << 20)] {
            let fold = vec![position as u8; bytes];
            let tallied = (position > 2).then_some(8);
            let unacked = (position % 2 == 0).then_some(Unacked {
                first: 3,
                last: 9,
                rows: 70,
                from_ns: Some(-5),
                to_ns: None,
                cut: (position == 2).then_some((Epoch([6; 16]), 90)),
            });
            checkpoint.set(position, Some(7), tallied, unacked, &fold).unwrap();
            assert_eq!(checkpoint.get(), Some(Saved { position, received: Some(7), tallied, unacked, fold }));
        }
        let unacked =
            Some(Unacked { first: 3, last: 9, rows: 70, from_ns: Some(-5), to_ns: None, cut: None });
        let last =
            Saved { position: 4, received: Some(7), tallied: Some(8), unacked, fold: vec![4; 5 << 20] };
        assert_eq!(open(&disk).get(), Some(last));
        let large = vec![0; LARGEST];
        assert!(matches!(checkpoint.set(5, None, None, None, &large), Err(CheckpointError::TooLarge(_))));
        assert_eq!(open(&disk).get().unwrap().position, 4);
    }

    #[test]
    fn one_that_does_not_say_what_was_received_is_read() {
        let disk = SimDisk::new(1);
        let mut checkpoint = open(&disk);
        let fold = Fold::new(SeriesTable::new(1), Box::new(fold::NoScorer)).checkpoint();
        checkpoint.set(9, None, None, None, &fold).unwrap();
        let mut bytes = 9_u64.to_le_bytes().to_vec();
        bytes.extend_from_slice(&fold);
        assert_eq!(checkpoint.cell.as_ref().unwrap().get(), Some(bytes), "as versions before wrote it");
        let restored = open(&disk).restore(&SeriesTable::new(1), || Box::new(fold::NoScorer));
        assert_eq!((restored.applied, restored.received), (9, None));
        assert_eq!(restored.fold.checkpoint(), fold);
    }

    #[test]
    fn after_a_failed_write_the_one_before_stands_and_the_next_is_taken() {
        let disk = SimDisk::new(2);
        let mut checkpoint = open(&disk);
        checkpoint.set(1, None, None, None, b"one").unwrap();
        disk.fail_sync_after(0);
        assert!(checkpoint.set(2, None, None, None, b"two").is_err());
        checkpoint.set(3, None, None, None, b"three").unwrap();
        assert_eq!(open(&disk).get().unwrap().fold, b"three");
    }

    #[test]
    fn on_a_full_disk_it_opens_and_writes_once_there_is_room() {
        let disk = SimDisk::new(3);
        disk.set_capacity(Some(0));
        let mut checkpoint = open(&disk);
        assert_eq!(checkpoint.get(), None);
        assert!(checkpoint.set(1, None, None, None, b"one").is_err());
        disk.set_capacity(None);
        checkpoint.set(2, None, None, None, b"two").unwrap();
        assert_eq!(open(&disk).get().unwrap().fold, b"two");
    }

    #[test]
    fn while_there_is_room_it_grows_ahead_so_that_a_full_disk_takes_a_state_of_twice_the_size() {
        let disk = SimDisk::new(4);
        disk.set_capacity(Some(64 << 20));
        let mut checkpoint = open(&disk);
        let mut position = 0;
        for bytes in [300 << 10, 900 << 10, 1 << 20] {
            position += 1;
            checkpoint.set(position, None, None, None, &vec![1; bytes]).unwrap();
        }
        disk.set_capacity(Some(disk.used()));
        let grown = vec![2; (2 << 20) - 100];
        checkpoint.set(4, None, None, None, &grown).unwrap();
        assert_eq!(open(&disk).get().unwrap().fold, grown);
        let before = disk.used();
        let refused = checkpoint.set(5, None, None, None, &vec![3; 9 << 20]).unwrap_err();
        assert!(matches!(refused, CheckpointError::NoRoom(_)), "{refused}");
        assert_eq!(disk.used(), before, "nothing was begun");
        checkpoint.set(6, None, None, None, b"smaller again").unwrap();
        assert_eq!(open(&disk).get().unwrap().fold, b"smaller again");
    }

    #[test]
    fn on_a_full_disk_it_grows_by_what_the_reserve_spares_and_takes_none_of_it_in_vain() {
        let disk = SimDisk::new(5);
        let parts = spool::Parts { count: 16, bytes: 256 << 10 };
        let reserve = Reserve::open(disk.storage(), Path::new("/data/reserve"), parts, 0);
        let whole = reserve.left();
        let path = Path::new("/data/fold.checkpoint");
        let mut checkpoint =
            Checkpoint::open(reserve.storage(), path).unwrap().with_reserve(Some(reserve.clone()));
        checkpoint.set(1, None, None, None, b"small").unwrap();
        disk.set_capacity(Some(disk.used()));
        let grown = vec![1; 800 << 10];
        checkpoint.set(2, None, None, None, &grown).unwrap();
        assert_eq!(open(&disk).get().unwrap().fold, grown);
        let left = reserve.left();
        assert!(left >= whole / 2, "half of it is for batches: {left} of {whole}");
        for _ in 0..3 {
            let refused = checkpoint.set(3, None, None, None, &vec![2; 2 << 20]).unwrap_err();
            assert!(matches!(refused, CheckpointError::NoRoom(_)), "{refused}");
        }
        assert_eq!(reserve.left(), left);
        disk.set_capacity(None);
        checkpoint.set(4, None, None, None, &vec![2; 2 << 20]).unwrap();
    }
}
