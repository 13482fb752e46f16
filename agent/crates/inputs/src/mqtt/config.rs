//! `[input.mqtt]`: the keys of the MQTT port, their defaults and what makes them refused.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access::MAX_NAME;
use super::acl::Patterns;
use super::{MqttError, auth, client_ids, topic};
use crate::mapping::{Mapper, MappingConfig};
use crate::network::Network;

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
    /// PEM file with the authorities whose client certificates `tls_listen` takes. A client then comes in as the user
    /// that its certificate names, if that `user` has `certificate = true`.
    pub client_ca_file: Option<PathBuf>,
    /// With `client_ca_file`: `required`, a client without a certificate gets no further than TLS; `optional`, it may
    /// give a password instead.
    pub client_cert: ClientCert,
    /// Which name in a client's certificate is the user's: `cn`, the subject's common name, or `san`, the DNS name
    /// among its alternative names. There must be exactly one.
    pub certificate_name: CertificateName,
    /// PEM file with the revocation lists of the authorities in `client_ca_file`, and of those between them and the
    /// clients. A certificate whose authority has no list in it is refused; a list that is past its date is used on.
    pub crl_file: Option<PathBuf>,
    /// Users that are let in no more, however they show who they are; `*` stands for any characters.
    pub revoked: Vec<String>,
    /// Let clients on this host in without a name and password; those on other hosts only where `anonymous_from`
    /// says so. Without this key: true while no `user` is configured.
    pub anonymous: Option<bool>,
    /// Networks of other hosts whose clients are let in without a name and password, for example ["10.20.0.0/16"]. `check`
    /// and `status` warn of it.
    #[schemars(with = "Vec<String>")]
    pub anonymous_from: Vec<Network>,
    /// Topic filters that a client without a name may publish to; `%c` is the client id.
    pub anonymous_write: Vec<String>,
    /// Topic filters that a client without a name may receive; `%c` is the client id.
    pub anonymous_read: Vec<String>,
    /// Who may connect with a password or a certificate, and what they may read and write.
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
            client_ca_file: None,
            client_cert: ClientCert::Required,
            certificate_name: CertificateName::Cn,
            crl_file: None,
            revoked: Vec::new(),
            anonymous: None,
            anonymous_from: Vec::new(),
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

/// Must a client of the TLS port show a certificate?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientCert {
    /// Yes.
    Required,
    /// It may.
    Optional,
}

/// Which name of a certificate is the user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CertificateName {
    /// The subject's common name.
    Cn,
    /// The DNS name among the alternative names.
    San,
}

/// One user of the MQTT port, or many that show certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// The name the client gives, or its certificate. With `certificate = true`, `*` stands for any characters but `/`,
    /// `+` and `#`: "sensor-*" is one entry for many. An entry of just that name goes first, then the first pattern
    /// that fits.
    pub name: String,
    /// What `telemetryx-agent hash-password` printed. Empty: no password, only a certificate.
    #[serde(default)]
    pub password_hash: String,
    /// It shows a certificate of this name. With a `password_hash` too, it needs both.
    #[serde(default)]
    pub certificate: bool,
    /// Client ids of this user: nobody else gets one of them, and this user no other. `*` stands for any characters, `%u` is
    /// the user's name; of two users' patterns the closer one counts. Empty: any that is nobody's by such a list; then whoever
    /// comes first has an id.
    #[serde(default)]
    pub client_ids: Vec<String>,
    /// Topic filters this user may publish to; `%u` is the user's name, `%c` the client id.
    #[serde(default)]
    pub write: Vec<String>,
    /// Topic filters this user may receive; `%u` and `%c` as above.
    #[serde(default)]
    pub read: Vec<String>,
}

/// Does a name fit a pattern, in which `*` stands for any characters?
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    name.ends_with(last)
}

/// Could the name be one level of a topic, and of no topic of the server's?
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('$')
        && !name.contains(['+', '#', '/'])
        && !name.contains(char::is_control)
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

    /// True when a client from there needs no password.
    pub fn allows_anonymous_from(&self, address: IpAddr) -> bool {
        let there = |network: &Network| network.contains(address);
        self.allows_anonymous()
            && (address.to_canonical().is_loopback() || self.anonymous_from.iter().any(there))
    }

    /// Is a user of this name let in no more?
    pub fn is_revoked(&self, name: &str) -> bool {
        self.revoked.iter().any(|revoked| fits(revoked, name))
    }

    /// The entry that is for a user of this name: its own, or the first whose pattern fits; none for one who is revoked.
    pub fn user_of(&self, name: &str) -> Option<&UserConfig> {
        if self.is_revoked(name) {
            return None;
        }
        // A name that only looks like a pattern must not be taken for the entry.
        let own = self.users.iter().find(|user| user.name == name && !user.name.contains('*'));
        own.or_else(|| {
            self.users.iter().find(|user| user.name.contains('*') && is_plain(name) && fits(&user.name, name))
        })
    }

    /// What the section allows and few want, in sentences.
    pub fn warnings(&self) -> Vec<String> {
        let open =
            [self.listen, self.tls_listen].into_iter().flatten().any(|listen| !listen.ip().is_loopback());
        if self.anonymous_from.is_empty() || !open {
            return Vec::new();
        }
        let networks: Vec<_> = self.anonymous_from.iter().map(Network::to_string).collect();
        vec![format!(
            "anonymous_from lets every host of {} in without a password: it may publish to {:?} and read {:?}; give devices a [[input.mqtt.user]] where you can",
            networks.join(", "),
            self.anonymous_write,
            self.anonymous_read
        )]
    }

    /// How long CONNECT may take.
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.connect_timeout_secs)
    }

    /// Reads the files that the section names, as each start does.
    ///
    /// # Errors
    /// Naming the file and the remedy.
    pub fn files(&self) -> Result<(), MqttError> {
        match self.tls_listen {
            Some(_) => Ok(super::tls::Secure::load(self).map(drop)?),
            None => Ok(()),
        }
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
            if self.users.is_empty() && self.anonymous_from.is_empty() {
                return fail(format!(
                    "listen = \"{listen}\" is reachable from other hosts and there is no user: add a [[input.mqtt.user]] (telemetryx-agent hash-password makes its password_hash), listen on 127.0.0.1, or name the networks that need no password in anonymous_from"
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
            if !listen.ip().is_loopback() && self.users.is_empty() && self.anonymous_from.is_empty() {
                return fail(format!(
                    "tls_listen = \"{listen}\" is reachable from other hosts and there is no user: add a [[input.mqtt.user]], or name the networks that need no password in anonymous_from"
                ));
            }
        }
        if self.client_ca_file.is_some() && self.tls_listen.is_none() {
            return fail("client_ca_file is set without tls_listen: certificates are shown over TLS only, set tls_listen too".into());
        }
        if self.crl_file.is_some() && self.client_ca_file.is_none() {
            return fail(
                "crl_file is set without client_ca_file: set the authorities whose certificates it revokes"
                    .into(),
            );
        }
        if !self.anonymous_from.is_empty() && !self.allows_anonymous() {
            return fail("anonymous_from is set, and clients without a name aren't let in: set anonymous = true as well, or remove anonymous_from".into());
        }
        if self.revoked.iter().any(String::is_empty) {
            return fail("revoked holds an empty name: name a user, or remove it".into());
        }
        for (at, user) in self.users.iter().enumerate() {
            if user.name.is_empty() || self.users[..at].iter().any(|other| other.name == user.name) {
                return fail(format!(
                    "user {:?} is named twice or has no name: give each user a name of its own",
                    user.name
                ));
            }
            self.check_user(user)?;
        }
        client_ids::check_lists(&self.users).map_err(ConfigError)?;
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
        Mapper::new(&self.mapping).map_err(|error| ConfigError(error.to_string()))?;
        Ok(())
    }

    fn check_user(&self, user: &UserConfig) -> Result<(), ConfigError> {
        let fail = |text: String| Err(ConfigError(format!("user {:?}: {text}", user.name)));
        if user.name.len() > MAX_NAME || user.name.contains(char::is_control) {
            return fail(format!(
                "its name is longer than {MAX_NAME} bytes or holds control characters: give it another"
            ));
        }
        if !user.password_hash.is_empty() && user.name.contains('*') {
            return fail("all whose name fits would have one password: leave password_hash out and set certificate = true, or write one entry for each".into());
        }
        if user.name.contains('*') && !is_plain(&user.name) {
            return fail("a pattern fits only names that are one level of a topic: leave / + # and a $ at its beginning out".into());
        }
        if user.certificate && self.client_ca_file.is_none() {
            return fail("certificate = true needs client_ca_file: set it to a PEM file with the authorities whose certificates are taken".into());
        }
        if user.password_hash.is_empty() && !user.certificate {
            return fail("it has neither password_hash nor certificate = true: make a hash with telemetryx-agent hash-password, or let it show a certificate".into());
        }
        if !user.password_hash.is_empty()
            && let Err(why) = auth::check_hash(&user.password_hash)
        {
            return fail(format!("password_hash {why}: make one with telemetryx-agent hash-password"));
        }
        for pattern in &user.client_ids {
            if let Err(why) = client_ids::check_pattern(pattern) {
                return fail(format!("the pattern {pattern:?} of client_ids is none: {why}"));
            }
        }
        for pattern in user.read.iter().chain(&user.write) {
            if let Err(why) = Patterns::check(pattern) {
                return fail(format!("the pattern {pattern:?} is no topic filter: {why}"));
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
            ..UserConfig::default()
        }
    }

    fn by_certificate(name: &str) -> UserConfig {
        UserConfig { name: name.into(), certificate: true, ..UserConfig::default() }
    }

    fn secure(users: Vec<UserConfig>) -> MqttConfig {
        MqttConfig {
            tls_listen: Some(SocketAddr::from(([0, 0, 0, 0], 8883))),
            cert_file: Some("c".into()),
            key_file: Some("k".into()),
            client_ca_file: Some("ca".into()),
            users,
            ..MqttConfig::default()
        }
    }

    #[test]
    fn one_entry_fits_many_names_and_an_entry_of_its_own_or_a_revocation_goes_first() {
        let mut own = user();
        own.name = "sensor-7".into();
        let users = vec![by_certificate("sensor-*"), own, by_certificate("*-b")];
        let config = MqttConfig { revoked: vec!["sensor-9".into(), "old*".into()], ..secure(users) };
        assert_eq!(config.check(), Ok(()));
        let entry = |name: &str| config.user_of(name).map(|user| user.name.as_str());
        assert_eq!(entry("sensor-1"), Some("sensor-*"));
        assert_eq!(entry("sensor-1-b"), Some("sensor-*"));
        assert_eq!(entry("x-b"), Some("*-b"));
        assert_eq!(entry("sensor-7"), Some("sensor-7"));
        for none in ["sensor-9", "old-b", "old", "sensor", "x", ""] {
            assert_eq!(entry(none), None, "{none}");
        }
        for evil in ["sensor-#", "sensor-+", "sensor-a/b", "$SYS-b", "sensor-\u{1}", "sensor-\0"] {
            assert_eq!(entry(evil), None, "{evil:?}");
        }
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name) in
            [("*", ""), ("*", "a"), ("a*", "a"), ("a*c*e", "abcde"), ("*b*", "abc"), ("a**c", "ac")]
        {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a*a", "a"), ("a*", "ba"), ("a*c*e", "aec"), ("a", "*"), ("*ab*b", "ab")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn certificates_and_patterns_that_cannot_work_are_refused_with_the_remedy() {
        let said = |config: MqttConfig| config.check().unwrap_err().0;
        let without_ca = MqttConfig { client_ca_file: None, ..secure(vec![by_certificate("a")]) };
        assert!(said(without_ca).contains("needs client_ca_file"));
        assert!(said(MqttConfig { tls_listen: None, ..secure(vec![]) }).contains("set tls_listen"));
        let mut shared = user();
        shared.name = "sensor-*".into();
        assert!(said(secure(vec![shared])).contains("one password"));
        assert!(said(secure(vec![by_certificate("plant/*")])).contains("one level"));
        assert!(
            said(secure(vec![UserConfig { name: "a".into(), ..UserConfig::default() }])).contains("neither")
        );
        assert!(said(secure(vec![by_certificate(&"a".repeat(257))])).contains("256"));
        let lost = MqttConfig { crl_file: Some("crl".into()), client_ca_file: None, ..secure(vec![user()]) };
        assert!(said(lost).contains("client_ca_file"));
    }

    #[test]
    fn other_hosts_without_a_password_must_be_named_and_are_warned_of() {
        let from = vec!["10.0.0.0/8".parse().unwrap()];
        let open = MqttConfig { plaintext: true, anonymous_from: from.clone(), ..public() };
        assert_eq!(open.check(), Ok(()));
        assert!(open.warnings()[0].contains("10.0.0.0/8"), "{:?}", open.warnings());
        assert!(open.allows_anonymous_from([10, 1, 2, 3].into()));
        assert!(!open.allows_anonymous_from([192, 168, 1, 1].into()));
        let with_user = MqttConfig { users: vec![user()], ..open };
        assert!(with_user.check().unwrap_err().0.contains("anonymous = true"));
        let both = MqttConfig { anonymous: Some(true), ..with_user };
        assert_eq!(both.check(), Ok(()));
        assert!(both.allows_anonymous_from([127, 0, 0, 1].into()));
        // Without the key: loopback only.
        let closed = MqttConfig { anonymous_from: vec![], ..both };
        assert!(!closed.allows_anonymous_from([10, 1, 2, 3].into()) && closed.warnings().is_empty());
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
