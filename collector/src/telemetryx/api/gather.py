"""Numbers for /metrics and /api/v1/status that only a query can tell: the fleet, the ledger, the store, the alerts.

Asked at most every few seconds, however many scrape; between, the last answer counts.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import orjson

from telemetryx.api.alertpages import open_alerts
from telemetryx.api.metrics import MAX_AGENTS, Metric, Reading
from telemetryx.api.world import Judge
from telemetryx.clock import Clock
from telemetryx.fleet import Agent, AgentState, LossRow
from telemetryx.store.enrolment import Life
from telemetryx.store.interface import AgentQuery, Store, StoreUsage
from telemetryx.types import LOST, cause_name

FRESH_NS: Final = 1_000_000_000
PAGE: Final = 1_000
SHARE: Final = 10
"""An answer that took long counts so many times as long: of a large fleet asking takes a tenth of the time at most."""
_LOST_NAMES: Final = frozenset(cause_name(cause) for cause in LOST)


class Joined(Protocol):
    """Who joined with a token (enrolment/service.py)."""

    async def counts(self) -> dict[str, int]:
        """Count them by state."""
        ...

    async def shut_out(self) -> frozenset[str]:
        """Name those that never come in again."""
        ...

    async def certificates(self, limit: int) -> list[Life]:
        """Return from when until when certificates last of agents that may come in."""
        ...


class Gather:
    """Holds the last answers."""

    def __init__(
        self,
        store: Store,
        judge: Judge,
        clock: Clock,
        joined: Joined,
        configured: Callable[[], Awaitable[dict[str, int]]],
    ) -> None:
        """Know nothing yet. `configured` counts all agents by the phase of their configuration."""
        self._store = store
        self._judge = judge
        self._clock = clock
        self._joined = joined
        self._shut_out: frozenset[str] = frozenset()
        self._enrolled: dict[str, int] = {}
        self._lives: list[Life] = []
        self._ask_configured = configured
        self._configured: dict[str, int] = {}
        self._at = -FRESH_NS
        self._fresh_ns = FRESH_NS
        self._lock = asyncio.Lock()
        self._agents: list[Agent] = []
        self._counts: dict[str, int] = {}
        self._loss: list[LossRow] = []
        self._usage: StoreUsage | None = None
        self._alerts: Counter[str] = Counter()

    async def refresh(self) -> None:
        """Ask again when the last answer is old."""
        async with self._lock:
            began = self._clock.mono_ns()
            if began - self._at < self._fresh_ns:
                return
            agents: list[Agent] = []
            after: str | None = None
            while len(agents) < MAX_AGENTS:
                page = await self._store.agents(AgentQuery(limit=PAGE, after=after))
                self._counts = {str(state): count for state, count in page.counts.items()}
                agents += page.agents
                if not page.more:
                    break
                after = page.agents[-1].name
            self._agents = agents
            self._loss = await self._store.loss()
            self._usage = await self._store.usage()
            standing: Counter[str] = Counter()
            async for some in open_alerts(self._judge):
                standing.update(str(alert["state"]) for alert in some)
            self._enrolled = await self._joined.counts()
            self._shut_out = await self._joined.shut_out()
            self._lives = await self._joined.certificates(MAX_AGENTS)
            self._configured = await self._ask_configured()
            self._alerts = standing
            self._at = self._clock.mono_ns()
            self._fresh_ns = max(FRESH_NS, SHARE * (self._at - began))

    def readings(self) -> list[tuple[Metric, list[Reading]]]:
        """Show them as metrics."""
        found: list[tuple[Metric, list[Reading]]] = [
            (Metric.MEMORY, [((), float(_resident_bytes()))]),
            (
                Metric.AGENTS,
                [((state.value,), float(self._counts.get(state.value, 0))) for state in AgentState],
            ),
            (Metric.ENROLLED, [((state,), float(count)) for state, count in self._enrolled.items()]),
            (Metric.CONFIGURED, [((phase,), float(count)) for phase, count in self._configured.items()]),
            # One that was shut out is silent for good, and its clock stays as it was: nobody needs to be told of it.
            (
                Metric.AGENT_LAST_SEEN,
                [
                    ((row.name,), row.last_seen_ns / 1e9)
                    for row in self._agents
                    if row.name not in self._shut_out
                ],
            ),
            (Metric.AGENT_BACKLOG, [((row.name,), float(row.backlog_bytes)) for row in self._agents]),
            (
                Metric.AGENT_SKEW,
                [((row.name,), row.skew_ms / 1e3) for row in self._agents if row.name not in self._shut_out],
            ),
            (Metric.CERTIFICATE_ENDS, [((life.agent,), life.expires_ns / 1e9) for life in self._lives]),
            (Metric.CERTIFICATE_DUE, [((life.agent,), life.due_ns / 1e9) for life in self._lives]),
            (Metric.AGENT_SPANS, [reading for row in self._agents for reading in spans_of(row)]),
            (
                Metric.LOST,
                [
                    ((row.agent, row.cause), float(row.count))
                    for row in self._loss
                    if row.cause in _LOST_NAMES
                ],
            ),
            (
                Metric.ALERTS,
                [((state,), float(self._alerts[state])) for state in ("firing", "pending", "unknown")],
            ),
        ]
        if self._usage is not None:
            found += [
                (Metric.STORE_BYTES, [((), float(self._usage.bytes))]),
                (Metric.SERIES, [((), float(self._usage.series))]),
            ]
        return found


def spans_of(agent: Agent) -> list[Reading]:
    """Read what an agent that traces says of its spans; nearly none does, and what it says may be anything."""
    if '"tracing":{' not in agent.status_json:
        return []
    try:
        said = orjson.loads(agent.status_json)["tracing"]
        counts = [(outcome, said[outcome]) for outcome in ("exported", "dropped")]
    except (ValueError, KeyError, TypeError):
        return []
    return [((agent.name, outcome), float(count)) for outcome, count in counts if isinstance(count, int)]


def _resident_bytes() -> int:
    """Read this process's resident memory; 0 where the kernel has no /proc."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  a kernel file, read every scrape
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
