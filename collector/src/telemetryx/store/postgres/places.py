"""The partitions of `batch` and `chunk`: one a week of event time, made when data of that week first comes.

A new one is made beside its table and attached, which waits for no reader. Its life is the transaction's: undone with it,
and remembered only after the commit. Weeks before 2000 and after 2099 share two partitions that are always there, so clocks
that are far off can't make thousands.
"""

from typing import Any, Final, Protocol

import asyncpg

WEEK: Final = 7 * 86_400_000_000_000
FIRST: Final = 1_565
"""The week that _before ends at: 29 December 1999."""
LAST: Final = 6_782
"""The week before the one that _after begins with."""
_PATIENCE: Final = "SET LOCAL lock_timeout = '1s'"
_EXISTS: Final = "SELECT 1 FROM pg_inherits WHERE inhparent = ?::regclass AND inhrelid = to_regclass(?)"


class Runs(Protocol):
    """What a connection lends."""

    def execute(self, statement: str, parameters: Any = ..., /) -> Any:  # noqa: ANN401 - rows
        """Run a statement."""
        ...


class Places:
    """Which partitions one writing connection knows."""

    def __init__(self, database: Runs) -> None:
        """Know none."""
        self._database = database
        self._known: set[tuple[str, int]] = set()
        self._fresh: set[tuple[str, int]] = set()

    def make(self, table: str, time_ns: int) -> None:
        """See to it that there is a partition for this time."""
        week = time_ns // WEEK
        if not FIRST <= week <= LAST or (table, week) in self._known or (table, week) in self._fresh:
            return
        name = f"{table}_w{week}"
        run = self._database.execute
        if run(_EXISTS.replace("?::regclass", f"'{table}'::regclass"), (name,)).fetchone() is None:
            run(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)")
            run(
                f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({week * WEEK}) TO ({(week + 1) * WEEK})"
            )
        self._fresh.add((table, week))

    def kept(self) -> None:
        """Remember what the transaction made, now that it is committed."""
        self._known |= self._fresh
        self._fresh.clear()

    def undone(self) -> None:
        """Forget what the transaction made; what was there before is looked up once more."""
        self._fresh.clear()

    def drop(self, table: str, before_ns: int) -> int:
        """Drop partitions that end before a time, and return their rows; those that readers hold wait for the next round."""
        run = self._database.execute
        rows = 0
        names = run(
            f"SELECT relname FROM pg_class JOIN pg_inherits ON inhrelid = pg_class.oid WHERE inhparent = '{table}'::regclass "
            "AND relname LIKE ? ORDER BY relname",
            (f"{table}\\_w%",),
        ).fetchall()
        for (name,) in names:
            week = int(name.rpartition("_w")[2])
            if (week + 1) * WEEK > before_ns:
                continue
            (count,) = run(f"SELECT count(*) FROM {name}").fetchone()
            if table == "batch" and count:
                continue
            run("SAVEPOINT drop_place")
            try:
                run(_PATIENCE)
                run(f"DROP TABLE {name}")
            except asyncpg.LockNotAvailableError:
                run("ROLLBACK TO drop_place")
            else:
                rows += count
                self._known.discard((table, week))
            run("RELEASE drop_place")
        return rows
