"""`telemetryx store rebuild`: rollups that are wrong, computed anew."""

import asyncio
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from reference_agent import SECOND, T0
from store_batches import compacted, line, one
from telemetryx.store.interface import Retention
from telemetryx.store.sqlite.store import SqliteStore


def run(*words: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
    """Run a command."""
    done = subprocess.run(
        [sys.executable, "-m", "telemetryx", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    return done


def test_rollups_that_verify_finds_wrong_are_computed_anew(tmp_path: Path) -> None:
    """`verify` names the command, and after it there is nothing left to do: hours are computed from their minutes where raw data is gone."""
    asyncio.run(_expired(tmp_path / "telemetry.db"))
    config = tmp_path / "collector.toml"
    config.write_text(f'[store]\npath = "{tmp_path / "telemetry.db"}"\n')
    where = ("--config", str(config))
    assert "no rollups to compute anew" in run("store", "rebuild", *where).stdout
    with closing(sqlite3.connect(tmp_path / "telemetry.db")) as db, db:
        db.execute("DELETE FROM rollup_1h")
    assert (
        "`telemetryx store rebuild` has rollups computed anew"
        in run("store", "verify", *where, status=1).stderr
    )
    done = json.loads(run("store", "rebuild", *where, "--json").stdout)
    assert (done["marked"], done["hours"]) == (0, 1)
    assert "is sound" in run("store", "verify", *where).stdout


async def _expired(path: Path) -> None:
    """A store of an hour whose raw data is gone."""
    store = await SqliteStore.open(path)
    await one(store, 1, line(0, [20.0 + i % 7 for i in range(900)]))
    await compacted(store)
    await store.apply_retention(Retention(raw_ns=1, windows_ns=1), T0 + 86_400 * SECOND)
    await store.close()
