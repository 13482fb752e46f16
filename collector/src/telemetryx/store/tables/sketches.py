"""Sketches of rollup rows, as columns: which bins the readings of a row lie in, so that percentiles outlive them.

They are the sketches of the agents' windows, bin for bin. A row keeps its own packed (agent/crates/telemetry/src/packed.rs): some ten to
thirty bytes as a rule, and NULL where its other figures tell it, which is so for one reading, for two, and for any number in one bin. Where
they don't, NULL means that nothing is known: an older collector wrote the row, or one without the compiled module.

Everything is done by compiled code, on the columns of many rows at once; here they are only carried along. Without that code rows are
written as if nothing were known, and say so when they are asked.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from telemetryx.compiled import native
from telemetryx.errors import NotCompiled
from telemetryx.store.tables import blocks
from telemetryx.types import F64, I64, SketchBlock

Figures = tuple[I64, F64, F64, F64]
"""Counts, sums, minima and maxima of rows."""
Packed = tuple[bytes, I64]
"""Packed sketches of rows, one after the other, and their offsets: one more than there are rows."""


@dataclass(slots=True)
class Sketches:
    """What rows have of sketches: packed ones, or (None) none, as each of them is one reading."""

    packed: Packed | None

    def take(self, rows: Any) -> "Sketches":  # noqa: ANN401 - a mask, a slice or indices
        """Pick rows."""
        if self.packed is None:
            return self
        data, offsets = self.packed
        if not data:
            return none(len(offsets[:-1][rows]))
        if isinstance(rows, slice) and rows.step is None:
            some = np.append(offsets[:-1][rows], offsets[1:][rows][-1:])
            if not len(some):
                return none(0)
            return Sketches((data[int(some[0]) : int(some[-1])], some - some[0]))
        starts, lengths = offsets[:-1][rows], np.diff(offsets)[rows]
        at = blocks.ranges(starts, lengths)
        return Sketches((np.frombuffer(data, np.uint8)[at].tobytes(), _offsets(lengths)))

    def packed_of(self, rows: int) -> Packed:
        """Return them as they are packed, of so many rows: one reading takes no bytes."""
        return self.packed or (b"", np.zeros(rows + 1, np.int64))

    def blobs(self, rows: int) -> list[bytes | None]:
        """Cut them into what each row keeps."""
        if self.packed is None or not self.packed[0]:
            return [None] * rows
        data, offsets = self.packed
        edges = offsets.tolist()
        return [data[start:end] or None for start, end in itertools.pairwise(edges)]


SINGLES: Final = Sketches(None)
"""Of rows that are one reading each."""


def none(rows: int) -> Sketches:
    """Make those of rows that keep none."""
    return Sketches((b"", np.zeros(rows + 1, np.int64)))


def of_blobs(blobs: Sequence[bytes | None]) -> Sketches:
    """Take what rows keep."""
    there = [blob or b"" for blob in blobs]
    return Sketches((b"".join(there), _offsets(np.array([len(one) for one in there], np.int64))))


def joined(parts: Sequence[tuple[Sketches, int]]) -> Sketches:
    """Put those of some rows after those of others; with each how many rows they are."""
    if all(part.packed is None for part, _ in parts):
        return SINGLES
    packed = [part.packed_of(rows) for part, rows in parts]
    lengths = np.concatenate([np.diff(offsets) for _, offsets in packed])
    return Sketches((b"".join(data for data, _ in packed), _offsets(lengths)))


def _offsets(lengths: I64) -> I64:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))


def require() -> None:
    """Raise NotCompiled where they can't be made: the compiled module is missing, or was built before it knew them."""
    if not hasattr(native(), "rollup_merge"):
        raise NotCompiled(
            "the compiled module telemetryx._native is older than this collector: run `just native` in a checkout, or install "
            "both from one package"
        )


def available() -> bool:
    """Tell whether they can be made here."""
    try:
        require()
    except NotCompiled:
        return False
    return True


def of_windows(sketch: SketchBlock | None, figures: Figures) -> Sketches:
    """Pack the sketches of windows; of one without, the readings are missing."""
    if sketch is None:
        return none(len(figures[0]))
    columns = readable(sketch.counts, sketch.keys, sketch.weights, sketch.zero)
    found: Packed = native().rollup_windows(*columns, readable(*figures))
    return Sketches(found)


def reduced(of: Sketches, figures: Figures, edges: I64, into: Figures) -> Sketches:
    """Merge those of the stretches of rows that begin at these edges, for the rows that they become. Readings of a damaged one are missing."""
    if of.packed is None:
        found: Packed = native().rollup_samples(*readable(figures[2]), edges, readable(*into))
        return Sketches(found)
    found = native().rollup_merge(*of.packed, readable(*figures), edges, readable(*into))
    return Sketches(found)


def faults(of: Packed, figures: Figures) -> tuple[I64, I64]:
    """Return the rows whose bytes were changed, and those whose sketch doesn't fit their figures."""
    found = native().rollup_faults(*of, readable(*figures))
    return np.flatnonzero(found == 1), np.flatnonzero(found == 2)  # noqa: PLR2004


def readable(*columns: Any) -> tuple[Any, ...]:  # noqa: ANN401 - arrays of several types
    """Return what compiled code can read: not a slice of a matrix, nor what begins anywhere in a payload."""
    return tuple(np.require(column, requirements=("C", "A")) for column in columns)
