//! The pipeline: everything that readings flow through, built from one configuration and ended in the direction of the flow.
//! A process has one after the other: another configuration may need another.
//!
//! ```text
//! inputs ─▶ journal ─▶ fold thread ─▶ spool ─▶ uplink
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use folding::{Checkpoint, Folding};
use inputs::{Clock, Rejects, Timeline};
use journal::Journal;
use parking_lot::Mutex;
use seglog::Storage;
use spool::Spool;
use telemetry::{SeriesTable, Stamp};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use toml::Table;
use uplink::{Identity, LinkState, Uplink};

use crate::care;
use crate::classes::FreeFloor;
use crate::config::Config;
use crate::data_dir::CHECKPOINT;
use crate::inputs_table::Reloads;
use crate::logging::Logging;
use crate::remote::{Merged, Remote};
use crate::service::Service;
use crate::stage::{Shown, Stage};
use crate::standing::Standing;
use crate::status::Reporter;
use crate::tap::Taps;
use crate::traces::{self, Exporter};
use crate::watchdog::Watchdog;
use crate::{classes, identity, inputs_table, models, time_service};

/// How long the end waits for who is asking at that moment, and how often it looks.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_LOOK: Duration = Duration::from_millis(2);

/// After this long at the end an input that doesn't end is left behind.
const INPUTS_TIMEOUT: Duration = Duration::from_secs(10);
const UPLINK_TIMEOUT: Duration = Duration::from_secs(10);

/// What a pipeline stands on, and what outlives it.
pub struct World {
    /// The config file.
    pub path: PathBuf,
    /// The data folder.
    pub data: PathBuf,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// The disk.
    pub storage: Arc<dyn Storage>,
    /// The service manager.
    pub service: Arc<Service>,
    /// What the collector pushed.
    pub remote: Arc<Remote>,
    /// The log.
    pub logging: Arc<Logging>,
    /// Where the pipeline is seen.
    pub stage: Stage,
    /// Time since boot at the process's start, nanoseconds.
    pub started_mono: u64,
}

/// How the uplink's task ended.
pub type UplinkEnd = Result<Result<(), uplink::ConfigError>, JoinError>;

/// One that runs.
pub struct Pipeline {
    /// How it is.
    pub reporter: Arc<Reporter>,
    /// Its configuration's records.
    pub standing: Arc<Standing>,
    /// What it was built from.
    pub built: Table,
    /// The host's enrolment can't be used: there is no link until it is mended, and another pipeline.
    pub broken: bool,
    /// Ends by itself only when it can't go on.
    pub uplink: JoinHandle<Result<(), uplink::ConfigError>>,
    shown: Arc<Shown>,
    reloads: Reloads,
    journal: Journal,
    folding: folding::Running,
    inputs: JoinSet<()>,
    stop_inputs: CancellationToken,
    stop_uplink: CancellationToken,
    renewing: JoinHandle<()>,
    witness: JoinHandle<()>,
    caring: Option<JoinHandle<()>>,
    cared: CancellationToken,
    exporting: Option<JoinHandle<()>>,
    stop_traces: CancellationToken,
}

impl Pipeline {
    /// Builds one. `open` is cancelled once its inputs listen.
    ///
    /// # Errors
    /// When the data folder can't be used or the configuration can't work; never for damage or a missing network.
    pub fn start(merged: &Merged, world: &World, open: CancellationToken) -> anyhow::Result<Self> {
        let Merged { config, table: built } = merged;
        let (clock, storage) = (&world.clock, &world.storage);
        let data = config.agent.data_dir.clone();
        let table = SeriesTable::new(config.agent.max_series);

        let (spool, journal) = open_logs(config, storage, &table)?;
        let tracer = traces::tracer(&config.tracing, clock);
        if let Some(tracer) = &tracer {
            spool.trace_with(Arc::clone(tracer));
        }
        let reloads = Reloads::new(&config.input);
        let (standing, late) = Standing::begin(config, &world.path, journal.clone(), Arc::clone(clock))
            .context("writing the configuration into the journal")?;
        let standing = Arc::new(standing);

        let taps = Arc::new(Taps::new(Arc::clone(&table)));
        let (seen, ticking, boot) = (Arc::clone(&taps), Arc::clone(clock), identity::boot_id());
        let device_clock = move |at| identity::device_clock(at, boot);
        let restore = {
            let (journal, spool, table) = (journal.clone(), spool.clone(), Arc::clone(&table));
            let path = data.join(CHECKPOINT);
            move || {
                // Without it the journal doesn't come free: it has the reserve for a full disk too.
                let checkpoint = Checkpoint::open(spool.storage(), &path)?.with_reserve(spool.reserve());
                let seen = Arc::clone(&seen);
                let (journal, spool) = (journal.clone(), spool.clone());
                let work = Folding::restore(journal, spool, checkpoint, &table, models::scorer, device_clock);
                Ok(Folding { shown: Box::new(move |record| seen.offer(record)), ..work })
            }
        };
        let folding = folding::start(&journal, &spool, restore, move || ticking.now())
            .context("starting the fold's thread")?;

        let stop_inputs = CancellationToken::new();
        let mut inputs = JoinSet::new();
        let rejects = Arc::new(Rejects::new());
        let timeline = Arc::new(timeline(&data, storage, clock.now()));
        inputs.spawn(Arc::clone(&timeline).keep(Arc::clone(clock), stop_inputs.clone()));
        let doors = inputs_table::start(
            &config.input,
            &inputs_table::Frame {
                journal: journal.clone(),
                table: Arc::clone(&table),
                rejects: Arc::clone(&rejects),
                clock: Arc::clone(clock),
                timeline,
                future_limit: config.fold.future_limit,
                data_dir: data.clone(),
                storage: spool.storage(),
                tracer: tracer.clone(),
            },
            &reloads,
            &mut inputs,
            &stop_inputs,
        );
        let names: Vec<String> = doors.iter().map(|door| door.name.to_string()).collect();
        let exporter = tracer.map(|tracer| {
            tracer.name_inputs(names.clone());
            Arc::new(Exporter::new(tracer, config.tracing.clone(), &config.agent.name))
        });
        taps.name_inputs(names);
        if let Some(records) = late {
            inputs.spawn(Standing::write_late(records, journal.clone(), stop_inputs.clone()));
        }

        let link = Arc::new(LinkState::new(&config.uplink.lanes));
        let reporter = Arc::new(Reporter {
            agent: config.agent.name.clone(),
            started_mono: world.started_mono,
            clock: Arc::clone(clock),
            table,
            doors,
            rejects,
            journal: journal.clone(),
            fold: folding.watch(),
            spool: spool.clone(),
            link: Arc::clone(&link),
            standing: Arc::clone(&standing),
            remote: Arc::clone(&world.remote),
            logging: Arc::clone(&world.logging),
            exporter: exporter.clone(),
        });
        let stop_traces = CancellationToken::new();
        let exporting = exporter.map(|exporter| tokio::spawn(exporter.run(stop_traces.clone())));
        let stop_uplink = CancellationToken::new();
        let renewing = tokio::spawn(uplink::enrolment::keep_renewed(
            uplink::enrolment::Folder::of(&data),
            Arc::clone(&reporter) as Arc<dyn uplink::Host>,
            Arc::clone(&link),
            stop_uplink.clone(),
        ));
        let witness =
            tokio::spawn(time_service::witness(spool.clone(), Arc::clone(clock), stop_uplink.clone()));
        let uplink = Uplink {
            config: config.uplink.clone(),
            identity: Identity {
                agent: config.agent.name.clone(),
                version: env!("CARGO_PKG_VERSION").into(),
                boot: identity::boot_id(),
                labels: identity::labels(),
            },
            spool,
            host: Arc::clone(&reporter) as Arc<dyn uplink::Host>,
            state: link,
            care: world.remote.care(),
        };
        let uplink = tokio::spawn(uplink.run(stop_uplink.clone()));
        let cared = CancellationToken::new();
        let dog = watchdog(&journal, &folding, &reporter.link);
        let (service, reported) = (Arc::clone(&world.service), Arc::clone(&reporter));
        let caring = tokio::spawn(care::running(service, reported, dog, open, cared.clone()));
        let shown =
            Arc::new(Shown { reporter: Arc::clone(&reporter), taps, config: Mutex::new(built.clone()) });
        world.stage.enter(Arc::clone(&shown));
        Ok(Self {
            reporter,
            standing,
            built: built.clone(),
            broken: config.uplink.broken.is_some(),
            uplink,
            shown,
            reloads,
            journal,
            folding,
            inputs,
            stop_inputs,
            stop_uplink,
            renewing,
            witness,
            caring: Some(caring),
            cared,
            exporting,
            stop_traces,
        })
    }

    /// The configuration that it goes by: what it was built from, and what was taken since.
    pub fn taken(&self) -> Table {
        self.shown.config.lock().clone()
    }

    /// Goes by another one as far as that is possible while it runs.
    ///
    /// # Errors
    /// When it can't be taken. Then nothing has changed.
    pub fn take(&self, merged: &Merged) -> anyhow::Result<()> {
        self.standing.take(&merged.config, &self.reloads)?;
        self.shown.config.lock().clone_from(&merged.table);
        Ok(())
    }

    /// No more is said of it to the service manager: somebody else has the word from here on.
    ///
    /// # Errors
    /// When the task that says it panicked.
    pub async fn hush(&mut self) -> anyhow::Result<()> {
        self.cared.cancel();
        match self.caring.take() {
            Some(caring) => Ok(caring.await?),
            None => Ok(()),
        }
    }

    /// Ends it in the direction of the flow, each part drained before the next is told. `early` is how the uplink ended, if it has.
    ///
    /// # Errors
    /// When a task of ours panicked, or the uplink couldn't go on.
    pub async fn stop(mut self, stage: &Stage, early: Option<UplinkEnd>) -> anyhow::Result<()> {
        self.hush().await?;
        self.stop_inputs.cancel();
        let drained = async { while self.inputs.join_next().await.is_some() {} };
        if tokio::time::timeout(INPUTS_TIMEOUT, drained).await.is_err() {
            tracing::warn!(
                "an input did not end in {INPUTS_TIMEOUT:?}; its unacknowledged readings stay with their senders"
            );
            self.inputs.abort_all();
        }
        let (closing, folding) = (self.journal.clone(), self.folding);
        tokio::task::spawn_blocking(move || {
            closing.close();
            folding.finish();
        })
        .await?;
        self.stop_uplink.cancel();
        let ended = match early {
            Some(ended) => ended,
            None => match tokio::time::timeout(UPLINK_TIMEOUT, &mut self.uplink).await {
                Ok(ended) => ended,
                Err(_) => {
                    self.uplink.abort();
                    Ok(Ok(()))
                }
            },
        };
        self.stop_traces.cancel();
        if let Some(exporting) = self.exporting {
            exporting.await?;
        }
        self.renewing.await?;
        self.witness.await?;
        stage.leave();
        // Whoever asks at this moment has the spool too, which the next pipeline opens.
        let answered = async {
            while Arc::strong_count(&self.shown) > 1 {
                tokio::time::sleep(ANSWER_LOOK).await;
            }
        };
        if tokio::time::timeout(ANSWER_TIMEOUT, answered).await.is_err() {
            tracing::warn!("a question to this agent was not answered within {ANSWER_TIMEOUT:?}");
        }
        ended?.context("the uplink")
    }
}

/// Never a reason not to start: without it ages are right until the next restart.
fn timeline(data: &std::path::Path, storage: &Arc<dyn Storage>, now: Stamp) -> Timeline {
    let path = data.join("timeline");
    Timeline::open(Arc::clone(storage), &path, identity::boot_id(), now).unwrap_or_else(|error| {
        tracing::error!(%error, "the timeline of ages can't be kept: it begins anew at the wall clock's time");
        Timeline::beginning(now)
    })
}

fn open_logs(
    config: &Config,
    storage: &Arc<dyn Storage>,
    table: &Arc<SeriesTable>,
) -> anyhow::Result<(Spool, Journal)> {
    let data = &config.agent.data_dir;
    let (spool, recovery) = Spool::open(
        spool::SpoolConfig {
            dir: data.join("spool"),
            max_bytes: config.spool.max_bytes.0,
            segment_bytes: config.spool.segment_bytes.0,
            batch_bytes: config.spool.batch_bytes.0 as usize,
            linger: Duration::from_nanos(config.spool.linger.nanos() as u64),
            max_age: match config.spool.max_age.nanos() {
                0 => None,
                nanos => Some(Duration::from_nanos(nanos as u64)),
            },
            min_free_bytes: config.spool.min_free.0,
            drop_at_floor: config.spool.free_floor == FreeFloor::Drop,
            reserve: Some(spool::Parts::beside(config.spool.max_bytes.0)),
            classes: classes::rules(&config.spool.class),
            ..spool::SpoolConfig::new(data.join("spool"))
        },
        Arc::clone(storage),
        Arc::clone(table),
        &config.agent.name,
    )
    .context("opening the spool")?;
    tracing::info!(?recovery, "spool open");
    let (journal, recovery) = Journal::open(
        journal::JournalConfig {
            dir: data.join("journal"),
            max_bytes: config.journal.max_bytes.0,
            segment_bytes: config.journal.segment_bytes.0,
            min_free_bytes: config.spool.min_free.0,
            linger: Duration::from_nanos(config.journal.linger.nanos() as u64),
            ..journal::JournalConfig::new(data.join("journal"))
        },
        Arc::clone(storage),
        Arc::clone(table),
    )
    .context("opening the journal")?;
    tracing::info!(?recovery, "journal open");
    for gap in &recovery.damaged {
        tracing::warn!(
            segment = ?recovery.newest, first = gap.first, last = gap.last, records = gap.records(), bytes = gap.bytes,
            kept_in = ?recovery.quarantined,
            "the newest segment of the journal is damaged, or records are gone that were behind it: what is intact before and behind goes on, and what was received in them is counted"
        );
    }
    if let Some((segment, _)) = recovery.torn_at.as_ref().filter(|_| recovery.torn_bytes > 0) {
        tracing::info!(
            segment = %segment.display(), bytes = recovery.torn_bytes, kept_in = ?recovery.quarantined,
            "the journal ends in bytes that are no whole record, as a kill or a power cut leaves them: nothing that was acknowledged is known to be in them"
        );
    }
    if !recovery.set_aside.is_empty() {
        tracing::error!(
            moved_to = ?recovery.set_aside,
            "the disk does not give segments of the journal: what was in them and not yet in batches is lost; check the disk (dmesg, smartctl)"
        );
    }
    // A journal that was lost must not count through positions that the spool already has.
    folding::number_on(&journal, &spool, &data.join(CHECKPOINT));
    if config.input.mqtt.is_none() {
        // Nobody keeps sessions: nobody holds the journal for them.
        journal.release(journal::Holder::Sessions, telemetry::Position::MAX);
    }
    Ok((spool, journal))
}

/// Those without whom no reading gets through.
fn watchdog(journal: &Journal, folding: &folding::Running, link: &Arc<LinkState>) -> Watchdog {
    let (now, journal, fold, link) = (Instant::now(), journal.clone(), folding.watch(), Arc::clone(link));
    Watchdog::new().on("journal", now, move || journal.beats()).on("fold", now, move || fold.beats()).on(
        "uplink",
        now,
        move || link.beats(),
    )
}
