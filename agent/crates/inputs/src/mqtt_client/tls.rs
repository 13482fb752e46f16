//! TLS towards the broker: trusted roots and an own certificate from PEM files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::config::MqttClientConfig;
use crate::mqtt::tls::pem_text;

/// Why TLS can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("{path} can't be read as PEM ({error}): set {key} to a PEM file that the agent may read")]
    File {
        /// Which.
        path: PathBuf,
        /// The key that names it.
        key: &'static str,
        /// Why.
        error: rustls_pki_types::pem::Error,
    },
    /// A file of another kind, or an empty one.
    #[error("{path} holds no certificate: set {key} to a PEM file with one")]
    Empty {
        /// Which.
        path: PathBuf,
        /// The key that names it.
        key: &'static str,
    },
    /// Nothing to trust.
    #[error("no certificate authority to trust: set ca_file, or install the system's (ca-certificates)")]
    NoRoots,
    /// The library's word.
    #[error("TLS can't be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

fn certificates(path: &Path, key: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = pem_text(path)
        .and_then(|text| CertificateDer::pem_slice_iter(&text).collect())
        .map_err(|error| TlsError::File { path: path.to_owned(), key, error })?;
    if found.is_empty() { Err(TlsError::Empty { path: path.to_owned(), key }) } else { Ok(found) }
}

/// The client's side of TLS, as the section says.
///
/// # Errors
/// [`TlsError`].
pub fn client(config: &MqttClientConfig) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    match &config.ca_file {
        Some(path) => {
            for certificate in certificates(path, "ca_file")? {
                roots.add(certificate)?;
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
        }
    }
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let client = match (&config.cert_file, &config.key_file) {
        (Some(cert), Some(key)) => {
            let chain = certificates(cert, "cert_file")?;
            let key = pem_text(key)
                .and_then(|text| PrivateKeyDer::from_pem_slice(&text))
                .map_err(|error| TlsError::File { path: key.clone(), key: "key_file", error })?;
            builder.with_client_auth_cert(chain, key)?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_named_and_the_systems_are_not_blamed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        for text in ["", "no certificate\n"] {
            std::fs::write(&path, text).unwrap();
            let config = MqttClientConfig { ca_file: Some(path.clone()), ..MqttClientConfig::default() };
            let said = client(&config).unwrap_err().to_string();
            assert!(said.contains("ca.pem holds no certificate: set ca_file"), "{said}");
        }
    }
}
