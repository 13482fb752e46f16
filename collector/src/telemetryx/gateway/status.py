"""What agents say about themselves, written together once a second: a fleet's status frames don't become as many commits."""

import asyncio
from collections.abc import Callable

import structlog

from telemetryx.errors import StoreError
from telemetryx.fleet import AgentStatus
from telemetryx.store.interface import Store

log = structlog.get_logger(__name__)


class StatusBoard:
    """The newest status of each session, until it is written."""

    def __init__(
        self, store: Store, told: Callable[[StoreError | None], None], interval_s: float = 1.0
    ) -> None:
        """Write to this store; `told` hears why that failed, or None that it didn't."""
        self._store, self._told = store, told
        self._interval_s = interval_s
        self._waiting: dict[int, AgentStatus | None] = {}

    def note(self, session: int, status: AgentStatus | None) -> None:
        """Keep a status (None: the session is alive) until the next flush; a newer one replaces it."""
        if status is not None or session not in self._waiting:
            self._waiting[session] = status

    async def flush(self) -> None:
        """Write what waits. What can't be written now is out of date by the time it could be: it is dropped."""
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        try:
            await self._store.sessions_seen(list(waiting.items()))
            self._told(None)
        except StoreError as error:
            self._told(error)
            log.warning("gateway.status_dropped", sessions=len(waiting), reason=str(error))

    async def run(self) -> None:
        """Flush until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.flush()
