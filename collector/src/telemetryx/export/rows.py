"""Reads the store in pieces of bounded size: by series, then time; a piece that would be too large is halved.

Each piece is read on a snapshot of its own: an export of hours holds back neither the log of SQLite nor PostgreSQL's vacuum.
A statement in SQL reads all of its pieces on one (`held`): its tables fit together.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from telemetryx.errors import QueryRefused
from telemetryx.export.wanted import Wanted
from telemetryx.store.interface import EventQuery
from telemetryx.store.tables import catalog, events, ranges, reading, rollup
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.numbers import Numbers
from telemetryx.store.tables.rollup import HOUR, MINUTE
from telemetryx.types import I64, Event, Series, WindowBlock

#: Rows of a piece, at most; of text too, so that a writer's copies stay small.
MAX_ROWS: Final = 200_000
MAX_SERIES: Final = 1_000_000
_GROUP: Final = 64
_EVENTS: Final = 2_000
Span = tuple[int, int]


@dataclass(slots=True)
class Piece:
    """Rows of some series: row i belongs to series[index[i]]. Columns are those of the kind, without the series' own."""

    series: Sequence[Series]
    index: I64
    columns: dict[str, Any]
    done: int = 0
    """Series of the export that this piece and those before it come from."""

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.index)


Read = Callable[[Database, Numbers, Sequence[Series], Span], Piece]


def count(database: Database, wanted: Wanted) -> int:
    """Count the series that an export reads, for its progress."""
    return catalog.count_series(database, wanted.matchers, wanted.agent)


def pieces(database: Database, wanted: Wanted) -> Iterator[Piece]:
    """Yield all rows of series, by series, then time. A piece never has rows of a series that an earlier one finished."""
    yield from pieces_of(database, wanted, _fresh(database, partial(matching, database, wanted)))


def matching(database: Database, wanted: Wanted) -> list[Series]:
    """Return the series that an export is about."""
    rows = catalog.series(database, wanted.matchers, wanted.agent, MAX_SERIES + 1, 0)
    if len(rows) > MAX_SERIES:
        raise QueryRefused(f"more than {MAX_SERIES:,} series match: narrow them")
    return rows


def pieces_of(
    database: Database,
    wanted: Wanted,
    rows: Sequence[Series],
    group: int = _GROUP,
    *,
    held: bool = False,
    read: Read | None = None,
) -> Iterator[Piece]:
    """Yield all rows of these series, so many of them at once. `held`: on the snapshot that the database is on.

    `read` reads other rows than those of the export's kind; it raises QueryRefused for what is to be halved.
    """
    read = read or _READ[wanted.kind](wanted)
    numbers = Numbers()
    for begun in range(0, len(rows), group):
        some = rows[begun : begun + group]
        for piece in _halved(database, numbers, read, some, (wanted.start_ns, wanted.end_ns), held=held):
            piece.done = begun + len(some)
            yield piece


def event_pages(database: Database, wanted: Wanted, *, held: bool = False) -> Iterator[list[Event]]:
    """Yield events, newest first. `held` as above."""
    before: int | None = None
    while True:
        query = EventQuery(
            source=wanted.source,
            min_severity=wanted.min_severity,
            agent=wanted.agent,
            start_ns=wanted.start_ns,
            end_ns=wanted.end_ns,
            before=before,
            limit=_EVENTS,
        )
        found: list[Event] = _fresh(database, partial(events.query, database, query), held=held)
        if not found:
            return
        before = found[-1].id
        yield found


def _fresh(database: Database, work: Callable[[], Any], *, held: bool = False) -> Any:  # noqa: ANN401  what work returns
    """Read on a new snapshot, unless the one that there is is held."""
    if not held:
        database.rollback()
        database.begin_snapshot()
    return work()


def _halved(
    database: Database,
    numbers: Numbers,
    read: Read,
    rows: Sequence[Series],
    span: Span,
    *,
    held: bool = False,
) -> Iterator[Piece]:
    """Read at once what is small enough; else half the series, then half the time."""
    waiting: list[tuple[Sequence[Series], Span]] = [(rows, span)]
    while waiting:
        some, (start, end) = waiting.pop()
        try:
            piece: Piece = _fresh(database, partial(read, database, numbers, some, (start, end)), held=held)
        except QueryRefused:
            if len(some) > 1:
                middle = len(some) // 2
                waiting += [(some[middle:], (start, end)), (some[:middle], (start, end))]
                continue
            if end - start <= 1:
                raise
            at = start + (end - start) // 2
            waiting += [(some, (at, end)), (some, (start, at))]
            continue
        if len(piece):
            yield piece


def _samples(wanted: Wanted) -> Read:
    del wanted

    def read(database: Database, numbers: Numbers, rows: Sequence[Series], span: Span) -> Piece:
        block = reading.samples(database, numbers, [row.id for row in rows], *span, MAX_ROWS)
        places = {row.id: at for at, row in enumerate(rows)}
        mine = np.array([places[one] for one in block.series.tolist()], np.int64)
        flags = np.zeros(len(block), np.uint8) if block.flags is None else block.flags
        index = np.repeat(mine, np.diff(block.offsets))
        return Piece(rows, index, {"time": block.times, "value": block.values, "flags": flags})

    return read


def _windows(wanted: Wanted) -> Read:
    del wanted

    def read(database: Database, numbers: Numbers, rows: Sequence[Series], span: Span) -> Piece:
        del numbers
        block = windows(database, rows, span)
        places = {row.id: at for at, row in enumerate(rows)}
        index = np.array([places[one] for one in block.series.tolist()], np.int64)
        columns = {name: getattr(block, name) for name in ("count", "sum", "min", "max", "first", "last")}
        return Piece(rows, index, {"start": block.start, "length": block.length, **columns})

    return read


def windows(database: Database, rows: Sequence[Series], span: Span) -> WindowBlock:
    """Read windows that begin in a span; too many are refused."""
    ids = [row.id for row in rows]
    marks = ",".join("?" * len(ids))
    (found,) = database.execute(
        f'SELECT count(*) FROM "window" WHERE series_id IN ({marks}) AND start_ns >= ? AND start_ns < ?',
        (*ids, *span),
    ).fetchone()
    if found > MAX_ROWS:
        raise QueryRefused(f"{found} windows")
    return reading.windows(database, ids, *span, sketches=False)


def _rollups(wanted: Wanted) -> Read:
    unit = HOUR if wanted.level == "1h" else MINUTE

    def read(database: Database, numbers: Numbers, rows: Sequence[Series], span: Span) -> Piece:
        whole = (span[0] // unit * unit, -(-span[1] // unit) * unit)
        buckets = (whole[1] - whole[0]) // unit
        if len(rows) > 1 and buckets * len(rows) > MAX_ROWS * 50:
            raise QueryRefused(f"{buckets} buckets of {len(rows)} series")
        ids = [row.id for row in rows]
        series, found = rollup.reduce_many(*ranges.parts(database, numbers, ids, whole, wanted.level), unit)
        # A bucket belongs to the piece that its start lies in, so that halves don't give it twice.
        inside = (found.times >= span[0]) & (found.times < span[1])
        index = np.searchsorted(ids, series[inside])
        if len(index) > MAX_ROWS and (len(rows) > 1 or span[1] - span[0] > unit):
            raise QueryRefused(f"{len(index)} rollups")
        names = ("start", "count", "sum", "min", "max", "first", "last")
        columns = dict(zip(names, found.take(inside).columns(), strict=False))
        start = columns.pop("start")
        return Piece(rows, index, {"start": start, "length": np.full(len(start), unit), **columns})

    return read


_READ: Final[dict[str, Callable[[Wanted], Read]]] = {
    "samples": _samples,
    "windows": _windows,
    "rollups": _rollups,
}
