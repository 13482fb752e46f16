//! One session: hello, greeting, then batches up and acks down until one side ends it.

use std::time::Duration;

use telemetry::{BatchKey, Epoch, Lane};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, Streaming};
use wire::v1::{self, from_agent, from_collector, link_client::LinkClient};

use crate::credit::Credit;
use crate::endpoint::Gateway;
use crate::error::LinkError;
use crate::{Uplink, WIRE};

const GREETING_TIMEOUT: Duration = Duration::from_secs(15);
/// Batches wait for an ack this long before the session is given up: the collector says SlowDown when it is merely busy.
const ACK_TIMEOUT: Duration = Duration::from_secs(60);
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// At shutdown, how long what is spooled may still take to be acknowledged.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
/// Frames between us and the HTTP/2 stream; more would only hide the collector's back-pressure.
const OUTBOX: usize = 16;
const LONGEST_SLOW_DOWN: Duration = Duration::from_secs(300);
const MAX_FRAME: usize = 8 << 20;

/// Runs one session to its end. `greeted` tells whether it got as far as the greeting.
pub(crate) async fn run(
    uplink: &Uplink,
    gateway: &Gateway,
    shutdown: &CancellationToken,
    greeted: &mut bool,
) -> Result<(), LinkError> {
    let channel = tokio::select! {
        channel = gateway.endpoint.connect() => channel.map_err(LinkError::Connect)?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let bearer = gateway.bearer.clone();
    let mut client = LinkClient::with_interceptor(channel, move |mut request: Request<()>| {
        if let Some(bearer) = &bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        Ok::<_, Status>(request)
    })
    .max_decoding_message_size(MAX_FRAME)
    .max_encoding_message_size(MAX_FRAME);

    let (outbox, frames) = mpsc::channel(OUTBOX);
    outbox.send(frame(from_agent::Frame::Hello(hello(uplink)))).await.map_err(|_| LinkError::Closed)?;
    let opened = timeout(GREETING_TIMEOUT, client.session(ReceiverStream::new(frames))).await;
    let mut inbox =
        opened.map_err(|_| LinkError::NoGreeting(GREETING_TIMEOUT))?.map_err(Box::new)?.into_inner();
    let greeting = timeout(GREETING_TIMEOUT, receive(&mut inbox)).await;
    let from_collector::Frame::Greeting(greeting) =
        greeting.map_err(|_| LinkError::NoGreeting(GREETING_TIMEOUT))??
    else {
        return Err(LinkError::NoGreeting(GREETING_TIMEOUT));
    };
    if greeting.wire != WIRE {
        return Err(LinkError::Version { ours: WIRE, theirs: greeting.wire });
    }
    uplink.spool.greet(&greeting.holdings, &greeting.conflicts).map_err(spool_error)?;
    *greeted = true;
    let now = uplink.host.wall();
    uplink.state.up(now, &greeting.collector, now - greeting.wall_ns);
    tracing::info!(collector = %greeting.collector, url = %uplink.config.url, "link up");

    let mut session = Session {
        uplink,
        outbox,
        credit: Credit::new(greeting.credit_bytes),
        held_until: None,
        last_ack: Instant::now(),
    };
    session.exchange(&mut inbox, shutdown).await
}

fn hello(uplink: &Uplink) -> v1::Hello {
    let held = uplink.spool.hello();
    v1::Hello {
        wire: WIRE,
        agent: uplink.identity.agent.clone(),
        version: uplink.identity.version.clone(),
        epoch: held.epoch.0.to_vec(),
        next_seq: held.next_seq,
        unacked: held.unacked,
        boot_id: uplink.identity.boot.to_vec(),
        wall_ns: uplink.host.wall(),
        mono_ns: uplink.host.mono(),
        labels: uplink.identity.labels.iter().cloned().collect(),
    }
}

struct Session<'a> {
    uplink: &'a Uplink,
    outbox: mpsc::Sender<v1::FromAgent>,
    credit: Credit,
    held_until: Option<Instant>,
    last_ack: Instant,
}

impl Session<'_> {
    async fn exchange(
        &mut self,
        inbox: &mut Streaming<v1::FromCollector>,
        shutdown: &CancellationToken,
    ) -> Result<(), LinkError> {
        let spool = &self.uplink.spool;
        let mut status = tokio::time::interval(STATUS_EVERY);
        status.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut flush_by: Option<Instant> = None;
        loop {
            // Interest is registered before looking, so that a batch cut in between wakes us.
            let changed = spool.changed().notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let full = self.offer()?;

            let usage = spool.usage();
            let waiting = usage.in_flight > 0 && self.held_until.is_none();
            if !waiting {
                self.last_ack = Instant::now();
            } else if self.last_ack.elapsed() > ACK_TIMEOUT {
                return Err(LinkError::Stalled(ACK_TIMEOUT));
            }
            if flush_by.is_some_and(|by| usage.batches == 0 || Instant::now() >= by) {
                return Ok(());
            }
            let wake = [self.held_until, flush_by].into_iter().flatten().min();
            let wake = wake.unwrap_or_else(|| Instant::now() + STATUS_EVERY);
            let outbox = self.outbox.clone();
            tokio::select! {
                frame = receive(inbox) => self.take(frame?)?,
                room = outbox.reserve(), if full => drop(room.map_err(|_| LinkError::Closed)?),
                () = &mut changed => {}
                _ = status.tick() => self.report(),
                () = tokio::time::sleep_until(wake) => {}
                () = shutdown.cancelled(), if flush_by.is_none() => flush_by = Some(Instant::now() + FLUSH_TIMEOUT),
            }
        }
    }

    /// Puts batches into the outbox while there are any, credit for them and room. True when only room lacked.
    fn offer(&mut self) -> Result<bool, LinkError> {
        if self.held_until.is_some_and(|until| Instant::now() < until) {
            return Ok(false);
        }
        self.held_until = None;
        loop {
            let room = match self.outbox.try_reserve() {
                Ok(room) => room,
                Err(TrySendError::Full(())) => return Ok(true),
                Err(TrySendError::Closed(())) => return Err(LinkError::Closed),
            };
            if let Some(loss) = self.uplink.spool.next_loss() {
                room.send(frame(from_agent::Frame::Loss(loss)));
                continue;
            }
            let Some(batch) = self.next_batch()? else { return Ok(false) };
            let bytes = batch.payload.len() as u64;
            self.credit.spend(bytes);
            self.uplink.state.sent(bytes);
            room.send(frame(from_agent::Frame::Batch(batch)));
        }
    }

    fn next_batch(&self) -> Result<Option<v1::Batch>, LinkError> {
        let now = self.uplink.host.wall();
        for lane in [Lane::Live, Lane::Backlog] {
            if self.credit.allows(lane)
                && let Some(batch) = self.uplink.spool.next(lane, now).map_err(spool_error)?
            {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// A status frame is worth sending only when it doesn't wait: a newer one follows.
    fn report(&self) {
        let usage = self.uplink.spool.usage();
        let status = v1::Status {
            backlog_bytes: usage.bytes,
            backlog_batches: usage.batches,
            oldest_ns: usage.oldest_ns.unwrap_or(0),
            wall_ns: self.uplink.host.wall(),
            mono_ns: self.uplink.host.mono(),
            json: self.uplink.host.status_json(),
        };
        if let Ok(room) = self.outbox.try_reserve() {
            room.send(frame(from_agent::Frame::Status(status)));
        }
    }

    fn take(&mut self, incoming: from_collector::Frame) -> Result<(), LinkError> {
        use from_collector::Frame;
        let spool = &self.uplink.spool;
        match incoming {
            Frame::Ack(ack) => {
                self.last_ack = Instant::now();
                let acked = spool.acked(&ack.holdings).map_err(spool_error)?;
                self.uplink.state.acked(acked as u64);
            }
            Frame::Credit(credit) => self.credit.add(credit.bytes),
            Frame::NeedDefinitions(need) => {
                tracing::debug!(
                    seq = need.seq,
                    series = need.series.len(),
                    "the collector asks for definitions"
                );
                if let Some(key) = key(&need.epoch, need.seq) {
                    spool.need_definitions(key, &need.series);
                }
            }
            Frame::Conflict(conflict) => {
                if let Some(key) = key(&conflict.epoch, conflict.seq) {
                    tracing::warn!(seq = key.seq, epoch = %key.epoch, "the collector has another batch of this name: starting a new epoch");
                    spool.conflict(key, &conflict.checksum).map_err(spool_error)?;
                }
            }
            Frame::Refusal(refusal) => {
                if let Some(key) = key(&refusal.epoch, refusal.seq) {
                    tracing::error!(seq = key.seq, cause = %refusal.cause, message = %refusal.message, "the collector can never store this batch: it goes to quarantine");
                    spool.refused(key, &refusal.cause, &refusal.message).map_err(spool_error)?;
                }
            }
            Frame::SlowDown(slow) => {
                let pause = Duration::from_millis(u64::from(slow.after_ms)).min(LONGEST_SLOW_DOWN);
                tracing::warn!(reason = %slow.reason, pause_ms = pause.as_millis() as u64, "the collector asks to wait");
                self.held_until = Some(Instant::now() + pause);
                // What it had not committed it has forgotten.
                spool.session_lost();
            }
            Frame::Greeting(_) => tracing::debug!("a second greeting is ignored"),
        }
        Ok(())
    }
}

fn frame(frame: from_agent::Frame) -> v1::FromAgent {
    v1::FromAgent { frame: Some(frame) }
}

fn key(epoch: &[u8], seq: u64) -> Option<BatchKey> {
    Some(BatchKey { epoch: Epoch(epoch.try_into().ok()?), seq })
}

fn spool_error(error: impl std::fmt::Display) -> LinkError {
    LinkError::Spool(error.to_string())
}

/// The next frame; an unknown one (a newer collector's) is passed over.
async fn receive(inbox: &mut Streaming<v1::FromCollector>) -> Result<from_collector::Frame, LinkError> {
    loop {
        match inbox.message().await.map_err(Box::new)? {
            Some(v1::FromCollector { frame: Some(frame) }) => return Ok(frame),
            Some(_) => {}
            None => return Err(LinkError::Closed),
        }
    }
}
