//! A session with the collector as a state machine: what to say next, and what its words mean.
//!
//! No clock, no socket, no randomness and no waiting in here: `pump.rs` drives it over a real link, a
//! simulation over a virtual one. Time is a [`Duration`] that only grows, from whatever start the caller
//! likes; the wall clock and the draws come from [`Host`]. Everything durable is the spool's, so a session
//! may end at any point, and the next one begins with what the greeting says.
//!
//! ```text
//!            opened            next_frame: Hello         take: Greeting
//! Closed ───────────▶ Hello ───────────────────▶ Greeting ─────────────▶ Open ──── finish ────▶ Open, finishing
//!    ▲                  │ 15 s                        │ 15 s, another version    │ acks missing, silence │ nothing left,
//!    └──── closed ──────┴─────────────────────────────┴──────────────────────────┴───────────────────────┘ or 3 s
//! ```
//!
//! - **Hello**: the hello is to be sent. **Greeting**: it was, and the collector is to say what it holds.
//! - **Open**: batches and losses go up as credit, lanes, limits and hours allow; acks come down. While the collector
//!   asked for a pause (SlowDown), only the status is sent. What it had not committed by then it has forgotten, so
//!   it is sent again afterwards. One that asks again and again, and takes nothing in between, is given up after a minute.
//! - The caller ends a session by [`Session::closed`] whenever a call fails, [`Session::finished`] says so or the
//!   link breaks. What was under way waits again, and is settled by the next greeting or sent once more: the
//!   collector knows a batch again by its name, so a dead link that ate acks costs bytes and nothing else.
//!
//! How to drive it: `opened`, then again and again `next_frame` until it gives nothing, `tick`, and sleep until
//! [`Session::wake_at`], a frame ([`Session::take`]) or news in the spool ([`spool::Spool::changed`]).

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use spool::Spool;
use telemetry::{BatchKey, Epoch, Lane, Stamp};
use wire::v1::{self, from_agent, from_collector};

use crate::care::{Asked, Care};
use crate::credit::Credit;
use crate::error::{GOODBYES, LinkError};
use crate::flight::Flights;
use crate::hello::probing_hello;
use crate::hours::hour;
use crate::lanes::{Choice, Lanes};
use crate::pace::Pace;
use crate::parts::Parts;
use crate::patience::{Patience, PutOff};
use crate::state::{Closed, LinkState, SlowDown};
use crate::traced::Sending;
use crate::{Host, Identity, WIRE};

/// The collector greets within this time.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(15);
/// Batches wait for an ack this long before the session is given up: the collector says SlowDown when it is merely busy.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the agent tells how it is.
pub const STATUS_EVERY: Duration = Duration::from_secs(5);
/// How often a part of an answer may leave while nothing else is under way, and while something is.
const ANSWER_EVERY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// The size of such a part, on a link of which nothing more is known.
const ANSWER_PART: u64 = 16 << 10;
/// At the end, how long what is under way may still take to be acknowledged.
const FINISH_TIMEOUT: Duration = Duration::from_secs(3);
/// What a message over a broker holds beside a part's bytes or a status: envelope, signature, the frame's own numbers.
const AROUND: u64 = 192;

/// How a session is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Send what there is; done when all is acknowledged.
    Drain,
    /// Send nothing more; done when what is under way is acknowledged.
    Settle,
}

/// One agent's sessions, one after the other.
pub struct Session {
    identity: Identity,
    spool: Spool,
    host: Arc<dyn Host>,
    state: Arc<LinkState>,
    lanes: Lanes,
    care: Arc<Care>,
    phase: Phase,
}

enum Phase {
    Closed,
    Hello { by: Duration },
    Greeting { by: Duration, asked: Duration, told: u64 },
    Open(Box<Open>),
}

/// Of one session, from its greeting on.
struct Open {
    credit: Credit,
    flights: Flights,
    sending: Sending,
    pace: Pace,
    /// The batch that goes in parts; `None` when the collector takes none.
    parts: Option<Parts>,
    /// This host's clock minus the collector's.
    skew_ns: i64,
    held_until: Option<Duration>,
    /// A limit allows something then.
    limited_until: Option<Duration>,
    status_at: Duration,
    /// Of the state of the configuration that the collector knows.
    told: u64,
    /// When the last part of an answer left.
    answered: Duration,
    patience: Patience,
    put_off: PutOff,
    /// Nothing is under way, and only credit, or the end of a pause, lacks for what waits.
    starved: bool,
    finish: Option<(Finish, Duration)>,
}

impl Open {
    /// When the next part of an answer may leave.
    fn answer_at(&self) -> Duration {
        // What is under way shows how full the link is: while it is, a part must not stand before what is fresh.
        let pause = if self.flights.is_empty() { ANSWER_EVERY.0 } else { ANSWER_EVERY.1 };
        (self.answered + pause).max(self.held_until.unwrap_or_default())
    }
}

impl Session {
    /// No session yet.
    pub fn new(
        identity: Identity,
        spool: Spool,
        host: Arc<dyn Host>,
        state: Arc<LinkState>,
        lanes: Lanes,
    ) -> Self {
        Self { identity, spool, host, state, lanes, care: Arc::default(), phase: Phase::Closed }
    }

    /// With what the collector may want of the agent itself.
    #[must_use]
    pub fn with_care(mut self, care: Arc<Care>) -> Self {
        self.care = care;
        self
    }

    /// What the collector may want of the agent itself.
    pub(crate) fn care(&self) -> Arc<Care> {
        Arc::clone(&self.care)
    }

    /// A link to the collector is there: the next frame is the hello.
    pub fn opened(&mut self, now: Duration) {
        self.phase = Phase::Hello { by: now + GREETING_TIMEOUT };
    }

    /// The link is gone or given up, for this reason; "" = it ended as it should.
    pub fn closed(&mut self, _now: Duration, why: &str) {
        if let Phase::Open(mut open) = std::mem::replace(&mut self.phase, Phase::Closed) {
            open.sending.given_up(self.spool.tracer(), "the session ended before the answer");
        }
        self.spool.session_lost();
        self.care.session_lost();
        self.state.down(self.host.wall(), why);
    }

    /// Whether the collector has greeted and the session goes on.
    pub fn greeted(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// Whether something waits for credit, or for a pause to end, and nothing is under way that would give any back.
    pub(crate) fn starved(&self) -> bool {
        matches!(&self.phase, Phase::Open(open) if open.starved)
    }

    /// From here on, this long without a word from the collector ends the session.
    pub fn expect_word_every(&mut self, silence: Duration) {
        if let Phase::Open(open) = &mut self.phase {
            open.patience.expect_word_every(silence);
        }
    }

    /// It is to end; see [`Session::finished`].
    pub fn finish(&mut self, how: Finish, now: Duration) {
        match &mut self.phase {
            Phase::Open(open) => open.finish = Some((how, now + FINISH_TIMEOUT)),
            _ => self.phase = Phase::Closed,
        }
    }

    /// After [`Session::finish`]: nothing is left to wait for, or it took too long.
    pub fn finished(&self, now: Duration) -> bool {
        match &self.phase {
            Phase::Closed => true,
            Phase::Open(open) => open.finish.is_some_and(|(how, by)| {
                let done = match how {
                    Finish::Drain => self.spool.usage().batches == 0,
                    Finish::Settle => open.flights.is_empty(),
                };
                done || now >= by
            }),
            _ => false,
        }
    }

    /// When to look again though nothing happened.
    pub fn wake_at(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Closed => None,
            Phase::Hello { by } | Phase::Greeting { by, .. } => Some(*by),
            Phase::Open(open) => {
                let finish = open.finish.map(|(_, by)| by);
                let answer = self.care.speaks().then(|| open.answer_at());
                let patience = open.patience.ends_at(ACK_TIMEOUT);
                let all =
                    [Some(open.status_at), open.held_until, open.limited_until, patience, finish, answer];
                all.into_iter().flatten().min()
            }
        }
    }

    /// Looks at the clock: is something overdue?
    ///
    /// # Errors
    /// [`LinkError`]: the session is over.
    pub fn tick(&mut self, now: Duration) -> Result<(), LinkError> {
        match &mut self.phase {
            Phase::Closed => Ok(()),
            Phase::Hello { by } | Phase::Greeting { by, .. } if now >= *by => {
                Err(LinkError::NoGreeting(GREETING_TIMEOUT))
            }
            Phase::Hello { .. } | Phase::Greeting { .. } => Ok(()),
            Phase::Open(open) => {
                let owes = open.held_until.is_none() && (open.starved || !open.flights.is_empty());
                let long = open.patience.owes(owes, now);
                self.state.unanswered(long);
                if long >= ACK_TIMEOUT {
                    // What was dropped from the spool meanwhile waits for nothing.
                    if open.starved || self.spool.usage().in_flight > 0 {
                        self.state.stalled();
                        return Err(LinkError::Stalled(ACK_TIMEOUT));
                    }
                    open.flights = Flights::default();
                    open.patience.owes(false, now);
                }
                open.patience.silent(now).map_or(Ok(()), |silence| Err(LinkError::Silent(silence)))
            }
        }
    }

    /// The next frame to send, if one may be sent now.
    ///
    /// # Errors
    /// [`LinkError`]: the session is over.
    pub fn next_frame(&mut self, now: Duration) -> Result<Option<v1::FromAgent>, LinkError> {
        let frame = match &mut self.phase {
            Phase::Closed => return Err(LinkError::NotOpen),
            Phase::Greeting { .. } => None,
            Phase::Hello { by } => {
                let by = *by;
                let (hello, told) = self.hello();
                self.phase = Phase::Greeting { by, asked: now, told };
                Some(from_agent::Frame::Hello(hello))
            }
            Phase::Open(open) if now >= open.status_at => {
                open.status_at = now + STATUS_EVERY;
                let mut status = self.status(now);
                if self.state.most().is_some_and(|most| status.encoded_len() as u64 + AROUND > most) {
                    // The numbers of what waits pass where the text doesn't.
                    status.json.clear();
                }
                self.lanes.aside(status.encoded_len() as u64, now);
                Some(from_agent::Frame::Status(status))
            }
            Phase::Open(_) => match self.next_of_care(now) {
                Some(frame) => Some(frame),
                None => self.next_of_spool(now)?,
            },
        };
        Ok(frame.map(|frame| v1::FromAgent { frame: Some(frame) }))
    }

    /// What the collector said.
    ///
    /// # Errors
    /// [`LinkError`]: the session is over.
    pub fn take(&mut self, incoming: v1::FromCollector, now: Duration) -> Result<(), LinkError> {
        // A frame that is unknown here is a newer collector's: passed over.
        let Some(frame) = incoming.frame else { return Ok(()) };
        match (&mut self.phase, frame) {
            (Phase::Closed, _) => Err(LinkError::NotOpen),
            (Phase::Open(_), from_collector::Frame::Greeting(_)) => {
                tracing::debug!("a second greeting is ignored");
                Ok(())
            }
            (Phase::Open(open), frame) => {
                open.patience.heard(now);
                self.answered(frame, now)
            }
            (Phase::Greeting { asked, told, .. }, from_collector::Frame::Greeting(greeting)) => {
                let (asked, told) = (*asked, *told);
                self.greet(greeting, (asked, told), now)
            }
            (_, from_collector::Frame::SlowDown(slow)) => Err(LinkError::Later {
                after: Duration::from_millis(u64::from(slow.after_ms)),
                reason: slow.reason,
            }),
            _ => Err(LinkError::NoGreeting(GREETING_TIMEOUT)),
        }
    }

    /// And the number of the state that it tells.
    fn hello(&self) -> (v1::Hello, u64) {
        let held = self.spool.hello();
        let (config, requests, told) = self.care.hello();
        let hello = v1::Hello {
            config,
            requests,
            epoch: held.epoch.0.to_vec(),
            next_seq: held.next_seq,
            unacked: held.unacked,
            probe: false,
            ..probing_hello(&self.identity, &self.spool, &*self.host)
        };
        (hello, told)
    }

    fn greet(
        &mut self,
        greeting: v1::Greeting,
        (asked, told): (Duration, u64),
        now: Duration,
    ) -> Result<(), LinkError> {
        if greeting.wire != WIRE {
            return Err(LinkError::Version { ours: WIRE, theirs: greeting.wire });
        }
        let greeted = self.spool.greet(&greeting.holdings, &greeting.conflicts).map_err(spool_error)?;
        if greeted.confirmed > 0 {
            self.state.answered();
        }
        let wall = self.host.wall();
        let at = Stamp { wall, mono: self.host.mono() };
        self.spool.told_time(self.identity.boot, at, greeting.wall_ns, now.saturating_sub(asked));
        let skew_ns = wall - greeting.wall_ns;
        self.state.up(wall, &greeting.collector, skew_ns);
        self.phase = Phase::Open(Box::new(Open {
            credit: Credit::new(greeting.credit_bytes),
            flights: Flights::default(),
            sending: Sending::default(),
            pace: Pace::new(now),
            parts: greeting.parts.then(Parts::default),
            skew_ns,
            held_until: None,
            limited_until: None,
            status_at: now,
            told,
            answered: now,
            patience: Patience::new(now),
            put_off: PutOff::default(),
            starved: false,
            finish: None,
        }));
        Ok(())
    }

    fn status(&self, now: Duration) -> v1::Status {
        let usage = self.spool.usage();
        self.state.waiting(now, usage.bytes);
        v1::Status {
            backlog_bytes: usage.bytes,
            backlog_batches: usage.batches,
            oldest_ns: usage.oldest_ns.unwrap_or(0),
            wall_ns: self.host.wall(),
            mono_ns: self.host.mono(),
            json: self.host.status_json(),
        }
    }

    /// What is said of the agent itself: how its configuration stands, at once; answers, in parts that leave the link to fresh
    /// readings.
    fn next_of_care(&mut self, now: Duration) -> Option<from_agent::Frame> {
        let Phase::Open(open) = &mut self.phase else { return None };
        if let Some((number, state)) = self.care.state_since(open.told) {
            open.told = number;
            self.lanes.aside(state.encoded_len() as u64, now);
            return Some(from_agent::Frame::ConfigState(state));
        }
        if now < open.answer_at() {
            return None;
        }
        let cap = self.state.most().map_or(u64::MAX, |most| most.saturating_sub(AROUND).max(1));
        let part = self.care.next_part(open.pace.part().max(ANSWER_PART).min(cap) as usize)?;
        open.answered = now;
        self.lanes.aside(part.encoded_len() as u64, now);
        Some(from_agent::Frame::Answer(part))
    }

    fn next_of_spool(&mut self, now: Duration) -> Result<Option<from_agent::Frame>, LinkError> {
        let Phase::Open(open) = &mut self.phase else { return Ok(None) };
        open.limited_until = None;
        open.starved = false;
        if open.held_until.is_some_and(|until| now < until) {
            let (wall, losses) = (self.host.wall(), self.spool.usage().losses);
            let waiting = self.spool.waiting(wall);
            let in_hours = waiting.young || self.lanes.open_hours(hour(wall, open.skew_ns));
            open.starved = losses > 0 || waiting.live || (waiting.backlog && in_hours);
            return Ok(None);
        }
        open.held_until = None;
        // A batch of which a part was sent is under way: it goes on, with the credit that it has, whatever begins no more.
        let begun = open.parts.as_ref().is_some_and(Parts::unsent);
        let settling = matches!(open.finish, Some((Finish::Settle, _)));
        if settling && !begun {
            return Ok(None);
        }
        if !settling && let Some(loss) = self.spool.next_loss() {
            self.lanes.aside(loss.encoded_len() as u64, now);
            if let Some(key) = key(&loss.epoch, loss.seq) {
                open.flights.sent(key, Lane::Live, 0, now);
                open.patience.owes(true, now);
            }
            return Ok(Some(from_agent::Frame::Loss(loss)));
        }
        let wall = self.host.wall();
        let in_hours = self.lanes.open_hours(hour(wall, open.skew_ns));
        let mut waiting = self.spool.waiting(wall);
        self.state.hours(match (in_hours, waiting.backlog && !waiting.young) {
            (true, _) => Closed::Open,
            (false, false) => Closed::Idle,
            (false, true) => Closed::Keeping,
        });
        let (live, whole) = (open.flights.bytes(Lane::Live), open.flights.bytes(Lane::Backlog));
        let backlog = whole + open.parts.as_ref().map_or(0, Parts::bytes);
        waiting.live &= !settling;
        waiting.backlog &= in_hours || waiting.young;
        let idle = open.flights.is_empty();
        open.starved = idle && (waiting.live || waiting.backlog) && !open.credit.allows(Lane::Live, idle);
        waiting.live &= open.credit.allows(Lane::Live, idle);
        waiting.backlog = (begun || (waiting.backlog && open.credit.allows(Lane::Backlog, idle)))
            && open.pace.allows(backlog, live, self.lanes.backlog_per_live());
        // Where a broker takes small messages only, a batch is not begun while another is in parts: it might be too large too.
        let cap = self.state.most().map(|most| most.saturating_sub(AROUND).max(1));
        waiting.live &= !(begun && cap.is_some());
        // The lane that was chosen may be empty by now; the other one has its turn then.
        for _ in 0..2 {
            let lane = match self.lanes.choose(now, waiting) {
                Choice::Send(lane) => lane,
                Choice::At(at) => {
                    open.limited_until = Some(at);
                    return Ok(None);
                }
                Choice::Nothing => return Ok(None),
            };
            let most = cap.map_or(open.pace.part(), |cap| cap.min(open.pace.part()));
            let whole_up_to = cap.map_or(2 * most, |cap| cap.min(2 * most));
            if let Some(parts) = open.parts.as_mut().filter(|parts| lane == Lane::Backlog && parts.unsent())
                && let Some(part) = parts.next(most as usize, whole, now)
            {
                self.lanes.sent(lane, part.data.len() as u64, now);
                return Ok(Some(from_agent::Frame::Part(part)));
            }
            if let Some(mut batch) = self.spool.next(lane, wall).map_err(spool_error)? {
                open.sending.begin(self.spool.tracer(), &mut batch, lane);
                let bytes = batch.payload.len() as u64;
                // A small payload weighs less than what is around it, and both stand in the link's queue.
                let on_the_link = batch.encoded_len() as u64;
                open.credit.spend(bytes);
                let parts = open.parts.as_mut().filter(|parts| on_the_link > whole_up_to && !parts.unsent());
                if let Some(key) = key(&batch.epoch, batch.seq) {
                    // Parts are counted one by one.
                    open.flights.sent(key, lane, if parts.is_some() { 0 } else { on_the_link }, now);
                    open.patience.owes(true, now);
                }
                self.state.sent(bytes);
                let frame = match parts {
                    Some(parts) => {
                        parts.begin(&batch);
                        parts.next(most as usize, whole, now).map(from_agent::Frame::Part)
                    }
                    None => Some(from_agent::Frame::Batch(batch)),
                };
                let weight = match &frame {
                    Some(from_agent::Frame::Part(part)) => part.data.len() as u64,
                    _ => on_the_link,
                };
                self.lanes.sent(lane, weight, now);
                return Ok(frame);
            }
            match lane {
                Lane::Live => waiting.live = false,
                Lane::Backlog => waiting.backlog = false,
            }
        }
        Ok(None)
    }

    fn answered(&mut self, frame: from_collector::Frame, now: Duration) -> Result<(), LinkError> {
        use from_collector::Frame;
        let Phase::Open(open) = &mut self.phase else { return Ok(()) };
        let spool = &self.spool;
        match frame {
            Frame::Ack(ack) => {
                if !ack.holdings.is_empty() {
                    open.patience.given(now);
                }
                open.sending.acked(spool.tracer(), &ack.holdings);
                let mut bytes = 0;
                for flight in ack.holdings.iter().flat_map(|held| open.flights.acked(held)) {
                    bytes += flight.bytes;
                    self.state.arrived(flight.bytes);
                    // What came in parts was measured by them.
                    if flight.lane == Lane::Backlog && flight.bytes > 0 {
                        open.pace.acked(flight.bytes, flight.beside, flight.sent, now);
                    }
                }
                let acked = spool.acked(&ack.holdings).map_err(spool_error)?;
                if acked > 0 {
                    open.put_off.took();
                }
                self.state.acked(acked as u64, bytes);
            }
            Frame::Taken(taken) => {
                open.patience.given(now);
                for part in open.parts.iter_mut().flat_map(|parts| parts.taken(taken.bytes)) {
                    open.pace.acked(part.bytes, part.beside, part.sent, now);
                    self.state.acked(0, part.bytes);
                }
            }
            Frame::Credit(credit) => open.credit.add(credit.bytes),
            Frame::NeedDefinitions(need) => {
                tracing::debug!(
                    seq = need.seq,
                    series = need.series.len(),
                    "the collector asks for definitions"
                );
                open.sending.answered(spool.tracer(), &need.epoch, need.seq, "definitions are missing");
                if let Some(key) = key(&need.epoch, need.seq) {
                    open.flights.gone(key);
                    spool.need_definitions(key, &need.series);
                }
            }
            Frame::Conflict(conflict) => {
                open.sending.answered(spool.tracer(), &conflict.epoch, conflict.seq, "another has its name");
                if let Some(key) = key(&conflict.epoch, conflict.seq) {
                    tracing::warn!(seq = key.seq, epoch = %key.epoch, "the collector has another batch of this name: starting a new epoch");
                    open.flights.gone(key);
                    spool.conflict(key, &conflict.checksum).map_err(spool_error)?;
                }
            }
            Frame::Refusal(refusal) => {
                open.sending.answered(spool.tracer(), &refusal.epoch, refusal.seq, &refusal.cause);
                if let Some(key) = key(&refusal.epoch, refusal.seq) {
                    tracing::error!(seq = key.seq, cause = %refusal.cause, message = %refusal.message, "the collector can never store this batch: it goes to quarantine");
                    open.flights.gone(key);
                    spool.refused(key, &refusal.cause, &refusal.message).map_err(spool_error)?;
                }
            }
            Frame::SlowDown(slow) => {
                let asked = Duration::from_millis(u64::from(slow.after_ms));
                if GOODBYES.contains(&slow.reason.as_str()) {
                    return Err(LinkError::Later { after: asked, reason: slow.reason });
                }
                let usage = spool.usage();
                let waits = usage.batches + usage.losses > 0;
                let held = open.held_until.filter(|until| now < *until);
                let pause = open.put_off.asked(asked, waits, held.is_some(), self.host.draw(), now);
                let Some(pause) = pause else {
                    self.state.stalled();
                    return Err(LinkError::Later { after: asked, reason: slow.reason });
                };
                let until = held.unwrap_or_default().max(now + pause);
                let pause = until - now;
                tracing::warn!(reason = %slow.reason, pause_ms = pause.as_millis() as u64, "the collector asks to wait");
                open.held_until = Some(until);
                // What it had not committed it has forgotten.
                open.flights = Flights::default();
                open.sending.given_up(spool.tracer(), &slow.reason);
                if let Some(parts) = &mut open.parts {
                    parts.give_up();
                }
                spool.session_lost();
                self.state.slowed(SlowDown::new(self.host.wall(), pause, slow.reason));
            }
            Frame::Config(config) => self.care.ask(Asked::Config(config)),
            Frame::Request(request) => self.care.ask(Asked::Request(request)),
            Frame::Greeting(_) => {}
        }
        Ok(())
    }
}

fn key(epoch: &[u8], seq: u64) -> Option<BatchKey> {
    Some(BatchKey { epoch: Epoch(epoch.try_into().ok()?), seq })
}

fn spool_error(error: impl std::fmt::Display) -> LinkError {
    LinkError::Spool(error.to_string())
}

#[cfg(test)]
mod tests;
