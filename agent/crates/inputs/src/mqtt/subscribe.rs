//! SUBSCRIBE and UNSUBSCRIBE: checks, limits, the session's list, the router's, the store's.

use std::sync::Arc;

use rumqttd::protocol::{QoS, SubscribeReasonCode, UnsubAckReason};

use super::acl::Rights;
use super::broker::Broker;
use super::codec::{Request, shorten};
use super::router::Options;
use super::session::Session;
use super::store::{Entry, Ticket};
use super::topic::Filter;

fn granted(qos: u8) -> SubscribeReasonCode {
    SubscribeReasonCode::Success(match qos {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    })
}

/// Enters subscriptions; the codes are for SUBACK, which must wait for the ticket.
pub fn subscribe(
    broker: &Broker,
    session: &Arc<Session>,
    rights: &Rights,
    id: u32,
    requests: Vec<Request>,
) -> (Vec<SubscribeReasonCode>, Ticket) {
    let mut last = 0;
    let codes = requests
        .into_iter()
        .map(|request| match one(broker, session, rights, id, request) {
            Ok((qos, ticket)) => {
                last = last.max(ticket);
                granted(qos)
            }
            Err(code) => code,
        })
        .collect();
    (codes, last)
}

fn one(
    broker: &Broker,
    session: &Arc<Session>,
    rights: &Rights,
    id: u32,
    request: Request,
) -> Result<(u8, Ticket), SubscribeReasonCode> {
    let filter = Filter::parse(&request.filter).map_err(|_| SubscribeReasonCode::TopicFilterInvalid)?;
    if filter.group.is_some() && request.no_local {
        return Err(SubscribeReasonCode::TopicFilterInvalid);
    }
    if !rights.may_subscribe(filter.filter) {
        let (client, asked) = (shorten(&session.client), shorten(&request.filter));
        let reason = format!("client {client:?} may not subscribe to {asked:?}");
        broker.door.reject(telemetry::Cause::RejectedForbidden, &reason, b"");
        return Err(SubscribeReasonCode::NotAuthorized);
    }
    let options = Options {
        qos: request.qos,
        no_local: request.no_local,
        retain_as_published: request.retain_as_published,
        id,
    };
    let (new, durable) = {
        let mut state = session.state();
        let new = !state.subscriptions.contains_key(&request.filter);
        let full = state.subscriptions.len() >= broker.config.max_filters_per_client
            || broker.router.len() >= broker.config.max_filters;
        if new && full {
            return Err(SubscribeReasonCode::QuotaExceeded);
        }
        state.subscriptions.insert(request.filter.clone(), options);
        (new, state.durable)
    };
    broker.router.subscribe(filter, session, options);
    let mut ticket = 0;
    if durable {
        let client = Arc::clone(&session.client);
        ticket = broker.store.append([Entry::Subscribed { client, filter: request.filter.clone(), options }]);
    }
    // Shared subscriptions get no retained values.
    let wanted =
        filter.group.is_none() && (request.retain_handling == 0 || (request.retain_handling == 1 && new));
    if wanted {
        ticket = ticket.max(broker.deliver_retained(session, filter.filter, request.qos, id));
    }
    Ok((request.qos, ticket))
}

/// Takes subscriptions out; the reasons are for UNSUBACK, which must wait for the ticket.
pub fn unsubscribe(
    broker: &Broker,
    session: &Arc<Session>,
    filters: Vec<String>,
) -> (Vec<UnsubAckReason>, Ticket) {
    let mut last = 0;
    let reasons = filters
        .into_iter()
        .map(|text| {
            let Ok(filter) = Filter::parse(&text) else { return UnsubAckReason::TopicFilterInvalid };
            let (known, durable) = {
                let mut state = session.state();
                (state.subscriptions.remove(&text).is_some(), state.durable)
            };
            if !known {
                return UnsubAckReason::NoSubscriptionExisted;
            }
            broker.router.unsubscribe(filter, &session.client);
            if durable {
                let client = Arc::clone(&session.client);
                last = broker.store.append([Entry::Unsubscribed { client, filter: text.clone() }]);
            }
            UnsubAckReason::Success
        })
        .collect();
    (reasons, last)
}
