"""Whatever order batches come in and whenever compaction runs, readers see the same samples in the same order."""

import asyncio
import struct
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from postgres_server import PostgresServer
from reference_agent import decoded, defined, samples
from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables import chunks
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, Decoded, Stored
from telemetryx.wire.payload import Payload

EPOCHS = [bytes([n]) * 16 for n in range(2)]
VALUES = st.floats(width=64) | st.integers(0, 2**64 - 1).map(
    lambda n: struct.unpack("<d", n.to_bytes(8, "little"))[0]
)
TIMES = st.integers(0, 40).map(lambda t: t * 10_000_000_000) | st.integers(-(2**60), 2**60)

Row = tuple[int, bytes, int, int, int, int]


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, Decoded | None]]:
    """Batches of two epochs with wild times and values, shuffled, with compactions in between."""
    batches = []
    for epoch in EPOCHS:
        for seq in range(1, draw(st.integers(1, 6)) + 1):
            numbers = draw(st.sets(st.integers(1, 3), min_size=1))
            rows = {
                n: sorted(
                    ((draw(TIMES), draw(VALUES)) for _ in range(draw(st.integers(1, 4)))), key=lambda r: r[0]
                )
                for n in numbers
            }
            flags = (
                {n: [draw(st.integers(0, 7)) for _ in rows[n]] for n in numbers}
                if draw(st.booleans())
                else None
            )
            batches.append(
                decoded(BatchKey("a", epoch, seq), Payload(samples(rows, flags)), defined("x", "y", "z"))
            )
    steps: list[tuple[str, Decoded | None]] = [("commit", batch) for batch in draw(st.permutations(batches))]
    for _ in range(draw(st.integers(0, 5))):
        steps.insert(draw(st.integers(0, len(steps))), ("compact", None))
    return steps


def expected(history: list[tuple[str, Decoded | None]]) -> list[Row]:
    """Every sample as (series, epoch, time, seq, bits, flags) in the one order."""
    rows = []
    for _, batch in history:
        if batch is None:
            continue
        block = batch.samples
        for at, series in enumerate(block.series.tolist()):
            for index in range(int(block.offsets[at]), int(block.offsets[at + 1])):
                flag = 0 if block.flags is None else int(block.flags[index])
                bits = int(block.values.view(np.uint64)[index])
                rows.append(
                    (series, int(block.times[index]), batch.key.epoch, batch.key.seq, index, bits, flag)
                )
    return [(row[0], row[1], row[5], row[6]) for row in sorted(rows)]


async def seen(store: TableStore) -> list[Row]:
    """Every sample that a reader gets. Series ids equal numbers only by name, so names are asked for."""
    names = {series.id: {"x": 1, "y": 2, "z": 3}[series.name] for series in await store.series()}
    block = await store.samples(list(names), -(1 << 62), 1 << 62)
    series = (
        np.repeat([names[one] for one in block.series.tolist()], np.diff(block.offsets)) if len(block) else []
    )
    flags = np.zeros(len(block), np.uint8) if block.flags is None else block.flags
    rows = list(
        zip(
            np.array(series).tolist(),
            block.times.tolist(),
            block.values.view(np.uint64).tolist(),
            flags.tolist(),
            strict=True,
        )
    )
    return sorted(rows, key=lambda row: row[0])


async def replayed(store: TableStore, history: list[tuple[str, Decoded | None]]) -> None:
    """Bring a history into a store, and compare what readers see."""
    try:
        for step, batch in history:
            if batch is not None:
                (outcome,) = await store.commit([batch])
                assert isinstance(outcome, Stored), outcome
            else:
                assert step == "compact"
                await store.compact(everything=True)
        wanted = expected(history)
        assert await seen(store) == wanted
        while (report := await store.compact(everything=True)).more or report.batches:
            pass
        assert await seen(store) == wanted
        assert await store.verify() == []
    finally:
        await store.close()


@given(histories())
@settings(max_examples=60, deadline=None)
def test_any_arrival_and_any_compaction_give_the_same_samples(
    history: list[tuple[str, Decoded | None]],
) -> None:
    """Bit-exact, NaN payloads and flags included, sorted by (series, time, batch key, index)."""

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            await replayed(await SqliteStore.open(Path(folder) / "t.db", readers=1), history)

    asyncio.run(run())


@given(history=histories())
@settings(max_examples=10, deadline=None)
def test_any_arrival_and_any_compaction_give_the_same_samples_on_postgresql(
    postgres: PostgresServer, history: list[tuple[str, Decoded | None]]
) -> None:
    """The same there, with times from 1933 to 2006: partitions of all kinds."""
    engine = PostgresEngine(postgres.url(postgres.database()), postgres.password_file)

    async def run() -> None:
        await replayed(await PostgresStore.open(engine, readers=1), history)

    asyncio.run(run())


@given(
    st.lists(
        st.tuples(st.integers(-(2**63), 2**63 - 1), VALUES, st.integers(0, 255)), min_size=1, max_size=60
    )
)
def test_a_chunk_is_bit_exact(rows: list[tuple[int, float, int]]) -> None:
    """Times, values and flags of a chunk come back as they were, whatever they are."""
    rows.sort(key=lambda row: row[0])
    times = np.array([row[0] for row in rows], np.int64)
    values = np.array([row[1] for row in rows], np.float64)
    flags = np.array([row[2] for row in rows], np.uint8)
    chunk = chunks.encode(1, times, values, flags)
    back = chunks.decode(chunk.t0_ns, chunk.t1_ns, chunk.count, chunk.times, chunk.values, chunk.flags)
    assert back[0].tolist() == times.tolist()
    assert back[1].tobytes() == values.tobytes()
    assert (np.zeros(len(rows), np.uint8) if back[2] is None else back[2]).tolist() == flags.tolist()
