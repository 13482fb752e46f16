"""A running API over a real SQLite store."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from running import T0, Field, Nobody, Running, S
from telemetryx.api import server
from telemetryx.api.auth import Gate
from telemetryx.api.delay import Delay
from telemetryx.api.gather import Gather
from telemetryx.api.live.hub import Hub
from telemetryx.api.metrics import Registry
from telemetryx.api.peer import Peers
from telemetryx.api.world import Limits, PartState, World
from telemetryx.care.service import Care
from telemetryx.clock import ManualClock
from telemetryx.enrolment.authority import Authority
from telemetryx.enrolment.service import Enrolment, Policy
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.commit import MAX_TIME
from telemetryx.types import Committed

Start = Callable[..., Awaitable[Running]]


class Served(TestServer):
    """As the collector's own server: a handler goes on when its client leaves."""

    async def _make_runner(self, **kwargs: Any) -> Any:
        return await super()._make_runner(**{**kwargs, "handler_cancellation": False})


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start APIs with a store in a temporary folder."""
    clients: list[TestClient[Any, Any]] = []
    stores: list[SqliteStore] = []

    async def begin(
        *,
        tokens: tuple[bytes, ...] = (),
        limits: Limits | None = None,
        console: Path | None = None,
        rate: float = 1e6,
        future_limit_ns: int = MAX_TIME,
        closed: bool = False,
        secure: bool = False,
        peers: Peers | None = None,
        **more: Any,
    ) -> Running:
        clock = ManualClock(T0)
        store = await SqliteStore.open(
            tmp_path / "telemetry.db", clock=clock, future_limit_ns=future_limit_ns
        )
        stores.append(store)
        hub, delay, judge, metrics = Hub(), Delay(), Nobody(), Registry()
        authority = Authority.open(tmp_path / "ca", T0)
        enrolment = Enrolment(store, authority, clock, Policy(90 * 86_400 * S, url="https://c.example:8420"))
        care = Care(store, clock)
        gather = Gather(store, judge, clock, enrolment, care.counts)
        metrics.add(gather.readings)
        broken: list[PartState] = []
        announced: list[Committed] = []
        world = World(
            store=store,
            judge=judge,
            clock=clock,
            limits=limits or Limits(1 << 16, 100, 100_000, 30.0, 3),
            hub=hub,
            delay=delay,
            metrics=metrics,
            gate=Gate(
                tokens,
                frozenset({"127.0.0.1", "localhost"}),
                3_600 * S,
                secure=secure,
                closed=closed,
                peers=peers or Peers(),
            ),
            started_ns=T0,
            readiness=lambda: [PartState("store", ready=True), *broken],
            announce=announced.append,
            gather=gather.refresh,
            **{"enrolment": enrolment, "care": care, **more},
        )
        # Requests are counted on the test's clock: on that of a busy machine there would be turns again before a test is done.
        config = server.Config(console or tmp_path / "none", rate, monotonic=lambda: clock.mono_ns() / S)
        app = server.create(world, config)
        served = Served(app)
        await served.start_server(max_line_size=server.MAX_LINE)
        client = TestClient(served)
        clients.append(client)
        return Running(client, world, Field(store, hub, delay), clock, judge, broken, announced)

    yield begin
    for client in clients:
        await client.close()
    for store in stores:
        await store.close()


@pytest.fixture
async def api(start: Start) -> Running:
    """An open API with default limits."""
    return await start()
