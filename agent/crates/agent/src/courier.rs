//! Posts one body to another program over HTTP/1.1, with TLS where its address says so, each on a connection of its own: for
//! what leaves an agent now and then beside the uplink. Every wait ends.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{HOST, HeaderMap, RETRY_AFTER};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::human::printable;

const MAX_ANSWER: usize = 64 << 10;

/// Where to, and how long it may take.
pub struct Courier {
    /// The whole address.
    pub uri: Uri,
    /// The host to connect to, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whom to trust there; `None` for plain HTTP.
    pub tls: Option<TlsConnector>,
    /// TCP and TLS, each.
    pub connect: Duration,
    /// A body on its way and its answer.
    pub exchange: Duration,
}

/// What an address consists of.
pub struct Address {
    /// As it was parsed.
    pub uri: Uri,
    /// Without brackets.
    pub host: String,
    /// As it says, or the scheme's.
    pub port: u16,
    /// Whether it says https.
    pub tls: bool,
    /// Whether it holds a user or a password.
    pub named: bool,
}

impl Address {
    /// Reads one; `None` for what is no address of HTTP.
    pub fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let (tls, port) = match uri.scheme_str()? {
            "https" => (true, 443),
            "http" => (false, 80),
            _ => return None,
        };
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let named = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        let port = uri.port_u16().unwrap_or(port);
        Some(Self { uri, host, port, tls, named })
    }
}

/// What was answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    pub status: u16,
    /// When to try again, if that was said.
    pub after: Option<Duration>,
    /// The beginning of the answer, as it can be shown.
    pub text: String,
    /// The answer.
    pub content: Bytes,
}

impl Courier {
    /// One try; the error is a sentence.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn post(&self, body: Bytes, headers: &HeaderMap) -> Result<Said, String> {
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let late = |_| format!("no connection within {} s", self.connect.as_secs());
        let stream =
            timeout(self.connect, connecting).await.map_err(late)?.map_err(|error| error.to_string())?;
        let Some(tls) = &self.tls else { return self.over(stream, body, headers).await };
        let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
        let late = |_| format!("no TLS handshake within {} s", self.connect.as_secs());
        let stream = timeout(self.connect, tls.connect(name, stream)).await.map_err(late)?;
        self.over(stream.map_err(|error| error.to_string())?, body, headers).await
    }

    async fn over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        body: Bytes,
        headers: &HeaderMap,
    ) -> Result<Said, String> {
        let exchange = async {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(whole)?;
            let request = self.request(body, headers)?;
            let answer = async {
                let answer = sender.send_request(request).await.map_err(whole)?;
                let status = answer.status().as_u16();
                let after = answer.headers().get(RETRY_AFTER);
                let after =
                    after.and_then(|after| after.to_str().ok()?.parse().ok()).map(Duration::from_secs);
                let content = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
                let content = content.map(|content| content.to_bytes()).unwrap_or_default();
                let text: String =
                    printable(String::from_utf8_lossy(&content).trim()).chars().take(300).collect();
                Ok(Said { status, after, text, content })
            };
            // The connection only moves while it is driven, and ends with the exchange. One that ends first may have brought the
            // answer before, or its end is told by the answer's error.
            tokio::pin!(connection, answer);
            tokio::select! {
                said = &mut answer => said,
                _ = &mut connection => answer.await,
            }
        };
        let late = |_| format!("no answer within {} s", self.exchange.as_secs());
        timeout(self.exchange, exchange).await.map_err(late)?
    }

    fn request(&self, body: Bytes, headers: &HeaderMap) -> Result<Request<Full<Bytes>>, String> {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let host = self.uri.authority().map_or(self.host.as_str(), |authority| authority.as_str());
        let request = Request::post(path).header(HOST, host).body(Full::new(body));
        let mut request = request.map_err(|error| error.to_string())?;
        request.headers_mut().extend(headers.clone());
        Ok(request)
    }
}

/// An error with what caused it: hyper's own say little.
fn whole(error: hyper::Error) -> String {
    match std::error::Error::source(&error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
