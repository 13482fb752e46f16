//! The one writer: rows into batches, batches and what becomes of them into the log.
//!
//! Everything that is written goes through [`Writer::commit`]: the records are appended, synced, and
//! only then does the state change. When the disk fails in between, what was to be done stays in
//! `unsynced` and is finished, in the same order and with the same bytes, before anything else is
//! begun. So a name that was given is never given to other bytes, whatever fails when.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use seglog::{AppendError, Cell, Log, Options, Readers, Storage, SyncError};
use telemetry::{BatchKey, Cause, Counts, OpenWindows, Position, Rows, SeriesTable, Tracer};
use wire::payload::Encoder;

pub(crate) use crate::act::Act;
use crate::act::{Placed, apply};
use crate::class::{Classes, Overflow};
use crate::clocks::ClockFile;
use crate::cut::{Cut, Cutter, Pending, Piece};
use crate::entry::{Entry, lost};
use crate::floor::Floor;
use crate::group;
use crate::heads::Heads;
use crate::numbering::Numbering;
use crate::proof::{Again, Unproven};
use crate::record::{self, Head, Loss};
use crate::recut::Recut;
use crate::reserve::Reserve;
use crate::send::{Place, read_at, refused};
use crate::state::{Order, State};
use crate::traced::{self, Sampled};
use crate::{SpoolConfig, SpoolError};

/// Room for the cursor: thousands of gaps between what is done.
pub(crate) const CURSOR_BYTES: usize = 128 << 10;
/// So many further batches are marked with one that is about to be sent.
const MARK_AHEAD: u64 = 255;
/// Between two lines of the log about one thing that goes on.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// What the log adds to a record.
pub(crate) const FRAME: usize = 16;

/// How often a segment defines a series: with the first two batches that use it. So a damaged one takes no other's
/// definitions with it.
const TIMES: u8 = 2;

/// Writes a batch's record: as it was cut, or moved.
type PutBatch = fn(&mut Vec<u8>, &Head, &[u8], &[u8]);

pub(crate) struct Writer {
    pub(crate) config: SpoolConfig,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) table: Arc<SeriesTable>,
    pub(crate) state: Arc<Mutex<State>>,
    /// `None` between a failure and the opening that repairs it.
    pub(crate) log: Option<Log>,
    /// Why nothing is built on what was opened, and when it is opened anew.
    pub(crate) unproven: Option<Unproven>,
    pub(crate) again: Again,
    /// When a log that fell out of order is opened anew; from the beginning once what was begun is finished.
    pub(crate) reopening: Again,
    pub(crate) cell: Option<Cell>,
    pub(crate) readers: Arc<Mutex<Readers>>,
    pub(crate) place: Arc<Mutex<Place>>,
    pub(crate) next_record: u64,
    pub(crate) numbering: Numbering,
    /// Series numbers that the current segment defines, and how often.
    pub(crate) defined: HashMap<u32, u8>,
    pub(crate) heads: Heads,
    /// Segments that begin with the rest of a cut: without them, what is before isn't whole.
    pub(crate) continued: BTreeSet<u64>,
    pub(crate) pending: Pending,
    /// What was torn when it was opened, until the replay is past it.
    pub(crate) recut: Option<Recut>,
    pub(crate) encoder: Encoder,
    pub(crate) classes: Classes,
    pub(crate) clocks: ClockFile,
    /// Begun and not finished, with the records that were appended.
    pub(crate) unsynced: Vec<(Act, Option<Placed>)>,
    pub(crate) cursor_at: Duration,
    pub(crate) floor: Floor,
    pub(crate) reserve: Option<Reserve>,
    /// When what is missing of it was looked for last.
    pub(crate) refilled_at: Option<Duration>,
    /// When what is too old was looked for last.
    pub(crate) expired_at: Option<Duration>,
    /// New readings that had no room since that was told, and when it was.
    pub(crate) turned_away: (u64, Option<Duration>),
    /// Where spans go, if anywhere.
    pub(crate) tracer: Option<Arc<Tracer>>,
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
        if self.classes.may_block() {
            self.wait_for_room(rows)?;
        }
        if self.recut.is_some_and(|recut| !recut.holds(position)) {
            self.cut()?;
            self.recut = None;
        }
        if !self.unsynced.is_empty() || self.pending.weight >= self.config.batch_bytes {
            self.settle()?;
            self.cut_if_full()?;
        }
        self.pending.add(position, rows, recovering);
        if !rows.traces.is_empty() {
            let now = self.tracer.as_ref().map_or(0, |tracer| tracer.now());
            self.pending.sampled.add(&rows.traces, now);
        }
        // The rows are taken: trouble shows at the next call, which takes none until this is done.
        if let Err(error) = self.cut_if_full() {
            self.state.lock().trouble = Some(error.to_string());
        }
        Ok(())
    }

    /// Refuses rows of a class that blocks while there is no room for them.
    fn wait_for_room(&mut self, rows: &Rows) -> Result<(), SpoolError> {
        let (blocked, now) = {
            let state = self.state.lock();
            (state.blocked, state.now)
        };
        if !blocked || !group::blocks(rows, &mut self.classes, &self.table) {
            return Ok(());
        }
        // What was acknowledged since may have made room.
        self.maintain(now)?;
        if self.state.lock().blocked { Err(SpoolError::Blocked) } else { Ok(()) }
    }

    fn cut_if_full(&mut self) -> Result<(), SpoolError> {
        if self.pending.weight < self.config.batch_bytes {
            return Ok(());
        }
        self.cut().map(drop)
    }

    /// Cuts what is pending before a record that isn't taken yet, unless both were in one batch.
    pub(crate) fn cut_before(&mut self, position: Position) -> Result<Option<BatchKey>, SpoolError> {
        if self.recut.is_some_and(|recut| recut.holds(position)) { Ok(None) } else { self.cut() }
    }

    /// Cuts what is pending. The key is that of the last batch.
    pub(crate) fn cut(&mut self) -> Result<Option<BatchKey>, SpoolError> {
        self.settle()?;
        self.save_corrected()?;
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
        let cut_at = self.pending.fresh.then_some(self.state.lock().now);
        let open = self.pending.rows.open;
        let sampled = std::mem::take(&mut self.pending.sampled);
        let made_from = (self.pending.first, self.pending.last, open);
        let acts = self.named(pieces, made_from, cut_at, &[], &sampled)?;
        let key = acts.iter().rev().find_map(|act| match act {
            Act::Cut(cut) => Some(cut.head.key),
            _ => None,
        });
        self.pending.clear();
        self.commit(acts)?;
        Ok(key)
    }

    /// Gives pieces their names: what was cut becomes what is to be written. `made_from` are the first and last position, and
    /// how many readings were in open windows then; `replaced` the losses that come with them, and what they stand for; `sampled` the
    /// records that are traced.
    pub(crate) fn named(
        &mut self,
        pieces: Vec<Piece>,
        made_from: (Position, Position, Option<OpenWindows>),
        cut_at: Option<Duration>,
        replaced: &[(Loss, Entry)],
        sampled: &Sampled,
    ) -> Result<Vec<Act>, SpoolError> {
        let (first_position, last_position, open) = made_from;
        let (epoch, mut seq, mut before, offered) = {
            let state = self.state.lock();
            let Some((_, epoch)) = state.current() else { return Err(closed()) };
            (epoch.id, epoch.next_seq, state.before.clone(), state.connected)
        };
        for (loss, batch) in replaced {
            before = exchanged(&before, &batch.counts.counts(), &loss.counts);
        }
        let parts = pieces.len() as u64;
        let fold = sampled.fold(BatchKey { epoch, seq });
        let mut acts = Vec::new();
        for (part, piece) in pieces.into_iter().enumerate() {
            let class = piece.group.class;
            let mut payload: Bytes = piece.encoded.bytes.into();
            let mut head = Head {
                key: BatchKey { epoch, seq },
                part: part as u64 + 1,
                parts,
                first_position,
                last_position,
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
                thinned: piece.thinned,
                open,
                trace: fold.map(|fold| traced::of_batch(fold, BatchKey { epoch, seq })),
            };
            if self.turns_away(class.priority, class.overflow, payload.len()) {
                let counts = lost(head.counts.clone(), head.rows, head.thinned, Cause::Overflowed);
                head.replaces.push(Loss { key: head.key, t0: head.t0, t1: head.t1, counts });
                (payload, head.series, head.trace) = (Bytes::new(), Vec::new(), None);
                self.tell_turned_away(head.rows);
            }
            before.merge(&head.counts);
            seq += 1;
            let spans = match (&self.tracer, fold) {
                (Some(tracer), Some(fold)) => sampled.spans(&head, fold, payload.len(), tracer.now()),
                _ => Vec::new(),
            };
            acts.push(Act::Cut(Cut { head: Arc::new(head), payload, cut_at, spans }));
        }
        Ok(acts)
    }

    /// Says that new readings are dropped; while it goes on, once a minute.
    fn tell_turned_away(&mut self, rows: u64) {
        let now = self.state.lock().now;
        self.turned_away.0 += rows;
        if self.turned_away.1.is_none_or(|told| now.saturating_sub(told) >= TELL_EVERY) {
            tracing::warn!(
                readings = self.turned_away.0,
                "the spool is at its cap: new readings of a class that keeps its oldest were dropped, and are reported as lost"
            );
            self.turned_away = (0, Some(now));
        }
    }

    /// Rows up to here are durable in batches, or there were none.
    pub(crate) fn durable_position(&self) -> Position {
        if !self.proven() {
            return 0;
        }
        let unsynced = self.unsynced.iter().find_map(|(act, _)| match act {
            Act::Cut(cut) => Some(cut.head.first_position.saturating_sub(1)),
            _ => None,
        });
        let pending = (!self.pending.is_empty()).then(|| self.pending.first - 1);
        unsynced.or(pending).unwrap_or(self.pending.last).max(self.state.lock().position)
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
        if let Some(why) = self.out_of_order() {
            let now = self.state.lock().now;
            // Opening reads the newest segment, and a disk that fails gains nothing from being asked again at once.
            if now < self.reopening.at() {
                return Err(SpoolError::Broken(why));
            }
            self.reopening.next(now);
            self.reopen()?;
        }
        for at in 0..self.unsynced.len() {
            if self.unsynced[at].1.is_none() {
                self.keep_parts_together(at)?;
                self.unsynced[at].1 = Some(self.put(at)?);
            }
        }
        let log = self.log.as_mut().ok_or_else(closed)?;
        log.sync().map_err(|error| match error {
            SyncError::Full(_) => SpoolError::Full,
            SyncError::Poisoned(reason) => SpoolError::Broken(reason),
        })?;
        self.reopening = Again::default();
        // DURABILITY: only now may anything of it be seen by the uplink.
        let mut state = self.state.lock();
        for (mut act, placed) in self.unsynced.drain(..) {
            let placed = placed.unwrap_or(Placed { record: 0, size: 0 });
            if let Act::Cut(cut) = &mut act {
                traced::durable(self.tracer.as_deref(), std::mem::take(&mut cut.spans));
            }
            apply(&mut state, act, placed);
        }
        state.frozen = false;
        Ok(())
    }

    /// Parts of one cut lie in one segment where they fit: one of them alone can't be released then.
    fn keep_parts_together(&mut self, at: usize) -> Result<(), SpoolError> {
        let Act::Cut(Cut { head, .. }) = &self.unsynced[at].0 else { return Ok(()) };
        if head.part != 1 || head.parts == 1 {
            return Ok(());
        }
        let parts = self.unsynced[at..].iter().take(usize::try_from(head.parts).unwrap_or(usize::MAX));
        let bytes = |(act, _): &(Act, Option<Placed>)| match act {
            Act::Cut(cut) => cut.payload.len() + 8 * cut.head.series.len() + 1024,
            _ => 0,
        };
        let bytes: usize = parts.map(bytes).sum();
        let Some(log) = self.log.as_mut().filter(|log| log.starts_segment(bytes)) else { return Ok(()) };
        log.roll().map_err(unwritten)
    }

    /// Appends the record of an unfinished act.
    fn put(&mut self, at: usize) -> Result<Placed, SpoolError> {
        let mut out = Vec::new();
        let mut newly = Vec::new();
        let mut payload_bytes = 0;
        match &self.unsynced[at].0 {
            Act::Cut(Cut { head, payload, .. }) => {
                payload_bytes = payload.len();
                (out, newly) = self.batch(record::put_batch, head, payload);
            }
            Act::Move { head, payload, .. } => {
                payload_bytes = payload.len();
                (out, newly) = self.batch(record::put_moved, head, payload);
            }
            Act::Rename { epoch, moves } => {
                let state = self.state.lock();
                let record = |order| state.entry(order).map(|entry| entry.record);
                let moves: Vec<(u64, u64)> =
                    moves.iter().filter_map(|(order, seq)| Some((record(*order)?, *seq))).collect();
                let standing = state.standing();
                record::put_relabel(&mut out, *epoch, &moves, &standing);
            }
            Act::Lose { order, loss } => {
                let state = self.state.lock();
                let (t0, t1) = state.times_of(*order).unwrap_or((loss.t0, loss.t1));
                let standing = state.standing();
                record::put_loss(&mut out, &Loss { t0, t1, ..loss.clone() }, &standing);
            }
            Act::Echo(echo) => record::put_echo(&mut out, echo),
        }
        let log = self.log.as_mut().ok_or_else(closed)?;
        let begins = log.starts_segment(out.len());
        if begins {
            self.defined.clear();
        }
        let number = log.append(&out).map_err(unwritten)?;
        if begins {
            if matches!(&self.unsynced[at].0, Act::Cut(cut) if cut.head.part > 1) {
                self.continued.insert(number);
            }
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
        self.heads.push(number, &out, payload_bytes);
        newly.into_iter().for_each(|number| *self.defined.entry(number).or_default() += 1);
        self.next_record = number + 1;
        Ok(Placed { record: number, size: (out.len() + FRAME) as u32 })
    }

    /// A batch's record, and the series that it defines because its segment doesn't yet, or only once.
    fn batch(&self, put: PutBatch, head: &Head, payload: &[u8]) -> (Vec<u8>, Vec<u32>) {
        let missing = |number: &&u32| self.defined.get(*number).is_none_or(|times| *times < TIMES);
        let newly: Vec<u32> = head.series.iter().filter(missing).copied().collect();
        let out = self.defining(put, head, payload, &newly);
        if self.log.as_ref().is_some_and(|log| log.starts_segment(out.len())) {
            // A segment reads alone: in a new one everything used is defined again.
            return (self.defining(put, head, payload, &head.series), head.series.clone());
        }
        (out, newly)
    }

    fn defining(&self, put: PutBatch, head: &Head, payload: &[u8], define: &[u32]) -> Vec<u8> {
        let state = self.state.lock();
        let defs: Vec<_> = define
            .iter()
            .filter_map(|number| Some((*number, Arc::clone(state.names.get(number)?))))
            .collect();
        drop(state);
        let mut out = Vec::with_capacity(payload.len() + 512);
        // The cut was divided until they fit.
        let definitions = wire::definitions::encode(&defs).unwrap_or_default();
        put(&mut out, head, &definitions, payload);
        out
    }

    /// Why the log takes nothing until it is opened anew; `None` while it is as it should be.
    fn out_of_order(&self) -> Option<String> {
        match &self.log {
            Some(log) => log.poisoned().map(ToString::to_string),
            None => Some("its log could not be opened again after a failed write".into()),
        }
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

    /// The batch in its record; `None` when it isn't there as it was.
    pub(crate) fn read(&self, entry: &Entry) -> Result<Option<(Arc<Head>, Bytes)>, SpoolError> {
        let mut reader = self.readers.lock().reader(entry.record);
        read_at(&mut reader, entry).or_else(|error| {
            refused(&self.state, &self.readers, &error)?;
            Ok(None)
        })
    }

    /// Makes durable that these may be sent, before they are. Batches cut while a collector was connected need
    /// no mark; of others so many are marked at once that it costs little.
    pub(crate) fn mark(&mut self, order: Order) -> Result<(), SpoolError> {
        let (before, now, thins) = {
            let mut state = self.state.lock();
            let now = state.now;
            let thins = state
                .entry(order)
                .is_some_and(|entry| matches!(entry.group.class.overflow, Overflow::Thin(_)));
            let Some(epoch) = state.epochs.get_mut(&order.0) else { return Ok(()) };
            let before = epoch.offered;
            epoch.offered = before.max((order.1 + MARK_AHEAD).min(epoch.next_seq.saturating_sub(1)));
            (before, now, thins)
        };
        let saved = self.save_cursor(now);
        let mut state = self.state.lock();
        let upto = match state.epochs.get_mut(&order.0) {
            Some(epoch) if saved.is_err() && thins => {
                epoch.offered = before;
                before
            }
            Some(epoch) => epoch.offered,
            None => return Ok(()),
        };
        if let (Err(error), false) = (&saved, thins) {
            // Only what may be thinned must not be sent unmarked: for others it says who goes first.
            tracing::warn!(%error, "which batches were sent can't be written down yet");
        }
        if let Some(epoch) = state.epochs.get_mut(&order.0) {
            epoch.entries.range_mut(..=upto).for_each(|(_, entry)| entry.marked = true);
        }
        if thins { saved } else { Ok(()) }
    }
}

/// What a refused append means here.
pub(crate) fn unwritten(error: AppendError) -> SpoolError {
    match error {
        AppendError::Full(_) => SpoolError::Full,
        other => SpoolError::Broken(other.to_string()),
    }
}

pub(crate) fn closed() -> SpoolError {
    SpoolError::Broken("its log is closed".into())
}

pub(crate) fn loss_of(state: &State, order: Order, entry: &Entry) -> Option<Loss> {
    let key = state.key_of(order).filter(|_| entry.loss)?;
    Some(Loss { key, t0: entry.t0, t1: entry.t1, counts: entry.counts.counts() })
}

/// A sum of counts in which some are replaced by others.
pub(crate) fn exchanged(sum: &Counts, old: &Counts, new: &Counts) -> Counts {
    let mut with = sum.clone();
    with.merge(new);
    let mut result = Counts::new();
    for (cause, n) in with.iter() {
        result.add(cause, n.saturating_sub(old.get(cause)));
    }
    result
}
