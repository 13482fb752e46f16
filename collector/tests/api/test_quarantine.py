"""Batches that are kept apart, over REST: listed, shown, let in, dropped."""

from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from reference_agent import SECOND, decoded, defined, events, samples
from running import T0, Running
from telemetryx.cli import quarantine
from telemetryx.cli.client import Client
from telemetryx.store.interface import Retention
from telemetryx.types import BatchKey, Cause
from telemetryx.wire.payload import Payload

DAY = 86_400 * SECOND


@pytest.fixture
async def api(start: Callable[..., Awaitable[Running]]) -> Running:
    """An API that keeps apart what is more than a day ahead, with one such batch of agent a1."""
    running = await start(future_limit_ns=DAY)
    content = Payload(
        samples({1: [(T0 + 2 * DAY, 1.5)]}),
        None,
        events((T0 + 2 * DAY, 9, "app", "started", {})),
        {Cause.RECEIVED: 2, Cause.SHIPPED: 2},
    )
    await running.world.store.commit([decoded(BatchKey("a1", b"e" * 16, 7), content, defined("temp"))])
    return running


async def test_a_batch_is_listed_and_shown_with_what_is_in_it(api: Running) -> None:
    """The list says whose and how far ahead, the batch its series and events, the agent how many."""
    answer = await api.get("/quarantine")
    assert answer["total"] == 1
    (row,) = answer["quarantine"]
    assert (row["agent"], row["seq"], row["rows"], row["last_ns"]) == ("a1", 7, 2, T0 + 2 * DAY)
    assert (await api.get("/quarantine", agent="b2"))["total"] == 0
    shown = await api.get(f"/quarantine/{row['id']}")
    assert [(one["name"], one["samples"], one["last"]) for one in shown["series"]] == [("temp", 1, 1.5)]
    assert shown["events"] == [{"time_ns": T0 + 2 * DAY, "source": "app", "body": "started"}]
    assert (await api.get("/agents/a1"))["quarantined"] == 1


async def test_pages_are_read_by_place(api: Running) -> None:
    """Newest first: `next` is older, `previous` newer."""
    for seq in (8, 9):
        content = Payload(samples({1: [(T0 + 2 * DAY, 1.5)]}))
        await api.world.store.commit([decoded(BatchKey("a1", b"e" * 16, seq), content, defined("temp"))])
    first = await api.get("/quarantine", limit=2)
    assert [row["seq"] for row in first["quarantine"]] == [9, 8]
    assert (first["skipped"], first["previous"]) == (0, None)
    second = await api.get("/quarantine", limit=2, after=first["next"])
    assert [row["seq"] for row in second["quarantine"]] == [7]
    assert (second["skipped"], second["next"]) == (2, None)
    back = await api.get("/quarantine", limit=1, before=second["previous"])
    assert [row["seq"] for row in back["quarantine"]] == [8]


async def test_a_batch_is_let_in_with_a_shift_and_everybody_hears_of_it(api: Running) -> None:
    """Without one it is refused with what to do; then it is a commit like any other."""
    url = "/api/v1/quarantine/1/release"
    refused = await api.client.post(url, json={})
    assert refused.status == 400
    assert "shift" in (await refused.json())["error"]["hint"]
    answer = await api.client.post(url, json={"shift_ns": -2 * DAY})
    assert answer.status == 200
    assert (await answer.json())["last_ns"] == T0
    assert [committed.key.agent for committed in api.announced] == ["a1"]
    assert (await api.get("/quarantine"))["total"] == 0
    assert (await api.client.post(url, json={"shift_ns": -2 * DAY})).status == 404
    (entry,) = (await api.get("/audit"))["audit"]
    assert (entry["action"], entry["target"]) == ("quarantine.release", "1")
    assert (entry["before"]["agent"], entry["before"]["rows"]) == ("a1", 2)
    assert entry["after"] == {"shift_ns": -2 * DAY}


async def test_a_batch_that_is_let_in_before_every_retention_says_what_is_stored(api: Running) -> None:
    """Nothing of it but its event, and the ledger says the same."""
    kept = Retention(raw_ns=DAY, windows_ns=DAY, rollup_1m_ns=2 * DAY, rollup_1h_ns=2 * DAY)
    await api.world.store.apply_retention(kept, T0)
    answer = await api.client.post("/api/v1/quarantine/1/release", json={"shift_ns": -10 * DAY})
    told = await answer.json()
    assert (told["stored"], told["expired"]) == (1, 1)
    loss = {row["cause"]: row["count"] for row in (await api.get("/loss"))["loss"]}
    assert loss["expired"] == 1


@pytest.mark.parametrize(
    ("stored", "expired", "said"),
    [
        (3, 0, "batch 1 is stored: 2026"),
        (2, 1, "batch 1 is stored but for 1 reading past every retention, counted as expired: 2026"),
        (0, 3, "nothing of batch 1 is stored: 3 readings past every retention, counted as expired: 2026"),
    ],
)
def test_the_command_says_what_of_a_batch_is_stored(
    stored: int, expired: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words."""

    class Answering:
        def send(self, *_: object) -> dict[str, int]:
            return {"first_ns": T0, "last_ns": T0, "stored": stored, "expired": expired}

    quarantine.release(cast("Client", Answering()), 1, None, to_arrival=False, as_json=False)
    assert capsys.readouterr().out.startswith(said)


async def test_a_batch_is_dropped_once(api: Running) -> None:
    """Its readings stay counted as refused."""
    assert (await api.client.delete("/api/v1/quarantine/1")).status == 200
    assert (await api.client.delete("/api/v1/quarantine/1")).status == 404
    (entry,) = (await api.get("/audit"))["audit"]
    assert (entry["action"], entry["before"]["seq"], entry["after"]) == ("quarantine.drop", 7, None)
    loss = {row["cause"]: row["count"] for row in (await api.get("/loss"))["loss"]}
    assert loss["refused"] == 2
