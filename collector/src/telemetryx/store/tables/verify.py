"""Does the store hold together? The engine's own check, then that ledger, batches, chunks, windows, rollups and plain rows agree, and that what remote care keeps is whole.

Batches have a checksum of their own (zstd's), and so has each sketch of a rollup. Chunks have none, but their rows say minimum, maximum, sum, first and last of what is in them, and
from the raw horizon on the rollups say it again, by minutes: so bytes that changed show, unless they change a value by less than a sum's rounding; and
so does a chunk that is missing (rolled.py). Before the raw horizon rollups are all there is: their rows' own figures are compared, and hours with their minutes (hours.py).
"""

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np

from telemetryx.errors import StoreError
from telemetryx.store.tables import (
    alike,
    blocks,
    chunks,
    moving,
    plain,
    pushed,
    reading,
    reals,
    requests,
    rolled,
    rollup,
    sketching,
)
from telemetryx.store.tables.blocks import Correction
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.numbers import Numbers
from telemetryx.types import F64

MOST: Final = 200
"""Sentences of one kind of look."""


def missing(connection: Database) -> list[str]:
    """Say which tables and columns of the applied schema steps aren't there. Of steps that only a newer collector knows nothing is said."""
    wanted, there = connection.schema()
    return [
        f"table {table} is missing"
        if table not in there
        else f"table {table} lacks {', '.join(sorted(columns - there[table]))}"
        for table, columns in sorted(wanted.items())
        if columns - there.get(table, set())
    ]


def regain(connection: Database) -> str:
    """Say what to do about tables that aren't there."""
    if connection.shared:
        return (
            "see that the schema with the collector's tables is in its user's search_path (`SHOW search_path`); "
            "if they are gone, restore a backup into an empty database and name that"
        )
    return "restore a backup"


def verify(connection: Database, numbers: Numbers) -> list[str]:
    """Return the problems found, as sentences."""
    if problems := missing(connection):
        return problems  # what is compared below stands in them
    problems = connection.faults()
    problems += _ledger(connection)
    problems += _first(_batches(connection, numbers), "batches")
    problems += _waiting(connection)
    problems += _first(_chunks(connection), "chunks")
    problems += _first(_windows(connection), "windows")
    problems += _first(rolled.problems(connection), "rollups")
    problems += _first(_plain(connection, numbers), "plain rows")
    problems += pushed.faults(connection)
    problems += requests.faults(connection)
    return problems


def _first(some: Iterable[str], of: str) -> list[str]:
    """Take the first of many sentences, and count the others: where a table is gone each row of another one is at fault."""
    rest = iter(some)
    found = list(islice(rest, MOST))
    more = sum(1 for _ in rest)
    return [*found, f"(and {more:,} more of {of})"] if more else found


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a collector has yet to do behind what it stored. Queries show everything meanwhile, from what was shipped."""

    batches: int
    """To be compacted,"""
    samples: int
    """and what is in them."""
    rollups: int
    """Stretches of series whose rollups are to be computed."""
    sketches: bool
    """Whether rollups of an older collector are to get theirs."""

    def __bool__(self) -> bool:
        """Tell whether there is anything."""
        return bool(self.batches or self.rollups or self.sketches)


def waiting(connection: Database) -> Waiting:
    """Count what isn't done yet."""
    batches, samples = connection.execute(
        "SELECT count(*), CAST(coalesce(sum(samples), 0) AS BIGINT) FROM batch"
    ).fetchone()
    (stretches,) = connection.execute("SELECT count(*) FROM dirty").fetchone()
    return Waiting(int(batches), int(samples), int(stretches), not sketching.finished(connection))


def _ledger(connection: Database) -> list[str]:
    problems = []
    before: tuple[int, int] | None = None
    for epoch, first, last in connection.execute(
        "SELECT epoch_id, first, last FROM ledger ORDER BY epoch_id, first"
    ):
        if last < first or first < 1:
            problems.append(f"ledger: epoch {epoch} has a range {first} to {last}")
        if before is not None and before[0] == epoch and first <= before[1] + 1:
            problems.append(f"ledger: epoch {epoch} has ranges that overlap or touch at {first}")
        before = (epoch, last)
    problems += _first(_unknown_batches(connection), "batches")
    problems += _first(_unknown_chunks(connection), "chunks")
    problems += [
        f"batch row {row[0]} (epoch {row[1]}, seq {row[2]}) is in a chunk too"
        for row in connection.execute(
            "SELECT batch.id, batch.epoch_id, seq FROM batch WHERE EXISTS (SELECT 1 FROM chunk WHERE "
            "chunk.epoch_id = batch.epoch_id AND seq BETWEEN seq_first AND seq_last AND chunk.series_id IN "
            "(SELECT series_id FROM series_number WHERE series_number.epoch_id = batch.epoch_id) AND NOT EXISTS "
            "(SELECT 1 FROM moving WHERE moving.epoch_id = batch.epoch_id AND seq BETWEEN moving.seq_first AND moving.seq_last "
            "AND chunk.series_id <= moving.upto)) LIMIT 100"
        )
    ]
    return problems


def _unknown_batches(connection: Database) -> Iterator[str]:
    for row_id, epoch, seq in connection.stream(
        "SELECT id, epoch_id, seq FROM batch WHERE NOT EXISTS (SELECT 1 FROM ledger WHERE ledger.epoch_id = batch.epoch_id "
        "AND first <= seq AND last >= seq)"
    ):
        yield f"batch row {row_id} (epoch {epoch}, seq {seq}) isn't in the ledger"


def _unknown_chunks(connection: Database) -> Iterator[str]:
    for row_id, epoch, first, last in connection.stream(
        "SELECT id, epoch_id, seq_first, seq_last FROM chunk WHERE NOT EXISTS (SELECT 1 FROM ledger WHERE "
        "ledger.epoch_id = chunk.epoch_id AND first <= seq_first AND last >= seq_last)"
    ):
        yield f"chunk {row_id} (epoch {epoch}, seqs {first} to {last}) isn't in the ledger"


def _batches(connection: Database, numbers: Numbers) -> Iterator[str]:
    for row_id, epoch, offset, uncertain, samples, payload in connection.stream(
        "SELECT id, epoch_id, clock_offset_ns, clock_uncertain, samples, payload FROM batch"
    ):
        try:
            block = reading.batch_samples(
                connection,
                numbers,
                epoch,
                row_id,
                reading.decoded(row_id, payload),
                Correction(offset, bool(uncertain)),
            )
        except StoreError as error:
            yield str(error)
            continue
        if len(block) != samples:
            yield f"batch row {row_id} holds {len(block)} samples, not {samples}"


def _chunks(connection: Database) -> Iterator[str]:
    for row_id, t0, t1, count, times, values, flags, *said in connection.stream(
        'SELECT id, t0_ns, t1_ns, count, times, "values", flags, min, max, sum, first, last FROM chunk'
    ):
        try:
            when, what, marks = chunks.decode(t0, t1, count, times, values, flags)
            sound = marks is None or len(marks) == count
            sound = sound and len(when) == len(what) == count and int(when[0]) == t0 and int(when[-1]) == t1
        except chunks.UNREADABLE as error:
            yield f"chunk {row_id} can't be decoded: {error}"
            continue
        if not sound or bool((when[1:] < when[:-1]).any()):
            yield f"chunk {row_id} doesn't hold what its row says"
        elif wrong := _differing(what, said):
            yield f"chunk {row_id} doesn't hold what its row says: {wrong}"


def _differing(values: F64, said: Sequence[float | None]) -> str:
    """Name what a chunk's row says otherwise than its values do; "" when they agree."""
    found = chunks.summary(values)
    names = ("min", "max", "sum", "first", "last")
    with np.errstate(over="ignore"):
        rounding = float((alike.ROUNDING * np.abs(values[np.isfinite(values)])).sum())
    wrong = [
        name
        for name, one, other in zip(names, found, said, strict=True)
        if not _alike(one, other, rounding if name == "sum" else 0.0)
    ]
    return ", ".join(wrong)


def _alike(one: float | None, other: float | None, rounding: float) -> bool:
    if one is None or other is None:
        return one is None and (other is None or np.isnan(other))
    return one == other or abs(one - other) <= rounding


def _waiting(connection: Database) -> list[str]:
    """Count the batches behind the newest one that was compacted: none of them can be gone, where one process numbers them without a gap."""
    marks = dict(
        connection.execute("SELECT key, value FROM meta WHERE key IN ('compacted', 'commit_base')").fetchall()
    )
    if connection.shared or "commit_base" in marks or "compacted" not in marks:
        return []
    after, newest = int(marks["compacted"]), connection.newest_commit()
    (there,) = connection.execute("SELECT count(*) FROM batch WHERE id > ?", (after,)).fetchone()
    missing = max(0, newest - after) - int(there)
    return [f"{missing:,} of the batches {after + 1:,} to {newest:,} are missing"] if missing > 0 else []


def _windows(connection: Database) -> Iterator[str]:
    """Decode each sketch, and compare a window's figures with each other."""
    for row_id, count, low, high, first, last, sketch in connection.stream(
        'SELECT id, count, min, max, first, last, sketch FROM "window"'
    ):
        if not all(_between(*map(reals.value, (low, one, high))) for one in (first, last)):
            yield f"window {row_id} has a first or last value outside of its minimum and maximum"
        if sketch is None:
            continue
        try:
            block = blocks.sketches([sketch])
            sound = block is not None and len(sketch) == 16 + 12 * len(block.keys)
            held = 0 if block is None else int(block.weights.sum()) + int(block.zero.sum())
        except ValueError as error:
            yield f"the sketch of window {row_id} can't be decoded: {error}"
            continue
        if not sound or held > count:
            yield f"the sketch of window {row_id} doesn't hold what its row says"


def _between(low: float, value: float, high: float) -> bool:
    """Tell whether a value may be one of a window; one that is no number may always."""
    return np.isnan(value) or low <= value <= high


def _plain(connection: Database, numbers: Numbers) -> list[str]:
    """Compare the plain rows of each series with the samples that are marked as such, from the raw horizon on.

    Before it retention may have taken one of the two already.
    """
    horizon = rollup.raw_horizon(connection)
    wanted: Counter[int] = Counter()
    for series, count in connection.execute(
        "SELECT series_id, CAST(sum(plain) AS BIGINT) FROM chunk WHERE plain > 0 AND t0_ns >= ? GROUP BY series_id",
        (horizon,),
    ):
        wanted[series] += count
    for series, t0, t1, count, times, values, flags, rows in connection.stream(
        'SELECT series_id, t0_ns, t1_ns, count, times, "values", flags, plain FROM chunk '
        "WHERE plain > 0 AND t0_ns < ? AND t1_ns >= ?",
        (horizon, horizon),
    ):
        with contextlib.suppress(*chunks.UNREADABLE):  # _chunks names it
            when = chunks.decode(t0, t1, count, times, values, flags)[0]
            wanted[series] += int(np.count_nonzero(when[:rows] >= horizon))
    with contextlib.suppress(StoreError):  # _batches names it
        wanted.update(_plain_batches(connection, numbers, horizon))
    there = Counter(
        dict(
            connection.execute(
                "SELECT series_id, count(*) FROM sample WHERE time_ns >= ? GROUP BY series_id", (horizon,)
            ).fetchall()
        )
    )
    return [
        f"series {series} has {there[series]:,} plain rows of {wanted[series]:,} samples that should have one"
        for series in sorted(wanted.keys() | there.keys())
        if wanted[series] != there[series]
    ]


def _plain_batches(connection: Database, numbers: Numbers, horizon: int) -> Counter[int]:
    """Count by series the samples of batches as shipped that are rows."""
    wanted: Counter[int] = Counter()
    cursor, part = plain.progress(connection)
    moves = moving.moves(connection)
    (following,) = connection.execute("SELECT min(id) FROM batch WHERE id > ?", (cursor,)).fetchone()
    for row_id, epoch, seq, offset, uncertain, payload in connection.stream(
        "SELECT id, epoch_id, seq, clock_offset_ns, clock_uncertain, payload FROM batch WHERE id <= ?",
        (cursor if following is None or not part else following,),
    ):
        correction = Correction(offset, bool(uncertain))
        block = reading.batch_samples(
            connection, numbers, epoch, row_id, reading.decoded(row_id, payload), correction
        )
        series = np.repeat(block.series, np.diff(block.offsets))
        rows = slice(part if row_id == following else None)
        counted = (block.times[rows] >= horizon) & (series[rows] > moving.upto(moves, epoch, seq))
        found, counts = np.unique(series[rows][counted], return_counts=True)  # noqa: TID251  with counts: it loads nothing
        wanted.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
    return wanted
