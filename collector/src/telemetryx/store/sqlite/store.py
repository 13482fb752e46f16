"""SqliteStore: the store in one file. What is done stands in store/tables; here are the file's schema and its log."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from telemetryx.clock import Clock, SystemClock
from telemetryx.store.migrations import migrate
from telemetryx.store.sqlite import connection
from telemetryx.store.sqlite.engine import SqliteEngine
from telemetryx.store.tables.commit import MAX_TIME
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.store import TableStore
from telemetryx.store.tables.writer import Priority

T = TypeVar("T")

CHECKPOINT_EVERY_S: Final = 1.0


class SqliteStore(TableStore):
    """A Store in one SQLite file. Make one with `await SqliteStore.open(path)`."""

    def __init__(self, path: Path, clock: Clock, readers: int, future_limit_ns: int = MAX_TIME) -> None:
        """Open the file, bring its schema up to date, start the threads. Blocking: `open` runs it in a thread."""
        self.path = path
        first = connection.open_writer(path)
        try:
            with connection.translated():
                migrate(first)
        finally:
            first.close()
        super().__init__(SqliteEngine(path), clock, readers, future_limit_ns)
        self._wal = path.with_name(path.name + "-wal")
        self._checkpointer = ThreadPoolExecutor(1, thread_name_prefix="store-checkpoint")
        self._checkpointing: Future[None] | None = None
        self._checkpointed = 0.0

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        clock: Clock | None = None,
        readers: int = 4,
        future_limit_ns: int = MAX_TIME,
    ) -> "SqliteStore":
        """Open a store, creating its file; a schema of an older collector is brought up to date.

        Batches with times further ahead of the clock than the limit are kept apart.
        """
        return await asyncio.to_thread(cls, path, clock or SystemClock(), readers, future_limit_ns)

    async def write(self, work: Callable[[Database], T], priority: Priority = Priority.RULES) -> T:
        """Run work in a transaction on the writer; afterwards look at the log's size."""
        try:
            return await super().write(work, priority)
        finally:
            self._tidy_wal()

    def _tidy_wal(self) -> None:
        """Have a thread checkpoint when the WAL has grown, so that the writer doesn't do it inside a commit."""
        if self._checkpointing is not None and not self._checkpointing.done():
            return
        try:
            large = self._wal.stat().st_size > connection.CHECKPOINT_BYTES
        except OSError:
            return
        if large and time.monotonic() - self._checkpointed > CHECKPOINT_EVERY_S:
            self._checkpointed = time.monotonic()
            self._checkpointing = self._checkpointer.submit(connection.checkpoint, self.path)

    def _close(self) -> None:
        self._checkpointer.shutdown(wait=True)
        super()._close()
