"""What a run of batches turns into, and the transactions that put it in the batches' place.

A run of few series is one transaction. One of many is cut into pieces of whole series, in the order of their ids, and each is a transaction
that moves the mark in table `moving` with it (moving.py); when all are moved, the batches go, some at a time. COST says what a row takes.

    invariant   before, between and after the transactions a snapshot holds each sample once
    refused     when something else has changed what it was planned on: what is moved by then stays, the rest is planned again
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Any, Final, Generic, TypeVar

from telemetryx.errors import StoreError
from telemetryx.store.tables import moving, plain, rollup
from telemetryx.store.tables.database import Database, greater
from telemetryx.store.tables.moving import ALL, Move

CHUNK: Final = (
    "series_id", "t0_ns", "t1_ns", "count", "min", "max", "sum", "first", "last", "epoch_id", "seq_first", "seq_last",
    "part", "times", "values", "flags", "plain",
)  # fmt: skip
"""Columns of a row of `Piece.chunks`."""
PIECE: Final = 6_000
"""Microseconds that a transaction may cost, by COST."""
COST: Final = {"chunk": 12, "tail": 8, "dirty": 3, "late": 3}
"""Microseconds that a row takes on SQLite, about: inserted, deleted, inserted, added to."""
BATCHES: Final = 250
"""Batches that one transaction deletes, at most,"""
BATCH_BYTES: Final = 4 << 20
"""and their bytes, about."""

Row = tuple[Any, ...]
R = TypeVar("R", bound=Row)
_series = itemgetter(0)


@dataclass(slots=True)
class Piece:
    """What one transaction moves: everything of some series, those up to `upto` that no piece before has."""

    upto: int
    tails: list[int]
    """Chunks that are put into new ones."""
    chunks: list[Row]
    dirty: list[tuple[int, int, int]]
    late: rollup.Late


class _Rows(Generic[R]):
    """Rows in the order of their series, taken from the first on."""

    def __init__(self, rows: Iterable[R]) -> None:
        """Sort them."""
        self._rows = sorted(rows, key=_series)
        self._at = 0

    def take(self, upto: int) -> list[R]:
        """Return the next ones, of series up to one."""
        start = self._at
        self._at = bisect_right(self._rows, upto, lo=start, key=_series)
        return self._rows[start : self._at]


@dataclass(slots=True)
class Made:
    """What was made of a run: rows that begin with their series."""

    tails: list[tuple[int, int]] = field(default_factory=list)
    chunks: list[Row] = field(default_factory=list)
    dirty: list[tuple[int, int, int]] = field(default_factory=list)
    late: rollup.Late = field(default_factory=rollup.Late)

    def pieces(self) -> list[Piece]:
        """Cut it between series, where a transaction has enough."""
        tails, made, dirty = _Rows(self.tails), _Rows(self.chunks), _Rows(self.dirty)
        minutes, hours = _Rows(self.late.minutes), _Rows(self.late.hours)
        return [
            Piece(
                upto,
                [row_id for _, row_id in tails.take(upto)],
                made.take(upto),
                dirty.take(upto),
                rollup.Late(minutes.take(upto), hours.take(upto)),
            )
            for upto in self._cuts()
        ]

    def _cuts(self) -> Iterator[int]:
        costs: defaultdict[int, int] = defaultdict(int)
        for rows, cost in (
            (self.tails, COST["tail"]),
            (self.chunks, COST["chunk"]),
            (self.dirty, COST["dirty"]),
            (self.late.minutes, COST["late"]),
            (self.late.hours, COST["late"]),
        ):
            for row in rows:
                costs[row[0]] += cost
        total, last = 0, None
        for series in sorted(costs):
            if last is not None and total + costs[series] > PIECE:
                yield last
                total = 0
            total += costs[series]
            last = series
        if last is not None:
            yield last


@dataclass(slots=True)
class Swap:
    """A run, and what is to stand in its place."""

    epoch: int
    seqs: tuple[int, int]
    """The first and the last."""
    upto: int
    """Up to which series it was moved already: 0 for one that nobody began."""
    batches: list[int]
    """Row ids,"""
    gone: list[list[int]]
    """and the same in portions, each deleted at once."""
    samples: int
    horizon: int
    """The raw horizon that `late` and `dirty` were cut at."""
    plain: bool
    pieces: list[Piece]
    more: bool = False

    @property
    def chunks(self) -> int:
        """Count the chunks."""
        return sum(len(piece.chunks) for piece in self.pieces)

    @property
    def late(self) -> bool:
        """Whether rollups are added to."""
        return any(piece.late.minutes for piece in self.pieces)

    def steps(self) -> Iterator[Callable[[Database], None]]:
        """Give what is to be done, each in a transaction of its own and in this order."""
        if not self.upto and len(self.pieces) <= 1 and len(self.gone) <= 1:
            yield self._whole
            return
        upto = self.upto
        for piece in self.pieces:
            yield partial(self._move, piece=piece, before=upto)
            upto = piece.upto
        for index, some in enumerate(self.gone):
            yield partial(self._drop, batches=some, before=ALL if index else upto)
        yield self._end

    def _whole(self, connection: Database) -> None:
        """Do all of it at once."""
        self._check(connection, 0)
        for piece in self.pieces:
            self._put(connection, piece)
        self._delete(connection, self.batches)
        self._note(connection)

    def _move(self, connection: Database, piece: Piece, before: int) -> None:
        """Move some series."""
        self._check(connection, before)
        if not before:
            (there,) = connection.execute(
                "SELECT count(*) FROM batch WHERE epoch_id = ? AND seq BETWEEN ? AND ?",
                (self.epoch, *self.seqs),
            ).fetchone()
            if there != len(self.batches):
                raise _changed()
        self._put(connection, piece)
        self._mark(connection, before, piece.upto)

    def _drop(self, connection: Database, batches: Sequence[int], before: int) -> None:
        """Delete some batches of which nothing counts any more."""
        self._check(connection, before)
        self._delete(connection, batches)
        if before != ALL:
            self._mark(connection, before, ALL)
            self._note(connection)

    def _end(self, connection: Database) -> None:
        """Forget that the run was on its way."""
        self._check(connection, ALL if self.batches else self.upto)
        connection.execute(
            "DELETE FROM moving WHERE epoch_id = ? AND seq_first = ?", (self.epoch, self.seqs[0])
        )

    def _check(self, connection: Database, before: int) -> None:
        """Raise StoreError when what this was planned on isn't so any more."""
        if before != ALL and rollup.raw_horizon(connection) != self.horizon:
            raise StoreError("retention has moved on meanwhile; the compaction is planned again")
        if before != ALL and not self.plain and min(self.batches) <= plain.progress(connection)[0]:
            raise StoreError("plain rows were written of it meanwhile; the compaction is planned again")
        if moving.moves(connection) != ([Move(self.epoch, *self.seqs, before)] if before else []):
            raise _changed()

    def _put(self, connection: Database, piece: Piece) -> None:
        if connection.delete_many("chunk", piece.tails) != len(piece.tails):
            raise _changed()
        for reach in {row[2] for row in piece.chunks}:
            connection.place("chunk", reach)
        connection.insert_many("chunk", CHUNK, piece.chunks)
        connection.insert_many("dirty", ("series_id", "t0_ns", "t1_ns"), piece.dirty)
        rollup.merge(connection, piece.late)

    def _mark(self, connection: Database, before: int, upto: int) -> None:
        if before:
            connection.execute(
                "UPDATE moving SET upto = ? WHERE epoch_id = ? AND seq_first = ?",
                (upto, self.epoch, self.seqs[0]),
            )
        else:
            connection.execute("INSERT INTO moving VALUES (?, ?, ?, ?)", (self.epoch, *self.seqs, upto))

    def _delete(self, connection: Database, batches: Sequence[int]) -> None:
        """Delete batches. A row that is gone means that somebody else was here."""
        if connection.delete_many("batch", batches) != len(batches):
            raise _changed()

    def _note(self, connection: Database) -> None:
        """Have cursors before these batches know that something is gone."""
        connection.execute(
            "INSERT INTO meta VALUES ('compacted', ?) ON CONFLICT (key) DO UPDATE "
            f"SET value = {greater('meta.value', 'excluded.value')}",
            (max(self.batches),),
        )


def portions(sizes: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Cut batches (row id, bytes) into those that are deleted at once."""
    found: list[list[int]] = []
    held = 0
    for row_id, size in sizes:
        if not found or len(found[-1]) >= BATCHES or held + size > BATCH_BYTES:
            found.append([])
            held = 0
        found[-1].append(row_id)
        held += size
    return found


def _changed() -> StoreError:
    return StoreError("what was to be compacted has changed meanwhile; it is planned again")
