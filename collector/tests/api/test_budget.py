"""What running queries together may hold: they wait for their turn, in order, and are told to come again when it doesn't come."""

import asyncio
from typing import Any

import pytest

from running import T0, Running, S, key
from telemetryx.api.budget import Budget
from telemetryx.api.errors import Unavailable
from telemetryx.api.prometheus import share as sharing
from telemetryx.api.prometheus.share import Share
from telemetryx.api.prometheus.work import Deadline
from telemetryx.promql.errors import ExecutionFailed


async def turns(count: int = 5) -> None:
    """Let other tasks go on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_queries_wait_until_what_they_hold_is_free_and_none_is_overtaken() -> None:
    """The large one that waits comes before the small one after it."""
    budget = Budget(100, patience_s=60)
    order: list[str] = []
    ends = {name: asyncio.Event() for name in ("first", "large", "small")}

    async def query(name: str, size: int) -> None:
        async with budget.hold(size):
            order.append(name)
            await ends[name].wait()

    tasks = [asyncio.create_task(query(*one)) for one in (("first", 60), ("large", 80), ("small", 10))]
    await turns()
    assert (order, budget.held) == (["first"], 60)
    ends["first"].set()
    await tasks[0]
    await turns()
    assert (order, budget.held) == (["first", "large", "small"], 90)
    for end in ends.values():
        end.set()
    await asyncio.gather(*tasks)
    assert budget.held == 0


async def test_who_does_not_get_in_is_told_when_to_come_again_and_holds_nothing() -> None:
    """Nor does one that is cancelled while it waits; and one that wants more than there is gets all."""
    budget = Budget(100, patience_s=0)
    async with budget.hold(1_000):
        assert budget.held == 100
        with pytest.raises(Unavailable) as refused:
            async with budget.hold(1):
                pass
        assert refused.value.headers()["Retry-After"] == "5"
    budget = Budget(100, patience_s=60)
    async with budget.hold(100):
        waiting = [asyncio.create_task(budget._take(60)) for _ in range(2)]
        await turns()
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        assert waiting[0].cancelled()
    assert await waiting[1] == 60
    assert budget.held == 60


async def test_a_thread_that_still_reads_holds_its_share_though_nobody_waits() -> None:
    """Its memory isn't free before it ends; what it fails with then disturbs nobody."""
    budget = Budget(100, patience_s=60)
    reads = asyncio.Event()

    async def work() -> None:
        await reads.wait()
        raise ValueError("nobody looks")

    query = asyncio.create_task(budget.run(70, work()))
    await turns()
    query.cancel()
    await asyncio.wait([query])
    assert (query.cancelled(), budget.held) == (True, 70)
    reads.set()
    await turns()
    assert budget.held == 0


async def test_who_holds_something_grows_before_others_begin_and_gives_back_what_came_too_late() -> None:
    """A PromQL query that grows isn't kept waiting by one that waits for what it holds itself."""
    budget = Budget(100, patience_s=60)
    share = Share(budget, Deadline(60.0, asyncio.get_running_loop()), asyncio.get_running_loop(), most=90)
    await asyncio.to_thread(share.hold, 50)
    assert budget.held == 90  # in large steps, but no more than a query may hold
    other = asyncio.create_task(budget._take(20))
    await turns()
    assert not other.done()
    assert await budget.grow(10) == 10
    assert not other.done()
    budget.give(10)
    share.release(30)
    await asyncio.to_thread(share.hold, 70)
    with pytest.raises(ExecutionFailed, match="too many samples into memory"):
        await asyncio.to_thread(share.hold, 1)
    share.end()
    assert await other == 20
    assert budget.held == 20
    await share._grow(5)
    assert budget.held == 20


async def test_promql_is_refused_before_it_holds_more_than_one_query_may(
    api: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Prometheus' shape and with its words; nothing of it is held afterwards."""
    await api.field.send({key("temp", n=str(n)): [(T0 + n, 1.0)] for n in range(20)})
    monkeypatch.setattr(sharing, "PROMQL", 60_000)
    times = {"start": str(T0 // S), "end": str(T0 // S + 200), "step": "1"}

    async def ask(text: str) -> tuple[int, dict[str, Any]]:
        url = "/prometheus/api/v1/query_range"
        async with api.client.get(url, params={"query": text, **times}) as answer:
            return answer.status, await answer.json()

    status, found = await ask("temp")
    assert (status, found["errorType"]) == (422, "execution")
    assert "too many samples into memory" in found["error"]
    monkeypatch.setattr(sharing, "PROMQL", 1 << 20)
    status, found = await ask("temp")
    assert (status, len(found["data"]["result"])) == (200, 20)
    await turns()
    assert api.world.budget.held == 0


async def test_promql_beside_others_that_hold_everything_gets_503(api: Running) -> None:
    """With Retry-After and the kind that Prometheus has for it; and an answer when they have ended."""
    await api.field.send({key("temp"): [(T0, 1.0)]})
    budget = api.world.budget
    budget._patience_s = 0
    url, asked = "/prometheus/api/v1/query", {"query": "temp", "time": str(T0 // S + 1)}
    async with budget.hold(1 << 60), api.client.get(url, params=asked) as answer:
        found = await answer.json()
        assert (answer.status, found["errorType"]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        assert "memory" in found["error"]
    async with api.client.get(url, params=asked) as answer:
        assert answer.status == 200
    await turns()
    assert budget.held == 0


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/query_range", {}),
        ("/query_range", {"agg": "raw"}),
        ("/aggregate", {}),
        ("/aggregate", {"step": "10s"}),
        ("/aggregate", {"agg": "quantile"}),
    ],
)
async def test_a_query_beside_others_that_hold_everything_gets_503(
    api: Running, path: str, more: dict[str, Any]
) -> None:
    """With Retry-After; and an answer when they have ended."""
    await api.field.send({key("temp"): [(T0, 1.0)]})
    params = {"match": "temp", "start": str(T0 // S - 60), "end": str(T0 // S + 60), **more}
    budget = api.world.budget
    budget._patience_s = 0
    async with budget.hold(1 << 60), api.client.get(f"/api/v1{path}", params=params) as answer:
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert "memory" in (await answer.json())["error"]["message"]
    budget._patience_s = 60
    await api.get(path, **params)
    assert budget.held == 0
