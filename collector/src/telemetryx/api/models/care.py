"""Remote care of agents: /api/v1/configs, /api/v1/requests, and what an agent's page shows of it."""

from typing import Annotated, Any, Literal

from pydantic import Field

from telemetryx.api.models.fields import Limit, Name, Text
from telemetryx.api.patterns import CANARY, LEVEL
from telemetryx.api.route import Model, Nanoseconds, Span

DAY_NS = 86_400 * 10**9
Version = Annotated[int, Field(ge=1, le=2**53)]
Phase = Literal["unsupported", "none", "waiting", "trial", "applied", "failed", "declined"]
Canary = Annotated[str, Field(pattern=CANARY)]


class ConfigBody(Model):
    """A configuration for agents. Without `agent` and `match` it is for all."""

    toml: Annotated[str, Field(max_length=262_144)]
    """Its text, at most 256 KiB: what differs from the files on the hosts, without secrets."""
    agent: Annotated[str, Field(max_length=255)] = ""
    """Only for this agent."""
    match: Annotated[str, Field(max_length=1_000)] = ""
    """Only for agents whose labels meet this: `site="plant1", os="linux"`; `agent` is their name."""
    note: Annotated[str, Field(max_length=500)] = ""
    """Why."""
    canary: Canary = ""
    """How many agents get it first, as a number or a part like `10%`; the rest when all of these have applied it."""


class AgainBody(Model):
    """How an old configuration is pushed anew."""

    canary: Canary = ""
    """How many agents get it first."""


class ConfigParams(Model):
    """One configuration."""

    id: Version
    """Its version."""


class ConfigsParams(Model):
    """Which configurations."""

    before: Version | None = None
    """Only those before this version."""
    limit: Limit = 100
    """Rows in the answer."""


class Config(Model):
    """A configuration that was pushed."""

    version: int
    """Its number, counted over all."""
    agent: str
    """The only agent that it is for; empty: any."""
    match: str
    """The labels of those that it is for; empty: any."""
    state: Literal["canary", "everywhere", "stopped", "taken_back"]
    """`canary`: its first agents alone have it; `stopped`: it failed at one of these and goes no further."""
    reason: str
    """Why it was stopped."""
    author: str
    """Who pushed it."""
    note: str
    """Why."""
    created_ns: Nanoseconds
    """When."""
    taken_back_ns: Nanoseconds | None
    """When it was taken back."""
    digest: str
    """SHA-256 of its text, hexadecimal."""
    bytes: int
    """Size of its text."""
    canary: list[str]
    """Who gets it first."""


class ConfigsAnswer(Model):
    """Configurations, newest first."""

    configs: list[Config]
    """One row each."""
    next: int | None
    """Give it as `before` for the next page; null on the last."""


class ConfigAnswer(Config):
    """A configuration with its text."""

    toml: str
    """Its text."""


class TakenBackAnswer(Config):
    """The configuration, as it stands now."""


class Replaced(Model):
    """What agents should have now."""

    version: int
    """A configuration; 0: none."""
    agents: int
    """How many agents."""


class ReachAnswer(Model):
    """What pushing it would do."""

    agents: list[str]
    """Who would get it."""
    offline: int
    """How many of them aren't connected: they get it when they are."""
    unsupported: list[str]
    """Who is meant and takes none: an older agent, or one whose file says so."""
    overruled: list[str]
    """Who is meant and keeps a more specific one."""
    first: list[str]
    """Who would get it first; empty without a canary."""
    replaced: list[Replaced]
    """What they should have now, most agents first."""


class PushedAnswer(ReachAnswer):
    """What was pushed, and whom it reaches."""

    config: Config
    """The configuration."""


class ConfigStatesParams(Model):
    """Which agents."""

    phase: Phase | None = None
    """Only those in this phase."""
    version: Version | None = None
    """Only those that should have this configuration."""
    filter: Text = ""
    """Text that the name must contain."""
    limit: Limit = 1_000
    """Rows in the answer."""


class ConfigState(Model):
    """How far an agent is with the configuration that it should have."""

    agent: str
    """Its name."""
    connected: bool
    """Whether its session is open now."""
    wanted: int
    """The configuration that it should have; 0: none, the file on its host is all there is."""
    phase: Phase
    """`waiting`: what it should have hasn't come to it yet; `failed`: it returned to the one before; `unsupported`: an older agent."""
    reason: str
    """Why it failed, in the agent's words."""
    version: int
    """The newest that came to it; 0: none."""
    in_force: int
    """The one in force; 0: the file on its host alone."""
    at_ns: Nanoseconds | None
    """When it came to this, by the agent's clock."""
    requests: bool
    """Whether it takes requests."""


class ConfigStatesAnswer(Model):
    """Agents by name."""

    agents: list[ConfigState]
    """One row each."""
    total: int
    """Agents that match."""
    counts: dict[str, int]
    """All agents by phase."""


class LogLevelBody(Model):
    """Another log level for a while."""

    level: Annotated[str, Field(max_length=1_000, pattern=LEVEL)]
    """As `[agent] log` takes it: `debug`, or `info,uplink=trace`; empty: back to the configuration's own."""
    duration: Annotated[Span, Field(ge=10**9, le=DAY_NS)] = 900 * 10**9
    """For how long, at most a day."""
    wait: Annotated[Span, Field(ge=10**9, le=DAY_NS)] = 600 * 10**9
    """How long it is worth sending while the agent isn't connected."""


class DiagnosticsBody(Model):
    """A bundle for whoever has to understand an agent."""

    wait: Annotated[Span, Field(ge=10**9, le=DAY_NS)] = 600 * 10**9
    """How long it is worth sending while the agent isn't connected."""


class CareParams(Model):
    """One agent."""

    name: Name
    """Its name."""


class RequestParams(Model):
    """One request."""

    id: Annotated[int, Field(ge=1, le=2**53)]
    """Its number."""


class RequestsParams(Model):
    """Which requests."""

    agent: Text | None = None
    """Only to this agent."""
    limit: Limit = 100
    """Rows in the answer."""


class RequestAnswer(Model):
    """Something asked of an agent."""

    id: int
    """Its number."""
    agent: str
    """Whom."""
    kind: Literal["log_level", "diagnostics"]
    """What."""
    args: dict[str, Any]
    """With what."""
    author: str
    """Who asked."""
    state: Literal["waiting", "asked", "done", "failed", "lapsed"]
    """`waiting`: not sent yet; `asked`: being answered; `lapsed`: the agent wasn't connected in time."""
    reason: str
    """Why it failed."""
    bytes: int
    """Size of the answer so far; `GET /api/v1/requests/{id}/answer` gives it once it is done."""
    created_ns: Nanoseconds
    """When it was asked."""
    changed_ns: Nanoseconds
    """When anything last came of it."""
    expires_ns: Nanoseconds
    """When it is deleted with its answer."""


class RequestsAnswer(Model):
    """Requests, newest first."""

    requests: list[RequestAnswer]
    """One row each."""
    truncated: bool
    """Whether more requests match."""
