//! What can go wrong on the way to the collector. A [`ConfigError`] in the config file itself ends the uplink; every
//! [`LinkError`], a missing file included, ends one session, and the next one is tried after a pause.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::SecretError;

/// A setting that can't work.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not an address.
    #[error(
        "uplink.{key} {url:?} is no address: give http://127.0.0.1:8421 or https://HOST:PORT for a gateway, mqtt://127.0.0.1:1883 or mqtts://HOST:8883 for a broker"
    )]
    Url {
        /// The config key.
        key: &'static str,
        /// As configured.
        url: String,
    },
    /// A user in the address, which is not repeated: messages go to logs, and of a pushed configuration to the collector.
    #[error(
        "uplink.{key} holds a user or a password: write host and port alone; a broker's user is uplink.mqtt_user, with uplink.mqtt_password_file"
    )]
    User {
        /// The config key.
        key: &'static str,
    },
    /// Plain text to another machine.
    #[error(
        "uplink.{key} {url:?} leaves this machine without TLS: use {tls}:// and set uplink.ca_file if the certificate there is your own"
    )]
    PlainText {
        /// The config key.
        key: &'static str,
        /// As configured.
        url: String,
        /// The scheme that has TLS.
        tls: String,
    },
    /// No token to another machine.
    #[error(
        "uplink.{key} {url:?} leaves this machine: enroll the host with `telemetryx-agent enroll`, or set uplink.token_file to a file made by `telemetryx token new`"
    )]
    NoToken {
        /// The config key.
        key: &'static str,
        /// As configured.
        url: String,
    },
    /// A duration of zero.
    #[error(
        "uplink.{key} must lie between 1 second and {most}: longer, an agent would be away for no reason that a setting should give"
    )]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// The longest, with its unit.
        most: &'static str,
    },
    /// A lane without a share.
    #[error(
        "uplink.lanes: live_share = {live} and backlog_share = {backlog} must each lie between 1 and 99: they are percent of the bandwidth"
    )]
    Share {
        /// As configured.
        live: u8,
        /// As configured.
        backlog: u8,
    },
    /// No span of the day.
    #[error(
        "uplink.lanes: backlog_hours = {text:?} is no span of the day: write \"22:00-06:00\" for this host's time zone, \"22:00-06:00 UTC\" or \"22:00-06:00 Europe/Berlin\"; 24:00 can only be the end"
    )]
    Hours {
        /// As configured.
        text: String,
    },
    /// A zone that this host doesn't know.
    #[error(
        "uplink.lanes: backlog_hours = {text:?} names the time zone {zone:?}, which isn't known here: write one as in \"Europe/Berlin\", \"UTC\", or none for this host's"
    )]
    Zone {
        /// As configured.
        text: String,
        /// The zone in it.
        zone: String,
    },
    /// All of the day.
    #[error(
        "uplink.lanes: backlog_hours = {text:?} is the whole day: leave backlog_hours out, then the backlog travels at any time"
    )]
    WholeDay {
        /// As configured.
        text: String,
    },
    /// A file that can't be read.
    #[error("uplink.{key} {path:?} can't be read: {source}")]
    File {
        /// The config key.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file with a secret that isn't used.
    #[error("uplink.{key} {source}")]
    Secret {
        /// The config key.
        key: &'static str,
        /// Why.
        source: SecretError,
    },
    /// A name that no certificate has.
    #[error(
        "uplink.server_name {name:?} is no name that a certificate could have: write the one in the other side's certificate, or leave the key out"
    )]
    ServerName {
        /// As configured.
        name: String,
    },
    /// Both ways are one.
    #[error("uplink.fallback_url is uplink.url: give another way, or leave it out")]
    SameWay,
    /// No topic prefix.
    #[error(
        "uplink.mqtt_prefix {prefix:?} is no topic: use letters, digits, - _ . and single slashes between them, at most 256"
    )]
    Prefix {
        /// As configured.
        prefix: String,
    },
    /// Keys that need each other.
    #[error("uplink.{one} needs uplink.{other}: set both, or neither")]
    Together {
        /// The one that is set.
        one: &'static str,
        /// The one that isn't.
        other: &'static str,
    },
    /// A PEM file that can't be read.
    #[error("uplink.{key} {path:?} can't be read as PEM: {reason}")]
    Pem {
        /// The config key.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It joined, and nobody has approved it yet.
    #[error(
        "this host waits until somebody approves it: on the collector, `telemetryx agents approve {agent}`"
    )]
    Waits {
        /// Its name.
        agent: String,
    },
    /// What the host's enrolment left can't be used.
    #[error("{0}")]
    Enrolment(String),
    /// Nothing to trust.
    #[error(
        "no certificate authority to trust: set uplink.ca_file, or install the system's (ca-certificates)"
    )]
    NoRoots,
    /// TLS towards a broker can't be set up.
    #[error("uplink: TLS can't be set up: {0}; check ca_file, client_cert_file and client_key_file")]
    Tls(String),
    /// A certificate that can't be used.
    #[error("uplink.ca_file can't be used: {0}")]
    Certificate(#[source] tonic::transport::Error),
}

impl ConfigError {
    /// Whether it is about `[uplink.lanes]`.
    pub fn is_of_lanes(&self) -> bool {
        matches!(self, Self::Share { .. } | Self::Hours { .. } | Self::Zone { .. } | Self::WholeDay { .. })
    }
}

/// Reasons of a SlowDown that ends the session: the collector knows nothing of it any more, or missed a part of it.
pub const GOODBYES: [&str; 2] = ["out of step", "unknown session"];

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A file that the section names can't be used now: it may be once somebody has put it there.
    #[error("{0}")]
    Settings(#[from] Box<ConfigError>),
    /// No connection.
    #[error("can't reach the collector: {0}")]
    Connect(String),
    /// Its certificate is not to be trusted.
    #[error("can't trust the collector: {0}")]
    Untrusted(String),
    /// It doesn't accept this agent's certificate, or wants one.
    #[error("the collector refuses this agent: {0}")]
    Certificate(String),
    /// The collector, or something between, ended the stream.
    #[error("the collector ended the session: {} ({})", .0.message(), .0.code())]
    Status(#[from] Box<tonic::Status>),
    /// The stream ended without a word.
    #[error("the collector closed the session")]
    Closed,
    /// It sent something else first, or nothing.
    #[error("the collector did not greet within {0:?}")]
    NoGreeting(Duration),
    /// It speaks another version.
    #[error("the collector speaks wire version {theirs}, this agent {ours}: update the older one")]
    Version {
        /// Ours.
        ours: u32,
        /// Theirs.
        theirs: u32,
    },
    /// Batches wait for an ack that does not come.
    #[error("no ack for {0:?} while batches wait for one")]
    Stalled(Duration),
    /// The collector's end of the link says nothing, though it answers each status.
    #[error("nothing came from the collector for {0:?}")]
    Silent(Duration),
    /// The collector asks to come back later.
    #[error("{}", asked(*.after, .reason))]
    Later {
        /// When.
        after: Duration,
        /// Its words.
        reason: String,
    },
    /// The broker, or the way to it.
    #[error("the broker: {0}")]
    Broker(String),
    /// The broker doesn't let us hear.
    #[error("the broker refused to let this agent read {topic}: allow it in the broker's access list")]
    Subscription {
        /// The topic.
        topic: String,
    },
    /// The broker is there, the collector isn't.
    #[error(
        "no collector greeted within {after:?} over {url}: is it running with [gateway.mqtt] on this broker and prefix, do both hold the token, and may this agent write to the broker?"
    )]
    NoGreetingOverBroker {
        /// The broker.
        url: String,
        /// So long was waited.
        after: Duration,
    },
    /// An envelope of the collector's is missing.
    #[error("the broker lost something: envelope {found} came where {expected} was due")]
    OutOfStep {
        /// The counter that was due.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// It says so on its topic.
    #[error("the collector was started anew")]
    Restarted,
    /// It, or the broker for it, says so.
    #[error("the collector left the broker")]
    Offline,
    /// The system gives no randomness.
    #[error("no random bytes for a session: {0}")]
    Random(String),
    /// The session was used before it was opened or after its end.
    #[error("there is no session")]
    NotOpen,
    /// The spool refused what the collector said, or can't be read.
    #[error("spool: {0}")]
    Spool(String),
}

/// Its words, and when to come back, where it names a time.
fn asked(after: Duration, reason: &str) -> String {
    match after {
        Duration::ZERO => format!("the collector ended the session: {reason}"),
        _ => format!("the collector asks to come back in {after:?}: {reason}"),
    }
}

impl LinkError {
    /// The session was cut short: something got lost on the way, or the connection did.
    pub(crate) fn breaks_off(&self) -> bool {
        match self {
            Self::Later { reason, .. } => GOODBYES.contains(&reason.as_str()),
            Self::Broker(_) | Self::OutOfStep { .. } => true,
            _ => false,
        }
    }

    /// When the collector asks to come back; `None` when it doesn't say.
    pub fn come_back(&self) -> Option<Duration> {
        match self {
            Self::Status(status) => crate::retry_info::after(status),
            Self::Later { after, .. } => Some(*after),
            _ => None,
        }
    }
}
