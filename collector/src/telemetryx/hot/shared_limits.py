"""Limits that all processes count together, one script call each. While Redis is away each process counts alone.

So a peer may get up to its rate at every process for as long as the server is away: work goes on, which matters more.
"""

from collections.abc import Callable
from typing import Any, Final

import redis.asyncio as client

from telemetryx.hot import scripts
from telemetryx.hot.link import Away, Link

#: As in gateway/admission.py, whose turns these are.
EARLY_S: Final = 0.25
GRACE_S: Final = 30.0
BURST_S: Final = 1.0
MAX_APPOINTMENTS: Final = 10_000


class _Shared:
    """One script on one server; `alone` answers when that can't."""

    def __init__(self, link: Link, script: str, args: list[int], alone: Callable[[str], float]) -> None:
        self._link = link
        self._script = script
        self._args = args
        self._alone = alone
        self._registered: Any = None

    async def _wait_s(self, keys: list[str], key: str) -> float:
        async def call(server: client.Redis) -> Any:  # noqa: ANN401 - whatever lies there
            if self._registered is None:
                self._registered = server.register_script(self._script)
            return await self._registered(keys=keys, args=self._args, client=server)

        try:
            return float(await self._link.ask(call)) / 1e6
        except Away:
            return self._alone(key)


class SharedBucket(_Shared):
    """A token bucket a key."""

    def __init__(
        self, link: Link, prefix: str, rate: float, burst: float, alone: Callable[[str], float]
    ) -> None:
        """`rate` tokens a second, up to `burst` saved up."""
        super().__init__(link, scripts.BUCKET, [max(1, round(1e6 / rate)), max(1, round(burst))], alone)
        self._prefix = prefix

    async def wait_s(self, key: str) -> float:
        """Take a token: 0.0, or the seconds until there is one."""
        return await self._wait_s([f"{self._prefix}:{key}"], key)


class SharedTurns(_Shared):
    """Turns that are handed out in order and kept for whom they were given to."""

    def __init__(self, link: Link, prefix: str, rate: float, alone: Callable[[str], float]) -> None:
        """`rate` turns a second."""
        gap_s = 1 / rate
        times = (gap_s, BURST_S, EARLY_S, GRACE_S, MAX_APPOINTMENTS * gap_s)
        super().__init__(link, scripts.TURN, [max(1, round(1e6 * seconds)) for seconds in times], alone)
        self._prefix = prefix

    async def wait_s(self, key: str) -> float:
        """Return 0.0 when it is the key's turn, or in how many seconds."""
        return await self._wait_s([self._prefix, f"{self._prefix}:{key}"], key)
