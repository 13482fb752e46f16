"""The state machine of one group of one rule: inactive → pending → firing → inactive again.

A pure function of its state and of the values at consecutive points in event time. It sees only points that have data,
so silence can't end an alert: a firing one stays as it is until a value meets its recovery condition, however long the
data paused; a pending one starts anew after a pause longer than the rule's gap, because `for` claims what nobody saw.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

import numpy as np

from telemetryx.rules.comparison import Comparison
from telemetryx.types import F64, I64


class Phase(IntEnum):
    """Where a group stands. The numbers are saved."""

    INACTIVE = 0
    PENDING = 1
    FIRING = 2


@dataclass(frozen=True, slots=True)
class Machine:
    """One state. Two that are equal go on equally, whatever led to them; that is what a rerun compares."""

    phase: Phase = Phase.INACTIVE
    started_ns: int = 0
    fired_ns: int = 0
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Episode:
    """A stretch that an alert stands for. Without `fired_ns` it is pending, without `resolved_ns` it goes on."""

    started_ns: int
    value: float
    fired_ns: int | None = None
    resolved_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """The part of a rule that its state machine needs."""

    when: Comparison
    recover_when: Comparison | None
    for_ns: int
    gap_ns: int


@dataclass(frozen=True, slots=True)
class Run:
    """What a stretch of points did: the state after each move (index of the point, state), and the finished episodes."""

    start: Machine
    moves: list[tuple[int, Machine]]
    ended: list[Episode]

    @property
    def final(self) -> Machine:
        """Return the state after the last point."""
        return self.moves[-1][1] if self.moves else self.start

    def after(self, indices: list[int]) -> list[Machine]:
        """Return the state after each of these points (ascending)."""
        found, at, current = [], 0, self.start
        for index in indices:
            while at < len(self.moves) and self.moves[at][0] <= index:
                current = self.moves[at][1]
                at += 1
            found.append(current)
        return found


INACTIVE: Final = Machine()


def ongoing(machine: Machine) -> Episode | None:
    """Return the episode that a state is in the middle of."""
    if machine.phase is Phase.INACTIVE:
        return None
    fired = machine.fired_ns if machine.phase is Phase.FIRING else None
    return Episode(machine.started_ns, machine.value, fired)


def run(terms: Terms, start: Machine, before_ns: int, times: I64, values: F64) -> Run:
    """Go from a state through points in ascending time; `before_ns` is the point that `start` is the state after.

    It jumps from move to move, so that a month without an alert costs a few vector operations.
    """
    when = terms.when.holds(values)
    recovers = ~when if terms.recover_when is None else terms.recover_when.holds(values)
    pauses = np.diff(times, prepend=before_ns) > terms.gap_ns
    holds, recovered = np.flatnonzero(when), np.flatnonzero(recovers)
    broken = np.flatnonzero(~when | pauses)
    machine, at, size = start, 0, len(times)
    moves: list[tuple[int, Machine]] = []
    ended: list[Episode] = []
    while at < size:
        if machine.phase is Phase.INACTIVE:
            index = _first(holds, at, size)
            if index == size:
                break
            machine = _begin(terms, int(times[index]), float(values[index]))
        elif machine.phase is Phase.PENDING:
            index = min(
                _first(broken, at, size),
                max(at, int(np.searchsorted(times, machine.started_ns + terms.for_ns))),
            )
            if index == size:
                break
            machine = _decide(
                terms, machine, int(times[index]), float(values[index]), when[index], pauses[index]
            )
        else:
            index = _first(recovered, at, size)
            if index == size:
                break
            ended.append(
                Episode(machine.started_ns, machine.value, machine.fired_ns, resolved_ns=int(times[index]))
            )
            machine = INACTIVE
        moves.append((index, machine))
        at = index + 1
    return Run(start, moves, ended)


def _begin(terms: Terms, time: int, value: float) -> Machine:
    if terms.for_ns == 0:
        return Machine(Phase.FIRING, time, time, value)
    return Machine(Phase.PENDING, time, 0, value)


def _decide(
    terms: Terms, machine: Machine, time: int, value: float, holds: np.bool_, pause: np.bool_
) -> Machine:
    """Leave or confirm a pending state at the point that broke it or completed its `for`."""
    if not holds:
        return INACTIVE
    if pause:
        return _begin(terms, time, value)
    return replace(machine, phase=Phase.FIRING, fired_ns=time, value=value)


def _first(indices: I64, at: int, size: int) -> int:
    """Return the first of these sorted indices that isn't before `at`; `size` when there is none."""
    where = int(np.searchsorted(indices, at))
    return int(indices[where]) if where < len(indices) else size
