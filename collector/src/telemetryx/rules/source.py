"""Where the rules read from: the store, and for live judging the memory of what was just committed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from telemetryx.rules.tail import Tail
from telemetryx.types import Committed, Latest, Matcher, SampleBlock, Series, WindowBlock


class RulesStore(Protocol):
    """The part of the store that holds readings."""

    async def cursor(self) -> int:
        """Return the newest commit's number."""
        ...

    async def read_after(self, cursor: int, limit: int = 256) -> list[Committed]:
        """Return commits after a cursor."""
        ...

    async def register_consumer(self, consumer: str, cursor: int) -> None:
        """Keep commits after this consumer's cursor readable."""
        ...

    async def series(
        self,
        matchers: Sequence[Matcher] = (),
        *,
        agent: str | None = None,
        limit: int = 1_000,
        after: int = 0,
    ) -> list[Series]:
        """Return series that meet all matchers, those behind an id, ascending by it."""
        ...

    async def series_by_id(self, ids: Sequence[int]) -> dict[int, Series]:
        """Return series by their numbers."""
        ...

    async def latest(self, series_ids: Sequence[int]) -> dict[int, Latest]:
        """Return the newest value by event time of these series."""
        ...

    async def samples(self, series_ids: Sequence[int], start_ns: int, end_ns: int) -> SampleBlock:
        """Return raw samples in a half-open range."""
        ...

    async def windows(self, series_ids: Sequence[int], start_ns: int, end_ns: int) -> WindowBlock:
        """Return the windows that start in a half-open range."""
        ...


@dataclass(frozen=True, slots=True)
class Live:
    """Reads from memory what is complete there, and the rest from the store."""

    tail: Tail
    store: RulesStore

    async def samples(self, series_ids: Sequence[int], start_ns: int, end_ns: int) -> SampleBlock:
        """Return raw samples in a half-open range."""
        ids = np.array(series_ids, np.int64)
        if self.tail.covers(ids, start_ns):
            return self.tail.samples(ids, start_ns, end_ns)
        return await self.store.samples(series_ids, start_ns, end_ns)

    async def windows(self, series_ids: Sequence[int], start_ns: int, end_ns: int) -> WindowBlock:
        """Return the windows that start in a half-open range."""
        return await self.store.windows(series_ids, start_ns, end_ns)
