"""Refresh: recomputes the rollup rows that `dirty` names, for many series at once, and writes them in pieces.

Series that one agent ships together are dirty in the same minutes, so their chunks are read with one query, and reduced in one
pass over all of them. What rollup.py says of rows holds: each is computed from everything that is compacted of its minute, in
the one order; segments of a reduction over many series give the bits that each series alone gives.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from telemetryx.store.tables import chunks, reading, reals, rollup, sketches, sketching, spans
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.rollup import HOUR, MINUTE, Many, Parts
from telemetryx.types import F64, I64

ENTRIES: Final = 1_024
"""Entries of `dirty` that are looked at, newest first."""
READ: Final = 250_000
"""Samples that are held at once, about: some 30 MB while they are reduced."""
SAMPLES: Final = 1_000_000
"""Samples that one plan reads, about."""


@dataclass(slots=True)
class Piece:
    """Rows of one transaction, and the entries of `dirty` that it settles."""

    ids: list[int]
    minutes: list[tuple[Any, ...]]
    hours: list[tuple[Any, ...]]
    unsketched: spans.Span | None = None
    """Whole hours in which rows were made without sketches, which compiled code must compute later."""


@dataclass(slots=True)
class Refresh:
    """Recomputed rollups, and the entries of `dirty` that they settle.

    Columns, because it comes from another process (planner.py): a row is ten objects, and thousands of rows made at once are
    milliseconds in which no other thread runs.
    """

    ids: list[int]
    minutes: Many
    hours: Many

    def pieces(self, rows: int, kept: reals.Reals) -> Iterator[Piece]:
        """Cut it for transactions of about so many rows, as the engine keeps them. The entries go with the last: until then nobody trusts the rows."""
        count = max(len(self.minutes[0]), len(self.hours[0]), 1)
        for start in range(0, count, rows):
            cut = slice(start, start + rows)
            last = start + rows >= count
            yield Piece(
                self.ids if last else [],
                _rows(self.minutes, cut, kept),
                _rows(self.hours, cut, kept),
                self._unsketched() if last else None,
            )

    def _unsketched(self) -> spans.Span | None:
        some = [
            parts.times for _, parts in (self.minutes, self.hours) if len(parts) and parts.sketches is None
        ]
        if not some:
            return None
        times = np.concatenate(some)
        return int(times.min()) // HOUR * HOUR, (int(times.max()) // HOUR + 1) * HOUR


def _rows(found: Many, cut: slice, kept: reals.Reals) -> list[tuple[Any, ...]]:
    return list(found[1].take(cut).rows_of(found[0][cut], kept))


@dataclass(slots=True)
class _Work:
    """What is recomputed so far."""

    sketched: bool
    """Whether with sketches: not where the compiled module is missing."""
    ids: list[int] = field(default_factory=list)
    minutes: list[Many] = field(default_factory=list)
    hours: list[Many] = field(default_factory=list)
    rows: int = 0
    """Minutes."""

    def done(self) -> Refresh:
        return Refresh(self.ids, _together(self.minutes), _together(self.hours))


def _together(found: Sequence[Many]) -> Many:
    if not found:
        return np.empty(0, np.int64), Parts.empty()
    return np.concatenate([series for series, _ in found]), Parts.put_together([parts for _, parts in found])


def plan(connection: Database, rows: int, least: int = 1) -> Refresh:
    """Recompute what the newest entries of `dirty` name, up to about so many rollup rows.

    Series with fewer than `least` entries wait: what lies on both sides of the edge between two runs is read for each of them, and
    once where they come together. Where there are more entries than are looked at, nobody waits.
    """
    work = _Work(sketches.available())
    horizon = rollup.raw_horizon(connection)
    entries = connection.execute(
        f"SELECT id, series_id, t0_ns, t1_ns FROM dirty ORDER BY id DESC LIMIT {ENTRIES}"
    ).fetchall()
    ids: dict[int, list[int]] = {}
    dirty: dict[int, list[spans.Span]] = {}
    for entry, series, t0, t1 in entries:
        ids.setdefault(series, []).append(entry)
        dirty.setdefault(series, []).append((max(t0, horizon), t1))
    read = 0
    alike: dict[tuple[spans.Span, ...], list[int]] = {}
    least = least if len(entries) < ENTRIES else 1
    for series, some in dirty.items():
        if len(some) < least:
            continue
        alike.setdefault(tuple(spans.union(some)), []).append(series)
    for stretches, members in alike.items():
        left: Sequence[int] = members
        each = max(1, sum(end - start for start, end in stretches) // MINUTE)
        while left and work.rows < rows and read < SAMPLES:
            count = min(rollup.TOGETHER, max(1, (rows - work.rows) // each))
            chosen, size = affordable(connection, left[:count], stretches)
            left = left[len(chosen) :]
            read += size
            _recompute(connection, sorted(chosen), stretches, work)
            work.ids += [entry for series in chosen for entry in ids[series]]
    return work.done()


def affordable(
    connection: Database, members: Sequence[int], stretches: Sequence[spans.Span]
) -> tuple[Sequence[int], int]:
    """Take the first of these series, at least one, whose chunks fit into memory together; return their samples too."""
    counts = dict.fromkeys(members, 0)
    among, ids = connection.among("series_id", members)
    for start, end in stretches:
        for series, count in connection.execute(
            f"SELECT series_id, CAST(sum(count) AS BIGINT) FROM chunk WHERE {among} AND t1_ns >= ? AND t0_ns < ? "
            "GROUP BY series_id",
            (*ids, start, end),
        ):
            counts[series] += count
    total = 0
    for at, series in enumerate(members):
        if at and total + counts[series] > READ:
            return members[:at], total
        total += counts[series]
    return members, total


def apply(connection: Database, work: Piece) -> None:
    """Write recomputed rows."""
    for table, rows, step in (("rollup_1m", work.minutes, MINUTE), ("rollup_1h", work.hours, HOUR)):
        connection.replace_many(table, ("series_id", "t0_ns"), rollup.COLUMNS, rows, step)
    connection.delete_many("dirty", work.ids)
    if work.unsketched is not None:
        sketching.note(connection, *work.unsketched)


def _recompute(
    connection: Database, members: Sequence[int], stretches: Sequence[spans.Span], work: _Work
) -> None:
    """Recompute these series' minutes in these stretches, and the hours that they lie in.

    All stretches of a series at once: an hour that two of them touch must see the new minutes of both.
    """
    sketched = work.sketched
    found = [
        part for stretch in stretches for part in minutes(connection, members, *stretch, sketched=sketched)
    ]
    series, fresh = rollup.ascending(found)
    hours = spans.union((start // HOUR * HOUR, -(-end // HOUR) * HOUR) for start, end in stretches)
    kept = [
        rollup.stored(connection, "rollup_1m", members, *rest, sketched=sketched)
        for hour in hours
        for rest in spans.without(hour, [part for part in stretches if hour[0] <= part[0] < hour[1]])
    ]
    work.minutes.append((series, fresh))
    work.rows += len(series)
    whole, parts = rollup.reduce_many(*rollup.ascending([*kept, (series, fresh)]), HOUR)
    work.hours.append((whole, parts))


def minutes(
    connection: Database, members: Sequence[int], start: int, end: int, *, sketched: bool
) -> list[Many]:
    """Reduce raw data to minutes. A stretch of one series with very many samples is halved, so that memory stays bounded."""
    among, ids = connection.among("series_id", members)
    alone = len(members) == 1 and end - start > MINUTE
    if alone and affordable(connection, members, [(start, end)])[1] > READ:
        middle = start + (end - start) // MINUTE // 2 * MINUTE
        halves = ((start, middle), (middle, end))
        return [part for half in halves for part in minutes(connection, members, *half, sketched=sketched)]
    pieces: dict[int, list[chunks.Piece]] = {series: [] for series in members}
    epochs = reading.Epochs(connection)
    rows = connection.stream(
        'SELECT series_id, t0_ns, t1_ns, count, epoch_id, seq_first, part, times, "values" FROM chunk '
        f"WHERE {among} AND t1_ns >= ? AND t0_ns < ?",
        (*ids, start, end),
    )
    for series, t0, t1, size, epoch, seq, part, times, values in rows:
        order = (epochs[epoch], seq, part)
        try:
            piece = chunks.Piece(order, *chunks.decode(t0, t1, size, times, values, None))
        except chunks.UNREADABLE as error:
            raise chunks.damaged(series, t0, error) from error
        pieces[series].append(piece.clip(start, end))
    merged = {series: chunks.merge(some)[:2] for series, some in pieces.items()}
    windows = reading.windows(connection, members, start, end, sketches=sketched, waiting=False)
    if not len(windows):
        return [rollup.reduce_many(*_samples(merged, sketched=sketched), MINUTE)]
    out: list[Many] = []
    every = rollup.of_windows(windows, sketched=sketched)
    for series, (when, what) in merged.items():
        first, last = np.searchsorted(windows.series, (series, series + 1))
        own = every.take(slice(int(first), int(last)))
        parts = rollup.join([rollup.of_samples(when, what, sketched=sketched), own])
        out.append(rollup.reduce_many(np.full(len(parts), series, np.int64), parts, MINUTE))
    return out


def _samples(merged: dict[int, tuple[I64, F64]], *, sketched: bool) -> Many:
    """Make parts of all series' samples."""
    lengths = [len(times) for times, _ in merged.values()]
    series = np.repeat(np.fromiter(merged, np.int64, len(merged)), lengths)
    times = np.concatenate([times for times, _ in merged.values()])
    values = np.concatenate([values for _, values in merged.values()])
    return rollup.many(series, times, values, sketched=sketched)
