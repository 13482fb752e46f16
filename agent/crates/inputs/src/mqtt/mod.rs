//! The MQTT port: a durable front. PUBACK and PUBREC leave only when the journal has the reading on
//! disk (promise P1); what a client resends is recognised (P2); what one client sends can't hurt
//! another (P8). Local pub/sub, retained messages, wills and sessions work for other programs on
//! the gateway and survive a restart.
//!
//! ```text
//! listener ─▶ handshake ─▶ connection ─▶ batch ─▶ door (journal)
//!                              ▲           └─▶ broker.publish ─▶ router ─▶ outbox of each session ─▶ its connection
//!                              │                     ├─▶ retained
//!                      acks when durable ◀───────────└─▶ store (sessions on disk)
//! ```
//! One publish: [`codec`] reads it in place; [`batch`] asks rights, knows duplicates, maps it and
//! submits all publishes of one socket read as one intake; [`broker`] hands it to subscribers, who
//! get it once the journal's durable mark has passed it; [`connection`] writes the ack at the same
//! mark. docs/decisions/0001-durable-front.md says why, docs/how-to/mqtt.md how to use it.

pub mod access;
pub mod acl;
pub mod attempts;
pub mod auth;
pub mod batch;
pub mod broker;
pub mod certificate;
pub mod client_ids;
pub mod codec;
pub mod config;
pub mod connect;
pub mod connection;
mod control;
pub mod encode;
pub mod handshake;
mod housekeeping;
pub mod listener;
pub mod message;
pub mod outbox;
mod renewal;
pub mod retained;
pub mod router;
pub mod session;
pub mod store;
pub mod subscribe;
pub mod tls;
pub mod topic;
pub mod wills;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use seglog::Storage;
use telemetry::{Origin, Position, Record};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use auth::hash_password;
pub use config::{ConfigError, MqttConfig, UserConfig};
pub use renewal::LiveConfig;

use crate::door::Door;
use crate::mapping::{Mapper, MappingError};
use crate::retry::Retry;
use broker::Broker;

/// Why the MQTT port doesn't run.
#[derive(Debug, thiserror::Error)]
pub enum MqttError {
    /// The section.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its mapping.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// A user's hash.
    #[error("a user's password_hash {0}")]
    Users(#[from] auth::HashError),
    /// Certificate and key.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// The session store.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// The journal couldn't be read for the sessions' marks.
    #[error("the journal can't be read for the MQTT sessions: {0}")]
    Journal(#[from] journal::ReadError),
    /// A thread or task of ours failed.
    #[error("a part of the MQTT port failed: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// The port.
    #[error(
        "MQTT can't listen on {address} ({error}): is another broker (mosquitto) using it? Set {key} to another address, or stop the other"
    )]
    Bind {
        /// Where.
        address: SocketAddr,
        /// The key that says so.
        key: &'static str,
        /// What the system says.
        error: std::io::Error,
    },
}

/// Runs the MQTT port until shutdown. `dir` is where sessions are kept; the journal comes free only as far as they can be
/// written there.
///
/// # Errors
/// [`MqttError`]: it could not start.
pub async fn run(
    live: LiveConfig,
    door: Door,
    dir: &Path,
    storage: Arc<dyn Storage>,
    shutdown: CancellationToken,
) -> Result<(), MqttError> {
    let config = live.config();
    let ports = [(config.listen, false), (config.tls_listen, true)];
    let ports = ports.into_iter().filter_map(|(address, tls)| Some((Port::Bind(address?), tls))).collect();
    front(live, door, dir, storage, ports, shutdown).await
}

/// The same on listeners and a storage that are there already.
///
/// # Errors
/// [`MqttError`]: it could not start.
pub async fn serve(
    live: LiveConfig,
    door: Door,
    dir: &Path,
    storage: Arc<dyn Storage>,
    plain: Option<TcpListener>,
    secure: Option<TcpListener>,
    shutdown: CancellationToken,
) -> Result<(), MqttError> {
    let ports = [(plain, false), (secure, true)];
    let ports = ports.into_iter().filter_map(|(listener, tls)| Some((Port::Ready(listener?), tls))).collect();
    front(live, door, dir, storage, ports, shutdown).await
}

/// Where connections come from.
enum Port {
    Bind(SocketAddr),
    Ready(TcpListener),
}

/// The store first, then the ports: sessions are kept, and the journal goes on, while a port is taken by another.
async fn front(
    live: LiveConfig,
    door: Door,
    dir: &Path,
    storage: Arc<dyn Storage>,
    ports: Vec<(Port, bool)>,
    shutdown: CancellationToken,
) -> Result<(), MqttError> {
    let config = live.begin();
    config.check()?;
    // Ended from inside, it must not take the other inputs along.
    let shutdown = shutdown.child_token();
    let mapper = Mapper::new(&config.mapping)?;
    let access = access::Access::new(config.clone(), None)?;
    let (dir, journal) = (dir.to_owned(), door.journal.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let (store, mut state) = store::Store::open(storage, &dir)?;
        match replay(&journal, &mut state) {
            Ok(()) => Ok((store, state)),
            Err(error) => {
                store.close();
                Err(error)
            }
        }
    });
    let (store, state) = opened.await??;
    let broker = Arc::new(Broker {
        mapper,
        access: access.into(),
        attempts: attempts::Attempts::new(config.max_unauthenticated / 2),
        secure: Default::default(),
        router: Box::new(router::Tree::new()),
        store: store.clone(),
        sessions: Default::default(),
        retained: Default::default(),
        wills: Default::default(),
        released: Default::default(),
        queued: Default::default(),
        counters: Default::default(),
        marking: Default::default(),
        connections: Default::default(),
        config,
        door,
    });
    broker.restore(state);
    broker.door.stats.expect(u8::try_from(ports.len()).unwrap_or(u8::MAX));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(housekeeping::run(Arc::clone(&broker), shutdown.clone()));
    tasks.spawn(renewal::run(Arc::clone(&broker), live, shutdown.clone()));
    for (number, (port, tls)) in (0..).zip(ports) {
        tasks.spawn(open(Arc::clone(&broker), number, port, tls, shutdown.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a part of the MQTT port failed");
            shutdown.cancel();
        }
    }
    let (_, position) = broker.checkpoint();
    tokio::task::spawn_blocking(move || store.close()).await?;
    broker.door.journal.release(journal::Holder::Sessions, position);
    Ok(())
}

/// Opens a port, again and again until it can be, and accepts on it until shutdown.
async fn open(broker: Arc<Broker>, number: u8, mut port: Port, tls: bool, shutdown: CancellationToken) {
    let mut retry = Retry::of(number);
    loop {
        let error = match listen(&broker, port, tls).await {
            Ok(listener) => {
                broker.door.stats.recovered(number);
                if let Ok(listen) = listener.local_addr() {
                    tracing::info!(%listen, tls, "the MQTT port is open");
                }
                return listener::accept(broker, listener, tls, shutdown).await;
            }
            Err((error, again)) => {
                port = again;
                error
            }
        };
        if !retry.after(&broker.door, &error.to_string(), &shutdown).await {
            return;
        }
    }
}

async fn listen(broker: &Arc<Broker>, port: Port, tls: bool) -> Result<TcpListener, (MqttError, Port)> {
    if tls && let Err(error) = renewal::load(broker).await {
        return Err((error, port));
    }
    let address = match port {
        Port::Ready(listener) => return Ok(listener),
        Port::Bind(address) => address,
    };
    let key = if tls { "tls_listen" } else { "listen" };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) => Err((MqttError::Bind { address, key, error }, Port::Bind(address))),
    }
}

/// Takes in the journal's marks that the store doesn't have yet.
fn replay(journal: &journal::Journal, state: &mut store::State) -> Result<(), MqttError> {
    if state.sessions.is_empty() {
        // Nobody to remember anything for.
        state.position = journal.last();
        return Ok(());
    }
    let mut reader = journal.reader(state.position);
    let last: Position = *journal.durable().borrow();
    let mut at = state.position;
    while at < last {
        let Some((position, record)) = reader.next(Duration::from_secs(10))? else { break };
        at = position;
        if let Record::Intake(intake) = record
            && let Some(Origin::Mqtt { client, publishes }) = intake.origin
        {
            for mark in publishes {
                state.mark(&client, position, mark.packet_id, mark.qos, mark.content, session::REMEMBERED);
            }
        }
    }
    Ok(())
}
