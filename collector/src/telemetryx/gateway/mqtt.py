"""The gateway over a site's broker: envelopes in and out, sorted into sessions, which the door then serves like any other.

    <prefix>/v1/up/<agent>     agent to collector    paho's thread: size, seal, frame ─▶ mailroom ─▶ here: session, counter
    <prefix>/v1/gone/<agent>   the agent's will, or its signed farewell
    <prefix>/v1/down/<agent>   collector to agent
    <prefix>/v1/collector      retained: online | offline

Exactly-once rests on nothing that the broker does: it may lose, repeat, reorder and forge. A gap ends the session, the
agent says hello again and hears what is stored; only a signed Ack lets it drop a batch.
"""

import asyncio
import contextlib
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, TypeVar

import structlog
from google.protobuf.message import DecodeError

from telemetryx.gateway import envelope
from telemetryx.gateway.conversation import Conversation
from telemetryx.gateway.door import Door
from telemetryx.gateway.entry import Entry
from telemetryx.gateway.envelope import Direction, EnvelopeRefused, Key, Opened, Step
from telemetryx.gateway.mailroom import Bounds, Mailroom
from telemetryx.gateway.refusal import TurnedAway
from telemetryx.gateway.transport import FRAME_ROOM, LinkBroken
from telemetryx.wire._pb2 import link_pb2 as pb

Name = TypeVar("Name")
Value = TypeVar("Value")
log = structlog.get_logger(__name__)

GONE_S: Final = 5.0
"""After the hint that an agent is gone, how long another frame of it is waited for."""
UNKNOWN_MS: Final = 1_000
"""An envelope of no session that we know is answered so often at most, for each agent."""
NEVER_MS: Final = 60_000
"""How long an agent stays away that was refused for good: somebody must change its configuration."""
REMEMBERED: Final = 10_000
_NAME: Final = re.compile(r"[A-Za-z0-9_.\-]{1,255}")
DROPPED: Final = ("signature", "out_of_step", "unknown_session", "too_large", "malformed", "overflow")


Keys = Callable[[str], Sequence[Key] | None]
"""What an agent's frames may be signed with (keyring.py)."""


class Publisher(Protocol):
    """What sends: broker.py, or a test's broker in memory."""

    def __call__(self, topic: str, payload: bytes) -> Awaitable[None]:
        """Return when the broker has it; raises LinkBroken."""
        ...


@dataclass(slots=True)
class Counters:
    """What went through, and what was dropped by cause."""

    received: int = 0
    sent: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DROPPED, 0))


@dataclass(frozen=True, slots=True)
class Letter:
    """A genuine envelope with its frame; None is a farewell."""

    opened: Opened
    frame: pb.FromAgent | None


class Mqtt:
    """The sessions over one broker."""

    def __init__(
        self, door: Door, entry: Entry, keys: Keys, prefix: str, peer: str, publish: Publisher
    ) -> None:
        """Serve agents under this prefix; `peer` names the broker in the connection log."""
        loop = asyncio.get_running_loop()
        self._door = door
        self._entry = entry
        self._keys = keys
        self._topics = {kind: f"{prefix}/v1/{kind}/" for kind in ("up", "gone", "down")}
        self._peer = peer
        self._send = publish
        self._max_envelope = door.limits.max_batch + FRAME_ROOM
        self._loop = loop
        limits = door.limits
        self._mailroom: Mailroom[Letter | None] = Mailroom(
            loop,
            Bounds(limits.credit + 2 * self._max_envelope, max(limits.pool, 4 * self._max_envelope)),
            self._sort,
            self._overflowed,
        )
        self._conversations: dict[str, Conversation] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._ended: OrderedDict[tuple[str, bytes], None] = OrderedDict()
        self._answered: OrderedDict[str, float] = OrderedDict()
        self.counters = Counters()

    @property
    def subscriptions(self) -> list[str]:
        """The topics that are ours to read."""
        return [f"{self._topics['up']}+", f"{self._topics['gone']}+"]

    # --- in paho's thread

    def received(self, topic: str, payload: bytes) -> None:
        """Take a message: weigh, check the seal, read the frame. Only what is genuine goes further."""
        self.counters.received += 1
        kind, agent = self._addressed(topic)
        if not agent:
            self._drop("malformed", topic, "no agent's topic")
            return
        if len(payload) > self._max_envelope:
            self._drop("too_large", agent, f"{len(payload)} bytes; at most {self._max_envelope} are taken")
            return
        letter: Letter | None = None
        if payload or kind == "up":
            try:
                opened = envelope.unseal(payload, Direction.UP, agent, self._keys(agent))
                frame = pb.FromAgent.FromString(opened.frame) if opened.frame else None
            except EnvelopeRefused as error:
                self._drop(error.cause, agent, str(error))
                return
            except DecodeError as error:
                self._drop("malformed", agent, f"not a frame: {error}")
                return
            letter = Letter(opened, frame)
        if not self._mailroom.put(agent, letter, len(payload)):
            self._drop("overflow", agent, "its envelopes come faster than they are taken on")

    def _addressed(self, topic: str) -> tuple[str, str]:
        for kind in ("up", "gone"):
            if topic.startswith(self._topics[kind]):
                agent = topic[len(self._topics[kind]) :]
                return kind, agent if _NAME.fullmatch(agent) else ""
        return "", ""

    def _drop(self, cause: str, agent: str, why: str) -> None:
        self.counters.dropped[cause] += 1
        log.debug("gateway.envelope_dropped", cause=cause, agent=agent[:80], reason=why)

    # --- on the loop

    def _sort(self, agent: str, letter: Letter | None, cost: int) -> None:
        """Put a letter where it belongs: the session that it continues, or a new one."""
        conversation = self._conversations.get(agent)
        if letter is None or letter.frame is None:
            self._mailroom.free(agent, cost)
            if conversation is not None:
                self._gone(conversation, letter)
            return
        opened, frame = letter.opened, letter.frame
        if conversation is not None and conversation.session == opened.session:
            self._continue(conversation, opened, frame, cost)
        elif (agent, opened.session) in self._ended or frame.WhichOneof("frame") != "hello":
            self._mailroom.free(agent, cost)
            self._drop("unknown_session", agent, "no such session")
            self._answer_unknown(agent, opened)
        elif opened.counter != 1:
            self._mailroom.free(agent, cost)
            self._drop("out_of_step", agent, "a hello is the first envelope of its session")
        elif frame.hello.probe:
            # Whoever only tries the way here leaves the agent's own session alone.
            self._begin(agent, opened, frame, cost)
        else:
            if conversation is not None:
                self._end(conversation, "a newer session took its place")
            self._conversations[agent] = self._begin(agent, opened, frame, cost)

    def _continue(self, conversation: Conversation, opened: Opened, frame: pb.FromAgent, cost: int) -> None:
        step = conversation.came.take(opened.counter)
        if step is Step.NEXT:
            conversation.heard += 1
            conversation.put(frame, cost)
            return
        self._mailroom.free(conversation.agent, cost)
        if step is Step.GAP:
            self._drop(
                "out_of_step", conversation.agent, f"after {conversation.came.last} came {opened.counter}"
            )
            self._end(conversation, "out of step")
            self._spawn(self._goodbye(conversation, 0, "out of step"))

    def _begin(self, agent: str, opened: Opened, hello: pb.FromAgent, cost: int) -> Conversation:
        conversation = Conversation(
            agent,
            opened,
            self._peer,
            lambda payload: self._publish(agent, payload),
            lambda size: self._mailroom.free(agent, size),
        )
        self._continue(conversation, opened, hello, cost)
        self._spawn(self._serve(conversation))
        return conversation

    async def _serve(self, conversation: Conversation) -> None:
        try:
            admits = partial(self._entry.by_signature, conversation.agent, conversation.signer)
            await self._door.serve(conversation, admits)
        except TurnedAway as why:
            await self._goodbye(conversation, why.after_ms or NEVER_MS, str(why))
        finally:
            self._end(conversation, "it is over")
            conversation.close()

    def _end(self, conversation: Conversation, reason: str, *, drop: bool = False) -> None:
        """Let a session read what came in order, then end; what comes for it later is unknown."""
        conversation.end(reason, drop=drop)
        if self._conversations.get(conversation.agent) is conversation:
            del self._conversations[conversation.agent]
        _remember(self._ended, (conversation.agent, conversation.session), None)

    def _gone(self, conversation: Conversation, letter: Letter | None) -> None:
        """End the session of an agent that said goodbye. What the broker says of it, anybody can claim: look again first."""
        if letter is not None and letter.opened.session != conversation.session:
            return
        if letter is not None and conversation.came.take(letter.opened.counter) is Step.NEXT:
            self._end(conversation, "the agent closed it")
            return
        self._loop.call_later(GONE_S, self._silent_since, conversation, conversation.heard)

    def _silent_since(self, conversation: Conversation, heard: int) -> None:
        if conversation.heard == heard and not conversation.ending:
            self._end(conversation, "the broker says that the agent is gone")

    def _overflowed(self, agent: str) -> None:
        conversation = self._conversations.get(agent)
        if conversation is not None:
            self._end(conversation, "its envelopes came faster than they were taken on", drop=True)

    def _answer_unknown(self, agent: str, opened: Opened) -> None:
        """Tell an agent that believes to be in a session to say hello again; not too often, and never for a fresh one."""
        now = self._loop.time()
        if now - self._answered.get(agent, -UNKNOWN_MS) < UNKNOWN_MS / 1000:
            return
        _remember(self._answered, agent, now)
        slow = pb.FromCollector(slow_down=pb.SlowDown(after_ms=UNKNOWN_MS, reason="unknown session"))
        # NOTE: the last number there is: whatever the agent has counted to, it is not taken for a repetition.
        sealed = envelope.seal(
            opened.key, Direction.DOWN, agent, opened.session, envelope.LAST, slow.SerializeToString()
        )
        self._spawn(self._say(agent, sealed))

    # --- out

    async def _publish(self, agent: str, payload: bytes) -> None:
        self.counters.sent += 1
        await self._send(f"{self._topics['down']}{agent}", payload)

    async def _say(self, agent: str, payload: bytes) -> None:
        with contextlib.suppress(LinkBroken):
            await self._publish(agent, payload)

    async def _goodbye(self, conversation: Conversation, after_ms: int, reason: str) -> None:
        with contextlib.suppress(LinkBroken):
            await conversation.goodbye(after_ms, reason)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    # --- the broker

    def lost(self, reason: str) -> None:
        """End every session: what was under way to or from the broker is lost with it."""
        for conversation in list(self._conversations.values()):
            self._end(conversation, reason)

    async def close(self, grace_s: float) -> None:
        """Wait until the sessions have heard of what was being committed; the door is closing already."""
        if self._serving:
            _, late = await asyncio.wait(set(self._serving), timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


def _remember(book: OrderedDict[Name, Value], key: Name, value: Value) -> None:
    book[key] = value
    book.move_to_end(key)
    while len(book) > REMEMBERED:
        book.popitem(last=False)
