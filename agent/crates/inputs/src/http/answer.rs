//! Answers: one failure type, written in the form that the endpoint's clients read.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use crate::door::Refused;

/// What every handler gives back.
pub(super) type Answer = Response<Full<Bytes>>;

/// Whose clients read the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// InfluxDB 1: `{"error": "..."}`.
    V1,
    /// InfluxDB 2: `{"code": "...", "message": "..."}`.
    V2,
    /// Ours: `{"error": {"code", "message", "hint"}}`.
    Own,
}

/// Why a request wasn't done, or not all of it.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    /// A word for programs.
    pub(super) code: &'static str,
    /// What happened, with which value.
    pub(super) message: String,
    /// What to do.
    pub(super) hint: &'static str,
    pub(super) retry_after: Option<Duration>,
    /// Our style only: taken and refused readings.
    pub(super) partial: Option<Box<(u64, Vec<serde_json::Value>)>>,
}

impl Failure {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
        hint: &'static str,
    ) -> Self {
        Self { status, code, message: message.into(), hint, retry_after: None, partial: None }
    }

    /// Overload and trouble of ours: 503 and a time, the one answer on which no client drops data.
    pub(super) fn unavailable(message: impl Into<String>, retry_after: Duration) -> Self {
        let hint = "keep the data and send it again after Retry-After";
        let failure = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message, hint);
        Self { retry_after: Some(retry_after), ..failure }
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message, SMALLER)
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message, "correct it before sending again")
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        match refused {
            Refused::Busy { retry_after, .. } | Refused::DiskFull { retry_after } => {
                Self::unavailable(message, retry_after)
            }
            Refused::TooLarge => Self::too_large(message),
            Refused::Slow { .. } => Self::unavailable(message, Duration::from_secs(1)),
            Refused::Broken(_) => Self::unavailable(message, Duration::from_secs(10)),
        }
    }
}

/// What to do with too much at once. Who pipes a spool's export into here is told of the way that is made for it.
const SMALLER: &str = "send it in smaller pieces (`telemetryx-agent spool export --to URL` does)";
const VERSION: HeaderValue =
    HeaderValue::from_static(concat!("1.8.10-telemetryx-", env!("CARGO_PKG_VERSION")));
const INFLUX_VERSION: HeaderName = HeaderName::from_static("x-influxdb-version");
const INFLUX_ERROR: HeaderName = HeaderName::from_static("x-influxdb-error");

/// Done, nothing to say.
pub(super) fn no_content() -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer.headers_mut().insert(INFLUX_VERSION, VERSION);
    answer
}

/// A JSON document.
pub(super) fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(INFLUX_VERSION, VERSION);
    answer
}

/// A failure in the endpoint's form.
pub(super) fn failure(style: Style, failure: &Failure) -> Answer {
    // InfluxDB's forms have no place for a hint, and who meets this one needs it.
    let hinted = style != Style::Own && failure.status == StatusCode::PAYLOAD_TOO_LARGE;
    let message =
        &if hinted { format!("{}: {}", failure.message, failure.hint) } else { failure.message.clone() };
    let body = match style {
        Style::V1 => serde_json::json!({ "error": message }),
        Style::V2 => serde_json::json!({ "code": v2_code(failure), "message": message }),
        Style::Own => {
            let mut body = serde_json::json!({
                "error": { "code": failure.code, "message": message, "hint": failure.hint }
            });
            if let Some(partial) = &failure.partial {
                body["accepted"] = partial.0.into();
                body["rejected"] = partial.1.clone().into();
            }
            body
        }
    };
    let mut answer = json(failure.status, &body);
    let headers = answer.headers_mut();
    if style == Style::V1
        && let Ok(value) = HeaderValue::from_str(&header_text(message))
    {
        headers.insert(INFLUX_ERROR, value);
    }
    if let Some(after) = failure.retry_after {
        headers.insert(
            header::RETRY_AFTER,
            HeaderValue::from(after.as_millis().div_ceil(1000).clamp(1, 3600) as u64),
        );
    }
    if failure.status == StatusCode::UNAUTHORIZED {
        headers
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"telemetryx-agent\""));
    }
    answer
}

/// InfluxDB 2's words for what our codes say.
fn v2_code(failure: &Failure) -> &'static str {
    match failure.status {
        StatusCode::PAYLOAD_TOO_LARGE => "request too large",
        StatusCode::NOT_FOUND => "not found",
        StatusCode::METHOD_NOT_ALLOWED => "method not allowed",
        _ => failure.code,
    }
}

/// The beginning of a message that may stand in a header.
fn header_text(message: &str) -> String {
    message.chars().take(200).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}
