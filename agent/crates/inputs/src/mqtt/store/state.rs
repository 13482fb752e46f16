//! What the session store's log adds up to. Pure: the same entries give the same state, and a
//! snapshot of a state gives that state back.

use std::collections::BTreeMap;
use std::sync::Arc;

use telemetry::Position;

use super::entry::{Entry, Recipient, Unreleased};
use crate::mqtt::message::Message;
use crate::mqtt::router::Options;

/// One message kept for one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What.
    pub message: Arc<Message>,
    /// Delivered at.
    pub qos: u8,
    /// With the retain flag.
    pub retain: bool,
    /// Subscription identifiers.
    pub ids: Vec<u32>,
    /// QoS 2: PUBREC came.
    pub received: bool,
}

/// One session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The user it belongs to, "" for none.
    pub user: String,
    /// Seconds it outlives its connection.
    pub expiry: u32,
    /// Journal marks up to here are not of this session.
    pub since: Position,
    /// When its client left; 0 while it is connected.
    pub away: i64,
    /// The next delivery's number.
    pub next: u64,
    /// Filter → how.
    pub subscriptions: BTreeMap<String, Options>,
    /// Number → message.
    pub queue: BTreeMap<u64, Kept>,
    /// QoS 2 publishes of the client that it has not released.
    pub unreleased: Vec<Unreleased>,
    /// QoS 1 publishes of the client, oldest first.
    pub recent: Vec<(u16, u128)>,
    /// Released since the marks were last written: packet id → position.
    pub released: BTreeMap<u16, Position>,
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Client id → session.
    pub sessions: BTreeMap<Arc<str>, Saved>,
    /// Topic → retained message.
    pub retained: BTreeMap<Box<str>, Arc<Message>>,
    /// Marks hold everything of the journal up to here.
    pub position: Position,
    /// A snapshot that has begun and not ended.
    pending: Option<Box<State>>,
}

impl State {
    /// Takes in one entry. Entries about a session that isn't there change nothing.
    pub fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Begin => {
                self.pending = Some(Box::default());
                return;
            }
            Entry::End => {
                if let Some(complete) = self.pending.take() {
                    *self = *complete;
                }
                return;
            }
            _ => {}
        }
        match &mut self.pending {
            Some(pending) => pending.apply(entry),
            None => self.apply_change(entry),
        }
    }

    fn apply_change(&mut self, entry: Entry) {
        match entry {
            Entry::Begin | Entry::End => {}
            Entry::Session { client, user, expiry, since, away, next } => {
                let session = self.sessions.entry(client).or_default();
                (session.user, session.expiry, session.since, session.away) = (user, expiry, since, away);
                session.next = session.next.max(next);
            }
            Entry::Ended { client } => {
                self.sessions.remove(&client);
            }
            Entry::Subscribed { client, filter, options } => {
                if let Some(session) = self.sessions.get_mut(&client) {
                    session.subscriptions.insert(filter, options);
                }
            }
            Entry::Unsubscribed { client, filter } => {
                if let Some(session) = self.sessions.get_mut(&client) {
                    session.subscriptions.remove(&filter);
                }
            }
            Entry::Retained(message) => {
                self.retained.insert(message.topic.clone(), message);
            }
            Entry::Unretained { topic } => {
                self.retained.remove(topic.as_str());
            }
            Entry::Queued { message, to } => {
                for Recipient { client, number, qos, retain, ids } in to {
                    if let Some(session) = self.sessions.get_mut(&client) {
                        let message = Arc::clone(&message);
                        session.queue.insert(number, Kept { message, qos, retain, ids, received: false });
                        session.next = session.next.max(number + 1);
                    }
                }
            }
            Entry::Received { client, number } => {
                if let Some(kept) = self.sessions.get_mut(&client).and_then(|s| s.queue.get_mut(&number)) {
                    kept.received = true;
                }
            }
            Entry::Done { client, number } => {
                if let Some(session) = self.sessions.get_mut(&client) {
                    session.queue.remove(&number);
                }
            }
            Entry::Released { client, pkid, position } => {
                if let Some(session) = self.sessions.get_mut(&client) {
                    session.release(pkid, position);
                }
            }
            Entry::Marks { client, unreleased, recent } => {
                if let Some(session) = self.sessions.get_mut(&client) {
                    (session.unreleased, session.recent) = (unreleased, recent);
                    // Releases the marks don't know yet still hold against the journal's replay.
                    let released = std::mem::take(&mut session.released);
                    for (pkid, position) in released {
                        session.release(pkid, position);
                    }
                }
            }
            Entry::Position(position) => {
                self.position = position;
                for session in self.sessions.values_mut() {
                    session.released.retain(|_, at| *at > position);
                }
            }
        }
    }

    /// Takes in a mark of the journal, which tells of a publish behind [`State::position`].
    pub fn mark(&mut self, client: &str, position: Position, pkid: u16, qos: u8, content: u128, keep: usize) {
        let Some(session) = self.sessions.get_mut(client).filter(|session| position > session.since) else {
            return;
        };
        if qos == 2 {
            if session.released.get(&pkid).is_none_or(|released| *released < position) {
                session.unreleased.retain(|mark| mark.pkid != pkid);
                session.unreleased.push(Unreleased { pkid, position, content });
            }
        } else {
            session.recent.retain(|(id, _)| *id != pkid);
            session.recent.push((pkid, content));
            let over = session.recent.len().saturating_sub(keep);
            session.recent.drain(..over);
        }
    }

    /// Entries that give this state to an empty one.
    pub fn snapshot(&self) -> Vec<Entry> {
        let mut out = vec![Entry::Begin];
        for (client, s) in &self.sessions {
            let client = || Arc::clone(client);
            out.push(Entry::Session {
                client: client(),
                user: s.user.clone(),
                expiry: s.expiry,
                since: s.since,
                away: s.away,
                next: s.next,
            });
            for (filter, options) in &s.subscriptions {
                out.push(Entry::Subscribed { client: client(), filter: filter.clone(), options: *options });
            }
            for (number, kept) in &s.queue {
                let to = Recipient {
                    client: client(),
                    number: *number,
                    qos: kept.qos,
                    retain: kept.retain,
                    ids: kept.ids.clone(),
                };
                out.push(Entry::Queued { message: Arc::clone(&kept.message), to: vec![to] });
                if kept.received {
                    out.push(Entry::Received { client: client(), number: *number });
                }
            }
            if !s.unreleased.is_empty() || !s.recent.is_empty() {
                out.push(Entry::Marks {
                    client: client(),
                    unreleased: s.unreleased.clone(),
                    recent: s.recent.clone(),
                });
            }
        }
        out.extend(self.retained.values().map(|message| Entry::Retained(Arc::clone(message))));
        out.push(Entry::Position(self.position));
        for (client, s) in &self.sessions {
            for (pkid, position) in &s.released {
                out.push(Entry::Released { client: Arc::clone(client), pkid: *pkid, position: *position });
            }
        }
        out.push(Entry::End);
        out
    }
}

impl Saved {
    fn release(&mut self, pkid: u16, position: Position) {
        self.unreleased.retain(|mark| mark.pkid != pkid || mark.position > position);
        let at = self.released.entry(pkid).or_default();
        *at = (*at).max(position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    use crate::mqtt::message::Properties;

    fn text() -> impl Strategy<Value = String> {
        "[a-c]{1,2}"
    }

    fn message() -> impl Strategy<Value = Arc<Message>> {
        let properties = prop::option::of((
            any::<Option<bool>>(),
            prop::option::of(text()),
            prop::collection::vec((text(), text()), 0..2),
        ));
        (
            text(),
            prop::collection::vec(any::<u8>(), 0..4),
            0u8..3,
            any::<bool>(),
            prop::option::of(1i64..9),
            properties,
        )
            .prop_map(|(topic, payload, qos, retain, expires, properties)| {
                let properties = properties.map(|(format, content_type, user)| {
                    Box::new(Properties {
                        payload_format: format.map(u8::from),
                        content_type: content_type.clone(),
                        response_topic: None,
                        correlation_data: content_type.map(|text| Bytes::from(text.into_bytes())),
                        user,
                    })
                });
                Arc::new(Message {
                    topic: topic.into(),
                    payload: payload.into(),
                    qos,
                    retain,
                    expires,
                    properties,
                    publisher: "p".into(),
                })
            })
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let client = || "[a-b]".prop_map(Arc::<str>::from);
        let options = (0u8..3, any::<bool>(), any::<bool>(), 0u32..3).prop_map(
            |(qos, no_local, retain_as_published, id)| Options { qos, no_local, retain_as_published, id },
        );
        let recipient = (client(), 0u64..5, 0u8..3, any::<bool>(), prop::collection::vec(any::<u32>(), 0..2))
            .prop_map(|(client, number, qos, retain, ids)| Recipient { client, number, qos, retain, ids });
        let unreleased = (1u16..4, 0u64..9, 0u128..3).prop_map(|(pkid, position, content)| Unreleased {
            pkid,
            position,
            content,
        });
        prop_oneof![
            (client(), text(), any::<u32>(), 0u64..9, 0i64..9, 0u64..9).prop_map(
                |(client, user, expiry, since, away, next)| Entry::Session {
                    client,
                    user,
                    expiry,
                    since,
                    away,
                    next
                }
            ),
            client().prop_map(|client| Entry::Ended { client }),
            (client(), text(), options).prop_map(|(client, filter, options)| Entry::Subscribed {
                client,
                filter,
                options
            }),
            (client(), text()).prop_map(|(client, filter)| Entry::Unsubscribed { client, filter }),
            message().prop_map(Entry::Retained),
            text().prop_map(|topic| Entry::Unretained { topic }),
            (message(), prop::collection::vec(recipient, 0..3))
                .prop_map(|(message, to)| Entry::Queued { message, to }),
            (client(), 0u64..5).prop_map(|(client, number)| Entry::Received { client, number }),
            (client(), 0u64..5).prop_map(|(client, number)| Entry::Done { client, number }),
            (client(), 1u16..4, 0u64..9).prop_map(|(client, pkid, position)| Entry::Released {
                client,
                pkid,
                position
            }),
            (
                client(),
                prop::collection::vec(unreleased, 0..3),
                prop::collection::vec((1u16..4, 0u128..3), 0..3)
            )
                .prop_map(|(client, unreleased, recent)| Entry::Marks {
                    client,
                    unreleased,
                    recent
                }),
            (0u64..9).prop_map(Entry::Position),
        ]
    }

    proptest! {
        #[test]
        fn every_entry_is_read_back_as_written(entry in entry()) {
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            prop_assert_eq!(Entry::decode(&bytes), Ok(entry));
            for cut in 0..bytes.len() {
                prop_assert!(Entry::decode(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), kind in 0u8..16) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() { *first = kind; }
            let _ = Entry::decode(&bytes);
        }

        #[test]
        fn a_snapshot_gives_the_state_back_and_a_torn_one_changes_nothing(entries in prop::collection::vec(entry(), 0..40), cut in any::<prop::sample::Index>()) {
            let mut state = State::default();
            entries.into_iter().for_each(|entry| state.apply(entry));
            let snapshot = state.snapshot();
            let mut torn = state.clone();
            snapshot[..cut.index(snapshot.len())].iter().cloned().for_each(|entry| torn.apply(entry));
            torn.pending = None;
            prop_assert_eq!(&torn, &state);
            let mut again = State::default();
            again.apply(Entry::Ended { client: "x".into() });
            snapshot.into_iter().for_each(|entry| again.apply(entry));
            prop_assert_eq!(again, state);
        }
    }

    #[test]
    fn a_number_that_no_delivery_gets_and_a_property_that_is_not_there_are_refused() {
        let with = |number| {
            let mut bytes = Vec::new();
            Entry::Done { client: "c".into(), number }.encode(&mut bytes);
            Entry::decode(&bytes)
        };
        assert!(with(1).is_ok());
        assert!(with(u64::MAX).is_err());
        let properties =
            Some(Box::new(Properties { content_type: Some("x".into()), ..Properties::default() }));
        let message = Message {
            topic: "t".into(),
            payload: Bytes::new(),
            qos: 0,
            retain: true,
            expires: None,
            properties,
            publisher: "p".into(),
        };
        let mut bytes = Vec::new();
        Entry::Retained(Arc::new(message)).encode(&mut bytes);
        // Behind topic, payload, qos and flags, expiry, publisher and the format: which properties are there.
        let there = 1 + 5 + 4 + 2 + 8 + 5 + 1;
        assert_eq!(std::mem::replace(&mut bytes[there], 0), 1);
        assert!(Entry::decode(&bytes).is_err());
    }

    fn session(since: Position) -> State {
        let mut state = State::default();
        let session =
            Entry::Session { client: "c".into(), user: String::new(), expiry: 9, since, away: 0, next: 1 };
        state.apply(session);
        state
    }

    #[test]
    fn a_released_id_stays_released_when_the_journal_is_replayed_and_a_reused_one_does_not() {
        let mut state = session(0);
        state.apply(Entry::Released { client: "c".into(), pkid: 5, position: 100 });
        state.mark("c", 100, 5, 2, 1, 10);
        assert!(state.sessions["c"].unreleased.is_empty());
        state.mark("c", 120, 5, 2, 2, 10);
        assert_eq!(state.sessions["c"].unreleased, [Unreleased { pkid: 5, position: 120, content: 2 }]);
    }

    #[test]
    fn marks_of_a_session_of_the_same_client_that_is_over_do_not_count() {
        let mut state = session(50);
        state.mark("c", 50, 5, 2, 1, 10);
        state.mark("other", 60, 5, 2, 1, 10);
        assert!(state.sessions["c"].unreleased.is_empty());
    }
}
