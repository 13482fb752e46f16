"""What every store can do: the only thing that ingest, gateway, rules and api know about storage.

store/tables/ is its implementation, on SQLite and PostgreSQL; tests/store/test_conformance.py runs on each. All methods are safe to call
from any task at once. Writing methods raise StoreUnavailable when nothing could be written; they never half-write.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from telemetryx.types import (
    Agent,
    AgentPage,
    AgentStatus,
    Aggregate,
    Committed,
    Connection,
    Decoded,
    Device,
    Event,
    Gap,
    Holding,
    Latest,
    LossFrame,
    LossRow,
    Matcher,
    Outcome,
    Quarantined,
    QuarantinedBatch,
    RangeResult,
    SampleBlock,
    Series,
    WindowBlock,
)

AgentSort = Literal["name", "last_seen", "last_event", "backlog", "skew", "rate"]


@dataclass(frozen=True, slots=True)
class AgentQuery:
    """Which agents, in which order. `filter` is a part of the name or of a label's value, in any case."""

    filter: str = ""
    state: str | None = None
    site: str | None = None
    sort: AgentSort = "name"
    descending: bool = False
    limit: int = 50
    offset: int = 0


@dataclass(frozen=True, slots=True)
class DeviceQuery:
    """Which devices; ordered by (agent, site, device)."""

    agent: str | None = None
    site: str | None = None
    filter: str = ""
    limit: int = 50
    offset: int = 0


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events, newest id first. `q` is words (all must occur, the last may be a prefix); `before` pages on by id."""

    source: str | None = None
    min_severity: int = 0
    q: str = ""
    agent: str | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    before: int | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What one bounded piece of compaction did; `more` when another piece would find work."""

    batches: int = 0
    samples: int = 0
    chunks: int = 0
    rollups: int = 0
    more: bool = False


@dataclass(frozen=True, slots=True)
class Retention:
    """How long each kind is kept, by event time, in nanoseconds; None keeps it for ever."""

    raw_ns: int | None = None
    windows_ns: int | None = None
    rollup_1m_ns: int | None = None
    rollup_1h_ns: int | None = None
    events_ns: int | None = None
    connections_ns: int | None = None


@dataclass(frozen=True, slots=True)
class StoreUsage:
    """How big the store is and what waits in it."""

    bytes: int
    batches: int
    batch_samples: int
    chunks: int
    chunk_samples: int
    chunk_bytes: int
    series: int
    events: int
    windows: int
    cursor: int


class Store(Protocol):
    """Keeps samples, windows, events, series and the dedup ledger; answers queries about them."""

    # --- ingest: data and ledger in one transaction

    async def commit(self, batches: Sequence[Decoded]) -> list[Outcome]:
        """Store these in one durable transaction, with a savepoint each; one outcome a batch, in order."""
        ...

    async def commit_loss(self, losses: Sequence[LossFrame]) -> list[Outcome]:
        """Enter dropped seqs into the ledger and their counts into the loss tables: Stored(0) or Duplicate each."""
        ...

    async def holdings(self, agent: str, epochs: Sequence[bytes]) -> dict[bytes, Holding]:
        """Say what is stored of these epochs of an agent; an unknown epoch gives upto 0."""
        ...

    async def checksums(
        self, agent: str, keys: Sequence[tuple[bytes, int]]
    ) -> dict[tuple[bytes, int], bytes]:
        """Return the checksums that are still known of these (epoch, seq)."""
        ...

    # --- readers by cursor

    async def cursor(self) -> int:
        """Return the newest commit's number; 0 before the first."""
        ...

    async def read_after(self, cursor: int, limit: int = 256) -> list[Committed]:
        """Return commits after a cursor, in commit order. Raises CursorGone when some of them were compacted."""
        ...

    async def consumer_cursor(self, consumer: str) -> int | None:
        """Return how far a durable consumer (rules) has come; None for one that never registered."""
        ...

    async def register_consumer(self, consumer: str, cursor: int) -> None:
        """Keep every commit after a consumer's cursor readable: compaction waits for it. A known one keeps its cursor."""
        ...

    async def advance_consumer(self, consumer: str, cursor: int) -> None:
        """Move a consumer's cursor forward (rules do it in their own transaction: table `consumer`)."""
        ...

    async def forget_consumer(self, consumer: str) -> None:
        """Let go of a consumer that will not come back."""
        ...

    # --- queries

    async def series(
        self,
        matchers: Sequence[Matcher] = (),
        *,
        agent: str | None = None,
        limit: int = 1_000,
        offset: int = 0,
    ) -> list[Series]:
        """Return the series that meet all matchers, ascending by id."""
        ...

    async def count_series(self, matchers: Sequence[Matcher] = (), *, agent: str | None = None) -> int:
        """Count the series that meet all matchers."""
        ...

    async def series_by_id(self, ids: Sequence[int]) -> dict[int, Series]:
        """Return the series with these ids; unknown ones are left out."""
        ...

    async def samples(
        self, series_ids: Sequence[int], start_ns: int, end_ns: int, *, limit: int = 5_000_000
    ) -> SampleBlock:
        """Return raw samples, chunks and fresh batches merged. Raises QueryRefused above `limit` samples."""
        ...

    async def windows(self, series_ids: Sequence[int], start_ns: int, end_ns: int) -> WindowBlock:
        """Return window rows that start in the range, partials unmerged, ordered by (series, start, batch)."""
        ...

    async def range(
        self,
        series_ids: Sequence[int],
        start_ns: int,
        end_ns: int,
        step_ns: int,
        agg: Aggregate = "avg",
        *,
        max_points: int = 200_000,
    ) -> RangeResult:
        """Aggregate samples and windows into steps [start + i*step, ...), reading 1h or 1m rollups where the step allows it.

        With agg "raw" the samples themselves, at most `max_points` of them (then `truncated`).
        """
        ...

    async def latest(self, series_ids: Sequence[int]) -> dict[int, Latest]:
        """Return the newest value by event time of these series."""
        ...

    async def agents(self, query: AgentQuery) -> AgentPage:
        """Return one page of agents with their states."""
        ...

    async def agent(self, name: str) -> Agent | None:
        """Return one agent with its newest status."""
        ...

    async def devices(self, query: DeviceQuery) -> tuple[list[Device], int]:
        """Return one page of devices, and how many there are."""
        ...

    async def events(self, query: EventQuery) -> list[Event]:
        """Return events, newest id first, at most `limit`."""
        ...

    async def loss(self, agent: str | None = None) -> list[LossRow]:
        """Return the loss ledger: count and time range by agent and cause, and what was `stored`."""
        ...

    async def gaps(self, agent: str | None = None, limit: int = 1_000) -> list[Gap]:
        """Return the dropped seqs with their time ranges, newest first."""
        ...

    # --- batches that are kept apart: their times are too far ahead

    async def quarantined(
        self, agent: str | None = None, *, limit: int = 50, offset: int = 0
    ) -> tuple[list[Quarantined], int]:
        """Return batches that are kept apart, newest first, and how many there are."""
        ...

    async def quarantined_batch(self, row_id: int) -> QuarantinedBatch | None:
        """Return one of them with what is in it; None when there is no such batch."""
        ...

    async def release_quarantined(self, row_id: int, shift_ns: int = 0) -> Committed | None:
        """Store one of them, its times moved by so much; its readings are no longer counted as refused.

        None when there is no such batch. Raises QueryRefused while its times are too far ahead.
        """
        ...

    async def drop_quarantined(self, row_id: int) -> bool:
        """Delete one of them for good; its readings stay counted as refused. False when there is no such batch."""
        ...

    # --- the connection log

    async def session_opened(
        self, agent: str, peer: str, version: str, labels: Mapping[str, str], skew_ms: float
    ) -> int:
        """Log the start of a session and return its id."""
        ...

    async def session_seen(self, session: int, status: AgentStatus | None = None) -> None:
        """Note that a session is alive, and its agent's newest status."""
        ...

    async def sessions_seen(self, seen: Sequence[tuple[int, AgentStatus | None]]) -> None:
        """Note many sessions at once: `session_seen` for each, in one transaction."""
        ...

    async def session_closed(self, session: int, reason: str) -> None:
        """Log the end of a session."""
        ...

    async def connections(
        self, agent: str | None = None, *, since_ns: int = 0, limit: int = 1_000
    ) -> list[Connection]:
        """Return sessions that were open at or after `since_ns`, newest first."""
        ...

    # --- upkeep

    async def compact(self, limit: int = 400_000, *, everything: bool = False) -> CompactReport:
        """Turn at most about `limit` samples of stored batches into chunks and rollups; ingest goes first.

        `everything` takes batches that are too young or too few for it, too (a shutdown, a measurement).
        """
        ...

    async def apply_retention(self, retention: Retention, now_ns: int) -> int:
        """Delete what is past its time, in small pieces; return the rows deleted. The dedup ledger stays."""
        ...

    async def usage(self) -> StoreUsage:
        """Measure the store."""
        ...

    async def verify(self) -> list[str]:
        """Check the store and that ledger, batches and chunks agree; return the problems found, in sentences."""
        ...

    async def close(self) -> None:
        """Finish what runs, checkpoint and close."""
        ...
