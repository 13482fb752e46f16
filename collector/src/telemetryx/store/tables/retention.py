"""Retention: what is past its time is deleted, by event time, a little at a time. The dedup ledger and series stay.

Chunks go when their newest sample is past; so at a chunk's edge bytes stay up to one chunk longer than asked, but readers don't
see them (rollup.samples_from), and compaction makes no chunk of what is past already. Raw data goes only up to the raw horizon: up to
there the rollups show everything, and what comes later is added to them. Plain rows go one by one.

Horizons move forward: behind them something was deleted, and a rollup that is computed anew from what is left would be wrong. They
were moved by a clock, though, and a clock can be wrong. One that lies farther ahead than the limit of now goes back (`settle`), as far as nothing is
lost by it: the raw horizon to the end of the newest rollup, for what no rollup shows was never raw data that is gone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from telemetryx.store.interface import Retention
from telemetryx.store.tables import rollup
from telemetryx.store.tables.database import Database, greater
from telemetryx.store.tables.today import day

PIECE: Final = 500
"""Rows a transaction: a few milliseconds."""
ROWS: Final = 2_000
"""Plain rows a transaction: they are small."""
EVENTS: Final = 200
"""Events a transaction: the words of each are taken out of an index."""
LOOK: Final = 20_000
"""Ids of series that one read looks at."""
PATIENCE_NS: Final = 3_600_000_000_000
"""How far behind the raw horizon stays for batches that aren't compacted."""

FUTURE_NS: Final = 86_400_000_000_000
"""Readings that are further ahead of a clock that is right are of one that is wrong."""
ENDLESS: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Rule:
    """Which rows of a table are past."""

    table: str
    before_ns: int
    past: str
    """The condition on a row; its parameter is the time."""
    by_series: bool = False
    """Whether the table's index begins with the series: each is looked at by itself then."""
    key: str = "id"
    piece: int = PIECE


@dataclass(frozen=True, slots=True)
class Found:
    """Rows that are past, by their keys, and where to go on; None at the end."""

    keys: list[tuple[int, ...]]
    after: int | None


def rules(retention: Retention, now_ns: int, horizon_ns: int) -> Iterator[Rule]:
    """List what has a limit. Raw data at or after the horizon stays: rollups may yet be computed from it."""
    compacted = 'NOT EXISTS (SELECT 1 FROM batch WHERE batch.id = "window".batch_id)'
    if retention.raw_ns is not None:
        yield Rule("chunk", min(now_ns - retention.raw_ns, horizon_ns), "t1_ns < ?", by_series=True)
    if retention.windows_ns is not None:
        before = min(now_ns - retention.windows_ns, horizon_ns)
        yield Rule('"window"', before, f"start_ns < ? AND {compacted}")
    if retention.events_ns is not None:
        yield Rule("event", now_ns - retention.events_ns, "time_ns < ?", piece=EVENTS)
    if retention.connections_ns is not None:
        before = now_ns - retention.connections_ns
        yield Rule("connection", before, "closed_ns != 0 AND closed_ns < ?")
    if retention.audit_ns is not None:
        yield Rule("audit", now_ns - retention.audit_ns, "at_ns < ?")


def rollup_rules(retention: Retention, now_ns: int) -> Iterator[Rule]:
    """List rollup tables that have a limit."""
    for table, kept in (("rollup_1m", retention.rollup_1m_ns), ("rollup_1h", retention.rollup_1h_ns)):
        if kept is not None:
            yield Rule(table, now_ns - kept, "t0_ns < ?", by_series=True, key="series_id, t0_ns")


def drop(connection: Database, rule: Rule) -> int:
    """Delete what of batches and chunks goes at once, where an engine can; return the chunks."""
    connection.drop_places("batch", rule.before_ns)
    return connection.drop_places("chunk", rule.before_ns)


def find(connection: Database, rule: Rule, after: int) -> Found:
    """Look for one piece of what is past, behind a series' id where the table is by series: nobody waits for a reader."""
    if not rule.by_series:
        rows = connection.execute(
            f"SELECT id FROM {rule.table} WHERE {rule.past} LIMIT {rule.piece}", (rule.before_ns,)
        ).fetchall()
        return Found(rows, after if len(rows) == rule.piece else None)
    (newest,) = connection.execute("SELECT coalesce(max(id), 0) FROM series").fetchone()
    upto = after + LOOK
    keys = ", ".join(f"{rule.table}.{column}" for column in rule.key.split(", "))
    rows = connection.execute(
        f"SELECT series.id, {keys} FROM series CROSS JOIN {rule.table} WHERE {rule.table}.series_id = series.id "
        f"AND series.id > ? AND series.id <= ? AND {rule.past} ORDER BY series.id LIMIT {rule.piece}",
        (after, upto, rule.before_ns),
    ).fetchall()
    if len(rows) == rule.piece:
        upto = int(rows[-1][0]) - 1
    return Found([tuple(row[1:]) for row in rows], upto if upto < newest else None)


def delete(connection: Database, rule: Rule, keys: Sequence[tuple[int, ...]]) -> int:
    """Delete one piece of a table; return its rows."""
    if rule.table == "event":
        return _events(connection, [key[0] for key in keys])
    if rule.key == "id":
        return connection.delete_many(rule.table.strip('"'), [key[0] for key in keys])
    same = " AND ".join(f"{column} = ?" for column in rule.key.split(", "))
    connection.executemany(f"DELETE FROM {rule.table} WHERE {same}", keys)
    return len(keys)


def forget_rows(connection: Database, before_ns: int, after: int) -> tuple[int, int | None]:
    """Delete one piece of the plain rows; return how many, and where to go on (None: nowhere)."""
    return connection.forget_samples(before_ns, after, ROWS)


def _events(connection: Database, ids: Sequence[int]) -> int:
    """Delete events and, first, their words (an external-content index needs the old text)."""
    among, part = connection.among("id", ids)
    rows: list[tuple[int, str, str, str]] = connection.execute(
        f"SELECT id, source, body, attributes FROM event WHERE {among}", part
    ).fetchall()
    connection.forget_events(rows)
    return connection.delete_many("event", [row[0] for row in rows])


def shown_until(connection: Database, retention: Retention, now_ns: int, *, sure: bool = False) -> int | None:
    """Return until when rollups show something, where a horizon may have to go back: a look into an index a series, so not for a writer.

    Nothing may write rollups until `settle` has run.
    """
    raw = [kept for kept in (retention.raw_ns, retention.windows_ns) if kept is not None]
    if not raw or rollup.raw_horizon(connection) <= now_ns - min(raw):
        return None
    return _rolled_up(connection, now_ns + FUTURE_NS if sure else ENDLESS)


def settle(connection: Database, retention: Retention, now_ns: int, shown_until_ns: int | None) -> list[str]:
    """Take back horizons that a clock moved too far ahead; return sentences about what was done.

    Safe whatever the clock says: no minute that has a rollup comes behind the raw horizon. When this time is `sure`, confirmed, rollups of a
    time that is a day and more ahead are of clocks that were wrong too, and don't count.
    """
    said = []
    raw = [kept for kept in (retention.raw_ns, retention.windows_ns) if kept is not None]
    horizon = rollup.raw_horizon(connection)
    if raw and shown_until_ns is not None and horizon > now_ns - min(raw):
        wanted = max((now_ns - min(raw)) // rollup.MINUTE * rollup.MINUTE, shown_until_ns)
        if wanted < horizon:
            _set(connection, "raw_horizon_ns", wanted)
            connection.execute(
                "UPDATE meta SET value = ? WHERE key = 'samples_from_ns' AND value > ?", (wanted, wanted)
            )
            said.append(
                f"raw readings are kept from {day(wanted)} on, and no longer only from {day(horizon)} on"
            )
    expiry, limit = rollup.expiry(connection), expires(retention, now_ns)
    if limit is not None and expiry > limit:
        _set(connection, "expiry_ns", limit)
        said.append(f"readings count as expired before {day(limit)}, and no longer before {day(expiry)}")
    return said


def ahead(connection: Database, now_ns: int) -> str:
    """Say that raw readings of now aren't kept, while the raw horizon lies ahead; "" otherwise."""
    horizon = rollup.raw_horizon(connection)
    if horizon <= now_ns:
        return ""
    return f"a clock that was ahead had raw data deleted up to {day(horizon)}: until then readings are kept as rollups only"


def expires(retention: Retention, now_ns: int) -> int | None:
    """Return the time before which nothing is kept, were all older; None when something is kept for ever."""
    kept = (retention.raw_ns, retention.windows_ns, retention.rollup_1m_ns, retention.rollup_1h_ns)
    some = [one for one in kept if one is not None]
    if len(some) < len(kept):
        return None
    # Up to a whole hour: the hour that the limit lies in goes as a row, so it takes no more samples.
    return -(-(now_ns - max(some)) // rollup.HOUR) * rollup.HOUR


def _rolled_up(connection: Database, before_ns: int) -> int:
    """Return the end of the newest minute that a rollup shows; one look into the index a series."""
    ends = []
    for table, unit in (("rollup_1m", rollup.MINUTE), ("rollup_1h", rollup.HOUR)):
        (newest,) = connection.execute(
            f"SELECT max((SELECT max(t0_ns) FROM {table} WHERE series_id = series.id AND t0_ns < ?)) FROM series",
            (before_ns,),
        ).fetchone()
        ends.append((-ENDLESS if newest is None else int(newest), unit))
    (minute, unit), (hour, whole) = ends
    # An hour whose minutes are gone can't be computed anew; one of the newest minute's is computed from them.
    return max(minute + unit, hour + whole if hour > minute else -ENDLESS)


def _set(connection: Database, key: str, time_ns: int) -> None:
    connection.execute("UPDATE meta SET value = ? WHERE key = ?", (time_ns, key))


def note_horizons(connection: Database, retention: Retention, now_ns: int) -> int:
    """Remember from when on raw data and rollups are kept, and from when on anything is; return the raw horizon.

    It doesn't pass what no rollup shows yet (an entry of `dirty`): that raw data is needed, and waits for the next time. For a
    batch that isn't compacted it waits too, so that its sums are computed in order, to the last bit, and not added; but not for
    long: a sensor whose clock stands still would keep all raw data.
    """
    raw = [kept for kept in (retention.raw_ns, retention.windows_ns) if kept is not None]
    if raw:
        before = rollup.raw_horizon(connection)
        (waiting,) = connection.execute("SELECT min(t0_ns) FROM dirty WHERE t1_ns > ?", (before,)).fetchone()
        (shipped,) = connection.execute("SELECT min(t0_ns) FROM batch WHERE t0_ns >= ?", (before,)).fetchone()
        wanted = now_ns - min(raw)
        if shipped is not None:
            wanted = min(wanted, max(shipped, wanted - PATIENCE_NS))
        _note(
            connection, "raw_horizon_ns", wanted if waiting is None else min(wanted, waiting), rollup.MINUTE
        )
    if retention.raw_ns is not None:
        gone = min(now_ns - retention.raw_ns, rollup.raw_horizon(connection))
        _note(connection, "samples_from_ns", gone, rollup.MINUTE)
    if (limit := expires(retention, now_ns)) is not None:
        _note(connection, "expiry_ns", min(limit, rollup.raw_horizon(connection)), rollup.HOUR)
    for key, kept, unit in (
        ("minutes_from_ns", retention.rollup_1m_ns, rollup.MINUTE),
        ("hours_from_ns", retention.rollup_1h_ns, rollup.HOUR),
    ):
        # Up to a whole unit: the row that the limit lies in goes.
        _note(connection, key, -ENDLESS if kept is None else now_ns - kept + unit - 1, unit)
    return rollup.raw_horizon(connection)


def _note(connection: Database, key: str, time_ns: int, unit: int) -> None:
    """Move a horizon forward, never back, to a whole unit."""
    connection.execute(
        f"INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = {greater('meta.value', 'excluded.value')}",
        (key, time_ns // unit * unit),
    )
