"""What time it is, as far as deletion believes: the clock's, unless it is so far ahead that nobody should delete by it.

A host whose clock is wrong at boot must not make the store delete what is young, nor have it refuse for years what comes next. So the
store remembers durably how late it was when it was last in use (`clock_seen_ns` in `meta`). A clock that is more than
JUMP_NS later than that, plus the time that passed meanwhile by the clock that never jumps, is doubted: deletion goes by
what is remembered, moved on with the time that passes, until one of these confirms the clock:

    the kernel says that it is synchronised (NTP), and shows the same time
    agents on other hosts that are connected agree with it, and it stands for STANDS_NS
    a person says so (`telemetryx store clock --confirm`)

A clock that is behind does no harm: less is deleted. It is remembered as the time when one of the same confirms it, or when it stands
for STANDS_NS: what was remembered was wrong. One that nobody has set yet (before 2024) says nothing.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from telemetryx.clock import Clock, synchronised
from telemetryx.store.tables.database import Database

JUMP_NS: Final = 86_400_000_000_000
"""A clock may be later by so much than when the store was last in use (a restart, a short outage)."""
STANDS_NS: Final = 3_600_000_000_000
"""So long a clock must stand, by the one that never jumps, before agents' agreement counts."""
SET_NS: Final = 1_704_067_200_000_000_000
"""2024-01-01: a clock before it was never set."""
ALIKE_NS: Final = 300_000_000_000
"""Clocks that differ by no more agree; an agent was heard lately when it was within this time."""
SEEN: Final = "clock_seen_ns"
_ELSEWHERE: Final = (
    "SELECT count(*), coalesce(sum(CASE WHEN abs(skew_ms) <= ? THEN 1 ELSE 0 END), 0) FROM agent WHERE EXISTS "
    "(SELECT 1 FROM connection WHERE connection.agent_id = agent.id AND closed_ns = 0 AND connection.last_seen_ns >= ? "
    "AND peer NOT LIKE '%127.0.0.1%' AND peer NOT LIKE '%[::1]%' AND peer NOT LIKE '%localhost%' AND peer NOT LIKE 'unix%')"
)


@dataclass(frozen=True, slots=True)
class Doubt:
    """A clock that isn't believed."""

    wall_ns: int
    """What it shows."""
    believed_ns: int
    """What deletion goes by instead."""

    @property
    def ahead_ns(self) -> int:
        """By how much it is ahead."""
        return self.wall_ns - self.believed_ns

    def __str__(self) -> str:
        """Say what is wrong and what to do."""
        return (
            f"this machine's clock says {day(self.wall_ns)}, and the store was in use at {day(self.believed_ns)} last: nothing is deleted "
            "by that clock until it is confirmed. Set it if it is wrong; if it is right, NTP confirms it, or agents on other hosts that "
            "agree for an hour, or `telemetryx store clock --confirm`"
        )


@dataclass(frozen=True, slots=True)
class Now:
    """A time to delete by."""

    believed_ns: int
    sure: bool
    """Somebody else than the clock itself says so."""
    doubt: Doubt | None = None


def day(time_ns: int) -> str:
    """Write a time for people, to the minute."""
    try:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(time_ns // 1_000_000_000))
    except (OverflowError, OSError, ValueError):
        return f"{time_ns} ns"


class Today:
    """Looks at the clock once a round, in a transaction of the process that deletes."""

    def __init__(self, clock: Clock, trusted: Callable[[int], bool] = synchronised) -> None:
        """Have seen nothing yet."""
        self._clock = clock
        self._trusted = trusted
        self._before: tuple[int, int] | None = None
        """What was believed at the last look, and when that was by the clock that never jumps."""
        self._odd: tuple[int, int] | None = None
        """Since when the clock stands apart from what is remembered, by that clock; and by how much."""

    def look(self, db: Database) -> Now:
        """Return the time to delete by, and remember it durably."""
        wall, mono = self._clock.now_ns(), self._clock.mono_ns()
        seen = seen_ns(db)
        if seen is None:
            seen = _in_use(db)
        if seen is not None and self._before is not None and seen <= self._before[0]:
            seen = self._before[0] + max(0, mono - self._before[1])
        now = self._judged(db, wall, mono, seen)
        self._before = now.believed_ns, mono
        if now.believed_ns >= SET_NS:
            remember(db, self._remembered(now, seen, mono))
        return now

    def _judged(self, db: Database, wall: int, mono: int, seen: int | None) -> Now:
        if wall < SET_NS:
            return Now(wall if seen is None else max(wall, seen), sure=False)
        apart = 0 if seen is None else wall - seen
        if abs(apart) <= JUMP_NS:
            self._odd = None
            return Now(wall, sure=self._trusted(wall))
        if self._odd is None or abs(apart - self._odd[1]) > JUMP_NS:
            self._odd = mono, apart
        sure = self._trusted(wall) or (self._stood(mono) and _agreed(db, wall))
        if apart < 0 or sure or seen is None:
            return Now(wall, sure=sure)
        return Now(seen, sure=False, doubt=Doubt(wall, seen))

    def _stood(self, mono: int) -> bool:
        return self._odd is not None and mono - self._odd[0] >= STANDS_NS

    def _remembered(self, now: Now, seen: int | None, mono: int) -> int:
        """Keep what was later, until it is sure that it was wrong."""
        behind = seen is not None and now.believed_ns < seen - JUMP_NS
        if seen is not None and behind and not now.sure and not self._stood(mono):
            return seen
        return now.believed_ns


def seen_ns(db: Database) -> int | None:
    """Return when the store was last in use, as far as is remembered."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (SEEN,)).fetchone()
    return None if row is None else int(row[0])


def remember(db: Database, time_ns: int) -> None:
    """Note that it was this late."""
    db.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (SEEN, time_ns),
    )


def _in_use(db: Database) -> int | None:
    """Return when agents were heard last, in a store that doesn't remember yet; None in one that nobody used."""
    (newest,) = db.execute("SELECT max(last_seen_ns) FROM agent").fetchone()
    return None if newest is None or int(newest) < SET_NS else int(newest)


def _agreed(db: Database, wall: int) -> bool:
    """Tell whether most of the agents on other hosts that are connected show the same time. One on this host has the same clock."""
    heard, alike = db.execute(_ELSEWHERE, (ALIKE_NS / 1e6, wall - ALIKE_NS)).fetchone()
    return int(alike) * 2 > int(heard)
