//! What appenders, waiters, readers and the committing thread share, and the plan of segments.
//!
//! Whoever appends decides, under the one short lock, in which segment its record will lie: only
//! so can it put in the definitions that this segment lacks. The committing thread then does as
//! planned.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use seglog::{Readers, Storage};
use telemetry::{Position, Pulse, Record, SeriesDef, SeriesRef, SeriesTable};
use tokio::sync::watch;

use crate::config::{Holder, JournalConfig, Usage};
use crate::error::{AppendError, Fullness, Poisoned};
use crate::journal::{MAX_RECORD, MIN_SEGMENTS};
use crate::size;
use crate::tally::{self, Counter, Tally};

/// Most bytes that wait in memory for the disk.
pub(crate) const MAX_QUEUED: usize = 8 << 20;
/// An append of this is taken wherever one is: a reading or two.
const SMALL: u64 = 256;
/// What the log adds to a record and to a segment.
const FRAME: usize = 16;
const HEADER: u64 = 64;

/// One record that waits for the disk.
pub(crate) struct Queued {
    pub(crate) position: Position,
    /// Where its bytes end in the batch.
    pub(crate) end: usize,
    /// True when it begins a segment.
    pub(crate) begins: bool,
}

/// Records in the order of their positions.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: Vec<Queued>,
}

impl Batch {
    /// What was received up to its last record.
    pub(crate) fn last_tally(&self) -> Option<Tally> {
        let start = match self.records.as_slice() {
            [] => return None,
            [_] => 0,
            [.., before, _] => before.end,
        };
        Tally::split(&self.bytes[start..]).0
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        if self.bytes.capacity() > MAX_QUEUED / 2 {
            self.bytes = Vec::new();
        }
    }
}

pub(crate) struct State {
    pub(crate) queue: Batch,
    pub(crate) next: Position,
    pub(crate) plan: Plan,
    /// Readings received so far.
    pub(crate) counter: Counter,
    /// Bytes of the log, as of the last commit, and of the batch that is being committed.
    pub(crate) log_bytes: u64,
    pub(crate) in_flight: u64,
    /// Everything at or below it is durable, or is a number that no record has.
    pub(crate) mark: Position,
    /// Gone once nothing more becomes durable: that is how those who wait learn of it.
    pub(crate) sender: Option<watch::Sender<Position>>,
    pub(crate) readers: Readers,
    /// Counts reopenings: readers then begin anew with the log.
    pub(crate) opened: u64,
    /// A reader that waits is to look at something else.
    pub(crate) nudged: bool,
    /// Positions that were given out and then lost with a poisoned log.
    pub(crate) lost: Vec<(Position, Position)>,
    /// All its segments were gone when it was opened, and there had been some.
    pub(crate) bare: bool,
    /// Position of the fold's last checkpoint, and readings received up to there; 0 before the first.
    pub(crate) folded: (Position, u64),
    pub(crate) passed: [Position; 2],
    pub(crate) released: Position,
    /// Bytes free on the disk, as of the last look, where anyone looks.
    pub(crate) free: Option<u64>,
    /// Of the largest append that was refused and would be still, as far as is known.
    pub(crate) refused: u64,
    pub(crate) stalled: Option<String>,
    pub(crate) release_trouble: Option<String>,
    pub(crate) poison: Option<String>,
    pub(crate) closing: bool,
    pub(crate) appended: u64,
    pub(crate) syncs: u64,
    pub(crate) pushed_back: u64,
}

/// How often a segment defines a series: with the first two records that use it. So a damaged one takes no other's
/// definitions with it.
const TIMES: u8 = 2;

/// Which definitions the segment that is being filled has, and how full it is.
pub(crate) struct Plan {
    segment_bytes: u64,
    used: u64,
    /// Counts segments; how often a series is defined in this one its entry says.
    segment: u32,
    defined: Vec<(u32, u8)>,
    begin: bool,
}

type Defs = Vec<(SeriesRef, Arc<SeriesDef>)>;

impl Plan {
    pub(crate) fn new(segment_bytes: u64) -> Self {
        Self { segment_bytes, used: HEADER, segment: 1, defined: Vec::new(), begin: true }
    }

    /// The next record begins a segment.
    pub(crate) fn begin(&mut self) {
        self.begin = true;
    }

    /// The next record is the first of a commit. A segment that is nearly full ends here rather
    /// than within the commit, which would cost that commit one more fsync. While the journal may hold only
    /// little, `limit`, segments are smaller: there must be one to free.
    fn begin_commit(&mut self, limit: u64) {
        let size = self.segment_bytes.min(limit / MIN_SEGMENTS);
        self.begin |= self.used > size - size / 8;
    }

    /// The definitions a record needs: those this segment lacks, or all.
    fn lacking(&self, record: &Record, table: &SeriesTable, all: bool) -> Result<Defs, AppendError> {
        let lacks = |series: &&SeriesRef| {
            let defined = self.defined.get(series.index()).copied().unwrap_or_default();
            all || defined < (self.segment, TIMES)
        };
        let get = |series: &SeriesRef| {
            table.get(*series).map(|def| (*series, def)).ok_or(AppendError::UnknownSeries(series.0))
        };
        record.series().iter().filter(lacks).map(get).collect()
    }

    /// Bytes that records will take on disk, not less than they then do.
    fn need(&self, records: &[Record], table: &SeriesTable) -> Result<u64, AppendError> {
        let total = |all| {
            records.iter().try_fold(0, |sum, record| {
                let bytes = (tally::SIZE
                    + size::record(record)
                    + size::defs(&self.lacking(record, table, all)?)) as u64;
                if bytes > u64::from(MAX_RECORD) {
                    return Err(AppendError::TooLarge { len: bytes, max: u64::from(MAX_RECORD) });
                }
                Ok(sum + bytes + FRAME as u64)
            })
        };
        let in_this = total(false)?;
        if !self.begin && self.used + in_this <= self.segment_bytes {
            return Ok(in_this);
        }
        let in_new = total(true)?;
        Ok(in_new + HEADER * (1 + in_new / self.segment_bytes.max(1)))
    }

    /// Encodes a record behind those of its segment; true when it begins one. `need` has checked it.
    fn put(
        &mut self,
        tally: Tally,
        record: &Record,
        table: &SeriesTable,
        out: &mut Vec<u8>,
    ) -> Result<bool, AppendError> {
        let mut defs = self.lacking(record, table, false)?;
        let bytes = (FRAME + tally::SIZE + size::record(record) + size::defs(&defs)) as u64;
        let begins = self.begin || (self.used > HEADER && self.used + bytes > self.segment_bytes);
        if begins {
            defs = self.lacking(record, table, true)?;
            self.segment += 1;
            self.used = HEADER;
            self.begin = false;
        }
        let before = out.len();
        tally.put(out);
        record.encode(out, &defs);
        self.used += (FRAME + out.len() - before) as u64;
        for (series, _) in &defs {
            if self.defined.len() <= series.index() {
                self.defined.resize(series.index() + 1, (0, 0));
            }
            let defined = &mut self.defined[series.index()];
            let times = if defined.0 == self.segment { defined.1 } else { 0 };
            *defined = (self.segment, times + 1);
        }
        Ok(begins)
    }
}

impl State {
    fn full(&mut self, what: Fullness) -> AppendError {
        self.pushed_back += 1;
        let retry_after = Duration::from_millis(match what {
            Fullness::Behind => 50,
            Fullness::Cap => 250,
            Fullness::Floor => 1000,
            Fullness::Disk => 5000,
        });
        AppendError::Full { what, retry_after }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.log_bytes + self.in_flight + self.queue.bytes.len() as u64
    }

    /// What the journal may hold now: its cap, or what the disk has free beyond what others are to have, though never less
    /// than the reserve.
    pub(crate) fn limit(&self, caps: Caps) -> u64 {
        let Some(free) = self.free else { return caps.max_bytes };
        let beside = self.log_bytes.saturating_add(free.saturating_sub(caps.min_free));
        beside.max(caps.reserve).min(caps.max_bytes)
    }

    /// Why records of so many bytes have no room.
    fn refuses(&self, need: u64, caps: Caps) -> Option<Fullness> {
        let unwritten = self.in_flight + self.queue.bytes.len() as u64;
        // What can't be written is better refused than taken and kept waiting.
        if self.stalled.is_some() || self.free.is_some_and(|free| free < unwritten + need) {
            return Some(Fullness::Disk);
        }
        let limit = self.limit(caps);
        if limit == caps.max_bytes {
            return (self.bytes() + need > limit).then_some(Fullness::Cap);
        }
        // All that is needed may lie in a segment that is larger than the limit became: the next record ends it.
        let held = if self.releasable() + 1 >= self.next { 0 } else { self.bytes() };
        // One that is larger than the reserve must get through as well, if the disk can hold it.
        let alone = held <= limit / 2 && self.free.is_some_and(|free| need <= free / 2);
        (held + need > limit && !alone).then_some(Fullness::Floor)
    }

    /// Queues records, all or none.
    pub(crate) fn append(
        &mut self,
        records: &[Record],
        table: &SeriesTable,
        caps: Caps,
    ) -> Result<Position, AppendError> {
        if let Some(reason) = &self.poison {
            return Err(AppendError::Poisoned(reason.clone()));
        }
        if self.closing {
            return Err(AppendError::Closed);
        }
        if self.queue.records.is_empty() {
            let limit = self.limit(caps);
            self.plan.begin_commit(limit);
        }
        let need = self.plan.need(records, table)?;
        if need > caps.max_bytes {
            return Err(AppendError::TooLarge { len: need, max: caps.max_bytes });
        }
        if let Some(what) = self.refuses(need, caps) {
            self.refused = self.refused.max(need);
            return Err(self.full(what));
        }
        let queued = self.queue.bytes.len();
        if queued > 0 && queued as u64 + need > MAX_QUEUED as u64 {
            return Err(self.full(Fullness::Behind));
        }
        for record in records {
            let tally = self.counter.next(record);
            let begins = self.plan.put(tally, record, table, &mut self.queue.bytes)?;
            let end = self.queue.bytes.len();
            self.queue.records.push(Queued { position: self.next, end, begins });
            self.next += 1;
            self.appended += 1;
        }
        Ok(self.next - 1)
    }

    /// Moves the mark. Where nothing waits for the disk, it covers numbers that were skipped too:
    /// else whoever waits for the newest position would wait for a record that nobody appends.
    pub(crate) fn settle(&mut self, durable: Position) {
        let idle = self.queue.records.is_empty() && self.in_flight == 0;
        self.mark = if idle { self.next - 1 } else { durable };
        if let Some(sender) = &self.sender {
            sender.send_replace(self.mark);
        }
    }

    /// How many readings came up to the record at `position`, if no record is behind it nor on its way; within, `None`
    /// where damage or another version keeps that unknown.
    pub(crate) fn received_up_to(&self, position: Position) -> Option<Option<u64>> {
        let last = self.queue.records.is_empty() && self.in_flight == 0 && self.next == position + 1;
        last.then(|| self.counter.received())
    }

    /// Whether nothing was ever let go of: its first record is the first there was, or would be.
    pub(crate) fn is_whole(&self) -> bool {
        // Segments go only behind a checkpoint, and the mark knows of that before they do.
        self.readers.first() <= 1 || self.bare && self.folded.0 == 0
    }

    /// Up to where every holder has passed, as far as it is durable.
    pub(crate) fn releasable(&self) -> Position {
        self.passed.iter().copied().min().unwrap_or(0).min(self.mark)
    }

    pub(crate) fn pass(&mut self, holder: Holder, upto: Position) {
        let passed = &mut self.passed[match holder {
            Holder::Fold => 0,
            Holder::Sessions => 1,
        }];
        *passed = upto.max(*passed);
    }

    /// `Some` when it is known whether a position is durable or never will be.
    pub(crate) fn settled(&self, position: Position) -> Option<Result<(), Poisoned>> {
        if self.lost.iter().any(|(first, last)| (*first..=*last).contains(&position)) {
            return Some(Err(Poisoned("it was written, but its fsync failed".into())));
        }
        if position <= self.mark {
            return Some(Ok(()));
        }
        self.sender.is_none().then(|| Err(self.reason()))
    }

    /// It was closed, and all that could be committed is.
    pub(crate) fn ended(&self) -> bool {
        self.closing && self.sender.is_none()
    }

    pub(crate) fn reason(&self) -> Poisoned {
        Poisoned(self.poison.clone().unwrap_or_else(|| "the journal was closed".into()))
    }

    pub(crate) fn usage(&mut self, caps: Caps) -> Usage {
        let refusing = self.refuses(self.refused.max(SMALL), caps);
        if refusing.is_none() {
            self.refused = 0;
        }
        Usage {
            bytes: self.bytes(),
            max_bytes: caps.max_bytes,
            limit_bytes: self.limit(caps),
            free_bytes: self.free,
            refusing,
            records: self.next.saturating_sub(self.readers.first()),
            appended: self.appended,
            syncs: self.syncs,
            pushed_back: self.pushed_back,
            disk_full: self.stalled.is_some(),
            poisoned: self.poison.clone(),
        }
    }
}

/// How much the journal may hold.
#[derive(Clone, Copy)]
pub(crate) struct Caps {
    pub(crate) max_bytes: u64,
    /// What others on the disk are to have.
    min_free: u64,
    /// What it may hold even so.
    reserve: u64,
}

impl Caps {
    pub(crate) fn new(config: &JournalConfig) -> Self {
        let JournalConfig { max_bytes, min_free_bytes: min_free, floor_reserve_bytes, .. } = *config;
        // With the spool's at most half of what others are to have, however little that is.
        Self { max_bytes, min_free, reserve: floor_reserve_bytes.min(min_free / 4) }
    }
}

/// The state with those who wait for a change of it.
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    /// Work for the committing thread.
    pub(crate) work: Condvar,
    /// The mark moved, or never will again.
    pub(crate) marked: Condvar,
    pub(crate) table: Arc<SeriesTable>,
    pub(crate) caps: Caps,
    disk: Arc<dyn Storage>,
    dir: PathBuf,
    /// An append had no room under the cap, or above the floor.
    pub(crate) short: AtomicBool,
    /// Of the committing thread, and of whoever opens a poisoned journal anew.
    pub(crate) pulse: Pulse,
}

impl Shared {
    pub(crate) fn new(
        state: State,
        config: &JournalConfig,
        disk: Arc<dyn Storage>,
        table: Arc<SeriesTable>,
    ) -> Self {
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            marked: Condvar::new(),
            table,
            caps: Caps::new(config),
            disk,
            dir: config.dir.clone(),
            short: AtomicBool::new(false),
            pulse: Pulse::default(),
        }
    }

    /// Bytes free on the disk; `None` where it doesn't matter, or the disk can't say: then the disk itself refuses.
    pub(crate) fn free(&self) -> Option<u64> {
        (self.caps.min_free > 0).then(|| self.disk.free_bytes(&self.dir).ok()).flatten()
    }

    /// Nothing more becomes durable: drops what is queued and tells all who wait.
    pub(crate) fn poison(&self, reason: &str) {
        let mut state = self.state.lock();
        if state.poison.is_none() {
            state.poison = Some(reason.to_owned());
        }
        self.end(&mut state);
    }

    /// Ends the watch: whoever still waits learns that it is in vain.
    pub(crate) fn end(&self, state: &mut State) {
        state.queue.clear();
        state.in_flight = 0;
        state.stalled = None;
        state.sender = None;
        self.marked.notify_all();
    }
}
