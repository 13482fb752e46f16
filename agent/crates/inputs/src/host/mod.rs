//! The host input.

mod config;

use tokio_util::sync::CancellationToken;

use crate::door::Door;
pub use config::*;

/// Runs until `shutdown`.
///
/// # Errors
/// [`HostError`].
pub async fn run(config: HostConfig, door: Door, shutdown: CancellationToken) -> Result<(), HostError> {
    config.check()?;
    let _ = door;
    shutdown.cancelled().await;
    Ok(())
}
