//! `[uplink]` of the agent's config file, and what a link is opened with.

use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::ServerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::address::{Address, Carrier};
use crate::enrolment::{Broken, Enrolled};
use crate::hours::Hours;
use crate::units::{Pause, Rate};

pub use crate::error::ConfigError;

const HOUR: Duration = Duration::from_secs(3600);

/// How batches reach the collector.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UplinkConfig {
    /// Where the collector is met: its gateway at `http(s)://HOST:PORT` (gRPC), or a site's broker at `mqtt(s)://HOST:PORT`.
    /// TLS is required unless the host is this machine.
    pub url: String,
    /// Another way, for when `url` fails three times in a row or for a minute: then the two take turns.
    pub fallback_url: Option<String>,
    /// How often `url` is tried while the fallback is in use; once it answers, the agent returns to it.
    pub fallback_return: Pause,
    /// File that holds this agent's token, one line, readable by the agent's user only. Over a broker every frame is signed with it.
    /// A host that was enrolled (`telemetryx-agent enroll`) needs none: it shows its certificate, and over a broker signs with its key.
    pub token_file: Option<PathBuf>,
    /// File with the PEM certificates of the authorities that may have signed the collector's, or the broker's: these are trusted and no others. Without it an enrolled host trusts its collector's, and others the system's (in Debian the package ca-certificates; `SSL_CERT_FILE` names another bundle).
    pub ca_file: Option<PathBuf>,
    /// Name in the collector's certificate, where it differs from the host in `url`.
    pub server_name: Option<String>,
    /// Seconds that opening a connection may take, 3600 at most.
    pub connect_timeout: u64,
    /// Longest pause between two attempts, in seconds, 86400 at most. Pauses grow to it and are drawn at random below it.
    pub max_backoff: u64,
    /// First part of the topics on a broker; the same as the collector's.
    pub mqtt_prefix: String,
    /// User name at the broker. Not set: none.
    pub mqtt_user: Option<String>,
    /// File with the password at the broker, one line, readable by the agent's user only.
    pub mqtt_password_file: Option<PathBuf>,
    /// PEM file with a certificate to show the collector or the broker. Not set: over gRPC the one of the enrolment.
    pub client_cert_file: Option<PathBuf>,
    /// PEM file with that certificate's key.
    pub client_key_file: Option<PathBuf>,
    /// How the bandwidth is divided and limited.
    pub lanes: LanesConfig,
    /// What came of the host's enrolment; of no file.
    #[serde(skip)]
    pub enrolled: Option<Enrolled>,
    /// Why that can't be used, where it is damaged: then there is no link until it is mended; of no file.
    #[serde(skip)]
    pub broken: Option<Broken>,
}

/// `[uplink.lanes]`: what just came in (the live lane, younger than ten seconds) and what waited (the backlog lane) travel
/// side by side.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LanesConfig {
    /// The live lane's part of the bandwidth, 1 to 99, while both lanes have something; what one leaves the other may use.
    pub live_share: u8,
    /// The backlog lane's part, 1 to 99.
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
        self.problems().into_iter().next().map_or(Ok(()), Err)
    }

    /// All that can't work.
    fn problems(&self) -> Vec<ConfigError> {
        let mut found = Vec::new();
        if !(1..=99).contains(&self.live_share) || !(1..=99).contains(&self.backlog_share) {
            found.push(ConfigError::Share { live: self.live_share, backlog: self.backlog_share });
        }
        found.extend(self.hours().err());
        found
    }

    /// What it allows and nobody can want, each with the remedy.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let limit = self.limit;
        let lanes = [("live_limit", self.live_limit), ("backlog_limit", self.backlog_limit)];
        let above = lanes.into_iter().filter(move |(_, lane)| limit.0 > 0 && lane.0 > limit.0);
        above.map(move |(key, lane)| {
            format!(
                "uplink.lanes: {key} = {lane} is above limit = {limit}, which both lanes have together: it never counts; lower it, or leave it out"
            )
        })
    }

    pub(crate) fn hours(&self) -> Result<Option<Hours>, ConfigError> {
        let parse = |text: &String| {
            let refused = |text: &String| match (Hours::is_whole_day(text), Hours::unknown_zone(text)) {
                (true, _) => ConfigError::WholeDay { text: text.clone() },
                (_, Some(zone)) => ConfigError::Zone { text: text.clone(), zone: zone.to_owned() },
                _ => ConfigError::Hours { text: text.clone() },
            };
            Hours::parse(text).ok_or_else(|| refused(text))
        };
        self.backlog_hours.as_ref().map(parse).transpose()
    }
}

impl Default for UplinkConfig {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8421".into(),
            fallback_url: None,
            fallback_return: Pause(Duration::from_secs(300)),
            token_file: None,
            ca_file: None,
            server_name: None,
            connect_timeout: 10,
            max_backoff: 30,
            mqtt_prefix: "telemetryx".into(),
            mqtt_user: None,
            mqtt_password_file: None,
            client_cert_file: None,
            client_key_file: None,
            lanes: LanesConfig::default(),
            enrolled: None,
            broken: None,
        }
    }
}

impl UplinkConfig {
    /// The enrolment, where it counts: over gRPC, and where no other certificate is named.
    pub(crate) fn enrolled(&self, carrier: Carrier) -> Option<&Enrolled> {
        self.enrolled.as_ref().filter(|_| carrier == Carrier::Grpc && self.client_cert_file.is_none())
    }

    /// Certificate and key to show: the config keys, and the files.
    pub(crate) fn certificate(&self, carrier: Carrier) -> Option<(PathBuf, PathBuf)> {
        let enrolled = self.enrolled(carrier).map(|it| (it.folder.cert_file(), it.folder.key_file()));
        self.client_cert_file.clone().zip(self.client_key_file.clone()).or(enrolled)
    }

    /// The file of the authorities to trust; `None`: the system's.
    pub(crate) fn authorities(&self, carrier: Carrier) -> Option<PathBuf> {
        let own = |it: &Enrolled| (!it.joined.server_name.is_empty()).then(|| it.folder.ca_file());
        self.ca_file.clone().or_else(|| self.enrolled(carrier).and_then(own))
    }

    /// The name that counts in the other side's certificate; `None`: the host's in the address.
    pub(crate) fn name(&self, carrier: Carrier) -> Option<&str> {
        let own = |it: &'_ Enrolled| !it.joined.server_name.is_empty() && self.ca_file.is_none();
        let enrolled = self.enrolled(carrier).filter(|it| own(it)).map(|it| it.joined.server_name.as_str());
        self.server_name.as_deref().or(enrolled)
    }

    /// Checks what can be checked without a network.
    ///
    /// # Errors
    /// [`ConfigError`], naming the key and the remedy.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.problems().into_iter().next().map_or(Ok(()), Err)
    }

    /// All that can't work.
    pub fn problems(&self) -> Vec<ConfigError> {
        let mut found = Vec::new();
        let fallback = self.fallback_url.as_ref().map(|url| ("fallback_url", url));
        let mut tls = false;
        for (key, url) in [("url", &self.url)].into_iter().chain(fallback) {
            let address = match Address::parse(key, url) {
                Ok(address) => address,
                Err(error) => {
                    found.push(error);
                    continue;
                }
            };
            tls |= address.tls;
            let known = match address.carrier {
                Carrier::Grpc => self.certificate(address.carrier).is_some(),
                Carrier::Mqtt => self.enrolled.is_some(),
            };
            // A host whose enrolment is damaged has joined: what it lacks is told as damage.
            if !address.loopback && self.token_file.is_none() && !known && self.broken.is_none() {
                found.push(ConfigError::NoToken { key, url: url.clone() });
            }
        }
        if found.is_empty() && self.fallback_url.as_ref() == Some(&self.url) {
            found.push(ConfigError::SameWay);
        }
        // Without TLS no certificate is looked at, and the name says nothing.
        if let Some(name) =
            self.server_name.as_ref().filter(|name| tls && ServerName::try_from(name.as_str()).is_err())
        {
            found.push(ConfigError::ServerName { name: name.clone() });
        }
        let level = |level: &str| {
            !level.is_empty()
                && level.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        if self.mqtt_prefix.len() > 256 || !self.mqtt_prefix.split('/').all(level) {
            found.push(ConfigError::Prefix { prefix: self.mqtt_prefix.clone() });
        }
        let (user, password) = (self.mqtt_user.is_some(), self.mqtt_password_file.is_some());
        let (cert, key) = (self.client_cert_file.is_some(), self.client_key_file.is_some());
        for (one, set, other, too) in [
            ("mqtt_password_file", password, "mqtt_user", user),
            ("client_cert_file", cert, "client_key_file", key),
            ("client_key_file", key, "client_cert_file", cert),
        ] {
            if set && !too {
                found.push(ConfigError::Together { one, other });
            }
        }
        let seconds = Duration::from_secs;
        for (key, value, most, said) in [
            ("connect_timeout", seconds(self.connect_timeout), HOUR, "an hour"),
            ("max_backoff", seconds(self.max_backoff), 24 * HOUR, "a day"),
            ("fallback_return", self.fallback_return.0, 365 * 24 * HOUR, "a year"),
        ] {
            if !(seconds(1)..=most).contains(&value) {
                found.push(ConfigError::OutOfRange { key, most: said });
            }
        }
        found.extend(self.lanes.problems());
        found
    }

    /// What works and isn't what it seems, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let fallback = self.fallback_url.as_ref().map(|url| ("fallback_url", url));
        let ways = [("url", &self.url)].into_iter().chain(fallback);
        ways.filter_map(|(key, url)| {
            let address = Address::parse(key, url).ok()?;
            let behind = Address::behind(url)?;
            let remedy = match address.carrier {
                Carrier::Grpc => {
                    "a gateway has a host and a port of its own, and none behind a path of another server"
                }
                Carrier::Mqtt => "the topics' prefix is uplink.mqtt_prefix",
            };
            Some(format!("uplink.{key}: {behind:?} is passed over: {remedy}; leave it out"))
        })
        .collect()
    }
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
    fn a_token_is_required_off_loopback_whatever_carries_the_frames() {
        for url in ["https://collector.example", "mqtts://broker.site:8883"] {
            assert!(matches!(with_url(url).check(), Err(ConfigError::NoToken { key: "url", .. })), "{url}");
            let config = UplinkConfig { token_file: Some("/etc/telemetryx/token".into()), ..with_url(url) };
            assert!(config.check().is_ok(), "{url}");
        }
        let fallback = Some("mqtts://broker.site:8883".to_owned());
        let config = UplinkConfig { fallback_url: fallback, ..UplinkConfig::default() };
        assert!(matches!(config.check(), Err(ConfigError::NoToken { key: "fallback_url", .. })));
    }

    #[test]
    fn a_path_in_an_address_is_told_with_what_was_meant() {
        let told = |url: &str, fallback: &str| {
            let fallback_url = Some(fallback.to_owned());
            UplinkConfig { fallback_url, ..with_url(url) }.warnings()
        };
        assert_eq!(told("https://collector:8421/", "mqtts://broker"), Vec::<String>::new());
        let said = told("https://collector/telemetryx", "mqtts://broker/site/a");
        assert!(said[0].starts_with("uplink.url: \"/telemetryx\" is passed over"), "{said:?}");
        assert!(
            said[1].contains("uplink.fallback_url") && said[1].contains("uplink.mqtt_prefix"),
            "{said:?}"
        );
    }

    #[test]
    fn what_cannot_work_names_its_key() {
        let base = UplinkConfig::default;
        let same = UplinkConfig { fallback_url: Some(base().url), ..base() };
        assert!(matches!(same.check(), Err(ConfigError::SameWay)));
        for prefix in ["", "a//b", "/a", "a/+", "a b", "#", &"a".repeat(257)] {
            let config = UplinkConfig { mqtt_prefix: prefix.into(), ..base() };
            assert!(matches!(config.check(), Err(ConfigError::Prefix { .. })), "{prefix}");
        }
        for name in ["", "a b", "https://collector"] {
            let server_name = Some(name.to_owned());
            let config = UplinkConfig { server_name, ..with_url("https://127.0.0.1:8421") };
            assert!(matches!(config.check(), Err(ConfigError::ServerName { .. })), "{name}");
            UplinkConfig { url: base().url, ..config }.check().unwrap();
        }
        for name in ["collector.example", "10.0.0.7", "fd00::1"] {
            let server_name = Some(name.to_owned());
            UplinkConfig { server_name, ..with_url("https://127.0.0.1:8421") }.check().unwrap();
        }
        let alone = UplinkConfig { mqtt_password_file: Some("x".into()), ..base() };
        assert!(matches!(alone.check(), Err(ConfigError::Together { one: "mqtt_password_file", .. })));
        let alone = UplinkConfig { client_key_file: Some("x".into()), ..base() };
        assert!(matches!(alone.check(), Err(ConfigError::Together { one: "client_key_file", .. })));
        for (key, config) in [
            ("connect_timeout", UplinkConfig { connect_timeout: 0, ..base() }),
            ("connect_timeout", UplinkConfig { connect_timeout: u64::MAX, ..base() }),
            ("max_backoff", UplinkConfig { max_backoff: u64::MAX, ..base() }),
            ("fallback_return", UplinkConfig { fallback_return: Pause(Duration::MAX), ..base() }),
        ] {
            assert!(
                matches!(config.check(), Err(ConfigError::OutOfRange { key: named, .. }) if named == key)
            );
        }
        let shares = LanesConfig { live_share: 100, ..LanesConfig::default() };
        assert!(matches!(UplinkConfig { lanes: shares, ..base() }.check(), Err(ConfigError::Share { .. })));
        let hours = LanesConfig { backlog_hours: Some("at night".into()), ..LanesConfig::default() };
        assert!(matches!(UplinkConfig { lanes: hours, ..base() }.check(), Err(ConfigError::Hours { .. })));
        for (text, whole) in
            [("24:00-06:00", false), ("00:00-24:00", true), ("24:00-24:00 UTC", true), ("06:00-06:00", true)]
        {
            let hours = LanesConfig { backlog_hours: Some(text.into()), ..LanesConfig::default() };
            let error = UplinkConfig { lanes: hours, ..base() }.check().unwrap_err();
            let said = error.to_string();
            assert_eq!(said.contains("leave backlog_hours out"), whole, "{said}");
            assert_eq!(said.contains("24:00 can only be the end"), !whole, "{said}");
        }
        let hours = LanesConfig {
            backlog_hours: Some("22:00-06:00 Europe/Nowhere".into()),
            ..LanesConfig::default()
        };
        let said = UplinkConfig { lanes: hours, ..base() }.check().unwrap_err().to_string();
        assert!(said.contains("names the time zone \"Europe/Nowhere\""), "{said}");
    }

    #[test]
    fn a_lanes_limit_that_the_limit_of_both_keeps_from_counting_is_warned_of() {
        let warned = |limit, live, backlog| {
            let [limit, live_limit, backlog_limit] = [limit, live, backlog].map(Rate);
            LanesConfig { limit, live_limit, backlog_limit, ..LanesConfig::default() }.warnings().count()
        };
        assert_eq!((warned(1000, 2000, 0), warned(1000, 2000, 3000)), (1, 2));
        assert_eq!((warned(0, 2000, 3000), warned(1000, 1000, 500), warned(1000, 0, 0)), (0, 0, 0));
        let lanes = LanesConfig { limit: Rate(1000), live_limit: Rate(2048), ..LanesConfig::default() };
        let said = lanes.warnings().next().unwrap();
        assert!(said.starts_with("uplink.lanes: live_limit = 2KiB/s is above limit = 1KB/s"), "{said}");
    }
}
