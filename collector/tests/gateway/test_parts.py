"""Large batches in parts: fresh batches go in between, what is whole is a batch like any other, and what isn't hurts nobody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conftest import Core
from reference_agent import SECOND, T0, ReferenceAgent, defined, samples
from telemetryx.errors import WireError
from telemetryx.gateway.parts import Parts
from telemetryx.gateway.transport import FRAME_ROOM
from telemetryx.wire._pb2 import link_pb2 as pb
from telemetryx.wire.payload import Payload

MOST = 1 << 20


def content(first: int, count: int) -> Payload:
    """One series, a sample a second."""
    return Payload(samples({1: [(T0 + (first + i) * SECOND, float(first + i)) for i in range(count)]}))


def cut(batch: pb.Batch, *at: int) -> list[pb.Part]:
    """Divide a batch at these bytes."""
    whole = batch.SerializeToString()
    ends = [*at, len(whole)]
    return [
        pb.Part(offset=begin, size=len(whole), data=whole[begin:end])
        for begin, end in zip([0, *at], ends, strict=True)
    ]


async def test_a_fresh_batch_passes_between_the_parts_of_a_large_one(core: Core) -> None:
    """The batch that came whole between two parts is stored and acknowledged before the one in parts, which is stored once."""
    agent = ReferenceAgent()
    old, fresh = agent.cut(content(0, 500), defined("temp")), agent.cut(content(500, 5), defined("temp"))
    first, second, third = cut(old, 20, 40)
    async with agent.session(core.gateway.port) as link:
        assert agent.greeting.parts
        await link.send(first, second, fresh)
        await link.until(lambda: (fresh.epoch, fresh.seq) not in agent.unacked)
        assert (old.epoch, old.seq) in agent.unacked
        await link.send(third)
        await link.acked()
    assert core.ingest.counters.outcomes["stored"] == 2
    taken = [message.taken.bytes for message in agent.received if message.HasField("taken")]
    assert taken == sorted(taken)
    assert taken[-1] == len(old.SerializeToString())


async def test_a_session_that_breaks_between_parts_stores_nothing_of_them(core: Core) -> None:
    """The batch comes again from its start in the next session, and is stored once."""
    agent = ReferenceAgent()
    batch = agent.cut(content(0, 500), defined("temp"))
    async with agent.session(core.gateway.port) as link:
        await link.send(cut(batch, 20)[0])
        await link.answer("taken")
    async with agent.session(core.gateway.port) as link:
        assert agent.unacked
        await link.send(*cut(batch, 10, 60))
        await link.acked()
    assert core.ingest.counters.outcomes["stored"] == 1


async def test_parts_out_of_order_end_the_session_and_no_other(core: Core) -> None:
    """A part that doesn't follow the one before it is refused; another agent's batch is taken all the same."""
    wrong, other = ReferenceAgent("wrong"), ReferenceAgent("other")
    batch = wrong.cut(content(0, 500), defined("temp"))
    first, _, third = cut(batch, 20, 40)
    async with other.session(core.gateway.port) as beside:
        async with wrong.session(core.gateway.port) as link:
            await link.send(first, third)
            await link.until(lambda: link.over)
        await beside.send(other.cut(content(0, 3), defined("temp")))
        await beside.acked()
    assert core.ingest.counters.outcomes["stored"] == 1


@given(data=st.data(), payload=st.binary(max_size=3_000))
def test_parts_cut_anywhere_make_the_batch(data: st.DataObject, payload: bytes) -> None:
    """Whatever the lengths of the parts, and whatever was begun and given up before."""
    batch = pb.Batch(epoch=b"e" * 16, seq=3, payload=payload)
    size = batch.ByteSize()
    at = sorted(data.draw(st.sets(st.integers(1, size - 1), max_size=5)))
    parts, divided = Parts(MOST), cut(batch, *at)
    for part in divided[: data.draw(st.integers(0, len(divided) - 1))]:
        assert parts.add(part) is None
    *before, last = divided
    assert [parts.add(part) for part in before] == [None] * len(before)
    assert parts.add(last) == batch


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (pb.Part(offset=0, size=MOST + FRAME_ROOM + 1, data=b"x"), "at most"),
        (pb.Part(offset=1, size=10, data=b"x"), "was expected"),
        (pb.Part(offset=0, size=10, data=b""), "a part of 0 bytes"),
        (pb.Part(offset=0, size=1, data=b"xx"), "a part of 2 bytes"),
        (pb.Part(offset=0, size=1, data=b"x"), "no batch"),
    ],
)
def test_what_can_not_be_a_part_is_refused_with_the_reason(part: pb.Part, why: str) -> None:
    """Too large, out of order, empty, longer than the whole, or no batch at all."""
    with pytest.raises(WireError, match=why):
        Parts(MOST).add(part)
