"""The wake-up of one process: what commits here wakes what reads here. For a store that nobody else writes to."""

import asyncio

from telemetryx.bell import Bell


class LocalWake:
    """`Wake` without a channel. Used on the event loop only."""

    def __init__(self) -> None:
        """Begin with nothing new."""
        self._bell = Bell()

    def committed(self, cursor: int) -> None:
        """Wake whoever waits, or the next who does."""
        del cursor
        self._bell.ring()

    async def changed(self, timeout_s: float) -> bool:
        """Wait for a commit."""
        return await self._bell.heard(timeout_s)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep nothing open."""
        await stop.wait()
