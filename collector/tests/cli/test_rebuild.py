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
from telemetryx.store.tables import rebuild
from telemetryx.store.tables.hours import Fault


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


def test_verify_says_what_a_collector_has_yet_to_do(tmp_path: Path) -> None:
    """Batches that aren't compacted, rollups that aren't computed, sketches that are to come: none of it is a fault, nor is it kept quiet."""
    path = tmp_path / "telemetry.db"
    asyncio.run(_shipped(path))
    config = tmp_path / "collector.toml"
    config.write_text(f'[store]\npath = "{path}"\n')
    where = ("store", "verify", "--config", str(config))
    said = run(*where).stdout
    assert "is sound" in said
    assert "has yet to do: 1 batch as shipped (900 samples) to be compacted. Queries read" in said
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO dirty (series_id, t0_ns, t1_ns) VALUES (1, ?, ?)", (T0, T0 + 60 * SECOND))
        db.execute("INSERT INTO meta VALUES ('unsketched_to_ns', ?)", (T0 + 3_600 * SECOND,))
    assert "; 1 stretch of series whose rollups are to be computed; rollups of an older" in run(*where).stdout
    left = {"batches": 1, "samples": 900, "rollups": 1, "sketches": True}
    assert json.loads(run(*where, "--json").stdout)["waiting"] == left


async def _shipped(path: Path) -> None:
    """A store of a batch that nobody compacted."""
    store = await SqliteStore.open(path)
    await one(store, 1, line(0, [20.0 + i % 7 for i in range(900)]))
    await store.close()


def test_a_rebuild_of_many_hours_is_many_small_transactions() -> None:
    """Whole hours, each stretch once, none longer than what agents can wait for."""
    hour = 3_600 * SECOND
    faults = [
        Fault(1, 7, 500 * hour, "long"),
        *(Fault(series, hour, 2 * hour, "short") for series in range(2, 60)),
        Fault(99, 3 * hour, 3 * hour + 60 * SECOND, "minute"),
    ]
    pieces = list(rebuild.pieces(faults))
    assert all(sum(-(-one.t1_ns // hour) - one.t0_ns // hour for one in piece) <= 48 for piece in pieces)
    assert all(len(piece) <= 12 for piece in pieces)
    left = iter([one for piece in pieces for one in piece])
    for fault in faults:
        at = fault.t0_ns
        while at < fault.t1_ns:
            one = next(left)
            assert (one.series, one.t0_ns) == (fault.series, at)
            assert one.t1_ns in {fault.t1_ns, one.t1_ns // hour * hour}
            at = one.t1_ns
    assert next(left, None) is None
