"""The evaluator's words: labels, samples as read, vectors over evaluation times, and what a source is asked.

Times are nanoseconds since the epoch. A vector's `present` says where there is a value: NaN is a value like any other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from telemetryx.types import F64, I64, Matcher

Bools = NDArray[np.bool_]
Labels = tuple[tuple[str, str], ...]
"""Ascending by name; a label with an empty value isn't there."""

NAME: Final = "__name__"
NS: Final = 1_000_000_000
#: Evaluation times beyond these can't be subtracted in int64.
MAX_SPAN_NS: Final = 100 * 365 * 86_400 * NS

Use = Literal["last", "over_time", "readings", "spread", "samples"]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which samples an expression needs: those of series that meet one group of matchers, in (start, end].

    `use` says for what: the newest one in each window, an aggregate of each window, every reading (deviations; "spread" for
    quantiles: of rows that stand for many, a row a bin of their sketches, whose count says how many), or one sample a time (differences). Where several readings of a series have one time, aggregates and spread take them all, the others the
    last: a coarser row counts all, so whichever row answers, it is the same. `unit_ns` divides all ends of windows and `span_ns`
    is a window's length, so that a source may answer with coarser rows. `whole_ns` is how long all is that the query asks for, of
    which this may be a part.
    """

    groups: tuple[tuple[Matcher, ...], ...]
    start_ns: int
    end_ns: int
    use: Use
    unit_ns: int
    span_ns: int
    whole_ns: int


@dataclass(slots=True)
class Parts:
    """What each row stands for, where it isn't one sample: as many items as the block's times."""

    counts: F64
    sums: F64
    mins: F64
    maxs: F64

    def take(self, rows: Bools) -> "Parts":
        """Pick rows."""
        return Parts(self.counts[rows], self.sums[rows], self.mins[rows], self.maxs[rows])


@dataclass(slots=True)
class Block:
    """Samples of many series: those of labels[i] are the items offsets[i]:offsets[i+1], ascending by time.

    Distinct, too, but for aggregates and spread (`Selection.use`).
    """

    labels: list[Labels]
    offsets: I64
    times: I64
    values: F64
    parts: Parts | None = None

    @classmethod
    def empty(cls) -> "Block":
        """Make one without a series."""
        return cls([], np.zeros(1, np.int64), np.empty(0, np.int64), np.empty(0))

    @property
    def nbytes(self) -> int:
        """Measure its columns."""
        return len(self.times) * (16 if self.parts is None else 48)


class Source(Protocol):
    """Where samples come from."""

    def select(self, wanted: Selection) -> Block:
        """Read them. Raises ExecutionFailed beyond a limit."""
        ...


@dataclass(slots=True)
class Vector:
    """An instant vector at each evaluation time: values and present are series by times."""

    labels: list[Labels]
    values: F64
    present: Bools
    ordered: bool = False
    """The order of the series is part of the answer (sort, topk at one time)."""

    @classmethod
    def empty(cls, times: int) -> "Vector":
        """Make one without a series."""
        return cls([], np.empty((0, times)), np.empty((0, times), np.bool_))

    def seen(self) -> "Vector":
        """Leave out series that have no value at any time."""
        some = self.present.any(axis=1)
        if some.all():
            return self
        rows = np.flatnonzero(some)
        return Vector(
            [self.labels[row] for row in rows.tolist()], self.values[rows], self.present[rows], self.ordered
        )


def unheeded(size: int) -> None:
    """Count nobody's bytes."""
    del size


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one query may cost, and when its time is over."""

    max_cells: int = 20_000_000
    """Values of one intermediate vector: series times evaluation times."""
    max_visits: int = 2_000_000_000
    """Samples that the windows of one range function may hold together."""
    max_piece: int = 500_000
    """Values of one vector at a time: of many series at many times some times are evaluated after the others."""
    check: Callable[[], None] = lambda: None
    """Raises OutOfTime when the time is over; called between steps of work."""
    hold: Callable[[int], None] = unheeded
    """Is told how many bytes more are about to be held. Raises ExecutionFailed when that is too much."""
    release: Callable[[int], None] = unheeded
    """Is told how many bytes are no longer held."""


def without(labels: Labels, names: frozenset[str]) -> Labels:
    """Drop labels."""
    return tuple(pair for pair in labels if pair[0] not in names)


def only(labels: Labels, names: frozenset[str]) -> Labels:
    """Keep labels."""
    return tuple(pair for pair in labels if pair[0] in names)


_NAMELESS: Final = frozenset({NAME})


def nameless(labels: Sequence[Labels]) -> list[Labels]:
    """Drop the metric names."""
    return [without(one, _NAMELESS) for one in labels]


def changed(labels: Labels, name: str, value: str) -> Labels:
    """Set a label; an empty value removes it."""
    rest = tuple(pair for pair in labels if pair[0] != name)
    return tuple(sorted((*rest, (name, value)))) if value else rest


def value_of(labels: Labels, name: str) -> str:
    """Return a label's value, empty when there is none."""
    return next((value for key, value in labels if key == name), "")
