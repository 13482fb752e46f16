"""What the collector's two doors are opened with: their certificates, who may come in, and the authority that says so."""

import contextlib
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import aiohttp

from telemetryx.api.metrics import Metric, Reading
from telemetryx.api.world import SignIn
from telemetryx.certificate import Certificate, CertificateError
from telemetryx.clock import Clock
from telemetryx.config import Listen, Settings, SiteBroker
from telemetryx.enrolment import own, service
from telemetryx.enrolment.authority import Authority
from telemetryx.enrolment.service import Enrolment
from telemetryx.gateway import server as gateway_server
from telemetryx.gateway import site
from telemetryx.place import Place
from telemetryx.secret import exposed
from telemetryx.store.tables.store import TableStore


class DoorError(Exception):
    """A door can't be opened; the message says why and what to do."""


def enrolment(settings: Settings, store: TableStore, clock: Clock) -> Enrolment:
    """Open the authority, and make the collector's own certificate where one is shown. Raises AuthorityError."""
    authority = Authority.open(settings.within(settings.enroll.dir), clock.now_ns())
    if shows_own(settings):
        _make_own(settings, authority, clock)
    return Enrolment(store, authority, clock, enrolment_policy(settings))


def shows_own(settings: Settings) -> bool:
    """Whether a door shows a certificate of our own authority."""
    return settings.api.own_certificate or settings.gateway.own_certificate


def _make_own(settings: Settings, authority: Authority, clock: Clock) -> None:
    policy, listen = settings.enroll, settings.api
    names = [
        name
        for host in (listen.host, settings.gateway.host)
        for name in own.names_of(host, (*policy.names, *listen.allowed_hosts))
    ]
    own.own(authority, settings.within(policy.dir), names, clock.now_ns())


class Certificates:
    """What the two doors show, kept fresh while they are open: our own is renewed, and files that somebody renewed are read."""

    def __init__(self, settings: Settings, authority: Authority, clock: Clock) -> None:
        """Read them. Raises DoorError."""
        self._settings, self._authority, self._clock = settings, authority, clock
        self.api = _shown(settings, settings.api, "api")
        self.gateway = _shown(settings, settings.gateway, "gateway")

    async def look(self) -> bool:
        """Renew and read what is due; there is never more to do at once."""
        folder = self._settings.within(self._settings.enroll.dir)
        if shows_own(self._settings) and own.due(folder, self._clock.now_ns()):
            # Of several processes one makes it, under a lock, and the others find it good.
            _make_own(self._settings, self._authority, self._clock)
        for one in (self.api, self.gateway):
            if one is not None:
                one.look()
        return False


def _shown(settings: Settings, listen: Listen, table: str) -> Certificate | None:
    """Read what a socket shows: its own files, the collector's certificate, or nothing on loopback."""
    if listen.own_certificate:
        made = own.files(settings.within(settings.enroll.dir))
        cert_file, key_file = made.cert_file, made.key_file
    elif listen.tls_cert_file is not None and listen.tls_key_file is not None:
        cert_file, key_file = listen.tls_cert_file, listen.tls_key_file
    else:
        return None
    try:
        return Certificate(cert_file, key_file)
    except CertificateError as error:
        raise DoorError(f"[{table}] tls_cert_file and tls_key_file: {error}") from error


def enrolment_policy(settings: Settings) -> service.Policy:
    """Say what is configured for hosts that join."""
    policy, listen = settings.enroll, settings.api
    host = own.met_as(listen.host)
    url = policy.url.rstrip("/") or f"{'https' if listen.secure else 'http'}://{host}:{listen.port}"
    return service.Policy(policy.certificate_lifetime, approve=policy.approve == "operator", url=url)


def met(settings: Settings, port: int) -> service.Gateway:
    """Say how agents meet their door."""
    listen = settings.gateway
    return service.Gateway(
        settings.enroll.gateway_url.rstrip("/"), port, listen.secure, listen.own_certificate
    )


async def sign_in(stack: contextlib.AsyncExitStack, settings: Settings) -> SignIn | None:
    """Open the way to the provider at which people sign in, where one is configured. Raises DoorError."""
    oidc = settings.api.oidc
    if oidc.issuer is None:
        return None
    # PyJWT is loaded only where tokens are checked.
    from telemetryx.api.oidc.person import Mapped  # noqa: PLC0415
    from telemetryx.api.oidc.provider import Config, Provider  # noqa: PLC0415

    try:
        trusted = ssl.create_default_context(cafile=oidc.ca_file)
        secret = None if oidc.client_secret_file is None else provider_secret(oidc.client_secret_file)
    except (OSError, ValueError) as error:
        raise DoorError(f"[api.oidc] can't be used: {error}") from error
    session = await stack.enter_async_context(
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted))
    )
    mapped = Mapped(oidc.user_claim, oidc.role_claim, oidc.admins, oidc.operators, oidc.viewers)
    home = own_url(settings, settings.api.port)
    config = Config(
        oidc.shown, oidc.issuer, oidc.client_id, secret, oidc.scopes, mapped, home, oidc.session_lifetime
    )
    return Provider(config, session)


def provider_secret(path: Path) -> str:
    """Read a secret; who else can read its file could sign in as this collector."""
    mode = exposed(path.stat())
    if mode is not None:
        raise DoorError(
            f"[api.oidc] client_secret_file {path} can be read by others (mode {mode:o}): chmod 600 {path}"
        )
    secret = path.read_text(encoding="utf-8").strip()
    if not secret:
        raise DoorError(
            f"[api.oidc] client_secret_file {path} is empty: write the provider's secret for this client there"
        )
    return secret


def own_url(settings: Settings, port: int) -> str:
    """Return where people find the console."""
    if settings.notify.external_url:
        return settings.notify.external_url.rstrip("/")
    listen = settings.api
    host = socket.getfqdn() if listen.host in {"0.0.0.0", "::"} else listen.host  # noqa: S104 - compared, not bound
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if listen.secure else 'http'}://{host}:{port}"


def proxied(settings: Settings) -> bool:
    """Whether a proxy before us speaks TLS with browsers."""
    return bool(settings.api.trusted_proxies) and settings.notify.external_url.startswith("https://")


def readings(enrolment: Enrolment) -> list[tuple[Metric, list[Reading]]]:
    """Read what became of requests to join and to renew."""
    return [
        (Metric.ENROLMENTS, [((name,), float(count)) for name, count in sorted(enrolment.granted.items())]),
        (
            Metric.ENROLMENTS_REFUSED,
            [((name,), float(count)) for name, count in sorted(enrolment.refused.items())],
        ),
    ]


def gateway_config(
    settings: Settings, place: Place, shared: str, certificate: Certificate | None
) -> gateway_server.Config:
    """Say how the agents' door is opened; `shared` names a store that other hosts use too."""
    listen = settings.gateway
    broker = _site_config(listen.mqtt)
    if broker is not None and shared:
        # The same name for all who share a store, on whatever host: one takes the other's place at the broker.
        broker = replace(broker, place=f"{shared} {broker.prefix}")
    return gateway_server.Config(
        host=listen.host,
        port=listen.port,
        certificate=certificate,
        token_file=listen.token_file,
        certificates=listen.wants_certificates,
        token_address=listen.token_address,
        credit=listen.credit,
        max_batch=listen.max_batch,
        max_sessions=listen.max_sessions,
        pool=settings.ingest.max_queue,
        hellos_per_second=listen.max_new_sessions_per_second,
        mqtt=broker,
        share_port=place.shared,
        share_site=bool(shared),
    )


def _site_config(broker: SiteBroker) -> site.Config | None:
    if broker.url is None:
        return None
    return site.Config(
        url=broker.url,
        prefix=broker.prefix,
        user=broker.user,
        password_file=broker.password_file,
        ca_file=broker.ca_file,
        cert_file=broker.cert_file,
        key_file=broker.key_file,
    )
