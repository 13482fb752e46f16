"""Aggregates: reducing samples, windows and rollups to buckets, and keeping rollup_1m and rollup_1h true.

From the raw horizon on, a rollup row is always computed from *everything* that is compacted of its minute, in the one order
(time, batch key, index), never added to: so it doesn't depend on when data came. What still lies in a batch isn't in a row: the
raw horizon may pass it, and then its compaction adds it. Compaction writes into `dirty` what
changed; refresh.py recomputes that and forgets it. Readers (ranges.py) take raw data wherever something is dirty or not
compacted yet.

NaN is a value, as it is to Prometheus: it counts, makes a sum NaN, is first or last where it lies so, and is a minimum or maximum
only where there is nothing else. Only the mark with which a Prometheus ends a series is none.

Before the raw horizon raw data is deleted, and nothing can be recomputed. What arrives so late is added to the rows instead
(`merge`), in the transaction that takes its batch away: once, whatever happens. Its sums may differ in the last bits from
what the same data gives in time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from telemetryx.errors import TooManyReadings
from telemetryx.sets import among
from telemetryx.store.tables import reals, sketches
from telemetryx.store.tables.database import Database, greater, lesser
from telemetryx.store.tables.sketches import Figures, Sketches
from telemetryx.types import F64, I64, SampleBlock, WindowBlock

MINUTE: Final = 60_000_000_000
HOUR: Final = 60 * MINUTE
_SPLIT_MINUTES: Final = 60
"""Dirty minutes farther apart than this become two entries."""
TOGETHER: Final = 250
"""Series that are read with one query."""
_ROWS: Final = 4_000
"""Rollup rows that are read with one query, about."""
_ALL: Final = slice(None)
NEVER: Final = -(1 << 62)
"""A horizon before which nothing was deleted."""
_PLACE: Final = 1_000_000
"""What the tables' first_ms and last_ms count."""
_FIGURES: Final = ("series_id", "t0_ns", "count", "sum", "min", "max", "first", "last", "first_ms", "last_ms")
COLUMNS: Final = (*_FIGURES, "sketch")
"""Of both tables, in the order of `Parts.rows`."""
_WITHOUT_FIRSTS: Final = ("series_id", "t0_ns", "count", "sum", "min", "max", "last")


def _chosen(one: str, other: str, is_better: str) -> str:
    """Return the lesser or greater of two columns: of a NaN (SQLite's NULL) and a number, the number; -0.0 is less than 0.0."""
    nan = "{0} IS NULL OR {0} = 'NaN'"
    a, b = reals.number(one), reals.number(other)
    tied = reals.is_below(one if is_better == "<" else other)
    return (
        f"CASE WHEN {nan.format(one)} THEN {other} WHEN {nan.format(other)} OR {a} {is_better} {b} OR {a} = {b} AND {tied} "
        f"THEN {one} ELSE {other} END"
    )


def _added(one: str, other: str) -> str:
    """Return the sum of two columns; that of two -0.0 is one."""
    both = f"{reals.is_below(one)} AND {reals.is_below(other)}"
    return f"CASE WHEN {both} THEN {one} ELSE {one} + {other} END"


_MERGE: Final = (
    "(series_id, t0_ns) DO UPDATE SET "
    "count = {table}.count + excluded.count, "
    f"sum = {_added('{table}.sum', 'excluded.sum')}, "
    f"min = {_chosen('{table}.min', 'excluded.min', '<')}, max = {_chosen('{table}.max', 'excluded.max', '>')}, "
    "first = CASE WHEN excluded.first_ms < {table}.first_ms THEN excluded.first ELSE {table}.first END, "
    "last = CASE WHEN excluded.last_ms > {table}.last_ms THEN excluded.last ELSE {table}.last END, "
    f"first_ms = {lesser('{table}.first_ms', 'excluded.first_ms')}, "
    f"last_ms = {greater('{table}.last_ms', 'excluded.last_ms')}, "
    "sketch = excluded.sketch"
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
    sketches: Sketches | None = None
    """None: nobody asked for them."""

    @classmethod
    def empty(cls) -> "Parts":
        """Make none."""
        ints, floats = np.empty(0, np.int64), np.empty(0, np.float64)
        return cls(ints, ints, floats, floats, floats, floats, floats, ints, ints)

    def __len__(self) -> int:
        """Count the parts."""
        return len(self.times)

    def columns(self) -> tuple[Any, ...]:
        """Return the columns but for sketches, in the order of the fields."""
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

    def rows(self, series: int, kept: reals.Reals) -> Iterator[tuple[Any, ...]]:
        """Yield rows of a rollup table."""
        return self.rows_of(np.full(len(self), series, np.int64), kept)

    def rows_of(self, series: I64, kept: reals.Reals) -> Iterator[tuple[Any, ...]]:
        """Yield rows, each with its series: the places of first and last are in milliseconds from the bucket's start."""
        values = (self.sums, self.mins, self.maxs, self.firsts, self.lasts)
        places = [(at - self.times) // _PLACE for at in (self.first_at, self.last_at)]
        return zip(
            *(column.tolist() for column in (series, self.times, self.counts)),
            *(kept(column) for column in values),
            *(column.tolist() for column in places),
            [None] * len(self) if self.sketches is None else self.sketches.blobs(len(self)),
            strict=True,
        )

    @classmethod
    def of_columns(cls, columns: Sequence[Sequence[Any]]) -> "Parts":
        """Take the columns of a rollup table's rows, from t0_ns on; without sketches where they weren't read."""
        times = np.array(columns[0], np.int64)
        sums, mins, maxs, firsts, lasts = (reals.read(column) for column in columns[2:7])
        first_at, last_at = (times + _PLACE * np.array(column, np.int64) for column in columns[7:9])
        kept = sketches.of_blobs(columns[9]) if len(columns) > 9 else None  # noqa: PLR2004
        counts = np.array(columns[1], np.int64)
        return cls(times, counts, sums, mins, maxs, firsts, lasts, first_at, last_at, kept)

    def take(self, rows: Any) -> "Parts":  # noqa: ANN401 - a mask, a slice or indices
        """Pick rows."""
        kept = None if self.sketches is None else self.sketches.take(rows)
        found = Parts(*(column[rows] for column in self.columns()))
        found.sketches = kept
        return found

    @property
    def figures(self) -> Figures:
        """What tells a sketch that takes no bytes."""
        return self.counts, self.sums, self.mins, self.maxs

    @staticmethod
    def put_together(parts: Sequence["Parts"]) -> "Parts":
        """Put parts one behind the other; with sketches where all have them."""
        columns: Any = [
            np.concatenate(some) for some in zip(*(part.columns() for part in parts), strict=True)
        ]
        there = [part for part in parts if len(part)]
        kept = [(part.sketches, len(part)) for part in there if part.sketches is not None]
        found = Parts(*columns)
        if kept and len(kept) == len(there):
            found.sketches = sketches.joined(kept)
        return found


Many = tuple[I64, Parts]
"""Aggregates of many series, ascending by series and time: the series of each, and they themselves."""


def join(parts: Sequence[Parts]) -> Parts:
    """Put parts together, ascending by time; those of equal time keep the order of the sources."""
    some = [part for part in parts if len(part)]
    if not some:
        return Parts.empty()
    if len(some) == 1:
        return some[0]
    joined = Parts.put_together(some)
    if bool((joined.times[1:] < joined.times[:-1]).any()):
        joined = joined.take(np.argsort(joined.times, kind="stable"))
    return joined


_ENDED: Final = 0x7FF0000000000002
"""The bits of the NaN with which a Prometheus says that a series ended: no reading."""


def _kept(values: F64) -> Any:  # noqa: ANN401 - a mask or a slice
    """Return which samples are readings."""
    if not np.isnan(values).any():
        return slice(None)
    return np.ascontiguousarray(values).view(np.uint64) != _ENDED


def of_samples(times: I64, values: F64, *, sketched: bool = False) -> Parts:
    """Take samples as parts."""
    kept = _kept(values)
    times, values = times[kept], values[kept]
    ones = np.ones(len(times), np.int64)
    singles = sketches.SINGLES if sketched else None
    return Parts(times, ones, values, values, values, values, values, times, times, singles)


def of_windows(block: WindowBlock, rows: slice = _ALL, *, sketched: bool = False) -> Parts:
    """Take windows as parts, each at its start. With sketches all of a block's at once, for they are packed together."""
    found = Parts(
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
    if sketched:
        found.sketches = sketches.of_windows(block.sketch, found.figures)
    return found


def reduce(parts: Parts, start_ns: int, step_ns: int) -> Parts:
    """Reduce ascending parts to one a bucket [start + i*step, ...); times become the buckets' starts."""
    if not len(parts):
        return parts
    buckets = (parts.times - start_ns) // step_ns
    edges = np.concatenate((np.zeros(1, np.int64), np.flatnonzero(buckets[1:] != buckets[:-1]) + 1))
    return _reduced(parts, edges, start_ns + buckets[edges] * step_ns)


def reduce_many(series: I64, parts: Parts, step_ns: int, start_ns: int = 0) -> Many:
    """Reduce parts that ascend by series and time to one a series and bucket [start + i*step, ...)."""
    if not len(parts):
        return series, parts
    buckets = (parts.times - start_ns) // step_ns
    changes = (buckets[1:] != buckets[:-1]) | (series[1:] != series[:-1])
    edges = np.concatenate((np.zeros(1, np.int64), np.flatnonzero(changes) + 1))
    return series[edges], _reduced(parts, edges, start_ns + buckets[edges] * step_ns)


def _reduced(parts: Parts, edges: I64, times: I64) -> Parts:
    """Reduce the stretches that begin at these edges to one part each."""
    ends = np.append(edges[1:], len(parts)) - 1
    with np.errstate(over="ignore", invalid="ignore"):
        mins, maxs = np.fmin.reduceat(parts.mins, edges), np.fmax.reduceat(parts.maxs, edges)
        _signed(mins, parts.mins, edges, least=True)
        _signed(maxs, parts.maxs, edges, least=False)
        found = Parts(
            times,
            np.add.reduceat(parts.counts, edges),
            np.add.reduceat(parts.sums, edges),
            mins,
            maxs,
            parts.firsts[edges],
            parts.lasts[ends],
            parts.first_at[edges],
            parts.last_at[ends],
        )
    if parts.sketches is not None:
        found.sketches = sketches.reduced(parts.sketches, parts.figures, edges, found.figures)
    return found


def _signed(found: F64, column: F64, edges: I64, *, least: bool) -> None:
    """Give extremes that are zero their sign: -0.0 is less than 0.0. NumPy takes either, depending on where they stand."""
    below = reals.below(column)
    if not below.any():
        return
    seen = below if least else (column == 0) & ~below
    found[(found == 0) & np.logical_or.reduceat(seen, edges)] = -0.0 if least else 0.0


def reduce_raw(
    samples: SampleBlock, windows: WindowBlock, step_ns: int, start_ns: int = 0, *, sketched: bool = False
) -> Many:
    """Reduce all series' samples and windows to one part a series and bucket [start + i*step, ...).

    Only series that have windows are put in order anew: for the others samples are columns as they are, without a copy.
    """
    series, parts = of_block(samples, sketched=sketched)
    found: list[Many] = []
    if len(windows):
        mixed = among(series, windows.series)
        own = (windows.series, of_windows(windows, sketched=sketched))
        both = ascending([(series[mixed], parts.take(mixed)), own])
        found.append(reduce_many(*both, step_ns, start_ns))
        series, parts = series[~mixed], parts.take(~mixed)
    found.append(reduce_many(series, parts, step_ns, start_ns))
    return ascending(found)


def of_block(samples: SampleBlock, *, sketched: bool = False) -> Many:
    """Take the samples of all series as parts."""
    series = np.repeat(samples.series, np.diff(samples.offsets))
    return many(series, samples.times, samples.values, sketched=sketched)


def many(series: I64, times: I64, values: F64, *, sketched: bool = False) -> Many:
    """Take samples of many series as parts, each with its series."""
    return series[_kept(values)], of_samples(times, values, sketched=sketched)


def ascending(found: Sequence[Many]) -> Many:
    """Put parts together, ascending by series and time; those of equal time keep the order of the sources."""
    some = [one for one in found if len(one[0])]
    if not some:
        return np.empty(0, np.int64), Parts.empty()
    if len(some) == 1:
        return some[0]
    series = np.concatenate([one[0] for one in some])
    parts = Parts.put_together([one[1] for one in some])
    before, after = series[:-1], series[1:]
    if ((before < after) | ((before == after) & (parts.times[:-1] <= parts.times[1:]))).all():
        return series, parts
    order = np.lexsort((parts.times, series))
    return series[order], parts.take(order)


def stored(
    connection: Database,
    table: str,
    ids: Sequence[int],
    start_ns: int,
    end_ns: int,
    *,
    firsts: bool = True,
    sketched: bool = False,
    most: int | None = None,
) -> Many:
    """Return rollup rows of these series, ascending by series and time; with sketches where they are asked for.

    Raises TooManyReadings when they are more than `most`.

    Without `firsts` the first value and where first and last lie aren't read (they come as the last value and the bucket's start): what a row costs
    is its columns' becoming Python objects.
    """
    columns = (*(_FIGURES if firsts else _WITHOUT_FIRSTS), *(("sketch",) if sketched else ()))
    found: list[Many] = []
    seen, limit = 0, "" if most is None else f" LIMIT {most + 1}"
    unit = HOUR if table == "rollup_1h" else MINUTE
    together = min(TOGETHER, max(1, _ROWS * unit // max(unit, end_ns - start_ns)))
    for start in range(0, len(ids), together):
        among, part = connection.among("series_id", ids[start : start + together])
        rows = connection.execute(
            f"SELECT {', '.join(columns)} FROM {table} WHERE {among} AND t0_ns >= ? AND t0_ns < ? "
            f"ORDER BY series_id, t0_ns{limit}",
            (*part, start_ns, end_ns),
        ).fetchall()
        seen += len(rows)
        if most is not None and seen > most:
            raise TooManyReadings(f"more than {most:,} rollups: ask for fewer series or a shorter time")
        if rows:
            # Columns at once: a tuple a row is ten times their bytes, and no longer in the processor's cache.
            series, *rest = zip(*rows, strict=True)
            if not firsts:
                nothing = (0,) * len(rows)
                rest[6:6] = [rest[5], nothing, nothing]
            found.append((np.array(series, np.int64), Parts.of_columns(rest)))
    return ascending(found)


def dirty_spans(times: I64) -> list[tuple[int, int]]:
    """Return the stretches of minutes that these times, ascending, lie in, as [t0, t1) aligned to minutes."""
    fits = int(times[-1]) - int(times[0]) <= np.iinfo(np.int64).max  # else a difference may leave 64 bits
    if fits and int(np.diff(times).max(initial=0)) <= _SPLIT_MINUTES * MINUTE:
        return [(int(times[0]) // MINUTE * MINUTE, (int(times[-1]) // MINUTE + 1) * MINUTE)]
    minutes = times // MINUTE
    minutes = minutes[np.append(True, minutes[1:] != minutes[:-1])]
    breaks = np.flatnonzero(np.diff(minutes) > _SPLIT_MINUTES)
    starts = minutes[np.concatenate((np.zeros(1, np.int64), breaks + 1))]
    ends = minutes[np.append(breaks, len(minutes) - 1)]
    return [
        (start * MINUTE, (end + 1) * MINUTE)
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def raw_horizon(connection: Database) -> int:
    """Return the time, a whole minute, before which raw data was deleted: rollups before it are all there is."""
    return _meta(connection, "raw_horizon_ns", MINUTE)


def samples_from(connection: Database) -> int:
    """Return the time from which on raw samples are kept: at most the raw horizon, for rollups show what is past.

    Chunks across it go when their newest sample is past too; what they hold from before it is shown no more.
    """
    return max(_meta(connection, "samples_from_ns", MINUTE), expiry(connection))


def expiry(connection: Database) -> int:
    """Return the time, a whole hour, before which nothing is kept, neither raw nor as a rollup."""
    return _meta(connection, "expiry_ns", HOUR)


def minutes_from(connection: Database) -> int | None:
    """Return the time from which on minutes are kept; None where no round of retention has noted it yet."""
    return connection.noted("minutes_from_ns")


def hours_from(connection: Database) -> int:
    """Return the time from which on hours are kept."""
    return _meta(connection, "hours_from_ns", HOUR)


def _meta(connection: Database, key: str, unit: int) -> int:
    found = connection.noted(key)
    return NEVER if found is None else -(-found // unit) * unit


@dataclass(slots=True)
class Late:
    """Aggregates of what came after its raw data would have been deleted, to be added to the rollups."""

    minutes: list[tuple[Any, ...]] = field(default_factory=list)
    hours: list[tuple[Any, ...]] = field(default_factory=list)

    def add(self, series: int, parts: Parts, kept: reals.Reals) -> None:
        """Take a series' samples and windows, ascending."""
        self.minutes.extend(reduce(parts, 0, MINUTE).rows(series, kept))
        self.hours.extend(reduce(parts, 0, HOUR).rows(series, kept))


def merge(connection: Database, late: Late) -> None:
    """Add late aggregates to the rows. Only in the transaction that takes their batches away: a second time would double them."""
    sketched = sketches.available()
    for table, rows in (("rollup_1m", late.minutes), ("rollup_1h", late.hours)):
        if rows:
            both = (
                _with_those_there(connection, table, rows)
                if sketched
                else [(*row[:-1], None) for row in rows]
            )
            connection.insert_many(table, COLUMNS, both, _MERGE.format(table=table))


def _with_those_there(
    connection: Database, table: str, rows: Sequence[tuple[Any, ...]]
) -> list[tuple[Any, ...]]:
    """Put the sketches of the rows that are there into these: SQL can add everything else to them."""
    there = connection.find_many(table, _FIGURES[:2], (*_FIGURES[:6], "sketch"), [row[:2] for row in rows])
    if not there:
        return list(rows)
    known = {row[:2]: row for row in there}
    beside = [(row, known[row[:2]]) for row in rows if row[:2] in known]
    pairs = [one for new, old in beside for one in (old, (*new[:6], new[-1]))]
    _, times, counts, sums, mins, maxs, kept = zip(*pairs, strict=True)
    nothing = (0,) * len(pairs)
    columns = (times, counts, sums, mins, maxs, sums, sums, nothing, nothing, kept)
    both = _reduced(Parts.of_columns(columns), np.arange(0, len(pairs), 2), np.array(times[::2], np.int64))
    assert both.sketches is not None  # noqa: S101 - the columns above have them
    merged = dict(zip((new[:2] for new, _ in beside), both.sketches.blobs(len(both)), strict=True))
    return [(*row[:-1], merged.get(row[:2], row[-1])) for row in rows]
