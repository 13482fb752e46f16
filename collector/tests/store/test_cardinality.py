"""Too many series: what is above the limit is refused and counted reading by reading, and nothing else suffers. On each store."""

from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pytest

from reference_agent import SECOND, T0, decoded, events, samples, window
from telemetryx.clock import ManualClock
from telemetryx.fleet import balance
from telemetryx.store.interface import QuarantineQuery, SeriesQuery, Store
from telemetryx.store.tables.cardinality import RECOUNT_NS, Cardinality, SeriesLimits
from telemetryx.store.tables.store import TableStore
from telemetryx.types import (
    BatchKey,
    Cause,
    Conflict,
    Decoded,
    Definition,
    Duplicate,
    NeedDefinitions,
    Outcome,
    SampleBlock,
    SketchBlock,
    Stored,
)
from telemetryx.wire.payload import Payload, encode

EPOCH = bytes(range(16))
Opener = Callable[..., Awaitable[TableStore]]
FOREVER = 1 << 62
LIMIT = "refused_series_limit"


def key(seq: int, agent: str = "a") -> BatchKey:
    """A batch's name."""
    return BatchKey(agent, EPOCH, seq)


def readings(numbers: Sequence[int], at: int = 0, each: int = 1) -> Payload:
    """So many readings of each series, and their counts."""
    total = len(numbers) * each
    rows = {number: [(T0 + at + i * SECOND, float(number)) for i in range(each)] for number in numbers}
    return Payload(samples(rows), counts={Cause.RECEIVED: total, Cause.SHIPPED: total})


def names(*numbers: int) -> list[Definition]:
    """A definition of each number."""
    return [Definition(number, "m", {"n": str(number)}) for number in numbers]


async def one(
    store: Store, seq: int, content: Payload, defs: Sequence[Definition] = (), agent: str = "a"
) -> Outcome:
    """Commit one batch and return its outcome."""
    (outcome,) = await store.commit([decoded(key(seq, agent), content, defs)])
    return outcome


async def ledger(store: Store, agent: str = "a") -> dict[str, tuple[int, int, int]]:
    """Count, first and last time by cause."""
    return {row.cause: (row.count, row.first_ns, row.last_ns) for row in await store.loss(agent)}


async def stored_values(store: Store) -> dict[str, list[float]]:
    """All values, by the label n."""
    rows = await store.series([], limit=1_000)
    block = await store.samples([row.id for row in rows], -FOREVER, FOREVER)
    return {row.labels["n"]: block.of(row.id)[1].tolist() for row in rows}


async def test_readings_above_the_limit_are_counted_and_the_rest_is_stored_once(store: TableStore) -> None:
    """The batch is acknowledged; again it is a duplicate, and counts nothing twice. The books balance to the reading."""
    store.limit_series(SeriesLimits(per_agent=2))
    batch = decoded(key(1), readings([1, 2, 3, 4], each=3), names(1, 2, 3, 4))
    (outcome,) = await store.commit([batch])
    assert isinstance(outcome, Stored)
    assert outcome.committed is not None
    assert (len(outcome.committed.samples), outcome.committed.over_limit) == (6, 6)
    assert await store.commit([batch]) == [Duplicate()]
    assert await stored_values(store) == {"1": [1.0] * 3, "2": [2.0] * 3}
    found = await ledger(store)
    assert found[LIMIT] == (6, T0, T0 + 2 * SECOND)
    assert found["stored"][0] + found[LIMIT][0] == found["shipped"][0] == 12
    assert balance(await store.loss("a")) == {"a": 0}


async def test_known_series_go_on_beside_refused_ones(store: TableStore) -> None:
    """Later batches carry no definitions: neither kind is asked for again, in the same group and in later ones."""
    store.limit_series(SeriesLimits(per_agent=1))
    first = decoded(key(1), readings([1, 2]), names(1, 2))
    second = decoded(key(2), readings([1, 2], at=SECOND))
    outcomes = await store.commit([first, second])
    assert all(isinstance(outcome, Stored) for outcome in outcomes)
    assert isinstance(await one(store, 3, readings([1, 2], at=2 * SECOND)), Stored)
    assert isinstance(await one(store, 4, readings([2], at=3 * SECOND)), Stored)
    assert await stored_values(store) == {"1": [1.0] * 3}
    assert (await ledger(store))[LIMIT][0] == 4
    while (await store.compact(10_000)).more:
        pass
    assert await stored_values(store) == {"1": [1.0] * 3}
    (held,) = (await store.holdings("a", [EPOCH])).values()
    assert (held.upto, held.ranges) == (4, ())


async def test_a_process_that_does_not_remember_asks_once_and_refuses_again(open_store: Opener) -> None:
    """After a restart the definition is asked for, and its series is above the limit still."""
    store = await open_store()
    store.limit_series(SeriesLimits(per_agent=1))
    await one(store, 1, readings([1, 2]), names(1, 2))
    await store.close()
    again = await open_store()
    again.limit_series(SeriesLimits(per_agent=1))
    assert await one(again, 2, readings([1, 2], at=SECOND)) == NeedDefinitions((2,))
    assert isinstance(await one(again, 2, readings([1, 2], at=SECOND), names(2)), Stored)
    assert isinstance(await one(again, 3, readings([1, 2], at=2 * SECOND)), Stored)
    assert await stored_values(again) == {"1": [1.0] * 3}
    assert (await ledger(again))[LIMIT][0] == 3


async def test_a_series_that_another_process_took_in_meanwhile_is_no_longer_refused(
    open_store: Opener,
) -> None:
    """The agent moves to a process that has room for its series, and back: what has a series is stored."""
    here = await open_store()
    here.limit_series(SeriesLimits(per_agent=1))
    await one(here, 1, readings([1, 2]), names(1, 2))
    await here.close()
    there = await open_store()
    there.limit_series(SeriesLimits(per_agent=5))
    await one(there, 2, readings([2], at=SECOND), names(2))
    cardinality = Cardinality(SeriesLimits(per_agent=1), lambda: T0)
    cardinality.defined(1, np.array([1, 2, 3]), np.array([2, 3]))
    batch = decoded(key(3), readings([1, 2, 3], at=2 * SECOND), ())
    kept, excess = await there.write(lambda db: cardinality.cut(db, 1, 1, batch))
    assert kept.samples.series.tolist() == [1, 2]
    assert excess is not None
    assert excess.rows == 1


async def test_a_known_series_under_a_new_number_goes_on_at_the_limit(store: TableStore) -> None:
    """A new epoch numbers anew: what the agent has is no new series, beside whatever is."""
    store.limit_series(SeriesLimits(per_agent=2))
    await one(store, 1, readings([1, 2]), names(1, 2))
    (outcome,) = await store.commit(
        [
            decoded(
                BatchKey("a", bytes(16), 1),
                readings([7, 8, 9], at=SECOND),
                [
                    Definition(number, "m", {"n": label})
                    for number, label in ((7, "new"), (8, "2"), (9, "newer"))
                ],
            )
        ]
    )
    assert isinstance(outcome, Stored)
    assert await stored_values(store) == {"1": [1.0], "2": [2.0, 8.0]}
    assert (await ledger(store))[LIMIT][0] == 2


async def test_a_raised_limit_lets_refused_series_in(store: TableStore) -> None:
    """The agent is asked for their definitions, and they are stored from then on."""
    store.limit_series(SeriesLimits(per_agent=1))
    await one(store, 1, readings([1, 2, 3]), names(1, 2, 3))
    store.limit_series(SeriesLimits(per_agent=2))
    assert await one(store, 2, readings([1, 2, 3], at=SECOND)) == NeedDefinitions((2, 3))
    assert isinstance(await one(store, 2, readings([1, 2, 3], at=SECOND), names(2, 3)), Stored)
    assert isinstance(await one(store, 3, readings([1, 2, 3], at=2 * SECOND)), Stored)
    assert await stored_values(store) == {"1": [1.0] * 3, "2": [2.0] * 2}
    assert (await ledger(store))[LIMIT][0] == 2 + 1 + 1


async def test_all_agents_together_have_a_limit_too(store: TableStore, clock: ManualClock) -> None:
    """At it, no agent gets a new series, and each keeps those it has."""
    store.limit_series(SeriesLimits(per_agent=3, total=4))
    await one(store, 1, readings([1, 2, 3, 4]), names(1, 2, 3, 4), agent="a")
    await one(store, 1, readings([1, 2, 3]), names(1, 2, 3), agent="b")
    clock.advance(2 * RECOUNT_NS)
    await one(store, 1, readings([1]), names(1), agent="c")
    assert isinstance(await one(store, 2, readings([1, 2], at=SECOND), agent="a"), Stored)
    counted = {agent: (await ledger(store, agent)).get(LIMIT, (0, 0, 0))[0] for agent in "abc"}
    assert counted == {"a": 1, "b": 2, "c": 1}
    assert (await store.series_page(SeriesQuery())).total == 4


async def test_a_batch_that_is_undone_uses_up_no_room(store: TableStore) -> None:
    """A conflict enters nothing, and counts nothing."""
    store.limit_series(SeriesLimits(per_agent=3))
    await one(store, 1, readings([1]), names(1))
    for more in (names(2, 3), names(2, 3, 4, 5)):
        clash = [*more, Definition(1, "another", {})]
        assert isinstance(await one(store, 2, readings([1, 2]), clash), Conflict)
    assert isinstance(await one(store, 2, readings([1, 2, 3]), names(2, 3)), Stored)
    assert LIMIT not in await ledger(store)
    assert (await store.series_page(SeriesQuery())).total == 3


async def test_windows_above_the_limit_are_left_out_with_their_sketches_and_events_stay(
    store: TableStore,
) -> None:
    """What is kept of a batch of all three kinds is kept whole."""
    store.limit_series(SeriesLimits(per_agent=1))
    kept, gone = window(1, T0, [3.0, 4.0]), window(2, T0, [5.0, 6.0])
    names_of = [name for name in kept.__slots__ if name not in {"sketch", "damaged"}]
    columns = [np.concatenate((getattr(gone, name), getattr(kept, name))) for name in names_of]
    both = type(kept)(*columns)
    order = np.argsort(both.series)
    both = type(kept)(*(column[order] for column in columns))
    both.sketch = SketchBlock(
        np.array([2, 1, 1, 0], np.uint32),
        np.array([7, 8, -3, 9], np.int32),
        np.array([1, 1, 1, 2], np.uint64),
        np.array([4, 5], np.uint64),
    )
    content = Payload(
        samples({1: [(T0, 1.0)], 2: [(T0 + SECOND, 2.0)]}, {1: [4], 2: [1]}),
        both,
        events((T0, 9, "app", "started", {"a": 1})),
    )
    outcome = await one(store, 1, content, names(1, 2))
    assert isinstance(outcome, Stored)
    assert outcome.committed is not None
    assert outcome.committed.over_limit == 2
    (read,) = await store.read_after(0)
    for committed in (outcome.committed, read):
        assert committed.samples.flags is not None
        assert committed.samples.flags.tolist() == [4]
        assert committed.events is not None
        windows = committed.windows
        assert windows is not None
        assert windows.last.tolist() == [4.0]
        sketch = windows.sketch
        assert sketch is not None
        assert (sketch.counts.tolist(), sketch.keys.tolist()) == ([2, 1], [7, 8, -3])
        assert (sketch.weights.tolist(), sketch.zero.tolist()) == ([1, 1, 1], [4])
    assert (await ledger(store))[LIMIT] == (2, T0, T0 + SECOND)


async def test_a_batch_of_refused_series_alone_is_acknowledged(store: TableStore) -> None:
    """It doesn't wait at the agent for ever, and its counts by cause are taken."""
    store.limit_series(SeriesLimits(per_agent=1))
    await one(store, 1, readings([1]), names(1))
    assert isinstance(await one(store, 2, readings([2, 3], at=SECOND), names(2, 3)), Stored)
    found = await ledger(store)
    assert (found["received"][0], found["stored"][0], found[LIMIT][0]) == (3, 1, 2)


async def test_refused_readings_of_a_batch_kept_apart_lie_at_its_arrival(
    open_store: Opener, clock: ManualClock
) -> None:
    """Their own times are what is wrong. Let in, the batch holds what was within the limit."""
    store = await open_store(future_limit_ns=SECOND)
    store.limit_series(SeriesLimits(per_agent=1))
    ahead = clock.now_ns() - T0 + 3_600 * SECOND
    assert isinstance(await one(store, 1, readings([1, 2], at=ahead), names(1, 2)), Stored)
    assert (await ledger(store))[LIMIT] == (1, clock.now_ns(), clock.now_ns())
    (apart,) = (await store.quarantined(QuarantineQuery())).batches
    await store.release_quarantined(apart.id, -ahead)
    assert await stored_values(store) == {"1": [1.0]}


@pytest.mark.slow
async def test_a_million_series_of_one_agent_are_bounded(open_store: Opener) -> None:
    """A label that is new in each reading: series stay at the limit, memory small, and every reading is accounted for."""
    store = await open_store()
    store.limit_series(SeriesLimits(per_agent=1_000))
    total, piece = 1_000_000, 20_000
    for seq, first in enumerate(range(1, total + 1, piece), start=1):
        numbers = np.arange(first, first + piece, dtype=np.int64)
        block = SampleBlock(
            numbers, np.arange(piece + 1, dtype=np.int64), np.full(piece, T0 + seq), np.ones(piece)
        )
        content = Payload(block, counts={Cause.RECEIVED: piece, Cause.SHIPPED: piece})
        defs = [Definition(number, "m", {"request": str(number)}) for number in numbers.tolist()]
        data = encode(content, thorough=False)
        batch = Decoded(key(seq), data[:16], data, block, counts=content.counts, definitions=defs)
        assert isinstance((await store.commit([batch]))[0], Stored)
    # Known series still go through, without a definition.
    assert isinstance(await one(store, total // piece + 1, readings([1], at=SECOND)), Stored)
    assert (await store.series_page(SeriesQuery())).total == 1_000
    found = await ledger(store)
    assert (found["stored"][0], found[LIMIT][0]) == (1_001, total - 1_000)
    cardinality = store._committer.cardinality
    (refused,) = cardinality._refused.values()
    assert refused.nbytes == 8 * (total - 1_000)
    ((_, known),) = cardinality._identities.values()
    assert len(known) == 1_000
