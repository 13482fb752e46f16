//! What can be seen of the link from outside: for `status`, for the log, never for decisions.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

/// Shared between the uplink, which writes it, and whoever shows it.
#[derive(Debug, Default)]
pub struct LinkState {
    inner: Mutex<Inner>,
    sent_batches: AtomicU64,
    sent_bytes: AtomicU64,
    acked_batches: AtomicU64,
    sessions: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    connected: bool,
    since_ns: i64,
    collector: String,
    last_error: String,
    skew_ns: Option<i64>,
}

/// A reading of [`LinkState`].
#[derive(Clone, Debug, Serialize)]
pub struct LinkStatus {
    /// True between greeting and end of a session.
    pub connected: bool,
    /// When that last changed, nanoseconds since the epoch; 0 = never connected.
    pub since_ns: i64,
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
    /// Sessions opened since the start.
    pub sessions: u64,
}

impl LinkState {
    pub(crate) fn up(&self, now: i64, collector: &str, skew_ns: i64) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.inner.lock();
        inner.connected = true;
        inner.since_ns = now;
        inner.collector = collector.to_owned();
        inner.skew_ns = Some(skew_ns);
    }

    pub(crate) fn down(&self, now: i64, why: &str) {
        let mut inner = self.inner.lock();
        if inner.connected {
            inner.since_ns = now;
        }
        inner.connected = false;
        inner.last_error = why.to_owned();
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.sent_batches.fetch_add(1, Ordering::Relaxed);
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn acked(&self, batches: u64) {
        self.acked_batches.fetch_add(batches, Ordering::Relaxed);
    }

    /// The state now.
    pub fn status(&self) -> LinkStatus {
        let inner = self.inner.lock();
        LinkStatus {
            connected: inner.connected,
            since_ns: inner.since_ns,
            collector: inner.collector.clone(),
            last_error: inner.last_error.clone(),
            skew_ms: inner.skew_ns.map(|ns| ns as f64 / 1e6),
            sent_batches: self.sent_batches.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            acked_batches: self.acked_batches.load(Ordering::Relaxed),
            sessions: self.sessions.load(Ordering::Relaxed),
        }
    }
}
