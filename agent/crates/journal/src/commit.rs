//! The committing thread: swaps the shared buffer, writes, fsyncs, moves the mark. One fsync serves
//! all that was queued while the one before it ran.

use std::sync::Arc;
use std::time::{Duration, Instant};

use seglog::{AppendError, Log, SyncError};

use crate::state::{Batch, Shared};

/// How often a stalled disk is tried again, unless something is released before.
const RETRY: Duration = Duration::from_secs(1);
/// The longest sleep with nothing to do.
const IDLE: Duration = Duration::from_secs(30);

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

/// Runs until the journal is closed or poisoned.
pub(crate) fn run(shared: Arc<Shared>, mut log: Log, linger: Duration) {
    let alive = Alive(shared);
    let shared = &*alive.0;
    let mut batch = Batch::default();
    loop {
        let closing = next_batch(shared, &mut batch, linger);
        if !batch.records.is_empty() {
            match commit_all(shared, &mut log, &batch) {
                Outcome::Done => {}
                Outcome::Stalled(reason) => {
                    return shared.poison(&format!("closed while it waited: {reason}"));
                }
                Outcome::Poisoned(reason) => return shared.poison(&reason),
            }
            batch.clear();
            publish(shared, &log);
        }
        release(shared, &mut log);
        if closing {
            let mut state = shared.state.lock();
            if state.queue.records.is_empty() {
                return shared.end(&mut state);
            }
        }
    }
}

/// Waits for records or a release and takes the queue; true when the journal is closing.
fn next_batch(shared: &Shared, batch: &mut Batch, linger: Duration) -> bool {
    let mut state = shared.state.lock();
    while state.queue.records.is_empty() && !state.closing && state.releasable() <= state.released {
        // Appends, releases and the end are told of; the limit is for a word that got lost.
        shared.work.wait_for(&mut state, IDLE);
    }
    if !linger.is_zero() && !state.queue.records.is_empty() {
        let until = Instant::now() + linger;
        while !state.closing && !shared.work.wait_until(&mut state, until).timed_out() {}
    }
    std::mem::swap(&mut state.queue, batch);
    state.in_flight = batch.bytes.len() as u64;
    state.closing
}

/// Commits a batch, through times without space; they end with a release, or when someone else
/// frees some.
fn commit_all(shared: &Shared, log: &mut Log, batch: &Batch) -> Outcome {
    let mut done = 0;
    loop {
        match commit(log, batch, &mut done) {
            Outcome::Stalled(reason) => {
                let mut state = shared.state.lock();
                state.stalled = Some(reason.clone());
                if state.closing {
                    return Outcome::Stalled(reason);
                }
                if state.releasable() <= state.released {
                    shared.work.wait_for(&mut state, RETRY);
                }
                drop(state);
                release(shared, log);
            }
            outcome => return outcome,
        }
    }
}

/// Appends what of the batch the log doesn't have yet, and syncs.
fn commit(log: &mut Log, batch: &Batch, done: &mut usize) -> Outcome {
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
        Ok(_) => Outcome::Done,
        Err(error) => error.into(),
    }
}

/// Moves the mark.
fn publish(shared: &Shared, log: &Log) {
    let mut state = shared.state.lock();
    state.log_bytes = log.bytes();
    state.in_flight = 0;
    state.stalled = None;
    state.syncs += 1;
    state.settle(log.durable());
    shared.marked.notify_all();
}

/// Unlinks what every holder has passed.
fn release(shared: &Shared, log: &mut Log) {
    let upto = {
        let state = shared.state.lock();
        if state.releasable() <= state.released {
            return;
        }
        state.releasable()
    };
    let result = log.release(upto);
    let mut state = shared.state.lock();
    // Segments that could not be unlinked are tried again with the next release.
    state.released = upto;
    state.release_trouble = result.err().map(|error| error.to_string());
    state.log_bytes = log.bytes();
}
