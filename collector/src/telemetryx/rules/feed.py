"""What was just committed, on its way to the rules: they need not read it from the store again.

Commits are offered in order, the engine asks for what lies behind its cursor. An answer is given only where the feed is sure
to hold all of it: each commit comes with the number that it follows. Where one process commits, that is one less than its own,
and a missing number is a commit whose outcome was never known; where several do, whoever follows them knows (ingest/follow.py).
Anything else, also what was let go of for want of room, sends the engine to the store.
"""

from collections import deque
from dataclasses import replace
from typing import Final

from telemetryx.types import Committed

#: Readings held at most, about 24 bytes each.
MAX_READINGS: Final = 400_000
#: Commits held at most: each costs something, however little is in it.
MAX_COMMITS: Final = 4_096


class Feed:
    """The newest commits, in order and without a gap."""

    def __init__(self, max_readings: int = MAX_READINGS, max_commits: int = MAX_COMMITS) -> None:
        """Hold nothing yet, and know nothing."""
        self._max_readings = max_readings
        self._max_commits = max_commits
        self._commits: deque[Committed] = deque()
        self._readings = 0
        self._last = -1
        self._from = -1

    def offer(self, batch: Committed, after: int | None = None) -> None:
        """Take the commit that follows number `after` (one less, if not told); called on the event loop, in commit order."""
        after = batch.cursor - 1 if after is None else after
        if after != self._last:
            self.distrust()
            self._from = after
        self._last = batch.cursor
        # Rules judge no events, and these may be large.
        self._commits.append(replace(batch, events=None))
        self._readings += _size(batch)
        while self._readings > self._max_readings or len(self._commits) > self._max_commits:
            self._let_go()

    def after(self, cursor: int, limit: int) -> list[Committed] | None:
        """Return up to `limit` commits behind a cursor, and let go of those up to it; None: only the store knows."""
        while self._commits and self._commits[0].cursor <= cursor:
            self._let_go()
        if self._last < 0 or not 0 <= self._from <= cursor <= self._last:
            return None
        return [self._commits[at] for at in range(min(limit, len(self._commits)))]

    def _let_go(self) -> None:
        """Drop the oldest; what is behind it is still here."""
        gone = self._commits.popleft()
        self._readings -= _size(gone)
        self._from = gone.cursor

    def distrust(self) -> None:
        """Forget all: the next question goes to the store."""
        self._commits.clear()
        self._readings = 0
        self._last = -1


def _size(batch: Committed) -> int:
    return len(batch.samples) + (0 if batch.windows is None else 4 * len(batch.windows))
