"""What one PromQL query holds of the budget for queries (budget.py): it grows as the query reads and computes, and ends with its thread.

Nobody knows beforehand what an expression will hold, so whoever is about to allocate says so first: the store's readers for
rows, the evaluator for vectors, the answer for its text. Beyond a query's own bound it is refused, before the memory is there;
what others hold it waits for.
"""

import asyncio
import contextlib
import threading
from typing import Final

from telemetryx.api.budget import PROMQL, Budget
from telemetryx.api.prometheus.work import Deadline
from telemetryx.promql.errors import TOO_MANY, ExecutionFailed

STEP: Final = 8 << 20
"""The budget is asked for so much at once: a small query asks it once."""


class Share:
    """Held by one query. `hold` and `release` are called from its threads; the budget lives on the event loop."""

    def __init__(
        self, budget: Budget, deadline: Deadline, loop: asyncio.AbstractEventLoop, most: int | None = None
    ) -> None:
        """Hold nothing yet."""
        self._budget = budget
        self._deadline = deadline
        self._loop = loop
        self._most = PROMQL if most is None else most
        self._needed = 0
        self._taken = 0
        self._ended = False
        self._lock = threading.Lock()

    def hold(self, size: int) -> None:
        """Say that so many bytes more are about to be held. Raises ExecutionFailed when a query may not hold that much."""
        self._deadline.check()
        with self._lock:
            needed = self._needed + size
            if needed > self._most:
                raise ExecutionFailed(
                    f"{TOO_MANY}: it would hold more than {self._most >> 20} MiB; ask for fewer series, a wider step or a shorter time, or aggregate"
                )
            if needed > self._taken:
                wanted = min(self._most, -(-needed // STEP) * STEP) - self._taken
                self._deadline.within(self._grow(wanted))
            self._needed = needed

    def release(self, size: int) -> None:
        """Say that so many bytes are no longer held. What was taken of the budget stays the query's until it ends."""
        with self._lock:
            self._needed -= size

    def end(self) -> None:
        """Give everything back; from any thread."""
        # A loop that is closed has no budget any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end)

    async def _grow(self, wanted: int) -> None:
        size = await self._budget.grow(wanted)
        if self._ended:
            self._budget.give(size)
        else:
            self._taken += size

    def _end(self) -> None:
        self._ended = True
        self._budget.give(self._taken)
        self._taken = 0
