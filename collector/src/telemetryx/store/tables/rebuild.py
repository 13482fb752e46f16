"""Has rollups computed anew that don't show what they should: minutes from raw data, hours from their minutes.

What raw data is left of is marked as dirty: whoever owns the store's upkeep computes it, and readers take raw data until then. Hours from before the raw
horizon are written here, from the minutes that are kept. Minutes from before it can't be computed any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from telemetryx.store.tables import hourly, hours, rolled, rollup, sketches
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.hours import Fault
from telemetryx.store.tables.rollup import HOUR

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
    some = hours.faults(connection, sketched=sketched)
    return [*rolled.minutes(connection), *(one for one in some if one.remedy == hours.REBUILD)]


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
            written += hourly.compute(connection, one.series, (start, min(end, start + _AT_ONCE)))
    return Done(len(dirty), written)
