"""Links that break, agents that flood: sessions end cleanly, memory stays bounded, nothing acknowledged is lost."""

import asyncio
from pathlib import Path

from gateway.conftest import Core
from reference_agent import PATIENCE_S, SECOND, T0, ReferenceAgent, defined, samples
from telemetryx.gateway.server import Config
from telemetryx.types import BatchKey
from telemetryx.wire import definitions
from telemetryx.wire import frame as frames
from telemetryx.wire.payload import Payload


def content(seq: int) -> Payload:
    """A batch of one series."""
    return Payload(samples({1: [(T0 + seq * SECOND, float(seq))]}))


async def closed(core: Core) -> str:
    """Wait until the only session is closed in the log, and return why."""
    async with asyncio.timeout(PATIENCE_S):
        while (log := await core.store.connections())[0].closed_ns == 0:
            await asyncio.sleep(0.02)
    return log[0].reason


async def test_a_cancelled_call_ends_its_session(core: Core) -> None:
    """An agent that vanishes in the middle of sending leaves a closed session and stored batches, each once."""
    agent = ReferenceAgent()
    batches = [agent.cut(content(seq), defined("x")) for seq in range(1, 101)]
    async with agent.session(core.gateway.port) as link:
        await link.send(*batches)
        link.vanish()
    await closed(core)
    async with agent.session(core.gateway.port) as link:
        await link.send(*agent.unacked.values())
        await link.acked()
    assert (await core.store.samples([1], 0, 1 << 62)).values.tolist() == [
        float(seq) for seq in range(1, 101)
    ]
    assert core.gateway.sessions == 0


async def test_an_agent_that_ignores_its_credit_is_slowed_and_loses_nothing(tmp_path: Path) -> None:
    """Far beyond its credit nothing more is read until commits catch up; everything is stored in the end."""
    core = await Core.start(
        tmp_path / "t.db", Config(port=0, credit=2_000, max_batch=2_000), max_queue_bytes=20_000
    )
    agent = ReferenceAgent()
    try:
        async with agent.session(core.gateway.port) as link:
            await link.send(*(agent.cut(content(seq), defined("x")) for seq in range(1, 401)))
            await link.acked()
        assert (await core.store.holdings(agent.name, [agent.epoch]))[agent.epoch].upto == 400
    finally:
        await core.stop()


async def test_many_agents_at_once_each_get_their_own_acks(core: Core) -> None:
    """Thirty agents in parallel: every batch of each is acknowledged to it and stored once."""

    async def one(number: int) -> int:
        agent = ReferenceAgent(f"agent-{number}")
        async with agent.session(core.gateway.port) as link:
            for seq in range(1, 11):
                await link.send(agent.cut(content(seq), defined("x")))
            await link.acked()
        return (await core.store.holdings(agent.name, [agent.epoch]))[agent.epoch].upto

    assert await asyncio.gather(*(one(number) for number in range(30))) == [10] * 30
    assert len(await core.store.series()) == 30


async def test_a_small_payload_that_stands_for_millions_waits_its_turn(core: Core) -> None:
    """A group is cut by what it decodes to, so that a few bytes can't fill the memory; all of it is stored."""
    rows = [(T0 + i, 1.0) for i in range(400_000)]
    agent = ReferenceAgent()
    made = [
        frames.encode_batch(
            BatchKey(agent.name, agent.epoch, seq),
            Payload(samples({1: rows})),
            defined=definitions.encode(defined("x")),
        )
        for seq in range(1, 7)
    ]
    assert all(len(batch.payload) < 1_000 for batch in made)
    outcomes = await asyncio.gather(*(core.ingest.submit(agent.name, batch) for batch in made))
    assert [outcome.cursor for outcome in outcomes] == [1, 2, 3, 4, 5, 6]
    assert len(await core.store.samples([1], 0, 1 << 62)) == 2_400_000
