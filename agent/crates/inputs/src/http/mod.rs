//! The http input.

mod config;

use tokio_util::sync::CancellationToken;

use crate::door::Door;
pub use config::*;

/// Runs until `shutdown`.
///
/// # Errors
/// [`HttpError`].
pub async fn run(config: HttpConfig, door: Door, shutdown: CancellationToken) -> Result<(), HttpError> {
    config.check()?;
    let _ = door;
    shutdown.cancelled().await;
    Ok(())
}
