"""How many series there may be, of one agent and of all: a mistaken label must not fill the store with a million of them.

What is above the limit is refused reading by reading, not batch by batch: the rest of the batch is stored, acknowledged and
entered in the ledger as ever, and the refused readings are counted in the same transaction (`refused_series_limit`). Series that
are known go on. So a resend is a duplicate like any other, and nothing waits at the agent for what will never be taken.

A number whose series was refused is remembered here, in memory, by epoch: its agent defines it once and then no more. A process
that doesn't remember asks for the definition again and refuses again. When there is room (a raised limit), it asks too, and stores.
Several processes may together exceed a limit by what they enter in RECOUNT_NS; each agent has one session, so hardly by more
than a batch. When series have ended (ending.py) everything is counted anew.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetryx.sets import among, without
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.ended import ended
from telemetryx.types import I64, Decoded, SampleBlock, SketchBlock, WindowBlock
from telemetryx.wire import payload
from telemetryx.wire.payload import Payload

Mask = NDArray[np.bool_]

UNLIMITED: Final = 1 << 62
RECOUNT_NS: Final = 60_000_000_000
"""Counts are asked again this often: other processes enter series too."""
MAX_REMEMBERED: Final = 4_000_000
"""Refused numbers in memory, 8 bytes each; beyond, the epochs that were refused longest ago are forgotten (and asked again)."""


MAX_IDENTITIES: Final = 8
"""Agents at their limit whose series are held in memory as hashes, 60 bytes each."""


@dataclass(frozen=True, slots=True)
class SeriesLimits:
    """How many series one agent, and all together, may have."""

    per_agent: int = UNLIMITED
    total: int = UNLIMITED


@dataclass(frozen=True, slots=True)
class Excess:
    """Readings of a batch that were left out: how many, and the times that they lie between, as stamped by the agent."""

    rows: int
    t0_ns: int
    t1_ns: int


class Cardinality:
    """The counts and the refused numbers. Used in the writer's thread only."""

    def __init__(self, limits: SeriesLimits, now_ns: Callable[[], int]) -> None:
        """Know nothing yet."""
        self._limits = limits
        self._now_ns = now_ns
        self._counts: dict[int, int] = {}
        self._total: int | None = None
        self._counted_ns = 0
        self._full: set[int] = set()
        self._identities: dict[int, tuple[int, set[int]]] = {}
        self._entered: list[int] = []
        self._refused: dict[int, I64] = {}
        self._ended = 0
        """How often series had ended when they were counted."""

    def limit(self, limits: SeriesLimits) -> None:
        """Set the limits anew."""
        self._limits = limits
        self._full.clear()

    def begin(self) -> None:
        """Begin a batch: what it enters counts until `undo`."""
        self._entered.clear()

    def undo(self) -> None:
        """Take back what the batch entered: its savepoint is undone."""
        for agent in self._entered:
            if agent in self._counts:
                self._counts[agent] -= 1
            self._total = None if self._total is None else self._total - 1
        if self._entered:
            self._full.clear()
        self._entered.clear()

    def forget(self) -> None:
        """Drop the counts: a transaction was undone."""
        self._counts.clear()
        self._full.clear()
        self._total = None
        self._entered.clear()

    def room(self, connection: Database, agent: int) -> bool:
        """Whether one more series may be entered for an agent."""
        self._look(connection)
        if self._now_ns() - self._counted_ns > RECOUNT_NS:
            self._recount()
            self._counted_ns = self._now_ns()
        if self._total is None:
            (self._total,) = connection.execute("SELECT count(*) FROM series").fetchone()
        if agent not in self._counts:
            (self._counts[agent],) = connection.execute(
                "SELECT count(*) FROM series WHERE agent_id = ?", (agent,)
            ).fetchone()
        return self._total < self._limits.total and self._counts[agent] < self._limits.per_agent

    def _look(self, connection: Database) -> None:
        """Count anew when series have ended."""
        if (now := ended(connection)) != self._ended:
            self._ended = now
            self._recount()
            self._identities.clear()

    def _recount(self) -> None:
        self._counts.clear()
        self._full.clear()
        self._total = None

    def admit(self, connection: Database, agent: int) -> bool:
        """Count one more series of an agent, if there is room."""
        if not self.room(connection, agent):
            self._full.add(agent)
            return False
        self._identities.pop(agent, None)
        self._counts[agent] += 1
        self._total = None if self._total is None else self._total + 1
        self._entered.append(agent)
        return True

    def surely_new(self, connection: Database, agent: int, name: str, labels: str) -> bool:
        """Whether a series of an agent without room is none that it has, found without a query a series.

        An agent at its limit that defines ten thousand series in a batch would hold up everybody's commits otherwise.
        """
        self._look(connection)
        # What PostgreSQL stores of a NUL is another text.
        if agent not in self._full or "\0" in name:
            return False
        count, known = self._identities.get(agent, (-1, set()))
        if count != self._counts.get(agent):
            rows = connection.execute("SELECT name, labels FROM series WHERE agent_id = ?", (agent,))
            known = {hash((one, of)) for one, of in rows}
            while len(self._identities) >= MAX_IDENTITIES:
                self._identities.pop(next(iter(self._identities)))
            self._identities[agent] = self._counts.get(agent, -1), known
        return hash((name, labels)) not in known

    def defined(self, epoch: int, numbers: I64, refused: I64) -> None:
        """Remember which of the numbers that were just defined have no series, and that the others have one."""
        known = self._refused.pop(epoch, np.empty(0, np.int64))
        if not len(known) and not len(refused):
            return
        if (again := _inside(known, numbers)).any():
            known = without(known, numbers[again])
        # Numbers grow, so that there is nothing to sort nearly always.
        known = np.concatenate((known, refused))
        if len(known) > len(refused) > 0 and known[-len(refused) - 1] > refused[0]:
            known.sort()
        if len(known):
            self._refused[epoch] = known
        while len(self._refused) > 1 and sum(map(len, self._refused.values())) > MAX_REMEMBERED:
            self._refused.pop(next(iter(self._refused)))

    def cut(
        self, connection: Database, agent: int, epoch: int, batch: Decoded
    ) -> tuple[Decoded, Excess | None]:
        """Return the batch without the series that are above the limit, and what was left out.

        While there is room they stay in, so that the agent is asked for their definitions again.
        """
        refused = self._refused.get(epoch)
        if refused is None:
            return batch, None
        windows = batch.windows
        used = (
            batch.samples.series
            if windows is None
            else np.concatenate((batch.samples.series, windows.series))
        )
        refused = self._still_refused(connection, epoch, used[_inside(refused, used)])
        out_samples = _inside(refused, batch.samples.series)
        out_windows = np.zeros(0, np.bool_) if windows is None else _inside(refused, windows.series)
        if not (out_samples.any() or out_windows.any()) or self.room(connection, agent):
            return batch, None
        return _without(batch, out_samples, out_windows)

    def _still_refused(self, connection: Database, epoch: int, numbers: I64) -> I64:
        """Leave out the numbers that another process has entered meanwhile: the agent was there and is back."""
        if not len(numbers):
            return numbers
        rows = connection.execute(
            "SELECT number FROM series_number WHERE epoch_id = ? AND number BETWEEN ? AND ?",
            (epoch, int(numbers.min()), int(numbers.max())),
        ).fetchall()
        entered = np.fromiter((number for (number,) in rows), np.int64, len(rows))
        if among(numbers, entered).any():
            self._refused[epoch] = without(self._refused[epoch], entered)
        return without(numbers, entered)


def _inside(known: I64, numbers: I64) -> Mask:
    """Say which numbers are known; `known` ascends."""
    if not len(known):
        return np.zeros(len(numbers), np.bool_)
    found: Mask = known[np.minimum(np.searchsorted(known, numbers), len(known) - 1)] == numbers
    return found


def _without(batch: Decoded, out_samples: Mask, out_windows: Mask) -> tuple[Decoded, Excess]:
    samples, windows = batch.samples, batch.windows
    rows = np.repeat(out_samples, np.diff(samples.offsets))
    times = [samples.times[rows]]
    if windows is not None:
        times += [windows.start[out_windows], windows.last_time[out_windows]]
    left_out = np.concatenate(times)
    kept_samples = _samples(samples, ~out_samples, ~rows)
    kept_windows = None if windows is None else _windows(windows, ~out_windows)
    content = Payload(kept_samples, kept_windows, batch.events, batch.counts)
    # Quickly: everybody's commits wait meanwhile, and compaction encodes it anew.
    data = payload.encode(content, thorough=False)
    kept = replace(batch, samples=kept_samples, windows=kept_windows, payload=data)
    return kept, Excess(int(rows.sum()) + int(out_windows.sum()), int(left_out.min()), int(left_out.max()))


def _samples(block: SampleBlock, series: Mask, rows: Mask) -> SampleBlock:
    lengths = np.diff(block.offsets)[series]
    return SampleBlock(
        block.series[series],
        np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths))).astype(np.int64),
        block.times[rows],
        block.values[rows],
        None if block.flags is None else block.flags[rows],
    )


def _windows(block: WindowBlock, rows: Mask) -> WindowBlock:
    sketch = block.sketch
    if sketch is not None:
        pairs = sketch.counts.reshape(-1, 2)
        bins = np.repeat(rows, pairs.sum(axis=1, dtype=np.int64))
        sketch = SketchBlock(pairs[rows].ravel(), sketch.keys[bins], sketch.weights[bins], sketch.zero[rows])
    return WindowBlock(
        block.series[rows],
        block.start[rows],
        block.length[rows],
        block.count[rows],
        block.sum[rows],
        block.min[rows],
        block.max[rows],
        block.first_time[rows],
        block.first[rows],
        block.last_time[rows],
        block.last[rows],
        sketch,
    )
