"""The same readings in what others would keep them in: plain rows, VictoriaMetrics and InfluxDB, in the same run.

Plain rows (series, time, value) go into SQLite, once as a heap with an index and once clustered by (series, time), and are
committed and fsynced every 60,000. VictoriaMetrics and InfluxDB get line protocol over HTTP, 60,000 lines a request, as
Telegraf sends it; neither fsyncs before it answers. They are Debian's packages `victoria-metrics` and `influxdb`,
which --install installs; where they are missing that is said.
"""

import json
import shutil
import sqlite3
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.harness import Process, free_port, until
from tests.load import dataset
from tests.load.bed import Bed
from tests.load.storing import described

SERIES = 95
EACH = 20_000
PORTION = 60_000
SECOND = 1_000_000_000
BEGIN = 1_700_000_000 * SECOND
PATIENCE_S = 120.0
#: Seconds after which all of it was measured.
DAYS = 10 * 86_400
#: A folder that didn't change for so long is settled.
CALM_S = 8.0
#: Bytes of a write-ahead log with nothing in it, about.
SMALL = 100_000


def peers(bed: Bed) -> None:
    """Plain rows in SQLite, VictoriaMetrics and InfluxDB with the same 1.9 M readings: rate in, bytes a sample, a range."""
    with bed.place() as place:
        found = dataset.columns(dataset.folder(bed.data, place / "data"))
        described(bed)
        values = np.stack([np.resize(found[n % len(found)], EACH) for n in range(SERIES)])
        for name, schema in (
            (
                "heap with an index",
                "CREATE TABLE s (series INT, t INT, v REAL); CREATE INDEX i ON s (series, t)",
            ),
            (
                "clustered",
                "CREATE TABLE s (series INT, t INT, v REAL, PRIMARY KEY (series, t)) WITHOUT ROWID",
            ),
        ):
            _rows(bed, place / "rows.db", name, schema, values)
        for timed, sent in ((True, _repeated(values)), (False, _once(found))):
            _victoria(bed, place / f"victoria{timed}", sent, timed=timed)
            _influx(bed, place / f"influx{timed}", sent, timed=timed)


def _portions(values: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cut readings as they come: all series, a stretch of seconds."""
    each = PORTION // SERIES
    for start in range(0, EACH, each):
        part = values[:, start : start + each]
        yield BEGIN + np.arange(start, start + part.shape[1], dtype=np.int64) * SECOND, part


def _rows(bed: Bed, path: Path, name: str, schema: str, values: np.ndarray) -> None:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(schema)
        began = time.perf_counter()
        for times, part in _portions(values):
            count = len(times)
            series = np.repeat(np.arange(SERIES), count).tolist()
            db.execute("BEGIN")
            db.executemany(
                "INSERT INTO s VALUES (?, ?, ?)",
                zip(series, np.tile(times, SERIES).tolist(), part.reshape(-1).tolist(), strict=True),
            )
            db.execute("COMMIT")
        took = time.perf_counter() - began
        started = time.perf_counter()
        read = db.execute("SELECT t, v FROM s WHERE series = 3 ORDER BY t").fetchall()
        asked = (time.perf_counter() - started) * 1e3
        if len(read) != EACH:
            raise RuntimeError(f"{len(read)} rows came back of {EACH}")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    bed.add("peers", f"SQLite rows, {name}: stored, fsynced", values.size / took, "samples/s")
    bed.add("peers", f"SQLite rows, {name}: bytes a sample", path.stat().st_size / values.size, "B")
    bed.add("peers", f"SQLite rows, {name}: {EACH:,} samples of one series", asked, "ms")


def _lines(times: np.ndarray, part: np.ndarray, first: int = 0) -> bytes:
    stamps = times.tolist()
    out = []
    for series, row in enumerate(part.tolist(), first):
        head = f"value,device=d{series // 8},sensor=s{series} v="
        out += [f"{head}{value!r} {stamp}" for value, stamp in zip(row, stamps, strict=True)]
    return "\n".join(out).encode()


@dataclass(frozen=True)
class Sent:
    """Requests, and the samples in them."""

    bodies: list[bytes]
    samples: int


def _repeated(values: np.ndarray) -> Sent:
    """Make enough to time: each column again and again."""
    return Sent([_lines(times, part) for times, part in _portions(values)], values.size)


def _once(found: dataset.Columns) -> Sent:
    """Take each column once: what compresses long repeats would gain by others."""
    bodies = []
    for number, column in enumerate(found[:SERIES]):
        times = BEGIN + np.arange(len(column), dtype=np.int64) * SECOND
        bodies.append(_lines(times, column[None, :], number))
    return Sent(bodies, sum(len(column) for column in found[:SERIES]))


def _take_in(bed: Bed, name: str, url: str, sent: Sent, kept: Callable[[], int], *, timed: bool) -> None:
    """Send all; report the rate, or when all is settled the bytes that are kept."""
    began = time.perf_counter()
    for body in sent.bodies:
        _get(url, body)
    took = time.perf_counter() - began
    size = kept()
    if timed:
        bed.add("peers", f"{name}: taken, not fsynced", sent.samples / took, "samples/s")
    else:
        bed.add("peers", f"{name}: bytes a sample, each reading once", size / sent.samples, "B")


def _victoria(bed: Bed, folder: Path, sent: Sent, *, timed: bool) -> None:
    program = _program(bed, "victoria-metrics", "victoria-metrics")
    if program is None:
        return
    port = free_port()
    command = [
        program,
        f"-storageDataPath={folder}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-retentionPeriod=100y",
    ]
    server = Process("victoria-metrics", command, folder.with_suffix(".log"))
    try:
        until("VictoriaMetrics answers", lambda: _answers(f"http://127.0.0.1:{port}/health"), PATIENCE_S)

        def kept() -> int:
            _get(f"http://127.0.0.1:{port}/internal/force_flush")
            _get(f"http://127.0.0.1:{port}/internal/force_merge")
            asked = urllib.parse.urlencode(
                {"query": 'sum(count_over_time({__name__=~"value.*"}[30d]))', "time": BEGIN // SECOND + DAYS}
            )
            answer = json.loads(_get(f"http://127.0.0.1:{port}/api/v1/query?{asked}"))
            _all_there("VictoriaMetrics", int(answer["data"]["result"][0]["value"][1]), sent.samples)
            return _settled(folder / "data")

        _take_in(bed, "VictoriaMetrics", f"http://127.0.0.1:{port}/write", sent, kept, timed=timed)
    finally:
        server.stop()


def _influx(bed: Bed, folder: Path, sent: Sent, *, timed: bool) -> None:
    program = _program(bed, "influxd", "influxdb")
    if program is None:
        return
    port, rpc = free_port(), free_port()
    folder.mkdir()
    config = folder / "influxdb.conf"
    config.write_text(
        f'reporting-disabled = true\nbind-address = "127.0.0.1:{rpc}"\n[meta]\ndir = "{folder}/meta"\n'
        f'[data]\ndir = "{folder}/data"\nwal-dir = "{folder}/wal"\ncache-snapshot-write-cold-duration = "2s"\n'
        f'[http]\nbind-address = "127.0.0.1:{port}"\nlog-enabled = false\n',
        encoding="utf-8",
    )
    server = Process("influxdb", [program, "run", "-config", config], folder / "influxdb.log")
    try:
        until("InfluxDB answers", lambda: _answers(f"http://127.0.0.1:{port}/ping"), PATIENCE_S)
        _get(f"http://127.0.0.1:{port}/query", b"q=CREATE+DATABASE+bench")

        def kept() -> int:
            asked = urllib.parse.urlencode({"db": "bench", "q": "SELECT count(v) FROM value"})
            answer = json.loads(_get(f"http://127.0.0.1:{port}/query?{asked}"))
            _all_there("InfluxDB", answer["results"][0]["series"][0]["values"][0][1], sent.samples)
            until("its log is in files", lambda: _size(folder / "wal") < SMALL, PATIENCE_S)
            return _settled(folder / "data/bench")

        _take_in(bed, "InfluxDB", f"http://127.0.0.1:{port}/write?db=bench", sent, kept, timed=timed)
    finally:
        server.stop()


def _settled(folder: Path) -> int:
    """Return what a folder takes once that no longer changes."""
    last, since = -1, time.monotonic()
    while time.monotonic() - since < CALM_S:
        if (size := _size(folder)) != last:
            last, since = size, time.monotonic()
        time.sleep(0.5)
    return last


def _all_there(name: str, count: int, sent: int) -> None:
    """Refuse figures of a store that hasn't all of it."""
    if count != sent:
        raise RuntimeError(f"{name} has {count:,} of {sent:,} samples")


def _program(bed: Bed, name: str, package: str) -> str | None:
    """Find a program, and install its package where that was asked for."""
    if shutil.which(name) is None and bed.install:
        subprocess.run(["apt-get", "install", "-y", "-q", package], check=True, stdout=subprocess.DEVNULL)
    found = shutil.which(name)
    if found is None:
        bed.note(f"{name} is not installed: give --install, or apt-get install {package}")
    return found


def _answers(url: str) -> bool:
    try:
        _get(url)
    except OSError:
        return False
    return True


def _get(url: str, body: bytes | None = None) -> bytes:
    with urllib.request.urlopen(url, data=body, timeout=60) as answer:  # noqa: S310 - on this host
        return bytes(answer.read())


def _size(folder: Path) -> int:
    """Return the bytes on disk below a folder."""
    done = subprocess.run(["du", "-sb", folder], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])
