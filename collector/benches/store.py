# ruff: noqa: INP001 - a script
"""Measures the store and the way into it on real sensor data: `python benches/store.py DATA [--series-samples N] [--json FILE]`.

DATA is a folder with SKAB's and NAB's CSV files (any depth). Its columns become 95 series at 1 Hz, cut into batches as an
agent cuts them. Printed: readings a second through ingest (decode, commit, fsync) with and without compaction beside it,
bytes a sample in chunks and in the file, the time of a range query, the longest writes, memory.
"""

import argparse
import asyncio
import csv
import json
import os
import resource
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from telemetryx.ingest.ingest import Ingest
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.types import BatchKey, Definition, SampleBlock
from telemetryx.wire import definitions
from telemetryx.wire.frame import encode_batch
from telemetryx.wire.payload import Payload

SERIES = 95
T0 = 1_700_000_000_000_000_000
AHEAD = 64
"""Batches on the way at once."""


def columns(folder: Path) -> list[np.ndarray]:
    """Read every numeric column of the CSV files, labels and times left out."""
    out: list[np.ndarray] = []
    for path in sorted(folder.rglob("*.csv")):
        with path.open(encoding="utf-8") as file:
            delimiter = ";" if ";" in file.readline() else ","
            file.seek(0)
            rows = list(csv.DictReader(file, delimiter=delimiter))
        names = [
            name
            for name in rows[0]
            if name.lower() not in {"datetime", "timestamp", "anomaly", "changepoint"}
        ]
        out += [np.array([float(row[name]) for row in rows]) for name in names]
    return out


def batches(data: list[np.ndarray], samples: int, each: int) -> list:
    """Cut batches of `each` samples a series."""
    table = np.stack([np.resize(data[i % len(data)], samples) for i in range(SERIES)])
    epoch, numbers = os.urandom(16), np.arange(1, SERIES + 1, dtype=np.int64)
    offsets = np.arange(SERIES + 1, dtype=np.int64) * each
    defs = definitions.encode(
        [Definition(int(n), "value", {"device": f"d{n // 8}", "sensor": f"s{n}"}) for n in numbers]
    )
    out = []
    for seq, start in enumerate(range(0, samples - each + 1, each), start=1):
        times = T0 + np.arange(start, start + each, dtype=np.int64) * 1_000_000_000
        block = SampleBlock(
            numbers, offsets, np.tile(times, SERIES), table[:, start : start + each].reshape(-1)
        )
        out.append(
            encode_batch(BatchKey("bench", epoch, seq), Payload(block), defined=defs if seq == 1 else b"")
        )
    return out


async def take_in(store: SqliteStore, frames: list, *, compacting: bool) -> float:
    """Send frames through ingest as fast as it takes them; return seconds."""
    ingest = Ingest(store)
    running = asyncio.create_task(ingest.run())
    stop = asyncio.Event()

    async def compact() -> None:
        while not stop.is_set():
            report = await store.compact(everything=True)
            if not report.batches:
                await asyncio.sleep(0.01)

    beside = asyncio.create_task(compact()) if compacting else None
    started = time.perf_counter()
    waiting: list[asyncio.Future] = []
    for frame in frames:
        waiting.append(await ingest.enqueue("bench", frame))
        if len(waiting) >= AHEAD:
            await waiting.pop(0)
    await asyncio.gather(*waiting)
    seconds = time.perf_counter() - started
    stop.set()
    if beside is not None:
        await beside
    await ingest.close()
    await running
    return seconds


async def measure(folder: Path, samples: int, each: int) -> list[dict]:
    """Run everything once."""
    out: list[dict] = []

    def row(name: str, value: float, unit: str, target: float | None = None) -> None:
        ratio = None if target is None else round(value / target, 3)
        out.append(
            {"bench": "store", "name": f"{name}, {each * SERIES} a batch", "value": round(value, 3), "unit": unit, "target": target,
             "peer": None, "peer_value": None, "ratio": ratio}
        )  # fmt: skip

    frames = batches(columns(folder), samples, each)
    total = len(frames) * each * SERIES
    wire = sum(len(frame.payload) + len(frame.definitions) for frame in frames)
    row("bytes a sample on the wire", wire / total, "B")
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as place:
        store = await SqliteStore.open(Path(place) / "plain.db")
        row("ingest, durable", total / await take_in(store, frames, compacting=False), "samples/s", 2_000_000)
        usage = await store.usage()
        row("bytes a sample as shipped, file", usage.bytes / total, "B")
        started = time.perf_counter()
        while (report := await store.compact(everything=True)).more or report.batches:
            pass
        row("compaction and rollups", total / (time.perf_counter() - started), "samples/s")
        usage = await store.usage()
        row("bytes a sample in chunks", usage.chunk_bytes / usage.chunk_samples, "B", 1.8)
        await read_back(store, row)
        row("longest upkeep write", store.longest_ns()["upkeep"] / 1e6, "ms", 10)
        await store.close()
        size = (Path(place) / "plain.db").stat().st_size
        row("bytes a sample in the file, compacted, not vacuumed", size / total, "B")
        size, rollups, sketches = vacuumed(Path(place) / "plain.db")
        row("bytes a sample in the file, vacuumed", size / total, "B")
        row("  of it rollups", rollups / total, "B")
        row("    of these their sketches", sketches / total, "B")
        store = await SqliteStore.open(Path(place) / "busy.db")
        row(
            "ingest, durable, compaction beside it",
            total / await take_in(store, frames, compacting=True),
            "samples/s",
            2_000_000,
        )
        row("longest ingest write beside compaction", store.longest_ns()["ingest"] / 1e6, "ms")
        row("longest upkeep write beside ingest", store.longest_ns()["upkeep"] / 1e6, "ms", 10)
        await store.close()
    row("memory, peak, with the frames", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "MB")
    return out


async def read_back(store: SqliteStore, row: object) -> None:
    """Time queries of one series."""
    ids = [series.id for series in await store.series()]
    for name, call in (
        ("read 20,000 raw samples of one series", lambda: store.samples(ids[:1], T0, T0 + 20_000 * 10**9)),
        ("range of one series by minute", lambda: store.range(ids[:1], T0, T0 + 20_000 * 10**9, 60 * 10**9)),
    ):
        started = time.perf_counter()
        for _ in range(50):
            await call()
        row(name, (time.perf_counter() - started) / 50 * 1e3, "ms", 1)


def vacuumed(path: Path) -> tuple[int, int, int]:
    """Vacuum a closed store; return its size, what the rollups take of it, and how many bytes of these are sketches."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("VACUUM")
    try:
        (rollups,) = db.execute("SELECT sum(pgsize) FROM dbstat WHERE name LIKE 'rollup%'").fetchone()
    except sqlite3.OperationalError:
        rollups = float("nan")
    (sketches,) = db.execute(
        "SELECT sum(length(sketch)) FROM (SELECT sketch FROM rollup_1m UNION ALL SELECT sketch FROM rollup_1h)"
    ).fetchone()
    db.close()
    return path.stat().st_size, rollups, sketches or 0


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--series-samples", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=10, help="samples a series in each batch")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = asyncio.run(measure(given.data, given.series_samples, given.batch))
    sys.stdout.write(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    for row in rows:
        target = "" if row["target"] is None else f"  target {row['target']:,}"
        sys.stdout.write(f"{row['name']:68} {row['value']:>16,.3f} {row['unit']}{target}\n")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
