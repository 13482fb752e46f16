"""The agents' door over a site's broker, put together: the connection (broker.py) and the sessions on it (mqtt.py)."""

import asyncio
import hashlib
import os
import socket
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from telemetryx.errors import GatewayRefused
from telemetryx.gateway.address import Address, address, loopback
from telemetryx.gateway.broker import Broker
from telemetryx.gateway.door import Door
from telemetryx.gateway.entry import Entry
from telemetryx.gateway.keyring import Keyring
from telemetryx.gateway.login import Login, Retained
from telemetryx.gateway.mqtt import Counters, Mqtt


@dataclass(frozen=True, slots=True)
class Config:
    """Which broker, and who we are to it."""

    url: str
    prefix: str = "telemetryx"
    user: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    place: str = ""
    """Names us at the broker, where several processes take turns: whoever takes over takes the place of the one before."""

    def login(self, grpc_port: int) -> Login:
        """Name us the same at each start, so that a new connection takes the place of a dead one, and its will comes before us."""
        # Without a fixed port there may be others like us on this machine.
        place = self.place or f"{socket.gethostname()} {grpc_port or os.getpid()} {self.prefix}"
        name = f"telemetryx-collector-{hashlib.sha256(place.encode()).hexdigest()[:12]}"
        return Login(name, self.user, self.password_file, self.ca_file, self.cert_file, self.key_file)


class Site:
    """One broker's door. `start()` returns at once; whether the broker is there shows in `connected`."""

    def __init__(self, config: Config, door: Door, entry: Entry, keyring: Keyring, grpc_port: int) -> None:
        """Check the configuration; raises GatewayRefused."""
        where = _checked(config, entry)
        login = config.login(grpc_port)
        login.check(where)
        unsigned = not entry.tokens and not entry.certificates and loopback(where.host)
        self._mqtt = Mqtt(
            door,
            entry,
            partial(keyring.keys, unsigned=unsigned),
            config.prefix,
            f"mqtt:{where}",
            self._publish,
        )
        self._broker = Broker(
            where,
            login,
            self._mqtt.subscriptions,
            Retained(f"{config.prefix}/v1/collector"),
            self._mqtt.received,
            self._mqtt.lost,
        )
        self._running: asyncio.Task[None] | None = None

    async def _publish(self, topic: str, payload: bytes) -> None:
        await self._broker.publish(topic, payload)

    @property
    def connected(self) -> bool:
        """Whether the broker is there."""
        return self._broker.connected

    @property
    def counters(self) -> Counters:
        """What went through and what was dropped."""
        return self._mqtt.counters

    def start(self) -> None:
        """Begin to connect."""
        self._running = asyncio.create_task(self._broker.run(), name="gateway-broker")

    async def close(self, grace_s: float) -> None:
        """Let sessions hear of what was committed, say that we go, disconnect. The door is closing already."""
        await self._mqtt.close(grace_s)
        await self._broker.farewell()
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)


def _checked(config: Config, entry: Entry) -> Address:
    try:
        where = address(config.url)
    except ValueError as error:
        raise GatewayRefused(f"[gateway.mqtt] url: {error}") from error
    if entry.enrolment is not None:
        # Enrolled hosts sign with their keys; of tokens, those count that the file holds.
        return where
    if not entry.tokens and not loopback(where.host):
        raise GatewayRefused(
            f"[gateway.mqtt] url = {config.url!r} leads to a broker that others use: set token_file in [gateway], "
            "frames are signed with the agents' tokens"
        )
    if entry.tokens and not entry.tokens.sign:
        raise GatewayRefused(
            "[gateway.mqtt] needs the tokens themselves, and token_file holds digests alone (sha256:…): "
            "write the token of each agent that comes over the broker as it is"
        )
    return where
