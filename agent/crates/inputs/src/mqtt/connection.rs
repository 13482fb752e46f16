//! One client's connection after CONNECT: reads, acknowledges, delivers, until one side ends it.
//!
//! One task, one loop. What is read goes to the journal and into `pending` with the position its
//! ack waits for; what the durable mark has passed goes to `out`; so does what waits in the
//! session's outbox. Reading stops while too much is pending, while `out` isn't taken by the client,
//! and while the journal pushes back: that is the back-pressure, and it reaches this sender only.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rumqttd::protocol::DisconnectReasonCode as Reason;
use telemetry::{Cause, Position};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::batch::{self, Outcome};
use super::broker::Broker;
use super::codec::{self, Incoming, Publish, Version, Violation};
use super::connect::Connect;
use super::encode;
use super::handshake::Held;
use super::outbox::Next;
use super::store::Ticket;
use crate::intake::SeriesCache;

/// The type of a PUBLISH packet.
const PUBLISH: u8 = 3;
/// Topic aliases a client may set.
pub const MAX_ALIASES: u16 = 64;
/// How much is read at once, at first and at most: an idle client costs little, a busy one fills
/// larger batches.
const READ_MIN: usize = 1 << 10;
const READ_MAX: usize = 64 << 10;
/// Deliveries are added until this much waits to be written.
const WRITE_LOW: usize = 32 << 10;
/// Beyond this nothing more is read: the client doesn't take what it asked for.
const WRITE_HIGH: usize = 256 << 10;
/// A client that takes nothing for this long is gone.
const STALLED: Duration = Duration::from_secs(30);
/// Publishes that go into one intake.
const BATCH: usize = 512;
/// One unreleased publish may be remembered per so many bytes of `max_memory_bytes`: at 64 bytes each they take a quarter of it.
const UNRELEASED_SHARE: usize = 256;

struct Pending {
    position: Position,
    ticket: Ticket,
    bytes: BytesMut,
    publishes: usize,
    since: Instant,
}

/// Why a connection ends.
pub enum End {
    /// DISCONNECT.
    Goodbye,
    /// The socket is closed or broken.
    Lost,
    /// Another connection has the session now.
    TakenOver,
    /// The agent stops.
    Shutdown,
    /// For what the client did, or didn't.
    Closed(Violation),
}

/// The connection's state.
pub struct Connection {
    /// Shared.
    pub broker: Arc<Broker>,
    /// Session and rights.
    pub held: Held,
    /// What it speaks.
    pub version: Version,
    /// Topic → series, from batch to batch.
    pub cache: SeriesCache,
    input: BytesMut,
    out: BytesMut,
    pending: VecDeque<Pending>,
    unacked: usize,
    aliases: HashMap<u16, String>,
    keep_alive: Option<Duration>,
    window: usize,
    max_out: usize,
    durable: watch::Receiver<Position>,
    stored: watch::Receiver<Ticket>,
    /// Nothing is read before this: the journal pushed back.
    hold: Option<Instant>,
    /// Complete packets may lie in `input` that were not looked at yet.
    unread: bool,
    batch: usize,
    read_size: usize,
    /// CONNACK is out: before it nothing else may be sent.
    greeted: bool,
}

impl Connection {
    /// After CONNECT; `input` holds what was read behind it.
    pub fn new(broker: Arc<Broker>, held: Held, connect: &Connect, input: BytesMut) -> Self {
        let window = usize::from(connect.receive_maximum.min(broker.config.max_inflight));
        Self {
            durable: broker.door.journal.durable(),
            stored: broker.store.durable(),
            keep_alive: (held.keep_alive > 0)
                .then(|| Duration::from_millis(u64::from(held.keep_alive) * 1_500)),
            window,
            max_out: connect.max_packet.map_or(usize::MAX, |max| max as usize),
            version: connect.version,
            cache: SeriesCache::new(),
            unread: !input.is_empty(),
            input,
            out: BytesMut::new(),
            pending: VecDeque::new(),
            unacked: 0,
            aliases: HashMap::new(),
            hold: None,
            batch: BATCH,
            read_size: READ_MIN,
            greeted: false,
            broker,
            held,
        }
    }

    /// A ping is answered at once, whatever waits for the disk.
    pub(super) fn pong(&mut self) {
        encode::pong(&mut self.out);
    }

    /// Queues bytes that go out when both marks have passed; the order is kept.
    pub fn respond(&mut self, bytes: BytesMut, position: Position, ticket: Ticket, publishes: usize) {
        if bytes.is_empty() && publishes == 0 {
            return;
        }
        self.unacked += publishes;
        self.pending.push_back(Pending { position, ticket, bytes, publishes, since: Instant::now() });
    }

    /// Runs until one side ends it, then says so to the client and lets the session go.
    pub async fn run<S>(mut self, mut stream: S, shutdown: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let end = self.serve(&mut stream, &shutdown).await;
        let reason = match &end {
            End::Goodbye => {
                self.held.will = None;
                None
            }
            End::Lost => None,
            End::TakenOver => Some(Reason::SessionTakenOver),
            End::Shutdown => {
                // The agent's restart is not the device's failure.
                self.held.will = None;
                Some(Reason::ServerShuttingDown)
            }
            End::Closed(violation) => {
                let client = codec::shorten(&self.held.session.client);
                self.broker.violated(&format_args!("client {client:?}"), violation, &self.input);
                tracing::warn!(client, reason = %violation, "an MQTT client was disconnected");
                Some(violation.reason)
            }
        };
        // Taken over before its CONNACK: then nothing may be said at all.
        let reason = reason.filter(|_| self.greeted);
        if let Some(reason) = reason {
            encode::disconnect(&mut self.out, self.version, reason);
        }
        let Self { out, held, version, .. } = self;
        drop(held);
        let farewell = async {
            if reason.is_some() && version == Version::V5 {
                stream.write_all(&out).await?;
            }
            stream.shutdown().await?;
            if reason.is_some() {
                // Read what is still coming: closing with unread bytes would reset the connection,
                // and our DISCONNECT would be lost with it.
                let mut sink = [0; 4096];
                while stream.read(&mut sink).await? > 0 {}
            }
            Ok::<_, std::io::Error>(())
        };
        // An error here is the client being gone already.
        let _ = tokio::time::timeout(Duration::from_millis(500), farewell).await;
    }

    async fn serve<S>(&mut self, stream: &mut S, shutdown: &CancellationToken) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut last_read = Instant::now();
        let mut last_written = Instant::now();
        let timer = tokio::time::sleep(Duration::from_secs(1));
        let mut timer = std::pin::pin!(timer);
        let session = Arc::clone(&self.held.session);
        let stop = self.held.stop.clone();
        loop {
            if self.hold.is_none_or(|until| until <= Instant::now()) {
                self.hold = None;
                if self.unread && self.greeted && self.may_read() {
                    match self.receive() {
                        Ok(None) => {}
                        Ok(Some(end)) => return end,
                        Err(violation) => return End::Closed(violation),
                    }
                }
            }
            self.release();
            let waits_for_delivery = self.deliver();
            let reading = self.may_read() && !self.unread && self.hold.is_none();
            let waiting = !self.pending.is_empty() || waits_for_delivery;
            // A full turn that has work left goes on at once, but lets others run in between.
            if self.unread && self.greeted && self.may_read() && self.hold.is_none() {
                tokio::task::yield_now().await;
                if self.out.is_empty() {
                    continue;
                }
            }
            if reading {
                self.input.reserve(self.read_size);
            }
            tokio::select! {
                () = stop.cancelled() => return self.stopped(),
                () = shutdown.cancelled() => return self.drain(&mut writer).await,
                read = reader.read_buf(&mut self.input), if reading => match read {
                    Ok(0) | Err(_) => return End::Lost,
                    Ok(n) => {
                        last_read = Instant::now();
                        self.unread = true;
                        if n >= self.read_size {
                            self.read_size = (self.read_size * 2).min(READ_MAX);
                        }
                        if self.is_lone_publish() {
                            tokio::task::yield_now().await;
                        }
                    }
                },
                written = writer.write_buf(&mut self.out), if !self.out.is_empty() => match written {
                    Ok(0) | Err(_) => return End::Lost,
                    Ok(_) => last_written = Instant::now(),
                },
                changed = self.durable.changed(), if waiting => if changed.is_err() {
                    return End::Closed(Violation::new(Reason::ServerShuttingDown, "the journal was closed"));
                },
                changed = self.stored.changed(), if waiting => if changed.is_err() {
                    return End::Closed(Violation::new(Reason::ServerShuttingDown, "the session store was closed"));
                },
                () = session.wake.notified() => {},
                () = timer.as_mut() => {
                    let now = Instant::now();
                    // While we don't read it is not the client that is silent.
                    if !reading {
                        last_read = now;
                    }
                    if self.keep_alive.is_some_and(|limit| now - last_read >= limit) {
                        return End::Closed(Violation::new(Reason::KeepAliveTimeout, "nothing came within 1.5 times the keep-alive"));
                    }
                    if !self.out.is_empty() && now - last_written >= STALLED {
                        return End::Closed(Violation::new(Reason::QuotaExceeded, "the client takes nothing of what is sent to it"));
                    }
                    if self.out.is_empty() {
                        last_written = now;
                    }
                    if self.pending.front().is_some_and(|front| now - front.since >= self.broker.door.limits.durable_wait) {
                        return End::Closed(Violation::new(Reason::ServerBusy, "the disk did not confirm in time"));
                    }
                    let mut next = now + Duration::from_secs(5);
                    if let Some(limit) = self.keep_alive {
                        next = next.min((last_read + limit).max(now + Duration::from_millis(10)));
                    }
                    if let Some(hold) = self.hold {
                        next = next.min(hold.max(now + Duration::from_millis(1)));
                    }
                    timer.as_mut().reset(next);
                }
            }
            if let Some(hold) = self.hold
                && timer.deadline() > hold
            {
                timer.as_mut().reset(hold);
            }
        }
    }

    /// Another connection has the session, or this one may not stay.
    fn stopped(&self) -> End {
        let state = self.held.session.state();
        match state.owner.as_ref().and_then(|owner| owner.cut.as_ref()) {
            None => End::TakenOver,
            Some(cut) => {
                let cause = Some(Cause::RejectedForbidden);
                End::Closed(Violation { cause, ..Violation::new(Reason::NotAuthorized, cut.why.clone()) })
            }
        }
    }

    /// The agent stops: what was taken is still acknowledged, if the disk is quick.
    async fn drain<W: AsyncWrite + Unpin>(&mut self, writer: &mut W) -> End {
        let drained = async {
            loop {
                self.release();
                if !self.out.is_empty() && writer.write_all_buf(&mut self.out).await.is_err() {
                    return;
                }
                let Some(front) = self.pending.front() else { return };
                let (position, ticket) = (front.position, front.ticket);
                if self.durable.wait_for(|durable| *durable >= position).await.is_err() {
                    return;
                }
                if self.stored.wait_for(|stored| *stored >= ticket).await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(2), drained).await;
        End::Shutdown
    }

    /// A publish came alone, and nothing else of this client is under way: then whoever is ready too goes first.
    ///
    /// NOTE: another client's SUBSCRIBE may have come before it, in the same turn of the reactor, and would miss it: the runtime
    /// runs the task first that it woke *last*. The standard promises no order between connections, and programs rely on it
    /// all the same. Only publishes step back: were subscriptions to do so too, the two would change places once more. Under load
    /// a read holds several publishes, or finds some waiting for the disk, and pays two comparisons.
    fn is_lone_publish(&self) -> bool {
        let max = self.broker.config.max_packet_bytes;
        self.pending.is_empty()
            && self.input.first().is_some_and(|header| header >> 4 == PUBLISH)
            && codec::frame(&self.input, max)
                .is_ok_and(|frame| frame.is_none_or(|frame| frame.whole.len() == self.input.len()))
    }

    fn may_read(&self) -> bool {
        self.unacked < self.window_in() && self.out.len() < WRITE_HIGH && self.pending.len() < 1_024
    }

    fn window_in(&self) -> usize {
        usize::from(self.broker.config.max_inflight)
    }

    /// Moves to `out` what both durable marks have passed.
    fn release(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let durable = *self.durable.borrow_and_update();
        let stored = *self.stored.borrow_and_update();
        while let Some(front) = self.pending.front()
            && front.position <= durable
            && front.ticket <= stored
        {
            self.out.extend_from_slice(&front.bytes);
            self.unacked -= front.publishes;
            self.greeted = true;
            self.pending.pop_front();
        }
    }

    /// Moves deliveries to `out`; true when the next one waits for the journal.
    fn deliver(&mut self) -> bool {
        if !self.greeted || self.out.len() >= WRITE_LOW {
            return false;
        }
        let durable = *self.durable.borrow();
        let now = self.broker.door.steady();
        let mut over = Vec::new();
        let mut state = self.held.session.state();
        // Asked under the lock: what a reload took away is not delivered once it is done.
        let rights = self.held.rights.current(&self.held.session);
        let waits = loop {
            if self.out.len() >= WRITE_LOW {
                break false;
            }
            let delivery = match state.outbox.next(self.window, durable) {
                None => break state.outbox.waits_for(durable).is_some(),
                Some(Next::Release(pkid)) => {
                    encode::ack(&mut self.out, self.version, encode::PUBREL, pkid, 0);
                    continue;
                }
                Some(Next::Publish(delivery)) => delivery,
            };
            let sent = !delivery.message.expired(now)
                && rights.may_read(&delivery.message.topic)
                && encode::publish(&mut self.out, self.version, &delivery, now, self.max_out);
            if !sent && delivery.qos > 0 {
                let pkid = delivery.pkid();
                over.extend(state.outbox.acknowledged(pkid).or_else(|| state.outbox.refused(pkid)));
            }
        };
        drop(state);
        if !over.is_empty() {
            self.broker.done(&self.held.session, over.iter().map(|delivery| delivery.number));
        }
        waits
    }

    /// Works through complete packets in `input`, as far as limits allow.
    fn receive(&mut self) -> Result<Option<End>, Violation> {
        self.unread = false;
        if self.broker.store.is_behind() {
            self.unread = true;
            self.hold = Some(Instant::now() + Duration::from_millis(20));
            return Ok(None);
        }
        let input = std::mem::take(&mut self.input);
        let mut used = 0;
        let result = self.receive_from(&input, &mut used);
        self.input = input;
        self.input.advance(used);
        result
    }

    fn receive_from(&mut self, input: &[u8], used: &mut usize) -> Result<Option<End>, Violation> {
        let max = self.broker.config.max_packet_bytes;
        let mut publishes: Vec<Publish<'_>> = Vec::new();
        let mut end = *used;
        loop {
            let room = self.window_in().saturating_sub(self.unacked + publishes.len());
            if room == 0 || publishes.len() >= self.batch {
                self.unread = true;
                break;
            }
            let frame = match codec::frame(&input[end..], max) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(violation) => {
                    *used = end;
                    return self.last_words(&mut publishes, violation);
                }
            };
            let incoming = match codec::decode(self.version, frame) {
                Ok(incoming) => incoming,
                Err(violation) => {
                    *used = end;
                    return self.last_words(&mut publishes, violation);
                }
            };
            if let Incoming::Publish(publish) = incoming {
                if publish.alias.is_some() && !publishes.is_empty() {
                    // An alias may be set and used in one read: one at a time, each borrows its own.
                    self.unread = true;
                    break;
                }
                end += frame.whole.len();
                if let Some(alias) = publish.alias {
                    if self.aliased(alias, publish)? {
                        *used = end;
                        continue;
                    }
                    self.unread = true;
                    return Ok(None);
                }
                publishes.push(publish);
                continue;
            }
            if !publishes.is_empty() {
                self.unread = true;
                break;
            }
            let ended = self.control(incoming)?;
            end += frame.whole.len();
            *used = end;
            if ended.is_some() {
                return Ok(ended);
            }
            if self.pending.len() >= 1_024 {
                self.unread = true;
                break;
            }
        }
        if !publishes.is_empty() && self.submit(&mut publishes)? {
            *used = end;
        }
        Ok(None)
    }

    /// What came complete before a violation is still taken; `input` then begins with the violation.
    fn last_words(
        &mut self,
        publishes: &mut [Publish<'_>],
        violation: Violation,
    ) -> Result<Option<End>, Violation> {
        if !publishes.is_empty() {
            self.submit(publishes)?;
        }
        Err(violation)
    }

    /// True when the publishes were taken; false when the same bytes must be read again.
    fn submit(&mut self, publishes: &mut [Publish<'_>]) -> Result<bool, Violation> {
        let count = publishes.len() as u64;
        match batch::take(self, publishes)? {
            Outcome::Taken(taken) => {
                self.batch = BATCH;
                self.broker.counters.received.fetch_add(count, Relaxed);
                self.respond(taken.acks, taken.position, taken.ticket, taken.count);
                self.check_unreleased()?;
                Ok(true)
            }
            Outcome::Busy(retry) => {
                self.unread = true;
                self.hold =
                    Some(Instant::now() + retry.clamp(Duration::from_millis(1), Duration::from_secs(5)));
                Ok(false)
            }
            Outcome::TooLarge => {
                self.unread = true;
                self.batch = 1;
                Ok(false)
            }
        }
    }

    /// A client that publishes at QoS 2 and never releases would fill our memory. Version 5 was told
    /// how many we take. Version 3 can't be told, and sends all it has again at its next connection: to
    /// refuse what an outage left with it would lock it out for ever, so only our memory is the limit.
    fn check_unreleased(&self) -> Result<(), Violation> {
        let unreleased = self.held.session.state().inbound.unreleased.len();
        let window = self.window_in();
        if self.version == Version::V5 {
            if unreleased <= window {
                return Ok(());
            }
            let text = format!(
                "{unreleased} QoS 2 publishes without PUBREL; at most {window} are taken (max_inflight)"
            );
            return Err(Violation::new(Reason::ReceiveMaximumExceeded, text));
        }
        // Who holds few can't be the one that fills the memory.
        if unreleased <= 4 * window {
            return Ok(());
        }
        let (all, limit) = (self.broker.unreleased(), self.broker.config.max_memory_bytes / UNRELEASED_SHARE);
        if all <= limit {
            return Ok(());
        }
        let text = format!(
            "{unreleased} QoS 2 publishes of this client, {all} of all clients, without PUBREL; at most {limit} are taken (max_memory_bytes)"
        );
        Err(Violation { cause: Some(Cause::RejectedLimit), ..Violation::new(Reason::QuotaExceeded, text) })
    }

    /// A publish with a topic alias; as [`Self::submit`].
    fn aliased(&mut self, alias: u16, mut publish: Publish<'_>) -> Result<bool, Violation> {
        if alias == 0 || alias > MAX_ALIASES {
            return Err(Violation::new(
                Reason::TopicAliasInvalid,
                format!("topic alias {alias}; 1 to {MAX_ALIASES} are taken"),
            ));
        }
        if !publish.topic.is_empty() {
            self.aliases.insert(alias, publish.topic.to_owned());
            return self.submit(std::slice::from_mut(&mut publish));
        }
        let Some(topic) = self.aliases.get(&alias).cloned() else {
            return Err(Violation::protocol(format!("topic alias {alias} was never set")));
        };
        let mut publish = Publish { topic: &topic, ..publish };
        self.submit(std::slice::from_mut(&mut publish))
    }
}
