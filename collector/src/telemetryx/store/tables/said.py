"""What people said and did, as part of a store: silences, acknowledgements, and the audit log (silences.py, audit.py)."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from telemetryx.clock import Clock
from telemetryx.errors import QueryRefused
from telemetryx.store.audit import Actor, Audited, AuditQuery, Entry
from telemetryx.store.silences import Acknowledgement, Silence
from telemetryx.store.tables import audit, silences
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.writer import Priority

T = TypeVar("T")


class Tables(Protocol):
    """What it needs of the store that it is part of."""

    _clock: Clock

    async def write(self, work: Callable[[Database], T], priority: Priority = ...) -> T:
        """Run work in a transaction."""
        ...

    async def read(self, work: Callable[[Database], T]) -> T:
        """Run work on a snapshot."""
        ...


class Said:
    """A part of TableStore."""

    # --- what people say about alerts

    async def silences(self: Tables, *, ended: bool = False, limit: int = 1_000) -> list[Silence]:
        """Return silences that stand or are to come, or those that ended."""
        now = self._clock.now_ns()
        return await self.read(lambda db: silences.page(db, now, limit, ended=ended))

    async def add_silence(
        self: Tables,
        match: str,
        starts_ns: int,
        ends_ns: int,
        author: str,
        comment: str,
        *,
        by: Actor | None = None,
    ) -> Silence:
        """Keep notifications about what meets a selector back for a while."""
        wanted = Silence(0, match, starts_ns, ends_ns, author, comment, self._clock.now_ns())
        if not wanted.matchers():
            raise QueryRefused("a silence of everything isn't taken: name a rule or a label")
        if ends_ns <= max(starts_ns, wanted.created_ns):
            raise QueryRefused("the silence would end before it begins, or has ended already")
        return await self.write(lambda db: silences.add(db, wanted, by), Priority.STATUS)

    async def end_silence(self: Tables, number: int, *, by: Actor | None = None) -> Silence | None:
        """End a silence now; None when there is no such one."""
        now = self._clock.now_ns()
        return await self.write(lambda db: silences.end(db, number, now, by), Priority.STATUS)

    async def acknowledge(
        self: Tables, alert: int, author: str, comment: str, *, by: Actor | None = None
    ) -> Acknowledgement | None:
        """Note who has taken an alert on; None when there is no such alert."""
        said = Acknowledgement(alert, self._clock.now_ns(), author, comment)
        return await self.write(lambda db: silences.acknowledge(db, said, by), Priority.STATUS)

    async def withdraw_acknowledgement(self: Tables, alert: int, *, by: Actor | None = None) -> bool:
        """Take an acknowledgement back; False when there was none."""
        now = self._clock.now_ns()
        return await self.write(lambda db: silences.withdraw(db, alert, now, by), Priority.STATUS)

    async def acknowledged(self: Tables, alerts: Sequence[int]) -> dict[int, Acknowledgement]:
        """Return what was said about these alerts."""
        return await self.read(lambda db: silences.acknowledged(db, alerts))

    # --- who changed what

    async def audit(self: Tables, entry: Entry) -> None:
        """Note a change that was made elsewhere than in the store."""
        now = self._clock.now_ns()
        await self.write(lambda db: audit.note(db, now, entry), Priority.STATUS)

    async def audited(self: Tables, query: AuditQuery) -> list[Audited]:
        """Return what was noted, newest first."""
        return await self.read(lambda db: audit.query(db, query))
