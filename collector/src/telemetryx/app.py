"""The collector, put together: this page is the diagram of the data flow, read from top to bottom.

    agents ═▶ gateway ─▶ ingest ─▶ store
                           │ after each commit: hub (live clients), delay, rules
                                                    rules ─▶ alerts ─▶ hub; the store's outbox ─▶ notify
    people ─▶ api ─▶ store, hub, rules
                 care ─▶ store ─▶ links ─▶ gateway ═▶ agents

Where several processes share a store (PostgreSQL), hub and rules hear of commits from a follower, which reads on by cursor
whoever committed; and rules, notify, upkeep and the site's broker run under leases: in one process at a time.

Only this module knows everybody. It makes the clock and the sockets, owns every task, and ends them in the direction of
the flow: first nobody new comes in, then what is inside is committed and judged, then the store closes.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp
import structlog

import telemetryx
from telemetryx import condition, doors
from telemetryx.api import server, session
from telemetryx.api.auth import Gate
from telemetryx.api.delay import Delay
from telemetryx.api.gather import Gather
from telemetryx.api.live.hub import Hub
from telemetryx.api.metrics import Metric, Registry
from telemetryx.api.peer import Peers
from telemetryx.api.times import NS
from telemetryx.api.world import Limits, ModelView, PartState, SignIn, World
from telemetryx.care.links import Links
from telemetryx.care.service import Care
from telemetryx.certificate import LOOK_S, Certificate
from telemetryx.clock import Clock, SystemClock
from telemetryx.config import Api, Settings
from telemetryx.enrolment.authority import AuthorityError
from telemetryx.errors import GatewayRefused, StoreError, StoreUnavailable
from telemetryx.gateway.server import Gateway
from telemetryx.hot.address import Address
from telemetryx.hot.interface import Hot, Wake
from telemetryx.hot.sharing import open_hot
from telemetryx.ingest.follow import Follower
from telemetryx.ingest.ingest import Ingest
from telemetryx.ingest.trial import Trial
from telemetryx.leases import Leases
from telemetryx.notify import Sender, Webhook, WebhookTarget
from telemetryx.place import ONLY, Place, PlaceError
from telemetryx.registry.versions import ModelRegistry
from telemetryx.rules.service import RulesService
from telemetryx.service import Service
from telemetryx.standing import Standing, StartError, rules_of, tokens_of
from telemetryx.store.accounts import digest
from telemetryx.store.alerts import Alert
from telemetryx.store.interface import Retention
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.cardinality import SeriesLimits
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.identity import identity
from telemetryx.store.tables.lease import Member
from telemetryx.store.tables.rules import StoredRules
from telemetryx.store.tables.store import TableStore
from telemetryx.tasks import Tasks
from telemetryx.traces import OFF, Tracer
from telemetryx.traces.export import Exporter, Target

log = structlog.get_logger(__name__)

CONSOLE: Final = Path(__file__).with_name("console")
#: Between looks at canaries and at requests that nobody answers.
UPKEEP_S: Final = 1.0
#: Samples that one piece of compaction takes on.
COMPACT_PIECE: Final = 700_000


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a started collector listens."""

    http: int
    grpc: int


async def run(
    settings: Settings,
    *,
    clock: Clock | None = None,
    stop: asyncio.Event | None = None,
    ready: Callable[[Addresses], None] = lambda _: None,
    place: Place = ONLY,
    again: Callable[[], Settings] | None = None,
) -> None:
    """Run a collector until `stop` is set or the process gets SIGTERM or SIGINT.

    At SIGHUP `again` reads the configuration anew. One that can't be used changes nothing; else the collector ends in order
    and starts with it, in this process, and with the one before should that fail.
    """
    stop = stop or asyncio.Event()
    stop_on_signals(stop)
    standing = Standing(settings, again, Service())
    standing.listen()
    while not stop.is_set():
        tried = standing.settings
        try:
            await _run_once(standing, clock or SystemClock(), stop, ready, place)
        except StartError as error:
            if not standing.back(tried, str(error)):
                raise
    log.info("collector_stopped")


async def _run_once(
    standing: Standing,
    clock: Clock,
    stop: asyncio.Event,
    ready: Callable[[Addresses], None],
    place: Place,
) -> None:
    """Run with one configuration, until the end or the next one."""
    settings, service = standing.settings, standing.service
    begun = asyncio.get_running_loop().time()
    starting = asyncio.create_task(service.starting())
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(starting.cancel)
        addresses = await stack.enter_async_context(started(settings, clock, place, standing))
        starting.cancel()
        took = asyncio.get_running_loop().time() - begun
        log.info(
            "collector_ready",
            version=telemetryx.__version__,
            http=f"{settings.api.host}:{addresses.http}",
            agents=f"{settings.gateway.host}:{addresses.grpc}",
            data_dir=str(settings.collector.data_dir),
            after_s=round(took, 3),
        )
        ready(addresses)
        if standing.started(settings):
            service.ready(
                f"{standing.trouble()}ready: HTTP on {settings.api.listen}, agents on {settings.gateway.listen}"
            )
        waiting = [asyncio.create_task(event.wait()) for event in (stop, standing.changed)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if stop.is_set():
            service.stopping()
        log.info("collector_stopping", reload=not stop.is_set())


async def _ingesting(ingest: Ingest, stop: asyncio.Event) -> None:
    """Run it until it was closed: that is the end that was asked for, also when it comes before `stop`."""
    await ingest.run()
    stop.set()


@contextlib.asynccontextmanager
async def started(  # noqa: PLR0915 - one page, from top to bottom the flow
    settings: Settings, clock: Clock, place: Place = ONLY, standing: Standing | None = None
) -> AsyncIterator[Addresses]:
    """Start every part in the direction of the flow; at the end stop them in the same direction."""
    grace_s = settings.collector.shutdown_timeout / NS
    tokens = tokens_of(settings.api)
    async with contextlib.AsyncExitStack() as stack:
        try:
            member = stack.enter_context(place.held(settings.collector.data_dir, clock.now_ns()))
        except PlaceError as error:
            raise StartError(str(error)) from error
        store = await _open_store(settings, clock, member)
        stack.push_async_callback(store.close)
        store.limit_series(SeriesLimits(settings.ingest.max_series_per_agent, settings.ingest.max_series))
        store.keep_plain_rows(settings.store.plain_rows)
        tasks = Tasks()
        stack.push_async_callback(tasks.join)
        leases = Leases(store, clock=clock)
        stack.push_async_callback(tasks.end, "leases", grace_s)
        _upkeep(tasks, store, settings, leases)

        # Ended late: what the others do at their end is traced too.
        tracer = _tracing(tasks, settings, clock, place)
        stack.push_async_callback(tasks.end, "tracing", grace_s)

        alerts = StoredRules(store)
        sender = Sender(alerts, clock, await _receivers(stack, settings), tracer=tracer)
        if sender.names:
            tasks.spawn("notify", leases.under("notify", sender.run))
            stack.push_async_callback(tasks.end, "notify", grace_s)

        rules = RulesService(
            store,
            alerts,
            clock,
            rules_of(settings),
            lateness_ns=settings.store.raw_retention,
            link_interval_ns=settings.rules.interval,
            receivers=sender.names,
            listening_since=leases.since_ns,
        )
        rules.trace_with(tracer)
        tasks.spawn("rules", leases.under("rules", rules.run))
        stack.push_async_callback(tasks.end, "rules", grace_s)

        ingest = Ingest(
            store,
            max_queue_bytes=settings.ingest.max_queue,
            max_group=settings.ingest.max_group,
            tracer=tracer,
        )
        tasks.spawn("ingest", partial(_ingesting, ingest))
        stack.push_async_callback(tasks.end, "ingest", grace_s)
        tasks.spawn("trial", Trial(store, ingest).run)
        stack.push_async_callback(tasks.end, "trial", grace_s)
        stack.push_async_callback(ingest.close)

        store_id = await store.write(identity)
        hot, wake = open_hot(clock, _redis(settings), settings.hot.namespace, store_id)
        tasks.spawn("hot", hot.run)
        stack.push_async_callback(tasks.end, "hot", grace_s)
        hub, delay = Hub(), Delay()
        metrics = Registry()
        metrics.add(lambda: condition.spans(tracer))
        ingest.subscribe(hot.feed)
        ingest.subscribe(delay.committed)
        rules.subscribe(sender.wake)
        if store.shared:
            if settings.hot.url is None:
                wake = _database_wake(store, wake)
            follower = Follower(store, wake, lambda: clock.mono_ns() / NS)
            _follow(follower, ingest, hub, rules, sender)
            metrics.add(lambda: [(Metric.HELD_BACK, [((), follower.held_s)])])
            tasks.spawn("wake", wake.run)
            tasks.spawn("follow", follower.run)
        else:
            ingest.subscribe(hub.committed)
            ingest.subscribe(rules.committed)
            rules.subscribe(hub.alerts)
        try:
            enrolment = doors.enrolment(settings, store, clock)
            certificates = doors.Certificates(settings, enrolment.authority, clock)
        except AuthorityError as error:
            raise StartError(f"[enroll] {error}") from error
        except doors.DoorError as error:
            raise StartError(str(error)) from error
        tasks.every("certificates", LOOK_S, certificates.look)
        metrics.add(lambda: doors.readings(enrolment))
        # Also a single collector: commands on its machine change the same store.
        tasks.spawn("enrolment", enrolment.watch)
        links = Links(store, clock)
        care = Care(store, clock, links.changed)
        metrics.add(
            lambda: [(Metric.CARE_REFUSED, [((cause,), float(n)) for cause, n in links.refused.items()])]
        )
        tasks.every("care", UPKEEP_S, care.upkeep, partial(leases.under, "care"))
        tasks.spawn("links", links.watch)
        stack.push_async_callback(tasks.end, "links", grace_s)
        # People are answered first; whoever waits until all is ready sends agents then.
        opening = [PartState("gateway", ready=False, reason="the agents' door is not open yet")]
        gather = Gather(store, rules, clock, enrolment, care.counts)
        metrics.add(lambda: [(Metric.LONGEST_WRITE, condition.longest(store))])
        for source in (
            gather.readings,
            delay.readings,
            lambda: condition.readings(store, ingest, hot, tasks, leases),
        ):
            metrics.add(source)
        world = World(
            store=store,
            judge=rules,
            clock=clock,
            limits=_limits(settings.api),
            hub=hub,
            delay=delay,
            metrics=metrics,
            gate=_gate(settings, tokens),
            started_ns=clock.now_ns(),
            readiness=lambda: [*condition.part_states(store, tasks, ingest, hot, leases), *opening],
            newest=hot.newest,
            fleetwide=hot.fleetwide,
            announce=ingest.announce,
            gather=gather.refresh,
            models=lambda: _models(settings),
            enrolment=enrolment,
            care=care,
            sign_in=await _sign_in(stack, settings),
        )
        # Known from the start, so that an open /metrics answers also when the store fails before anybody has asked.
        await world.gate.open(store.accounts)
        http = await _open_api(
            stack, settings, world, hot, grace_s, share=place.shared, certificate=certificates.api
        )
        await _offer_first(settings, world, http, place)

        try:
            config = doors.gateway_config(
                settings, place, f"{store_id:x}" if store.shared else "", certificates.gateway
            )
            gateway = Gateway(
                store,
                ingest,
                config,
                clock=clock,
                rate=hot.rate,
                turns=hot.turns,
                enrolment=enrolment,
                care=links,
            )
            grpc = await gateway.start()
        except GatewayRefused as error:
            raise StartError(str(error)) from error
        opening.clear()
        enrolment.gateway = doors.met(settings, grpc)
        gateway.subscribe(rules.wake)
        metrics.add(lambda: condition.door_readings(gateway))
        # Last in, first out: agents are let go before anything they send to is stopped.
        stack.push_async_callback(gateway.close, grace_s)
        if store.shared and gateway.site is not None:
            tasks.spawn("site", leases.under("site", gateway.serve_site))
            stack.push_async_callback(tasks.end, "site", grace_s)
        # The heartbeat begins when there is something to lease, and ends when all of it has ended.
        tasks.spawn("leases", leases.run)
        if standing is not None and standing.service.listens:

            def line() -> str:
                return standing.trouble() + condition.brief(
                    condition.part_states(store, tasks, ingest, hot, leases), gateway, hot, ingest
                )

            tasks.spawn("service", partial(standing.service.care, lambda: store.write(_nothing), line))
        yield Addresses(http, grpc)


def _nothing(_db: Database) -> None:
    """Be answered."""


# --- before the flow


async def _models(settings: Settings) -> Sequence[ModelView]:
    """Read the model registry; it blocks on its disk, so in a thread."""
    registry = ModelRegistry(settings.within(settings.models.dir))
    return [
        ModelView(row.name, row.version, row.state, row.created_ns, row.checksum, row.card)
        for row in await asyncio.to_thread(registry.list)
    ]


async def _open_store(settings: Settings, clock: Clock, member: Member) -> TableStore:
    kept, limit = settings.store, settings.ingest.future_limit
    if kept.url is not None:
        # asyncpg is 4 MB that a file doesn't need.
        from telemetryx.store.postgres.engine import PostgresEngine  # noqa: PLC0415
        from telemetryx.store.postgres.store import PostgresStore  # noqa: PLC0415

        engine = PostgresEngine(kept.url, kept.password_file)
        try:
            return await PostgresStore.open(
                engine, clock=clock, readers=kept.readers, future_limit_ns=limit, member=member
            )
        except StoreError as error:
            raise _unopened("the store", error) from error
    path = settings.within(kept.path)
    try:
        return await SqliteStore.open(
            path, clock=clock, readers=kept.readers, future_limit_ns=limit, member=member
        )
    except StoreError as error:
        raise _unopened(f"the store {path}", error) from error


def _unopened(what: str, error: StoreError) -> StartError:
    refusal = StartError(f"{what} can't be opened: {error}")
    if isinstance(error, StoreUnavailable):
        # Nothing is wrong with the configuration, and nothing is lost.
        refusal.hint = "start it again when that is mended; agents keep what they have meanwhile"
    return refusal


# --- the parts


def _database_wake(store: TableStore, otherwise: Wake) -> Wake:
    """Return what wakes this process through the database, where that can."""
    from telemetryx.store.postgres.engine import PostgresEngine  # noqa: PLC0415  only a database needs it
    from telemetryx.store.postgres.wake import PostgresWake  # noqa: PLC0415

    return PostgresWake(store.engine) if isinstance(store.engine, PostgresEngine) else otherwise


def _redis(settings: Settings) -> Address | None:
    hot = settings.hot
    if hot.url is None:
        return None
    return Address(hot.url, hot.user, hot.password_file, hot.ca_file, hot.timeout / NS)


def _follow(follower: Follower, ingest: Ingest, hub: Hub, rules: RulesService, sender: Sender) -> None:
    """Where other processes write to the store too, hear of what they commit."""
    follower.subscribe(hub.committed, lambda: len(hub) > 0)
    follower.subscribe(rules.committed, lambda: rules.judging)
    follower.subscribe_gaps(hub.gap)

    async def alerts(changed: Sequence[Alert]) -> None:
        hub.alerts(await rules.shown(changed))
        sender.wake()

    follower.subscribe_alerts(alerts)
    ingest.subscribe(follower.committed)


def _upkeep(tasks: Tasks, store: TableStore, settings: Settings, leases: Leases) -> None:
    """Work behind ingest: compaction and retention, in small pieces, both in one process."""
    kept = settings.store
    retention = Retention(
        raw_ns=kept.raw_retention,
        windows_ns=kept.raw_retention,
        rollup_1m_ns=kept.rollup_retention,
        rollup_1h_ns=kept.rollup_retention,
        events_ns=kept.event_retention,
        connections_ns=kept.event_retention,
        audit_ns=kept.audit_retention,
    )

    store.keep(retention)

    async def compact() -> bool:
        return (await store.compact(COMPACT_PIECE)).more

    async def retain() -> bool:
        if deleted := await store.retain(retention):
            log.info("retention_applied", rows=deleted)
        return False

    for name, interval, work in (
        ("compaction", kept.compact_interval, compact),
        ("retention", kept.retention_interval, retain),
    ):
        tasks.every(name, interval / NS, work, partial(leases.under, "upkeep"))


async def _receivers(stack: contextlib.AsyncExitStack, settings: Settings) -> list[Webhook]:
    hooks = settings.notify.webhook
    if not hooks:
        return []
    session = await stack.enter_async_context(aiohttp.ClientSession())
    return [
        Webhook(
            WebhookTarget.of(hook.url, hook.token_file, hook.timeout), session, settings.notify.external_url
        )
        for hook in hooks
    ]


async def _open_api(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    world: World,
    hot: Hot,
    grace_s: float,
    *,
    share: bool,
    certificate: Certificate | None,
) -> int:
    listen = settings.api
    config = server.Config(
        CONSOLE,
        listen.max_requests_per_second,
        bucket=hot.bucket,
        hsts=listen.hsts == "auto" and world.gate.secure,
    )
    app = server.create(world, config)
    try:
        tls = None if certificate is None else server.tls_context(certificate)
        runner, port = await server.listen(app, listen.host, listen.port, tls, grace_s, share=share)
    except server.ListenError as error:
        raise StartError(str(error)) from error
    stack.push_async_callback(runner.cleanup)
    stack.push_async_callback(server.close_live, app)
    return port


async def _sign_in(stack: contextlib.AsyncExitStack, settings: Settings) -> SignIn | None:
    try:
        return await doors.sign_in(stack, settings)
    except doors.DoorError as error:
        raise StartError(str(error)) from error


def _gate(settings: Settings, tokens: tuple[bytes, ...]) -> Gate:
    """On loopback only known names are served; off it TLS and the token guard, whatever the name."""
    listen = settings.api
    hosts = {name.lower() for name in listen.allowed_hosts}
    if listen.loopback:
        hosts |= {"localhost", "127.0.0.1", "::1", listen.host.lower()}
    return Gate(
        tokens,
        frozenset(hosts),
        listen.session_lifetime,
        # Behind a proxy that speaks TLS cookies are for TLS too.
        secure=listen.secure or doors.proxied(settings),
        closed=listen.closed,
        peers=Peers(listen.trusted_proxies),
    )


async def _offer_first(settings: Settings, world: World, port: int, place: Place) -> None:
    """Where nobody could get in, print a link that makes the first account: once, for an hour. Of several workers one does."""
    listen = settings.api
    if place.number != 1 or not world.gate.closed or (listen.token_file is not None and not listen.accounts):
        return
    code = secrets.token_urlsafe(session.BYTES)
    until_ns = world.clock.now_ns() + session.FIRST_LIFETIME_NS
    if not await world.store.accounts.offer_first(digest(code), until_ns):
        return
    # Not through the log: what is printed once must not be kept, shipped and searched.
    sys.stderr.write(
        "There is no account yet. Open this link within an hour to make the first one, an admin (it works once):\n"
        f"  {doors.own_url(settings, port)}/#/first?code={code}\n"
    )
    sys.stderr.flush()


def _limits(listen: Api) -> Limits:
    return Limits(
        max_body=listen.max_body,
        max_series=listen.max_query_series,
        max_points=listen.max_query_points,
        query_timeout_s=listen.query_timeout / NS,
        max_live_clients=listen.max_live_clients,
        export_timeout_s=listen.export_timeout / NS,
    )


def _tracing(tasks: Tasks, settings: Settings, clock: Clock, place: Place) -> Tracer:
    """Make the tracer, and spawn what exports its spans; without an endpoint there is neither."""
    told = settings.tracing
    if told.endpoint is None:
        return OFF
    tracer = Tracer(clock)

    def file(path: Path | None) -> Path | None:
        return None if path is None else settings.within(path)

    target = Target(
        told.endpoint, file(told.token_file), file(told.headers_file), file(told.ca_file), told.timeout / NS
    )
    host = socket.gethostname()
    resource = {
        "service.name": "telemetryx-collector",
        "service.version": telemetryx.__version__,
        "service.instance.id": f"{host}/{place.number}",
        "host.name": host,
    }
    tasks.spawn("tracing", Exporter(tracer, target, resource).run)
    return tracer


# --- around the flow


def stop_on_signals(stop: asyncio.Event) -> None:
    """Stop in order at the first signal; a second one doesn't wait (nothing acknowledged is lost by that)."""

    def ask(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # In a thread that isn't the main one (a test) signals aren't ours.
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
            loop.add_signal_handler(number, ask, number)
