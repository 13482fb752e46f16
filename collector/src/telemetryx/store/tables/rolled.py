"""Do rollups show what they should? Their rows' own figures and sketches (sound.py), and from the raw horizon on minutes against raw data; hours.py compares hours with minutes.

Before the raw horizon rollups are all there is, and only what a row says itself can be compared.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np

from telemetryx.errors import StoreDamaged
from telemetryx.store.tables import (
    alike,
    chunks,
    hourly,
    hours,
    ranges,
    reading,
    refresh,
    rollup,
    sketches,
    sketching,
    sound,
    spans,
)
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.hours import LOST, REBUILD, Fault
from telemetryx.store.tables.rollup import HOUR, MINUTE, Many, Parts

_AT_ONCE: Final = 10_000
"""Rollups whose sketches are decoded at once."""
_UNITS: Final = {"rollup_1m": MINUTE, "rollup_1h": HOUR}


def problems(connection: Database) -> list[str]:
    """Return the problems found, as sentences. What waits to be computed anew is left out."""
    named = dict[str, set[tuple[int, int]]](rollup_1m=set(), rollup_1h=set())
    found = _rollup_rows(connection, named)
    # What is no number in a row is named by now.
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        for fault in minutes(connection):
            left = [time for time in fault.times if (fault.series, time) not in named["rollup_1m"]]
            found += [f"{fault.said}, first at {time} ns; {REBUILD}" for time in left[:1]]
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        found += hours.problems(connection, sketched=_has_sketches(connection), named=named["rollup_1h"])
    return found


def _waits(connection: Database, table: str, series: int, time: int) -> bool:
    """Tell whether a row is to be computed anew."""
    end, horizon = time + _UNITS[table], rollup.raw_horizon(connection)
    return (
        end > horizon
        and connection.execute(
            "SELECT 1 FROM dirty WHERE series_id = ? AND t1_ns > ? AND t0_ns < ? LIMIT 1",
            (series, max(time, horizon), end),
        ).fetchone()
        is not None
    )


def _remedy(connection: Database, table: str, series: int, time: int) -> str:
    """Return what can be done about a row that is wrong: of what is gone nothing is computed, nor an hour of minutes that are wrong themselves."""
    end = time + _UNITS[table]
    kept = end > rollup.raw_horizon(connection)
    if table == "rollup_1h" and not kept:
        kept = hourly.helps(connection, series, (time, end))
    return REBUILD if kept else LOST


def _has_sketches(connection: Database) -> bool:
    """Tell whether sketches can be compared: a store of an older collector, which is only read, has none."""
    return sketches.available() and "sketch" in connection.columns("rollup_1m")


@dataclass(slots=True)
class _Said:
    """What is wrong with some rows of a series: the first of them, how many there are, and where the last is."""

    first_ns: int
    rows: int = 0
    last_ns: int = 0

    def add(self, time_ns: int) -> None:
        """Count one."""
        self.first_ns, self.last_ns = min(self.first_ns, time_ns), max(self.last_ns, time_ns)
        self.rows += 1

    def __str__(self) -> str:
        """Tell of the others."""
        more = self.rows - 1
        return f" (so it is with {more:,} more up to {self.last_ns} ns)" if more else ""


def _rollup_rows(connection: Database, named: Mapping[str, set[tuple[int, int]]]) -> list[str]:
    """Compare the figures of each row with each other, and with its sketch; a sentence a series, kind of fault and remedy.

    These rows are entered into `named`: all that is wrong with them is said then.
    """
    problems: list[str] = []
    sketched = "sketch" in connection.columns("rollup_1m")
    columns = rollup.COLUMNS if sketched else rollup.COLUMNS[:-1]
    for table in _UNITS:
        if sketched and not sketches.available() and _any_sketch(connection, table):
            problems.append(f"the sketches of {table} can't be checked without the compiled module")
        said: dict[tuple[int, str, str], _Said] = {}
        rows = iter(connection.stream(f"SELECT {', '.join(columns)} FROM {table}"))
        while some := list(islice(rows, _AT_ONCE)):
            try:
                for series, time, what in _wrong(some):
                    if _waits(connection, table, series, time):
                        continue
                    named[table].add((series, time))
                    key = (series, what, _remedy(connection, table, series, time))
                    said.setdefault(key, _Said(time)).add(time)
            except (TypeError, ValueError, OverflowError, AttributeError) as error:
                first, last = some[0], some[-1]
                problems.append(
                    f"{table}: between series {first[0]} at {first[1]} ns and series {last[0]} at {last[1]} ns something "
                    f"is no number, or no sketch: {error}"
                )
        problems += [
            f"{table}: {what.format(f'of series {series} at {one.first_ns} ns')}{one}; {remedy}"
            for (series, what, remedy), one in said.items()
        ]
    return problems


def _any_sketch(connection: Database, table: str) -> bool:
    return (
        connection.execute(f"SELECT 1 FROM {table} WHERE sketch IS NOT NULL LIMIT 1").fetchone() is not None
    )


def _wrong(rows: Sequence[Sequence[Any]]) -> Iterator[tuple[int, int, str]]:
    """Yield series and time of the rows that are wrong by themselves, and what is wrong."""
    series, *rest = zip(*rows, strict=True)
    parts = rollup.Parts.of_columns(rest)
    for what, places in sound.faults(parts):
        for at in places.tolist():
            yield int(series[at]), int(parts.times[at]), what


def minutes(connection: Database) -> Iterator[Fault]:
    """From the raw horizon on, compute the rollups of minutes anew, and compare; but where they needn't show everything yet."""
    spans_of = [
        connection.execute(f"SELECT min({first}), max({last}) FROM {table}").fetchone()
        for table, first, last in (
            ("chunk", "t0_ns", "t1_ns"),
            ("rollup_1m", "t0_ns", "t0_ns"),
            ('"window"', "start_ns", "start_ns"),
        )
    ]
    there = [(int(first), int(last)) for first, last in spans_of if first is not None]
    # From the oldest rollup on: where those are kept for a shorter time than raw data, older ones are gone.
    oldest = spans_of[1][0]
    if oldest is None:
        return
    span = (
        max(int(oldest), rollup.raw_horizon(connection)),
        (max(last for _, last in there) // MINUTE + 1) * MINUTE,
    )
    if span[0] >= span[1]:
        return
    left = [row[0] for row in connection.execute("SELECT id FROM series ORDER BY id")]
    while left:
        chosen, _ = refresh.affordable(connection, left[: rollup.TOGETHER], [span])
        left = left[len(chosen) :]
        # What can't be decoded is named by verify, and what is no number by _rollup_sketches.
        with contextlib.suppress(StoreDamaged, TypeError, ValueError, *chunks.UNREADABLE):
            yield from _compared(connection, chosen, span)


def _compared(connection: Database, members: Sequence[int], span: spans.Span) -> list[Fault]:
    sketched = _has_sketches(connection)
    made = rollup.ascending(refresh.minutes(connection, members, *span, sketched=sketched))
    kept = rollup.stored(connection, "rollup_1m", members, *span, sketched=sketched)
    of = alike.Kept(MINUTE, sketching.unsketched_to(connection))
    agents = reading.agents_of(connection, members)
    waits = ranges.unshown(connection, agents, span)
    found = []
    for agent, own in agents.items():
        for series in own:
            one, other = (_settled(_of(many, series), waits[agent]) for many in (made, kept))
            if alike.same(one, other, of):
                continue
            times = alike.differences(one, other, of)
            said = f"series {series}: its rollups show something else than its chunks and windows hold"
            found.append(Fault(series, int(times[0]), int(times[-1]) + MINUTE, said, times.tolist()))
    return found


def _of(many: Many, series: int) -> Parts:
    first, last = np.searchsorted(many[0], (series, series + 1))
    return many[1].take(slice(int(first), int(last)))


def _settled(parts: Parts, waits: Sequence[spans.Span]) -> Parts:
    """Leave out the minutes that rollups may not show yet."""
    keep = np.ones(len(parts), np.bool_)
    for start, end in waits:
        keep &= (parts.times + MINUTE <= start) | (parts.times >= end)
    return parts.take(keep)
