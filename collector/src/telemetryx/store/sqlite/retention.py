"""Retention: what is past its time is deleted, by event time, a little at a time. The dedup ledger and series stay.

Chunks go when their newest sample is past; so at a chunk's edge data lives up to one chunk longer than asked.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from telemetryx.store.interface import Retention

PIECE: Final = 500
"""Rows a transaction: a few milliseconds."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Which rows of a table are past."""

    table: str
    rows: str
    before_ns: int


def rules(retention: Retention, now_ns: int) -> Iterator[Rule]:
    """List what has a limit."""
    limits: tuple[tuple[str, str, int | None], ...] = (
        ("chunk", "SELECT rowid FROM chunk WHERE t1_ns < ?", retention.raw_ns),
        ('"window"', 'SELECT rowid FROM "window" WHERE start_ns < ?', retention.windows_ns),
        ("event", "SELECT rowid FROM event WHERE time_ns < ?", retention.events_ns),
        (
            "connection",
            "SELECT rowid FROM connection WHERE closed_ns != 0 AND closed_ns < ?",
            retention.connections_ns,
        ),
    )
    for table, rows, kept in limits:
        if kept is not None:
            yield Rule(table, rows, now_ns - kept)


def rollup_rules(retention: Retention, now_ns: int) -> Iterator[Rule]:
    """List rollup tables that have a limit."""
    for table, kept in (("rollup_1m", retention.rollup_1m_ns), ("rollup_1h", retention.rollup_1h_ns)):
        if kept is not None:
            yield Rule(table, "t0_ns < ?", now_ns - kept)


def delete(connection: sqlite3.Connection, rule: Rule) -> int:
    """Delete one piece of a table; fewer than PIECE rows means it is done."""
    if rule.table.startswith("rollup"):
        return connection.execute(
            f"DELETE FROM {rule.table} WHERE (series_id, t0_ns) IN "
            f"(SELECT series_id, t0_ns FROM {rule.table} WHERE {rule.rows} LIMIT {PIECE})",
            (rule.before_ns,),
        ).rowcount
    if rule.table == "event":
        return _events(connection, rule)
    return connection.execute(
        f"DELETE FROM {rule.table} WHERE rowid IN ({rule.rows} LIMIT {PIECE})", (rule.before_ns,)
    ).rowcount


def _events(connection: sqlite3.Connection, rule: Rule) -> int:
    """Delete events and, first, their words (an external-content index needs the old text)."""
    rows: list[tuple[Any, ...]] = connection.execute(
        f"SELECT id, source, body, attributes FROM event WHERE id IN ({rule.rows} LIMIT {PIECE})",
        (rule.before_ns,),
    ).fetchall()
    connection.executemany(
        "INSERT INTO event_text (event_text, rowid, source, body, attributes) VALUES ('delete', ?, ?, ?, ?)",
        rows,
    )
    connection.executemany("DELETE FROM event WHERE id = ?", [(row[0],) for row in rows])
    return len(rows)


def note_horizon(connection: sqlite3.Connection, before_ns: int) -> None:
    """Remember up to when raw data may be gone: rollups before it are never recomputed."""
    connection.execute(
        "INSERT INTO meta VALUES ('raw_horizon_ns', ?) ON CONFLICT DO UPDATE SET value = max(value, excluded.value)",
        (before_ns,),
    )
