//! Where a spool is, and what it may take.

use std::path::PathBuf;
use std::time::Duration;

use crate::{ClassRule, Parts};

/// Where and how.
#[derive(Clone, Debug)]
pub struct SpoolConfig {
    /// Its folder.
    pub dir: PathBuf,
    /// At this size batches give way, by their classes.
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
    /// With less free space on the disk nothing is appended, but for the reserve; the fold waits.
    pub min_free_bytes: u64,
    /// So much is appended all the same, and at most a quarter of `min_free_bytes`, while a collector is connected: it
    /// leaves again with the ack, and the journal, which may be what fills the disk, is freed by it.
    pub floor_reserve_bytes: u64,
    /// Below it batches give way too, as at `max_bytes`, before the fold waits.
    pub drop_at_floor: bool,
    /// Room that is taken beforehand, for when the disk has none; `None` takes none.
    pub reserve: Option<Parts>,
    /// zstd level of payloads, 1 to 19.
    pub level: i32,
    /// Which readings are worth more than others; tried in order, and then the defaults: anomaly scores
    /// and events of severity error and above are high, everything else is normal.
    pub classes: Vec<ClassRule>,
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
            floor_reserve_bytes: 1 << 20,
            drop_at_floor: false,
            reserve: None,
            level: 3,
            classes: Vec::new(),
        }
    }
}
