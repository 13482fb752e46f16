"""Computes hours of rollups from the minutes that are kept of them, where raw data is gone.

Nothing tells there what an hour's figures were but the hour itself and its minutes. So an hour that is there is written only where it can't be right by itself, or
where it lacks nothing but its sketch or the places of its first and last reading, and never where one of its minutes can't be right: a changed minute would
take the hour with it, which still knows better. An hour that is gone is computed from what its minutes say.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from telemetryx.store.tables import alike, rollup, sketches, sound
from telemetryx.store.tables.alike import Mask
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.rollup import HOUR, Many, Parts
from telemetryx.store.tables.spans import Span

Rows = list[tuple[Any, ...]]
_KEY: Final = ("series_id", "t0_ns")


def compute(connection: Database, series: int, span: Span) -> int:
    """Compute the hours that can be, in a span of whole ones; return how many."""
    rows = rows_of(connection, [series], span)
    write(connection, rows)
    return len(rows)


def helps(connection: Database, series: int, span: Span) -> bool:
    """Tell whether `compute` would write an hour."""
    return len(rows_of(connection, [series], span)) > 0


def write(connection: Database, rows: Rows) -> None:
    """Write what `rows_of` has found, before anything else touches these rollups."""
    connection.replace_many("rollup_1h", _KEY, rollup.COLUMNS, rows, HOUR)


def rows_of(connection: Database, series: Sequence[int], span: Span) -> Rows:
    """Return the hours of these series that are to be written, as rows of their table."""
    sketched = sketches.available() and "sketch" in connection.columns("rollup_1m")
    minutes = rollup.stored(connection, "rollup_1m", series, *span, sketched=sketched)
    owners, made = rollup.reduce_many(*minutes, HOUR)
    others, kept = rollup.stored(connection, "rollup_1h", series, *span, sketched=sketched)
    place = {key: at for at, key in enumerate(_keys((others, kept)))}
    at = np.fromiter((place.get(key, -1) for key in _keys((owners, made))), np.int64, len(made))
    there = at >= 0
    wanted = ~there
    wanted[there] = computable((owners[there], made.take(there)), kept.take(at[there]), hurt_hours(minutes))
    return list(made.take(wanted).rows_of(owners[wanted], connection.reals))


def _keys(hours: Many) -> list[tuple[int, int]]:
    return list(zip(hours[0].tolist(), hours[1].times.tolist(), strict=True))


def hurt_hours(minutes: Many) -> set[tuple[int, int]]:
    """Return series and hour of the minutes that can't be right."""
    series, rows = minutes
    wrong = sound.doubtful(rows)
    hours = rows.times[wrong] // HOUR * HOUR
    return set(zip(series[wrong].tolist(), hours.tolist(), strict=True))


def among(hours: Many, some: set[tuple[int, int]]) -> Mask:
    """Tell which hours are in a set."""
    return np.fromiter((key in some for key in _keys(hours)), np.bool_, len(hours[1]))


def computable(made: Many, kept: Parts, hurt: set[tuple[int, int]]) -> Mask:
    """Tell which of the hours that are kept may be written as their minutes have it."""
    # Some of its minutes are gone, where it has more readings than they.
    whole = kept.counts <= made[1].counts
    mask: Mask = ~among(made, hurt) & whole & (sound.doubtful(kept) | alike.only_less(made[1], kept))
    return mask
