"""The collector's side: raw ingest over gRPC with compaction beside it, and what the store makes of it."""

import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

from tests.harness import Collector
from tests.load import dataset
from tests.load.bed import ROOT, Bed, last_json, settle
from tests.load.usage import Watch

PATHS = {"PYTHONPATH": f"{ROOT / 'collector/src'}:{ROOT}"}
#: Batches younger than this are left as they came.
YOUNG_S = 10.0
COMPACTED_S = 300.0
#: The share that may wait: what is sparse stays as it came for longer.
REST = 0.02
WAITING = "SELECT coalesce(sum(samples), 0) FROM batch"
SMALL = 10


def ingest(bed: Bed) -> None:
    """Raw samples of 95 series over gRPC, each batch committed and fsynced before its ack; compaction every second.

    The sender is a process of its own that encoded everything before; it takes its share of the same cores. What is
    younger than YOUNG_S is not compacted yet, so that time is left out of the sustained rate.
    """
    for batch, each_second in ((1_000, 1_000_000), (10_000, 4_000_000), (60_000, 4_000_000)):
        with bed.stack() as stack:
            collector = stack.collector('[store]\ncompact_interval = "1s"\n')
            assert collector.process is not None
            settle()
            command = [sys.executable, "-m", "tests.load.uplink", "--port", collector.grpc]
            command += ["--batch", batch, "--samples", bed.seconds * each_second]
            if bed.data is not None:
                command += ["--data", bed.data]
            with Watch(collector.process.pid) as watch:
                found = last_json(command, 600, PATHS)
                begin = time.monotonic()
                left, done = _compacted(collector, found["samples"])
                behind = max(0.0, done - begin - YOUNG_S)
            rate = found["samples"] / found["seconds"]
            name = f"{batch:,} a batch"
            large = batch > 1_000  # noqa: PLR2004 - an agent under load cuts large ones
            bed.add("collector", f"{name}: stored", rate, "samples/s", 2_000_000 if large else None)
            sustained = (found["samples"] - left) / (found["seconds"] + behind)
            bed.add(
                "collector",
                f"{name}: stored and compacted, sustained",
                sustained,
                "samples/s",
                2_000_000 if large else None,
            )
            cpu = watch.cpu_s / found["samples"] * 1e6
            bed.add(
                "collector", f"{name}: collector's CPU, compaction and rollups included", cpu, "s/million"
            )
            bed.add(
                "collector", f"{name}: sender's CPU", found["cpu_s"] / found["samples"] * 1e6, "s/million"
            )
            bed.add("collector", f"{name}: memory, highest", watch.peak_mb, "MB", 200, at_most=True)
        bed.show()


def _compacted(collector: Collector, samples: float) -> tuple[int, float]:
    """Wait until next to nothing waits for compaction, or no more is taken; return what waits and since when."""
    end, since, last = time.monotonic() + COMPACTED_S, time.monotonic(), -1
    with closing(sqlite3.connect(f"file:{collector.database}?mode=ro", uri=True)) as db:
        while True:
            left = int(db.execute(WAITING).fetchone()[0])
            now = time.monotonic()
            if left != last:
                since, last = now, left
            if left <= samples * REST or now - since > 2 * YOUNG_S or now > end:
                return left, since
            time.sleep(0.2)


def store(bed: Bed) -> None:
    """Bytes at rest, compaction and queries, in the store's own process without gRPC (collector/benches/store.py)."""
    wanted = {
        "ingest, durable": ("decode and commit, no gRPC", None, False),
        "ingest, durable, compaction beside it": (
            "decode and commit, compaction beside it, no gRPC",
            None,
            False,
        ),
        "compaction and rollups": ("compaction and rollups", None, False),
        "bytes a sample in chunks": ("bytes a sample at rest, in chunks", 1.8, True),
        "bytes a sample in the file, vacuumed": (
            "bytes a sample in the file, rollups and indexes included",
            None,
            True,
        ),
        "read 20,000 raw samples of one series": ("read 20,000 raw samples of one series", 1.0, True),
        "range of one series by minute": ("the same by minute", 1.0, True),
    }
    with bed.place() as place:
        folder = dataset.folder(bed.data, place / "data")
        described(bed)
        for each in (SMALL, 100):
            out = place / f"store{each}.json"
            command = [sys.executable, "benches/store.py", folder.resolve(), "--batch", each, "--json", out]
            subprocess.run(
                [str(word) for word in command], cwd=ROOT / "collector", check=True, stdout=subprocess.DEVNULL,
                env={**PATHS, "BENCH_DIR": str(place), "PATH": "/usr/bin"},
            )  # fmt: skip
            for row in json.loads(out.read_text(encoding="utf-8")):
                name, _, size = row["name"].rpartition(", ")
                # Two hundred large batches are in before compaction has begun: nothing was beside them.
                if name in wanted and not (each > SMALL and "beside" in name):
                    says, target, at_most = wanted[name]
                    bed.add("store", f"{size}: {says}", row["value"], row["unit"], target, at_most=at_most)


def described(bed: Bed) -> None:
    """Say on which data."""
    bed.note(f"data: {bed.data}" if bed.data is not None else f"data: {dataset.DESCRIPTION}")
