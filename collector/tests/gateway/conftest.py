"""A collector's core on a free port: store, ingest, gateway."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from telemetryx.clock import SystemClock
from telemetryx.gateway.server import Config, Gateway
from telemetryx.hot.memory import MemoryHot
from telemetryx.ingest.ingest import Ingest
from telemetryx.store.sqlite.store import SqliteStore


@dataclass
class Core:
    """The running parts."""

    store: SqliteStore
    ingest: Ingest
    gateway: Gateway
    hot: MemoryHot
    running: "asyncio.Task[None]"

    @classmethod
    async def start(cls, path: Path, config: Config | None = None, **limits: int) -> "Core":
        """Start all parts."""
        store = await SqliteStore.open(path)
        ingest = Ingest(store, **limits)
        hot = MemoryHot(SystemClock())
        ingest.subscribe(hot.feed)
        gateway = Gateway(store, ingest, config or Config(port=0), rate=hot.rate)
        running = asyncio.create_task(ingest.run())
        await gateway.start()
        return cls(store, ingest, gateway, hot, running)

    async def stop(self) -> None:
        """Stop them as app.py does: the door first."""
        await self.gateway.close(2)
        await self.ingest.close()
        await self.running
        await self.store.close()


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Core]:
    running = await Core.start(tmp_path / "t.db")
    yield running
    await running.stop()
