"""How PostgreSQL's connections are opened and what its errors mean: what `store/tables` asks of an engine.

DURABILITY: the writing session sets synchronous_commit=on, whatever the server's default is; an acknowledgement that leaves
after COMMIT speaks of data in the server's WAL on disk (and on its synchronous standbys, where it has some).

Several collectors write. Each writing session holds a lock that they share: a copy or a restore takes it alone, and so did
collectors of before, which were one to a database.
"""

import asyncio
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg

from telemetryx.errors import SchemaBroken, StoreDamaged, StoreError, StoreUnavailable, unread
from telemetryx.store.postgres.database import PostgresDatabase
from telemetryx.store.tables import reals
from telemetryx.types import F64

CONNECT_S: Final = 5.0
WRITE_S: Final = 30.0
"""A statement of the writer that takes longer is given up, and its connection with it."""
READ_S: Final = 60.0
CHECK_S: Final = 3_600.0
"""The same for commands that look at everything."""
WRITER_LOCK: Final = 0x54454C58_0001
MIGRATION_LOCK: Final = 0x54454C58_0002
TAKEOVER_S: Final = 15.0
"""How long a starting collector waits for who holds the database alone: its session may have been killed."""

_COMMON: Final = {
    "application_name": "telemetryx",
    "jit": "off",
    "TimeZone": "UTC",
    # A peer that vanished without a word is noticed within half a minute, so that its locks are free.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "client_connection_check_interval": "5s",
}
_WRITER: Final = {
    "synchronous_commit": "on",
    "lock_timeout": "5s",
    # Who is cut off in the middle of a transaction keeps the others from its agents and leases no longer than this.
    "idle_in_transaction_session_timeout": "10s",
}
_READER: Final = {"default_transaction_read_only": "on", "idle_in_transaction_session_timeout": "600s"}

_REASONS: Final[tuple[tuple[type[Exception], str, str], ...]] = (
    (asyncpg.DiskFullError, "full", "the server's disk is full: free space there"),
    (asyncpg.TooManyConnectionsError, "locked", "raise max_connections of the server, or lower [store] readers"),
    (asyncpg.InsufficientResourcesError, "full", "the server is short of memory or disk"),
    (asyncpg.ReadOnlySQLTransactionError, "read_only", "the server is a standby or read-only: name the primary in [store] url"),
    (asyncpg.InsufficientPrivilegeError, "read_only", "the user lacks rights: it should own the database"),
    (asyncpg.LockNotAvailableError, "locked", "another session holds a lock on the tables"),
    (asyncpg.DeadlockDetectedError, "conflict", "another session was in the way"),
    (asyncpg.SerializationError, "conflict", "another session was in the way"),
    (asyncpg.QueryCanceledError, "locked", "the server took too long, or somebody cancelled it"),
    (asyncpg.InvalidCatalogNameError, "io", "create the database, or correct its name in [store] url"),
    (asyncpg.InvalidAuthorizationSpecificationError, "io", "correct the user in [store] url and the password in password_file"),
    (asyncpg.OperatorInterventionError, "io", "the server is starting, stopping or was told to end this session"),
    (asyncpg.PostgresConnectionError, "io", "the connection to the server was lost"),
)  # fmt: skip
_LACKS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (asyncpg.UndefinedTableError, "lacks a table"),
    (asyncpg.UndefinedColumnError, "lacks a column"),
    (asyncpg.InvalidColumnReferenceError, "lacks a key"),
    (asyncpg.UndefinedFunctionError, "has a column of another type"),
    (asyncpg.DatatypeMismatchError, "has a column of another type"),
)
_DAMAGED: Final[tuple[tuple[type[Exception], str], ...]] = (
    (asyncpg.DataCorruptedError, "is damaged: restore a backup"),
    (asyncpg.IndexCorruptedError, "has a damaged index: run REINDEX DATABASE"),
)
_LINK: Final = (
    "the server can't be reached, or the connection to it broke; check [store] url, and that it runs"
)


@dataclass(frozen=True, slots=True)
class PostgresEngine:
    """One database. The password is read from its file at each connection, and stands in no message."""

    url: str
    password_file: Path | None = None
    read_s: float = READ_S
    """How long a statement of a reader may take."""

    @property
    def where(self) -> str:
        """Name the database for people."""
        parts = urlsplit(self.url)
        return f"{parts.hostname or 'the local socket'}{f':{parts.port}' if parts.port else ''}{parts.path}"

    def open_writer(self) -> PostgresDatabase:
        """Open a connection that writes beside others."""
        database = self.open(_WRITER, WRITE_S)
        try:
            self.lock(database)
        except BaseException:
            database.close()
            raise
        return database

    def open_alone(self) -> PostgresDatabase:
        """Open a connection that writes, and keep collectors away: for who fills the whole database."""
        database = self.open({**_WRITER, "idle_in_transaction_session_timeout": "600s"}, CHECK_S)
        try:
            self.lock(database, "")
        except BaseException:
            database.close()
            raise
        return database

    def lock(self, database: PostgresDatabase, share: str = "_shared") -> None:
        """Take the writers' lock, with the others or alone."""
        end = time.monotonic() + TAKEOVER_S
        while not database.execute(f"SELECT pg_try_advisory_lock{share}(?)", (WRITER_LOCK,)).fetchone()[0]:
            if time.monotonic() > end:
                who = (
                    "a collector of an older version, a copy or a restore writes"
                    if share
                    else "a collector writes"
                )
                raise StoreUnavailable(
                    f"{who} to the database {self.where}: stop it, or name another database in [store] url",
                    "locked",
                )
            time.sleep(0.2)

    def try_write(self, size: int = 0) -> None:
        """Make a table with something in it, and undo that."""
        database = self.open(_WRITER, WRITE_S)
        try:
            database.begin()
            database.execute("CREATE TABLE write_check (x TEXT)")
            rows = min(max(64, size // 1000), 8_000)
            database.execute(
                "INSERT INTO write_check SELECT repeat('x', 1000) FROM generate_series(1, CAST(? AS INT))",
                (rows,),
            )
            database.rollback()
        except Exception as error:
            raise self.translate(error) or error from error
        finally:
            database.close()

    def open_reader(self) -> PostgresDatabase:
        """Open one that only reads."""
        return self.open(_READER, self.read_s)

    def reading_for(self, seconds: float) -> "PostgresEngine":
        """Return it with another limit for a reader's statements."""
        return replace(self, read_s=seconds)

    def open(self, settings: dict[str, str], timeout_s: float) -> PostgresDatabase:
        """Open a connection on a loop of its own."""
        loop = asyncio.new_event_loop()
        try:
            connection = loop.run_until_complete(self.connect(settings, timeout_s))
        except Exception as error:
            loop.close()
            raise self.translate(error) or error from error
        except BaseException:
            loop.close()
            raise
        return PostgresDatabase(loop, connection)

    async def connect(self, settings: dict[str, str] | None = None, timeout_s: float = WRITE_S) -> Any:  # noqa: ANN401 - asyncpg is untyped
        """Open a connection on the loop that runs."""
        return await asyncpg.connect(
            self.url,
            password=self._password(),
            timeout=CONNECT_S,
            command_timeout=timeout_s,
            statement_cache_size=200,
            server_settings={**_COMMON, **(settings or {})},
        )

    def _password(self) -> str | None:
        if self.password_file is None:
            return None
        try:
            return self.password_file.read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise StoreUnavailable(
                f"the password file {self.password_file} can't be read: {unread(error)}", "io"
            ) from error

    def reals(self, column: F64) -> list[Any]:
        """Return a column's values as its tables keep them."""
        return reals.plain(column)

    def translate(self, error: Exception) -> StoreError | None:
        """Say in our words what PostgreSQL, asyncpg and the network say in theirs."""
        where, said = f"the database {self.where}", str(error) or type(error).__name__
        ours: StoreError | None = error if isinstance(error, StoreError) else None
        if lacks := next((says for kind, says in _LACKS if isinstance(error, kind)), None):
            ours = SchemaBroken(
                f"{where} {lacks}: see that the schema with its tables is in the user's search_path; if they are gone, restore a "
                f"backup into an empty database and name that ({said})"
            )
        elif found := next((says for kind, says in _DAMAGED if isinstance(error, kind)), None):
            ours = StoreDamaged(f"{where} {found} ({said})")
        elif why := next((row[1:] for row in _REASONS if isinstance(error, row[0])), None):
            ours = StoreUnavailable(f"{where} can't be used now: {said}; {why[1]}", why[0])
        elif isinstance(error, TimeoutError):
            ours = StoreUnavailable(f"{where} didn't answer in time", "io")
        elif isinstance(error, OSError | asyncpg.InternalClientError) or _broken(error):
            ours = StoreUnavailable(f"{where} can't be used now: {said}; {_LINK}", "io")
        elif isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):
            ours = StoreError(f"{where} refused: {said}")
        return ours


def _broken(error: Exception) -> bool:
    """Whether asyncpg says that there is no connection (and not that an argument is wrong)."""
    return isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError)
