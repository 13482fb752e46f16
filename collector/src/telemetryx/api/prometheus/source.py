"""Where PromQL's samples come from: the store, asked from an evaluating thread, raw or from rollups where the times allow it.

The newest value at a time is the same from rollups as from samples, when the times are whole units: a rollup gives its first
and last sample. An aggregate over a range may differ at the range's edges, by the sample that lies exactly on them; it is
read from rollups only where the range is long against the unit or raw data is deleted, and the answer says so (told.py).
"""

from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np

from telemetryx.api import damage
from telemetryx.api.prometheus import series as naming
from telemetryx.api.prometheus import told
from telemetryx.errors import QueryRefused
from telemetryx.promql.data import Block, Labels, Parts, Selection, unheeded
from telemetryx.promql.errors import TOO_MANY, ExecutionFailed, TooManySamples
from telemetryx.store.interface import Room, Store
from telemetryx.types import F64, Level, Matcher, PointBlock, Series

T = TypeVar("T")

MAX_SERIES: Final = 20_000
MAX_SAMPLES: Final = 5_000_000
SERIES: Final = 1_024
"""Bytes of a series: its labels, as objects."""
MINUTE: Final = 60_000_000_000
HOUR: Final = 60 * MINUTE
#: From how long a time on, and of how long ranges, rollups of a level are read: (level, unit, whole time, one range).
LEVELS: Final[tuple[tuple[Level, int, int, int], ...]] = (
    ("1h", HOUR, 168 * HOUR, 10 * HOUR),
    ("1m", MINUTE, 6 * HOUR, 10 * MINUTE),
)


@dataclass(slots=True)
class StoreSource:
    """Asks a store on an event loop; `within` runs a coroutine there and waits for it."""

    store: Store
    within: Callable[[Coroutine[Any, Any, Any]], Any]
    hold: Callable[[int], None] = unheeded
    """Is told how many bytes more are about to be held."""
    release: Callable[[int], None] = unheeded
    infos: set[str] = field(default_factory=set)
    warnings: set[str] = field(default_factory=set)
    _known: dict[Sequence[Sequence[Matcher]], list[tuple[Series, Labels]]] = field(default_factory=dict)

    def select(self, wanted: Selection) -> Block:
        """Read the samples of a selection."""
        found = self._known.get(wanted.groups)
        if found is None:
            found = self._known[wanted.groups] = self.series(wanted.groups)
            self.hold(len(found) * SERIES)
        if not found:
            return Block.empty()
        ids = [row.id for row, _ in found]
        held = 0

        def heard(size: int) -> None:
            nonlocal held
            self.hold(size)
            held += size

        span, level, room = (
            (wanted.start_ns + 1, wanted.end_ns + 1),
            level_of(wanted),
            Room(MAX_SAMPLES, heard),
        )
        # At one time alone, which is now as a rule: the store has that value at hand.
        if wanted.use == "last" and wanted.whole_ns == wanted.span_ns:
            asked = self.store.newest(ids, *span, level=level, room=room)
        else:
            asked = self.store.points(
                ids,
                *span,
                level=level,
                edges=wanted.use not in {"over_time", "spread"},
                parts="spread" if wanted.use == "spread" else wanted.use == "over_time",
                rather_raw=True,
                room=room,
            )
        try:
            points: PointBlock = self.within(asked)
        except (QueryRefused, ExecutionFailed) as error:
            self.release(held)
            said = str(error)
            raise TooManySamples(said if said.startswith(TOO_MANY) else f"{TOO_MANY}: {said}") from error
        self.infos.update(f"PromQL info: {said}" for said in told.infos(wanted, points))
        self.warnings.update(f"PromQL warning: {said}" for said in told.warnings(wanted, points))
        rows = [row for row, _ in found]
        self.warnings.update(f"PromQL warning: {said}" for said in damage.told(points.damaged, rows))
        names = {row.id: labels for row, labels in found}
        block = _block(points, names, every=wanted.use in {"over_time", "readings", "spread"})
        self.release(held - block.nbytes)
        return block

    def series(self, groups: Sequence[Sequence[Matcher]]) -> list[tuple[Series, Labels]]:
        """Find the series that meet one group of conditions. Too many are refused: a sum over some of them would be wrong."""
        found: dict[int, tuple[Series, Labels]] = {}
        for group in groups:
            there, here = naming.for_store(group)
            rows: list[Series] = self.within(self.store.series(there, limit=MAX_SERIES + 1))
            for row in rows:
                labels = naming.labels(row)
                if not here or naming.meets(here, labels):
                    found[row.id] = (row, labels)
            if len(rows) > MAX_SERIES or len(found) > MAX_SERIES:
                raise ExecutionFailed(
                    f"more than {MAX_SERIES} series match one selector; narrow it with label matchers"
                )
        return list(found.values())

    def pages(self, groups: Sequence[Sequence[Matcher]]) -> Iterator[list[tuple[Series, Labels]]]:
        """Go through the series that meet one of the groups, however many they are; one that meets two comes twice."""
        for group in groups:
            there, here = naming.for_store(group)
            rows: list[Series] = self.within(self.store.series(there, limit=MAX_SERIES))
            while rows:
                named = [(row, naming.labels(row)) for row in rows]
                yield [(row, labels) for row, labels in named if not here or naming.meets(here, labels)]
                if len(rows) < MAX_SERIES:
                    break
                rows = self.within(self.store.series(there, limit=MAX_SERIES, after=rows[-1].id))


def level_of(wanted: Selection) -> Level:
    """Choose the coarsest level whose rows give the same newest values, or nearly the same aggregates."""
    if wanted.use in {"readings", "samples"} or not wanted.unit_ns:
        return "raw"
    for level, unit, long, range_ns in LEVELS:
        if wanted.unit_ns % unit or wanted.whole_ns < long:
            continue
        if wanted.use == "last" or (wanted.span_ns % unit == 0 and wanted.span_ns >= range_ns):
            return level
    return "raw"


def _block(points: PointBlock, labels: dict[int, Labels], *, every: bool) -> Block:
    """Name the series, and keep the last of rows with one time; of aggregates every one, as rollups do."""
    times, offsets = points.times, points.offsets
    keep = np.ones(len(times), np.bool_)
    if len(times) and not every:
        keep[:-1] = times[1:] != times[:-1]
        ends = offsets[1:]
        keep[ends[ends > 0] - 1] = True
    if not keep.all():
        kept = np.concatenate((np.zeros(1, np.int64), np.cumsum(keep, dtype=np.int64)))
        offsets = kept[offsets]

    def column(values: F64) -> F64:
        return values if len(offsets) and int(offsets[-1]) == len(values) else values[keep]

    parts = None
    if points.counts is not None and points.sums is not None:
        mins = points.values if points.mins is None else points.mins
        maxs = points.values if points.maxs is None else points.maxs
        parts = Parts(column(points.counts), column(points.sums), column(mins), column(maxs))
    return Block(
        [labels[one] for one in points.series.tolist()],
        offsets,
        times if keep.all() else times[keep],
        column(points.values),
        parts,
    )
