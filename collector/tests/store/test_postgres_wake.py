"""Wake-ups over NOTIFY: what one process commits is told in another at once, though that one would not poll for an hour."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from telemetryx.ingest import follow
from telemetryx.ingest.follow import Follower
from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.postgres.wake import PostgresWake
from telemetryx.store.tables.lease import Member
from telemetryx.types import Committed

TESTS = Path(__file__).parents[1]
PATIENCE_S = 120
#: Commits again and again, until its input ends: whoever listens from some moment on hears of the next one.
OTHER = """
import asyncio, sys
from pathlib import Path
from reference_agent import T0, decoded, defined, samples
from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.postgres.wake import PostgresWake
from telemetryx.store.tables.lease import Member
from telemetryx.types import BatchKey, Stored
from telemetryx.wire.payload import Payload

async def main():
    engine = PostgresEngine(sys.argv[1], Path(sys.argv[2]))
    store = await PostgresStore.open(engine, member=Member("other"))
    wake, stop = PostgresWake(engine), asyncio.Event()
    running = asyncio.create_task(wake.run(stop))
    told = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    seq = 0
    while not told.done():
        seq += 1
        content = Payload(samples({1: [(T0 + seq, float(seq))]}))
        (outcome,) = await store.commit([decoded(BatchKey("far", bytes(16), seq), content, defined("x"))])
        assert isinstance(outcome, Stored)
        wake.committed(outcome.committed.cursor)
        await asyncio.wait([told], timeout=0.2)
    stop.set()
    await running
    await store.close()

asyncio.run(main())
"""


async def test_a_commit_of_another_process_is_told_without_a_poll(
    database: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A live reader here hears of it by the notification alone."""
    monkeypatch.setattr(follow, "POLL_S", 3_600.0)
    monkeypatch.setattr(follow, "HELD_POLL_S", 3_600.0)
    store = await PostgresStore.open(database, member=Member("here"))
    wake, stop, heard = PostgresWake(database), asyncio.Event(), asyncio.Event()
    follower = Follower(store, wake, asyncio.get_running_loop().time)
    found: list[Committed] = []

    def tell(batch: Committed, after: int) -> None:
        del after
        found.append(batch)
        heard.set()

    follower.subscribe(tell, lambda: True)
    tasks = [asyncio.create_task(work(stop)) for work in (wake.run, follower.run)]
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OTHER, database.url, str(database.password_file)),
        stdin=subprocess.PIPE,
        env={"PYTHONPATH": f"{TESTS}:{TESTS.parent / 'src'}", "PATH": ""},
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            await heard.wait()
    finally:
        assert child.stdin is not None
        child.stdin.close()
        assert await child.wait() == 0
        stop.set()
        await asyncio.gather(*tasks)
        await store.close()
    assert {batch.key.agent for batch in found} == {"far"}


async def test_a_commit_of_its_own_wakes_a_process_whose_server_is_away() -> None:
    """The channel is a hint: without it this process still hears of itself, and stops when it is told to."""
    away = PostgresEngine("postgresql://nobody@127.0.0.1:1/none", None)
    wake, stop = PostgresWake(away), asyncio.Event()
    running = asyncio.create_task(wake.run(stop))
    assert not await wake.changed(0.01)
    wake.committed(1)
    assert await wake.changed(PATIENCE_S)
    stop.set()
    async with asyncio.timeout(PATIENCE_S):
        await running
