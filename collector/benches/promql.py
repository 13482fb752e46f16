# ruff: noqa: INP001, T201, S101 - a script
"""Measures PromQL range queries: `python benches/promql.py [--series N] [--hours H]`.

A store in a temporary folder gets N series with a reading every ten seconds. Printed: the milliseconds of each query at 240
steps, from the store to the JSON, in one evaluating thread, with the data as shipped and compacted.
"""

import argparse
import asyncio
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from telemetryx.api.prometheus import answer
from telemetryx.api.prometheus.source import StoreSource
from telemetryx.api.prometheus.work import Deadline, Workers
from telemetryx.ingest.ingest import Ingest
from telemetryx.promql.data import NS, Bounds, Vector
from telemetryx.promql.evaluate import Query, evaluate
from telemetryx.promql.parse import parse
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.types import BatchKey, Definition, SampleBlock
from telemetryx.wire import definitions
from telemetryx.wire.frame import encode_batch
from telemetryx.wire.payload import Payload

T0 = 1_772_359_200 * NS
EVERY = 10 * NS
EACH = 60
STEPS = 240
QUERIES = (
    "pressure",
    "rate(pressure[5m])",
    "sum by (site) (rate(pressure[5m]))",
    "quantile_over_time(0.99, pressure[5m])",
    "topk(10, avg_over_time(pressure[10m]))",
)


async def fill(store: SqliteStore, series: int, readings: int) -> None:
    """Send what an agent with so many series would."""
    ingest = Ingest(store)
    running = asyncio.create_task(ingest.run())
    epoch, numbers = os.urandom(16), np.arange(1, series + 1, dtype=np.int64)
    defs = definitions.encode(
        [Definition(int(n), "pressure", {"site": f"s{n % 10}", "device": f"d{n}"}) for n in numbers]
    )
    chance = np.random.default_rng(1)
    for seq, begun in enumerate(range(0, readings, EACH), start=1):
        times = T0 + EVERY * np.arange(begun, begun + EACH, dtype=np.int64)
        values = chance.normal(50, 5, EACH * series).round(2)
        block = SampleBlock(numbers, np.arange(series + 1) * EACH, np.tile(times, series), values)
        key = BatchKey("bench", epoch, seq)
        await (await ingest.enqueue("bench", encode_batch(key, Payload(block), defined=defs)))
    await ingest.close()
    await running


async def ask(store: SqliteStore, workers: Workers, text: str, span: int) -> tuple[float, int]:
    """Ask once; return milliseconds and the bytes of the answer."""
    times = np.linspace(T0, T0 + span, STEPS).astype(np.int64)

    def work(deadline: Deadline) -> int:
        query = Query(times, bounds=Bounds(check=deadline.check))
        found = evaluate(parse(text), query, StoreSource(store, deadline.within))
        assert isinstance(found, Vector)
        return len(answer.success(answer.matrix(found, times, 0, [])))

    begun = time.perf_counter()
    size = await workers.run(work, 60)
    return (time.perf_counter() - begun) * 1e3, size


async def main() -> None:
    """Fill, ask, print."""
    words = argparse.ArgumentParser()
    words.add_argument("--series", type=int, default=1_000)
    words.add_argument("--hours", type=float, default=1.0)
    given = words.parse_args()
    span = int(given.hours * 3_600) * NS
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        store = await SqliteStore.open(Path(folder) / "bench.db")
        workers = Workers()
        await fill(store, given.series, span // EVERY)
        for state in ("as shipped", "compacted"):
            for text in QUERIES:
                best, size = min([await ask(store, workers, text, span) for _ in range(3)])
                print(f"{state:<11}{text:<42}{best:>9.1f} ms{size / 1e6:>8.2f} MB")
            while (report := await store.compact(everything=True)).more or report.batches:
                pass
        workers.close()
        await store.close()
    print(f"memory, peak: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    asyncio.run(main())
