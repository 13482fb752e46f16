//! `[input.http]`. The doc comments are the config reference.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::budget;
use crate::admission::{AdmissionError, Gate};
use crate::span::Span;

/// Line protocol (`/write`, `/api/v2/write`), JSON events (`/v1/events`) and samples (`/v1/samples`) over HTTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Address and port.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// File with one token a line, or `user:password` for senders that know only those. Needed off loopback.
    pub token_file: Option<PathBuf>,
    /// PEM file with the server's certificate and its chain. With `key_file` the port speaks TLS.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    pub key_file: Option<PathBuf>,
    /// Allow the port off loopback without TLS. Tokens and readings then cross the network readable.
    pub plaintext: bool,
    /// Largest request body in bytes, as sent.
    pub max_body: usize,
    /// Largest request body in bytes, after decompression.
    pub max_decoded: usize,
    /// Bytes that all bodies together may take at a time; beyond, senders are told to come back. An eighth is kept for
    /// small bodies, in equal shares for `max_connections`. At least one and a half times `max_body` and `max_decoded`.
    pub max_buffered: usize,
    /// Most connections at a time; more are answered 503 and closed.
    pub max_connections: usize,
    /// How long a request's head may take.
    pub header_timeout: Span,
    /// How long a request's body may take.
    pub body_timeout: Span,
    /// How long a connection without a request is kept.
    pub idle_timeout: Span,
    /// Most `Idempotency-Key`s that are remembered; each for 24 hours.
    pub max_idempotency_keys: usize,
    /// Time zone of JSON times that are written without an offset, as an IANA name. Empty: this host's own.
    pub time_zone: String,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8186)),
            token_file: None,
            cert_file: None,
            key_file: None,
            plaintext: false,
            max_body: 16 << 20,
            max_decoded: 64 << 20,
            max_buffered: 128 << 20,
            max_connections: 512,
            header_timeout: Span::secs(10),
            body_timeout: Span::secs(60),
            idle_timeout: Span::secs(120),
            max_idempotency_keys: 1_000_000,
            time_zone: String::new(),
        }
    }
}

/// Why the HTTP input can't run.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
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
    /// The remembered idempotency keys.
    #[error("the remembered idempotency keys can't be used ({0}): is the agent's data_dir writable?")]
    Keys(String),
}

impl HttpConfig {
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
    /// [`HttpError`], naming the file and the remedy.
    pub fn files(&self) -> Result<(), HttpError> {
        Ok(self.gate().keys().map(drop)?)
    }

    /// Checks what types can't say.
    ///
    /// # Errors
    /// [`HttpError`], naming the key and the remedy.
    pub fn check(&self) -> Result<(), HttpError> {
        self.gate().check()?;
        let value = |key, value: usize, remedy| HttpError::Value { key, value: value.to_string(), remedy };
        for (key, number) in [("max_body", self.max_body), ("max_decoded", self.max_decoded)] {
            if number < 1024 {
                return Err(value(key, number, "give at least 1024 bytes"));
            }
        }
        if self.max_buffered < budget::least(self.max_body, self.max_decoded) {
            let remedy = "give at least one and a half times max_body and max_decoded together";
            return Err(value("max_buffered", self.max_buffered, remedy));
        }
        if !(1..=crate::MOST_CONNECTIONS).contains(&self.max_connections) {
            return Err(value("max_connections", self.max_connections, "give 1 to 1000000"));
        }
        for (key, span) in [
            ("header_timeout", self.header_timeout),
            ("body_timeout", self.body_timeout),
            ("idle_timeout", self.idle_timeout),
        ] {
            if span < Span::secs(1) {
                let remedy = "give at least 1s: a shorter one cuts off honest senders";
                return Err(HttpError::Value { key, value: span.to_string(), remedy });
            }
        }
        zone(&self.time_zone).map(drop)
    }
}

/// The zone of times without an offset.
pub(crate) fn zone(name: &str) -> Result<jiff::tz::TimeZone, HttpError> {
    if name.is_empty() {
        return Ok(jiff::tz::TimeZone::system());
    }
    jiff::tz::TimeZone::get(name).map_err(|_| HttpError::Value {
        key: "time_zone",
        value: format!("{name:?}"),
        remedy: "use an IANA name such as Europe/Berlin, and install tzdata where it is missing",
    })
}
