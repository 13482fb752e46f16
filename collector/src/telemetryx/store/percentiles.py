"""What a store says of percentiles: which levels they are read from, and rollups with their sketches."""

from dataclasses import dataclass

from telemetryx.errors import StoreDamaged
from telemetryx.types import F64, I64, DamagedSketch, Stretch


@dataclass(frozen=True, slots=True)
class Levels:
    """What a percentile is read from: stretches that ascend and leave nothing out. Span and step may be wider than those asked for."""

    start_ns: int
    end_ns: int
    step_ns: int
    """0: all at once."""
    raw_from_ns: int
    stretches: tuple[Stretch, ...]
    for_number: bool = False
    """Whether rollups are read where readings are, for their number."""


@dataclass(slots=True)
class RollupBlock:
    """Rollups of one level with their sketches, as columns of equal length, ascending by (series, time).

    `sketches` are packed one after the other, and row i has the bytes offsets[i]:offsets[i+1] (telemetryx._native reads them).
    """

    series: I64
    times: I64
    counts: I64
    sums: F64
    mins: F64
    maxs: F64
    sketches: bytes
    offsets: I64
    damaged: tuple[DamagedSketch, ...] = ()
    """Sketches that aren't what was stored, with what is here in their place."""

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.times)


def damaged(error: ValueError) -> StoreDamaged:
    """Say that a rollup's sketch isn't what was stored, as compiled code found; `store verify` names them all."""
    return StoreDamaged(
        f"the sketch of a rollup can't be decoded ({error.args[0]}): its bytes were changed; run `telemetryx store verify`"
    )
