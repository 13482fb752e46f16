"""What a read asks a server: numbers beside the tables once a snapshot, and of one statement nothing but that."""

import asyncio

import pytest

from telemetryx.store.postgres.database import PostgresDatabase
from telemetryx.store.tables import rollup
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.store import TableStore

KEY = "noted_by_a_test"


def put(connection: Database, value: int) -> int | None:
    """Write it; return what was there."""
    before = connection.noted(KEY)
    connection.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (KEY, value)
    )
    assert connection.noted(KEY) == value
    return before


async def test_a_snapshot_sees_one_state_and_the_next_one_the_next(store: TableStore) -> None:
    """What another transaction writes meanwhile isn't seen, and is afterwards."""
    assert await store.read(lambda connection: connection.noted(KEY)) is None
    assert await store.write(lambda connection: put(connection, 1)) is None
    loop = asyncio.get_running_loop()

    def look(connection: Database) -> tuple[int | None, int | None]:
        before = connection.noted(KEY)
        writing = asyncio.run_coroutine_threadsafe(store.write(lambda other: put(other, 2)), loop)
        assert writing.result(60) == 1
        return before, connection.noted(KEY)

    assert await store.read(look) == (1, 1)
    assert await store.read(lambda connection: connection.noted(KEY)) == 2


async def test_a_range_on_a_server_asks_for_them_in_one_round_trip(
    store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them was a round trip of its own, five in a range."""
    asked: list[str] = []
    execute = PostgresDatabase.execute

    def counted(self: PostgresDatabase, statement: str, parameters: object = (), /) -> object:
        asked.append(statement)
        return execute(self, statement, parameters)

    monkeypatch.setattr(PostgresDatabase, "execute", counted)

    def horizons(connection: Database) -> bool:
        for horizon in (rollup.raw_horizon, rollup.samples_from, rollup.expiry, rollup.hours_from):
            horizon(connection)
        return isinstance(connection, PostgresDatabase)

    server = await store.read(horizons)
    assert len([statement for statement in asked if "meta" in statement]) == int(server)


async def test_work_of_one_statement_is_one_round_trip(
    store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request asks who comes and which series are meant: each was three."""
    begun: list[PostgresDatabase] = []
    begin = PostgresDatabase.begin_snapshot

    def counted(self: PostgresDatabase) -> None:
        begun.append(self)
        begin(self)

    monkeypatch.setattr(PostgresDatabase, "begin_snapshot", counted)
    assert await store.accounts.any() is False
    assert await store.accounts.token(bytes(32)) is None
    assert await store.series() == []
    assert not begun


async def test_it_comes_back_from_a_lost_connection(store: TableStore) -> None:
    """As a snapshot does: it wrote nothing."""
    lost: list[bool] = []

    def lose(connection: Database) -> int | None:
        if isinstance(connection, PostgresDatabase) and not lost:
            lost.append(True)
            connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return connection.noted(KEY)

    assert await store.look(lose) is None
    assert await store.series() == []
