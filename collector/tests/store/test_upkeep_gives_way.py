"""Upkeep with very many series: what looks at all of them is a reader's, and ingest is served between the pieces of what writes."""

import asyncio
import threading
from typing import Any

import pytest

from reference_agent import SECOND, T0, defined, samples
from store_batches import compacted, line, one
from telemetryx.clock import ManualClock
from telemetryx.store.interface import Retention
from telemetryx.store.tables import retention
from telemetryx.store.tables.store import TableStore
from telemetryx.store.tables.writer import Priority
from telemetryx.types import Stored
from telemetryx.wire.payload import Payload

DAY = 86_400 * SECOND
KEEP = Retention(raw_ns=DAY, windows_ns=DAY, rollup_1m_ns=30 * DAY, rollup_1h_ns=30 * DAY)


async def test_a_horizon_that_goes_back_is_looked_up_by_a_reader(
    store: TableStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes a look at each series, 90 ms of 100,000: the transaction that moves it does none."""
    await one(store, 1, line(0, [1.0, 2.0]))
    await compacted(store)
    ahead = clock.now_ns() + 10 * DAY
    await store.write(lambda db: db.execute("INSERT INTO meta VALUES ('raw_horizon_ns', ?)", (ahead,)))
    threads: list[str] = []
    rolled_up = retention._rolled_up

    def looked(*given: Any) -> int:
        threads.append(threading.current_thread().name)
        return rolled_up(*given)

    monkeypatch.setattr(retention, "_rolled_up", looked)
    await store.retain(KEEP)
    assert [name.rpartition("_")[0] for name in threads] == ["store-reader"]
    assert await store.raw_horizon() < ahead


async def test_what_comes_in_while_old_data_is_deleted_is_stored_between_two_pieces(
    store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many pieces there are: a batch waits for one of them."""
    count = 3 * retention.PIECE + 1
    rows = {number: [(T0, 1.0)] for number in range(1, count + 1)}
    await one(store, 1, Payload(samples(rows)), defined(*(f"s{number}" for number in rows)))
    await compacted(store)
    await store.write(lambda db: db.execute("DELETE FROM dirty"), Priority.UPKEEP)
    loop, order = asyncio.get_running_loop(), list[str]()
    ingest: list[asyncio.Task[None]] = []
    delete = retention.delete

    async def comes() -> None:
        assert isinstance(await one(store, 2, line(5_000_000 * SECOND, [1.0]), ()), Stored)
        order.append("stored")

    def piece(*given: Any, **named: Any) -> int:
        if not order:
            loop.call_soon_threadsafe(lambda: ingest.append(loop.create_task(comes())))
        order.append("piece")
        return delete(*given, **named)

    monkeypatch.setattr(retention, "delete", piece)
    # In PostgreSQL whole partitions go at once; here it is about what goes row by row.
    monkeypatch.setattr(retention, "drop", lambda *_, **__: 0)
    await store.apply_retention(KEEP, T0 + 5 * DAY)
    await asyncio.gather(*ingest)
    assert order.count("piece") >= 4
    assert "stored" in order
    if not store.shared:  # on a server both have a connection of their own, and neither waits for the other
        assert order.index("stored") < len(order) - 2
