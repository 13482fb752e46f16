//! From the configuration to a gRPC connection: address, TLS, token, keep-alive.

use std::error::Error as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tokio_rustls::rustls::{CertificateError, Error as TlsError};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use crate::address::Address;
use crate::config::UplinkConfig;
use crate::error::{ConfigError, LinkError};

/// A connection that can be opened again and again.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    pub(crate) endpoint: Endpoint,
    pub(crate) bearer: Option<MetadataValue<Ascii>>,
    /// Open, and without a session yet.
    pub(crate) channel: Option<Channel>,
}

impl Gateway {
    /// Opens the connection.
    pub(crate) async fn connect(&mut self) -> Result<(), LinkError> {
        self.channel = Some(self.endpoint.connect().await.map_err(unreached)?);
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
        let mut tls = ClientTlsConfig::new().trust_anchors(crate::tls::roots(config)?.roots);
        if let Some(name) = &config.server_name {
            tls = tls.domain_name(name);
        }
        endpoint = endpoint.tls_config(tls).map_err(ConfigError::Certificate)?;
    }
    let bearer = config.token_file.as_deref().map(bearer).transpose()?;
    Ok(Gateway { endpoint, bearer, channel: None })
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
        let further = inner.to_string();
        if !text.ends_with(&further) {
            text = format!("{text}: {further}");
        }
        cause = inner.source();
    }
    LinkError::Connect(text)
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

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|source| ConfigError::File { key, path: path.into(), source })
}

/// This agent's token.
pub(crate) fn token(path: &Path) -> Result<String, ConfigError> {
    secret("token_file", path)
}

/// The one line of visible ASCII of a file that only its owner can read.
pub(crate) fn secret(key: &'static str, path: &Path) -> Result<String, ConfigError> {
    let bytes = read(key, path)?;
    let mode = std::fs::metadata(path)
        .map_err(|source| ConfigError::File { key, path: path.into(), source })?
        .permissions()
        .mode()
        & 0o777;
    if mode & 0o077 != 0 {
        return Err(ConfigError::Mode { key, path: path.into(), mode });
    }
    let invalid = || ConfigError::Secret { key, path: path.into() };
    let text = String::from_utf8(bytes).map_err(|_| invalid())?;
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid());
    }
    Ok(text.to_owned())
}

fn bearer(path: &Path) -> Result<MetadataValue<Ascii>, ConfigError> {
    let invalid = |_| ConfigError::Secret { key: "token_file", path: path.into() };
    let mut value: MetadataValue<Ascii> = format!("Bearer {}", token(path)?).parse().map_err(invalid)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_token(content: &str, mode: u32) -> Result<String, ConfigError> {
        let folder =
            std::env::temp_dir().join(format!("tx-token-{}-{mode:o}-{}", std::process::id(), content.len()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("token");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let result = token(&path);
        std::fs::remove_dir_all(folder).unwrap();
        result
    }

    #[test]
    fn a_token_that_others_can_read_is_refused() {
        assert!(matches!(with_token("secret", 0o644), Err(ConfigError::Mode { mode: 0o644, .. })));
        assert_eq!(with_token("secret\n", 0o600).unwrap(), "secret");
    }

    #[test]
    fn a_token_of_several_lines_or_none_is_refused() {
        assert!(matches!(with_token("a\nb", 0o600), Err(ConfigError::Secret { .. })));
        assert!(matches!(with_token("", 0o600), Err(ConfigError::Secret { .. })));
    }
}
