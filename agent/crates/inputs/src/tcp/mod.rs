//! The tcp input.

mod config;

use tokio_util::sync::CancellationToken;

use crate::door::Door;
pub use config::*;

/// Runs until `shutdown`.
///
/// # Errors
/// [`TcpError`].
pub async fn run(config: TcpConfig, door: Door, shutdown: CancellationToken) -> Result<(), TcpError> {
    config.check()?;
    let _ = door;
    shutdown.cancelled().await;
    Ok(())
}
