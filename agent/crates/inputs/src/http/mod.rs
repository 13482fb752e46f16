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
    // A port that is open takes requests: what else may fail comes before it.
    let remembered = Remembered::open(&config, &door).await?;
    let (listener, tokens, tls) = match config.gate().open().await {
        Ok(opened) => opened,
        Err(error) => {
            remembered.close().await;
            return Err(error.into());
        }
    };
    door.stats.recovered(0);
    tracing::info!(listen = %config.listen, tls = tls.is_some(), "the HTTP input is open");
    serve(listener, tls, tokens, remembered, config, door, shutdown).await
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
    let remembered = Remembered::open(&config, &door).await?;
    serve(listener, tls, tokens, remembered, config, door, shutdown).await
}

async fn serve(
    listener: TcpListener,
    tls: Option<tokio_rustls::TlsAcceptor>,
    tokens: Tokens,
    remembered: Remembered,
    config: HttpConfig,
    door: Door,
    shutdown: CancellationToken,
) -> Result<(), HttpError> {
    let keys = Arc::clone(&remembered.keys);
    let service = Arc::new(service::Service::new(&config, door, tokens, keys, remembered.zone.clone()));
    server::serve(listener, tls, service, &config, shutdown).await;
    remembered.close().await;
    Ok(())
}

/// The idempotency keys, and what else a request needs that may fail.
struct Remembered {
    zone: jiff::tz::TimeZone,
    keys: Arc<keys::Keys>,
    writer: Option<tokio::task::JoinHandle<()>>,
}

impl Remembered {
    async fn open(config: &HttpConfig, door: &Door) -> Result<Self, HttpError> {
        let zone = config::zone(&config.time_zone)?;
        let (keys, writer) = keys::open(door, config.max_idempotency_keys).await.map_err(HttpError::Keys)?;
        Ok(Self { zone, keys, writer })
    }

    /// Lets go of the keys: their writer ends with their last owner.
    async fn close(self) {
        drop(self.keys);
        if let Some(writer) = self.writer {
            let _ = tokio::time::timeout(Duration::from_secs(5), writer).await;
        }
    }
}
