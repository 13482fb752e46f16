"""A site's broker, whether it is there or not: keeps one connection to it, made anew with growing pauses.

The broker being away is no failure of the collector: gRPC goes on, readiness stays, the metrics and one line of the log say
so. Agents find out by themselves.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import structlog

from telemetryx.gateway.address import Address
from telemetryx.gateway.login import Login, Retained
from telemetryx.gateway.transport import LinkBroken

if TYPE_CHECKING:
    from telemetryx.gateway.connection import Connection

log = structlog.get_logger(__name__)

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
SOUND_S: Final = 60.0
"""After a connection that lasted longer the pauses begin anew."""


class Broker:
    """`run()` is its task; `publish` works while `connected`."""

    def __init__(
        self,
        address: Address,
        login: Login,
        topics: Sequence[str],
        presence: Retained,
        received: Callable[[str, bytes], None],
        lost: Callable[[str], None],
    ) -> None:
        """`received` is called in paho's thread and must return at once; `lost` on the loop, with the reason."""
        self._address = address
        self._login = login
        self._topics = topics
        self._presence = presence
        self._received = received
        self._lost = lost
        self._connection: Connection | None = None
        self.reason = "not connected yet"

    @property
    def connected(self) -> bool:
        """Whether it is there and we are subscribed."""
        return self._connection is not None

    async def run(self) -> None:
        """Keep a connection until cancelled."""
        loop = asyncio.get_running_loop()
        pause, told = FIRST_PAUSE_S, False
        while True:
            begun = loop.time()
            opened = await self._once()
            if opened or not told:
                # Once: a broker that is away for a night shall not fill the log.
                log.warning("gateway.broker_gone", broker=str(self._address), reason=self.reason)
                told = True
            else:
                log.debug("gateway.broker_still_gone", broker=str(self._address), reason=self.reason)
            if opened and loop.time() - begun > SOUND_S:
                pause = FIRST_PAUSE_S
            await asyncio.sleep(random.uniform(0.0, pause))  # noqa: S311 - jitter is no secret
            pause = min(LONGEST_PAUSE_S, pause * 2)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Give the broker a message and return when it has it. Raises LinkBroken when it is gone or doesn't take it."""
        if self._connection is None:
            raise LinkBroken(f"the broker is gone: {self.reason}")
        await self._connection.publish(topic, payload, retain=retain)

    async def farewell(self) -> None:
        """Say that we go, as long as the broker is there."""
        with contextlib.suppress(LinkBroken):
            await self.publish(self._presence.topic, self._presence.offline, retain=True)

    async def _once(self) -> bool:
        """Make one connection and stay until it ends; return whether it came to be."""
        # The library takes 8 MB, for nothing where no broker is named.
        from telemetryx.gateway.connection import Connection  # noqa: PLC0415

        try:
            connection = Connection(self._address, self._login, self._topics, self._presence, self._received)
        except (OSError, ValueError) as error:
            self.reason = f"{type(error).__name__}: {error}"
            return False
        try:
            await connection.open()
            self._connection, self.reason = connection, ""
            log.info("gateway.broker_connected", broker=str(self._address))
            self.reason = await connection.stay()
        except LinkBroken as error:
            self.reason = str(error)
            return False
        finally:
            opened, self._connection = self._connection is not None, None
            await connection.close()
            if opened:
                self._lost("the broker is gone")
        return True
