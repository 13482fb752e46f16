"""One session over a site's broker, as a transport: frames that came in order are read, what is written is sealed.

The broker guarantees nothing that we rely on: mqtt.py puts in only what was signed and numbered right, and a frame counts as
written once the broker has it, so that answers gather while it is slow.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from telemetryx.gateway import envelope
from telemetryx.gateway.envelope import Counter, Direction
from telemetryx.gateway.transport import LinkBroken
from telemetryx.wire._pb2 import link_pb2 as pb


class Conversation:
    """The frames of one agent's session."""

    carrier = "mqtt"
    answers_status = True

    def __init__(
        self,
        agent: str,
        opened: envelope.Opened,
        peer: str,
        publish: Callable[[bytes], Awaitable[None]],
        free: Callable[[int], None],
    ) -> None:
        """Begin with the envelope that opened it; `free` is told the cost of each frame that was taken on."""
        self.agent = agent
        self.session = opened.session
        self.came = Counter()
        self.ending = ""
        self.heard = 0
        self._key = opened.key
        self._peer = peer
        self._publish = publish
        self._free = free
        self._sent = Counter()
        self._inbox: deque[tuple[pb.FromAgent, int]] = deque()
        self._reading = 0
        self._news = asyncio.Event()

    @property
    def signer(self) -> bytes | None:
        """The key on record of the host that signs; None: it signs with a token, or not at all."""
        return self._key.record if isinstance(self._key, envelope.Host) else None

    @property
    def peer(self) -> str:
        """The broker it came through."""
        return self._peer

    def put(self, frame: pb.FromAgent, cost: int) -> None:
        """Queue the next frame; the mailroom bounds how many."""
        if self.ending:
            self._free(cost)
            return
        self._inbox.append((frame, cost))
        self._news.set()

    def end(self, reason: str, *, drop: bool = False) -> None:
        """End it after what waits, or at once (`drop`). The first reason stays."""
        self.ending = self.ending or reason
        if drop:
            self._drop()
        self._news.set()

    def close(self) -> None:
        """Let go of everything that waits."""
        self.end("it is over", drop=True)
        self._free_read()

    async def read(self) -> pb.FromAgent | None:
        """Return the next frame; the one before is the session's from now on."""
        self._free_read()
        while not self._inbox:
            if self.ending:
                return None
            self._news.clear()
            await self._news.wait()
        frame, self._reading = self._inbox.popleft()
        return frame

    async def write(self, frame: pb.FromCollector) -> None:
        """Seal a frame and give it to the broker. Nothing is said any more in a session that ended."""
        if self.ending:
            raise LinkBroken(self.ending)
        await self._say(frame)

    async def goodbye(self, after_ms: int, reason: str) -> None:
        """Tell the agent, in its session, to come back."""
        self.ending = self.ending or reason
        await self._say(pb.FromCollector(slow_down=pb.SlowDown(after_ms=after_ms, reason=reason)))

    async def _say(self, frame: pb.FromCollector) -> None:
        number = self._sent.next()
        await self._publish(
            envelope.seal(
                self._key, Direction.DOWN, self.agent, self.session, number, frame.SerializeToString()
            )
        )

    def _free_read(self) -> None:
        if self._reading:
            self._free(self._reading)
            self._reading = 0

    def _drop(self) -> None:
        while self._inbox:
            self._free(self._inbox.popleft()[1])
