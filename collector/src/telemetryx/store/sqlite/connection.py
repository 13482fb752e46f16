"""Opening the file: pragmas, whose file it is, and what SQLite's errors mean to us.

DURABILITY: WAL with synchronous=FULL fsyncs the log at each commit, before commit() returns; an acknowledgement that
leaves after commit() speaks of data on the disk. Upkeep alone commits with NORMAL (database.py, writer.py).
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from telemetryx.errors import SchemaBroken, StoreDamaged, StoreError, StoreUnavailable
from telemetryx.store.sqlite.database import SqliteDatabase
from telemetryx.store.sqlite.reader import SqliteReader

APPLICATION_ID: Final = 0x54454C58
"""`TELX`, in the file's header: we never write into somebody else's database."""
PAGE_SIZE: Final = 4096
"""A chunk of 4,096 samples has about 7 KB and spills: SQLite fills spilled pages to the end, so small pages waste least."""
CHECKPOINT_BYTES: Final = 8 << 20
"""A WAL larger than this is written into the file, beside the writer."""
BUSY_MS: Final = 2_000

_REASONS: Final = {
    sqlite3.SQLITE_BUSY: ("locked", "another program holds the database: close it, or wait"),
    sqlite3.SQLITE_LOCKED: ("locked", "another program holds the database: close it, or wait"),
    sqlite3.SQLITE_FULL: ("full", "the disk (or the database's page limit) is full: free space"),
    sqlite3.SQLITE_READONLY: (
        "read_only",
        "the file or its folder can't be written: check owner, mode and mount",
    ),
    sqlite3.SQLITE_PERM: (
        "read_only",
        "the file or its folder can't be written: check owner, mode and mount",
    ),
    sqlite3.SQLITE_IOERR: ("io", "the disk refused to read or write: check it"),
    sqlite3.SQLITE_CANTOPEN: ("io", "the file can't be opened: check that its folder exists and who owns it"),
    sqlite3.SQLITE_NOMEM: ("io", "memory is short"),
    sqlite3.SQLITE_INTERRUPT: (
        "locked",
        "a statement took longer than it may, so it was ended: ask for a shorter time or fewer series",
    ),
}
_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_CHANGED: Final = (
    "no such table",
    "no such column",
    "has no column",
    "values were supplied",
    "ON CONFLICT clause does not match",
)
"""What SQLite says, under one number with much else, of tables that aren't as the schema's steps made them."""


def translate(error: sqlite3.Error) -> StoreError:
    """Say in our words what SQLite says in its own."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code in _DAMAGED:
        return StoreDamaged(
            f"the store's file is damaged: {error}; run `telemetryx store verify`, restore a copy"
        )
    if code in _REASONS:
        reason, remedy = _REASONS[code]
        return StoreUnavailable(f"the store can't be used now: {error}; {remedy}", reason)
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
        return StoreUnavailable("the store is closed", "closed")
    if any(words in str(error) for words in _CHANGED):
        return SchemaBroken(
            f"the store's file isn't as its schema has it: {error}; `telemetryx store check` names what is missing; restore a backup"
        )
    return StoreError(f"the store refused: {error}")


@contextmanager
def translated() -> Iterator[None]:
    """Turn SQLite's exceptions into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error) from error


def open_writer(path: Path, *, create: bool = True) -> SqliteDatabase:
    """Open the one connection that writes; creates the file, for its owner alone, unless it must be there."""
    if create:
        _make_private(path)
    with translated():
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
            factory=SqliteDatabase,
        )
        connection.file = path
        try:
            _claim(connection, path)
            connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            # The store's worker checkpoints (checkpoint() below); this is for a store without one, and for a starved one.
            connection.execute("PRAGMA wal_autocheckpoint = 16000")
            connection.execute("PRAGMA secure_delete = OFF")
            connection.execute("PRAGMA journal_size_limit = 67108864")
            connection.execute("PRAGMA cache_size = -8192")
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.began()
        except BaseException:
            connection.close()
            raise
    return connection


def _make_private(path: Path) -> None:
    """Make the file before SQLite does, which would let everybody read digests of passwords; its log and index take its mode over."""
    with suppress(OSError):  # what is wrong with the place, SQLite says in its own terms
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


def _claim(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse somebody else's file; set up a new one."""
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    if owner == APPLICATION_ID:
        return
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise StoreDamaged(
            f"{path} is a database of another program (application id {owner}): choose another path"
        )
    connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def open_reader(path: Path, seconds: float) -> SqliteReader:
    """Open a connection that only reads, and no statement for longer than this."""
    with translated():
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            factory=SqliteReader,
        )
        connection.file = path
        connection.limit(seconds)
        connection.add_functions()
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA cache_size = -4096")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.began()
    return connection


def checkpoint(path: Path) -> None:
    """Write the WAL into the file on a connection of its own, without making the writer or readers wait."""
    with translated():
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        finally:
            connection.close()
