"""Background work that one process of several does at a time: it runs here only while this process holds its lease.

    run(stop)          the heartbeat: renews what is held, takes what is free (store/tables/lease.py)
    under(task, work)  work that begins when the lease is granted, is cancelled when it is lost, and begins again

The heartbeat is also how the store's state is known where nobody else writes: it is a small write, each second in a store that
others share, each five elsewhere. One that fails, or that is not answered, makes the part `store` not ready (`trouble`).

A process that can't renew in time stops its work by its own clock; should it not come to that (it is paused, say), each of
its transactions is refused by the lease's number. In a store that nobody else writes to the lease is granted for good.
"""

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from telemetryx.clock import Clock, SystemClock
from telemetryx.errors import StoreError
from telemetryx.store.tables import lease
from telemetryx.store.tables.lease import Beat, Held, Lease, Member

log = structlog.get_logger(__name__)

TTL_S: Final = 5.0
"""Work of a process that says nothing for so long is anybody's."""
BEAT_S: Final = 1.0
ALONE_BEAT_S: Final = 5.0
"""Between heartbeats where nobody waits for them."""
ANSWER_S: Final = 10.0
"""A heartbeat that takes longer says that the store doesn't answer."""
DEAF_S: Final = 5.0
"""The store took nothing for so long: what agents said meanwhile is noted nowhere."""
MARGIN_S: Final = 1.0
"""So long before the lease is over an owner that couldn't renew it stops."""

Work = Callable[[asyncio.Event], Awaitable[None]]


class LeaseStore(Protocol):
    """What the heartbeat needs of the store."""

    @property
    def member(self) -> Member:
        """Who this process is."""
        ...

    @property
    def shared(self) -> bool:
        """Whether other processes write to the store too."""
        ...

    async def beat(self, tasks: Sequence[str], held: Mapping[str, Held], ttl_ns: int) -> Beat:
        """Renew and take leases."""
        ...

    async def release(self, held: Sequence[Held], *, leave: bool = False) -> None:
        """Let go of leases."""
        ...


@dataclass(slots=True)
class _Post:
    """One piece of work: its lease, where this process holds it."""

    held: Held | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, held: Held | None) -> None:
        if held != self.held:
            self.held = held
            self.changed.set()
            self.changed = asyncio.Event()


class Leases:
    """The leases of one process. app.py owns `run`, and gives `under` to the tasks that need it."""

    def __init__(
        self,
        store: LeaseStore,
        *,
        ttl_s: float = TTL_S,
        beat_s: float = BEAT_S,
        clock: Clock = SystemClock(),  # noqa: B008 - a value that never changes
    ) -> None:
        """Hold nothing yet."""
        self._clock = clock
        self._resumed_ns = 0
        self._store = store
        self._ttl_s = ttl_s
        self._beat_s = beat_s
        self._posts: dict[str, _Post] = {}
        self._failed = ""
        self._begun: float | None = None
        self.wrote_at = 0.0
        """When the last heartbeat that succeeded began, by the monotonic clock; 0 before the first."""
        self._expiry: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self.leases: Sequence[Lease] = ()
        self.members: Sequence[Member] = ()

    @property
    def name(self) -> str:
        """This process's name among the members."""
        return self._store.member.name

    @property
    def shared(self) -> bool:
        """Whether other processes may be at work on the store."""
        return self._store.shared

    def since_ns(self) -> int | None:
        """Return since when it is noted who is heard; None before the first heartbeat.

        That is since the first of the processes that are at work began, or since the store took writes again: now, while it doesn't.
        """
        if not self.members:
            return None
        if self._deaf:
            return self._clock.now_ns()
        return max(self._resumed_ns, min(member.started_ns for member in self.members))

    def trouble(self) -> str:
        """Say why the store takes nothing; "" when it does, as far as the last heartbeat knows."""
        if self._failed or self._begun is None:
            return self._failed
        waited = time.monotonic() - self._begun
        return f"the store hasn't answered a write for {waited:.0f} s" if waited > ANSWER_S else ""

    def owners(self) -> dict[str, str]:
        """Return who does each piece of work, as of the last heartbeat; "" when its lease is over."""
        found = {one.task: one.owner if one.left_ns > 0 else "" for one in self.leases}
        return {task: found.get(task, "") for task in self._posts}

    def holds(self, task: str) -> bool:
        """Tell whether this process does a piece of work."""
        post = self._posts.get(task)
        return post is not None and post.held is not None

    async def run(self, stop: asyncio.Event) -> None:
        """Beat until `stop` is set, then let go of everything."""
        try:
            while not stop.is_set():
                await self._beat()
                waits = [self._wake.wait(), stop.wait()]
                await _first(waits, self._beat_s if self._store.shared else ALONE_BEAT_S)
                self._wake.clear()
        finally:
            held = [post.held for post in self._posts.values() if post.held is not None]
            self._put({}, "lease_released")
        try:
            await self._store.release(held, leave=True)
        except StoreError as error:
            # They end by themselves: whoever comes next waits for that, and for nothing else.
            log.warning("leases_not_released", error=str(error), end_after_s=self._ttl_s)

    async def _beat(self) -> None:
        begun = asyncio.get_running_loop().time()
        self._begun = time.monotonic()
        held = {task: post.held for task, post in self._posts.items() if post.held is not None}
        try:
            found = await self._store.beat(list(self._posts), held, int(self._ttl_s * 1e9))
        except StoreError as error:
            log.warning("lease_heartbeat_failed", error=str(error))
            self._failed = str(error)
            return
        else:
            self._wrote(self._begun)
        finally:
            self._begun = None
        self.leases, self.members = found.leases, found.members
        for name in found.gone:
            log.warning("collector_gone", member=name)
        if self._expiry is not None:
            self._expiry.cancel()
        if self._store.shared:
            # Counted from before the heartbeat: the store's clock can only be behind that.
            self._expiry = asyncio.get_running_loop().call_at(
                begun + self._ttl_s - min(MARGIN_S, self._ttl_s / 4), self._put, {}
            )
        self._put(found.held)

    @property
    def _deaf(self) -> bool:
        """Whether the last write is so long ago that what agents say is noted nowhere. Of a failure of a moment it isn't."""
        every = self._beat_s if self._store.shared else ALONE_BEAT_S
        return self.wrote_at > 0 and time.monotonic() - self.wrote_at > every + DEAF_S

    def _wrote(self, begun: float) -> None:
        """Note that a write succeeded, and whether there was none for long before it."""
        if self._deaf:
            self._resumed_ns = self._clock.now_ns()
            log.warning("store_took_nothing", seconds=round(time.monotonic() - self.wrote_at))
        self._failed, self.wrote_at = "", begun

    def _put(self, held: Mapping[str, Held], ended: str = "lease_lost") -> None:
        for task, post in self._posts.items():
            if post.held is not None and held.get(task) != post.held:
                log.warning(ended, task=task, number=post.held.fence)
            if task in held and held[task] != post.held:
                log.info("lease_taken", task=task, number=held[task].fence)
            post.put(held.get(task))

    def under(self, task: str, work: Work) -> Work:
        """Return work that runs only while this process holds the lease for a task. Several may share one."""
        post = self._posts.setdefault(task, _Post())

        async def run(stop: asyncio.Event) -> None:
            while not stop.is_set():
                if post.held is None:
                    self._wake.set()
                    await _first([post.changed.wait(), stop.wait()], None)
                else:
                    await self._serve(post, post.held, work, stop)

        return run

    async def _serve(self, post: _Post, held: Held, work: Work, stop: asyncio.Event) -> None:
        """Run work under a lease until it ends or the lease is lost; what it raises goes to whoever owns the task."""
        context = contextvars.copy_context()
        context.run(lease.current.set, held)
        running = asyncio.get_running_loop().create_task(_whole(work, stop), name=held.task, context=context)
        lost = asyncio.create_task(post.changed.wait())
        try:
            await asyncio.wait([running, lost], return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running
        finally:
            for task in (running, lost):
                task.cancel()
            await asyncio.gather(running, lost, return_exceptions=True)


async def _whole(work: Work, stop: asyncio.Event) -> None:
    await work(stop)


async def _first(waits: Sequence[Awaitable[object]], seconds: float | None) -> None:
    """Wait for the first of these, at most so long."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
