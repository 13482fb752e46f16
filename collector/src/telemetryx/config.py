"""The collector's configuration: one TOML file, overridden by TELEMETRYX_<SECTION>__<KEY> in the environment.

The types below are the only description of the keys: the commented example, docs/reference/collector-config.md and the
error messages come from them. An unknown key is refused with its line and the nearest known one, never ignored.
"""

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args
from urllib.parse import parse_qs, urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from telemetryx.api.times import format_duration, parse_duration
from telemetryx.gateway.address import address, loopback

ENV_PREFIX: Final = "TELEMETRYX_"
LAST_PORT: Final = 65_535
_PEM: Final = frozenset({"ca_file", "cert_file", "key_file"})


class ConfigError(Exception):
    """The configuration can't be used. `problems` has one sentence each, with file and line where there is one."""

    def __init__(self, problems: list[str]) -> None:
        """Keep the single problems; the text joins them."""
        self.problems = problems
        super().__init__("\n".join(problems))


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


#: Nanoseconds inside, `15m` in the file.
Duration = Annotated[
    int,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    Field(gt=0, json_schema_extra={"x-kind": "duration"}),
]


class Section(BaseModel):
    """A table of the file: closed (unknown keys are errors) and never changed after it was read."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True
    )


class Listen(Section):
    """What every listening socket has: an address, TLS files and tokens."""

    listen: str
    tls_cert_file: Path | None = None
    """Certificate chain, PEM. Off loopback it must be set."""
    tls_key_file: Path | None = None
    """The certificate's private key, PEM."""
    token_file: Path | None = None
    """File with one token a line (`telemetryx token new` makes one; # starts a comment). Off loopback it must be set."""

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

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        name = type(self).__name__.lower()
        if (
            not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.\-]+):\d{1,5}", self.listen)
            or self.port > LAST_PORT
        ):
            raise ValueError(
                f'[{name}] listen = {self.listen!r} is not an address with a port; write e.g. "127.0.0.1:8420" or "[::1]:8420"'
            )
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError(f"[{name}] needs tls_cert_file and tls_key_file together: set both, or neither")
        if not self.loopback:
            missing = [
                key for key in ("tls_cert_file", "tls_key_file", "token_file") if getattr(self, key) is None
            ]
            if missing:
                raise ValueError(
                    f"[{name}] listen = {self.listen!r} can be reached from other machines, so {' and '.join(missing)} must be set "
                    f"(or listen on 127.0.0.1)"
                )
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


class Api(Listen):
    """The people's door: REST, WebSocket, console, /metrics."""

    listen: str = "127.0.0.1:8420"
    """Address and port of HTTP. Off loopback, TLS and a token are required."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names this server is reached by (Host header); its own address and, on loopback, localhost always count."""
    session_lifetime: Duration = parse_duration("30d")
    """How long a browser stays logged in."""
    max_body: ByteSize = ByteSize(1 << 20)
    """Largest request body."""
    max_requests_per_second: float = Field(default=200.0, gt=0)
    """Sustained requests of one peer address, with bursts of twice as many; more get 429 with Retry-After."""
    max_live_clients: int = Field(default=200, ge=1)
    """WebSocket clients at once; more get 503 with Retry-After."""
    query_timeout: Duration = parse_duration("30s")
    """A query that takes longer is given up with 503."""
    max_query_series: int = Field(default=500, ge=1)
    """Series that one query may return; the answer says when more matched."""
    max_query_points: int = Field(default=1_000_000, ge=100)
    """Points that one answer may hold over all its series; the answer says when it was cut."""


class SiteBroker(Section):
    """The agents' door over a site's MQTT broker, beside gRPC: the same frames, signed with the agents' tokens."""

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
    """Address and port of gRPC. Off loopback, TLS and a token are required."""
    max_sessions: int = Field(default=5_000, ge=1)
    """Agents connected at once."""
    max_new_sessions_per_second: float = Field(default=100.0, gt=0)
    """Sessions that may begin in a second; who comes too early is told when it is its turn."""
    credit: ByteSize = ByteSize(4 << 20)
    """Payload bytes of one agent that may be on the way and not yet acknowledged; less with many agents: `[ingest] max_queue` is shared."""
    max_batch: ByteSize = ByteSize(4 << 20)
    """Largest payload of one batch."""
    mqtt: SiteBroker = SiteBroker()
    """The same door over a site's broker."""

    @model_validator(mode="after")
    def _signed(self) -> Self:
        url = self.mqtt.url
        if url is not None and self.token_file is None and not loopback(address(url).host):
            raise ValueError(
                f"[gateway.mqtt] url = {url!r} leads to a broker that others use: set token_file in [gateway], "
                "frames are signed with the agents' tokens"
            )
        return self


class Ingest(Section):
    """Between gateway and store."""

    max_queue: ByteSize = ByteSize(64 << 20)
    """Payload bytes that may wait for their commit, over all agents; at it the gateway slows agents down."""
    max_group: int = Field(default=64, ge=1)
    """Batches that one transaction may hold."""
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
    """How long rollups (1 m, 1 h) are kept. What is older on arrival is counted as `expired`, not stored."""
    event_retention: Duration = parse_duration("90d")
    """How long events are kept."""
    compact_interval: Duration = parse_duration("10s")
    """How often stored batches are turned into chunks and rollups. The work is bounded and ingest goes first."""
    retention_interval: Duration = parse_duration("15m")
    """How often what is past its retention is deleted."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.url is not None:
            _database(self.url)
        elif self.password_file is not None:
            raise ValueError("[store] has a password_file and no url: set url too")
        return self


def _database(url: str) -> None:
    """Refuse what is no address of a PostgreSQL database; the message never shows the url, which may hold a password."""
    example = "postgresql://telemetryx@db.example/telemetryx?sslmode=verify-full"
    try:
        parts = urlsplit(url)
        host, _, secret = parts.hostname or "", parts.port, parts.password
    except ValueError as error:
        raise ValueError(f"[store] url is not an address ({error}); write e.g. {example!r}") from None
    options = parse_qs(parts.query)
    if parts.scheme not in {"postgresql", "postgres"} or len(parts.path) < 2:  # noqa: PLR2004 - a slash and a name
        raise ValueError(f"[store] url must name a PostgreSQL database; write e.g. {example!r}")
    if secret is not None or "password" in options:
        raise ValueError("[store] url holds a password: write it to a file and name that in password_file")
    host = host or options.get("host", [""])[0]
    if host and not host.startswith("/") and not loopback(host) and "sslmode" not in options:
        raise ValueError(
            f"[store] url leads to another machine ({host}): say how it is secured, "
            "`?sslmode=verify-full` (or `sslmode=disable` in a network that you trust)"
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

    external_url: str = ""
    """Where people reach the console, for links in messages."""
    webhook: tuple[Webhook, ...] = ()
    """Write one `[[notify.webhook]]` table for each address."""


class Models(Section):
    """What is trained here and run by agents."""

    dir: Path = Path("models")
    """The model registry."""


class Settings(BaseSettings):
    """The whole file."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=ENV_PREFIX, env_nested_delimiter="__", validate_default=True
    )

    collector: Collector = Collector()
    api: Api = Api()
    gateway: Gateway = Gateway()
    ingest: Ingest = Ingest()
    store: Store = Store()
    rules: Rules = Rules()
    notify: Notify = Notify()
    models: Models = Models()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, which arrives as arguments; read nothing else."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings

    def within(self, path: Path) -> Path:
        """Resolve a path of this configuration against the data directory."""
        return path if path.is_absolute() else self.collector.data_dir / path


def load(path: Path | None = None) -> Settings:
    """Read the file (none: defaults and environment alone), or raise ConfigError with every problem found."""
    text, origin = "", "environment"
    if path is not None:
        origin = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                [f"{path}: can't be read: {error}; `telemetryx config reference` prints a commented example"]
            ) from error
    return parse(text, origin)


def parse(text: str, origin: str) -> Settings:
    """Turn the file's text into settings; `origin` names it in messages."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{origin}: not valid TOML: {error}"]) from error
    problems = list(_unknown_environment(os.environ))
    settings: Settings | None = None
    try:
        settings = Settings(**tree)
    except ValidationError as error:
        lines = _lines(text)
        # An unknown key that the file doesn't hold came from the environment and was named above.
        problems += [
            _problem(dict(item), lines, origin, tree)
            for item in error.errors(include_url=False)
            if item["type"] != "extra_forbidden" or _holds(tree, tuple(map(str, item["loc"])))
        ]
    if problems or settings is None:
        raise ConfigError(problems)
    return settings


def example() -> str:
    """Write the fully commented example: every key with its default, each table with what it is for."""
    out = [
        "# The collector's configuration. Every key is shown with its default; remove the `#` before a key to change it.",
        f"# Each key can also be set in the environment: {ENV_PREFIX}API__LISTEN=127.0.0.1:8420 is `listen` in [api].",
        '# Durations are written like "250ms", "10s", "1h30m", "7d"; sizes like "64MiB".',
    ]
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if not (isinstance(section, type) and issubclass(section, Section)):
            continue
        out += ["", f"# {_first_line(section)}", f"[{name}]"]
        tables: list[str] = []
        for key, value in _fields(section):
            if isinstance(value.annotation, type) and issubclass(value.annotation, Section):
                tables += ["", f"# {_first_line(value.annotation)}", f"[{name}.{key}]"]
                for inner_key, inner_value in _fields(value.annotation):
                    tables += [
                        _comment(inner_value, "#"),
                        f"# {inner_key} = {_shown(inner_key, inner_value)}",
                    ]
                continue
            inner = _table_of(value.annotation)
            if inner is None:
                out += [_comment(value, "#"), f"# {key} = {_shown(key, value)}"]
            else:
                tables += ["", f"# {_first_line(inner)} {value.description or ''}", f"# [[{name}.{key}]]"]
                for inner_key, inner_value in _fields(inner):
                    tables += [
                        _comment(inner_value, "# #"),
                        f"# {inner_key} = {_shown(inner_key, inner_value)}",
                    ]
        out += tables
    return "\n".join(out) + "\n"


def reference() -> str:
    """Write docs/reference/collector-config.md: the example, framed by how it is read."""
    return (
        "# The collector's configuration\n\n"
        "Generated from `collector/src/telemetryx/config.py` (`telemetryx config reference --markdown`); a test keeps it fresh.\n\n"
        "`telemetryx collector --config FILE` reads one TOML file. Without one, the defaults below hold. A variable\n"
        f"`{ENV_PREFIX}<SECTION>__<KEY>` overrides the file. An unknown key, in either, is refused with its line and the nearest\n"
        "known key. `telemetryx config check FILE` says what is wrong without starting anything.\n\n"
        f"```toml\n{example()}```\n"
    )


def _fields(section: type[Section]) -> Iterator[tuple[str, FieldInfo]]:
    yield from section.model_fields.items()


def _first_line(section: type[BaseModel]) -> str:
    return (section.__doc__ or "").strip().splitlines()[0]


def _table_of(annotation: object) -> type[Section] | None:
    """Return the section inside `tuple[Section, ...]`: an array of tables in TOML."""
    for item in get_args(annotation):
        if isinstance(item, type) and issubclass(item, Section):
            return item
    return None


def _comment(field: FieldInfo, mark: str) -> str:
    unset = " Not set by default." if field.default is None else ""
    return f"{mark} {field.description or ''}{unset}"


def _shown(key: str, field: FieldInfo) -> str:
    """Write the default as TOML, or a value of the right kind where there is none."""
    if field.examples:
        return _toml(field.examples[0])
    if field.is_required():
        return '"https://example.net/alerts"'
    if key == "url":
        return '"mqtts://broker.example:8883"'
    if key == "user":
        return '"telemetryx"'
    if field.default is None:
        return f'"/etc/telemetryx/{key.removesuffix("_file").replace("_", "-")}{".pem" if key.startswith("tls_") or key in _PEM else ""}"'
    if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("x-kind") == "duration":
        return f'"{format_duration(field.default)}"'
    return _toml(field.default)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, ByteSize):
        return f'"{value.human_readable(separator="")}"'.replace(".0", "")
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, int | float):
        return str(value)
    return f'"{value}"'


def _problem(
    item: dict[str, Any], lines: Mapping[tuple[str, ...], int], origin: str, tree: Mapping[str, Any]
) -> str:
    """Say one validation error: where, what, with which value, and what to do."""
    location = tuple(str(part) for part in item["loc"])
    keys = tuple(part for part in location if not part.isdigit())
    dotted = ".".join(keys)
    line = next((lines[keys[:depth]] for depth in range(len(keys), 0, -1) if keys[:depth] in lines), None)
    at_key = _holds(tree, location)
    in_file = at_key or (item["type"] == "missing" and _holds(tree, location[:-1]))
    where = f"{origin}:{line}" if line is not None and in_file else origin
    if not at_key and item["type"] != "missing" and _environment_name(keys) in os.environ:
        where = _environment_name(keys)
    if item["type"] == "extra_forbidden":
        known = _known(keys[:-1])
        return f"{where}: unknown key `{dotted}`{_nearest(keys[-1], known)}"
    if item["type"] == "missing":
        return f"{where}: `{dotted}` is missing"
    message = str(item["msg"]).removeprefix("Value error, ")
    shown = "" if isinstance(item.get("input"), dict | BaseModel) else f" (got {item.get('input')!r})"
    return f"{where}: `{dotted}`: {message}{shown}"


def _environment_name(keys: tuple[str, ...]) -> str:
    return ENV_PREFIX + "__".join(keys).upper()


def _holds(tree: Mapping[str, Any], location: tuple[str, ...]) -> bool:
    node: Any = tree
    for part in location:
        if isinstance(node, Mapping) and part in node:
            node = node[part]
        elif isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            return False
    return True


def _known(keys: tuple[str, ...]) -> list[str]:
    fields: Mapping[str, FieldInfo] = Settings.model_fields
    for key in keys:
        annotation = fields[key].annotation if key in fields else None
        section = annotation if isinstance(annotation, type) else _table_of(annotation)
        if section is None or not issubclass(section, BaseModel):
            return []
        fields = section.model_fields
    return list(fields)


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean `{close[0]}`?"
    return f"; known here: {', '.join(known)}" if known else ""


def _unknown_environment(environment: Mapping[str, str]) -> Iterator[str]:
    """Find variables that look like settings and are none. Names without `__` belong to the command line."""
    for name in sorted(environment):
        if not name.upper().startswith(ENV_PREFIX) or "__" not in name:
            continue
        keys = tuple(part.lower() for part in name[len(ENV_PREFIX) :].split("__"))
        for depth, key in enumerate(keys):
            known = _known(keys[:depth])
            if key not in known:
                yield f"{name}: unknown setting{_nearest(key, known)}"
                break


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """Find the line of each key and table. tomllib keeps no positions; a scan of heads and `key =` is enough for messages."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if head := re.match(r"\[\[?\s*([A-Za-z0-9_.\-\" ]+?)\s*\]\]?", line):
            table = tuple(part.strip(' "') for part in head[1].split("."))
            found.setdefault(table, number)
        elif key := re.match(r"([A-Za-z0-9_.\-\"]+)\s*=", line):
            found.setdefault((*table, *(part.strip('"') for part in key[1].split("."))), number)
    return found
