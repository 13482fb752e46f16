"""What every store must do, on each implementation: batches exactly once, with their times and cursors. Queries and upkeep stand beside."""

import os

import numpy as np
import pytest

from reference_agent import SECOND, T0, decoded, defined, events, samples, window
from store_batches import DEFS, EPOCH, FOREVER, Opener, compacted, key, line, one, values
from telemetryx.errors import CursorGone
from telemetryx.store import selector
from telemetryx.store.interface import Store
from telemetryx.types import (
    BatchKey,
    Conflict,
    Decoded,
    Definition,
    Duplicate,
    LossFrame,
    NeedDefinitions,
    Refused,
    Stored,
)
from telemetryx.wire.payload import Payload

# --- exactly once


async def test_a_batch_is_stored_once(store: Store) -> None:
    """The same batch again is a duplicate, in the same group, in a later one."""
    batch = decoded(key(1), line(0, [1.0, 2.0]), DEFS)
    first = await store.commit([batch, batch])
    assert isinstance(first[0], Stored)
    assert first[1:] == [Duplicate()]
    assert await store.commit([batch]) == [Duplicate()]
    assert await values(store) == [1.0, 2.0]


async def test_a_known_key_with_another_checksum_is_a_conflict(store: Store) -> None:
    """It is neither stored nor acknowledged as a duplicate; the stored checksum is named."""
    batch = decoded(key(1), line(0, [1.0]), DEFS)
    await store.commit([batch])
    assert await one(store, 1, line(0, [9.0])) == Conflict(batch.checksum)
    assert await values(store) == [1.0]


async def test_epochs_and_agents_count_apart(store: Store) -> None:
    """(agent, epoch, seq) is the key: equal seqs of another epoch or agent are other batches."""
    other = os.urandom(16)
    for given in ({}, {"epoch": other}, {"agent": "b"}):
        assert isinstance(await one(store, 1, line(0, [1.0]), **given), Stored)
    assert await values(store) == [1.0, 1.0]


async def test_holdings_are_ranges(store: Store) -> None:
    """What is held is told as everything up to N and ranges above it; holes close in any order."""
    for seq in (2, 1, 5, 9, 6, 8):
        await one(store, seq, line(seq * SECOND, [float(seq)]))
    held = await store.holdings("a", [EPOCH, bytes(16)])
    assert (held[EPOCH].upto, held[EPOCH].ranges) == (2, ((5, 6), (8, 9)))
    assert (held[bytes(16)].upto, held[bytes(16)].ranges) == (0, ())
    for seq in (7, 4, 3):
        await one(store, seq, line(seq * SECOND, [float(seq)]))
    held = await store.holdings("a", [EPOCH])
    assert (held[EPOCH].upto, held[EPOCH].ranges) == (9, ())


async def test_checksums_are_known(store: Store) -> None:
    """The greeting asks for the checksums of what an agent still holds."""
    batch = decoded(key(3), line(0, [1.0]), DEFS)
    await store.commit([batch])
    assert await store.checksums("a", [(EPOCH, 3), (EPOCH, 4), (bytes(16), 3)]) == {
        (EPOCH, 3): batch.checksum
    }


async def test_a_commit_names_the_series_that_its_batch_defines(store: Store) -> None:
    """As the store returns them, so that who hears of it needn't ask; without definitions there are none."""
    label = {"site": "north", "device": "pump1", "empty": ""}
    definitions = [Definition(1, "temp", label, "C"), Definition(2, "flow", {})]
    outcome = await one(store, 1, Payload(samples({1: [(T0, 1.0)], 2: [(T0, 2.0)]})), definitions)
    assert isinstance(outcome, Stored)
    assert outcome.committed is not None
    named = {series.id: series for series in outcome.committed.defined}
    assert named == await store.series_by_id([1, 2])
    assert [list(series.labels) for series in named.values()] == [["device", "site"], []]
    later = await one(store, 2, line(SECOND, [2.0]), [])
    assert isinstance(later, Stored)
    assert later.committed is not None
    assert later.committed.defined == ()


async def test_a_batch_with_unknown_numbers_is_not_entered(store: Store) -> None:
    """Undefined numbers are named; nothing of the batch is kept, its seq neither, its neighbours are."""
    bad = decoded(key(1), Payload(samples({1: [(T0, 1.0)], 9: [(T0, 1.0)]})), defined("temp"))
    good = decoded(key(2), line(0, [5.0]), DEFS)
    outcomes = await store.commit([bad, good])
    assert outcomes[0] == NeedDefinitions((9,))
    assert isinstance(outcomes[1], Stored)
    assert (await store.holdings("a", [EPOCH]))[EPOCH].ranges == ((2, 2),)
    (temp,) = await store.series(selector.parse("temp"))
    assert await values(store, temp.id) == [5.0]


async def test_a_number_that_changes_its_meaning_is_a_conflict(store: Store) -> None:
    """A clone may define a number anew: that calls for a new epoch, not for quarantine."""
    await one(store, 1, line(0, [1.0]), defined("temp"))
    assert await one(store, 2, line(0, [1.0]), defined("power")) == Conflict(bytes(16))
    assert [series.name for series in await store.series()] == ["temp"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("seq 0", decoded(key(1), line(0, [1.0]))),
        ("time", decoded(key(2), Payload(samples({1: [(2**63 - 1, 1.0)]})), DEFS)),
        ("offset", decoded(key(3), line(0, [1.0]), DEFS, clock_offset_ns=9_000_000_000_000_000_000)),
    ],
)
async def test_what_can_never_be_stored_is_refused(store: Store, name: str, content: Decoded) -> None:
    """A key that is none, and times outside 64 bits with room to count: refused, with the value."""
    if name == "seq 0":
        content.key = BatchKey("a", EPOCH, 0)
    (outcome,) = await store.commit([content])
    assert isinstance(outcome, Refused)
    assert await store.series() == []


async def test_content_that_no_column_holds_refuses_its_batch_alone(store: Store) -> None:
    """A count beyond 63 bits is the batch's own fault: its neighbours in the group are stored, and it is no gap of theirs."""
    bad = Payload(windows=window(2, T0, [1.0, 2.0]))
    assert bad.windows is not None
    bad.windows.count = bad.windows.count + np.uint64(1 << 63)
    group = [line(0, [1.0]), bad, line(SECOND, [3.0])]
    outcomes = await store.commit([decoded(key(seq), one, DEFS) for seq, one in enumerate(group, start=1)])
    assert [type(outcome) for outcome in outcomes] == [Stored, Refused, Stored]
    assert (await store.holdings("a", [EPOCH]))[EPOCH].ranges == ((3, 3),)
    (temp,) = await store.series(selector.parse("temp"))
    assert await values(store, temp.id) == [1.0, 3.0]
    assert await store.verify() == []


async def test_a_loss_frame_fills_its_hole_once(store: Store) -> None:
    """The ledger has no hole, the counts are kept once, the dropped seqs join to one gap."""
    await one(store, 1, line(0, [1.0]))
    frames = [LossFrame(key(seq), T0 + seq, T0 + 2 * seq, {65: 10, 64: 1}) for seq in (2, 3, 4)]
    assert await store.commit_loss(frames) == [Stored(0)] * 3
    assert await store.commit_loss(frames[:1]) == [Duplicate()]
    assert (await store.holdings("a", [EPOCH]))[EPOCH].upto == 4
    rows = {row.cause: row for row in await store.loss("a")}
    assert (rows["overflowed"].count, rows["overflowed"].first_ns, rows["overflowed"].last_ns) == (
        30,
        T0 + 2,
        T0 + 8,
    )
    gaps = {gap.cause: gap for gap in await store.gaps()}
    assert (gaps["overflowed"].first_seq, gaps["overflowed"].last_seq, gaps["overflowed"].count) == (2, 4, 30)


async def test_counts_ride_in_batches_exactly_once(store: Store) -> None:
    """A duplicate's counts don't count again."""
    content = line(0, [1.0, 2.0])
    content.counts = {1: 7, 16: 5}
    batch = decoded(key(1), content, DEFS)
    await store.commit([batch])
    await store.commit([batch])
    assert {(row.cause, row.count) for row in await store.loss()} == {
        ("received", 7),
        ("rejected_syntax", 5),
        ("stored", 2),
    }


async def test_everything_survives_a_reopening(open_store: Opener) -> None:
    """Data, ledger, definitions and cursors are there after close and open."""
    store = await open_store()
    await one(store, 1, line(0, [1.0]))
    await store.register_consumer("rules", 0)
    await store.close()
    store = await open_store()
    assert await one(store, 1, line(0, [1.0])) == Duplicate()
    outcome = await one(store, 2, line(5 * SECOND, [2.0]), ())
    assert isinstance(outcome, Stored)
    assert 0 < outcome.cursor == await store.cursor()
    assert await store.consumer_cursor("rules") == 0
    assert await values(store) == [1.0, 2.0]


# --- time


async def test_the_clock_offset_is_added_and_the_payload_stays(store: Store) -> None:
    """Times are corrected when stored, before and after compaction; the checksum is that of the payload."""
    await store.commit([decoded(key(1), line(0, [1.0]), DEFS, clock_offset_ns=3600 * SECOND)])
    assert (await store.samples([1], -FOREVER, FOREVER)).times.tolist() == [T0 + 3600 * SECOND]
    await compacted(store)
    assert (await store.samples([1], -FOREVER, FOREVER)).times.tolist() == [T0 + 3600 * SECOND]


async def test_ranges_are_half_open(store: Store) -> None:
    """Start is in, end is out; before and after compaction."""
    await one(store, 1, line(0, [0.0, 1.0, 2.0, 3.0]))
    for _ in range(2):
        block = await store.samples([1], T0 + SECOND, T0 + 3 * SECOND)
        assert block.values.tolist() == [1.0, 2.0]
        await compacted(store)


async def test_equal_times_stay_in_key_order(store: Store) -> None:
    """Samples of one time are ordered by (batch key, index), whenever their batches came."""
    await one(store, 3, line(0, [30.0]))
    await one(store, 1, Payload(samples({1: [(T0, 10.0), (T0, 11.0)]})))
    await compacted(store)
    await one(store, 2, line(0, [20.0]))
    assert await values(store) == [10.0, 11.0, 20.0, 30.0]
    await compacted(store)
    assert await values(store) == [10.0, 11.0, 20.0, 30.0]


async def test_latest_is_by_event_time(store: Store) -> None:
    """A backlog that arrives later doesn't overwrite a newer value."""
    await one(store, 2, line(100 * SECOND, [5.0]))
    await one(store, 1, line(0, [1.0]))
    latest = await store.latest([1, 99])
    assert {series: (row.value, row.time_ns) for series, row in latest.items()} == {
        1: (5.0, T0 + 100 * SECOND)
    }


# --- cursors


async def test_readers_by_cursor_see_every_commit_in_order(store: Store) -> None:
    """read_after gives what the commit gave, in commit order."""
    outcomes = [
        await one(
            store,
            seq,
            Payload(
                samples({1: [(T0 + seq, float(seq))]}, {1: [seq]}),
                window(2, T0, [1.0, 2.0]),
                events((T0, 9, "s", "b", {})),
            ),
        )
        for seq in (3, 1, 2)
    ]
    read = await store.read_after(0, 10)
    assert [commit.key.seq for commit in read] == [3, 1, 2]
    for commit, outcome in zip(read, outcomes, strict=True):
        given = outcome.committed
        assert (commit.cursor, commit.key, commit.t0_ns, commit.t1_ns) == (
            given.cursor,
            given.key,
            given.t0_ns,
            given.t1_ns,
        )
        assert commit.samples.times.tolist() == given.samples.times.tolist()
        assert commit.samples.flags.tolist() == given.samples.flags.tolist()
        assert commit.windows.sum.tolist() == given.windows.sum.tolist()
        assert commit.events.ids.tolist() == given.events.ids.tolist()
    assert [commit.key.seq for commit in await store.read_after(read[0].cursor, 1)] == [1]


async def test_compaction_waits_for_registered_consumers(store: Store) -> None:
    """What a consumer hasn't read stays readable; what is compacted says so instead of skipping."""
    await store.register_consumer("rules", 0)
    numbers = [(await one(store, seq, line(seq * SECOND, [1.0]))).cursor for seq in (1, 2, 3)]
    await compacted(store)
    assert len(await store.read_after(0, 10)) == await store.count_after(0, 10) == 3
    assert await store.count_after(0, 2) == 2
    await store.advance_consumer("rules", numbers[1])
    await compacted(store)
    with pytest.raises(CursorGone):
        await store.read_after(0, 10)
    assert [commit.key.seq for commit in await store.read_after(numbers[1], 10)] == [3]
    await store.forget_consumer("rules")
    await compacted(store)
    assert await store.read_after(numbers[2], 10) == []
