"""TableStore: a store in tables. This class wires; what is done stands in the modules beside it, and each engine has its own.

writer   one thread, one connection: commit.py, compaction.apply, rollup.apply, fleet.py
readers  a few threads: reading.py, ranges.py, catalog.py, events.py; each query on one snapshot
worker   one thread: plans and encodes compaction, so that the writer only swaps
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from telemetryx.clock import Clock
from telemetryx.store.interface import (
    AgentQuery,
    CompactReport,
    DeviceQuery,
    EventQuery,
    Retention,
    StoreUsage,
)
from telemetryx.store.tables import (
    catalog,
    commit,
    compaction,
    events,
    fleet,
    ledger,
    quarantine,
    ranges,
    reading,
    retention,
    rollup,
    verify,
)
from telemetryx.store.tables.database import Database, Engine, greater
from telemetryx.store.tables.numbers import Numbers
from telemetryx.store.tables.planner import Adaptive
from telemetryx.store.tables.readers import Readers
from telemetryx.store.tables.writer import Priority, Writer
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

T = TypeVar("T")

ROLLUP_PIECE: Final = 1_500
"""Rollup rows that one transaction writes, about."""


class TableStore:
    """A Store in the tables of an engine, whose schema is up to date."""

    def __init__(self, engine: Engine, clock: Clock, readers: int, future_limit_ns: int) -> None:
        """Start the threads. Blocking: the engines' `open` run it in a thread."""
        self.engine = engine
        self._clock = clock
        self._committer = commit.Committer(clock.now_ns, future_limit_ns)
        self._numbers = Numbers()
        self._compacting = asyncio.Lock()
        self._writer = Writer(engine, self._committer.forget)
        try:
            self._writer.submit(Priority.RULES, fleet.close_all).result()
        except BaseException:
            self._writer.close()
            raise
        self._readers = Readers(engine, readers)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="store-compaction")
        self._planner = Adaptive(engine)

    async def write(self, work: Callable[[Database], T], priority: Priority = Priority.RULES) -> T:
        """Run work in a transaction on the writer: for modules of this package that own tables of their own (rules)."""
        return await asyncio.wrap_future(self._writer.submit(priority, work))

    async def read(self, work: Callable[[Database], T]) -> T:
        """Run work on a snapshot, in a reader's thread."""
        return await self._readers.read(work)

    # --- ingest

    async def commit(self, batches: Sequence[Decoded]) -> list[Outcome]:
        """Store these in one durable transaction, with a savepoint each; one outcome a batch, in order."""
        return await self.write(lambda db: self._committer.commit(db, batches), Priority.INGEST)

    async def commit_loss(self, losses: Sequence[LossFrame]) -> list[Outcome]:
        """Enter dropped seqs into the ledger and their counts into the loss tables."""
        now = self._clock.now_ns()
        return await self.write(lambda db: commit.commit_loss(db, losses, now), Priority.INGEST)

    async def holdings(self, agent: str, epochs: Sequence[bytes]) -> dict[bytes, Holding]:
        """Say what is stored of these epochs of an agent."""
        return await self.read(lambda db: {epoch: ledger.holding(db, agent, epoch) for epoch in epochs})

    async def checksums(
        self, agent: str, keys: Sequence[tuple[bytes, int]]
    ) -> dict[tuple[bytes, int], bytes]:
        """Return the checksums that are still known of these (epoch, seq)."""
        return await self.read(lambda db: ledger.checksums(db, agent, keys))

    # --- readers by cursor

    async def cursor(self) -> int:
        """Return the newest commit's number."""
        return await self.read(lambda db: db.newest_commit())

    async def read_after(self, cursor: int, limit: int = 256) -> list[Committed]:
        """Return commits after a cursor, in commit order."""
        return await self.read(lambda db: reading.read_after(db, self._numbers, cursor, limit))

    async def consumer_cursor(self, consumer: str) -> int | None:
        """Return how far a durable consumer has come."""

        def find(db: Database) -> int | None:
            row = db.execute("SELECT cursor FROM consumer WHERE name = ?", (consumer,)).fetchone()
            return None if row is None else int(row[0])

        return await self.read(find)

    async def register_consumer(self, consumer: str, cursor: int) -> None:
        """Keep every commit after a consumer's cursor readable."""
        await self.write(
            lambda db: db.execute(
                "INSERT INTO consumer VALUES (?, ?) ON CONFLICT DO NOTHING", (consumer, cursor)
            )
        )

    async def advance_consumer(self, consumer: str, cursor: int) -> None:
        """Move a consumer's cursor forward."""
        await self.write(
            lambda db: db.execute(
                f"UPDATE consumer SET cursor = {greater('cursor', '?1')} WHERE name = ?2", (cursor, consumer)
            )
        )

    async def forget_consumer(self, consumer: str) -> None:
        """Let go of a consumer that will not come back."""
        await self.write(lambda db: db.execute("DELETE FROM consumer WHERE name = ?", (consumer,)))

    # --- queries

    async def series(
        self,
        matchers: Sequence[Matcher] = (),
        *,
        agent: str | None = None,
        limit: int = 1_000,
        offset: int = 0,
    ) -> list[Series]:
        """Return the series that meet all matchers."""
        return await self.read(lambda db: catalog.series(db, matchers, agent, limit, offset))

    async def count_series(self, matchers: Sequence[Matcher] = (), *, agent: str | None = None) -> int:
        """Count the series that meet all matchers."""
        return await self.read(lambda db: catalog.count_series(db, matchers, agent))

    async def series_by_id(self, ids: Sequence[int]) -> dict[int, Series]:
        """Return the series with these ids."""
        return await self.read(lambda db: catalog.series_by_id(db, ids))

    async def samples(
        self, series_ids: Sequence[int], start_ns: int, end_ns: int, *, limit: int = 5_000_000
    ) -> SampleBlock:
        """Return raw samples, chunks and fresh batches merged."""
        return await self.read(
            lambda db: reading.samples(db, self._numbers, series_ids, start_ns, end_ns, limit)
        )

    async def windows(self, series_ids: Sequence[int], start_ns: int, end_ns: int) -> WindowBlock:
        """Return window rows that start in the range."""
        return await self.read(lambda db: reading.windows(db, series_ids, start_ns, end_ns))

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
        """Aggregate samples and windows into steps."""
        return await self.read(
            lambda db: ranges.query(
                db, self._numbers, series_ids, (start_ns, end_ns), step_ns, agg, max_points
            )
        )

    async def latest(self, series_ids: Sequence[int]) -> dict[int, Latest]:
        """Return the newest value by event time of these series."""
        return await self.read(lambda db: catalog.latest(db, series_ids))

    async def agents(self, query: AgentQuery) -> AgentPage:
        """Return one page of agents with their states."""
        return await self.read(lambda db: fleet.agents(db, query, self._clock.now_ns()))

    async def agent(self, name: str) -> Agent | None:
        """Return one agent with its newest status."""
        return await self.read(lambda db: fleet.agent(db, name, self._clock.now_ns()))

    async def devices(self, query: DeviceQuery) -> tuple[list[Device], int]:
        """Return one page of devices, and how many there are."""
        return await self.read(lambda db: catalog.devices(db, query))

    async def events(self, query: EventQuery) -> list[Event]:
        """Return events, newest id first."""
        return await self.read(lambda db: events.query(db, query))

    async def event_sources(self) -> list[str]:
        """Return the distinct sources of events."""
        return await self.read(events.sources)

    async def loss(self, agent: str | None = None) -> list[LossRow]:
        """Return the loss ledger."""
        return await self.read(lambda db: fleet.loss(db, agent))

    # --- batches that are kept apart

    async def quarantined(
        self, agent: str | None = None, *, limit: int = 50, offset: int = 0
    ) -> tuple[list[Quarantined], int]:
        """Return batches that are kept apart, newest first, and how many there are."""
        return await self.read(lambda db: quarantine.page(db, agent, limit, offset))

    async def quarantined_batch(self, row_id: int) -> QuarantinedBatch | None:
        """Return one of them with what is in it."""
        return await self.read(lambda db: quarantine.show(db, self._numbers, row_id))

    async def release_quarantined(self, row_id: int, shift_ns: int = 0) -> Committed | None:
        """Store one of them, its times moved by so much; None when there is no such batch."""
        return await self.write(lambda db: self._committer.release(db, row_id, shift_ns), Priority.INGEST)

    async def drop_quarantined(self, row_id: int) -> bool:
        """Delete one of them for good; False when there is no such batch."""
        return await self.write(lambda db: quarantine.drop(db, row_id))

    async def gaps(self, agent: str | None = None, limit: int = 1_000) -> list[Gap]:
        """Return the dropped seqs with their time ranges."""
        return await self.read(lambda db: fleet.gaps(db, agent, limit))

    # --- the connection log

    async def session_opened(
        self, agent: str, peer: str, version: str, labels: Mapping[str, str], skew_ms: float
    ) -> int:
        """Log the start of a session and return its id."""
        now = self._clock.now_ns()
        return await self.write(
            lambda db: fleet.opened(db, agent, peer, version, labels, skew_ms, now), Priority.STATUS
        )

    async def session_seen(self, session: int, status: AgentStatus | None = None) -> None:
        """Note that a session is alive, and its agent's newest status."""
        now = self._clock.now_ns()
        await self.write(lambda db: fleet.seen(db, session, status, now), Priority.STATUS)

    async def sessions_seen(self, seen: Sequence[tuple[int, AgentStatus | None]]) -> None:
        """Note many sessions at once."""
        now = self._clock.now_ns()

        def note(db: Database) -> None:
            for session, status in seen:
                fleet.seen(db, session, status, now)

        await self.write(note, Priority.STATUS)

    async def session_closed(self, session: int, reason: str) -> None:
        """Log the end of a session."""
        now = self._clock.now_ns()
        await self.write(lambda db: fleet.closed(db, session, reason, now), Priority.STATUS)

    async def connections(
        self, agent: str | None = None, *, since_ns: int = 0, limit: int = 1_000
    ) -> list[Connection]:
        """Return sessions that were open at or after `since_ns`, newest first."""
        return await self.read(lambda db: fleet.connections(db, agent, since_ns, limit))

    # --- upkeep

    async def compact(self, limit: int = 400_000, *, everything: bool = False) -> CompactReport:
        """Turn at most about `limit` samples of stored batches into chunks, then refresh some rollups.

        `everything` takes young and sparse batches too (a shutdown, a measurement).
        """
        async with self._compacting:
            now = self._clock.now_ns()
            swap = await self._in_worker(lambda: self._planner.compaction(now, limit, everything=everything))
            if swap is not None:
                made = swap
                await self.write(lambda db: compaction.apply(db, made), Priority.UPKEEP)
            refresh = await self._in_worker(lambda: self._planner.rollups(ROLLUP_PIECE))
            if refresh.ids:
                await self.write(lambda db: rollup.apply(db, refresh), Priority.UPKEEP)
        return CompactReport(
            batches=0 if swap is None else len(swap.batches),
            samples=0 if swap is None else swap.samples,
            chunks=0 if swap is None else len(swap.chunks),
            rollups=len(refresh.minutes) + len(refresh.hours),
            more=bool(refresh.ids) or (swap is not None and (swap.more or everything)),
        )

    async def _in_worker(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    async def apply_retention(self, keep: Retention, now_ns: int) -> int:
        """Delete what is past its time, in small pieces; return the rows deleted."""
        deleted = 0
        async with self._compacting:  # the horizon may not move between the plan and the swap
            horizon = await self.write(lambda db: retention.note_horizons(db, keep, now_ns), Priority.UPKEEP)
        for rule in (*retention.rules(keep, now_ns, horizon), *retention.rollup_rules(keep, now_ns)):
            while True:
                async with (
                    self._compacting
                ):  # a chunk may not go between the plan and the swap of its successor
                    piece = await self.write(partial(retention.delete, rule=rule), Priority.UPKEEP)
                deleted += piece
                if piece < retention.PIECE:
                    break
        if deleted:
            await self.write(lambda db: db.tidy(), Priority.UPKEEP)
        return deleted

    async def usage(self) -> StoreUsage:
        """Measure the store."""
        return await self.read(measure)

    async def verify(self) -> list[str]:
        """Let the engine check itself, then that ledger, batches and chunks agree."""
        return await self.read(lambda db: verify.verify(db, self._numbers))

    def longest_ns(self) -> dict[str, int]:
        """Return the longest transaction of each kind so far, for metrics."""
        return {priority.name.lower(): took for priority, took in self._writer.longest_ns.items()}

    async def close(self) -> None:
        """Finish what runs and close."""
        async with self._compacting:
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._worker.shutdown(wait=True)
        self._planner.close()
        self._readers.close()
        self._writer.close()


def measure(db: Database) -> StoreUsage:
    """Measure a store through any connection, also a read-only one beside a running collector."""
    batches = db.execute(
        "SELECT count(*), CAST(coalesce(sum(samples), 0) AS BIGINT) FROM batch INDEXED BY batch_work"
    ).fetchone()
    parts = db.execute(
        "SELECT count(*), CAST(coalesce(sum(count), 0) AS BIGINT), CAST(coalesce(sum(length(times) + "
        'length("values") + coalesce(length(flags), 0)), 0) AS BIGINT) FROM chunk'
    ).fetchone()
    single = [
        db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("series", "event", '"window"')
    ]
    counted: list[int] = [*batches, *parts, *single, db.newest_commit()]
    return StoreUsage(db.bytes_on_disk(), *counted)
