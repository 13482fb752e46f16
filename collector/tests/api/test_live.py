"""The live stream: complete across reconnects, fair to slow clients, closed to strangers."""

import asyncio
import json
import math
from typing import Any

import pytest
from aiohttp import WSMsgType, WSServerHandshakeError

from reference_agent import PATIENCE_S
from running import T0, Running, S, key
from telemetryx.api.live import client
from telemetryx.api.live.hub import Hub
from telemetryx.api.models import LiveRequest
from telemetryx.fleet import AgentStatus
from telemetryx.store import selector
from telemetryx.types import Series

M = key("m", site="a")


class Stream:
    """A client of the live stream."""

    def __init__(self, socket: Any) -> None:
        """Use an open WebSocket."""
        self.socket = socket
        self.cursor = 0

    async def say(self, **message: Any) -> None:
        """Send a message."""
        await self.socket.send_str(json.dumps({"max_hz": 4, **message}))

    async def hear(self, kind: str) -> dict[str, Any]:
        """Wait for a message of a kind."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                message = await self.socket.receive()
                assert message.type is WSMsgType.TEXT, message
                heard: dict[str, Any] = json.loads(message.data)
                self.cursor = max(self.cursor, heard.get("cursor", 0))
                if heard["type"] == kind:
                    return heard

    async def points(self, count: int) -> list[tuple[int, float]]:
        """Collect so many points over all series."""
        found: list[tuple[int, float]] = []
        while len(found) < count:
            heard = await self.hear("samples")
            for part in heard["series"].values():
                found += list(zip(part["times_ns"], part["values"], strict=True))
        return found


async def connect(api: Running) -> Stream:
    """Open a stream."""
    return Stream(await api.client.ws_connect("/api/v1/live"))


async def subscribed(api: Running, **subscribe: Any) -> Stream:
    """Open a stream, subscribe, and wait until the subscription stands."""
    stream = await connect(api)
    await stream.say(subscribe=subscribe, cursor=api.world.hub.cursor)
    await stream.hear("resumed")
    return stream


async def test_what_is_committed_reaches_a_subscriber_and_only_what_it_asked_for(api: Running) -> None:
    """By selector."""
    stream = await subscribed(api, match='m{site="a"}')
    await api.field.send({M: [(T0, 1.5)], key("m", site="b"): [(T0, 9.0)]})
    assert await stream.points(1) == [(T0, 1.5)]


async def test_readings_that_json_has_no_number_for_are_named(api: Running) -> None:
    """A null alone would be a gap. A series without any has no such key: most have none."""
    stream = await subscribed(api, match="m")
    odd = [(T0 + n * S, value) for n, value in enumerate((1.5, math.nan, math.inf, -math.inf))]
    await api.field.send({M: odd, key("m", site="b"): [(T0, 9.0)]})
    lines = sorted((await stream.hear("samples"))["series"].values(), key=lambda one: len(one["values"]))
    assert [line["values"] for line in lines] == [[9.0], [1.5, None, None, None]]
    assert "special" not in lines[0]
    assert lines[1]["special"] == {"values": {"1": "NaN", "2": "+Inf", "3": "-Inf"}}


async def test_a_gap_that_this_process_noticed_is_told_to_who_listens(api: Running) -> None:
    """Commits of others that were compacted before they were read here: the page asks for the range, as after a late resume."""
    silent = await connect(api)
    stream = await subscribed(api, match="m")
    api.world.hub.gap(7)
    heard = await stream.hear("resumed")
    assert (heard["from"], heard["gap"]) == (7, True)
    await silent.say(subscribe={"match": "m"}, cursor=api.world.hub.cursor)
    assert not (await silent.hear("resumed"))["gap"]


async def test_a_series_that_appears_later_and_matches_is_sent(api: Running) -> None:
    """A new device needs no reload of the page."""
    await api.field.send({M: [(T0, 1.0)]})
    stream = await subscribed(api, match="m")
    await api.field.send({key("m", site="new"): [(T0 + S, 2.0)]})
    assert await stream.points(1) == [(T0 + S, 2.0)]


@pytest.fixture
def slowest(monkeypatch: pytest.MonkeyPatch) -> float:
    """Give a pace at which one message of samples is sent and no second one, however long the machine takes."""
    pace, subscribe = 0.1, client.Client._subscribe

    async def slower(one: client.Client, request: LiveRequest) -> None:
        await subscribe(one, request)
        if request.max_hz == pace:
            one._flushed, one._period_s = -math.inf, 1e9

    monkeypatch.setattr(client.Client, "_subscribe", slower)
    monkeypatch.setattr(client, "QUIET_S", math.inf)
    return pace


async def test_commits_of_others_do_not_use_up_a_clients_pace(api: Running, slowest: float) -> None:
    """A sample comes at once when the ones before it were nothing for this client."""
    other = key("m", site="b")
    await api.field.send({M: [(T0, 0.0)], other: [(T0, 0.0)]})
    (series,) = await api.world.store.series(selector.parse('m{site="a"}'))
    stream = await connect(api)
    await stream.say(subscribe={"series": [series.id]}, cursor=1, max_hz=slowest)
    await stream.hear("resumed")
    for second in (1, 2):
        await api.field.send({other: [(T0 + second * S, 1.0)]})
    await api.field.send({M: [(T0 + 3 * S, 2.0)]})
    assert await stream.points(1) == [(T0 + 3 * S, 2.0)]


async def test_a_series_that_appears_while_another_is_looked_up_is_sent_from_its_first_sample(
    api: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is committed while the store is asked, of the series that is looked up or of another, waits for the next look."""
    stream = await subscribed(api, match="m")
    store, asked = api.world.store, asyncio.Event()
    look, go_on = store.series, asyncio.Event()

    async def slow(*arguments: Any, **more: Any) -> list[Series]:
        found = await look(*arguments, **more)
        asked.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(store, "series", slow)
    await api.field.send({key("m", site="one"): [(T0, 1.0)]})
    await asked.wait()
    await api.field.send({key("m", site="one"): [(T0 + S, 2.0)]})
    await api.field.send({key("m", site="two"): [(T0 + 2 * S, 3.0)]})
    go_on.set()
    assert sorted(await stream.points(3)) == [(T0, 1.0), (T0 + S, 2.0), (T0 + 2 * S, 3.0)]


async def test_a_client_that_comes_back_gets_what_it_missed_once_and_in_order(api: Running) -> None:
    """It names the newest cursor it has seen."""
    await api.field.send({M: [(T0, 0.0)]})
    stream = await subscribed(api, match="m")
    await api.field.send({M: [(T0 + S, 1.0)]})
    assert await stream.points(1) == [(T0 + S, 1.0)]
    await stream.socket.close()
    for number in (2, 3, 4):
        await api.field.send({M: [(T0 + number * S, float(number))]})
    again = await connect(api)
    await again.say(subscribe={"match": "m"}, cursor=stream.cursor)
    assert await again.hear("resumed") == {"type": "resumed", "from": stream.cursor, "gap": False}
    assert await again.points(3) == [(T0 + number * S, float(number)) for number in (2, 3, 4)]
    await api.field.send({M: [(T0 + 5 * S, 5.0)]})
    assert await again.points(1) == [(T0 + 5 * S, 5.0)]


async def test_what_a_resume_read_back_is_not_sent_again_when_this_process_hears_of_it(api: Running) -> None:
    """Another process has committed it, and the news of that comes after the client."""
    await api.field.send({M: [(T0, 0.0)]})
    cursor = api.world.hub.cursor
    hub, api.field.hub = api.field.hub, Hub()
    late = await api.field.send({M: [(T0 + S, 1.0)]}, events=[(T0 + S, 9, "plc", "one", {})])
    api.field.hub = hub
    stream = await connect(api)
    await stream.say(subscribe={"match": "m", "events": True}, cursor=cursor)
    assert (await stream.hear("resumed"))["gap"] is False
    assert (await stream.hear("event"))["event"]["body"] == "one"
    assert await stream.points(1) == [(T0 + S, 1.0)]
    hub.committed(late)
    await api.field.send({M: [(T0 + 2 * S, 2.0)]}, events=[(T0 + 2 * S, 9, "plc", "two", {})])
    assert (await stream.hear("event"))["event"]["body"] == "two"
    assert await stream.points(1) == [(T0 + 2 * S, 2.0)]


async def test_a_cursor_from_the_future_is_a_gap(api: Running) -> None:
    """As after a restored backup: the client must load anew."""
    stream = await connect(api)
    await stream.say(subscribe={"match": "m"}, cursor=10**9)
    assert (await stream.hear("resumed"))["gap"] is True
    await api.field.send({M: [(T0, 1.0)]})
    assert await stream.points(1) == [(T0, 1.0)]


async def test_a_cursor_whose_commits_are_compacted_is_a_gap(api: Running) -> None:
    """What can't be replayed is said, never skipped."""
    for number in range(5):
        await api.field.send({M: [(T0 + number * S, 1.0)]})
    while (await api.field.store.compact(everything=True)).more:
        pass
    stream = await connect(api)
    await stream.say(subscribe={"match": "m"}, cursor=1)
    assert (await stream.hear("resumed"))["gap"] is True


async def test_events_alerts_and_agents_come_when_asked_for(api: Running) -> None:
    """Each with the shape of its REST twin."""
    await api.field.send({M: [(T0, 1.0)]})
    stream = await subscribed(api, events=True, alerts=True, agents=True)
    await api.field.send(events=[(T0, 17, "plc", "watchdog <b>", {"n": 1})])
    event = (await stream.hear("event"))["event"]
    assert (event["body"], event["severity"], event["attributes"]) == ("watchdog <b>", "error", {"n": 1})
    assert event["id"] == (await api.get("/events"))["events"][0]["id"]
    api.world.hub.alerts([{"id": 1, "rule": "hot"}])
    assert (await stream.hear("alert"))["alert"]["rule"] == "hot"
    session = await api.world.store.session_opened("edge", "p", "0.1.0", {}, 0.0)
    await api.world.store.session_seen(session, AgentStatus(0, 0, 0, 0.0, 1.0))
    while True:
        heard = await stream.hear("agents")
        if any(row["connected"] for row in heard["agents"]):
            break
    assert heard["counts"]["live"] == 1


async def test_a_later_subscription_replaces_the_one_before(api: Running) -> None:
    """A page changes what it shows without a new connection."""
    stream = await subscribed(api, match="m")
    await stream.say(subscribe={"match": "other"}, cursor=api.world.hub.cursor)
    await stream.hear("resumed")
    await api.field.send({M: [(T0, 1.0)], key("other"): [(T0, 2.0)]})
    assert await stream.points(1) == [(T0, 2.0)]


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "[]",
        "null",
        '{"subscribe": 1}',
        '{"subscribe": {"series": ["a"]}}',
        '{"subscribe": {"series": [-1]}}',
        '{"subscribe": {"match": "m{"}}',
        '{"subscribe": {"match": 5}}',
        '{"subscribe": {}, "max_hz": 1000}',
        '{"subscribe": {}, "max_hz": "nan"}',
        '{"subscribe": {}, "cursor": -1}',
        '{"subscribe": {}, "cursor": 1e400}',
        '{"subscribe": {}, "more": 1}',
        '{"subscribe": {"agents": "perhaps"}}',
        "[" * 10_000,
    ],
)
async def test_a_wrong_message_is_answered_and_the_stream_goes_on(api: Running, message: str) -> None:
    """The next, right one works."""
    stream = await connect(api)
    await stream.socket.send_str(message)
    error = (await stream.hear("error"))["error"]
    assert set(error) == {"code", "message", "hint"}
    assert "Input should" not in error["message"]
    await stream.say(subscribe={"match": "m"}, cursor=0)
    await stream.hear("resumed")


async def test_bytes_are_refused_and_a_huge_message_ends_the_stream(api: Running) -> None:
    """Memory is bounded."""
    stream = await connect(api)
    await stream.socket.send_bytes(b"x")
    await stream.hear("error")
    await stream.socket.send_str("x" * 100_000)
    async with asyncio.timeout(PATIENCE_S):
        message = await stream.socket.receive()
    assert message.type is WSMsgType.CLOSE
    assert message.data == 1009


async def test_clients_over_the_limit_are_told_to_come_later(api: Running) -> None:
    """The fixture allows three."""
    streams = [await connect(api) for _ in range(3)]
    with pytest.raises(WSServerHandshakeError) as refused:
        await connect(api)
    assert refused.value.status == 503
    await streams[0].socket.close()
    async with asyncio.timeout(PATIENCE_S):
        while len(api.world.hub) == 3:
            await asyncio.sleep(0)
    await connect(api)


async def test_a_page_of_another_site_can_not_listen(api: Running) -> None:
    """Browsers don't protect WebSockets; the server does."""
    with pytest.raises(WSServerHandshakeError) as refused:
        await api.client.ws_connect("/api/v1/live", headers={"Origin": "http://evil.example"})
    assert refused.value.status == 403


async def test_a_client_that_leaves_is_forgotten(api: Running) -> None:
    """Nothing is kept for it."""
    stream = await subscribed(api, match="m", agents=True)
    await stream.socket.close()
    async with asyncio.timeout(PATIENCE_S):
        while len(api.world.hub):
            await asyncio.sleep(0)


async def test_a_client_that_does_not_read_holds_up_neither_commits_nor_others(api: Running) -> None:
    """It will get the latest, and the number of points it missed."""
    await subscribed(api, match="m")
    eager = await subscribed(api, match="m")
    for number in range(200):
        await api.field.send({M: [(T0 + number * S, float(number))]})
    assert len(await eager.points(200)) == 200


async def test_events_missed_while_away_are_sent_once_and_in_order(api: Running) -> None:
    """Those of the past before those of now."""
    for number in range(3):
        await api.field.send(events=[(T0 + number, 9, "plc", str(number), {})])
    stream = await connect(api)
    await stream.say(subscribe={"events": True}, cursor=1)
    for number in range(3, 6):
        await api.field.send(events=[(T0 + number, 9, "plc", str(number), {})])
    heard = [(await stream.hear("event"))["event"]["body"] for _ in range(5)]
    assert heard == ["1", "2", "3", "4", "5"]


async def test_a_quiet_client_learns_the_newest_cursor_now_and_then(
    api: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that its next resume is short."""
    monkeypatch.setattr(client, "QUIET_S", 0.0)
    stream = await subscribed(api, match="nothing_yet")
    await api.field.send({M: [(T0, 1.0)]})
    heard = await stream.hear("samples")
    assert (heard["series"], heard["cursor"]) == ({}, 1)


async def test_an_event_does_not_take_the_cursor_past_samples_that_wait(api: Running, slowest: float) -> None:
    """Who is cut off after it and comes back gets those samples, and knows by its id an event that came before."""
    # A series that is known already is sent without a look for new ones, which would wait for its turn too.
    await api.field.send({M: [(T0 - S, 0.0)]})
    stream = await connect(api)
    await stream.say(subscribe={"match": "m", "events": True}, cursor=api.world.hub.cursor, max_hz=slowest)
    await stream.hear("resumed")
    await api.field.send({M: [(T0, 0.0)]})
    assert await stream.points(1) == [(T0, 0.0)]
    # The next samples wait, events are sent at once.
    for number in (1, 2):
        body = [(T0 + number * S, 9, "plc", f"{number}{part}", {}) for part in "ab"]
        await api.field.send({M: [(T0 + number * S, float(number))]}, events=body)
    heard = [(await stream.hear("event"))["event"] for _ in range(4)]
    assert [event["body"] for event in heard] == ["1a", "1b", "2a", "2b"]
    await stream.socket.close()
    again = await connect(api)
    await again.say(subscribe={"match": "m", "events": True}, cursor=stream.cursor)
    assert (await again.hear("resumed"))["gap"] is False
    assert [(await again.hear("event"))["event"]["id"] for _ in range(4)] == [event["id"] for event in heard]
    assert await again.points(2) == [(T0 + S, 1.0), (T0 + 2 * S, 2.0)]


async def test_a_client_that_is_cut_off_between_two_events_of_one_commit_gets_the_second(
    api: Running,
) -> None:
    """The commit counts as heard with its last event."""
    stream = await subscribed(api, events=True)
    await api.field.send(events=[(T0, 9, "plc", "one", {}), (T0 + S, 9, "plc", "two", {})])
    first = (await stream.hear("event"))["event"]
    again = await connect(api)
    await again.say(subscribe={"events": True}, cursor=stream.cursor)
    heard = [(await again.hear("event"))["event"] for _ in range(2)]
    assert (heard[0], heard[1]["body"]) == (first, "two")
    await again.socket.close()
    third = await connect(api)
    await third.say(subscribe={"events": True}, cursor=again.cursor)
    await third.hear("resumed")
    await api.field.send(events=[(T0 + 2 * S, 9, "plc", "three", {})])
    assert (await third.hear("event"))["event"]["body"] == "three"
