//! The uplink: batches from the spool to the collector, acks from the collector to the spool.
//!
//! Floor 3. One session at a time over one link: the agent says hello with what it still holds, the
//! collector greets with what it has, then batches go up as far as credit and lanes allow, and acks
//! come down. What is said when is a state machine ([`Session`]); a transport moves its frames
//! (`pump.rs`). Everything durable lives in the spool: a session may end at any point, and the next
//! one starts from the greeting.

mod backoff;
mod bucket;
pub mod certificate;
mod config;
mod credit;
mod drain;
mod endpoint;
mod error;
mod flight;
mod grpc;
mod hours;
mod lanes;
mod network;
mod pace;
pub mod probe;
mod pump;
mod retry_info;
mod session;
mod state;
mod units;

use std::sync::Arc;
use std::time::Duration;

use spool::Spool;
use tokio_util::sync::CancellationToken;

pub use backoff::Backoff;
pub use config::{Identity, LanesConfig, UplinkConfig};
pub use error::{ConfigError, LinkError};
pub use lanes::Lanes;
pub use session::{ACK_TIMEOUT, Finish, GREETING_TIMEOUT, STATUS_EVERY, Session};
pub use state::{Backlog, Limits, LinkState, LinkStatus, Over, SlowDown};
pub use units::{Pause, Rate};

use endpoint::Gateway;
use pump::{Clock, Stop};

/// The version of the frames this build speaks.
pub const WIRE: u32 = 1;

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
}

impl Uplink {
    /// Keeps a session up until `shutdown`, then gives what is spooled a last chance to be acknowledged.
    ///
    /// # Errors
    /// [`ConfigError`] when no session can ever be opened with this configuration.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ConfigError> {
        let gateway = endpoint::gateway(&self.config)?;
        let mut backoff = Backoff::new(Duration::from_secs(self.config.max_backoff));
        let clock = Clock::start();
        let mut session = Session::new(
            self.identity.clone(),
            self.spool.clone(),
            Arc::clone(&self.host),
            Arc::clone(&self.state),
            Lanes::new(&self.config.lanes)?,
        );
        let stop = Stop { drain: shutdown.clone(), settle: CancellationToken::new() };
        self.state.over(Over { transport: "grpc".into(), url: self.config.url.clone(), fallback: false });
        while !shutdown.is_cancelled() {
            let mut greeted = false;
            let end = self.session(&mut session, &gateway, clock, &stop, &mut greeted).await;
            let asked = end.as_ref().err().and_then(LinkError::come_back);
            let why = end.err().map(|error| error.to_string()).unwrap_or_default();
            session.closed(clock.now(), &why);
            if shutdown.is_cancelled() {
                break;
            }
            if greeted {
                backoff.reset();
            }
            let mut pause = backoff.next(self.host.draw());
            if let Some(asked) = asked {
                pause = pause.max(backoff::asked(asked, self.host.draw()));
                self.state.slowed(SlowDown::new(self.host.wall(), pause, why.clone()));
            }
            tracing::warn!(reason = %why, pause_ms = pause.as_millis() as u64, url = %self.config.url, "link down, trying again");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = network::interface_came_up(), if asked.is_none() => tracing::info!("a network interface came up, trying at once"),
                () = shutdown.cancelled() => {}
            }
        }
        Ok(())
    }

    async fn session(
        &self,
        session: &mut Session,
        gateway: &Gateway,
        clock: Clock,
        stop: &Stop,
        greeted: &mut bool,
    ) -> Result<(), LinkError> {
        let connected = tokio::select! {
            connected = grpc::connect(gateway) => connected?,
            () = stop.drain.cancelled() => return Ok(()),
        };
        session.opened(clock.now());
        let hello = session.next_frame(clock.now())?.ok_or(LinkError::NotOpen)?;
        let mut wires = pump::in_time(connected.open(gateway, hello)).await?;
        pump::run(session, &mut wires, &self.spool, clock, stop, |_| {
            *greeted = true;
            tracing::info!(url = %self.config.url, "link up");
        })
        .await
    }
}
