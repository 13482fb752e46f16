//! One request to the people's door. Whom it believes:
//!
//! - at joining: whoever shows, in the chain of its certificate, the authority whose fingerprint stands in the token;
//! - later: whoever that authority has signed for;
//! - where the people's door has a certificate of another authority: the ones given at joining (console.rs), or the system's, for the host's name.
//!
//! In the first two cases the name that counts is the one that every collector's certificate has, so the collector may be met by
//! any address.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper_util::rt::TokioIo;
use ring::digest::{SHA256, digest};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring as crypto, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};
use tonic::transport::Uri;

use super::EnrolError;
use super::console::Authorities;

/// The name that every certificate has that a collector's authority made for it.
pub(crate) const SERVER_NAME: &str = "collector.telemetryx.internal";
const PATIENCE: Duration = Duration::from_secs(30);
/// More is no answer of a collector's.
const MAX_ANSWER: usize = 64 << 10;
const MISSING: &str = "it doesn't show the authority that is expected";

const GIVE: &str = "give the PEM file of the authority that signed it with --ca-file";
const OTHER_PORT: &str = "is this the port of its console, [api] listen there, and not the agents'?";
const NO_TLS: &str =
    "write https:// where its console speaks TLS, or name the console's port, [api] listen there";
const ON_THE_WAY: &str = "can this host reach it? A firewall between may drop what is sent to this port";

/// What to do when a connection doesn't come about.
fn way_on(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            "does the collector run, and listen for other machines at this port ([api] listen there)?"
        }
        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::ConnectionAborted => OTHER_PORT,
        ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => ON_THE_WAY,
        // The system's name service has no kind of its own.
        _ if error.raw_os_error().is_none() => {
            "is the name right? This host's name service doesn't know it: an address works as well"
        }
        _ => ON_THE_WAY,
    }
}

/// Which authority is believed.
#[derive(Clone, Debug)]
pub(crate) enum Pin {
    /// The one with this SHA-256.
    Fingerprint([u8; 32]),
    /// This one.
    Authority(CertificateDer<'static>),
    /// None: the other ones alone are believed.
    Nobody,
}

/// A people's door.
pub(crate) struct Door {
    url: String,
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    lack: Option<String>,
    way: String,
}

impl Door {
    /// Checks an address and prepares whom to believe; `others` are authorities that may have signed too, `None` the system's.
    pub(crate) fn new(url: &str, pin: Pin, others: Option<Authorities>) -> Result<Self, EnrolError> {
        let bad = || EnrolError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let (Some(scheme), Some(host), "" | "/") = (uri.scheme_str(), uri.host(), uri.path()) else {
            return Err(bad());
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let (tls, port) = match scheme {
            "https" => (true, 443),
            "http" if local => (false, 80),
            "http" => return Err(EnrolError::PlainText(url.to_owned())),
            _ => return Err(bad()),
        };
        // What nothing is done with would be kept as part of the address.
        if url.contains(['?', '#']) {
            return Err(bad());
        }
        if host.is_empty() || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(bad());
        }
        let tls = if tls { Some(Arc::new(client(url, pin, others)?)) } else { None };
        let port = uri.port_u16().unwrap_or(port);
        Ok(Self { url: url.trim_end_matches('/').to_owned(), host, port, tls, lack: None, way: GIVE.into() })
    }

    /// What is told when it can't be believed: what is missing for that, and where its authority belongs.
    pub(crate) fn lacking(self, lack: Option<String>, way: String) -> Self {
        Self { lack, way, ..self }
    }

    /// Its address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The address of another port of the same host.
    pub(crate) fn beside(&self, port: u64, tls: bool) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{}://{host}:{port}", if tls { "https" } else { "http" })
    }

    /// Posts JSON, or asks where there is none to post; the answer's JSON.
    pub(crate) async fn ask(&self, path: &str, body: Option<&Value>) -> Result<Value, EnrolError> {
        let late = || self.unreached(format!("no answer within {} s", PATIENCE.as_secs()), ON_THE_WAY);
        timeout(PATIENCE, self.answer(path, body)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn answer(&self, path: &str, body: Option<&Value>) -> Result<Value, EnrolError> {
        let stream = self.reach().await?;
        match &self.tls {
            None => self.over(stream, path, body).await,
            Some(tls) => self.over(self.believe(tls, stream).await?, path, body).await,
        }
    }

    /// Looks whether it can be reached within this time and is to be believed, and asks nothing.
    pub(crate) async fn meet(&self, patience: Duration) -> Result<(), EnrolError> {
        let met = async {
            let stream = self.reach().await?;
            match &self.tls {
                None => Ok(()),
                Some(tls) => self.believe(tls, stream).await.map(drop),
            }
        };
        let late = || self.unreached(format!("no answer within {patience:?}"), ON_THE_WAY);
        timeout(patience, met).await.unwrap_or_else(|_| Err(late()))
    }

    async fn reach(&self) -> Result<TcpStream, EnrolError> {
        TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| self.unreached(error.to_string(), way_on(&error)))
    }

    async fn believe(
        &self,
        tls: &Arc<ClientConfig>,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, EnrolError> {
        let name = ServerName::try_from(self.host.clone()).map_err(|_| EnrolError::Url(self.url.clone()))?;
        TlsConnector::from(Arc::clone(tls)).connect(name, stream).await.map_err(|error| self.no_tls(&error))
    }

    async fn over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, EnrolError> {
        // It was reached, and spoke no HTTP.
        let remedy = if self.tls.is_some() { OTHER_PORT } else { NO_TLS };
        let broken = |error: &dyn std::fmt::Display| self.unreached(error.to_string(), remedy);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        let content = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(if body.is_some() { "POST" } else { "GET" })
            .uri(path)
            .header(HOST, self.beside(self.port.into(), true).trim_start_matches("https://"))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(content)))
            .map_err(|error| broken(&error))?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
            let status = answer.status().as_u16();
            let later = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            let content = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            let content = content.map_err(|error| broken(&error))?.to_bytes();
            self.read(status, later, &content)
        };
        // The connection only moves while it is driven, and ends with the exchange. One that ends first may have brought the
        // answer before, or its end is told by the answer's error.
        tokio::pin!(connection, exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            _ = &mut connection => exchange.await,
        }
    }

    /// The answer's JSON, or the refusal in it.
    fn read(&self, status: u16, later: Option<u64>, content: &[u8]) -> Result<Value, EnrolError> {
        let bad = |why: String| EnrolError::Answer { url: self.url.clone(), why };
        let answer: Value = serde_json::from_slice(content).map_err(|_| bad(format!("status {status}")))?;
        if status == 200 {
            return Ok(answer);
        }
        let said = |key: &str| answer["error"][key].as_str().map(str::to_owned);
        let Some(message) = said("message") else { return Err(bad(format!("status {status}"))) };
        Err(match status {
            429 | 503 => EnrolError::Later { after: Duration::from_secs(later.unwrap_or(5)), message },
            _ => EnrolError::Refused { status, message, hint: said("hint").unwrap_or_default() },
        })
    }

    fn unreached(&self, why: String, remedy: &'static str) -> EnrolError {
        EnrolError::Connect { url: self.url.clone(), why, remedy }
    }

    /// What a failed handshake tells, and what to do.
    fn no_tls(&self, error: &std::io::Error) -> EnrolError {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
        let Some(tls) = inner else { return self.unreached(error.to_string(), way_on(error)) };
        let (why, remedy) = match tls {
            TlsError::General(why) if why == MISSING => {
                ("it doesn't show the authority that the token names: is this the collector that made the token? Something between may pose as it; if its console has a certificate of another authority, give that one with --ca-file".into(), String::new())
            }
            TlsError::InvalidMessage(_) => {
                return self.unreached("what answers there speaks no TLS".into(), OTHER_PORT);
            }
            TlsError::InvalidCertificate(why) => self.unbelieved(why),
            other => (other.to_string(), OTHER_PORT.into()),
        };
        let why = match &self.lack {
            Some(lack) => format!("{why}. The authority by which this host joined is missing: {lack}"),
            None => why,
        };
        EnrolError::Untrusted { url: self.url.clone(), why, remedy }
    }

    /// What is wrong with its certificate, and what to do. Nothing of `[uplink]` is read for it.
    fn unbelieved(&self, why: &CertificateError) -> (String, String) {
        match why {
            // The second: an authority of the same name has another key, as after it was replaced.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => (
                "its certificate is signed by no authority that this host believes for the console".into(),
                self.way.clone(),
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
                "its certificate has expired".into(),
                "renew it on the collector, and check this host's clock".into(),
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                ("its certificate is not valid yet".into(), "check this host's clock".into())
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
                format!("its certificate is for another name than {}", self.host),
                "give the console a certificate with that name (tls_cert_file in [api]), or enroll the host again at a name that is in it".into(),
            ),
            other => (
                format!("its certificate can't be used ({other:?})"),
                "give the console another one (tls_cert_file in [api])".into(),
            ),
        }
    }
}

fn client(url: &str, pin: Pin, others: Option<Authorities>) -> Result<ClientConfig, EnrolError> {
    let provider = Arc::new(crypto::default_provider());
    let unusable = |why: String| EnrolError::Untrusted { url: url.to_owned(), why, remedy: String::new() };
    let mut roots = RootCertStore::empty();
    let others = others.unwrap_or_else(|| rustls_native_certs::load_native_certs().certs);
    roots.add_parsable_certificates(others);
    let others = verifier(roots, &provider).ok();
    let believes = Believes { pin, others, provider: Arc::clone(&provider) };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(believes))
        .with_no_client_auth())
}

fn verifier(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| TlsError::General(error.to_string()))
}

/// Believes the pinned authority, and for certificates that aren't its own the other ones.
#[derive(Debug)]
struct Believes {
    pin: Pin,
    others: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl Believes {
    /// The pinned authority, as far as this chain shows it.
    fn authority(&self, chain: &[CertificateDer<'_>]) -> Option<CertificateDer<'static>> {
        match &self.pin {
            Pin::Authority(certificate) => Some(certificate.clone()),
            Pin::Nobody => None,
            Pin::Fingerprint(wanted) => chain
                .iter()
                .find(|certificate| digest(&SHA256, certificate).as_ref() == wanted)
                .map(|certificate| certificate.clone().into_owned()),
        }
    }
}

impl ServerCertVerifier for Believes {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let pinned = match self.authority(intermediates) {
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority)?;
                let own = ServerName::try_from(SERVER_NAME)
                    .map_err(|error| TlsError::General(error.to_string()))?;
                verifier(roots, &self.provider)?.verify_server_cert(
                    end_entity,
                    intermediates,
                    &own,
                    ocsp_response,
                    now,
                )
            }
            None => Err(TlsError::General(MISSING.into())),
        };
        let foreign = matches!(
            &pinned,
            Err(TlsError::General(_)
                | TlsError::InvalidCertificate(
                    CertificateError::UnknownIssuer | CertificateError::BadSignature
                ))
        );
        match (&self.others, pinned) {
            (Some(others), Err(first)) if foreign => others
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map_err(|error| match error {
                    TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => first,
                    other => other,
                }),
            (_, pinned) => pinned,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(url: &str) -> Result<Door, EnrolError> {
        Door::new(url, Pin::Fingerprint([0; 32]), None)
    }

    #[test]
    fn plain_text_stays_on_this_machine() {
        assert!(door("http://127.0.0.1:8420").unwrap().tls.is_none());
        assert!(door("https://collector.example:8420/").unwrap().tls.is_some());
        assert!(matches!(door("http://collector.example:8420"), Err(EnrolError::PlainText(_))));
        for url in [
            "collector",
            "ftp://a",
            "https://user@a",
            "https://a/console",
            "https://a/#/first",
            "https://a?x=1",
            "https://a#",
            "",
        ] {
            assert!(matches!(door(url), Err(EnrolError::Url(_))), "{url}");
        }
    }

    /// A port that says this to whoever connects, and closes.
    async fn answering(answer: &'static [u8]) -> u16 {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut link, _) = listener.accept().await.unwrap();
            // What was asked is read first: else the end is a reset.
            tokio::io::AsyncReadExt::read(&mut link, &mut [0; 4_096]).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut link, answer).await.unwrap();
        });
        port
    }

    #[tokio::test]
    async fn a_door_that_is_none_is_told_with_what_to_look_at() {
        let closed = {
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
            listener.local_addr().unwrap().port()
        };
        for (url, remedy) in [
            (format!("http://127.0.0.1:{}", answering(b"").await), "write https://"),
            (format!("http://127.0.0.1:{}", answering(b"\0\0\x12\x04\0").await), "write https://"),
            (format!("https://127.0.0.1:{}", answering(b"").await), "not the agents'?"),
            (
                format!("https://127.0.0.1:{}", answering(b"HTTP/1.1 400 Bad Request\r\n\r\n").await),
                "not the agents'?",
            ),
            (format!("https://127.0.0.1:{closed}"), "does the collector run"),
            ("https://no.such.host.invalid".to_owned(), "is the name right?"),
        ] {
            let said = door(&url).unwrap().ask("/", None).await.unwrap_err();
            assert!(matches!(&said, EnrolError::Connect { .. }), "{said:?}");
            assert!(said.to_string().contains(remedy), "{said}");
        }
    }

    #[test]
    fn the_gateway_is_beside_the_console() {
        assert_eq!(door("https://c:8420").unwrap().beside(8421, true), "https://c:8421");
        assert_eq!(door("http://[::1]:8420").unwrap().beside(8421, false), "http://[::1]:8421");
    }

    #[test]
    fn an_answer_is_taken_and_a_refusal_is_told_in_the_collectors_words() {
        let door = door("https://c:8420").unwrap();
        assert_eq!(door.read(200, None, b"{\"a\":1}").unwrap()["a"], 1);
        let refusal = br#"{"error":{"code":"x","message":"no","hint":"do that"}}"#;
        let said = door.read(403, None, refusal).unwrap_err().to_string();
        assert_eq!(said, "the collector refuses: no; do that");
        assert!(matches!(
            door.read(429, Some(7), refusal),
            Err(EnrolError::Later { after, .. }) if after == Duration::from_secs(7)
        ));
        assert!(matches!(door.read(200, None, b"<html>"), Err(EnrolError::Answer { .. })));
    }
}
