"""Points, and the export's pieces, on every store: samples and windows as rows, rollups that give the same newest values."""

import asyncio
import pickle
import sys
from collections.abc import AsyncIterator

import numpy as np
import pytest

from reference_agent import SECOND, T0, decoded, defined, merged, samples, window
from telemetryx.clock import ManualClock
from telemetryx.errors import QueryRefused
from telemetryx.export import rows as export_rows
from telemetryx.export.wanted import Wanted
from telemetryx.store.interface import Retention, Room, Store
from telemetryx.store.tables import points as table_points
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, PointBlock, Stored
from telemetryx.wire.payload import Payload

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = T0 // HOUR * HOUR
DEFS = defined("temp", "power", site="north", device="p7")


async def send(store: Store, seq: int, content: Payload) -> None:
    """Commit one batch."""
    (outcome,) = await store.commit([decoded(BatchKey("a", b"e" * 16, seq), content, DEFS)])
    assert isinstance(outcome, Stored)


def newest(block: PointBlock, at: int, back: int) -> float | None:
    """The newest value of the only series in (at - back, at]."""
    inside = np.flatnonzero((block.times > at - back) & (block.times <= at))
    return float(block.values[inside[-1]]) if len(inside) else None


async def test_samples_are_points_of_themselves(store: Store) -> None:
    """Without the columns of what stands for many, and within [start, end)."""
    await send(store, 1, Payload(samples({1: [(START + n, float(n)) for n in range(5)], 2: [(START, 9.0)]})))
    block = await store.points([1, 2], START + 1, START + 4)
    assert (block.series.tolist(), block.offsets.tolist()) == ([1], [0, 3])
    assert (block.times.tolist(), block.values.tolist()) == (
        [START + 1, START + 2, START + 3],
        [1.0, 2.0, 3.0],
    )
    assert block.counts is None
    with pytest.raises(QueryRefused):
        await store.points([1], START, START + 5, room=Room(3))


async def test_a_window_is_a_point_at_its_last_reading(store: Store) -> None:
    """With what it holds, beside the samples of the series; also a window that began before the range."""
    await send(store, 1, Payload(samples({1: [(START + MINUTE, 7.0)]}), window(1, START, [1.0, 5.0, 3.0])))
    block = await store.points([1], START + SECOND, START + HOUR)
    assert block.times.tolist() == [START + 2 * SECOND, START + MINUTE]
    assert block.values.tolist() == [3.0, 7.0]
    assert block.counts is not None
    assert block.sums is not None
    assert block.mins is not None
    assert block.maxs is not None
    assert (block.counts.tolist(), block.sums.tolist()) == ([3.0, 1.0], [9.0, 7.0])
    assert (block.mins.tolist(), block.maxs.tolist()) == ([1.0, 7.0], [5.0, 7.0])
    assert len((await store.points([1], START + 3 * SECOND, START + MINUTE)).times) == 0


async def test_the_newest_value_from_rollups_is_the_newest_sample(store: Store) -> None:
    """At whole minutes and hours, before and after compaction, with a sample exactly there and with gaps."""
    chance = np.random.default_rng(5)
    times = np.unique(chance.integers(0, 4 * 3_600, 900)) * SECOND + START
    times = np.union1d(times[(times < START + HOUR) | (times > START + HOUR + 20 * MINUTE)], START + 2 * HOUR)
    points = [
        (int(time), float(value)) for time, value in zip(times, chance.normal(size=len(times)), strict=True)
    ]
    await send(store, 1, Payload(samples({1: points})))
    for _ in range(2):
        raw = await store.points([1], START - HOUR, START + 5 * HOUR)
        for level, unit in (("1m", MINUTE), ("1h", HOUR)):
            rolled = await store.points([1], START - HOUR, START + 5 * HOUR, level=level)  # type: ignore[arg-type]
            for at in range(START - unit, START + 4 * HOUR, unit):
                assert newest(rolled, at, 5 * MINUTE) == newest(raw, at, 5 * MINUTE), (level, at)
        while (await store.compact(everything=True)).more:
            pass


async def test_rollups_without_edges_count_each_reading_once(store: Store) -> None:
    """So that sums over them are sums over the readings."""
    await send(store, 1, Payload(samples({1: [(START + n * SECOND, 2.0) for n in range(180)]})))
    while (await store.compact(everything=True)).more:
        pass
    block = await store.points([1], START, START + HOUR, level="1m", edges=False)
    assert block.counts is not None
    assert block.sums is not None
    assert (block.counts.tolist(), block.sums.tolist()) == ([60.0] * 3, [120.0] * 3)
    assert block.times.tolist() == [START + n * MINUTE - SECOND for n in (1, 2, 3)]
    edged = await store.points([1], START, START + HOUR, level="1m")
    assert edged.counts is not None
    assert (len(edged.times), float(edged.counts.sum())) == (6, 180.0)


async def test_before_the_raw_horizon_rollups_are_the_points(store: Store, clock: ManualClock) -> None:
    """And samples after it: one answer from both."""
    clock.step(T0 - clock.now_ns())
    edge = (T0 - 30 * DAY) // HOUR * HOUR
    clock.step(-60 * DAY)
    await send(store, 1, Payload(samples({1: [(edge - HOUR + n * SECOND, float(n)) for n in range(120)]})))
    while (await store.compact(everything=True)).more:
        pass
    clock.step(60 * DAY)
    await send(store, 2, Payload(samples({1: [(edge + DAY, 1.0), (edge + DAY + SECOND, 2.0)]})))
    await store.apply_retention(Retention(raw_ns=30 * DAY), T0)
    block = await store.points([1], edge - DAY, T0)
    assert block.values.tolist() == [0.0, 59.0, 60.0, 119.0, 1.0, 2.0]
    assert block.counts is not None
    assert block.counts.tolist() == [0.0, 60.0, 0.0, 60.0, 1.0, 1.0]


async def test_an_export_is_the_same_from_every_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces: samples, windows and rollups, as shipped and compacted."""
    assert isinstance(store, TableStore)
    readings = {n: [(START + i * SECOND, float(i)) for i in range(150)] for n in (1, 2)}
    await send(store, 1, Payload(samples(readings), window(2, START, [3.0, 4.0])))
    monkeypatch.setattr(export_rows, "MAX_ROWS", 64)

    def counted() -> dict[str, int]:
        database = store.engine.open_reader()
        try:
            database.begin_snapshot()
            return {
                kind: sum(map(len, export_rows.pieces(database, Wanted(kind, START, START + HOUR))))
                for kind in ("samples", "windows", "rollups")
            }
        finally:
            database.close()

    for _ in range(2):
        assert await asyncio.to_thread(counted) == {"samples": 300, "windows": 1, "rollups": 6}
        while (await store.compact(everything=True)).more:
            pass
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "telemetryx.export"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    asked = pickle.dumps((store.engine, Wanted("samples", START, START + HOUR), "csv"))
    written, _ = await child.communicate(asked)
    assert (child.returncode, written.count(b"\n")) == (0, 301)


def seconds(number: int, start: int, length: int, count: int) -> Payload:
    """Windows of a reading a second, one after the other; a reading's value is its second from START on."""
    blocks = []
    for n in range(count):
        first = (start - START) // SECOND + n * length
        values = [float(first + one) for one in range(length)]
        blocks.append(window(number, start + n * length * SECOND, values, length * SECOND))
    return Payload(windows=merged(blocks))


async def both(store: Store, seq: int, content: Payload) -> AsyncIterator[None]:
    """Give the store before and after compaction."""
    await send(store, seq, content)
    yield
    while (await store.compact(everything=True)).more:
        pass
    yield


@pytest.mark.parametrize("length", [10, 60, 300, 3_600, 7_200])
async def test_rollups_show_no_window_before_its_last_reading(store: Store, length: int) -> None:
    """At each whole unit the newest value is the one that windows give, whether they are shorter or longer than it."""
    async for _ in both(store, 1, seconds(1, START, length, 4 * 3_600 // length)):
        raw = await store.points([1], START - HOUR, START + 5 * HOUR)
        assert raw.times.tolist() == [
            START + (n + 1) * length * SECOND - SECOND for n in range(4 * 3_600 // length)
        ]
        for level, unit in (("1m", MINUTE), ("1h", HOUR)):
            for edges in (True, False):
                rolled = await store.points([1], START, START + 5 * HOUR, level=level, edges=edges)  # type: ignore[arg-type]
                for at in range(START, START + 5 * HOUR, unit):
                    assert newest(rolled, at, 3 * HOUR) == newest(raw, at, 3 * HOUR), (level, at)
                assert rolled.counts is not None
                assert float(rolled.counts.sum()) == 4 * 3_600


async def test_samples_beside_windows_are_read_as_they_are(store: Store) -> None:
    """A window whose readings came last is the newest; where there is too much to read, values come late and never early."""
    content = Payload(
        samples({1: [(START + n * SECOND, float(n)) for n in range(0, 7_200, 30)]}),
        seconds(1, START + HOUR, 60, 60).windows,
    )
    async for _ in both(store, 1, content):
        raw = await store.points([1], START, START + 3 * HOUR)
        rolled = await store.points([1], START, START + 3 * HOUR, level="1m")
        assert [newest(rolled, at, HOUR) for at in range(START, START + 2 * HOUR, MINUTE)] == [
            newest(raw, at, HOUR) for at in range(START, START + 2 * HOUR, MINUTE)
        ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_points, "_ROWS", 10)
        rolled = await store.points([1], START, START + 3 * HOUR, level="1m")
    for at in range(START + MINUTE, START + 2 * HOUR, MINUTE):
        found = newest(rolled, at, HOUR)
        assert found is None or found <= (at - START) / SECOND


@pytest.mark.parametrize("length", [7_200, 86_400])
async def test_a_window_of_more_than_an_hour_is_seen_at_its_last_reading(store: Store, length: int) -> None:
    """By whoever asks for a short time, beside a series whose windows are short."""
    await send(store, 1, seconds(1, START, length, 1))
    await send(store, 2, seconds(2, START + length * SECOND - HOUR, 10, 360))
    last = START + length * SECOND - SECOND
    block = await store.points([1, 2], last - MINUTE // 2, last + 1)
    assert (block.series.tolist(), block.offsets.tolist()) == ([1, 2], [0, 1, 5])
    assert (int(block.times[0]), float(block.values[0])) == (last, length - 1.0)
    assert len((await store.points([1], last + 1, last + HOUR)).times) == 0


async def test_deleted_windows_are_dated_at_their_ends(store: Store, clock: ManualClock) -> None:
    """Before the raw horizon a series' newest window tells how long they were."""
    clock.step(START - clock.now_ns())
    await send(store, 1, seconds(1, START, 300, 12))
    await send(store, 2, seconds(1, START + 40 * DAY, 300, 1))
    while (await store.compact(everything=True)).more:
        pass
    await store.apply_retention(Retention(raw_ns=30 * DAY, windows_ns=30 * DAY), START + 40 * DAY + HOUR)
    for level in ("raw", "1m"):
        block = await store.points([1], START, START + 2 * HOUR, level=level)  # type: ignore[arg-type]
        assert block.times.tolist() == [START + n * 300 * SECOND - 1 for n in range(1, 13)]
        assert block.values.tolist() == [n * 300.0 - 1 for n in range(1, 13)]
        assert block.counts is not None
        assert block.counts.tolist() == [300.0] * 12


async def test_nan_is_a_reading_beside_windows_too(store: Store) -> None:
    """As it is where a series has none."""
    content = Payload(samples({1: [(START + MINUTE, float("nan"))]}), window(1, START, [1.0]))
    await send(store, 1, content)
    block = await store.points([1], START, START + HOUR)
    assert np.isnan(block.values).tolist() == [False, True]
