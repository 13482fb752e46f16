"""Consolidation: chunks at rest that are joined to larger ones, in the store's own process, with nothing else to do.

95 series of real or generated readings, one a second, compacted into full chunks of 4,096 as a steady load leaves them, and made two days
older. What counts is the samples that are read, merged, encoded anew, compared and swapped, and the longest of the transactions that
swap: ingest waits for no longer than one.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np

from telemetryx.clock import ManualClock
from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables import chunks, consolidation
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, Definition, SampleBlock
from telemetryx.wire import definitions, frame
from telemetryx.wire.payload import Payload
from tests.harness.postgres import PostgresServer
from tests.load import dataset
from tests.load.bed import Bed
from tests.load.storing import described
from tests.load.usage import cpu_seconds

SERIES = 95
CHUNKS = 12
"""Full chunks of each series, before."""
SECOND = 1_000_000_000
DAY = 86_400 * SECOND
BEGIN = 1_700_000_000 * SECOND

Open = Callable[[ManualClock], Awaitable[TableStore]]


def joining(bed: Bed) -> None:
    """Join chunks at rest: samples/s, CPU, and the longest transaction, in SQLite and PostgreSQL."""
    bed.folder.chmod(0o711)  # the server has a user of its own
    described(bed)
    server = PostgresServer(fsync=True, folder=bed.folder, settings=("shared_buffers=256MB",))
    try:
        server.start()
        with bed.place() as place:
            found = dataset.columns(dataset.folder(bed.data, place / "data"))
            engine = PostgresEngine(server.url(server.database()), server.password_file)
            opens: dict[str, Open] = {
                "SQLite": lambda clock: _sqlite(place / "telemetry.db", clock),
                "PostgreSQL": lambda clock: PostgresStore.open(engine, clock=clock),
            }
            for name, opened in opens.items():
                asyncio.run(_measured(bed, name, opened, found))
    finally:
        server.remove()


async def _sqlite(path: Path, clock: ManualClock) -> TableStore:
    return await SqliteStore.open(path, clock=clock)


async def _measured(bed: Bed, name: str, opened: Open, found: dataset.Columns) -> None:
    clock = ManualClock(BEGIN + 2 * DAY)
    store = await opened(clock)
    await _filled(store, found)
    before = await store.usage()
    await store.close()
    clock.advance(2 * DAY)
    store = await opened(clock)  # whose longest transactions are those of consolidation alone
    try:
        # It joins what was there an hour ago; so it has to have looked then.
        await store.compact()
        clock.advance(consolidation.QUIET_NS)
        cpu, begun, joined = cpu_seconds(os.getpid()), time.perf_counter(), 0
        while True:
            report = await store.compact()
            joined += report.joined
            if not report.more:
                break
        seconds, cpu = time.perf_counter() - begun, cpu_seconds(os.getpid()) - cpu
        after = await store.usage()
        query = "SELECT CAST(sum(count) AS BIGINT) FROM chunk WHERE count >= ?"
        (moved,) = await store.read(lambda db: db.execute(query, (consolidation.SMALL,)).fetchone())
        longest = store.longest_ns()["upkeep"]
    finally:
        await store.close()
    if before.chunk_samples != after.chunk_samples or not joined:
        raise RuntimeError(f"{before} became {after}, {joined} chunks were made")
    count = f"{before.chunks:,} chunks to {after.chunks:,}"
    bed.add("consolidation", f"{name}, {count}: joined", moved / seconds, "samples/s")
    bed.add("consolidation", f"{name}: CPU", cpu / moved * 1e6, "s/million")
    bed.add("consolidation", f"{name}: longest transaction", longest / 1e6, "ms")
    bed.add("consolidation", f"{name}: bytes a sample before", before.chunk_bytes / before.chunk_samples, "B")
    bed.add("consolidation", f"{name}: and after", after.chunk_bytes / after.chunk_samples, "B")


async def _filled(store: TableStore, found: dataset.Columns) -> None:
    """Store and compact a chunk of every series at a time."""
    numbers = np.arange(1, SERIES + 1, dtype=np.int64)
    each = chunks.TARGET
    offsets = np.arange(SERIES + 1, dtype=np.int64) * each
    table = np.stack([np.resize(found[at % len(found)], CHUNKS * each) for at in range(SERIES)])
    defined = definitions.encode(
        [Definition(number, "value", {"sensor": f"s{number}"}) for number in numbers.tolist()]
    )
    epoch = os.urandom(16)
    for seq in range(1, CHUNKS + 1):
        cut = slice((seq - 1) * each, seq * each)
        times = BEGIN + np.arange(cut.start, cut.stop, dtype=np.int64) * SECOND
        block = SampleBlock(
            numbers, offsets, np.tile(times, SERIES), np.ascontiguousarray(table[:, cut]).reshape(-1)
        )
        encoded = frame.encode_batch(BatchKey("agent", epoch, seq), Payload(block), defined=defined)
        await store.commit([frame.batch("agent", encoded)])
        while (report := await store.compact(everything=True)).more or report.batches:
            pass
