//! The link over a site's broker: a session's frames in sealed envelopes.
//!
//! Exactly-once depends on nothing here: the broker's PUBACK removes nothing, only a signed ack does. What a broker loses
//! shows as a gap in the counters, which ends the session; the next one begins with what the collector holds.
//! The connection outlives a session that the collector ended, so that its `online` is heard at once.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wire::envelope::{EnvelopeError, Key, Opened, Sealer};
use wire::v1::{self, from_collector};

use crate::broker::{Broker, Connection, Incoming, Publishing};
use crate::error::{GOODBYES, LinkError};
use crate::pump::{Inbox, OUTBOX, Wires};
use crate::state::LinkState;

/// The collector answers each status, every five seconds: this long without a word, and it is gone.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);

/// At a session's end the broker has confirmed what it got within this time, or its connection is no good.
const CONFIRMED: Duration = Duration::from_secs(2);

/// A broker, the connection to it and the session on that.
pub(crate) struct Mqtt {
    broker: Arc<Broker>,
    key: Option<Key>,
    agent: String,
    state: Arc<LinkState>,
    connection: Option<Connection>,
    carrying: Option<JoinHandle<Option<Connection>>>,
}

impl Mqtt {
    pub(crate) fn new(broker: Broker, key: Option<Key>, agent: &str, state: Arc<LinkState>) -> Self {
        let (broker, agent) = (Arc::new(broker), agent.to_owned());
        Self { broker, key, agent, state, connection: None, carrying: None }
    }

    /// Whether a connection is open, with or without a session on it.
    pub(crate) fn is_connected(&self) -> bool {
        self.connection.is_some() || self.carrying.is_some()
    }

    /// Connects, unless the last session left its connection behind.
    pub(crate) async fn connect(&mut self) -> Result<(), LinkError> {
        if self.connection.is_none() {
            self.connection = Some(self.broker.connect().await?);
        }
        Ok(())
    }

    /// How large a packet the broker takes: see [`Broker::largest`].
    pub(crate) async fn largest(&self) -> Option<Option<usize>> {
        self.broker.largest().await
    }

    /// Begins a session with a hello.
    pub(crate) async fn open(&mut self, hello: v1::FromAgent) -> Result<Wires, LinkError> {
        let connection = self.connection.take().ok_or(LinkError::NotOpen)?;
        let mut session = [0; 16];
        getrandom::fill(&mut session).map_err(|error| LinkError::Random(error.to_string()))?;
        let (outbox, frames) = mpsc::channel(OUTBOX);
        let (came, inbox) = mpsc::channel(OUTBOX);
        outbox.send(hello).await.map_err(|_| LinkError::Closed)?;
        let carrier = Carrier {
            broker: Arc::clone(&self.broker),
            sealer: Sealer::of_agent(self.key.clone(), &self.agent, session),
            state: Arc::clone(&self.state),
            connection,
            frames,
            came,
        };
        self.carrying = Some(tokio::spawn(carrier.run()));
        Ok(Wires { outbox, inbox: Inbox::Mqtt(inbox) })
    }

    /// The session's wires were dropped: says so to the collector, and keeps the connection if it is still good.
    pub(crate) async fn ended(&mut self) {
        if let Some(carrying) = self.carrying.take() {
            // It ends by itself once its wires are gone, its last publish included.
            self.connection = carrying.await.ok().flatten();
        }
    }

    /// Leaves the broker.
    pub(crate) async fn leave(&mut self) {
        self.ended().await;
        if let Some(connection) = self.connection.take() {
            connection.leave().await;
        }
    }

    /// Returns when the collector says that it came; never, where there is no connection to hear it on.
    pub(crate) async fn online(&mut self) {
        while let Some(connection) = &mut self.connection {
            match connection.incoming.recv().await {
                Some(Incoming::Collector { online: true, news: true }) => return,
                None | Some(Incoming::Lost(_)) => self.connection = None,
                Some(_) => {}
            }
        }
        std::future::pending().await
    }
}

/// One session's frames on their way.
struct Carrier {
    broker: Arc<Broker>,
    sealer: Sealer,
    state: Arc<LinkState>,
    connection: Connection,
    frames: mpsc::Receiver<v1::FromAgent>,
    came: mpsc::Sender<Result<v1::FromCollector, LinkError>>,
}

impl Carrier {
    /// Carries until either end is gone; gives the connection back when it is still good.
    async fn run(mut self) -> Option<Connection> {
        let mut publishing: Option<Publishing> = None;
        loop {
            let idle = publishing.is_none();
            let sent = async {
                match &mut publishing {
                    Some(publish) => publish.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                sent = sent => match sent {
                    Ok(()) => publishing = None,
                    Err(error) => {
                        let _ = self.came.send(Err(LinkError::Broker(error.to_string()))).await;
                        return None;
                    }
                },
                frame = self.frames.recv(), if idle => match frame {
                    Some(frame) => publishing = Some(self.publish(&frame)),
                    None => return self.gone().await,
                },
                () = self.came.closed() => return self.gone().await,
                incoming = self.connection.incoming.recv() => match self.heard(incoming) {
                    Heard::Nothing => {}
                    Heard::Frame(frame) => {
                        if self.came.send(Ok(frame)).await.is_err() {
                            return self.gone().await;
                        }
                    }
                    Heard::Over(error) => {
                        let _ = self.came.send(Err(error)).await;
                        return self.gone().await;
                    }
                    Heard::Lost(why) => {
                        let _ = self.came.send(Err(LinkError::Broker(why))).await;
                        return None;
                    }
                },
            }
        }
    }

    fn publish(&mut self, frame: &v1::FromAgent) -> Publishing {
        let envelope = self.sealer.seal(frame.encode_to_vec());
        let is_status = matches!(frame.frame, Some(v1::from_agent::Frame::Status(_)));
        self.state.sealed(envelope.len(), is_status);
        self.connection.publish(self.broker.topics.up.clone(), envelope)
    }

    fn heard(&mut self, incoming: Option<Incoming>) -> Heard {
        let bytes = match incoming {
            None => return Heard::Lost("the connection ended".into()),
            Some(Incoming::Lost(why)) => return Heard::Lost(why),
            // Its sessions of before are gone with it.
            Some(Incoming::Collector { online: true, news: true }) => {
                return Heard::Over(LinkError::Restarted);
            }
            Some(Incoming::Collector { online: false, news: true }) => {
                return Heard::Over(LinkError::Offline);
            }
            Some(Incoming::Collector { .. }) => return Heard::Nothing,
            Some(Incoming::Down(bytes)) => bytes,
        };
        let dropped = |error: EnvelopeError| {
            let count = self.state.dropped();
            // Whoever floods us doesn't fill the log.
            if error != EnvelopeError::OtherSession && count.is_power_of_two() {
                tracing::warn!(%error, count, topic = %self.broker.topics.down, "an envelope was passed over");
            }
            Heard::Nothing
        };
        match self.sealer.open(&bytes) {
            Ok(Opened::Again) => Heard::Nothing,
            Ok(Opened::Next(frame)) => match v1::FromCollector::decode(&frame[..]) {
                Ok(frame) => Heard::Frame(frame),
                Err(_) => dropped(EnvelopeError::Malformed),
            },
            Ok(Opened::Gap { expected, found, frame }) => match v1::FromCollector::decode(&frame[..]) {
                // The collector doesn't know how far the counters were.
                Ok(frame) if is_goodbye(&frame) => Heard::Frame(frame),
                _ => Heard::Over(LinkError::OutOfStep { expected, found }),
            },
            Err(error) => dropped(error),
        }
    }

    /// Tells the collector, so that it need not wait for a silence. A broker that confirms nothing, or not all, has nothing to tell
    /// either: its connection is given up, so that the next session begins on another.
    async fn gone(mut self) -> Option<Connection> {
        let last = self.sealer.seal(Vec::new());
        let said = self.connection.publish(self.broker.topics.gone.clone(), last);
        let confirmed = async { said.await.is_ok() && self.connection.confirmed().await };
        let confirmed = tokio::time::timeout(CONFIRMED, confirmed).await == Ok(true);
        if !confirmed {
            tracing::warn!("the broker doesn't confirm what it gets: its connection is closed");
        }
        confirmed.then_some(self.connection)
    }
}

/// What an incoming message means.
enum Heard {
    Nothing,
    Frame(v1::FromCollector),
    /// The session is over, the connection isn't.
    Over(LinkError),
    /// Both are.
    Lost(String),
}

fn is_goodbye(frame: &v1::FromCollector) -> bool {
    matches!(&frame.frame, Some(from_collector::Frame::SlowDown(slow)) if GOODBYES.contains(&slow.reason.as_str()))
}
