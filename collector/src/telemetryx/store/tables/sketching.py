"""Sketches for rollups without: computed from raw data where that is still there, the oldest first, for it goes first.

Such rows were written before there were any, or by a collector without the compiled module. The migration, and whoever writes such rows (refresh.py), notes up to when there
are some (`unsketched_to_ns` in `meta`). Series by series and hour by hour, some at a time and only
when nothing else is to be done, they are marked as dirty, so refresh.py computes them anew; when all are done the notes go. Before the raw horizon hours are computed from their minutes, of which
one or two readings need no sketch; what isn't known of minutes there stays so: queries say which readings they know nothing of.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from telemetryx.store.tables import hourly, rollup, sketches
from telemetryx.store.tables.database import Database, Read, Write
from telemetryx.store.tables.rollup import HOUR

FROM: Final = "unsketched_from_ns"
"""The hour that is looked at,"""
SERIES: Final = "unsketched_series"
"""behind this series,"""
TO: Final = "unsketched_to_ns"
"""and where such rows end. Without it there are none."""
AT_ONCE: Final = 200
"""Series whose hour is marked at once: some 12,000 rows to compute."""
STEP_S: Final = 0.5
"""How long one step looks for some: compaction waits for it."""


@dataclass(frozen=True, slots=True)
class Portion:
    """Some series with rows without a sketch in one hour; where to go on."""

    series: Sequence[int]
    start_ns: int
    """From where in the hour raw data is kept."""
    hour_ns: int
    after: int | None
    """Behind which series of the same hour; None: in the next hour."""
    past: bool = False
    """Whether the hour is computed from its minutes, for its raw data is gone,"""
    rows: Sequence[tuple[Any, ...]] = ()
    """and what came of that: read and computed where nobody waits for it."""


class Sketching:
    """Marks what has no sketch, on a store."""

    def __init__(self, read: Read, write: Write) -> None:
        """Look at the notes at each step: another process may have written rows without."""
        self._read = read
        self._write = write

    async def step(self) -> bool:
        """Mark some rows; return whether there may be more to do."""
        if not sketches.available():
            return False
        end = time.monotonic() + STEP_S
        while time.monotonic() < end:
            portion: Portion | None = await self._read(find)
            if portion is None:
                return False
            await self._write(partial(mark, portion=portion))
            if portion.series:
                return True
        return True


def finished(connection: Database) -> bool:
    """Tell whether no row lacks a sketch that could be computed."""
    return connection.execute("SELECT 1 FROM meta WHERE key = ?", (TO,)).fetchone() is None


def unsketched_to(connection: Database) -> int:
    """Return the time before which a row may lack a sketch that could be computed; far in the past when none does."""
    return _notes(connection).get(TO, -(1 << 62))


def note(connection: Database, start_ns: int, end_ns: int) -> None:
    """Note that rows in [start, end), from whole hours on, were written without sketches."""
    notes = _notes(connection)
    changed = {TO: max(end_ns, notes.get(TO, end_ns))}
    # Without a first hour the oldest of all is looked for: the one here isn't older.
    if TO not in notes or start_ns <= notes.get(FROM, -(1 << 62)):
        changed |= {FROM: start_ns, SERIES: 0}
    _set(connection, changed)


def _notes(connection: Database) -> dict[str, int]:
    return {
        key: int(value)
        for key, value in connection.execute(
            "SELECT key, value FROM meta WHERE key IN (?, ?, ?)", (FROM, SERIES, TO)
        ).fetchall()
    }


def _set(connection: Database, notes: Mapping[str, int]) -> None:
    for key, value in notes.items():
        connection.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, value),
        )


def find(connection: Database) -> Portion | None:
    """Look for the next rows; None when all are done."""
    notes = _notes(connection)
    if TO not in notes:
        return None
    horizon, after = rollup.raw_horizon(connection), notes.get(SERIES, 0)
    if FROM in notes:
        start = notes[FROM]
    else:
        (oldest,) = connection.execute(
            "SELECT min((SELECT min(t0_ns) FROM rollup_1h WHERE series_id = series.id)) FROM series"
        ).fetchone()
        start = notes[TO] if oldest is None else int(oldest)
    hour = start // HOUR * HOUR
    if hour >= notes[TO]:
        return Portion((), hour, hour, None)
    begun, past = max(hour, horizon), hour + HOUR <= horizon
    # One whose readings are all alike needs none. What is no number is NULL to SQLite, and greater than all numbers to PostgreSQL.
    several = "count > 2 AND (min <> max OR min IS NULL OR min = 'NaN')"
    unsketched = f"series_id = series.id AND sketch IS NULL AND {several} AND t0_ns"
    lacks = f"EXISTS (SELECT 1 FROM rollup_1h WHERE {unsketched} = ?)"
    given = [after, hour]
    if past:
        lacks += (
            " AND EXISTS (SELECT 1 FROM rollup_1m WHERE series_id = series.id AND t0_ns >= ? AND t0_ns < ?)"
        )
        given += [hour, hour + HOUR]
    else:
        lacks = f"({lacks} OR EXISTS (SELECT 1 FROM rollup_1m WHERE {unsketched} >= ? AND t0_ns < ?))"
        given += [begun, hour + HOUR]
    rows = connection.execute(
        f"SELECT id FROM series WHERE id > ? AND {lacks} ORDER BY id LIMIT ?", (*given, AT_ONCE)
    ).fetchall()
    found = [int(row[0]) for row in rows]
    made = hourly.rows_of(connection, found, (hour, hour + HOUR)) if past and found else ()
    return Portion(found, begun, hour, found[-1] if len(found) == AT_ONCE else None, past, made)


def mark(connection: Database, portion: Portion) -> None:
    """Mark a portion as dirty, and note where to go on; forget the notes behind the last."""
    (end,) = connection.execute("SELECT value FROM meta WHERE key = ?", (TO,)).fetchone() or (None,)
    if end is None:
        return
    if portion.hour_ns >= end:
        connection.execute("DELETE FROM meta WHERE key IN (?, ?, ?)", (FROM, SERIES, TO))
        return
    span = (portion.hour_ns, portion.hour_ns + HOUR)
    if portion.past:
        if portion.rows:
            # A rebuild beside it may be writing the same hours.
            connection.lock_rollups()
            hourly.write(connection, list(portion.rows))
    else:
        rows = [(series, portion.start_ns, span[1]) for series in portion.series]
        connection.insert_many("dirty", ("series_id", "t0_ns", "t1_ns"), rows)
    hour, after = (portion.hour_ns + HOUR, 0) if portion.after is None else (portion.hour_ns, portion.after)
    _set(connection, {FROM: hour, SERIES: after})
