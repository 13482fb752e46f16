"""Batches by clocks that weren't right: counted from a boot and corrected, guessed, or far ahead of ours."""

from collections.abc import Awaitable, Callable

import pytest

from reference_agent import SECOND, T0, decoded, defined, events, samples, window
from telemetryx.clock import ManualClock
from telemetryx.errors import QueryRefused
from telemetryx.fleet import balance
from telemetryx.store.interface import EventQuery, QuarantinePage, QuarantineQuery, Store
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, Cause, Decoded, Duplicate, Flag, Stored
from telemetryx.wire.payload import Payload

EPOCH = bytes(range(16))
DEFS = defined("temp", "power")
FOREVER = 1 << 62
Opener = Callable[[int], Awaitable[TableStore]]
DAY = 86_400 * SECOND
MARKS = Flag.ARRIVAL_TIME | Flag.CLOCK_UNCERTAIN


def of_boot(seq: int, offset: int, *, uncertain: bool = False) -> Decoded:
    """A batch of two samples, a window and an event, five seconds after a boot."""
    content = Payload(
        samples({1: [(5 * SECOND, 1.0), (6 * SECOND, 2.0)]}, {1: [MARKS, MARKS | Flag.RETAINED]}),
        window(2, 5 * SECOND, [3.0, 4.0]),
        events((5 * SECOND, 9, "app", "started", {})),
        {Cause.RECEIVED: 3, Cause.DERIVED: 1, Cause.SHIPPED: 4},
    )
    return decoded(BatchKey("a", EPOCH, seq), content, DEFS, offset, uncertain)


async def flags(store: Store) -> list[int]:
    """The marks of series 1."""
    block = await store.samples([1], -FOREVER, FOREVER)
    return [0, 0] if block.flags is None else block.flags.tolist()


async def compacted(store: Store) -> None:
    """Compact everything."""
    while (report := await store.compact(everything=True)).more or report.batches:
        pass


@pytest.mark.parametrize("way", ["committed", "read again"])
async def test_every_time_of_a_boot_is_corrected(store: Store, way: str) -> None:
    """Samples, windows and events of a boot come out at their real times, as committed and as read again."""
    (outcome,) = await store.commit([of_boot(1, T0)])
    assert isinstance(outcome, Stored)
    assert outcome.committed is not None
    told = outcome.committed
    if way == "read again":
        (told,) = await store.read_after(0, 10)
        await compacted(store)
    assert told.samples.times.tolist() == [T0 + 5 * SECOND, T0 + 6 * SECOND]
    assert told.windows is not None
    assert told.windows.start.tolist() == [T0 + 5 * SECOND]
    assert told.events is not None
    assert told.events.times.tolist() == [T0 + 5 * SECOND]
    block = await store.samples([1], T0, T0 + 60 * SECOND)
    assert block.times.tolist() == [T0 + 5 * SECOND, T0 + 6 * SECOND]
    (found,) = await store.events(EventQuery(start_ns=T0, end_ns=T0 + 60 * SECOND))
    assert found.time_ns == T0 + 5 * SECOND


async def test_a_corrected_time_is_no_longer_uncertain_and_a_guessed_one_stays_so(store: Store) -> None:
    """The mark goes with a certain offset, before and after compaction; other marks stay; a guess keeps it."""
    await store.commit([of_boot(1, T0)])
    assert await flags(store) == [Flag.ARRIVAL_TIME, Flag.ARRIVAL_TIME | Flag.RETAINED]
    await compacted(store)
    assert await flags(store) == [Flag.ARRIVAL_TIME, Flag.ARRIVAL_TIME | Flag.RETAINED]


async def test_a_guess_stays_marked(store: Store) -> None:
    """A boot that ended unset was placed by guess: its samples say so, before and after compaction."""
    await store.commit([of_boot(1, T0, uncertain=True)])
    assert await flags(store) == [MARKS, MARKS | Flag.RETAINED]
    await compacted(store)
    assert await flags(store) == [MARKS, MARKS | Flag.RETAINED]


async def test_a_batch_that_comes_again_with_another_offset_keeps_the_first(store: Store) -> None:
    """Name and checksum are the same, so it is a duplicate, and nothing moves."""
    await store.commit([of_boot(1, T0)])
    assert await store.commit([of_boot(1, T0 + 900 * SECOND)]) == [Duplicate()]
    block = await store.samples([1], -FOREVER, FOREVER)
    assert block.times.tolist() == [T0 + 5 * SECOND, T0 + 6 * SECOND]


async def ahead_of(open_store: Opener, clock: ManualClock) -> tuple[TableStore, int]:
    """A store in which the second of three batches is kept apart, two days ahead; and its id there."""
    store = await open_store(DAY)
    now = clock.now_ns()
    await store.commit(
        [of_boot(1, now - 60 * SECOND), of_boot(2, now + 2 * DAY), of_boot(3, now - 30 * SECOND)]
    )
    page = await store.quarantined(QuarantineQuery("a"))
    ((kept,), total) = page.batches, page.total
    assert total == 1
    return store, kept.id


async def test_what_is_kept_apart_can_be_looked_at(open_store: Opener, clock: ManualClock) -> None:
    """Whose it is, from when to when, and what is in it, at its corrected times; the agent's page counts it."""
    store, number = await ahead_of(open_store, clock)
    when = clock.now_ns() + 2 * DAY
    found = await store.quarantined_batch(number)
    assert found is not None
    assert (found.about.agent, found.about.seq, found.about.rows) == ("a", 2, 4)
    assert (found.about.t0_ns, found.about.t1_ns) == (when + 5 * SECOND, when + 6 * SECOND)
    assert [(one.name, one.samples, one.windows, one.last) for one in found.series] == [
        ("temp", 2, 0, 2.0),
        ("power", 0, 1, None),
    ]
    assert (found.series[0].first_ns, found.series[0].last_ns) == (when + 5 * SECOND, when + 6 * SECOND)
    assert found.events == [(when + 5 * SECOND, "app", "started")]
    agent = await store.agent("a")
    assert agent is not None
    assert agent.quarantined == 1
    assert await store.quarantined(QuarantineQuery("somebody else")) == QuarantinePage([], 0)
    assert await store.quarantined_batch(number + 1) is None
    await store.close()


@pytest.mark.parametrize("when", ["before compaction", "after compaction"])
async def test_a_batch_that_is_let_in_is_stored_at_moved_times_and_the_books_balance(
    open_store: Opener, clock: ManualClock, when: str
) -> None:
    """All its rows are read where they belong, marked as uncertain; none is refused any more; the file is sound."""
    store, number = await ahead_of(open_store, clock)
    if when == "after compaction":
        await compacted(store)
    now, before = clock.now_ns(), await store.cursor()
    with pytest.raises(QueryRefused, match="ahead of now"):
        await store.release_quarantined(number)
    with pytest.raises(QueryRefused, match="ahead of now"):
        await store.release_quarantined(number, -SECOND)
    assert (await store.quarantined(QuarantineQuery())).total == 1, "a refusal changes nothing"

    committed = await store.release_quarantined(number, -2 * DAY)
    assert committed is not None
    assert committed.cursor > before
    assert committed.cursor == await store.cursor()
    (told,) = await store.read_after(before)
    assert (
        told.samples.times.tolist()
        == committed.samples.times.tolist()
        == [now + 5 * SECOND, now + 6 * SECOND]
    )
    for _ in ("as stored", "compacted"):
        block = await store.samples([1], -FOREVER, FOREVER)
        assert block.times.tolist()[-2:] == [now + 5 * SECOND, now + 6 * SECOND]
        assert len(block) == 6
        assert block.flags is not None
        assert block.flags.tolist()[-2:] == [MARKS, MARKS | Flag.RETAINED]
        assert await store.verify() == []
        await compacted(store)
    assert len(await store.events(EventQuery(start_ns=now, end_ns=now + 60 * SECOND))) == 1
    rows = {row.cause: row.count for row in await store.loss("a")}
    assert "refused" not in rows
    assert rows["shipped"] == rows["stored"] == 12
    assert balance(await store.loss("a")) == {"a": 0}
    assert (await store.quarantined(QuarantineQuery())).total == 0
    assert await store.release_quarantined(number) is None
    assert await store.commit([of_boot(2, now + 2 * DAY)]) == [Duplicate()], "its own name stays taken"
    await store.close()


async def test_a_batch_whose_time_has_come_is_let_in_as_it_is(open_store: Opener, clock: ManualClock) -> None:
    """Who waits long enough needs no shift, and nothing becomes uncertain by it."""
    store, number = await ahead_of(open_store, clock)
    clock.advance(2 * DAY)
    assert await store.release_quarantined(number) is not None
    block = await store.samples([1], -FOREVER, FOREVER)
    assert block.flags is not None
    assert not block.flags.any() or not (block.flags & Flag.CLOCK_UNCERTAIN).any()
    await store.close()


async def test_a_batch_that_is_dropped_is_gone_and_stays_counted_as_refused(
    open_store: Opener, clock: ManualClock
) -> None:
    """The sums hold, and it is not asked for again."""
    store, number = await ahead_of(open_store, clock)
    assert await store.drop_quarantined(number)
    assert not await store.drop_quarantined(number)
    assert (await store.quarantined(QuarantineQuery())).total == 0
    rows = {row.cause: row.count for row in await store.loss("a")}
    assert (rows["refused"], rows["shipped"], rows["stored"]) == (4, 12, 8)
    (holding,) = (await store.holdings("a", [EPOCH])).values()
    assert holding.upto == 3
    await store.close()


async def test_times_far_ahead_are_kept_apart_and_spoil_no_latest_value(
    open_store: Opener, clock: ManualClock
) -> None:
    """Such a batch is acknowledged once and counted as refused; the latest value stays that of now, and the sums hold."""
    store = await open_store(DAY)
    now = clock.now_ns()
    ahead = of_boot(2, now + 2 * DAY)
    outcomes = await store.commit([of_boot(1, now - 60 * SECOND), ahead, of_boot(3, now + DAY - 60 * SECOND)])
    assert [isinstance(outcome, Stored) for outcome in outcomes] == [True] * 3
    assert [isinstance(outcome, Stored) and outcome.committed is None for outcome in outcomes] == [
        False,
        True,
        False,
    ]
    assert await store.commit([ahead]) == [Duplicate()]
    (holding,) = (await store.holdings("a", [EPOCH])).values()
    assert holding.upto == 3, "its seq is no gap"
    block = await store.samples([1], -FOREVER, FOREVER)
    assert len(block) == 4
    assert int(block.times.max()) < now + DAY
    rows = {row.cause: row for row in await store.loss("a")}
    assert (rows["refused"].count, rows["refused"].first_ns) == (4, now)
    assert rows["shipped"].count == 12 == rows["stored"].count + rows["refused"].count
    assert balance(list(rows.values())) == {"a": 0}
    kept = await store.read(
        lambda db: db.execute("SELECT seq, rows, t1_ns, payload FROM quarantine").fetchall()
    )
    assert [(row[0], row[1]) for row in kept] == [(2, 4)]
    assert kept[0][3] == ahead.payload
    await store.close()
