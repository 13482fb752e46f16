"""`telemetryx store check|backup|restore|copy` with stores of newer and older collectors."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlite_utils
from sqlite_utils.migrations import Migrations

from moved_stores import configuration, content, filled, seen, sqlite_at
from telemetryx.cli import audit, export, moving, report, sql, store
from telemetryx.cli.errors import CliError
from telemetryx.cli.output import Format
from telemetryx.errors import SchemaTooNew
from telemetryx.store.migrations import SET, _step, scripts, statements
from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.sqlite import connection
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.store import TableStore
from telemetryx.types import Duplicate


@pytest.mark.parametrize("kind", ["file", "database"])
def test_a_store_of_a_newer_collector_is_refused_by_every_command(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With one sentence, the collector's own: what a newer schema means nobody here knows, so nothing read from it is told or copied."""
    if kind == "database":
        engine: PostgresEngine = request.getfixturevalue("database")
        config = configuration(tmp_path / "here", engine.url, engine.password_file)
        step = "INSERT INTO schema_step (name) VALUES ('0099_future')"
    else:
        config = configuration(tmp_path / "here")
        step = "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('telemetryx', '0099_future', '')"

    async def open_it() -> TableStore:
        return await (
            PostgresStore.open(engine) if kind == "database" else SqliteStore.open(sqlite_at(config))
        )

    async def age() -> None:
        opened = await open_it()
        await opened.write(lambda db: db.execute(step))
        await opened.close()

    asyncio.run(age())
    with pytest.raises(SchemaTooNew) as of_collector:
        asyncio.run(open_it())
    question = sql.Question("SELECT * FROM samples", None, "1h", None, "1m", 2_048, 10)
    exported = export.Question(
        "samples", str(tmp_path / "out.csv"), None, None, None, "1h", None, None, False
    )
    reported = report.Question(None, "7d", None, None, tmp_path / "tables", 50, False)
    for command in (
        lambda: store.check(config, as_json=False),
        lambda: store.verify(config, as_json=False),
        lambda: store.stats(config, as_json=False),
        lambda: moving.backup(config, tmp_path / "backup.db", as_json=False),
        lambda: moving.copy(config, str(tmp_path / "copy.db"), None, as_json=False),
        lambda: sql.run(config, question, Format.TABLE),
        lambda: export.run(config, exported),
        lambda: report.run(config, reported, as_json=False),
        lambda: audit.show(
            config,
            filters=dict.fromkeys(("actor", "action", "target")),
            since="7d",
            until=None,
            limit=9,
            how=Format.TABLE,
        ),
    ):
        with pytest.raises(CliError) as refused:
            command()
        assert refused.value.message.endswith(str(of_collector.value))
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def of_older(source: Path, target: Path, steps: int) -> None:
    """Write a file as a collector of before would have, with the first schema steps and what they have of another file."""
    with closing(connection.open_writer(target)) as old:
        known = list(scripts().items())[:steps]
        database = sqlite_utils.Database(old)
        made = Migrations(SET)
        for name, text in known:
            made(name=name)(_step(statements(text)))
        made.apply(database)
    with closing(sqlite3.connect(target)) as old:
        old.execute("PRAGMA foreign_keys = OFF")
        old.execute("ATTACH ? AS new", (str(source),))
        tables = [
            row[0]
            for row in old.execute(
                "SELECT name FROM main.sqlite_master WHERE type = 'table' AND sql NOT LIKE '%VIRTUAL%'"
            )
            if not row[0].startswith(("sqlite_", "event_text", "_sqlite"))
        ]
        for table in tables:
            there, new = (
                [row[1] for row in old.execute(f'PRAGMA {schema}.table_info("{table}")')]
                for schema in ("main", "new")
            )
            names = ", ".join(f'"{name}"' for name in there if name in new)
            if names:
                rows = f'SELECT {names} FROM new."{table}"'  # noqa: S608 - as the schema has them
                old.execute(f'INSERT OR REPLACE INTO main."{table}" ({names}) {rows}')
        old.execute("DELETE FROM sqlite_sequence WHERE name = 'batch'")
        old.execute(
            "INSERT INTO sqlite_sequence SELECT name, seq FROM new.sqlite_sequence WHERE name = 'batch'"
        )
        old.commit()
        old.execute("PRAGMA journal_mode = DELETE")


@pytest.mark.parametrize("steps", [3, 6, 8])
def test_what_an_older_collector_wrote_is_verified_and_moves_into_a_database(
    steps: int, tmp_path: Path, new_database: Callable[[], PostgresEngine], capsys: pytest.CaptureFixture[str]
) -> None:
    """As a backup that is restored, and as a store that is copied: a copy is brought up to date for it, the file stays as it was."""
    here, older = configuration(tmp_path / "a"), configuration(tmp_path / "old")

    async def fill() -> dict[str, object]:
        return await filled(await SqliteStore.open(sqlite_at(here)))

    before = asyncio.run(fill())
    of_older(sqlite_at(here), sqlite_at(older), steps)
    file = tmp_path / "old.db"
    file.write_bytes(sqlite_at(older).read_bytes())
    store.verify(older, as_json=False)
    assert "is sound" in capsys.readouterr().out
    restored, copied = new_database(), new_database()
    moving.restore(configuration(tmp_path / "r", restored.url, restored.password_file), file, as_json=False)
    moving.copy(older, copied.url, copied.password_file, as_json=False)
    moving.copy(older, str(tmp_path / "copy.db"), None, as_json=False)

    async def samples_of(engine: PostgresEngine) -> None:
        opened = await PostgresStore.open(engine)
        found = await seen(opened)
        assert [found[what] for what in ("series", "samples", "events", "sound")] == [
            before[what] for what in ("series", "samples", "events", "sound")
        ]
        assert await opened.commit([content(3)]) == [Duplicate()]
        await opened.close()

    for engine in (restored, copied):
        asyncio.run(samples_of(engine))
    with closing(sqlite3.connect(file)) as kept:
        assert len(kept.execute("SELECT name FROM _sqlite_migrations").fetchall()) == steps
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "copy.db", "old", "old.db", "r"]


def test_a_database_of_an_older_collector_is_refused_with_what_to_do(
    tmp_path: Path, database: PostgresEngine
) -> None:
    """No copy of it can be brought up to date here; a start does it."""
    config = configuration(tmp_path / "here", database.url, database.password_file)

    async def age() -> None:
        opened = await PostgresStore.open(database)
        await opened.write(
            lambda db: db.execute("DELETE FROM schema_step WHERE name = (SELECT max(name) FROM schema_step)")
        )
        await opened.close()

    asyncio.run(age())
    for command in (
        lambda: store.verify(config, as_json=False),
        lambda: moving.backup(config, tmp_path / "backup.db", as_json=False),
        lambda: moving.copy(config, str(tmp_path / "copy.db"), None, as_json=False),
    ):
        with pytest.raises(CliError, match="the tables of an older collector") as refused:
            command()
        assert "start this collector on it once" in refused.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
