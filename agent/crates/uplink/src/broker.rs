//! A connection to a site's broker: MQTT 3.1.1, clean session, nothing of ours stays there.
//!
//! One task polls the connection for as long as it lasts, so that no other task's waiting interrupts a read
//! or a write halfway, and leaves what came in a bounded queue. Whoever lets go of the connection ends the task.

use std::pin::Pin;
use std::time::Duration;

use rumqttc::{
    AsyncClient, ClientError, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions,
    Packet, QoS, SubscribeFilter, SubscribeReasonCode, Transport,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::address::Address;
use crate::config::UplinkConfig;
use crate::error::{ConfigError, LinkError};

/// Pings go at this pace and must be answered by the next: a dead connection is noticed within twice that.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Publishes the broker has not confirmed yet. More would only hide its back-pressure.
const IN_FLIGHT: u16 = 16;
/// Largest packet either way: a batch, its definitions and the envelope.
const MAX_PACKET: usize = 8 << 20;
/// What came and wasn't fetched; beyond that the broker's own queue holds it.
const INCOMING: usize = 64;
/// A clean end takes no longer.
const FAREWELL: Duration = Duration::from_secs(2);

/// The topics of one agent.
#[derive(Clone, Debug)]
pub(crate) struct Topics {
    pub(crate) up: String,
    pub(crate) down: String,
    pub(crate) gone: String,
    pub(crate) collector: String,
}

impl Topics {
    pub(crate) fn new(prefix: &str, agent: &str) -> Self {
        Self {
            up: format!("{prefix}/v1/up/{agent}"),
            down: format!("{prefix}/v1/down/{agent}"),
            gone: format!("{prefix}/v1/gone/{agent}"),
            collector: format!("{prefix}/v1/collector"),
        }
    }
}

/// A broker that can be connected to again and again.
pub(crate) struct Broker {
    pub(crate) topics: Topics,
    options: MqttOptions,
    agent: String,
    connect_timeout: Duration,
}

/// What comes from a broker.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// For us: an envelope.
    Down(Vec<u8>),
    /// The collector says that it is there, or that it went; `news` = just now, not retained from before.
    Collector { online: bool, news: bool },
    /// The connection is over.
    Lost(String),
}

/// A message on its way to the broker.
pub(crate) type Publishing = Pin<Box<dyn Future<Output = Result<(), ClientError>> + Send>>;

/// An open connection, subscribed.
pub(crate) struct Connection {
    pub(crate) client: AsyncClient,
    pub(crate) incoming: mpsc::Receiver<Incoming>,
    /// Publishes that were handed to it, and those that the broker has confirmed.
    published: u64,
    confirmed: watch::Receiver<u64>,
    polling: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.polling.abort();
    }
}

impl Broker {
    /// Reads the files and makes the options.
    pub(crate) fn new(config: &UplinkConfig, address: &Address, agent: &str) -> Result<Self, ConfigError> {
        let topics = Topics::new(&config.mqtt_prefix, agent);
        let mut options = MqttOptions::new(agent, address.host.clone(), address.port);
        options
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_session(true)
            .set_inflight(IN_FLIGHT)
            .set_max_packet_size(MAX_PACKET, MAX_PACKET)
            .set_last_will(LastWill::new(topics.gone.clone(), Vec::new(), QoS::AtLeastOnce, false));
        if let Some(user) = &config.mqtt_user {
            let password = config.mqtt_password_file.as_deref();
            let password =
                password.map(|path| crate::endpoint::secret("mqtt_password_file", path)).transpose()?;
            options.set_credentials(user, password.unwrap_or_default());
        }
        if address.tls {
            options.set_transport(Transport::tls_with_config(crate::tls::client(config)?.into()));
        }
        let connect_timeout = Duration::from_secs(config.connect_timeout);
        Ok(Self { topics, options, agent: agent.to_owned(), connect_timeout })
    }

    /// Connects and subscribes; returns when the broker confirmed both.
    pub(crate) async fn connect(&self) -> Result<Connection, LinkError> {
        let mut options = self.options.clone();
        // A name of its own for each: a probe beside a session, or a second agent of the same name, would otherwise
        // throw the first one out again and again.
        options.set_client_id(format!("telemetryx-{}-{:08x}", self.agent, crate::backoff::draw()));
        let (client, mut events) = AsyncClient::new(options, 1);
        events.network_options.set_connection_timeout(self.connect_timeout.as_secs());
        let filters = [&self.topics.down, &self.topics.collector];
        let subscribe = filters.map(|topic| SubscribeFilter::new(topic.clone(), QoS::AtLeastOnce));
        let (came, incoming) = mpsc::channel(INCOMING);
        let opening = async {
            loop {
                match events.poll().await.map_err(|error| LinkError::Broker(said(&error)))? {
                    Event::Incoming(Packet::ConnAck(_)) => {
                        let asked = client.try_subscribe_many(subscribe.clone());
                        asked.map_err(|error| LinkError::Broker(error.to_string()))?;
                    }
                    Event::Incoming(Packet::SubAck(ack)) => {
                        let mut answers = ack.return_codes.iter().zip(filters);
                        let refused = answers.find(|(code, _)| **code == SubscribeReasonCode::Failure);
                        return match refused {
                            None => Ok(()),
                            Some((_, topic)) => Err(LinkError::Subscription { topic: topic.clone() }),
                        };
                    }
                    event => {
                        // What is retained may come before the SUBACK.
                        if let Some(first) = self.read(event) {
                            let _ = came.try_send(first);
                        }
                    }
                }
            }
        };
        let opened = timeout(self.connect_timeout * 2, opening).await;
        opened.map_err(|_| LinkError::Broker("no answer to CONNECT and SUBSCRIBE".into()))??;
        let topics = self.topics.clone();
        let (confirms, confirmed) = watch::channel(0);
        let polling = tokio::spawn(async move { poll(events, &topics, came, confirms).await });
        Ok(Connection { client, incoming, published: 0, confirmed, polling })
    }

    /// How large a packet it takes: MQTT 5 has a word for it, so it is asked by a short connection of that version. `None` where
    /// it gives no answer, or speaks 3.1.1 only; `Some(None)` where it names no limit.
    pub(crate) async fn largest(&self) -> Option<Option<usize>> {
        use rumqttc::v5::{self, mqttbytes::v5::Packet};
        let (host, port) = self.options.broker_address();
        let id = format!("telemetryx-{}-{:08x}", self.agent, crate::backoff::draw());
        let mut options = v5::MqttOptions::new(id, host, port);
        options.set_transport(self.options.transport()).set_keep_alive(KEEP_ALIVE);
        options.set_connection_timeout(self.connect_timeout.as_secs());
        if let Some(login) = self.options.credentials() {
            options.set_credentials(login.username, login.password);
        }
        let (client, mut events) = v5::AsyncClient::new(options, 1);
        let asked = async {
            let v5::Event::Incoming(Packet::ConnAck(ack)) = events.poll().await.ok()? else { return None };
            let _ = client.try_disconnect();
            while events.poll().await.is_ok() {}
            let largest = ack.properties.and_then(|all| all.max_packet_size);
            Some(largest.and_then(|bytes| usize::try_from(bytes).ok()))
        };
        timeout(self.connect_timeout * 2, asked).await.ok().flatten()
    }

    fn read(&self, event: Event) -> Option<Incoming> {
        read(event, &self.topics)
    }
}

impl Connection {
    /// Hands it a message for a topic; done when there is room for it.
    pub(crate) fn publish(&mut self, topic: String, message: Vec<u8>) -> Publishing {
        self.published += 1;
        let client = self.client.clone();
        Box::pin(async move { client.publish(topic, QoS::AtLeastOnce, false, message).await })
    }

    /// Waits until the broker has confirmed all that it was handed; false where it ends before.
    pub(crate) async fn confirmed(&mut self) -> bool {
        let published = self.published;
        self.confirmed.wait_for(|confirmed| *confirmed >= published).await.is_ok()
    }

    /// Leaves after what was published before, so that the broker doesn't publish the will.
    pub(crate) async fn leave(mut self) {
        let farewell = async {
            if self.client.disconnect().await.is_ok() {
                while !matches!(self.incoming.recv().await, None | Some(Incoming::Lost(_))) {}
            }
        };
        let _ = timeout(FAREWELL, farewell).await;
    }
}

async fn poll(
    mut events: EventLoop,
    topics: &Topics,
    came: mpsc::Sender<Incoming>,
    confirms: watch::Sender<u64>,
) {
    loop {
        let incoming = match events.poll().await {
            Ok(Event::Incoming(Packet::PubAck(_))) => {
                confirms.send_modify(|confirmed| *confirmed += 1);
                None
            }
            // The event loop reconnects by itself; a session doesn't survive that.
            Ok(Event::Incoming(Packet::ConnAck(_))) => Some(Incoming::Lost("it was reconnected".into())),
            Ok(event) => read(event, topics),
            Err(error) => Some(Incoming::Lost(said(&error))),
        };
        let Some(incoming) = incoming else { continue };
        let over = matches!(incoming, Incoming::Lost(_));
        if came.send(incoming).await.is_err() || over {
            return;
        }
    }
}

fn read(event: Event, topics: &Topics) -> Option<Incoming> {
    let Event::Incoming(Packet::Publish(publish)) = event else { return None };
    if publish.topic == topics.down {
        // Retained by somebody: nothing of a session of now.
        return (!publish.retain).then(|| Incoming::Down(publish.payload.to_vec()));
    }
    (publish.topic == topics.collector)
        .then(|| Incoming::Collector { online: publish.payload[..] == *b"online", news: !publish.retain })
}

/// What went wrong, with the remedy where there is one.
fn said(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
        ) => "it refused the login: check uplink.mqtt_user and mqtt_password_file".into(),
        ConnectionError::Tls(error) => {
            format!("{error}: is its certificate signed by the authority in uplink.ca_file?")
        }
        other => other.to_string(),
    }
}
