"""Wake-ups between processes over Redis pub/sub: what is committed in one makes those that read by cursor look in the others.

A message is a hint (interface.py): it is neither kept nor repeated. What was published while a subscriber was away is gone, so
after each return to the server everybody is woken once.
"""

import asyncio
import contextlib
import secrets
from typing import Any, Final

import redis.asyncio as client
from redis.exceptions import RedisError

from telemetryx.hot.link import Away, Link
from telemetryx.hot.wake import LocalWake

LISTEN_S: Final = 1.0
"""How long one look at the subscription lasts before the link's state is looked at again."""
PAUSE_S: Final = 0.25
"""Between looks at a link that is away; whoever keeps it (hot/redis.py) has the back-off."""


class RedisWake:
    """`Wake` over the link that RedisHot keeps."""

    def __init__(self, link: Link, prefix: str) -> None:
        """Publish and listen on this prefix's channel; until `run` it wakes this process alone."""
        self._link = link
        self._channel = f"{prefix}:wake"
        self._name = secrets.token_hex(8)
        self._local = LocalWake()
        self._newest = 0
        self._unsent = asyncio.Event()

    def committed(self, cursor: int) -> None:
        """Wake who waits here, and soon those elsewhere: one message for all commits since the last."""
        self._newest = max(self._newest, cursor)
        self._local.committed(cursor)
        self._unsent.set()

    async def changed(self, timeout_s: float) -> bool:
        """Wait for a commit of any process."""
        return await self._local.changed(timeout_s)

    async def run(self, stop: asyncio.Event) -> None:
        """Publish and listen until told to stop."""
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(work) for work in (self._publish(stop), self._listen(stop), stop.wait())
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            # The library may swallow a cancellation that meets a time-out of its own: the flag ends the loops then.
            stop.set()
            self._unsent.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _publish(self, stop: asyncio.Event) -> None:
        async def publish(server: client.Redis) -> None:
            await server.publish(self._channel, f"{self._name} {self._newest}")

        while True:
            await self._unsent.wait()
            if stop.is_set():
                return
            self._unsent.clear()
            try:
                await self._link.ask(publish)
            except Away:
                # A hint that nobody gets: the others find the commit at their next poll.
                await asyncio.sleep(PAUSE_S)

    async def _listen(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if self._link.connected:
                try:
                    async with contextlib.aclosing(self._link.pubsub()) as subscription:
                        await self._hear(subscription, stop)
                except (RedisError, OSError, TimeoutError) as error:
                    self._link.lost(error)
            await asyncio.sleep(PAUSE_S)

    async def _hear(self, subscription: Any, stop: asyncio.Event) -> None:  # noqa: ANN401 - the library's
        await self._link.guarded(subscription.subscribe(self._channel))
        self._local.committed(0)
        while self._link.connected and not stop.is_set():
            message = await subscription.get_message(timeout=LISTEN_S)
            if message is None or not isinstance(message.get("data"), bytes):
                continue
            if not message["data"].startswith(self._name.encode()):
                self._local.committed(0)
