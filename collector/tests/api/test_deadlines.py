"""A query's time counts from when it came: what it waits for on its way is part of it, and its end is known wherever the store is asked."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from running import Running
from telemetryx.api import deadline
from telemetryx.api.auth import OPEN
from telemetryx.api.prometheus import endpoints
from telemetryx.api.prometheus.work import Workers
from telemetryx.api.world import Limits
from telemetryx.store.accounts import Role, digest
from telemetryx.store.audit import Actor

API = "/prometheus/api/v1"
TOKEN = "a-token-of-an-account"
QUERIES = {
    "query": {"query": "t"},
    "query_range": {"query": "t", "start": "1", "end": "2", "step": "1"},
    "series": {"match[]": "t"},
    "labels": {},
    "label/site/values": {},
}


@pytest.fixture
async def slow(start: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Any]:
    """An open API that takes so long to say whether there are accounts, by a clock of the test's."""

    async def begin(seconds: float) -> Running:
        api: Running = await start(limits=Limits(1 << 16, 100, 100_000, 30.0, 3))
        shift = 0.0
        now = deadline.now

        async def identify(*_: Any) -> Any:
            nonlocal shift
            shift += seconds
            return OPEN

        monkeypatch.setattr(deadline, "now", lambda: now() + shift)
        monkeypatch.setattr("telemetryx.api.auth.Gate.identify", identify)
        return api

    return begin


@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_it_waited_for_before_is_taken_from_a_promql_querys_time(
    slow: Any, monkeypatch: pytest.MonkeyPatch, name: str, method: str
) -> None:
    """Of three seconds, two of which went by until it was known who asks, the store gets one."""
    if method == "POST" and name == "label/site/values":
        return
    given: list[float] = []
    run = Workers.run

    async def noted(self: Workers, work: Any, seconds: float) -> Any:
        given.append(seconds)
        return await run(self, work, seconds)

    monkeypatch.setattr(Workers, "run", noted)
    api = await slow(2.0)
    asked = {**QUERIES[name], "timeout": "3s"}
    sent = {"params": asked} if method == "GET" else {"data": asked}
    async with api.client.request(method, f"{API}/{name}", **sent) as answer:
        assert answer.status == 200, await answer.text()
    assert len(given) == 1
    assert given[0] <= 1.0


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How many seconds were left at each step that waited, in their order."""
    ends: list[float] = []
    until = deadline.until

    def noted(request: web.Request) -> asyncio.Timeout:
        ends.append(deadline.left_s(request))
        return until(request)

    monkeypatch.setattr(deadline, "until", noted)
    return ends


@pytest.mark.parametrize(
    "path", ["/series", "/query_range?series=1", "/aggregate?match=t&by=site", "/agents"]
)
async def test_what_it_waited_for_before_is_taken_from_a_rest_querys_time(
    slow: Any, ends: list[float], path: str
) -> None:
    """It was the whole query_timeout anew at each step of its way."""
    api = await slow(20.0)
    async with api.client.get(f"/api/v1{path}") as answer:
        assert answer.status in {200, 404}, await answer.text()
    guard, turn, query = ends
    assert guard > 20
    assert 10 >= turn >= query


async def test_an_export_looks_for_what_is_deleted_within_its_requests_time(
    slow: Any, ends: list[float]
) -> None:
    """As every other query."""
    api = await slow(20.0)
    async with api.client.get("/api/v1/export/samples") as answer:
        assert answer.status == 200
        await answer.read()
    assert ends[-1] <= 10


async def test_a_change_has_its_time_from_when_its_body_is_there(slow: Any) -> None:
    """However long its sender's line took."""
    api = await slow(40.0)
    body = {"rule": "hot", "start": "now", "end": "+1h", "comment": "x"}
    async with api.client.post("/api/v1/silences", json=body) as answer:
        assert answer.status != 503, await answer.text()


@pytest.fixture
async def silent(start: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """An open API that has said so before, and whose store answers nothing from now on."""
    monkeypatch.setattr("telemetryx.api.auth.OPEN_S", 60.0)
    monkeypatch.setattr("telemetryx.api.auth.KNOWN_S", 0.01)
    api = await start(limits=Limits(1 << 16, 100, 100_000, 600.0, 3))
    await api.get("/series")
    speaks = threading.Event()
    waiting = [asyncio.create_task(api.world.store.read(lambda _: speaks.wait())) for _ in range(16)]
    await asyncio.sleep(0)
    yield api
    speaks.set()
    await asyncio.gather(*waiting)


@pytest.mark.parametrize("name", QUERIES)
async def test_a_store_that_says_nothing_ends_a_query_by_its_own_time(silent: Running, name: str) -> None:
    """As a time-out, though the store would be waited for ten minutes, and a minute for whether there are accounts."""
    async with (
        asyncio.timeout(20),
        silent.client.get(f"{API}/{name}", params={**QUERIES[name], "timeout": "50ms"}) as answer,
    ):
        assert answer.status == 503
        assert (await answer.json())["errorType"] == "timeout"


async def test_who_is_known_by_the_store_alone_waits_no_longer_than_a_querys_own_time(
    silent: Running,
) -> None:
    """Also where the time stands in a form."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    asked = {"query": "t", "timeout": "50ms"}
    async with asyncio.timeout(20):
        for sent in ({"params": asked}, {"data": asked}):
            async with silent.client.post(f"{API}/query", headers=headers, **sent) as answer:  # type: ignore[arg-type]
                assert answer.status == 503
                found = await answer.json()
            assert found["errorType"] == "unavailable"
            assert "it isn't known who asks" in found["error"]


async def test_a_look_for_accounts_that_takes_long_is_one_and_is_heard_when_it_ends(silent: Running) -> None:
    """The next who asks is a stranger then, though nobody waited for it."""
    gate = silent.world.gate
    looks = 0
    found = silent.world.store.accounts.any

    async def counted() -> bool:
        nonlocal looks
        looks += 1
        await found()
        return True

    object.__setattr__(silent.world.store.accounts, "any", counted)
    for _ in range(3):
        assert await gate.open(silent.world.store.accounts)
    assert looks == 1


async def test_a_form_that_comes_slowly_or_is_large_is_not_read_before_it_is_known_who_asks(
    start: Any,
) -> None:
    """Nobody without a token makes the collector wait for more than lies in memory anyhow."""
    api = await start(closed=True)

    async def never() -> AsyncIterator[bytes]:
        yield b"query=t&"
        await asyncio.Event().wait()

    async with (
        asyncio.timeout(20),
        api.client.post(f"{API}/query", data=never(), headers={"Content-Type": endpoints.FORM}) as answer,
    ):
        assert answer.status == 401


async def test_a_token_of_which_no_use_can_be_noted_is_let_in_at_once(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its use is noted when the store takes writes again."""
    monkeypatch.setattr("telemetryx.api.auth.KNOWN_S", 0.01)
    api = await start()
    accounts = api.world.store.accounts
    await accounts.add_token(
        "grafana", digest(TOKEN), Role.VIEWER, api.clock.now_ns() + 3_600 * 10**9, Actor("test", "test")
    )
    takes = threading.Event()
    writing = asyncio.create_task(api.world.store.write(lambda _: takes.wait()))
    async with (
        asyncio.timeout(20),
        api.client.get("/api/v1/series", headers={"Authorization": f"Bearer {TOKEN}"}) as answer,
    ):
        assert answer.status == 200
    takes.set()
    await writing
    async with asyncio.timeout(20):
        # It comes last of all that is written.
        while (await accounts.tokens())[0].used_ns is None:
            await asyncio.sleep(0.01)
