"""Range queries: aggregates by step, from the coarsest level that the step allows.

    level 1h   hours from rollup_1h, except hours that hold something dirty or not compacted: those from level 1m
    level 1m   minutes likewise from rollup_1m, the others from raw
    level raw  samples and windows

So an answer is complete at once, whatever compaction has done so far. Before the raw horizon rollups are all there is; what
came late and waits as shipped is added to them (rollup.py).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from telemetryx.errors import QueryRefused
from telemetryx.store.tables import reading, rollup, spans
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.numbers import Numbers
from telemetryx.store.tables.rollup import HOUR, MINUTE, Parts
from telemetryx.types import Aggregate, Level, RangeResult, RangeSeries

MAX_STEPS: Final = 1_000_000
MAX_RAW: Final = 20_000_000
"""Raw samples that one aggregated query may read."""


def query(
    connection: Database,
    numbers: Numbers,
    ids: Sequence[int],
    span: spans.Span,
    step_ns: int,
    agg: Aggregate,
    max_points: int,
) -> RangeResult:
    """Answer a range query."""
    start, end = span
    wanted = sorted({int(one) for one in ids})
    if end < start:
        raise QueryRefused(f"the range ends ({end}) before it starts ({start})")
    if agg == "raw":
        return _raw(connection, numbers, wanted, span, max_points)
    if step_ns <= 0:
        raise QueryRefused(f"a step of {step_ns} ns can't be; give a positive one")
    if start < rollup.raw_horizon(connection):
        step_ns = max(MINUTE, -(-step_ns // MINUTE) * MINUTE)
    level: Level = "1h" if step_ns % HOUR == 0 else "1m" if step_ns % MINUTE == 0 else "raw"
    if level != "raw":
        start = start // step_ns * step_ns
        end = -(-end // step_ns) * step_ns
    steps = -(-(end - start) // step_ns)
    if steps > MAX_STEPS:
        raise QueryRefused(
            f"{steps} steps are too many; at most {MAX_STEPS}: choose a larger step or a shorter range"
        )
    kept = wanted[: max(1, max_points // max(steps, 1))]
    parts = _parts(connection, numbers, kept, (start, end), level)
    grid = start + step_ns * np.arange(steps, dtype=np.int64)
    return RangeResult(
        start,
        end,
        step_ns,
        level,
        [
            _series(series, rollup.reduce(parts[series], start, step_ns), grid, step_ns, agg)
            for series in kept
        ],
        truncated=len(kept) < len(wanted),
    )


def _raw(
    connection: Database, numbers: Numbers, wanted: Sequence[int], span: spans.Span, max_points: int
) -> RangeResult:
    out: list[RangeSeries] = []
    left = max_points
    truncated = False
    block = reading.samples(connection, numbers, wanted, *span, MAX_RAW)
    windows = reading.windows(connection, wanted, *span, sketches=False)
    for series in wanted:
        times, values = block.of(series)
        first, last = np.searchsorted(windows.series, (series, series + 1))
        if not len(times) and last > first:
            times, values = windows.last_time[first:last], windows.last[first:last]
        truncated = truncated or len(times) > left
        times, values = times[:left], values[:left]
        left -= len(times)
        out.append(RangeSeries(series, times, values, values, values, np.ones(len(times), np.int64)))
    return RangeResult(*span, 0, "raw", out, truncated)


def _series(
    series: int, parts: Parts, grid: np.ndarray[tuple[int], np.dtype[np.int64]], step_ns: int, agg: Aggregate
) -> RangeSeries:
    """Lay buckets on the grid; what has no data stays a gap (count 0, NaN)."""
    values, mins, maxs = (np.full(len(grid), np.nan) for _ in range(3))
    counts = np.zeros(len(grid), np.int64)
    if len(parts):
        at = (parts.times - grid[0]) // step_ns
        counts[at], mins[at], maxs[at] = parts.counts, parts.mins, parts.maxs
        with np.errstate(invalid="ignore"):
            chosen = {
                "avg": parts.sums / parts.counts,
                "min": parts.mins,
                "max": parts.maxs,
                "sum": parts.sums,
                "count": parts.counts.astype(np.float64),
                "last": parts.lasts,
            }
        values[at] = chosen[agg]
    return RangeSeries(series, grid, values, mins, maxs, counts)


def _parts(
    connection: Database, numbers: Numbers, ids: Sequence[int], span: spans.Span, level: Level
) -> dict[int, Parts]:
    if level == "raw":
        return _raw_parts(connection, numbers, ids, [span])
    out: dict[int, Parts] = {}
    for agent, members in reading.agents_of(connection, ids).items():
        fresh = _fresh(connection, agent, members, span)
        found = _level(connection, numbers, members, span, level, fresh)
        late = _late(connection, numbers, (agent, members), span, level)
        out.update({series: rollup.join([late[series], found[series]]) for series in members})
    return {series: out.get(series, Parts.empty()) for series in ids}


def _late(
    connection: Database,
    numbers: Numbers,
    of: tuple[int, list[int]],
    span: spans.Span,
    level: Level,
) -> dict[int, Parts]:
    """Return what was shipped from before the raw horizon and isn't compacted yet, as the rows that it will be added to.

    These go before the stored rows: until compaction adds them by time, `last` is the stored row's.
    """
    agent, ids = of
    start, end = max(span[0], rollup.expiry(connection)), min(span[1], rollup.raw_horizon(connection))
    if start >= end:
        return {series: Parts.empty() for series in ids}
    samples = reading.waiting_samples(connection, numbers, agent, ids, start, end, MAX_RAW)
    windows = reading.windows(connection, ids, start, end, sketches=False, waiting=True)
    unit = HOUR if level == "1h" else MINUTE
    return {series: rollup.reduce(rollup.raw_parts(samples, windows, series), 0, unit) for series in ids}


def _level(
    connection: Database,
    numbers: Numbers,
    ids: Sequence[int],
    span: spans.Span,
    level: Level,
    fresh: list[spans.Span],
) -> dict[int, Parts]:
    """Read rollups, and the next finer level where they don't show everything yet."""
    unit = HOUR if level == "1h" else MINUTE
    finer = spans.aligned(fresh, unit, span)
    if level == "1m":
        below = _raw_parts(connection, numbers, ids, finer)
    else:
        inner = [_level(connection, numbers, ids, part, "1m", fresh) for part in finer]
        below = {series: rollup.join([part[series] for part in inner]) for series in ids}
    whole = spans.without(span, finer)
    out: dict[int, Parts] = {}
    for series in ids:
        rows = [rollup.stored(connection, f"rollup_{level}", series, *part) for part in whole]
        out[series] = rollup.join([*rows, below[series]])
    return out


def _fresh(connection: Database, agent: int, ids: Sequence[int], span: spans.Span) -> list[spans.Span]:
    """Return the spans that the rollups of these series may not show: batches as shipped, and dirty entries."""
    start, end = span
    horizon = rollup.raw_horizon(connection)
    found = connection.execute(
        "SELECT t0_ns, t1_ns + 1 FROM batch WHERE agent_id = ? AND t1_ns >= ? AND t0_ns < ?",
        (agent, start, end),
    ).fetchall()
    for marks, part in reading.portions(ids):
        found += connection.execute(
            f"SELECT t0_ns, t1_ns FROM dirty WHERE series_id IN ({marks}) AND t1_ns > ? AND t0_ns < ?",
            (*part, start, end),
        ).fetchall()
    return spans.union((max(t0, horizon), t1) for t0, t1 in found)


def _raw_parts(
    connection: Database, numbers: Numbers, ids: Sequence[int], parts: Sequence[spans.Span]
) -> dict[int, Parts]:
    found: dict[int, list[Parts]] = {series: [] for series in ids}
    for start, end in parts:
        samples = reading.samples(connection, numbers, ids, start, end, MAX_RAW)
        windows = reading.windows(connection, ids, start, end, sketches=False)
        for series in ids:
            found[series].append(rollup.raw_parts(samples, windows, series))
    return {series: rollup.join(some) for series, some in found.items()}
