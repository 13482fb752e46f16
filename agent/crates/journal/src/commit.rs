//! Committing: swaps the shared buffer, writes, fsyncs, moves the mark. One fsync serves all that was
//! queued while the one before it ran.
//!
//! A [`Committer`] does it a step at a time and never waits. The committing thread is steps and waits in
//! turn; whoever opened the journal by [`crate::Journal::open_stepped`] takes the steps himself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;
use seglog::{AppendError, Log, SyncError};
use telemetry::{BEAT, Position};

use crate::state::{Batch, Shared};
use crate::tally::Confirmed;

/// How often a stalled disk is tried again, unless something is released before.
const RETRY: Duration = Duration::from_secs(1);
/// How often is looked whether a disk with little free has more: nobody tells.
const LOOK: Duration = Duration::from_secs(1);

/// The disk took it, or won't for now, or never.
enum Outcome {
    Done,
    Stalled(String),
    Poisoned(String),
}

impl From<AppendError> for Outcome {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Full(_) | AppendError::Io { .. } => Self::Stalled(error.to_string()),
            // The size was checked before it was queued.
            AppendError::TooLarge { .. } => Self::Poisoned(error.to_string()),
            AppendError::Poisoned(reason) => Self::Poisoned(reason),
        }
    }
}

impl From<SyncError> for Outcome {
    fn from(error: SyncError) -> Self {
        AppendError::from(error).into()
    }
}

/// Poisons the journal when the thread ends in another way than it should: whoever waits must not
/// wait for ever.
struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison("the committing thread died; this is a bug");
        }
    }
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A group was committed, or segments were released.
    Progress,
    /// Nothing was queued.
    Idle,
    /// The disk takes nothing for now: take another step after a while, or after a release.
    Stalled,
    /// Closed or poisoned: nothing more becomes durable.
    Ended,
}

/// The log, and the group that is being committed.
pub(crate) struct Committer {
    log: Log,
    batch: Batch,
    /// Records of the group that the log has.
    done: usize,
    confirmed: Confirmed,
}

impl Committer {
    pub(crate) fn new(log: Log, confirmed: Confirmed) -> Self {
        Self { log, batch: Batch::default(), done: 0, confirmed }
    }

    /// Commits what is queued as one group, with one fsync, and unlinks what was released.
    pub(crate) fn step(&mut self, shared: &Shared) -> Step {
        let closing = self.take(shared);
        let mut progress = !self.batch.records.is_empty();
        if progress {
            match self.commit(shared) {
                Outcome::Done => {}
                Outcome::Stalled(reason) if closing => {
                    shared.poison(&format!("closed while it waited: {reason}"));
                    return Step::Ended;
                }
                Outcome::Stalled(_) => return Step::Stalled,
                Outcome::Poisoned(reason) => {
                    shared.poison(&reason);
                    return Step::Ended;
                }
            }
            self.batch.clear();
            self.done = 0;
            publish(shared, &self.log);
        }
        progress |= release(shared, &mut self.log);
        if closing {
            let mut state = shared.state.lock();
            if state.queue.records.is_empty() {
                shared.end(&mut state);
                return Step::Ended;
            }
        }
        if progress { Step::Progress } else { Step::Idle }
    }

    /// Takes the queue, unless the group before it waits for space; true when the journal is closing.
    fn take(&mut self, shared: &Shared) -> bool {
        let mut state = shared.state.lock();
        if self.batch.records.is_empty() {
            std::mem::swap(&mut state.queue, &mut self.batch);
            state.in_flight = self.batch.bytes.len() as u64;
        }
        let (closing, folded) = (state.closing, state.folded);
        drop(state);
        self.fold_passed(folded);
        closing
    }

    /// Leaves in the mark how far a checkpoint of the fold is.
    fn fold_passed(&mut self, folded: (Position, u64)) {
        if self.confirmed.folded != folded {
            self.confirmed.folded = folded;
            self.log.confirm(self.confirmed.note());
        }
    }

    /// Commits the group; on a full disk as far as releases free space.
    fn commit(&mut self, shared: &Shared) -> Outcome {
        loop {
            match commit(&mut self.log, &self.batch, &mut self.done, &mut self.confirmed) {
                Outcome::Stalled(reason) => {
                    shared.state.lock().stalled = Some(reason.clone());
                    if !release(shared, &mut self.log) {
                        return Outcome::Stalled(reason);
                    }
                }
                outcome => return outcome,
            }
        }
    }
}

/// Runs until the journal is closed or poisoned.
pub(crate) fn run(shared: Arc<Shared>, mut committer: Committer, linger: Duration) {
    let alive = Alive(shared);
    let shared = &*alive.0;
    let mut step = Step::Idle;
    loop {
        shared.pulse.beat();
        match step {
            Step::Ended => return,
            Step::Stalled => wait_for_space(shared),
            Step::Progress | Step::Idle => wait_for_work(shared, linger),
        }
        step = committer.step(shared);
    }
}

/// Waits for records, a release or the end.
fn wait_for_work(shared: &Shared, linger: Duration) {
    let mut state = shared.state.lock();
    while state.queue.records.is_empty() && !state.closing && state.releasable() <= state.released {
        let tight = state.limit(shared.caps) < shared.caps.max_bytes;
        // Appends, releases and the end are told of; the limit is for the pulse, and for a word that got lost.
        let told = !shared.work.wait_for(&mut state, if tight { LOOK } else { BEAT }).timed_out();
        shared.pulse.beat();
        if !told {
            state.free = MutexGuard::unlocked(&mut state, || shared.free());
        }
    }
    if !linger.is_zero() && !state.queue.records.is_empty() {
        let until = Instant::now() + linger;
        while !state.closing && !shared.work.wait_until(&mut state, until).timed_out() {}
    }
}

/// Times without space end with a release, or when someone else frees some.
fn wait_for_space(shared: &Shared) {
    let mut state = shared.state.lock();
    if !state.closing && state.releasable() <= state.released {
        shared.work.wait_for(&mut state, RETRY);
    }
}

/// Appends what of the batch the log doesn't have yet, and syncs.
fn commit(log: &mut Log, batch: &Batch, done: &mut usize, confirmed: &mut Confirmed) -> Outcome {
    for at in *done..batch.records.len() {
        let queued = &batch.records[at];
        let start = at.checked_sub(1).map_or(0, |before| batch.records[before].end);
        let rolled = if queued.begins { log.roll() } else { Ok(()) };
        let result = rolled
            .and_then(|()| log.skip_to(queued.position))
            .and_then(|()| log.append(&batch.bytes[start..queued.end]));
        match result {
            Ok(number) if number == queued.position => *done = at + 1,
            Ok(number) => {
                return Outcome::Poisoned(format!(
                    "position {} became record {number}; this is a bug",
                    queued.position
                ));
            }
            Err(error) => return error.into(),
        }
    }
    match log.sync() {
        Ok(_) => {
            // Before anybody hears of it: what is acknowledged is never beyond the mark.
            if let Some(tally) = batch.last_tally() {
                confirmed.received = tally.after();
                log.confirm(confirmed.note());
            }
            Outcome::Done
        }
        Err(error) => error.into(),
    }
}

/// Moves the mark.
fn publish(shared: &Shared, log: &Log) {
    let free = shared.free();
    let mut state = shared.state.lock();
    state.log_bytes = log.bytes();
    state.free = free;
    state.in_flight = 0;
    state.stalled = None;
    state.syncs += 1;
    state.settle(log.durable());
    shared.marked.notify_all();
}

/// Unlinks what every holder has passed; false when that is nothing more than before.
fn release(shared: &Shared, log: &mut Log) -> bool {
    let upto = {
        let state = shared.state.lock();
        if state.releasable() <= state.released {
            return false;
        }
        state.releasable()
    };
    let result = log.release(upto);
    let free = shared.free();
    let mut state = shared.state.lock();
    state.free = free;
    // Segments that could not be unlinked are tried again with the next release.
    state.released = upto;
    state.release_trouble = result.err().map(|error| error.to_string());
    state.log_bytes = log.bytes();
    true
}
