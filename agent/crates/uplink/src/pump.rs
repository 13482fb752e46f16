//! Moves frames between a session and a link until one of them ends.

use std::time::Duration;

use telemetry::BEAT;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use wire::v1;

use crate::error::LinkError;
use crate::session::{Finish, GREETING_TIMEOUT, Session};
use crate::state::LinkState;

/// Frames between us and the transport; more would only hide its back-pressure, and stand before fresh ones.
pub(crate) const OUTBOX: usize = 16;
/// While the outbox is full, what is overdue waits for room as well.
const FULL_NAP: Duration = Duration::from_millis(250);
/// When the way out is gone, how long the way in is listened to for the reason.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A link that is open: frames out, frames in.
pub(crate) struct Wires {
    pub(crate) outbox: mpsc::Sender<v1::FromAgent>,
    pub(crate) inbox: Inbox,
}

/// Where frames come from.
pub(crate) enum Inbox {
    Grpc(Box<Streaming<v1::FromCollector>>),
    Mqtt(mpsc::Receiver<Result<v1::FromCollector, LinkError>>),
}

impl Inbox {
    /// The next frame. Nothing is lost when the call is given up halfway.
    pub(crate) async fn receive(&mut self) -> Result<v1::FromCollector, LinkError> {
        match self {
            Self::Grpc(stream) => stream.message().await.map_err(Box::new)?.ok_or(LinkError::Closed),
            Self::Mqtt(frames) => frames.recv().await.unwrap_or(Err(LinkError::Closed)),
        }
    }
}

/// The session's clock: time since the uplink began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Duration {
        self.0.elapsed()
    }

    fn at(self, time: Duration) -> Instant {
        // Beyond what the clock can say lies nothing that anybody waits for.
        self.0.checked_add(time).unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
    }
}

/// What tells a session to end.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    /// The agent ends: what is spooled gets a last chance.
    pub(crate) drain: CancellationToken,
    /// Another link takes over: what is under way gets a last chance.
    pub(crate) settle: CancellationToken,
}

impl Stop {
    async fn told(&self) -> Finish {
        tokio::select! {
            () = self.drain.cancelled() => Finish::Drain,
            () = self.settle.cancelled() => Finish::Settle,
        }
    }
}

/// Runs an opened session (its hello was sent) over open wires to its end. `greeted` is called once it is.
pub(crate) async fn run(
    session: &mut Session,
    wires: &mut Wires,
    spool: &spool::Spool,
    clock: Clock,
    stop: &Stop,
    state: &LinkState,
    mut greeted: impl FnMut(&mut Session),
) -> Result<(), LinkError> {
    let mut told = false;
    let mut known = false;
    let care = session.care();
    loop {
        state.beat();
        // Interest is registered before looking, so that a batch cut in between wakes us.
        let changed = spool.changed().notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let full = match offer(session, &wires.outbox, clock) {
            Err(LinkError::Closed) => return Err(last_words(session, wires, clock).await),
            offered => offered?,
        };
        let now = clock.now();
        session.tick(now)?;
        if session.finished(now) {
            return Ok(());
        }
        if !known && session.greeted() {
            known = true;
            greeted(session);
        }
        let wake = session.wake_at().unwrap_or(now + GREETING_TIMEOUT);
        let wake = if full { wake.max(now + FULL_NAP) } else { wake };
        let wake = wake.min(now + BEAT);
        let outbox = wires.outbox.clone();
        tokio::select! {
            frame = wires.inbox.receive() => session.take(frame?, clock.now())?,
            // Closed is found by the next offer.
            _ = outbox.reserve(), if full => {}
            () = &mut changed => {}
            () = care.news() => {}
            () = tokio::time::sleep_until(clock.at(wake)) => {}
            how = stop.told(), if !told => {
                told = true;
                session.finish(how, clock.now());
            }
        }
    }
}

/// The link is gone: what still came on it, and then why.
async fn last_words(session: &mut Session, wires: &mut Wires, clock: Clock) -> LinkError {
    let hear = async {
        loop {
            match wires.inbox.receive().await {
                Ok(frame) => {
                    if let Err(error) = session.take(frame, clock.now()) {
                        return error;
                    }
                }
                Err(error) => return error,
            }
        }
    };
    timeout(LAST_WORDS, hear).await.unwrap_or(LinkError::Closed)
}

/// Puts frames into the outbox while there are any and room for them. True when only room lacked.
fn offer(
    session: &mut Session,
    outbox: &mpsc::Sender<v1::FromAgent>,
    clock: Clock,
) -> Result<bool, LinkError> {
    loop {
        let room = match outbox.try_reserve() {
            Ok(room) => room,
            Err(TrySendError::Full(())) => return Ok(true),
            Err(TrySendError::Closed(())) => return Err(LinkError::Closed),
        };
        match session.next_frame(clock.now())? {
            Some(frame) => room.send(frame),
            None => return Ok(false),
        }
    }
}

/// Something that answers within the time of a greeting, or [`LinkError::NoGreeting`].
pub(crate) async fn in_time<T>(work: impl Future<Output = Result<T, LinkError>>) -> Result<T, LinkError> {
    timeout(GREETING_TIMEOUT, work).await.map_err(|_| LinkError::NoGreeting(GREETING_TIMEOUT))?
}
