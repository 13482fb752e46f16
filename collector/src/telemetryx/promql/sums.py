"""Sums that keep what rounding drops, as Prometheus' compensated (Kahan, Neumaier) ones do: 1 + 1e100 + 1 - 1e100 is 2.

A sum is a pair of columns, what rounding kept and what it dropped, until the end. Stretches of a column are added up by a binary tree over it:
any stretch is at most two nodes a level, so stretches that overlap share their work, and no Python loop visits samples.

Prometheus adds one by one, so the last bit may differ. Where its running sum leaves the range of a double and the sum itself doesn't, ours is
the sum.
"""

from typing import Any, Final

import numpy as np

from telemetryx.types import F64, I64

_SMALLER: Final = 2.0**-64
"""Added a power of two smaller, what would overflow doesn't."""

Pair = tuple[F64, F64]


def total(column: F64, lo: I64, hi: I64) -> F64:
    """Add up column[lo:hi] of each stretch; 0 where there is none. Of a matrix rows are added up, column by column."""
    with np.errstate(all="ignore"):
        kept, lost = _stretches(column, lo, hi)
        if np.isfinite(kept).all():
            return kept + lost
        some, rest = _stretches(column * _SMALLER, lo, hi)
        return np.where(np.isfinite(kept), kept + lost, (some + rest) / _SMALLER)


def mean(column: F64, lo: I64, hi: I64, counts: F64) -> F64:
    """Average over stretches that stand for so many samples each."""
    with np.errstate(all="ignore"):
        kept, lost = _stretches(column, lo, hi)
        out = kept / counts + lost / counts
        if np.isfinite(kept).all():
            return np.asarray(out, np.float64)
        some, rest = _stretches(column * _SMALLER, lo, hi)
        # Back to size last: the sum is too large, its share isn't.
        return np.where(np.isfinite(kept), out, (some / counts + rest / counts) / _SMALLER)


def _stretches(column: F64, lo: I64, hi: I64) -> Pair:
    """Add up stretches, level by level: an odd end takes its node along, then both ends move to the level above."""
    shape = (*lo.shape, *column.shape[1:])
    left, right = lo.ravel().copy(), hi.ravel().copy()
    kept = np.zeros((len(left), *column.shape[1:]))
    lost = np.zeros_like(kept)
    nodes: Pair = column, np.broadcast_to(0.0, column.shape)
    while (open_ := left < right).any():
        _take(kept, lost, nodes, np.flatnonzero(open_ & (left & 1 == 1)), left)
        left += left & 1
        odd = np.flatnonzero((left < right) & (right & 1 == 1))
        right[odd] -= 1
        _take(kept, lost, nodes, odd, right)
        left, right = left >> 1, right >> 1
        nodes = _above(nodes)
    return kept.reshape(shape), lost.reshape(shape)


def _take(kept: F64, lost: F64, nodes: Pair, rows: I64, at: I64) -> None:
    if len(rows):
        places = at[rows]
        kept[rows], lost[rows] = _plus(kept[rows], lost[rows], nodes[0][places], nodes[1][places])


def _above(nodes: Pair) -> Pair:
    """Add neighbours; one without a neighbour stays out: a stretch that ends with it has taken it."""
    whole = len(nodes[0]) // 2 * 2
    kept, lost = (column[:whole] for column in nodes)
    return _plus(kept[0::2], lost[0::2], kept[1::2], lost[1::2])


def _plus(one: Any, lost_one: Any, other: Any, lost_other: Any) -> Pair:  # noqa: ANN401 - columns or matrices
    """Add exactly: the rounded sum, and what rounding took."""
    kept = one + other
    of_other = kept - one
    error = (one - (kept - of_other)) + (other - of_other)
    return kept, lost_one + lost_other + np.where(np.isfinite(kept), error, 0.0)
