"""The store's tables for Polars: read only when a statement asks for them, piece by piece, on one snapshot.

A statement's conditions on times and series are applied before anything is read (pushdown.py), and of the columns only
those that it needs are made.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias, TypeVar

import polars as pl
from polars.io.plugins import register_io_source

from telemetryx.cli.sql import pushdown
from telemetryx.export.frames import events_frame
from telemetryx.export.frames import schema as schema_of
from telemetryx.export.rows import Piece, event_pages, matching, pieces_of
from telemetryx.export.text import SERIES, head
from telemetryx.export.wanted import Wanted
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.rollup import raw_horizon
from telemetryx.types import Event, Series

T = TypeVar("T")
Frame: TypeAlias = Any
"""A Polars frame, untyped here."""

#: Series that are read together.
TOGETHER: Final = 500
ABOUT_SERIES: Final[dict[str, Any]] = {"series": pl.Int64, **dict.fromkeys(SERIES, pl.String)}
AGGREGATES: Final = {"count": pl.UInt64, **dict.fromkeys(("sum", "min", "max", "first", "last"), pl.Float64)}
Level = Literal["1m", "1h"]
LEVELS: Final[tuple[Level, ...]] = ("1m", "1h")
_OWN: Final[dict[str, dict[str, Any]]] = {
    "samples": {"time": pushdown.TIME, "value": pl.Float64, "flags": pl.UInt8},
    "windows": {"start": pushdown.TIME, "length": pl.Duration("ns"), **AGGREGATES},
    "rollups": {"step": pl.String, "start": pushdown.TIME, "length": pl.Duration("ns"), **AGGREGATES},
}
_TYPES: Final[dict[str, Any]] = {**ABOUT_SERIES, **_OWN["rollups"], **_OWN["samples"]}
SCHEMAS: Final[Mapping[str, dict[str, Any]]] = {
    "series": ABOUT_SERIES,
    **{name: {"series": pl.Int64, **own, **ABOUT_SERIES} for name, own in _OWN.items()},
    "events": schema_of("events"),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What Polars asks of a table: these columns, rows that meet a condition, at most so many."""

    columns: Sequence[str] | None
    condition: Any
    rows: int | None


class Tables:
    """Reads one store for one statement. Polars calls from threads of its own: they take turns."""

    def __init__(self, database: Database, wanted: Wanted) -> None:
        """Take a store on a snapshot, and what of it the tables show: its kind doesn't count."""
        self._database = database
        self._wanted = wanted
        self._turn = threading.Lock()
        self._ended = False
        self.failure: Exception | None = None
        """What ended a read. Polars wraps it in a text of its own."""
        self.deleted_before: int | None = None
        """Raw data was asked for from before this time, from before which it is deleted."""

    def frames(self) -> dict[str, Frame]:
        """Return the tables, none of them read."""
        sources: dict[str, Callable[[Asked], Iterator[Frame]]] = {
            "series": self._series,
            "samples": lambda asked: self._rows("samples", "time", asked),
            "windows": lambda asked: self._rows("windows", "start", asked),
            "rollups": self._rollups,
            "events": self._events,
        }
        return {
            name: register_io_source(self._scan(source), schema=SCHEMAS[name], explain_name=name)
            for name, source in sources.items()
        }

    def end(self, seconds: float) -> bool:
        """Read nothing more; tell whether what was being read came to its end in time."""
        self._ended = True
        if not self._turn.acquire(timeout=seconds):
            return False
        self._turn.release()
        return True

    def _scan(self, source: Callable[[Asked], Iterator[Frame]]) -> Callable[..., Iterator[Frame]]:
        def scan(
            columns: list[str] | None,
            condition: Any,  # noqa: ANN401
            rows: int | None,
            _batch: int | None,
        ) -> Iterator[Frame]:
            left = rows
            frames = source(Asked(columns, condition, rows))
            while (frame := self._next(lambda: next(frames, None))) is not None:
                some = frame if condition is None else frame.filter(condition)
                some = some if left is None else some.head(left)
                left = None if left is None else left - some.height
                # Without a column only the height counts, and a frame without columns has none.
                yield some if columns is None else some.select(columns or some.columns[:1])
                if left == 0:
                    return

        return scan

    def _next(self, work: Callable[[], T]) -> T | None:
        """Read while no other does; nothing once it has ended."""
        with self._turn:
            if self._ended:
                return None
            try:
                return work()
            except Exception as error:
                self.failure = error
                raise

    def _matching(self, conditions: Sequence[Any]) -> tuple[list[Series], Frame]:
        """Find the series that a condition leaves, and what their rows have in common."""
        found = matching(self._database, self._wanted)
        rows = pl.DataFrame(
            [(one.id, *head(one)) for one in found], schema=ABOUT_SERIES, orient="row"
        ).with_row_index("at")
        for part in pushdown.about(conditions, ABOUT_SERIES):
            rows = rows.filter(part)
        return [found[at] for at in rows["at"].to_list()], rows.drop("at")

    def _series(self, asked: Asked) -> Iterator[Frame]:
        yield self._matching(pushdown.parts(asked.condition))[1]

    def _rows(
        self, kind: Literal["samples", "windows", "rollups"], time: str, asked: Asked, level: Level = "1m"
    ) -> Iterator[Frame]:
        conditions = pushdown.parts(asked.condition)
        start, end = pushdown.span(conditions, time, (self._wanted.start_ns, self._wanted.end_ns))
        if start == end:
            return
        if kind != "rollups" and start < (horizon := raw_horizon(self._database)):
            self.deleted_before = horizon
        series, heads = self._matching(conditions)
        wanted = replace(self._wanted, kind=kind, start_ns=start, end_ns=end, level=level)
        needed = _needed(asked, SCHEMAS[kind])
        for piece in pieces_of(self._database, wanted, series, TOGETHER, held=True):
            # A piece's series are a part of all: its index counts within the part.
            begun = (piece.done - 1) // TOGETHER * TOGETHER
            yield _frame(piece, heads, begun + _offset(piece, series, begun), level, needed)

    def _rollups(self, asked: Asked) -> Iterator[Frame]:
        steps = pl.DataFrame({"step": list(LEVELS)})
        for part in pushdown.about(pushdown.parts(asked.condition), {"step"}):
            steps = steps.filter(part)
        for level in LEVELS:
            if level in steps["step"]:
                yield from self._rows("rollups", "start", asked, level)

    def _events(self, asked: Asked) -> Iterator[Frame]:
        conditions = pushdown.parts(asked.condition)
        start, end = pushdown.span(conditions, "time", (self._wanted.start_ns, self._wanted.end_ns))
        wanted = Wanted(
            "events",
            start,
            end,
            agent=pushdown.equal(conditions, "agent"),
            source=pushdown.equal(conditions, "source"),
            min_severity=pushdown.at_least(conditions, "severity"),
        )
        page: list[Event]
        for page in event_pages(self._database, wanted, held=True):
            yield events_frame(page)


def _needed(asked: Asked, schema: Mapping[str, Any]) -> list[str]:
    """Return the columns that are asked for or that the condition looks at."""
    if asked.columns is None:
        return list(schema)
    looked = set() if asked.condition is None else set(asked.condition.meta.root_names())
    return [name for name in schema if name in {*asked.columns, *looked}]


def _offset(piece: Piece, series: Sequence[Series], begun: int) -> int:
    """Return where a piece's first series stands among those of its part."""
    first = piece.series[0].id
    return next(at for at, one in enumerate(series[begun : begun + TOGETHER]) if one.id == first)


def _frame(piece: Piece, heads: Frame, begun: int, level: str, needed: Sequence[str]) -> Frame:
    """Make the rows of a piece: its own columns, and those of its series."""
    columns = {name: piece.columns[name] for name in piece.columns if name in needed}
    shared = [name for name in needed if name in ABOUT_SERIES] or ["series"]
    rows = heads.select(shared)[begun + piece.index].with_columns(
        *(pl.Series(name, values) for name, values in columns.items()), pl.lit(level).alias("step")
    )
    return rows.select(pl.col(name).cast(_TYPES[name]) for name in needed or ["series"])
