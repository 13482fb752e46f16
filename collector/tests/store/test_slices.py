"""What a query reads in slices is what it reads at once, however small the slices are; on each store."""

import random

import numpy as np
import pytest

from reference_agent import SECOND, T0, decoded, defined, samples, window
from telemetryx.errors import QueryOutOfTime, TooManyReadings
from telemetryx.store.interface import Store
from telemetryx.store.tables import slices
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, RangeResult, Stored
from telemetryx.wire.payload import Payload

MINUTE = 60 * SECOND
START = T0 // (60 * MINUTE) * 60 * MINUTE
NAMES = tuple("abcdefg")


async def filled(store: TableStore, shipped: int) -> None:
    """Seven series at unequal paces over two hours, windows beside; the last batches stay as shipped."""
    chance = random.Random(shipped)
    for seq in range(1, 13):
        rows: dict[int, list[tuple[int, float]]] = {}
        for number in range(1, len(NAMES)):
            times = sorted(chance.sample(range(600), 2 if number > 1 else 200))
            rows[number] = [
                (START + seq * 600 * SECOND + at * SECOND, chance.randint(-99, 99) / 8) for at in times
            ]
        beside = window(
            seq % 2 + len(NAMES) - 1, START + seq * 600 * SECOND, [chance.randint(-9, 9) / 8, 1.0]
        )
        batch = decoded(BatchKey("a", bytes(16), seq), Payload(samples(rows), beside), defined(*NAMES))
        (outcome,) = await store.commit([batch])
        assert isinstance(outcome, Stored)
        if seq == 12 - shipped:
            while (report := await store.compact(everything=True)).more or report.batches:
                pass


def same(one: RangeResult, other: RangeResult) -> None:
    """All of both is equal; values are eighths, whose sums are exact in any order."""
    assert (one.start_ns, one.end_ns, one.step_ns, one.cut, one.unshown) == (
        other.start_ns, other.end_ns, other.step_ns, other.cut, other.unshown,
    )  # fmt: skip
    assert [row.id for row in one.series] == [row.id for row in other.series]
    for row, twin in zip(one.series, other.series, strict=True):
        for column in ("times", "values", "min", "max", "counts"):
            np.testing.assert_array_equal(getattr(row, column), getattr(twin, column))


@pytest.mark.parametrize("shipped", [0, 4])
@pytest.mark.parametrize("at_once", [60, 400])
async def test_ranges_read_in_slices_are_those_read_at_once(
    store: TableStore, monkeypatch: pytest.MonkeyPatch, shipped: int, at_once: int
) -> None:
    """By any step, the whole and raw readings; chunks, batches as shipped and windows."""
    await filled(store, shipped)
    ids = [one.id for one in await store.series()]
    span = (START + 601 * SECOND, START + 7_000 * SECOND)

    async def answers() -> list[RangeResult]:
        found = [
            await store.range(ids, *span, step, "sum") for step in (7 * SECOND, 59 * SECOND, 2001 * SECOND)
        ]
        found.append(await store.whole(ids, *span, "sum"))
        return [*found, *[await store.range(ids, *span, 0, "raw", max_points=most) for most in (70, 10_000)]]

    whole = await answers()
    assert whole[-2].cut
    assert whole[-1].unshown
    monkeypatch.setattr(slices, "AT_ONCE", at_once)
    monkeypatch.setattr(slices, "WINDOWS_AT_ONCE", max(2, at_once // 10))
    largest = 0
    plain = slices.reading.samples

    def counted(*args: object) -> object:
        nonlocal largest
        found = plain(*args)  # type: ignore[arg-type]
        largest = max(largest, len(found))
        return found

    monkeypatch.setattr(slices.reading, "samples", counted)
    for one, other in zip(await answers(), whole, strict=True):
        same(one, other)
    assert 0 < largest <= at_once


async def test_however_much_is_raw_it_is_read_until_a_query_s_time_is_over(
    store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In slices, each in bounded memory; what isn't read in time is refused with a sentence, for a part would look like the whole."""
    await filled(store, 6)
    ids = [one.id for one in await store.series()]
    span = (START, START + 9_000 * SECOND)
    monkeypatch.setattr(slices, "AT_ONCE", 100)
    found = await store.range(ids, *span, 59 * SECOND, "count", seconds=600)
    assert sum(int(line.counts.sum()) for line in found.series) == sum(
        int(line.counts.sum()) for line in (await store.whole(ids, *span, "count")).series
    )
    for ask in (
        store.range(ids, *span, 59 * SECOND, seconds=0),
        store.whole(ids, span[0] + 1, span[1], seconds=0),
    ):
        with pytest.raises(QueryOutOfTime, match="whole minutes"):
            await ask


async def test_windows_have_a_limit_too(store: Store) -> None:
    """Above it they are refused, as samples are."""
    content = Payload(windows=window(1, T0, [1.0]))
    for seq in (1, 2):
        await store.commit([decoded(BatchKey("a", bytes(16), seq), content, defined("a"))])
    assert len(await store.windows([1], T0, T0 + 1, limit=2)) == 2
    with pytest.raises(TooManyReadings):
        await store.windows([1], T0, T0 + 1, limit=1)
