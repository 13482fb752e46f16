"""Runs an export: from an open store to an open file, telling how far it is."""

from collections.abc import Callable
from typing import BinaryIO, Protocol

from telemetryx.export.rows import Piece, count, event_pages, pieces
from telemetryx.export.text import CsvWriter, NdjsonWriter
from telemetryx.export.wanted import NEED_POLARS, Form, Kind, Wanted
from telemetryx.store.tables.database import Database
from telemetryx.types import Event

Progress = Callable[[int, int, int], None]
"""Told the rows written, the series done and how many there are (0: not known)."""


class Writer(Protocol):
    """One format."""

    def write(self, piece: Piece) -> None:
        """Write rows of series."""
        ...

    def events(self, page: list[Event]) -> None:
        """Write events."""
        ...

    def end(self) -> None:
        """Complete it."""
        ...


def export(database: Database, wanted: Wanted, form: Form, out: BinaryIO, progress: Progress) -> int:
    """Write everything wanted; return the number of rows. `database` is on a snapshot."""
    writer = _writer(form, out, wanted.kind)
    rows = 0
    if wanted.kind == "events":
        for page in event_pages(database, wanted):
            writer.events(page)
            rows += len(page)
            progress(rows, 0, 0)
    else:
        total = count(database, wanted)
        for piece in pieces(database, wanted):
            writer.write(piece)
            rows += len(piece)
            progress(rows, piece.done, total)
    writer.end()
    return rows


def _writer(form: Form, out: BinaryIO, kind: Kind) -> Writer:
    if form in NEED_POLARS:
        from telemetryx.export import frames  # noqa: PLC0415  Polars is heavy, and not always installed

        return frames.ArrowWriter(out, kind) if form == "arrow" else frames.ParquetWriter(out, kind)
    return CsvWriter(out, kind) if form == "csv" else NdjsonWriter(out, kind)
