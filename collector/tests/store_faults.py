"""What the tests of failing stores share: a collector in this process, and an agent that offers its batches until they are taken.

Nothing here counts on speed: whatever is waited for has minutes.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import numpy as np

from postgres_server import PostgresServer
from reference_agent import ReferenceAgent, defined, samples
from telemetryx import config
from telemetryx.app import started
from telemetryx.clock import SystemClock
from telemetryx.wire.payload import Payload

PATIENCE_S: Final = 300.0
GREETING_S: Final = 5.0
"""An agent whose greeting isn't answered for so long comes again: the collector asks its store what it holds of it."""
ROOM: Final = 64 << 20
"""Bytes that this process may grow by while it can't store."""


def do_nothing() -> None:
    """Let the fault be."""


def _says(heard: str, said: Sequence[str]) -> bool:
    return any(one in heard.lower() for one in said)


@contextlib.contextmanager
def told_at_the_end(what: Callable[[], str]) -> Iterator[None]:
    """Say what was seen last where a wait was in vain."""
    try:
        yield
    except TimeoutError:
        raise AssertionError(what()) from None


@dataclass
class Faulty:
    """A collector whose store fails, and an agent that is connected to it now and then."""

    http: str
    grpc: int
    agent: ReferenceAgent
    sent: list[int]
    """The times that were cut, in order."""

    async def ask(self, path: str) -> tuple[int, Any]:
        """GET something that may be refused; return the status and the JSON."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.http}{path}") as answer:
            return answer.status, await answer.json(content_type=None)

    async def metrics(self) -> str:
        """GET /metrics, which answers always."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.http}/metrics") as answer:
            assert answer.status == 200
            return await answer.text()

    async def refuses(self, path: str, *said: str) -> None:
        """Wait until a path answers 503 with one of these in what it says: at first that may be how the fault began."""
        heard = ""
        with told_at_the_end(lambda: f"{path} says {heard!r}, not one of {said}"):
            async with asyncio.timeout(PATIENCE_S):
                while not _says(heard := await self._refusal(path), said):
                    await asyncio.sleep(0.1)

    async def _refusal(self, path: str) -> str:
        status, answer = await self.ask(path)
        return str(answer["error"]["message"]) if status == 503 else ""

    def cut(self, at: int, count: int = 1) -> None:
        """Cut a batch of noise, which no encoding makes small; the agent keeps it until it is acknowledged."""
        values = np.random.default_rng(at).normal(size=count).tolist()
        rows = {1: list(zip(range(at, at + count), values, strict=True))}
        self.agent.cut(Payload(samples=samples(rows)), defined("temperature", site="plant1"))
        self.sent += range(at, at + count)

    async def offer(self, seconds: float) -> bool:
        """Connect and send what isn't acknowledged, as an agent does; say whether all of it was taken."""
        with contextlib.suppress(
            AssertionError, TimeoutError, grpc.aio.AioRpcError, asyncio.InvalidStateError
        ):
            # Refused, or no answer, also to its greeting: an agent comes again.
            async with asyncio.timeout(GREETING_S) as greeting, self.agent.session(self.grpc) as link:
                greeting.reschedule(None)
                await link.send(*self.agent.unacked.values())
                await link.until(lambda: not self.agent.unacked or link.over, seconds)
        return not self.agent.unacked

    async def delivers(self, meanwhile: Callable[[], None] = do_nothing) -> None:
        """Come again until everything is taken."""
        async with asyncio.timeout(PATIENCE_S):
            while not await self.offer(10):
                meanwhile()
                await asyncio.sleep(0.2)

    async def stays_out(self, *said: str, meanwhile: Callable[[], None] = do_nothing) -> None:
        """Offer until the collector says that it can't store, with one of these in the reason, and more; nothing is taken."""
        before, heard = resident(), ""
        with told_at_the_end(lambda: f"/readyz says {heard!r}, not one of {said}"):
            async with asyncio.timeout(PATIENCE_S):
                while not _says(heard := await self._refusal("/readyz"), said):
                    meanwhile()
                    assert not await self.offer(2), "a batch was acknowledged that can't be stored"
        for _ in range(3):
            meanwhile()
            assert not await self.offer(1), "a batch was acknowledged that can't be stored"
        assert resident() - before < ROOM

    async def recovers(self, meanwhile: Callable[[], None] = do_nothing) -> None:
        """Everything is delivered, every part is ready again, and each sample is stored once."""
        await self.delivers(meanwhile)
        await self.is_ready()
        await self.has_stored(self.sent)

    async def is_ready(self) -> None:
        """Wait until every part works."""
        async with asyncio.timeout(PATIENCE_S):
            while (await self.ask("/readyz"))[0] != 200:
                await asyncio.sleep(0.1)

    async def has_stored(self, times: list[int]) -> None:
        """Exactly these samples are stored."""
        status, found = await self.ask(
            "/api/v1/query_range?match=temperature&start=-1d&end=now&agg=raw&max_points=200000"
        )
        assert status == 200, found
        there = found["series"][0]["times_ns"] if found["series"] else []
        # Not the lists themselves: pytest would explain a difference for minutes.
        same = there == times
        assert same, f"{len(there)} samples are stored, {len(set(there))} different ones, of {len(times)}"


@contextlib.asynccontextmanager
async def collecting(settings: str, api: str = "") -> AsyncIterator[Faulty]:
    """Run a collector with these settings, and these of its API, beside its two doors; at the end stop it in order."""
    doors = f'[api]\nlisten = "127.0.0.1:0"\n{api}\n[gateway]\nlisten = "127.0.0.1:0"\n'
    async with started(config.parse(settings + doors, "test.toml"), SystemClock()) as at:
        yield Faulty(f"http://127.0.0.1:{at.http}", at.grpc, ReferenceAgent("edge"), [])


def on_postgres(server: PostgresServer, folder: Path, name: str, port: int | None = None) -> str:
    """Settings of a collector on a database."""
    url = (
        server.url(name)
        if port is None
        else f"{server.url(name).replace(str(server.port), str(port))}?sslmode=disable"
    )
    return (
        f'[collector]\ndata_dir = "{folder}/data"\n'
        f'[store]\nurl = "{url}"\npassword_file = "{server.password_file}"\n'
    )


def resident() -> int:
    """Read this process's memory, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) << 10
