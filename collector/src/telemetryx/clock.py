"""The collector's clocks, as an argument: only app.py uses the real ones, tests move their own.

Wall time is for what people and agents see; monotonic time is for waits and rates and never jumps.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """What the parts ask of a clock."""

    def now_ns(self) -> int:
        """Return wall time, nanoseconds since the epoch."""
        ...

    def mono_ns(self) -> int:
        """Return time since some start that never jumps, nanoseconds."""
        ...


class SystemClock:
    """This machine's clocks."""

    def now_ns(self) -> int:
        """Return wall time, nanoseconds since the epoch."""
        return time.time_ns()

    def mono_ns(self) -> int:
        """Return monotonic time, nanoseconds."""
        return time.monotonic_ns()


class ManualClock:
    """A clock that stands until it is moved: for tests, backtests and replays."""

    def __init__(self, now_ns: int = 1_700_000_000_000_000_000, mono_ns: int = 0) -> None:
        """Start at a time."""
        self._now_ns = now_ns
        self._mono_ns = mono_ns

    def now_ns(self) -> int:
        """Return the time it was moved to."""
        return self._now_ns

    def mono_ns(self) -> int:
        """Return the monotonic time it was moved to."""
        return self._mono_ns

    def advance(self, ns: int) -> None:
        """Let time pass on both clocks."""
        self._now_ns += ns
        self._mono_ns += ns

    def step(self, ns: int) -> None:
        """Set the wall clock forth or back, as a person or NTP does."""
        self._now_ns += ns
