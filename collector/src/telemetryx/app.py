"""The collector, put together: this page is the diagram of the data flow, read from top to bottom.

    agents ═▶ gateway ─▶ ingest ─▶ store
                           │ after each commit: hub (live clients), delay, rules
                                                    rules ─▶ alerts ─▶ hub; the store's outbox ─▶ notify
    people ─▶ api ─▶ store, hub, rules

Only this module knows everybody. It makes the clock and the sockets, owns every task, and ends them in the direction of
the flow: first nobody new comes in, then what is inside is committed and judged, then the store closes.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import structlog

import telemetryx
from telemetryx.api import auth, server
from telemetryx.api.auth import Gate
from telemetryx.api.delay import Delay
from telemetryx.api.gather import Gather
from telemetryx.api.live.hub import Hub
from telemetryx.api.metrics import Metric, Reading, Registry
from telemetryx.api.times import NS
from telemetryx.api.world import Limits, ModelView, PartState, World
from telemetryx.clock import Clock, SystemClock
from telemetryx.config import Api, Listen, Settings, SiteBroker
from telemetryx.errors import GatewayRefused, StoreError
from telemetryx.gateway import server as gateway_server
from telemetryx.gateway import site
from telemetryx.gateway.server import Gateway
from telemetryx.hot.memory import MemoryHot
from telemetryx.ingest.ingest import Ingest
from telemetryx.notify import Sender, Webhook, WebhookTarget
from telemetryx.registry.versions import ModelRegistry
from telemetryx.rules.load import RulesError, RuleSet, load_rules
from telemetryx.rules.service import RulesService
from telemetryx.store.interface import Retention
from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.rules import StoredRules
from telemetryx.store.tables.store import TableStore
from telemetryx.tasks import Tasks

log = structlog.get_logger(__name__)

CONSOLE: Final = Path(__file__).with_name("console")
#: Samples that one piece of compaction takes on.
COMPACT_PIECE: Final = 400_000


class StartError(Exception):
    """The collector can't start; the message says why and what to do."""


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
) -> None:
    """Run a collector until `stop` is set or the process gets SIGTERM or SIGINT."""
    stop = stop or asyncio.Event()
    _stop_on_signals(stop)
    begun = asyncio.get_running_loop().time()
    async with started(settings, clock or SystemClock()) as addresses:
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
        _tell_systemd("READY=1")
        await stop.wait()
        _tell_systemd("STOPPING=1")
        log.info("collector_stopping")
    log.info("collector_stopped")


@contextlib.asynccontextmanager
async def started(settings: Settings, clock: Clock) -> AsyncIterator[Addresses]:
    """Start every part in the direction of the flow; at the end stop them in the same direction."""
    grace_s = settings.collector.shutdown_timeout / NS
    tokens = _tokens(settings.api)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_only_one(settings.collector.data_dir))
        store = await _open_store(settings, clock)
        stack.push_async_callback(store.close)
        tasks = Tasks()
        stack.push_async_callback(tasks.join)
        _upkeep(tasks, store, settings, clock)

        alerts = StoredRules(store)
        sender = Sender(alerts, clock, await _receivers(stack, settings))
        if sender.names:
            tasks.spawn("notify", sender.run)
            stack.push_async_callback(tasks.end, "notify", grace_s)

        rules = RulesService(
            store,
            alerts,
            clock,
            _rules(settings),
            lateness_ns=settings.store.raw_retention,
            link_interval_ns=settings.rules.interval,
            receivers=sender.names,
        )
        tasks.spawn("rules", rules.run)
        stack.push_async_callback(tasks.end, "rules", grace_s)

        ingest = Ingest(store, max_queue_bytes=settings.ingest.max_queue, max_group=settings.ingest.max_group)
        tasks.spawn("ingest", lambda _stop: ingest.run())
        stack.push_async_callback(tasks.end, "ingest", grace_s)
        stack.push_async_callback(ingest.close)

        hub, delay, hot = Hub(), Delay(), MemoryHot(clock)
        for subscriber in (hot.feed, hub.committed, delay.committed, rules.committed):
            ingest.subscribe(subscriber)
        rules.subscribe(hub.alerts)
        rules.subscribe(sender.wake)

        metrics = Registry()
        gather = Gather(store, rules, clock)
        for source in (gather.readings, delay.readings, lambda: _readings(ingest, hot, tasks)):
            metrics.add(source)
        world = World(
            store=store,
            judge=rules,
            clock=clock,
            limits=_limits(settings.api),
            hub=hub,
            delay=delay,
            metrics=metrics,
            gate=_gate(settings.api, tokens),
            started_ns=clock.now_ns(),
            readiness=lambda: _part_states(tasks, ingest),
            announce=ingest.announce,
            gather=gather.refresh,
            models=lambda: _models(settings),
        )
        http = await _open_api(stack, settings, world, grace_s)

        try:
            gateway = Gateway(store, ingest, _gateway_config(settings), clock=clock, rate=hot.rate)
            gateway.subscribe(rules.wake)
            metrics.add(lambda: _door_readings(gateway))
            grpc = await gateway.start()
        except GatewayRefused as error:
            raise StartError(str(error)) from error
        # Last in, first out: agents are let go before anything they send to is stopped.
        stack.push_async_callback(gateway.close, grace_s)
        yield Addresses(http, grpc)


# --- before the flow: what must be right or the collector doesn't start


def _rules(settings: Settings) -> RuleSet:
    try:
        return load_rules(
            [settings.within(path) for path in settings.rules.files], defaults=settings.rules.defaults
        )
    except RulesError as error:
        raise StartError(f"the rules can't be used:\n{error}") from error


def _tokens(listen: Listen) -> tuple[bytes, ...]:
    if listen.token_file is None:
        return ()
    try:
        return auth.read_tokens(listen.token_file)
    except auth.TokenFileError as error:
        raise StartError(f"[api] {error}") from error


async def _models(settings: Settings) -> Sequence[ModelView]:
    """Read the model registry; it blocks on its disk, so in a thread."""
    registry = ModelRegistry(settings.within(settings.models.dir))
    return [
        ModelView(row.name, row.version, row.state, row.created_ns, row.checksum, row.card)
        for row in await asyncio.to_thread(registry.list)
    ]


@contextlib.contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    """Make the data directory and hold it: two collectors on one store would each believe to be alone."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (data_dir / "lock").open("w", encoding="ascii")
    except OSError as error:
        raise StartError(
            f"data_dir {data_dir} can't be used: {error.strerror}; create it for this user, or set data_dir in [collector]"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StartError(
                f"another collector runs in {data_dir}: stop it, or set another data_dir in [collector]"
            ) from error
        yield


async def _open_store(settings: Settings, clock: Clock) -> TableStore:
    kept, limit = settings.store, settings.ingest.future_limit
    if kept.url is not None:
        engine = PostgresEngine(kept.url, kept.password_file)
        try:
            return await PostgresStore.open(engine, clock=clock, readers=kept.readers, future_limit_ns=limit)
        except StoreError as error:
            raise StartError(f"the store can't be opened: {error}") from error
    path = settings.within(kept.path)
    try:
        return await SqliteStore.open(path, clock=clock, readers=kept.readers, future_limit_ns=limit)
    except StoreError as error:
        raise StartError(f"the store {path} can't be opened: {error}") from error


# --- the parts


def _upkeep(tasks: Tasks, store: TableStore, settings: Settings, clock: Clock) -> None:
    """Work behind ingest: compaction and retention, in small pieces."""
    kept = settings.store
    retention = Retention(
        raw_ns=kept.raw_retention,
        windows_ns=kept.raw_retention,
        rollup_1m_ns=kept.rollup_retention,
        rollup_1h_ns=kept.rollup_retention,
        events_ns=kept.event_retention,
        connections_ns=kept.event_retention,
    )

    async def compact() -> bool:
        return (await store.compact(COMPACT_PIECE)).more

    async def retain() -> bool:
        if deleted := await store.apply_retention(retention, clock.now_ns()):
            log.info("retention_applied", rows=deleted)
        return False

    tasks.every("compaction", kept.compact_interval / NS, compact)
    tasks.every("retention", kept.retention_interval / NS, retain)


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


def _gateway_config(settings: Settings) -> gateway_server.Config:
    listen = settings.gateway
    return gateway_server.Config(
        host=listen.host,
        port=listen.port,
        cert_file=listen.tls_cert_file,
        key_file=listen.tls_key_file,
        token_file=listen.token_file,
        credit=listen.credit,
        max_batch=listen.max_batch,
        max_sessions=listen.max_sessions,
        pool=settings.ingest.max_queue,
        hellos_per_second=listen.max_new_sessions_per_second,
        mqtt=_site_config(listen.mqtt),
    )


def _site_config(broker: SiteBroker) -> site.Config | None:
    if broker.url is None:
        return None
    return site.Config(
        url=broker.url,
        prefix=broker.prefix,
        user=broker.user,
        password_file=broker.password_file,
        ca_file=broker.ca_file,
        cert_file=broker.cert_file,
        key_file=broker.key_file,
    )


async def _open_api(
    stack: contextlib.AsyncExitStack, settings: Settings, world: World, grace_s: float
) -> int:
    listen = settings.api
    app = server.create(world, server.Config(CONSOLE, listen.max_requests_per_second))
    try:
        tls = (
            server.tls_context(listen.tls_cert_file, listen.tls_key_file)
            if listen.tls_cert_file is not None and listen.tls_key_file is not None
            else None
        )
        runner, port = await server.listen(app, listen.host, listen.port, tls, grace_s)
    except server.ListenError as error:
        raise StartError(str(error)) from error
    stack.push_async_callback(runner.cleanup)
    stack.push_async_callback(server.close_live, app)
    return port


def _gate(listen: Api, tokens: tuple[bytes, ...]) -> Gate:
    """On loopback only known names are served; off it TLS and the token guard, whatever the name."""
    hosts = {name.lower() for name in listen.allowed_hosts}
    if listen.loopback:
        hosts |= {"localhost", "127.0.0.1", "::1", listen.host.lower()}
    return Gate(tokens, frozenset(hosts), listen.session_lifetime, secure=listen.tls_cert_file is not None)


def _limits(listen: Api) -> Limits:
    return Limits(
        max_body=listen.max_body,
        max_series=listen.max_query_series,
        max_points=listen.max_query_points,
        query_timeout_s=listen.query_timeout / NS,
        max_live_clients=listen.max_live_clients,
    )


def _part_states(tasks: Tasks, ingest: Ingest) -> list[PartState]:
    health = ingest.health()
    return [
        PartState("store", ready=health.ready, reason=health.reason),
        *(
            PartState(state.name, ready=not state.reason, reason=state.reason)
            for state in tasks.states.values()
        ),
    ]


def _readings(ingest: Ingest, hot: MemoryHot, tasks: Tasks) -> list[tuple[Metric, list[Reading]]]:
    """Read the parts' own counters as metrics."""
    counters = ingest.counters
    return [
        (Metric.BATCHES, [((name,), float(count)) for name, count in sorted(counters.outcomes.items())]),
        (Metric.REFUSED, [((name,), float(count)) for name, count in sorted(counters.refused.items())]),
        (Metric.QUARANTINED, [((), float(counters.quarantined))]),
        (Metric.SAMPLES, [((), float(counters.samples))]),
        (Metric.WINDOWS, [((), float(counters.windows))]),
        (Metric.EVENTS, [((), float(counters.events))]),
        (Metric.BYTES, [((), float(counters.payload_bytes))]),
        (Metric.COMMITS, [((), float(counters.commits))]),
        (Metric.COMMIT_SECONDS, [((), counters.commit_seconds)]),
        (Metric.QUEUE_BYTES, [((), float(ingest.health().queued_bytes))]),
        (Metric.READY, [((part.name,), float(part.ready)) for part in _part_states(tasks, ingest)]),
        (Metric.AGENT_RATE, [((agent,), rate) for agent, rate in sorted(hot.rates().items())]),
        (Metric.TASK_FAILURES, [((state.name,), float(state.failures)) for state in tasks.states.values()]),
    ]


def _door_readings(gateway: Gateway) -> list[tuple[Metric, list[Reading]]]:
    """Read the agents' door as metrics."""
    readings: list[tuple[Metric, list[Reading]]] = [
        (Metric.SESSIONS, [((name,), float(count)) for name, count in gateway.door.connected.items()]),
        (Metric.TURNED_AWAY, [((name,), float(count)) for name, count in sorted(gateway.refused.items())]),
    ]
    if gateway.site is not None:
        counters = gateway.site.counters
        readings += [
            (Metric.MQTT_CONNECTED, [((), float(gateway.site.connected))]),
            (Metric.MQTT_ENVELOPES, [(("in",), float(counters.received)), (("out",), float(counters.sent))]),
            (Metric.MQTT_DROPPED, [((name,), float(count)) for name, count in counters.dropped.items()]),
        ]
    return readings


# --- around the flow


def _stop_on_signals(stop: asyncio.Event) -> None:
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


def _tell_systemd(state: str) -> None:
    """Tell systemd (Type=notify) where we are; without it, nobody."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)
