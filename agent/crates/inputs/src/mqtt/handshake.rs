//! CONNECT: who is it, may it in, and which session does it get.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rumqttd::protocol::{ConnAckProperties, ConnectReturnCode};
use tokio_util::sync::CancellationToken;

use super::access::{Peer, Refused};
use super::broker::Broker;
use super::client_ids;
use super::codec::{Version, shorten};
use super::connect::{Connect, Will};
use super::session::{Granted, Owner, Session};
use super::store::Ticket;

/// Longest client id.
const MAX_CLIENT_ID: usize = 1_024;
/// How long the connection that is taken over may take to let go.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// A connection that was let in. Dropping it lets the session go, whatever ended the connection.
pub struct Held {
    broker: Arc<Broker>,
    /// Its session.
    pub session: Arc<Session>,
    /// What it may do.
    pub rights: Granted,
    user: Option<Arc<str>>,
    /// Cancelled when another connection takes over.
    pub stop: CancellationToken,
    number: u64,
    /// To be published unless the client says goodbye.
    pub will: Option<Will>,
    /// Seconds the session outlives the connection; a v5 DISCONNECT may change it.
    pub expiry: u32,
    /// Seconds between its packets; after 1.5 times as many it is gone. 0 = never.
    pub keep_alive: u16,
}

/// What CONNACK says.
pub struct Welcome {
    /// The session was there before.
    pub present: bool,
    /// v5 properties.
    pub properties: ConnAckProperties,
    /// Not before the store has this.
    pub ticket: Ticket,
}

/// Decides on a CONNECT.
///
/// # Errors
/// The code for CONNACK, and why.
pub async fn admit(broker: &Arc<Broker>, connect: Connect, peer: &Peer) -> Result<(Held, Welcome), Refused> {
    if connect.auth_method.is_some() {
        return Err(ConnectReturnCode::BadAuthenticationMethod.into());
    }
    let access = broker.access();
    let user = access.identify(&broker.attempts, connect.login.as_ref(), peer).await?;
    let mut client = connect.client;
    if client.len() > MAX_CLIENT_ID || client.chars().any(|c| c.is_control()) {
        return Err(ConnectReturnCode::ClientIdentifierNotValid.into());
    }
    let mut properties = ConnAckProperties::default();
    if client.is_empty() {
        if connect.version == Version::V4 && !connect.clean {
            return Err(ConnectReturnCode::ClientIdentifierNotValid.into());
        }
        client = assigned_id().ok_or(ConnectReturnCode::ServerBusy)?;
        properties.assigned_client_identifier = Some(client.clone());
    } else {
        access.may_have(user.as_deref(), &client)?;
    }
    let asked = match connect.version {
        Version::V4 if connect.clean => 0,
        Version::V4 => broker.config.max_session_expiry_secs,
        Version::V5 => connect.expiry.unwrap_or(0),
    };
    let expiry = asked.min(broker.config.max_session_expiry_secs);
    let keep_alive = match (connect.version, broker.config.max_keep_alive_secs) {
        (Version::V5, longest @ 1..) if connect.keep_alive == 0 || connect.keep_alive > longest => longest,
        _ => connect.keep_alive,
    };
    if connect.version == Version::V5 {
        properties.session_expiry_interval = (expiry != asked).then_some(expiry);
        properties.server_keep_alive = (keep_alive != connect.keep_alive).then_some(keep_alive);
        properties.receive_max = Some(broker.config.max_inflight);
        properties.max_packet_size = u32::try_from(broker.config.max_packet_bytes).ok();
        properties.topic_alias_max = Some(super::connection::MAX_ALIASES);
        properties.wildcard_subscription_available = Some(1);
        properties.subscription_identifiers_available = Some(1);
        properties.shared_subscription_available = Some(1);
    }
    let rights = access.rights(user.as_deref(), &client);
    if let Some(will) = connect.will.as_ref().filter(|will| !rights.may_write(&will.topic)) {
        // Said now, to who can mend it, and not when the will is due and nobody hears.
        let why = format!("it may not publish its will to {:?}", shorten(&will.topic));
        return Err(Refused { code: ConnectReturnCode::NotAuthorized, why });
    }
    let client: Arc<str> = client.into();
    let terms = Terms { user: user.clone(), clean: connect.clean, expiry };
    let taken = tokio::time::timeout(TAKE_OVER, take(broker, &client, terms, peer));
    let (session, stop, number, present, ticket) =
        taken.await.map_err(|_| ConnectReturnCode::ServerBusy)??;
    let gone = session.narrow(rights);
    let mut held = Held {
        broker: Arc::clone(broker),
        rights: Granted::of(&session),
        session,
        user,
        stop,
        number,
        will: None,
        expiry,
        keep_alive,
    };
    broker.dropped(&held.session, &gone);
    // A reload since it was identified has not seen this connection, or sees it from now on.
    let now = broker.access();
    if !Arc::ptr_eq(&access, &now) {
        if !now.keeps_session(held.user.as_deref(), &client) {
            held.expiry = 0;
        }
        return Err(Refused {
            code: ConnectReturnCode::ServerBusy,
            why: "who may do what has just changed".into(),
        });
    }
    broker.wills.cancel(&client);
    held.will = connect.will;
    Ok((held, Welcome { present, properties, ticket }))
}

fn assigned_id() -> Option<String> {
    use ring::rand::{SecureRandom, SystemRandom};
    let mut bytes = [0u8; 12];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes.iter().fold(client_ids::ASSIGNED.to_owned(), |id, byte| format!("{id}{byte:02x}")))
}

type Taken = (Arc<Session>, CancellationToken, u64, bool, Ticket);

/// Whose session is asked for, and how.
struct Terms {
    user: Option<Arc<str>>,
    clean: bool,
    expiry: u32,
}

async fn take(
    broker: &Arc<Broker>,
    client: &Arc<str>,
    Terms { user, clean, expiry }: Terms,
    peer: &Peer,
) -> Result<Taken, Refused> {
    loop {
        let session = {
            let mut sessions = broker.sessions.lock();
            match sessions.get(client) {
                Some(session) => Arc::clone(session),
                None => {
                    let session = Session::transient(Arc::clone(client), user.clone(), &broker.queued);
                    sessions.insert(Arc::clone(client), Arc::clone(&session));
                    session
                }
            }
        };
        let attaching = session.attach.lock().await;
        if session.state().user != user {
            // Another user's session: neither its messages nor its place are for the asking.
            let whose = session.state().user.as_deref().map_or("one without a name", shorten).to_owned();
            let why = format!(
                "the session of its client id is another user's ({whose}); client_ids of [[input.mqtt.user]] keep an id for whom it is"
            );
            return Err(Refused { code: ConnectReturnCode::NotAuthorized, why });
        }
        // Whoever holds it must let go entirely first: its will, its marks, its window.
        loop {
            let released = broker.released.notified();
            let mut released = std::pin::pin!(released);
            released.as_mut().enable();
            match &session.state().owner {
                Some(owner) => owner.stop.cancel(),
                None => break,
            }
            released.await;
        }
        if session.state().ended {
            continue;
        }
        let present = session.state().durable;
        if clean && present {
            broker.end_session(&session);
            continue;
        }
        if expiry > 0 && !present {
            let durable = broker.sessions.lock().values().filter(|session| session.state().durable).count();
            if durable >= broker.config.max_sessions {
                broker.end_session(&session);
                return Err(ConnectReturnCode::QuotaExceeded.into());
            }
        }
        let number = broker.connections.fetch_add(1, Relaxed) + 1;
        let stop = CancellationToken::new();
        let mut ticket = 0;
        {
            let mut state = session.state();
            if !present {
                state.since = broker.door.journal.last();
            }
            state.durable = expiry > 0;
            (state.expiry, state.away) = (expiry, 0);
            let chain = peer.certificate.as_ref().map(|presented| Arc::clone(&presented.chain));
            state.owner = Some(Owner { stop: stop.clone(), number, address: peer.address, chain, cut: None });
            state.outbox.resume();
            if state.durable {
                ticket = broker.store.append([session.terms(&state)]);
            } else if present {
                // From now on it lives with its connection only.
                ticket = broker.store.append([super::store::Entry::Ended { client: Arc::clone(client) }]);
            }
        }
        session.set_connected(true);
        broker.counters.clients.fetch_add(1, Relaxed);
        broker.door.stats.connected();
        drop(attaching);
        return Ok((session, stop, number, present, ticket));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let broker = &self.broker;
        broker.counters.clients.fetch_sub(1, Relaxed);
        broker.door.stats.disconnected();
        self.session.set_connected(false);
        let ends = {
            let mut state = self.session.state();
            let cut = state.owner.as_ref().and_then(|owner| owner.cut.as_ref());
            if cut.is_some_and(|cut| cut.ends_session) {
                self.expiry = 0;
            }
            let was_durable = state.durable;
            state.expiry = self.expiry;
            if self.expiry > 0 {
                state.durable = true;
                state.away = broker.door.steady().max(1);
                state.outbox.drop_qos_0();
                let mut entries = vec![self.session.terms(&state)];
                if !was_durable {
                    // It became durable in its DISCONNECT: what it subscribed to becomes so too.
                    entries.extend(state.subscriptions.iter().map(|(filter, options)| {
                        let client = Arc::clone(&self.session.client);
                        super::store::Entry::Subscribed { client, filter: filter.clone(), options: *options }
                    }));
                }
                broker.store.append(entries);
            }
            self.expiry == 0
        };
        let delay = self.will.as_ref().map_or(0, |will| will.delay.min(self.expiry));
        if let Some(will) = self.will.take() {
            let delay = Duration::from_secs(delay.into());
            broker.wills.leave(broker, &self.session.client, self.user.clone(), will, delay);
        }
        if ends {
            broker.end_session(&self.session);
        }
        let mut state = self.session.state();
        if state.owner.as_ref().is_some_and(|owner| owner.number == self.number) {
            state.owner = None;
        }
        drop(state);
        broker.released.notify_waiters();
    }
}
