//! Looking at a spool without opening it: nothing is locked, written or repaired, so that commands can look at the spool
//! of a running agent and at a copied folder. What was there when [`Inspection::open`] listed it is seen; what the agent
//! frees meanwhile is passed over.
//!
//! [`Inspection::walk`] gives every record with its payload, and all damage; [`Inspection::summary`] reads the segments'
//! heads where those are kept, a small part of the bytes. A batch's name and fate stand further on in the log than the
//! batch (a rename, a loss, an ack in the cursor): the summary knows them, so it comes first.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seglog::{Cell, Damage, Gap, Met, Readers, Storage, Unreadable};
use telemetry::{BatchKey, Counts, Epoch, Lane, Position, SeriesDef, SeriesTable};
use wire::{Checksum, RangeSet};

use crate::Extent;
use crate::clocks::Clocks;
use crate::cursor::Cursor;
use crate::group::Group;
use crate::heads::{self, Kept};
use crate::record::{Head, Record};
use crate::replay::Replay;
use crate::state::LIVE;
use crate::writer::loss_of;

/// Why a folder can't be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It isn't a spool.
    #[error("{0} is no spool: it has no folder `log`; name the folder `spool` of an agent's data_dir")]
    NotASpool(PathBuf),
    /// It can't be listed.
    #[error(transparent)]
    List(#[from] seglog::OpenError),
    /// A segment can't be opened.
    #[error(transparent)]
    Read(#[from] seglog::ReadError),
}

/// How the cursor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CursorState {
    /// It says what is acknowledged.
    Fine,
    /// There is none yet.
    Missing,
    /// It can't be used, and why: what was acknowledged lately isn't known here.
    Unusable(String),
}

/// A batch, as its record says.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchRecord<'a> {
    /// The record's number in the log.
    pub record: u64,
    /// The first number of its segment.
    pub segment: u64,
    /// The name it was cut under; [`Summary::name`] knows the present one.
    pub key: BatchKey,
    /// Which part of its cut, from 1.
    pub part: u64,
    /// How many parts the cut has.
    pub parts: u64,
    /// The journal positions it was made from.
    pub positions: (Position, Position),
    /// Its class, and the boot that its times are of where the clock wasn't set.
    pub group: Group,
    /// Earliest and latest event time: nanoseconds since the epoch, or since the boot of its group.
    /// [`Summary::times`] knows the real ones.
    pub times: (i64, i64),
    /// A collector was connected when it was cut.
    connected: bool,
    /// Rows in it.
    pub rows: u64,
    /// Readings by cause.
    pub counts: Counts,
    /// Of payload and series.
    pub checksum: Checksum,
    /// Series numbers in it.
    pub series: Vec<u32>,
    /// Bytes of the payload.
    pub bytes: u64,
    /// Definitions that stand with it (`wire::definitions`).
    pub definitions: &'a [u8],
    /// The payload; empty where only heads are read.
    pub payload: &'a [u8],
}

impl<'a> BatchRecord<'a> {
    fn new(at: (u64, u64), head: Head, bytes: u64, definitions: &'a [u8], payload: &'a [u8]) -> Self {
        Self {
            record: at.0,
            segment: at.1,
            key: head.key,
            part: head.part,
            parts: head.parts,
            positions: (head.first_position, head.last_position),
            group: head.group,
            times: (head.t0, head.t1),
            connected: head.offered,
            rows: head.rows,
            counts: head.counts,
            checksum: head.checksum,
            series: head.series,
            bytes,
            definitions,
            payload,
        }
    }
}

/// What opening a spool would come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Opening {
    /// Batches that are gone, which the collector will be told.
    pub losses: Vec<LossRecord>,
    /// How far it has come.
    pub extent: Extent,
}

/// A loss that stands for a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct LossRecord {
    /// The name of the batch that was dropped.
    pub key: BatchKey,
    /// What it spanned.
    pub times: (i64, i64),
    /// What was in it, with what became of it.
    pub counts: Counts,
}

/// What is met on the way through the log, in order.
#[derive(Debug)]
pub enum Found<'a> {
    /// A segment begins: its file, and its bytes.
    Segment(&'a Path, u64),
    /// A batch.
    Batch(BatchRecord<'a>),
    /// A loss.
    Loss(LossRecord),
    /// Batches got other names, or something is said once more: nothing that counts by itself.
    Relabel,
    /// A record that is intact and can't be understood, and why.
    Unknown(u64, String),
    /// Records that are damaged.
    Damaged(Gap),
}

/// What became of a batch, as far as the disk knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Waits for an acknowledgement.
    Waiting,
    /// Waits until it is known when the boot of its times was: it isn't sent before.
    Held,
    /// The collector has it; its segment isn't freed yet.
    Acked,
    /// A loss stands for it.
    Lost,
    /// The rest of its cut is missing, so that it was never offered: the journal has its rows.
    Unfinished,
}

/// What to add to times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockOffset {
    /// Nanoseconds.
    pub ns: i64,
    /// The boot ended before anybody knew the time: it is placed before the next one.
    pub is_guess: bool,
}

/// What must be known before a batch's name and fate are.
#[derive(Debug, Default)]
pub struct Summary {
    moves: HashMap<u64, BatchKey>,
    lost: HashSet<BatchKey>,
    done: HashMap<Epoch, RangeSet>,
    /// Seqs up to here may have been sent.
    offered: HashMap<Epoch, u64>,
    /// Without a cursor nobody knows what was sent.
    blind: bool,
    clocks: Clocks,
    unfinished: HashSet<u64>,
    /// What series numbers mean.
    pub series: HashMap<u32, Arc<SeriesDef>>,
}

impl Summary {
    /// The present name of a batch.
    pub fn name(&self, batch: &BatchRecord<'_>) -> BatchKey {
        self.moves.get(&batch.record).copied().unwrap_or(batch.key)
    }

    /// What became of it.
    pub fn fate(&self, batch: &BatchRecord<'_>) -> Fate {
        let name = self.name(batch);
        if self.unfinished.contains(&batch.record) {
            Fate::Unfinished
        } else if self.acked(name) {
            Fate::Acked
        } else if self.lost.contains(&name) {
            Fate::Lost
        } else if batch.group.clock.is_some() && self.offset(batch).is_none() {
            Fate::Held
        } else {
            Fate::Waiting
        }
    }

    /// What to add to a batch's times, and whether that is a guess; `None` while nobody knows.
    pub fn offset(&self, batch: &BatchRecord<'_>) -> Option<ClockOffset> {
        let Some(boot) = batch.group.clock else { return Some(ClockOffset::default()) };
        let known = self.clocks.offset(boot)?;
        Some(ClockOffset { ns: known.ns, is_guess: known.is_uncertain() })
    }

    /// Earliest and latest event time, nanoseconds since the epoch; `None` where that isn't known, or there is none.
    pub fn times(&self, batch: &BatchRecord<'_>) -> Option<(i64, i64)> {
        let offset = self.offset(batch)?.ns;
        let (from, to) = batch.times;
        (batch.times != (0, 0)).then(|| (from.saturating_add(offset), to.saturating_add(offset)))
    }

    /// Whether the collector may have been sent it: until it is acknowledged, it may be stored or not.
    pub fn offered(&self, batch: &BatchRecord<'_>) -> bool {
        let name = self.name(batch);
        let marked = self.offered.get(&name.epoch).is_some_and(|offered| name.seq <= *offered);
        self.fate(batch) != Fate::Held && (batch.connected || marked || self.blind)
    }

    /// The lane it goes by at a wall time.
    pub fn lane(&self, batch: &BatchRecord<'_>, now: i64) -> Lane {
        let fresh = |times: (i64, i64)| now.abs_diff(times.1) < LIVE.as_nanos() as u64;
        if self.times(batch).is_some_and(fresh) { Lane::Live } else { Lane::Backlog }
    }

    /// Whether the cursor says that a name needs no further care.
    pub fn acked(&self, name: BatchKey) -> bool {
        self.done.get(&name.epoch).is_some_and(|done| done.contains(name.seq))
    }

    fn define(&mut self, definitions: &[u8]) {
        for (number, def) in wire::definitions::decode(definitions).unwrap_or_default() {
            self.series.entry(number).or_insert_with(|| Arc::new(def));
        }
    }
}

/// A spool that is looked at.
pub struct Inspection {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    readers: Readers,
    cursor: Option<Cursor>,
    state: CursorState,
}

impl Inspection {
    /// Lists what is in a spool's folder.
    ///
    /// # Errors
    /// [`InspectError`] when it is none, or can't be listed.
    pub fn open(storage: Arc<dyn Storage>, dir: &Path) -> Result<Self, InspectError> {
        let log = dir.join("log");
        if storage.list(&log).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            return Err(InspectError::NotASpool(dir.to_owned()));
        }
        let (cursor, state) = match Cell::peek(&*storage, &dir.join("cursor")) {
            Ok((Some(bytes), _)) => match Cursor::decode(&bytes) {
                Ok(cursor) => (Some(cursor), CursorState::Fine),
                Err(error) => (None, CursorState::Unusable(error.to_string())),
            },
            Ok((None, false)) => (None, CursorState::Missing),
            Ok((None, true)) => (None, CursorState::Unusable("its bytes are damaged".into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (None, CursorState::Missing),
            Err(error) => (None, CursorState::Unusable(error.to_string())),
        };
        // Listed after the cursor was read: what the cursor calls done may then be gone, never the reverse.
        let readers = seglog::inspect(Arc::clone(&storage), &log)?;
        Ok(Self { storage, dir: dir.to_owned(), readers, cursor, state })
    }

    /// How the cursor is.
    pub fn cursor(&self) -> &CursorState {
        &self.state
    }

    /// Of the last record of the journal that is in a batch, by the cursor; `None` without one.
    pub fn position(&self) -> Option<Position> {
        self.cursor.as_ref().map(|cursor| cursor.position)
    }

    /// Whether all segments are gone, by the cursor: the newest of a spool always stays.
    pub fn is_bare(&self) -> bool {
        self.size().0 == 0 && self.cursor.as_ref().is_some_and(|cursor| cursor.next_record > 1)
    }

    /// Each numbering that the cursor knows, oldest first: its id, and what is acknowledged of it.
    pub fn epochs(&self) -> impl Iterator<Item = (Epoch, &RangeSet)> {
        self.cursor.iter().flat_map(|cursor| &cursor.epochs).map(|epoch| (epoch.id, &epoch.done))
    }

    /// Segments, and their bytes.
    pub fn size(&self) -> (usize, u64) {
        self.readers.size()
    }

    /// The damaged places that [`Inspection::walk`] has met.
    pub fn damage(&self) -> Vec<Damage> {
        self.readers.damage()
    }

    /// The segments that the disk doesn't give, or in whose place something else stands. What they held shows in
    /// [`Inspection::losses`]; opening the spool moves them to quarantine.
    pub fn unreadable(&self) -> &[Unreadable] {
        self.readers.unreadable()
    }

    /// Bytes behind the last record of a segment that isn't the last, of those that [`Inspection::walk`] has read: no record is
    /// missing there.
    pub fn tails(&self) -> Vec<Damage> {
        self.readers.tails()
    }

    /// Copies a damaged place to quarantine; `None` where a copy is there already, or can't be made.
    pub fn quarantine(&self, damage: &Damage) -> Option<PathBuf> {
        self.readers.quarantine(damage)
    }

    /// Whether [`Inspection::quarantine`] would make a copy now: false once it has.
    pub fn is_to_be_copied(&self, damage: &Damage) -> bool {
        self.readers.is_to_be_copied(damage)
    }

    /// Files in the quarantines: of damaged places, and of batches that the collector refused.
    pub fn quarantined(&self) -> usize {
        let count = |dir: PathBuf| self.storage.list(&dir).map_or(0, |names| names.len());
        count(self.dir.join("log/quarantine")) + count(self.dir.join("quarantine")) / 2
    }

    /// Names, fates and series, from the heads where they are kept.
    ///
    /// # Errors
    /// [`InspectError::Read`].
    pub fn summary(&self) -> Result<Summary, InspectError> {
        let mut summary = Summary::default();
        for epoch in self.cursor.iter().flat_map(|cursor| &cursor.epochs) {
            summary.done.insert(epoch.id, epoch.done.clone());
            summary.offered.insert(epoch.id, epoch.offered);
        }
        summary.blind = self.cursor.is_none();
        // Without the file, or when it is damaged, the next start doesn't know better.
        let clocks = Cell::peek(&*self.storage, &self.dir.join("clocks")).ok().and_then(|(value, _)| value);
        summary.clocks = clocks.and_then(|bytes| Clocks::decode(&bytes).ok()).unwrap_or_default();
        // Parts of a cut whose last one hasn't come: without it none counts.
        let mut parts: Vec<u64> = Vec::new();
        let mut lost: Vec<BatchKey> = Vec::new();
        let mut moves: Vec<(u64, BatchKey)> = Vec::new();
        let mut visit = |at: (u64, u64), record: Record<'_>| match record {
            Record::Batch { head, definitions, .. } => {
                summary.define(definitions);
                if head.part == 1 {
                    summary.unfinished.extend(parts.drain(..));
                }
                parts.push(at.0);
                if head.part == head.parts {
                    parts.clear();
                }
                lost.extend(head.replaces.iter().map(|loss| loss.key));
            }
            Record::Moved { definitions, .. } => summary.define(definitions),
            Record::Relabel { epoch, moves: new, .. } => {
                summary.unfinished.extend(parts.drain(..));
                moves.extend(new.into_iter().map(|(record, seq)| (record, BatchKey { epoch, seq })));
            }
            Record::Loss(loss, _) => {
                summary.unfinished.extend(parts.drain(..));
                lost.push(loss.key);
            }
            Record::Echo(_) => {}
        };
        let segments = self.readers.segments();
        for (at, segment) in segments.iter().enumerate() {
            let until = segments.get(at + 1).map_or(u64::MAX, |next| next.1);
            if let Some(kept) = self.heads(segment) {
                for (number, _, bytes) in kept.records() {
                    if let Ok(decoded) = Record::decode(bytes) {
                        visit((number, segment.1), decoded);
                    }
                }
                continue;
            }
            let mut reader = self.readers.reader(segment.1);
            while let Some(entry) = reader.next()? {
                if entry.number >= until {
                    break;
                }
                if let Ok(decoded) = Record::decode(entry.payload) {
                    visit((entry.number, segment.1), decoded);
                }
            }
        }
        summary.unfinished.extend(parts);
        summary.moves.extend(moves);
        summary.lost.extend(lost);
        Ok(summary)
    }

    /// What opening would find of losses, which it then tells the collector. `whole` as in [`Inspection::opening`].
    pub fn losses(&self, whole: bool) -> Vec<LossRecord> {
        self.opening(whole).losses
    }

    /// What opening would come to: the holes in the numbering that damage left, and how far the spool has come. `whole` reads every segment even where its heads are kept: damage behind those shows to opening only once a batch
    /// is sent.
    pub fn opening(&self, whole: bool) -> Opening {
        let table = SeriesTable::new(usize::MAX);
        let mut replay = Replay::new(self.cursor.as_ref(), &table);
        let segments = self.readers.segments();
        for (at, segment) in segments.iter().enumerate() {
            let until = segments.get(at + 1).map_or(u64::MAX, |next| next.1);
            let kept = if whole { None } else { self.heads(segment) };
            match kept {
                Some(kept) => kept.records().for_each(|record| replay.head(record)),
                None => drop(replay.segment(&self.readers, segment.1, until)),
            }
        }
        let fitting = segments.iter().filter(|segment| self.heads(segment).is_some());
        let known = fitting.filter_map(|segment| segment.0.file_name()).collect();
        heads::strays(&*self.storage, &self.dir.join("heads"), &known, |kept| replay.remember(&kept));
        let (state, ..) = replay.finish(self.cursor.as_ref());
        let fresh = state.entries().filter(|(_, entry)| entry.record == 0);
        let losses = fresh
            .filter_map(|(order, entry)| loss_of(&state, order, entry))
            .map(|loss| LossRecord { key: loss.key, times: (loss.t0, loss.t1), counts: loss.counts })
            .collect();
        Opening { losses, extent: state.extent() }
    }

    /// Every record without its payload, from the heads where they are kept.
    ///
    /// # Errors
    /// [`InspectError::Read`].
    pub fn list(&self, visit: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>) -> Result<(), InspectError> {
        let segments = self.readers.segments();
        for (at, segment) in segments.iter().enumerate() {
            if visit(Found::Segment(&segment.0, segment.2)).is_break() {
                return Ok(());
            }
            let until = segments.get(at + 1).map_or(u64::MAX, |next| next.1);
            let ended = match self.heads(segment) {
                Some(kept) => kept.records().any(|(number, payload, bytes)| {
                    visit(found((number, segment.1), bytes, Some(payload))).is_break()
                }),
                None => self.read(segment.1, until, visit)?.is_break(),
            };
            if ended {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Every record, every byte, all damage. Returns the bytes at the end that are no record: being written, or the
    /// last of a writer that died.
    ///
    /// # Errors
    /// [`InspectError::Read`].
    pub fn walk(&self, visit: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>) -> Result<u64, InspectError> {
        let torn = self.readers.walk(&mut |met| {
            let (gaps, entry) = match met {
                Met::Segment(path, bytes) => return visit(Found::Segment(path, bytes)),
                Met::Record { gaps, entry } => (gaps, entry),
            };
            for gap in gaps {
                // A segment that the agent has freed, or emptied earlier, is gone, not damaged. One that is missing
                // for another reason shows in the numbering: see `losses`.
                if gap.bytes > 0 && !self.readers.freed(gap.first) {
                    visit(Found::Damaged(gap))?;
                }
            }
            match entry {
                Some(entry) => visit(found((entry.number, entry.segment_first), entry.payload, None)),
                None => ControlFlow::Continue(()),
            }
        })?;
        Ok(torn)
    }

    fn heads(&self, segment: &(PathBuf, u64, u64)) -> Option<Kept> {
        heads::look(&*self.storage, &self.dir.join("heads"), segment)
    }

    fn read(
        &self,
        first: u64,
        until: u64,
        visit: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, InspectError> {
        let mut reader = self.readers.reader(first);
        while let Some(entry) = reader.next()?.filter(|entry| entry.number < until) {
            if visit(found((entry.number, first), entry.payload, None)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// A record's bytes, with the length of the payload where that was left out.
fn found(at: (u64, u64), bytes: &[u8], without: Option<u64>) -> Found<'_> {
    match Record::decode(bytes) {
        Ok(Record::Batch { head, definitions, payload } | Record::Moved { head, definitions, payload }) => {
            let bytes = without.unwrap_or(payload.len() as u64);
            Found::Batch(BatchRecord::new(at, head, bytes, definitions, payload))
        }
        Ok(Record::Loss(loss, _)) => {
            Found::Loss(LossRecord { key: loss.key, times: (loss.t0, loss.t1), counts: loss.counts })
        }
        Ok(Record::Relabel { .. } | Record::Echo(_)) => Found::Relabel,
        Err(error) => Found::Unknown(at.0, error.to_string()),
    }
}
