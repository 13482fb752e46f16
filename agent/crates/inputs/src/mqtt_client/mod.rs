//! The MQTT client input: subscribes at a broker that is there already, with a persistent session,
//! and acknowledges by hand once the journal has the reading. So promise P1 reaches back into the
//! site's own broker: what it holds at QoS 1 is given up only for what is on our disk.
//!
//! One connection is two loops side by side: one polls the broker, maps and submits; the other
//! waits for the journal's durable mark and acknowledges. Both end with the connection: an ack of an
//! earlier connection could hit another message that has been given the same id since.

pub mod config;
mod tls;

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, Packet, Publish, QoS, SubscribeFilter, SubscribeReasonCode,
    Transport,
};
use telemetry::{Cause, Origin, Position, PublishMark, Record};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::Xxh3;

pub use config::MqttClientConfig;
pub use tls::TlsError;

use crate::door::{Door, Refused};
use crate::intake::{IntakeBuilder, SeriesCache};
use crate::mapping::{Delivery, LastSeen, Mapper, MappingError};
use crate::mqtt::ConfigError;
use crate::mqtt::session::Inbound;

/// Packet ids there are: never more acks than that wait.
const IDS: usize = 65_535;
/// Publishes of one intake.
const BATCH: usize = 512;
/// Topics whose last payload is remembered, to know a retained value that was seen.
const TOPICS: usize = 20_000;
const BACK_OFF_MIN: Duration = Duration::from_millis(500);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);

/// Why the input doesn't run.
#[derive(Debug, thiserror::Error)]
pub enum MqttClientError {
    /// The section.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its mapping.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The password.
    #[error("password_file {path:?} can't be read ({error}): set it to a file that the agent may read")]
    Password {
        /// Where.
        path: std::path::PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The journal is broken; the supervisor says so too.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// What goes on from connection to connection.
struct Input {
    config: MqttClientConfig,
    door: Door,
    mapper: Mapper,
    cache: SeriesCache,
    seen: LastSeen,
    /// What was taken, to know a redelivery.
    inbound: Inbound,
    /// Its name in the journal's marks. No client of our own port can have it: control characters.
    mark: String,
    subscribed: bool,
    last_message: Instant,
}

/// Acks that wait for the journal.
type Owed = (Position, Vec<Publish>);

/// Why a connection is over.
enum End {
    Lost(String),
    Fatal(Refused),
}

/// Runs until shutdown; an absent broker is waited for.
///
/// # Errors
/// [`MqttClientError`]: the section can't work.
pub async fn run(
    config: MqttClientConfig,
    door: Door,
    shutdown: CancellationToken,
) -> Result<(), MqttClientError> {
    config.check()?;
    let options = options(&config, &door.name)?;
    let mark = format!("\u{1}{}", door.name);
    let (journal, name) = (door.journal.clone(), mark.clone());
    let inbound = tokio::task::spawn_blocking(move || remembered(&journal, &name)).await.unwrap_or_default();
    let mut input = Input {
        mapper: Mapper::new(&config.mapping)?,
        cache: SeriesCache::new(),
        seen: LastSeen::new(TOPICS),
        inbound,
        mark,
        subscribed: false,
        last_message: Instant::now(),
        config,
        door,
    };
    input.door.stats.recovered(0);
    // Acks and one SUBSCRIBE: the queue is never full, so neither loop waits for the other.
    let (client, mut events) = AsyncClient::new(options, IDS + 16);
    let mut failures = 0;
    loop {
        let (owe, owed) = mpsc::channel(IDS);
        let (began, door) = (Instant::now(), input.door.clone());
        let ended = tokio::select! {
            () = shutdown.cancelled() => break,
            ended = receive(&mut input, &client, &mut events, owe) => ended,
            ended = acknowledge(&door, &client, owed) => ended,
        };
        events.clean();
        failures = if began.elapsed() > Duration::from_secs(60) { 0 } else { failures + 1 };
        let pause = back_off(failures);
        let why = match ended {
            End::Fatal(error) => return Err(error.into()),
            End::Lost(why) => why,
        };
        let retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(input = %door.name, url = input.config.url, %why, retry_ms, "no connection to the broker");
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    // What isn't acknowledged yet comes again, and is known by its mark.
    if client.try_disconnect().is_ok() {
        let _ = tokio::time::timeout(Duration::from_secs(1), async { while events.poll().await.is_ok() {} })
            .await;
    }
    Ok(())
}

fn options(config: &MqttClientConfig, name: &str) -> Result<MqttOptions, MqttClientError> {
    let address = config.address()?;
    let id = match config.client_id.as_str() {
        "" => format!("telemetryx-{}-{name}", rustix::system::uname().nodename().to_string_lossy()),
        id => id.to_owned(),
    };
    // An IPv6 address without its brackets: a certificate is for the bare address.
    let host = address.host.trim_start_matches('[').trim_end_matches(']');
    let mut options = MqttOptions::new(id, host, address.port);
    options
        .set_keep_alive(Duration::from_secs(config.keep_alive_secs.into()))
        .set_clean_session(false)
        .set_manual_acks(true)
        .set_max_packet_size(config.max_packet_bytes, config.max_packet_bytes);
    if !config.username.is_empty() {
        options.set_credentials(&config.username, config.password()?.unwrap_or_default());
    }
    if address.tls {
        let client = tls::client(config)?;
        options.set_transport(Transport::tls_with_config(client.into()));
    }
    Ok(options)
}

/// The marks of this input that the journal still holds, newest last.
fn remembered(journal: &journal::Journal, name: &str) -> Inbound {
    let mut inbound = Inbound::default();
    let last = *journal.durable().borrow();
    let mut at = journal.first().saturating_sub(1);
    let mut reader = journal.reader(at);
    while at < last {
        let (position, record) = match reader.next(Duration::from_secs(10)) {
            Ok(Some(next)) => next,
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(%error, "the journal can't be read for marks: a redelivery may be stored twice");
                break;
            }
        };
        at = position;
        if let Record::Intake(intake) = record
            && let Some(Origin::Mqtt { client, publishes }) = intake.origin
            && client == name
        {
            for mark in publishes {
                inbound.remember(mark.packet_id, position, mark.content);
            }
        }
    }
    inbound
}

/// Polls the broker and submits what comes.
async fn receive(
    input: &mut Input,
    client: &AsyncClient,
    events: &mut EventLoop,
    owe: mpsc::Sender<Owed>,
) -> End {
    loop {
        let silent = match input.config.silent_after_secs {
            0 => Duration::MAX / 4,
            secs => Duration::from_secs(secs),
        };
        let mut warn =
            std::pin::pin!(tokio::time::sleep(silent.saturating_sub(input.last_message.elapsed())));
        // `poll` keeps partial packets in its buffers, but is not ended in the middle all the same.
        let mut poll = Box::pin(events.poll());
        let event = tokio::select! {
            event = poll.as_mut() => event,
            () = warn.as_mut() => {
                tracing::warn!(input = %input.door.name, url = input.config.url, seconds = input.config.silent_after_secs, "no message has come: is the broker's topic list right?");
                input.last_message = Instant::now();
                poll.as_mut().await
            }
        };
        drop(poll);
        let mut publishes = Vec::new();
        let mut next = match event {
            Ok(event) => Some(event),
            Err(error) => return End::Lost(error.to_string()),
        };
        // Everything that came in the same read is one intake.
        while let Some(event) = next.take() {
            match event {
                Event::Incoming(Packet::Publish(publish)) => publishes.push(publish),
                Event::Incoming(Packet::ConnAck(ack)) => {
                    tracing::info!(input = %input.door.name, url = input.config.url, resumed = ack.session_present, "connected to the broker");
                    // The topics may have changed since the session began: asked once a process too.
                    if !(ack.session_present && input.subscribed) {
                        let qos = match input.config.qos {
                            0 => QoS::AtMostOnce,
                            1 => QoS::AtLeastOnce,
                            _ => QoS::ExactlyOnce,
                        };
                        let filters =
                            input.config.topics.iter().map(|topic| SubscribeFilter::new(topic.clone(), qos));
                        if let Err(error) = client.try_subscribe_many(filters) {
                            return End::Lost(format!("SUBSCRIBE could not be sent: {error}"));
                        }
                        input.subscribed = true;
                    }
                }
                Event::Incoming(Packet::SubAck(ack)) => {
                    let refused = ack.return_codes.iter().zip(&input.config.topics);
                    for (_, topic) in refused.filter(|(code, _)| matches!(code, SubscribeReasonCode::Failure))
                    {
                        tracing::error!(input = %input.door.name, topic, "the broker refused the subscription: may this user read it?");
                    }
                }
                _ => {}
            }
            if publishes.len() < BATCH {
                next = events.state.events.pop_front();
            }
        }
        if publishes.is_empty() {
            continue;
        }
        input.last_message = Instant::now();
        let position = match input.submit(&publishes).await {
            Ok(position) => position,
            Err(refused) => return End::Fatal(refused),
        };
        publishes.retain(|publish| publish.qos != QoS::AtMostOnce);
        if !publishes.is_empty() && owe.try_send((position, publishes)).is_err() {
            return End::Lost("more messages wait for the disk than there are packet ids".into());
        }
    }
}

/// Waits for the disk and acknowledges, in order.
async fn acknowledge(door: &Door, client: &AsyncClient, mut owed: mpsc::Receiver<Owed>) -> End {
    while let Some((position, publishes)) = owed.recv().await {
        loop {
            match door.durable(position).await {
                Ok(()) => break,
                Err(Refused::Slow { .. } | Refused::DiskFull { .. }) => {}
                Err(refused) => return End::Fatal(refused),
            }
        }
        for publish in &publishes {
            if let Err(error) = client.try_ack(publish) {
                return End::Lost(format!("an ack could not be sent: {error}"));
            }
        }
    }
    // The other loop holds the sender for as long as it runs.
    std::future::pending().await
}

impl Input {
    /// Maps and submits; while the journal pushes back nothing is read from the broker.
    async fn submit(&mut self, publishes: &[Publish]) -> Result<Position, Refused> {
        // Judging remembers, so it is done once, however often the journal pushes back.
        let judged: Vec<_> = publishes
            .iter()
            .map(|publish| {
                (
                    self.is_redelivery(publish),
                    self.seen.judge(&publish.topic, &publish.payload, publish.retain),
                )
            })
            .collect();
        loop {
            let at = self.door.now();
            let mut builder = IntakeBuilder::new(&self.door, &mut self.cache, at);
            let mut marks = Vec::new();
            for (publish, (redelivery, delivery)) in publishes.iter().zip(&judged) {
                match (redelivery, delivery) {
                    (true, _) => builder.deduplicated(Cause::Deduplicated, 1),
                    (_, Delivery::Repeat) => builder.deduplicated(Cause::DeduplicatedRetained, 1),
                    (_, Delivery::Live | Delivery::Changed) => {
                        let changed = *delivery == Delivery::Changed;
                        self.mapper.map(&publish.topic, &publish.payload, changed, at, &mut builder);
                    }
                }
                if publish.qos != QoS::AtMostOnce {
                    marks.push(PublishMark { packet_id: publish.pkid, qos: 1, content: content(publish) });
                }
            }
            let mut intake = builder.finish();
            if !marks.is_empty() {
                intake.origin = Some(Origin::Mqtt { client: self.mark.clone(), publishes: marks.clone() });
            }
            match self.door.submit(intake) {
                Ok(position) => {
                    for mark in marks {
                        self.inbound.remember(mark.packet_id, position, mark.content);
                    }
                    return Ok(position);
                }
                Err(Refused::Busy { retry_after, .. }) => tokio::time::sleep(retry_after).await,
                Err(refused) => return Err(refused),
            }
        }
    }

    fn is_redelivery(&self, publish: &Publish) -> bool {
        publish.dup
            && publish.qos != QoS::AtMostOnce
            && self.inbound.is_resend(publish.pkid, content(publish))
    }
}

fn content(publish: &Publish) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(publish.topic.as_bytes());
    hash.update(&[0]);
    hash.update(&publish.payload);
    hash.digest128()
}

/// Full jitter: anything between nothing and a limit that doubles with each failure.
fn back_off(failures: u32) -> Duration {
    let limit = BACK_OFF_MAX.min(BACK_OFF_MIN.saturating_mul(1 << failures.min(10)));
    let mut bytes = [0; 4];
    // Without random numbers the limit itself is as good as any.
    let part = match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    };
    limit.mul_f64(part).max(Duration::from_millis(50))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_never_exceeds_its_cap_and_is_not_always_the_same() {
        let pauses: Vec<_> = (0..50).map(|_| back_off(20)).collect();
        assert!(pauses.iter().all(|pause| *pause <= BACK_OFF_MAX));
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        assert!(back_off(0) <= BACK_OFF_MIN);
    }
}
