"""Computes hours of rollups from the minutes that are kept of them, where raw data is gone.

Nothing tells there what an hour's figures were but the hour itself and its minutes. So an hour that is there is written only where it can't be right by itself, or
where it lacks nothing but its sketch or the places of its first and last reading, and never where one of its minutes can't be right: a changed minute would
take the hour with it, which still knows better. An hour that is gone is computed from what its minutes say.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from telemetryx.store.tables import alike, rollup, sketches, sound
from telemetryx.store.tables.alike import Mask
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.rollup import HOUR, Many, Parts
from telemetryx.store.tables.spans import Span

_KEY: Final = ("series_id", "t0_ns")


def compute(connection: Database, series: int, span: Span) -> int:
    """Compute the hours that can be, in a span of whole ones; return how many."""
    owners, made = _wanted(connection, series, span)
    if len(owners):
        rows = list(made.rows_of(owners, connection.reals))
        connection.replace_many("rollup_1h", _KEY, rollup.COLUMNS, rows)
    return len(owners)


def helps(connection: Database, series: int, span: Span) -> bool:
    """Tell whether `compute` would write an hour."""
    return len(_wanted(connection, series, span)[0]) > 0


def _wanted(connection: Database, series: int, span: Span) -> Many:
    sketched = sketches.available() and "sketch" in connection.columns("rollup_1m")
    minutes = rollup.stored(connection, "rollup_1m", [series], *span, sketched=sketched)
    owners, made = rollup.reduce_many(*minutes, HOUR)
    _, kept = rollup.stored(connection, "rollup_1h", [series], *span, sketched=sketched)
    if not len(made) or not len(kept):
        return owners, made
    at = np.minimum(np.searchsorted(kept.times, made.times), len(kept) - 1)
    there = kept.times[at] == made.times
    wanted = ~there
    hurt = hurt_hours(minutes)
    wanted[there] = computable((owners[there], made.take(there)), kept.take(at[there]), hurt)
    return owners[wanted], made.take(wanted)


def hurt_hours(minutes: Many) -> set[tuple[int, int]]:
    """Return series and hour of the minutes that can't be right."""
    series, rows = minutes
    wrong = sound.doubtful(rows)
    hours = rows.times[wrong] // HOUR * HOUR
    return set(zip(series[wrong].tolist(), hours.tolist(), strict=True))


def among(hours: Many, some: set[tuple[int, int]]) -> Mask:
    """Tell which hours are in a set."""
    keys: Sequence[tuple[int, int]] = list(zip(hours[0].tolist(), hours[1].times.tolist(), strict=True))
    return np.fromiter((key in some for key in keys), np.bool_, len(keys))


def computable(made: Many, kept: Parts, hurt: set[tuple[int, int]]) -> Mask:
    """Tell which of the hours that are kept may be written as their minutes have it."""
    # Some of its minutes are gone, where it has more readings than they.
    whole = kept.counts <= made[1].counts
    mask: Mask = ~among(made, hurt) & whole & (sound.doubtful(kept) | alike.only_less(made[1], kept))
    return mask
