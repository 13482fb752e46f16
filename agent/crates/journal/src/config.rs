//! What the journal is told, and what it tells of itself.

use std::path::PathBuf;
use std::time::Duration;

/// Where the journal is and how large it may become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// Its directory; made when it isn't there.
    pub dir: PathBuf,
    /// At this size appends are refused until something is released.
    pub max_bytes: u64,
    /// Size of a segment: what is freed at once. At most a quarter of `max_bytes` is used.
    pub segment_bytes: u64,
    /// How long a commit waits for company. With 0 the fsync in progress is the wait: best for
    /// latency, and under load for throughput too. More spares a slow disk.
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
    /// Records that are there: those not released, and what is left in their segments.
    pub records: u64,
    /// Records taken by this process.
    pub appended: u64,
    /// Commits by this process: each one fsync that served all who waited.
    pub syncs: u64,
    /// Appends refused because something was full.
    pub pushed_back: u64,
    /// True while the disk takes nothing; passes by itself once there is space.
    pub disk_full: bool,
    /// Why nothing is acknowledged until it is reopened.
    pub poisoned: Option<String>,
}
