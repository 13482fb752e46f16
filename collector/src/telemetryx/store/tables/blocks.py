"""From a decoded batch to what the store keeps: ids for numbers, corrected times, one order.

Used by the commit, and by every reader that finds a batch as shipped: both must see the same rows.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from telemetryx.types import F64, I64, U8, EventBlock, Flag, SampleBlock, SketchBlock, WindowBlock

_NOTHING: Final = bytes(16)
"""The sketch of a window that has none."""
CERTAIN: Final = 0xFF & ~Flag.CLOCK_UNCERTAIN


class Correction(NamedTuple):
    """What a batch's times lack, and whether that is a guess."""

    offset_ns: int
    uncertain: bool


def ranges(starts: I64, lengths: I64) -> I64:
    """Return the indices of several ranges, one after the other."""
    total = int(lengths.sum())
    if not total:
        return np.empty(0, np.int64)
    ends = np.cumsum(lengths)
    out: I64 = np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths)
    return out


def corrected(times: I64, flags: U8 | None, correction: Correction) -> tuple[I64, U8 | None]:
    """Return right times. They are no longer marked as uncertain; those that were moved by a guess are."""
    if correction.offset_ns:
        times = times + correction.offset_ns
        if correction.uncertain:
            flags = np.zeros(len(times), np.uint8) if flags is None else flags
            flags = flags | np.uint8(Flag.CLOCK_UNCERTAIN)
        elif flags is not None:
            flags = flags & np.uint8(CERTAIN)
    return times, flags


def samples(block: SampleBlock, ids: I64, correction: Correction) -> SampleBlock:
    """Give a block the store's ids and right times. Ids in another order than numbers put the block in their order."""
    times, flags = corrected(block.times, block.flags, correction)
    if len(ids) < 2 or bool((ids[1:] > ids[:-1]).all()):  # noqa: PLR2004 - one series is in order
        return SampleBlock(ids, block.offsets, times, block.values, flags)
    lengths = np.diff(block.offsets)
    order = np.argsort(ids, kind="stable")
    at = ranges(block.offsets[:-1][order], lengths[order])
    return collect(
        np.repeat(ids[order], lengths[order]),
        times[at],
        block.values[at],
        None if flags is None else flags[at],
    )


def collect(series: I64, times: I64, values: F64, flags: U8 | None) -> SampleBlock:
    """Make a block of rows that ascend by series; within one, sort by time and keep the order of equal times."""
    if not len(series):
        return SampleBlock.empty()
    starts = np.concatenate((np.zeros(1, np.int64), np.flatnonzero(series[1:] != series[:-1]) + 1))
    back = times[1:] < times[:-1]
    back[starts[1:] - 1] = False
    if back.any():
        order = np.lexsort((times, series))
        times, values = times[order], values[order]
        flags = None if flags is None else flags[order]
    return SampleBlock(series[starts], np.append(starts, len(series)), times, values, flags)


def windows(block: WindowBlock, ids: I64, offset_ns: int) -> WindowBlock:
    """Give windows (one id a row) right times, in the order of series and start."""
    moved = WindowBlock(
        ids,
        block.start + offset_ns,
        block.length,
        block.count,
        block.sum,
        block.min,
        block.max,
        block.first_time + offset_ns,
        block.first,
        block.last_time + offset_ns,
        block.last,
        block.sketch,
    )
    if len(ids) < 2 or bool((ids[1:] >= ids[:-1]).all()):  # noqa: PLR2004
        return moved
    return take_windows(moved, np.lexsort((moved.start, ids)))


def take_windows(block: WindowBlock, order: I64) -> WindowBlock:
    """Pick rows of a window block, with their sketches."""
    sketch = block.sketch
    if sketch is not None:
        counts = sketch.counts.astype(np.int64)
        starts = np.cumsum(counts) - counts
        pairs = (2 * order[:, None] + np.arange(2)).reshape(-1)
        bins = ranges(starts[pairs], counts[pairs])
        sketch = SketchBlock(
            sketch.counts[pairs], sketch.keys[bins], sketch.weights[bins], sketch.zero[order]
        )
    return WindowBlock(
        block.series[order],
        block.start[order],
        block.length[order],
        block.count[order],
        block.sum[order],
        block.min[order],
        block.max[order],
        block.first_time[order],
        block.first[order],
        block.last_time[order],
        block.last[order],
        sketch,
    )


def events(block: EventBlock, offset_ns: int, ids: I64 | None) -> EventBlock:
    """Give events right times and their ids."""
    return EventBlock(
        block.source, block.times + offset_ns, block.severity, block.body, block.attributes, ids
    )


def sketch_blobs(sketch: SketchBlock | None, rows: int) -> list[bytes | None]:
    """Cut sketches into one blob a window: u32 positive bins, u32 negative bins, u64 zeros, i32 keys, u64 counts."""
    if sketch is None:
        return [None] * rows
    counts = sketch.counts.astype(np.int64).reshape(-1, 2)
    ends = np.cumsum(counts.sum(axis=1))
    out: list[bytes | None] = []
    start = 0
    for row, end in enumerate(ends.tolist()):
        out.append(
            sketch.counts[2 * row : 2 * row + 2].astype("<u4").tobytes()
            + sketch.zero[row : row + 1].astype("<u8").tobytes()
            + sketch.keys[start:end].astype("<i4").tobytes()
            + sketch.weights[start:end].astype("<u8").tobytes()
        )
        start = end
    return out


def damaged(blobs: Sequence[bytes | None]) -> list[int]:
    """Return which of some windows' blobs can't be put together."""
    found = []
    for at, blob in enumerate(blobs):
        try:
            sketches([blob])
        except ValueError:
            found.append(at)
    return found


def sketches(blobs: list[bytes | None]) -> SketchBlock | None:
    """Put the blobs of windows together again; None when no window has one. Raises ValueError for one that is cut or too long."""
    if all(blob is None for blob in blobs):
        return None
    there = [_NOTHING if blob is None else blob for blob in blobs]
    lengths = np.array([len(blob) for blob in there], np.int64)
    if bool((lengths < len(_NOTHING)).any()) or bool((lengths % 4).any()):
        raise ValueError("a sketch has a length that none can have")
    words = np.frombuffer(b"".join(there), "<u4")
    starts = (np.cumsum(lengths) - lengths) // 4
    counts = words[starts[:, None] + np.arange(2)]
    bins = counts.sum(axis=1, dtype=np.int64)
    if bool((lengths != len(_NOTHING) + 12 * bins).any()):
        raise ValueError("a sketch doesn't have the bins that it says")
    zeros = words[starts[:, None] + np.arange(2, 4)].view("<u8").ravel()
    keys = words[ranges(starts + 4, bins)].view("<i4")
    weights = words[ranges(starts + 4 + bins, 2 * bins)].view("<u8")
    return SketchBlock(counts.ravel(), keys, weights, zeros)
