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

use crate::logging::{LevelStatus, Logging};
use crate::refusing::Refusing;
use crate::remote::{Remote, RemoteStatus};
use crate::standing::{ConfigStatus, Standing};
use crate::traces::{Exporter, TracingStatus};

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
    /// The configuration.
    pub config: ConfigStatus,
    /// What the collector pushed, and what came of it.
    pub remote: RemoteStatus,
    /// What is logged.
    pub log: LevelStatus,
    /// Series known.
    pub series: usize,
    /// One entry an input.
    pub inputs: Vec<InputStatus>,
    /// Why readings are refused now; `None` while they are taken.
    pub refusing: Option<Refusing>,
    /// The journal.
    pub journal: JournalStatus,
    /// The fold and its thread.
    pub fold: Progress,
    /// The spool.
    pub spool: SpoolStatus,
    /// The link.
    pub link: LinkStatus,
    /// Spans of traces; `None` where nothing is traced.
    pub tracing: Option<TracingStatus>,
}

/// The journal.
#[derive(Serialize)]
pub struct JournalStatus {
    /// On disk and waiting for it.
    pub bytes: u64,
    /// The cap.
    pub max_bytes: u64,
    /// What it may hold at present: less than the cap where the disk has little free.
    pub limit_bytes: u64,
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
    /// Batches that are older than `spool.max_age` by this host's clock, which nobody confirms: they are kept until somebody does.
    pub age_kept: u64,
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
    /// What became of the cursor, where the start found none that it could use; `None` when it did.
    pub cursor_lost: Option<String>,
    /// What of it can't be read just now, and when that is tried again; `None` when all can.
    pub withheld: Option<WithheldStatus>,
    /// That its disk has less free than others are to have; `None` when it has more.
    pub floor: Option<String>,
    /// Room that is kept for when the disk has none.
    pub reserve: Option<RoomStatus>,
    /// Batches and payload bytes that wait, by priority.
    pub priorities: BTreeMap<&'static str, ShareStatus>,
    /// The last losses, oldest first: what was lost of which times, and why.
    pub lost: Vec<LostStatus>,
    /// What damage is known of, oldest first: also of what no count can tell.
    pub damage: Vec<DamageStatus>,
}

/// A file of the spool that is there and can't be read just now: what it holds is neither lost nor damaged, and not counted.
#[derive(Serialize)]
pub struct WithheldStatus {
    /// Which one, why, and what to do.
    pub why: String,
    /// How often it was tried in vain.
    pub tries: u32,
    /// Seconds until it is tried again.
    pub again_in_s: u64,
}

impl From<spool::Withheld> for WithheldStatus {
    fn from(spool::Withheld { why, tries, again_in }: spool::Withheld) -> Self {
        Self { why, tries, again_in_s: again_in.as_secs() + u64::from(again_in.subsec_nanos() > 0) }
    }
}

/// Room that is kept for when the disk has none: beside `disk_bytes` and their cap.
#[derive(Serialize)]
pub struct RoomStatus {
    /// Bytes that are there.
    pub left: u64,
    /// Bytes that should be.
    pub whole: u64,
}

impl From<spool::Room> for RoomStatus {
    fn from(spool::Room { left, whole }: spool::Room) -> Self {
        Self { left, whole }
    }
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

/// Something that is damaged or gone.
#[derive(Serialize)]
pub struct DamageStatus {
    /// `journal` (records that no batch had), `windows` (open ones) or `spool` (batches).
    pub part: &'static str,
    /// The first record's number, or batch's.
    pub first: u64,
    /// The last one's.
    pub last: u64,
    /// Not before this, nanoseconds since the epoch; `None` where nobody knows.
    pub from_ns: Option<i64>,
    /// Not after this.
    pub to_ns: Option<i64>,
    /// Readings that it took, which are in the ledger; `None` where nobody knows.
    pub readings: Option<u64>,
    /// Where that isn't known, how many it may have been at most.
    pub readings_at_most: Option<u64>,
    /// Readings that may be stored again for its sake.
    pub again: u64,
    /// The same as a sentence.
    pub text: String,
}

impl From<&spool::Damage> for DamageStatus {
    fn from(damage: &spool::Damage) -> Self {
        let spool::Damage { part, first, last, from_ns, to_ns, readings, again } = *damage;
        let (readings, readings_at_most) = match readings {
            spool::Readings::Exactly(n) => (Some(n), None),
            spool::Readings::AtMost(n) => (None, Some(n)),
            spool::Readings::Unknown => (None, None),
        };
        let (part, text) = (part.name(), damage.sentence());
        Self { part, first, last, from_ns, to_ns, readings, readings_at_most, again, text }
    }
}

impl From<journal::Usage> for JournalStatus {
    fn from(usage: journal::Usage) -> Self {
        let disk_full = usage.disk_full || usage.refusing == Some(journal::Fullness::Disk);
        let journal::Usage {
            bytes,
            max_bytes,
            limit_bytes,
            records,
            appended,
            syncs,
            pushed_back,
            poisoned,
            ..
        } = usage;
        Self { bytes, max_bytes, limit_bytes, records, appended, syncs, pushed_back, disk_full, poisoned }
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
            age_kept: 0,
            pending_rows: usage.pending_rows,
            pending: usage.pending,
            epoch: usage.epoch.map(|epoch| epoch.to_string()),
            next_seq: usage.next_seq,
            acked: usage.acked,
            quarantined: usage.quarantined,
            counts: usage.counts.iter().map(|(cause, n)| (cause.name(), n)).collect(),
            trouble: usage.trouble,
            cursor_lost: usage.cursor_lost,
            withheld: usage.withheld.map(WithheldStatus::from),
            floor: usage.floor,
            reserve: usage.reserve.map(RoomStatus::from),
            priorities: ["low", "normal", "high"]
                .into_iter()
                .zip(usage.by_priority)
                .map(|(name, share)| (name, ShareStatus { batches: share.batches, bytes: share.bytes }))
                .collect(),
            damage: usage.damage.iter().map(DamageStatus::from).collect(),
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
    /// The configuration.
    pub standing: Arc<Standing>,
    /// What was pushed.
    pub remote: Arc<Remote>,
    /// The log.
    pub logging: Arc<Logging>,
    /// What exports spans, if anything does.
    pub exporter: Option<Arc<Exporter>>,
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
        let link = self.link.status(&spooled, now.wall);
        let refusing = Refusing::now(&journal, fold.blocked.as_deref(), link.connected);
        Status {
            agent: self.agent.clone(),
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            now_ns: now.wall,
            uptime_s: now.mono.saturating_sub(self.started_mono) / 1_000_000_000,
            clock_set: now.is_set(),
            config: self.standing.status(),
            remote: self.remote.status(),
            log: self.logging.status(),
            series: self.table.len(),
            inputs: self
                .doors
                .iter()
                .map(|door| InputStatus { name: door.name.to_string(), stats: door.stats.snapshot(now) })
                .collect(),
            refusing,
            journal: journal.into(),
            fold,
            link,
            tracing: self.exporter.as_ref().map(|exporter| exporter.status()),
            spool: SpoolStatus { age_kept: self.spool.age_kept(), ..spooled.into() },
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
