"""The loss ledger's counts and the times that they lie between; runs on each store."""

import sqlite3
from pathlib import Path

import pytest

from reference_agent import SECOND, T0, decoded, defined, events, samples
from telemetryx.clock import ManualClock
from telemetryx.fleet import LossRow, balance
from telemetryx.store import migrations
from telemetryx.store.interface import Store
from telemetryx.store.sqlite import connection
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.types import BatchKey, Cause, LossFrame
from telemetryx.wire.payload import Payload

EPOCH = bytes(range(16))
DEFS = defined("temp")


def key(seq: int) -> BatchKey:
    """A batch's name."""
    return BatchKey("a", EPOCH, seq)


async def times(store: Store) -> dict[str, tuple[int, int, int]]:
    """Count, first and last time by cause."""
    return {row.cause: (row.count, row.first_ns, row.last_ns) for row in await store.loss("a")}


async def test_counts_without_readings_lie_at_their_arrival(store: Store, clock: ManualClock) -> None:
    """A batch that holds only rejects has no event time: the ledger gives the time it came."""
    arrived = clock.now_ns()
    await store.commit([decoded(key(1), Payload(counts={Cause.REJECTED_SYNTAX: 3, Cause.RECEIVED: 3}))])
    assert (await times(store))["rejected_syntax"] == (3, arrived, arrived)
    clock.advance(60 * SECOND)
    alone = decoded(key(2), Payload(counts={Cause.REJECTED_SYNTAX: 1}))
    again = decoded(key(3), Payload(counts={Cause.REJECTED_SYNTAX: 1}))
    await store.commit([alone, again])
    assert (await times(store))["rejected_syntax"] == (5, arrived, arrived + 60 * SECOND)
    assert "stored" not in await times(store)


async def test_a_batch_without_times_hides_nobody_elses(store: Store) -> None:
    """Whatever comes first, ranges are of what is known, within a group of batches and across them."""
    old = Payload(samples({1: [(T0 - 9 * SECOND, 1.0), (T0 - 5 * SECOND, 2.0)]}), counts={Cause.RECEIVED: 2})
    empty = Payload(counts={Cause.RECEIVED: 1})
    await store.commit([decoded(key(1), empty), decoded(key(2), old, DEFS), decoded(key(3), empty)])
    assert (await times(store))["received"] == (4, T0 - 9 * SECOND, T0)
    await store.commit([decoded(key(4), empty)])
    assert (await times(store))["received"] == (5, T0 - 9 * SECOND, T0)


async def test_a_dropped_batch_without_times_hides_nobody_elses(store: Store) -> None:
    """A loss frame with times 0 leaves the range of ledger and gap as it is, and a later one sets it."""
    nothing = LossFrame(key(1), 0, 0, {Cause.OVERFLOWED: 1})
    await store.commit_loss([nothing])
    assert (await times(store))["overflowed"] == (1, 0, 0)
    await store.commit_loss([LossFrame(key(2), T0, T0 + SECOND, {Cause.OVERFLOWED: 2})])
    await store.commit_loss([LossFrame(key(3), 0, 0, {Cause.OVERFLOWED: 1})])
    assert (await times(store))["overflowed"] == (4, T0, T0 + SECOND)
    (gap,) = await store.gaps("a")
    assert (gap.first_seq, gap.last_seq, gap.t0_ns, gap.t1_ns) == (1, 3, T0, T0 + SECOND)


async def test_what_is_stored_has_its_range(store: Store) -> None:
    """From the oldest to the newest event time of samples, windows and events, whatever came when."""
    await store.commit([decoded(key(1), Payload(samples({1: [(T0, 1.0), (T0 + SECOND, 2.0)]})), DEFS)])
    assert (await times(store))["stored"] == (2, T0, T0 + SECOND)
    late = Payload(samples({1: [(T0 - SECOND, 0.0)]}), events=events((T0 + 5 * SECOND, 9, "s", "b", {})))
    await store.commit([decoded(key(2), late, DEFS), decoded(key(3), Payload(counts={Cause.RECEIVED: 1}))])
    assert (await times(store))["stored"] == (4, T0 - SECOND, T0 + 5 * SECOND)


async def test_the_books_balance_when_every_reading_is_accounted_for(store: Store) -> None:
    """Received + derived = rejected + deduplicated + reduced + shipped; what is lost on the way was shipped."""
    counts = {Cause.RECEIVED: 1_000, Cause.DERIVED: 14, Cause.SHIPPED: 614, Cause.REDUCED_WINDOW: 200}
    counts |= {Cause.REDUCED_DEADBAND: 150, Cause.REJECTED_TIME: 20, Cause.REJECTED_LIMIT: 10}
    counts |= {Cause.DEDUPLICATED: 15, Cause.DEDUPLICATED_RETAINED: 5}
    await store.commit([decoded(key(1), Payload(counts=counts))])
    dropped = {Cause.RECEIVED: 30, Cause.SHIPPED: 30, Cause.OVERFLOWED: 30}
    await store.commit_loss([LossFrame(key(2), T0, T0, dropped)])
    assert balance(await store.loss()) == {"a": 0}
    await store.commit([decoded(key(3), Payload(counts={Cause.RECEIVED: 5, Cause.SHIPPED: 3}))])
    await store.commit(
        [decoded(BatchKey("b", EPOCH, 1), Payload(counts={Cause.DERIVED: 2, Cause.SHIPPED: 3}))]
    )
    assert balance(await store.loss()) == {"a": 2, "b": -1}


async def test_a_store_of_before_gets_the_range_of_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    """Opening a file without these columns fills them from its rollups, and its rollups answer as before."""
    path = tmp_path / "old.db"
    every = migrations.scripts()
    monkeypatch.setattr(migrations, "scripts", lambda: {n: t for n, t in every.items() if n < "0003"})
    old: sqlite3.Connection = connection.open_writer(path)
    migrations.migrate(old)
    hour = T0 // (3600 * SECOND) * 3600 * SECOND
    old.execute(
        "INSERT INTO agent (id, name, first_seen_ns, last_seen_ns, last_event_ns, stored) VALUES (1, 'a', ?, ?, ?, 2)",
        (T0, T0, T0),
    )
    old.execute("INSERT INTO series (id, agent_id, name, labels, created_ns) VALUES (1, 1, 'temp', '{}', 0)")
    old.execute("INSERT INTO rollup_1m VALUES (1, ?, 2, 3.0, 1.0, 2.0, 1.0, 2.0)", (hour,))
    old.execute("INSERT INTO rollup_1h VALUES (1, ?, 2, 3.0, 1.0, 2.0, 1.0, 2.0)", (hour,))
    old.close()
    monkeypatch.undo()
    store = await SqliteStore.open(path, clock=clock)
    try:
        assert await store.loss() == [LossRow("a", "stored", 2, hour, T0)]
        (row,) = (await store.range([1], hour, hour + 60 * SECOND, 60 * SECOND, "last")).series
        assert (row.counts.tolist(), row.values.tolist()) == ([2], [2.0])
    finally:
        await store.close()
