//! What each path does.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use jiff::tz::TimeZone;
use telemetry::{Cause, Origin, Position};
use xxhash_rust::xxh3::xxh3_128;

use super::answer::{self, Answer, Failure, Style};
use super::body::{self, BodyLimits};
use super::budget::Budget;
use super::config::HttpConfig;
use super::ingest::{self, Kind, Taken};
use super::keys::{Keys, Known};
use super::parameters::{self, Parameters};
use crate::admission::Tokens;
use crate::door::{Door, Refused};
use crate::intake::CachePool;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Longest idempotency key.
const MAX_KEY: usize = 255;

/// One service for all connections.
pub(super) struct Service {
    pub(super) door: Door,
    pub(super) tokens: Tokens,
    pub(super) keys: Arc<Keys>,
    budget: Arc<Budget>,
    limits: BodyLimits,
    zone: TimeZone,
    caches: CachePool,
}

impl Service {
    pub(super) fn new(
        config: &HttpConfig,
        door: Door,
        tokens: Tokens,
        keys: Arc<Keys>,
        zone: TimeZone,
    ) -> Self {
        let limits =
            BodyLimits { sent: config.max_body, decoded: config.max_decoded, time: config.body_timeout.0 };
        let budget = Budget::new(config.max_buffered, config.max_connections);
        Self { door, tokens, keys, budget, limits, zone, caches: CachePool::default() }
    }

    /// Answers one request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().trim_end_matches('/');
        let style = match path {
            "/write" | "/query" | "/ping" => Style::V1,
            "/api/v2/write" => Style::V2,
            _ => Style::Own,
        };
        let method = request.method();
        let post = method == Method::POST;
        let get = method == Method::GET || method == Method::HEAD;
        let result = match path {
            "/write" | "/api/v2/write" if post => self.write(request, Kind::Lines).await,
            "/v1/events" if post => self.write(request, Kind::Events).await,
            "/v1/samples" if post => self.write(request, Kind::Samples).await,
            "/query" if post || get => self.query(request).await,
            "/ping" if post || get => Ok(answer::no_content()),
            "/health" | "/" if get => Ok(self.health()),
            "/write" | "/api/v2/write" | "/v1/events" | "/v1/samples" => Err(wrong_method(path, "POST")),
            "/query" | "/ping" | "/health" | "/" => Err(wrong_method(path, "GET")),
            other => Err(Failure::new(
                StatusCode::NOT_FOUND,
                "not_found",
                format!("there is no {}", crate::rejects::excerpt(other.as_bytes())),
                "this agent has /write, /api/v2/write, /v1/events, /v1/samples, /ping and /health",
            )),
        };
        result.unwrap_or_else(|failure| answer::failure(style, &failure))
    }

    /// Takes readings in: 204 once they are on disk.
    async fn write(&self, request: Request<Incoming>, kind: Kind) -> Result<Answer, Failure> {
        let parameters = Parameters::of(request.uri().query());
        let sender = self.admit(&request, &parameters)?;
        let options =
            ingest::Options::new(kind, &parameters, &request).map_err(|failure| self.refused(failure))?;
        let key = self.key(&request, &sender)?;
        let traced = self.door.continued(traceparent(&request));
        let content = match body::read(request, self.limits, &self.budget).await {
            Ok(content) => content,
            Err(unreadable) => {
                if let Some(rejection) = &unreadable.rejection {
                    self.door.reject(rejection.cause, &rejection.reason, b"");
                }
                return Err(unreadable.failure);
            }
        };
        let claim = match key {
            Some(key) => Some(Claim::new(&self.keys, key, self.door.steady())?),
            None => None,
        };
        let work = || {
            self.caches.with(|cache| ingest::read(&content.bytes, &options, &self.door, cache, &self.zone))
        };
        let mut taken = body::heavy(content.bytes.len(), work)?;
        taken.trace(traced);
        drop(content);
        self.store(taken, claim, &options).await
    }

    async fn store(
        &self,
        mut taken: Taken,
        claim: Option<Claim<'_>>,
        options: &ingest::Options,
    ) -> Result<Answer, Failure> {
        let failure = taken.failure(options);
        if let Some(Claim { known: Some(position), key, .. }) = claim {
            // A resend: only its count is new. Its answer waits for the first send's readings.
            let readings = taken.readings();
            let mut counted = telemetry::Intake::new(self.door.input, self.door.now());
            counted.counts.add(Cause::Received, readings);
            counted.counts.add(Cause::Deduplicated, readings);
            let counted = self.door.submit(counted)?;
            self.durable(position.max(counted), Some(key)).await?;
            if let Some(failure) = failure {
                // As the first time: what was refused then is not here either.
                return Err(failure);
            }
            let mut answer = answer::no_content();
            answer.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
            return Ok(answer);
        }
        // Nothing of it is kept: it may come again, corrected.
        let claim = claim.filter(|_| !taken.is_refused());
        if let Some(claim) = &claim {
            // On the last one: where the key is, all of the request is.
            taken.last(&self.door).origin = Some(Origin::Http { key: claim.key });
        }
        let at = self.door.steady();
        let position = self.door.submit_all(taken.intakes)?;
        let claimed = claim.map(|claim| claim.taken(at, position));
        self.durable(position, claimed).await?;
        if let Some(key) = claimed {
            self.keys.keep(key, at, position, Duration::from_secs(5)).await;
        }
        match failure {
            Some(failure) => Err(failure),
            None => Ok(answer::no_content()),
        }
    }

    /// Waits for the disk. What will never be durable frees its key: the sender may try again.
    async fn durable(&self, position: Position, key: Option<u128>) -> Result<(), Failure> {
        self.door.durable(position).await.map_err(|refused| {
            if let (Refused::Broken(_), Some(key)) = (&refused, key) {
                self.keys.lost(key);
            }
            refused.into()
        })
    }

    /// Counts a request that was refused as a whole.
    fn refused(&self, failure: Failure) -> Failure {
        self.door.reject(Cause::RejectedSyntax, &failure.message, b"");
        failure
    }

    /// Who is it? A token in a header, a name and password, or InfluxDB 1's parameters u and p.
    fn admit(&self, request: &Request<Incoming>, parameters: &Parameters) -> Result<String, Failure> {
        let shown = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        if !self.tokens.required() {
            return Ok(String::new());
        }
        let (admitted, sender) = match shown {
            Some(header) => match parameters::credentials(header) {
                Some(parameters::Credentials::Token(token)) => (self.tokens.admits(&token), token),
                Some(parameters::Credentials::Pair(user, password)) => {
                    (self.tokens.admits_pair(&user, &password), user)
                }
                None => (false, Vec::new()),
            },
            None => match (parameters.get("u"), parameters.get("p")) {
                (Some(user), Some(password)) => {
                    (self.tokens.admits_pair(user.as_bytes(), password.as_bytes()), user.into())
                }
                _ => (false, Vec::new()),
            },
        };
        if admitted {
            // Only compared and hashed, never shown.
            return Ok(format!("{:032x}", xxh3_128(&sender)));
        }
        let reason =
            if shown.is_some() { "the token is not one of token_file's" } else { "no token was sent" };
        self.door.reject(Cause::RejectedForbidden, reason, b"");
        Err(Failure::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            reason,
            "send Authorization: Token <token>, Bearer <token>, or Basic with the token as password",
        ))
    }

    fn key(&self, request: &Request<Incoming>, sender: &str) -> Result<Option<u128>, Failure> {
        let Some(key) = request.headers().get(IDEMPOTENCY_KEY) else { return Ok(None) };
        if key.is_empty() || key.len() > MAX_KEY {
            let message = format!("an Idempotency-Key of {} bytes; 1 to {MAX_KEY} are taken", key.len());
            return Err(self.refused(Failure::invalid(message)));
        }
        Ok(Some(xxh3_128(&[sender.as_bytes(), b"\0", key.as_bytes()].concat())))
    }

    /// As much of InfluxDB 1's query language as its write clients need to start.
    async fn query(&self, request: Request<Incoming>) -> Result<Answer, Failure> {
        let parameters = Parameters::of(request.uri().query());
        self.admit(&request, &parameters)?;
        let form = request
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
        let query = match parameters.get("q") {
            Some(query) => query.to_owned(),
            None if form => {
                let limits = BodyLimits { sent: 64 << 10, decoded: 64 << 10, ..self.limits };
                let content = body::read(request, limits, &self.budget)
                    .await
                    .map_err(|unreadable| unreadable.failure)?;
                let form = Parameters::of(std::str::from_utf8(&content.bytes).ok());
                form.get("q").unwrap_or_default().to_owned()
            }
            None => String::new(),
        };
        let words: Vec<String> = query.split_whitespace().take(3).map(str::to_ascii_lowercase).collect();
        let words: Vec<&str> = words.iter().map(|word| word.trim_end_matches(';')).collect();
        let result = match words.as_slice() {
            ["create", "database" | "retention", ..] | ["alter", "retention", ..] => {
                serde_json::json!({ "statement_id": 0 })
            }
            ["show", "databases", ..] => serde_json::json!({
                "statement_id": 0,
                "series": [{ "name": "databases", "columns": ["name"], "values": [["telemetryx"]] }]
            }),
            _ => {
                return Err(Failure::invalid(
                    "this agent takes data in and answers only CREATE DATABASE and SHOW DATABASES: ask the collector for data",
                ));
            }
        };
        Ok(answer::json(StatusCode::OK, &serde_json::json!({ "results": [result] })))
    }

    fn health(&self) -> Answer {
        let usage = self.door.journal.usage();
        let trouble =
            usage.poisoned.or_else(|| usage.refusing.map(|what| format!("writes are refused: {what}")));
        let (status, word) = match &trouble {
            None => (StatusCode::OK, "pass"),
            Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "fail"),
        };
        let message = trouble.unwrap_or_else(|| "ready for writes".to_owned());
        let version = env!("CARGO_PKG_VERSION");
        let body = serde_json::json!({ "name": "telemetryx-agent", "status": word, "message": message, "version": version });
        answer::json(status, &body)
    }
}

/// As W3C wants it: of several none counts.
fn traceparent<B>(request: &Request<B>) -> Option<&[u8]> {
    let mut shown = request.headers().get_all("traceparent").iter();
    let first = shown.next()?;
    shown.next().is_none().then_some(first.as_bytes())
}

fn wrong_method(path: &str, allowed: &str) -> Failure {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("{path} takes {allowed}"),
        "use that method",
    )
}

/// A request's idempotency key while it is worked on. A claim that isn't kept is given back.
struct Claim<'k> {
    keys: &'k Keys,
    key: u128,
    /// Where the first send's readings are, when this is a resend.
    known: Option<u64>,
    open: bool,
}

impl<'k> Claim<'k> {
    fn new(keys: &'k Keys, key: u128, now: i64) -> Result<Self, Failure> {
        match keys.begin(key, now) {
            Known::New => Ok(Self { keys, key, known: None, open: true }),
            Known::Taken(position) => Ok(Self { keys, key, known: Some(position), open: false }),
            Known::InProgress => Err(Failure::unavailable(
                "another request with this Idempotency-Key is in progress",
                Duration::from_secs(1),
            )),
        }
    }

    fn taken(mut self, at: i64, position: u64) -> u128 {
        self.keys.taken(self.key, at, position);
        self.open = false;
        self.key
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.open {
            self.keys.gone(self.key);
        }
    }
}
