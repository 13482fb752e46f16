"""Aggregates: reducing samples, windows and rollups to buckets, and keeping rollup_1m and rollup_1h true.

From the raw horizon on, a rollup row is always computed from *everything* the store has of its minute, in the one order
(time, batch key, index), never added to: so it doesn't depend on when data came. Compaction writes into `dirty` what
changed; `refresh` recomputes that and forgets it. Readers (ranges.py) take raw data wherever something is dirty or not
compacted yet. NaN counts as no value.

Before the raw horizon raw data is deleted, and nothing can be recomputed. What arrives so late is added to the rows instead
(`merge`), in the transaction that takes its batch away: once, whatever happens. Its sums may differ in the last bits from
what the same data gives in time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from telemetryx.store.tables import reading, spans
from telemetryx.store.tables.database import Database, greater, lesser
from telemetryx.store.tables.numbers import Numbers
from telemetryx.types import F64, I64, SampleBlock, WindowBlock

MINUTE: Final = 60_000_000_000
HOUR: Final = 60 * MINUTE
_SPLIT_MINUTES: Final = 60
"""Dirty minutes farther apart than this become two entries."""
_READ: Final = 1_000_000
"""Samples that are held at once, about."""
_NO_LIMIT: Final = 1 << 62
_PLACE: Final = 1_000_000
"""What the tables' first_ms and last_ms count."""
_MERGE: Final = (
    "INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (series_id, t0_ns) DO UPDATE SET "
    "count = {table}.count + excluded.count, sum = {table}.sum + excluded.sum, "
    f"min = {lesser('{table}.min', 'excluded.min')}, max = {greater('{table}.max', 'excluded.max')}, "
    "first = CASE WHEN excluded.first_ms < {table}.first_ms THEN excluded.first ELSE {table}.first END, "
    "last = CASE WHEN excluded.last_ms > {table}.last_ms THEN excluded.last ELSE {table}.last END, "
    f"first_ms = {lesser('{table}.first_ms', 'excluded.first_ms')}, "
    f"last_ms = {greater('{table}.last_ms', 'excluded.last_ms')}"
)


_PUT: Final = (
    "INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (series_id, t0_ns) DO UPDATE SET "
    "count = excluded.count, sum = excluded.sum, min = excluded.min, max = excluded.max, first = excluded.first, "
    "last = excluded.last, first_ms = excluded.first_ms, last_ms = excluded.last_ms"
)


@dataclass(slots=True)
class Parts:
    """Aggregates of one series, ascending by time: a sample is one with count 1."""

    times: I64
    counts: I64
    sums: F64
    mins: F64
    maxs: F64
    firsts: F64
    lasts: F64
    first_at: I64
    """When `firsts` were measured."""
    last_at: I64

    @classmethod
    def empty(cls) -> "Parts":
        """Make none."""
        ints, floats = np.empty(0, np.int64), np.empty(0, np.float64)
        return cls(ints, ints, floats, floats, floats, floats, floats, ints, ints)

    def __len__(self) -> int:
        """Count the parts."""
        return len(self.times)

    def columns(self) -> tuple[Any, ...]:
        """Return the columns, in the order of the fields."""
        return (
            self.times,
            self.counts,
            self.sums,
            self.mins,
            self.maxs,
            self.firsts,
            self.lasts,
            self.first_at,
            self.last_at,
        )

    def rows(self, series: int) -> Iterator[tuple[Any, ...]]:
        """Yield rows of a rollup table: the places of first and last are in milliseconds from the bucket's start."""
        columns = [
            *self.columns()[:-2],
            (self.first_at - self.times) // _PLACE,
            (self.last_at - self.times) // _PLACE,
        ]
        return zip([series] * len(self), *(column.tolist() for column in columns), strict=True)

    def take(self, rows: Any) -> "Parts":  # noqa: ANN401 - a mask, a slice or indices
        """Pick rows."""
        return Parts(*(column[rows] for column in self.columns()))


def join(parts: Sequence[Parts]) -> Parts:
    """Put parts together, ascending by time; those of equal time keep the order of the sources."""
    some = [part for part in parts if len(part)]
    if not some:
        return Parts.empty()
    if len(some) == 1:
        return some[0]
    joined = Parts(
        *(np.concatenate(columns) for columns in zip(*(part.columns() for part in some), strict=True))
    )
    if bool((joined.times[1:] < joined.times[:-1]).any()):
        joined = joined.take(np.argsort(joined.times, kind="stable"))
    return joined


def of_samples(times: I64, values: F64) -> Parts:
    """Take samples as parts; NaN is left out."""
    real = ~np.isnan(values)
    if not real.all():
        times, values = times[real], values[real]
    return Parts(times, np.ones(len(times), np.int64), values, values, values, values, values, times, times)


def of_windows(block: WindowBlock, rows: slice) -> Parts:
    """Take windows as parts, each at its start."""
    return Parts(
        block.start[rows],
        block.count[rows].astype(np.int64),
        block.sum[rows],
        block.min[rows],
        block.max[rows],
        block.first[rows],
        block.last[rows],
        block.start[rows],
        block.start[rows],
    )


def reduce(parts: Parts, start_ns: int, step_ns: int) -> Parts:
    """Reduce ascending parts to one a bucket [start + i*step, ...); times become the buckets' starts."""
    if not len(parts):
        return parts
    buckets = (parts.times - start_ns) // step_ns
    edges = np.concatenate((np.zeros(1, np.int64), np.flatnonzero(buckets[1:] != buckets[:-1]) + 1))
    ends = np.append(edges[1:], len(buckets)) - 1
    with np.errstate(over="ignore", invalid="ignore"):
        return Parts(
            start_ns + buckets[edges] * step_ns,
            np.add.reduceat(parts.counts, edges),
            np.add.reduceat(parts.sums, edges),
            np.minimum.reduceat(parts.mins, edges),
            np.maximum.reduceat(parts.maxs, edges),
            parts.firsts[edges],
            parts.lasts[ends],
            parts.first_at[edges],
            parts.last_at[ends],
        )


def raw_parts(samples: SampleBlock, windows: WindowBlock, series: int) -> Parts:
    """Return one series' samples and windows as ascending parts."""
    first, last = np.searchsorted(windows.series, (series, series + 1))
    return join([of_samples(*samples.of(series)), of_windows(windows, slice(int(first), int(last)))])


def stored(connection: Database, table: str, series: int, start_ns: int, end_ns: int) -> Parts:
    """Return rollup rows of a series."""
    rows = connection.execute(
        "SELECT t0_ns, count, sum, min, max, first, last, first_ms, last_ms "
        f"FROM {table} WHERE series_id = ? AND t0_ns >= ? AND t0_ns < ? ORDER BY t0_ns",
        (series, start_ns, end_ns),
    ).fetchall()
    if not rows:
        return Parts.empty()
    columns = list(zip(*rows, strict=True))
    times = np.array(columns[0], np.int64)
    sums, mins, maxs, firsts, lasts = (np.array(column, np.float64) for column in columns[2:7])
    first_at, last_at = (times + _PLACE * np.array(column, np.int64) for column in columns[7:])
    counts = np.array(columns[1], np.int64)
    return Parts(times, counts, sums, mins, maxs, firsts, lasts, first_at, last_at)


def dirty_spans(times: I64) -> list[tuple[int, int]]:
    """Return the stretches of minutes that these times lie in, as [t0, t1) aligned to minutes."""
    minutes = np.unique(times // MINUTE)
    breaks = np.flatnonzero(np.diff(minutes) > _SPLIT_MINUTES)
    starts = minutes[np.concatenate((np.zeros(1, np.int64), breaks + 1))]
    ends = minutes[np.append(breaks, len(minutes) - 1)]
    return [
        (start * MINUTE, (end + 1) * MINUTE)
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


@dataclass(slots=True)
class Refresh:
    """Recomputed rollup rows, ready to be written, and the entries of `dirty` that they settle."""

    ids: list[int]
    minutes: list[tuple[Any, ...]]
    hours: list[tuple[Any, ...]]


def plan(connection: Database, numbers: Numbers, rows: int) -> Refresh:
    """Recompute what the newest entries of `dirty` name, up to about so many rollup rows."""
    work = Refresh([], [], [])
    horizon = raw_horizon(connection)
    cache = reading.Cache()
    entries = connection.execute(
        "SELECT id, series_id, t0_ns, t1_ns FROM dirty ORDER BY id DESC LIMIT 1024"
    ).fetchall()
    by_series: dict[int, list[tuple[int, spans.Span]]] = {}
    for entry, series, t0, t1 in entries:
        by_series.setdefault(series, []).append((entry, (max(t0, horizon), t1)))
    for series, some in by_series.items():
        if len(work.minutes) >= rows:
            break
        _recompute(connection, numbers, series, spans.union(span for _, span in some), work, cache)
        work.ids += [entry for entry, _ in some]
    return work


def raw_horizon(connection: Database) -> int:
    """Return the time, a whole minute, before which raw data was deleted: rollups before it are all there is."""
    return _meta(connection, "raw_horizon_ns", MINUTE)


def expiry(connection: Database) -> int:
    """Return the time, a whole hour, before which nothing is kept, neither raw nor as a rollup."""
    return _meta(connection, "expiry_ns", HOUR)


def _meta(connection: Database, key: str, unit: int) -> int:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return -(1 << 62) if row is None else -(-int(row[0]) // unit) * unit


@dataclass(slots=True)
class Late:
    """Aggregates of what came after its raw data would have been deleted, to be added to the rollups."""

    minutes: list[tuple[Any, ...]] = field(default_factory=list)
    hours: list[tuple[Any, ...]] = field(default_factory=list)

    def add(self, series: int, parts: Parts) -> None:
        """Take a series' samples and windows, ascending."""
        self.minutes.extend(reduce(parts, 0, MINUTE).rows(series))
        self.hours.extend(reduce(parts, 0, HOUR).rows(series))


def merge(connection: Database, late: Late) -> None:
    """Add late aggregates to the rows. Only in the transaction that takes their batches away: a second time would double them."""
    connection.executemany(_MERGE.format(table="rollup_1m"), late.minutes)
    connection.executemany(_MERGE.format(table="rollup_1h"), late.hours)


def _recompute(
    connection: Database,
    numbers: Numbers,
    series: int,
    stretches: Sequence[spans.Span],
    work: Refresh,
    cache: reading.Cache,
) -> None:
    """Recompute a series' minutes in these stretches, and the hours that they lie in.

    All stretches of a series at once: an hour that two of them touch must see the new minutes of both.
    """
    fresh = join([_minutes(connection, numbers, series, *stretch, cache) for stretch in stretches])
    hours: list[Parts] = []
    for first, last in spans.union(
        (start // HOUR * HOUR, -(-end // HOUR) * HOUR) for start, end in stretches
    ):
        kept = stored(connection, "rollup_1m", series, first, last)
        for start, end in stretches:
            kept = kept.take((kept.times < start) | (kept.times >= end))
        inside = fresh.take((fresh.times >= first) & (fresh.times < last))
        hours.append(reduce(join([kept, inside]), 0, HOUR))
    work.minutes.extend(fresh.rows(series))
    work.hours.extend(join(hours).rows(series))


def _minutes(
    connection: Database, numbers: Numbers, series: int, start: int, end: int, cache: reading.Cache
) -> Parts:
    """Reduce raw data to minutes; a stretch with very many samples is halved, so that memory stays bounded."""
    (count,) = connection.execute(
        "SELECT CAST(coalesce(sum(count), 0) AS BIGINT) FROM chunk WHERE series_id = ? AND t1_ns >= ? AND t0_ns < ?",
        (series, start, end),
    ).fetchone()
    if count > _READ and end - start > MINUTE:
        middle = start + (end - start) // MINUTE // 2 * MINUTE
        return join(
            [_minutes(connection, numbers, series, *half, cache) for half in ((start, middle), (middle, end))]
        )
    samples = reading.samples(connection, numbers, [series], start, end, _NO_LIMIT, cache)
    windows = reading.windows(connection, [series], start, end, sketches=False)
    return reduce(raw_parts(samples, windows, series), 0, MINUTE)


def apply(connection: Database, work: Refresh) -> None:
    """Write recomputed rows."""
    for table, rows in (("rollup_1m", work.minutes), ("rollup_1h", work.hours)):
        connection.executemany(
            _PUT.format(table=table),
            rows,
        )
    connection.executemany("DELETE FROM dirty WHERE id = ?", [(entry,) for entry in work.ids])
