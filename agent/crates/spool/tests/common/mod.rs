//! What the tests share: a spool on a simulated disk, rows that can be told apart, and a collector
//! that keeps what it is sent as ours does: by name and checksum, once.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use seglog::sim::SimDisk;
use spool::{Class, ClassRule, Overflow, Priority, Recovery, Spool, SpoolConfig};
use telemetry::{Cause, Counts, Epoch, Lane, Rows, SeriesDef, SeriesKey, SeriesTable, Stamp, clock};
use wire::{RangeSet, v1};

pub const SECOND: i64 = 1_000_000_000;

pub fn config() -> SpoolConfig {
    SpoolConfig {
        segment_bytes: 4096,
        batch_bytes: 400,
        min_free_bytes: 0,
        ..SpoolConfig::new(PathBuf::from("/spool"))
    }
}

pub fn open(disk: &SimDisk, config: SpoolConfig) -> (Spool, Recovery, Arc<SeriesTable>) {
    let table = SeriesTable::new(1000);
    let (spool, recovery) = Spool::open(config, disk.storage(), Arc::clone(&table), "test").unwrap();
    (spool, recovery, table)
}

/// Somebody vouches for a clock that is later than all readings of a test.
pub fn witness(spool: &Spool) {
    spool.witness(Stamp { wall: 4 * clock::SET_AFTER, mono: 0 });
}

/// The rows of one record: `n` samples whose values are position·1000 + index, so each is unique.
pub fn rows(table: &SeriesTable, position: u64, n: u64) -> Rows {
    let mut rows = Rows::default();
    for at in 0..n {
        let key = SeriesKey::new("m", [("device", format!("d{}", (position + at) % 7))]).unwrap();
        let series = table.intern(SeriesDef::bare(key)).unwrap();
        rows.push_sample(series, position as i64 * SECOND, (position * 1000 + at) as f64, 0);
    }
    rows.count(Cause::Received, n);
    rows
}

/// Readings of these devices (a glob) are of a class.
pub fn class(device: &str, priority: Priority, overflow: Overflow) -> ClassRule {
    ClassRule {
        name: Some("m".into()),
        labels: [("device".to_owned(), device.to_owned())].into(),
        min_severity: None,
        class: Class { priority, overflow },
    }
}

/// A collector of one agent.
#[derive(Default)]
pub struct Collector {
    /// Checksums by (epoch, seq).
    pub stored: BTreeMap<(Vec<u8>, u64), Vec<u8>>,
    pub lost: BTreeMap<(Vec<u8>, u64), v1::Loss>,
    /// Every value that was stored, with how often.
    pub values: BTreeMap<u64, usize>,
    pub counts: Counts,
    /// Rows of windows that were stored, how many samples are in them, and their sum.
    pub windows: u64,
    pub windowed: u64,
    pub window_sum: f64,
    /// Definitions by (epoch, number).
    pub definitions: BTreeMap<(Vec<u8>, u32), SeriesDef>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Stored,
    Duplicate,
    Conflict(Vec<u8>),
    NeedDefinitions(Vec<u32>),
}

impl Collector {
    pub fn take(&mut self, batch: &v1::Batch) -> Answer {
        assert!(wire::fits(&batch.checksum[..].try_into().unwrap(), &batch.payload));
        let key = (batch.epoch.clone(), batch.seq);
        if let Some(checksum) = self.stored.get(&key) {
            return if *checksum == batch.checksum {
                Answer::Duplicate
            } else {
                Answer::Conflict(checksum.clone())
            };
        }
        if self.lost.contains_key(&key) {
            return Answer::Duplicate;
        }
        let definitions = wire::definitions::decode(&batch.definitions).unwrap();
        let known = |number: u32| self.definitions.get(&(batch.epoch.clone(), number));
        if definitions.iter().any(|(number, def)| known(*number).is_some_and(|known| known != def)) {
            // Two clones gave one number to two series.
            return Answer::Conflict(vec![0; 16]);
        }
        for (number, def) in definitions {
            self.definitions.insert((batch.epoch.clone(), number), def);
        }
        let payload = wire::payload::decode(&batch.payload).unwrap();
        let undefined: Vec<u32> = payload
            .samples
            .ids
            .iter()
            .copied()
            .chain(payload.windows.iter().map(|row| row.id))
            .filter(|number| !self.definitions.contains_key(&(batch.epoch.clone(), *number)))
            .collect();
        if !undefined.is_empty() {
            return Answer::NeedDefinitions(undefined);
        }
        for (number, time, value, _) in payload.samples() {
            *self.values.entry(value as u64).or_default() += 1;
            let device = (value as u64 / 1000 + value as u64 % 1000) % 7;
            let def = &self.definitions[&(batch.epoch.clone(), number)];
            assert_eq!(
                def.key.label("device"),
                Some(&*format!("d{device}")),
                "a value went to another series"
            );
            assert_eq!(time, value as i64 / 1000 * SECOND);
        }
        for row in &payload.windows {
            self.windows += 1;
            self.windowed += row.count;
            self.window_sum += row.sum;
        }
        self.counts.merge(&payload.counts);
        self.stored.insert(key, batch.checksum.clone());
        Answer::Stored
    }

    pub fn take_loss(&mut self, loss: &v1::Loss) {
        let key = (loss.epoch.clone(), loss.seq);
        if self.stored.contains_key(&key) || self.lost.contains_key(&key) {
            return;
        }
        for count in &loss.counts {
            self.counts.add(Cause::from_code(count.cause as u8).unwrap(), count.count);
        }
        self.lost.insert(key, loss.clone());
    }

    pub fn held(&self, epoch: &[u8]) -> RangeSet {
        let mut held = RangeSet::new();
        for (key, seq) in self.stored.keys().chain(self.lost.keys()) {
            if key == epoch {
                held.insert(*seq);
            }
        }
        held
    }

    pub fn holdings(&self, epochs: &BTreeSet<Vec<u8>>) -> Vec<v1::Holdings> {
        epochs
            .iter()
            .map(|epoch| self.held(epoch).to_holdings(epoch.as_slice().try_into().unwrap()))
            .collect()
    }

    /// The collector's greeting for a hello: holdings and conflicts.
    pub fn greeting(&self, hello: &spool::Held) -> (Vec<v1::Holdings>, Vec<v1::Held>) {
        let mut epochs: BTreeSet<Vec<u8>> = hello.unacked.iter().map(|held| held.epoch.clone()).collect();
        epochs.insert(hello.epoch.0.to_vec());
        let conflicts = hello.unacked.iter().filter_map(|held| {
            let stored = self.stored.get(&(held.epoch.clone(), held.seq))?;
            let other = *stored != held.checksum;
            other.then(|| v1::Held { checksum: stored.clone(), ..held.clone() })
        });
        (self.holdings(&epochs), conflicts.collect())
    }

    /// One whole session: greets, takes everything, acks it.
    pub fn drain(&mut self, spool: &Spool) {
        let (holdings, conflicts) = self.greeting(&spool.hello());
        spool.greet(&holdings, &conflicts).unwrap();
        loop {
            let Some(batch) = any(spool) else { break };
            match self.take(&batch) {
                Answer::Stored | Answer::Duplicate => self.ack(spool, &batch.epoch, batch.seq),
                Answer::Conflict(checksum) => spool.conflict(key(&batch), &checksum).unwrap(),
                Answer::NeedDefinitions(numbers) => spool.need_definitions(key(&batch), &numbers),
            }
        }
        while let Some(loss) = spool.next_loss() {
            self.take_loss(&loss);
            self.ack(spool, &loss.epoch, loss.seq);
        }
        spool.session_lost();
    }

    fn ack(&self, spool: &Spool, epoch: &[u8], seq: u64) {
        let range = v1::Range { first: seq, last: seq };
        spool.acked(&[v1::Holdings { epoch: epoch.to_vec(), upto: 0, ranges: vec![range] }]).unwrap();
    }
}

pub fn key(batch: &v1::Batch) -> telemetry::BatchKey {
    telemetry::BatchKey { epoch: Epoch(batch.epoch.as_slice().try_into().unwrap()), seq: batch.seq }
}

/// The next batch of either lane.
pub fn any(spool: &Spool) -> Option<v1::Batch> {
    let live = spool.next(Lane::Live, 0).unwrap();
    live.or_else(|| spool.next(Lane::Backlog, 0).unwrap())
}
