"""The agents' door with a real gRPC client: what is acknowledged is stored, once, and everything else is said clearly."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import grpc
import pytest

from gateway.conftest import Core
from reference_agent import PATIENCE_S, SECOND, T0, ReferenceAgent, defined, events, samples, window
from telemetryx.fleet import AgentState
from telemetryx.gateway.server import Config
from telemetryx.store.interface import AgentQuery, EventQuery
from telemetryx.wire._pb2 import link_pb2 as pb
from telemetryx.wire._pb2.link_pb2_grpc import LinkStub
from telemetryx.wire.payload import Payload


def content(first: int = 0, count: int = 5, number: int = 1) -> Payload:
    """One series, a sample a second."""
    return Payload(samples({number: [(T0 + (first + i) * SECOND, float(first + i)) for i in range(count)]}))


async def stored(core: Core) -> list[float]:
    """All values of all series."""
    ids = [series.id for series in await core.store.series()]
    return (await core.store.samples(ids, 0, 1 << 62)).values.tolist()


async def test_what_is_acknowledged_is_stored(core: Core) -> None:
    """Batches sent over gRPC are acknowledged, and then they are in the store."""
    agent = ReferenceAgent()
    async with agent.session(core.gateway.port) as link:
        await link.send(agent.cut(content(0), defined("temp", site="a")), agent.cut(content(5)))
        await link.acked()
    assert await stored(core) == [float(i) for i in range(10)]
    assert agent.greeting.collector
    assert core.ingest.counters.outcomes["stored"] == 2
    assert core.hot.latest([1])[1].value == 9.0


async def test_a_resent_batch_is_acknowledged_again_and_stored_once(core: Core) -> None:
    """After a lost acknowledgement the agent sends again, also in a new session: one copy is stored."""
    agent = ReferenceAgent()
    first = agent.cut(content(), defined("temp"))
    async with agent.session(core.gateway.port) as link:
        await link.send(first, first)
        await link.acked()
    agent.unacked[first.epoch, first.seq] = first
    async with agent.session(core.gateway.port):
        assert not agent.unacked, "the greeting says that it is held"
    async with agent.session(core.gateway.port) as link:
        agent.unacked[first.epoch, first.seq] = first
        await link.send(first)
        await link.acked()
    assert await stored(core) == [0.0, 1.0, 2.0, 3.0, 4.0]


async def test_unknown_numbers_are_asked_for_and_not_acknowledged(core: Core) -> None:
    """A batch without definitions gets NeedDefinitions, and is stored once it brings them."""
    agent = ReferenceAgent()
    bare = agent.cut(content(number=7))
    async with agent.session(core.gateway.port) as link:
        await link.send(bare)
        need = await link.answer("need_definitions")
        assert (need.seq, list(need.series)) == (1, [7])
        assert agent.unacked
        agent.next_seq = 1
        await link.send(agent.cut(content(number=7), defined("temp", first=7)))
        await link.acked()
    assert len(await stored(core)) == 5


async def test_another_batch_of_the_same_name_is_a_conflict(core: Core) -> None:
    """A cloned disk cuts another batch with a stored key: a Conflict names the stored checksum, also in the greeting."""
    agent = ReferenceAgent()
    async with agent.session(core.gateway.port) as link:
        await link.send(agent.cut(content(), defined("temp")))
        await link.acked()
    clone = ReferenceAgent(name=agent.name, epoch=agent.epoch)
    other = clone.cut(content(100), defined("temp"))
    async with clone.session(core.gateway.port) as link:
        assert [held.seq for held in clone.greeting.conflicts] == [1]
        assert clone.greeting.conflicts[0].checksum != other.checksum
        await link.send(other)
        conflict = await link.answer("conflict")
        assert conflict.checksum == clone.greeting.conflicts[0].checksum
    assert await stored(core) == [0.0, 1.0, 2.0, 3.0, 4.0]


async def test_an_acknowledgement_does_not_cover_what_a_clone_stored_under_a_name_that_is_on_its_way(
    core: Core,
) -> None:
    """A clone sends a shared batch and one of its own: the first is acknowledged alone, the second is in conflict."""
    agent = ReferenceAgent()
    shared = agent.cut(content(), defined("temp"))
    async with agent.session(core.gateway.port) as link:
        await link.send(shared, agent.cut(content(5)), agent.cut(content(10)))
        await link.acked()
    clone = ReferenceAgent(name=agent.name, epoch=agent.epoch)
    async with clone.session(core.gateway.port) as link:
        await link.send(clone.cut(content(), defined("temp")), clone.cut(content(100)))
        assert (await link.answer("conflict")).seq == 2
        await link.answer("ack")
    (told,) = [held for m in clone.received if m.WhichOneof("frame") == "ack" for held in m.ack.holdings]
    assert (told.upto, list(told.ranges)) == (1, [])


async def test_equal_bytes_of_other_series_are_a_conflict(core: Core) -> None:
    """Two clones give one number to two series and send equal values: the checksum's word for the series tells them apart."""
    agent = ReferenceAgent()
    async with agent.session(core.gateway.port) as link:
        await link.send(agent.cut(content(), defined("temp")))
        await link.acked()
    clone = ReferenceAgent(name=agent.name, epoch=agent.epoch)
    other = clone.cut(content(), defined("pressure"))
    other.checksum = other.checksum[:12] + b"else"
    async with clone.session(core.gateway.port) as link:
        assert [held.seq for held in clone.greeting.conflicts] == [1]
        await link.send(other)
        assert (await link.answer("conflict")).seq == 1
    assert len(await stored(core)) == 5


async def test_a_clone_that_redefines_a_number_is_a_conflict(core: Core) -> None:
    """Numbers stand for one series in an epoch: another meaning is a Conflict, so that the agent starts a new epoch."""
    agent = ReferenceAgent()
    async with agent.session(core.gateway.port) as link:
        await link.send(agent.cut(content(), defined("temp")))
        await link.acked()
        await link.send(agent.cut(content(), defined("pressure")))
        conflict = await link.answer("conflict")
        assert conflict.seq == 2
        assert conflict.checksum == bytes(16)
    assert len(await stored(core)) == 5


async def test_a_refused_batch_says_why_and_hurts_nobody(core: Core) -> None:
    """Garbage, a wrong checksum and an unknown codec are refused by name; the batch beside them is stored."""
    agent = ReferenceAgent()
    good = agent.cut(content(), defined("temp"))
    wrong = pb.Batch(epoch=agent.epoch, seq=2, codec=1, payload=b"garbage", checksum=bytes(16))
    newer = pb.Batch(epoch=agent.epoch, seq=3, codec=9, payload=b"x", checksum=bytes(16))
    async with agent.session(core.gateway.port) as link:
        await link.send(wrong, newer, good)
        await link.acked()
        await link.until(lambda: sum(m.WhichOneof("frame") == "refusal" for m in agent.received) == 2)
    refusals = [m.refusal for m in agent.received if m.WhichOneof("frame") == "refusal"]
    assert {(r.seq, r.cause) for r in refusals} == {(2, "checksum"), (3, "unknown_version")}
    assert core.ingest.counters.refused == {"checksum": 1, "unknown_version": 1}
    assert len(await stored(core)) == 5


async def test_a_payload_over_the_limit_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """A batch larger than max_batch is refused with the figures."""
    from gateway.conftest import Core  # noqa: PLC0415

    core = await Core.start(tmp_path / "t.db", Config(port=0, max_batch=1000))
    agent = ReferenceAgent()
    try:
        async with agent.session(core.gateway.port) as link:
            await link.send(pb.Batch(epoch=agent.epoch, seq=1, codec=1, payload=bytes(2000)))
            refusal = await link.answer("refusal")
            assert refusal.cause == "too_large"
            assert "1000" in refusal.message
            credit = await link.answer("credit")
            assert credit.bytes == 2000
    finally:
        await core.stop()


async def test_a_loss_frame_fills_the_hole(core: Core) -> None:
    """Loss frames are acknowledged like batches, and the loss ledger says what was in them."""
    agent = ReferenceAgent()
    one = agent.cut(content(), defined("temp"))
    agent.next_seq = 3
    three = agent.cut(content(5), defined("temp"))
    loss = pb.Loss(
        epoch=agent.epoch, seq=2, t0_ns=T0, t1_ns=T0 + SECOND, counts=[pb.CauseCount(cause=65, count=12)]
    )
    async with agent.session(core.gateway.port) as link:
        await link.send(three, one, loss)
        await link.until(
            lambda: any(
                m.WhichOneof("frame") == "ack" and m.ack.holdings[0].upto == 3 for m in agent.received
            )
        )
    (gap,) = await core.store.gaps()
    assert (gap.cause, gap.count, gap.first_seq) == ("overflowed", 12, 2)
    assert {(row.cause, row.count) for row in await core.store.loss()} >= {("overflowed", 12), ("stored", 10)}


async def test_windows_and_events_arrive_too(core: Core) -> None:
    """Every table of a payload is stored and can be asked for."""
    agent = ReferenceAgent()
    rich = Payload(
        samples({1: [(T0, 1.0)]}),
        window(2, T0, [1.0, 2.0, 3.0]),
        events((T0, 13, "plc", "valve stuck", {"device": "v1", "tries": 3, "ok": False})),
        {1: 4},
    )
    async with agent.session(core.gateway.port) as link:
        await link.send(agent.cut(rich, defined("a", "b")))
        await link.acked()
    (event,) = await core.store.events(EventQuery(q="stuck", min_severity=13))
    assert event.attributes == {"device": "v1", "tries": 3, "ok": False}
    windows = await core.store.windows([2], 0, 1 << 62)
    assert (windows.count.tolist(), windows.sum.tolist()) == ([3], [6.0])


async def test_status_shows_in_the_fleet(core: Core) -> None:
    """An agent's newest status is what the fleet page shows; when its session ends it is silent, not failed."""
    agent = ReferenceAgent(labels={"site": "north"})
    async with agent.session(core.gateway.port) as link:
        await link.send(
            pb.Status(backlog_bytes=77, backlog_batches=3, oldest_ns=0, wall_ns=T0, json='{"a":1}')
        )
        async with asyncio.timeout(PATIENCE_S):
            while (await core.store.agent("agent-1")).backlog_bytes != 77:
                await asyncio.sleep(0.05)
        page = await core.store.agents(AgentQuery(filter="NORTH"))
        assert page.agents[0].state is AgentState.LIVE
        assert page.agents[0].status_json == '{"a":1}'
        assert page.agents[0].skew_ms < -1000
    async with asyncio.timeout(PATIENCE_S):
        while (await core.store.connections())[0].closed_ns == 0:
            await asyncio.sleep(0.05)
    assert (await core.store.agents(AgentQuery())).agents[0].state is AgentState.SILENT


async def test_two_sessions_of_one_agent_store_each_batch_once(core: Core) -> None:
    """A link that died unnoticed and its successor may both deliver: the ledger keeps one copy."""
    agent = ReferenceAgent()
    batches = [agent.cut(content(i * 5), defined("temp") if i == 0 else ()) for i in range(40)]
    async with agent.session(core.gateway.port) as one, agent.session(core.gateway.port) as two:
        await one.send(batches[0])
        await one.until(lambda: (agent.epoch, 1) not in agent.unacked)
        await asyncio.gather(one.send(*batches), two.send(*reversed(batches)))
        await one.until(lambda: not agent.unacked)
    assert await stored(core) == [float(i) for i in range(200)]


async def test_a_store_that_cannot_write_acknowledges_nothing_and_resumes(core: Core) -> None:
    """While another program locks the file, agents are told to slow down; afterwards the same batch is stored."""
    agent = ReferenceAgent()
    async with agent.session(core.gateway.port) as link:
        await link.send(agent.cut(content(), defined("temp")))
        await link.acked()
        other = sqlite3.connect(core.store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        late = agent.cut(content(5))
        await link.send(late)
        slow = await link.answer("slow_down")
        assert "locked" in slow.reason
        assert agent.unacked
        health = core.ingest.health()
        assert not health.ready
        assert "locked" in health.reason
        other.execute("ROLLBACK")
        other.close()

        def told() -> int:
            return sum(message.WhichOneof("frame") == "slow_down" for message in agent.received)

        async with asyncio.timeout(PATIENCE_S):
            while agent.unacked:
                before = told()
                await link.send(late)
                await link.until(lambda: not agent.unacked or told() > before)  # noqa: B023 - awaited here
    assert await stored(core) == [float(i) for i in range(10)]
    assert core.ingest.health().ready


async def test_what_does_not_begin_with_a_hello_is_turned_away(core: Core) -> None:
    """A first frame that is no hello, or a hello of another version, ends the call with a reason."""
    for frame, code in (
        (pb.FromAgent(status=pb.Status()), grpc.StatusCode.INVALID_ARGUMENT),
        (pb.FromAgent(hello=pb.Hello(wire=2, agent="a")), grpc.StatusCode.FAILED_PRECONDITION),
        (pb.FromAgent(hello=pb.Hello(wire=1, agent="", epoch=bytes(16))), grpc.StatusCode.INVALID_ARGUMENT),
        (pb.FromAgent(hello=pb.Hello(wire=1, agent="a", epoch=b"short")), grpc.StatusCode.INVALID_ARGUMENT),
    ):
        async with grpc.aio.insecure_channel(f"localhost:{core.gateway.port}") as channel:
            call = LinkStub(channel).Session()
            with contextlib.suppress(asyncio.InvalidStateError):  # refused already: reading says why
                await call.write(frame)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call.read()
            assert refused.value.code() is code


async def test_a_closing_gateway_acknowledges_what_it_took(core: Core) -> None:
    """Shutdown lets the batches under way be committed and heard of."""
    agent = ReferenceAgent()
    async with agent.session(core.gateway.port) as link:
        await link.send(*(agent.cut(content(i * 5), defined("temp") if i == 0 else ()) for i in range(50)))
        await link.until(lambda: len(agent.unacked) < 50)
        await core.gateway.close(PATIENCE_S)
        await link.until(lambda: link.ended is not None)
        assert link.ended.code() is grpc.StatusCode.UNAVAILABLE
    acked = 50 - len(agent.unacked)
    held = (await core.store.holdings(agent.name, [agent.epoch]))[agent.epoch]
    assert held.upto >= acked > 0
