"""A probe: an agent's operator tries the way to the collector, and nothing there changes by it."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from gateway.conftest import Core
from reference_agent import ReferenceAgent
from telemetryx.gateway.server import Config
from telemetryx.wire._pb2 import link_pb2 as pb
from telemetryx.wire._pb2 import link_pb2_grpc as pb_grpc
from telemetryx.wire.limits import WIRE


async def greeted(port: int, token: str | None = None) -> list[pb.FromCollector]:
    """Say hello as a probe; return all that comes until the collector ends the call."""
    hello = ReferenceAgent().hello()
    hello.probe = True
    metadata = (("authorization", f"Bearer {token}"),) if token else ()

    async def frames() -> AsyncIterator[pb.FromAgent]:
        yield pb.FromAgent(hello=hello)

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for last in (*[False] * 9, True):
            call = pb_grpc.LinkStub(channel).Session(frames(), metadata=metadata, timeout=60)
            try:
                return [frame async for frame in call]
            except grpc.aio.AioRpcError as error:
                # A refusal that crosses the hello hides behind an error of grpc's own.
                if last or error.details() != "Internal error from Core":
                    raise
    raise AssertionError("asked ten times")


async def test_a_probe_is_greeted_and_leaves_no_trace(core: Core) -> None:
    """It gets the greeting and the end of the call; no session is opened, logged or counted, and no agent appears."""
    (frame,) = await greeted(core.gateway.port)
    assert frame.greeting.wire == WIRE
    assert frame.greeting.collector
    assert await core.store.connections() == []
    assert await core.store.agent(ReferenceAgent().name) is None
    assert core.gateway.sessions == 0
    async with ReferenceAgent().session(core.gateway.port):
        assert len(await core.store.connections()) == 1


async def test_a_probe_needs_the_token_too(tmp_path: Path) -> None:
    """Otherwise anyone could ask what is here."""
    path = tmp_path / "tokens"
    path.write_text("a-long-enough-secret\n")
    path.chmod(0o600)
    core = await Core.start(tmp_path / "t.db", Config(port=0, token_file=path))
    try:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await greeted(core.gateway.port, "another-secret-altogether")
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert len(await greeted(core.gateway.port, "a-long-enough-secret")) == 1
    finally:
        await core.stop()
