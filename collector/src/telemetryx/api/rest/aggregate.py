"""/api/v1/aggregate: many series as one, or as one for each value of some labels; over steps, or the whole time at once."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryx.api import damage, models, percentile, special
from telemetryx.api import span as spans
from telemetryx.api.budget import PERCENTILE, POINT, SLICE
from telemetryx.api.errors import BadRequest
from telemetryx.api.percentile import Percentiles
from telemetryx.api.rest.series import NICE_STEPS, none_match, widened
from telemetryx.api.route import Route, shown
from telemetryx.api.span import HOUR_NS
from telemetryx.api.times import NS, UNITS, format_time
from telemetryx.api.world import World
from telemetryx.errors import QueryOutOfTime, TooManyReadings
from telemetryx.store import selector
from telemetryx.store.accounts import Role
from telemetryx.store.percentiles import RollupBlock
from telemetryx.types import F64, Level, RangeResult, SampleBlock, Series, Stretch, WindowBlock

Mask = NDArray[np.bool_]
MAX_SERIES: Final = 20_000
MAX_LABELS: Final = 16
MAX_CELLS: Final = 5_000_000
#: Readings and windows that a percentile reads at once.
AT_ONCE: Final = 500_000
WINDOWS_AT_ONCE: Final = 20_000
#: Rollups likewise.
ROLLUPS_AT_ONCE: Final = 20_000
#: Readings of a series that are read together, about: some chunks, so that few are decoded twice.
_IN_ROW: Final = 16_384
_STEPS: Final = 1_000
_SPARE: Final = 1.5
_LITTLE: Final = 0.25
_MUCH: Final = 0.5
#: A reading in three years: no series is slower, as far as slices are concerned.
_LEAST: Final = 1e-8
QUANTILE: Final = 0.99


@dataclass(slots=True)
class Found:
    """Groups by steps, and what was read: the span and step may be other ones than were asked for."""

    start_ns: int
    end_ns: int
    step_ns: int
    """0 for the whole time at once."""
    values: F64
    levels: Sequence[Stretch] = ()
    """What was read of which part of the time."""
    method: str = "exact"
    gaps: Mask | None = None
    """Where there is nothing."""
    warnings: list[str] = field(default_factory=list)


async def aggregate(world: World, params: models.AggregateParams) -> dict[str, Any]:
    """Aggregate series by label."""
    start, end = spans.span(params.start, params.end, world.clock.now_ns())
    spans.computed(start, end)
    _check(params)
    rows = await world.store.series(selector.parse(params.match), limit=MAX_SERIES + 1)
    if len(rows) > MAX_SERIES:
        raise BadRequest(
            f"more than {MAX_SERIES} series match",
            "narrow the selector: an aggregate of a part would be wrong",
        )
    keys = [tuple(selector.label(row, name) for name in params.by) for row in rows]
    groups = sorted(set(keys))
    places = {key: at for at, key in enumerate(groups)}
    numbers = np.array([places[key] for key in keys], np.int64)
    step = _step(params, end - start)
    # Steps are whole ones, at both ends: the answer's times say so.
    span = spans.whole(start, end, step) if step else (start, end)
    steps = (span[1] - span[0]) // step if step else 1
    if steps * max(1, len(rows)) > MAX_CELLS:
        raise BadRequest(
            f"{len(rows)} series with {steps} steps are more than {MAX_CELLS} values", "use a wider step"
        )
    if params.agg == "quantile":
        found = await _percentiles(world, params, rows, numbers, span, step)
    else:
        found = await _plain(world, params, rows, numbers, span, step)
    values = found.values
    if not rows:
        found.warnings.append(none_match(params.match))
    times = found.start_ns + found.step_ns * np.arange(values.shape[1] if rows else 0, dtype=np.int64)
    counted = np.bincount(numbers, minlength=len(groups)).tolist()
    return {
        "start_ns": found.start_ns,
        "end_ns": found.end_ns,
        "step_ns": found.step_ns,
        "level": _coarsest(found.levels),
        "levels": [
            {"level": one.level, "start_ns": one.start_ns, "end_ns": one.end_ns} for one in found.levels
        ],
        "groups": [
            {
                "labels": dict(zip(params.by, key, strict=True)),
                "series": counted[at],
                "times_ns": times,
                "values": values[at],
                "special": special.of({"values": values[at]}, None if found.gaps is None else found.gaps[at]),
            }
            for at, key in enumerate(groups)
        ],
        "method": found.method,
        "warnings": found.warnings,
    }


def _coarsest(levels: Sequence[Stretch]) -> Level:
    read = {one.level for one in levels}
    return "1h" if "1h" in read else "1m" if "1m" in read else "raw"


def _check(params: models.AggregateParams) -> None:
    """Refuse what would be left out of the answer without a word."""
    if params.q is not None and params.agg != "quantile":
        raise BadRequest(f"agg={params.agg} has no `q`", "leave it out, or ask for agg=quantile")
    if len(params.by) > MAX_LABELS:
        raise BadRequest(f"`by` names {len(params.by)} labels", f"at most {MAX_LABELS} are possible")
    if "" in params.by:
        raise BadRequest(
            "`by` names no label", "say which, e.g. by=site, or leave it out for all series as one"
        )
    if twice := [name for at, name in enumerate(params.by) if name in params.by[:at]]:
        raise BadRequest(f"`by` names {shown(twice[0])} twice", "name each label once")


def _step(params: models.AggregateParams, span: int) -> int:
    """Return the step that is asked for: 0 for the whole time at once."""
    if params.step is None:
        return 0
    if params.step == "auto":
        least = -(-span // params.max_points)
        return next((step for step in NICE_STEPS if step >= least), least + -least % NICE_STEPS[-1])
    return params.step


async def _plain(
    world: World,
    params: models.AggregateParams,
    rows: Sequence[Series],
    numbers: Any,  # noqa: ANN401  a column
    span: tuple[int, int],
    step: int,
) -> Found:
    ids = [row.id for row in rows]

    async def reduced() -> tuple[RangeResult, tuple[F64, Mask]]:
        if step:
            found = await world.store.range(
                ids, *span, step, "sum", max_points=4 * MAX_CELLS, seconds=world.limits.reading_s
            )
        else:
            found = await world.store.whole(ids, *span, "sum", seconds=world.limits.reading_s)
        return found, await asyncio.to_thread(_reduced, params.agg, found, rows, numbers)

    points = len(ids) * ((span[1] - span[0]) // step if step else 1)
    found, (values, gaps) = await world.budget.run(SLICE + POINT * points, reduced())
    shown = found.step_ns if step else 0
    warnings = []
    if params.step not in (None, "auto", shown):
        warnings.append(widened(step, found.step_ns, found.raw_from_ns))
    return Found(found.start_ns, found.end_ns, shown, values, found.stretches, gaps=gaps, warnings=warnings)


def _reduced(
    agg: str,
    found: RangeResult,
    rows: Sequence[Series],
    numbers: Any,  # noqa: ANN401  a column
) -> tuple[F64, Mask]:
    """Reduce series to groups; also tell where there is nothing."""
    if not rows:
        return np.empty((0, 0)), np.empty((0, 0), np.bool_)
    by_id = {one.id: one for one in found.series}
    lines = [by_id[row.id] for row in rows]
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    counts = np.stack([line.counts for line in lines]).astype(np.float64)[order]

    def reduce(ufunc: np.ufunc, columns: list[F64], fill: float) -> F64:
        stacked = np.where(counts > 0, np.stack(columns)[order], fill)
        return np.asarray(ufunc.reduceat(stacked, starts, axis=0), np.float64)

    number = reduce(np.add, [line.counts.astype(np.float64) for line in lines], 0.0)
    with np.errstate(all="ignore"):
        if agg == "count":
            out = number
        elif agg == "min":
            out = reduce(np.fmin, [line.min for line in lines], np.nan)
        elif agg == "max":
            out = reduce(np.fmax, [line.max for line in lines], np.nan)
        else:
            out = reduce(np.add, [line.values for line in lines], 0.0)
            out = out / number if agg == "avg" else out
    return np.where(number > 0, out, np.nan), number == 0


async def _percentiles(
    world: World,
    params: models.AggregateParams,
    rows: Sequence[Series],
    numbers: Any,  # noqa: ANN401  a column
    span: tuple[int, int],
    asked: int,
) -> Found:
    if not rows:
        return Found(*span, asked, np.empty((0, 0)))
    warnings: list[str] = []
    # Others may hold the memory that it needs: the wait for it is part of its time.
    deadline = time.monotonic() + world.limits.reading_s
    of = dict(zip((row.id for row in rows), numbers.tolist(), strict=True))
    levels = await world.store.levels_of_percentiles(list(of), *span, asked, percentile.EXACT)
    start, end, shown = levels.start_ns, levels.end_ns, levels.step_ns
    step = shown or end - start
    steps = -(-(end - start) // step)
    groups = int(numbers.max()) + 1
    q = QUANTILE if params.q is None else params.q
    held = Percentiles(of, start, step, steps, groups * steps, q)
    async with world.budget.hold(PERCENTILE + POINT * groups * steps):
        await _Collected(world, held, deadline).read(levels.stretches)
    values = held.values
    if params.step not in (None, "auto", shown):
        warnings.append(widened(asked, shown, levels.raw_from_ns))
    warnings += damage.told(held.damaged, rows)
    if held.missing:
        warnings.append(
            f"{held.missing} readings between {format_time(held.missing_from)} and {format_time(held.missing_until)} stand in "
            "rollups without a sketch, which an older collector wrote or which are of windows without one: percentiles know "
            "nothing of them"
        )
    if held.blind:
        warnings.append(f"{held.blind} windows hold no sketch: percentiles know nothing of them")
    if held.folded:
        warnings.append(
            f"more than {percentile.EXACT} readings are held as sketches: the result is within 1 % of a reading at that rank"
        )
    elif levels.for_number:
        warnings.append(
            "for their number readings are taken from rollups: the result is within 1 % of a reading at that rank"
        )
    method = "exact" if held.exact else "sketch"
    shaped = values.reshape(groups, steps)
    return Found(start, end, shown, shaped, levels.stretches, method, np.isnan(shaped), warnings)


@dataclass(slots=True)
class _Collected:
    """Reads all that percentiles are made of, in slices: by stretches of time, in these by series in the order of groups, in these by time.

    Stretches end where steps do, but for those at a change of levels: a step that two levels lie in is complete behind both.
    """

    world: World
    held: Percentiles
    deadline: float
    """When its time is over, by the monotonic clock."""
    rate: float = 1.0
    """Readings a second and series, as seen lately."""

    _share: float = 0.0
    """How much of what may be read at once the last stretch had."""
    _whole: bool = True
    """Whether it ends where a step does: else another level goes on with its last one."""

    async def read(self, stretches: Sequence[Stretch]) -> None:
        """Read stretches of levels that ascend. Raises QueryOutOfTime."""
        held = self.held
        ids = sorted(held.groups, key=lambda one: (held.groups[one], one))
        for one in stretches:
            if one.level == "raw":
                await self._raw(ids, (one.start_ns, one.end_ns))
            else:
                await self._rollups(ids, one)
        await asyncio.to_thread(held.finish)

    async def _rollups(self, ids: list[int], stretch: Stretch) -> None:
        """Read rollups, some units of all series at once; where there are few, more units each time."""
        held, begun, many = self.held, stretch.start_ns, 1
        unit = UNITS[stretch.level[1:]]
        least = unit * max(1, ROLLUPS_AT_ONCE // len(ids))
        while begun < stretch.end_ns:
            until = min(stretch.end_ns, begun + many * least)
            try:
                blocks = [block async for block in self._sketched(ids, (begun, until), stretch.level, many)]
            except TooManyReadings:
                many = max(1, many // 8)
                continue
            for block in blocks:
                await asyncio.to_thread(held.add_rollups, block, unit)
                await asyncio.to_thread(held.settle, 0, (begun - held.start_ns) // held.step_ns)
            await asyncio.to_thread(held.settle, 0, (until - held.start_ns) // held.step_ns)
            begun = until
            many = 2 * many if sum(map(len, blocks)) < _LITTLE * ROLLUPS_AT_ONCE else many

    async def _sketched(
        self, ids: list[int], span: tuple[int, int], level: Level, many: int
    ) -> AsyncIterator[RollupBlock]:
        """Give rollups of some series after others. Raises TooManyReadings where more units than one were too many."""
        left = ROLLUPS_AT_ONCE
        for at in range(0, len(ids), ROLLUPS_AT_ONCE):
            self._in_time()
            block = await self.world.store.sketched(
                ids[at : at + ROLLUPS_AT_ONCE],
                *span,
                level,
                most=None if many == 1 else left,
                seconds=self.deadline - time.monotonic(),
            )
            left = max(0, left - len(block))
            yield block

    async def _raw(self, ids: list[int], span: tuple[int, int]) -> None:
        """Read readings and windows."""
        held = self.held
        least = held.step_ns * max(1, min(HOUR_NS // held.step_ns, _STEPS))
        begun, many = span[0], 1
        while begun < span[1]:
            until = begun + many * least
            until = min(span[1], until - (until - held.start_ns) % held.step_ns)
            self._whole = until == held.end_ns or (until - held.start_ns) % held.step_ns == 0
            self._share = 0.0
            if many == 1:
                await self._stretch(ids, (begun, until))
            elif not await self._at_once(ids, (begun, until)):
                many = max(1, many // 8)
                continue
            begun = until
            # Where there is little, or nothing for decades, stretches are read together, twice as many each time.
            if self._share < _LITTLE:
                many *= 2
            elif self._share > _MUCH:
                many = max(1, many // 2)

    async def _at_once(self, ids: list[int], span: tuple[int, int]) -> bool:
        """Read many steps of all series together, and settle them; False when that is too much."""
        self._in_time()
        try:
            samples = await self.world.store.samples(ids, *span, limit=AT_ONCE)
            windows = await self.world.store.windows(ids, *span, limit=WINDOWS_AT_ONCE)
        except TooManyReadings:
            return False
        self._share = max(len(samples) / AT_ONCE, len(windows) / WINDOWS_AT_ONCE)
        behind = (span[1] - self.held.start_ns) // self.held.step_ns
        await asyncio.to_thread(_add, self.held, samples, windows, (0, behind))
        return True

    async def _stretch(self, ids: list[int], span: tuple[int, int]) -> None:
        """Read as few steps as there are in one go, some series after others, some time after other."""
        held = self.held
        begun, until = span
        step, at = (begun - held.start_ns) // held.step_ns, 0
        while at < len(ids):
            length = self._length(until - begun)
            many = max(1, int(AT_ONCE * NS / (self.rate * length * _SPARE)))
            some = ids[at : at + many]
            at += len(some)
            after = held.groups[ids[at]] if at < len(ids) else len(held.values) // held.steps
            first, after = (held.groups[some[0]], after) if self._whole else (0, 0)
            start = begun
            while start < until:
                # NOTE: measured again each time: decades without a reading are passed in strides that double.
                end = start + self._length(until - start)
                await self._slice(some, (start, end), (first, step))
                start = end
            await asyncio.to_thread(held.settle, after, step)

    def _in_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise QueryOutOfTime(
                "the time of a query was over before all readings of this percentile were read: nothing is answered, for a part "
                "would look like the whole; ask for a shorter time or fewer series"
            )

    def _length(self, most: int) -> int:
        """Choose how long the next slice is: about `_IN_ROW` readings of a series."""
        return min(most, max(NS, int(_IN_ROW / self.rate * NS)))

    async def _slice(self, ids: list[int], span: tuple[int, int], complete: tuple[int, int]) -> None:
        """Read a slice, or its halves where it holds too much."""
        self._in_time()
        try:
            samples = await self.world.store.samples(ids, *span, limit=AT_ONCE)
            windows = await self.world.store.windows(ids, *span, limit=WINDOWS_AT_ONCE)
        except TooManyReadings:
            middle, half = (span[0] + span[1]) // 2, len(ids) // 2
            self.rate *= 2
            if half:
                await self._slice(ids[:half], span, complete)
                await self._slice(ids[half:], span, complete)
            elif middle > span[0]:
                await self._slice(ids, (span[0], middle), complete)
                await self._slice(ids, (middle, span[1]), complete)
            else:
                raise
            return
        seen = len(samples) * NS / ((span[1] - span[0]) * len(ids))
        self.rate = max(_LEAST, seen, self.rate / 2)
        self._share += len(samples) / AT_ONCE + len(windows) / WINDOWS_AT_ONCE
        await asyncio.to_thread(_add, self.held, samples, windows, complete)


def _add(held: Percentiles, samples: SampleBlock, windows: WindowBlock, complete: tuple[int, int]) -> None:
    """Take a slice, and compute or fold what is too much to hold."""
    held.add(samples, windows)
    held.settle(*complete)


ROUTES = (
    Route(
        "GET",
        "/api/v1/aggregate",
        aggregate,
        models.AggregateAnswer,
        "Many series as one",
        "data",
        Role.VIEWER,
        models.AggregateParams,
    ),
)
