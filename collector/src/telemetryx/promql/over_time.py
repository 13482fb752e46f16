"""Range functions: one value from each window. Each takes windows and returns values; a window without an answer is absent.

A row that stands for many samples (a window of an agent, a rollup) counts as what it holds in sums, counts, extremes and quantiles, and
as its last value elsewhere.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from telemetryx.promql import sums
from telemetryx.promql.data import NS, Bools, Bounds
from telemetryx.promql.ranges import Ranges, expanded, fold
from telemetryx.sets import distinct
from telemetryx.types import F64, I64

#: More lengths of windows than these are sorted all at once.
_LENGTHS: Final = 64


def total(found: Ranges) -> F64:
    """Sum."""
    summed = sums.total(_summed(found), found.lo, found.hi)
    return np.where(found.hi > found.lo, summed, np.nan)


def _summed(found: Ranges) -> F64:
    parts = found.block.parts
    return found.block.values if parts is None else parts.sums


def number(found: Ranges) -> F64:
    """Count."""
    parts = found.block.parts
    if parts is None:
        return found.counts.astype(np.float64)
    return fold(np.add, parts.counts, found.lo, found.hi)


def mean(found: Ranges) -> F64:
    """Average."""
    averages = sums.mean(_summed(found), found.lo, found.hi, number(found))
    return np.where(found.hi > found.lo, averages, np.nan)


def least(found: Ranges) -> F64:
    """Find the smallest; NaN only where there is nothing else."""
    parts = found.block.parts
    return fold(np.fmin, found.block.values if parts is None else parts.mins, found.lo, found.hi)


def most(found: Ranges) -> F64:
    """Find the largest; NaN only where there is nothing else."""
    parts = found.block.parts
    return fold(np.fmax, found.block.values if parts is None else parts.maxs, found.lo, found.hi)


def last(found: Ranges) -> F64:
    """Take the newest."""
    out = np.full(found.lo.shape, np.nan)
    some = found.hi > found.lo
    out[some] = found.block.values[found.hi[some] - 1]
    return out


def first(found: Ranges) -> F64:
    """Take the oldest."""
    out = np.full(found.lo.shape, np.nan)
    some = found.hi > found.lo
    out[some] = found.block.values[found.lo[some]]
    return out


def variance(found: Ranges, bounds: Bounds) -> F64:
    """Compute the population variance, in two passes."""
    out = np.full(found.lo.size, np.nan)
    values = found.block.values
    for piece in expanded(found, 1, bounds):
        some = values[piece.index]
        size = np.diff(piece.edges)
        with np.errstate(all="ignore"):
            middle = np.add.reduceat(some, piece.edges[:-1]) / size
            off = some - middle[piece.owner]
            # The second term takes away what rounding left in the middle.
            rest = np.add.reduceat(off, piece.edges[:-1]) / size
            out[piece.rows] = np.add.reduceat(off * off, piece.edges[:-1]) / size - rest * rest
    return np.where(np.isnan(out), np.nan, np.maximum(out, 0.0)).reshape(found.lo.shape)


def quantile(found: Ranges, wanted: F64, bounds: Bounds) -> F64:
    """Interpolate between the two nearest; `wanted` is by evaluation time. Outside 0 to 1 it is infinite.

    A row that stands for several readings is as many rows of its value.
    """
    if found.block.parts is not None:
        return _weighted(found, wanted, found.block.parts.counts, bounds)
    out = np.full(found.lo.size, np.nan)
    values = found.block.values
    plain = not np.isnan(values).any()
    for piece in expanded(found, 1, bounds):
        some = values[piece.index]
        size = np.diff(piece.edges)
        asked = wanted[piece.rows % len(wanted)]
        lengths = distinct(size)
        if plain and len(lengths) <= _LENGTHS:
            # Windows of one length are the rows of a matrix: its rows are sorted much faster than pairs of keys.
            for length in lengths.tolist():
                mine = np.flatnonzero(size == length)
                rows = np.sort(some[piece.edges[mine][:, None] + np.arange(length)], axis=1)
                starts = length * np.arange(len(mine))
                told = between(rows.ravel(), starts, np.full(len(mine), float(length)), asked[mine])
                out[piece.rows[mine]] = told
            continue
        # NaN sorts before everything.
        keys = np.where(np.isnan(some), -np.inf, some)
        ordered = some[np.lexsort((~np.isnan(some), keys, piece.owner))]
        out[piece.rows] = between(ordered, piece.edges[:-1], size.astype(np.float64), asked)
    return out.reshape(found.lo.shape)


def _weighted(found: Ranges, wanted: F64, counts: F64, bounds: Bounds) -> F64:
    """Interpolate where rows have weights: whole numbers, so their sums are exact."""
    out = np.full(found.lo.size, np.nan)
    for piece in expanded(found, 1, bounds):
        some, weights = found.block.values[piece.index], counts[piece.index]
        asked = wanted[piece.rows % len(wanted)]
        keys = np.where(np.isnan(some), -np.inf, some)
        order = np.lexsort((~np.isnan(some), keys, piece.owner))
        upto = np.cumsum(weights[order])
        before = np.concatenate((np.zeros(1), upto))[piece.edges]
        size = np.diff(before)
        inside = (asked >= 0) & (asked <= 1)
        rank = np.where(inside, asked, 0.0) * (size - 1)
        low = np.maximum(0.0, np.floor(rank))
        high = np.minimum(size - 1, low + 1)
        one, other = (some[order][np.searchsorted(upto, before[:-1] + at, "right")] for at in (low, high))
        out[piece.rows] = _interpolated(one, other, rank - np.floor(rank), asked)
    return out.reshape(found.lo.shape)


def between(ordered: F64, starts: I64, size: F64, wanted: F64) -> F64:
    """Interpolate in ascending runs that begin at `starts` and have `size` items."""
    inside = (wanted >= 0) & (wanted <= 1)
    rank = np.where(inside, wanted, 0.0) * (size - 1)
    low = np.maximum(0, np.floor(rank)).astype(np.int64)
    high = np.minimum(size - 1, low + 1).astype(np.int64)
    return _interpolated(ordered[starts + low], ordered[starts + high], rank - np.floor(rank), wanted)


def _interpolated(low: F64, high: F64, weight: F64, wanted: F64) -> F64:
    with np.errstate(all="ignore"):
        out = low * (1 - weight) + high * weight
    out = np.where(wanted < 0, -np.inf, np.where(wanted > 1, np.inf, out))
    return np.asarray(np.where(np.isnan(wanted), np.nan, out), np.float64)


def changes(found: Ranges) -> F64:
    """Count how often the value changed."""
    return _pairs(found, lambda one, two: (two != one) & ~(np.isnan(one) & np.isnan(two)))


def resets(found: Ranges) -> F64:
    """Count how often the value fell."""
    return _pairs(found, lambda one, two: two < one)


def _pairs(found: Ranges, test: Callable[[F64, F64], Bools]) -> F64:
    values = found.block.values
    marks = np.zeros(len(values) + 1, np.int64)
    if len(values):
        with np.errstate(invalid="ignore"):
            marks[2:] = np.cumsum(test(values[:-1], values[1:]))
    # marks[i] counts the changes into items 1 to i-1: within a window those into lo+1 to hi-1.
    some = found.hi > found.lo
    after = np.where(some, found.lo + 1, found.hi)
    return (marks[found.hi] - marks[after]).astype(np.float64)


def regression(found: Ranges, origins: I64 | None, bounds: Bounds) -> tuple[F64, F64]:
    """Fit lines; return slopes (by second) and the values at `origins` (ns, by evaluation time), or at the first sample."""
    slopes, values = np.full(found.lo.size, np.nan), np.full(found.lo.size, np.nan)
    block = found.block
    for piece in expanded(found, 2, bounds):
        starts = piece.edges[:-1]
        y = block.values[piece.index]
        begun = block.times[piece.index[starts]]
        at = begun if origins is None else origins[piece.rows % len(origins)]
        x = (block.times[piece.index] - at[piece.owner]) / NS
        size = np.diff(piece.edges).astype(np.float64)

        def add(column: F64, starts: I64 = starts) -> F64:
            return np.asarray(np.add.reduceat(column, starts), np.float64)

        with np.errstate(all="ignore"):
            # From the middle: sums of squares then keep their digits.
            mid_x, mid_y = add(x) / size, add(y) / size
            off_x = x - mid_x[piece.owner]
            slope = add(off_x * (y - mid_y[piece.owner])) / add(off_x * off_x)
            level = mid_y - slope * mid_x
        same = np.logical_and.reduceat(y == y[starts][piece.owner], starts)
        flat = np.where(np.isinf(y[starts]), np.nan, 0.0)
        slopes[piece.rows] = np.where(same, flat, slope)
        values[piece.rows] = np.where(same, np.where(np.isinf(y[starts]), np.nan, y[starts]), level)
    return slopes.reshape(found.lo.shape), values.reshape(found.lo.shape)
