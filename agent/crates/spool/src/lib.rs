//! The spool: cuts rows into batches and keeps what the collector hasn't acknowledged.
//!
//! Floor 2, between the fold (one thread, which appends rows and cuts) and the uplink (async tasks,
//! which send batches and bring acks). What it promises, whatever fails in between:
//!
//! - A batch is seen by the uplink only after its fsync. What was ever offered under a name never changes.
//! - Seqs of an epoch have no gaps: each is a batch or a loss that says what was in it.
//! - Rows are cut between records, and [`Spool::position`] names the last record that is in a batch:
//!   a replay passes over what is there already, so no row is in two batches.
//! - Only the collector's word removes a batch: an ack, a greeting that names it, or a stored loss.
//! - A full disk or a failed fsync loses nothing: rows stay with the caller, acks go on freeing space.
//!
//! On disk: `log/` (seglog; `record.rs` draws what is in it), `cursor` (a cell; `cursor.rs`), `heads/`
//! (a copy that makes opening fast; `heads.rs`), `clocks` (where it was needed; `clocks.rs`), `reserve/` (room for when the
//! disk is full; `reserve.rs`), and `quarantine/` with batches that the collector refused for good. Order of writes: records, their
//! fsync, then the state that the uplink sees; the cursor, then the unlink of a segment.
//!
//! Lock order: writer, then place, then state or readers; none of the last two is held across disk access
//! but for the reading of one batch.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use seglog::{Readers, Storage};
use telemetry::{
    BatchKey, Boot, Counts, Epoch, Lane, OpenWindows, Position, Rows, SeriesTable, Stamp, Tracer,
};
use tokio::sync::Notify;
use wire::v1;

mod act;
mod age;
mod class;
mod clocks;
mod config;
mod cursor;
mod cut;
mod damage;
mod entry;
mod error;
mod floor;
mod freeing;
mod gone;
mod group;
mod heads;
mod held;
pub mod inspect;
mod losses;
mod numbering;
mod proof;
mod record;
mod recover;
mod recut;
mod replay;
mod reserve;
mod room;
mod send;
mod state;
mod taken_back;
mod tally;
mod thin;
mod traced;
mod usage;
mod writer;

pub use class::{Class, ClassRule, MAX_CLASS_RULES, Overflow, Priority};
pub use config::SpoolConfig;
pub use damage::{Damage, Part, Readings};
pub use error::{OpenError, SpoolError};
pub use group::Group;
pub use losses::Lost;
pub use reserve::{Parts, Reserve};
use state::State;
pub use usage::{ClockHeld, Extent, Room, Share, Unacked, Usage, Withheld};
use writer::Writer;

/// What was merely counted (a reading that went into a window) is shipped at this age, with the next rows or alone.
const COUNTS_LINGER: Duration = Duration::from_secs(1);

/// What was found at opening.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Batches that wait to be acknowledged.
    pub batches: u64,
    /// Their readings.
    pub rows: u64,
    /// Batches that were damaged on disk and are reported as lost.
    pub damaged: u64,
    /// Bytes of a write that a crash cut short; nothing that was offered.
    pub torn_bytes: u64,
    /// Segments that the disk didn't give, where they were moved to.
    pub set_aside: Vec<std::path::PathBuf>,
    /// The cursor was damaged or gone: what was acknowledged lately is asked for again.
    pub cursor_lost: bool,
    /// True when a new epoch was begun.
    pub new_epoch: bool,
    /// A file that is there and can't be read just now: what it holds is not counted here, and nothing is done until it can be.
    pub withheld: Option<String>,
}

/// What the agent says in its `Hello`.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The epoch batches are cut in now.
    pub epoch: Epoch,
    /// The next seq there.
    pub next_seq: u64,
    /// What isn't acknowledged, oldest first, at most 10,000.
    pub unacked: Vec<v1::Held>,
}

/// How far the rows are that batches have, and what was counted up to there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spooled {
    /// As [`Spool::position`].
    pub position: Position,
    /// As [`Spool::counted`].
    pub counted: Counts,
    /// Of windows that were open then; `None` where that isn't known, or nothing was reduced to windows.
    pub open: Option<OpenWindows>,
}

/// What a greeting settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Greeted {
    /// Batches the collector has: done.
    pub confirmed: usize,
    /// Batches that are to be sent under a new name.
    pub relabelled: usize,
    /// The epoch begun, if one was.
    pub new_epoch: Option<Epoch>,
}

/// Which lanes have a batch to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// One of this session that was cut, or happened, within ten seconds.
    pub live: bool,
    /// An older one, or one of before this session.
    pub backlog: bool,
    /// The next of those is no older than what goes as live: hours that keep a backlog don't keep it.
    pub young: bool,
}

/// The spool; a cheap handle.
#[derive(Clone)]
pub struct Spool(Arc<Inner>);

struct Inner {
    writer: Mutex<Writer>,
    state: Arc<Mutex<State>>,
    readers: Arc<Mutex<Readers>>,
    place: Arc<Mutex<send::Place>>,
    changed: Notify,
    /// Called when an ack makes rows due that wait for it.
    due_now: OnceLock<Box<dyn Fn() + Send + Sync>>,
    tracer: OnceLock<Arc<Tracer>>,
    config: SpoolConfig,
}

impl Spool {
    /// Opens or creates it. Damage is reported in [`Recovery`], never a reason to refuse.
    ///
    /// # Errors
    /// [`OpenError`] when the folder can't be made, listed or locked.
    pub fn open(
        config: SpoolConfig,
        storage: Arc<dyn Storage>,
        table: Arc<SeriesTable>,
        agent: &str,
    ) -> Result<(Self, Recovery), OpenError> {
        let reserve = config.reserve.map(|parts| {
            Reserve::open(Arc::clone(&storage), &config.dir.join("reserve"), parts, config.min_free_bytes)
        });
        let storage = reserve.as_ref().map_or(storage, Reserve::storage);
        let (mut writer, recovery) = recover::open(config.clone(), storage, table)?;
        writer.reserve = reserve;
        if recovery.damaged > 0 {
            tracing::error!(
                agent,
                batches = recovery.damaged,
                "batches in the spool are damaged and are reported as lost"
            );
        }
        if let Some(why) = &recovery.withheld {
            tracing::error!(agent, %why, "a file of the spool can't be read just now: nothing of it is lost, what comes waits in the journal, and it is tried again");
        }
        let (state, readers, place) =
            (Arc::clone(&writer.state), Arc::clone(&writer.readers), Arc::clone(&writer.place));
        let writer = Mutex::new(writer);
        Ok((
            Self(Arc::new(Inner {
                writer,
                state,
                readers,
                place,
                changed: Notify::new(),
                due_now: OnceLock::new(),
                tracer: OnceLock::new(),
                config,
            })),
            recovery,
        ))
    }

    /// The disk, with the room behind it that is kept for when it has none, for others than batches: whatever must be written
    /// down so that the journal comes free, and with it, at last, a full disk.
    pub fn storage(&self) -> Arc<dyn Storage> {
        let writer = self.0.writer.lock();
        writer.reserve.as_ref().map_or_else(|| Arc::clone(&writer.storage), Reserve::sparing)
    }

    /// That room; `None` where none is kept.
    pub fn reserve(&self) -> Option<Reserve> {
        self.0.writer.lock().reserve.clone()
    }

    /// Spans of sampled records go there, those of its users too. Set once, before the first row; without it the traces of records are
    /// handed on, and no more.
    pub fn trace_with(&self, tracer: Arc<Tracer>) {
        self.0.writer.lock().tracer = Some(Arc::clone(&tracer));
        _ = self.0.tracer.set(tracer);
    }

    /// Where spans go, if anywhere.
    pub fn tracer(&self) -> Option<&Tracer> {
        self.0.tracer.get().map(|tracer| &**tracer)
    }

    // --- the fold's side: one thread, blocking

    /// Position of the last row that is in a durable batch: rows at or below it are passed over by `append`.
    pub fn position(&self) -> Position {
        self.0.state.lock().position
    }

    /// What was counted up to [`Spool::position`], since there is a spool.
    pub fn counted(&self) -> Counts {
        self.0.state.lock().before.clone()
    }

    /// The same as [`Spool::position`] and [`Spool::counted`], and more, once it is proven that it is durable.
    ///
    /// # Errors
    /// [`SpoolError`]: call again.
    pub fn spooled(&self) -> Result<Spooled, SpoolError> {
        self.0.writer.lock().prove()?;
        let state = self.0.state.lock();
        Ok(Spooled { position: state.position, counted: state.before.clone(), open: state.open })
    }

    /// Notes damage, at once and for good; false where it was noted already. Rows that tell of it may follow.
    pub fn note_damage(&self, damage: Damage) -> bool {
        let mut writer = self.0.writer.lock();
        let now = {
            let mut state = self.0.state.lock();
            if !state.damage.note(damage) {
                return false;
            }
            state.dirty = true;
            state.now
        };
        // Before a checkpoint passes by it, it is written in any case.
        if writer.proven()
            && let Err(error) = writer.save_cursor(now)
        {
            tracing::warn!(%error, "what is damaged can't be written down yet");
        }
        true
    }

    /// What time it is, for whoever can't go on: a spool that couldn't be opened whole is opened anew by that.
    pub fn time(&self, now_mono: Duration) {
        self.0.state.lock().now = now_mono;
    }

    /// Takes the rows of one record, all or none. `recovering` says that they are a replay: then
    /// they are cut by size alone, so that clones of one disk cut equal batches.
    ///
    /// # Errors
    /// [`SpoolError`]: not taken. Call again with the same until it works.
    pub fn append(&self, position: Position, rows: &Rows, recovering: bool) -> Result<(), SpoolError> {
        let mut writer = self.0.writer.lock();
        let result = writer.prove().and_then(|_| writer.append(position, rows, recovering));
        self.tell(writer);
        result
    }

    /// Cuts when the last batch was acked or the linger is over; finishes what a full disk interrupted, frees
    /// what was acked, drops what is over a cap. Call it after each `append` and when [`Spool::due`] says.
    ///
    /// # Errors
    /// [`SpoolError`]: nothing was lost; call again.
    pub fn cut_if_due(&self, now_mono: Duration) -> Result<Option<BatchKey>, SpoolError> {
        let mut writer = self.0.writer.lock();
        self.time(now_mono);
        writer.prove()?;
        let due = {
            let state = self.0.state.lock();
            let since = *writer.pending.since.get_or_insert(now_mono);
            self.cut_at(&writer, &state, since).is_none_or(|at| at <= now_mono)
        };
        let pending = !writer.pending.is_empty();
        if !pending {
            writer.pending.since = None;
        }
        let result =
            writer.maintain(now_mono).and_then(|()| if due && pending { writer.cut() } else { Ok(None) });
        self.tell(writer);
        result
    }

    /// Calls this, on the uplink's side, when an ack makes rows due that were waiting for it: whoever cuts may be asleep
    /// until their linger is over. Set once, by whoever cuts; it must return at once.
    pub fn when_due(&self, wake: impl Fn() + Send + Sync + 'static) {
        _ = self.0.due_now.set(Box::new(wake));
    }

    /// How long until [`Spool::cut_if_due`] has a batch to cut; `None` = nothing is pending.
    pub fn due(&self, now_mono: Duration) -> Option<Duration> {
        let writer = self.0.writer.lock();
        if writer.pending.is_empty() {
            return None;
        }
        let state = self.0.state.lock();
        let since = writer.pending.since.unwrap_or(now_mono);
        let at = self.cut_at(&writer, &state, since);
        Some(at.map_or(Duration::ZERO, |at| at.saturating_sub(now_mono)))
    }

    /// When what is pending since `since` is to be cut; `None` = at once.
    fn cut_at(&self, writer: &Writer, state: &State, since: Duration) -> Option<Duration> {
        let config = &self.0.config;
        // Offline nobody waits for a batch: larger ones compress better and wear the disk less.
        let linger = if state.connected { config.linger } else { config.linger_offline };
        if writer.pending.without_rows() {
            return Some(since + linger.max(COUNTS_LINGER));
        }
        (!state.idle()).then(|| since + linger)
    }

    /// Lets go of the writer, leaves what others may see of it, and wakes the uplink when there is something new to send.
    fn tell(&self, writer: MutexGuard<'_, Writer>) {
        let news = {
            let mut state = self.0.state.lock();
            state.pending_rows = writer.pending.rows.len() as u64;
            state.pending = !writer.pending.is_empty();
            state.disk_bytes = writer.log.as_ref().map_or(0, seglog::Log::bytes);
            state.reserve = writer.room_kept();
            std::mem::take(&mut state.news)
        };
        drop(writer);
        if news {
            self.0.changed.notify_waiters();
        }
    }

    /// Cuts what there is (shutdown, end of recovery).
    ///
    /// # Errors
    /// [`SpoolError`]: nothing was lost; call again.
    pub fn cut(&self) -> Result<Option<BatchKey>, SpoolError> {
        self.cutting(Writer::cut)
    }

    /// Cuts what there is before a record that isn't taken yet, unless a batch of before the start held both.
    ///
    /// # Errors
    /// [`SpoolError`]: nothing was lost; call again.
    pub fn cut_before(&self, position: Position) -> Result<Option<BatchKey>, SpoolError> {
        self.cutting(|writer| writer.cut_before(position))
    }

    fn cutting(
        &self,
        cut: impl FnOnce(&mut Writer) -> Result<Option<BatchKey>, SpoolError>,
    ) -> Result<Option<BatchKey>, SpoolError> {
        let mut writer = self.0.writer.lock();
        let cut = writer.prove().and_then(|_| cut(&mut writer));
        let (now, dirty) = {
            let state = self.0.state.lock();
            (state.now, state.dirty)
        };
        if dirty && cut.is_ok() {
            // Without it the next start asks the collector again about what is done.
            if let Err(error) = writer.save_cursor(now) {
                tracing::warn!(%error, "the spool's cursor can't be written yet");
            }
        }
        self.tell(writer);
        cut
    }

    /// What is appended from now on was received before the start: it is cut as it was, or as a clone of this disk
    /// cuts it. So seqs that the collector knows beyond ours are no proof of a clone until [`Spool::replayed`].
    pub fn replaying(&self) {
        self.0.state.lock().replaying = true;
    }

    /// All of that is cut: whoever cut seqs beyond it wasn't we, and what is cut from now on needs an epoch of its own.
    ///
    /// # Errors
    /// [`SpoolError`]: nothing was lost; call again.
    pub fn replayed(&self) -> Result<(), SpoolError> {
        let mut writer = self.0.writer.lock();
        writer.prove()?;
        {
            let mut state = self.0.state.lock();
            let current = state.current().map(|(_, epoch)| (epoch.id, epoch.next_seq));
            // A hello of meanwhile asked for all that the replay would cut, and for nothing beyond.
            state.asked = state.asked.min(current.map_or(u64::MAX, |(_, next_seq)| next_seq));
            let theirs = state.beyond.zip(current);
            if !theirs.is_some_and(|((of, newest), (id, next_seq))| of == id && newest >= next_seq) {
                (state.replaying, state.beyond) = (false, None);
                return Ok(());
            }
        }
        let renamed = writer.settle().and_then(|()| send::rename(&mut writer, &self.0.state, &[], true));
        if renamed.is_ok() {
            let mut state = self.0.state.lock();
            (state.replaying, state.beyond) = (false, None);
        }
        self.tell(writer);
        renamed.map(drop)
    }

    /// Writes down the losses that opening found, and frees nothing: for a command that makes them durable before the
    /// agent runs again.
    ///
    /// # Errors
    /// [`SpoolError`]: nothing was lost; call again.
    pub fn write_losses(&self) -> Result<(), SpoolError> {
        let mut writer = self.0.writer.lock();
        writer.prove()?;
        let now = self.0.state.lock().now;
        writer.settle()?;
        writer.save_losses()?;
        writer.save_cursor(now)
    }

    /// Everything up to here is durable in the spool, or gave no rows.
    pub fn durable_position(&self) -> Position {
        self.0.writer.lock().durable_position()
    }

    /// The same, and the cursor names all that was cut: so the checkpoint and the journal's release may follow. Without
    /// the cursor a record at the very end that rots would pass for a torn one, which the journal must have still.
    ///
    /// # Errors
    /// [`SpoolError`]: nothing was lost; call again.
    pub fn settled_position(&self) -> Result<Position, SpoolError> {
        let mut writer = self.0.writer.lock();
        writer.prove()?;
        let (dirty, now) = {
            let state = self.0.state.lock();
            (state.dirty, state.now)
        };
        if dirty {
            writer.save_cursor(now)?;
        }
        Ok(writer.durable_position())
    }

    /// What this host's clocks say: called at the start and whenever the clock is looked at. Batches of a boot whose
    /// clock was not set wait until it is known when that was.
    pub fn clock(&self, boot: Boot, now: Stamp) {
        let mut state = self.0.state.lock();
        state.look_at_clock(boot, now);
        let news = std::mem::take(&mut state.news);
        drop(state);
        if news {
            self.0.changed.notify_waiters();
        }
    }

    // --- the uplink's side: called from async tasks. `greet`, `conflict` and `refused` write to the
    // --- disk, which is why they are rare; `next` may read one batch from it.

    /// What to say in the `Hello`. Losses aren't named: each is sent after the greeting.
    pub fn hello(&self) -> Held {
        self.0.hello()
    }

    /// What the collector's greeting says of what the last [`Spool::hello`] named. What it holds is done.
    /// Seqs that were never cut here, or a conflict, begin a new epoch; the conflicting batches are renamed.
    /// What it doesn't hold keeps its name: a clone of this disk may hold the same batch.
    ///
    /// # Errors
    /// [`SpoolError`] when the new epoch can't be made durable: end the session, nothing is sent meanwhile.
    pub fn greet(&self, holdings: &[v1::Holdings], conflicts: &[v1::Held]) -> Result<Greeted, SpoolError> {
        self.0.greet(holdings, conflicts)
    }

    /// Which lanes have something that [`Spool::next`] would give.
    pub fn waiting(&self, now_wall: i64) -> Waiting {
        let state = self.0.state.lock();
        let backlog = state.pick(Lane::Backlog, now_wall);
        Waiting {
            live: state.pick(Lane::Live, now_wall).is_some(),
            backlog: backlog.is_some(),
            young: backlog
                .and_then(|order| state.entry(order))
                .is_some_and(|entry| state.is_live(entry, now_wall)),
        }
    }

    /// What the collector's greeting says of the time, and how long it took from the hello on: where this host's clock
    /// isn't set, that is when this boot was.
    pub fn told_time(&self, boot: Boot, now: Stamp, collector_wall: i64, round_trip: Duration) {
        self.0.state.lock().told_time(boot, now, collector_wall, round_trip);
        self.0.changed.notify_waiters();
    }

    /// The next batch to send on a lane, ready to go; its trace, if it has one, names its `spool` span. It is in
    /// flight from here on. Live is what was cut in this session and is, or happened, within ten seconds of now; of the
    /// backlog what is as young goes first.
    ///
    /// # Errors
    /// [`SpoolError`] when it can't be read now.
    pub fn next(&self, lane: Lane, now_wall: i64) -> Result<Option<v1::Batch>, SpoolError> {
        self.0.next(lane, now_wall)
    }

    /// The next loss frame to send; in flight from here on.
    pub fn next_loss(&self) -> Option<v1::Loss> {
        self.0.next_loss()
    }

    /// What the collector has stored. Gives the number of batches and losses that were waiting for it.
    ///
    /// # Errors
    /// None now: what was acked is freed by the fold's thread.
    pub fn acked(&self, holdings: &[v1::Holdings]) -> Result<usize, SpoolError> {
        Ok(self.0.acked(holdings))
    }

    /// The collector lacks definitions: the batch is sent again with them.
    pub fn need_definitions(&self, key: BatchKey, series: &[u32]) {
        self.0.need_definitions(key, series);
    }

    /// The collector has another batch of this name: it is renamed into an epoch in which no other machine
    /// cuts. What else waits keeps its name and is answered by itself.
    ///
    /// # Errors
    /// [`SpoolError`] when the new epoch can't be made durable: nothing is sent until it is.
    pub fn conflict(&self, key: BatchKey, checksum: &[u8]) -> Result<(), SpoolError> {
        tracing::warn!(seq = key.seq, epoch = %key.epoch, theirs = ?checksum, "the collector holds another batch of this name");
        self.0.conflict(key)
    }

    /// The batch can never be stored: a copy goes to quarantine, and a loss frame fills its seq.
    ///
    /// # Errors
    /// [`SpoolError`] when the loss can't be made durable.
    pub fn refused(&self, key: BatchKey, cause: &str, message: &str) -> Result<(), SpoolError> {
        self.0.refused(key, cause, message)
    }

    /// The session is over: what was in flight is to be sent again.
    pub fn session_lost(&self) {
        self.0.session_lost();
    }

    /// Loss frames that wait to be stored, for status.
    pub fn loss_frames(&self) -> Vec<v1::Loss> {
        self.0.loss_frames()
    }

    /// Woken when there may be something new to send. Register (`notified().enable()`) before looking.
    pub fn changed(&self) -> &Notify {
        &self.0.changed
    }
}

/// What reads files, for the fuzzer.
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz {
    /// Any bytes as a record, a cursor and a segment's heads.
    pub fn decode(bytes: &[u8]) {
        drop(crate::record::Record::decode(bytes));
        drop(crate::cursor::Cursor::decode(bytes));
        crate::heads::decode_any(bytes);
        drop(crate::clocks::Clocks::decode(bytes));
    }
}
