//! Drives the fold: journal records in, rows to the spool, checkpoint and release behind it.
//!
//! One thread, blocking. Order of what it makes durable (DESIGN section 4): the spool first, then
//! the checkpoint, then the journal lets go. A crash between any two only means replaying more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fold::{Fold, FoldStatus};
use inputs::Clock;
use journal::{Holder, Journal};
use parking_lot::Mutex;
use spool::Spool;
use telemetry::{Cause, Counts, Position, Rows, Stamp};

use crate::checkpoint::Checkpoint;
use crate::identity;
use crate::tap::Taps;

/// The longest wait for a record, and for acknowledged segments to be freed: each waking costs an idle host.
const IDLE: Duration = Duration::from_secs(5);
/// The same while the records of before the start are folded: some of them may be gone.
const RECOVERING_IDLE: Duration = Duration::from_millis(100);
/// A checkpoint writes the fold's whole state: seldom enough for flash, and at once when the journal fills.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Ticks are records, and each costs a sync of the disk: not more often than this, however much waits for one.
const TICK_NOT_BEFORE: Duration = Duration::from_secs(1);
/// With nothing that waits for time to pass one in so long is enough.
const TICK_AT_LATEST: Duration = Duration::from_secs(10);
/// While the disk does not do what it should, the pause between two attempts.
const RETRY: Duration = Duration::from_millis(250);

/// What the thread works on.
pub struct FoldThread {
    /// Records come from here.
    pub journal: Journal,
    /// The pure step.
    pub fold: Fold,
    /// Position of the last record the fold has seen.
    pub applied: Position,
    /// Rows go there.
    pub spool: Spool,
    /// The fold's state is kept here.
    pub checkpoint: Checkpoint,
    /// Whoever watches.
    pub taps: Arc<Taps>,
    /// Says when a tick is due; the fold itself sees no clock.
    pub clock: Arc<dyn Clock>,
}

/// The running thread.
pub struct Running {
    stop: Arc<AtomicBool>,
    watch: Arc<Watch>,
    thread: JoinHandle<()>,
}

/// What others may see of the thread.
pub struct Watch {
    applied: AtomicU64,
    progress: Mutex<Progress>,
}

impl Watch {
    /// What the thread says of itself, with the journal's newest position at hand.
    pub fn progress(&self, last: Position) -> Progress {
        // Read before `last` grows further, so that it is never more than there is.
        let behind = last.saturating_sub(self.applied.load(Ordering::Acquire));
        Progress { behind, ..self.progress.lock().clone() }
    }
}

/// What the thread says of itself.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Progress {
    /// The fold's own words.
    pub fold: FoldStatus,
    /// Records between the fold and the journal's end.
    pub behind: u64,
    /// True until the records of before the start are folded.
    pub recovering: bool,
    /// Why rows can't be spooled now; `None` when they can.
    pub blocked: Option<String>,
    /// Records that can't be read: damage, counted.
    pub damaged_records: u64,
}

impl Running {
    /// What others may see of it.
    pub fn watch(&self) -> Arc<Watch> {
        Arc::clone(&self.watch)
    }

    /// Folds what the journal has, cuts the last batch and ends. The journal must be closed before.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Release);
        if self.thread.join().is_err() {
            tracing::error!("the fold's thread ended with a panic; the journal keeps what it had not done");
        }
    }
}

/// Starts the thread.
///
/// # Errors
/// When the system gives no thread.
pub fn start(work: FoldThread) -> std::io::Result<Running> {
    let stop = Arc::new(AtomicBool::new(false));
    let watch = Arc::new(Watch {
        applied: AtomicU64::new(work.applied),
        progress: Mutex::new(Progress { recovering: true, ..Progress::default() }),
    });
    let (seen_stop, seen_watch) = (Arc::clone(&stop), Arc::clone(&watch));
    let thread = std::thread::Builder::new()
        .name("fold".into())
        .spawn(move || Driver { work, stop: seen_stop, watch: seen_watch, ticks: Ticks::new() }.run())?;
    Ok(Running { stop, watch, thread })
}

struct Driver {
    work: FoldThread,
    stop: Arc<AtomicBool>,
    watch: Arc<Watch>,
    ticks: Ticks,
}

/// When the next tick is to be appended.
struct Ticks {
    boot: [u8; 16],
    last: Instant,
    /// When the fold waits for one, by the monotonic clock, as of the last look.
    due: Option<u64>,
    clock_was_set: bool,
}

impl Ticks {
    fn new() -> Self {
        Self { boot: identity::boot_id(), last: Instant::now(), due: None, clock_was_set: false }
    }

    /// How long until then; zero when it is now.
    fn patience(&self, now: Stamp) -> Duration {
        if identity::clock_is_set(now.wall) != self.clock_was_set {
            return Duration::ZERO;
        }
        let since = self.last.elapsed();
        let due = self.due.map_or(TICK_AT_LATEST, |due| Duration::from_nanos(due.saturating_sub(now.mono)));
        due.max(TICK_NOT_BEFORE.saturating_sub(since)).min(TICK_AT_LATEST.saturating_sub(since))
    }

    fn appended(&mut self, now: Stamp) {
        // Looked up anew once the fold has seen this one.
        (self.last, self.due, self.clock_was_set) = (Instant::now(), None, identity::clock_is_set(now.wall));
    }
}

impl Driver {
    fn run(mut self) {
        // Records of before this start are cut by size, and where an earlier start began a segment: two
        // clones of one disk cut what they share alike, however often each was started since.
        let recover_to = self.work.journal.last();
        let mut recovering = true;
        let mut reader = self.work.journal.reader(self.work.applied);
        let mut rows = Rows::default();
        let mut damaged = Counts::new();
        let started = Instant::now();
        let (mut checkpointed, mut looked) = (started, started);
        let (mut segment, mut noted) = (0, false);
        loop {
            // Asked before reading: what became durable until then is read below.
            let stopping = self.work.journal.ended();
            if recovering && self.work.applied >= recover_to {
                recovering = false;
                self.insist(|spool| spool.cut().map(drop));
                self.watch.progress.lock().recovering = false;
                tracing::info!(position = recover_to, "the journal of before the start is folded");
            }
            let idle = match (recovering, noted) {
                (true, _) => RECOVERING_IDLE,
                (false, false) => LOOK_EVERY,
                (false, true) => IDLE.min(self.ticks.patience(self.work.clock.now())),
            };
            let patience = self.work.spool.due(started.elapsed()).unwrap_or(idle).min(idle);
            let mut waited = false;
            match reader.next(if stopping { Duration::ZERO } else { patience }) {
                Ok(Some((position, record))) => {
                    noted = false;
                    rows.clear();
                    self.work.fold.apply(position, &record, &mut rows);
                    self.work.taps.offer(&record);
                    rows.counts.merge(&damaged.take());
                    if recovering && segment != reader.segment() {
                        segment = reader.segment();
                        self.insist(|spool| spool.cut().map(drop));
                    }
                    // The spool passes over what a batch already has from before the crash.
                    self.insist(|spool| spool.append(position, &rows, recovering));
                    self.passed(position);
                }
                Ok(None) if stopping => break,
                // Damage at the very end of what was to be recovered: nothing more will come of it.
                Ok(None) if recovering && *self.work.journal.durable().borrow() >= recover_to => {
                    self.passed(recover_to);
                }
                Ok(None) => waited = true,
                Err(error) => {
                    tracing::error!(%error, "the journal can't be read; trying again");
                    self.watch.progress.lock().blocked = Some(error.to_string());
                    if stopping {
                        break;
                    }
                    std::thread::sleep(RETRY);
                }
            }
            for gap in reader.take_gaps() {
                tracing::error!(
                    ?gap,
                    "a part of the journal is damaged; what is intact before and after it goes on"
                );
                damaged.add(Cause::Damaged, gap.readings.unwrap_or(0));
                self.watch.progress.lock().damaged_records += gap.last.saturating_sub(gap.first) + 1;
            }
            if !recovering {
                self.insist(|spool| spool.cut_if_due(started.elapsed()).map(drop));
                // Under load records come without a pause: then a look at the clock now and then.
                if !stopping && (waited || looked.elapsed() >= LOOK_EVERY) {
                    self.tick();
                }
            }
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                let usage = self.work.journal.usage();
                if checkpointed.elapsed() >= CHECKPOINT_EVERY || usage.bytes > usage.max_bytes / 8 {
                    checkpointed = looked;
                    if !recovering {
                        // Under a steady load something is always pending: what is must be in a batch first.
                        self.insist(|spool| spool.cut().map(drop));
                    }
                    self.checkpoint();
                }
                self.note();
                noted = true;
            }
        }
        self.insist(|spool| spool.cut().map(drop));
        self.checkpoint();
        self.note();
    }

    /// A full journal is no place for a tick: the next one says as much.
    fn tick(&mut self) {
        let now = self.work.clock.now();
        if self.ticks.patience(now).is_zero() {
            if let Err(error) = self.work.journal.append(&identity::tick(now, self.ticks.boot)) {
                tracing::debug!(%error, "no tick");
            }
            self.ticks.appended(now);
        }
    }

    fn passed(&mut self, position: Position) {
        self.work.applied = position;
        self.watch.applied.store(position, Ordering::Release);
    }

    /// Does it until it works: a full disk passes, and until then the journal holds the readings.
    fn insist(&self, mut act: impl FnMut(&Spool) -> Result<(), spool::SpoolError>) {
        let mut told = false;
        while let Err(error) = act(&self.work.spool) {
            if !told {
                tracing::error!(%error, "rows can't be spooled; trying again until they can");
                told = true;
            }
            self.watch.progress.lock().blocked = Some(error.to_string());
            // At shutdown the journal keeps what couldn't be spooled.
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            std::thread::sleep(RETRY);
        }
        if told {
            tracing::info!("rows are spooled again");
            self.watch.progress.lock().blocked = None;
        }
    }

    // DURABILITY: the spool has all rows up to `applied` on disk before the checkpoint names it, and
    // the checkpoint is on disk before the journal lets go.
    fn checkpoint(&mut self) {
        let applied = self.work.applied;
        if self.work.spool.durable_position() < applied {
            return;
        }
        match self.work.checkpoint.set(applied, &self.work.fold.checkpoint()) {
            Ok(()) => self.work.journal.release(Holder::Fold, applied),
            Err(error) => {
                tracing::warn!(%error, "the fold's checkpoint can't be written; the journal keeps its records")
            }
        }
    }

    fn note(&mut self) {
        self.ticks.due = self.work.fold.tick_due();
        self.watch.progress.lock().fold = self.work.fold.status();
    }
}

#[cfg(test)]
#[path = "fold_thread_tests.rs"]
mod tests;
