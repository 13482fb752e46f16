"""Keeps a statement within its limits: time, memory, rows of the answer. Polars has none of its own, and can't be stopped.

The statement runs in a thread; when it is over a limit the command ends with a sentence, and the process with it.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from telemetryx.api.times import NS, TimeError, format_duration, parse_duration
from telemetryx.cli import output
from telemetryx.cli.errors import CliError, Exit

T = TypeVar("T")

_LOOK_S: Final = 0.02
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
LESS: Final = "ask for less: a condition on time or name, --since, --match, an aggregate, fewer joins"


class OverLimitError(CliError):
    """It was over a limit; threads that nothing can end still work on it, so the process ends without waiting for them."""

    at_once = True


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one statement may take."""

    time_ns: int
    memory: int
    """Bytes of the whole process."""
    rows: int
    """Of the answer."""
    what: str = "statement"
    less: str = LESS


def limits(timeout: str, memory_mib: int, rows: int = 0) -> Limits:
    """Read limits of a command line. Raises CliError."""
    return Limits(length_ns(timeout), memory_mib << 20, rows)


def length_ns(timeout: str) -> int:
    """Read --timeout, in nanoseconds. Raises CliError."""
    try:
        return parse_duration(timeout)
    except TimeError as error:
        raise CliError(f"--timeout: {error}", code=Exit.USAGE) from error


class _Run(Generic[T]):
    """Work in a thread, and what came of it."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self.result: T | None = None
        self.error: BaseException | None = None
        self.done = threading.Event()

    def __call__(self) -> None:
        try:
            self.result = self._work()
        # Polars' panics are no Exception; whatever it is, it is raised again where somebody waits.
        except BaseException as error:  # noqa: BLE001
            self.error = error
        finally:
            self.done.set()


def within(limits: Limits, work: Callable[[], T]) -> T:
    """Return what work returns, or raise OverLimitError."""
    run = _Run(work)
    until = time.monotonic() + limits.time_ns / NS
    threading.Thread(target=run, name="statement", daemon=True).start()
    try:
        while not run.done.wait(_LOOK_S):
            if time.monotonic() > until:
                raise OverLimitError(
                    f"the {limits.what} takes longer than {format_duration(limits.time_ns)}",
                    f"{limits.less}; or give it longer with --timeout",
                    Exit.USAGE,
                )
            if (taken := resident()) > limits.memory:
                raise OverLimitError(
                    f"the {limits.what} takes more than {output.size(limits.memory)} of memory ({output.size(taken)})",
                    f"{limits.less}; or allow more with --memory",
                    Exit.USAGE,
                )
    except KeyboardInterrupt:
        raise OverLimitError("interrupted", "", Exit.INTERRUPTED) from None
    if run.error is not None:
        raise run.error
    return run.result  # type: ignore[return-value]  # done without an error: it is what work returned


def resident() -> int:
    """Measure the memory of this process."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE
