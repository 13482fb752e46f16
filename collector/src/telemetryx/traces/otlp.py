"""Spans as an ExportTraceServiceRequest. Only who exports imports this: the messages are some MB of memory."""

from collections.abc import Mapping, Sequence

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2 as pb

from telemetryx import __version__
from telemetryx.traces.tracer import Span


def request(resource: Mapping[str, str], spans: Sequence[Span]) -> bytes:
    """Write the message for these spans of this process."""
    scope = InstrumentationScope(name="telemetryx-collector", version=__version__)
    of = pb.ResourceSpans(
        resource=Resource(attributes=[_pair(key, value) for key, value in resource.items()]),
        scope_spans=[pb.ScopeSpans(scope=scope, spans=[_span(span) for span in spans])],
    )
    return ExportTraceServiceRequest(resource_spans=[of]).SerializeToString()


def rejected(body: bytes) -> tuple[int, str]:
    """Read how many spans a receiver that answered with success did not take, and why."""
    try:
        partial = ExportTraceServiceResponse.FromString(body).partial_success
    except Exception:  # noqa: BLE001 - of whatever library it is: an answer that isn't one says nothing
        return 0, ""
    return max(partial.rejected_spans, 0), partial.error_message


def _span(span: Span) -> pb.Span:
    status = pb.Status(message=span.failed, code=pb.Status.STATUS_CODE_ERROR) if span.failed else None
    return pb.Span(
        trace_id=span.context.trace,
        span_id=span.context.span,
        parent_span_id=span.parent,
        flags=1,
        name=span.name,
        kind=int(span.kind),  # type: ignore[arg-type]  # the enum is a number on the wire
        start_time_unix_nano=max(span.start_ns, 0),
        end_time_unix_nano=max(span.end_ns, 0),
        attributes=[_pair(key, value) for key, value in span.attributes.items()],
        links=[pb.Span.Link(trace_id=link.trace, span_id=link.span, flags=1) for link in span.links],
        status=status,
    )


def _pair(key: str, value: int | str) -> KeyValue:
    held = AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)
    return KeyValue(key=key, value=held)
