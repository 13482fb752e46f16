"""Batches that the store's conformance tests send, and what they read back."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from reference_agent import SECOND, T0, decoded, defined, samples
from telemetryx.store.interface import Store
from telemetryx.store.tables.store import TableStore
from telemetryx.store.tables.swap import Swap
from telemetryx.store.tables.writer import Priority
from telemetryx.types import (
    BatchKey,
    Definition,
    Outcome,
)
from telemetryx.wire.payload import Payload

EPOCH = bytes(range(16))
Opener = Callable[[], Awaitable[Store]]
FOREVER = 1 << 62


def key(seq: int, epoch: bytes = EPOCH, agent: str = "a") -> BatchKey:
    """A batch's name."""
    return BatchKey(agent, epoch, seq)


def line(start: int, values: list[float], number: int = 1, step: int = SECOND) -> Payload:
    """One series, evenly spaced."""
    return Payload(samples({number: [(T0 + start + i * step, value) for i, value in enumerate(values)]}))


DEFS = defined("temp", "power", site="north", device="p7")


async def one(
    store: Store, seq: int, content: Payload, defs: Sequence[Definition] = DEFS, **given: Any
) -> Outcome:
    """Commit one batch and return its outcome."""
    (outcome,) = await store.commit([decoded(key(seq, **given), content, defs)])
    return outcome


async def values(store: Store, series: int = 1) -> list[float]:
    """All values of a series, in order."""
    return (await store.samples([series], -FOREVER, FOREVER)).values.tolist()


async def compacted(store: Store) -> None:
    """Compact everything and refresh all rollups."""
    while (report := await store.compact(everything=True)).more or report.batches:
        pass


async def swapped(store: TableStore, swap: Swap) -> None:
    """Put what was planned in the place of its batches."""
    for step in swap.steps():
        await store.write(step, Priority.UPKEEP)
