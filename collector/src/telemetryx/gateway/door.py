"""The agents' door, whatever carries their frames: who may come in and when, the session's entry in the log, its end there.

    a transport ─▶ first frame ─▶ may it be this agent? (entry.py) ─▶ its turn? ─▶ logged ─▶ greeted ─▶ session.py

What the door refuses it counts by cause; who may be an intruder is in the audit log. A refusal that isn't for good says when to come back, spread over time: those who
were sent away together shall not return together.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from telemetryx import __version__
from telemetryx.care.links import Links
from telemetryx.clock import Clock
from telemetryx.errors import StoreError
from telemetryx.gateway import session
from telemetryx.gateway.admission import Admission
from telemetryx.gateway.credit import Pool
from telemetryx.gateway.entry import Admits, Guest
from telemetryx.gateway.refusal import TurnedAway
from telemetryx.gateway.status import StatusBoard
from telemetryx.gateway.transport import LinkBroken, Transport
from telemetryx.hot.interface import Limit
from telemetryx.hot.memory import Alone
from telemetryx.ingest.ingest import Ingest
from telemetryx.network import bare, network
from telemetryx.store.audit import Actor, Entry, Seldom
from telemetryx.store.interface import Store
from telemetryx.wire._pb2 import link_pb2 as pb

log = structlog.get_logger(__name__)

SUSPECT: Final = frozenset({"agent", "certificate", "revoked", "token"})
"""Causes by which somebody is refused who may have stolen what it shows, or makes itself another: each is for a person to see."""
QUIET_NS: Final = 3_600_000_000_000
RETRY_MS: Final = 5_000
"""When to come back to a full house or a store that can't write; at most twice as late."""
RESTART_MS: Final = 1_000
"""When to come back to a collector that shuts down; at most twice as late."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What agents may ask of the collector. `credit`, `pool` and `max_batch` are bytes of payload."""

    credit: int = 4 << 20
    """One agent may have so much on the way."""
    pool: int = 64 << 20
    """All together may have so much, before each gets its least."""
    max_batch: int = 4 << 20
    max_sessions: int = 5_000
    hellos_per_second: float = 100.0


def alone(rate: float, take: Callable[[str], float]) -> Limit:
    """Give turns in this process."""
    del rate
    return Alone(take)


class Door:
    """What the doors of all transports share. `close()` ends it after they are shut."""

    def __init__(
        self,
        store: Store,
        ingest: Ingest,
        *,
        clock: Clock,
        rate: Callable[[str], float],
        limits: Limits,
        turns: Callable[[float, Callable[[str], float]], Limit] = alone,
        care: Links | None = None,
    ) -> None:
        """`rate` gives an agent's readings a second; `turns` makes the order of entry, over all processes (hot view); `care` is remote care."""
        self.limits = limits
        self._board = StatusBoard(store, ingest.beside)
        self._flushing: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[str], None]] = []
        admission = Admission(limits.hellos_per_second, asyncio.get_running_loop().time)
        self._guests: dict[str, set[Guest]] = {}
        self._turns = turns(limits.hellos_per_second, admission.wait_s)
        self.connected = dict.fromkeys(("grpc", "mqtt"), 0)
        self.refused: dict[str, int] = {}
        self._noted = Seldom(QUIET_NS)
        self._world = session.World(
            store=store,
            ingest=ingest,
            clock=clock,
            board=self._board,
            rate=rate,
            changed=self._changed,
            version=__version__,
            pool=Pool(limits.pool, limits.credit, lambda: self.sessions),
            max_batch=limits.max_batch,
            closing=asyncio.Event(),
            care=care,
        )

    @property
    def sessions(self) -> int:
        """How many agents are connected."""
        return sum(self.connected.values())

    @property
    def closing(self) -> bool:
        """Whether nobody new comes in."""
        return self._world.closing.is_set()

    def subscribe(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call this with an agent's name when one of its sessions opened or closed. Returns the way out."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def open(self) -> None:
        """Begin to write what agents say about themselves."""
        self._flushing = asyncio.create_task(self._board.run(), name="gateway-status")

    def shut(self) -> None:
        """Take nothing new, and let every session hear of what is being committed."""
        self._world.closing.set()

    async def close(self) -> None:
        """Write the last statuses."""
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)
        await self._board.flush()

    def recheck(self, agent: str, judge: Callable[[bytes | None], TurnedAway | None]) -> None:
        """Ask of each live session of an agent whether it may stay; cut those of which `judge`, by their key, says no."""
        for guest in self._guests.get(agent, ()):
            guest.recheck(judge)

    async def serve(self, link: Transport, admits: Admits) -> None:
        """Serve one session to its end. Raises TurnedAway, for the transport to pass on."""
        if self.closing:
            raise closed()
        if self.sessions >= self.limits.max_sessions:
            self._count("sessions")
            raise TurnedAway(
                "sessions", f"{self.sessions} agents are connected, as many as may", spread(RETRY_MS)
            )
        self.connected[link.carrier] += 1
        try:
            await self._serve(link, admits)
        except TurnedAway as why:
            self._count(why.cause)
            raise
        finally:
            self.connected[link.carrier] -= 1
        if self.closing:
            raise closed()

    async def turned_away(self, peer: str, cause: str, message: str) -> TurnedAway:
        """Count, note and return a refusal for good, given before there was a session to serve."""
        self._count(cause)
        why = TurnedAway(cause, message)
        await self._suspected("", peer, why)
        return why

    async def _suspected(self, agent: str, peer: str, why: TurnedAway) -> None:
        """Note who came as somebody that it isn't, or isn't any more. It comes again and again: an hour of that is one entry."""
        now = self._world.clock.now_ns()
        if why.cause not in SUSPECT or not self._noted.first(now, why.cause, agent, network(peer)):
            return
        log.warning("gateway.suspected", agent=agent, peer=peer, cause=why.cause, reason=str(why))
        what = {"cause": why.cause, "reason": str(why)}
        with contextlib.suppress(StoreError):
            await self._world.store.audit(
                Entry(Actor(agent or "unknown", "agent", bare(peer)), "agent.turn_away", agent, None, what)
            )

    async def _serve(self, link: Transport, admits: Admits) -> None:
        try:
            hello, skew_ms = await session.first(link, self._world.clock)
        except LinkBroken:
            return
        # Known before it is admitted: what changes meanwhile is asked again.
        guest = Guest()
        self._guests.setdefault(hello.agent, set()).add(guest)
        try:
            await self._entered(link, hello, skew_ms, guest, admits)
        finally:
            self._guests[hello.agent].discard(guest)
            if not self._guests[hello.agent]:
                del self._guests[hello.agent]

    async def _entered(
        self, link: Transport, hello: pb.Hello, skew_ms: float, guest: Guest, admits: Admits
    ) -> None:
        world = self._world
        try:
            labels = await guest.admitted(hello.agent, admits)
        except TurnedAway as why:
            await self._suspected(hello.agent, link.peer, why)
            raise
        except StoreError as error:
            raise self._unwritable(error) from error
        if hello.probe:
            await self._answer_probe(link, hello)
            return
        if wait_s := await self._turns.wait_s(hello.agent):
            raise TurnedAway(
                "turn", f"many agents connect at once: it is your turn in {wait_s:.1f} s", int(wait_s * 1000)
            )
        one = session.Session(world, link, hello.agent)
        guest.stays(one.cut)
        try:
            labels = {**hello.labels, **labels}
            opened = await world.store.session_opened(hello.agent, link.peer, hello.version, labels, skew_ms)
        except StoreError as error:
            raise self._unwritable(error) from error
        log.info("gateway.opened", agent=hello.agent, peer=link.peer, version=hello.version)
        self._changed(hello.agent)
        reason = "the link broke"
        try:
            await one.greet(hello)
            # Not before: what can be written but not read is no store that works.
            world.ingest.beside(None)
            reason = await one.tended(opened, hello, labels)
        except TurnedAway as why:
            reason = str(why)
            raise
        except LinkBroken:
            reason = link.ending or reason
        except StoreError as error:
            reason = str(error)
            raise self._unwritable(error) from error
        finally:
            await asyncio.shield(self._ended(opened, hello.agent, reason))

    async def _answer_probe(self, link: Transport, hello: pb.Hello) -> None:
        """Greet whoever only tries the way here: no session is opened, nothing is logged or counted for the agent."""
        try:
            await session.Session(self._world, link, hello.agent).greet(hello)
        except LinkBroken:
            pass
        except StoreError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: StoreError) -> TurnedAway:
        self._world.ingest.beside(error)
        after_ms = max(self._world.ingest.retry_after_ms(), RETRY_MS)
        return TurnedAway("store", str(error), spread(after_ms))

    async def _ended(self, opened: int, agent: str, reason: str) -> None:
        """Close the session in the log; a store that can't be written now closes it when it is opened again."""
        log.info("gateway.closed", agent=agent, reason=reason)
        try:
            await self._world.store.session_closed(opened, reason)
        except StoreError as error:
            log.warning("gateway.close_not_logged", agent=agent, reason=str(error))
        self._changed(agent)

    def _changed(self, agent: str) -> None:
        for listener in self._listeners:
            listener(agent)

    def _count(self, cause: str) -> None:
        self.refused[cause] = self.refused.get(cause, 0) + 1


def closed() -> TurnedAway:
    """Say that the collector goes away, and when to look for it."""
    return TurnedAway("closing", "the collector is shutting down", spread(RESTART_MS))


def spread(after_ms: int) -> int:
    """Return a time between this and twice this."""
    return after_ms + random.randrange(after_ms)  # noqa: S311 - jitter is no secret
