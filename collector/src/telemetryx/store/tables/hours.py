"""Do the rollups of hours show what those of their minutes do? Compared wherever minutes are kept, also where raw data is gone.

Minutes are read in order, some at a time, and reduced to hours as refresh.py does it. An hour with something dirty in it needn't show it yet. Before the
time from which minutes are kept some of an hour's may be gone. A store that an older collector had doesn't know that time before the first round of
retention: the hour in which a series' oldest minute lies is then compared no further than that it must be there.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import numpy as np

from telemetryx.store.tables import alike, hourly, reading, rollup, sketches, sketching, sound
from telemetryx.store.tables.alike import Mask
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.rollup import HOUR, Many, Parts

REBUILD: Final = "`telemetryx store rebuild` has what is left of it computed anew"
LOST: Final = "what it was computed from is gone: a backup alone has it"
_FEWER: Final = "some of its minutes are gone, or were changed: a backup alone has them"
_UNDECIDED: Final = "which of the two is right isn't known, for raw data is gone: a backup alone tells"
AT_ONCE: Final = 10_000
"""Minutes that are held at once."""
_KEY: Final = ("series_id", "t0_ns")
_ORPHANS: Final = 1_000
"""Hours without a minute that are named at most."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A stretch of a series' rollups that don't show what they should, and what is wrong with them."""

    series: int
    t0_ns: int
    t1_ns: int
    said: str
    times: Sequence[int] = field(default=(), compare=False)
    """Where in it, when not everywhere."""
    remedy: str = REBUILD


def problems(
    connection: Database, *, sketched: bool, named: Collection[tuple[int, int]] = frozenset()
) -> list[str]:
    """Return what is wrong with hours, a sentence a series and kind of fault, but for those (series and time) that are named already."""
    first: dict[tuple[int, str], str] = {}
    for one in faults(connection, sketched=sketched):
        if (one.series, one.t0_ns) in named:
            continue
        first.setdefault(
            (one.series, one.said + one.remedy), f"{one.said}, first at {one.t0_ns} ns; {one.remedy}"
        )
    return [*first.values(), *_orphans(connection)]


def faults(connection: Database, *, sketched: bool) -> Iterator[Fault]:
    """Yield the hours that are missing or don't show what their minutes do."""
    oldest: dict[int, int] = {}
    for block in _blocks(connection, sketched=sketched):
        hours = block[1].times // HOUR * HOUR
        for series, hour in zip(block[0].tolist(), hours.tolist(), strict=True):
            oldest.setdefault(series, hour)
        for series, hour, what, remedy in _compared(connection, block, oldest, sketched=sketched):
            yield Fault(series, hour, hour + HOUR, f"rollup_1h: series {series} {what}", remedy=remedy)


def _blocks(connection: Database, *, sketched: bool) -> Iterator[Many]:
    """Yield minutes, some at a time, ascending by series and time; hours are never cut."""
    columns = rollup.COLUMNS if sketched else rollup.COLUMNS[:-1]
    kept_from = rollup.hours_from(connection)
    rows = iter(
        connection.stream(
            f"SELECT {', '.join(columns)} FROM rollup_1m WHERE t0_ns >= ? ORDER BY series_id, t0_ns",
            (kept_from,),
        )
    )
    carried: list[Sequence[Any]] = []
    while some := list(islice(rows, AT_ONCE)):
        some = carried + some
        carried = []
        if len(some) >= AT_ONCE:
            last = _hour_of(some[-1])
            while some and _hour_of(some[-1]) == last:
                carried.append(some.pop())
            carried.reverse()
        if some:
            yield _many(some)
    if carried:
        yield _many(carried)


def _hour_of(row: Sequence[Any]) -> tuple[int, int]:
    return int(row[0]), int(row[1]) // HOUR


def _many(rows: Sequence[Sequence[Any]]) -> Many:
    series, *rest = zip(*rows, strict=True)
    return np.array(series, np.int64), Parts.of_columns(rest)


def _compared(
    connection: Database, minutes: Many, oldest: dict[int, int], *, sketched: bool
) -> Iterator[tuple[int, int, str, str]]:
    """Yield series, hour, what is wrong and what helps. Where minutes are wrong themselves, which is named elsewhere, their hour needn't show them."""
    series, made = rollup.reduce_many(*minutes, HOUR)
    keys = list(zip(series.tolist(), made.times.tolist(), strict=True))
    columns = rollup.COLUMNS if sketched else rollup.COLUMNS[:-1]
    there = {tuple(row[:2]): row for row in connection.find_many("rollup_1h", _KEY, columns, keys)}
    settled = _settled(connection, series, made)
    absent = np.array([key not in there for key in keys], np.bool_)
    for at in np.flatnonzero(settled & absent).tolist():
        yield (*keys[at], "lacks an hour whose minutes are there", REBUILD)
    full = settled & ~absent & _full(connection, keys, oldest)
    if not full.any():
        return
    places = np.flatnonzero(full).tolist()
    _, kept = _many([there[keys[at]] for at in places])
    some = made.take(full)
    if sketched:
        _forgive(minutes, some, kept, series[full])
    of = alike.Kept(HOUR, sketching.unsketched_to(connection))
    differ = ~alike.equal(some, kept, of)
    if not differ.any():
        return
    owned, hurt = (series[full], some), hourly.hurt_hours(minutes)
    helped = (some.times + HOUR > rollup.raw_horizon(connection)) | hourly.computable(owned, kept, hurt)
    differ &= helped | sound.doubtful(kept) | ~hourly.among(owned, hurt)
    for at in np.flatnonzero(differ).tolist():
        other = _FEWER if kept.counts[at] > some.counts[at] else _UNDECIDED
        remedy = REBUILD if helped[at] else other
        yield (*keys[places[at]], "has an hour that shows something else than its minutes", remedy)


def _settled(connection: Database, series: Any, hours: Parts) -> Mask:  # noqa: ANN401 - a column
    """Leave out hours with something dirty."""
    keep = np.ones(len(hours), np.bool_)
    for marks, part in reading.portions(sorted(set(series.tolist()))):
        for one, t0, t1 in connection.execute(
            f"SELECT series_id, t0_ns, t1_ns FROM dirty WHERE series_id IN ({marks}) AND t1_ns > ? AND t0_ns < ?",
            (*part, int(hours.times.min()), int(hours.times.max()) + HOUR),
        ):
            keep &= (series != one) | (hours.times + HOUR <= t0) | (hours.times >= t1)
    return keep


def _full(connection: Database, keys: Sequence[tuple[int, int]], oldest: dict[int, int]) -> Mask:
    """Tell of which hours all minutes are kept."""
    kept_from = rollup.minutes_from(connection)
    if kept_from is not None:
        return np.array([hour >= kept_from for _, hour in keys], np.bool_)
    if rollup.raw_horizon(connection) <= rollup.NEVER:
        return np.ones(len(keys), np.bool_)
    return np.array([hour > oldest[series] for series, hour in keys], np.bool_)


def _forgive(minutes: Many, made: Parts, kept: Parts, series: Any) -> None:  # noqa: ANN401 - a column
    """Take an hour's sketch for right where that of one of its minutes is damaged, which is named elsewhere."""
    owners, parts = minutes
    assert parts.sketches is not None  # noqa: S101 - they were read
    assert made.sketches is not None  # noqa: S101 - likewise
    assert kept.sketches is not None  # noqa: S101 - likewise
    wrong = np.concatenate(sketches.faults(parts.sketches.packed_of(len(parts)), parts.figures))
    if not len(wrong):
        return
    hurt = {(int(owners[at]), int(parts.times[at]) // HOUR * HOUR) for at in wrong.tolist()}
    blobs, there = made.sketches.blobs(len(made)), kept.sketches.blobs(len(kept))
    for at, key in enumerate(zip(series.tolist(), made.times.tolist(), strict=True)):
        if key in hurt:
            blobs[at] = there[at]
    made.sketches = sketches.of_blobs(blobs)


def _orphans(connection: Database) -> list[str]:
    """Name hours without a minute, where minutes are kept: where that isn't noted, behind the series' first one."""
    noted = rollup.minutes_from(connection)
    kept_from = max(rollup.NEVER if noted is None else noted, rollup.hours_from(connection))
    behind = (
        "AND EXISTS (SELECT 1 FROM rollup_1m AS before WHERE before.series_id = hour.series_id AND before.t0_ns < hour.t0_ns) "
        if noted is None
        else ""
    )
    found = connection.execute(
        "SELECT series_id, t0_ns FROM rollup_1h AS hour WHERE t0_ns >= ? AND NOT EXISTS (SELECT 1 FROM rollup_1m AS own "
        f"WHERE own.series_id = hour.series_id AND own.t0_ns >= hour.t0_ns AND own.t0_ns < hour.t0_ns + {HOUR}) "
        f"{behind}AND NOT EXISTS (SELECT 1 FROM dirty WHERE dirty.series_id = hour.series_id AND dirty.t1_ns > hour.t0_ns "
        f"AND dirty.t0_ns < hour.t0_ns + {HOUR}) ORDER BY series_id, t0_ns LIMIT {_ORPHANS}",
        (kept_from,),
    ).fetchall()
    return [f"rollup_1h: series {series} has an hour without minutes at {hour} ns" for series, hour in found]
