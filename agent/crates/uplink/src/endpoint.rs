//! From the configuration to a gRPC connection: address, TLS, token, keep-alive.

use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as TlsError};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Identity};

use crate::address::Address;
use crate::config::UplinkConfig;
use crate::error::{ConfigError, LinkError};
use crate::secret::{self, SecretError};

/// A connection that can be opened again and again.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    pub(crate) endpoint: Endpoint,
    pub(crate) bearer: Option<MetadataValue<Ascii>>,
    /// What TCP's and TLS's handshakes may take together.
    patience: Duration,
    /// Open, and without a session yet.
    pub(crate) channel: Option<Channel>,
}

impl Gateway {
    /// Opens the connection.
    pub(crate) async fn connect(&mut self) -> Result<(), LinkError> {
        // The library's own limit ends with TCP's handshake: a peer that takes the connection and says nothing, no TLS either, would
        // hold us for ever.
        let connected = timeout(self.patience, self.endpoint.connect()).await;
        let late = |_| {
            LinkError::Connect(format!("no answer within {:?}: is that the gateway's port?", self.patience))
        };
        self.channel = Some(connected.map_err(late)?.map_err(unreached)?);
        Ok(())
    }
}

/// Reads the files and builds the endpoint.
pub(crate) fn gateway(config: &UplinkConfig, url: &str, address: &Address) -> Result<Gateway, ConfigError> {
    let invalid = |_| ConfigError::Url { key: "url", url: url.to_owned() };
    let mut endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(invalid)?
        .connect_timeout(Duration::from_secs(config.connect_timeout))
        .tcp_nodelay(true)
        // A link that died unnoticed (a NAT that forgot us, a pulled cable) is found in 20 s.
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true);
    if address.tls {
        let mut tls = ClientTlsConfig::new().trust_anchors(crate::tls::roots(config, address.carrier)?.roots);
        if let Some(name) = config.name(address.carrier) {
            tls = tls.domain_name(name);
        }
        if let Some((cert, key)) = crate::tls::own(config, address.carrier)? {
            tls = tls.identity(Identity::from_pem(cert, key));
        }
        endpoint = endpoint.tls_config(tls).map_err(ConfigError::Certificate)?;
    }
    let bearer = config.token_file.as_deref().map(bearer).transpose()?;
    Ok(Gateway { endpoint, bearer, patience: 2 * Duration::from_secs(config.connect_timeout), channel: None })
}

/// Why there is no connection: what the library wrapped, and for a certificate what to do about it.
fn unreached(error: tonic::transport::Error) -> LinkError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let wrapped = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(TlsError::InvalidCertificate(why)) = wrapped.and_then(|inner| inner.downcast_ref()) {
            return LinkError::Untrusted(certificate(why));
        }
        if let Some(why) = refused(inner) {
            return LinkError::Certificate(why);
        }
        let further = inner.to_string();
        if !text.ends_with(&further) {
            text = format!("{text}: {further}");
        }
        cause = inner.source();
    }
    LinkError::Connect(text)
}

/// Why the other side doesn't accept our certificate, where that is what an error means.
pub(crate) fn refused(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        let wrapped = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = wrapped.and_then(|inner| inner.downcast_ref()).or_else(|| inner.downcast_ref());
        if let Some(TlsError::AlertReceived(alert)) = tls {
            return alerted(*alert);
        }
        cause = inner.source();
    }
    None
}

/// What an alert says of our certificate, and what to do.
fn alerted(alert: AlertDescription) -> Option<String> {
    use AlertDescription as Alert;
    let why = match alert {
        Alert::CertificateExpired => {
            "this agent's certificate has expired: the agent renews it by itself as soon as it reaches the collector's console"
        }
        Alert::CertificateRequired | Alert::HandshakeFailure | Alert::NoCertificate => {
            "it wants a certificate: enroll the host with `telemetryx-agent enroll`"
        }
        Alert::UnknownCA | Alert::DecryptError => {
            "this agent's certificate is of another authority than the collector's: enroll the host at this collector, with --replace"
        }
        Alert::BadCertificate
        | Alert::CertificateUnknown
        | Alert::CertificateRevoked
        | Alert::UnsupportedCertificate
        | Alert::AccessDenied => {
            "it doesn't accept this agent's certificate: `telemetryx-agent doctor` tells more"
        }
        _ => return None,
    };
    Some(why.into())
}

/// What is wrong with the collector's certificate, and what to do.
fn certificate(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => "its certificate is signed by no authority that this agent trusts: set uplink.ca_file to the certificate of the authority that signed it (without ca_file the system's authorities are trusted)".into(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired: renew it on the collector, and check this host's clock".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: check this host's clock".into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name than the one in uplink.url: use that name, or set uplink.server_name".into()
        }
        other => format!("its certificate can't be used ({other:?})"),
    }
}

/// This agent's token.
pub(crate) fn token(path: &Path) -> Result<String, ConfigError> {
    secret("token_file", path)
}

/// The secret that a key names the file of.
pub(crate) fn secret(key: &'static str, path: &Path) -> Result<String, ConfigError> {
    secret::line(path).map_err(|source| ConfigError::Secret { key, source })
}

fn bearer(path: &Path) -> Result<MetadataValue<Ascii>, ConfigError> {
    let invalid =
        |_| ConfigError::Secret { key: "token_file", source: SecretError::NoLine { path: path.into() } };
    let mut value: MetadataValue<Ascii> = format!("Bearer {}", token(path)?).parse().map_err(invalid)?;
    value.set_sensitive(true);
    Ok(value)
}
