"""A small agent in Python, for tests and benches: cuts batches, keeps what isn't acknowledged, speaks link.proto.

It shares the frames and the encoder with the collector, not the gateway: what it sends is what an agent sends.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import grpc
import numpy as np
from google.protobuf import duration_pb2

from telemetryx.types import BatchKey, Decoded, Definition, EventBlock, SampleBlock, WindowBlock
from telemetryx.wire import definitions
from telemetryx.wire import frame as frames
from telemetryx.wire._pb2 import link_pb2 as pb
from telemetryx.wire._pb2.link_pb2_grpc import LinkStub
from telemetryx.wire.payload import Payload

T0 = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
PATIENCE_S = 60.0
"""Long enough for a busy machine; what is waited for ends the wait at once."""


def samples(
    rows: dict[int, Sequence[tuple[int, float]]], flags: dict[int, Sequence[int]] | None = None
) -> SampleBlock:
    """Make a block of {number: [(time, value), ...]}."""
    numbers = sorted(rows)
    offsets = np.zeros(len(numbers) + 1, np.int64)
    np.cumsum([len(rows[number]) for number in numbers], out=offsets[1:])
    pairs = [pair for number in numbers for pair in rows[number]]
    marks = None
    if flags is not None:
        marks = np.array([mark for number in numbers for mark in flags[number]], np.uint8)
    return SampleBlock(
        np.array(numbers, np.int64),
        offsets,
        np.array([time for time, _ in pairs], np.int64),
        np.array([value for _, value in pairs], np.float64),
        marks,
    )


def window(
    number: int, start: int, values: Sequence[float], length: int = 10 * SECOND, step: int = SECOND
) -> WindowBlock:
    """Make one window over values, the first at its start, the others a step apart."""
    floats = np.array(values, np.float64)
    return WindowBlock(
        np.array([number], np.int64),
        np.array([start], np.int64),
        np.array([length], np.int64),
        np.array([len(values)], np.uint64),
        np.array([floats.sum()]),
        np.array([floats.min()]),
        np.array([floats.max()]),
        np.array([start], np.int64),
        floats[:1],
        np.array([start + (len(values) - 1) * step], np.int64),
        floats[-1:],
    )


def merged(blocks: Sequence[WindowBlock]) -> WindowBlock:
    """Make one block of windows, ascending by series and start."""
    names = [one.name for one in fields(WindowBlock) if one.name not in {"sketch", "damaged"}]
    return WindowBlock(*(np.concatenate([getattr(block, name) for block in blocks]) for name in names))


def events(*rows: tuple[int, int, str, str, dict[str, Any]]) -> EventBlock:
    """Make events of (time, severity, source, body, attributes)."""
    return EventBlock(
        [row[2] for row in rows],
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.uint8),
        [row[3] for row in rows],
        [row[4] for row in rows],
    )


def defined(*names: str, first: int = 1, **labels: str) -> list[Definition]:
    """Define series numbers from `first` on, by name, with labels in common."""
    return [Definition(number, name, dict(labels)) for number, name in enumerate(names, start=first)]


def decoded(
    key: BatchKey,
    content: Payload,
    defs: Sequence[Definition] = (),
    clock_offset_ns: int = 0,
    clock_uncertain: bool = False,  # noqa: FBT001, FBT002 - a mark of the frame
) -> Decoded:
    """Make what ingest hands to the store, by way of the wire."""
    frame = frames.encode_batch(
        key,
        content,
        defined=definitions.encode(list(defs)),
        clock_offset_ns=clock_offset_ns,
        clock_uncertain=clock_uncertain,
    )
    return frames.batch(key.agent, frame)


@dataclass
class ReferenceAgent:
    """An agent with its spool in memory."""

    name: str = "agent-1"
    epoch: bytes = field(default_factory=lambda: os.urandom(16))
    next_seq: int = 1
    unacked: dict[tuple[bytes, int], pb.Batch] = field(default_factory=dict)
    received: list[pb.FromCollector] = field(default_factory=list)
    greeting: pb.Greeting | None = None
    labels: dict[str, str] = field(default_factory=dict)
    config: pb.ConfigState | None = None
    """What it says of its pushed configuration; None: it takes none."""
    requests: bool = False
    asked: int = 0
    """How often it has asked to come in."""

    def cut(self, content: Payload, defs: Sequence[Definition] = (), *, lane: int = 1) -> pb.Batch:
        """Cut a batch."""
        frame = frames.encode_batch(
            BatchKey(self.name, self.epoch, self.next_seq),
            content,
            defined=definitions.encode(list(defs)),
            lane=lane,
        )
        self.next_seq += 1
        self.unacked[frame.epoch, frame.seq] = frame
        return frame

    def hello(self, now_ns: int = T0) -> pb.Hello:
        """Say who we are and what we hold."""
        return pb.Hello(
            wire=1,
            agent=self.name,
            version="9.9.9",
            epoch=self.epoch,
            next_seq=self.next_seq,
            unacked=[
                pb.Held(epoch=epoch, seq=seq, checksum=batch.checksum)
                for (epoch, seq), batch in self.unacked.items()
            ],
            boot_id=bytes(16),
            wall_ns=now_ns,
            labels=self.labels,
            config=self.config,
            requests=self.requests,
        )

    def settle(self, holdings: Sequence[pb.Holdings]) -> int:
        """Let go of what is stored."""
        done = [
            key
            for key in self.unacked
            for held in holdings
            if held.epoch == key[0]
            and (key[1] <= held.upto or any(part.first <= key[1] <= part.last for part in held.ranges))
        ]
        for key in done:
            self.unacked.pop(key, None)
        return len(done)

    @asynccontextmanager
    async def session(
        self, port: int, *, token: str | None = None, credentials: grpc.ChannelCredentials | None = None
    ) -> AsyncIterator["Link"]:
        """Connect and greet."""
        options = (
            ("grpc.max_receive_message_length", 8 << 20),
            ("grpc.max_send_message_length", 8 << 20),
            # A connection of its own, as agents on many machines have.
            ("grpc.use_local_subchannel_pool", 1),
        )
        address = f"localhost:{port}"
        channel = (
            grpc.aio.insecure_channel(address, options=options)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, options=options)
        )
        async with channel:
            metadata = (("authorization", f"Bearer {token}"),) if token else ()
            link = await self._open(channel, metadata)
            try:
                yield link
            finally:
                await link.close()

    async def _open(self, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...]) -> "Link":
        """Greet; a refusal that crosses the hello hides behind an error of grpc's own, so that is asked again."""
        for _ in range(9):
            self.asked += 1
            link = Link(self, LinkStub(channel).Session(metadata=metadata))
            try:
                await link.open()
            except grpc.aio.AioRpcError as error:
                if error.details() != "Internal error from Core":
                    raise
            else:
                return link
        self.asked += 1
        link = Link(self, LinkStub(channel).Session(metadata=metadata))
        await link.open()
        return link


def retry_after_s(error: grpc.aio.AioRpcError) -> float | None:
    """Read the google.rpc.RetryInfo of a refusal: the seconds to wait, None when it has none."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            _, _, rest = bytes(value).partition(b"google.rpc.RetryInfo")
            if rest:
                # Any.value (tag, length), in it RetryInfo.retry_delay (tag, length): both short.
                delay = duration_pb2.Duration.FromString(rest[4 : 4 + rest[3]])
                return delay.seconds + delay.nanos / 1e9
    return None


class Link:
    """An open session."""

    def __init__(self, agent: ReferenceAgent, call: Any) -> None:
        """Speak on this call."""
        self._agent = agent
        self._call = call
        self._reading: asyncio.Task[None] | None = None
        self._news = asyncio.Condition()
        # Two writes at once are an internal error to grpc.
        self._writing = asyncio.Lock()
        self.credit = 0
        self.slow_down: pb.SlowDown | None = None
        self.ended: grpc.aio.AioRpcError | None = None

    async def open(self) -> None:
        """Send the hello and wait for the greeting."""
        with contextlib.suppress(asyncio.InvalidStateError):  # refused already: reading says why
            await self._call.write(pb.FromAgent(hello=self._agent.hello()))
        async with asyncio.timeout(PATIENCE_S):
            first = await self._call.read()
        if first is grpc.aio.EOF:
            raise AssertionError(f"no greeting: {await self._call.code()} {await self._call.details()}")
        self._agent.greeting = first.greeting
        self.credit = first.greeting.credit_bytes
        self._agent.settle(first.greeting.holdings)
        self._reading = asyncio.create_task(self._read())

    async def send(
        self, *items: pb.Batch | pb.Loss | pb.Status | pb.Part | pb.ConfigState | pb.Answer
    ) -> None:
        """Send frames."""
        for item in items:
            if isinstance(item, pb.Part):
                await self._call.write(pb.FromAgent(part=item))
            elif isinstance(item, pb.Batch):
                await self._call.write(pb.FromAgent(batch=item))
            elif isinstance(item, pb.Loss):
                await self._call.write(pb.FromAgent(loss=item))
            elif isinstance(item, pb.ConfigState):
                await self._call.write(pb.FromAgent(config_state=item))
            elif isinstance(item, pb.Answer):
                await self._call.write(pb.FromAgent(answer=item))
            else:
                await self._call.write(pb.FromAgent(status=item))

    async def send_within_credit(
        self, batch: pb.Batch, reserve: int = 0, seconds: float = PATIENCE_S
    ) -> bool:
        """Send a batch once more than `reserve` bytes of credit are left, as agents do; False when the session is over."""
        await self.until(lambda: self.over or self.credit > reserve, seconds)
        if self.over:
            return False
        self.credit -= len(batch.payload)
        try:
            async with self._writing:
                await self._call.write(pb.FromAgent(batch=batch))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return False  # it ended, and reading will say why
        return True

    @property
    def over(self) -> bool:
        """Whether the session ended, or the collector asked to wait."""
        return (
            self.slow_down is not None
            or self.ended is not None
            or (self._reading is not None and self._reading.done())
        )

    async def _read(self) -> None:
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                async with self._news:
                    self._agent.received.append(message)
                    match message.WhichOneof("frame"):
                        case "ack":
                            self._agent.settle(message.ack.holdings)
                        case "credit":
                            self.credit += message.credit.bytes
                        case "slow_down":
                            self.slow_down = message.slow_down
                    self._news.notify_all()
        except grpc.aio.AioRpcError as error:
            self.ended = error
        async with self._news:
            self._news.notify_all()

    async def until(self, met: Any, seconds: float = PATIENCE_S) -> None:
        """Wait until a condition on what came is met."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(met)

    async def acked(self, seconds: float = PATIENCE_S) -> None:
        """Wait until nothing is unacknowledged."""
        await self.until(lambda: not self._agent.unacked, seconds)

    async def answer(self, kind: str, seconds: float = PATIENCE_S) -> Any:
        """Wait for a frame of a kind and return it."""
        found: list[Any] = []

        def met() -> bool:
            found.extend(getattr(m, kind) for m in self._agent.received if m.WhichOneof("frame") == kind)
            return bool(found)

        await self.until(met, seconds)
        return found[0]

    async def all_of(self, kind: str, count: int, seconds: float = PATIENCE_S) -> list[Any]:
        """Wait for so many frames of a kind and return them."""
        found: list[Any] = []

        def met() -> bool:
            found[:] = [getattr(m, kind) for m in self._agent.received if m.WhichOneof("frame") == kind]
            return len(found) >= count

        await self.until(met, seconds)
        return found

    async def close(self) -> None:
        """End the session."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            await self._call.done_writing()
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=PATIENCE_S)
            self._call.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def vanish(self) -> None:
        """Break the call off, as a machine without power does."""
        self._call.cancel()
