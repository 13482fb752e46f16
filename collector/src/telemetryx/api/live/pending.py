"""What one live client still has to get: commits not yet sent, bounded; what exceeds it is dropped, oldest first.

A slow client so falls back to the latest and says how much it missed; it never holds up a commit or another client.
"""

from collections import deque
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from telemetryx.types import F64, I64, Committed

#: Samples of the commits that may wait for one client. They are shared between clients, so this bounds references.
MAX_WAITING: Final = 500_000
MAX_COMMITS: Final = 4_096
#: Points in one message; of each series the newest are kept.
MAX_POINTS: Final = 20_000


def rows(committed: Committed) -> int:
    """Count what a commit holds for the live view."""
    return len(committed.samples) + (0 if committed.windows is None else len(committed.windows))


@dataclass(slots=True)
class Pending:
    """Commits that wait to be sent to one client."""

    commits: deque[Committed] = field(default_factory=deque)
    waiting: int = 0
    dropped: int = 0
    cursor: int = 0
    """The newest commit that was offered, wanted or not: where a client resumes."""

    def offer(self, committed: Committed) -> None:
        """Take a commit; drop the oldest when too much waits."""
        self.cursor = max(self.cursor, committed.cursor)
        self.commits.append(committed)
        self.waiting += rows(committed)
        while len(self.commits) > 1 and (self.waiting > MAX_WAITING or len(self.commits) > MAX_COMMITS):
            oldest = self.commits.popleft()
            self.waiting -= rows(oldest)
            self.dropped += rows(oldest)

    def take(self, wanted: AbstractSet[int]) -> tuple[dict[str, dict[str, Any]], int]:
        """Empty it into the message's `series`, and say how many points were left out."""
        commits, self.commits, self.waiting = self.commits, deque(), 0
        dropped, self.dropped = self.dropped, 0
        if not wanted or not commits:
            return {}, dropped if wanted else 0
        ids = np.fromiter(wanted, np.int64, len(wanted))
        ids.sort()
        parts: dict[int, list[tuple[I64, F64]]] = {}
        for committed in commits:
            _samples(committed, ids, parts)
            _windows(committed, ids, parts)
        most = max(1, MAX_POINTS // max(1, len(parts)))
        series: dict[str, dict[str, Any]] = {}
        for number, pieces in parts.items():
            times = np.concatenate([piece[0] for piece in pieces])
            values = np.concatenate([piece[1] for piece in pieces])
            order = np.argsort(times, kind="stable")
            dropped += max(0, len(order) - most)
            keep = order[-most:]
            series[str(number)] = {"times_ns": times[keep], "values": values[keep]}
        return series, dropped


def _samples(committed: Committed, ids: I64, parts: dict[int, list[tuple[I64, F64]]]) -> None:
    block = committed.samples
    for at in np.flatnonzero(np.isin(block.series, ids, assume_unique=True)):
        part = slice(int(block.offsets[at]), int(block.offsets[at + 1]))
        parts.setdefault(int(block.series[at]), []).append((block.times[part], block.values[part]))


def _windows(committed: Committed, ids: I64, parts: dict[int, list[tuple[I64, F64]]]) -> None:
    """Show a window by its last sample, as the newest value of a series does."""
    block = committed.windows
    if block is None or not len(block):
        return
    here = np.flatnonzero(np.isin(block.series, ids))
    for number in np.unique(block.series[here]):
        rows_of = here[block.series[here] == number]
        parts.setdefault(int(number), []).append((block.last_time[rows_of], block.last[rows_of]))
