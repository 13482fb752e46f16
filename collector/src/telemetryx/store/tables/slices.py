"""Raw data in slices: a query holds a bounded number of readings at once, however many it reads.

A query reads everything at once when that is few. Else it is cut: into series where it has several, for then each chunk is
decoded once; into times where most of it lies in batches as shipped, which hold all series of their agents, or where one series
alone is too much. What is still too much is cut again.
"""

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from telemetryx.errors import QueryOutOfTime, TooManyReadings
from telemetryx.store.tables import reading
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.numbers import Numbers
from telemetryx.store.tables.spans import Span
from telemetryx.types import SampleBlock, WindowBlock

AT_ONCE: Final = 500_000
"""Readings that one query holds at once."""
WINDOWS_AT_ONCE: Final = 50_000
"""Windows that one query holds at once: each is a row of Python objects."""
_SPARE: Final = 1.5
"""Slices are planned so much smaller than they may be: readings aren't spread evenly."""

_PIECES: Final = 64
"""Slices that one cut makes at most: what is counted also lies outside of the span, and small spans have few of it."""


@dataclass(slots=True)
class Slices:
    """Reads the raw data of one query within its snapshot, however much that is: until its time is over (by the monotonic clock)."""

    connection: Database
    numbers: Numbers
    until: float = math.inf
    sketched: bool = False
    """Whether windows come with their sketches."""
    _read: int = 0

    def read(
        self, ids: Sequence[int], span: Span, unit: int, origin: int = 0
    ) -> Iterator[tuple[SampleBlock, WindowBlock]]:
        """Give the samples and windows of ascending ids in [start, end), a slice at a time; times are cut at origin + i * unit where they can be.

        Raises QueryOutOfTime.
        """
        if not len(ids) or span[0] >= span[1]:
            return
        if time.monotonic() > self.until:
            raise QueryOutOfTime(
                f"the time of a query was over when {self._read:,} readings were read, and more are asked for: nothing is "
                "answered, for a part would look like the whole; ask for a shorter time or fewer series, or for steps of "
                "whole minutes, which are read from rollups"
            )
        try:
            found = self._slice(ids, span)
        except TooManyReadings:
            parts = self._cut(ids, span, unit, origin)
            if len(parts) < 2:  # noqa: PLR2004  it is no smaller than before
                raise
        else:
            self._read += len(found[0])
            yield found
            return
        for some, part in parts:
            yield from self.read(some, part, unit, origin)

    def first(self, ids: Sequence[int], span: Span, most: int) -> Iterator[tuple[SampleBlock, WindowBlock]]:
        """Give slices in the order of time, of each series until it has had `most` samples (those who have windows alone: windows)."""
        had = dict.fromkeys(ids, 0)
        waiting = [span]
        while waiting:
            part = waiting.pop()
            some = [one for one in ids if had[one] < most]
            if not some or part[0] >= part[1]:
                continue
            try:
                found = self._slice(some, part)
            except TooManyReadings:
                if part[1] - part[0] < 2:  # noqa: PLR2004  one nanosecond
                    raise
                middle = (part[0] + part[1]) // 2
                waiting += [(middle, part[1]), (part[0], middle)]
                continue
            for series, count in zip(
                found[0].series.tolist(), np.diff(found[0].offsets).tolist(), strict=True
            ):
                had[series] += count
            yield found

    def _slice(self, ids: Sequence[int], span: Span) -> tuple[SampleBlock, WindowBlock]:
        samples = reading.samples(self.connection, self.numbers, ids, *span, AT_ONCE)
        windows = reading.windows(self.connection, ids, *span, sketches=self.sketched, limit=WINDOWS_AT_ONCE)
        return samples, windows

    def _cut(
        self, ids: Sequence[int], span: Span, unit: int, origin: int
    ) -> list[tuple[Sequence[int], Span]]:
        counts = reading.chunk_counts(self.connection, ids, *span)
        shipped = reading.batch_count(self.connection, ids, *span)
        pieces = min(_PIECES, max(2, int((sum(counts.values()) + shipped) * _SPARE / AT_ONCE) + 1))
        if len(ids) == 1 or shipped > sum(counts.values()):
            times = _times(span, pieces, unit, origin)
            if len(times) > 1 or len(ids) == 1:
                return [(ids, part) for part in times]
        each = np.array([counts.get(int(one), 0) + shipped / len(ids) + 1 for one in ids])
        # Where a slice's share is full the next one begins; the last place is that of a slice of its own.
        place = np.minimum(((np.cumsum(each) - each) * pieces / each.sum()).astype(np.int64), pieces - 1)
        starts = np.flatnonzero(np.diff(place, prepend=-1))
        if len(starts) < 2:  # noqa: PLR2004  one series has nearly everything
            starts = np.array([0, len(ids) // 2])
        ends = [*starts[1:].tolist(), len(ids)]
        return [(ids[first:last], span) for first, last in zip(starts.tolist(), ends, strict=True)]


def _times(span: Span, pieces: int, unit: int, origin: int) -> list[Span]:
    """Cut a span into about so many parts at whole units, or anywhere when it has but one unit."""
    start, end = span
    inside = (end - origin - 1) // unit - (start - origin) // unit
    if inside <= 0:
        unit, origin, inside = 1, start, end - start - 1
    width = -(-(inside + 1) // pieces) * unit
    first = (start - origin) // unit * unit + origin
    edges = [start, *(edge for edge in range(first + width, end, width) if edge > start), end]
    return list(itertools.pairwise(edges))
