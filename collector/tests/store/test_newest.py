"""The newest value at a time: the same whether `latest` tells it or samples are read, and told without reading any where it can be."""

import math
from typing import Any

import numpy as np
import pytest
from pcodec import standalone

from reference_agent import SECOND, T0, defined, merged, samples, window
from store_batches import FOREVER, compacted, one
from telemetryx.store.interface import Room, Store
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

    decode, value_at, opened = chunks.decode, chunks.value_at, parts.Samples.of

    def counted(*given: Any) -> Any:
        read.append(1)
        return decode(*given)

    def one_value(*given: Any) -> Any:
        read.append(1)
        return value_at(*given)

    def of(self: Any, *given: Any) -> Any:
        read.append(2)
        return opened(self, *given)

    monkeypatch.setattr(chunks, "decode", counted)
    monkeypatch.setattr(chunks, "value_at", one_value)
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


async def test_a_time_in_the_past_reads_a_series_newest_chunk_before_it_and_no_further_than_needed(
    store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of seven chunks one is read, of it the values up to the wanted one; and a look back over all of them isn't too much."""
    defs = defined("even", "uneven")
    for seq in range(7):
        at = [T0 + (seq * 5_000 + place) * SECOND for place in range(5_000)]
        uneven = [(time + place % 3, float(place)) for place, time in enumerate(at)]
        await one(
            store,
            seq + 1,
            Payload(samples({1: [(time, float(seq)) for time in at], 2: uneven})),
            defs,
        )
        await compacted(store)
    ids = [row.id for row in await store.series()]
    asked: list[int] = []

    class Counted:
        """pco, and how many values were asked of it."""

        def simple_decompress(self, data: bytes) -> Any:
            found = standalone.simple_decompress(data)
            asked.append(len(found) if found is not None and found.dtype == np.float64 else 0)
            return found

        def simple_decompress_into(self, data: bytes, room: Any) -> Any:
            asked.append(len(room))
            return standalone.simple_decompress_into(data, room)

    monkeypatch.setattr(chunks, "standalone", Counted())
    for place in (0, 300, 4_096, 4_999):
        del asked[:]
        until = T0 + (3 * 5_000 + place) * SECOND + 3
        found = last(await store.newest(ids, T0, until, room=Room(rows=10)))
        assert found == {
            ids[0]: (until - 3, np.float64(3.0).tobytes()),
            ids[1]: (until - 3 + place % 3, np.float64(place).tobytes()),
        }
        assert sum(asked) <= 2 * (place + 256), place


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 1_000])
def test_what_is_decoded_up_to_a_time_is_what_all_of_it_has_before(even: bool, count: int) -> None:  # noqa: FBT001
    """Times a constant step apart or not, equal ones among them, values that pco keeps and such that it can't."""
    chance = np.random.default_rng(count)
    times = T0 + np.arange(count) * 7 if even else T0 + np.sort(chance.integers(0, 5 * count, count))
    for values in (np.round(chance.normal(size=count), 1), chance.bytes(8 * count)):
        column = np.frombuffer(values, np.float64) if isinstance(values, bytes) else values
        chunk = chunks.encode(1, times, column, (np.arange(count) % 2 + 1).astype(np.uint8))
        row = (chunk.t0_ns, chunk.t1_ns, count, chunk.times, chunk.values, chunk.flags)
        whole = chunks.Piece((b"", 0, 0), *chunks.decode(*row))
        for before in (
            T0 - 1,
            *(times + 0).tolist()[:: max(1, count // 9)],
            int(times[-1]),
            int(times[-1]) + 1,
        ):
            wanted = whole.clip(-(1 << 62), before)
            found = chunks.decode(*row, before_ns=before)
            assert found[0].tolist() == wanted.times.tolist()
            assert found[1].tobytes() == wanted.values.tobytes()
            assert found[2] is not None
            assert wanted.flags is not None
            assert found[2].tolist() == wanted.flags.tolist()
            if len(wanted.times):
                at, time = chunks.last_before(*row[:4], before)
                assert (at, time) == (len(wanted.times) - 1, int(wanted.times[-1]))
                assert (
                    np.float64(chunks.value_at(chunk.values, count, at)).tobytes()
                    == wanted.values[at].tobytes()
                )
