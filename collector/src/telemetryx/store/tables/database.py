"""What the SQL of this folder runs on: one connection of an engine, with what the engines do differently as methods.

The statements here are written once, in what SQLite and PostgreSQL both understand: `?`, `?1` and `:name` for parameters,
`ON CONFLICT (column)`, `RETURNING`, ORDER BY wherever the order counts, CASE in place of greatest and least, CAST where a parameter's type can't be seen. Work is
a plain function of a connection, run in a thread that owns it (writer.py, readers.py, planner.py).
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from telemetryx.errors import StoreError
from telemetryx.types import F64, I64, U8


class Rows(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int:
        """Count the rows that it changed."""
        ...

    def fetchone(self) -> Any:  # noqa: ANN401 - a row: its statement says what is in it
        """Return the next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Give the rows one by one."""
        ...


class Database(Protocol):
    """A connection. What it raises is the engine's own; `Engine.translate` turns it into ours."""

    site_of_labels: str
    """The site in column `labels` of table agent, as an expression."""
    values_of_labels: str
    """A table with the values in column `labels` of table agent, in a column `value`."""
    same_labels: str
    """The condition that column `labels` of table series equals parameter 3, as its index has it."""
    index_of_group: str
    """Column `group` of the tables of rules, as their unique indexes have it."""
    same_group: str
    """The condition that it equals parameter 2."""
    shared: bool
    """Whether other processes may write to the store at the same time."""
    now_ns: str
    """The engine's clock, nanoseconds since the epoch, as an expression."""
    for_share: str
    """What a SELECT ends with that keeps its row as it is until the transaction ends."""
    skip_locked: str
    """The same for a row to be written, leaving out those that another transaction holds."""
    refusals: tuple[type[Exception], ...]
    """What is raised for content that can't be stored, whoever asks: the batch's fault, not the store's."""

    def broken(self, error: Exception) -> StoreError | None:
        """Return what is wrong with the store where such a thing was raised for what no content decides: its own numbers."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it can still be used; a dead one is thrown away and opened anew."""
        ...

    def noted(self, key: str) -> int | None:
        """Return the number that table `meta` has under a key; None where it has none. A snapshot looks into the table once."""
        ...

    ended: int | None
    """How often series had ended when this transaction looked (ended.py); None before it did."""

    @property
    def moves_runs(self) -> bool:
        """Whether its schema has table `moving`: a store of an older collector, which is only read, has none."""
        ...

    def execute(self, statement: str, parameters: Any = ..., /) -> Rows:  # noqa: ANN401 - a sequence or a mapping
        """Run a statement."""
        ...

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]], /) -> object:
        """Run a statement for each row of parameters."""
        ...

    def insert_many(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], conflict: str = ""
    ) -> None:
        """Insert rows of numbers and bytes by the way that costs the engine least for many.

        `conflict` is what follows ON CONFLICT; then no two of the rows have the same key.
        """
        ...

    def replace_many(
        self, table: str, key: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int
    ) -> None:
        """Write rows of numbers in place of those with the same key, the first of the columns; no two of them have the same.

        The key's last column counts in steps: between two rows that are one apart there can be none.
        """
        ...

    def find_many(
        self, table: str, key: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[int]]
    ) -> list[Any]:
        """Return these columns of the rows with these keys, of those that are there, in any order."""
        ...

    def among(self, column: str, ids: Sequence[int]) -> tuple[str, list[Any]]:
        """Return a condition with its parameters: a column has one of these numbers, at most some hundreds."""
        ...

    def reals(self, column: F64) -> list[Any]:
        """Return a column's values as REAL columns keep them to the bit (reals.py)."""
        ...

    def delete_many(self, table: str, ids: Sequence[int]) -> int:
        """Delete rows by their ids; return how many there were."""
        ...

    def stream(self, statement: str, parameters: Sequence[Any] = (), /) -> Iterable[Any]:
        """Run a query whose rows are large: only a few are in memory at once. Inside a transaction."""
        ...

    def begin(self, *, durable: bool = True) -> None:
        """Begin a transaction that writes.

        Not `durable`: its commit returns before it is on the disk, where it comes at the latest with the next durable one. After
        a power cut what was committed last may be gone, never something from before what is there.
        """
        ...

    def harden(self) -> None:
        """After a commit whose fsync failed: see to it that what was committed before is on the disk, or raise."""
        ...

    def begin_snapshot(self) -> None:
        """Begin a transaction that reads, and sees one state of everything."""
        ...

    def commit(self) -> None:
        """Make it durable."""
        ...

    def savepoint(self) -> None:
        """Begin a part of the transaction that can be undone alone. One at a time."""
        ...

    def release(self) -> None:
        """Keep that part."""
        ...

    def undo_savepoint(self) -> None:
        """Undo that part."""
        ...

    def rollback(self) -> None:
        """Undo what isn't committed; also when nothing is."""
        ...

    def close(self) -> None:
        """Let go."""
        ...

    def finish(self) -> None:
        """Let go for good: after the last transaction of a store that closes in order. Raises nothing."""
        ...

    # --- what the engines do differently

    def hasten(self) -> None:
        """Let this transaction's commit return before it is durable: for what may be lost with the server's memory."""
        ...

    def lock_epochs(self, keys: Sequence[tuple[str, bytes]], new: Sequence[str]) -> None:
        """Keep other writers away from these (agent, epoch) until the transaction ends, and from agents that may have new ones.

        All writers take locks in one order, so that they don't wait for each other in a circle.
        """
        ...

    def place(self, table: str, time_ns: int) -> None:
        """See to it that a row of `batch` or `chunk` with this t1_ns has where to go."""
        ...

    def drop_places(self, table: str, before_ns: int) -> int:
        """Delete what of a table can be deleted at once, all of it before a time; return its rows."""
        ...

    def schema_steps(self) -> tuple[list[str], list[str]]:
        """Name the steps of the schema that were applied, and those that are known here; both in order."""
        ...

    def columns(self, table: str) -> list[str]:
        """Name a table's columns."""
        ...

    def continue_ids(self, newest_commit: int) -> None:
        """After rows came with their ids: have new ones begin behind them, and commits behind this number."""
        ...

    def newest_commit(self) -> int:
        """Return the newest commit's number among those below `settled`; 0 before the first."""
        ...

    def next_commit(self) -> int | None:
        """Return the number of the commit that is being written; None: the table gives it."""
        ...

    def settled(self) -> int:
        """Return the number below which this snapshot has every commit that there will ever be."""
        ...

    def holder(self) -> str:
        """Say who keeps `settled` back."""
        ...

    def event_ids(self, count: int) -> I64:
        """Return so many new ids, ascending."""
        ...

    def index_events(self, rows: Sequence[tuple[int, str, str, str]]) -> None:
        """Make events findable by their words: (id, source, body, attributes)."""
        ...

    def forget_events(self, rows: Sequence[tuple[int, str, str, str]]) -> None:
        """Undo index_events."""
        ...

    def events_with(self, text: str) -> tuple[str, Any] | None:
        """Return a condition on `event` with its parameter: all words, the last may be a prefix. None without a word."""
        ...

    def matching(self, pattern: str, table: str, column: str, label: str = "") -> tuple[str, Any]:
        """Return a condition with its parameter: `column` meets a regular expression, as regex.py reads it.

        `label` names the label whose values it will be asked of, where the table is series_label.
        """
        ...

    def put_samples(self, series: I64, times: I64, values: F64, flags: U8) -> None:
        """Insert samples into table `sample`, many at once, in a transaction. NaN stays NaN."""
        ...

    def forget_samples(self, before_ns: int, after: int, limit: int) -> tuple[int, int | None]:
        """Delete about so many rows of table `sample` from before a time; return how many, and where to go on.

        `after` is 0 at first, then what the call before returned; None: no more are left.
        """
        ...

    def lock_rollups(self) -> None:
        """Keep others from changing rollups until the transaction ends."""
        ...

    def tidy(self) -> bool:
        """Give back some of the room that was deleted, in a transaction; return whether there is more."""
        ...

    def bytes_on_disk(self) -> int:
        """Measure everything."""
        ...

    def schema(self) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
        """Return tables and their columns: those that the applied steps made, and those that are there."""
        ...

    def faults(self) -> list[str]:
        """Let the engine check itself; return what it found, as sentences."""
        ...


class Engine(Protocol):
    """Opens connections. It can be pickled: the planner's process opens its own."""

    def reading_for(self, seconds: float) -> "Engine":
        """Return it with another limit for a reader's statements."""
        ...

    def try_write(self, size: int = 0) -> None:
        """Write something, at least about so many bytes, and undo it, beside a running collector too. Raises StoreError, or the engine's own error."""
        ...

    def open_writer(self) -> Database:
        """Open the connection that writes."""
        ...

    def open_reader(self) -> Database:
        """Open one that only reads."""
        ...

    def reals(self, column: F64) -> list[Any]:
        """Return a column's values as its tables keep them (reals.py)."""
        ...

    def translate(self, error: Exception) -> StoreError | None:
        """Say in our words what the engine says in its own; None: it isn't the engine's."""
        ...


Read = Callable[[Callable[[Database], Any]], Awaitable[Any]]
"""Runs work on a snapshot."""
Write = Callable[[Callable[[Database], Any]], Awaitable[Any]]
"""Runs work in a transaction of its own, behind everything else that waits."""


def greater(one: str, other: str) -> str:
    """Return the greater of two expressions; both are written twice, so parameters must be numbered."""
    return f"CASE WHEN {one} > {other} THEN {one} ELSE {other} END"


def lesser(one: str, other: str) -> str:
    """Return the lesser of two expressions."""
    return f"CASE WHEN {one} < {other} THEN {one} ELSE {other} END"
