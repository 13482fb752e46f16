"""How SQLite's connections are opened and what its errors mean: what `store/tables` asks of an engine."""

import errno
import os
import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from telemetryx.errors import StoreError, StoreUnavailable
from telemetryx.store.sqlite import connection
from telemetryx.store.sqlite.database import SqliteDatabase, identity_of
from telemetryx.store.tables import reals
from telemetryx.types import F64

READ_S: Final = 60.0
"""As with PostgreSQL."""
CHECK_S: Final = 3_600.0
"""The same for commands that look at everything."""
_TRIED: Final = 1 << 16
"""Bytes that a trial writes, at least,"""
MOST_TRIED: Final = 8 << 20
"""and at most."""


@dataclass(frozen=True, slots=True)
class SqliteEngine:
    """One file."""

    path: Path
    opened_as: tuple[int, int] | None = None
    """Device and number of the file that a collector began with: it works on no other one."""
    read_s: float = READ_S
    """How long a statement of a reader may take."""
    saved: list[int] = field(default_factory=list, compare=False)
    """When a log that was deleted was brought into the file."""

    def open_writer(self) -> SqliteDatabase:
        """Open the connection that writes."""
        self._must_be_the_same()
        writer = connection.open_writer(self.path, create=self.opened_as is None)
        writer.on_saved = lambda: self.saved.append(time.time_ns())
        return writer

    def open_reader(self) -> SqliteDatabase:
        """Open one that only reads."""
        self._must_be_the_same()
        return connection.open_reader(self.path, self.read_s)

    def reading_for(self, seconds: float) -> "SqliteEngine":
        """Return it with another limit for a reader's statements."""
        return replace(self, read_s=seconds)

    def _must_be_the_same(self) -> None:
        """Refuse a file that came since: what is remembered of the store (ids of series, epochs) isn't true of it, and it may be empty."""
        if self.opened_as is None or (found := identity_of(self.path)) == self.opened_as:
            return
        if found is None:
            raise StoreUnavailable(
                f"the file {self.path} was moved or deleted while the collector ran: put it back; after a restart the collector would "
                "begin with an empty one",
                "io",
            )
        raise StoreUnavailable(
            f"another file came in the place of {self.path} while the collector ran: restart the collector to work on it, "
            "or put the former one back",
            "io",
        )

    def try_write(self, size: int = 0) -> None:
        """Make a file durable beside the store's and delete it, as its log grows; begin a transaction in the store, and undo it."""
        try:
            with tempfile.TemporaryFile(dir=self.path.parent) as file:
                file.write(bytes(min(max(size, _TRIED), MOST_TRIED)))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            why = "the disk is full: free space" if full else "check owner, mode and mount of its folder"
            raise StoreUnavailable(
                f"nothing can be written beside it: {error.strerror or error}; {why}",
                "full" if full else "read_only",
            ) from error
        self._must_be_the_same()
        uri = f"{self.path.absolute().as_uri()}?mode=rw"
        with connection.translated(), closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as tried:
            tried.execute(f"PRAGMA busy_timeout = {connection.BUSY_MS}")
            try:
                tried.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                return  # somebody writes: it can be written
            tried.execute("CREATE TABLE write_check (x)")
            tried.execute("ROLLBACK")

    def reals(self, column: F64) -> list[Any]:
        """Return a column's values as its tables keep them."""
        return reals.marked(column)

    def translate(self, error: Exception) -> StoreError | None:
        """Say in our words what SQLite says in its own."""
        return connection.translate(error) if isinstance(error, sqlite3.Error) else None
