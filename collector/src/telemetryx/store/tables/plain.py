"""Plain rows: raw samples also as rows of table `sample`, where `[store] plain_rows` asks for them.

    batches   become rows in the order of their numbers. How far that has come stands in `meta` (plain_cursor; of the batch after it
              plain_part samples are rows already) and in `consumer`: compaction waits for it, as for any durable reader
    chunks    that were made without rows are filled newest first, when no batch waits: `chunk.plain` counts how many of a
              chunk's samples, from the first on, are rows
    once      progress is written in the transaction of the rows, so each sample becomes one row, whatever is killed in between
    bounded   a transaction takes as many rows as fit into PIECE_S, by what the last ones took

Batches up to the cursor become chunks whose samples are rows, others chunks whose samples aren't, and no chunk is made of both. So
the option may be switched off and on: what came meanwhile is filled later. Rows go with their samples (retention.py).
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import structlog

from telemetryx.errors import StoreError
from telemetryx.store.tables import chunks, moving, reading, rollup
from telemetryx.store.tables.blocks import Correction
from telemetryx.store.tables.database import Database, Read, Write
from telemetryx.store.tables.numbers import Numbers
from telemetryx.types import F64, I64, U8, SampleBlock

log = structlog.get_logger(__name__)

CONSUMER: Final = "plain rows"
PIECE_S: Final = 0.008
"""What one transaction should take: nobody waits longer than 10 ms for the writer."""
FEWEST: Final = 1_000
MOST: Final = 50_000
"""Rows of one transaction."""
FIRST: Final = 2_000
ROUND: Final = 100_000
"""Rows, about, that one round of upkeep writes before compaction has its turn."""
BATCHES: Final = 2_048
"""Batches that are read at once."""
_ALL: Final = 1 << 62
"""More than any chunk's id."""


@dataclass(slots=True)
class Columns:
    """Samples as rows, in no certain order."""

    series: I64
    times: I64
    values: F64
    flags: U8

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.times)

    def take(self, rows: Any) -> "Columns":  # noqa: ANN401 - a mask or a slice
        """Pick rows."""
        return Columns(self.series[rows], self.times[rows], self.values[rows], self.flags[rows])


@dataclass(slots=True)
class Portion:
    """Samples of batches that follow a cursor, in the order of the batches."""

    columns: Columns
    cursor: int
    part: int
    ids: list[int]
    ends: list[int]
    """Up to where in the columns each batch goes."""
    expiry: int
    """What is older is kept nowhere."""

    def at(self, row: int) -> tuple[int, int]:
        """Return cursor and part when so many of these samples are rows."""
        done = int(np.searchsorted(np.array(self.ends, np.int64), row, side="right"))
        if not done:
            return self.cursor, self.part + row
        return self.ids[done - 1], row - self.ends[done - 1]


@dataclass(slots=True)
class Filling:
    """Samples of a chunk that aren't rows yet."""

    columns: Columns
    chunk: int
    done: int


def progress(connection: Database) -> tuple[int, int]:
    """Return the number of the last batch that is rows, and how many samples of the next one are; 0, 0 at first."""
    found = dict(
        connection.execute(
            "SELECT key, value FROM meta WHERE key IN ('plain_cursor', 'plain_part')"
        ).fetchall()
    )
    return int(found.get("plain_cursor", 0)), int(found.get("plain_part", 0))


def begin(connection: Database) -> None:
    """Have compaction wait from now on, where it doesn't yet."""
    for key in ("plain_cursor", "plain_part"):
        connection.execute("INSERT INTO meta VALUES (?, 0) ON CONFLICT (key) DO NOTHING", (key,))
    connection.execute(
        "INSERT INTO consumer SELECT CAST(? AS TEXT), value FROM meta WHERE key = 'plain_cursor' ON CONFLICT (name) DO NOTHING",
        (CONSUMER,),
    )


def end(connection: Database) -> None:
    """Let compaction go on without rows."""
    connection.execute("DELETE FROM consumer WHERE name = ?", (CONSUMER,))


def registered(connection: Database) -> bool:
    """Tell whether compaction waits."""
    return connection.execute("SELECT 1 FROM consumer WHERE name = ?", (CONSUMER,)).fetchone() is not None


def plan(connection: Database, numbers: Numbers, rows: int) -> Portion | None:
    """Read batches after the cursor, about so many samples of them; None when there are none."""
    cursor, part = progress(connection)
    ids: list[int] = []
    ends: list[int] = []
    parts: list[Columns] = []
    count = 0
    for row_id, epoch, samples, offset, uncertain, payload in connection.stream(
        "SELECT id, epoch_id, samples, clock_offset_ns, clock_uncertain, payload FROM batch "
        "WHERE id > ? AND id < ? ORDER BY id",
        (cursor, connection.settled()),
    ):
        block = SampleBlock.empty()
        if samples:
            data, correction = reading.decoded(row_id, payload), Correction(offset, bool(uncertain))
            block = reading.batch_samples(connection, numbers, epoch, row_id, data, correction)
        some = _columns(block)
        some = some if ids else some.take(slice(part, None))
        count += len(some)
        parts.append(some)
        ids.append(row_id)
        ends.append(count)
        if count >= rows or len(ids) >= BATCHES:
            break
    if not ids:
        return None
    return Portion(_join(parts), cursor, part, ids, ends, rollup.expiry(connection))


def _columns(block: SampleBlock) -> Columns:
    flags = np.zeros(len(block), np.uint8) if block.flags is None else block.flags
    return Columns(np.repeat(block.series, np.diff(block.offsets)), block.times, block.values, flags)


def _join(parts: list[Columns]) -> Columns:
    return Columns(
        np.concatenate([part.series for part in parts]),
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.flags for part in parts]),
    )


def apply(connection: Database, portion: Portion, first: int, last: int) -> None:
    """Write the samples [first, last) of a portion as rows, and how far that has come."""
    if progress(connection) != (portion.at(first) if first else (portion.cursor, portion.part)):
        raise StoreError("somebody else has written plain rows meanwhile; they are planned again")
    columns = portion.columns.take(slice(first, last))
    kept = columns.times >= portion.expiry
    columns = columns if kept.all() else columns.take(kept)
    if len(columns):
        connection.put_samples(columns.series, columns.times, columns.values, columns.flags)
    cursor, part = portion.at(last)
    connection.execute("UPDATE meta SET value = ? WHERE key = 'plain_cursor'", (cursor,))
    connection.execute("UPDATE meta SET value = ? WHERE key = 'plain_part'", (part,))
    connection.execute("UPDATE consumer SET cursor = ? WHERE name = ?", (cursor, CONSUMER))


def plan_chunk(connection: Database, below: int) -> Filling | None:
    """Return what is to be filled of the newest chunk with a smaller id than this; None when there is none."""
    row = connection.execute(
        'SELECT id, series_id, t0_ns, t1_ns, count, times, "values", flags, plain FROM chunk INDEXED BY chunk_unfilled '
        "WHERE plain < count AND id < ? ORDER BY id DESC LIMIT 1",
        (below,),
    ).fetchone()
    if row is None:
        return None
    chunk, series, t0, t1, count, *packed, done = row
    try:
        times, values, flags = chunks.decode(t0, t1, count, *packed)
    except chunks.UNREADABLE as error:
        # The other chunks get their rows; `telemetryx store verify` names it too.
        log.warning("store.damaged_chunk_has_no_rows", chunk=chunk, reason=str(error))
        return Filling(_columns(SampleBlock.empty()), chunk, done)
    flags = np.zeros(count, np.uint8) if flags is None else flags
    columns = Columns(np.full(count, series, np.int64), times, values, flags)
    return Filling(columns.take(slice(done, None)), chunk, done)


def apply_chunk(connection: Database, filling: Filling, first: int, last: int) -> None:
    """Write the samples [first, last) of a filling as rows. A chunk that is gone meanwhile needs none."""
    written = connection.execute(
        "UPDATE chunk SET plain = ? WHERE id = ? AND plain = ?",
        (filling.done + last, filling.chunk, filling.done + first),
    ).rowcount
    if written:
        columns = filling.columns.take(slice(first, last))
        connection.put_samples(columns.series, columns.times, columns.values, columns.flags)


def coverage(connection: Database, numbers: Numbers) -> tuple[int, int]:
    """Count the rows, and the raw samples that are kept; what is past its retention counts in neither."""
    kept = rollup.samples_from(connection)
    (rows,) = connection.execute("SELECT count(*) FROM sample WHERE time_ns >= ?", (kept,)).fetchone()
    samples = 0
    for table, number in (("chunk", "count"), ("batch", "samples")):
        (whole,) = connection.execute(
            f"SELECT CAST(coalesce(sum({number}), 0) AS BIGINT) FROM {table} WHERE t0_ns >= ?", (kept,)
        ).fetchone()
        samples += int(whole)
    samples -= sum(_moved(connection, numbers, kept))
    return int(rows), samples + sum(_across(connection, numbers, kept))


def _moved(connection: Database, numbers: Numbers, kept: int) -> Iterator[int]:
    """Count, of each batch from a time on that is becoming chunks, the samples that are there already."""
    for move in moving.moves(connection):
        for row_id, offset, uncertain, payload in connection.stream(
            "SELECT id, clock_offset_ns, clock_uncertain, payload FROM batch WHERE epoch_id = ? AND seq BETWEEN ? AND ? AND t0_ns >= ?",
            (move.epoch, move.first, move.last, kept),
        ):
            with contextlib.suppress(StoreError):
                data, correction = reading.decoded(row_id, payload), Correction(offset, bool(uncertain))
                block = reading.batch_samples(connection, numbers, move.epoch, row_id, data, correction)
                yield int(block.offsets[np.searchsorted(block.series, move.upto, side="right")])


def _across(connection: Database, numbers: Numbers, kept: int) -> Iterator[int]:
    """Count the samples from a time on of each chunk and batch that lies across it; `verify` names one that can't be read."""
    for t0, t1, count, *packed in connection.stream(
        'SELECT t0_ns, t1_ns, count, times, "values", flags FROM chunk WHERE t0_ns < ? AND t1_ns >= ?',
        (kept, kept),
    ):
        with contextlib.suppress(*chunks.UNREADABLE):
            yield int(np.count_nonzero(chunks.decode(t0, t1, count, *packed)[0] >= kept))
    for row_id, epoch, offset, uncertain, payload in connection.stream(
        "SELECT id, epoch_id, clock_offset_ns, clock_uncertain, payload FROM batch WHERE samples > 0 AND t0_ns < ? AND t1_ns >= ?",
        (kept, kept),
    ):
        with contextlib.suppress(StoreError):
            data, correction = reading.decoded(row_id, payload), Correction(offset, bool(uncertain))
            block = reading.batch_samples(connection, numbers, epoch, row_id, data, correction)
            yield int(np.count_nonzero(block.times >= kept))


class Pace:
    """How many rows go into one transaction: by what those before it took."""

    def __init__(self) -> None:
        """Begin small."""
        self.rows = FIRST

    def took(self, rows: int, seconds: float) -> None:
        """Learn from a transaction. A small one says little: most of it is the commit."""
        if 2 * rows < self.rows and seconds < PIECE_S:
            return
        fits = int(rows * PIECE_S / max(seconds, 1e-6))
        self.rows = max(FEWEST, self.rows // 2, min(MOST, fits, 2 * self.rows))


class PlainRows:
    """Keeps table `sample` as the configuration wants it: `step` is one bounded round, between rounds of compaction."""

    def __init__(self, read: Read, write: Write, numbers: Numbers) -> None:
        """Write none until `wanted` is set."""
        self.wanted = False
        self._read = read
        self._write = write
        self._numbers = numbers
        self._pace = Pace()
        self._below = _ALL
        """Chunks from this id on can't be filled, or are."""

    async def step(self) -> tuple[int, bool]:
        """Write some rows; return how many, and whether there is more to write."""
        registered_now = await self._read(registered)
        if not self.wanted:
            return (await self._stop() if registered_now else 0), False
        if not registered_now:
            await self._write(begin)
            self._below = _ALL
        portion: Portion | None = await self._read(lambda db: plan(db, self._numbers, ROUND))
        rows = 0
        if portion is not None:
            rows = len(portion.columns)
            await self._pieces(rows, lambda db, first, last: apply(db, portion, first, last))
            if rows >= ROUND or len(portion.ids) >= BATCHES:
                return rows, True
        filled, more = await self._fill()
        return rows + filled, more

    async def _stop(self) -> int:
        """Rows were written before: finish the batch that some are of, then let compaction go on without."""
        rows = 0
        _, part = await self._read(progress)
        if part:
            portion: Portion | None = await self._read(lambda db: plan(db, self._numbers, 1))
            if portion is not None:
                rows = portion.ends[0]
                await self._pieces(rows, lambda db, first, last: apply(db, portion, first, last))
        await self._write(end)
        return rows

    async def _fill(self) -> tuple[int, bool]:
        """Fill chunks that were made without rows."""
        rows = 0
        while rows < ROUND:
            found: Filling | None = await self._read(lambda db: plan_chunk(db, self._below))
            if found is None:
                return rows, False
            filling = found
            count = len(filling.columns)
            if count:
                await self._pieces(
                    count,
                    lambda db, first, last, filling=filling: apply_chunk(db, filling, first, last),  # type: ignore[misc]
                )
            rows += count
            self._below = filling.chunk
        return rows, True

    async def _pieces(self, rows: int, work: Callable[[Database, int, int], None]) -> None:
        """Write so many rows, in transactions that are short each; at least one, for progress may be all there is."""
        first = 0
        while True:
            last = min(rows, first + self._pace.rows)
            took = await self._timed(work, first, last)
            if last > first:
                self._pace.took(last - first, took)
            first = last
            if first >= rows:
                break

    async def _timed(self, work: Callable[[Database, int, int], None], first: int, last: int) -> float:
        """Run one piece; return the seconds from its begin to its commit."""
        begun: list[float] = []

        def timed(db: Database) -> None:
            begun.append(time.perf_counter())
            work(db, first, last)

        await self._write(timed)
        return time.perf_counter() - begun[-1]
