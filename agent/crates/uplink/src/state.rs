//! What can be seen of the link from outside: for `status`, for the log, never for decisions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use crate::config::LanesConfig;
use crate::drain::Drain;

/// Shared between the uplink, which writes it, and whoever shows it.
#[derive(Debug, Default)]
pub struct LinkState {
    inner: Mutex<Inner>,
    sent_batches: AtomicU64,
    sent_bytes: AtomicU64,
    acked_batches: AtomicU64,
    acked_bytes: AtomicU64,
    sessions: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    connected: bool,
    since_ns: i64,
    collector: String,
    last_error: String,
    skew_ns: Option<i64>,
    over: Over,
    lanes: LanesConfig,
    hours_closed: bool,
    drain: Drain,
    slow_down: Option<SlowDown>,
}

/// What carries the link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Over {
    /// `grpc` or `mqtt`; "" before the first attempt.
    pub transport: String,
    /// The address in use.
    pub url: String,
    /// True when that is `fallback_url`.
    pub fallback: bool,
}

/// The collector asked to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlowDown {
    /// When, nanoseconds since the epoch.
    pub at_ns: i64,
    /// Until when nothing is sent, as this agent drew it.
    pub until_ns: i64,
    /// The collector's words.
    pub reason: String,
}

impl SlowDown {
    pub(crate) fn new(at_ns: i64, pause: Duration, reason: String) -> Self {
        let pause = i64::try_from(pause.as_nanos()).unwrap_or(i64::MAX);
        Self { at_ns, until_ns: at_ns.saturating_add(pause), reason }
    }
}

/// What waits for the collector.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Backlog {
    /// Payload bytes that wait for an ack.
    pub bytes: u64,
    /// Batches that wait for an ack.
    pub batches: u64,
    /// Earliest event time that waits, nanoseconds since the epoch.
    pub oldest_ns: Option<i64>,
    /// Payload bytes acknowledged a second, averaged over the last ten seconds or so.
    pub drain_rate: f64,
    /// Seconds until nothing waits, as things go; absent while the backlog doesn't get smaller.
    pub caught_up_s: Option<f64>,
}

/// The limits in force: bytes per second, 0 = none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// The live lane's share, percent.
    pub live_share: u8,
    /// The backlog lane's share, percent.
    pub backlog_share: u8,
    /// In total.
    pub limit: u64,
    /// Of the live lane.
    pub live_limit: u64,
    /// Of the backlog lane.
    pub backlog_limit: u64,
    /// As configured.
    pub backlog_hours: Option<String>,
    /// Whether the backlog may travel at this hour.
    pub backlog_open: bool,
}

/// A reading of [`LinkState`].
#[derive(Clone, Debug, Serialize)]
pub struct LinkStatus {
    /// True between greeting and end of a session.
    pub connected: bool,
    /// When that last changed, nanoseconds since the epoch; 0 = never connected.
    pub since_ns: i64,
    /// What carries it, or is tried.
    #[serde(flatten)]
    pub over: Over,
    /// The collector's version.
    pub collector: String,
    /// Why the last session ended, "" before the first end.
    pub last_error: String,
    /// This host's clock minus the collector's, in milliseconds, as the greeting showed it.
    pub skew_ms: Option<f64>,
    /// Batches sent, resends included.
    pub sent_batches: u64,
    /// Payload bytes sent, resends included.
    pub sent_bytes: u64,
    /// Batches the collector acknowledged.
    pub acked_batches: u64,
    /// Payload bytes the collector acknowledged.
    pub acked_bytes: u64,
    /// Sessions opened since the start.
    pub sessions: u64,
    /// Envelopes from a broker that were passed over: wrongly signed, of another session or unreadable.
    pub dropped_envelopes: u64,
    /// What waits.
    pub backlog: Backlog,
    /// How the bandwidth is divided.
    pub lanes: Limits,
    /// The last time the collector asked to wait.
    pub slow_down: Option<SlowDown>,
}

impl LinkState {
    /// With the limits that will be in force.
    pub fn new(lanes: &LanesConfig) -> Self {
        let inner = Inner { lanes: lanes.clone(), ..Inner::default() };
        Self { inner: Mutex::new(inner), ..Self::default() }
    }

    pub(crate) fn over(&self, over: Over) {
        self.inner.lock().over = over;
    }

    pub(crate) fn up(&self, now: i64, collector: &str, skew_ns: i64) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.inner.lock();
        inner.connected = true;
        inner.since_ns = now;
        inner.collector = collector.to_owned();
        inner.skew_ns = Some(skew_ns);
        // Nothing was sent meanwhile: an average over that time would say nothing.
        inner.drain = Drain::default();
    }

    pub(crate) fn down(&self, now: i64, why: &str) {
        let mut inner = self.inner.lock();
        if inner.connected {
            inner.since_ns = now;
        }
        inner.connected = false;
        inner.last_error = why.to_owned();
    }

    pub(crate) fn hours(&self, open: bool) {
        self.inner.lock().hours_closed = !open;
    }

    pub(crate) fn slowed(&self, slow_down: SlowDown) {
        self.inner.lock().slow_down = Some(slow_down);
    }

    /// So many bytes wait now.
    pub(crate) fn waiting(&self, now: Duration, bytes: u64) {
        let acked = self.acked_bytes.load(Ordering::Relaxed);
        self.inner.lock().drain.observe(now, bytes, acked);
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.sent_batches.fetch_add(1, Ordering::Relaxed);
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn acked(&self, batches: u64, bytes: u64) {
        self.acked_batches.fetch_add(batches, Ordering::Relaxed);
        self.acked_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// An envelope was passed over; gives how many were.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The state now, with what the spool says of what waits.
    pub fn status(&self, usage: &spool::Usage) -> LinkStatus {
        let inner = self.inner.lock();
        let draining = inner.connected && usage.batches > 0;
        LinkStatus {
            connected: inner.connected,
            since_ns: inner.since_ns,
            over: inner.over.clone(),
            collector: inner.collector.clone(),
            last_error: inner.last_error.clone(),
            skew_ms: inner.skew_ns.map(|ns| ns as f64 / 1e6),
            sent_batches: self.sent_batches.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            acked_batches: self.acked_batches.load(Ordering::Relaxed),
            acked_bytes: self.acked_bytes.load(Ordering::Relaxed),
            sessions: self.sessions.load(Ordering::Relaxed),
            dropped_envelopes: self.dropped.load(Ordering::Relaxed),
            backlog: Backlog {
                bytes: usage.bytes,
                batches: usage.batches,
                oldest_ns: usage.oldest_ns,
                drain_rate: if inner.connected { inner.drain.rate() } else { 0.0 },
                caught_up_s: match (usage.batches, draining) {
                    (0, _) => Some(0.0),
                    (_, true) => inner.drain.caught_up(usage.bytes),
                    (_, false) => None,
                },
            },
            lanes: Limits {
                live_share: inner.lanes.live_share,
                backlog_share: inner.lanes.backlog_share,
                limit: inner.lanes.limit.0,
                live_limit: inner.lanes.live_limit.0,
                backlog_limit: inner.lanes.backlog_limit.0,
                backlog_hours: inner.lanes.backlog_hours.clone(),
                backlog_open: !inner.hours_closed,
            },
            slow_down: inner.slow_down.clone(),
        }
    }
}
