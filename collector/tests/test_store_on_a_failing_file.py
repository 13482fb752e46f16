"""A SQLite file that lacks a table, as after mending by hand, or that another program keeps: batches wait at the agent, the API says why.

When the fault is over everything goes on by itself, and each sample is stored once.
"""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from store_faults import collecting

pytestmark = pytest.mark.slow


def rename(file: Path, table: str, to: str) -> None:
    """Rename a table beside the collector."""
    with closing(sqlite3.connect(file, timeout=60, isolation_level=None)) as other:
        other.execute(f'ALTER TABLE "{table}" RENAME TO "{to}"')


@pytest.mark.parametrize("table", ["ledger", "batch", "latest", "series_number"])
async def test_a_table_that_is_gone_holds_batches_and_says_which(tmp_path: Path, table: str) -> None:
    """As in PostgreSQL: what reads it answers 503 with its name, in the shape of each API, and /metrics answers all the time."""
    file = tmp_path / "data" / "telemetry.db"
    async with collecting(f'[collector]\ndata_dir = "{file.parent}"\n') as faulty:
        now = time.time_ns()
        faulty.cut(now)
        await faulty.delivers()
        rename(file, table, "mislaid")
        faulty.cut(now + 1)
        await faulty.stays_out(table)
        if table == "batch":
            await faulty.refuses("/api/v1/query_range?match=temperature&agg=raw", table)
        if table == "latest":
            await faulty.refuses("/api/v1/latest", table)
            status, answer = await faulty.ask("/prometheus/api/v1/query?query=temperature")
            assert (status, answer["errorType"], table in answer["error"]) == (503, "unavailable", True)
        assert 'telemetryx_collector_ready{part="store"} 0' in await faulty.metrics()
        rename(file, "mislaid", table)
        await faulty.recovers()


async def test_a_file_that_another_program_keeps_holds_batches_and_answers_queries(tmp_path: Path) -> None:
    """Somebody began a transaction by hand and forgot it."""
    file = tmp_path / "data" / "telemetry.db"
    async with collecting(f'[collector]\ndata_dir = "{file.parent}"\n') as faulty:
        now = time.time_ns()
        faulty.cut(now)
        await faulty.delivers()
        with closing(sqlite3.connect(file, timeout=60, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            faulty.cut(now + 1)
            await faulty.stays_out("locked")
            await faulty.has_stored([now])
            other.execute("ROLLBACK")
        await faulty.recovers()
