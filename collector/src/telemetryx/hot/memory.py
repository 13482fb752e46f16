"""The hot view of one process. Latest values lie in arrays indexed by series id: a feed is a few vector operations."""

import math
from collections.abc import Iterable
from typing import Final

import numpy as np

from telemetryx.clock import Clock
from telemetryx.types import F64, I64, U8, Committed, Latest

WINDOW_S: Final = 10.0
"""Rates look back about this long."""
MAX_SERIES: Final = 1 << 22
"""Series with higher ids aren't kept hot: 17 bytes each would add up."""
_NEVER: Final = np.iinfo(np.int64).min


class _Rate:
    """An exponentially weighted rate: old readings fade with a time constant of WINDOW_S."""

    __slots__ = ("at", "total", "weight")

    def __init__(self, at: float) -> None:
        self.weight = 0.0
        self.at = at
        self.total = 0

    def add(self, count: int, now: float) -> None:
        self.weight = self._faded(now) + count
        self.at = max(now, self.at)
        self.total += count

    def value(self, now: float) -> float:
        return self._faded(now) / WINDOW_S

    def _faded(self, now: float) -> float:
        return self.weight * math.exp(min(self.at - now, 0.0) / WINDOW_S)


class MemoryHot:
    """Latest values and rates in this process's memory. Used on the event loop only."""

    def __init__(self, clock: Clock) -> None:
        """Begin empty."""
        self._clock = clock
        self._times: I64 = np.full(256, _NEVER, np.int64)
        self._values: F64 = np.full(256, np.nan)
        self._flags: U8 = np.zeros(256, np.uint8)
        self._rates: dict[str, _Rate] = {}

    def feed(self, committed: Committed) -> None:
        """Take in a commit."""
        samples = committed.samples
        full = samples.offsets[1:] > samples.offsets[:-1]
        last = samples.offsets[1:][full] - 1
        flags = np.zeros(len(last), np.uint8) if samples.flags is None else samples.flags[last]
        self._keep(samples.series[full], samples.times[last], samples.values[last], flags)
        windows = committed.windows
        if windows is not None and len(windows):
            self._keep(windows.series, windows.last_time, windows.last, np.zeros(len(windows), np.uint8))
        count = len(samples) + (0 if windows is None else len(windows))
        count += 0 if committed.events is None else len(committed.events)
        now = self._seconds()
        self._rates.setdefault(committed.key.agent, _Rate(now)).add(count, now)

    def _keep(self, series: I64, times: I64, values: F64, flags: U8) -> None:
        kept = series < MAX_SERIES
        if not kept.all():
            series, times, values, flags = series[kept], times[kept], values[kept], flags[kept]
        if not len(series):
            return
        self._grow(int(series.max()) + 1)
        if bool(
            (series[1:] == series[:-1]).any()
        ):  # windows: several rows a series; the newest of them counts
            order = np.lexsort((times, series))
            newest = order[np.append(series[order][1:] != series[order][:-1], True)]
            series, times, values, flags = series[newest], times[newest], values[newest], flags[newest]
        newer = times >= self._times[series]
        at = series[newer]
        self._times[at] = times[newer]
        self._values[at] = values[newer]
        self._flags[at] = flags[newer]

    def _grow(self, size: int) -> None:
        have = len(self._times)
        if size <= have:
            return
        more = max(size, 2 * have) - have
        self._times = np.concatenate((self._times, np.full(more, _NEVER, np.int64)))
        self._values = np.concatenate((self._values, np.full(more, np.nan)))
        self._flags = np.concatenate((self._flags, np.zeros(more, np.uint8)))

    def latest(self, series_ids: Iterable[int]) -> dict[int, Latest]:
        """Return the newest values that were seen."""
        return {
            series: Latest(
                series, int(self._times[series]), float(self._values[series]), int(self._flags[series])
            )
            for series in series_ids
            if 0 <= series < len(self._times) and self._times[series] != _NEVER
        }

    def rate(self, agent: str) -> float:
        """Return readings a second of an agent."""
        rate = self._rates.get(agent)
        return 0.0 if rate is None else rate.value(self._seconds())

    def rates(self) -> dict[str, float]:
        """Return the rate of every agent that sent lately."""
        now = self._seconds()
        return {agent: rate.value(now) for agent, rate in self._rates.items() if now - rate.at < 6 * WINDOW_S}

    def total(self, agent: str) -> int:
        """Return readings of an agent since this process began."""
        rate = self._rates.get(agent)
        return 0 if rate is None else rate.total

    def _seconds(self) -> float:
        return self._clock.mono_ns() / 1e9
