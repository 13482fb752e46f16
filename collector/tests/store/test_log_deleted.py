"""Somebody deletes the log (`-wal`) alone: while the collector runs nothing is lost, and while it doesn't the next start says so."""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from reference_agent import decoded
from store_batches import DEFS, compacted, key, line
from telemetryx.cli.errors import CliError
from telemetryx.cli.store import check, verify
from telemetryx.store.sqlite import connection, wal
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.types import Stored


async def fill(store: SqliteStore, first: int, last: int) -> None:
    """Commit a batch of ten samples for each seq; a store that says no is asked again, as agents do."""
    for seq in range(first, last + 1):
        batch = decoded(key(seq), line(seq * 10_000_000_000, [float(seq)] * 10, step=1_000_000_000), DEFS)
        (outcome,) = await store.commit([batch])
        assert isinstance(outcome, Stored)


async def count(store: SqliteStore) -> int:
    """Samples that queries give."""
    return len(await store.samples([1], 0, 1 << 62))


def killed(path: Path, to: Path, *, log: bool = True) -> Path:
    """What a kill -9 leaves of a store: its file, and its log where nobody deletes that."""
    to.mkdir()
    shutil.copy(path, to / "t.db")
    if log:
        shutil.copy(wal.log_of(path), wal.log_of(to / "t.db"))
    return to / "t.db"


async def again(path: Path) -> tuple[int, str]:
    """Open a store; return its samples and what it says of its log."""
    store = await SqliteStore.open(path)
    try:
        assert await store.verify() == []
        return await count(store), store.note
    finally:
        await store.close()


async def test_a_log_that_is_deleted_under_a_running_collector_is_brought_into_the_file(
    tmp_path: Path,
) -> None:
    """What it held and what comes afterwards is there, also after a kill; it was lost with the process."""
    store = await SqliteStore.open(tmp_path / "t.db")
    await fill(store, 1, 5)
    assert await count(store) == 50
    wal.log_of(store.path).unlink()
    await fill(store, 6, 8)
    assert await count(store) == 80
    assert "nothing is lost" in store.note
    assert wal.log_of(store.path).exists()
    assert (await again(killed(store.path, tmp_path / "killed")))[0] == 80
    await compacted(store)
    assert await count(store) == 80
    assert await store.verify() == []
    await store.close()
    assert await again(store.path) == (80, "")


async def test_a_log_that_another_one_came_in_place_of_is_noticed_too(tmp_path: Path) -> None:
    """A connection that is opened meanwhile, for a checkpoint or by `store check`, makes an empty one."""
    store = await SqliteStore.open(tmp_path / "t.db")
    await fill(store, 1, 5)
    wal.log_of(store.path).unlink()
    wal.log_of(store.path).touch()
    await fill(store, 6, 6)
    assert await count(store) == 60
    assert "nothing is lost" in store.note
    assert (await again(killed(store.path, tmp_path / "killed")))[0] == 60
    await store.close()


async def test_a_log_that_was_deleted_while_nobody_ran_is_told_of(tmp_path: Path) -> None:
    """At the next start and no later, by the store and by the commands; what is in the file is there."""
    store = await SqliteStore.open(tmp_path / "t.db")
    await fill(store, 1, 5)
    store._checkpoint()
    await fill(store, 6, 8)
    path = killed(store.path, tmp_path / "killed", log=False)
    await store.close()
    assert wal.missing(path)
    with closing(sqlite3.connect(path)) as db:
        assert "is missing" in wal.lost(db, path)
    found, note = await again(path)
    assert found == 50
    assert "is missing" in note
    assert await again(path) == (50, "")
    with closing(sqlite3.connect(path)) as db:
        assert "was missing at the start" in wal.missed(db)


@pytest.mark.parametrize("commits", [0, 1])
async def test_nothing_is_said_of_a_log_that_was_there(tmp_path: Path, commits: int) -> None:
    """After a kill with its log; after that and another program's closing, which brings the log in; after a stop in order."""
    store = await SqliteStore.open(tmp_path / "t.db")
    await fill(store, 1, 5)
    store._checkpoint()
    await fill(store, 6, 5 + commits)
    samples = 50 + 10 * commits
    assert await again(killed(store.path, tmp_path / "killed")) == (samples, "")
    other = killed(store.path, tmp_path / "other")
    with closing(sqlite3.connect(other)) as db:
        assert db.execute("SELECT count(*) FROM batch").fetchone()[0] == samples // 10
    assert not wal.log_of(other).exists()
    assert await again(other) == (samples, "")
    await store.close()
    assert not wal.log_of(store.path).exists()
    assert await again(store.path) == (samples, "")


async def test_while_somebody_reads_a_deleted_log_batches_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can't be brought in beneath a reader: nothing is acknowledged before it is."""
    monkeypatch.setattr(connection, "BUSY_MS", 10)
    store = await SqliteStore.open(tmp_path / "t.db")
    await fill(store, 1, 3)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM batch").fetchone()
        wal.log_of(store.path).unlink()
        with pytest.raises(Exception, match="was deleted: it is brought into the file"):
            await fill(store, 4, 4)
        with pytest.raises(Exception, match="was deleted: it is brought into the file"):
            await fill(store, 4, 4)
        reader.execute("COMMIT")
    await fill(store, 4, 4)
    assert await count(store) == 40
    assert "nothing is lost" in store.note
    await store.close()


def test_the_commands_say_that_a_log_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`store check` warns before the next start and after it; `store verify` fails until then, and leaves the store as it is."""
    folder = tmp_path / "data"

    async def before() -> None:
        store = await SqliteStore.open(tmp_path / "t.db")
        await fill(store, 1, 2)
        path = killed(tmp_path / "t.db", folder, log=False)
        path.rename(folder / "telemetry.db")
        await store.close()

    asyncio.run(before())
    config = tmp_path / "collector.toml"
    config.write_text(f'[collector]\ndata_dir = "{folder}"\n')
    for _ in range(2):
        check(config, as_json=False)
        assert "telemetry.db-wal is missing" in capsys.readouterr().out
        with pytest.raises(CliError, match="1 problem"):
            verify(config, as_json=False)
        assert "telemetry.db-wal is missing" in capsys.readouterr().out
    assert asyncio.run(again(folder / "telemetry.db"))[0] == 0
    capsys.readouterr()
    verify(config, as_json=False)
    check(config, as_json=False)
    said = capsys.readouterr().out
    assert "is missing" not in said
    assert "was missing at the start" in said
