"""Every store implementation under one name, so that the conformance suite runs on each."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from telemetryx.clock import ManualClock
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.commit import MAX_TIME
from telemetryx.store.tables.store import TableStore

EPOCH = bytes(range(16))
Opener = Callable[..., Awaitable[TableStore]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["sqlite", "postgres"])
async def open_store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> AsyncIterator[Opener]:
    """Opens the store of this test; again, it is the same store."""
    opened: list[TableStore] = []
    engine = request.getfixturevalue("database") if request.param == "postgres" else None

    async def again(future_limit_ns: int = MAX_TIME) -> TableStore:
        store: TableStore
        if engine is None:
            store = await SqliteStore.open(tmp_path / "t.db", clock=clock, future_limit_ns=future_limit_ns)
        else:
            store = await PostgresStore.open(engine, clock=clock, future_limit_ns=future_limit_ns)
        opened.append(store)
        return store

    yield again
    for store in opened:
        await store.close()


@pytest.fixture
async def store(open_store: Opener) -> TableStore:
    return await open_store()


def epoch() -> bytes:
    """A random epoch."""
    return os.urandom(16)
