"""Ingest: frames in, outcomes out, one transaction for all who wait; subscribers hear of each commit after it.

    submit ─▶ queue (bounded by bytes) ─▶ decode (a thread) ─▶ commit (the store's writer) ─▶ outcome, Committed
                                          while a group commits, the next is decoded

Little is decoded where it is: to hand it to a thread and back takes longer, by milliseconds when the cores are busy. A group is what waits when the one before is done, up to `max_group`: alone when idle, large under load; so nobody waits for
a timer. When the store fails, the group and what waits behind it are dropped with the reason, nothing is acknowledged, and
ingest takes nothing until a pause is over: agents keep what isn't acknowledged and send it again.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import structlog

from telemetryx.errors import (
    IngestClosed,
    QueueFull,
    SchemaBroken,
    StoreDamaged,
    StoreError,
    StoreUnavailable,
    WireError,
)
from telemetryx.ingest.counters import Counters, Health
from telemetryx.ingest.size import size_of
from telemetryx.ingest.traced import committing, decoding
from telemetryx.store.interface import Store
from telemetryx.traces import OFF, Tracer
from telemetryx.types import (
    Committed,
    Conflict,
    Decoded,
    Duplicate,
    LossFrame,
    NeedDefinitions,
    Outcome,
    Refused,
    Stored,
)
from telemetryx.wire import frame as wire
from telemetryx.wire._pb2 import link_pb2 as pb
from telemetryx.wire.compression import stated_size

log = structlog.get_logger(__name__)

DAMAGED_S: Final = 90.0
"""So long damage counts that nothing meets again: agents that were turned away have tried again by then."""
_ANY_WRITE: Final = frozenset({"io", "locked", "conflict", "closed", "lease"})
"""Reasons that any write that succeeds shows to be past; the others are about room and rights, and a small one may succeed."""
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 10.0
TELL_EVERY_S: Final = 60.0
FRAME_COST: Final = 512
"""Bytes that a queued frame costs beside its payload."""
GROUP_BYTES: Final = 8 << 20
"""Payload bytes of one group, about: what is decoded and not yet committed stays small."""

GROUP_HELD: Final = 6 << 20
"""Bytes in memory of one decoded group, about: a few bytes on the wire can stand for many there, and three groups are there at once."""

SMALL_BYTES: Final = 16 << 10
"""A group of at most so many bytes is decoded on the event loop, in a millisecond or two,"""

SMALL_UNPACKED: Final = 128 << 10
"""if it is no more than this without its compression."""

Subscriber = Callable[[Committed], None]


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why a write failed, and when."""

    reason: str
    at: float
    any_write: bool
    """Any write that succeeds shows that it is past."""
    damage: bool
    bytes: int

    def over(self, written_at: float) -> bool:
        """Whether a write elsewhere that began then shows that it is past."""
        if self.damage:
            return written_at > self.at + DAMAGED_S
        return self.any_write and written_at > self.at


@dataclass(slots=True)
class _Waiting:
    agent: str
    frame: pb.Batch | pb.Loss
    cost: int
    done: "asyncio.Future[Outcome]"
    since: float


@dataclass(slots=True)
class _Group:
    """A decoded group: what can be committed, and the frames it belongs to."""

    waiting: list[_Waiting]
    batches: list[tuple[_Waiting, Decoded]]
    losses: list[tuple[_Waiting, LossFrame]]
    refused: list[tuple[_Waiting, Refused]]


class Ingest:
    """The way into the store. `run()` is its one task; app.py owns it."""

    def __init__(
        self, store: Store, *, max_queue_bytes: int = 64 << 20, max_group: int = 64, tracer: Tracer = OFF
    ) -> None:
        """Commit to this store; hold at most so many bytes that wait."""
        self.tracer = tracer
        self._store = store
        self._max_queue = max_queue_bytes
        self._max_group = max_group
        self._queue: deque[_Waiting] = deque()
        self._queued = 0
        self._taken: dict[int, list[_Waiting]] = {}
        self._wake = asyncio.Event()
        self._room = asyncio.Condition()
        self._closing = False
        self._subscribers: list[Subscriber] = []
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="ingest-decode")
        self._reason = ""
        self._failed: _Trouble | None = None
        self._beside: _Trouble | None = None
        self._schema = ""
        self._tried_at = 0.0
        self.committed_at = 0.0
        self._pause_s = 0.0
        self._paused_until = 0.0
        self._over_limit: Counter[str] = Counter()
        self._tell_again = 0.0
        self.counters = Counters()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call this after each commit, in commit order, on the event loop; it must return at once. Returns the way out."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def health(self, written_at: float = 0.0) -> Health:
        """Tell whether batches can be stored. `written_at`: when the last write elsewhere that succeeded began, monotonic."""
        found = [
            one.reason
            for one in (self._failed, self._beside)
            if one is not None and not one.over(max(written_at, self._tried_at))
        ]
        reason = found[0] if found else self._schema
        return Health(not reason, reason, self._queued, len(self._queue))

    def lag_s(self) -> float:
        """Tell how long what has waited longest for its commit has waited; 0 when nothing waits."""
        first = [group[0].since for group in (*self._taken.values(), self._queue) if group]
        return max(time.monotonic() - min(first), 0.0) if first else 0.0

    def beside(self, error: StoreError | None) -> None:
        """Hear from who writes to the store beside us why that failed, or None that it didn't.

        A session that can't be logged isn't opened: its batches never come here to show that the store can't take them.
        """
        told = self._beside
        self._beside = None if error is None else _trouble(error)
        if self._beside is not None and told is None:
            log.error("ingest.store_unwritable", reason=self._beside.reason)

    @property
    def doubt_bytes(self) -> int | None:
        """Return the bytes that failed and weren't written since; None when nothing failed."""
        found = [one.bytes for one in (self._failed, self._beside) if one is not None]
        return max(found, default=None)

    def tried(self, error: StoreError | None, began: float) -> None:
        """Hear how a trial ended that began then and needed as much room as what failed (trial.py)."""
        if error is not None:
            if not self._reason:
                self.beside(error)
            return
        self._tried_at = began
        for name in ("_failed", "_beside"):
            trouble: _Trouble | None = getattr(self, name)
            if trouble is not None and trouble.at < began and not trouble.damage:
                log.info("ingest.store_writable", reason=trouble.reason)
                setattr(self, name, None)

    def looked(self, error: SchemaBroken | None) -> None:
        """Hear whether the tables are as the schema has them (trial.py): work that needs another one would fail."""
        said = "" if error is None else str(error)
        if said and said != self._schema:
            log.error("ingest.schema_broken", reason=said)
        elif self._schema and not said:
            log.info("ingest.schema_whole", reason=self._schema)
        self._schema = said

    async def submit(self, agent: str, frame: pb.Batch | pb.Loss) -> Outcome:
        """Store one frame; returns after its commit. Raises StoreUnavailable, QueueFull or IngestClosed: then it isn't stored."""
        return await (await self.enqueue(agent, frame))

    async def enqueue(
        self, agent: str, frame: pb.Batch | pb.Loss, *, patience_s: float = 30.0
    ) -> "asyncio.Future[Outcome]":
        """Queue one frame, waiting for room; the future has its outcome, or the reason why it isn't stored."""
        self._admit()
        cost = FRAME_COST + (
            len(frame.payload) + len(frame.definitions) if isinstance(frame, pb.Batch) else 0
        )
        if self._queued and self._queued + cost > self._max_queue:
            await self._wait_for_room(cost, patience_s)
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(agent, frame, cost, done, time.monotonic()))
        self._queued += cost
        self._wake.set()
        return done

    def _admit(self) -> None:
        if self._closing:
            raise IngestClosed("the collector is shutting down")
        left = self._paused_until - time.monotonic()
        if self._reason and left > 0:
            raise StoreUnavailable(self._reason, "paused")

    async def _wait_for_room(self, cost: int, patience_s: float) -> None:
        try:
            async with asyncio.timeout(patience_s), self._room:
                await self._room.wait_for(
                    lambda: self._closing or not self._queued or self._queued + cost <= self._max_queue
                )
        except TimeoutError:
            raise QueueFull(f"{self._queued} bytes wait for their commit, as many as may", 1_000) from None
        self._admit()

    def retry_after_ms(self) -> int:
        """Say how long agents should wait before they send again."""
        return max(int((self._paused_until - time.monotonic()) * 1000), 100)

    async def run(self) -> None:
        """Decode and commit until cancelled or closed."""
        decoded: asyncio.Queue[_Group | None] = asyncio.Queue(1)
        committing = asyncio.create_task(self._commit_all(decoded), name="ingest-commit")
        try:
            while not (self._closing and not self._queue):
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    await decoded.put(await self._decode(self._take()))
            await decoded.put(None)
            await committing
        finally:
            committing.cancel()
            await asyncio.gather(committing, return_exceptions=True)
            closed = IngestClosed("the collector is shutting down")
            for one in (one for group in self._taken.values() for one in group):
                self._give_up(one, closed)
            self._drop_queue(closed)

    async def close(self) -> None:
        """Take no more, and let `run` finish what waits."""
        self._closing = True
        self._wake.set()
        async with self._room:
            self._room.notify_all()

    def _take(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        size = 0
        while (
            self._queue
            and len(group) < self._max_group
            and (not group or size + self._queue[0].cost <= GROUP_BYTES)
        ):
            group.append(self._queue.popleft())
            size += group[-1].cost
        return group

    async def _decode(self, waiting: list[_Waiting]) -> _Group:
        """Decode, in the thread unless it is little. What would make the group too large in memory goes back to the head of the queue."""
        self._taken[id(waiting)] = waiting
        begun = self.tracer.now_ns()
        if _little(waiting):
            group = _decode(waiting)
        else:
            group = await asyncio.get_running_loop().run_in_executor(self._threads, _decode, waiting)
        del self._taken[id(waiting)]
        decoding(self.tracer, [batch for _, batch in group.batches], begun)
        self._queue.extendleft(reversed(waiting[len(group.waiting) :]))
        self._taken[id(group.waiting)] = group.waiting
        return group

    async def _commit_all(self, groups: "asyncio.Queue[_Group | None]") -> None:
        while (group := await groups.get()) is not None:
            try:
                await self._commit(group)
            except StoreError as error:
                self._fail(error, group)
            except Exception as error:
                log.exception("ingest.commit_failed")
                self._fail(StoreError(f"the commit failed unexpectedly: {error!r}"), group)
            # Not in a `finally`: what a cancellation interrupts is given up by run(), which finds it in _taken.
            del self._taken[id(group.waiting)]
            self._queued -= sum(one.cost for one in group.waiting)
            async with self._room:
                self._room.notify_all()

    async def _commit(self, group: _Group) -> None:
        begun = time.monotonic()
        for one, refused in group.refused:
            self._settle(one, refused)
        if group.losses:
            entered = await self._store.commit_loss([loss for _, loss in group.losses])
            for (one, _), outcome in zip(group.losses, entered, strict=True):
                self.counters.losses += isinstance(outcome, Stored)
                self._settle(one, outcome)
        if group.batches:
            started = time.perf_counter()
            batches = [batch for _, batch in group.batches]
            with committing(self.tracer, batches):
                outcomes = await self._store.commit(batches)
            self.counters.commits += 1
            self.counters.commit_seconds += time.perf_counter() - started
            self._tell(outcomes)
            for (one, batch), outcome in zip(group.batches, outcomes, strict=True):
                if isinstance(outcome, Stored):
                    if outcome.committed is None:
                        self._apart(one, batch)
                    else:
                        self._count(batch, outcome.committed)
                self._settle(one, outcome)
        if group.losses or group.batches:
            self._beside = self._failed = None
            self.committed_at = begun
        if self._reason and (group.losses or group.batches):
            log.info("ingest.resumed", reason=self._reason)
            self._reason, self._pause_s = "", 0.0

    def _tell(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Stored) and outcome.committed is not None:
                self.announce(outcome.committed)

    def announce(self, committed: Committed) -> None:
        """Tell subscribers of a commit; for one that was made beside the flow, too."""
        for subscriber in self._subscribers:
            try:
                subscriber(committed)
            except Exception:
                log.exception("ingest.subscriber_failed", cursor=committed.cursor)

    def _apart(self, one: _Waiting, batch: Decoded) -> None:
        self.counters.quarantined += 1
        log.warning(
            "ingest.quarantined",
            agent=one.agent,
            seq=batch.key.seq,
            reason="its times are ahead of the collector's clock by more than [ingest] future_limit",
        )

    def _count(self, batch: Decoded, committed: Committed) -> None:
        self.counters.samples += len(committed.samples)
        self.counters.windows += 0 if committed.windows is None else len(committed.windows)
        self.counters.events += 0 if committed.events is None else len(committed.events)
        self.counters.payload_bytes += len(batch.payload)
        if committed.over_limit:
            self.counters.over_limit += committed.over_limit
            self._over_limit[committed.key.agent] += committed.over_limit
            self._tell_over_limit()

    def _tell_over_limit(self) -> None:
        """Say once a minute whose readings were refused for their series, however many batches that are."""
        now = time.monotonic()
        if now < self._tell_again:
            return
        self._tell_again = now + TELL_EVERY_S
        worst = self._over_limit.most_common(5)
        log.warning(
            "ingest.series_limit",
            readings=self._over_limit.total(),
            agents=len(self._over_limit),
            most=dict(worst),
            reason="their series are above [ingest] max_series_per_agent or max_series; known series go on",
        )
        self._over_limit.clear()

    def _settle(self, one: _Waiting, outcome: Outcome) -> None:
        self.counters.outcomes[_NAMES[type(outcome)]] += 1
        if isinstance(outcome, Refused):
            self.counters.refused[outcome.cause] += 1
            log.warning(
                "ingest.refused",
                agent=one.agent,
                seq=one.frame.seq,
                cause=outcome.cause,
                message=outcome.message,
            )
        if not one.done.done():
            one.done.set_result(outcome)

    def _fail(self, error: StoreError, group: _Group) -> None:
        """Drop the group and everything behind it, and pause: nothing of it was acknowledged, so nothing is lost."""
        self._pause_s = min(self._pause_s * 2 or FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._paused_until = time.monotonic() + self._pause_s
        if not self._reason:
            log.error("ingest.stopped", reason=str(error))
        self._reason = str(error)
        self._failed = _trouble(error, sum(one.cost for one in group.waiting))
        self.counters.failures += 1
        for one in group.waiting:
            self._give_up(one, error)
        self._drop_queue(error)

    def _drop_queue(self, error: Exception) -> None:
        while self._queue:
            one = self._queue.popleft()
            self._queued -= one.cost
            self._give_up(one, error)

    def _give_up(self, one: _Waiting, error: Exception) -> None:
        if not one.done.done():
            self.counters.outcomes["failed"] += 1
            one.done.set_exception(error)


_NAMES: Final[dict[type[Outcome], str]] = {
    Stored: "stored",
    Duplicate: "duplicate",
    NeedDefinitions: "need_definitions",
    Conflict: "conflict",
    Refused: "refused",
}


def _trouble(error: StoreError, size: int = 0) -> _Trouble:
    any_write = isinstance(error, StoreUnavailable) and error.reason in _ANY_WRITE
    return _Trouble(str(error), time.monotonic(), any_write, isinstance(error, StoreDamaged), size)


def _little(waiting: list[_Waiting]) -> bool:
    """Say whether a group is decoded in the time that a hand-over to a thread takes. Few bytes may be many compressed ones."""
    if sum(one.cost for one in waiting) > SMALL_BYTES:
        return False
    payloads = (one.frame.payload for one in waiting if isinstance(one.frame, pb.Batch))
    return sum(map(stated_size, payloads)) <= SMALL_UNPACKED


def _decode(waiting: list[_Waiting]) -> _Group:
    """Decode a group, in a thread. What can't be decoded is refused; it doesn't hurt its neighbours."""
    group = _Group([], [], [], [])
    held = 0
    for one in waiting:
        if held >= GROUP_HELD:
            break
        group.waiting.append(one)
        try:
            if isinstance(one.frame, pb.Batch):
                batch = wire.batch(one.agent, one.frame)
                held += size_of(batch)
                group.batches.append((one, batch))
            else:
                group.losses.append((one, wire.loss(one.agent, one.frame)))
        except WireError as error:
            group.refused.append((one, Refused(error.cause, str(error))))
        except Exception as error:
            log.exception("ingest.decode_failed", agent=one.agent, seq=one.frame.seq)
            group.refused.append((one, Refused("malformed", f"the batch can't be decoded: {error!r}")))
    return group
