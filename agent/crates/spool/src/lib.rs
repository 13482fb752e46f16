//! The spool: cuts rows into batches and keeps what the collector hasn't acknowledged.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use seglog::Storage;
use telemetry::{BatchKey, Counts, Epoch, Lane, Position, Rows, SeriesTable};
use tokio::sync::Notify;
use wire::v1;

/// Where and how.
#[derive(Clone, Debug)]
pub struct SpoolConfig {
    /// Its folder.
    pub dir: PathBuf,
    /// At this size the oldest batches are dropped.
    pub max_bytes: u64,
    /// Size of one segment file.
    pub segment_bytes: u64,
    /// A batch is cut at about this many payload bytes.
    pub batch_bytes: usize,
    /// A batch is cut at this age while a collector is connected.
    pub linger: Duration,
    /// The same while none is.
    pub linger_offline: Duration,
    /// Batches whose newest reading is older are dropped as expired.
    pub max_age: Option<Duration>,
    /// With less free space on the disk nothing is appended; the fold waits.
    pub min_free_bytes: u64,
    /// zstd level of payloads, 1 to 19.
    pub level: i32,
}

impl SpoolConfig {
    /// The defaults in a folder.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            max_bytes: 10 << 30,
            segment_bytes: 4 << 20,
            batch_bytes: 128 << 10,
            linger: Duration::from_millis(50),
            linger_offline: Duration::from_secs(5),
            max_age: None,
            min_free_bytes: 64 << 20,
            level: 3,
        }
    }
}

/// Why a spool can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the spool in {dir}: {reason}")]
pub struct OpenError {
    dir: PathBuf,
    reason: String,
}

/// Why an operation failed. Whatever it was, nothing was lost: the caller keeps what it offered.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// No room on the disk: try again after acks.
    #[error("the disk under the spool is full; batches wait in the journal until acknowledgements or you free space")]
    Full,
    /// The log is out of order after a failed write or fsync; it is reopened and verified by a later call.
    #[error("the spool can't write: {0}")]
    Broken(String),
    /// A batch can't be read back.
    #[error("the spool can't read a batch: {0}")]
    Unreadable(String),
}

/// What was found at opening.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Batches that wait to be acknowledged.
    pub batches: u64,
    /// Their readings.
    pub rows: u64,
    /// Batches that were damaged on disk and are reported as lost.
    pub damaged: u64,
    /// True when a new epoch was begun.
    pub new_epoch: bool,
}

/// What the agent says in its `Hello`.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The epoch batches are cut in now.
    pub epoch: Epoch,
    /// The next seq there.
    pub next_seq: u64,
    /// What isn't acknowledged, oldest first, at most 10,000.
    pub unacked: Vec<v1::Held>,
}

/// What a greeting settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Greeted {
    /// Batches the collector has: done.
    pub confirmed: usize,
    /// Batches that are to be sent under a new name.
    pub relabelled: usize,
    /// The epoch begun, if one was.
    pub new_epoch: Option<Epoch>,
}

/// How full it is and what it did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// Payload bytes that wait for an ack.
    pub bytes: u64,
    /// Bytes of its files.
    pub disk_bytes: u64,
    /// The cap on those.
    pub max_bytes: u64,
    /// Batches that wait for an ack.
    pub batches: u64,
    /// Loss frames that wait for an ack.
    pub losses: u64,
    /// Batches sent and neither acked nor refused.
    pub in_flight: u64,
    /// Earliest event time that waits.
    pub oldest_ns: Option<i64>,
    /// Rows that are in no batch yet.
    pub pending_rows: u64,
    /// The epoch batches are cut in now.
    pub epoch: Option<Epoch>,
    /// The next seq there.
    pub next_seq: u64,
    /// Last position that is in a durable batch.
    pub position: Position,
    /// What was counted in batches cut since the start.
    pub counts: Counts,
    /// Batches acknowledged since the start.
    pub acked: u64,
    /// Batches in quarantine since the start.
    pub quarantined: u64,
    /// Why it can't write now.
    pub trouble: Option<String>,
}

/// The spool; a cheap handle.
#[derive(Clone)]
pub struct Spool(Arc<Inner>);

struct Inner {
    changed: Notify,
}

#[allow(unused_variables)]
impl Spool {
    /// Opens or creates it.
    pub fn open(
        config: SpoolConfig,
        storage: Arc<dyn Storage>,
        table: Arc<SeriesTable>,
        agent: &str,
    ) -> Result<(Self, Recovery), OpenError> {
        Ok((Self(Arc::new(Inner { changed: Notify::new() })), Recovery::default()))
    }

    // --- the fold's side: one thread, blocking

    /// Position of the last row that is in a batch: rows at or below it are passed over by `append`.
    pub fn position(&self) -> Position {
        0
    }
    /// Takes the rows of one record. `Err` = not taken: call again. `recovering` = cut by size alone.
    pub fn append(&self, position: Position, rows: &Rows, recovering: bool) -> Result<(), SpoolError> {
        Ok(())
    }
    /// Cuts when it is time to, frees what was acked, drops what is over a cap. Call after each `append` and at `due`.
    pub fn cut_if_due(&self, now_mono: Duration) -> Result<Option<BatchKey>, SpoolError> {
        Ok(None)
    }
    /// How long until `cut_if_due` has something to do; `None` = nothing waits.
    pub fn due(&self, now_mono: Duration) -> Option<Duration> {
        None
    }
    /// Cuts what there is (shutdown, end of recovery).
    pub fn cut(&self) -> Result<Option<BatchKey>, SpoolError> {
        Ok(None)
    }
    /// Everything up to here is durable in the spool, or gave no rows: the checkpoint and the journal's release may follow.
    pub fn durable_position(&self) -> Position {
        0
    }

    // --- the uplink's side: called from async tasks

    /// What to say in the `Hello`.
    pub fn hello(&self) -> Held {
        Held { epoch: Epoch([0; 16]), next_seq: 1, unacked: Vec::new() }
    }
    /// What the collector's greeting says.
    pub fn greet(&self, holdings: &[v1::Holdings], conflicts: &[v1::Held]) -> Result<Greeted, SpoolError> {
        Ok(Greeted::default())
    }
    /// The next batch to send on a lane, ready to go; it is in flight from here on.
    pub fn next(&self, lane: Lane, now_wall: i64) -> Result<Option<v1::Batch>, SpoolError> {
        Ok(None)
    }
    /// The next loss frame to send; in flight from here on.
    pub fn next_loss(&self) -> Option<v1::Loss> {
        None
    }
    /// What the collector has stored. Gives the number of batches and losses that were waiting for it.
    pub fn acked(&self, holdings: &[v1::Holdings]) -> Result<usize, SpoolError> {
        Ok(0)
    }
    /// The collector lacks definitions: the batch is sent again with them.
    pub fn need_definitions(&self, key: BatchKey, series: &[u32]) {}
    /// The collector has another batch of this name: a new epoch begins, the batch is renamed and sent again.
    pub fn conflict(&self, key: BatchKey, checksum: &[u8]) -> Result<(), SpoolError> {
        Ok(())
    }
    /// The batch can never be stored: quarantine, and a loss frame for its seq.
    pub fn refused(&self, key: BatchKey, cause: &str, message: &str) -> Result<(), SpoolError> {
        Ok(())
    }
    /// The session is over: what was in flight is to be sent again.
    pub fn session_lost(&self) {}
    /// Loss frames that wait, for status.
    pub fn loss_frames(&self) -> Vec<v1::Loss> {
        Vec::new()
    }
    /// Woken when there may be something new to send.
    pub fn changed(&self) -> &Notify {
        &self.0.changed
    }
    /// How full it is and what it did.
    pub fn usage(&self) -> Usage {
        Usage::default()
    }
}
