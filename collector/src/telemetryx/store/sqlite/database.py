"""A SQLite connection as `store/tables` uses it: sqlite3's own, with what only SQLite does added."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog

from telemetryx.errors import StoreError, StoreUnavailable
from telemetryx.store.migrations import scripts
from telemetryx.store.regex import regex
from telemetryx.store.sqlite.wal import log_of
from telemetryx.store.tables import reals
from telemetryx.types import F64, I64, U8

log = structlog.get_logger(__name__)

_TABLES: Final = (
    "SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c WHERE m.type = 'table'"
)
_PUT = "INSERT INTO sample (series_id, time_ns, n, value, flags) VALUES (?1, ?2, ?3, ?4, ?5)"
_PUT_BESIDE = _PUT.replace(
    "?3", "coalesce((SELECT max(n) + 1 FROM sample WHERE series_id = ?1 AND time_ns = ?2), 0)"
)
_KEYS_AT_ONCE: Final = 500
"""Rows that one statement looks up."""
_SERIES_AT_ONCE: Final = 200
"""Series that one piece of deletion looks at."""
ALL: Final = 1 << 62
"""More than any commit's number."""


class SqliteDatabase(sqlite3.Connection):
    """A connection to one file; `connection.py` opens it."""

    site_of_labels = "json_extract(labels, '$.site')"
    values_of_labels = "json_each(agent.labels)"
    same_labels = "labels = ?3"
    index_of_group = '"group"'
    same_group = '"group" = ?2'
    shared = False
    now_ns = "CAST((julianday('now') - 2440587.5) * 86400000000000 AS INTEGER)"
    for_share = ""
    skip_locked = ""
    refusals: tuple[type[Exception], ...] = (
        sqlite3.IntegrityError,
        sqlite3.DataError,
        OverflowError,
        UnicodeError,
    )
    file: Path
    durable = True
    """Whether commits are fsynced."""
    ended: int | None = None
    on_saved: Callable[[], None] | None = None
    """Told that a deleted log was brought into the file."""
    opened_as: tuple[int, int] | None = None
    """Device and number of the file that it was opened on,"""
    log_as: tuple[int, int] | None = None
    """and of its log."""

    @property
    def alive(self) -> bool:
        """Whether it can be used: not when its file, or the log, was deleted or moved. What is written then is nowhere."""
        return self._has_file() and self._has_log()

    def began(self) -> None:
        """Remember which file and which log it has open."""
        self.opened_as = identity_of(self.file)
        self.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()  # opens the log
        self.log_as = identity_of(log_of(self.file))

    def _has_file(self) -> bool:
        return self.opened_as is not None and self.opened_as == identity_of(self.file)

    def _has_log(self) -> bool:
        return self.log_as is None or self.log_as == identity_of(log_of(self.file))

    @cached_property
    def moves_runs(self) -> bool:
        """Whether its schema knows runs on their way."""
        return bool(self.columns("moving"))

    def noted(self, key: str) -> int | None:
        """Look into `meta`: a lookup takes microseconds."""
        row = self.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else int(row[0])

    def stream(self, statement: str, parameters: Sequence[Any] = (), /) -> Iterable[Any]:
        """Run a query: SQLite computes each row when it is asked for."""
        return self.execute(statement, parameters)

    def insert_many(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], conflict: str = ""
    ) -> None:
        """Insert rows with one prepared statement."""
        names = ", ".join(f'"{column}"' for column in columns)
        marks = ", ".join("?" * len(columns))
        tail = f" ON CONFLICT {conflict}" if conflict else ""
        self.executemany(f'INSERT INTO "{table}" ({names}) VALUES ({marks}){tail}', rows)

    def replace_many(
        self, table: str, key: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int
    ) -> None:
        """Insert rows or update them, whichever it is."""
        del step
        changes = ", ".join(f'"{column}" = excluded."{column}"' for column in columns[len(key) :])
        self.insert_many(table, columns, rows, f"({', '.join(key)}) DO UPDATE SET {changes}")

    def find_many(
        self, table: str, key: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[int]]
    ) -> list[Any]:
        """Look each key up: the join's order is the written one."""
        found: list[Any] = []
        names = ", ".join(f'"{table}"."{column}"' for column in columns)
        same = " AND ".join(f'"{table}"."{column}" = there."{column}"' for column in key)
        wanted = ", ".join(f'"{column}"' for column in key)
        for start in range(0, len(rows), _KEYS_AT_ONCE):
            some = rows[start : start + _KEYS_AT_ONCE]
            marks = ", ".join([f"({', '.join('?' * len(key))})"] * len(some))
            found += self.execute(
                f'WITH there({wanted}) AS (VALUES {marks}) SELECT {names} FROM there CROSS JOIN "{table}" ON {same}',
                [value for row in some for value in row],
            ).fetchall()
        return found

    def among(self, column: str, ids: Sequence[int]) -> tuple[str, list[Any]]:
        """Return an IN list."""
        return f"{column} IN ({','.join('?' * len(ids))})", list(ids)

    def reals(self, column: F64) -> list[Any]:
        """Mark -0.0, which a REAL column would keep as 0."""
        return reals.marked(column)

    def delete_many(self, table: str, ids: Sequence[int]) -> int:
        """Delete rows with one prepared statement; sqlite3 adds up what each took."""
        if not ids:
            return 0
        return self.executemany(f'DELETE FROM "{table}" WHERE id = ?', [(one,) for one in ids]).rowcount

    def begin(self, *, durable: bool = True) -> None:
        """Begin a transaction that writes. DURABILITY: with NORMAL a commit is written to the log, and fsynced with the next FULL one or checkpoint."""
        if self._has_file() and not self._has_log():
            self._save_log()
        self._must_be_there()
        self.ended = None
        if durable != self.durable:
            self.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self.durable = durable
        self.execute("BEGIN IMMEDIATE")

    def harden(self) -> None:
        """Write the whole log into the file and begin it anew.

        DURABILITY: a failed fsync may have lost frames of commits that were not durable yet; the next commits would stand
        behind them in the log, and recovery stops at the first bad frame.
        """
        busy, _, _ = self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreUnavailable(
                "after a failed write the log must go into the file, which somebody reads", "locked"
            )

    def begin_snapshot(self) -> None:
        """Begin a transaction that reads."""
        self._must_be_there()
        self.ended = None
        self.execute("BEGIN")

    def _must_be_there(self) -> None:
        """DURABILITY: SQLite goes on with a file that is deleted, and its commits are gone with the process."""
        if not self._has_file():
            raise sqlite3.OperationalError(f"the file {self.file} was moved or deleted while it was open")
        if not self._has_log():
            raise sqlite3.OperationalError(
                f"the log {log_of(self.file)} was moved or deleted while it was open"
            )

    def _save_log(self) -> None:
        """Bring the log that was deleted into the file: it is open here, and gone with this process. Then this connection is of no use any more.

        DURABILITY: until all of it is in the file nothing more is committed, for that would be lost with it.
        """
        busy, _, _ = self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreUnavailable(
                f"the log {log_of(self.file)} was deleted: it is brought into the file as soon as nobody reads",
                "locked",
            )
        log.error("store.log_was_deleted", log=str(log_of(self.file)), lost="nothing: it was still open")
        if self.on_saved is not None:
            self.on_saved()

    def savepoint(self) -> None:
        """Begin a part."""
        self.execute("SAVEPOINT part")

    def release(self) -> None:
        """Keep it."""
        self.execute("RELEASE part")

    def undo_savepoint(self) -> None:
        """Undo it."""
        self.execute("ROLLBACK TO part")
        self.execute("RELEASE part")

    def rollback(self) -> None:
        """Undo what isn't committed."""
        if self.in_transaction:
            self.execute("ROLLBACK")

    def finish(self) -> None:
        """Write the log into the file and close."""
        # A reader elsewhere may hold it: the WAL is as durable as the file.
        with contextlib.suppress(sqlite3.Error):
            self.execute("PRAGMA optimize")
            self.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.close()

    def hasten(self) -> None:
        """Do nothing: a file's commits are all durable."""

    def lock_epochs(self, keys: Sequence[tuple[str, bytes]], new: Sequence[str]) -> None:
        """Lock nothing: there is one writer."""

    def place(self, table: str, time_ns: int) -> None:
        """Do nothing: a table takes all times."""

    def drop_places(self, table: str, before_ns: int) -> int:
        """Delete nothing: it has no parts."""
        del table, before_ns
        return 0

    def schema_steps(self) -> tuple[list[str], list[str]]:
        """Name the steps that were applied, and those known here."""
        made = self.execute("SELECT 1 FROM sqlite_master WHERE name = '_sqlite_migrations'").fetchone()
        rows = self.execute("SELECT name FROM _sqlite_migrations ORDER BY name") if made else ()
        return [row[0] for row in rows], list(scripts())

    def schema(self) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
        """Return tables and their columns: what the applied steps make of an empty database, and what is there."""
        applied, known = self.schema_steps()
        return _made(tuple(name for name in known if name in applied)), _tables(self)

    def columns(self, table: str) -> list[str]:
        """Name a table's columns."""
        return [row[1] for row in self.execute(f'PRAGMA table_info("{table}")')]

    def continue_ids(self, newest_commit: int) -> None:
        """Have commits begin behind this number; SQLite counts other ids on from the rows."""
        self.execute("DELETE FROM sqlite_sequence WHERE name = 'batch'")
        self.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('batch', ?)", (newest_commit,))

    def newest_commit(self) -> int:
        """Return the newest commit's number."""
        row = self.execute("SELECT seq FROM sqlite_sequence WHERE name = 'batch'").fetchone()
        return 0 if row is None else int(row[0])

    def next_commit(self) -> int | None:
        """Let the table count: one process writes, in the order of the numbers."""
        return None

    def settled(self) -> int:
        """Return more than there can be: a snapshot has all that was committed."""
        return ALL

    def holder(self) -> str:
        """Name nobody: nothing is held back."""
        return ""

    def event_ids(self, count: int) -> I64:
        """Return so many new ids."""
        (last,) = self.execute("SELECT coalesce(max(id), 0) FROM event").fetchone()
        return np.arange(last + 1, last + 1 + count, dtype=np.int64)

    def broken(self, error: Exception) -> StoreError | None:
        """Return nothing: new numbers follow from the rows."""
        del error
        return None

    def index_events(self, rows: Sequence[tuple[int, str, str, str]]) -> None:
        """Enter events into the full-text index."""
        self.executemany("INSERT INTO event_text (rowid, source, body, attributes) VALUES (?, ?, ?, ?)", rows)

    def forget_events(self, rows: Sequence[tuple[int, str, str, str]]) -> None:
        """Take events out of it: an external-content index needs the old text."""
        self.executemany(
            "INSERT INTO event_text (event_text, rowid, source, body, attributes) VALUES ('delete', ?, ?, ?, ?)",
            rows,
        )

    def events_with(self, text: str) -> tuple[str, Any] | None:
        """Return the condition for what a person typed: nothing in it is an operator of FTS5."""
        words = ['"' + word.replace('"', '""') + '"' for word in text.split() if any(map(str.isalnum, word))]
        if not words:
            return None
        found = "event.id IN (SELECT rowid FROM event_text WHERE event_text MATCH ?)"
        return found, " ".join(words) + "*"

    def matching(self, pattern: str, table: str, column: str, label: str = "") -> tuple[str, Any]:
        """Return the condition for a regular expression: a function of ours, called for each row."""
        del table, label
        return f"full_match(?, {column})", pattern

    def put_samples(self, series: I64, times: I64, values: F64, flags: U8) -> None:
        """Insert rows in the table's order. Equal times get numbers: where some are there already, the next ones."""
        order = np.lexsort((times, series))
        series, times, at = series[order], times[order], np.arange(len(order))
        first = np.append(True, (series[1:] != series[:-1]) | (times[1:] != times[:-1]))
        rank = at - np.maximum.accumulate(np.where(first, at, 0))
        columns = (series, times, rank, values[order], flags[order])
        rows = list(zip(*(column.tolist() for column in columns), strict=True))
        self.execute("SAVEPOINT rows_at_once")
        try:
            self.executemany(_PUT, rows)
        except sqlite3.IntegrityError:
            self.execute("ROLLBACK TO rows_at_once")
            self.executemany(_PUT_BESIDE, rows)
        self.execute("RELEASE rows_at_once")

    def forget_samples(self, before_ns: int, after: int, limit: int) -> tuple[int, int | None]:
        """Delete series by series: a series' oldest rows lie together."""
        gone = 0
        for _ in range(_SERIES_AT_ONCE):
            (series,) = self.execute(
                "SELECT min(series_id) FROM sample WHERE series_id > ?", (after,)
            ).fetchone()
            if series is None:
                return gone, None
            last = self.execute(
                "SELECT time_ns FROM sample WHERE series_id = ? AND time_ns < ? ORDER BY time_ns LIMIT 1 OFFSET ?",
                (series, before_ns, max(0, limit - gone - 1)),
            ).fetchone()
            upto = before_ns - 1 if last is None else last[0]
            gone += self.execute(
                "DELETE FROM sample WHERE series_id = ? AND time_ns <= ?", (series, upto)
            ).rowcount
            if gone >= limit:
                break
            after = series
        return gone, after

    def lock_rollups(self) -> None:
        """Do nothing: there is one writer."""

    def tidy(self) -> bool:
        """Give free pages back to the file system, some at a time."""
        self.execute("PRAGMA incremental_vacuum(500)").fetchall()
        return bool(self.execute("PRAGMA freelist_count").fetchone()[0])

    def bytes_on_disk(self) -> int:
        """Measure the file and its log."""
        files = (self.file, log_of(self.file))
        return sum(file.stat().st_size for file in files if file.exists())

    def faults(self) -> list[str]:
        """Run SQLite's own checks."""
        found = [f"SQLite: {row[0]}" for row in self.execute("PRAGMA integrity_check") if row[0] != "ok"]
        return found + [
            f"foreign key: a row of {row[0]} points to nothing in {row[2]}"
            for row in self.execute("PRAGMA foreign_key_check")
        ]

    def add_functions(self) -> None:
        """Add the function that regular expressions in matchers need."""

        def full_match(pattern: str, value: str | None) -> bool:
            return regex(pattern).matches(value or "")

        self.create_function("full_match", 2, full_match, deterministic=True)


@lru_cache(1)
def _made(steps: tuple[str, ...]) -> dict[str, set[str]]:
    """Name the tables and columns that schema steps make of an empty database. Nobody changes what is returned."""
    known = scripts()
    empty = sqlite3.connect(":memory:")
    try:
        for name in steps:
            empty.executescript(known[name])
        return _tables(empty)
    finally:
        empty.close()


def _tables(connection: sqlite3.Connection) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for table, column in connection.execute(_TABLES):
        found.setdefault(table, set()).add(column)
    return found


def identity_of(file: Path) -> tuple[int, int] | None:
    """Return a file's device and number; None when there is no such file."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
