"""A store that can't write says why, stores nothing in part, and works again when it can."""

import os
import sqlite3
from pathlib import Path

import pytest

from reference_agent import T0, decoded, defined, events, samples
from telemetryx.errors import SchemaTooNew, StoreDamaged, StoreUnavailable
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables import ledger
from telemetryx.types import BatchKey, Conflict, Decoded, Duplicate, Stored
from telemetryx.wire.payload import Payload


def batch(seq: int, size: int = 1) -> Decoded:
    """One batch, of some size."""
    text = os.urandom(size).hex()
    return decoded(
        BatchKey("a", bytes(16), seq),
        Payload(samples({1: [(T0 + seq, float(seq))]}), events=events((T0, 9, "s", text, {}))),
        defined("x"),
    )


async def test_the_file_and_its_log_are_their_owners_alone(tmp_path: Path) -> None:
    """Digests of passwords stand in them, and whoever makes the folder by hand leaves it open."""
    before = os.umask(0o022)
    try:
        store = await SqliteStore.open(tmp_path / "t.db")
        await store.commit([batch(1)])
        modes = {name: os.stat(tmp_path / name).st_mode & 0o777 for name in ("t.db", "t.db-wal", "t.db-shm")}  # noqa: PTH116
        assert set(modes.values()) == {0o600}, modes
        await store.close()
    finally:
        os.umask(before)


async def test_a_full_disk_undoes_the_group_and_heals(tmp_path: Path) -> None:
    """With no page left the whole group is undone; when there is room again the same group is stored."""
    store = await SqliteStore.open(tmp_path / "t.db")
    await store.commit([batch(1)])
    pages = await store.write(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    await store.write(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchall())
    group = [batch(2), batch(3, 200_000)]
    with pytest.raises(StoreUnavailable) as failed:
        await store.commit(group)
    assert failed.value.reason == "full"
    assert (await store.holdings("a", [bytes(16)]))[bytes(16)].upto == 1
    await store.write(lambda db: db.execute("PRAGMA max_page_count = 100000000").fetchall())
    assert all(isinstance(outcome, Stored) for outcome in await store.commit(group))
    assert await store.verify() == []
    await store.close()


async def test_a_locked_file_is_unavailable_and_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another program writes, nothing is stored and the reason says so."""
    monkeypatch.setattr("telemetryx.store.sqlite.connection.BUSY_MS", 50)
    store = await SqliteStore.open(tmp_path / "t.db")
    other = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable) as failed:
        await store.commit([batch(1)])
    assert failed.value.reason == "locked"
    other.execute("ROLLBACK")
    other.close()
    assert isinstance((await store.commit([batch(1)]))[0], Stored)
    await store.close()


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    """After close both writing and reading are unavailable, not crashes."""
    store = await SqliteStore.open(tmp_path / "t.db")
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.commit([batch(1)])
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.series()


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """A path that can't be opened says what to check."""
    with pytest.raises(StoreUnavailable, match="folder"):
        await SqliteStore.open(tmp_path / "nowhere" / "t.db")


async def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    """A SQLite file that isn't ours is refused and not touched; so is one that is no database."""
    path = tmp_path / "t.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreDamaged, match="another program"):
        await SqliteStore.open(path)
    assert path.read_bytes() == before
    path.write_bytes(b"not a database at all, but long enough to look at" * 99)
    with pytest.raises(StoreDamaged, match="damaged"):
        await SqliteStore.open(path)


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """A file that a newer collector migrated isn't opened, and the message says what to do."""
    path = tmp_path / "t.db"
    await (await SqliteStore.open(path)).close()
    other = sqlite3.connect(path)
    other.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('telemetryx', '9999_future', '')"
    )
    other.commit()
    other.close()
    with pytest.raises(SchemaTooNew, match="9999_future"):
        await SqliteStore.open(path)


async def test_work_that_raises_is_undone(tmp_path: Path) -> None:
    """A writer's function that fails leaves nothing behind, and the next one runs."""
    store = await SqliteStore.open(tmp_path / "t.db")

    def half(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO meta VALUES ('half', 1)")
        raise ValueError("changed my mind")

    with pytest.raises(ValueError, match="changed"):
        await store.write(half)
    asked = "SELECT count(*) FROM meta WHERE key = 'half'"
    assert await store.read(lambda db: db.execute(asked).fetchone()[0]) == 0
    await store.close()


async def test_the_newest_checksums_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit the oldest go; a known key without a checksum is a duplicate, the ledger never forgets."""
    monkeypatch.setattr(ledger, "CHECKSUMS", 10)
    monkeypatch.setattr(ledger, "_SLACK", 5)
    store = await SqliteStore.open(tmp_path / "t.db")
    for seq in range(1, 31):
        await store.commit([batch(seq)])
    kept = await store.read(
        lambda db: [row[0] for row in db.execute("SELECT seq FROM ledger_checksum ORDER BY seq")]
    )
    assert 10 <= len(kept) <= 15
    assert kept[-1] == 30
    assert await store.commit([batch(1), batch(30)]) == [
        Duplicate(),
        Conflict((await store.checksums("a", [(bytes(16), 30)]))[bytes(16), 30]),
    ]
    await store.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("ALTER TABLE latest RENAME TO mislaid", "no such table: latest"),
        ("ALTER TABLE agent RENAME COLUMN stored TO kept", "no such column: stored"),
        ("ALTER TABLE latest ADD COLUMN more", "latest has 5 columns"),
    ],
)
async def test_tables_that_are_not_as_the_schema_has_them_are_damage(
    tmp_path: Path, change: str, says: str
) -> None:
    """Whoever asks is told what is wrong: it isn't a fault of ours with a reference into the log."""
    store = await SqliteStore.open(tmp_path / "t.db")
    await store.commit([batch(1)])
    await store.write(lambda db: db.execute(change))
    with pytest.raises(StoreDamaged, match=says):
        await store.commit([batch(2)])
    assert (await store.holdings("a", [bytes(16)]))[bytes(16)].upto == 1
    await store.close()
