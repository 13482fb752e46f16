"""Compaction: batches as shipped become chunks of one series. `plan` reads and encodes, `apply` swaps in one transaction.

A run is batches of one epoch whose seqs follow each other without a hole. Its samples of each series, sorted by (time, seq,
index), go behind the series' last chunk of that epoch when that one isn't full and nothing lies between; so chunks grow to
4,096 samples even when batches hold one, and the rule that orders equal times (chunks.py) holds.

    invariant   the store's samples, as readers see them, are the same before and after, but for those that nothing keeps
                (older than every retention when they came: commit.py counted them as expired)
    invariant   what lies before the raw horizon is added to the rollups in the same transaction
    invariant   a batch that a registered consumer (rules) hasn't read yet stays as shipped
    ledger      not touched

What wins: dense runs first; anything that waits for five minutes; nothing younger than ten seconds (live resume reads it).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from telemetryx.errors import StoreError
from telemetryx.store.tables import blocks, chunks, reading, rollup
from telemetryx.store.tables.blocks import Correction
from telemetryx.store.tables.database import Database, greater
from telemetryx.store.tables.numbers import Numbers
from telemetryx.types import F64, I64, U8, SampleBlock, WindowBlock

MIN_AGE_NS: Final = 10_000_000_000
MAX_AGE_NS: Final = 300_000_000_000
DENSE: Final = 1_000
"""Samples a series: enough for a chunk of its own."""
MANY: Final = 512
"""Batches in one run: enough to tidy up."""
MAX_BATCHES: Final = 2_048
LATE_ROWS: Final = 10_000
"""Rollup rows, about, that one swap adds to: tens of milliseconds. The run is cut at a batch."""


@dataclass(slots=True)
class Run:
    """Batches of one epoch with consecutive seqs, as the index tells."""

    epoch: int
    seqs: list[int] = field(default_factory=list)
    samples: int = 0
    series: int = 1
    oldest_ns: int = 1 << 62

    def add(self, seq: int, received_ns: int, samples: int, series: int) -> None:
        """Append the next batch."""
        self.seqs.append(seq)
        self.samples += samples
        self.series = max(self.series, series)
        self.oldest_ns = min(self.oldest_ns, received_ns)

    def due(self, now_ns: int) -> bool:
        """Tell whether it is worth the work now."""
        return (
            self.samples >= DENSE * self.series
            or len(self.seqs) >= MANY
            or self.oldest_ns <= now_ns - MAX_AGE_NS
        )


@dataclass(slots=True)
class Swap:
    """What a run turns into: rows to delete and rows to insert, all in one transaction."""

    batches: list[int]
    samples: int
    tails: list[int]
    chunks: list[tuple[Any, ...]]
    dirty: list[tuple[int, int, int]]
    horizon: int
    """The raw horizon that `late` and `dirty` were cut at."""
    late: rollup.Late
    more: bool


def plan(
    connection: Database, numbers: Numbers, now_ns: int, limit: int, *, everything: bool = False
) -> Swap | None:
    """Choose the best run, read and encode it. `everything` takes young and sparse ones too."""
    runs = _runs(connection, now_ns, limit, everything=everything)
    due = [run for run in runs if everything or run.due(now_ns)]
    if not due:
        return None
    run = max(due, key=lambda one: (one.samples / one.series, -one.oldest_ns))
    swap = _encode(connection, numbers, run)
    swap.more = len(due) > 1 or len(swap.batches) < len(run.seqs)
    return swap


def _runs(connection: Database, now_ns: int, limit: int, *, everything: bool) -> list[Run]:
    (hold,) = connection.execute("SELECT min(cursor) FROM consumer").fetchone()
    young = now_ns if everything else now_ns - MIN_AGE_NS
    rows = connection.execute(
        "SELECT epoch_id, seq, received_ns, samples, series FROM batch INDEXED BY batch_work "
        "WHERE received_ns <= ? AND (CAST(? AS BIGINT) IS NULL OR id <= ?) ORDER BY epoch_id, seq",
        (young, hold, hold),
    )
    runs: list[Run] = []
    for epoch, seq, received, samples, series in rows:
        last = runs[-1] if runs else None
        fits = last is not None and last.epoch == epoch and last.seqs[-1] == seq - 1
        if last is None or not fits or last.samples >= limit or len(last.seqs) >= MAX_BATCHES:
            last = Run(epoch)
            runs.append(last)
        last.add(seq, received, samples, series)
    return runs


def _encode(connection: Database, numbers: Numbers, run: Run) -> Swap:
    first, last = run.seqs[0], run.seqs[-1]
    horizon, expiry = rollup.raw_horizon(connection), rollup.expiry(connection)
    ids: list[int] = []
    loaded: list[SampleBlock] = []
    windowed: list[WindowBlock] = []
    buckets = 0
    for row_id, offset, uncertain, payload in connection.stream(
        "SELECT id, clock_offset_ns, clock_uncertain, payload FROM batch WHERE epoch_id = ? AND seq BETWEEN ? AND ? ORDER BY seq",
        (run.epoch, first, last),
    ):
        data = reading.decoded(row_id, payload)
        ids.append(row_id)
        samples = reading.batch_samples(
            connection, numbers, run.epoch, row_id, data, Correction(offset, bool(uncertain))
        )
        loaded.append(samples)
        buckets += _late_buckets(samples.times, horizon)
        windows = reading.batch_windows(connection, numbers, run.epoch, row_id, data, offset)
        if windows is not None:
            windowed.append(windows)
            buckets += _late_buckets(windows.start, horizon)
        if buckets > LATE_ROWS:
            last = run.seqs[len(ids) - 1]
            break
    block = _sorted(loaded, expiry)
    late, dirty = _changes(block, windowed, horizon, expiry)
    swap = Swap(ids, len(block), [], [], dirty, horizon, late, more=False)
    reach = _reach(connection, run.epoch, first)
    for index, series in enumerate(block.series.tolist()):
        part = slice(int(block.offsets[index]), int(block.offsets[index + 1]))
        fresh = chunks.Piece(
            (b"\x01", 0, 0),
            block.times[part],
            block.values[part],
            None if block.flags is None else block.flags[part],
        )
        _append(connection, swap, series, fresh, (run.epoch, first, last, reach))
    return swap


def _late_buckets(times: I64, horizon: int) -> int:
    """Count the minutes before the horizon, about: times ascend within each series."""
    minutes = times[times < horizon] // rollup.MINUTE
    return int(np.count_nonzero(np.diff(minutes))) + 1 if len(minutes) else 0


def _sorted(loaded: Sequence[SampleBlock], expiry: int) -> SampleBlock:
    """Join batches in seq order and sort by (series, time), without what is older than anything kept.

    The sort is stable, so equal times stay in (seq, index) order.
    """
    some = [block for block in loaded if len(block)]
    if not some:
        return SampleBlock.empty()
    series = np.concatenate([np.repeat(block.series, np.diff(block.offsets)) for block in some])
    times = np.concatenate([block.times for block in some])
    values: F64 = np.concatenate([block.values for block in some])
    flags: U8 | None = None
    if any(block.flags is not None for block in some):
        flags = np.concatenate(
            [np.zeros(len(block), np.uint8) if block.flags is None else block.flags for block in some]
        )
    order = np.lexsort((times, series))
    if int(times.min()) < expiry:
        order = order[times[order] >= expiry]
        if not len(order):
            return SampleBlock.empty()
    return blocks.collect(series[order], times[order], values[order], None if flags is None else flags[order])


def _changes(
    block: SampleBlock, windowed: Sequence[WindowBlock], horizon: int, expiry: int
) -> tuple[rollup.Late, list[tuple[int, int, int]]]:
    """Return what this run adds to rollups before the horizon, and the stretches after it that are to be recomputed."""
    late, dirty = rollup.Late(), []
    parts: dict[int, list[rollup.Parts]] = {}
    for series in block.series.tolist():
        times, values = block.of(series)
        first = int(np.searchsorted(times, horizon))
        if first:
            parts.setdefault(series, []).append(rollup.of_samples(times[:first], values[:first]))
        if first < len(times):
            dirty += [(series, *span) for span in rollup.dirty_spans(times[first:])]
    for windows in windowed:
        for series in np.unique(windows.series).tolist():
            first, last = np.searchsorted(windows.series, (series, series + 1)).tolist()
            begin, split = (first + np.searchsorted(windows.start[first:last], (expiry, horizon))).tolist()
            if split > begin:
                parts.setdefault(series, []).append(rollup.of_windows(windows, slice(begin, split)))
            if split < last:
                dirty += [(series, *span) for span in rollup.dirty_spans(windows.start[split:last])]
    for series, some in parts.items():
        late.add(series, rollup.join(some))
    return late, dirty


def _reach(connection: Database, epoch: int, first: int) -> int:
    """Return the smallest seq from which on, up to the run, everything has come and is compacted (or lost)."""
    (start,) = connection.execute(
        "SELECT first FROM ledger WHERE epoch_id = ? AND first <= ? ORDER BY first DESC LIMIT 1",
        (epoch, first),
    ).fetchone()
    (waiting,) = connection.execute(
        "SELECT coalesce(max(seq), 0) FROM batch WHERE epoch_id = ? AND seq < ?", (epoch, first)
    ).fetchone()
    return max(int(start), int(waiting) + 1)


def _append(
    connection: Database,
    swap: Swap,
    series: int,
    fresh: chunks.Piece,
    run: tuple[int, int, int, int],
) -> None:
    """Put a run's samples of one series behind its last chunk, or into chunks of their own."""
    epoch, first, last, reach = run
    pieces, seq_first, part = [fresh], first, 0
    tail = connection.execute(
        'SELECT id, t0_ns, t1_ns, count, seq_first, seq_last, part, times, "values", flags FROM chunk '
        "WHERE series_id = ? AND epoch_id = ? AND seq_last < ? ORDER BY seq_last DESC, part DESC LIMIT 1",
        (series, epoch, first),
    ).fetchone()
    if tail is not None and tail[3] < chunks.TARGET and tail[5] + 1 >= reach:
        swap.tails.append(tail[0])
        seq_first, part = tail[4], tail[6]
        pieces.append(chunks.Piece((b"", 0, 0), *chunks.decode(*tail[1:4], *tail[7:10])))
    times, values, flags = chunks.merge(pieces)
    for start in range(0, len(times), chunks.TARGET):
        cut = slice(start, start + chunks.TARGET)
        chunk = chunks.encode(series, times[cut], values[cut], None if flags is None else flags[cut])
        swap.chunks.append(
            (
                series,
                chunk.t0_ns,
                chunk.t1_ns,
                chunk.count,
                *chunk.summary,
                epoch,
                seq_first,
                last,
                part,
                chunk.times,
                chunk.values,
                chunk.flags,
            )
        )
        part += 1


def apply(connection: Database, swap: Swap) -> None:
    """Swap a run for its chunks. A row that is gone means that somebody else was here: nothing is done then."""
    if rollup.raw_horizon(connection) != swap.horizon:
        raise StoreError("retention has moved on meanwhile; the compaction is planned again")
    if _delete(connection, "batch", swap.batches) != len(swap.batches) or _delete(
        connection, "chunk", swap.tails
    ) != len(swap.tails):
        raise StoreError("what was to be compacted has changed meanwhile; it is planned again")
    for reach in {chunk[2] for chunk in swap.chunks}:
        connection.place("chunk", reach)
    connection.executemany(
        "INSERT INTO chunk (series_id, t0_ns, t1_ns, count, min, max, sum, first, last, epoch_id, seq_first, seq_last, part, "
        'times, "values", flags) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
        swap.chunks,
    )
    connection.executemany("INSERT INTO dirty (series_id, t0_ns, t1_ns) VALUES (?, ?, ?)", swap.dirty)
    rollup.merge(connection, swap.late)
    connection.execute(
        "INSERT INTO meta VALUES ('compacted', ?) ON CONFLICT (key) DO UPDATE "
        f"SET value = {greater('meta.value', 'excluded.value')}",
        (max(swap.batches),),
    )


def _delete(connection: Database, table: str, ids: Sequence[int]) -> int:
    return sum(
        connection.execute(f"DELETE FROM {table} WHERE id IN ({marks})", part).rowcount
        for marks, part in reading.portions(ids)
    )
