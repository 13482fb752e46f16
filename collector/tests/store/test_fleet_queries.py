"""One query for many series gives what each series gives by itself, and what NumPy makes of the readings; with a few statements."""

import random
from typing import Any

import numpy as np
import pytest

from reference_agent import SECOND, T0, decoded, defined, samples, window
from telemetryx.store.interface import Room
from telemetryx.store.tables import points, ranges
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.numbers import Numbers
from telemetryx.store.tables.store import TableStore
from telemetryx.types import Aggregate, BatchKey, Decoded, Level, PointBlock, Stored
from telemetryx.wire.payload import Payload

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
START = T0 // HOUR * HOUR
NAMES = ("a", "b", "c", "d", "e")
AGENTS = ("north", "south", "west")
EPOCH = bytes(16)
AGGREGATES: tuple[Aggregate, ...] = ("avg", "min", "max", "sum", "count", "last")

Readings = dict[tuple[str, str], list[tuple[int, float]]]


def history(chance: random.Random) -> tuple[list[Decoded], Readings]:
    """Batches of three agents with late and missing data and windows, in the order of their arrival; and what they hold.

    Values are eighths, whose sums are exact in any order. Times are distinct, and those of windows lie apart from readings.
    """
    batches: list[Decoded] = []
    held: Readings = {}
    for agent in AGENTS:
        for seq in range(1, 8):
            rows: dict[int, list[tuple[int, float]]] = {}
            for number, name in enumerate(NAMES[:-1], start=1):
                if chance.random() < 0.3:
                    continue
                begin = START + seq * 17 * MINUTE + chance.choice((0, 0, -2)) * HOUR
                times = sorted({begin + chance.randrange(20 * MINUTE) for _ in range(chance.randint(1, 30))})
                rows[number] = [(at, chance.randint(-800, 800) / 8) for at in times]
                held.setdefault((agent, name), []).extend(rows[number])
            values = [chance.randint(-80, 80) / 8 for _ in range(chance.randint(1, 3))]
            begun = START + seq * 40 * MINUTE
            held.setdefault((agent, NAMES[-1]), []).extend((begun, one) for one in values)
            content = Payload(samples(rows), window(len(NAMES), begun, values, 5 * SECOND))
            batches.append(decoded(BatchKey(agent, EPOCH, seq), content, defined(*NAMES, site=agent)))
    late = [batches.pop(chance.randrange(len(batches))) for _ in range(4)]
    return batches + late, held


async def stored(store: TableStore, chance: random.Random) -> dict[int, list[tuple[int, float]]]:
    """Commit a history, with compaction here and there; return the readings by the store's ids, ascending by time."""
    batches, held = history(chance)
    for batch in batches:
        (outcome,) = await store.commit([batch])
        assert isinstance(outcome, Stored)
        if chance.random() < 0.15:
            await store.compact(everything=True)
    ids = {(one.agent, one.name): one.id for one in await store.series()}
    return {ids[key]: sorted(rows, key=lambda row: row[0]) for key, rows in held.items()}


def expected(rows: list[tuple[int, float]], start: int, end: int, step: int, agg: Aggregate) -> list[float]:
    """What NumPy says about one series."""
    out = []
    for begin in range(start, end, step):
        some = np.array([value for at, value in rows if begin <= at < begin + step])
        if not len(some):
            out.append(np.nan)
            continue
        last = float(some[-1])
        told = {"avg": some.sum() / len(some), "min": some.min(), "max": some.max(), "sum": some.sum()}
        out.append(float({**told, "count": float(len(some)), "last": last}[agg]))
    return out


@pytest.mark.parametrize("seed", range(4))
async def test_a_range_over_many_series_is_that_of_each(store: TableStore, seed: int) -> None:
    """At every level, part compacted and part as shipped, late data and windows among it."""
    readings = await stored(store, random.Random(seed))
    ids = sorted(readings)
    for step in (7 * SECOND, MINUTE, 5 * MINUTE, HOUR):
        start = START - 2 * HOUR
        end = START + (HOUR if step < MINUTE else 5 * HOUR)
        for agg in AGGREGATES if step != 7 * SECOND else AGGREGATES[:2]:
            whole = await store.range(ids, start, end, step, agg, max_points=10_000_000)
            assert [one.id for one in whole.series] == ids
            for one in whole.series:
                told = expected(readings[one.id], whole.start_ns, whole.end_ns, whole.step_ns, agg)
                np.testing.assert_array_equal(one.values, told, err_msg=f"{one.id} {step} {agg}")
        for one in whole.series:
            (alone,) = (await store.range([one.id], start, end, step, agg)).series
            for column in ("times", "values", "min", "max", "counts"):
                np.testing.assert_array_equal(getattr(one, column), getattr(alone, column))


@pytest.mark.parametrize("level", ["raw", "1m", "1h"])
async def test_points_of_many_series_are_those_of_each(store: TableStore, level: Level) -> None:
    """What PromQL evaluates: each series' rows in their order, and all their columns."""
    readings = await stored(store, random.Random(9))
    whole = await store.points(sorted(readings), START - 3 * HOUR, START + 6 * HOUR, level=level)
    assert whole.series.tolist() == sorted(readings)
    for at, series in enumerate(whole.series.tolist()):
        alone = await store.points([series], START - 3 * HOUR, START + 6 * HOUR, level=level)
        rows = slice(int(whole.offsets[at]), int(whole.offsets[at + 1]))
        np.testing.assert_array_equal(whole.times[rows], alone.times)
        np.testing.assert_array_equal(whole.values[rows], alone.values)
        for column in ("counts", "sums", "mins", "maxs"):
            few = getattr(alone, column)
            # Alone, a series without windows is told by its samples: each stands for itself.
            plain = np.ones(len(alone.times)) if column == "counts" else alone.values
            np.testing.assert_array_equal(getattr(whole, column)[rows], plain if few is None else few)
        if level == "raw":
            assert total(whole, rows) == sum(value for _, value in readings[series])


def total(block: PointBlock, rows: slice) -> float:
    """The sum of what some rows stand for."""
    assert block.sums is not None
    return float(block.sums[rows].sum())


class Counting:
    """A connection that counts its statements."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.statements = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.database, name)
        if name not in {"execute", "stream"}:
            return found

        def run(*given: Any) -> Any:
            self.statements += 1
            return found(*given)

        return run


async def test_many_series_take_as_many_statements_as_a_few(store: TableStore) -> None:
    """The fleet's query doesn't ask for each series or agent by itself."""
    for agent in range(10):
        rows = {
            number: [(START + at * MINUTE, float(number)) for at in range(120)] for number in range(1, 21)
        }
        names = [f"s{number}" for number in rows]
        batch = decoded(BatchKey(f"a{agent}", EPOCH, 1), Payload(samples(rows)), defined(*names))
        await store.commit([batch])
    while (await store.compact(everything=True)).more:
        pass
    ids = sorted(one.id for one in await store.series())

    def counted(database: Database, few: list[int]) -> list[int]:
        out = []
        for step in (SECOND * 7, MINUTE, HOUR):
            counting: Any = Counting(database)
            ranges.query(counting, Numbers(), few, (START, START + 10 * MINUTE), step, "avg", 10_000_000)
            out.append(counting.statements)
        for level in ("raw", "1m"):
            counting = Counting(database)
            span = (START, START + 10 * MINUTE)
            asked = points.Wanted(level, edges=True, parts=True, rather_raw=False, room=Room(10**9))  # type: ignore[arg-type]
            points.query(counting, Numbers(), few, span, asked)
            out.append(counting.statements)
        return out

    assert len(ids) == 200
    few = await store.read(lambda db: counted(db, ids[:2]))
    assert await store.read(lambda db: counted(db, ids)) == few
