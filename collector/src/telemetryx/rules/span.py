"""The times of what is new: which stretch of which series a commit touches, and which stretches are judged together."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from telemetryx.rules.group import Group
from telemetryx.rules.judge import SETTLE_NS
from telemetryx.types import I64, Committed


@dataclass(slots=True)
class Span:
    """The times of the new readings of one group that lie together."""

    first_ns: int
    last_ns: int
    longest_ns: int = 0


def extents(
    batch: Committed, wanted: Callable[[I64], NDArray[np.bool_]]
) -> Iterable[tuple[int, int, int, int]]:
    """Yield series, first and last time, and longest window of what a batch holds of the wanted series."""
    block = batch.samples
    if len(block.times):
        filled = (np.diff(block.offsets) > 0) & wanted(block.series)
        firsts = block.times[block.offsets[:-1][filled]]
        lasts = block.times[block.offsets[1:][filled] - 1]
        yield from zip(
            block.series[filled].tolist(), firsts.tolist(), lasts.tolist(), [0] * len(firsts), strict=True
        )
    windows = batch.windows
    if windows is not None and len(windows):
        starts = np.flatnonzero(np.diff(windows.series, prepend=windows.series[0] - 1))
        series = windows.series[starts]
        mine = wanted(series)
        if not mine.any():
            return
        yield from zip(
            series[mine].tolist(),
            np.minimum.reduceat(windows.last_time, starts)[mine].tolist(),
            np.maximum.reduceat(windows.last_time, starts)[mine].tolist(),
            np.maximum.reduceat(windows.length, starts)[mine].tolist(),
            strict=True,
        )


def together(spans: Iterable[Span], apart_ns: int) -> list[Span]:
    """Join spans that lie close: one rerun for both costs less than two."""
    joined: list[Span] = []
    for span in sorted(spans, key=lambda one: one.first_ns):
        if joined and span.first_ns - joined[-1].last_ns <= apart_ns:
            last = joined[-1]
            joined[-1] = Span(
                last.first_ns, max(last.last_ns, span.last_ns), max(last.longest_ns, span.longest_ns)
            )
        else:
            joined.append(span)
    return joined


def waits(group: Group | None, first: int, last: int, longest: int, now: int) -> bool:
    """Whether readings change nothing yet: they lie between the newest judged point and the next, which is not due."""
    return (
        group is not None
        and now < group.due_ns
        and group.head.at_ns < first
        and last < group.due_ns - SETTLE_NS
        and longest <= group.longest_ns
    )
