"""Has rollups computed anew that don't show what they should: minutes from raw data, hours from their minutes.

What raw data is left of is marked as dirty: whoever owns the store's upkeep computes it, and readers take raw data until then. Hours from before the raw
horizon are written here, from the minutes that are kept. Minutes from before it can't be computed any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from telemetryx.store.tables import hours, rolled, rollup, sketches
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.hours import Fault
from telemetryx.store.tables.rollup import HOUR
from telemetryx.store.tables.spans import Span

_AT_ONCE: Final = 500 * HOUR
"""How long a stretch of hours is computed at once."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of it: stretches of series."""

    marked: int
    """Stretches that the store's upkeep computes anew,"""
    hours: int
    """and hours that were computed here."""


def plan(connection: Database) -> list[Fault]:
    """Look for what is to be computed anew; on a snapshot."""
    sketched = sketches.available() and "sketch" in connection.columns("rollup_1m")
    return [*rolled.minutes(connection), *hours.faults(connection, sketched=sketched)]


def rebuild(connection: Database, faults: Sequence[Fault]) -> Done:
    """Mark and compute, in a transaction that writes."""
    connection.lock_rollups()
    horizon = rollup.raw_horizon(connection)
    dirty = [(one.series, max(one.t0_ns, horizon), one.t1_ns) for one in faults if one.t1_ns > horizon]
    connection.insert_many("dirty", ("series_id", "t0_ns", "t1_ns"), dirty)
    kept_from = rollup.minutes_from(connection)
    written = 0
    for one in faults:
        # Up to a whole hour: one with a minute that is gone would lose what only it shows.
        first = max(one.t0_ns, -(-kept_from // HOUR) * HOUR if kept_from is not None else one.t0_ns)
        end = min(one.t1_ns, -(-horizon // HOUR) * HOUR)
        for start in range(first // HOUR * HOUR, end, _AT_ONCE):
            written += _hours(connection, one.series, (start, min(end, start + _AT_ONCE)))
    return Done(len(dirty), written)


def _hours(connection: Database, series: int, span: Span) -> int:
    """Compute hours from the minutes that are kept of them; return how many. One with more readings than its minutes have is left: some of these are gone."""
    sketched = sketches.available()
    found = rollup.stored(connection, "rollup_1m", [series], *span, sketched=sketched)
    owners, made = rollup.reduce_many(*found, HOUR)
    keys = list(zip(owners.tolist(), made.times.tolist(), strict=True))
    more = dict(connection.find_many("rollup_1h", ("series_id", "t0_ns"), ("t0_ns", "count"), keys))
    some = np.array(
        [more.get(key[1], 0) <= count for key, count in zip(keys, made.counts.tolist(), strict=True)]
    )
    if not some.any():
        return 0
    rows = list(made.take(some).rows_of(owners[some], connection.reals))
    connection.replace_many("rollup_1h", ("series_id", "t0_ns"), rollup.COLUMNS, rows)
    return len(rows)
