"""Rollups with sketches in stores of tests, and what percentiles are made of them."""

import math
from typing import Any

import numpy as np
import pytest

from reference_agent import T0, merged, window
from telemetryx import _native
from telemetryx.api.percentile import Percentiles
from telemetryx.clock import ManualClock
from telemetryx.store.interface import Retention
from telemetryx.store.tables.rollup import HOUR, MINUTE
from telemetryx.store.tables.store import TableStore
from telemetryx.types import F64, SketchBlock, WindowBlock

DAY = 24 * HOUR
START = T0 // HOUR * HOUR
KEEP = Retention(raw_ns=DAY, windows_ns=DAY, rollup_1m_ns=900 * DAY, rollup_1h_ns=900 * DAY)
Row = tuple[Any, ...]


def sketched(values: list[list[float]], start: int = START, number: int = 2) -> WindowBlock:
    """Windows of a minute each with their sketches, as an agent ships them."""
    found = merged([window(number, start + n * MINUTE, some) for n, some in enumerate(values)])
    built = [_native.sketch_build(np.array(some)) for some in values]
    found.sketch = SketchBlock(*(np.concatenate(columns) for columns in zip(*built, strict=True)))
    return found


async def percentiles(
    store: TableStore, ids: list[int], span: tuple[int, int], step: int, q: float
) -> Percentiles:
    """What all series together give, as `/aggregate` computes it; of one group."""
    levels = await store.levels_of_percentiles(ids, *span, step, 1_000_000)
    width = levels.step_ns or levels.end_ns - levels.start_ns
    steps = -(-(levels.end_ns - levels.start_ns) // width)
    held = Percentiles(dict.fromkeys(ids, 0), levels.start_ns, width, steps, steps, q)
    for part in levels.stretches:
        bounds = (part.start_ns, part.end_ns)
        if part.level == "raw":
            held.add(await store.samples(ids, *bounds), await store.windows(ids, *bounds))
        else:
            found = await store.sketched(ids, *bounds, part.level)
            held.add_rollups(found, HOUR if part.level == "1h" else MINUTE)
    held.finish()
    return held


def near(estimate: float, values: F64, q: float) -> None:
    """Within 1 % of the reading at that rank."""
    known = np.sort(values)
    exact = known[math.floor(q * (len(known) - 1))]
    assert estimate == pytest.approx(exact, rel=0.0100001, abs=1e-12)


async def rows(store: TableStore, table: str = "rollup_1m") -> list[Row]:
    """All of a table, in order."""
    asked = f"SELECT * FROM {table} ORDER BY series_id, t0_ns"  # noqa: S608 - one of two
    return await store.read(lambda db: [tuple(row) for row in db.execute(asked).fetchall()])


async def kept(store: TableStore, table: str) -> list[bytes | None]:
    """The sketches of a table's rows."""
    return [row[-1] for row in await rows(store, table)]


async def expire(store: TableStore, clock: ManualClock) -> None:
    """Let raw data be past."""
    clock.advance(3 * DAY)
    await store.apply_retention(KEEP, clock.now_ns())
    usage = await store.usage()
    assert (usage.chunks, usage.batches, usage.windows) == (0, 0, 0)
