"""A PostgreSQL connection as `store/tables` uses it: asyncpg on an event loop of its own, run by the thread that asks.

The store's work is plain functions in threads (writer, readers, planner), each with a connection of its own; a loop for each
keeps asyncpg's protocol, prepared statements and timeouts without a hop to another thread. Nothing else runs on these loops.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Final, TypeVar

import asyncpg
import numpy as np

from telemetryx.errors import StoreDamaged, StoreError, StoreUnavailable
from telemetryx.store.migrations import scripts
from telemetryx.store.postgres import numbering, places, rowcopy, schema, words
from telemetryx.store.postgres.statements import plain, translated
from telemetryx.store.regex import regex
from telemetryx.store.tables import reals
from telemetryx.types import F64, I64, U8

T = TypeVar("T")

_COLUMNS: Final = (
    "SELECT relname, attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid "
    "WHERE pg_table_is_visible(pg_class.oid) AND relkind IN ('r', 'p') AND NOT relispartition "
    "AND attnum > 0 AND NOT attisdropped"
)
"""Of the tables themselves: partitions have the same, and there are thousands. Those that a name leads to, in whichever schema of `search_path`."""
_AT_ONCE: Final = 64
"""Rows of a stream that are in memory."""
_ROWS_AT_ONCE: Final = 10_000
"""Plain rows that are deleted at once, at least."""
_LOCK_EPOCHS: Final = (
    "SELECT epoch.id FROM epoch JOIN agent ON agent.id = agent_id "
    "JOIN unnest($1::text[], $2::bytea[]) AS wanted(agent, epoch) ON agent.name = wanted.agent "
    "AND epoch.epoch = wanted.epoch ORDER BY agent.name, epoch.epoch FOR UPDATE OF epoch"
)
_LOCK_AGENTS: Final = "SELECT pg_advisory_xact_lock(number) FROM unnest($1::bigint[]) AS number"
_VALUES: Final = {
    "series": "SELECT DISTINCT name FROM series",
    "agent": "SELECT name FROM agent",
    "series_label": "SELECT DISTINCT value FROM series_label WHERE name = ?",
}
_KEYS_OF_CONTENT: Final = frozenset({"series_label_pkey"})
"""Keys of nothing but names and values of a batch's own: two that differ in NUL alone are one here."""
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
    shared = True
    now_ns = "CAST(extract(epoch FROM clock_timestamp()) * 1000000000 AS BIGINT)"
    for_share = " FOR SHARE"
    skip_locked = " FOR UPDATE SKIP LOCKED"
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
        self.ended: int | None = None
        self._in_snapshot = False
        self._meta: dict[str, int] | None = None
        self._types: dict[str, dict[str, str]] = {}
        self._places = places.Places(self)
        self._numbering = numbering.Numbering(self)

    @property
    def alive(self) -> bool:
        """Whether it can be used: not when the server or the way to it is gone, and not after a timeout."""
        return not self._broken and not self._connection.is_closed()

    @cached_property
    def moves_runs(self) -> bool:
        """Whether its schema knows runs on their way."""
        return bool(self.columns("moving"))

    def noted(self, key: str) -> int | None:
        """Look into `meta`. In a snapshot it stays as it is, and a range asks for five of its numbers, a round trip each."""
        if not self._in_snapshot:
            row = self.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
            return None if row is None else int(row[0])
        if self._meta is None:
            self._meta = {name: int(value) for name, value in self.execute("SELECT key, value FROM meta")}
        return self._meta.get(key)

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

    def insert_many(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], conflict: str = ""
    ) -> None:
        """Insert rows with COPY, or, where some may be there, from one array a column: a row costs no message of its own."""
        if not rows:
            return
        if not conflict:
            self.run(self._connection.copy_records_to_table(table, records=rows, columns=columns))
            return
        kinds = self._kinds(table)
        names = ", ".join(f'"{column}"' for column in columns)
        arrays = ", ".join(f"${at}::{kinds[column]}[]" for at, column in enumerate(columns, start=1))
        text = f'INSERT INTO "{table}" ({names}) SELECT * FROM unnest({arrays}) ON CONFLICT {conflict}'
        self.run(self._connection.execute(text, *zip(*rows, strict=True)))

    def replace_many(
        self, table: str, key: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int
    ) -> None:
        """Delete what is there, which is little as a rule, then COPY: that costs two thirds of ON CONFLICT.

        Rows that are one step apart are deleted as one range. To look for each of them costs the server as much as the COPY.
        """
        if not rows:
            return
        kinds = self._kinds(table)
        *others, last = key
        given = [*others, "first_one", "last_one"]
        arrays = ", ".join(
            f"${at}::{kinds[column]}[]" for at, column in enumerate([*others, last, last], start=1)
        )
        same = " AND ".join(f'"{table}"."{column}" = there."{column}"' for column in others)
        text = (
            f'DELETE FROM "{table}" USING unnest({arrays}) AS there({", ".join(given)}) '
            f'WHERE {same} AND "{table}"."{last}" BETWEEN there.first_one AND there.last_one'
        )
        self.run(self._connection.execute(text, *_ranges(rows, len(key), step)))
        self.insert_many(table, columns, rows)

    def find_many(
        self, table: str, key: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[int]]
    ) -> list[Any]:
        """Join the table with one array a column of the keys."""
        if not rows:
            return []
        there, same = self._keyed(table, key)
        names = ", ".join(f'"{table}"."{column}"' for column in columns)
        text = f'SELECT {names} FROM "{table}" JOIN {there} ON {same}'
        found = self.run(self._connection.fetch(text, *zip(*rows, strict=True)))
        return [tuple(row) for row in found]

    def _keyed(self, table: str, key: Sequence[str]) -> tuple[str, str]:
        """Return arrays of a key's columns as a table, and the condition that its rows are those of another."""
        kinds = self._kinds(table)
        names = ", ".join(f'"{column}"' for column in key)
        arrays = ", ".join(f"${at}::{kinds[column]}[]" for at, column in enumerate(key, start=1))
        same = " AND ".join(f'"{table}"."{column}" = there."{column}"' for column in key)
        return f"unnest({arrays}) AS there({names})", same

    def _kinds(self, table: str) -> dict[str, str]:
        """Name the types of a table's columns."""
        known = self._types.get(table)
        if known is None:
            rows = self.execute(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
                "WHERE attrelid = CAST(CAST(? AS TEXT) AS REGCLASS) AND attnum > 0 AND NOT attisdropped",
                (table,),
            )
            known = self._types[table] = {str(name): str(kind) for name, kind in rows}
        return known

    def among(self, column: str, ids: Sequence[int]) -> tuple[str, list[Any]]:
        """Return a condition on an array: one text, prepared once, for any count."""
        return f"{column} = ANY(?)", [list(ids)]

    def reals(self, column: F64) -> list[Any]:
        """Take every number as it is."""
        return reals.plain(column)

    def delete_many(self, table: str, ids: Sequence[int]) -> int:
        """Delete rows with one statement, whatever their number."""
        return self.execute(f'DELETE FROM "{table}" WHERE id = ANY(?)', (list(ids),)).rowcount if ids else 0

    def script(self, text: str) -> None:
        """Run several statements without parameters."""
        self.run(self._connection.execute(text))

    def stream(self, statement: str, parameters: Sequence[Any] = (), /) -> Iterator[Any]:
        """Run a query through a cursor of the server's."""
        ready = translated(statement)
        cursor, rows = self.run(_opened(self._connection, ready.text, ready.arguments(parameters)))
        yield from map(tuple, rows)
        while len(rows) == _AT_ONCE:
            rows = self.run(cursor.fetch(_AT_ONCE))
            yield from map(tuple, rows)

    def begin(self, *, durable: bool = True) -> None:
        """Begin a transaction that writes; not where the database says that it is read-only: READ WRITE would overrule that."""
        self.ended = None
        self._in_snapshot = False
        beginning = "BEGIN ISOLATION LEVEL READ COMMITTED"
        if not durable:
            beginning += "; SET LOCAL synchronous_commit = off"
        self.run(self._connection.execute(beginning))

    def harden(self) -> None:
        """Do nothing: a server whose fsync fails recovers from its log, up to the last durable commit at least."""

    def begin_snapshot(self) -> None:
        """Begin a transaction that reads."""
        self.ended = None
        self._in_snapshot, self._meta = True, None
        self.run(self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"))

    def commit(self) -> None:
        """Make it durable. DURABILITY: synchronous_commit is on (engine.py), so COMMIT returns after the WAL's fsync.

        When the connection is lost in the middle nobody knows whether it was committed. It counts as not: the agents send
        again, and the dedup ledger knows.
        """
        self._kept_part = self._in_snapshot = False
        self._numbering.ended()
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
        self._kept_part = self._in_snapshot = False
        self._places.undone()
        self._numbering.ended()
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
        except BaseException as error:
            self._broken = self._connection.is_closed()
            if isinstance(error, asyncpg.PostgresError) and self._places.missing(error):
                raise StoreUnavailable(
                    "another collector dropped a partition meanwhile", "conflict"
                ) from error
            raise

    # --- what PostgreSQL does differently

    def hasten(self) -> None:
        """Don't wait for the WAL's fsync."""
        self.script("SET LOCAL synchronous_commit = off")

    def lock_epochs(self, keys: Sequence[tuple[str, bytes]], new: Sequence[str]) -> None:
        """Lock the rows of known epochs, and before that the names of agents that may have new ones: no row is there yet."""
        if new:
            numbers = sorted(_number(agent) for agent in set(new))
            self.run(self._connection.fetch(_LOCK_AGENTS, numbers))
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

    def schema(self) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
        """Return tables and their columns: what the applied steps say, and what is there."""
        applied, _ = self.schema_steps()
        known = scripts("telemetryx.store.postgres.migrations")
        there: dict[str, set[str]] = {}
        for table, column in self.execute(_COLUMNS):
            there.setdefault(table, set()).add(column)
        return schema.tables(known[name] for name in applied if name in known), there

    def columns(self, table: str) -> list[str]:
        """Name a table's columns."""
        rows = self.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(quote_ident(CAST(? AS TEXT))) "
            "AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            (table,),
        )
        return [row[0] for row in rows]

    def continue_ids(self, newest_commit: int) -> None:
        """Move every sequence behind the rows."""
        counted = self.execute(
            "SELECT relname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid WHERE pg_table_is_visible(pg_class.oid) "
            "AND relkind IN ('r', 'p') AND NOT relispartition AND attidentity <> '' AND NOT attisdropped"
        ).fetchall()
        sequences = [(f"pg_get_serial_sequence('\"{table}\"', 'id')", table) for (table,) in counted]
        sequences += [("'chunk_id'", "chunk"), ("'event_id'", "event")]
        for name, table in sequences:
            self.execute(f'SELECT setval({name}, coalesce(max(id), 1), max(id) IS NOT NULL) FROM "{table}"')
        self.execute("INSERT INTO meta VALUES ('commit_base', 0) ON CONFLICT (key) DO NOTHING")
        numbering.keep_ascending(self, newest_commit)

    def newest_commit(self) -> int:
        """Return the newest commit's number, also when its batch is compacted."""
        row = self.execute(
            "SELECT greatest((SELECT coalesce(max(id), 0) FROM batch WHERE id < ?), "
            "coalesce((SELECT value FROM meta WHERE key = 'compacted'), 0))",
            (self.settled(),),
        ).fetchone()
        return int(row[0])

    def next_commit(self) -> int | None:
        """Return the transaction's next number."""
        return self._numbering.take()

    def settled(self) -> int:
        """Return the number that follows from the oldest transaction that is still open."""
        return self._numbering.bound()

    def holder(self) -> str:
        """Name the session whose transaction that is."""
        return numbering.holder(self)

    def event_ids(self, count: int) -> I64:
        """Take ids from the sequence."""
        rows = self.run(
            self._connection.fetch("SELECT nextval('event_id') FROM generate_series(1, $1::bigint)", count)
        )
        return np.array([row[0] for row in rows], np.int64)

    def broken(self, error: Exception) -> StoreError | None:
        """Tell a number that is taken, or of a row that is gone, from what content is refused for.

        Sequences aren't replicated with their tables: after a failover to such a copy they begin anew. A refusal would be for
        good, and the agents would let go of batch after batch.
        """
        taken = (
            isinstance(error, asyncpg.UniqueViolationError) and error.constraint_name not in _KEYS_OF_CONTENT
        )
        if not taken and not isinstance(error, asyncpg.ForeignKeyViolationError):
            return None
        said = str(error).replace("\n", "; ")
        return StoreDamaged(
            f"the database's numbers don't fit its rows ({said}): set its sequences behind the rows, or restore a backup"
        )

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
        fits = regex(pattern).matches
        rows = self.execute(_VALUES[table], (label,) if table == "series_label" else ())
        return f"{column} = ANY(?)", [row[0] for row in rows if fits(row[0])]

    def put_samples(self, series: I64, times: I64, values: F64, flags: U8) -> None:
        """COPY them in binary form."""
        data = memoryview(rowcopy.binary(series, times, values, flags))
        self.run(
            self._connection.copy_to_table(
                "sample", source=data, columns=list(rowcopy.COLUMNS), format="binary"
            )
        )

    def forget_samples(self, before_ns: int, after: int, limit: int) -> tuple[int, int | None]:
        """Delete by place. The time is asked twice: in a table of several parts a place names a row in each."""
        del after
        # Each piece passes by what those before it left dead, so there mustn't be many.
        limit = max(limit, _ROWS_AT_ONCE)
        time = f"TIMESTAMPTZ 'epoch' + CAST({before_ns // 1_000} AS BIGINT) * INTERVAL '1 microsecond'"
        gone = self.execute(
            f"DELETE FROM sample WHERE ctid = ANY(ARRAY(SELECT ctid FROM sample WHERE time < {time} LIMIT {limit})) "
            f"AND time < {time}"
        ).rowcount
        return gone, None if gone < limit else 0

    def lock_rollups(self) -> None:
        """Keep others from changing rollups until the transaction ends; who reads goes on."""
        self.execute("LOCK TABLE rollup_1m, rollup_1h IN SHARE ROW EXCLUSIVE MODE")

    def tidy(self) -> bool:
        """Leave it to autovacuum."""
        return False

    def bytes_on_disk(self) -> int:
        """Measure the database: tables, indexes and what it came with (about 8 MB)."""
        return int(self.execute("SELECT pg_database_size(current_database())").fetchone()[0])

    def faults(self) -> list[str]:
        """Look for what PostgreSQL says of itself: indexes that it doesn't trust."""
        rows = self.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")
        return [f"PostgreSQL: index {row[0]} isn't valid; run REINDEX" for row in rows]


def _number(agent: str) -> int:
    """Turn a name into a lock's number. Two agents with one number wait for each other, and that is all."""
    return int.from_bytes(hashlib.blake2b(agent.encode(), digest_size=8).digest(), "big", signed=True)


async def _opened(connection: Any, text: str, arguments: Sequence[Any]) -> tuple[Any, list[Any]]:  # noqa: ANN401 - asyncpg is untyped
    """Open a cursor and fetch its first rows."""
    cursor = await connection.cursor(text, *arguments)
    return cursor, await cursor.fetch(_AT_ONCE)


def _ranges(rows: Sequence[Sequence[Any]], size: int, step: int) -> list[list[int]]:
    """Join rows that follow each other and are one step apart: the key's columns but for the last, and first and last of that."""
    columns = [np.array(column, np.int64) for column in zip(*(row[:size] for row in rows), strict=True)]
    *others, last = columns
    begins = np.append(True, np.diff(last) != step)
    for column in others:
        begins[1:] |= column[1:] != column[:-1]
    first = np.flatnonzero(begins)
    until = np.append(first[1:], len(rows)) - 1
    return [*(column[first].tolist() for column in others), last[first].tolist(), last[until].tolist()]


async def _settled() -> None:
    """End what asyncpg left running (a cancellation under way), and let closed sockets go."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    for _ in range(3):
        await asyncio.sleep(0)
