"""SqliteStore: the store in one file. What is done stands in store/tables; here are the file's schema and its log."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import structlog

from telemetryx.clock import Clock, SystemClock
from telemetryx.errors import StoreError
from telemetryx.store.migrations import migrate
from telemetryx.store.sqlite import connection, wal
from telemetryx.store.sqlite.database import identity_of
from telemetryx.store.sqlite.engine import SqliteEngine
from telemetryx.store.tables.commit import MAX_TIME
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.lease import Member
from telemetryx.store.tables.store import TableStore
from telemetryx.store.tables.today import day
from telemetryx.store.tables.writer import Priority

T = TypeVar("T")

log = structlog.get_logger(__name__)

CHECKPOINT_EVERY_S: Final = 1.0


class SqliteStore(TableStore):
    """A Store in one SQLite file. Make one with `await SqliteStore.open(path)`."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        readers: int,
        future_limit_ns: int = MAX_TIME,
        member: Member = Member(),  # noqa: B008 - a value that never changes
    ) -> None:
        """Open the file, bring its schema up to date, start the threads. Blocking: `open` runs it in a thread."""
        self.path = path
        without_log = wal.missing(path)
        first = connection.open_writer(path)
        try:
            with connection.translated():
                migrate(first)
                self._lost = wal.lost(first, path) if without_log else ""
                if self._lost:
                    log.error("store.log_missing", reason=self._lost)
                    wal.note(first, clock.now_ns())
        finally:
            first.close()
        self._file = SqliteEngine(path, identity_of(path))
        super().__init__(self._file, clock, readers, future_limit_ns, member)
        self._wal = wal.log_of(path)
        self._checkpointer = ThreadPoolExecutor(1, thread_name_prefix="store-checkpoint")
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="store-sync")
        self._checkpointing: Future[None] | None = None
        self._checkpointed = 0.0
        self._checkpoint()

    @property
    def note(self) -> str:
        """Say what became of the log; "" when nothing did."""
        if self._file.saved:
            return (
                f"the log {self._wal} was deleted at {day(self._file.saved[-1])} or before, while the collector ran: all of it was brought into the "
                "file, nothing is lost"
            )
        return self._lost

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        clock: Clock | None = None,
        readers: int = 4,
        future_limit_ns: int = MAX_TIME,
        member: Member = Member(),  # noqa: B008 - a value that never changes
    ) -> "SqliteStore":
        """Open a store, creating its file; a schema of an older collector is brought up to date.

        Batches with times further ahead of the clock than the limit are kept apart.
        """
        return await asyncio.to_thread(cls, path, clock or SystemClock(), readers, future_limit_ns, member)

    async def write(self, work: Callable[[Database], T], priority: Priority = Priority.RULES) -> T:
        """Run work in a transaction on the writer; afterwards look at the log's size."""
        try:
            done = await super().write(work, priority)
            if priority is Priority.UPKEEP:
                # Closed meanwhile: that brings the whole log into the file.
                with contextlib.suppress(RuntimeError):
                    await asyncio.get_running_loop().run_in_executor(self._syncer, self._sync)
        finally:
            self._tidy_wal()
        return done

    def _sync(self) -> None:
        """Bring upkeep's commit to the disk while others may write already, so that the next durable commit brings its own alone.

        An error is told to the writer as well, at its next fsync: who has the file open hears of it once each. The log carries no
        locks of SQLite's, so it may be opened and closed here (the file and its -shm may not).
        """
        with contextlib.suppress(OSError):
            log = os.open(self._wal, os.O_RDWR)
            try:
                os.fdatasync(log)
            finally:
                os.close(log)

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
            self._checkpointing = self._checkpointer.submit(self._checkpoint)

    def _checkpoint(self) -> None:
        """Bring what is in the log into the file, and have the file know that there will be more in the log (wal.py)."""
        number = None
        # What can't be counted is checkpointed all the same: that may be what makes room.
        with contextlib.suppress(StoreError):
            number = self._writer.submit(Priority.UPKEEP, wal.begin).result()
        connection.checkpoint(self.path)
        if number is not None:
            made = number
            self._writer.submit(Priority.UPKEEP, lambda db: wal.seen(db, made)).result()

    def _close(self) -> None:
        self._syncer.shutdown(wait=True)
        self._checkpointer.shutdown(wait=True)
        # The writer's last work is to bring the log into the file.
        with contextlib.suppress(Exception):
            self._writer.submit(Priority.UPKEEP, wal.end).result()
        super()._close()
