"""Watches the fleet for the live clients: one query for all of them, only while somebody looks, only changes are sent."""

import asyncio
from typing import Any, Final

import structlog

from telemetryx.api.live.hub import Hub
from telemetryx.api.rest import shapes
from telemetryx.clock import Clock
from telemetryx.errors import StoreError
from telemetryx.fleet import AgentState
from telemetryx.store.interface import AgentQuery, Store

log = structlog.get_logger(__name__)

PAGE: Final = 1_000
MAX_PAGES: Final = 10
#: Rows of one message; more changes than that follow in the next.
MAX_ROWS: Final = 500
PAUSE_S: Final = 1.0
#: Between looks at a large fleet.
LONG_PAUSE_S: Final = 5.0


class Fleet:
    """The agents as last seen, shared by the live clients."""

    def __init__(self, store: Store, hub: Hub, clock: Clock) -> None:
        """Know nothing yet."""
        self._store = store
        self._hub = hub
        self._clock = clock
        self._known: dict[str, dict[str, Any]] = {}
        self._counts: dict[str, int] = {}
        self._watchers = 0
        self._wake = asyncio.Event()

    def watch(self) -> dict[str, Any]:
        """Count one more client that looks; return what it begins with."""
        self._watchers += 1
        self._wake.set()
        rows = list(self._known.values())[:MAX_ROWS]
        return self._message(rows)

    def unwatch(self) -> None:
        """Count one less."""
        self._watchers -= 1

    async def run(self) -> None:
        """Look again and again while somebody watches; runs until it is cancelled."""
        while True:
            if self._watchers <= 0:
                self._known.clear()
                self._wake.clear()
                await self._wake.wait()
            try:
                await self._look()
            except StoreError as error:
                log.warning("fleet_unreadable", error=str(error))
            await asyncio.sleep(PAUSE_S if len(self._known) <= PAGE else LONG_PAUSE_S)

    async def _look(self) -> None:
        changed: list[dict[str, Any]] = []
        after: str | None = None
        for page_number in range(MAX_PAGES):
            page = await self._store.agents(AgentQuery(limit=PAGE, after=after))
            counts = {str(state): count for state, count in page.counts.items()}
            for row in page.agents:
                shaped = shapes.agent(row)
                if self._known.get(row.name) != shaped and len(changed) < MAX_ROWS:
                    self._known[row.name] = shaped
                    changed.append(shaped)
            if page_number == 0 and counts != self._counts:
                self._counts = counts
            if not page.more:
                break
            after = page.agents[-1].name
        if changed:
            self._hub.agents(self._message(changed))

    def _message(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        counts = {state.value: self._counts.get(state.value, 0) for state in AgentState}
        return {"type": "agents", "agents": rows, "counts": counts, "now_ns": self._clock.now_ns()}
