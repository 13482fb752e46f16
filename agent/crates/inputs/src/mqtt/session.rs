//! A client's session: its subscriptions, what waits for it, and which of its publishes are known.
//!
//! A session outlives its connection when the client asked for that (*durable*); then every change
//! that matters also goes to the [`Store`]. A transient one lives and dies with its connection.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::{Mutex, MutexGuard, RwLock};
use rustls_pki_types::CertificateDer;
use telemetry::Position;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::acl::Rights;
use super::outbox::{Delivery, Gauge, Limits, Outbox};
use super::router::Options;
use super::store::{Entry, Kept, Saved, Unreleased};

/// QoS 1 publishes remembered per durable session: more than a client may have in flight.
pub const REMEMBERED: usize = 256;

/// What tells a resend from a new publish.
#[derive(Debug, Default)]
pub struct Inbound {
    /// QoS 2 ids between PUBLISH and PUBREL, with the journal's position and the content.
    pub unreleased: HashMap<u16, (Position, u128)>,
    /// QoS 1: the last content of each id, newest last.
    recent: VecDeque<(u16, Position, u128)>,
    /// Id → the turn it was last used in, and the content.
    contents: HashMap<u16, (u64, u128)>,
    turn: u64,
    /// Changed since the marks were last written.
    pub dirty: bool,
}

impl Inbound {
    /// Remembers a QoS 1 publish.
    pub fn remember(&mut self, pkid: u16, position: Position, content: u128) {
        self.dirty = true;
        self.turn += 1;
        self.recent.push_back((pkid, position, content));
        self.contents.insert(pkid, (self.turn, content));
        if self.recent.len() > REMEMBERED
            && let Some((old, ..)) = self.recent.pop_front()
            // Used again since: then a newer entry stands for it.
            && self.contents.get(&old).is_some_and(|(turn, _)| *turn + REMEMBERED as u64 <= self.turn)
        {
            self.contents.remove(&old);
        }
    }

    /// True when the last QoS 1 publish with this id had this content.
    pub fn is_resend(&self, pkid: u16, content: u128) -> bool {
        self.contents.get(&pkid).is_some_and(|(_, last)| *last == content)
    }

    /// What the store keeps of it: only marks the journal has on disk.
    fn marks(&self, client: &Arc<str>, durable: Position) -> Entry {
        let mut unreleased: Vec<_> = self
            .unreleased
            .iter()
            .filter(|(_, (position, _))| *position <= durable)
            .map(|(pkid, (position, content))| Unreleased {
                pkid: *pkid,
                position: *position,
                content: *content,
            })
            .collect();
        unreleased.sort_by_key(|mark| mark.pkid);
        let recent = self
            .recent
            .iter()
            .filter(|mark| mark.1 <= durable)
            .map(|(pkid, _, content)| (*pkid, *content))
            .collect();
        Entry::Marks { client: Arc::clone(client), unreleased, recent }
    }

    /// True when some mark is not on disk in the journal yet.
    fn is_ahead(&self, durable: Position) -> bool {
        self.recent.back().is_some_and(|mark| mark.1 > durable)
            || self.unreleased.values().any(|(position, _)| *position > durable)
    }
}

/// The connection that holds a session.
#[derive(Debug)]
pub struct Owner {
    /// Cancelled when another connection takes the session over, or it is closed from inside.
    pub stop: CancellationToken,
    /// Which connection: counts up.
    pub number: u64,
    /// Where it comes from.
    pub address: IpAddr,
    /// The certificates that it showed.
    pub chain: Option<Arc<[CertificateDer<'static>]>>,
    /// Why it is closed from inside, if that is so.
    pub cut: Option<Cut>,
}

/// A connection that may not stay.
#[derive(Clone, Debug)]
pub struct Cut {
    /// For the log and the reject list.
    pub why: String,
    /// Its session goes with it.
    pub ends_session: bool,
}

/// The changing part.
#[derive(Debug, Default)]
pub struct State {
    /// It outlives its connection.
    pub durable: bool,
    /// For how many seconds; `u32::MAX` is for ever (up to the configured cap).
    pub expiry: u32,
    /// Whose it is; another user can't take it over.
    pub user: Option<Arc<str>>,
    /// Filter as sent → how.
    pub subscriptions: BTreeMap<String, Options>,
    /// What waits.
    pub outbox: Outbox,
    /// What was received.
    pub inbound: Inbound,
    /// Who holds it.
    pub owner: Option<Owner>,
    /// Journal marks up to here are not of this session.
    pub since: Position,
    /// When its client left (timeline, ns); 0 while connected.
    pub away: i64,
    /// It was ended: whoever still finds it must look again.
    pub ended: bool,
    /// The next delivery's number.
    next: u64,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    /// Whose.
    pub client: Arc<str>,
    /// Something waits, or the owner must look up.
    pub wake: Notify,
    /// Held while a connection takes it over.
    pub attach: tokio::sync::Mutex<()>,
    connected: AtomicBool,
    rights: RwLock<Rights>,
    /// Counts how often the rights were set.
    rights_set: AtomicU64,
    state: Mutex<State>,
}

impl Session {
    /// A new one that ends with its connection, until told otherwise.
    pub fn transient(client: Arc<str>, user: Option<Arc<str>>, gauge: &Gauge) -> Arc<Self> {
        Self::with(client, State { user, next: 1, outbox: Outbox::new(gauge), ..State::default() })
    }

    /// One that a restart brings back. `sent` of its messages may have been sent before.
    pub fn restored(client: Arc<str>, saved: Saved, sent: usize, gauge: &Gauge) -> Arc<Self> {
        let mut outbox = Outbox::new(gauge);
        let was_connected = saved.away == 0;
        for (at, (number, kept)) in saved.queue.into_iter().enumerate() {
            let Kept { message, qos, retain, ids, received } = kept;
            let dup = was_connected && at < sent;
            let delivery = Delivery { message, qos, retain, ids, gate: 0, number, dup };
            match received {
                true => outbox.restore_released(delivery),
                false => outbox.push_unbounded(delivery),
            }
        }
        let mut inbound = Inbound::default();
        for mark in saved.unreleased {
            inbound.unreleased.insert(mark.pkid, (mark.position, mark.content));
            inbound.dirty = true;
        }
        for (pkid, content) in saved.recent {
            inbound.remember(pkid, 0, content);
        }
        let state = State {
            durable: true,
            expiry: saved.expiry,
            user: (!saved.user.is_empty()).then(|| saved.user.into()),
            subscriptions: saved.subscriptions,
            outbox,
            inbound,
            since: saved.since,
            away: saved.away,
            next: saved.next.max(1),
            ..State::default()
        };
        Self::with(client, state)
    }

    fn with(client: Arc<str>, state: State) -> Arc<Self> {
        Arc::new(Self {
            client,
            wake: Notify::new(),
            attach: tokio::sync::Mutex::new(()),
            connected: AtomicBool::new(false),
            rights: RwLock::new(Rights::All),
            rights_set: AtomicU64::new(0),
            state: Mutex::new(state),
        })
    }

    /// The changing part. Never held across an await, and never two sessions' at a time.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// True while a connection holds it.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Relaxed)
    }

    /// Says whether a connection holds it.
    pub fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Relaxed);
    }

    /// Says what its client may do; until then it may all.
    pub fn set_rights(&self, rights: Rights) {
        let mut there = self.rights.write();
        *there = rights;
        self.rights_set.fetch_add(1, Relaxed);
    }

    /// Other rights than before: what waits and may not be read any more is returned, and is delivered to nobody. A
    /// delivery that is being written under the state's lock is written before this returns.
    pub fn narrow(&self, rights: Rights) -> Vec<Delivery> {
        let mut state = self.state();
        self.set_rights(rights);
        let rights = self.rights.read();
        state.outbox.retain(|message| rights.may_read(&message.topic))
    }

    /// Closes its connection, if it has one: it may not stay.
    pub fn cut(&self, cut: Cut) {
        if let Some(owner) = &mut self.state().owner {
            owner.cut = Some(cut);
            owner.stop.cancel();
        }
    }

    /// May a message on this topic be delivered to it?
    pub fn may_read(&self, name: &str) -> bool {
        self.rights.read().may_read(name)
    }

    /// The number of the next delivery at QoS 1 or 2; `None` when the session wants none (it ended,
    /// or is transient and its client left).
    pub fn reserve(&self) -> Option<(u64, bool)> {
        let mut state = self.state();
        if state.ended || !(state.durable || self.is_connected()) {
            return None;
        }
        let number = state.next;
        state.next += 1;
        Some((number, state.durable))
    }

    /// Adds a delivery and wakes the connection; returns the deliveries that were dropped for it.
    pub fn push(&self, delivery: Delivery, limits: Limits) -> Vec<Delivery> {
        let mut state = self.state();
        if state.ended || (delivery.qos == 0 && !self.is_connected()) {
            return vec![delivery];
        }
        let gone = state.outbox.push(delivery, limits);
        drop(state);
        self.wake.notify_one();
        gone
    }

    /// Its terms, as the store keeps them.
    pub fn terms(&self, state: &State) -> Entry {
        Entry::Session {
            client: Arc::clone(&self.client),
            user: state.user.as_deref().unwrap_or_default().to_owned(),
            expiry: state.expiry,
            since: state.since,
            away: state.away,
            next: state.next,
        }
    }

    /// Its marks, if they changed; they are then counted as written up to `durable`.
    pub fn changed_marks(&self, durable: Position) -> Option<Entry> {
        let mut state = self.state();
        if !state.durable || state.ended || !state.inbound.dirty {
            return None;
        }
        state.inbound.dirty = state.inbound.is_ahead(durable);
        Some(state.inbound.marks(&self.client, durable))
    }
}

/// The rights of a session as its connection asks them: a copy of its own, renewed when they were set again.
#[derive(Debug)]
pub struct Granted {
    rights: Rights,
    set: u64,
}

impl Granted {
    /// As they are now.
    pub fn of(session: &Session) -> Self {
        let rights = session.rights.read();
        Self { rights: rights.clone(), set: session.rights_set.load(Relaxed) }
    }

    /// As they are now; costs one load while they are what they were.
    pub fn current(&mut self, session: &Session) -> &Rights {
        if session.rights_set.load(Relaxed) != self.set {
            *self = Self::of(session);
        }
        &self.rights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qos_1_resend_needs_the_same_id_and_content_as_the_last_with_that_id() {
        let mut inbound = Inbound::default();
        inbound.remember(1, 10, 111);
        assert!(inbound.is_resend(1, 111));
        assert!(!inbound.is_resend(1, 112));
        assert!(!inbound.is_resend(2, 111));
        inbound.remember(1, 11, 222);
        assert!(!inbound.is_resend(1, 111));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_newest_stay() {
        let mut inbound = Inbound::default();
        for at in 0..5_000u16 {
            inbound.remember(at, 1, u128::from(at));
        }
        assert_eq!(inbound.contents.len(), REMEMBERED);
        assert!(inbound.is_resend(4_999, 4_999));
        assert!(!inbound.is_resend(0, 0));
    }

    #[test]
    fn marks_that_the_journal_does_not_have_on_disk_are_not_written() {
        let session = Session::transient("c".into(), None, &Gauge::default());
        {
            let mut state = session.state();
            state.durable = true;
            state.inbound.unreleased.insert(5, (100, 1));
            state.inbound.remember(6, 101, 2);
        }
        let Some(Entry::Marks { unreleased, recent, .. }) = session.changed_marks(100) else {
            panic!("no marks")
        };
        assert_eq!((unreleased.len(), recent.len()), (1, 0));
        assert!(session.changed_marks(101).is_some(), "the newer one is still to be written");
        assert!(session.changed_marks(101).is_none());
    }
}
