"""Raw data out of the store: chunks and batches as shipped, merged into one order, within one snapshot.

A batch is here as shipped until compaction has moved it into chunks, in one transaction or some series at a time (moving.py), so a snapshot
sees each sample once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from telemetryx.errors import CursorGone, StoreDamaged, TooManyReadings, WireError
from telemetryx.store.tables import blocks, chunks, moving, reals, rollup, shipped
from telemetryx.store.tables.blocks import Correction
from telemetryx.store.tables.database import Database, greater, lesser
from telemetryx.store.tables.numbers import Numbers
from telemetryx.types import (
    F64,
    I64,
    U8,
    BatchKey,
    Committed,
    DamagedSketch,
    EventBlock,
    SampleBlock,
    SketchBlock,
    WindowBlock,
)
from telemetryx.wire import parts
from telemetryx.wire import payload as wire

_COMMITS = (
    "SELECT batch.id, agent.name, epoch.epoch, epoch_id, seq, received_ns, t0_ns, t1_ns, clock_offset_ns, "
    "clock_uncertain, payload, trace "
    "FROM batch JOIN agent ON agent.id = batch.agent_id JOIN epoch ON epoch.id = epoch_id"
)
_IN_ONE = 500
"""Parameters of one IN list."""

_NO_LIMIT: Final = 1 << 62
ROW: Final = 40
"""Bytes of a sample while samples are read: as it was decoded, and in the column that it becomes a part of."""
TOLD: Final = 25_000
"""Samples that are told of at once."""
Told = Callable[[int], None]
"""Is told how many bytes are about to be held; what it raises ends the query."""
_FEW: Final = 8
"""Series of a batch that are decoded one by one; for more of them it is faster to decode all."""


def unheeded(size: int) -> None:
    """Tell nobody."""
    del size


def portions(ids: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
    """Cut ids into IN lists."""
    for start in range(0, len(ids), _IN_ONE):
        part = [int(one) for one in ids[start : start + _IN_ONE]]
        yield ",".join("?" * len(part)), part


def agents_of(connection: Database, ids: Sequence[int]) -> dict[int, list[int]]:
    """Group series ids by their agent's id; unknown ids are left out."""
    out: dict[int, list[int]] = {}
    for marks, part in portions(ids):
        for series, agent in connection.execute(
            f"SELECT id, agent_id FROM series WHERE id IN ({marks}) ORDER BY id", part
        ):
            out.setdefault(agent, []).append(series)
    return out


def decoded(row_id: int, payload: bytes) -> wire.Payload:
    """Decode a stored payload; it was decoded before it was stored, so anything else is damage."""
    try:
        return wire.decode(payload)
    except WireError as error:
        raise shipped.damaged(row_id, error) from error


def known(found: tuple[I64, I64], row_id: int) -> I64:
    """Take the ids of a batch's numbers; one that nobody defined is damage."""
    ids, missing = found
    if len(missing):
        raise StoreDamaged(f"batch row {row_id} uses series number {int(missing[0])}, which nobody defined")
    return ids


class Epochs:
    """Epoch ids to their bytes, within one query."""

    def __init__(self, connection: Database) -> None:
        """Look up on this connection."""
        self._connection = connection
        self._known: dict[int, bytes] = {}

    def __getitem__(self, epoch: int) -> bytes:
        """Return the epoch's bytes."""
        known = self._known.get(epoch)
        if known is None:
            (known,) = self._connection.execute("SELECT epoch FROM epoch WHERE id = ?", (epoch,)).fetchone()
            self._known[epoch] = known
        return known


def samples(
    connection: Database,
    numbers: Numbers,
    ids: Sequence[int],
    start_ns: int,
    end_ns: int,
    limit: int,
    told: Told = unheeded,
) -> SampleBlock:
    """Return the samples of these series in [start, end): what is past `raw_retention` only while it lies in a batch as shipped.

    What no retention keeps is counted as expired when it comes (commit.py), and isn't shown there either.
    """
    wanted = sorted({int(one) for one in ids})
    pieces: dict[int, list[chunks.Piece]] = {series: [] for series in wanted}
    kept = (max(start_ns, rollup.samples_from(connection)), end_ns)
    room = _Room(limit, told)
    if kept[0] < end_ns:
        _from_chunks(connection, wanted, kept, pieces, room)
    shown = (max(start_ns, rollup.expiry(connection)), end_ns)
    if shown[0] < end_ns:
        _from_batches(connection, numbers, wanted, shown, pieces, room)
    return assemble((series, chunks.merge(pieces[series])) for series in wanted)


@dataclass(slots=True)
class _Room:
    """How many samples may still be read."""

    left: int
    told: Told = unheeded
    _untold: int = 0

    def take(self, count: int) -> None:
        """Read so many. Raises TooManyReadings."""
        self.left -= count
        self._untold += count
        if self.left < 0:
            raise _too_many()
        if self._untold >= TOLD:
            self.told(self._untold * ROW)
            self._untold = 0


def chunk_counts(connection: Database, ids: Sequence[int], start_ns: int, end_ns: int) -> dict[int, int]:
    """Count the samples of each series in chunks that have some in [start, end): also those outside of it."""
    found: dict[int, int] = {}
    for begun in range(0, len(ids), _IN_ONE):
        among, part = connection.among("series_id", ids[begun : begun + _IN_ONE])
        rows = connection.execute(
            f"SELECT series_id, CAST(sum(count) AS BIGINT) FROM chunk WHERE {among} AND t1_ns >= ? AND t0_ns < ? "
            "GROUP BY series_id",
            (*part, start_ns, end_ns),
        )
        found.update({int(series): int(count) for series, count in rows})
    return found


def batch_count(connection: Database, ids: Sequence[int], start_ns: int, end_ns: int) -> int:
    """Count the samples of batches as shipped that may have some of these series in [start, end): of all series, and outside too."""
    count = 0
    for marks, part in portions(list(agents_of(connection, ids))):
        (some,) = connection.execute(
            "SELECT CAST(coalesce(sum(samples), 0) AS BIGINT) FROM batch INDEXED BY batch_time "
            f"WHERE batch.agent_id IN ({marks}) AND t1_ns >= ? AND t0_ns < ?",
            (*part, start_ns, end_ns),
        ).fetchone()
        count += int(some)
    return count


def about(connection: Database, ids: Sequence[int], start_ns: int, end_ns: int) -> int:
    """Estimate how many samples these series have in [start, end): of a chunk as many as its time lies in there, of a batch its share."""
    inside = f"({lesser('t1_ns', '?1')} - {greater('t0_ns', '?2')} + 1)"
    count = 0.0
    for begun in range(0, len(ids), _IN_ONE):
        part = [int(one) for one in ids[begun : begun + _IN_ONE]]
        (some,) = connection.execute(
            f"SELECT sum(count * (1.0 * {inside}) / (t1_ns - t0_ns + 1)) FROM chunk "
            f"WHERE series_id IN ({','.join(map(str, part))}) AND t1_ns >= ?2 AND t0_ns < ?1",
            (end_ns, start_ns),
        ).fetchone()
        count += float(some or 0.0)
    agents = agents_of(connection, ids)
    for marks, part in portions(list(agents)):
        for agent, some in connection.execute(
            "SELECT agent_id, sum(1.0 * samples / series) FROM batch INDEXED BY batch_time "
            f"WHERE agent_id IN ({marks}) AND t1_ns >= ? AND t0_ns < ? AND series > 0 GROUP BY agent_id",
            (*part, start_ns, end_ns),
        ):
            count += float(some) * len(agents[agent])
    return int(count)


def compacted_samples(connection: Database, series: int, start_ns: int, end_ns: int) -> SampleBlock:
    """Return the samples of a series in [start, end) that lie in chunks."""
    pieces: dict[int, list[chunks.Piece]] = {series: []}
    _from_chunks(connection, [series], (start_ns, end_ns), pieces, _Room(_NO_LIMIT))
    return assemble([(series, chunks.merge(pieces[series]))])


def waiting_samples(
    connection: Database,
    numbers: Numbers,
    ids: Sequence[int],
    start_ns: int,
    end_ns: int,
    limit: int,
) -> SampleBlock:
    """Return the samples of these series in [start, end) that lie in batches as shipped."""
    pieces: dict[int, list[chunks.Piece]] = {series: [] for series in sorted(ids)}
    span = (start_ns, end_ns)
    _from_batches(connection, numbers, list(pieces), span, pieces, _Room(limit))
    return assemble((series, chunks.merge(some)) for series, some in pieces.items())


def assemble(series_parts: Iterable[tuple[int, tuple[I64, Any, Any]]]) -> SampleBlock:
    """Make a block of sorted series."""
    found = [(series, part) for series, part in series_parts if len(part[0])]
    if not found:
        return SampleBlock.empty()
    offsets = np.zeros(len(found) + 1, np.int64)
    np.cumsum([len(part[0]) for _, part in found], out=offsets[1:])
    flags = None
    if any(part[2] is not None for _, part in found):
        flags = np.concatenate(
            [np.zeros(len(part[0]), np.uint8) if part[2] is None else part[2] for _, part in found]
        )
    return SampleBlock(
        np.array([series for series, _ in found], np.int64),
        offsets,
        np.concatenate([part[0] for _, part in found]),
        np.concatenate([part[1] for _, part in found]),
        flags,
    )


def _from_chunks(
    connection: Database,
    ids: Sequence[int],
    span: tuple[int, int],
    pieces: dict[int, list[chunks.Piece]],
    room: _Room,
) -> None:
    start, end = span
    for begun in range(0, len(ids), _IN_ONE):
        among, part = connection.among("series_id", ids[begun : begun + _IN_ONE])
        rows = connection.stream(
            'SELECT series_id, t0_ns, t1_ns, count, epoch.epoch, seq_first, part, times, "values", flags '
            f"FROM chunk CROSS JOIN epoch WHERE epoch.id = epoch_id AND {among} AND t1_ns >= ? AND t0_ns < ?",
            (*part, start, end),
        )
        for series, t0, t1, count, *order, times, values, flags in rows:
            try:
                columns = chunks.decode(t0, t1, count, times, values, flags, before_ns=end)
            except chunks.UNREADABLE as error:
                raise chunks.damaged(series, t0, error) from error
            piece = chunks.Piece((*order,), *columns).cut(start, end)
            room.take(len(piece.times))
            pieces[series].append(piece)


def _from_batches(
    connection: Database,
    numbers: Numbers,
    ids: Sequence[int],
    span: tuple[int, int],
    pieces: dict[int, list[chunks.Piece]],
    room: _Room,
) -> None:
    """Read ascending ids from the batches of all of their agents."""
    start, end = span
    wanted = np.array(ids, np.int64)
    moves = moving.moves(connection)
    there: dict[shipped.Key, tuple[bytes, Correction]] = {}
    for marks, part in portions(list(agents_of(connection, ids))):
        rows = connection.execute(
            "SELECT batch.id, epoch_id, seq, received_ns, epoch.epoch, clock_offset_ns, clock_uncertain "
            "FROM batch INDEXED BY batch_time CROSS JOIN epoch WHERE epoch.id = epoch_id "
            f"AND batch.agent_id IN ({marks}) AND t1_ns >= ? AND t0_ns < ? AND samples > 0",
            (*part, start, end),
        )
        there.update({shipped.Key(*row[:4]): (row[4], Correction(row[5], bool(row[6]))) for row in rows})
    if moves:
        there = {key: of for key, of in there.items() if ids[-1] > moving.upto(moves, key.epoch, key.seq)}
    for key, opened in numbers.opened.read(connection, list(there)):
        found = known(numbers.ids(connection, key.epoch, opened.series), key.row_id)
        epoch, correction = there[key]
        left_here = wanted[wanted > moving.upto(moves, key.epoch, key.seq)] if moves else wanted
        for series, raw_times, values, raw_flags in of_batch(opened, found, left_here, key.row_id):
            times, flags = blocks.corrected(raw_times, raw_flags, correction)
            piece = chunks.Piece((epoch, key.seq, 0), times, values, flags).cut(start, end)
            room.take(len(piece.times))
            pieces[series].append(piece)


def of_batch(
    opened: parts.Samples, ids: I64, wanted: I64, row_id: int
) -> Iterator[tuple[int, I64, F64, U8 | None]]:
    """Return (series, times, values, flags) of the wanted series in a batch; where they are few, only those are decoded."""
    at = np.flatnonzero(wanted[np.minimum(np.searchsorted(wanted, ids), len(wanted) - 1)] == ids).tolist()
    try:
        of = opened.of if len(at) <= _FEW else opened.all().__getitem__
        for index in at:
            yield int(ids[index]), *of(index)
    except WireError as error:
        raise shipped.damaged(row_id, error) from error


def _too_many() -> TooManyReadings:
    return TooManyReadings(
        "this query reads more raw samples than one may; ask for fewer series or a shorter time, or aggregate"
    )


def _identified(
    connection: Database,
    numbers: Numbers,
    epoch: int,
    row_id: int,
    payload: wire.Payload,
    correction: Correction,
) -> SampleBlock:
    ids = known(numbers.ids(connection, epoch, payload.samples.series), row_id)
    return blocks.samples(payload.samples, ids, correction)


def read_after(connection: Database, numbers: Numbers, cursor: int, limit: int) -> list[Committed]:
    """Return commits after a cursor, in order."""
    oldest = compacted(connection)
    if cursor < oldest:
        raise CursorGone(cursor, oldest)
    rows = connection.execute(
        f"{_COMMITS} WHERE batch.id > ? AND batch.id < ? ORDER BY batch.id LIMIT ?",
        (cursor, connection.settled(), limit),
    ).fetchall()
    return [_committed(connection, numbers, row) for row in rows]


def commits(connection: Database, numbers: Numbers, ids: Sequence[int]) -> list[Committed]:
    """Return these commits, in any order."""
    rows: list[Any] = []
    for marks, part in portions(ids):
        rows += connection.execute(f"{_COMMITS} WHERE batch.id IN ({marks})", part).fetchall()
    return [_committed(connection, numbers, row) for row in rows]


def count_after(connection: Database, cursor: int, limit: int) -> int:
    """Count the commits after a cursor, up to a limit."""
    row = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM batch WHERE id > ? AND id < ? LIMIT ?) AS after",
        (cursor, connection.settled(), limit),
    ).fetchone()
    return int(row[0])


def compacted(connection: Database) -> int:
    """Return the number of the newest commit that is compacted: a cursor before it has lost something."""
    return connection.noted("compacted") or 0


def _committed(connection: Database, numbers: Numbers, row: Sequence[Any]) -> Committed:
    row_id, agent, epoch_bytes, epoch, seq, received, t0, t1, offset, uncertain, data, trace = row
    payload = decoded(row_id, data)
    return Committed(
        row_id,
        BatchKey(agent, epoch_bytes, seq),
        received,
        t0,
        t1,
        _identified(connection, numbers, epoch, row_id, payload, Correction(offset, bool(uncertain))),
        batch_windows(connection, numbers, epoch, row_id, payload, offset),
        _events(connection, row_id, payload.events, offset),
        trace=trace or "",
    )


def batch_windows(
    connection: Database,
    numbers: Numbers,
    epoch: int,
    row_id: int,
    payload: wire.Payload,
    offset: int,
) -> WindowBlock | None:
    """Return a batch's windows with the store's ids."""
    if payload.windows is None or not len(payload.windows):
        return None
    ids = known(numbers.ids(connection, epoch, payload.windows.series), row_id)
    return blocks.windows(payload.windows, ids, offset)


def batch_samples(
    connection: Database,
    numbers: Numbers,
    epoch: int,
    row_id: int,
    payload: wire.Payload,
    correction: Correction,
) -> SampleBlock:
    """Return a batch's samples with the store's ids."""
    return _identified(connection, numbers, epoch, row_id, payload, correction)


def _events(connection: Database, row_id: int, block: EventBlock | None, offset: int) -> EventBlock | None:
    if block is None or not len(block):
        return None
    ids = [
        row[0] for row in connection.execute("SELECT id FROM event WHERE batch_id = ? ORDER BY id", (row_id,))
    ]
    known = np.array(ids, np.int64) if len(ids) == len(block) else None
    return blocks.events(block, offset, known)


def windowed(connection: Database, ids: Sequence[int], start_ns: int, end_ns: int) -> set[int]:
    """Return which of these series have windows that start in [start, end)."""
    found: set[int] = set()
    for series in ids:
        row = connection.execute(
            'SELECT 1 FROM "window" WHERE series_id = ? AND start_ns >= ? AND start_ns < ? LIMIT 1',
            (int(series), start_ns, end_ns),
        ).fetchone()
        if row is not None:
            found.add(int(series))
    return found


_WINDOW_COLUMNS = "series_id, start_ns, length_ns, count, sum, min, max, first_ns, first, last_ns, last"


def windows(
    connection: Database,
    ids: Sequence[int],
    start_ns: int,
    end_ns: int,
    *,
    sketches: bool = True,
    waiting: bool | None = None,
    limit: int = _NO_LIMIT,
) -> WindowBlock:
    """Return window rows that start in [start, end), in the order (series, start, batch key), but for those that no retention keeps.

    `waiting` takes only those whose batch isn't compacted yet, or (False) only those whose batch is. Raises TooManyReadings
    above `limit` windows.
    """
    only = ""
    start_ns = max(start_ns, rollup.expiry(connection))
    if waiting is not None:
        only = f"AND {'' if waiting else 'NOT '}({moving.waits(connection)}) "
    rows: list[tuple[Any, ...]] = []
    for marks, part in portions(sorted({int(one) for one in ids})):
        rows += connection.execute(
            f'SELECT {_WINDOW_COLUMNS}, {"sketch" if sketches else "NULL"} FROM "window" JOIN epoch ON epoch.id = epoch_id '
            f"WHERE series_id IN ({marks}) AND start_ns >= ? AND start_ns < ? {only}"
            'ORDER BY series_id, start_ns, epoch.epoch, seq, "window".id LIMIT ?',
            (*part, start_ns, end_ns, min(limit, _NO_LIMIT - 1) - len(rows) + 1),
        ).fetchall()
        if len(rows) > limit:
            raise _too_many()
    if not rows:
        return WindowBlock.empty()
    columns = list(zip(*rows, strict=True))
    ints = {index: np.array(columns[index], np.int64) for index in (0, 1, 2, 7, 9)}
    floats = {index: reals.read(columns[index]) for index in (4, 5, 6, 8, 10)}
    kept, damaged = _sketches(rows, columns[11]) if sketches else (None, ())
    return WindowBlock(
        ints[0],
        ints[1],
        ints[2],
        np.array(columns[3], np.uint64),
        floats[4],
        floats[5],
        floats[6],
        ints[7],
        floats[8],
        ints[9],
        floats[10],
        kept,
        damaged,
    )


def _sketches(
    rows: Sequence[tuple[Any, ...]], blobs: Sequence[bytes | None]
) -> tuple[SketchBlock | None, tuple[DamagedSketch, ...]]:
    """Put windows' sketches together; of what can't be read the row has none."""
    try:
        return blocks.sketches(list(blobs)), ()
    except ValueError:
        wrong = set(blocks.damaged(blobs))
    sound = [None if at in wrong else blob for at, blob in enumerate(blobs)]
    return blocks.sketches(sound), tuple(
        DamagedSketch(rows[at][0], rows[at][1], "window") for at in sorted(wrong)
    )
