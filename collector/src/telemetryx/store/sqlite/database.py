"""A SQLite connection as `store/tables` uses it: sqlite3's own, with what only SQLite does added."""

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from telemetryx.store import selector
from telemetryx.store.migrations import scripts
from telemetryx.types import I64

_COMPILED: Final = 256
"""Regular expressions that a connection keeps: a few queries' worth."""


class SqliteDatabase(sqlite3.Connection):
    """A connection to one file; `connection.py` opens it."""

    site_of_labels = "json_extract(labels, '$.site')"
    values_of_labels = "json_each(agent.labels)"
    same_labels = "labels = ?3"
    index_of_group = '"group"'
    same_group = '"group" = ?2'
    refusals: tuple[type[Exception], ...] = (
        sqlite3.IntegrityError,
        sqlite3.DataError,
        OverflowError,
        UnicodeError,
    )
    file: Path

    @property
    def alive(self) -> bool:
        """Whether it can be used: a file's connection doesn't break by itself."""
        return True

    def stream(self, statement: str, parameters: Sequence[Any] = (), /) -> Iterable[Any]:
        """Run a query: SQLite computes each row when it is asked for."""
        return self.execute(statement, parameters)

    def begin(self) -> None:
        """Begin a transaction that writes."""
        self.execute("BEGIN IMMEDIATE")

    def begin_snapshot(self) -> None:
        """Begin a transaction that reads."""
        self.execute("BEGIN")

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

    def lock_epochs(self, keys: Sequence[tuple[str, bytes]]) -> None:
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

    def event_ids(self, count: int) -> I64:
        """Return so many new ids."""
        (last,) = self.execute("SELECT coalesce(max(id), 0) FROM event").fetchone()
        return np.arange(last + 1, last + 1 + count, dtype=np.int64)

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

    def tidy(self) -> None:
        """Give free pages back to the file system, some at a time."""
        self.execute("PRAGMA incremental_vacuum(2000)").fetchall()

    def bytes_on_disk(self) -> int:
        """Measure the file and its log."""
        files = (self.file, self.file.with_name(self.file.name + "-wal"))
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
        compiled: dict[str, Callable[[str], re.Match[str] | None]] = {}

        def full_match(pattern: str, value: str | None) -> bool:
            if pattern not in compiled:
                if len(compiled) > _COMPILED:
                    compiled.clear()
                compiled[pattern] = selector.regex(pattern).fullmatch
            return compiled[pattern](value or "") is not None

        self.create_function("full_match", 2, full_match, deterministic=True)
