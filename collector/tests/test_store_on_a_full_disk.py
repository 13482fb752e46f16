"""A disk that really is full, under the SQLite file and under PostgreSQL: batches wait at the agent, and are stored once there is room."""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import telemetryx
from postgres_server import PostgresServer
from store_faults import collecting, on_postgres

pytestmark = pytest.mark.slow
MANY = 60_000
"""Samples of a batch that needs half a megabyte."""


@contextlib.contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """Mount a disk of so many megabytes that everybody may use, where we may; its path is short enough for sockets."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount the small disk that this test fills")
    mount = Path(tempfile.mkdtemp(prefix="disk-"))
    done = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(mount)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        mount.rmdir()
        pytest.skip(f"this machine lets nobody mount: {done.stderr.strip()}")
    try:
        yield mount
    finally:
        subprocess.run(["/bin/umount", "-l", str(mount)], check=True)
        mount.rmdir()


def fill(filler: Path) -> None:
    """Make a file longer until its disk is full."""
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


async def checked(settings: str, folder: Path) -> str:
    """Run `telemetryx store check`, which must say no, and return what it says."""
    config = folder / "check.toml"
    config.write_text(settings)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "telemetryx", "store", "check", "--config", config),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(Path(telemetryx.__file__).parents[1])},
    )
    said = (await asyncio.wait_for(child.communicate(), 300))[0].decode()
    assert child.returncode == 1, said
    return said


async def test_a_full_disk_under_sqlite_holds_batches_until_there_is_room() -> None:
    """Reading goes on; writing waits at the agent, in a bounded memory; with room again everything is stored once."""
    with small_disk(24) as disk:
        async with collecting(f'[collector]\ndata_dir = "{disk}/data"\n') as faulty:
            now = time.time_ns()
            faulty.cut(now)
            await faulty.delivers()
            filler = disk / "filler"
            fill(filler)
            faulty.cut(now + 1_000_000, MANY)
            await faulty.stays_out("full", meanwhile=partial(fill, filler))
            await faulty.has_stored([now])
            filler.unlink()
            await faulty.recovers()


async def test_a_full_disk_under_postgresql_holds_batches_until_there_is_room(tmp_path: Path) -> None:
    """The server's data and log are on it: it may refuse, panic and start anew; what was acknowledged is there, once."""
    with small_disk(220) as disk:
        server = PostgresServer(
            fsync=True,
            folder=disk,
            settings=("max_wal_size=64MB", "min_wal_size=32MB", "checkpoint_timeout=30s"),
        )

        def looked_after() -> None:
            """It gave up: whoever looks after it starts it again."""
            if server._process is not None and server._process.poll() is not None:
                server.start()

        try:
            server.start()
            settings = on_postgres(server, tmp_path, server.database())
            async with collecting(settings) as faulty:
                now = time.time_ns()
                faulty.cut(now)
                await faulty.delivers()
                filler = disk / "filler"
                fill(filler)
                faulty.cut(now + 1_000_000, MANY)
                # What the server gives back meanwhile is filled again.
                await faulty.stays_out("store", meanwhile=partial(fill, filler))
                looked_after()
                said = await checked(settings, tmp_path)
                assert "Traceback" not in said
                assert any(word in said for word in ("full", "No space", "can't be used now")), said
                filler.unlink()
                await faulty.recovers(looked_after)
        finally:
            server.remove()
