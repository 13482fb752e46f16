"""The gateway: the agents' door over gRPC (Link.Session), and beside it the same over a site's broker (site.py).

Off loopback it opens only with a certificate and tokens. Full or broken, it says UNAVAILABLE with the time to come back:
any other code would make somebody's client give up data.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from telemetryx.clock import Clock, SystemClock
from telemetryx.errors import GatewayRefused
from telemetryx.gateway import site, tokens
from telemetryx.gateway.address import loopback
from telemetryx.gateway.call import Call
from telemetryx.gateway.door import Door, Limits
from telemetryx.gateway.refusal import TurnedAway
from telemetryx.gateway.transport import FRAME_ROOM
from telemetryx.ingest.ingest import Ingest
from telemetryx.store.interface import Store
from telemetryx.wire._pb2 import link_pb2_grpc as pb_grpc

MAX_STREAMS: Final = 100
"""Calls that one connection may have open: an agent has one, a proxy in front of us those of many."""
METADATA: Final = 16 << 10
"""Bytes of a call's headers: a token, and what proxies add."""
IDENTITY_ONLY: Final = 1
HANDSHAKE_MS: Final = 15_000
"""A connection that has not said by then what it wants is closed."""


@dataclass(frozen=True, slots=True)
class Config:
    """Where the door is and what it takes."""

    host: str = "127.0.0.1"
    port: int = 8421
    cert_file: Path | None = None
    key_file: Path | None = None
    token_file: Path | None = None
    credit: int = 4 << 20
    max_batch: int = 4 << 20
    max_sessions: int = 5_000
    pool: int = 64 << 20
    """Payload bytes that all agents together may have on the way, before each gets its least."""
    hellos_per_second: float = 100.0
    mqtt: site.Config | None = None

    def check(self) -> None:
        """Refuse to open unguarded off loopback."""
        if (self.cert_file is None) != (self.key_file is None):
            raise GatewayRefused(
                "[gateway] needs tls_cert_file and tls_key_file together: set both, or neither"
            )
        if loopback(self.host):
            return
        missing = [
            name
            for name, path in (
                ("tls_cert_file and tls_key_file", self.cert_file),
                ("token_file", self.token_file),
            )
            if path is None
        ]
        if missing:
            raise GatewayRefused(
                f"[gateway] listens on {self.host}, which other machines can reach: set {' and '.join(missing)}, "
                "or listen on 127.0.0.1"
            )


class Gateway(pb_grpc.LinkServicer):
    """The door. `start()` opens it, `close()` lets sessions finish what they began and shuts it."""

    def __init__(
        self,
        store: Store,
        ingest: Ingest,
        config: Config,
        *,
        clock: Clock | None = None,
        rate: Callable[[str], float] = lambda _agent: 0.0,
    ) -> None:
        """Check the configuration and read the tokens; `rate` gives an agent's readings a second (hot view)."""
        config.check()
        self._config = config
        self._tokens = tokens.read(config.token_file) if config.token_file else tokens.Tokens()
        self._server: grpc.aio.Server | None = None
        self.door = Door(
            store,
            ingest,
            clock=clock or SystemClock(),
            rate=rate,
            limits=Limits(
                credit=config.credit,
                pool=config.pool,
                max_batch=config.max_batch,
                max_sessions=config.max_sessions,
                hellos_per_second=config.hellos_per_second,
            ),
        )
        self.site = site.Site(config.mqtt, self.door, self._tokens, config.port) if config.mqtt else None
        self.port = config.port

    @property
    def sessions(self) -> int:
        """How many agents are connected."""
        return self.door.sessions

    @property
    def refused(self) -> dict[str, int]:
        """How many were refused, by cause."""
        return self.door.refused

    def subscribe(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call this with an agent's name when one of its sessions opened or closed. Returns the way out."""
        return self.door.subscribe(listener)

    async def start(self) -> int:
        """Open the door and return its port."""
        config = self._config
        server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", config.max_batch + FRAME_ROOM),
                ("grpc.max_send_message_length", config.max_batch + FRAME_ROOM),
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_time_ms", 20_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
                # Agents ping every ten seconds; who floods is sent away.
                ("grpc.http2.max_ping_strikes", 5),
                ("grpc.max_concurrent_streams", MAX_STREAMS),
                ("grpc.max_metadata_size", METADATA),
                ("grpc.absolute_max_metadata_size", METADATA),
                # Batches are compressed themselves; a compressed message would be unpacked before anyone could weigh it.
                ("grpc.compression_enabled_algorithms_bitset", IDENTITY_ONLY),
                ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
            ),
        )
        pb_grpc.add_LinkServicer_to_server(self, server)
        host = f"[{config.host}]" if ":" in config.host else config.host
        address = f"{host}:{config.port}"
        try:
            credentials = self._credentials()
            self.port = (
                server.add_insecure_port(address)
                if credentials is None
                else server.add_secure_port(address, credentials)
            )
        except RuntimeError as error:
            raise GatewayRefused(
                f"the agents' door can't open on {address}: {error}; choose another address in [gateway] listen"
            ) from error
        await server.start()
        self._server = server
        self.door.open()
        if self.site is not None:
            self.site.start()
        return self.port

    def _credentials(self) -> grpc.ServerCredentials | None:
        if self._config.cert_file is None or self._config.key_file is None:
            return None
        try:
            pair = (self._config.key_file.read_bytes(), self._config.cert_file.read_bytes())
        except OSError as error:
            raise GatewayRefused(
                f"the certificate or its key can't be read: {error}; check tls_cert_file and tls_key_file in [gateway]"
            ) from error
        return grpc.ssl_server_credentials([pair])

    async def close(self, grace_s: float = 10.0) -> None:
        """Take nothing new, let sessions hear of what is being committed, then shut."""
        self.door.shut()
        server, self._server = self._server, None
        ends = [server.stop(grace_s)] if server is not None else []
        if self.site is not None:
            ends.append(self.site.close(grace_s))
        await asyncio.gather(*ends)
        await self.door.close()

    async def Session(  # type: ignore[override]  # noqa: N802 - link.proto's name; a coroutine that writes by context
        self,
        request_iterator: object,
        context: Any,  # noqa: ANN401
    ) -> None:
        """Serve one session."""
        del request_iterator  # context.read() and write() carry the frames
        call = Call(context)
        authorization = _authorization(context)
        if not self._tokens.admits(authorization):
            why = "the token is missing or unknown: set token_file in the agent's [uplink]"
            await call.turn_away(self.door.turned_away("token", why))
        try:
            await self.door.serve(call, lambda agent: self._tokens.admits_as(authorization, agent))
        except TurnedAway as why:
            await call.turn_away(why)


def _authorization(context: Any) -> str:  # noqa: ANN401
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            return value if isinstance(value, str) else ""
    return ""
