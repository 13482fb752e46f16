"""Plans compaction and rollups on a connection of its own: in a thread when there is little to do, else in a process.

Planning decodes, sorts and encodes: it takes a core, and Python's one lock with it, from the thread that commits. So a busy
store does it in a child process (planning.py), which is told over its pipe how to open the
store, answers over the pipe, and ends when it does. It never writes; a dead one costs the piece it was at, which is planned again.
"""

import contextlib
import ctypes
import os
import pickle
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import IO, Any, Final, Protocol, TypeVar

import structlog

from telemetryx.errors import StoreError, StoreUnavailable
from telemetryx.store.tables import compaction, refresh, rollup
from telemetryx.store.tables.database import Engine
from telemetryx.store.tables.numbers import Numbers
from telemetryx.store.tables.readers import Snapshots
from telemetryx.store.tables.swap import Piece, Swap

log = structlog.get_logger(__name__)
T = TypeVar("T")

HEAVY: Final = 100_000
"""Samples in one run from which on it is planned in the process."""
IDLE_ROUNDS: Final = 12
"""So many rounds with nothing to compact end the process."""
ANSWER_TIMEOUT_S: Final = 5.0
NICE: Final = 5
SLICE: Final = 500
"""Rows of a swap that are unpickled at once: half a millisecond."""
_LENGTH: Final = struct.Struct("<Q")


class Planner(Protocol):
    """Plans on a snapshot of the store."""

    def compaction(
        self, now_ns: int, limit: int, *, everything: bool, leaving: Collection[int] = ()
    ) -> Swap | None:
        """Choose and encode a run without the batches that are leaving, or None when nothing is due."""
        ...

    def rollups(self, rows: int, least: int = 1) -> refresh.Refresh:
        """Recompute what is dirty, for series with so many entries."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...


class LocalPlanner:
    """Plans where it is called."""

    def __init__(self, engine: Engine) -> None:
        """Open the store at the first call."""
        self._numbers = Numbers()
        self._snapshots = Snapshots(engine)

    def compaction(
        self, now_ns: int, limit: int, *, everything: bool, leaving: Collection[int] = ()
    ) -> Swap | None:
        """Choose and encode a run."""
        return self._snapshots.read(
            lambda db: compaction.plan(
                db, self._numbers, now_ns, limit, everything=everything, leaving=leaving
            )
        )

    def due(self, now_ns: int, limit: int, *, everything: bool, leaving: Collection[int] = ()) -> int:
        """Count the samples of the run that would be chosen."""
        return self._snapshots.read(
            lambda db: compaction.due(db, now_ns, limit, everything=everything, leaving=leaving)
        )

    def rollups(self, rows: int, least: int = 1) -> refresh.Refresh:
        """Recompute what is dirty, for series with so many entries."""
        return self._snapshots.read(lambda db: refresh.plan(db, rows, least))

    def close(self) -> None:
        """Close the connection."""
        self._snapshots.close()


class ProcessPlanner:
    """Plans in a child process."""

    def __init__(self, engine: Engine) -> None:
        """Start the process and tell it the store: over the pipe, for a password is nobody else's to see."""
        search = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "telemetryx.store.tables.planning"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": search},
        )
        assert self._process.stdin is not None  # noqa: S101 - it is a PIPE above
        with contextlib.suppress(OSError):  # one that died is noticed when it is asked
            _send(self._process.stdin, engine)

    @property
    def pid(self) -> int:
        """Return the process's id."""
        return self._process.pid

    def compaction(
        self, now_ns: int, limit: int, *, everything: bool, leaving: Collection[int] = ()
    ) -> Swap | None:
        """Choose and encode a run."""
        swap: Swap | None = self._ask("compaction", now_ns, limit, everything, leaving)
        return swap

    def rollups(self, rows: int, least: int = 1) -> refresh.Refresh:
        """Recompute what is dirty, for series with so many entries."""
        found: refresh.Refresh = self._ask("rollups", rows, least)
        return found

    def _ask(self, *question: object) -> Any:  # noqa: ANN401 - the two above say what comes
        assert self._process.stdin is not None  # noqa: S101 - both are PIPE above
        assert self._process.stdout is not None  # noqa: S101
        try:
            _send(self._process.stdin, question)
            answer = _receive_answer(self._process.stdout)
        except (OSError, EOFError) as error:
            raise StoreUnavailable(
                f"the compaction process died: {error!r}; it is started again", "io"
            ) from error
        if isinstance(answer, StoreError):
            raise answer
        return answer

    def close(self) -> None:
        """End the process: it leaves when its pipe closes."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(ANSWER_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Adaptive:
    """Plans in the thread while runs are small, and in a process while they are large."""

    def __init__(self, engine: Engine) -> None:
        """Begin in the thread."""
        self._engine = engine
        self._local = LocalPlanner(engine)
        self._process: ProcessPlanner | None = None
        self._idle = 0

    def compaction(
        self, now_ns: int, limit: int, *, everything: bool, leaving: Collection[int] = ()
    ) -> Swap | None:
        """Choose and encode a run. Its size decides where: what one large run takes here, this process would never give back."""
        if (
            self._process is None
            and self._local.due(now_ns, limit, everything=everything, leaving=leaving) >= HEAVY
        ):
            self._process = ProcessPlanner(self._engine)
            log.info("store.compaction_process_started", pid=self._process.pid)
        swap = self._in_turn(
            lambda planner: planner.compaction(now_ns, limit, everything=everything, leaving=leaving)
        )
        if swap is not None and swap.samples >= HEAVY:
            self._idle = 0
        elif swap is None and self._process is not None:
            self._idle += 1
            if self._idle >= IDLE_ROUNDS:
                self._end_process()
        return swap

    def rollups(self, rows: int, least: int = 1) -> refresh.Refresh:
        """Recompute what is dirty, for series with so many entries."""
        return self._in_turn(lambda planner: planner.rollups(rows, least))

    def _in_turn(self, work: Callable[[Planner], T]) -> T:
        if self._process is None:
            return work(self._local)
        try:
            return work(self._process)
        except StoreUnavailable as error:
            log.warning("store.compaction_process_lost", reason=str(error))
            self._end_process()
            return work(self._local)

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def close(self) -> None:
        """Close both."""
        self._end_process()
        self._local.close()


# --- what goes over the pipe


def _send_answer(pipe: IO[bytes], answer: object) -> None:
    """Send an answer; the pieces of a swap one by one behind it, for no other thread runs while one is unpickled."""
    if not isinstance(answer, Swap):
        _send(pipe, answer)
        return
    _send(pipe, replace(answer, pieces=[]))
    _send(pipe, len(answer.pieces))
    for piece in answer.pieces:
        whole = [list(rows) for rows in _lists(piece)]
        _send(pipe, replace(piece, tails=[], chunks=[], dirty=[], late=rollup.Late()))
        for rows in whole:
            _send(pipe, len(rows))
            for start in range(0, len(rows), SLICE):
                _send(pipe, rows[start : start + SLICE])


def _receive_answer(pipe: IO[bytes]) -> Any:  # noqa: ANN401
    answer = _receive(pipe)
    if isinstance(answer, Swap):
        for _ in range(_receive(pipe)):
            piece = _receive(pipe)
            for rows in _lists(piece):
                count: int = _receive(pipe)
                while len(rows) < count:
                    rows.extend(_receive(pipe))
            answer.pieces.append(piece)
    return answer


def _lists(piece: Piece) -> tuple[list[Any], ...]:
    """Return those that may be long: one series may have many rows."""
    return piece.tails, piece.chunks, piece.dirty, piece.late.minutes, piece.late.hours


def _send(pipe: IO[bytes], message: object) -> None:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.write(_LENGTH.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> Any:  # noqa: ANN401
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError("the pipe is closed")
    (length,) = _LENGTH.unpack(head)
    data = pipe.read(length)
    if len(data) < length:
        raise EOFError("the pipe was closed in the middle of a message")
    return pickle.loads(data)  # noqa: S301 - between a process and the child it started, over their own pipe


# --- the child's side


def serve() -> None:
    """Answer questions until the pipe closes. A signal to the whole group (Ctrl-C) is the parent's to act on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(NICE)
    planner = LocalPlanner(_receive(sys.stdin.buffer))
    answers = os.fdopen(os.dup(1), "wb")
    give_back = _giving_back()
    os.dup2(2, 1)  # whatever prints goes to the log, not between the answers
    while True:
        try:
            name, *arguments = _receive(sys.stdin.buffer)
        except EOFError:
            break
        try:
            if name == "compaction":
                now_ns, limit, everything, leaving = arguments
                answer: object = planner.compaction(now_ns, limit, everything=everything, leaving=leaving)
            else:
                answer = planner.rollups(*arguments)
        except StoreError as error:
            answer = StoreError(str(error))
        _send_answer(answers, answer)
        del answer
        give_back()
    planner.close()


def _giving_back() -> Callable[[], object]:
    """Return what gives the allocator's free pages back, where the C library can: they would be held until the next run, for as long as that takes."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return lambda: None
    return partial(trim, 0)
