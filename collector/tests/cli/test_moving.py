"""`telemetryx store check|backup|restore|copy`: a store comes out of a file or another engine as it went in."""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from reference_agent import SECOND, T0, decoded, defined, events, samples, window
from telemetryx.cli import moving, store
from telemetryx.cli.errors import CliError, Exit
from telemetryx.store.interface import EventQuery
from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, Decoded, Duplicate, Stored
from telemetryx.wire.payload import Payload

EPOCH = bytes(range(16))
FOREVER = 1 << 62
DEFS = defined("temp", "power", site="north", device="p7")


def content(seq: int) -> Decoded:
    """A batch with samples (one is no number), a window and an event."""
    start = T0 + seq * SECOND
    payload = Payload(
        samples({1: [(start, float(seq)), (start + 1, float("nan"))]}),
        window(2, start, [1.0, 2.0]),
        events((start, 17, "pump", f"bearing {seq} hot", {"zone": "NUL \x00 and ü"})),
    )
    return decoded(BatchKey("agent-7", EPOCH, seq), payload, DEFS)


async def seen(opened: TableStore) -> dict[str, object]:
    """What people and rules read of a store."""
    raw = await opened.samples([1], -FOREVER, FOREVER)
    found = await opened.events(EventQuery(q="bearing"))
    return {
        "series": [(one.id, one.name, dict(one.labels)) for one in await opened.series()],
        "samples": [(int(t), repr(float(v))) for t, v in zip(raw.times, raw.values, strict=True)],
        "events": [(event.time_ns, event.body) for event in found],
        "held": (await opened.holdings("agent-7", [EPOCH]))[EPOCH],
        "sound": await opened.verify(),
    }


async def filled(opened: TableStore) -> dict[str, object]:
    """Fill a store: batches as shipped, and chunks."""
    for seq in range(1, 9):
        assert isinstance((await opened.commit([content(seq)]))[0], Stored)
        if seq == 5:
            await opened.compact(everything=True)
    before = await seen(opened)
    await opened.close()
    return before


async def goes_on(opened: TableStore, before: dict[str, object]) -> None:
    """A copy reads as its original, knows its duplicates, and stores what is new behind them."""
    assert await seen(opened) == before
    assert await opened.commit([content(3)]) == [Duplicate()]
    cursor = (await opened.usage()).cursor
    (outcome,) = await opened.commit([content(9)])
    assert isinstance(outcome, Stored)
    assert outcome.cursor > cursor
    assert await opened.verify() == []
    await opened.close()


def configuration(folder: Path, url: str = "", password: Path | None = None) -> Path:
    """A collector's configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    where = f'url = "{url}"\npassword_file = "{password}"\n' if url else ""
    path = folder / "collector.toml"
    path.write_text(f'[collector]\ndata_dir = "{folder / "data"}"\n[store]\n{where}')
    (folder / "data").mkdir(exist_ok=True)
    return path


def sqlite_at(config: Path) -> Path:
    """Where the default store of a configuration is."""
    return config.parent / "data/telemetry.db"


def test_a_backup_of_a_running_collectors_file_is_restored_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store is open while it is written; the restored one goes on where it was. Neither file can be read by others."""
    here, there, file = (
        configuration(tmp_path / "a"),
        configuration(tmp_path / "b"),
        tmp_path / "backups/one.db",
    )

    async def while_it_runs() -> dict[str, object]:
        before = await filled(await SqliteStore.open(sqlite_at(here)))
        opened = await SqliteStore.open(sqlite_at(here))
        await asyncio.to_thread(moving.backup, here, file, as_json=True)
        await opened.close()
        return before

    before = asyncio.run(while_it_runs())
    assert json.loads(capsys.readouterr().out)["bytes"] == file.stat().st_size
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["one.db"]
    moving.restore(there, file, as_json=False)
    store.check(there, as_json=False)
    assert "can be used: schema 0005" in capsys.readouterr().out
    assert sqlite_at(there).stat().st_mode & 0o777 == 0o600
    asyncio.run(_goes_on_in(sqlite_at(there), before))


async def _goes_on_in(path: Path, before: dict[str, object]) -> None:
    await goes_on(await SqliteStore.open(path), before)


def test_a_store_moves_to_postgresql_and_back(
    tmp_path: Path, new_database: Callable[[], PostgresEngine], capsys: pytest.CaptureFixture[str]
) -> None:
    """`copy` counts the rows on both sides; a backup of the database is a file that either engine is restored from."""
    here, engine = configuration(tmp_path / "a"), new_database()

    async def fill() -> dict[str, object]:
        return await filled(await SqliteStore.open(sqlite_at(here)))

    before = asyncio.run(fill())
    moving.copy(here, engine.url, engine.password_file, as_json=True)
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert (rows["agent"], rows["event"], rows["window"], rows["ledger"]) == (1, 8, 8, 1)

    database = configuration(tmp_path / "p", engine.url, engine.password_file)
    store.check(database, as_json=False)
    moving.backup(database, tmp_path / "of-database.db", as_json=False)

    async def in_database(engine: PostgresEngine) -> None:
        await goes_on(await PostgresStore.open(engine), before)

    asyncio.run(in_database(engine))

    again = configuration(tmp_path / "c")
    moving.restore(again, tmp_path / "of-database.db", as_json=False)
    asyncio.run(_goes_on_in(sqlite_at(again), before))
    other = new_database()
    moving.restore(
        configuration(tmp_path / "q", other.url, other.password_file),
        tmp_path / "of-database.db",
        as_json=False,
    )
    asyncio.run(in_database(other))


def test_nothing_that_is_there_is_overwritten(tmp_path: Path, database: PostgresEngine) -> None:
    """A file, a store and a database that is in use are refused, and stay as they were."""
    here, file = configuration(tmp_path / "a"), tmp_path / "one.db"

    async def fill() -> None:
        await filled(await SqliteStore.open(sqlite_at(here)))

    asyncio.run(fill())
    moving.backup(here, file, as_json=False)
    for refused in (
        lambda: moving.backup(here, file, as_json=False),
        lambda: moving.restore(here, file, as_json=False),
        lambda: moving.copy(here, str(file), None, as_json=False),
    ):
        with pytest.raises(CliError, match="is there already") as error:
            refused()
        assert error.value.code is Exit.USAGE
    moving.copy(here, database.url, database.password_file, as_json=False)
    with pytest.raises(CliError, match="name an empty one"):
        moving.copy(here, database.url, database.password_file, as_json=False)


def test_what_is_no_sound_store_is_not_restored(tmp_path: Path) -> None:
    """Another program's database, a text, a damaged backup and one of a newer collector: each is named, nothing is left."""
    here, there, file = configuration(tmp_path / "a"), configuration(tmp_path / "b"), tmp_path / "one.db"

    async def fill() -> None:
        await filled(await SqliteStore.open(sqlite_at(here)))

    asyncio.run(fill())
    moving.backup(here, file, as_json=False)
    (tmp_path / "text.db").write_text("not a database" * 1000)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE t (x)")
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 9000] = bytes(9000)
    (tmp_path / "damaged.db").write_bytes(damaged)
    (tmp_path / "newer.db").write_bytes(file.read_bytes())
    with sqlite3.connect(tmp_path / "newer.db") as newer:
        newer.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('telemetryx', '9999_more', '')"
        )
    for name, said in {
        "missing.db": "there is no file",
        "text.db": "damaged",
        "other.db": "is no store of a collector",
        "damaged.db": "sound|damaged",
        "newer.db": "newer collector",
    }.items():
        with pytest.raises(CliError, match=said):
            moving.restore(there, tmp_path / name, as_json=False)
        assert list((there.parent / "data").iterdir()) == []
    (tmp_path / "newer.db").rename(sqlite_at(there))
    with pytest.raises(CliError, match="newer collector"):
        store.check(there, as_json=False)
