"""Remote care of agents: configurations that are pushed to them, what came of these, and what is asked of an agent now.

Of the configurations that reach an agent the most specific counts (its own, then that with the most labels, then that of all), then the
newest. One with a canary reaches its first agents alone until it has proven itself with all of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Final

from telemetryx.errors import SelectorError, TelemetryXError
from telemetryx.store import selector
from telemetryx.types import Matcher

MAX_TOML: Final = 256 << 10
"""Bytes of a configuration, as link.proto says."""
MAX_REASON: Final = 4 << 10
"""Characters of what an agent says for a person."""
MAX_PART: Final = 64 << 10
"""Bytes of one part of an answer."""
MAX_ANSWER: Final = 16 << 20
"""Bytes of a whole answer."""
MAX_STANDING: Final = 1_000
"""Configurations that may stand at one time."""
MAX_WAITING: Final = 8
"""Requests of one agent that wait or are being answered."""
MAX_OPEN: Final = 1_000
"""Requests of all agents that do: each look of a process reads those that wait."""
MAX_KEPT: Final = 1 << 30
"""Bytes of answers that are kept at one time."""
KEPT_NS: Final = 86_400_000_000_000
"""A request and its answer are kept for so long."""


class CareRefused(TelemetryXError):  # noqa: N818 - named after what happened
    """Remote care that can't be given. `hint` says what to do."""

    def __init__(
        self, message: str, hint: str = "", *, missing: bool = False, conflict: bool = False
    ) -> None:
        """Keep the remedy beside the sentence; whether what was named isn't there, or whether what is there stands against it."""
        super().__init__(message)
        self.hint = hint
        self.missing = missing
        self.conflict = conflict


class Phase(StrEnum):
    """What came of the newest configuration at an agent."""

    UNSUPPORTED = "unsupported"
    """It takes none: it is older, or was told not to."""
    NONE = "none"
    WAITING = "waiting"
    """What is wanted hasn't come to it yet."""
    TRIAL = "trial"
    APPLIED = "applied"
    FAILED = "failed"
    DECLINED = "declined"


class Stage(StrEnum):
    """How far a configuration is rolled out."""

    CANARY = "canary"
    EVERYWHERE = "everywhere"
    STOPPED = "stopped"
    """It failed at one of its first agents: it stays with these."""


class RequestState(StrEnum):
    """Where a request stands."""

    WAITING = "waiting"
    ASKED = "asked"
    DONE = "done"
    FAILED = "failed"
    LAPSED = "lapsed"
    """Its agent wasn't connected in time."""


class Kind(StrEnum):
    """What can be asked of an agent."""

    LOG_LEVEL = "log_level"
    DIAGNOSTICS = "diagnostics"


@dataclass(frozen=True)
class Target:
    """Whom a configuration is for: one agent, those whose labels meet a selector, or with neither all."""

    agent: str = ""
    match: str = ""

    @cached_property
    def matchers(self) -> tuple[Matcher, ...]:
        """Read the selector."""
        return tuple(matchers(self.match)) if self.match else ()

    @property
    def rank(self) -> tuple[int, int]:
        """Say how specific it is: the larger goes first."""
        if self.agent:
            return 2, 0
        return (1, len({one.name for one in self.matchers})) if self.match else (0, 0)

    def meets(self, agent: str, labels: Mapping[str, str]) -> bool:
        """Tell whether it is for an agent. Its name is its own, whatever its labels say."""
        if self.agent:
            return self.agent == agent
        known = {**labels, "agent": agent, selector.AGENT: agent}
        return all(selector.test(one, known.get(one.name, "")) for one in self.matchers)

    def __str__(self) -> str:
        """Write it for a person."""
        if self.agent:
            return f"agent {self.agent}"
        return f"{{{self.match}}}" if self.match else "all agents"


def matchers(text: str) -> list[Matcher]:
    """Read `site="plant1", os=~"linux|bsd"`, with or without braces. Raises CareRefused."""
    inner = text.strip()
    example = 'write e.g. site="plant1", os="linux"'
    try:
        found = selector.parse(inner if inner.startswith("{") else f"{{{inner}}}")
    except SelectorError as error:
        raise CareRefused(f"the selector {text[:80]!r} can't be read: {error}", example) from error
    if not found or any(one.name == selector.NAME for one in found):
        raise CareRefused(f"{text[:80]!r} names no label of agents", example)
    return found


@dataclass(frozen=True)
class Config:
    """A configuration that was pushed, without its text."""

    version: int
    digest: bytes
    target: Target
    stage: Stage
    reason: str
    author: str
    note: str
    created_ns: int
    taken_back_ns: int | None = None
    size: int = 0
    """Bytes of its text."""
    canary: frozenset[str] = frozenset()
    """Who gets it first; nobody where it has no canary."""

    @property
    def state(self) -> str:
        """Say where it stands: its stage, or `taken back`."""
        return self.stage.value if self.taken_back_ns is None else "taken_back"

    def reaches(self, agent: str, labels: Mapping[str, str]) -> bool:
        """Tell whether an agent is meant now."""
        return (self.stage is Stage.EVERYWHERE or agent in self.canary) and self.target.meets(agent, labels)


@dataclass(frozen=True)
class Standing:
    """The configurations that stand, of which each agent has one or none."""

    configs: Sequence[Config] = ()

    @classmethod
    def of(cls, configs: Iterable[Config]) -> "Standing":
        """Order them: the first that reaches an agent is the one."""
        return cls(sorted(configs, key=lambda one: (one.target.rank, one.version), reverse=True))

    def wanted(self, agent: str, labels: Mapping[str, str]) -> Config | None:
        """Return what an agent should have."""
        return next((one for one in self.configs if one.reaches(agent, labels)), None)


@dataclass(frozen=True, slots=True)
class ConfigState:
    """What an agent said of its configuration. `at_ns` is its own clock's."""

    agent: str
    session: int
    version: int = 0
    digest: bytes = b""
    phase: Phase = Phase.NONE
    reason: str = ""
    in_force: int = 0
    at_ns: int = 0
    requests: bool = False
    """Whether it takes requests."""

    @property
    def takes(self) -> bool:
        """Whether it takes configurations."""
        return self.phase not in {Phase.UNSUPPORTED, Phase.DECLINED}

    def has(self, wanted: Config | None) -> bool:
        """Tell whether what it said is about what it should have; of one that failed only if it is the very same."""
        if wanted is None:
            return self.version == 0
        if self.digest != wanted.digest:
            return False
        return self.version == wanted.version or self.phase is not Phase.FAILED


@dataclass(frozen=True, slots=True)
class Known:
    """An agent, as remote care sees it."""

    agent: str
    labels: Mapping[str, str]
    connected: bool
    said: ConfigState | None
    """None: it wasn't heard since the collector asks for it."""

    def phase(self, wanted: Config | None) -> Phase:
        """Say how far it is with what it should have."""
        said = self.said
        if said is None:
            return Phase.NONE if wanted is None else Phase.WAITING
        if said.phase in {Phase.UNSUPPORTED, Phase.DECLINED} or said.has(wanted):
            return said.phase
        return Phase.WAITING


@dataclass(frozen=True, slots=True)
class Request:
    """Something asked of an agent. `mark` is how the agent names it."""

    id: int
    mark: bytes
    agent: str
    kind: Kind
    args: Mapping[str, object]
    author: str
    state: RequestState
    reason: str
    size: int
    created_ns: int
    until_ns: int
    changed_ns: int
    expires_ns: int = field(default=0)
