"""Threads that evaluate: few, so that heavy queries leave the event loop and the other core alone; each query has a deadline.

A query that nobody waits for any more (the client went away, or its time is over) ends at its next step.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Final, TypeVar

from telemetryx.promql.errors import OutOfTime

T = TypeVar("T")

THREADS: Final = 2
#: Queries that wait for a thread; more are told to come again.
MAX_WAITING: Final = 32
TIMED_OUT: Final = "query timed out in expression evaluation"


class Busy(Exception):  # noqa: N818  it says why there is no answer now
    """Too many queries wait for their turn."""


class Deadline:
    """When a query ends, and whether anybody still waits for it. Checked from its thread."""

    def __init__(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        """Count from now."""
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self._loop = loop
        self._left = threading.Event()

    def leave(self) -> None:
        """Say that nobody waits any more."""
        self._left.set()

    def check(self) -> None:
        """Raise OutOfTime when it is over."""
        if self._left.is_set() or time.monotonic() > self._end:
            raise OutOfTime(TIMED_OUT)

    def within(self, asked: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the event loop and wait for it, from the query's thread."""
        left = self._end - time.monotonic()
        if left <= 0 or self._left.is_set():
            asked.close()
            raise OutOfTime(TIMED_OUT)
        future = asyncio.run_coroutine_threadsafe(asked, self._loop)
        try:
            return future.result(left)
        except (FutureTimeoutError, CancelledError) as error:
            future.cancel()
            raise OutOfTime(TIMED_OUT) from error


class Workers:
    """The threads, and how many queries wait for one."""

    def __init__(self, threads: int = THREADS) -> None:
        """Start none yet."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="promql")
        self._threads = threads
        self._inside = 0
        self._lock = threading.Lock()

    async def run(self, work: Callable[[Deadline], T], seconds: float) -> T:
        """Evaluate in a thread. Raises OutOfTime, or Busy when too many wait."""
        if self._inside >= self._threads + MAX_WAITING:
            raise Busy(f"{self._inside} queries run or wait for their turn")
        deadline = Deadline(seconds, asyncio.get_running_loop())

        def begin() -> T:
            deadline.check()
            return work(deadline)

        with self._lock:
            self._inside += 1
        future = self._pool.submit(begin)
        future.add_done_callback(self._done)
        waiting = asyncio.wrap_future(future)
        # Looked at, so that a failure that nobody waited for isn't reported as forgotten.
        waiting.add_done_callback(lambda one: one.cancelled() or one.exception())
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(waiting)
        except TimeoutError as error:
            raise OutOfTime(TIMED_OUT) from error
        finally:
            deadline.leave()
            # One that no thread has begun gives its place away; one that runs ends at its next step.
            future.cancel()

    def _done(self, future: Future[Any]) -> None:
        del future
        with self._lock:
            self._inside -= 1

    def close(self) -> None:
        """Take no more; what runs ends at its next step."""
        self._pool.shutdown(wait=False, cancel_futures=True)
