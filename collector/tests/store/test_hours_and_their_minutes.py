"""Where raw data is gone, an hour and its minutes are all there is: what is wrong with one never takes the other with it. Runs on each store."""

# ruff: noqa: S608 - statements of the test's own

import pytest

from reference_agent import SECOND, T0, decoded, defined, samples
from telemetryx.clock import ManualClock
from telemetryx.store.interface import Retention
from telemetryx.store.tables import rebuild
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey
from telemetryx.wire.payload import Payload

HOUR = 3_600 * SECOND
START = T0 // HOUR * HOUR
EPOCH = bytes(range(16))
LOST = "what it was computed from is gone: a backup alone has it"
FEWER = "some of its minutes are gone, or were changed: a backup alone has them"
UNDECIDED = "which of the two is right isn't known, for raw data is gone: a backup alone tells"
REBUILD = "`telemetryx store rebuild` has what is left of it computed anew"
DIFFERS = f"rollup_1h: series 1 has an hour that shows something else than its minutes, first at {START} ns"


async def aged(store: TableStore, clock: ManualClock) -> None:
    """Two hours of one series whose raw data is gone."""
    line = [(START + i * SECOND, 20.0 + i * 37 % 101 / 4) for i in range(7_200)]
    await store.commit([decoded(BatchKey("a", EPOCH, 1), Payload(samples({1: line})), defined("temp"))])
    while (report := await store.compact(everything=True)).more or report.batches or report.rollups:
        pass
    day = 24 * HOUR
    clock.advance(3 * day)
    await store.apply_retention(Retention(day, day, 900 * day, 900 * day), clock.now_ns())
    assert await store.verify() == []


async def rows(store: TableStore, table: str) -> list[tuple[object, ...]]:
    """All rollups of a table."""
    return await store.read(
        lambda db: [tuple(row) for row in db.execute(f"SELECT * FROM {table} ORDER BY t0_ns").fetchall()]
    )


async def change(store: TableStore, statement: str) -> None:
    """Change rows behind the store's back."""
    await store.write(lambda db: db.execute(statement))


async def rebuilt(store: TableStore) -> rebuild.Done:
    """Do what `telemetryx store rebuild` does."""
    faults = await store.read(rebuild.plan)
    return await store.write(lambda db: rebuild.rebuild(db, faults))


@pytest.mark.parametrize(
    ("changed", "said"),
    {
        "count = count + 5": f"doesn't hold what its row says; {LOST}",
        "count = count - 1": f"can't be decoded; {LOST}",
        "sum = sum + 1e9": f"can't be that of readings between its minimum and maximum; {LOST}",
        "min = min - 5": f"doesn't hold what its row says; {LOST}",
        "first = max + 1": f"contradict each other; {LOST}",
        "sum = sum + 1": f"{DIFFERS}; {UNDECIDED}",
        "first = max": f"{DIFFERS}; {UNDECIDED}",
        "sketch = NULL": f"{DIFFERS}; {UNDECIDED}",
    }.items(),
)
async def test_a_minute_that_was_changed_is_named_and_never_takes_its_hour_with_it(
    store: TableStore, clock: ManualClock, changed: str, said: str
) -> None:
    """By what its row tells alone, else by its hour; of which nobody knows then whether it is right."""
    await aged(store, clock)
    hours = await rows(store, "rollup_1h")
    await change(store, f"UPDATE rollup_1m SET {changed} WHERE t0_ns = {START}")
    (problem,) = await store.verify()
    assert problem.endswith(said)
    assert await rebuilt(store) == rebuild.Done(0, 0)
    assert await rows(store, "rollup_1h") == hours
    assert await store.verify() == [problem]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("count = count - 1", REBUILD),
        ("sum = sum + 1e9", REBUILD),
        ("last = min - 1", REBUILD),
        ("last_ms = last_ms - 1", REBUILD),
        ("sketch = NULL", REBUILD),
        ("sum = sum + 1", UNDECIDED),
        ("last = min", UNDECIDED),
        ("count = count + 5", LOST),
    ],
)
async def test_an_hour_that_was_changed_is_computed_from_its_minutes_where_it_cannot_be_right(
    store: TableStore, clock: ManualClock, changed: str, said: str
) -> None:
    """Or where it says less than they do; where each might be right, or a minute may be gone, neither is touched."""
    mended = said == REBUILD
    await aged(store, clock)
    hours = await rows(store, "rollup_1h")
    await change(store, f"UPDATE rollup_1h SET {changed} WHERE t0_ns = {START}")
    (problem,) = await store.verify()
    assert problem.endswith(said)
    assert await rebuilt(store) == rebuild.Done(0, 1 if mended else 0)
    assert (await rows(store, "rollup_1h") == hours) is mended
    assert await store.verify() == ([] if mended else [problem])


async def test_an_hour_is_not_computed_from_minutes_that_cannot_be_right(
    store: TableStore, clock: ManualClock
) -> None:
    """Both were changed: a backup alone has them. One that is gone shows what its minutes do, as queries by minutes do."""
    await aged(store, clock)
    await change(store, f"UPDATE rollup_1m SET sum = sum + 1e9 WHERE t0_ns = {START}")
    await change(store, f"UPDATE rollup_1h SET sum = sum + 1e9 WHERE t0_ns = {START}")
    problems = await store.verify()
    assert len(problems) == 2
    assert all(problem.endswith(LOST) for problem in problems)
    assert (await rebuilt(store)).hours == 0
    await change(store, f"DELETE FROM rollup_1h WHERE t0_ns = {START}")
    assert (await rebuilt(store)).hours == 1


async def test_minutes_that_are_gone_are_named_by_their_hour(store: TableStore, clock: ManualClock) -> None:
    """One of an hour's; all of them, also where no minute of the series is left."""
    await aged(store, clock)
    await change(store, f"DELETE FROM rollup_1m WHERE t0_ns = {START}")
    assert await store.verify() == [f"{DIFFERS}; {FEWER}"]
    await change(store, "DELETE FROM rollup_1m")
    assert await store.verify() == [
        f"rollup_1h: series 1 has an hour without minutes at {hour} ns" for hour in (START, START + HOUR)
    ]


async def test_many_rows_with_one_fault_are_one_sentence(store: TableStore, clock: ManualClock) -> None:
    """With the first, the last, and how many."""
    await aged(store, clock)
    await change(store, "UPDATE rollup_1m SET count = count + 5")
    last = START + 119 * 60 * SECOND
    more = f"(so it is with 119 more up to {last} ns)"
    said = f"rollup_1m: the sketch of series 1 at {START} ns doesn't hold what its row says {more}; {LOST}"
    assert await store.verify() == [said]
