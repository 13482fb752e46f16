//! `Idempotency-Key`: which requests were taken already (promise P2, from the sender's first send).
//!
//! A key is remembered for 24 hours, over restarts: it travels in the journal record of its
//! request ([`telemetry::Origin::Http`]), and a log of its own keeps it when the journal lets go of
//! that record. At the start the log is read, then what the journal has beyond it.
//!
//! A key's age goes by the [timeline](crate::timeline), which setting the wall clock does not move. What the journal
//! alone knows of a key has no age that could be trusted after a reboot: its day begins anew.
//!
//! Log records (little-endian): n*(key u128, at i64 ns on the timeline, position u64).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use journal::Journal;
use parking_lot::Mutex;
use seglog::{Log, Options};
use telemetry::{Origin, Position, Record};
use tokio::sync::{mpsc, watch};

use crate::door::{Door, StateDir};

/// How long a key is remembered.
const KEPT: i64 = 24 * 3600 * 1_000_000_000;
const ENTRY: usize = 32;
/// Keys that wait to be written at a time; beyond, requests wait.
const QUEUE: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    key: u128,
    at: i64,
    position: Position,
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing: go on, and say [`Keys::taken`] or [`Keys::gone`].
    New,
    /// Its request is being taken right now by another connection.
    InProgress,
    /// Its request was taken, at this position.
    Taken(Position),
}

#[derive(Debug, Default)]
struct Table {
    keys: HashMap<u128, Option<Position>>,
    order: VecDeque<(u128, i64)>,
}

/// The remembered keys.
pub(super) struct Keys {
    table: Mutex<Table>,
    max: usize,
    log: Option<mpsc::Sender<Entry>>,
    written: watch::Receiver<u64>,
    sent: Mutex<u64>,
}

impl Table {
    fn forget(&mut self, now: i64, max: usize) {
        while let Some((key, at)) = self.order.front().copied() {
            if self.order.len() <= max && now.saturating_sub(at) < KEPT {
                return;
            }
            self.order.pop_front();
            self.keys.remove(&key);
        }
    }

    fn insert(&mut self, entry: Entry) {
        if self.keys.insert(entry.key, Some(entry.position)).flatten().is_none() {
            self.order.push_back((entry.key, entry.at));
        }
    }
}

impl Keys {
    /// Judges a key. `New` claims it for the caller.
    pub(super) fn begin(&self, key: u128, now: i64) -> Known {
        let mut table = self.table.lock();
        table.forget(now, self.max);
        match table.keys.get(&key) {
            Some(Some(position)) => Known::Taken(*position),
            Some(None) => Known::InProgress,
            None => {
                table.keys.insert(key, None);
                Known::New
            }
        }
    }

    /// The claimed key's request was given to the journal.
    pub(super) fn taken(&self, key: u128, at: i64, position: Position) {
        let mut table = self.table.lock();
        table.insert(Entry { key, at, position });
        table.forget(at, self.max);
    }

    /// The claimed key's request was refused: it may come again.
    pub(super) fn gone(&self, key: u128) {
        let mut table = self.table.lock();
        if table.keys.get(&key) == Some(&None) {
            table.keys.remove(&key);
        }
    }

    /// A taken key's request did not become durable: it may come again.
    pub(super) fn lost(&self, key: u128) {
        self.table.lock().keys.remove(&key);
    }

    /// Waits until a taken key, whose request is durable, is in the log too. Without a log, or when
    /// it can't be written, the journal alone remembers.
    pub(super) async fn keep(&self, key: u128, at: i64, position: Position, patience: Duration) {
        let Some(log) = &self.log else { return };
        let number = {
            // Sent under the lock, so that numbers and the queue have one order.
            let mut sent = self.sent.lock();
            if log.try_send(Entry { key, at, position }).is_err() {
                return;
            }
            *sent += 1;
            *sent
        };
        let mut written = self.written.clone();
        let _ = tokio::time::timeout(patience, written.wait_for(|written| *written >= number)).await;
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table.lock().order.len()
    }
}

/// Opens the remembered keys and starts the task that writes them; it ends when `Keys` is dropped.
///
/// # Errors
/// A text: the log can't be opened.
pub(super) async fn open(
    door: &Door,
    max: usize,
) -> Result<(Arc<Keys>, Option<tokio::task::JoinHandle<()>>), String> {
    let (journal, state) = (door.journal.clone(), door.state.clone());
    let now = door.steady();
    let opened = tokio::task::spawn_blocking(move || restore(&journal, state.as_ref(), now, max)).await;
    let (table, log) = opened.map_err(|error| error.to_string())??;
    let (written_to, written) = watch::channel(0);
    let (sender, receiver) = mpsc::channel(QUEUE);
    let task = log.map(|log| tokio::spawn(write(log, receiver, written_to)));
    let log = task.is_some().then_some(sender);
    let keys = Keys { table: Mutex::new(table), max, log, written, sent: Mutex::new(0) };
    Ok((Arc::new(keys), task))
}

fn restore(
    journal: &Journal,
    state: Option<&StateDir>,
    now: i64,
    max: usize,
) -> Result<(Table, Option<Log>), String> {
    let mut table = Table::default();
    let mut after = 0;
    let mut log = None;
    // Keys whose day begins now: they are written (again) with this time.
    let mut missing = Vec::new();
    // Everything in the log before its first record with a key of the last day can go.
    let mut stale = 0;
    if let Some(StateDir { storage, dir }) = state {
        let options = Options { segment_bytes: 1 << 20, ..Options::default() };
        let (opened, recovery) =
            Log::open(Arc::clone(storage), dir, options).map_err(|error| error.to_string())?;
        if recovery.damaged.is_empty() {
            tracing::debug!(?recovery, "idempotency keys read");
        } else {
            tracing::error!(
                ?recovery,
                "the remembered idempotency keys were damaged: a retry of an earlier request may be stored again; the damaged part is in quarantine"
            );
        }
        let mut only_stale = true;
        let mut reader = opened.reader(opened.first());
        while let Some(found) = reader.next().map_err(|error| error.to_string())? {
            let mut fresh = false;
            for entry in entries(found.payload) {
                after = after.max(entry.position);
                if entry.at > now {
                    // Of a timeline that was lost to damage, or of the wall clock that versions before it went by.
                    missing.push(Entry { at: now, ..entry });
                } else if now.saturating_sub(entry.at) < KEPT {
                    table.insert(entry);
                    fresh = true;
                }
            }
            only_stale &= !fresh;
            if only_stale {
                stale = found.number;
            }
        }
        log = Some(opened);
    }
    // What the journal took after the last key that the log has.
    let mut reader = journal.reader(after);
    loop {
        match reader.next(Duration::ZERO) {
            Ok(Some((position, Record::Intake(intake)))) => {
                if let Some(Origin::Http { key }) = intake.origin {
                    missing.push(Entry { key, at: now, position });
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) => return Err(error.to_string()),
        }
    }
    if let Some(log) = log.as_mut() {
        if !missing.is_empty() {
            append(log, &missing)?;
        }
        log.release(stale).map_err(|error| error.to_string())?;
    }
    for entry in missing {
        table.insert(entry);
    }
    table.forget(now, max);
    Ok((table, log))
}

fn entries(payload: &[u8]) -> impl Iterator<Item = Entry> + '_ {
    payload.as_chunks::<ENTRY>().0.iter().map(|bytes| {
        let number = |range: std::ops::Range<usize>| {
            bytes[range].iter().rev().fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte))
        };
        Entry { key: number(0..16), at: number(16..24) as u64 as i64, position: number(24..32) as u64 }
    })
}

fn payload(entries: &[Entry]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(entries.len() * ENTRY);
    for entry in entries {
        payload.extend_from_slice(&entry.key.to_le_bytes());
        payload.extend_from_slice(&entry.at.to_le_bytes());
        payload.extend_from_slice(&entry.position.to_le_bytes());
    }
    payload
}

fn append(log: &mut Log, entries: &[Entry]) -> Result<(), String> {
    log.append(&payload(entries)).map_err(|error| error.to_string())?;
    log.sync().map_err(|error| error.to_string())?;
    Ok(())
}

/// Writes what comes, all that waits with one fsync, and lets go of segments older than a day.
async fn write(log: Log, mut from: mpsc::Receiver<Entry>, written: watch::Sender<u64>) {
    let mut log = Some(log);
    let mut waiting = Vec::new();
    // (last record number of a group, newest time in it), oldest first.
    let mut groups: VecDeque<(u64, i64)> = VecDeque::new();
    while from.recv_many(&mut waiting, QUEUE).await > 0 {
        let Some(mut open) = log.take() else { return };
        let group = std::mem::take(&mut waiting);
        let count = group.len() as u64;
        let newest = group.iter().map(|entry| entry.at).max().unwrap_or_default();
        let done = tokio::task::spawn_blocking(move || append(&mut open, &group).map(|()| open)).await;
        match done.map_err(|error| error.to_string()).and_then(|result| result) {
            Ok(mut open) => {
                groups.push_back((open.durable(), newest));
                let mut stale = None;
                while let Some((number, at)) = groups.front().copied()
                    && newest.saturating_sub(at) >= KEPT
                {
                    stale = Some(number);
                    groups.pop_front();
                }
                if groups.len() > 100_000 {
                    groups.pop_front();
                }
                if let Some(stale) = stale
                    && let Err(error) = open.release(stale)
                {
                    tracing::warn!(%error, "old idempotency keys could not be deleted");
                }
                log = Some(open);
                written.send_modify(|written| *written += count);
            }
            Err(error) => {
                tracing::error!(%error, "idempotency keys are no longer written: until a restart they last as long as the journal's records");
                return;
            }
        }
    }
}

/// Any bytes as a log record: what is read is what would be written, and the table stays within its bound.
#[cfg(feature = "fuzz")]
pub(crate) fn fuzz(bytes: &[u8]) {
    const MAX: usize = 4;
    let read: Vec<Entry> = entries(bytes).collect();
    assert_eq!(payload(&read), bytes[..bytes.len() / ENTRY * ENTRY]);
    let mut table = Table::default();
    for entry in read {
        table.insert(entry);
        table.forget(entry.at, MAX);
        assert!(table.order.len() <= MAX && table.keys.len() == table.order.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;
    use telemetry::Intake;

    async fn keys(bench: &Bench, max: usize) -> Arc<Keys> {
        let door = bench.door.clone().with_state(Arc::new(bench.disk.clone()), "/keys".into());
        open(&door, max).await.unwrap().0
    }

    #[tokio::test]
    async fn a_key_is_new_then_in_progress_then_taken() {
        let bench = Bench::new();
        let keys = keys(&bench, 10).await;
        assert_eq!(keys.begin(1, 0), Known::New);
        assert_eq!(keys.begin(1, 0), Known::InProgress);
        keys.gone(1);
        assert_eq!(keys.begin(1, 0), Known::New);
        keys.taken(1, 0, 7);
        keys.gone(1);
        assert_eq!(keys.begin(1, 0), Known::Taken(7));
        assert_eq!(keys.begin(1, KEPT), Known::New, "a day later it is forgotten");
    }

    #[tokio::test]
    async fn the_oldest_are_forgotten_beyond_the_limit() {
        let bench = Bench::new();
        let keys = keys(&bench, 3).await;
        for key in 0..10 {
            keys.begin(key, 0);
            keys.taken(key, 0, 1);
        }
        assert_eq!(keys.len(), 3);
        assert_eq!((keys.begin(6, 0), keys.begin(7, 0)), (Known::New, Known::Taken(1)));
    }

    #[tokio::test]
    async fn keys_survive_a_crash_from_the_log_and_from_the_journal() {
        let bench = Bench::new();
        let now = bench.door.steady();
        let first = keys(&bench, 10).await;
        first.begin(1, now);
        first.taken(1, now, 0);
        first.keep(1, now, 0, Duration::from_secs(5)).await;
        // The second is in the journal alone.
        let mut intake = Intake::new(3, bench.door.now());
        intake.origin = Some(Origin::Http { key: 2 });
        let position = bench.door.submit(intake).unwrap();
        bench.door.durable(position).await.unwrap();
        drop(first);
        bench.door.journal.close();
        bench.disk.crash();
        let after = Bench::on(bench.disk.clone(), 100);
        let again = keys(&after, 10).await;
        assert_eq!(again.begin(1, now), Known::Taken(0));
        assert_eq!(again.begin(2, now), Known::Taken(position));
        assert_eq!(again.begin(3, now), Known::New);
    }
}
