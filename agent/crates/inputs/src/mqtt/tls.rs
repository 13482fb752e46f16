//! TLS for `tls_listen`: certificate and key from PEM files, and whose client certificates are taken.
//!
//! The files are read again when they change ([`super::renewal`]), so what is made of them is one value that can be
//! replaced as a whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use seglog::regular::{self, LONGEST};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

use super::access::Presented;
use super::certificate;
use super::config::{CertificateName, ClientCert, MqttConfig};

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
    /// No authority, or no list, in it.
    #[error("{path} holds no {what}: set {key} to a PEM file with at least one")]
    Nothing {
        /// Which.
        path: PathBuf,
        /// The key that names it.
        key: &'static str,
        /// What should be there.
        what: &'static str,
    },
    /// The authorities or their lists.
    #[error("client_ca_file {path} can't be used: {error}")]
    Authorities {
        /// Which.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// They don't fit.
    #[error("cert_file and key_file can't be used together: {0}")]
    Pair(#[from] tokio_rustls::rustls::Error),
}

/// The bytes of a PEM file.
pub(crate) fn pem_text(path: &Path) -> Result<Vec<u8>, pem::Error> {
    regular::read_given(path, LONGEST).map_err(pem::Error::Io)
}

fn certificates(path: &Path, key: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    pem_text(path)
        .and_then(|text| CertificateDer::pem_slice_iter(&text).collect())
        .map_err(|error| TlsError::File { path: path.to_owned(), key, error })
}

/// An acceptor from two PEM files, which asks clients for nothing.
///
/// # Errors
/// [`TlsError`].
pub fn acceptor(cert_file: &Path, key_file: &Path) -> Result<TlsAcceptor, TlsError> {
    Ok(TlsAcceptor::from(Arc::new(server(cert_file, key_file, None)?)))
}

fn server(
    cert_file: &Path,
    key_file: &Path,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, TlsError> {
    let chain = certificates(cert_file, "cert_file")?;
    if chain.is_empty() {
        return Err(TlsError::Empty(cert_file.to_owned()));
    }
    let key = pem_text(key_file)
        .and_then(|text| PrivateKeyDer::from_pem_slice(&text))
        .map_err(|error| TlsError::File { path: key_file.to_owned(), key: "key_file", error })?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    let Some(clients) = clients else {
        return Ok(builder.with_no_client_auth().with_single_cert(chain, key)?);
    };
    let mut config = builder.with_client_cert_verifier(clients).with_single_cert(chain, key)?;
    // A resumed session would bring its certificate along unseen, expired or not.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The TLS port's side of a handshake.
pub struct Secure {
    /// Takes connections.
    pub acceptor: TlsAcceptor,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    name: CertificateName,
}

impl Secure {
    /// From the files that the section names; `None` when it names none.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(config: &MqttConfig) -> Result<Option<Self>, TlsError> {
        config
            .cert_file
            .as_deref()
            .zip(config.key_file.as_deref())
            .map(|files| Self::of(config, files))
            .transpose()
    }

    fn of(config: &MqttConfig, (cert, key): (&Path, &Path)) -> Result<Self, TlsError> {
        let clients = config.client_ca_file.as_deref().map(|path| clients(config, path)).transpose()?;
        let server = server(cert, key, clients.clone())?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(server)), clients, name: config.certificate_name })
    }

    /// What a client showed in a handshake that went well.
    pub fn presented(&self, session: &rustls::ServerConnection) -> Option<Presented> {
        let chain = session.peer_certificates()?;
        let first = chain.first()?;
        let name = certificate::name(first, self.name).map(Arc::from);
        Some(Presented { name, chain: chain.iter().map(|der| der.clone().into_owned()).collect() })
    }

    /// Would this chain be trusted now? Authorities and lists may have changed, and time goes on.
    ///
    /// # Errors
    /// Why not.
    pub fn trusts(&self, chain: &[CertificateDer<'static>]) -> Result<(), rustls::Error> {
        let Some(clients) = &self.clients else { return Ok(()) };
        let (first, rest) = chain.split_first().ok_or(rustls::Error::NoCertificatesPresented)?;
        clients.verify_client_cert(first, rest, UnixTime::now()).map(drop)
    }
}

fn clients(config: &MqttConfig, path: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let unusable = |error: String| TlsError::Authorities { path: path.to_owned(), error };
    let mut roots = RootCertStore::empty();
    for authority in certificates(path, "client_ca_file")? {
        roots.add(authority).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(TlsError::Nothing {
            path: path.to_owned(),
            key: "client_ca_file",
            what: "certificate of an authority",
        });
    }
    let lists = config.crl_file.as_deref().map(lists).transpose()?.unwrap_or_default();
    let provider = Arc::new(ring::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).with_crls(lists);
    let builder = match config.client_cert {
        ClientCert::Required => builder,
        ClientCert::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| match (&error, &config.crl_file) {
        (VerifierBuilderError::InvalidCrl(error), Some(crl)) => {
            unusable(format!("crl_file {} holds a list that can't be used ({error:?})", crl.display()))
        }
        _ => unusable(error.to_string()),
    })
}

fn lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let lists: Vec<_> = pem_text(path)
        .and_then(|text| CertificateRevocationListDer::pem_slice_iter(&text).collect())
        .map_err(|error| TlsError::File { path: path.to_owned(), key: "crl_file", error })?;
    if lists.is_empty() {
        return Err(TlsError::Nothing { path: path.to_owned(), key: "crl_file", what: "revocation list" });
    }
    Ok(lists)
}
