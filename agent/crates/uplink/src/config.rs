//! `[uplink]` of the agent's config file, and what a link is opened with.

use std::net::IpAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hours::Hours;
use crate::units::Rate;

pub use crate::error::ConfigError;

/// How batches reach the collector.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UplinkConfig {
    /// Where the collector's gateway listens. `https://` is required unless the host is this machine.
    pub url: String,
    /// File that holds this agent's token, one line, readable by the agent's user only.
    pub token_file: Option<PathBuf>,
    /// File with the PEM certificate of the authority that signed the collector's. Without it the system's authorities are trusted.
    pub ca_file: Option<PathBuf>,
    /// Name in the collector's certificate, where it differs from the host in `url`.
    pub server_name: Option<String>,
    /// Seconds that opening a connection may take.
    pub connect_timeout: u64,
    /// Longest pause between two attempts, in seconds. Pauses grow to it and are drawn at random below it.
    pub max_backoff: u64,
    /// How the bandwidth is divided and limited.
    pub lanes: LanesConfig,
}

/// `[uplink.lanes]`: what just came in (the live lane, younger than ten seconds) and what waited (the backlog lane) travel
/// side by side.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LanesConfig {
    /// The live lane's part of the bandwidth while both lanes have something; what one leaves the other may use.
    pub live_share: u8,
    /// The backlog lane's part.
    pub backlog_share: u8,
    /// Most bytes per second in total, such as `64KiB/s`; 0 is no limit. A second's worth may leave at once.
    pub limit: Rate,
    /// Most bytes per second of the live lane; 0 is no limit.
    pub live_limit: Rate,
    /// Most bytes per second of the backlog lane; 0 is no limit.
    pub backlog_limit: Rate,
    /// Hours in which the backlog may travel: `22:00-06:00` in this host's time zone, `22:00-06:00 UTC`, or with a zone's name
    /// (`22:00-06:00 Europe/Berlin`). Not set: at any hour. The live lane travels always.
    pub backlog_hours: Option<String>,
}

impl Default for LanesConfig {
    fn default() -> Self {
        Self {
            live_share: 70,
            backlog_share: 30,
            limit: Rate(0),
            live_limit: Rate(0),
            backlog_limit: Rate(0),
            backlog_hours: None,
        }
    }
}

impl LanesConfig {
    /// Checks what types can't say.
    ///
    /// # Errors
    /// [`ConfigError`], naming the key and the remedy.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !(1..=99).contains(&self.live_share) || !(1..=99).contains(&self.backlog_share) {
            return Err(ConfigError::Share { live: self.live_share, backlog: self.backlog_share });
        }
        self.hours().map(drop)
    }

    pub(crate) fn hours(&self) -> Result<Option<Hours>, ConfigError> {
        let parse =
            |text: &String| Hours::parse(text).ok_or_else(|| ConfigError::Hours { text: text.clone() });
        self.backlog_hours.as_ref().map(parse).transpose()
    }
}

impl Default for UplinkConfig {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8421".into(),
            token_file: None,
            ca_file: None,
            server_name: None,
            connect_timeout: 10,
            max_backoff: 30,
            lanes: LanesConfig::default(),
        }
    }
}

impl UplinkConfig {
    /// Checks what can be checked without a network.
    ///
    /// # Errors
    /// [`ConfigError`], naming the key and the remedy.
    pub fn check(&self) -> Result<(), ConfigError> {
        let uri: tonic::transport::Uri =
            self.url.parse().map_err(|_| ConfigError::Url { url: self.url.clone() })?;
        let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(ConfigError::Url { url: self.url.clone() });
        };
        match scheme {
            "https" => {}
            "http" if is_loopback(host) => {}
            "http" => return Err(ConfigError::PlainText { url: self.url.clone() }),
            _ => return Err(ConfigError::Url { url: self.url.clone() }),
        }
        if !is_loopback(host) && self.token_file.is_none() {
            return Err(ConfigError::NoToken { url: self.url.clone() });
        }
        if self.connect_timeout == 0 || self.max_backoff == 0 {
            return Err(ConfigError::ZeroDuration);
        }
        self.lanes.check()
    }
}

/// True for names and addresses that never leave this machine.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Who opens the link.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The agent's name.
    pub agent: String,
    /// The software's version.
    pub version: String,
    /// The kernel's boot id.
    pub boot: [u8; 16],
    /// Host name, operating system, architecture.
    pub labels: Vec<(String, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_url(url: &str) -> UplinkConfig {
        UplinkConfig { url: url.into(), ..UplinkConfig::default() }
    }

    #[test]
    fn plain_text_is_refused_off_loopback_and_taken_on_it() {
        assert!(with_url("http://127.0.0.1:8421").check().is_ok());
        assert!(with_url("http://localhost:8421").check().is_ok());
        assert!(with_url("http://[::1]:8421").check().is_ok());
        assert!(matches!(with_url("http://10.0.0.7:8421").check(), Err(ConfigError::PlainText { .. })));
        assert!(matches!(
            with_url("http://127.0.0.1.example.org:1").check(),
            Err(ConfigError::PlainText { .. })
        ));
    }

    #[test]
    fn a_token_is_required_off_loopback() {
        assert!(matches!(with_url("https://collector.example").check(), Err(ConfigError::NoToken { .. })));
        let mut config = with_url("https://collector.example");
        config.token_file = Some("/etc/telemetryx/token".into());
        assert!(config.check().is_ok());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in ["", "collector:8421", "ftp://127.0.0.1", "https://"] {
            assert!(matches!(with_url(url).check(), Err(ConfigError::Url { .. })), "{url}");
        }
    }
}
