"""The one thread that writes. Work is a function of the connection, run in a transaction of its own; ingest goes first.

A failed transaction is rolled back and nothing of it may be acknowledged. After an I/O error the connection is thrown
away and opened anew: what the engine then finds is what counts, not what we remember. So is one that may only read: that is
decided when it is opened (a database's default, a file's mode), and mending it changes nothing for a connection from before.

Upkeep moves what is durable already, and nothing waits for it but ingest: its commits aren't fsynced while it holds the lock, but behind it. They lie in
the log before the commits that are, so whatever a power cut leaves is a state that there was. Should an fsync fail after such a
commit, the log is brought into the file before anything more is acknowledged.
"""

import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from enum import IntEnum
from typing import Any, Final, TypeVar

from telemetryx.errors import StoreError, StoreUnavailable
from telemetryx.store.tables.database import Database, Engine

T = TypeVar("T")
MAX_WAITING: Final = 4_096
_OF_THE_CONNECTION: Final = frozenset({"io", "read_only"})
"""Why a connection is given up: what is wrong may be wrong with it alone."""
ATTEMPTS: Final = 4
"""A transaction that another process was in the way of (a deadlock) is done again, so often in all."""


class Priority(IntEnum):
    """Who goes first when several wait."""

    INGEST = 0
    RULES = 1
    STATUS = 2
    UPKEEP = 3


class Writer:
    """Owns the writing connection and its thread."""

    def __init__(self, engine: Engine, on_rollback: Callable[[], None]) -> None:
        """Open the connection and start. `on_rollback` runs in the thread whenever a transaction was undone."""
        self._engine = engine
        self._on_rollback = on_rollback
        self._connection: Database | None = engine.open_writer()
        self._queue: list[tuple[int, int, Callable[[Database], Any], Future[Any]]] = []
        self._numbers = itertools.count()
        self._wake = threading.Condition()
        self._closing = False
        self._suspect = False
        """A write failed, perhaps its fsync, and with it what upkeep had committed."""
        self.longest_ns: dict[Priority, int] = dict.fromkeys(Priority, 0)
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, priority: Priority, work: Callable[[Database], T]) -> Future[T]:
        """Queue work; the future has its result after the commit, or the reason why there was none."""
        future: Future[T] = Future()
        with self._wake:
            if self._closing:
                raise StoreUnavailable("the store is closed", "closed")
            if len(self._queue) >= MAX_WAITING:
                raise StoreUnavailable(f"{MAX_WAITING} writes wait already: the disk is too slow", "locked")
            heapq.heappush(self._queue, (priority, next(self._numbers), work, future))
            self._wake.notify()
        return future

    def close(self) -> None:
        """Do what is queued, then close the connection and end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._closing:
                    self._wake.wait()
                if not self._queue:
                    break
                priority, _, work, future = heapq.heappop(self._queue)
            if not future.set_running_or_notify_cancel():
                continue
            started = time.perf_counter_ns()
            result, failure = None, None
            try:
                result = self._persist(work, durable=priority != Priority.UPKEEP)
            except BaseException as error:  # noqa: BLE001 - whatever it is belongs to who asked
                failure = error
            # Before the answer: who has it may ask how long it took.
            took = time.perf_counter_ns() - started
            self.longest_ns[Priority(priority)] = max(took, self.longest_ns[Priority(priority)])
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)
        if self._connection is not None:
            self._connection.finish()

    def _persist(self, work: Callable[[Database], Any], *, durable: bool) -> Any:  # noqa: ANN401 - the work's own type
        for _ in range(ATTEMPTS - 1):
            try:
                return self._transact(work, durable=durable)
            except StoreUnavailable as error:
                if error.reason != "conflict":
                    raise
        return self._transact(work, durable=durable)

    def _transact(self, work: Callable[[Database], Any], *, durable: bool) -> Any:  # noqa: ANN401 - the work's own type
        try:
            connection = self._begun(durable=durable)
            try:
                result = work(connection)
                connection.commit()
            except BaseException:
                self._undo(connection)
                raise
        except StoreError:
            raise
        except Exception as error:
            ours = self._engine.translate(error)
            if ours is None:
                raise
            if not isinstance(ours, StoreUnavailable) or ours.reason in _OF_THE_CONNECTION:
                self._suspect = True
                self._drop()
            raise ours from error
        return result

    def _begun(self, *, durable: bool) -> Database:
        """Begin a transaction; a connection that broke while nobody used it is opened anew first."""
        connection = self._connection
        if connection is not None:
            try:
                connection.begin(durable=durable)
            except StoreError:
                raise  # it has something to do before it may be given up, and can't yet
            except Exception:
                if connection.alive:
                    raise
                self._drop()
            else:
                return connection
        connection = self._engine.open_writer()
        if self._suspect:
            try:
                connection.harden()
            except BaseException:
                connection.close()
                raise
            self._suspect = False
        self._connection = connection
        connection.begin(durable=durable)
        return connection

    def _undo(self, connection: Database) -> None:
        self._on_rollback()
        try:
            connection.rollback()
        except Exception:  # noqa: BLE001 - whatever it is, this connection is of no use any more
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()
