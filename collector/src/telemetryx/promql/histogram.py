"""histogram_quantile over classic histograms: counters of readings up to a bound, `le`, with one that has no bound.

As Prometheus does it: series without a bound that can be read are left out; buckets of one bound are added up; counts that fall from one bound
to the next (which scrapes at two moments make) are lifted; within a bucket values are taken as even.
"""

import re
from collections.abc import Iterator
from typing import Final

import numpy as np

from telemetryx.promql.data import NAME, Bools, Labels, Vector, value_of, without
from telemetryx.types import F64

BOUND: Final = "le"
_DROPPED: Final = frozenset({BOUND, NAME})
#: Counts closer than this, relative to both, are the same but for rounding.
_SAME: Final = 1e-12
_TINY: Final = float(np.finfo(np.float64).tiny)
_NUMBER = re.compile(r"[+-]?(inf(inity)?|(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)", re.IGNORECASE | re.ASCII)


def quantile(found: Vector, wanted: F64) -> Vector:
    """Return each histogram's quantile; `wanted` is by evaluation time. NaN where a histogram tells nothing."""
    members: dict[Labels, list[tuple[float, int]]] = {}
    for row, labels in enumerate(found.labels):
        bound = value_of(labels, BOUND)
        if _NUMBER.fullmatch(bound):
            members.setdefault(without(labels, _DROPPED), []).append((float(bound), row))
    times = found.values.shape[1]
    values = np.full((len(members), times), np.nan)
    present = np.zeros(values.shape, np.bool_)
    for at, buckets in enumerate(members.values()):
        buckets.sort()
        bounds = np.array([bound for bound, _ in buckets])
        rows = [row for _, row in buckets]
        present[at] = found.present[rows].any(axis=0)
        for seen, when in _alike(found.present[rows]):
            counts = found.values[rows][seen][:, when]
            values[at, when] = _of_one(bounds[seen], counts, wanted[when])
    return Vector(list(members), values, present)


def _alike(present: Bools) -> Iterator[tuple[Bools, Bools]]:
    """Yield which buckets are there, and at which times it is just these."""
    if present.all():
        yield present[:, 0], np.ones(present.shape[1], np.bool_)
        return
    kinds, which = np.unique(present, axis=1, return_inverse=True)  # noqa: TID251  with places: it loads nothing
    for kind, seen in enumerate(kinds.T):
        if seen.any():
            yield seen, which.ravel() == kind


def _of_one(bounds: F64, counts: F64, wanted: F64) -> F64:
    """Interpolate in one histogram: ascending bounds, counts by bound and time."""
    out = np.full(counts.shape[1], np.nan)
    if np.isposinf(bounds[-1]):
        starts = np.flatnonzero(np.diff(bounds, prepend=np.nan) != 0)
        bounds = bounds[starts]
        if len(bounds) > 1:
            out = _interpolated(bounds, _rising(np.add.reduceat(counts, starts, axis=0)), wanted)
    return np.where(
        np.isnan(wanted), np.nan, np.where(wanted < 0, -np.inf, np.where(wanted > 1, np.inf, out))
    )


def _rising(counts: F64) -> F64:
    """Lift what falls, and what differs by rounding alone."""
    out = counts.copy()
    before = out[0].copy()
    for row in out[1:]:
        size = np.abs(before) + np.abs(row)
        apart = np.abs(before - row)
        small = np.where((before == 0) | (row == 0) | (size < _TINY), _SAME * _TINY, _SAME * size)
        row[...] = np.where((apart < small) | (row < before), before, row)
        before = row
    return out


def _interpolated(bounds: F64, counts: F64, wanted: F64) -> F64:
    every = counts[-1]
    rank = wanted * every
    # The first bucket that reaches the rank, the unbounded one when none below does.
    reached = counts[:-1] >= rank
    place = np.where(reached.any(axis=0), reached.argmax(axis=0), len(bounds) - 1)
    columns = np.arange(len(rank))
    below = np.maximum(place - 1, 0)
    first = place == 0
    begin = np.where(first, 0.0, bounds[below])
    under = np.where(first, 0.0, counts[below, columns])
    share = (rank - under) / (counts[place, columns] - under)
    inside = begin + (bounds[place] - begin) * share
    out = np.where(first & (bounds[0] <= 0), bounds[0], inside)
    out = np.where(place == len(bounds) - 1, bounds[-2], out)
    return np.where(every == 0, np.nan, out)
