"""Percentiles outlive raw data: each rollup has the sketch of its readings, whatever they came in; runs on each store."""

import math
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import telemetryx
from reference_agent import SECOND, decoded, defined, samples, window
from store_batches import compacted, one
from store_rollups import DAY, KEEP, START, expire, kept, near, percentiles, rows, sketched
from telemetryx import _native
from telemetryx.clock import ManualClock
from telemetryx.errors import NotCompiled, TooManyReadings
from telemetryx.store.sqlite.engine import SqliteEngine
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables import blocks, copying, hourly, rollup, sketching
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.hours import REBUILD
from telemetryx.store.tables.rollup import HOUR, MINUTE, Parts
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, DamagedSketch, SketchBlock, Stored
from telemetryx.wire.payload import Payload

NUMBERS = st.one_of(
    st.floats(-1e6, 1e6, allow_nan=False),
    st.integers(-40, 40).map(lambda n: 20 + n / 8),
    st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1e-13, -1e-12, 1.7e308, -1.7e308]),
)


@pytest.mark.parametrize("q", [0.0, 0.01, 0.5, 0.99, 0.999, 1.0])
async def test_a_fleets_percentile_of_a_time_whose_raw_data_is_gone_is_within_the_sketchs_error(
    store: TableStore, clock: ManualClock, q: float
) -> None:
    """Of thirty series of very different size, raw and as windows, over all of it and by steps; gaps stay gaps."""
    chance = np.random.default_rng(3)
    names = [f"delay{n}" for n in range(1, 31)]
    everything: list[tuple[int, float]] = []
    content: dict[int, list[tuple[int, float]]] = {}
    for number in range(1, 30):
        at = START + np.sort(chance.choice(7_200, 400, replace=False)) * SECOND
        at = at[(at < START + 20 * MINUTE) | (at >= START + 40 * MINUTE)]
        values = np.exp(chance.normal(2, 2, len(at))) * number * (-1 if number % 9 == 0 else 1)
        content[number] = list(zip(at.tolist(), values.tolist(), strict=True))
        everything += content[number]
    panes = [np.exp(chance.normal(3, 1, 60)).tolist() for _ in range(20)]
    everything += [(START + n * MINUTE, value) for n, some in enumerate(panes) for value in some]
    await one(store, 1, Payload(samples(content), sketched(panes, number=30)), defined(*names))
    await compacted(store)
    await expire(store, clock)
    ids = [row.id for row in await store.series()]
    span = (START, START + 3 * HOUR)
    times = np.array([at for at, _ in everything])
    values = np.array([value for _, value in everything])
    whole = await percentiles(store, ids, span, 0, q)
    near(float(whole.values[0]), values, q)
    assert (whole.exact, whole.missing, whole.blind) == (False, 0, 0)
    for step in (5 * MINUTE, HOUR):
        found = await percentiles(store, ids, span, step, q)
        for at, estimate in enumerate(found.values.tolist()):
            mine = values[(times - START) // step == at]
            if len(mine):
                near(estimate, mine, q)
            else:
                assert math.isnan(estimate)
    assert np.isnan((await percentiles(store, ids, span, 5 * MINUTE, q)).values[4:8]).all()


async def test_levels_are_chosen_by_range_step_and_what_is_left_of_raw_data(
    store: TableStore, clock: ManualClock
) -> None:
    """Exact where readings are kept and few; else the coarsest rollups that the step allows, up to the last one that raw data is gone of."""
    await one(store, 1, Payload(samples({1: [(START + n * SECOND, float(n)) for n in range(7_200)]})))
    await compacted(store)

    async def chosen(span: tuple[int, int], step: int, most: int = 1_000_000) -> list[tuple[str, int, int]]:
        found = await store.levels_of_percentiles([1], *span, step, most)
        return [(part.level, part.start_ns, part.end_ns) for part in found.stretches]

    span = (START, START + 2 * HOUR)
    for step in (0, SECOND, MINUTE, HOUR):
        assert await chosen(span, step) == [("raw", *span)]
    assert await chosen(span, 0, 7_000) == [("1h", *span)]
    assert await chosen(span, HOUR, 3_000) == [("1h", *span)]
    assert await chosen(span, HOUR, 3_700) == [("raw", *span)], "exact: so many in one step"
    assert await chosen(span, MINUTE, 50) == [("1m", *span)]
    assert await chosen(span, SECOND, 0) == [("raw", *span)], "nothing else has steps of seconds"
    odd = (START + 90 * SECOND, START + 2 * HOUR - 30 * SECOND)
    edges = (START + 2 * MINUTE, START + 2 * HOUR - MINUTE)
    assert await chosen(odd, 0, 100) == [
        ("raw", odd[0], edges[0]),
        ("1m", *edges),
        ("raw", edges[1], odd[1]),
    ]
    longer = (odd[0] - HOUR, odd[1])
    assert await chosen(longer, 0, 100) == [
        ("raw", longer[0], edges[0] - HOUR),
        ("1m", edges[0] - HOUR, START),
        ("1h", START, START + HOUR),
        ("1m", START + HOUR, edges[1]),
        ("raw", edges[1], odd[1]),
    ]
    clock.advance(DAY)
    horizon = START + HOUR + 30 * MINUTE
    await store.apply_retention(KEEP, horizon + DAY)
    assert await chosen(span, 0) == [
        ("1h", START, START + HOUR),
        ("1m", START + HOUR, horizon),
        ("raw", horizon, span[1]),
    ]
    assert await chosen(span, MINUTE) == [("1m", START, horizon), ("raw", horizon, span[1])]
    found = await store.levels_of_percentiles([1], START + SECOND, horizon - SECOND, 90 * SECOND, 10)
    assert (found.start_ns, found.end_ns, found.step_ns) == (START, horizon, 2 * MINUTE)


@settings(deadline=None, max_examples=60)
@given(
    readings=st.lists(st.tuples(st.integers(0, 3 * HOUR - 1), NUMBERS), max_size=150),
    panes=st.lists(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20), max_size=10),
    cut=st.integers(0, 150),
)
def test_hours_of_minutes_are_hours_of_all_readings(
    readings: list[tuple[int, float]], panes: list[list[float]], cut: int
) -> None:
    """Bit for bit, in whatever parts they came and however these were reduced before: sketches of parts add up to that of the whole."""
    readings = sorted(readings, key=lambda row: row[0])
    times = np.array([row[0] for row in readings], np.int64)
    values = np.array([row[1] for row in readings], np.float64)
    parts = [rollup.of_samples(times, values, sketched=True)]
    if panes:
        parts.append(rollup.of_windows(sketched(panes, 0), sketched=True))
    every = rollup.join(parts)
    whole = rollup.reduce(every, 0, HOUR)
    split = [
        rollup.reduce(part, 0, MINUTE) for part in (every.take(slice(0, cut)), every.take(slice(cut, None)))
    ]
    again = rollup.reduce(rollup.reduce(rollup.join(split), 0, MINUTE), 0, HOUR)
    assert blobs(again) == blobs(whole)
    stored = rollup.reduce(round_trip(rollup.reduce(every, 0, MINUTE)), 0, HOUR)
    assert blobs(stored) == blobs(whole)
    for at in range(len(whole)):
        inside = values[(times // HOUR == whole.times[at] // HOUR) & ~np.isnan(values)]
        inside = np.clip(inside, -np.finfo(np.float64).max, np.finfo(np.float64).max)
        own = [
            value
            for n, some in enumerate(panes)
            if n * MINUTE // HOUR == whole.times[at] // HOUR
            for value in some
        ]
        built = _native.sketch_build(np.concatenate((inside, np.array(own, np.float64))))
        assert [column.tolist() for column in unpacked(whole.take(slice(at, at + 1)))] == [
            column.tolist() for column in built
        ]


def blobs(parts: Parts) -> list[bytes | None]:
    """What the rows would keep."""
    return [] if parts.sketches is None else parts.sketches.blobs(len(parts))


def round_trip(parts: Parts) -> Parts:
    """As rows that were written and read."""
    found = list(parts.rows(1, lambda column: column.tolist()))
    return Parts.of_columns(list(zip(*found, strict=True))[1:]) if found else parts


def unpacked(parts: Parts) -> Any:
    """The bins of one row."""
    assert parts.sketches is not None
    _, missing, columns = _native.rollup_group(
        *parts.sketches.packed_of(len(parts)),
        tuple(np.require(one, requirements=("C", "A")) for one in parts.figures),  # type: ignore[arg-type]
        np.zeros(len(parts), np.int64),
    )
    assert not missing.any()
    return columns


async def test_what_comes_after_its_raw_data_is_gone_is_in_the_sketches_too(
    store: TableStore, clock: ManualClock
) -> None:
    """It is added to the rows; these are the ones that readings in time would have given, in every column but the last bits of sums."""
    chance = np.random.default_rng(8)
    values = np.exp(chance.normal(1, 2, 240)).tolist()
    odd = [math.nan, math.inf, -math.inf, 0.0, -0.0, -3.5]
    line = [(START + n * 10 * SECOND, value) for n, value in enumerate(values)]
    line += [(START + n * MINUTE + 5 * SECOND, value) for n, value in enumerate(odd)]
    line.sort()
    panes = [[1.0, 2.0, 3.0, 40.0], [5.0], [6.0, 6.0, 6.0]]
    early = Payload(samples({1: line[::2]}), sketched(panes[:2]))
    late = Payload(samples({1: line[1::2]}), sketched(panes[2:], START + 2 * MINUTE))
    await one(store, 1, early)
    await compacted(store)
    await expire(store, clock)
    await one(store, 2, late)
    shown = await percentiles(store, [1, 2], (START, START + HOUR), 0, 0.9)
    await compacted(store)
    assert (await percentiles(store, [1, 2], (START, START + HOUR), 0, 0.9)).values == shown.values
    assert await store.verify() == []
    made = {table: await rows(store, table) for table in ("rollup_1m", "rollup_1h")}
    await store.write(lambda db: db.execute("DELETE FROM rollup_1m"))
    await store.write(lambda db: db.execute("DELETE FROM rollup_1h"))
    await one(store, 3, Payload(samples({1: line}), sketched(panes)))
    await compacted(store)
    for table, found in made.items():
        whole = await rows(store, table)
        assert [row[:3] + row[10:] for row in found] == [row[:3] + row[10:] for row in whole]
    assert sum(blob is not None for blob in await kept(store, "rollup_1m")) > 30


async def test_windows_without_a_sketch_are_counted_as_missing(store: TableStore, clock: ManualClock) -> None:
    """Beside readings that are known: their number and their time is told, and percentiles are of the others."""
    await one(
        store,
        1,
        Payload(
            samples({1: [(START + n * SECOND, 5.0 + n) for n in range(50)]}),
            window(1, START, [1.0, 2.0, 9.0]),
        ),
    )
    await compacted(store)
    await expire(store, clock)
    for step in (0, MINUTE):
        found = await percentiles(store, [1], (START, START + 2 * HOUR), step, 1.0)
        assert (found.missing, found.missing_from) == (3, START)
        assert found.missing_until == START + (MINUTE if step else HOUR)
        near(float(found.values[0]), np.array([54.0]), 1.0)
    assert await store.verify() == []


async def older(store: TableStore) -> None:
    """Make of a store what an older collector left: tables without sketches, and a schema that knows none."""

    def work(db: Database) -> None:
        for table in ("rollup_1m", "rollup_1h"):
            db.execute(f"ALTER TABLE {table} DROP COLUMN sketch")
        steps = "schema_step" if db.shared else "_sqlite_migrations"
        db.execute(f"DELETE FROM {steps} WHERE name LIKE '%_rollup_sketches'")  # noqa: S608 - one of two

    await store.write(work)
    await store.close()


async def test_rollups_of_an_older_collector_get_sketches_from_raw_data_and_say_what_they_lack_before_it(
    open_store: Callable[[], Awaitable[TableStore]], clock: ManualClock
) -> None:
    """The store is brought up to date at the start; a day of rollups is computed anew, in pieces, and the hours whose raw data is gone stay without."""
    store = await open_store()
    line = [(START + n * 10 * SECOND, 5.0 + n * 7 % 90) for n in range(26 * 360)]
    await one(store, 1, Payload(samples({1: line, 2: [(at, 4.0) for at, _ in line[::6]]})))
    await compacted(store)
    horizon = START + 2 * HOUR + 30 * MINUTE
    clock.advance(DAY)
    await store.apply_retention(KEEP, horizon + DAY)
    wanted = {table: await rows(store, table) for table in ("rollup_1m", "rollup_1h")}
    await older(store)
    store = await open_store()
    assert not await store.read(sketching.finished)
    for table in wanted:
        assert set(await kept(store, table)) == {None}
    # Before anything is computed: what is kept is read raw, the rest is known to be missing.
    everything = (START, START + 26 * HOUR)
    gone = horizon - START
    for _ in range(2):
        found = await percentiles(store, [1, 2], everything, HOUR, 0.5)
        assert (found.missing, found.missing_from, found.missing_until) == (
            gone // (10 * SECOND),
            START,
            horizon,
        )
        assert found.values[0] == pytest.approx(4.0, rel=0.01), "the other series' rows tell all"
        assert not np.isnan(found.values).any()
        assert await store.verify() == []
        await compacted(store)
        assert await store.read(sketching.finished)
    for row, same in zip(await rows(store), wanted["rollup_1m"], strict=True):
        assert row == (same if row[1] >= horizon else (*same[:-1], None))
    hours = await rows(store, "rollup_1h")
    assert [row for row in hours if row[1] >= START + 3 * HOUR] == [
        row for row in wanted["rollup_1h"] if row[1] >= START + 3 * HOUR
    ]
    # One that was asked for by more than may be read raw is read from these.
    levels = await store.levels_of_percentiles([1], START + 3 * HOUR, START + 26 * HOUR, 0, 10)
    assert {part.level for part in levels.stretches} == {"1h"}


@pytest.mark.parametrize("each", [30, 60], ids=["two a minute", "one a minute"])
async def test_hours_of_slow_series_of_an_older_collector_get_sketches_too(
    open_store: Callable[[], Awaitable[TableStore]], clock: ManualClock, each: int
) -> None:
    """Their minutes need none, so those don't tell; before the raw horizon an hour is computed from them."""
    store = await open_store()
    line = [(START + n * each * SECOND, 5.0 + n * 7 % 90) for n in range(6 * 3600 // each)]
    await one(store, 1, Payload(samples({1: line, 2: line[::70]})))
    await compacted(store)
    clock.advance(DAY)
    await store.apply_retention(KEEP, START + 2 * HOUR + 30 * MINUTE + DAY)
    wanted = [await rows(store, table) for table in ("rollup_1m", "rollup_1h")]
    assert set(await kept(store, "rollup_1m")) == {None}
    await older(store)
    store = await open_store()
    assert await store.verify() == []
    await compacted(store)
    assert await store.read(sketching.finished)
    assert [await rows(store, table) for table in ("rollup_1m", "rollup_1h")] == wanted
    assert await store.verify() == []


async def test_old_hours_are_computed_for_many_series_at_once_where_no_agent_waits_for_it(
    open_store: Callable[[], Awaitable[TableStore]], clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction writes and reads nothing; what says all by itself, as a value that never changes does, isn't looked at."""
    store = await open_store()
    times = [START + n * MINUTE for n in range(2 * 60)]
    lines = {
        number: [(at, 5.0 if number > 30 else number + at // MINUTE % 7 * 1.5) for at in times]
        for number in range(1, 41)
    }
    names = defined(*(f"m{number}" for number in lines))
    (outcome,) = await store.commit([decoded(BatchKey("slow", bytes(16), 1), Payload(samples(lines)), names)])
    assert isinstance(outcome, Stored)
    await compacted(store)
    clock.advance(DAY)
    await store.apply_retention(KEEP, START + 2 * HOUR + DAY)
    wanted = await rows(store, "rollup_1h")
    await older(store)
    store = await open_store()
    looked: list[int] = []
    writing = locked = False
    stored, mark, put = rollup.stored, sketching.mark, hourly.write
    kind: Any = await store.write(type)
    lock = kind.lock_rollups

    def read(*asked: Any, **how: Any) -> Any:
        assert not writing
        return stored(*asked, **how)

    def write(db: Database, portion: sketching.Portion) -> None:
        nonlocal writing, locked
        looked.append(len(portion.series))
        writing, locked = True, False
        mark(db, portion)
        writing = False

    def lock_rollups(db: Database) -> None:
        nonlocal locked
        locked = True
        lock(db)

    def put_locked(db: Database, some: hourly.Rows) -> None:
        assert locked, "a rebuild beside it may write the same hours"
        put(db, some)

    monkeypatch.setattr(kind, "lock_rollups", lock_rollups)
    monkeypatch.setattr(hourly, "write", put_locked)
    monkeypatch.setattr(rollup, "stored", read)
    monkeypatch.setattr(sketching, "mark", write)
    await compacted(store)
    assert [number for number in looked if number] == [30, 30]
    assert await store.read(sketching.finished)
    assert await rows(store, "rollup_1h") == wanted


async def test_a_new_store_has_nothing_to_compute_anew(store: TableStore) -> None:
    """No note is made where there was no rollup."""
    assert await store.read(sketching.finished)


@pytest.mark.parametrize("table", ["rollup_1m", "rollup_1h"])
async def test_every_changed_byte_of_a_sketch_is_found_and_no_percentile_is_made_of_it(
    store: TableStore, clock: ManualClock, table: str
) -> None:
    """By `verify`, by name; a query says of how many readings it knows nothing. Also where raw data is gone, so that nothing else tells."""
    line = [(START + n * SECOND, 20.0 + n * 37 % 101 - 70.0) for n in range(400)]
    await one(store, 1, Payload(samples({1: line})))
    await compacted(store)
    await expire(store, clock)
    assert await store.verify() == []
    (row, *_) = [row for row in await rows(store, table) if row[-1] is not None]
    change = f"UPDATE {table} SET sketch = ? WHERE series_id = ? AND t0_ns = ?"  # noqa: S608 - one of two
    for at in range(0, len(row[-1]), 3):
        data = bytearray(row[-1])
        data[at] ^= 0x10
        await store.write(lambda db, data=bytes(data): db.execute(change, (data, *row[:2])))
        # A damaged minute says nothing about its hour, and an hour has its minutes to be computed from.
        (problem,) = await store.verify()
        helps = (
            REBUILD if table == "rollup_1h" else "what it was computed from is gone: a backup alone has it"
        )
        assert problem == f"{table}: the sketch of series 1 at {row[1]} ns can't be decoded; {helps}"
    found = await percentiles(
        store, [1], (START, START + HOUR), HOUR if table == "rollup_1h" else MINUTE, 0.5
    )
    level: Any = table.removeprefix("rollup_")
    assert found.damaged == [DamagedSketch(1, row[1], level, "1m" if level == "1h" else None)]
    assert found.missing == (0 if level == "1h" else row[2])


async def test_a_sketch_of_another_row_is_found(store: TableStore) -> None:
    """Its bytes are whole; but it has other readings than the row says, or than chunks hold."""
    line = [(START + n * SECOND, 20.0 + n * 37 % 101 - 70.0 * (n >= 60)) for n in range(180)]
    line += [(START + 3 * MINUTE + n * SECOND, value) for n, value in enumerate((1.0, 2.0, 3.0, 9.0, 9.0))]
    line += [(START + 4 * MINUTE + n * SECOND, value) for n, value in enumerate((1.0, 3.0, 3.0, 3.0, 9.0))]
    await one(store, 1, Payload(samples({1: line})))
    await compacted(store)
    first, second, _, alike, other = await rows(store)
    change = "UPDATE rollup_1m SET sketch = ? WHERE series_id = ? AND t0_ns = ?"
    await store.write(lambda db: db.execute(change, (second[-1], *first[:2])))
    problems = await store.verify()
    said = f"rollup_1m: the sketch of series 1 at {first[1]} ns doesn't hold what its row says; {REBUILD}"
    assert said in problems
    await store.write(lambda db: db.execute(change, (first[-1], *first[:2])))
    assert await store.verify() == []
    await store.write(lambda db: db.execute(change, (other[-1], *alike[:2])))
    problem, hour = await store.verify()
    assert hour.startswith("rollup_1h: series 1 has an hour that shows something else than its minutes")
    assert (
        f"its rollups show something else than its chunks and windows hold, first at {alike[1]} ns" in problem
    )


@pytest.mark.parametrize("table", ["rollup_1m", "rollup_1h"])
async def test_a_sum_that_no_such_readings_have_is_found_where_raw_data_is_gone(
    store: TableStore, clock: ManualClock, table: str
) -> None:
    """Nothing else tells then; readings of both signs, and as large as they get, are none."""
    line = [(START + n * SECOND, (-1.0) ** n * 10.0 ** (n - 90)) for n in range(180)]
    line += [(START + HOUR + n * SECOND, 1.7e308) for n in range(9)]
    await one(store, 1, Payload(samples({1: line})))
    await compacted(store)
    await expire(store, clock)
    assert await store.verify() == []
    (row, *_) = await rows(store, table)
    place = tuple(row[:2])
    await store.write(
        lambda db: db.execute(f"UPDATE {table} SET sum = 1e300 WHERE series_id = ? AND t0_ns = ?", place)  # noqa: S608
    )
    (problem,) = await store.verify()
    assert problem.startswith(f"{table}: the sum of series 1 at {row[1]} ns can't be")


@pytest.mark.parametrize("column", ["count", "sum", "max", "sketch"])
async def test_a_rollup_that_holds_a_text_is_named(tmp_path: Path, clock: ManualClock, column: str) -> None:
    """SQLite lets any value stand in any column: a flipped bit in a row's header makes a text of a number."""
    store = await SqliteStore.open(tmp_path / "texts.db", clock=clock)
    line = [(START + n * SECOND, float(n)) for n in range(400)]
    await one(store, 1, Payload(samples({1: line})))
    await compacted(store)
    await store.write(lambda db: db.execute(f"UPDATE rollup_1m SET {column} = 'x'"))  # noqa: S608 - a column's name
    problems = await store.verify()
    await store.close()
    assert any(problem.startswith("rollup_1m: between series 1 at") for problem in problems), problems


async def test_a_copy_into_the_other_engine_has_the_sketches(
    store: TableStore, tmp_path: Path, clock: ManualClock
) -> None:
    """Out of the engine of this test into SQLite; byte for byte."""
    line = [(START + n * SECOND, 20.0 + n * 37 % 101) for n in range(400)]
    await one(store, 1, Payload(samples({1: line}), sketched([[1.0, 2.0, 3.0], [4.0]])))
    await compacted(store)
    path = tmp_path / "copy.db"
    copy = await SqliteStore.open(path, clock=clock)
    await store.read(lambda db: copying.copy(db, SqliteEngine(path).open_writer(), lambda *_: None))
    for table in ("rollup_1m", "rollup_1h"):
        assert await rows(copy, table) == await rows(store, table)
        assert any(blob is not None for blob in await kept(copy, table))
    assert await copy.verify() == []
    await copy.close()


@pytest.mark.parametrize("gone", [True, False], ids=["raw data gone", "raw data there"])
@pytest.mark.parametrize("missing", [True, False], ids=["missing", "older"])
async def test_without_the_compiled_module_rollups_are_made_and_say_that_they_have_no_sketch(
    store: TableStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, *, missing: bool, gone: bool
) -> None:
    """Everything else of them is right; percentiles of what is left of raw data are exact; with the module they get their sketches."""
    line = [(START + n * SECOND, 20.0 + n * 37 % 101) for n in range(240)]
    if missing:
        monkeypatch.setitem(sys.modules, "telemetryx._native", None)
        monkeypatch.delattr(telemetryx, "_native", raising=False)
    else:
        monkeypatch.delattr(_native, "rollup_merge")
    await one(store, 1, Payload(samples({1: line[:120]})))
    await compacted(store)
    assert set(await kept(store, "rollup_1m")) == {None}
    assert (await percentiles(store, [1], (START, START + HOUR), MINUTE, 0.5)).exact
    assert await store.verify() == []
    with pytest.raises(NotCompiled):
        await store.sketched([1], START, START + HOUR, "1m")
    monkeypatch.undo()
    assert not await store.read(sketching.finished)
    if gone:
        # Raw data goes before it is the turn of these.
        await expire(store, clock)
        found = await percentiles(store, [1], (START, START + HOUR), 0, 0.5)
        assert (found.missing, found.missing_until) == (120, START + HOUR)
        assert await store.verify() == []
        return
    await one(store, 2, Payload(samples({1: line[120:]})))
    await compacted(store)
    assert await store.read(sketching.finished), "those rows were computed anew meanwhile"
    assert [blob is None for blob in await kept(store, "rollup_1m")] == [False] * 4
    await expire(store, clock)
    found = await percentiles(store, [1], (START, START + HOUR), 0, 0.5)
    assert found.missing == 0
    near(found.values[0], np.array([value for _, value in line]), 0.5)
    assert await store.verify() == []


async def test_more_rollups_than_are_wanted_at_once_are_refused(store: TableStore) -> None:
    """So that a query reads them in portions."""
    await one(store, 1, Payload(samples({1: [(START + n * MINUTE, float(n)) for n in range(50)]})))
    await compacted(store)
    assert len(await store.sketched([1], START, START + HOUR, "1m", most=50)) == 50
    with pytest.raises(TooManyReadings):
        await store.sketched([1], START, START + HOUR, "1m", most=49)


@given(st.lists(st.one_of(st.none(), st.lists(NUMBERS, max_size=20)), max_size=12))
def test_sketches_of_windows_come_back_as_they_were_kept(values: list[list[float] | None]) -> None:
    """Many at once; a window without one among them."""
    built = [_native.sketch_build(np.array(some or [], np.float64)) for some in values]
    kept_ = [
        None if some is None else blocks.sketch_blobs(SketchBlock(*columns), 1)[0]
        for some, columns in zip(values, built, strict=True)
    ]
    found = blocks.sketches(kept_)
    if found is None:
        assert all(some is None for some in values)
        return
    wanted = [np.concatenate(columns).tolist() for columns in zip(*built, strict=True)]
    assert [column.tolist() for column in (found.counts, found.keys, found.weights, found.zero)] == wanted


@pytest.mark.parametrize("blob", [b"", b"0", bytes(15), bytes(20), b"\x01" + bytes(15)])
def test_a_sketch_of_a_window_that_was_cut_is_refused(blob: bytes) -> None:
    """As `verify` expects it."""
    with pytest.raises(ValueError, match="a sketch"):
        blocks.sketches([bytes(16), blob])
