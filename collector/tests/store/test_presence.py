"""Which series have data between two times, on every store: as shipped, compacted, as windows, and as rollups alone."""

import pytest

from reference_agent import SECOND, T0, decoded, defined, samples, window
from telemetryx.store.interface import Retention
from telemetryx.store.tables import presence
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, Stored
from telemetryx.wire.payload import Payload

HOUR = 3_600 * SECOND
DAY = 24 * HOUR
START = T0 // HOUR * HOUR
DEFS = defined("early", "always", "late", "windowed")
EARLY, ALWAYS, LATE, WINDOWED = 1, 2, 3, 4


async def fill(store: TableStore) -> None:
    """Send five hours: one series in the first, one in all, one in the last, one as a window in the third."""
    for seq, hour in enumerate(range(5), start=1):
        at = START + hour * HOUR
        rows = {ALWAYS: [(at + n * SECOND, float(n)) for n in range(10)]}
        if hour == 0:
            rows[EARLY] = [(at, 1.0)]
        if hour == 4:
            rows[LATE] = [(at, 1.0)]
        windows = window(WINDOWED, at, [1.0, 2.0]) if hour in {2, 4} else None
        batch = decoded(
            BatchKey("a", b"e" * 16, seq), Payload(samples(dict(sorted(rows.items()))), windows), DEFS
        )
        (outcome,) = await store.commit([batch])
        assert isinstance(outcome, Stored)


async def names(store: TableStore, start: int, end: int) -> set[str]:
    """Name the series that have data there."""
    rows = await store.series()
    there = await store.present([row.id for row in rows], start, end)
    return {row.name for row in rows if row.id in there}


@pytest.mark.parametrize("compacted", [False, True])
async def test_a_series_counts_where_it_has_data(store: TableStore, compacted: bool) -> None:  # noqa: FBT001 - a parameter
    """Those that ended before and those that began later are left out, whether batches wait as shipped or not."""
    await fill(store)
    if compacted:
        while (report := await store.compact(everything=True)).more or report.batches:
            pass
    assert await names(store, START, START + HOUR) == {"early", "always"}
    assert await names(store, START + HOUR + 60 * SECOND, START + 3 * HOUR) == {"always", "windowed"}
    assert await names(store, START + 4 * HOUR, START + DAY) == {"always", "late", "windowed"}
    assert await names(store, START - DAY, START) == set()
    assert await names(store, START + 5 * HOUR, START + DAY) == set()
    assert await names(store, -(1 << 62), 1 << 62) == {"early", "always", "late", "windowed"}


async def test_a_series_of_which_only_rollups_are_left_counts(store: TableStore) -> None:
    """Raw data goes after days, the rollups stay for years."""
    await fill(store)
    while (report := await store.compact(everything=True)).more or report.batches:
        pass
    keep = Retention(raw_ns=2 * HOUR, windows_ns=2 * HOUR, rollup_1m_ns=400 * DAY, rollup_1h_ns=400 * DAY)
    await store.apply_retention(keep, START + 5 * HOUR)
    assert await names(store, START, START + HOUR) == {"early", "always"}


async def test_with_many_batches_as_shipped_all_series_of_their_agent_count(
    store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They aren't all opened: too many is better than one that is missing."""
    monkeypatch.setattr(presence, "MAX_BATCHES", 1)
    await fill(store)
    assert await names(store, START, START + 2 * HOUR) == {"early", "always", "late", "windowed"}
