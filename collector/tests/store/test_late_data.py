"""Readings that are older than the raw retention when they arrive: their aggregates are kept, exactly once; runs on each store."""

import sqlite3
from collections.abc import Sequence

import numpy as np
import pytest

from reference_agent import SECOND, T0, decoded, defined, samples, window
from store_batches import swapped
from telemetryx.clock import ManualClock
from telemetryx.fleet import LossRow
from telemetryx.store.interface import Retention, Store
from telemetryx.store.tables import compaction, plain, rollup
from telemetryx.store.tables.store import TableStore
from telemetryx.types import Aggregate, BatchKey, Stored
from telemetryx.wire.payload import Payload

EPOCH = bytes(range(16))
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
KEEP = Retention(raw_ns=30 * DAY, windows_ns=30 * DAY, rollup_1m_ns=730 * DAY, rollup_1h_ns=730 * DAY)
OLD = (T0 - 60 * DAY) // HOUR * HOUR
"""An hour that began 60 days ago."""
DEFS = defined("temp", "power")


async def send(store: Store, seq: int, content: Payload) -> None:
    """Commit one batch."""
    (outcome,) = await store.commit([decoded(BatchKey("a", EPOCH, seq), content, DEFS)])
    assert isinstance(outcome, Stored)


def line(start: int, values: Sequence[float], number: int = 1) -> Payload:
    """Values ten seconds apart."""
    return Payload(samples({number: [(start + i * 10 * SECOND, v) for i, v in enumerate(values)]}))


async def upkeep(store: Store) -> None:
    """Compact everything, then delete what is past its time, as a collector does at the change of the hour."""
    while (report := await store.compact(everything=True)).more or report.batches:
        pass
    await store.apply_retention(KEEP, T0)


async def buckets(
    store: Store, step: int, agg: Aggregate = "sum", series: int = 1
) -> list[tuple[int, float]]:
    """Count and value of each bucket of the old hour that has data."""
    (row,) = (await store.range([series], OLD, OLD + HOUR, step, agg)).series
    return [(c, v) for c, v in zip(row.counts.tolist(), row.values.tolist(), strict=True) if c]


async def loss(store: Store) -> dict[str, LossRow]:
    """The loss ledger by cause."""
    return {row.cause: row for row in await store.loss("a")}


async def test_a_batch_that_is_sixty_days_old_is_in_the_averages_for_good(store: Store) -> None:
    """It shows at 1m and 1h before compaction, after it, and after retention took the raw samples."""
    await store.apply_retention(KEEP, T0)
    await send(store, 1, line(OLD, [float(i) for i in range(12)]))
    for _ in range(3):
        assert await buckets(store, MINUTE) == [(6, 15.0), (6, 51.0)]
        assert await buckets(store, HOUR) == [(12, 66.0)]
        await upkeep(store)
    assert (await store.usage()).chunks == 0, "the raw samples are past their time"
    for agg, first in {"avg": 2.5, "min": 0.0, "max": 5.0, "last": 5.0}.items():
        assert (await buckets(store, MINUTE, agg))[0] == (6, first), agg  # type: ignore[arg-type]


async def test_a_second_late_batch_adds_to_the_same_buckets(store: Store) -> None:
    """Counts and sums add, min and max are taken of both, and the last is the last by time, not by arrival."""
    await store.apply_retention(KEEP, T0)
    await send(store, 1, line(OLD + 30 * SECOND, [5.0, 6.0, 7.0]))
    await upkeep(store)
    await send(store, 2, line(OLD, [1.0, 9.0, 2.0]))
    for _ in range(3):
        wanted = {"sum": 30.0, "min": 1.0, "max": 9.0, "last": 7.0, "count": 6.0}
        for agg, value in wanted.items():
            for step in (MINUTE, HOUR):
                assert await buckets(store, step, agg) == [(6, value)], (agg, step)  # type: ignore[arg-type]
        await upkeep(store)
    await send(store, 3, line(OLD + 20 * SECOND + 40 * SECOND, [4.0]))
    await upkeep(store)
    assert await buckets(store, HOUR, "last") == [(7, 4.0)]
    assert await buckets(store, MINUTE, "last") == [(6, 7.0), (1, 4.0)]


async def test_late_data_joins_the_rollups_of_data_that_came_in_time(
    store: Store, clock: ManualClock
) -> None:
    """What was rolled up when it was young is added to, although its raw samples are long gone."""
    clock.step(-60 * DAY)
    await send(store, 1, line(OLD, [1.0, 2.0, 3.0]))
    await upkeep(store)
    clock.step(60 * DAY)
    await upkeep(store)
    assert (await store.usage()).chunks == 0
    await send(store, 2, Payload(samples({1: [(OLD + 40 * SECOND, 10.0)]}), window(1, OLD, [20.0, 30.0])))
    for _ in range(3):
        assert await buckets(store, MINUTE) == [(6, 66.0)]
        assert await buckets(store, HOUR, "max") == [(6, 30.0)]
        await upkeep(store)
    assert await buckets(store, MINUTE, "last") == [(6, 10.0)]


async def test_a_batch_across_the_horizon_is_counted_once(store: Store) -> None:
    """Samples on both sides of it, even in one hour, give what raw data gives."""
    await store.apply_retention(KEEP, T0)
    edge = (T0 - 30 * DAY) // MINUTE * MINUTE
    await send(store, 1, line(edge - 10 * MINUTE, [1.0] * 120))
    for _ in range(3):
        for step in (MINUTE, HOUR):
            (row,) = (await store.range([1], edge - HOUR, edge + HOUR, step, "sum")).series
            assert (int(row.counts.sum()), float(np.nansum(row.values))) == (120, 120.0), step
        await upkeep(store)


async def test_what_waits_for_its_rollup_keeps_its_raw_data(store: Store) -> None:
    """Retention doesn't pass data that compaction has moved but that no rollup shows yet."""
    await send(store, 1, line(OLD, [1.0, 2.0]))
    assert isinstance(store, TableStore)
    swap = await store._in_worker(lambda: store._planner.compaction(T0, 400_000, everything=True))
    assert swap is not None
    await swapped(store, swap)
    await store.apply_retention(KEEP, T0)
    for _ in range(2):
        assert await buckets(store, MINUTE) == [(2, 3.0)]
        await upkeep(store)


async def test_a_failure_between_merge_and_commit_counts_nothing_twice(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The merge and the swap are one transaction: undone together, and done once when it is tried again."""
    await store.apply_retention(KEEP, T0)
    await send(store, 1, line(OLD, [1.0, 2.0, 3.0]))
    merge = rollup.merge

    def breaks(connection: sqlite3.Connection, late: rollup.Late) -> None:
        merge(connection, late)
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(rollup, "merge", breaks)
    with pytest.raises(Exception, match="disk I/O error"):
        await store.compact(everything=True)
    assert await buckets(store, MINUTE) == [(3, 6.0)]
    monkeypatch.undo()
    for _ in range(2):
        await upkeep(store)
        assert await buckets(store, MINUTE) == [(3, 6.0)]
        assert await buckets(store, HOUR) == [(3, 6.0)]


async def test_what_is_older_than_every_retention_is_counted_as_expired(store: Store) -> None:
    """It is not among the stored but in the ledger, with its time range, once; a younger part of its batch is kept."""
    await store.apply_retention(KEEP, T0)
    gone = (T0 - 800 * DAY) // MINUTE * MINUTE
    both = samples({1: [(gone, 1.0), (gone + SECOND, 2.0), (OLD, 3.0)], 2: [(gone + 2 * SECOND, 4.0)]})
    await send(store, 1, Payload(both, window(2, gone + MINUTE, [5.0, 6.0]), counts={2: 5}))
    for _ in range(3):
        rows = await loss(store)
        assert rows["expired"] == LossRow("a", "expired", 4, gone, gone + MINUTE)
        assert (rows["stored"].count, rows["shipped"].count) == (1, 5)
        assert (rows["stored"].first_ns, rows["stored"].last_ns) == (OLD, OLD)
        assert len(await store.samples([1, 2], 0, OLD)) == 0, "nobody reads what isn't stored"
        assert len(await store.windows([1, 2], 0, OLD)) == 0
        assert await buckets(store, HOUR) == [(1, 3.0)]
        await upkeep(store)
    (row,) = (await store.range([1], gone, gone + HOUR, HOUR, "count")).series
    assert int(row.counts.sum()) == 0


async def test_late_work_stays_in_pieces(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run merges about LATE_ROWS buckets; the batches after it wait for the next."""
    monkeypatch.setattr(compaction, "LATE_ROWS", 10)
    await store.apply_retention(KEEP, T0)
    for seq in range(1, 6):
        await send(
            store, seq, Payload(samples({1: [(OLD + seq * HOUR + i * MINUTE, 1.0) for i in range(8)]}))
        )
    first = await store.compact(everything=True)
    assert (first.batches, first.more) == (2, True)
    await upkeep(store)
    (row,) = (await store.range([1], OLD, OLD + 10 * HOUR, HOUR, "count")).series
    assert row.counts.tolist() == [0, 8, 8, 8, 8, 8, 0, 0, 0, 0]


async def test_a_batch_that_waits_while_its_minute_is_computed_and_passed_counts_once(
    store: TableStore,
) -> None:
    """Rules lag and hold a batch; its minute is computed from its neighbour, raw data goes; then it is compacted and added.

    Rows held what lay in batches too, and compaction added it again once the raw horizon had passed: such readings counted twice.
    """
    await send(store, 1, line(OLD, [1.0, 2.0]))
    await store.register_consumer("rules", await store.cursor())
    await send(store, 2, line(OLD + 30 * SECOND, [4.0]))
    await upkeep(store)
    wanted = [(3, 7.0)]
    assert await buckets(store, MINUTE) == wanted
    while (report := await store.compact(everything=True)).more:
        assert report
    assert await buckets(store, HOUR) == wanted
    await store.advance_consumer("rules", await store.cursor())
    await upkeep(store)
    for step in (MINUTE, HOUR):
        assert await buckets(store, step) == wanted


async def test_raw_data_waits_a_while_for_a_batch_that_is_not_compacted_but_not_for_ever(
    store: TableStore,
) -> None:
    """So sums are of data in order; a clock that stands still on an old time can't keep all raw data."""
    keep = Retention(raw_ns=DAY, windows_ns=DAY)
    await store.register_consumer("rules", await store.cursor())
    await send(store, 1, line(OLD, [1.0]))

    async def horizon() -> int:
        return int(await store.read(rollup.raw_horizon))

    await store.apply_retention(keep, OLD + DAY + MINUTE)
    assert await horizon() == OLD
    await store.apply_retention(keep, OLD + DAY + 30 * MINUTE)
    assert await horizon() == OLD
    await store.apply_retention(keep, OLD + DAY + 3 * HOUR)
    assert await horizon() == OLD + 2 * HOUR


@pytest.mark.parametrize("old_s", [0, 7_190])
async def test_late_readings_beside_new_ones_of_their_series_go_when_they_are_compacted(
    store: TableStore, old_s: int
) -> None:
    """One run of batches holds both: no chunk keeps the late ones as long as the new ones, and nobody sees them."""
    keep = Retention(raw_ns=DAY, windows_ns=DAY)
    store.keep_plain_rows(True)
    edge = (T0 - DAY) // MINUTE * MINUTE
    await store.apply_retention(keep, T0)
    await send(store, 1, line(T0 - HOUR, [1.0] * 5))
    await send(store, 2, line(edge - 2 * HOUR + old_s * SECOND, [9.0] * 600))
    await send(store, 3, line(T0 - HOUR + 50 * SECOND, [2.0] * 5))
    while (report := await store.compact(everything=True)).more or report.batches:
        pass
    await store.apply_retention(keep, T0)
    shown = await store.samples([1], 0, T0)
    young = sum(edge - 2 * HOUR + (old_s + 10 * i) * SECOND >= edge for i in range(600))
    assert (int(shown.times.min()) >= edge, len(shown)) == (True, young + 10)
    assert (await store.usage()).chunk_samples == young + 10
    for agg, value in {"count": 600, "sum": 5_400.0}.items():
        (row,) = (await store.range([1], edge - 3 * HOUR, edge + 3 * HOUR, HOUR, agg)).series  # type: ignore[arg-type]
        assert float(np.nansum(row.values)) == value, "the rollups have them all"
    rows, samples = await store.read(lambda db: plain.coverage(db, store._numbers))
    assert (rows, samples) == (young + 10, young + 10)
    assert await store.verify() == []


async def test_what_is_past_in_a_chunk_with_newer_samples_is_not_shown(store: TableStore) -> None:
    """A chunk was made when all of it was kept; its first half is past now: gone for readers, in `verify`'s count, and when it grows."""
    keep = Retention(raw_ns=DAY, windows_ns=DAY)
    store.keep_plain_rows(True)
    edge = (T0 - DAY) // MINUTE * MINUTE
    await send(store, 1, line(edge - 100 * SECOND, [1.0] * 20))
    while (report := await store.compact(everything=True)).more or report.batches:
        pass
    await store.apply_retention(keep, T0)
    for seq, more in ((2, 0), (3, 1)):
        assert (await store.samples([1], 0, T0)).times.min() == edge
        rows, samples = await store.read(lambda db: plain.coverage(db, store._numbers))
        assert (rows, samples) == (10 + more, 10 + more)
        assert await store.verify() == []
        await send(store, seq, line(T0 - HOUR, [1.0]))
        await upkeep_of(store, keep)
    assert (await store.usage()).chunk_samples == 12


async def upkeep_of(store: TableStore, keep: Retention) -> None:
    """Compact everything, then delete what is past."""
    while (report := await store.compact(everything=True)).more or report.batches:
        pass
    await store.apply_retention(keep, T0)
