"""A whole store, row by row, into an empty one of the same engine or another: both have the same tables and columns.

In one transaction of each side: the source is read on one snapshot, and the target holds all of it or nothing.
Ids are kept, so cursors, ledgers and links between rows go on to mean what they meant.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

import numpy as np

from telemetryx.errors import StoreError
from telemetryx.store.tables import reals
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.identity import forget

#: In an order in which a row comes after those that it points to.
TABLES: Final = (
    "meta", "agent", "series", "series_label", "epoch", "ledger", "ledger_checksum", "series_number", "batch", "moving",
    "chunk", "sample", "window", "rollup_1m", "rollup_1h", "dirty", "latest", "event", "loss", "gap", "connection", "consumer", "rule",
    "rule_group", "alert", "outbox", "delivery", "receiver", "quarantine", "silence",
    "acknowledgement", "audit", "account", "api_token", "enrolment_token", "enrolled", "certificate", "enrolment_seen",
    "agent_config", "agent_config_canary", "agent_config_state", "agent_request", "agent_answer",
)  # fmt: skip
_PLACED: Final = ("batch", "chunk")
_WITH_REALS: Final = ("window", "rollup_1m", "rollup_1h", "latest")
_REALS: Final = ("sum", "min", "max", "first", "last", "value")
_AT_ONCE: Final = 500
"""Rows that are written at once, and the bytes at which it is fewer."""
_BYTES_AT_ONCE: Final = 4 << 20
_SAMPLES_AT_ONCE: Final = 20_000
#: Where something stands as soon as anybody used a store.
_USED: Final = ("agent", "series", "batch", "chunk", "event", "alert", "rule", "account")

Progress = Callable[[str, int, int], None]
"""Told a table's name, how many of its rows are copied, and how many there are."""


def copy(source: Database, target: Database, progress: Progress) -> dict[str, int]:
    """Copy everything; return how many rows of each table, counted on both sides. The source is in a snapshot.

    Raises StoreError when the target isn't empty, or when the counts differ; it is then as it was.
    """
    target.begin()
    try:
        _refuse_used(target)
        copied = {table: _table(source, target, table, progress) for table in TABLES}
        forget(target)
        target.continue_ids(source.newest_commit())
        target.commit()
    except BaseException:
        target.rollback()
        raise
    return copied


def _table(source: Database, target: Database, table: str, progress: Progress) -> int:
    if table == "sample":
        return _samples(source, target, progress)
    columns = source.columns(table)
    names = ", ".join(f'"{name}"' for name in columns)
    insert = f'INSERT INTO "{table}" ({names}) VALUES ({", ".join("?" * len(columns))})'
    total, done, size = _count(source, table), 0, 0
    rows: list[tuple[object, ...]] = []
    time = columns.index("t1_ns") if table in _PLACED else None
    if table == "meta":
        # What is there already was written by the target's own migrations.
        target.execute("DELETE FROM meta")

    real = [columns.index(name) for name in _REALS if name in columns] if table in _WITH_REALS else []

    def write() -> None:
        nonlocal done, size
        if real:
            rows[:] = _kept(rows, real, target)
        if time is not None:
            for row in rows:
                target.place(table, int(str(row[time])))
        target.executemany(insert, rows)
        if table == "event":
            at = [columns.index(name) for name in ("id", "source", "body", "attributes")]
            target.index_events([(int(str(row[at[0]])), *(str(row[i]) for i in at[1:])) for row in rows])  # type: ignore[misc]
        done += len(rows)
        size = 0
        rows.clear()
        progress(table, done, total)

    for row in source.stream(f'SELECT {names} FROM "{table}"'):
        rows.append(tuple(row))
        size += sum(len(value) for value in row if isinstance(value, bytes | str))
        if len(rows) >= _AT_ONCE or size >= _BYTES_AT_ONCE:
            write()
    if rows:
        write()
    _counted(target, table, total, done)
    return done


def _kept(rows: list[tuple[object, ...]], real: list[int], target: Database) -> list[tuple[object, ...]]:
    """Write values as the target keeps them: engines have their own for NaN and -0.0."""
    made: list[Sequence[object]] = list(zip(*rows, strict=True))
    for at in real:
        made[at] = target.reals(reals.read(made[at]))
    return list(zip(*made, strict=True))


def _samples(source: Database, target: Database, progress: Progress) -> int:
    """Copy plain rows, which each engine keeps in its own way."""
    if not source.columns("sample"):  # written before there were any
        return 0
    total, done = _count(source, "sample"), 0
    rows = iter(
        source.stream("SELECT series_id, time_ns, value, flags FROM sample ORDER BY series_id, time_ns")
    )
    while some := list(islice(rows, _SAMPLES_AT_ONCE)):
        series, times, values, flags = zip(*some, strict=True)
        target.put_samples(
            np.array(series, np.int64),
            np.array(times, np.int64),
            np.array(values, np.float64),  # NULL becomes NaN
            np.array(flags, np.uint8),
        )
        done += len(some)
        progress("sample", done, total)
    _counted(target, "sample", total, done)
    return done


def _counted(target: Database, table: str, total: int, done: int) -> None:
    if (there := _count(target, table)) != done or done != total:
        raise StoreError(f"table {table} has {total:,} rows, {done:,} were read, and {there:,} are there")


def _refuse_used(target: Database) -> None:
    for table in _USED:
        if target.execute(f'SELECT 1 FROM "{table}" LIMIT 1').fetchone() is not None:
            raise StoreError("there is something in the store to copy to: name an empty one")


def _count(database: Database, table: str) -> int:
    return int(database.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0])
