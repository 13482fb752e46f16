"""Rows that stand for many readings, as a row a bin of their sketch: at the row's time, with the bin's value and how many readings lie in it.

So whoever counts rows by what they stand for (PromQL's quantile_over_time) sees the readings of a rollup or a window, within 1 %, beside samples that
are as they were.
"""

import numpy as np

from telemetryx.compiled import native
from telemetryx.sets import distinct
from telemetryx.store.percentiles import damaged
from telemetryx.store.tables import rollup, sketches
from telemetryx.store.tables.rollup import Many, Parts
from telemetryx.types import F64, I64

_LARGEST = float(np.finfo(np.float64).max)


def spread(found: Many) -> tuple[Many, int]:
    """Spread rows with sketches; return how many readings no sketch knows, too: they are left out."""
    series, parts = found
    many = parts.counts > 1
    if parts.sketches is None or not many.any():
        return found, 0
    owners, rows = series[many], parts.take(many)
    assert rows.sketches is not None  # noqa: S101 - they are taken from some
    try:
        _, missing, (sizes, keys, weights, zeros) = native().rollup_group(
            *rows.sketches.packed_of(len(rows)),
            sketches.readable(*rows.figures),
            np.arange(len(rows), dtype=np.int64),
        )
    except ValueError as error:
        raise damaged(error) from error
    bins = np.repeat(np.arange(len(rows)), sizes.reshape(-1, 2).sum(axis=1, dtype=np.int64))
    values = _values(keys) * np.repeat(np.tile([1.0, -1.0], len(rows)), sizes)
    # An infinite reading was counted as the largest number.
    edge = np.abs(values) > 0.98 * _LARGEST
    if edge.any():
        extremes = np.where(values > 0, rows.maxs[bins], rows.mins[bins])
        values = np.where(edge & np.isinf(extremes), extremes, values)
    nothing = np.flatnonzero(zeros)
    at = np.concatenate((bins, nothing))
    values = np.concatenate((values, np.zeros(len(nothing))))
    # What is smaller than a sketch tells from zero lies between the row's extremes all the same.
    values = np.fmin(np.fmax(values, rows.mins[at]), rows.maxs[at])
    counts = np.concatenate((weights, zeros[nothing])).astype(np.int64)
    order = np.argsort(at, kind="stable")
    made = _rows(rows.times[at][order], values[order], counts[order])
    singles = parts.take(~many)
    singles.sketches = None
    both = rollup.ascending([(series[~many], singles), (owners[at][order], made)])
    return both, int(missing.sum())


def _rows(times: I64, values: F64, counts: I64) -> Parts:
    return Parts(times, counts, values, values, values, values, values, times, times)


def _values(keys: I64) -> F64:
    """Return what stands for each bin: that of a sketch of it alone."""
    some = distinct(np.asarray(keys, np.int64))
    sizes = np.tile(np.array([1, 0], np.uint32), len(some))
    ones, none = np.ones(len(some), np.uint64), np.zeros(len(some), np.uint64)
    known: F64 = native().sketch_quantile(sizes, some.astype(np.int32), ones, none, 0.0)
    return known[np.searchsorted(some, keys)] if len(some) else np.empty(0)
