"""GET /api/v1/export/{kind}: samples, windows, rollups or events as a file, streamed from a reading process.

The process reads the store and encodes, the collector passes its bytes on as fast as the client takes them. When it fails
half-way the connection is broken off, so that no client takes a part for the whole.
"""

import asyncio
import importlib.util
import pickle
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson
import structlog
from aiohttp import web

from telemetryx.api import deadline
from telemetryx.api.errors import BadRequest, Handler, NotInstalled, Unavailable, no_selector
from telemetryx.api.models.fields import Selector, Text
from telemetryx.api.route import Model, Route, Time, read_params
from telemetryx.api.span import span
from telemetryx.api.times import NS, deleted, format_duration
from telemetryx.api.world import World
from telemetryx.errors import SelectorError, StoreError
from telemetryx.export.wanted import CONTENT_TYPES, ENDINGS, NEED_POLARS, Form, Kind, Wanted
from telemetryx.store.accounts import Role
from telemetryx.store.selector import parse
from telemetryx.types import Severity

log = structlog.get_logger(__name__)

PATH: Final = "/api/v1/export/{kind}"
MAX_AT_ONCE: Final = 2
WARNING: Final = "Telemetryx-Warning"
"""The header that has before a file what `warnings` has in a JSON answer."""
END_S: Final = 10.0
"""How long a reading process that was killed may take to be gone; then its place is given to the next all the same."""
_PIECE: Final = 64 << 10
_ENDING: Final[set[asyncio.Task[None]]] = set()
"""Reading processes that are being ended: the loop itself keeps no task."""


class ExportParams(Model):
    """What to export."""

    kind: Kind
    """samples, windows, rollups or events."""
    format: Form = "csv"
    """arrow (an IPC stream), parquet, csv or ndjson."""
    match: Selector | None = None
    """Series, as a selector; all when left out. Not for events."""
    agent: Text | None = None
    """Only this agent's."""
    start: Time | None = None
    """An hour before `end` when left out."""
    end: Time | None = None
    """Now when left out."""
    level: Literal["1m", "1h"] | None = None
    """Of rollups alone: `1m` when left out."""
    source: Text | None = None
    """Of events."""
    severity: Literal["trace", "debug", "info", "warn", "error", "fatal"] | None = None
    """Of events: this one and worse."""


def wanted_of(params: ExportParams, now_ns: int) -> Wanted:
    """Check what is asked for."""
    start, end = span(params.start, params.end, now_ns)
    events = params.kind == "events"
    if params.level is not None and params.kind != "rollups":
        raise BadRequest(f"{params.kind} have no `level`", "rollups have: leave it out, or export rollups")
    if events and params.match is not None:
        raise BadRequest("events have no `match`", "filter them by agent, source and severity")
    if not events and (params.source is not None or params.severity is not None):
        raise BadRequest(
            f"{params.kind} have neither `source` nor `severity`", "filter them by match and agent"
        )
    matchers = tuple(parse(params.match)) if params.match else ()
    severity = 0 if params.severity is None else Severity[params.severity.upper()]
    level = params.level or "1m"
    return Wanted(params.kind, start, end, matchers, params.agent, params.source, severity, level)


def endpoint(world: World) -> Handler:
    """Make the endpoint."""
    running = 0

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal running
        params = read_params(DECLARED, request, world)
        if not isinstance(params, ExportParams):
            raise TypeError(f"{params} are no parameters of an export")
        try:
            wanted = wanted_of(params, world.clock.now_ns())
        except SelectorError as error:
            raise no_selector(error) from error
        if params.format in NEED_POLARS and importlib.util.find_spec("polars") is None:
            raise NotInstalled(
                f"{params.format} needs Polars, which isn't installed beside this collector",
                "pip install 'telemetryx[sql]', or ask for csv or ndjson",
            )
        engine = getattr(world.store, "engine", None)
        if engine is None:
            raise NotInstalled("this store can't be read by another process", "use query_range")
        if running >= MAX_AT_ONCE:
            raise Unavailable(
                f"{running} exports run already", "try again when one has ended", retry_after=10
            )
        running += 1
        try:
            missing = await _missing(request, world, wanted)
            asked = pickle.dumps((engine, wanted, params.format))
            return await _stream(request, _Sending(asked, params, missing, world.limits.export_timeout_s))
        finally:
            running -= 1

    return handle


async def _missing(request: web.Request, world: World, wanted: Wanted) -> dict[str, str]:
    """Return the header that says what of an export's time its retention has taken: the file itself has no place for it."""
    try:
        async with deadline.until(request):
            horizon = await world.store.raw_horizon()
    except StoreError as error:
        if not error.retry:
            raise
        raise Unavailable(str(error), "try again in a moment", retry_after=1) from error
    return {WARNING: deleted(horizon)} if wanted.misses(horizon) else {}


async def _never(*_: object) -> object:
    """Stand for the handler in the declaration."""
    return None


DECLARED: Final = Route("GET", PATH, _never, Model, "Export as a file", "data", Role.VIEWER, ExportParams)
"""What reads the parameters, and what the reference says of them. Its answer is no JSON, so it isn't among the other routes."""


@dataclass(slots=True)
class _Sending:
    """An export on its way."""

    asked: bytes
    """What the reading process is told."""
    params: ExportParams
    headers: dict[str, str]
    seconds: float
    response: web.StreamResponse | None = None
    """Once a part of it is sent."""


async def _stream(request: web.Request, sending: _Sending) -> web.StreamResponse:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "telemetryx.export"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(sending.seconds):
            return await _passed_on(request, child, sending)
    except TimeoutError:
        took = f"the export took longer than {format_duration(int(sending.seconds * NS))} (export_timeout)"
        if sending.response is None:
            raise Unavailable(took, "ask for less", retry_after=10) from None
        return _broken_off(request, sending.response, sending.params, took)
    finally:
        # In a task of its own: who leaves, or is cut off, has this one cancelled.
        ending = asyncio.create_task(_end(child, sending.params))
        _ENDING.add(ending)
        ending.add_done_callback(_ENDING.discard)
        await asyncio.shield(ending)


async def _end(child: asyncio.subprocess.Process, params: ExportParams) -> None:
    """End the process, and read what it left in its pipes: asyncio takes it for ended when they are, and a full one is read no further by itself."""
    if child.returncode is None:
        with suppress(ProcessLookupError):
            child.kill()
    try:
        async with asyncio.timeout(END_S):
            await child.communicate()
    except TimeoutError:
        log.warning("export_does_not_end", kind=params.kind, pid=child.pid)


async def _passed_on(
    request: web.Request,
    child: asyncio.subprocess.Process,
    sending: _Sending,
) -> web.StreamResponse:
    params = sending.params
    given, out, said = child.stdin, child.stdout, child.stderr
    if given is None or out is None or said is None:
        raise TypeError("a reading process without pipes")
    with suppress(BrokenPipeError, ConnectionResetError):
        given.write(sending.asked)
        await given.drain()
    given.close()
    errors = asyncio.create_task(said.read())
    try:
        first = await out.read(_PIECE)
        if not first:
            code, text = await child.wait(), await errors
            if code:
                raise Unavailable(_reason(text), "try again, or ask for less", retry_after=10)
        name = f"{params.kind}.{ENDINGS[params.format]}"
        response = web.StreamResponse(
            headers={
                "Content-Type": CONTENT_TYPES[params.format],
                "Content-Disposition": f'attachment; filename="{name}"',
                **sending.headers,
            }
        )
        sending.response = response
        await response.prepare(request)
        piece = first
        while piece:
            await response.write(piece)
            piece = await out.read(_PIECE)
        code, text = await child.wait(), await errors
    finally:
        errors.cancel()
        await asyncio.gather(errors, return_exceptions=True)
    if code:
        return _broken_off(request, response, params, _reason(text))
    await response.write_eof()
    return response


def _broken_off(
    request: web.Request, response: web.StreamResponse, params: ExportParams, reason: str
) -> web.StreamResponse:
    """Let nobody take what was sent for the whole."""
    log.warning("export_failed", kind=params.kind, reason=reason)
    if request.transport is not None:
        request.transport.abort()
    return response


def _reason(text: bytes) -> str:
    """Read what the process said."""
    last = text.strip().splitlines()[-1:] or [b""]
    try:
        said: Any = orjson.loads(last[0])
        return str(said["error"])
    except (ValueError, KeyError, TypeError):
        log.warning("export_crashed", said=text[-2_000:].decode(errors="replace"))
        return "the export failed; the collector's log has the cause"
