"""What every store must answer, on each implementation: series, ranges, events, devices, agents."""

import math
from dataclasses import replace

import numpy as np
import pytest

from reference_agent import SECOND, T0, decoded, defined, events, samples, window
from store_batches import Opener, compacted, key, line, one, values
from telemetryx.clock import ManualClock
from telemetryx.errors import QueryRefused
from telemetryx.fleet import AgentState, AgentStatus
from telemetryx.store import selector
from telemetryx.store.interface import (
    AgentQuery,
    AgentSort,
    DeviceQuery,
    EventQuery,
    QuarantineQuery,
    Retention,
    SeriesPage,
    SeriesQuery,
    Store,
)
from telemetryx.store.tables.store import TableStore
from telemetryx.types import Definition, Stored
from telemetryx.wire.payload import Payload


async def test_an_agents_name_is_a_label_as_in_promql(store: Store) -> None:
    """With every operator, on every store; a series' own label of that name goes first, as in `by=agent`."""
    defs = [Definition(1, "temp", {}), Definition(2, "temp", {"agent": "other"}), Definition(3, "power", {})]
    for seq, name in enumerate(("gw1", "gw2"), 1):
        content = Payload(samples({n: [(T0, 1.0)] for n in (1, 2, 3)}))
        (outcome,) = await store.commit([decoded(key(seq, name.encode() * 5 + b"0", name), content, defs)])
        assert isinstance(outcome, Stored)
    for text, found in (
        ('{agent="gw1"}', [("gw1", "temp", {}), ("gw1", "power", {})]),
        ('temp{agent="gw2"}', [("gw2", "temp", {})]),
        ('{agent="other"}', [("gw1", "temp", {"agent": "other"}), ("gw2", "temp", {"agent": "other"})]),
        ('temp{agent!="gw1"}', [
            ("gw1", "temp", {"agent": "other"}), ("gw2", "temp", {}), ("gw2", "temp", {"agent": "other"}),
        ]),
        ('power{agent=~"gw.*"}', [("gw1", "power", {}), ("gw2", "power", {})]),
        ('{agent!~"gw.*|nobody"}', [("gw1", "temp", {"agent": "other"}), ("gw2", "temp", {"agent": "other"})]),
        ('{agent=~"o.*|gw2", __agent__="gw1"}', [("gw1", "temp", {"agent": "other"})]),
        ('{agent=""}', []),
    ):  # fmt: skip
        matchers = selector.parse(text)
        got = await store.series(matchers)
        assert [(one.agent, one.name, dict(one.labels)) for one in got] == found, text
        assert (await store.series_page(SeriesQuery(matchers))).total == len(found)
        every = await store.series()
        assert [one for one in every if selector.matches(matchers, one)] == got, text


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
        assert (await store.series_page(SeriesQuery(matchers))).total == len(found)
        every = await store.series()
        assert [series.id for series in every if selector.matches(matchers, series)] == found, text
    assert (await store.series_by_id([1]))[1].unit == "C"
    assert [series.id for series in await store.series(limit=1, after=1)] == [2]


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
    assert [len(row.values) for row in raw.series] == [75, 75]
    assert raw.cut == (1, 2)
    with pytest.raises(QueryRefused, match="more raw samples"):
        await store.samples([1], T0, T0 + 100, limit=50)


async def test_a_whole_range_is_what_lies_in_it(store: Store) -> None:
    """One point a series, to the nanosecond, before compaction and after it, beside windows; before the raw horizon by minutes."""
    hour = T0 // (3600 * SECOND) * 3600 * SECOND
    times = [hour + i * 20 * SECOND for i in range(3 * 180)]
    await one(store, 1, Payload(samples({1: [(at, float(i)) for i, at in enumerate(times)]})))
    await one(store, 2, Payload(windows=window(1, hour + 5400 * SECOND, [7.0, 8.0])))
    for _ in range(2):
        for start, end in (
            (0, 10800),
            (1, 10800),
            (61, 3700),
            (3600, 7200),
            (4001, 7199),
            (30, 31),
            (20, 21),
        ):
            span = (hour + start * SECOND, hour + end * SECOND)
            inside = [float(i) for i, at in enumerate(times) if span[0] <= at < span[1]]
            inside += [7.0, 8.0] if start <= 5400 < end else []
            found = await store.whole([1], *span, "sum")
            (row,) = found.series
            assert (found.start_ns, found.end_ns, row.times.tolist()) == (*span, [span[0]])
            assert (row.counts.tolist(), np.nansum(row.values)) == ([len(inside)], sum(inside))
            assert not inside or (row.min[0], row.max[0]) == (min(inside), max(inside))
        await compacted(store)
    with pytest.raises(QueryRefused, match="ends"):
        await store.whole([1], hour, hour)
    assert await store.raw_horizon() < hour
    keep = Retention(raw_ns=3600 * SECOND, windows_ns=3600 * SECOND)
    await store.apply_retention(keep, hour + 7200 * SECOND)
    assert await store.raw_horizon() == hour + 3600 * SECOND
    found = await store.whole([1], hour + 61 * SECOND, hour + 7201 * SECOND, "count")
    assert (found.start_ns, found.end_ns) == (hour + 60 * SECOND, hour + 7201 * SECOND)
    assert found.series[0].counts.tolist() == [357 + 1 + 2]
    assert found.raw_from_ns == hour + 3600 * SECOND


async def test_nan_is_a_value_in_aggregates_and_itself_in_samples(store: Store) -> None:
    """NaN is kept bit by bit, counted, and makes an average NaN; infinities stay."""
    await one(store, 1, line(0, [1.0, math.nan, 3.0, math.inf]))
    for _ in range(2):
        assert [repr(v) for v in await values(store)] == ["1.0", "nan", "3.0", "inf"]
        (row,) = (await store.range([1], T0, T0 + 3 * SECOND, 3 * SECOND)).series
        assert row.counts.tolist() == [3]
        assert np.isnan(row.values).tolist() == [True]
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
    first = await store.devices(DeviceQuery(limit=1))
    devices = first.devices
    assert (first.total, devices[0].device, devices[0].series, devices[0].last_event_ns) == (
        2,
        "p7",
        2,
        T0 + 5,
    )
    assert [d.device for d in (await store.devices(DeviceQuery(site="south"))).devices] == ["q1"]
    page = await store.agents(AgentQuery(sort="last_event", descending=True))
    assert [(agent.name, agent.series, agent.stored) for agent in page.agents] == [("a", 2, 2), ("b", 1, 1)]


async def test_pages_of_agents_hold_each_once_while_agents_report_and_join(
    store: Store, clock: ManualClock
) -> None:
    """Behind a name and in front of one, both ways: who reports, falls silent or joins in between moves no other row."""
    names = ["Zoë", "a", "a b", "ab", "b", "é", "\U0001f600"]
    for name in names:
        await store.session_opened(name, "peer", "1", {}, 0.0)
    for descending in (False, True):
        expected = names[::-1] if descending else names
        query, found = AgentQuery(limit=2, descending=descending), list[str]()
        for turn in range(4):
            page = await store.agents(query)
            assert (page.skipped, page.more) == (2 * turn, turn < 3)
            found += [agent.name for agent in page.agents]
            clock.advance(SECOND)
            await store.session_opened(names[-turn], "peer", "2", {}, float(turn))
            query = replace(query, after=found[-1])
        assert found == expected
        assert (await store.agents(query)).agents == []
        ahead = await store.agents(replace(query, after=None, before=expected[3]))
        assert ([agent.name for agent in ahead.agents], ahead.skipped, ahead.more) == (
            expected[1:3],
            1,
            True,
        )
    await store.session_opened("A", "peer", "1", {}, 0.0)
    page = await store.agents(AgentQuery(after="a", before="b"))
    assert ([agent.name for agent in page.agents], page.skipped, page.total) == (["a b", "ab"], 3, 8)
    at = clock.now_ns()
    clock.advance(SECOND)
    await store.session_opened("b", "peer", "1", {}, 0.0)
    page = await store.agents(AgentQuery(seen_before_ns=at + 1))
    assert [agent.name for agent in page.agents] == ["A", *(name for name in names if name != "b")]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", ["last_seen", "last_event", "backlog", "skew", "rate"])
async def test_pages_of_agents_by_a_column_hold_each_once_while_others_join_and_move(
    store: Store,
    clock: ManualClock,
    sort: AgentSort,
    descending: bool,  # noqa: FBT001
) -> None:
    """Rows of one value among them, forward and back; who joins or changes places in between moves nobody else."""

    async def seen(name: str, number: float, *, event: bool = True) -> None:
        session = await store.session_opened(name, "peer", "1", {}, number)
        await store.session_seen(session, AgentStatus(int(number), 0, 0, number, number + 0.1, ""))
        if event:
            await one(store, 1, line(int(number), [1.0]), agent=name)
        clock.advance(SECOND)

    # What is equal of two of them: all but when they were last seen.
    for name, number in (("c", 3.0), ("a", 1.0), ("b", 3.0), ("é", 2.0), ("d", 3.0), ("e", 7.0)):
        await seen(name, number)
    expected = [
        agent.name for agent in (await store.agents(AgentQuery(sort=sort, descending=descending))).agents
    ]
    assert len(expected) == 6
    query, found = AgentQuery(sort=sort, descending=descending, limit=2), list[str]()
    while True:
        page = await store.agents(query)
        found += [agent.name for agent in page.agents]
        if not page.more:
            break
        if len(found) == 2:
            # One that was shown moves to the front, where another one joins; by when they were last seen that is the end.
            await seen(found[0], 9.0 if descending else 0.5, event=False)
            await seen("new", 99.0 if descending else 0.0)
        query = replace(query, after=query.place(page.agents[-1]))
    assert [name for name in dict.fromkeys(found) if len(name) == 1] == expected
    whole = (await store.agents(replace(query, limit=50, after=None))).agents
    last = await store.agents(replace(query, limit=50, after=None, before=query.place(whole[-1])))
    assert [agent.name for agent in last.agents] == [agent.name for agent in whole[:-1]]
    middle = await store.agents(replace(query, limit=2, after=None, before=query.place(whole[4])))
    assert ([agent.name for agent in middle.agents], middle.skipped) == ([one.name for one in whole[2:4]], 2)


async def test_pages_of_series_hold_each_once_while_others_come_and_end(store: TableStore) -> None:
    """By id, forward and back, of those that match."""
    await one(
        store, 1, Payload(samples({n: [(T0, 1.0)] for n in range(1, 8)})), defined(*"abcdefg", site="n")
    )
    await one(store, 2, line(0, [1.0], 9), defined("other", first=9, site="s"))
    matchers = selector.parse('{site="n"}')
    query, found = SeriesQuery(matchers, "a", 3), list[str]()
    while True:
        page = await store.series_page(query)
        found += [series.name for series in page.series]
        assert page.skipped == len(found) - len(page.series) - (1 if query.after else 0)
        if not page.more:
            break
        if query.after is None:
            for statement in (
                "DELETE FROM series_number WHERE series_id = 1",
                "DELETE FROM series_label WHERE series_id = 1",
                "DELETE FROM latest WHERE series_id = 1",
                "DELETE FROM series WHERE id = 1",
            ):
                await store.write(lambda db, said=statement: db.execute(said))
        query = replace(query, after=page.series[-1].id)
    assert found == list("abcdefg")
    back = await store.series_page(replace(query, after=None, before=page.series[0].id))
    assert ([series.name for series in back.series], back.skipped, back.total) == (list("def"), 2, 6)
    assert await store.series_page(replace(query, after=1 << 40)) == SeriesPage([], 6, 6)
    assert await store.series_page(replace(query, after=None, before=1)) == SeriesPage([], 6, 0)
    between = await store.series_page(SeriesQuery(after=2, before=5))
    assert ([series.id for series in between.series], between.total) == ([3, 4], 7)


async def test_pages_of_batches_that_are_kept_apart_hold_each_once_while_others_come_and_go(
    open_store: Opener, clock: ManualClock
) -> None:
    """Newest first: with an offset a new one would show the last of a page again, one that is let in would hide another."""
    store = await open_store(future_limit_ns=SECOND)
    ahead = clock.now_ns() - T0 + 3_600 * SECOND

    async def came(seq: int, agent: str = "a") -> None:
        await one(store, seq, line(ahead, [1.0]), agent=agent)

    for seq in range(1, 6):
        await came(seq)
    await came(1, "b")
    query, found = QuarantineQuery("a", 2), list[int]()
    while True:
        page = await store.quarantined(query)
        found += [batch.seq for batch in page.batches]
        if not page.more:
            break
        await came(10 + len(found))
        assert await store.drop_quarantined(page.batches[0].id)
        query = replace(query, after=page.batches[-1].id)
    assert found == [5, 4, 3, 2, 1]
    front = await store.quarantined(replace(query, after=None, before=page.batches[0].id))
    assert ([batch.seq for batch in front.batches], front.skipped) == ([4, 2], 2)


async def test_pages_of_devices_hold_each_once_while_others_appear(store: Store) -> None:
    """The place is the device itself: neither a new one in front nor new data moves the others."""
    for seq, (site, device) in enumerate((("n", "1"), ("n", "2"), ("n,2", ""), ("s", "1"), ("s", "10")), 1):
        series = defined("temp", first=seq, site=site, device=device or "x")
        await one(store, seq, line(0, [1.0], seq), series, agent="m")
    query, found = DeviceQuery(limit=2), list[tuple[str, str, str]]()
    for turn in range(3):
        page = await store.devices(query)
        assert (page.skipped, page.more) == (2 * turn + min(turn, 1), turn < 2)
        found += [(row.agent, row.site, row.device) for row in page.devices]
        if turn == 0:
            await one(store, 1, line(0, [1.0]), defined("temp", site="a", device="new"), agent="a")
        query = replace(query, after=found[-1])
    assert found == [("m", "n", "1"), ("m", "n", "2"), ("m", "n,2", "x"), ("m", "s", "1"), ("m", "s", "10")]
    page = await store.devices(DeviceQuery(limit=2, before=found[1]))
    assert [(row.agent, row.device) for row in page.devices] == [("a", "new"), ("m", "1")]
    assert (page.skipped, page.total) == (0, 6)


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
