"""The same readings in three layouts and two engines: as shipped and compacted, plain rows in a heap, plain rows clustered.

Each series has readings over 20,000 s, more of them the fewer series there are; agents of a hundred series send ten readings a series in a
batch. One more series, the probe, has a reading a second: what is asked of one series is asked of it. *Late* means that every fifth
agent's batches come two hours after the others'. Rows are written 60,000 a transaction, which is fsynced like ours: SQLite by executemany, PostgreSQL by
binary COPY. Columns are taken in as the collector does it, from encoded batches to the commit, then compacted. CPU is ours and the server's, so that it says the same beside busy neighbours; on an idle
machine a query takes that long and a little more. Ours keeps rollups of a minute
and an hour, series, labels and the dedup ledger beside, rows nothing: so bytes are given of the raw samples with their indexes, and of everything.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import asyncpg
import numpy as np
import numpy.typing as npt

from telemetryx.ingest.ingest import Ingest
from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, Definition, Matcher, SampleBlock
from telemetryx.wire import definitions
from telemetryx.wire.frame import encode_batch
from telemetryx.wire.payload import Payload
from tests.harness.postgres import PostgresServer
from tests.load import dataset
from tests.load.bed import Bed
from tests.load.storing import described
from tests.load.usage import cpu_seconds

SECOND = 1_000_000_000
SPAN_S = 20_000
BEGIN = 1_700_000_000 // SPAN_S * SPAN_S * SECOND
FLEET = 100
"""Series of an agent."""
EACH = 10
"""Readings a series in a batch."""
LATE_S = 7_200
PORTION = 60_000
AHEAD = 64
FEWEST, MOST, PATIENCE_S, LONG_S = 3, 100, 1.0, 5.0
"""Runs of a query."""
HOUR = (BEGIN + 7_200 * SECOND, BEGIN + 10_800 * SECOND)
WHOLE = (BEGIN, BEGIN + SPAN_S * SECOND)
MINUTES = (BEGIN + 9_000 * SECOND, BEGIN + 9_300 * SECOND)
HEADS = (
    "stored", "stored, CPU", "compacted or clustered too, CPU", "bytes of raw samples, indexes included", "bytes of everything",
    "an hour of one series, CPU", "20,000 samples of one series, CPU", "latest of all series, CPU",
    "mean of all series over 5 minutes, CPU",
)  # fmt: skip
UNITS = ("samples/s", "s/million", "s/million", "B", "B", "ms", "ms", "ms", "ms")

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]


@dataclass
class Batch:
    """Some readings of an agent's series."""

    agent: int
    arrives: float
    series: I64
    times: I64
    """One a reading; the same for all of its series."""
    values: F64
    """A row a series."""

    def columns(self) -> tuple[I64, I64, F64]:
        """Return one row a sample."""
        series = np.repeat(self.series, len(self.times))
        return series, np.tile(self.times, len(self.series)), self.values.reshape(-1)


@dataclass
class Load:
    """What is sent: batches in the order of their arrival. Series 0 is the probe."""

    series: int
    late: bool
    batches: list[Batch] = field(default_factory=list)
    samples: int = 0

    @classmethod
    def of(cls, series: int, samples: int, found: dataset.Columns, *, late: bool) -> "Load":
        """Make about so many samples."""
        load, readings = cls(series, late), max(EACH, samples // series)
        step = SPAN_S / readings
        length = min(len(column) for column in found)
        table = np.stack([column[:length] for column in found])
        load._add(0, np.zeros(1, np.int64), np.resize(found[3], (1, SPAN_S)), 1.0, 10 * EACH)
        for agent, first in enumerate(range(1, series, FLEET), start=1):
            ids = np.arange(first, min(first + FLEET, series), dtype=np.int64)
            at = (ids[:, None] * 7 + np.arange(readings)[None, :]) % length
            load._add(agent, ids, table[(ids % len(table))[:, None], at], step, EACH)
        load.batches.sort(key=lambda one: one.arrives)
        load.samples = sum(one.values.size for one in load.batches)
        return load

    def _add(self, agent: int, ids: I64, values: F64, step: float, each: int) -> None:
        times = BEGIN + (np.arange(values.shape[1]) * step * SECOND).astype(np.int64)
        for start in range(0, values.shape[1], each):
            cut = slice(start, start + each)
            behind = LATE_S if self.late and agent % 5 == 1 else 0
            arrives = float(times[cut][-1]) / SECOND + behind + agent * 1e-4
            self.batches.append(Batch(agent, arrives, ids, times[cut], np.ascontiguousarray(values[:, cut])))

    def portions(self) -> Iterator[tuple[I64, I64, F64]]:
        """Cut the rows into transactions."""
        some: list[tuple[I64, I64, F64]] = []
        count = 0
        for one in self.batches:
            some.append(one.columns())
            count += one.values.size
            if count >= PORTION or one is self.batches[-1]:
                series, times, values = (np.concatenate(column) for column in zip(*some, strict=True))
                yield cast("I64", series), cast("I64", times), cast("F64", values)
                some, count = [], 0


class Measured:
    """Figures of one cell, in the order of HEADS."""

    def __init__(self) -> None:
        """Begin with none."""
        self.figures: list[float] = []

    def cpu(self) -> float:
        """Return what was used so far: by us, and by the server, which is our child."""
        return cpu_seconds(os.getpid())

    def ask(self, call: Callable[[], object]) -> None:
        """Add the CPU time of a query: of some runs after a first one that warms caches, of that one where it takes long."""
        looking = self.cpu()
        looking = self.cpu() - looking
        cpu, began, runs = self.cpu(), time.perf_counter(), 1
        call()
        if time.perf_counter() - began < LONG_S:
            cpu, began, runs = self.cpu(), time.perf_counter(), 0
        while time.perf_counter() - began < LONG_S and (
            runs < FEWEST or (runs < MOST and time.perf_counter() - began < PATIENCE_S)
        ):
            call()
            runs += 1
        self.figures.append(max(0.0, self.cpu() - cpu - looking) / runs * 1e3)


def layouts(bed: Bed) -> None:
    """Columns beside plain rows, in SQLite and PostgreSQL, with 1,000 to 100,000 series, in order and a fifth two hours late."""
    bed.folder.chmod(0o711)  # the server has a user of its own
    server = PostgresServer(
        fsync=True, folder=bed.folder, settings=("max_wal_size=4GB", "shared_buffers=256MB", "jit=off")
    )
    described(bed)
    lines = [f"| series, order | layout | {' | '.join(HEADS)} |", "|---" * (len(HEADS) + 2) + "|"]
    try:
        server.start()
        with bed.place() as place:
            found = dataset.columns(dataset.folder(bed.data, place / "data"))
            for series in bed.sizes.series:
                for late in bed.sizes.orders:
                    columns = Load.of(series, bed.sizes.samples, found, late=late)
                    rows = Load.of(series, bed.sizes.rows, found, late=late)
                    lines += _cells(bed, place, server, columns, rows)
    finally:
        server.remove()
    print("\n".join(["", *lines, ""]), flush=True)


def _cells(bed: Bed, place: Path, server: PostgresServer, columns: Load, rows: Load) -> list[str]:
    lines = []
    order = "a fifth late" if columns.late else "in order"
    where = f"{columns.series:,} series, {order}"
    for name, load, measure in (
        ("SQLite, columns", columns, lambda load: _columns_sqlite(place / "columns.db", load)),
        ("SQLite, rows in a heap", rows, lambda load: _rows_sqlite(place / "rows.db", load, HEAP)),
        ("SQLite, rows clustered", rows, lambda load: _rows_sqlite(place / "rows.db", load, CLUSTERED)),
        ("PostgreSQL, columns", columns, lambda load: _columns_postgres(server, load)),
        ("PostgreSQL, rows in a heap", rows, lambda load: _rows_postgres(server, load, cluster=False)),
        ("PostgreSQL, rows clustered", rows, lambda load: _rows_postgres(server, load, cluster=True)),
    ):
        figures = measure(load)
        for head, figure, unit in zip(HEADS, figures, UNITS, strict=True):
            bed.add("layouts", f"{where}, {name}: {head}", figure, unit)
        shown = [f"{one:,.0f}" if one >= 100 else f"{one:.3g}" for one in figures]  # noqa: PLR2004
        lines.append(f"| {where} | {name} | {' | '.join(shown)} |")
        print(f"  {lines[-1]}", flush=True)
    return lines


# --- columns


def _frames(load: Load) -> list[tuple[str, Any]]:
    """Encode batches as agents do."""
    epochs: dict[int, tuple[bytes, int]] = {}
    out = []
    for one in load.batches:
        epoch, seq = epochs.get(one.agent, (os.urandom(16), 0))
        epochs[one.agent] = epoch, seq + 1
        count = len(one.series)
        numbers = np.arange(1, count + 1, dtype=np.int64)
        offsets = np.arange(count + 1, dtype=np.int64) * len(one.times)
        defined = b""
        if seq == 0:
            named = zip(numbers.tolist(), one.series.tolist(), strict=True)
            defined = definitions.encode(
                [Definition(number, "value", {"sensor": f"s{series}"}) for number, series in named]
            )
        block = SampleBlock(numbers, offsets, np.tile(one.times, count), one.values.reshape(-1))
        name = f"agent-{one.agent}"
        out.append((name, encode_batch(BatchKey(name, epoch, seq + 1), Payload(block), defined=defined)))
    return out


def _columns(runner: asyncio.Runner, store: TableStore, load: Load, measured: Measured) -> None:
    """Take in and compact. What makes the series known isn't timed: the first batch of each agent."""
    seen: set[int] = set()
    first, rest, count = [], [], 0
    for one, frame in zip(load.batches, _frames(load), strict=True):
        (rest if one.agent in seen else first).append(frame)
        count += one.values.size if one.agent in seen else 0
        seen.add(one.agent)
    stored, cpu, more = runner.run(_taken_in(store, first, rest, measured))
    # All of it is compacted, the first batches too; with a few batches a series they are a large part.
    each = cpu / count * 1e6
    measured.figures += [count / stored, each, each + more / load.samples * 1e6]


async def _taken_in(
    store: TableStore, first: list[tuple[str, Any]], rest: list[tuple[str, Any]], measured: Measured
) -> tuple[float, float, float]:
    ingest = Ingest(store)
    running = asyncio.create_task(ingest.run())
    await _sent(ingest, first)
    cpu, began = measured.cpu(), time.perf_counter()
    await _sent(ingest, rest)
    stored, taken = time.perf_counter() - began, measured.cpu()
    await ingest.close()
    await running
    while (report := await store.compact(everything=True)).more or report.batches:
        pass
    return stored, taken - cpu, measured.cpu() - taken


async def _sent(ingest: Ingest, frames: list[tuple[str, Any]]) -> None:
    waiting: list[Any] = []
    for agent, frame in frames:
        waiting.append(await ingest.enqueue(agent, frame))
        if len(waiting) >= AHEAD:
            await waiting.pop(0)
    await asyncio.gather(*waiting)


def _asked(runner: asyncio.Runner, store: TableStore, load: Load, measured: Measured) -> None:
    ids = [one.id for one in runner.run(store.series(limit=load.series + 1))]
    (probe,) = [one.id for one in runner.run(store.series([Matcher("sensor", "=", "s0")]))]
    block = runner.run(store.samples([probe], *WHOLE))
    if len(block) != SPAN_S or len(ids) != load.series:
        raise RuntimeError(f"{len(block)} samples of the probe and {len(ids)} series came back")
    measured.ask(lambda: runner.run(store.samples([probe], *HOUR)))
    measured.ask(lambda: runner.run(store.samples([probe], *WHOLE)))
    measured.ask(lambda: runner.run(store.latest(ids)))
    step = MINUTES[1] - MINUTES[0]
    measured.ask(lambda: runner.run(store.range(ids, *MINUTES, step, "avg", max_points=2 * load.series)))


def _columns_sqlite(path: Path, load: Load) -> list[float]:
    measured = Measured()
    with asyncio.Runner() as runner:
        store: TableStore = runner.run(SqliteStore.open(path))
        _columns(runner, store, load, measured)
        runner.run(store.close())
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("VACUUM")
            (raw,) = db.execute(
                "SELECT sum(pgsize) FROM dbstat WHERE name LIKE 'chunk%' OR name LIKE 'batch%'"
            ).fetchone()
        measured.figures += [raw / load.samples, path.stat().st_size / load.samples]
        store = runner.run(SqliteStore.open(path))
        _asked(runner, store, load, measured)
        runner.run(store.close())
    path.unlink()
    return measured.figures


def _columns_postgres(server: PostgresServer, load: Load) -> list[float]:
    measured, name = Measured(), server.database()
    size = f"SELECT pg_database_size('{name}')"
    empty = int(server.sql(size))
    with asyncio.Runner() as runner:
        engine = PostgresEngine(server.url(name), server.password_file)
        store = runner.run(PostgresStore.open(engine))
        _columns(runner, store, load, measured)
        server.sql("VACUUM FULL ANALYZE", name)
        raw = server.sql(
            "SELECT sum(pg_total_relation_size(relid)) FROM (SELECT relid FROM pg_partition_tree('chunk') "
            "UNION ALL SELECT relid FROM pg_partition_tree('batch')) AS parts",
            name,
        )
        measured.figures += [int(raw) / load.samples, (int(server.sql(size)) - empty) / load.samples]
        _asked(runner, store, load, measured)
        runner.run(store.close())
    server.sql(f"DROP DATABASE {name}")
    return measured.figures


# --- rows

HEAP = "CREATE TABLE s (series INT, t INT, v REAL); CREATE INDEX i ON s (series, t)"
CLUSTERED = "CREATE TABLE s (series INT, t INT, v REAL, PRIMARY KEY (series, t)) WITHOUT ROWID"


def _rows_sqlite(path: Path, load: Load, schema: str) -> list[float]:
    measured = Measured()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA cache_size = -65536")
        db.executescript(schema)
        cpu, began = measured.cpu(), time.perf_counter()
        for portion in load.portions():
            rows = zip(*(column.tolist() for column in portion), strict=True)
            db.execute("BEGIN")
            db.executemany("INSERT INTO s VALUES (?, ?, ?)", rows)
            db.execute("COMMIT")
        measured.figures.append(load.samples / (time.perf_counter() - began))
        measured.figures += [(measured.cpu() - cpu) / load.samples * 1e6] * 2
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        measured.figures += [path.stat().st_size / load.samples] * 2
        db.execute("CREATE TEMP TABLE ids (id INTEGER PRIMARY KEY)")
        db.executemany("INSERT INTO ids VALUES (?)", ((one,) for one in range(load.series)))
        one = "SELECT t, v FROM s WHERE series = 0 AND t >= ? AND t < ? ORDER BY t"
        _all_there(len(db.execute(one, WHOLE).fetchall()))
        measured.ask(lambda: db.execute(one, HOUR).fetchall())
        measured.ask(lambda: db.execute(one, WHOLE).fetchall())
        latest = "SELECT id, (SELECT v FROM s WHERE series = id ORDER BY t DESC LIMIT 1) FROM ids"
        measured.ask(lambda: db.execute(latest).fetchall())
        mean = "SELECT avg(v) FROM ids JOIN s ON series = id AND t >= ? AND t < ?"
        measured.ask(lambda: db.execute(mean, MINUTES).fetchone())
    path.unlink()
    return measured.figures


_ROW = np.dtype(
    [("n", ">u2"), ("a", ">u4"), ("series", ">i8"), ("b", ">u4"), ("t", ">i8"), ("c", ">u4"), ("v", ">f8")]
)


def _binary(series: I64, times: I64, values: F64) -> memoryview:
    """Write rows as COPY takes them."""
    rows = np.empty(len(series), _ROW)
    rows["n"], rows["a"], rows["b"], rows["c"] = 3, 8, 8, 8
    rows["series"], rows["t"], rows["v"] = series, times, values
    return memoryview(bytearray(b"PGCOPY\n\xff\r\n\0" + bytes(8) + rows.tobytes() + b"\xff\xff"))


def _rows_postgres(server: PostgresServer, load: Load, *, cluster: bool) -> list[float]:
    name = server.database()
    measured = Measured()
    with asyncio.Runner() as runner:
        db = runner.run(_rows_in(server, name, load, measured, cluster=cluster))
        one = "SELECT t, v FROM s WHERE series = 0 AND t >= $1 AND t < $2 ORDER BY t"
        _all_there(len(runner.run(db.fetch(one, *WHOLE))))
        latest = "SELECT id, v FROM ids CROSS JOIN LATERAL (SELECT v FROM s WHERE series = id ORDER BY t DESC LIMIT 1) AS newest"
        measured.ask(lambda: runner.run(db.fetch(one, *HOUR)))
        measured.ask(lambda: runner.run(db.fetch(one, *WHOLE)))
        measured.ask(lambda: runner.run(db.fetch(latest)))
        measured.ask(lambda: runner.run(db.fetch("SELECT avg(v) FROM s WHERE t >= $1 AND t < $2", *MINUTES)))
        runner.run(db.close())
    server.sql(f"DROP DATABASE {name}")
    return measured.figures


async def _rows_in(
    server: PostgresServer, name: str, load: Load, measured: Measured, *, cluster: bool
) -> Any:  # noqa: ANN401 - asyncpg is untyped
    """Fill a table with a B-tree and, for times, a BRIN index; CLUSTER it by the former where wanted. Return the connection."""
    db = await asyncpg.connect(server.url(name), password=server.password_file.read_text())
    await db.execute(
        "SET synchronous_commit = on; CREATE TABLE s (series BIGINT NOT NULL, t BIGINT NOT NULL, v DOUBLE PRECISION NOT NULL); "
        "CREATE INDEX i ON s (series, t); CREATE INDEX b ON s USING brin (t)"
    )
    cpu, began = measured.cpu(), time.perf_counter()
    for portion in load.portions():
        await db.copy_to_table("s", source=_binary(*portion), format="binary", columns=["series", "t", "v"])
    stored, taken = time.perf_counter() - began, measured.cpu()
    if cluster:
        await db.execute("CLUSTER s USING i", timeout=600)
    both = [(until - cpu) / load.samples * 1e6 for until in (taken, measured.cpu())]
    measured.figures += [load.samples / stored, *both]
    await db.execute("VACUUM ANALYZE s", timeout=600)
    size = await db.fetchval("SELECT pg_total_relation_size('s')")
    measured.figures += [size / load.samples] * 2
    await db.execute(f"CREATE TEMP TABLE ids AS SELECT generate_series(0, {load.series - 1}) AS id")
    await db.execute("ANALYZE ids")
    return db


def _all_there(count: int) -> None:
    """Refuse figures of a table that hasn't all of it."""
    if count != SPAN_S:
        raise RuntimeError(f"{count} rows came back of {SPAN_S}")
