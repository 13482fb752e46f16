//! TLS for `tls_listen`: certificate and key from PEM files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

/// Why TLS can't be offered.
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
    /// No certificate in it.
    #[error("{0} holds no certificate: set cert_file to a PEM file with the server's certificate")]
    Empty(PathBuf),
    /// They don't fit.
    #[error("cert_file and key_file can't be used together: {0}")]
    Pair(#[from] tokio_rustls::rustls::Error),
}

/// An acceptor from two PEM files.
///
/// # Errors
/// [`TlsError`].
pub fn acceptor(cert_file: &Path, key_file: &Path) -> Result<TlsAcceptor, TlsError> {
    let fail = |path: &Path, key, error| TlsError::File { path: path.to_owned(), key, error };
    let chain = CertificateDer::pem_file_iter(cert_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| fail(cert_file, "cert_file", error))?;
    if chain.is_empty() {
        return Err(TlsError::Empty(cert_file.to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| fail(key_file, "key_file", error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
