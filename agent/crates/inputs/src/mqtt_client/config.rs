//! `[[input.mqtt_client]]`: the keys of one subscription at a broker that is there already.

use std::path::PathBuf;

use schemars::JsonSchema;
use seglog::regular::{self, LONGEST};
use serde::{Deserialize, Serialize};

use super::MqttClientError;
use crate::mapping::{Mapper, MappingConfig};
use crate::mqtt::{ConfigError, topic};

/// A broker of the site (mosquitto, Home Assistant's, ChirpStack's) whose messages are taken in. Each
/// is acknowledged to the broker only when the agent's journal has it on disk.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MqttClientConfig {
    /// The broker: `mqtt://host:1883`, or `mqtts://host:8883` for TLS.
    pub url: String,
    /// Topic filters to subscribe to.
    pub topics: Vec<String>,
    /// Quality of service to subscribe with: 1 loses nothing that the broker holds; 0 is the broker's
    /// best effort; 2 as 1, with a handshake more.
    pub qos: u8,
    /// The client id, under which the broker keeps messages while the agent is away: it must stay
    /// the same and be used by nobody else. "": made from this host's name and the input's.
    pub client_id: String,
    /// User name at the broker; "" for none.
    pub username: String,
    /// File with the password, in its first line.
    pub password_file: Option<PathBuf>,
    /// PEM file with the certificate authorities to trust for `mqtts://`; without it the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file with a certificate to show the broker.
    pub cert_file: Option<PathBuf>,
    /// PEM file with that certificate's key.
    pub key_file: Option<PathBuf>,
    /// Seconds of silence after which the connection is probed.
    pub keep_alive_secs: u16,
    /// Largest packet in bytes; a larger one ends the connection.
    pub max_packet_bytes: usize,
    /// Seconds without any message after which a warning is logged; 0 for never.
    pub silent_after_secs: u64,
    /// How topics and payloads become readings.
    pub mapping: MappingConfig,
}

impl Default for MqttClientConfig {
    fn default() -> Self {
        Self {
            url: "mqtt://127.0.0.1:1883".into(),
            topics: vec!["#".into()],
            qos: 1,
            client_id: String::new(),
            username: String::new(),
            password_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            keep_alive_secs: 30,
            max_packet_bytes: 256 << 10,
            silent_after_secs: 300,
            mapping: MappingConfig::default(),
        }
    }
}

/// A broker's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// With TLS.
    pub tls: bool,
}

impl MqttClientConfig {
    /// Takes `url` apart.
    ///
    /// # Errors
    /// A sentence that names the key and the remedy.
    pub fn address(&self) -> Result<Address, ConfigError> {
        if self.url.contains('@') {
            // It isn't repeated: messages go to logs, and of a pushed configuration to the collector.
            return Err(ConfigError(
                "url holds a user or a password: write host and port alone, and set username and password_file".into(),
            ));
        }
        let bad = || {
            ConfigError(format!(
                "url = {:?} is no broker address: write mqtt://host:1883, or mqtts://host:8883 for TLS",
                self.url
            ))
        };
        let (tls, rest) = match self.url.split_once("://") {
            Some(("mqtt" | "tcp", rest)) => (false, rest),
            Some(("mqtts" | "ssl", rest)) => (true, rest),
            _ => return Err(bad()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let default = if tls { 8883 } else { 1883 };
        let (host, port) = match rest.rsplit_once(':') {
            // `[::1]` has colons of its own.
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| bad())?),
            _ => (rest, default),
        };
        if host.is_empty() || host.contains('/') {
            return Err(bad());
        }
        Ok(Address { host: host.to_owned(), port, tls })
    }

    /// Reads the files that the section names, as each connection does.
    ///
    /// # Errors
    /// Naming the file and the remedy.
    pub fn files(&self) -> Result<(), MqttClientError> {
        self.password()?;
        if self.address().is_ok_and(|address| address.tls) {
            super::tls::client(self)?;
        }
        Ok(())
    }

    /// The password: the first line of its file, where there is one.
    pub(super) fn password(&self) -> Result<Option<String>, MqttClientError> {
        let read = |path: &PathBuf| {
            regular::read_given_text(path, LONGEST)
                .map(|text| text.lines().next().unwrap_or_default().to_owned())
                .map_err(|error| MqttClientError::Password { path: path.clone(), error })
        };
        self.password_file.as_ref().map(read).transpose()
    }

    /// Checks what types can't say.
    ///
    /// # Errors
    /// A sentence that names the key and the remedy.
    pub fn check(&self) -> Result<(), ConfigError> {
        let address = self.address()?;
        let fail = |text: String| Err(ConfigError(text));
        if self.topics.is_empty() {
            return fail("topics is empty: name at least one topic filter, such as \"#\"".into());
        }
        for filter in &self.topics {
            if let Err(why) = topic::Filter::parse(filter) {
                return fail(format!("topics: {filter:?} is no topic filter: {why}"));
            }
        }
        if self.qos > 2 {
            return fail(format!("qos = {}: set 0, 1 or 2", self.qos));
        }
        if self.password_file.is_some() && self.username.is_empty() {
            return fail("password_file needs username: set both".into());
        }
        if !address.tls && (self.ca_file.is_some() || self.cert_file.is_some()) {
            return fail("ca_file and cert_file are for TLS: write url = \"mqtts://…\"".into());
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            return fail("cert_file and key_file belong together: set both or none".into());
        }
        if self.keep_alive_secs == 0 {
            return fail("keep_alive_secs = 0 would leave a dead connection unnoticed: set 5 or more".into());
        }
        Mapper::new(&self.mapping).map_err(|error| ConfigError(error.to_string()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(url: &str) -> Result<Address, ConfigError> {
        MqttClientConfig { url: url.into(), ..MqttClientConfig::default() }.address()
    }

    #[test]
    fn a_url_gives_host_port_and_tls() {
        let address = |host: &str, port, tls| Ok(Address { host: host.into(), port, tls });
        assert_eq!(url("mqtt://broker"), address("broker", 1883, false));
        assert_eq!(url("mqtts://broker/"), address("broker", 8883, true));
        assert_eq!(url("mqtt://10.0.0.1:1884"), address("10.0.0.1", 1884, false));
        assert_eq!(url("mqtt://[::1]:99"), address("[::1]", 99, false));
        for bad in ["broker:1883", "http://x", "mqtt://", "mqtt://h:x"] {
            assert!(url(bad).unwrap_err().0.contains("mqtt://host:1883"), "{bad}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        for held in ["mqtt://u:secret@h:1", "u:secret@h", "mqtts://u:secret@h/x"] {
            let refused = url(held).unwrap_err();
            assert!(refused.0.contains("password_file"), "{}", refused.0);
            assert!(!refused.0.contains("secret"), "{}", refused.0);
        }
    }

    #[test]
    fn what_cannot_work_names_its_key() {
        let base = MqttClientConfig::default;
        assert!(base().check().is_ok());
        for (config, key) in [
            (MqttClientConfig { topics: vec![], ..base() }, "topics"),
            (MqttClientConfig { topics: vec!["a#".into()], ..base() }, "a#"),
            (MqttClientConfig { qos: 3, ..base() }, "qos"),
            (MqttClientConfig { ca_file: Some("x".into()), ..base() }, "mqtts"),
            (MqttClientConfig { password_file: Some("x".into()), ..base() }, "username"),
        ] {
            assert!(config.check().unwrap_err().0.contains(key), "{key}");
        }
    }
}
