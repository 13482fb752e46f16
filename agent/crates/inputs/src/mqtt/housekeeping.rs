//! What the front does by the clock: delayed wills, sessions and retained values that expire, the
//! marks' checkpoint (and with it the journal's release), `$SYS`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use journal::Usage;
use telemetry::Position;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::broker::{Broker, Outgoing};
use super::store::{Entry, Ticket};

const TICK: Duration = Duration::from_millis(250);
/// `$SYS` is published this often.
const SYS_EVERY: u32 = 40;
/// A checkpoint is due when the journal has grown by this much, or by an eighth of its cap …
const CHECKPOINT_BYTES: u64 = 4 << 20;
/// … or when something changed and this long has passed …
const CHECKPOINT_AFTER: Duration = Duration::from_secs(10);
/// … or this long while the journal is half full: every input waits for its room.
const CHECKPOINT_TIGHT: Duration = Duration::from_secs(1);

/// When a checkpoint is due, and what of the last one is still to be released.
struct Checkpoints {
    last: Instant,
    at: Position,
    bytes: u64,
    waiting: Option<(Ticket, Position)>,
}

/// Runs until shutdown.
pub async fn run(broker: Arc<Broker>, shutdown: CancellationToken) {
    let started = Instant::now();
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut checkpoints = Checkpoints { last: Instant::now(), at: 0, bytes: 0, waiting: None };
    let mut turn = 0u32;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = interval.tick() => {}
        }
        checkpoints.step(&broker);
        if turn.is_multiple_of(4) {
            broker.wills.sweep(&broker);
            expire_sessions(&broker);
            if let Err(error) = broker.door.flush() {
                tracing::debug!(%error, "counts of refused readings wait for the journal");
            }
        }
        if turn.is_multiple_of(SYS_EVERY) {
            expire_retained(&broker);
            publish_sys(&broker, started.elapsed());
        }
        turn = turn.wrapping_add(1);
    }
}

impl Checkpoints {
    fn step(&mut self, broker: &Broker) {
        if let Some((ticket, position)) = self.waiting {
            if *broker.store.durable().borrow() < ticket {
                return;
            }
            broker.door.journal.release(journal::Holder::Sessions, position);
            self.waiting = None;
        }
        let durable = *broker.door.journal.durable().borrow();
        if durable == self.at {
            return;
        }
        let Usage { bytes, limit_bytes: max_bytes, .. } = broker.door.journal.usage();
        // After a release it is smaller than it was: then growth counts from there.
        self.bytes = self.bytes.min(bytes);
        if is_due(bytes - self.bytes, bytes, max_bytes, self.last.elapsed()) {
            self.waiting = Some(broker.checkpoint());
            (self.last, self.at, self.bytes) = (Instant::now(), durable, bytes);
        }
    }
}

/// Whether the journal, which has `bytes` of `max_bytes`, `grown` of them since the last checkpoint, should get one.
fn is_due(grown: u64, bytes: u64, max_bytes: u64, since_last: Duration) -> bool {
    grown >= CHECKPOINT_BYTES.min(max_bytes / 8)
        || since_last >= CHECKPOINT_AFTER
        || (bytes >= max_bytes / 2 && since_last >= CHECKPOINT_TIGHT)
}

fn expire_sessions(broker: &Broker) {
    let now = broker.door.steady();
    let sessions: Vec<_> = broker.sessions.lock().values().cloned().collect();
    for session in sessions {
        // Whoever is just taking it over decides for itself.
        let Ok(_attaching) = session.attach.try_lock() else { continue };
        let over = {
            let mut state = session.state();
            if state.owner.is_some() {
                false
            } else if !state.durable {
                // Left behind by a CONNECT that was never finished.
                true
            } else {
                // A time of a timeline that was lost to damage must not keep a session for ever.
                state.away = state.away.min(now.max(1));
                now.saturating_sub(state.away) >= i64::from(state.expiry) * 1_000_000_000
            }
        };
        if over {
            broker.end_session(&session);
        }
    }
}

fn expire_retained(broker: &Broker) {
    let now = broker.door.steady();
    let mut retained = broker.retained.lock();
    let expired = retained.expired(now);
    if expired.is_empty() {
        return;
    }
    expired.iter().for_each(|topic| retained.remove(topic));
    broker.store.append(expired.into_iter().map(|topic| Entry::Unretained { topic: topic.into() }));
}

/// Publishes to those who subscribed to `$SYS`; nothing is retained or stored.
fn publish_sys(broker: &Broker, uptime: Duration) {
    if broker.router.is_empty() {
        return;
    }
    let counters = &broker.counters;
    let values = [
        ("$SYS/broker/version", format!("telemetryx-agent {}", env!("CARGO_PKG_VERSION"))),
        ("$SYS/broker/uptime", format!("{} seconds", uptime.as_secs())),
        ("$SYS/broker/clients/connected", counters.clients.load(Relaxed).to_string()),
        ("$SYS/broker/messages/received", counters.received.load(Relaxed).to_string()),
        ("$SYS/broker/messages/dropped", counters.dropped.load(Relaxed).to_string()),
        ("$SYS/broker/subscriptions/count", broker.router.len().to_string()),
        ("$SYS/broker/retained messages/count", broker.retained.lock().len().to_string()),
    ];
    let publisher: Arc<str> = "".into();
    for (topic, value) in values {
        let out = Outgoing {
            topic,
            payload: value.as_bytes(),
            qos: 0,
            retain: false,
            expires: None,
            properties: None,
            publisher: &publisher,
        };
        broker.publish(out, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const SOON: Duration = Duration::from_millis(250);

    #[test]
    fn a_small_journal_is_let_go_of_long_before_it_is_full() {
        assert!(is_due(MIB / 4, MIB / 2, 2 * MIB, SOON));
        assert!(!is_due(MIB / 8, MIB / 2, 2 * MIB, SOON));
        assert!(!is_due(MIB, 10 * MIB, 1024 * MIB, SOON), "a large one costs no more than it did");
        assert!(is_due(4 * MIB, 10 * MIB, 1024 * MIB, SOON));
    }

    #[test]
    fn a_full_journal_that_can_not_grow_waits_a_second_and_no_longer() {
        assert!(!is_due(0, 2 * MIB, 2 * MIB, SOON));
        assert!(is_due(0, 2 * MIB, 2 * MIB, CHECKPOINT_TIGHT));
        assert!(!is_due(0, MIB / 2, 2 * MIB, CHECKPOINT_TIGHT));
        assert!(is_due(0, MIB / 2, 2 * MIB, CHECKPOINT_AFTER));
    }
}
