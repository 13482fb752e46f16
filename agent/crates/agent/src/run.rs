//! `telemetryx-agent run`: the process around the pipeline. It builds one, tends it (signals, configurations that the collector
//! pushes), ends it, and builds another where a configuration needs that.
//!
//! ```text
//!          ┌──────────── another configuration ────────────┐
//!          ▼                                                │
//! lock ─▶ Pipeline::start ─▶ tend: SIGHUP · pushed · gate ─▶ Pipeline::stop ─▶ told to stop
//! ```

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inputs::{Clock, SystemClock};
use seglog::{Disk, Storage};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use uplink::enrolment::Folder;

use crate::logging::Logging;
use crate::pipeline::{Pipeline, UplinkEnd, World};
use crate::remote::{Cache, Gate, HostFile, Merged, Outcome, Remote, Step, Verdict};
use crate::service::Service;
use crate::stage::Stage;
use crate::{brief, care, control, lock, remote};

/// How often a configuration on trial is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How often a damaged enrolment is looked at: somebody may have mended it, or enrolled the host again.
const MENDED: Duration = Duration::from_secs(1);
/// An agent that was killed has let go of its folder after this long.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Why a pipeline is to end.
enum End {
    /// The process was told to.
    Told,
    /// The uplink can't go on.
    Uplink(UplinkEnd),
    /// This configuration needs another one.
    Again(Box<Merged>, Ailing),
}

/// Inputs that didn't run before: a trial asks nothing of them.
type Ailing = BTreeSet<String>;

/// Runs the agent until it is told to stop. `file` was checked: alone it gives `first`.
///
/// # Errors
/// When the data folder can't be used or the configuration can't work; never for damage or a missing network.
pub async fn run(mut file: HostFile, first: Merged, logging: Arc<Logging>) -> anyhow::Result<()> {
    let service = Arc::new(Service::from_env());
    let mut open = CancellationToken::new();
    tokio::spawn(care::starting(Arc::clone(&service), open.clone()));
    let mut _opened = open.clone().drop_guard();
    let data = first.config.agent.data_dir.clone();
    let _lock = lock::take_from_a_dying(&data, LOCK_PATIENCE).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let cache = Cache::of(Arc::clone(&storage), &data);
    let world = World {
        path: file.path.clone(),
        data: data.clone(),
        remote: Arc::new(Remote::open(cache, Arc::clone(&clock), file.remote())),
        started_mono: clock.now().mono,
        clock,
        storage,
        service: Arc::clone(&service),
        logging,
        stage: Stage::new(),
    };
    let done = CancellationToken::new();
    let _done = done.clone().drop_guard();
    let mut merged = world.remote.effective(&file)?;
    let mut ailing = Ailing::new();
    let mut signals = Signals::listen()?;
    let mut beside = None;
    loop {
        world.logging.configure(&merged.config.agent);
        let mut pipeline = match Pipeline::start(&merged, &world, open.clone()) {
            Ok(pipeline) => pipeline,
            Err(error) if world.remote.on_trial() => {
                world.remote.returned(&format!("the agent can't start with it: {error:#}"));
                merged = world.remote.effective(&file)?;
                continue;
            }
            Err(error) => return Err(error),
        };
        if beside.is_none() {
            beside = Some(beside_pipelines(&world, &data, &done));
        }
        tracing::info!(agent = %merged.config.agent.name, data_dir = %data.display(), "running");
        let end = tend(&mut pipeline, &world, &mut signals, &mut file, std::mem::take(&mut ailing)).await;
        pipeline.hush().await?;
        match end {
            End::Again(wanted, before) => {
                tracing::info!("the pipeline ends and begins anew, with another configuration");
                service.reloading();
                open = CancellationToken::new();
                tokio::spawn(care::starting_again(Arc::clone(&service), open.clone()));
                _opened = open.clone().drop_guard();
                pipeline.stop(&world.stage, None).await?;
                (merged, ailing) = (*wanted, before);
            }
            end => {
                tracing::info!("stopping");
                service.stopping();
                let early = match end {
                    End::Uplink(ended) => Some(ended),
                    _ => None,
                };
                let stopped = pipeline.stop(&world.stage, early).await;
                world.remote.ended();
                done.cancel();
                for task in beside.into_iter().flatten() {
                    task.await?;
                }
                let _ = std::fs::remove_file(control::socket(&data));
                return stopped;
            }
        }
    }
}

/// What goes on while pipelines come and go: the control socket, and requests of the collector.
fn beside_pipelines(
    world: &World,
    data: &Path,
    done: &CancellationToken,
) -> [tokio::task::JoinHandle<()>; 2] {
    // Before anybody hears that this runs: who then asks is answered.
    let first = control::bind(data);
    let control =
        control::serve(data.to_owned(), first, world.stage.seat(), world.remote.care(), done.clone());
    let requests = remote::requests::serve(
        remote::requests::Desk {
            care: world.remote.care(),
            remote: Arc::clone(&world.remote),
            logging: Arc::clone(&world.logging),
            seat: world.stage.seat(),
            clock: Arc::clone(&world.clock),
            path: world.path.clone(),
            data_dir: data.to_owned(),
        },
        done.clone(),
    );
    [tokio::spawn(control), tokio::spawn(requests)]
}

/// Tends a pipeline until it is to end.
async fn tend(
    pipeline: &mut Pipeline,
    world: &World,
    signals: &mut Signals,
    file: &mut HostFile,
    ailing: Ailing,
) -> End {
    let remote = &world.remote;
    let care = remote.care();
    let begin = |ailing: Ailing, pipeline: &Pipeline| {
        Gate::begin(Arc::clone(&pipeline.reporter), ailing, remote.takes().gate(), Instant::now())
    };
    let mut gate = remote.on_trial().then(|| begin(ailing, pipeline));
    let mut look = tokio::time::interval(LOOK);
    let mut mends = tokio::time::interval(MENDED);
    loop {
        let verdict = tokio::select! {
            _ = signals.term.recv() => return End::Told,
            _ = signals.int.recv() => return End::Told,
            ended = &mut pipeline.uplink => return End::Uplink(ended),
            _ = signals.hup.recv() => {
                world.service.reloading();
                let again = read_again(pipeline, world, file);
                if let Some(end) = again {
                    return end;
                }
                // The file may have ended a trial, or let one go on.
                match remote.on_trial() {
                    true if gate.is_none() => gate = Some(begin(Ailing::new(), pipeline)),
                    true => {}
                    false => gate = None,
                }
                world.service.ready(&brief::line(&pipeline.reporter.status()));
                continue;
            }
            _ = mends.tick(), if pipeline.broken && gate.is_none() => match mended(pipeline, world, file) {
                Some(end) => return end,
                None => continue,
            },
            // One after the other: what is on trial is judged first.
            config = care.next_config(), if gate.is_none() => {
                let before: Vec<String> = unusable(pipeline, file);
                let outcome = remote.came(file, config, |merged| new_trouble(merged, &before));
                let Outcome::Try(merged) = outcome else { continue };
                match remote::step(&pipeline.built, &pipeline.taken(), &merged.table) {
                    Step::Nothing => Verdict::Healthy,
                    Step::Restart => return End::Again(merged, remote::ailing(&pipeline.reporter)),
                    Step::Reload => match pipeline.take(&merged) {
                        Ok(()) => {
                            world.logging.configure(&merged.config.agent);
                            gate = Some(begin(remote::ailing(&pipeline.reporter), pipeline));
                            Verdict::Wait
                        }
                        Err(error) => Verdict::Sick(format!("{error:#}")),
                    }
                }
            }
            _ = look.tick(), if gate.is_some() => match &gate {
                Some(gate) => gate.look(Instant::now()),
                None => Verdict::Wait,
            },
        };
        match verdict {
            Verdict::Wait => {}
            Verdict::Healthy => {
                gate = None;
                remote.proven();
            }
            Verdict::Sick(why) => {
                gate = None;
                remote.returned(&why);
                if let Some(end) = go_back(pipeline, world, file) {
                    return end;
                }
            }
        }
    }
}

/// Puts in force what is to be after a trial that failed.
fn go_back(pipeline: &Pipeline, world: &World, file: &HostFile) -> Option<End> {
    let merged = match world.remote.effective(file) {
        Ok(merged) => merged,
        Err(error) => {
            tracing::error!(%error, "the configuration of before can't be used any more: the pipeline stays as it is");
            return None;
        }
    };
    match remote::step(&pipeline.built, &pipeline.taken(), &merged.table) {
        Step::Nothing => None,
        Step::Restart => Some(End::Again(Box::new(merged), Ailing::new())),
        Step::Reload => {
            match pipeline.take(&merged) {
                Ok(()) => world.logging.configure(&merged.config.agent),
                Err(error) => {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "the configuration of before is not in force again: SIGHUP tries it once more"
                    );
                }
            }
            None
        }
    }
}

/// SIGHUP: reads the file anew, and puts in force what can be while readings flow. A file that can't be used changes nothing.
/// All else waits for the next start, but for a file that takes pushed configurations in another way now: that counts at once.
fn read_again(pipeline: &Pipeline, world: &World, file: &mut HostFile) -> Option<End> {
    let before = world.remote.takes();
    let read = HostFile::read(&file.path).map_err(anyhow::Error::from).and_then(|read| {
        read.alone()?;
        let merged = world.remote.effective(&read)?;
        pipeline.take(&merged)?;
        Ok((read, merged))
    });
    match read {
        Ok((read, merged)) => {
            *file = read;
            world.logging.configure(&merged.config.agent);
            tracing::info!(
                "[fold], [model], [remote], the log level and who may use [input.mqtt] are read again; all else takes effect at the next start"
            );
            let otherwise = before.config != world.remote.takes().config;
            let step = remote::step(&pipeline.built, &merged.table, &merged.table);
            let mended = pipeline.broken && merged.config.uplink.broken.is_none();
            (mended || otherwise && step == Step::Restart)
                .then(|| End::Again(Box::new(merged), remote::ailing(&pipeline.reporter)))
        }
        Err(error) => {
            pipeline.standing.refuse(&error);
            // What is taken of pushed configurations stays as it was, too.
            if let Err(error) = world.remote.effective(file) {
                tracing::error!(%error, "the configuration in force can't be read again");
            }
            None
        }
    }
}

/// A damaged enrolment that can be used again takes a pipeline of its own: name and collector are of it.
fn mended(pipeline: &Pipeline, world: &World, file: &HostFile) -> Option<End> {
    Folder::of(&world.data).load().ok()?;
    let merged = match world.remote.effective(file) {
        Ok(merged) if merged.config.uplink.broken.is_none() => merged,
        Ok(_) => return None,
        Err(error) => {
            if pipeline.standing.status().refused.is_none() {
                pipeline.standing.refuse(&error.into());
            }
            return None;
        }
    };
    tracing::info!("the enrolment can be used again");
    Some(End::Again(Box::new(merged), remote::ailing(&pipeline.reporter)))
}

/// The files that the configuration in force names and that can't be used anyway.
fn unusable(pipeline: &Pipeline, file: &HostFile) -> Vec<String> {
    let text = toml::to_string(&pipeline.taken()).unwrap_or_default();
    let config = crate::config::Config::parse(&text, &file.path);
    let found = config.map(|config| config.unusable_files()).unwrap_or_default();
    found.into_iter().map(|(_, said)| said).collect()
}

/// What a configuration could not use of this host that the one before could.
fn new_trouble(merged: &Merged, before: &[String]) -> Option<String> {
    let found = merged.config.unusable_files().into_iter().map(|(_, said)| said);
    let new: Vec<String> = found.filter(|said| !before.contains(said)).collect();
    (!new.is_empty()).then(|| new.join("; "))
}

/// What we are told by signals, from [`Signals::listen`] on: before the service manager hears that we are ready, since
/// a SIGHUP that nobody waits for ends a process.
struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }
}
