//! The driver on a thread of its own: steps and waits in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use journal::Journal;
use seglog::OpenError;
use seglog::regular::is_dead_link;
use spool::Spool;
use telemetry::Stamp;

use crate::driver::{Driver, Step};
use crate::watch::Watch;
use crate::work::Folding;

/// Between two attempts to restore what isn't given.
const RETRY: Duration = Duration::from_millis(250);

/// The running thread.
pub struct Running {
    stop: Arc<AtomicBool>,
    watch: Arc<Watch>,
    thread: JoinHandle<()>,
}

impl Running {
    /// What others may see of it.
    pub fn watch(&self) -> Arc<Watch> {
        Arc::clone(&self.watch)
    }

    /// Folds what the journal has, cuts the last batch and ends. The journal must be closed before. What
    /// can't be spooled the journal keeps.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Release);
        if self.thread.join().is_err() {
            tracing::error!("the fold's thread ended with a panic; the journal keeps what it had not done");
        }
    }
}

/// Starts the thread: `restore` gives what is driven, `now` is this host's clock. Where it can't be restored now, since the
/// checkpoint is there and isn't given (rights, file handles), the thread tries again until it can: nothing is lost meanwhile, the
/// journal takes what comes and keeps it.
///
/// # Errors
/// When the system gives no thread.
pub fn start(
    journal: &Journal,
    spool: &Spool,
    mut restore: impl FnMut() -> Result<Folding, OpenError> + Send + 'static,
    now: impl Fn() -> Stamp + Send + 'static,
) -> std::io::Result<Running> {
    let stop = Arc::new(AtomicBool::new(false));
    // An ack makes the next batch due, and the thread may be waiting for a record that never comes.
    let nudged = journal.clone();
    spool.when_due(move || nudged.nudge());
    let watch = Arc::new(Watch::new(0));
    let drive = |work, at, watch: &Arc<Watch>| Driver::new(work, at).watched_by(Arc::clone(watch));
    let first = restore().map(|work| drive(work, now(), &watch));
    if let Err(error) = &first {
        withheld(&watch, error);
    }
    let (seen, beside) = (Arc::clone(&stop), Arc::clone(&watch));
    let thread = std::thread::Builder::new().name("fold".into()).spawn(move || {
        let driver = match first {
            Ok(driver) => Some(driver),
            Err(_) => restored(&mut restore, &beside, &seen).map(|work| drive(work, now(), &beside)),
        };
        if let Some(driver) = driver {
            run(driver, &now, &seen);
        }
    })?;
    Ok(Running { stop, watch, thread })
}

/// Tries until there is something to drive; `None` when it is to end before.
fn restored(
    restore: &mut impl FnMut() -> Result<Folding, OpenError>,
    watch: &Watch,
    stop: &AtomicBool,
) -> Option<Folding> {
    while !stop.load(Ordering::Acquire) {
        watch.pulse.beat();
        std::thread::sleep(RETRY);
        match restore() {
            Ok(work) => {
                tracing::info!("the fold's checkpoint is given now: records are folded");
                watch.progress.lock().blocked = None;
                return Some(work);
            }
            Err(error) => withheld(watch, &error),
        }
    }
    None
}

/// Says why nothing is folded, in the log once.
fn withheld(watch: &Watch, error: &OpenError) {
    let why = match error {
        // Who moved the link away would begin the fold anew.
        OpenError::Io { path, source, .. } if is_dead_link(source) => format!(
            "the fold's checkpoint {} is a link that leads nowhere, mostly to a disk that isn't mounted: mount that disk or make that folder. Nothing of it is lost, what comes waits in the journal, and it is tried again",
            path.display()
        ),
        _ => format!(
            "the fold's checkpoint is there and can't be read just now ({error}): nothing of it is lost, what comes waits in the journal, and it is tried again"
        ),
    };
    if watch.progress.lock().blocked.replace(why.clone()).is_none() {
        tracing::error!("{why}");
    }
}

fn run(mut driver: Driver, now: &dyn Fn() -> Stamp, stop: &AtomicBool) {
    let watch = driver.watch();
    loop {
        watch.pulse.beat();
        match driver.step(now()) {
            Step::Progress => {}
            Step::Idle(patience) => _ = driver.wait(Instant::now() + patience),
            Step::Blocked(_) if stop.load(Ordering::Acquire) => return,
            Step::Blocked(pause) => std::thread::sleep(pause),
            Step::Ended => return,
        }
    }
}
