"""The hot view of one process: latest values, rates, and limits that count here alone. Used on the event loop only."""

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import Final

from telemetryx.clock import Clock
from telemetryx.hot.interface import Fleetwide, Limit, Sharing
from telemetryx.hot.values import Values
from telemetryx.types import Committed, Latest

WINDOW_S: Final = 10.0
"""Rates look back about this long."""


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


class Alone:
    """A limit that counts in this process."""

    def __init__(self, take: Callable[[str], float]) -> None:
        """Ask this function."""
        self._take = take

    async def wait_s(self, key: str) -> float:
        """Return 0.0, or the seconds to wait."""
        return self._take(key)


class MemoryHot:
    """Latest values and rates in this process's memory."""

    def __init__(self, clock: Clock) -> None:
        """Begin empty."""
        self._clock = clock
        self.values = Values()
        self._rates: dict[str, _Rate] = {}

    def feed(self, committed: Committed) -> None:
        """Take in a commit."""
        self.values.feed(committed)
        windows = committed.windows
        count = len(committed.samples) + (0 if windows is None else len(windows))
        count += 0 if committed.events is None else len(committed.events)
        now = self._seconds()
        self._rates.setdefault(committed.key.agent, _Rate(now)).add(count, now)

    def latest(self, series_ids: Iterable[int]) -> dict[int, Latest]:
        """Return the newest values that were seen."""
        return self.values.latest(series_ids)

    async def newest(self, series_ids: Iterable[int]) -> dict[int, Latest]:
        """Return the same: there is nobody else."""
        return self.latest(series_ids)

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

    def fleetwide(self) -> Fleetwide:
        """Return this process's numbers."""
        return Fleetwide(1, sum(self.rates().values()))

    def sharing(self) -> Sharing:
        """There is no exchange, and none is missing."""
        return Sharing(connected=False)

    def bucket(self, name: str, rate: float, burst: float, alone: Callable[[str], float]) -> Limit:
        """Count here."""
        del name, rate, burst
        return Alone(alone)

    def turns(self, rate: float, alone: Callable[[str], float]) -> Limit:
        """Give turns here."""
        del rate
        return Alone(alone)

    async def run(self, stop: asyncio.Event) -> None:
        """Wait for the end."""
        await stop.wait()

    def _seconds(self) -> float:
        return self._clock.mono_ns() / 1e9
