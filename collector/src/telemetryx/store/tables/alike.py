"""Do rollups of two sources say the same? Compared row by row, as `verify` needs it.

Sums may differ by their rounding alone, for they may have been added in another order; a NaN is what a NaN is. Where in its unit a first or last
reading lies is kept in milliseconds, so it is compared in them.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetryx.store.tables.rollup import HOUR, MINUTE, Parts
from telemetryx.types import I64

Mask = NDArray[np.bool_]

ROUNDING: Final = 64 * float(np.finfo(np.float64).eps)
"""By so much of the sum of magnitudes two sums of the same values may differ, added in another order (by another processor)."""
_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of the rows that are kept."""

    unit_ns: int = MINUTE
    unsketched_to_ns: int = -(1 << 62)
    """Before this a row may have no sketch though one could be made (sketching.py)."""


def same(made: Parts, kept: Parts, of: Kept) -> bool:
    """Tell whether all rows say the same."""
    return len(made) == len(kept) and bool(equal(made, kept, of).all())


def equal(made: Parts, kept: Parts, of: Kept) -> Mask:
    """Compare row by row what was made with what is kept."""
    return (
        _same_figures(made, kept)
        & _same_ends(made, kept, of.unit_ns)
        & _same_sketches(made, kept, of.unsketched_to_ns)
    )


def only_less(made: Parts, kept: Parts) -> Mask:
    """Tell which kept hours say nothing else than what was made, but maybe less: no sketch, or not when their first and last readings were."""
    found: Mask = _same_figures(made, kept) & (_spanning(kept, HOUR) | _same_values(made, kept))
    if made.sketches is not None and kept.sketches is not None:
        pairs = zip(made.sketches.blobs(len(made)), kept.sketches.blobs(len(kept)), strict=True)
        found &= np.fromiter(
            (there is None or there == could_be for could_be, there in pairs), np.bool_, len(made)
        )
    return found


def _same_figures(made: Parts, kept: Parts) -> Mask:
    with np.errstate(over="ignore", invalid="ignore"):
        rounding = ROUNDING * np.maximum(np.abs(made.mins), np.abs(made.maxs)) * made.counts
        sums = np.abs(made.sums - kept.sums) <= rounding
    sums |= (made.sums == kept.sums) | (np.isnan(made.sums) & np.isnan(kept.sums))
    alike: Mask = sums & (made.times == kept.times) & (made.counts == kept.counts)
    for a, b in ((made.mins, kept.mins), (made.maxs, kept.maxs)):
        alike &= (a == b) | (np.isnan(a) & np.isnan(b))
    return alike


def _same_ends(made: Parts, kept: Parts, unit_ns: int) -> Mask:
    """Compare first and last readings and when they were.

    Rows of before that was noted span their unit (migration 0003). Such an hour keeps its own first and last reading when late ones come, though
    its minutes may know better.
    """
    here: Mask = _place(made, made.first_at) == _place(kept, kept.first_at)
    here &= _place(made, made.last_at) == _place(kept, kept.last_at)
    values = _same_values(made, kept)
    return (here & values) | (_spanning(kept, unit_ns) & (values | (unit_ns > MINUTE)))


def _spanning(kept: Parts, unit_ns: int) -> Mask:
    """Tell which rows don't know when their first and last readings were."""
    mask: Mask = (_place(kept, kept.first_at) == 0) & (_place(kept, kept.last_at) == unit_ns // _MS - 1)
    return mask


def _same_values(made: Parts, kept: Parts) -> Mask:
    values = np.ones(len(made), np.bool_)
    for a, b in ((made.firsts, kept.firsts), (made.lasts, kept.lasts)):
        values &= (a == b) | (np.isnan(a) & np.isnan(b))
    return values


def _place(parts: Parts, at: I64) -> I64:
    return (at - parts.times) // _MS


def _same_sketches(made: Parts, kept: Parts, unsketched_to_ns: int) -> Mask:
    """Compare byte for byte; a row that has none, where one could be made, is right only before it was its turn."""
    if made.sketches is None or kept.sketches is None:
        return np.ones(len(made), np.bool_)
    pairs = zip(
        made.sketches.blobs(len(made)),
        kept.sketches.blobs(len(kept)),
        (made.times < unsketched_to_ns).tolist(),
        strict=True,
    )
    return np.fromiter(
        (there == could_be or (there is None and waits) for could_be, there, waits in pairs),
        np.bool_,
        len(made),
    )


def differences(made: Parts, kept: Parts, of: Kept) -> I64:
    """Return the times, ascending, at which rows differ, or are in one of the two alone."""
    both = np.intersect1d(made.times, kept.times, assume_unique=True)
    alone = np.setxor1d(made.times, kept.times, assume_unique=True)
    here, there = (parts.take(np.searchsorted(parts.times, both)) for parts in (made, kept))
    return np.sort(np.concatenate((alone, both[~equal(here, there, of)])))
