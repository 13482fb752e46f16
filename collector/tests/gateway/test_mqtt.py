"""Sessions over a broker in memory: what it loses, repeats, reorders or makes up never loses or doubles a batch."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.conftest import Core
from reference_agent import PATIENCE_S, SECOND, T0, ReferenceAgent, defined, samples
from reference_mqtt import FaultyBroker, MqttAgent, SessionLost
from telemetryx.gateway import envelope
from telemetryx.gateway import mqtt as module
from telemetryx.gateway.entry import Entry
from telemetryx.gateway.envelope import Direction
from telemetryx.gateway.mqtt import Mqtt
from telemetryx.gateway.server import Config
from telemetryx.gateway.tokens import Token, Tokens
from telemetryx.wire._pb2 import link_pb2 as pb
from telemetryx.wire.payload import Payload

KEY = b"the-token-of-every-agent"
TOKENS = Tokens((Token(b"", None, KEY),))


def content(seq: int) -> Payload:
    """One reading."""
    return Payload(samples({1: [(T0 + seq * SECOND, float(seq))]}))


@dataclass
class Site:
    """A collector's core behind a broker in memory."""

    core: Core
    mqtt: Mqtt
    broker: FaultyBroker
    inboxes: dict[str, "asyncio.Queue[bytes]"]

    def agent(self, name: str = "pump", patience_s: float = PATIENCE_S) -> MqttAgent:
        """Add an agent."""

        async def publish(payload: bytes) -> None:
            self.broker.carry(lambda: self.mqtt.received(f"tx/v1/up/{name}", payload))
            await asyncio.sleep(0)

        made = MqttAgent(ReferenceAgent(name), publish, KEY, patience_s)
        self.inboxes[name] = made.inbox
        return made


@asynccontextmanager
async def site(path: Path, faults: list[int] | None = None, **config: int) -> AsyncIterator[Site]:
    """Start one."""
    core = await Core.start(path, Config(port=0, hellos_per_second=10_000, **config))
    broker = FaultyBroker(faults or [])
    inboxes: dict[str, asyncio.Queue[bytes]] = {}

    async def publish(topic: str, payload: bytes) -> None:
        inbox = inboxes[topic.removeprefix("tx/v1/down/")]
        broker.carry(lambda: inbox.put_nowait(payload))

    mqtt = Mqtt(core.gateway.door, Entry(TOKENS), TOKENS.keys, "tx", "mqtt:memory:1883", publish)
    try:
        yield Site(core, mqtt, broker, inboxes)
    finally:
        core.gateway.door.shut()
        await mqtt.close(2)
        await core.stop()


@given(st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, 5]), max_size=40), st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_no_fault_of_the_broker_loses_or_doubles_a_batch(faults: list[int], count: int) -> None:
    """Any loss, repetition and order of envelopes in both directions: every batch is stored once and acknowledged."""

    async def scenario(folder: Path) -> tuple[list[float], int, int]:
        async with site(folder / "t.db", list(faults)) as there:
            pump = there.agent(patience_s=0.1)
            for seq in range(1, count + 1):
                pump.agent.cut(content(seq), defined("temp"))
            await pump.drain()
            # What the broker still holds arrives at last: it is old, and changes nothing.
            for late in there.broker.held:
                late.deliver()
            await asyncio.sleep(0)
            store, epoch = there.core.store, pump.agent.epoch
            values = (await store.samples([1], 0, 1 << 62)).values.tolist()
            held = (await store.holdings("pump", [epoch]))[epoch]
            return values, held.upto, there.core.ingest.counters.outcomes.get("stored", 0)

    with tempfile.TemporaryDirectory() as folder:
        values, upto, stored = asyncio.run(scenario(Path(folder)))
    assert values == [float(seq) for seq in range(1, count + 1)]
    assert upto == stored == count


async def test_a_session_is_logged_with_the_broker_as_its_peer(tmp_path: Path) -> None:
    """The connection log says which broker it came through, and that the agent ended it."""
    async with site(tmp_path / "t.db") as there:
        pump = there.agent()
        pump.agent.cut(content(1), defined("temp"))
        await pump.drain()
        assert there.core.gateway.door.connected == {"grpc": 0, "mqtt": 1}
        there.mqtt.received("tx/v1/gone/pump", pump.sealed(b""))
        async with asyncio.timeout(PATIENCE_S):
            while (log := await there.core.store.connections())[0].closed_ns == 0:
                await asyncio.sleep(0.01)
    assert (log[0].peer, log[0].reason) == ("mqtt:memory:1883", "the agent closed it")


async def test_each_status_is_answered(tmp_path: Path) -> None:
    """An agent behind a broker knows by it that the collector lives, also when nothing is to be acknowledged."""
    async with site(tmp_path / "t.db") as there:
        pump = there.agent()
        await pump.open()
        for _ in range(3):
            await pump.say(pb.FromAgent(status=pb.Status(wall_ns=T0)))
            assert (await pump.hear()).WhichOneof("frame") == "ack"


async def test_forged_and_foreign_envelopes_are_counted_and_not_answered(tmp_path: Path) -> None:
    """Unsigned, wrongly signed, of another agent, not for us, too large: dropped by cause, and the session goes on."""
    async with site(tmp_path / "t.db", max_batch=1_000) as there:
        pump = there.agent()
        await pump.open()
        hello = pb.FromAgent(hello=pump.agent.hello()).SerializeToString()
        session = os.urandom(16)
        for key, agent in ((None, "pump"), (b"not the token", "pump"), (KEY, "valve")):
            forged = envelope.seal(key, Direction.UP, agent, session, 1, hello)
            there.mqtt.received("tx/v1/up/pump", forged)
        there.mqtt.received("tx/v1/up/pump", envelope.seal(KEY, Direction.DOWN, "pump", session, 1, hello))
        there.mqtt.received("tx/v1/up/pump", b"\xff\xff")
        there.mqtt.received("tx/v1/up/pump", b"")
        there.mqtt.received("tx/v1/up/a/b", forged)
        there.mqtt.received("tx/v1/up/pump", bytes((2 << 20) + 1_001))
        garbage = envelope.seal(KEY, Direction.UP, "pump", session, 1, b"\xff\xff")
        there.mqtt.received("tx/v1/up/pump", garbage)
        assert there.mqtt.counters.dropped == {
            "signature": 4, "malformed": 4, "too_large": 1, "out_of_step": 0, "unknown_session": 0, "overflow": 0,
        }  # fmt: skip
        await pump.say(pb.FromAgent(status=pb.Status()))
        assert (await pump.hear()).WhichOneof("frame") == "ack"
        assert pump.inbox.empty()


async def test_an_agent_of_a_forgotten_session_is_told_once_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restarted collector knows no sessions: it says so, now and then, and the agent says hello again."""
    monkeypatch.setattr(module, "UNKNOWN_MS", 3_600_000)
    async with site(tmp_path / "t.db") as there:
        pump = there.agent()
        await pump.open()
        there.mqtt.lost("the broker is gone")
        for _ in range(20):
            await pump.say(pb.FromAgent(status=pb.Status()))
        # Its counter is a gap to whoever is in a session.
        assert await pump.lost() == "out of step"
        assert pump.inbox.empty()
        assert there.mqtt.counters.dropped["unknown_session"] == 20
        pump.agent.cut(content(1), defined("temp"))
        await pump.drain()
        assert (await there.core.store.samples([1], 0, 1 << 62)).values.tolist() == [1.0]


async def test_a_recorded_hello_opens_no_session_again(tmp_path: Path) -> None:
    """Who plays back what an agent once signed can't end the session that it has now."""
    async with site(tmp_path / "t.db") as there:
        pump = there.agent()
        recorded: list[bytes] = []
        send = pump.publish

        async def record(payload: bytes) -> None:
            recorded.append(payload)
            await send(payload)

        pump.publish = record
        await pump.open()
        old = list(recorded)
        await pump.open()
        for payload in old:
            there.mqtt.received("tx/v1/up/pump", payload)
        await pump.say(pb.FromAgent(status=pb.Status()))
        assert (await pump.hear()).WhichOneof("frame") == "ack"


async def test_a_newer_session_ends_the_older(tmp_path: Path) -> None:
    """An agent that restarted says hello anew: its old session is closed in the log, with the reason."""
    async with site(tmp_path / "t.db") as there:
        pump = there.agent()
        await pump.open()
        await pump.open()
        async with asyncio.timeout(PATIENCE_S):
            while not (closed := [row for row in await there.core.store.connections() if row.closed_ns]):
                await asyncio.sleep(0.01)
    assert [row.reason for row in closed] == ["a newer session took its place"]


async def test_a_probe_is_greeted_beside_the_agents_own_session_which_goes_on(tmp_path: Path) -> None:
    """Whoever only tries the way over the broker ends nothing, and nothing of it is logged."""
    async with site(tmp_path / "t.db") as there:
        pump = there.agent()
        await pump.open()
        beside = there.agent()
        await beside.open(probe=True)
        there.inboxes["pump"] = pump.inbox
        await pump.say(pb.FromAgent(status=pb.Status()))
        assert (await pump.hear()).WhichOneof("frame") == "ack"
        (row,) = await there.core.store.connections()
        assert row.closed_ns == 0


async def test_a_gap_ends_the_session_with_a_goodbye(tmp_path: Path) -> None:
    """An envelope that never came ends the session at the next one: nothing after the gap is taken, the agent hears why."""
    async with site(tmp_path / "t.db") as there:
        pump = there.agent()
        await pump.open()
        first = pump.agent.cut(content(1), defined("temp"))
        pump.sealed(pb.FromAgent(batch=first).SerializeToString())
        await pump.say(pb.FromAgent(batch=pump.agent.cut(content(2))))
        assert await pump.lost() == "out of step"
        assert there.mqtt.counters.dropped["out_of_step"] == 1
        await pump.drain()
        assert (await there.core.store.samples([1], 0, 1 << 62)).values.tolist() == [1.0, 2.0]


async def test_a_flood_ends_the_session_of_its_agent_alone(tmp_path: Path) -> None:
    """One agent's envelopes come faster than anything is taken on: its session ends, counted; another's goes on."""
    async with site(tmp_path / "t.db", max_batch=1_000, credit=1_000) as there:
        flood, calm = there.agent("flood"), there.agent("calm")
        await flood.open()
        await calm.open()
        status = pb.FromAgent(status=pb.Status(json="x" * 60_000)).SerializeToString()
        # The event loop doesn't get to run: as when it is busy while paho's thread goes on.
        for _ in range(100):
            there.mqtt.received("tx/v1/up/flood", flood.sealed(status))
        assert there.mqtt.counters.dropped["overflow"] > 0
        await calm.say(pb.FromAgent(status=pb.Status()))
        assert (await calm.hear()).WhichOneof("frame") == "ack"
        async with asyncio.timeout(PATIENCE_S):
            while there.core.gateway.door.sessions > 1:
                await asyncio.sleep(0.01)
        flood.agent.cut(content(1), defined("temp"))
        while not flood.inbox.empty():
            flood.inbox.get_nowait()
        await flood.drain()
    assert there.mqtt._mailroom.waiting_bytes == 0


async def test_the_word_that_an_agent_is_gone_ends_nothing_while_it_speaks(tmp_path: Path) -> None:
    """Anybody at the broker can publish an empty farewell: a session that goes on is left alone."""
    async with site(tmp_path / "t.db") as there:
        pump = there.agent()
        await pump.open()
        conversation = there.mqtt._conversations["pump"]
        heard = conversation.heard
        there.mqtt.received("tx/v1/gone/pump", b"")
        await pump.say(pb.FromAgent(status=pb.Status()))
        assert (await pump.hear()).WhichOneof("frame") == "ack"
        there.mqtt._silent_since(conversation, heard)
        assert not conversation.ending
        there.mqtt._silent_since(conversation, conversation.heard)
        assert conversation.ending


async def test_who_is_turned_away_hears_when_to_come_back(tmp_path: Path) -> None:
    """A full house and a hello of another version are answered in the agent's session, as over gRPC by status codes."""
    async with site(tmp_path / "t.db", max_sessions=1) as there:
        first, second = there.agent("first"), there.agent("second")
        await first.open()
        with pytest.raises(SessionLost, match="as many as may"):
            await second.open()
        assert second.slowed[0].after_ms >= 5_000
        assert there.core.gateway.refused == {"sessions": 1}


async def test_a_closing_collector_acknowledges_what_it_took(tmp_path: Path) -> None:
    """Shutdown commits what came in order, says so, and then says goodbye."""
    async with site(tmp_path / "t.db") as there:
        pump = there.agent()
        await pump.open()
        for seq in range(1, 21):
            await pump.say(pb.FromAgent(batch=pump.agent.cut(content(seq), defined("temp"))))
        await asyncio.sleep(0)
        there.core.gateway.door.shut()
        assert "shutting down" in await pump.lost()
        epoch = pump.agent.epoch
        held = (await there.core.store.holdings("pump", [epoch]))[epoch]
        assert held.upto >= 20 - len(pump.agent.unacked)
