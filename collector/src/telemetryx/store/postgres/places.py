"""The partitions of `batch` and `chunk`: one a week of event time, made when data of that week first comes.

A new one is made beside its table and attached, which waits for no reader. Its life is the transaction's: undone with it,
and remembered only after the commit. Weeks before 2000 and after 2099 share two partitions that are always there, so clocks
that are far off can't make thousands.

Several collectors make them and one drops them: who makes one waits for whoever makes another, and who remembers one that is
gone is told by `missing`, forgets all and does its transaction again. One is dropped only after it was locked, and then found
empty or past.
"""

from typing import Any, Final, Protocol

import asyncpg

WEEK: Final = 7 * 86_400_000_000_000
FIRST: Final = 1_565
"""The week that _before ends at: 29 December 1999."""
LAST: Final = 6_782
"""The week before the one that _after begins with."""
_PATIENCE: Final = "SET LOCAL lock_timeout = '1s'"
_MAKING: Final = "SELECT pg_advisory_xact_lock(92726450388995)"
"""Held until the transaction ends: the next one then sees the partition."""
_EXISTS: Final = "SELECT 1 FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = ?::regclass AND relname = ?"
"""By the tables themselves: to_regclass remembers, in a transaction, that there was none."""


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

    def missing(self, error: Exception) -> bool:
        """Tell whether a row found no partition, because another collector dropped it; then all are looked up anew."""
        said = str(error)
        gone = isinstance(error, asyncpg.CheckViolationError) and said.startswith("no partition of relation")
        gone = gone or (isinstance(error, asyncpg.InternalServerError) and "could not open relation" in said)
        if gone:
            self._known.clear()
        return gone

    def make(self, table: str, time_ns: int) -> None:
        """See to it that there is a partition for this time."""
        week = time_ns // WEEK
        if not FIRST <= week <= LAST or (table, week) in self._known or (table, week) in self._fresh:
            return
        name = f"{table}_w{week}"
        run = self._database.execute
        exists = _EXISTS.replace("?::regclass", f"'{table}'::regclass")
        if run(exists, (name,)).fetchone() is None:
            run(_MAKING)
        if run(exists, (name,)).fetchone() is None:
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
            rows += self._drop(table, name)
        return rows

    def _drop(self, table: str, name: str) -> int:
        """Drop one, unless somebody holds it or batches in it wait for compaction; counted while nobody else can write to it."""
        run = self._database.execute
        count = 0
        run("SAVEPOINT drop_place")
        try:
            run(_PATIENCE)
            run(f"LOCK TABLE ONLY {table}, ONLY {name} IN ACCESS EXCLUSIVE MODE")
            (count,) = run(f"SELECT count(*) FROM {name}").fetchone()
            if table == "batch" and count:
                run("ROLLBACK TO drop_place")
                count = 0
            else:
                run(f"DROP TABLE {name}")
        except asyncpg.LockNotAvailableError:
            run("ROLLBACK TO drop_place")
            count = 0
        run("RELEASE drop_place")
        return int(count)
