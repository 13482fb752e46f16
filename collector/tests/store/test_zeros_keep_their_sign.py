"""-0.0 is -0.0 in rollups, windows and latest values, in every store: SQLite's REAL columns would keep it as 0."""

import math
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from reference_agent import SECOND, T0, merged, samples, window
from store_batches import compacted, one
from telemetryx.clock import ManualClock
from telemetryx.store.interface import Retention, Store
from telemetryx.store.sqlite.engine import SqliteEngine
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables import copying, reals, rollup
from telemetryx.store.tables.store import TableStore
from telemetryx.types import Aggregate
from telemetryx.wire.payload import Payload

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = T0 // HOUR * HOUR
AGGREGATES: tuple[Aggregate, ...] = ("min", "max", "sum", "last")


def signs(values: object) -> list[str]:
    """Write numbers with their signs."""
    return [repr(value) for value in np.asarray(values, np.float64).tolist()]


async def shown(store: Store, series: int, step: int) -> dict[str, list[str]]:
    """The first three steps, by every aggregate."""
    found = {}
    for agg in AGGREGATES:
        (line,) = (await store.range([series], START, START + 3 * step, step, agg)).series
        found[agg] = signs(line.values)
    return found


async def fill(store: Store) -> None:
    """Minutes of -0.0 alone, and of both zeros in either order, many enough for every way in which NumPy reduces; and windows."""
    rows = [(START + n * SECOND, -0.0) for n in range(5)]
    rows += [(START + MINUTE + n * SECOND, 0.0 if n else -0.0) for n in range(9)]
    rows += [(START + 2 * MINUTE + n * SECOND, -0.0 if n else 0.0) for n in range(9)]
    wins = [window(2, START + n * MINUTE, [-0.0, -0.0]) for n in range(2)]
    for win in wins:
        win.sum = np.array([-0.0])  # NumPy's own begins at 0.0
    await one(store, 1, Payload(samples({1: rows}), merged(wins)))


MINUTES = {
    "min": ["-0.0", "-0.0", "-0.0"],
    "max": ["-0.0", "0.0", "0.0"],
    "sum": ["-0.0", "0.0", "0.0"],
    "last": ["-0.0", "0.0", "-0.0"],
}

WINDOWS = {agg: ["-0.0", "-0.0", "nan"] for agg in AGGREGATES}


async def test_every_level_tells_the_sign_of_a_zero(store: TableStore) -> None:
    """From samples and windows as shipped, from chunks, and from rollups of minutes and hours."""
    await fill(store)
    for _ in range(2):
        assert await shown(store, 1, MINUTE) == MINUTES
        hours = await shown(store, 1, HOUR)
        assert {agg: values[0] for agg, values in hours.items()} == {
            "min": "-0.0", "max": "0.0", "sum": "0.0", "last": "-0.0",
        }  # fmt: skip
        wins = await store.windows([2], START, START + HOUR)
        for column in (wins.sum, wins.min, wins.max, wins.first, wins.last):
            assert signs(column) == ["-0.0", "-0.0"]
        assert await shown(store, 2, MINUTE) == WINDOWS
        assert {one: repr(found.value) for one, found in (await store.latest([1, 2])).items()} == {
            1: "-0.0",
            2: "-0.0",
        }
        assert await store.verify() == []
        await compacted(store)
    kept = await store.read(lambda db: rollup.stored(db, "rollup_1m", [1], START, START + HOUR))
    assert signs(kept[1].firsts) == ["-0.0", "-0.0", "0.0"]


async def test_late_zeros_are_added_with_their_sign(store: TableStore, clock: ManualClock) -> None:
    """Where raw data is deleted SQL adds to the rows: it knows which of two zeros is less, and what two of them give."""
    clock.advance(3 * DAY)
    await fill(store)
    await compacted(store)
    keep = Retention(raw_ns=DAY, windows_ns=DAY, rollup_1m_ns=90 * DAY, rollup_1h_ns=90 * DAY)
    await store.apply_retention(keep, START + 3 * DAY)
    assert await shown(store, 1, MINUTE) == MINUTES
    late = {
        START + 30 * SECOND: -0.0,
        START + MINUTE + 30 * SECOND: -0.0,
        START + 2 * MINUTE + 30 * SECOND: 0.0,
    }
    await one(store, 2, Payload(samples({1: list(late.items())})))
    await compacted(store)
    assert await shown(store, 1, MINUTE) == {
        "min": ["-0.0", "-0.0", "-0.0"],
        "max": ["-0.0", "0.0", "0.0"],
        "sum": ["-0.0", "0.0", "0.0"],
        "last": ["-0.0", "-0.0", "0.0"],
    }
    await one(
        store, 3, Payload(samples({1: [(START + 40 * SECOND, 0.0), (START + MINUTE + 40 * SECOND, -1.0)]}))
    )
    await compacted(store)
    assert await shown(store, 1, MINUTE) == {
        "min": ["-0.0", "-1.0", "-0.0"],
        "max": ["0.0", "0.0", "0.0"],
        "sum": ["0.0", "-1.0", "0.0"],
        "last": ["0.0", "-1.0", "0.0"],
    }
    assert await store.verify() == []


async def test_a_copy_keeps_them_in_the_other_engine_too(
    store: TableStore, tmp_path: Path, clock: ManualClock
) -> None:
    """Out of the engine of this test into SQLite; `store copy` into PostgreSQL runs the same."""
    await fill(store)
    await compacted(store)
    path = tmp_path / "copy.db"
    copy = await SqliteStore.open(path, clock=clock)
    await store.read(lambda db: copying.copy(db, SqliteEngine(path).open_writer(), lambda *_: None))
    assert await shown(copy, 1, MINUTE) == MINUTES
    assert await shown(copy, 2, MINUTE) == WINDOWS
    assert await copy.verify() == []
    await copy.close()


@pytest.mark.parametrize("column", [[1.0, None, -0.0], [reals.MINUS_ZERO, None, 2], []])
def test_a_column_of_rows_is_read_whichever_engine_it_is_of(column: list[object]) -> None:
    """NULL is NaN; SQLite's mark is -0.0."""
    found = reals.read(column)
    wanted = [math.nan if one is None else -0.0 if one == reals.MINUS_ZERO else one for one in column]
    assert signs(found) == signs(wanted)


def test_sqlite_gets_the_mark_for_nothing_else() -> None:
    """Every other number is as it is."""
    values = np.array([0.0, -0.0, math.nan, -math.inf, 5e-324, -5e-324])
    assert [one for one in reals.marked(values) if isinstance(one, bytes)] == [reals.MINUS_ZERO]
    assert signs(reals.read(reals.marked(values))) == signs(values)


async def test_sql_takes_the_mark_for_zero(store: TableStore) -> None:
    """What docs/how-to/plain-rows.md says of the tables: sums take it for 0, and a cast compares."""
    await fill(store)
    await compacted(store)
    row = await store.read(
        lambda db: db.execute(
            "SELECT sum(min), avg(min), min(CAST(min AS DOUBLE PRECISION)), max(CAST(max AS DOUBLE PRECISION)), "
            "sum(min + 1) FROM rollup_1m WHERE series_id = 1"
        ).fetchone()
    )
    assert [float(one) for one in row] == [0.0, 0.0, 0.0, 0.0, 3.0]


def older(path: Path) -> int:
    """Make of a store what an older collector would have: SQLite made a 0 of each -0.0 in a REAL column. Return how many there were."""
    raw, found = sqlite3.connect(path), 0
    for table in ("rollup_1m", "rollup_1h", "window", "latest"):
        for _, column, kind, *_ in raw.execute(f'PRAGMA table_info("{table}")').fetchall():
            if kind == "REAL":
                change = f'UPDATE "{table}" SET "{column}" = 0.0 WHERE typeof("{column}") = ?'  # noqa: S608
                found += raw.execute(change, ("blob",)).rowcount
    raw.commit()
    raw.close()
    return found


async def test_a_store_of_an_older_collector_is_read_and_goes_on_right(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Its zeros lost their sign, and are zeros: they stand beside marked ones, are merged with them, and no check takes them for damage."""
    clock.advance(3 * DAY)
    path = tmp_path / "old.db"
    store = await SqliteStore.open(path, clock=clock)
    await fill(store)
    await compacted(store)
    await store.close()
    assert older(path) > 20

    store = await SqliteStore.open(path, clock=clock)
    assert await store.verify() == []
    for step in (MINUTE, HOUR):
        for series in (1, 2):
            found = await shown(store, series, step)
            assert {value for values in found.values() for value in values} <= {"0.0", "-0.0", "nan"}
    assert {one: found.value for one, found in (await store.latest([1, 2])).items()} == {1: 0.0, 2: 0.0}

    # What comes late makes its bucket anew, with signs; the others stay.
    await one(store, 2, Payload(samples({1: [(START + 30 * SECOND, -0.0)]})))
    await one(store, 3, Payload(samples({1: [(START + DAY, -0.0)]})))
    await compacted(store)
    assert await store.verify() == []
    assert repr((await store.latest([1]))[1].value) == "-0.0"
    anew = await store.read(lambda db: rollup.stored(db, "rollup_1m", [1], START, START + MINUTE))
    assert signs(anew[1].mins) == ["-0.0"]

    # And where raw data is gone SQL adds to rows of either kind.
    keep = Retention(raw_ns=DAY, windows_ns=DAY, rollup_1m_ns=90 * DAY, rollup_1h_ns=90 * DAY)
    await store.apply_retention(keep, START + 3 * DAY)
    late = [(START + MINUTE + 30 * SECOND, -0.0), (START + 2 * MINUTE + 30 * SECOND, -1.0)]
    await one(store, 4, Payload(samples({1: late})))
    await compacted(store)
    rows = await store.read(lambda db: rollup.stored(db, "rollup_1m", [1], START, START + 3 * MINUTE))
    assert rows[1].counts.tolist() == [6, 10, 10]
    assert rows[1].mins.tolist() == [0.0, 0.0, -1.0]
    assert rows[1].maxs.tolist() == [0.0, 0.0, 0.0]
    assert rows[1].sums.tolist() == [0.0, 0.0, -1.0]
    assert signs(rows[1].lasts) == ["-0.0", "-0.0", "-1.0"]
    assert await store.verify() == []

    # A copy of both kinds holds what is there.
    copy = await SqliteStore.open(tmp_path / "copy.db", clock=clock)
    await store.read(
        lambda db: copying.copy(db, SqliteEngine(tmp_path / "copy.db").open_writer(), lambda *_: None)
    )
    both = [
        await one_.read(lambda db: rollup.stored(db, "rollup_1m", [1, 2], START, START + DAY))
        for one_ in (store, copy)
    ]
    for column in ("firsts", "lasts", "mins", "maxs", "sums"):
        assert signs(getattr(both[0][1], column)) == signs(getattr(both[1][1], column))
    assert await copy.verify() == []
    await copy.close()
    await store.close()
