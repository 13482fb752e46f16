"""A PostgreSQL server that is read-only, lacks a table, is slow, or says nothing: batches wait at the agent, the API says why.

When the fault is over everything goes on by itself, and each sample is stored once.
"""

import time
from pathlib import Path

import pytest

from postgres_server import PostgresServer
from slow_proxy import slow_proxy
from store_faults import collecting, on_postgres

pytestmark = pytest.mark.slow


async def test_a_read_only_database_holds_batches_and_answers_queries(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    """As a standby does after a switch in the wrong direction. Sessions of that time keep the default: they are replaced."""
    name = postgres.database()
    async with collecting(on_postgres(postgres, tmp_path, name)) as faulty:
        now = time.time_ns()
        faulty.cut(now)
        await faulty.delivers()
        postgres.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        postgres.end_sessions(name)
        faulty.cut(now + 1)
        await faulty.stays_out("read-only")
        await faulty.has_stored([now])
        postgres.sql(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await faulty.recovers()


@pytest.mark.parametrize("table", ["ledger", "batch", "latest", "series_number"])
async def test_a_table_that_is_gone_holds_batches_and_says_which(
    postgres: PostgresServer, tmp_path: Path, table: str
) -> None:
    """What reads it answers 503 with its name, /metrics answers all the time; when it is back, everything goes on."""
    name = postgres.database()
    async with collecting(on_postgres(postgres, tmp_path, name)) as faulty:
        now = time.time_ns()
        faulty.cut(now)
        await faulty.delivers()
        postgres.sql(f"ALTER TABLE {table} RENAME TO mislaid", name)
        faulty.cut(now + 1)
        await faulty.stays_out(table)
        path = {"latest": "/api/v1/latest", "batch": "/api/v1/query_range?match=temperature&agg=raw"}.get(
            table
        )
        if path is not None:
            await faulty.refuses(path, table)
        assert 'telemetryx_collector_ready{part="store"} 0' in await faulty.metrics()
        postgres.sql(f"ALTER TABLE mislaid RENAME TO {table}", name)
        await faulty.recovers()


async def test_a_slow_server_slows_down_and_a_silent_one_holds_batches(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delays pass through as delays; a server from which nothing comes any more is a fault with an end."""
    monkeypatch.setattr("telemetryx.store.postgres.engine.WRITE_S", 5.0)
    async with slow_proxy(postgres.port) as proxy:
        settings = on_postgres(postgres, tmp_path, postgres.database(), proxy.port)
        async with collecting(settings, 'query_timeout = "5s"') as faulty:
            now = time.time_ns()
            faulty.cut(now)
            await faulty.delivers()
            proxy.delay_s = 0.05
            faulty.cut(now + 1)
            await faulty.delivers()
            proxy.open.clear()
            faulty.cut(now + 2, 20_000)
            await faulty.stays_out("store")
            await faulty.refuses("/api/v1/latest", "too long", "in time")
            proxy.delay_s = 0.0
            proxy.open.set()
            await faulty.recovers()


async def test_a_server_that_is_down_holds_batches_and_says_so(tmp_path: Path) -> None:
    """Queries and readiness name the server; nobody has to start the collector again when it is back."""
    server = PostgresServer()
    try:
        server.start()
        async with collecting(on_postgres(server, tmp_path, server.database())) as faulty:
            now = time.time_ns()
            faulty.cut(now)
            await faulty.delivers()
            server.stop()
            faulty.cut(now + 1, 1_000)
            await faulty.stays_out(str(server.port))
            await faulty.refuses("/api/v1/latest", str(server.port))
            server.start()
            await faulty.recovers()
    finally:
        server.remove()
