"""Rollups don't depend on when data came: with 30 % of the readings hours late they equal those of data in order, bit for bit.

One history, two stores: one gets every reading in order and reduces all of it once, at the end, with its raw data still there;
the other gets 30 % of them up to eight hours late, in batches that arrive in another order, with compaction in pieces and
retention (raw data goes after sixteen hours) in between.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference_agent import SECOND, decoded, defined, samples
from telemetryx import _native
from telemetryx.clock import ManualClock
from telemetryx.store.interface import Retention
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables import reals
from telemetryx.store.tables.store import TableStore
from telemetryx.types import Aggregate, BatchKey, Decoded, SketchBlock, Stored, WindowBlock
from telemetryx.wire.payload import Payload

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
BEGIN = 1_700_000_000_000_000_000 // HOUR * HOUR
LENGTH = 26 * HOUR
CUT = 10 * MINUTE
KEEP = Retention(raw_ns=16 * HOUR, windows_ns=16 * HOUR, rollup_1m_ns=None, rollup_1h_ns=None)
NAMES = ("temp", "power", "flow", "level")
EPOCHS = {"a": bytes(16), "b": bytes([1]) * 16}


@dataclass
class Batch:
    """Readings that travel together; windows are (series, start, values)."""

    arrives: int
    rows: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    windows: list[tuple[int, int, list[float]]] = field(default_factory=list)


def value(rng: random.Random) -> float:
    """A value whose sum depends on the order of adding; sometimes none, zero of either sign, or infinite."""
    chance = rng.random()
    if chance < 0.01:
        return float("nan")
    if chance < 0.02:
        return rng.choice([0.0, -0.0, 1e-13, float("inf")])
    return rng.uniform(-1, 1) * 10.0 ** rng.randint(-9, 9)


def history(rng: random.Random) -> dict[str, tuple[dict[int, list[tuple[int, float]]], list[Any]]]:
    """By agent: times and values of three series with readings of their own pace, and windows of a fourth. Times are distinct."""
    out = {}
    for agent in EPOCHS:
        rows: dict[int, list[tuple[int, float]]] = {}
        for number, pace in ((1, 20 * SECOND), (2, 45 * SECOND), (3, 7 * MINUTE)):
            times = range(BEGIN + rng.randrange(pace), BEGIN + LENGTH, pace)
            # Some minutes' and hours' edges exactly; some have nothing at all.
            moved = sorted({at // MINUTE * MINUTE if rng.random() < 0.05 else at for at in times})
            rows[number] = [(at, value(rng)) for at in moved if at // HOUR % 7 != 3]
        windows = [
            (4, start, [value(rng) for _ in range(rng.randint(1, 3))])
            for start in range(BEGIN, BEGIN + LENGTH, 5 * MINUTE)
        ]
        out[agent] = (rows, windows)
    return out


def cut(
    rng: random.Random, readings: tuple[dict[int, list[tuple[int, float]]], list[Any]], late: float
) -> list[Batch]:
    """Cut an agent's readings into batches of ten minutes; this share of them goes into one of up to eight hours later."""
    batches: dict[int, Batch] = {}

    def batch_of(at: int) -> Batch:
        arrives = (at - BEGIN) // CUT
        if rng.random() < late:
            arrives += rng.randint(1, 8 * HOUR // CUT)
        return batches.setdefault(arrives, Batch(BEGIN + (arrives + 1) * CUT))

    rows, windows = readings
    for number, some in rows.items():
        for row in some:
            batch_of(row[0]).rows.setdefault(number, []).append(row)
    for window in windows:
        batch_of(window[1]).windows.append(window)
    return [batches[at] for at in sorted(batches)]


def block(windows: Sequence[tuple[int, int, list[float]]]) -> WindowBlock | None:
    """Make the block of these windows, a minute long each."""
    if not windows:
        return None
    real = [[one for one in values if math.isfinite(one)] or [0.0] for _, _, values in windows]
    sketches = [_native.sketch_build(np.array(values)) for values in real]
    starts = np.array([start for _, start, _ in windows], np.int64)

    def of(reduced: Sequence[float]) -> np.ndarray[Any, Any]:
        return np.array(reduced, np.float64)

    return WindowBlock(
        np.array([number for number, _, _ in windows], np.int64),
        starts,
        np.full(len(windows), MINUTE, np.int64),
        np.array([len(values) for values in real], np.uint64),
        of([sum(values) for values in real]),
        of([min(values) for values in real]),
        of([max(values) for values in real]),
        starts,
        of([values[0] for values in real]),
        starts + 30 * SECOND,
        of([values[-1] for values in real]),
        SketchBlock(*(np.concatenate(columns) for columns in zip(*sketches, strict=True))),
    )


def named(agent: str, batches: Sequence[Batch]) -> Iterator[tuple[int, Decoded]]:
    """Number an agent's batches in the order in which it cut them."""
    for seq, batch in enumerate(batches, start=1):
        content = Payload(samples(batch.rows), block(sorted(batch.windows)))
        yield batch.arrives, decoded(BatchKey(agent, EPOCHS[agent], seq), content, defined(*NAMES))


async def commit(store: TableStore, batches: Sequence[Decoded]) -> None:
    """Store these in one group."""
    for outcome in await store.commit(batches):
        assert isinstance(outcome, Stored), outcome


async def finish(store: TableStore) -> None:
    """Compact until nothing is left to do."""
    while (report := await store.compact(everything=True)).more or report.batches:
        pass


async def rollups(store: TableStore) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of both tables, by agent and name, floats to the last bit. SQLite's NULL is NaN, and a BLOB -0.0, as everywhere in a store."""
    ids = {row.id: (row.agent, row.name) for row in await store.series()}

    def shown(one: Any) -> Any:
        one = -0.0 if one == reals.MINUS_ZERO else one
        return "nan" if one is None else one.hex() if isinstance(one, float) else one

    out = {}
    for table in ("rollup_1m", "rollup_1h"):
        query = f"SELECT * FROM {table}"  # noqa: S608 - one of the two
        rows = await store.read(lambda db, query=query: db.execute(query).fetchall())
        out[table] = sorted((*ids[row[0]], *map(shown, row[1:])) for row in rows)
    return out


async def charts(store: TableStore) -> list[Any]:
    """What people see: lines of minutes and hours, by agent and name."""
    ids = {row.id: (row.agent, row.name) for row in await store.series()}
    out = []
    aggs: tuple[Aggregate, ...] = ("sum", "avg", "min", "max", "count", "last")
    for step in (MINUTE, HOUR, 6 * HOUR):
        for agg in aggs:
            found = await store.range(sorted(ids), BEGIN, BEGIN + LENGTH, step, agg)
            lines = [
                (ids[row.id], row.counts.tolist(), [one.hex() for one in row.values.tolist()])
                for row in found.series
            ]
            out.append((step, agg, sorted(lines)))
    return out


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_rollups_of_late_data_equal_those_of_data_in_order_bit_for_bit(
    store: TableStore, tmp_path: Path, clock: ManualClock, seed: int
) -> None:
    """Every column of every row, sketches among them, at 1 m and 1 h, and every line of a chart."""
    rng = random.Random(seed)
    truth = history(rng)
    ordered = await SqliteStore.open(tmp_path / "ordered.db", clock=clock)
    try:
        for agent, readings in truth.items():
            await commit(ordered, [batch for _, batch in named(agent, cut(rng, readings, 0.0))])
        await finish(ordered)
        wanted, wanted_lines = await rollups(ordered), await charts(ordered)
    finally:
        await ordered.close()

    arriving: list[tuple[int, Decoded]] = []
    for agent, readings in truth.items():
        # Beside late readings in batches on time, whole batches are late, so that seqs arrive out of order.
        for arrives, batch in named(agent, cut(rng, readings, 0.25)):
            late = rng.randint(1, 3 * HOUR) if rng.random() < 0.1 else 0
            arriving.append((arrives + late, batch))
    arriving.sort(key=lambda item: item[0])
    group: list[Decoded] = []
    now = retained = BEGIN
    for now, batch in arriving:
        clock.advance(max(0, now - clock.now_ns()))
        group.append(batch)
        if rng.random() < 0.5:
            await commit(store, group)
            group.clear()
        chance = rng.random()
        if chance < 0.25:
            # In pieces, and not always to the end: some batches wait while retention goes on.
            for _ in range(rng.randint(1, 12)):
                await store.compact(rng.choice([500, 5_000]))
        elif chance < 0.28:
            await finish(store)
        elif chance < 0.36:
            await store.apply_retention(KEEP, now)
            retained = now
    assert retained > BEGIN + 17 * HOUR, "raw data was to be deleted on the way"
    await commit(store, group)
    # Lines read raw data where rollups don't show everything yet: the same before compaction has caught up as after.
    assert await charts(store) == wanted_lines
    await finish(store)
    assert await rollups(store) == wanted
    assert await charts(store) == wanted_lines
    await store.apply_retention(KEEP, now)
    assert await rollups(store) == wanted
    assert await charts(store) == wanted_lines
    assert await store.verify() == []
