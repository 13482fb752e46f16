"""The gateway: the agents' door over gRPC (Link.Session), and beside it the same over a site's broker (site.py).

Off loopback it opens only with TLS, and to agents that show a certificate of ours or a token (entry.py). Full or broken, it says UNAVAILABLE with the time to come back:
any other code would make somebody's client give up data.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc

from telemetryx.care.links import Links
from telemetryx.certificate import Certificate
from telemetryx.clock import Clock, SystemClock
from telemetryx.enrolment.service import Enrolment
from telemetryx.errors import GatewayRefused
from telemetryx.gateway import site, tokens
from telemetryx.gateway.address import loopback
from telemetryx.gateway.call import Call
from telemetryx.gateway.door import Door, Limits, alone
from telemetryx.gateway.entry import Entry, standing
from telemetryx.gateway.handshakes import Handshakes
from telemetryx.gateway.keyring import Keyring
from telemetryx.gateway.refusal import TurnedAway
from telemetryx.gateway.transport import FRAME_ROOM
from telemetryx.hot.interface import Limit
from telemetryx.ingest.ingest import Ingest
from telemetryx.store.enrolment import Enrolled
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
    certificate: Certificate | None = None
    token_file: Path | None = None
    certificates: bool = False
    """Whether agents must show a certificate of the enrolment's authority."""
    token_address: tuple[str, int] | None = None
    """A second address, for agents with a token and no certificate."""
    credit: int = 4 << 20
    max_batch: int = 4 << 20
    max_sessions: int = 5_000
    pool: int = 64 << 20
    """Payload bytes that all agents together may have on the way, before each gets its least."""
    hellos_per_second: float = 100.0
    mqtt: site.Config | None = None
    share_port: bool = False
    """Whether other processes of ours listen on the same port."""
    share_site: bool = False
    """Whether the site's broker is served by one process of several: by `serve_site`, not by `start`."""

    def check(self) -> None:
        """Refuse to open unguarded off loopback."""
        if loopback(self.host):
            return
        guarded = self.certificates or self.token_file is not None
        missing = [
            name
            for name, there in (
                ("tls_cert_file and tls_key_file", self.certificate is not None),
                ("token_file", guarded),
            )
            if not there
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
        turns: Callable[[float, Callable[[str], float]], Limit] = alone,
        enrolment: Enrolment | None = None,
        care: Links | None = None,
    ) -> None:
        """Check the configuration and read the tokens; `rate` gives an agent's readings a second, `turns` the order of entry (hot view)."""
        config.check()
        self._config = config
        self._enrolment = enrolment
        self._tokens = tokens.read(config.token_file) if config.token_file else tokens.Tokens()
        self._server: grpc.aio.Server | None = None
        self._shown: list[grpc.ServerCredentials] = []
        self._grace_s = 10.0
        self.handshakes = Handshakes()
        self.door = Door(
            store,
            ingest,
            clock=clock or SystemClock(),
            rate=rate,
            turns=turns,
            care=care,
            limits=Limits(
                credit=config.credit,
                pool=config.pool,
                max_batch=config.max_batch,
                max_sessions=config.max_sessions,
                hellos_per_second=config.hellos_per_second,
            ),
        )
        self._entry = Entry(self._tokens, enrolment, config.certificates)
        # Before the sessions are cut: whoever comes back at once is known by its new key.
        self._keyring = Keyring(self._tokens, enrolment)
        if enrolment is not None:
            enrolment.subscribe(self._changed)
        self.site: site.Site | None = None
        if config.mqtt is not None:
            self.site = self._site(config.mqtt)
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
        if config.mqtt is not None:
            await self._keyring.load()
        server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", config.max_batch + FRAME_ROOM),
                ("grpc.max_send_message_length", config.max_batch + FRAME_ROOM),
                ("grpc.so_reuseport", int(config.share_port)),
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
        self.port = self._listen(server, config.host, config.port, certificates=config.certificates)
        if config.token_address is not None:
            self._listen(server, *config.token_address, certificates=False)
        await server.start()
        self._server = server
        self.door.open()
        if self.site is not None and not config.share_site:
            self.site.start()
        return self.port

    async def serve_site(self, stop: asyncio.Event) -> None:
        """Serve the site's broker until `stop` is set or it is cancelled; again if it is called again."""
        if self._config.mqtt is None:
            return
        served = self.site = self._site(self._config.mqtt)
        served.start()
        try:
            await stop.wait()
        finally:
            # Cancelled, somebody else serves it by now: there is nothing to be polite about.
            await served.close(self._grace_s if stop.is_set() else 0.0)

    def _site(self, config: site.Config) -> site.Site:
        return site.Site(config, self.door, self._entry, self._keyring, self._config.port)

    def _listen(self, server: grpc.aio.Server, host: str, port: int, *, certificates: bool) -> int:
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            credentials = self._credentials(certificates=certificates)
            return (
                server.add_insecure_port(address)
                if credentials is None
                else server.add_secure_port(address, credentials)
            )
        except RuntimeError as error:
            raise GatewayRefused(
                f"the agents' door can't open on {address}: {error}; choose another address in [gateway] listen"
            ) from error

    def _credentials(self, *, certificates: bool) -> grpc.ServerCredentials | None:
        certificate = self._config.certificate
        if certificate is None:
            return None
        wanted = certificates and self._enrolment is not None
        authority = self._enrolment.authority.pem.encode() if wanted and self._enrolment is not None else None
        told = certificate.version

        def pair() -> grpc.ServerCertificateConfiguration:
            return grpc.ssl_server_certificate_configuration([certificate.pair], authority)

        def newer() -> grpc.ServerCertificateConfiguration | None:
            """Say at each handshake, in a thread of gRPC's, whether there is another pair since."""
            nonlocal told
            self.handshakes.begin()
            if told == certificate.version:
                return None
            told = certificate.version
            return pair()

        made = grpc.dynamic_ssl_server_credentials(
            pair(),
            newer,  # type: ignore[arg-type]  # the stub forgets None, by which it says that nothing changed
            require_client_authentication=wanted,
        )
        # The server holds no reference to what it asks.
        self._shown.append(made)
        return made

    def _changed(self, one: Enrolled) -> None:
        """Cut the live sessions of an agent whose enrolment changed, where they aren't its any more."""
        self.door.recheck(one.agent, partial(standing, one))

    async def close(self, grace_s: float = 10.0) -> None:
        """Take nothing new, let sessions hear of what is being committed, then shut."""
        self.door.shut()
        server, self._server = self._server, None
        ends = [server.stop(grace_s)] if server is not None else []
        if self.site is not None and not self._config.share_site:
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
        if self._config.certificate is not None:
            self.handshakes.serve(call.peer)
        shown = call.certificate()
        authorization = _authorization(context)
        if shown is None and not self._tokens.admits(authorization):
            why = (
                "the token is missing or unknown: enroll the host, or set token_file in the agent's [uplink]"
            )
            await call.turn_away(await self.door.turned_away(call.peer, "token", why))
        admits = (
            partial(self._entry.by_token, authorization)
            if shown is None
            else partial(self._entry.by_certificate, shown)
        )
        try:
            await self.door.serve(call, admits)
        except TurnedAway as why:
            await call.turn_away(why)


def _authorization(context: Any) -> str:  # noqa: ANN401
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            return value if isinstance(value, str) else ""
    return ""
