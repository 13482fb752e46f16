"""Which group a series belongs to, and what is remembered of a group: its state along event time.

The states after some of its points are kept as checkpoints, dense near the newest and ever sparser behind it, back to the
rule's lateness. Late readings are judged by running again from the last checkpoint before them (engine.py).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgpack

from telemetryx.rules.machine import INACTIVE, Machine, Phase
from telemetryx.rules.model import UNGROUPED
from telemetryx.types import Series

_VERSION: Final = 1


class Checkpoint(NamedTuple):
    """The state after the point at `at_ns`."""

    at_ns: int
    machine: Machine


@dataclass(frozen=True, slots=True)
class Group:
    """One group's memory. It is replaced, never changed: a step that can't be stored leaves the old one standing.

    `born`: the first checkpoint is the beginning, before any reading, and may move back when earlier ones arrive.
    `reached_ns`: its newest reading. `due_ns`: when to judge the point that its newest readings lie before; 0 for never.
    `longest_ns`: the longest window that its agents have sent.
    """

    checkpoints: tuple[Checkpoint, ...]
    born: bool
    reached_ns: int
    due_ns: int = 0
    longest_ns: int = 0

    @property
    def head(self) -> Checkpoint:
        """Return the newest state."""
        return self.checkpoints[-1]

    def pack(self) -> bytes:
        """Encode it for the store."""
        points = [
            [point.at_ns, int(machine.phase), machine.started_ns, machine.fired_ns, machine.value]
            if (machine := point.machine).phase
            else [point.at_ns]
            for point in self.checkpoints
        ]
        packed: bytes = msgpack.packb(
            [_VERSION, self.born, self.reached_ns, self.due_ns, self.longest_ns, points], use_bin_type=True
        )
        return packed

    @classmethod
    def unpack(cls, data: bytes) -> "Group":
        """Decode what pack() wrote; ValueError for anything else."""
        try:
            version, born, reached, due, longest, points = msgpack.unpackb(data)
            if version != _VERSION:
                raise ValueError(f"state version {version} is unknown here; upgrade the collector")
            checkpoints = tuple(
                Checkpoint(at, Machine(Phase(rest[0]), *rest[1:]) if rest else INACTIVE)
                for at, *rest in points
            )
        except (TypeError, IndexError, msgpack.UnpackException) as error:
            raise ValueError(f"not the state of a group: {error}") from error
        return cls(checkpoints, born, reached, due, longest)


def prune(
    checkpoints: Sequence[Checkpoint], lateness_ns: int, *, born: bool
) -> tuple[tuple[Checkpoint, ...], bool]:
    """Keep few enough checkpoints, and none that lies uselessly far back; say whether the beginning is still among them.

    Between two that stay lies at most half of their age, so a rerun costs at most half more than the lateness of what
    caused it; their number grows with the logarithm of the lateness.
    """
    head = checkpoints[-1].at_ns
    oldest = max(
        (index for index, point in enumerate(checkpoints) if point.at_ns <= head - lateness_ns), default=0
    )
    kept = [checkpoints[-1]]
    for index in range(len(checkpoints) - 2, oldest, -1):
        newer, older = kept[-1].at_ns, checkpoints[index - 1].at_ns
        if newer - older > (head - newer) // 2:
            kept.append(checkpoints[index])
    if len(checkpoints) - 1 > oldest:
        kept.append(checkpoints[oldest])
    kept.reverse()
    return tuple(kept), born and oldest == 0


@dataclass(slots=True)
class Member:
    """The series of one group, in the order of their identity (their numbers depend on who came first)."""

    labels: Mapping[str, str]
    series: list[int] = field(default_factory=list)
    order: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, series: Series) -> bool:
        """Add a series; False when it was there already."""
        if series.id in self.series:
            return False
        identity = (series.agent, series.name, group_key(series.labels))
        at = sum(1 for other in self.order if other < identity)
        self.order.insert(at, identity)
        self.series.insert(at, series.id)
        return True


def group_labels(series: Series, group_by: Sequence[str] | None) -> dict[str, str]:
    """Return the labels that tell a series' group from others; `agent` is a label like any other, `__name__` the metric."""
    every = {**series.labels, "__name__": series.name, "agent": series.agent}
    names = every.keys() if group_by is None else group_by
    return {name: every[name] for name in sorted(names) if name not in UNGROUPED and every.get(name)}


def group_key(labels: Mapping[str, str]) -> str:
    """Write labels as the text that names a group in the store."""
    return json.dumps(dict(sorted(labels.items())), ensure_ascii=False, separators=(",", ":"))
