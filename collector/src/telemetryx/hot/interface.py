"""What the hot view answers: the newest values, rates and counters, without asking the store."""

from collections.abc import Iterable
from typing import Protocol

from telemetryx.types import Committed, Latest


class Hot(Protocol):
    """Fed after each commit; never the only home of anything, so it may start empty."""

    def feed(self, committed: Committed) -> None:
        """Take in a commit."""
        ...

    def latest(self, series_ids: Iterable[int]) -> dict[int, Latest]:
        """Return the newest value by event time of those series that it has seen."""
        ...

    def rate(self, agent: str) -> float:
        """Return readings a second of an agent, over about the last ten seconds."""
        ...

    def rates(self) -> dict[str, float]:
        """Return the rate of every agent that sent in the last minute."""
        ...

    def total(self, agent: str) -> int:
        """Return readings of an agent since this process began."""
        ...
