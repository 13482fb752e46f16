//! The session store: what must survive a restart beside the journal. Sessions, subscriptions,
//! retained messages, messages queued for persistent sessions, and packet ids.
//!
//! A segmented log of [`Entry`]s in `data_dir/sessions`, written by one thread with group commit
//! (one fsync serves all who wait), and now and then a snapshot, behind which the older segments
//! go. The thread keeps the log's sum ([`State`]) beside; the payloads are shared with the queues.
//!
//! DURABILITY: after a failed write or fsync nothing is confirmed from that log. The thread opens
//! it anew and writes a snapshot of its state, which holds the effect of everything that waits;
//! only when that is on disk are the waiting tickets confirmed.

mod bytes;
pub mod entry;
pub mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use seglog::{Log, Options, Storage};
use tokio::sync::watch;

pub use entry::{Entry, Recipient, Unreleased};
pub use state::{Kept, Saved, State};

/// Largest entry: a packet at its limit with many recipients.
const MAX_ENTRY: u32 = 300 << 20;
const SEGMENT: u64 = 4 << 20;
/// Most bytes that wait for the disk before publishers are held.
const MAX_WAITING: usize = 8 << 20;
/// A snapshot is due when the log has grown by this much and by the last snapshot's size.
const SNAPSHOT_AFTER: u64 = 8 << 20;
/// How long after a failure the log is opened anew.
const REOPEN_AFTER: Duration = Duration::from_secs(2);

/// Why the session store can't start.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The log.
    #[error("the MQTT session store in {dir} can't be opened: {error}")]
    Open {
        /// Where.
        dir: PathBuf,
        /// What the log says.
        error: seglog::OpenError,
    },
    /// The log can't be read.
    #[error("the MQTT session store in {dir} can't be read: {error}")]
    Read {
        /// Where.
        dir: PathBuf,
        /// What the log says.
        error: seglog::ReadError,
    },
    /// The thread.
    #[error("the MQTT session store's thread can't be started: {0}")]
    Thread(std::io::Error),
}

/// Number of an append; durable once [`Store::durable`] has reached it. 0 is always durable.
pub type Ticket = u64;

#[derive(Default)]
struct Waiting {
    entries: Vec<Entry>,
    bytes: usize,
    tickets: Ticket,
    closed: bool,
}

struct Shared {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    durable: watch::Sender<Ticket>,
}

struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

impl Handle {
    fn close(&self) {
        self.shared.waiting.lock().closed = true;
        self.shared.wake.notify_all();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the MQTT session store's thread ended in a panic");
        }
    }
}

/// The store's handle. Cheap to clone; with the last clone the thread ends.
#[derive(Clone)]
pub struct Store(Arc<Handle>);

impl Store {
    /// Opens or creates it and reads it back.
    ///
    /// # Errors
    /// [`StoreError`]; never for damage: what is intact is used.
    pub fn open(storage: Arc<dyn Storage>, dir: &Path) -> Result<(Self, State), StoreError> {
        let (log, state) = read_back(&storage, dir)?;
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            wake: Condvar::new(),
            durable: watch::Sender::new(0),
        });
        let mut writer = Writer {
            shared: Arc::clone(&shared),
            storage,
            dir: dir.to_owned(),
            log: Some(log),
            state: state.clone(),
            snapshot_bytes: 0,
            scratch: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("mqtt-sessions".into())
            .spawn(move || writer.run())
            .map_err(StoreError::Thread)?;
        let handle = Handle { shared, thread: Mutex::new(Some(thread)) };
        Ok((Self(Arc::new(handle)), state))
    }

    /// Hands over entries, in this order and together; never waits for the disk.
    pub fn append(&self, entries: impl IntoIterator<Item = Entry>) -> Ticket {
        let mut waiting = self.0.shared.waiting.lock();
        for entry in entries {
            waiting.bytes += match &entry {
                Entry::Queued { message, to } => message.weight() + 64 * to.len(),
                Entry::Retained(message) => message.weight(),
                _ => 64,
            };
            waiting.entries.push(entry);
        }
        waiting.tickets += 1;
        let ticket = waiting.tickets;
        drop(waiting);
        self.0.shared.wake.notify_one();
        ticket
    }

    /// True while the disk is so far behind that publishers must be held.
    pub fn is_behind(&self) -> bool {
        self.0.shared.waiting.lock().bytes > MAX_WAITING
    }

    /// The durable mark.
    pub fn durable(&self) -> watch::Receiver<Ticket> {
        self.0.shared.durable.subscribe()
    }

    /// Writes what waits and ends the thread. Blocks.
    pub fn close(&self) {
        self.0.close();
    }
}

fn read_back(storage: &Arc<dyn Storage>, dir: &Path) -> Result<(Log, State), StoreError> {
    let options = Options { segment_bytes: SEGMENT, max_record: MAX_ENTRY };
    let (log, recovery) = Log::open(Arc::clone(storage), dir, options)
        .map_err(|error| StoreError::Open { dir: dir.to_owned(), error })?;
    if !recovery.damaged.is_empty() {
        tracing::error!(
            ?recovery,
            "the MQTT session store was damaged: sessions may lack messages; the damaged part is in quarantine"
        );
    }
    let mut state = State::default();
    let mut reader = log.reader(log.first());
    let mut unknown = 0u64;
    loop {
        match reader.next() {
            Ok(None) => break,
            Ok(Some(record)) => match Entry::decode(record.payload) {
                Ok(entry) => state.apply(entry),
                Err(_) => unknown += 1,
            },
            Err(error) => return Err(StoreError::Read { dir: dir.to_owned(), error }),
        }
    }
    if unknown > 0 {
        tracing::error!(unknown, "entries of the MQTT session store were not understood and left out");
    }
    Ok((log, state))
}

struct Writer {
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    /// `None` after a failure, until it is opened anew.
    log: Option<Log>,
    state: State,
    snapshot_bytes: u64,
    scratch: Vec<u8>,
}

impl Writer {
    fn run(&mut self) {
        loop {
            let (entries, ticket, closed) = {
                let mut waiting = self.shared.waiting.lock();
                while waiting.entries.is_empty() && !waiting.closed && self.log.is_some() {
                    self.shared.wake.wait(&mut waiting);
                }
                if self.log.is_none() && !waiting.closed {
                    self.shared.wake.wait_for(&mut waiting, REOPEN_AFTER);
                }
                waiting.bytes = 0;
                (std::mem::take(&mut waiting.entries), waiting.tickets, waiting.closed)
            };
            if self.commit(entries) {
                self.shared.durable.send_replace(ticket);
            }
            if closed && self.shared.waiting.lock().entries.is_empty() {
                return;
            }
        }
    }

    /// True when everything handed over so far is on disk.
    fn commit(&mut self, entries: Vec<Entry>) -> bool {
        let result = match &mut self.log {
            Some(log) => write(log, &entries, &mut self.scratch),
            None => Err("it failed before".to_owned()),
        };
        for entry in entries {
            self.state.apply(entry);
        }
        let result = result.and_then(|()| match &self.log {
            Some(log) if log.bytes() > SNAPSHOT_AFTER + 2 * self.snapshot_bytes => self.snapshot(),
            _ => Ok(()),
        });
        let Err(error) = result else { return true };
        if self.log.take().is_some() {
            tracing::error!(%error, "the MQTT session store could not be written; it is opened anew");
        }
        match self.reopen() {
            Ok(()) => {
                tracing::warn!("the MQTT session store works again");
                true
            }
            Err(error) => {
                tracing::error!(%error, "the MQTT session store still can't be written: nothing that needs it is acknowledged");
                false
            }
        }
    }

    fn reopen(&mut self) -> Result<(), String> {
        let (log, _) = read_back(&self.storage, &self.dir).map_err(|error| error.to_string())?;
        self.log = Some(log);
        let result = self.snapshot();
        if result.is_err() {
            self.log = None;
        }
        result
    }

    /// Writes the whole state in a new segment, then lets the older ones go.
    fn snapshot(&mut self) -> Result<(), String> {
        let Some(log) = &mut self.log else { return Err("it is not open".into()) };
        log.roll().map_err(|error| error.to_string())?;
        let before = log.next();
        let bytes = log.bytes();
        write(log, &self.state.snapshot(), &mut self.scratch)?;
        self.snapshot_bytes = log.bytes().saturating_sub(bytes);
        // DURABILITY: the snapshot is on disk before anything that it replaces goes.
        if let Err(error) = log.release(before - 1) {
            tracing::warn!(%error, "old segments of the MQTT session store could not be removed; tried again at the next snapshot");
        }
        Ok(())
    }
}

fn write(log: &mut Log, entries: &[Entry], scratch: &mut Vec<u8>) -> Result<(), String> {
    for entry in entries {
        scratch.clear();
        entry.encode(scratch);
        log.append(scratch).map_err(|error| error.to_string())?;
    }
    log.sync().map(drop).map_err(|error| error.to_string())
}
