"""Hot views that share a real Redis server, as the processes of one deployment do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from telemetryx.clock import SystemClock
from telemetryx.hot.address import Address
from telemetryx.hot.interface import Wake
from telemetryx.hot.link import Link
from telemetryx.hot.redis import RedisHot
from telemetryx.hot.shared_wake import RedisWake

TIMEOUT_S = 0.3
"""For tests about a server that doesn't answer in time."""
PATIENT_S = 10.0
"""For all others: a busy machine is no reason to give the server up."""


@dataclass
class Together:
    """One test's processes."""

    address: Address
    running: list[tuple[asyncio.Event, asyncio.Task[None]]] = field(default_factory=list)

    async def join(
        self, *, prefix: str = "test", address: Address | None = None, wait: bool = True
    ) -> RedisHot:
        """Start one more, and wait until it is connected."""
        hot, _ = await self.join_awake(prefix=prefix, address=address, wait=wait)
        return hot

    async def join_awake(
        self, *, prefix: str = "test", address: Address | None = None, wait: bool = True
    ) -> tuple[RedisHot, Wake]:
        """Start one more with its wake-ups."""
        link = Link(address or self.address)
        hot, wake = RedisHot(SystemClock(), link, prefix), RedisWake(link, prefix)
        for part in (hot, wake):
            stop = asyncio.Event()
            self.running.append((stop, asyncio.create_task(part.run(stop))))
        if wait:
            await until(lambda: hot.sharing().connected)
        return hot, wake

    async def leave(self) -> None:
        """Stop all of them in order."""
        for stop, _ in self.running:
            stop.set()
        await asyncio.gather(*(task for _, task in self.running))
        self.running.clear()

    async def vanish(self) -> None:
        """End the newest as a kill does: nothing is taken back."""
        for _ in range(2):
            _, task = self.running.pop()
            # The library may swallow a cancellation that meets a time-out of its own.
            while not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=0.1)


async def until(holds: Callable[[], bool | Awaitable[bool]], seconds: float = 60.0) -> None:
    """Wait for something that other tasks and processes bring about."""
    async with asyncio.timeout(seconds):
        while True:
            found = holds()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def sharing(address: Address) -> AsyncIterator[Together]:
    """Processes at this address, ended at the end."""
    together = Together(address)
    try:
        yield together
    finally:
        async with asyncio.timeout(60):
            await together.leave()
