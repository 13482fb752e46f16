"""What the SQL of this folder runs on: one connection of an engine, with what the engines do differently as methods.

The statements here are written once, in what SQLite and PostgreSQL both understand: `?`, `?1` and `:name` for parameters,
`ON CONFLICT (column)`, `RETURNING`, ORDER BY wherever the order counts, CASE in place of greatest and least, CAST where a parameter's type can't be seen. Work is
a plain function of a connection, run in a thread that owns it (writer.py, readers.py, planner.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from telemetryx.errors import StoreError
from telemetryx.types import I64


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
    refusals: tuple[type[Exception], ...]
    """What is raised for content that can't be stored, whoever asks: the batch's fault, not the store's."""

    @property
    def alive(self) -> bool:
        """Whether it can still be used; a dead one is thrown away and opened anew."""
        ...

    def execute(self, statement: str, parameters: Any = ..., /) -> Rows:  # noqa: ANN401 - a sequence or a mapping
        """Run a statement."""
        ...

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]], /) -> object:
        """Run a statement for each row of parameters."""
        ...

    def stream(self, statement: str, parameters: Sequence[Any] = (), /) -> Iterable[Any]:
        """Run a query whose rows are large: only a few are in memory at once. Inside a transaction."""
        ...

    def begin(self) -> None:
        """Begin a transaction that writes."""
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

    def lock_epochs(self, keys: Sequence[tuple[str, bytes]]) -> None:
        """Keep other writers away from these (agent, epoch), in key order, until the transaction ends."""
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
        """Return the newest commit's number; 0 before the first. One writer commits in the order of the numbers."""
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
        """Return a condition with its parameter: `column` meets a regular expression, as selector.py reads it.

        `label` names the label whose values it will be asked of, where the table is series_label.
        """
        ...

    def tidy(self) -> None:
        """Give back room after much was deleted; in a transaction."""
        ...

    def bytes_on_disk(self) -> int:
        """Measure everything."""
        ...

    def faults(self) -> list[str]:
        """Let the engine check itself; return what it found, as sentences."""
        ...


class Engine(Protocol):
    """Opens connections. It can be pickled: the planner's process opens its own."""

    def open_writer(self) -> Database:
        """Open the connection that writes."""
        ...

    def open_reader(self) -> Database:
        """Open one that only reads."""
        ...

    def translate(self, error: Exception) -> StoreError | None:
        """Say in our words what the engine says in its own; None: it isn't the engine's."""
        ...


def greater(one: str, other: str) -> str:
    """Return the greater of two expressions; both are written twice, so parameters must be numbered."""
    return f"CASE WHEN {one} > {other} THEN {one} ELSE {other} END"


def lesser(one: str, other: str) -> str:
    """Return the lesser of two expressions."""
    return f"CASE WHEN {one} < {other} THEN {one} ELSE {other} END"
