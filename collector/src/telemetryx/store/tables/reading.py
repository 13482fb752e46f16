"""Raw data out of the store: chunks and batches as shipped, merged into one order, within one snapshot.

A batch is here as shipped until compaction moves it into chunks in one transaction, so a snapshot sees each sample once.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from telemetryx.errors import CursorGone, QueryRefused, StoreDamaged, WireError
from telemetryx.store.tables import blocks, chunks
from telemetryx.store.tables.blocks import Correction
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.numbers import Numbers
from telemetryx.types import I64, BatchKey, Committed, EventBlock, SampleBlock, WindowBlock
from telemetryx.wire import payload as wire

_IN_ONE = 500
"""Parameters of one IN list."""


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
        raise StoreDamaged(
            f"batch row {row_id} can't be decoded any more: {error}; run `telemetryx store verify`"
        ) from error


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


class Cache:
    """Decoded batches, for as long as one snapshot lasts; at most so many samples."""

    def __init__(self, samples: int = 500_000) -> None:
        """Keep nothing yet."""
        self._left = samples
        self._blocks: dict[int, SampleBlock] = {}

    def get(self, row_id: int) -> SampleBlock | None:
        """Return a batch that was decoded before."""
        return self._blocks.get(row_id)

    def put(self, row_id: int, block: SampleBlock) -> None:
        """Keep a decoded batch while there is room."""
        if len(block) <= self._left:
            self._left -= len(block)
            self._blocks[row_id] = block


def samples(
    connection: Database,
    numbers: Numbers,
    ids: Sequence[int],
    start_ns: int,
    end_ns: int,
    limit: int,
    cache: "Cache | None" = None,
) -> SampleBlock:
    """Return the samples of these series in [start, end). Callers that ask series by series share a cache of batches."""
    wanted = sorted({int(one) for one in ids})
    pieces: dict[int, list[chunks.Piece]] = {series: [] for series in wanted}
    epochs = Epochs(connection)
    total = 0
    for agent, members in agents_of(connection, wanted).items():
        for series in members:
            total += _from_chunks(
                connection, epochs, series, (start_ns, end_ns), pieces[series], limit - total
            )
        total += _from_batches(
            connection, numbers, epochs, (agent, members), (start_ns, end_ns), pieces, limit - total, cache
        )
    return assemble((series, chunks.merge(pieces[series])) for series in wanted)


def waiting_samples(
    connection: Database,
    numbers: Numbers,
    agent: int,
    ids: Sequence[int],
    start_ns: int,
    end_ns: int,
    limit: int,
) -> SampleBlock:
    """Return the samples of an agent's series in [start, end) that lie in batches as shipped."""
    pieces: dict[int, list[chunks.Piece]] = {series: [] for series in sorted(ids)}
    span = (start_ns, end_ns)
    _from_batches(connection, numbers, Epochs(connection), (agent, list(ids)), span, pieces, limit, None)
    return assemble((series, chunks.merge(some)) for series, some in pieces.items())


def assemble(parts: Iterable[tuple[int, tuple[I64, Any, Any]]]) -> SampleBlock:
    """Make a block of sorted series."""
    found = [(series, part) for series, part in parts if len(part[0])]
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
    epochs: Epochs,
    series: int,
    span: tuple[int, int],
    into: list[chunks.Piece],
    left: int,
) -> int:
    start, end = span
    total = 0
    rows = connection.stream(
        'SELECT t0_ns, t1_ns, count, epoch_id, seq_first, part, times, "values", flags FROM chunk '
        "WHERE series_id = ? AND t1_ns >= ? AND t0_ns < ?",
        (series, start, end),
    )
    for t0, t1, count, epoch, seq, part, times, values, flags in rows:
        piece = chunks.Piece(
            (epochs[epoch], seq, part), *chunks.decode(t0, t1, count, times, values, flags)
        ).clip(start, end)
        total += len(piece.times)
        if total > left:
            raise _too_many()
        into.append(piece)
    return total


def _from_batches(
    connection: Database,
    numbers: Numbers,
    epochs: Epochs,
    of: tuple[int, list[int]],
    span: tuple[int, int],
    pieces: dict[int, list[chunks.Piece]],
    left: int,
    cache: "Cache | None",
) -> int:
    agent, members = of
    start, end = span
    total = 0
    wanted = np.array(sorted(members), np.int64)
    rows = connection.execute(
        "SELECT id, epoch_id, seq, clock_offset_ns, clock_uncertain FROM batch INDEXED BY batch_time "
        "WHERE agent_id = ? AND t1_ns >= ? AND t0_ns < ? AND samples > 0",
        (agent, start, end),
    )
    for row_id, epoch, seq, offset, uncertain in rows:
        block = None if cache is None else cache.get(row_id)
        if block is None:
            (payload,) = connection.execute("SELECT payload FROM batch WHERE id = ?", (row_id,)).fetchone()
            correction = Correction(offset, bool(uncertain))
            block = _identified(connection, numbers, epoch, row_id, decoded(row_id, payload), correction)
            if cache is not None:
                cache.put(row_id, block)
        at = np.flatnonzero(np.isin(block.series, wanted))
        for index in at.tolist():
            part = slice(int(block.offsets[index]), int(block.offsets[index + 1]))
            piece = chunks.Piece(
                (epochs[epoch], seq, 0),
                block.times[part],
                block.values[part],
                None if block.flags is None else block.flags[part],
            ).clip(start, end)
            total += len(piece.times)
            pieces[int(block.series[index])].append(piece)
        if total > left:
            raise _too_many()
    return total


def _too_many() -> QueryRefused:
    return QueryRefused(
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
    ids, missing = numbers.ids(connection, epoch, payload.samples.series)
    if len(missing):
        raise StoreDamaged(f"batch row {row_id} uses series number {int(missing[0])}, which nobody defined")
    return blocks.samples(payload.samples, ids, correction)


def read_after(connection: Database, numbers: Numbers, cursor: int, limit: int) -> list[Committed]:
    """Return commits after a cursor, in order."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'compacted'").fetchone()
    if row is not None and cursor < row[0]:
        raise CursorGone(cursor, int(row[0]))
    rows = connection.execute(
        "SELECT batch.id, agent.name, epoch.epoch, epoch_id, seq, received_ns, t0_ns, t1_ns, clock_offset_ns, "
        "clock_uncertain, payload "
        "FROM batch JOIN agent ON agent.id = batch.agent_id JOIN epoch ON epoch.id = epoch_id "
        "WHERE batch.id > ? ORDER BY batch.id LIMIT ?",
        (cursor, limit),
    ).fetchall()
    return [_committed(connection, numbers, row) for row in rows]


def _committed(connection: Database, numbers: Numbers, row: Sequence[Any]) -> Committed:
    row_id, agent, epoch_bytes, epoch, seq, received, t0, t1, offset, uncertain, data = row
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
    ids, missing = numbers.ids(connection, epoch, payload.windows.series)
    if len(missing):
        raise StoreDamaged(f"batch row {row_id} uses series number {int(missing[0])}, which nobody defined")
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


_WINDOW_COLUMNS = (
    "series_id, start_ns, length_ns, count, sum, min, max, first_ns, first, last_ns, last, sketch"
)


def windows(
    connection: Database,
    ids: Sequence[int],
    start_ns: int,
    end_ns: int,
    *,
    sketches: bool = True,
    waiting: bool = False,
) -> WindowBlock:
    """Return window rows that start in [start, end), in the order (series, start, batch key).

    `waiting` takes only those whose batch isn't compacted yet.
    """
    only = 'AND EXISTS (SELECT 1 FROM batch WHERE batch.id = "window".batch_id) ' if waiting else ""
    rows: list[tuple[Any, ...]] = []
    for marks, part in portions(sorted({int(one) for one in ids})):
        rows += connection.execute(
            f'SELECT {_WINDOW_COLUMNS} FROM "window" JOIN epoch ON epoch.id = epoch_id '
            f"WHERE series_id IN ({marks}) AND start_ns >= ? AND start_ns < ? {only}"
            'ORDER BY series_id, start_ns, epoch.epoch, seq, "window".id',
            (*part, start_ns, end_ns),
        ).fetchall()
    if not rows:
        return WindowBlock.empty()
    columns = list(zip(*rows, strict=True))
    ints = {index: np.array(columns[index], np.int64) for index in (0, 1, 2, 7, 9)}
    floats = {index: np.array(columns[index], np.float64) for index in (4, 5, 6, 8, 10)}
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
        blocks.sketches(list(columns[11])) if sketches else None,
    )
