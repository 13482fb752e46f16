//! The log, read back record by record, and what follows from what isn't there.
//!
//! Whatever is in the log and not done is to be sent. What an epoch should have and neither the log
//! holds nor the cursor calls done was damaged: a loss frame fills its hole. A batch found here may
//! have been offered before the restart, so it counts as such until a greeting says otherwise.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;

use seglog::Readers;
use telemetry::{BatchKey, Cause, Counts, Epoch, SeriesTable};

use crate::cursor::Cursor;
use crate::entry::{Entry, kept};
use crate::gone::{Remembered, difference, least, share};
use crate::heads::{HeadRecord, Heads, Kept};
use crate::numbering::Numbering;
use crate::proof::withheld_for;
use crate::record::{BadRecord, Echo, Head, Loss, Record, Standing};
use crate::state::{Order, State};
use crate::writer::FRAME;

pub(crate) struct Replay<'a> {
    table: &'a SeriesTable,
    pub(crate) state: State,
    numbering: Numbering,
    /// Which entry a record holds.
    at: HashMap<u64, Order>,
    /// Entries that are done under the name in their record; a rename may have given them another since.
    done: HashMap<u64, Entry>,
    /// The counts before the next batch are known.
    pub(crate) counted: bool,
    /// Parts of a cut whose last one hasn't come.
    parts: Vec<Part>,
    /// Those of the last cut, of which some are missing.
    doubtful: Vec<Part>,
    /// Counts of what damaged stretches held, and the same by the batch behind each.
    gone: Counts,
    gaps: BTreeMap<Order, Counts>,
    /// True when the last thing read was damage.
    gap: bool,
    /// What thinning said once more, of batches that weren't met before it.
    pub(crate) echoes: Vec<Echo>,
    /// What losses of thinned batches add to the sum of all, of those that the cursor doesn't know of.
    unthinned: Counts,
    /// The number that the next record has when none is missing.
    expected: u64,
    /// The record that said last what was counted before it, and the one that the cursor was written before.
    pub(crate) chained: u64,
    cursor_at: u64,
    /// Where the segment that is read begins, and those that begin with the rest of a cut.
    segment: u64,
    pub(crate) continued: BTreeSet<u64>,
    unreadable: u64,
    /// What is there and isn't given just now, and why.
    pub(crate) withheld: Option<String>,
    /// What heads still say of batches that stood in segments that are cut off or gone.
    remembered: HashMap<BatchKey, Remembered>,
    /// Between which times the batches were that weren't done, as the cursor says.
    waiting: Option<(i64, i64)>,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(cursor: Option<&Cursor>, table: &'a SeriesTable) -> Self {
        let mut state = State::new();
        if let Some(cursor) = cursor {
            (state.position, state.open) = (cursor.position, cursor.open);
            state.damage = cursor.damage.clone();
            state.lost = cursor.losses.clone();
            state.settled = cursor.settled.clone().unwrap_or_default();
            for known in &cursor.epochs {
                let number = state.begin(known.id);
                if let Some(epoch) = state.epochs.get_mut(&number) {
                    epoch.next_seq = known.next_seq;
                    epoch.last_record = known.last_record;
                    // Version 1 didn't say, and what it had not cut yet can't be meant.
                    epoch.offered = known.offered.min(known.next_seq.saturating_sub(1));
                    epoch.done = known.done.clone();
                }
            }
        }
        Self {
            table,
            state,
            numbering: Numbering::new(cursor.map_or(1, |cursor| cursor.next_number)),
            at: HashMap::new(),
            done: HashMap::new(),
            counted: false,
            parts: Vec::new(),
            doubtful: Vec::new(),
            gone: Counts::new(),
            gaps: BTreeMap::new(),
            gap: false,
            echoes: Vec::new(),
            unthinned: Counts::new(),
            expected: 0,
            chained: 0,
            segment: 0,
            continued: BTreeSet::new(),
            cursor_at: cursor.map_or(0, |cursor| cursor.next_record),
            unreadable: 0,
            withheld: None,
            remembered: HashMap::new(),
            waiting: cursor.and_then(|cursor| cursor.waiting),
        }
    }

    /// Reads all segments: by their heads where those are kept, else whole, keeping the heads.
    pub(crate) fn read(&mut self, readers: &Readers, heads: &mut Heads) {
        let segments = readers.segments();
        heads.read_all(&segments, |heads, at, kept| {
            let segment = &segments[at];
            let until = segments.get(at + 1).map_or(u64::MAX, |next| next.1);
            self.segment = segment.1;
            match kept {
                Some(kept) => kept.records().for_each(|record| self.head(record)),
                None => {
                    let records = self.segment(readers, segment.1, until);
                    heads.write(segment, &records);
                }
            }
        });
    }

    /// Takes from the heads of a segment that is cut off or gone of which times its batches were, and what each counted.
    pub(crate) fn remember(&mut self, kept: &Kept) {
        for (_, _, bytes) in kept.records() {
            if let Ok(Record::Batch { head, .. } | Record::Moved { head, .. }) = Record::decode(bytes) {
                let times = (head.group.clock.is_none() && head.rows > 0).then_some((head.t0, head.t1));
                self.remembered.insert(head.key, Remembered::new(times, &head.counts));
            }
        }
    }

    /// Reads a segment whole. Gives its heads, none when a part of it couldn't be read.
    pub(crate) fn segment(&mut self, readers: &Readers, first: u64, until: u64) -> Vec<HeadRecord> {
        let mut reader = readers.reader(first);
        let mut records = Vec::new();
        let mut damaged = false;
        loop {
            match reader.next() {
                Ok(Some(entry)) if entry.number < until => {
                    let number = entry.number;
                    let record = Record::decode(entry.payload).map(owned);
                    if let Ok(Owned::Batch { bytes, .. } | Owned::Moved { bytes, .. }) = &record {
                        let bytes = *bytes;
                        let head = entry.payload[..entry.payload.len() - bytes].to_vec();
                        records.push(HeadRecord { number, payload: bytes as u64, bytes: head });
                    } else if record.is_ok() {
                        records.push(HeadRecord { number, payload: 0, bytes: entry.payload.to_vec() });
                    }
                    let size = entry.payload.len();
                    damaged |= record.is_err();
                    self.found(number, size, record);
                    damaged |= torn(&mut reader);
                }
                Ok(_) => break,
                Err(error) => {
                    // What the disk doesn't give is damage; what the system doesn't give will be there.
                    match error.is_unreadable() {
                        true => tracing::error!(%error, "a segment of the spool can't be read"),
                        false => _ = self.withheld.get_or_insert_with(|| withheld_for(&error)),
                    }
                    damaged = true;
                    break;
                }
            }
        }
        damaged |= torn(&mut reader);
        if damaged { Vec::new() } else { records }
    }

    /// Takes a record without its payload: number, length of the payload, bytes before it.
    pub(crate) fn head(&mut self, (number, payload, bytes): (u64, u64, &[u8])) {
        let payload = payload as usize;
        let size = bytes.len() + payload;
        let decoded = Record::decode(bytes).map(|decoded| match owned(decoded) {
            Owned::Batch { head, definitions, .. } => Owned::Batch { head, definitions, bytes: payload },
            Owned::Moved { head, definitions, .. } => Owned::Moved { head, definitions, bytes: payload },
            other => other,
        });
        self.found(number, size, decoded);
    }

    fn found(&mut self, number: u64, size: usize, record: Result<Owned, BadRecord>) {
        // Numbers that were skipped held nothing: then both sides say the same counts.
        self.gap |= self.expected != number;
        self.expected = number + 1;
        match record {
            Ok(record) => self.take(number, size + FRAME, record),
            Err(error) => {
                tracing::error!(record = number, %error, "a record of the spool can't be understood and is passed over");
                self.unreadable += 1;
                self.gap = true;
            }
        }
    }

    fn take(&mut self, number: u64, size: usize, record: Owned) {
        match record {
            Owned::Moved { head, definitions, bytes } => {
                self.define(&definitions);
                head.series.iter().for_each(|number| self.numbering.used(*number));
                let epoch = self.epoch(head.key.epoch);
                self.noted(epoch, head.key.seq, number);
                let offered = self.offered(epoch, &head);
                let entry = Entry::of_batch(number, &head, bytes, size, None, offered);
                self.insert((epoch, head.key.seq), entry);
            }
            Owned::Batch { head, definitions, bytes } => {
                self.define(&definitions);
                head.series.iter().for_each(|number| self.numbering.used(*number));
                if std::mem::take(&mut self.gap) && self.counted {
                    let counts = difference(&head.before, &self.state.before);
                    self.gone.merge(&counts);
                    let epoch = self.epoch(head.key.epoch);
                    self.gaps.entry((epoch, head.key.seq)).or_default().merge(&counts);
                }
                if head.part == 1 {
                    self.parts.clear();
                }
                if head.part > 1 && number == self.segment {
                    self.continued.insert(number);
                }
                let follows =
                    |part: &Part| part.head.key.seq + 1 == head.key.seq && part.head.parts == head.parts;
                if !self.parts.last().is_none_or(follows) {
                    self.parts.clear();
                }
                let last = head.part == head.parts;
                self.parts.push(Part { record: number, head, bytes, size });
                if last {
                    self.whole();
                }
            }
            Owned::Relabel { epoch, moves, standing } => {
                self.parts.clear();
                self.stand(number, standing);
                let to = self.epoch(epoch);
                for (record, seq) in moves {
                    self.noted(to, seq, number);
                    let held = match self.at.remove(&record) {
                        Some(order) => self.rename(order, number),
                        None => self.done.remove(&record),
                    };
                    // Its record was released: it is done under the new name.
                    let Some(entry) = held else { continue };
                    self.insert((to, seq), entry);
                }
                self.noted(to, 0, number);
            }
            Owned::Loss(loss, standing) => {
                self.parts.clear();
                self.stand(number, standing);
                self.lose(number, number, size, &loss);
            }
            Owned::Echo(echo) => {
                self.parts.clear();
                self.echo(number, echo);
            }
        }
    }

    /// A cut has ended. Where parts are missing that this segment must have had, either the write that had
    /// not been confirmed was torn, or what had been is damaged: what comes after tells which.
    fn whole(&mut self) {
        let mut parts = std::mem::take(&mut self.parts);
        let Some(last) = parts.last() else { return };
        let first = (last.record + 1).saturating_sub(last.head.parts).max(self.segment);
        if (parts.iter().filter(|part| part.record >= self.segment).count() as u64) < last.record + 1 - first
        {
            self.doubtful = parts;
            return;
        }
        let key = parts[0].head.key;
        let doubtful = std::mem::take(&mut self.doubtful);
        // Names that are given again were not confirmed before.
        if doubtful.last().is_some_and(|part| part.head.key.epoch != key.epoch || part.head.key.seq < key.seq)
        {
            doubtful.iter().for_each(|part| self.batch(part));
        }
        parts.iter().for_each(|part| self.batch(part));
        parts.clear();
        self.parts = parts;
    }

    /// The batch before is damaged: how far it went is known all the same.
    fn stand(&mut self, number: u64, standing: Standing) {
        if standing.position > self.state.position {
            self.state.reached(standing.position, standing.open);
            self.state.before = standing.before;
            (self.counted, self.chained) = (true, number);
        }
    }

    /// A loss that became one with the record `since`; `number` is its own record, 0 without one.
    fn lose(&mut self, since: u64, number: u64, size: usize, loss: &Loss) {
        let epoch = self.epoch(loss.key.epoch);
        let order = (epoch, loss.key.seq);
        self.noted(epoch, loss.key.seq, number);
        let batch = self.state.entry(order);
        // What is a loss already was noted as one, and is merely written again.
        let done = self.state.epochs.get(&epoch).is_some_and(|epoch| epoch.done.contains(order.1));
        if since >= self.cursor_at && !done && !batch.is_some_and(|batch| batch.loss) {
            let newly = batch.map_or_else(|| loss.counts.clone(), |batch| batch.newly_lost(&loss.counts));
            let alone = batch.is_none() && loss.counts.is_empty();
            self.state.lost.note(&newly, loss.t0, loss.t1);
            // One without counts is of a run whose last has them.
            let damaged = newly.get(Cause::Damaged);
            if damaged > 0 || alone {
                self.state.damage.note_batch(order.1, (loss.t0, loss.t1), damaged);
            }
        }
        let batch = self.state.entry(order);
        let more = batch.map_or_else(Counts::new, |batch| batch.unthinned(&loss.counts));
        let entry = Entry::of_loss(number, size, loss, batch);
        self.state.before.merge(&more);
        if number >= self.cursor_at {
            self.unthinned.merge(&more);
        }
        self.insert(order, entry);
    }

    fn define(&mut self, definitions: &[u8]) {
        for (number, def) in wire::definitions::decode(definitions).unwrap_or_default() {
            let series = self.table.restore(def);
            self.numbering.restore(series, number);
            if let Some(def) = self.table.get(series) {
                self.state.names.insert(number, def);
            }
        }
    }

    /// What may have been sent: what the batch itself or the cursor says, and all when there is none.
    fn offered(&self, epoch: u32, head: &Head) -> bool {
        let marked = self.state.epochs.get(&epoch).is_some_and(|epoch| head.key.seq <= epoch.offered);
        head.offered || marked || self.cursor_at == 0
    }

    fn batch(&mut self, part: &Part) {
        let Part { record, head, bytes, size } = part;
        let epoch = self.epoch(head.key.epoch);
        let order = (epoch, head.key.seq);
        self.noted(epoch, head.key.seq, *record);
        self.state.before.clone_from(&head.before);
        self.state.before.merge(&head.counts);
        self.state.reached(head.last_position, head.open);
        (self.counted, self.chained) = (true, *record);
        let offered = self.offered(epoch, head);
        // Written again after a failed fsync it says nothing new.
        let since = if self.state.entry(order).is_some() { 0 } else { *record };
        if since >= self.cursor_at {
            self.state.lost.note(&head.counts, head.t0, head.t1);
        }
        self.insert(order, Entry::of_batch(*record, head, *bytes, *size, None, offered));
        for loss in &head.replaces {
            self.lose(since, 0, 0, loss);
        }
    }

    fn insert(&mut self, order: Order, entry: Entry) {
        if self.state.epochs.get(&order.0).is_some_and(|epoch| epoch.done.contains(order.1)) {
            self.done.insert(entry.record, entry);
        } else {
            // What came with a batch has no record of its own, by which it could be renamed.
            if entry.record > 0 {
                self.at.insert(entry.record, order);
            }
            self.state.insert(order, entry);
        }
    }

    /// Takes an entry out of a name that it no longer has.
    fn rename(&mut self, from: Order, record: u64) -> Option<Entry> {
        let entry = self.state.take(from);
        if let Some(epoch) = self.state.epochs.get_mut(&from.0) {
            epoch.done.insert(from.1);
            epoch.last_record = epoch.last_record.max(record);
        }
        entry
    }

    /// The epoch's number; a batch names it before anything else does when the cursor is lost.
    pub(crate) fn epoch(&mut self, id: Epoch) -> u32 {
        match self.state.number_of(id) {
            Some(number) => number,
            None => self.state.begin(id),
        }
    }

    pub(crate) fn noted(&mut self, epoch: u32, seq: u64, record: u64) {
        if let Some(epoch) = self.state.epochs.get_mut(&epoch) {
            epoch.next_seq = epoch.next_seq.max(seq + 1);
            epoch.last_record = epoch.last_record.max(record);
        }
    }

    /// Fills the holes that damage left. Gives the state, the numbering and how many batches are gone: none where something is
    /// withheld, for then nobody knows.
    pub(crate) fn finish(mut self, cursor: Option<&Cursor>) -> (State, Numbering, u64) {
        for part in std::mem::take(&mut self.doubtful) {
            let key = part.head.key;
            let known = |cursor: &Cursor| {
                cursor.epochs.iter().any(|epoch| epoch.id == key.epoch && key.seq < epoch.next_seq)
            };
            if cursor.is_some_and(known) {
                self.batch(&part);
            }
        }
        let settled = cursor.is_some_and(|cursor| cursor.settled.is_some());
        let mut gone = std::mem::take(&mut self.gone);
        if let Some(cursor) = cursor {
            // Batches at the end that the cursor knows of and the log has lost.
            let more = difference(&cursor.before, &self.state.before);
            if self.cursor_at > self.chained {
                self.state.before.clone_from(&cursor.before);
                self.state.before.merge(&self.unthinned);
                self.chained = self.cursor_at;
            }
            if self.counted {
                gone.merge(&more);
            }
        }
        self.take_back();
        if self.withheld.is_some() {
            return (self.state, self.numbering, 0);
        }
        let held = |state: &State| {
            let mut held = Counts::new();
            state.entries().for_each(|(_, entry)| held.merge(&kept(&entry.counts.counts())));
            held
        };
        if settled {
            // All that was ever cut, without what is done and what is there: exact, whatever is damaged.
            let mut there = held(&self.state);
            there.merge(&self.state.settled);
            gone = difference(&kept(&self.state.before), &there);
        }
        let mut runs: Vec<(u32, RangeInclusive<u64>)> = Vec::new();
        for (&number, epoch) in &mut self.state.epochs {
            // Without a cursor nobody knows what was released: the log begins with the first that is there.
            let known = cursor.is_some();
            let first = match (known, epoch.entries.first_key_value()) {
                (true, _) => epoch.done.upto() + 1,
                (false, Some((first, _))) => *first,
                (false, None) => epoch.next_seq,
            };
            if !known && first > 1 {
                epoch.done.insert_range(1, first - 1);
            }
            let missing = (first..epoch.next_seq)
                .filter(|seq| !epoch.done.contains(*seq) && !epoch.entries.contains_key(seq));
            missing.for_each(|seq| match runs.last_mut() {
                Some((of, run)) if *of == number && *run.end() + 1 == seq => *run = *run.start()..=seq,
                _ => runs.push((number, seq..=seq)),
            });
        }
        let damaged = runs.iter().map(|(_, run)| run.end() - run.start() + 1).sum::<u64>();
        // What a batch behind a run says was in it. The rest was in one with none behind it.
        let mut known: Vec<Counts> = Vec::new();
        for (number, run) in &runs {
            let said = self.gaps.get(&(*number, run.end() + 1));
            let counts = said.map_or_else(Counts::new, |said| least(said, &gone));
            gone = difference(&gone, &counts);
            known.push(counts);
        }
        if let Some(last) = known.last_mut() {
            last.merge(&gone);
        }
        for ((number, run), counts) in runs.into_iter().zip(known) {
            self.lose_run(number, run, counts);
        }
        if !settled {
            // From here on it is known.
            self.state.settled = difference(&kept(&self.state.before), &held(&self.state));
        }
        self.state.dirty = true;
        (self.state, self.numbering, damaged + self.unreadable)
    }

    /// Batches one after the other that are gone: losses with their names. Where heads still tell what each of them held,
    /// each says so. Else the counts go with the last: where the collector has some of them, those are the first, and then
    /// it needn't be told of them.
    fn lose_run(&mut self, number: u32, run: RangeInclusive<u64>, counts: Counts) {
        let Some(epoch) = self.state.epochs.get(&number) else { return };
        let (id, newest) = (epoch.id, *run.end());
        let (before, mut after) = (epoch.entries.range(..*run.start()), epoch.entries.range(newest..));
        let before = before.rev().find_map(|(_, entry)| entry.real_times()).map(|times| times.1);
        let after = after.find_map(|(_, entry)| entry.real_times()).map(|times| times.0);
        // Where it has a neighbour on one side only, the other end is what the cursor knows of all that waited.
        let near = match (before, after) {
            (Some(before), Some(after)) => Some((before, after)),
            (Some(before), None) => Some((before, self.waiting.map_or(before, |(_, to)| to.max(before)))),
            (None, Some(after)) => Some((self.waiting.map_or(after, |(from, _)| from.min(after)), after)),
            (None, None) => self.waiting,
        };
        // What the heads still tell is exact; without them it was between its neighbours, as far as anybody can say.
        let heads: Vec<_> =
            run.clone().map_while(|seq| self.remembered.get(&BatchKey { epoch: id, seq })).collect();
        let all = heads.len() as u64 == newest - run.start() + 1;
        let known = heads
            .iter()
            .filter_map(|head| head.times)
            .reduce(|one, two| (one.0.min(two.0), one.1.max(two.1)));
        let whole = match (known, near) {
            (Some(known), Some(near)) if !all => (known.0.min(near.0), known.1.max(near.1)),
            (Some(known), _) => known,
            (None, near) => near.unwrap_or_default(),
        };
        let each = if all { share(&heads, &counts) } else { None };
        let said: Vec<_> = match each {
            Some(each) => heads.iter().map(|head| head.times.unwrap_or(whole)).zip(each).collect(),
            None => run
                .clone()
                .map(|seq| (whole, if seq == newest { counts.clone() } else { Counts::new() }))
                .collect(),
        };
        for (seq, ((t0, t1), mut counts)) in run.zip(said) {
            // Some of it may have been lost before, and be counted as such.
            let lost: u64 = counts.iter().filter(|(cause, _)| cause.is_lost()).map(|(_, n)| n).sum();
            counts.add(Cause::Damaged, counts.get(Cause::Shipped).saturating_sub(lost));
            let loss = Loss { key: BatchKey { epoch: id, seq }, t0, t1, counts };
            // The cursor may be written before its record is: noted with that, it is noted once.
            if loss.counts.is_empty() || loss.counts.iter().any(|(cause, _)| cause.is_lost()) {
                self.state.found.insert((number, seq));
            }
            self.state.insert((number, seq), Entry::of_loss(0, 0, &loss, None));
        }
    }
}

/// True when the reader passed damage. Where whole records are missing a segment was released.
fn torn(reader: &mut seglog::Reader) -> bool {
    reader.take_gaps().iter().any(|gap| gap.bytes > 0)
}

/// A batch whose cut may lack parts.
struct Part {
    record: u64,
    head: Head,
    bytes: usize,
    size: usize,
}

/// A record without its payload.
enum Owned {
    Batch { head: Head, definitions: Vec<u8>, bytes: usize },
    Moved { head: Head, definitions: Vec<u8>, bytes: usize },
    Relabel { epoch: Epoch, moves: Vec<(u64, u64)>, standing: Standing },
    Loss(Loss, Standing),
    Echo(Echo),
}

fn owned(record: Record<'_>) -> Owned {
    match record {
        Record::Batch { head, definitions, payload } => {
            Owned::Batch { head, definitions: definitions.to_vec(), bytes: payload.len() }
        }
        Record::Moved { head, definitions, payload } => {
            Owned::Moved { head, definitions: definitions.to_vec(), bytes: payload.len() }
        }
        Record::Relabel { epoch, moves, standing } => Owned::Relabel { epoch, moves, standing },
        Record::Loss(loss, standing) => Owned::Loss(loss, standing),
        Record::Echo(echo) => Owned::Echo(echo),
    }
}
