"""A store that fails while no agent sends and nobody asks: readiness finds it out by itself, and when it is over."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from postgres_server import PostgresServer
from store_faults import collecting, on_postgres
from test_store_on_a_full_disk import fill, small_disk

pytestmark = pytest.mark.slow
RED = 'telemetryx_collector_ready{part="store"} 0'
GREEN = 'telemetryx_collector_ready{part="store"} 1'


async def test_a_server_that_is_away_is_noticed_without_traffic(tmp_path: Path) -> None:
    """Readiness and metrics are red with the reason, and green again when the server is back."""
    server = PostgresServer()
    try:
        server.start()
        async with collecting(on_postgres(server, tmp_path, server.database())) as quiet:
            assert (await quiet.ask("/readyz"))[0] == 200
            server.kill()
            await quiet.refuses("/readyz", "the database")
            said = (await quiet.ask("/readyz"))[1]
            assert [part["ready"] for part in said["parts"] if part["name"] == "store"] == [False]
            assert RED in await quiet.metrics()
            server.start()
            await quiet.is_ready()
            assert GREEN in await quiet.metrics()
    finally:
        server.remove()


async def test_a_read_only_database_is_noticed_without_traffic(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    """It answers queries: only a write shows it."""
    name = postgres.database()
    async with collecting(on_postgres(postgres, tmp_path, name)) as quiet:
        postgres.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        postgres.end_sessions(name)
        await quiet.refuses("/readyz", "read-only")
        postgres.sql(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await quiet.is_ready()


async def test_a_file_that_is_gone_is_noticed_without_traffic(tmp_path: Path) -> None:
    """SQLite would write on into the deleted file: what is acknowledged then would be nowhere."""
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    async with collecting(f'[collector]\ndata_dir = "{data}"\n') as quiet:
        quiet.cut(1_772_359_200_000_000_000)
        await quiet.delivers()
        data.rename(elsewhere)
        await quiet.refuses("/readyz", "moved or deleted")
        quiet.cut(1_772_359_201_000_000_000)
        assert not await quiet.offer(3), "a batch was acknowledged that is stored nowhere"
        await quiet.refuses("/api/v1/series", "moved or deleted")
        elsewhere.rename(data)
        await quiet.delivers()
        await quiet.is_ready()
        status, found = await quiet.ask("/api/v1/query_range?match=temperature&start=2026-03-01&agg=raw")
        assert (status, len(found["series"][0]["times_ns"])) == (200, 2)


async def test_a_file_that_is_deleted_alone_gets_no_empty_one_in_its_place(tmp_path: Path) -> None:
    """Its folder is there, so one could be made: the ledger would begin anew, and what was acknowledged be gone without a word."""
    data = tmp_path / "data"
    file, kept = data / "telemetry.db", data / "kept.db"
    async with collecting(f'[collector]\ndata_dir = "{data}"\n') as quiet:
        quiet.cut(1_772_359_200_000_000_000)
        await quiet.delivers()
        kept.hardlink_to(file)
        file.unlink()
        await quiet.refuses("/readyz", "moved or deleted")
        quiet.cut(1_772_359_201_000_000_000)
        assert not await quiet.offer(3), "a batch was acknowledged that is stored nowhere"
        assert not file.exists()
        shutil.copy(kept, file)
        await quiet.refuses("/readyz", "another file")
        assert not await quiet.offer(3), "a batch went into a file that nobody began with"
        kept.replace(file)
        await quiet.delivers()
        await quiet.is_ready()
        status, found = await quiet.ask("/api/v1/query_range?match=temperature&start=2026-03-01&agg=raw")
        assert (status, len(found["series"][0]["times_ns"])) == (200, 2)


async def test_a_full_disk_is_noticed_without_traffic() -> None:
    """The heartbeat rewrites what is there, and goes on: only a write that needs room shows it."""
    with small_disk(24) as disk:
        async with collecting(f'[collector]\ndata_dir = "{disk}/data"\n') as quiet:
            fill(disk / "filler")
            await quiet.refuses("/readyz", "full")
            assert RED in await quiet.metrics()
            (disk / "filler").unlink()
            await quiet.is_ready()


@pytest.mark.parametrize(
    "change",
    [
        ("ALTER TABLE silence RENAME TO kept", "ALTER TABLE kept RENAME TO silence", "silence is missing"),
        (
            "ALTER TABLE alert RENAME COLUMN rule TO kept",
            "ALTER TABLE alert RENAME COLUMN kept TO rule",
            "alert lacks rule",
        ),
    ],
    ids=["table", "column"],
)
@pytest.mark.parametrize("on", ["sqlite", "postgres"])
async def test_a_table_that_no_batch_touches_is_missed(
    tmp_path: Path, postgres: PostgresServer, on: str, change: tuple[str, str, str]
) -> None:
    """While batches are stored; readiness names it, and is green when it is back."""
    data, name = tmp_path / "data", postgres.database()
    settings = (
        on_postgres(postgres, tmp_path, name) if on == "postgres" else f'[collector]\ndata_dir = "{data}"\n'
    )

    def run(statement: str) -> None:
        if on == "postgres":
            postgres.sql(statement, name)
            return
        with closing(sqlite3.connect(data / "telemetry.db", isolation_level=None)) as beside:
            beside.execute(statement)

    async with collecting(settings) as quiet:
        quiet.cut(1_772_359_200_000_000_000)
        await quiet.delivers()
        there, back, said = change
        run(there)
        await quiet.refuses("/readyz", said)
        run(back)
        await quiet.is_ready()
