"""A sketch that isn't what was stored costs its own readings at most: what is kept below it is read in its place, and the answer names it."""

import numpy as np
import pytest

from reference_agent import SECOND, samples
from store_batches import compacted, one
from store_rollups import START, expire, kept, near, percentiles, rows, sketched
from telemetryx.clock import ManualClock
from telemetryx.store.tables.rollup import HOUR, MINUTE
from telemetryx.store.tables.store import TableStore
from telemetryx.types import DamagedSketch
from telemetryx.wire.payload import Payload

VALUES = [20.0 + n * 37 % 101 - 70.0 for n in range(7_200)]
SPAN = (START, START + 2 * HOUR)


async def filled(store: TableStore) -> None:
    """Two hours of two series."""
    line = [(START + n * SECOND, value) for n, value in enumerate(VALUES)]
    await one(store, 1, Payload(samples({1: line, 2: [(at, -value) for at, value in line]})))
    await compacted(store)


async def damage(store: TableStore, table: str, time: int) -> None:
    """Change a bit of the first series' sketch of this time."""
    blob = next(row[-1] for row in await rows(store, table) if row[:2] == (1, time))
    data = bytes([*blob[:-1], blob[-1] ^ 1])
    change = f"UPDATE {table} SET sketch = ? WHERE series_id = 1 AND t0_ns = ?"  # noqa: S608 - one of two
    await store.write(lambda db: db.execute(change, (data, time)))


async def test_an_hours_sketch_that_is_damaged_is_that_of_its_minutes(
    store: TableStore, clock: ManualClock
) -> None:
    """Where raw data is gone, byte for byte; the other series and the other hour are as they were."""
    await filled(store)
    await expire(store, clock)
    before = await store.sketched([1, 2], *SPAN, "1h")
    assert before.damaged == ()
    await damage(store, "rollup_1h", START + HOUR)
    found = await store.sketched([1, 2], *SPAN, "1h")
    assert found.damaged == (DamagedSketch(1, START + HOUR, "1h", "1m"),)
    assert (found.sketches, found.offsets.tolist()) == (before.sketches, before.offsets.tolist())


async def test_a_minutes_sketch_that_is_damaged_is_that_of_its_readings(store: TableStore) -> None:
    """While they are kept; also the one of an hour that is read from this minute."""
    await filled(store)
    before = {level: await store.sketched([1, 2], *SPAN, level) for level in ("1m", "1h")}
    await damage(store, "rollup_1m", START + MINUTE)
    await damage(store, "rollup_1h", START)
    for level, gone in (
        ("1m", {DamagedSketch(1, START + MINUTE, "1m", "raw")}),
        ("1h", {DamagedSketch(1, START, "1h", "1m"), DamagedSketch(1, START + MINUTE, "1m", "raw")}),
    ):
        found = await store.sketched([1, 2], *SPAN, level)
        assert set(found.damaged) == gone
        assert (found.sketches, found.sums.tolist()) == (before[level].sketches, before[level].sums.tolist())


async def test_what_nothing_is_kept_of_is_left_out_and_told(store: TableStore, clock: ManualClock) -> None:
    """A minute whose raw data is gone: of its readings alone nothing is known."""
    await filled(store)
    await expire(store, clock)
    await damage(store, "rollup_1m", START + MINUTE)
    found = await percentiles(store, [1, 2], (START, START + 10 * MINUTE), 10 * MINUTE, 0.5)
    assert found.damaged == [DamagedSketch(1, START + MINUTE, "1m", None)]
    assert (found.missing, found.missing_from, found.missing_until) == (
        60,
        START + MINUTE,
        START + 2 * MINUTE,
    )
    there = [*VALUES[:60], *VALUES[120:600], *(-value for value in VALUES[:600])]
    near(found.values[0], np.array(there), 0.5)
    points = await store.points([1, 2], START, START + 10 * MINUTE, parts="spread")
    assert (points.damaged, points.missing) == ((DamagedSketch(1, START + MINUTE, "1m", None),), 60)


@pytest.mark.parametrize("blob", [b"", b"\x01", bytes(20)])
async def test_a_windows_sketch_that_cannot_be_read_is_told(store: TableStore, blob: bytes) -> None:
    """The other windows of the query have theirs, and rollups are made of what can be read."""
    await one(store, 1, Payload(windows=sketched([[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]], number=1)))
    await store.write(
        lambda db: db.execute('UPDATE "window" SET sketch = ? WHERE start_ns = ?', (blob, START + MINUTE))
    )
    found = await percentiles(store, [1], SPAN, 0, 0.5)
    assert found.damaged == [DamagedSketch(1, START + MINUTE, "window")]
    assert (found.blind, found.values[0]) == (1, pytest.approx(2.0, rel=0.01))
    points = await store.points([1], *SPAN, parts="spread")
    assert (points.damaged, points.missing) == ((DamagedSketch(1, START + MINUTE, "window"),), 3)
    await compacted(store)
    assert [there is None for there in await kept(store, "rollup_1m")] == [False, True]


@pytest.mark.parametrize("scale", [1e-300, 1e-190, 1e-13, -1e-13, 5e-324])
async def test_readings_too_small_for_a_sketch_lie_between_the_least_and_the_greatest(
    store: TableStore, clock: ManualClock, scale: float
) -> None:
    """A sketch takes them for zero; the row's extremes, which are exact, say more. At both ends the answer is exact."""
    line = [(START + n * SECOND, (20 + n % 41) * scale) for n in range(400)]
    await one(store, 1, Payload(samples({1: line})))
    await compacted(store)
    await expire(store, clock)
    least, greatest = sorted((20 * scale, 60 * scale))
    for q, low, high in ((0.0, least, least), (0.5, least, greatest), (1.0, greatest, greatest)):
        found = await percentiles(store, [1], SPAN, 0, q)
        assert low <= found.values[0] <= high
    points = await store.points([1], *SPAN, parts="spread")
    assert points.values.min() >= least
    assert points.values.max() <= greatest
