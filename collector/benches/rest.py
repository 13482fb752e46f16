# ruff: noqa: INP001, T201, S603, ASYNC240 - a script
"""Measures how long 20,000 raw samples of one series take over REST: `python benches/rest.py [--postgres] [--waiting N]`.

A store gets batches of 95 series, 632 samples each, as large as an agent cuts them under load, of which the newest N wait as
shipped; then a collector of its own process runs on it, and this one asks as a client does. Printed: the milliseconds (p50)
with what is asked as shipped, and compacted; where the time goes (in the store, in the answer's JSON, on the way), and the CPU
that an answer takes of the collector, which says more where the machine has other work.
"""

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import orjson

from postgres_server import PostgresServer
from telemetryx.ingest.ingest import Ingest
from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.selector import parse
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, Definition, SampleBlock
from telemetryx.wire import definitions
from telemetryx.wire.frame import encode_batch
from telemetryx.wire.payload import Payload

SERIES, EACH, READ, ASKED = 95, 632, 20_000, 50
S = 1_000_000_000
BATCHES = 64
MATCH = 'value{sensor="s1"}'


async def fill(store: TableStore, begun: int, waiting: int) -> None:
    """Send batches, compacting all but the last ones."""
    ingest = Ingest(store)
    running = asyncio.create_task(ingest.run())
    epoch, numbers = os.urandom(16), np.arange(1, SERIES + 1, dtype=np.int64)
    defined = definitions.encode(
        [Definition(int(n), "value", {"device": f"d{n // 8}", "sensor": f"s{n}"}) for n in numbers]
    )
    chance = np.random.default_rng(1)
    for at in range(BATCHES):
        if at == BATCHES - waiting:
            await compacted(store)
        times = begun + S * np.arange(at * EACH, (at + 1) * EACH, dtype=np.int64)
        values = chance.normal(50, 5, EACH * SERIES).round(2)
        block = SampleBlock(numbers, np.arange(SERIES + 1) * EACH, np.tile(times, SERIES), values)
        frame = encode_batch(BatchKey("bench", epoch, at + 1), Payload(block), defined=defined)
        await (await ingest.enqueue("bench", frame))
    if not waiting:
        await compacted(store)
    await ingest.close()
    await running


async def compacted(store: TableStore) -> None:
    """Compact everything."""
    while (report := await store.compact(everything=True)).more or report.batches:
        pass


async def in_store(store: TableStore, end: int) -> None:
    """Time the parts without HTTP."""
    (row,) = await store.series(parse(MATCH))

    async def median(call: Callable[[], Awaitable[object]]) -> float:
        took = []
        for _ in range(ASKED):
            started = time.perf_counter()
            await call()
            took.append(time.perf_counter() - started)
        return sorted(took)[ASKED // 2] * 1e3

    async def found() -> object:
        return await store.range([row.id], end - READ * S, end, 0, "raw")

    answer = await store.range([row.id], end - READ * S, end, 0, "raw")
    columns = {"times_ns": answer.series[0].times, "values": answer.series[0].values}

    async def dumped() -> object:
        return orjson.dumps(columns, option=orjson.OPT_SERIALIZE_NUMPY)

    print(
        f"  store: series {await median(lambda: store.series(parse(MATCH))):.2f} ms, range {await median(found):.2f} ms, "
        f"JSON {await median(dumped):.2f} ms of {len(orjson.dumps(columns, option=orjson.OPT_SERIALIZE_NUMPY)):,} bytes"
    )


def cpu_ms(pid: int) -> float:
    """Return the CPU time that a process has taken."""
    words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK") * 1e3


def over_rest(folder: Path, section: str, end: int) -> tuple[float, float]:
    """Run a collector on the store and ask it; return the milliseconds, and those of its CPU."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "collector.toml"
    config.write_text(
        f'[collector]\ndata_dir = "{folder}"\n[api]\nlisten = "127.0.0.1:{port}"\n'
        f'[gateway]\nlisten = "127.0.0.1:0"\n[store]\ncompact_interval = "1h"\n{section}'
    )
    child = subprocess.Popen(
        [sys.executable, "-m", "telemetryx", "collector", "--config", str(config)],
        stderr=subprocess.DEVNULL,
    )
    query = {"match": MATCH, "agg": "raw", "max_points": 2 * READ, "start": end // S - READ, "end": end // S}
    url = f"http://127.0.0.1:{port}/api/v1/query_range?{urllib.parse.urlencode(query)}"

    def ask() -> tuple[float, bytes]:
        started = time.perf_counter()
        with urllib.request.urlopen(url, timeout=30) as answer:
            body = answer.read()
        return time.perf_counter() - started, body

    try:
        patience = time.monotonic() + 60
        while True:
            try:
                _, body = ask()
                break
            except OSError:
                if time.monotonic() > patience:
                    raise
                time.sleep(0.2)
        read = len(orjson.loads(body)["series"][0]["values"])
        if read != READ:
            raise SystemExit(f"{read} samples came")
        begun = cpu_ms(child.pid)
        took = sorted(ask()[0] for _ in range(ASKED))[ASKED // 2] * 1e3
        return took, (cpu_ms(child.pid) - begun) / ASKED
    finally:
        child.terminate()
        child.wait(30)


async def measure(kept: str, place: Path, waiting: int, server: PostgresServer | None) -> None:
    """Fill a store, ask, print."""
    begun = (time.time_ns() // S - EACH * BATCHES) * S
    end = begun + EACH * BATCHES * S
    place.mkdir()
    store: TableStore
    section = ""
    if server is None:
        store = await SqliteStore.open(place / "telemetry.db")
    else:
        url = server.url(server.database())
        store = await PostgresStore.open(PostgresEngine(url, server.password_file))
        section = f'url = "{url}"\npassword_file = "{server.password_file}"\n'
    await fill(store, begun, waiting)
    usage = await store.usage()
    print(
        f"{kept}, {usage.batch_samples:,} of {usage.batch_samples + usage.chunk_samples:,} samples as shipped"
    )
    await in_store(store, end)
    await store.close()
    took, cpu = await asyncio.to_thread(over_rest, place, section, end)
    print(f"  over REST: {took:.2f} ms, {cpu:.2f} ms of the collector's CPU")


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--waiting", type=int, default=40)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as place:
        server = PostgresServer(fsync=True, settings=("max_wal_size=4GB",)) if given.postgres else None
        try:
            if server is not None:
                server.start()
            for waiting in (given.waiting, 0):
                kept = "SQLite" if server is None else "PostgreSQL"
                asyncio.run(measure(kept, Path(place) / str(waiting), waiting, server))
        finally:
            if server is not None:
                server.remove()


if __name__ == "__main__":
    main()
