//! What the journal is told, and what it tells of itself.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::Fullness;

/// Where the journal is and how large it may become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// Its directory; made when it isn't there.
    pub dir: PathBuf,
    /// At this size appends are refused until something is released.
    pub max_bytes: u64,
    /// Size of a segment: what is freed at once. At most a quarter of `max_bytes` is used.
    pub segment_bytes: u64,
    /// What others on the disk are to have: with less free, appends are refused before `max_bytes` is reached. 0 looks at
    /// no disk.
    pub min_free_bytes: u64,
    /// So much it may hold all the same, and at most a quarter of `min_free_bytes`: what is taken is on its way to a
    /// collector that is there, and needs a place for as long as that takes.
    pub floor_reserve_bytes: u64,
    /// How long a commit waits for company. With 0 the fsync in progress is the wait: best for
    /// latency, and under load for throughput too. More spares a slow disk.
    pub linger: Duration,
}

impl JournalConfig {
    /// 256 MiB in segments of 4 MiB, on a disk of its own.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            max_bytes: 256 << 20,
            segment_bytes: 4 << 20,
            min_free_bytes: 0,
            floor_reserve_bytes: 2 << 20,
            linger: Duration::ZERO,
        }
    }
}

/// Who still needs records. A segment goes when each holder has passed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// The fold, by way of the spool's durable position.
    Fold,
    /// The MQTT session store. Where there is none: release [`telemetry::Position::MAX`] once.
    Sessions,
}

/// What the journal holds and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on disk and waiting for it.
    pub bytes: u64,
    /// The cap.
    pub max_bytes: u64,
    /// What it may hold at present: `max_bytes`, or less where the disk has little free.
    pub limit_bytes: u64,
    /// Bytes free on its disk when that was last looked at; `None` where nobody looks, or the disk can't say.
    pub free_bytes: Option<u64>,
    /// Records that are there: those not released, and what is left in their segments.
    pub records: u64,
    /// Records taken by this process.
    pub appended: u64,
    /// Commits by this process: each one fsync that served all who waited.
    pub syncs: u64,
    /// Appends refused because something was full.
    pub pushed_back: u64,
    /// Why an append like the last refused one would be refused now, or the smallest; `None` when it would be taken.
    pub refusing: Option<Fullness>,
    /// True while the disk takes nothing; passes by itself once there is space.
    pub disk_full: bool,
    /// Why nothing is acknowledged until it is reopened.
    pub poisoned: Option<String>,
}
