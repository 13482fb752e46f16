//! `telemetryx-agent run`: opens everything, lets it flow, and closes it in the direction of the flow.
//!
//! ```text
//! inputs ─▶ journal ─▶ fold thread ─▶ spool ─▶ uplink
//! ```

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use folding::{Checkpoint, Folding};
use inputs::{Clock, Rejects, SystemClock, Timeline};
use journal::{AppendError, Journal};
use seglog::{Disk, Storage};
use spool::Spool;
use telemetry::{Record, SeriesTable, Stamp};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uplink::{Identity, LinkState, Uplink};

use crate::classes::FreeFloor;
use crate::config::Config;
use crate::status::Reporter;
use crate::tap::Taps;
use crate::{classes, control, identity, inputs_table, lock, models};

/// After this long at shutdown an input that doesn't end is left behind.
const INPUTS_TIMEOUT: Duration = Duration::from_secs(10);
/// How often is looked whether a full journal has room for the configuration.
const STANDING_RETRY: Duration = Duration::from_millis(250);
const UPLINK_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the agent until it is told to stop.
///
/// # Errors
/// When the data folder can't be used or the configuration can't work; never for damage or a missing network.
pub async fn run(config: Config, path: &std::path::Path) -> anyhow::Result<()> {
    let data = config.agent.data_dir.clone();
    let _lock = lock::take(&data)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let table = SeriesTable::new(config.agent.max_series);

    let (spool, journal) = open_logs(&config, &storage, &table)?;
    let checkpoint = Checkpoint::open(Arc::clone(&storage), &data.join("fold.checkpoint"))
        .context("opening the fold's checkpoint")?;
    let (fold, applied) = checkpoint.restore(&table, models::scorer);
    let standing = standing_records(&config, &*clock)?;
    let no_room = match journal.append_all(&standing) {
        Ok(_) => false,
        Err(AppendError::Full { .. }) => true,
        Err(error) => return Err(error).context("writing the configuration into the journal"),
    };

    let taps = Arc::new(Taps::new(Arc::clone(&table)));
    let (shown, ticking, boot) = (Arc::clone(&taps), Arc::clone(&clock), identity::boot_id());
    let work = Folding {
        journal: journal.clone(),
        fold,
        applied,
        spool: spool.clone(),
        checkpoint,
        shown: Box::new(move |record| shown.offer(record)),
        clock: Box::new(move |at| identity::device_clock(at, boot)),
    };
    let folding = folding::start(work, move || ticking.now()).context("starting the fold's thread")?;

    let stop_inputs = CancellationToken::new();
    let mut input_tasks = JoinSet::new();
    let rejects = Arc::new(Rejects::new());
    let timeline = Arc::new(timeline(&data, &storage, clock.now()));
    input_tasks.spawn(Arc::clone(&timeline).keep(Arc::clone(&clock), stop_inputs.clone()));
    let doors = inputs_table::start(
        &config.input,
        &inputs_table::Frame {
            journal: journal.clone(),
            table: Arc::clone(&table),
            rejects: Arc::clone(&rejects),
            clock: Arc::clone(&clock),
            timeline,
            data_dir: data.clone(),
        },
        &mut input_tasks,
        &stop_inputs,
    );
    taps.name_inputs(doors.iter().map(|door| door.name.to_string()).collect());
    if no_room {
        tracing::warn!("the journal is full: the configuration is written into it once there is room");
        input_tasks.spawn(write_late(standing, journal.clone(), stop_inputs.clone()));
    }

    let link = Arc::new(LinkState::new(&config.uplink.lanes));
    let reporter = Arc::new(Reporter {
        agent: config.agent.name.clone(),
        started_mono: clock.now().mono,
        clock: Arc::clone(&clock),
        table,
        doors,
        rejects,
        journal: journal.clone(),
        fold: folding.watch(),
        spool: spool.clone(),
        link: Arc::clone(&link),
    });
    let stop_uplink = CancellationToken::new();
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
    };
    let mut uplink_task = tokio::spawn(uplink.run(stop_uplink.clone()));
    let control_task = tokio::spawn(control::serve(
        control::bind(&data).context("opening the control socket")?,
        reporter,
        taps,
        stop_uplink.clone(),
    ));

    tracing::info!(agent = %config.agent.name, data_dir = %data.display(), "running");
    let early = tokio::select! {
        () = told_to_stop(path, &journal, &*clock) => None,
        ended = &mut uplink_task => Some(ended),
    };
    tracing::info!("stopping");

    // In the direction of the flow, each part drained before the next is told.
    stop_inputs.cancel();
    let drained = async { while input_tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(INPUTS_TIMEOUT, drained).await.is_err() {
        tracing::warn!(
            "an input did not end in {INPUTS_TIMEOUT:?}; its unacknowledged readings stay with their senders"
        );
        input_tasks.abort_all();
    }
    let closing = journal.clone();
    tokio::task::spawn_blocking(move || {
        closing.close();
        folding.finish();
    })
    .await?;
    stop_uplink.cancel();
    let ended = match early {
        Some(ended) => ended,
        None => match tokio::time::timeout(UPLINK_TIMEOUT, &mut uplink_task).await {
            Ok(ended) => ended,
            Err(_) => {
                uplink_task.abort();
                Ok(Ok(()))
            }
        },
    };
    control_task.await?;
    let _ = std::fs::remove_file(control::socket(&data));
    ended?.context("the uplink")
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
            linger: Duration::from_nanos(config.journal.linger.nanos() as u64),
        },
        Arc::clone(storage),
        Arc::clone(table),
    )
    .context("opening the journal")?;
    tracing::info!(?recovery, "journal open");
    // A journal that was lost must not count through positions that the spool already has.
    journal.skip_to(spool.position());
    if config.input.mqtt.is_none() {
        // Nobody keeps sessions: nobody holds the journal for them.
        journal.release(journal::Holder::Sessions, telemetry::Position::MAX);
    }
    Ok((spool, journal))
}

/// What the fold must know before the first reading: time, configuration, models. Equal ones change nothing.
fn standing_records(config: &Config, clock: &dyn Clock) -> anyhow::Result<Vec<Record>> {
    let stamp = clock.now();
    Ok(vec![
        identity::tick(clock.now(), identity::boot_id()),
        Record::Config { stamp, generation: stamp.wall.unsigned_abs(), config: config.fold.to_json() },
        models::host_record(&config.model, stamp)?,
    ])
}

/// Returns on SIGTERM or SIGINT. SIGHUP reads the file again and applies `[fold]` and `[model]`; a
/// file that can't be used changes nothing.
async fn told_to_stop(path: &std::path::Path, journal: &Journal, clock: &dyn Clock) {
    let (Ok(mut term), Ok(mut int), Ok(mut hup)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()))
    else {
        tracing::error!("the system gives no signals: stopping");
        return;
    };
    loop {
        tokio::select! {
            _ = term.recv() => return,
            _ = int.recv() => return,
            _ = hup.recv() => match reload(path, journal, clock) {
                Ok(()) => tracing::info!("[fold] and [model] are read again; other sections take effect at the next start"),
                Err(error) => tracing::error!("the config file was not taken, the old one stays in force: {error:#}"),
            },
        }
    }
}

/// Writes the standing records as soon as the journal has room. Until then nearly no reading finds room either, and
/// the fold goes by the configuration of before.
async fn write_late(standing: Vec<Record>, journal: Journal, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(STANDING_RETRY) => {}
            () = shutdown.cancelled() => return,
        }
        match journal.append_all(&standing) {
            Ok(_) => return tracing::info!("the journal has room again and the configuration in it"),
            Err(error) => tracing::debug!(%error, "the configuration is not in the journal yet"),
        }
    }
}

fn reload(path: &std::path::Path, journal: &Journal, clock: &dyn Clock) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    // All or none: half of a configuration is none that anybody checked.
    journal.append_all(&standing_records(&config, clock)?)?;
    Ok(())
}
