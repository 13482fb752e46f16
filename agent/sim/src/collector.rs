//! The reference collector: what the real one does with frames, in the fewest words. Ledger, commit,
//! then ack; a crash loses what was not committed and nothing else.

use std::collections::{BTreeMap, VecDeque};

use prost::Message;
use telemetry::{Cause, Counts, SeriesDef};
use wire::v1::{self, from_agent, from_collector};
use wire::{Checksum, RangeSet};

use crate::clock::{Time, WALL};
use crate::readings::Readings;

/// A connection's number.
pub type Conn = usize;
type Epoch = Vec<u8>;

/// What the collector makes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Stored,
    Duplicate,
    Conflict(Vec<u8>),
    NeedDefinitions(Vec<u32>),
    /// The same though they are known; only by order of the plan.
    Forgot(Vec<u32>),
    /// Refused for good; only by order of the plan.
    Refused,
}

/// One numbering's part of the ledger.
#[derive(Default)]
struct Ledger {
    held: RangeSet,
    checksums: BTreeMap<u64, Checksum>,
    /// Refused because a number of theirs names another series here. Nothing is held then: the agent leaves the
    /// epoch, and what was in them comes under another.
    clashed: Vec<u64>,
}

/// A frame that waits for its commit.
struct Waiting {
    conn: Conn,
    bytes: u64,
    frame: from_agent::Frame,
}

/// A frame that was committed, and what it came to.
pub struct Committed {
    pub frame: from_agent::Frame,
    pub outcome: Outcome,
}

/// What a crash leaves is everything but `queue`, `sessions` and the orders of the plan.
#[derive(Default)]
pub struct Collector {
    ledger: BTreeMap<Epoch, Ledger>,
    definitions: BTreeMap<(Epoch, u32), SeriesDef>,
    /// Counts by cause of all batches and losses.
    pub counts: Counts,
    /// Rows stored.
    pub rows: u64,
    queue: VecDeque<Waiting>,
    /// Of each session: bytes of all parts that came, and what came of the batch that is on its way in parts.
    parts: BTreeMap<Conn, (u64, Vec<u8>)>,
    /// What each session has answered as stored.
    sessions: BTreeMap<Conn, BTreeMap<Epoch, RangeSet>>,
    /// Ask for definitions of this many batches though they are known.
    pub forget: u32,
    /// Refuse this many batches for good.
    pub refuse: u32,
}

impl Collector {
    /// Kills it.
    pub fn crash(&mut self) {
        self.queue.clear();
        self.sessions.clear();
        self.parts.clear();
    }

    /// A session ended.
    pub fn hang_up(&mut self, conn: Conn) {
        self.sessions.remove(&conn);
        self.parts.remove(&conn);
    }

    /// A part came: gives the bytes of all parts so far, and the batch when it is whole.
    pub fn part(&mut self, conn: Conn, part: &v1::Part) -> (u64, Option<v1::Batch>) {
        let (taken, batch) = self.parts.entry(conn).or_default();
        *taken += part.data.len() as u64;
        if part.offset == 0 {
            batch.clear();
        }
        assert_eq!(part.offset as usize, batch.len(), "parts come in order");
        batch.extend_from_slice(&part.data);
        let whole = batch.len() == part.size as usize;
        let batch = whole.then(|| v1::Batch::decode(batch.as_slice()).expect("the parts of a batch are one"));
        (*taken, batch)
    }

    /// Drops what waits for a commit; gives each session's payload bytes of it.
    pub fn forget_waiting(&mut self) -> Vec<(Conn, u64)> {
        let mut bytes: BTreeMap<Conn, u64> = self.sessions.keys().map(|conn| (*conn, 0)).collect();
        for waiting in self.queue.drain(..) {
            *bytes.entry(waiting.conn).or_default() += waiting.bytes;
        }
        bytes.into_iter().collect()
    }

    /// Frames that wait for a commit.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// The first frame of a session.
    pub fn greet(
        &mut self,
        conn: Conn,
        hello: &v1::Hello,
        credit: u64,
        parts: bool,
        now: Time,
    ) -> v1::Greeting {
        let mut epochs = vec![hello.epoch.clone()];
        for held in &hello.unacked {
            if !epochs.contains(&held.epoch) {
                epochs.push(held.epoch.clone());
            }
        }
        let held =
            |epoch: &Epoch| self.ledger.get(epoch).map(|ledger| ledger.held.clone()).unwrap_or_default();
        let holdings = epochs.iter().map(|epoch| holdings(epoch, &held(epoch))).collect();
        let conflicts = hello.unacked.iter().filter_map(|held| {
            let known = self.ledger.get(&held.epoch)?.checksums.get(&held.seq)?;
            let theirs = v1::Held { checksum: known.to_vec(), ..held.clone() };
            (known[..] != held.checksum[..]).then_some(theirs)
        });
        let greeting = v1::Greeting {
            wire: uplink::WIRE,
            collector: "reference".into(),
            holdings,
            conflicts: conflicts.collect(),
            credit_bytes: credit,
            parts,
            max_batch_bytes: 1 << 20,
            wall_ns: WALL + now as i64,
        };
        self.sessions.insert(conn, BTreeMap::new());
        greeting
    }

    /// A frame of an open session: a batch or a loss waits for the next commit.
    pub fn take(&mut self, conn: Conn, frame: from_agent::Frame) {
        if !self.sessions.contains_key(&conn) {
            return;
        }
        let bytes = match &frame {
            from_agent::Frame::Batch(batch) => batch.payload.len() as u64,
            from_agent::Frame::Loss(_) => 0,
            _ => return,
        };
        self.queue.push_back(Waiting { conn, bytes, frame });
    }

    /// Commits what waits, at most `group` frames. Gives what was committed, and what is to be said to whom.
    pub fn commit(
        &mut self,
        group: usize,
        now: Time,
        readings: &mut Readings,
    ) -> (Vec<Committed>, Vec<(Conn, from_collector::Frame)>) {
        let mut committed = Vec::new();
        let mut fresh: BTreeMap<(Conn, Epoch), Vec<u64>> = BTreeMap::new();
        let mut credit: BTreeMap<Conn, u64> = BTreeMap::new();
        let mut answers = Vec::new();
        for _ in 0..group.min(self.queue.len()) {
            let Some(Waiting { conn, bytes, frame }) = self.queue.pop_front() else { break };
            let (outcome, epoch, seq) = match &frame {
                from_agent::Frame::Batch(batch) => {
                    (self.batch(batch, now, readings), batch.epoch.clone(), batch.seq)
                }
                from_agent::Frame::Loss(loss) => (self.loss(loss), loss.epoch.clone(), loss.seq),
                _ => continue,
            };
            *credit.entry(conn).or_default() += bytes;
            match &outcome {
                Outcome::Stored | Outcome::Duplicate => fresh.entry((conn, epoch)).or_default().push(seq),
                Outcome::Conflict(checksum) => {
                    let conflict = v1::Conflict { epoch, seq, checksum: checksum.clone() };
                    answers.push((conn, from_collector::Frame::Conflict(conflict)));
                }
                Outcome::NeedDefinitions(series) | Outcome::Forgot(series) => {
                    let need = v1::NeedDefinitions { epoch, seq, series: series.clone() };
                    answers.push((conn, from_collector::Frame::NeedDefinitions(need)));
                }
                Outcome::Refused => {
                    let refusal = v1::Refusal { epoch, seq, cause: "content".into(), message: String::new() };
                    answers.push((conn, from_collector::Frame::Refusal(refusal)));
                }
            }
            committed.push(Committed { frame, outcome });
        }
        let mut said = Vec::new();
        for ((conn, epoch), seqs) in fresh {
            let Some(session) = self.sessions.get_mut(&conn) else { continue };
            let held = session.entry(epoch.clone()).or_default();
            seqs.iter().for_each(|seq| _ = held.insert(*seq));
            let ack = v1::Ack { holdings: vec![about(&epoch, held, &seqs)] };
            said.push((conn, from_collector::Frame::Ack(ack)));
        }
        said.extend(answers);
        for (conn, bytes) in credit {
            said.push((conn, from_collector::Frame::Credit(v1::Credit { bytes })));
        }
        (committed, said)
    }

    fn batch(&mut self, batch: &v1::Batch, now: Time, readings: &mut Readings) -> Outcome {
        let checksum: Checksum = batch.checksum[..].try_into().expect("a checksum has 16 bytes");
        assert!(wire::fits(&checksum, &batch.payload), "a payload doesn't fit its checksum");
        let payload = wire::payload::decode(&batch.payload).expect("a payload is understood");
        let series: Vec<u32> =
            payload.samples.ids.iter().copied().chain(payload.windows.iter().map(|row| row.id)).collect();
        let ledger = self.ledger.entry(batch.epoch.clone()).or_default();
        if ledger.held.contains(batch.seq) {
            let known = ledger.checksums.get(&batch.seq);
            return match known {
                Some(known) if *known != checksum => Outcome::Conflict(known.to_vec()),
                _ => Outcome::Duplicate,
            };
        }
        if self.refuse > 0 {
            self.refuse -= 1;
            for (_, _, value, _) in payload.samples() {
                readings.all[value as usize].refused = true;
            }
            // Of a series that it doesn't know yet the real one would ask first.
            for row in &payload.windows {
                if let Some(device) = self.device_in(batch, row.id) {
                    add(&mut readings.refused, device, row.count, row.sum);
                }
            }
            return Outcome::Refused;
        }
        if self.forget > 0 && !series.is_empty() {
            self.forget -= 1;
            return Outcome::Forgot(series);
        }
        let definitions = wire::definitions::decode(&batch.definitions).expect("definitions are understood");
        let known = |number: u32| self.definitions.get(&(batch.epoch.clone(), number));
        if definitions.iter().any(|(number, def)| known(*number).is_some_and(|known| known != def)) {
            // Two clones gave one number to two series.
            if let Some(ledger) = self.ledger.get_mut(&batch.epoch) {
                ledger.clashed.push(batch.seq);
            }
            return Outcome::Conflict(vec![0; 16]);
        }
        let mut defined: BTreeMap<u32, SeriesDef> = definitions.into_iter().collect();
        let missing: Vec<u32> = series
            .iter()
            .copied()
            .filter(|number| !defined.contains_key(number) && known(*number).is_none())
            .collect();
        if !missing.is_empty() {
            return Outcome::NeedDefinitions(missing);
        }
        for (number, def) in std::mem::take(&mut defined) {
            self.definitions.insert((batch.epoch.clone(), number), def);
        }
        let ledger = self.ledger.entry(batch.epoch.clone()).or_default();
        ledger.held.insert(batch.seq);
        ledger.checksums.insert(batch.seq, checksum);
        self.counts.merge(&payload.counts);
        self.rows += (payload.samples.values.len() + payload.windows.len() + payload.events.len()) as u64;
        self.store(&batch.epoch, &payload, now, readings);
        Outcome::Stored
    }

    /// The same of a batch that isn't stored: its definitions come with it, or are known.
    fn device_in(&self, batch: &v1::Batch, number: u32) -> Option<u32> {
        let with = wire::definitions::decode(&batch.definitions).unwrap_or_default();
        let with = with.into_iter().find(|(defined, _)| *defined == number).map(|(_, def)| def);
        let def = with.or_else(|| self.definitions.get(&(batch.epoch.clone(), number)).cloned())?;
        def.key.label("device")?[1..].parse().ok()
    }

    fn device(&self, epoch: &[u8], number: u32) -> u32 {
        let def = &self.definitions[&(epoch.to_vec(), number)];
        def.key
            .label("device")
            .and_then(|name| name[1..].parse().ok())
            .expect("a device's name is its number")
    }

    /// Which of its device's series it is: the last part of its name.
    fn series(&self, epoch: &[u8], number: u32) -> u32 {
        let name = self.definitions[&(epoch.to_vec(), number)].key.name();
        let of = name.rsplit_once('.').and_then(|(_, series)| series.parse().ok());
        of.expect("a series' name ends with its number")
    }

    fn store(&self, epoch: &[u8], payload: &wire::payload::Payload, now: Time, readings: &mut Readings) {
        for (number, time, value, _) in payload.samples() {
            let reading = &mut readings.all[value as usize];
            assert_eq!(reading.device, self.device(epoch, number), "reading {value} went to another series");
            assert_eq!(reading.time, time, "reading {value} has another time");
            reading.times += 1;
            reading.stored.get_or_insert(now);
        }
        for row in &payload.windows {
            let device = self.device(epoch, row.id);
            add(&mut readings.windows, device, row.count, row.sum);
            let span = (row.start, row.start.saturating_add(row.length));
            readings.windowed(device, self.series(epoch, row.id), span, row.count);
        }
    }

    fn loss(&mut self, loss: &v1::Loss) -> Outcome {
        let ledger = self.ledger.entry(loss.epoch.clone()).or_default();
        if !ledger.held.insert(loss.seq) {
            return Outcome::Duplicate;
        }
        for count in &loss.counts {
            let cause = Cause::from_code(count.cause as u8).expect("a cause has a known code");
            self.counts.add(cause, count.count);
        }
        Outcome::Stored
    }

    /// Of each epoch: up to where it has no other hole than batches that clashed, and the newest seq there is.
    pub fn numberings(&self) -> impl Iterator<Item = (&[u8], u64, u64)> {
        self.ledger.iter().map(|(epoch, ledger)| {
            let mut settled = ledger.held.clone();
            ledger.clashed.iter().for_each(|seq| _ = settled.insert(*seq));
            (epoch.as_slice(), settled.upto(), settled.max().unwrap_or(0))
        })
    }
}

/// Adds a window to what its device has.
fn add(windows: &mut BTreeMap<u32, (u64, f64)>, device: u32, count: u64, sum: f64) {
    let of = windows.entry(device).or_default();
    (of.0, of.1) = (of.0 + count, of.1 + sum);
}

fn holdings(epoch: &[u8], held: &RangeSet) -> v1::Holdings {
    let upto = held.upto();
    let ranges = held.iter().filter(|(first, _)| *first > upto);
    let ranges = ranges.map(|(first, last)| v1::Range { first, last }).collect();
    v1::Holdings { epoch: epoch.to_vec(), upto, ranges }
}

/// What an ack says: up to the first hole, and the ranges above it that these seqs lie in.
fn about(epoch: &[u8], held: &RangeSet, seqs: &[u64]) -> v1::Holdings {
    let mut said = holdings(epoch, held);
    said.ranges.retain(|range| seqs.iter().any(|seq| (range.first..=range.last).contains(seq)));
    said
}
