"""The collector's clocks, as an argument: only app.py uses the real ones, tests move their own.

Wall time is for what people and agents see; monotonic time is for waits and rates and never jumps.
"""

import ctypes
import sys
import time
from typing import Final, Protocol

_UNSYNCHRONISED: Final = 0x40
_ERROR: Final = 5
_AGREES_S: Final = 5.0


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


class _Timex(ctypes.Structure):
    """Linux's `struct timex` where a long has 64 bits: up to the time, and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("fraction", ctypes.c_long),
        ("rest", ctypes.c_long * 32),
    )


def synchronised(now_ns: int) -> bool:
    """Tell whether the kernel's clock is kept by NTP and shows this wall time, nanoseconds. False where nobody knows."""
    if not sys.platform.startswith("linux") or ctypes.sizeof(ctypes.c_long) != ctypes.sizeof(ctypes.c_int64):
        return False
    told = _Timex()
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.byref(told))
    except (OSError, AttributeError):
        return False
    if state < 0 or state == _ERROR or told.status & _UNSYNCHRONISED:
        return False
    return abs(now_ns / 1e9 - int(told.seconds)) <= _AGREES_S


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
