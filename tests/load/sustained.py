"""What one collector stores and compacts at a steady rate, over gRPC with TLS, in its file and in PostgreSQL.

The sender is a process of its own that encoded everything before. It sends batches as large as the agent cuts them under load.
A burst is stored before anything in it is old enough to be compacted; so the load runs for a minute, and what is counted is
what the second half of it had stored and compacted.
"""

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from contextlib import closing
from typing import Any

from tests.harness import Collector, until
from tests.harness.certificates import authority, signed
from tests.harness.postgres import PostgresServer, section
from tests.load.bed import ROOT, Bed, settle
from tests.load.usage import Watch

PATHS = {"PYTHONPATH": f"{ROOT / 'collector/src'}:{ROOT}"}
#: Samples a batch: 64 KiB and more of payload (1.7 bytes each).
BATCH = 60_000
LONGEST = re.compile(r'store_write_longest_seconds\{kind="(\w+)"\} (\S+)')
RATE = 2_200_000
SECONDS = 60
TARGET = 2_000_000
WAITING = "SELECT coalesce(sum(samples), 0) FROM batch"
READ = 20_000
SERIES = 95
REST = 0.02
CALM_S = 240.0
ASKED = 50
NEWEST = "the newest"
PLACES = (NEWEST, "the oldest, compacted")


def sustained(bed: Bed) -> None:
    """Store and compact a steady load over gRPC with TLS, 60,000 samples a batch, into SQLite and PostgreSQL."""
    _in_file(bed)
    bed.show()
    bed.folder.chmod(0o711)  # the server has a user of its own
    server = PostgresServer(
        fsync=True, folder=bed.folder, settings=("max_wal_size=4GB", "shared_buffers=256MB")
    )
    try:
        server.start()
        database = server.database()
        config = section(server, database, 'compact_interval = "1s"\n')
        _steady(bed, "PostgreSQL", config, lambda _: int(server.sql(WAITING, database)))
    finally:
        server.remove()


def _in_file(bed: Bed) -> None:
    def waiting(collector: Collector) -> int:
        with closing(sqlite3.connect(f"file:{collector.database}?mode=ro", uri=True)) as db:
            return int(db.execute(WAITING).fetchone()[0])

    _steady(bed, "SQLite", '[store]\ncompact_interval = "1s"\n', waiting)


def _steady(bed: Bed, kept: str, config: str, waiting: Any) -> None:  # noqa: ANN401 - a callable
    with bed.stack() as stack:
        ca = authority(stack.folder, "authority")
        cert, key = signed(stack.folder, ca)
        # The harness ends its config with [gateway]: what comes first belongs to that.
        collector = stack.collector(f'tls_cert_file = "{cert}"\ntls_key_file = "{key}"\n{config}')
        assert collector.process is not None
        settle()
        total = RATE * SECONDS
        command: list[object] = [
            sys.executable, "-m", "tests.load.uplink", "--port", collector.grpc, "--batch", BATCH, "--ca", ca[0],
            "--samples", total, "--rate", RATE, *(["--data", bed.data] if bed.data is not None else []),
        ]  # fmt: skip
        with Watch(collector.process.pid) as watch:
            sender = subprocess.Popen(
                [str(word) for word in command], env={**os.environ, **PATHS}, stdout=subprocess.PIPE
            )
            try:
                until("half is stored", lambda: _stored(collector) >= total // 2, 900)
                begin, early = time.monotonic(), _progress(collector, waiting)
                loaded = {place: _asked(collector, newest=place == NEWEST) for place in PLACES}
                until("almost all is stored", lambda: _stored(collector) >= total * 0.97, 900)
                seconds, late = time.monotonic() - begin, _progress(collector, waiting)
                sender.wait(300)
            finally:
                sender.kill()
                sender.communicate()
        longest = _longest(collector)
        stored, compacted = ((now - then) / seconds for then, now in zip(early, late, strict=True))
        name = f"{kept}, TLS, {RATE:,} samples/s offered, {BATCH:,} a batch"
        bed.add("store", f"{name}: stored", stored, "samples/s", TARGET)
        bed.add("store", f"{name}: of it compacted meanwhile", compacted, "samples/s", TARGET)
        bed.add("store", f"{name}: CPU", watch.cpu_s / late[0] * 1e6, "s/million")
        bed.add("store", f"{name}: memory, highest", watch.peak_mb, "MB", 200, at_most=True)
        for kind, target in (("ingest", None), ("upkeep", 10)):
            bed.add(
                "store",
                f"{name}: longest transaction, {kind}",
                longest[kind],
                "ms",
                target,
                at_most=target is not None,
            )
        # What waits as it came is read too, and slower: the target speaks of what is compacted.
        with contextlib.suppress(TimeoutError, AssertionError):
            until("next to nothing waits", lambda: waiting(collector) <= REST * total, CALM_S)
        bed.note(f"{kept}: {waiting(collector):,} of {total:,} samples waited when it was asked at rest")
        rest = {place: _asked(collector, newest=place == NEWEST) for place in PLACES}
        for when, asked in (("under the load", loaded), ("afterwards", rest)):
            for place, took in asked.items():
                bed.add(
                    "store",
                    f"{kept}: {READ:,} raw samples of one series over REST, {when}, {place}, p50",
                    took,
                    "ms",
                    10,
                    at_most=True,
                )


def _stored(collector: Collector) -> int:
    return int(collector.get("/api/v1/status")["totals"]["samples_total"])


def _progress(collector: Collector, waiting: Any) -> tuple[int, int]:  # noqa: ANN401 - a callable
    """Return how many samples are stored, and how many of them are compacted."""
    left = waiting(collector)
    stored = _stored(collector)
    return stored, stored - left


def _longest(collector: Collector) -> dict[str, float]:
    """Return the milliseconds of the longest transaction of each kind since the start; the disk and other programs are in it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{collector.http}/metrics", timeout=30) as answer:
        return {kind: float(took) * 1e3 for kind, took in LONGEST.findall(answer.read().decode())}


def _asked(collector: Collector, *, newest: bool) -> float:
    """Return the milliseconds that a range of raw samples of one series takes, the body read.

    The newest mostly lie in batches as they came, while there is a load; the oldest are compacted.
    """
    last = min(row["latest"]["time_ns"] for row in collector.latest('value{sensor="s1"}')) // 10**9
    begin = last - (READ if newest else _stored(collector) // SERIES - READ)
    query = {
        "match": 'value{sensor="s1"}', "agg": "raw", "max_points": 2 * READ, "start": begin, "end": begin + READ,
    }  # fmt: skip
    url = f"http://127.0.0.1:{collector.http}/api/v1/query_range?{urllib.parse.urlencode(query)}"
    took = []
    for _ in range(ASKED):
        started = time.perf_counter()
        with urllib.request.urlopen(url, timeout=30) as answer:
            body = answer.read()
        took.append((time.perf_counter() - started) * 1e3)
    found = len(json.loads(body)["series"][0]["values"])
    if found != READ:
        raise RuntimeError(f"{found} samples came in place of {READ}: nothing that was measured counts")
    return sorted(took)[ASKED // 2]
