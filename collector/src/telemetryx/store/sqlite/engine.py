"""How SQLite's connections are opened and what its errors mean: what `store/tables` asks of an engine."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from telemetryx.errors import StoreError
from telemetryx.store.sqlite import connection
from telemetryx.store.sqlite.database import SqliteDatabase


@dataclass(frozen=True, slots=True)
class SqliteEngine:
    """One file."""

    path: Path

    def open_writer(self) -> SqliteDatabase:
        """Open the connection that writes."""
        return connection.open_writer(self.path)

    def open_reader(self) -> SqliteDatabase:
        """Open one that only reads."""
        return connection.open_reader(self.path)

    def translate(self, error: Exception) -> StoreError | None:
        """Say in our words what SQLite says in its own."""
        return connection.translate(error) if isinstance(error, sqlite3.Error) else None
