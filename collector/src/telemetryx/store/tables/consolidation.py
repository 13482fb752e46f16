"""Consolidation: chunks that have come to rest are joined to larger ones, which take fewer bytes a sample.

Compaction puts nothing behind a chunk of 4,096 samples, so that a fresh one is rewritten cheaply; gaps, late data and new epochs
leave smaller ones.
When a chunk is older than a day, by event time and by when it was written, it joins its neighbours, up to LARGE samples.

    neighbours  chunks of one series and epoch between which nothing lies, and nothing can come: all seqs of both and between are in
                the ledger, none of them waits as a batch. So the joined chunk is again made of all batches from its seq_first to its
                seq_last, and stands where they stood in the one order (chunks.py)
    enough      LARGE / 2 samples, or MEMBERS chunks: each sample is rewritten once or a few times, and then left alone
    not too long  an eighth of what retention keeps: a chunk goes when its newest sample is past
    invariant   samples as readers see them are the same before and after. What was made is decoded and compared bit by bit
                with what it is made of, by the encoder (chunks.py), before that is deleted, in one transaction
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from telemetryx.errors import StoreDamaged, StoreError
from telemetryx.store.tables import chunks, rollup, swap
from telemetryx.store.tables.database import Database, Read, Write

LARGE: Final = 16_384
"""Samples of a joined chunk, at most: 14 % fewer bytes on SQLite's pages than 4,096, and 0.2 ms more to read a minute of it. 32,768
would save 1 % more and take another 0.2 ms."""
SMALL: Final = 8_192
"""A chunk with as many stays as it is. Index chunk_small says so too."""
MEMBERS: Final = 8
"""So many small chunks are joined also when they come to less."""
DAY: Final = 86_400_000_000_000
AGE_NS: Final = DAY
QUIET_NS: Final = 3_600_000_000_000
"""Chunks that were written later than so long ago may grow yet; and so often all are looked through."""
LONGEST_NS: Final = 7 * DAY
LOOK: Final = 500
"""Series of an epoch that are found at once."""
STEP: Final = 8
"""Chunks that one step makes."""
LOOKS: Final = 200
"""Series of an epoch that one step looks at."""
_COLUMNS: Final = "id, seq_first, seq_last, part, t0_ns, t1_ns, count, plain"


@dataclass(frozen=True, slots=True)
class Member:
    """A chunk without its columns."""

    id: int
    seq_first: int
    seq_last: int
    part: int
    t0_ns: int
    t1_ns: int
    count: int
    plain: int

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands among the epoch's sources."""
        return self.seq_first, self.part


@dataclass(slots=True)
class Join:
    """One chunk in place of several."""

    ids: list[int]
    row: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be joined now."""

    before_ns: int
    """Chunks end before this time."""
    newest: int
    """And have an id up to this."""
    longest_ns: int


def candidates(connection: Database, limits: Limits, after: tuple[int, int]) -> list[tuple[int, int]]:
    """Return (series, epoch) that have enough small chunks to join, in order, from behind one on."""
    return [
        (series, epoch)
        for series, epoch in connection.execute(
            f"SELECT series_id, epoch_id FROM chunk INDEXED BY chunk_small WHERE count < {SMALL} AND t1_ns < ? "
            "AND (series_id > ? OR (series_id = ? AND epoch_id > ?)) GROUP BY series_id, epoch_id "
            f"HAVING count(*) >= {MEMBERS} OR (count(*) > 1 AND sum(count) >= {LARGE // 2}) "
            f"ORDER BY series_id, epoch_id LIMIT {LOOK}",
            (limits.before_ns, after[0], after[0], after[1]),
        )
    ]


def plan(connection: Database, series: int, epoch: int, limits: Limits) -> Join | None:
    """Join the first chunks of a series and epoch that are enough; None when there are none."""
    small = [
        Member(*row)
        for row in connection.execute(
            f"SELECT {_COLUMNS} FROM chunk INDEXED BY chunk_small WHERE series_id = ? AND epoch_id = ? AND count < {SMALL} "
            "ORDER BY seq_first, part",
            (series, epoch),
        )
    ]
    start = 0
    while start < len(small):
        group = _group(connection, epoch, small[start:], limits)
        enough = len(group) >= MEMBERS or (len(group) > 1 and sum(one.count for one in group) >= LARGE // 2)
        if enough and _alone(connection, series, epoch, group):
            return _joined(connection, series, epoch, group)
        start += max(1, len(group))
    return None


def _group(connection: Database, epoch: int, rest: Sequence[Member], limits: Limits) -> list[Member]:
    """Return the chunks from the first on that may become one."""
    first = rest[0]
    if not _at_rest(first, limits):
        return []
    upto = _unbroken(connection, epoch, first.seq_first)
    group, total, t0, t1 = [first], first.count, first.t0_ns, first.t1_ns
    for one in rest[1:]:
        t0, t1, total = min(t0, one.t0_ns), max(t1, one.t1_ns), total + one.count
        fits = total <= LARGE and t1 - t0 <= limits.longest_ns and one.seq_last <= upto
        if not fits or not _at_rest(one, limits) or (one.plain > 0) != (first.plain > 0):
            break
        group.append(one)
    return group


def _at_rest(one: Member, limits: Limits) -> bool:
    """Tell whether a chunk is old, and whether all of its samples are plain rows or none (plain.py)."""
    return one.t1_ns < limits.before_ns and one.id <= limits.newest and one.plain in {0, one.count}


def _unbroken(connection: Database, epoch: int, first: int) -> int:
    """Return the last seq up to which, from this one on, everything has come and is compacted (or lost)."""
    (last,) = connection.execute(
        "SELECT last FROM ledger WHERE epoch_id = ? AND first <= ? ORDER BY first DESC LIMIT 1",
        (epoch, first),
    ).fetchone()
    (waiting,) = connection.execute(
        "SELECT min(seq) FROM batch WHERE epoch_id = ? AND seq >= ?", (epoch, first)
    ).fetchone()
    return int(last) if waiting is None else min(int(last), int(waiting) - 1)


def _alone(connection: Database, series: int, epoch: int, group: Sequence[Member]) -> bool:
    """Tell whether no other chunk stands between these."""
    places = connection.execute(
        "SELECT seq_first, part FROM chunk WHERE series_id = ? AND epoch_id = ? AND seq_last >= ? AND seq_first <= ?",
        (series, epoch, group[0].seq_first, group[-1].seq_first),
    )
    between = [place for place in map(tuple, places) if group[0].place <= place <= group[-1].place]
    return len(between) == len(group)


def _joined(connection: Database, series: int, epoch: int, group: Sequence[Member]) -> Join:
    """Read, merge and encode; the encoder decodes what it made and compares it bit by bit."""
    times, values, flags = chunks.merge([_piece(connection, one) for one in group])
    made = chunks.encode(series, times, values, flags)
    first = group[0]
    last = max(one.seq_last for one in group)
    plain = made.count if first.plain else 0
    place = (epoch, first.seq_first, last, first.part)
    head = (series, made.t0_ns, made.t1_ns, made.count, *made.summary)
    return Join([one.id for one in group], (*head, *place, made.times, made.values, made.flags, plain))


def _piece(connection: Database, one: Member) -> chunks.Piece:
    times, values, flags = connection.execute(
        'SELECT times, "values", flags FROM chunk WHERE id = ? AND t1_ns = ?', (one.id, one.t1_ns)
    ).fetchone()
    try:
        columns = chunks.decode(one.t0_ns, one.t1_ns, one.count, times, values, flags)
    except chunks.UNREADABLE as error:
        raise StoreDamaged(
            f"chunk {one.id} can't be decoded: {error}; run `telemetryx store verify`"
        ) from error
    return chunks.Piece((b"", one.seq_first, one.part), *columns)


def apply(connection: Database, join: Join) -> None:
    """Swap chunks for the one they were joined to. One that is gone means that somebody else was here: nothing is done then."""
    if connection.delete_many("chunk", join.ids) != len(join.ids):
        raise StoreError("chunks that were to be joined have changed meanwhile; it is planned again")
    connection.place("chunk", join.row[2])
    connection.insert_many("chunk", swap.CHUNK, [join.row])


class Consolidation:
    """Walks through all series, again and again, a step at a time; for when compaction has nothing to do."""

    def __init__(self, read: Read, write: Write) -> None:
        """Know of no chunk that is at rest yet."""
        self._read = read
        self._write = write
        self._quiet = 0
        """Chunks up to this id were written at least QUIET_NS ago."""
        self._seen: tuple[int, int] | None = None
        """When the newest chunk's id was looked up last, and what it was."""
        self._found: list[tuple[int, int]] = []
        self._after = (0, 0)
        self._rest_until = 0

    async def step(self, now_ns: int) -> tuple[int, bool]:
        """Make some chunks out of smaller ones; return how many, and whether there may be more to do."""
        await self._look_back(now_ns)
        if not self._quiet or now_ns < self._rest_until:
            return 0, False
        horizon = await self._read(rollup.raw_horizon)
        longest = min(LONGEST_NS, max(0, now_ns - horizon) // 8)
        limits = Limits(now_ns - AGE_NS, self._quiet, longest)
        made = 0
        for _ in range(LOOKS):
            if not self._found:
                self._found = await self._read(lambda db: candidates(db, limits, self._after))
                if not self._found:
                    self._after, self._rest_until = (0, 0), now_ns + QUIET_NS
                    return made, False
            made += await self._first(limits)
            if made >= STEP:
                break
        return made, True

    async def _first(self, limits: Limits) -> int:
        """Join some of the first that was found, or go on to the next."""
        series, epoch = self._found[0]
        try:
            join: Join | None = await self._read(lambda db: plan(db, series, epoch, limits))
        except StoreDamaged:
            join = None  # what is damaged stays as it is: the commands that look for damage tell of it
        if join is not None:
            made = join
            await self._write(lambda db: apply(db, made))
            return 1
        self._after = self._found.pop(0)
        return 0

    async def _look_back(self, now_ns: int) -> None:
        """Learn which chunks are written for long."""
        if self._seen is not None and now_ns - self._seen[0] < QUIET_NS:
            return
        if self._seen is not None:
            self._quiet = self._seen[1]
        newest = await self._read(
            lambda db: db.execute("SELECT coalesce(max(id), 0) FROM chunk").fetchone()[0]
        )
        self._seen = now_ns, int(newest)
