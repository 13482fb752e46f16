"""A TCP proxy on loopback in front of a real server: it can delay what passes, or let nothing pass while connections stay open."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

PIECE: Final = 1 << 16


@dataclass
class SlowProxy:
    """Set `delay_s` (each piece, each way), or clear `open` to stop everything in the middle."""

    target: int
    delay_s: float = 0.0
    port: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection both ways."""
        with contextlib.suppress(OSError, asyncio.CancelledError), contextlib.closing(writer):
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
            with contextlib.closing(back):
                ways = [
                    asyncio.create_task(self._carry(reader, back)),
                    asyncio.create_task(self._carry(there, writer)),
                ]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while piece := await source.read(PIECE):
            await asyncio.sleep(self.delay_s)
            await self.open.wait()
            target.write(piece)
            await target.drain()


@contextlib.asynccontextmanager
async def slow_proxy(target: int) -> AsyncIterator[SlowProxy]:
    """Run one in front of a port of this machine; it lets everything pass until told otherwise."""
    proxy = SlowProxy(target)
    proxy.open.set()
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await proxy.serve(reader, writer)
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
        # What was closed is let go in the loop's next rounds.
        await asyncio.sleep(0.05)
