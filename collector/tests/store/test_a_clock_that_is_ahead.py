"""A collector's clock that is ahead deletes nothing, and what one has done to a store is taken back; runs on each store."""

from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pytest

from reference_agent import SECOND, decoded, defined, samples
from telemetryx.clock import ManualClock, SystemClock, synchronised
from telemetryx.store.interface import Retention, Store
from telemetryx.store.tables import retention, rollup, today
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, Stored
from telemetryx.wire.payload import Payload

Opener = Callable[[], Awaitable[TableStore]]
EPOCH = bytes(range(16))
T0 = 1_764_000_000 * SECOND
"""Late enough for a clock that was set."""
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
KEEP = Retention(
    raw_ns=30 * DAY,
    windows_ns=30 * DAY,
    rollup_1m_ns=730 * DAY,
    rollup_1h_ns=730 * DAY,
    events_ns=90 * DAY,
    connections_ns=90 * DAY,
)
BROKEN = 1_100 * DAY
"""So far ahead was the clock that deletes all."""


@pytest.fixture
def clock() -> ManualClock:
    """A clock that was set."""
    return ManualClock(T0)


@pytest.fixture(autouse=True)
def nobody_confirms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel knows nothing of the tests' time."""
    monkeypatch.setattr(today.Today.__init__, "__defaults__", (lambda _now: False,))


async def send(store: Store, seq: int, start: int, values: Sequence[float]) -> None:
    """Commit a line of values a second apart."""
    line = samples({1: [(start + i * SECOND, value) for i, value in enumerate(values)]})
    (outcome,) = await store.commit([decoded(BatchKey("a", EPOCH, seq), Payload(line), defined("temp"))])
    assert isinstance(outcome, Stored)


async def compacted(store: TableStore) -> None:
    """Compact everything."""
    while (report := await store.compact(everything=True)).more or report.batches:
        pass


async def lost(store: TableStore) -> dict[str, int]:
    """The loss ledger by cause."""
    return {row.cause: row.count for row in await store.loss("a")}


async def count(store: TableStore, start: int, end: int, step: int = HOUR) -> int:
    """Readings in the rollups."""
    (row,) = (await store.range([1], start, end, step, "count")).series
    return int(np.nansum(row.counts))


async def raw(store: TableStore) -> list[float]:
    """All raw values."""
    return (await store.samples([1], -(1 << 62), 1 << 62)).values.tolist()


async def meta(store: TableStore, key: str) -> int:
    """A value of table meta."""
    return int(
        (await store.read(lambda db: db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()))[
            0
        ]
    )


async def test_a_start_with_a_clock_that_is_ahead_deletes_nothing(
    open_store: Opener, clock: ManualClock
) -> None:
    """The store knows when it was in use; the clock that is years later is not believed, and said so; the right one works on."""
    store: TableStore = await open_store()
    store.keep(KEEP)
    await send(store, 1, T0 - HOUR, [1.0, 2.0, 3.0])
    await compacted(store)
    await store.retain(KEEP)
    assert store.doubt is None
    clock.step(BROKEN)
    again: TableStore = await open_store()
    again.keep(KEEP)
    await compacted(again)
    await again.retain(KEEP)
    assert again.doubt is not None
    assert again.doubt.ahead_ns == BROKEN
    assert "telemetryx store clock --confirm" in str(again.doubt)
    assert await raw(again) == [1.0, 2.0, 3.0]
    assert await again.read(rollup.raw_horizon) <= T0 - 30 * DAY
    clock.step(-BROKEN)
    clock.advance(MINUTE)
    right: TableStore = await open_store()
    right.keep(KEEP)
    await send(right, 2, T0, [4.0])
    await right.retain(KEEP)
    assert right.doubt is None
    assert await raw(right) == [1.0, 2.0, 3.0, 4.0]
    assert (await lost(right))["stored"] == 4


async def test_a_clock_that_jumps_while_the_collector_runs_is_doubted_and_time_goes_on(
    store: TableStore, clock: ManualClock
) -> None:
    """What is past by the time that really passed goes; nothing goes by the jump."""
    keep = Retention(raw_ns=DAY, windows_ns=DAY)
    store.keep(keep)
    await send(store, 1, T0 - DAY + HOUR, [1.0])
    await send(store, 2, T0 - HOUR, [2.0])
    await compacted(store)
    await store.retain(keep)
    clock.step(400 * DAY)
    await store.retain(keep)
    assert await raw(store) == [1.0, 2.0]
    clock.advance(3 * HOUR)
    await store.retain(keep)
    assert store.doubt is not None
    assert store.doubt.believed_ns == T0 + 3 * HOUR
    assert await raw(store) == [2.0]


@pytest.mark.parametrize("who", ["the kernel", "a person", "agents elsewhere"])
async def test_a_clock_that_is_confirmed_is_believed(
    store: TableStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """By NTP, by a person at once; by agents on other hosts when it has stood for an hour."""
    store.keep(KEEP)
    await send(store, 1, T0 - HOUR, [1.0])
    await compacted(store)
    await store.retain(KEEP)
    clock.step(40 * DAY)
    await store.retain(KEEP)
    assert store.doubt is not None
    if who == "the kernel":
        monkeypatch.setattr(store._today, "_trusted", lambda now: now == clock.now_ns())
    elif who == "a person":
        await store.write(lambda db: today.remember(db, clock.now_ns()))
    else:
        clock.advance(2 * HOUR)
        # The first is this host's own: it has the same clock. The second is right, and says that ours isn't.
        for agent, peer, skew in (("a", "ipv4:127.0.0.1:4", 0.0), ("b", "ipv4:10.0.0.7:5", -40 * DAY / 1e6)):
            await store.session_opened(agent, peer, "1", {}, skew)
        await store.retain(KEEP)
        assert store.doubt is not None, "nobody elsewhere agrees"
        for agent in ("b", "c", "d"):
            await store.session_opened(agent, f"ipv4:10.0.0.8:{ord(agent)}", "1", {}, 20.0)
    await store.retain(KEEP)
    assert store.doubt is None
    assert await raw(store) == [], "forty days have really passed"


async def broken(store: TableStore, clock: ManualClock, by: int) -> None:
    """What an older collector did to a store at a start with such a clock."""
    await send(store, 1, T0 - HOUR, [1.0, 2.0, 3.0])
    await compacted(store)
    await store.apply_retention(KEEP, T0)
    clock.step(by)
    await store.apply_retention(KEEP, clock.now_ns())
    clock.step(-by)
    clock.advance(MINUTE)
    assert await raw(store) == []


@pytest.mark.parametrize("by", [BROKEN, 40 * DAY])
async def test_a_store_that_a_clock_has_ruined_takes_readings_again(
    store: TableStore, clock: ManualClock, by: int
) -> None:
    """What comes now is stored and kept raw, nothing of it counts as expired, and what rollups showed stays, each reading once."""
    await broken(store, clock, by)
    store.keep(KEEP)
    await send(store, 2, T0, [4.0, 5.0])
    assert (await lost(store)).get("expired", 0) == 0, "refused before anybody looked at the horizons"
    for _ in range(2):
        await store.retain(KEEP)
        await compacted(store)
    assert await raw(store) == [4.0, 5.0]
    before = 0 if by == BROKEN else 3
    for step in (MINUTE, HOUR):
        assert await count(store, T0 - DAY, T0 + DAY, step) == 2 + before
    await send(store, 3, T0 - 2 * DAY, [6.0])
    await compacted(store)
    await store.retain(KEEP)
    assert await count(store, T0 - 3 * DAY, T0 + DAY) == 3 + before
    assert (await lost(store))["stored"] == 6
    assert await store.verify() == []


async def test_compaction_before_the_first_round_takes_the_horizons_back_too(
    store: TableStore, clock: ManualClock
) -> None:
    """Both begin at the start, and a batch that waited must not be thrown away because compaction was first."""
    await broken(store, clock, BROKEN)
    store.keep(KEEP)
    await send(store, 2, T0, [4.0, 5.0])
    await compacted(store)
    assert await raw(store) == [4.0, 5.0]
    assert await count(store, T0 - DAY, T0 + DAY) == 2


async def test_the_raw_horizon_never_comes_before_a_rollup(store: TableStore, clock: ManualClock) -> None:
    """The raw data of those is gone: computed anew they would show less. Also when the clock is behind, as at a boot."""
    await broken(store, clock, 40 * DAY)
    newest = (T0 - HOUR + 2 * SECOND) // MINUTE * MINUTE + MINUTE
    for now in (T0 - 900 * DAY, T0):
        await store.write(
            lambda db, now=now: retention.settle(db, KEEP, now, retention.shown_until(db, KEEP, now))
        )  # type: ignore[misc]
        assert await store.read(rollup.raw_horizon) == newest
    await send(store, 2, T0 - HOUR, [9.0])
    await compacted(store)
    assert await count(store, T0 - DAY, T0) == 4, "added to what was there"


async def test_raw_data_that_is_kept_only_as_rollups_for_a_while_is_said(
    store: TableStore, clock: ManualClock
) -> None:
    """A rollup of tomorrow holds the horizon there."""
    await send(store, 1, T0 + 20 * HOUR, [1.0])
    await compacted(store)
    await store.apply_retention(KEEP, T0 + 40 * DAY)
    store.keep(KEEP)
    await store.retain(KEEP)
    assert "until then readings are kept as rollups only" in store.ahead
    clock.advance(21 * HOUR)
    await store.retain(KEEP)
    assert store.ahead == ""


async def test_a_batch_that_came_while_the_clock_was_ahead_becomes_chunks(
    store: TableStore, clock: ManualClock
) -> None:
    """Its time of arrival lies in the future, and it would count as young for years."""
    clock.step(BROKEN)
    await send(store, 1, T0, [1.0])
    clock.step(-BROKEN)
    await store.compact()
    assert (await store.usage()).batches == 0


async def test_a_clock_that_is_behind_is_remembered_when_it_stands(
    store: TableStore, clock: ManualClock
) -> None:
    """At first what was later counts, since the clock may be an unset one; after an hour that was the wrong one."""
    clock.step(BROKEN)
    await store.retain(KEEP)
    clock.step(-BROKEN)
    await store.retain(KEEP)
    assert await meta(store, today.SEEN) > T0 + DAY
    clock.advance(today.STANDS_NS)
    await store.retain(KEEP)
    assert await meta(store, today.SEEN) == clock.now_ns()
    clock.step(40 * DAY)
    await store.retain(KEEP)
    assert store.doubt is not None, "and a jump is doubted again"


async def test_a_clock_that_nobody_has_set_moves_nothing(store: TableStore, clock: ManualClock) -> None:
    """At 1970 the store goes by what it remembers."""
    clock.step(100 * DAY)
    await store.retain(KEEP)
    seen, horizon = await meta(store, today.SEEN), await store.read(rollup.raw_horizon)
    clock.step(-clock.now_ns() + 5 * SECOND)
    await store.retain(KEEP)
    assert await meta(store, today.SEEN) == seen
    assert await store.read(rollup.raw_horizon) == horizon


def test_the_kernel_confirms_no_other_time_than_its_own() -> None:
    """However well it is synchronised."""
    assert not synchronised(SystemClock().now_ns() + 60 * SECOND)
    assert not synchronised(0)
