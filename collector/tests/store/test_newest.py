"""The newest value at a time: the same whether `latest` tells it or samples are read, and told without reading any where it can be."""

import math
from typing import Any

import numpy as np
import pytest

from reference_agent import SECOND, T0, defined, merged, samples, window
from store_batches import FOREVER, compacted, one
from telemetryx.store.interface import Store
from telemetryx.store.tables import chunks
from telemetryx.store.tables.store import TableStore
from telemetryx.types import PointBlock
from telemetryx.wire import parts
from telemetryx.wire.payload import Payload

#: The mark with which a Prometheus ends a series.
ENDED = float(np.array([0x7FF0000000000002], np.uint64).view(np.float64)[0])


def last(block: PointBlock) -> dict[int, tuple[int, bytes]]:
    """Each series' newest row, its value to the bit."""
    ends = {
        series: int(end) - 1 for series, end in zip(block.series.tolist(), block.offsets[1:], strict=True)
    }
    counts = dict(zip(block.series.tolist(), np.diff(block.offsets).tolist(), strict=True))
    return {
        series: (int(block.times[at]), block.values[at].tobytes())
        for series, at in ends.items()
        if counts[series]
    }


async def agree(store: Store, ids: list[int], times: list[int], back: int) -> dict[int, tuple[int, bytes]]:
    """Compare both ways of asking at some times; return what is newest at the last."""
    found: dict[int, tuple[int, bytes]] = {}
    for time in times:
        span = (time - back + 1, time + 1)
        found = last(await store.newest(ids, *span))
        assert found == last(await store.points(ids, *span, parts=False, rather_raw=True)), time
    return found


async def test_latest_and_samples_tell_the_same_of_any_data(store: Store) -> None:
    """Late, twice at one time from batches in any order and of several epochs, without a number, in windows; compacted or not."""
    chance = np.random.default_rng(11)
    values = [1.0, -0.0, 0.0, math.nan, ENDED, math.inf, -2.5]
    defs = defined(*(f"s{number}" for number in range(1, 9)))
    seqs = {epoch: chance.permutation(np.arange(1, 13)).tolist() for epoch in (b"\xff" * 16, b"\x01" * 16)}
    for turn in range(12):
        for epoch, order in seqs.items():
            rows: dict[int, list[tuple[int, float]]] = {}
            for number in range(1, 8):
                at = np.sort(chance.integers(0, 40, chance.integers(1, 6))) * SECOND + T0
                rows[number] = [(int(time), float(chance.choice(values))) for time in at]
            begun = int(chance.integers(0, 4)) * 10 * SECOND + T0
            wins = [window(number, begun, [1.0, 2.0, float(turn)]) for number in (7, 8)]
            await one(store, order[turn], Payload(samples(rows), merged(wins)), defs, epoch=epoch)
        if turn % 4 == 3:
            ids = [row.id for row in await store.series()]
            times = [T0 + second * SECOND for second in (-1, 0, 7, 20, 39, 40, 90)]
            await agree(store, ids, times, 300 * SECOND)
            await agree(store, ids, times, 5 * SECOND)
            await compacted(store)
            await agree(store, ids, times, 300 * SECOND)
    assert len(await agree(store, [*ids, 10_000], [T0 + 50 * SECOND], 300 * SECOND)) == 8


async def test_what_latest_tells_reads_no_sample(store: TableStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of chunks nor of batches as shipped; but for a series with something later, or two readings of that time."""
    defs = defined("a", "b", "c", "old")
    rows = {number: [(T0 + at * SECOND, float(number + at)) for at in range(100)] for number in (1, 2, 3)}
    await one(store, 1, Payload(samples({**rows, 4: [(T0 - 3_600 * SECOND, 1.0)]})), defs)
    await compacted(store)
    later = {1: [(T0 + 99 * SECOND, -1.0)], 2: [(T0 + 200 * SECOND, -0.0)]}
    await one(store, 2, Payload(samples(later)), defs)
    a, b, c, old = [row.id for row in await store.series()]
    read: list[int] = []

    decode, opened = chunks.decode, parts.Samples.of

    def counted(*given: Any) -> Any:
        read.append(1)
        return decode(*given)

    def of(self: Any, *given: Any) -> Any:
        read.append(2)
        return opened(self, *given)

    monkeypatch.setattr(chunks, "decode", counted)
    monkeypatch.setattr(parts.Samples, "of", of)
    found = last(await store.newest([b, c, old], T0 - 60 * SECOND, T0 + 201 * SECOND))
    assert read == []
    assert found == {
        b: (T0 + 200 * SECOND, np.float64(-0.0).tobytes()),
        c: (T0 + 99 * SECOND, np.float64(102.0).tobytes()),
    }
    found = last(await store.newest([a, b, c], T0 - 60 * SECOND, T0 + 100 * SECOND))
    assert read
    assert {series: np.frombuffer(value)[0] for series, (_, value) in found.items()} == {
        a: -1.0,
        b: 101.0,
        c: 102.0,
    }
    assert (await store.latest([a]))[a].flags == 0


async def test_nothing_is_newest_where_nothing_is(store: Store) -> None:
    """Of no series, of unknown ones, and in a time without data."""
    await one(store, 1, Payload(samples({1: [(T0, 1.0)]})))
    assert last(await store.newest([], -FOREVER, FOREVER)) == {}
    assert last(await store.newest([1, 99], T0 + 1, FOREVER)) == {}
    assert last(await store.newest([99], -FOREVER, FOREVER)) == {}
