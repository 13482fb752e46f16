"""One question about very many series: aggregations of the REST API and of PromQL, asked of a running collector over HTTP.

Agents of a hundred series each have a reading a minute over two hours; the last five minutes lie in the store as they were shipped, the
rest is compacted. CPU is that of the collector, of the database server and of this program's HTTP client together, in
milliseconds a query.
"""

import asyncio
import os
import time
from typing import Any

import numpy as np

from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, Decoded, Definition, SampleBlock
from telemetryx.wire import definitions
from telemetryx.wire import frame as frames
from telemetryx.wire.payload import Payload
from tests.harness import Collector
from tests.harness.postgres import PostgresServer, section
from tests.load.bed import Bed
from tests.load.usage import cpu_seconds

SERIES = (1_000, 10_000)
FLEET = 100
"""Series of an agent."""
SITES = 10
MINUTE = 60_000_000_000
HOUR = 60 * MINUTE
LENGTH, FRESH = 120, 5
"""Readings of a series, and how many of them are as shipped."""
CALM = '\n[store]\ncompact_interval = "10m"\n'
TIMES = 5


def fleet(bed: Bed) -> None:
    """Ask for aggregates over 1,000 and 10,000 series: REST by label, PromQL `sum by (site)`, in SQLite and PostgreSQL."""
    bed.folder.chmod(0o711)  # the server has a user of its own
    server = PostgresServer(fsync=True, folder=bed.folder, settings=("shared_buffers=256MB", "jit=off"))
    try:
        server.start()
        for series in SERIES:
            _in_sqlite(bed, series)
            _in_postgres(bed, server, series)
            bed.show()
    finally:
        server.remove()


def _in_sqlite(bed: Bed, series: int) -> None:
    with bed.stack() as stack:
        collector = stack.collector(CALM, start=False)
        collector.database.parent.mkdir(parents=True)
        end = asyncio.run(_filled_file(collector, series))
        collector.start()
        _asked(bed, f"{series:,} series, SQLite", collector, series, end)


async def _filled_file(collector: Collector, series: int) -> int:
    return await _filled(await SqliteStore.open(collector.database), series)


def _in_postgres(bed: Bed, server: PostgresServer, series: int) -> None:
    name = server.database()
    engine = PostgresEngine(server.url(name), server.password_file)

    async def fill() -> int:
        return await _filled(await PostgresStore.open(engine), series)

    with bed.stack() as stack:
        collector = stack.collector(section(server, name, 'compact_interval = "10m"\n'), start=False)
        end = asyncio.run(fill())
        server.sql("ANALYZE", name)
        collector.start()
        _asked(bed, f"{series:,} series, PostgreSQL", collector, series, end)
    server.sql(f"DROP DATABASE {name}")


async def _filled(store: TableStore, series: int) -> int:
    """Store the readings; return the time after the last."""
    end = time.time_ns() // HOUR * HOUR
    begin = end - LENGTH * MINUTE
    try:
        for seq, (first, after) in enumerate(((0, LENGTH - FRESH), (LENGTH - FRESH, LENGTH)), start=1):
            times = begin + np.arange(first, after, dtype=np.int64) * MINUTE
            for agent in range(series // FLEET):
                await store.commit([_batch(agent, seq, times)])
            while seq == 1 and (await store.compact(everything=True)).more:
                pass
    finally:
        await store.close()
    return end


def _batch(agent: int, seq: int, times: np.ndarray[Any, np.dtype[np.int64]]) -> Decoded:
    numbers = np.arange(1, FLEET + 1, dtype=np.int64)
    offsets = np.arange(FLEET + 1, dtype=np.int64) * len(times)
    # A random walk of tenths, as sensors send it.
    values = np.random.default_rng(agent * 2 + seq).integers(-5, 6, (FLEET, len(times))).cumsum(axis=1) / 10
    block = SampleBlock(numbers, offsets, np.tile(times, FLEET), values.reshape(-1))
    name = f"agent-{agent}"
    known = [
        Definition(number, "value", {"site": f"site-{agent % SITES}", "device": f"{name}-{number}"})
        for number in numbers.tolist()
    ]
    frame = frames.encode_batch(
        BatchKey(name, b"e" * 16, seq), Payload(block), defined=definitions.encode(known)
    )
    return frames.batch(name, frame)


def _asked(bed: Bed, name: str, collector: Collector, series: int, end: int) -> None:
    after, before = end // 1_000_000_000, (end - 2 * HOUR) // 1_000_000_000
    minutes = {"match": "value", "by": "site", "start": after - 300, "end": after}
    one, over = "sum by (site) (value)", "sum by (site) (avg_over_time(value[5m]))"
    counted = "count by (site) (value)"
    aggregate, instant = "/api/v1/aggregate", "/prometheus/api/v1/query"
    hour = {"start": after - 3_660, "end": after - 60, "step": 60}
    found = collector.get(instant, query=counted, time=after - 1)["data"]["result"]
    if sum(int(one["value"][1]) for one in found) != series:
        raise RuntimeError(f"not all of {series} series came back: {found}")
    for what, path, query in (
        ("REST, mean of 5 minutes by site", aggregate, {**minutes, "agg": "avg"}),
        ("REST, sum of 2 hours by minute and site", aggregate, {**minutes, "agg": "sum", "start": before, "step": "1m"}),
        (f"PromQL, {one}", instant, {"query": one, "time": after - 1}),
        (f"PromQL, {over}", instant, {"query": over, "time": after - 1}),
        (f"PromQL, {one} over an hour by minute", f"{instant}_range", {"query": one, **hour}),
    ):  # fmt: skip
        collector.get(path, **query)
        cpu, begun = cpu_seconds(os.getpid()), time.perf_counter()
        for _ in range(TIMES):
            collector.get(path, **query)
        seconds, cpu = time.perf_counter() - begun, cpu_seconds(os.getpid()) - cpu
        bed.add("fleet", f"{name}: {what}, CPU", cpu / TIMES * 1e3, "ms")
        bed.add("fleet", f"{name}: {what}, answered after", seconds / TIMES * 1e3, "ms")
