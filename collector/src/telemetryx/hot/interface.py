"""What the hot view answers without asking the store, limits that several processes share, and how processes wake each other.

`MemoryHot` is one process's own. `RedisHot` adds what the other collector processes on the same store saw, through a Redis
server that may vanish at any moment: then it answers as `MemoryHot` does.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from telemetryx.types import Committed, Latest


class Limit(Protocol):
    """A limit by key: a peer's address, an agent's name."""

    async def wait_s(self, key: str) -> float:
        """Return 0.0 when this one may go on (and count it), else in how many seconds it shall come back."""
        ...


@dataclass(frozen=True, slots=True)
class Fleetwide:
    """What all processes on the store say together."""

    processes: int
    """How many there are, with this one."""
    readings_per_second: float


@dataclass(frozen=True, slots=True)
class Sharing:
    """How the exchange with the other processes goes; `note` says why it doesn't, empty when it does or when there is none."""

    connected: bool
    note: str = ""
    failures: int = 0


class Hot(Protocol):
    """Fed after each commit; never the only home of anything, so it may start empty."""

    def feed(self, committed: Committed) -> None:
        """Take in a commit. Returns at once, whatever else is broken."""
        ...

    def latest(self, series_ids: Iterable[int]) -> dict[int, Latest]:
        """Return the newest value by event time of those series that this process has seen."""
        ...

    async def newest(self, series_ids: Iterable[int]) -> dict[int, Latest]:
        """Return the newest value by event time of those series that any process has seen."""
        ...

    def rate(self, agent: str) -> float:
        """Return readings a second of an agent, over about the last ten seconds, as this process took them in."""
        ...

    def rates(self) -> dict[str, float]:
        """Return the rate of every agent that sent in the last minute."""
        ...

    def total(self, agent: str) -> int:
        """Return readings of an agent since this process began."""
        ...

    def fleetwide(self) -> Fleetwide:
        """Return what all processes said last."""
        ...

    def sharing(self) -> Sharing:
        """Return how the exchange with the others goes."""
        ...

    def bucket(self, name: str, rate: float, burst: float, alone: Callable[[str], float]) -> Limit:
        """Make a token bucket a key, counted over all processes; `alone` counts in this one and stands in."""
        ...

    def turns(self, rate: float, alone: Callable[[str], float]) -> Limit:
        """Make turns, so many a second over all processes, kept for whom they were given to; `alone` stands in."""
        ...

    async def run(self, stop: asyncio.Event) -> None:
        """Exchange with the others until told to stop. Never raises because of them."""
        ...


class Wake(Protocol):
    """Tells the processes on one store that something was committed, so that they needn't wait for their next poll.

    A hint and nothing more: it may be lost, come late, or come for nothing. Who follows commits reads the store by cursor
    after each `changed`, whatever that returned; so a channel that is down costs a poll's delay and loses nobody's data.
    """

    def committed(self, cursor: int) -> None:
        """Say that there is a commit with this number. Called on the event loop; returns at once and never raises."""
        ...

    async def changed(self, timeout_s: float) -> bool:
        """Wait until somebody, this process or another, committed since the last call returned; False when the time is over.

        For one task of a process: the one that follows commits.
        """
        ...

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the channel open until `stop` is set; app.py owns this task and starts it again when it fails."""
        ...
