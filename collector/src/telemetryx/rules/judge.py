"""Runs a group's state machine over stored readings: onwards from its newest state, or again from a checkpoint.

Readings at their time are judged for many groups in one read. Late ones are judged by running again from the last
checkpoint before them, in slices of bounded size, until a later checkpoint shows the same state: from there on the past
can't differ any more. Nothing here writes; what it returns is a proposal that engine.py stores.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np

from telemetryx.errors import QueryRefused
from telemetryx.rules.group import Checkpoint, Group, prune
from telemetryx.rules.machine import Episode, Machine, Phase, Run, Terms, ongoing, run
from telemetryx.rules.model import MetricRule
from telemetryx.rules.window import Points, Readings, evaluate, gather
from telemetryx.types import F64, I64, SampleBlock, WindowBlock

#: A point in time that the data hasn't passed is judged this long after it, by the clock.
SETTLE_NS: Final = 2_000_000_000
#: Checkpoints are taken this many points apart in a long run, before they are thinned.
STRIDE: Final = 64
#: A slice grows or shrinks towards this many readings.
SLICE_READINGS: Final = 100_000
_SLICE_POINTS: Final = 512
_READING_SLICE_NS: Final = 600_000_000_000


class Source(Protocol):
    """The part of the store that holds readings."""

    async def samples(self, series_ids: Sequence[int], start_ns: int, end_ns: int) -> SampleBlock:
        """Return raw samples in a half-open range."""
        ...

    async def windows(self, series_ids: Sequence[int], start_ns: int, end_ns: int) -> WindowBlock:
        """Return the windows that start in a half-open range."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What judging a group gave: its new memory, and what stands in the time that was judged.

    `start` is the state that judging began in, `from_ns` when. `upto_ns` is where the run met what was known, None when
    it went to the newest point. `rerun`: what was known before may be wrong and must be compared with `episodes`.
    """

    group: Group
    start: Machine
    from_ns: int
    upto_ns: int | None
    episodes: list[Episode]
    rerun: bool


def terms(rule: MetricRule) -> Terms:
    """Return what the state machine needs of a rule."""
    return Terms(rule.when, rule.recover_when, rule.for_, rule.gap_ns)


def first_point(rule: MetricRule, time: int) -> int:
    """Return the first point whose window holds a reading of this time."""
    return -(-time // rule.interval) * rule.interval if rule.interval else time


def horizon(rule: MetricRule, reached_ns: int, now_ns: int) -> tuple[int, int]:
    """Return up to where a group can be judged, and when the point after that is due by the clock (0: never).

    A point is judged once readings have reached it. The last one, which they only approach, is judged when the clock has
    passed it. So a rule never claims anything about a time that its data didn't reach, and no reading stays unjudged.
    """
    if not rule.interval:
        return reached_ns, 0
    done = reached_ns // rule.interval * rule.interval
    if done == reached_ns:
        return done, 0
    coming = done + rule.interval
    return (coming, 0) if now_ns >= coming + SETTLE_NS else (done, coming + SETTLE_NS)


async def read(
    source: Source, groups: Sequence[Sequence[int]], start_ns: int, end_ns: int, longest_ns: int
) -> Readings:
    """Read what these groups' series hold in the half-open range."""
    ids = [series for group in groups for series in group]
    samples = await source.samples(ids, start_ns, end_ns)
    windows = await source.windows(ids, start_ns - longest_ns, end_ns) if longest_ns else None
    return gather(groups, samples, windows)


async def extend(
    source: Source,
    rule: MetricRule,
    groups: Sequence[Group],
    series: Sequence[Sequence[int]],
    upto: Sequence[int],
    lateness_ns: int,
) -> list[Verdict]:
    """Judge many groups onwards from their newest states, in one read; their heads should lie close together."""
    after = np.array([group.head.at_ns for group in groups], np.int64)
    ends = np.maximum(np.array(upto, np.int64), after)
    longest = max(group.longest_ns for group in groups)
    readings = await read(source, series, int(after.min()) - rule.window + 1, int(ends.max()) + 1, longest)
    points = evaluate(rule.agg, rule.window, rule.interval, readings, after, ends)
    hits = np.concatenate(([0], np.cumsum(rule.when.holds(points.values))))
    hits = np.diff(hits[points.offsets])
    found: list[Verdict] = []
    for index, group in enumerate(groups):
        head = group.head
        times, values = points.of(index)
        quiet = head.machine.phase is Phase.INACTIVE and not hits[index]
        result = (
            Run(head.machine, [], []) if quiet else run(terms(rule), head.machine, head.at_ns, times, values)
        )
        checkpoints = (*group.checkpoints, *_checkpoints(result, times))
        found.append(_verdict(group, checkpoints, head, None, result.ended, lateness_ns, rerun=False))
    return found


async def rerun(
    source: Source,
    rule: MetricRule,
    group: Group,
    series: Sequence[int],
    span: tuple[int, int],
    upto_ns: int,
    lateness_ns: int,
) -> Verdict:
    """Judge a group again from the last checkpoint before `span`, the times of its first and last new reading."""
    known = group.checkpoints
    head = group.head.at_ns
    first = first_point(rule, span[0])
    base = bisect_left(known, first, key=_at) - 1
    start = known[max(base, 0)]
    if base < 0:
        base = 0
        if (
            group.born
        ):  # the beginning moves back; otherwise it is too late for what came before, not for what follows
            start = Checkpoint(first - 1, start.machine)
    settled = span[1] + rule.window - 1
    targets = [point for point in known[base + 1 :] if point.at_ns >= settled] if span[1] <= head else []
    end_ns = max(upto_ns, head)
    fresh: list[Checkpoint] = [start]
    episodes: list[Episode] = []
    met: Checkpoint | None = None
    position, width = start.at_ns, _first_width(rule)
    while position < end_ns and met is None:
        stop = min(position + width, end_ns)
        try:
            points, count = await _slice(source, rule, group, series, position, stop)
        except QueryRefused:
            if width <= max(rule.interval, 1):
                raise
            width //= 4
            continue
        times, values = points.of(0)
        result = run(terms(rule), fresh[-1].machine, fresh[-1].at_ns, times, values)
        met, result, times = _meet(result, times, values, rule, fresh[-1], targets, stop)
        fresh += _checkpoints(result, times)
        episodes += result.ended
        position = stop
        width = _next_width(width, count)
    rest = () if met is None else known[bisect_left(known, met.at_ns, key=_at) :]
    if rest and fresh[-1].at_ns == rest[0].at_ns:
        fresh.pop()
    last = met if met is not None else fresh[-1]
    checkpoints = (*known[:base], *fresh, *rest)
    return _verdict(
        group,
        checkpoints,
        start,
        None if met is None else met.at_ns,
        episodes,
        lateness_ns,
        rerun=True,
        last=last,
    )


def _meet(
    result: Run,
    times: I64,
    values: F64,
    rule: MetricRule,
    before: Checkpoint,
    targets: list[Checkpoint],
    stop: int,
) -> tuple[Checkpoint | None, Run, I64]:
    """Look for a known checkpoint in this slice that shows the state just computed; cut the run off there."""
    here = [target for target in targets if before.at_ns < target.at_ns <= stop]
    if not here:
        return None, result, times
    counts = np.searchsorted(times, [target.at_ns for target in here], side="right")
    for target, count, machine in zip(
        here, counts, result.after([int(count) - 1 for count in counts]), strict=True
    ):
        if machine == target.machine:
            size = int(count)
            cut = run(terms(rule), before.machine, before.at_ns, times[:size], values[:size])
            return target, cut, times[:size]
    return None, result, times


async def _slice(
    source: Source, rule: MetricRule, group: Group, series: Sequence[int], after_ns: int, upto_ns: int
) -> tuple[Points, int]:
    readings = await read(source, [series], after_ns - rule.window + 1, upto_ns + 1, group.longest_ns)
    bounds = np.array([after_ns], np.int64), np.array([upto_ns], np.int64)
    return evaluate(rule.agg, rule.window, rule.interval, readings, *bounds), len(readings.times)


def _checkpoints(result: Run, times: I64) -> list[Checkpoint]:
    """Take the state after every so many points, and after the last."""
    size = len(times)
    if size == 0:
        return []
    indices = [*range(STRIDE - 1, size - 1, STRIDE), size - 1]
    return [
        Checkpoint(int(times[index]), machine)
        for index, machine in zip(indices, result.after(indices), strict=True)
    ]


def _verdict(
    group: Group,
    checkpoints: tuple[Checkpoint, ...],
    start: Checkpoint,
    upto_ns: int | None,
    ended: list[Episode],
    lateness_ns: int,
    *,
    rerun: bool,
    last: Checkpoint | None = None,
) -> Verdict:
    going = ongoing((last or checkpoints[-1]).machine)
    kept, born = prune(checkpoints, lateness_ns, born=group.born)
    return Verdict(
        group=replace(group, checkpoints=kept, born=born),
        start=start.machine,
        from_ns=start.at_ns,
        upto_ns=upto_ns,
        episodes=[*ended, *([going] if going else [])],
        rerun=rerun,
    )


def _first_width(rule: MetricRule) -> int:
    return max(_SLICE_POINTS * rule.interval or _READING_SLICE_NS, 4 * rule.window)


def _next_width(width: int, readings: int) -> int:
    """Read more at once where there is little, less where there is much."""
    if readings > 2 * SLICE_READINGS:
        return max(width // 2, 1)
    return width * 2 if readings < SLICE_READINGS // 4 else width


def _at(checkpoint: Checkpoint) -> int:
    return checkpoint.at_ns
