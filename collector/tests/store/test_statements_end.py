"""A statement that reads for too long is ended, and says so; what comes after it is answered as ever."""

import time
from pathlib import Path

import pytest

from telemetryx.errors import StoreUnavailable
from telemetryx.store.sqlite.engine import SqliteEngine
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.readers import Snapshots

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT {} FROM n"


async def test_a_statement_in_a_file_ends(tmp_path: Path) -> None:
    """With PostgreSQL the server ends it. A stream whose rows come in time goes on, however long it is read."""
    path = tmp_path / "t.db"
    store = await SqliteStore.open(path)
    snapshots = Snapshots(SqliteEngine(path, read_s=0.05))
    for asked in (ENDLESS.format("count(*)"), ENDLESS.format("i") + " WHERE i < 0"):
        with pytest.raises(StoreUnavailable, match=r"took longer than it may.*shorter time"):
            snapshots.read(lambda db, asked=asked: db.execute(asked).fetchall())  # type: ignore[misc]

    with pytest.raises(StoreUnavailable, match="took longer than it may"):
        snapshots.read(lambda db: db.cursor().execute(ENDLESS.format("count(*)")).fetchall())  # type: ignore[attr-defined]
    late = snapshots.read(lambda db: db.cursor())  # type: ignore[attr-defined]
    assert late.execute("SELECT 1").fetchone() == (1,), "its time isn't that of a statement before"

    def streamed(db: Database) -> int:
        end, rows = time.monotonic() + 0.2, 0
        for _ in db.stream(ENDLESS.format("i")):
            rows += 1
            if time.monotonic() > end:
                break
        return rows

    assert snapshots.read(streamed) > 1
    assert snapshots.read(lambda db: db.execute("SELECT 1").fetchone()) == (1,)
    snapshots.close()
    await store.close()
