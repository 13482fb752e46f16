"""A receiver of OpenTelemetry's protocol, which keeps the spans that it was sent."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message


@dataclass(frozen=True)
class Span:
    """One span, with the name of the program that it came from."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    start_ns: int
    end_ns: int
    attributes: dict[str, str | int]
    links: list[str]
    failed: str


class Spans:
    """Answers every message with 200; `came` holds the spans in the order in which they came."""

    def __init__(self) -> None:
        """Listen on a free port."""
        came: list[Span] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                """Take a message."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces"
                came.extend(_read(ExportTraceServiceRequest.FromString(body)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.came = came
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def config(self) -> str:
        """The TOML that names it, for both programs."""
        return f'[tracing]\nendpoint = "http://127.0.0.1:{self._server.server_port}"\n'

    def of(self, trace: str, name: str = "") -> list[Span]:
        """Return the spans of a trace, each once: what is exported again after a crash has the same name."""
        found = {span.id: span for span in list(self.came) if span.trace == trace}
        return [span for span in found.values() if span.name == name or not name]

    def way(self, trace: str, last: str) -> list[str]:
        """Return the names of the spans from the first one to the last of a name; empty while one is missing."""
        found = {span.id: span for span in self.of(trace)}
        at = next((span for span in found.values() if span.name == last), None)
        names: list[str] = []
        while at is not None:
            names.insert(0, at.name)
            at, before = found.get(at.parent), at
            if at is None and before.name != "receive":
                return []
        return names

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(30)


def _read(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for of in request.resource_spans:
        service = str(_values(of.resource.attributes)["service.name"])
        for scope in of.scope_spans:
            for span in scope.spans:
                yield _span(service, span)


def _span(service: str, span: Message) -> Span:
    return Span(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _values(span.attributes),
        [link.trace_id.hex() for link in span.links],
        span.status.message,
    )


def _values(pairs: "Iterator[KeyValue] | object") -> dict[str, str | int]:
    return {
        pair.key: pair.value.int_value if pair.value.HasField("int_value") else pair.value.string_value
        for pair in pairs  # type: ignore[attr-defined]  # a repeated field has no type of its own in the stubs
    }
