"""What lies beside a report's time: which series were there before it, and their readings next to its two ends.

A pause that an end cuts is as long as it is, not as much of it as lies inside; and a series that was there before, but not heard at the
beginning, has a pause there. Both must not depend on what compaction has done so far, so batches as shipped are asked too.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from telemetryx.export.rows import MAX_ROWS, Piece, Read, Span, pieces_of
from telemetryx.export.wanted import Wanted
from telemetryx.store.tables import points, reading, rollup
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.numbers import Numbers
from telemetryx.types import Series


def known_before(database: Database, rows: Sequence[Series], start_ns: int) -> set[int]:
    """Return which of these series have a reading before a time that is kept in any form."""
    ids = [row.id for row in rows]
    database.rollback()
    database.begin_snapshot()
    found = _in_tables(database, ids, start_ns)
    found |= {series for series, *_ in points.newest_windows(database, ids, start_ns)}
    rest = [row for row in rows if row.id not in found]
    wanted = Wanted("samples", rollup.expiry(database), start_ns)
    if rest and wanted.start_ns < start_ns:
        for piece in pieces_of(database, wanted, rest, read=_waiting):
            found |= {piece.series[at].id for at in np.unique(piece.index).tolist()}
    return found


def _in_tables(database: Database, ids: Sequence[int], start_ns: int) -> set[int]:
    """Look for rollups and chunks that begin before a time."""
    # The hour that the time lies in says nothing: chunks, windows and batches do.
    edges = {"rollup_1h": start_ns // rollup.HOUR * rollup.HOUR, "chunk": start_ns}
    found: set[int] = set()
    for marks, part in reading.portions(ids):
        for table, edge in edges.items():
            rows = database.execute(
                f"SELECT id FROM series WHERE id IN ({marks}) AND EXISTS (SELECT 1 FROM {table} "  # noqa: S608  our own names
                f"WHERE {table}.series_id = series.id AND {table}.t0_ns < ?)",
                (*part, edge),
            ).fetchall()
            found |= {row[0] for row in rows}
    return found


def _waiting(database: Database, numbers: Numbers, rows: Sequence[Series], span: Span) -> Piece:
    """Read samples of batches as shipped."""
    block = reading.waiting_samples(database, numbers, [row.id for row in rows], *span, MAX_ROWS)
    places = {row.id: at for at, row in enumerate(rows)}
    mine = np.array([places[one] for one in block.series.tolist()], np.int64)
    return Piece(rows, np.repeat(mine, np.diff(block.offsets)), {"time": block.times})


def nearest(
    database: Database,
    reach: Mapping[int, int],
    rows: Sequence[Series],
    span: Span,
    reads: Callable[[Span], Iterable[Read | None]],
) -> Iterator[tuple[Piece, bool]]:
    """Yield what lies beside a span within each series' reach, and whether it is before it: by pieces, read as `reads` says for a span.

    Series of about one reach are read together, at most twice as far.
    """
    buckets: dict[int, list[Series]] = {}
    for row in rows:
        if reach.get(row.id, 0) > 0:
            buckets.setdefault(reach[row.id].bit_length(), []).append(row)
    for bits, some in sorted(buckets.items()):
        far = 1 << bits
        for part, before in (((span[0] - far, span[0]), True), ((span[1], span[1] + far), False)):
            wanted = Wanted("samples", *part)
            for read in reads(part):
                for piece in pieces_of(database, wanted, some, read=read):
                    yield piece, before
