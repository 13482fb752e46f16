//! Whatever happens in whatever order — crashes, failed fsyncs, full disks, lost sessions, lost and
//! reordered acks, clones of a disk — each reading is stored exactly once, under a name whose bytes
//! never change, and an epoch's seqs have no gaps.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{Answer, Collector, SECOND, class, config, key, rows};
use proptest::prelude::*;
use seglog::sim::SimDisk;
use spool::{ClassRule, Overflow, Priority, Spool, SpoolConfig};
use telemetry::{Cause, Lane, Rows, SeriesTable};
use wire::{RangeSet, v1};

/// What can happen.
#[derive(Clone, Debug)]
enum Step {
    /// A record with this many samples is folded.
    Fold(u64),
    /// The clock moves on this many milliseconds and due batches are cut.
    Tick(u64),
    Cut,
    /// A batch is sent; `arrives` = the collector stores it, `acked` = and its ack is on its way.
    Send {
        live: bool,
        arrives: bool,
        acked: bool,
    },
    /// One of the acks under way arrives.
    Ack(usize),
    SessionLost,
    Greet,
    /// The fold's checkpoint: the journal may forget what is before it.
    Checkpoint,
    FailSync(u64),
    FailWrite(u64),
    /// The power goes after this many writing calls, or at once.
    PowerOff(u64),
    Restart,
    Full(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u64..60).prop_map(Step::Fold),
        4 => (0u64..9000).prop_map(Step::Tick),
        2 => Just(Step::Cut),
        8 => (any::<bool>(), prop::bool::weighted(0.8), prop::bool::weighted(0.8))
            .prop_map(|(live, arrives, acked)| Step::Send { live, arrives, acked }),
        6 => (0usize..8).prop_map(Step::Ack),
        1 => Just(Step::SessionLost),
        2 => Just(Step::Greet),
        2 => Just(Step::Checkpoint),
        1 => (0u64..6).prop_map(Step::FailSync),
        1 => (0u64..6).prop_map(Step::FailWrite),
        1 => (0u64..12).prop_map(Step::PowerOff),
        1 => Just(Step::Restart),
        1 => any::<bool>().prop_map(Step::Full),
    ]
}

/// A class for some of the devices.
fn rule() -> impl Strategy<Value = ClassRule> {
    let priority = prop_oneof![Just(Priority::Low), Just(Priority::Normal), Just(Priority::High)];
    let overflow = prop_oneof![
        Just(Overflow::DropOldest),
        Just(Overflow::DropNewest),
        Just(Overflow::Block),
        Just(Overflow::Thin(60 * SECOND)),
    ];
    (0..7u64, priority, overflow)
        .prop_map(|(device, priority, overflow)| class(&format!("d{device}"), priority, overflow))
}

/// One agent: its disk, its spool, the journal behind it.
struct Agent {
    disk: SimDisk,
    config: SpoolConfig,
    spool: Option<Spool>,
    table: Arc<SeriesTable>,
    /// Samples of each record, from position 1 on.
    journal: Vec<u64>,
    /// Added to values of records beyond the first `shared`: two clones' own readings differ.
    own: u64,
    shared: usize,
    /// Where the journal begins a new segment, at each start: a replay is cut there.
    starts: Vec<u64>,
    folded: u64,
    checkpoint: u64,
    now: Duration,
    acks: Vec<(Vec<u8>, u64)>,
    /// What the collector knows in this session to be stored: what acks are written from.
    held: BTreeMap<Vec<u8>, RangeSet>,
    /// What was ever seen under a name.
    offered: BTreeMap<(Vec<u8>, u64), Vec<u8>>,
    greeted: bool,
}

impl Agent {
    fn new(seed: u64) -> Self {
        Self::with(seed, config())
    }

    fn with(seed: u64, config: SpoolConfig) -> Self {
        let mut agent = Self {
            disk: SimDisk::new(seed),
            config,
            spool: None,
            table: SeriesTable::new(1000),
            journal: Vec::new(),
            own: 0,
            shared: usize::MAX,
            starts: Vec::new(),
            folded: 0,
            checkpoint: 0,
            now: Duration::ZERO,
            acks: Vec::new(),
            held: BTreeMap::new(),
            offered: BTreeMap::new(),
            greeted: false,
        };
        agent.start();
        agent
    }

    /// The same disk in another machine.
    fn clone_disk(&self, own: u64) -> Self {
        let disk = SimDisk::new(own);
        for path in self.disk.paths() {
            if !Path::new(&path).ends_with("lock") {
                disk.put(&path, &self.disk.read(&path).unwrap());
            }
        }
        let mut clone = Self {
            disk,
            config: self.config.clone(),
            spool: None,
            table: SeriesTable::new(1000),
            journal: self.journal.clone(),
            own,
            shared: self.journal.len(),
            starts: self.starts.clone(),
            acks: Vec::new(),
            held: BTreeMap::new(),
            offered: self.offered.clone(),
            ..*self
        };
        clone.start();
        clone
    }

    fn rows(&self, position: u64) -> Rows {
        let mut rows = rows(&self.table, position, self.journal[position as usize - 1]);
        if position as usize > self.shared {
            // 7,000,000 keeps the device that the collector checks.
            let own = self.own * 7_000_000;
            rows.values.iter_mut().for_each(|value| *value += own as f64);
            rows.times.iter_mut().for_each(|time| *time += own as i64 / 1000 * SECOND);
        }
        rows
    }

    /// Opens the spool and replays what the journal has behind the checkpoint.
    fn start(&mut self) {
        self.spool = None;
        self.disk.set_capacity(None);
        self.table = SeriesTable::new(1000);
        let opened = Spool::open(self.config.clone(), self.disk.storage(), Arc::clone(&self.table), "a");
        let (spool, recovery) = opened.unwrap();
        assert_eq!(recovery.damaged, 0, "{recovery:?}");
        self.now = Duration::ZERO;
        self.greeted = false;
        self.acks.clear();
        self.folded = self.checkpoint;
        self.spool = Some(spool);
        while (self.folded as usize) < self.journal.len() {
            if self.starts.contains(&self.folded) && self.spool().cut().is_err() {
                break;
            }
            if !self.fold_next(true) {
                break;
            }
        }
        drop(self.spool().cut());
        self.starts.push(self.journal.len() as u64);
    }

    fn spool(&self) -> &Spool {
        self.spool.as_ref().unwrap()
    }

    /// False when the spool doesn't take it now.
    fn fold_next(&mut self, recovering: bool) -> bool {
        let position = self.folded + 1;
        let taken = self.spool().append(position, &self.rows(position), recovering).is_ok();
        self.folded += u64::from(taken);
        taken
    }

    fn fold_all(&mut self) {
        while (self.folded as usize) < self.journal.len() && self.fold_next(false) {}
    }

    fn send(&mut self, collector: &mut Collector, live: bool, arrives: bool, acked: bool) {
        let lane = if live { Lane::Live } else { Lane::Backlog };
        let Ok(Some(batch)) = self.spool().next(lane, 0) else { return };
        let name = (batch.epoch.clone(), batch.seq);
        let before = self.offered.insert(name.clone(), batch.checksum.clone());
        assert!(
            before.is_none_or(|before| before == batch.checksum),
            "what was offered as {name:?} has changed"
        );
        if !arrives {
            return;
        }
        match collector.take(&batch) {
            Answer::Stored | Answer::Duplicate => {
                self.held.entry(name.0.clone()).or_default().insert(name.1);
                self.acks.extend(acked.then_some(name));
            }
            Answer::Conflict(checksum) => drop(self.spool().conflict(key(&batch), &checksum)),
            Answer::NeedDefinitions(numbers) => self.spool().need_definitions(key(&batch), &numbers),
        }
    }

    fn greet(&mut self, collector: &Collector) {
        self.spool().session_lost();
        self.acks.clear();
        let (holdings, conflicts) = collector.greeting(&self.spool().hello());
        self.held = holdings.iter().map(|held| (held.epoch.clone(), RangeSet::from_holdings(held))).collect();
        self.greeted = self.spool().greet(&holdings, &conflicts).is_ok();
    }

    fn take(&mut self, step: &Step, collector: &mut Collector) {
        match *step {
            Step::Fold(samples) => {
                self.journal.push(samples);
                self.fold_all();
            }
            Step::Tick(ms) => {
                self.now += Duration::from_millis(ms);
                drop(self.spool().cut_if_due(self.now));
            }
            Step::Cut => drop(self.spool().cut()),
            Step::Send { live, arrives, acked } if self.greeted => self.send(collector, live, arrives, acked),
            Step::Send { .. } => {}
            Step::Ack(at) if !self.acks.is_empty() => {
                let (epoch, seq) = self.acks.remove(at % self.acks.len());
                // As a range of its own, or as all that the collector has.
                let ranges = vec![v1::Range { first: seq, last: seq }];
                let holdings = match at % 2 {
                    0 => v1::Holdings { epoch, upto: 0, ranges },
                    _ => self.held[&epoch].to_holdings(epoch.as_slice().try_into().unwrap()),
                };
                self.spool().acked(&[holdings]).unwrap();
            }
            Step::Ack(_) => {}
            Step::SessionLost => {
                self.spool().session_lost();
                self.greeted = false;
                self.acks.clear();
            }
            Step::Greet => self.greet(collector),
            Step::Checkpoint => {
                let durable = self.spool().durable_position();
                assert!(durable <= self.folded);
                // The fold's state is that of all it has folded: a checkpoint is taken when nothing is pending.
                if durable == self.folded {
                    self.checkpoint = durable;
                }
            }
            Step::FailSync(calls) => self.disk.fail_sync_after(calls),
            Step::FailWrite(calls) => self.disk.fail_write_after(calls),
            Step::PowerOff(calls) => {
                self.disk.crash_after(calls);
                for ms in 0..4 {
                    self.now += Duration::from_millis(ms * 3000);
                    self.fold_all();
                    drop(self.spool().cut_if_due(self.now));
                }
                self.spool = None;
                self.disk.crash();
                self.start();
            }
            Step::Restart => self.start(),
            Step::Full(full) => {
                let used: usize =
                    self.disk.paths().iter().map(|path| self.disk.read(path).unwrap().len()).sum();
                self.disk.set_capacity(full.then_some(used as u64 + 600));
            }
        }
        assert!(self.spool().position() <= self.folded.max(self.checkpoint).max(self.journal.len() as u64));
    }

    /// All is well again: everything is folded, cut and stored.
    fn finish(&mut self, collector: &mut Collector) {
        self.disk.set_capacity(None);
        self.spool = None;
        self.disk.crash();
        self.start();
        for round in 0..100 {
            // What blocks goes on when the collector has made room.
            if round >= 4 && self.folded as usize == self.journal.len() {
                break;
            }
            self.fold_all();
            self.now += Duration::from_secs(10);
            drop(self.spool().cut_if_due(self.now));
            drop(self.spool().cut());
            collector.drain(self.spool());
        }
        assert_eq!(self.folded as usize, self.journal.len());
        let usage = self.spool().usage();
        assert_eq!((usage.batches, usage.in_flight, usage.pending_rows), (0, 0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 3000, ..ProptestConfig::default() })]

    #[test]
    fn each_reading_is_stored_exactly_once_whatever_fails_when(
        seed in any::<u64>(),
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut agent = Agent::new(seed);
        let mut collector = Collector::default();
        let epoch = agent.spool().usage().epoch;
        for step in &steps {
            agent.take(step, &mut collector);
        }
        agent.finish(&mut collector);
        let total: u64 = agent.journal.iter().sum();
        prop_assert_eq!(collector.values.len() as u64, total);
        prop_assert!(collector.values.values().all(|n| *n == 1), "stored twice");
        prop_assert_eq!(collector.counts.get(Cause::Received), total);
        prop_assert_eq!(collector.counts.get(Cause::Shipped), total);
        // Nobody else has this disk: one epoch, without gaps.
        let usage = agent.spool().usage();
        prop_assert_eq!(usage.epoch, epoch);
        prop_assert_eq!(collector.held(&epoch.unwrap().0).upto() + 1, usage.next_seq);
        prop_assert_eq!(collector.stored.keys().filter(|(id, _)| *id != epoch.unwrap().0).count(), 0);
    }

    #[test]
    fn over_its_cap_each_reading_is_stored_once_or_accounted_for_whatever_fails_when(
        seed in any::<u64>(),
        rules in proptest::collection::vec(rule(), 0..4),
        max_bytes in 9_000u64..40_000,
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut agent = Agent::with(seed, SpoolConfig { max_bytes, classes: rules, ..config() });
        let mut collector = Collector::default();
        for step in &steps {
            agent.take(step, &mut collector);
        }
        agent.finish(&mut collector);
        let total: u64 = agent.journal.iter().sum();
        let count = |cause| collector.counts.get(cause);
        prop_assert!(collector.values.values().all(|n| *n == 1), "stored twice");
        prop_assert_eq!(count(Cause::Received), total);
        prop_assert_eq!(count(Cause::Received) + count(Cause::Derived), count(Cause::ReducedWindow) + count(Cause::Shipped));
        let stored = collector.values.len() as u64 + collector.windows;
        prop_assert_eq!(count(Cause::Shipped), stored + count(Cause::Overflowed));
        prop_assert!(collector.windowed <= count(Cause::ReducedWindow));
        prop_assert_eq!(count(Cause::Damaged), 0);
        let usage = agent.spool().usage();
        prop_assert_eq!(collector.held(&usage.epoch.unwrap().0).upto() + 1, usage.next_seq);
    }

    #[test]
    fn clones_of_one_disk_neither_lose_nor_double_a_reading(
        seed in any::<u64>(),
        before in proptest::collection::vec(step(), 0..40),
        after in proptest::collection::vec((any::<bool>(), step()), 0..80),
    ) {
        // A full or failing disk is the other test's matter.
        let calm = |step: &Step| !matches!(step, Step::Full(_) | Step::FailSync(_) | Step::FailWrite(_));
        let mut first = Agent::new(seed);
        let mut collector = Collector::default();
        for step in before.iter().filter(|step| calm(step)) {
            first.take(step, &mut collector);
        }
        // The image is taken of a machine that is switched off, and both go on from it.
        first.spool = None;
        first.disk.crash();
        first.own = 1;
        first.shared = first.journal.len();
        let mut second = first.clone_disk(2);
        first.start();
        prop_assert_eq!(first.spool().hello(), second.spool().hello(), "they replay alike");
        for (one, step) in after.iter().filter(|(_, step)| calm(step)) {
            if *one { &mut first } else { &mut second }.take(step, &mut collector);
        }
        for _ in 0..2 {
            first.finish(&mut collector);
            second.finish(&mut collector);
        }
        let shared: u64 = first.journal[..first.shared].iter().sum();
        let own: u64 = first.journal[first.shared..].iter().chain(&second.journal[second.shared..]).sum();
        prop_assert!(collector.values.values().all(|n| *n == 1), "stored twice");
        prop_assert_eq!(collector.values.len() as u64, shared + own);
        prop_assert_eq!(collector.counts.get(Cause::Received), shared + own);
    }
}

/// Two batches whose fsync failed were found at a start that could not sync them either. The cursor named them then, so
/// after a power cut they counted as damaged, and the journal's rows as taken.
#[test]
fn what_a_start_could_not_sync_is_cut_again_after_a_power_cut() {
    let rules = vec![class("d0", Priority::Low, Overflow::DropOldest)];
    let config = SpoolConfig { max_bytes: 9_000, classes: rules, ..config() };
    let mut agent = Agent::with(5_936_099_875_540_386_175, config);
    let mut collector = Collector::default();
    for step in
        [Step::FailSync(0), Step::Fold(7), Step::Tick(0), Step::FailSync(0), Step::Restart, Step::Fold(0)]
    {
        agent.take(&step, &mut collector);
    }
    agent.finish(&mut collector);
    assert_eq!(collector.values.len(), 7);
    assert_eq!(collector.counts.get(Cause::Damaged), 0);
}
