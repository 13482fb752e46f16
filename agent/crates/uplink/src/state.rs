//! What can be seen of the link from outside: for `status`, for the log, never for decisions.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use telemetry::{BEAT, Pulse, clock};

use crate::config::LanesConfig;
use crate::drain::Drain;
use crate::enrolment::ShutOut;
use crate::fit::BrokerLimit;
use crate::hours::Hours;

/// What stands in a message beside a batch's payload.
const AROUND: usize = 600;

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
    /// Bytes of the largest message of this session, over a broker.
    largest: AtomicUsize,
    /// As large messages of this session are known to have passed it.
    passed: AtomicUsize,
    pulse: Pulse,
}

#[derive(Debug, Default)]
struct Inner {
    connected: bool,
    since_ns: i64,
    collector: String,
    last_error: String,
    shut_out: Option<ShutOut>,
    skew_ns: Option<i64>,
    over: Over,
    lanes: LanesConfig,
    hours: Option<Hours>,
    /// What this session keeps back because of them.
    closed: Closed,
    drain: Drain,
    /// How long nothing was acknowledged though something waits for it.
    unanswered: Duration,
    /// Sessions in a row that ended because of that.
    stalls: u64,
    slow_down: Option<SlowDown>,
    broker_limit: Option<BrokerLimit>,
}

/// What the hours of the backlog do to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Closed {
    /// They are open, or there are none.
    #[default]
    Open,
    /// They are closed, and there is nothing that waits for them.
    Idle,
    /// They are closed, and something waits.
    Keeping,
}

/// Batches since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) sent: u64,
    pub(crate) acked: u64,
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
    /// Seconds until nothing waits, as things go, closed hours included; absent while the backlog doesn't get smaller, or nobody
    /// has seen yet how fast it does.
    pub caught_up_s: Option<f64>,
    /// It waits for its hours, which open then, nanoseconds since the epoch; absent while it may travel, or nothing of it waits.
    pub waits_until_ns: Option<i64>,
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
    /// Why the last session ended, "" before the first end; or why there can be none, while the collector shuts this host out.
    pub last_error: String,
    /// That the collector gives this host no certificate, while it has none that is good.
    pub shut_out: Option<ShutOut>,
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
    /// How large a message may be on the site's broker, where that is less than batches are.
    pub broker_limit: Option<BrokerLimit>,
    /// Seconds without an acknowledgement though something waits for one; the session begins anew after sixty.
    pub unanswered_s: u64,
    /// Sessions in a row that ended because of that; 0 once something was acknowledged.
    pub stalls: u64,
}

impl LinkState {
    /// With the limits that will be in force.
    pub fn new(lanes: &LanesConfig) -> Self {
        let hours = lanes.hours().ok().flatten();
        let inner = Inner { lanes: lanes.clone(), hours, ..Inner::default() };
        Self { inner: Mutex::new(inner), ..Self::default() }
    }

    /// Whether a session is open.
    pub fn connected(&self) -> bool {
        self.inner.lock().connected
    }

    /// How often the uplink's task has passed its loop; see [`Pulse`].
    pub fn beats(&self) -> u64 {
        self.pulse.beats()
    }

    pub(crate) fn beat(&self) {
        self.pulse.beat();
    }

    /// Beats while the task waits for something that ends by a time-out of its own, however long that is.
    pub(crate) async fn beating<T>(&self, mut wait: impl Future<Output = T> + Unpin) -> T {
        loop {
            self.pulse.beat();
            tokio::select! {
                done = &mut wait => return done,
                () = tokio::time::sleep(BEAT) => {}
            }
        }
    }

    pub(crate) fn over(&self, over: Over) {
        self.inner.lock().over = over;
    }

    pub(crate) fn up(&self, now: i64, collector: &str, skew_ns: i64) {
        // What it was greeted for has passed.
        self.passed.fetch_max(self.largest(), Ordering::Relaxed);
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
        (inner.closed, inner.unanswered) = (Closed::Open, Duration::ZERO);
    }

    /// Why there is no session: why the last one ended, "" before the first end.
    pub fn last_error(&self) -> String {
        self.inner.lock().last_error()
    }

    /// The collector gives this host no certificate, or (None) says nothing of the kind any more.
    pub(crate) fn shut_out(&self, shut_out: Option<ShutOut>) {
        self.inner.lock().shut_out = shut_out;
    }

    /// So long nothing was acknowledged though something waits for it.
    pub(crate) fn unanswered(&self, long: Duration) {
        self.inner.lock().unanswered = long;
    }

    /// The session is given up because of that.
    pub(crate) fn stalled(&self) {
        self.inner.lock().stalls += 1;
    }

    /// A session begins over a way that takes messages of this size.
    pub(crate) fn begins(&self, limit: Option<&BrokerLimit>) {
        self.largest.store(0, Ordering::Relaxed);
        self.passed.store(0, Ordering::Relaxed);
        self.inner.lock().broker_limit = limit.cloned();
    }

    /// Messages may be of another size from now on.
    pub(crate) fn limited(&self, limit: Option<&BrokerLimit>) {
        self.inner.lock().broker_limit = limit.cloned();
    }

    /// Most bytes of a message.
    pub(crate) fn most(&self) -> Option<u64> {
        self.inner.lock().broker_limit.as_ref().map(|limit| limit.bytes as u64)
    }

    /// A message of so many bytes leaves over a broker. A status is much like the one in the hello, which has passed.
    pub(crate) fn sealed(&self, bytes: usize, is_status: bool) {
        if !is_status || bytes > 2 * self.passed.load(Ordering::Relaxed) {
            self.largest.fetch_max(bytes, Ordering::Relaxed);
        }
    }

    /// A batch of so many bytes has arrived: so would one that is hardly larger, and what is around both.
    pub(crate) fn arrived(&self, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.passed.fetch_max(bytes.saturating_add(bytes / 4).saturating_add(AROUND), Ordering::Relaxed);
    }

    /// Bytes of the largest message of this session, if so large ones aren't known to pass: 0 if they are.
    pub(crate) fn suspect(&self) -> usize {
        let largest = self.largest();
        if largest > self.passed.load(Ordering::Relaxed) { largest } else { 0 }
    }

    pub(crate) fn largest(&self) -> usize {
        self.largest.load(Ordering::Relaxed)
    }

    pub(crate) fn hours(&self, closed: Closed) {
        self.inner.lock().closed = closed;
    }

    pub(crate) fn slowed(&self, slow_down: SlowDown) {
        self.inner.lock().slow_down = Some(slow_down);
    }

    /// So many bytes wait now.
    pub(crate) fn waiting(&self, now: Duration, bytes: u64) {
        let acked = self.acked_bytes.load(Ordering::Relaxed);
        let mut inner = self.inner.lock();
        let open = inner.closed == Closed::Open;
        inner.drain.observe(now, bytes, acked, open);
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.sent_batches.fetch_add(1, Ordering::Relaxed);
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn acked(&self, batches: u64, bytes: u64) {
        self.acked_batches.fetch_add(batches, Ordering::Relaxed);
        self.acked_bytes.fetch_add(bytes, Ordering::Relaxed);
        if batches > 0 {
            self.answered();
        }
    }

    /// The collector has said that it holds something.
    pub(crate) fn answered(&self) {
        self.inner.lock().stalls = 0;
    }

    /// How many batches were sent and acknowledged so far.
    pub(crate) fn moved(&self) -> Moved {
        Moved {
            sent: self.sent_batches.load(Ordering::Relaxed),
            acked: self.acked_batches.load(Ordering::Relaxed),
        }
    }

    /// An envelope was passed over; gives how many were.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The state now, with what the spool says of what waits and the host of the time.
    pub fn status(&self, usage: &spool::Usage, wall: i64) -> LinkStatus {
        let inner = self.inner.lock();
        // A clock that was never set doesn't tell the hour: the collector's does.
        let off = if wall < clock::SET_AFTER { inner.skew_ns.unwrap_or(0) } else { 0 };
        let hour = wall - off;
        let open = inner.hours.as_ref().is_none_or(|hours| hours.open(hour));
        // Without a session nobody knows yet what will be fresh: as far as one can see, all waits.
        let keeps = usage.batches > 0 && !open && (!inner.connected || inner.closed == Closed::Keeping);
        let opens = inner.hours.as_ref().filter(|_| keeps).and_then(|hours| hours.opens(hour));
        LinkStatus {
            connected: inner.connected,
            since_ns: inner.since_ns,
            over: inner.over.clone(),
            collector: inner.collector.clone(),
            last_error: inner.last_error(),
            shut_out: inner.shut_out.clone(),
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
                caught_up_s: if usage.batches == 0 { Some(0.0) } else { inner.caught_up(usage.bytes, hour) },
                waits_until_ns: opens.map(|at| at.saturating_add(off)),
            },
            lanes: Limits {
                live_share: inner.lanes.live_share,
                backlog_share: inner.lanes.backlog_share,
                limit: inner.lanes.limit.0,
                live_limit: inner.lanes.live_limit.0,
                backlog_limit: inner.lanes.backlog_limit.0,
                backlog_hours: inner.lanes.backlog_hours.clone(),
                backlog_open: open,
            },
            slow_down: inner.slow_down.clone(),
            broker_limit: inner.broker_limit.clone(),
            unanswered_s: inner.unanswered.as_secs(),
            stalls: inner.stalls,
        }
    }
}

impl Inner {
    /// That a host was shut out is why it has no certificate to connect with, and no attempt tells it.
    fn last_error(&self) -> String {
        match &self.shut_out {
            Some(shut_out) if !self.connected => shut_out.to_string(),
            _ => self.last_error.clone(),
        }
    }

    /// Seconds until so many bytes are gone; `None` where nobody can say.
    fn caught_up(&self, bytes: u64, hour: i64) -> Option<f64> {
        // What is under way while the hours are closed is fresh, and says nothing of the rest.
        let known = self.connected && self.closed != Closed::Idle;
        let seconds = self.drain.caught_up(bytes).filter(|_| known)?;
        match &self.hours {
            Some(hours) => hours.done_after(hour, seconds),
            None => Some(seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_not_suspected_for_messages_as_large_as_those_that_arrived() {
        let state = LinkState::default();
        state.begins(None);
        state.sealed(2_700, false);
        state.up(0, "1", 0);
        state.sealed(2_900, true);
        assert_eq!(state.suspect(), 0, "the hello has passed, and a status is much like it");
        state.sealed(60_000, false);
        assert_eq!(state.suspect(), 60_000, "nobody knows what became of it");
        state.arrived(55_000);
        assert_eq!(state.suspect(), 0, "another one of about that size was acknowledged");
        state.sealed(200_000, false);
        assert_eq!(state.suspect(), 200_000);
        state.begins(None);
        assert_eq!(state.suspect(), 0, "a session speaks of itself alone");
    }
}
