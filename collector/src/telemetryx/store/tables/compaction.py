"""Compaction: batches as shipped become chunks of one series. `plan` reads and encodes; swap.py puts it in their place, in bounded pieces.

A run is batches of one epoch whose seqs follow each other without a hole. Its samples of each series, sorted by (time, seq,
index), go behind the series' last chunk of that epoch when that one isn't full and nothing lies between; so chunks grow to
4,096 samples even when batches hold one, and the rule that orders equal times (chunks.py) holds.

    invariant   the store's samples, as readers see them, are the same before and after, but for those that nothing keeps
                (older than every retention when they came: commit.py counted them as expired) and for raw samples that are past
                their retention: no chunk is made of them, for beside newer ones they would stay as long as those
    invariant   what lies before the raw horizon is added to the rollups in the transaction that moves it
    invariant   a batch that a registered consumer (rules) hasn't read yet stays as shipped, and one that readers can't see yet
    invariant   no chunk is made of samples that are plain rows too and of samples that aren't (plain.py)
    ledger      not touched

What wins: dense runs first; anything that waits for five minutes; nothing younger than ten seconds (live resume reads it). A run
that fills chunks of its own goes at once; one that only comes near waits five seconds more, for what is cut full costs less.

A run can be planned while the one before is still being swapped: its batches count as gone. What of it isn't moved yet is no chunk, so
nothing is put behind it. A run that was left on its way (killed, or refused) goes first, from where it is.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from telemetryx.sets import distinct
from telemetryx.store.tables import chunks, moving, plain, reading, reals, rollup, sketches
from telemetryx.store.tables.blocks import Correction
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.moving import ALL, Move
from telemetryx.store.tables.numbers import Numbers
from telemetryx.store.tables.stretches import Loaded
from telemetryx.store.tables.swap import Made, Swap, portions
from telemetryx.types import F64, I64, WindowBlock

MIN_AGE_NS: Final = 10_000_000_000
MAX_AGE_NS: Final = 300_000_000_000
AHEAD_NS: Final = 3_600_000_000_000
"""A batch that came so far in the future came while the clock was wrong: it isn't young, whatever its row says."""
DENSE: Final = 1_000
"""Samples a series: worth the work."""
DENSE_AGE_NS: Final = MIN_AGE_NS + 5_000_000_000
"""So old a run that is dense, and no more than that, becomes due."""
OWN: Final = chunks.TARGET // 2
"""Samples of one series that go into a chunk of their own. Fewer go behind the last one, which is decoded and encoded again for it."""
MANY: Final = 512
"""Batches in one run: enough to tidy up."""
MAX_BATCHES: Final = 2_048
#: Behind every time: what may come reaches to 1 << 62 itself.
_ALWAYS: Final = (1 << 63) - 1
LATE_ROWS: Final = 4_000
"""Rollup rows, about, that one run adds to: 10 ms, should all be of one series. It is cut at a batch."""


@dataclass(slots=True)
class Run:
    """Batches of one epoch with consecutive seqs, as the index tells."""

    epoch: int
    plain: bool = False
    """Their samples are rows of table `sample` too (plain.py)."""
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
            self.samples >= chunks.TARGET * self.series
            or (self.samples >= DENSE * self.series and self.oldest_ns <= now_ns - DENSE_AGE_NS)
            or len(self.seqs) >= MANY
            or self.oldest_ns <= now_ns - MAX_AGE_NS
        )


def plan(
    connection: Database,
    numbers: Numbers,
    now_ns: int,
    limit: int,
    *,
    everything: bool = False,
    leaving: Collection[int] = (),
) -> Swap | None:
    """Choose the best run, read and encode it. `everything` takes young and sparse ones too.

    `leaving` are batches (row ids) whose swap is on its way.
    """
    if not leaving and (begun := moving.moves(connection)):
        return _resumed(connection, numbers, begun[0])
    run, others = _best(connection, now_ns, limit, everything=everything, leaving=leaving)
    if run is None:
        return None
    swap = _encode(connection, numbers, run, 0)
    swap.more = others or len(swap.batches) < len(run.seqs)
    return swap


def due(
    connection: Database, now_ns: int, limit: int, *, everything: bool = False, leaving: Collection[int] = ()
) -> int:
    """Count the samples of the run that would be chosen, as the index tells; of one that is on its way, none."""
    if not leaving and moving.moves(connection):
        return 0
    run, _ = _best(connection, now_ns, limit, everything=everything, leaving=leaving)
    return 0 if run is None else run.samples


def _best(
    connection: Database, now_ns: int, limit: int, *, everything: bool, leaving: Collection[int]
) -> tuple[Run | None, bool]:
    """Choose among what is due; also tell whether there is more."""
    runs = _runs(connection, now_ns, limit, everything=everything, leaving=frozenset(leaving))
    worth = [run for run in runs if everything or run.due(now_ns)]
    best = max(worth, key=lambda one: (one.samples / one.series, -one.oldest_ns), default=None)
    return best, len(worth) > 1


def _runs(
    connection: Database, now_ns: int, limit: int, *, everything: bool, leaving: Collection[int]
) -> list[Run]:
    (hold,) = connection.execute("SELECT min(cursor) FROM consumer").fetchone()
    young = now_ns if everything else now_ns - MIN_AGE_NS
    rows = connection.execute(
        "SELECT id, epoch_id, seq, received_ns, samples, series, id <= ? FROM batch INDEXED BY batch_work "
        "WHERE (received_ns <= ? OR received_ns > ?) AND (CAST(? AS BIGINT) IS NULL OR id <= ?) AND id < ? ORDER BY epoch_id, seq",
        (plain.progress(connection)[0], young, now_ns + AHEAD_NS, hold, hold, connection.settled()),
    )
    runs: list[Run] = []
    for row_id, epoch, seq, received, samples, series, are_rows in rows:
        if row_id in leaving:
            continue
        last = runs[-1] if runs else None
        fits = last is not None and (last.epoch, last.plain) == (epoch, are_rows) and last.seqs[-1] == seq - 1
        if last is None or not fits or last.samples >= limit or len(last.seqs) >= MAX_BATCHES:
            last = Run(epoch, bool(are_rows))
            runs.append(last)
        last.add(seq, received if received <= now_ns + AHEAD_NS else 0, samples, series)
    return runs


def _resumed(connection: Database, numbers: Numbers, begun: Move) -> Swap:
    """Go on with a run that was left on its way: what is moved isn't read again."""
    there = connection.execute(
        "SELECT id, length(payload) FROM batch WHERE epoch_id = ? AND seq BETWEEN ? AND ? ORDER BY seq",
        (begun.epoch, begun.first, begun.last),
    ).fetchall()
    seqs = (begun.first, begun.last)
    ids = [row_id for row_id, _ in there]
    if begun.upto == ALL or not ids:
        horizon = rollup.raw_horizon(connection)
        return Swap(
            begun.epoch, seqs, begun.upto, ids, portions(there), 0, horizon, plain=True, pieces=[], more=True
        )
    run = Run(begun.epoch, plain=max(ids) <= plain.progress(connection)[0], seqs=list(seqs))
    swap = _encode(connection, numbers, run, begun.upto)
    swap.more = True
    return swap


def _encode(connection: Database, numbers: Numbers, run: Run, after: int) -> Swap:
    """Read and encode a run, but for series up to `after`, which are moved. One that nobody began ends where it adds too much to rollups."""
    first, last = run.seqs[0], run.seqs[-1]
    horizon, expiry = rollup.raw_horizon(connection), rollup.expiry(connection)
    kept = rollup.samples_from(connection)
    sizes: list[tuple[int, int]] = []
    loaded = Loaded()
    windowed: list[WindowBlock] = []
    buckets = 0
    for row_id, offset, uncertain, payload in connection.stream(
        "SELECT id, clock_offset_ns, clock_uncertain, payload FROM batch WHERE epoch_id = ? AND seq BETWEEN ? AND ? ORDER BY seq",
        (run.epoch, first, last),
    ):
        data = reading.decoded(row_id, payload)
        sizes.append((row_id, len(payload)))
        samples = reading.batch_samples(
            connection, numbers, run.epoch, row_id, data, Correction(offset, bool(uncertain))
        )
        loaded.add(samples)
        buckets += _late_buckets(samples.times, horizon)
        windows = reading.batch_windows(connection, numbers, run.epoch, row_id, data, offset)
        if windows is not None:
            windowed.append(windows)
            buckets += _late_buckets(windows.start, horizon)
        if buckets > LATE_ROWS and not after:
            last = run.seqs[len(sizes) - 1]
            break
    made = Made()
    changes = _Changes(horizon, after, made)
    place = (run.epoch, first, last, _reach(connection, run.epoch, first))
    total = 0
    for block in loaded.slabs(expiry):
        total += len(block)
        for series, start, end in zip(
            block.series.tolist(), block.offsets[:-1].tolist(), block.offsets[1:].tolist(), strict=True
        ):
            if series <= after:
                continue
            part = slice(start, end)
            flags = None if block.flags is None else block.flags[part]
            fresh = chunks.Piece((b"\x01", 0, 0), block.times[part], block.values[part], flags)
            changes.samples(series, fresh.times, fresh.values)
            fresh = fresh.clip(kept, _ALWAYS)
            if len(fresh.times):
                _append(connection, made, series, fresh, place, kept, plain_rows=run.plain)
    for windows in windowed:
        changes.windows(windows, expiry)
    changes.finish(connection.reals)
    ids = [row_id for row_id, _ in sizes]
    return Swap(
        run.epoch, (first, last), after, ids, portions(sizes), total, horizon, run.plain, made.pieces()
    )


def _late_buckets(times: I64, horizon: int) -> int:
    """Count the minutes before the horizon, about: times ascend within each series."""
    minutes = times[times < horizon] // rollup.MINUTE
    return int(np.count_nonzero(np.diff(minutes))) + 1 if len(minutes) else 0


class _Changes:
    """What a run adds to rollups before the raw horizon, and the stretches after it that are to be recomputed."""

    def __init__(self, horizon: int, after: int, made: Made) -> None:
        """Begin with none; leave series up to `after` out."""
        self._horizon = horizon
        self._after = after
        self._parts: dict[int, list[rollup.Parts]] = {}
        self._made = made
        self._sketched = sketches.available()

    def samples(self, series: int, times: I64, values: F64) -> None:
        """Take samples of one series, ascending."""
        first = int(np.searchsorted(times, self._horizon))
        if first:
            late = rollup.of_samples(times[:first], values[:first], sketched=self._sketched)
            self._parts.setdefault(series, []).append(late)
        if first < len(times):
            self._made.dirty += [(series, *span) for span in rollup.dirty_spans(times[first:])]

    def windows(self, windows: WindowBlock, expiry: int) -> None:
        """Take a batch's windows, without those that are older than anything kept."""
        every = None
        for series in distinct(windows.series[windows.series > self._after]).tolist():
            first, last = np.searchsorted(windows.series, (series, series + 1)).tolist()
            starts = windows.start[first:last]
            begin, split = (first + np.searchsorted(starts, (expiry, self._horizon))).tolist()
            if split > begin:
                every = every or rollup.of_windows(windows, sketched=self._sketched)
                self._parts.setdefault(series, []).append(every.take(slice(begin, split)))
            if split < last:
                spans = rollup.dirty_spans(windows.start[split:last])
                self._made.dirty += [(series, *span) for span in spans]

    def finish(self, kept: reals.Reals) -> None:
        """Reduce what is to be added: one row a series and minute, whatever it came in."""
        for series, some in self._parts.items():
            self._made.late.add(series, rollup.join(some), kept)


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
    made: Made,
    series: int,
    fresh: chunks.Piece,
    place: tuple[int, int, int, int],
    kept_ns: int,
    *,
    plain_rows: bool,
) -> None:
    """Put a run's samples of one series behind its last chunk, without what that holds from before `kept_ns`, or into chunks of their own."""
    epoch, first, last, reach = place
    pieces, seq_first, part = [fresh], first, 0
    tail = _tail(connection, series, epoch, first) if len(fresh.times) < OWN else None
    alike = tail is not None and tail[10] == (tail[3] if plain_rows else 0)
    if tail is not None and alike and tail[3] < chunks.TARGET and tail[5] + 1 >= reach:
        made.tails.append((series, tail[0]))
        seq_first, part = tail[4], tail[6]
        try:
            before = chunks.Piece((b"", 0, 0), *chunks.decode(*tail[1:4], *tail[7:10]))
        except chunks.UNREADABLE as error:
            raise chunks.damaged(series, tail[1], error) from error
        pieces.append(before.clip(kept_ns, _ALWAYS))
    times, values, flags = chunks.merge(pieces)
    count = -(-len(times) // chunks.MOST)
    for at in range(count):
        cut = slice(len(times) * at // count, len(times) * (at + 1) // count)
        chunk = chunks.encode(series, times[cut], values[cut], None if flags is None else flags[cut])
        made.chunks.append(
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
                chunk.count if plain_rows else 0,
            )
        )
        part += 1


def _tail(connection: Database, series: int, epoch: int, first: int) -> Any:  # noqa: ANN401 - a row, or None
    return connection.execute(
        'SELECT id, t0_ns, t1_ns, count, seq_first, seq_last, part, times, "values", flags, plain FROM chunk '
        "WHERE series_id = ? AND epoch_id = ? AND seq_last < ? ORDER BY seq_last DESC, part DESC LIMIT 1",
        (series, epoch, first),
    ).fetchone()
