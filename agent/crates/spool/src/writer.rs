//! The one writer: rows into batches, batches and what becomes of them into the log.
//!
//! Everything that is written goes through [`Writer::commit`]: the records are appended, synced, and
//! only then does the state change. When the disk fails in between, what was to be done stays in
//! `unsynced` and is finished, in the same order and with the same bytes, before anything else is
//! begun. So a name that was given is never given to other bytes, whatever fails when.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use seglog::{AppendError, Cell, Log, Options, Readers, Storage, SyncError};
use telemetry::{BatchKey, Cause, Counts, Epoch, Position, Rows, SeriesTable};
use wire::payload::Encoder;

use crate::class::Classes;
use crate::clocks::ClockFile;
use crate::cursor::{Cursor, EpochCursor};
use crate::cut::{Cut, Cutter, Pending};
use crate::group::Group;
use crate::heads::Heads;
use crate::numbering::Numbering;
use crate::record::{self, Head, Loss, Record};
use crate::send::Place;
use crate::state::{Entry, Order, Recent, State, lost};
use crate::{SpoolConfig, SpoolError};

/// Room for the cursor: thousands of gaps between what is done.
pub(crate) const CURSOR_BYTES: usize = 128 << 10;
/// A cursor that says more than the one on disk is written at this interval, or when a segment goes.
const CURSOR_EVERY: Duration = Duration::from_secs(5);

/// Something that is to be in the log before it is true.
pub(crate) enum Act {
    Cut(Cut),
    Rename { epoch: Epoch, moves: Vec<(Order, u64)> },
    Lose { order: Order, loss: Loss },
}

pub(crate) struct Writer {
    pub(crate) config: SpoolConfig,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) table: Arc<SeriesTable>,
    pub(crate) state: Arc<Mutex<State>>,
    /// `None` between a failure and the opening that repairs it.
    pub(crate) log: Option<Log>,
    pub(crate) cell: Option<Cell>,
    pub(crate) readers: Arc<Mutex<Readers>>,
    pub(crate) place: Arc<Mutex<Place>>,
    pub(crate) next_record: u64,
    pub(crate) numbering: Numbering,
    /// Series numbers that the current segment defines.
    pub(crate) defined: HashSet<u32>,
    pub(crate) heads: Heads,
    pub(crate) pending: Pending,
    pub(crate) encoder: Encoder,
    pub(crate) classes: Classes,
    pub(crate) clocks: ClockFile,
    /// Begun and not finished, with the records that were appended.
    pub(crate) unsynced: Vec<(Act, Option<u64>)>,
    pub(crate) cursor_at: Duration,
}

impl Writer {
    pub(crate) fn dir(&self) -> PathBuf {
        self.config.dir.join("log")
    }

    pub(crate) fn options(config: &SpoolConfig) -> Options {
        Options { segment_bytes: config.segment_bytes, max_record: 32 << 20 }
    }

    /// Takes the rows of one record, or nothing.
    pub(crate) fn append(
        &mut self,
        position: Position,
        rows: &Rows,
        recovering: bool,
    ) -> Result<(), SpoolError> {
        if position <= self.state.lock().position.max(self.pending.last) {
            return Ok(());
        }
        if !self.unsynced.is_empty() || self.pending.weight >= self.config.batch_bytes {
            self.settle()?;
            self.cut_if_full()?;
        }
        self.pending.add(position, rows, recovering);
        // The rows are taken: trouble shows at the next call, which takes none until this is done.
        if let Err(error) = self.cut_if_full() {
            self.state.lock().trouble = Some(error.to_string());
        }
        Ok(())
    }

    fn cut_if_full(&mut self) -> Result<(), SpoolError> {
        if self.pending.weight < self.config.batch_bytes {
            return Ok(());
        }
        self.cut().map(drop)
    }

    /// Cuts what is pending. The key is that of the last batch.
    pub(crate) fn cut(&mut self) -> Result<Option<BatchKey>, SpoolError> {
        self.settle()?;
        if self.pending.is_empty() {
            return Ok(None);
        }
        self.room()?;
        let mut cutter = Cutter {
            classes: &mut self.classes,
            encoder: &mut self.encoder,
            numbering: &mut self.numbering,
            table: &self.table,
            state: &self.state,
        };
        let pieces = cutter.cut(&self.pending);
        if pieces.is_empty() {
            self.pending.clear();
            return Ok(None);
        }
        let (epoch, mut seq, mut before, now, offered) = {
            let state = self.state.lock();
            let Some((_, epoch)) = state.current() else { return Ok(None) };
            (epoch.id, epoch.next_seq, state.before.clone(), state.now, state.connected)
        };
        let parts = pieces.len() as u64;
        let mut acts = Vec::new();
        for (part, piece) in pieces.into_iter().enumerate() {
            let head = Head {
                key: BatchKey { epoch, seq },
                part: part as u64 + 1,
                parts,
                first_position: self.pending.first,
                last_position: self.pending.last,
                t0: piece.encoded.t0,
                t1: piece.encoded.t1,
                rows: piece.rows,
                counts: piece.counts,
                before: before.clone(),
                checksum: piece.encoded.checksum,
                series: piece.encoded.series,
                group: piece.group,
                samples: piece.samples,
                offered,
                replaces: Vec::new(),
            };
            before.merge(&head.counts);
            seq += 1;
            let cut_at = self.pending.fresh.then_some(now);
            acts.push(Act::Cut(Cut { head: Arc::new(head), payload: piece.encoded.bytes.into(), cut_at }));
        }
        self.pending.clear();
        self.commit(acts)?;
        Ok(Some(BatchKey { epoch, seq: seq - 1 }))
    }

    /// Rows up to here are durable in batches, or there were none.
    pub(crate) fn durable_position(&self) -> Position {
        let unsynced = self.unsynced.iter().find_map(|(act, _)| match act {
            Act::Cut(cut) => Some(cut.head.first_position - 1),
            _ => None,
        });
        let pending = (!self.pending.is_empty()).then(|| self.pending.first - 1);
        unsynced.or(pending).unwrap_or(self.pending.last).max(self.state.lock().position)
    }

    /// Refuses when the disk is too full for others to live beside us.
    fn room(&mut self) -> Result<(), SpoolError> {
        // A file system that can't say how much is free has its own way to refuse.
        let tight = |writer: &Self| {
            let free = writer.storage.free_bytes(&writer.config.dir);
            free.is_ok_and(|free| free < writer.config.min_free_bytes)
        };
        if tight(self) && (!self.release_done() || tight(self)) {
            self.state.lock().trouble = Some(SpoolError::Full.to_string());
            return Err(SpoolError::Full);
        }
        Ok(())
    }

    /// Begins acts. `settle` must have succeeded before, so that nothing older is unfinished.
    pub(crate) fn commit(&mut self, acts: Vec<Act>) -> Result<(), SpoolError> {
        if acts.iter().any(|act| matches!(act, Act::Rename { .. })) {
            self.state.lock().frozen = true;
        }
        self.unsynced.extend(acts.into_iter().map(|act| (act, None)));
        self.settle()
    }

    /// Finishes what was begun.
    pub(crate) fn settle(&mut self) -> Result<(), SpoolError> {
        let mut result = self.try_settle();
        if matches!(result, Err(SpoolError::Full)) && self.release_done() {
            result = self.try_settle();
        }
        let mut state = self.state.lock();
        match &result {
            Ok(()) => state.trouble = None,
            Err(error) => state.trouble = Some(error.to_string()),
        }
        result
    }

    fn try_settle(&mut self) -> Result<(), SpoolError> {
        if self.unsynced.is_empty() {
            return Ok(());
        }
        if self.log.as_ref().is_none_or(|log| log.poisoned().is_some()) {
            self.reopen()?;
        }
        for at in 0..self.unsynced.len() {
            if self.unsynced[at].1.is_none() {
                self.unsynced[at].1 = Some(self.put(at)?);
            }
        }
        let log = self.log.as_mut().ok_or_else(closed)?;
        log.sync().map_err(|error| match error {
            SyncError::Full(_) => SpoolError::Full,
            SyncError::Poisoned(reason) => SpoolError::Broken(reason),
        })?;
        // DURABILITY: only now may anything of it be seen by the uplink.
        let mut state = self.state.lock();
        for (act, record) in self.unsynced.drain(..) {
            apply(&mut state, act, record.unwrap_or_default());
        }
        state.frozen = false;
        Ok(())
    }

    /// Appends the record of an unfinished act.
    fn put(&mut self, at: usize) -> Result<u64, SpoolError> {
        let mut out = Vec::new();
        let mut newly = Vec::new();
        match &self.unsynced[at].0 {
            Act::Cut(cut) => {
                let missing = |number: &&u32| !self.defined.contains(*number);
                newly = cut.head.series.iter().filter(missing).copied().collect();
                out = self.batch(cut, &newly);
                if self.log.as_ref().is_some_and(|log| log.starts_segment(out.len())) {
                    // A segment reads alone: in a new one everything used is defined again.
                    self.defined.clear();
                    newly.clone_from(&cut.head.series);
                    out = self.batch(cut, &newly);
                }
            }
            Act::Rename { epoch, moves } => {
                let state = self.state.lock();
                let record = |order| state.entry(order).map(|entry| entry.record);
                let moves: Vec<(u64, u64)> =
                    moves.iter().filter_map(|(order, seq)| Some((record(*order)?, *seq))).collect();
                record::put_relabel(&mut out, *epoch, &moves);
            }
            Act::Lose { order, loss } => {
                let (t0, t1) = self.state.lock().times_of(*order).unwrap_or((loss.t0, loss.t1));
                record::put_loss(&mut out, &Loss { t0, t1, ..loss.clone() });
            }
        }
        let payload = match &self.unsynced[at].0 {
            Act::Cut(cut) => cut.payload.len(),
            _ => 0,
        };
        let log = self.log.as_mut().ok_or_else(closed)?;
        let begins = log.starts_segment(out.len());
        if begins {
            self.defined.clear();
        }
        let number = log.append(&out).map_err(|error| match error {
            AppendError::Full(_) => SpoolError::Full,
            other => SpoolError::Broken(other.to_string()),
        })?;
        if begins {
            // The segment before is complete and durable.
            let records = self.heads.close();
            let segments = log.readers().segments();
            let before = segments.iter().rev().find(|segment| segment.1 < number);
            if let Some(segment) =
                before.filter(|segment| records.first().is_some_and(|r| r.number == segment.1))
            {
                self.heads.write(segment, &records);
            }
        }
        self.heads.push(number, &out, payload);
        self.defined.extend(newly);
        self.next_record = number + 1;
        Ok(number)
    }

    fn batch(&self, cut: &Cut, define: &[u32]) -> Vec<u8> {
        let state = self.state.lock();
        let defs: Vec<_> = define
            .iter()
            .filter_map(|number| Some((*number, Arc::clone(state.names.get(number)?))))
            .collect();
        drop(state);
        let mut out = Vec::with_capacity(cut.payload.len() + 512);
        // The cut was divided until they fit.
        let definitions = wire::definitions::encode(&defs).unwrap_or_default();
        record::put_batch(&mut out, &cut.head, &definitions, &cut.payload);
        out
    }

    /// After a failed write or fsync: the log is opened anew, which verifies what is there, and what was
    /// not durable is appended again.
    fn reopen(&mut self) -> Result<(), SpoolError> {
        // The old one holds the lock.
        self.log = None;
        let opened = Log::open(Arc::clone(&self.storage), &self.dir(), Self::options(&self.config));
        let (mut log, recovery) = opened.map_err(|error| SpoolError::Broken(error.to_string()))?;
        if let Some(reason) = recovery.unverified {
            return Err(SpoolError::Broken(reason));
        }
        log.skip_to(self.next_record).map_err(|error| SpoolError::Broken(error.to_string()))?;
        tracing::warn!(?recovery, "the spool's log was reopened after a failed write");
        *self.readers.lock() = log.readers();
        *self.place.lock() = None;
        self.log = Some(log);
        self.defined.clear();
        // What the old segment holds is read from itself at the next start.
        self.heads.close();
        for (_, record) in &mut self.unsynced {
            *record = None;
        }
        Ok(())
    }

    /// What the clock and acks ask for, without cutting: frees segments, keeps the caps.
    pub(crate) fn maintain(&mut self, now: Duration) -> Result<(), SpoolError> {
        self.settle()?;
        let clocks = self.config.dir.join("clocks");
        self.clocks.save(&self.storage, &clocks, &self.state);
        self.save_losses()?;
        self.keep_caps()?;
        self.release(now)
    }

    /// Losses that recovery found are written down.
    pub(crate) fn save_losses(&mut self) -> Result<(), SpoolError> {
        let unsaved: Vec<Act> = {
            let state = self.state.lock();
            let unsaved = state.entries().filter(|(_, entry)| entry.record == 0 && entry.loss.is_some());
            unsaved
                .filter_map(|(order, entry)| Some(Act::Lose { order, loss: loss_of(&state, order, entry)? }))
                .collect()
        };
        if unsaved.is_empty() { Ok(()) } else { self.commit(unsaved) }
    }

    /// Writes the cursor when it is time to, and unlinks what every batch is done with.
    fn release(&mut self, now: Duration) -> Result<(), SpoolError> {
        let dirty = self.state.lock().dirty;
        if self.releasable().is_some() {
            self.release_done();
        } else if dirty && now.saturating_sub(self.cursor_at) >= CURSOR_EVERY {
            self.save_cursor(now)?;
        }
        Ok(())
    }

    /// The last record that nobody needs, if a whole segment ends at or before it.
    fn releasable(&self) -> Option<u64> {
        let log = self.log.as_ref()?;
        let unsynced = self.unsynced.iter().filter_map(|(_, record)| *record).min();
        let live = self.state.lock().records.first().copied();
        let needed = [unsynced, live].into_iter().flatten().min().unwrap_or(self.next_record);
        let upto = needed.checked_sub(1)?;
        (log.first() <= upto && log.readers().segment_first(needed) > log.first()).then_some(upto)
    }

    /// True when something was unlinked.
    fn release_done(&mut self) -> bool {
        let Some(upto) = self.releasable() else { return false };
        let now = self.state.lock().now;
        // DURABILITY: the cursor says that these are done before the log forgets them.
        if let Err(error) = self.save_cursor(now) {
            tracing::warn!(%error, "nothing of the spool is freed until its cursor can be written");
            return false;
        }
        let Some(log) = &mut self.log else { return false };
        let freed = log.release(upto);
        let first = log.first();
        self.heads.release(first);
        self.state.lock().forget_epochs(first);
        match freed {
            Ok(freed) => freed > 0,
            Err(error) => {
                tracing::warn!(%error, "a segment of the spool that is no longer needed can't be removed; it is tried again");
                false
            }
        }
    }

    pub(crate) fn save_cursor(&mut self, now: Duration) -> Result<(), SpoolError> {
        let cursor = {
            let state = self.state.lock();
            Cursor {
                position: state.position,
                next_number: self.numbering.next(),
                next_record: self.next_record,
                before: state.before.clone(),
                epochs: state
                    .epochs
                    .values()
                    .map(|epoch| EpochCursor {
                        id: epoch.id,
                        next_seq: epoch.next_seq,
                        last_record: epoch.last_record,
                        done: epoch.done.clone(),
                    })
                    .collect(),
            }
        };
        let broken =
            |error: &dyn std::fmt::Display| SpoolError::Broken(format!("the spool's cursor: {error}"));
        if self.cell.is_none() {
            let path = self.config.dir.join("cursor");
            let cell =
                Cell::open(Arc::clone(&self.storage), &path, CURSOR_BYTES).map_err(|error| broken(&error))?;
            self.cell = Some(cell);
        }
        let Some(cell) = &mut self.cell else { return Ok(()) };
        if let Err(error) = cell.set(&cursor.encode()) {
            if matches!(error, seglog::CellError::Poisoned { .. }) {
                self.cell = None;
            }
            return Err(broken(&error));
        }
        self.cursor_at = now;
        self.state.lock().dirty = false;
        Ok(())
    }

    /// Drops the oldest segments' batches while the log is over its cap, and what is too old.
    fn keep_caps(&mut self) -> Result<(), SpoolError> {
        let mut dropped = 0;
        // Losses of the oldest segment are written again at the end: once round is enough.
        let mut segments = self.log.as_ref().map_or(0, |log| log.readers().segments().len());
        while let Some(log) = &self.log
            && log.bytes() > self.config.max_bytes
            && segments > 1
        {
            segments -= 1;
            // The newest segment is being written; it goes when it is no longer that.
            let Some((_, next, _)) = log.readers().segments().into_iter().nth(1) else { break };
            let inside = {
                let state = self.state.lock();
                state
                    .entries()
                    .filter(|(_, entry)| (1..next).contains(&entry.record))
                    .map(|(order, _)| order)
                    .collect()
            };
            dropped += self.drop_entries(inside, Cause::Overflowed)?;
            if !self.release_done() {
                break;
            }
        }
        if let Some(max_age) = self.config.max_age {
            let old = {
                let state = self.state.lock();
                // Age is by event time against the newest that was seen: the clock may be wrong, and
                // nothing must expire by waiting for a clock to be set.
                let max_age = i64::try_from(max_age.as_nanos()).unwrap_or(i64::MAX);
                let limit = state.newest_t1.saturating_sub(max_age);
                let batches = state.entries().filter(|(_, entry)| entry.loss.is_none());
                let timed = batches.filter_map(|(order, entry)| Some((order, state.times(entry)?.1)));
                timed.take_while(|(_, newest)| *newest < limit).map(|(order, _)| order).collect()
            };
            dropped += self.drop_entries(old, Cause::Expired)?;
        }
        if dropped > 0 {
            tracing::warn!(
                batches = dropped,
                "the spool is over a cap: its oldest batches were dropped and are reported as lost"
            );
        }
        Ok(())
    }

    /// Puts losses in the place of batches; losses among them are written again, further on in the log.
    fn drop_entries(&mut self, orders: Vec<Order>, cause: Cause) -> Result<u64, SpoolError> {
        let (mut acts, mut batches) = (Vec::new(), 0);
        for order in orders {
            let state = self.state.lock();
            let (Some(entry), Some(key)) = (state.entry(order).cloned(), state.key_of(order)) else {
                continue;
            };
            drop(state);
            let counts = match &entry.loss {
                Some(counts) => (**counts).clone(),
                None => {
                    batches += 1;
                    lost(&self.counts_of(&entry), entry.rows, cause)
                }
            };
            acts.push(Act::Lose { order, loss: Loss { key, t0: entry.t0, t1: entry.t1, counts } });
        }
        if !acts.is_empty() {
            self.commit(acts)?;
        }
        Ok(batches)
    }
}

impl Writer {
    /// The counts of a batch: from its record, else from the segment's heads, else from its neighbours;
    /// where nothing else can be read, its rows are known at least.
    pub(crate) fn counts_of(&mut self, entry: &Entry) -> Counts {
        let number = entry.record;
        if let Some(head) = self.head_of(number) {
            return head.counts;
        }
        let mut counts = Counts::new();
        match (self.head_of(number.saturating_sub(1)), self.head_of(number + 1)) {
            (Some(before), Some(after)) => {
                for (cause, n) in after.before.iter() {
                    let earlier = before.before.get(cause) + before.counts.get(cause);
                    counts.add(cause, n.saturating_sub(earlier));
                }
            }
            _ => counts.add(Cause::Shipped, entry.rows),
        }
        counts
    }

    fn head_of(&mut self, number: u64) -> Option<Head> {
        let of = |bytes: &[u8]| match Record::decode(bytes) {
            Ok(Record::Batch { head, .. }) => Some(head),
            _ => None,
        };
        let segments = self.readers.lock().segments();
        let segment = segments.iter().rev().find(|segment| segment.1 <= number)?;
        if let Some(record) = self.heads.find(segment, number) {
            return of(&record.bytes);
        }
        let mut reader = self.readers.lock().reader(number);
        reader.next().ok()?.filter(|found| found.number == number).and_then(|found| of(found.payload))
    }
}

fn closed() -> SpoolError {
    SpoolError::Broken("its log is closed".into())
}

pub(crate) fn loss_of(state: &State, order: Order, entry: &Entry) -> Option<Loss> {
    let counts = entry.loss.as_deref()?.clone();
    Some(Loss { key: state.key_of(order)?, t0: entry.t0, t1: entry.t1, counts })
}

/// What became true with a record.
fn apply(state: &mut State, act: Act, record: u64) {
    match act {
        Act::Cut(cut) => {
            let Some(number) = state.number_of(cut.head.key.epoch) else { return };
            let order = (number, cut.head.key.seq);
            state.insert(order, Entry::of_batch(record, &cut.head, cut.payload.len(), cut.cut_at, false));
            state.before.merge(&cut.head.counts);
            if cut.head.part == cut.head.parts {
                state.position = state.position.max(cut.head.last_position);
            }
            state.remember(Recent { order, payload: cut.payload, head: cut.head });
        }
        Act::Rename { epoch, moves } => {
            let known = state.number_of(epoch);
            let to = known.unwrap_or_else(|| state.begin(epoch));
            state.relabel(&moves, to, record);
        }
        Act::Lose { order, loss } => {
            let times = state.times_of(order);
            let Some(entry) = state.take(order) else { return };
            let (t0, t1) = times.unwrap_or((entry.t0, entry.t1));
            // Its times are real ones from here on, or 0.
            let group = Group { clock: None, ..entry.group };
            let loss = Entry { record, bytes: 0, t0, t1, group, loss: Some(Box::new(loss.counts)), ..entry };
            state.insert(order, loss);
        }
    }
}
