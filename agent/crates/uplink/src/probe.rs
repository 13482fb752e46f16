//! One try of a way to the collector, step by step: name, connection, certificate, session; over gRPC, or over a site's
//! broker. It changes nothing there: the hello says that it is a probe, so the collector greets and ends the session without
//! a trace in its connection log, beside the agent's own session.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use telemetry::Epoch;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status};
use wire::v1::{self, from_agent, from_collector, link_client::LinkClient};

use crate::WIRE;
use crate::address::{Address, Carrier};
use crate::certificate::{Validity, validity};
use crate::config::{Identity, UplinkConfig};
use crate::endpoint;
use crate::error::{ConfigError, LinkError};
use crate::link::Way;
use crate::mqtt::Mqtt;
use crate::state::LinkState;

const ANSWER: Duration = Duration::from_secs(15);
/// Over a broker, who is sent away for so long is refused for good: somebody must change a configuration.
const FOR_GOOD_MS: u32 = 60_000;

/// How far it went; each step only when the one before it was passed.
#[derive(Clone, Debug, Default)]
pub struct ProbeReport {
    /// The config key of the address.
    pub key: &'static str,
    /// The address.
    pub url: String,
    /// The settings and the files that they name; an error ends the probe.
    pub settings: Option<Result<(), String>>,
    /// That is all that is wrong with them: the host has joined, and has no certificate yet.
    pub waits: bool,
    /// What the host's name stands for.
    pub addresses: Option<Result<Vec<SocketAddr>, String>>,
    /// Whether something accepts connections there, and how long that took.
    pub connection: Option<Result<Duration, String>>,
    /// Whether its certificate is trusted; `None` without TLS.
    pub tls: Option<Result<(), TlsRefused>>,
    /// Of the certificate it showed, trusted or not.
    pub certificate: Option<Validity>,
    /// What the collector said.
    pub session: Option<Result<Greeted, SessionRefused>>,
    /// True for a broker: name, connection and certificate are its own.
    pub broker: bool,
}

/// Why there is no TLS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsRefused {
    /// The certificate, or what is trusted.
    #[error("{0}")]
    Untrusted(String),
    /// It is of another host.
    #[error("{0}")]
    WrongHost(String),
    /// It has expired, or isn't valid yet, by this host's clock.
    #[error("{0}")]
    OutOfTime(String),
    /// What answers there speaks something else.
    #[error("what answers there speaks no TLS ({0})")]
    Plain(String),
    /// It ended, or said nothing.
    #[error("{0}")]
    Broken(String),
}

/// The collector's greeting.
#[derive(Clone, Debug, PartialEq)]
pub struct Greeted {
    /// Its version.
    pub collector: String,
    /// This host's clock minus the collector's, nanoseconds, the way there and back not counted.
    pub skew_ns: i64,
    /// From the hello to the greeting.
    pub round_trip: Duration,
}

/// Why there was none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionRefused {
    /// The token.
    #[error("the token is not accepted: {0}")]
    Token(String),
    /// This agent's certificate: expired, of another authority, or missing.
    #[error("{0}")]
    Certificate(String),
    /// This agent was revoked, or another host has taken its place.
    #[error("{0}")]
    Revoked(String),
    /// The name isn't this agent's.
    #[error("{0}")]
    Name(String),
    /// It speaks another version of the frames, or refuses the hello for good.
    #[error("the collector refuses this agent: {0}")]
    Refused(String),
    /// It is full, or shutting down.
    #[error("the collector takes no session now: {0}")]
    Later(String),
    /// The broker itself.
    #[error("the broker takes no session: {0}")]
    Broker(String),
    /// The broker does, and nobody behind it answers.
    #[error("the broker took the hello, and no collector answered within {} s", .0.as_secs())]
    Silent(Duration),
    /// It is no collector, or something between breaks the stream.
    #[error("no greeting came: {0}")]
    Broken(String),
}

/// Tries `url`, as far as it can. `wall` is this host's clock.
pub async fn probe(config: &UplinkConfig, identity: &Identity, wall: impl Fn() -> i64) -> ProbeReport {
    over("url", &config.url, config, identity, wall).await
}

/// The same with `fallback_url`, where there is one.
pub async fn probe_fallback(
    config: &UplinkConfig,
    identity: &Identity,
    wall: impl Fn() -> i64,
) -> Option<ProbeReport> {
    let url = config.fallback_url.as_ref()?;
    Some(over("fallback_url", url, config, identity, wall).await)
}

async fn over(
    key: &'static str,
    url: &str,
    config: &UplinkConfig,
    identity: &Identity,
    wall: impl Fn() -> i64,
) -> ProbeReport {
    let mut report = ProbeReport { key, url: url.to_owned(), ..ProbeReport::default() };
    let patience = Duration::from_secs(config.connect_timeout);
    let (address, carrier) = match settings(config, key, url, &identity.agent) {
        Ok(settings) => settings,
        Err(error) => {
            report.waits = matches!(error, ConfigError::Waits { .. });
            report.settings = Some(Err(error.to_string()));
            return report;
        }
    };
    report.settings = Some(Ok(()));
    report.broker = matches!(carrier, Way::Mqtt(_));
    let Address { host, port, tls, .. } = address;

    let looked_up = timeout(patience, tokio::net::lookup_host((host.as_str(), port))).await;
    let addresses = match looked_up {
        Ok(Ok(addresses)) => Ok(addresses.collect::<Vec<_>>()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer from the name service within {patience:?}")),
    };
    report.addresses = Some(addresses.clone());
    let Some(addresses) = addresses.ok().filter(|addresses| !addresses.is_empty()) else { return report };

    let begun = Instant::now();
    let stream = match timeout(patience, TcpStream::connect(&addresses[..])).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            report.connection = Some(Err(error.to_string()));
            return report;
        }
        Err(_) => {
            report.connection = Some(Err(format!("no answer within {patience:?}")));
            return report;
        }
    };
    report.connection = Some(Ok(begun.elapsed()));
    if tls {
        let carrier = if report.broker { Carrier::Mqtt } else { Carrier::Grpc };
        let name = config.name(carrier).unwrap_or(&host);
        let (trusted, certificate) = handshake(config, report.broker, name, stream, patience).await;
        report.tls = Some(trusted.clone());
        report.certificate = certificate;
        if trusted.is_err() {
            return report;
        }
    }
    report.session = Some(match carrier {
        Way::Grpc(gateway) => {
            let session = timeout(patience + ANSWER, greeting(&gateway, identity, &wall)).await;
            let late = || Err(SessionRefused::Broken(format!("nothing within {:?}", patience + ANSWER)));
            session.unwrap_or_else(|_| late())
        }
        Way::Mqtt(mut mqtt) => {
            let session = greeting_over_broker(&mut mqtt, identity, &wall).await;
            mqtt.leave().await;
            session
        }
    });
    report
}

/// Where an address leads, and what carries frames there.
fn settings(
    config: &UplinkConfig,
    key: &'static str,
    url: &str,
    agent: &str,
) -> Result<(Address, Way), ConfigError> {
    config.check()?;
    let address = Address::parse(key, url)?;
    let state = Arc::new(LinkState::new(&config.lanes));
    let way = Way::read(config, url, &address, agent, &state)?;
    Ok((address, way))
}

/// Whether the certificate is trusted, and what it is.
async fn handshake(
    config: &UplinkConfig,
    broker: bool,
    name: &str,
    stream: TcpStream,
    patience: Duration,
) -> (Result<(), TlsRefused>, Option<Validity>) {
    let shown = Arc::new(Mutex::new(None));
    let tls = match client(config, broker, Arc::clone(&shown)) {
        Ok(tls) => tls,
        Err(error) => return (Err(TlsRefused::Untrusted(error)), None),
    };
    let Ok(name) = ServerName::try_from(name.to_owned()) else {
        let why = format!("{name:?} is no name that a certificate could have: set uplink.server_name");
        return (Err(TlsRefused::Untrusted(why)), None);
    };
    let result = timeout(patience, TlsConnector::from(Arc::new(tls)).connect(name, stream)).await;
    let trusted = match result {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(no_tls(&error)),
        Err(_) => Err(TlsRefused::Broken(format!("no TLS answer within {patience:?}"))),
    };
    let certificate = shown.lock().as_deref().and_then(validity);
    (trusted, certificate)
}

/// What a failed handshake tells.
fn no_tls(error: &std::io::Error) -> TlsRefused {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        Some(TlsError::InvalidMessage(why)) => TlsRefused::Plain(format!("{why:?}")),
        Some(TlsError::InvalidCertificate(why)) => {
            let said = error.to_string();
            match why {
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    TlsRefused::WrongHost(said)
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => TlsRefused::OutOfTime(said),
                _ => TlsRefused::Untrusted(said),
            }
        }
        _ => TlsRefused::Broken(error.to_string()),
    }
}

fn client(
    config: &UplinkConfig,
    broker: bool,
    shown: Arc<Mutex<Option<Vec<u8>>>>,
) -> Result<ClientConfig, String> {
    let carrier = if broker { Carrier::Mqtt } else { Carrier::Grpc };
    let roots = crate::tls::roots(config, carrier).map_err(|error| error.to_string())?;
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| error.to_string())?;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Showing { verifier, shown }))
        .with_no_client_auth();
    if !broker {
        client.alpn_protocols = vec![b"h2".to_vec()];
    }
    Ok(client)
}

/// Verifies as the library does, and keeps the certificate that was shown: also one that is refused has dates to tell.
#[derive(Debug)]
struct Showing {
    verifier: Arc<WebPkiServerVerifier>,
    shown: Arc<Mutex<Option<Vec<u8>>>>,
}

impl ServerCertVerifier for Showing {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        *self.shown.lock() = Some(end_entity.to_vec());
        self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Says hello and waits for the greeting.
async fn greeting(
    gateway: &endpoint::Gateway,
    identity: &Identity,
    wall: &impl Fn() -> i64,
) -> Result<Greeted, SessionRefused> {
    let broken = |error: &(dyn std::error::Error + 'static)| {
        if let Some(why) = endpoint::refused(error) {
            return SessionRefused::Certificate(why);
        }
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        SessionRefused::Broken(text)
    };
    let channel = gateway.endpoint.connect().await.map_err(|error| broken(&error))?;
    let bearer = gateway.bearer.clone();
    let mut client = LinkClient::with_interceptor(channel, move |mut request: Request<()>| {
        if let Some(bearer) = &bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        Ok::<_, Status>(request)
    });
    let (outbox, frames) = tokio::sync::mpsc::channel(1);
    let begun = Instant::now();
    outbox.send(hello(identity, wall())).await.map_err(|error| broken(&error))?;
    let mut inbox = client.session(ReceiverStream::new(frames)).await.map_err(refused)?.into_inner();
    loop {
        let message = inbox.message().await.map_err(refused)?;
        let Some(message) = message else {
            return Err(SessionRefused::Broken("it closed the session".into()));
        };
        let Some(from_collector::Frame::Greeting(greeting)) = message.frame else { continue };
        return greeted(greeting, begun.elapsed(), wall());
    }
}

/// The same over a broker, which says nothing of who is behind it.
async fn greeting_over_broker(
    mqtt: &mut Mqtt,
    identity: &Identity,
    wall: &impl Fn() -> i64,
) -> Result<Greeted, SessionRefused> {
    let by_broker = |error: LinkError| match error {
        LinkError::Broker(why) => SessionRefused::Broker(why),
        other => SessionRefused::Broker(other.to_string()),
    };
    mqtt.connect().await.map_err(by_broker)?;
    let begun = Instant::now();
    let mut wires = mqtt.open(hello(identity, wall())).await.map_err(by_broker)?;
    let answer = async {
        loop {
            match wires.inbox.receive().await.map_err(by_broker)?.frame {
                Some(from_collector::Frame::Greeting(greeting)) => {
                    return greeted(greeting, begun.elapsed(), wall());
                }
                Some(from_collector::Frame::SlowDown(slow)) if slow.after_ms >= FOR_GOOD_MS => {
                    return Err(SessionRefused::Refused(slow.reason));
                }
                Some(from_collector::Frame::SlowDown(slow)) => {
                    return Err(SessionRefused::Later(slow.reason));
                }
                _ => {}
            }
        }
    };
    timeout(ANSWER, answer).await.unwrap_or(Err(SessionRefused::Silent(ANSWER)))
}

fn hello(identity: &Identity, wall_ns: i64) -> v1::FromAgent {
    let hello = v1::Hello {
        wire: WIRE,
        agent: identity.agent.clone(),
        version: identity.version.clone(),
        epoch: Epoch([0; 16]).0.to_vec(),
        next_seq: 1,
        boot_id: identity.boot.to_vec(),
        wall_ns,
        probe: true,
        ..v1::Hello::default()
    };
    v1::FromAgent { frame: Some(from_agent::Frame::Hello(hello)) }
}

fn greeted(greeting: v1::Greeting, round_trip: Duration, wall: i64) -> Result<Greeted, SessionRefused> {
    if greeting.wire != WIRE {
        let text = format!("it speaks wire version {}, this agent {WIRE}", greeting.wire);
        return Err(SessionRefused::Refused(text));
    }
    let halfway = i64::try_from(round_trip.as_nanos() / 2).unwrap_or(0);
    Ok(Greeted { collector: greeting.collector, skew_ns: wall - halfway - greeting.wall_ns, round_trip })
}

/// By the word that the collector gives beside its sentence.
fn refused(status: Status) -> SessionRefused {
    let text = status.message().to_owned();
    if let Some(why) = endpoint::refused(&status) {
        return SessionRefused::Certificate(why);
    }
    let cause = status.metadata().get("telemetryx-cause").and_then(|cause| cause.to_str().ok());
    match (cause, status.code()) {
        (Some("revoked"), _) => return SessionRefused::Revoked(text),
        (Some("agent" | "certificate"), _) => return SessionRefused::Name(text),
        _ => {}
    }
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => SessionRefused::Token(text),
        Code::FailedPrecondition | Code::InvalidArgument => SessionRefused::Refused(text),
        // What the collector says has no cause here; what became of the connection has.
        Code::Unavailable if status.source().is_none() => SessionRefused::Later(text),
        code => SessionRefused::Broken(format!("{code}: {text}")),
    }
}
