"""The newest readings in memory, as they were committed: live judging needs no second read of what just came by.

It answers only where it is complete. For each series it knows a floor, the newest time that some batch outside of it holds:
what came before this process, and what it has let go of. A question about times above the floors is answered from here,
any other one by the store. Both give the same readings in the same order.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetryx.types import F64, I64, BatchKey, Committed, SampleBlock

#: Readings kept at most: about 24 MB.
MAX_READINGS: Final = 1_000_000
_NEVER: Final = -(2**63)


@dataclass(frozen=True, slots=True)
class _Part:
    """The wanted readings of one commit."""

    added_ns: int
    key: BatchKey
    series: I64
    times: I64
    values: F64


class Tail:
    """Recent readings of the series that rules are about."""

    def __init__(self, max_readings: int = MAX_READINGS) -> None:
        """Begin with nothing, which is complete for series that nobody has stored yet."""
        self._max = max_readings
        self._parts: deque[_Part] = deque()
        self._size = 0
        self._wanted: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._floor: I64 = np.zeros(0, np.int64)
        self._cursor = 0

    def __len__(self) -> int:
        """Count the readings held."""
        return self._size

    def want(self, series: int) -> None:
        """Keep readings of a series from now on."""
        self._grow(series)
        self._wanted[series] = True

    def wanted(self, series: I64) -> NDArray[np.bool_]:
        """Say for each of these series whether a rule is about it."""
        if len(series):
            self._grow(int(series.max()))
        return self._wanted[series]

    def learn(self, newest: Mapping[int, int]) -> None:
        """Take note of the newest times that are stored and not held here."""
        for series, time in newest.items():
            self._grow(series)
            self._floor[series] = max(time, int(self._floor[series]))

    def restart(self, cursor: int) -> None:
        """Forget all; commits after `cursor` are added next, and learn() must say what is stored."""
        self._parts.clear()
        self._size = 0
        self._cursor = cursor

    def add(self, batch: Committed, now_ns: int) -> None:
        """Keep what is wanted of a commit. One that is known (a step is repeated) is passed over."""
        if batch.cursor <= self._cursor:
            return
        self._cursor = batch.cursor
        block = batch.samples
        if len(block.series) == 0:
            return
        wanted = self.wanted(block.series)
        if not wanted.any():
            return
        sizes = np.diff(block.offsets)
        series = np.repeat(block.series, sizes)
        times, values = block.times, block.values
        if not wanted.all():
            rows = np.repeat(wanted, sizes)
            series, times, values = series[rows], times[rows], values[rows]
        self._parts.append(_Part(now_ns, batch.key, series, times, values))
        self._size += len(times)
        while self._size > self._max:
            self._drop()

    def evict(self, before_ns: int) -> None:
        """Let go of what was added before this time."""
        while self._parts and self._parts[0].added_ns < before_ns:
            self._drop()

    def covers(self, ids: I64, start_ns: int) -> bool:
        """Whether all readings of these series from a time on are here."""
        return (
            bool(len(ids)) and int(ids.max()) < len(self._floor) and bool((self._floor[ids] < start_ns).all())
        )

    def samples(self, ids: I64, start_ns: int, end_ns: int) -> SampleBlock:
        """Return the readings of these series in the half-open range, ordered by (series, time, batch key, index)."""
        mine = np.zeros(len(self._wanted), np.bool_)
        mine[ids] = True
        series: list[I64] = []
        times: list[I64] = []
        values: list[F64] = []
        for part in sorted(self._parts, key=lambda one: one.key):
            rows = mine[part.series] & (part.times >= start_ns) & (part.times < end_ns)
            if rows.any():
                series.append(part.series[rows])
                times.append(part.times[rows])
                values.append(part.values[rows])
        if not series:
            return SampleBlock.empty()
        every = np.concatenate(series)
        when = np.concatenate(times)
        order = np.lexsort((when, every))  # stable: equal times stay in the order of keys and indices
        every = every[order]
        found, starts = np.unique(every, return_index=True)  # noqa: TID251  with places: it loads nothing
        offsets = np.append(starts, len(every)).astype(np.int64)
        return SampleBlock(found, offsets, when[order], np.concatenate(values)[order])

    def _drop(self) -> None:
        part = self._parts.popleft()
        self._size -= len(part.times)
        np.maximum.at(self._floor, part.series, part.times)

    def _grow(self, series: int) -> None:
        missing = series + 1 - len(self._floor)
        if missing > 0:
            missing += max(1_024, len(self._floor) // 2)
            self._floor = np.append(self._floor, np.full(missing, _NEVER, np.int64))
            self._wanted = np.append(self._wanted, np.zeros(missing, np.bool_))
