//! Wills: what a client wants said when its connection ends without a DISCONNECT.
//!
//! A will is published like any message of its client: its rights are asked (at CONNECT already, and again
//! when it is published: they may have changed), it is mapped, and it is journalled. With a delay, or while the journal pushes back, it waits here; a client that
//! comes back in time takes its delayed will away.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::broker::{Broker, Outgoing};
use super::codec::shorten;
use super::connect::Will;
use super::message::Message;
use crate::door::Refused;
use crate::intake::{IntakeBuilder, SeriesCache};

#[derive(Debug)]
struct Waiting {
    due: Instant,
    will: Will,
    user: Option<Arc<str>>,
    /// It is due; only the journal holds it up, so a returning client can't take it away.
    owed: bool,
}

/// Wills that wait, by client. Bounded by the number of clients.
#[derive(Debug, Default)]
pub struct Wills(Mutex<HashMap<Arc<str>, Waiting>>);

impl Wills {
    /// A client is back: its delayed will is not wanted any more.
    pub fn cancel(&self, client: &str) {
        let mut waiting = self.0.lock();
        if waiting.get(client).is_some_and(|waiting| !waiting.owed) {
            waiting.remove(client);
        }
    }

    /// Publishes after `delay`, or at once.
    pub fn leave(
        &self,
        broker: &Broker,
        client: &Arc<str>,
        user: Option<Arc<str>>,
        will: Will,
        delay: Duration,
    ) {
        if delay.is_zero() {
            if let Err(retry) = publish(broker, client, user.as_deref(), &will) {
                let due = Instant::now() + retry;
                self.0.lock().insert(Arc::clone(client), Waiting { due, will, user, owed: true });
            }
        } else {
            let due = Instant::now() + delay;
            self.0.lock().insert(Arc::clone(client), Waiting { due, will, user, owed: false });
        }
    }

    /// Publishes what is due. Called about once a second.
    pub fn sweep(&self, broker: &Broker) {
        let now = Instant::now();
        let due: Vec<_> = {
            let mut waiting = self.0.lock();
            let clients: Vec<_> =
                waiting.iter().filter(|(_, w)| w.due <= now).map(|(client, _)| Arc::clone(client)).collect();
            clients.into_iter().filter_map(|client| waiting.remove(&client).map(|w| (client, w))).collect()
        };
        for (client, waiting) in due {
            self.leave(broker, &client, waiting.user, waiting.will, Duration::ZERO);
        }
    }
}

/// Maps, journals and hands on; an error says when to try again.
fn publish(broker: &Broker, client: &Arc<str>, user: Option<&str>, will: &Will) -> Result<(), Duration> {
    let at = broker.door.now();
    let steady = broker.door.timeline.at(at);
    if !broker.access().rights(user, client).may_write(&will.topic) {
        let reason =
            format!("client {:?} may not publish its will to {:?}", shorten(client), shorten(&will.topic));
        broker.door.reject(telemetry::Cause::RejectedForbidden, &reason, &will.payload);
        return Ok(());
    }
    let mut cache = SeriesCache::new();
    let mut builder = IntakeBuilder::new(&broker.door, &mut cache, at);
    if !broker.is_excluded(&will.topic) {
        broker.mapper.map(&will.topic, &will.payload, false, at, &mut builder);
    }
    let position = match broker.door.submit(builder.finish()) {
        Ok(position) => position,
        Err(Refused::Busy { retry_after, .. }) => return Err(retry_after),
        Err(error) => {
            tracing::error!(client = %client, %error, "a will could not be journalled");
            return Ok(());
        }
    };
    let out = Outgoing {
        topic: &will.topic,
        payload: &will.payload,
        qos: will.qos,
        retain: will.retain,
        expires: will.expiry.map(|seconds| Message::expiry(steady, seconds)),
        properties: will.properties.clone(),
        publisher: client,
    };
    broker.publish(out, position);
    Ok(())
}
