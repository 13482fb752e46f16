//! Who may come in: listen addresses, tokens, TLS; shared by the HTTP and TCP inputs (and failed handshakes by MQTT).
//!
//! On loopback nothing is needed. Off loopback an input refuses to start without tokens, and without
//! TLS unless `plaintext = true` says that the network is trusted (design: section 4, uplink).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use subtle::ConstantTimeEq;
use telemetry::Cause;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::Error as TlsProblem;

use crate::door::Door;
use crate::mqtt::tls::{self, TlsError};

/// Largest token file.
const MAX_TOKEN_FILE: u64 = 1 << 20;
/// How long a TLS handshake may take.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);

/// Counts what isn't TLS, and a client that doesn't trust the certificate: the operator sees why a
/// device can't connect. One that just goes away has refused nothing.
pub(crate) fn handshake_failed(door: &Door, peer: Option<SocketAddr>, error: &std::io::Error) {
    let peer = peer.map_or_else(|| "a client that is gone".to_owned(), |peer| peer.to_string());
    tracing::debug!(peer, %error, "a TLS handshake failed");
    if error.kind() == std::io::ErrorKind::InvalidData {
        let reason = format!("{peer}: the TLS handshake failed: {error}");
        // What a server can find wrong with a certificate is whose it is, or that there is none.
        let found = error.get_ref().and_then(|error| error.downcast_ref());
        let forbidden =
            matches!(found, Some(TlsProblem::InvalidCertificate(_) | TlsProblem::NoCertificatesPresented));
        let cause = if forbidden { Cause::RejectedForbidden } else { Cause::RejectedSyntax };
        door.reject(cause, &reason, b"");
    }
}

/// Why an input can't open its port. Each names the key to change.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// Reachable from other hosts, and anyone could write.
    #[error(
        "listen = \"{0}\" is reachable from other hosts and there is no token: set token_file to a file with one token a line, or listen on 127.0.0.1"
    )]
    NoTokens(SocketAddr),
    /// Reachable from other hosts, and readable on the way.
    #[error(
        "listen = \"{0}\" is reachable from other hosts without TLS: set cert_file and key_file, or plaintext = true if this network is trusted"
    )]
    NoTls(SocketAddr),
    /// Half of a pair.
    #[error("{given} is set without {missing}: TLS needs both")]
    HalfOfTls {
        /// What is there.
        given: &'static str,
        /// What isn't.
        missing: &'static str,
    },
    /// The token file.
    #[error(
        "token_file {path} can't be read ({error}): it must be a file that the agent may read, with one token a line"
    )]
    TokenFile {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Nothing in it.
    #[error("token_file {0} holds no token: write at least one line of 8 characters or more")]
    EmptyTokenFile(PathBuf),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The port.
    #[error(
        "listen = \"{listen}\" can't be opened ({error}): is another program on that port, or is the address not this host's? Choose another with listen"
    )]
    Bind {
        /// Which.
        listen: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
}

/// What is written down about a port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate<'a> {
    pub(crate) listen: SocketAddr,
    pub(crate) token_file: Option<&'a Path>,
    pub(crate) cert_file: Option<&'a Path>,
    pub(crate) key_file: Option<&'a Path>,
    pub(crate) plaintext: bool,
}

impl Gate<'_> {
    /// Checks what can be checked without opening anything.
    pub(crate) fn check(&self) -> Result<(), AdmissionError> {
        match (self.cert_file, self.key_file) {
            (Some(_), None) => {
                return Err(AdmissionError::HalfOfTls { given: "cert_file", missing: "key_file" });
            }
            (None, Some(_)) => {
                return Err(AdmissionError::HalfOfTls { given: "key_file", missing: "cert_file" });
            }
            _ => {}
        }
        if !self.listen.ip().to_canonical().is_loopback() {
            if self.token_file.is_none() {
                return Err(AdmissionError::NoTokens(self.listen));
            }
            if self.cert_file.is_none() && !self.plaintext {
                return Err(AdmissionError::NoTls(self.listen));
            }
        }
        Ok(())
    }

    /// Reads tokens and certificate.
    pub(crate) fn keys(&self) -> Result<(Tokens, Option<TlsAcceptor>), AdmissionError> {
        let tokens = self.token_file.map(Tokens::load).transpose()?.unwrap_or_default();
        let tls = match (self.cert_file, self.key_file) {
            (Some(cert), Some(key)) => Some(tls::acceptor(cert, key)?),
            _ => None,
        };
        Ok((tokens, tls))
    }

    /// Opens the port.
    pub(crate) async fn open(&self) -> Result<(TcpListener, Tokens, Option<TlsAcceptor>), AdmissionError> {
        self.check()?;
        let (tokens, tls) = self.keys()?;
        let listener = TcpListener::bind(self.listen)
            .await
            .map_err(|error| AdmissionError::Bind { listen: self.listen, error })?;
        Ok((listener, tokens, tls))
    }
}

/// The tokens that let a sender in. None at all means that everyone may come in (loopback).
#[derive(Clone, Default)]
pub(crate) struct Tokens(Vec<Box<[u8]>>);

impl Tokens {
    /// One token a line: `token`, or `user:password` for senders that know only those. Blank lines and lines that
    /// begin with `#` are passed over.
    pub(crate) fn load(path: &Path) -> Result<Self, AdmissionError> {
        let fail = |error| AdmissionError::TokenFile { path: path.to_owned(), error };
        let text = seglog::regular::read_given_text(path, MAX_TOKEN_FILE).map_err(fail)?;
        let tokens = Self::parse(&text);
        if tokens.0.is_empty() { Err(AdmissionError::EmptyTokenFile(path.to_owned())) } else { Ok(tokens) }
    }

    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| line.len() >= 8 && !line.starts_with('#'));
        Self(lines.map(|line| line.as_bytes().into()).collect())
    }

    /// True when a sender must show one.
    pub(crate) fn required(&self) -> bool {
        !self.0.is_empty()
    }

    /// Is this one of them? Takes the same time for each token of the same length.
    pub(crate) fn admits(&self, shown: &[u8]) -> bool {
        self.0.iter().fold(false, |found, token| found | bool::from(token.ct_eq(shown)))
    }

    /// Is this a user's password: the pair `user:password`, or a token as the password of any user?
    pub(crate) fn admits_pair(&self, user: &[u8], password: &[u8]) -> bool {
        self.admits(password) | self.admits(&[user, b":", password].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(listen: &str) -> Gate<'static> {
        Gate {
            listen: listen.parse().unwrap(),
            token_file: None,
            cert_file: None,
            key_file: None,
            plaintext: false,
        }
    }

    #[test]
    fn loopback_needs_nothing_and_other_addresses_need_a_token_and_tls() {
        assert!(gate("127.0.0.1:1").check().is_ok());
        assert!(gate("[::1]:1").check().is_ok());
        assert!(gate("[::ffff:127.0.0.1]:1").check().is_ok());
        let open = gate("0.0.0.0:1");
        assert!(open.check().unwrap_err().to_string().contains("token_file"));
        let with_token = Gate { token_file: Some(Path::new("t")), ..open };
        assert!(with_token.check().unwrap_err().to_string().contains("cert_file"));
        assert!(Gate { plaintext: true, ..with_token }.check().is_ok());
        let half = Gate { cert_file: Some(Path::new("c")), ..with_token };
        assert!(half.check().unwrap_err().to_string().contains("key_file"));
    }

    #[test]
    fn tokens_are_lines_and_short_ones_are_none() {
        let tokens = Tokens::parse("# ours\nsecret-token\n\nshort\nbob:his-password\n");
        assert!(tokens.required() && tokens.admits(b"secret-token") && tokens.admits(b"bob:his-password"));
        assert!(!tokens.admits(b"short") && !tokens.admits(b"secret-toke") && !tokens.admits(b""));
        assert!(tokens.admits_pair(b"bob", b"his-password") && tokens.admits_pair(b"any", b"secret-token"));
        assert!(!tokens.admits_pair(b"eve", b"his-password"));
        assert!(!Tokens::default().required());
    }

    #[test]
    fn a_token_file_that_is_missing_or_empty_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        assert!(Tokens::load(&path).err().unwrap().to_string().contains("tokens"));
        std::fs::write(&path, "# none\n").unwrap();
        assert!(Tokens::load(&path).err().unwrap().to_string().contains("no token"));
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_the_remedy() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = gate(&taken.local_addr().unwrap().to_string()).open().await.err().unwrap().to_string();
        assert!(error.contains("another program") && error.contains("listen"), "{error}");
    }
}
