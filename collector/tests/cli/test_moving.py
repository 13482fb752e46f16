"""`telemetryx store check|backup|restore|copy`: a store comes out of a file or another engine as it went in."""

import asyncio
import errno
import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from moved_stores import DEFS, EPOCH, FOREVER, configuration, content, filled, goes_on, sqlite_at
from reference_agent import T0, decoded, samples
from telemetryx.cli import moving, store
from telemetryx.cli.errors import CliError, Exit
from telemetryx.place import held
from telemetryx.store.interface import Retention
from telemetryx.store.migrations import scripts
from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables import today
from telemetryx.store.tables.identity import identity
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, Duplicate
from telemetryx.wire.payload import Payload


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

    with pytest.raises(CliError, match="isn't there") as refused:
        moving.backup(here, file, as_json=True)
    assert (refused.value.code, file.parent.exists()) == (Exit.USAGE, False)
    file.parent.mkdir()
    before = asyncio.run(while_it_runs())
    assert json.loads(capsys.readouterr().out)["bytes"] == file.stat().st_size
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["one.db"]
    moving.restore(there, file, as_json=False)
    store.check(there, as_json=False)
    assert f"can be used: schema {max(scripts())}" in capsys.readouterr().out
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


def test_plain_rows_move_with_their_samples(
    tmp_path: Path, new_database: Callable[[], PostgresEngine], capsys: pytest.CaptureFixture[str]
) -> None:
    """From a file to PostgreSQL and back, NaN and equal times too; the copy goes on without writing any of them again."""
    here, engine = configuration(tmp_path / "a"), new_database()

    async def rows(opened: TableStore) -> list[int]:
        found = await opened.read(lambda db: db.execute("SELECT time_ns FROM sample").fetchall())
        return sorted(time for (time,) in found)

    async def fill() -> None:
        opened = await SqliteStore.open(sqlite_at(here))
        opened.keep_plain_rows(True)
        twice = [(T0, 1.0), (T0, 2.0), (T0, float("nan"))]
        await opened.commit([decoded(BatchKey("b", EPOCH, 1), Payload(samples({1: twice})), DEFS)])
        await opened.compact(everything=True)
        assert (await opened.commit([content(1)]))[0] != Duplicate()
        await opened.compact()
        await opened.close()

    async def goes_on(opened: TableStore) -> None:
        assert len(await rows(opened)) == 5
        opened.keep_plain_rows(True)
        while (report := await opened.compact(everything=True)).more or report.batches:
            pass
        assert len(await rows(opened)) == 5
        await opened.commit([content(2)])
        await opened.compact()
        assert len(await rows(opened)) == 7
        assert await opened.verify() == []
        await opened.close()

    async def in_database() -> None:
        await goes_on(await PostgresStore.open(engine))

    async def in_file(path: Path) -> None:
        await goes_on(await SqliteStore.open(path))

    asyncio.run(fill())
    moving.copy(here, engine.url, engine.password_file, as_json=True)
    assert json.loads(capsys.readouterr().out)["rows"]["sample"] == 5
    database, again = (
        configuration(tmp_path / "p", engine.url, engine.password_file),
        configuration(tmp_path / "c"),
    )
    moving.backup(database, tmp_path / "of-database.db", as_json=False)
    asyncio.run(in_database())
    moving.restore(again, tmp_path / "of-database.db", as_json=False)
    asyncio.run(in_file(sqlite_at(again)))
    store.verify(again, as_json=False)
    assert "7 of 7 raw samples are plain rows too" in capsys.readouterr().out


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


def test_a_store_isnt_copied_to_an_address_of_another_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistyped database would become a file below a folder of that name."""
    monkeypatch.chdir(tmp_path)
    config = configuration(tmp_path / "here")
    for to in ("mysql://x/y", "postgresq://localhost/db"):
        with pytest.raises(CliError, match="is no store") as error:
            moving.copy(config, to, None, as_json=False)
        assert error.value.code is Exit.USAGE
    with pytest.raises(CliError, match=r"folder .*nowhere isn't there"):
        moving.copy(config, "nowhere/copy.db", None, as_json=False)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_what_is_no_sound_store_is_not_restored(tmp_path: Path) -> None:
    """Another program's database, a text, a damaged backup and one of a newer collector: each is named, nothing is left."""
    here, there, file = configuration(tmp_path / "a"), configuration(tmp_path / "b"), tmp_path / "one.db"

    async def fill() -> None:
        await filled(await SqliteStore.open(sqlite_at(here)))

    asyncio.run(fill())
    moving.backup(here, file, as_json=False)
    (tmp_path / "text.db").write_text("not a database" * 1000)
    (tmp_path / "empty.db").touch()
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
        "text.db": "is no TelemetryX backup",
        "empty.db": "is no TelemetryX backup",
        "other.db": "is no TelemetryX backup",
        "damaged.db": "backup .* is damaged",
        "newer.db": "newer collector",
    }.items():
        with pytest.raises(CliError, match=said) as caught:
            moving.restore(there, tmp_path / name, as_json=False)
        assert "verify" not in caught.value.message + caught.value.hint
        assert list((there.parent / "data").iterdir()) == []
    (tmp_path / "newer.db").rename(sqlite_at(there))
    with pytest.raises(CliError, match="newer collector"):
        store.check(there, as_json=False)


@pytest.mark.parametrize("kind", ["file", "database"])
def test_a_store_that_lacks_a_table_or_a_column_is_neither_usable_nor_sound(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is named; a whole one has nothing missing, and the trial of writing leaves nothing in it."""
    engine: PostgresEngine | None = request.getfixturevalue("database") if kind == "database" else None
    where = ("", None) if engine is None else (engine.url, engine.password_file)
    config = configuration(tmp_path, *where)

    async def change(*statements: str) -> None:
        opened: TableStore = await (
            SqliteStore.open(sqlite_at(config)) if engine is None else PostgresStore.open(engine)
        )
        for statement in statements:
            await opened.write(lambda db, statement=statement: db.execute(statement))  # type: ignore[misc]
        wanted, there = await opened.read(lambda db: db.schema())
        assert "write_check" not in there
        if not statements:
            assert {table: there[table] for table in wanted} == wanted
            assert {"window", "chunk", "alert", "enrolled"} <= set(wanted)
        await opened.close()

    asyncio.run(change())
    store.check(config, as_json=False)
    store.verify(config, as_json=False)
    asyncio.run(change())
    asyncio.run(change('DROP TABLE "window"', "DROP TABLE dirty", "ALTER TABLE alert DROP COLUMN summary"))
    capsys.readouterr()
    with pytest.raises(
        CliError, match="table alert lacks summary; table dirty is missing; table window is missing"
    ):
        store.check(config, as_json=False)
    with pytest.raises(CliError, match="3 problems"):
        store.verify(config, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "table alert lacks summary",
        "table dirty is missing",
        "table window is missing",
    ]


def test_a_database_that_is_read_only_cant_be_used(tmp_path: Path, database: PostgresEngine) -> None:
    """A collector could read there and store nothing."""
    config = configuration(tmp_path, database.url, database.password_file)

    async def make() -> None:
        opened = await PostgresStore.open(database)
        (name,) = await opened.read(lambda db: db.execute("SELECT current_database()").fetchone())
        await opened.write(
            lambda db: db.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        )
        await opened.close()

    asyncio.run(make())
    with pytest.raises(CliError, match="read-only"):
        store.check(config, as_json=False)


def test_a_file_on_a_full_disk_cant_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log beside it couldn't grow; the disk itself is asked."""
    config = configuration(tmp_path)

    async def make() -> None:
        await (await SqliteStore.open(sqlite_at(config))).close()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    asyncio.run(make())
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CliError, match="the disk is full"):
        store.check(config, as_json=False)


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("postgresql://ana:s3cret@localhost/db", "--to holds a password: .* --to-password-file"),
        ("postgres://ana@localhost/db?password=s3cret", "--to holds a password: .* --to-password-file"),
        ("postgresql://ana@db.example/db", r"--to leads to another machine \(db.example\)"),
        ("postgresql://ana@localhost", "--to must name a PostgreSQL database"),
    ],
)
def test_a_copys_database_is_named_as_in_the_configuration(tmp_path: Path, to: str, said: str) -> None:
    """No password stands in it, nor in what is said about it, and it tells how the way to another machine is secured."""
    with pytest.raises(CliError, match=said) as refused:
        moving.copy(configuration(tmp_path), to, None, as_json=False)
    assert refused.value.code is Exit.USAGE
    assert "s3cret" not in str(refused.value)


def test_a_file_isnt_copied_under_a_running_collector(tmp_path: Path) -> None:
    """What it stores meanwhile would be missing; once it has stopped, the copy is made."""
    here, to = configuration(tmp_path / "a"), tmp_path / "copy.db"

    async def fill() -> None:
        await filled(await SqliteStore.open(sqlite_at(here)))

    asyncio.run(fill())
    with held(sqlite_at(here).parent):
        with pytest.raises(CliError, match=r"a collector runs in .* would be missing in the copy") as refused:
            moving.copy(here, str(to), None, as_json=False)
        assert (refused.value.code, to.exists()) == (Exit.NO, False)
        moving.backup(here, tmp_path / "backup.db", as_json=False)
    moving.copy(here, str(to), None, as_json=False)
    assert to.exists()


def test_a_database_isnt_copied_while_a_collector_writes_to_it(
    tmp_path: Path, database: PostgresEngine
) -> None:
    """Also one on another machine: the database itself tells."""
    here, to = configuration(tmp_path / "a", database.url, database.password_file), tmp_path / "copy.db"

    async def refused_meanwhile() -> None:
        opened = await PostgresStore.open(database)
        with pytest.raises(CliError, match=r"a collector writes to .* would be missing in the copy"):
            await asyncio.to_thread(moving.copy, here, str(to), None, as_json=False)
        await opened.close()

    asyncio.run(refused_meanwhile())
    assert not to.exists()
    moving.copy(here, str(to), None, as_json=False)
    assert to.exists()


@pytest.mark.parametrize("kind", ["file", "database"])
def test_a_clock_that_is_far_ahead_is_warned_of_until_a_person_confirms_it(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store remembers when it was in use; `check` says what is odd and can be used all the same, and `clock --confirm` ends it."""
    engine: PostgresEngine | None = request.getfixturevalue("database") if kind == "database" else None
    config = configuration(
        tmp_path / "here", engine.url if engine else "", engine.password_file if engine else None
    )

    async def open_it() -> TableStore:
        return await (PostgresStore.open(engine) if engine else SqliteStore.open(sqlite_at(config)))

    async def long_ago() -> None:
        opened = await open_it()
        await opened.write(lambda db: today.remember(db, today.SET_NS))
        await opened.close()

    asyncio.run(long_ago())
    capsys.readouterr()
    store.check(config, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert (said["usable"], len(said["warnings"])) == (True, 1)
    assert "`telemetryx store clock --confirm`" in said["warnings"][0]
    store.clock(config, confirm=False, as_json=False)
    assert "in use last is 2024-01-01 00:00 UTC" in capsys.readouterr().out
    store.clock(config, confirm=True, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["warnings"], told["seen_ns"]) == ([], told["now_ns"])
    store.check(config, as_json=True)
    assert json.loads(capsys.readouterr().out)["warnings"] == []


async def test_a_clock_that_once_was_ahead_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an older collector did by it shows in `check`, with what becomes of it."""
    config = configuration(tmp_path / "here")
    opened = await SqliteStore.open(sqlite_at(config))
    keep = Retention(raw_ns=1, windows_ns=1, rollup_1m_ns=1, rollup_1h_ns=1)
    await opened.apply_retention(keep, FOREVER)
    await opened.close()
    store.check(config, as_json=False)
    told = capsys.readouterr().out
    assert "readings are kept as rollups only" in told
    assert "counted as expired, because a clock was ahead" in told


def test_no_copy_of_a_store_has_the_number_of_its_original(
    tmp_path: Path, new_database: Callable[[], PostgresEngine]
) -> None:
    """What lies outside under that number, as values in Redis, would be shown under the names of the other's series."""
    here, engine = configuration(tmp_path / "a"), new_database()

    async def number(opened: TableStore) -> int:
        found = await opened.write(identity)
        await opened.close()
        return found

    async def numbers() -> list[int]:
        there, again = configuration(tmp_path / "b"), configuration(tmp_path / "c")
        found = [await number(await SqliteStore.open(sqlite_at(here)))]
        await asyncio.to_thread(moving.backup, here, tmp_path / "one.db", as_json=False)
        await asyncio.to_thread(moving.restore, there, tmp_path / "one.db", as_json=False)
        await asyncio.to_thread(moving.copy, here, engine.url, engine.password_file, as_json=False)
        await asyncio.to_thread(moving.copy, here, str(sqlite_at(again)), None, as_json=False)
        found += [await number(await SqliteStore.open(sqlite_at(place))) for place in (there, again, here)]
        return [*found, await number(await PostgresStore.open(engine))]

    first, *others, original, database = asyncio.run(numbers())
    assert original == first
    assert len({first, *others, database}) == 4


def test_a_copy_that_finds_no_database_names_what_the_person_named_it_by(
    tmp_path: Path, new_database: Callable[[], PostgresEngine]
) -> None:
    """`--to` and its password, not the keys of a configuration that has neither; and the database once."""
    here, engine = configuration(tmp_path / "a"), new_database()

    async def fill() -> None:
        await filled(await SqliteStore.open(sqlite_at(here)))

    asyncio.run(fill())
    name = engine.url.rpartition("/")[2].partition("?")[0]
    nowhere = engine.url.replace(f"/{name}", "/nosuch")
    with pytest.raises(CliError) as refused:
        moving.copy(here, nowhere, engine.password_file, as_json=False)
    assert "create the database, or correct its name in --to" in refused.value.message
    assert refused.value.message.count("/nosuch") == 1
    for password, said in (
        ("wrong", "correct the user in --to and the password in --to-password-file"),
        (None, "can't be read: No such file or directory"),
    ):
        file = tmp_path / "to-password"
        file.unlink(missing_ok=True)
        if password is not None:
            file.write_text(password)
            file.chmod(0o600)
        with pytest.raises(CliError) as refused:
            moving.copy(here, engine.url, file, as_json=False)
        assert said in refused.value.message
        assert "Errno" not in refused.value.message
        assert refused.value.message.count(name) <= 1
