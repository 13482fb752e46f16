"""How commits are numbered where several collectors write, so that a reader by cursor skips nothing.

    number = commit_base + transaction id (xid8) * 4096 + place in the transaction

Numbers of a sequence would be taken in one order and become visible in another. A transaction's id, taken before its rows are
written, has a bound that PostgreSQL itself knows: below pg_snapshot_xmin every transaction has ended, and what it wrote is
in the snapshot or nowhere. Readers stay below it, so the order of numbers is an order in which nothing appears later.

`commit_base` lies in the database and is raised where numbers would go back: a restore into a server whose transaction ids
are smaller, a copy of another store. Any long transaction that writes, also another program's in another database of the
server, holds the bound back: what was committed meanwhile is stored and acknowledged, and shown and judged when that one ends.
"""

from typing import Any, Final, Protocol

from telemetryx.errors import StoreError

PLACES: Final = 4_096
"""Numbers of one transaction."""
_BEGIN: Final = "SELECT value + CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT) * 4096 FROM meta WHERE key = 'commit_base'"
_BOUND: Final = (
    "SELECT value + CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS TEXT) AS BIGINT) * 4096 FROM meta "
    "WHERE key = 'commit_base'"
)
_RAISE: Final = (
    "UPDATE meta SET value = CAST(? AS BIGINT) + 1 WHERE key = 'commit_base' "
    "AND value + CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT) * 4096 <= CAST(? AS BIGINT)"
)
_NEWEST: Final = (
    "SELECT greatest((SELECT coalesce(max(id), 0) FROM batch), (SELECT coalesce(max(id), 0) FROM alert_change), "
    "coalesce((SELECT value FROM meta WHERE key = 'compacted'), 0), (SELECT coalesce(max(cursor), 0) FROM consumer))"
)
_HOLDER: Final = (
    "SELECT activity.pid, coalesce(activity.datname, ''), coalesce(activity.application_name, '') FROM pg_locks "
    "JOIN pg_stat_activity AS activity ON activity.pid = pg_locks.pid WHERE locktype = 'transactionid' AND granted "
    "AND CAST(transactionid AS TEXT) = CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS xid) AS TEXT)"
)


class Runs(Protocol):
    """What a connection lends."""

    def execute(self, statement: str, parameters: Any = ..., /) -> Any:  # noqa: ANN401 - rows
        """Run a statement."""
        ...


class Numbering:
    """The numbers of one connection's transactions."""

    def __init__(self, database: Runs) -> None:
        """Begin outside of a transaction."""
        self._run = database.execute
        self._next = 0
        self._end = 0

    def ended(self) -> None:
        """Forget the transaction: it was committed or undone."""
        self._next = self._end = 0

    def take(self) -> int:
        """Return the next number of this transaction. Numbers of parts that were undone aren't used again."""
        if not self._end:
            (first,) = self._run(_BEGIN).fetchone()
            self._next, self._end = int(first), int(first) + PLACES
        if self._next == self._end:
            raise StoreError(f"a transaction holds at most {PLACES} commits: lower max_group in [ingest]")
        self._next += 1
        return self._next - 1

    def bound(self) -> int:
        """Return the number below which the snapshot holds all there will ever be."""
        return int(self._run(_BOUND).fetchone()[0])


def keep_ascending(database: Runs, newest: int = 0) -> None:
    """Raise the base, in a transaction, when the next number wouldn't be above `newest` and all that is there."""
    newest = max(newest, int(database.execute(_NEWEST).fetchone()[0]))
    database.execute(_RAISE, (newest, newest))


def holder(database: Runs) -> str:
    """Name the session whose transaction holds the bound back, as far as this user may see it."""
    row = database.execute(_HOLDER).fetchone()
    if row is None:
        return "a transaction that this user can't see (a prepared one?)"
    about = " ".join(part for part in (row[1] and f"in database {row[1]}", row[2] and f"of {row[2]}") if part)
    return f"process {row[0]} of the server{' ' if about else ''}{about}"
