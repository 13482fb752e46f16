"""Which series have data between two times: told from the ranges of chunks, windows, rollups and batches, no value is read.

A range may tell of data where there is a gap inside it, so a series too many is possible; one with data is never left out.
"""

from collections.abc import Sequence
from typing import Final

from telemetryx.store.tables import catalog, reading, shipped
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.numbers import Numbers
from telemetryx.store.tables.rollup import HOUR, MINUTE

MAX_BATCHES: Final = 256
"""Batches as shipped that are opened to see whose samples are in them; with more, all series of their agent count."""
_KEPT: Final = (
    "SELECT id FROM series WHERE id IN ({marks}) AND ("
    "EXISTS (SELECT 1 FROM chunk WHERE series_id = series.id AND t1_ns >= ? AND t0_ns < ?) OR "
    'EXISTS (SELECT 1 FROM "window" WHERE series_id = series.id AND start_ns > ? AND start_ns < ? AND last_ns >= ?) OR '
    "EXISTS (SELECT 1 FROM rollup_1m WHERE series_id = series.id AND t0_ns > ? AND t0_ns < ?))"
)


def present(
    connection: Database, numbers: Numbers, ids: Sequence[int], start_ns: int, end_ns: int
) -> set[int]:
    """Return which of these series have data in [start, end)."""
    newest = {series: one.time_ns for series, one in catalog.latest(connection, ids).items()}
    found = {series for series, time_ns in newest.items() if start_ns <= time_ns < end_ns}
    # What has nothing at or after the start has nothing in the range; the others may have.
    open_ = sorted(series for series, time_ns in newest.items() if time_ns >= end_ns)
    for marks, part in reading.portions(open_):
        asked = (start_ns, end_ns, start_ns - HOUR, end_ns, start_ns, start_ns - MINUTE, end_ns)
        found |= {row[0] for row in connection.execute(_KEPT.format(marks=marks), (*part, *asked))}
    left = [series for series in open_ if series not in found]
    for agent, members in reading.agents_of(connection, left).items():
        found |= _as_shipped(connection, numbers, agent, set(members), (start_ns, end_ns))
    return found


def _as_shipped(
    connection: Database, numbers: Numbers, agent: int, wanted: set[int], span: tuple[int, int]
) -> set[int]:
    where = "FROM batch INDEXED BY batch_time WHERE agent_id = ? AND t1_ns >= ? AND t0_ns < ? AND samples > 0"
    count = f"SELECT count(*) FROM (SELECT 1 {where} LIMIT ?) AS few"
    if connection.execute(count, (agent, *span, MAX_BATCHES + 1)).fetchone()[0] > MAX_BATCHES:
        return wanted
    rows = connection.execute(f"SELECT id, epoch_id, seq, received_ns {where}", (agent, *span))
    found: set[int] = set()
    for key, opened in numbers.opened.read(connection, [shipped.Key(*row) for row in rows]):
        ids = reading.known(numbers.ids(connection, key.epoch, opened.series), key.row_id)
        found |= wanted.intersection(ids.tolist())
        if found == wanted:
            break
    return found
