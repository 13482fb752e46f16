"""A store that doesn't answer, as a database behind a dead link: who asks hears so in time, whatever it is, and never after as long as a reader waits for it."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from running import Running, S
from telemetryx.api.world import Limits
from telemetryx.store.accounts import Role, digest
from telemetryx.store.audit import Actor

WITHIN_S = 0.3
TOKEN = "a-token-of-an-account"


@pytest.fixture
async def silent(start: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """An open API whose store answers nothing from now on; all of its readers wait for it."""
    monkeypatch.setattr("telemetryx.api.auth.OPEN_S", 0.1)
    monkeypatch.setattr("telemetryx.api.server.GATHER_S", 0.2)
    monkeypatch.setattr("telemetryx.api.prometheus.endpoints.GRACE_S", 0.1)
    api = await start(limits=Limits(1 << 16, 100, 100_000, WITHIN_S, 3))
    await api.get("/series")
    speaks = threading.Event()
    waiting = [asyncio.create_task(api.world.store.read(lambda _: speaks.wait())) for _ in range(16)]
    await asyncio.sleep(0)
    yield api
    speaks.set()
    await asyncio.gather(*waiting)


def paths(api: Running) -> list[str]:
    """All that can be read without a name in the path."""
    app: Any = api.client.app
    found = {
        route.resource.canonical for route in app.router.routes() if route.method == "GET" and route.resource
    }
    return sorted(path for path in found if "{" not in path and "login" not in path and "oidc" not in path)


async def test_every_path_answers_in_time(silent: Running) -> None:
    """With 503 where the store is needed: no path may be forgotten, so all are asked."""
    asked = paths(silent)
    assert {"/api/v1/status", "/api/v1/audit", "/prometheus/api/v1/rules", "/metrics"} <= set(asked)
    asked = [path for path in asked if path != "/api/v1/live"]
    asked += ["/api/v1/export/samples", "/api/v1/requests/1/answer", "/api/v1/query_range?match=x"]
    query = {"match": "x", "query": "x", "match[]": "x", "start": "1", "end": "2", "step": "1"}
    refused = set()
    for path in asked:
        async with asyncio.timeout(20):
            for params in (query, {}):
                async with silent.client.get(path, params=params) as answer:
                    if answer.status == 503:
                        refused.add(path)
    assert {"/api/v1/status", "/api/v1/series", "/prometheus/api/v1/query"} <= refused
    assert {"/api/v1/export/samples", "/api/v1/requests/1/answer", "/api/v1/query_range?match=x"} <= refused


async def test_metrics_and_health_answer_without_the_store(silent: Running) -> None:
    """That is when they are needed: before who scrapes gives up."""
    for path in ("/metrics", "/healthz", "/readyz"):
        async with asyncio.timeout(8), silent.client.get(path) as answer:
            assert answer.status == 200, path


async def test_who_asks_by_a_token_that_only_the_store_knows_hears_that_it_says_nothing(
    silent: Running,
) -> None:
    """Neither let in nor called a stranger."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with asyncio.timeout(20), silent.client.get("/api/v1/series", headers=headers) as answer:
        assert answer.status == 503
        said = (await answer.json())["error"]["message"]
    assert said == "the store doesn't answer, so it isn't known who asks"


async def test_requests_that_wait_behind_others_hear_that_these_take_too_long(silent: Running) -> None:
    """Forty at once, of which sixteen are answered at a time."""

    async def one() -> int:
        async with silent.client.get("/api/v1/agents") as answer:
            return answer.status

    async with asyncio.timeout(20):
        assert set(await asyncio.gather(*(one() for _ in range(40)))) == {503}


@pytest.mark.parametrize(
    "message", [{"subscribe": {"match": "x"}}, {"subscribe": {"series": [1]}, "cursor": 1}]
)
async def test_a_live_client_hears_that_its_subscription_cannot_be_served_now(
    silent: Running, message: dict[str, Any]
) -> None:
    """And stays connected, for it isn't the one that is slow."""
    async with asyncio.timeout(20), silent.client.ws_connect("/api/v1/live") as socket:
        await socket.send_json(message)
        said = await socket.receive_json()
        assert (said["type"], said["error"]["code"]) == ("error", "unavailable")
        assert "the store said nothing for 0.3 s" in said["error"]["message"]
        await socket.send_str("no request")
        assert (await socket.receive_json())["error"]["code"] == "bad_request"


async def test_a_store_that_takes_no_writes_keeps_nobody_with_a_token_from_reading(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a token was used last is written down now and then; who waits for that waits a moment."""
    monkeypatch.setattr("telemetryx.api.auth.OPEN_S", 0.1)
    api = await start()
    await api.world.store.accounts.add_token(
        "grafana", digest(TOKEN), Role.VIEWER, api.clock.now_ns() + 3_600 * S, Actor("test", "test")
    )
    takes = threading.Event()
    writing = asyncio.create_task(api.world.store.write(lambda _: takes.wait()))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with asyncio.timeout(20), api.client.get("/api/v1/series", headers=headers) as answer:
        assert answer.status == 200
    takes.set()
    await writing
