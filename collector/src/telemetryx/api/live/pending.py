"""What one live client still has to get: commits not yet sent, bounded; what exceeds it is dropped, oldest first.

A slow client so falls back to the latest and says how much it missed; it never holds up a commit or another client.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryx.api import special
from telemetryx.sets import distinct
from telemetryx.types import F64, I64, Committed

#: Samples of the commits that may wait for one client. They are shared between clients, so this bounds references.
MAX_WAITING: Final = 500_000
MAX_COMMITS: Final = 4_096
#: Points in one message; of each series the newest are kept.
MAX_POINTS: Final = 20_000


def rows(committed: Committed) -> int:
    """Count what a commit holds for the live view."""
    return len(committed.samples) + (0 if committed.windows is None else len(committed.windows))


class Wanted:
    """The series that a client asked for."""

    def __init__(self, ids: Iterable[int] = ()) -> None:
        """Name them."""
        self.ids: I64 = distinct(np.fromiter(ids, np.int64))

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(len(self.ids))

    def among(self, series: I64) -> NDArray[np.bool_]:
        """Say for each of these ids whether it is wanted. Asked at each commit for each client, so without a sort."""
        if not len(self.ids):
            return np.zeros(len(series), np.bool_)
        at = np.minimum(self.ids.searchsorted(series), len(self.ids) - 1)
        return np.equal(self.ids[at], series)

    def touched(self, committed: Committed) -> bool:
        """Whether a commit holds anything of them."""
        windows = committed.windows
        return bool(self.among(committed.samples.series).any()) or (
            windows is not None and bool(self.among(windows.series).any())
        )


def highest(committed: Committed) -> int:
    """Return the highest id among a commit's series; 0 when it has none."""
    samples, windows = committed.samples.series, committed.windows
    return max(
        int(samples[-1]) if len(samples) else 0,
        int(windows.series.max()) if windows is not None and len(windows) else 0,
    )


@dataclass(slots=True)
class Pending:
    """Commits that wait to be sent to one client."""

    commits: deque[Committed] = field(default_factory=deque)
    waiting: int = 0
    dropped: int = 0
    cursor: int = 0
    """The newest commit that was offered, wanted or not: where a client resumes once it has all of them."""
    first: int = 0
    """The oldest commit that waited here, also one that was dropped; 0: none did."""

    def offer(self, committed: Committed) -> None:
        """Take a commit; drop the oldest when too much waits."""
        self.cursor = max(self.cursor, committed.cursor)
        self.first = self.first or committed.cursor
        self.commits.append(committed)
        self.waiting += rows(committed)
        while len(self.commits) > 1 and (self.waiting > MAX_WAITING or len(self.commits) > MAX_COMMITS):
            oldest = self.commits.popleft()
            self.waiting -= rows(oldest)
            self.dropped += rows(oldest)

    def take(self, wanted: Wanted) -> tuple[dict[str, dict[str, Any]], int]:
        """Empty it into the message's `series`, and say how many points were left out."""
        commits, self.commits, self.waiting = self.commits, deque(), 0
        dropped, self.dropped = self.dropped, 0
        if not wanted or not commits:
            return {}, dropped if wanted else 0
        parts: dict[int, list[tuple[I64, F64]]] = {}
        for committed in commits:
            _samples(committed, wanted, parts)
            _windows(committed, wanted, parts)
        most = max(1, MAX_POINTS // max(1, len(parts)))
        series: dict[str, dict[str, Any]] = {}
        for number, pieces in parts.items():
            times = np.concatenate([piece[0] for piece in pieces])
            values = np.concatenate([piece[1] for piece in pieces])
            order = np.argsort(times, kind="stable")
            dropped += max(0, len(order) - most)
            keep = order[-most:]
            line = series[str(number)] = {"times_ns": times[keep], "values": values[keep]}
            if odd := special.of({"values": line["values"]}):
                line["special"] = odd
        return series, dropped


def _samples(committed: Committed, wanted: Wanted, parts: dict[int, list[tuple[I64, F64]]]) -> None:
    block = committed.samples
    for at in np.flatnonzero(wanted.among(block.series)):
        part = slice(int(block.offsets[at]), int(block.offsets[at + 1]))
        parts.setdefault(int(block.series[at]), []).append((block.times[part], block.values[part]))


def _windows(committed: Committed, wanted: Wanted, parts: dict[int, list[tuple[I64, F64]]]) -> None:
    """Show a window by its last sample, as the newest value of a series does."""
    block = committed.windows
    if block is None or not len(block):
        return
    here = np.flatnonzero(wanted.among(block.series))
    for number in distinct(block.series[here]):
        rows_of = here[block.series[here] == number]
        parts.setdefault(int(number), []).append((block.last_time[rows_of], block.last[rows_of]))
