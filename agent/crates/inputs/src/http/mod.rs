//! The HTTP input: InfluxDB's write endpoints, JSON events and samples.
//!
//! A request's way: [`server`] (connection, times) → [`service`] (path, token, key) → [`body`]
//! (limits, decompression, [`budget`]) → [`ingest`] (parse into intakes) → the door → 204 once they are on disk.
//! docs/how-to/http.md describes it for users.

mod answer;
mod body;
mod budget;
mod config;
mod farewell;
mod ingest;
mod keys;
mod parameters;
mod samples;
mod server;
mod service;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admission::Tokens;
use crate::door::Door;
pub use config::{HttpConfig, HttpError};
#[cfg(feature = "fuzz")]
pub(crate) use keys::fuzz as fuzz_keys;

/// Opens the port and serves until `shutdown`.
///
/// # Errors
/// [`HttpError`]: the port, its tokens or its certificate can't be used.
pub async fn run(config: HttpConfig, door: Door, shutdown: CancellationToken) -> Result<(), HttpError> {
    config.check()?;
    let (listener, tokens, tls) = config.gate().open().await?;
    door.stats.recovered();
    tracing::info!(listen = %config.listen, tls = tls.is_some(), "the HTTP input is open");
    serve(listener, tls, tokens, config, door, shutdown).await
}

/// Serves on a listener that is already open: for tests and benches. The address in the
/// configuration is not looked at; tokens and TLS are.
///
/// # Errors
/// As [`run`].
pub async fn run_on(
    listener: TcpListener,
    config: HttpConfig,
    door: Door,
    shutdown: CancellationToken,
) -> Result<(), HttpError> {
    let (tokens, tls) = config.gate().keys()?;
    serve(listener, tls, tokens, config, door, shutdown).await
}

async fn serve(
    listener: TcpListener,
    tls: Option<tokio_rustls::TlsAcceptor>,
    tokens: Tokens,
    config: HttpConfig,
    door: Door,
    shutdown: CancellationToken,
) -> Result<(), HttpError> {
    let zone = config::zone(&config.time_zone)?;
    let (keys, writer) = keys::open(&door, config.max_idempotency_keys).await.map_err(HttpError::Keys)?;
    let service = Arc::new(service::Service::new(&config, door, tokens, keys, zone));
    server::serve(listener, tls, service, &config, shutdown).await;
    // The last owner of the keys is gone: their writer ends.
    if let Some(writer) = writer {
        let _ = tokio::time::timeout(Duration::from_secs(5), writer).await;
    }
    Ok(())
}
