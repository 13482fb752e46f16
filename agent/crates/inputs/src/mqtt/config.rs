//! `[input.mqtt]`: the keys of the MQTT port, their defaults and what makes them refused.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::acl::Patterns;
use super::auth;
use super::topic;
use crate::mapping::MappingConfig;

/// The MQTT port of this agent: sensors publish to it, other programs subscribe.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MqttConfig {
    /// Address and port for plain MQTT. "" opens none (then `tls_listen` must be set).
    #[serde(with = "maybe_address")]
    #[schemars(with = "String")]
    pub listen: Option<SocketAddr>,
    /// Allow the plain port off loopback. Passwords and readings then cross the network readable.
    pub plaintext: bool,
    /// Address and port for MQTT over TLS, for example "0.0.0.0:8883". "" opens none.
    #[serde(with = "maybe_address")]
    #[schemars(with = "String")]
    pub tls_listen: Option<SocketAddr>,
    /// PEM file with the server's certificate and its chain, for `tls_listen`.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the certificate's private key, for `tls_listen`.
    pub key_file: Option<PathBuf>,
    /// Let clients on this host in without a name and password. Never applies off loopback. Without
    /// this key: true while no `user` is configured.
    pub anonymous: Option<bool>,
    /// Topic filters that a client without a name may publish to; `%c` is the client id.
    pub anonymous_write: Vec<String>,
    /// Topic filters that a client without a name may receive; `%c` is the client id.
    pub anonymous_read: Vec<String>,
    /// Who may connect with a password, and what they may read and write.
    #[serde(rename = "user")]
    pub users: Vec<UserConfig>,
    /// Topic filters that are not taken in as readings; local pub/sub serves them all the same.
    pub exclude: Vec<String>,
    /// Most connections at a time.
    pub max_clients: usize,
    /// Most connections that have not sent their CONNECT yet; more are closed at once.
    pub max_unauthenticated: usize,
    /// Seconds that a new connection has for its CONNECT.
    pub connect_timeout_secs: u64,
    /// Longest keep-alive in seconds: an MQTT 5 client that asks for more, or for none, is told to keep to this one, so
    /// that a dead connection is noticed. 0 takes what clients ask for. MQTT 3.1.1 has no way to tell a client.
    pub max_keep_alive_secs: u16,
    /// Largest packet in bytes.
    pub max_packet_bytes: usize,
    /// Most publishes of one connection that wait for the disk, and most unacknowledged messages
    /// towards one subscriber.
    pub max_inflight: u16,
    /// Most topic filters of one client.
    pub max_filters_per_client: usize,
    /// Most topic filters of all clients together.
    pub max_filters: usize,
    /// Most retained topics.
    pub max_retained: usize,
    /// Most sessions that are kept for clients that are away.
    pub max_sessions: usize,
    /// Longest time in seconds that a session is kept for a client that is away.
    pub max_session_expiry_secs: u32,
    /// Most messages that wait for one client; the oldest go first.
    pub max_queued_messages: usize,
    /// Most bytes that wait for one client.
    pub max_queued_bytes: usize,
    /// Most bytes that queues and retained values may hold together.
    pub max_memory_bytes: usize,
    /// How topics and payloads become readings.
    pub mapping: MappingConfig,
}

impl Default for MqttConfig {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 1883))),
            plaintext: false,
            tls_listen: None,
            cert_file: None,
            key_file: None,
            anonymous: None,
            anonymous_write: vec!["#".into()],
            anonymous_read: vec!["#".into()],
            users: Vec::new(),
            exclude: Vec::new(),
            max_clients: 1_000,
            max_unauthenticated: 200,
            connect_timeout_secs: 10,
            max_keep_alive_secs: 0,
            max_packet_bytes: 256 << 10,
            max_inflight: 256,
            max_filters_per_client: 200,
            max_filters: 20_000,
            max_retained: 20_000,
            max_sessions: 1_000,
            max_session_expiry_secs: 7 * 24 * 3600,
            max_queued_messages: 10_000,
            max_queued_bytes: 4 << 20,
            max_memory_bytes: 32 << 20,
            mapping: MappingConfig::default(),
        }
    }
}

/// One user of the MQTT port.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// The name the client gives.
    pub name: String,
    /// What `telemetryx-agent hash-password` printed.
    pub password_hash: String,
    /// Topic filters this user may publish to; `%u` is the user's name, `%c` the client id.
    #[serde(default)]
    pub write: Vec<String>,
    /// Topic filters this user may receive; `%u` and `%c` as above.
    #[serde(default)]
    pub read: Vec<String>,
}

/// A section that can't work, with the key to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl MqttConfig {
    /// True when a client on this host needs no password.
    pub fn allows_anonymous(&self) -> bool {
        self.anonymous.unwrap_or(self.users.is_empty())
    }

    /// How long CONNECT may take.
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.connect_timeout_secs)
    }

    /// Checks what types can't say.
    ///
    /// # Errors
    /// A sentence that names the key and the remedy.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fail = |text: String| Err(ConfigError(text));
        if self.listen.is_none() && self.tls_listen.is_none() {
            return fail(
                "listen and tls_listen are both empty: set one of them, or remove the section".into(),
            );
        }
        if let Some(listen) = self.listen.filter(|listen| !listen.ip().is_loopback()) {
            if self.users.is_empty() {
                return fail(format!(
                    "listen = \"{listen}\" is reachable from other hosts and there is no user: add a [[input.mqtt.user]] (telemetryx-agent hash-password makes its password_hash), or listen on 127.0.0.1"
                ));
            }
            if !self.plaintext {
                return fail(format!(
                    "listen = \"{listen}\" is reachable from other hosts without TLS: use tls_listen with cert_file and key_file, or set plaintext = true if this network is trusted"
                ));
            }
        }
        if let Some(listen) = self.tls_listen {
            if self.cert_file.is_none() || self.key_file.is_none() {
                return fail("tls_listen needs cert_file and key_file: set both to PEM files".into());
            }
            if !listen.ip().is_loopback() && self.users.is_empty() {
                return fail(format!(
                    "tls_listen = \"{listen}\" is reachable from other hosts and there is no user: add a [[input.mqtt.user]]"
                ));
            }
        }
        for (at, user) in self.users.iter().enumerate() {
            if user.name.is_empty() || self.users[..at].iter().any(|other| other.name == user.name) {
                return fail(format!(
                    "user {:?} is named twice or has no name: give each user a name of its own",
                    user.name
                ));
            }
            if let Err(why) = auth::check_hash(&user.password_hash) {
                return fail(format!(
                    "user {:?}: password_hash {why}: make one with telemetryx-agent hash-password",
                    user.name
                ));
            }
            for pattern in user.read.iter().chain(&user.write) {
                if let Err(why) = Patterns::check(pattern) {
                    return fail(format!(
                        "user {:?}: the pattern {pattern:?} is no topic filter: {why}",
                        user.name
                    ));
                }
            }
        }
        for (key, patterns) in
            [("anonymous_write", &self.anonymous_write), ("anonymous_read", &self.anonymous_read)]
        {
            for pattern in patterns {
                if let Err(why) = Patterns::check(pattern) {
                    return fail(format!("{key}: {pattern:?} is no topic filter: {why}"));
                }
                if pattern.contains("%u") {
                    return fail(format!("{key}: {pattern:?} has %u in it, and these clients have no name"));
                }
            }
        }
        for filter in &self.exclude {
            if let Err(why) = topic::check_filter(filter) {
                return fail(format!("exclude: {filter:?} is no topic filter: {why}"));
            }
        }
        let ranges: [(&str, usize, usize, usize); 6] = [
            ("max_clients", self.max_clients, 1, 1_000_000),
            ("max_unauthenticated", self.max_unauthenticated, 1, 1_000_000),
            ("max_packet_bytes", self.max_packet_bytes, 128, 268_435_455),
            ("max_inflight", self.max_inflight.into(), 1, 16_384),
            ("max_queued_messages", self.max_queued_messages, 1, 60_000),
            ("connect_timeout_secs", self.connect_timeout_secs as usize, 1, 600),
        ];
        for (key, value, low, high) in ranges {
            if value < low || value > high {
                return fail(format!("{key} = {value} is out of range: set it between {low} and {high}"));
            }
        }
        Ok(())
    }
}

/// An address, or "" for none.
mod maybe_address {
    use std::net::SocketAddr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &Option<SocketAddr>, out: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(address) => out.collect_str(address),
            None => out.serialize_str(""),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
        let text = String::deserialize(from)?;
        if text.is_empty() {
            return Ok(None);
        }
        let parsed = text.parse();
        parsed.map(Some).map_err(|_| {
            D::Error::custom(format!("{text:?} is no address: write host and port as \"127.0.0.1:1883\""))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public() -> MqttConfig {
        MqttConfig { listen: Some(SocketAddr::from(([0, 0, 0, 0], 1883))), ..MqttConfig::default() }
    }

    fn user() -> UserConfig {
        UserConfig {
            name: "pump".into(),
            password_hash: auth::hash_password("secret").unwrap(),
            write: vec!["plant/%u/#".into()],
            read: vec![],
        }
    }

    #[test]
    fn the_default_is_fine_on_loopback() {
        assert_eq!(MqttConfig::default().check(), Ok(()));
        assert!(MqttConfig::default().allows_anonymous());
    }

    #[test]
    fn off_loopback_a_user_and_tls_are_demanded_by_name() {
        assert!(public().check().unwrap_err().0.contains("[[input.mqtt.user]]"));
        let with_user = MqttConfig { users: vec![user()], ..public() };
        assert!(with_user.check().unwrap_err().0.contains("tls_listen"));
        assert_eq!(MqttConfig { plaintext: true, ..with_user }.check(), Ok(()));
        let tls =
            MqttConfig { tls_listen: Some(SocketAddr::from(([0, 0, 0, 0], 8883))), ..MqttConfig::default() };
        assert!(tls.check().unwrap_err().0.contains("cert_file"));
    }

    #[test]
    fn a_bad_hash_or_pattern_names_the_user() {
        let mut bad = user();
        bad.password_hash = "secret".into();
        let config = MqttConfig { users: vec![bad], ..MqttConfig::default() };
        assert!(config.check().unwrap_err().0.contains("\"pump\""));
        let mut bad = user();
        bad.read = vec!["a#".into()];
        let config = MqttConfig { users: vec![bad], ..MqttConfig::default() };
        assert!(config.check().unwrap_err().0.contains("\"a#\""));
    }
}
