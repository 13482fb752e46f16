"""Rows of points as they are collected, some series after others: columns, and no more of them than are asked for.

A rollup or a window is a row of Python objects before it is an item of columns, so such rows are read of a bounded number of
series at once; what is left of them is 16 bytes each, or 48 with what they stand for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from telemetryx.errors import QueryRefused
from telemetryx.store.tables.reading import Told
from telemetryx.store.tables.rollup import Many
from telemetryx.types import F64, I64, Level, PointBlock, SampleBlock

AT_ONCE: Final = 50_000
"""Rows that are objects at once, about."""
_FIRST: Final = 32
"""Series of the first portion: nobody knows yet how many rows a series has."""
_OBJECTS: Final = 1_000
"""Bytes of a row while it is objects."""


@dataclass(slots=True)
class Collected:
    """What was read so far. `left`: how many rows it may still become."""

    left: int
    told: Told
    parts: bool
    _most: int = 0
    _size: int = _FIRST
    _series: list[I64] = field(default_factory=list)
    _counts: list[I64] = field(default_factory=list)
    _columns: list[tuple[I64 | F64, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Remember what was asked for."""
        self._most = self.left

    def portions(self, ids: Sequence[int], each: int) -> Iterator[Sequence[int]]:
        """Give ascending series, so many at once as have a bounded number of rows, as far as those before tell.

        `each`: how many rows a series has at most; 0 where that isn't known.
        """
        if not len(ids):
            return
        if each:
            self._size = max(1, AT_ONCE // each)
        self.told(AT_ONCE * _OBJECTS)
        at = 0
        while at < len(ids):
            some = ids[at : at + self._size]
            at += len(some)
            before = self.left
            yield some
            seen = max(1.0, (before - self.left) / len(some))
            self._size = max(1, min(4 * self._size, int(AT_ONCE / seen)))
        self.told(-AT_ONCE * _OBJECTS)

    def add(self, found: Many) -> None:
        """Take rows that ascend by series and time. Raises QueryRefused when they are too many."""
        series, rows = found
        self._take(len(rows))
        starts = np.flatnonzero(np.diff(series, prepend=series[:1] - 1))
        columns: list[I64 | F64] = [rows.times, rows.lasts]
        if self.parts:
            columns += [rows.counts.astype(np.float64), rows.sums, rows.mins, rows.maxs]
        self._put(series[starts], np.diff(np.append(starts, len(series))), columns)

    def add_samples(self, found: SampleBlock) -> None:
        """Take samples that were told of already: each stands for itself."""
        self.left -= len(found)
        columns: list[I64 | F64] = [found.times, found.values]
        if self.parts:
            columns += [np.ones(len(found)), found.values, found.values, found.values]
        self._put(found.series, np.diff(found.offsets), columns)

    def _put(self, series: I64, counts: I64, columns: Sequence[I64 | F64]) -> None:
        self._series.append(series)
        self._counts.append(counts)
        self._columns.append(tuple(columns))

    def _take(self, rows: int) -> None:
        self.left -= rows
        if self.left < 0:
            raise QueryRefused(
                f"this query reads more than {self._most:,} rows; ask for fewer series or a shorter time"
            )
        # Twice: in the end the columns are put together.
        self.told(rows * (96 if self.parts else 32))

    def block(self, level: Level) -> PointBlock:
        """Put it together, ascending by series."""
        if not self._series:
            ints, floats = np.empty(0, np.int64), np.empty(0)
            more = [floats if self.parts else None] * 4
            return PointBlock(
                ints, np.zeros(1, np.int64), ints, floats, more[0], more[1], more[2], more[3], level
            )
        series, counts = np.concatenate(self._series), np.concatenate(self._counts)
        joined = [np.concatenate(some) for some in zip(*self._columns, strict=True)]
        self._series, self._counts, self._columns = [], [], []
        if (series[1:] < series[:-1]).any():
            order = np.argsort(series, kind="stable")
            before = (np.cumsum(counts) - counts)[order]
            series, counts = series[order], counts[order]
            index = np.repeat(before - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))
            joined = [column[index] for column in joined]
        offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
        found = PointBlock(series, offsets, joined[0], joined[1], level=level)
        if self.parts:
            found.counts, found.sums, found.mins, found.maxs = joined[2:]
        return found
