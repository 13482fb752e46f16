"""Who may open a session now, and when the others shall come: after an outage a whole fleet returns in the same second.

A session costs the store a few queries and a commit, so only so many begin in a second. Who comes too early gets an
appointment: the times are handed out in order of arrival, one every 1/rate seconds, and kept for whoever they were given
to. So nobody is overtaken, nobody has to try his luck, and the load stays the same however many wait.
"""

from collections.abc import Callable
from typing import Final

MAX_APPOINTMENTS: Final = 10_000
"""Kept at once. Beyond, a time is told but not kept: the agent queues again when it comes."""
GRACE_S: Final = 30.0
"""How long after its time an appointment is kept: the agent adds jitter of its own, and its link may be slow."""
BURST_S: Final = 1.0
"""After a pause, the sessions of so many seconds may begin at once."""
EARLY_S: Final = 0.25
"""Who comes this much too early may enter: clocks and timers aren't exact."""


class Admission:
    """The appointment book. Times are seconds of one monotonic clock."""

    def __init__(self, rate: float, now: Callable[[], float]) -> None:
        """Let in so many a second, and as many at once after a pause."""
        self._gap = 1.0 / rate
        self._now = now
        self._next = now() - BURST_S
        self._book: dict[str, float] = {}

    def wait_s(self, agent: str) -> float:
        """Return 0 when the agent may enter, or in how many seconds it shall come back."""
        now = self._now()
        due = self._book.get(agent)
        if due is not None and now <= due + GRACE_S:
            if now < due - EARLY_S:
                return due - now
            del self._book[agent]
            return 0.0
        self._book.pop(agent, None)
        # Slots run behind the clock by at most the burst.
        slot = max(self._next, now - BURST_S + self._gap)
        self._next = slot + self._gap
        if slot <= now:
            return 0.0
        self._forget(now)
        if len(self._book) < MAX_APPOINTMENTS:
            self._book[agent] = slot
        return slot - now

    def _forget(self, now: float) -> None:
        """Drop appointments that nobody kept; the oldest come first, for they were given in order."""
        for agent, due in list(self._book.items())[:2]:
            if now > due + GRACE_S:
                del self._book[agent]
