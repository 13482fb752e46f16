"""Evaluation times in pieces: PromQL looks at each time alone, so a query over many series and times is computed some times after others.

What a vector, its windows and their functions hold is bounded so, whatever the length of the query; only the answer grows with it.
What was read stays for the next piece, where it isn't too much: `Grid` says of which times it must be read.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Final

import numpy as np

from telemetryx.promql.data import Bounds, Labels, Vector
from telemetryx.promql.errors import TooManySamples
from telemetryx.types import F64, I64

CELL: Final = 9
"""Bytes of a value in a vector, with whether it is there."""
Value = F64 | str | Vector


class TooWide(Exception):  # noqa: N818 - it is no fault: fewer times are evaluated at once then
    """More values than are computed at once."""

    def __init__(self, rows: int) -> None:
        """Say how many series there are."""
        super().__init__(rows)
        self.rows = rows


@dataclass(frozen=True, slots=True)
class Grid:
    """All times at which a node is evaluated, whichever piece of them is being computed."""

    first: int
    last: int
    step: int
    """0 where there is one time."""

    @classmethod
    def of(cls, times: I64) -> "Grid":
        """Take evenly spaced times."""
        return cls(int(times[0]), int(times[-1]), int(times[1] - times[0]) if len(times) > 1 else 0)

    @property
    def unit(self) -> int:
        """Return the greatest span that divides all of them."""
        return gcd(self.first, self.step)

    def before(self, span: int) -> "Grid":
        """Move them back."""
        return Grid(self.first - span, self.last - span, self.step)

    def within(self, span: int, step: int) -> "Grid | None":
        """Return the times of a subquery: the multiples of its step in all the ranges that end here; None when there are none."""
        first = (self.first - span) // step * step + step
        count = (self.last - first) // step + 1
        return Grid(first, first + (count - 1) * step, step if count > 1 else 0) if count > 0 else None


def pieces(times: I64, bounds: Bounds, value: Callable[[I64], Value]) -> Iterator[Value]:
    """Compute a value at all times: at once where it is small, else piece by piece. A vector's bytes are held."""
    size, begun = len(times), 0
    while begun < len(times):
        try:
            found = value(times[begun : begun + size])
        except TooWide as error:
            size = max(1, min(size // 2, bounds.max_piece // error.rows))
            continue
        if isinstance(found, Vector):
            found = found.seen()
            bounds.hold(found.values.size * CELL)
        yield found
        begun += size


def over(times: I64, bounds: Bounds, value: Callable[[I64], Value], begin: Callable[[I64], None]) -> Value:
    """Compute a value at all times, some stretches of them after others where their samples are too many to be read at once.

    `begin` says for which times samples are read from now on; what was read for others is let go.
    """
    parts: list[Value] = []
    left = [times]
    while left:
        stretch = left.pop()
        begin(stretch)
        known = len(parts)
        try:
            parts.extend(pieces(stretch, bounds, value))
        except TooManySamples:
            middle = len(stretch) // 2
            if not middle:
                raise
            bounds.release(sum(one.values.size for one in parts[known:] if isinstance(one, Vector)) * CELL)
            del parts[known:]
            left += [stretch[middle:], stretch[:middle]]
    if len(parts) == 1 or isinstance(parts[0], str):
        return parts[0]
    if isinstance(parts[0], np.ndarray):
        return np.concatenate([part for part in parts if isinstance(part, np.ndarray)])
    return _joined([part for part in parts if isinstance(part, Vector)], bounds)


def _joined(parts: Sequence[Vector], bounds: Bounds) -> Vector:
    """Put the pieces of a vector beside each other; a series that isn't in one of them has no value there."""
    places: dict[Labels, int] = {}
    for part in parts:
        for labels in part.labels:
            places.setdefault(labels, len(places))
    shape = (len(places), sum(part.values.shape[1] for part in parts))
    bounds.hold(shape[0] * shape[1] * CELL)
    values, present, at = np.full(shape, np.nan), np.zeros(shape, np.bool_), 0
    for part in parts:
        columns = slice(at, at + part.values.shape[1])
        rows = [places[labels] for labels in part.labels]
        values[rows, columns], present[rows, columns] = part.values, part.present
        at = columns.stop
    bounds.release(sum(part.values.size for part in parts) * CELL)
    return Vector(list(places), values, present)
