"""Agents that a test speaks for, in a thread: they take pushed configurations and answer requests as they are told."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

from telemetryx.wire._pb2 import link_pb2 as pb
from tests.harness.processes import PATIENCE, until
from tests.harness.reference import ReferenceAgent


class Patient:
    """One agent under remote care. A configuration with `bad` in it fails with `reason`; diagnostics are `bundle`."""

    def __init__(self, name: str, *, old: bool = False, reason: str = "", bundle: bytes = b"bundle") -> None:
        """Be of today, or (`old`) of before there was remote care."""
        none = pb.ConfigState(phase=pb.CONFIG_NONE)
        self._agent = ReferenceAgent(name, config=None if old else none, requests=not old)
        self._reason = reason
        self._bundle = bundle
        self._done: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self.connected = threading.Event()
        self.levels: list[str] = []

    async def live(self, port: int) -> None:
        """Answer until it is told to end."""
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        async with self._agent.session(port) as link:
            self.connected.set()
            seen = 0
            ending = asyncio.create_task(self._done.wait())
            while not self._done.is_set():
                news = asyncio.create_task(
                    link.until(lambda seen=seen: len(self._agent.received) > seen, 600)
                )
                await asyncio.wait({news, ending}, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
                await asyncio.gather(news, return_exceptions=True)
                while seen < len(self._agent.received):
                    frame, seen = self._agent.received[seen], seen + 1
                    if frame.WhichOneof("frame") == "config":
                        await link.send(self._state(frame.config))
                    elif frame.WhichOneof("frame") == "request":
                        await link.send(*self._answers(frame.request))

    def end(self) -> None:
        """Disconnect."""
        self._loop.call_soon_threadsafe(self._done.set)

    def _state(self, config: pb.PushedConfig) -> pb.ConfigState:
        assert config.digest == sha256(config.toml.encode()).digest()
        if not config.version:
            return pb.ConfigState(phase=pb.CONFIG_NONE)
        bad = "bad" in config.toml
        return pb.ConfigState(
            version=config.version,
            digest=config.digest,
            phase=pb.CONFIG_FAILED if bad else pb.CONFIG_APPLIED,
            reason=self._reason if bad else "",
            in_force=0 if bad else config.version,
        )

    def _answers(self, request: pb.Request) -> list[pb.Answer]:
        if request.HasField("log_level"):
            self.levels.append(f"{request.log_level.filter} {request.log_level.for_s}")
            return [pb.Answer(id=request.id, done=True)]
        return [
            pb.Answer(id=request.id, data=self._bundle),
            pb.Answer(id=request.id, offset=len(self._bundle), done=True),
        ]


def _open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 10).close()
    except OSError:
        return False
    return True


@contextmanager
def connected(port: int, *agents: Patient) -> Iterator[None]:
    """Have agents connected meanwhile."""
    # HTTP answers before the agents' door is open.
    until("the agents' door is open", lambda: _open(port))

    async def all_live() -> None:
        await asyncio.gather(*(agent.live(port) for agent in agents))

    thread = threading.Thread(target=lambda: asyncio.run(all_live()))
    thread.start()
    try:
        assert all(agent.connected.wait(PATIENCE) for agent in agents)
        yield
    finally:
        for agent in agents:
            if agent.connected.is_set():
                agent.end()
        thread.join(60)
