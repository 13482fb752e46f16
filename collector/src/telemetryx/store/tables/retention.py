"""Retention: what is past its time is deleted, by event time, a little at a time. The dedup ledger and series stay.

Chunks go when their newest sample is past; so at a chunk's edge data lives up to one chunk longer than asked. Raw data goes
only up to the raw horizon: up to there the rollups show everything, and what comes later is added to them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from telemetryx.store.interface import Retention
from telemetryx.store.tables import rollup
from telemetryx.store.tables.database import Database, greater

PIECE: Final = 500
"""Rows a transaction: a few milliseconds."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Which rows of a table are past."""

    table: str
    rows: str
    before_ns: int


def rules(retention: Retention, now_ns: int, horizon_ns: int) -> Iterator[Rule]:
    """List what has a limit. Raw data at or after the horizon stays: rollups may yet be computed from it."""
    compacted = 'NOT EXISTS (SELECT 1 FROM batch WHERE batch.id = "window".batch_id)'
    raw: tuple[tuple[str, str, int | None], ...] = (
        ("chunk", "SELECT id FROM chunk WHERE t1_ns < ?", retention.raw_ns),
        (
            '"window"',
            f'SELECT id FROM "window" WHERE start_ns < ? AND {compacted}',
            retention.windows_ns,
        ),
    )
    for table, rows, kept in raw:
        if kept is not None:
            yield Rule(table, rows, min(now_ns - kept, horizon_ns))
    limits: tuple[tuple[str, str, int | None], ...] = (
        ("event", "SELECT id FROM event WHERE time_ns < ?", retention.events_ns),
        (
            "connection",
            "SELECT id FROM connection WHERE closed_ns != 0 AND closed_ns < ?",
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


def delete(connection: Database, rule: Rule) -> int:
    """Delete one piece of a table; fewer than PIECE rows means it is done."""
    if rule.table.startswith("rollup"):
        return connection.execute(
            f"DELETE FROM {rule.table} WHERE (series_id, t0_ns) IN "
            f"(SELECT series_id, t0_ns FROM {rule.table} WHERE {rule.rows} LIMIT {PIECE})",
            (rule.before_ns,),
        ).rowcount
    if rule.table == "event":
        return _events(connection, rule)
    at_once = 0
    if rule.table == "chunk":
        connection.drop_places("batch", rule.before_ns)
        at_once = connection.drop_places("chunk", rule.before_ns)
    return (
        at_once
        + connection.execute(
            f"DELETE FROM {rule.table} WHERE id IN ({rule.rows} LIMIT {PIECE})", (rule.before_ns,)
        ).rowcount
    )


def _events(connection: Database, rule: Rule) -> int:
    """Delete events and, first, their words (an external-content index needs the old text)."""
    rows: list[tuple[int, str, str, str]] = connection.execute(
        f"SELECT id, source, body, attributes FROM event WHERE id IN ({rule.rows} LIMIT {PIECE})",
        (rule.before_ns,),
    ).fetchall()
    connection.forget_events(rows)
    connection.executemany("DELETE FROM event WHERE id = ?", [(row[0],) for row in rows])
    return len(rows)


def note_horizons(connection: Database, retention: Retention, now_ns: int) -> int:
    """Remember from when on raw data is kept, and from when on anything is; return the raw horizon.

    It doesn't pass what no rollup shows yet (an entry of `dirty`): that raw data is needed, and waits for the next time.
    """
    raw = [kept for kept in (retention.raw_ns, retention.windows_ns) if kept is not None]
    if raw:
        before = rollup.raw_horizon(connection)
        (waiting,) = connection.execute("SELECT min(t0_ns) FROM dirty WHERE t1_ns > ?", (before,)).fetchone()
        wanted = now_ns - min(raw)
        _note(
            connection, "raw_horizon_ns", wanted if waiting is None else min(wanted, waiting), rollup.MINUTE
        )
    kept = (retention.raw_ns, retention.windows_ns, retention.rollup_1m_ns, retention.rollup_1h_ns)
    if all(one is not None for one in kept):
        # Up to a whole hour: the hour that the limit lies in goes as a row, so it takes no more samples.
        limit = -(-(now_ns - max(one for one in kept if one is not None)) // rollup.HOUR) * rollup.HOUR
        _note(connection, "expiry_ns", min(limit, rollup.raw_horizon(connection)), rollup.HOUR)
    return rollup.raw_horizon(connection)


def _note(connection: Database, key: str, time_ns: int, unit: int) -> None:
    """Move a horizon forward, never back, to a whole unit."""
    connection.execute(
        f"INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = {greater('meta.value', 'excluded.value')}",
        (key, time_ns // unit * unit),
    )
