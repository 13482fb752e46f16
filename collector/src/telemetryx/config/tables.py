"""Every table and key of the file, with its default, its bounds and what it is for: the only description that there is."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self, get_args
from urllib.parse import parse_qs, urlsplit

from pydantic import BeforeValidator, ByteSize, ConfigDict, Field, PlainSerializer, model_validator

from telemetryx.api.times import format_duration, parse_duration
from telemetryx.documented import Documented
from telemetryx.gateway.address import address, loopback

LAST_PORT: Final = 65_535
LISTEN: Final = r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.\-]+):\d{1,5}"


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


#: Nanoseconds inside, `15m` in the file.
Duration = Annotated[
    int,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    Field(gt=0, json_schema_extra={"x-kind": "duration"}),
]


class Section(Documented):
    """A table of the file: closed (unknown keys are errors) and never changed after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Listen(Section):
    """What every listening socket has: an address, TLS files and tokens."""

    listen: str
    tls: Literal["auto", "own"] = "auto"
    """`auto`: with tls_cert_file where it is set, else off loopback with a certificate of the collector's own authority. `own`: with that one on loopback too."""
    tls_cert_file: Path | None = None
    """Certificate chain, PEM, in place of the collector's own."""
    tls_key_file: Path | None = None
    """The certificate's private key, PEM."""
    token_file: Path | None = None
    """File with one token a line (`telemetryx token new` makes one; # starts a comment)."""

    @property
    def host(self) -> str:
        """Return the address without the port."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Return the port; 0 lets the system choose one."""
        return int(self.listen.rpartition(":")[2])

    @property
    def loopback(self) -> bool:
        """Whether only programs on this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def own_certificate(self) -> bool:
        """Whether it speaks TLS with a certificate of the collector's own authority."""
        return self.tls_cert_file is None and (self.tls == "own" or not self.loopback)

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return self.tls_cert_file is not None or self.own_certificate

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        name = type(self).__name__.lower()
        if not re.fullmatch(LISTEN, self.listen) or self.port > LAST_PORT:
            raise ValueError(
                f'[{name}] listen = {self.listen!r} is not an address with a port; write e.g. "127.0.0.1:8420" or "[::1]:8420"'
            )
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError(f"[{name}] needs tls_cert_file and tls_key_file together: set both, or neither")
        if self.tls == "own" and self.tls_cert_file is not None:
            raise ValueError(f'[{name}] has tls = "own" and a tls_cert_file: leave one of them out')
        return self


class Collector(Section):
    """The process itself."""

    data_dir: Path = Path("/var/lib/telemetryx/collector")
    """Where everything that must survive is kept. Relative paths below start here."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe log line that is written."""
    log_format: Literal["auto", "console", "json"] = "auto"
    """`auto` writes for people on a terminal and JSON elsewhere."""
    shutdown_timeout: Duration = parse_duration("15s")
    """How long a stopping collector waits for open requests and commits."""


class Oidc(Section):
    """Signing in at a provider with OpenID Connect, beside accounts (docs/how-to/accounts.md)."""

    issuer: str | None = Field(default=None, examples=["https://login.example/realms/plant"])
    """The provider, as it calls itself: under this address is its `/.well-known/openid-configuration`."""
    name: str = Field(default="", max_length=60)
    """What people call it, for `Sign in with NAME`; empty: its host."""
    client_id: str = Field(default="telemetryx", min_length=1, max_length=300)
    """Who this collector is there. Register it with the address that ends in `/api/v1/oidc/callback`."""
    client_secret_file: Path | None = None
    """File with the secret that goes with it; none for a public client."""
    ca_file: Path | None = None
    """Certificates that the provider's is checked against, PEM; the system's where it isn't set."""
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    """What it is asked for. Some give groups only for a scope of their own."""
    user_claim: str = Field(default="preferred_username", min_length=1)
    """Under what it says a person's name: small letters, digits and `. _ - @`."""
    role_claim: str = Field(default="groups", min_length=1)
    """Under what it says their groups or roles; a path like `realm_access.roles` leads further in."""
    admins: tuple[str, ...] = ()
    """Values of it that make an admin."""
    operators: tuple[str, ...] = ()
    """Values of it that make an operator."""
    viewers: tuple[str, ...] = ()
    """Values of it that make a viewer; `*` stands for everybody whom the provider lets in. Who has none of all these isn't let in."""
    session_lifetime: Duration = parse_duration("12h")
    """How long a browser stays logged in; what changed at the provider counts from the next login on."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.issuer is None:
            if any(getattr(self, name) != one.default for name, one in type(self).model_fields.items()):
                raise ValueError("[api.oidc] has no issuer: set it too, or leave the table out")
            return self
        parts = urlsplit(self.issuer)
        plain = parts.scheme == "http" and loopback(parts.hostname or "")
        odd = parts.query or parts.fragment or "@" in parts.netloc
        if not parts.hostname or odd or not (parts.scheme == "https" or plain):
            raise ValueError(
                f'[api.oidc] issuer = {self.issuer!r} is no https address; write e.g. "https://login.example/realms/plant"'
            )
        if "openid" not in self.scopes:
            raise ValueError(
                '[api.oidc] scopes lacks "openid": without it the provider says nothing about who somebody is'
            )
        if not (self.admins or self.operators or self.viewers):
            raise ValueError(
                '[api.oidc] lets nobody in: say which values of role_claim make admins, operators and viewers; viewers = ["*"] is everybody'
            )
        return self

    @property
    def shown(self) -> str:
        """Return what people call it."""
        return self.name or urlsplit(self.issuer or "").hostname or ""


class Api(Listen):
    """The people's door: REST, WebSocket, console, /metrics."""

    listen: str = "127.0.0.1:8420"
    """Address and port of HTTP. Off loopback it speaks TLS, and people need an account or a token."""
    token_file: Path | None = None
    """File with one token a line (`telemetryx token new` makes one; # starts a comment): each may do everything, as admins may."""
    accounts: bool = False
    """Ask for an account or a token on loopback too (docs/how-to/accounts.md). Without, anybody on this machine may do anything until there is an account or a token_file."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names this server is reached by (Host header); its own address and, on loopback, localhost always count."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of reverse proxies before this server (docs/how-to/accounts.md): who comes over them has the address in X-Forwarded-For, and needs an account or a token."""
    session_lifetime: Duration = parse_duration("30d")
    """How long a browser stays logged in."""
    hsts: Literal["auto", "off"] = "auto"
    """`auto`: with TLS, here or at a proxy (an https external_url), browsers are told to come to this name with TLS only, for a year and on every port of it (docs/how-to/accounts.md)."""
    max_body: ByteSize = ByteSize(1 << 20)
    """Largest request body."""
    max_requests_per_second: float = Field(default=200.0, gt=0)
    """Sustained requests of one peer address, with bursts of twice as many; more get 429 with Retry-After. Over all processes that share [hot]."""
    max_live_clients: int = Field(default=200, ge=1)
    """WebSocket clients at once; more get 503 with Retry-After."""
    query_timeout: Duration = parse_duration("30s")
    """A query that takes longer is given up with 503."""
    export_timeout: Duration = parse_duration("1h")
    """An export that takes longer, as of who doesn't read it, is given up: 503, or the connection is broken off where a part of it was sent."""
    max_query_series: int = Field(default=500, ge=1)
    """Series that one query may return; the answer says when more matched."""
    max_query_points: int = Field(default=1_000_000, ge=100)
    """Points that one answer may hold over all its series; the answer says when it was cut."""
    oidc: Oidc = Oidc()
    """Signing in at a provider."""

    @property
    def closed(self) -> bool:
        """Whether an account or a token is needed even while there is none."""
        return (
            self.accounts or not self.loopback or bool(self.trusted_proxies) or self.oidc.issuer is not None
        )

    @model_validator(mode="after")
    def _proxied(self) -> Self:
        for proxy in self.trusted_proxies:
            try:
                ipaddress.ip_network(proxy, strict=False)
            except ValueError as error:
                raise ValueError(
                    f'[api] trusted_proxies holds {proxy!r}, which is no address or network; write e.g. "127.0.0.1" or "10.0.0.0/24"'
                ) from error
        return self


class SiteBroker(Section):
    """The agents' door over a site's MQTT broker, beside gRPC: the same frames, signed with the enrolled hosts' keys, or with the agents' tokens."""

    url: str | None = None
    """The broker: `mqtts://broker.example:8883`, or `mqtt://` on loopback."""
    prefix: str = Field(
        default="telemetryx", pattern=r"^[A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)*$", max_length=200
    )
    """First part of the topics; the same as `mqtt_prefix` in the agents' [uplink]."""
    user: str | None = None
    """User name at the broker."""
    password_file: Path | None = None
    """File with the password."""
    ca_file: Path | None = None
    """Certificates that the broker's is checked against, PEM; the system's where it isn't set."""
    cert_file: Path | None = None
    """Client certificate for the broker, PEM."""
    key_file: Path | None = None
    """Its private key, PEM."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.url is not None:
            address(self.url)
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("[gateway.mqtt] needs cert_file and key_file together: set both, or neither")
        if self.password_file is not None and self.user is None:
            raise ValueError("[gateway.mqtt] has a password_file and no user: set user too")
        return self


class Gateway(Listen):
    """The agents' door: gRPC."""

    listen: str = "127.0.0.1:8421"
    """Address and port of gRPC. Off loopback it speaks TLS, and agents show a certificate (docs/how-to/enrol.md) or a token."""
    client_certificates: Literal["auto", "required", "off"] = "auto"
    """Whether agents must show the certificate that they got when they were enrolled. `auto`: off loopback, unless token_file lets them in there."""
    token_listen: str | None = None
    """A second address for agents that have a token and no certificate, beside `listen` for those that are enrolled. Needs token_file."""
    max_sessions: int = Field(default=5_000, ge=1)
    """Agents connected at once."""
    max_new_sessions_per_second: float = Field(default=100.0, gt=0)
    """Sessions that may begin in a second; who comes too early is told when it is its turn. Over all processes that share [hot]."""
    credit: ByteSize = ByteSize(4 << 20)
    """Payload bytes of one agent that may be on the way and not yet acknowledged; less with many agents: `[ingest] max_queue` is shared."""
    max_batch: ByteSize = ByteSize(4 << 20)
    """Largest payload of one batch."""
    mqtt: SiteBroker = SiteBroker()
    """The same door over a site's broker."""

    @property
    def wants_certificates(self) -> bool:
        """Whether agents show certificates at `listen`."""
        if self.client_certificates == "auto":
            return self.token_listen is not None or (not self.loopback and self.token_file is None)
        return self.client_certificates == "required"

    @property
    def token_address(self) -> tuple[str, int] | None:
        """Return host and port of the second address."""
        if self.token_listen is None:
            return None
        host, _, port = self.token_listen.rpartition(":")
        return host.strip("[]"), int(port)

    @model_validator(mode="after")
    def _entered(self) -> Self:
        if self.wants_certificates and not self.secure:
            raise ValueError(
                '[gateway] wants certificates on loopback, where it speaks no TLS: set tls = "own"'
            )
        if not self.wants_certificates and not self.loopback and self.token_file is None:
            raise ValueError(
                f'[gateway] listen = {self.listen!r} can be reached from other machines, and client_certificates = "off" lets '
                "everybody in: set token_file too, or leave client_certificates out"
            )
        if self.token_listen is not None:
            if not re.fullmatch(LISTEN, self.token_listen) or self.token_address == (self.host, self.port):
                raise ValueError(
                    f'[gateway] token_listen = {self.token_listen!r} is no other address with a port; write e.g. "0.0.0.0:8422"'
                )
            if self.token_file is None:
                raise ValueError("[gateway] has a token_listen and no token_file: set token_file too")
        return self


class Enroll(Section):
    """Hosts that join with a token and get a certificate from the collector's own authority (docs/how-to/enrol.md)."""

    approve: Literal["token", "operator"] = "token"
    """Who lets a host in: the token alone, or also a person, with `telemetryx agents approve NAME`."""
    certificate_lifetime: Duration = parse_duration("90d")
    """How long an agent's certificate is valid; agents renew at two thirds of it, and later too."""
    dir: Path = Path("ca")
    """Where the authority's key and certificate are, and the collector's own certificate. Collectors that share a store share a copy of it."""
    names: tuple[str, ...] = ()
    """Further names and addresses in the collector's own certificate, for browsers; agents need none."""
    url: str = Field(default="", pattern=r"^(https?://[^\s/]+/?)?$")
    """Where hosts reach the people's door, for the line to paste; empty: this machine's name, and the port of [api]."""
    gateway_url: str = Field(default="", pattern=r"^(https?://[^\s/]+/?)?$")
    """Where agents reach the agents' door; empty: the host by which they joined, and the port of [gateway]."""


class Ingest(Section):
    """Between gateway and store."""

    max_queue: ByteSize = ByteSize(64 << 20)
    """Payload bytes that may wait for their commit, over all agents; at it the gateway slows agents down."""
    max_group: int = Field(default=64, ge=1, le=4_000)
    """Batches that one transaction may hold."""
    max_series_per_agent: int = Field(default=200_000, ge=1)
    """Series that one agent may have. Readings of further ones are refused and counted (docs/how-to/retention.md); the others go on."""
    max_series: int = Field(default=2_000_000, ge=1)
    """Series that all agents together may have."""
    future_limit: Duration = parse_duration("1d")
    """How far ahead of the collector's clock a time may be; a batch with a later one is kept apart (docs/how-to/clock.md)."""


class Store(Section):
    """Where data is kept."""

    path: Path = Path("telemetry.db")
    """The SQLite file, where no url is set."""
    url: str | None = Field(default=None, examples=["postgresql://telemetryx@localhost/telemetryx"])
    """A PostgreSQL database in its place (docs/how-to/postgresql.md). To another machine with `?sslmode=verify-full`."""
    password_file: Path | None = None
    """File with the password for it. Without one, PGPASSFILE or ~/.pgpass is asked."""
    readers: int = Field(default=4, ge=1, le=64)
    """Connections that read at the same time."""
    raw_retention: Duration = parse_duration("30d")
    """How long raw samples and windows are kept, by event time. What is older on arrival still gets its rollups."""
    rollup_retention: Duration = parse_duration("730d")
    """How long rollups (1 m, 1 h) are kept, at least as long as raw data. What is older on arrival is counted as `expired`, not stored."""
    event_retention: Duration = parse_duration("90d")
    """How long events are kept."""
    audit_retention: Duration = parse_duration("730d")
    """How long the audit log is kept: who changed what."""
    compact_interval: Duration = parse_duration("10s")
    """How often the collector looks for batches that are due to become chunks and rollups: 10 s to 5 min after they came, by their size (docs/how-to/retention.md). The work is bounded and ingest goes first."""
    retention_interval: Duration = parse_duration("15m")
    """How often what is past its retention is deleted."""
    plain_rows: bool = False
    """Keep raw samples as rows of table `sample` too, for SQL and other programs (docs/how-to/plain-rows.md). They take 12 to 60 times the disk of compressed ones."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.url is not None:
            database_address(self.url)
        elif self.password_file is not None:
            raise ValueError("[store] has a password_file and no url: set url too")
        if self.rollup_retention < self.raw_retention:
            raise ValueError(
                f"[store] rollup_retention ({format_duration(self.rollup_retention)}) is shorter than raw_retention "
                f"({format_duration(self.raw_retention)}): queries by minutes and hours read rollups, and would leave out raw data that is there. "
                "Keep rollups at least as long"
            )
        return self


def database_address(url: str, what: str = "[store] url") -> None:
    """Refuse what is no address of a PostgreSQL database; the message never shows the url, which may hold a password."""
    example = "postgresql://telemetryx@db.example/telemetryx?sslmode=verify-full"
    try:
        parts = urlsplit(url)
        host, _, secret = parts.hostname or "", parts.port, parts.password
    except ValueError as error:
        raise ValueError(f"{what} is not an address ({error}); write e.g. {example!r}") from None
    options = parse_qs(parts.query)
    if parts.scheme not in {"postgresql", "postgres"} or len(parts.path) < 2:  # noqa: PLR2004 - a slash and a name
        raise ValueError(f"{what} must name a PostgreSQL database; write e.g. {example!r}")
    if secret is not None or "password" in options:
        raise ValueError(f"{what} holds a password: write it to a file and name that in password_file")
    host = host or options.get("host", [""])[0]
    if host and not host.startswith("/") and not loopback(host) and "sslmode" not in options:
        raise ValueError(
            f"{what} leads to another machine ({host}): say how it is secured, "
            "`?sslmode=verify-full` (or `sslmode=disable` in a network that you trust)"
        )


class Hot(Section):
    """Newest values, rates, limits and wake-ups that several collector processes share; in memory where no url is set."""

    url: str | None = Field(default=None, examples=["rediss://redis.example:6379/0"])
    """A Redis server: `rediss://` (TLS), `redis://`, or `unix:///run/redis/redis.sock` (docs/how-to/redis.md). It may be lost at any time."""
    user: str | None = None
    """User name there, where it isn't `default`."""
    password_file: Path | None = None
    """File with the password."""
    ca_file: Path | None = None
    """Certificates that the server's is checked against, PEM; the system's where it isn't set."""
    allow_plaintext: bool = False
    """Let `redis://` lead to another machine: only in a network that you trust."""
    namespace: str = Field(default="telemetryx", pattern=r"^[A-Za-z0-9_.\-]+$", max_length=100)
    """First part of the keys. What belongs to different stores is kept apart under it by itself."""
    timeout: Duration = parse_duration("500ms")
    """A server that takes longer for an answer counts as away until it is fast again."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.url is not None:
            _redis(self.url, plaintext=self.allow_plaintext)
        elif self.user is not None or self.password_file is not None or self.ca_file is not None:
            raise ValueError("[hot] has a user, password_file or ca_file and no url: set url too")
        if self.user is not None and self.password_file is None:
            raise ValueError("[hot] has a user and no password_file: set password_file too")
        return self


def _redis(url: str, *, plaintext: bool) -> None:
    """Refuse what is no address of a Redis server; the message never shows the url, which may hold a password."""
    example = "rediss://redis.example:6379/0"
    try:
        parts = urlsplit(url)
        host, _, secret = parts.hostname or "", parts.port, parts.password or parts.username
    except ValueError as error:
        raise ValueError(f"[hot] url is not an address ({error}); write e.g. {example!r}") from None
    local = parts.scheme == "unix"
    if parts.scheme not in {"redis", "rediss", "unix"} or not (parts.path if local else host):
        raise ValueError(
            f"[hot] url must name a Redis server; write e.g. {example!r} or 'unix:///run/redis/redis.sock'"
        )
    database = parse_qs(parts.query).get("db", ["0"])[0] if local else parts.path.strip("/") or "0"
    if not database.isdecimal() or (parts.query and not local):
        raise ValueError(
            f"[hot] url must end in the database's number, or in nothing; write e.g. {example!r}"
        )
    if secret is not None:
        raise ValueError(
            "[hot] url holds a user or a password: set user, write the password to a file and name that in password_file"
        )
    if parts.scheme == "redis" and not loopback(host) and not plaintext:
        raise ValueError(
            f"[hot] url leads to another machine ({host}) without TLS: write rediss://, "
            "or set allow_plaintext in a network that you trust"
        )


class Rules(Section):
    """What is judged."""

    defaults: bool = True
    """Load the two rules that come with the package: agent silent, host metric anomalous."""
    files: tuple[Path, ...] = ()
    """YAML files with rule groups; `telemetryx rules check FILE` checks one."""
    interval: Duration = parse_duration("1s")
    """How often rules about the link (an agent is silent) look at the connection log."""


class Webhook(Section):
    """One address that gets every change of an alert."""

    url: str = Field(pattern=r"^https?://[^\s]+$")
    """Where each alert is posted as JSON."""
    token_file: Path | None = None
    """Sent as `Authorization: Bearer …`."""
    timeout: Duration = parse_duration("10s")
    """How long one attempt may take; failed ones are tried again with growing pauses."""


class Notify(Section):
    """Who is told about alerts."""

    external_url: str = Field(default="", pattern=r"^(https?://[^\s/]\S*)?$")
    """Where people reach the console, for links in messages."""
    webhook: tuple[Webhook, ...] = ()
    """Write one `[[notify.webhook]]` table for each address."""


class Tracing(Section):
    """Traces of the collector's own work on batches whose trace is sampled (docs/how-to/tracing.md)."""

    endpoint: str | None = None
    """Where spans go: the base URL of an OTLP/HTTP receiver, such as `https://otel.example:4318`; `/v1/traces` is added. Plain http only to this machine. Without it nothing is exported."""
    token_file: Path | None = None
    """File with a token, sent as `Authorization: Bearer`; only its owner may read it."""
    headers_file: Path | None = None
    """File with further headers, one `Name: value` a line; only its owner may read it."""
    ca_file: Path | None = None
    """PEM file of the authorities that the receiver's certificate may be signed by; without it the system's."""
    timeout: Duration = parse_duration("10s")
    """How long the receiver may take to connect and to answer."""

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.endpoint is None:
            return self
        parts = urlsplit(self.endpoint)
        host = parts.hostname or ""
        if (
            parts.scheme not in {"http", "https"}
            or not host
            or parts.port == 0
            or parts.query
            or "@" in parts.netloc
        ):
            raise ValueError(
                f'[tracing] endpoint = {self.endpoint!r} is no address; write e.g. "https://otel.example:4318"'
            )
        if parts.scheme == "http" and not loopback(host):
            raise ValueError(
                f"[tracing] endpoint = {self.endpoint!r} would send spans and the token in plain text: take https://"
            )
        return self


class Models(Section):
    """What is trained here and run by agents."""

    dir: Path = Path("models")
    """The model registry."""


def table_of(annotation: object) -> type[Section] | None:
    """Return the section inside `tuple[Section, ...]`: an array of tables in TOML."""
    for item in get_args(annotation):
        if isinstance(item, type) and issubclass(item, Section):
            return item
    return None
