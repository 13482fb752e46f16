"""Whatever level a query is read from, it says the same of NaN, infinities, two readings of one time, late data and gaps.

The rollups of a compacted store are compared bit for bit with what raw readings are reduced to; and PromQL over rollups with
PromQL over samples. Values are eighths, so that sums are exact in any order. No reading lies at a whole minute: there a range
from rollups may count one more (docs/how-to/grafana.md).
"""

import asyncio
import math
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_agent import SECOND, T0, decoded, defined, samples
from telemetryx.api.prometheus.source import StoreSource
from telemetryx.promql.data import Vector
from telemetryx.promql.evaluate import Query, evaluate
from telemetryx.promql.parse import parse
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables import points, rollup
from telemetryx.store.tables.rollup import Parts
from telemetryx.store.tables.store import TableStore
from telemetryx.types import Aggregate, BatchKey, Decoded, RangeResult, Stored, WindowBlock
from telemetryx.wire.payload import Payload

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
START = T0 // HOUR * HOUR
HOURS = 8
STEPS = (MINUTE, 7 * MINUTE, HOUR, 2 * HOUR)
AGGREGATES: tuple[Aggregate, ...] = ("count", "sum", "avg", "min", "max", "last")
#: The mark with which a Prometheus ends a series.
ENDED = float(np.array([0x7FF0000000000002], np.uint64).view(np.float64)[0])
EXPRESSIONS = (
    "x",
    "sum(x)",
    *(f"{name}_over_time(x[20m])" for name in ("count", "sum", "avg", "min", "max", "last", "present")),
)

VALUES = st.integers(-80, 80).map(lambda n: n / 8) | st.sampled_from([math.nan, math.inf, -math.inf, -0.0])
#: Minutes that many readings fall into, and any.
TIMES = st.builds(
    lambda minute, ms: START + minute * MINUTE + ms * 1_000_000,
    st.sampled_from([0, 1, 59, 60, 61, 200]) | st.integers(0, 60 * HOURS - 1),
    st.sampled_from([1, 30_000, 59_999]) | st.integers(1, 59_999),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Decoded | None]:
    """Batches in any order, with compactions (None) between them."""
    batches: list[Decoded] = []
    for seq in range(1, draw(st.integers(1, 5)) + 1):
        rows = {
            number: sorted(
                draw(st.lists(st.tuples(TIMES, VALUES), min_size=1, max_size=12)), key=lambda row: row[0]
            )
            for number in draw(st.sets(st.integers(1, 2), min_size=1))
        }
        batches.append(decoded(BatchKey("a", bytes(16), seq), Payload(samples(rows)), defined("x", "x2")))
    steps: list[Decoded | None] = list(draw(st.permutations(batches)))
    for _ in range(draw(st.integers(0, 3))):
        steps.insert(draw(st.integers(0, len(steps))), None)
    return steps


async def stored(store: TableStore, history: list[Decoded | None]) -> None:
    """Bring a history into a store."""
    for batch in history:
        if batch is None:
            await store.compact(everything=True)
            continue
        (outcome,) = await store.commit([batch])
        assert isinstance(outcome, Stored), outcome


async def answers(store: TableStore, ids: list[int]) -> list[RangeResult]:
    """Ask by steps that are read from minutes and hours, and for the whole, whose ends are raw."""
    span = (START, START + HOURS * HOUR)
    found = [await store.range(ids, *span, step, agg) for step in STEPS for agg in AGGREGATES]
    return [*found, *[await store.whole(ids, START + 90 * SECOND, span[1] - 1, agg) for agg in AGGREGATES]]


def equal(one: Any, other: Any, name: str = "") -> None:
    """Compare columns by their bits; one NaN is as good as another."""
    np.testing.assert_array_equal(one, other, err_msg=name)
    number = ~np.isnan(one)
    np.testing.assert_array_equal(
        np.signbit(one[number]), np.signbit(other[number]), err_msg=f"signs of {name}"
    )


def same(one: RangeResult, other: RangeResult) -> None:
    """All columns."""
    for row, twin in zip(one.series, other.series, strict=True):
        for name in ("times", "values", "min", "max", "counts"):
            equal(getattr(row, name), getattr(twin, name), name)


async def rolled(store: TableStore, ids: list[int], level: str) -> Parts:
    """Read the stored rollups."""

    def read(database: Any) -> Parts:
        return rollup.stored(database, f"rollup_{level}", ids, START, START + HOURS * HOUR)[1]

    return await store.read(read)


async def reduced(store: TableStore, ids: list[int]) -> tuple[Parts, Parts]:
    """Reduce samples to minutes, and these to hours."""
    block = await store.samples(ids, START, START + HOURS * HOUR)
    series, minutes = rollup.reduce_raw(block, WindowBlock.empty(), MINUTE)
    return minutes, rollup.reduce_many(series, minutes, HOUR)[1]


def alike(one: Parts, other: Parts) -> None:
    """Rows of a table have their places of first and last to the millisecond, which all times here are."""
    for column, twin in zip(one.columns(), other.columns(), strict=True):
        equal(column, twin)


async def asked(store: TableStore) -> dict[str, Vector]:
    """Evaluate PromQL at whole minutes of six hours and more, in a thread of its own as the API does."""
    loop = asyncio.get_running_loop()
    times = np.arange(START + HOUR, START + HOURS * HOUR + 1, MINUTE, dtype=np.int64)

    def within(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    def evaluated() -> dict[str, Vector]:
        found = {
            text: evaluate(parse(text), Query(times), StoreSource(store, within)) for text in EXPRESSIONS
        }
        return {text: one for text, one in found.items() if isinstance(one, Vector)}

    return await asyncio.to_thread(evaluated)


async def compared(history: list[Decoded | None], choose: Callable[[float], None]) -> None:
    """Compare the levels of one store."""
    with tempfile.TemporaryDirectory() as folder:
        store = await SqliteStore.open(Path(folder) / "t.db")
        try:
            await stored(store, history)
            ids = [one.id for one in await store.series()]
            before = await answers(store, ids)
            while (report := await store.compact(everything=True)).more or report.batches:
                pass
            for one, other in zip(before, await answers(store, ids), strict=True):
                same(one, other)
            minutes, hours = await reduced(store, ids)
            alike(await rolled(store, ids, "1m"), minutes)
            alike(await rolled(store, ids, "1h"), hours)
            assert await store.verify() == []
            choose(math.inf)
            raw = await asked(store)
            choose(0)
            coarse = await asked(store)
            assert raw.keys() == coarse.keys() == set(EXPRESSIONS)
            for text, one in raw.items():
                twin = coarse[text]
                assert one.labels == twin.labels, text
                np.testing.assert_array_equal(one.present, twin.present, err_msg=text)
                np.testing.assert_array_equal(one.values[one.present], twin.values[one.present], err_msg=text)
        finally:
            await store.close()


@settings(max_examples=40, deadline=None)
@given(history=histories())
def test_rollups_say_of_readings_what_the_readings_say(history: list[Decoded | None]) -> None:
    """By any aggregate and step, before and after compaction, and in PromQL whichever it reads."""
    with pytest.MonkeyPatch.context() as patch:
        asyncio.run(compared(history, lambda dearer: patch.setattr(points, "DEARER", dearer)))


async def test_nan_is_a_value_and_the_end_of_a_series_is_none(tmp_path: Path) -> None:
    """It counts, makes a sum NaN, and is a minimum only where there is nothing else; whether compacted or not."""
    store = await SqliteStore.open(tmp_path / "t.db")
    rows = [
        (START + SECOND, 2.0),
        (START + 2 * SECOND, math.nan),
        (START + 3 * SECOND, 1.0),
        (START + 4 * SECOND, ENDED),
    ]
    alone = [(START + MINUTE + SECOND, math.nan)]
    try:
        await stored(
            store, [decoded(BatchKey("a", bytes(16), 1), Payload(samples({1: rows + alone})), defined("x"))]
        )
        for _ in range(2):
            wanted = {
                "count": [3.0, 1.0], "sum": [math.nan, math.nan], "avg": [math.nan, math.nan],
                "min": [1.0, math.nan], "max": [2.0, math.nan], "last": [1.0, math.nan],
            }  # fmt: skip
            for agg in AGGREGATES:
                (line,) = (await store.range([1], START, START + 3 * MINUTE, MINUTE, agg)).series
                np.testing.assert_array_equal(line.values, [*wanted[agg], math.nan])
                assert line.counts.tolist() == [3, 1, 0]
            while (await store.compact(everything=True)).more:
                pass
    finally:
        await store.close()
