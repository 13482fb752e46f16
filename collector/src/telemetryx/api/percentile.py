"""Percentiles over many series: exact where only some readings are there, else by merged sketches (within 1 %).

Every reading counts once: an agent ships each raw or in a window (agent/crates/fold and spool), and what it thinned later are others
than those that it had shipped before, so both may lie in the time of one window. What is held at once doesn't grow with the time: readings are
folded into sketches when they are too many, and a value is computed as soon as nothing more can come for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryx.compiled import native
from telemetryx.promql.over_time import between
from telemetryx.sets import among
from telemetryx.store.percentiles import RollupBlock, damaged
from telemetryx.types import F64, I64, DamagedSketch, SampleBlock, SketchBlock, WindowBlock

Columns = tuple[Any, Any, Any, Any]

EXACT: Final = 1_000_000
"""Readings that are held as they are; beyond it those of one value become its sketch."""
_FEW: Final = 64
"""Readings of one value that aren't worth a sketch."""
_BINS: Final = 2_000_000
"""Bins of sketches that wait for their merging, about."""
_LAST: Final = int(np.iinfo(np.int64).max)
_LARGEST: Final = float(np.finfo(np.float64).max)


@dataclass(slots=True)
class Percentiles:
    """Collects readings and windows by cell: group times step; `values` has the percentile of each, NaN where there is nothing."""

    groups: Mapping[int, int]
    """Of each series' id, the number of its group."""
    start_ns: int
    step_ns: int
    steps: int
    cells: int
    """How many there are."""
    q: float
    exact_most: int = field(default_factory=lambda: EXACT)
    """Readings that are held before those of one value become a sketch."""
    blind: int = 0
    """Windows without a sketch: nothing can be told of them."""
    missing: int = 0
    """Readings of rollups that no sketch knows,"""
    missing_from: int = _LAST
    """and between when they lie."""
    missing_until: int = -_LAST
    damaged: list[DamagedSketch] = field(default_factory=list)
    """Sketches that aren't what was stored."""
    folded: bool = False
    """Whether readings became sketches for their number."""
    exact: bool = True
    """Whether no sketch was needed."""
    values: F64 = field(init=False)
    _infinite: bool = False
    _extremes: tuple[F64, F64] | None = None
    _held: int = 0
    _keys: list[I64] = field(default_factory=list)
    _readings: list[F64] = field(default_factory=list)
    _bins: int = 0
    _merged: list[tuple[I64, Columns]] = field(default_factory=list)

    @property
    def end_ns(self) -> int:
        """Where the last step ends."""
        return self.start_ns + self.steps * self.step_ns

    def __post_init__(self) -> None:
        """Know nothing of any cell."""
        self.values = np.full(self.cells, np.nan)

    def add(self, samples: SampleBlock, windows: WindowBlock) -> None:
        """Take what one slice holds; a window belongs where it starts."""
        keep = ~np.isnan(samples.values)
        if keep.any():
            owner = np.repeat(samples.series, np.diff(samples.offsets))
            self._keys.append(self._cells(owner[keep], samples.times[keep]))
            self._readings.append(samples.values[keep])
            self._held += len(self._readings[-1])
        if not len(windows):
            return
        self.damaged += windows.damaged
        if windows.sketch is None:
            self.blind += len(windows)
            return
        sketch = windows.sketch
        told = sketch.counts.reshape(-1, 2).sum(axis=1) + sketch.zero > 0
        self.blind += int((~told & (windows.count > 0)).sum())
        cells = self._cells(windows.series, windows.start)
        self._within(cells, windows.min, windows.max)
        self._sketched(*_merge(_columns(sketch), cells))

    def add_rollups(self, block: RollupBlock, unit_ns: int) -> None:
        """Take rollups of a level whose unit this is."""
        if not len(block):
            return
        figures = (block.counts, block.sums, block.mins, block.maxs)
        self._infinite |= bool(np.isinf(block.mins).any() or np.isinf(block.maxs).any())
        self.damaged += block.damaged
        places = self._cells(block.series, block.times)
        self._within(places, block.mins, block.maxs)
        try:
            cells, missing, columns = native().rollup_group(
                block.sketches,
                block.offsets,
                tuple(np.require(column, requirements=("C", "A")) for column in figures),
                places,
            )
        except ValueError as error:
            raise damaged(error) from error
        self._sketched(cells, columns)
        lacking = missing > 0
        if lacking.any():
            self.missing += int(missing.sum())
            times = block.times[lacking]
            self.missing_from = min(self.missing_from, int(times.min()))
            self.missing_until = max(self.missing_until, int(times.max()) + unit_ns)

    def settle(self, group: int, step: int) -> None:
        """Compute what is complete: before this step all groups, in it and after it those before this group.

        What is left is folded into sketches when it is too much.
        """
        if self._held > self.exact_most or self._bins > _BINS:
            self._complete(group, step)
        if self._held > self.exact_most:
            self._fold_many()
        if self._bins > _BINS:
            self._together()

    def finish(self) -> None:
        """Compute all that is left."""
        self._complete(self.cells // max(1, self.steps), self.steps)

    def _complete(self, group: int, step: int) -> None:
        """Compute the values of the cells for which nothing more comes, and forget what was held for them."""
        keys, values = self._taken_out()
        sketched, columns = self._together()
        done = self._done(keys, group, step)
        ready = self._done(sketched, group, step)
        beside = done & among(keys, sketched[ready]) if ready.any() else np.zeros(len(keys), np.bool_)
        if beside.any():
            self._fold(keys[beside], values[beside])
            sketched, columns = self._together()
            ready = self._done(sketched, group, step)
        alone = done & ~beside
        self._exactly(keys[alone], values[alone])
        self._hold(keys[~done], values[~done])
        if ready.any():
            self.exact = False
            found = native().sketch_quantile(*_taken(columns, ready), self.q)
            if self._infinite:
                # An infinite reading was counted as the largest number.
                found = np.where(np.abs(found) > 0.98 * _LARGEST, np.copysign(np.inf, found), found)
            self.values[sketched[ready]] = self._clamped(sketched[ready], found)
            self._merged, self._bins = [], 0
            if not ready.all():
                self._sketched(sketched[~ready], _taken(columns, ~ready))

    def _within(self, cells: I64, lows: F64, highs: F64) -> None:
        """Note between which values the readings of cells with sketches lie: those tell it to within 1 % only, and take what is below 1e-12 for zero."""
        if self._extremes is None:
            self._extremes = np.full(self.cells, np.inf), np.full(self.cells, -np.inf)
        np.fmin.at(self._extremes[0], cells, lows)
        np.fmax.at(self._extremes[1], cells, highs)

    def _clamped(self, cells: I64, found: F64) -> F64:
        """Keep what sketches give between the least and the greatest reading, which are known exactly."""
        if self._extremes is None:
            return found
        low, high = (column[cells] for column in self._extremes)
        if self.q in (0, 1):
            return np.where(np.isnan(found), found, high if self.q else low)
        return np.where(np.isnan(found), found, np.minimum(np.maximum(found, low), high))

    def _exactly(self, keys: I64, values: F64) -> None:
        if not len(keys):
            return
        order = np.lexsort((values, keys))
        keys, values = keys[order], values[order]
        starts, sizes = _runs(keys)
        wanted = np.full(len(starts), self.q)
        found = between(values, starts, sizes.astype(np.float64), wanted)
        # Between a number and an infinity there is nothing: it is the lower one.
        lower = values[starts + np.floor(self.q * (sizes - 1)).astype(np.int64)]
        self.values[keys[starts]] = np.where(np.isnan(found), lower, found)

    def _done(self, keys: I64, group: int, step: int) -> NDArray[np.bool_]:
        return np.asarray((keys % self.steps < step) | (keys // self.steps < group), np.bool_)

    def _taken_out(self) -> tuple[I64, F64]:
        """Return cells and values of the readings that are held, and hold none any more."""
        if not self._keys:
            return np.empty(0, np.int64), np.empty(0)
        keys, values = np.concatenate(self._keys), np.concatenate(self._readings)
        self._hold(keys[:0], values[:0])
        return keys, values

    def _hold(self, keys: I64, values: F64) -> None:
        self._keys, self._readings, self._held = ([keys], [values], len(keys)) if len(keys) else ([], [], 0)

    def _fold_many(self) -> None:
        """Make sketches of the readings of cells that have many: of a few they would be no smaller."""
        keys, values = _by_cell(*self._taken_out())
        _, sizes = _runs(keys)
        many = np.repeat(sizes >= _FEW, sizes)
        self._hold(keys[~many], values[~many])
        if many.any():
            self.folded = True
            self._fold(keys[many], values[many])

    def _fold(self, keys: I64, values: F64) -> None:
        """Make sketches of readings, one a cell."""
        keys, values = _by_cell(keys, values)
        starts, _ = _runs(keys)
        if len(starts):
            self._within(
                keys[starts], np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
            )
        infinite = np.isinf(values)
        if infinite.any():
            self._infinite = True
            values = np.clip(values, -_LARGEST, _LARGEST)
        built = [native().sketch_build(part) for part in np.split(values, starts[1:])]
        self._sketched(keys[starts], _joined(built))

    def _sketched(self, cells: I64, columns: Columns) -> None:
        self._merged.append((cells, columns))
        self._bins += len(columns[1])

    def _together(self) -> tuple[I64, Columns]:
        """Merge the sketches that are held; return them, one a cell, ascending."""
        if not self._merged:
            blank = np.empty(0, np.uint64)
            return np.empty(0, np.int64), (np.empty(0, np.uint32), np.empty(0, np.int32), blank, blank)
        if len(self._merged) > 1:
            cells = np.concatenate([one for one, _ in self._merged])
            merged = _merge(_joined([one for _, one in self._merged]), cells)
            self._merged, self._bins = [], 0
            self._sketched(*merged)
        return self._merged[0]

    def _cells(self, series: I64, times: I64) -> I64:
        ids, place = np.unique(series, return_inverse=True)  # noqa: TID251  with places: it loads nothing
        mine = np.array([self.groups[one] for one in ids.tolist()], np.int64)[place]
        return np.asarray(mine * self.steps + (times - self.start_ns) // self.step_ns, np.int64)


def _by_cell(keys: I64, values: F64) -> tuple[I64, F64]:
    """Put readings in the order of their cells."""
    if len(keys) and (keys[1:] < keys[:-1]).any():
        order = np.argsort(keys, kind="stable")
        return keys[order], values[order]
    return keys, values


def _runs(keys: I64) -> tuple[I64, I64]:
    """Return where the runs of equal keys begin, and how long they are."""
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    return starts, np.diff(np.append(starts, len(keys)))


def _columns(sketch: SketchBlock) -> Columns:
    return sketch.counts, sketch.keys, sketch.weights, sketch.zero


def _joined(parts: list[Columns]) -> Columns:
    sizes, keys, counts, zeros = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return sizes, keys, counts, zeros


def _taken(columns: Columns, rows: NDArray[np.bool_]) -> Columns:
    """Pick sketches."""
    sizes, keys, counts, zeros = columns
    sides = np.repeat(rows, 2)
    bins = np.repeat(sides, sizes)
    return sizes[sides], keys[bins], counts[bins], zeros[rows]


def _merge(columns: Columns, cells: I64) -> tuple[I64, Columns]:
    sizes, keys, counts, zeros = columns
    merged: tuple[I64, Columns] = native().sketch_merge(sizes, keys, counts, zeros, cells)
    return merged
