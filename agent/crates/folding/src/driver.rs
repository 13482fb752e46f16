//! The state machine between journal and spool.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fold::Fold;
use journal::{Holder, Journal, JournalReader};
use spool::Spool;
use telemetry::{Cause, Counts, DeviceClock, Position, Record, Rows, Stamp};

use crate::checkpoint::Checkpoint;
use crate::ticks::Ticks;
use crate::watch::Watch;

/// The longest wait for a record, and for acknowledged segments to be freed: each waking costs an idle host.
const IDLE: Duration = Duration::from_secs(5);
/// The same while the records of before the start are folded: some of them may be gone.
const RECOVERING_IDLE: Duration = Duration::from_millis(100);
/// A checkpoint writes the fold's whole state: seldom enough for flash, and at once when the journal fills.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A poisoned journal is opened anew not more often than this: it reads its newest segment whole.
const REOPEN_EVERY: Duration = Duration::from_secs(1);
/// While the disk does not do what it should, the pause between two attempts.
const RETRY: Duration = Duration::from_millis(250);

/// What the driver works on.
pub struct Folding {
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
    /// Whoever watches is shown each record.
    pub shown: Box<dyn Fn(&Record) + Send>,
    /// What a tick says of the clock at a moment.
    pub clock: Box<dyn Fn(Stamp) -> DeviceClock + Send>,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something was done; there may be more.
    Progress,
    /// Nothing to do for so long, unless a record becomes durable before.
    Idle(Duration),
    /// The disk doesn't do what it should; the same is tried again after so long.
    Blocked(Duration),
    /// The journal was closed, and all it had is in the spool.
    Ended,
}

/// What the next step does. What fails is done again: nothing after it happens before it has worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// All records of before the start are folded?
    Recovered,
    /// A record is read and folded.
    Read,
    /// What is pending is cut before the held rows: an earlier start began a segment here.
    CutBefore,
    /// The held rows go to the spool.
    Append,
    /// What the clock asks for.
    Due,
    /// Checkpoint and status, now and then.
    Look,
    /// The last cut and checkpoint.
    Last,
    Ended,
}

/// Drives one fold.
pub struct Driver {
    work: Folding,
    watch: Arc<Watch>,
    reader: JournalReader,
    ticks: Ticks,
    started: Stamp,
    phase: Phase,
    /// Rows of the record that was folded last, until the spool has them, and its position.
    rows: Rows,
    held: Position,
    /// Counted with the next record.
    damaged: Counts,
    /// Records of before this start are cut by size, and where an earlier start began a segment: two
    /// clones of one disk cut what they share alike, however often each was started since.
    recovering: bool,
    recover_to: Position,
    segment: Position,
    /// The journal was closed when this was last asked.
    stopping: bool,
    /// The last reading found nothing.
    waited: bool,
    /// Or failed. What was read before goes its way meanwhile.
    unread: Option<String>,
    noted: bool,
    /// The trouble was logged.
    told: bool,
    checkpointed: u64,
    looked: u64,
    reopened: u64,
}

/// Why a step can't be finished now.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Spool(#[from] spool::SpoolError),
    #[error("the journal can't be read: {0}")]
    Journal(String),
}

impl Driver {
    /// Stands before the first record to fold.
    pub fn new(work: Folding, now: Stamp) -> Self {
        let clock = (work.clock)(now);
        work.spool.clock(clock.boot, clock.at);
        work.spool.replaying();
        Self {
            watch: Arc::new(Watch::new(work.applied)),
            reader: work.journal.reader(work.applied),
            ticks: Ticks::new(now),
            started: now,
            phase: Phase::Recovered,
            rows: Rows::default(),
            held: 0,
            damaged: Counts::new(),
            recovering: true,
            recover_to: work.journal.last(),
            segment: 0,
            stopping: false,
            waited: false,
            unread: None,
            noted: false,
            told: false,
            checkpointed: now.mono,
            looked: now.mono,
            reopened: 0,
            work,
        }
    }

    /// What others may see of it.
    pub fn watch(&self) -> Arc<Watch> {
        Arc::clone(&self.watch)
    }

    /// Waits for a record to become durable; false when none did.
    pub(crate) fn wait(&self, until: Instant) -> bool {
        self.reader.wait(until)
    }

    /// Takes one step: at most one record. `now` never goes back.
    pub fn step(&mut self, now: Stamp) -> Step {
        match self.advance(now) {
            Ok(step) => {
                if std::mem::take(&mut self.told) {
                    tracing::info!("records are folded and spooled again");
                    self.watch.progress.lock().blocked = None;
                }
                step
            }
            Err(trouble) => {
                if !std::mem::replace(&mut self.told, true) {
                    tracing::error!(%trouble, "records can't be folded and spooled; trying again until they can");
                }
                self.watch.progress.lock().blocked = Some(trouble.to_string());
                Step::Blocked(RETRY)
            }
        }
    }

    fn advance(&mut self, now: Stamp) -> Result<Step, Trouble> {
        loop {
            self.phase = match self.phase {
                Phase::Recovered => {
                    self.recovered()?;
                    Phase::Read
                }
                Phase::Read => self.read(),
                Phase::CutBefore => {
                    self.work.spool.cut_before(self.held)?;
                    Phase::Append
                }
                Phase::Append => {
                    // The spool passes over what a batch already has from before the crash.
                    self.work.spool.append(self.held, &self.rows, self.recovering)?;
                    self.passed(self.held);
                    Phase::Due
                }
                Phase::Due => {
                    self.due(now)?;
                    Phase::Look
                }
                Phase::Look => {
                    self.look(now)?;
                    self.phase = Phase::Recovered;
                    if let Some(reason) = self.unread.take() {
                        return Err(Trouble::Journal(reason));
                    }
                    return Ok(if self.waited { Step::Idle(self.patience(now)) } else { Step::Progress });
                }
                Phase::Last => {
                    self.work.spool.cut()?;
                    self.checkpoint();
                    self.note();
                    Phase::Ended
                }
                Phase::Ended => return Ok(Step::Ended),
            }
        }
    }

    fn recovered(&mut self) -> Result<(), Trouble> {
        // Asked before reading: what became durable until then is read.
        self.stopping = self.work.journal.ended();
        if self.recovering && self.work.applied >= self.recover_to {
            self.work.spool.cut()?;
            self.work.spool.replayed()?;
            self.recovering = false;
            self.watch.progress.lock().recovering = false;
            tracing::info!(position = self.recover_to, "the journal of before the start is folded");
        }
        Ok(())
    }

    fn read(&mut self) -> Phase {
        let found = self.reader.try_next();
        for gap in self.reader.take_gaps() {
            tracing::error!(
                ?gap,
                "a part of the journal is damaged; what is intact before and after it goes on"
            );
            // They were received, and are what a batch would have shipped; unless one has, from before the damage:
            // then they are counted and stored.
            if gap.last > self.work.spool.position() {
                for cause in [Cause::Received, Cause::Shipped, Cause::Damaged] {
                    self.damaged.add(cause, gap.readings.unwrap_or(0));
                }
            }
            self.watch.progress.lock().damaged_records += gap.last.saturating_sub(gap.first) + 1;
        }
        let (position, record) = match found {
            Ok(Some(found)) => found,
            Ok(None) if self.stopping => return Phase::Last,
            Ok(None) => {
                // Damage at the very end of what was to be recovered: nothing more will come of it.
                let over = self.recovering && *self.work.journal.durable().borrow() >= self.recover_to;
                if over {
                    self.passed(self.recover_to);
                }
                self.waited = !over;
                return Phase::Due;
            }
            Err(error) => {
                (self.waited, self.unread) = (true, Some(error.to_string()));
                return Phase::Due;
            }
        };
        (self.waited, self.noted) = (false, false);
        self.rows.clear();
        self.work.fold.apply(position, &record, &mut self.rows);
        (self.work.shown)(&record);
        self.rows.counts.merge(&self.damaged.take());
        self.held = position;
        if self.recovering && self.segment != self.reader.segment() {
            self.segment = self.reader.segment();
            return Phase::CutBefore;
        }
        Phase::Append
    }

    fn due(&mut self, now: Stamp) -> Result<(), Trouble> {
        if self.recovering {
            return Ok(());
        }
        self.work.spool.cut_if_due(self.since_start(now))?;
        // Under load records come without a pause: then a look at the clock now and then.
        if !self.stopping && (self.waited || since(now, self.looked) >= LOOK_EVERY) {
            self.tick(now);
        }
        Ok(())
    }

    /// A full journal is no place for a tick: the next one says as much.
    fn tick(&mut self, now: Stamp) {
        let clock = (self.work.clock)(now);
        // Batches of before it was set may be waiting for it.
        self.work.spool.clock(clock.boot, clock.at);
        if !self.ticks.patience(now, clock.synced).is_zero() {
            return;
        }
        let set = clock.synced;
        if let Err(error) = self.work.journal.append(&Record::Tick(clock)) {
            tracing::debug!(%error, "no tick");
        }
        self.ticks.appended(now, set);
    }

    fn look(&mut self, now: Stamp) -> Result<(), Trouble> {
        if since(now, self.looked) < LOOK_EVERY {
            return Ok(());
        }
        let usage = self.work.journal.usage();
        if usage.poisoned.is_some() {
            self.reopen(now);
        }
        if since(now, self.checkpointed) >= CHECKPOINT_EVERY || usage.bytes > usage.max_bytes / 8 {
            if !self.recovering {
                // Under a steady load something is always pending: what is must be in a batch first.
                self.work.spool.cut()?;
            }
            self.checkpointed = now.mono;
            self.checkpoint();
        }
        self.looked = now.mono;
        self.note();
        self.noted = true;
        Ok(())
    }

    /// After a failed write or fsync nobody but us looks after the journal: it is opened anew, which looks what
    /// the disk really has, until that works. Inputs are refused meanwhile, and their senders try again.
    fn reopen(&mut self, now: Stamp) {
        if since(now, self.reopened) < REOPEN_EVERY {
            return;
        }
        self.reopened = now.mono;
        match self.work.journal.reopen() {
            Ok(recovery) if recovery.unverified.is_none() => {
                tracing::warn!(?recovery, "the journal was reopened after a failed write");
            }
            Ok(recovery) => tracing::error!(?recovery, "the journal's disk still fails; trying again"),
            // A journal that was closed stays so.
            Err(error) => tracing::debug!(%error, "the journal isn't reopened"),
        }
    }

    /// How long nothing has to be done when no record comes.
    fn patience(&self, now: Stamp) -> Duration {
        // What is pending is due by the clock only afterwards: looking at it now would be a wait of nothing,
        // again and again for as long as a full disk holds the records of this start back.
        if self.recovering {
            return RECOVERING_IDLE;
        }
        let idle = match self.noted {
            false => LOOK_EVERY,
            true => IDLE.min(self.ticks.patience(now, (self.work.clock)(now).synced)),
        };
        self.work.spool.due(self.since_start(now)).unwrap_or(idle).min(idle)
    }

    fn since_start(&self, now: Stamp) -> Duration {
        since(now, self.started.mono)
    }

    fn passed(&mut self, position: Position) {
        self.work.applied = position;
        self.watch.applied.store(position, Ordering::Release);
    }

    // DURABILITY: the spool has all rows up to `applied` on disk, and says so in its cursor, before the checkpoint
    // names it; and the checkpoint is on disk before the journal lets go.
    fn checkpoint(&mut self) {
        let applied = self.work.applied;
        match self.work.spool.settled_position() {
            Ok(position) if position >= applied => {}
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, "the fold's checkpoint waits for the spool's cursor");
                return;
            }
        }
        match self.work.checkpoint.set(applied, &self.work.fold.checkpoint()) {
            Ok(()) => self.work.journal.release(Holder::Fold, applied),
            Err(error) => {
                tracing::warn!(%error, "the fold's checkpoint can't be written; the journal keeps its records")
            }
        }
    }

    fn note(&mut self) {
        self.ticks.wanted(self.work.fold.tick_due());
        self.watch.progress.lock().fold = self.work.fold.status();
    }
}

fn since(now: Stamp, mono: u64) -> Duration {
    Duration::from_nanos(now.mono.saturating_sub(mono))
}
