"""Everything that an endpoint may use, in one value: the store, the clock, the limits and views of the other parts.

Neighbours on this floor and above aren't imported: `app.py` hands in functions that answer for them.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from telemetryx.api.auth import Gate
from telemetryx.api.budget import Budget
from telemetryx.api.caller import NOBODY, Caller
from telemetryx.api.delay import Delay
from telemetryx.api.live.hub import Hub
from telemetryx.api.metrics import Registry
from telemetryx.api.passwords import Passwords
from telemetryx.care.service import Care
from telemetryx.clock import Clock
from telemetryx.enrolment.service import Enrolment
from telemetryx.hot.interface import Fleetwide
from telemetryx.rules.service import RuleStatus
from telemetryx.store.accounts import Arrival
from telemetryx.store.interface import Store
from telemetryx.types import Committed, Latest


@dataclass(frozen=True, slots=True)
class PartState:
    """Whether one part of the collector works; `reason` says why not, or what is worth knowing while it does.

    `owner`: which process does this work, where several are on one store and one of them does it; "" while nobody does.
    """

    name: str
    ready: bool
    reason: str = ""
    owner: str | None = None


class Judge(Protocol):
    """What the API asks of the rules."""

    async def alerts(
        self,
        state: str = "open",
        *,
        agent: str | None = None,
        rule: str | None = None,
        before: tuple[int, int] | None = None,
        limit: int = 1_000,
    ) -> list[dict[str, Any]]:
        """Return alerts, newest start first, in the API's shape; those behind the one of this start and id."""
        ...

    async def rules(self) -> Sequence[RuleStatus]:
        """Return the loaded rules."""
        ...


class SignIn(Protocol):
    """What the API asks of a provider at which people sign in (oidc/provider.py). Raises SignInRefused."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def issuer(self) -> str:
        """What it calls itself."""
        ...

    @property
    def lifetime_ns(self) -> int:
        """How long who signed in there stays logged in here."""
        ...

    def state(self, secret: str) -> str:
        """Return what comes back with the browser that keeps this secret."""
        ...

    async def address(self, secret: str) -> str:
        """Return where the browser goes to sign in."""
        ...

    async def redeem(self, code: str, secret: str, issuer: str | None) -> Arrival:
        """Exchange a code for who somebody is."""
        ...

    async def leave(self) -> str | None:
        """Return where the browser goes to sign out there too."""
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
    export_timeout_s: float = 3_600.0

    @property
    def reading_s(self) -> float:
        """How long the store may read for a query: it ends before whoever asked is told that his time is over."""
        return 0.9 * self.query_timeout_s


async def nothing() -> None:
    """Do nothing."""


def ignore(committed: Committed) -> None:
    """Tell nobody."""
    del committed


async def nothing_newer(series_ids: Iterable[int]) -> Mapping[int, Latest]:
    """Know no values."""
    del series_ids
    return {}


async def no_models() -> Sequence[ModelView]:
    """Answer for a collector without a model registry."""
    return ()


@dataclass(frozen=True, slots=True)
class World:
    """What `server.create` is given. Each request has its own, with who asks in it."""

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
    newest: Callable[[Iterable[int]], Awaitable[Mapping[int, Latest]]] = nothing_newer
    """Newest values that any process has seen (hot view); the store's count where they are newer, or there are none."""
    fleetwide: Callable[[], Fleetwide] = lambda: Fleetwide(1, 0.0)
    """What all processes on the store say together."""
    announce: Callable[[Committed], None] = ignore
    """Tells the other parts of a commit that was made here."""
    enrolment: Enrolment | None = None
    """Agents that join with a token; None where there is no authority."""
    care: Care | None = None
    """Configurations and requests for agents; None where nobody sends them."""
    sign_in: SignIn | None = None
    """Where people sign in beside their accounts here; None where nothing is configured."""
    gather: Callable[[], Awaitable[None]] = nothing
    """Refreshes what the metrics read and only a query can tell; called before each exposition."""
    budget: Budget = field(default_factory=Budget)
    """What running queries hold in memory."""
    passwords: Passwords = field(default_factory=Passwords)
    caller: Caller = NOBODY
    """Who asks."""
