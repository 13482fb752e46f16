"""Operators between vectors: which series of the left meets which of the right, and what comes out.

Series are paired once for all evaluation times; whether a pair exists at a time is a mask. So a series that ends where
another with the same labels begins pairs as it does in Prometheus, which looks at each time alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from telemetryx.promql.data import NAME, Bools, Bounds, Labels, Vector, changed, only, value_of, without
from telemetryx.promql.errors import ExecutionFailed
from telemetryx.promql.operators import COMPARISON, compare, compute
from telemetryx.types import F64

_PAIR: Final = 40
"""Bytes of a pair at a time: both values, whether they are there, and the result."""


@dataclass(frozen=True, slots=True)
class Matching:
    """How series are paired. `on`: by these labels; otherwise by all but these. `many`: which side may have several."""

    on: bool = False
    labels: frozenset[str] = frozenset()
    many: str = ""
    include: tuple[str, ...] = ()
    returns_bool: bool = False

    def signature(self, labels: Labels) -> Labels:
        """Return what two series must have in common."""
        return only(labels, self.labels) if self.on else without(labels, self.labels | {NAME})


def merged(vector: Vector, message: str) -> Vector:
    """Make one series of those with the same labels, which may not have values at the same time."""
    if len(set(vector.labels)) == len(vector.labels):
        return vector
    places: dict[Labels, list[int]] = {}
    for row, labels in enumerate(vector.labels):
        places.setdefault(labels, []).append(row)
    values = np.full((len(places), vector.values.shape[1]), np.nan)
    present = np.zeros(values.shape, np.bool_)
    for at, rows in enumerate(places.values()):
        here = vector.present[rows]
        if len(rows) > 1 and (here.sum(axis=0) > 1).any():
            raise ExecutionFailed(message)
        for row in rows:
            np.copyto(values[at], vector.values[row], where=vector.present[row])
        present[at] = here.any(axis=0)
    return Vector(list(places), values, present, vector.ordered)


def sets(op: str, left: Vector, right: Vector, matching: Matching) -> Vector:
    """And, or, unless."""
    here = _presence(right, matching)
    there = _presence(left, matching)
    blank = np.zeros(left.values.shape[1], np.bool_)

    def met(side: Vector, other: dict[Labels, Bools]) -> Bools:
        rows = [other.get(matching.signature(labels), blank) for labels in side.labels]
        return np.array(rows, np.bool_).reshape(side.present.shape)

    if op == "and":
        return Vector(left.labels, left.values, left.present & met(left, here)).seen()
    if op == "unless":
        return Vector(left.labels, left.values, left.present & ~met(left, here)).seen()
    both = Vector(
        [*left.labels, *right.labels],
        np.concatenate((left.values, right.values)),
        np.concatenate((left.present, right.present & ~met(right, there))),
    )
    return merged(both.seen(), "vector cannot contain metrics with the same labelset")


def _presence(side: Vector, matching: Matching) -> dict[Labels, Bools]:
    out: dict[Labels, Bools] = {}
    for labels, row in zip(side.labels, side.present, strict=True):
        key = matching.signature(labels)
        out[key] = row if key not in out else out[key] | row
    return out


def vectors(op: str, left: Vector, right: Vector, matching: Matching, bounds: Bounds) -> Vector:
    """Compute or compare two vectors."""
    times = left.values.shape[1]
    # What is evaluated for "many" and "one" is symmetric: group_right has its many on the right.
    many, one = (right, left) if matching.many == "right" else (left, right)
    mine, theirs = _pairs(many, one, matching)
    if len(mine) * times > bounds.max_cells:
        raise ExecutionFailed(
            f"{len(mine)} pairs of series at {times} times are more than {bounds.max_cells} values"
        )
    bounds.hold(len(mine) * times * _PAIR)
    _unique(one, many, matching, "right" if many is left else "left")
    if not len(mine):
        return Vector.empty(times)
    present = many.present[mine] & one.present[theirs]
    if not matching.many:
        _one_to_one(many, mine, present, matching)
    sides = (many.values[mine], one.values[theirs])
    first, second = sides if many is left else (sides[1], sides[0])
    if op in COMPARISON:
        holds = compare(op, first, second)
        values = holds.astype(np.float64) if matching.returns_bool else first
        present = present if matching.returns_bool else present & holds
    else:
        values = compute(op, first, second)
    bare = matching.returns_bool or op not in COMPARISON
    labels = [
        _result(many.labels[i], one.labels[j], matching, nameless=bare)
        for i, j in zip(mine.tolist(), theirs.tolist(), strict=True)
    ]
    return merged(
        Vector(labels, values, present).seen(),
        "multiple matches for labels: grouping labels must ensure unique matches",
    )


Indices = np.ndarray[tuple[int], np.dtype[np.int64]]


def _pairs(many: Vector, one: Vector, matching: Matching) -> tuple[Indices, Indices]:
    places: dict[Labels, list[int]] = {}
    for row, labels in enumerate(one.labels):
        places.setdefault(matching.signature(labels), []).append(row)
    mine: list[int] = []
    theirs: list[int] = []
    for row, labels in enumerate(many.labels):
        for other in places.get(matching.signature(labels), ()):
            mine.append(row)
            theirs.append(other)
    return np.array(mine, np.int64), np.array(theirs, np.int64)


def _unique(one: Vector, many: Vector, matching: Matching, side: str) -> None:
    """Refuse two series on the side of one that have the same signature at the same time."""
    asked = many.present.any(axis=0)
    for key, rows in _groups(one.labels, matching.signature).items():
        if len(rows) > 1 and ((one.present[rows].sum(axis=0) > 1) & asked).any():
            raise ExecutionFailed(
                f"found duplicate series for the match group {shown(key)} on the {side} hand-side of the operation: "
                "many-to-many matching not allowed: matching labels must be unique on one side"
            )


def _one_to_one(many: Vector, mine: Indices, present: Bools, matching: Matching) -> None:
    keys = [matching.signature(many.labels[row]) for row in mine.tolist()]
    for rows in _groups(keys, lambda key: key).values():
        if len(rows) > 1 and (present[rows].sum(axis=0) > 1).any():
            raise ExecutionFailed(
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
            )


def _groups(labels: Sequence[Labels], key: Callable[[Labels], Labels]) -> dict[Labels, list[int]]:
    out: dict[Labels, list[int]] = {}
    for row, one in enumerate(labels):
        out.setdefault(key(one), []).append(row)
    return out


def _result(many: Labels, one: Labels, matching: Matching, *, nameless: bool) -> Labels:
    out = without(many, frozenset({NAME})) if nameless else many
    if not matching.many:
        return only(out, matching.labels) if matching.on else without(out, matching.labels)
    for name in matching.include:
        out = changed(out, name, value_of(one, name))
    return out


def shown(labels: Labels) -> str:
    """Write labels as Prometheus does in its messages."""
    return "{" + ", ".join(f'{name}="{value}"' for name, value in labels) + "}"


def with_scalar(op: str, vector: Vector, scalar: F64, *, swapped: bool, returns_bool: bool) -> Vector:
    """Compute or compare each series with a scalar; `swapped` when the scalar stands on the left."""
    first, second = (scalar, vector.values) if swapped else (vector.values, scalar)
    if op not in COMPARISON:
        return Vector(vector.labels, compute(op, first, second), vector.present)
    holds = compare(op, first, second)
    if returns_bool:
        return Vector(vector.labels, holds.astype(np.float64), vector.present)
    return Vector(vector.labels, vector.values, vector.present & holds).seen()
