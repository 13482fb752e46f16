"""One session of one agent: hello, greeting, then batches in and acknowledgements out until one side ends it.

    reading   frame by frame, large batches in parts; a batch goes to ingest, which answers after the commit. When more than
              the credit is on its way, nothing more is read: the transport pushes back, and memory stays bounded whatever an
              agent does
    writing   answers gather while a write is under way and leave together: one Ack for many batches

It serves every transport (transport.py): what an acknowledgement means doesn't depend on what carries it.

DURABILITY: an Ack names only what ingest called Stored or Duplicate, and it says so only after the commit.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from telemetryx.care.links import Links
from telemetryx.clock import Clock
from telemetryx.errors import IngestClosed, QueueFull, StoreError, WireError
from telemetryx.fleet import AgentStatus
from telemetryx.gateway.credit import Pool
from telemetryx.gateway.held import RangeSet
from telemetryx.gateway.parts import Parts
from telemetryx.gateway.refusal import TurnedAway
from telemetryx.gateway.status import StatusBoard
from telemetryx.gateway.tending import Tending
from telemetryx.gateway.transport import LinkBroken, Transport
from telemetryx.ingest.ingest import Ingest
from telemetryx.store.interface import Store
from telemetryx.traces import Kind, Span, parse
from telemetryx.types import Conflict, Duplicate, Holding, NeedDefinitions, Outcome, Refused, Stored
from telemetryx.wire import frame as wire
from telemetryx.wire._pb2 import link_pb2 as pb
from telemetryx.wire.limits import WIRE

log = structlog.get_logger(__name__)

HELLO_TIMEOUT_S: Final = 15.0
SILENCE_S: Final = 60.0
"""An agent sends its status every five seconds; one that says nothing for this long is gone."""
SETTLE_S: Final = 10.0
"""At the end of a session, how long its last commits are waited for."""
MAX_UNACKED: Final = 10_000
MAX_LABELS: Final = 64
MAX_LABEL: Final = 1024
MAX_STATUS: Final = 64 << 10
SLOW_DOWN_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class World:
    """What all sessions share."""

    store: Store
    ingest: Ingest
    clock: Clock
    board: StatusBoard
    rate: Callable[[str], float]
    changed: Callable[[str], None]
    """Told the agent's name when a session opens or closes."""
    version: str
    pool: Pool
    max_batch: int
    closing: asyncio.Event
    care: Links | None = None
    """Remote care; None: agents are sent and asked nothing."""


class Session:
    """One agent's session."""

    def __init__(self, world: World, link: Transport, agent: str) -> None:
        """Serve this link; `greet` and `serve` do the work."""
        self._world = world
        self._link = link
        self._agent = agent
        self._answered: dict[bytes, RangeSet] = {}
        self._fresh: dict[bytes, list[int]] = {}
        self._answers: list[pb.FromCollector] = []
        self._allowed = 0
        self._credit = 0
        self._outstanding = 0
        self._waiting = 0
        self._slow: tuple[int, str] | None = None
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        self._eased = asyncio.Event()
        self._alive = False
        self._parts = Parts(world.max_batch)
        self._taken = 0
        self._skew_ms = 0.0
        self._cut = asyncio.Event()
        self._why = TurnedAway("revoked", "")
        self._tending: Tending | None = None

    async def greet(self, hello: pb.Hello) -> None:
        """Say what is held of the epochs that the agent named, and which of its batches conflict."""
        unacked = hello.unacked[:MAX_UNACKED]
        epochs = list(dict.fromkeys([hello.epoch, *(held.epoch for held in unacked)]))
        holdings = await self._world.store.holdings(self._agent, epochs)
        known = await self._world.store.checksums(self._agent, [(held.epoch, held.seq) for held in unacked])
        conflicts = [
            pb.Held(epoch=held.epoch, seq=held.seq, checksum=theirs)
            for held in unacked
            if (theirs := known.get((held.epoch, held.seq))) is not None and theirs != held.checksum
        ]
        self._allowed = self._world.pool.share()
        greeting = pb.Greeting(
            wire=WIRE,
            collector=self._world.version,
            holdings=[wire.holdings(holding) for holding in holdings.values()],
            conflicts=conflicts,
            credit_bytes=self._allowed,
            max_batch_bytes=self._world.max_batch,
            wall_ns=self._world.clock.now_ns(),
            parts=True,
        )
        await self._link.write(pb.FromCollector(greeting=greeting))

    def cut(self, why: TurnedAway) -> None:
        """End it now: nothing more is read or answered. What was taken on is committed all the same."""
        self._why = why
        self._cut.set()

    async def tended(self, session: int, hello: pb.Hello, labels: Mapping[str, str]) -> str:
        """Serve it under remote care, which knows it by its labels; return why it ended. Raises TurnedAway when it was cut."""
        if self._world.care is None:
            return await self.serve(session)
        self._tending = tending = Tending(self._world.care, self._agent, session, self._wake)
        tending.enter(hello, labels)
        try:
            return await self.serve(session)
        finally:
            await asyncio.shield(tending.leave())

    async def serve(self, session: int) -> str:
        """Exchange frames until the end; return why it ended. Raises TurnedAway when it was cut."""
        reading = asyncio.create_task(self._read_all(session), name=f"session-read {self._agent}")
        writing = asyncio.create_task(self._write_all(), name=f"session-write {self._agent}")
        closing = asyncio.create_task(self._world.closing.wait())
        cutting = asyncio.create_task(self._cut.wait())
        try:
            await asyncio.wait({reading, writing, closing, cutting}, return_when=asyncio.FIRST_COMPLETED)
            if self._cut.is_set():
                raise self._why
            if closing.done() and not reading.done():
                reading.cancel()
            await self._settle()
            if reading.done() and not reading.cancelled() and reading.exception() is None:
                return reading.result()
            return (
                "the collector is shutting down" if closing.done() else self._link.ending or "the link broke"
            )
        finally:
            for task in (reading, writing, closing, cutting):
                task.cancel()
            await asyncio.gather(reading, writing, closing, cutting, return_exceptions=True)

    async def _settle(self) -> None:
        """Wait for what is being committed, so that the agent still hears of it."""
        try:
            async with asyncio.timeout(SETTLE_S):
                while self._waiting:
                    self._eased.clear()
                    await self._eased.wait()
        except TimeoutError:
            log.warning("gateway.unsettled", agent=self._agent, batches=self._waiting)
        try:
            await self._flush()
        except LinkBroken as error:
            # It will ask again, and be told.
            log.debug("gateway.unheard", agent=self._agent, reason=str(error))

    # --- in

    async def _read_all(self, session: int) -> str:
        while True:
            try:
                async with asyncio.timeout(SILENCE_S):
                    message = await self._link.read()
            except TimeoutError:
                return f"nothing came for {SILENCE_S:.0f} s"
            if message is None:
                return self._link.ending
            match message.WhichOneof("frame"):
                case "batch":
                    await self._batch(message.batch)
                case "part":
                    try:
                        whole = self._parts.add(message.part)
                    except WireError as error:
                        return str(error)
                    self._wake.set()
                    if whole is not None:
                        await self._batch(whole)
                case "loss":
                    await self._submit(message.loss, 0)
                case "status":
                    self._status(session, message.status)
                case "config_state" if self._tending is not None:
                    self._tending.state(message.config_state)
                case "answer" if self._tending is not None:
                    await self._tending.answer(message.answer)
                case _:
                    pass  # a second hello, or a frame of a newer agent: passed over, as the versioning rule says

    async def _batch(self, batch: pb.Batch) -> None:
        size = len(batch.payload)
        if size > self._world.max_batch:
            self._refuse(
                batch,
                Refused("too_large", f"{size} bytes of payload; at most {self._world.max_batch} are taken"),
                size,
            )
            return
        while self._outstanding > self._world.pool.most + self._world.max_batch:
            self._eased.clear()
            await self._eased.wait()
        await self._submit(batch, size)

    async def _submit(self, frame: pb.Batch | pb.Loss, size: int) -> None:
        span = self._traced(frame) if isinstance(frame, pb.Batch) and frame.trace else None
        try:
            future = await self._world.ingest.enqueue(self._agent, frame)
        except (StoreError, QueueFull) as error:
            self._world.ingest.tracer.end(span, failed=str(error))
            self._later(error, size)
            return
        except IngestClosed:
            return
        self._outstanding += size
        self._waiting += 1
        future.add_done_callback(lambda done: self._settled(frame, size, done, span))

    def _traced(self, batch: pb.Batch) -> Span | None:
        """Begin the span from a batch's arrival to its outcome; what ingest does belongs to it."""
        parent = parse(batch.trace)
        span = (
            None if parent is None else self._world.ingest.tracer.begin(parent, "gateway", kind=Kind.CONSUMER)
        )
        if span is not None:
            batch.trace = str(span.context)
            span.attributes |= {"telemetryx.agent": self._agent, "telemetryx.batch.seq": batch.seq}
        return span

    def _status(self, session: int, status: pb.Status) -> None:
        if self._link.answers_status:
            self._alive = True
            self._wake.set()
        self._skew_ms = (status.wall_ns - self._world.clock.now_ns()) / 1e6
        text = status.json if len(status.json) <= MAX_STATUS else ""
        limit = (1 << 63) - 1
        self._world.board.note(
            session,
            AgentStatus(
                backlog_bytes=min(status.backlog_bytes, limit),
                backlog_batches=min(status.backlog_batches, limit),
                oldest_ns=status.oldest_ns,
                skew_ms=self._skew_ms,
                rate=self._world.rate(self._agent),
                json=text,
            ),
        )

    # --- out

    def _settled(
        self, frame: pb.Batch | pb.Loss, size: int, done: "asyncio.Future[Outcome]", span: Span | None
    ) -> None:
        """Ingest is done with a frame: note what to answer. Runs on the loop, after the commit."""
        self._outstanding -= size
        self._waiting -= 1
        self._eased.set()
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            self._world.ingest.tracer.end(span, failed=str(error))
            self._later(error, size)
            return
        outcome = done.result()
        self._world.ingest.tracer.end(span, attributes={"telemetryx.outcome": type(outcome).__name__.lower()})
        self._give_back(size)
        match outcome:
            case Stored() | Duplicate():
                answered = self._answered.get(frame.epoch)
                if answered is None:
                    answered = self._answered[frame.epoch] = RangeSet(Holding(frame.epoch, 0))
                answered.insert(frame.seq)
                self._fresh.setdefault(frame.epoch, []).append(frame.seq)
            case NeedDefinitions(numbers):
                need = pb.NeedDefinitions(epoch=frame.epoch, seq=frame.seq, series=numbers)
                self._answers.append(pb.FromCollector(need_definitions=need))
            case Conflict(checksum):
                conflict = pb.Conflict(epoch=frame.epoch, seq=frame.seq, checksum=checksum)
                self._answers.append(pb.FromCollector(conflict=conflict))
            case Refused():
                self._refuse(frame, outcome, 0)
        self._wake.set()

    def _give_back(self, size: int) -> None:
        """Let the agent send so many bytes more; fewer when its share became smaller, more when it grew."""
        given = max(0, size + self._world.pool.share() - self._allowed)
        self._allowed += given - size
        self._credit += given

    def _refuse(self, frame: pb.Batch | pb.Loss, refused: Refused, size: int) -> None:
        self._give_back(size)
        self._answers.append(
            pb.FromCollector(
                refusal=pb.Refusal(
                    epoch=frame.epoch, seq=frame.seq, cause=refused.cause, message=refused.message
                )
            )
        )
        self._wake.set()

    def _later(self, error: BaseException, size: int) -> None:
        """Not stored, and not the batch's fault: ask the agent to wait and to send it again."""
        self._give_back(size)
        after = (
            error.after_ms
            if isinstance(error, QueueFull)
            else max(self._world.ingest.retry_after_ms(), SLOW_DOWN_MS)
        )
        self._slow = (after, str(error))
        self._wake.set()

    async def _write_all(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._flush()

    async def _flush(self) -> None:
        """Write everything that gathered; one at a time, as the call's stream asks for."""
        async with self._writing:
            await self._write()

    async def _write(self) -> None:
        fresh, self._fresh = self._fresh, {}
        answers, self._answers = self._answers, []
        credit, self._credit = self._credit, 0
        slow, self._slow = self._slow, None
        alive, self._alive = self._alive, False
        if fresh or alive:
            acked = [wire.holdings(self._answered[epoch].about(seqs)) for epoch, seqs in fresh.items()]
            await self._link.write(pb.FromCollector(ack=pb.Ack(holdings=acked)))
        if self._parts.taken > self._taken:
            self._taken = self._parts.taken
            await self._link.write(pb.FromCollector(taken=pb.Taken(bytes=self._taken)))
        for answer in answers:
            await self._link.write(answer)
        if self._tending is not None and (frames := self._tending.frames()):
            for frame in frames:
                await self._link.write(frame)
            self._tending.written()
        if credit:
            await self._link.write(pb.FromCollector(credit=pb.Credit(bytes=credit)))
        if slow is not None:
            await self._link.write(pb.FromCollector(slow_down=pb.SlowDown(after_ms=slow[0], reason=slow[1])))


async def first(link: Transport, clock: Clock) -> tuple[pb.Hello, float]:
    """Read and check the hello; return it with the agent's clock skew in milliseconds. Raises TurnedAway."""
    try:
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            message = await link.read()
    except TimeoutError:
        raise TurnedAway("silent", f"no hello within {HELLO_TIMEOUT_S:.0f} s") from None
    if message is None or message.WhichOneof("frame") != "hello":
        raise TurnedAway("hello", "a session begins with a hello")
    hello: pb.Hello = message.hello
    skew_ms = (hello.wall_ns - clock.now_ns()) / 1e6
    if hello.wire != WIRE:
        raise TurnedAway(
            "version", f"wire version {hello.wire} is unknown here; this collector speaks {WIRE}"
        )
    try:
        wire.agent_name(hello.agent)
        wire.key(hello.agent, hello.epoch, 1)
        for held in hello.unacked[:MAX_UNACKED]:
            wire.key(hello.agent, held.epoch, held.seq)
    except WireError as error:
        raise TurnedAway("hello", str(error)) from error
    if len(hello.labels) > MAX_LABELS or any(
        len(key) + len(value) > MAX_LABEL for key, value in hello.labels.items()
    ):
        raise TurnedAway(
            "hello", f"more than {MAX_LABELS} labels in the hello, or one over {MAX_LABEL} characters"
        )
    return hello, skew_ms
