//! The fold's checkpoint on disk: a cell that grows with the state, and is opened anew after a failed write.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fold::{Fold, Scorer};
use seglog::{Cell, CellError, OpenError, Storage};
use telemetry::{Position, SeriesTable};

/// Room at first: enough for some thousand series, and little on small flash. The file takes twice as much.
const FIRST: usize = 256 << 10;
/// The largest: about 200,000 open windows.
const LARGEST: usize = 64 << 20;

/// Why a checkpoint isn't on disk. The one before it is, and the journal keeps what came since.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// More than any file of ours holds.
    #[error("the fold's state is {0} bytes, at most {LARGEST} are kept: lower agent.max_series")]
    TooLarge(usize),
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
    room: usize,
    /// `None` after a failure, until it is opened anew.
    cell: Option<Cell>,
}

impl Checkpoint {
    /// Opens the file, or creates it.
    ///
    /// # Errors
    /// [`OpenError`]; never for damage, and not for a full disk: the journal keeps its records until there is room.
    pub fn open(storage: Arc<dyn Storage>, path: &Path) -> Result<Self, OpenError> {
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
        Ok(Self { storage, path: path.to_owned(), room: FIRST, cell })
    }

    /// The position it stands at, and the fold's bytes.
    pub fn get(&self) -> Option<(Position, Vec<u8>)> {
        let bytes = self.cell.as_ref()?.get()?;
        let (position, fold) = bytes.split_at_checked(8)?;
        Some((Position::from_le_bytes(position.try_into().ok()?), fold.to_vec()))
    }

    /// The fold as it stood there, and the position from which on the journal is to be folded. Without a
    /// checkpoint that can be used that is the journal's beginning.
    pub fn restore(
        &self,
        table: &Arc<SeriesTable>,
        scorer: impl Fn() -> Box<dyn Scorer>,
    ) -> (Fold, Position) {
        if let Some((position, bytes)) = self.get() {
            match Fold::restore(Arc::clone(table), scorer(), &bytes) {
                Ok(fold) => return (fold, position),
                Err(error) => {
                    tracing::error!(%error, "the fold's checkpoint can't be used: the journal is folded from its beginning")
                }
            }
        }
        (Fold::new(Arc::clone(table), scorer()), 0)
    }

    /// Replaces it; durable on return.
    ///
    /// # Errors
    /// [`CheckpointError`]; call again with the next one.
    pub fn set(&mut self, position: Position, fold: &[u8]) -> Result<(), CheckpointError> {
        let mut bytes = position.to_le_bytes().to_vec();
        bytes.extend_from_slice(fold);
        if bytes.len() > LARGEST {
            return Err(CheckpointError::TooLarge(bytes.len()));
        }
        let outgrown = bytes.len() > self.room;
        if outgrown {
            self.room = bytes.len().next_power_of_two();
        }
        let mut cell = match self.cell.take().filter(|_| !outgrown) {
            Some(cell) => cell,
            // What is there is verified and kept; a full disk refuses, and is tried again.
            None => Cell::open(Arc::clone(&self.storage), &self.path, self.room)?,
        };
        cell.set(&bytes)?;
        self.cell = Some(cell);
        Ok(())
    }
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
            checkpoint.set(position, &fold).unwrap();
            assert_eq!(checkpoint.get(), Some((position, fold)));
        }
        assert_eq!(open(&disk).get(), Some((4, vec![4; 5 << 20])));
        assert!(matches!(checkpoint.set(5, &vec![0; LARGEST]), Err(CheckpointError::TooLarge(_))));
        assert_eq!(open(&disk).get().unwrap().0, 4);
    }

    #[test]
    fn after_a_failed_write_the_one_before_stands_and_the_next_is_taken() {
        let disk = SimDisk::new(2);
        let mut checkpoint = open(&disk);
        checkpoint.set(1, b"one").unwrap();
        disk.fail_sync_after(0);
        assert!(checkpoint.set(2, b"two").is_err());
        checkpoint.set(3, b"three").unwrap();
        assert_eq!(open(&disk).get(), Some((3, b"three".to_vec())));
    }

    #[test]
    fn on_a_full_disk_it_opens_and_writes_once_there_is_room() {
        let disk = SimDisk::new(3);
        disk.set_capacity(Some(0));
        let mut checkpoint = open(&disk);
        assert_eq!(checkpoint.get(), None);
        assert!(checkpoint.set(1, b"one").is_err());
        disk.set_capacity(None);
        checkpoint.set(2, b"two").unwrap();
        assert_eq!(open(&disk).get(), Some((2, b"two".to_vec())));
    }
}
