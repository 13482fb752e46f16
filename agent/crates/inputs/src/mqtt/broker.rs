//! What all connections share, and the one way a message goes from its publisher to local
//! subscribers, retained values and the session store.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use telemetry::Position;
use tokio::sync::Notify;

use super::access::Access;
use super::attempts::Attempts;
use super::codec::Violation;
use super::config::MqttConfig;
use super::message::{Message, Properties};
use super::outbox::{Delivery, Gauge, Limits};
use super::retained::Retained;
use super::router::{Router, Target};
use super::session::Session;
use super::store::{self, Entry, Recipient, Store, Ticket};
use super::tls::Secure;
use super::topic::{self, Filter};
use super::wills::Wills;
use crate::door::Door;
use crate::mapping::Mapper;

/// Counters that `$SYS` and `status` show.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections now.
    pub clients: AtomicUsize,
    /// Connections that have not said CONNECT yet.
    pub unauthenticated: AtomicUsize,
    /// Messages that a queue's limit threw out.
    pub dropped: AtomicU64,
    /// Publishes received.
    pub received: AtomicU64,
}

/// A publish that is to be handed on. Borrowed: nothing is copied while nobody wants it.
pub struct Outgoing<'a> {
    /// Checked topic name.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
    /// 0 to 2.
    pub qos: u8,
    /// Keep it as the topic's value.
    pub retain: bool,
    /// When it stops being worth delivering (timeline, ns).
    pub expires: Option<i64>,
    /// v5 properties.
    pub properties: Option<Box<Properties>>,
    /// Who publishes.
    pub publisher: &'a Arc<str>,
}

/// The shared part of the front.
pub struct Broker {
    /// Its section.
    pub config: MqttConfig,
    /// The way into the journal.
    pub door: Door,
    /// Topics and payloads to readings.
    pub mapper: Mapper,
    /// Who may do what; a reload puts another in its place.
    pub access: RwLock<Arc<Access>>,
    /// Wrong passwords.
    pub attempts: Attempts,
    /// The TLS port's certificate and whom it trusts; `None` until they could be read.
    pub secure: RwLock<Option<Arc<Secure>>>,
    /// Who wants what.
    pub router: Box<dyn Router>,
    /// What survives a restart.
    pub store: Store,
    /// Client id → session.
    pub sessions: Mutex<HashMap<Arc<str>, Arc<Session>>>,
    /// Last values.
    pub retained: Mutex<Retained>,
    /// Wills that wait.
    pub wills: Wills,
    /// Somebody let go of a session.
    pub released: Notify,
    /// Bytes in all queues.
    pub queued: Gauge,
    /// Counters.
    pub counters: Counters,
    /// Held for reading from submitting a publish until its mark is remembered, so that whoever
    /// holds it for writing sees every mark up to the journal's last position.
    pub marking: RwLock<()>,
    /// Numbers of connections.
    pub connections: AtomicU64,
}

impl Broker {
    /// Who may do what, now.
    pub fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access.read())
    }

    /// Limits of one session's queue.
    pub fn limits(&self) -> Limits {
        Limits {
            messages: self.config.max_queued_messages,
            bytes: self.config.max_queued_bytes,
            total: self.config.max_memory_bytes,
        }
    }

    /// QoS 2 publishes of all sessions between PUBLISH and PUBREL.
    pub fn unreleased(&self) -> usize {
        let sessions: Vec<_> = self.sessions.lock().values().cloned().collect();
        sessions.iter().map(|session| session.state().inbound.unreleased.len()).sum()
    }

    /// Counts what somebody sent against the protocol, and keeps it for the operator. `input` begins
    /// with the packet.
    pub fn violated(&self, who: &dyn std::fmt::Display, violation: &Violation, input: &[u8]) {
        let Some(cause) = violation.cause else { return };
        // CONNECT and AUTH may carry a password, but not so early.
        let secret = input.first().is_some_and(|header| matches!(header >> 4, 1 | 15));
        let shown = if secret { &input[..input.len().min(12)] } else { input };
        self.door.reject(cause, &format!("{who}: {violation}"), shown);
    }

    /// True when publishes on this topic are for local subscribers only.
    pub fn is_excluded(&self, name: &str) -> bool {
        self.config.exclude.iter().any(|filter| topic::matches(filter, name))
    }

    /// Hands a publish to whoever wants it; they get it once the journal has `gate` on disk. The
    /// publisher's ack must also wait for the returned ticket.
    pub fn publish(&self, out: Outgoing<'_>, gate: Position) -> Ticket {
        let mut targets = Vec::new();
        if !self.router.is_empty() {
            self.router.route(out.topic, out.publisher, &mut targets);
        }
        if targets.is_empty() && !out.retain {
            return 0;
        }
        let message = Arc::new(Message {
            topic: out.topic.into(),
            payload: Bytes::copy_from_slice(out.payload),
            qos: out.qos,
            retain: out.retain,
            expires: out.expires,
            properties: out.properties,
            publisher: Arc::clone(out.publisher),
        });
        let mut entries = Vec::new();
        // Held until the entry is handed over, so that the store sees a topic's values in order.
        let retained = out.retain.then(|| self.retained.lock());
        if let Some(mut retained) = retained {
            if message.payload.is_empty() {
                retained.remove(&message.topic);
                entries.push(Entry::Unretained { topic: out.topic.to_owned() });
            } else if retained.bytes() + message.weight() <= self.config.max_memory_bytes
                && retained.set(&message, self.config.max_retained)
            {
                entries.push(Entry::Retained(Arc::clone(&message)));
            } else {
                self.counters.dropped.fetch_add(1, Relaxed);
            }
            let deliveries = self.address(&message, targets, gate, &mut entries);
            return self.hand_over(entries, deliveries);
        }
        let deliveries = self.address(&message, targets, gate, &mut entries);
        self.hand_over(entries, deliveries)
    }

    fn address(
        &self,
        message: &Arc<Message>,
        targets: Vec<Target>,
        gate: Position,
        entries: &mut Vec<Entry>,
    ) -> Vec<(Arc<Session>, Delivery)> {
        let mut kept = Vec::new();
        let mut deliveries = Vec::with_capacity(targets.len());
        for Target { session, qos, retain_as_published, ids } in targets {
            // It would push out what its client may read, and come to it when its rights grow.
            if !session.may_read(&message.topic) {
                continue;
            }
            let (qos, retain) = (qos.min(message.qos), retain_as_published && message.retain);
            let mut number = 0;
            if qos > 0 {
                let Some((reserved, durable)) = session.reserve() else { continue };
                number = reserved;
                if durable {
                    let client = Arc::clone(&session.client);
                    kept.push(Recipient { client, number, qos, retain, ids: ids.clone() });
                }
            }
            let message = Arc::clone(message);
            deliveries.push((session, Delivery { message, qos, retain, ids, gate, number, dup: false }));
        }
        if !kept.is_empty() {
            entries.push(Entry::Queued { message: Arc::clone(message), to: kept });
        }
        deliveries
    }

    /// The store first: an ack that comes back must not overtake what it acknowledges.
    fn hand_over(&self, entries: Vec<Entry>, deliveries: Vec<(Arc<Session>, Delivery)>) -> Ticket {
        let ticket = if entries.is_empty() { 0 } else { self.store.append(entries) };
        let limits = self.limits();
        let mut last = ticket;
        for (session, delivery) in deliveries {
            let gone = session.push(delivery, limits);
            if !gone.is_empty() {
                last = last.max(self.dropped(&session, &gone));
            }
        }
        last
    }

    /// Retained values for a new subscription. Whoever subscribes asks for them, so they are queued
    /// whatever the queue's limit says: the messages themselves are held anyway.
    pub fn deliver_retained(&self, session: &Arc<Session>, filter: &str, qos: u8, id: u32) -> Ticket {
        let now = self.door.steady();
        let found = self.retained.lock().matching(filter, now);
        let mut entries = Vec::new();
        let mut deliveries = Vec::with_capacity(found.len());
        for message in found.into_iter().filter(|message| session.may_read(&message.topic)) {
            let qos = qos.min(message.qos);
            let ids = if id == 0 { Vec::new() } else { vec![id] };
            let mut number = 0;
            if qos > 0 {
                let Some((reserved, durable)) = session.reserve() else { continue };
                number = reserved;
                if durable {
                    let client = Arc::clone(&session.client);
                    let to = vec![Recipient { client, number, qos, retain: true, ids: ids.clone() }];
                    entries.push(Entry::Queued { message: Arc::clone(&message), to });
                }
            }
            deliveries.push(Delivery { message, qos, retain: true, ids, gate: 0, number, dup: false });
        }
        let ticket = if entries.is_empty() { 0 } else { self.store.append(entries) };
        let mut state = session.state();
        for delivery in deliveries {
            state.outbox.push_unbounded(delivery);
        }
        ticket
    }

    /// Deliveries that won't be made: counted, and out of the store.
    pub fn dropped(&self, session: &Session, gone: &[Delivery]) -> Ticket {
        // QoS 0 for a client that is away isn't kept, as the specification has it: no loss to count.
        let lost = gone.iter().filter(|delivery| delivery.qos > 0 || session.is_connected()).count();
        self.counters.dropped.fetch_add(lost as u64, Relaxed);
        self.done(session, gone.iter().map(|delivery| delivery.number))
    }

    /// Deliveries of a session that are over. A client's ack need not wait for the ticket: forgotten
    /// in a crash, the message is sent again, marked.
    pub fn done(&self, session: &Session, numbers: impl Iterator<Item = u64>) -> Ticket {
        if !session.state().durable {
            return 0;
        }
        let client = &session.client;
        let mut numbers = numbers.filter(|number| *number > 0).peekable();
        if numbers.peek().is_none() {
            return 0;
        }
        self.store.append(numbers.map(|number| Entry::Done { client: Arc::clone(client), number }))
    }

    /// Ends a session: nothing of it is left anywhere.
    pub fn end_session(&self, session: &Arc<Session>) -> Ticket {
        let (filters, durable) = {
            let mut state = session.state();
            state.ended = true;
            state.outbox = super::outbox::Outbox::default();
            (std::mem::take(&mut state.subscriptions), state.durable)
        };
        for filter in filters.keys() {
            if let Ok(filter) = Filter::parse(filter) {
                self.router.unsubscribe(filter, &session.client);
            }
        }
        let mut sessions = self.sessions.lock();
        if sessions.get(&session.client).is_some_and(|there| Arc::ptr_eq(there, session)) {
            sessions.remove(&session.client);
        }
        drop(sessions);
        if durable { self.store.append([Entry::Ended { client: Arc::clone(&session.client) }]) } else { 0 }
    }

    /// Writes the marks of all sessions that changed, and lets the journal go up to where they reach.
    pub fn checkpoint(&self) -> (Ticket, Position) {
        let durable = {
            // Every mark up to the last position given out is remembered once this is held.
            let _all = self.marking.write();
            *self.door.journal.durable().borrow()
        };
        let sessions: Vec<_> = self.sessions.lock().values().cloned().collect();
        let mut entries: Vec<_> =
            sessions.iter().filter_map(|session| session.changed_marks(durable)).collect();
        entries.push(Entry::Position(durable));
        (self.store.append(entries), durable)
    }

    /// Takes in what the store read back, and what the journal tells beyond it.
    pub fn restore(&self, state: store::State) {
        let window = usize::from(self.config.max_inflight);
        {
            let mut retained = self.retained.lock();
            for message in state.retained.into_values() {
                retained.set(&message, usize::MAX);
            }
        }
        let access = self.access();
        for (client, mut saved) in state.sessions {
            let subscriptions = std::mem::take(&mut saved.subscriptions);
            let session = Session::restored(Arc::clone(&client), saved, window, &self.queued);
            let user = session.state().user.clone();
            if !access.keeps_session(user.as_deref(), &client) {
                tracing::info!(client = %client, "the session of a user who may not connect any more, or not as this client, is ended");
                self.end_session(&session);
                continue;
            }
            // Not what they were: the configuration may have changed.
            let gone = session.narrow(access.rights(user.as_deref(), &client));
            self.dropped(&session, &gone);
            {
                let mut state = session.state();
                if state.away == 0 {
                    // It was connected when the agent went down: its time away begins now.
                    state.away = self.door.steady().max(1);
                }
            }
            for (filter, options) in &subscriptions {
                if let Ok(filter) = Filter::parse(filter) {
                    self.router.subscribe(filter, &session, *options);
                }
            }
            session.state().subscriptions = subscriptions;
            self.sessions.lock().insert(client, session);
        }
    }
}
