"""Series whose data is all gone end: names that change don't fill the limits for ever, and nothing that is still sent or kept is lost. On each store."""

from collections.abc import Awaitable, Callable, Sequence

import pytest

from reference_agent import SECOND, decoded, samples, window
from store_batches import compacted
from telemetryx.clock import ManualClock
from telemetryx.store.interface import QuarantineQuery, Retention, Store
from telemetryx.store.tables import ending
from telemetryx.store.tables.cardinality import SeriesLimits
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, Definition, Duplicate, NeedDefinitions, Outcome, Stored
from telemetryx.wire.payload import Payload

EPOCH = bytes(range(16))
Opener = Callable[..., Awaitable[TableStore]]
FOREVER = 1 << 62
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
KEEP = Retention(raw_ns=2 * DAY, windows_ns=2 * DAY, rollup_1m_ns=4 * DAY, rollup_1h_ns=4 * DAY)
LAST = 9_999
"""The number of a series that is always the newest: that one stays."""


def names(*numbers: int) -> list[Definition]:
    """A definition of each number."""
    return [Definition(number, "m", {"n": str(number), "site": "north"}) for number in numbers]


class Fleet:
    """A store, its clock, and the agents' next seqs."""

    def __init__(self, store: TableStore, clock: ManualClock) -> None:
        self.store, self.clock = store, clock
        self.seqs: dict[tuple[str, bytes], int] = {}

    async def send(
        self, numbers: Sequence[int], *, defs: bool = True, agent: str = "a", epoch: bytes = EPOCH
    ) -> Outcome:
        """Commit a reading of each series, now."""
        seq = self.seqs.get((agent, epoch), 1)
        rows = {number: [(self.clock.now_ns(), float(number))] for number in numbers}
        batch = decoded(BatchKey(agent, epoch, seq), Payload(samples(rows)), names(*numbers) if defs else ())
        (outcome,) = await self.store.commit([batch])
        if isinstance(outcome, Stored):
            self.seqs[agent, epoch] = seq + 1
        return outcome

    async def pass_time(self, days: int) -> None:
        """Compact, let days go by, and delete what is past."""
        await compacted(self.store)
        self.clock.advance(days * DAY)
        await self.store.apply_retention(KEEP, self.clock.now_ns())

    async def there(self, agent: str | None = None) -> set[str]:
        """The label n of the series that there are."""
        return {one.labels["n"] for one in await self.store.series(agent=agent, limit=10_000)} - {str(LAST)}


@pytest.fixture
async def fleet(store: TableStore, clock: ManualClock) -> Fleet:
    """A store with its clock."""
    return Fleet(store, clock)


async def count(store: Store, table: str) -> int:
    """Rows of a table."""
    assert isinstance(store, TableStore)
    statement = f"SELECT count(*) FROM {table}"  # noqa: S608 - one of ours
    return int((await store.read(lambda db: db.execute(statement).fetchone()))[0])


async def test_names_that_change_are_taken_for_ever(fleet: Fleet) -> None:
    """New series come each week: they were refused once the limit's number of names had ever been there."""
    fleet.store.limit_series(SeriesLimits(per_agent=4, total=6))
    for week in range(1, 6):
        outcome = await fleet.send([10 * week, 10 * week + 1, 10 * week + 2])
        assert isinstance(outcome, Stored)
        assert outcome.committed is not None
        assert (outcome.committed.over_limit, len(outcome.committed.samples)) == (0, 3), week
        # Above it is refused as ever.
        outcome = await fleet.send([10 * week + 3, 10 * week + 4])
        assert isinstance(outcome, Stored)
        assert outcome.committed is not None
        assert outcome.committed.over_limit == (1 if week == 1 else 2), week
        await fleet.pass_time(7)
        # The newest of all stays, for ids aren't given twice.
        assert len(await fleet.there()) == 1
    assert await fleet.store.verify() == []
    assert await count(fleet.store, "series") == await count(fleet.store, "series_number") == 1
    assert await count(fleet.store, "series_label") == 2
    assert await count(fleet.store, "latest") <= 1


async def test_a_number_that_is_gone_is_asked_for_and_begins_anew(fleet: Fleet) -> None:
    """An agent of before goes on with its numbers: readers, writer and compaction take the new series, not what they remember."""
    await fleet.send([1, 2])
    await fleet.send([LAST])
    before = {one.labels["n"]: one.id for one in await fleet.store.series()}
    assert (await fleet.store.samples(list(before.values()), 0, FOREVER)).series.tolist() == sorted(
        before.values()
    )
    await fleet.pass_time(7)
    assert await fleet.there() == set()
    (held,) = (await fleet.store.holdings("a", [EPOCH])).values()
    assert held.upto == 2, "the ledger stays"
    assert await fleet.send([2], defs=False) == NeedDefinitions((2,))
    outcome = await fleet.send([2])
    assert isinstance(outcome, Stored)
    assert outcome.committed is not None
    (series,) = [one for one in await fleet.store.series() if one.labels["n"] == "2"]
    assert series.id > max(before.values())
    assert outcome.committed.samples.series.tolist() == [series.id]
    for _ in range(2):
        assert (await fleet.store.samples([series.id], 0, FOREVER)).values.tolist() == [2.0]
        assert len(await fleet.store.samples(list(before.values()), 0, FOREVER)) == 0
        await compacted(fleet.store)
    assert await fleet.send([1, 2], defs=False) == NeedDefinitions((1,))
    assert isinstance(await fleet.send([1, 2]), Stored)
    first = decoded(BatchKey("a", EPOCH, 1), Payload(samples({1: [(fleet.clock.now_ns(), 1.0)]})))
    (again,) = await fleet.store.commit([first])
    assert isinstance(again, Duplicate) or type(again).__name__ == "Conflict"
    assert await fleet.store.verify() == []


async def test_what_still_has_data_stays(fleet: Fleet) -> None:
    """Rollups are data; so are readings of another epoch, windows, and what is younger than its first reading may be."""
    await fleet.send([1])
    await fleet.send([LAST], agent="z")
    await fleet.pass_time(3)
    assert await count(fleet.store, "chunk") == 0
    assert await fleet.there() == {"1"}, "its rollups are kept"
    await fleet.send([1], epoch=bytes(16))
    await fleet.pass_time(3)
    assert await fleet.there() == {"1"}
    beat = Payload(windows=window(2, fleet.clock.now_ns(), [1.0, 2.0]))
    await fleet.store.commit([decoded(BatchKey("b", EPOCH, 1), beat, names(2, 3))])
    await fleet.send([LAST - 1], agent="y")
    await fleet.pass_time(0)
    assert await fleet.there("b") == {"2", "3"}, "one was defined just now"
    fleet.clock.advance(2 * HOUR)
    await fleet.pass_time(0)
    assert await fleet.there("b") == {"2"}
    await fleet.pass_time(7)
    assert await fleet.there("b") == await fleet.there("a") == set()


async def test_a_series_of_a_batch_that_waits_stays(fleet: Fleet) -> None:
    """Rules hold a batch back for longer than everything is kept: its series stay, and those of which it has nothing go."""
    await fleet.send([1, 2])
    await fleet.send([LAST], agent="z")
    await compacted(fleet.store)
    reached = await fleet.store.cursor()
    await fleet.store.register_consumer("rules", reached)
    await fleet.send([2])
    await fleet.pass_time(7)
    await fleet.pass_time(1)
    assert await fleet.there() == {"1", "2"}, "nobody knows yet what the batch holds"
    assert isinstance(await fleet.send([3]), Stored)
    waiting = await fleet.store.read_after(reached)
    assert [one.samples.values.tolist() for one in waiting] == [[2.0], [3.0]]
    assert await fleet.store.verify() == []
    # The rules come as far as that batch; another waits by then, of a series that is in use.
    await fleet.store.advance_consumer("rules", await fleet.store.cursor() - 1)
    await fleet.pass_time(0)
    assert await fleet.there() == {"3"}
    assert await fleet.store.verify() == []


async def test_a_series_that_comes_again_while_it_is_waited_for_stays(fleet: Fleet) -> None:
    """The agent sends a reading of it between two looks, even of a time that is long past."""
    await fleet.send([1, 2, 3])
    await fleet.send([LAST], agent="z")
    await compacted(fleet.store)
    await fleet.store.register_consumer("rules", await fleet.store.cursor())
    await fleet.send([3])
    await fleet.pass_time(7)
    old = Payload(samples({1: [(fleet.clock.now_ns() - 30 * DAY, 1.5)]}))
    (outcome,) = await fleet.store.commit([decoded(BatchKey("a", EPOCH, 3), old)])
    assert isinstance(outcome, Stored)
    await fleet.store.advance_consumer("rules", await fleet.store.cursor() - 1)
    await fleet.pass_time(0)
    assert await fleet.there() == {"1"}
    assert await fleet.store.verify() == []
    await fleet.store.advance_consumer("rules", await fleet.store.cursor())
    await fleet.pass_time(0)
    assert await fleet.there() == set()


async def test_a_series_that_an_alert_stands_for_stays(fleet: Fleet) -> None:
    """And goes when a person closes it."""
    await fleet.send([1, 2])
    await fleet.send([LAST], agent="z")

    insert = (
        'INSERT INTO alert (rule, "group", state, severity, agent, labels, annotations, summary, started_ns, detected_ns, changed_ns, '
        "late, revision) VALUES ('r', '{\"agent\":\"a\",\"n\":\"1\"}', 'firing', 'warning', 'a', '{}', '{}', '', 1, 1, 1, 0, 1)"
    )
    await fleet.store.write(lambda db: db.execute(insert))
    await fleet.pass_time(7)
    assert await fleet.there() == {"1"}
    await fleet.store.write(lambda db: db.execute("UPDATE alert SET state = 'closed'"))
    await fleet.pass_time(0)
    assert await fleet.there() == set()


async def test_a_series_of_a_batch_that_is_kept_apart_stays(open_store: Opener, clock: ManualClock) -> None:
    """It can be let in though all else of it is gone, and takes its series with it when it is dropped."""
    fleet = Fleet(await open_store(future_limit_ns=HOUR), clock)
    await fleet.send([1, 2])
    await fleet.send([LAST], agent="z")
    ahead = Payload(samples({1: [(clock.now_ns() + 30 * DAY, 5.0)]}))
    await fleet.store.commit([decoded(BatchKey("a", EPOCH, 2), ahead)])
    await fleet.pass_time(7)
    (kept,) = (await fleet.store.quarantined(QuarantineQuery())).batches
    assert "1" in await fleet.there()
    assert await fleet.store.release_quarantined(kept.id, -30 * DAY) is not None
    (series,) = [one for one in await fleet.store.series() if one.labels["n"] == "1"]
    assert (await fleet.store.samples([series.id], 0, FOREVER)).values.tolist() in ([5.0], [])
    await fleet.pass_time(7)
    assert await fleet.there() == set()
    assert await fleet.store.verify() == []


async def test_the_work_comes_in_bounded_pieces(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many have ended, a read looks at LOOK ids and a transaction ends ENDS series."""
    monkeypatch.setattr(ending, "LOOK", 7)
    monkeypatch.setattr(ending, "ENDS", 3)
    sizes: list[int] = []
    end = ending.end

    def counted(*given: object) -> object:
        result = end(*given)  # type: ignore[arg-type]
        sizes.append(len(result[0]))
        return result

    monkeypatch.setattr(ending, "end", counted)
    await fleet.send(list(range(1, 31)))
    await fleet.send([LAST], agent="z")
    await fleet.pass_time(7)
    assert await fleet.there() == set()
    assert sum(sizes) == 30
    assert max(sizes) == 3


async def test_another_process_asks_for_what_has_ended_too(open_store: Opener, clock: ManualClock) -> None:
    """It remembers the number, and the count under the limit, from when the series was there."""
    fleet = Fleet(await open_store(), clock)
    if not fleet.store.shared:
        pytest.skip("one process works on a file")
    other = await open_store()
    other.limit_series(SeriesLimits(total=4))
    elsewhere = Fleet(other, clock)
    elsewhere.seqs = fleet.seqs
    assert isinstance(await elsewhere.send([1, 2]), Stored)
    await elsewhere.send([LAST], agent="z")
    await elsewhere.send([3, 4], agent="z")
    assert await elsewhere.there() == {"1", "2", "3"}, "the fourth is above the limit"
    await fleet.pass_time(7)
    # The newest of all stays.
    assert await fleet.there() == {"3"}
    assert await elsewhere.send([1, 2], defs=False) == NeedDefinitions((1, 2))
    assert isinstance(await elsewhere.send([1, 2]), Stored)
    assert await elsewhere.there() == {"1", "2", "3"}
    assert await fleet.store.verify() == []
