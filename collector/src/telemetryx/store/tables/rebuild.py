"""Has rollups computed anew that don't show what they should: minutes from raw data, hours from their minutes.

What raw data is left of is marked as dirty: whoever owns the store's upkeep computes it, and readers take raw data until then. Hours from before the raw
horizon are written here, from the minutes that are kept. Minutes from before it can't be computed any more.

A collector may be at work meanwhile, and its agents wait for whoever writes: so it is done in pieces of some milliseconds, each a transaction.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from telemetryx.store.tables import hourly, hours, rolled, rollup, sketches
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.hours import Fault
from telemetryx.store.tables.rollup import HOUR

_AT_ONCE: Final = 48
"""Hours of a piece,"""
_STRETCHES: Final = 12
"""and stretches of it, at most: each is looked up by itself."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of it: stretches of series."""

    marked: int
    """Stretches that the store's upkeep computes anew,"""
    hours: int
    """and hours that were computed here."""

    def __add__(self, other: "Done") -> "Done":
        """Count both."""
        return Done(self.marked + other.marked, self.hours + other.hours)


def plan(connection: Database) -> list[Fault]:
    """Look for what is to be computed anew; on a snapshot. Stretches of a series that touch are one."""
    sketched = sketches.available() and "sketch" in connection.columns("rollup_1m")
    some = (one for one in hours.faults(connection, sketched=sketched) if one.remedy == hours.REBUILD)
    return [*rolled.minutes(connection), *_joined(some)]


def _joined(some: Iterable[Fault]) -> Iterator[Fault]:
    last: Fault | None = None
    for one in some:
        if last is not None and (last.series, last.t1_ns) == (one.series, one.t0_ns):
            last = Fault(last.series, last.t0_ns, one.t1_ns, last.said)
            continue
        if last is not None:
            yield last
        last = one
    if last is not None:
        yield last


def pieces(faults: Sequence[Fault]) -> Iterator[list[Fault]]:
    """Cut it, at whole hours, into what one transaction does."""
    piece: list[Fault] = []
    held = 0
    for one in faults:
        start = one.t0_ns
        while start < one.t1_ns:
            end = min(one.t1_ns, (start // HOUR + _AT_ONCE - held) * HOUR)
            piece.append(Fault(one.series, start, end, one.said))
            held += -(-end // HOUR) - start // HOUR
            start = end
            if held >= _AT_ONCE or len(piece) >= _STRETCHES:
                yield piece
                piece, held = [], 0
    if piece:
        yield piece


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
        span = (first // HOUR * HOUR, min(-(-one.t1_ns // HOUR) * HOUR, -(-horizon // HOUR) * HOUR))
        if span[0] < span[1]:
            written += hourly.compute(connection, one.series, span)
    return Done(len(dirty), written)
