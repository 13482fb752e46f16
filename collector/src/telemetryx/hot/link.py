"""The one way to a Redis server: its connections, whether it can be used, and how long nobody asks it after it failed.

    away ── connect, ask, publish everything (hot/redis.py) ──▶ here ── any failure: error, time-out, refusal ──▶ away
                                                                 here ◀── a write is taken ── writes refused ──▶ full

Whoever asks while it is away is told so at once, without waiting: a dead or hanging server costs one time-out, not one a
request. A server that only refuses writes (no memory, no disk for snapshots, too few replicas) is here: it is read, and wake-ups
go through it; who writes goes on alone. A line is logged when the state changes, and only then.
"""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import redis.asyncio as client
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from telemetryx.hot.address import Address

log = structlog.get_logger(__name__)

T = TypeVar("T")

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 10.0
SOUND_S: Final = 30.0
"""Here for longer than this, a failure begins with the first pause again."""
CONNECTIONS: Final = 16


REMEDIES: Final = {
    "OOM": "raise its maxmemory, or let it evict (maxmemory-policy allkeys-lru)",
    "MISCONF": 'free the disk that it saves its snapshots on, or save none (save "")',
    "NOREPLICAS": "start its replicas, or lower its min-replicas-to-write",
}
"""What refuses writes alone, and what to do about it."""
_REFUSAL: Final = re.compile(rf"\b({'|'.join(REMEDIES)}) [^.]*")


class Away(Exception):  # noqa: N818 - named after what happened
    """Redis can't be used now; the caller goes on without it."""


class _Password(CredentialProvider):
    """Reads the file at each connection, so that a changed password needs no restart."""

    def __init__(self, user: str | None, path: Path) -> None:
        self._user = user
        self._path = path

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self._path.read_text(encoding="utf-8").strip()
        return (password,) if self._user is None else (self._user, password)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        # The library's own calls the other too, but warns of it in our log at each connection.
        return self.get_credentials()


class Link:
    """The server and its state."""

    def __init__(self, address: Address) -> None:
        """Know the way; nothing is opened."""
        self._address = address
        self._timeout_s = address.timeout_s
        self._client = client.Redis(connection_pool=_pool(address))
        self.connected = False
        self.reason = "not connected yet"
        self.full = ""
        """Why it takes no writes, while it takes none."""
        self.failures = 0
        """How often it was lost, or began to refuse writes; tries while that lasts aren't counted."""

    async def ask(self, work: Callable[["client.Redis"], Awaitable[T]]) -> T:
        """Run work on the server. Raises Away when it is, or turns out to be."""
        if not self.connected:
            raise Away(self.reason)
        return await self._try(work)

    async def keep(self, stop: asyncio.Event, serve: Callable[["client.Redis"], Awaitable[None]]) -> None:
        """Run `serve` again and again, with growing pauses between, until told to stop.

        It begins while the server counts as away, calls `arrived` when all is well, and ends with an error of the server's.
        """
        pause = FIRST_PAUSE_S
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            begun = loop.time()
            try:
                await serve(self._client)
            except Away:
                pass
            except (RedisError, OSError, TimeoutError, UnicodeError) as error:
                self.lost(error)
            if loop.time() - begun > SOUND_S:
                pause = FIRST_PAUSE_S
            await wait_for_end(stop, pause * random.uniform(0.5, 1.0))  # noqa: S311  jitter is no secret
            pause = min(LONGEST_PAUSE_S, pause * 2)

    async def guarded(self, work: Awaitable[T]) -> T:
        """Await one exchange with the server for at most the time-out: a client library's own may not cover all of it."""
        async with asyncio.timeout(2 * self._timeout_s):
            return await work

    def arrived(self) -> None:
        """Take it into use."""
        if not self.connected:
            log.info("hot.redis_connected", server=self._shown())
        self.connected, self.reason = True, ""

    def lost(self, error: BaseException) -> None:
        """Go on without it."""
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if self.connected or not self.failures:
            self.failures += 1
            log.warning("hot.redis_away", server=self._shown(), reason=reason)
        self.connected, self.reason, self.full = False, reason, ""

    def refused(self, error: BaseException) -> bool:
        """Whether it refuses writes and nothing else; then it is here still."""
        # In front of it a pipeline's error has the command, with whatever it was to write.
        own = str(error).rpartition("caused error: ")[2].lstrip("(\"'")
        if isinstance(error, OutOfMemoryError) and not own.startswith("OOM"):
            own = f"OOM {own}"  # the library takes the word for the class
        said = _REFUSAL.search(own) if isinstance(error, ResponseError) else None
        if said is None:
            return False
        reason, remedy = said[0].replace("\\", ""), REMEDIES[said[1]]
        if not self.full:
            self.failures += 1
            log.warning("hot.redis_takes_no_writes", server=self._shown(), reason=reason, remedy=remedy)
        self.full = f"{reason}: {remedy}"
        return True

    def accepted(self) -> None:
        """Know that it takes everything."""
        if self.full:
            log.info("hot.redis_takes_writes", server=self._shown())
        self.full = ""

    async def close(self) -> None:
        """Close the connections."""
        self.connected, self.reason = False, "closed"
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._client.aclose(close_connection_pool=True)
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("hot.redis_close", reason=str(error))

    def pubsub(self) -> Any:  # noqa: ANN401 - the library's type is untyped where it matters
        """Open a subscriber's own connection."""
        return self._client.pubsub(ignore_subscribe_messages=True)

    async def _try(self, work: Callable[["client.Redis"], Awaitable[T]]) -> T:
        try:
            return await self.guarded(work(self._client))
        except (RedisError, OSError, TimeoutError) as error:
            if self.refused(error):
                raise Away(self.full) from error
            self.lost(error)
            raise Away(self.reason) from error

    def _shown(self) -> str:
        return self._address.url.partition("?")[0]


async def wait_for_end(stop: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until told to stop."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass


def _pool(address: Address) -> "client.ConnectionPool":
    """Make the pool; nothing is retried inside the library: whoever fails goes on without Redis."""
    parts = urlsplit(address.url)
    options: dict[str, Any] = {
        "socket_timeout": address.timeout_s,
        "socket_connect_timeout": address.timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "client_name": "telemetryx",
        # Understood by every server since 6.0, and by what speaks its protocol.
        "protocol": 2,
    }
    if address.password_file is not None:
        options["credential_provider"] = _Password(address.user, address.password_file)
    if parts.scheme == "unix":
        kind: Any = client.UnixDomainSocketConnection
        options |= {"path": unquote(parts.path), "db": int(parse_qs(parts.query).get("db", ["0"])[0])}
    else:
        kind = client.SSLConnection if parts.scheme == "rediss" else client.Connection
        database = parts.path.strip("/") or "0"
        options |= {"host": parts.hostname or "localhost", "port": parts.port or 6379, "db": int(database)}
        if parts.scheme == "rediss":
            options["ssl_ca_certs"] = None if address.ca_file is None else str(address.ca_file)
    return client.BlockingConnectionPool(
        max_connections=CONNECTIONS, timeout=address.timeout_s, connection_class=kind, **options
    )
