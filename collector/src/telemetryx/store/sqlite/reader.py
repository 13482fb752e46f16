"""A SQLite connection that reads, and whose statements end: SQLite has no time limit of its own.

The time is that of one statement, as with PostgreSQL; of one that streams, that of each row. Looking at the clock costs nothing that shows: it is
done once in so many steps of SQLite's machine.
"""

import math
import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from telemetryx.store.sqlite.database import SqliteDatabase

_STEPS: Final = 100_000
"""Steps of the machine between two looks at the clock: about a millisecond."""


class Timed(sqlite3.Cursor):
    """A cursor of a connection that reads."""

    connection: "SqliteReader"

    def execute(self, statement: str, parameters: Any = (), /) -> "Timed":  # noqa: ANN401 - as sqlite3 has it
        """Run a statement; its time begins."""
        self.connection.begin_time()
        super().execute(statement, parameters)
        return self


class SqliteReader(SqliteDatabase):
    """`connection.py` opens it."""

    _seconds = math.inf
    _until = math.inf

    def limit(self, seconds: float) -> None:
        """End a statement that takes longer (sqlite3.OperationalError, SQLITE_INTERRUPT)."""
        self._seconds = seconds
        self.set_progress_handler(self._over, _STEPS)

    def _over(self) -> int:
        return time.monotonic() > self._until

    def begin_time(self) -> None:
        """Begin the time of a statement."""
        self._until = time.monotonic() + self._seconds

    def cursor(self, factory: Any = Timed) -> Any:  # noqa: ANN401 - as sqlite3 has it
        """Make a cursor whose statements end too."""
        return super().cursor(factory)

    def execute(self, statement: str, parameters: Any = (), /) -> Any:  # noqa: ANN401 - as sqlite3 has it
        """Run a statement; its time begins."""
        self.begin_time()
        return super().execute(statement, parameters)

    def stream(self, statement: str, parameters: Sequence[Any] = (), /) -> Iterable[Any]:
        """Run a query; with each row its time begins anew, for whoever takes them may take his time."""
        for row in self.execute(statement, parameters):
            yield row
            self.begin_time()
