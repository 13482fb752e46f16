"""Who is at work on this store, and who owns what only one may do: rows with a heartbeat and a fencing number.

    member   a process; dead when its time is over, and its agents' sessions with it
    lease    one piece of work; whoever owns it renews it with each heartbeat, anybody may take it when its time is over

Time is the engine's clock, the same for all. The owner's number (`fence`) grows with each owner, and every transaction of
the work looks at it first and holds the row until it ends: a process that was paused, cut off or slow may believe what it
likes, what it would write after somebody else took over is refused. Which work a write belongs to stands in `current`, set
by whoever runs the work (telemetryx/leases.py), so that no write of it can forget to look.
"""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, TypeVar

from telemetryx.errors import LeaseLost
from telemetryx.store.tables import fleet
from telemetryx.store.tables.database import Database

T = TypeVar("T")
FOREVER_NS: Final = 1 << 60
"""How long a lease holds in a store that one process has to itself."""


@dataclass(frozen=True, slots=True)
class Member:
    """A process that uses the store. Its name is the same after a restart, and no other's."""

    name: str = "collector"
    host: str = ""
    pid: int = 0
    started_ns: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that this process holds."""

    task: str
    owner: str
    fence: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as it stands; `left_ns` is negative when its time is over."""

    task: str
    owner: str
    fence: int
    left_ns: int


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat found."""

    held: Mapping[str, Held]
    leases: Sequence[Lease]
    members: Sequence[Member]
    gone: Sequence[str]
    """Members that were found dead now."""


current: ContextVar[Held | None] = ContextVar("lease", default=None)
"""The lease under which this task works; None: its writes are anybody's."""


def guarded(held: Held, work: Callable[[Database], T]) -> Callable[[Database], T]:
    """Have work done only while a lease holds, and hold its row until the transaction ends."""

    def under(db: Database) -> T:
        row = db.execute(
            f"SELECT 1 FROM lease WHERE task = ? AND owner = ? AND fence = ?{db.for_share}",
            (held.task, held.owner, held.fence),
        ).fetchone()
        if row is None:
            raise LeaseLost(f"another collector does {held.task} now (this one had number {held.fence})")
        return work(db)

    return under


def arrive(db: Database, me: Member, ttl_ns: int) -> None:
    """Put a process on the list, before anything in the store has its name; what one of this name left open is closed."""
    fleet.close_all(db, me.name)
    _live(db, me, ttl_ns)


def _live(db: Database, me: Member, ttl_ns: int) -> None:
    db.execute(
        f"INSERT INTO member VALUES (?1, ?2, ?3, ?4, {db.now_ns} + ?5) ON CONFLICT (name) DO UPDATE SET host = excluded.host, "
        "pid = excluded.pid, started_ns = excluded.started_ns, until_ns = excluded.until_ns",
        (me.name, me.host, me.pid, me.started_ns, ttl_ns),
    )


def beat(db: Database, me: Member, tasks: Sequence[str], held: Mapping[str, Held], ttl_ns: int) -> Beat:
    """Say that this process lives, renew what it holds, take what nobody holds.

    DURABILITY: it isn't waited for. A takeover that is lost with the server's memory was followed by no durable transaction of
    the new owner (these come after it in the WAL), so the number that stands again is that of the last who wrote.
    """
    db.hasten()
    ttl_ns = ttl_ns if db.shared else FOREVER_NS
    _live(db, me, ttl_ns)
    gone = [
        row[0]
        for row in db.execute(
            "DELETE FROM member WHERE name IN "
            f"(SELECT name FROM member WHERE until_ns < {db.now_ns} AND name != ?{db.skip_locked}) RETURNING name",
            (me.name,),
        ).fetchall()
    ]
    if gone:
        fleet.close_of(db, gone)
    kept: dict[str, Held] = {}
    for task in sorted(tasks):
        mine = held.get(task)
        if mine is None or not _renew(db, mine, ttl_ns):
            mine = _take(db, task, me.name, ttl_ns)
        if mine is not None:
            kept[task] = mine
    rows = db.execute(f"SELECT task, owner, fence, until_ns - {db.now_ns} FROM lease ORDER BY task")
    members = db.execute("SELECT name, host, pid, started_ns FROM member ORDER BY name")
    return Beat(kept, [Lease(*row) for row in rows], [Member(*row) for row in members], gone)


def _renew(db: Database, held: Held, ttl_ns: int) -> bool:
    return (
        db.execute(
            f"UPDATE lease SET until_ns = {db.now_ns} + ?1 WHERE task = ?2 AND owner = ?3 AND fence = ?4",
            (ttl_ns, held.task, held.owner, held.fence),
        ).rowcount
        == 1
    )


def _take(db: Database, task: str, name: str, ttl_ns: int) -> Held | None:
    """Take a lease that is free. One of our own name was a process that this one has taken the place of.

    It is looked at before it is touched: an owner's transaction must not wait for those who only ask. Nor do these wait for
    an owner that was cut off in the middle of a transaction: the server ends that one soon.
    """
    look = f"SELECT owner, fence, until_ns < {db.now_ns} FROM lease WHERE task = ?"
    row = db.execute(look, (task,)).fetchone()
    if row is None:
        taken = db.execute(
            f"INSERT INTO lease VALUES (?1, ?2, 1, {db.now_ns} + ?3) ON CONFLICT DO NOTHING RETURNING fence",
            (task, name, ttl_ns),
        ).fetchone()
    elif row[2] or row[0] == name or not db.shared:
        if db.execute(f"{look}{db.skip_locked}", (task,)).fetchone() is None:
            return None
        free = f"AND (until_ns < {db.now_ns} OR owner = ?1)" if db.shared else ""
        taken = db.execute(
            f"UPDATE lease SET owner = ?1, fence = fence + 1, until_ns = {db.now_ns} + ?2 "
            f"WHERE task = ?3 AND fence = ?4 {free} RETURNING fence",
            (name, ttl_ns, task, row[1]),
        ).fetchone()
    else:
        return None
    return None if taken is None else Held(task, name, int(taken[0]))


def release(db: Database, held: Sequence[Held]) -> None:
    """Let go of leases, so that others needn't wait."""
    for one in sorted(held, key=lambda lease: lease.task):
        db.execute(
            "UPDATE lease SET until_ns = 0 WHERE task = ? AND owner = ? AND fence = ?",
            (one.task, one.owner, one.fence),
        )


def leave(db: Database, name: str) -> None:
    """Take a process off the list: it stops in order."""
    db.execute("DELETE FROM member WHERE name = ?", (name,))
