//! The uplink's side: what to say in the hello, what a greeting, an ack, a conflict or a refusal
//! means, and the next thing to send.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use telemetry::{BatchKey, Cause, Epoch, Lane};
use wire::{RangeSet, v1};

use crate::clocks::Offset;
use crate::entry::Entry;
use crate::record::{Head, Loss, Record};
use crate::recover::fresh_epoch;
use crate::state::{Order, State};
use crate::writer::{Act, Writer, loss_of};
use crate::{Greeted, Held, Inner, SpoolError};

/// Most batches that a hello names.
const NAMED: usize = 10_000;
/// Bytes of a checksum that speak of the payload; those behind them speak of its series.
const OF_PAYLOAD: usize = 12;
/// So often a segment that the disk doesn't give is tried.
const TRIES: u32 = 20;
/// Most batches that quarantine holds.
const QUARANTINE: usize = 100;

/// The reader that the last batch was read with, and the record it stands before.
pub(crate) type Place = Option<(u64, seglog::Reader)>;

impl Inner {
    pub(crate) fn hello(&self) -> Held {
        let mut state = self.state.lock();
        let batches = state.entries().filter(|(_, entry)| !entry.loss).take(NAMED);
        let named: Vec<Order> = batches.map(|(order, _)| order).collect();
        let held = |order: &Order| {
            let key = state.key_of(*order)?;
            let checksum = state.entry(*order)?.checksum.to_vec();
            Some(v1::Held { epoch: key.epoch.0.to_vec(), seq: key.seq, checksum })
        };
        let unacked = named.iter().filter_map(held).collect();
        let (epoch, next_seq) =
            state.current().map_or((Epoch([0; 16]), 1), |(_, epoch)| (epoch.id, epoch.next_seq));
        state.named = named;
        // What is replayed is cut again as it was: seqs of before the start, though they are not there yet.
        state.asked = if state.replaying { u64::MAX } else { next_seq };
        Held { epoch, next_seq, unacked }
    }

    /// What gathered while nobody could be told is cut, and what is cut from here on is fresh: it waits for nothing older.
    fn begin_fresh(&self) {
        let mut writer = self.writer.lock();
        // Rows of before the start are cut as they were before: never by the moment of a greeting.
        if writer.pending.fresh
            && let Err(error) = writer.cut()
        {
            tracing::debug!(%error, "what gathered while the link was down is cut later");
        }
        let mut state = self.state.lock();
        state.fresh_from = state.current().map_or((0, 0), |(number, epoch)| (number, epoch.next_seq));
    }

    pub(crate) fn greet(
        &self,
        holdings: &[v1::Holdings],
        conflicts: &[v1::Held],
    ) -> Result<Greeted, SpoolError> {
        if self.writer.lock().prove()? {
            return Err(SpoolError::Broken("the spool was read again since the hello".into()));
        }
        let mut greeted = Greeted::default();
        let foreign = {
            let mut state = self.state.lock();
            let state = &mut *state;
            let named = std::mem::take(&mut state.named);
            for order in named {
                let held = holds(state, holdings, order);
                let other = conflicting(state, conflicts, order);
                if held && !other {
                    greeted.confirmed += usize::from(state.done(order));
                } else if !other && let Some(entry) = state.entry_mut(order) {
                    // It was asked for by name and isn't there.
                    entry.offered = false;
                }
            }
            let losses: Vec<Order> =
                state.entries().filter(|(_, entry)| entry.loss).map(|(order, _)| order).collect();
            for order in losses {
                // Whatever fills the hole, the hole is filled.
                if holds(state, holdings, order) {
                    greeted.confirmed += usize::from(state.done(order));
                }
            }
            state.connected = true;
            // Seqs that were never cut here were cut by someone with the same disk; or by us, and will be again. What was cut
            // since the hello can't be what the collector speaks of.
            let asked = state.asked;
            let beyond = state.current().and_then(|(_, epoch)| {
                let theirs = holdings.iter().filter(|held| held.epoch == epoch.id.0[..]);
                let newest = theirs.filter_map(|held| RangeSet::from_holdings(held).max()).max()?;
                (newest >= epoch.next_seq.min(asked)).then_some((epoch.id, newest))
            });
            state.beyond = beyond.filter(|_| state.replaying);
            beyond.is_some() && !state.replaying
        };
        if foreign || !conflicts.is_empty() {
            let mut writer = self.writer.lock();
            writer.settle()?;
            let moved: Vec<Order> = {
                let state = self.state.lock();
                let current = state.current().map_or(0, |(number, _)| number);
                // Of the same name as another's, and not in the hello: an ack of that one would be taken for its own.
                let unasked = |order: Order| order.0 == current && order.1 >= state.asked;
                state
                    .entries()
                    .map(|(order, _)| order)
                    .filter(|order| {
                        conflicting(&state, conflicts, *order)
                            || (unasked(*order) && holds(&state, holdings, *order))
                    })
                    .collect()
            };
            greeted.relabelled = moved.len();
            greeted.new_epoch = rename(&mut writer, &self.state, &moved, foreign)?;
        }
        self.begin_fresh();
        self.changed.notify_waiters();
        Ok(greeted)
    }

    pub(crate) fn next(&self, lane: Lane, now_wall: i64) -> Result<Option<v1::Batch>, SpoolError> {
        loop {
            // One at a time: the place in the log is the only thing that waits for the disk here.
            let mut place = self.place.lock();
            let (order, key, entry, recent) = {
                let mut state = self.state.lock();
                state.connected = true;
                let Some(order) = state.pick(lane, now_wall) else { return Ok(None) };
                let Some(entry) = state.entry(order).cloned() else { return Ok(None) };
                let Some(key) = state.key_of(order) else { return Ok(None) };
                if !entry.marked {
                    drop(state);
                    drop(place);
                    self.writer.lock().mark(order)?;
                    continue;
                }
                let recent = state.recent.iter().find(|recent| recent.order == order);
                let recent = recent.map(|recent| (Arc::clone(&recent.head), recent.payload.clone()));
                (order, key, entry, recent)
            };
            let found = match recent {
                Some(found) => Some(found),
                // One whose definitions were lost to damage would speak of series that nobody can name, or of others.
                None => self.read(&mut place, &entry)?.filter(|(head, _)| self.names_fit(head)),
            };
            drop(place);
            let Some((head, payload)) = found else {
                self.damaged(order, entry.record)?;
                continue;
            };
            let mut state = self.state.lock();
            // Acked, dropped or renamed while it was read?
            if !state.waiting.contains(&order) || state.frozen {
                continue;
            }
            let offset = entry.group.clock.and_then(|boot| state.clocks.offset(boot));
            let Some(epoch) = state.epochs.get(&order.0) else { continue };
            let undefined = |number: &u32| !epoch.defined.contains(u64::from(*number));
            let numbers: Vec<u32> = head.series.iter().copied().filter(undefined).collect();
            let defs: Vec<_> = numbers
                .iter()
                .filter_map(|number| Some((*number, Arc::clone(state.names.get(number)?))))
                .collect();
            state.fly(order, numbers);
            drop(state);
            // They fit: batches are divided until they do.
            let definitions = wire::definitions::encode(&defs).unwrap_or_default();
            return Ok(Some(v1::Batch {
                epoch: key.epoch.0.to_vec(),
                seq: key.seq,
                lane: match lane {
                    Lane::Live => v1::LaneKind::LaneLive,
                    Lane::Backlog => v1::LaneKind::LaneBacklog,
                } as i32,
                t0_ns: entry.t0,
                t1_ns: entry.t1,
                clock_offset_ns: offset.map_or(0, |offset| offset.ns),
                clock_uncertain: offset.is_some_and(Offset::is_uncertain),
                codec: wire::payload::CODEC,
                payload,
                checksum: entry.checksum.to_vec(),
                definitions: definitions.into(),
                trace: head.trace.map_or_else(String::new, |context| context.to_string()),
                first_position: head.first_position,
                last_position: head.last_position,
            }));
        }
    }

    /// Whether the numbers of a batch mean the series that they meant when it was cut.
    fn names_fit(&self, head: &Head) -> bool {
        let state = self.state.lock();
        let names = head.series.iter().map(|number| Some((*number, &**state.names.get(number)?)));
        let names: Option<Vec<_>> = names.collect();
        names.is_some_and(|names| wire::definitions::digest(names.into_iter()) == head.checksum[OF_PAYLOAD..])
    }

    /// The batch in its record; `None` when it isn't there as it was.
    fn read(&self, place: &mut Place, entry: &Entry) -> Result<Option<(Arc<Head>, Bytes)>, SpoolError> {
        self.try_read(place, entry).or_else(|error| {
            refused(&self.state, &self.readers, &error)?;
            Ok(None)
        })
    }

    fn try_read(
        &self,
        place: &mut Place,
        entry: &Entry,
    ) -> Result<Option<(Arc<Head>, Bytes)>, seglog::ReadError> {
        // Batches are sent in order, so the reader mostly stands where it should.
        let kept = place.take().filter(|(at, _)| *at == entry.record).map(|(_, reader)| reader);
        let fresh = || self.readers.lock().reader(entry.record);
        let (mut reader, tried) = kept.map_or_else(|| (fresh(), true), |reader| (reader, false));
        let mut found = read_at(&mut reader, entry)?;
        if found.is_none() && !tried {
            reader = fresh();
            found = read_at(&mut reader, entry)?;
        }
        *place = Some((entry.record + 1, reader));
        Ok(found)
    }

    /// A batch that can't be read back is reported as lost. One that was moved while it was read is not damaged.
    fn damaged(&self, order: Order, record: u64) -> Result<(), SpoolError> {
        let mut writer = self.writer.lock();
        writer.settle()?;
        let (entry, key) = {
            let state = self.state.lock();
            let (Some(entry), Some(key)) = (state.entry(order).cloned(), state.key_of(order)) else {
                return Ok(());
            };
            (entry, key)
        };
        if entry.loss || entry.record != record {
            return Ok(());
        }
        tracing::error!(seq = key.seq, epoch = %key.epoch, rows = entry.rows, "a batch in the spool is damaged and is reported as lost");
        let counts = entry.lost(Cause::Damaged);
        writer.commit(vec![Act::Lose { order, loss: Loss { key, t0: entry.t0, t1: entry.t1, counts } }])
    }

    pub(crate) fn next_loss(&self) -> Option<v1::Loss> {
        let mut state = self.state.lock();
        if state.frozen {
            return None;
        }
        let order = *state.losses.first()?;
        let frame = loss_frame(&loss_of(&state, order, state.entry(order)?)?);
        state.fly(order, Vec::new());
        Some(frame)
    }

    pub(crate) fn loss_frames(&self) -> Vec<v1::Loss> {
        let state = self.state.lock();
        let losses = state.entries().filter_map(|(order, entry)| loss_of(&state, order, entry));
        // All are found before the end of a long backlog.
        losses.take(NAMED.min(state.loss_count as usize)).map(|loss| loss_frame(&loss)).collect()
    }

    pub(crate) fn acked(&self, holdings: &[v1::Holdings]) -> usize {
        let mut state = self.state.lock();
        let mut orders: Vec<Order> = Vec::new();
        for held in holdings {
            let Ok(id) = held.epoch.as_slice().try_into() else { continue };
            let Some(number) = state.number_of(Epoch(id)) else { continue };
            let held = RangeSet::from_holdings(held);
            // Only what is under way is answered. A seq that waits may be held as a clone's batch of that name:
            // it is sent, and then acknowledged or in conflict by itself.
            let flying = state.flight.range((number, 0)..=(number, u64::MAX)).map(|(order, _)| *order);
            orders.extend(flying.filter(|order| held.contains(order.1)));
        }
        let acked = orders.into_iter().filter(|order| state.done(*order)).count();
        let due = acked > 0 && state.pending_rows > 0 && state.idle();
        drop(state);
        if due && let Some(wake) = self.due_now.get() {
            wake();
        }
        if acked > 0 {
            self.changed.notify_waiters();
        }
        acked
    }

    pub(crate) fn need_definitions(&self, key: BatchKey, series: &[u32]) {
        let mut state = self.state.lock();
        let Some(order) = state.order_of(key) else { return };
        if let Some(epoch) = state.epochs.get_mut(&order.0) {
            for number in series {
                epoch.defined.remove(u64::from(*number));
            }
        }
        let loss = state.entry(order).is_some_and(|entry| entry.loss);
        state.wait(order, loss);
        drop(state);
        self.changed.notify_waiters();
    }

    pub(crate) fn conflict(&self, key: BatchKey) -> Result<(), SpoolError> {
        let mut writer = self.writer.lock();
        writer.settle()?;
        let Some(order) = self.state.lock().order_of(key) else { return Ok(()) };
        rename(&mut writer, &self.state, &[order], false)?;
        self.changed.notify_waiters();
        Ok(())
    }

    pub(crate) fn refused(&self, key: BatchKey, cause: &str, message: &str) -> Result<(), SpoolError> {
        let mut writer = self.writer.lock();
        writer.settle()?;
        let (order, entry) = {
            let state = self.state.lock();
            let Some(order) = state.order_of(key) else { return Ok(()) };
            let Some(entry) = state.entry(order).filter(|entry| !entry.loss).cloned() else {
                return Ok(());
            };
            (order, entry)
        };
        let read = self.read(&mut None, &entry)?;
        if let Some((_, payload)) = read
            && let Err(error) = quarantine(&writer, key, &payload, cause, message)
        {
            tracing::warn!(%error, "a refused batch can't be copied to quarantine");
        }
        let counts = entry.lost(Cause::Refused);
        let loss = Loss { key, t0: entry.t0, t1: entry.t1, counts };
        writer.commit(vec![Act::Lose { order, loss }])?;
        self.state.lock().quarantined += 1;
        self.changed.notify_waiters();
        Ok(())
    }

    pub(crate) fn session_lost(&self) {
        let mut state = self.state.lock();
        for (order, _) in std::mem::take(&mut state.flight) {
            let Some(loss) = state.entry(order).map(|entry| entry.loss) else { continue };
            state.wait(order, loss);
        }
        state.connected = false;
        drop(state);
        self.changed.notify_waiters();
    }
}

fn conflicting(state: &State, conflicts: &[v1::Held], order: Order) -> bool {
    let Some(key) = state.key_of(order) else { return false };
    conflicts.iter().any(|held| held.seq == key.seq && held.epoch == key.epoch.0[..])
}

pub(crate) fn read_at(
    reader: &mut seglog::Reader,
    entry: &Entry,
) -> Result<Option<(Arc<Head>, Bytes)>, seglog::ReadError> {
    let found = reader.next()?;
    let Some(found) = found.filter(|found| found.number == entry.record) else { return Ok(None) };
    Ok(match Record::decode(found.payload) {
        Ok(Record::Batch { head, payload, .. } | Record::Moved { head, payload, .. })
            if wire::fits(&entry.checksum, payload) =>
        {
            Some((Arc::new(head), Bytes::copy_from_slice(payload)))
        }
        _ => None,
    })
}

/// What to do about a segment that the disk doesn't give: it is tried again, by whoever wants something of it, so often, and
/// while the spool can write. Then it is damage: `Ok`, and so are all further reads of it.
///
/// # Errors
/// [`SpoolError::Unreadable`]: try again.
pub(crate) fn refused(
    state: &parking_lot::Mutex<State>,
    readers: &parking_lot::Mutex<seglog::Readers>,
    error: &seglog::ReadError,
) -> Result<(), SpoolError> {
    let gives_up = {
        let mut state = state.lock();
        let tries =
            state.refused.filter(|refused| refused.0 == error.segment).map_or(1, |refused| refused.1 + 1);
        state.refused = Some((error.segment, tries));
        // A disk that takes nothing either may be back in a moment, with all that is on it.
        error.is_unreadable() && tries > TRIES && state.trouble.is_none()
    };
    if !gives_up {
        return Err(SpoolError::Unreadable(error.to_string()));
    }
    tracing::error!(%error, "the disk does not give a segment of the spool: it is kept in quarantine, and its batches are reported as lost");
    readers.lock().pass_over(error.segment);
    Ok(())
}

fn holds(state: &State, holdings: &[v1::Holdings], order: Order) -> bool {
    let Some(key) = state.key_of(order) else { return false };
    holdings.iter().filter(|held| held.epoch == key.epoch.0[..]).any(|held| {
        (key.seq > 0 && key.seq <= held.upto)
            || held.ranges.iter().any(|r| (r.first..=r.last).contains(&key.seq))
    })
}

/// Gives entries whose names the collector knows for other batches names in the current epoch; a new one
/// begins when that is the epoch they are in, or when `foreign` seqs were seen in it.
///
/// Only they are renamed: what else waits under the old epoch may be a batch that a clone of this disk
/// holds too, and its name is what tells the collector that both are the same.
pub(crate) fn rename(
    writer: &mut Writer,
    state: &parking_lot::Mutex<State>,
    moved: &[Order],
    foreign: bool,
) -> Result<Option<Epoch>, SpoolError> {
    let (current, next_seq, mut moves) = {
        let state = state.lock();
        let Some((number, epoch)) = state.current() else { return Ok(None) };
        let fresh = foreign || moved.iter().any(|order| order.0 == number);
        let moves: Vec<(u64, Order)> = moved
            .iter()
            .filter_map(|order| Some((state.entry(*order)?.record, *order)))
            .filter(|at| at.0 > 0)
            .collect();
        ((!fresh).then_some(epoch.id), if fresh { 1 } else { epoch.next_seq }, moves)
    };
    // By record: that is the order in which they were cut.
    moves.sort_unstable();
    let random =
        |error: std::io::Error| SpoolError::Broken(format!("no random bytes for a new epoch: {error}"));
    let epoch = current.map_or_else(|| fresh_epoch(&*writer.storage).map_err(random), Ok)?;
    let moves = moves.into_iter().zip(next_seq..).map(|((_, order), seq)| (order, seq)).collect();
    writer.commit(vec![Act::Rename { epoch, moves }])?;
    if current.is_none() {
        tracing::warn!(%epoch, batches = moved.len(), "a new epoch begins: another machine uses a copy of this spool");
    }
    Ok(current.is_none().then_some(epoch))
}

fn loss_frame(loss: &Loss) -> v1::Loss {
    v1::Loss {
        epoch: loss.key.epoch.0.to_vec(),
        seq: loss.key.seq,
        t0_ns: loss.t0,
        t1_ns: loss.t1,
        counts: loss
            .counts
            .iter()
            .map(|(cause, count)| v1::CauseCount { cause: cause as u32, count })
            .collect(),
    }
}

/// Two files: the payload, and why it was refused.
fn quarantine(
    writer: &Writer,
    key: BatchKey,
    payload: &[u8],
    cause: &str,
    message: &str,
) -> std::io::Result<()> {
    let dir = writer.config.dir.join("quarantine");
    let storage = &writer.storage;
    storage.create_dir_all(&dir)?;
    if storage.list(&dir)?.len() >= 2 * QUARANTINE {
        return Err(std::io::Error::other(format!("{} holds {QUARANTINE} batches already", dir.display())));
    }
    let put = |path: &Path, content: &[u8]| {
        let file = storage.open(path, seglog::Mode::Create)?;
        file.write_at(content, 0)?;
        file.sync()
    };
    let name = format!("{}-{}", key.epoch, key.seq);
    put(&dir.join(format!("{name}.batch")), payload)?;
    put(&dir.join(format!("{name}.txt")), format!("{cause}: {message}\n").as_bytes())?;
    storage.sync_dir(&dir)
}
