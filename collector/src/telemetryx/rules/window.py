"""From readings to one value a point in time, for many groups at once, in columns.

Points lie on a grid (multiples of the interval since the epoch) or at the readings themselves. A point exists only where
its window (point - window, point] holds a reading: which points there are, and each value, depends on the data alone.
Sums run over a group's readings in (time, series identity, batch key, index) order and over nothing else, so a value is
bit-equal however the readings arrived.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from telemetryx.types import F64, I64, SampleBlock, WindowBlock

Agg = Literal["avg", "min", "max", "last", "count"]
_SAFE: Final = 2**62


@dataclass(frozen=True, slots=True)
class Readings:
    """What was read of many groups: those of group g are the items offsets[g]:offsets[g+1], ascending by time.

    An item is a sample (count 1; the value is sum, min, max and last) or an aggregate that the agent made of several.
    """

    offsets: I64
    times: I64
    count: F64
    sum: F64
    min: F64
    max: F64
    last: F64


@dataclass(frozen=True, slots=True)
class Points:
    """Values at points in time: those of group g are the items offsets[g]:offsets[g+1], ascending by time."""

    offsets: I64
    times: I64
    values: F64

    def of(self, group: int) -> tuple[I64, F64]:
        """Return one group's points."""
        part = slice(int(self.offsets[group]), int(self.offsets[group + 1]))
        return self.times[part], self.values[part]


def gather(groups: Sequence[Sequence[int]], samples: SampleBlock, windows: WindowBlock | None) -> Readings:
    """Sort what the store returned by (group, time); each group names its series in the order of their identity.

    A window counts at the time of its last reading. NaN is not a reading.
    """
    aggregated = windows is not None and len(windows) > 0
    parts: list[tuple[I64, F64]] = []
    sizes: list[int] = []
    for series in groups:
        found = [_of_samples(samples, one, aggregated=aggregated) for one in series]
        if windows is not None and aggregated:
            found += [_of_windows(windows, one) for one in series]
        found = [part for part in found if len(part[0])]
        if len(found) == 1:
            parts.append(found[0])
        elif found:
            times = np.concatenate([part[0] for part in found])
            order = np.argsort(times, kind="stable")
            parts.append((times[order], np.concatenate([part[1] for part in found], axis=1)[:, order]))
        sizes.append(sum(len(part[0]) for part in found))
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    if not parts:
        nothing = np.empty(0, np.float64)
        return Readings(offsets, np.empty(0, np.int64), nothing, nothing, nothing, nothing, nothing)
    times = np.concatenate([part[0] for part in parts])
    columns = np.concatenate([part[1] for part in parts], axis=1)
    if aggregated:
        return Readings(offsets, times, *columns)
    values = columns[0]
    return Readings(offsets, times, np.ones(len(values)), values, values, values, values)


def _of_samples(samples: SampleBlock, series: int, *, aggregated: bool) -> tuple[I64, F64]:
    """Return times and rows (count, sum, min, max, last) of one series, or the values alone where nothing is aggregated."""
    times, values = samples.of(series)
    bad = np.isnan(values)
    if bad.any():
        times, values = times[~bad], values[~bad]
    if not aggregated:
        return times, values[np.newaxis]
    return times, np.stack([np.ones(len(values)), values, values, values, values])


def _of_windows(windows: WindowBlock, series: int) -> tuple[I64, F64]:
    """Return the same of one series' windows, ordered by their last reading."""
    first, end = np.searchsorted(windows.series, [series, series + 1])
    part = slice(int(first), int(end))
    times = windows.last_time[part]
    order = np.argsort(times, kind="stable")
    columns = (windows.count, windows.sum, windows.min, windows.max, windows.last)
    rows = np.stack([np.asarray(column[part], np.float64)[order] for column in columns])
    times = times[order]
    bad = np.isnan(rows).any(axis=0) | (rows[0] == 0)
    return times[~bad], rows[:, ~bad]


def evaluate(agg: Agg, window_ns: int, interval_ns: int, readings: Readings, after: I64, upto: I64) -> Points:
    """Compute each group's values at its points in (after[g], upto[g]]; interval 0 puts the points at the readings."""
    sizes = np.diff(readings.offsets)
    groups = len(sizes)
    if len(readings.times) == 0 or groups == 0:
        return _no_points(groups)
    base = min(int(readings.times.min()), int(after.min())) - window_ns - 1
    span = max(int(readings.times.max()), int(upto.max())) - base + window_ns + 2
    if groups > 1 and span * groups > _SAFE:
        return _one_by_one(agg, window_ns, interval_ns, readings, after, upto)
    owner = np.repeat(np.arange(groups, dtype=np.int64), sizes)
    if interval_ns:
        group, times = _on_grid(window_ns, interval_ns, readings.times, owner, after, upto)
    else:
        group, times = _at_readings(readings.times, owner, after, upto)
    if len(times) == 0:
        return _no_points(groups)
    # One axis for all groups: group g's times lie in [g*span, (g+1)*span), so one binary search serves all.
    axis = owner * span + (readings.times - base)
    ends = group * span + (times - base)
    low = np.searchsorted(axis, ends - window_ns, side="right")
    high = np.searchsorted(axis, ends, side="right")
    values = _reduce(agg, readings, low, high)
    sound = ~np.isnan(values)  # an average of inf and -inf says nothing
    group, times, values = group[sound], times[sound], values[sound]
    offsets = np.searchsorted(group, np.arange(groups + 1, dtype=np.int64)).astype(np.int64)
    return Points(offsets, times, values)


def _on_grid(
    window_ns: int, interval_ns: int, times: I64, owner: I64, after: I64, upto: I64
) -> tuple[I64, I64]:
    """Find the grid points whose window holds a reading: the union of each reading's run of points."""
    first = np.maximum(-(-times // interval_ns), (after // interval_ns + 1)[owner])
    last = np.minimum(-(-(times + window_ns) // interval_ns) - 1, (upto // interval_ns)[owner])
    used = last >= first
    if not used.any():
        return np.empty(0, np.int64), np.empty(0, np.int64)
    first, last, owner = first[used], last[used], owner[used]
    low = int(first.min())
    stride = int(last.max()) - low + 3  # apart by more than one, so that no run reaches the next group's
    first, last = owner * stride + (first - low), owner * stride + (last - low)
    new = np.empty(len(first), np.bool_)
    new[0] = True
    np.greater(first[1:], last[:-1] + 1, out=new[1:])
    starts = first[new]
    lengths = last[np.append(np.flatnonzero(new)[1:] - 1, len(last) - 1)] - starts + 1
    skipped = np.repeat(starts - np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths)
    cells = np.arange(int(lengths.sum()), dtype=np.int64) + skipped
    group, cell = np.divmod(cells, stride)
    return group, (cell + low) * interval_ns


def _at_readings(times: I64, owner: I64, after: I64, upto: I64) -> tuple[I64, I64]:
    used = (times > after[owner]) & (times <= upto[owner])
    times, owner = times[used], owner[used]
    new = np.ones(len(times), np.bool_)
    new[1:] = (np.diff(times) != 0) | (np.diff(owner) != 0)
    return owner[new], times[new]


def _reduce(agg: Agg, readings: Readings, low: I64, high: I64) -> F64:
    match agg:
        case "avg":
            return _each(np.add, readings.sum, low, high) / _each(np.add, readings.count, low, high)
        case "min":
            return _each(np.minimum, readings.min, low, high)
        case "max":
            return _each(np.maximum, readings.max, low, high)
        case "count":
            return _each(np.add, readings.count, low, high)
        case "last":
            return readings.last[high - 1]


def _each(ufunc: np.ufunc, column: F64, low: I64, high: I64) -> F64:
    """Reduce every column[low:high] by itself; the items of one never depend on what else was read."""
    bounds = np.empty(2 * len(low), np.intp)
    bounds[0::2], bounds[1::2] = low, high
    padded = np.append(column, 0.0)  # reduceat wants each bound to be an index
    found: F64 = ufunc.reduceat(padded, bounds)[0::2]
    return found


def _one_by_one(
    agg: Agg, window_ns: int, interval_ns: int, readings: Readings, after: I64, upto: I64
) -> Points:
    """Evaluate groups whose times lie too far apart for one axis."""
    found: list[Points] = []
    for group in range(len(after)):
        part = slice(int(readings.offsets[group]), int(readings.offsets[group + 1]))
        alone = Readings(
            np.array([0, part.stop - part.start], np.int64),
            readings.times[part],
            readings.count[part],
            readings.sum[part],
            readings.min[part],
            readings.max[part],
            readings.last[part],
        )
        found.append(
            evaluate(agg, window_ns, interval_ns, alone, after[group : group + 1], upto[group : group + 1])
        )
    offsets = np.zeros(len(found) + 1, np.int64)
    np.cumsum([len(points.times) for points in found], out=offsets[1:])
    return Points(
        offsets,
        np.concatenate([points.times for points in found]),
        np.concatenate([points.values for points in found]),
    )


def _no_points(groups: int) -> Points:
    return Points(np.zeros(groups + 1, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))
