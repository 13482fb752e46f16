//! Where a collector is met: its gateway over gRPC, or a site's broker over MQTT.

use std::net::IpAddr;

use tonic::transport::Uri;

use crate::error::ConfigError;

/// What carries the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    Grpc,
    Mqtt,
}

/// A checked address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) carrier: Carrier,
    pub(crate) host: String,
    /// The one given, or the protocol's own.
    pub(crate) port: u16,
    pub(crate) tls: bool,
    pub(crate) loopback: bool,
}

impl Address {
    /// Takes the value of a config key apart.
    ///
    /// # Errors
    /// [`ConfigError`] when it is no address, or leaves this machine in plain text.
    pub(crate) fn parse(key: &'static str, url: &str) -> Result<Self, ConfigError> {
        if url.contains('@') {
            return Err(ConfigError::User { key });
        }
        let no_address = || ConfigError::Url { key, url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| no_address())?;
        let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else { return Err(no_address()) };
        let (carrier, tls, port) = match scheme {
            "http" => (Carrier::Grpc, false, 80),
            "https" => (Carrier::Grpc, true, 443),
            "mqtt" => (Carrier::Mqtt, false, 1883),
            "mqtts" => (Carrier::Mqtt, true, 8883),
            _ => return Err(no_address()),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        // The library passes over a port that is none.
        let bad_port = uri.port_u16().is_none_or(|port| port == 0) && authority.len() > host.len();
        if host.is_empty() || bad_port {
            return Err(no_address());
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let loopback =
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if !tls && !loopback {
            return Err(ConfigError::PlainText { key, url: url.to_owned(), tls: format!("{scheme}s") });
        }
        Ok(Self { carrier, host, port: uri.port_u16().unwrap_or(port), tls, loopback })
    }

    /// What stands behind host and port in the text that this was made of, and means nothing.
    pub(crate) fn behind(url: &str) -> Option<String> {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let at = rest.find(['/', '?', '#'])?;
        Some(rest[at..].to_owned()).filter(|behind| behind != "/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, ConfigError> {
        Address::parse("url", url)
    }

    #[test]
    fn an_address_tells_carrier_host_port_and_tls() {
        let broker = parse("mqtts://broker.site").unwrap();
        assert_eq!((broker.carrier, broker.host.as_str()), (Carrier::Mqtt, "broker.site"));
        assert_eq!((broker.port, broker.tls, broker.loopback), (8883, true, false));
        let near = parse("mqtt://[::1]:1884").unwrap();
        assert_eq!((near.host.as_str(), near.port, near.tls, near.loopback), ("::1", 1884, false, true));
        assert_eq!(parse("https://collector:8421").unwrap().carrier, Carrier::Grpc);
    }

    #[test]
    fn what_stands_behind_host_and_port_is_named() {
        for (url, behind) in [
            ("https://collector:8421", None),
            ("https://collector:8421/", None),
            ("https://collector/telemetryx", Some("/telemetryx")),
            ("mqtts://broker:8883/site/a", Some("/site/a")),
            ("https://[::1]:8421?a=b", Some("?a=b")),
        ] {
            assert_eq!(parse(url).map(|_| Address::behind(url)).unwrap().as_deref(), behind, "{url}");
        }
    }

    #[test]
    fn plain_text_stays_on_this_machine() {
        for url in ["http://127.0.0.1:8421", "http://localhost:8421", "http://[::1]:8421", "mqtt://127.0.0.1"]
        {
            assert!(parse(url).is_ok(), "{url}");
        }
        for url in ["http://10.0.0.7:8421", "http://127.0.0.1.example.org:1", "mqtt://broker"] {
            assert!(matches!(parse(url), Err(ConfigError::PlainText { .. })), "{url}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in ["http://127.0.0.1:99999", "http://127.0.0.1:0", "mqtt://localhost:", "https://[::1]:x"] {
            assert!(matches!(parse(url), Err(ConfigError::Url { .. })), "{url}");
        }
        for url in ["", "collector:8421", "ftp://127.0.0.1", "https://"] {
            assert!(matches!(parse(url), Err(ConfigError::Url { .. })), "{url}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        for url in ["mqtts://user:secret@broker", "https://user:secret@collector:8421", "user:secret@broker"]
        {
            let refused = parse(url).unwrap_err();
            assert!(matches!(refused, ConfigError::User { .. }), "{url}");
            assert!(!refused.to_string().contains("secret"), "{refused}");
        }
    }
}
