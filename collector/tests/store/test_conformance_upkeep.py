"""What every store must do behind its commits, on each implementation: compaction, late data, retention, verification."""

import math
import random
from typing import Any

import numpy as np

from reference_agent import SECOND, T0, decoded, events, samples, window
from store_batches import DEFS, FOREVER, compacted, key, line, one, values
from telemetryx.clock import ManualClock
from telemetryx.store.interface import EventQuery, Retention, Store
from telemetryx.store.tables import rollup
from telemetryx.store.tables.store import TableStore
from telemetryx.types import (
    Conflict,
    Duplicate,
    LossFrame,
)
from telemetryx.wire.payload import Payload


async def test_late_data_joins_what_is_compacted(store: Store) -> None:
    """Samples older than a chunk are merged when read, and stay so after compaction."""
    await one(store, 2, line(100 * SECOND, [float(i) for i in range(100)]))
    await compacted(store)
    await one(store, 1, line(0, [-1.0] * 150))
    for _ in range(2):
        block = await store.samples([1], -FOREVER, FOREVER)
        assert (np.diff(block.times) >= 0).all()
        assert len(block) == 250
        assert block.values[:100].tolist() == [-1.0] * 100
        await compacted(store)
    assert await store.verify() == []


async def test_small_batches_grow_into_large_chunks(store: Store) -> None:
    """Runs go behind the last chunk of their series until it is full, so single samples don't stay single."""
    for seq in range(1, 31):
        await one(store, seq, line(seq * 100 * SECOND, [float(i) for i in range(100)]))
        await compacted(store)
    usage = await store.usage()
    assert (usage.chunks, usage.chunk_samples, usage.batches) == (1, 3000, 0)
    assert await store.verify() == []


async def test_a_dropped_seq_does_not_keep_chunks_small(store: Store) -> None:
    """A loss frame fills the hole, so the chunk grows over it."""
    await one(store, 1, line(0, [1.0]))
    await compacted(store)
    await store.commit_loss([LossFrame(key(2), T0, T0, {65: 1})])
    await one(store, 3, line(10 * SECOND, [3.0]))
    await compacted(store)
    assert (await store.usage()).chunks == 1


async def test_young_batches_wait_and_old_ones_do_not(store: Store, clock: ManualClock) -> None:
    """A batch younger than ten seconds stays as shipped; a sparse one is compacted after five minutes."""
    await one(store, 1, line(0, [1.0]))
    assert (await store.compact()).batches == 0
    clock.advance(301 * SECOND)
    assert (await store.compact()).batches == 1


async def test_retention_deletes_by_event_time_and_keeps_the_ledger(store: Store) -> None:
    """Old raw data, windows, events and rollups go, each by its own limit; a resent batch is still a duplicate."""
    old = decoded(
        key(1),
        Payload(samples({1: [(T0, 1.0)]}), window(1, T0, [1.0]), events((T0, 9, "s", "old words", {}))),
        DEFS,
    )
    await store.commit(
        [
            old,
            decoded(
                key(2),
                Payload(
                    samples({2: [(T0 + 7200 * SECOND, 2.0)]}),
                    events=events((T0 + 7200 * SECOND, 9, "s", "new words", {})),
                ),
                DEFS,
            ),
        ]
    )
    await compacted(store)
    hour = 3600 * SECOND
    kept = Retention(raw_ns=hour, windows_ns=hour, events_ns=hour, rollup_1h_ns=10 * hour)
    assert await store.apply_retention(kept, T0 + 7300 * SECOND) == 3
    assert await values(store) == []
    assert await values(store, 2) == [2.0]
    assert [event.body for event in await store.events(EventQuery(q="words"))] == ["new words"]
    assert (await store.range([1], T0, T0 + 60 * SECOND, 60 * SECOND)).series[0].counts.sum() == 2, (
        "the rollup stays"
    )
    other = decoded(key(1), line(0, [5.0]), DEFS)
    assert await store.commit([old]) == [Duplicate()]
    assert await store.commit([other]) == [Conflict(old.checksum)], "its name stays taken"
    await store.apply_retention(Retention(rollup_1m_ns=hour, rollup_1h_ns=hour), T0 + 36000 * SECOND)
    assert (await store.range([1], T0, T0 + 60 * SECOND, 60 * SECOND)).series[0].counts.sum() == 0
    assert await store.verify() == []


async def test_a_sound_store_verifies(store: Store) -> None:
    """Verify finds nothing in what commit and compaction wrote."""
    for seq in (1, 2, 4, 7):
        await one(store, seq, line(seq * SECOND, [1.0, math.nan]))
    await store.compact(everything=True)
    await one(store, 3, line(0, [1.0]))
    assert await store.verify() == []


async def test_rows_that_are_replaced_leave_those_between_them_alone(store: TableStore) -> None:
    """Runs of neighbours may go at once, but never what lies in a gap, beside them, or in another series."""
    draw = random.Random(5)
    minute = rollup.MINUTE

    def row(series: int, at: int, figure: float) -> tuple[Any, ...]:
        return (series, at * minute, 1, figure, figure, figure, figure, figure, 0, 0, None)

    there = {(series, at): 1.0 for series in (1, 2, 3) for at in range(40)}
    await store.write(
        lambda db: db.insert_many("rollup_1m", rollup.COLUMNS, [row(*key, 1.0) for key in there])
    )
    for figure in range(2, 40):
        chosen = sorted(draw.sample(sorted({*there, *((4, at) for at in range(9))}), draw.randint(1, 60)))
        if draw.random() < 0.2:
            draw.shuffle(chosen)
        rows = [row(*key, float(figure)) for key in chosen]
        await store.write(
            lambda db, rows=rows: db.replace_many(
                "rollup_1m", ("series_id", "t0_ns"), rollup.COLUMNS, rows, minute
            )
        )
        there |= dict.fromkeys(chosen, float(figure))
        found = await store.read(
            lambda db: db.execute("SELECT series_id, t0_ns, sum FROM rollup_1m").fetchall()
        )
        assert {(series, at // minute): value for series, at, value in found} == there
        assert len(found) == len(there)
