"""CSV and NDJSON, written a column at once: what a series' rows have in common is written once and joined to each.

Every text is quoted by the format's own rules, and read back as it was: nothing is left out or replaced.
"""

import csv
import io
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO, Final

import numpy as np
import orjson

from telemetryx.export.rows import Piece
from telemetryx.export.wanted import Kind
from telemetryx.promql.number import texts
from telemetryx.types import Event, Series

SERIES: Final = ("agent", "name", "site", "device", "labels", "unit")
_AGGREGATES: Final = ("count", "sum", "min", "max", "first", "last")
COLUMNS: Final[dict[Kind, tuple[str, ...]]] = {
    "samples": ("time", *SERIES, "value", "flags"),
    "windows": ("start", "length", *SERIES, *_AGGREGATES),
    "rollups": ("start", "length", *SERIES, *_AGGREGATES),
    "events": ("time", "agent", "source", "severity", "body", "attributes"),
}
_TIMES: Final = frozenset({"time", "start"})
Cells = Callable[[str, Any], list[bytes]]
_BEFORE: Final = ("time", "start", "length")


def labels_json(series: Series) -> str:
    """Write labels as JSON, sorted."""
    return orjson.dumps(dict(series.labels), option=orjson.OPT_SORT_KEYS).decode()


def head(series: Series) -> tuple[str | None, ...]:
    """Return what a series' rows have in common, in the order of SERIES."""
    return (
        series.agent,
        series.name,
        series.labels.get("site"),
        series.labels.get("device"),
        labels_json(series),
        series.unit,
    )


def event_row(event: Event) -> tuple[Any, ...]:
    """Return an event's cells; its time is still nanoseconds."""
    return (
        event.time_ns,
        event.agent,
        event.source,
        event.severity,
        event.body,
        orjson.dumps(dict(event.attributes), option=orjson.OPT_SORT_KEYS).decode(),
    )


def times(column: Any) -> list[bytes]:  # noqa: ANN401  a column of nanoseconds
    """Write times as RFC 3339, to the nanosecond."""
    written = np.datetime_as_string(np.asarray(column, np.int64).astype("datetime64[ns]"), unit="ns")
    return [one + b"Z" for one in written.astype("S").tolist()]


def cells(name: str, column: Any) -> list[bytes]:  # noqa: ANN401  any column
    """Write one column: a length is in seconds."""
    if name in _TIMES:
        return times(column)
    if name == "length":
        return texts(np.asarray(column, np.float64) / 1e9)
    return texts(np.asarray(column, np.float64))


class CsvWriter:
    """RFC 4180 with a head line; lines end with a line feed."""

    def __init__(self, out: BinaryIO, kind: Kind) -> None:
        """Write the head."""
        self._out = out
        self._kind = kind
        out.write(_csv([COLUMNS[kind]]))

    def write(self, piece: Piece) -> None:
        """Write rows."""
        common = [_csv([head(one)]).rstrip(b"\n") for one in piece.series]
        lines = _rows(piece, common, b",", cells)
        self._out.write(b"\n".join(lines) + b"\n")

    def events(self, page: Sequence[Event]) -> None:
        """Write events."""
        moments = times([event.time_ns for event in page])
        rows = ([moment.decode(), *event_row(event)[1:]] for moment, event in zip(moments, page, strict=True))
        self._out.write(_csv(rows))

    def end(self) -> None:
        """Write nothing more."""


class NdjsonWriter:
    """One JSON object a line; NaN and infinities, which JSON lacks, are texts."""

    def __init__(self, out: BinaryIO, kind: Kind) -> None:
        """Write nothing yet."""
        self._out = out
        self._kind = kind

    def write(self, piece: Piece) -> None:
        """Write rows."""
        common = []
        for one in piece.series:
            pairs = dict(zip(SERIES, head(one), strict=True))
            common.append(orjson.dumps({**pairs, "labels": dict(one.labels)})[1:-1])
        self._out.write(b"}\n".join(_rows(piece, common, b",", _json_cells, opening=b"{")) + b"}\n")

    def events(self, page: Sequence[Event]) -> None:
        """Write events."""
        moments = times([event.time_ns for event in page])
        for moment, event in zip(moments, page, strict=True):
            row = dict(zip(COLUMNS["events"], event_row(event), strict=True))
            row |= {"time": moment.decode(), "attributes": dict(event.attributes)}
            self._out.write(orjson.dumps(row) + b"\n")

    def end(self) -> None:
        """Write nothing more."""


def _json_cells(name: str, column: Any) -> list[bytes]:  # noqa: ANN401
    found = cells(name, column)
    if name in _TIMES:
        found = [b'"' + one + b'"' for one in found]
    else:
        numbers = np.asarray(column, np.float64)
        for at in np.flatnonzero(~np.isfinite(numbers)).tolist():
            found[at] = b'"' + found[at] + b'"'
        # Many readers take -0 for a whole number, which has no sign of its own.
        for at in np.flatnonzero((numbers == 0) & np.signbit(numbers)).tolist():
            found[at] = b"-0.0"
    key = orjson.dumps(name) + b":"
    return [key + one for one in found]


def _rows(
    piece: Piece, common: Sequence[bytes], mark: bytes, write: Cells, opening: bytes = b""
) -> Iterable[bytes]:
    """Join the columns before a series' own, its own, and those after."""
    columns = {name: write(name, column) for name, column in piece.columns.items()}
    shared = np.array([mark + one + mark for one in common], object)[piece.index].tolist()
    before = [columns[name] for name in _BEFORE if name in columns]
    after = [columns[name] for name in columns if name not in _BEFORE]
    joined: Iterable[bytes] = map(operator.add, map(mark.join, zip(*before, strict=True)), shared)
    joined = map(operator.add, joined, map(mark.join, zip(*after, strict=True)))
    return (opening + one for one in joined) if opening else joined


def _csv(rows: Iterable[Sequence[Any]]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode()
