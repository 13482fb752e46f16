//! The journal's handle.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use seglog::{Recovery, Storage};
use telemetry::{Position, Record, SeriesTable};
use tokio::sync::watch;

use crate::error::{AppendError, OpenError, Poisoned, WaitError};
use crate::reader::JournalReader;

/// Largest record in bytes.
pub const MAX_RECORD: u32 = 16 << 20;

/// Where and how large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// Its directory.
    pub dir: PathBuf,
    /// At this size appends are refused until something is released.
    pub max_bytes: u64,
    /// Size of a segment: what is freed at once.
    pub segment_bytes: u64,
    /// How long a commit waits for company. 0: the fsync in progress is the wait.
    pub linger: Duration,
}

impl JournalConfig {
    /// 256 MiB in segments of 4 MiB.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), max_bytes: 256 << 20, segment_bytes: 4 << 20, linger: Duration::ZERO }
    }
}

/// Who still needs records. A segment goes when each holder has passed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// The fold, by way of the spool's durable position.
    Fold,
    /// The MQTT session store. Without one: release `Position::MAX` once.
    Sessions,
}

/// What the journal holds and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on disk and waiting for it.
    pub bytes: u64,
    /// The cap.
    pub max_bytes: u64,
    /// Records not yet released, as far as whole segments go.
    pub records: u64,
    /// Records taken since it was opened.
    pub appended: u64,
    /// Fsyncs that made records durable since it was opened.
    pub syncs: u64,
    /// Appends refused because it was full.
    pub pushed_back: u64,
    /// True while the disk has no space.
    pub disk_full: bool,
    /// Why nothing is acknowledged any more.
    pub poisoned: Option<String>,
}

/// The journal. Cheap to clone; the clones share it.
#[derive(Clone)]
pub struct Journal(Arc<()>);

#[allow(unused_variables)]
impl Journal {
    /// Opens or creates it and starts the one committing thread. Begins a new segment.
    ///
    /// # Errors
    /// [`OpenError`]; never for damage.
    pub fn open(
        config: JournalConfig,
        storage: Arc<dyn Storage>,
        table: Arc<SeriesTable>,
    ) -> Result<(Self, Recovery), OpenError> {
        unimplemented!()
    }
    /// Takes a record; never waits for the disk.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was taken then.
    pub fn append(&self, record: &Record) -> Result<Position, AppendError> {
        unimplemented!()
    }
    /// Takes records, all or none; the position of the last.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was taken then.
    pub fn append_all(&self, records: &[Record]) -> Result<Position, AppendError> {
        unimplemented!()
    }
    /// The durable mark: everything at or below it is on disk.
    pub fn durable(&self) -> watch::Receiver<Position> {
        unimplemented!()
    }
    /// Waits until a position is durable.
    ///
    /// # Errors
    /// [`Poisoned`]
    pub async fn wait(&self, position: Position) -> Result<(), Poisoned> {
        unimplemented!()
    }
    /// The same, for a thread.
    ///
    /// # Errors
    /// [`WaitError`]
    pub fn wait_blocking(&self, position: Position, timeout: Duration) -> Result<(), WaitError> {
        unimplemented!()
    }
    /// A reader of everything durable behind `after`.
    pub fn reader(&self, after: Position) -> JournalReader {
        unimplemented!()
    }
    /// A holder has no more need of anything up to `upto`.
    pub fn release(&self, holder: Holder, upto: Position) {
        unimplemented!()
    }
    /// The next record's position will be above `position`.
    pub fn skip_to(&self, position: Position) {
        unimplemented!()
    }
    /// The newest position given out.
    pub fn last(&self) -> Position {
        unimplemented!()
    }
    /// The oldest position still there.
    pub fn first(&self) -> Position {
        unimplemented!()
    }
    /// What it holds and did.
    pub fn usage(&self) -> Usage {
        unimplemented!()
    }
    /// After a failed fsync: looks what is really on the disk, and goes on from there.
    ///
    /// # Errors
    /// [`OpenError`]; it stays poisoned then.
    pub fn reopen(&self) -> Result<Recovery, OpenError> {
        unimplemented!()
    }
    /// Commits what is queued and ends the thread. Later appends are refused.
    pub fn close(&self) {
        unimplemented!()
    }
}
