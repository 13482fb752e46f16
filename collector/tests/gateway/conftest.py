"""A collector's core on a free port: store, ingest, gateway."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from telemetryx.care.links import Links
from telemetryx.clock import SystemClock
from telemetryx.gateway.server import Config, Gateway
from telemetryx.hot.memory import MemoryHot
from telemetryx.ingest.ingest import Ingest
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.store import TableStore


@dataclass
class Core:
    """The running parts."""

    store: TableStore
    ingest: Ingest
    gateway: Gateway
    hot: MemoryHot
    running: "asyncio.Task[None]"
    links: Links
    ending: asyncio.Event
    watching: "asyncio.Task[None]"

    @classmethod
    async def start(
        cls, path: Path, config: Config | None = None, *, store: TableStore | None = None, **limits: int
    ) -> "Core":
        """Start all parts, on a file where there is no other store."""
        if store is None:
            store = await SqliteStore.open(path)
        ingest = Ingest(store, **limits)
        hot = MemoryHot(SystemClock())
        ingest.subscribe(hot.feed)
        links = Links(store, SystemClock())
        gateway = Gateway(store, ingest, config or Config(port=0), rate=hot.rate, care=links)
        running = asyncio.create_task(ingest.run())
        stop = asyncio.Event()
        watching = asyncio.create_task(links.watch(stop))
        await gateway.start()
        return cls(store, ingest, gateway, hot, running, links, stop, watching)

    async def stop(self) -> None:
        """Stop them as app.py does: the door first."""
        await self.gateway.close(2)
        self.ending.set()
        await self.watching
        await self.ingest.close()
        await self.running
        await self.store.close()


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Core]:
    running = await Core.start(tmp_path / "t.db")
    yield running
    await running.stop()
