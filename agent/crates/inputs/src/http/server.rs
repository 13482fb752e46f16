//! Connections: accepted within the cap, closed when they are too slow or too quiet.
//!
//! hyper's own header timeout also ends connections that wait for their next request, which costs
//! senders with a long interval a request now and then; so the time is watched here, with a limit
//! for a head that has begun and another for a quiet connection.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::config::HttpConfig;
use super::farewell;
use super::service::Service;
use crate::accept::Accepting;
use crate::admission::{self, HANDSHAKE};

/// Read buffer of a connection, and so the largest head of a request.
const BUFFER: usize = 256 << 10;
/// Most headers of a request.
const MAX_HEADERS: usize = 64;
/// How long open requests may go on once the agent ends.
const GRACE: Duration = Duration::from_secs(5);
/// How often a connection's times are looked at.
const LOOK: Duration = Duration::from_millis(500);
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Accepts until `shutdown`, then lets open requests end.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    service: Arc<Service>,
    config: &HttpConfig,
    shutdown: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(config.max_connections));
    let mut connections = JoinSet::new();
    let mut accepting = Accepting::default();
    let mut flush = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = flush.tick() => flush_counts(&service),
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            (stream, _) = accepting.next(&service.door, |cx| listener.poll_accept(cx)) => {
                let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                    service.door.stats.pushed_back();
                    turn_away(stream, tls.is_some());
                    continue;
                };
                let (service, tls, shutdown) = (Arc::clone(&service), tls.clone(), shutdown.clone());
                let times = Times { head: config.header_timeout.0, idle: config.idle_timeout.0 };
                connections.spawn(async move {
                    service.door.stats.connected();
                    welcome(stream, tls, &service, times, shutdown).await;
                    service.door.stats.disconnected();
                    drop(slot);
                });
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GRACE + LOOK, ended).await;
    connections.shutdown().await;
    flush_counts(&service);
}

fn flush_counts(service: &Service) {
    if let Err(error) = service.door.flush() {
        tracing::debug!(%error, "counts of refused requests wait for the journal");
    }
}

/// Best effort, without waiting: the sender learns that it should come back.
fn turn_away(stream: TcpStream, tls: bool) {
    if !tls {
        let _ = stream.try_write(BUSY);
    }
}

#[derive(Clone, Copy)]
struct Times {
    head: Duration,
    idle: Duration,
}

async fn welcome(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    service: &Arc<Service>,
    times: Times,
    shutdown: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let peer = stream.peer_addr().ok();
    match tls {
        None => connection(stream, peer, service, times, shutdown).await,
        Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
            Ok(Ok(stream)) => connection(stream, peer, service, times, shutdown).await,
            Ok(Err(error)) => admission::handshake_failed(&service.door, peer, &error),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        },
    }
}

async fn connection<S>(
    stream: S,
    peer: Option<SocketAddr>,
    service: &Arc<Service>,
    times: Times,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity::new());
    let io = TokioIo::new(Watched { stream, activity: Arc::clone(&activity) });
    let answering = {
        let (service, activity) = (Arc::clone(service), Arc::clone(&activity));
        service_fn(move |request| {
            let (service, activity) = (Arc::clone(&service), Arc::clone(&activity));
            async move {
                activity.enter(Phase::Busy);
                let answer = service.answer(request).await;
                activity.enter(Phase::Idle);
                Ok::<_, std::convert::Infallible>(answer)
            }
        })
    };
    let mut builder = http1::Builder::new();
    // NOTE: no `pipeline_flush`: with it hyper holds answers while unread bytes wait, and never sends the one
    // to what it could not parse.
    builder.max_buf_size(BUFFER).max_headers(MAX_HEADERS);
    let mut serving = builder.serve_connection(io, answering);
    let mut look = tokio::time::interval(LOOK);
    let mut ending: Option<Instant> = None;
    let result = loop {
        tokio::select! {
            result = &mut serving => break result,
            () = shutdown.cancelled(), if ending.is_none() => {
                Pin::new(&mut serving).graceful_shutdown();
                ending = Some(Instant::now() + GRACE);
            }
            _ = look.tick() => {
                let (phase, since) = activity.now();
                let over = match phase {
                    Phase::Busy => false,
                    Phase::Head => since >= times.head,
                    Phase::Idle => since >= times.idle,
                };
                if over || ending.is_some_and(|ending| Instant::now() >= ending) {
                    return;
                }
            }
        }
    };
    let parts = serving.into_parts();
    let mut owed: &[u8] = b"";
    if let Err(error) = result {
        tracing::debug!(%error, "an HTTP connection ended");
        farewell::count(&service.door, peer, &error, &parts.read_buf);
        owed = farewell::owed(&error);
    }
    farewell::part(parts.io.into_inner().stream, owed).await;
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Between requests.
    Idle = 0,
    /// Bytes of a request's head came.
    Head = 1,
    /// A request is being answered.
    Busy = 2,
}

/// The phase and when it began, in one word: milliseconds << 2 | phase.
struct Activity {
    born: Instant,
    word: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        // The first head's time runs from the start: an open connection that says nothing is slow.
        Self { born: Instant::now(), word: AtomicU64::new(Phase::Head as u64) }
    }

    fn enter(&self, phase: Phase) {
        let now = self.born.elapsed().as_millis() as u64;
        self.word.store(now << 2 | phase as u64, Relaxed);
    }

    fn read_some(&self) {
        if self.word.load(Relaxed) & 3 == Phase::Idle as u64 {
            self.enter(Phase::Head);
        }
    }

    fn now(&self) -> (Phase, Duration) {
        let word = self.word.load(Relaxed);
        let phase = match word & 3 {
            0 => Phase::Idle,
            1 => Phase::Head,
            _ => Phase::Busy,
        };
        (phase, self.born.elapsed().saturating_sub(Duration::from_millis(word >> 2)))
    }
}

/// A stream that tells when bytes come.
struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.read_some();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
