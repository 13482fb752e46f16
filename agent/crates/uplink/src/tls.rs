//! TLS towards a broker, or any server: whom to trust, and an own certificate, from PEM files.

use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};
use seglog::regular::{self, LONGEST};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::address::Carrier;
use crate::config::UplinkConfig;
use crate::error::ConfigError;

/// The client's side of TLS, as the section says.
pub(crate) fn client(config: &UplinkConfig) -> Result<ClientConfig, ConfigError> {
    let roots = roots(config, Carrier::Mqtt)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_root_certificates(roots);
    let (Some(cert), Some(key)) = (&config.client_cert_file, &config.client_key_file) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates("client_cert_file", cert)?;
    let key = private_key(key).map_err(|error| unreadable("client_key_file", key, &error))?;
    builder.with_client_auth_cert(chain, key).map_err(refused)
}

/// The client's side of TLS towards any server: believes the authorities of this PEM file, or without one the system's.
///
/// # Errors
/// When the file can't be used.
pub fn trusting(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, ConfigError> {
    let config = UplinkConfig { ca_file: ca_file.map(Into::into), ..UplinkConfig::default() };
    client(&config).map(Arc::new)
}

/// A certificate and its key, both PEM.
type Shown = (Vec<u8>, Vec<u8>);

/// The certificate to show; `None` where there is none to show.
pub(crate) fn own(config: &UplinkConfig, carrier: Carrier) -> Result<Option<Shown>, ConfigError> {
    let Some((cert, key)) = config.certificate(carrier) else { return Ok(None) };
    let read = |name, path: &Path| {
        regular::read_given(path, LONGEST).map_err(|source| ConfigError::File {
            key: name,
            path: path.into(),
            source,
        })
    };
    match (config.enrolled(carrier), read("client_cert_file", &cert)) {
        (Some(enrolled), Err(ConfigError::File { source, .. }))
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            Err(ConfigError::Waits { agent: enrolled.joined.agent.clone() })
        }
        (_, cert) => Ok(Some((cert?, read("client_key_file", &key)?))),
    }
}

/// Whom to trust: the authorities of `ca_file` and nobody else; without it those of the enrolment, or the system's.
pub(crate) fn roots(config: &UplinkConfig, carrier: Carrier) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    let file = config.authorities(carrier);
    match &file {
        Some(path) => {
            for certificate in certificates("ca_file", path)? {
                roots.add(certificate).map_err(refused)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(match &file {
            Some(path) => ConfigError::Pem {
                key: "ca_file",
                path: path.clone(),
                reason: "it holds no certificate".into(),
            },
            None => ConfigError::NoRoots,
        });
    }
    Ok(roots)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    all(path).map_err(|error| unreadable(key, path, &error))
}

/// The certificates in a PEM file that a person names.
pub(crate) fn all(path: &Path) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    let text = regular::read_given(path, LONGEST).map_err(pem::Error::Io)?;
    CertificateDer::pem_slice_iter(&text).collect()
}

/// The key in a PEM file that a person names.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, pem::Error> {
    PrivateKeyDer::from_pem_slice(&regular::read_given(path, LONGEST).map_err(pem::Error::Io)?)
}

fn unreadable(key: &'static str, path: &Path, error: &pem::Error) -> ConfigError {
    ConfigError::Pem { key, path: path.into(), reason: error.to_string() }
}

fn refused(error: rustls::Error) -> ConfigError {
    ConfigError::Tls(error.to_string())
}
