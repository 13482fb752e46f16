//! One address and what carries the frames there.

use std::sync::Arc;

use wire::envelope::Key;
use wire::v1::{self, from_agent, from_collector};

use crate::address::{Address, Carrier};
use crate::broker::Broker;
use crate::config::UplinkConfig;
use crate::endpoint::{self, Gateway};
use crate::error::{ConfigError, LinkError};
use crate::grpc;
use crate::mqtt::{Mqtt, SILENCE};
use crate::pump::{self, Clock, Stop};
use crate::session::Session;
use crate::state::{LinkState, Over};

/// A way to the collector.
pub(crate) struct Link {
    over: Over,
    carrier: Way,
}

enum Way {
    Grpc(Box<Gateway>),
    Mqtt(Box<Mqtt>),
}

impl Link {
    /// Reads the files that the address needs.
    pub(crate) fn new(
        config: &UplinkConfig,
        agent: &str,
        state: &Arc<LinkState>,
        fallback: bool,
    ) -> Result<Self, ConfigError> {
        let (key, url) = match &config.fallback_url {
            Some(url) if fallback => ("fallback_url", url),
            _ => ("url", &config.url),
        };
        let address = Address::parse(key, url)?;
        let over = |transport: &str| Over { transport: transport.into(), url: url.clone(), fallback };
        Ok(match address.carrier {
            Carrier::Grpc => {
                let gateway = endpoint::gateway(config, url, &address)?;
                Self { over: over("grpc"), carrier: Way::Grpc(Box::new(gateway)) }
            }
            Carrier::Mqtt => {
                let token = config.token_file.as_deref().map(endpoint::token).transpose()?;
                let key = token.as_deref().map(Key::of_token);
                let broker = Broker::new(config, &address, agent)?;
                let mqtt = Mqtt::new(broker, key, agent, Arc::clone(state));
                Self { over: over("mqtt"), carrier: Way::Mqtt(Box::new(mqtt)) }
            }
        })
    }

    /// What is seen of it.
    pub(crate) fn over(&self) -> &Over {
        &self.over
    }

    /// Runs one session to its end. `greeted` tells whether it got as far as the greeting.
    pub(crate) async fn run(
        &mut self,
        session: &mut Session,
        spool: &spool::Spool,
        clock: Clock,
        stop: &Stop,
        greeted: &mut bool,
    ) -> Result<(), LinkError> {
        tokio::select! {
            connected = self.connect() => connected?,
            () = stop.drain.cancelled() => return Ok(()),
        }
        session.opened(clock.now());
        let hello = session.next_frame(clock.now())?.ok_or(LinkError::NotOpen)?;
        let mut wires = pump::in_time(self.open(hello)).await?;
        let over = self.over.clone();
        let end = pump::run(session, &mut wires, spool, clock, stop, |session| {
            *greeted = true;
            if over.transport == "mqtt" {
                session.expect_word_every(SILENCE);
            }
            tracing::info!(url = %over.url, "link up");
        })
        .await;
        drop(wires);
        self.ended().await;
        match end {
            Err(LinkError::NoGreeting(after)) if over.transport == "mqtt" => {
                Err(LinkError::NoGreetingOverBroker { url: over.url, after })
            }
            end => end,
        }
    }

    /// Whether a collector greets there; nothing else is said.
    pub(crate) async fn probe(&mut self, hello: v1::Hello) -> Result<(), LinkError> {
        self.connect().await?;
        let hello = v1::FromAgent { frame: Some(from_agent::Frame::Hello(hello)) };
        let mut wires = pump::in_time(self.open(hello)).await?;
        let first = pump::in_time(wires.inbox.receive()).await;
        drop(wires);
        self.leave().await;
        match first?.frame {
            Some(from_collector::Frame::Greeting(_)) => Ok(()),
            _ => Err(LinkError::NoGreeting(crate::GREETING_TIMEOUT)),
        }
    }

    async fn connect(&mut self) -> Result<(), LinkError> {
        match &mut self.carrier {
            Way::Grpc(gateway) => gateway.connect().await,
            Way::Mqtt(mqtt) => mqtt.connect().await,
        }
    }

    async fn open(&mut self, hello: v1::FromAgent) -> Result<pump::Wires, LinkError> {
        match &mut self.carrier {
            Way::Grpc(gateway) => grpc::open(gateway, hello).await,
            Way::Mqtt(mqtt) => mqtt.open(hello).await,
        }
    }

    async fn ended(&mut self) {
        match &mut self.carrier {
            Way::Grpc(gateway) => gateway.channel = None,
            Way::Mqtt(mqtt) => mqtt.ended().await,
        }
    }

    /// Gives up what is still open.
    pub(crate) async fn leave(&mut self) {
        match &mut self.carrier {
            Way::Grpc(gateway) => gateway.channel = None,
            Way::Mqtt(mqtt) => mqtt.leave().await,
        }
    }

    /// Between two attempts: returns when there is reason to try at once.
    pub(crate) async fn news(&mut self) {
        match &mut self.carrier {
            Way::Grpc(_) => std::future::pending().await,
            Way::Mqtt(mqtt) => mqtt.online().await,
        }
    }
}
