//! The uplink: batches from the spool to the collector, acks from the collector to the spool.
//!
//! Floor 3. One bidirectional gRPC stream a session: the agent says hello with what it still holds,
//! the collector greets with what it has, then batches go up as far as the credit reaches and acks
//! come down. Everything durable lives in the spool: a session may end at any point, and the next
//! one starts from the greeting.

mod backoff;
mod config;
mod credit;
mod endpoint;
mod error;
mod network;
mod session;
mod state;

use std::sync::Arc;
use std::time::Duration;

use spool::Spool;
use tokio_util::sync::CancellationToken;

pub use config::{Identity, UplinkConfig};
pub use error::{ConfigError, LinkError};
pub use state::{LinkState, LinkStatus};

use backoff::{Backoff, draw};

/// The version of the frames this build speaks.
pub const WIRE: u32 = 1;

/// What the uplink needs of its host: the clock, and the text of a status frame.
pub trait Host: Send + Sync + 'static {
    /// Nanoseconds since the epoch, as this host's clock says.
    fn wall(&self) -> i64;
    /// Nanoseconds since this boot.
    fn mono(&self) -> u64;
    /// The agent's status as JSON, at most 64 KiB.
    fn status_json(&self) -> String;
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
        while !shutdown.is_cancelled() {
            let mut greeted = false;
            let end = session::run(&self, &gateway, &shutdown, &mut greeted).await;
            self.spool.session_lost();
            let why = end.err().map(|error| error.to_string()).unwrap_or_default();
            self.state.down(self.host.wall(), &why);
            if shutdown.is_cancelled() {
                break;
            }
            if greeted {
                backoff.reset();
            }
            let pause = backoff.next(draw());
            tracing::warn!(reason = %why, pause_ms = pause.as_millis() as u64, url = %self.config.url, "link down, trying again");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = network::interface_came_up() => tracing::info!("a network interface came up, trying at once"),
                () = shutdown.cancelled() => {}
            }
        }
        Ok(())
    }
}
