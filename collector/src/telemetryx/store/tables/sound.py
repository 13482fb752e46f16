"""Which rows of rollups can't be right, by their own figures alone.

Each row says count, sum, minimum, maximum, first and last of the same readings, and most have a sketch of them, whose bytes have a check of their own: so nearly every
change of a row shows in it, and where raw data is gone that is all there is to tell whether minutes or their hour is the one that was changed.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from telemetryx.store.tables import sketches
from telemetryx.store.tables.alike import Mask
from telemetryx.store.tables.rollup import Parts
from telemetryx.types import I64

CHANGED: Final = "the sketch {} can't be decoded"
_OTHER: Final = "the sketch {} doesn't hold what its row says"
_SUM: Final = "the sum {} can't be that of readings between its minimum and maximum"
_CONTRADICT: Final = "the figures {} contradict each other"
_ROUNDING: Final = 1e-6


def faults(rows: Parts) -> Iterator[tuple[str, I64]]:
    """Yield what is wrong, with a place for the row's name, and with which rows. Sketches are looked at where they were read and can be."""
    if rows.sketches is not None and sketches.available():
        changed, others = sketches.faults(rows.sketches.packed_of(len(rows)), rows.figures)
        yield CHANGED, changed
        yield _OTHER, others
    with np.errstate(all="ignore"):
        contradict = (rows.counts < 1) | (rows.mins > rows.maxs)
        for value in (rows.firsts, rows.lasts):
            contradict |= (value < rows.mins) | (value > rows.maxs)
        yield _CONTRADICT, np.flatnonzero(contradict)
        means = rows.sums / rows.counts
        room = _ROUNDING * np.maximum(np.abs(rows.mins), np.abs(rows.maxs))
        # A sum that went beyond all numbers on its way says nothing, nor one with a NaN.
        beyond = np.isfinite(means) & ((means < rows.mins - room) | (means > rows.maxs + room))
        yield _SUM, np.flatnonzero(beyond & ~contradict)


def doubtful(rows: Parts) -> Mask:
    """Tell which rows something is wrong with."""
    found = np.zeros(len(rows), np.bool_)
    for _, places in faults(rows):
        found[places] = True
    return found
