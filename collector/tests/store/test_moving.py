"""A run of many series is swapped in several transactions: between them each sample is there once, and a kill costs nothing; on each store."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reference_agent import SECOND, T0, decoded, defined, window
from store_batches import Opener, compacted, swapped
from telemetryx.errors import StoreError
from telemetryx.store.interface import Retention
from telemetryx.store.tables import moving, plain, refresh, swap
from telemetryx.store.tables.numbers import Numbers
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, SampleBlock
from telemetryx.wire.payload import Payload

EPOCH = bytes(range(16))
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = T0 // HOUR * HOUR
KEEP = Retention(raw_ns=30 * DAY, windows_ns=30 * DAY, rollup_1m_ns=730 * DAY, rollup_1h_ns=730 * DAY)
SERIES = 7


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each piece move a series, and each transaction delete a batch."""
    monkeypatch.setattr(swap, "PIECE", 1)
    monkeypatch.setattr(swap, "BATCHES", 1)


async def send(store: TableStore, seq: int, start: int, count: int = 40, series: int = SERIES) -> None:
    """Commit a batch: readings of each series a second apart, and a window of the first and of the last."""
    times = start + (np.arange(count) * SECOND)
    values = np.concatenate([seq + np.arange(count) / 7 + number for number in range(series)])
    block = SampleBlock(
        np.arange(1, series + 1), np.arange(series + 1) * count, np.tile(times, series), values
    )
    names = defined(*(f"s{number}" for number in range(series + 1)))
    windows = window(series + 1, start // MINUTE * MINUTE, [0.1 * seq, 0.7])
    await store.commit([decoded(BatchKey("a", EPOCH, seq), Payload(block, windows), names)])


async def seen(store: TableStore, start: int, end: int) -> list[Any]:
    """Everything that queries give of a time, to the last bit."""
    ids = range(1, SERIES + 2)
    found: list[Any] = []
    samples = await store.samples(ids, start, end)
    found += [
        samples.series.tobytes(),
        samples.offsets.tobytes(),
        samples.times.tobytes(),
        samples.values.tobytes(),
    ]
    windows = await store.windows(ids, start, end)
    found += [windows.series.tobytes(), windows.start.tobytes(), windows.sum.tobytes()]
    for step in (SECOND, MINUTE, HOUR):
        for agg in ("sum", "count", "last"):
            for one in (await store.range(ids, start, end, step, agg)).series:
                found += [one.id, one.counts.tobytes(), one.values.tobytes()]
    found.append(await store.present(ids, start, end))
    points = await store.points(ids, start, end)
    return [*found, points.times.tobytes(), points.values.tobytes()]


async def steps_of(store: TableStore) -> list[Any]:
    """Plan what is to be done next."""
    planned = await store._plan(400_000, (), everything=True)
    return [] if planned is None else list(planned.steps())


async def moves(store: TableStore) -> list[moving.Move]:
    """The runs that are on their way."""
    return await store.read(moving.moves)


async def test_between_two_pieces_each_sample_is_there_once(store: TableStore) -> None:
    """Whatever is asked after any of the transactions gives what it gave before, and the store verifies."""
    for seq in range(1, 5):
        await send(store, seq, START + seq * 50 * SECOND)
    before = await seen(store, START, START + HOUR)
    steps = await steps_of(store)
    assert len(steps) == SERIES + 1 + 4 + 1
    for step in steps:
        await store.write(step)
        assert await seen(store, START, START + HOUR) == before
        assert await store.verify() == []
        # Rollups that are computed between two pieces show what is moved, and nothing of what isn't.
        work = await store.read(lambda db: refresh.plan(db, 1_000))
        for piece in work.pieces(1_000, store.engine.reals):
            await store.write(lambda db, piece=piece: refresh.apply(db, piece))
        assert await seen(store, START, START + HOUR) == before
        assert await store.verify() == []
    assert await moves(store) == []
    assert (await store.usage()).batches == 0
    await compacted(store)
    assert await seen(store, START, START + HOUR) == before


@pytest.mark.parametrize("done", [1, 4, SERIES, SERIES + 1, SERIES + 2, SERIES + 4, SERIES + 5])
async def test_what_was_killed_between_two_pieces_goes_on_from_there(open_store: Opener, done: int) -> None:
    """The next process moves the rest first, whatever came meanwhile, and nothing is there twice or not at all."""
    store = await open_store()
    for seq in range(1, 5):
        await send(store, seq, START + seq * 50 * SECOND)
    await send(store, 6, START + 300 * SECOND)
    for step in (await steps_of(store))[:done]:
        await store.write(step)
    (move,) = await moves(store)
    before = await seen(store, START, START + HOUR)
    await store.close()

    store = await open_store()
    assert await seen(store, START, START + HOUR) == before
    await send(store, 5, START + 250 * SECOND)
    before = await seen(store, START, START + HOUR)
    planned = await store._plan(400_000, (), everything=True)
    assert planned is not None
    assert (planned.epoch, planned.seqs, planned.upto) == (move.epoch, (1, 4), move.upto)
    await swapped(store, planned)
    assert await seen(store, START, START + HOUR) == before
    await compacted(store)
    assert await seen(store, START, START + HOUR) == before
    assert await store.verify() == []
    assert (await store.usage()).batches == 0


async def test_late_data_is_added_once_whatever_is_done_of_its_run(open_store: Opener) -> None:
    """Rollups before the raw horizon are added to piece by piece; a query adds what waits, and nothing of what was added."""
    store = await open_store()
    old = START - 60 * DAY
    await store.apply_retention(KEEP, START)
    for seq in range(1, 4):
        await send(store, seq, old + seq * 50 * SECOND)

    # `first` and `last` go by time once they are added; counts and sums are what they were.
    async def sums() -> list[Any]:
        found = await store.range(range(1, SERIES + 2), old, old + HOUR, HOUR, "sum")
        return [(one.id, one.counts.tolist(), np.round(one.values, 6).tolist()) for one in found.series]

    before = await sums()
    assert all(counts == [n] for (_, counts, _), n in zip(before, [120] * SERIES + [6], strict=True))
    for step in (await steps_of(store))[: SERIES + 3]:
        await store.write(step)
        assert await sums() == before
        assert await store.verify() == []
    await store.close()
    store = await open_store()
    await compacted(store)
    assert await sums() == before
    assert await store.verify() == []


async def test_a_swap_that_is_refused_in_the_middle_is_planned_from_there(store: TableStore) -> None:
    """Retention moves between two pieces of it: what is moved stays, the rest is cut at the new horizon."""
    for seq in range(1, 4):
        await send(store, seq, START + seq * 50 * SECOND)
    steps = await steps_of(store)
    for step in steps[:3]:
        await store.write(step)
    await store.apply_retention(KEEP, START + 31 * DAY)
    with pytest.raises(StoreError, match="planned again"):
        await store.write(steps[3])
    await compacted(store)
    assert await moves(store) == []
    found = await store.range(range(1, SERIES + 1), START, START + HOUR, HOUR, "count")
    assert [one.counts.tolist() for one in found.series] == [[120]] * SERIES
    assert await store.verify() == []


async def test_a_swap_that_somebody_else_makes_is_refused(store: TableStore) -> None:
    """Two plans of one run: the second does nothing, before the first piece, between two, and at the end."""
    for seq in range(1, 3):
        await send(store, seq, START + seq * 50 * SECOND)
    mine, theirs = await steps_of(store), await steps_of(store)
    await store.write(mine[0])
    for number in (0, 1, 2):
        if number != 1:
            with pytest.raises(StoreError, match="planned again"):
                await store.write(theirs[number])
    for step in mine[1:]:
        await store.write(step)
    with pytest.raises(StoreError, match="planned again"):
        await store.write(theirs[-1])
    assert await store.verify() == []


async def test_plain_rows_are_written_once_though_a_run_was_left_in_the_middle(open_store: Opener) -> None:
    """The option is switched on after a kill in between: each sample becomes one row, moved before or after."""
    store = await open_store()
    for seq in range(1, 4):
        await send(store, seq, START + seq * 50 * SECOND)
    for step in (await steps_of(store))[:3]:
        await store.write(step)
    assert (await store.read(lambda db: plain.coverage(db, Numbers())))[1] == 3 * 40 * SERIES
    await store.close()
    store = await open_store()
    store.keep_plain_rows(True)
    while (report := await store.compact(everything=True)).more or report.batches or report.rows:
        assert await store.verify() == []
    assert await store.read(lambda db: plain.coverage(db, Numbers())) == (3 * 40 * SERIES, 3 * 40 * SERIES)
    assert await store.verify() == []


async def test_a_run_of_few_series_is_one_transaction(
    store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is marked for it."""
    monkeypatch.undo()
    await send(store, 1, START)
    (step,) = await steps_of(store)
    await store.write(step)
    assert await moves(store) == []
    assert (await store.usage()).batches == 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), max_size=60),
    st.integers(1, 60),
)
def test_pieces_hold_all_rows_in_the_order_of_their_series(
    rows: Sequence[tuple[int, int]], most: int
) -> None:
    """Cut anywhere, they hold each row once, each series in one piece, and no piece but one of a single series costs too much."""
    made = swap.Made()
    lists = (made.tails, made.chunks, made.dirty, made.late.minutes)
    for number, (series, which) in enumerate(rows):
        lists[which].append((series, number, 0))  # type: ignore[arg-type]
    made.tails = [(series, number) for series, number, *_ in made.tails]
    with pytest.MonkeyPatch.context() as small:
        small.setattr(swap, "PIECE", most)
        pieces = made.pieces()
    numbers = [
        number
        for piece in pieces
        for number in (*piece.tails, *(row[1] for row in (*piece.chunks, *piece.dirty, *piece.late.minutes)))
    ]
    assert sorted(numbers) == list(range(len(rows)))
    uptos = [piece.upto for piece in pieces]
    assert uptos == sorted(set(uptos))
    before = -1
    for piece in pieces:
        inside = {row[0] for row in (*piece.chunks, *piece.dirty, *piece.late.minutes)}
        inside |= {rows[number][0] for number in piece.tails}
        assert all(before < series <= piece.upto for series in inside)
        cost = (
            len(piece.tails) * 8 + len(piece.chunks) * 12 + len(piece.dirty) * 3 + len(piece.late.minutes) * 3
        )
        assert cost <= most or len(inside) == 1
        before = piece.upto


def test_batches_are_deleted_in_portions_of_few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their number and by their size."""
    monkeypatch.setattr(swap, "BATCHES", 3)
    monkeypatch.setattr(swap, "BATCH_BYTES", 100)
    assert swap.portions([]) == []
    assert swap.portions([(n, 10) for n in range(7)]) == [[0, 1, 2], [3, 4, 5], [6]]
    assert swap.portions([(1, 60), (2, 60), (3, 500), (4, 1)]) == [[1], [2], [3], [4]]
