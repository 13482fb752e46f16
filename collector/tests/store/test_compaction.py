"""How runs are cut, planned ahead and swapped, and how rollups follow: on each store."""

from collections.abc import Iterable

import numpy as np
import pytest

from reference_agent import SECOND, T0, decoded, defined, samples, window
from store_batches import swapped
from telemetryx.clock import ManualClock
from telemetryx.errors import StoreError
from telemetryx.store.interface import Retention
from telemetryx.store.tables import chunks, compaction, refresh, rollup, stretches
from telemetryx.store.tables.store import TableStore
from telemetryx.store.tables.swap import Swap
from telemetryx.store.tables.writer import Priority
from telemetryx.types import BatchKey, SampleBlock
from telemetryx.wire.payload import Payload

EPOCH = bytes(range(16))
MINUTE = 60 * SECOND
FOREVER = 1 << 62
START = T0 // (3_600 * SECOND) * 3_600 * SECOND


async def send(
    store: TableStore, seq: int, count: int, start: int, series: int = 1, epoch: bytes = EPOCH
) -> None:
    """Commit one batch with so many readings a second apart of each series; values tell where they belong."""
    times = START + (start + np.arange(count)) * SECOND
    names = [f"s{number}" for number in range(series)]
    values = np.concatenate([start + np.arange(count) + 0.1 * number for number in range(series)])
    block = SampleBlock(
        np.arange(1, series + 1), np.arange(series + 1) * count, np.tile(times, series), values
    )
    await store.commit([decoded(BatchKey("a", epoch, seq), Payload(block), defined(*names))])


async def compacted(store: TableStore, limit: int = 400_000) -> None:
    """Compact until nothing is left."""
    while (report := await store.compact(limit, everything=True)).more or report.batches:
        pass


async def chunk_sizes(store: TableStore) -> list[int]:
    """The samples of each chunk, in the order of time."""
    rows = await store.read(lambda db: db.execute("SELECT count FROM chunk ORDER BY t0_ns").fetchall())
    return [row[0] for row in rows]


async def values(store: TableStore, series: int = 1) -> list[float]:
    """All values of a series, in order."""
    return (await store.samples([series], -FOREVER, FOREVER)).values.tolist()


async def everything(store: TableStore, ids: Iterable[int]) -> list[object]:
    """What readers see: samples, and rollups of minutes and hours, bit by bit."""
    ids = list(ids)
    block = await store.samples(ids, -FOREVER, FOREVER)
    seen: list[object] = [block.series.tolist(), block.times.tolist(), block.values.tobytes()]
    for step in (MINUTE, 60 * MINUTE):
        for agg in ("sum", "last", "count"):
            found = await store.range(ids, START, START + 4 * 60 * MINUTE, step, agg)
            seen += [(row.id, row.counts.tobytes(), row.values.tobytes()) for row in found.series]
    return seen


async def test_a_run_large_enough_leaves_the_last_chunk_alone(store: TableStore) -> None:
    """Many fresh samples get a chunk of their own, few go behind the last one, and none is larger than may be."""
    await send(store, 1, 100, 0)
    await compacted(store)
    await send(store, 2, compaction.OWN, 100)
    await compacted(store)
    assert await chunk_sizes(store) == [100, compaction.OWN]
    await send(store, 3, 10, 100 + compaction.OWN)
    await compacted(store)
    assert await chunk_sizes(store) == [100, compaction.OWN + 10]
    await send(store, 4, chunks.MOST + 2, 110 + compaction.OWN)
    await compacted(store)
    assert await chunk_sizes(store) == [100, compaction.OWN + 10, chunks.MOST // 2 + 1, chunks.MOST // 2 + 1]
    assert await values(store) == [float(i) for i in range(112 + compaction.OWN + chunks.MOST)]
    assert await store.verify() == []


@pytest.mark.parametrize("count", [3, 2 * stretches.LONG])
async def test_batches_that_lie_across_each_other_are_put_in_order_with_their_flags(
    store: TableStore, count: int
) -> None:
    """However long the stretches of a series are: times, values and flags stay together, also where few have flags."""
    names = defined("x", "y")
    for seq, start, flag in ((1, 50, 0), (2, 0, 4), (3, 25, 0)):
        times = [START + (start + 2 * i) * SECOND for i in range(count)]
        rows = {number: [(time, float(seq * 1_000 + i)) for i, time in enumerate(times)] for number in (1, 2)}
        flags = {1: [flag] * count, 2: [0] * count} if flag else None
        await store.commit([decoded(BatchKey("a", EPOCH, seq), Payload(samples(rows, flags)), names)])

    async def seen() -> list[object]:
        block = await store.samples([1, 2], -FOREVER, FOREVER)
        flags = np.zeros(len(block), np.uint8) if block.flags is None else block.flags
        return [block.offsets.tolist(), block.times.tolist(), block.values.tolist(), flags.tolist()]

    before = await seen()
    assert sum(before[3]) == 4 * count
    await compacted(store)
    assert await seen() == before


async def test_a_full_run_goes_at_once_and_a_dense_one_waits_to_be_cut_full(
    store: TableStore, clock: ManualClock
) -> None:
    """After ten seconds what fills chunks is compacted, after fifteen what comes near."""
    await send(store, 1, chunks.TARGET, 0)
    await send(store, 1, compaction.DENSE, 0, epoch=bytes(16))
    clock.advance(11 * SECOND)
    assert (await store.compact()).samples == chunks.TARGET
    assert (await store.compact()).samples == 0
    clock.advance(5 * SECOND)
    assert (await store.compact()).samples == compaction.DENSE


async def test_a_sparse_batch_is_due_when_it_has_waited_five_minutes_or_is_one_of_many(
    store: TableStore, clock: ManualClock
) -> None:
    """However often compaction looks: few readings a series stay as shipped for that long, or until 512 batches are a run."""
    await send(store, 1, compaction.DENSE - 1, 0)
    for seq in range(1, compaction.MANY + 1):
        await send(store, seq, 1, seq, epoch=bytes(16))
        if seq < compaction.MANY:
            continue
        clock.advance(11 * SECOND)
        assert (await store.compact()).batches == compaction.MANY
    assert (await store.compact()).batches == 0
    clock.advance(288 * SECOND)
    assert (await store.compact()).batches == 0
    clock.advance(2 * SECOND)
    assert (await store.compact()).samples == compaction.DENSE - 1


async def test_the_next_run_is_planned_while_one_is_swapped(store: TableStore) -> None:
    """Every sample is seen once after each step, whatever was planned ahead, and each step takes the run that comes next."""
    for seq in range(1, 7):
        await send(store, seq, 100, (seq - 1) * 100, series=3)
    before = await everything(store, (1, 2, 3))
    steps = []
    while (report := await store.compact(600, everything=True)).more or report.batches:
        steps.append(report.batches)
        assert await everything(store, (1, 2, 3)) == before
        if len(steps) == 1:
            assert store._ready is not None
            assert store._ready.swap is not None
            assert store._ready.swap.samples == 600
    assert [step for step in steps if step] == [2, 2, 2]
    assert (await store.usage()).batches == 0
    assert await store.verify() == []


async def test_what_comes_while_a_run_is_planned_ahead_is_not_lost(store: TableStore) -> None:
    """Batches that arrive between two swaps, some before the planned run in time, are in the next ones."""
    for seq in (1, 2, 3, 4, 7, 8):
        await send(store, seq, 100, (seq - 1) * 100)
    await store.compact(200, everything=True)
    assert store._ready is not None
    await send(store, 5, 100, 400)
    await send(store, 6, 100, 500)
    await send(store, 1, 100, 50, epoch=bytes(16))
    before = await everything(store, (1,))
    await compacted(store, 200)
    assert await everything(store, (1,)) == before
    assert len(await values(store)) == 900
    assert await store.verify() == []


async def test_retention_makes_what_was_planned_ahead_void(store: TableStore) -> None:
    """The horizon moves between two swaps: the next run is planned anew and nothing fails or comes back."""
    for seq in range(1, 5):
        await send(store, seq, 100, (seq - 1) * 100)
    await store.compact(200, everything=True)
    assert store._ready is not None
    keep = Retention(raw_ns=60 * MINUTE, windows_ns=60 * MINUTE)
    await store.apply_retention(keep, START + 120 * MINUTE)
    assert store._ready is None
    await compacted(store, 200)
    while await store.apply_retention(keep, START + 120 * MINUTE):
        await compacted(store, 200)
    (row,) = (await store.range([1], START, START + 60 * MINUTE, MINUTE, "count")).series
    assert row.counts.sum() == 400
    assert await store.verify() == []


async def test_a_swap_that_fails_is_planned_anew(store: TableStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is kept, nor of what was planned upon it."""
    for seq in range(1, 5):
        await send(store, seq, 100, (seq - 1) * 100)
    before = await everything(store, (1,))

    def fails(*_: object) -> None:
        raise StoreError("no")

    with monkeypatch.context() as broken:
        broken.setattr(Swap, "_put", fails)
        with pytest.raises(StoreError):
            await store.compact(200, everything=True)
    assert store._ready is None
    assert (await store.usage()).batches == 4
    await compacted(store, 200)
    assert await everything(store, (1,)) == before
    assert await store.verify() == []


async def test_rollups_of_many_series_are_those_of_each(store: TableStore) -> None:
    """Series with the same minutes are reduced together, others and those with windows by themselves: all bits stay."""
    await send(store, 1, 400, 0, series=rollup.TOGETHER + 20)
    names = defined(*(f"s{number}" for number in range(rollup.TOGETHER + 20)))
    other = Payload(
        samples({2: [(START + 3 * MINUTE, 0.7), (START + 90 * MINUTE, float("nan"))]}),
        window(3, START + 2 * MINUTE, [0.1, 0.2, 0.3]),
    )
    await store.commit([decoded(BatchKey("a", EPOCH, 2), other, names)])
    ids = [series.id for series in await store.series(limit=1_000)]
    before = await everything(store, ids)
    await compacted(store)
    assert (await store.read(lambda db: db.execute("SELECT count(*) FROM dirty").fetchone()))[0] == 0
    assert await everything(store, ids) == before
    await send(store, 3, 400, 400, series=rollup.TOGETHER + 20)
    before = await everything(store, ids)
    await compacted(store)
    assert await everything(store, ids) == before


async def test_while_more_waits_rollups_wait_for_company(store: TableStore) -> None:
    """A series with fewer entries than asked for is left for later, unless there are more than are looked at."""
    await send(store, 1, 100, 0)
    await send(store, 1, 100, 50, epoch=bytes(16))
    for _ in range(2):
        swap = await store._plan(100, (), everything=True)
        assert swap is not None
        await swapped(store, swap)
    assert (await store.read(lambda db: refresh.plan(db, 1_000, 3))).ids == []
    assert len((await store.read(lambda db: refresh.plan(db, 1_000, 2))).ids) == 2


async def test_rollups_with_more_samples_than_fit_are_read_in_halves(
    store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little is held at once, the rows are the same."""
    await send(store, 1, 3_000, 0, series=4)
    before = await everything(store, range(1, 5))
    monkeypatch.setattr(refresh, "READ", 500)
    monkeypatch.setattr(refresh, "SAMPLES", 1_000)
    await compacted(store)
    assert (await store.read(lambda db: db.execute("SELECT count(*) FROM dirty").fetchone()))[0] == 0
    assert await everything(store, range(1, 5)) == before


async def test_rollups_that_are_written_in_part_are_not_trusted(store: TableStore) -> None:
    """Between two pieces of one refresh readers still take raw data; the entries go with the last piece."""
    await send(store, 1, 600, 0)
    before = await everything(store, (1,))
    swap = await store._plan(400_000, (), everything=True)
    assert swap is not None
    await swapped(store, swap)
    work = await store.read(lambda db: refresh.plan(db, 1_000))
    pieces = list(work.pieces(4, store.engine.reals))
    assert [len(piece.minutes) for piece in pieces] == [4, 4, 2]
    assert [bool(piece.ids) for piece in pieces] == [False, False, True]
    for piece in pieces:
        await store.write(lambda db, piece=piece: refresh.apply(db, piece), Priority.UPKEEP)
        assert await everything(store, (1,)) == before
