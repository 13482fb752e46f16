"""Points: what PromQL evaluates. Samples and windows as rows, or rollups where they are enough or all that is left.

A window or rollup is one row, at the time of its last sample and with its last value; it also tells count, sum, minimum and
maximum of what it stands for. Rollups give their first value as a row, too, when asked: so that at the edge of a bucket the
newest value is the same that the samples would give.

A rollup counts a window where it begins, so it would show a value up to a window's length before it was measured. Series that have
windows are therefore read as follows, and no row is dated before its reading:

    windows alone, of one length that divides the level's unit   rollups, each dated at its last window's end: no whole unit lies
                                                                 between a window's last reading and its end, so nothing differs there
    longer windows, several lengths, samples beside windows      samples and windows; rollups, dated so, before the raw horizon or
                                                                 where there are too many
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from telemetryx.errors import QueryRefused, TooManyReadings
from telemetryx.sets import without
from telemetryx.store.interface import Room
from telemetryx.store.tables import catalog, pointrows, ranges, reading, rollup, spans, spread
from telemetryx.store.tables import newest as newest_samples
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.numbers import Numbers
from telemetryx.store.tables.rollup import HOUR, MINUTE, Many, Parts
from telemetryx.types import DamagedSketch, Level, PointBlock, SampleBlock, WindowBlock

_WINDOW: Final = HOUR
"""Windows that begin up to so long before a range are looked at: their last sample may be in it. A longer one is looked for."""
_PROBES: Final = 8
"""At so many times of a range it is looked how long the windows of a series are."""
_ROWS: Final = 1_000_000
"""Samples and windows that are read where rollups would do but for windows."""
_SURELY: Final = 1.5
"""An estimate so much above a limit isn't wrong about it: nothing is read then."""
DEARER: Final = 16
"""A rollup costs about as much as so many samples: each is a row of Python objects, while samples are decoded a column at once."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for beside series and time (`Store.points`)."""

    level: Level
    edges: bool
    parts: bool
    rather_raw: bool
    room: Room
    spread: bool = False


@dataclass(frozen=True, slots=True)
class _How:
    """How rollups are read: with their first values as rows, with their sketches."""

    edges: bool
    sketched: bool = False
    damaged: list[DamagedSketch] = field(default_factory=list)
    """Takes the sketches that aren't what was stored."""


@dataclass(slots=True)
class _Wider:
    """Tells of samples that become rows beside windows and rollups, which have all the columns of these."""

    told: reading.Told
    told_of: int = 0

    def __call__(self, size: int) -> None:
        """Tell of so many bytes of samples."""
        self.told(4 * size)
        self.told_of += 4 * size


def query(
    connection: Database, numbers: Numbers, ids: Sequence[int], span: spans.Span, asked: Wanted
) -> PointBlock:
    """Return rows in [start, end), at most as many as are asked for."""
    return _read(connection, numbers, sorted({int(one) for one in ids}), span, asked)


def newest(
    connection: Database, numbers: Numbers, ids: Sequence[int], span: spans.Span, asked: Wanted
) -> PointBlock:
    """Return rows in [start, end) of which each series' newest is one: where `latest` tells it, no sample is read, else few (newest.py). Not for `parts`."""
    wanted = sorted({int(one) for one in ids})
    if span[0] < rollup.raw_horizon(connection):
        return _read(connection, numbers, wanted, span, asked)
    told, left = _newest(connection, wanted, span)
    windowed = _windowed(connection, left)
    if plain := [one for one in left if one not in windowed]:
        found = newest_samples.samples(connection, numbers, plain, span)
        told = _beside(told, PointBlock(found.series, found.offsets, found.times, found.values))
    asked.room.told(len(told.times) * reading.ROW)
    if not windowed:
        return told
    return _beside(told, _read(connection, numbers, sorted(windowed), span, asked))


def _newest(connection: Database, ids: Sequence[int], span: spans.Span) -> tuple[PointBlock, list[int]]:
    """Return the newest rows of these series that `latest` tells, and the series of which samples must be read for it.

    Those that have something later than the range, a NaN (its bits say which) or two readings of that time, of which the order of
    batches decides.
    """
    series, times, values, flags = catalog.newest(connection, ids)
    left = (times >= span[1]) | np.isnan(values) | (flags & catalog.TIED > 0)
    there = ~left & (times >= span[0])
    # A series without a row has nothing, or waits for a commit to write it anew.
    missing = without(np.array(ids, np.int64), series)
    offsets = np.arange(int(there.sum()) + 1, dtype=np.int64)
    found = PointBlock(series[there], offsets, times[there], values[there])
    return found, sorted([*series[left & (times >= span[0])].tolist(), *missing.tolist()])


def _beside(one: PointBlock, other: PointBlock) -> PointBlock:
    """Put rows of different series together."""
    series = np.concatenate((one.series, other.series))
    counts = np.concatenate((np.diff(one.offsets), np.diff(other.offsets)))
    order = np.argsort(series)
    before = (np.cumsum(counts) - counts)[order]
    series, counts = series[order], counts[order]
    ends = np.cumsum(counts)
    index = np.repeat(before - (ends - counts), counts) + np.arange(int(counts.sum()))
    times = np.concatenate((one.times, other.times))[index]
    values = np.concatenate((one.values, other.values))[index]
    return PointBlock(series, np.concatenate((np.zeros(1, np.int64), ends)), times, values, level=other.level)


def _read(
    connection: Database, numbers: Numbers, wanted: Sequence[int], span: spans.Span, asked: Wanted
) -> PointBlock:
    start, end = span
    horizon = rollup.raw_horizon(connection)
    cut = min(max(start, horizon), end)
    windowed = _windowed(connection, wanted)
    level = asked.level
    if asked.rather_raw and start == cut and not windowed:
        level = _cheapest(connection, wanted, span, asked)
    if asked.spread:
        level = "raw"
    collected = pointrows.Collected(asked.room.rows, asked.room.told, asked.parts)
    plain = [one for one in wanted if one not in windowed]
    if level == "raw" and start == cut and plain:
        samples = reading.samples(connection, numbers, plain, start, end, asked.room.rows, asked.room.told)
        if not windowed:
            return PointBlock(samples.series, samples.offsets, samples.times, samples.values)
        collected.add_samples(samples)
        wanted = sorted(windowed)
    seen = _Seen(asked)
    unit = {"raw": 0, "1m": MINUTE, "1h": HOUR}[level]
    for members in collected.portions(wanted, 2 * ((end - start) // unit + 2) if unit else 0):
        if level != "raw":
            collected.add(_instead(connection, numbers, members, span, level, _How(edges=asked.edges)))
            continue
        left = collected.left
        wider = _Wider(asked.room.told)
        samples = reading.samples(connection, numbers, members, cut, end, left, wider)
        panes = [one for one in members if one in windowed]
        damaged = seen.damaged if asked.spread else None
        found = [
            _of_samples(samples),
            seen.windows(_windows(connection, panes, (cut, end), left, damaged)),
        ]
        if start < cut:
            how = _How(edges=asked.edges and not asked.spread, sketched=asked.spread, damaged=seen.damaged)
            rows = _dated(connection, numbers, members, (start, cut), seen.before, how)
            found.insert(0, seen.rollups(rows, 2 if how.edges else 1))
        collected.add(rollup.ascending([seen.spread(some) for some in found]))
        asked.room.told(-wider.told_of)
    return seen.tell(collected.block(level), start, horizon)


@dataclass(slots=True)
class _Seen:
    """What is told with rows of samples, windows and rollups."""

    asked: Wanted
    damaged: list[DamagedSketch] = field(default_factory=list)
    missing: int = 0
    _lean: set[Literal["rollups", "windows"]] = field(default_factory=set)
    _rolled: bool = False

    @property
    def before(self) -> Level:
        """Which rollups stand for raw data that is deleted."""
        return "1m" if not self.asked.spread or self.asked.level == "raw" else self.asked.level

    def rollups(self, found: Many, shown: int) -> Many:
        """Look at rollups, of which so many readings are rows."""
        self._rolled |= len(found[0]) > 0
        if bool((found[1].counts > shown).any()):
            self._lean.add("rollups")
        return found

    def windows(self, found: Many) -> Many:
        """Look at windows."""
        if bool((found[1].counts > 1).any()):
            self._lean.add("windows")
        return found

    def spread(self, found: Many) -> Many:
        """Spread rows over the bins of their sketches, where that is asked for."""
        if not self.asked.spread:
            return found
        rows, missing = spread.spread(found)
        self.missing += missing
        return rows

    def tell(self, block: PointBlock, start: int, horizon: int) -> PointBlock:
        """Say it."""
        block.lean = frozenset(self._lean)
        block.rolled_until_ns = horizon if self._rolled else None
        block.missing, block.damaged = self.missing, tuple(self.damaged)
        if self.asked.spread and start < horizon:
            block.level = self.before
        return block


def _windowed(connection: Database, ids: Sequence[int]) -> set[int]:
    """Return which of these series have windows at all: only of these anything is looked up by series."""
    found: set[int] = set()
    for marks, part in reading.portions(ids):
        found |= {
            row[0]
            for row in connection.execute(
                f"SELECT id FROM series WHERE id IN ({marks}) "
                'AND EXISTS (SELECT 1 FROM "window" WHERE "window".series_id = series.id)',
                part,
            )
        }
    return found


def _cheapest(connection: Database, ids: Sequence[int], span: spans.Span, asked: Wanted) -> Level:
    """Choose samples where there are few of them: they are exact, and may be read faster than rollups."""
    samples = reading.about(connection, ids, *span)
    unit = HOUR if asked.level == "1h" else MINUTE
    buckets = len(ids) * (-(-(span[1] - span[0]) // unit) + 1)
    if asked.level != "raw" and samples > DEARER * buckets:
        return asked.level
    if samples > _SURELY * asked.room.rows:
        raise TooManyReadings(
            f"about {samples:,} samples would be read; at most {asked.room.rows:,} are: ask for fewer series or a shorter time"
        )
    return "raw"


def _instead(
    connection: Database,
    numbers: Numbers,
    ids: Sequence[int],
    span: spans.Span,
    level: Level,
    how: _How,
) -> Many:
    """Read rollups, but for series whose windows don't fit into their units."""
    start, end = span
    cut = min(max(start, rollup.raw_horizon(connection)), end)
    unit = HOUR if level == "1h" else MINUTE
    lengths = _lengths(connection, ids, (cut, end)) if cut < end else {}
    steady = [one for one, some in lengths.items() if len(some) == 1]
    alone = _without_samples(connection, numbers, steady, (cut, end))
    others = [one for one, some in lengths.items() if one not in alone or unit % max(some)]
    rest = sorted(set(ids) - set(others))
    found = [_dated(connection, numbers, rest, span, level, how)]
    if others:
        try:
            samples = reading.samples(connection, numbers, others, cut, end, _ROWS)
            found += [_of_samples(samples), _windows(connection, others, (cut, end), _ROWS)]
            end = cut
        except QueryRefused:
            pass
        if start < end:
            found.insert(0, _dated(connection, numbers, others, (start, end), level, how))
    return rollup.ascending(found)


def _dated(
    connection: Database,
    numbers: Numbers,
    ids: Sequence[int],
    span: spans.Span,
    level: Level,
    how: _How,
) -> Many:
    """Read rollups; those of series with windows at the end of their last window, however long it may have been."""
    if not len(ids):
        return np.empty(0, np.int64), Parts.empty()
    lengths = _lengths(connection, ids, span, deleted=span[0] < rollup.raw_horizon(connection))
    found = [_rolled(connection, numbers, [one for one in ids if one not in lengths], span, level, how)]
    alike: dict[int, list[int]] = {}
    for series, some in lengths.items():
        alike.setdefault(max(some), []).append(series)
    for length, members in sorted(alike.items()):
        before = (span[0] - length, span[1])
        owners, parts = _rolled(
            connection, numbers, sorted(members), before, level, replace(how, edges=False)
        )
        parts.times = parts.last_at = parts.last_at + (length - 1)
        found.append(_clipped((owners, parts), span))
    return rollup.ascending(found)


def _lengths(
    connection: Database, ids: Sequence[int], span: spans.Span, *, deleted: bool = False
) -> dict[int, set[int]]:
    """Return how long the windows of these series are in a span, where they have any, looked up at some times of it.

    `deleted`: as windows of it may be past their retention, a series' newest one tells where none is found.
    """
    start, end = span
    ids = sorted(_windowed(connection, ids))
    found: dict[int, set[int]] = {}
    for at in range(_PROBES):
        time = end - (end - start) * at // _PROBES
        for series, begun, length in newest_windows(connection, ids, time):
            if begun + length > start:
                found.setdefault(series, set()).add(length)
    missing = [one for one in ids if one not in found]
    if deleted and missing:
        for series, _, length in newest_windows(connection, missing, np.iinfo(np.int64).max):
            found[series] = {length}
    return found


def newest_windows(connection: Database, ids: Sequence[int], before_ns: int) -> list[tuple[int, int, int]]:
    """Return (series, start, length) of the newest window of each series that begins before a time, where there is one."""
    rows: list[tuple[int, int, int]] = []
    for marks, part in reading.portions(ids):
        rows += connection.execute(
            'SELECT series_id, start_ns, length_ns FROM "window" WHERE id IN (SELECT (SELECT id FROM "window" AS before '
            "WHERE before.series_id = series.id AND before.start_ns < ? ORDER BY before.start_ns DESC LIMIT 1) "
            f"FROM series WHERE series.id IN ({marks}))",
            (int(before_ns), *part),
        ).fetchall()
    return rows


def _without_samples(
    connection: Database, numbers: Numbers, ids: Sequence[int], span: spans.Span
) -> set[int]:
    """Return those of these series that have no samples in a span, neither in chunks nor in batches as shipped."""
    found = set(ids)
    if not found:
        return found
    for marks, part in reading.portions(ids):
        rows = connection.execute(
            f"SELECT id FROM series WHERE id IN ({marks}) AND EXISTS (SELECT 1 FROM chunk "
            "WHERE chunk.series_id = series.id AND t1_ns >= ? AND t0_ns < ?)",
            (*part, *span),
        ).fetchall()
        found -= {row[0] for row in rows}
    waiting = reading.waiting_samples(connection, numbers, sorted(found), *span, ranges.MAX_RAW)
    return found - set(waiting.series.tolist())


def _windows(
    connection: Database,
    ids: Sequence[int],
    span: spans.Span,
    limit: int,
    damaged: list[DamagedSketch] | None = None,
) -> Many:
    """Read windows whose last sample is in a span, however long they are; with their sketches where somebody takes those that are damaged."""
    if not len(ids):
        return np.empty(0, np.int64), Parts.empty()
    start, end = span
    sketched = damaged is not None
    windows = reading.windows(connection, ids, start - _WINDOW, end, sketches=sketched, limit=limit)
    hurt = list(windows.damaged)
    found = [_of_windows(windows, sketched=sketched)]
    longer = [row for row in newest_windows(connection, ids, start - _WINDOW) if row[1] + row[2] > start]
    if longer:
        begun, members = min(row[1] for row in longer), [row[0] for row in longer]
        windows = reading.windows(connection, members, begun, start - _WINDOW, sketches=sketched)
        hurt += windows.damaged
        found.append(_of_windows(windows, sketched=sketched))
    if damaged is not None:
        damaged += hurt
    return _clipped(rollup.ascending(found), span)


def _of_samples(block: SampleBlock) -> Many:
    """Take samples as rows; NaN stays, as where there are no windows."""
    series, times, values = np.repeat(block.series, np.diff(block.offsets)), block.times, block.values
    ones = np.ones(len(times), np.int64)
    return series, Parts(times, ones, values, values, values, values, values, times, times)


def _of_windows(block: WindowBlock, *, sketched: bool = False) -> Many:
    found = rollup.of_windows(block, sketched=sketched)
    found.times = found.last_at = block.last_time
    # Partials of one window, and windows of two lengths, may end in another order than they begin in.
    order = np.lexsort((found.times, block.series))
    return block.series[order], found.take(order)


def _rolled(
    connection: Database,
    numbers: Numbers,
    ids: Sequence[int],
    span: spans.Span,
    level: Level,
    how: _How,
) -> Many:
    unit = HOUR if level == "1h" else MINUTE
    whole = (span[0] // unit * unit, -(-span[1] // unit) * unit)
    asked = ranges.Wanted(sketched=how.sketched, damaged=how.damaged)
    return _clipped(_rows(ranges.parts(connection, numbers, ids, whole, level, asked), edges=how.edges), span)


def _rows(rolled: Many, *, edges: bool) -> Many:
    """Move rollups to their last sample's time, and make rows of their first ones."""
    series, found = _taken(rolled, rolled[1].counts > 0)
    last = Parts(found.last_at, *found.columns()[1:])
    last.sketches = found.sketches
    if not edges:
        return series, last
    begun, first = _taken((series, found), found.first_at < found.last_at)
    blank = np.zeros(len(first))
    nothing = np.full(len(first), np.nan)
    firsts = Parts(
        first.first_at,
        np.zeros(len(first), np.int64),
        blank,
        nothing,
        nothing,
        first.firsts,
        first.firsts,
        first.first_at,
        first.first_at,
    )
    return rollup.ascending([(begun, firsts), (series, last)])


def _taken(found: Many, rows: NDArray[np.bool_]) -> Many:
    return found[0][rows], found[1].take(rows)


def _clipped(found: Many, span: spans.Span) -> Many:
    return _taken(found, (found[1].times >= span[0]) & (found[1].times < span[1]))
