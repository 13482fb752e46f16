//! The driver on a thread of its own: steps and waits in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use telemetry::Stamp;

use crate::driver::{Driver, Step};
use crate::watch::Watch;
use crate::work::Folding;

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

/// Starts the thread; `now` is this host's clock.
///
/// # Errors
/// When the system gives no thread.
pub fn start(work: Folding, now: impl Fn() -> Stamp + Send + 'static) -> std::io::Result<Running> {
    let stop = Arc::new(AtomicBool::new(false));
    // An ack makes the next batch due, and the thread may be waiting for a record that never comes.
    let journal = work.journal.clone();
    work.spool.when_due(move || journal.nudge());
    let driver = Driver::new(work, now());
    let watch = driver.watch();
    let seen = Arc::clone(&stop);
    let thread = std::thread::Builder::new().name("fold".into()).spawn(move || run(driver, &now, &seen))?;
    Ok(Running { stop, watch, thread })
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
