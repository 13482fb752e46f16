"""Spans reach the receiver, or are counted; nobody waits for it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from telemetryx.clock import SystemClock
from telemetryx.traces import OFF, Context, Kind, Tracer, export
from telemetryx.traces.export import Exporter, Target, TargetError

PARENT = Context(b"\x07" * 16, b"\x08" * 8)
OTHER = Context(b"\x09" * 16, b"\x01" * 8)


class Receiver:
    """Answers each request with the next of `answers`, then with 200."""

    def __init__(self) -> None:
        self.answers: list[web.Response] = []
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.came = asyncio.Event()
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        """Take a message."""
        self.requests.append(ExportTraceServiceRequest.FromString(await request.read()))
        self.headers.append(dict(request.headers))
        self.came.set()
        return self.answers.pop(0) if self.answers else web.Response()


@pytest.fixture(name="receiver")
async def _receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/v1/traces", receiver.take)
    server = TestServer(app)
    await server.start_server()
    receiver.url = str(server.make_url("")).rstrip("/")
    yield receiver
    await server.close()


def spans(tracer: Tracer, count: int) -> None:
    """End so many."""
    for _ in range(count):
        tracer.end(tracer.begin(PARENT, "commit", kind=Kind.CONSUMER, links=[OTHER]), attributes={"n": 3})


async def run(tracer: Tracer, target: Target, until: Callable[[], bool]) -> Exporter:
    """Run an exporter until something is so, then end it in order."""
    exporter = Exporter(tracer, target, {"service.name": "x"})
    stop = asyncio.Event()
    task = asyncio.create_task(exporter.run(stop))
    async with asyncio.timeout(60):
        while not until():
            await asyncio.sleep(0.01)
        stop.set()
        await task
    return exporter


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "EVERY_S", 0.01)
    monkeypatch.setattr(export, "FIRST_PAUSE_S", 0.01)


async def test_a_span_arrives_with_all_that_it_says(receiver: Receiver, tmp_path: Path) -> None:
    """Ids, kind, links, attributes; and the token of the file."""
    token, headers = tmp_path / "token", tmp_path / "headers"
    token.write_text("secret\n")
    headers.write_text("X-Scope: plant\n\n")
    for path in (token, headers):
        path.chmod(0o600)
    tracer = Tracer(SystemClock())
    spans(tracer, 1)
    await run(tracer, Target(receiver.url, token, headers), lambda: tracer.exported == 1)
    (of,) = receiver.requests[0].resource_spans
    (span,) = of.scope_spans[0].spans
    assert (span.trace_id, span.parent_span_id, len(span.span_id)) == (PARENT.trace, PARENT.span, 8)
    assert (span.name, int(span.kind), span.links[0].trace_id) == ("commit", 5, OTHER.trace)
    assert (span.attributes[0].key, span.attributes[0].value.int_value) == ("n", 3)
    assert span.end_time_unix_nano >= span.start_time_unix_nano > 0
    assert receiver.headers[0]["Authorization"] == "Bearer secret"
    assert receiver.headers[0]["X-Scope"] == "plant"


async def test_what_is_refused_for_now_is_sent_again(receiver: Receiver) -> None:
    """503 loses nothing."""
    receiver.answers = [web.Response(status=503), web.Response(status=429, headers={"Retry-After": "0"})]
    tracer = Tracer(SystemClock())
    spans(tracer, 2)
    await run(tracer, Target(receiver.url), lambda: tracer.exported == 2)
    assert (len(receiver.requests), tracer.dropped) == (3, 0)


async def test_what_is_never_taken_is_dropped_counted_and_said(receiver: Receiver) -> None:
    """401 says what to do."""
    receiver.answers = [web.Response(status=401)]
    tracer = Tracer(SystemClock())
    spans(tracer, 2)
    exporter = await run(tracer, Target(receiver.url), lambda: tracer.dropped == 2)
    assert "token_file" in exporter.trouble
    assert tracer.exported == 0


async def test_spans_that_a_receiver_refuses_are_not_counted_as_exported(receiver: Receiver) -> None:
    """A partial success names how many."""
    partial = ExportTracePartialSuccess(rejected_spans=1, error_message="too old")
    body = ExportTraceServiceResponse(partial_success=partial).SerializeToString()
    receiver.answers = [web.Response(body=body)]
    tracer = Tracer(SystemClock())
    spans(tracer, 3)
    await run(tracer, Target(receiver.url), lambda: tracer.exported == 2)
    assert tracer.dropped == 1


async def test_with_nobody_there_the_end_comes_in_time_and_all_is_counted() -> None:
    """Nothing listens: spans are dropped at the end, not waited for."""
    tracer = Tracer(SystemClock())
    spans(tracer, 5)
    exporter = await run(tracer, Target("http://127.0.0.1:1"), lambda: tracer.waiting == 0)
    assert (tracer.exported, tracer.dropped) == (0, 5)
    assert exporter.trouble


def test_a_tracer_that_is_off_makes_nothing() -> None:
    """And one that is full drops and counts."""
    assert OFF.begin(PARENT, "a") is None
    OFF.end(None)
    small = Tracer(SystemClock(), room=2)
    spans(small, 3)
    assert (small.waiting, small.dropped) == (2, 1)
    assert len(small.take(1)) == 1


def test_files_with_secrets_are_read_only_where_nobody_else_can(tmp_path: Path) -> None:
    """One that others can read is refused, and a line that is no header is named without its text."""
    path = tmp_path / "file"
    path.write_text("very secret")
    path.chmod(0o644)
    with pytest.raises(TargetError, match="chmod 600"):
        Target("http://127.0.0.1:1", token_file=path).headers()
    path.chmod(0o600)
    with pytest.raises(TargetError, match="line 1") as refused:
        Target("http://127.0.0.1:1", headers_file=path).headers()
    assert "very secret" not in str(refused.value)
    with pytest.raises(TargetError, match="can't be read"):
        Target("http://127.0.0.1:1", token_file=tmp_path / "none").headers()
