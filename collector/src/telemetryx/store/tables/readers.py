"""Readers: a few threads, each with its own connection; each query sees one snapshot from its first to its last row."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from telemetryx.errors import StoreError, StoreUnavailable
from telemetryx.store.tables.database import Database, Engine

T = TypeVar("T")


class Snapshots:
    """One reading connection, opened when first needed and anew when it broke. For one thread at a time."""

    def __init__(self, engine: Engine) -> None:
        """Open nothing yet."""
        self._engine = engine
        self._connection: Database | None = None

    def read(self, work: Callable[[Database], T], *, single: bool = False) -> T:
        """Run work on a snapshot. What the connection's loss interrupted is done again: it wrote nothing.

        `single` work is one statement, which sees one state by itself: a server is spared two round trips.
        """
        try:
            try:
                return self._once(work, single)
            except StoreError:
                raise
            except Exception:
                if self._connection is None or self._connection.alive:
                    raise
                self.close()
            return self._once(work, single)
        except StoreError:
            raise
        except Exception as error:
            ours = self._engine.translate(error)
            if ours is None:
                raise
            raise ours from error

    def _once(self, work: Callable[[Database], T], single: bool) -> T:  # noqa: FBT001 - passed on
        if self._connection is None:
            self._connection = self._engine.open_reader()
        connection = self._connection
        if single and connection.shared:
            return work(connection)
        connection.begin_snapshot()
        try:
            return work(connection)
        finally:
            connection.rollback()

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()


class Readers:
    """Runs functions of a read-only connection in a pool of threads."""

    def __init__(self, engine: Engine, threads: int) -> None:
        """Use at most this many threads and connections, opened when first needed."""
        self._engine = engine
        self._local = threading.local()
        self._all: list[Snapshots] = []
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store-reader")
        self._closed = False

    async def read(self, work: Callable[[Database], T], *, single: bool = False) -> T:
        """Run work on a snapshot; `single` is work of one statement."""
        if self._closed:
            raise StoreUnavailable("the store is closed", "closed")
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, work, single)

    def _read(self, work: Callable[[Database], T], single: bool) -> T:  # noqa: FBT001 - passed on
        mine: Snapshots | None = getattr(self._local, "snapshots", None)
        if mine is None:
            mine = self._local.snapshots = Snapshots(self._engine)
            with self._lock:
                self._all.append(mine)
        return mine.read(work, single=single)

    def close(self) -> None:
        """Finish what runs and close the connections."""
        self._closed = True
        self._pool.shutdown(wait=True)
        for one in self._all:
            one.close()
