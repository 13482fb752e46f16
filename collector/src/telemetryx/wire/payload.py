"""The payload inside a Batch frame: bytes to columns and back (proto/README.md, codec 1).

The layout is fixed, so it is read by hand, container by container (reader.py); every count is held against the others
before it is used. Series here are the agent's numbers of one epoch; the store turns them into its own ids.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np

from telemetryx.errors import UnknownVersion, WireError
from telemetryx.sets import union
from telemetryx.types import F64, I64, Attribute, EventBlock, SampleBlock, SketchBlock, WindowBlock
from telemetryx.wire import columns
from telemetryx.wire.compression import pack, unpack
from telemetryx.wire.limits import (
    CODEC,
    MAX_ATTRIBUTES,
    MAX_CAUSES,
    MAX_COMPRESSED,
    MAX_DECOMPRESSED,
    MAX_ROWS,
    PAYLOAD_VERSION,
)
from telemetryx.wire.reader import Reader

_WINDOW_COLUMNS = {
    "t0": np.dtype("<i8"),
    "len": np.dtype("<i8"),
    "n": np.dtype("<u8"),
    "sum": np.dtype("<f8"),
    "min": np.dtype("<f8"),
    "max": np.dtype("<f8"),
    "ft": np.dtype("<i8"),
    "fv": np.dtype("<f8"),
    "lt": np.dtype("<i8"),
    "lv": np.dtype("<f8"),
}


@dataclass(slots=True)
class Payload:
    """What a batch says: samples, windows, events, and counts by cause since the batch before."""

    samples: SampleBlock = field(default_factory=SampleBlock.empty)
    windows: WindowBlock | None = None
    events: EventBlock | None = None
    counts: Mapping[int, int] = field(default_factory=dict)

    def time_range(self) -> tuple[int, int]:
        """Return the earliest and latest event time inside; (0, 0) when there is none."""
        times = [self.samples.times] if len(self.samples) else []
        if self.windows is not None and len(self.windows):
            times += [self.windows.start, self.windows.start + self.windows.length]
        if self.events is not None and len(self.events):
            times.append(self.events.times)
        if not times:
            return 0, 0
        return min(int(column.min()) for column in times), max(int(column.max()) for column in times)

    def numbers(self) -> I64:
        """Return the series numbers it uses, ascending, each once."""
        if self.windows is None:
            return self.samples.series
        return union(self.samples.series, self.windows.series)


def decode(payload: bytes, codec: int = CODEC) -> Payload:
    """Decode a payload or raise WireError; what it allocates is bounded by proto/README.md's limits."""
    if codec != CODEC:
        raise UnknownVersion("codec", codec)
    reader = Reader(
        unpack(payload, "the payload", MAX_COMPRESSED, MAX_DECOMPRESSED), "the payload", MAX_ATTRIBUTES
    )
    out = Payload()
    timelines: list[I64] = []
    version = None
    for key in reader.keys(16):
        if version is None and key != "v":
            raise WireError(f"the payload begins with {key!r} where its version 'v' is expected")
        if key == "v":
            version = reader.integer()
            if version != PAYLOAD_VERSION:
                raise UnknownVersion("payload version", version)
        elif key == "c":
            out.counts = _counts(reader)
        elif key == "t":
            timelines = _timelines(reader)
        elif key == "s":
            out.samples = _samples(reader, timelines)
        elif key == "w":
            out.windows = None if reader.nil() else _windows(reader)
        elif key == "e":
            out.events = None if reader.nil() else _events(reader)
        else:
            raise UnknownVersion("payload table", key)
    reader.end()
    if version is None:
        raise WireError("the payload has no version")
    return out


def _column(reader: Reader, dtype: str | np.dtype[Any], cap: int = MAX_ROWS, *, nested: bool = False) -> Any:  # noqa: ANN401 - an array of dtype
    size = reader.array(3, 7)
    encoding, count = reader.integer(), reader.integer()
    if encoding == columns.DECIMALS and not nested and size == 7 and np.dtype(dtype) == np.float64:  # noqa: PLR2004
        lengths, scales, bases, steps, rest = (
            _column(reader, part, cap, nested=True) for part in ("<u4", "<u1", "<i8", "<u8", "<f8")
        )
        return columns.decode_segments(count, cap, columns.Segments(lengths, scales, bases, steps, rest))
    parameters = tuple(reader.integer() for _ in range(size - 3))
    return columns.decode(columns.Raw(encoding, count, parameters, reader.binary()), dtype, cap)


def _counts(reader: Reader) -> dict[int, int]:
    counts: dict[int, int] = {}
    for _ in range(reader.map(MAX_CAUSES)):
        cause, count = reader.integer(), reader.integer()
        if cause in counts or not 0 <= cause < MAX_CAUSES or not 0 <= count < 1 << 63:
            raise WireError(f"count {count} of cause {cause} can't be")
        counts[cause] = count
    return counts


def _timelines(reader: Reader) -> list[I64]:
    left = MAX_ROWS
    out: list[I64] = []
    for _ in range(reader.array()):
        timeline = _column(reader, "<i8", left)
        left -= len(timeline)
        out.append(timeline)
    return out


def _samples(reader: Reader, timelines: list[I64]) -> SampleBlock:
    found: dict[str, Any] = {}
    for key in reader.keys(5):
        if key in {"id", "tl", "n"}:
            found[key] = _column(reader, "<u4")
        elif key == "v":
            found[key] = _column(reader, "<f8")
        elif key == "f":
            found[key] = None if reader.nil() else _column(reader, "<u1")
        else:
            raise UnknownVersion("sample column", key)
    if len(found) != 5:  # noqa: PLR2004 - the five above
        raise WireError(f"the samples have only the columns {sorted(found)}")
    ids, lines, lengths = found["id"], found["tl"], found["n"]
    if not len(ids) == len(lines) == len(lengths):
        raise WireError("the samples' columns id, tl and n differ in length")
    offsets = np.zeros(len(ids) + 1, np.int64)
    np.cumsum(lengths, dtype=np.int64, out=offsets[1:])
    total = int(offsets[-1])
    flags = found["f"]
    if total != len(found["v"]) or (flags is not None and total != len(flags)):
        raise WireError(f"the series have {total} samples, but {len(found['v'])} values came")
    if len(ids) and bool((ids[1:] <= ids[:-1]).any()):
        raise WireError("the samples' series numbers don't ascend")
    block = SampleBlock(ids.astype(np.int64), offsets, _times(timelines, lines, lengths), found["v"], flags)
    _check_order(block)
    return block


def _times(timelines: list[I64], lines: Any, lengths: Any) -> I64:  # noqa: ANN401
    """Put each series' timeline in its place."""
    if not len(lines):
        return np.empty(0, np.int64)
    if int(lines.max()) >= len(timelines):
        raise WireError(f"a series names timeline {int(lines.max())} of {len(timelines)}")
    sizes = np.fromiter((len(line) for line in timelines), np.int64, len(timelines))
    if not bool((sizes[lines] == lengths).all()):
        raise WireError("a series has another count of samples than its timeline")
    if len(timelines) == 1:
        return np.tile(timelines[0], len(lines))
    return np.concatenate([timelines[line] for line in lines.tolist()])


def _check_order(block: SampleBlock) -> None:
    back = block.times[1:] < block.times[:-1]
    if back.any():
        starts = block.offsets[1:-1]
        starts = starts[(starts > 0) & (starts < len(block.times))]
        back[starts - 1] = False
        if back.any():
            raise WireError("the samples of a series aren't in the order of time")


def _windows(reader: Reader) -> WindowBlock:
    found: dict[str, Any] = {}
    sketch: SketchBlock | None = None
    for key in reader.keys(12):
        if key == "id":
            found[key] = _column(reader, "<u4")
        elif key in _WINDOW_COLUMNS:
            found[key] = _column(reader, _WINDOW_COLUMNS[key])
        elif key == "k":
            sketch = None if reader.nil() else _sketch(reader)
        else:
            raise UnknownVersion("window column", key)
    if len(found) != len(_WINDOW_COLUMNS) + 1:
        raise WireError(f"the windows have only the columns {sorted(found)}")
    rows = len(found["id"])
    if any(len(column) != rows for column in found.values()):
        raise WireError("the windows' columns differ in length")
    if not bool((found["n"] > 0).all()) or not bool((found["len"] > 0).all()):
        raise WireError("a window without samples or without length")
    if sketch is not None and (len(sketch.counts) != 2 * rows or len(sketch.zero) != rows):
        raise WireError("the sketches don't belong to the windows")
    series = found["id"].astype(np.int64)
    columns_found: list[Any] = [found[name] for name in _WINDOW_COLUMNS]
    block = WindowBlock(series, *columns_found)
    block.sketch = sketch
    same = series[1:] == series[:-1]
    if rows and bool(((series[1:] < series[:-1]) | (same & (block.start[1:] < block.start[:-1]))).any()):
        raise WireError("the windows aren't in the order of series and start")
    return block


def _sketch(reader: Reader) -> SketchBlock:
    kinds = {"n": "<u4", "key": "<i4", "cnt": "<u8", "zero": "<u8"}
    found: dict[str, Any] = {}
    for key in reader.keys(4):
        if key not in kinds:
            raise UnknownVersion("sketch column", key)
        found[key] = _column(reader, kinds[key])
    if len(found) != len(kinds):
        raise WireError(f"the sketches have only the columns {sorted(found)}")
    bins = int(found["n"].sum(dtype=np.uint64)) if len(found["n"]) else 0
    if bins != len(found["key"]) or bins != len(found["cnt"]):
        raise WireError(f"the sketches have {bins} bins, but {len(found['key'])} keys came")
    return SketchBlock(found["n"], found["key"], found["cnt"], found["zero"])


def _events(reader: Reader) -> EventBlock:
    found: dict[str, Any] = {}
    for key in reader.keys(5):
        if key in {"src", "body"}:
            found[key] = [reader.text() for _ in range(reader.array(at_most=MAX_ROWS))]
        elif key == "t":
            found[key] = _column(reader, "<i8")
        elif key == "sev":
            found[key] = _column(reader, "<u1")
        elif key == "attr":
            found[key] = [_attributes(reader) for _ in range(reader.array(at_most=MAX_ROWS))]
        else:
            raise UnknownVersion("event column", key)
    if len(found) != 5:  # noqa: PLR2004 - the five above
        raise WireError(f"the events have only the columns {sorted(found)}")
    if len({len(column) for column in found.values()}) > 1:
        raise WireError("the events' columns differ in length")
    return EventBlock(found["src"], found["t"], found["sev"], found["body"], found["attr"])


def _attributes(reader: Reader) -> dict[str, Attribute]:
    attributes = reader.map_of_text()
    for key, value in attributes.items():
        if type(value) not in {bool, int, float, str}:
            raise WireError(f"an event's attribute {key!r} is neither bool, number nor text")
    return attributes


# --- the other direction: tests, reference agents and the load generator write batches as an agent does


def encode(payload: Payload, level: int = 3, *, thorough: bool = True) -> bytes:
    """Encode a payload: each distinct timeline once, each column in the form that compresses best.

    Not `thorough`, it doesn't look at the values of each series by themselves: larger, and many times faster with many series.
    """
    samples = payload.samples
    timelines: dict[bytes, int] = {}
    lines: list[int] = []
    for start, end in zip(samples.offsets[:-1].tolist(), samples.offsets[1:].tolist(), strict=True):
        lines.append(timelines.setdefault(samples.times[start:end].tobytes(), len(timelines)))
    document = {
        "v": PAYLOAD_VERSION,
        "c": dict(sorted(payload.counts.items())),
        "t": [columns.encode(np.frombuffer(line, np.int64), "<i8") for line in timelines],
        "s": {
            "id": columns.encode(samples.series, "<u4"),
            "tl": columns.encode(np.array(lines, np.uint32), "<u4"),
            "n": columns.encode(np.diff(samples.offsets), "<u4"),
            "v": columns.encode(samples.values, "<f8", segments=_lengths(samples) if thorough else None),
            "f": None if samples.flags is None else columns.encode(samples.flags, "<u1"),
        },
        "w": None if payload.windows is None else _window_table(payload.windows),
        "e": None if payload.events is None else _event_table(payload.events),
    }
    return pack(msgpack.packb(document), level)


def _lengths(samples: SampleBlock) -> list[int]:
    lengths: list[int] = np.diff(samples.offsets).tolist()
    return [length for length in lengths if length]


def _window_table(windows: WindowBlock) -> dict[str, Any]:
    arrays: tuple[I64 | F64 | Any, ...] = (
        windows.start,
        windows.length,
        windows.count,
        windows.sum,
        windows.min,
        windows.max,
        windows.first_time,
        windows.first,
        windows.last_time,
        windows.last,
    )
    table: dict[str, Any] = {"id": columns.encode(windows.series, "<u4")}
    for (name, dtype), array in zip(_WINDOW_COLUMNS.items(), arrays, strict=True):
        table[name] = columns.encode(array, dtype)
    sketch = windows.sketch
    if sketch is None:
        none = np.empty(0, np.int32)
        sketch = SketchBlock(
            np.zeros(2 * len(windows), np.uint32), none, none.astype(np.uint64), windows.count * np.uint64(0)
        )
    table["k"] = {
        "n": columns.encode(sketch.counts, "<u4"),
        "key": columns.encode(sketch.keys, "<i4"),
        "cnt": columns.encode(sketch.weights, "<u8"),
        "zero": columns.encode(sketch.zero, "<u8"),
    }
    return table


def _event_table(events: EventBlock) -> dict[str, Any]:
    return {
        "src": events.source,
        "t": columns.encode(events.times, "<i8"),
        "sev": columns.encode(events.severity, "<u1"),
        "body": events.body,
        "attr": events.attributes,
    }
