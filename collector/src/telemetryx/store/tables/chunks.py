"""Chunks: samples of one series as `pco` columns, and the merge that gives every reader one order.

Times with a constant step take no bytes at all; others are pco, like the values. Each encoded column is decoded again and
compared bit by bit before anything is thrown away: what can't be kept by pco is kept raw (first byte 0).

The order of equal times is (batch key, index). A chunk is made from *all* batches seq_first to seq_last of one epoch, so no
other source's batch lies between, and sources can be ordered as wholes: by (epoch, seq_first, part).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import zstandard
from pcodec import ChunkConfig, standalone

from telemetryx.errors import StoreDamaged
from telemetryx.types import F64, I64, U8

TARGET: Final = 4_096
"""Samples of a full chunk: nothing more is put behind it."""
MOST: Final = 2 * TARGET
"""Samples of a chunk, at most; what is more is cut into even parts."""
_RAW: Final = b"\x00"
_PCO: Final = b"\x01"
_CONFIG: Final = ChunkConfig(compression_level=6)
"""Half the work of the library's own level, 8, for one per cent more bytes (real sensor data)."""

UNREADABLE: Final = (ValueError, RuntimeError, TypeError, IndexError, zstandard.ZstdError)
"""What bytes raise that were changed."""
_PCO_BATCH: Final = 256
"""Values that pco decodes at once."""

Order = tuple[bytes, int, int]


@dataclass(slots=True)
class Piece:
    """A part of one series, sorted, from one source (a chunk or a batch), with its place among equal times."""

    order: Order
    times: I64
    values: F64
    flags: U8 | None

    def clip(self, start_ns: int, end_ns: int) -> "Piece":
        """Keep what lies in [start, end)."""
        first, last = np.searchsorted(self.times, (start_ns, end_ns), side="left")
        if first == 0 and last == len(self.times):
            return self
        flags = None if self.flags is None else self.flags[first:last]
        return Piece(self.order, self.times[first:last], self.values[first:last], flags)

    def cut(self, start_ns: int, end_ns: int) -> "Piece":
        """Keep what lies in [start, end), copied where that is less: a view would keep all of it in memory."""
        part = self.clip(start_ns, end_ns)
        if len(part.times) == len(self.times):
            return part
        flags = None if part.flags is None else part.flags.copy()
        return Piece(part.order, part.times.copy(), part.values.copy(), flags)


def merge(pieces: Iterable[Piece]) -> tuple[I64, F64, U8 | None]:
    """Put the pieces of one series into the one order: time, batch key, index."""
    sources = sorted((piece for piece in pieces if len(piece.times)), key=lambda piece: piece.order)
    if not sources:
        return np.empty(0, np.int64), np.empty(0, np.float64), None
    flags: U8 | None = None
    if len(sources) == 1:
        return sources[0].times, sources[0].values, sources[0].flags
    times = np.concatenate([piece.times for piece in sources])
    values = np.concatenate([piece.values for piece in sources])
    if any(piece.flags is not None for piece in sources):
        flags = np.concatenate(
            [
                np.zeros(len(piece.times), np.uint8) if piece.flags is None else piece.flags
                for piece in sources
            ]
        )
    if bool((times[1:] < times[:-1]).any()):
        order = np.argsort(times, kind="stable")
        times, values = times[order], values[order]
        flags = None if flags is None else flags[order]
    return times, values, flags


@dataclass(slots=True)
class Chunk:
    """One row of `chunk`, before it has an id."""

    series: int
    t0_ns: int
    t1_ns: int
    count: int
    summary: tuple[float | None, float | None, float | None, float | None, float | None]
    times: bytes
    values: bytes
    flags: bytes | None


def encode(series: int, times: I64, values: F64, flags: U8 | None) -> Chunk:
    """Encode sorted samples of one series."""
    marks = None
    if flags is not None and flags.any():
        marks = zstandard.compress(np.ascontiguousarray(flags).tobytes())
    return Chunk(
        series,
        int(times[0]),
        int(times[-1]),
        len(times),
        summary(values),
        b"" if _steady(times) else _pack(times),
        _pack(values),
        marks,
    )


def decode(
    t0_ns: int,
    t1_ns: int,
    count: int,
    times: bytes,
    values: bytes,
    flags: bytes | None,
    before_ns: int | None = None,
) -> tuple[I64, F64, U8 | None]:
    """Decode a row of `chunk`; with `before_ns` only what lies before that time."""
    size, when = count, _uneven(times, count)
    if before_ns is not None and before_ns <= t1_ns:
        size = _count_before(t0_ns, t1_ns, count, when, before_ns)
    if when is None:
        step = 0 if count == 1 else (t1_ns - t0_ns) // (count - 1)
        when = t0_ns + step * np.arange(size, dtype=np.int64)
    marks = None
    if flags is not None:
        marks = np.frombuffer(zstandard.decompress(flags, max_output_size=count), np.uint8)[:size]
    kept = _unpack(values, np.dtype(np.float64)) if size == count else _first(values, count, size)
    if kept is None or len(kept) != size:
        raise ValueError(f"{size} of its {count} values aren't there")
    return when[:size], kept, marks


def damaged(series: int, t0_ns: int, error: Exception) -> StoreDamaged:
    """Say that a chunk isn't what was stored; `store verify` names them all."""
    return StoreDamaged(
        f"a chunk of series {series} that begins at {t0_ns} ns can't be decoded: {error}; run `telemetryx store verify`"
    )


def last_before(t0_ns: int, t1_ns: int, count: int, times: bytes, before_ns: int) -> tuple[int, int]:
    """Return place and time of a chunk's last sample before a time, which it begins before."""
    if t1_ns < before_ns:
        return count - 1, t1_ns
    when = _uneven(times, count)
    at = _count_before(t0_ns, t1_ns, count, when, before_ns) - 1
    if when is not None:
        return at, int(when[at])
    return at, t0_ns + (0 if count == 1 else (t1_ns - t0_ns) // (count - 1) * at)


def value_at(values: bytes, count: int, at: int) -> Any:  # noqa: ANN401 - a float64 to the bit
    """Decode one value, and of what stands before it as much as must be."""
    return _first(values, count, at + 1)[at]


def _uneven(times: bytes, count: int) -> I64 | None:
    """Decode times; None where their step is constant. Raises ValueError when they aren't so many."""
    if not times:
        return None
    when: I64 | None = _unpack(times, np.dtype(np.int64))
    if when is None or len(when) != count:
        raise ValueError(f"it has {0 if when is None else len(when)} times of {count}")
    return when


def _count_before(t0_ns: int, t1_ns: int, count: int, when: I64 | None, before_ns: int) -> int:
    """Count the samples before a time that isn't behind the last one; `when` None: their step is constant."""
    if when is not None:
        return int(np.searchsorted(when, before_ns, side="left"))
    if count == 1 or before_ns <= t0_ns:
        return 0
    # The last isn't before that time and the first is, so the step isn't 0.
    return -(-(before_ns - t0_ns) // ((t1_ns - t0_ns) // (count - 1)))


def _first(values: bytes, count: int, size: int) -> F64:
    """Decode the first values of a column: pco gives any number of its batches."""
    if values[:1] == _RAW:
        return np.frombuffer(values, np.float64, size, offset=1)
    room = np.empty(min(count, -(-size // _PCO_BATCH) * _PCO_BATCH), np.float64)
    done = standalone.simple_decompress_into(values[1:], room).n_processed
    if done < size:
        raise StoreDamaged(f"a chunk of {count} samples has {done} values; run `telemetryx store verify`")
    return room[:size]


def _steady(times: I64) -> bool:
    if int(times[-1]) - int(times[0]) > np.iinfo(np.int64).max:  # their distance leaves 64 bits
        return False
    if len(times) < 3:  # noqa: PLR2004 - two times always have one step
        return True
    steps = np.diff(times)
    return bool((steps == steps[0]).all())


def _pack(column: Any) -> bytes:  # noqa: ANN401 - I64 or F64
    column = np.ascontiguousarray(column)
    packed = standalone.simple_compress(column, _CONFIG)
    again = standalone.simple_decompress(packed)
    if (
        len(packed) < column.nbytes
        and again is not None
        and np.array_equal(again.view(np.uint64), column.view(np.uint64))
    ):
        return _PCO + bytes(packed)
    return _RAW + bytes(column.tobytes())


def _unpack(data: bytes, dtype: np.dtype[Any]) -> Any:  # noqa: ANN401
    if data[:1] == _RAW:
        return np.frombuffer(data, dtype, offset=1)
    return standalone.simple_decompress(data[1:])


def summary(values: F64) -> tuple[float | None, float | None, float | None, float | None, float | None]:
    """Return min, max, sum, first, last without NaN; None for what NULL stands for in the table."""
    real = values[~np.isnan(values)]
    if not len(real):
        return (None, None, None, None, None)
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(real.sum())
    return (
        float(real.min()),
        float(real.max()),
        None if math.isnan(total) else total,
        float(real[0]),
        float(real[-1]),
    )
