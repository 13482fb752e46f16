"""Differences over windows: rate, increase and delta with Prometheus' extrapolation and counter resets, irate and idelta."""

import numpy as np

from telemetryx.promql.data import NS, Bools
from telemetryx.promql.over_time import first, last
from telemetryx.promql.ranges import Ranges, fold
from telemetryx.types import F64, I64

_CLOSE = 1.1
"""A first or last sample within so many intervals of the window's edge: the series is taken to reach over it."""


def extrapolated(found: Ranges, *, counter: bool, per_second: bool) -> tuple[F64, Bools]:
    """Extrapolate the difference of a window's first and last sample to the whole window. Needs two samples."""
    counts = found.counts
    present = counts >= 2  # noqa: PLR2004  a difference has two ends
    begun, ended = _edge_times(found, present)
    one = first(found)
    result = last(found) - one
    if counter:
        result = result + _resets(found)
    to_start = (begun - found.starts) / NS
    to_end = (found.ends - ended) / NS
    sampled = (ended - begun) / NS
    with np.errstate(all="ignore"):
        average = sampled / (counts - 1)
        to_start = np.where(to_start >= average * _CLOSE, average / 2, to_start)
        if counter:
            # A counter can't have been negative: it began no earlier than its line meets zero.
            zero = np.where((result > 0) & (one >= 0), sampled * (one / result), to_start)
            to_start = np.minimum(to_start, zero)
        to_end = np.where(to_end >= average * _CLOSE, average / 2, to_end)
        factor = (sampled + to_start + to_end) / sampled
        if per_second:
            factor = factor / ((found.ends - found.starts) / NS)
        result = result * factor
    return result, present


def instantaneous(found: Ranges, *, counter: bool) -> tuple[F64, Bools]:
    """Compare the last two samples: by second for a counter, as it is otherwise."""
    present = found.counts >= 2  # noqa: PLR2004
    out = np.full(found.lo.shape, np.nan)
    block, newest = found.block, found.hi[present] - 1
    two, one = block.values[newest], block.values[newest - 1]
    with np.errstate(all="ignore"):
        step = np.where(two < one, two, two - one) if counter else two - one
        out[present] = step / ((block.times[newest] - block.times[newest - 1]) / NS) if counter else step
    return out, present


def _resets(found: Ranges) -> F64:
    """Sum what a counter had reached each time it fell."""
    values = found.block.values
    lost = np.zeros(len(values))
    with np.errstate(invalid="ignore"):
        fell = values[1:] < values[:-1]
    if not fell.any():
        return np.zeros(found.lo.shape)
    lost[1:] = np.where(fell, values[:-1], 0.0)
    return fold(np.add, lost, np.minimum(found.lo + 1, found.hi), found.hi, 0.0)


def _edge_times(found: Ranges, present: Bools) -> tuple[I64, I64]:
    begun, ended = np.zeros(found.lo.shape, np.int64), np.zeros(found.lo.shape, np.int64)
    begun[present] = found.block.times[found.lo[present]]
    ended[present] = found.block.times[found.hi[present] - 1]
    return begun, ended
