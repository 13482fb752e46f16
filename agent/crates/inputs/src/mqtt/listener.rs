//! The port: accepts connections, within limits, and takes each through TLS and CONNECT.
//!
//! Nothing that one connection does before its CONNECT holds up the next: handshakes run in the
//! connection's own task, against one deadline, and their number is capped apart from the clients'.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::BytesMut;
use rumqttd::protocol::{ConnAckProperties, ConnectReturnCode, DisconnectReasonCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::access::{Peer, Refused};
use super::broker::Broker;
use super::codec::{self, Version, Violation};
use super::connect::{self, Connect};
use super::connection::Connection;
use super::{encode, handshake};
use crate::accept::Accepting;
use crate::admission;

/// Accepts until shutdown, then waits for all connections to end.
pub async fn accept(broker: Arc<Broker>, listener: TcpListener, tls: bool, shutdown: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut accepting = Accepting::default();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => note(ended),
            (stream, peer) = accepting.next(&broker.door, |cx| listener.poll_accept(cx)) => {
                if let Some(slot) = Slot::take(&broker, peer) {
                    let (broker, shutdown) = (Arc::clone(&broker), shutdown.clone());
                    connections.spawn(async move { welcome(broker, stream, peer, tls, slot, shutdown).await });
                }
            }
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        note(ended);
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "an MQTT connection's task panicked; the others go on");
    }
}

/// A place among those that have not said CONNECT yet.
struct Slot(Arc<Broker>);

impl Slot {
    fn take(broker: &Arc<Broker>, peer: SocketAddr) -> Option<Self> {
        let counters = &broker.counters;
        if counters.unauthenticated.load(Relaxed) >= broker.config.max_unauthenticated {
            tracing::debug!(%peer, "an MQTT connection was closed: max_unauthenticated is reached");
            return None;
        }
        counters.unauthenticated.fetch_add(1, Relaxed);
        Some(Self(Arc::clone(broker)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.counters.unauthenticated.fetch_sub(1, Relaxed);
    }
}

async fn welcome(
    broker: Arc<Broker>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: bool,
    slot: Slot,
    shutdown: CancellationToken,
) {
    let deadline = tokio::time::Instant::now() + broker.config.connect_timeout();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY could not be set");
    }
    if !tls {
        let whom = Peer { address: peer.ip(), certificate: None };
        return begin(broker, stream, (peer, whom), deadline, slot, shutdown).await;
    }
    // Of this moment: files that were renewed hold for who comes from then on.
    let Some(secure) = broker.secure.read().clone() else { return };
    let shaken = tokio::select! {
        () = shutdown.cancelled() => return,
        shaken = tokio::time::timeout_at(deadline, secure.acceptor.accept(stream)) => shaken,
    };
    match shaken {
        Ok(Ok(stream)) => {
            let whom = Peer { address: peer.ip(), certificate: secure.presented(stream.get_ref().1) };
            begin(broker, stream, (peer, whom), deadline, slot, shutdown).await;
        }
        Ok(Err(error)) => admission::handshake_failed(&broker.door, Some(peer), &error),
        Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
    }
}

async fn begin<S>(
    broker: Arc<Broker>,
    mut stream: S,
    (peer, whom): (SocketAddr, Peer),
    deadline: tokio::time::Instant,
    slot: Slot,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut input = BytesMut::new();
    let read = tokio::select! {
        () = shutdown.cancelled() => return,
        read = tokio::time::timeout_at(deadline, read_connect(&mut stream, &mut input, broker.config.max_packet_bytes)) => read,
    };
    let connect = match read {
        Ok(Ok(Some(connect))) => connect,
        // Gone, or silent until the deadline.
        Ok(Ok(None)) | Err(_) => return,
        Ok(Err((version, violation))) => {
            broker.violated(&peer, &violation, &input);
            if let Some((version, code)) = version {
                refuse(&mut stream, version, code).await;
            }
            return;
        }
    };
    if broker.counters.clients.load(Relaxed) >= broker.config.max_clients {
        tracing::warn!(%peer, "an MQTT client was refused: max_clients is reached");
        refuse(&mut stream, connect.version, ConnectReturnCode::ServerBusy).await;
        return;
    }
    let admitted = tokio::select! {
        // A password may have to wait for its turn.
        () = shutdown.cancelled() => return,
        admitted = handshake::admit(&broker, connect.clone(), &whom) => admitted,
    };
    let (held, welcome) = match admitted {
        Ok(admitted) => admitted,
        Err(refused) => {
            refused_entry(&broker, peer, &connect.client, &refused);
            refuse(&mut stream, connect.version, refused.code).await;
            return;
        }
    };
    drop(slot);
    let mut bytes = BytesMut::new();
    encode::connack(
        &mut bytes,
        connect.version,
        welcome.present,
        ConnectReturnCode::Success,
        welcome.properties,
    );
    let mut connection = Connection::new(broker, held, &connect, input);
    connection.respond(bytes, 0, welcome.ticket, 0);
    Box::pin(connection.run(stream, shutdown)).await;
}

/// Counts and logs a CONNECT that was refused. Who is sent away without a check may come by the thousand: the log
/// hears of them in debug only.
fn refused_entry(broker: &Broker, peer: SocketAddr, client: &str, refused: &Refused) {
    use ConnectReturnCode::{
        BadAuthenticationMethod, BadUserNamePassword, ClientIdentifierNotValid, NotAuthorized, ServerBusy,
    };
    let (client, Refused { code, why }) = (codec::shorten(client), refused);
    if *code == ServerBusy {
        tracing::debug!(%peer, client, ?code, why, "an MQTT client was sent away");
    } else {
        tracing::warn!(%peer, client, ?code, why, "an MQTT client was refused");
    }
    let forbidden = matches!(code, BadUserNamePassword | NotAuthorized | BadAuthenticationMethod);
    if forbidden || (matches!(code, ServerBusy | ClientIdentifierNotValid) && !why.is_empty()) {
        let reason = format!("{peer}: client {client:?} was refused: {code:?} ({why})");
        broker.door.reject(telemetry::Cause::RejectedForbidden, &reason, b"");
    }
}

async fn refuse<S: AsyncWrite + AsyncRead + Unpin>(
    stream: &mut S,
    version: Version,
    code: ConnectReturnCode,
) {
    let mut bytes = BytesMut::new();
    encode::connack(&mut bytes, version, false, code, ConnAckProperties::default());
    let farewell = async {
        stream.write_all(&bytes).await?;
        stream.shutdown().await
    };
    // The client may be gone already; there is nobody else to tell.
    let _ = tokio::time::timeout(Duration::from_secs(1), farewell).await;
}

type Refusal = (Option<(Version, ConnectReturnCode)>, Violation);

/// Reads the first packet. `None`: the client went away.
async fn read_connect<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
    max: usize,
) -> Result<Option<Connect>, Refusal> {
    loop {
        // The type is judged before its body comes: nobody makes us wait or hold memory for less.
        if input.first().is_some_and(|first| *first != 0x10) {
            return Err((
                None,
                Violation::protocol(format!("the first packet is of type {}, not CONNECT", input[0] >> 4)),
            ));
        }
        if let Some(frame) = codec::frame(input, max).map_err(|violation| (None, violation))? {
            let version = match connect::level(frame).map_err(|violation| (None, violation))? {
                4 => Version::V4,
                5 => Version::V5,
                other => {
                    let text = format!("protocol level {other}; 4 (MQTT 3.1.1) and 5 are spoken here");
                    return Err((
                        Some((Version::V4, ConnectReturnCode::RefusedProtocolVersion)),
                        Violation::protocol(text),
                    ));
                }
            };
            let connect = connect::decode_connect(version, frame).map_err(|violation| {
                let code = match violation.reason {
                    DisconnectReasonCode::ProtocolError => ConnectReturnCode::ProtocolError,
                    DisconnectReasonCode::TopicNameInvalid => ConnectReturnCode::TopicNameInvalid,
                    _ => ConnectReturnCode::MalformedPacket,
                };
                // 3.1.1 has no code for it: the connection is just closed.
                ((version == Version::V5).then_some((version, code)), violation)
            })?;
            let used = frame.whole.len();
            let _ = input.split_to(used);
            return Ok(Some(connect));
        }
        match stream.read_buf(input).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(_) => {}
        }
    }
}
