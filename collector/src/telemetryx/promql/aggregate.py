"""Aggregations: groups of a vector's series reduced to one each, or chosen from.

Series are sorted by group once; a reduction is then one `reduceat` over all evaluation times.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from telemetryx.promql import sums
from telemetryx.promql.data import NAME, Bools, Bounds, Labels, Vector, changed, only, without
from telemetryx.promql.errors import ExecutionFailed
from telemetryx.promql.over_time import between
from telemetryx.types import F64, I64

#: Series that count_values may make.
_MAX_COUNTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Grouping:
    """Which labels a group has: these (`by`), or all but these."""

    by: bool = True
    labels: frozenset[str] = frozenset()

    def key(self, labels: Labels) -> Labels:
        """Return the group that a series belongs to."""
        return only(labels, self.labels) if self.by else without(labels, self.labels | {NAME})


@dataclass(slots=True)
class Grouped:
    """A vector's rows sorted by group: group g has the rows starts[g]:starts[g+1]."""

    keys: list[Labels]
    labels: list[Labels]
    values: F64
    present: Bools
    starts: I64

    def sums(self, column: F64) -> F64:
        """Add up a column's rows by group; absent ones count as 0."""
        with np.errstate(all="ignore"):
            return np.asarray(
                np.add.reduceat(np.where(self.present, column, 0.0), self.starts[:-1], axis=0), np.float64
            )

    @property
    def counts(self) -> F64:
        """Count the present rows by group."""
        return np.asarray(np.add.reduceat(self.present.astype(np.float64), self.starts[:-1], axis=0))

    def back(self, column: F64) -> F64:
        """Give every row its group's value."""
        return np.repeat(column, np.diff(self.starts), axis=0)


def grouped(vector: Vector, grouping: Grouping) -> Grouped:
    """Sort a vector by group."""
    places: dict[Labels, list[int]] = {}
    for row, labels in enumerate(vector.labels):
        places.setdefault(grouping.key(labels), []).append(row)
    order = [row for rows in places.values() for row in rows]
    starts = np.concatenate((np.zeros(1, np.int64), np.cumsum([len(rows) for rows in places.values()])))
    return Grouped(
        list(places),
        [vector.labels[row] for row in order],
        vector.values[order],
        vector.present[order],
        starts,
    )


def _total(found: Grouped) -> F64:
    return sums.total(np.where(found.present, found.values, 0.0), found.starts[:-1], found.starts[1:])


def _average(found: Grouped) -> F64:
    column = np.where(found.present, found.values, 0.0)
    return sums.mean(column, found.starts[:-1], found.starts[1:], found.counts)


def _variance(found: Grouped) -> F64:
    with np.errstate(all="ignore"):
        off = found.values - found.back(_average(found))
        rest = found.sums(off) / found.counts
        out = found.sums(off * off) / found.counts - rest * rest
    return np.where(np.isnan(out), np.nan, np.maximum(out, 0.0))


def _extreme(ufunc: np.ufunc) -> Callable[[Grouped], F64]:
    def reduce(found: Grouped) -> F64:
        return np.asarray(
            ufunc.reduceat(np.where(found.present, found.values, np.nan), found.starts[:-1], axis=0),
            np.float64,
        )

    return reduce


REDUCTIONS: Final[dict[str, Callable[[Grouped], F64]]] = {
    "sum": _total,
    "count": lambda found: found.counts,
    "group": lambda found: np.ones(found.counts.shape),
    "avg": _average,
    "min": _extreme(np.fmin),
    "max": _extreme(np.fmax),
    "stddev": lambda found: np.sqrt(_variance(found)),
    "stdvar": _variance,
}


def reduce(op: str, vector: Vector, grouping: Grouping) -> Vector:
    """Reduce each group to one series."""
    if not vector.labels:
        return Vector.empty(vector.values.shape[1])
    found = grouped(vector, grouping)
    return Vector(found.keys, REDUCTIONS[op](found), found.counts > 0)


def quantile(vector: Vector, grouping: Grouping, wanted: F64) -> Vector:
    """Interpolate each group's quantile; `wanted` is by evaluation time."""
    if not vector.labels:
        return Vector.empty(vector.values.shape[1])
    found = grouped(vector, grouping)
    times = vector.values.shape[1]
    values = np.full((len(found.keys), times), np.nan)
    for group in range(len(found.keys)):
        rows = slice(int(found.starts[group]), int(found.starts[group + 1]))
        here, some = found.present[rows], found.values[rows]
        # Present before absent, NaN before numbers.
        keys = np.where(np.isnan(some), -np.inf, some)
        order = np.lexsort((~np.isnan(some), keys, ~here), axis=0)
        ordered = np.take_along_axis(some, order, axis=0).T.ravel()
        size = here.sum(axis=0)
        at = np.arange(times) * here.shape[0]
        values[group] = between(ordered, at, np.maximum(size, 1).astype(np.float64), wanted)
    return Vector(found.keys, values, found.counts > 0)


def choose(op: str, vector: Vector, grouping: Grouping, k: F64) -> Vector:
    """Keep the k largest or smallest of each group at each time; NaN comes last."""
    if np.isnan(k).any():
        raise ExecutionFailed("Parameter value is NaN")
    if not vector.labels:
        return vector
    found = grouped(vector, grouping)
    keep = np.zeros(found.present.shape, np.bool_)
    sign = -1.0 if op == "topk" else 1.0
    kept: list[int] = []
    for group in range(len(found.keys)):
        first, after = int(found.starts[group]), int(found.starts[group + 1])
        keys = np.where(np.isnan(found.values[first:after]), np.inf, sign * found.values[first:after])
        nan = np.isnan(found.values[first:after])
        order = np.lexsort((nan, keys, ~found.present[first:after]), axis=0)
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(after - first)[:, None], axis=0)
        keep[first:after] = found.present[first:after] & (ranks < np.floor(k))
        kept += (order[:, 0] + first).tolist() if order.shape[1] == 1 else range(first, after)
    single = vector.values.shape[1] == 1
    return Vector([found.labels[row] for row in kept], found.values[kept], keep[kept], ordered=single).seen()


def count_values(
    vector: Vector, grouping: Grouping, label: str, text: Callable[[float], str], bounds: Bounds
) -> Vector:
    """Count how many series of a group have each value; the value becomes a label."""
    # All NaN are one value. With counts it loads nothing.
    distinct, _ = np.unique(vector.values[vector.present], return_counts=True)  # noqa: TID251
    times = vector.values.shape[1]
    if len(distinct) > _MAX_COUNTED or len(distinct) * vector.values.size > 100 * bounds.max_cells:
        raise ExecutionFailed(
            f"count_values would make {len(distinct)} series; at most {_MAX_COUNTED} are made"
        )
    if not len(distinct):
        return Vector.empty(times)
    inner = Grouping(grouping.by, grouping.labels | ({label} if not grouping.by else set()))
    out: list[Vector] = []
    for value in distinct.tolist():
        bounds.check()
        same = np.isnan(vector.values) if np.isnan(value) else vector.values == value
        counted = reduce("count", Vector(vector.labels, vector.values, vector.present & same), inner)
        counted.labels = [changed(labels, label, text(value)) for labels in counted.labels]
        out.append(counted.seen())
    return Vector(
        [labels for one in out for labels in one.labels],
        np.concatenate([one.values for one in out]),
        np.concatenate([one.present for one in out]),
    )
