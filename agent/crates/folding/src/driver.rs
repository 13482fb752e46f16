//! The state machine between journal and spool.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use journal::{Fullness, Holder, JournalGap, JournalReader, Usage};
use spool::{Damage, Part, Spooled};
use telemetry::trace::Span;
use telemetry::{BEAT, Cause, Position, Record, Rows, Stamp};

use crate::damage::Found;
use crate::missing::{ends_early, lost_spool, missing, spool_is_gone};
use crate::ticks::Ticks;
use crate::watch::Watch;
use crate::work::Folding;

/// The longest wait for a record, and for acknowledged segments to be freed: each waking costs an idle host.
const IDLE: Duration = BEAT;
/// The same while the records of before the start are folded: some of them may be gone.
const RECOVERING_IDLE: Duration = Duration::from_millis(100);
/// A checkpoint writes the fold's whole state: seldom enough for flash, and at once when the journal fills.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The same while the journal has no room, as far as the fold's state lets it.
const SHORT_LOOK_EVERY: Duration = Duration::from_millis(20);
/// A poisoned journal is opened anew not more often than this: it reads its newest segment whole.
const REOPEN_EVERY: Duration = Duration::from_secs(1);
/// What the disk doesn't give of the journal is tried for so long; then it is damage like any other, and the rest goes on.
const UNREADABLE_FOR: Duration = Duration::from_secs(5);
/// While the disk does not do what it should, the pause between two attempts.
const RETRY: Duration = Duration::from_millis(250);

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
    /// What the spool has is durable?
    Begin,
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
    /// Told with the next record.
    found: Found,
    /// What the spool had when this started.
    spooled: Spooled,
    /// Behind which position all is folded again that it has; `None` once the open windows were compared.
    compared: Option<Position>,
    /// The same up to the record that was folded last, while it recovers and as far as it is known.
    received: Option<u64>,
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
    /// Since when the disk doesn't give a segment of the journal, and the mark up to which it took others then.
    refused: Option<(u64, Position)>,
    noted: bool,
    /// The trouble was logged.
    told: bool,
    /// Position of the last checkpoint, and up to where the journal may let go: that of the one before, which its file
    /// still holds.
    before: Position,
    released: Position,
    checkpointed: u64,
    /// The next is to come soon.
    hurry: bool,
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
        let watch = Arc::new(Watch::new(work.applied));
        let fresh = work.applied == 0 && work.journal.is_whole();
        if let Some(tallied) = work.tallied {
            work.journal.folded(work.applied, tallied);
        }
        // A new spool counts from nothing.
        let received = if spool_is_gone(&work) { Some(0) } else { work.received };
        Self {
            watch,
            spooled: Spooled::default(),
            compared: Some(work.applied),
            received: received.or(fresh.then_some(0)),
            reader: work.journal.reader(work.applied),
            ticks: Ticks::new(now),
            started: now,
            phase: Phase::Begin,
            rows: Rows::default(),
            held: 0,
            found: Found::default(),
            recovering: true,
            recover_to: work.journal.last(),
            segment: 0,
            stopping: false,
            waited: false,
            unread: None,
            refused: None,
            noted: false,
            told: false,
            before: work.applied,
            released: 0,
            checkpointed: now.mono,
            hurry: false,
            looked: now.mono,
            reopened: 0,
            work,
        }
    }

    /// Shows itself to whoever watches already.
    pub(crate) fn watched_by(self, watch: Arc<Watch>) -> Self {
        watch.applied.store(self.work.applied, Ordering::Release);
        Self { watch, ..self }
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
        if self.told {
            self.work.spool.time(self.since_start(now));
        }
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
                Phase::Begin => {
                    self.begin()?;
                    Phase::Recovered
                }
                Phase::Recovered => {
                    self.recovered()?;
                    Phase::Read
                }
                Phase::Read => self.read(now),
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

    fn begin(&mut self) -> Result<(), Trouble> {
        self.spooled = self.work.spool.spooled()?;
        // Only now is it known what the spool has.
        if let Some(missing) = missing(&self.work) {
            tracing::error!("{missing}");
            self.watch.progress.lock().missing = Some(missing);
        }
        // A fold that stands behind what batches have held these windows when its checkpoint was written.
        self.compared = self.compared.filter(|applied| *applied <= self.spooled.position);
        if let Some(open) = &self.spooled.open {
            self.work.fold.left_by(open);
        }
        if let Some(damage) = lost_spool(&self.work) {
            self.found.spool(damage);
        }
        if ends_early(&self.work) {
            // It counts on from what it has; once a checkpoint says that, it isn't told again.
            self.received = Some(self.spooled.counted.get(Cause::Received));
            self.hurry = true;
        }
        Ok(())
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

    fn read(&mut self, now: Stamp) -> Phase {
        let found = self.reader.try_next();
        if let Some(received) = self.reader.take_begun() {
            // The checkpoint of before the start, until there is one of this.
            self.work.journal.folded(self.before, received);
        }
        for gap in self.reader.take_gaps() {
            self.gone(gap);
        }
        let (position, record) = match found {
            Ok(Some(found)) => found,
            Ok(None) if self.stopping => return Phase::Last,
            Ok(None) => {
                let durable = *self.work.journal.durable().borrow();
                // What this start itself has appended finds no room on a full disk, and isn't waited for: all of before is here.
                let full = self.recovering && self.work.journal.usage().disk_full;
                if full {
                    self.recover_to = self.recover_to.min(durable.max(self.work.applied));
                }
                // The last numbers that were to be recovered are gone, or nobody had them. A record behind them will tell: no
                // checkpoint passes by them before, and on a full disk there may be none for long.
                let over = self.recovering && durable >= self.recover_to;
                if over {
                    self.recover_to = self.work.applied;
                    self.watch.applied.fetch_max(durable, Ordering::Release);
                }
                self.waited = !over;
                return Phase::Due;
            }
            Err(error) => {
                if error.is_unreadable() && self.gives_up(now) {
                    tracing::error!(%error, "the disk does not give a part of the journal: it is kept in quarantine, and what is behind it goes on");
                    self.reader.pass_over(&error);
                    self.waited = false;
                    return Phase::Due;
                }
                (self.waited, self.unread) = (true, Some(error.to_string()));
                return Phase::Due;
            }
        };
        (self.waited, self.noted, self.refused) = (false, false, None);
        if position > self.spooled.position
            && let Some(from) = self.compared.take()
        {
            if self.is_short(from) {
                self.found.is_short();
            }
            // Each start gives windows up, with what they took since, until a checkpoint is without them.
            if self.found.compare(from, &self.spooled, &mut self.work.fold) {
                self.hurry = true;
            }
        }
        self.rows.clear();
        self.work.fold.apply(position, &record, &mut self.rows);
        let more = self.rows.counts.get(Cause::Received);
        self.received = self.received.and_then(|received| received.checked_add(more));
        (self.work.shown)(&record);
        self.received_span(position, &record);
        self.found.join(&record, &mut self.rows, &self.work.spool);
        self.held = position;
        if self.recovering && self.segment != self.reader.segment() {
            self.segment = self.reader.segment();
            return Phase::CutBefore;
        }
        Phase::Append
    }

    /// Whether the fold, from behind `from` on, lacks records that batches have and no gap tells of: the journal's end
    /// rotted, at this start or at one that noted it (what came then was numbered beyond what batches had); or there was
    /// no checkpoint, and the journal doesn't begin at the beginning.
    fn is_short(&self, from: Position) -> bool {
        let anew = from == 0 && self.work.journal.first() > 1;
        let ends_early = self.work.fold.position() < self.spooled.position;
        let given_up = |damage: &Damage| damage.part == Part::Windows && damage.last > from;
        anew || ends_early || self.work.spool.usage().damage.iter().any(given_up)
    }

    /// The span of a sampled record ends: it is durable and read. One that is in a batch already had its end before the crash.
    fn received_span(&self, position: Position, record: &Record) {
        if let Record::Intake(intake) = record
            && let (Some(traced), Some(tracer)) = (intake.trace, self.work.spool.tracer())
            && position > self.spooled.position
        {
            let span = Span::receive(traced, intake.stamp.wall)
                .text("telemetryx.input", tracer.input(intake.input))
                .number("telemetryx.readings", intake.len() as u64);
            tracer.end(span);
        }
    }

    /// Whether a segment that the disk doesn't give is passed over now: after a while, and only while the disk takes what is
    /// written. One that gives and takes nothing may be back in a moment, with all that is on it.
    fn gives_up(&mut self, now: Stamp) -> bool {
        let mark = *self.work.journal.durable().borrow();
        let Some((since_mono, then)) = self.refused else {
            self.refused = Some((now.mono, mark));
            // Something to write, if nobody sends anything.
            let tick = Record::Tick((self.work.clock)(now));
            if let Err(error) = self.work.journal.append(&tick) {
                tracing::debug!(%error, "no tick");
            }
            return false;
        };
        let usage = self.work.journal.usage();
        // A journal that is full takes nothing until this has passed.
        let full = matches!(usage.refusing, Some(Fullness::Cap | Fullness::Floor));
        let takes = usage.poisoned.is_none() && (mark > then || full);
        takes && since(now, since_mono) >= UNREADABLE_FOR
    }

    /// Counts what damage took.
    fn gone(&mut self, gap: JournalGap) {
        self.watch.progress.lock().damaged_records += gap.last.saturating_sub(gap.first) + 1;
        let noted = || self.work.spool.usage().damage;
        let again =
            |known: &Damage| known.part != Part::Spool && known.first <= gap.last && gap.first <= known.last;
        // Each start finds it again until a checkpoint is behind it.
        if !noted().iter().any(again) {
            tracing::error!(
                ?gap,
                "a part of the journal is damaged; what is intact before and after it goes on"
            );
        }
        self.found.gap(gap, &self.spooled, self.received, noted);
        self.received = self.received.zip(gap.readings).and_then(|(some, more)| some.checked_add(more));
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
        let since_last = since(now, self.looked);
        // A small journal fills between two looks: then its senders wait for this one alone.
        let short = since_last >= SHORT_LOOK_EVERY && self.work.journal.take_short();
        if since_last < LOOK_EVERY && !short {
            return Ok(());
        }
        let usage = self.work.journal.usage();
        if usage.poisoned.is_some() {
            self.reopen(now);
        }
        let due = since(now, self.checkpointed) >= CHECKPOINT_EVERY;
        if short || due || self.hurry || self.fills(&usage) {
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

    /// The journal holds much, of which checkpoints can free some.
    fn fills(&self, usage: &Usage) -> bool {
        usage.bytes > usage.limit_bytes / 8 && self.released < self.work.applied
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
        let idle = match self.noted && !self.fills(&self.work.journal.usage()) {
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
    // names it; and the checkpoint is on disk before the journal lets go. It lets go of what the checkpoint before holds:
    // should the last one rot, the fold goes on from that, and nothing that was in an open window is missing.
    fn checkpoint(&mut self) {
        let applied = self.work.applied;
        let uncompared = self.compared.is_some() && applied > self.spooled.position;
        if self.found.waits() || uncompared {
            return;
        }
        match self.work.spool.settled_position() {
            Ok(position) if position >= applied => {}
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, "the fold's checkpoint waits for the spool's cursor");
                return;
            }
        }
        // What was read since the start is in batches, unless it still recovers.
        let counted = (!self.recovering).then(|| self.work.spool.counted().get(Cause::Received));
        let received = counted.or(self.received);
        let unacked = self.work.spool.unacked();
        let tallied = self.reader.received().filter(|_| self.reader.position() == applied);
        match self.work.checkpoint.set(applied, received, tallied, unacked, &self.work.fold.checkpoint()) {
            Ok(()) => {
                if let Some(tallied) = tallied {
                    self.work.journal.folded(applied, tallied);
                }
                self.work.journal.release(Holder::Fold, self.before);
                self.released = self.before;
                self.before = applied;
                self.watch.progress.lock().checkpoint = None;
                self.hurry = false;
            }
            Err(error) => {
                let why = error.to_string();
                let told = self.watch.progress.lock().checkpoint.replace(why.clone());
                if told.is_none_or(|told| told != why) {
                    tracing::warn!(%error, "the fold's checkpoint can't be written; the journal keeps its records");
                }
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
