//! The uplink: batches from the spool to the collector, acks from the collector to the spool.
//!
//! Floor 3. One session at a time over one link: the agent says hello with what it still holds, the
//! collector greets with what it has, then batches go up as far as credit and lanes allow, and acks
//! come down. What is said when is a state machine ([`Session`]); a transport moves its frames
//! (`pump.rs`). Everything durable lives in the spool: a session may end at any point, and the next
//! one starts from the greeting.

mod address;
mod backoff;
mod broker;
mod bucket;
mod care;
pub mod certificate;
mod config;
mod credit;
mod drain;
mod endpoint;
pub mod enrolment;
mod error;
mod fit;
mod flight;
mod grpc;
mod hello;
mod hours;
mod lanes;
mod link;
mod mqtt;
mod network;
mod pace;
mod parts;
mod patience;
pub mod probe;
mod pump;
mod retry_info;
mod route;
pub mod secret;
mod session;
mod state;
mod tls;
mod traced;
mod units;

use std::sync::Arc;
use std::time::Duration;

use spool::Spool;
use telemetry::BEAT;
use tokio_util::sync::CancellationToken;

pub use backoff::{Backoff, asked, draw};
pub use care::{Asked, Care, MOST_ASKED, MOST_BYTES};
pub use config::{Identity, LanesConfig, UplinkConfig};
pub use error::{ConfigError, LinkError};
pub use fit::BrokerLimit;
pub use lanes::Lanes;
pub use link::unusable_files;
pub use session::{ACK_TIMEOUT, Finish, GREETING_TIMEOUT, STATUS_EVERY, Session};
pub use state::{Backlog, Limits, LinkState, LinkStatus, Over, SlowDown};
pub use tls::trusting;
pub use units::{Pause, Rate};

use link::Link;
use pump::{Clock, Stop};
use route::{Good, Route, Way};

/// The version of the frames this build speaks.
pub const WIRE: u32 = 1;

/// A session that broke off has to have lasted so long for the pauses to begin anew.
const HEALTHY: Duration = Duration::from_secs(10);

/// All that sessions wait for ends by itself, and they beat meanwhile: in so many times [`BEAT`] without a beat they never go on.
const STANDS_STILL: u32 = 12;

/// Runs sessions to their end; those that stand still are dropped and begun anew. `pause` passes a [`BEAT`].
async fn tended<T, S: Future<Output = T>>(
    state: &LinkState,
    pause: impl AsyncFn(),
    mut begin: impl FnMut() -> S,
    mut give_up: impl FnMut(),
) -> T {
    loop {
        let stood_still = async {
            let (mut seen, mut still) = (state.beats(), 0);
            while still < STANDS_STILL {
                pause().await;
                let beats = state.beats();
                still = if beats == seen { still + 1 } else { 0 };
                seen = beats;
            }
        };
        tokio::select! {
            // First they: after a time in which the whole process stood still they beat before they are judged.
            biased;
            ended = begin() => return ended,
            () = stood_still => {}
        }
        give_up();
    }
}

/// What the uplink needs of its host: the clock, the text of a status frame, and chance.
pub trait Host: Send + Sync + 'static {
    /// Nanoseconds since the epoch, as this host's clock says.
    fn wall(&self) -> i64;
    /// Nanoseconds since this boot.
    fn mono(&self) -> u64;
    /// The agent's status as JSON, at most 64 KiB.
    fn status_json(&self) -> String;
    /// Uniform in 0..=u32::MAX; the system's randomness, unless somebody wants to repeat it.
    fn draw(&self) -> u32 {
        backoff::draw()
    }
}

/// Everything an uplink runs on.
pub struct Uplink {
    /// Where to.
    pub config: UplinkConfig,
    /// Who we are.
    pub identity: Identity,
    /// What to carry.
    pub spool: Spool,
    /// The clock and the status.
    pub host: Arc<dyn Host>,
    /// What others may see.
    pub state: Arc<LinkState>,
    /// What the collector may want of the agent itself.
    pub care: Arc<Care>,
}

impl Uplink {
    /// Keeps a session up until `shutdown`, then gives what is spooled a last chance to be acknowledged.
    ///
    /// # Errors
    /// [`ConfigError`] when no session can ever be opened with this section, whatever comes of the files it names.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ConfigError> {
        self.config.check()?;
        let beat = async || tokio::time::sleep(BEAT).await;
        tended(&self.state, beat, || self.sessions(shutdown.clone()), || self.give_up()).await
    }

    /// Whatever was under way waits again: nobody goes on with it.
    fn give_up(&self) {
        let why = format!("the uplink stood still for {:?} and was begun anew", BEAT * STANDS_STILL);
        tracing::error!("{why}");
        self.spool.session_lost();
        self.care.session_lost();
        self.state.down(self.host.wall(), &why);
    }

    /// One session after the other.
    async fn sessions(&self, shutdown: CancellationToken) -> Result<(), ConfigError> {
        let agent = &self.identity.agent;
        let mut url = Link::new(&self.config, agent, &self.state, false)?;
        let mut fallback = match &self.config.fallback_url {
            Some(_) => Some(Link::new(&self.config, agent, &self.state, true)?),
            None => None,
        };
        let mut backoff = Backoff::new(Duration::from_secs(self.config.max_backoff));
        let mut route = Route::new(fallback.is_some());
        let clock = Clock::start();
        let mut session = Session::new(
            self.identity.clone(),
            self.spool.clone(),
            Arc::clone(&self.host),
            Arc::clone(&self.state),
            Lanes::new(&self.config.lanes)?,
        )
        .with_care(Arc::clone(&self.care));
        while !shutdown.is_cancelled() {
            let stop = Stop { drain: shutdown.clone(), settle: CancellationToken::new() };
            let mut greeted = false;
            let (began, before) = (clock.now(), self.state.moved());
            let (end, link) = match (route.way(clock.now()), &mut fallback) {
                (Way::Fallback, Some(fallback)) => {
                    // Only the connection that is in use is kept.
                    url.leave().await;
                    self.state.over(fallback.over().clone());
                    let running = fallback.run(&mut session, &self.spool, clock, &stop, &mut greeted);
                    (self.beside_probes(running, &mut url, &stop).await, fallback)
                }
                (_, fallback) => {
                    if let Some(fallback) = fallback {
                        fallback.leave().await;
                    }
                    self.state.over(url.over().clone());
                    (url.run(&mut session, &self.spool, clock, &stop, &mut greeted).await, &mut url)
                }
            };
            let why = end.as_ref().err().map(ToString::to_string).unwrap_or_default();
            let starved = session.starved();
            session.closed(clock.now(), &why);
            let good = route::good(greeted, &end, starved, before, self.state.moved());
            route.ended(good, clock.now());
            if shutdown.is_cancelled() {
                link.leave().await;
                break;
            }
            let Err(error) = end else { continue };
            // A session that breaks off soon after its greeting, again and again, is no return to health.
            if good == Good::Something && !(error.breaks_off() && clock.now().saturating_sub(began) < HEALTHY)
            {
                backoff.reset();
            }
            let pause = Box::pin(self.pause(&error, &mut backoff, link, &shutdown));
            self.state.beating(pause).await;
        }
        Ok(())
    }

    /// Waits before the next attempt.
    async fn pause(
        &self,
        error: &LinkError,
        backoff: &mut Backoff,
        link: &mut Link,
        shutdown: &CancellationToken,
    ) {
        let mut pause = backoff.next(self.host.draw());
        let asked = error.come_back();
        if let Some(asked) = asked {
            pause = pause.max(backoff::asked(asked, self.host.draw()));
            self.state.slowed(SlowDown::new(self.host.wall(), pause, error.to_string()));
        }
        tracing::warn!(reason = %error, pause_ms = pause.as_millis() as u64, url = %link.over().url, "link down, trying again");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = network::interface_came_up(), if asked.is_none() => tracing::info!("a network interface came up, trying at once"),
            () = link.news() => {
                tracing::info!("the collector is there again, trying at once");
                // Not all agents of a broker in the same instant.
                backoff.reset();
                tokio::time::sleep(backoff.next(self.host.draw())).await;
            }
            () = shutdown.cancelled() => {}
        }
    }

    /// A session over the fallback. From time to time the first way is tried beside it, and once a collector
    /// greets there, the session is brought to its end: batches are never under way over both.
    async fn beside_probes(
        &self,
        session: impl Future<Output = Result<(), LinkError>>,
        url: &mut Link,
        stop: &Stop,
    ) -> Result<(), LinkError> {
        let answers = async {
            loop {
                tokio::time::sleep(self.config.fallback_return.0).await;
                let hello = hello::probing_hello(&self.identity, &self.spool, &*self.host);
                match url.probe(hello).await {
                    Ok(()) => return tracing::info!(url = %url.over().url, "answers again, returning to it"),
                    Err(error) => tracing::debug!(%error, url = %url.over().url, "does not answer yet"),
                }
            }
        };
        tokio::pin!(session);
        tokio::select! {
            end = &mut session => end,
            () = answers => {
                stop.settle.cancel();
                session.await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn sessions_that_stand_still_are_given_up_and_begun_anew_and_those_that_beat_are_not() {
        let (state, begun, pauses) = (LinkState::default(), AtomicU32::new(0), AtomicU32::new(0));
        let given_up_at = AtomicU32::new(0);
        let sessions = async || {
            if begun.fetch_add(1, Ordering::Relaxed) == 0 {
                // Well for a long time, if seldom, and then they wait for what never comes.
                for turn in 0..1000 {
                    if turn % (STANDS_STILL - 1) == 0 {
                        state.beat();
                    }
                    tokio::task::yield_now().await;
                }
                std::future::pending::<()>().await;
            }
        };
        let pause = async || {
            pauses.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        };
        let give_up = || given_up_at.store(pauses.load(Ordering::Relaxed), Ordering::Relaxed);
        tended(&state, pause, sessions, give_up).await;
        assert_eq!(begun.load(Ordering::Relaxed), 2);
        let given_up_at = given_up_at.load(Ordering::Relaxed);
        assert!((1000..=1000 + 2 * STANDS_STILL).contains(&given_up_at), "{given_up_at}");
    }
}
