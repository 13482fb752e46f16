//! What an input tells about itself in `status`: received, refused by cause, last reading, rate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use serde::Serialize;
use telemetry::{Cause, Counts, Stamp};

const BUCKETS: usize = 16;
/// The rate is an average over this many whole seconds.
const RATE_SECONDS: u64 = 10;
const CODES: usize = 128;

/// Counters of one input. All relaxed: they inform, nothing is decided by them.
#[derive(Debug)]
pub struct InputStats {
    causes: [AtomicU64; CODES],
    last_wall: AtomicI64,
    connections: AtomicI64,
    pushed_back: AtomicU64,
    accept_failures: AtomicU64,
    buckets: [(AtomicU64, AtomicU64); BUCKETS],
    parts: Mutex<Parts>,
}

/// What an input consists of that can stand alone: each of its ports. One that has several says how many ([`InputStats::expect`]).
#[derive(Debug)]
struct Parts {
    ports: u8,
    /// Those that ran, or could not, since the start.
    tried: BTreeSet<u8>,
    /// Why some don't run.
    troubles: BTreeMap<u8, String>,
}

impl Default for InputStats {
    fn default() -> Self {
        Self {
            causes: [const { AtomicU64::new(0) }; CODES],
            last_wall: AtomicI64::new(0),
            connections: AtomicI64::new(0),
            pushed_back: AtomicU64::new(0),
            accept_failures: AtomicU64::new(0),
            buckets: [const { (AtomicU64::new(0), AtomicU64::new(0)) }; BUCKETS],
            parts: Mutex::new(Parts { ports: 1, tried: BTreeSet::new(), troubles: BTreeMap::new() }),
        }
    }
}

/// The counters at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatsSnapshot {
    /// Readings that arrived, good or bad.
    pub received: u64,
    /// Readings refused or recognised as a resend, by cause.
    pub causes: Vec<(&'static str, u64)>,
    /// When the last reading was taken, nanoseconds since the epoch; `None` before the first.
    pub last_ns: Option<i64>,
    /// Readings a second, over the last ten whole seconds.
    pub rate: f64,
    /// Open connections, where the input has any.
    pub connections: i64,
    /// How often a sender was told to come back later because the journal was full.
    pub pushed_back: u64,
    /// How often a connection could not be accepted, for want of descriptors most likely.
    pub accept_failures: u64,
    /// Why it isn't running; `None` when it is.
    pub error: Option<String>,
}

impl InputStats {
    /// All zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// It has so many ports: it has been tried once each of them was.
    pub fn expect(&self, ports: u8) {
        self.parts.lock().ports = ports;
    }

    /// A part of it isn't running, and why; true when that is news.
    pub fn stumbled(&self, part: u8, why: &str) -> bool {
        let mut parts = self.parts.lock();
        parts.tried.insert(part);
        parts.troubles.insert(part, why.to_owned()).is_none_or(|before| before != why)
    }

    /// A part of it is running.
    pub fn recovered(&self, part: u8) {
        let mut parts = self.parts.lock();
        parts.tried.insert(part);
        parts.troubles.remove(&part);
    }

    /// Whether each of its ports ran, or could not, since the start.
    pub fn tried(&self) -> bool {
        let parts = self.parts.lock();
        (0..parts.ports).all(|port| parts.tried.contains(&port))
    }

    fn trouble(&self) -> Option<String> {
        let parts = self.parts.lock();
        let all: Vec<&str> = parts.troubles.values().map(String::as_str).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Takes in what one intake counted.
    pub fn note(&self, counts: &Counts, at: Stamp) {
        for (cause, n) in counts.iter() {
            self.causes[cause as usize % CODES].fetch_add(n, Relaxed);
        }
        let received = counts.get(Cause::Received);
        if received == 0 {
            return;
        }
        self.last_wall.store(at.wall, Relaxed);
        let second = at.mono / 1_000_000_000;
        let (of, sum) = &self.buckets[second as usize % BUCKETS];
        if of.swap(second, Relaxed) != second {
            sum.store(0, Relaxed);
        }
        sum.fetch_add(received, Relaxed);
    }

    /// A connection came.
    pub fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    /// A connection went.
    pub fn disconnected(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    /// A sender was told to come back later.
    pub fn pushed_back(&self) {
        self.pushed_back.fetch_add(1, Relaxed);
    }

    /// A connection could not be accepted.
    pub fn accept_failed(&self) {
        self.accept_failures.fetch_add(1, Relaxed);
    }

    /// The count of one cause.
    pub fn count(&self, cause: Cause) -> u64 {
        self.causes[cause as usize % CODES].load(Relaxed)
    }

    /// Reads the counters.
    pub fn snapshot(&self, now: Stamp) -> StatsSnapshot {
        let second = now.mono / 1_000_000_000;
        let recent: u64 = self
            .buckets
            .iter()
            .filter(|(of, _)| {
                let of = of.load(Relaxed);
                of < second && of + RATE_SECONDS >= second
            })
            .map(|(_, sum)| sum.load(Relaxed))
            .sum();
        let last = self.last_wall.load(Relaxed);
        StatsSnapshot {
            received: self.count(Cause::Received),
            causes: Cause::ALL
                .iter()
                .filter(|cause| **cause != Cause::Received)
                .map(|cause| (cause.name(), self.count(*cause)))
                .filter(|(_, n)| *n > 0)
                .collect(),
            last_ns: (last != 0).then_some(last),
            rate: recent as f64 / second.clamp(1, RATE_SECONDS) as f64,
            connections: self.connections.load(Relaxed),
            pushed_back: self.pushed_back.load(Relaxed),
            accept_failures: self.accept_failures.load(Relaxed),
            error: self.trouble(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_of_the_last_ten_whole_seconds() {
        let stats = InputStats::new();
        let at = |second: u64| Stamp { wall: 1, mono: second * 1_000_000_000 };
        let mut counts = Counts::new();
        counts.add(Cause::Received, 50);
        for second in 100..110 {
            stats.note(&counts, at(second));
        }
        assert_eq!(stats.snapshot(at(110)).rate, 50.0);
        assert_eq!(stats.snapshot(at(115)).rate, 25.0);
        assert_eq!(stats.snapshot(at(300)).rate, 0.0);
        assert_eq!(stats.snapshot(at(300)).received, 500);
    }

    #[test]
    fn an_input_of_two_ports_was_tried_when_both_were_and_one_that_runs_says_nothing_of_the_other() {
        let stats = InputStats::new();
        let error = || stats.snapshot(Stamp::default()).error;
        stats.expect(2);
        stats.recovered(0);
        assert!(!stats.tried() && error().is_none());
        assert!(stats.stumbled(1, "no certificate") && !stats.stumbled(1, "no certificate"));
        assert!(stats.tried());
        stats.recovered(0);
        assert_eq!(error().as_deref(), Some("no certificate"));
        assert!(stats.stumbled(0, "taken"));
        assert_eq!(error().as_deref(), Some("taken; no certificate"));
        stats.recovered(0);
        stats.recovered(1);
        assert_eq!((stats.tried(), error()), (true, None));
    }

    #[test]
    fn causes_are_listed_by_name_without_zeros() {
        let stats = InputStats::new();
        let mut counts = Counts::new();
        counts.add(Cause::Received, 2);
        counts.add(Cause::RejectedTime, 1);
        stats.note(&counts, Stamp::default());
        assert_eq!(stats.snapshot(Stamp::default()).causes, vec![("rejected_time", 1)]);
    }
}
