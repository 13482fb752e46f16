"""Computes hours of rollups from the minutes that are kept of them, where raw data is gone."""

import numpy as np

from telemetryx.store.tables import rollup, sketches
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.rollup import HOUR
from telemetryx.store.tables.spans import Span


def compute(connection: Database, series: int, span: Span) -> int:
    """Compute hours from the minutes that are kept of them; return how many. One with more readings than its minutes have is left: some of these are gone."""
    sketched = sketches.available()
    found = rollup.stored(connection, "rollup_1m", [series], *span, sketched=sketched)
    owners, made = rollup.reduce_many(*found, HOUR)
    keys = list(zip(owners.tolist(), made.times.tolist(), strict=True))
    more = dict(connection.find_many("rollup_1h", ("series_id", "t0_ns"), ("t0_ns", "count"), keys))
    some = np.array(
        [more.get(key[1], 0) <= count for key, count in zip(keys, made.counts.tolist(), strict=True)]
    )
    if not some.any():
        return 0
    rows = list(made.take(some).rows_of(owners[some], connection.reals))
    connection.replace_many("rollup_1h", ("series_id", "t0_ns"), rollup.COLUMNS, rows)
    return len(rows)
