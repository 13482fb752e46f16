"""Arrow and Parquet, by Polars: one schema for all pieces, nothing held but the piece at hand.

Arrow: one IPC stream. Polars writes a whole stream for each frame (schema, batches, end), so the later ones' schemas and all
ends but the last are left out. Parquet: its footer stands at the end, and Polars writes files whole; so each piece becomes a
file in a temporary folder, and these are streamed into one.
"""

import io
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import polars as pl

from telemetryx.export.rows import Piece
from telemetryx.export.text import COLUMNS, SERIES, event_row, head
from telemetryx.export.wanted import Kind
from telemetryx.types import Event

_TIME: Final = pl.Datetime("ns", "UTC")
_FLOATS: Final = dict.fromkeys(("sum", "min", "max", "first", "last"), pl.Float64)
_TYPES: Final[dict[str, Any]] = {
    "time": _TIME,
    "start": _TIME,
    "length": pl.Duration("ns"),
    "value": pl.Float64,
    "flags": pl.UInt8,
    "count": pl.UInt64,
    "severity": pl.Int32,
    **_FLOATS,
}
#: The end of an IPC stream.
_END: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_PREFIX: Final = 8


def schema(kind: Kind) -> dict[str, Any]:
    """Return the columns' types."""
    return {name: _TYPES.get(name, pl.String) for name in COLUMNS[kind]}


def frame(piece: Piece, kind: Kind) -> Any:  # noqa: ANN401  Polars is untyped here
    """Make a frame of rows."""
    heads = pl.DataFrame(
        [head(one) for one in piece.series], schema=dict.fromkeys(SERIES, pl.String), orient="row"
    )
    rows = pl.DataFrame(piece.columns).hstack(heads[piece.index])
    return rows.select(pl.col(name).cast(kinds) for name, kinds in schema(kind).items())


def events_frame(page: Sequence[Event]) -> Any:  # noqa: ANN401
    """Make a frame of events."""
    types = schema("events")
    raw = {**types, "time": pl.Int64}
    rows = pl.DataFrame([event_row(event) for event in page], schema=raw, orient="row")
    return rows.with_columns(pl.col("time").cast(_TIME))


class ArrowWriter:
    """An Arrow IPC stream."""

    def __init__(self, out: BinaryIO, kind: Kind) -> None:
        """Write the schema: an export without a row is a stream, too."""
        self._out = out
        self._kind = kind
        out.write(self._stream(pl.DataFrame(schema=schema(kind)))[0])

    def write(self, piece: Piece) -> None:
        """Write rows."""
        self._out.write(self._stream(frame(piece, self._kind))[1])

    def events(self, page: Sequence[Event]) -> None:
        """Write events."""
        self._out.write(self._stream(events_frame(page))[1])

    def end(self) -> None:
        """End the stream."""
        self._out.write(_END)

    @staticmethod
    def _stream(rows: Any) -> tuple[bytes, bytes]:  # noqa: ANN401
        """Return a frame's schema message, and its batches without the end."""
        held = io.BytesIO()
        rows.write_ipc_stream(held, compression="zstd", compat_level=pl.CompatLevel.oldest())
        data = held.getvalue().removesuffix(_END)
        size = _PREFIX + int.from_bytes(data[4:_PREFIX], "little")
        return data[:size], data[size:]


class ParquetWriter:
    """A Parquet file."""

    def __init__(self, out: BinaryIO, kind: Kind) -> None:
        """Make the folder."""
        self._out = out
        self._kind = kind
        self._folder = tempfile.TemporaryDirectory(prefix="telemetryx-export-")
        self._parts: list[Path] = []

    def write(self, piece: Piece) -> None:
        """Write rows."""
        self._add(frame(piece, self._kind))

    def events(self, page: Sequence[Event]) -> None:
        """Write events."""
        self._add(events_frame(page))

    def end(self) -> None:
        """Stream the parts into one file, and that to its place."""
        with self._folder as folder:
            if not self._parts:
                self._add(pl.DataFrame(schema=schema(self._kind)))
            whole = Path(folder) / "whole"
            pl.scan_parquet(self._parts).sink_parquet(whole, compression="zstd")
            with whole.open("rb") as made:
                shutil.copyfileobj(made, self._out)

    def _add(self, rows: Any) -> None:  # noqa: ANN401
        path = Path(self._folder.name) / f"{len(self._parts):08d}.parquet"
        rows.write_parquet(path, compression="zstd")
        self._parts.append(path)
