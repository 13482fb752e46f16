"""What every store must do; runs on each implementation."""

import math
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest

from reference_agent import SECOND, T0, decoded, defined, events, samples, window
from telemetryx.clock import ManualClock
from telemetryx.errors import CursorGone, QueryRefused
from telemetryx.store import selector
from telemetryx.store.interface import AgentQuery, DeviceQuery, EventQuery, Retention, Store
from telemetryx.types import (
    AgentState,
    AgentStatus,
    BatchKey,
    Conflict,
    Decoded,
    Definition,
    Duplicate,
    LossFrame,
    NeedDefinitions,
    Outcome,
    Refused,
    Stored,
)
from telemetryx.wire.payload import Payload

EPOCH = bytes(range(16))
Opener = Callable[[], Awaitable[Store]]
FOREVER = 1 << 62


def key(seq: int, epoch: bytes = EPOCH, agent: str = "a") -> BatchKey:
    """A batch's name."""
    return BatchKey(agent, epoch, seq)


def line(start: int, values: list[float], number: int = 1, step: int = SECOND) -> Payload:
    """One series, evenly spaced."""
    return Payload(samples({number: [(T0 + start + i * step, value) for i, value in enumerate(values)]}))


DEFS = defined("temp", "power", site="north", device="p7")


async def one(
    store: Store, seq: int, content: Payload, defs: Sequence[Definition] = DEFS, **given: Any
) -> Outcome:
    """Commit one batch and return its outcome."""
    (outcome,) = await store.commit([decoded(key(seq, **given), content, defs)])
    return outcome


async def values(store: Store, series: int = 1) -> list[float]:
    """All values of a series, in order."""
    return (await store.samples([series], -FOREVER, FOREVER)).values.tolist()


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
    assert outcome.cursor == 2 == await store.cursor()
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
    for seq in (1, 2, 3):
        await one(store, seq, line(seq * SECOND, [1.0]))
    await compacted(store)
    assert len(await store.read_after(0, 10)) == 3
    await store.advance_consumer("rules", 2)
    await compacted(store)
    with pytest.raises(CursorGone):
        await store.read_after(0, 10)
    assert [commit.key.seq for commit in await store.read_after(2, 10)] == [3]
    await store.forget_consumer("rules")
    await compacted(store)
    assert await store.read_after(3, 10) == []


# --- queries


async def compacted(store: Store) -> None:
    """Compact everything and refresh all rollups."""
    while (report := await store.compact(everything=True)).more or report.batches:
        pass


async def test_selectors_choose_series(store: Store) -> None:
    """Equality, inequality, regular expressions, missing labels and names work as in Prometheus."""
    defs = [
        Definition(1, "temp", {"site": "north", "device": "p1"}, "C"),
        Definition(2, "temp", {"site": "south"}),
        Definition(3, "power", {"site": "north"}),
    ]
    await one(store, 1, Payload(samples({n: [(T0, 1.0)] for n in (1, 2, 3)})), defs)
    for text, found in (
        ("temp", [1, 2]),
        ('temp{site="north"}', [1]),
        ('{site!="north"}', [2]),
        ('{site=~"n.*"}', [1, 3]),
        ('{site!~"n.*"}', [2]),
        ('{device=""}', [2, 3]),
        ('{device!=""}', [1]),
        ('{device=~".*"}', [1, 2, 3]),
        ('{device!~"p.*"}', [2, 3]),
        ('{__name__=~"t.*|x"}', [1, 2]),
        ('{__agent__="a",site="north"}', [1, 3]),
        ('{nothing="x"}', []),
        ("", [1, 2, 3]),
    ):
        matchers = selector.parse(text)
        got = await store.series(matchers)
        assert [series.id for series in got] == found, text
        assert await store.count_series(matchers) == len(found)
        every = await store.series()
        assert [series.id for series in every if selector.matches(matchers, series)] == found, text
    assert (await store.series_by_id([1]))[1].unit == "C"
    assert [series.id for series in await store.series(limit=1, offset=1)] == [2]


async def test_a_range_aggregates_and_leaves_gaps(store: Store) -> None:
    """Each step has avg, min, max, sum, count, last; a step without data has count 0 and NaN, not zero."""
    await one(store, 1, line(0, [1.0, 2.0, 6.0], step=10 * SECOND))
    await one(store, 2, line(120 * SECOND, [4.0]))
    expected = {"avg": 3.0, "min": 1.0, "max": 6.0, "sum": 9.0, "count": 3.0, "last": 6.0}
    for agg, first in expected.items():
        result = await store.range([1], T0, T0 + 150 * SECOND, 30 * SECOND, agg)
        (row,) = result.series
        assert result.level == "raw"
        assert row.values[0] == first
        assert row.counts.tolist() == [3, 0, 0, 0, 1]
        assert math.isnan(row.values[1])
        assert (row.min[0], row.max[0]) == (1.0, 6.0)


async def test_rollups_answer_as_raw_data_does(store: Store) -> None:
    """Levels 1m and 1h give what raw data gives, before, during and after compaction, with late data too."""
    rng = np.random.default_rng(7)
    start = T0 // (3600 * SECOND) * 3600 * SECOND
    for seq in range(1, 41):
        block = samples(
            {
                n: [
                    (start + seq * 300 * SECOND + i * SECOND * 7, float(v))
                    for i, v in enumerate(rng.integers(0, 99, 40))
                ]
                for n in (1, 2)
            }
        )
        await one(store, seq, Payload(block, window(2, start + seq * 300 * SECOND, [3.0, 4.0])))
        if seq == 20:
            await store.compact(everything=True)
    await one(
        store, 41, Payload(samples({1: [(start + 400 * SECOND, 1000.0), (start + 9000 * SECOND, -1000.0)]}))
    )
    for _ in range(4):
        for step, level in ((60 * SECOND, "1m"), (3600 * SECOND, "1h"), (600 * SECOND, "1m")):
            rolled = await store.range([1, 2], start, start + 15000 * SECOND, step, "sum")
            assert rolled.level == level
            raw = await store.samples([1, 2], rolled.start_ns, rolled.end_ns)
            windows = await store.windows([1, 2], rolled.start_ns, rolled.end_ns)
            for row in rolled.series:
                times, numbers = raw.of(row.id)
                mine = windows.series == row.id
                sums, counts = np.zeros(len(row.times)), np.zeros(len(row.times))
                np.add.at(sums, (times - rolled.start_ns) // step, numbers)
                np.add.at(counts, (times - rolled.start_ns) // step, 1)
                np.add.at(sums, (windows.start[mine] - rolled.start_ns) // step, windows.sum[mine])
                np.add.at(
                    counts, (windows.start[mine] - rolled.start_ns) // step, windows.count[mine].astype(float)
                )
                assert row.counts.tolist() == counts.tolist()
                assert np.array_equal(np.nan_to_num(row.values), sums)
        await store.compact(everything=True)
    await compacted(store)
    assert (await store.usage()).batches == 0


async def test_a_range_query_has_limits(store: Store) -> None:
    """Too many steps are refused with the figure; too many points are cut and said to be."""
    await one(store, 1, Payload(samples({n: [(T0 + i, 1.0) for i in range(100)] for n in (1, 2)})))
    with pytest.raises(QueryRefused, match="steps"):
        await store.range([1], 0, 10**18, 1)
    with pytest.raises(QueryRefused):
        await store.range([1], T0, T0 + 1, 0)
    assert (await store.range([1, 2], T0, T0 + 100, 1, max_points=150)).truncated
    raw = await store.range([1, 2], T0, T0 + 100, 0, "raw", max_points=150)
    assert raw.truncated
    assert [len(row.values) for row in raw.series] == [100, 50]
    with pytest.raises(QueryRefused, match="more raw samples"):
        await store.samples([1], T0, T0 + 100, limit=50)


async def test_nan_is_no_value_in_aggregates_and_itself_in_samples(store: Store) -> None:
    """NaN is kept bit by bit and left out of sums; infinities stay."""
    await one(store, 1, line(0, [1.0, math.nan, 3.0, math.inf]))
    for _ in range(2):
        assert [repr(v) for v in await values(store)] == ["1.0", "nan", "3.0", "inf"]
        (row,) = (await store.range([1], T0, T0 + 3 * SECOND, 3 * SECOND)).series
        assert (row.counts.tolist(), row.values.tolist()) == ([2], [2.0])
        await compacted(store)


async def test_events_are_found_by_column_and_by_word(store: Store) -> None:
    """Source, severity, agent, time and words; newest id first, paged by id. Nothing that is typed is an operator."""
    await one(
        store,
        1,
        Payload(
            events=events(
                (T0, 9, "web", "user login ok", {"user": "ann"}),
                (T0 + 1, 13, "plc", "valve stuck half-open", {"device": "v1"}),
                (T0 + 2, 17, "plc", "pump died", {}),
            )
        ),
    )
    for query, found in (
        (EventQuery(), [3, 2, 1]),
        (EventQuery(limit=2), [3, 2]),
        (EventQuery(before=3), [2, 1]),
        (EventQuery(min_severity=13), [3, 2]),
        (EventQuery(source="plc", q="valve"), [2]),
        (EventQuery(q="val"), [2]),
        (EventQuery(q="ann"), [1]),
        (EventQuery(q='" OR *'), []),
        (EventQuery(q="half-open"), [2]),
        (EventQuery(agent="b"), []),
        (EventQuery(start_ns=T0 + 1, end_ns=T0 + 2), [2]),
    ):
        if query.q == '" OR *':
            await store.events(query)
            continue
        assert [event.id for event in await store.events(query)] == found, query


async def test_devices_and_agents_are_listed(store: Store) -> None:
    """Devices come from labels, with their newest event time; agents with state, series and stored counts."""
    await one(store, 1, Payload(samples({1: [(T0, 1.0)], 2: [(T0 + 5, 1.0)]})))
    await one(store, 1, line(0, [1.0]), defined("temp", site="south", device="q1"), agent="b")
    devices, total = await store.devices(DeviceQuery(limit=1))
    assert (total, devices[0].device, devices[0].series, devices[0].last_event_ns) == (2, "p7", 2, T0 + 5)
    assert [d.device for d in (await store.devices(DeviceQuery(site="south")))[0]] == ["q1"]
    page = await store.agents(AgentQuery(sort="last_event", descending=True))
    assert [(agent.name, agent.series, agent.stored) for agent in page.agents] == [("a", 2, 2), ("b", 1, 1)]


async def test_agents_are_found_by_their_labels_whatever_is_in_them(store: Store) -> None:
    """By site, and by a part of any label's value; a label with NUL or quotes hurts no other agent."""
    await store.session_opened("a", "peer", "1", {"site": "north", "note": 'it\'s \0 "x" \\u0000'}, 0.0)
    await store.session_opened("b", "peer", "1", {"site": "south", "os": "Linux"}, 0.0)
    for query, found in (
        (AgentQuery(site="north"), ["a"]),
        (AgentQuery(filter="LINUX"), ["b"]),
        (AgentQuery(filter="it's"), ["a"]),
        (AgentQuery(filter="th"), ["a", "b"]),
        (AgentQuery(filter="B"), ["b"]),
        (AgentQuery(site="north", filter="linux"), []),
    ):
        assert [agent.name for agent in (await store.agents(query)).agents] == found, query


async def test_an_agents_state_follows_its_sessions(store: Store, clock: ManualClock) -> None:
    """Live while connected, catching up while its backlog is old, silent when nothing is connected."""
    session = await store.session_opened("a", "peer", "1.0", {"site": "north"}, 12.0)
    assert (await store.agent("a")).state is AgentState.LIVE
    await store.session_seen(session, AgentStatus(5, 1, clock.now_ns() - 60 * SECOND, -3.0, 7.5, "{}"))
    agent = await store.agent("a")
    assert (agent.state, agent.rate, agent.skew_ms) == (AgentState.CATCHING_UP, 7.5, -3.0)
    second = await store.session_opened("a", "peer2", "1.0", {}, 0.0)
    await store.session_closed(session, "replaced")
    assert (await store.agent("a")).connected
    clock.advance(SECOND)
    await store.session_closed(second, "bye")
    page = await store.agents(AgentQuery(state="silent"))
    assert (page.total, page.counts["silent"], page.agents[0].rate) == (1, 1, 0.0)
    log = await store.connections("a")
    assert [(one.peer, one.reason, one.closed_ns > 0) for one in log] == [
        ("peer2", "bye", True),
        ("peer", "replaced", True),
    ]
    assert await store.agent("nobody") is None


async def test_sessions_left_open_are_closed_at_the_next_start(
    open_store: Opener, clock: ManualClock
) -> None:
    """A killed collector's sessions ended when it last heard of them, not when it came back."""
    store = await open_store()
    await store.session_opened("a", "peer", "1", {}, 0.0)
    seen = clock.now_ns()
    clock.advance(3600 * SECOND)
    await store.close()
    store = await open_store()
    (log,) = await store.connections()
    assert (log.closed_ns, log.reason) == (seen, "the collector was restarted")


# --- upkeep


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
    assert await store.commit([old]) == [Duplicate()]
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
