"""Windows over samples: for each series and evaluation time the samples in (time - length, time], as a pair of indices.

`fold` reduces all windows in one NumPy call; `expanded` lays the samples of some windows side by side, a bounded number at
once, for what has no reduction.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from telemetryx.promql.data import Block, Bools, Bounds
from telemetryx.promql.errors import ExecutionFailed
from telemetryx.types import F64, I64

#: Samples that are laid side by side at once.
_EXPANDED: Final = 500_000
_ITEM: Final = 64
"""Bytes of one of them: its index, its owner, its value, and what they are sorted through."""
#: Up to so many evaluation times all series are searched at once.
_FEW: Final = 32
#: The bits of the NaN with which Prometheus marks a series that ended.
_STALE: Final = 0x7FF0000000000002


@dataclass(slots=True)
class Ranges:
    """A block's windows: lo and hi are indices into the block's columns, series by evaluation times."""

    block: Block
    lo: I64
    hi: I64
    starts: I64
    """The windows' (excluded) starts and (included) ends, by evaluation time."""
    ends: I64

    @property
    def counts(self) -> I64:
        """Rows in each window."""
        return self.hi - self.lo


def ranges(block: Block, starts: I64, ends: I64, bounds: Bounds) -> Ranges:
    """Find the windows (start, end] of every series."""
    shape = (len(block.labels), len(ends))
    if shape[0] * shape[1] > bounds.max_cells:
        raise ExecutionFailed(
            f"{shape[0]} series at {shape[1]} times are more than {bounds.max_cells} values: "
            "ask for fewer series, a wider step or a shorter time"
        )
    if shape[1] <= _FEW and (found := _together(block, starts, ends)) is not None:
        return Ranges(block, *found, starts, ends)
    lo, hi = np.empty(shape, np.int64), np.empty(shape, np.int64)
    for row, (first, last) in enumerate(
        zip(block.offsets[:-1].tolist(), block.offsets[1:].tolist(), strict=True)
    ):
        times = block.times[first:last]
        lo[row] = np.searchsorted(times, starts, "right")
        hi[row] = np.searchsorted(times, ends, "right")
        lo[row] += first
        hi[row] += first
    bounds.check()
    return Ranges(block, lo, hi, starts, ends)


def _together(block: Block, starts: I64, ends: I64) -> tuple[I64, I64] | None:
    """Find the windows of all series with one search, in keys that ascend over series and times; None where 64 bits are too few."""
    if not len(block.times):
        nothing = np.zeros((len(block.labels), len(ends)), np.int64)
        return nothing, nothing.copy()
    first, last = int(block.times.min()), int(block.times.max())
    width = last - first + 2
    if width * (len(block.labels) + 1) >= 1 << 62:
        return None
    begun = np.arange(len(block.labels), dtype=np.int64) * width
    keys = block.times - first + np.repeat(begun, np.diff(block.offsets))

    def places(times: I64) -> I64:
        # A time before all of a series' samples lies behind those of the series before it.
        inside = np.clip(times, first - 1, last) - first
        return np.asarray(np.searchsorted(keys, begun[:, None] + inside, "right"), np.int64)

    return places(starts), places(ends)


def stale(values: F64) -> Bools:
    """Tell which samples say that their series ended."""
    return np.asarray(values.view(np.uint64) == _STALE)


def lively(block: Block) -> Block:
    """Leave out the marks of ended series: a range holds samples only."""
    if not len(block.values) or not np.isnan(block.values).any():
        return block
    keep = ~stale(block.values)
    if keep.all():
        return block
    kept = np.concatenate((np.zeros(1, np.int64), np.cumsum(keep, dtype=np.int64)))
    parts = None if block.parts is None else block.parts.take(keep)
    return Block(block.labels, kept[block.offsets], block.times[keep], block.values[keep], parts)


def fold(ufunc: np.ufunc, column: Any, lo: I64, hi: I64, empty: float = np.nan) -> F64:  # noqa: ANN401  any dtype
    """Reduce column[lo:hi] of each window; `empty` where there is none."""
    out = np.full(lo.shape, empty)
    some = hi > lo
    if not some.any():
        return out
    pairs = np.empty(2 * int(some.sum()), np.int64)
    pairs[0::2], pairs[1::2] = lo[some], hi[some]
    # NOTE: reduceat takes no index at the end; one more item makes the last window's end a valid one.
    with np.errstate(all="ignore"):
        out[some] = ufunc.reduceat(np.append(column, column[-1]), pairs)[::2]
    return out


@dataclass(slots=True)
class Expanded:
    """Some windows' samples side by side: window k (of `rows`, flat) has the items edges[k]:edges[k+1] of `index`."""

    rows: I64
    index: I64
    edges: I64
    owner: I64
    """Of each item, the place of its window in `rows`."""


def expanded(found: Ranges, least: int, bounds: Bounds) -> Iterator[Expanded]:
    """Yield the windows with at least so many samples, in pieces of bounded size."""
    counts = found.counts.ravel()
    rows = np.flatnonzero(counts >= least)
    lo = found.lo.ravel()
    ends = np.cumsum(counts[rows])
    if len(ends) and int(ends[-1]) > bounds.max_visits:
        raise ExecutionFailed(
            f"the windows hold {int(ends[-1])} samples together; at most {bounds.max_visits} are visited: "
            "use a shorter range or a wider step"
        )
    bounds.hold(
        len(rows) * 24
        + min(int(ends[-1]) if len(ends) else 0, _EXPANDED + int(counts.max(initial=0))) * _ITEM
    )
    begun = 0
    while begun < len(rows):
        bounds.check()
        before = int(ends[begun - 1]) if begun else 0
        until = max(begun + 1, int(np.searchsorted(ends, before + _EXPANDED, "right")))
        part = rows[begun:until]
        size = counts[part]
        edges = np.concatenate((np.zeros(1, np.int64), np.cumsum(size)))
        owner = np.repeat(np.arange(len(part)), size)
        index = np.arange(int(edges[-1])) - edges[owner] + lo[part][owner]
        yield Expanded(part, index, edges, owner)
        begun = until
