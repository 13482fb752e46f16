"""Some series of a payload without the others: what a query of one series reads of a batch as shipped.

Columns that hold every item in its own place (raw, narrow, the steps of decimals by segment) are cut before they are decoded;
the others are decoded whole and cut then. A stored payload was checked as a whole when it came, so here only what is used is
checked; what can't be decoded is a WireError all the same.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np

from telemetryx.errors import WireError
from telemetryx.types import F64, I64, U8
from telemetryx.wire import columns
from telemetryx.wire.columns import Raw, Segments
from telemetryx.wire.compression import unpack
from telemetryx.wire.limits import MAX_COMPRESSED, MAX_DECOMPRESSED, MAX_ROWS
from telemetryx.wire.reader import Reader

_F64: Final = np.dtype("<f8")


@dataclass(slots=True)
class _Plain:
    """A column as it came, and what its items are."""

    raw: Raw
    dtype: np.dtype[Any]
    _whole: Any = None

    @property
    def count(self) -> int:
        return self.raw.count

    @property
    def nbytes(self) -> int:
        """About how many bytes it takes: as it came, and decoded where that can't be done in parts."""
        whole = _layout(self.raw, self.dtype) is None
        return len(self.raw.data) + (self.raw.count * self.dtype.itemsize if whole else 0)

    def columns(self) -> "tuple[_Plain, ...]":
        return (self,)

    def all(self) -> Any:  # noqa: ANN401 - an array of dtype
        """Return all items; decoded once."""
        if self._whole is None:
            self._whole = columns.decode(self.raw, self.dtype, MAX_ROWS)
        return self._whole

    def part(self, first: int, last: int) -> Any:  # noqa: ANN401 - an array of dtype
        """Return items first to last (which isn't in it)."""
        raw = self.raw
        if first == last:
            return np.empty(0, self.dtype)
        if not 0 <= first < last <= raw.count:
            raise WireError(f"a column of {raw.count} items has none from {first} to {last}")
        found = _layout(raw, self.dtype)
        if found is None:
            return self.all()[first:last]
        width, less, summed = found
        # A sum needs all that comes before, and nothing of what comes behind.
        begin, count = 0 if summed else first, raw.count - less
        if len(raw.data) != count * width:
            raise WireError(f"a column of {count} items of {width} bytes has {len(raw.data)} bytes of data")
        if raw.encoding & columns.PLANES:
            starts = range(0, len(raw.data), max(count, 1))
            data = b"".join(raw.data[start + begin : start + last - less] for start in starts)
        else:
            data = raw.data[begin * width : (last - less) * width]
        cut = Raw(raw.encoding, last - begin, raw.parameters, data)
        return columns.decode(cut, self.dtype, MAX_ROWS)[first - begin :]


def _layout(raw: Raw, dtype: np.dtype[Any]) -> tuple[int, int, bool] | None:
    """Return the bytes of an item, how many items fewer there are than values, and whether values are their sums.

    None where the items can't be cut.
    """
    match raw.encoding % columns.PLANES, raw.parameters:
        case columns.RAW, ():
            return dtype.itemsize, 0, False
        case columns.NARROW, (width,):
            return width, 0, False
        case columns.DELTA, (width, _):
            return width, 1, True
        case columns.DECIMAL, (_, width, _):
            return width, 1, True
        case _:
            return None


@dataclass(slots=True)
class _Decimals:
    """Decimals by segment (encoding 8): where each segment's items, base, steps and raw items begin."""

    count: int
    lengths: I64
    scales: Any
    bases: Any
    steps: _Plain
    rest: _Plain
    _begins: tuple[I64, I64, I64, I64] = field(init=False)

    def __post_init__(self) -> None:
        raw, summed = columns.kinds(self.scales)
        if len(self.lengths) != len(self.scales) or int(self.lengths.sum()) != self.count:
            raise WireError(f"a column's segments don't add up to its {self.count} items")
        steps = np.where(raw, 0, self.lengths - summed)
        rest = np.where(raw, self.lengths, 0)
        self._begins = (_begins(self.lengths), _begins(~raw), _begins(steps), _begins(rest))

    def columns(self) -> tuple[_Plain, ...]:
        return self.steps, self.rest

    def part(self, first: int, last: int) -> F64:
        items, bases, steps, rest = self._begins
        if first == last:
            return np.empty(0, np.float64)
        low = int(np.searchsorted(items, first, side="right")) - 1
        high = int(np.searchsorted(items, last, side="left"))
        begin, end = int(items[low]), int(items[high])
        if high - low == 1:
            at = int(bases[low])
            alone = columns.decode_segment(
                end - begin,
                int(self.scales[low]),
                int(self.bases[at]) if bases[high] > at else 0,
                self.steps.part(int(steps[low]), int(steps[high])),
                self.rest.part(int(rest[low]), int(rest[high])),
            )
            return alone[first - begin : last - begin]
        cut = Segments(
            self.lengths[low:high].astype(np.uint32),
            self.scales[low:high],
            self.bases[bases[low] : bases[high]],
            self.steps.part(int(steps[low]), int(steps[high])),
            self.rest.part(int(rest[low]), int(rest[high])),
        )
        return columns.decode_segments(end - begin, MAX_ROWS, cut)[first - begin : last - begin]


def _begins(lengths: Any) -> I64:  # noqa: ANN401 - counts, or marks
    out = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=out[1:])
    return out


@dataclass(slots=True)
class Samples:
    """The samples of a payload, decoded series by series. `series` are the agent's numbers, ascending."""

    series: I64
    _offsets: I64
    _lines: Any
    _timelines: list[_Plain]
    _values: _Plain | _Decimals
    _flags: _Plain | None
    _checked: set[int] = field(default_factory=set)

    def of(self, index: int) -> tuple[I64, F64, U8 | None]:
        """Return times, values and flags of the series at a place in `series`."""
        first, last = int(self._offsets[index]), int(self._offsets[index + 1])
        flags = None if self._flags is None else self._flags.part(first, last)
        return self._times(index), self._values.part(first, last), flags

    def _times(self, index: int) -> I64:
        line = int(self._lines[index])
        count = int(self._offsets[index + 1] - self._offsets[index])
        if line >= len(self._timelines) or self._timelines[line].count != count:
            raise WireError("a series has another count of samples than its timeline")
        times: I64 = self._timelines[line].all()
        if line not in self._checked:
            if bool((times[1:] < times[:-1]).any()):
                raise WireError("the samples of a series aren't in the order of time")
            self._checked.add(line)
        return times

    def all(self) -> list[tuple[I64, F64, U8 | None]]:
        """Return the same of every series: for many of them this is faster than one by one."""
        values = self._values.part(0, self._values.count)
        flags = None if self._flags is None else self._flags.part(0, self._flags.count)
        found = []
        for index, (first, last) in enumerate(pairwise(self._offsets.tolist())):
            marks = None if flags is None else flags[first:last]
            found.append((self._times(index), values[first:last], marks))
        return found

    @property
    def nbytes(self) -> int:
        """About how many bytes it takes, with what it remembers."""
        flags = () if self._flags is None else (self._flags,)
        plain = (*self._timelines, *flags, *self._values.columns())
        decoded = 8 * sum(line.count for line in self._timelines)
        size: int = 3 * self._offsets.nbytes + decoded + sum(one.nbytes for one in plain)
        return size


def samples(payload: bytes) -> Samples:
    """Open a payload of codec 1; raises WireError."""
    data = unpack(payload, "the payload", MAX_COMPRESSED, MAX_DECOMPRESSED)
    reader = Reader(data, "the payload")
    timelines: list[_Plain] = []
    for key in reader.keys(16):
        if key == "t":
            timelines = [_plain(reader, "<i8") for _ in range(reader.array())]
        elif key == "s":
            return _samples(reader, timelines)
        else:
            reader.skip()
    raise WireError("the payload has no samples")


def _samples(reader: Reader, timelines: list[_Plain]) -> Samples:
    numbers: dict[str, Any] = {}
    values: _Plain | _Decimals | None = None
    flags: _Plain | None = None
    for key in reader.keys(5):
        if key in {"id", "tl", "n"}:
            numbers[key] = _plain(reader, "<u4").all()
        elif key == "v":
            values = _values(reader)
        elif not reader.nil():
            flags = _plain(reader, "<u1")
    if values is None or len(numbers) != 3:  # noqa: PLR2004 - id, tl, n
        raise WireError(f"the samples have only the columns {sorted(numbers)}")
    offsets = _begins(numbers["n"])
    total = int(offsets[-1])
    if (
        not len(numbers["id"]) == len(numbers["tl"]) == len(numbers["n"])
        or total != values.count
        or (flags is not None and total != flags.count)
    ):
        raise WireError(f"the series have {total} samples, but {values.count} values came")
    return Samples(numbers["id"].astype(np.int64), offsets, numbers["tl"], timelines, values, flags)


def _plain(reader: Reader, dtype: str) -> _Plain:
    size = reader.array(3, 7)
    return _after(reader, size, reader.integer(), reader.integer(), dtype)


def _after(reader: Reader, size: int, encoding: int, count: int, dtype: str) -> _Plain:
    parameters = tuple(reader.integer() for _ in range(size - 3))
    return _Plain(Raw(encoding, count, parameters, reader.binary()), np.dtype(dtype))


def _values(reader: Reader) -> _Plain | _Decimals:
    size = reader.array(3, 7)
    encoding, count = reader.integer(), reader.integer()
    if encoding != columns.DECIMALS:
        return _after(reader, size, encoding, count, "<f8")
    lengths, scales, bases, steps, rest = (
        _plain(reader, part) for part in ("<u4", "<u1", "<i8", "<u8", "<f8")
    )
    return _Decimals(count, lengths.all().astype(np.int64), scales.all(), bases.all(), steps, rest)
