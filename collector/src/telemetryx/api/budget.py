"""What all running queries together may hold in memory: who doesn't fit in waits for his turn, and is told to come again when it doesn't come.

A query says beforehand what it will hold at most (slices.py and percentile.py bound it); PromQL, which can't know that, grows as it goes, up to
a bound of its own (prometheus/share.py). What a thread reads it goes on holding after its client has left, until it ends: so does its share.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from telemetryx.api.errors import Unavailable

T = TypeVar("T")

MOST: Final = 512 << 20
"""Bytes of all queries together."""
SLICE: Final = 128 << 20
"""Bytes of what one query reads at once, with what becomes of it on the way."""
PERCENTILE: Final = 224 << 20
"""Bytes of a percentile: a slice, a million readings that are put in order, and sketches."""
POINT: Final = 160
"""Bytes of a point in an answer: columns, what they are reduced through, and its text."""
PROMQL: Final = 320 << 20
"""Bytes of one PromQL query at most: they leave a slice to others. Two that are both so large take turns."""
PATIENCE_S: Final = 10.0
"""Seconds that a query waits for its turn at most."""


class Budget:
    """Bytes, given in the order in which they were asked for. For one event loop."""

    def __init__(self, most: int = MOST, patience_s: float = PATIENCE_S) -> None:
        """Begin with all of it free."""
        self._most = most
        self._patience_s = patience_s
        self._free = most
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def held(self) -> int:
        """Bytes that are given away."""
        return self._most - self._free

    @asynccontextmanager
    async def hold(self, wanted: int) -> AsyncIterator[None]:
        """Hold so many bytes (at most all). Raises Unavailable when they don't become free in time."""
        size = await self._take(wanted)
        try:
            yield
        finally:
            self._give(size)

    async def run(self, wanted: int, work: Coroutine[Any, Any, T]) -> T:
        """Do work that a thread does, holding so many bytes until it has ended, though nobody waits for it any more."""
        try:
            size = await self._take(wanted)
        except BaseException:
            work.close()
            raise
        task = asyncio.ensure_future(work)

        def ended(done: asyncio.Future[T]) -> None:
            self._give(size)
            # Looked at, so that a failure that nobody waited for isn't reported as forgotten.
            _ = done.cancelled() or done.exception()

        task.add_done_callback(ended)
        return await asyncio.shield(task)

    async def grow(self, wanted: int) -> int:
        """Take more for who holds something already, before all who wait with nothing: he can't give it back before he gets on.

        Returns what was taken, for `give`. Raises Unavailable when it doesn't become free in time.
        """
        return await self._take(wanted, first=True)

    def give(self, size: int) -> None:
        """Take back what `grow` gave."""
        self._give(size)

    async def _take(self, wanted: int, *, first: bool = False) -> int:
        size = min(max(wanted, 0), self._most)
        if (first or not self._waiting) and size <= self._free:
            self._free -= size
            return size
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size, turn)
        (self._waiting.appendleft if first else self._waiting.append)(entry)
        try:
            async with asyncio.timeout(self._patience_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._give(size)  # it came as it was given up
            else:
                self._waiting.remove(entry)
                self._next()
            if isinstance(error, TimeoutError):
                raise Unavailable(
                    "other queries hold all the memory that queries may have",
                    "try again when they have ended, or ask for less",
                    retry_after=5,
                ) from error
            raise
        return size

    def _give(self, size: int) -> None:
        self._free += size
        self._next()

    def _next(self) -> None:
        """Give whoever waits longest what he wants, if it is there: a large query isn't overtaken for ever by small ones."""
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self._free):
            size, turn = self._waiting[0]
            if turn.done():
                # Cancelled: whoever waited for it takes the entry away.
                return
            self._waiting.popleft()
            self._free -= size
            turn.set_result(None)
