"""Where paho's thread leaves what came from the broker and the event loop fetches it: bounded, for each agent and in all.

    paho's thread: put() ─▶ waiting ─▶ event loop: deliver() ─▶ a session's inbox ─▶ free() when the frame was taken on

An agent's bytes stay charged until its session took the frame on. At its bound an agent's further envelopes are dropped and
`overflowed` is told once, which ends its session: nothing was acknowledged, so nothing is lost. Whoever floods so hurts
itself alone; the broker's thread never waits.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")
ITEM_COST: Final = 256
"""Bytes that an envelope costs beside its own."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes that may wait."""

    agent: int
    all: int


class Mailroom(Generic[T]):
    """The envelopes on their way from the broker's thread to the sessions."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        bounds: Bounds,
        deliver: Callable[[str, T, int], None],
        overflowed: Callable[[str], None],
    ) -> None:
        """Both functions are called on the loop; who gets an item owes `free` for its bytes."""
        self._loop = loop
        self._bounds = bounds
        self._deliver = deliver
        self._overflowed = overflowed
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, T, int]] = deque()
        self._full: set[str] = set()
        self._charged: dict[str, int] = {}
        self._total = 0
        self._called = False

    def put(self, agent: str, item: T, size: int) -> bool:
        """Leave an item for the loop, from any thread. False: it is dropped, its agent has too much here already."""
        cost = size + ITEM_COST
        with self._lock:
            have = self._charged.get(agent, 0)
            room = have + cost <= self._bounds.agent and self._total + cost <= self._bounds.all
            if room:
                self._charged[agent] = have + cost
                self._total += cost
                self._waiting.append((agent, item, cost))
            elif agent in self._full:
                return False
            else:
                self._full.add(agent)
            called, self._called = self._called, True
        if not called:
            self._loop.call_soon_threadsafe(self._fetch)
        return room

    def free(self, agent: str, cost: int) -> None:
        """Let go of an item's bytes."""
        with self._lock:
            left = self._charged.get(agent, 0) - cost
            if left > 0:
                self._charged[agent] = left
            else:
                self._charged.pop(agent, None)
            self._total -= cost

    @property
    def waiting_bytes(self) -> int:
        """How much is charged now."""
        return self._total

    def _fetch(self) -> None:
        with self._lock:
            self._called = False
            waiting, self._waiting = self._waiting, deque()
            full, self._full = self._full, set()
        for agent, item, cost in waiting:
            self._deliver(agent, item, cost)
        for agent in full:
            self._overflowed(agent)
