"""The endpoints, and how their refusals look: {"status": "error", "errorType", "error"} with Prometheus' status codes."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

import telemetryx
from telemetryx.api import deadline, static
from telemetryx.api.errors import Handler, TooLarge
from telemetryx.api.prometheus import answer, params, ruleset
from telemetryx.api.prometheus.answer import Hold
from telemetryx.api.prometheus.params import MAX_POINTS, Params
from telemetryx.api.prometheus.share import Share
from telemetryx.api.prometheus.source import StoreSource
from telemetryx.api.prometheus.work import Busy, Deadline, Workers
from telemetryx.api.times import LAST_NS
from telemetryx.api.world import World
from telemetryx.errors import QueryRefused, StoreError
from telemetryx.promql.data import NS, Block, Bounds, Labels, Vector
from telemetryx.promql.errors import BadQuery, PromqlError
from telemetryx.promql.evaluate import LOOKBACK_NS, Query, evaluate
from telemetryx.promql.parse import parse, selector
from telemetryx.types import Series

log = structlog.get_logger(__name__)

PREFIX: Final = "/prometheus"
API: Final = f"{PREFIX}/api/v1"
#: What the API behaves like; clients choose by it what they may ask.
BEHAVES_LIKE: Final = "3.0.0"
STATUS: Final = {"bad_data": 400, "execution": 422, "timeout": 503, "unavailable": 503, "not_found": 404}
_KINDS: Final = {
    400: "bad_data",
    404: "not_found",
    405: "bad_data",
    429: "unavailable",
    503: "unavailable",
    500: "internal",
}
GRACE_S: Final = 0.2
FORM: Final = "application/x-www-form-urlencoded"
AT_HAND: Final = 1 << 16
"""Bytes of a body that the server keeps for whoever reads it."""
MAX_ALERTS: Final = 10_000
#: A time beyond all that may be asked for; an hour more still fits into 64 bits.
EVER_NS: Final = LAST_NS // 2

#: Names, and values of one label, that an answer lists,
MAX_NAMES: Final = 100_000
#: and series with all their labels.
MAX_LISTED: Final = 20_000

Ask = Callable[[World, Workers, Params], Awaitable[bytes]]
Listed = list[tuple[Series, Labels]]


def add(app: web.Application, world: World) -> None:
    """Mount the API; its threads end with the application."""
    workers = Workers()

    def endpoint(ask: Ask) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            asked = await params.read(request, world.limits.max_body)
            deadline.narrow(request, _seconds(world, asked))
            timed = replace(world, limits=replace(world.limits, query_timeout_s=deadline.left_s(request)))
            # Queries end by themselves before that, and say so as Prometheus does.
            async with asyncio.timeout(timed.limits.query_timeout_s + GRACE_S):
                return _response(await ask(timed, workers, asked))

        return _refusing(handle)

    for name, ask in _BOTH.items():
        app.router.add_get(f"{API}/{name}", endpoint(ask))
        app.router.add_post(f"{API}/{name}", endpoint(ask))
    for name, ask in _GET.items():
        app.router.add_get(f"{API}/{name}", endpoint(ask))

    async def values(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]

        def ask(world: World, workers: Workers, asked: Params) -> Awaitable[bytes]:
            return _label_values(world, workers, asked, name)

        return await endpoint(ask)(request)

    async def nothing(request: web.Request) -> web.StreamResponse:
        raise web.HTTPNotFound(text=f"there is nothing at {request.path}")

    app.router.add_get(API + "/label/{name}/values", values)
    app.router.add_get(f"{PREFIX}/-/healthy", _probe("TelemetryX is Healthy.\n"))
    app.router.add_get(f"{PREFIX}/-/ready", _probe("TelemetryX is Ready.\n"))
    app.router.add_route("*", PREFIX + "/{path:.*}", nothing)

    async def context(app: web.Application) -> AsyncIterator[None]:
        del app
        yield
        workers.close()

    app.cleanup_ctx.append(context)


def hurry(most: int) -> Middleware:
    """Let a query's own time-out hold from the beginning: a store that says nothing is first met where it is asked who asks.

    A form that is small is read for it: as much of it as lies in memory anyhow.
    """

    @web.middleware
    async def narrow(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(API + "/"):
            # What is wrong with it is said where it is read.
            with contextlib.suppress(PromqlError, TooLarge):
                async with deadline.until(request):
                    asked = await params.read(request, most) if _at_hand(request) else params.of_url(request)
                wanted = asked.duration("timeout")
                if wanted is not None:
                    deadline.narrow(request, max(0.0, wanted / NS))
        return await handler(request)

    return narrow


def _at_hand(request: web.Request) -> bool:
    small = request.content_length is not None and request.content_length <= AT_HAND
    return not request.can_read_body or (small and request.content_type == FORM)


def shape() -> Middleware:
    """Give refusals that others make (no token, too many requests) Prometheus' shape on this API's paths."""

    @web.middleware
    async def reshape(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if response.status < 400 or not request.path.startswith(PREFIX + "/"):  # noqa: PLR2004  below are no errors
            return response
        try:
            said = orjson.loads(response.body)["error"]  # type: ignore[attr-defined]
            kind = _KINDS.get(response.status, said["code"])
            message = f"{said['message']}; {said['hint']}" if said["hint"] else said["message"]
        except (AttributeError, KeyError, TypeError, ValueError):
            return response
        kept = {name: response.headers[name] for name in _KEPT if name in response.headers}
        return web.Response(
            status=response.status,
            body=answer.error(kind, message),
            content_type="application/json",
            headers=kept,
        )

    return reshape


_KEPT: Final = ("Retry-After", "WWW-Authenticate", "Allow")


def _refusing(handler: Handler) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except PromqlError as error:
            return _refusal(error.kind, str(error))
        except QueryRefused as error:
            return _refusal("execution", str(error))
        except Busy as error:
            return _refusal("unavailable", str(error), {"Retry-After": "1"})
        except StoreError as error:
            if not error.retry:
                raise
            return _refusal("unavailable", str(error), {"Retry-After": "1"})

    return handle


def _refusal(kind: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        status=STATUS.get(kind, 500),
        body=answer.error(kind, message),
        content_type="application/json",
        headers=headers,
    )


def _response(body: bytes) -> web.Response:
    response = web.Response(body=body, content_type="application/json")
    if len(body) > static.MIN_GZIP:
        response.enable_compression()
    return response


def _probe(said: str) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        del request
        return web.Response(text=said)

    return handle


# --- queries


async def _evaluated(world: World, workers: Workers, asked: Params, query: Query, *, ranged: bool) -> bytes:
    expression = parse(asked.get("query"))
    limit = asked.number("limit")
    loop = asyncio.get_running_loop()

    def evaluated(deadline: Deadline, share: Share) -> bytes:
        source = StoreSource(world.store, deadline.within, share.hold, share.release)
        bounds = Bounds(check=deadline.check, hold=share.hold, release=share.release)
        found = evaluate(expression, replace(query, bounds=bounds), source)
        warnings: list[str] = []
        written = (_ranged if ranged else _instant)(found, query, limit, warnings, share.hold)
        return answer.success(written, [*warnings, *sorted(source.warnings)], sorted(source.infos))

    def work(deadline: Deadline) -> bytes:
        share = Share(world.budget, deadline, loop)
        try:
            return evaluated(deadline, share)
        finally:
            share.end()

    return await workers.run(work, _seconds(world, asked))


def _instant(
    found: Any,  # noqa: ANN401  any value
    query: Query,
    limit: int,
    warnings: list[str],
    hold: Hold,
) -> list[bytes]:
    time_ns = int(query.times[0])
    if isinstance(found, Block):
        return answer.samples(found, limit, warnings, hold)
    if isinstance(found, Vector):
        return answer.vector(found, time_ns, limit, warnings)
    if isinstance(found, str):
        return answer.string(found, time_ns)
    return answer.scalar(float(found[0]), time_ns)


def _ranged(
    found: Any,  # noqa: ANN401  any value
    query: Query,
    limit: int,
    warnings: list[str],
    hold: Hold,
) -> list[bytes]:
    if isinstance(found, Block | str):
        kind = "range vector" if isinstance(found, Block) else "string"
        raise BadQuery(
            f'invalid parameter "query": invalid expression type "{kind}" for range query, must be Scalar or instant Vector'
        )
    if not isinstance(found, Vector):
        found = Vector([()], found[None], np.ones((1, len(found)), np.bool_))
    return answer.matrix(found, query.times, limit, warnings, hold)


async def _query(world: World, workers: Workers, asked: Params) -> bytes:
    time_ns = asked.time("time", world.clock.now_ns())
    query = Query(np.array([time_ns], np.int64), _lookback(asked))
    return await _evaluated(world, workers, asked, query, ranged=False)


async def _query_range(world: World, workers: Workers, asked: Params) -> bytes:
    for name in ("start", "end", "step"):
        if not asked.get(name):
            raise BadQuery(f'invalid parameter "{name}": it is missing')
    start, end, step = asked.time("start", 0), asked.time("end", 0), asked.duration("step")
    if end < start:
        raise BadQuery('invalid parameter "end": end timestamp must not be before start time')
    if step is None or step <= 0:
        raise BadQuery(
            'invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a positive integer'
        )
    if (end - start) // step > MAX_POINTS:
        raise BadQuery(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)"
        )
    query = Query(np.arange(start, end + 1, step, dtype=np.int64), _lookback(asked), end_ns=end)
    return await _evaluated(world, workers, asked, query, ranged=True)


def _lookback(asked: Params) -> int:
    found = asked.duration("lookback_delta")
    if found is not None and not 0 < found <= 86_400 * NS:
        raise BadQuery('invalid parameter "lookback_delta": it must be longer than 0 and at most a day')
    return found or LOOKBACK_NS


def _seconds(world: World, asked: Params) -> float:
    wanted = asked.duration("timeout")
    most = world.limits.query_timeout_s
    return most if wanted is None else max(0.0, min(most, wanted / NS))


# --- what there is


async def _listed(
    world: World, workers: Workers, asked: Params, least: int, take: Callable[[Listed], bool]
) -> None:
    """Give the series that meet one of the selectors and may have data in the time that is asked for, until no more are taken."""
    groups = [group for text in asked.all("match[]") for group in selector(text)]
    if len(asked.all("match[]")) < least:
        raise BadQuery("no match[] parameter provided")
    start, end = asked.time("start", -EVER_NS), asked.time("end", EVER_NS)
    ever = not (asked.get("start") or asked.get("end"))

    def work(deadline: Deadline) -> None:
        for page in StoreSource(world.store, deadline.within).pages(groups or [()]):
            some = page
            if not ever and page:
                ids = [row.id for row, _ in page]
                there = deadline.within(world.store.present(ids, start, end + 1))
                some = [one for one in page if one[0].id in there]
            if not take(some):
                return

    await workers.run(work, _seconds(world, asked))


async def _names(
    world: World, workers: Workers, asked: Params, names_of: Callable[[Labels], Iterable[str]]
) -> bytes:
    """List what series are called, or one of their labels is."""
    found: set[str] = set()

    def take(page: Listed) -> bool:
        found.update(name for _, labels in page for name in names_of(labels))
        return len(found) <= MAX_NAMES

    await _listed(world, workers, asked, 0, take)
    warnings: list[str] = []
    limit = _least(asked.number("limit"), MAX_NAMES)
    # So many take a while to sort.
    listed = await asyncio.to_thread(params.cut, found, limit, warnings)
    return answer.success(orjson.dumps(listed), warnings)


async def _labels(world: World, workers: Workers, asked: Params) -> bytes:
    return await _names(world, workers, asked, lambda labels: (name for name, _ in labels))


async def _label_values(world: World, workers: Workers, asked: Params, name: str) -> bytes:
    wanted = params.unescaped(name)
    return await _names(
        world, workers, asked, lambda labels: (value for key, value in labels if key == wanted)
    )


async def _series(world: World, workers: Workers, asked: Params) -> bytes:
    there: dict[int, Labels] = {}

    def take(page: Listed) -> bool:
        there.update((row.id, labels) for row, labels in page)
        return len(there) <= MAX_LISTED

    await _listed(world, workers, asked, 1, take)
    found, warnings = sorted(there.values()), []
    limit = _least(asked.number("limit"), MAX_LISTED)
    if len(found) > limit:
        found, warnings = found[:limit], [answer.TRUNCATED]
    return answer.success(orjson.dumps([dict(labels) for labels in found]), warnings)


def _least(limit: int, most: int) -> int:
    """Return how many are given: as many as are asked for, 0 for all, and never more than that."""
    return min(limit or most, most)


async def _metadata(world: World, workers: Workers, asked: Params) -> bytes:
    """Units, and what can be told of types: a name that ends in _total is a counter, in Prometheus' own convention."""
    wanted, limit = asked.get("metric"), _least(asked.number("limit"), MAX_NAMES)
    units: dict[str, Counter[str]] = {}

    def take(page: Listed) -> bool:
        for row, _ in page:
            if not wanted or row.name == wanted:
                units.setdefault(row.name, Counter())[row.unit] += 1
        return len(units) <= MAX_NAMES

    await _listed(world, workers, Params(()), 0, take)
    warnings: list[str] = []
    described = {
        name: [
            {
                "type": "counter" if name.endswith("_total") else "unknown",
                "help": "",
                "unit": units[name].most_common(1)[0][0],
            }
        ]
        for name in params.cut(units, limit, warnings)
    }
    return answer.success(orjson.dumps(described), warnings)


async def _exemplars(world: World, workers: Workers, asked: Params) -> bytes:
    del world, workers, asked
    return answer.document([])


async def _buildinfo(world: World, workers: Workers, asked: Params) -> bytes:
    del world, workers, asked
    return answer.document(
        {
            "version": BEHAVES_LIKE,
            "revision": "",
            "branch": "",
            "buildUser": f"telemetryx {telemetryx.__version__}",
            "buildDate": "",
            "goVersion": "",
        }
    )


async def _rules(world: World, workers: Workers, asked: Params) -> bytes:
    del workers
    wanted = ruleset.Wanted.read(asked)
    rules, (found, warnings) = await asyncio.gather(world.judge.rules(), _open_alerts(world))
    return answer.document({"groups": ruleset.groups(rules, found, wanted)}, warnings)


async def _alerts(world: World, workers: Workers, asked: Params) -> bytes:
    del workers, asked
    found, warnings = await _open_alerts(world)
    return answer.document({"alerts": ruleset.alerts(found)}, warnings)


async def _open_alerts(world: World) -> tuple[Sequence[Mapping[str, Any]], list[str]]:
    """Return the alerts that stand, and whether these are all."""
    found = await world.judge.alerts("open", limit=MAX_ALERTS + 1)
    if len(found) <= MAX_ALERTS:
        return found, []
    return found[:MAX_ALERTS], [f"there are more than {MAX_ALERTS} open alerts: the others are left out"]


_BOTH: Final[dict[str, Ask]] = {
    "query": _query,
    "query_range": _query_range,
    "labels": _labels,
    "series": _series,
    "query_exemplars": _exemplars,
}
_GET: Final[dict[str, Ask]] = {
    "metadata": _metadata,
    "status/buildinfo": _buildinfo,
    "rules": _rules,
    "alerts": _alerts,
}
