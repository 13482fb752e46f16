"""What every store can do: the only thing that ingest, gateway, rules and api know about storage.

store/tables/ is its implementation, on SQLite and PostgreSQL; tests/store/test_conformance*.py run on each. All methods are safe to call
from any task at once. Writing methods raise StoreUnavailable when nothing could be written; they never half-write.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from telemetryx.fleet import (
    Agent,
    AgentStatus,
    Connection,
    Device,
    Gap,
    LossRow,
    Quarantined,
    QuarantinedBatch,
)
from telemetryx.store.accounts import Accounts
from telemetryx.store.audit import Actor, Audited, AuditQuery, Entry
from telemetryx.store.percentiles import Levels, RollupBlock
from telemetryx.store.silences import Acknowledgement, Silence
from telemetryx.types import (
    Aggregate,
    Committed,
    Decoded,
    Event,
    Holding,
    Latest,
    Level,
    LossFrame,
    Matcher,
    Outcome,
    PointBlock,
    RangeResult,
    SampleBlock,
    Series,
    WindowBlock,
)

DeviceKey = tuple[str, str, str]
"""(agent, site, device): what no two devices share."""
AgentSort = Literal["name", "last_seen", "last_event", "backlog", "skew", "rate"]
AgentKey = str | tuple[int | float, str]
"""A place among agents: a name, or, in another order than that of names, what a column had there (of `skew` its amount) and a name."""


@dataclass(frozen=True, slots=True)
class AgentQuery:
    """Which agents, in which order. `filter` is a part of the name or of a label's value, in any case.

    `after` and `before` are places: the page behind one or in front of it. In the order of names nothing that agents do moves a
    row across them; in another order only what moves that row itself. With `offset` any row that comes, goes or moves shifts others.
    """

    filter: str = ""
    state: str | None = None
    site: str | None = None
    seen_before_ns: int | None = None
    """Only those that nothing came from at this time or later."""
    sort: AgentSort = "name"
    descending: bool = False
    limit: int = 50
    offset: int = 0
    after: AgentKey | None = None
    before: AgentKey | None = None

    def place(self, row: Agent) -> AgentKey:
        """Return the place of an agent in this order."""
        values = {
            "last_seen": row.last_seen_ns,
            "last_event": row.last_event_ns,
            "backlog": row.backlog_bytes,
            "skew": abs(row.skew_ms),
            "rate": row.rate,
        }
        return row.name if self.sort == "name" else (values[self.sort], row.name)


@dataclass(frozen=True, slots=True)
class AgentPage:
    """One page of agents, the number of all that match, and how many there are in each state (before the state filter)."""

    agents: list[Agent]
    total: int
    counts: Mapping[str, int]
    skipped: int = 0
    """How many of those that match stand before the page."""

    @property
    def more(self) -> bool:
        """Whether some stand behind it."""
        return bool(self.agents) and self.skipped + len(self.agents) < self.total


@dataclass(frozen=True, slots=True)
class DeviceQuery:
    """Which devices; ordered by (agent, site, device). `after` and `before` are such a triple."""

    agent: str | None = None
    site: str | None = None
    filter: str = ""
    limit: int = 50
    offset: int = 0
    after: DeviceKey | None = None
    before: DeviceKey | None = None


@dataclass(frozen=True, slots=True)
class DevicePage:
    """One page of devices, how many match, and how many of these stand before the page."""

    devices: list[Device]
    total: int
    skipped: int = 0

    @property
    def more(self) -> bool:
        """Whether some stand behind it."""
        return bool(self.devices) and self.skipped + len(self.devices) < self.total


@dataclass(frozen=True, slots=True)
class SeriesQuery:
    """Which series, ascending by id, which new ones are behind; `after` and `before` are ids."""

    matchers: Sequence[Matcher] = ()
    agent: str | None = None
    limit: int = 100
    offset: int = 0
    after: int | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class SeriesPage:
    """One page of series, how many match, and how many of these stand before the page."""

    series: list[Series]
    total: int
    skipped: int = 0

    @property
    def more(self) -> bool:
        """Whether some stand behind it."""
        return bool(self.series) and self.skipped + len(self.series) < self.total


@dataclass(frozen=True, slots=True)
class QuarantineQuery:
    """Which batches that are kept apart, newest id first; `after` and `before` are ids: the page behind one is older."""

    agent: str | None = None
    limit: int = 50
    offset: int = 0
    after: int | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class QuarantinePage:
    """One page of them, how many there are, and how many of these stand before the page."""

    batches: list[Quarantined]
    total: int
    skipped: int = 0

    @property
    def more(self) -> bool:
        """Whether some stand behind it."""
        return bool(self.batches) and self.skipped + len(self.batches) < self.total


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
    rows: int = 0
    """Samples that became plain rows."""
    joined: int = 0
    """Chunks made of smaller ones that are at rest."""
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
    audit_ns: int | None = None


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


def _unheeded(size: int) -> None:
    del size


@dataclass(frozen=True, slots=True)
class Room:
    """What a query may hold. `told` is told, from a reader's thread, how many bytes more are about to be; what it raises ends the query."""

    rows: int = 5_000_000
    told: Callable[[int], None] = _unheeded


ROOM: Final = Room()


class Store(Protocol):
    """Keeps samples, windows, events, series and the dedup ledger; answers queries about them."""

    @property
    def accounts(self) -> Accounts:
        """People, tokens of programs, and who is logged in."""
        ...

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

    async def count_after(self, cursor: int, limit: int) -> int:
        """Count the commits after a cursor, up to a limit."""
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
        after: int = 0,
    ) -> list[Series]:
        """Return the series that meet all matchers, ascending by id, those behind `after`."""
        ...

    async def series_page(self, query: SeriesQuery) -> SeriesPage:
        """Return one page of series."""
        ...

    async def series_by_id(self, ids: Sequence[int]) -> dict[int, Series]:
        """Return the series with these ids; unknown ones are left out."""
        ...

    async def samples(
        self, series_ids: Sequence[int], start_ns: int, end_ns: int, *, limit: int = 5_000_000
    ) -> SampleBlock:
        """Return raw samples, chunks and fresh batches merged. Raises TooManyReadings above `limit` samples."""
        ...

    async def windows(
        self, series_ids: Sequence[int], start_ns: int, end_ns: int, *, limit: int = 1 << 31
    ) -> WindowBlock:
        """Return window rows that start in the range, partials unmerged, ordered by (series, start, batch).

        Raises TooManyReadings above `limit` windows.
        """
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
        seconds: float = math.inf,
    ) -> RangeResult:
        """Aggregate samples and windows into steps [start + i*step, ...), reading 1h or 1m rollups where the step allows it.

        What is raw is read in pieces of bounded size, however much it is. Raises QueryOutOfTime when that takes more than `seconds`.

        Steps of whole minutes widen the range to whole steps, and before the raw horizon every step becomes whole minutes: the
        answer's span and step are those that were read. With agg "raw" the samples themselves, of each series its share of
        `max_points`, or its windows' last values when there are only these.
        """
        ...

    async def whole(
        self,
        series_ids: Sequence[int],
        start_ns: int,
        end_ns: int,
        agg: Aggregate = "avg",
        *,
        seconds: float = math.inf,
    ) -> RangeResult:
        """Aggregate samples and windows in [start, end) to one point a series: exactly these, whatever rollups they are read from.

        Raises QueryOutOfTime when that takes more than `seconds`. Before the raw horizon the ends widen to whole minutes: the answer's span is the one that was read.
        """
        ...

    async def levels_of_percentiles(
        self, series_ids: Sequence[int], start_ns: int, end_ns: int, step_ns: int, most: int
    ) -> Levels:
        """Choose what a percentile by steps (0: all at once) is read from: readings, up to about so many, or rollups with their sketches."""
        ...

    async def sketched(
        self,
        series_ids: Sequence[int],
        start_ns: int,
        end_ns: int,
        level: Level,
        *,
        most: int | None = None,
        seconds: float = math.inf,
    ) -> RollupBlock:
        """Return the rollups of a level (1m, 1h) in a span of whole units, with their sketches; what they don't show yet is computed.

        Raises TooManyReadings when more than `most` are stored, QueryOutOfTime when it takes more than `seconds`, and NotCompiled.
        """
        ...

    async def raw_horizon(self) -> int:
        """Return the time in nanoseconds before which raw data is deleted; far in the past when none is."""
        ...

    async def points(
        self,
        series_ids: Sequence[int],
        start_ns: int,
        end_ns: int,
        *,
        level: Level = "raw",
        edges: bool = True,
        parts: bool | Literal["spread"] = True,
        rather_raw: bool = False,
        room: Room = ROOM,
    ) -> PointBlock:
        """Return samples and windows in [start, end), or rollups of a level; before the raw horizon always rollups.

        With `edges` a rollup's first value is a row too. Without `parts` rows don't say what they stand for. `rather_raw`
        reads samples where rollups would do but cost more. With parts "spread" every reading counts: samples, and of windows and
        rollups, which are read before the raw horizon alone, a row a bin of their sketches. Raises QueryRefused when there is no room for them.
        """
        ...

    async def newest(
        self,
        series_ids: Sequence[int],
        start_ns: int,
        end_ns: int,
        *,
        level: Level = "raw",
        room: Room = ROOM,
    ) -> PointBlock:
        """Return the newest row of each series in [start, end), as `points` would with `rather_raw`, with or without older ones."""
        ...

    async def latest(self, series_ids: Sequence[int]) -> dict[int, Latest]:
        """Return the newest value by event time of these series."""
        ...

    async def present(self, series_ids: Sequence[int], start_ns: int, end_ns: int) -> set[int]:
        """Return which of these series have data in [start, end), as far as ranges tell: perhaps some too many, none too few."""
        ...

    async def agents(self, query: AgentQuery) -> AgentPage:
        """Return one page of agents with their states."""
        ...

    async def agent(self, name: str) -> Agent | None:
        """Return one agent with its newest status."""
        ...

    async def devices(self, query: DeviceQuery) -> DevicePage:
        """Return one page of devices."""
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

    async def quarantined(self, query: QuarantineQuery) -> QuarantinePage:
        """Return one page of batches that are kept apart."""
        ...

    async def quarantined_batch(self, row_id: int) -> QuarantinedBatch | None:
        """Return one of them with what is in it; None when there is no such batch."""
        ...

    async def release_quarantined(
        self, row_id: int, shift_ns: int = 0, *, by: Actor | None = None
    ) -> Committed | None:
        """Store one of them, its times moved by so much; its readings are no longer counted as refused.

        None when there is no such batch. Raises QueryRefused while its times are too far ahead.
        """
        ...

    async def drop_quarantined(self, row_id: int, *, by: Actor | None = None) -> bool:
        """Delete one of them for good; its readings stay counted as refused. False when there is no such batch."""
        ...

    # --- what people say about alerts; with `by` the change notes itself in the audit log

    async def silences(self, *, ended: bool = False, limit: int = 1_000) -> list[Silence]:
        """Return silences that stand or are to come, those that end first at the top; or those that ended, newest end first."""
        ...

    async def add_silence(
        self,
        match: str,
        starts_ns: int,
        ends_ns: int,
        author: str,
        comment: str,
        *,
        by: Actor | None = None,
    ) -> Silence:
        """Keep notifications about alerts that meet a selector back in [starts, ends).

        `__name__` is the alert's rule. Raises SelectorError, or QueryRefused when it has no condition or no time, or when too many stand.
        """
        ...

    async def end_silence(self, number: int, *, by: Actor | None = None) -> Silence | None:
        """End a silence now: what it held back is told. None when there is no such silence."""
        ...

    async def acknowledge(
        self, alert: int, author: str, comment: str, *, by: Actor | None = None
    ) -> Acknowledgement | None:
        """Note who has taken an alert on, in place of who had before. None when there is no such alert."""
        ...

    async def withdraw_acknowledgement(self, alert: int, *, by: Actor | None = None) -> bool:
        """Take an acknowledgement back; False when there was none."""
        ...

    async def acknowledged(self, alerts: Sequence[int]) -> dict[int, Acknowledgement]:
        """Return what was said about these alerts; those that nobody acknowledged are left out."""
        ...

    # --- who changed what

    async def audit(self, entry: Entry) -> None:
        """Note a change that was made elsewhere than in the store. What is changed here notes itself (tables/audit.note)."""
        ...

    async def audited(self, query: AuditQuery) -> list[Audited]:
        """Return what was noted, newest first, at most `limit`."""
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
