"""The collector's side: raw ingest over gRPC with compaction beside it, and what the store makes of it."""

import json
import subprocess
import sys
import time

from tests.harness import Collector, until
from tests.load import dataset
from tests.load.bed import ROOT, Bed, last_json, settle
from tests.load.usage import Watch

PATHS = {"PYTHONPATH": f"{ROOT / 'collector/src'}:{ROOT}"}
SETTLED_S = 3.0


def ingest(bed: Bed) -> None:
    """Raw samples of 95 series over gRPC, each batch committed and fsynced before its ack; compaction every second.

    The sender is a process of its own that encoded everything before; it takes its share of the same cores.
    """
    for batch in (1_000, 10_000, 60_000):
        with bed.stack() as stack:
            collector = stack.collector('[store]\ncompact_interval = "1s"\n')
            assert collector.process is not None
            settle()
            # Enough for the time asked for at the target's rate.
            samples = int(bed.seconds * (2_000_000 if batch > 1_000 else 1_000_000))  # noqa: PLR2004
            command = [sys.executable, "-m", "tests.load.uplink", "--port", collector.grpc]
            command += ["--batch", batch, "--samples", samples]
            if bed.data is not None:
                command += ["--data", bed.data]
            with Watch(collector.process.pid) as watch:
                found = last_json(command, 600, PATHS)
                begin = time.monotonic()
                until("compaction has caught up", lambda still=collector: _still(still), 300)
                behind = time.monotonic() - begin - SETTLED_S
        rate = found["samples"] / found["seconds"]
        name = f"{batch:,} a batch"
        target = 2_000_000 if batch > 1_000 else None  # noqa: PLR2004
        bed.add("collector", f"{name}: stored", rate, "samples/s", target)
        bed.add(
            "collector",
            f"{name}: stored and compacted, sustained",
            found["samples"] / (found["seconds"] + max(0, behind)),
            "samples/s",
        )
        bed.add(
            "collector",
            f"{name}: collector's CPU, compaction included",
            watch.cpu_s / found["samples"] * 1e6,
            "s/million",
        )
        bed.add("collector", f"{name}: sender's CPU", found["cpu_s"] / found["samples"] * 1e6, "s/million")
        bed.add("collector", f"{name}: memory, highest", watch.peak_mb, "MB", 200, at_most=True)


def _still(collector: Collector) -> bool:
    """Whether the collector has used next to no CPU for a while."""
    assert collector.process is not None
    with Watch(collector.process.pid) as watch:
        time.sleep(SETTLED_S)
    return watch.cpu_s < 0.1 * SETTLED_S


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
        for each in (10, 100):
            out = place / f"store{each}.json"
            command = [sys.executable, "benches/store.py", folder.resolve(), "--batch", each, "--json", out]
            subprocess.run(
                [str(word) for word in command], cwd=ROOT / "collector", check=True, stdout=subprocess.DEVNULL,
                env={**PATHS, "BENCH_DIR": str(place), "PATH": "/usr/bin"},
            )  # fmt: skip
            for row in json.loads(out.read_text(encoding="utf-8")):
                name, _, size = row["name"].rpartition(", ")
                if name in wanted:
                    says, target, at_most = wanted[name]
                    bed.add("store", f"{size}: {says}", row["value"], row["unit"], target, at_most=at_most)


def described(bed: Bed) -> None:
    """Say on which data."""
    bed.note(f"data: {bed.data}" if bed.data is not None else f"data: {dataset.DESCRIPTION}")
