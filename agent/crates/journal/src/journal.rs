//! The journal's handle: append, wait for the mark, release, reopen, close.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use seglog::{Log, Options, Recovery, Storage};
use telemetry::{Position, Record, SeriesTable};
use tokio::sync::watch;

use crate::commit::{self, Committer, Step};
use crate::config::{Holder, JournalConfig, Usage};
use crate::error::{AppendError, Fullness, OpenError, Poisoned, WaitError};
use crate::reader::JournalReader;
use crate::state::{Batch, Plan, Shared, State};
use crate::tally::{Confirmed, Counter};

/// Largest record in bytes, definitions included.
pub const MAX_RECORD: u32 = 16 << 20;
/// The cap holds at least this many segments, so that there is always one to free.
pub(crate) const MIN_SEGMENTS: u64 = 4;

/// The journal. Cheap to clone; the clones share it, and the last one closes it.
#[derive(Clone)]
pub struct Journal(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    config: JournalConfig,
    driven: Driven,
    committing: Mutex<Option<Committing>>,
}

/// Who takes the committing steps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Driven {
    ByThread,
    ByCaller,
}

enum Committing {
    Thread(JoinHandle<()>),
    Steps(Box<Committer>),
}

impl Journal {
    /// Opens or creates the journal and starts its one committing thread. The next record begins a
    /// new segment. When it can't be proven that what is there is durable, it opens poisoned
    /// ([`Recovery::unverified`]): it can be read, and [`Journal::reopen`] tries again.
    ///
    /// # Errors
    /// [`OpenError`] when the directory can't be used; never for damage.
    pub fn open(
        config: JournalConfig,
        storage: Arc<dyn Storage>,
        table: Arc<SeriesTable>,
    ) -> Result<(Self, Recovery), OpenError> {
        Self::open_driven(config, storage, table, Driven::ByThread)
    }

    /// The same without a thread: records become durable when the caller takes a [`Journal::step`], and
    /// nothing happens in between. What a simulation on one thread needs.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_stepped(
        config: JournalConfig,
        storage: Arc<dyn Storage>,
        table: Arc<SeriesTable>,
    ) -> Result<(Self, Recovery), OpenError> {
        Self::open_driven(config, storage, table, Driven::ByCaller)
    }

    fn open_driven(
        config: JournalConfig,
        storage: Arc<dyn Storage>,
        table: Arc<SeriesTable>,
        driven: Driven,
    ) -> Result<(Self, Recovery), OpenError> {
        let (log, recovery) = open_log(&config.dir, &storage)?;
        let state = State {
            queue: Batch::default(),
            next: log.next(),
            counter: Counter::at_end(&log, recovery.cut_off),
            plan: Plan::new(config.segment_bytes.min(config.max_bytes / MIN_SEGMENTS)),
            log_bytes: log.bytes(),
            in_flight: 0,
            mark: if recovery.unverified.is_none() { log.next() - 1 } else { log.durable() },
            sender: None,
            readers: log.readers(),
            opened: 0,
            nudged: false,
            lost: Vec::new(),
            folded: recovery.mark.map_or((0, 0), |mark| Confirmed::of(mark).folded),
            bare: log.readers().size().0 == 0 && recovery.cut_off.is_some(),
            passed: [0; 2],
            released: 0,
            free: None,
            refused: 0,
            stalled: None,
            release_trouble: None,
            poison: recovery.unverified.clone(),
            closing: false,
            appended: 0,
            syncs: 0,
            pushed_back: 0,
        };
        let shared = Arc::new(Shared::new(state, &config, Arc::clone(&storage), table));
        shared.state.lock().free = shared.free();
        let handle = Handle { shared, storage, config, driven, committing: Mutex::new(None) };
        if recovery.unverified.is_none() {
            *handle.committing.lock() = Some(handle.start(log)?);
        }
        Ok((Self(Arc::new(handle)), recovery))
    }

    /// Takes a record and returns its position. It never waits for the disk: the record is durable
    /// once [`Journal::wait`] says so, and only then may it be acknowledged.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was taken then.
    pub fn append(&self, record: &Record) -> Result<Position, AppendError> {
        self.append_all(std::slice::from_ref(record))
    }

    /// Takes records, all or none, and returns the position of the last. Without any it returns
    /// the newest position there is.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was taken then.
    pub fn append_all(&self, records: &[Record]) -> Result<Position, AppendError> {
        let shared = &self.0.shared;
        let mut state = shared.state.lock();
        let idle = state.queue.records.is_empty();
        let position = state.append(records, &shared.table, shared.caps).inspect_err(|error| {
            if matches!(error, AppendError::Full { what: Fullness::Cap | Fullness::Floor, .. }) {
                shared.short.store(true, Ordering::Relaxed);
            }
        })?;
        drop(state);
        // While something was queued the committing thread is at work, and will look again.
        if idle {
            shared.work.notify_one();
        }
        Ok(position)
    }

    /// Commits what is queued, with one fsync. Only for a journal that was opened by
    /// [`Journal::open_stepped`]: one with a thread needs no steps and says [`Step::Idle`].
    pub fn step(&self) -> Step {
        match &mut *self.0.committing.lock() {
            Some(Committing::Steps(committer)) => committer.step(&self.0.shared),
            Some(Committing::Thread(_)) => Step::Idle,
            None => Step::Ended,
        }
    }

    /// Whether a position is durable, or never will be; `None` while that is open.
    pub fn settled(&self, position: Position) -> Option<Result<(), Poisoned>> {
        self.0.shared.state.lock().settled(position)
    }

    /// The durable mark: every record at or below it is on disk. The channel closes when nothing
    /// more becomes durable: what is above the mark then must not be acknowledged, even if the
    /// journal is reopened.
    pub fn durable(&self) -> watch::Receiver<Position> {
        let state = self.0.shared.state.lock();
        match &state.sender {
            Some(sender) => sender.subscribe(),
            None => watch::channel(state.mark).1,
        }
    }

    /// Waits until a position is durable.
    ///
    /// # Errors
    /// [`Poisoned`] when it never will be.
    pub async fn wait(&self, position: Position) -> Result<(), Poisoned> {
        let mut mark = {
            let state = self.0.shared.state.lock();
            match (state.settled(position), &state.sender) {
                (Some(settled), _) => return settled,
                (None, Some(sender)) => sender.subscribe(),
                (None, None) => return Err(state.reason()),
            }
        };
        match mark.wait_for(|mark| *mark >= position).await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.0.shared.state.lock().reason()),
        }
    }

    /// The same for a thread without a runtime.
    ///
    /// # Errors
    /// [`WaitError`]; after a timeout it may still become durable.
    pub fn wait_blocking(&self, position: Position, timeout: Duration) -> Result<(), WaitError> {
        let until = Instant::now() + timeout;
        let mut state = self.0.shared.state.lock();
        loop {
            if let Some(settled) = state.settled(position) {
                return Ok(settled?);
            }
            if self.0.shared.marked.wait_until(&mut state, until).timed_out() {
                return match state.settled(position) {
                    Some(settled) => Ok(settled?),
                    None => Err(WaitError::Timeout { position, waited: timeout }),
                };
            }
        }
    }

    /// Ends one wait of a reader, now or its next one: there is something else for its thread to do.
    pub fn nudge(&self) {
        self.0.shared.state.lock().nudged = true;
        self.0.shared.marked.notify_all();
    }

    /// A reader of everything durable behind `after`. It interns series as it meets them.
    pub fn reader(&self, after: Position) -> JournalReader {
        JournalReader::new(Arc::clone(&self.0.shared), after)
    }

    /// A holder needs nothing up to `upto` any more, and has made durable that it doesn't. Whole
    /// segments that every holder has passed are unlinked, soon after.
    pub fn release(&self, holder: Holder, upto: Position) {
        let mut state = self.0.shared.state.lock();
        state.pass(holder, upto);
        drop(state);
        self.0.shared.work.notify_one();
    }

    /// The fold has a checkpoint at `position`, up to where so many readings were received. Should the journal be cut off there, or
    /// taken away, it is known by that how many came behind it.
    pub fn folded(&self, position: Position, received: u64) {
        self.0.shared.state.lock().folded = (position, received);
        self.0.shared.work.notify_one();
    }

    /// The next record's position will be above `position`. Call it after opening with the highest
    /// position the spool knows: if the journal's files were lost, its numbers must not begin
    /// again, or the spool would take new records for old ones.
    pub fn skip_to(&self, position: Position) {
        let shared = &self.0.shared;
        let mut state = shared.state.lock();
        if position >= state.next {
            state.next = position + 1;
            state.plan.begin();
            let mark = state.mark;
            state.settle(mark);
            shared.marked.notify_all();
        }
    }

    /// So many readings came up to here, as somebody else knows: the journal's files that would say so were lost. Those that
    /// come now are counted behind them.
    pub fn count_on(&self, received: u64) {
        self.0.shared.state.lock().counter.go_on(received);
    }

    /// The newest position given out, or skipped; 0 before the first.
    pub fn last(&self) -> Position {
        self.0.shared.state.lock().next - 1
    }

    /// The oldest position still there; one more than [`Journal::last`] when there is none.
    pub fn first(&self) -> Position {
        let state = self.0.shared.state.lock();
        state.readers.first().min(state.next)
    }

    /// Whether it has let go of nothing since its first record: what is missing before the oldest that is there was taken away.
    pub fn is_whole(&self) -> bool {
        self.0.shared.state.lock().is_whole()
    }

    /// True when it was at its cap since this was last asked: whoever can release something should.
    pub fn take_short(&self) -> bool {
        self.0.shared.short.swap(false, Ordering::Relaxed)
    }

    /// What it holds and did.
    pub fn usage(&self) -> Usage {
        self.0.shared.state.lock().usage(self.0.shared.caps)
    }

    /// What goes wrong at present without having poisoned it: why the disk takes nothing, or why
    /// released segments are still there.
    pub fn trouble(&self) -> Option<String> {
        let state = self.0.shared.state.lock();
        state.stalled.clone().or_else(|| state.release_trouble.clone())
    }

    /// After a failed write or fsync: opens the log anew, looks what is really on the disk, and
    /// goes on from there. What was queued is gone; its senders were told so, and go on being told
    /// so. What had been written and is found intact counts as durable. Blocks.
    ///
    /// # Errors
    /// [`OpenError`]; it stays poisoned then, as it does when [`Recovery::unverified`] is set.
    pub fn reopen(&self) -> Result<Recovery, OpenError> {
        let shared = &self.0.shared;
        let mut committing = self.0.committing.lock();
        {
            let state = shared.state.lock();
            if state.closing {
                return Err(OpenError::NotPoisoned("is closed"));
            }
            if state.poison.is_none() {
                return Err(OpenError::NotPoisoned("works"));
            }
        }
        if let Some(Committing::Thread(thread)) = committing.take() {
            // A panic in it has poisoned the journal already.
            _ = thread.join();
        }
        // Until it works there is no thread: these attempts are its passes.
        shared.pulse.beat();
        let (log, recovery) = open_log(&self.0.config.dir, &self.0.storage)?;
        {
            let mut state = shared.state.lock();
            let lost = (log.durable() + 1, state.next - 1);
            if lost.0 <= lost.1 {
                state.lost.push(lost);
            }
            // One more than all that were given: the newest position is then none that was lost.
            state.next = log.next().max(state.next + 1);
            state.plan.begin();
            state.mark = if recovery.unverified.is_none() { state.next - 1 } else { log.durable() };
            state.log_bytes = log.bytes();
            state.counter = Counter::at_end(&log, recovery.cut_off);
            state.readers = log.readers();
            state.opened += 1;
            state.poison = recovery.unverified.clone();
        }
        if recovery.unverified.is_none() {
            *committing = Some(self.0.start(log)?);
        }
        shared.marked.notify_all();
        Ok(recovery)
    }

    /// How often the committing thread has passed its loop; see [`Pulse`]. While the journal is poisoned there is none, and
    /// the attempts of [`Journal::reopen`] count.
    pub fn beats(&self) -> u64 {
        self.0.shared.pulse.beats()
    }

    /// True once [`Journal::close`] has committed what was queued: nothing more becomes durable.
    pub fn ended(&self) -> bool {
        self.0.shared.state.lock().ended()
    }

    /// Commits what is queued and ends the committing thread; later appends are refused. Readers
    /// can go on to the end. Blocks until the last fsync.
    pub fn close(&self) {
        self.0.close();
    }
}

fn open_log(dir: &std::path::Path, storage: &Arc<dyn Storage>) -> Result<(Log, Recovery), OpenError> {
    // Segments begin where the plan says so, and nowhere else.
    let options = Options { segment_bytes: u64::MAX, max_record: MAX_RECORD };
    Ok(Log::open(Arc::clone(storage), dir, options)?)
}

impl Handle {
    /// Gives the log to whoever commits.
    fn start(&self, log: Log) -> Result<Committing, OpenError> {
        let confirmed = {
            let mut state = self.shared.state.lock();
            state.sender = Some(watch::channel(state.mark).0);
            Confirmed { received: state.counter.count(), folded: state.folded }
        };
        let committer = Committer::new(log, confirmed);
        if self.driven == Driven::ByCaller {
            return Ok(Committing::Steps(Box::new(committer)));
        }
        let (shared, linger) = (Arc::clone(&self.shared), self.config.linger);
        let thread = std::thread::Builder::new().name("journal".into());
        let spawned = thread.spawn(move || commit::run(shared, committer, linger));
        spawned.map(Committing::Thread).map_err(|error| {
            self.shared.poison(&format!("the committing thread can't be started: {error}"));
            OpenError::Thread(error)
        })
    }

    fn close(&self) {
        let mut committing = self.committing.lock();
        self.shared.state.lock().closing = true;
        self.shared.work.notify_all();
        match committing.take() {
            // A panic in it has poisoned the journal already.
            Some(Committing::Thread(thread)) => _ = thread.join(),
            Some(Committing::Steps(mut committer)) => while committer.step(&self.shared) != Step::Ended {},
            None => self.shared.end(&mut self.shared.state.lock()),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}
