"""Every store implementation under one name, so that the conformance suite runs on each."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from telemetryx.clock import ManualClock
from telemetryx.store.sqlite.store import SqliteStore

EPOCH = bytes(range(16))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["sqlite"])
async def open_store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> AsyncIterator[Callable[[], Awaitable[SqliteStore]]]:
    """Opens the store of this test; again, it is the same store."""
    assert request.param == "sqlite"
    opened: list[SqliteStore] = []

    async def again() -> SqliteStore:
        opened.append(await SqliteStore.open(tmp_path / "t.db", clock=clock))
        return opened[-1]

    yield again
    for store in opened:
        await store.close()


@pytest.fixture
async def store(open_store: Callable[[], Awaitable[SqliteStore]]) -> SqliteStore:
    return await open_store()


def epoch() -> bytes:
    """A random epoch."""
    return os.urandom(16)
