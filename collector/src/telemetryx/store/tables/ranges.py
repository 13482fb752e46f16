"""Range queries: aggregates by step, from the coarsest level that the step allows.

    level 1h   hours from rollup_1h, except hours that hold something dirty or not compacted: those from level 1m
    level 1m   minutes likewise from rollup_1m, the others from raw
    level raw  samples and windows

So an answer is complete at once, whatever compaction has done so far. Before the raw horizon rollups are all there is; what
came late and waits as shipped is added to them (rollup.py).
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from telemetryx.errors import QueryRefused, StoreDamaged
from telemetryx.store.percentiles import Levels, RollupBlock
from telemetryx.store.tables import reading, rollup, sketches, sketching, slices, spans
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.numbers import Numbers
from telemetryx.store.tables.rollup import HOUR, MINUTE, Many, Parts
from telemetryx.types import (
    F64,
    I64,
    Aggregate,
    DamagedSketch,
    Level,
    RangeResult,
    RangeSeries,
    Stretch,
)

LEVELS: Final[tuple[tuple[Level, int], ...]] = (("1h", HOUR), ("1m", MINUTE))
WINDOW: Final = 16
"""Readings that a window costs as much as."""
MAX_STEPS: Final = 1_000_000
MENDED: Final = 100
"""Rows with a damaged sketch that are computed from a finer level in one query."""
MAX_RAW: Final = 20_000_000
"""Raw samples that lie as shipped from before the raw horizon, which one query may read; and more aren't read where rollups do."""


def query(
    connection: Database,
    numbers: Numbers,
    ids: Sequence[int],
    span: spans.Span,
    step_ns: int,
    agg: Aggregate,
    max_points: int,
    until: float = math.inf,
) -> RangeResult:
    """Answer a range query; before the raw horizon by whole minutes, and the answer's step and span say so."""
    start, end = span
    wanted = sorted({int(one) for one in ids})
    if end < start:
        raise QueryRefused(f"the range ends ({end}) before it starts ({start})")
    if agg == "raw":
        return _raw(connection, numbers, wanted, span, max_points)
    if step_ns <= 0:
        raise QueryRefused(f"a step of {step_ns} ns can't be; give a positive one")
    horizon = rollup.raw_horizon(connection)
    if start < horizon:
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
    if level == "raw":
        found = _raw_parts(connection, numbers, kept, (start, end), step_ns, start, until)
    else:
        asked = Wanted(firsts=False, until=until)
        rolled = parts(connection, numbers, kept, (start, end), level, asked)
        found = rollup.reduce_many(*rolled, step_ns, start)
    grid = start + step_ns * np.arange(steps, dtype=np.int64)
    lines = _lines(kept, found, grid, step_ns, agg)
    read = (Stretch(level, start, end),)
    return RangeResult(
        start, end, step_ns, level, lines, horizon, cut=tuple(wanted[len(kept) :]), stretches=read
    )


def whole(
    connection: Database,
    numbers: Numbers,
    ids: Sequence[int],
    span: spans.Span,
    agg: Aggregate,
    until: float = math.inf,
) -> RangeResult:
    """Answer with one step that is the range, to the nanosecond: hours and minutes from rollups, what is left at its ends raw.

    Before the raw horizon its ends widen to whole minutes, and the answer says so.
    """
    start, end = span
    wanted = sorted({int(one) for one in ids})
    if end <= start:
        raise QueryRefused(f"the range ends ({end}) before it starts ({start})")
    horizon = rollup.raw_horizon(connection)
    if start < horizon:
        start = start // MINUTE * MINUTE
    if end < horizon:
        end = -(-end // MINUTE) * MINUTE
    found: list[Many] = []
    read = tuple(_levels((start, end)))
    for one in read:
        part = (one.start_ns, one.end_ns)
        if one.level == "raw":
            found.append(_raw_parts(connection, numbers, wanted, part, end - start, start, until))
        else:
            asked = Wanted(firsts=False, until=until)
            found.append(parts(connection, numbers, wanted, part, one.level, asked))
    both = rollup.reduce_many(*rollup.ascending(found), end - start, start)
    lines = _lines(wanted, both, np.array([start], np.int64), end - start, agg)
    seen = {one.level for one in read}
    coarsest: Level = next((level for level, _ in LEVELS if level in seen), "raw")
    return RangeResult(start, end, end - start, coarsest, lines, horizon, stretches=read)


def levels_of_percentiles(
    connection: Database, ids: Sequence[int], span: spans.Span, step_ns: int, most: int
) -> Levels:
    """Choose what a percentile by steps (0: all at once) is read from.

    Readings and windows where they are kept: of readings it is exact, up to `most` a step. Rollups before the raw horizon; and everywhere,
    with steps of whole minutes, where there are more (they have the sketch that those would become) or too many to read all. Hours where
    steps are whole hours, the minutes beside them at a range's ends.
    """
    start, end = span
    horizon = rollup.raw_horizon(connection)
    if start < horizon and step_ns:
        step_ns = max(MINUTE, -(-step_ns // MINUTE) * MINUTE)
        start, end = start // step_ns * step_ns, -(-end // step_ns) * step_ns
    elif start < horizon:
        start, end = start // MINUTE * MINUTE, -(-end // MINUTE) * MINUTE if end < horizon else end
    units = [one for one in LEVELS if step_ns % one[1] == 0]
    enough = min(MAX_RAW, most * (-(-(end - start) // step_ns) if step_ns else 1))
    cut = min(max(start, horizon), end)
    rolled = (
        bool(units)
        and cut < end
        and sketches.available()
        and sketching.finished(connection)
        and _readings(connection, ids, (cut, end), enough) > enough
    )
    if rolled:
        stretches = tuple(_levels((start, end), units))
    else:
        stretches = tuple(_levels((start, cut), units)) if start < cut else ()
        if cut < end:
            stretches += (Stretch("raw", cut, end),)
    return Levels(start, end, step_ns, horizon, stretches, for_number=rolled)


def _readings(connection: Database, ids: Sequence[int], span: spans.Span, most: int) -> int:
    """Estimate how many readings a range holds; a window, which is a row of Python objects, counts as some of them."""
    found = reading.about(connection, ids, *span)
    for marks, part in reading.portions(ids):
        if found > most:
            break
        (windows,) = connection.execute(
            f'SELECT count(*) FROM (SELECT 1 FROM "window" WHERE series_id IN ({marks}) AND start_ns >= ? AND start_ns < ? '
            "LIMIT ?) AS few",
            (*part, *span, most // WINDOW + 1),
        ).fetchone()
        found += WINDOW * int(windows)
    return found


def sketched(
    connection: Database,
    numbers: Numbers,
    ids: Sequence[int],
    span: spans.Span,
    level: Level,
    most: int | None,
    until: float = math.inf,
) -> RollupBlock:
    """Return the rollups of a level (not raw) in a span of whole units with their sketches. Raises TooManyReadings above `most` that are stored."""
    asked = Wanted(firsts=False, sketched=True, most=most, until=until)
    series, rows = parts(connection, numbers, sorted({int(one) for one in ids}), span, level, asked)
    packed = (rows.sketches or sketches.none(0)).packed_of(len(rows))
    return RollupBlock(series, rows.times, *rows.figures, *packed, damaged=tuple(asked.damaged))


def _levels(span: spans.Span, units: Sequence[tuple[Level, int]] = LEVELS) -> Iterator[Stretch]:
    """Cut a range into whole hours, the whole minutes beside them and the rest at its ends; ascending by time."""
    return iter(sorted(_by_level(span, units), key=lambda one: one.start_ns))


def _by_level(span: spans.Span, units: Sequence[tuple[Level, int]]) -> Iterator[Stretch]:
    left = [span]
    for level, unit in units:
        beside: list[spans.Span] = []
        for start, end in left:
            inner = (-(-start // unit) * unit, end // unit * unit)
            if inner[0] < inner[1]:
                yield Stretch(level, *inner)
                beside += spans.without((start, end), [inner])
            else:
                beside.append((start, end))
        left = beside
    for rest in left:
        yield Stretch("raw", *rest)


def _raw(
    connection: Database, numbers: Numbers, wanted: Sequence[int], span: spans.Span, max_points: int
) -> RangeResult:
    out: list[RangeSeries] = []
    # Each series has its share: the first one's readings would leave the others empty.
    share = max(1, max_points // max(1, len(wanted)))
    cut: list[int] = []
    readings: dict[int, list[tuple[I64, F64]]] = {series: [] for series in wanted}
    lasts: dict[int, list[tuple[I64, F64]]] = {series: [] for series in wanted}
    for samples, windows in slices.Slices(connection, numbers).first(wanted, span, share + 1):
        for series in samples.series.tolist():
            _keep(readings[series], *samples.of(series), share + 1)
        for series in {*windows.series.tolist()}:
            mine = slice(*np.searchsorted(windows.series, (series, series + 1)))
            _keep(lasts[series], windows.last_time[mine], windows.last[mine], share + 1)
    for series in wanted:
        chosen = readings[series] or lasts[series]
        times = np.concatenate([one for one, _ in chosen]) if chosen else np.empty(0, np.int64)
        values = np.concatenate([one for _, one in chosen]) if chosen else np.empty(0)
        if len(times) > share:
            cut.append(series)
            times, values = times[:share], values[:share]
        out.append(RangeSeries(series, times, values, values, values, np.ones(len(times), np.int64)))
    unshown = [one for one in wanted if readings[one] and (lasts[one] or one in cut)]
    unshown = sorted(reading.windowed(connection, unshown, *span))
    horizon = rollup.raw_horizon(connection)
    read = (Stretch("raw", *span),)
    return RangeResult(*span, 0, "raw", out, horizon, tuple(cut), tuple(unshown), read)


def _keep(kept: list[tuple[I64, F64]], times: I64, values: F64, most: int) -> None:
    """Keep the first ones, copied: a piece of a slice would keep all of it."""
    left = most - sum(len(one) for one, _ in kept)
    if left > 0 and len(times):
        kept.append((times[:left].copy(), values[:left].copy()))


def _lines(ids: Sequence[int], found: Many, grid: I64, step_ns: int, agg: Aggregate) -> list[RangeSeries]:
    """Lay buckets on the grid, a row a series; what has no data stays a gap (count 0, NaN)."""
    shape = (len(ids), len(grid))
    values, mins, maxs = (np.full(shape, np.nan) for _ in range(3))
    counts = np.zeros(shape, np.int64)
    series, rows = found
    if len(rows):
        at = (np.searchsorted(ids, series), (rows.times - grid[0]) // step_ns)
        counts[at], mins[at], maxs[at] = rows.counts, rows.mins, rows.maxs
        with np.errstate(invalid="ignore"):
            chosen = {
                "avg": rows.sums / rows.counts,
                "min": rows.mins,
                "max": rows.maxs,
                "sum": rows.sums,
                "count": rows.counts.astype(np.float64),
                "last": rows.lasts,
            }
        values[at] = chosen[agg]
    lines = zip(ids, values, mins, maxs, counts, strict=True)
    return [RangeSeries(one, grid, *columns) for one, *columns in lines]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of rollups is asked for (`rollup.stored`), and when the query's time is over (slices.py)."""

    firsts: bool = True
    sketched: bool = False
    most: int | None = None
    until: float = math.inf
    damaged: list[DamagedSketch] = field(default_factory=list)
    """Takes the sketches that aren't what was stored."""


def parts(
    connection: Database,
    numbers: Numbers,
    ids: Sequence[int],
    span: spans.Span,
    level: Level,
    wanted: Wanted | None = None,
) -> Many:
    """Return the rows of a level (not raw) in a span of whole units, with finer ones where they don't show everything yet.

    `ids` ascend. Series that are fresh at the same times are read together, whichever agent they are of.
    """
    wanted = wanted or Wanted()
    alike: dict[tuple[spans.Span, ...], list[int]] = {}
    agents = reading.agents_of(connection, ids)
    fresh = unshown(connection, agents, span)
    for agent, members in agents.items():
        alike.setdefault(tuple(spans.aligned(fresh[agent], MINUTE, span)), []).extend(members)
    found: list[Many] = []
    for stretches, some in alike.items():
        members = sorted(some)
        found.append(_late(connection, numbers, members, span, level, sketched=wanted.sketched))
        found.append(_level(connection, numbers, members, span, level, stretches, wanted))
    return rollup.ascending(found)


def _late(
    connection: Database,
    numbers: Numbers,
    ids: Sequence[int],
    span: spans.Span,
    level: Level,
    *,
    sketched: bool,
) -> Many:
    """Return what was shipped from before the raw horizon and isn't compacted yet, as the rows that it will be added to.

    These go before the stored rows: until compaction adds them by time, `last` is the stored row's.
    """
    start, end = max(span[0], rollup.expiry(connection)), min(span[1], rollup.raw_horizon(connection))
    if start >= end:
        return np.empty(0, np.int64), Parts.empty()
    samples = reading.waiting_samples(connection, numbers, ids, start, end, MAX_RAW)
    windows = reading.windows(connection, ids, start, end, sketches=sketched, waiting=True)
    return rollup.reduce_raw(samples, windows, HOUR if level == "1h" else MINUTE, sketched=sketched)


def _level(
    connection: Database,
    numbers: Numbers,
    ids: Sequence[int],
    span: spans.Span,
    level: Level,
    fresh: Sequence[spans.Span],
    wanted: Wanted,
) -> Many:
    """Read rollups, and the next finer level where they don't show everything yet, reduced to what the rollups will show.

    So a larger step adds the same sums in the same order before compaction as after it, and gives the same bits.
    """
    unit = HOUR if level == "1h" else MINUTE
    finer = spans.aligned(fresh, unit, span)
    found = []
    for part in spans.without(span, finer):
        rows = rollup.stored(
            connection,
            f"rollup_{level}",
            ids,
            *part,
            firsts=wanted.firsts,
            sketched=wanted.sketched,
            most=wanted.most,
        )
        found.append(_sound(connection, numbers, rows, level, wanted) if wanted.sketched else rows)
    for part in finer:
        if level == "1m":
            found.append(
                _raw_parts(connection, numbers, ids, part, unit, until=wanted.until, sketched=wanted.sketched)
            )
        else:
            below = _level(connection, numbers, ids, part, "1m", fresh, wanted)
            found.append(rollup.reduce_many(*below, unit))
    return rollup.ascending(found)


def _sound(connection: Database, numbers: Numbers, found: Many, level: Level, wanted: Wanted) -> Many:
    """Put what the next finer level gives in the place of rows whose sketch isn't what was stored; where nothing is kept there they have none."""
    series, rows = found
    if rows.sketches is None or not len(rows):
        return found
    wrong = np.sort(np.concatenate(sketches.faults(rows.sketches.packed_of(len(rows)), rows.figures)))
    if not len(wrong):
        return found
    keep = np.ones(len(rows), np.bool_)
    blobs = rows.sketches.blobs(len(rows))
    others: list[Many] = []
    unit = HOUR if level == "1h" else MINUTE
    for at in wrong.tolist():
        one, time = int(series[at]), int(rows.times[at])
        instead: Level = "1m" if level == "1h" else "raw"
        finer = rollup.ascending([])
        if len(others) < MENDED:
            with contextlib.suppress(StoreDamaged):  # then neither is what was stored
                finer = _finer(connection, numbers, one, (time, time + unit), instead, wanted)
        # A row of fewer readings isn't in the place of this one: some of its minutes are gone.
        if len(finer[0]) and int(finer[1].counts[0]) >= int(rows.counts[at]):
            others.append(finer)
            keep[at] = False
        else:
            blobs[at] = None
        read = None if keep[at] else instead
        wanted.damaged.append(DamagedSketch(one, time, "1h" if level == "1h" else "1m", read))
    rows.sketches = sketches.of_blobs(blobs)
    return rollup.ascending([(series[keep], rows.take(keep)), *others])


def _finer(
    connection: Database, numbers: Numbers, series: int, unit: spans.Span, level: Level, wanted: Wanted
) -> Many:
    """Compute the row of a unit from a level below; nothing where that isn't kept."""
    length = unit[1] - unit[0]
    if level == "1m":
        return rollup.reduce_many(*_level(connection, numbers, [series], unit, "1m", (), wanted), length)
    if unit[0] < rollup.raw_horizon(connection):
        return rollup.ascending([])
    return _raw_parts(connection, numbers, [series], unit, length, until=wanted.until, sketched=True)


def unshown(
    connection: Database, agents: Mapping[int, Sequence[int]], span: spans.Span
) -> dict[int, list[spans.Span]]:
    """Return the spans that the rollups of these agents' series may not show: batches as shipped, and dirty entries."""
    start, end = span
    horizon = rollup.raw_horizon(connection)
    found: dict[int, list[spans.Span]] = {agent: [] for agent in agents}
    for marks, part in reading.portions(list(agents)):
        for agent, t0, t1 in connection.execute(
            f"SELECT agent_id, t0_ns, t1_ns + 1 FROM batch WHERE agent_id IN ({marks}) AND t1_ns >= ? AND t0_ns < ?",
            (*part, start, end),
        ):
            found[agent].append((max(t0, horizon), t1))
    owner = {series: agent for agent, members in agents.items() for series in members}
    for marks, part in reading.portions(list(owner)):
        for series, t0, t1 in connection.execute(
            f"SELECT series_id, t0_ns, t1_ns FROM dirty WHERE series_id IN ({marks}) AND t1_ns > ? AND t0_ns < ?",
            (*part, start, end),
        ):
            found[owner[series]].append((max(t0, horizon), t1))
    return {agent: spans.union(some) for agent, some in found.items()}


def _raw_parts(
    connection: Database,
    numbers: Numbers,
    ids: Sequence[int],
    span: spans.Span,
    step_ns: int,
    start_ns: int = 0,
    until: float = math.inf,
    *,
    sketched: bool = False,
) -> Many:
    sliced = slices.Slices(connection, numbers, until, sketched=sketched)
    found = [
        rollup.reduce_raw(samples, windows, step_ns, start_ns, sketched=sketched)
        for samples, windows in sliced.read(ids, span, step_ns, start_ns)
    ]
    if len(found) < 2:  # noqa: PLR2004  nothing was cut
        return rollup.ascending(found)
    # A step that was cut is put together from its parts; the others are as they are.
    return rollup.reduce_many(*rollup.ascending(found), step_ns, start_ns)
