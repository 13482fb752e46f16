"""The collector's side: raw ingest over gRPC with compaction beside it, and what the store makes of it."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing

from tests.harness import Collector, until
from tests.harness.postgres import PostgresServer, section
from tests.load import dataset
from tests.load.bed import ROOT, Bed, last_json, settle
from tests.load.usage import Watch

PATHS = {"PYTHONPATH": f"{ROOT / 'collector/src'}:{ROOT}"}
EAGER = '[store]\ncompact_interval = "1s"\n'
STEADY_RATE = 2_500_000
STEADY_BATCH = 10_000
STEADY_S = 60
#: Batches younger than this are left as they came.
YOUNG_S = 10.0
COMPACTED_S = 300.0
#: The share that may wait: what is sparse stays as it came for longer.
REST = 0.02
WAITING = "SELECT coalesce(sum(samples), 0) FROM batch"
SMALL = 10


def ingest(bed: Bed) -> None:
    """Raw samples of 95 series over gRPC, each batch committed and fsynced before its ack; compaction every second.

    The sender is a process of its own that encoded everything before; it takes its share of the same cores. A burst is
    stored before anything in it is old enough to be compacted, so only the steady load says what both reach together.
    """
    for batch, each_second in ((1_000, 1_000_000), (10_000, 4_000_000), (60_000, 4_000_000)):
        _burst(bed, batch, bed.seconds * each_second)
        bed.show()
    _steady(bed)


def postgres(bed: Bed) -> None:
    """Send bursts into PostgreSQL (Debian's, on the same disk and cores, fsync on), next to SQLite in the same run."""
    bed.folder.chmod(0o711)  # the server has a user of its own
    server = PostgresServer(
        fsync=True, folder=bed.folder, settings=("max_wal_size=4GB", "shared_buffers=256MB")
    )
    try:
        server.start()
        for batch, each_second in ((1_000, 400_000), (10_000, 2_000_000), (60_000, 3_000_000)):
            for kept in (File("postgres", "SQLite, "), InPostgres(server)):
                _burst(bed, batch, bed.seconds * each_second, kept)
            bed.show()
    finally:
        server.remove()


class File:
    """The store in its file."""

    config = EAGER

    def __init__(self, bench: str = "collector", says: str = "") -> None:
        """Take what its figures are called."""
        self.bench, self.says = bench, says

    def waiting(self, collector: Collector) -> int:
        """Count samples that aren't compacted."""
        with closing(sqlite3.connect(f"file:{collector.database}?mode=ro", uri=True)) as db:
            return int(db.execute(WAITING).fetchone()[0])


class InPostgres:
    """The store in a database of its own."""

    bench = "postgres"
    says = "PostgreSQL, "

    def __init__(self, server: PostgresServer) -> None:
        """Make the database."""
        self._server, self._database = server, server.database()
        self.config = section(server, self._database, 'compact_interval = "1s"\n')

    def waiting(self, _collector: Collector) -> int:
        """Count samples that aren't compacted."""
        return int(self._server.sql(WAITING, self._database))


Kept = File | InPostgres


def _burst(bed: Bed, batch: int, samples: int, kept: Kept | None = None) -> None:
    kept = kept or File()
    with bed.stack() as stack:
        collector = stack.collector(kept.config)
        assert collector.process is not None
        settle()
        with Watch(collector.process.pid) as watch:
            found = last_json(_sender(bed, collector, batch, samples), 600, PATHS)
            begin = time.monotonic()
            left, done = _compacted(lambda: kept.waiting(collector), found["samples"])
            behind = max(0.0, done - begin - YOUNG_S)
        _all_stored(collector, found["samples"])
    name = f"{kept.says}burst, {batch:,} a batch"
    count, seconds = found["samples"], found["seconds"]
    bed.add(kept.bench, f"{name}: stored, before compaction began", count / seconds, "samples/s")
    bed.add(
        kept.bench,
        f"{name}: stored and afterwards compacted",
        (count - left) / (seconds + behind),
        "samples/s",
    )
    bed.add(
        "collector", f"{name}: CPU, compaction and rollups included", watch.cpu_s / count * 1e6, "s/million"
    )
    bed.add(kept.bench, f"{name}: sender's CPU", found["cpu_s"] / count * 1e6, "s/million")
    bed.add(kept.bench, f"{name}: memory, highest", watch.peak_mb, "MB", 200, at_most=True)


def _steady(bed: Bed) -> None:
    """Send at a steady rate above the target, and count what is stored and what is compacted in the second half."""
    with bed.stack() as stack:
        collector = stack.collector(EAGER)
        assert collector.process is not None
        settle()
        command = [*_sender(bed, collector, STEADY_BATCH, STEADY_RATE * STEADY_S), "--rate", STEADY_RATE]
        with Watch(collector.process.pid) as watch:
            sender = subprocess.Popen(
                [str(word) for word in command], env={**os.environ, **PATHS}, stdout=subprocess.PIPE
            )
            try:
                half = STEADY_RATE * STEADY_S // 2
                until("half is stored", lambda: _stored(collector) >= half, 600)
                before, early = time.monotonic(), _progress(collector)
                almost = STEADY_RATE * STEADY_S * 0.97
                until("almost all is stored", lambda: _stored(collector) >= almost, 600)
                seconds, late = time.monotonic() - before, _progress(collector)
                sender.wait(120)
            finally:
                sender.kill()
                sender.communicate()
        stored, compacted = ((now - then) / seconds for then, now in zip(early, late, strict=True))
        waiting = late[0] - late[1]
    name = f"steady {STEADY_RATE:,} samples/s offered, {STEADY_BATCH:,} a batch, {seconds:.0f} s"
    bed.add("collector", f"{name}: stored", stored, "samples/s")
    bed.add("collector", f"{name}: of it compacted meanwhile", compacted, "samples/s", 2_000_000)
    bed.add("collector", f"{name}: waiting for compaction at the end", waiting / STEADY_RATE, "s of load")
    bed.add("collector", f"{name}: CPU", watch.cpu_s / late[0] * 1e6, "s/million")
    bed.add("collector", f"{name}: memory, highest", watch.peak_mb, "MB", 200, at_most=True)


def _sender(bed: Bed, collector: Collector, batch: int, samples: int) -> list[object]:
    command = [sys.executable, "-m", "tests.load.uplink", "--port", collector.grpc, "--batch", batch]
    return [*command, "--samples", samples, *(["--data", bed.data] if bed.data is not None else [])]


def _stored(collector: Collector) -> int:
    return int(collector.get("/api/v1/status")["totals"]["samples_total"])


def _all_stored(collector: Collector, samples: float) -> None:
    if (stored := _stored(collector)) != samples:
        raise RuntimeError(f"{samples:,.0f} samples were acknowledged, but {stored:,} are stored")


def _progress(collector: Collector) -> tuple[int, int]:
    """Return how many samples are stored, and how many of them are compacted."""
    waiting = File().waiting(collector)
    stored = _stored(collector)
    return stored, stored - waiting


def _compacted(waiting: Callable[[], int], samples: float) -> tuple[int, float]:
    """Wait until next to nothing waits for compaction, or no more is taken; return what waits and since when."""
    end, since, last = time.monotonic() + COMPACTED_S, time.monotonic(), -1
    while True:
        left = waiting()
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
