//! The TCP input: line protocol or JSON events, one a line.
//!
//! What a connection's first lines may say, in this order, each ended by a line break:
//! ```text
//! AUTH <token>     where the input has a token file
//! ACK              the sender wants acknowledgements
//! ```
//! With `ACK` the agent answers `OK <n>` whenever more lines are settled: all of the first n lines
//! (every line counts, from 1, those two not) are on disk, or were refused by an
//! `ERR <line> <reason>` that was sent before. docs/how-to/line-protocol.md says it for users.
//!
//! A connection is read only as fast as the journal takes: while that is full, TCP itself makes the
//! sender wait.

mod config;
mod connection;
mod lines;

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::accept::Accepting;
use crate::admission::{self, HANDSHAKE, Tokens};
use crate::door::Door;
use crate::intake::CachePool;
use crate::times::Precision;
pub use config::{Format, TcpConfig, TcpError};
use connection::Terms;

/// How long open connections may go on once the agent ends.
const GRACE: Duration = Duration::from_secs(5);

/// Opens the port and serves until `shutdown`.
///
/// # Errors
/// [`TcpError`]: the port, its tokens or its certificate can't be used.
pub async fn run(config: TcpConfig, door: Door, shutdown: CancellationToken) -> Result<(), TcpError> {
    config.check()?;
    let (listener, tokens, tls) = config.gate().open().await?;
    door.stats.recovered(0);
    tracing::info!(listen = %config.listen, tls = tls.is_some(), "the TCP input is open");
    serve(listener, tls, tokens, &config, door, shutdown).await;
    Ok(())
}

/// Serves on a listener that is already open: for tests and benches. The address in the
/// configuration is not looked at; tokens and TLS are.
///
/// # Errors
/// As [`run`].
pub async fn run_on(
    listener: TcpListener,
    config: TcpConfig,
    door: Door,
    shutdown: CancellationToken,
) -> Result<(), TcpError> {
    let (tokens, tls) = config.gate().keys()?;
    serve(listener, tls, tokens, &config, door, shutdown).await;
    Ok(())
}

async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    tokens: Tokens,
    config: &TcpConfig,
    door: Door,
    shutdown: CancellationToken,
) {
    let zone = match config.time_zone.as_str() {
        "" => TimeZone::system(),
        // Checked when the input was started.
        name => TimeZone::get(name).unwrap_or(TimeZone::UTC),
    };
    let terms = Arc::new(Terms {
        tokens,
        format: config.format,
        max_line: config.max_line,
        idle: Some(config.idle_timeout.0).filter(|idle| !idle.is_zero()),
        precision: Precision::from_parameter(&config.precision).unwrap_or_default(),
        zone,
        caches: CachePool::default(),
    });
    let slots = Arc::new(Semaphore::new(config.max_connections));
    let mut connections = JoinSet::new();
    let mut accepting = Accepting::default();
    let mut flush = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = flush.tick() => flush_counts(&door),
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            (stream, _) = accepting.next(&door, |cx| listener.poll_accept(cx)) => {
                let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                    door.stats.pushed_back();
                    let _ = stream.try_write(b"ERR 0 too many connections: come back later\n");
                    continue;
                };
                let (door, terms, tls, shutdown) = (door.clone(), Arc::clone(&terms), tls.clone(), shutdown.clone());
                connections.spawn(async move {
                    door.stats.connected();
                    welcome(stream, tls, &door, &terms, shutdown).await;
                    door.stats.disconnected();
                    drop(slot);
                });
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GRACE, ended).await;
    connections.shutdown().await;
    flush_counts(&door);
}

fn flush_counts(door: &Door) {
    if let Err(error) = door.flush() {
        tracing::debug!(%error, "counts of refused lines wait for the journal");
    }
}

async fn welcome(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    door: &Door,
    terms: &Terms,
    shutdown: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let peer = stream.peer_addr().ok();
    match tls {
        None => connection::serve(stream, door, terms, shutdown).await,
        Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
            Ok(Ok(stream)) => connection::serve(stream, door, terms, shutdown).await,
            Ok(Err(error)) => admission::handshake_failed(door, peer, &error),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        },
    }
}
