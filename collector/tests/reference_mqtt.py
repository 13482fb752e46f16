"""The reference agent over a site's broker: the agent's side of the MQTT protocol, and brokers that lose, repeat and reorder.

As with the gRPC one, only frames and envelopes are shared with the collector: it decides by itself what it believes.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from reference_agent import PATIENCE_S, ReferenceAgent
from telemetryx.gateway import envelope
from telemetryx.gateway.envelope import Counter, Direction, EnvelopeRefused, Step
from telemetryx.wire._pb2 import link_pb2 as pb

Publish = Callable[[bytes], Awaitable[None]]


class SessionLost(Exception):  # noqa: N818 - named after what happened
    """The session is over; the agent says hello again."""


@dataclass
class MqttAgent:
    """An agent behind a broker. `inbox` gets what is published on its down topic."""

    agent: ReferenceAgent
    publish: Publish
    key: bytes | None = None
    patience_s: float = PATIENCE_S
    inbox: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    sessions: int = 0
    refused: int = 0
    slowed: list[pb.SlowDown] = field(default_factory=list)
    session: bytes = b""
    up: Counter = field(default_factory=Counter)
    down: Counter = field(default_factory=Counter)

    async def say(self, frame: pb.FromAgent) -> None:
        """Send a frame in the session."""
        await self.publish(self.sealed(frame.SerializeToString()))

    def sealed(self, frame: bytes) -> bytes:
        """Seal the next envelope of the session."""
        return envelope.seal(self.key, Direction.UP, self.agent.name, self.session, self.up.next(), frame)

    async def hear(self) -> pb.FromCollector:
        """Return the next frame of the session; raises SessionLost at a gap, after silence, and when asked to go."""
        while True:
            try:
                async with asyncio.timeout(self.patience_s):
                    data = await self.inbox.get()
            except TimeoutError:
                raise SessionLost("silence") from None
            try:
                opened = envelope.unseal(
                    data, Direction.DOWN, self.agent.name, None if self.key is None else [self.key]
                )
            except EnvelopeRefused:
                self.refused += 1
                continue
            if opened.session != self.session:
                continue
            step = self.down.take(opened.counter)
            if step is Step.GAP:
                raise SessionLost("out of step")
            if step is Step.AGAIN:
                continue
            frame = pb.FromCollector.FromString(opened.frame)
            self.agent.received.append(frame)
            if frame.WhichOneof("frame") == "ack":
                self.agent.settle(frame.ack.holdings)
            elif frame.WhichOneof("frame") == "slow_down":
                self.slowed.append(frame.slow_down)
                raise SessionLost(frame.slow_down.reason)
            return frame

    async def lost(self) -> str:
        """Listen until the session is lost, and return why."""
        try:
            while True:
                await self.hear()
        except SessionLost as error:
            return str(error)

    async def open(self, *, probe: bool = False) -> None:
        """Say hello under a new session and wait for the greeting; a probe wants no more than that."""
        self.sessions += 1
        self.session, self.up, self.down = os.urandom(16), Counter(), Counter()
        hello = self.agent.hello()
        hello.probe = probe
        await self.say(pb.FromAgent(hello=hello))
        first = await self.hear()
        if first.WhichOneof("frame") != "greeting":
            raise SessionLost("no greeting")
        self.agent.greeting = first.greeting
        self.agent.settle(first.greeting.holdings)

    async def drain(self, attempts: int = 100) -> None:
        """Send what is unacknowledged, in as many sessions as it takes, until nothing is."""
        for _ in range(attempts):
            try:
                await self.open()
                for batch in list(self.agent.unacked.values()):
                    await self.say(pb.FromAgent(batch=batch))
                while self.agent.unacked:
                    await self.hear()
            except SessionLost:
                continue
            return
        raise AssertionError(f"not drained in {attempts} sessions: {self.slowed}")


@dataclass
class Held:
    """A message that the broker holds back for so many others."""

    left: int
    deliver: Callable[[], None]


@dataclass
class FaultyBroker:
    """A broker in memory. `faults` says what happens to each message in turn: 0 pass, 1 lose, 2 repeat, n hold back for n more."""

    faults: list[int]
    held: list[Held] = field(default_factory=list)

    def carry(self, deliver: Callable[[], None]) -> None:
        """Take one message through."""
        fault = self.faults.pop() if self.faults else 0
        for one in self.held:
            one.left -= 1
        if fault == 2:
            deliver()
        if fault in {0, 2}:
            deliver()
        elif fault > 2:
            self.held.append(Held(fault, deliver))
        due = [one for one in self.held if one.left <= 0]
        self.held = [one for one in self.held if one.left > 0]
        for one in due:
            one.deliver()
