"""Everything that an endpoint may use, in one value: the store, the clock, the limits and views of the other parts.

Neighbours on this floor and above aren't imported: `app.py` hands in functions that answer for them.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from telemetryx.api.auth import Gate
from telemetryx.api.delay import Delay
from telemetryx.api.live.hub import Hub
from telemetryx.api.metrics import Registry
from telemetryx.clock import Clock
from telemetryx.rules.service import RuleStatus
from telemetryx.store.interface import Store
from telemetryx.types import Committed


@dataclass(frozen=True, slots=True)
class PartState:
    """Whether one part of the collector works; `reason` says why not."""

    name: str
    ready: bool
    reason: str = ""


class Judge(Protocol):
    """What the API asks of the rules."""

    async def alerts(
        self, state: str = "open", *, agent: str | None = None, rule: str | None = None, limit: int = 1_000
    ) -> list[dict[str, Any]]:
        """Return alerts, newest start first, in the API's shape."""
        ...

    async def rules(self) -> Sequence[RuleStatus]:
        """Return the loaded rules."""
        ...


@dataclass(frozen=True, slots=True)
class ModelView:
    """One version of a model as the API shows it."""

    name: str
    version: int
    state: str
    created_ns: int | None
    checksum: str
    card: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may cost."""

    max_body: int
    max_series: int
    max_points: int
    query_timeout_s: float
    max_live_clients: int


async def nothing() -> None:
    """Do nothing."""


def ignore(committed: Committed) -> None:
    """Tell nobody."""
    del committed


async def no_models() -> Sequence[ModelView]:
    """Answer for a collector without a model registry."""
    return ()


@dataclass(frozen=True, slots=True)
class World:
    """What `server.create` is given."""

    store: Store
    judge: Judge
    clock: Clock
    limits: Limits
    hub: Hub
    delay: Delay
    metrics: Registry
    gate: Gate
    started_ns: int
    readiness: Callable[[], Sequence[PartState]]
    models: Callable[[], Awaitable[Sequence[ModelView]]] = no_models
    announce: Callable[[Committed], None] = ignore
    """Tells the other parts of a commit that was made here."""
    gather: Callable[[], Awaitable[None]] = nothing
    """Refreshes what the metrics read and only a query can tell; called before each exposition."""
