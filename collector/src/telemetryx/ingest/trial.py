"""Tries whether the store takes writes, where no batch shows it.

A full disk still takes the heartbeat, which rewrites what is there already; and after a batch that failed its agent may go to
another collector, so that no commit here shows that it is over. A trial needs room of its own and undoes itself:
each half minute that nothing was committed, and each few seconds after a failure.

Nor does a batch show that a table is gone which it doesn't touch, such as one of alerts: so each few seconds it is looked whether the tables are
as the schema has them.
"""

import asyncio
import contextlib
import time
from typing import Final, Protocol

from telemetryx.errors import SchemaBroken, StoreError

QUIET_S: Final = 30.0
TROUBLE_S: Final = 2.0
SCHEMA_S: Final = 10.0


class Tried(Protocol):
    """A store that can be tried."""

    async def try_write(self, size: int) -> None:
        """Write about so many bytes and undo it. Raises StoreError."""
        ...

    async def check_schema(self) -> None:
        """Look whether all tables are there. Raises SchemaBroken, or another StoreError where nothing can be read."""
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

    def looked(self, error: SchemaBroken | None) -> None:
        """Hear whether the tables are as the schema has them."""
        ...


class Trial:
    """app.py owns `run`."""

    def __init__(
        self,
        store: Tried,
        ingest: Doubted,
        *,
        quiet_s: float = QUIET_S,
        trouble_s: float = TROUBLE_S,
        schema_s: float = SCHEMA_S,
    ) -> None:
        """Try this store; the times are what the docstring above says."""
        self._store = store
        self._ingest = ingest
        self._quiet_s = quiet_s
        self._trouble_s = trouble_s
        self._schema_s = schema_s
        self._tried_at = self._looked_at = time.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Try until `stop` is set."""
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._trouble_s)
            await self._look()
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

    async def _look(self) -> None:
        """Look whether the tables are there, where it is time to."""
        if time.monotonic() - self._looked_at < self._schema_s:
            return
        self._looked_at = time.monotonic()
        try:
            await self._store.check_schema()
        except SchemaBroken as error:
            self._ingest.looked(error)
        except StoreError:
            return  # whether anything can be written, a trial shows
        else:
            self._ingest.looked(None)
