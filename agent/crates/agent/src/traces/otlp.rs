//! Spans as OTLP's `ExportTraceServiceRequest`.
//!
//! The few messages and fields that are used, by hand after opentelemetry-proto 1.7 (`opentelemetry/proto/trace/v1/trace.proto`,
//! `common/v1/common.proto`, `resource/v1/resource.proto`, `collector/trace/v1/trace_service.proto`): the crate of that
//! name brings logs, metrics and profiles into the program. Field numbers are theirs; a test of the collector's reads what is written here.

use prost::{Message, Oneof};
use telemetry::trace::{Context, Span, Value};

#[derive(Clone, PartialEq, Message)]
struct ExportTraceServiceRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<InstrumentationScope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<OtlpSpan>,
}

#[derive(Clone, PartialEq, Message)]
struct InstrumentationScope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct OtlpSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "13")]
    links: Vec<Link>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Link {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(fixed32, tag = "6")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Held", tags = "1, 3")]
    value: Option<Held>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Held {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

#[derive(Clone, PartialEq, Message)]
struct ExportTraceServiceResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// `STATUS_CODE_ERROR`.
const ERROR: i32 = 2;
/// The trace is sampled.
const SAMPLED: u32 = 1;

/// Whose spans these are.
#[derive(Clone, Debug, Default)]
pub struct Whose {
    /// The agent's name.
    pub agent: String,
    /// Its version.
    pub version: String,
    /// The host's name.
    pub host: String,
}

/// Writes the message.
pub fn request(whose: &Whose, spans: &[Span]) -> Vec<u8> {
    let Whose { agent, version, host } = whose;
    let of = |key: &str, value: &str| pair(key, Held::Text(value.to_owned()));
    let resource = Resource {
        attributes: vec![
            of("service.name", "telemetryx-agent"),
            of("service.version", version),
            of("service.instance.id", agent),
            of("host.name", host),
        ],
    };
    let scope = InstrumentationScope { name: "telemetryx-agent".into(), version: version.clone() };
    let spans = spans.iter().map(|span| written(span, agent)).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

/// How many spans a receiver that answered with success did not take, and why. An answer that is none says nothing.
pub fn rejected(answer: &[u8]) -> (u64, String) {
    let partial = ExportTraceServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
    let PartialSuccess { rejected_spans, error_message } = partial.unwrap_or_default();
    (u64::try_from(rejected_spans).unwrap_or(0), error_message)
}

fn written(span: &Span, agent: &str) -> OtlpSpan {
    let Span { context, parent, name, kind, start, end, failed, attributes, links } = span;
    let held = |value: &Value| match value {
        Value::Number(number) => Held::Number(i64::try_from(*number).unwrap_or(i64::MAX)),
        Value::Text(text) => Held::Text(text.clone()),
    };
    let own = attributes.iter().map(|(key, value)| pair(key, held(value)));
    let link = |Context { trace, span }: &Context| Link {
        trace_id: trace.to_vec(),
        span_id: span.to_vec(),
        flags: SAMPLED,
    };
    OtlpSpan {
        trace_id: context.trace.to_vec(),
        span_id: context.span.to_vec(),
        parent_span_id: if *parent == [0; 8] { Vec::new() } else { parent.to_vec() },
        name: (*name).to_owned(),
        kind: *kind as i32,
        start_time_unix_nano: u64::try_from(*start).unwrap_or(0),
        end_time_unix_nano: u64::try_from(*end).unwrap_or(0),
        attributes: std::iter::once(pair("telemetryx.agent", Held::Text(agent.to_owned())))
            .chain(own)
            .collect(),
        links: links.iter().map(link).collect(),
        status: failed.clone().map(|message| Status { message, code: ERROR }),
        flags: SAMPLED,
    }
}

fn pair(key: &str, value: Held) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_says_how_many_it_did_not_take() {
        let partial = PartialSuccess { rejected_spans: 3, error_message: "too old".into() };
        let answer = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        assert_eq!(rejected(&answer), (3, "too old".to_owned()));
        assert_eq!(rejected(b""), (0, String::new()));
        assert_eq!(rejected(b"<html>"), (0, String::new()));
    }

    #[test]
    fn a_span_without_a_parent_has_none_in_the_message() {
        let context = Context { trace: [1; 16], span: [2; 8] };
        let mut span = Span::within(Context { span: [0; 8], ..context }, context, "receive", -1);
        span.failed = Some("why".into());
        let sent = ExportTraceServiceRequest::decode(&request(&Whose::default(), &[span])[..]).unwrap();
        let read = &sent.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!((read.parent_span_id.len(), read.start_time_unix_nano, read.kind), (0, 0, 1));
        assert_eq!(read.status.as_ref().unwrap().code, 2);
    }
}
