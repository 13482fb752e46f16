"""TableStore: a store in tables. This class wires; what is done stands in the modules beside it, and each engine has its own.

writer   one thread, one connection: commit.py, fleet.py; and, where an engine has one writer, upkeep behind all else
upkeep   the same for swaps, refresh.apply, retention, where several may write at once (a server): nobody waits for it
readers  a few threads: reading.py, ranges.py, catalog.py, events.py; each query on one snapshot
worker   one thread: plans and encodes compaction, so that the writer only swaps; the next run while the last is swapped
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, TypeVar

import structlog

from telemetryx.clock import Clock
from telemetryx.errors import SchemaBroken, SchemaTooNew, StoreError
from telemetryx.fleet import Agent, AgentStatus, Connection, Gap, LossRow, QuarantinedBatch
from telemetryx.store.audit import Actor
from telemetryx.store.interface import (
    ROOM,
    AgentPage,
    AgentQuery,
    DevicePage,
    DeviceQuery,
    EventQuery,
    QuarantinePage,
    QuarantineQuery,
    Retention,
    Room,
    SeriesPage,
    SeriesQuery,
    StoreUsage,
)
from telemetryx.store.migrations import refuse_newer
from telemetryx.store.percentiles import Levels, RollupBlock
from telemetryx.store.tables import (
    accounts,
    audit,
    catalog,
    commit,
    events,
    fleet,
    follow,
    lease,
    ledger,
    plain,
    points,
    presence,
    quarantine,
    ranges,
    reading,
    rollup,
    said,
    sketches,
    upkeep,
    verify,
)
from telemetryx.store.tables.cardinality import SeriesLimits
from telemetryx.store.tables.database import Database, Engine, greater
from telemetryx.store.tables.numbers import Numbers
from telemetryx.store.tables.readers import Readers
from telemetryx.store.tables.writer import Priority, Writer
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

T = TypeVar("T")

log = structlog.get_logger(__name__)

ARRIVAL_NS: Final = 120_000_000_000
"""A process that opened the store has so long until its first heartbeat."""


class TableStore(said.Said, upkeep.Upkeep):
    """A Store in the tables of an engine, whose schema is up to date."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        readers: int,
        future_limit_ns: int,
        member: lease.Member,
    ) -> None:
        """Start the threads. Blocking: the engines' `open` run it in a thread."""
        self.engine = engine
        self.member = member
        self._clock = clock
        self._committer = commit.Committer(clock.now_ns, future_limit_ns)
        self._numbers = Numbers()
        self._writer = Writer(engine, self._committer.forget)
        self._upkeep = self._writer
        try:
            self.shared = self._writer.submit(Priority.RULES, self._arrive).result()
            if self.shared:
                # What upkeep does, another process may do as well: it is safe beside commits, and keeps no memory of its own.
                self._upkeep = Writer(engine, lambda: None)
        except BaseException:
            self._writer.close()
            raise
        self._readers = Readers(engine, readers)
        self._rows = plain.PlainRows(self.read, self._write_behind, self._numbers)
        self._begin_upkeep()
        self.accounts = accounts.AccountTables(self.read, self.look, self._write_last, clock)

    @property
    def note(self) -> str:
        """Say what is worth knowing of where it is kept; "" when nothing is."""
        return ""

    def _arrive(self, db: Database) -> bool:
        lease.arrive(db, self.member, ARRIVAL_NS)
        return db.shared

    def limit_series(self, limits: SeriesLimits) -> None:
        """Take so many series and no more; what is known stays."""
        self._committer.cardinality.limit(limits)

    def keep(self, kept: Retention) -> None:
        """Say how long `retain` will keep everything."""
        self._committer.kept = kept

    def keep_plain_rows(self, wanted: bool) -> None:  # noqa: FBT001 - a switch
        """Have compaction write raw samples as rows of table `sample` too, also those of before; or no longer."""
        self._rows.wanted = wanted

    async def write(self, work: Callable[[Database], T], priority: Priority = Priority.RULES) -> T:
        """Run work in a transaction on the writer: for modules of this package that own tables of their own (rules).

        Called under a lease (lease.current) it checks that the lease holds; raises LeaseLost when it doesn't.
        """
        if (held := lease.current.get()) is not None:
            work = lease.guarded(held, work)
        writer = self._upkeep if priority is Priority.UPKEEP else self._writer
        return await asyncio.wrap_future(writer.submit(priority, work))

    async def _write_last(self, work: Callable[[Database], T]) -> T:
        return await self.write(work, Priority.STATUS)

    async def try_write(self, size: int = 0) -> None:
        """Write about so many bytes and undo it, on a connection of its own. Raises StoreError."""
        try:
            await asyncio.to_thread(self.engine.try_write, size)
        except StoreError:
            raise
        except Exception as error:
            ours = self.engine.translate(error)
            if ours is None:
                raise
            raise ours from error

    async def check_schema(self) -> None:
        """Look whether all tables and columns are there. Raises SchemaBroken."""

        def look(db: Database) -> None:
            applied, known = db.schema_steps()
            lost = verify.missing(db) if applied else ["the list of its schema's steps is missing"]
            if not lost:
                return
            try:
                refuse_newer(applied, known)
            except SchemaTooNew as error:
                raise SchemaBroken(str(error)) from error
            raise SchemaBroken(
                f"the store isn't as its schema has it: {'; '.join(lost[:10])}; `telemetryx store check` names all that is missing; "
                f"{verify.regain(db)}"
            )

        await self.read(look)

    async def read(self, work: Callable[[Database], T]) -> T:
        """Run work on a snapshot, in a reader's thread."""
        return await self._readers.read(work)

    async def look(self, work: Callable[[Database], T]) -> T:
        """Run work of one statement, in a reader's thread."""
        return await self._readers.read(work, single=True)

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

    async def count_after(self, cursor: int, limit: int) -> int:
        """Count the commits after a cursor, up to a limit."""
        return await self.read(lambda db: reading.count_after(db, cursor, limit))

    async def news(
        self, cursor: int, known: Mapping[int, Committed], *, data: bool, limit: int = 256
    ) -> follow.News:
        """Return what is new after a cursor, whoever committed it; commits in `known` aren't read again."""
        return await self.read(lambda db: follow.news(db, self._numbers, cursor, limit, known, data=data))

    async def holder(self) -> str:
        """Say whose transaction keeps commits from being shown."""
        return await self.read(lambda db: db.holder())

    # --- who is at work, and who owns what

    async def beat(self, tasks: Sequence[str], held: Mapping[str, lease.Held], ttl_ns: int) -> lease.Beat:
        """Say that this process lives, renew the leases it holds, take those that are free. Before all other work."""
        return await self.write(lambda db: lease.beat(db, self.member, tasks, held, ttl_ns), Priority.INGEST)

    async def release(self, held: Sequence[lease.Held], *, leave: bool = False) -> None:
        """Let go of leases; with `leave` of everything, because the process stops in order."""

        def work(db: Database) -> None:
            lease.release(db, held)
            if leave:
                lease.leave(db, self.member.name)

        await self.write(work, Priority.INGEST)

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
        after: int = 0,
    ) -> list[Series]:
        """Return the series that meet all matchers, those behind an id."""
        return await self.look(lambda db: catalog.series(db, matchers, agent, limit, after))

    async def series_page(self, query: SeriesQuery) -> SeriesPage:
        """Return one page of series."""
        return await self.read(lambda db: catalog.series_page(db, query))

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

    async def windows(
        self, series_ids: Sequence[int], start_ns: int, end_ns: int, *, limit: int = 1 << 31
    ) -> WindowBlock:
        """Return window rows that start in the range."""
        return await self.read(lambda db: reading.windows(db, series_ids, start_ns, end_ns, limit=limit))

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
        """Aggregate samples and windows into steps."""
        until = time.monotonic() + seconds
        return await self.read(
            lambda db: ranges.query(
                db, self._numbers, series_ids, (start_ns, end_ns), step_ns, agg, max_points, until
            )
        )

    async def whole(
        self,
        series_ids: Sequence[int],
        start_ns: int,
        end_ns: int,
        agg: Aggregate = "avg",
        *,
        seconds: float = math.inf,
    ) -> RangeResult:
        """Aggregate all of a range as one step."""
        until = time.monotonic() + seconds
        return await self.read(
            lambda db: ranges.whole(db, self._numbers, series_ids, (start_ns, end_ns), agg, until)
        )

    async def levels_of_percentiles(
        self, series_ids: Sequence[int], start_ns: int, end_ns: int, step_ns: int, most: int
    ) -> Levels:
        """Choose what a percentile is read from."""
        span = (start_ns, end_ns)
        return await self.read(lambda db: ranges.levels_of_percentiles(db, series_ids, span, step_ns, most))

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
        """Return rollups with their sketches."""
        sketches.require()
        span, until = (start_ns, end_ns), time.monotonic() + seconds
        return await self.read(
            lambda db: ranges.sketched(db, self._numbers, series_ids, span, level, most, until)
        )

    async def raw_horizon(self) -> int:
        """Return the time before which raw data is deleted."""
        return await self.read(rollup.raw_horizon)

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
        """Return samples and windows, or rollups."""
        spread = parts == "spread" and sketches.available()
        wanted = points.Wanted(level, edges, bool(parts), rather_raw, room, spread)
        return await self.read(
            lambda db: points.query(db, self._numbers, series_ids, (start_ns, end_ns), wanted)
        )

    async def newest(
        self,
        series_ids: Sequence[int],
        start_ns: int,
        end_ns: int,
        *,
        level: Level = "raw",
        room: Room = ROOM,
    ) -> PointBlock:
        """Return the newest row of each series in [start, end)."""
        wanted = points.Wanted(level, edges=True, parts=False, rather_raw=True, room=room)
        return await self.read(
            lambda db: points.newest(db, self._numbers, series_ids, (start_ns, end_ns), wanted)
        )

    async def latest(self, series_ids: Sequence[int]) -> dict[int, Latest]:
        """Return the newest value by event time of these series."""
        return await self.read(lambda db: catalog.latest(db, series_ids))

    async def present(self, series_ids: Sequence[int], start_ns: int, end_ns: int) -> set[int]:
        """Return which of these series have data in [start, end)."""
        return await self.read(lambda db: presence.present(db, self._numbers, series_ids, start_ns, end_ns))

    async def agents(self, query: AgentQuery) -> AgentPage:
        """Return one page of agents with their states."""
        return await self.read(lambda db: fleet.agents(db, query, self._clock.now_ns()))

    async def agent(self, name: str) -> Agent | None:
        """Return one agent with its newest status."""
        return await self.read(lambda db: fleet.agent(db, name, self._clock.now_ns()))

    async def devices(self, query: DeviceQuery) -> DevicePage:
        """Return one page of devices."""
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

    async def quarantined(self, query: QuarantineQuery) -> QuarantinePage:
        """Return one page of batches that are kept apart."""
        return await self.read(lambda db: quarantine.page(db, query))

    async def quarantined_batch(self, row_id: int) -> QuarantinedBatch | None:
        """Return one of them with what is in it."""
        return await self.read(lambda db: quarantine.show(db, self._numbers, row_id))

    async def release_quarantined(
        self, row_id: int, shift_ns: int = 0, *, by: Actor | None = None
    ) -> Committed | None:
        """Store one of them, its times moved by so much; None when there is no such batch."""
        now = self._clock.now_ns()

        def work(db: Database) -> Committed | None:
            before = quarantine.said(db, row_id)
            stored = self._committer.release(db, row_id, shift_ns)
            if stored is not None:
                audit.note_by(db, now, by, "quarantine.release", row_id, before, {"shift_ns": shift_ns})
            return stored

        return await self.write(work, Priority.INGEST)

    async def drop_quarantined(self, row_id: int, *, by: Actor | None = None) -> bool:
        """Delete one of them for good; False when there is no such batch."""
        now = self._clock.now_ns()

        def work(db: Database) -> bool:
            before = quarantine.said(db, row_id)
            dropped = quarantine.drop(db, row_id)
            if dropped:
                audit.note_by(db, now, by, "quarantine.drop", row_id, before, None)
            return dropped

        return await self.write(work)

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
            lambda db: fleet.opened(db, agent, peer, version, labels, skew_ms, now, self.member.name),
            Priority.STATUS,
        )

    async def session_seen(self, session: int, status: AgentStatus | None = None) -> None:
        """Note that a session is alive, and its agent's newest status."""
        now = self._clock.now_ns()
        await self.write(lambda db: fleet.seen(db, [(session, status)], now), Priority.STATUS)

    async def sessions_seen(self, seen: Sequence[tuple[int, AgentStatus | None]]) -> None:
        """Note many sessions at once."""
        now = self._clock.now_ns()
        await self.write(lambda db: fleet.seen(db, seen, now), Priority.STATUS)

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

    async def usage(self) -> StoreUsage:
        """Measure the store."""
        return await self.read(measure)

    async def verify(self) -> list[str]:
        """Let the engine check itself, then that ledger, batches and chunks agree."""
        return await self.read(lambda db: verify.verify(db, self._numbers))

    def longest_ns(self) -> dict[str, int]:
        """Return the longest transaction of each kind so far, for metrics."""
        writer = self._writer.longest_ns | {Priority.UPKEEP: self._upkeep.longest_ns[Priority.UPKEEP]}
        return {priority.name.lower(): took for priority, took in writer.items()}

    async def close(self) -> None:
        """Finish what runs and close."""
        async with self._compacting:
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._end_upkeep()
        self._readers.close()
        self._upkeep.close()
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
