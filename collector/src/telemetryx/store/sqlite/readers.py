"""Readers: a few threads, each with its own connection; each query sees one snapshot from its first to its last row."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from telemetryx.errors import StoreUnavailable
from telemetryx.store.sqlite.connection import translated

T = TypeVar("T")


class Readers:
    """Runs functions of a read-only connection in a pool of threads."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], threads: int) -> None:
        """Use at most this many threads and connections, opened when first needed."""
        self._connect = connect
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store-reader")
        self._closed = False

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run work on a snapshot."""
        if self._closed:
            raise StoreUnavailable("the store is closed", "closed")
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, work)

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with translated():
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = self._connect()
                with self._lock:
                    self._all.append(connection)
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def close(self) -> None:
        """Finish what runs and close the connections."""
        self._closed = True
        self._pool.shutdown(wait=True)
        for connection in self._all:
            connection.close()
