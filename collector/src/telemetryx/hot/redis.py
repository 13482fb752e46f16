"""The hot view shared through Redis: what this process saw goes there in whole blocks, what the others saw is read there.

    feed ─▶ MemoryHot, and a mark on the block ─▶ every 250 ms: marked blocks, as they lie in memory, HSET in one pipeline
    newest ─▶ own memory, and one HMGET for each other process; of each series the newest by event time

Under `<prefix>:` lie, each with a time to live:

    processes          sorted set: process, its last beat on the server's clock
    latest:<process>   hash: block number, 256 records of 17 bytes (values.py); only that process writes it
    rate:<process>     its readings a second
    bucket:…, turn…    limits (scripts.py)

Each process writes keys of its own alone, so that nobody compares or locks, and readers merge. The queue to Redis is one bit a
block: it can't grow, the newest value wins by itself, and after any loss the marks are set again and everything is sent anew.
A hash with fewer blocks than were sent is such a loss (FLUSHALL, eviction). Nothing here is waited for by ingest.

A server without memory refuses writes and nothing else. The hash is what takes some: it is given up first, so that there may be room
for beats and limits, and tried again after growing pauses. Without beats who is there is read still, for as long as it lasts.
"""

import asyncio
import contextlib
import random
import secrets
from collections.abc import Callable, Iterable
from typing import Any, Final

import redis.asyncio as client
from redis.exceptions import ResponseError

from telemetryx.clock import Clock
from telemetryx.hot import scripts
from telemetryx.hot.interface import Fleetwide, Limit, Sharing
from telemetryx.hot.link import Away, Link, wait_for_end
from telemetryx.hot.memory import MemoryHot
from telemetryx.hot.shared_limits import SharedBucket, SharedTurns
from telemetryx.hot.values import BLOCK, MAX_SERIES, as_latest, from_block
from telemetryx.types import Committed, Latest

TICK_S: Final = 0.25
BEAT_TICKS: Final = 4
GONE_S: Final = 15.0
"""A process that didn't beat for so long doesn't count, and its values end with it."""
FULL_S: Final = 2.0
FULL_MOST_S: Final = 30.0
"""How long the hash isn't written after the server had no room for it: the first time, and at most."""
PIECE: Final = 64
"""Blocks of one pipeline: 280 kB."""


class RedisHot:
    """MemoryHot, and the other processes."""

    def __init__(self, clock: Clock, link: Link, prefix: str) -> None:
        """Begin alone; `run` connects the link, and closes it at the end. Processes with one prefix share."""
        self._own = MemoryHot(clock)
        self._link = link
        self._prefix = prefix
        self._name = secrets.token_hex(8)
        self._latest = self._key("latest", self._name)
        self._others: dict[str, float] = {}
        self._pause_s = 0.0
        self._values_at = 0.0

    # --- what needs no other process

    def feed(self, committed: Committed) -> None:
        """Take in a commit; it is sent with what comes in the next moments."""
        self._own.feed(committed)

    def latest(self, series_ids: Iterable[int]) -> dict[int, Latest]:
        """Return the newest values that this process has seen."""
        return self._own.latest(series_ids)

    def rate(self, agent: str) -> float:
        """Return readings a second of an agent."""
        return self._own.rate(agent)

    def rates(self) -> dict[str, float]:
        """Return the rate of every agent that sent lately."""
        return self._own.rates()

    def total(self, agent: str) -> int:
        """Return readings of an agent since this process began."""
        return self._own.total(agent)

    # --- what the others add

    async def newest(self, series_ids: Iterable[int]) -> dict[int, Latest]:
        """Return the newest value that any process has seen; of this process alone while Redis is away."""
        ids = [series for series in series_ids if 0 <= series < MAX_SERIES]
        found = self._own.latest(ids)
        others = list(self._others)
        if not others or not ids:
            return found
        by_block: dict[int, list[int]] = {}
        for series in ids:
            by_block.setdefault(series // BLOCK, []).append(series)

        async def read(server: client.Redis) -> list[Any]:
            pipe = _pipe(server)
            for other in others:
                pipe.hmget(self._key("latest", other), list(by_block))
            # What one of them broke under its name doesn't hide the others.
            answers: list[Any] = await pipe.execute(raise_on_error=False)
            return answers

        try:
            answers = await self._link.ask(read)
        except Away:
            return found
        for blocks in answers:
            if isinstance(blocks, list):
                _merge(found, by_block, blocks)
        return found

    def fleetwide(self) -> Fleetwide:
        """Return what all processes said last."""
        own = self._own.fleetwide()
        return Fleetwide(1 + len(self._others), own.readings_per_second + sum(self._others.values()))

    def sharing(self) -> Sharing:
        """Return how the exchange goes."""
        link = self._link
        if not link.connected:
            note = f"Redis is away, this process goes on alone: {link.reason}"
        elif link.full:
            note = f"Redis takes no writes, so limits and newest values are each process's own, wake-ups go on: {link.full}"
        else:
            note = ""
        return Sharing(not note, note, link.failures)

    def bucket(self, name: str, rate: float, burst: float, alone: Callable[[str], float]) -> Limit:
        """Count over all processes."""
        return SharedBucket(self._link, self._key("bucket", name), rate, burst, alone)

    def turns(self, rate: float, alone: Callable[[str], float]) -> Limit:
        """Give turns over all processes."""
        return SharedTurns(self._link, self._key("turn"), rate, alone)

    # --- the exchange

    async def run(self, stop: asyncio.Event) -> None:
        """Exchange until told to stop; then take away what is ours, as far as the server lets us."""
        try:
            await self._link.keep(stop, lambda server: self._exchange(server, stop))
            await self._leave()
        finally:
            await self._link.close()

    async def _exchange(self, server: client.Redis, stop: asyncio.Event) -> None:
        beat = server.register_script(scripts.BEAT)
        loop = asyncio.get_running_loop()
        self._pause_s, self._values_at = 0.0, 0.0
        await self._give_up(server)
        try:
            await self._send(server, beats=True)
            await self._beat(server, beat)
            self._link.arrived()
            tick = 0
            while not stop.is_set():
                await wait_for_end(stop, TICK_S)
                if not self._link.connected:
                    return
                tick += 1
                beats = tick % BEAT_TICKS == 0
                sent = loop.time() >= self._values_at and await self._send(server, beats=beats)
                if beats and await self._beat(server, beat) and sent:
                    self._pause_s = 0.0
                    self._link.accepted()
        finally:
            if not self._link.connected:
                self._others.clear()

    async def _send(self, server: client.Redis, *, beats: bool) -> bool:
        """Send what changed, or let go of the room that it took when there isn't enough."""
        try:
            await self._changed(server, beats=beats)
        except ResponseError as error:
            if not self._link.refused(error):
                raise
            await self._give_up(server)
            self._pause_s = min(FULL_MOST_S, 2 * self._pause_s or FULL_S)
            # Those who share it find no room together: they mustn't look for it together.
            pause_s = self._pause_s * random.uniform(0.5, 1.0)  # noqa: S311  jitter is no secret
            self._values_at = asyncio.get_running_loop().time() + pause_s
            return False
        return True

    async def _give_up(self, server: client.Redis) -> None:
        """Take away what lies there, and begin anew."""
        try:
            await self._link.guarded(server.unlink(self._latest))
        except ResponseError as error:
            if not self._link.refused(error):
                raise
        self._own.values.give_back()

    async def _changed(self, server: client.Redis, *, beats: bool) -> None:
        """Send blocks that changed, and see that all that were sent are still there."""
        values = self._own.values
        while True:
            blocks = values.take(PIECE)
            if not blocks and not beats:
                return
            pipe = _pipe(server)
            if blocks:
                pipe.hset(self._latest, mapping=blocks)
            pipe.hlen(self._latest)
            pipe.pexpire(self._latest, int(GONE_S * 1000))
            *_, held, _ = await self._link.guarded(pipe.execute())
            if held < values.blocks:
                values.give_back()
            elif len(blocks) < PIECE:
                return

    async def _beat(self, server: client.Redis, beat: Any) -> bool:  # noqa: ANN401 - the library's script
        """Say that we are here and how fast, where the server takes it; hear the same of the others."""
        pipe = _pipe(server)
        pipe.set(
            self._key("rate", self._name),
            repr(self._own.fleetwide().readings_per_second),
            px=int(GONE_S * 1000),
        )
        processes, gone_us = self._key("processes"), int(GONE_S * 1e6)
        taken = True
        try:
            await self._link.guarded(pipe.execute())
            there = await self._link.guarded(
                beat(keys=[processes], args=[self._name, gone_us], client=server)
            )
        except ResponseError as error:
            if not self._link.refused(error):
                raise
            taken = False
            seconds, micros = await self._link.guarded(server.time())
            oldest = seconds * 1_000_000 + micros - gone_us
            there = await self._link.guarded(server.zrangebyscore(processes, oldest, "+inf"))
        others = [name.decode("ascii", "replace") for name in there if name != self._name.encode()]
        rates = (
            await self._link.guarded(server.mget([self._key("rate", name) for name in others]))
            if others
            else []
        )
        self._others = {name: _number(rate) for name, rate in zip(others, rates, strict=True)}
        return taken

    async def _leave(self) -> None:
        async def leave(server: client.Redis) -> None:
            pipe = _pipe(server)
            pipe.zrem(self._key("processes"), self._name)
            pipe.unlink(self._latest, self._key("rate", self._name))
            await pipe.execute(raise_on_error=False)

        # Where that fails, it ends by itself after GONE_S.
        with contextlib.suppress(Away):
            await self._link.ask(leave)

    def _key(self, *parts: str) -> str:
        return ":".join((self._prefix, *parts))


def _pipe(server: client.Redis) -> Any:  # noqa: ANN401 - its calls queue, which the library types as awaitables
    return server.pipeline(transaction=False)


def _merge(found: dict[int, Latest], by_block: dict[int, list[int]], blocks: list[Any]) -> None:
    """Take what another process has newer."""
    for series_ids, data in zip(by_block.values(), blocks, strict=True):
        records = from_block(data) if isinstance(data, bytes) else None
        if records is None:
            continue
        for series in series_ids:
            theirs, ours = as_latest(series, records[series % BLOCK]), found.get(series)
            if theirs is not None and (ours is None or theirs.time_ns > ours.time_ns):
                found[series] = theirs


def _number(data: object) -> float:
    """Read a rate; what isn't one, or lies there no more, counts nothing."""
    try:
        rate = float(data) if isinstance(data, bytes) else 0.0
    except ValueError:
        return 0.0
    return rate if 0 <= rate < float("inf") else 0.0
