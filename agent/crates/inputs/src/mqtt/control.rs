//! What a client sends beside publishes: acks, subscriptions, pings, its goodbye.

use std::sync::Arc;

use bytes::BytesMut;

use super::codec::{Incoming, Violation};
use super::connection::{Connection, End};
use super::store::Entry;
use super::{encode, subscribe};

impl Connection {
    /// Deals with one packet; `Some` ends the connection.
    ///
    /// # Errors
    /// The connection must be closed.
    pub(super) fn control(&mut self, incoming: Incoming<'_>) -> Result<Option<End>, Violation> {
        let session = Arc::clone(&self.held.session);
        let client = || Arc::clone(&session.client);
        match incoming {
            Incoming::Publish(_) => {}
            Incoming::PubAck { pkid } => {
                let done = session.state().outbox.acknowledged(pkid);
                self.broker.done(&session, done.iter().map(|delivery| delivery.number));
            }
            Incoming::PubRec { pkid, failed: true } => {
                let done = session.state().outbox.refused(pkid);
                self.broker.done(&session, done.iter().map(|delivery| delivery.number));
            }
            Incoming::PubRec { pkid, failed: false } => {
                let (number, durable) = {
                    let mut state = session.state();
                    (state.outbox.received(pkid), state.durable)
                };
                let mut bytes = BytesMut::new();
                // 0x92: packet identifier not found.
                encode::ack(
                    &mut bytes,
                    self.version,
                    encode::PUBREL,
                    pkid,
                    if number.is_some() { 0 } else { 0x92 },
                );
                // DURABILITY: were the PUBREL sent first and forgotten, a restart would send the
                // message again under an id that the client has let go: twice.
                let ticket = match number {
                    Some(number) if durable => {
                        self.broker.store.append([Entry::Received { client: client(), number }])
                    }
                    _ => 0,
                };
                self.respond(bytes, 0, ticket, 0);
            }
            Incoming::PubRel { pkid } => {
                let (known, durable) = {
                    let mut state = session.state();
                    let known = state.inbound.unreleased.remove(&pkid);
                    state.inbound.dirty |= known.is_some();
                    (known, state.durable)
                };
                let mut bytes = BytesMut::new();
                encode::ack(
                    &mut bytes,
                    self.version,
                    encode::PUBCOMP,
                    pkid,
                    if known.is_some() { 0 } else { 0x92 },
                );
                // DURABILITY: after PUBCOMP the client may use the id for another message, which
                // must not be taken for this one after a restart.
                let ticket = match known {
                    Some((position, _)) if durable => {
                        self.broker.store.append([Entry::Released { client: client(), pkid, position }])
                    }
                    _ => 0,
                };
                self.respond(bytes, 0, ticket, 0);
            }
            Incoming::PubComp { pkid } => {
                let done = session.state().outbox.completed(pkid);
                self.broker.done(&session, done.iter().map(|delivery| delivery.number));
            }
            Incoming::Subscribe { pkid, id, requests } => {
                let rights = self.held.rights.current(&session);
                let (codes, ticket) =
                    subscribe::subscribe(&self.broker, &session, rights, id.unwrap_or(0), requests);
                let mut bytes = BytesMut::new();
                encode::suback(&mut bytes, self.version, pkid, codes);
                self.respond(bytes, 0, ticket, 0);
            }
            Incoming::Unsubscribe { pkid, filters } => {
                let (reasons, ticket) = subscribe::unsubscribe(&self.broker, &session, filters);
                let mut bytes = BytesMut::new();
                encode::unsuback(&mut bytes, self.version, pkid, reasons);
                self.respond(bytes, 0, ticket, 0);
            }
            Incoming::PingReq => self.pong(),
            Incoming::Disconnect { with_will, expiry } => {
                if let Some(expiry) = expiry {
                    if self.held.expiry == 0 && expiry > 0 {
                        return Err(Violation::protocol(
                            "a session expiry in DISCONNECT after none in CONNECT",
                        ));
                    }
                    self.held.expiry = expiry.min(self.broker.config.max_session_expiry_secs);
                }
                return Ok(Some(if with_will { End::Lost } else { End::Goodbye }));
            }
        }
        Ok(None)
    }
}
