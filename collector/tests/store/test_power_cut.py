"""Upkeep isn't fsynced: whatever a power cut leaves of it, nothing that was acknowledged is lost, and the store is sound."""

import shutil
import sqlite3
import struct
from pathlib import Path
from typing import Any

import pytest

from reference_agent import SECOND, T0
from store_batches import EPOCH, FOREVER, compacted, line, one
from telemetryx.errors import StoreUnavailable
from telemetryx.store.sqlite import connection
from telemetryx.store.sqlite.database import SqliteDatabase
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.store import TableStore
from telemetryx.store.tables.writer import Priority
from telemetryx.types import Stored

WAL_HEADER, FRAME = 32, 24 + connection.PAGE_SIZE


async def filled(path: Path) -> SqliteStore:
    """Ten batches of two series, all acknowledged."""
    store = await SqliteStore.open(path)
    for seq in range(1, 11):
        start = seq * 60 * SECOND
        outcome = await one(store, seq, line(start, [float(seq * 60 + n) for n in range(60)]))
        assert isinstance(outcome, Stored)
    return store


async def test_every_part_of_upkeep_that_a_power_cut_leaves_is_a_sound_store(tmp_path: Path) -> None:
    """The log is cut at each commit that upkeep made, and in the middle of them."""
    store = await filled(tmp_path / "t.db")
    before = (await store.samples([1], -FOREVER, FOREVER)).values.tolist()
    wal = tmp_path / "t.db-wal"
    durable = wal.stat().st_size
    await compacted(store)
    whole = wal.read_bytes()
    assert len(whole) > durable, "upkeep wrote into the same log"
    ends = [
        at + FRAME
        for at in range(WAL_HEADER, len(whole), FRAME)
        if at >= durable and struct.unpack_from(">I", whole, at + 4)[0]
    ]
    assert len(ends) >= 2, "a swap and its rollups"
    cuts = sorted({durable, *ends, *(end - FRAME // 2 for end in ends)})
    for number, cut in enumerate(cuts):
        left = tmp_path / f"left{number}"
        left.mkdir()
        shutil.copy(tmp_path / "t.db", left / "t.db")
        (left / "t.db-wal").write_bytes(whole[:cut])
        again = await SqliteStore.open(left / "t.db")
        assert (await again.samples([1], -FOREVER, FOREVER)).values.tolist() == before
        assert await again.holdings("a", [EPOCH]) == await store.holdings("a", [EPOCH])
        await compacted(again)
        assert (await again.samples([1], -FOREVER, FOREVER)).values.tolist() == before
        found = await again.range([1], T0, T0 + 1_200 * SECOND, 60 * SECOND, "count")
        assert int(found.series[0].counts.sum()) == len(before)
        assert await again.verify() == []
        await again.close()
    await store.close()


async def test_only_upkeep_returns_before_it_is_durable(store: TableStore) -> None:
    """What is acknowledged, and what rules and people write, is fsynced."""
    sqlite = isinstance(store, SqliteStore)
    asked = "PRAGMA synchronous" if sqlite else "SHOW synchronous_commit"
    found: dict[Priority, Any] = {}
    for priority in (Priority.UPKEEP, Priority.INGEST, Priority.UPKEEP, Priority.RULES, Priority.STATUS):
        found[priority] = await store.write(lambda db: db.execute(asked).fetchone()[0], priority)
    loose, tight = (1, 2) if sqlite else ("off", "on")
    assert found == {
        Priority.UPKEEP: loose,
        Priority.INGEST: tight,
        Priority.RULES: tight,
        Priority.STATUS: tight,
    }


async def test_after_a_failed_fsync_the_log_goes_into_the_file_before_anything_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upkeep's frames may be lost with it, and recovery would stop at them: what is acknowledged then must not stand behind them."""
    store = await filled(tmp_path / "t.db")
    await compacted(store)
    wal = tmp_path / "t.db-wal"
    assert wal.stat().st_size > 0
    steps: list[str] = []

    def broken(_: SqliteDatabase) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    harden = SqliteDatabase.harden

    def hardened(db: SqliteDatabase) -> None:
        harden(db)
        steps.append(f"the log has {wal.stat().st_size} bytes")

    def refused(_: SqliteDatabase) -> None:
        raise StoreUnavailable("somebody reads", "locked")

    monkeypatch.setattr(SqliteDatabase, "commit", broken)
    with pytest.raises(StoreUnavailable):
        await one(store, 11, line(700 * SECOND, [1.0]))
    monkeypatch.undo()
    monkeypatch.setattr(SqliteDatabase, "harden", refused)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="somebody reads"):
            await one(store, 11, line(700 * SECOND, [1.0]))
    monkeypatch.setattr(SqliteDatabase, "harden", hardened)
    for seq in (11, 12):
        assert isinstance(await one(store, seq, line((seq + 700) * SECOND, [1.0])), Stored)
    assert steps == ["the log has 0 bytes"]
    assert await store.verify() == []
    await store.close()
