//! Whether key, certificate and authority belong together. Nothing is asked of a clock: what has expired is renewed.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::sign::{CertifiedKey, SigningKey};

use crate::certificate::validity;

/// A key that signs.
pub(super) fn key(der: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, String> {
    let provider = ring::default_provider();
    provider.key_provider.load_private_key(der).map_err(|error| format!("it is damaged: {error}"))
}

/// Authorities to believe.
pub(super) fn roots(authorities: &[CertificateDer<'static>]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|error| format!("it is damaged: {error}"))?;
    }
    Ok(roots)
}

/// A certificate of this key, from one of these authorities where they are given.
pub(super) fn certificate(
    chain: Vec<CertificateDer<'static>>,
    key: Arc<dyn SigningKey>,
    roots: Option<RootCertStore>,
) -> Result<(), String> {
    let Some((own, between)) = chain.split_first() else { return Err("it holds no certificate".into()) };
    let begins = validity(own).ok_or("it is damaged: it has no dates")?.from;
    CertifiedKey::new(chain.clone(), key)
        .keys_match()
        .map_err(|error| format!("it is damaged, or not of the key beside it: {error}"))?;
    let Some(roots) = roots else { return Ok(()) };
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| format!("the authority beside it can't be used: {error}"))?;
    let then = UnixTime::since_unix_epoch(Duration::from_secs(begins.unsigned_abs()));
    verifier
        .verify_client_cert(own, between, then)
        .map(drop)
        .map_err(|error| format!("it is damaged, or not from the authority in ca.pem beside it: {error}"))
}
