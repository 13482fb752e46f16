//! One agent on its disk: what a process keeps in memory, and how it comes back without it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fold::{NoScorer, Scorer};
use folding::{Checkpoint, Driver, Folding};
use journal::{Holder, Journal, JournalConfig};
use seglog::sim::SimDisk;
use spool::{Class, ClassRule, Overflow, Spool, SpoolConfig};
use telemetry::{DeviceClock, Position, Record, SeriesTable, Stamp};
use uplink::{Backoff, Identity, Lanes, LanesConfig, LinkState, Session};

use crate::clock::{SECOND, Time, WALL};
use crate::collector::Conn;
use crate::plan::Plan;
use crate::rng::Rng;

/// What the agent calls itself; the clones of a disk do too.
pub const AGENT: &str = "edge";

/// A host, whether its agent runs or not.
pub struct Host {
    pub disk: SimDisk,
    /// Counts starts: what was planned for an earlier one is void.
    pub life: u32,
    /// The agent, while it runs.
    pub agent: Option<Agent>,
    pub boots: u8,
    pub booted: Time,
    /// The configuration in force.
    pub config: usize,
    /// Batches that its starts found damaged.
    pub damaged: u64,
    /// Records that rotted since it was last started.
    pub(crate) hits: Vec<crate::rot::Hit>,
    /// Readings that each batch had received which rotted in the spool.
    pub(crate) rotten_batches: Vec<u64>,
    /// The device of each series number in its spool, as far as anybody looked.
    pub(crate) series: HashMap<u32, u32>,
    /// Bytes of the spool's cursor have.
    pub(crate) cursor_rotten: bool,
    /// The newest segment of a log is among what can't be opened.
    pub(crate) newest_refused: bool,
    clock: Arc<HostClock>,
}

/// A running agent.
pub struct Agent {
    pub table: Arc<SeriesTable>,
    pub spool: Spool,
    pub journal: Journal,
    pub driver: Driver,
    pub session: Session,
    pub backoff: Backoff,
    pub conn: Option<Conn>,
    /// Readings whose senders wait for an answer, by the position of their record.
    pub waiting: Vec<(Position, Vec<u64>)>,
    /// The configuration isn't in the journal yet.
    pub unconfigured: bool,
    pub committing: bool,
    /// The planned step of the driver, and of the link: only the one with this number counts.
    pub fold_turn: u64,
    pub link_turn: u64,
}

/// The host's clocks and chance, as the uplink sees them.
struct HostClock {
    now: Arc<AtomicU64>,
    booted: AtomicU64,
    rng: Mutex<Rng>,
}

impl uplink::Host for HostClock {
    fn wall(&self) -> i64 {
        WALL + self.now.load(Ordering::Relaxed) as i64
    }

    fn mono(&self) -> u64 {
        self.now.load(Ordering::Relaxed) - self.booted.load(Ordering::Relaxed) + SECOND
    }

    fn status_json(&self) -> String {
        "{}".into()
    }

    fn draw(&self) -> u32 {
        let mut rng = self.rng.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (rng.next() >> 32) as u32
    }
}

impl Host {
    /// A host whose agent was never started; `now` is the world's clock.
    pub fn new(seed: u64, number: u64, disk: SimDisk, now: &Arc<AtomicU64>) -> Self {
        let clock = HostClock {
            now: Arc::clone(now),
            booted: AtomicU64::new(0),
            rng: Mutex::new(Rng::new(seed, 100 + number)),
        };
        Self {
            disk,
            life: 0,
            agent: None,
            boots: 1,
            booted: 0,
            config: 0,
            damaged: 0,
            hits: Vec::new(),
            rotten_batches: Vec::new(),
            series: HashMap::new(),
            cursor_rotten: false,
            newest_refused: false,
            clock: Arc::new(clock),
        }
    }

    /// What its clocks show.
    pub fn stamp(&self, now: Time) -> Stamp {
        Stamp { wall: WALL + now as i64, mono: now - self.booted + SECOND }
    }

    /// Another boot: its monotonic clock begins anew.
    pub fn boot(&mut self, now: Time) {
        self.boots += 1;
        self.booted = now;
        self.clock.booted.store(now, Ordering::Relaxed);
    }

    /// The clock as a tick says it.
    pub fn device_clock(&self, at: Stamp) -> DeviceClock {
        DeviceClock { at, boot: [self.boots; 16], synced: true }
    }

    /// Starts the agent, as `telemetryx-agent run` does.
    ///
    /// # Errors
    /// What the disk says; it is started again a little later.
    pub fn start(&mut self, plan: &Plan, now: Time) -> Result<(), String> {
        self.life += 1;
        let storage = self.disk.storage();
        let table = SeriesTable::new(10_000);
        let config = SpoolConfig {
            segment_bytes: plan.spool.0,
            max_bytes: plan.spool.1,
            batch_bytes: plan.spool.2,
            min_free_bytes: 0,
            level: 1,
            classes: plan.thin.map(thinning).into_iter().collect(),
            ..SpoolConfig::new("/data/spool")
        };
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let (spool, found) = Spool::open(config, Arc::clone(&storage), Arc::clone(&table), AGENT)
            .map_err(|error| said(&error))?;
        let config = JournalConfig {
            segment_bytes: plan.journal.0,
            max_bytes: plan.journal.1,
            ..JournalConfig::new("/data/journal")
        };
        let (journal, _) = Journal::open_stepped(config, Arc::clone(&storage), Arc::clone(&table))
            .map_err(|error| said(&error))?;
        folding::number_on(&journal, &spool, Path::new("/data/fold.checkpoint"));
        journal.release(Holder::Sessions, Position::MAX);
        storage.create_dir_all(Path::new("/data")).map_err(|error| said(&error))?;
        let checkpoint =
            Checkpoint::open(storage, Path::new("/data/fold.checkpoint")).map_err(|error| said(&error))?;
        let standing = self.standing(plan, now);
        let unconfigured = journal.append_all(&standing).is_err();
        let boots = self.boots;
        let clock = move |at| DeviceClock { at, boot: [boots; 16], synced: true };
        let scorer = || -> Box<dyn Scorer> { Box::new(NoScorer) };
        let work = Folding::restore(journal.clone(), spool.clone(), checkpoint, &table, scorer, clock);
        let driver = Driver::new(work, self.stamp(now));
        // While the power goes all reading fails, and what can't be read is damage: to nobody, soon.
        if !self.disk.is_off() {
            self.damaged += found.damaged;
        }
        let identity =
            Identity { agent: AGENT.into(), version: "sim".into(), boot: [boots; 16], labels: Vec::new() };
        let lanes = Lanes::new(&LanesConfig::default()).map_err(|error| said(&error))?;
        let host: Arc<dyn uplink::Host> = Arc::clone(&self.clock) as Arc<dyn uplink::Host>;
        let session = Session::new(identity, spool.clone(), host, Arc::new(LinkState::default()), lanes);
        self.agent = Some(Agent {
            table,
            spool,
            journal,
            driver,
            session,
            backoff: Backoff::new(Duration::from_secs(30)),
            conn: None,
            waiting: Vec::new(),
            unconfigured,
            committing: false,
            fold_turn: 0,
            link_turn: 0,
        });
        Ok(())
    }

    /// What the fold must know: time and configuration.
    pub fn standing(&self, plan: &Plan, now: Time) -> Vec<Record> {
        let stamp = self.stamp(now);
        vec![
            Record::Tick(self.device_clock(stamp)),
            Record::Config {
                stamp,
                generation: stamp.wall.unsigned_abs(),
                config: plan.configs[self.config].as_bytes().to_vec(),
            },
        ]
    }
}

/// All raw readings become windows of this length before any is dropped.
fn thinning(window: i64) -> ClassRule {
    let class = Class { overflow: Overflow::Thin(window), ..Class::default() };
    ClassRule { name: Some("*".into()), labels: BTreeMap::new(), min_severity: None, class }
}

impl Agent {
    /// Everything it has is with the collector.
    pub fn drained(&self) -> bool {
        let progress = self.driver.watch().progress(self.journal.last());
        let usage = self.spool.usage();
        !self.unconfigured
            && self.waiting.is_empty()
            && !progress.recovering
            && progress.blocked.is_none()
            && progress.behind == 0
            && progress.fold.open_windows == 0
            && usage.batches == 0
            && usage.losses == 0
            && !usage.pending
    }

    /// What it still has, for a run that doesn't end.
    pub fn why_not_drained(&self) -> String {
        let progress = self.driver.watch().progress(self.journal.last());
        format!(
            "{progress:?} {:?} waiting {} {:?}",
            self.spool.usage(),
            self.waiting.len(),
            self.journal.usage()
        )
    }
}
