"""Kill -9 in the middle of commits and compaction: what was acknowledged is there, once, and ledger and data agree."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from reference_agent import SECOND, T0, decoded, defined, samples
from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, Decoded, Duplicate, Stored
from telemetryx.wire.payload import Payload

EPOCH = bytes(16)
EACH = 5


def batch(seq: int) -> Decoded:
    """The batch of a seq: always the same bytes."""
    rows = [(T0 + (seq * EACH + i) * SECOND, float(seq * EACH + i)) for i in range(EACH)]
    return decoded(BatchKey("a", EPOCH, seq), Payload(samples({1: rows, 2: rows})), defined("x", "y"))


async def opened(where: str, password_file: str) -> TableStore:
    """Open a file, or a database by its address."""
    if where.startswith("postgresql://"):
        return await PostgresStore.open(PostgresEngine(where, Path(password_file)))
    return await SqliteStore.open(Path(where))


async def child(where: str, password_file: str, first: int) -> None:
    """Commit batches in groups of three and compact beside it, saying each acknowledged seq, until killed."""
    store = await opened(where, password_file)

    async def tidy() -> None:
        while True:
            await store.compact(everything=True)
            await asyncio.sleep(0)

    tidying = asyncio.create_task(tidy())
    seq = first
    while not tidying.done():
        outcomes = await store.commit([batch(n) for n in range(seq, seq + 3)])
        assert all(isinstance(outcome, Stored | Duplicate) for outcome in outcomes)
        os.write(1, f"{seq + 2}\n".encode())
        seq += 3


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
@pytest.mark.parametrize("rounds", [6])
async def test_a_killed_collector_keeps_what_it_acknowledged(
    request: pytest.FixtureRequest, tmp_path: Path, engine: str, rounds: int
) -> None:
    """After each kill every acknowledged batch is stored once, nothing is stored in part, and the store verifies."""
    where, password_file = str(tmp_path / "t.db"), ""
    if engine == "postgres":
        database: PostgresEngine = request.getfixturevalue("database")
        where, password_file = database.url, str(database.password_file)
    acked = 0
    for turn in range(rounds):
        process = subprocess.Popen(  # noqa: ASYNC220 - the test is about that process
            [sys.executable, __file__, where, password_file, str(acked + 1)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdout is not None
        for _ in range(4 + 7 * turn):
            line = process.stdout.readline()
            assert line, "the child died by itself"
            acked = int(line)
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split(b"\n")
        acked = max([acked, *(int(entry) for entry in rest[:-1] if entry)])
        process.wait()
        process.stdout.close()
        store = await opened(where, password_file)
        assert await store.verify() == []
        held = (await store.holdings("a", [EPOCH]))[EPOCH]
        assert held.upto >= acked
        assert held.ranges == ()
        for series in (1, 2):
            values = (await store.samples([series], 0, 1 << 62)).values.tolist()
            assert values == [float(i) for i in range(EACH, (held.upto + 1) * EACH)]
        assert await store.commit([batch(held.upto)]) == [Duplicate()]
        acked = held.upto
        await store.close()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is for seqs
    asyncio.run(child(sys.argv[1], sys.argv[2], int(sys.argv[3])))
