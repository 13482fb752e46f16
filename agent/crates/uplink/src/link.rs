//! One address and what carries the frames there.

use std::sync::Arc;
use std::time::Duration;

use wire::envelope::Key;
use wire::v1::{self, from_agent, from_collector};

use crate::address::{Address, Carrier};
use crate::broker::Broker;
use crate::config::UplinkConfig;
use crate::endpoint::{self, Gateway};
use crate::error::{ConfigError, LinkError};
use crate::fit::{self, Fit, Look};
use crate::grpc;
use crate::mqtt::{Mqtt, SILENCE};
use crate::pump::{self, Clock, Stop};
use crate::session::Session;
use crate::state::{LinkState, Over};

/// A way to the collector. Token and certificates are read for each connection: a file that isn't there yet keeps the
/// agent from connecting, not from running, and one that was renewed is used from the next connection on.
pub(crate) struct Link {
    over: Over,
    config: UplinkConfig,
    address: Address,
    agent: String,
    state: Arc<LinkState>,
    /// What passes the broker.
    fit: Fit,
    /// What carries frames; `None` before the first connection.
    way: Option<Way>,
}

/// What carries frames to an address.
pub(crate) enum Way {
    Grpc(Box<Gateway>),
    Mqtt(Box<Mqtt>),
}

impl Way {
    /// Reads the files that the address needs.
    pub(crate) fn read(
        config: &UplinkConfig,
        url: &str,
        address: &Address,
        agent: &str,
        state: &Arc<LinkState>,
    ) -> Result<Self, ConfigError> {
        // Nobody knows then who this host is, nor where it belongs.
        if let Some(broken) = &config.broken {
            return Err(ConfigError::Enrolment(broken.to_string()));
        }
        if let Some(enrolled) = config.enrolled(address.carrier) {
            let authority = config.authorities(address.carrier) == Some(enrolled.folder.ca_file());
            enrolled.folder.check(authority).map_err(|error| ConfigError::Enrolment(error.to_string()))?;
        }
        Ok(match address.carrier {
            Carrier::Grpc => Self::Grpc(Box::new(endpoint::gateway(config, url, address)?)),
            Carrier::Mqtt => {
                let key = signer(config)?;
                let broker = Broker::new(config, address, agent)?;
                Self::Mqtt(Box::new(Mqtt::new(broker, key, agent, Arc::clone(state))))
            }
        })
    }

    /// Whether a connection is open, and would be lost with it.
    fn is_connected(&self) -> bool {
        match self {
            Self::Grpc(_) => false,
            Self::Mqtt(mqtt) => mqtt.is_connected(),
        }
    }
}

/// What frames over a broker are signed with: the token where one is named, else the enrolled host's key.
fn signer(config: &UplinkConfig) -> Result<Option<Key>, ConfigError> {
    if let Some(file) = &config.token_file {
        return endpoint::token(file).map(|token| Some(Key::of_token(&token)));
    }
    let key = config.enrolled.as_ref().map(|enrolled| enrolled.folder.signer()).transpose();
    key.map_err(|error| ConfigError::Enrolment(error.to_string()))
}

/// What the files that the section names can't do now, for each way; the section itself is checked before
/// ([`UplinkConfig::check`]). The agent runs all the same, and reads them anew for each connection.
pub fn unusable_files(config: &UplinkConfig) -> Vec<ConfigError> {
    let state = Arc::new(LinkState::new(&config.lanes));
    let mut found: Vec<ConfigError> = Vec::new();
    let fallback = config.fallback_url.as_ref().map(|url| ("fallback_url", url));
    for (key, url) in [("url", &config.url)].into_iter().chain(fallback) {
        let read =
            Address::parse(key, url).and_then(|address| Way::read(config, url, &address, "agent", &state));
        if let Err(error) = read
            && found.iter().all(|known| known.to_string() != error.to_string())
        {
            found.push(error);
        }
    }
    found
}

impl Link {
    /// One of the two addresses.
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
        let transport = match address.carrier {
            Carrier::Grpc => "grpc",
            Carrier::Mqtt => "mqtt",
        };
        Ok(Self {
            over: Over { transport: transport.into(), url: url.clone(), fallback },
            config: config.clone(),
            address,
            agent: agent.to_owned(),
            state: Arc::clone(state),
            fit: Fit::default(),
            way: None,
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
        let state = Arc::clone(&self.state);
        tokio::select! {
            connected = state.beating(Box::pin(self.connect())) => connected?,
            () = stop.drain.cancelled() => return Ok(()),
        }
        tokio::select! {
            () = self.ask_again(clock) => {}
            () = stop.drain.cancelled() => return Ok(()),
        }
        state.begins(self.fit.limit());
        let opened = clock.now();
        session.opened(opened);
        let hello = session.next_frame(clock.now())?.ok_or(LinkError::NotOpen)?;
        let mut wires = state.beating(Box::pin(pump::in_time(self.open(hello)))).await?;
        let over = self.over.clone();
        let over_broker = over.transport == "mqtt";
        let running = pump::run(session, &mut wires, spool, clock, stop, &state, |session| {
            *greeted = true;
            if over_broker {
                session.expect_word_every(SILENCE);
            }
            tracing::info!(url = %over.url, "link up");
        });
        let end = tokio::select! {
            end = running => end,
            never = self.look_at_limit(clock) => match never {},
        };
        drop(wires);
        self.ended().await;
        if *greeted && over_broker {
            let broke_off = end.as_ref().is_err_and(LinkError::breaks_off);
            let lasted = clock.now().saturating_sub(opened);
            tokio::select! {
                () = self.learn(broke_off, state.suspect(), lasted, clock) => {}
                () = stop.drain.cancelled() => {}
            }
        }
        match end {
            Err(LinkError::NoGreeting(after)) if over.transport == "mqtt" => {
                Err(LinkError::NoGreetingOverBroker { url: over.url, after })
            }
            end => end,
        }
    }

    /// What a session's end tells of how large a message may be.
    async fn learn(&mut self, broke_off: bool, largest: usize, lasted: Duration, clock: Clock) {
        let known = self.fit.limit().cloned();
        if self.fit.ended(broke_off, largest, lasted, clock.now())
            && let Some(Some(packet)) = self.ask().await
        {
            self.fit.told(packet, clock.now());
        }
        if let Some(limit) = self.fit.limit().filter(|limit| known.as_ref() != Some(limit)) {
            tracing::warn!(url = %self.over.url, bytes = limit.bytes, "{}: {}", limit.found(), limit.remedy());
            self.state.begins(Some(limit));
        }
    }

    /// How large a packet the broker takes, by its own word: see [`crate::broker::Broker::largest`].
    async fn ask(&self) -> Option<Option<usize>> {
        let Some(Way::Mqtt(mqtt)) = &self.way else { return None };
        self.state.beating(Box::pin(mqtt.largest())).await
    }

    /// What the broker has named as its limit it may name otherwise now: it has been started anew, perhaps.
    async fn ask_again(&mut self, clock: Clock) {
        if self.fit.is_told()
            && let Some(largest) = self.ask().await
        {
            self.fit.answered(largest, clock.now());
        }
    }

    /// In a session that goes on: looks from time to time whether messages may be larger by now.
    async fn look_at_limit(&mut self, clock: Clock) -> std::convert::Infallible {
        loop {
            // What a session has sent by then tells whether anything is cut to the limit.
            tokio::time::sleep(fit::SOUND).await;
            if self.fit.looks_at().is_none_or(|at| at > clock.now()) {
                continue;
            }
            let known = self.fit.limit().cloned();
            if self.fit.look(self.state.largest(), clock.now()) == Look::Ask {
                self.ask_again(clock).await;
            }
            if self.fit.limit() != known.as_ref() {
                let bytes = self.fit.limit().map(|limit| limit.bytes);
                tracing::info!(url = %self.over.url, bytes, "the broker gets larger messages again");
                self.state.limited(self.fit.limit());
            }
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
        let way = match self.way.take() {
            Some(way) if way.is_connected() => way,
            _ => Way::read(&self.config, &self.over.url, &self.address, &self.agent, &self.state)
                .map_err(Box::new)?,
        };
        match self.way.insert(way) {
            Way::Grpc(gateway) => gateway.connect().await,
            Way::Mqtt(mqtt) => mqtt.connect().await,
        }
    }

    async fn open(&mut self, hello: v1::FromAgent) -> Result<pump::Wires, LinkError> {
        match &mut self.way {
            Some(Way::Grpc(gateway)) => grpc::open(gateway, hello).await,
            Some(Way::Mqtt(mqtt)) => mqtt.open(hello).await,
            None => Err(LinkError::NotOpen),
        }
    }

    async fn ended(&mut self) {
        match &mut self.way {
            Some(Way::Grpc(gateway)) => gateway.channel = None,
            Some(Way::Mqtt(mqtt)) => mqtt.ended().await,
            None => {}
        }
    }

    /// Gives up what is still open.
    pub(crate) async fn leave(&mut self) {
        match &mut self.way {
            Some(Way::Grpc(gateway)) => gateway.channel = None,
            Some(Way::Mqtt(mqtt)) => mqtt.leave().await,
            None => {}
        }
    }

    /// Between two attempts: returns when there is reason to try at once.
    pub(crate) async fn news(&mut self) {
        match &mut self.way {
            Some(Way::Mqtt(mqtt)) => mqtt.online().await,
            Some(Way::Grpc(_)) | None => std::future::pending().await,
        }
    }
}
