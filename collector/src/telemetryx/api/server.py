"""Builds the aiohttp application from a `World` and the declared routes, and opens its listening socket.

A request passes, in this order: counting, its deadline, headers, errors in one shape, the peer's rate, the guard (Host, Origin,
token or session, role), the bound on work at once, then its endpoint. Nothing here knows a noun of the API.
"""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson
import structlog
from aiohttp import WSCloseCode, web
from aiohttp.typedefs import Middleware

from telemetryx import documented
from telemetryx.api import auth, columns_json, deadline, errors, export, limits, metrics, routes, static
from telemetryx.api.live.changes import Changes
from telemetryx.api.live.client import Client
from telemetryx.api.live.fleet import Fleet
from telemetryx.api.metrics import Metric, Reading
from telemetryx.api.oidc import pages
from telemetryx.api.prometheus import endpoints as prometheus
from telemetryx.api.rest import care, enroll
from telemetryx.api.route import Reply, Route, read_body, read_params
from telemetryx.api.world import World
from telemetryx.certificate import Certificate
from telemetryx.errors import QueryRefused, SelectorError, StoreError
from telemetryx.hot.interface import Limit
from telemetryx.hot.memory import Alone
from telemetryx.store.accounts import Role

log = structlog.get_logger(__name__)

#: Queries that run at once, and that wait for their turn; more get 503.
MAX_RUNNING: Final = 16
MAX_QUEUED: Final = 128
HEARTBEAT_S: Final = 30.0
MAX_MESSAGE: Final = 64 << 10
#: Longest request line: a selector or many ids. A longer one is refused by the parser, before any code of ours.
MAX_LINE: Final = 32 << 10


def alone(name: str, rate: float, burst: float, take: Callable[[str], float]) -> Limit:
    """Count in this process."""
    del name, rate, burst
    return Alone(take)


class ListenError(Exception):
    """The address can't be listened on; the message names it and the remedy."""


@dataclass(slots=True)
class Counts:
    """What the server counts about itself."""

    by_class: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def readings(self) -> list[tuple[Metric, list[Reading]]]:
        """Show them as metrics."""
        return [
            (Metric.REQUESTS, [((name,), float(count)) for name, count in sorted(self.by_class.items())]),
            (Metric.REQUEST_SECONDS, [((), self.seconds)]),
        ]


@dataclass(frozen=True, slots=True)
class Config:
    """How the server is to behave."""

    console: Path
    max_requests_per_second: float
    hsts: bool = False
    """Whether browsers are told to come with TLS from now on."""
    monotonic: Callable[[], float] = time.monotonic
    bucket: Callable[[str, float, float, Callable[[str], float]], Limit] = alone
    """Makes a limit of a name, tokens a second, a burst, and what counts in this process alone."""


@dataclass(slots=True)
class Sockets:
    """The live clients' connections."""

    open: set[web.WebSocketResponse] = field(default_factory=set)


_SOCKETS: Final = web.AppKey("sockets", Sockets)
ROLES: Final = web.AppKey("roles", auth.Roles)
RECHECK_S: Final = 15.0
"""How often a live client's session is looked at again though nobody changed anything: it may have run out."""
GATHER_S: Final = 5.0
"""How long /metrics waits for the numbers of the store: who scrapes waits ten seconds."""


def create(world: World, config: Config) -> web.Application:
    """Build the application. Its one background task (the fleet's watcher) starts and ends with it."""
    counts = Counts()
    world.metrics.add(counts.readings)
    world.metrics.add(lambda: _live(world))

    def bucket(name: str, rate: float, burst: float) -> Limit:
        return config.bucket(name, rate, burst, limits.Buckets(rate, burst, config.monotonic).take)

    asked = bucket("api", config.max_requests_per_second, 2 * config.max_requests_per_second)
    if world.enrolment is not None:
        world.enrolment.unproven = bucket("unproven", 5.0, 50.0)
        every_s = min(enroll.RENEWAL_S, world.enrolment.policy.lifetime_ns / 4e9)
        world.enrolment.renewals = bucket("renewals", 1 / every_s, enroll.RENEWALS)
    special = {enroll.JOINING: bucket("enroll", 5.0, 50.0), **dict.fromkeys(enroll.RENEWING)}
    roles = auth.Roles()
    app = web.Application(
        client_max_size=world.limits.max_body,
        middlewares=[
            _counting(counts),
            deadline.middleware(world.limits.query_timeout_s),
            static.secure_headers(hsts=config.hsts),
            prometheus.shape(),
            errors.middleware,
            limits.middleware(asked, world.gate.peers, special),
            prometheus.hurry(world.limits.max_body),
            auth.middleware(world.gate, world.store.accounts, roles),
            _bounded(world.limits.query_timeout_s),
        ],
    )
    app[ROLES] = roles
    for route in routes.ROUTES:
        endpoint = _endpoint(route, world)
        # Who only looks whether it is there (HEAD) hears what who reads it does: of /readyz above all.
        for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
            roles.declare(route.role, app.router.add_route(method, route.path, endpoint))
    roles.declare(Role.OPERATOR, app.router.add_get(care.ANSWER, care.answer(world), allow_head=False))
    for path, page in ((pages.LOGIN, pages.login), (pages.CALLBACK, pages.callback)):
        roles.declare(Role.ANYONE, app.router.add_get(path, page(world), allow_head=False))
    fleet, changes = Fleet(world.store, world.hub, world.clock), Changes(world.store)
    known = set(app.router.routes())
    app.router.add_get("/api/v1/live", _live_endpoint(world, fleet, changes))
    app.router.add_get(export.PATH, export.endpoint(world))
    app.router.add_get("/metrics", _metrics_endpoint(world))
    app.router.add_get("/openapi.json", _openapi_endpoint())
    prometheus.add(app, world)
    # All of these read, and nothing else.
    roles.declare(Role.VIEWER, *(route for route in app.router.routes() if route not in known))
    known = set(app.router.routes())
    app.router.add_get(auth.STATIC[:-1] + ":.*}", static.Static(config.console).handle)
    roles.declare(Role.ANYONE, *(route for route in app.router.routes() if route not in known))
    app.cleanup_ctx.append(_live_context(fleet, changes))
    app.cleanup_ctx.append(_password_context(world))
    return app


async def listen(
    app: web.Application,
    host: str,
    port: int,
    tls: ssl.SSLContext | None,
    shutdown_s: float,
    *,
    share: bool = False,
) -> tuple[web.AppRunner, int]:
    """Open the socket, which other processes may open too (`share`); return the runner (the caller ends it with `cleanup`) and the port it got."""
    runner = web.AppRunner(
        app, access_log=None, handle_signals=False, shutdown_timeout=shutdown_s, max_line_size=MAX_LINE
    )
    await runner.setup()
    site = web.TCPSite(runner, host, port, ssl_context=tls, backlog=256, reuse_port=share or None)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise ListenError(
            f"[api] can't listen on {host}:{port}: {error.strerror or error}; is another collector running? "
            "Stop it, or set `listen` in [api] to a free port"
        ) from error
    return runner, int(runner.addresses[0][1])


def tls_context(certificate: Certificate) -> ssl.SSLContext:
    """Show a certificate, and the one that takes its place, from TLS 1.2 on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    def load() -> None:
        certificate.load(context)

    load()
    certificate.subscribe(load)
    return context


def _endpoint(route: Route, world: World) -> errors.Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        params = read_params(route, request, world)
        given: list[Any] = [params]
        if route.body is not None:
            now_ns = world.clock.now_ns()
            most = min(world.limits.max_body, route.max_body or world.limits.max_body)
            given.append(await read_body(route.body, request, most, now_ns))
            deadline.again(request, world.limits.query_timeout_s)
        left = replace(world.limits, query_timeout_s=deadline.left_s(request))
        asked_of = replace(world, caller=request.get(auth.CALLER, world.caller), limits=left)
        try:
            async with deadline.until(request):
                answer = await route.handler(asked_of, *given)
        except SelectorError as error:
            raise errors.no_selector(error) from error
        except QueryRefused as error:
            raise errors.BadRequest(str(error), "ask for less, or more simply") from error
        except StoreError as error:
            if not error.retry:
                raise
            raise errors.Unavailable(str(error), "try again in a moment", retry_after=1) from error
        reply = answer if isinstance(answer, Reply) else Reply(answer)
        response = web.Response(
            status=reply.status,
            body=columns_json.dumps(reply.data),
            content_type="application/json",
        )
        if reply.prepare is not None:
            reply.prepare(response)
        if len(response.body or b"") > static.MIN_GZIP:  # type: ignore[arg-type]  # it is the bytes above
            response.enable_compression()
        return response

    return handle


def _live_endpoint(world: World, fleet: Fleet, changes: Changes) -> errors.Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        if request.query:
            raise errors.BadRequest(
                "the live stream takes no parameters", "send the subscription as a message"
            )
        if len(world.hub) >= world.limits.max_live_clients:
            raise errors.Unavailable(
                f"{len(world.hub)} live clients are connected already",
                "close one, or raise max_live_clients in [api]",
                retry_after=30,
            )
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MAX_MESSAGE)
        if not socket.can_prepare(request):
            raise errors.BadRequest("this is a WebSocket", "connect with a WebSocket client")
        await socket.prepare(request)
        request.app[_SOCKETS].open.add(socket)
        watching = asyncio.create_task(_while_admitted(request, world, socket, changes), name="live-session")
        try:
            await Client(world, fleet, socket).run()
        finally:
            request.app[_SOCKETS].open.discard(socket)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        return socket

    return handle


async def _while_admitted(
    request: web.Request, world: World, socket: web.WebSocketResponse, changes: Changes
) -> None:
    """End a live stream whose session ended, or whose token was revoked: it would go on for as long as it likes."""
    caller = request[auth.CALLER]
    with changes.watched():
        while not socket.closed:
            # Before the look: what changes during it is looked at once more.
            seen = changes.number
            with contextlib.suppress(StoreError):
                if not await world.gate.holds(caller, request, world.store.accounts):
                    await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"the session has ended")
            await changes.after(seen, RECHECK_S)


def _metrics_endpoint(world: World) -> errors.Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        del request
        # With a store that can't be read, or says nothing, the process's own numbers are shown still: that is when they are needed.
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(GATHER_S):
                await world.gather()
        return web.Response(
            body=world.metrics.exposition().encode(), headers={"Content-Type": metrics.CONTENT_TYPE}
        )

    return handle


@cache
def _document() -> bytes:
    """Make the API's document when somebody asks for it: it takes a sixth of what the whole start does, and megabytes."""
    made = orjson.dumps(routes.document())
    documented.forget()
    return made


def _openapi_endpoint() -> errors.Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        del request
        return web.Response(body=await asyncio.to_thread(_document), content_type="application/json")

    return handle


def _live_context(fleet: Fleet, changes: Changes) -> Callable[[web.Application], Any]:
    """Own the watchers of fleet and sessions, and close live clients when the server stops, so that it needn't wait for them."""

    async def context(app: web.Application) -> Any:  # noqa: ANN401  aiohttp's cleanup contexts are untyped generators
        app[_SOCKETS] = Sockets()
        tasks = [
            asyncio.create_task(fleet.run(), name="fleet"),
            asyncio.create_task(changes.run(), name="live-sessions"),
        ]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    return context


def _password_context(world: World) -> Callable[[web.Application], Any]:
    """End the threads that hash passwords."""

    async def context(app: web.Application) -> Any:  # noqa: ANN401  aiohttp's cleanup contexts are untyped generators
        del app
        yield
        world.passwords.close()

    return context


async def close_live(app: web.Application) -> None:
    """Tell every live client that the server goes away."""
    sockets = list(app[_SOCKETS].open)
    await asyncio.gather(
        *(socket.close(code=1001, message=b"the collector is stopping") for socket in sockets),
        return_exceptions=True,
    )


def _counting(counts: Counts) -> Middleware:
    @web.middleware
    async def count(request: web.Request, handler: errors.Handler) -> web.StreamResponse:
        begun = time.perf_counter()
        status = 500
        try:
            response = await handler(request)
            status = response.status
        finally:
            name = f"{status // 100}xx"
            counts.by_class[name] = counts.by_class.get(name, 0) + 1
            if status != 101:  # noqa: PLR2004  a WebSocket lasts as long as it likes
                counts.seconds += time.perf_counter() - begun
        return response

    return count


def _bounded(within_s: float) -> Middleware:
    running = asyncio.Semaphore(MAX_RUNNING)
    queued = 0

    @web.middleware
    async def bound(request: web.Request, handler: errors.Handler) -> web.StreamResponse:
        nonlocal queued
        # PromQL and exports have bounds of their own, and may take long: the console's requests don't wait behind them.
        ours = request.path.startswith("/api/") and not request.path.startswith("/api/v1/export/")
        if not ours or request.path == "/api/v1/live":
            return await handler(request)
        if queued >= MAX_QUEUED:
            raise errors.Unavailable(
                "too many requests wait for their turn", "try again in a moment", retry_after=1
            )
        queued += 1
        try:
            async with deadline.until(request):
                await running.acquire()
        except TimeoutError as error:
            raise errors.Unavailable(
                f"other requests took longer than {within_s:g} s: the store is slow, or doesn't answer",
                "try again in a moment",
                retry_after=1,
            ) from error
        finally:
            queued -= 1
        try:
            return await handler(request)
        finally:
            running.release()

    return bound


def _live(world: World) -> list[tuple[Metric, list[Reading]]]:
    return [
        (Metric.LIVE_CLIENTS, [((), float(len(world.hub)))]),
        (Metric.LIVE_DROPPED, [((), float(world.hub.dropped))]),
        (Metric.CURSOR, [((), float(world.hub.cursor))]),
    ]
