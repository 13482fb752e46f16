"""A PostgreSQL connection as `store/tables` uses it: asyncpg on an event loop of its own, run by the thread that asks.

The store's work is plain functions in threads (writer, readers, planner), each with a connection of its own; a loop for each
keeps asyncpg's protocol, prepared statements and timeouts without a hop to another thread. Nothing else runs on these loops.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import asyncpg
import numpy as np

from telemetryx.store import selector
from telemetryx.store.migrations import scripts
from telemetryx.store.postgres import places, words
from telemetryx.store.postgres.statements import plain, translated
from telemetryx.types import I64

T = TypeVar("T")

_AT_ONCE: Final = 64
"""Rows of a stream that are in memory."""
_LOCK_EPOCHS: Final = (
    "SELECT epoch.id FROM epoch JOIN agent ON agent.id = agent_id "
    "JOIN unnest($1::text[], $2::bytea[]) AS wanted(agent, epoch) ON agent.name = wanted.agent "
    "AND epoch.epoch = wanted.epoch ORDER BY agent.name, epoch.epoch FOR UPDATE OF epoch"
)
_VALUES: Final = {
    "series": "SELECT DISTINCT name FROM series",
    "agent": "SELECT name FROM agent",
    "series_label": "SELECT DISTINCT value FROM series_label WHERE name = ?",
}
_BROKEN: Final = (OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.InternalClientError)


class Rows:
    """What a statement gave; all of it is here."""

    __slots__ = ("_left", "rowcount")

    def __init__(self, rows: Sequence[Any], rowcount: int) -> None:
        """Take the rows, and how many the statement changed or gave."""
        self._left = iter(rows)
        self.rowcount = rowcount

    def fetchone(self) -> Any:  # noqa: ANN401 - a row
        """Return the next row, or None."""
        return next(self._left, None)

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        return list(self._left)

    def __iter__(self) -> Iterator[Any]:
        """Give the rows one by one."""
        return self._left


class PostgresDatabase:
    """A connection to one database; `engine.py` opens it."""

    # JSON that says NUL can't be taken apart there, and one agent's label mustn't fail the list of all.
    site_of_labels = r"(replace(labels, '\u0000', '\u2400')::json ->> 'site')"
    values_of_labels = r"json_each_text(replace(agent.labels, '\u0000', '\u2400')::json)"
    same_labels = "md5(labels) = md5(?3) AND labels = ?3"
    index_of_group = 'md5("group")'
    same_group = 'md5("group") = md5(?2) AND "group" = ?2'
    refusals: tuple[type[Exception], ...] = (
        asyncpg.IntegrityConstraintViolationError,
        asyncpg.DataError,
        asyncpg.exceptions.DataError,
        asyncpg.ProgramLimitExceededError,
        OverflowError,
        UnicodeError,
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Any) -> None:  # noqa: ANN401 - asyncpg is untyped
        """Take a connection and the loop that it was made on."""
        self._loop = loop
        self._connection = connection
        self._broken = False
        self._kept_part = False
        self._places = places.Places(self)

    @property
    def alive(self) -> bool:
        """Whether it can be used: not when the server or the way to it is gone, and not after a timeout."""
        return not self._broken and not self._connection.is_closed()

    def execute(self, statement: str, parameters: Any = (), /) -> Rows:  # noqa: ANN401 - a sequence or a mapping
        """Run a statement. Texts and their plans are kept by asyncpg, per connection."""
        ready = translated(statement)
        arguments = ready.arguments(parameters)
        if ready.gives:
            rows = self.run(self._connection.fetch(ready.text, *arguments))
            return Rows([tuple(row) for row in rows], len(rows))
        if statement.startswith("ROLLBACK TO"):
            self._places.undone()
        status: str = self.run(self._connection.execute(ready.text, *arguments))
        last = status.rpartition(" ")[2]
        return Rows((), int(last) if last.isdigit() else -1)

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]], /) -> None:
        """Run a statement for each row, all in one go: asyncpg sends them without waiting for answers."""
        given = [tuple(map(plain, row)) for row in rows]
        if given:
            self.run(self._connection.executemany(translated(statement).text, given))

    def script(self, text: str) -> None:
        """Run several statements without parameters."""
        self.run(self._connection.execute(text))

    def stream(self, statement: str, parameters: Sequence[Any] = (), /) -> Iterator[Any]:
        """Run a query through a cursor of the server's."""
        ready = translated(statement)
        cursor = self.run(_opened(self._connection, ready.text, ready.arguments(parameters)))
        while rows := self.run(cursor.fetch(_AT_ONCE)):
            yield from (tuple(row) for row in rows)

    def begin(self) -> None:
        """Begin a transaction that writes."""
        self.run(self._connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"))

    def begin_snapshot(self) -> None:
        """Begin a transaction that reads."""
        self.run(self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"))

    def commit(self) -> None:
        """Make it durable. DURABILITY: synchronous_commit is on (engine.py), so COMMIT returns after the WAL's fsync.

        When the connection is lost in the middle nobody knows whether it was committed. It counts as not: the agents send
        again, and the dedup ledger knows.
        """
        self._kept_part = False
        self.run(self._connection.execute("COMMIT"))
        self._places.kept()

    def savepoint(self) -> None:
        """Begin a part, in one round trip with the release of the one before."""
        self.script("RELEASE part; SAVEPOINT part" if self._kept_part else "SAVEPOINT part")
        self._kept_part = False

    def release(self) -> None:
        """Keep it: said to the server with what comes next, the next part or the commit."""
        self._kept_part = True

    def undo_savepoint(self) -> None:
        """Undo it."""
        self._places.undone()
        self.script("ROLLBACK TO part; RELEASE part")

    def rollback(self) -> None:
        """Undo what isn't committed."""
        self._kept_part = False
        self._places.undone()
        if self.alive and self._connection.is_in_transaction():
            self.run(self._connection.execute("ROLLBACK"))

    def close(self) -> None:
        """Close at once: the server undoes what is open."""
        if self._loop.is_closed():
            return
        self._connection.terminate()
        self._end_loop()

    def finish(self) -> None:
        """Say goodbye and close."""
        with contextlib.suppress(Exception):
            if self.alive:
                self.run(self._connection.close(timeout=2))
        self.close()

    def _end_loop(self) -> None:
        """Let the closed socket's callbacks run, then end the loop."""
        with contextlib.suppress(Exception):
            self._loop.run_until_complete(_settled())
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for asyncpg. A connection that can't be trusted afterwards is no longer alive."""
        if self._broken:
            work.close()
            raise ConnectionResetError("the connection was given up after an earlier failure")
        try:
            return self._loop.run_until_complete(work)
        except _BROKEN:
            self._broken = True
            raise
        except BaseException:
            self._broken = self._connection.is_closed()
            raise

    # --- what PostgreSQL does differently

    def lock_epochs(self, keys: Sequence[tuple[str, bytes]]) -> None:
        """Lock the rows of known epochs; new ones are guarded by their unique keys."""
        wanted = sorted({(plain(agent), epoch) for agent, epoch in keys})
        self.run(self._connection.fetch(_LOCK_EPOCHS, [key[0] for key in wanted], [key[1] for key in wanted]))

    def place(self, table: str, time_ns: int) -> None:
        """Make the partition for a time, when there is none."""
        self._places.make(table, time_ns)

    def drop_places(self, table: str, before_ns: int) -> int:
        """Drop partitions that are past as wholes; of batches only empty ones (what they hold isn't compacted)."""
        return self._places.drop(table, before_ns)

    def schema_steps(self) -> tuple[list[str], list[str]]:
        """Name the steps that were applied, and those known here."""
        made = self.execute("SELECT to_regclass('schema_step') IS NOT NULL").fetchone()[0]
        rows = self.execute("SELECT name FROM schema_step ORDER BY name") if made else ()
        return [row[0] for row in rows], list(scripts("telemetryx.store.postgres.migrations"))

    def columns(self, table: str) -> list[str]:
        """Name a table's columns."""
        rows = self.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema() "
            "AND table_name = ? ORDER BY ordinal_position",
            (table,),
        )
        return [row[0] for row in rows]

    def continue_ids(self, newest_commit: int) -> None:
        """Move every sequence behind the rows."""
        counted = self.execute(
            "SELECT table_name FROM information_schema.columns WHERE table_schema = current_schema() AND is_identity = 'YES'"
        ).fetchall()
        sequences = [(f"pg_get_serial_sequence('\"{table}\"', 'id')", table) for (table,) in counted]
        sequences += [("'chunk_id'", "chunk"), ("'event_id'", "event")]
        for name, table in sequences:
            self.execute(f'SELECT setval({name}, coalesce(max(id), 1), max(id) IS NOT NULL) FROM "{table}"')
        self.execute(
            "SELECT setval('batch_id', greatest(CAST(? AS BIGINT), 1), CAST(? AS BIGINT) > 0)",
            (newest_commit, newest_commit),
        )

    def newest_commit(self) -> int:
        """Return the newest commit's number, also when its batch is compacted."""
        row = self.execute(
            "SELECT greatest((SELECT coalesce(max(id), 0) FROM batch), "
            "coalesce((SELECT value FROM meta WHERE key = 'compacted'), 0))"
        ).fetchone()
        return int(row[0])

    def event_ids(self, count: int) -> I64:
        """Take ids from the sequence."""
        rows = self.run(
            self._connection.fetch("SELECT nextval('event_id') FROM generate_series(1, $1::bigint)", count)
        )
        return np.array([row[0] for row in rows], np.int64)

    def index_events(self, rows: Sequence[tuple[int, str, str, str]]) -> None:
        """Enter events' words."""
        self.executemany(
            "INSERT INTO event_words VALUES (?, array_to_tsvector(CAST(? AS TEXT[])))",
            [(number, words.lexemes(texts)) for number, *texts in rows],
        )

    def forget_events(self, rows: Sequence[tuple[int, str, str, str]]) -> None:
        """Take their words out."""
        self.execute("DELETE FROM event_words WHERE event_id = ANY(?)", ([row[0] for row in rows],))

    def events_with(self, text: str) -> tuple[str, Any] | None:
        """Return the condition for what a person typed."""
        wanted = words.query(text)
        if not wanted:
            return None
        found = (
            "event.id IN (SELECT event_id FROM event_words WHERE words @@ CAST(CAST(? AS TEXT) AS TSQUERY))"
        )
        return found, wanted

    def matching(self, pattern: str, table: str, column: str, label: str = "") -> tuple[str, Any]:
        """Return the condition for a regular expression: the values that meet it, chosen here.

        PostgreSQL's own expressions are of another kind, and rules and selectors must agree on every store.
        """
        fits = selector.regex(pattern).fullmatch
        rows = self.execute(_VALUES[table], (label,) if table == "series_label" else ())
        return f"{column} = ANY(?)", [row[0] for row in rows if fits(row[0])]

    def tidy(self) -> None:
        """Leave it to autovacuum."""

    def bytes_on_disk(self) -> int:
        """Measure the database: tables, indexes and what it came with (about 8 MB)."""
        return int(self.execute("SELECT pg_database_size(current_database())").fetchone()[0])

    def faults(self) -> list[str]:
        """Look for what PostgreSQL says of itself: indexes that it doesn't trust."""
        rows = self.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")
        return [f"PostgreSQL: index {row[0]} isn't valid; run REINDEX" for row in rows]


async def _opened(connection: Any, text: str, arguments: Sequence[Any]) -> Any:  # noqa: ANN401 - asyncpg is untyped
    return await connection.cursor(text, *arguments)


async def _settled() -> None:
    """End what asyncpg left running (a cancellation under way), and let closed sockets go."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    for _ in range(3):
        await asyncio.sleep(0)
