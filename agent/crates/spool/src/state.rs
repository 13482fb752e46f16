//! What is known of every batch that isn't done: where it lies, what it is called, whether it is
//! under way. In memory only; the log and the cursor give it back after a restart.
//!
//! Held for moments at a time and never across a disk access, so that the uplink's tasks don't wait
//! for the fold's fsync.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use telemetry::{BatchKey, Boot, Cause, Counts, Epoch, Lane, OpenWindows, SeriesDef};
use wire::RangeSet;

use crate::clocks::Clocks;
use crate::damage::{Damage, Damages};
use crate::entry::{Entry, kept};
use crate::floor::Low;
use crate::group::Group;
use crate::held::{Held, less};
use crate::losses::{Losses, Lost};
use crate::proof::Waiting;
use crate::record::{Head, Loss, Standing};
use crate::{Extent, Room, Share};

/// Younger than this is live.
pub(crate) const LIVE: Duration = Duration::from_secs(10);
/// Payloads of batches that were just cut are kept up to here, so that sending them reads no disk.
const RECENT_BYTES: usize = 4 << 20;

/// (number of the epoch in this process, seq): the order in which batches were named, oldest first.
pub(crate) type Order = (u32, u64);

/// One numbering.
pub(crate) struct EpochState {
    pub(crate) id: Epoch,
    pub(crate) next_seq: u64,
    /// The last record that names it: the log holds nothing of it once that is released.
    pub(crate) last_record: u64,
    /// Seqs up to here may have been sent, as the cursor on disk says.
    pub(crate) offered: u64,
    pub(crate) entries: BTreeMap<u64, Box<Entry>>,
    /// Seqs that need no further care.
    pub(crate) done: RangeSet,
    /// Series numbers whose definitions the collector has under this epoch.
    pub(crate) defined: RangeSet,
}

impl EpochState {
    pub(crate) fn new(id: Epoch) -> Self {
        Self {
            id,
            next_seq: 1,
            last_record: 0,
            offered: 0,
            entries: BTreeMap::new(),
            done: RangeSet::new(),
            defined: RangeSet::new(),
        }
    }
}

/// A payload in memory.
pub(crate) struct Recent {
    pub(crate) order: Order,
    pub(crate) payload: Bytes,
    pub(crate) head: Arc<Head>,
}

pub(crate) struct State {
    pub(crate) epochs: BTreeMap<u32, EpochState>,
    /// Batches neither in flight nor done.
    pub(crate) waiting: BTreeSet<Order>,
    /// Batches of a boot of which nobody knows yet when it was: not to be sent until then.
    pub(crate) held: Held,
    /// Boots whose clock gives the times of batches among the entries, and of how many.
    pub(crate) unset: BTreeMap<Boot, u64>,
    /// The file of clocks may say something else than is known.
    pub(crate) clocks_changed: bool,
    pub(crate) clocks: Clocks,
    /// Losses that are neither in flight nor done.
    pub(crate) losses: BTreeSet<Order>,
    /// Sent, with the series numbers that were defined beside.
    pub(crate) flight: BTreeMap<Order, Vec<u32>>,
    /// Records of entries: the log is released below the first.
    pub(crate) records: BTreeSet<u64>,
    pub(crate) recent: VecDeque<Recent>,
    pub(crate) recent_bytes: usize,
    /// What series numbers mean.
    pub(crate) names: HashMap<u32, Arc<SeriesDef>>,
    /// What the last hello named.
    pub(crate) named: Vec<Order>,
    /// The next seq, as it said.
    pub(crate) asked: u64,
    /// A rename is being written: nothing is sent until it is durable.
    pub(crate) frozen: bool,
    /// What is cut now a clone of this disk cuts as well: seqs that the collector has beyond ours may be those.
    /// The newest of them, until it is known.
    pub(crate) replaying: bool,
    pub(crate) beyond: Option<(Epoch, u64)>,
    pub(crate) connected: bool,
    /// What was cut in this session begins here.
    pub(crate) fresh_from: Order,
    pub(crate) now: Duration,
    pub(crate) position: u64,
    /// Of windows that were open there; `None` where that isn't known.
    pub(crate) open: Option<OpenWindows>,
    pub(crate) before: Counts,
    /// Opening took something back from it, which no record tells yet: see `Writer::save_corrected`.
    pub(crate) corrected: bool,
    /// What was counted in batches that are done, but for what was lost.
    pub(crate) settled: Counts,
    /// The last losses, of which the log or the cursor says that they were noted.
    pub(crate) lost: Losses,
    /// What damage is known of.
    pub(crate) damage: Damages,
    /// Losses that opening found and that have no record yet: they are noted with it, for until then another opening
    /// finds them again.
    pub(crate) found: BTreeSet<Order>,
    /// What became of the cursor, where this start found none that it could use.
    pub(crate) cursor_lost: Option<String>,
    /// Over a cap with nothing left that may be dropped.
    pub(crate) blocked: bool,
    pub(crate) bytes: u64,
    /// Batches by priority.
    pub(crate) shares: [Share; 3],
    /// Groups of entries, each once.
    pub(crate) groups: BTreeSet<Arc<Group>>,
    /// A segment that the disk didn't give, and how often.
    pub(crate) refused: Option<(u64, u32)>,
    /// Losses among the entries.
    pub(crate) loss_count: u64,
    /// Those that have no record of their own yet.
    pub(crate) unsaved: u64,
    pub(crate) newest_t1: i64,
    /// Since the start.
    pub(crate) acked: u64,
    pub(crate) quarantined: u64,
    /// The cursor on disk is older than this.
    pub(crate) dirty: bool,
    pub(crate) trouble: Option<String>,
    /// Of that: what is there and can't be read, since when it was tried and how often.
    pub(crate) withheld: Option<Waiting>,
    /// The disk had less free than others are to have when something was cut last.
    pub(crate) floor: Option<Low>,
    /// Room that is kept for when the disk has none, as the writer left it.
    pub(crate) reserve: Option<Room>,
    /// There is something to send that the uplink wasn't woken for.
    pub(crate) news: bool,
    /// Rows in no batch yet and bytes of the files, as the writer left them: those who look don't wait for it.
    pub(crate) pending_rows: u64,
    pub(crate) pending: bool,
    pub(crate) disk_bytes: u64,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            epochs: BTreeMap::new(),
            waiting: BTreeSet::new(),
            held: Held::default(),
            unset: BTreeMap::new(),
            clocks_changed: true,
            clocks: Clocks::default(),
            losses: BTreeSet::new(),
            flight: BTreeMap::new(),
            records: BTreeSet::new(),
            recent: VecDeque::new(),
            recent_bytes: 0,
            names: HashMap::new(),
            named: Vec::new(),
            asked: u64::MAX,
            frozen: false,
            replaying: false,
            beyond: None,
            connected: false,
            fresh_from: (0, 0),
            now: Duration::ZERO,
            position: 0,
            open: None,
            before: Counts::new(),
            corrected: false,
            settled: Counts::new(),
            lost: Losses::default(),
            damage: Damages::default(),
            found: BTreeSet::new(),
            cursor_lost: None,
            blocked: false,
            bytes: 0,
            shares: [Share::default(); 3],
            groups: BTreeSet::new(),
            refused: None,
            loss_count: 0,
            unsaved: 0,
            newest_t1: i64::MIN,
            acked: 0,
            quarantined: 0,
            dirty: false,
            trouble: None,
            withheld: None,
            floor: None,
            reserve: None,
            news: false,
            pending_rows: 0,
            pending: false,
            disk_bytes: 0,
        }
    }

    /// Rows up to a position are in batches.
    pub(crate) fn reached(&mut self, position: u64, open: Option<OpenWindows>) {
        if position > self.position {
            (self.position, self.open) = (position, open);
        }
    }

    pub(crate) fn extent(&self) -> Extent {
        let (epoch, next_seq) =
            self.current().map_or((None, 1), |(_, epoch)| (Some(epoch.id), epoch.next_seq));
        Extent { position: self.position, counts: self.before.clone(), epoch, next_seq }
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing { position: self.position, before: self.before.clone(), open: self.open }
    }

    /// Begins an epoch: batches are cut in it from now on. Gives its number.
    pub(crate) fn begin(&mut self, id: Epoch) -> u32 {
        let number = self.epochs.last_key_value().map_or(0, |(number, _)| number + 1);
        self.epochs.insert(number, EpochState::new(id));
        self.dirty = true;
        number
    }

    /// The epoch that batches are cut in. There is one from opening on.
    pub(crate) fn current(&self) -> Option<(u32, &EpochState)> {
        self.epochs.last_key_value().map(|(number, epoch)| (*number, epoch))
    }

    pub(crate) fn number_of(&self, id: Epoch) -> Option<u32> {
        self.epochs.iter().rev().find(|(_, epoch)| epoch.id == id).map(|(number, _)| *number)
    }

    pub(crate) fn order_of(&self, key: BatchKey) -> Option<Order> {
        let number = self.number_of(key.epoch)?;
        self.epochs[&number].entries.contains_key(&key.seq).then_some((number, key.seq))
    }

    pub(crate) fn key_of(&self, order: Order) -> Option<BatchKey> {
        Some(BatchKey { epoch: self.epochs.get(&order.0)?.id, seq: order.1 })
    }

    pub(crate) fn entry(&self, order: Order) -> Option<&Entry> {
        self.epochs.get(&order.0)?.entries.get(&order.1).map(|entry| &**entry)
    }

    pub(crate) fn entry_mut(&mut self, order: Order) -> Option<&mut Entry> {
        self.epochs.get_mut(&order.0)?.entries.get_mut(&order.1).map(|entry| &mut **entry)
    }

    /// All entries, oldest first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Order, &Entry)> {
        self.epochs.iter().flat_map(|(number, epoch)| {
            epoch.entries.iter().map(move |(seq, entry)| ((*number, *seq), &**entry))
        })
    }

    /// Earliest and latest time of all entries, of those whose times are known.
    pub(crate) fn waiting_times(&self) -> Option<(i64, i64)> {
        let times = self.entries().filter_map(|(_, entry)| entry.real_times());
        times.reduce(|one, two| (one.0.min(two.0), one.1.max(two.1)))
    }

    /// Batches among the entries.
    pub(crate) fn batches(&self) -> u64 {
        self.shares.iter().map(|share| share.batches).sum()
    }

    /// Puts an entry under its name; what had the name before is replaced.
    pub(crate) fn insert(&mut self, order: Order, mut entry: Entry) {
        self.take(order);
        if !self.epochs.contains_key(&order.0) {
            return;
        }
        match self.groups.get(&entry.group) {
            Some(known) => entry.group = Arc::clone(known),
            None => _ = self.groups.insert(Arc::clone(&entry.group)),
        }
        if entry.record > 0 {
            self.records.insert(entry.record);
        }
        self.bytes += u64::from(entry.bytes);
        self.loss_count += u64::from(entry.loss);
        self.unsaved += u64::from(entry.loss && entry.record == 0);
        self.newest_t1 = self.newest_t1.max(self.times(&entry).map_or(i64::MIN, |times| times.1));
        if !entry.loss {
            let share = &mut self.shares[entry.group.class.priority as usize];
            share.batches += 1;
            share.bytes += u64::from(entry.bytes);
        }
        if let Some(boot) = entry.group.clock.filter(|_| !entry.loss) {
            let count = self.unset.entry(boot).or_default();
            self.clocks_changed |= *count == 0;
            *count += 1;
        }
        self.news = true;
        if self.is_held(&entry) {
            self.held.insert(order, &entry);
        } else {
            self.wait(order, entry.loss);
        }
        if let Some(epoch) = self.epochs.get_mut(&order.0) {
            epoch.last_record = epoch.last_record.max(entry.record);
            epoch.next_seq = epoch.next_seq.max(order.1 + 1);
            epoch.entries.insert(order.1, Box::new(entry));
        }
    }

    /// It is to be sent (again).
    pub(crate) fn wait(&mut self, order: Order, loss: bool) {
        self.flight.remove(&order);
        if loss {
            self.losses.insert(order);
            return;
        }
        let entry = self.epochs.get(&order.0).and_then(|epoch| epoch.entries.get(&order.1));
        match entry.filter(|entry| self.is_held(entry)) {
            Some(entry) => self.held.insert(order, entry),
            None => _ = self.waiting.insert(order),
        }
    }

    /// It is on its way, with these definitions.
    pub(crate) fn fly(&mut self, order: Order, defined: Vec<u32>) {
        self.waiting.remove(&order);
        self.losses.remove(&order);
        self.flight.insert(order, defined);
        if let Some(entry) = self.entry_mut(order) {
            (entry.offered, entry.marked) = (true, true);
        }
    }

    /// Takes an entry out without marking it done.
    pub(crate) fn take(&mut self, order: Order) -> Option<Entry> {
        let entry = *self.epochs.get_mut(&order.0)?.entries.remove(&order.1)?;
        self.waiting.remove(&order);
        self.held.remove(order, &entry);
        self.losses.remove(&order);
        self.flight.remove(&order);
        if !entry.loss {
            let share = &mut self.shares[entry.group.class.priority as usize];
            share.batches -= 1;
            share.bytes -= u64::from(entry.bytes);
        }
        if let Some(boot) = entry.group.clock.filter(|_| !entry.loss) {
            self.clocks_changed |= less(&mut self.unset, boot);
        }
        self.records.remove(&entry.record);
        self.bytes -= u64::from(entry.bytes);
        self.loss_count -= u64::from(entry.loss);
        self.unsaved -= u64::from(entry.loss && entry.record == 0);
        let at = self.recent.iter().position(|recent| recent.order == order);
        if let Some(recent) = at.and_then(|at| self.recent.remove(at)) {
            self.recent_bytes -= recent.payload.len();
        }
        Some(entry)
    }

    /// A loss takes the place of a batch, or gets its record.
    pub(crate) fn lose(&mut self, order: Order, loss: &Loss, record: u64, size: u32) {
        let times = self.times_of(order);
        let Some(batch) = self.take(order) else { return };
        let (t0, t1) = times.unwrap_or((loss.t0, loss.t1));
        let loss = Loss { t0, t1, ..loss.clone() };
        if self.found.remove(&order) {
            note_found(&mut self.lost, &mut self.damage, order.1, &loss.counts, (t0, t1));
        }
        if !batch.loss {
            let newly = batch.newly_lost(&loss.counts);
            self.lost.note(&newly, t0, t1);
            if newly.get(Cause::Damaged) > 0 {
                self.damage.note_batch(loss.key.seq, (t0, t1), newly.get(Cause::Damaged));
            }
            self.before.merge(&batch.unthinned(&loss.counts));
        }
        self.dirty = true;
        self.insert(order, Entry::of_loss(record, size as usize, &loss, Some(&batch)));
    }

    /// The last losses and what damage is known of, for those who look, with what has no record yet.
    pub(crate) fn all_lost(&self) -> (Vec<Lost>, Vec<Damage>) {
        let (mut lost, mut damage) = (self.lost.clone(), self.damage.clone());
        for (order, entry) in self.found.iter().filter_map(|order| Some((order, self.entry(*order)?))) {
            note_found(&mut lost, &mut damage, order.1, &entry.counts.counts(), (entry.t0, entry.t1));
        }
        (lost.list(), damage.list())
    }

    /// A batch was written again elsewhere in the log.
    pub(crate) fn moved(&mut self, order: Order, record: u64, size: u32) {
        let Some(entry) = self.entry_mut(order) else { return };
        let before = std::mem::replace(&mut entry.record, record);
        entry.size = size;
        self.records.remove(&before);
        self.records.insert(record);
        if let Some(epoch) = self.epochs.get_mut(&order.0) {
            epoch.last_record = epoch.last_record.max(record);
        }
    }

    /// The collector has it.
    pub(crate) fn done(&mut self, order: Order) -> bool {
        let defined = self.flight.remove(&order).unwrap_or_default();
        let Some(entry) = self.take(order) else { return false };
        if self.found.remove(&order) {
            let (counts, times) = (entry.counts.counts(), (entry.t0, entry.t1));
            note_found(&mut self.lost, &mut self.damage, order.1, &counts, times);
        }
        self.settled.merge(&kept(&entry.counts.counts()));
        if let Some(epoch) = self.epochs.get_mut(&order.0) {
            epoch.done.insert(order.1);
            epoch.defined.extend(defined.into_iter().map(|number| (u64::from(number), u64::from(number))));
        }
        self.acked += 1;
        self.dirty = true;
        true
    }

    /// Gives entries a seq in the epoch `to`. Payloads and the numbers of series stay.
    pub(crate) fn relabel(&mut self, moves: &[(Order, u64)], to: u32, record: u64) {
        for &(from, seq) in moves {
            let recent = self
                .recent
                .iter()
                .position(|recent| recent.order == from)
                .and_then(|at| self.recent.remove(at));
            self.recent_bytes -= recent.as_ref().map_or(0, |recent| recent.payload.len());
            let Some(mut entry) = self.take(from) else { continue };
            if let Some(epoch) = self.epochs.get_mut(&from.0) {
                epoch.done.insert(from.1);
                epoch.last_record = epoch.last_record.max(record);
            }
            // Nobody was told of the new name yet.
            (entry.offered, entry.marked) = (false, false);
            self.insert((to, seq), entry);
            if let Some(recent) = recent {
                self.remember(Recent { order: (to, seq), ..recent });
            }
        }
        if let Some(epoch) = self.epochs.get_mut(&to) {
            epoch.last_record = epoch.last_record.max(record);
        }
        self.dirty = true;
    }

    pub(crate) fn remember(&mut self, recent: Recent) {
        self.recent_bytes += recent.payload.len();
        self.recent.push_back(recent);
        while self.recent_bytes > RECENT_BYTES {
            let Some(oldest) = self.recent.pop_front() else { break };
            self.recent_bytes -= oldest.payload.len();
        }
    }

    /// Epochs of which neither an entry nor a record is left are forgotten, but for the current one.
    pub(crate) fn forget_epochs(&mut self, first_record: u64) {
        let Some((current, _)) = self.current() else { return };
        self.epochs.retain(|number, epoch| {
            *number == current || !epoch.entries.is_empty() || epoch.last_record >= first_record
        });
    }

    pub(crate) fn is_live(&self, entry: &Entry, now_wall: i64) -> bool {
        let cut = entry.cut_at.is_some_and(|cut| self.now.saturating_sub(cut) < LIVE);
        let newest = self.times(entry).map(|times| times.1);
        cut || newest.is_some_and(|newest| now_wall.abs_diff(newest) < LIVE.as_nanos() as u64)
    }

    /// The next batch to send on a lane. Live is what is young and was cut in this session, oldest first; of the others, what
    /// is young goes before what isn't: it gathered in a short outage, as one large batch perhaps, and fresh ones pass by it.
    pub(crate) fn pick(&self, lane: Lane, now_wall: i64) -> Option<Order> {
        if self.frozen {
            return None;
        }
        // How much is young is bounded by what is cut in ten seconds.
        let is_young =
            |order: &&Order| self.entry(**order).is_some_and(|entry| self.is_live(entry, now_wall));
        let oldest_young = |orders: std::collections::btree_set::Range<'_, Order>| {
            orders.rev().take_while(is_young).last().copied()
        };
        match lane {
            Lane::Live => oldest_young(self.waiting.range(self.fresh_from..)),
            Lane::Backlog => {
                let before = self.waiting.range(..self.fresh_from);
                let live = self.pick(Lane::Live, now_wall);
                oldest_young(before)
                    .or_else(|| self.waiting.first().copied().filter(|oldest| Some(*oldest) != live))
            }
        }
    }

    /// The oldest batch.
    pub(crate) fn oldest(&self) -> Option<&Entry> {
        let batch = |order: &Order| self.entry(*order).filter(|entry| !entry.loss).is_some();
        let waiting = self.waiting.first().copied();
        let flying = self.flight.keys().find(|order| batch(order)).copied();
        self.entry([waiting, flying].into_iter().flatten().min()?)
    }

    /// Nothing is waiting for an ack.
    pub(crate) fn idle(&self) -> bool {
        // What is held is not waited for, but it shows that nothing leaves at once either.
        self.waiting.is_empty() && self.losses.is_empty() && self.flight.is_empty() && self.held.is_empty()
    }
}

/// Notes a loss that opening has found: of a batch that is damaged or gone.
fn note_found(lost: &mut Losses, damage: &mut Damages, seq: u64, counts: &Counts, times: (i64, i64)) {
    lost.note(counts, times.0, times.1);
    damage.note_batch(seq, times, counts.get(Cause::Damaged));
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
