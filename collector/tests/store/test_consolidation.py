"""Chunks at rest are joined to larger ones, and readers see the same samples before and after; on each store."""

import asyncio
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postgres_server import PostgresServer
from reference_agent import SECOND, T0, decoded, defined, samples
from telemetryx.clock import ManualClock
from telemetryx.store.interface import Retention
from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables import chunks, compaction, consolidation
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, Decoded, Stored
from telemetryx.wire.payload import Payload

EPOCH = bytes(range(16))
HOUR = 3600 * SECOND
DAY = 24 * HOUR
FOREVER = 1 << 62
KEEP = Retention(raw_ns=60 * DAY, windows_ns=60 * DAY)


def batch(seq: int, start: int, count: int = 100, number: int = 1) -> Decoded:
    """One series, each second from so many seconds on."""
    rows = {number: [(T0 + (start + i) * SECOND, float(seq * 1000 + i)) for i in range(count)]}
    return decoded(BatchKey("a", EPOCH, seq), Payload(samples(rows)), defined("x", "y"))


async def send(store: TableStore, *batches: Decoded) -> None:
    """Commit batches, and compact each by itself."""
    for one in batches:
        (outcome,) = await store.commit([one])
        assert isinstance(outcome, Stored)
        await upkeep(store)


async def upkeep(store: TableStore) -> None:
    """Do whatever there is to do."""
    while (report := await store.compact(everything=True)).more or report.batches:
        pass


async def rested(store: TableStore, clock: ManualClock, days: int = 2) -> None:
    """Let days pass, with an hour's quiet in between, as consolidation wants it."""
    clock.advance(days * DAY)
    for _ in range(3):
        await upkeep(store)
        clock.advance(consolidation.QUIET_NS)
    await upkeep(store)


async def seen(store: TableStore) -> list[tuple[int, bytes, bytes, list[int]]]:
    """Every sample that readers get, bit by bit, by series."""
    ids = [series.id for series in await store.series()]
    block = await store.samples(ids, -FOREVER, FOREVER)
    flags = np.zeros(len(block), np.uint8) if block.flags is None else block.flags
    return [
        (series, block.times[at].tobytes(), block.values[at].tobytes(), flags[at].tolist())
        for series, at in (
            (int(one), slice(int(block.offsets[i]), int(block.offsets[i + 1])))
            for i, one in enumerate(block.series)
        )
    ]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks that a test fills quickly."""
    monkeypatch.setattr(chunks, "TARGET", 64)
    monkeypatch.setattr(chunks, "MOST", 64)
    monkeypatch.setattr(compaction, "OWN", 32)
    monkeypatch.setattr(consolidation, "LARGE", 512)


@pytest.mark.usefixtures("small")
async def test_chunks_at_rest_become_larger_ones(store: TableStore, clock: ManualClock) -> None:
    """Ten of 64 become two; what readers see, rollups and verify stay as they were, and data that comes then is taken in."""
    await send(store, *(batch(seq, seq * 128, 128) for seq in range(1, 6)))
    before, rolled = await seen(store), await store.range([1], T0, T0 + 640 * SECOND, 60 * SECOND)
    assert (await store.usage()).chunks == 10
    await rested(store, clock)
    usage = await store.usage()
    assert (usage.chunks, usage.chunk_samples) == (3, 640)
    assert await seen(store) == before
    again = await store.range([1], T0, T0 + 640 * SECOND, 60 * SECOND)
    assert again.series[0].values.tobytes() == rolled.series[0].values.tobytes()
    assert await store.verify() == []
    await send(store, batch(6, 768), batch(7, 0))
    assert sum(len(one[3]) for one in await seen(store)) == 840
    assert await store.verify() == []


@pytest.mark.usefixtures("small")
async def test_young_chunks_stay(store: TableStore, clock: ManualClock) -> None:
    """Neither what is younger than a day by its times, nor what was written within the hour."""
    await send(store, *(batch(seq, seq * 128, 128) for seq in range(1, 6)))
    await rested(store, clock, days=0)
    assert (await store.usage()).chunks == 10
    clock.advance(2 * DAY)
    other = await store.commit([batch(9, 0, 640, 2)])
    assert isinstance(other[0], Stored)
    await upkeep(store)
    (fresh,) = await store.read(
        lambda db: db.execute("SELECT count(*) FROM chunk WHERE series_id = 2").fetchone()
    )
    assert fresh == 10, "old by its times, but only just written"


@pytest.mark.usefixtures("small")
async def test_a_seq_that_may_yet_come_keeps_its_neighbours_apart(
    store: TableStore, clock: ManualClock
) -> None:
    """What lies in a hole belongs between them where times are equal; when it has come they are joined."""
    await send(store, *(batch(seq, 0, 64) for seq in (1, 2, 3, 5, 6, 7)))
    await rested(store, clock)
    assert (await store.usage()).chunks == 6
    await send(store, batch(4, 0, 64))
    block = await store.samples([1], T0, T0 + 1)
    assert block.values.tolist() == [seq * 1000.0 for seq in range(1, 8)]
    await rested(store, clock)
    assert (await store.usage()).chunks == 1
    block = await store.samples([1], T0, T0 + 1)
    assert block.values.tolist() == [seq * 1000.0 for seq in range(1, 8)]
    assert await store.verify() == []


@pytest.mark.usefixtures("small")
async def test_a_chunk_does_not_outlive_retention_by_much(store: TableStore, clock: ManualClock) -> None:
    """Rare readings stay in chunks that span no more than an eighth of what is kept."""
    await store.apply_retention(Retention(raw_ns=4 * DAY, windows_ns=4 * DAY), clock.now_ns())
    await send(store, *(batch(seq, seq * 10_000, 64) for seq in range(1, 20)))
    await rested(store, clock)
    spans = await store.read(lambda db: db.execute("SELECT t1_ns - t0_ns, count FROM chunk").fetchall())
    assert max(span for span, _ in spans) <= DAY
    assert 1 < len(spans) < 19


@pytest.mark.usefixtures("small")
async def test_rows_and_no_rows_are_not_joined(store: TableStore, clock: ManualClock) -> None:
    """Chunks whose samples are plain rows stay apart from the others, so that each row is written once."""
    store._rows._fill = _nothing  # type: ignore[method-assign]  # as while it lags
    for seq in range(1, 21):
        store.keep_plain_rows(seq > 10)
        await store.compact()
        await send(store, batch(seq, seq * 64, 64))
    store.keep_plain_rows(False)
    await rested(store, clock)
    found = await store.read(
        lambda db: db.execute("SELECT count, plain FROM chunk ORDER BY t0_ns").fetchall()
    )
    assert {plain in {0, count} for count, plain in found} == {True}
    assert 2 <= len(found) < 20
    assert await store.verify() == []


async def _nothing() -> tuple[int, bool]:
    return 0, False


@pytest.mark.usefixtures("small")
async def test_a_damaged_chunk_leaves_the_others_alone(store: TableStore, clock: ManualClock) -> None:
    """One that can't be decoded is not joined and not lost; other series are joined all the same."""
    await send(store, *(batch(seq, seq * 128, 128, 1 + seq % 2) for seq in range(1, 13)))
    await store.write(
        lambda db: db.execute(
            'UPDATE chunk SET "values" = ? WHERE id = (SELECT min(id) FROM chunk)', (b"\x01?",)
        )
    )
    await rested(store, clock)
    by_series = dict(
        await store.read(
            lambda db: db.execute("SELECT series_id, count(*) FROM chunk GROUP BY series_id").fetchall()
        )
    )
    assert sorted(by_series.values()) == [2, 12]


# --- whatever comes in between

VALUES = st.floats(width=64) | st.integers(0, 2**64 - 1).map(
    lambda n: struct.unpack("<d", n.to_bytes(8, "little"))[0]
)
TIMES = st.integers(0, 30).map(lambda t: T0 + t * SECOND) | st.integers(-40, 2).map(lambda d: T0 + d * DAY)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, Decoded | None]]:
    """Batches of two epochs, shuffled, with compaction, days that pass, retention and the option for rows in between."""
    batches = []
    for epoch in (bytes([n]) * 16 for n in range(2)):
        for seq in range(1, draw(st.integers(2, 9)) + 1):
            rows = {
                n: sorted(
                    ((draw(TIMES), draw(VALUES)) for _ in range(draw(st.integers(1, 4)))), key=lambda r: r[0]
                )
                for n in draw(st.sets(st.integers(1, 2), min_size=1))
            }
            flags = (
                {n: [draw(st.integers(0, 7)) for _ in rows[n]] for n in rows} if draw(st.booleans()) else None
            )
            batches.append(
                decoded(BatchKey("a", epoch, seq), Payload(samples(rows, flags)), defined("x", "y"))
            )
    steps: list[tuple[str, Decoded | None]] = [("commit", one) for one in draw(st.permutations(batches))]
    for _ in range(draw(st.integers(2, 10))):
        what = draw(st.sampled_from(["compact", "rest", "rest", "retain", "rows", "no rows"]))
        steps.insert(draw(st.integers(0, len(steps))), (what, None))
    return [*steps, ("rest", None)]


async def replayed(store: TableStore, clock: ManualClock, history: list[tuple[str, Decoded | None]]) -> int:
    """Bring a history into a store; around each step of upkeep readers see the same. Return how many chunks are left."""
    try:
        for step, one in history:
            if one is not None:
                (outcome,) = await store.commit([one])
                assert isinstance(outcome, Stored), outcome
                continue
            if step == "retain":
                await upkeep(store)
                await store.apply_retention(KEEP, clock.now_ns())
                continue
            if step.endswith("rows"):
                store.keep_plain_rows(step == "rows")
            before = await seen(store)
            if step == "rest":
                await rested(store, clock)
            else:
                await store.compact(everything=True)
            assert await seen(store) == before
            assert await store.verify() == []
        return (await store.usage()).chunks
    finally:
        await store.close()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of three samples, joined to up to twelve."""
    monkeypatch.setattr(chunks, "TARGET", 3)
    monkeypatch.setattr(chunks, "MOST", 4)
    monkeypatch.setattr(compaction, "OWN", 2)
    monkeypatch.setattr(consolidation, "LARGE", 12)
    monkeypatch.setattr(consolidation, "MEMBERS", 2)


@pytest.mark.usefixtures("tiny")
@given(history=histories())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_samples_are_the_same_whatever_comes_in_between(history: list[tuple[str, Decoded | None]]) -> None:
    """Late data, compaction, consolidation, retention, rows and no rows in any order: nothing is lost, doubled or moved."""

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            clock = ManualClock(T0)
            store = await SqliteStore.open(Path(folder) / "t.db", clock=clock, readers=1)
            await replayed(store, clock, history)

    asyncio.run(run())


@pytest.mark.usefixtures("tiny")
@given(history=histories())
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_samples_are_the_same_whatever_comes_in_between_on_postgresql(
    postgres: PostgresServer, history: list[tuple[str, Decoded | None]]
) -> None:
    """The same there, over partitions that come and go."""
    engine = PostgresEngine(postgres.url(postgres.database()), postgres.password_file)

    async def run() -> None:
        clock = ManualClock(T0)
        await replayed(await PostgresStore.open(engine, clock=clock, readers=1), clock, history)

    asyncio.run(run())
