"""Upkeep, as part of a store: compaction, rollups and retention, one after the other, in transactions that ingest waits for only briefly."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import structlog

from telemetryx.clock import Clock
from telemetryx.store.interface import CompactReport, Retention
from telemetryx.store.tables import (
    commit,
    consolidation,
    ending,
    lease,
    moving,
    plain,
    refresh,
    retention,
    rollup,
    sketching,
    today,
)
from telemetryx.store.tables.database import Database, Engine
from telemetryx.store.tables.planner import Adaptive
from telemetryx.store.tables.swap import Swap
from telemetryx.store.tables.writer import Priority

T = TypeVar("T")

log = structlog.get_logger(__name__)

ROLLUP_PIECE: Final = 600
"""Rollup rows of each table that one transaction writes, at most,"""
SHARED_PIECE: Final = 2_500
"""and where nobody waits for it: what it costs there are round trips. Readers by cursor wait, some 30 ms."""
TIDY: Final = 4
"""Times that room is given back after a deletion, at most."""
REFRESH: Final = 13_000
"""Rollup rows that follow one swap, about: those of a run of 700,000 samples, a reading a second, are 12,000."""
LEAST: Final = 3
"""Runs of a series whose rollups are computed together while more runs wait."""


@dataclass(slots=True)
class _Ready:
    """What was planned while the last swap was made; nothing but compaction may have touched chunks and rollups since."""

    held: lease.Held | None
    swap: Swap | None = None
    rollups: refresh.Refresh | None = None

    @property
    def plain(self) -> bool:
        """Whether what is swapped is plain rows already."""
        return self.swap is None or self.swap.plain


class Upkeep(ABC):
    """A part of TableStore."""

    engine: Engine
    shared: bool
    _clock: Clock
    _committer: commit.Committer
    _rows: plain.PlainRows

    @abstractmethod
    async def write(self, work: Callable[[Database], T], priority: Priority = Priority.RULES) -> T:
        """Run work in a transaction."""

    @abstractmethod
    async def read(self, work: Callable[[Database], T]) -> T:
        """Run work on a snapshot."""

    def _begin_upkeep(self) -> None:
        """Start what it works with, when the store has the rest."""
        self._compacting = asyncio.Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="store-compaction")
        self._planner = Adaptive(self.engine)
        self._ready: _Ready | None = None
        self._consolidation = consolidation.Consolidation(self.read, self._write_behind)
        self._sketching = sketching.Sketching(self.read, self._write_behind)
        self._ending = ending.Ending(self.read, self._write_behind)
        self._today = today.Today(self._clock)
        self._settled: tuple[lease.Held | None] | None = None
        """Under which lease horizons were looked at since the start."""
        self.doubt: today.Doubt | None = None
        """The clock that deletion doesn't go by, as of its last round."""
        self.ahead = ""
        """What a clock that was ahead still does to the store, as of the same."""

    def _end_upkeep(self) -> None:
        self._worker.shutdown(wait=True)
        self._planner.close()

    async def _write_behind(self, work: Callable[[Database], T]) -> T:
        return await self.write(work, Priority.UPKEEP)

    async def compact(self, limit: int = 400_000, *, everything: bool = False) -> CompactReport:
        """Turn at most about `limit` samples of stored batches into chunks, then refresh some rollups.

        Before that, where they are wanted, some samples become plain rows; and when nothing of all that is to be done, some
        rollups of before there were sketches are marked, to be computed anew, and some chunks that are at rest become larger ones. `everything` takes young and sparse batches too (a shutdown, a measurement).
        """
        async with self._compacting:
            held = lease.current.get()
            if self._committer.kept is not None and self._settled != (held,):
                await self._settle(self._committer.kept)
            # A run that was left on its way goes first: no part of it may become rows, and another none.
            left = await self.read(moving.moves)
            rows, more_rows = (0, True) if left else await self._rows.step()
            if self._ready is not None and (
                self._ready.held != held or self._ready.plain < self._rows.wanted
            ):
                self._ready = None
            ready, self._ready = self._ready or _Ready(held), None
            swap, done = ready.swap, 0
            if swap is None:
                swap = await self._plan(limit, (), everything=everything)
            # What is added to rows by hand (late) must be there before rows that lie beside are computed.
            beside = swap is not None and swap.more and not swap.late
            following = (
                asyncio.ensure_future(self._plan(limit, tuple(swap.batches), everything=everything))
                if swap is not None and beside
                else None
            )
            try:
                done += await self._refresh(ready.rollups)
                if swap is not None:
                    for step in swap.steps():
                        await self.write(step, Priority.UPKEEP)
                after = None if following is None else await following
            finally:
                if following is not None:
                    following.cancel()
            least = 1 if after is None else LEAST
            work = await self._in_worker(lambda: self._planner.rollups(REFRESH, least))
            joined, more_to_join, more_to_sketch = 0, False, False
            if after is None:
                done += await self._refresh(work)
            else:
                self._ready = _Ready(held, after, work)
            if swap is None and not work.ids and not more_rows:
                more_to_sketch = await self._sketching.step()
            if swap is None and not work.ids and not more_rows and not more_to_sketch:
                joined, more_to_join = await self._consolidation.step(self._clock.now_ns())
        return CompactReport(
            batches=0 if swap is None else len(swap.batches),
            samples=0 if swap is None else swap.samples,
            chunks=0 if swap is None else swap.chunks,
            rollups=done,
            rows=rows,
            joined=joined,
            more=more_rows
            or more_to_join
            or more_to_sketch
            or bool(work.ids)
            or after is not None
            or (swap is not None and (swap.more or everything)),
        )

    async def _plan(self, limit: int, leaving: Collection[int], *, everything: bool) -> Swap | None:
        now = self._clock.now_ns()
        return await self._in_worker(
            lambda: self._planner.compaction(now, limit, everything=everything, leaving=leaving)
        )

    async def _refresh(self, work: refresh.Refresh | None) -> int:
        """Write recomputed rollup rows, in pieces that ingest waits for no longer than for a swap; return how many."""
        if work is None or not work.ids:
            return 0
        pieces = work.pieces(SHARED_PIECE if self.shared else ROLLUP_PIECE, self.engine.reals)
        # Rows are made before the transaction, and not on the event loop.
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            await self.write(partial(refresh.apply, work=piece), Priority.UPKEEP)
        return len(work.minutes[0]) + len(work.hours[0])

    async def _in_worker(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    async def retain(self, keep: Retention) -> int:
        """Delete what is past its time by a clock that can be believed, in small pieces; return the rows deleted."""
        async with self._compacting:
            now = await self._settle(keep)
        return await self.apply_retention(keep, now.believed_ns)

    async def _settle(self, keep: Retention) -> today.Now:
        """Look at the clock, and take back what one that was wrong has done. Under the lock: no swap is planned meanwhile."""
        self._ready = None
        now = await self.write(self._today.look, Priority.UPKEEP)
        shown = await self.read(lambda db: retention.shown_until(db, keep, now.believed_ns, sure=now.sure))

        def work(db: Database) -> tuple[list[str], str]:
            done = retention.settle(db, keep, now.believed_ns, shown)
            return done, retention.ahead(db, now.believed_ns)

        done, self.ahead = await self.write(work, Priority.UPKEEP)
        self._settled = (lease.current.get(),)
        self.doubt = now.doubt
        if now.doubt is not None:
            log.error(
                "clock_not_believed", reason=str(now.doubt), ahead_s=now.doubt.ahead_ns // 1_000_000_000
            )
        if done:
            log.warning("horizons_taken_back", done=done, reason="a clock that was ahead had moved them")
        return now

    async def apply_retention(self, keep: Retention, now_ns: int) -> int:
        """Delete what is past its time, in small pieces; return the rows deleted."""
        deleted = 0
        async with self._compacting:  # the horizon may not move between the plan and the swap
            self._ready = None
            horizon = await self.write(lambda db: retention.note_horizons(db, keep, now_ns), Priority.UPKEEP)
        for rule in (*retention.rules(keep, now_ns, horizon), *retention.rollup_rules(keep, now_ns)):
            deleted += await self._delete_past(rule)
        if keep.raw_ns is not None:
            deleted += await self._forget_rows(await self.read(rollup.samples_from))
        if ended := await self._ending.round(now_ns):
            log.info("store.series_ended", series=ended, reason="nothing of them is kept any more")
        if deleted:
            for _ in range(TIDY):
                if not await self.write(lambda db: db.tidy(), Priority.UPKEEP):
                    break
        return deleted

    async def _delete_past(self, rule: retention.Rule) -> int:
        """Delete what is past of a table: a reader looks for it, and it goes in small pieces.

        No compaction comes in between: a chunk may not go between the plan and the swap of its successor.
        """
        deleted = 0
        if self.shared and rule.table == "chunk":
            deleted = await self.write(partial(retention.drop, rule=rule), Priority.UPKEEP)
        after: int | None = 0
        while after is not None:
            async with self._compacting:
                found = await self.read(partial(retention.find, rule=rule, after=after))
                if found.keys:
                    self._ready = None
                    piece = partial(retention.delete, rule=rule, keys=found.keys)
                    deleted += await self.write(piece, Priority.UPKEEP)
            after = found.after
        return deleted

    async def _forget_rows(self, before_ns: int) -> int:
        """Delete plain rows from before a time, in small pieces."""
        deleted, after = 0, 0
        while True:
            piece = partial(retention.forget_rows, before_ns=before_ns, after=after)
            rows, next_after = await self.write(piece, Priority.UPKEEP)
            deleted += rows
            if next_after is None:
                return deleted
            after = next_after
