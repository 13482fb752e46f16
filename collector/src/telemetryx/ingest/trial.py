"""Tries whether the store takes writes, where no batch shows it.

A full disk still takes the heartbeat, which rewrites what is there already; and after a batch that failed its agent may go to
another collector, so that no commit here shows that it is over. A trial needs room of its own and undoes itself:
each half minute that nothing was committed, and each few seconds after a failure.
"""

import asyncio
import contextlib
import time
from typing import Final, Protocol

from telemetryx.errors import StoreError

QUIET_S: Final = 30.0
TROUBLE_S: Final = 2.0


class Tried(Protocol):
    """A store that can be tried."""

    async def try_write(self, size: int) -> None:
        """Write about so many bytes and undo it. Raises StoreError."""
        ...


class Doubted(Protocol):
    """Who knows what was written, and hears of trials: Ingest."""

    @property
    def doubt_bytes(self) -> int | None:
        """Bytes that failed and weren't written since; None when nothing failed."""
        ...

    @property
    def committed_at(self) -> float:
        """When the last commit that succeeded began, monotonic."""
        ...

    def tried(self, error: StoreError | None, began: float) -> None:
        """Hear how a trial ended."""
        ...


class Trial:
    """app.py owns `run`."""

    def __init__(
        self, store: Tried, ingest: Doubted, *, quiet_s: float = QUIET_S, trouble_s: float = TROUBLE_S
    ) -> None:
        """Try this store; the times are what the docstring above says."""
        self._store = store
        self._ingest = ingest
        self._quiet_s = quiet_s
        self._trouble_s = trouble_s
        self._tried_at = time.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Try until `stop` is set."""
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._trouble_s)
            size, now = self._ingest.doubt_bytes, time.monotonic()
            if size is None and now - max(self._ingest.committed_at, self._tried_at) < self._quiet_s:
                continue
            self._tried_at = now
            try:
                await self._store.try_write(size or 0)
            except StoreError as error:
                self._ingest.tried(error, now)
            else:
                self._ingest.tried(None, now)
