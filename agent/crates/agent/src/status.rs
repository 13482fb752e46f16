//! What the agent says of itself: collected on demand from the parts that know, for `status`, for the
//! collector and for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use folding::{Progress, Watch};
use inputs::{Clock, Door, Reject, Rejects, StatsSnapshot};
use journal::Journal;
use serde::Serialize;
use spool::Spool;
use telemetry::SeriesTable;
use uplink::{LinkState, LinkStatus};

/// Everything at one moment.
#[derive(Serialize)]
pub struct Status {
    /// The agent's name.
    pub agent: String,
    /// The software's version.
    pub version: &'static str,
    /// Its process.
    pub pid: u32,
    /// Nanoseconds since the epoch.
    pub now_ns: i64,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Whether the clock can be trusted.
    pub clock_set: bool,
    /// Series known.
    pub series: usize,
    /// One entry an input.
    pub inputs: Vec<InputStatus>,
    /// The journal.
    pub journal: JournalStatus,
    /// The fold and its thread.
    pub fold: Progress,
    /// The spool.
    pub spool: SpoolStatus,
    /// The link.
    pub link: LinkStatus,
}

/// The journal.
#[derive(Serialize)]
pub struct JournalStatus {
    /// On disk and waiting for it.
    pub bytes: u64,
    /// The cap.
    pub max_bytes: u64,
    /// Not yet released.
    pub records: u64,
    /// Taken since the start.
    pub appended: u64,
    /// Fsyncs since the start.
    pub syncs: u64,
    /// Appends refused because it was full.
    pub pushed_back: u64,
    /// Whether the disk has no space.
    pub disk_full: bool,
    /// Why nothing is acknowledged any more; `None` when all is well.
    pub poisoned: Option<String>,
}

/// The spool.
#[derive(Serialize)]
pub struct SpoolStatus {
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
    /// Batches sent and not yet answered.
    pub in_flight: u64,
    /// Earliest event time that waits, of those that are known.
    pub oldest_ns: Option<i64>,
    /// What waits until it is known when its boot was.
    pub clock_held: ClockHeld,
    /// Rows that are in no batch yet.
    pub pending_rows: u64,
    /// True when rows or counts are in no batch yet.
    pub pending: bool,
    /// The epoch, in hexadecimal.
    pub epoch: Option<String>,
    /// The next seq.
    pub next_seq: u64,
    /// Batches acknowledged since the start.
    pub acked: u64,
    /// Batches in quarantine since the start.
    pub quarantined: u64,
    /// Readings by cause in the batches cut since the start.
    pub counts: BTreeMap<&'static str, u64>,
    /// Why it can't write now; `None` when it can.
    pub trouble: Option<String>,
    /// Batches and payload bytes that wait, by priority.
    pub priorities: BTreeMap<&'static str, ShareStatus>,
    /// The last losses, oldest first: what was lost of which times, and why.
    pub lost: Vec<LostStatus>,
}

/// What waits of one priority.
#[derive(Serialize)]
pub struct ShareStatus {
    /// Batches.
    pub batches: u64,
    /// Their payload bytes.
    pub bytes: u64,
}

/// Readings that are lost.
#[derive(Serialize)]
pub struct LostStatus {
    /// Why: a cause of the loss ledger.
    pub cause: &'static str,
    /// Earliest event time, nanoseconds since the epoch.
    pub from_ns: i64,
    /// Latest event time.
    pub to_ns: i64,
    /// How many readings.
    pub readings: u64,
}

impl From<journal::Usage> for JournalStatus {
    fn from(usage: journal::Usage) -> Self {
        let journal::Usage { bytes, max_bytes, records, appended, syncs, pushed_back, disk_full, poisoned } =
            usage;
        Self { bytes, max_bytes, records, appended, syncs, pushed_back, disk_full, poisoned }
    }
}

impl From<spool::Usage> for SpoolStatus {
    fn from(usage: spool::Usage) -> Self {
        Self {
            bytes: usage.bytes,
            disk_bytes: usage.disk_bytes,
            max_bytes: usage.max_bytes,
            batches: usage.batches,
            losses: usage.losses,
            in_flight: usage.in_flight,
            oldest_ns: usage.oldest_ns,
            clock_held: usage.clock_held.into(),
            pending_rows: usage.pending_rows,
            pending: usage.pending,
            epoch: usage.epoch.map(|epoch| epoch.to_string()),
            next_seq: usage.next_seq,
            acked: usage.acked,
            quarantined: usage.quarantined,
            counts: usage.counts.iter().map(|(cause, n)| (cause.name(), n)).collect(),
            trouble: usage.trouble,
            priorities: ["low", "normal", "high"]
                .into_iter()
                .zip(usage.by_priority)
                .map(|(name, share)| (name, ShareStatus { batches: share.batches, bytes: share.bytes }))
                .collect(),
            lost: usage
                .lost
                .iter()
                .map(|lost| LostStatus {
                    cause: lost.cause.name(),
                    from_ns: lost.from_ns,
                    to_ns: lost.to_ns,
                    readings: lost.count,
                })
                .collect(),
        }
    }
}

/// Batches taken before the clock was set, which wait until it is known when that was.
#[derive(Serialize)]
pub struct ClockHeld {
    /// How many.
    pub batches: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Of how many boots.
    pub boots: u64,
}

impl From<spool::ClockHeld> for ClockHeld {
    fn from(held: spool::ClockHeld) -> Self {
        let spool::ClockHeld { batches, bytes, boots } = held;
        Self { batches, bytes, boots }
    }
}

/// One input.
#[derive(Serialize)]
pub struct InputStatus {
    /// Its name in the config.
    pub name: String,
    /// Its counters.
    #[serde(flatten)]
    pub stats: StatsSnapshot,
}

/// Knows whom to ask.
pub struct Reporter {
    /// The agent's name.
    pub agent: String,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// Time since boot at the start, nanoseconds.
    pub started_mono: u64,
    /// Series.
    pub table: Arc<SeriesTable>,
    /// Inputs.
    pub doors: Vec<Door>,
    /// Refused readings.
    pub rejects: Arc<Rejects>,
    /// The journal.
    pub journal: Journal,
    /// The fold's thread.
    pub fold: Arc<Watch>,
    /// The spool.
    pub spool: Spool,
    /// The link.
    pub link: Arc<LinkState>,
}

impl Reporter {
    /// Asks everyone.
    pub fn status(&self) -> Status {
        let now = self.clock.now();
        // In the order of the flow: a record that moves on between two of these looks is then seen twice, never
        // not at all, so that "nothing is left" is true.
        let journal = self.journal.usage();
        let fold = self.fold.progress(self.journal.last());
        let spooled = self.spool.usage();
        Status {
            agent: self.agent.clone(),
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            now_ns: now.wall,
            uptime_s: now.mono.saturating_sub(self.started_mono) / 1_000_000_000,
            clock_set: now.is_set(),
            series: self.table.len(),
            inputs: self
                .doors
                .iter()
                .map(|door| InputStatus { name: door.name.to_string(), stats: door.stats.snapshot(now) })
                .collect(),
            journal: journal.into(),
            fold,
            link: self.link.status(&spooled),
            spool: spooled.into(),
        }
    }

    /// The last refused readings, oldest first.
    pub fn rejects(&self) -> Vec<Reject> {
        self.rejects.list()
    }
}

impl uplink::Host for Reporter {
    fn wall(&self) -> i64 {
        self.clock.now().wall
    }

    fn mono(&self) -> u64 {
        self.clock.now().mono
    }

    fn status_json(&self) -> String {
        serde_json::to_string(&self.status()).unwrap_or_default()
    }
}
