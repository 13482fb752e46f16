//! `[input.tcp]`. The doc comments are the config reference.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admission::{AdmissionError, Gate};
use crate::span::Span;

/// Line protocol or JSON events, one a line, over plain TCP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TcpConfig {
    /// Address and port.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// What the lines are.
    pub format: Format,
    /// File with one token a line. Senders then begin with the line `AUTH <token>`. Needed off loopback.
    pub token_file: Option<PathBuf>,
    /// PEM file with the server's certificate and its chain. With `key_file` the port speaks TLS.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    pub key_file: Option<PathBuf>,
    /// Allow the port off loopback without TLS. Tokens and readings then cross the network readable.
    pub plaintext: bool,
    /// Longest line in bytes; a longer one is refused and passed over.
    pub max_line: usize,
    /// Most connections at a time; more are closed at once.
    pub max_connections: usize,
    /// How long a silent connection is kept; "0s" for ever.
    pub idle_timeout: Span,
    /// Unit of line protocol times: ns, us, ms or s.
    pub precision: String,
    /// Time zone of JSON times that are written without an offset, as an IANA name. Empty: this host's own.
    pub time_zone: String,
}

/// What the lines of a connection are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// JSON events where the first line begins with a brace, line protocol elsewhere.
    #[default]
    Auto,
    /// InfluxDB line protocol.
    LineProtocol,
    /// One JSON event a line.
    Ndjson,
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8187)),
            format: Format::Auto,
            token_file: None,
            cert_file: None,
            key_file: None,
            plaintext: false,
            max_line: 256 << 10,
            max_connections: 256,
            idle_timeout: Span::secs(0),
            precision: "ns".into(),
            time_zone: String::new(),
        }
    }
}

/// Why the TCP input can't run.
#[derive(Debug, thiserror::Error)]
pub enum TcpError {
    /// The port, its tokens or its certificate.
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    /// A value that can't work.
    #[error("{key} is {value}: {remedy}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it is set to.
        value: String,
        /// What to do.
        remedy: &'static str,
    },
}

impl TcpConfig {
    pub(crate) fn gate(&self) -> Gate<'_> {
        Gate {
            listen: self.listen,
            token_file: self.token_file.as_deref(),
            cert_file: self.cert_file.as_deref(),
            key_file: self.key_file.as_deref(),
            plaintext: self.plaintext,
        }
    }

    /// Reads the files that the section names, as each start does.
    ///
    /// # Errors
    /// [`TcpError`], naming the file and the remedy.
    pub fn files(&self) -> Result<(), TcpError> {
        Ok(self.gate().keys().map(drop)?)
    }

    /// Checks what types can't say.
    ///
    /// # Errors
    /// [`TcpError`], naming the key and the remedy.
    pub fn check(&self) -> Result<(), TcpError> {
        self.gate().check()?;
        let value = |key, value: String, remedy| Err(TcpError::Value { key, value, remedy });
        if self.max_line < 256 || self.max_line > 8 << 20 {
            return value("max_line", self.max_line.to_string(), "give 256 bytes to 8 MiB");
        }
        if !(1..=crate::MOST_CONNECTIONS).contains(&self.max_connections) {
            return value("max_connections", self.max_connections.to_string(), "give 1 to 1000000");
        }
        if !matches!(self.precision.as_str(), "ns" | "us" | "ms" | "s") {
            return value("precision", format!("{:?}", self.precision), "give ns, us, ms or s");
        }
        if !self.time_zone.is_empty() && jiff::tz::TimeZone::get(&self.time_zone).is_err() {
            return value(
                "time_zone",
                format!("{:?}", self.time_zone),
                "use an IANA name such as Europe/Berlin",
            );
        }
        Ok(())
    }
}
